//! Elementary functions on SIMD lanes, accurate to a few units in the last place over the arguments that radial
//! functions and filters meet. Branch-free: both sides of a choice are computed and one is selected.

use std::f64::consts::{FRAC_1_PI, LOG2_E};

use pulp::Simd;

use super::{Element, Lane};

/// eˣ; arguments are clamped to the range of normal results.
#[inline(always)]
pub fn exp<S: Simd, T: Element>(x: Lane<S, T>) -> Lane<S, T> {
    let (p, r, scale) = exp_parts(x);
    p.mul_add(r, x.lit(1.0)) * scale
}

/// eˣ − 1, relatively accurate near 0; arguments are clamped as those of [`exp`].
#[inline(always)]
pub fn exp_m1<S: Simd, T: Element>(x: Lane<S, T>) -> Lane<S, T> {
    let (p, r, scale) = exp_parts(x);
    (p * r).mul_add(scale, scale - x.lit(1.0))
}

/// p, r and 2ⁿ, with which eˣ = 2ⁿ·(1 + r·p).
#[inline(always)]
fn exp_parts<S: Simd, T: Element>(x: Lane<S, T>) -> (Lane<S, T>, Lane<S, T>, Lane<S, T>) {
    let x = x.max(x.lit(T::EXP_RANGE[0])).min(x.lit(T::EXP_RANGE[1]));
    let n = (x * x.lit(LOG2_E)).round();
    let r = n.mul_add(x.lit(-T::LN2_PARTS[1]), n.mul_add(x.lit(-T::LN2_PARTS[0]), x));
    let mut p = x.lit(1.0 / factorial(T::TERMS.exp));
    for i in (1..T::TERMS.exp).rev() {
        p = p.mul_add(r, x.lit(1.0 / factorial(i)));
    }
    (p, r, Lane { simd: x.simd, v: T::exp2i(x.simd, n.v) })
}

/// sin x for |x| up to a few thousand; for |x| > 4 absolutely accurate, since π in three parts is off by 10⁻¹⁵ in f32.
#[inline(always)]
pub fn sin<S: Simd, T: Element>(x: Lane<S, T>) -> Lane<S, T> {
    let n = (x * x.lit(FRAC_1_PI)).round();
    alternate(n, sin_reduced(minus_pi_times(x, n)))
}

/// cos x for |x| up to a few thousand, relatively accurate near its zeros at ±½π; for |x| > 4 as [`sin`].
#[inline(always)]
pub fn cos<S: Simd, T: Element>(x: Lane<S, T>) -> Lane<S, T> {
    // cos((n + ½)π + r) = −(−1)ⁿ sin r.
    let n = x.mul_add(x.lit(FRAC_1_PI), x.lit(-0.5)).round();
    -alternate(n, sin_reduced(minus_pi_times(x, n + x.lit(0.5))))
}

/// x − m·π with π in parts, exact for the m that occur.
#[inline(always)]
fn minus_pi_times<S: Simd, T: Element>(x: Lane<S, T>, m: Lane<S, T>) -> Lane<S, T> {
    let mut r = x;
    for part in T::PI_PARTS {
        r = m.mul_add(x.lit(-part), r);
    }
    r
}

/// (−1)ⁿ·y for integral n.
#[inline(always)]
fn alternate<S: Simd, T: Element>(n: Lane<S, T>, y: Lane<S, T>) -> Lane<S, T> {
    let odd = n - n.lit(2.0) * (n * n.lit(0.5)).round();
    y - y.lit(2.0) * odd * odd * y
}

/// sin r on [−π/2, π/2].
#[inline(always)]
fn sin_reduced<S: Simd, T: Element>(r: Lane<S, T>) -> Lane<S, T> {
    let r2 = r * r;
    let mut p = r.lit(0.0);
    for i in (1..T::TERMS.sin).rev() {
        let sign = if i % 2 == 0 { 1.0 } else { -1.0 };
        p = p.mul_add(r2, r.lit(sign / factorial(2 * i + 1)));
    }
    (p * r2).mul_add(r, r)
}

/// tanh x, absolutely accurate.
#[inline(always)]
pub fn tanh<S: Simd, T: Element>(x: Lane<S, T>) -> Lane<S, T> {
    let e = exp(x.lit(-2.0) * x.abs());
    let t = (x.lit(1.0) - e) / (x.lit(1.0) + e);
    x.select_less(x.lit(0.0), -t, t)
}

