//! The kernels of the first backward: gradients in senders' features, edge vectors and weights, from those in the outputs.
//!
//! [`senders`] walks the list by sender as the forward walks it by receiver: the units of one sender share a tile of its
//! edges and hold its sums in registers. What an edge vector is owed is summed over the units of the tile in shared memory,
//! and over blocks of channels by the row's own units, one block after another. [`last_map`] and [`first_map`] cut the
//! edges into parts whose sums [`add_parts`] adds in their order. There are no atomics: the same bits on every run.
//!
//! | kernel | cube x | cube y | count x | count y | count z |
//! | --- | --- | --- | --- | --- | --- |
//! | `senders` | channels_per_cube / vector_width | rows_per_cube | rows / rows_per_cube | 1 | what exceeds x |
//! | `last_map` | as above | parts of a cube | parts | F / channels_per_cube | rows of the gradient |
//! | `first_map` | as above | parts of a cube | parts | 1 | 1 |

use cubecl::prelude::*;

use super::radial::Radial;
use super::{
    CubeConfig, Inputs, Sums, Tile, apply_filter_at, basis_at, channel, clear, global_group, has_channel,
    hermite_weights, hidden_at, hidden_layer, load_edge, load_tile, longest_row, slot,
};
use crate::cube::maths;

/// What is fixed when a kernel of the backward is compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BackwardConfig {
    /// The layout of a cube and of its tile's values.
    pub tile: CubeConfig,
    /// Filters per feature: 1 (`cfconv`) or 3 (`painn`).
    pub parts: usize,
    /// Parameters of the cutoff function.
    pub cutoff_parameters: usize,
    /// `senders` computes gradients in node features.
    pub nodes: bool,
    /// `senders` computes gradients in edge vectors: the tile holds slopes.
    pub edges: bool,
    /// Rows of the last map's gradient that a unit of `last_map` sums.
    pub rows: usize,
}

impl BackwardConfig {
    /// Vectors of a sender, and as many sums: `x`, or three parts of `s` and three axes of `mu`.
    pub fn sender_vectors(&self) -> usize {
        if self.parts == 1 { 1 } else { 6 }
    }

    /// Vectors of a receiver: gradients in `y`, or in `dq` and the three axes of `dmu`.
    pub fn receiver_vectors(&self) -> usize {
        if self.parts == 1 { 1 } else { 4 }
    }

    /// What the channels of an edge sum: the gradient in d, and in the three axes of u where the message has them.
    pub fn edge_sums(&self) -> usize {
        if self.parts == 1 { 1 } else { 4 }
    }

    /// How far the slope of a basis value or hidden unit lies before the value itself: d and u have no slopes.
    pub fn before_slopes(&self) -> usize {
        4 * self.tile.plane()
    }

    /// Floats of the slopes, at least one.
    pub fn slopes(&self) -> usize {
        if self.edges { self.tile.floats() - self.before_slopes() } else { 1 }
    }

    /// Floats that the units write before they are summed: [groups, unroll · edge_sums, units + 1], at least one.
    pub fn unit_sums(&self) -> usize {
        if self.edges { self.tile.groups * self.tile.unroll * self.edge_sums() * self.unit_stride() } else { 1 }
    }

    /// One more than the units, so that summing rows side by side reads from every bank.
    pub fn unit_stride(&self) -> usize {
        self.tile.units + 1
    }

    /// Floats of the sums of a tile's edges, at least one.
    pub fn tile_sums(&self) -> usize {
        if self.edges { self.tile.plane() * self.edge_sums() } else { 1 }
    }

    /// Units that are summed at a time.
    pub fn stride_of_sum(&self) -> usize {
        [8, 4, 2].into_iter().find(|step| self.tile.units.is_multiple_of(*step)).unwrap_or(1)
    }

    /// Vectors of gradients in the last map's outputs: [groups, unroll, parts, units].
    pub fn outer(&self) -> usize {
        self.tile.groups * self.tile.unroll * self.parts * self.tile.units
    }

