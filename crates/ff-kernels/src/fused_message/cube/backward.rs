//! The kernels of both backwards. The first computes gradients in senders' features, edge vectors and weights, from those in
//! the outputs. The second computes the rates of these in a direction in the inputs, and the rates of the outputs.
//!
//! [`senders`] walks the list by sender as the forward walks it by receiver: the units of one sender share a tile of its
//! edges and hold its sums in registers. What an edge vector is owed is summed over the units of the tile in shared memory,
//! and over blocks of channels by the row's own units, one block after another. [`last_map`] and [`first_map`] cut the
//! edges into parts whose sums [`add_groups`] and [`add_parts`] add in their order. [`receivers`] is the forward's walk with
//! rates. There are no atomics in these: the same bits on every run.
//!
//! [`edges`] is the first backward's walk for variants that add atomically: tiles of edges as they lie, whose units add what
//! each edge owes its sender. It reads no list by sender.
//!
//! | kernel | cube x | cube y | count x | count y | count z |
//! | --- | --- | --- | --- | --- | --- |
//! | `senders` | channels_per_cube / vector_width | rows_per_cube | rows / rows_per_cube | 1 | what exceeds x |
//! | `edges` | channels_per_cube | tiles_per_cube | tiles / tiles_per_cube | 1 | what exceeds x |
//! | `receivers` | as `senders` | as `senders` | as `senders` | F / channels_per_cube | what exceeds x |
//! | `last_map` | as above | parts of a cube | parts | F / channels_per_cube | rows of the gradient |
//! | `first_map` | as above | parts of a cube | parts | 1 | 1 |

use cubecl::prelude::*;

use super::radial::Radial;
use super::{
    CubeConfig, Inputs, Sums, Tile, basis_at, channel, clear, global_group, has_channel, hermite_weights, hidden_at,
    load_edge, longest_row, receiver_of, slot, start_filter, store_row, tiles_of_cube, turns,
};
use crate::cube::maths;

/// A kernel of the backwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kernel {
    /// [`senders`].
    Senders,
    /// [`edges`].
    Edges,
    /// [`receivers`].
    Receivers,
    /// [`last_map`].
    LastMap,
    /// [`first_map`].
    FirstMap,
}

