//! Messages: filter, gather and sum in one pass over the edges of a tile, a few registers of channels at a time.

use std::marker::PhantomData;

use pulp::{Arch, Simd, WithSimd};

use super::call::Call;
use super::map::{Map, Values};
use super::sweep::Sink;
use super::tile::Tile;
use super::weights::passes;
use crate::{Element, Lane};

/// How a filter, sender features and directions make a message.
pub(super) trait MessageStage: Sized + Send + Sync + 'static {
    /// Filters per feature.
    const PARTS: usize;

    /// One pass of `registers` registers of channels from `first` on over a tile.
    fn pass<S: Simd, T: Element>(simd: S, messages: &mut Messages<T>, first: usize, registers: usize);

    fn add_tile<T: Element>(messages: Messages<T>) {
        Arch::new().dispatch(Tagged::<T, Self> { messages, message: PhantomData });
    }
}

/// Channels of one pass.
#[derive(Clone, Copy)]
pub(super) struct Channels {
    /// The first one.
    pub first: usize,
    /// How many there are: fewer than its registers hold in the last pass only.
    pub width: usize,
}

impl Channels {
    /// These of row `row` of `matrix` [rows, features]. The row is looked up once for all of its registers, whose number the
    /// compiler knows wherever it knows the width.
    #[inline(always)]
    pub fn of<T>(self, matrix: &[T], features: usize, row: usize) -> &[T] {
        &matrix[row * features + self.first..][..self.width]
    }

    /// These of the three rows of atom `atom` of `matrix` [atoms, 3, features].
    #[inline(always)]
    pub fn of_three<T>(self, matrix: &[T], features: usize, atom: usize) -> [&[T]; 3] {
        let row = 3 * atom;
        [self.of(matrix, features, row), self.of(matrix, features, row + 1), self.of(matrix, features, row + 2)]
    }
}

/// A tile with its filter and where its messages go.
pub(super) struct Messages<'a, T> {
    pub call: &'a Call<'a, T>,
    pub tile: &'a Tile<T>,
    pub filter: Map<'a, T>,
    /// Registers of channels of one pass.
    pub registers: usize,
    pub sink: &'a mut dyn Sink<T>,
}

/// y_i = Σ_j x_j ⊙ W(d_ij).
pub(super) struct Cfconv;
/// Δq_i = Σ_j w_q ; Δμ_i = Σ_j (w_r ⊗ u_ij + w_μ ⊙ μ_j).
pub(super) struct Painn;

impl MessageStage for Cfconv {
    const PARTS: usize = 1;

    #[inline(always)]
    fn pass<S: Simd, T: Element>(simd: S, messages: &mut Messages<T>, first: usize, registers: usize) {
        match registers {
            4 => messages.pass::<S, Self, 2, 1, 4>(simd, first),
            2 => messages.pass::<S, Self, 4, 1, 2>(simd, first),
            _ => messages.pass::<S, Self, 8, 1, 1>(simd, first),
        }
    }
}

impl MessageStage for Painn {
    const PARTS: usize = 3;

    #[inline(always)]
    fn pass<S: Simd, T: Element>(simd: S, messages: &mut Messages<T>, first: usize, registers: usize) {
        match registers {
            2 => messages.pass::<S, Self, 2, 3, 2>(simd, first),
            _ => messages.pass::<S, Self, 4, 3, 1>(simd, first),
        }
    }
}

/// Messages of a known kind, for dispatch to a SIMD level.
struct Tagged<'a, T, M> {
    messages: Messages<'a, T>,
    message: PhantomData<M>,
}

impl<T: Element, M: MessageStage> WithSimd for Tagged<'_, T, M> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let messages = &mut self.messages;
        for (first, registers) in passes(messages.call.features, T::lanes::<S>(), messages.registers) {
            M::pass(simd, messages, first, registers);
        }
    }
}

