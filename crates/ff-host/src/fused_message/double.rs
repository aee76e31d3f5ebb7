//! The second backward: in a direction in the inputs, the rate of the outputs, which is the gradient in the cotangents, and
//! the rates of the first backward's gradients, which are the gradients in the inputs.
//!
//! Two passes over the list, by receiver for the outputs and by sender for the gradients. Both compute the filter, its slope
//! in d and the rates of the two again from the distance and its rate. Nothing has the size n_edges × F.

use ff_spec::fused_message::{DoubleGradients, Filter, Gradients, Wanted};
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::call::{Backward, Call, Direction};
use super::config::HostConfig;
use super::map::Weights;
use super::order::ReceiverOrder;
use super::outer::{Accumulator, Outer, WeightSums};
use super::rates::{EDGE_SUMS, End, Pass};
use super::stages::Stages;
use super::sweep::{Owned, Rows, Sweep, Task};
use super::tile::Tile;
use super::weights::Layout;
use crate::{Element, MAX_LANES};

/// Weights of a call, and the direction in them, in the order of the passes.
struct Prepared<'a, T: Element> {
    stages: &'a Stages<T>,
    call: &'a Call<'a, T>,
    backward: Backward<'a, T>,
    direction: Direction<'a, T>,
    layout: Layout,
    weights: Weights<'a, T>,
    varied: Option<Weights<'a, T>>,
    /// Columns of an `mlp` filter's last map and of the direction in it, where gradients in weights are wanted.
    columns: [Vec<T>; 2],
}

/// One task's memory.
struct Scratch<T> {
    /// [capacity, EDGE_SUMS, lanes].
    edge_sums: Vec<T>,
    /// Gradients in the last linear map's outputs and their rates, [capacity, channels of a pass] each.
    outer: [Vec<T>; 2],
    /// The same in the hidden layer, [capacity, H] each.
    hidden: [Vec<T>; 2],
}

/// The gradients of the first backward, into `out`: of those in the inputs what `backward.wanted` asks for, and those in the
/// cotangents.
///
/// Every sum is taken in an order that depends on the list and the configuration alone: the same bits on every run.
pub(super) fn double_backward<T: Element>(
    stages: &Stages<T>,
    call: &Call<T>,
    backward: Backward<T>,
    direction: Direction<T>,
    config: &HostConfig,
    out: &mut DoubleGradients<T>,
) {
    let (f, n_atoms) = (call.features, call.row_ptr.len() - 1);
    let wanted = backward.wanted;
    let Gradients { nodes, vectors, edge_vec, filter } = &mut out.gradients;
    // Edges in the skin are in no tile.
    edge_vec.par_iter_mut().for_each(|x| *x = T::default());
    if f == 0 || n_atoms == 0 {
        *filter = filter.as_ref().map(|filter| filter.map(|_| T::default()));
        return;
    }
    let layout = Layout::of_order::<T>(2, stages.parts, f, config);
    let columns = [Some(call.filter), direction.filter].map(|filter| match filter {
        Some(Filter::Mlp { a2, .. }) if wanted.filter => layout.columns(a2),
        _ => Vec::new(),
    });
    let weights = Weights::of(call, layout);
    let varied = direction.filter.map(|filter| Weights::pack(filter, call, layout));
    let prepared = Prepared { stages, call, backward, direction, layout, weights, varied, columns };
    let own = ReceiverOrder::default();
    let order = call.row_order(&own);

    let grad = (Rows::new(&mut out.grad.nodes, f), Rows::new(&mut out.grad.vectors, 3 * f));
    Sweep::new(call, call.row_ptr, order, config).run(
        || (Tile::with_rates(call, config), prepared.scratch(config, Wanted { filter: false, ..wanted })),
        |(tile, scratch), task| {
            let mut owned = Owned { nodes: grad.0.as_ref(), vectors: grad.1.as_ref(), edge_vec: None };
            prepared.task(End::Receiver, tile, scratch, None, &mut owned, task);
        },
    );

    let rows = (Rows::new(nodes, stages.parts * f), Rows::new(vectors, 3 * f), Rows::new(edge_vec, 3));
    let owned = || Owned { nodes: rows.0.as_ref(), vectors: rows.1.as_ref(), edge_vec: rows.2.as_ref() };
    let sweep = Sweep::new(call, backward.sender_ptr, order, config);
    let scratch = || (Tile::with_rates(call, config), prepared.scratch(config, wanted));
    if let (true, Some(filter)) = (wanted.filter, filter.as_mut()) {
        let sums = sweep.sum(
            scratch,
            || WeightSums::new(call, layout),
            |(tile, scratch), sums, task| prepared.task(End::Sender, tile, scratch, Some(sums), &mut owned(), task),
        );
        WeightSums::write(&sums, layout, filter);
    } else {
        sweep.run(scratch, |(tile, scratch), task| prepared.task(End::Sender, tile, scratch, None, &mut owned(), task));
    }
}

