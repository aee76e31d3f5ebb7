//! What the first and the second backward of `fused_message` are judged by: the forward's cases with random cotangents,
//! comparison of every gradient, faults on purpose.

use ff_reference::fused_message::{BackwardOracle, DoubleBackwardOracle, ReferenceError, backward, double_backward};
use ff_spec::fused_message::{
    BackwardInputs, DoubleBackwardInputs, DoubleGradients, Gradients, Inputs, OP, Outputs, Variant, Wanted,
};
use ff_spec::{Dtype, FusedMessage, FusedMessageBackward, FusedMessageDoubleBackward, Problem};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::catalogue::{self, Case, CaseSet, Evaluated};
use crate::gate::{Gated, Verdict, broken_bits, compare_tensors, survivor, tell_tensors};
use crate::generators::CaseSpec;
use crate::tolerance::Order;

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
fn forward_case(id: &'static str, variant: &Variant, set: CaseSet) -> Option<Case> {
    catalogue::cases(OP, variant, set).into_iter().find(|case| case.id == id)
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

/// A random direction in the space of the inputs, over [−1, 1); without one in the weights where `weights` is false.
pub fn random_tangent(inputs: &Inputs<f64>, weights: bool, seed: u64) -> Gradients<f64> {
    tangent(inputs, weights, seed, 2)
}

fn tangent(inputs: &Inputs<f64>, weights: bool, seed: u64, stream: u64) -> Gradients<f64> {
    let mut next = uniform(seed, stream);
    inputs.filled_gradients(Wanted { filter: weights, ..Wanted::ALL }, ()).map(|()| next())
}

/// What the gate of an order does tensor by tensor.
macro_rules! by_tensors {
    ($oracle:ty, $outputs:ty, $order:expr) => {
        fn representative(variant: &Variant) -> Variant {
            FusedMessage::representative(variant)
        }

        fn bytes(Evaluated { inputs, oracle }: &Evaluated<Self>) -> usize {
            let elements: usize = inputs.tensors().iter().map(|(_, _, values)| values.len()).sum();
            let outputs: usize = oracle.outputs.tensors().iter().map(|(_, values)| values.len()).sum();
            (elements + 2 * outputs) * size_of::<f64>() + index_bytes(&inputs.inputs)
        }

        fn problem(name: &str, evaluated: &Evaluated<Self>) -> Problem {
            evaluated.inputs.inputs.problem(name)
        }

        fn discriminates(oracle: &$oracle, dtype: Dtype) -> Result<(), String> {
            tell_tensors(dtype, $order, &oracle.outputs.tensors(), &oracle.magnitude.tensors())
        }

        fn survivor(outputs: &$outputs) -> Option<String> {
            survivor(&outputs.tensors())
        }

        fn compare(outputs: &$outputs, oracle: &$oracle, dtype: Dtype) -> Result<(f64, f64), Verdict> {
            let (reference, magnitude) = (oracle.outputs.tensors(), oracle.magnitude.tensors());
            compare_tensors(dtype, $order, &outputs.tensors(), &reference, &magnitude)
        }

        fn broken_promise(variant: &Variant, first: &$outputs, second: &$outputs) -> Option<String> {
            broken_bits(variant, &first.tensors(), &second.tensors())
        }
    };
}

impl Gated for FusedMessageBackward {
    type Spec = BackwardSpec;
    type Oracle = BackwardOracle;
    type Error = ReferenceError;

    fn cases(variant: &Variant, set: CaseSet) -> Vec<Case<BackwardSpec>> {
        let all = |wanted| move |forward| BackwardSpec { forward, wanted };
        let mut cases: Vec<_> =
            catalogue::cases(OP, variant, set).into_iter().map(|case| case.map(all(Wanted::ALL))).collect();
        let edges = Wanted { nodes: false, edge_vec: true, filter: false };
        for (id, wanted, in_quick) in [("forces", Wanted::INPUTS, true), ("edges_only", edges, false)] {
            if in_quick || set == CaseSet::Full {
                let small = forward_case("small", variant, set);
                cases.extend(small.map(|case| Case { id, ..case.map(all(wanted)) }));
            }
        }
        cases
    }

    fn evaluate(
        case: &Case<BackwardSpec>,
        variant: &Variant,
        dtype: Dtype,
        seed: u64,
    ) -> Result<Evaluated<Self>, ReferenceError> {
        let inputs = case.clone().map(|spec| spec.forward).inputs(variant, dtype, seed)?;
        let grad = random_cotangents(&inputs, seed);
        let inputs = rounded_backward(&BackwardInputs { inputs, grad, wanted: case.spec.wanted }, dtype);
        let oracle = backward(variant, &inputs)?;
        Ok(Evaluated { inputs, oracle })
    }

    by_tensors!(BackwardOracle, Gradients<f64>, Order::First);
}

impl Gated for FusedMessageDoubleBackward {
    type Spec = DoubleBackwardSpec;
    type Oracle = DoubleBackwardOracle;
    type Error = ReferenceError;

    fn cases(variant: &Variant, set: CaseSet) -> Vec<Case<DoubleBackwardSpec>> {
        let all = |weights| move |forward| DoubleBackwardSpec { forward, weights };
        let mut cases: Vec<_> =
            catalogue::cases(OP, variant, set).into_iter().map(|case| case.map(all(true))).collect();
        let small = forward_case("small", variant, set);
        cases.extend(small.map(|case| Case { id: "forces", ..case.map(all(false)) }));
        cases
    }

    fn evaluate(
        case: &Case<DoubleBackwardSpec>,
        variant: &Variant,
        dtype: Dtype,
        seed: u64,
    ) -> Result<Evaluated<Self>, ReferenceError> {
        let inputs = case.clone().map(|spec| spec.forward).inputs(variant, dtype, seed)?;
        /// Directions that are tried.
        const TRIES: u64 = 8;
        let grad = random_cotangents(&inputs, seed);
        let mut streams = 2..2 + TRIES;
        loop {
            let stream = streams.next();
            let tangent = tangent(&inputs, case.spec.weights, seed, stream.unwrap_or(2));
            let all = DoubleBackwardInputs { inputs: inputs.clone(), grad: grad.clone(), tangent };
            let inputs = rounded_double_backward(&all, dtype);
            let oracle = double_backward(variant, &inputs)?;
            if stream.is_none() || !cancels(&oracle) {
                return Ok(Evaluated { inputs, oracle });
            }
        }
    }

    by_tensors!(DoubleBackwardOracle, DoubleGradients<f64>, Order::Second);
}

/// Whether the terms of a tensor of one element cancel to a hundredth of their size: its error would tell how the terms
/// were rounded and little else. In larger tensors the norm evens this out.
fn cancels(DoubleBackwardOracle { outputs, magnitude }: &DoubleBackwardOracle) -> bool {
    outputs.tensors().into_iter().zip(magnitude.tensors()).any(|((_, outputs), (_, magnitude))| {
        matches!((outputs, magnitude), ([output], [magnitude]) if output.abs() < 1e-2 * magnitude)
    })
}

fn index_bytes(inputs: &Inputs<f64>) -> usize {
    (inputs.sender.len() + inputs.row_ptr.len()) * size_of::<u32>()
}

/// As [`rounded`](crate::generators::rounded).
pub fn rounded_backward(inputs: &BackwardInputs<f64>, dtype: Dtype) -> BackwardInputs<f64> {
    match dtype {
        Dtype::F32 => inputs.cast::<f32>().cast(),
        Dtype::F64 => inputs.clone(),
    }
}

/// As [`rounded`](crate::generators::rounded).
pub fn rounded_double_backward(inputs: &DoubleBackwardInputs<f64>, dtype: Dtype) -> DoubleBackwardInputs<f64> {
    match dtype {
        Dtype::F32 => inputs.cast::<f32>().cast(),
        Dtype::F64 => inputs.clone(),
    }
}

#[cfg(test)]
mod tests;
