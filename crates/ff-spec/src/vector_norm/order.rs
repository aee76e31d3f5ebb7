//! The inputs of the three derivative orders, alike to whoever launches them.

use super::{BackwardInputs, DoubleBackwardInputs, DoubleGradients, Gradients, InputError, Inputs, Outputs, Variant};
use crate::{Op, Scalar, VectorNorm, VectorNormBackward, VectorNormDoubleBackward};

/// The inputs of one order, as a launch sees them.
pub trait OrderInputs<T>: Sized {
    /// The order.
    type Op: Op<Variant = Variant>;
    /// What it computes.
    type Outputs;

    /// Checks as the method of that name of the inputs.
    ///
    /// # Errors
    /// As that method.
    fn check(&self) -> Result<(), InputError>;
    /// The forward's inputs among them.
    fn forward(&self) -> &Inputs<T>;
    /// Every tensor: `vectors`, `grad` and `tangent`, as many of them as the order reads.
    fn tensors(&self) -> Vec<(&'static str, &[T])>;
    /// Outputs of the right size, all NaN.
    fn poisoned(&self) -> Self::Outputs;
    /// Outputs widened to f64.
    fn widened(outputs: &Self::Outputs) -> <Self::Op as Op>::Outputs;
    /// Outputs from their tensors, in order.
    fn collected(tensors: Vec<Vec<f64>>) -> <Self::Op as Op>::Outputs;
}

/// [`OrderInputs`] from the inherent methods of that name. `$inputs => $forward` says where the forward's inputs are.
macro_rules! order_inputs {
    ($($op:ident: $of:ident -> $outputs:ident { $($field:ident),+ }, $inputs:ident => $forward:expr;)*) => {$(
        impl<T: Scalar> OrderInputs<T> for $of<T> {
            type Op = $op;
            type Outputs = $outputs<T>;

            fn check(&self) -> Result<(), InputError> {
                self.check()
            }
            fn forward(&self) -> &Inputs<T> {
                let $inputs = self;
                &$forward
            }
            fn tensors(&self) -> Vec<(&'static str, &[T])> {
                self.tensors()
            }
            fn poisoned(&self) -> $outputs<T> {
                self.poisoned_outputs()
            }
            fn widened(outputs: &$outputs<T>) -> $outputs<f64> {
                outputs.cast()
            }
            fn collected(tensors: Vec<Vec<f64>>) -> $outputs<f64> {
                let mut tensors = tensors.into_iter();
                $outputs { $($field: tensors.next().unwrap_or_default()),+ }
            }
        }
    )*};
}

order_inputs! {
    VectorNorm: Inputs -> Outputs { norm }, inputs => *inputs;
    VectorNormBackward: BackwardInputs -> Gradients { vectors }, inputs => inputs.inputs;
    VectorNormDoubleBackward: DoubleBackwardInputs -> DoubleGradients { grad, vectors }, inputs => inputs.inputs;
}
