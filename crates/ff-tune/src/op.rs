//! What the tuner has to know of an op beside its gate.

use ff_spec::{Dtype, Problem};
use ff_testkit::gate::Gated;
use ff_testkit::tensors::ByTensors;

use crate::space::Part;

pub use ff_testkit::sampling::Rows;

/// An op that can be tuned.
pub trait Tuned: Gated {
    /// What the outputs of two configurations are compared by where the oracle knows only some rows.
    type Trace;

    /// What of a variant its space is found by.
    fn part(variant: &Self::Variant) -> Part;

    /// The sizes that tables are keyed by, as whoever asks them knows them before a call.
    fn sizes(name: &str, inputs: &Self::Inputs) -> Problem;

    /// Bytes of the tensors of one launch.
    fn launch_bytes(inputs: &Self::Inputs, dtype: Dtype) -> u64;

    /// The oracle for a problem: of all rows where that takes no more than about `work` multiplications, else of rows
    /// spread over the whole range, the last and, where it is known, the longest among them.
    ///
    /// # Errors
    /// Why there can be none.
    fn reference(
        variant: &Self::Variant,
        inputs: &Self::Inputs,
        dtype: Dtype,
        work: usize,
    ) -> Result<(Self::Oracle, Option<Rows>), String>;

    /// What the oracle of some rows is compared with, and the trace of all of them. A number that is not finite shows in
    /// the former, whatever row it is in.
    fn sampled(outputs: Self::Outputs, rows: &Rows) -> (Self::Outputs, Self::Trace);

    /// Compares what two configurations computed.
    ///
    /// # Errors
    /// How they differ by more than `dtype` allows.
    fn alike(found: &Self::Trace, expected: &Self::Trace, dtype: Dtype) -> Result<(), String>;
}

/// [`Tuned`] of orders whose oracle knows every output of any problem, so that nothing is sampled, and whose spaces are found by
/// reduction. `$inputs => $forward` says where among the inputs those of the forward are.
macro_rules! known_whole {
    ($space:expr; $($op:ident: $inputs:ident => $forward:expr;)*) => {$(
        impl $crate::op::Tuned for $op {
            type Trace = ();

            fn part(variant: &Self::Variant) -> $crate::space::Part {
                $space.part(variant.reduction.name())
            }

            fn sizes(name: &str, $inputs: &Self::Inputs) -> ff_spec::Problem {
                $forward.problem(name)
            }

            fn launch_bytes($inputs: &Self::Inputs, dtype: ff_spec::Dtype) -> u64 {
                let indices = ($forward.row_ptr.len() + 3 * $forward.sender.len()) * size_of::<u32>();
                $crate::op::tensor_bytes::<Self>($inputs, dtype) + indices as u64
            }

            fn reference(
                variant: &Self::Variant,
                inputs: &Self::Inputs,
                dtype: ff_spec::Dtype,
                _: usize,
            ) -> Result<(Self::Oracle, Option<$crate::op::Rows>), String> {
                let oracle = <Self as ff_testkit::tensors::ByTensors>::oracle(
                    variant,
                    &<Self as ff_testkit::tensors::ByTensors>::rounded(inputs, dtype),
                );
                Ok((oracle.map_err(|e| e.to_string())?, None))
            }

            fn sampled(outputs: Self::Outputs, _: &$crate::op::Rows) -> (Self::Outputs, ()) {
                (outputs, ())
            }

            fn alike((): &(), (): &(), _: ff_spec::Dtype) -> Result<(), String> {
                Ok(())
            }
        }
    )*};
}

pub(crate) use known_whole;

/// Bytes of floating-point inputs and outputs, and of the list by sender.
pub(crate) fn tensor_bytes<O: ByTensors>(inputs: &O::Inputs, dtype: Dtype) -> u64 {
    let outputs = O::poisoned(inputs);
    let written = O::tensors(&outputs).into_iter().map(|(_, values)| values.len());
    let elements: usize = O::input_tensors(inputs).into_iter().map(<[f64]>::len).chain(written).sum();
    (elements * dtype.size()) as u64
}
