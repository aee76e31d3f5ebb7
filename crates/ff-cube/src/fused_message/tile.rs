//! A tile of edges in shared memory: its geometry and the coefficients of the filter.

use cubecl::prelude::*;
use ff_spec::fused_message::Activation;

use super::config::CubeConfig;
use crate::maths;

/// Inputs of every `fused_message` kernel; what a variant does not read is one unused element.
#[derive(CubeLaunch, CubeType)]
pub struct Inputs<F: Float, N: Size> {
    /// [n_atoms + 1].
    pub row_ptr: Array<u32>,
    /// [n_edges].
    pub sender: Array<u32>,
    /// [n_edges, 3], Å.
    pub edge_vec: Array<F>,
    /// `x` [n_atoms, F] or `s` [n_atoms, 3F].
    pub nodes: Array<Vector<F, N>>,
    /// `mu` [n_atoms, 3, F].
    pub vectors: Array<Vector<F, N>>,
    /// `A`, `A2` or `table`: rows of C.
    pub weights: Array<Vector<F, N>>,
    /// `b` or `b2` [C].
    pub bias: Array<Vector<F, N>>,
    /// `A1` [K, H].
    pub hidden_weights: Array<F>,
    /// `b1` [H].
    pub hidden_bias: Array<F>,
    /// r_c, the cutoff's parameters, then each of the basis' parameters for k = 1..K.
    pub radial: Array<F>,
    /// Atoms.
    pub n_atoms: u32,
    /// F in vectors.
    pub features: u32,
    /// Segments of the table.
    pub segments: u32,
}

/// A tile of edges in shared memory, one slab per group.
///
/// Two arrays with computed offsets, so that a kernel's shared memory is what [`CubeConfig::floats`] says and no more.
#[derive(CubeType)]
pub struct Tile<F: Float> {
    /// Planes d (r_c/2 where there is no edge), f_c (0 where there is none), u (three), basis, hidden layer.
    pub floats: SharedMemory<F>,
    /// Planes sender, receiver row (`edge_atomic`), first table row (`tabulated`).
    pub indices: SharedMemory<u32>,
}

/// The sums of one unit: y, or Δq and the three components of Δμ.
#[derive(CubeType)]
pub struct Sums<F: Float, N: Size> {
    /// [1] or [4].
    pub value: Array<Vector<F, N>>,
}

#[cube]
impl<F: Float> Tile<F> {
    /// Shared memory for a configuration.
    pub fn new(#[comptime] config: CubeConfig) -> Tile<F> {
        Tile::<F> {
            floats: SharedMemory::<F>::new(comptime!(config.floats())),
            indices: SharedMemory::<u32>::new(comptime!(3 * config.plane())),
        }
    }
}

/// The slot of edge `e` of this unit's group in every plane.
#[cube]
pub fn slot(e: usize, #[comptime] config: CubeConfig) -> usize {
    UNIT_POS_Y as usize * config.edges_per_tile + e
}

/// The place of basis value or Hermite weight `k` of edge `e` of this unit's group.
#[cube]
pub fn basis_at(k: usize, e: usize, #[comptime] config: CubeConfig) -> usize {
    let depth = comptime!(config.n_basis.max(2 * config.order));
    comptime!(config.basis()) + (UNIT_POS_Y as usize * depth + k) * config.edges_per_tile + e
}

/// The place of hidden unit `h` of edge `e` of this unit's group.
#[cube]
pub fn hidden_at(h: usize, e: usize, #[comptime] config: CubeConfig) -> usize {
    comptime!(config.hidden_layer()) + (UNIT_POS_Y as usize * config.hidden + h) * config.edges_per_tile + e
}

/// The group of this unit over the whole launch; cubes spread over X and Z, as X alone may be too short.
#[cube]
pub fn global_group(#[comptime] config: CubeConfig) -> usize {
    (CUBE_POS_Z as usize * CUBE_COUNT_X as usize + CUBE_POS_X as usize) * config.groups + UNIT_POS_Y as usize
}

/// Whether this unit has channels of its own: the last cube of a row reaches past F where F is no multiple of it.
#[cube]
pub fn has_channel(features: usize) -> bool {
    CUBE_POS_Y as usize * CUBE_DIM_X as usize + (UNIT_POS_X as usize) < features
}

/// The vector of channels of this unit, wrapped into the features for a unit that has none of its own.
#[cube]
pub fn channel(features: usize) -> usize {
    (CUBE_POS_Y as usize * CUBE_DIM_X as usize + UNIT_POS_X as usize) % features
}