    /// Bytes of shared memory of the kernels, in their order, for elements of `size` bytes in vectors of `lanes`.
    pub fn shared_memory(&self, size: usize, lanes: usize) -> [usize; 3] {
        let aligned = |bytes: usize| bytes.next_multiple_of(16);
        let values = aligned(self.tile.floats() * size) + aligned(3 * self.tile.plane() * 4);
        let slopes = aligned(self.slopes() * size);
        let sums = aligned(self.unit_sums() * size) + aligned(self.tile_sums() * size);
        let values = values + slopes + sums;
        let hidden = aligned(self.tile.hidden * self.tile.plane() * size) + aligned(self.outer() * size * lanes);
        [values, values, values + hidden]
    }
}

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

/// A tile of edges with the derivatives of its values in d.
#[derive(CubeType)]
pub struct SlopeTile<F: Float> {
    /// As in the forward.
    pub values: Tile<F>,
    /// f_c′, then of every basis value or Hermite weight and of every hidden unit, in the order of the values.
    pub slopes: SharedMemory<F>,
    /// What the units of a group add to the sums of `unroll` edges, [groups, unroll, edge_sums, units + 1].
    pub unit_sums: SharedMemory<F>,
    /// The sums of the tile's edges, [groups, edges_per_tile, edge_sums].
    pub edge_sums: SharedMemory<F>,
}

/// What one edge reads for a unit's channels.
#[derive(CubeType)]
pub struct Edge<F: Float, N: Size> {
    /// Features of the sender: `x`, or q, r and μ of `s` and the axes of `mu`.
    pub sender: Array<Vector<F, N>>,
    /// Gradients at the receiver: in `y`, or in `dq` and the axes of `dmu`.
    pub receiver: Array<Vector<F, N>>,
    /// The factor of `sender` in each message: g, or g_q, g_μ·u and g_μ·μ.
    pub product: Array<Vector<F, N>>,
}

#[cube]
impl<F: Float> SlopeTile<F> {
    /// Shared memory for a configuration.
    pub fn new(#[comptime] config: BackwardConfig) -> SlopeTile<F> {
        SlopeTile::<F> {
            values: Tile::<F>::new(config.tile),
            slopes: SharedMemory::<F>::new(comptime!(config.slopes())),
            unit_sums: SharedMemory::<F>::new(comptime!(config.unit_sums())),
            edge_sums: SharedMemory::<F>::new(comptime!(config.tile_sums())),
        }
    }
}

#[cube]
impl<F: Float, N: Size> Edge<F, N> {
    /// Registers for a configuration.
    pub fn new(#[comptime] config: BackwardConfig) -> Edge<F, N> {
        Edge::<F, N> {
            sender: Array::new(comptime!(config.sender_vectors())),
            receiver: Array::new(comptime!(config.receiver_vectors())),
            product: Array::new(comptime!(config.parts)),
        }
    }

    /// Reads the features of atom `j` at the vector of channels `c`.
    pub fn load_sender(&mut self, inputs: &Inputs<F, N>, j: usize, c: usize, #[comptime] config: BackwardConfig) {
        let features = inputs.features as usize;
        let from = j * config.parts * features + c;
        #[unroll]
        for p in 0..config.parts {
            self.sender[p] = inputs.nodes[from + p * features];
        }
        if comptime!(config.parts == 3) {
            #[unroll]
            for x in 0..3usize {
                self.sender[comptime!(3 + x)] = inputs.vectors[from + x * features];
            }
        }
    }

    /// Reads the gradients at the atom that plane `plane` of the tile names for slot `at`, and multiplies them with what the
    /// edge and its sender are.
    pub fn load_receiver(
        &mut self,
        grad: &Cotangents<F, N>,
        tile: &Tile<F>,
        at: usize,
        c: usize,
        #[comptime] plane: usize,
        #[comptime] config: BackwardConfig,
    ) {
        let features = grad.features as usize;
        let i = tile.indices[comptime!(plane * config.tile.plane()) + at] as usize;
        self.receiver[0] = grad.nodes[i * features + c];
        self.product[0] = self.receiver[0];
        if comptime!(config.parts == 3) {
            let mut along = Vector::<F, N>::new(F::new(0.0));
            let mut inner = Vector::<F, N>::new(F::new(0.0));
            #[unroll]
            for x in 0..3usize {
                let g = grad.vectors[(i * 3 + x) * features + c];
                let u = tile.floats[comptime!(config.tile.u() + x * config.tile.plane()) + at];
                along += g * Vector::new(u);
                inner += g * self.sender[comptime!(3 + x)];
                self.receiver[comptime!(1 + x)] = g;
            }
            self.product[1] = along;
            self.product[2] = inner;
        }
    }
}

