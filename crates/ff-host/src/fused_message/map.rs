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

    /// [`Piece::shared`] and its rate and, with `slopes`, those of [`Piece::shared_slopes`]; `varied` is the piece of the
    /// direction in the weights.
    #[inline(always)]
    pub fn shared_rates<S: Simd, const E: usize, const P: usize>(
        &self,
        simd: S,
        group: usize,
        varied: Option<&Piece<'_, T>>,
        slopes: bool,
    ) -> Rates<S, T, E, P> {
        let tile = self.tile;
        let rates = match (&tile.hidden[..], varied) {
            // Basis values change with d alone, all of an edge at one rate.
            ([], None) => self.rates_by_distance::<S, E, P, false>(simd, group, self, slopes),
            ([], Some(varied)) => self.rates_by_distance::<S, E, P, true>(simd, group, varied, slopes),
            (_, None) => self.rates_of_hidden::<S, E, P, false>(simd, group, self, slopes),
            (_, Some(varied)) => self.rates_of_hidden::<S, E, P, true>(simd, group, varied, slopes),
        };
        let mut out = [[[Lane::splat(simd, T::default()); P]; E]; 4];
        unroll!(e in 0..E => {
            let at = group + e;
            let (f, f1) = (Lane::splat(simd, tile.f_c[at]), Lane::splat(simd, tile.f_c_slope[at]));
            let (f2, rate) = (Lane::splat(simd, tile.f_c_curve[at]), Lane::splat(simd, tile.rate[at]));
            let (f_rate, f1_rate) = (f1 * rate, f2 * rate);
            unroll!(p in 0..P => {
                let [g, g1, g_rate, g1_rate] = [rates[0][e][p], rates[1][e][p], rates[2][e][p], rates[3][e][p]];
                out[0][e][p] = f * g;
                out[2][e][p] = f_rate.mul_add(g, f * g_rate);
                if slopes {
                    out[1][e][p] = f1.mul_add(g, f * g1);
                    out[3][e][p] = f1_rate.mul_add(g, f1.mul_add(g_rate, f_rate.mul_add(g1, f * g1_rate)));
                }
            });
        });
        out
    }

    /// The map of basis values before f_c, its slope in d, and the rates of both.
    #[inline(always)]
    fn rates_by_distance<S: Simd, const E: usize, const P: usize, const VARIED: bool>(
        &self,
        simd: S,
        group: usize,
        varied: &Piece<'_, T>,
        slopes: bool,
    ) -> Rates<S, T, E, P> {
        let tile = self.tile;
        let (value, slope, curve) = (&tile.coefficients, &tile.slopes, &tile.curves);
        let inputs: [&[T]; 4] = [value, slope, curve, curve];
        // As many sums at once as there are registers for.
        let ([g, g1, mut g2, _], mut by_weights) = if slopes && const { !VARIED } {
            self.products::<S, E, P, 3, VARIED>(simd, group, inputs, value, varied)
        } else {
            self.products::<S, E, P, 2, VARIED>(simd, group, inputs, value, varied)
        };
        let mut slopes_by_weights = by_weights;
        if const { VARIED } {
            by_weights = varied.add_bias(simd, by_weights);
            if slopes {
                let curves: [&[T]; 4] = [curve; 4];
                let (sums, by_varied) = self.products::<S, E, P, 1, VARIED>(simd, group, curves, slope, varied);
                (g2, slopes_by_weights) = (sums[0], by_varied);
            }
        }
        let rate = &tile.rate[group..group + E];
        let mut out = [self.add_bias(simd, g), g1, by_weights, slopes_by_weights];
        unroll!(e in 0..E => {
            let rate = Lane::splat(simd, rate[e]);
            unroll!(p in 0..P => {
                out[2][e][p] = rate.mul_add(g1[e][p], by_weights[e][p]);
                out[3][e][p] = rate.mul_add(g2[e][p], slopes_by_weights[e][p]);
            });
        });
        out
    }

    /// [`Piece::rates_by_distance`] of a hidden layer, whose units change with their own weights too.
    #[inline(always)]
    fn rates_of_hidden<S: Simd, const E: usize, const P: usize, const VARIED: bool>(
        &self,
        simd: S,
        group: usize,
        varied: &Piece<'_, T>,
        slopes: bool,
    ) -> Rates<S, T, E, P> {
        let tile = self.tile;
        let (value, slope) = (&tile.hidden, &tile.hidden_slopes);
        let inputs: [&[T]; 4] = [value, &tile.hidden_rates, slope, &tile.hidden_slope_rates];
        let ([g, g_rate, g1, g1_rate], by_weights) = if slopes && const { !VARIED } {
            self.products::<S, E, P, 4, VARIED>(simd, group, inputs, value, varied)
        } else {
            self.products::<S, E, P, 2, VARIED>(simd, group, inputs, value, varied)
        };
        let mut out = [self.add_bias(simd, g), g1, g_rate, g1_rate];
        if const { VARIED } {
            let mut by_weights = [varied.add_bias(simd, by_weights); 2];
            if slopes {
                let inputs = [inputs[2], inputs[3], inputs[3], inputs[3]];
                let sums = self.products::<S, E, P, 2, VARIED>(simd, group, inputs, slope, varied);
                ([out[1], out[3], ..], by_weights[1]) = sums;
            }
            unroll!(e in 0..E => {
                unroll!(p in 0..P => {
                    out[2][e][p] = out[2][e][p] + by_weights[0][e][p];
                    out[3][e][p] = out[3][e][p] + by_weights[1][e][p];
                });
            });
        }
        out
    }

    /// Sums over the depth, of `E` edges: of the first `N` of `inputs` times the weights; with `VARIED` of `input` times those
    /// of `varied`. What is not asked for is zero.
    #[inline(always)]
    #[allow(clippy::type_complexity)]
    fn products<S: Simd, const E: usize, const P: usize, const N: usize, const VARIED: bool>(
        &self,
        simd: S,
        group: usize,
        inputs: [&[T]; 4],
        input: &[T],
        varied: &Piece<'_, T>,
    ) -> ([[[Lane<S, T>; P]; E]; 4], [[Lane<S, T>; P]; E]) {
        let (row, ground) = (P * T::lanes::<S>(), ground(simd));
        let (mut sums, mut by_varied) = ([[[ground; P]; E]; 4], [[ground; P]; E]);
        // Iterators of one length, so that nothing is checked within the loop.
        let columns = |input| <[T]>::chunks_exact(input, self.stride);
        let weights = self.weights.chunks_exact(row).zip(varied.weights.chunks_exact(row));
        let inputs = columns(inputs[0]).zip(columns(inputs[1])).zip(columns(inputs[2]).zip(columns(inputs[3])));
        for ((weights, varied), (((a, b), (c, d)), input)) in weights.zip(inputs.zip(columns(input))) {
            let (weights, inputs) = (load::<S, T, P, 1>(simd, weights), [a, b, c, d]);
            unroll!(i in 0..N => {
                let coefficients = splats::<S, T, E>(simd, &inputs[i][group..]);
                unroll!(e in 0..E => {
                    unroll!(p in 0..P => {
                        sums[i][e][p] = coefficients[e].mul_add(weights[p][0], sums[i][e][p]);
                    });
                });
            });
            if const { VARIED } {
                let coefficients = splats::<S, T, E>(simd, &input[group..]);
                let varied = load::<S, T, P, 1>(simd, varied);
                unroll!(e in 0..E => {
                    unroll!(p in 0..P => {
                        by_varied[e][p] = coefficients[e].mul_add(varied[p][0], by_varied[e][p]);
                    });
                });
            }
        }
        unroll!(e in 0..E => {
            unroll!(p in 0..P => {
                unroll!(i in 0..4 => { sums[i][e][p] = sums[i][e][p] - ground; });
                by_varied[e][p] = by_varied[e][p] - ground;
            });
        });
        (sums, by_varied)
    }

    /// Adds the bias to the values of `E` edges.
    #[inline(always)]
    fn add_bias<S: Simd, const E: usize, const P: usize>(
        &self,
        simd: S,
        mut values: [[Lane<S, T>; P]; E],
    ) -> [[Lane<S, T>; P]; E] {
        let bias = load::<S, T, P, 1>(simd, self.bias);
        unroll!(e in 0..E => {
            unroll!(p in 0..P => { values[e][p] = values[e][p] + bias[p][0]; });
        });
        values
    }

    /// [`Piece::own`] and its rate and, with `slopes`, those of [`Piece::own_slopes`]; a table does not vary.
    #[inline(always)]
    pub fn own_rates<S: Simd, const D: usize, const E: usize, const P: usize>(
        &self,
        simd: S,
        group: usize,
        slopes: bool,
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
                if slopes {
                    add_scaled(&mut map[2], Lane::splat(simd, tile.curves[at * D + k]), &weights);
                }
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
    Lane::splat(simd, T::from_f64(if const { size_of::<T>() == 4 } { 1e-31 } else { 1e-290 }))
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
