//! What the three orders of `force_scatter` are judged by: cases, comparison of every tensor, faults on purpose.

use ff_reference::force_scatter::{Oracle, ReferenceError, backward, double_backward, forward};
use ff_spec::force_scatter::{
    BackwardInputs, DoubleBackwardInputs, DoubleGradients, Gradients, Inputs, Outputs, Reduction, Variant,
};
use ff_spec::{Dtype, ForceScatter, ForceScatterBackward, ForceScatterDoubleBackward, Op, Problem};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::catalogue::{Case, CaseSet, Evaluated};
use crate::gate::{Gated, Verdict, compare_tensors, differing_bits, survivor, tell_tensors};
use crate::generators::Degrees;
use crate::tolerance::Order;

pub mod mutants;
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

/// One order of the op, as cases and faults see it.
pub trait Scatter: Op<Variant = Variant> {
    /// What outputs are compared by.
    const TOLERANCE: Order;

    /// The inputs of a case.
    fn random(spec: &ScatterSpec, seed: u64) -> Self::Inputs;
    /// The inputs as a kernel of `dtype` sees them, widened again.
    fn rounded(inputs: &Self::Inputs, dtype: Dtype) -> Self::Inputs;
    /// The forward's inputs among them.
    fn forward(inputs: &Self::Inputs) -> &Inputs<f64>;
    /// The forward's inputs among them.
    fn forward_mut(inputs: &mut Self::Inputs) -> &mut Inputs<f64>;
    /// Every floating-point tensor of the inputs.
    fn input_tensors(inputs: &Self::Inputs) -> Vec<(&'static str, &[f64])>;
    /// The oracle's results.
    ///
    /// # Errors
    /// [`ReferenceError`].
    fn oracle(inputs: &Self::Inputs) -> Result<Oracle<Self::Outputs>, ReferenceError>;
    /// Every tensor of the outputs.
    fn tensors(outputs: &Self::Outputs) -> Vec<(&'static str, &[f64])>;
    /// Every element of the outputs changed.
    fn map(outputs: &Self::Outputs, change: &mut dyn FnMut(f64) -> f64) -> Self::Outputs;
    /// Outputs of the right size, all NaN.
    fn poisoned(inputs: &Self::Inputs) -> Self::Outputs;
}

macro_rules! gated {
    ($op:ident, $inputs:ident, $outputs:ident, $tolerance:expr, $oracle:ident, $random:expr, $list:ident in $pattern:pat) => {
        impl Scatter for $op {
            const TOLERANCE: Order = $tolerance;

            fn random(spec: &ScatterSpec, seed: u64) -> $inputs<f64> {
                let make: fn(Inputs<f64>, u64) -> $inputs<f64> = $random;
                make(random_inputs(spec, seed), seed)
            }
            fn rounded(inputs: &$inputs<f64>, dtype: Dtype) -> $inputs<f64> {
                match dtype {
                    Dtype::F32 => inputs.cast::<f32>().cast(),
                    Dtype::F64 => inputs.clone(),
                }
            }
            fn forward(inputs: &$inputs<f64>) -> &Inputs<f64> {
                let $pattern = inputs;
                $list
            }
            fn forward_mut(inputs: &mut $inputs<f64>) -> &mut Inputs<f64> {
                let $pattern = inputs;
                $list
            }
            fn input_tensors(inputs: &$inputs<f64>) -> Vec<(&'static str, &[f64])> {
                inputs.tensors()
            }
            fn oracle(inputs: &$inputs<f64>) -> Result<Oracle<$outputs<f64>>, ReferenceError> {
                $oracle(inputs)
            }
            fn tensors(outputs: &$outputs<f64>) -> Vec<(&'static str, &[f64])> {
                outputs.tensors()
            }
            fn map(outputs: &$outputs<f64>, change: &mut dyn FnMut(f64) -> f64) -> $outputs<f64> {
                outputs.map(|x| change(*x))
            }
            fn poisoned(inputs: &$inputs<f64>) -> $outputs<f64> {
                inputs.poisoned_outputs()
            }
        }

        impl Gated for $op {
            type Spec = ScatterSpec;
            type Oracle = Oracle<$outputs<f64>>;
            type Error = ReferenceError;

            fn cases(_: &Variant, set: CaseSet) -> Vec<Case<ScatterSpec>> {
                cases(set)
            }

            fn representative(_: &Variant) -> Variant {
                Variant { reduction: Reduction::Gather }
            }

            fn evaluate(
                case: &Case<ScatterSpec>,
                _: &Variant,
                dtype: Dtype,
                seed: u64,
            ) -> Result<Evaluated<Self>, ReferenceError> {
                let inputs = Self::rounded(&Self::random(&case.spec, seed), dtype);
                let oracle = Self::oracle(&inputs)?;
                Ok(Evaluated { inputs, oracle })
            }

            fn bytes(Evaluated { inputs, oracle }: &Evaluated<Self>) -> usize {
                let list = Self::forward(inputs);
                let floats = [inputs.tensors(), oracle.outputs.tensors(), oracle.magnitude.tensors()].concat();
                let indices = list.sender.len() + list.row_ptr.len() + list.system_ptr.len();
                floats.iter().map(|(_, values)| size_of_val(*values)).sum::<usize>() + indices * size_of::<u32>()
            }

            fn problem(name: &str, evaluated: &Evaluated<Self>) -> Problem {
                Self::forward(&evaluated.inputs).problem(name)
            }

            fn discriminates(oracle: &Self::Oracle, dtype: Dtype) -> Result<(), String> {
                tell_tensors(dtype, $tolerance, &oracle.outputs.tensors(), &oracle.magnitude.tensors())
            }

            fn survivor(outputs: &$outputs<f64>) -> Option<String> {
                survivor(&outputs.tensors())
            }

            fn compare(outputs: &$outputs<f64>, oracle: &Self::Oracle, dtype: Dtype) -> Result<(f64, f64), Verdict> {
                let (reference, magnitude) = (oracle.outputs.tensors(), oracle.magnitude.tensors());
                compare_tensors(dtype, $tolerance, &outputs.tensors(), &reference, &magnitude)
            }

            fn broken_promise(variant: &Variant, first: &$outputs<f64>, second: &$outputs<f64>) -> Option<String> {
                match variant.reduction {
                    Reduction::Gather => differing_bits("gather", &first.tensors(), &second.tensors()),
                    Reduction::Atomic => None,
                }
            }
        }
    };
}

gated!(ForceScatter, Inputs, Outputs, Order::Forward, forward, |inputs, _| inputs, list in list);
gated!(
    ForceScatterBackward,
    BackwardInputs,
    Gradients,
    Order::First,
    backward,
    |inputs, seed| BackwardInputs { grad: random_cotangents(&inputs, seed), inputs },
    list in BackwardInputs { inputs: list, .. }
);
gated!(
    ForceScatterDoubleBackward,
    DoubleBackwardInputs,
    DoubleGradients,
    Order::Second,
    double_backward,
    |inputs, seed| {
        let (grad, tangent) = (random_cotangents(&inputs, seed), random_tangent(&inputs, seed));
        DoubleBackwardInputs { inputs, grad, tangent }
    },
    list in DoubleBackwardInputs { inputs: list, .. }
);
