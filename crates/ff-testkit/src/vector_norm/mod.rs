//! What the three orders of `vector_norm` are judged by: cases, comparison of every tensor, faults on purpose.

use ff_reference::Oracle;
use ff_reference::vector_norm::{ReferenceError, backward, double_backward, forward};
use ff_spec::vector_norm::{
    BackwardInputs, DoubleBackwardInputs, DoubleGradients, Gradients, Inputs, Outputs, Variant,
};
use ff_spec::{Problem, VectorNorm, VectorNormBackward, VectorNormDoubleBackward};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::case::{Case, CaseSet};
use crate::tensors::{ByTensors, Forward, tensors_of_spec};
use crate::tolerance::Order;

pub mod mutants;
pub mod properties;
pub mod strategies;
#[cfg(test)]
mod tests;

/// SchNetPack's.
pub const EPSILON: f64 = 1e-8;

/// The kind of randomness of the vectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Over [−1, 1).
    Ordinary,
    /// V = 0: a division by the norm without ε shows.
    Zero,
    /// ‖V‖² of about a hundredth of ε: a forgotten ε shows, which f32 cannot see in 1 + 10⁻⁸.
    BelowEpsilon,
    /// ‖V‖ of 10¹³: n² is within the range of f32 and n³ is not.
    Huge,
    /// t along V in every other atom but for a millionth: what the second backward subtracts from t nearly is t. In the others
    /// it is not, so that what is left of the whole is no matter of rounding.
    Along,
}

/// The sizes and the kind of randomness of a case.
#[derive(Clone, Debug, PartialEq)]
pub struct NormSpec {
    /// Atoms.
    pub n_atoms: usize,
    /// Channels F.
    pub features: usize,
    /// Of the vectors.
    pub kind: Kind,
}

/// The cases of a derivative order. A case that an order cannot learn from is none of its: of V = 0 the norm is a constant, and t
/// is read by the second backward alone.
pub fn cases(order: Order, set: CaseSet) -> Vec<Case<NormSpec>> {
    let case = |id, n_atoms, features, kind| Case {
        id,
        spec: NormSpec { n_atoms, features, kind },
        // The gradient of a norm in V = 0 is zero, of any g.
        degenerate: n_atoms == 0 || (kind == Kind::Zero && order == Order::First),
    };
    let mut all = vec![
        case("small", 12, 24, Kind::Ordinary),
        // Registers that no row fills, and one more channel than whole registers hold.
        case("one_channel", 7, 1, Kind::Ordinary),
        case("one_atom", 1, 129, Kind::Ordinary),
        case("no_atoms", 0, 16, Kind::Ordinary),
        case("below_epsilon", 9, 20, Kind::BelowEpsilon),
        case("huge", 9, 20, Kind::Huge),
    ];
    if order != Order::Forward {
        all.push(case("zero", 5, 12, Kind::Zero));
    }
    if order == Order::Second {
        all.push(case("along", 10, 20, Kind::Along));
    }
    if set == CaseSet::Full {
        all.extend([
            case("two_channels", 3, 2, Kind::Ordinary),
            // Every remainder of a register of 16 is among these rows' widths.
            case("fifteen_channels", 33, 15, Kind::Ordinary),
            case("seventeen_channels", 33, 17, Kind::Ordinary),
            // More atoms than any one task takes, and more channels than any one cube.
            case("many_atoms", 3001, 5, Kind::Ordinary),
            case("many_channels", 3, 4099, Kind::Ordinary),
            case("usual", 64, 128, Kind::Ordinary),
            case("huge_odd", 11, 13, Kind::Huge),
        ]);
    }
    all
}

/// Independent random numbers by seed and stream.
fn random(seed: u64, stream: u64) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(stream);
    rng
}

/// `n` numbers over [−1, 1).
fn numbers(n: usize, seed: u64, stream: u64) -> Vec<f64> {
    let mut rng = random(seed, stream);
    (0..n).map(|_| rng.random_range(-1.0..1.0)).collect()
}

