//! A tile of edges with the derivatives of its values in d, and their rates in a direction.

use cubecl::prelude::*;

use super::config::BackwardConfig;
use super::tile::{Tile, slot};

/// Gradients in the outputs of the forward.
#[derive(CubeLaunch, CubeType)]
pub struct Cotangents<F: Float, N: Size> {
    /// In `y` or `dq`, [n_atoms, F].
    pub nodes: Array<Vector<F, N>>,
    /// In `dmu`, [n_atoms, 3, F].
    pub vectors: Array<Vector<F, N>>,
    /// F in vectors.
    pub features: u32,
}

/// A direction in the inputs, in the shapes of [`Inputs`]; weights are read where [`BackwardConfig::varied`].
#[derive(CubeLaunch, CubeType)]
pub struct Direction<F: Float, N: Size> {
    /// In `edge_vec`.
    pub edge_vec: Array<F>,
    /// In `x` or `s`.
    pub nodes: Array<Vector<F, N>>,
    /// In `mu`.
    pub vectors: Array<Vector<F, N>>,
    /// In `A` or `A2`.
    pub weights: Array<Vector<F, N>>,
    /// In `b` or `b2`.
    pub bias: Array<Vector<F, N>>,
    /// In `A1`.
    pub hidden_weights: Array<F>,
    /// In `b1`.
    pub hidden_bias: Array<F>,
}

/// The direction of a second backward.
pub type Along<F, N> = ComptimeOption<Direction<F, N>>;

/// A tile of edges with the derivatives of its values.
#[derive(CubeType)]
pub struct SlopeTile<F: Float> {
    /// As in the forward.
    pub values: Tile<F>,
    /// Of f_c, every basis value or Hermite weight and every hidden unit, in the order of the values: slopes in d, then
    /// rates, then rates of slopes, as far as the kernel has them; then the rates of d and u.
    pub derivatives: SharedMemory<F>,
    /// What the units of a group add to the sums of `unroll` edges, [groups, unroll, edge_sums, units + 1].
    pub unit_sums: SharedMemory<F>,
    /// The sums of the tile's edges, [groups, edges_per_tile, edge_sums].
    pub edge_sums: SharedMemory<F>,
}

#[cube]
impl<F: Float> SlopeTile<F> {
    /// Shared memory for a configuration.
    pub fn new(#[comptime] config: BackwardConfig) -> SlopeTile<F> {
        SlopeTile::<F> {
            values: Tile::<F>::new(config.tile),
            derivatives: SharedMemory::<F>::new(comptime!(config.derivatives())),
            unit_sums: SharedMemory::<F>::new(comptime!(config.unit_sums())),
            edge_sums: SharedMemory::<F>::new(comptime!(config.tile_sums())),
        }
    }

    /// The slope in d of the value at `at`.
    pub fn slope(&self, at: usize, #[comptime] config: BackwardConfig) -> F {
        self.derivatives[at - comptime!(config.before_derivatives())]
    }

    /// The rate of the value at `at`.
    pub fn rate(&self, at: usize, #[comptime] config: BackwardConfig) -> F {
        self.derivatives[at - comptime!(config.before_derivatives()) + comptime!(config.rates_at())]
    }

    /// The rate of the slope of the value at `at`.
    pub fn slope_rate(&self, at: usize, #[comptime] config: BackwardConfig) -> F {
        self.derivatives[at - comptime!(config.before_derivatives()) + comptime!(config.slope_rates_at())]
    }

    /// The rate of d (0) or of an axis of u (1, 2, 3) of the edge in slot `at`.
    pub fn motion(&self, at: usize, #[comptime] q: usize, #[comptime] config: BackwardConfig) -> F {
        self.derivatives[comptime!(config.motion() + q * config.tile.plane()) + at]
    }

    /// Stores the slope in d of the value at `at`, of edge `e`, and its rate, as far as the kernel has them.
    pub fn store_slope(&mut self, slope: F, at: usize, e: usize, #[comptime] config: BackwardConfig) {
        let to = at - comptime!(config.before_derivatives());
        if comptime!(config.edges) {
            self.derivatives[to] = slope;
        }
        if comptime!(config.rates) {
            let rate = self.motion(slot(e, config.tile), 0usize, config);
            self.derivatives[to + comptime!(config.rates_at())] = slope * rate;
        }
    }

    /// Stores the rate of the slope of the value at `at`, of edge `e`, whose second derivative in d is `curve`.
    pub fn store_curve(&mut self, curve: F, at: usize, e: usize, #[comptime] config: BackwardConfig) {
        let rate = self.motion(slot(e, config.tile), 0usize, config);
        self.derivatives[at - comptime!(config.before_derivatives()) + comptime!(config.slope_rates_at())] =
            curve * rate;
    }

    /// Stores the rates of d and u of the edge in slot `at`, whose geometry this same unit has loaded.
    pub fn store_motion<N: Size>(
        &mut self,
        direction: &Direction<F, N>,
        at: usize,
        edge: usize,
        #[comptime] config: BackwardConfig,
    ) {
        let layout = comptime!(config.tile);
        let plane = comptime!(layout.plane());
        let mut rate = F::new(0.0);
        let mut inverse = F::new(0.0);
        let mut moved = Array::<F>::new(3usize);
        // 1 for an edge and 0 for none.
        let inside = self.values.floats[comptime!(layout.f_c()) + at];
        #[unroll]
        for x in 0..3usize {
            moved[x] = F::new(0.0);
        }
        if inside > F::new(0.0) {
            let d = self.values.floats[at];
            if d > F::new(0.0) {
                inverse = F::new(1.0) / d;
            }
            #[unroll]
            for x in 0..3usize {
                moved[x] = direction.edge_vec[3 * edge + x];
                rate += self.values.floats[comptime!(layout.u() + x * plane) + at] * moved[x];
            }
        }
        let to = comptime!(config.motion()) + at;
        self.derivatives[to] = rate;
        #[unroll]
        for x in 0..3usize {
            let u = self.values.floats[comptime!(layout.u() + x * plane) + at];
            self.derivatives[to + comptime!((1 + x) * plane)] = (moved[x] - u * rate) * inverse;
        }
    }
}
