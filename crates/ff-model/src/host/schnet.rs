//! SchNet: the convolution of a layer and what is around it, and their backwards.

use std::ops::Range;

use ff_kernels::host::layers::Dense;
use ff_spec::Precision;

use super::schedule::{Interactions, Tensors};
use super::workspace::{Scratch, Workspace, copy, store};
use super::{HostModel, Layer as AnyLayer, PackedMessage, Real, dense};
use crate::weights::Linear;

/// The weights of one interaction.
pub(super) struct Layer<T> {
    message: PackedMessage<T>,
    inputs: Dense<T>,
    output: [Dense<T>; 2],
}

impl<T: Real> Layer<T> {
    pub fn new(message: PackedMessage<T>, inputs: &Linear, output: &[Linear; 2], precision: Precision) -> Self {
        let [inputs, first, second] = [inputs, &output[0], &output[1]].map(|layer| dense(layer, precision));
        Self { message, inputs, output: [first, second] }
    }

    /// Bytes of its weights.
    pub fn bytes(&self) -> usize {
        let dense = self.output.iter().chain([&self.inputs]);
        self.message.bytes() + dense.map(Dense::bytes).sum::<usize>()
    }
}

fn layer<T: Real>(model: &HostModel<T>, l: usize) -> &Layer<T> {
    match &model.layers[l] {
        AnyLayer::Schnet(layer) => layer,
        AnyLayer::Painn(_) => unreachable!("all layers of a model are of one kind"),
    }
}

/// The interactions of SchNet.
pub(super) struct Schnet;

impl<T: Real> Interactions<T> for Schnet {
    /// y of a layer, from x.
    unsafe fn context(t: &Tensors<T>, model: &HostModel<T>, l: usize, block: &Range<usize>, _: &mut Scratch<T>) {
        // SAFETY: the rows of a block are those of one task.
        let (x, y) =
            unsafe { (t.q.rows(block, t.features), t.nodes.part(l, t.rows * t.filters).rows(block, t.filters)) };
        T::dense(&layer(model, l).inputs, x, y, false);
        model.store(y);
    }

    /// x of the next layer, from the messages of this.
    unsafe fn update(t: &Tensors<T>, model: &HostModel<T>, l: usize, block: &Range<usize>, scratch: &mut Scratch<T>) {
        let (f, [first, second]) = (t.features, &layer(model, l).output);
        // SAFETY: the rows of a block are those of one task.
        let (x, v, hidden) = unsafe {
            (t.q.rows(block, f), t.messages.rows(block, t.filters), t.hidden_update.part(l, t.rows * f).rows(block, f))
        };
        T::dense(first, v, hidden, false);
        model.store(hidden);
        let active = &mut scratch.a[..block.len() * f];
        T::activate(model.config.activation, hidden, active);
        T::dense(second, active, x, true);
        model.store(x);
    }

    /// Gradients in the messages of a layer, from those in the next layer's x.
    unsafe fn update_backward(
        t: &Tensors<T>,
        model: &HostModel<T>,
        l: usize,
        block: &Range<usize>,
        scratch: &mut Scratch<T>,
    ) {
        let (f, [first, second]) = (t.features, &layer(model, l).output);
        // SAFETY: the rows of a block are those of one task.
        let (of_x, of_v, hidden) = unsafe {
            (
                t.of_q.rows(block, f),
                t.of_nodes.rows(block, t.filters),
                t.hidden_update.part(l, t.rows * f).rows(block, f),
            )
        };
        let of_hidden = &mut scratch.a[..block.len() * f];
        T::dense_backward(second, of_x, of_hidden, false);
        T::activation_backward(model.config.activation, hidden, of_hidden);
        T::dense_backward(first, of_hidden, of_v, false);
    }

    /// Adds the gradients in x that came through a layer's messages.
    unsafe fn context_backward(
        t: &Tensors<T>,
        model: &HostModel<T>,
        l: usize,
        block: &Range<usize>,
        _: &mut Scratch<T>,
    ) {
        // SAFETY: the rows of a block are those of one task.
        let (of_x, of_y) = unsafe { (t.of_q.rows(block, t.features), t.of_nodes.rows(block, t.filters)) };
        T::dense_backward(&layer(model, l).inputs, of_y, of_x, true);
    }

    fn messages(model: &HostModel<T>, workspace: &mut Workspace<T>, l: usize) {
        let n = model.config.filters;
        let Workspace { rows, systems, atoms, kept, messages, .. } = workspace;
        let y = &kept.nodes[l * n * *rows..];
        for (system, atoms) in systems.iter_mut().zip(&*atoms) {
            let own = atoms.start * n..atoms.end * n;
            system.forward(model, &layer(model, l).message, &y[own.clone()], &[]);
            let messages = &mut messages[own];
            copy(messages, &system.message.nodes);
            store(model, messages);
        }
    }

    /// Gradients in the edge vectors and, of all layers but the first, in y.
    fn messages_backward(model: &HostModel<T>, workspace: &mut Workspace<T>, l: usize) {
        let n = model.config.filters;
        let Workspace { rows, systems, atoms, kept, of_nodes, .. } = workspace;
        let y = &kept.nodes[l * n * *rows..];
        for (system, atoms) in systems.iter_mut().zip(&*atoms) {
            let own = atoms.start * n..atoms.end * n;
            let inputs = [&y[own.clone()], &[]];
            system.backward(model, &layer(model, l).message, inputs, [&of_nodes[own.clone()], &[]], l > 0);
            if l > 0 {
                copy(&mut of_nodes[own], &system.gradients.nodes);
            }
        }
    }
}
