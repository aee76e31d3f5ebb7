//! PaiNN: message and update of every layer, then the same backwards.

use std::ops::Range;

use ff_kernels::host::layers::{Dense, Mixed, OfOutputs};

use super::blocks::{Cut, for_each_block};
use super::head::{Head, readout};
use super::workspace::{Kept, Scratch, Workspace, add, copy, scratch};
use super::{HostModel, Layer as AnyLayer, PackedMessage, Part, Real, Times, dense};
use crate::weights::Linear;

/// The weights of one interaction.
pub(super) struct Layer<T> {
    message: PackedMessage<T>,
    context: [Dense<T>; 2],
    mix: Dense<T>,
    update: [Dense<T>; 2],
}

impl<T: Real> Layer<T> {
    /// The last layer does not update vectors, which nothing reads after it.
    pub fn new(
        message: PackedMessage<T>,
        context: &[Linear; 2],
        mix: &Linear,
        update: &[Linear; 2],
        last: bool,
    ) -> Self {
        let features = mix.inputs;
        let mut outputs = update[1].clone();
        if last {
            outputs.weight.drain(features * features..2 * features * features);
            outputs.bias.drain(features..2 * features);
            outputs.outputs = 2 * features;
        }
        Self {
            message,
            context: [dense(&context[0]), dense(&context[1])],
            mix: dense(mix),
            update: [dense(&update[0]), dense(&outputs)],
        }
    }
}

fn layer<T: Real>(model: &HostModel<T>, l: usize) -> &Layer<T> {
    match &model.layers[l] {
        AnyLayer::Painn(layer) => layer,
        AnyLayer::Schnet(_) => unreachable!("all layers of a model are of one kind"),
    }
}

/// What a layer keeps, cut into rows.
struct KeptRows<'a, T> {
    hidden: Cut<'a, T>,
    nodes: Cut<'a, T>,
    mixed: Cut<'a, T>,
    norm: Cut<'a, T>,
    hidden_update: Cut<'a, T>,
    a: Cut<'a, T>,
}

impl<'a, T: Real> KeptRows<'a, T> {
    fn new(kept: &'a mut Kept<T>) -> Self {
        let Kept { hidden, nodes, mixed, norm, hidden_update, a } = kept;
        let [hidden, nodes, mixed, norm, hidden_update, a] =
            [hidden, nodes, mixed, norm, hidden_update, a].map(|values| Cut::new(values));
        Self { hidden, nodes, mixed, norm, hidden_update, a }
    }
}

/// All tensors of a workspace, cut into rows. Every method works on the rows of a block that its task alone has.
struct Tensors<'a, T> {
    features: usize,
    q: Cut<'a, T>,
    mu: Vec<Cut<'a, T>>,
    layers: Vec<KeptRows<'a, T>>,
    head: Head<'a, T>,
    of_q: Cut<'a, T>,
    of_mu: Cut<'a, T>,
    of_nodes: Cut<'a, T>,
}

impl<'a, T: Real> Tensors<'a, T> {
    /// s of a layer, from q.
    unsafe fn context(&self, model: &HostModel<T>, l: usize, block: &Range<usize>, scratch: &mut Scratch<T>) {
        let (f, kept, [first, second]) = (self.features, &self.layers[l], &layer(model, l).context);
        // SAFETY: the rows of a block are those of one task.
        let (q, hidden, s) =
            unsafe { (self.q.rows(block, f), kept.hidden.rows(block, f), kept.nodes.rows(block, 3 * f)) };
        T::dense(first, q, hidden, false);
        let active = &mut scratch.a[..block.len() * f];
        T::activate(model.config.activation, hidden, active);
        T::dense(second, active, s, false);
    }

    /// q and μ of the next layer, from those with the messages of this.
    unsafe fn update(&self, model: &HostModel<T>, l: usize, block: &Range<usize>, scratch: &mut Scratch<T>) {
        let (f, kept, weights) = (self.features, &self.layers[l], layer(model, l));
        let last = l + 1 == self.layers.len();
        let width = weights.update[1].outputs();
        // SAFETY: the rows of a block are those of one task.
        let (q, mu, values) =
            unsafe { (self.q.rows(block, f), self.mu[l + 1].rows(block, 3 * f), kept.mixed.rows(block, 6 * f)) };
        // SAFETY: as above.
        let (norm, hidden, a) =
            unsafe { (kept.norm.rows(block, f), kept.hidden_update.rows(block, f), kept.a.rows(block, width)) };
        T::dense(&weights.mix, mu, values, false);
        let mixed = Mixed { features: f, values };
        let (context, active) = (&mut scratch.a[..block.len() * 2 * f], &mut scratch.b[..block.len() * f]);
        T::update_context(mixed, T::from_f64(model.config.epsilon), q, norm, context);
        T::dense(&weights.update[0], context, hidden, false);
        T::activate(model.config.activation, hidden, active);
        T::dense(&weights.update[1], active, a, false);
        T::update(mixed, a, q, if last { &mut [] } else { mu });
    }

