//! What is fixed when a kernel is compiled, and what it takes of a device.

use ff_spec::fused_message::Activation;

use crate::generated::{Basis, Cutoff};

/// What is fixed when a kernel is compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CubeConfig {
    /// Units along X.
    pub units: usize,
    /// Rows or tiles of one cube: units along Y.
    pub groups: usize,
    /// Edges of one tile.
    pub edges_per_tile: usize,
    /// Edges whose filter a unit holds in registers together; divides `edges_per_tile`.
    pub unroll: usize,
    /// K.
    pub n_basis: usize,
    /// H of an `mlp` filter, else 0.
    pub hidden: usize,
    /// Derivatives per node of a `tabulated` filter, else 0.
    pub order: usize,
    /// Depth of the filter's last linear map: K, H or 2·order.
    pub depth: usize,
    /// σ between the layers of an `mlp` filter.
    pub activation: Activation,
    /// Filters per feature: 1 (`cfconv`) or 3 (`painn`).
    pub parts: usize,
    /// Radial functions; `None` where they are in a table.
    pub radial: Option<(Basis, Cutoff)>,
}

impl CubeConfig {
    /// Edges of all groups: the length of one plane of shared memory.
    pub fn plane(&self) -> usize {
        self.groups * self.edges_per_tile
    }

    /// Where f_c begins; d begins at 0.
    pub fn f_c(&self) -> usize {
        self.plane()
    }

    /// Where the three planes of u begin.
    pub fn u(&self) -> usize {
        2 * self.plane()
    }

    /// Where basis values or Hermite weights begin, [groups, K, edges_per_tile].
    pub fn basis(&self) -> usize {
        5 * self.plane()
    }

    /// Where the hidden layer begins, [groups, H, edges_per_tile].
    pub fn hidden_layer(&self) -> usize {
        self.basis() + self.n_basis.max(2 * self.order) * self.plane()
    }

    /// Filter values that a unit holds at once.
    pub fn filters(&self) -> usize {
        self.parts * self.unroll
    }

    /// Vectors of an atom that a unit sums: y, or Δq and the three axes of Δμ.
    pub fn sums(&self) -> usize {
        if self.parts == 1 { 1 } else { 4 }
    }

    /// The radial basis.
    pub fn basis_function(&self) -> Basis {
        self.radial.expect("a table has no basis").0
    }

    /// The cutoff function.
    pub fn cutoff_function(&self) -> Cutoff {
        self.radial.expect("a table holds its cutoff").1
    }

    /// Where the basis' parameters begin in `radial`, after r_c and those of the cutoff.
    pub fn basis_parameters(&self) -> usize {
        1 + self.cutoff_function().parameters().len()
    }

    /// Where the values of the basis' parameter `index` begin in `radial`, one per basis function.
    pub fn basis_parameter(&self, index: usize) -> usize {
        self.basis_parameters() + index * self.n_basis
    }

    /// Floats of shared memory.
    pub fn floats(&self) -> usize {
        self.hidden_layer() + self.hidden * self.plane()
    }

    /// Turns of its loops that a unit takes to load a tile and to compute its coefficients, no fewer than it does.
    pub fn turns_to_fill(&self) -> usize {
        let shared = |count: usize| turns(count.div_ceil(self.units), 0);
        let hidden = (self.hidden * (self.edges_per_tile / self.unroll)).div_ceil(self.units);
        3 * shared(self.edges_per_tile)
            + shared(self.n_basis * self.edges_per_tile)
            + turns(hidden, turns(self.n_basis, 0))
    }

    /// Turns of its loops that a unit of the forward takes for `tiles` tiles, no fewer than it does.
    pub fn turns(&self, tiles: usize) -> usize {
        let passes = turns(self.edges_per_tile / self.unroll, turns(self.depth, 0));
        turns(self.groups, 0) + turns(tiles, self.turns_to_fill() + passes)
    }
}

/// Turns of a loop over `count` that takes `of_each` in loops within: the one that finds the end counts as well.
pub fn turns(count: usize, of_each: usize) -> usize {
    count * (1 + of_each) + 1
}

/// A kernel of the backwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kernel {
    /// [`super::kernels::senders::senders`].
    Senders,
    /// [`super::kernels::edges::edges`].
    Edges,
    /// [`super::kernels::receivers::receivers`].
    Receivers,
    /// [`super::kernels::maps::last_map`].
    LastMap,
    /// [`super::kernels::maps::first_map`].
    FirstMap,
}

/// What is fixed when a kernel of a backward is compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BackwardConfig {
    /// Which kernel.
    pub kernel: Kernel,
    /// The layout of a cube and of its tile's values.
    pub tile: CubeConfig,
    /// Filters per feature, as in `tile`.
    pub parts: usize,
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
