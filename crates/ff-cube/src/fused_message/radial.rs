//! Filling a tile with cutoffs and basis values. Radial functions are comptime data, so one kernel serves all of them.

use cubecl::prelude::*;

use super::config::{BackwardConfig, CubeConfig};
use super::slopes::SlopeTile;
use super::tile::{Inputs, Tile, basis_at, slot};
use crate::generated::{basis, cutoff, store_basis};

/// Fills the planes f_c and basis of a loaded tile.
#[cube]
pub fn fill_values<F: Float, N: Size>(inputs: &Inputs<F, N>, tile: &mut Tile<F>, #[comptime] config: CubeConfig) {
    let function = comptime!(config.cutoff_function());
    let r_c = inputs.radial[0];
    for e in range_stepped(UNIT_POS_X as usize, config.edges_per_tile, config.units) {
        let at = slot(e, config);
        // The slot holds 1 for an edge and 0 for none, written by this same unit.
        let f_c = cutoff::<F>(tile.floats[at], r_c, &inputs.radial, function, 0usize);
        tile.floats[comptime!(config.f_c()) + at] *= f_c;
    }
    let count = comptime!(config.n_basis * config.edges_per_tile);
    for i in range_stepped(UNIT_POS_X as usize, count, config.units) {
        let k = i / config.edges_per_tile;
        let e = i % config.edges_per_tile;
        let d = tile.floats[slot(e, config)];
        let index = F::cast_from(k + 1);
        store_basis::<F>(tile, &inputs.radial, d, r_c, index, k, e, config);
    }
}

/// Fills the planes f_c and basis of a loaded tile, and their derivatives as far as the kernel has them.
#[cube]
pub fn fill<F: Float, N: Size>(inputs: &Inputs<F, N>, tile: &mut SlopeTile<F>, #[comptime] config: BackwardConfig) {
    let layout = comptime!(config.tile);
    let function = comptime!(layout.cutoff_function());
    let r_c = inputs.radial[0];
    for e in range_stepped(UNIT_POS_X as usize, layout.edges_per_tile, layout.units) {
        let at = slot(e, layout);
        let d = tile.values.floats[at];
        // 1 for an edge and 0 for none, written by this same unit.
        let inside = tile.values.floats[comptime!(layout.f_c()) + at];
        tile.values.floats[comptime!(layout.f_c()) + at] =
            inside * cutoff::<F>(d, r_c, &inputs.radial, function, 0usize);
        let of = comptime!(config.before_derivatives()) + at;
        if comptime!(config.edges || config.rates) {
            tile.store_slope(inside * cutoff::<F>(d, r_c, &inputs.radial, function, 1usize), of, e, config);
        }
        if comptime!(config.edges && config.rates) {
            tile.store_curve(inside * cutoff::<F>(d, r_c, &inputs.radial, function, 2usize), of, e, config);
        }
    }
    let function = comptime!(layout.basis_function());
    let count = comptime!(layout.n_basis * layout.edges_per_tile);
    let step = comptime!(layout.n_basis);
    for i in range_stepped(UNIT_POS_X as usize, count, layout.units) {
        let k = i / layout.edges_per_tile;
        let e = i % layout.edges_per_tile;
        let d = tile.values.floats[slot(e, layout)];
        let index = F::cast_from(k + 1);
        let first = comptime!(layout.basis_parameters()) + k;
        let at = basis_at(k, e, layout);
        tile.values.floats[at] = basis::<F>(d, r_c, index, &inputs.radial, first, step, function, 0usize);
        if comptime!(config.edges || config.rates) {
            let slope = basis::<F>(d, r_c, index, &inputs.radial, first, step, function, 1usize);
            tile.store_slope(slope, at, e, config);
        }
        if comptime!(config.edges && config.rates) {
            let curve = basis::<F>(d, r_c, index, &inputs.radial, first, step, function, 2usize);
            tile.store_curve(curve, at, e, config);
        }
    }
}
