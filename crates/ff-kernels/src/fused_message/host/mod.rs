//! The host kernels of `fused_message`: hand-written stages that a generated variant composes.
//!
//! A task walks its edges in tiles. Per tile: distances and directions (edges in the skin are dropped here), then the
//! coefficients of the filter (basis values, hidden layer or Hermite weights). Then, for each few registers of channels,
//! one pass over the edges computes the filter of a group of edges in registers, gathers the senders' features, and
//! sums the messages of a receiver in registers.

mod backward;
mod double_backward;
mod gradient;
mod map;
mod message;
mod order;
mod outer;
mod radial;
mod rates;
mod sweep;
mod tile;
mod weights;

use std::ops::Range;

use ff_spec::fused_message::{Filter, Outputs};
use pulp::Arch;
use rayon::prelude::*;

use crate::host::Element;
pub use backward::{Backward, BackwardStages, backward};
pub use double_backward::{Direction, DoubleBackwardStages, double_backward};
pub use gradient::GradientStage;
use map::{HiddenLayer, HiddenRates};
use message::Messages;
pub use message::{Cfconv, MessageStage, Painn};
pub use order::ReceiverOrder;
use radial::HermiteTile;
pub use radial::{Basis, Cutoff, InTable, Jet, MAX_PARAMETERS, Pair, Radial, basis_jet, cutoff_jet};
pub use rates::RateStage;
use sweep::{Owned, Rows, Shared, Sink, Sweep, edges_per_task};
use tile::Tile;
pub use weights::PackedTable;
use weights::{Layout, Weights};

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
        Self { parts: M::PARTS, radial: R::fill::<T, 0>, messages: M::add_tile }
    }
}

impl<T: Element> Call<'_, T> {
    /// Coefficients per edge of the filter's last linear map.
    fn depth(&self) -> usize {
        match self.filter {
            Filter::Linear { .. } => self.n_basis,
            Filter::Mlp { hidden, .. } => *hidden,
            Filter::Tabulated { order, .. } => 2 * order,
        }
    }

    /// Units of the hidden layer, 0 where there is none.
    fn hidden(&self) -> usize {
        match self.filter {
            Filter::Mlp { hidden, .. } => *hidden,
            _ => 0,
        }
    }

    /// Everything of the filter that does not depend on the channel, with `ORDER` derivatives in d. With two, also how fast
    /// it changes in the direction of the tile's rates and of weights `varied`.
    fn coefficients<const ORDER: u8>(
        &self,
        radial: fn(&Call<T>, &mut Tile<T>),
        varied: Option<&Filter<T>>,
        tile: &mut Tile<T>,
    ) {
        let arch = Arch::new();
        match self.filter {
            Filter::Tabulated { order, n_nodes, .. } => {
                let (order, n_nodes) = (*order, *n_nodes);
                return arch.dispatch(HermiteTile::<_, ORDER> { r_cut: self.r_cut, order, n_nodes, tile });
            }
            _ => radial(self, tile),
        }
        if ORDER == 2 {
            tile.rates_of_basis(self.n_basis);
        }
        if let Filter::Mlp { a1, b1, activation, .. } = self.filter {
            let activation = *activation;
            let varied = match varied {
                Some(Filter::Mlp { a1, b1, .. }) => Some([&a1[..], &b1[..]]),
                _ => None,
            };
            if ORDER == 2 {
                arch.dispatch(HiddenRates { tile, a1, b1, varied, activation });
            } else {
                arch.dispatch(HiddenLayer::<_, ORDER> { tile, a1, b1, activation });
            }
        }
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
    let (nodes, vectors) = (Rows::new(&mut out.nodes, f), Rows::new(&mut out.vectors, 3 * f));
    Sweep::new(call, call.row_ptr, order, config).run(
        || Tile::new(call, config),
        |tile, task| {
            let mut sink = Owned { nodes: nodes.as_ref(), vectors: vectors.as_ref(), edge_vec: None };
            sink.clear(task);
            prepared.sum_edges(tile, task.rows(), &mut sink);
        },
    );
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
            prepared.sum_edges(tile, receivers, &mut Shared { features: f, nodes, vectors });
        },
    );
}

/// One call with its weights in the order of the passes.
struct Prepared<'a, T: Element> {
    stages: &'a Stages<T>,
    call: &'a Call<'a, T>,
    layout: Layout,
    weights: Weights<'a, T>,
}

impl<'a, T: Element> Prepared<'a, T> {
    fn new(stages: &'a Stages<T>, call: &'a Call<'a, T>, config: &HostConfig) -> Self {
        let layout = Layout::of_order::<T>(0, stages.parts, call.features, config);
        Self { stages, call, layout, weights: Weights::new(call.filter, call, layout) }
    }

    /// Adds the messages of receivers, each with a range of its edges, to `sink`.
    fn sum_edges(
        &self,
        tile: &mut Tile<T>,
        receivers: impl Iterator<Item = (usize, Range<usize>)>,
        sink: &mut dyn Sink<T>,
    ) {
        let call = self.call;
        let push = |tile: &mut Tile<T>, row, edges| tile.push(call, row, edges);
        tile.walk(receivers, push, |tile| {
            tile.geometry(call);
            if tile.len > 0 {
                call.coefficients::<0>(self.stages.radial, None, tile);
                let (filter, registers) = (self.weights.map(), self.layout.registers);
                (self.stages.messages)(Messages { call, tile, filter, registers, sink: &mut *sink });
            }
        });
    }
}