impl<T: Element> Prepared<'_, T> {
    fn scratch(&self, config: &HostConfig, wanted: Wanted) -> Scratch<T> {
        let zeros = |n: usize| vec![T::default(); n * Tile::<T>::capacity(config)];
        let (outer, hidden) = if wanted.filter { (self.layout.parts * MAX_LANES, self.call.hidden()) } else { (0, 0) };
        Scratch {
            edge_sums: zeros(EDGE_SUMS * MAX_LANES),
            outer: [zeros(outer), zeros(outer)],
            hidden: [zeros(hidden), zeros(hidden)],
        }
    }

    fn task(
        &self,
        end: End,
        tile: &mut Tile<T>,
        scratch: &mut Scratch<T>,
        mut sums: Option<&mut WeightSums<T>>,
        outputs: &mut Owned<'_, T>,
        task: &Task,
    ) {
        let (call, rates) = (self.call, self.direction.edge_vec);
        outputs.clear(task);
        let push = |tile: &mut Tile<T>, row, edges| match end {
            End::Receiver => tile.push_rates(call, rates, row, edges),
            End::Sender => tile.push_sent_rates(call, &self.backward, rates, row, edges),
        };
        tile.walk(task.rows(), push, |tile| {
            tile.geometry(call);
            if tile.len > 0 {
                self.tile(end, tile, scratch, sums.as_deref_mut(), outputs);
            }
        });
    }

    /// Adds what a tile holds to the outputs.
    fn tile(
        &self,
        end: End,
        tile: &mut Tile<T>,
        scratch: &mut Scratch<T>,
        mut sums: Option<&mut WeightSums<T>>,
        outputs: &mut Owned<'_, T>,
    ) {
        let Self { call, backward, direction, .. } = self;
        self.stages.coefficients::<2>(call, direction.filter, tile);
        let Scratch { edge_sums, outer, hidden } = scratch;
        edge_sums.fill(T::default());
        hidden.iter_mut().for_each(|hidden| hidden.fill(T::default()));
        (self.stages.rates)(Pass {
            call,
            backward,
            direction,
            end,
            tile,
            filter: self.weights.map(),
            varied: self.varied.as_ref().map(Weights::map),
            edge_sums,
            outer,
            hidden,
            columns: &self.columns,
            sums: sums.as_deref_mut().map(|sums| &mut sums.last),
            outputs,
        });
        if end == End::Sender && backward.wanted.edge_vec {
            Arch::new().dispatch(EdgeVectors { tile, sums: edge_sums, outputs });
        }
        if let (Some(sums), 1..) = (sums, call.hidden()) {
            self.first_layer(tile, hidden, &mut sums.first);
        }
    }

    /// From the gradients in the hidden layer's values and their rates to the rates of those in its weights.
    fn first_layer(&self, tile: &Tile<T>, [gradients, rates]: &mut [Vec<T>; 2], sums: &mut Accumulator<T>) {
        let hidden = self.call.hidden();
        let rows = gradients.chunks_exact_mut(hidden).zip(rates.chunks_exact_mut(hidden));
        for (e, (gradients, rates)) in rows.take(tile.padded()).enumerate() {
            for (h, (gradient, rate)) in gradients.iter_mut().zip(rates).enumerate() {
                let at = h * tile.stride + e;
                let (slope, slope_rate) = (tile.activation[at].to_f64(), tile.activation_rates[at].to_f64());
                *rate = T::from_f64(rate.to_f64() * slope + gradient.to_f64() * slope_rate);
                *gradient = T::from_f64(gradient.to_f64() * slope);
            }
        }
        let (arch, stride, edges, width) = (Arch::new(), tile.stride, tile.padded(), hidden);
        let coefficients = &tile.coefficients;
        arch.dispatch(Outer::<_, true> {
            coefficients,
            stride,
            edges,
            values: rates,
            width,
            sums: sums.piece(0, hidden),
        });
        let (coefficients, values) = (&tile.rates, &*gradients);
        arch.dispatch(Outer::<_, false> { coefficients, stride, edges, values, width, sums: sums.piece(0, hidden) });
    }
}

/// Rates of the gradients in edge vectors, from what the channels of each edge have summed.
struct EdgeVectors<'a, 'b, T> {
    tile: &'a Tile<T>,
    sums: &'a [T],
    outputs: &'a mut Owned<'b, T>,
}

impl<T: Element> WithSimd for EdgeVectors<'_, '_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let (tile, lanes) = (self.tile, T::lanes::<S>());
        let dot = |a: &[f64], b: &[f64]| a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
        for (e, sums) in self.sums.chunks_exact(EDGE_SUMS * lanes).take(tile.len).enumerate() {
            let mut totals = [0.0; EDGE_SUMS];
            for (total, sums) in totals.iter_mut().zip(sums.chunks_exact(lanes)) {
                *total = sums.iter().map(|x| x.to_f64()).sum();
            }
            let (d, rate) = (tile.d[e].to_f64(), tile.rate[e].to_f64());
            let u: [f64; 3] = std::array::from_fn(|axis| tile.u[axis][e].to_f64());
            let u_rate: [f64; 3] = std::array::from_fn(|axis| tile.u_rate[axis][e].to_f64());
            let (by_d, by_u, by_d_rate, by_u_rate) = (totals[0], &totals[1..4], totals[4], &totals[5..8]);
            let (along, along_rate) = (dot(&u, by_u), dot(&u_rate, by_u) + dot(&u, by_u_rate));
            let inverse = if d > 0.0 { 1.0 / d } else { 0.0 };
            let Some(out) = self.outputs.edge(tile.edge[e]) else { return };
            for x in 0..3 {
                let across = by_u[x] - u[x] * along;
                let across_rate = by_u_rate[x] - u_rate[x] * along - u[x] * along_rate;
                let radial_rate = u_rate[x] * by_d + u[x] * by_d_rate;
                out[x] = T::from_f64(radial_rate + (across_rate - across * rate * inverse) * inverse);
            }
        }
    }
}
