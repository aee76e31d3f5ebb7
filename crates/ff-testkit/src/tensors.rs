//! The gate of an op whose outputs are tensors of floating-point numbers, each element of which the oracle knows.

use std::fmt;

use ff_reference::Oracle;
use ff_spec::{Dtype, Op, Problem};

use crate::case::{Case, CaseSet};
use crate::gated::{Evaluated, Failure, Gated};
use crate::tolerance::{Order, compare, compare_rounded, norm};

/// Tensors by name.
pub type Tensors<'a> = Vec<(&'static str, &'a [f64])>;

/// An op that is compared with its oracle tensor by tensor. [`Gated`] follows.
pub trait ByTensors: Op + Sized {
    /// As [`Gated::Spec`].
    type Spec: Clone + fmt::Debug + PartialEq;
    /// As [`Gated::Error`].
    type Error: std::error::Error;
    /// The forward's inputs.
    type Forward: Forward;
    /// What outputs are compared by.
    const TOLERANCE: Order;

    /// As [`Gated::cases`].
    fn cases(variant: &Self::Variant, set: CaseSet) -> Vec<Case<Self::Spec>>;

    /// As [`Gated::representative`].
    fn representative(variant: &Self::Variant) -> Self::Variant;

    /// The inputs of a case in f64.
    ///
    /// # Errors
    /// As [`Gated::evaluate`].
    fn inputs(spec: &Self::Spec, variant: &Self::Variant, seed: u64) -> Result<Self::Inputs, Self::Error>;

    /// What the oracle says of inputs.
    ///
    /// # Errors
    /// For inputs that it cannot compute on.
    fn oracle(variant: &Self::Variant, inputs: &Self::Inputs) -> Result<Oracle<Self::Outputs>, Self::Error>;

    /// As [`Gated::evaluate`].
    ///
    /// # Errors
    /// As [`Gated::evaluate`].
    fn evaluate(
        case: &Case<Self::Spec>,
        variant: &Self::Variant,
        dtype: Dtype,
        seed: u64,
    ) -> Result<Evaluated<Self>, Self::Error> {
        let inputs = Self::rounded(&Self::inputs(&case.spec, variant, seed)?, dtype);
        let oracle = Self::oracle(variant, &inputs)?;
        Ok(Evaluated { inputs, oracle })
    }

    /// The variant's reduction, if it promises the same bits on every run.
    fn same_bits(variant: &Self::Variant) -> Option<&'static str>;

    /// The forward's inputs among all.
    fn forward(inputs: &Self::Inputs) -> &Self::Forward;

    /// As [`ByTensors::forward`].
    fn forward_mut(inputs: &mut Self::Inputs) -> &mut Self::Forward;

    /// The inputs as a kernel of `dtype` sees them: rounded to nearest and widened again. The oracle gets the same.
    fn rounded(inputs: &Self::Inputs, dtype: Dtype) -> Self::Inputs;

    /// Every floating-point tensor of the inputs.
    fn input_tensors(inputs: &Self::Inputs) -> Vec<&[f64]>;

    /// Every tensor of the outputs.
    fn tensors(outputs: &Self::Outputs) -> Tensors<'_>;

    /// The outputs with every element changed.
    fn map(outputs: &Self::Outputs, change: &mut dyn FnMut(f64) -> f64) -> Self::Outputs;

    /// Outputs of the right size, all NaN.
    fn poisoned(inputs: &Self::Inputs) -> Self::Outputs;
}

/// The inputs of a forward, which those of its derivatives contain.
pub trait Forward {
    /// The sizes that configurations are chosen by.
    fn problem(&self, name: &str) -> Problem;

    /// Every tensor of indices.
    fn indices(&self) -> Vec<&[u32]>;

    /// The vectors of the edges, Å; the first tensor of an op without edges.
    fn edge_vec_mut(&mut self) -> &mut Vec<f64>;
}