/// ln(½eˣ + ½), SchNet's shifted softplus; relatively accurate near 0, as gradients in weights that multiply it have to be.
#[inline(always)]
pub fn shifted_softplus<S: Simd, T: Element>(x: Lane<S, T>) -> Lane<S, T> {
    // max(x, 0) + ln(1 + e/2) with e = exp(−|x|) − 1, and ln(1 + e/2) = 2 artanh(e / (4 + e)).
    let e = exp_m1(-x.abs());
    let s = e / (x.lit(4.0) + e);
    let s2 = s * s;
    let mut p = x.lit(1.0 / (2 * T::TERMS.artanh + 1) as f64);
    for i in (0..T::TERMS.artanh).rev() {
        p = p.mul_add(s2, x.lit(1.0 / (2 * i + 1) as f64));
    }
    (x.lit(2.0) * s).mul_add(p, x.max(x.lit(0.0)))
}

/// 1/(1 + e⁻ˣ), the slope of the softplus.
#[inline(always)]
pub fn logistic<S: Simd, T: Element>(x: Lane<S, T>) -> Lane<S, T> {
    let e = exp(-x.abs());
    let small = e / (x.lit(1.0) + e);
    x.select_less(x.lit(0.0), small, x.lit(1.0) - small)
}

/// √x.
#[inline(always)]
pub fn sqrt<S: Simd, T: Element>(x: Lane<S, T>) -> Lane<S, T> {
    x.sqrt()
}

/// ln x for positive normal x; absolutely accurate near 1.
#[inline(always)]
pub fn ln<S: Simd, T: Element>(x: Lane<S, T>) -> Lane<S, T> {
    // Halley's iteration on e^y = x trebles the correct digits of the bit-pattern guess at each step.
    let mut y = Lane { simd: x.simd, v: T::ln_guess(x.simd, x.v) };
    for _ in 0..3 {
        let e = exp(y);
        y = y + x.lit(2.0) * (x - e) / (x + e);
    }
    y
}

/// sin(x)/x, 1 at 0. This and its derivatives are accurate beside 1/|x| where they are smaller than that.
#[inline(always)]
pub fn sinc<S: Simd, T: Element>(x: Lane<S, T>) -> Lane<S, T> {
    let far = far(x);
    near_or_far::<0, S, T>(x, sin(far) / far)
}

/// d/dx sinc.
#[inline(always)]
pub fn sinc_d1<S: Simd, T: Element>(x: Lane<S, T>) -> Lane<S, T> {
    let far = far(x);
    near_or_far::<1, S, T>(x, (far * cos(far) - sin(far)) / (far * far))
}

/// d²/dx² sinc.
#[inline(always)]
pub fn sinc_d2<S: Simd, T: Element>(x: Lane<S, T>) -> Lane<S, T> {
    let far = far(x);
    let two = x.lit(2.0);
    near_or_far::<2, S, T>(x, ((two - far * far) * sin(far) - two * far * cos(far)) / (far * far * far))
}

/// d³/dx³ sinc.
#[inline(always)]
pub fn sinc_d3<S: Simd, T: Element>(x: Lane<S, T>) -> Lane<S, T> {
    let far = far(x);
    let far2 = far * far;
    let (three, six) = (x.lit(3.0), x.lit(6.0));
    near_or_far::<3, S, T>(x, (three * (far2 - x.lit(2.0)) * sin(far) + far * (six - far2) * cos(far)) / (far2 * far2))
}

/// x where the closed form of sinc is used, elsewhere a number at which it is finite: a NaN would survive no select, but
/// a division by zero costs time. No closure, here and above: one that is shared is not inlined into a function of its
/// caller's SIMD level, and then every operation in it is a call.
#[inline(always)]
fn far<S: Simd, T: Element>(x: Lane<S, T>) -> Lane<S, T> {
    let two = x.lit(2.0);
    x.abs().select_less(two, two, x)
}

/// The `D`-th derivative of sinc: its Taylor series where |x| < 2, the closed form elsewhere.
#[inline(always)]
fn near_or_far<const D: usize, S: Simd, T: Element>(x: Lane<S, T>, closed: Lane<S, T>) -> Lane<S, T> {
    // sinc x = Σ (−1)ⁿ x²ⁿ / (2n+1)!; differentiated D times, the first power that survives is x^(D mod 2).
    let x2 = x * x;
    let first = D.div_ceil(2);
    let coefficient = |n: usize| {
        let sign = if n.is_multiple_of(2) { 1.0 } else { -1.0 };
        sign * falling(2 * n, D) / factorial(2 * n + 1)
    };
    let mut series = x.lit(coefficient(first + T::TERMS.sinc));
    for n in (first..first + T::TERMS.sinc).rev() {
        series = series.mul_add(x2, x.lit(coefficient(n)));
    }
    if D % 2 == 1 {
        series = series * x;
    }
    x.abs().select_less(x.lit(2.0), series, closed)
}

/// n (n−1) … (n−d+1).
#[inline(always)]
const fn falling(n: usize, d: usize) -> f64 {
    let mut product = 1.0;
    let mut i = 0;
    while i < d {
        product *= n as f64 - i as f64;
        i += 1;
    }
    product
}

/// n!
#[inline(always)]
const fn factorial(n: usize) -> f64 {
    falling(n, n)
}
