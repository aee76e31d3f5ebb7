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
    /// Derivatives of the coefficients in d, where the tile has them.
    slopes: &'a [T],
    stride: usize,
    tile: &'a Tile<T>,
}

impl<'a, T: Element> Map<'a, T> {
    /// For the pass of `width` channels (whole registers) from `first` on.
    #[inline(always)]
    pub fn piece(&self, tile: &'a Tile<T>, first: usize, width: usize) -> Piece<'a, T> {
        let (coefficients, slopes) = match tile.hidden[..] {
            [] => (&tile.coefficients, &tile.slopes),
            _ => (&tile.hidden, &tile.hidden_slopes),
        };
        Piece {
            weights: self.weights.piece(first, width),
            bias: self.bias.map_or(&[], |bias| bias.piece(first, width)),
            coefficients: &coefficients[..self.depth * tile.stride],
            slopes,
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

    /// [`Piece::shared`] and its derivative in d: (f_c·g)′ = f_c′·g + f_c·g′.
    #[inline(always)]
    pub fn shared_slopes<S: Simd, const E: usize, const P: usize, const V: usize>(
        &self,
        simd: S,
        group: usize,
    ) -> [Values<S, T, E, P, V>; 2] {
        let row = P * V * T::lanes::<S>();
        let mut values = [load::<S, T, P, V>(simd, self.bias); E];
        let mut slopes = [[[Lane::splat(simd, T::default()); V]; P]; E];
        let columns = self.coefficients.chunks_exact(self.stride).zip(self.slopes.chunks_exact(self.stride));
        for (weights, (coefficients, derivatives)) in self.weights.chunks_exact(row).zip(columns) {
            let weights = load::<S, T, P, V>(simd, weights);
            let (coefficients, derivatives) = (&coefficients[group..group + E], &derivatives[group..group + E]);
            unroll!(e in 0..E => {
                add_scaled(&mut values[e], Lane::splat(simd, coefficients[e]), &weights);
                add_scaled(&mut slopes[e], Lane::splat(simd, derivatives[e]), &weights);
            });
        }
        let (scale, slope) = (&self.tile.f_c[group..group + E], &self.tile.f_c_slope[group..group + E]);
        unroll!(e in 0..E => {
            let (scale, slope) = (Lane::splat(simd, scale[e]), Lane::splat(simd, slope[e]));
            unroll!(p in 0..P => {
                unroll!(v in 0..V => {
                    slopes[e][p][v] = slope.mul_add(values[e][p][v], scale * slopes[e][p][v]);
                    values[e][p][v] = scale * values[e][p][v];
                });
            });
        });
        [values, slopes]
    }

    /// [`Piece::own`] and its derivative in d.
    #[inline(always)]
    pub fn own_slopes<S: Simd, const D: usize, const E: usize, const P: usize, const V: usize>(
        &self,
        simd: S,
        group: usize,
    ) -> [Values<S, T, E, P, V>; 2] {
        let row = P * V * T::lanes::<S>();
        let mut values = [[[[Lane::splat(simd, T::default()); V]; P]; E]; 2];
        let base = &self.tile.base[group..group + E];
        let at = group * D..(group + E) * D;
        let (coefficients, derivatives) = (&self.coefficients[at.clone()], &self.slopes[at]);
        unroll!(e in 0..E => {
            let weights = &self.weights[base[e] as usize * row..][..D * row];
            unroll!(k in 0..D => {
                let weights = load::<S, T, P, V>(simd, &weights[k * row..]);
                add_scaled(&mut values[0][e], Lane::splat(simd, coefficients[e * D + k]), &weights);
                add_scaled(&mut values[1][e], Lane::splat(simd, derivatives[e * D + k]), &weights);
            });
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

/// The hidden layer of a tile, σ(Φ A₁ + b₁), lanes across edges; with `SLOPES` its slope in d and σ′ as well.
pub(super) struct HiddenLayer<'a, T, const SLOPES: bool> {
    pub tile: &'a mut Tile<T>,
    /// [K, hidden].
    pub a1: &'a [T],
    /// [hidden].
    pub b1: &'a [T],
    pub activation: Activation,
}

impl<T: Element, const SLOPES: bool> WithSimd for HiddenLayer<'_, T, SLOPES> {
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

impl<T: Element, const SLOPES: bool> HiddenLayer<'_, T, SLOPES> {
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
        let mut slopes = values;
        let bias = &self.b1[h..h + H];
        unroll!(i in 0..H => { values[i] = [Lane::splat(simd, bias[i]); V]; });
        for (k, weights) in self.a1.chunks_exact(hidden).enumerate() {
            let weights = &weights[h..h + H];
            let phi = load::<S, T, 1, V>(simd, &self.tile.coefficients[k * stride + e..]);
            unroll!(i in 0..H => {
                let weight = Lane::splat(simd, weights[i]);
                unroll!(v in 0..V => { values[i][v] = weight.mul_add(phi[0][v], values[i][v]); });
            });
            if SLOPES {
                let phi = load::<S, T, 1, V>(simd, &self.tile.slopes[k * stride + e..]);
                unroll!(i in 0..H => {
                    let weight = Lane::splat(simd, weights[i]);
                    unroll!(v in 0..V => { slopes[i][v] = weight.mul_add(phi[0][v], slopes[i][v]); });
                });
            }
        }
        unroll!(i in 0..H => {
            let at = (h + i) * stride + e;
            unroll!(v in 0..V => {
                let at = at + v * lanes;
                let value = match self.activation {
                    Activation::ShiftedSoftplus => maths::shifted_softplus(values[i][v]),
                    Activation::Tanh => maths::tanh(values[i][v]),
                };
                value.store_full(&mut self.tile.hidden[at..]);
                if SLOPES {
                    let slope = match self.activation {
                        Activation::ShiftedSoftplus => maths::logistic(values[i][v]),
                        Activation::Tanh => value.lit(1.0) - value * value,
                    };
                    slope.store_full(&mut self.tile.activation[at..]);
                    (slope * slopes[i][v]).store_full(&mut self.tile.hidden_slopes[at..]);
                }
            });
        });
    }
}