/// Gradients in what the senders send, and in the edge vectors; one group of units per sender.
///
/// `inputs` holds the list by sender: `row_ptr` is that of the senders, and `sender` names the receiver of each edge.
/// `transpose` [n_edges] has the edges of the senders one after another.
#[cube(launch_unchecked, explicit_define)]
pub fn senders<F: Float, N: Size, R: Radial>(
    inputs: &Inputs<F, N>,
    grad: &Cotangents<F, N>,
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
    let mut filter = Array::<Vector<F, N>>::new(comptime!(layout.filters(config.parts)));
    let mut slope = Array::<Vector<F, N>>::new(comptime!(layout.filters(config.parts)));
    let mut by_edge = Array::<Vector<F, N>>::new(comptime!(config.edge_sums()));
    let longest = longest_row::<F, N>(inputs, layout);
    let tiles = (longest + comptime!(layout.edges_per_tile - 1)) / layout.edges_per_tile;
    let blocks = (features + comptime!(layout.units - 1)) / layout.units;
    for block in 0..blocks {
        let own = block * layout.units + UNIT_POS_X as usize;
        let has_own = own < features;
        // A unit without channels of its own computes another's and adds nothing.
        let c = own % features;
        edge.load_sender(inputs, sender, c, config);
        clear::<F, N>(&mut sums, comptime!(config.sender_vectors()));
        for t in 0..tiles {
            let first = start + t * layout.edges_per_tile;
            load_sent::<F, N>(inputs, transpose, &mut tile.values, first, end, layout);
            sync_cube();
            coefficients::<F, N, R>(inputs, &mut tile, config);
            sync_cube();
            // Alike for all units of the cube, as they synchronise.
            let left = min(longest - t * layout.edges_per_tile, layout.edges_per_tile);
            for e in range_stepped(0usize, left, layout.unroll) {
                if comptime!(config.edges) {
                    apply_slopes::<F, N>(inputs, &tile, &mut filter, &mut slope, e, c, config);
                } else {
                    apply_filter_at::<F, N>(inputs, &tile.values, &mut filter, e, c, config.parts, layout);
                }
                #[unroll]
                for i in 0..layout.unroll {
                    let at = slot(e + i, layout);
                    edge.load_receiver(grad, &tile.values, at, c, 0usize, config);
                    if comptime!(config.nodes) {
                        add_to_sender::<F, N>(&edge, &filter, &mut sums, i, config);
                    }
                    if comptime!(config.edges) {
                        sum_channels::<F, N>(&edge, &filter, &slope, &mut by_edge, i, config);
                        #[unroll]
                        for q in 0..config.edge_sums() {
                            let sum = sum_of_lanes::<F, N>(by_edge[q]);
                            tile.unit_sums
                                [unit_row(comptime!(i * config.edge_sums() + q), config) + UNIT_POS_X as usize] =
                                select(has_own, sum, F::new(0.0));
                        }
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

/// Loads the edges at places `first`.. `end` of the list by sender into this group's slab.
#[cube]
fn load_sent<F: Float, N: Size>(
    inputs: &Inputs<F, N>,
    transpose: &Array<u32>,
    tile: &mut Tile<F>,
    first: usize,
    end: usize,
    #[comptime] config: CubeConfig,
) {
    for e in range_stepped(UNIT_POS_X as usize, config.edges_per_tile, config.units) {
        let exists = first + e < end;
        let mut edge = 0usize;
        if exists {
            edge = transpose[first + e] as usize;
        }
        load_edge::<F, N>(inputs, tile, slot(e, config), edge, exists, config);
    }
}

/// The coefficients of the filter's last linear map for a loaded tile, with their slopes where the kernel has any.
#[cube]
fn coefficients<F: Float, N: Size, R: Radial>(
    inputs: &Inputs<F, N>,
    tile: &mut SlopeTile<F>,
    #[comptime] config: BackwardConfig,
) {
    let layout = comptime!(config.tile);
    if comptime!(layout.order > 0) {
        if comptime!(config.edges) {
            hermite_slopes::<F, N>(inputs, tile, config);
        }
        hermite_weights::<F, N>(inputs, &mut tile.values, layout);
    } else {
        R::fill::<F, N>(inputs, tile, config);
        if comptime!(layout.hidden > 0) {
            sync_cube();
            if comptime!(config.edges) {
                hidden_slopes::<F, N>(inputs, tile, config);
            } else {
                hidden_layer::<F, N>(inputs, &mut tile.values, layout);
            }
        }
    }
}

/// Derivatives of a tile's Hermite weights in d.
#[cube]
fn hermite_slopes<F: Float, N: Size>(
    inputs: &Inputs<F, N>,
    tile: &mut SlopeTile<F>,
    #[comptime] config: BackwardConfig,
) {
    let layout = comptime!(config.tile);
    let before = comptime!(config.before_slopes());
    let segments = F::cast_from(inputs.segments);
    let h = inputs.radial[0] / segments;
    for e in range_stepped(UNIT_POS_X as usize, layout.edges_per_tile, layout.units) {
        let at = slot(e, layout);
        let x = tile.values.floats[at] / h;
        let t = x - F::floor(min(x, segments - F::new(1.0)));
        let s = F::new(1.0) - t;
        // Zero for slots without an edge, so that they contribute nothing.
        let one = tile.values.floats[comptime!(layout.f_c()) + at];
        if comptime!(layout.order == 2) {
            let ends = one * F::new(6.0) * t * s / h;
            tile.slopes[basis_at(0usize, e, layout) - before] = F::new(0.0) - ends;
            tile.slopes[basis_at(1usize, e, layout) - before] = one * s * (F::new(1.0) - F::new(3.0) * t);
            tile.slopes[basis_at(2usize, e, layout) - before] = ends;
            tile.slopes[basis_at(3usize, e, layout) - before] = one * t * (F::new(1.0) - F::new(3.0) * s);
        } else {
            let t2 = t * t;
            let s2 = s * s;
            let ends = one * F::new(30.0) * t2 * s2 / h;
            let half = F::new(0.5) * one * h;
            let before_t = (F::new(1.0) - F::new(3.0) * t) * (F::new(1.0) + F::new(5.0) * t);
            let before_s = (F::new(1.0) - F::new(3.0) * s) * (F::new(1.0) + F::new(5.0) * s);
            tile.slopes[basis_at(0usize, e, layout) - before] = F::new(0.0) - ends;
            tile.slopes[basis_at(1usize, e, layout) - before] = one * s2 * before_t;
            tile.slopes[basis_at(2usize, e, layout) - before] = half * t * s2 * (F::new(2.0) - F::new(5.0) * t);
            tile.slopes[basis_at(3usize, e, layout) - before] = ends;
            tile.slopes[basis_at(4usize, e, layout) - before] = one * t2 * before_s;
            tile.slopes[basis_at(5usize, e, layout) - before] =
                F::new(0.0) - half * s * t2 * (F::new(2.0) - F::new(5.0) * s);
        }
    }
}

/// σ and its slope at a sum, for the activation of a configuration.
#[cube]
fn activation_slope<F: Float>(x: F, #[comptime] config: CubeConfig) -> F {
    if comptime!(config.tanh) {
        let t = maths::tanh::<F>(x);
        F::new(1.0) - t * t
    } else {
        maths::logistic::<F>(x)
    }
}

/// σ(Φ A₁ + b₁) of a tile and its derivative in d, by units as in [`hidden_layer`].
#[cube]
fn hidden_slopes<F: Float, N: Size>(
    inputs: &Inputs<F, N>,
    tile: &mut SlopeTile<F>,
    #[comptime] config: BackwardConfig,
) {
    let layout = comptime!(config.tile);
    let before = comptime!(config.before_slopes());
    let count = comptime!(layout.hidden * (layout.edges_per_tile / layout.unroll));
    let mut sums = Array::<F>::new(layout.unroll);
    let mut slopes = Array::<F>::new(layout.unroll);
    for i in range_stepped(UNIT_POS_X as usize, count, layout.units) {
        let h = i % layout.hidden;
        let first = (i / layout.hidden) * layout.unroll;
        let bias = inputs.hidden_bias[h];
        #[unroll]
        for j in 0..layout.unroll {
            sums[j] = bias;
            slopes[j] = F::new(0.0);
        }
        for k in 0..layout.n_basis {
            let weight = inputs.hidden_weights[k * layout.hidden + h];
            #[unroll]
            for j in 0..layout.unroll {
                let at = basis_at(k, first + j, layout);
                sums[j] += tile.values.floats[at] * weight;
                slopes[j] += tile.slopes[at - before] * weight;
            }
        }
        #[unroll]
        for j in 0..layout.unroll {
            let at = hidden_at(h, first + j, layout);
            tile.slopes[at - before] = activation_slope::<F>(sums[j], layout) * slopes[j];
            if comptime!(layout.tanh) {
                tile.values.floats[at] = maths::tanh::<F>(sums[j]);
            } else {
                tile.values.floats[at] = maths::shifted_softplus::<F>(sums[j]);
            }
        }
    }
}

/// σ′(Φ A₁ + b₁) of a tile, in the place of the hidden layer, by units as there.
#[cube]
fn hidden_activation_slopes<F: Float, N: Size>(
    inputs: &Inputs<F, N>,
    tile: &mut Tile<F>,
    #[comptime] config: CubeConfig,
) {
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
            tile.floats[hidden_at(h, first + j, config)] = activation_slope::<F>(sums[j], config);
        }
    }
}

/// The filter of `unroll` edges from `e` on and its derivative in d, for the vector of channels `c`.
#[cube]
fn apply_slopes<F: Float, N: Size>(
    inputs: &Inputs<F, N>,
    tile: &SlopeTile<F>,
    filter: &mut Array<Vector<F, N>>,
    slope: &mut Array<Vector<F, N>>,
    e: usize,
    c: usize,
    #[comptime] config: BackwardConfig,
) {
    let layout = comptime!(config.tile);
    let before = comptime!(config.before_slopes());
    let features = inputs.features as usize;
    let columns = features * config.parts;
    let tabulated = comptime!(layout.order > 0);
    #[unroll]
    for part in 0..config.parts {
        #[unroll]
        for i in 0..layout.unroll {
            if comptime!(tabulated) {
                filter[part * layout.unroll + i] = Vector::new(F::new(0.0));
            } else {
                filter[part * layout.unroll + i] = inputs.bias[part * features + c];
            }
            slope[part * layout.unroll + i] = Vector::new(F::new(0.0));
        }
    }
    for k in 0..layout.depth {
        if comptime!(tabulated) {
            #[unroll]
            for i in 0..layout.unroll {
                let base = tile.values.indices[comptime!(2 * layout.plane()) + slot(e + i, layout)] as usize;
                let row = (base + k) * columns + c;
                let at = basis_at(k, e + i, layout);
                let value = Vector::new(tile.values.floats[at]);
                let derivative = Vector::new(tile.slopes[at - before]);
                #[unroll]
                for part in 0..config.parts {
                    let node = inputs.weights[row + part * features];
                    filter[part * layout.unroll + i] += value * node;
                    slope[part * layout.unroll + i] += derivative * node;
                }
            }
        } else {
            #[unroll]
            for part in 0..config.parts {
                let weight = inputs.weights[k * columns + part * features + c];
                #[unroll]
                for i in 0..layout.unroll {
                    let at = coefficient_at(k, e + i, layout);
                    filter[part * layout.unroll + i] += weight * Vector::new(tile.values.floats[at]);
                    slope[part * layout.unroll + i] += weight * Vector::new(tile.slopes[at - before]);
                }
            }
        }
    }
    if comptime!(!tabulated) {
        #[unroll]
        for i in 0..layout.unroll {
            let at = slot(e + i, layout);
            let f_c = Vector::new(tile.values.floats[comptime!(layout.f_c()) + at]);
            let f_c_slope = Vector::new(tile.slopes[at]);
            #[unroll]
            for part in 0..config.parts {
                let j = comptime!(part * layout.unroll + i);
                slope[j] = slope[j] * f_c + filter[j] * f_c_slope;
                filter[j] *= f_c;
            }
        }
    }
}

/// The place of input `k` of the filter's last map for edge `e` of this unit's group.
#[cube]
fn coefficient_at(k: usize, e: usize, #[comptime] config: CubeConfig) -> usize {
    if comptime!(config.hidden > 0) { hidden_at(k, e, config) } else { basis_at(k, e, config) }
}

/// Adds the gradients of an edge, whose filter is `filter[i]`, `filter[unroll + i]`, …, to the sums of its sender.
#[cube]
fn add_to_sender<F: Float, N: Size>(
    edge: &Edge<F, N>,
    filter: &Array<Vector<F, N>>,
    sums: &mut Sums<F, N>,
    #[comptime] i: usize,
    #[comptime] config: BackwardConfig,
) {
    #[unroll]
    for p in 0..config.parts {
        sums.value[p] += edge.product[p] * filter[comptime!(p * config.tile.unroll + i)];
    }
    if comptime!(config.parts == 3) {
        let w_mu = edge.sender[2] * filter[comptime!(2 * config.tile.unroll + i)];
        #[unroll]
        for x in 0..3usize {
            sums.value[comptime!(3 + x)] += w_mu * edge.receiver[comptime!(1 + x)];
        }
    }
}

/// What a unit's channels of an edge add to the gradients in d and in the axes of u.
#[cube]
fn sum_channels<F: Float, N: Size>(
    edge: &Edge<F, N>,
    filter: &Array<Vector<F, N>>,
    slope: &Array<Vector<F, N>>,
    by_edge: &mut Array<Vector<F, N>>,
    #[comptime] i: usize,
    #[comptime] config: BackwardConfig,
) {
    by_edge[0] = Vector::new(F::new(0.0));
    #[unroll]
    for p in 0..config.parts {
        by_edge[0] += edge.sender[p] * edge.product[p] * slope[comptime!(p * config.tile.unroll + i)];
    }
    if comptime!(config.parts == 3) {
        let w_r = edge.sender[1] * filter[comptime!(config.tile.unroll + i)];
        #[unroll]
        for x in 0..3usize {
            by_edge[comptime!(1 + x)] = w_r * edge.receiver[comptime!(1 + x)];
        }
    }
}

/// The sum over the lanes of a vector.
#[cube]
fn sum_of_lanes<F: Float, N: Size>(vector: Vector<F, N>) -> F {
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
fn unit_row(q: usize, #[comptime] config: BackwardConfig) -> usize {
    let rows = comptime!(config.tile.unroll * config.edge_sums());
    (UNIT_POS_Y as usize * rows + q) * comptime!(config.unit_stride())
}

/// Sums over the units of a group for `unroll` edges from `e` on.
#[cube]
fn sum_units<F: Float>(tile: &mut SlopeTile<F>, e: usize, #[comptime] config: BackwardConfig) {
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

/// Gradients in edge vectors from what the channels of each edge have summed; every block but the first adds its own.
#[cube]
fn store_edges<F: Float>(
    tile: &SlopeTile<F>,
    transpose: &Array<u32>,
    out_edges: &mut Array<F>,
    first: usize,
    end: usize,
    block: usize,
    #[comptime] config: BackwardConfig,
) {
    let layout = comptime!(config.tile);
    let plane = comptime!(layout.plane());
    for e in range_stepped(UNIT_POS_X as usize, layout.edges_per_tile, layout.units) {
        if first + e < end {
            let at = slot(e, layout);
            let sums = at * comptime!(config.edge_sums());
            let to = transpose[first + e] as usize * 3;
            let by_d = tile.edge_sums[sums];
            let mut along = F::new(0.0);
            let mut inverse = F::new(0.0);
            if comptime!(config.parts == 3) {
                #[unroll]
                for x in 0..3usize {
                    along += tile.values.floats[comptime!(layout.u() + x * plane) + at]
                        * tile.edge_sums[sums + comptime!(1 + x)];
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
                if comptime!(config.parts == 3) {
                    gradient += (tile.edge_sums[sums + comptime!(1 + x)] - u * along) * inverse;
                }
                if block > 0 {
                    gradient += out_edges[to + x];
                }
                out_edges[to + x] = gradient;
            }
        }
    }
}

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

/// Loads edges `first`.. `end` of the list into this group's slab, with their receivers.
#[cube]
fn load_listed<F: Float, N: Size>(
    inputs: &Inputs<F, N>,
    receiver: &Array<u32>,
    tile: &mut Tile<F>,
    first: usize,
    end: usize,
    #[comptime] config: CubeConfig,
) {
    load_tile::<F, N>(inputs, tile, first, end, config);
    for e in range_stepped(UNIT_POS_X as usize, config.edges_per_tile, config.units) {
        let mut atom = 0u32;
        if first + e < end {
            atom = receiver[first + e];
        }
        tile.indices[comptime!(config.plane()) + slot(e, config)] = atom;
    }
}

/// Reads what the gradients in the filter of slot `at` are made of, for the vector of channels `c`.
#[cube]
fn load_ends<F: Float, N: Size>(
    inputs: &Inputs<F, N>,
    grad: &Cotangents<F, N>,
    tile: &Tile<F>,
    edge: &mut Edge<F, N>,
    at: usize,
    c: usize,
    #[comptime] config: BackwardConfig,
) {
    edge.load_sender(inputs, tile.indices[at] as usize, c, config);
    edge.load_receiver(grad, tile, at, c, 1usize, config);
}

/// Gradients in the filter's last map, summed over parts of the edges; one group of units per part.
///
/// `partials` is [n_parts, depth + 1, C], in vectors; the bias is the last row. `receiver` [n_edges] names the receivers.
#[cube(launch_unchecked, explicit_define)]
pub fn last_map<F: Float, N: Size, R: Radial>(
    inputs: &Inputs<F, N>,
    grad: &Cotangents<F, N>,
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
        load_listed::<F, N>(inputs, receiver, &mut tile.values, first, end, layout);
        sync_cube();
        coefficients::<F, N, R>(inputs, &mut tile, config);
        sync_cube();
        if first < end {
            for e in 0..min(end - first, layout.edges_per_tile) {
                let at = slot(e, layout);
                load_ends::<F, N>(inputs, grad, &tile.values, &mut edge, at, c, config);
                let f_c = Vector::new(tile.values.floats[comptime!(layout.f_c()) + at]);
                #[unroll]
                for p in 0..config.parts {
                    edge.product[p] *= f_c * edge.sender[p];
                }
                #[unroll]
                for r in 0..config.rows {
                    let mut coefficient = F::new(1.0);
                    if comptime!(layout.depth > 0) {
                        let row = min(first_row + r, layout.depth - 1);
                        let value = tile.values.floats[coefficient_at(row, e, layout)];
                        coefficient = select(first_row + r < layout.depth, value, F::new(1.0));
                    }
                    #[unroll]
                    for p in 0..config.parts {
                        sums[comptime!(r * config.parts + p)] += edge.product[p] * Vector::new(coefficient);
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

/// Gradients in the first map of an `mlp` filter, summed over parts of the edges; one group of units per part.
///
/// `partials` is [n_parts, K + 1, H]; the bias is the last row. `receiver` [n_edges] names the receivers.
#[cube(launch_unchecked, explicit_define)]
pub fn first_map<F: Float, N: Size, R: Radial>(
    inputs: &Inputs<F, N>,
    grad: &Cotangents<F, N>,
    receiver: &Array<u32>,
    partials: &mut Array<F>,
    n_parts: u32,
    edges_per_part: u32,
    #[comptime] config: BackwardConfig,
    #[define(F)] _real: cubecl::ir::StorageType,
    #[define(N)] _lanes: usize,
) {
    let layout = comptime!(config.tile);
    let part = part_of_group(layout);
    let (start, end) = part_of_list::<F, N>(inputs, part, edges_per_part as usize);
    let mut tile = SlopeTile::<F>::new(config);
    let mut by_hidden = SharedMemory::<F>::new(comptime!(layout.hidden * layout.plane()));
    let mut outer = SharedMemory::<Vector<F, N>>::new(comptime!(config.outer()));
    let tiles = (edges_per_part as usize + comptime!(layout.edges_per_tile - 1)) / layout.edges_per_tile;
    for t in 0..tiles {
        let first = start + t * layout.edges_per_tile;
        load_listed::<F, N>(inputs, receiver, &mut tile.values, first, end, layout);
        sync_cube();
        R::fill::<F, N>(inputs, &mut tile, config);
        sync_cube();
        hidden_activation_slopes::<F, N>(inputs, &mut tile.values, layout);
        sync_cube();
        hidden_gradients::<F, N>(inputs, grad, &tile.values, &mut outer, &mut by_hidden, config);
        if part < n_parts as usize {
            let count = comptime!((layout.n_basis + 1) * layout.hidden);
            for i in range_stepped(UNIT_POS_X as usize, count, layout.units) {
                let k = i / layout.hidden;
                let h = i % layout.hidden;
                let mut sum = F::new(0.0);
                #[unroll]
                for e in 0..layout.edges_per_tile {
                    let at = hidden_at(h, e, layout);
                    let gradient = tile.values.floats[at] * by_hidden[at - comptime!(layout.hidden_layer())];
                    let mut value = F::new(1.0);
                    if k < layout.n_basis {
                        value = tile.values.floats[basis_at(k, e, layout)];
                    }
                    sum += value * gradient;
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

/// Gradients in the values of a tile's hidden layer: those in the last map's outputs, times its weights, a block of channels
/// and `unroll` edges at a time.
#[cube]
fn hidden_gradients<F: Float, N: Size>(
    inputs: &Inputs<F, N>,
    grad: &Cotangents<F, N>,
    tile: &Tile<F>,
    outer: &mut SharedMemory<Vector<F, N>>,
    by_hidden: &mut SharedMemory<F>,
    #[comptime] config: BackwardConfig,
) {
    let layout = comptime!(config.tile);
    let features = inputs.features as usize;
    let columns = features * config.parts;
    let mut edge = Edge::<F, N>::new(config);
    let mut sums = Array::<Vector<F, N>>::new(layout.unroll);
    for block in 0..(features + comptime!(layout.units - 1)) / layout.units {
        let first = block * layout.units;
        let c = (first + UNIT_POS_X as usize) % features;
        for e in range_stepped(0usize, layout.edges_per_tile, layout.unroll) {
            #[unroll]
            for i in 0..layout.unroll {
                let at = slot(e + i, layout);
                load_ends::<F, N>(inputs, grad, tile, &mut edge, at, c, config);
                let f_c = Vector::new(tile.floats[comptime!(layout.f_c()) + at]);
                #[unroll]
                for p in 0..config.parts {
                    outer[outer_at(i, p, config) + UNIT_POS_X as usize] = f_c * edge.sender[p] * edge.product[p];
                }
            }
            sync_cube();
            let width = min(features - first, layout.units);
            for h in range_stepped(UNIT_POS_X as usize, layout.hidden, layout.units) {
                #[unroll]
                for i in 0..layout.unroll {
                    sums[i] = Vector::new(F::new(0.0));
                }
                for x in 0..width {
                    #[unroll]
                    for p in 0..config.parts {
                        let weight = inputs.weights[h * columns + p * features + first + x];
                        #[unroll]
                        for i in 0..layout.unroll {
                            sums[i] += weight * outer[outer_at(i, p, config) + x];
                        }
                    }
                }
                #[unroll]
                for i in 0..layout.unroll {
                    let to = hidden_at(h, e + i, layout) - comptime!(layout.hidden_layer());
                    let mut sum = sum_of_lanes::<F, N>(sums[i]);
                    // Written by this same unit.
                    if block > 0 {
                        sum += by_hidden[to];
                    }
                    by_hidden[to] = sum;
                }
            }
            sync_cube();
        }
    }
}

/// Where the units' vectors of part `p` of edge `i` of a pass begin.
#[cube]
fn outer_at(#[comptime] i: usize, #[comptime] p: usize, #[comptime] config: BackwardConfig) -> usize {
    (UNIT_POS_Y as usize * comptime!(config.tile.unroll * config.parts) + comptime!(i * config.parts + p))
        * config.tile.units
}

/// Adds up `n_parts` parts of `len` elements in their order: the first `split` of them into `weights`, the rest into `bias`.
#[cube(launch_unchecked)]
pub fn add_parts<F: Float>(
    partials: &Array<F>,
    weights: &mut Array<F>,
    bias: &mut Array<F>,
    n_parts: u32,
    split: u32,
    len: u32,
) {
    let i = ABSOLUTE_POS;
    if i < len as usize {
        let mut sum = F::new(0.0);
        for part in 0..n_parts as usize {
            sum += partials[part * len as usize + i];
        }
        if i < split as usize {
            weights[i] = sum;
        } else {
            bias[i - split as usize] = sum;
        }
    }
}
