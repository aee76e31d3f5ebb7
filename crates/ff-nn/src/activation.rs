//! Activations by operations that Burn differentiates twice.

use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use ff_kernels::host::layers::Activation;

/// σ(x).
pub(crate) fn activate<B: Backend>(activation: Activation, x: Tensor<B, 2>) -> Tensor<B, 2> {
    match activation {
        // x·σ(x) by tanh, which does not overflow.
        Activation::Silu => x.clone() * x.mul_scalar(0.5).tanh().mul_scalar(0.5).add_scalar(0.5),
        Activation::ShiftedSoftplus => shifted_softplus(x),
        Activation::Tanh => x.tanh(),
    }
}

/// ln(½eˣ + ½) as ½(x + |x|) + ln(1 + e^−|x|) − ln 2, which does not overflow. |x| is x times a sign that is a constant, with
/// +1 at 0: so both derivatives are right there too, where those of |x| itself would be taken for 0.
fn shifted_softplus<B: Backend>(x: Tensor<B, 2>) -> Tensor<B, 2> {
    let sign = x.ones_like().mask_fill(x.clone().lower_elem(0.0), -1.0);
    let size = x.clone() * sign;
    (x + size.clone()).mul_scalar(0.5) + size.neg().exp().log1p().sub_scalar(std::f64::consts::LN_2)
}
