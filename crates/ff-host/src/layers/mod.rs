//! What a model computes between its messages: dense layers, activations and PaiNN's update, on blocks of atoms.
//!
//! Every function works on one thread, on rows that the caller has cut from its tensors, and allocates nothing: a model runs
//! all of its dense layers on a block of atoms while they are in the cache, and blocks in parallel. A row's result is the same
//! to the last bit in whichever block it is, so that a batch has the numbers of its systems alone.

mod activation;
mod dense;
mod int8;
mod painn;
mod storage;

pub use dense::Dense;
pub use ff_spec::{Activation, Storage};
pub use int8::Level;
pub use painn::{Mixed, OfOutputs};

use crate::Element;

/// An element type for which this crate has compiled every layer.
pub trait Compiled: Element {
    /// y = bias + x·W, or y + x·W where `accumulate`: `x` [rows, inputs], `y` [rows, outputs].
    fn dense(layer: &Dense<Self>, x: &[Self], y: &mut [Self], accumulate: bool);
    /// The vector-Jacobian product of [`Compiled::dense`]: gradients in `x` from those in `y`, set or, where `accumulate`, added.
    fn dense_backward(layer: &Dense<Self>, of_y: &[Self], of_x: &mut [Self], accumulate: bool);
    /// σ(x) of each element.
    fn activate(activation: Activation, x: &[Self], y: &mut [Self]);
    /// Gradients in what [`Compiled::activate`] took, in place of those in what it gave: g·σ′(x).
    fn activation_backward(activation: Activation, x: &[Self], gradient: &mut [Self]);
    /// What PaiNN's update reads of vectors: the norm √(Σ V² + ε) of each channel, into `norm` [rows, F], and [q, norm] into
    /// `context` [rows, 2F].
    fn update_context(mixed: Mixed<'_, Self>, epsilon: Self, q: &[Self], norm: &mut [Self], context: &mut [Self]);
    /// PaiNN's update of scalars, and of vectors where `mu` [rows, 3, F] is not empty: q += a_q + a_qμ ⊙ Σ_xyz(V ⊙ U) and
    /// μ += a_μ ⊙ U; `a` [rows, (a_q, a_μ, a_qμ)], without a_μ where there are no vectors.
    fn update(mixed: Mixed<'_, Self>, a: &[Self], q: &mut [Self], mu: &mut [Self]);
    /// Gradients in `a` of [`Compiled::update`] from those in its q and μ.
    fn update_backward(mixed: Mixed<'_, Self>, of: OfOutputs<'_, Self>, of_a: &mut [Self]);
    /// Gradients in V and U, `of_mixed` [rows, 3, 2F], of the update and its context, and those of the context's q added to
    /// `of_q`, which holds the gradients in the updated q.
    fn mixed_backward(
        mixed: Mixed<'_, Self>,
        a: &[Self],
        norm: &[Self],
        of_context: &[Self],
        of_mu: &[Self],
        of_q: &mut [Self],
        of_mixed: &mut [Self],
    );
    /// a += b.
    fn accumulate(a: &mut [Self], b: &[Self]);
    /// Rounds to what a narrower type holds: to nearest, ties to even, beyond its range to infinity.
    fn narrow(storage: Storage, values: &mut [Self]);
}

macro_rules! compiled {
    ($($t:ident),*) => {$(
        impl Compiled for $t {
            #[inline(never)]
            fn dense(layer: &Dense<Self>, x: &[Self], y: &mut [Self], accumulate: bool) {
                layer.forward(x, y, accumulate);
            }

            #[inline(never)]
            fn dense_backward(layer: &Dense<Self>, of_y: &[Self], of_x: &mut [Self], accumulate: bool) {
                layer.backward(of_y, of_x, accumulate);
            }

            #[inline(never)]
            fn activate(activation: Activation, x: &[Self], y: &mut [Self]) {
                activation::activate(activation, x, y);
            }

            #[inline(never)]
            fn activation_backward(activation: Activation, x: &[Self], gradient: &mut [Self]) {
                activation::backward(activation, x, gradient);
            }

            #[inline(never)]
            fn update_context(
                mixed: Mixed<'_, Self>,
                epsilon: Self,
                q: &[Self],
                norm: &mut [Self],
                context: &mut [Self],
            ) {
                painn::context(mixed, epsilon, q, norm, context);
            }

            #[inline(never)]
            fn update(mixed: Mixed<'_, Self>, a: &[Self], q: &mut [Self], mu: &mut [Self]) {
                painn::update(mixed, a, q, mu);
            }

            #[inline(never)]
            fn update_backward(mixed: Mixed<'_, Self>, of: OfOutputs<'_, Self>, of_a: &mut [Self]) {
                painn::update_backward(mixed, of, of_a);
            }

            #[inline(never)]
            fn mixed_backward(
                mixed: Mixed<'_, Self>,
                a: &[Self],
                norm: &[Self],
                of_context: &[Self],
                of_mu: &[Self],
                of_q: &mut [Self],
                of_mixed: &mut [Self],
            ) {
                painn::mixed_backward(mixed, a, norm, of_context, of_mu, of_q, of_mixed);
            }

            #[inline(never)]
            fn accumulate(a: &mut [Self], b: &[Self]) {
                pulp::Arch::new().dispatch(|| a.iter_mut().zip(b).for_each(|(a, b)| *a += *b));
            }

            #[inline(never)]
            fn narrow(storage: Storage, values: &mut [Self]) {
                storage::narrow(storage, values);
            }
        }
    )*};
}
compiled!(f32, f64);
