//! The linear maps of a filter, blocked in registers.

use std::borrow::Cow;

use ff_spec::fused_message::Filter;
use pulp::Simd;

use super::call::Call;
use super::tile::Tile;
use super::weights::{Layout, Packed, PackedFilter};
use crate::{Element, Lane};

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

/// A filter, its slope in d, and the rates of both: of `E` edges × `P` parts.
pub(super) type Rates<S, T, const E: usize, const P: usize> = [[[Lane<S, T>; P]; E]; 4];

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
        let (lanes, row) = (T::lanes::<S>(), P * V * T::lanes::<S>());
        let ground = ground(simd);
        let mut values = [load::<S, T, P, V>(simd, self.bias); E];
        unroll!(e in 0..E => { raise(&mut values[e], ground); });
        for (weights, coefficients) in self.weights.chunks_exact(row).zip(self.coefficients.chunks_exact(self.stride)) {
            let coefficients = splats::<S, T, E>(simd, &coefficients[group..]);
            // One register of weights at a time: beside all values, those of a row would fill more than 16.
            unroll!(p in 0..P => {
                unroll!(v in 0..V => {
                    let weight = Lane::load_full(simd, &weights[(p * V + v) * lanes..]);
                    unroll!(e in 0..E => { values[e][p][v] = coefficients[e].mul_add(weight, values[e][p][v]); });
                });
            });
        }
        let scale = &self.tile.f_c[group..group + E];
        unroll!(e in 0..E => {
            let scale = Lane::splat(simd, scale[e]);
            unroll!(p in 0..P => { unroll!(v in 0..V => { values[e][p][v] = scale * (values[e][p][v] - ground); }); });
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
        let (lanes, row) = (T::lanes::<S>(), P * V * T::lanes::<S>());
        let ground = ground(simd);
        let mut values = [load::<S, T, P, V>(simd, self.bias); E];
        unroll!(e in 0..E => { raise(&mut values[e], ground); });
        let mut slopes = [[[ground; V]; P]; E];
        let columns = self.coefficients.chunks_exact(self.stride).zip(self.slopes.chunks_exact(self.stride));
        for (weights, (coefficients, derivatives)) in self.weights.chunks_exact(row).zip(columns) {
            let coefficients = splats::<S, T, E>(simd, &coefficients[group..]);
            let derivatives = splats::<S, T, E>(simd, &derivatives[group..]);
            unroll!(p in 0..P => {
                unroll!(v in 0..V => {
                    let weight = Lane::load_full(simd, &weights[(p * V + v) * lanes..]);
                    unroll!(e in 0..E => {
                        values[e][p][v] = coefficients[e].mul_add(weight, values[e][p][v]);
                        slopes[e][p][v] = derivatives[e].mul_add(weight, slopes[e][p][v]);
                    });
                });
            });
        }
        let (scale, slope) = (&self.tile.f_c[group..group + E], &self.tile.f_c_slope[group..group + E]);
        unroll!(e in 0..E => {
            let (scale, slope) = (Lane::splat(simd, scale[e]), Lane::splat(simd, slope[e]));
            unroll!(p in 0..P => {
                unroll!(v in 0..V => {
                    let value = values[e][p][v] - ground;
                    slopes[e][p][v] = slope.mul_add(value, scale * (slopes[e][p][v] - ground));
                    values[e][p][v] = scale * value;
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

    /// [`Piece::shared_slopes`] and the rates of both; `varied` is the piece of the direction in the weights.
    #[inline(always)]
    pub fn shared_rates<S: Simd, const E: usize, const P: usize>(
        &self,
        simd: S,
        group: usize,
        varied: Option<&Piece<'_, T>>,
    ) -> Rates<S, T, E, P> {
        let (row, stride, tile) = (P * T::lanes::<S>(), self.stride, self.tile);
        let mut bias = load::<S, T, P, 1>(simd, self.bias);
        let ground = ground(simd);
        raise(&mut bias, ground);
        let mut map = [[[[ground; 1]; P]; E]; 4];
        map[0] = [bias; E];
        let inputs = match tile.hidden[..] {
            [] => [&tile.coefficients, &tile.slopes, &tile.rates, &tile.slope_rates],
            _ => [&tile.hidden, &tile.hidden_slopes, &tile.hidden_rates, &tile.hidden_slope_rates],
        };
        for (k, weights) in self.weights.chunks_exact(row).enumerate() {
            let weights = load::<S, T, P, 1>(simd, weights);
            unroll!(i in 0..4 => {
                let coefficients = &inputs[i][k * stride + group..][..E];
                unroll!(e in 0..E => { add_scaled(&mut map[i][e], Lane::splat(simd, coefficients[e]), &weights); });
            });
        }
        if let Some(varied) = varied {
            let (bias, one) = (load::<S, T, P, 1>(simd, varied.bias), Lane::splat(simd, T::from_f64(1.0)));
            unroll!(e in 0..E => { add_scaled(&mut map[2][e], one, &bias); });
            for (k, weights) in varied.weights.chunks_exact(row).enumerate() {
                let weights = load::<S, T, P, 1>(simd, weights);
                unroll!(i in 0..2 => {
                    let coefficients = &inputs[i][k * stride + group..][..E];
                    unroll!(e in 0..E => {
                        add_scaled(&mut map[2 + i][e], Lane::splat(simd, coefficients[e]), &weights);
                    });
                });
            }
        }
        let mut out = [[[Lane::splat(simd, T::default()); P]; E]; 4];
        unroll!(e in 0..E => {
            let at = group + e;
            let (f, f1) = (Lane::splat(simd, tile.f_c[at]), Lane::splat(simd, tile.f_c_slope[at]));
            let (f2, rate) = (Lane::splat(simd, tile.f_c_curve[at]), Lane::splat(simd, tile.rate[at]));
            let (f_rate, f1_rate) = (f1 * rate, f2 * rate);
            unroll!(p in 0..P => {
                let [g, g1] = [map[0][e][p][0] - ground, map[1][e][p][0] - ground];
                let [g_rate, g1_rate] = [map[2][e][p][0] - ground, map[3][e][p][0] - ground];
                out[0][e][p] = f * g;
                out[1][e][p] = f1.mul_add(g, f * g1);
                out[2][e][p] = f_rate.mul_add(g, f * g_rate);
                out[3][e][p] = f1_rate.mul_add(g, f1.mul_add(g_rate, f_rate.mul_add(g1, f * g1_rate)));
            });
        });
        out
    }

    /// [`Piece::own_slopes`] and the rates of both; a table does not vary.
    #[inline(always)]
    pub fn own_rates<S: Simd, const D: usize, const E: usize, const P: usize>(
        &self,
        simd: S,
        group: usize,
    ) -> Rates<S, T, E, P> {
        let (row, tile) = (P * T::lanes::<S>(), self.tile);
        let mut out = [[[Lane::splat(simd, T::default()); P]; E]; 4];
        unroll!(e in 0..E => {
            let at = group + e;
            let weights = &self.weights[tile.base[at] as usize * row..][..D * row];
            let rate = Lane::splat(simd, tile.rate[at]);
            let mut map = [[[Lane::splat(simd, T::default()); 1]; P]; 3];
            unroll!(k in 0..D => {
                let weights = load::<S, T, P, 1>(simd, &weights[k * row..]);
                add_scaled(&mut map[0], Lane::splat(simd, tile.coefficients[at * D + k]), &weights);
                add_scaled(&mut map[1], Lane::splat(simd, tile.slopes[at * D + k]), &weights);
                add_scaled(&mut map[2], Lane::splat(simd, tile.curves[at * D + k]), &weights);
            });
            unroll!(p in 0..P => {
                out[0][e][p] = map[0][p][0];
                out[1][e][p] = map[1][p][0];
                out[2][e][p] = rate * map[1][p][0];
                out[3][e][p] = rate * map[2][p][0];
            });
        });
        out
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

/// The coefficients of `E` edges.
#[inline(always)]
fn splats<S: Simd, T: Element, const E: usize>(simd: S, coefficients: &[T]) -> [Lane<S, T>; E] {
    let coefficients = &coefficients[..E];
    let mut splats = [Lane::splat(simd, T::default()); E];
    unroll!(e in 0..E => { splats[e] = Lane::splat(simd, coefficients[e]); });
    splats
}

/// One row [P, V registers] of a piece.
#[inline(always)]
pub(super) fn load<S: Simd, T: Element, const P: usize, const V: usize>(simd: S, row: &[T]) -> [[Lane<S, T>; V]; P] {
    let lanes = T::lanes::<S>();
    let row = &row[..P * V * lanes];
    let mut loaded = [[Lane::splat(simd, T::default()); V]; P];
    unroll!(p in 0..P => {
        unroll!(v in 0..V => { loaded[p][v] = Lane::load_full(simd, &row[(p * V + v) * lanes..]); });
    });
    loaded
}

/// What sums over basis values begin at, and is taken off at their end. Begun at zero, the tail of a Gaussian makes subnormal numbers
/// of them, and on these every operation takes a processor a hundred cycles: first backwards took three times as long. It is so
/// small that sums which it changes are below what any number of them adds up to, and so large that nothing it is added to is
/// subnormal.
#[inline(always)]
pub(super) fn ground<S: Simd, T: Element>(simd: S) -> Lane<S, T> {
    Lane::splat(simd, T::from_f64(if const { size_of::<T>() == 4 } { 1e-30 } else { 1e-290 }))
}

/// Adds [`ground`] to every register.
#[inline(always)]
fn raise<S: Simd, T: Element, const P: usize, const V: usize>(values: &mut [[Lane<S, T>; V]; P], ground: Lane<S, T>) {
    unroll!(p in 0..P => { unroll!(v in 0..V => { values[p][v] = values[p][v] + ground; }); });
}

/// The last linear map of a filter.
pub(super) struct Weights<'a, T: Clone> {
    packed: Cow<'a, PackedFilter<T>>,
    /// Coefficients per edge.
    depth: usize,
}

impl<'a, T: Element> Weights<'a, T> {
    /// Those of the call's own filter, as the caller has packed it if it was for the same passes.
    pub fn of(call: &Call<'a, T>, layout: Layout) -> Self {
        match call.packed {
            Some(packed) if packed.layout == layout => Self { packed: Cow::Borrowed(packed), depth: call.depth() },
            _ => Self::pack(call.filter, call, layout),
        }
    }

    /// Those of a filter that has the sizes of the call's own.
    pub fn pack(filter: &Filter<T>, call: &Call<'a, T>, layout: Layout) -> Self {
        Self { packed: Cow::Owned(PackedFilter::of(filter, layout)), depth: call.depth() }
    }

    /// The map with these weights.
    pub fn map(&self) -> Map<'_, T> {
        Map { weights: &self.packed.weights, bias: self.packed.bias.as_ref(), depth: self.depth }
    }
}