/// Edges of the longest row of this cube.
#[cube]
pub fn longest_row<F: Float, N: Size>(inputs: &Inputs<F, N>, #[comptime] config: CubeConfig) -> usize {
    let first = global_group(config) - UNIT_POS_Y as usize;
    let n_atoms = inputs.n_atoms as usize;
    let mut longest = 0usize;
    for r in 0..config.groups {
        let row = first + r;
        if row < n_atoms {
            longest = max(longest, (inputs.row_ptr[row + 1] - inputs.row_ptr[row]) as usize);
        }
    }
    longest
}

/// Tiles of the longest row of this cube: every unit walks that many, as they synchronise.
#[cube]
pub fn tiles_of_cube<F: Float, N: Size>(inputs: &Inputs<F, N>, #[comptime] config: CubeConfig) -> usize {
    (longest_row::<F, N>(inputs, config) + comptime!(config.edges_per_tile - 1)) / config.edges_per_tile
}

/// Loads edges `first`.. `end` of the list into this group's slab; slots beyond are made to contribute nothing.
#[cube]
pub fn load_tile<F: Float, N: Size>(
    inputs: &Inputs<F, N>,
    tile: &mut Tile<F>,
    first: usize,
    end: usize,
    #[comptime] config: CubeConfig,
) {
    for e in range_stepped(UNIT_POS_X as usize, config.edges_per_tile, config.units) {
        let edge = first + e;
        load_edge::<F, N>(inputs, tile, slot(e, config), edge, edge < end, config);
    }
}

/// Loads an edge into slot `at`; without one there, or with one in the skin, the slot is made to contribute nothing.
#[cube]
pub fn load_edge<F: Float, N: Size>(
    inputs: &Inputs<F, N>,
    tile: &mut Tile<F>,
    at: usize,
    edge: usize,
    exists: bool,
    #[comptime] config: CubeConfig,
) {
    let r_c = inputs.radial[0];
    let mut d = F::new(0.5) * r_c;
    let mut inside = F::new(0.0);
    let mut sender = 0u32;
    let mut x = F::new(0.0);
    let mut y = F::new(0.0);
    let mut z = F::new(0.0);
    if exists {
        let rx = inputs.edge_vec[3 * edge];
        let ry = inputs.edge_vec[3 * edge + 1];
        let rz = inputs.edge_vec[3 * edge + 2];
        let length = F::sqrt(rx * rx + ry * ry + rz * rz);
        if length < r_c {
            d = length;
            inside = F::new(1.0);
            sender = inputs.sender[edge];
            if length > F::new(0.0) {
                x = rx / length;
                y = ry / length;
                z = rz / length;
            }
        }
    }
    tile.floats[at] = d;
    tile.floats[comptime!(config.f_c()) + at] = inside;
    tile.floats[comptime!(config.u()) + at] = x;
    tile.floats[comptime!(config.u() + config.plane()) + at] = y;
    tile.floats[comptime!(config.u() + 2 * config.plane()) + at] = z;
    tile.indices[at] = sender;
}

/// The receiver of an edge: the last row whose offset does not exceed it.
#[cube]
pub fn receiver_of(row_ptr: &Array<u32>, n_atoms: usize, edge: usize) -> u32 {
    let mut low = 0usize;
    let mut high = n_atoms;
    while low + 1 < high {
        let middle = (low + high) / 2;
        if row_ptr[middle] as usize <= edge {
            low = middle;
        } else {
            high = middle;
        }
    }
    low as u32
}

/// Fills in the receivers of a tile.
#[cube]
pub fn load_receivers<F: Float, N: Size>(
    inputs: &Inputs<F, N>,
    tile: &mut Tile<F>,
    first: usize,
    end: usize,
    #[comptime] config: CubeConfig,
) {
    for e in range_stepped(UNIT_POS_X as usize, config.edges_per_tile, config.units) {
        let edge = first + e;
        if edge < end {
            tile.indices[comptime!(config.plane()) + slot(e, config)] =
                receiver_of(&inputs.row_ptr, inputs.n_atoms as usize, edge);
        }
    }
}

