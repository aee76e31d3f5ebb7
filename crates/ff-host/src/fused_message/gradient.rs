//! Gradients of messages: filter, slope, gather and sums in one pass over the edges of a tile, a register of channels at a
//! time.

use std::marker::PhantomData;

use pulp::{Arch, Simd, WithSimd};

use super::call::{Backward, Call};
use super::map::{Map, Values};
use super::message::{AHEAD, Cfconv, Channels, MessageStage, Painn, prefetch, register};
use super::outer::{Accumulator, Inputs, Outer};
use super::sweep::Sink;
use super::tile::Tile;
use super::weights::passes;
use crate::{Element, Lane, has_many_registers};

/// How gradients in the outputs of a message become those in what it is made of.
pub(super) trait GradientStage: MessageStage {
    /// What the channels of an edge sum: the gradient in d, and in the three axes of u where the message has u.
    const EDGE_SUMS: usize;

    fn channels<S: Simd, T: Element>(simd: S, pass: &mut Pass<T>, first: usize, registers: usize);

    fn gradients_of_tile<T: Element>(pass: Pass<T>) {
        Arch::new().dispatch(Tagged::<T, Self> { pass, message: PhantomData });
    }
}

/// A tile with its filter and where its gradients go.
pub(super) struct Pass<'a, T: Element> {
    pub call: &'a Call<'a, T>,
    pub backward: &'a Backward<'a, T>,
    pub tile: &'a Tile<T>,
    pub filter: Map<'a, T>,
    /// Registers of channels of one pass.
    pub registers: usize,
    /// [capacity, EDGE_SUMS, lanes]; the first pass writes what it finds there.
    pub edge_sums: &'a mut [T],
    /// Gradients in the outputs of the filter's last map, [capacity, parts · channels of a pass]; only where weights' are wanted.
    pub outer: &'a mut [T],
    /// Gradients in the hidden layer, [capacity, H], where it has any, with the columns of the last map.
    pub hidden: &'a mut [T],
    pub columns: &'a [T],
    /// Gradients in the last map's weights.
    pub sums: Option<&'a mut Accumulator<T>>,
    pub outputs: &'a mut dyn Sink<T>,
}

struct Tagged<'a, T: Element, M> {
    pass: Pass<'a, T>,
    message: PhantomData<M>,
}

impl<T: Element, M: GradientStage> WithSimd for Tagged<'_, T, M> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let pass = &mut self.pass;
        for (first, registers) in passes(pass.call.features, T::lanes::<S>(), pass.registers) {
            M::channels(simd, pass, first, registers);
            pass.weights(simd, M::PARTS, first, registers * T::lanes::<S>());
        }
    }
}

impl GradientStage for Cfconv {
    const EDGE_SUMS: usize = 1;

    #[inline(always)]
    fn channels<S: Simd, T: Element>(simd: S, pass: &mut Pass<T>, first: usize, registers: usize) {
        match registers {
            2 if has_many_registers::<S>() => pass.channels::<S, Self, 4, 1, 2, 1>(simd, first),
            2 => pass.channels::<S, Self, 2, 1, 2, 1>(simd, first),
            _ => pass.channels::<S, Self, 4, 1, 1, 1>(simd, first),
        }
    }
}

impl GradientStage for Painn {
    const EDGE_SUMS: usize = 4;

    #[inline(always)]
    fn channels<S: Simd, T: Element>(simd: S, pass: &mut Pass<T>, first: usize, registers: usize) {
        match registers {
            2 => pass.channels::<S, Self, 1, 3, 2, 4>(simd, first),
            _ => pass.channels::<S, Self, 2, 3, 1, 4>(simd, first),
        }
    }
}

/// Sums of one sender: the parts of its features and the three axes of its vectors.
type Sums<S, T, const V: usize> = [[Lane<S, T>; V]; 6];

/// A filter and its slope in d.
struct Filter<'a, S: Simd, T: Element, const P: usize, const V: usize> {
    value: &'a [[Lane<S, T>; V]; P],
    slope: &'a [[Lane<S, T>; V]; P],
}

/// Gradients of one edge's message, of whose channels `Q` sums are taken.
trait AddGradients<const P: usize, const Q: usize> {
    /// Sums that go to features, and to vectors.
    const SUMS: [usize; 2];

    /// Adds to the sums of the sender and to `edge`; returns the gradients in the filter.
    fn add<S: Simd, T: Element, const V: usize>(
        simd: S,
        pass: &Pass<T>,
        e: usize,
        channels: Channels,
        filter: Filter<S, T, P, V>,
        sums: &mut Sums<S, T, V>,
        edge: &mut [Lane<S, T>; Q],
    ) -> [[Lane<S, T>; V]; P];
}

impl AddGradients<1, 1> for Cfconv {
    const SUMS: [usize; 2] = [1, 0];

