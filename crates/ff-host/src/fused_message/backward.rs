//! The first backward: gradients in senders' features, edge vectors and weights, from those in the outputs.
//!
//! One pass over the list by sender: the sums of a sender stay in registers as those of a receiver do in the forward, the
//! filter and its slope are computed again from the distance, and what an edge vector is owed is kept for the edges of a
//! tile. Nothing has the size n_edges × F.

use ff_spec::fused_message::{Filter, Gradients};
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::call::{Backward, Call};
use super::config::HostConfig;
use super::gradient::Pass;
use super::map::Weights;
use super::order::ReceiverOrder;
use super::outer::{Accumulator, Outer, WeightSums};
use super::stages::Stages;
use super::sweep::{Owned, Rows, Sweep, Task};
use super::tile::Tile;
use super::weights::Layout;
use crate::pool::Pooled;
use crate::{Element, Lane, MAX_LANES};

/// Weights of a call in the order of the passes.
struct Prepared<'a, T: Element> {
    stages: &'a Stages<T>,
    call: &'a Call<'a, T>,
    backward: Backward<'a, T>,
    layout: Layout,
    weights: Weights<'a, T>,
    /// Columns of an `mlp` filter's last map, where gradients in weights are wanted.
    columns: Vec<T>,
}

/// One task's memory.
struct Scratch<T> {
    /// [capacity, edge_sums, lanes].
    edge_sums: Vec<T>,
    /// Gradients in the last linear map's outputs, [capacity, channels of a pass].
    outer: Vec<T>,
    /// Gradients in the hidden layer, [capacity, H].
    hidden: Vec<T>,
}

/// The gradients of a call, into `out`, whose tensors have the shapes of those they are gradients in.
///
/// Every sum is taken in an order that depends on the list and the configuration alone: the same bits on every run.
pub(super) fn backward<T: Element>(
    stages: &Stages<T>,
    call: &Call<T>,
    backward: Backward<T>,
    config: &HostConfig,
    out: &mut Gradients<T>,
) {
    let (f, n_atoms) = (call.features, call.row_ptr.len() - 1);
    let wanted = backward.wanted;
    // Edges in the skin are in no tile.
    out.edge_vec.par_iter_mut().for_each(|x| *x = T::default());
    if f == 0 || n_atoms == 0 {
        out.filter = out.filter.as_ref().map(|filter| filter.map(|_| T::default()));
        return;
    }
    let layout = Layout::of_order::<T>(1, stages.parts, f, config);
    let columns = match call.filter {
        Filter::Mlp { a2, .. } if wanted.filter => layout.columns(a2),
        _ => Vec::new(),
    };
    let prepared = Prepared { stages, call, backward, layout, weights: Weights::of(call, layout), columns };
    let own = ReceiverOrder::default();
    let order = call.row_order(&own);
    let sweep = Sweep::new(call, backward.sender_ptr, order, config);
    let nodes = Rows::new(&mut out.nodes, stages.parts * f);
    let vectors = Rows::new(&mut out.vectors, 3 * f);
    let edge_vec = Rows::new(&mut out.edge_vec, 3);
    let owned = || Owned { nodes: nodes.as_ref(), vectors: vectors.as_ref(), edge_vec: edge_vec.as_ref() };
    let scratch = || prepared.memory(config);
    if let (true, Some(filter)) = (wanted.filter, out.filter.as_mut()) {
        let sums = sweep.sum(
            scratch,
            || WeightSums::new(call, layout),
            |memory, sums, task| {
                let (tile, scratch) = &mut **memory;
                prepared.task(tile, scratch, Some(sums), &mut owned(), task);
            },
        );
        WeightSums::write(&sums, layout, filter);
    } else {
        sweep.run(scratch, |memory, task| {
            let (tile, scratch) = &mut **memory;
            prepared.task(tile, scratch, None, &mut owned(), task);
        });
    }
}

