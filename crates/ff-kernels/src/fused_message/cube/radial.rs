//! Radial functions as types, for kernels that are generic over them.

use cubecl::prelude::*;

use super::backward::{BackwardConfig, SlopeTile};
use super::{Inputs, basis_at, slot};
use crate::fused_message::host::{InTable, Pair};

/// A radial basis φ_k(d); generated code implements it. Parameter p of φ_k lies at `first + p·step` of `radial`.
#[cube]
pub trait Basis: Send + Sync + 'static {
    /// φ_k(d).
    fn value<F: Float>(d: F, r_c: F, k: F, radial: &Array<F>, first: usize, #[comptime] step: usize) -> F;
    /// φ_k′(d).
    fn slope<F: Float>(d: F, r_c: F, k: F, radial: &Array<F>, first: usize, #[comptime] step: usize) -> F;
    /// φ_k″(d).
    fn curve<F: Float>(d: F, r_c: F, k: F, radial: &Array<F>, first: usize, #[comptime] step: usize) -> F;
}

/// A cutoff function f_c(d) for d < r_c; generated code implements it. Its parameters follow r_c in `radial`.
#[cube]
pub trait Cutoff: Send + Sync + 'static {
    /// f_c(d).
    fn value<F: Float>(d: F, r_c: F, radial: &Array<F>) -> F;
    /// f_c′(d).
    fn slope<F: Float>(d: F, r_c: F, radial: &Array<F>) -> F;
    /// f_c″(d).
    fn curve<F: Float>(d: F, r_c: F, radial: &Array<F>) -> F;
}

/// How a variant fills a loaded tile with cutoffs and basis values, and with their derivatives where the kernel has any.
#[cube]
pub trait Radial: Send + Sync + 'static {
    /// Fills the planes f_c and basis, and their derivatives.
    fn fill<F: Float, N: Size>(inputs: &Inputs<F, N>, tile: &mut SlopeTile<F>, #[comptime] config: BackwardConfig);
}

#[cube]
impl<B: Basis, C: Cutoff> Radial for Pair<B, C> {
    fn fill<F: Float, N: Size>(inputs: &Inputs<F, N>, tile: &mut SlopeTile<F>, #[comptime] config: BackwardConfig) {
        let layout = comptime!(config.tile);
        let r_c = inputs.radial[0];
        for e in range_stepped(UNIT_POS_X as usize, layout.edges_per_tile, layout.units) {
            let at = slot(e, layout);
            let d = tile.values.floats[at];
            // 1 for an edge and 0 for none, written by this same unit.
            let inside = tile.values.floats[comptime!(layout.f_c()) + at];
            tile.values.floats[comptime!(layout.f_c()) + at] = inside * C::value::<F>(d, r_c, &inputs.radial);
            let of = comptime!(config.before_derivatives()) + at;
            if comptime!(config.edges || config.rates) {
                tile.store_slope(inside * C::slope::<F>(d, r_c, &inputs.radial), of, e, config);
            }
            if comptime!(config.edges && config.rates) {
                tile.store_curve(inside * C::curve::<F>(d, r_c, &inputs.radial), of, e, config);
            }
        }
        let count = comptime!(layout.n_basis * layout.edges_per_tile);
        let step = comptime!(layout.n_basis);
        for i in range_stepped(UNIT_POS_X as usize, count, layout.units) {
            let k = i / layout.edges_per_tile;
            let e = i % layout.edges_per_tile;
            let d = tile.values.floats[slot(e, layout)];
            let index = F::cast_from(k + 1);
            let first = comptime!(layout.parameter(config.cutoff_parameters, 0)) + k;
            let at = basis_at(k, e, layout);
            tile.values.floats[at] = B::value::<F>(d, r_c, index, &inputs.radial, first, step);
            if comptime!(config.edges || config.rates) {
                tile.store_slope(B::slope::<F>(d, r_c, index, &inputs.radial, first, step), at, e, config);
            }
            if comptime!(config.edges && config.rates) {
                tile.store_curve(B::curve::<F>(d, r_c, index, &inputs.radial, first, step), at, e, config);
            }
        }
    }
}

#[cube]
impl Radial for InTable {
    fn fill<F: Float, N: Size>(_inputs: &Inputs<F, N>, _tile: &mut SlopeTile<F>, #[comptime] _config: BackwardConfig) {}
}