/// What is fixed when a kernel of a backward is compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BackwardConfig {
    /// Which kernel.
    pub kernel: Kernel,
    /// The layout of a cube and of its tile's values.
    pub tile: CubeConfig,
    /// Filters per feature: 1 (`cfconv`) or 3 (`painn`).
    pub parts: usize,
    /// Parameters of the cutoff function.
    pub cutoff_parameters: usize,
    /// `senders` or `edges` computes gradients in node features.
    pub nodes: bool,
    /// `senders` or `edges` computes gradients in edge vectors: the tile holds slopes.
    pub edges: bool,
    /// There is no list by sender: receivers are searched in `row_ptr`.
    pub searched: bool,
    /// The second backward: rates of what the first computes. The tile holds rates.
    pub rates: bool,
    /// The direction is in the weights too.
    pub varied: bool,
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

    /// What the channels of an edge sum: the gradient in d, and in the three axes of u where the message has them; then the
    /// rates of these.
    pub fn edge_sums(&self) -> usize {
        self.receiver_vectors() * self.orders()
    }

    /// 2 where there are rates, else 1.
    pub fn orders(&self) -> usize {
        1 + usize::from(self.rates)
    }

    /// How far the first derivative of a basis value or hidden unit lies before the value itself: d and u have none.
    pub fn before_derivatives(&self) -> usize {
        4 * self.tile.plane()
    }

    /// Floats of one derivative of a tile's values: of f_c, basis values or Hermite weights, and hidden layer.
    pub fn derivative(&self) -> usize {
        self.tile.floats() - self.before_derivatives()
    }

    /// Whether places in the list are edges, whose receivers the tile holds.
    pub fn reads_receivers(&self) -> bool {
        matches!(self.kernel, Kernel::LastMap | Kernel::FirstMap | Kernel::Edges)
    }

    /// Where rates begin, after slopes.
    pub fn rates_at(&self) -> usize {
        if self.edges { self.derivative() } else { 0 }
    }

    /// Where the rates of slopes begin.
    pub fn slope_rates_at(&self) -> usize {
        2 * self.derivative()
    }

    /// Where the rate of d and, in three planes, those of u begin.
    pub fn motion(&self) -> usize {
        let derivatives = match (self.edges, self.rates) {
            (false, false) => 0,
            (true, true) => 3,
            _ => 1,
        };
        derivatives * self.derivative()
    }

    /// Floats of the derivatives, at least one.
    pub fn derivatives(&self) -> usize {
        (self.motion() + if self.rates { 4 * self.tile.plane() } else { 0 }).max(1)
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

    /// Vectors of gradients in the last map's outputs, and of their rates: [orders, groups, unroll, parts, units].
    pub fn outer(&self) -> usize {
        self.orders() * self.tile.groups * self.tile.unroll * self.parts * self.tile.units
    }

    /// Floats of gradients in the hidden layer, [groups, H, edges_per_tile].
    pub fn by_hidden(&self) -> usize {
        self.tile.hidden * self.tile.plane()
    }

    /// Bytes of shared memory for elements of `size` bytes in vectors of `lanes`.
    pub fn shared_memory(&self, size: usize, lanes: usize) -> usize {
        let aligned = |bytes: usize| bytes.next_multiple_of(16);
        let values = aligned(self.tile.floats() * size) + aligned(3 * self.tile.plane() * 4);
        let sums = aligned(self.unit_sums() * size) + aligned(self.tile_sums() * size);
        let hidden = match self.kernel {
            Kernel::FirstMap => aligned(self.orders() * self.by_hidden() * size) + aligned(self.outer() * size * lanes),
            _ => 0,
        };
        values + aligned(self.derivatives() * size) + sums + hidden
    }

    /// Turns of its loops that a unit takes for `tiles` tiles and `features` vectors of features, no fewer than it does.
    pub fn turns(&self, tiles: usize, features: usize) -> usize {
        let CubeConfig { units, groups, edges_per_tile, unroll, n_basis, hidden, depth, .. } = self.tile;
        let shared = |count: usize| count.div_ceil(units);
        let blocks = features.div_ceil(units);
        let passes = edges_per_tile / unroll;
        let search = if self.searched { turns(shared(edges_per_tile), turns(u32::BITS as usize, 0)) } else { 0 };
        let fill = self.tile.turns_to_fill() + search;
        let walk = || {
            let sums = turns(shared(unroll * self.edge_sums()), turns(units / self.stride_of_sum(), 0));
            turns(passes, turns(depth, 0) + sums) + turns(shared(edges_per_tile), 0)
        };
        let of_tile = match self.kernel {
            Kernel::Senders => fill + walk(),
            Kernel::Edges => fill + turns(blocks, walk()),
            Kernel::Receivers => fill + turns(passes, turns(depth, 0)),
            Kernel::LastMap => fill + turns(edges_per_tile, 0),
            Kernel::FirstMap => {
                let gradients = turns(blocks, turns(passes, turns(shared(hidden), turns(units.min(features), 0))));
                fill + gradients + turns(shared((n_basis + 1) * hidden), 0)
            }
        };
        let walks = if self.kernel == Kernel::Senders { blocks } else { 1 };
        turns(groups, 0) + turns(walks, turns(tiles, of_tile))
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
type Along<F, N> = ComptimeOption<Direction<F, N>>;

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

/// Filters of `unroll` edges for a unit's channels, [parts, unroll], with their derivatives as far as the kernel has them.
#[derive(CubeType)]
pub struct Filters<F: Float, N: Size> {
    /// W.
    pub value: Array<Vector<F, N>>,
    /// W′.
    pub slope: Array<Vector<F, N>>,
    /// The rate of W.
    pub rate: Array<Vector<F, N>>,
    /// The rate of W′.
    pub slope_rate: Array<Vector<F, N>>,
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
    /// Rates of `sender`.
    pub sender_rate: Array<Vector<F, N>>,
    /// Rates of `product`; that of the first is zero.
    pub product_rate: Array<Vector<F, N>>,
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
    fn store_motion<N: Size>(
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

#[cube]
impl<F: Float, N: Size> Filters<F, N> {
    /// Registers for a configuration.
    pub fn new(#[comptime] config: BackwardConfig) -> Filters<F, N> {
        let length = comptime!(config.tile.filters(config.parts));
        Filters::<F, N> {
            value: Array::new(length),
            slope: Array::new(length),
            rate: Array::new(length),
            slope_rate: Array::new(length),
        }
    }

    /// Computes the filters of `unroll` edges from `e` on for the vector of channels `c`.
    pub fn apply(
        &mut self,
        inputs: &Inputs<F, N>,
        direction: &Along<F, N>,
        tile: &SlopeTile<F>,
        e: usize,
        c: usize,
        #[comptime] config: BackwardConfig,
    ) {
        let layout = comptime!(config.tile);
        let features = inputs.features as usize;
        let columns = features * config.parts;
        let tabulated = comptime!(layout.order > 0);
        start_filter::<F, N>(&inputs.bias, &mut self.value, features, c, config.parts, layout);
        let zero = Vector::<F, N>::new(F::new(0.0));
        #[unroll]
        for j in 0..layout.filters(config.parts) {
            self.slope[j] = zero;
            self.rate[j] = zero;
            self.slope_rate[j] = zero;
        }
        if comptime!(config.varied) {
            let direction = direction.as_ref().unwrap();
            start_filter::<F, N>(&direction.bias, &mut self.rate, features, c, config.parts, layout);
        }
        for k in 0..layout.depth {
            if comptime!(tabulated) {
                #[unroll]
                for i in 0..layout.unroll {
                    let base = tile.values.indices[comptime!(2 * layout.plane()) + slot(e + i, layout)] as usize;
                    let row = (base + k) * columns + c;
                    let at = basis_at(k, e + i, layout);
                    #[unroll]
                    for part in 0..config.parts {
                        let node = inputs.weights[row + part * features];
                        self.add(node, tile, at, comptime!(part * layout.unroll + i), config);
                    }
                }
            } else {
                #[unroll]
                for part in 0..config.parts {
                    let column = k * columns + part * features + c;
                    let weight = inputs.weights[column];
                    #[unroll]
                    for i in 0..layout.unroll {
                        let at = coefficient_at(k, e + i, layout);
                        self.add(weight, tile, at, comptime!(part * layout.unroll + i), config);
                    }
                    if comptime!(config.varied) {
                        let rate = direction.as_ref().unwrap().weights[column];
                        #[unroll]
                        for i in 0..layout.unroll {
                            let at = coefficient_at(k, e + i, layout);
                            self.add_varied(rate, tile, at, comptime!(part * layout.unroll + i), config);
                        }
                    }
                }
            }
        }
        if comptime!(!tabulated) {
            #[unroll]
            for i in 0..layout.unroll {
                #[unroll]
                for part in 0..config.parts {
                    self.cut_off(tile, slot(e + i, layout), comptime!(part * layout.unroll + i), config);
                }
            }
        }
    }

    /// Adds a row of the last map, whose coefficient lies at `at`, to filter `j`.
    fn add(
        &mut self,
        weight: Vector<F, N>,
        tile: &SlopeTile<F>,
        at: usize,
        #[comptime] j: usize,
        #[comptime] config: BackwardConfig,
    ) {
        self.value[j] += weight * Vector::new(tile.values.floats[at]);
        if comptime!(config.edges) {
            self.slope[j] += weight * Vector::new(tile.slope(at, config));
        }
        if comptime!(config.rates) {
            self.rate[j] += weight * Vector::new(tile.rate(at, config));
        }
        if comptime!(config.edges && config.rates) {
            self.slope_rate[j] += weight * Vector::new(tile.slope_rate(at, config));
        }
    }

    /// Adds the rate of a row of the last map.
    fn add_varied(
        &mut self,
        rate: Vector<F, N>,
        tile: &SlopeTile<F>,
        at: usize,
        #[comptime] j: usize,
        #[comptime] config: BackwardConfig,
    ) {
        self.rate[j] += rate * Vector::new(tile.values.floats[at]);
        if comptime!(config.edges) {
            self.slope_rate[j] += rate * Vector::new(tile.slope(at, config));
        }
    }

    /// Multiplies filter `j` with the cutoff of the edge in slot `at`.
    fn cut_off(&mut self, tile: &SlopeTile<F>, at: usize, #[comptime] j: usize, #[comptime] config: BackwardConfig) {
        let layout = comptime!(config.tile);
        let of = comptime!(config.before_derivatives()) + at;
        let f_c = Vector::new(tile.values.floats[comptime!(layout.f_c()) + at]);
        if comptime!(config.edges && config.rates) {
            let slope = Vector::new(tile.slope(of, config));
            let rate = Vector::new(tile.rate(of, config));
            let slope_rate = Vector::new(tile.slope_rate(of, config));
            self.slope_rate[j] =
                slope_rate * self.value[j] + slope * self.rate[j] + rate * self.slope[j] + f_c * self.slope_rate[j];
        }
        if comptime!(config.rates) {
            self.rate[j] = self.rate[j] * f_c + self.value[j] * Vector::new(tile.rate(of, config));
        }
        if comptime!(config.edges) {
            self.slope[j] = self.slope[j] * f_c + self.value[j] * Vector::new(tile.slope(of, config));
        }
        self.value[j] *= f_c;
    }
}

/// Reads the features of atom `j` at the vector of channels `c`.
#[cube]
fn load_features<F: Float, N: Size>(
    nodes: &Array<Vector<F, N>>,
    vectors: &Array<Vector<F, N>>,
    to: &mut Array<Vector<F, N>>,
    from: usize,
    features: usize,
    #[comptime] config: BackwardConfig,
) {
    #[unroll]
    for p in 0..config.parts {
        to[p] = nodes[from + p * features];
    }
    if comptime!(config.parts == 3) {
        #[unroll]
        for x in 0..3usize {
            to[comptime!(3 + x)] = vectors[from + x * features];
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
            sender_rate: Array::new(comptime!(config.sender_vectors())),
            product_rate: Array::new(comptime!(config.parts)),
        }
    }

    /// Reads the features of atom `j` at the vector of channels `c`.
    pub fn load_sender(
        &mut self,
        inputs: &Inputs<F, N>,
        direction: &Along<F, N>,
        j: usize,
        c: usize,
        #[comptime] config: BackwardConfig,
    ) {
        let features = inputs.features as usize;
        let from = j * config.parts * features + c;
        load_features::<F, N>(&inputs.nodes, &inputs.vectors, &mut self.sender, from, features, config);
        if comptime!(config.rates) {
            let direction = direction.as_ref().unwrap();
            load_features::<F, N>(&direction.nodes, &direction.vectors, &mut self.sender_rate, from, features, config);
        }
    }

    /// Reads the gradients at the atom that plane `plane` of the tile names for slot `at`, and multiplies them with what the
    /// edge and its sender are.
    pub fn load_receiver(
        &mut self,
        grad: &Cotangents<F, N>,
        tile: &SlopeTile<F>,
        at: usize,
        c: usize,
        #[comptime] plane: usize,
        #[comptime] config: BackwardConfig,
    ) {
        let layout = comptime!(config.tile);
        let features = grad.features as usize;
        let i = tile.values.indices[comptime!(plane * layout.plane()) + at] as usize;
        let zero = Vector::<F, N>::new(F::new(0.0));
        self.receiver[0] = grad.nodes[i * features + c];
        self.product[0] = self.receiver[0];
        self.product_rate[0] = zero;
        if comptime!(config.parts == 3) {
            #[unroll]
            for p in 1..3usize {
                self.product[p] = zero;
                self.product_rate[p] = zero;
            }
            #[unroll]
            for x in 0..3usize {
                let g = grad.vectors[(i * 3 + x) * features + c];
                let u = tile.values.floats[comptime!(layout.u() + x * layout.plane()) + at];
                self.product[1] += g * Vector::new(u);
                self.product[2] += g * self.sender[comptime!(3 + x)];
                self.receiver[comptime!(1 + x)] = g;
                if comptime!(config.rates) {
                    self.product_rate[1] += g * Vector::new(tile.motion(at, comptime!(1 + x), config));
                    self.product_rate[2] += g * self.sender_rate[comptime!(3 + x)];
                }
            }
        }
    }

    /// The gradient in filter `p`.
    fn by_filter(&self, #[comptime] p: usize) -> Vector<F, N> {
        self.sender[p] * self.product[p]
    }

    /// The rate of the gradient in filter `p`.
    fn by_filter_rate(&self, #[comptime] p: usize) -> Vector<F, N> {
        let rate = self.sender_rate[p] * self.product[p];
        if comptime!(p > 0) { rate + self.sender[p] * self.product_rate[p] } else { rate }
    }

    /// Part `p` of the sender's features times filter `j`.
    fn weighted(&self, filters: &Filters<F, N>, #[comptime] p: usize, #[comptime] j: usize) -> Vector<F, N> {
        self.sender[p] * filters.value[j]
    }

    /// The rate of [`Edge::weighted`].
    fn weighted_rate(&self, filters: &Filters<F, N>, #[comptime] p: usize, #[comptime] j: usize) -> Vector<F, N> {
        self.sender_rate[p] * filters.value[j] + self.sender[p] * filters.rate[j]
    }
}

/// The first backward's gradients in what the senders send, and in the edge vectors, or the second's rates of them; one group
/// of units per sender.
///
/// `inputs` holds the list by sender: `row_ptr` is that of the senders, and `sender` names the receiver of each edge.
/// `transpose` [n_edges] has the edges of the senders one after another.
#[cube(launch_unchecked, explicit_define)]
pub fn senders<F: Float, N: Size, R: Radial>(
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
            fill_tile::<F, N, R>(inputs, direction, transpose, &mut tile, first, end, config);
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

/// The first backward's gradients in what the senders send, added atomically, and in the edge vectors; one group of units per
/// tile of edges.
#[cube(launch_unchecked, explicit_define)]
pub fn edges<F: Float, N: Size, R: Radial>(
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
    fill_tile::<F, N, R>(inputs, direction, &inputs.sender, &mut tile, first, n_edges, config);
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

/// Rates of the outputs of the forward; one group of units per receiver and block of channels.
#[cube(launch_unchecked, explicit_define)]
pub fn receivers<F: Float, N: Size, R: Radial>(
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
        fill_tile::<F, N, R>(inputs, direction, &inputs.sender, &mut tile, first, end, config);
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

/// Loads the edges at places `first`.. `end` of a list into this group's slab, with the coefficients of the filter's last
/// linear map and what derivatives the kernel has; synchronises.
///
/// What `list` names by place is the edge for `senders`; for the maps, whose places are edges, it is the receiver, which is
/// loaded too, and is searched where there is no such list.
#[cube]
fn fill_tile<F: Float, N: Size, R: Radial>(
    inputs: &Inputs<F, N>,
    direction: &Along<F, N>,
    list: &Array<u32>,
    tile: &mut SlopeTile<F>,
    first: usize,
    end: usize,
    #[comptime] config: BackwardConfig,
) {
    let layout = comptime!(config.tile);
    for e in range_stepped(UNIT_POS_X as usize, layout.edges_per_tile, layout.units) {
        let exists = first + e < end;
        let at = slot(e, layout);
        let mut edge = 0usize;
        let mut listed = 0u32;
        if exists {
            edge = first + e;
            if comptime!(!config.searched) {
                listed = list[edge];
            }
        }
        if comptime!(config.kernel == Kernel::Senders) {
            edge = listed as usize;
        }
        load_edge::<F, N>(inputs, &mut tile.values, at, edge, exists, layout);
        if comptime!(config.reads_receivers()) {
            if comptime!(config.searched) {
                listed = receiver_of(&inputs.row_ptr, inputs.n_atoms as usize, edge);
            }
            tile.values.indices[comptime!(layout.plane()) + at] = listed;
        }
        if comptime!(config.rates) {
            tile.store_motion::<N>(direction.as_ref().unwrap(), at, edge, config);
        }
    }
    sync_cube();
    if comptime!(layout.order > 0) {
        if comptime!(config.edges || config.rates) {
            hermite_derivatives::<F, N>(inputs, tile, config);
        }
        hermite_weights::<F, N>(inputs, &mut tile.values, layout);
    } else {
        R::fill::<F, N>(inputs, tile, config);
        if comptime!(layout.hidden > 0) {
            sync_cube();
            hidden_derivatives::<F, N>(inputs, direction, tile, config);
        }
    }
    sync_cube();
}

/// Derivatives of a tile's Hermite weights in d.
#[cube]
fn hermite_derivatives<F: Float, N: Size>(
    inputs: &Inputs<F, N>,
    tile: &mut SlopeTile<F>,
    #[comptime] config: BackwardConfig,
) {
    let layout = comptime!(config.tile);
    let segments = F::cast_from(inputs.segments);
    let h = inputs.radial[0] / segments;
    for e in range_stepped(UNIT_POS_X as usize, layout.edges_per_tile, layout.units) {
        let at = slot(e, layout);
        let x = tile.values.floats[at] / h;
        let t = x - F::floor(min(x, segments - F::new(1.0)));
        let s = F::new(1.0) - t;
        // Zero for slots without an edge, so that they contribute nothing.
        let one = tile.values.floats[comptime!(layout.f_c()) + at];
        let mut slopes = Array::<F>::new(comptime!(2 * layout.order));
        let mut curves = Array::<F>::new(comptime!(2 * layout.order));
        if comptime!(layout.order == 2) {
            slopes[2] = one * F::new(6.0) * t * s / h;
            slopes[1] = one * s * (F::new(1.0) - F::new(3.0) * t);
            slopes[3] = one * t * (F::new(1.0) - F::new(3.0) * s);
            curves[2] = one * F::new(6.0) * (s - t) / (h * h);
            curves[1] = one * (F::new(6.0) * t - F::new(4.0)) / h;
            curves[3] = one * (F::new(4.0) - F::new(6.0) * s) / h;
        } else {
            let t2 = t * t;
            let s2 = s * s;
            let half = F::new(0.5) * one * h;
            slopes[3] = one * F::new(30.0) * t2 * s2 / h;
            slopes[1] = one * s2 * (F::new(1.0) - F::new(3.0) * t) * (F::new(1.0) + F::new(5.0) * t);
            slopes[4] = one * t2 * (F::new(1.0) - F::new(3.0) * s) * (F::new(1.0) + F::new(5.0) * s);
            slopes[2] = half * t * s2 * (F::new(2.0) - F::new(5.0) * t);
            slopes[5] = F::new(0.0) - half * s * t2 * (F::new(2.0) - F::new(5.0) * s);
            // d²/dt² of the weights, over h².
            let ends = one * F::new(12.0) * t * s / h;
            let half = F::new(0.5) * one;
            curves[3] = F::new(5.0) * ends * (s - t) / h;
            curves[1] = F::new(0.0) - ends * (F::new(3.0) - F::new(5.0) * t);
            curves[4] = ends * (F::new(3.0) - F::new(5.0) * s);
            curves[2] = half * s * (F::new(2.0) - F::new(16.0) * t + F::new(20.0) * t2);
            curves[5] = half * t * (F::new(2.0) - F::new(16.0) * s + F::new(20.0) * s2);
        }
        slopes[0] = F::new(0.0) - slopes[layout.order];
        curves[0] = F::new(0.0) - curves[layout.order];
        #[unroll]
        for k in 0..comptime!(2 * layout.order) {
            let of = basis_at(k, e, layout);
            tile.store_slope(slopes[k], of, e, config);
            if comptime!(config.edges && config.rates) {
                tile.store_curve(curves[k], of, e, config);
            }
        }
    }
}

/// σ, σ′ and σ″ of a configuration.
#[cube]
fn activation<F: Float>(x: F, #[comptime] config: CubeConfig) -> (F, F, F) {
    let one = F::new(1.0);
    if comptime!(config.tanh) {
        let t = maths::tanh::<F>(x);
        let slope = one - t * t;
        (t, slope, F::new(-2.0) * t * slope)
    } else {
        let slope = maths::logistic::<F>(x);
        (maths::shifted_softplus::<F>(x), slope, slope * (one - slope))
    }
}

/// σ(Φ A₁ + b₁) of a tile with what derivatives the kernel has, by units as in [`super::hidden_layer`]; for `first_map`
/// σ′ in its place, with its rate.
#[cube]
fn hidden_derivatives<F: Float, N: Size>(
    inputs: &Inputs<F, N>,
    direction: &Along<F, N>,
    tile: &mut SlopeTile<F>,
    #[comptime] config: BackwardConfig,
) {
    let layout = comptime!(config.tile);
    let count = comptime!(layout.hidden * (layout.edges_per_tile / layout.unroll));
    let mut sums = Array::<F>::new(layout.unroll);
    let mut slopes = Array::<F>::new(layout.unroll);
    let mut rates = Array::<F>::new(layout.unroll);
    let mut slope_rates = Array::<F>::new(layout.unroll);
    for i in range_stepped(UNIT_POS_X as usize, count, layout.units) {
        let h = i % layout.hidden;
        let first = (i / layout.hidden) * layout.unroll;
        let bias = inputs.hidden_bias[h];
        let mut bias_rate = F::new(0.0);
        if comptime!(config.varied) {
            bias_rate = direction.as_ref().unwrap().hidden_bias[h];
        }
        #[unroll]
        for j in 0..layout.unroll {
            sums[j] = bias;
            slopes[j] = F::new(0.0);
            rates[j] = bias_rate;
            slope_rates[j] = F::new(0.0);
        }
        for k in 0..layout.n_basis {
            let weight = inputs.hidden_weights[k * layout.hidden + h];
            let mut weight_rate = F::new(0.0);
            if comptime!(config.varied) {
                weight_rate = direction.as_ref().unwrap().hidden_weights[k * layout.hidden + h];
            }
            #[unroll]
            for j in 0..layout.unroll {
                let at = basis_at(k, first + j, layout);
                sums[j] += tile.values.floats[at] * weight;
                if comptime!(config.edges) {
                    slopes[j] += tile.slope(at, config) * weight;
                }
                if comptime!(config.rates) {
                    rates[j] += tile.rate(at, config) * weight;
                }
                if comptime!(config.edges && config.rates) {
                    slope_rates[j] += tile.slope_rate(at, config) * weight;
                }
                if comptime!(config.varied) {
                    rates[j] += tile.values.floats[at] * weight_rate;
                }
                if comptime!(config.varied && config.edges) {
                    slope_rates[j] += tile.slope(at, config) * weight_rate;
                }
            }
        }
        #[unroll]
        for j in 0..layout.unroll {
            let at = hidden_at(h, first + j, layout);
            let to = at - comptime!(config.before_derivatives());
            let (value, slope, curve) = activation::<F>(sums[j], layout);
            let slope_rate = curve * rates[j];
            if comptime!(config.kernel == Kernel::FirstMap) {
                tile.values.floats[at] = slope;
                if comptime!(config.rates) {
                    tile.derivatives[to + comptime!(config.rates_at())] = slope_rate;
                }
            } else {
                tile.values.floats[at] = value;
                if comptime!(config.edges) {
                    tile.derivatives[to] = slope * slopes[j];
                }
                if comptime!(config.rates) {
                    tile.derivatives[to + comptime!(config.rates_at())] = slope * rates[j];
                }
                if comptime!(config.edges && config.rates) {
                    tile.derivatives[to + comptime!(config.slope_rates_at())] =
                        slope_rate * slopes[j] + slope * slope_rates[j];
                }
            }
        }
    }
}

/// The place of input `k` of the filter's last map for edge `e` of this unit's group.
#[cube]
fn coefficient_at(k: usize, e: usize, #[comptime] config: CubeConfig) -> usize {
    if comptime!(config.hidden > 0) { hidden_at(k, e, config) } else { basis_at(k, e, config) }
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

/// Adds the gradients of an edge, or their rates, whose filter is `i`, `unroll + i`, …, to the sums of its sender.
#[cube]
fn add_to_sender<F: Float, N: Size>(
    edge: &Edge<F, N>,
    filters: &Filters<F, N>,
    sums: &mut Sums<F, N>,
    #[comptime] i: usize,
    #[comptime] config: BackwardConfig,
) {
    #[unroll]
    for p in 0..config.parts {
        let j = comptime!(p * config.tile.unroll + i);
        if comptime!(config.rates) {
            sums.value[p] += edge.product[p] * filters.rate[j];
            if comptime!(p > 0) {
                sums.value[p] += edge.product_rate[p] * filters.value[j];
            }
        } else {
            sums.value[p] += edge.product[p] * filters.value[j];
        }
    }
    if comptime!(config.parts == 3) {
        let j = comptime!(2 * config.tile.unroll + i);
        let mut w_mu = edge.weighted(filters, 2usize, j);
        if comptime!(config.rates) {
            w_mu = edge.weighted_rate(filters, 2usize, j);
        }
        #[unroll]
        for x in 0..3usize {
            sums.value[comptime!(3 + x)] += w_mu * edge.receiver[comptime!(1 + x)];
        }
    }
}

/// What a unit's channels of an edge add to the gradients in d and in the axes of u, and to their rates.
#[cube]
fn sum_channels<F: Float, N: Size>(
    edge: &Edge<F, N>,
    filters: &Filters<F, N>,
    by_edge: &mut Array<Vector<F, N>>,
    #[comptime] i: usize,
    #[comptime] config: BackwardConfig,
) {
    let rates = comptime!(config.receiver_vectors());
    #[unroll]
    for q in 0..config.edge_sums() {
        by_edge[q] = Vector::new(F::new(0.0));
    }
    #[unroll]
    for p in 0..config.parts {
        let j = comptime!(p * config.tile.unroll + i);
        by_edge[0] += edge.by_filter(p) * filters.slope[j];
        if comptime!(config.rates) {
            by_edge[rates] += edge.by_filter_rate(p) * filters.slope[j] + edge.by_filter(p) * filters.slope_rate[j];
        }
    }
    if comptime!(config.parts == 3) {
        let j = comptime!(config.tile.unroll + i);
        #[unroll]
        for x in 0..3usize {
            let g = edge.receiver[comptime!(1 + x)];
            by_edge[comptime!(1 + x)] = edge.weighted(filters, 1usize, j) * g;
            if comptime!(config.rates) {
                by_edge[comptime!(rates + 1 + x)] = edge.weighted_rate(filters, 1usize, j) * g;
            }
        }
    }
}

/// Writes what this unit's channels add for edge `i` of `unroll`, nothing for a unit without channels of its own.
#[cube]
fn store_sums_of_unit<F: Float, N: Size>(
    by_edge: &Array<Vector<F, N>>,
    tile: &mut SlopeTile<F>,
    has_own: bool,
    #[comptime] i: usize,
    #[comptime] config: BackwardConfig,
) {
    #[unroll]
    for q in 0..config.edge_sums() {
        let sum = sum_of_lanes::<F, N>(by_edge[q]);
        tile.unit_sums[unit_row(comptime!(i * config.edge_sums() + q), config) + UNIT_POS_X as usize] =
            select(has_own, sum, F::new(0.0));
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

/// Gradients in edge vectors, or their rates, from what the channels of each edge have summed; every block but the first adds
/// its own. `list` names the edges for `senders`; for `edges` places are edges.
#[cube]
fn store_edges<F: Float>(
    tile: &SlopeTile<F>,
    list: &Array<u32>,
    out_edges: &mut Array<F>,
    first: usize,
    end: usize,
    block: usize,
    #[comptime] config: BackwardConfig,
) {
    let layout = comptime!(config.tile);
    let plane = comptime!(layout.plane());
    let rates = comptime!(config.receiver_vectors());
    for e in range_stepped(UNIT_POS_X as usize, layout.edges_per_tile, layout.units) {
        if first + e < end {
            let at = slot(e, layout);
            let sums = at * comptime!(config.edge_sums());
            let mut to = (first + e) * 3;
            if comptime!(config.kernel == Kernel::Senders) {
                to = list[first + e] as usize * 3;
            }
            let by_d = tile.edge_sums[sums];
            let mut along = F::new(0.0);
            let mut along_rate = F::new(0.0);
            let mut inverse = F::new(0.0);
            if comptime!(config.parts == 3) {
                #[unroll]
                for x in 0..3usize {
                    let u = tile.values.floats[comptime!(layout.u() + x * plane) + at];
                    let by_u = tile.edge_sums[sums + comptime!(1 + x)];
                    along += u * by_u;
                    if comptime!(config.rates) {
                        along_rate += tile.motion(at, comptime!(1 + x), config) * by_u
                            + u * tile.edge_sums[sums + comptime!(rates + 1 + x)];
                    }
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
                let mut across = F::new(0.0);
                if comptime!(config.parts == 3) {
                    across = (tile.edge_sums[sums + comptime!(1 + x)] - u * along) * inverse;
                }
                if comptime!(config.rates) {
                    let u_rate = tile.motion(at, comptime!(1 + x), config);
                    gradient = u_rate * by_d + u * tile.edge_sums[sums + rates];
                    if comptime!(config.parts == 3) {
                        let by_u_rate = tile.edge_sums[sums + comptime!(rates + 1 + x)];
                        let d_rate = tile.motion(at, 0usize, config);
                        across = (by_u_rate - u_rate * along - u * along_rate - across * d_rate) * inverse;
                    }
                }
                gradient += across;
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
pub fn last_map<F: Float, N: Size, R: Radial>(
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
        fill_tile::<F, N, R>(inputs, direction, receiver, &mut tile, first, end, config);
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
pub fn first_map<F: Float, N: Size, R: Radial>(
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
        fill_tile::<F, N, R>(inputs, direction, receiver, &mut tile, first, end, config);
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

/// Adds up `n_parts` parts of `len` elements in `groups` groups of `of_group`, each in its order; the sums go behind the parts.
#[cube(launch_unchecked)]
pub fn add_groups<F: Float>(partials: &mut Array<F>, n_parts: u32, groups: u32, of_group: u32, len: u32) {
    let at = ABSOLUTE_POS;
    if at < (groups * len) as usize {
        let i = at % len as usize;
        let first = (at / len as usize) * of_group as usize;
        let end = min(first + of_group as usize, n_parts as usize);
        let mut sum = F::new(0.0);
        for part in first..end {
            sum += partials[part * len as usize + i];
        }
        partials[(n_parts * len) as usize + at] = sum;
    }
}

/// Adds up `n_parts` parts of `len` elements from part `first_part` on in their order: the first `split` elements into
/// `weights`, the rest into `bias`.
#[cube(launch_unchecked)]
pub fn add_parts<F: Float>(
    partials: &Array<F>,
    weights: &mut Array<F>,
    bias: &mut Array<F>,
    first_part: u32,
    n_parts: u32,
    split: u32,
    len: u32,
) {
    let i = ABSOLUTE_POS;
    if i < len as usize {
        let mut sum = F::new(0.0);
        for part in 0..n_parts as usize {
            sum += partials[(first_part as usize + part) * len as usize + i];
        }
        if i < split as usize {
            weights[i] = sum;
        } else {
            bias[i - split as usize] = sum;
        }
    }
}
