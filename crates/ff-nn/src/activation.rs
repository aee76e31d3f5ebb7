//! Activations by operations that Burn differentiates twice.

use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use ff_kernels::host::layers::Activation;

/// σ(x).
pub(crate) fn activate<B: Backend>(activation: Activation, x: Tensor<B, 2>) -> Tensor<B, 2> {
    match activation {
        // x·σ(x) = ½x·tanh ½x + ½x, which does not overflow.
        Activation::Silu => {
            let half = x.mul_scalar(0.5);
            half.clone() * half.clone().tanh() + half
        }
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

/// σ′(x).
pub(crate) fn slope<B: Backend>(activation: Activation, x: Tensor<B, 2>) -> Tensor<B, 2> {
    match activation {
        // With t = tanh ½x: ½(1 + t)(1 + ½x(1 − t)).
        Activation::Silu => {
            let half = x.mul_scalar(0.5);
            let t = half.clone().tanh();
            (half.clone() - half * t.clone()).add_scalar(1.0) * t.add_scalar(1.0).mul_scalar(0.5)
        }
        Activation::ShiftedSoftplus => x.mul_scalar(0.5).tanh().mul_scalar(0.5).add_scalar(0.5),
        Activation::Tanh => {
            let t = x.tanh();
            (t.clone() * t).neg().add_scalar(1.0)
        }
    }
}
