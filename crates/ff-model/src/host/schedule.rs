//! The order in which the parts of a model run: forward and then backward, layer after layer.

use std::ops::Range;

use super::blocks::{Cut, for_each_block};
use super::head::readout;
use super::workspace::{Scratch, Workspace, scratch};
use super::{HostModel, Part, Real, Times};

/// All tensors of a workspace, cut into rows; of a kind of model that has no such tensor, without elements.
pub(super) struct Tensors<'a, T> {
    pub rows: usize,
    pub features: usize,
    pub filters: usize,
    pub q: Cut<'a, T>,
    pub mu: Cut<'a, T>,
    pub hidden: Cut<'a, T>,
    pub nodes: Cut<'a, T>,
    pub mixed: Cut<'a, T>,
    pub norm: Cut<'a, T>,
    pub hidden_update: Cut<'a, T>,
    pub a: Cut<'a, T>,
    pub messages: Cut<'a, T>,
    pub head: Cut<'a, T>,
    pub of_q: Cut<'a, T>,
    pub of_mu: Cut<'a, T>,
    pub of_nodes: Cut<'a, T>,
}

/// The interactions of a kind of model. Those on a block work on its rows, which their task alone has.
pub(super) trait Interactions<T: Real> {
    /// What the messages of layer `l` are made of.
    ///
    /// # Safety
    /// No other task has these rows; likewise below.
    unsafe fn context(t: &Tensors<T>, model: &HostModel<T>, l: usize, block: &Range<usize>, scratch: &mut Scratch<T>);

    /// Features of the next layer, from those with the messages of this.
    ///
    /// # Safety
    /// As above.
    unsafe fn update(t: &Tensors<T>, model: &HostModel<T>, l: usize, block: &Range<usize>, scratch: &mut Scratch<T>);

    /// Gradients in the features with the messages of a layer, from those in the next layer's.
    ///
    /// # Safety
    /// As above.
    unsafe fn update_backward(
        t: &Tensors<T>,
        model: &HostModel<T>,
        l: usize,
        block: &Range<usize>,
        scratch: &mut Scratch<T>,
    );

    /// Adds the gradients in the features that came through what a layer's messages are made of.
    ///
    /// # Safety
    /// As above.
    unsafe fn context_backward(
        t: &Tensors<T>,
        model: &HostModel<T>,
        l: usize,
        block: &Range<usize>,
        scratch: &mut Scratch<T>,
    );

    /// The messages of a layer, of all systems.
    fn messages(model: &HostModel<T>, workspace: &mut Workspace<T>, l: usize);

    /// Gradients in the edge vectors and, of all layers but the first, in what messages were made of.
    fn messages_backward(model: &HostModel<T>, workspace: &mut Workspace<T>, l: usize);
}

/// Energies of all atoms and, where wanted, gradients in all edge vectors.
pub(super) fn run<T: Real, I: Interactions<T>>(
    model: &HostModel<T>,
    workspace: &mut Workspace<T>,
    forces: bool,
    times: &Times,
) {
    workspace.reserve(model, forces);
    let (f, layers) = (model.config.features, model.layers.len());
    for l in 0..=layers {
        dense_phase(model, workspace, |t, species, block, scratch| {
            // SAFETY: blocks are disjoint, so that each row is in one task.
            unsafe {
                if l == 0 {
                    times.part(Part::Embedding, 0, || embed(model, species, t.q.rows(block, f), block));
                } else {
                    times.part(Part::Update, l - 1, || I::update(t, model, l - 1, block, scratch));
                }
                if l < layers {
                    return times.part(Part::Context, l, || I::context(t, model, l, block, scratch));
                }
                times.part(Part::Readout, 0, || {
                    let of_q = if forces { Some(t.of_q.rows(block, f)) } else { None };
                    readout(model, &t.head, t.rows, block, t.q.rows(block, f), of_q, scratch);
                });
                if forces {
                    times.part(Part::UpdateBackward, l - 1, || I::update_backward(t, model, l - 1, block, scratch));
                }
            }
        });
        if l < layers {
            times.whole(Part::Message, l, workspace.threads, || I::messages(model, workspace, l));
        }
    }
    if !forces {
        return;
    }
    for l in (0..layers).rev() {
        if l + 1 < layers {
            dense_phase(model, workspace, |t, _, block, scratch| {
                // SAFETY: blocks are disjoint, so that each row is in one task.
                unsafe {
                    times.part(Part::ContextBackward, l + 1, || I::context_backward(t, model, l + 1, block, scratch));
                    times.part(Part::UpdateBackward, l, || I::update_backward(t, model, l, block, scratch));
                }
            });
        }
        times.whole(Part::MessageBackward, l, workspace.threads, || I::messages_backward(model, workspace, l));
    }
}

/// Runs `task` on every block with the memory of its thread.
fn dense_phase<T: Real>(
    model: &HostModel<T>,
    workspace: &mut Workspace<T>,
    task: impl Fn(&Tensors<'_, T>, &[u8], &Range<usize>, &mut Scratch<T>) + Sync + Send,
) {
    let rows = workspace.rows;
    let Workspace { species, q, mu, kept, messages, head, of_q, of_mu, of_nodes, scratch: all, .. } = workspace;
    let tensors = Tensors {
        rows,
        features: model.config.features,
        filters: model.config.filters,
        q: Cut::new(q),
        mu: Cut::new(mu),
        hidden: Cut::new(&mut kept.hidden),
        nodes: Cut::new(&mut kept.nodes),
        mixed: Cut::new(&mut kept.mixed),
        norm: Cut::new(&mut kept.norm),
        hidden_update: Cut::new(&mut kept.hidden_update),
        a: Cut::new(&mut kept.a),
        messages: Cut::new(messages),
        head: Cut::new(head),
        of_q: Cut::new(of_q),
        of_mu: Cut::new(of_mu),
        of_nodes: Cut::new(of_nodes),
    };
    for_each_block(rows, |block| task(&tensors, species, &block, &mut scratch(all)));
}

/// Features of the elements; zeros in rows beyond the atoms.
fn embed<T: Real>(model: &HostModel<T>, species: &[u8], q: &mut [T], block: &Range<usize>) {
    let f = model.config.features;
    for (atom, row) in block.clone().zip(q.chunks_exact_mut(f)) {
        match species.get(atom) {
            Some(z) => row.copy_from_slice(&model.embedding[usize::from(*z) * f..][..f]),
            None => row.fill(T::default()),
        }
    }
}
