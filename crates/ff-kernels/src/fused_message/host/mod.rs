//! The host kernels of `fused_message`: hand-written stages that a generated variant composes.
//!
//! A task walks its edges in tiles. Per tile: distances and directions (edges in the skin are dropped here), then the
//! coefficients of the filter (basis values, hidden layer or Hermite weights). Then, for each few registers of channels,
//! one pass over the edges computes the filter of a group of edges in registers, gathers the senders' features, and
//! sums the messages of a receiver in registers.

mod map;
mod message;
mod radial;
mod tile;
mod weights;

use std::borrow::Cow;
use std::marker::PhantomData;

use ff_spec::fused_message::{Filter, Outputs};
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use crate::host::Element;
use map::{HiddenLayer, Map};
use message::Messages;
pub use message::{Cfconv, MessageStage, Painn};
use radial::HermiteTile;
pub use radial::{Basis, Cutoff, InTable, Jet, MAX_PARAMETERS, Pair, Radial, basis_jet, cutoff_jet};
use tile::Tile;
use weights::Packed;

/// Borrowed inputs of one call; shapes as in [`ff_spec::fused_message::Inputs`], already checked.
pub struct Call<'a, T> {
    /// Feature width F.
    pub features: usize,
    /// [n_atoms + 1].
    pub row_ptr: &'a [u32],
    /// [n_edges].
    pub sender: &'a [u32],
    /// [n_edges, 3], Å.
    pub edge_vec: &'a [T],
    /// `x` or `s`.
    pub nodes: &'a [T],
    /// `mu`, or empty.
    pub vectors: &'a [T],
    /// r_c, Å.
    pub r_cut: T,
    /// K.
    pub n_basis: usize,
    /// Parameters of the basis in declared order, each of length 1 or K.
    pub basis: Vec<&'a [T]>,
    /// Parameters of the cutoff function in declared order.
    pub cutoff: Vec<T>,
    /// Weights.
    pub filter: &'a Filter<T>,
    /// A tabulated filter's table, if the caller has packed it for this configuration. Without, every call packs it,
    /// which for a molecule costs as much as the message.
    pub table: Option<&'a PackedTable<T>>,
}

/// Launch parameters of the host kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostConfig {
    /// Edges of one task; a receiver's row is not cut by `receiver`.
    pub edges_per_task: usize,
    /// Edges whose basis values are computed together.
    pub edges_per_tile: usize,
    /// Features of one pass over a tile: rounded to 1, 2 or 4 registers.
    pub channel_block: usize,
}

/// What a variant composes: its radial functions and its message. Function pointers per tile rather than types, so
/// that one variant adds one small function and not a copy of the whole kernel.
pub struct Stages<T: Element> {
    parts: usize,
    radial: fn(&Call<T>, &mut Tile<T>),
    messages: for<'a> fn(Messages<'a, T>),
}

impl<T: Element> Stages<T> {
    /// The stages of radial functions `R` and message `M`.
    pub fn new<R: Radial, M: MessageStage>() -> Self {
        Self { parts: M::PARTS, radial: R::fill, messages: M::add_tile }
    }
}

/// Where the sums of a receiver go.
trait Sink<T> {
    /// Adds to output `at` of a row, features from `channel` on: 0 is its node output, 1 to 3 the axes of its vectors.
    fn add(&mut self, row: usize, at: usize, channel: usize, values: &[T]);
}

/// Rows that one task owns.
struct OwnedRows<'a, T> {
    first_row: usize,
    features: usize,
    nodes: &'a mut [T],
    vectors: &'a mut [T],
}

impl<T: Element> Sink<T> for OwnedRows<'_, T> {
    #[inline]
    fn add(&mut self, row: usize, at: usize, channel: usize, values: &[T]) {
        let row = row - self.first_row;
        let slots = match at.checked_sub(1) {
            None => &mut self.nodes[row * self.features + channel..],
            Some(axis) => &mut self.vectors[(3 * row + axis) * self.features + channel..],
        };
        for (slot, value) in slots[..values.len()].iter_mut().zip(values) {
            *slot += *value;
        }
    }
}

/// Rows that all tasks share.
struct SharedRows<'a, T: Element> {
    features: usize,
    nodes: &'a [T::Cell],
    vectors: &'a [T::Cell],
}

