//! PaiNN: message and update of a layer, and their backwards.

use std::ops::Range;

use ff_kernels::host::layers::{Dense, Mixed, OfOutputs};
use ff_spec::Precision;

use super::schedule::{Interactions, Tensors};
use super::workspace::{Scratch, Workspace, add, copy, store};
use super::{HostModel, Layer as AnyLayer, PackedMessage, Real, dense};
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
        precision: Precision,
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
            context: [dense(&context[0], precision), dense(&context[1], precision)],
            mix: dense(mix, precision),
            update: [dense(&update[0], precision), dense(&outputs, precision)],
        }
    }

    /// Bytes of its weights.
    pub fn bytes(&self) -> usize {
        let dense = self.context.iter().chain(&self.update).chain([&self.mix]);
        self.message.bytes() + dense.map(Dense::bytes).sum::<usize>()
    }
}

fn layer<T: Real>(model: &HostModel<T>, l: usize) -> &Layer<T> {
    match &model.layers[l] {
        AnyLayer::Painn(layer) => layer,
        AnyLayer::Schnet(_) => unreachable!("all layers of a model are of one kind"),
    }
}

/// The interactions of PaiNN.
pub(super) struct Painn;

impl<T: Real> Interactions<T> for Painn {
    /// s of a layer, from q.
    unsafe fn context(t: &Tensors<T>, model: &HostModel<T>, l: usize, block: &Range<usize>, scratch: &mut Scratch<T>) {
        let (f, size, [first, second]) = (t.features, t.rows * t.features, &layer(model, l).context);
        // SAFETY: the rows of a block are those of one task.
        let (q, hidden, s) = unsafe {
            (t.q.rows(block, f), t.hidden.part(l, size).rows(block, f), t.nodes.part(l, 3 * size).rows(block, 3 * f))
        };
        T::dense(first, q, hidden, false);
        model.store(hidden);
        let active = &mut scratch.a[..block.len() * f];
        T::activate(model.config.activation, hidden, active);
        T::dense(second, active, s, false);
        model.store(s);
    }

    /// q and μ of the next layer, from those with the messages of this.
    unsafe fn update(t: &Tensors<T>, model: &HostModel<T>, l: usize, block: &Range<usize>, scratch: &mut Scratch<T>) {
        let (f, size, weights) = (t.features, t.rows * t.features, layer(model, l));
        let last = l + 1 == model.layers.len();
        let width = weights.update[1].outputs();
        // SAFETY: the rows of a block are those of one task.
        let (q, mu, values) = unsafe {
            (
                t.q.rows(block, f),
                t.mu.part(l, 3 * size).rows(block, 3 * f),
                t.mixed.part(l, 6 * size).rows(block, 6 * f),
            )
        };
        // SAFETY: as above.
        let (norm, hidden, a) = unsafe {
            (
                t.norm.part(l, size).rows(block, f),
                t.hidden_update.part(l, size).rows(block, f),
                t.a.part(l, 3 * size).rows(block, width),
            )
        };
        T::dense(&weights.mix, mu, values, false);
        model.store(values);
        let mixed = Mixed { features: f, values };
        let (context, active) = (&mut scratch.a[..block.len() * 2 * f], &mut scratch.b[..block.len() * f]);
        T::update_context(mixed, T::from_f64(model.config.epsilon), q, norm, context);
        model.store(norm);
        model.store(context);
        T::dense(&weights.update[0], context, hidden, false);
        model.store(hidden);
        T::activate(model.config.activation, hidden, active);
        T::dense(&weights.update[1], active, a, false);
        model.store(a);
        T::update(mixed, a, q, if last { &mut [] } else { &mut *mu });
        model.store(q);
        if !last {
            model.store(mu);
        }
    }

