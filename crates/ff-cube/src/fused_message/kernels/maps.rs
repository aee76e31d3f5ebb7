//! Gradients in the weights of the filter's maps, summed over parts of the edges.

use cubecl::prelude::*;

use super::super::config::{BackwardConfig, CubeConfig};
use super::super::fill::{coefficient_at, fill_tile};
use super::super::filter::Edge;
use super::super::slopes::{Along, Cotangents, SlopeTile};
use super::super::tile::{Inputs, basis_at, channel, has_channel, hidden_at, slot};
use super::sums::sum_of_lanes;

/// The edges of this unit's part of the list: [first, end).
#[cube]
fn part_of_list<F: Float, N: Size>(inputs: &Inputs<F, N>, part: usize, edges_per_part: usize) -> (usize, usize) {
    let n_edges = inputs.row_ptr[inputs.n_atoms as usize] as usize;
    let first = min(part * edges_per_part, n_edges);
    (first, min(first + edges_per_part, n_edges))
}

/// The part of the edges that this unit's group sums.
#[cube]
fn part_of_group(#[comptime] config: CubeConfig) -> usize {
    CUBE_POS_X as usize * config.groups + UNIT_POS_Y as usize
}

/// The gradient in part `p` of the last map's outputs (0) for the edge in slot `at`, or its rate (1).
#[cube]
fn by_output<F: Float, N: Size>(
    edge: &Edge<F, N>,
    tile: &SlopeTile<F>,
    at: usize,
    #[comptime] p: usize,
    #[comptime] order: usize,
    #[comptime] config: BackwardConfig,
) -> Vector<F, N> {
    let f_c = Vector::new(tile.values.floats[comptime!(config.tile.f_c()) + at]);
    if comptime!(order == 0) {
        f_c * edge.by_filter(p)
    } else {
        let rate = Vector::new(tile.rate(comptime!(config.before_derivatives()) + at, config));
        rate * edge.by_filter(p) + f_c * edge.by_filter_rate(p)
    }
}

/// Reads what the gradients in the filter of slot `at` are made of, for the vector of channels `c`.
#[cube]
fn load_ends<F: Float, N: Size>(
    inputs: &Inputs<F, N>,
    grad: &Cotangents<F, N>,
    direction: &Along<F, N>,
    tile: &SlopeTile<F>,
    edge: &mut Edge<F, N>,
    at: usize,
    c: usize,
    #[comptime] config: BackwardConfig,
) {
    edge.load_sender(inputs, direction, tile.values.indices[at] as usize, c, config);
    edge.load_receiver(grad, tile, at, c, 1usize, config);
}