/// [`Forward`] from inherent methods and fields.
macro_rules! forward {
    ($inputs:ty: $($index:ident),+) => {
        impl $crate::tensors::Forward for $inputs {
            fn problem(&self, name: &str) -> ff_spec::Problem {
                self.problem(name)
            }

            fn indices(&self) -> Vec<&[u32]> {
                vec![$(&self.$index),+]
            }

            fn edge_vec_mut(&mut self) -> &mut Vec<f64> {
                &mut self.edge_vec
            }
        }
    };
}

pub(crate) use forward;

/// What of [`ByTensors`] has a method of the same meaning in ff-spec. `$list` is where the forward's inputs are.
macro_rules! tensors_of_spec {
    ($forward:ty, $inputs:ident => $list:expr) => {
        type Forward = $forward;

        fn forward($inputs: &Self::Inputs) -> &$forward {
            &$list
        }

        fn forward_mut($inputs: &mut Self::Inputs) -> &mut $forward {
            &mut $list
        }

        fn rounded(inputs: &Self::Inputs, dtype: ff_spec::Dtype) -> Self::Inputs {
            match dtype {
                ff_spec::Dtype::F32 => inputs.cast::<f32>().cast(),
                ff_spec::Dtype::F64 => inputs.clone(),
            }
        }

        fn input_tensors(inputs: &Self::Inputs) -> Vec<&[f64]> {
            inputs.tensors().into_iter().map(|(.., values)| values).collect()
        }

        fn tensors(outputs: &Self::Outputs) -> $crate::tensors::Tensors<'_> {
            outputs.tensors()
        }

        fn map(outputs: &Self::Outputs, change: &mut dyn FnMut(f64) -> f64) -> Self::Outputs {
            outputs.map(|x| change(*x))
        }

        fn poisoned(inputs: &Self::Inputs) -> Self::Outputs {
            inputs.poisoned_outputs()
        }
    };
}

pub(crate) use tensors_of_spec;

/// Whether nothing was summed into any output, so that zero is the right answer.
pub fn is_degenerate<O: ByTensors>(oracle: &Oracle<O::Outputs>) -> bool {
    O::tensors(&oracle.magnitude).into_iter().all(|(_, magnitude)| magnitude.iter().all(|m| *m == 0.0))
}

/// Compares outputs with the oracle where nobody chose the inputs: each element is as near as the gate asks, and the norm but
/// for what rounding alone makes of sums that cancel as a whole.
///
/// Among random inputs are those of one feature on an edge of 10⁻⁶ Å, where all that counts is one W near zero.
///
/// # Errors
/// [`Failure::Wrong`] with the reason.
pub fn compare_near<O: ByTensors>(
    outputs: &O::Outputs,
    oracle: &Oracle<O::Outputs>,
    dtype: Dtype,
) -> Result<(f64, f64), Failure> {
    // Roundings of a sum that no implementation can avoid.
    let epsilon = 8.0 * if dtype == Dtype::F32 { f64::from(f32::EPSILON) } else { f64::EPSILON };
    compare_tensors::<O>(outputs, oracle, dtype, &|magnitude| epsilon * norm(magnitude.iter().copied()))
}

/// Compares tensor by tensor, with the norm of the rounding errors that the magnitudes of a tensor excuse.
fn compare_tensors<O: ByTensors>(
    outputs: &O::Outputs,
    oracle: &Oracle<O::Outputs>,
    dtype: Dtype,
    rounding: &dyn Fn(&[f64]) -> f64,
) -> Result<(f64, f64), Failure> {
    let (out, reference) = (O::tensors(outputs), O::tensors(&oracle.outputs));
    let names = |tensors: &Tensors| tensors.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
    if names(&out) != names(&reference) {
        return Err(Failure::wrong(format!("outputs are [{}], expected [{}]", names(&out), names(&reference))));
    }
    let (mut rel_error, mut max_abs_error): (f64, f64) = (0.0, 0.0);
    let magnitude = O::tensors(&oracle.magnitude);
    for (((tensor, out), (_, reference)), (_, magnitude)) in out.into_iter().zip(reference).zip(magnitude) {
        let found = compare_rounded(dtype, O::TOLERANCE, out, reference, magnitude, rounding(magnitude));
        if let Some(reason) = found.reason {
            let errors = Some((found.rel_error, found.max_abs_error));
            return Err(Failure::Wrong { reason: format!("`{tensor}`: {reason}"), errors });
        }
        rel_error = rel_error.max(found.rel_error);
        max_abs_error = max_abs_error.max(found.max_abs_error);
    }
    Ok((rel_error, max_abs_error))
}