    /// Gradients in q and μ with the messages of a layer, in place of those in the next layer's.
    unsafe fn update_backward(
        t: &Tensors<T>,
        model: &HostModel<T>,
        l: usize,
        block: &Range<usize>,
        scratch: &mut Scratch<T>,
    ) {
        let (f, size, weights) = (t.features, t.rows * t.features, layer(model, l));
        let last = l + 1 == model.layers.len();
        let (rows, width) = (block.len(), weights.update[1].outputs());
        // SAFETY: the rows of a block are those of one task.
        let (of_q, of_mu, values) = unsafe {
            (t.of_q.rows(block, f), t.of_mu.rows(block, 3 * f), t.mixed.part(l, 6 * size).rows(block, 6 * f))
        };
        // SAFETY: as above.
        let (norm, hidden, a) = unsafe {
            (
                t.norm.part(l, size).rows(block, f),
                t.hidden_update.part(l, size).rows(block, f),
                t.a.part(l, 3 * size).rows(block, width),
            )
        };
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
    unsafe fn context_backward(
        t: &Tensors<T>,
        model: &HostModel<T>,
        l: usize,
        block: &Range<usize>,
        scratch: &mut Scratch<T>,
    ) {
        let (f, size, [first, second]) = (t.features, t.rows * t.features, &layer(model, l).context);
        // SAFETY: the rows of a block are those of one task.
        let (of_q, of_s, hidden) =
            unsafe { (t.of_q.rows(block, f), t.of_nodes.rows(block, 3 * f), t.hidden.part(l, size).rows(block, f)) };
        let of_hidden = &mut scratch.a[..block.len() * f];
        T::dense_backward(second, of_s, of_hidden, false);
        T::activation_backward(model.config.activation, hidden, of_hidden);
        T::dense_backward(first, of_hidden, of_q, true);
    }

    /// Adds the messages of a layer to q, and to μ for the update.
    fn messages(model: &HostModel<T>, workspace: &mut Workspace<T>, l: usize) {
        let f = model.config.features;
        let Workspace { rows, systems, atoms, species, q, mu, no_mu, kept, .. } = workspace;
        let size = 3 * f * *rows;
        let s = &kept.nodes[l * size..];
        let (earlier, after) = mu.split_at_mut(l * size);
        let before = if l == 0 { &**no_mu } else { &earlier[(l - 1) * size..] };
        // Rows beyond the atoms are updated with the others: without this they would grow from call to call.
        after[3 * f * species.len()..size].fill(T::default());
        for (system, atoms) in systems.iter_mut().zip(&*atoms) {
            let [one, three] = [f, 3 * f].map(|width| atoms.start * width..atoms.end * width);
            system.forward(model, &layer(model, l).message, &s[three.clone()], &before[three.clone()]);
            let q = &mut q[one];
            add(q, &system.message.nodes);
            store(model, q);
            let after = &mut after[three.clone()];
            copy(after, &system.message.vectors);
            // Before the first layer there are no vectors.
            if l > 0 {
                add(after, &before[three]);
            }
            store(model, after);
        }
    }

    /// Gradients in the edge vectors and, of all layers but the first, in s and in μ before the layer.
    fn messages_backward(model: &HostModel<T>, workspace: &mut Workspace<T>, l: usize) {
        let f = model.config.features;
        let Workspace { rows, systems, atoms, mu, no_mu, kept, of_q, of_mu, of_nodes, .. } = workspace;
        let size = 3 * f * *rows;
        let s = &kept.nodes[l * size..];
        let mu = if l == 0 { &**no_mu } else { &mu[(l - 1) * size..] };
        for (system, atoms) in systems.iter_mut().zip(&*atoms) {
            let [one, three] = [f, 3 * f].map(|width| atoms.start * width..atoms.end * width);
            let inputs = [&s[three.clone()], &mu[three.clone()]];
            let outputs = [&of_q[one], &of_mu[three.clone()]];
            system.backward(model, &layer(model, l).message, inputs, outputs, l > 0);
            if l > 0 {
                copy(&mut of_nodes[three.clone()], &system.gradients.nodes);
                add(&mut of_mu[three], &system.gradients.vectors);
            }
        }
    }
}
