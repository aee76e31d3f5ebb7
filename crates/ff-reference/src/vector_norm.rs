//! `vector_norm` in f64: forward and first backward, one atom and channel at a time, over any number.
//!
//! Shapes, names and formulas are those of [`ff_spec::vector_norm`]. The second backward is the derivative of both in the
//! direction of its cotangent, taken over numbers with a tangent.

use ff_spec::vector_norm::{
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
    /// A square left the range of f64.
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

/// The norm of every atom and channel.
///
/// # Errors
/// [`ReferenceError`] for inputs that cannot be computed on.
pub fn forward(inputs: &Inputs<f64>) -> Result<Oracle<Outputs<f64>>, ReferenceError> {
    inputs.check()?;
    let norm = Call::<Tracked>::new(inputs).forward();
    judged(Outputs { norm }, |all| all.map(|x| x.value), |all| all.map(|x| x.magnitude), Outputs::tensors)
}

/// The gradient of L = ⟨g, norm⟩ in the vectors.
///
/// # Errors
/// As [`forward`].
pub fn backward(inputs: &BackwardInputs<f64>) -> Result<Oracle<Gradients<f64>>, ReferenceError> {
    inputs.check()?;
    let vectors = Call::<Tracked>::new(&inputs.inputs).backward(&inputs.grad);
    judged(Gradients { vectors }, |all| all.map(|x| x.value), |all| all.map(|x| x.magnitude), Gradients::tensors)
}

/// The gradients of Q = ⟨t, ∂L/∂V⟩ in g and in the vectors: the derivatives of the norm and of ∂L/∂V in direction t.
///
/// # Errors
/// As [`forward`].
pub fn double_backward(inputs: &DoubleBackwardInputs<f64>) -> Result<Oracle<DoubleGradients<f64>>, ReferenceError> {
    inputs.check()?;
    let mut call = Call::<Dual<Tracked>>::new(&inputs.inputs);
    for (number, tangent) in call.vectors.iter_mut().zip(&inputs.tangent) {
        number.tangent = Tracked::new(*tangent);
    }
    let tangents = |of: Vec<Dual<Tracked>>| of.into_iter().map(|x| x.tangent).collect();
    let all = DoubleGradients { grad: tangents(call.forward()), vectors: tangents(call.backward(&inputs.grad)) };
    judged(all, |all| all.map(|x| x.value), |all| all.map(|x| x.magnitude), DoubleGradients::tensors)
}

/// Values and magnitudes of tracked numbers, of which the values have to be finite.
fn judged<A, B>(
    tracked: A,
    values: impl Fn(&A) -> B,
    magnitudes: impl Fn(&A) -> B,
    tensors: impl for<'a> Fn(&'a B) -> Vec<(&'static str, &'a [f64])>,
) -> Result<Oracle<B>, ReferenceError> {
    let outputs = values(&tracked);
    for (tensor, values) in tensors(&outputs) {
        if let Some(index) = values.iter().position(|v| !v.is_finite()) {
            return Err(ReferenceError::NotFinite { tensor, index, found: values[index] });
        }
    }
    Ok(Oracle { magnitude: magnitudes(&tracked), outputs })
}

/// Checked inputs as numbers.
struct Call<N> {
    features: usize,
    epsilon: f64,
    vectors: Vec<N>,
}

impl<N: Number> Call<N> {
    fn new(inputs: &Inputs<f64>) -> Self {
        let vectors = inputs.vectors.iter().map(|x| N::constant(*x)).collect();
        Self { features: inputs.features, epsilon: inputs.epsilon, vectors }
    }

    /// √(Σ_a V_a² + ε), [n_atoms, F].
    fn forward(&self) -> Vec<N> {
        let norm = |atom: &[N], c: usize| {
            let mut sum = N::constant(self.epsilon);
            for axis in 0..3 {
                let x = atom[axis * self.features + c];
                sum += x * x;
            }
            sum.sqrt()
        };
        // Without channels there is nothing to cut into atoms.
        let atoms = self.vectors.chunks_exact((3 * self.features).max(1));
        atoms.flat_map(|atom| (0..self.features).map(move |c| norm(atom, c))).collect()
    }

    /// g·V/norm, [n_atoms, 3, F].
    fn backward(&self, grad: &[f64]) -> Vec<N> {
        let (norm, f) = (self.forward(), self.features);
        let of = |at: usize| at / (3 * f) * f + at % f;
        let gradient = |(at, x): (usize, &N)| N::constant(grad[of(at)]) * *x * norm[of(at)].recip();
        self.vectors.iter().enumerate().map(gradient).collect()
    }
}
