//! The first and the second backward.

use ff_spec::fused_message::{
    BackwardInputs, DoubleBackwardInputs, DoubleGradients, Gradients, Outputs, Variant, Wanted,
};

use super::{Dual, Number, ReferenceError, Tracked, call, check_finite};

/// What the first backward computes, and the scale that rounding errors of it are judged by.
#[derive(Clone, Debug, PartialEq)]
pub struct BackwardOracle {
    /// The exact result, to f64 rounding.
    pub outputs: Gradients<f64>,
    /// As [`Oracle::magnitude`](super::Oracle::magnitude).
    pub magnitude: Gradients<f64>,
}

/// What the second backward computes, and the scale that rounding errors of it are judged by.
#[derive(Clone, Debug, PartialEq)]
pub struct DoubleBackwardOracle {
    /// The exact result, to f64 rounding.
    pub outputs: DoubleGradients<f64>,
    /// As [`Oracle::magnitude`](super::Oracle::magnitude).
    pub magnitude: DoubleGradients<f64>,
}

/// The gradients of L = ⟨g, forward⟩ that are wanted, for cotangents g.
///
/// Edges with d ≥ r_c contribute exactly nothing; at d = 0, where L has no derivative in the edge vector, its gradient
/// is zero by definition.
///
/// # Errors
/// [`ReferenceError`] for inputs that are not the variant's.
pub fn backward(variant: &Variant, inputs: &BackwardInputs<f64>) -> Result<BackwardOracle, ReferenceError> {
    let tracked = backward_over::<Tracked>(variant, inputs)?;
    let (outputs, magnitude) = (tracked.map(|x| x.value), tracked.map(|x| x.magnitude));
    check_finite(outputs.tensors())?;
    Ok(BackwardOracle { outputs, magnitude })
}

/// The gradients of Q = ⟨t, gradients of L⟩ in g and in every input, for cotangents g and t: what Q is at edges is as in
/// [`backward`], and so are its own gradients there.
///
/// Q is the derivative of L in direction t, so these are the derivatives of the outputs and of the gradients of L in
/// that direction.
///
/// # Errors
/// [`ReferenceError`] for inputs that are not the variant's.
pub fn double_backward(
    variant: &Variant,
    inputs: &DoubleBackwardInputs<f64>,
) -> Result<DoubleBackwardOracle, ReferenceError> {
    let tracked = double_backward_over::<Tracked>(variant, inputs)?;
    let (outputs, magnitude) = (tracked.map(|x| x.value), tracked.map(|x| x.magnitude));
    check_finite(outputs.tensors())?;
    Ok(DoubleBackwardOracle { outputs, magnitude })
}

/// As [`backward`], over any number type: over `f32` it shows what rounding alone does. Its results may not be finite.
///
/// # Errors
/// As [`backward`].
pub fn backward_over<N: Number>(
    variant: &Variant,
    inputs: &BackwardInputs<f64>,
) -> Result<Gradients<N>, ReferenceError> {
    inputs.check()?;
    let call = call::<N>(variant, &inputs.inputs)?;
    Ok(call.backward(&inputs.grad.map(|g| N::constant(*g)), inputs.wanted))
}

/// As [`double_backward`], over any number type: over `f32` it shows what rounding alone does. Its results may not be
/// finite.
///
/// # Errors
/// As [`double_backward`].
pub fn double_backward_over<N: Number>(
    variant: &Variant,
    inputs: &DoubleBackwardInputs<f64>,
) -> Result<DoubleGradients<N>, ReferenceError> {
    inputs.check()?;
    let mut call = call::<Dual<N>>(variant, &inputs.inputs)?;
    call.vary(&inputs.tangent, |x, by| x.tangent = N::constant(by));
    let grad: Outputs<Dual<N>> = inputs.grad.map(|g| Dual::constant(*g));
    Ok(DoubleGradients {
        grad: call.forward().map(|x| x.tangent),
        gradients: call.backward(&grad, Wanted::ALL).map(|x| x.tangent),
    })
}
