//! What the units of a group sum of an edge: gradients in its sender and in its vector.

use cubecl::prelude::*;

use super::super::config::{BackwardConfig, Kernel};
use super::super::filter::{Edge, Filters};
use super::super::slopes::SlopeTile;
use super::super::tile::{Sums, slot};

/// Adds the gradients of an edge, or their rates, whose filter is `i`, `unroll + i`, …, to the sums of its sender.
#[cube]
pub fn add_to_sender<F: Float, N: Size>(
    edge: &Edge<F, N>,
    filters: &Filters<F, N>,
    sums: &mut Sums<F, N>,
    #[comptime] i: usize,
    #[comptime] config: BackwardConfig,
) {
    #[unroll]
    for p in 0..config.parts {
        let j = comptime!(p * config.tile.unroll + i);
        if comptime!(config.rates) {
            sums.value[p] += edge.product[p] * filters.rate[j];
            if comptime!(p > 0) {
                sums.value[p] += edge.product_rate[p] * filters.value[j];
            }
        } else {
            sums.value[p] += edge.product[p] * filters.value[j];
        }
    }
    if comptime!(config.parts == 3) {
        let j = comptime!(2 * config.tile.unroll + i);
        let mut w_mu = edge.weighted(filters, 2usize, j);
        if comptime!(config.rates) {
            w_mu = edge.weighted_rate(filters, 2usize, j);
        }
        #[unroll]
        for x in 0..3usize {
            sums.value[comptime!(3 + x)] += w_mu * edge.receiver[comptime!(1 + x)];
        }
    }
}

/// What a unit's channels of an edge add to the gradients in d and in the axes of u, and to their rates.
#[cube]
pub fn sum_channels<F: Float, N: Size>(
    edge: &Edge<F, N>,
    filters: &Filters<F, N>,
    by_edge: &mut Array<Vector<F, N>>,
    #[comptime] i: usize,
    #[comptime] config: BackwardConfig,
) {
    let rates = comptime!(config.receiver_vectors());
    #[unroll]
    for q in 0..config.edge_sums() {
        by_edge[q] = Vector::new(F::new(0.0));
    }
    #[unroll]
    for p in 0..config.parts {
        let j = comptime!(p * config.tile.unroll + i);
        by_edge[0] += edge.by_filter(p) * filters.slope[j];
        if comptime!(config.rates) {
            by_edge[rates] += edge.by_filter_rate(p) * filters.slope[j] + edge.by_filter(p) * filters.slope_rate[j];
        }
    }
    if comptime!(config.parts == 3) {
        let j = comptime!(config.tile.unroll + i);
        #[unroll]
        for x in 0..3usize {
            let g = edge.receiver[comptime!(1 + x)];
            by_edge[comptime!(1 + x)] = edge.weighted(filters, 1usize, j) * g;
            if comptime!(config.rates) {
                by_edge[comptime!(rates + 1 + x)] = edge.weighted_rate(filters, 1usize, j) * g;
            }
        }
    }
}

/// Writes what this unit's channels add for edge `i` of `unroll`, nothing for a unit without channels of its own.
#[cube]
pub fn store_sums_of_unit<F: Float, N: Size>(
    by_edge: &Array<Vector<F, N>>,
    tile: &mut SlopeTile<F>,
    has_own: bool,
    #[comptime] i: usize,
    #[comptime] config: BackwardConfig,
) {
    #[unroll]
    for q in 0..config.edge_sums() {
        let sum = sum_of_lanes::<F, N>(by_edge[q]);
        tile.unit_sums[unit_row(comptime!(i * config.edge_sums() + q), config) + UNIT_POS_X as usize] =
            select(has_own, sum, F::new(0.0));
    }
}

/// The sum over the lanes of a vector.
#[cube]
pub fn sum_of_lanes<F: Float, N: Size>(vector: Vector<F, N>) -> F {
    let lanes = vector.size().comptime();
    let mut sum = vector[0];
    #[unroll]
    for lane in 1..lanes {
        sum += vector[lane];
    }
    sum
}

