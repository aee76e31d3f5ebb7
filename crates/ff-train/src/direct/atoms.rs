//! Frames as the kernels read them, and the loss of what is computed for them.

use std::ops::Range;

use ff_kernels::SenderList;
use ff_kernels::fused_message::host::ReceiverOrder;

use super::Real;
use crate::loss::{Fitted, Scales, Terms};

/// Frames of a part as the kernels read them.
pub(super) struct Atoms<T> {
    pub species: Vec<usize>,
    /// Atoms of every frame.
    pub frames: Vec<Range<usize>>,
    /// Edges of every frame.
    pub edges: Vec<Range<usize>>,
    pub row_ptr: Vec<u32>,
    pub sender: Vec<u32>,
    pub edge_vec: Vec<T>,
    pub senders: SenderList,
    pub order: ReceiverOrder,
}

impl<T: Real> Atoms<T> {
    pub fn new(fitted: &[&Fitted]) -> Self {
        let (mut row_ptr, mut sender, mut edge_vec) = (vec![0u32], Vec::new(), Vec::new());
        let (mut species, mut frames, mut edges) = (Vec::new(), Vec::new(), Vec::new());
        for frame in fitted {
            let (listed, first, first_edge) = (frame.listed(), species.len(), sender.len());
            row_ptr.extend(listed.row_ptr()[1..].iter().map(|end| first_edge as u32 + end));
            sender.extend(listed.sender().iter().map(|j| first as u32 + j));
            edge_vec.extend(listed.edge_vec().iter().map(|x| T::from_f64(*x)));
            species.extend(listed.species().iter().map(|z| *z as usize));
            frames.push(first..species.len());
            edges.push(first_edge..sender.len());
        }
        let senders = SenderList::new(&row_ptr, &sender);
        Self { species, frames, edges, row_ptr, sender, edge_vec, senders, order: ReceiverOrder::default() }
    }
}

/// The loss's terms, its gradient in the energy of each atom [N], and the direction of edges [n_edges, 3] in which the energy's
/// derivative has the gradient that forces and strain give.
pub(super) fn loss<T: Real>(
    atoms: &Atoms<T>,
    frames: &[&Fitted],
    scales: &Scales,
    energies: &[T],
    edge_grad: &[T],
) -> (Terms, Vec<T>, Vec<T>) {
    let mut terms = [0.0; 4];
    let mut of_energies = vec![T::default(); energies.len()];
    let mut direction = vec![T::default(); edge_grad.len()];
    for ((frame, own), edges) in frames.iter().zip(&atoms.frames).zip(&atoms.edges) {
        let n = own.len().max(1) as f64;
        if let Some(label) = frame.energy() {
            let energy: f64 = energies[own.clone()].iter().map(|e| -> f64 { (*e).into() }).sum();
            let error = energy / n - label;
            terms[0] += scales.energy * error * error;
            of_energies[own.clone()].fill(T::from_f64(2.0 * scales.energy * error / n));
        }
        let ends = own.clone().flat_map(|i| atoms.row_ptr[i]..atoms.row_ptr[i + 1]).map(|edge| edge as usize);
        let (receiver, sender) = (&atoms.senders.receiver, &atoms.sender);
        let vector = |values: &[T], edge: usize| -> [f64; 3] { std::array::from_fn(|k| values[3 * edge + k].into()) };
        debug_assert_eq!(ends.clone().next().unwrap_or(edges.start), edges.start);
        if let Some(labels) = frame.forces().filter(|_| scales.forces > 0.0) {
            // −∂L/∂F of each atom.
            let mut moved: Vec<f64> = vec![0.0; 3 * own.len()];
            for edge in ends.clone() {
                let gradient = vector(edge_grad, edge);
                let [i, j] = [receiver[edge], sender[edge]].map(|atom| 3 * (atom as usize - own.start));
                for k in 0..3 {
                    moved[i + k] += gradient[k];
                    moved[j + k] -= gradient[k];
                }
            }
            for (force, label) in moved.iter_mut().zip(labels) {
                let error = *force - label;
                terms[1] += scales.forces * error * error;
                *force = -2.0 * scales.forces * error;
            }
            for edge in ends.clone() {
                let [i, j] = [receiver[edge], sender[edge]].map(|atom| 3 * (atom as usize - own.start));
                for k in 0..3 {
                    direction[3 * edge + k] += T::from_f64(moved[j + k] - moved[i + k]);
                }
            }
        }
        if let Some((label, per_volume)) = frame.stress().filter(|_| scales.stress > 0.0) {
            let mut strain = [[0.0; 3]; 3];
            for edge in edges.clone() {
                let (r, gradient) = (vector(&atoms.edge_vec, edge), vector(edge_grad, edge));
                for a in 0..3 {
                    for b in 0..3 {
                        // Only its symmetric part is a stress.
                        strain[a][b] += 0.5 * (r[a] * gradient[b] + r[b] * gradient[a]);
                    }
                }
            }
            let errors: [[f64; 3]; 3] =
                std::array::from_fn(|a| std::array::from_fn(|b| strain[a][b] * per_volume - label[a][b]));
            terms[2] += errors.as_flattened().iter().map(|e| scales.stress * e * e).sum::<f64>();
            for edge in edges.clone() {
                let r = vector(&atoms.edge_vec, edge);
                for b in 0..3 {
                    let along: f64 = (0..3).map(|a| r[a] * 0.5 * (errors[a][b] + errors[b][a])).sum();
                    direction[3 * edge + b] += T::from_f64(2.0 * scales.stress * per_volume * along);
                }
            }
        }
    }
    (terms, of_energies, direction)
}

/// The loss of features that are matched with those of a teacher [N, F], and its gradient in them.
pub(super) fn match_features<T: Real>(frames: &[&Fitted], scales: &Scales, projected: &[T]) -> (f64, Vec<T>) {
    let (mut term, mut gradient, mut at) = (0.0, vec![T::default(); projected.len()], 0);
    let width = projected.len() / frames.iter().map(|frame| frame.n_atoms()).sum::<usize>().max(1);
    for frame in frames {
        let own = at..at + width * frame.n_atoms();
        at = own.end;
        let Some(targets) = frame.features() else { continue };
        for ((gradient, value), target) in gradient[own.clone()].iter_mut().zip(&projected[own]).zip(targets) {
            let error = (*value).into() - f64::from(*target);
            term += scales.features * error * error;
            *gradient = T::from_f64(2.0 * scales.features * error);
        }
    }
    (term, gradient)
}
