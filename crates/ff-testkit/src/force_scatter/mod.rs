//! What the three orders of `force_scatter` are judged by: cases, comparison of every tensor, faults on purpose.

use ff_reference::Oracle;
use ff_reference::force_scatter::{ReferenceError, backward, double_backward, forward};
use ff_spec::force_scatter::{
    BackwardInputs, DoubleBackwardInputs, DoubleGradients, Gradients, Inputs, Outputs, Reduction, Variant,
};
use ff_spec::{ForceScatter, ForceScatterBackward, ForceScatterDoubleBackward};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::case::{Case, CaseSet};
use crate::degrees::Degrees;
use crate::tensors::{ByTensors, tensors_of_spec};
use crate::tolerance::Order;

pub mod mutants;
pub mod strategies;
#[cfg(test)]
mod tests;

/// The sizes and the kind of randomness of a case.
#[derive(Clone, Debug, PartialEq)]
pub struct ScatterSpec {
    /// Atoms of each system.
    pub systems: Vec<usize>,
    /// Edges of each row, over the atoms of all systems; of a system of one atom they lead to its images.
    pub degrees: Degrees,
    /// Whether in every other row edges come in pairs that nearly cancel.
    pub cancelling: bool,
}

impl ScatterSpec {
    fn n_atoms(&self) -> usize {
        self.systems.iter().sum()
    }

    fn n_edges(&self) -> usize {
        self.degrees.rows(self.n_atoms()).into_iter().sum()
    }
}

