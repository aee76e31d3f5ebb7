//! The head: energies of atoms from their features, and back.

use std::ops::Range;

use super::blocks::Cut;
use super::workspace::Scratch;
use super::{HostModel, Real};

/// Energies of the rows of a block, into the last tensor of the head, which has the pre-activations of its layers one after the
/// other, each of `all` rows; where forces are wanted, their gradients in q, into `of_q`.
///
/// # Safety
/// No other task has these rows.
pub(super) unsafe fn readout<T: Real>(
    model: &HostModel<T>,
    head: &Cut<'_, T>,
    all: usize,
    block: &Range<usize>,
    q: &[T],
    of_q: Option<&mut [T]>,
    scratch: &mut Scratch<T>,
) {
    let rows = block.len();
    let last = model.head.len() - 1;
    let outputs = |k: usize| {
        let before = model.head[..k].iter().map(|layer| layer.outputs()).sum::<usize>();
        head.range(all * before, all * model.head[k].outputs())
    };
    for (k, layer) in model.head.iter().enumerate() {
        // SAFETY: as the caller promises.
        let out = unsafe { outputs(k).rows(block, layer.outputs()) };
        if k == 0 {
            T::dense(layer, q, out, false);
        } else {
            T::dense(layer, &scratch.a[..rows * layer.inputs()], out, false);
        }
        // Energies are not stored: they are summed.
        if k < last {
            model.store(out);
            T::activate(model.head_activation, out, &mut scratch.a[..rows * layer.outputs()]);
        }
    }
    let Some(of_q) = of_q else { return };
    let Scratch { a, b, .. } = scratch;
    let (mut gradient, mut next) = (a, b);
    gradient[..rows].fill(T::from_f64(1.0));
    for (k, layer) in model.head.iter().enumerate().rev() {
        let of_outputs = &gradient[..rows * layer.outputs()];
        if k == 0 {
            T::dense_backward(layer, of_outputs, of_q, false);
        } else {
            let of_inputs = &mut next[..rows * layer.inputs()];
            T::dense_backward(layer, of_outputs, of_inputs, false);
            // SAFETY: as above; nothing else of these rows is borrowed.
            let before = unsafe { outputs(k - 1).rows(block, layer.inputs()) };
            T::activation_backward(model.head_activation, before, of_inputs);
            std::mem::swap(&mut gradient, &mut next);
        }
    }
}