/// σ(Φ A₁ + b₁) of a tile.
///
/// Neighbouring units take neighbouring hidden units, so that A₁ is read in whole lines, each value once for `unroll` edges.
#[cube]
pub fn hidden_layer<F: Float, N: Size>(inputs: &Inputs<F, N>, tile: &mut Tile<F>, #[comptime] config: CubeConfig) {
    let count = comptime!(config.hidden * (config.edges_per_tile / config.unroll));
    let mut sums = Array::<F>::new(config.unroll);
    for i in range_stepped(UNIT_POS_X as usize, count, config.units) {
        let h = i % config.hidden;
        let first = (i / config.hidden) * config.unroll;
        let bias = inputs.hidden_bias[h];
        #[unroll]
        for j in 0..config.unroll {
            sums[j] = bias;
        }
        for k in 0..config.n_basis {
            let weight = inputs.hidden_weights[k * config.hidden + h];
            #[unroll]
            for j in 0..config.unroll {
                sums[j] += tile.floats[basis_at(k, first + j, config)] * weight;
            }
        }
        #[unroll]
        for j in 0..config.unroll {
            let at = hidden_at(h, first + j, config);
            if comptime!(config.activation == Activation::Tanh) {
                tile.floats[at] = maths::tanh::<F>(sums[j]);
            } else if comptime!(config.activation == Activation::Silu) {
                tile.floats[at] = sums[j] * maths::logistic::<F>(sums[j]);
            } else {
                tile.floats[at] = maths::shifted_softplus::<F>(sums[j]);
            }
        }
    }
}

/// Hermite weights of a tile and the table row each edge starts at.
#[cube]
pub fn hermite_weights<F: Float, N: Size>(inputs: &Inputs<F, N>, tile: &mut Tile<F>, #[comptime] config: CubeConfig) {
    let r_c = inputs.radial[0];
    let segments = F::cast_from(inputs.segments);
    let h = r_c / segments;
    for e in range_stepped(UNIT_POS_X as usize, config.edges_per_tile, config.units) {
        let at = slot(e, config);
        let x = tile.floats[at] / h;
        let segment = F::floor(min(x, segments - F::new(1.0)));
        tile.indices[comptime!(2 * config.plane()) + at] = u32::cast_from(segment) * comptime!(config.order as u32);
        let t = x - segment;
        let s = F::new(1.0) - t;
        // Zero for slots without an edge, so that they contribute nothing.
        let one = tile.floats[comptime!(config.f_c()) + at];
        let t2 = t * t;
        let s2 = s * s;
        if comptime!(config.order == 2) {
            tile.floats[basis_at(0usize, e, config)] = one * s2 * (F::new(1.0) + t + t);
            tile.floats[basis_at(1usize, e, config)] = one * h * t * s2;
            tile.floats[basis_at(2usize, e, config)] = one * t2 * (F::new(1.0) + s + s);
            tile.floats[basis_at(3usize, e, config)] = F::new(0.0) - one * h * s * t2;
        } else {
            let t3 = t2 * t;
            let s3 = s2 * s;
            let half = F::new(0.5) * one * h * h;
            let ends = one * h * t * s3;
            tile.floats[basis_at(0usize, e, config)] = one * s3 * (F::new(1.0) + F::new(3.0) * t + F::new(6.0) * t2);
            tile.floats[basis_at(1usize, e, config)] = ends * (F::new(1.0) + F::new(3.0) * t);
            tile.floats[basis_at(2usize, e, config)] = half * t2 * s3;
            tile.floats[basis_at(3usize, e, config)] = one * t3 * (F::new(1.0) + F::new(3.0) * s + F::new(6.0) * s2);
            tile.floats[basis_at(4usize, e, config)] = F::new(0.0) - one * h * s * t3 * (F::new(1.0) + F::new(3.0) * s);
            tile.floats[basis_at(5usize, e, config)] = half * s2 * t3;
        }
    }
}

/// The bias for this unit's channels, or zero for a table, in the place of the filter of `unroll` edges.
#[cube]
pub fn start_filter<F: Float, N: Size>(
    bias: &Array<Vector<F, N>>,
    filter: &mut Array<Vector<F, N>>,
    features: usize,
    c: usize,
    #[comptime] parts: usize,
    #[comptime] config: CubeConfig,
) {
    #[unroll]
    for part in 0..parts {
        #[unroll]
        for i in 0..config.unroll {
            if comptime!(config.order > 0) {
                filter[part * config.unroll + i] = Vector::new(F::new(0.0));
            } else {
                filter[part * config.unroll + i] = bias[part * features + c];
            }
        }
    }
}

/// All sums zero.
#[cube]
pub fn clear<F: Float, N: Size>(sums: &mut Sums<F, N>, #[comptime] count: usize) {
    #[unroll]
    for i in 0..count {
        sums.value[i] = Vector::new(F::new(0.0));
    }
}

/// Writes the sums of one row: the row's only writer.
#[cube]
pub fn store_row<F: Float, N: Size>(
    sums: &Sums<F, N>,
    out_nodes: &mut Array<Vector<F, N>>,
    out_vectors: &mut Array<Vector<F, N>>,
    row: usize,
    features: usize,
    #[comptime] count: usize,
) {
    let c = channel(features);
    out_nodes[row * features + c] = sums.value[0];
    #[unroll]
    for x in 1..count {
        out_vectors[(row * 3 + comptime!(x - 1)) * features + c] = sums.value[x];
    }
}
