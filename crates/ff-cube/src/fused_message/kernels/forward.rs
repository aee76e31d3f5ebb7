//! The forward: one kernel per reduction.

use cubecl::prelude::*;

use super::super::config::CubeConfig;
use super::super::radial::fill_values;
use super::super::tile::{
    Inputs, Sums, Tile, basis_at, channel, clear, global_group, has_channel, hermite_weights, hidden_at, hidden_layer,
    load_receivers, load_tile, slot, start_filter, store_row, tiles_of_cube,
};

/// One group of units per receiver row.
#[cube(launch_unchecked, explicit_define)]
pub fn receiver<F: Float, N: Size>(
    inputs: &Inputs<F, N>,
    out_nodes: &mut Array<Vector<F, N>>,
    out_vectors: &mut Array<Vector<F, N>>,
    #[comptime] config: CubeConfig,
    #[define(F)] _real: cubecl::ir::StorageType,
    #[define(N)] _lanes: usize,
) {
    let features = inputs.features as usize;
    let row = global_group(config);
    let owned = row < inputs.n_atoms as usize;
    let mut start = 0usize;
    let mut end = 0usize;
    if owned {
        start = inputs.row_ptr[row] as usize;
        end = inputs.row_ptr[row + 1] as usize;
    }
    let mut tile = Tile::<F>::new(config);
    let mut sums = Sums::<F, N> { value: Array::new(comptime!(config.sums())) };
    let mut filter = Array::<Vector<F, N>>::new(comptime!(config.filters()));
    clear::<F, N>(&mut sums, comptime!(config.sums()));
    for t in 0..tiles_of_cube::<F, N>(inputs, config) {
        let first = start + t * config.edges_per_tile;
        load_tile::<F, N>(inputs, &mut tile, first, end, config);
        sync_cube();
        coefficients::<F, N>(inputs, &mut tile, config);
        sync_cube();
        if first < end && has_channel(features) {
            let count = min(end - first, config.edges_per_tile);
            for e in range_stepped(0usize, count, config.unroll) {
                apply_filter::<F, N>(inputs, &tile, &mut filter, e, config);
                #[unroll]
                for i in 0..config.unroll {
                    let at = slot(e + i, config);
                    add_message::<F, N>(inputs, &tile, &filter, &mut sums, at, i, config);
                }
            }
        }
        // The next tile overwrites what is being read here.
        sync_cube();
    }
    if owned && has_channel(features) {
        store_row::<F, N>(&sums, out_nodes, out_vectors, row, features, comptime!(config.sums()));
    }
}

/// One group of units per tile of edges; each run of edges with one receiver is added atomically.
#[cube(launch_unchecked, explicit_define)]
pub fn edge_atomic<F: Float, N: Size>(
    inputs: &Inputs<F, N>,
    out_nodes: &mut Array<Atomic<Vector<F, N>>>,
    out_vectors: &mut Array<Atomic<Vector<F, N>>>,
    #[comptime] config: CubeConfig,
    #[define(F)] _real: cubecl::ir::StorageType,
    #[define(N)] _lanes: usize,
) {
    let features = inputs.features as usize;
    let n_edges = inputs.row_ptr[inputs.n_atoms as usize] as usize;
    let first = global_group(config) * config.edges_per_tile;
    let mut tile = Tile::<F>::new(config);
    let mut sums = Sums::<F, N> { value: Array::new(comptime!(config.sums())) };
    let mut filter = Array::<Vector<F, N>>::new(comptime!(config.filters()));
    load_tile::<F, N>(inputs, &mut tile, first, n_edges, config);
    load_receivers::<F, N>(inputs, &mut tile, first, n_edges, config);
    sync_cube();
    coefficients::<F, N>(inputs, &mut tile, config);
    sync_cube();
    if first < n_edges {
        clear::<F, N>(&mut sums, comptime!(config.sums()));
        let count = min(n_edges - first, config.edges_per_tile);
        for e in range_stepped(0usize, count, config.unroll) {
            apply_filter::<F, N>(inputs, &tile, &mut filter, e, config);
            #[unroll]
            for i in 0..config.unroll {
                let at = slot(e + i, config);
                if e + i < count {
                    add_message::<F, N>(inputs, &tile, &filter, &mut sums, at, i, config);
                    let row = tile.indices[comptime!(config.plane()) + at];
                    // The slot after the last one exists: a third plane follows.
                    let next = tile.indices[comptime!(config.plane() + 1) + at];
                    if e + i + 1 == count || next != row {
                        add_row::<F, N>(
                            &sums,
                            out_nodes,
                            out_vectors,
                            row as usize,
                            features,
                            comptime!(config.sums()),
                        );
                        clear::<F, N>(&mut sums, comptime!(config.sums()));
                    }
                }
            }
        }
    }
}

/// The coefficients of the filter's last linear map for a loaded tile.
#[cube]
fn coefficients<F: Float, N: Size>(inputs: &Inputs<F, N>, tile: &mut Tile<F>, #[comptime] config: CubeConfig) {
    if comptime!(config.radial.is_some()) {
        fill_values::<F, N>(inputs, tile, config);
    } else {
        hermite_weights::<F, N>(inputs, tile, config);
    }
    if comptime!(config.hidden > 0) {
        sync_cube();
        hidden_layer::<F, N>(inputs, tile, config);
    }
}

