//! What the first and the second backward of `fused_message` are judged by: the forward's cases with random cotangents,
//! comparison of every gradient, faults on purpose.

use std::collections::BTreeSet;

use ff_reference::Oracle;
use ff_reference::fused_message::{ReferenceError, backward, double_backward};
use ff_spec::fused_message::{
    BackwardInputs, DoubleBackwardInputs, DoubleGradients, Gradients, Inputs, Outputs, Variant, Wanted,
};
use ff_spec::{Dtype, FusedMessage, FusedMessageBackward, FusedMessageDoubleBackward};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{CaseSpec, random_inputs};
use crate::case::{Case, CaseSet};
use crate::gated::Evaluated;
use crate::tensors::{ByTensors, tensors_of_spec};
use crate::tolerance::{Order, cancels};

pub mod mutants;

/// A case of the forward and what the first backward is asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct BackwardSpec {
    /// Sizes and kind of randomness.
    pub forward: CaseSpec,
    /// Which gradients.
    pub wanted: Wanted,
}

/// A case of the forward and what the second backward is given.
#[derive(Clone, Debug, PartialEq)]
pub struct DoubleBackwardSpec {
    /// Sizes and kind of randomness.
    pub forward: CaseSpec,
    /// Whether the direction is in the weights too; a loss on forces has none in them.
    pub weights: bool,
}

/// A case of the forward by its name.
fn forward_case(id: &'static str, set: CaseSet) -> Option<Case<CaseSpec>> {
    super::cases(set).into_iter().find(|case| case.id == id)
}

/// Random numbers over [−1, 1) in the place of each element, independent of those of the inputs and of other streams.
fn uniform(seed: u64, stream: u64) -> impl FnMut() -> f64 {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(stream);
    move || rng.random_range(-1.0..1.0)
}

/// Random cotangents of the outputs, over [−1, 1).
pub fn random_cotangents(inputs: &Inputs<f64>, seed: u64) -> Outputs<f64> {
    let mut next = uniform(seed, 1);
    inputs.poisoned_outputs().map(|_| next())
}

/// As [`random_cotangents`], but zero for all but about `receivers` of the atoms that receive anything, spread over all: of so
/// few the oracle knows every gradient of a problem of any size, as gradients depend on the edges of these alone.
pub fn sparse_cotangents(inputs: &Inputs<f64>, seed: u64, receivers: usize) -> Outputs<f64> {
    let mut grad = random_cotangents(inputs, seed);
    // Cotangents of rows without edges would make every gradient zero, and a kernel that does nothing right.
    let owned = |row: &usize| inputs.row_ptr[*row] < inputs.row_ptr[row + 1];
    let rows: Vec<usize> = (0..inputs.n_atoms).filter(owned).collect();
    let kept: BTreeSet<usize> = rows.iter().copied().step_by(rows.len().div_ceil(receivers.max(1)).max(1)).collect();
    for values in [&mut grad.nodes, &mut grad.vectors] {
        let width = (values.len() / inputs.n_atoms.max(1)).max(1);
        let rows = values.chunks_exact_mut(width).enumerate().filter(|(row, _)| !kept.contains(row));
        rows.for_each(|(_, values)| values.fill(0.0));
    }
    grad
}

/// A random direction in the space of the inputs, over [−1, 1); without one in the weights where `weights` is false.
pub fn random_tangent(inputs: &Inputs<f64>, weights: bool, seed: u64) -> Gradients<f64> {
    tangent(inputs, weights, seed, TANGENT)
}

/// The first stream of random numbers that directions are made of.
const TANGENT: u64 = 2;

fn tangent(inputs: &Inputs<f64>, weights: bool, seed: u64, stream: u64) -> Gradients<f64> {
    let mut next = uniform(seed, stream);
    inputs.filled_gradients(Wanted { filter: weights, ..Wanted::ALL }, ()).map(|()| next())
}

impl ByTensors for FusedMessageBackward {
    type Spec = BackwardSpec;
    type Error = ReferenceError;
    const TOLERANCE: Order = Order::First;