/// Sums of one receiver: its node output and, for painn, the three axes of its vector output.
type Sums<S, T, const V: usize> = [[Lane<S, T>; V]; 4];

/// The message of one edge from `P` filters.
trait AddMessage<const P: usize> {
    /// Outputs it adds to.
    const SUMS: usize;
    fn add<S: Simd, T: Element, const V: usize>(
        simd: S,
        messages: &Messages<T>,
        e: usize,
        channels: Channels,
        filter: &[[Lane<S, T>; V]; P],
        sums: &mut Sums<S, T, V>,
    );
}

impl AddMessage<1> for Cfconv {
    const SUMS: usize = 1;

    #[inline(always)]
    fn add<S: Simd, T: Element, const V: usize>(
        simd: S,
        messages: &Messages<T>,
        e: usize,
        channels: Channels,
        [w]: &[[Lane<S, T>; V]; 1],
        [sum, ..]: &mut Sums<S, T, V>,
    ) {
        let Call { features, nodes, .. } = *messages.call;
        let x = channels.of(nodes, features, messages.tile.sender[e] as usize);
        unroll!(v in 0..V => { sum[v] = register(simd, x, v).mul_add(w[v], sum[v]); });
    }
}

impl AddMessage<3> for Painn {
    const SUMS: usize = 4;

    #[inline(always)]
    fn add<S: Simd, T: Element, const V: usize>(
        simd: S,
        messages: &Messages<T>,
        e: usize,
        channels: Channels,
        w: &[[Lane<S, T>; V]; 3],
        [q, mu @ ..]: &mut Sums<S, T, V>,
    ) {
        let Call { features, nodes, vectors, .. } = *messages.call;
        let j = messages.tile.sender[e] as usize;
        let (s, mu_j) = (channels.of_three(nodes, features, j), channels.of_three(vectors, features, j));
        let [x, y, z] = &messages.tile.u;
        let u = [Lane::splat(simd, x[e]), Lane::splat(simd, y[e]), Lane::splat(simd, z[e])];
        unroll!(v in 0..V => {
            q[v] = register(simd, s[0], v).mul_add(w[0][v], q[v]);
            let (w_r, w_mu) = (register(simd, s[1], v) * w[1][v], register(simd, s[2], v) * w[2][v]);
            unroll!(axis in 0..3 => {
                let mu_j = register(simd, mu_j[axis], v);
                mu[axis][v] = w_mu.mul_add(mu_j, w_r.mul_add(u[axis], mu[axis][v]));
            });
        });
    }
}

/// Edges between asking for a sender's features and using them: about the latency of memory.
pub(super) const AHEAD: usize = 8;