impl<T: Element> Sink<T> for SharedRows<'_, T> {
    fn add(&mut self, row: usize, at: usize, channel: usize, values: &[T]) {
        let cells = match at.checked_sub(1) {
            None => &self.nodes[row * self.features + channel..],
            Some(axis) => &self.vectors[(3 * row + axis) * self.features + channel..],
        };
        for (cell, value) in cells.iter().zip(values) {
            T::atomic_add(cell, *value);
        }
    }
}

/// A tabulated filter in the order of the passes of one configuration.
pub struct PackedTable<T> {
    registers: usize,
    values: Packed<T>,
}

impl<T: Element> PackedTable<T> {
    /// Packs `values` [rows, parts × features] for calls under `config`.
    pub fn new(values: &[T], parts: usize, features: usize, config: &HostConfig) -> Self {
        let (lanes, registers) = pass_size::<T>(parts, config);
        Self { registers, values: Packed::new(values, parts, features, lanes, registers) }
    }
}

/// Lanes of a register, and registers of channels of one pass.
fn pass_size<T: Element>(parts: usize, config: &HostConfig) -> (usize, usize) {
    let lanes = Arch::new().dispatch(Lanes(PhantomData::<T>));
    // Sums and filters of more would not stay in registers.
    let most = if parts == 1 { 4 } else { 2 };
    let registers = config.channel_block.div_ceil(lanes).clamp(1, most);
    (lanes, 1 << registers.ilog2())
}

/// One call with its weights in the order of the passes.
struct Prepared<'a, T: Element> {
    stages: &'a Stages<T>,
    call: &'a Call<'a, T>,
    /// Registers of channels of one pass.
    registers: usize,
    weights: Cow<'a, Packed<T>>,
    bias: Option<Packed<T>>,
}

impl<'a, T: Element> Prepared<'a, T> {
    fn new(stages: &'a Stages<T>, call: &'a Call<'a, T>, config: &HostConfig) -> Self {
        let (lanes, registers) = pass_size::<T>(stages.parts, config);
        let pack = |matrix: &[T]| Packed::new(matrix, stages.parts, call.features, lanes, registers);
        let (weights, bias) = match call.filter {
            Filter::Linear { a, b } => (Cow::Owned(pack(a)), Some(pack(b))),
            Filter::Mlp { a2, b2, .. } => (Cow::Owned(pack(a2)), Some(pack(b2))),
            Filter::Tabulated { values, .. } => match call.table {
                Some(table) if table.registers == registers => (Cow::Borrowed(&table.values), None),
                _ => (Cow::Owned(pack(values)), None),
            },
        };
        Self { stages, call, registers, weights, bias }
    }

    /// Adds the messages of a range of edges to `sink`; `row` is at or before the receiver of the first.
    fn sum_edges(&self, tile: &mut Tile<T>, edges: std::ops::Range<usize>, mut row: usize, sink: &mut dyn Sink<T>) {
        let mut first = edges.start;
        while first < edges.end {
            let end = edges.end.min(first + tile.capacity);
            tile.load(self.call, first..end, &mut row);
            if tile.len > 0 {
                self.coefficients(tile);
                let (call, registers) = (self.call, self.registers);
                (self.stages.messages)(Messages { call, tile, filter: self.filter(), registers, sink });
            }
            first = end;
        }
    }

    /// Everything of the filter that does not depend on the channel.
    fn coefficients(&self, tile: &mut Tile<T>) {
        let (call, arch) = (self.call, Arch::new());
        match call.filter {
            Filter::Linear { .. } => (self.stages.radial)(call, tile),
            Filter::Mlp { a1, b1, activation, .. } => {
                (self.stages.radial)(call, tile);
                arch.dispatch(HiddenLayer { tile, a1, b1, activation: *activation });
            }
            Filter::Tabulated { order, n_nodes, .. } => {
                arch.dispatch(HermiteTile { r_cut: call.r_cut, order: *order, n_nodes: *n_nodes, tile });
            }
        }
    }

    /// The filter's last linear map.
    fn filter(&self) -> Map<'_, T> {
        let depth = match self.call.filter {
            Filter::Linear { .. } => self.call.n_basis,
            Filter::Mlp { hidden, .. } => *hidden,
            Filter::Tabulated { order, .. } => 2 * order,
        };
        Map { weights: &self.weights, bias: self.bias.as_ref(), depth }
    }
}

