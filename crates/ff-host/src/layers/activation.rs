//! Activations of dense layers.

use ff_spec::Activation;
use pulp::{Arch, Simd, WithSimd};

use crate::maths::{logistic, shifted_softplus, tanh};
use crate::{Element, Lane};

pub(super) fn activate<T: Element>(activation: Activation, x: &[T], y: &mut [T]) {
    assert_eq!(x.len(), y.len());
    Arch::new().dispatch(Activate { activation, x, y });
}

pub(super) fn backward<T: Element>(activation: Activation, x: &[T], gradient: &mut [T]) {
    assert_eq!(x.len(), gradient.len());
    Arch::new().dispatch(Backward { activation, x, gradient });
}

struct Activate<'a, T> {
    activation: Activation,
    x: &'a [T],
    y: &'a mut [T],
}

impl<T: Element> WithSimd for Activate<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { activation, x, y } = self;
        match activation {
            Activation::Silu => each::<S, T, Silu>(simd, x, y),
            Activation::ShiftedSoftplus => each::<S, T, ShiftedSoftplus>(simd, x, y),
            Activation::Tanh => each::<S, T, Tanh>(simd, x, y),
        }
    }
}

struct Backward<'a, T> {
    activation: Activation,
    x: &'a [T],
    gradient: &'a mut [T],
}

impl<T: Element> WithSimd for Backward<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { activation, x, gradient } = self;
        match activation {
            Activation::Silu => each::<S, T, Slope<Silu>>(simd, x, gradient),
            Activation::ShiftedSoftplus => each::<S, T, Slope<ShiftedSoftplus>>(simd, x, gradient),
            Activation::Tanh => each::<S, T, Slope<Tanh>>(simd, x, gradient),
        }
    }
}

/// What is made of one register of x and what stands in its place.
trait Kernel {
    fn apply<S: Simd, T: Element>(x: Lane<S, T>, old: Lane<S, T>) -> Lane<S, T>;
}

/// An activation with its derivative.
trait Function {
    fn value<S: Simd, T: Element>(x: Lane<S, T>) -> Lane<S, T>;
    fn slope<S: Simd, T: Element>(x: Lane<S, T>) -> Lane<S, T>;
}

struct Silu;
struct ShiftedSoftplus;
struct Tanh;

impl Function for Silu {
    #[inline(always)]
    fn value<S: Simd, T: Element>(x: Lane<S, T>) -> Lane<S, T> {
        x * logistic(x)
    }
    #[inline(always)]
    fn slope<S: Simd, T: Element>(x: Lane<S, T>) -> Lane<S, T> {
        let s = logistic(x);
        let one = x.lit(1.0);
        s * x.mul_add(one - s, one)
    }
}

impl Function for ShiftedSoftplus {
    #[inline(always)]
    fn value<S: Simd, T: Element>(x: Lane<S, T>) -> Lane<S, T> {
        shifted_softplus(x)
    }
    #[inline(always)]
    fn slope<S: Simd, T: Element>(x: Lane<S, T>) -> Lane<S, T> {
        logistic(x)
    }
}

impl Function for Tanh {
    #[inline(always)]
    fn value<S: Simd, T: Element>(x: Lane<S, T>) -> Lane<S, T> {
        tanh(x)
    }
    #[inline(always)]
    fn slope<S: Simd, T: Element>(x: Lane<S, T>) -> Lane<S, T> {
        let t = tanh(x);
        x.lit(1.0) - t * t
    }
}

impl<F: Function> Kernel for F {
    #[inline(always)]
    fn apply<S: Simd, T: Element>(x: Lane<S, T>, _: Lane<S, T>) -> Lane<S, T> {
        F::value(x)
    }
}

/// g·σ′(x).
struct Slope<F>(std::marker::PhantomData<F>);

impl<F: Function> Kernel for Slope<F> {
    #[inline(always)]
    fn apply<S: Simd, T: Element>(x: Lane<S, T>, gradient: Lane<S, T>) -> Lane<S, T> {
        gradient * F::slope(x)
    }
}

/// A register at a time; what is left goes through a partial one, in the same arithmetic.
#[inline(always)]
fn each<S: Simd, T: Element, K: Kernel>(simd: S, x: &[T], y: &mut [T]) {
    let lanes = T::lanes::<S>();
    let (mut xs, mut ys) = (x.chunks_exact(lanes), y.chunks_exact_mut(lanes));
    for (x, y) in (&mut xs).zip(&mut ys) {
        K::apply(Lane::load_full(simd, x), Lane::load_full(simd, y)).store_full(y);
    }
    let (x, y) = (xs.remainder(), ys.into_remainder());
    if !x.is_empty() {
        K::apply(Lane::load(simd, x), Lane::load(simd, y)).store(y);
    }
}
