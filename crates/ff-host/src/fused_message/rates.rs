//! How fast messages, and the gradients of messages, change in a direction: one pass over the edges of a tile, a register
//! of channels at a time.

use std::marker::PhantomData;

use pulp::{Arch, Simd, WithSimd};

use super::call::{Backward, Call, Direction};
use super::map::{Map, Rates};
use super::message::{Cfconv, Channels, MessageStage, Painn, register};
use super::outer::{Accumulator, Inputs, Outer};
use super::sweep::Sink;
use super::tile::Tile;
use super::weights::passes;
use crate::{Element, Lane, has_many_registers};

/// What the channels of an edge sum: the gradients in d and in the three axes of u, then the rates of the four.
pub(super) const EDGE_SUMS: usize = 8;

/// Which end of its edges a pass sums at.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum End {
    /// Rates of messages.
    Receiver,
    /// Rates of the gradients of messages.
    Sender,
}

/// How fast a message and its gradients change.
pub(super) trait RateStage: MessageStage {
    fn channels<S: Simd, T: Element>(simd: S, pass: &mut Pass<T>, first: usize);

    fn rates_of_tile<T: Element>(pass: Pass<T>) {
        Arch::new().dispatch(Tagged::<T, Self> { pass, message: PhantomData });
    }
}

/// A tile with its filter, its direction and where its rates go.
pub(super) struct Pass<'a, T: Element> {
    pub call: &'a Call<'a, T>,
    pub backward: &'a Backward<'a, T>,
    pub direction: &'a Direction<'a, T>,
    pub end: End,
    pub tile: &'a Tile<T>,
    pub filter: Map<'a, T>,
    /// The direction in the filter's weights, if any.
    pub varied: Option<Map<'a, T>>,
    /// [capacity, EDGE_SUMS, lanes].
    pub edge_sums: &'a mut [T],
    /// Gradients in the outputs of the filter's last map and their rates, [capacity, parts · lanes] each; only where
    /// weights' are wanted.
    pub outer: &'a mut [Vec<T>; 2],
    /// The same in the hidden layer, [capacity, H] each, where it has any.
    pub hidden: &'a mut [Vec<T>; 2],
    /// The columns of the last map, and of the direction in it.
    pub columns: &'a [Vec<T>; 2],
    /// Rates of the gradients in the last map's weights.
    pub sums: Option<&'a mut Accumulator<T>>,
    pub outputs: &'a mut dyn Sink<T>,
}

struct Tagged<'a, T: Element, M> {
    pass: Pass<'a, T>,
    message: PhantomData<M>,
}

impl<T: Element, M: RateStage> WithSimd for Tagged<'_, T, M> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let pass = &mut self.pass;
        for (first, _) in passes(pass.call.features, T::lanes::<S>(), 1) {
            M::channels(simd, pass, first);
            pass.weights(simd, M::PARTS, first, T::lanes::<S>());
        }
    }
}

impl RateStage for Cfconv {
    #[inline(always)]
    fn channels<S: Simd, T: Element>(simd: S, pass: &mut Pass<T>, first: usize) {
        if has_many_registers::<S>() {
            pass.channels::<S, Self, 4, 1>(simd, first);
        } else {
            pass.channels::<S, Self, 2, 1>(simd, first);
        }
    }
}

impl RateStage for Painn {
    #[inline(always)]
    fn channels<S: Simd, T: Element>(simd: S, pass: &mut Pass<T>, first: usize) {
        if has_many_registers::<S>() {
            pass.channels::<S, Self, 2, 3>(simd, first);
        } else {
            pass.channels::<S, Self, 1, 3>(simd, first);
        }
    }
}

/// Sums of one row: of a receiver, its node output and the axes of its vectors; of a sender, the parts of its features and
/// the axes of its vectors.
type Sums<S, T> = [Lane<S, T>; 6];

