//! Elementary functions on a cube unit, in the algorithms of [`crate::host::maths`].
//!
//! Vulkan promises sin and cos to 2⁻¹¹ only and has no f64 versions at all, so both are spelt out here; exp, ln and √ in
//! f32 are the device's own.

#![allow(missing_docs, reason = "`#[cube]` expands into items that carry no documentation")]

use cubecl::prelude::*;

/// A constant in full precision of `F`, without asking an f32 device for f64.
#[cube]
pub fn constant<F: Float>(#[comptime] value: f64) -> F {
    let size = F::type_size();
    if comptime!(size == 8) { F::cast_from(comptime!(value).runtime()) } else { F::new(comptime!(value as f32)) }
}

/// π.
#[cube]
pub fn pi<F: Float>() -> F {
    constant::<F>(std::f64::consts::PI)
}

/// eˣ; in f64 arguments are clamped to the range of normal results, in f32 Vulkan allows 3 + 2|x| units in the last place.
#[cube]
pub fn exp<F: Float>(x: F) -> F {
    let size = F::type_size();
    if comptime!(size == 8) { F::cast_from(exp_f64(f64::cast_from(x))) } else { F::exp(x) }
}

#[cube]
fn exp_f64(x: f64) -> f64 {
    let x = clamp(x, -708.0f64, 709.0f64);
    let n = f64::floor(x * std::f64::consts::LOG2_E + 0.5f64);
    let r = x - n * 0.693_147_180_369_123_8f64 - n * 1.908_214_929_270_587_7e-10f64;
    let mut p = constant::<f64>(comptime!(1.0 / factorial(14)));
    #[unroll]
    for i in 0..14u32 {
        p = p * r + constant::<f64>(comptime!(1.0 / factorial(13 - i)));
    }
    p * f64::reinterpret((u64::cast_from(i32::cast_from(n) + 1023i32)) << 52u64)
}

/// Terms of the exponential's polynomial on ±½ ln 2 that reach rounding of `F`.
fn exp_terms(size: usize) -> u32 {
    if size == 8 { 14 } else { 8 }
}

fn exp_limit(size: usize) -> f64 {
    if size == 8 { 708.0 } else { 87.0 }
}

fn ln_2_part(size: usize, part: usize) -> f64 {
    if size == 8 {
        [0.693_147_180_369_123_8, 1.908_214_929_270_587_7e-10][part]
    } else {
        [0.693_359_375, -2.121_944_400_546_905_8e-4][part]
    }
}

/// eˣ − 1, relatively accurate near 0; arguments are clamped to the range of normal results.
#[cube]
pub fn exp_m1<F: Float>(x: F) -> F {
    let size = F::type_size();
    let limit = constant::<F>(comptime!(exp_limit(size)));
    let x = max(min(x, limit), F::new(0.0) - limit);
    let n = F::floor(x * constant::<F>(std::f64::consts::LOG2_E) + F::new(0.5));
    let r = x - n * constant::<F>(comptime!(ln_2_part(size, 0)));
    let r = r - n * constant::<F>(comptime!(ln_2_part(size, 1)));
    let terms = comptime!(exp_terms(size));
    let mut p = constant::<F>(comptime!(1.0 / factorial(terms)));
    #[unroll]
    for i in 1..terms {
        p = p * r + constant::<F>(comptime!(1.0 / factorial(terms - i)));
    }
    let scale = power_of_two::<F>(n);
    p * r * scale + (scale - F::new(1.0))
}

/// 2ⁿ for integral n whose power is a normal number.
#[cube]
fn power_of_two<F: Float>(n: F) -> F {
    let size = F::type_size();
    if comptime!(size == 8) {
        F::cast_from(f64::reinterpret((u64::cast_from(i32::cast_from(n) + 1023i32)) << 52u64))
    } else {
        F::cast_from(f32::reinterpret((u32::cast_from(i32::cast_from(n) + 127i32)) << 23u32))
    }
}

/// Terms of the sine polynomial that reach rounding of `F`.
fn sin_terms(size: usize) -> u32 {
    if size == 8 { 12 } else { 7 }
}

