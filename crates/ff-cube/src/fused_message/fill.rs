//! Filling a tile of a backward: edges, coefficients of the filter, and their derivatives and rates.

use cubecl::prelude::*;
use ff_spec::fused_message::Activation;

use super::config::{BackwardConfig, CubeConfig, Kernel};
use super::radial;
use super::slopes::{Along, SlopeTile};
use super::tile::{Inputs, basis_at, hermite_weights, hidden_at, load_edge, receiver_of, slot};
use crate::maths;

/// Loads the edges at places `first`.. `end` of a list into this group's slab, with the coefficients of the filter's last
/// linear map and what derivatives the kernel has; synchronises.
///
/// What `list` names by place is the edge for `senders`; for the maps, whose places are edges, it is the receiver, which is
/// loaded too, and is searched where there is no such list.
#[cube]
pub fn fill_tile<F: Float, N: Size>(
    inputs: &Inputs<F, N>,
    direction: &Along<F, N>,
    list: &Array<u32>,
    tile: &mut SlopeTile<F>,
    first: usize,
    end: usize,
    #[comptime] config: BackwardConfig,
) {
    let layout = comptime!(config.tile);
    for e in range_stepped(UNIT_POS_X as usize, layout.edges_per_tile, layout.units) {
        let exists = first + e < end;
        let at = slot(e, layout);
        let mut edge = 0usize;
        let mut listed = 0u32;
        if exists {
            edge = first + e;
            if comptime!(!config.searched) {
                listed = list[edge];
            }
        }
        if comptime!(config.kernel == Kernel::Senders) {
            edge = listed as usize;
        }
        load_edge::<F, N>(inputs, &mut tile.values, at, edge, exists, layout);
        if comptime!(config.reads_receivers()) {
            if comptime!(config.searched) {
                listed = receiver_of(&inputs.row_ptr, inputs.n_atoms as usize, edge);
            }
            tile.values.indices[comptime!(layout.plane()) + at] = listed;
        }
        if comptime!(config.rates) {
            tile.store_motion::<N>(direction.as_ref().unwrap(), at, edge, config);
        }
    }
    sync_cube();
    if comptime!(layout.order > 0) {
        if comptime!(config.edges || config.rates) {
            hermite_derivatives::<F, N>(inputs, tile, config);
        }
        hermite_weights::<F, N>(inputs, &mut tile.values, layout);
    } else {
        radial::fill::<F, N>(inputs, tile, config);
        if comptime!(layout.hidden > 0) {
            sync_cube();
            hidden_derivatives::<F, N>(inputs, direction, tile, config);
        }
    }
    sync_cube();
}

/// Derivatives of a tile's Hermite weights in d.
#[cube]
pub fn hermite_derivatives<F: Float, N: Size>(
    inputs: &Inputs<F, N>,
    tile: &mut SlopeTile<F>,
    #[comptime] config: BackwardConfig,
) {
    let layout = comptime!(config.tile);
    let segments = F::cast_from(inputs.segments);
    let h = inputs.radial[0] / segments;
    for e in range_stepped(UNIT_POS_X as usize, layout.edges_per_tile, layout.units) {
        let at = slot(e, layout);
        let x = tile.values.floats[at] / h;
        let t = x - F::floor(min(x, segments - F::new(1.0)));
        let s = F::new(1.0) - t;
        // Zero for slots without an edge, so that they contribute nothing.
        let one = tile.values.floats[comptime!(layout.f_c()) + at];
        let mut slopes = Array::<F>::new(comptime!(2 * layout.order));
        let mut curves = Array::<F>::new(comptime!(2 * layout.order));
        if comptime!(layout.order == 2) {
            slopes[2] = one * F::new(6.0) * t * s / h;
            slopes[1] = one * s * (F::new(1.0) - F::new(3.0) * t);
            slopes[3] = one * t * (F::new(1.0) - F::new(3.0) * s);
            curves[2] = one * F::new(6.0) * (s - t) / (h * h);
            curves[1] = one * (F::new(6.0) * t - F::new(4.0)) / h;
            curves[3] = one * (F::new(4.0) - F::new(6.0) * s) / h;
        } else {
            let t2 = t * t;
            let s2 = s * s;
            let half = F::new(0.5) * one * h;
            slopes[3] = one * F::new(30.0) * t2 * s2 / h;
            slopes[1] = one * s2 * (F::new(1.0) - F::new(3.0) * t) * (F::new(1.0) + F::new(5.0) * t);
            slopes[4] = one * t2 * (F::new(1.0) - F::new(3.0) * s) * (F::new(1.0) + F::new(5.0) * s);
            slopes[2] = half * t * s2 * (F::new(2.0) - F::new(5.0) * t);
            slopes[5] = F::new(0.0) - half * s * t2 * (F::new(2.0) - F::new(5.0) * s);
            // d²/dt² of the weights, over h².
            let ends = one * F::new(12.0) * t * s / h;
            let half = F::new(0.5) * one;
            curves[3] = F::new(5.0) * ends * (s - t) / h;
            curves[1] = F::new(0.0) - ends * (F::new(3.0) - F::new(5.0) * t);
            curves[4] = ends * (F::new(3.0) - F::new(5.0) * s);
            curves[2] = half * s * (F::new(2.0) - F::new(16.0) * t + F::new(20.0) * t2);
            curves[5] = half * t * (F::new(2.0) - F::new(16.0) * s + F::new(20.0) * s2);
        }
        slopes[0] = F::new(0.0) - slopes[layout.order];
        curves[0] = F::new(0.0) - curves[layout.order];
        #[unroll]
        for k in 0..comptime!(2 * layout.order) {
            let of = basis_at(k, e, layout);
            tile.store_slope(slopes[k], of, e, config);
            if comptime!(config.edges && config.rates) {
                tile.store_curve(curves[k], of, e, config);
            }
        }
    }
}