/// Of one edge: a filter, its slope in d, and the rates of both.
struct FilterRates<S: Simd, T: Element, const P: usize> {
    value: [Lane<S, T>; P],
    slope: [Lane<S, T>; P],
    rate: [Lane<S, T>; P],
    slope_rate: [Lane<S, T>; P],
}

/// Rates of one edge's message and of its gradients.
trait AddRates<const P: usize> {
    /// Sums that go to features and to vectors: of a receiver, of a sender.
    const SUMS: [[usize; 2]; 2];

    /// Adds the rate of the message to the sums of its receiver.
    fn message<S: Simd, T: Element>(
        simd: S,
        pass: &Pass<T>,
        e: usize,
        c: Channels,
        filter: &FilterRates<S, T, P>,
        sums: &mut Sums<S, T>,
    );

    /// Adds the rates of the gradients in the sender's features to its sums and those in the edge to `edge`; returns the
    /// gradients in the filter, and their rates.
    fn gradients<S: Simd, T: Element>(
        simd: S,
        pass: &Pass<T>,
        e: usize,
        c: Channels,
        filter: &FilterRates<S, T, P>,
        sums: &mut Sums<S, T>,
        edge: &mut [Lane<S, T>; EDGE_SUMS],
    ) -> [[Lane<S, T>; P]; 2];
}

/// The channels of row `row` of `from` [rows, F].
#[inline(always)]
fn row<S: Simd, T: Element>(simd: S, from: &[T], features: usize, row: usize, c: Channels) -> Lane<S, T> {
    register(simd, c.of(from, features, row), 0)
}

/// The channels of the three rows of atom `atom` of `from` [atoms, 3, F].
#[inline(always)]
fn three<S: Simd, T: Element>(simd: S, from: &[T], f: usize, atom: usize, c: Channels) -> [Lane<S, T>; 3] {
    [row(simd, from, f, 3 * atom, c), row(simd, from, f, 3 * atom + 1, c), row(simd, from, f, 3 * atom + 2, c)]
}

#[inline(always)]
fn axes<S: Simd, T: Element>(simd: S, of: &[Vec<T>; 3], e: usize) -> [Lane<S, T>; 3] {
    [Lane::splat(simd, of[0][e]), Lane::splat(simd, of[1][e]), Lane::splat(simd, of[2][e])]
}

#[inline(always)]
fn dot<S: Simd, T: Element>(a: &[Lane<S, T>; 3], b: &[Lane<S, T>; 3]) -> Lane<S, T> {
    a[0].mul_add(b[0], a[1].mul_add(b[1], a[2] * b[2]))
}

impl AddRates<1> for Cfconv {
    const SUMS: [[usize; 2]; 2] = [[1, 0], [1, 0]];

    #[inline(always)]
    fn message<S: Simd, T: Element>(
        simd: S,
        pass: &Pass<T>,
        e: usize,
        c: Channels,
        FilterRates { value: [w], rate: [w_rate], .. }: &FilterRates<S, T, 1>,
        [sum, ..]: &mut Sums<S, T>,
    ) {
        let (f, j) = (pass.call.features, pass.tile.sender[e] as usize);
        let (x, x_rate) = (row(simd, pass.call.nodes, f, j, c), row(simd, pass.direction.nodes, f, j, c));
        *sum = x_rate.mul_add(*w, x.mul_add(*w_rate, *sum));
    }

    #[inline(always)]
    fn gradients<S: Simd, T: Element>(
        simd: S,
        pass: &Pass<T>,
        e: usize,
        c: Channels,
        FilterRates { slope: [slope], rate: [w_rate], slope_rate: [slope_rate], .. }: &FilterRates<S, T, 1>,
        [sum, ..]: &mut Sums<S, T>,
        [by_d, _, _, _, by_d_rate, ..]: &mut [Lane<S, T>; EDGE_SUMS],
    ) -> [[Lane<S, T>; 1]; 2] {
        let (f, i, j) = (pass.call.features, pass.tile.sender[e] as usize, pass.tile.receiver[e] as usize);
        let g = row(simd, pass.backward.nodes, f, i, c);
        let (x, x_rate) = (row(simd, pass.call.nodes, f, j, c), row(simd, pass.direction.nodes, f, j, c));
        *sum = g.mul_add(*w_rate, *sum);
        let (by_w, by_w_rate) = (g * x, g * x_rate);
        *by_d = by_w.mul_add(*slope, *by_d);
        *by_d_rate = by_w_rate.mul_add(*slope, by_w.mul_add(*slope_rate, *by_d_rate));
        [[by_w], [by_w_rate]]
    }
}