    /// Gradients in q and μ with the messages of a layer, in place of those in the next layer's.
    unsafe fn update_backward(&self, model: &HostModel<T>, l: usize, block: &Range<usize>, scratch: &mut Scratch<T>) {
        let (f, kept, weights) = (self.features, &self.layers[l], layer(model, l));
        let last = l + 1 == self.layers.len();
        let (rows, width) = (block.len(), weights.update[1].outputs());
        // SAFETY: the rows of a block are those of one task.
        let (of_q, of_mu, values) =
            unsafe { (self.of_q.rows(block, f), self.of_mu.rows(block, 3 * f), kept.mixed.rows(block, 6 * f)) };
        // SAFETY: as above.
        let (norm, hidden, a) =
            unsafe { (kept.norm.rows(block, f), kept.hidden_update.rows(block, f), kept.a.rows(block, width)) };
        let mixed = Mixed { features: f, values };
        let Scratch { a: first, b: second, c: third } = scratch;
        let of_a = &mut first[..rows * width];
        let in_mu: &[T] = if last { &[] } else { of_mu };
        T::update_backward(mixed, OfOutputs { q: of_q, mu: in_mu }, of_a);
        let of_hidden = &mut second[..rows * f];
        T::dense_backward(&weights.update[1], of_a, of_hidden, false);
        T::activation_backward(model.config.activation, hidden, of_hidden);
        let of_context = &mut first[..rows * 2 * f];
        T::dense_backward(&weights.update[0], of_hidden, of_context, false);
        let of_mixed = &mut third[..rows * 6 * f];
        T::mixed_backward(mixed, a, norm, of_context, in_mu, of_q, of_mixed);
        T::dense_backward(&weights.mix, of_mixed, of_mu, !last);
    }

    /// Adds the gradients in q that came through a layer's messages.
    unsafe fn context_backward(&self, model: &HostModel<T>, l: usize, block: &Range<usize>, scratch: &mut Scratch<T>) {
        let (f, kept, [first, second]) = (self.features, &self.layers[l], &layer(model, l).context);
        // SAFETY: the rows of a block are those of one task.
        let (of_q, of_s, hidden) =
            unsafe { (self.of_q.rows(block, f), self.of_nodes.rows(block, 3 * f), kept.hidden.rows(block, f)) };
        let of_hidden = &mut scratch.a[..block.len() * f];
        T::dense_backward(second, of_s, of_hidden, false);
        T::activation_backward(model.config.activation, hidden, of_hidden);
        T::dense_backward(first, of_hidden, of_q, true);
    }
}

/// Energies of all atoms and, where wanted, gradients in all edge vectors.
pub(super) fn run<T: Real>(model: &HostModel<T>, workspace: &mut Workspace<T>, forces: bool, times: &Times) {
    workspace.reserve(model, forces);
    let (f, layers) = (model.config.features, model.layers.len());
    for l in 0..=layers {
        dense_phase(model, workspace, |tensors, species, block, scratch| {
            // SAFETY: blocks are disjoint, so that each row is in one task.
            unsafe {
                if l == 0 {
                    times.part(Part::Embedding, 0, || embed(model, species, tensors.q.rows(block, f), block));
                } else {
                    times.part(Part::Update, l - 1, || tensors.update(model, l - 1, block, scratch));
                }
                if l < layers {
                    return times.part(Part::Context, l, || tensors.context(model, l, block, scratch));
                }
                times.part(Part::Readout, 0, || {
                    let of_q = if forces { Some(tensors.of_q.rows(block, f)) } else { None };
                    readout(model, &tensors.head, block, tensors.q.rows(block, f), of_q, scratch);
                });
                if forces {
                    times.part(Part::UpdateBackward, l - 1, || tensors.update_backward(model, l - 1, block, scratch));
                }
            }
        });
        if l < layers {
            times.whole(Part::Message, l, workspace.threads, || messages(model, workspace, l));
        }
    }
    if !forces {
        return;
    }
    for l in (0..layers).rev() {
        if l + 1 < layers {
            dense_phase(model, workspace, |tensors, _, block, scratch| {
                // SAFETY: blocks are disjoint, so that each row is in one task.
                unsafe {
                    times.part(Part::ContextBackward, l + 1, || tensors.context_backward(model, l + 1, block, scratch));
                    times.part(Part::UpdateBackward, l, || tensors.update_backward(model, l, block, scratch));
                }
            });
        }
        times.whole(Part::MessageBackward, l, workspace.threads, || messages_backward(model, workspace, l));
    }
}