fn pi_part(size: usize, part: usize) -> f64 {
    if size == 8 {
        [3.141_592_502_593_994, 1.509_957_883_172_319_3e-7, 1.078_060_571_631_623_8e-14][part]
    } else {
        [3.140_625, 9.675_025_939_941_406e-4, 1.509_957_990_978_376_4e-7][part]
    }
}

/// x − m·π with π in parts, exact for the m that occur.
#[cube]
fn minus_pi_times<F: Float>(x: F, m: F) -> F {
    let size = F::type_size();
    let r = x - m * constant::<F>(comptime!(pi_part(size, 0)));
    let r = r - m * constant::<F>(comptime!(pi_part(size, 1)));
    r - m * constant::<F>(comptime!(pi_part(size, 2)))
}

/// (−1)ⁿ·y for integral n.
#[cube]
fn alternate<F: Float>(n: F, y: F) -> F {
    let odd = n - F::new(2.0) * F::floor(n * F::new(0.5));
    y - F::new(2.0) * odd * y
}

/// sin r on [−π/2, π/2].
#[cube]
fn sin_reduced<F: Float>(r: F) -> F {
    let size = F::type_size();
    let terms = comptime!(sin_terms(size));
    let r2 = r * r;
    let mut p = F::new(0.0);
    #[unroll]
    for i in 1..terms {
        let n = comptime!(terms - i);
        p = p * r2 + constant::<F>(comptime!(alternating(n) / factorial(2 * n + 1)));
    }
    p * r2 * r + r
}

/// sin x for |x| up to a few thousand; for |x| > 4 absolutely accurate, since π in three parts is off by 10⁻¹⁵ in f32.
#[cube]
pub fn sin<F: Float>(x: F) -> F {
    let n = F::floor(x * constant::<F>(std::f64::consts::FRAC_1_PI) + F::new(0.5));
    alternate::<F>(n, sin_reduced::<F>(minus_pi_times::<F>(x, n)))
}

/// cos x for |x| up to a few thousand, relatively accurate near its zeros at ±½π; for |x| > 4 as [`sin`].
#[cube]
pub fn cos<F: Float>(x: F) -> F {
    // cos((n + ½)π + r) = −(−1)ⁿ sin r.
    let n = F::floor(x * constant::<F>(std::f64::consts::FRAC_1_PI));
    let zero = F::new(0.0);
    zero - alternate::<F>(n, sin_reduced::<F>(minus_pi_times::<F>(x, n + F::new(0.5))))
}

/// |x|.
#[cube]
fn magnitude<F: Float>(x: F) -> F {
    max(x, F::new(0.0) - x)
}

/// tanh x, absolutely accurate.
#[cube]
pub fn tanh<F: Float>(x: F) -> F {
    let e = exp::<F>(F::new(-2.0) * magnitude::<F>(x));
    let t = (F::new(1.0) - e) / (F::new(1.0) + e);
    select(x < F::new(0.0), F::new(0.0) - t, t)
}

fn artanh_terms(size: usize) -> u32 {
    if size == 8 { 17 } else { 8 }
}

/// ln(½eˣ + ½), SchNet's shifted softplus; relatively accurate near 0, as gradients in weights that multiply it have to be.
#[cube]
pub fn shifted_softplus<F: Float>(x: F) -> F {
    // max(x, 0) + ln(1 + e/2) with e = exp(−|x|) − 1, and ln(1 + e/2) = 2 artanh(e / (4 + e)).
    let size = F::type_size();
    let terms = comptime!(artanh_terms(size));
    let e = exp_m1::<F>(F::new(0.0) - magnitude::<F>(x));
    let s = e / (F::new(4.0) + e);
    let s2 = s * s;
    let mut p = constant::<F>(comptime!(1.0 / (2 * terms + 1) as f64));
    #[unroll]
    for i in 0..terms {
        p = p * s2 + constant::<F>(comptime!(1.0 / (2 * (terms - 1 - i) + 1) as f64));
    }
    max(x, F::new(0.0)) + F::new(2.0) * s * p
}

/// 1/(1 + e⁻ˣ), the slope of the softplus; for x < 0 as accurate as [`exp`].
#[cube]
pub fn logistic<F: Float>(x: F) -> F {
    let e = exp::<F>(F::new(0.0) - magnitude::<F>(x));
    let small = e / (F::new(1.0) + e);
    select(x < F::new(0.0), small, F::new(1.0) - small)
}