    fn cases(_: &Variant, set: CaseSet) -> Vec<Case<BackwardSpec>> {
        let all = |wanted| move |forward| BackwardSpec { forward, wanted };
        let mut cases: Vec<_> = super::cases(set).into_iter().map(|case| case.map(all(Wanted::ALL))).collect();
        let edges = Wanted { nodes: false, edge_vec: true, filter: false };
        for (id, wanted, in_quick) in [("forces", Wanted::INPUTS, true), ("edges_only", edges, false)] {
            if in_quick || set == CaseSet::Full {
                let small = forward_case("small", set);
                cases.extend(small.map(|case| Case { id, ..case.map(all(wanted)) }));
            }
        }
        cases
    }

    fn representative(variant: &Variant) -> Variant {
        FusedMessage::representative(variant)
    }

    fn inputs(spec: &BackwardSpec, variant: &Variant, seed: u64) -> Result<BackwardInputs<f64>, ReferenceError> {
        let inputs = random_inputs(&spec.forward, variant, seed)?;
        Ok(BackwardInputs { grad: random_cotangents(&inputs, seed), inputs, wanted: spec.wanted })
    }

    fn oracle(variant: &Variant, inputs: &BackwardInputs<f64>) -> Result<Oracle<Gradients<f64>>, ReferenceError> {
        backward(variant, inputs)
    }

    fn same_bits(variant: &Variant) -> Option<&'static str> {
        FusedMessage::same_bits(variant)
    }

    tensors_of_spec!(Inputs<f64>, inputs => inputs.inputs);
}

impl ByTensors for FusedMessageDoubleBackward {
    type Spec = DoubleBackwardSpec;
    type Error = ReferenceError;
    const TOLERANCE: Order = Order::Second;

    fn cases(_: &Variant, set: CaseSet) -> Vec<Case<DoubleBackwardSpec>> {
        let all = |weights| move |forward| DoubleBackwardSpec { forward, weights };
        let mut cases: Vec<_> = super::cases(set).into_iter().map(|case| case.map(all(true))).collect();
        let small = forward_case("small", set);
        cases.extend(small.map(|case| Case { id: "forces", ..case.map(all(false)) }));
        cases
    }

    fn representative(variant: &Variant) -> Variant {
        FusedMessage::representative(variant)
    }

    fn inputs(
        spec: &DoubleBackwardSpec,
        variant: &Variant,
        seed: u64,
    ) -> Result<DoubleBackwardInputs<f64>, ReferenceError> {
        let inputs = random_inputs(&spec.forward, variant, seed)?;
        let (grad, tangent) = (random_cotangents(&inputs, seed), random_tangent(&inputs, spec.weights, seed));
        Ok(DoubleBackwardInputs { inputs, grad, tangent })
    }

    fn oracle(
        variant: &Variant,
        inputs: &DoubleBackwardInputs<f64>,
    ) -> Result<Oracle<DoubleGradients<f64>>, ReferenceError> {
        double_backward(variant, inputs)
    }

    /// In the first of a few directions in which no tensor of one element cancels, in the first of all if there is none. In
    /// larger tensors the norm evens out how terms were rounded.
    fn evaluate(
        case: &Case<DoubleBackwardSpec>,
        variant: &Variant,
        dtype: Dtype,
        seed: u64,
    ) -> Result<Evaluated<Self>, ReferenceError> {
        /// Directions that are tried.
        const TRIES: u64 = 8;
        let mut inputs = Self::inputs(&case.spec, variant, seed)?;
        let mut streams = TANGENT..TANGENT + TRIES;
        loop {
            let stream = streams.next();
            inputs.tangent = tangent(&inputs.inputs, case.spec.weights, seed, stream.unwrap_or(TANGENT));
            let inputs = Self::rounded(&inputs, dtype);
            let oracle = double_backward(variant, &inputs)?;
            let (outputs, magnitude) = (oracle.outputs.tensors(), oracle.magnitude.tensors());
            let single = outputs.into_iter().zip(magnitude).filter(|((_, values), _)| values.len() == 1);
            let cancelling = single.into_iter().any(|((_, output), (_, magnitude))| cancels(output, magnitude));
            if stream.is_none() || !cancelling {
                return Ok(Evaluated { inputs, oracle });
            }
        }
    }

    fn same_bits(variant: &Variant) -> Option<&'static str> {
        FusedMessage::same_bits(variant)
    }

    tensors_of_spec!(Inputs<f64>, inputs => inputs.inputs);
}

#[cfg(test)]
mod tests;
