//! The backward's walk by sender.

use cubecl::prelude::*;

use super::super::config::BackwardConfig;
use super::super::fill::fill_tile;
use super::super::filter::{Edge, Filters};
use super::super::slopes::{Along, Cotangents, SlopeTile};
use super::super::tile::{Inputs, Sums, clear, global_group, longest_row, slot};
use super::sums::{add_to_sender, store_edges, store_sums_of_unit, sum_channels, sum_units};

/// The first backward's gradients in what the senders send, and in the edge vectors, or the second's rates of them; one group
/// of units per sender.
///
/// `inputs` holds the list by sender: `row_ptr` is that of the senders, and `sender` names the receiver of each edge.
/// `transpose` [n_edges] has the edges of the senders one after another.
#[cube(launch_unchecked, explicit_define)]
pub fn senders<F: Float, N: Size>(
    inputs: &Inputs<F, N>,
    grad: &Cotangents<F, N>,
    direction: &Along<F, N>,
    transpose: &Array<u32>,
    out_nodes: &mut Array<Vector<F, N>>,
    out_vectors: &mut Array<Vector<F, N>>,
    out_edges: &mut Array<F>,
    #[comptime] config: BackwardConfig,
    #[define(F)] _real: cubecl::ir::StorageType,
    #[define(N)] _lanes: usize,
) {
    let layout = comptime!(config.tile);
    let features = inputs.features as usize;
    let row = global_group(layout);
    let owned = row < inputs.n_atoms as usize;
    let mut start = 0usize;
    let mut end = 0usize;
    let mut sender = 0usize;
    if owned {
        start = inputs.row_ptr[row] as usize;
        end = inputs.row_ptr[row + 1] as usize;
        sender = row;
    }
    let mut tile = SlopeTile::<F>::new(config);
    let mut edge = Edge::<F, N>::new(config);
    let mut sums = Sums::<F, N> { value: Array::new(comptime!(config.sender_vectors())) };
    let mut filters = Filters::<F, N>::new(config);
    let mut by_edge = Array::<Vector<F, N>>::new(comptime!(config.edge_sums()));
    let longest = longest_row::<F, N>(inputs, layout);
    let tiles = (longest + comptime!(layout.edges_per_tile - 1)) / layout.edges_per_tile;
    let blocks = (features + comptime!(layout.units - 1)) / layout.units;
    for block in 0..blocks {
        let own = block * layout.units + UNIT_POS_X as usize;
        let has_own = own < features;
        // A unit without channels of its own computes another's and adds nothing.
        let c = own % features;
        edge.load_sender(inputs, direction, sender, c, config);
        clear::<F, N>(&mut sums, comptime!(config.sender_vectors()));
        for t in 0..tiles {
            let first = start + t * layout.edges_per_tile;
            fill_tile::<F, N>(inputs, direction, transpose, &mut tile, first, end, config);
            // Alike for all units of the cube, as they synchronise.
            let left = min(longest - t * layout.edges_per_tile, layout.edges_per_tile);
            for e in range_stepped(0usize, left, layout.unroll) {
                filters.apply(inputs, direction, &tile, e, c, config);
                #[unroll]
                for i in 0..layout.unroll {
                    let at = slot(e + i, layout);
                    edge.load_receiver(grad, &tile, at, c, 0usize, config);
                    if comptime!(config.nodes) {
                        add_to_sender::<F, N>(&edge, &filters, &mut sums, i, config);
                    }
                    if comptime!(config.edges) {
                        sum_channels::<F, N>(&edge, &filters, &mut by_edge, i, config);
                        store_sums_of_unit::<F, N>(&by_edge, &mut tile, has_own, i, config);
                    }
                }
                if comptime!(config.edges) {
                    sync_cube();
                    sum_units::<F>(&mut tile, e, config);
                    sync_cube();
                }
            }
            if comptime!(config.edges) {
                store_edges::<F>(&tile, transpose, out_edges, first, end, block, config);
            }
            // The next tile overwrites what is being read here.
            sync_cube();
        }
        if owned && has_own {
            store_sender::<F, N>(&sums, out_nodes, out_vectors, row, c, features, config);
        }
    }
}

/// Writes the sums of one sender, where gradients in node features are computed: their only writer.
#[cube]
fn store_sender<F: Float, N: Size>(
    sums: &Sums<F, N>,
    out_nodes: &mut Array<Vector<F, N>>,
    out_vectors: &mut Array<Vector<F, N>>,
    row: usize,
    c: usize,
    features: usize,
    #[comptime] config: BackwardConfig,
) {
    if comptime!(config.nodes) {
        #[unroll]
        for p in 0..config.parts {
            out_nodes[(row * config.parts + p) * features + c] = sums.value[p];
        }
        #[unroll]
        for p in config.parts..config.sender_vectors() {
            out_vectors[(row * 3 + comptime!(p - config.parts)) * features + c] = sums.value[p];
        }
    }
}