/// Gradients in the filter's last map, or their rates, summed over parts of the edges; one group of units per part.
///
/// `partials` is [n_parts, depth + 1, C], in vectors; the bias is the last row. `receiver` [n_edges] names the receivers.
#[cube(launch_unchecked, explicit_define)]
pub fn last_map<F: Float, N: Size>(
    inputs: &Inputs<F, N>,
    grad: &Cotangents<F, N>,
    direction: &Along<F, N>,
    receiver: &Array<u32>,
    partials: &mut Array<Vector<F, N>>,
    n_parts: u32,
    edges_per_part: u32,
    #[comptime] config: BackwardConfig,
    #[define(F)] _real: cubecl::ir::StorageType,
    #[define(N)] _lanes: usize,
) {
    let layout = comptime!(config.tile);
    let features = inputs.features as usize;
    let c = channel(features);
    let part = part_of_group(layout);
    let (start, end) = part_of_list::<F, N>(inputs, part, edges_per_part as usize);
    let first_row = CUBE_POS_Z as usize * config.rows;
    let mut tile = SlopeTile::<F>::new(config);
    let mut edge = Edge::<F, N>::new(config);
    let mut sums = Array::<Vector<F, N>>::new(comptime!(config.rows * config.parts));
    #[unroll]
    for i in 0..comptime!(config.rows * config.parts) {
        sums[i] = Vector::new(F::new(0.0));
    }
    let tiles = (edges_per_part as usize + comptime!(layout.edges_per_tile - 1)) / layout.edges_per_tile;
    for t in 0..tiles {
        let first = start + t * layout.edges_per_tile;
        fill_tile::<F, N>(inputs, direction, receiver, &mut tile, first, end, config);
        if first < end {
            for e in 0..min(end - first, layout.edges_per_tile) {
                let at = slot(e, layout);
                load_ends::<F, N>(inputs, grad, direction, &tile, &mut edge, at, c, config);
                #[unroll]
                for p in 0..config.parts {
                    let gradient = by_output::<F, N>(&edge, &tile, at, p, 0usize, config);
                    let mut gradient_rate = gradient;
                    if comptime!(config.rates) {
                        gradient_rate = by_output::<F, N>(&edge, &tile, at, p, 1usize, config);
                    }
                    #[unroll]
                    for r in 0..config.rows {
                        let mut coefficient = F::new(1.0);
                        let mut rate = F::new(0.0);
                        if comptime!(layout.depth > 0) {
                            let inside = first_row + r < layout.depth;
                            let of = coefficient_at(min(first_row + r, layout.depth - 1), e, layout);
                            coefficient = select(inside, tile.values.floats[of], F::new(1.0));
                            if comptime!(config.rates) {
                                rate = select(inside, tile.rate(of, config), F::new(0.0));
                            }
                        }
                        let j = comptime!(r * config.parts + p);
                        sums[j] += gradient_rate * Vector::new(coefficient);
                        if comptime!(config.rates) {
                            sums[j] += gradient * Vector::new(rate);
                        }
                    }
                }
            }
        }
        sync_cube();
    }
    if part < n_parts as usize && has_channel(features) {
        #[unroll]
        for r in 0..config.rows {
            let row = first_row + r;
            if row <= layout.depth {
                #[unroll]
                for p in 0..config.parts {
                    let to = (part * comptime!(layout.depth + 1) + row) * config.parts + p;
                    partials[to * features + c] = sums[comptime!(r * config.parts + p)];
                }
            }
        }
    }
}

/// Gradients in the first map of an `mlp` filter, or their rates, summed over parts of the edges; one group of units per
/// part.
///
/// `partials` is [n_parts, K + 1, H]; the bias is the last row. `receiver` [n_edges] names the receivers.
#[cube(launch_unchecked, explicit_define)]
pub fn first_map<F: Float, N: Size>(
    inputs: &Inputs<F, N>,
    grad: &Cotangents<F, N>,
    direction: &Along<F, N>,
    receiver: &Array<u32>,
    partials: &mut Array<F>,
    n_parts: u32,
    edges_per_part: u32,
    #[comptime] config: BackwardConfig,
    #[define(F)] _real: cubecl::ir::StorageType,
    #[define(N)] _lanes: usize,
) {
    let layout = comptime!(config.tile);
    let rates = comptime!(config.by_hidden());
    let part = part_of_group(layout);
    let (start, end) = part_of_list::<F, N>(inputs, part, edges_per_part as usize);
    let mut tile = SlopeTile::<F>::new(config);
    let mut by_hidden = SharedMemory::<F>::new(comptime!(config.orders() * config.by_hidden()));
    let mut outer = SharedMemory::<Vector<F, N>>::new(comptime!(config.outer()));
    let tiles = (edges_per_part as usize + comptime!(layout.edges_per_tile - 1)) / layout.edges_per_tile;
    for t in 0..tiles {
        let first = start + t * layout.edges_per_tile;
        fill_tile::<F, N>(inputs, direction, receiver, &mut tile, first, end, config);
        hidden_gradients::<F, N>(inputs, grad, direction, &tile, &mut outer, &mut by_hidden, config);
        if part < n_parts as usize {
            let count = comptime!((layout.n_basis + 1) * layout.hidden);
            for i in range_stepped(UNIT_POS_X as usize, count, layout.units) {
                let k = i / layout.hidden;
                let h = i % layout.hidden;
                let mut sum = F::new(0.0);
                #[unroll]
                for e in 0..layout.edges_per_tile {
                    let at = hidden_at(h, e, layout);
                    let from = at - comptime!(layout.hidden_layer());
                    let slope = tile.values.floats[at];
                    let gradient = slope * by_hidden[from];
                    let mut value = F::new(1.0);
                    let mut rate = F::new(0.0);
                    if k < layout.n_basis {
                        let of = basis_at(k, e, layout);
                        value = tile.values.floats[of];
                        if comptime!(config.rates) {
                            rate = tile.rate(of, config);
                        }
                    }
                    if comptime!(config.rates) {
                        let gradient_rate = slope * by_hidden[from + rates] + tile.rate(at, config) * by_hidden[from];
                        sum += value * gradient_rate + rate * gradient;
                    } else {
                        sum += value * gradient;
                    }
                }
                let to = part * count + i;
                // One unit owns an element: no other reads or writes it.
                if t > 0 {
                    sum += partials[to];
                }
                partials[to] = sum;
            }
        }
        // The next tile overwrites what is being read here.
        sync_cube();
    }
}

