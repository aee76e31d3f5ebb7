//! The first backward's walk over tiles of edges, which adds atomically.

use cubecl::prelude::*;

use super::super::config::BackwardConfig;
use super::super::fill::fill_tile;
use super::super::filter::{Edge, Filters};
use super::super::slopes::{Along, Cotangents, SlopeTile};
use super::super::tile::{Inputs, Sums, clear, global_group, slot};
use super::sums::{add_to_sender, store_edges, store_sums_of_unit, sum_channels, sum_units};

/// The first backward's gradients in what the senders send, added atomically, and in the edge vectors; one group of units per
/// tile of edges.
#[cube(launch_unchecked, explicit_define)]
pub fn edges<F: Float, N: Size>(
    inputs: &Inputs<F, N>,
    grad: &Cotangents<F, N>,
    direction: &Along<F, N>,
    out_nodes: &mut Array<Atomic<Vector<F, N>>>,
    out_vectors: &mut Array<Atomic<Vector<F, N>>>,
    out_edges: &mut Array<F>,
    #[comptime] config: BackwardConfig,
    #[define(F)] _real: cubecl::ir::StorageType,
    #[define(N)] _lanes: usize,
) {
    let layout = comptime!(config.tile);
    let features = inputs.features as usize;
    let n_edges = inputs.row_ptr[inputs.n_atoms as usize] as usize;
    let group = global_group(layout);
    let first = group * layout.edges_per_tile;
    let mut tile = SlopeTile::<F>::new(config);
    let mut edge = Edge::<F, N>::new(config);
    let mut filters = Filters::<F, N>::new(config);
    let mut by_edge = Array::<Vector<F, N>>::new(comptime!(config.edge_sums()));
    fill_tile::<F, N>(inputs, direction, &inputs.sender, &mut tile, first, n_edges, config);
    // Of the first group of the cube, which has the most: alike for all units, as they synchronise.
    let first_of_cube = (group - UNIT_POS_Y as usize) * layout.edges_per_tile;
    let left = min(max(n_edges, first_of_cube) - first_of_cube, layout.edges_per_tile);
    let blocks = (features + comptime!(layout.units - 1)) / layout.units;
    for block in 0..blocks {
        let own = block * layout.units + UNIT_POS_X as usize;
        let has_own = own < features;
        // A unit without channels of its own computes another's and adds nothing.
        let c = own % features;
        for e in range_stepped(0usize, left, layout.unroll) {
            filters.apply(inputs, direction, &tile, e, c, config);
            #[unroll]
            for i in 0..layout.unroll {
                let at = slot(e + i, layout);
                edge.load_sender(inputs, direction, tile.values.indices[at] as usize, c, config);
                edge.load_receiver(grad, &tile, at, c, 1usize, config);
                if comptime!(config.nodes) {
                    add_to_atom::<F, N>(
                        inputs,
                        &edge,
                        &filters,
                        &tile,
                        out_nodes,
                        out_vectors,
                        at,
                        c,
                        has_own,
                        i,
                        config,
                    );
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
            store_edges::<F>(&tile, &inputs.sender, out_edges, first, n_edges, block, config);
        }
        // The next block overwrites what is being read here.
        sync_cube();
    }
}

/// Adds what the edge in slot `at` owes its sender for the vector of channels `c`, or zero for a unit without channels of its own.
///
/// A slot without an edge has f_c = 0 and adds nothing. Mesa's software Vulkan (22.3) loses the atomics of a whole cube one of
/// whose planes is idle, so where groups share a cube such a slot adds zero instead, each group to another atom.
#[cube]
#[allow(clippy::too_many_arguments, reason = "what a unit holds")]
fn add_to_atom<F: Float, N: Size>(
    inputs: &Inputs<F, N>,
    edge: &Edge<F, N>,
    filters: &Filters<F, N>,
    tile: &SlopeTile<F>,
    out_nodes: &mut Array<Atomic<Vector<F, N>>>,
    out_vectors: &mut Array<Atomic<Vector<F, N>>>,
    at: usize,
    c: usize,
    has_own: bool,
    #[comptime] i: usize,
    #[comptime] config: BackwardConfig,
) {
    let layout = comptime!(config.tile);
    let features = inputs.features as usize;
    let zero = Vector::<F, N>::new(F::new(0.0));
    let mut sender = tile.values.indices[at] as usize;
    let mut adds = true;
    if tile.values.floats[comptime!(layout.f_c()) + at] == F::new(0.0) {
        sender = global_group(layout) % inputs.n_atoms as usize;
        adds = comptime!(layout.groups > 1).runtime();
    }
    if adds {
        let mut sums = Sums::<F, N> { value: Array::new(comptime!(config.sender_vectors())) };
        clear::<F, N>(&mut sums, comptime!(config.sender_vectors()));
        add_to_sender::<F, N>(edge, filters, &mut sums, i, config);
        #[unroll]
        for p in 0..config.parts {
            let to = (sender * config.parts + p) * features + c;
            out_nodes[to].fetch_add(select(has_own, sums.value[p], zero));
        }
        #[unroll]
        for p in config.parts..config.sender_vectors() {
            let to = (sender * 3 + comptime!(p - config.parts)) * features + c;
            out_vectors[to].fetch_add(select(has_own, sums.value[p], zero));
        }
    }
}