/// The cases, the same for every variant and order.
pub fn cases(set: CaseSet) -> Vec<Case<ScatterSpec>> {
    use Degrees::{EmptyRows, LongRow, PowerLaw, Uniform};
    let case = |id, systems: Vec<usize>, degrees| {
        let spec = ScatterSpec { systems, degrees, cancelling: false };
        Case { id, degenerate: spec.n_edges() == 0, spec }
    };
    let mut cancellation = case("cancellation", vec![25, 6], Uniform(8));
    cancellation.spec.cancelling = true;
    let mut all = vec![
        case("small", vec![12], PowerLaw { max: 14, exponent: 0.7 }),
        // A system of one atom sees nothing but its own images.
        case("batch", vec![0, 5, 9, 0, 0, 1, 3, 0], Uniform(6)),
        case("isolated_atoms", vec![23], EmptyRows(13)),
        case("molecules", (0..40).map(|i| 2 + i % 3).collect(), Uniform(4)),
        cancellation,
        case("no_edges", vec![3, 0, 2], Uniform(0)),
        case("lone_atom", vec![1], Uniform(0)),
    ];
    if set == CaseSet::Full {
        all.extend([
            case("no_systems", Vec::new(), Uniform(0)),
            case("no_atoms", vec![0, 0, 0], Uniform(0)),
            case("one_edge_each", vec![5], Uniform(1)),
            // More rows than any one cube or task takes, of a few edges each.
            case("many_rows", vec![1031], EmptyRows(3)),
            case("many_systems", (0..2000).map(|i| i * 37 % 4).collect(), Uniform(3)),
            case("liquid", vec![400], Uniform(50)),
            case("unequal_systems", vec![3, 700, 0, 1, 90], Uniform(20)),
            case("long_row", vec![70], LongRow { long: 5000, short: 3 }),
            case("skewed", vec![60, 60], PowerLaw { max: 2000, exponent: 1.5 }),
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

/// Random inputs whose shape depends on `spec` alone: senders anywhere in the receiver's system, vectors within ±5 Å,
/// gradients within ±1 eV/Å. Edges that nearly cancel follow each other, with one sender and one vector, and with
/// gradients up to ±8 eV/Å that differ by a millionth.
pub fn random_inputs(spec: &ScatterSpec, seed: u64) -> Inputs<f64> {
    let mut rng = random(seed, 0);
    let rows = spec.degrees.rows(spec.n_atoms());
    let mut inputs = Inputs::<f64> {
        row_ptr: vec![0],
        sender: Vec::new(),
        edge_vec: Vec::new(),
        edge_grad: Vec::new(),
        system_ptr: vec![0],
    };
    let mut first = 0;
    for n_atoms in &spec.systems {
        let atoms = first..first + n_atoms;
        for row in &rows[atoms.clone()] {
            let cancelling = spec.cancelling && inputs.row_ptr.len().is_multiple_of(2);
            for at in 0..*row {
                if cancelling && at % 2 == 1 {
                    inputs.sender.extend(inputs.sender.last().copied());
                    inputs.edge_vec.extend_from_within(inputs.edge_vec.len() - 3..);
                    let last = inputs.edge_grad.len() - 3;
                    for axis in 0..3 {
                        inputs.edge_grad.push(-inputs.edge_grad[last + axis] * (1.0 + 1e-6));
                    }
                } else {
                    inputs.sender.push(rng.random_range(atoms.clone()) as u32);
                    inputs.edge_vec.extend([0; 3].map(|_| rng.random_range(-5.0..5.0)));
                    let most = if cancelling { 8.0 } else { 1.0 };
                    inputs.edge_grad.extend([0; 3].map(|_| rng.random_range(-most..most)));
                }
            }
            inputs.row_ptr.push(inputs.sender.len() as u32);
        }
        first = atoms.end;
        inputs.system_ptr.push(first as u32);
    }
    inputs
}

/// Random cotangents of the outputs, over [−1, 1); those of the strain are not symmetric.
pub fn random_cotangents(inputs: &Inputs<f64>, seed: u64) -> Outputs<f64> {
    let mut rng = random(seed, 1);
    inputs.poisoned_outputs().map(|_| rng.random_range(-1.0..1.0))
}

/// A random direction in the space of the inputs, over [−1, 1).
pub fn random_tangent(inputs: &Inputs<f64>, seed: u64) -> Gradients<f64> {
    let mut rng = random(seed, 2);
    let mut numbers = || (0..3 * inputs.n_edges()).map(|_| rng.random_range(-1.0..1.0)).collect();
    Gradients { edge_vec: numbers(), edge_grad: numbers() }
}

crate::tensors::forward!(Inputs<f64>: row_ptr, sender, system_ptr);

impl ByTensors for ForceScatter {
    type Spec = ScatterSpec;
    type Error = ReferenceError;
    const TOLERANCE: Order = Order::Forward;

    fn cases(_: &Variant, set: CaseSet) -> Vec<Case<ScatterSpec>> {
        cases(set)
    }

    fn representative(_: &Variant) -> Variant {
        Variant { reduction: Reduction::Gather }
    }

    fn inputs(spec: &ScatterSpec, _: &Variant, seed: u64) -> Result<Inputs<f64>, ReferenceError> {
        Ok(random_inputs(spec, seed))
    }

    fn oracle(_: &Variant, inputs: &Inputs<f64>) -> Result<Oracle<Outputs<f64>>, ReferenceError> {
        forward(inputs)
    }

    fn same_bits(variant: &Variant) -> Option<&'static str> {
        (variant.reduction == Reduction::Gather).then_some("gather")
    }

    tensors_of_spec!(Inputs<f64>, inputs => *inputs);
}

impl ByTensors for ForceScatterBackward {
    type Spec = ScatterSpec;
    type Error = ReferenceError;
    const TOLERANCE: Order = Order::First;

    fn cases(_: &Variant, set: CaseSet) -> Vec<Case<ScatterSpec>> {
        cases(set)
    }

    fn representative(variant: &Variant) -> Variant {
        ForceScatter::representative(variant)
    }

    fn inputs(spec: &ScatterSpec, _: &Variant, seed: u64) -> Result<BackwardInputs<f64>, ReferenceError> {
        let inputs = random_inputs(spec, seed);
        Ok(BackwardInputs { grad: random_cotangents(&inputs, seed), inputs })
    }

    fn oracle(_: &Variant, inputs: &BackwardInputs<f64>) -> Result<Oracle<Gradients<f64>>, ReferenceError> {
        backward(inputs)
    }

    fn same_bits(variant: &Variant) -> Option<&'static str> {
        ForceScatter::same_bits(variant)
    }

    tensors_of_spec!(Inputs<f64>, inputs => inputs.inputs);
}

impl ByTensors for ForceScatterDoubleBackward {
    type Spec = ScatterSpec;
    type Error = ReferenceError;
    const TOLERANCE: Order = Order::Second;

    fn cases(_: &Variant, set: CaseSet) -> Vec<Case<ScatterSpec>> {
        cases(set)
    }

    fn representative(variant: &Variant) -> Variant {
        ForceScatter::representative(variant)
    }

    fn inputs(spec: &ScatterSpec, _: &Variant, seed: u64) -> Result<DoubleBackwardInputs<f64>, ReferenceError> {
        let inputs = random_inputs(spec, seed);
        let (grad, tangent) = (random_cotangents(&inputs, seed), random_tangent(&inputs, seed));
        Ok(DoubleBackwardInputs { inputs, grad, tangent })
    }

    fn oracle(_: &Variant, inputs: &DoubleBackwardInputs<f64>) -> Result<Oracle<DoubleGradients<f64>>, ReferenceError> {
        double_backward(inputs)
    }

    fn same_bits(variant: &Variant) -> Option<&'static str> {
        ForceScatter::same_bits(variant)
    }

    tensors_of_spec!(Inputs<f64>, inputs => inputs.inputs);
}
