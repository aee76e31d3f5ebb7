//! `force_scatter` in f64: forward and first backward, one edge at a time, over any number.
//!
//! Shapes, names and formulas are those of [`ff_spec::force_scatter`]. The second backward is the derivative of both in the
//! direction of its cotangents, taken over numbers with a tangent.

use ff_spec::force_scatter::{
    BackwardInputs, DoubleBackwardInputs, DoubleGradients, Gradients, InputError, Inputs, Outputs,
};

use crate::Oracle;
use crate::fused_message::{Dual, Number, Tracked};

#[cfg(test)]
mod tests;

/// Why there is no result.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ReferenceError {
    /// Wrong tensors.
    #[error(transparent)]
    Input(#[from] InputError),
    /// A sum left the range of f64.
    #[error("`{tensor}`[{index}] of the result is {found}, expected a finite value")]
    NotFinite {
        /// Output tensor.
        tensor: &'static str,
        /// Flat index.
        index: usize,
        /// The value.
        found: f64,
    },
}

/// Forces and strain derivatives.
///
/// # Errors
/// [`ReferenceError`] for inputs that cannot be computed on.
pub fn forward(inputs: &Inputs<f64>) -> Result<Oracle<Outputs<f64>>, ReferenceError> {
    inputs.check()?;
    let tracked = Call::<Tracked>::new(inputs).forward();
    let outputs = tracked.map(|x| x.value);
    check_finite(&outputs.tensors())?;
    Ok(Oracle { outputs, magnitude: tracked.map(|x| x.magnitude) })
}

/// The gradients of L = ⟨F̄, forces⟩ + ⟨S̄, strain⟩ in edge vectors and edge gradients.
///
/// # Errors
/// As [`forward`].
pub fn backward(inputs: &BackwardInputs<f64>) -> Result<Oracle<Gradients<f64>>, ReferenceError> {
    inputs.check()?;
    let tracked = Call::<Tracked>::new(&inputs.inputs).backward(&inputs.grad.map(|x| Tracked::constant(*x)));
    let outputs = tracked.map(|x| x.value);
    check_finite(&outputs.tensors())?;
    Ok(Oracle { outputs, magnitude: tracked.map(|x| x.magnitude) })
}

/// The gradients of Q = ⟨t, gradients of L⟩ in the cotangents F̄, S̄ and in the inputs: the derivatives of the outputs and
/// of the gradients of L in direction t.
///
/// # Errors
/// As [`forward`].
pub fn double_backward(inputs: &DoubleBackwardInputs<f64>) -> Result<Oracle<DoubleGradients<f64>>, ReferenceError> {
    inputs.check()?;
    let mut call = Call::<Dual<Tracked>>::new(&inputs.inputs);
    for (numbers, tangents) in
        [(&mut call.edge_vec, &inputs.tangent.edge_vec), (&mut call.edge_grad, &inputs.tangent.edge_grad)]
    {
        for (number, tangent) in numbers.iter_mut().zip(tangents) {
            number.tangent = Tracked::new(*tangent);
        }
    }
    let grad = call.forward().map(|x| x.tangent);
    let gradients = call.backward(&inputs.grad.map(|x| Dual::constant(*x))).map(|x| x.tangent);
    let tracked = DoubleGradients { grad, gradients };
    let outputs = tracked.map(|x| x.value);
    check_finite(&outputs.tensors())?;
    Ok(Oracle { outputs, magnitude: tracked.map(|x| x.magnitude) })
}

fn check_finite(tensors: &[(&'static str, &[f64])]) -> Result<(), ReferenceError> {
    for &(tensor, values) in tensors {
        if let Some(index) = values.iter().position(|v| !v.is_finite()) {
            return Err(ReferenceError::NotFinite { tensor, index, found: values[index] });
        }
    }
    Ok(())
}

/// An edge with its atoms and its system.
struct Edge {
    id: usize,
    receiver: usize,
    sender: usize,
    system: usize,
}

/// Checked inputs as numbers.
struct Call<'a, N> {
    inputs: &'a Inputs<f64>,
    edge_vec: Vec<N>,
    edge_grad: Vec<N>,
}

impl<'a, N: Number> Call<'a, N> {
    fn new(inputs: &'a Inputs<f64>) -> Self {
        let numbers = |values: &[f64]| values.iter().map(|x| N::constant(*x)).collect();
        Self { inputs, edge_vec: numbers(&inputs.edge_vec), edge_grad: numbers(&inputs.edge_grad) }
    }

    fn edges(&self) -> impl Iterator<Item = Edge> {
        let Inputs { row_ptr, sender, system_ptr, .. } = self.inputs;
        (0..self.inputs.n_systems()).flat_map(move |system| {
            (system_ptr[system] as usize..system_ptr[system + 1] as usize).flat_map(move |receiver| {
                (row_ptr[receiver] as usize..row_ptr[receiver + 1] as usize).map(move |id| Edge {
                    id,
                    receiver,
                    sender: sender[id] as usize,
                    system,
                })
            })
        })
    }

    fn forward(&self) -> Outputs<N> {
        let zeros = |n| vec![N::constant(0.0); n];
        let mut out = Outputs { forces: zeros(3 * self.inputs.n_atoms()), strain: zeros(9 * self.inputs.n_systems()) };
        for Edge { id, receiver, sender, system } in self.edges() {
            let (r, g) = (&self.edge_vec[3 * id..], &self.edge_grad[3 * id..]);
            for a in 0..3 {
                out.forces[3 * receiver + a] += g[a];
                out.forces[3 * sender + a] += -g[a];
                for b in 0..3 {
                    out.strain[9 * system + 3 * a + b] += N::constant(0.5) * (r[a] * g[b] + r[b] * g[a]);
                }
            }
        }
        out
    }

    fn backward(&self, grad: &Outputs<N>) -> Gradients<N> {
        let zeros = || vec![N::constant(0.0); self.edge_vec.len()];
        let mut out = Gradients { edge_vec: zeros(), edge_grad: zeros() };
        for Edge { id, receiver, sender, system } in self.edges() {
            let (r, g) = (&self.edge_vec[3 * id..], &self.edge_grad[3 * id..]);
            let strain = &grad.strain[9 * system..];
            for a in 0..3 {
                let at = 3 * id + a;
                out.edge_grad[at] += grad.forces[3 * receiver + a] - grad.forces[3 * sender + a];
                for b in 0..3 {
                    let s = N::constant(0.5) * (strain[3 * a + b] + strain[3 * b + a]);
                    out.edge_grad[at] += s * r[b];
                    out.edge_vec[at] += s * g[b];
                }
            }
        }
        out
    }
}