/// Asks for the cache lines of `width` elements, where the processor can be asked.
#[inline(always)]
pub(super) fn prefetch<T>(from: &[T], at: usize, width: usize) {
    #[cfg(target_arch = "x86_64")]
    if let Some(elements) = from.get(at..at + width) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        for line in elements.chunks(64 / size_of::<T>()) {
            // SAFETY: a hint that changes nothing but the caches, for an address within the slice.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast()) };
        }
        // What does not start at a cache line ends in one more.
        if let Some(last) = elements.last() {
            // SAFETY: as above.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(last).cast()) };
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (from, at, width);
}

/// Register `v` of some channels, of which there are fewer than a register holds in the last pass only.
#[inline(always)]
pub(super) fn register<S: Simd, T: Element>(simd: S, channels: &[T], v: usize) -> Lane<S, T> {
    let lanes = T::lanes::<S>();
    if channels.len() < lanes { Lane::load(simd, channels) } else { Lane::load_full(simd, &channels[v * lanes..]) }
}

impl<T: Element> Messages<'_, T> {
    /// One pass: `E` edges × `P` filters × `V` registers at a time, the sums of a receiver in registers.
    #[inline(always)]
    fn pass<S: Simd, M: AddMessage<P>, const E: usize, const P: usize, const V: usize>(
        &mut self,
        simd: S,
        first: usize,
    ) {
        let lanes = T::lanes::<S>();
        // A width that the compiler knows: no load needs a mask. Passes of several registers have no other.
        let full = Channels { first, width: V * lanes };
        let width = full.width.min(self.call.features - first);
        if const { V > 1 } || width == full.width {
            self.mapped::<S, M, E, P, V>(simd, full);
        } else if const { V == 1 } {
            self.mapped::<S, M, E, P, V>(simd, Channels { first, width });
        }
    }

    /// One pass, by the kind of the filter's last map.
    #[inline(always)]
    fn mapped<S: Simd, M: AddMessage<P>, const E: usize, const P: usize, const V: usize>(
        &mut self,
        simd: S,
        channels: Channels,
    ) {
        match (self.filter.bias, self.filter.depth) {
            (Some(_), _) => self.edges::<S, M, 0, E, P, V>(simd, channels),
            // No row serves two edges, so nothing is gained by more edges at a time.
            (None, 4) => self.edges::<S, M, 4, 1, P, V>(simd, channels),
            (None, 6) => self.edges::<S, M, 6, 1, P, V>(simd, channels),
            (None, depth) => unreachable!("a table of {depth} rows per segment passes no check of inputs"),
        }
    }

    /// One pass, with `D` rows of a table for each edge or, where `D` is 0, rows that all edges share.
    #[inline(always)]
    fn edges<S: Simd, M: AddMessage<P>, const D: usize, const E: usize, const P: usize, const V: usize>(
        &mut self,
        simd: S,
        channels: Channels,
    ) {
        let zero = [[Lane::splat(simd, T::default()); V]; 4];
        let piece = self.filter.piece(self.tile, channels.first, V * T::lanes::<S>());
        let receiver = &self.tile.receiver[..self.tile.padded()];
        let (mut sums, mut row) = (zero, receiver[0]);
        for group in (0..self.tile.len).step_by(E) {
            let filter: Values<S, T, E, P, V> =
                if const { D == 0 } { piece.shared(simd, group) } else { piece.own::<S, D, E, P, V>(simd, group) };
            if let Some(ahead) = self.tile.sender.get(group + AHEAD..group + AHEAD + E) {
                unroll!(i in 0..E => { self.prefetch::<P>(ahead[i] as usize, channels); });
            }
            let receiver = &receiver[group..group + E];
            unroll!(i in 0..E => {
                if receiver[i] != row {
                    self.flush::<S, M, P, V>(row, channels, sums);
                    (sums, row) = (zero, receiver[i]);
                }
                M::add(simd, self, group + i, channels, &filter[i], &mut sums);
            });
        }
        self.flush::<S, M, P, V>(row, channels, sums);
    }

    /// Asks for the features of a sender before they are needed.
    #[inline(always)]
    fn prefetch<const P: usize>(&self, sender: usize, channels: Channels) {
        let features = self.call.features;
        unroll!(part in 0..P => {
            let at = (P * sender + part) * features + channels.first;
            prefetch(self.call.nodes, at, channels.width);
            if const { P == 3 } {
                prefetch(self.call.vectors, at, channels.width);
            }
        });
    }

    /// Adds the sums of a receiver to the outputs.
    #[inline(always)]
    fn flush<S: Simd, M: AddMessage<P>, const P: usize, const V: usize>(
        &mut self,
        row: u32,
        channels: Channels,
        sums: Sums<S, T, V>,
    ) {
        let mut values = [[sums[0][0].v; V]; 4];
        unroll!(at in 0..4 => { unroll!(v in 0..V => { values[at][v] = sums[at][v].v; }); });
        for (at, values) in values.iter().take(M::SUMS).enumerate() {
            let axis = at.checked_sub(1);
            let first = axis.unwrap_or(0) * self.call.features + channels.first;
            self.sink.add(row as usize, axis.is_some(), first, &bytemuck::cast_slice(values)[..channels.width]);
        }
    }
}