impl<O: ByTensors> Gated for O {
    type Spec = <O as ByTensors>::Spec;
    type Oracle = Oracle<O::Outputs>;
    type Error = <O as ByTensors>::Error;

    fn cases(variant: &O::Variant, set: CaseSet) -> Vec<Case<<O as ByTensors>::Spec>> {
        <O as ByTensors>::cases(variant, set)
    }

    fn representative(variant: &O::Variant) -> O::Variant {
        <O as ByTensors>::representative(variant)
    }

    fn evaluate(
        case: &Case<<O as ByTensors>::Spec>,
        variant: &O::Variant,
        dtype: Dtype,
        seed: u64,
    ) -> Result<Evaluated<O>, <O as ByTensors>::Error> {
        <O as ByTensors>::evaluate(case, variant, dtype, seed)
    }

    fn bytes(Evaluated { inputs, oracle }: &Evaluated<O>) -> usize {
        let mut floats = O::input_tensors(inputs);
        for outputs in [&oracle.outputs, &oracle.magnitude] {
            floats.extend(O::tensors(outputs).into_iter().map(|(_, values)| values));
        }
        let indices = O::forward(inputs).indices();
        floats.into_iter().map(size_of_val).chain(indices.into_iter().map(size_of_val)).sum()
    }

    fn problem(name: &str, evaluated: &Evaluated<O>) -> Problem {
        O::forward(&evaluated.inputs).problem(name)
    }

    /// Zeros and constants must fail in every tensor. Exempt are tensors into which nothing was summed, where zero is
    /// right, and gradients of a single element from constants that are made of the right answer itself.
    fn discriminates(oracle: &Oracle<O::Outputs>, dtype: Dtype) -> Result<(), String> {
        let (outputs, magnitude) = (O::tensors(&oracle.outputs), O::tensors(&oracle.magnitude));
        for ((tensor, reference), (_, magnitude)) in outputs.into_iter().zip(magnitude) {
            if magnitude.iter().all(|m| *m == 0.0) {
                continue;
            }
            let mut constants = vec![0.0, 1.0];
            if reference.len() > 1 || O::TOLERANCE == Order::Forward {
                constants.extend([reference.iter().sum::<f64>() / reference.len() as f64, reference[0]]);
            }
            for constant in constants {
                if compare(dtype, O::TOLERANCE, &vec![constant; reference.len()], reference, magnitude).passed {
                    return Err(format!("`{tensor}` full of {constant:e} would pass: this case proves nothing"));
                }
            }
        }
        Ok(())
    }

    /// An element that is not NaN.
    fn survivor(outputs: &O::Outputs) -> Option<String> {
        let mut values = O::tensors(outputs).into_iter().flat_map(|(_, values)| values);
        values.find(|x| !x.is_nan()).map(|x| format!("outputs are not all NaN but also {x:e}"))
    }

    fn compare(outputs: &O::Outputs, oracle: &Oracle<O::Outputs>, dtype: Dtype) -> Result<(f64, f64), Failure> {
        compare_tensors::<O>(outputs, oracle, dtype, &|_| 0.0)
    }

    fn broken_promise(variant: &O::Variant, first: &O::Outputs, second: &O::Outputs) -> Option<String> {
        let reduction = O::same_bits(variant)?;
        O::tensors(first).into_iter().zip(O::tensors(second)).find_map(|((tensor, first), (_, second))| {
            let index = (0..first.len()).find(|&i| first[i].to_bits() != second[i].to_bits())?;
            Some(format!(
                "reduction `{reduction}` promises the same bits on every run, but `{tensor}`[{index}] is {:e} in the \
                 first run and {:e} in the second",
                first[index], second[index]
            ))
        })
    }
}
