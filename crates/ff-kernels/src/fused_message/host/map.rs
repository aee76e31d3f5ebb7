//! The linear maps of a filter, blocked in registers.

use ff_spec::fused_message::Activation;
use pulp::{Simd, WithSimd};

use super::tile::Tile;
use super::weights::Packed;
use crate::host::{Element, Lane, maths, unroll};

/// The filter's last linear map, from the coefficients of a tile to channels.
pub(super) struct Map<'a, T> {
    pub weights: &'a Packed<T>,
    /// With a bias the map is f_c(d)·(bias + Σ_k coefficient[k]·weights[k, :]), with rows that all edges share. Without,
    /// it is Σ_k coefficient[k]·weights[base + k, :], with rows of a table where the edge's segment starts.
    pub bias: Option<&'a Packed<T>>,
    /// Coefficients per edge.
    pub depth: usize,
}

/// Values of `E` edges × `P` parts × `V` registers of channels.
pub(super) type Values<S, T, const E: usize, const P: usize, const V: usize> = [[[Lane<S, T>; V]; P]; E];

/// The pieces of a [`Map`] that one pass over channels reads.
pub(super) struct Piece<'a, T> {
    weights: &'a [T],
    bias: &'a [T],
    coefficients: &'a [T],
    stride: usize,
    tile: &'a Tile<T>,
}

impl<'a, T: Element> Map<'a, T> {
    /// For the pass of `width` channels (whole registers) from `first` on.
    #[inline(always)]
    pub fn piece(&self, tile: &'a Tile<T>, first: usize, width: usize) -> Piece<'a, T> {
        let coefficients = if tile.hidden.is_empty() { &tile.coefficients } else { &tile.hidden };
        Piece {
            weights: self.weights.piece(first, width),
            bias: self.bias.map_or(&[], |bias| bias.piece(first, width)),
            coefficients: &coefficients[..self.depth * tile.stride],
            stride: tile.stride,
            tile,
        }
    }
}

impl<T: Element> Piece<'_, T> {
    /// The map with shared rows for `E` edges from `group` on, accumulated in registers over the depth.
    #[inline(always)]
    pub fn shared<S: Simd, const E: usize, const P: usize, const V: usize>(
        &self,
        simd: S,
        group: usize,
    ) -> Values<S, T, E, P, V> {
        let row = P * V * T::lanes::<S>();
        let mut values = [load::<S, T, P, V>(simd, self.bias); E];
        for (weights, coefficients) in self.weights.chunks_exact(row).zip(self.coefficients.chunks_exact(self.stride)) {
            let weights = load::<S, T, P, V>(simd, weights);
            let coefficients = &coefficients[group..group + E];
            unroll!(e in 0..E => { add_scaled(&mut values[e], Lane::splat(simd, coefficients[e]), &weights); });
        }
        let scale = &self.tile.f_c[group..group + E];
        unroll!(e in 0..E => {
            let scale = Lane::splat(simd, scale[e]);
            unroll!(p in 0..P => { unroll!(v in 0..V => { values[e][p][v] = scale * values[e][p][v]; }); });
        });
        values
    }

    /// The map with `D` rows of a table of its own for each of `E` edges from `group` on.
    #[inline(always)]
    pub fn own<S: Simd, const D: usize, const E: usize, const P: usize, const V: usize>(
        &self,
        simd: S,
        group: usize,
    ) -> Values<S, T, E, P, V> {
        let row = P * V * T::lanes::<S>();
        let mut values = [[[Lane::splat(simd, T::default()); V]; P]; E];
        let base = &self.tile.base[group..group + E];
        let coefficients = &self.coefficients[group * D..(group + E) * D];
        unroll!(e in 0..E => {
            let weights = &self.weights[base[e] as usize * row..][..D * row];
            unroll!(k in 0..D => {
                let weights = load::<S, T, P, V>(simd, &weights[k * row..]);
                add_scaled(&mut values[e], Lane::splat(simd, coefficients[e * D + k]), &weights);
            });
        });
        values
    }
}