/// Gradients in the values of a tile's hidden layer, and their rates: those in the last map's outputs, times its weights, a
/// block of channels and `unroll` edges at a time.
#[cube]
fn hidden_gradients<F: Float, N: Size>(
    inputs: &Inputs<F, N>,
    grad: &Cotangents<F, N>,
    direction: &Along<F, N>,
    tile: &SlopeTile<F>,
    outer: &mut SharedMemory<Vector<F, N>>,
    by_hidden: &mut SharedMemory<F>,
    #[comptime] config: BackwardConfig,
) {
    let layout = comptime!(config.tile);
    let orders = comptime!(config.orders());
    let features = inputs.features as usize;
    let columns = features * config.parts;
    let mut edge = Edge::<F, N>::new(config);
    let mut sums = Array::<Vector<F, N>>::new(comptime!(layout.unroll * orders));
    for block in 0..(features + comptime!(layout.units - 1)) / layout.units {
        let first = block * layout.units;
        let c = (first + UNIT_POS_X as usize) % features;
        for e in range_stepped(0usize, layout.edges_per_tile, layout.unroll) {
            #[unroll]
            for i in 0..layout.unroll {
                let at = slot(e + i, layout);
                load_ends::<F, N>(inputs, grad, direction, tile, &mut edge, at, c, config);
                #[unroll]
                for p in 0..config.parts {
                    #[unroll]
                    for order in 0..orders {
                        outer[outer_at(i, p, order, config) + UNIT_POS_X as usize] =
                            by_output::<F, N>(&edge, tile, at, p, order, config);
                    }
                }
            }
            sync_cube();
            let width = min(features - first, layout.units);
            for h in range_stepped(UNIT_POS_X as usize, layout.hidden, layout.units) {
                #[unroll]
                for i in 0..comptime!(layout.unroll * orders) {
                    sums[i] = Vector::new(F::new(0.0));
                }
                for x in 0..width {
                    #[unroll]
                    for p in 0..config.parts {
                        let column = h * columns + p * features + first + x;
                        let weight = inputs.weights[column];
                        let mut weight_rate = weight;
                        if comptime!(config.varied) {
                            weight_rate = direction.as_ref().unwrap().weights[column];
                        }
                        #[unroll]
                        for i in 0..layout.unroll {
                            #[unroll]
                            for order in 0..orders {
                                sums[comptime!(i * orders + order)] +=
                                    weight * outer[outer_at(i, p, order, config) + x];
                            }
                            if comptime!(config.varied) {
                                sums[comptime!(i * orders + 1)] +=
                                    weight_rate * outer[outer_at(i, p, 0usize, config) + x];
                            }
                        }
                    }
                }
                #[unroll]
                for i in 0..layout.unroll {
                    #[unroll]
                    for order in 0..orders {
                        let to = hidden_at(h, e + i, layout) - comptime!(layout.hidden_layer())
                            + comptime!(order * config.by_hidden());
                        let mut sum = sum_of_lanes::<F, N>(sums[comptime!(i * orders + order)]);
                        // Written by this same unit.
                        if block > 0 {
                            sum += by_hidden[to];
                        }
                        by_hidden[to] = sum;
                    }
                }
            }
            sync_cube();
        }
    }
}

/// Where the units' vectors of part `p` of edge `i` of a pass begin, those of the gradients (0) or of their rates (1).
#[cube]
fn outer_at(
    #[comptime] i: usize,
    #[comptime] p: usize,
    #[comptime] order: usize,
    #[comptime] config: BackwardConfig,
) -> usize {
    let edges = comptime!(config.tile.unroll * config.parts);
    (UNIT_POS_Y as usize * edges + comptime!(order * config.tile.groups * edges + i * config.parts + p))
        * config.tile.units
}
