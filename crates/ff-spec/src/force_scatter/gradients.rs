//! What the first and the second backward of `force_scatter` read and write.
//!
//! With cotangents F̄, S̄ in the shape of [`Outputs`], L = ⟨F̄, forces⟩ + ⟨S̄, strain⟩. With s = sym(S̄) of an edge's system,
//! i its receiver and j its sender, the first backward is
//!
//! ∂L/∂g_e = F̄_i − F̄_j + s·r_e, ∂L/∂r_e = s·g_e.
//!
//! With a direction t = (t_r, t_g) in the space of edge vectors and edge gradients, Q = Σ_e t_g·∂L/∂g_e + t_r·∂L/∂r_e. The
//! second backward is
//!
//! ∂Q/∂F̄_i = Σ_{receiver i} t_g − Σ_{sender i} t_g, ∂Q/∂S̄ = Σ_e sym(r_e ⊗ t_g) + sym(t_r ⊗ g_e),
//! ∂Q/∂r_e = s·t_g, ∂Q/∂g_e = s·t_r.
//!
//! The op is linear in g and in r, so ∂Q/∂r and ∂Q/∂g do not depend on either and nothing depends on F̄.

use crate::Scalar;
use crate::dtype::cast_by_map;

use super::{InputError, Inputs, Outputs, check_tensors};

/// Gradients in the floating-point inputs, or one cotangent for each of them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Gradients<T> {
    /// In `edge_vec`, [n_edges, 3].
    pub edge_vec: Vec<T>,
    /// In `edge_grad`, [n_edges, 3].
    pub edge_grad: Vec<T>,
}

/// All inputs of one first backward.
#[derive(Clone, Debug, PartialEq)]
pub struct BackwardInputs<T> {
    /// Inputs of the forward.
    pub inputs: Inputs<T>,
    /// F̄ = ∂L/∂forces and S̄ = ∂L/∂strain.
    pub grad: Outputs<T>,
}

/// All inputs of one second backward.
#[derive(Clone, Debug, PartialEq)]
pub struct DoubleBackwardInputs<T> {
    /// Inputs of the forward.
    pub inputs: Inputs<T>,
    /// F̄ and S̄, the cotangents that the first backward was given.
    pub grad: Outputs<T>,
    /// t_r and t_g: a direction in the space of inputs.
    pub tangent: Gradients<T>,
}

/// What one second backward computes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DoubleGradients<T> {
    /// ∂Q/∂F̄ and ∂Q/∂S̄: the derivative of the outputs in direction t.
    pub grad: Outputs<T>,
    /// ∂Q/∂inputs: the derivative of the gradients of L in direction t.
    pub gradients: Gradients<T>,
}

impl<T> Gradients<T> {
    /// Every tensor by the name of its field.
    pub fn tensors(&self) -> Vec<(&'static str, &[T])> {
        vec![("edge_vec", &self.edge_vec[..]), ("edge_grad", &self.edge_grad[..])]
    }

    /// The same tensors with every element changed.
    pub fn map<U>(&self, mut change: impl FnMut(&T) -> U) -> Gradients<U> {
        Gradients {
            edge_vec: self.edge_vec.iter().map(&mut change).collect(),
            edge_grad: self.edge_grad.iter().map(change).collect(),
        }
    }
}

cast_by_map!(Gradients, DoubleGradients);

impl<T> DoubleGradients<T> {
    /// Every tensor by the name of its field, those in F̄ and S̄ as `grad.forces` and `grad.strain`.
    pub fn tensors(&self) -> Vec<(&'static str, &[T])> {
        [grad_tensors(&self.grad), self.gradients.tensors()].concat()
    }

    /// The same tensors with every element changed.
    pub fn map<U>(&self, mut change: impl FnMut(&T) -> U) -> DoubleGradients<U> {
        DoubleGradients { grad: self.grad.map(&mut change), gradients: self.gradients.map(change) }
    }
}

fn grad_tensors<T>(grad: &Outputs<T>) -> Vec<(&'static str, &[T])> {
    vec![("grad.forces", &grad.forces[..]), ("grad.strain", &grad.strain[..])]
}

fn check_grad<T: Scalar>(inputs: &Inputs<T>, grad: &Outputs<T>) -> Result<(), InputError> {
    check_tensors(&[
        ("grad.forces", "[n_atoms, 3]", 3 * inputs.n_atoms(), &grad.forces),
        ("grad.strain", "[n_systems, 3, 3]", 9 * inputs.n_systems(), &grad.strain),
    ])
}

impl<T: Scalar> Inputs<T> {
    /// Gradients of the right size, every element NaN.
    fn poisoned_gradients(&self) -> Gradients<T> {
        let nan = || vec![T::from_f64(f64::NAN); 3 * self.n_edges()];
        Gradients { edge_vec: nan(), edge_grad: nan() }
    }
}

impl<T: Scalar> BackwardInputs<T> {
    /// The same inputs in another dtype, rounded to nearest.
    pub fn cast<U: Scalar>(&self) -> BackwardInputs<U> {
        BackwardInputs { inputs: self.inputs.cast(), grad: self.grad.cast() }
    }

