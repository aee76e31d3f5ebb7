//! `vector_norm`: the norm of vector features over their axes, one number for each atom and channel.
//!
//! | name | shape | dtype | order | meaning |
//! | --- | --- | --- | --- | --- |
//! | `vectors` | [n_atoms, 3, F] | T | 0, 1, 2 | V |
//! | `epsilon` | scalar | T | 0, 1, 2 | ε > 0, so that everything is finite at V = 0 |
//! | `norm` | [n_atoms, F] | T | 0 | √(Σ_a V_a² + ε), over the axes a = x, y, z |
//! | `grad` | [n_atoms, F] | T | 1, 2 | g = ∂L/∂norm, the cotangent of the norm |
//! | `tangent` | [n_atoms, 3, F] | T | 2 | t, the cotangent of the first backward's result: a direction in V |
//!
//! Everything is element-wise in atoms and channels, in the unit of V. It is what PaiNN's update takes of its vector
//! features (arXiv 2102.03150).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::dtype::{cast, cast_by_map};
use crate::{Problem, Scalar};

mod cost;
mod gradients;
mod order;

pub use cost::cost;
pub use gradients::{BackwardInputs, DoubleBackwardInputs, DoubleGradients, Gradients};
pub use order::OrderInputs;

/// The name of this family of kernels.
pub const OP: &str = "vector_norm";

/// The sizes of its calls.
pub const AXES: &[&str] = &["n_atoms", "features"];

crate::op::declare! {
    /// Norms of vector features over their axes: [`vector_norm`](crate::vector_norm).
    impl Op for VectorNorm: 0, Inputs -> Outputs, id;
    /// The first backward of [`VectorNorm`].
    impl Op for VectorNormBackward: 1, BackwardInputs -> Gradients, id;
    /// The second backward of [`VectorNorm`]: the vector-Jacobian product of the first.
    impl Op for VectorNormDoubleBackward: 2, DoubleBackwardInputs -> DoubleGradients, id;
}

/// How the work is dealt out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// One owner per atom and channel, which adds up the three axes in their order: the same bits on every run.
    Channelwise,
}

impl Strategy {
    /// All strategies.
    pub const ALL: [Strategy; 1] = [Strategy::Channelwise];

    /// The name used in variant ids.
    pub fn name(self) -> &'static str {
        match self {
            Strategy::Channelwise => "channelwise",
        }
    }
}

/// What changes the code of the op: there is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Variant {
    /// Strategy.
    pub strategy: Strategy,
}

impl Variant {
    /// The id: `channelwise`. It is also the family that tuning tables are keyed by.
    pub fn id(&self) -> String {
        self.strategy.name().to_owned()
    }
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.strategy.name())
    }
}

/// A variant id that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed vector_norm variant `{found}`, expected `channelwise`")]
pub struct MalformedVariant {
    /// What was given.
    pub found: String,
}

impl FromStr for Variant {
    type Err = MalformedVariant;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let strategy = Strategy::ALL.into_iter().find(|strategy| strategy.name() == s);
        strategy.map(|strategy| Self { strategy }).ok_or_else(|| MalformedVariant { found: s.to_owned() })
    }
}

/// All inputs of one call, owned, row-major; see the table at the top of this module.
#[derive(Clone, Debug, PartialEq)]
pub struct Inputs<T> {
    /// Atoms.
    pub n_atoms: usize,
    /// Channels F.
    pub features: usize,
    /// V, [n_atoms, 3, F].
    pub vectors: Vec<T>,
    /// ε > 0, in the square of V's unit; 10⁻⁸ in SchNetPack.
    pub epsilon: T,
}

/// What one call computes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outputs<T> {
    /// [n_atoms, F].
    pub norm: Vec<T>,
}

/// Inputs that cannot be computed on. Atoms and channels are counted from 0.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum InputError {
    /// A tensor has the wrong number of elements.
    #[error("`{tensor}` has {found} elements, expected {expected} for shape {shape}")]
    Shape {
        /// Tensor name as in the table of this module.
        tensor: &'static str,
        /// The shape it should have.
        shape: &'static str,
        /// Elements of that shape.
        expected: usize,
        /// Elements given.
        found: usize,
    },
    /// NaN or infinity.
    #[error("`{tensor}`[{index}] is {found}, expected a finite value")]
    NotFinite {
        /// Tensor name.
        tensor: &'static str,
        /// Flat index.
        index: usize,
        /// The value.
        found: f64,
    },
    /// An ε that is no positive number, perhaps since it is too small for the dtype.
    #[error("`epsilon` is {found}, expected a positive number that the dtype holds")]
    Epsilon {
        /// The value in the dtype of the call.
        found: f64,
    },
    /// More than the index type holds.
    #[error("{what} is {found}, more than the u32 index type holds; split the batch into several calls")]
    TooLarge {
        /// Which count.
        what: &'static str,
        /// Its value.
        found: usize,
    },
}

/// A tensor with its name, its shape in words, the elements of that shape and its values.
type Named<'a, T> = (&'static str, &'static str, usize, &'a [T]);

