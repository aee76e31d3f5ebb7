//! The first backward: gradients in senders' features, edge vectors and weights, from those in the outputs.
//!
//! One pass over the list by sender: the sums of a sender stay in registers as those of a receiver do in the forward, the
//! filter and its slope are computed again from the distance, and what an edge vector is owed is kept for the edges of a
//! tile. Nothing has the size n_edges × F.

use std::ops::Range;

use ff_spec::fused_message::{Filter, Gradients, Wanted};
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::gradient::{EDGE_SUMS, GradientStage, Pass, Senders};
use super::map::{HiddenLayer, Map};
use super::outer::{Accumulator, Outer, columns};
use super::radial::{HermiteTile, Radial};
use super::tile::Tile;
use super::weights::Packed;
use super::{Call, HostConfig, ReceiverOrder, Rows, edges_per_task, pass_size, tasks};
use crate::host::{Element, MAX_LANES};

/// The most parts into which the edges are cut where gradients in weights are summed. Each has sums of its own, so it bounds
/// their memory, to so many times that of the weights, and the threads that can share the work.
const PARTS: usize = 64;

/// What the backward reads besides its call.
#[derive(Clone, Copy)]
pub struct Backward<'a, T> {
    /// [n_atoms + 1], the list by sender.
    pub sender_ptr: &'a [u32],
    /// [n_edges], the edges of each sender.
    pub transpose: &'a [u32],
    /// [n_edges], the receiver of each edge.
    pub receiver: &'a [u32],
    /// Gradient in `y` or `dq`, [n_atoms, F].
    pub nodes: &'a [T],
    /// Gradient in `dmu`, [n_atoms, 3, F], or empty.
    pub vectors: &'a [T],
    /// What is computed; the rest of the outputs is left alone.
    pub wanted: Wanted,
}

/// What a variant composes for its backward.
pub struct BackwardStages<T: Element> {
    parts: usize,
    /// Radial functions with their slopes.
    radial: fn(&Call<T>, &mut Tile<T>),
    gradients: for<'a> fn(Pass<'a, T>),
}

impl<T: Element> BackwardStages<T> {
    /// The stages of radial functions `R` and message `M`.
    pub fn new<R: Radial, M: GradientStage>() -> Self {
        Self { parts: M::PARTS, radial: R::fill_slopes, gradients: M::gradients_of_tile }
    }
}

/// Weights of a call in the order of the passes.
struct Prepared<'a, T: Element> {
    stages: &'a BackwardStages<T>,
    call: &'a Call<'a, T>,
    backward: Backward<'a, T>,
    /// Registers of channels of one pass.
    registers: usize,
    weights: Packed<T>,
    bias: Option<Packed<T>>,
    /// Lanes of a register.
    lanes: usize,
    /// Columns of an `mlp` filter's last map, where gradients in weights are wanted.
    columns: Vec<T>,
}

/// Sums of the gradients in weights.
struct WeightSums<T> {
    /// [depth + 1, C] in the order of the passes, the bias last.
    last: Accumulator<T>,
    /// [K + 1, H] of the first map of an `mlp` filter, the bias last.
    first: Accumulator<T>,
}

/// One task's memory.
struct Scratch<T> {
    tile: Tile<T>,
    /// [capacity, EDGE_SUMS, lanes].
    edge_sums: Vec<T>,
    /// Gradients in the last linear map's outputs, [capacity, channels of a pass].
    outer: Vec<T>,
    /// Gradients in the hidden layer, [capacity, H].
    hidden: Vec<T>,
}