impl AddRates<3> for Painn {
    const SUMS: [[usize; 2]; 2] = [[1, 3], [3, 3]];

    #[inline(always)]
    fn message<S: Simd, T: Element>(
        simd: S,
        pass: &Pass<T>,
        e: usize,
        c: Channels,
        FilterRates { value: w, rate: w_rate, .. }: &FilterRates<S, T, 3>,
        [q, mu_sums @ ..]: &mut Sums<S, T>,
    ) {
        let (f, j) = (pass.call.features, pass.tile.sender[e] as usize);
        let (s, s_rate) = (three(simd, pass.call.nodes, f, j, c), three(simd, pass.direction.nodes, f, j, c));
        let (mu, mu_rate) = (three(simd, pass.call.vectors, f, j, c), three(simd, pass.direction.vectors, f, j, c));
        let (u, u_rate) = (axes(simd, &pass.tile.u, e), axes(simd, &pass.tile.u_rate, e));
        *q = s_rate[0].mul_add(w[0], s[0].mul_add(w_rate[0], *q));
        let (w_r, w_r_rate) = (s[1] * w[1], s_rate[1].mul_add(w[1], s[1] * w_rate[1]));
        let (w_mu, w_mu_rate) = (s[2] * w[2], s_rate[2].mul_add(w[2], s[2] * w_rate[2]));
        unroll!(x in 0..3 => {
            let by_u = w_r_rate.mul_add(u[x], w_r.mul_add(u_rate[x], mu_sums[x]));
            mu_sums[x] = w_mu_rate.mul_add(mu[x], w_mu.mul_add(mu_rate[x], by_u));
        });
    }

    #[inline(always)]
    fn gradients<S: Simd, T: Element>(
        simd: S,
        pass: &Pass<T>,
        e: usize,
        c: Channels,
        FilterRates { value: w, slope, rate: w_rate, slope_rate }: &FilterRates<S, T, 3>,
        sums: &mut Sums<S, T>,
        edge: &mut [Lane<S, T>; EDGE_SUMS],
    ) -> [[Lane<S, T>; 3]; 2] {
        let (f, i, j) = (pass.call.features, pass.tile.sender[e] as usize, pass.tile.receiver[e] as usize);
        let g_q = row(simd, pass.backward.nodes, f, i, c);
        let g = three(simd, pass.backward.vectors, f, i, c);
        let (s, s_rate) = (three(simd, pass.call.nodes, f, j, c), three(simd, pass.direction.nodes, f, j, c));
        let (mu, mu_rate) = (three(simd, pass.call.vectors, f, j, c), three(simd, pass.direction.vectors, f, j, c));
        let (u, u_rate) = (axes(simd, &pass.tile.u, e), axes(simd, &pass.tile.u_rate, e));
        // The gradient's part along u and along the sender's vectors, as in the first backward, and their rates.
        let (radial, radial_rate) = (dot(&g, &u), dot(&g, &u_rate));
        let (inner, inner_rate) = (dot(&g, &mu), dot(&g, &mu_rate));
        sums[0] = g_q.mul_add(w_rate[0], sums[0]);
        sums[1] = radial_rate.mul_add(w[1], radial.mul_add(w_rate[1], sums[1]));
        sums[2] = inner_rate.mul_add(w[2], inner.mul_add(w_rate[2], sums[2]));
        let by_w = [g_q * s[0], s[1] * radial, s[2] * inner];
        let by_w_rate = [
            g_q * s_rate[0],
            s_rate[1].mul_add(radial, s[1] * radial_rate),
            s_rate[2].mul_add(inner, s[2] * inner_rate),
        ];
        let (w_r, w_r_rate) = (s[1] * w[1], s_rate[1].mul_add(w[1], s[1] * w_rate[1]));
        let w_mu_rate = s_rate[2].mul_add(w[2], s[2] * w_rate[2]);
        unroll!(p in 0..3 => {
            edge[0] = by_w[p].mul_add(slope[p], edge[0]);
            edge[4] = by_w_rate[p].mul_add(slope[p], by_w[p].mul_add(slope_rate[p], edge[4]));
        });
        unroll!(x in 0..3 => {
            sums[3 + x] = w_mu_rate.mul_add(g[x], sums[3 + x]);
            edge[1 + x] = w_r.mul_add(g[x], edge[1 + x]);
            edge[5 + x] = w_r_rate.mul_add(g[x], edge[5 + x]);
        });
        [by_w, by_w_rate]
    }
}

