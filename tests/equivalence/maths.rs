//! Elementary functions of the host target against the standard library and the oracle's Taylor jets.

use std::f64::consts::LN_2;

use ff_kernels::host::maths::{cos, exp, ln, shifted_softplus, sin, sinc, sinc_d1, sinc_d2, sinc_d3, tanh};
use ff_kernels::host::{Element, Lane};
use ff_reference::Jet;
use pulp::{Arch, Simd, WithSimd};

struct Map<'a, T: Element> {
    x: &'a [T],
    which: usize,
}

impl<T: Element> WithSimd for Map<'_, T> {
    type Output = Vec<f64>;
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Vec<f64> {
        let mut out = Vec::new();
        for chunk in self.x.chunks(T::lanes::<S>()) {
            let x = Lane::<S, T>::load(simd, chunk);
            let y = match self.which {
                0 => exp(x),
                1 => sin(x),
                2 => cos(x),
                3 => tanh(x),
                4 => shifted_softplus(x),
                5 => sinc(x),
                6 => sinc_d1(x),
                7 => sinc_d2(x),
                8 => sinc_d3(x),
                _ => ln(x.abs() + x.lit(1e-3)),
            };
            let mut buffer = vec![T::default(); chunk.len()];
            y.store(&mut buffer);
            out.extend(buffer.iter().map(|v| v.to_f64()));
        }
        out
    }
}

fn expected(which: usize, x: f64) -> f64 {
    match which {
        0 => x.exp(),
        1 => x.sin(),
        2 => x.cos(),
        3 => x.tanh(),
        4 => x.max(0.0) + (-x.abs()).exp().ln_1p() - LN_2,
        5..=8 => Jet::variable(x).sinc().derivatives()[which - 5],
        _ => (x.abs() + 1e-3).ln(),
    }
}

fn check<T: Element>(tolerance: f64) {
    let xs: Vec<f64> = (0..257)
        .map(|i| (i as f64 - 128.0) * 0.31)
        .chain([0.0, 1e-6, -1e-6, 1e-3, 1.999, 2.001, 62.8])
        .map(|x| T::from_f64(x).to_f64())
        .collect();
    for which in 0..10 {
        // exp grows: its arguments stay where the result is of order e^40 at most and the error is relative.
        let x: Vec<T> = xs.iter().map(|x| T::from_f64(*x)).collect();
        let y = Arch::new().dispatch(Map { x: &x, which });
        for (x, y) in xs.iter().zip(y) {
            let want = expected(which, *x);
            let error = (y - want).abs() / want.abs().max(1.0);
            assert!(error <= tolerance, "function {which} at {x}: {y} for {want}, error {error:e}");
        }
    }
}

#[test]
fn elementary_functions_are_accurate() {
    // A few units in the last place of each dtype; the exponent of exp multiplies the rounding of its argument.
    check::<f64>(2e-14);
    check::<f32>(4e-6);
}