/// Random vectors of the kind that `spec` says, and ε = 10⁻⁸.
pub fn random_inputs(spec: &NormSpec, seed: u64) -> Inputs<f64> {
    let NormSpec { n_atoms, features, kind } = *spec;
    let scale = match kind {
        Kind::Ordinary | Kind::Along => 1.0,
        Kind::Zero => 0.0,
        // ‖V‖² is 10⁻¹⁰ on average.
        Kind::BelowEpsilon => 1e-5,
        Kind::Huge => 1e13,
    };
    let vectors = numbers(3 * n_atoms * features, seed, 0).into_iter().map(|x| scale * x).collect();
    Inputs { n_atoms, features, vectors, epsilon: EPSILON }
}

/// Random cotangents g of the norm, over [−1, 1).
pub fn random_cotangents(inputs: &Inputs<f64>, seed: u64) -> Vec<f64> {
    numbers(inputs.n_norms(), seed, 1)
}

/// A random direction t in the vectors, over [−1, 1).
pub fn random_tangent(inputs: &Inputs<f64>, seed: u64) -> Vec<f64> {
    numbers(3 * inputs.n_norms(), seed, 2)
}

/// The same direction, but along the vectors in every other atom where the spec says so.
fn tangent(spec: &NormSpec, inputs: &Inputs<f64>, seed: u64) -> Vec<f64> {
    let mut tangent = random_tangent(inputs, seed);
    if spec.kind == Kind::Along {
        for (at, t) in tangent.iter_mut().enumerate().filter(|(at, _)| (at / (3 * spec.features)).is_multiple_of(2)) {
            *t = 2.0 * inputs.vectors[at] + 1e-6 * *t;
        }
    }
    tangent
}

impl Forward for Inputs<f64> {
    fn problem(&self, name: &str) -> Problem {
        self.problem(name)
    }

    fn indices(&self) -> Vec<&[u32]> {
        Vec::new()
    }

    /// There are no edges: V stands in for their vectors.
    fn edge_vec_mut(&mut self) -> &mut Vec<f64> {
        &mut self.vectors
    }
}

/// What is alike in all orders. Variants differ in nothing that the oracle sees.
macro_rules! alike {
    () => {
        type Spec = NormSpec;
        type Error = ReferenceError;

        fn cases(_: &Variant, set: CaseSet) -> Vec<Case<NormSpec>> {
            cases(Self::TOLERANCE, set)
        }

        fn representative(variant: &Variant) -> Variant {
            *variant
        }

        fn same_bits(_: &Variant) -> Option<&'static str> {
            Some("channelwise")
        }
    };
}

impl ByTensors for VectorNorm {
    const TOLERANCE: Order = Order::Forward;

    alike!();

    fn inputs(spec: &NormSpec, _: &Variant, seed: u64) -> Result<Inputs<f64>, ReferenceError> {
        Ok(random_inputs(spec, seed))
    }

    fn oracle(_: &Variant, inputs: &Inputs<f64>) -> Result<Oracle<Outputs<f64>>, ReferenceError> {
        forward(inputs)
    }

    tensors_of_spec!(Inputs<f64>, inputs => *inputs);
}

impl ByTensors for VectorNormBackward {
    const TOLERANCE: Order = Order::First;

    alike!();

    fn inputs(spec: &NormSpec, _: &Variant, seed: u64) -> Result<BackwardInputs<f64>, ReferenceError> {
        let inputs = random_inputs(spec, seed);
        Ok(BackwardInputs { grad: random_cotangents(&inputs, seed), inputs })
    }

    fn oracle(_: &Variant, inputs: &BackwardInputs<f64>) -> Result<Oracle<Gradients<f64>>, ReferenceError> {
        backward(inputs)
    }

    tensors_of_spec!(Inputs<f64>, inputs => inputs.inputs);
}

impl ByTensors for VectorNormDoubleBackward {
    const TOLERANCE: Order = Order::Second;

    alike!();

    fn inputs(spec: &NormSpec, _: &Variant, seed: u64) -> Result<DoubleBackwardInputs<f64>, ReferenceError> {
        let inputs = random_inputs(spec, seed);
        let (grad, tangent) = (random_cotangents(&inputs, seed), tangent(spec, &inputs, seed));
        Ok(DoubleBackwardInputs { inputs, grad, tangent })
    }

    fn oracle(_: &Variant, inputs: &DoubleBackwardInputs<f64>) -> Result<Oracle<DoubleGradients<f64>>, ReferenceError> {
        double_backward(inputs)
    }

    tensors_of_spec!(Inputs<f64>, inputs => inputs.inputs);
}