/// The gradients of a call, into `out`, whose tensors have the shapes of those they are gradients in.
///
/// Every sum is taken in an order that depends on the list and the configuration alone: the same bits on every run.
pub fn backward<T: Element>(
    stages: &BackwardStages<T>,
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
    let (lanes, registers) = pass_size::<T>(stages.parts, config);
    let registers = registers.min(if stages.parts == 1 { 2 } else { 1 });
    let pack = |matrix: &[T]| Packed::new(matrix, stages.parts, f, lanes, registers);
    let (weights, bias) = match call.filter {
        Filter::Linear { a, b } => (pack(a), Some(pack(b))),
        Filter::Mlp { a2, b2, .. } => (pack(a2), Some(pack(b2))),
        Filter::Tabulated { values, .. } => (pack(values), None),
    };
    let columns = match call.filter {
        Filter::Mlp { a2, .. } if wanted.filter => columns(a2, stages.parts, f, (lanes, registers)),
        _ => Vec::new(),
    };
    let prepared = Prepared { stages, call, backward, registers, weights, bias, lanes, columns };
    let own = ReceiverOrder::default();
    let order = call.order.unwrap_or(&own).of(call);
    let row = |at: usize| order.map_or(at, |order| order[at] as usize);
    let edges = |row: usize| backward.sender_ptr[row] as usize..backward.sender_ptr[row + 1] as usize;
    let tasks = tasks(n_atoms, edges_per_task(call, config), |at| edges(row(at)).len());

    let nodes = Rows::new(&mut out.nodes, stages.parts * f);
    let vectors = Rows::new(&mut out.vectors, 3 * f);
    let edge_vec = Rows::new(&mut out.edge_vec, 3);
    let run = |scratch: &mut Scratch<T>, sums: &mut Option<WeightSums<T>>, task: Range<usize>| {
        let mut outputs = Outputs {
            nodes: wanted.nodes.then_some(&nodes),
            vectors: (wanted.nodes && vectors.len > 0).then_some(&vectors),
            edge_vec: &edge_vec,
        };
        for at in task.clone() {
            outputs.clear(row(at));
        }
        scratch.tile.len = 0;
        for row in task.map(row) {
            let mut left = edges(row);
            while !left.is_empty() {
                let end = left.end.min(left.start + scratch.tile.capacity - scratch.tile.len);
                scratch.tile.push_sent(call, &backward, row, left.start..end);
                left.start = end;
                if scratch.tile.len == scratch.tile.capacity {
                    prepared.tile(scratch, sums, &mut outputs);
                }
            }
        }
        prepared.tile(scratch, sums, &mut outputs);
    };
    if let (true, Some(filter)) = (wanted.filter, out.filter.as_mut()) {
        let per_part = tasks.len().div_ceil(PARTS);
        let parts: Vec<&[Range<usize>]> = tasks.chunks(per_part).collect();
        let sums: Vec<WeightSums<T>> = parts
            .into_par_iter()
            .map_init(
                || prepared.scratch(config),
                |scratch, part| {
                    let mut sums = Some(prepared.weight_sums());
                    part.iter().for_each(|task| run(scratch, &mut sums, task.clone()));
                    sums.unwrap_or_else(|| prepared.weight_sums())
                },
            )
            .collect();
        prepared.write_weights(&sums, filter);
    } else if let [task] = &tasks[..] {
        // Nothing to share: the pool would cost more than it gives.
        run(&mut prepared.scratch(config), &mut None, task.clone());
    } else {
        tasks.into_par_iter().for_each_init(|| prepared.scratch(config), |scratch, task| run(scratch, &mut None, task));
    }
}

/// Outputs of the senders and edges that one task owns.
struct Outputs<'a, T> {
    nodes: Option<&'a Rows<'a, T>>,
    vectors: Option<&'a Rows<'a, T>>,
    edge_vec: &'a Rows<'a, T>,
}

impl<T: Element> Outputs<'_, T> {
    fn clear(&mut self, row: usize) {
        for rows in [self.nodes, self.vectors].into_iter().flatten() {
            // SAFETY: every sender is in one task, and `&mut self` keeps a task from holding a row twice.
            unsafe { rows.row(row) }.fill(T::default());
        }
    }

    /// The gradient in the vector of an edge.
    fn edge(&mut self, edge: usize) -> &mut [T] {
        // SAFETY: every edge has one sender, whose task alone has it.
        unsafe { self.edge_vec.row(edge) }
    }
}

impl<T: Element> Senders<T> for Outputs<'_, T> {
    #[inline]
    fn add(&mut self, row: usize, to_vectors: bool, at: usize, values: &[T]) {
        let Some(rows) = (if to_vectors { self.vectors } else { self.nodes }) else { return };
        // SAFETY: as above.
        let row = unsafe { rows.row(row) };
        for (slot, value) in row[at..at + values.len()].iter_mut().zip(values) {
            *slot += *value;
        }
    }
}