/// Runs `task` on every block with the memory of its thread.
fn dense_phase<T: Real>(
    model: &HostModel<T>,
    workspace: &mut Workspace<T>,
    task: impl Fn(&Tensors<'_, T>, &[u8], &Range<usize>, &mut Scratch<T>) + Sync + Send,
) {
    let rows = workspace.rows;
    let Workspace { species, q, mu, layers, head, of_q, of_mu, of_nodes, scratch: all, .. } = workspace;
    let tensors = Tensors {
        features: model.config.features,
        q: Cut::new(q),
        mu: mu.iter_mut().map(|mu| Cut::new(mu)).collect(),
        layers: layers.iter_mut().map(KeptRows::new).collect(),
        head: Head { layers: head.iter_mut().map(|values| Cut::new(values)).collect() },
        of_q: Cut::new(of_q),
        of_mu: Cut::new(of_mu),
        of_nodes: Cut::new(of_nodes),
    };
    for_each_block(rows, |block| task(&tensors, species, &block, &mut scratch(all)));
}

/// Features of the elements; zeros in rows beyond the atoms.
pub(super) fn embed<T: Real>(model: &HostModel<T>, species: &[u8], q: &mut [T], block: &Range<usize>) {
    let f = model.config.features;
    for (atom, row) in block.clone().zip(q.chunks_exact_mut(f)) {
        match species.get(atom) {
            Some(z) => row.copy_from_slice(&model.embedding[usize::from(*z) * f..][..f]),
            None => row.fill(T::default()),
        }
    }
}

/// Adds the messages of a layer to q, and to μ for the update.
fn messages<T: Real>(model: &HostModel<T>, workspace: &mut Workspace<T>, l: usize) {
    let f = model.config.features;
    let Workspace { rows, systems, atoms, species, q, mu, layers, .. } = workspace;
    let (before, after) = mu.split_at_mut(l + 1);
    // Rows beyond the atoms are updated with the others: without this they would grow from call to call.
    after[0][3 * f * species.len()..3 * f * *rows].fill(T::default());
    for (system, atoms) in systems.iter_mut().zip(&*atoms) {
        let [one, three] = [f, 3 * f].map(|width| atoms.start * width..atoms.end * width);
        system.forward(model, &layer(model, l).message, &layers[l].nodes[three.clone()], &before[l][three.clone()]);
        add(&mut q[one], &system.message.nodes);
        let after = &mut after[0][three.clone()];
        copy(after, &system.message.vectors);
        // Before the first layer there are no vectors.
        if l > 0 {
            add(after, &before[l][three]);
        }
    }
}

/// Gradients in the edge vectors and, of all layers but the first, in s and in μ before the layer.
fn messages_backward<T: Real>(model: &HostModel<T>, workspace: &mut Workspace<T>, l: usize) {
    let f = model.config.features;
    let Workspace { systems, atoms, mu, layers, of_q, of_mu, of_nodes, .. } = workspace;
    for (system, atoms) in systems.iter_mut().zip(&*atoms) {
        let [one, three] = [f, 3 * f].map(|width| atoms.start * width..atoms.end * width);
        let inputs = [&layers[l].nodes[three.clone()], &mu[l][three.clone()]];
        let outputs = [&of_q[one], &of_mu[three.clone()]];
        system.backward(model, &layer(model, l).message, inputs, outputs, l > 0);
        if l > 0 {
            copy(&mut of_nodes[three.clone()], &system.gradients.nodes);
            add(&mut of_mu[three], &system.gradients.vectors);
        }
    }
}