/// √x.
#[cube]
pub fn sqrt<F: Float>(x: F) -> F {
    F::sqrt(x)
}

/// ln x for positive normal x; absolutely accurate near 1.
#[cube]
pub fn ln<F: Float>(x: F) -> F {
    let size = F::type_size();
    if comptime!(size == 8) {
        // The f32 logarithm is the first guess; Halley's iteration on e^y = x trebles its digits at each step.
        let mut y = F::cast_from(f32::ln(f32::cast_from(x)));
        #[unroll]
        for _ in 0..2u32 {
            let e = exp::<F>(y);
            y += F::new(2.0) * (x - e) / (x + e);
        }
        y
    } else {
        F::ln(x)
    }
}

fn sinc_terms(size: usize) -> u32 {
    if size == 8 { 15 } else { 10 }
}

/// The Taylor series of the `derivative`-th derivative of sinc, for |x| < 2.
#[cube]
fn sinc_series<F: Float>(x: F, #[comptime] derivative: u32) -> F {
    let size = F::type_size();
    let terms = comptime!(sinc_terms(size));
    let first = comptime!(derivative.div_ceil(2));
    let x2 = x * x;
    let mut series = constant::<F>(comptime!(sinc_coefficient(first + terms, derivative)));
    #[unroll]
    for i in 0..terms {
        series = series * x2 + constant::<F>(comptime!(sinc_coefficient(first + terms - 1 - i, derivative)));
    }
    if comptime!(derivative % 2 == 1) {
        series *= x;
    }
    series
}

/// `series` where |x| < 2, else `closed`.
#[cube]
fn near_or_far<F: Float>(x: F, series: F, closed: F) -> F {
    select(magnitude::<F>(x) < F::new(2.0), series, closed)
}

/// `x` kept away from 0, where closed forms would divide by it.
#[cube]
fn away<F: Float>(x: F) -> F {
    select(magnitude::<F>(x) < F::new(2.0), F::new(2.0), x)
}

/// sin(x)/x, 1 at 0. This and its derivatives are accurate beside 1/|x| where they are smaller than that.
#[cube]
pub fn sinc<F: Float>(x: F) -> F {
    let y = away::<F>(x);
    near_or_far::<F>(x, sinc_series::<F>(x, 0u32), sin::<F>(y) / y)
}

/// d/dx sinc.
#[cube]
pub fn sinc_d1<F: Float>(x: F) -> F {
    let y = away::<F>(x);
    let closed = (y * cos::<F>(y) - sin::<F>(y)) / (y * y);
    near_or_far::<F>(x, sinc_series::<F>(x, 1u32), closed)
}

/// d²/dx² sinc.
#[cube]
pub fn sinc_d2<F: Float>(x: F) -> F {
    let y = away::<F>(x);
    let closed = ((F::new(2.0) - y * y) * sin::<F>(y) - F::new(2.0) * y * cos::<F>(y)) / (y * y * y);
    near_or_far::<F>(x, sinc_series::<F>(x, 2u32), closed)
}

/// d³/dx³ sinc.
#[cube]
pub fn sinc_d3<F: Float>(x: F) -> F {
    let y = away::<F>(x);
    let y2 = y * y;
    let closed = (F::new(3.0) * (y2 - F::new(2.0)) * sin::<F>(y) + y * (F::new(6.0) - y2) * cos::<F>(y)) / (y2 * y2);
    near_or_far::<F>(x, sinc_series::<F>(x, 3u32), closed)
}

/// (−1)ⁿ.
fn alternating(n: u32) -> f64 {
    if n.is_multiple_of(2) { 1.0 } else { -1.0 }
}

/// The coefficient of sinc's term n, x²ⁿ, differentiated.
fn sinc_coefficient(n: u32, derivative: u32) -> f64 {
    let falling: f64 = (0..derivative).map(|i| f64::from(2 * n) - f64::from(i)).product();
    alternating(n) * falling / factorial(2 * n + 1)
}

/// n!
fn factorial(n: u32) -> f64 {
    (1..=n).map(f64::from).product()
}