/// σ, σ′ and σ″ of a configuration.
#[cube]
pub fn activation<F: Float>(x: F, #[comptime] config: CubeConfig) -> (F, F, F) {
    let one = F::new(1.0);
    if comptime!(config.activation == Activation::Tanh) {
        let t = maths::tanh::<F>(x);
        let slope = one - t * t;
        (t, slope, F::new(-2.0) * t * slope)
    } else if comptime!(config.activation == Activation::Silu) {
        let s = maths::logistic::<F>(x);
        let rest = one - s;
        (x * s, s * (one + x * rest), s * rest * (F::new(2.0) + x * (rest - s)))
    } else {
        let slope = maths::logistic::<F>(x);
        (maths::shifted_softplus::<F>(x), slope, slope * (one - slope))
    }
}

/// σ(Φ A₁ + b₁) of a tile with what derivatives the kernel has, by units as in [`super::hidden_layer`]; for `first_map`
/// σ′ in its place, with its rate.
#[cube]
pub fn hidden_derivatives<F: Float, N: Size>(
    inputs: &Inputs<F, N>,
    direction: &Along<F, N>,
    tile: &mut SlopeTile<F>,
    #[comptime] config: BackwardConfig,
) {
    let layout = comptime!(config.tile);
    let count = comptime!(layout.hidden * (layout.edges_per_tile / layout.unroll));
    let mut sums = Array::<F>::new(layout.unroll);
    let mut slopes = Array::<F>::new(layout.unroll);
    let mut rates = Array::<F>::new(layout.unroll);
    let mut slope_rates = Array::<F>::new(layout.unroll);
    for i in range_stepped(UNIT_POS_X as usize, count, layout.units) {
        let h = i % layout.hidden;
        let first = (i / layout.hidden) * layout.unroll;
        let bias = inputs.hidden_bias[h];
        let mut bias_rate = F::new(0.0);
        if comptime!(config.varied) {
            bias_rate = direction.as_ref().unwrap().hidden_bias[h];
        }
        #[unroll]
        for j in 0..layout.unroll {
            sums[j] = bias;
            slopes[j] = F::new(0.0);
            rates[j] = bias_rate;
            slope_rates[j] = F::new(0.0);
        }
        for k in 0..layout.n_basis {
            let weight = inputs.hidden_weights[k * layout.hidden + h];
            let mut weight_rate = F::new(0.0);
            if comptime!(config.varied) {
                weight_rate = direction.as_ref().unwrap().hidden_weights[k * layout.hidden + h];
            }
            #[unroll]
            for j in 0..layout.unroll {
                let at = basis_at(k, first + j, layout);
                sums[j] += tile.values.floats[at] * weight;
                if comptime!(config.edges) {
                    slopes[j] += tile.slope(at, config) * weight;
                }
                if comptime!(config.rates) {
                    rates[j] += tile.rate(at, config) * weight;
                }
                if comptime!(config.edges && config.rates) {
                    slope_rates[j] += tile.slope_rate(at, config) * weight;
                }
                if comptime!(config.varied) {
                    rates[j] += tile.values.floats[at] * weight_rate;
                }
                if comptime!(config.varied && config.edges) {
                    slope_rates[j] += tile.slope(at, config) * weight_rate;
                }
            }
        }
        #[unroll]
        for j in 0..layout.unroll {
            let at = hidden_at(h, first + j, layout);
            let to = at - comptime!(config.before_derivatives());
            let (value, slope, curve) = activation::<F>(sums[j], layout);
            let slope_rate = curve * rates[j];
            if comptime!(config.kernel == Kernel::FirstMap) {
                tile.values.floats[at] = slope;
                if comptime!(config.rates) {
                    tile.derivatives[to + comptime!(config.rates_at())] = slope_rate;
                }
            } else {
                tile.values.floats[at] = value;
                if comptime!(config.edges) {
                    tile.derivatives[to] = slope * slopes[j];
                }
                if comptime!(config.rates) {
                    tile.derivatives[to + comptime!(config.rates_at())] = slope * rates[j];
                }
                if comptime!(config.edges && config.rates) {
                    tile.derivatives[to + comptime!(config.slope_rates_at())] =
                        slope_rate * slopes[j] + slope * slope_rates[j];
                }
            }
        }
    }
}

/// The place of input `k` of the filter's last map for edge `e` of this unit's group.
#[cube]
pub fn coefficient_at(k: usize, e: usize, #[comptime] config: CubeConfig) -> usize {
    if comptime!(config.hidden > 0) { hidden_at(k, e, config) } else { basis_at(k, e, config) }
}
