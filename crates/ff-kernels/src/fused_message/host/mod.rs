//! The host kernels of `fused_message`: hand-written stages that a generated variant composes.
//!
//! A task walks its edges in tiles. Per tile: distances and directions (edges in the skin are dropped here), then the
//! coefficients of the filter (basis values, hidden layer or Hermite weights). Then, for each few registers of channels,
//! one pass over the edges computes the filter of a group of edges in registers, gathers the senders' features, and
//! sums the messages of a receiver in registers.

mod backward;
mod gradient;
mod map;
mod message;
mod order;
mod outer;
mod radial;
mod tile;
mod weights;

use std::borrow::Cow;
use std::marker::PhantomData;
use std::ops::Range;

use ff_spec::fused_message::{Filter, Outputs};
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use crate::host::Element;
pub use backward::{Backward, BackwardStages, backward};
pub use gradient::GradientStage;
use map::{HiddenLayer, Map};
use message::Messages;
pub use message::{Cfconv, MessageStage, Painn};
pub use order::ReceiverOrder;
use radial::HermiteTile;
pub use radial::{Basis, Cutoff, InTable, Jet, MAX_PARAMETERS, Pair, Radial, basis_jet, cutoff_jet};
use tile::Tile;
use weights::Packed;

/// Borrowed inputs of one call; shapes as in [`ff_spec::fused_message::Inputs`], already checked. `nodes` and `vectors` are
/// read fastest where they start at a cache line, as in [`Aligned`](crate::host::Aligned).
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
    /// Where the order of receivers is kept between calls with the same neighbour list. Without, every call finds it, on
    /// one thread.
    pub order: Option<&'a ReceiverOrder>,
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

/// An output whose rows are written by one task each.
struct Rows<'a, T> {
    values: *mut T,
    len: usize,
    width: usize,
    borrowed: PhantomData<&'a mut [T]>,
}

// SAFETY: threads meet in `Rows::row` only, whose callers see to it that no two have the same row.
unsafe impl<T: Send> Sync for Rows<'_, T> {}

impl<'a, T> Rows<'a, T> {
    fn new(values: &'a mut [T], width: usize) -> Self {
        Self { values: values.as_mut_ptr(), len: values.len(), width, borrowed: PhantomData }
    }

    /// # Safety
    /// While the slice lives, nobody else asks for this row.
    #[expect(clippy::mut_from_ref, reason = "the rows are disjoint")]
    unsafe fn row(&self, row: usize) -> &mut [T] {
        let range = row * self.width..(row + 1) * self.width;
        assert!(range.end <= self.len, "row {row} of {} elements of width {}", self.len, self.width);
        // SAFETY: within the slice that this was made of, which stays borrowed; the caller sees to the rest.
        unsafe { std::slice::from_raw_parts_mut(self.values.add(range.start), self.width) }
    }
}

/// Outputs of the receivers that one task owns.
struct OwnedRows<'a, T> {
    features: usize,
    nodes: &'a Rows<'a, T>,
    /// `None` for a message without vectors.
    vectors: Option<&'a Rows<'a, T>>,
}

impl<T: Element> OwnedRows<'_, T> {
    /// The whole output rows of a receiver.
    fn outputs(&mut self, row: usize) -> [&mut [T]; 2] {
        // SAFETY: `receiver` makes one of these per task and gives every receiver to one task; `&mut self` keeps a task
        // from holding a row twice.
        unsafe { [self.nodes.row(row), self.vectors.map_or(&mut [], |vectors| vectors.row(row))] }
    }
}

