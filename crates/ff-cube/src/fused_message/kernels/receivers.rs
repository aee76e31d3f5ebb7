//! The second backward's walk by receiver.

use cubecl::prelude::*;

use super::super::config::BackwardConfig;
use super::super::fill::fill_tile;
use super::super::filter::{Edge, Filters};
use super::super::slopes::{Along, SlopeTile};
use super::super::tile::{Inputs, Sums, channel, clear, global_group, has_channel, slot, store_row, tiles_of_cube};

/// Rates of the outputs of the forward; one group of units per receiver and block of channels.
#[cube(launch_unchecked, explicit_define)]
pub fn receivers<F: Float, N: Size>(
    inputs: &Inputs<F, N>,
    direction: &Along<F, N>,
    out_nodes: &mut Array<Vector<F, N>>,
    out_vectors: &mut Array<Vector<F, N>>,
    #[comptime] config: BackwardConfig,
    #[define(F)] _real: cubecl::ir::StorageType,
    #[define(N)] _lanes: usize,
) {
    let layout = comptime!(config.tile);
    let features = inputs.features as usize;
    let c = channel(features);
    let row = global_group(layout);
    let owned = row < inputs.n_atoms as usize;
    let mut start = 0usize;
    let mut end = 0usize;
    if owned {
        start = inputs.row_ptr[row] as usize;
        end = inputs.row_ptr[row + 1] as usize;
    }
    let mut tile = SlopeTile::<F>::new(config);
    let mut edge = Edge::<F, N>::new(config);
    let mut sums = Sums::<F, N> { value: Array::new(comptime!(config.receiver_vectors())) };
    let mut filters = Filters::<F, N>::new(config);
    clear::<F, N>(&mut sums, comptime!(config.receiver_vectors()));
    for t in 0..tiles_of_cube::<F, N>(inputs, layout) {
        let first = start + t * layout.edges_per_tile;
        fill_tile::<F, N>(inputs, direction, &inputs.sender, &mut tile, first, end, config);
        if first < end {
            for e in range_stepped(0usize, min(end - first, layout.edges_per_tile), layout.unroll) {
                filters.apply(inputs, direction, &tile, e, c, config);
                #[unroll]
                for i in 0..layout.unroll {
                    let at = slot(e + i, layout);
                    edge.load_sender(inputs, direction, tile.values.indices[at] as usize, c, config);
                    add_to_receiver::<F, N>(&edge, &filters, &tile, &mut sums, at, i, config);
                }
            }
        }
        // The next tile overwrites what is being read here.
        sync_cube();
    }
    if owned && has_channel(features) {
        store_row::<F, N>(&sums, out_nodes, out_vectors, row, features, comptime!(config.receiver_vectors()));
    }
}

/// Adds the rate of an edge's message, whose filter is `i`, `unroll + i`, …, to the sums of its receiver.
#[cube]
fn add_to_receiver<F: Float, N: Size>(
    edge: &Edge<F, N>,
    filters: &Filters<F, N>,
    tile: &SlopeTile<F>,
    sums: &mut Sums<F, N>,
    at: usize,
    #[comptime] i: usize,
    #[comptime] config: BackwardConfig,
) {
    let layout = comptime!(config.tile);
    sums.value[0] += edge.weighted_rate(filters, 0usize, i);
    if comptime!(config.parts == 3) {
        let (j_r, j_mu) = comptime!((layout.unroll + i, 2 * layout.unroll + i));
        let w_r = edge.weighted(filters, 1usize, j_r);
        let w_mu = edge.weighted(filters, 2usize, j_mu);
        let w_r_rate = edge.weighted_rate(filters, 1usize, j_r);
        let w_mu_rate = edge.weighted_rate(filters, 2usize, j_mu);
        #[unroll]
        for x in 0..3usize {
            let u = Vector::new(tile.values.floats[comptime!(layout.u() + x * layout.plane()) + at]);
            let u_rate = Vector::new(tile.motion(at, comptime!(1 + x), config));
            sums.value[comptime!(1 + x)] += w_r_rate * u
                + w_r * u_rate
                + w_mu_rate * edge.sender[comptime!(3 + x)]
                + w_mu * edge.sender_rate[comptime!(3 + x)];
        }
    }
}