    #[inline(always)]
    fn add<S: Simd, T: Element, const V: usize>(
        simd: S,
        pass: &Pass<T>,
        e: usize,
        channels: Channels,
        Filter { value: [w], slope: [slope] }: Filter<S, T, 1, V>,
        [sum, ..]: &mut Sums<S, T, V>,
        [by_d]: &mut [Lane<S, T>; 1],
    ) -> [[Lane<S, T>; V]; 1] {
        let features = pass.call.features;
        let g = channels.of(pass.backward.nodes, features, pass.tile.sender[e] as usize);
        let x = channels.of(pass.call.nodes, features, pass.tile.receiver[e] as usize);
        let mut by_w = [*w];
        unroll!(v in 0..V => {
            let g = register(simd, g, v);
            sum[v] = g.mul_add(w[v], sum[v]);
            by_w[0][v] = g * register(simd, x, v);
            *by_d = by_w[0][v].mul_add(slope[v], *by_d);
        });
        by_w
    }
}

impl AddGradients<3, 4> for Painn {
    const SUMS: [usize; 2] = [3, 3];

    #[inline(always)]
    fn add<S: Simd, T: Element, const V: usize>(
        simd: S,
        pass: &Pass<T>,
        e: usize,
        channels: Channels,
        Filter { value: w, slope }: Filter<S, T, 3, V>,
        sums: &mut Sums<S, T, V>,
        edge: &mut [Lane<S, T>; 4],
    ) -> [[Lane<S, T>; V]; 3] {
        let features = pass.call.features;
        let (i, j) = (pass.tile.sender[e] as usize, pass.tile.receiver[e] as usize);
        let g_q = channels.of(pass.backward.nodes, features, i);
        let g_mu = channels.of_three(pass.backward.vectors, features, i);
        let s = channels.of_three(pass.call.nodes, features, j);
        let mu = channels.of_three(pass.call.vectors, features, j);
        let [x, y, z] = &pass.tile.u;
        let u = [Lane::splat(simd, x[e]), Lane::splat(simd, y[e]), Lane::splat(simd, z[e])];
        let mut by_w = *w;
        unroll!(v in 0..V => {
            let part = |from: [&[T]; 3], p: usize| register(simd, from[p], v);
            let g = [part(g_mu, 0), part(g_mu, 1), part(g_mu, 2)];
            let g_q = register(simd, g_q, v);
            // The gradient's part along u, and along the sender's vectors.
            let radial = g[0].mul_add(u[0], g[1].mul_add(u[1], g[2] * u[2]));
            let inner = g[0].mul_add(part(mu, 0), g[1].mul_add(part(mu, 1), g[2] * part(mu, 2)));
            let (s_r, s_mu) = (part(s, 1), part(s, 2));
            sums[0][v] = g_q.mul_add(w[0][v], sums[0][v]);
            sums[1][v] = radial.mul_add(w[1][v], sums[1][v]);
            sums[2][v] = inner.mul_add(w[2][v], sums[2][v]);
            by_w[0][v] = g_q * part(s, 0);
            by_w[1][v] = s_r * radial;
            by_w[2][v] = s_mu * inner;
            let (w_r, w_mu) = (s_r * w[1][v], s_mu * w[2][v]);
            unroll!(p in 0..3 => { edge[0] = by_w[p][v].mul_add(slope[p][v], edge[0]); });
            unroll!(axis in 0..3 => {
                sums[3 + axis][v] = w_mu.mul_add(g[axis], sums[3 + axis][v]);
                edge[1 + axis] = w_r.mul_add(g[axis], edge[1 + axis]);
            });
        });
        by_w
    }
}

