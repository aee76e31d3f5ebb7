//! `vector_norm`, whose oracle spends little on a channel and knows every output of every order.

use ff_spec::vector_norm::{OP, Variant};
use ff_spec::{Dtype, Problem, VectorNorm, VectorNormBackward, VectorNormDoubleBackward};
use ff_testkit::tensors::ByTensors;

use super::BuiltIn;
use crate::op::{Rows, Tuned, tensor_bytes};
use crate::space::Part;

/// Its space is that of its one strategy.
pub(super) const SPACES: BuiltIn = BuiltIn {
    op: OP,
    key: "strategy",
    names: &["channelwise"],
    file: include_str!("../../../../autotune/spaces/vector_norm.toml"),
    name: |id| id.parse::<Variant>().ok().map(|variant| variant.strategy.name()),
};

/// [`Tuned`] of orders that nothing is sampled of.
macro_rules! tuned {
    ($($op:ident),*) => {$(
        impl Tuned for $op {
            type Trace = ();

            fn part(variant: &Variant) -> Part {
                SPACES.part(variant.strategy.name())
            }

            fn sizes(name: &str, inputs: &Self::Inputs) -> Problem {
                Self::forward(inputs).problem(name)
            }

            fn launch_bytes(inputs: &Self::Inputs, dtype: Dtype) -> u64 {
                tensor_bytes::<Self>(inputs, dtype)
            }

            fn reference(
                variant: &Variant,
                inputs: &Self::Inputs,
                dtype: Dtype,
                _: usize,
            ) -> Result<(Self::Oracle, Option<Rows>), String> {
                let oracle = <Self as ByTensors>::oracle(variant, &Self::rounded(inputs, dtype));
                Ok((oracle.map_err(|e| e.to_string())?, None))
            }

            fn sampled(outputs: Self::Outputs, _: &Rows) -> (Self::Outputs, ()) {
                (outputs, ())
            }

            fn alike((): &(), (): &(), _: Dtype) -> Result<(), String> {
                Ok(())
            }
        }
    )*};
}
tuned!(VectorNorm, VectorNormBackward, VectorNormDoubleBackward);
