//! The forward: messages summed over the receivers of a list.

use std::ops::Range;

use ff_spec::fused_message::Outputs;
use rayon::prelude::*;

use super::call::Call;
use super::config::HostConfig;
use super::map::Weights;
use super::message::Messages;
use super::order::ReceiverOrder;
use super::stages::Stages;
use super::sweep::{Owned, Rows, Shared, Sink, Sweep, edges_per_task};
use super::tile::Tile;
use super::weights::Layout;
use crate::Element;
use crate::pool::Pooled;

/// One owner per receiver: they are cut into tasks of about equal numbers of edges, each summed in the order of its edges.
/// The same bits on every run.
pub(super) fn receiver<T: Element>(stages: &Stages<T>, call: &Call<T>, config: &HostConfig, out: &mut Outputs<T>) {
    let (f, n_atoms) = (call.features, call.row_ptr.len() - 1);
    if f == 0 || n_atoms == 0 {
        return;
    }
    let prepared = Prepared::new(stages, call, config);
    let own = ReceiverOrder::default();
    let order = call.row_order(&own);
    let (nodes, vectors) = (Rows::new(&mut out.nodes, f), Rows::new(&mut out.vectors, 3 * f));
    Sweep::new(call, call.row_ptr, order, config).run(
        || tile(call, config),
        |tile, task| {
            let mut sink = Owned { nodes: nodes.as_ref(), vectors: vectors.as_ref(), edge_vec: None };
            sink.clear(task);
            prepared.sum_edges(tile, task.rows(), &mut sink);
        },
    );
}

/// Tasks of equal numbers of edges, wherever rows begin and end; sums are added atomically.
pub(super) fn edge_atomic<T: Element>(stages: &Stages<T>, call: &Call<T>, config: &HostConfig, out: &mut Outputs<T>) {
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
        || tile(call, config),
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

/// A tile of this thread.
fn tile<T: Element>(call: &Call<T>, config: &HostConfig) -> Pooled<Tile<T>> {
    let [capacity, rows, hidden] = Tile::sizes(call, config);
    Pooled::take([capacity, rows, hidden, 0, 0, 0, 0, 0], || Tile::new(call, config))
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
        Self { stages, call, layout, weights: Weights::of(call, layout) }
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
                self.stages.coefficients::<0>(call, None, tile);
                let (filter, registers) = (self.weights.map(), self.layout.registers);
                (self.stages.messages)(Messages { call, tile, filter, registers, sink: &mut *sink });
            }
        });
    }
}