impl<T: Element> Pass<'_, T> {
    /// One pass over the edges of the tile: `E` edges × `P` filters × `V` registers at a time.
    #[inline(always)]
    fn channels<S: Simd, M: AddGradients<P, Q>, const E: usize, const P: usize, const V: usize, const Q: usize>(
        &mut self,
        simd: S,
        first: usize,
    ) {
        let lanes = T::lanes::<S>();
        // As in the forward: passes of several registers are as wide as these.
        let full = Channels { first, width: V * lanes };
        let width = full.width.min(self.call.features - first);
        if const { V > 1 } || width == full.width {
            self.mapped::<S, M, E, P, V, Q>(simd, full);
        } else if const { V == 1 } {
            self.mapped::<S, M, E, P, V, Q>(simd, Channels { first, width });
        }
    }

    /// One pass, by the kind of the filter's last map.
    #[inline(always)]
    fn mapped<S: Simd, M: AddGradients<P, Q>, const E: usize, const P: usize, const V: usize, const Q: usize>(
        &mut self,
        simd: S,
        channels: Channels,
    ) {
        match (self.filter.bias, self.filter.depth) {
            (Some(_), _) => self.edges::<S, M, 0, E, P, V, Q>(simd, channels),
            (None, 4) => self.edges::<S, M, 4, 1, P, V, Q>(simd, channels),
            (None, 6) => self.edges::<S, M, 6, 1, P, V, Q>(simd, channels),
            (None, depth) => unreachable!("a table of {depth} rows per segment passes no check of inputs"),
        }
    }

    #[inline(always)]
    fn edges<
        S: Simd,
        M: AddGradients<P, Q>,
        const D: usize,
        const E: usize,
        const P: usize,
        const V: usize,
        const Q: usize,
    >(
        &mut self,
        simd: S,
        channels: Channels,
    ) {
        let lanes = T::lanes::<S>();
        let zero = [[Lane::splat(simd, T::default()); V]; 6];
        let piece = self.filter.piece(self.tile, channels.first, V * lanes);
        let own = &self.tile.receiver[..self.tile.padded()];
        let (mut sums, mut row) = (zero, own[0]);
        for group in (0..self.tile.len).step_by(E) {
            let [values, slopes]: [Values<S, T, E, P, V>; 2] = if const { D == 0 } {
                piece.shared_slopes(simd, group)
            } else {
                piece.own_slopes::<S, D, E, P, V>(simd, group)
            };
            if let Some(ahead) = self.tile.sender.get(group + AHEAD..group + AHEAD + E) {
                unroll!(i in 0..E => { self.prefetch::<P>(ahead[i] as usize, channels); });
            }
            let own = &own[group..group + E];
            unroll!(i in 0..E => {
                if own[i] != row {
                    self.flush::<S, M, P, V, Q>(row, channels, sums);
                    (sums, row) = (zero, own[i]);
                }
                let e = group + i;
                let at = Q * lanes * e;
                let mut edge = [Lane::splat(simd, T::default()); Q];
                if channels.first > 0 {
                    let sums = &self.edge_sums[at..][..Q * lanes];
                    unroll!(q in 0..Q => { edge[q] = Lane::load_full(simd, &sums[q * lanes..]); });
                }
                let filter = Filter { value: &values[i], slope: &slopes[i] };
                let by_w = M::add(simd, self, e, channels, filter, &mut sums, &mut edge);
                let edge_sums = &mut self.edge_sums[at..][..Q * lanes];
                unroll!(q in 0..Q => { edge[q].store_full(&mut edge_sums[q * lanes..]); });
                if !self.outer.is_empty() {
                    // A table has no weights, and no f_c of its own.
                    let f_c = Lane::splat(simd, self.tile.f_c[e]);
                    let out = &mut self.outer[e * P * V * lanes..][..P * V * lanes];
                    unroll!(p in 0..P => {
                        unroll!(v in 0..V => { (f_c * by_w[p][v]).store_full(&mut out[(p * V + v) * lanes..]); });
                    });
                }
            });
        }
        self.flush::<S, M, P, V, Q>(row, channels, sums);
    }

    /// Gradients in the weights and inputs of the filter's last map, from those in its outputs in one pass.
    #[inline(always)]
    fn weights<S: Simd>(&mut self, simd: S, parts: usize, first: usize, channels: usize) {
        let Some(sums) = &mut self.sums else { return };
        let (width, edges) = (parts * channels, self.tile.len.next_multiple_of(4));
        // What follows the last edge was written by an earlier tile.
        self.outer[self.tile.len * width..edges * width].fill(T::default());
        let coefficients = if self.tile.hidden.is_empty() { &self.tile.coefficients } else { &self.tile.hidden };
        let (stride, values, edges) = (self.tile.stride, &*self.outer, edges);
        let sums = sums.piece(parts * first, width);
        Outer::<_, true> { coefficients, stride, edges, values, width, sums }.with_simd(simd);
        if !self.hidden.is_empty() {
            let rows = self.filter.depth;
            let columns = &self.columns[rows * parts * first..];
            Inputs { values, width, edges, columns, gradients: self.hidden, rows }.with_simd(simd);
        }
    }

    /// Asks for the gradients of a receiver before they are needed.
    #[inline(always)]
    fn prefetch<const P: usize>(&self, receiver: usize, channels: Channels) {
        let features = self.call.features;
        prefetch(self.backward.nodes, receiver * features + channels.first, channels.width);
        if const { P == 3 } {
            unroll!(axis in 0..3 => {
                prefetch(self.backward.vectors, (3 * receiver + axis) * features + channels.first, channels.width);
            });
        }
    }

    /// Adds the sums of a sender to the outputs.
    #[inline(always)]
    fn flush<S: Simd, M: AddGradients<P, Q>, const P: usize, const V: usize, const Q: usize>(
        &mut self,
        row: u32,
        channels: Channels,
        sums: Sums<S, T, V>,
    ) {
        let mut values = [[sums[0][0].v; V]; 6];
        unroll!(at in 0..6 => { unroll!(v in 0..V => { values[at][v] = sums[at][v].v; }); });
        let [parts, axes] = M::SUMS;
        for (at, values) in values.iter().take(parts + axes).enumerate() {
            let (to_vectors, part) = (at >= parts, if at >= parts { at - parts } else { at });
            let values = &bytemuck::cast_slice(values)[..channels.width];
            self.outputs.add(row as usize, to_vectors, part * self.call.features + channels.first, values);
        }
    }
}