#[inline(always)]
fn add_scaled<S: Simd, T: Element, const P: usize, const V: usize>(
    values: &mut [[Lane<S, T>; V]; P],
    coefficient: Lane<S, T>,
    weights: &[[Lane<S, T>; V]; P],
) {
    unroll!(p in 0..P => {
        unroll!(v in 0..V => { values[p][v] = coefficient.mul_add(weights[p][v], values[p][v]); });
    });
}

/// One row [P, V registers] of a piece.
#[inline(always)]
fn load<S: Simd, T: Element, const P: usize, const V: usize>(simd: S, row: &[T]) -> [[Lane<S, T>; V]; P] {
    let lanes = T::lanes::<S>();
    let row = &row[..P * V * lanes];
    let mut loaded = [[Lane::splat(simd, T::default()); V]; P];
    unroll!(p in 0..P => {
        unroll!(v in 0..V => { loaded[p][v] = Lane::load_full(simd, &row[(p * V + v) * lanes..]); });
    });
    loaded
}

/// The hidden layer of a tile, σ(Φ A₁ + b₁), lanes across edges.
pub(super) struct HiddenLayer<'a, T> {
    pub tile: &'a mut Tile<T>,
    /// [K, hidden].
    pub a1: &'a [T],
    /// [hidden].
    pub b1: &'a [T],
    pub activation: Activation,
}

impl<T: Element> WithSimd for HiddenLayer<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        // Two registers of edges hide the latency of the activation of each other.
        let (lanes, padded) = (T::lanes::<S>(), self.tile.padded());
        let mut e = 0;
        while e < padded {
            if e + 2 * lanes <= padded {
                self.edges::<S, 2>(simd, e);
                e += 2 * lanes;
            } else {
                self.edges::<S, 1>(simd, e);
                e += lanes;
            }
        }
    }
}

impl<T: Element> HiddenLayer<'_, T> {
    /// `V` registers of edges from `e` on.
    #[inline(always)]
    fn edges<S: Simd, const V: usize>(&mut self, simd: S, e: usize) {
        let hidden = self.b1.len();
        let mut h = 0;
        while h + 4 <= hidden {
            self.units::<S, 4, V>(simd, e, h);
            h += 4;
        }
        while h < hidden {
            self.units::<S, 1, V>(simd, e, h);
            h += 1;
        }
    }

    /// `H` units of the layer from `h` on.
    #[inline(always)]
    fn units<S: Simd, const H: usize, const V: usize>(&mut self, simd: S, e: usize, h: usize) {
        let (lanes, hidden, stride) = (T::lanes::<S>(), self.b1.len(), self.tile.stride);
        let mut values = [[Lane::splat(simd, T::default()); V]; H];
        let bias = &self.b1[h..h + H];
        unroll!(i in 0..H => { values[i] = [Lane::splat(simd, bias[i]); V]; });
        for (weights, phi) in self.a1.chunks_exact(hidden).zip(self.tile.coefficients.chunks_exact(stride)) {
            let weights = &weights[h..h + H];
            let phi = load::<S, T, 1, V>(simd, &phi[e..]);
            unroll!(i in 0..H => {
                let weight = Lane::splat(simd, weights[i]);
                unroll!(v in 0..V => { values[i][v] = weight.mul_add(phi[0][v], values[i][v]); });
            });
        }
        unroll!(i in 0..H => {
            let out = &mut self.tile.hidden[(h + i) * stride + e..][..V * lanes];
            unroll!(v in 0..V => {
                let value = match self.activation {
                    Activation::ShiftedSoftplus => maths::shifted_softplus(values[i][v]),
                    Activation::Tanh => maths::tanh(values[i][v]),
                };
                value.store_full(&mut out[v * lanes..]);
            });
        });
    }
}
