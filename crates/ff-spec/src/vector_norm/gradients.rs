//! What the first and the second backward of `vector_norm` read and write.
//!
//! With n the norm, g its cotangent, t a direction in V and s = Σ_a V_a t_a of an atom and channel, the first backward is
//!
//! ∂L/∂V_a = g·V_a/n,
//!
//! and the second, with Q = Σ_a t_a·∂L/∂V_a = g·s/n,
//!
//! ∂Q/∂g = s/n, ∂Q/∂V_a = (g/n)·(t_a − V_a·s/n²).
//!
//! At V = 0 the first is 0 and the second is g·t/√ε in V: large, and finite.

use crate::Scalar;
use crate::dtype::{cast, cast_by_map};

use super::{InputError, Inputs, check_tensors};

/// The gradient in the inputs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Gradients<T> {
    /// ∂L/∂V, [n_atoms, 3, F].
    pub vectors: Vec<T>,
}

/// All inputs of one first backward.
#[derive(Clone, Debug, PartialEq)]
pub struct BackwardInputs<T> {
    /// Inputs of the forward.
    pub inputs: Inputs<T>,
    /// g = ∂L/∂norm, [n_atoms, F].
    pub grad: Vec<T>,
}

/// All inputs of one second backward.
#[derive(Clone, Debug, PartialEq)]
pub struct DoubleBackwardInputs<T> {
    /// Inputs of the forward.
    pub inputs: Inputs<T>,
    /// g, the cotangent that the first backward was given, [n_atoms, F].
    pub grad: Vec<T>,
    /// t, a direction in V, [n_atoms, 3, F].
    pub tangent: Vec<T>,
}

/// What one second backward computes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DoubleGradients<T> {
    /// ∂Q/∂g, the derivative of the norm along t, [n_atoms, F].
    pub grad: Vec<T>,
    /// ∂Q/∂V, the derivative of the first backward along t, [n_atoms, 3, F].
    pub vectors: Vec<T>,
}

impl<T> Gradients<T> {
    /// Every tensor by the name of its field.
    pub fn tensors(&self) -> Vec<(&'static str, &[T])> {
        vec![("vectors", &self.vectors[..])]
    }

    /// The same tensors with every element changed.
    pub fn map<U>(&self, change: impl FnMut(&T) -> U) -> Gradients<U> {
        Gradients { vectors: self.vectors.iter().map(change).collect() }
    }
}

cast_by_map!(Gradients, DoubleGradients);

impl<T> DoubleGradients<T> {
    /// Every tensor by the name of its field.
    pub fn tensors(&self) -> Vec<(&'static str, &[T])> {
        vec![("grad", &self.grad[..]), ("vectors", &self.vectors[..])]
    }

    /// The same tensors with every element changed.
    pub fn map<U>(&self, mut change: impl FnMut(&T) -> U) -> DoubleGradients<U> {
        DoubleGradients {
            grad: self.grad.iter().map(&mut change).collect(),
            vectors: self.vectors.iter().map(change).collect(),
        }
    }
}

fn check_grad<T: Scalar>(inputs: &Inputs<T>, grad: &[T]) -> Result<(), InputError> {
    inputs.check()?;
    check_tensors(&[("grad", "[n_atoms, F]", inputs.n_norms(), grad)])
}

impl<T> BackwardInputs<T> {
    /// Every tensor by its name.
    pub fn tensors(&self) -> Vec<(&'static str, &[T])> {
        vec![("vectors", &self.inputs.vectors[..]), ("grad", &self.grad[..])]
    }
}

impl<T: Scalar> BackwardInputs<T> {
    /// The same inputs in another dtype, rounded to nearest.
    pub fn cast<U: Scalar>(&self) -> BackwardInputs<U> {
        BackwardInputs { inputs: self.inputs.cast(), grad: cast(&self.grad) }
    }

    /// Checks as [`Inputs::check`] does, and the cotangent's shape and finiteness.
    ///
    /// # Errors
    /// The first thing that is wrong, with what was expected and found.
    pub fn check(&self) -> Result<(), InputError> {
        check_grad(&self.inputs, &self.grad)
    }