/// Where sum `q` of this group's units begins.
#[cube]
pub fn unit_row(q: usize, #[comptime] config: BackwardConfig) -> usize {
    let rows = comptime!(config.tile.unroll * config.edge_sums());
    (UNIT_POS_Y as usize * rows + q) * comptime!(config.unit_stride())
}

/// Sums over the units of a group for `unroll` edges from `e` on.
#[cube]
pub fn sum_units<F: Float>(tile: &mut SlopeTile<F>, e: usize, #[comptime] config: BackwardConfig) {
    let layout = comptime!(config.tile);
    let count = comptime!(layout.unroll * config.edge_sums());
    let step = comptime!(config.stride_of_sum());
    for q in range_stepped(UNIT_POS_X as usize, count, layout.units) {
        let from = unit_row(q, config);
        let mut sum = F::new(0.0);
        for x in range_stepped(0usize, layout.units, step) {
            #[unroll]
            for i in 0..step {
                sum += tile.unit_sums[from + x + i];
            }
        }
        tile.edge_sums[slot(e, layout) * comptime!(config.edge_sums()) + q] = sum;
    }
}

/// Gradients in edge vectors, or their rates, from what the channels of each edge have summed; every block but the first adds
/// its own. `list` names the edges for `senders`; for `edges` places are edges.
#[cube]
pub fn store_edges<F: Float>(
    tile: &SlopeTile<F>,
    list: &Array<u32>,
    out_edges: &mut Array<F>,
    first: usize,
    end: usize,
    block: usize,
    #[comptime] config: BackwardConfig,
) {
    let layout = comptime!(config.tile);
    let plane = comptime!(layout.plane());
    let rates = comptime!(config.receiver_vectors());
    for e in range_stepped(UNIT_POS_X as usize, layout.edges_per_tile, layout.units) {
        if first + e < end {
            let at = slot(e, layout);
            let sums = at * comptime!(config.edge_sums());
            let mut to = (first + e) * 3;
            if comptime!(config.kernel == Kernel::Senders) {
                to = list[first + e] as usize * 3;
            }
            let by_d = tile.edge_sums[sums];
            let mut along = F::new(0.0);
            let mut along_rate = F::new(0.0);
            let mut inverse = F::new(0.0);
            if comptime!(config.parts == 3) {
                #[unroll]
                for x in 0..3usize {
                    let u = tile.values.floats[comptime!(layout.u() + x * plane) + at];
                    let by_u = tile.edge_sums[sums + comptime!(1 + x)];
                    along += u * by_u;
                    if comptime!(config.rates) {
                        along_rate += tile.motion(at, comptime!(1 + x), config) * by_u
                            + u * tile.edge_sums[sums + comptime!(rates + 1 + x)];
                    }
                }
                let d = tile.values.floats[at];
                if d > F::new(0.0) {
                    inverse = F::new(1.0) / d;
                }
            }
            #[unroll]
            for x in 0..3usize {
                let u = tile.values.floats[comptime!(layout.u() + x * plane) + at];
                let mut gradient = u * by_d;
                let mut across = F::new(0.0);
                if comptime!(config.parts == 3) {
                    across = (tile.edge_sums[sums + comptime!(1 + x)] - u * along) * inverse;
                }
                if comptime!(config.rates) {
                    let u_rate = tile.motion(at, comptime!(1 + x), config);
                    gradient = u_rate * by_d + u * tile.edge_sums[sums + rates];
                    if comptime!(config.parts == 3) {
                        let by_u_rate = tile.edge_sums[sums + comptime!(rates + 1 + x)];
                        let d_rate = tile.motion(at, 0usize, config);
                        across = (by_u_rate - u_rate * along - u * along_rate - across * d_rate) * inverse;
                    }
                }
                gradient += across;
                if block > 0 {
                    gradient += out_edges[to + x];
                }
                out_edges[to + x] = gradient;
            }
        }
    }
}