impl<T: Element> Prepared<'_, T> {
    fn scratch(&self, config: &HostConfig) -> Scratch<T> {
        let tile = Tile::with_slopes(self.call, config);
        let (capacity, wanted) = (tile.capacity, self.backward.wanted);
        let hidden = match self.call.filter {
            Filter::Mlp { hidden, .. } if wanted.filter => *hidden,
            _ => 0,
        };
        let outer = if wanted.filter { self.stages.parts * self.registers * MAX_LANES } else { 0 };
        let zeros = |n: usize| vec![T::default(); n * capacity];
        Scratch { edge_sums: zeros(EDGE_SUMS * MAX_LANES), outer: zeros(outer), hidden: zeros(hidden), tile }
    }

    /// Coefficients per edge of the last linear map.
    fn depth(&self) -> usize {
        match self.call.filter {
            Filter::Linear { .. } => self.call.n_basis,
            Filter::Mlp { hidden, .. } => *hidden,
            Filter::Tabulated { order, .. } => 2 * order,
        }
    }

    fn weight_sums(&self) -> WeightSums<T> {
        let columns = self.stages.parts * self.call.features.next_multiple_of(MAX_LANES);
        let hidden = match self.call.filter {
            Filter::Mlp { hidden, .. } => *hidden,
            _ => 0,
        };
        WeightSums {
            last: Accumulator::new(self.depth() + 1, columns),
            first: Accumulator::new(self.call.n_basis + 1, hidden),
        }
    }

    /// Computes what was pushed to a tile, adds it to the outputs and empties the tile.
    fn tile(&self, scratch: &mut Scratch<T>, sums: &mut Option<WeightSums<T>>, outputs: &mut Outputs<'_, T>) {
        let Self { call, backward, .. } = self;
        let (tile, arch) = (&mut scratch.tile, Arch::new());
        tile.geometry(call);
        if tile.len > 0 {
            match call.filter {
                Filter::Linear { .. } => (self.stages.radial)(call, tile),
                Filter::Mlp { a1, b1, activation, .. } => {
                    (self.stages.radial)(call, tile);
                    arch.dispatch(HiddenLayer::<_, true> { tile, a1, b1, activation: *activation });
                }
                Filter::Tabulated { order, n_nodes, .. } => {
                    let (order, n_nodes) = (*order, *n_nodes);
                    arch.dispatch(HermiteTile::<_, true> { r_cut: call.r_cut, order, n_nodes, tile });
                }
            }
            scratch.edge_sums.fill(T::default());
            scratch.hidden.fill(T::default());
            (self.stages.gradients)(Pass {
                call,
                backward,
                tile,
                filter: Map { weights: &self.weights, bias: self.bias.as_ref(), depth: self.depth() },
                registers: self.registers,
                edge_sums: &mut scratch.edge_sums,
                outer: &mut scratch.outer,
                hidden: &mut scratch.hidden,
                columns: &self.columns,
                sums: sums.as_mut().map(|sums| &mut sums.last),
                outputs,
            });
            if backward.wanted.edge_vec {
                arch.dispatch(EdgeVectors { tile, sums: &mut scratch.edge_sums, outputs });
            }
            if let (Some(sums), Filter::Mlp { hidden, .. }) = (sums, call.filter) {
                self.first_layer(tile, &mut scratch.hidden, *hidden, &mut sums.first);
            }
        }
        tile.len = 0;
    }

    /// From the gradients in the hidden layer's values to those in its weights.
    fn first_layer(&self, tile: &Tile<T>, gradients: &mut [T], hidden: usize, sums: &mut Accumulator<T>) {
        for (e, gradients) in gradients.chunks_exact_mut(hidden.max(1)).take(tile.padded()).enumerate() {
            for (h, gradient) in gradients.iter_mut().enumerate() {
                let slope = tile.activation[h * tile.stride + e];
                *gradient = T::from_f64(gradient.to_f64() * slope.to_f64());
            }
        }
        Arch::new().dispatch(Outer {
            coefficients: &tile.coefficients,
            stride: tile.stride,
            edges: tile.padded(),
            values: gradients,
            width: hidden,
            sums: sums.piece(0, hidden),
        });
    }

    /// Adds up the parts, in f64, in their order, and writes them where the caller has the weights.
    fn write_weights(&self, parts: &[WeightSums<T>], filter: &mut Filter<T>) {
        let Self { call, registers, .. } = self;
        let last = |weights: &mut [T], bias: &mut [T]| {
            let sums = Accumulator::total(parts.iter().map(|part| &part.last));
            sums.unpack(self.stages.parts, call.features, (self.lanes, *registers), weights, bias);
        };
        match filter {
            Filter::Linear { a, b } => last(a, b),
            Filter::Mlp { a1, b1, a2, b2, .. } => {
                last(a2, b2);
                let sums = Accumulator::total(parts.iter().map(|part| &part.first));
                let (weights, bias) = sums.values().split_at(a1.len());
                a1.copy_from_slice(weights);
                b1.copy_from_slice(bias);
            }
            Filter::Tabulated { .. } => {}
        }
    }
}

/// Gradients in edge vectors from what the channels of each edge have summed: of d and of the three axes of u.
struct EdgeVectors<'a, 'b, T> {
    tile: &'a Tile<T>,
    sums: &'a mut [T],
    outputs: &'a mut Outputs<'b, T>,
}

impl<T: Element> WithSimd for EdgeVectors<'_, '_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let lanes = T::lanes::<S>();
        for (e, sums) in self.sums.chunks_exact_mut(EDGE_SUMS * lanes).take(self.tile.len).enumerate() {
            let mut totals = [0.0; EDGE_SUMS];
            for (total, sums) in totals.iter_mut().zip(sums.chunks_exact_mut(lanes)) {
                let mut width = lanes / 2;
                while width > 0 {
                    for l in 0..width {
                        let other = sums[l + width];
                        sums[l] += other;
                    }
                    width /= 2;
                }
                *total = sums[0].to_f64();
            }
            let [by_d, by_u @ ..] = totals;
            let d = self.tile.d[e].to_f64();
            let u: [f64; 3] = std::array::from_fn(|axis| self.tile.u[axis][e].to_f64());
            let along = u[0] * by_u[0] + u[1] * by_u[1] + u[2] * by_u[2];
            let inverse = if d > 0.0 { 1.0 / d } else { 0.0 };
            let out = self.outputs.edge(self.tile.edge[e] as usize);
            for axis in 0..3 {
                out[axis] = T::from_f64(u[axis] * by_d + (by_u[axis] - u[axis] * along) * inverse);
            }
        }
    }
}
