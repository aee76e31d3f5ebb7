//! The inputs of the three derivative orders, alike to whoever launches them.

use super::{BackwardInputs, DoubleBackwardInputs, DoubleGradients, Gradients, InputError, Inputs, Outputs, Variant};
use crate::{ForceScatter, ForceScatterBackward, ForceScatterDoubleBackward, Op, Scalar};

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
    /// Every floating-point tensor.
    fn tensors(&self) -> Vec<(&'static str, &[T])>;
    /// Outputs of the right size, all NaN.
    fn poisoned(&self) -> Self::Outputs;
    /// Outputs widened to f64.
    fn widened(outputs: &Self::Outputs) -> <Self::Op as Op>::Outputs;
    /// Outputs from their tensors, in order.
    fn collected(tensors: Vec<Vec<f64>>) -> <Self::Op as Op>::Outputs;
}

impl<T: Scalar> OrderInputs<T> for Inputs<T> {
    type Op = ForceScatter;
    type Outputs = Outputs<T>;

    fn check(&self) -> Result<(), InputError> {
        self.check()
    }
    fn forward(&self) -> &Inputs<T> {
        self
    }
    fn tensors(&self) -> Vec<(&'static str, &[T])> {
        self.tensors()
    }
    fn poisoned(&self) -> Outputs<T> {
        self.poisoned_outputs()
    }
    fn widened(outputs: &Outputs<T>) -> Outputs<f64> {
        outputs.cast()
    }
    fn collected(tensors: Vec<Vec<f64>>) -> Outputs<f64> {
        outputs(&mut tensors.into_iter())
    }
}

impl<T: Scalar> OrderInputs<T> for BackwardInputs<T> {
    type Op = ForceScatterBackward;
    type Outputs = Gradients<T>;

    fn check(&self) -> Result<(), InputError> {
        self.check()
    }
    fn forward(&self) -> &Inputs<T> {
        &self.inputs
    }
    fn tensors(&self) -> Vec<(&'static str, &[T])> {
        self.tensors()
    }
    fn poisoned(&self) -> Gradients<T> {
        self.poisoned_outputs()
    }
    fn widened(outputs: &Gradients<T>) -> Gradients<f64> {
        outputs.cast()
    }
    fn collected(tensors: Vec<Vec<f64>>) -> Gradients<f64> {
        gradients(&mut tensors.into_iter())
    }
}

impl<T: Scalar> OrderInputs<T> for DoubleBackwardInputs<T> {
    type Op = ForceScatterDoubleBackward;
    type Outputs = DoubleGradients<T>;

    fn check(&self) -> Result<(), InputError> {
        self.check()
    }
    fn forward(&self) -> &Inputs<T> {
        &self.inputs
    }
    fn tensors(&self) -> Vec<(&'static str, &[T])> {
        self.tensors()
    }
    fn poisoned(&self) -> DoubleGradients<T> {
        self.poisoned_outputs()
    }
    fn widened(outputs: &DoubleGradients<T>) -> DoubleGradients<f64> {
        outputs.cast()
    }
    fn collected(tensors: Vec<Vec<f64>>) -> DoubleGradients<f64> {
        let mut tensors = tensors.into_iter();
        DoubleGradients { grad: outputs(&mut tensors), gradients: gradients(&mut tensors) }
    }
}

fn outputs(tensors: &mut impl Iterator<Item = Vec<f64>>) -> Outputs<f64> {
    let mut next = || tensors.next().unwrap_or_default();
    Outputs { forces: next(), strain: next() }
}

fn gradients(tensors: &mut impl Iterator<Item = Vec<f64>>) -> Gradients<f64> {
    let mut next = || tensors.next().unwrap_or_default();
    Gradients { edge_vec: next(), edge_grad: next() }
}