/// Adds the message of edge slot `at`, whose filter is `filter[i]` or `filter[i]`, `filter[unroll + i]`, `filter[2·unroll + i]`.
#[cube]
fn add_message<F: Float, N: Size>(
    inputs: &Inputs<F, N>,
    tile: &Tile<F>,
    filter: &Array<Vector<F, N>>,
    sums: &mut Sums<F, N>,
    at: usize,
    #[comptime] i: usize,
    #[comptime] config: CubeConfig,
) {
    if comptime!(config.parts == 1) {
        add_cfconv::<F, N>(inputs, tile, filter, sums, at, i);
    } else {
        add_painn::<F, N>(inputs, tile, filter, sums, at, i, config);
    }
}

/// The filter of `unroll` edges from `e` on, for this unit's channels, into `filter`.
#[cube]
fn apply_filter<F: Float, N: Size>(
    inputs: &Inputs<F, N>,
    tile: &Tile<F>,
    filter: &mut Array<Vector<F, N>>,
    e: usize,
    #[comptime] config: CubeConfig,
) {
    let parts = comptime!(config.parts);
    let features = inputs.features as usize;
    let c = channel(features);
    let columns = features * parts;
    let tabulated = comptime!(config.order > 0);
    start_filter::<F, N>(&inputs.bias, filter, features, c, parts, config);
    for k in 0..config.depth {
        if comptime!(tabulated) {
            #[unroll]
            for i in 0..config.unroll {
                let base = tile.indices[comptime!(2 * config.plane()) + slot(e + i, config)] as usize;
                let row = (base + k) * columns + c;
                let weight = Vector::new(tile.floats[basis_at(k, e + i, config)]);
                #[unroll]
                for part in 0..parts {
                    filter[part * config.unroll + i] += weight * inputs.weights[row + part * features];
                }
            }
        } else {
            #[unroll]
            for part in 0..parts {
                let weight = inputs.weights[k * columns + part * features + c];
                #[unroll]
                for i in 0..config.unroll {
                    if comptime!(config.hidden > 0) {
                        filter[part * config.unroll + i] +=
                            weight * Vector::new(tile.floats[hidden_at(k, e + i, config)]);
                    } else {
                        filter[part * config.unroll + i] +=
                            weight * Vector::new(tile.floats[basis_at(k, e + i, config)]);
                    }
                }
            }
        }
    }
    if comptime!(!tabulated) {
        #[unroll]
        for i in 0..config.unroll {
            let f_c = Vector::new(tile.floats[comptime!(config.f_c()) + slot(e + i, config)]);
            #[unroll]
            for part in 0..parts {
                filter[part * config.unroll + i] *= f_c;
            }
        }
    }
}

/// Adds the `cfconv` message of edge slot `at`, whose filter is `filter[i]`.
#[cube]
fn add_cfconv<F: Float, N: Size>(
    inputs: &Inputs<F, N>,
    tile: &Tile<F>,
    filter: &Array<Vector<F, N>>,
    sums: &mut Sums<F, N>,
    at: usize,
    #[comptime] i: usize,
) {
    let features = inputs.features as usize;
    let from = tile.indices[at] as usize * features + channel(features);
    sums.value[0] += inputs.nodes[from] * filter[i];
}

/// Adds the `painn` message of edge slot `at`, whose filter is `filter[i]`, `filter[unroll + i]`, `filter[2·unroll + i]`.
#[cube]
fn add_painn<F: Float, N: Size>(
    inputs: &Inputs<F, N>,
    tile: &Tile<F>,
    filter: &Array<Vector<F, N>>,
    sums: &mut Sums<F, N>,
    at: usize,
    #[comptime] i: usize,
    #[comptime] config: CubeConfig,
) {
    let features = inputs.features as usize;
    let from = tile.indices[at] as usize * 3 * features + channel(features);
    sums.value[0] += inputs.nodes[from] * filter[i];
    let w_r = inputs.nodes[from + features] * filter[comptime!(config.unroll + i)];
    let w_mu = inputs.nodes[from + 2 * features] * filter[comptime!(2 * config.unroll + i)];
    #[unroll]
    for x in 0..3usize {
        let u = Vector::new(tile.floats[comptime!(config.u() + x * config.plane()) + at]);
        sums.value[1 + x] += w_r * u + w_mu * inputs.vectors[from + x * features];
    }
}

/// Adds the sums of one run of edges to its row.
///
/// A unit without channels of its own adds zero to another's: Mesa's software Vulkan (22.3) loses the atomics of a whole
/// cube one of whose planes is idle, and on hardware a spread-out addition of zero costs next to nothing.
#[cube]
fn add_row<F: Float, N: Size>(
    sums: &Sums<F, N>,
    out_nodes: &mut Array<Atomic<Vector<F, N>>>,
    out_vectors: &mut Array<Atomic<Vector<F, N>>>,
    row: usize,
    features: usize,
    #[comptime] count: usize,
) {
    let c = channel(features);
    let zero = Vector::<F, N>::new(F::new(0.0));
    let own = has_channel(features);
    out_nodes[row * features + c].fetch_add(select(own, sums.value[0], zero));
    #[unroll]
    for x in 1..count {
        let to = (row * 3 + comptime!(x - 1)) * features + c;
        out_vectors[to].fetch_add(select(own, sums.value[x], zero));
    }
}