    /// Every floating-point tensor by its name, the cotangents as `grad.forces` and `grad.strain`.
    pub fn tensors(&self) -> Vec<(&'static str, &[T])> {
        [self.inputs.tensors(), grad_tensors(&self.grad)].concat()
    }

    /// Checks as [`Inputs::check`] does, and the cotangents' shapes and finiteness.
    ///
    /// # Errors
    /// The first thing that is wrong, with what was expected and found.
    pub fn check(&self) -> Result<(), InputError> {
        self.inputs.check()?;
        check_grad(&self.inputs, &self.grad)
    }

    /// Output buffers of the right size, every element NaN, so that a missing write shows.
    pub fn poisoned_outputs(&self) -> Gradients<T> {
        self.inputs.poisoned_gradients()
    }
}

impl<T: Scalar> DoubleBackwardInputs<T> {
    /// The same inputs in another dtype, rounded to nearest.
    pub fn cast<U: Scalar>(&self) -> DoubleBackwardInputs<U> {
        DoubleBackwardInputs { inputs: self.inputs.cast(), grad: self.grad.cast(), tangent: self.tangent.cast() }
    }

    /// Every floating-point tensor by its name, the cotangents as `grad.*` and the direction as `tangent.*`.
    pub fn tensors(&self) -> Vec<(&'static str, &[T])> {
        let Gradients { edge_vec, edge_grad } = &self.tangent;
        let tangent = vec![("tangent.edge_vec", &edge_vec[..]), ("tangent.edge_grad", &edge_grad[..])];
        [self.inputs.tensors(), grad_tensors(&self.grad), tangent].concat()
    }

    /// Checks as [`Inputs::check`] does, and the cotangents' and the direction's shapes and finiteness.
    ///
    /// # Errors
    /// The first thing that is wrong, with what was expected and found.
    pub fn check(&self) -> Result<(), InputError> {
        self.inputs.check()?;
        check_grad(&self.inputs, &self.grad)?;
        let (n_edges, Gradients { edge_vec, edge_grad }) = (self.inputs.n_edges(), &self.tangent);
        check_tensors(&[
            ("tangent.edge_vec", "[n_edges, 3]", 3 * n_edges, edge_vec),
            ("tangent.edge_grad", "[n_edges, 3]", 3 * n_edges, edge_grad),
        ])
    }

    /// Output buffers of the right size, every element NaN, so that a missing write shows.
    pub fn poisoned_outputs(&self) -> DoubleGradients<T> {
        DoubleGradients { grad: self.inputs.poisoned_outputs(), gradients: self.inputs.poisoned_gradients() }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::inputs;
    use super::*;

    fn double() -> DoubleBackwardInputs<f64> {
        let inputs = inputs();
        let grad = inputs.poisoned_outputs().map(|_| 0.5);
        DoubleBackwardInputs { tangent: inputs.poisoned_gradients().map(|_| 0.75), grad, inputs }
    }

    #[test]
    fn what_fits_is_accepted() {
        let all = double();
        assert_eq!(all.check(), Ok(()));
        assert_eq!(all.cast::<f32>().cast::<f64>(), all, "these numbers are exact in both dtypes");
        let lengths: Vec<usize> = all.poisoned_outputs().tensors().iter().map(|(_, values)| values.len()).collect();
        assert_eq!(lengths, [9, 27, 9, 9]);
        let names: Vec<_> = all.tensors().iter().map(|(name, _)| *name).collect();
        let first = BackwardInputs { inputs: all.inputs.clone(), grad: all.grad.clone() };
        assert_eq!(first.check(), Ok(()));
        assert!(first.tensors().iter().map(|(name, _)| *name).eq(names[..4].iter().copied()));
        assert_eq!(names[4..], ["tangent.edge_vec", "tangent.edge_grad"]);
        assert_eq!(first.poisoned_outputs().tensors().len(), 2);
    }

    #[test]
    fn what_does_not_fit_is_named() {
        type Change = fn(&mut DoubleBackwardInputs<f64>);
        let cases: [(Change, &str); 6] = [
            (|a| a.grad.forces.truncate(8), "`grad.forces` has 8 elements, expected 9 for shape [n_atoms, 3]"),
            (|a| a.grad.strain.clear(), "`grad.strain` has 0 elements, expected 27 for shape [n_systems, 3, 3]"),
            (|a| a.grad.strain[4] = f64::INFINITY, "`grad.strain`[4] is inf"),
            (|a| a.tangent.edge_vec.push(0.0), "`tangent.edge_vec` has 10 elements, expected 9"),
            (|a| a.tangent.edge_grad[0] = f64::NAN, "`tangent.edge_grad`[0] is NaN"),
            (|a| a.inputs.sender[2] = 0, "edge 2 joins atom 2 of system 2 and atom 0 of system 0"),
        ];
        for (change, expected) in cases {
            let mut all = double();
            change(&mut all);
            let found = all.check().unwrap_err().to_string();
            assert!(found.contains(expected), "{found} does not say {expected}");
        }
    }
}