/// Lanes of a register at the level that this processor has.
struct Lanes<T>(PhantomData<T>);

impl<T: Element> WithSimd for Lanes<T> {
    type Output = usize;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> usize {
        T::lanes::<S>()
    }
}

/// One owner per row: rows are cut into tasks of about equal numbers of edges, each summed in the order of its edges. The
/// same bits on every run.
pub fn receiver<T: Element>(stages: &Stages<T>, call: &Call<T>, config: &HostConfig, out: &mut Outputs<T>) {
    let (f, n_atoms) = (call.features, call.row_ptr.len() - 1);
    if f == 0 || n_atoms == 0 {
        return;
    }
    let prepared = Prepared::new(stages, call, config);
    let per_task = edges_per_task(call, config);
    let mut tasks = Vec::new();
    let (mut nodes, mut vectors) = (out.nodes.as_mut_slice(), out.vectors.as_mut_slice());
    let mut first_row = 0;
    while first_row < n_atoms {
        let end = cut(call.row_ptr, first_row, per_task);
        let rows = end - first_row;
        let (task_nodes, rest) = nodes.split_at_mut(rows * f);
        let (task_vectors, rest_vectors) = vectors.split_at_mut((3 * rows * f).min(vectors.len()));
        (nodes, vectors) = (rest, rest_vectors);
        tasks.push((end, OwnedRows { first_row, features: f, nodes: task_nodes, vectors: task_vectors }));
        first_row = end;
    }
    let run = |tile: &mut Tile<T>, (end, mut sink): (usize, OwnedRows<T>)| {
        sink.nodes.fill(T::default());
        sink.vectors.fill(T::default());
        let first = sink.first_row;
        let edges = call.row_ptr[first] as usize..call.row_ptr[end] as usize;
        prepared.sum_edges(tile, edges, first, &mut sink);
    };
    if tasks.len() == 1 {
        // Nothing to share: the pool would cost more than it gives.
        tasks.into_iter().for_each(|task| run(&mut Tile::new(call, config), task));
    } else {
        tasks.into_par_iter().for_each_init(|| Tile::new(call, config), run);
    }
}

/// Edges of one task: as configured, but a problem of few edges is still cut into several. The number of threads plays no
/// part, since where a row is cut into tiles decides its last bits.
fn edges_per_task<T>(call: &Call<T>, config: &HostConfig) -> usize {
    /// Fewer edges are not worth another thread.
    const LEAST: usize = 64;
    const TASKS: usize = 8;
    config.edges_per_task.clamp(1, call.sender.len().div_ceil(TASKS).max(LEAST))
}

/// One past the last row of a task: as many rows from `first` on as have `edges` edges, and at most as many rows as
/// that, since an empty row costs its outputs; at least one.
fn cut(row_ptr: &[u32], first: usize, edges: usize) -> usize {
    let rows = &row_ptr[first + 1..(first + 1 + edges.max(1)).min(row_ptr.len())];
    first + rows.partition_point(|end| (end - row_ptr[first]) as usize <= edges).max(1)
}

/// Tasks of equal numbers of edges, wherever rows begin and end; sums are added atomically.
pub fn edge_atomic<T: Element>(stages: &Stages<T>, call: &Call<T>, config: &HostConfig, out: &mut Outputs<T>) {
    out.nodes.par_iter_mut().for_each(|x| *x = T::default());
    out.vectors.par_iter_mut().for_each(|x| *x = T::default());
    let (f, n_edges) = (call.features, call.sender.len());
    if f == 0 || n_edges == 0 {
        return;
    }
    let prepared = Prepared::new(stages, call, config);
    let per_task = edges_per_task(call, config);
    let (nodes, vectors) = (T::as_cells(&mut out.nodes), T::as_cells(&mut out.vectors));
    (0..n_edges.div_ceil(per_task)).into_par_iter().for_each_init(
        || Tile::new(call, config),
        |tile, task| {
            let first = task * per_task;
            let edges = first..n_edges.min(first + per_task);
            // The row of an edge is the last whose offset does not exceed it.
            let row = call.row_ptr.partition_point(|&start| start as usize <= first) - 1;
            prepared.sum_edges(tile, edges, row, &mut SharedRows { features: f, nodes, vectors });
        },
    );
}
