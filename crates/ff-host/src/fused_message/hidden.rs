//! The hidden layer of an `mlp` filter, lanes across edges.

use ff_spec::fused_message::Activation;
use pulp::{Simd, WithSimd};

use super::map::{ground, load};
use super::tile::Tile;
use crate::{Element, Lane, has_many_registers, maths};

/// The hidden layer of a tile, σ(Φ A₁ + b₁), lanes across edges; with `ORDER` 1 its slope in d and σ′ as well.
pub(super) struct HiddenLayer<'a, T, const ORDER: u8> {
    pub tile: &'a mut Tile<T>,
    /// [K, hidden].
    pub a1: &'a [T],
    /// [hidden].
    pub b1: &'a [T],
    pub activation: Activation,
}

impl<T: Element, const ORDER: u8> WithSimd for HiddenLayer<'_, T, ORDER> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        // Two registers of edges hide the latency of the activation of each other, where they and their slopes stay in registers.
        let (lanes, padded) = (T::lanes::<S>(), self.tile.padded());
        let two = ORDER == 0 || has_many_registers::<S>();
        let mut e = 0;
        while e < padded {
            if two && e + 2 * lanes <= padded {
                self.edges::<S, 2>(simd, e);
                e += 2 * lanes;
            } else {
                self.edges::<S, 1>(simd, e);
                e += lanes;
            }
        }
    }
}

impl<T: Element, const ORDER: u8> HiddenLayer<'_, T, ORDER> {
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
        let ground = ground(simd);
        let mut values = [[ground; V]; H];
        let mut slopes = values;
        let bias = &self.b1[h..h + H];
        unroll!(i in 0..H => { values[i] = [Lane::splat(simd, bias[i]) + ground; V]; });
        for (k, weights) in self.a1.chunks_exact(hidden).enumerate() {
            let weights = &weights[h..h + H];
            let phi = load::<S, T, 1, V>(simd, &self.tile.coefficients[k * stride + e..]);
            unroll!(i in 0..H => {
                let weight = Lane::splat(simd, weights[i]);
                unroll!(v in 0..V => { values[i][v] = weight.mul_add(phi[0][v], values[i][v]); });
            });
            if const { ORDER >= 1 } {
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
                let x = values[i][v] - ground;
                let value = match self.activation {
                    Activation::ShiftedSoftplus => maths::shifted_softplus(x),
                    Activation::Tanh => maths::tanh(x),
                    Activation::Silu => x * maths::logistic(x),
                };
                value.store_full(&mut self.tile.hidden[at..]);
                if const { ORDER >= 1 } {
                    let slope = match self.activation {
                        Activation::ShiftedSoftplus => maths::logistic(x),
                        Activation::Tanh => value.lit(1.0) - value * value,
                        Activation::Silu => {
                            let slope = maths::logistic(x);
                            slope * x.mul_add(x.lit(1.0) - slope, x.lit(1.0))
                        }
                    };
                    slope.store_full(&mut self.tile.activation[at..]);
                    (slope * (slopes[i][v] - ground)).store_full(&mut self.tile.hidden_slopes[at..]);
                }
            });
        });
    }
}

/// Rates of the hidden layer and of its slope in a direction of distances and weights, with everything that [`HiddenLayer`]
/// computes at order 1.
pub(super) struct HiddenRates<'a, T> {
    pub tile: &'a mut Tile<T>,
    pub a1: &'a [T],
    pub b1: &'a [T],
    /// The direction in `a1` and `b1`, if any.
    pub varied: Option<[&'a [T]; 2]>,
    pub activation: Activation,
}

impl<T: Element> WithSimd for HiddenRates<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { tile, a1, b1, varied, activation } = self;
        let (lanes, padded, stride, hidden) = (T::lanes::<S>(), tile.padded(), tile.stride, b1.len());
        let splat = |x: T| Lane::splat(simd, x);
        let ground = ground(simd);
        for h in 0..hidden {
            for e in (0..padded).step_by(lanes) {
                let rate = Lane::load_full(simd, &tile.rate[e..]);
                // z with two derivatives in d, and what the direction in the weights adds to z and its slope.
                let mut z = [splat(b1[h]) + ground, ground, ground];
                let mut by_weights = [splat(varied.map_or(T::default(), |[_, b]| b[h])) + ground, ground];
                for k in 0..a1.len() / hidden {
                    let at = k * stride + e;
                    let phi = [
                        Lane::load_full(simd, &tile.coefficients[at..]),
                        Lane::load_full(simd, &tile.slopes[at..]),
                        Lane::load_full(simd, &tile.curves[at..]),
                    ];
                    let weight = splat(a1[k * hidden + h]);
                    unroll!(i in 0..3 => { z[i] = weight.mul_add(phi[i], z[i]); });
                    if let Some([a, _]) = varied {
                        let weight = splat(a[k * hidden + h]);
                        unroll!(i in 0..2 => { by_weights[i] = weight.mul_add(phi[i], by_weights[i]); });
                    }
                }
                unroll!(i in 0..3 => { z[i] = z[i] - ground; });
                unroll!(i in 0..2 => { by_weights[i] = by_weights[i] - ground; });
                let one = z[0].lit(1.0);
                let (value, slope, curve) = match activation {
                    Activation::ShiftedSoftplus => {
                        let slope = maths::logistic(z[0]);
                        (maths::shifted_softplus(z[0]), slope, slope * (one - slope))
                    }
                    Activation::Tanh => {
                        let t = maths::tanh(z[0]);
                        let slope = one - t * t;
                        (t, slope, t.lit(-2.0) * t * slope)
                    }
                    Activation::Silu => {
                        let s = maths::logistic(z[0]);
                        let rest = one - s;
                        (z[0] * s, s * z[0].mul_add(rest, one), s * rest * z[0].mul_add(rest - s, z[0].lit(2.0)))
                    }
                };
                let z_rate = z[1].mul_add(rate, by_weights[0]);
                let z_slope_rate = z[2].mul_add(rate, by_weights[1]);
                let slope_rate = curve * z_rate;
                let at = h * stride + e;
                value.store_full(&mut tile.hidden[at..]);
                (slope * z[1]).store_full(&mut tile.hidden_slopes[at..]);
                (slope * z_rate).store_full(&mut tile.hidden_rates[at..]);
                slope_rate.mul_add(z[1], slope * z_slope_rate).store_full(&mut tile.hidden_slope_rates[at..]);
                slope.store_full(&mut tile.activation[at..]);
                slope_rate.store_full(&mut tile.activation_rates[at..]);
            }
        }
    }
}