    /// Output buffers of the right size, every element NaN, so that a missing write shows.
    pub fn poisoned_outputs(&self) -> Gradients<T> {
        Gradients { vectors: vec![T::from_f64(f64::NAN); 3 * self.inputs.n_norms()] }
    }
}

impl<T> DoubleBackwardInputs<T> {
    /// Every tensor by its name.
    pub fn tensors(&self) -> Vec<(&'static str, &[T])> {
        vec![("vectors", &self.inputs.vectors[..]), ("grad", &self.grad[..]), ("tangent", &self.tangent[..])]
    }
}

impl<T: Scalar> DoubleBackwardInputs<T> {
    /// The same inputs in another dtype, rounded to nearest.
    pub fn cast<U: Scalar>(&self) -> DoubleBackwardInputs<U> {
        DoubleBackwardInputs { inputs: self.inputs.cast(), grad: cast(&self.grad), tangent: cast(&self.tangent) }
    }

    /// Checks as [`Inputs::check`] does, and the cotangent's and the direction's shapes and finiteness.
    ///
    /// # Errors
    /// The first thing that is wrong, with what was expected and found.
    pub fn check(&self) -> Result<(), InputError> {
        check_grad(&self.inputs, &self.grad)?;
        check_tensors(&[("tangent", "[n_atoms, 3, F]", 3 * self.inputs.n_norms(), &self.tangent)])
    }

    /// Output buffers of the right size, every element NaN, so that a missing write shows.
    pub fn poisoned_outputs(&self) -> DoubleGradients<T> {
        let nan = |n| vec![T::from_f64(f64::NAN); n];
        DoubleGradients { grad: nan(self.inputs.n_norms()), vectors: nan(3 * self.inputs.n_norms()) }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::inputs;
    use super::*;

    fn double() -> DoubleBackwardInputs<f64> {
        DoubleBackwardInputs { inputs: inputs(), grad: vec![0.5; 6], tangent: vec![0.75; 18] }
    }

    #[test]
    fn what_fits_is_accepted() {
        let all = double();
        assert_eq!(all.check(), Ok(()));
        assert_eq!(all.cast::<f32>().cast::<f64>(), all, "these numbers are exact in both dtypes");
        let names: Vec<_> = all.tensors().iter().map(|(name, _)| *name).collect();
        assert_eq!(names, ["vectors", "grad", "tangent"]);
        let lengths: Vec<_> = all.poisoned_outputs().tensors().iter().map(|(_, values)| values.len()).collect();
        assert_eq!(lengths, [6, 18]);
        let first = BackwardInputs { inputs: all.inputs, grad: all.grad };
        assert_eq!((first.check(), first.poisoned_outputs().vectors.len()), (Ok(()), 18));
        assert!(first.tensors().iter().map(|(name, _)| *name).eq(names[..2].iter().copied()));
        assert_eq!(first.cast::<f32>().cast::<f64>(), first);
    }

    #[test]
    fn what_does_not_fit_is_named() {
        type Change = fn(&mut DoubleBackwardInputs<f64>);
        let cases: [(Change, &str); 5] = [
            (|a| a.grad.truncate(5), "`grad` has 5 elements, expected 6 for shape [n_atoms, F]"),
            (|a| a.grad[4] = f64::INFINITY, "`grad`[4] is inf"),
            (|a| a.tangent.push(0.0), "`tangent` has 19 elements, expected 18 for shape [n_atoms, 3, F]"),
            (|a| a.tangent[0] = f64::NAN, "`tangent`[0] is NaN"),
            (|a| a.inputs.epsilon = -1.0, "`epsilon` is -1"),
        ];
        for (change, expected) in cases {
            let mut all = double();
            change(&mut all);
            let found = all.check().unwrap_err().to_string();
            assert!(found.contains(expected), "{found} does not say {expected}");
        }
    }
}
