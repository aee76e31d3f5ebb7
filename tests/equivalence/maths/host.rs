//! On every SIMD level of this processor.

use ff_kernels::host::maths::{
    cos, exp, exp_m1, ln, logistic, shifted_softplus, sin, sinc, sinc_d1, sinc_d2, sinc_d3, sqrt, tanh,
};
use ff_kernels::host::{Element, Lane};
use ff_spec::Dtype;
use pulp::{Arch, Simd, WithSimd};

use super::{Function, judge};

/// Polynomials and divisions of a few operations, each of which rounds. In f64 what π in three parts leaves out shows in the
/// last three bits beside ±½π and ±π, and what is compared with rounds too.
fn claim(function: Function, dtype: Dtype, _: f64) -> f64 {
    match (function, dtype) {
        (Function::Sqrt, _) => 0.5,
        (Function::Exp | Function::Tanh | Function::Ln, _) => 2.0,
        (Function::Sin | Function::Cos, Dtype::F64) => 8.0,
        (Function::ExpM1 | Function::Sin | Function::Cos | Function::Logistic, _) => 3.0,
        (Function::SincD1 | Function::SincD2 | Function::SincD3, Dtype::F64) => 6.0,
        (Function::ShiftedSoftplus, _) => 4.0,
        (Function::Sinc | Function::SincD1 | Function::SincD2 | Function::SincD3, _) => 4.0,
    }
}

struct Map<'a, T: Element> {
    x: &'a [T],
    function: Function,
}

impl<T: Element> WithSimd for Map<'_, T> {
    type Output = Vec<T>;
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Vec<T> {
        let mut out = vec![T::default(); self.x.len()];
        let lanes = T::lanes::<S>();
        for (x, out) in self.x.chunks(lanes).zip(out.chunks_mut(lanes)) {
            let x = Lane::<S, T>::load(simd, x);
            let y = match self.function {
                Function::Exp => exp(x),
                Function::ExpM1 => exp_m1(x),
                Function::Sin => sin(x),
                Function::Cos => cos(x),
                Function::Tanh => tanh(x),
                Function::ShiftedSoftplus => shifted_softplus(x),
                Function::Logistic => logistic(x),
                Function::Sqrt => sqrt(x),
                Function::Ln => ln(x),
                Function::Sinc => sinc(x),
                Function::SincD1 => sinc_d1(x),
                Function::SincD2 => sinc_d2(x),
                Function::SincD3 => sinc_d3(x),
            };
            y.store(out);
        }
        out
    }
}

/// The best level and those below it; without fused multiply-add the last of them rounds twice as often.
fn levels() -> Vec<(&'static str, Arch)> {
    let mut levels = vec![("host", Arch::new()), ("host, scalar", Arch::Scalar)];
    #[cfg(target_arch = "x86_64")]
    levels.extend(pulp::x86::V3::try_new().map(|level| ("host, AVX2", Arch::V3(level))));
    levels
}

#[test]
fn functions_of_the_host_keep_their_claims() {
    for (name, level) in levels() {
        judge::<f32>(name, claim, |function, x| level.dispatch(Map { x, function }));
        judge::<f64>(name, claim, |function, x| level.dispatch(Map { x, function }));
    }
}