impl<T: Element> Sink<T> for OwnedRows<'_, T> {
    #[inline]
    fn add(&mut self, row: usize, at: usize, channel: usize, values: &[T]) {
        let features = self.features;
        let [nodes, vectors] = self.outputs(row);
        let slots = match at.checked_sub(1) {
            None => &mut nodes[channel..],
            Some(axis) => &mut vectors[axis * features + channel..],
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

    /// Adds the messages of receivers, each with a range of its edges, to `sink`.
    fn sum_edges(
        &self,
        tile: &mut Tile<T>,
        receivers: impl Iterator<Item = (usize, Range<usize>)>,
        sink: &mut dyn Sink<T>,
    ) {
        tile.len = 0;
        for (row, mut edges) in receivers {
            while !edges.is_empty() {
                let end = edges.end.min(edges.start + tile.capacity - tile.len);
                tile.push(self.call, row, edges.start..end);
                edges.start = end;
                if tile.len == tile.capacity {
                    self.sum_tile(tile, sink);
                }
            }
        }
        self.sum_tile(tile, sink);
    }

    /// Computes what was pushed to a tile, adds it to `sink` and empties the tile.
    fn sum_tile(&self, tile: &mut Tile<T>, sink: &mut dyn Sink<T>) {
        tile.geometry(self.call);
        if tile.len > 0 {
            self.coefficients(tile);
            let (call, registers) = (self.call, self.registers);
            (self.stages.messages)(Messages { call, tile, filter: self.filter(), registers, sink });
        }
        tile.len = 0;
    }

    /// Everything of the filter that does not depend on the channel.
    fn coefficients(&self, tile: &mut Tile<T>) {
        let (call, arch) = (self.call, Arch::new());
        match call.filter {
            Filter::Linear { .. } => (self.stages.radial)(call, tile),
            Filter::Mlp { a1, b1, activation, .. } => {
                (self.stages.radial)(call, tile);
                arch.dispatch(HiddenLayer::<_, false> { tile, a1, b1, activation: *activation });
            }
            Filter::Tabulated { order, n_nodes, .. } => {
                arch.dispatch(HermiteTile::<_, false> { r_cut: call.r_cut, order: *order, n_nodes: *n_nodes, tile });
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

/// One owner per receiver: they are cut into tasks of about equal numbers of edges, each summed in the order of its edges.
/// The same bits on every run.
pub fn receiver<T: Element>(stages: &Stages<T>, call: &Call<T>, config: &HostConfig, out: &mut Outputs<T>) {
    let (f, n_atoms) = (call.features, call.row_ptr.len() - 1);
    if f == 0 || n_atoms == 0 {
        return;
    }
    let prepared = Prepared::new(stages, call, config);
    let own = ReceiverOrder::default();
    let order = call.order.unwrap_or(&own).of(call);
    let row = |at: usize| order.map_or(at, |order| order[at] as usize);
    let edges = |row: usize| call.row_ptr[row] as usize..call.row_ptr[row + 1] as usize;
    let tasks = tasks(n_atoms, edges_per_task(call, config), |at| edges(row(at)).len());

    let nodes = Rows::new(&mut out.nodes, f);
    let vectors = (!out.vectors.is_empty()).then(|| Rows::new(&mut out.vectors, 3 * f));
    let run = |tile: &mut Tile<T>, task: Range<usize>| {
        let mut sink = OwnedRows { features: f, nodes: &nodes, vectors: vectors.as_ref() };
        for at in task.clone() {
            for output in sink.outputs(row(at)) {
                output.fill(T::default());
            }
        }
        prepared.sum_edges(tile, task.map(|at| (row(at), edges(row(at)))), &mut sink);
    };
    if tasks.len() == 1 {
        // Nothing to share: the pool would cost more than it gives.
        tasks.into_iter().for_each(|task| run(&mut Tile::new(call, config), task));
    } else {
        tasks.into_par_iter().for_each_init(|| Tile::new(call, config), run);
    }
}

/// Consecutive rows, of `per_task` edges in all or of one row.
fn tasks(rows: usize, per_task: usize, edges: impl Fn(usize) -> usize) -> Vec<Range<usize>> {
    let mut tasks = Vec::new();
    let (mut first, mut sum) = (0, 0);
    for row in 0..rows {
        // An empty row costs its outputs: as much as an edge or so.
        let cost = edges(row) + 1;
        if sum > 0 && sum + cost > per_task {
            tasks.push(first..row);
            (first, sum) = (row, 0);
        }
        sum += cost;
    }
    tasks.push(first..rows);
    tasks
}

/// Edges of one task: as configured, but a problem of few edges is still cut into several. The number of threads plays no
/// part, since where a row is cut into tiles decides its last bits.
fn edges_per_task<T>(call: &Call<T>, config: &HostConfig) -> usize {
    /// Fewer edges are not worth another thread.
    const LEAST: usize = 64;
    const TASKS: usize = 8;
    config.edges_per_task.clamp(1, call.sender.len().div_ceil(TASKS).max(LEAST))
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
            let edges = task * per_task..n_edges.min((task + 1) * per_task);
            // The row of an edge is the last whose offset does not exceed it.
            let first = call.row_ptr.partition_point(|&start| start as usize <= edges.start) - 1;
            let receivers = (first..call.row_ptr.len() - 1)
                .map(|row| {
                    (row, edges.start.max(call.row_ptr[row] as usize)..edges.end.min(call.row_ptr[row + 1] as usize))
                })
                .take_while(|(_, part)| part.start < edges.end);
            prepared.sum_edges(tile, receivers, &mut SharedRows { features: f, nodes, vectors });
        },
    );
}
