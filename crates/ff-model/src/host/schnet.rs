//! SchNet: convolutions and dense layers, then the same backwards.

use std::ops::Range;

use ff_kernels::host::layers::Dense;

use super::blocks::{Cut, for_each_block};
use super::head::{Head, readout};
use super::painn::embed;
use super::workspace::{Scratch, Workspace, copy, scratch};
use super::{HostModel, Layer as AnyLayer, PackedMessage, Part, Real, Times, dense};
use crate::weights::Linear;

/// The weights of one interaction.
pub(super) struct Layer<T> {
    message: PackedMessage<T>,
    inputs: Dense<T>,
    output: [Dense<T>; 2],
}

impl<T: Real> Layer<T> {
    pub fn new(message: PackedMessage<T>, inputs: &Linear, output: &[Linear; 2]) -> Self {
        Self { message, inputs: dense(inputs), output: [dense(&output[0]), dense(&output[1])] }
    }
}

fn layer<T: Real>(model: &HostModel<T>, l: usize) -> &Layer<T> {
    match &model.layers[l] {
        AnyLayer::Schnet(layer) => layer,
        AnyLayer::Painn(_) => unreachable!("all layers of a model are of one kind"),
    }
}

/// All tensors of a workspace, cut into rows. Every method works on the rows of a block that its task alone has.
struct Tensors<'a, T> {
    features: usize,
    filters: usize,
    q: Cut<'a, T>,
    /// y of every layer.
    nodes: Vec<Cut<'a, T>>,
    hidden: Vec<Cut<'a, T>>,
    messages: Cut<'a, T>,
    head: Head<'a, T>,
    of_q: Cut<'a, T>,
    of_nodes: Cut<'a, T>,
}

impl<T: Real> Tensors<'_, T> {
    /// y of a layer, from x.
    unsafe fn context(&self, model: &HostModel<T>, l: usize, block: &Range<usize>) {
        // SAFETY: the rows of a block are those of one task.
        let (x, y) = unsafe { (self.q.rows(block, self.features), self.nodes[l].rows(block, self.filters)) };
        T::dense(&layer(model, l).inputs, x, y, false);
    }

    /// x of the next layer, from the messages of this.
    unsafe fn update(&self, model: &HostModel<T>, l: usize, block: &Range<usize>, scratch: &mut Scratch<T>) {
        let (f, [first, second]) = (self.features, &layer(model, l).output);
        // SAFETY: the rows of a block are those of one task.
        let (x, v, hidden) =
            unsafe { (self.q.rows(block, f), self.messages.rows(block, self.filters), self.hidden[l].rows(block, f)) };
        T::dense(first, v, hidden, false);
        let active = &mut scratch.a[..block.len() * f];
        T::activate(model.config.activation, hidden, active);
        T::dense(second, active, x, true);
    }

    /// Gradients in the messages of a layer, from those in the next layer's x.
    unsafe fn update_backward(&self, model: &HostModel<T>, l: usize, block: &Range<usize>, scratch: &mut Scratch<T>) {
        let (f, [first, second]) = (self.features, &layer(model, l).output);
        // SAFETY: the rows of a block are those of one task.
        let (of_x, of_v, hidden) = unsafe {
            (self.of_q.rows(block, f), self.of_nodes.rows(block, self.filters), self.hidden[l].rows(block, f))
        };
        let of_hidden = &mut scratch.a[..block.len() * f];
        T::dense_backward(second, of_x, of_hidden, false);
        T::activation_backward(model.config.activation, hidden, of_hidden);
        T::dense_backward(first, of_hidden, of_v, false);
    }

    /// Adds the gradients in x that came through a layer's messages.
    unsafe fn context_backward(&self, model: &HostModel<T>, l: usize, block: &Range<usize>) {
        // SAFETY: the rows of a block are those of one task.
        let (of_x, of_y) = unsafe { (self.of_q.rows(block, self.features), self.of_nodes.rows(block, self.filters)) };
        T::dense_backward(&layer(model, l).inputs, of_y, of_x, true);
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
                    return times.part(Part::Context, l, || tensors.context(model, l, block));
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
                    times.part(Part::ContextBackward, l + 1, || tensors.context_backward(model, l + 1, block));
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
    let Workspace { species, q, layers, messages, head, of_q, of_nodes, scratch: all, .. } = workspace;
    let (nodes, hidden) =
        layers.iter_mut().map(|kept| (Cut::new(&mut kept.nodes), Cut::new(&mut kept.hidden_update))).unzip();
    let tensors = Tensors {
        features: model.config.features,
        filters: model.config.filters,
        q: Cut::new(q),
        nodes,
        hidden,
        messages: Cut::new(messages),
        head: Head { layers: head.iter_mut().map(|values| Cut::new(values)).collect() },
        of_q: Cut::new(of_q),
        of_nodes: Cut::new(of_nodes),
    };
    for_each_block(rows, |block| task(&tensors, species, &block, &mut scratch(all)));
}

fn messages<T: Real>(model: &HostModel<T>, workspace: &mut Workspace<T>, l: usize) {
    let n = model.config.filters;
    let Workspace { systems, atoms, layers, messages, .. } = workspace;
    for (system, atoms) in systems.iter_mut().zip(&*atoms) {
        let rows = atoms.start * n..atoms.end * n;
        system.forward(model, &layer(model, l).message, &layers[l].nodes[rows.clone()], &[]);
        copy(&mut messages[rows], &system.message.nodes);
    }
}

/// Gradients in the edge vectors and, of all layers but the first, in y.
fn messages_backward<T: Real>(model: &HostModel<T>, workspace: &mut Workspace<T>, l: usize) {
    let n = model.config.filters;
    let Workspace { systems, atoms, layers, of_nodes, .. } = workspace;
    for (system, atoms) in systems.iter_mut().zip(&*atoms) {
        let rows = atoms.start * n..atoms.end * n;
        let inputs = [&layers[l].nodes[rows.clone()], &[]];
        system.backward(model, &layer(model, l).message, inputs, [&of_nodes[rows.clone()], &[]], l > 0);
        if l > 0 {
            copy(&mut of_nodes[rows], &system.gradients.nodes);
        }
    }
}