impl<T: Element> Pass<'_, T> {
    /// One pass over the edges of the tile: `E` edges × `P` filters at a time.
    #[inline(always)]
    fn channels<S: Simd, M: AddRates<P>, const E: usize, const P: usize>(&mut self, simd: S, first: usize) {
        let c = Channels { first, width: T::lanes::<S>().min(self.call.features - first) };
        match (self.filter.bias, self.filter.depth) {
            (Some(_), _) => self.edges::<S, M, 0, E, P>(simd, c),
            (None, 4) => self.edges::<S, M, 4, 1, P>(simd, c),
            (None, 6) => self.edges::<S, M, 6, 1, P>(simd, c),
            (None, depth) => unreachable!("a table of {depth} rows per segment passes no check of inputs"),
        }
    }

    #[inline(always)]
    fn edges<S: Simd, M: AddRates<P>, const D: usize, const E: usize, const P: usize>(&mut self, simd: S, c: Channels) {
        let lanes = T::lanes::<S>();
        let zero = [Lane::splat(simd, T::default()); 6];
        let piece = self.filter.piece(self.tile, c.first, lanes);
        let varied = self.varied.as_ref().map(|map| map.piece(self.tile, c.first, lanes));
        // Of messages slopes in d are not needed.
        let slopes = self.end == End::Sender;
        let own = &self.tile.receiver[..self.tile.padded()];
        let (mut sums, mut own_row) = (zero, own[0]);
        for group in (0..self.tile.len).step_by(E) {
            let rates: Rates<S, T, E, P> = if const { D == 0 } {
                piece.shared_rates(simd, group, varied.as_ref(), slopes)
            } else {
                piece.own_rates::<S, D, E, P>(simd, group, slopes)
            };
            unroll!(i in 0..E => {
                let e = group + i;
                if own[e] != own_row {
                    self.flush::<S, M, P>(own_row, c, sums);
                    (sums, own_row) = (zero, own[e]);
                }
                let [value, slope, rate, slope_rate] = [rates[0][i], rates[1][i], rates[2][i], rates[3][i]];
                let filter = FilterRates { value, slope, rate, slope_rate };
                match self.end {
                    End::Receiver => M::message(simd, self, e, c, &filter, &mut sums),
                    End::Sender => self.gradients::<S, M, P>(simd, e, c, &filter, &mut sums),
                }
            });
        }
        self.flush::<S, M, P>(own_row, c, sums);
    }

    /// Rates of the gradients of one edge.
    #[inline(always)]
    fn gradients<S: Simd, M: AddRates<P>, const P: usize>(
        &mut self,
        simd: S,
        e: usize,
        c: Channels,
        filter: &FilterRates<S, T, P>,
        sums: &mut Sums<S, T>,
    ) {
        let lanes = T::lanes::<S>();
        let at = EDGE_SUMS * lanes * e;
        let mut edge = [Lane::splat(simd, T::default()); EDGE_SUMS];
        let edge_sums = &self.edge_sums[at..][..EDGE_SUMS * lanes];
        unroll!(q in 0..EDGE_SUMS => { edge[q] = Lane::load_full(simd, &edge_sums[q * lanes..]); });
        let [by_w, by_w_rate] = M::gradients(simd, self, e, c, filter, sums, &mut edge);
        let edge_sums = &mut self.edge_sums[at..][..EDGE_SUMS * lanes];
        unroll!(q in 0..EDGE_SUMS => { edge[q].store_full(&mut edge_sums[q * lanes..]); });
        let [outer, outer_rate] = self.outer;
        if !outer.is_empty() {
            // A table has no weights, and no f_c of its own.
            let f_c = Lane::splat(simd, self.tile.f_c[e]);
            let f_c_rate = Lane::splat(simd, self.tile.f_c_slope[e]) * Lane::splat(simd, self.tile.rate[e]);
            let row = e * P * lanes;
            let (outer, outer_rate) = (&mut outer[row..][..P * lanes], &mut outer_rate[row..][..P * lanes]);
            unroll!(p in 0..P => {
                (f_c * by_w[p]).store_full(&mut outer[p * lanes..]);
                f_c_rate.mul_add(by_w[p], f_c * by_w_rate[p]).store_full(&mut outer_rate[p * lanes..]);
            });
        }
    }

    /// Rates of the gradients in the weights and inputs of the filter's last map, from those in its outputs in one pass.
    #[inline(always)]
    fn weights<S: Simd>(&mut self, simd: S, parts: usize, first: usize, channels: usize) {
        let Some(sums) = &mut self.sums else { return };
        let tile = self.tile;
        let (width, edges, stride) = (parts * channels, tile.len.next_multiple_of(4), tile.stride);
        // What follows the last edge was written by an earlier tile.
        for outer in self.outer.iter_mut() {
            outer[tile.len * width..edges * width].fill(T::default());
        }
        let [values, values_rate] = &*self.outer;
        let [inputs, inputs_rate] = match tile.hidden[..] {
            [] => [&tile.coefficients, &tile.rates],
            _ => [&tile.hidden, &tile.hidden_rates],
        };
        let sums = sums.piece(parts * first, width);
        Outer::<_, true> { coefficients: inputs, stride, edges, values: values_rate, width, sums: &mut *sums }
            .with_simd(simd);
        Outer::<_, false> { coefficients: inputs_rate, stride, edges, values, width, sums }.with_simd(simd);
        let ([hidden, hidden_rate], rows) = (&mut *self.hidden, self.filter.depth);
        if !hidden.is_empty() {
            let [columns, varied] = self.columns.each_ref().map(|c| c.get(rows * parts * first..).unwrap_or_default());
            Inputs { values, width, edges, columns, gradients: hidden, rows }.with_simd(simd);
            Inputs { values: values_rate, width, edges, columns, gradients: &mut *hidden_rate, rows }.with_simd(simd);
            if !varied.is_empty() {
                Inputs { values, width, edges, columns: varied, gradients: hidden_rate, rows }.with_simd(simd);
            }
        }
    }

    /// Adds the sums of a row to the outputs.
    #[inline(always)]
    fn flush<S: Simd, M: AddRates<P>, const P: usize>(&mut self, row: u32, c: Channels, sums: Sums<S, T>) {
        let mut values = [sums[0].v; 6];
        unroll!(at in 0..6 => { values[at] = sums[at].v; });
        let [parts, axes] = M::SUMS[self.end as usize];
        for (at, value) in values.iter().take(parts + axes).enumerate() {
            let (to_vectors, part) = (at >= parts, if at >= parts { at - parts } else { at });
            let value = &bytemuck::cast_slice(std::slice::from_ref(value))[..c.width];
            self.outputs.add(row as usize, to_vectors, part * self.call.features + c.first, value);
        }
    }
}