fn check_tensors<T: Scalar>(tensors: &[Named<'_, T>]) -> Result<(), InputError> {
    for &(tensor, shape, expected, values) in tensors {
        if values.len() != expected {
            return Err(InputError::Shape { tensor, shape, expected, found: values.len() });
        }
        if let Some(index) = values.iter().position(|x| !x.to_f64().is_finite()) {
            return Err(InputError::NotFinite { tensor, index, found: values[index].to_f64() });
        }
    }
    Ok(())
}

impl<T> Inputs<T> {
    /// The sizes that tables are keyed by and constraints may name: atoms and channels, since there are neither edges nor
    /// systems.
    pub fn problem(&self, name: &str) -> Problem {
        Problem {
            name: name.to_owned(),
            n_atoms: self.n_atoms as u64,
            features: u32::try_from(self.features).unwrap_or(u32::MAX),
            ..Problem::default()
        }
    }

    /// Elements of the norm: n_atoms · F.
    pub fn n_norms(&self) -> usize {
        self.n_atoms.saturating_mul(self.features)
    }

    /// Every tensor by its name.
    pub fn tensors(&self) -> Vec<(&'static str, &[T])> {
        vec![("vectors", &self.vectors[..])]
    }
}

impl<T: Scalar> Inputs<T> {
    /// The same inputs in another dtype, rounded to nearest.
    pub fn cast<U: Scalar>(&self) -> Inputs<U> {
        Inputs {
            n_atoms: self.n_atoms,
            features: self.features,
            vectors: cast(&self.vectors),
            epsilon: U::from_f64(self.epsilon.to_f64()),
        }
    }

    /// Checks the shape, that ε is positive, and finiteness.
    ///
    /// # Errors
    /// The first thing that is wrong, with what was expected and found.
    pub fn check(&self) -> Result<(), InputError> {
        let elements = self.n_norms().saturating_mul(3);
        if elements > u32::MAX as usize {
            return Err(InputError::TooLarge { what: "n_atoms × 3F", found: elements });
        }
        let epsilon = self.epsilon.to_f64();
        if !(epsilon > 0.0 && epsilon.is_finite()) {
            return Err(InputError::Epsilon { found: epsilon });
        }
        check_tensors(&[("vectors", "[n_atoms, 3, F]", elements, &self.vectors)])
    }

    /// Output buffers of the right size, every element NaN, so that a missing write shows.
    pub fn poisoned_outputs(&self) -> Outputs<T> {
        Outputs { norm: vec![T::from_f64(f64::NAN); self.n_norms()] }
    }
}

impl<T> Outputs<T> {
    /// Every tensor by the name of its field.
    pub fn tensors(&self) -> Vec<(&'static str, &[T])> {
        vec![("norm", &self.norm[..])]
    }

    /// The same tensors with every element changed.
    pub fn map<U>(&self, change: impl FnMut(&T) -> U) -> Outputs<U> {
        Outputs { norm: self.norm.iter().map(change).collect() }
    }
}

cast_by_map!(Outputs);

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn inputs() -> Inputs<f64> {
        Inputs { n_atoms: 2, features: 3, vectors: vec![0.5; 18], epsilon: 0.25 }
    }

    #[test]
    fn ids_round_trip() {
        for strategy in Strategy::ALL {
            let variant = Variant { strategy };
            assert_eq!(variant.id().parse(), Ok(variant));
        }
        let error = "gather".parse::<Variant>().unwrap_err().to_string();
        assert!(error.contains("`gather`, expected `channelwise`"), "{error}");
    }

    #[test]
    fn what_fits_is_accepted() {
        let all = inputs();
        assert_eq!((all.check(), all.n_norms()), (Ok(()), 6));
        assert_eq!(all.cast::<f32>().cast::<f64>(), all, "these numbers are exact in both dtypes");
        let outputs = all.poisoned_outputs();
        assert!(outputs.norm.len() == 6 && outputs.norm.iter().all(|x| x.is_nan()));
        let problem = all.problem("two");
        assert_eq!((problem.n_atoms, problem.features), (2, 3));
        assert_eq!((problem.n_edges, problem.n_systems, problem.max_degree), (0, 0, 0));
        for nothing in [
            Inputs { n_atoms: 0, vectors: Vec::new(), ..inputs() },
            Inputs { features: 0, vectors: Vec::new(), ..inputs() },
        ] {
            assert_eq!((nothing.check(), nothing.n_norms()), (Ok(()), 0));
        }
    }

    #[test]
    fn what_does_not_fit_is_named() {
        type Change = fn(&mut Inputs<f64>);
        let cases: [(Change, &str); 6] = [
            (|a| a.vectors.truncate(17), "`vectors` has 17 elements, expected 18 for shape [n_atoms, 3, F]"),
            (|a| a.vectors[7] = f64::NAN, "`vectors`[7] is NaN, expected a finite value"),
            (|a| a.epsilon = 0.0, "`epsilon` is 0, expected a positive number"),
            (|a| a.epsilon = f64::NAN, "`epsilon` is NaN, expected a positive number"),
            (|a| a.epsilon = f64::INFINITY, "`epsilon` is inf, expected a positive number"),
            (|a| a.features = 1 << 31, "n_atoms × 3F is 12884901888, more than the u32 index type holds"),
        ];
        for (change, expected) in cases {
            let mut all = inputs();
            change(&mut all);
            let found = all.check().unwrap_err().to_string();
            assert!(found.contains(expected), "{found} does not say {expected}");
        }
        // In f64 this ε is a number.
        let tiny = Inputs { epsilon: 1e-50, ..inputs() };
        assert!(tiny.check().is_ok() && tiny.cast::<f32>().check() == Err(InputError::Epsilon { found: 0.0 }));
    }
}