impl<T: Element> Prepared<'_, T> {
    /// The memory of this thread.
    fn memory(&self, config: &HostConfig) -> Pooled<(Tile<T>, Scratch<T>)> {
        let [capacity, rows, hidden] = Tile::sizes(self.call, config);
        let Layout { parts, registers, .. } = self.layout;
        let sizes =
            [capacity, rows, hidden, 1, self.stages.edge_sums, parts, registers, self.backward.wanted.filter.into()];
        Pooled::take(sizes, || (Tile::with_slopes(self.call, config), self.scratch(config)))
    }

    fn scratch(&self, config: &HostConfig) -> Scratch<T> {
        let Layout { parts, registers, .. } = self.layout;
        let wanted = self.backward.wanted.filter;
        let capacity = Tile::<T>::capacity(config);
        let zeros = |n: usize| vec![T::default(); n * capacity];
        Scratch {
            edge_sums: zeros(self.stages.edge_sums * MAX_LANES),
            outer: zeros(if wanted { parts * registers * MAX_LANES } else { 0 }),
            hidden: zeros(if wanted { self.call.hidden() } else { 0 }),
        }
    }

    fn task(
        &self,
        tile: &mut Tile<T>,
        scratch: &mut Scratch<T>,
        mut sums: Option<&mut WeightSums<T>>,
        outputs: &mut Owned<'_, T>,
        task: &Task,
    ) {
        let Self { call, backward, .. } = self;
        outputs.clear(task);
        let push = |tile: &mut Tile<T>, row, sent| tile.push_sent(call, backward, row, sent);
        tile.walk(task.rows(), push, |tile| {
            tile.geometry(call);
            if tile.len > 0 {
                self.tile(tile, scratch, sums.as_deref_mut(), outputs);
            }
        });
    }

    /// Adds what a tile holds to the outputs.
    fn tile(
        &self,
        tile: &mut Tile<T>,
        scratch: &mut Scratch<T>,
        mut sums: Option<&mut WeightSums<T>>,
        outputs: &mut Owned<'_, T>,
    ) {
        let Self { call, backward, .. } = self;
        self.stages.coefficients::<1>(call, None, tile);
        scratch.hidden.fill(T::default());
        (self.stages.gradients)(Pass {
            call,
            backward,
            tile,
            filter: self.weights.map(),
            registers: self.layout.registers,
            edge_sums: &mut scratch.edge_sums,
            outer: &mut scratch.outer,
            hidden: &mut scratch.hidden,
            columns: &self.columns,
            sums: sums.as_deref_mut().map(|sums| &mut sums.last),
            outputs,
        });
        if backward.wanted.edge_vec {
            let (sums, count) = (&scratch.edge_sums, self.stages.edge_sums);
            Arch::new().dispatch(EdgeVectors { tile, sums, count, outputs });
        }
        if let (Some(sums), 1..) = (sums, call.hidden()) {
            self.first_layer(tile, &mut scratch.hidden, &mut sums.first);
        }
    }

    /// From the gradients in the hidden layer's values to those in its weights.
    fn first_layer(&self, tile: &Tile<T>, gradients: &mut [T], sums: &mut Accumulator<T>) {
        let hidden = self.call.hidden();
        for (e, gradients) in gradients.chunks_exact_mut(hidden).take(tile.padded()).enumerate() {
            for (h, gradient) in gradients.iter_mut().enumerate() {
                let slope = tile.activation[h * tile.stride + e];
                *gradient = T::from_f64(gradient.to_f64() * slope.to_f64());
            }
        }
        Arch::new().dispatch(Outer::<_, true> {
            coefficients: &tile.coefficients,
            stride: tile.stride,
            edges: tile.padded(),
            values: gradients,
            width: hidden,
            sums: sums.piece(0, hidden),
        });
    }
}

/// Gradients in edge vectors from what the channels of each edge have summed: of d and, where there are any, of the three axes
/// of u.
struct EdgeVectors<'a, 'b, T> {
    tile: &'a Tile<T>,
    /// [edges, count, lanes].
    sums: &'a [T],
    count: usize,
    outputs: &'a mut Owned<'b, T>,
}

impl<T: Element> WithSimd for EdgeVectors<'_, '_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        // Loops over arrays of constant length, which the compiler turns into registers of this SIMD level.
        const N: usize = MAX_LANES;
        let Self { tile, sums, count, outputs } = self;
        let lanes = T::lanes::<S>();
        let of_edge = count * lanes;
        for (chunk, sums) in sums[..tile.len * of_edge].chunks(N * of_edge).enumerate() {
            let mut totals = [[0.0; N]; 4];
            for (e, sums) in sums.chunks_exact(of_edge).enumerate() {
                for (totals, sums) in totals.iter_mut().zip(sums.chunks_exact(lanes)) {
                    totals[e] = Lane::<S, T>::load_full(simd, sums).sum().to_f64();
                }
            }
            let [by_d, by_u @ ..] = totals;
            let first = chunk * N;
            let [mut along, mut inverse] = [[0.0; N]; 2];
            let mut u = [[0.0; N]; 3];
            for (axis, u) in u.iter_mut().enumerate() {
                let from: &[T] = &tile.u[axis][first..first + N];
                for e in 0..N {
                    u[e] = from[e].to_f64();
                    along[e] += u[e] * by_u[axis][e];
                }
            }
            let d = &tile.d[first..first + N];
            for e in 0..N {
                let d = d[e].to_f64();
                inverse[e] = if d > 0.0 { 1.0 / d } else { 0.0 };
            }
            let mut gradient = [[T::default(); N]; 3];
            for (axis, gradient) in gradient.iter_mut().enumerate() {
                for e in 0..N {
                    let across = (by_u[axis][e] - u[axis][e] * along[e]) * inverse[e];
                    gradient[e] = T::from_f64(u[axis][e] * by_d[e] + across);
                }
            }
            let [x, y, z] = gradient;
            for (e, edge) in tile.edge[first..tile.len.min(first + N)].iter().enumerate() {
                let Some(out) = outputs.edge(*edge) else { return };
                out.copy_from_slice(&[x[e], y[e], z[e]]);
            }
        }
    }
}
