//! Elementary functions of both targets, judged in units in the last place of what each of them promises.

mod cube;
mod host;

use std::f64::consts::{FRAC_PI_2, LN_2};

use ff_reference::Jet;
use ff_spec::{Dtype, Scalar};

/// What both targets compute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Function {
    Exp,
    ExpM1,
    Sin,
    Cos,
    Tanh,
    ShiftedSoftplus,
    Logistic,
    Sqrt,
    Ln,
    Sinc,
    SincD1,
    SincD2,
    SincD3,
}

impl Function {
    /// All of them.
    const ALL: [Function; 13] = [
        Function::Exp,
        Function::ExpM1,
        Function::Sin,
        Function::Cos,
        Function::Tanh,
        Function::ShiftedSoftplus,
        Function::Logistic,
        Function::Sqrt,
        Function::Ln,
        Function::Sinc,
        Function::SincD1,
        Function::SincD2,
        Function::SincD3,
    ];

    /// Its value in f64, in forms that do not cancel where it is small.
    fn of(self, x: f64) -> f64 {
        match self {
            Function::Exp => x.exp(),
            Function::ExpM1 => x.exp_m1(),
            Function::Sin => x.sin(),
            Function::Cos => x.cos(),
            Function::Tanh => x.tanh(),
            Function::ShiftedSoftplus if x < 1.0 => (0.5 * x.exp_m1()).ln_1p(),
            Function::ShiftedSoftplus => x + (-x).exp().ln_1p() - LN_2,
            Function::Logistic if x < 0.0 => x.exp() / (1.0 + x.exp()),
            Function::Logistic => 1.0 / (1.0 + (-x).exp()),
            Function::Sqrt => x.sqrt(),
            Function::Ln => x.ln(),
            Function::Sinc if x == 0.0 => 1.0,
            Function::Sinc => x.sin() / x,
            Function::SincD1 => Jet::variable(x).sinc().derivatives()[1],
            Function::SincD2 => Jet::variable(x).sinc().derivatives()[2],
            Function::SincD3 => Jet::variable(x).sinc().derivatives()[3],
        }
    }

    /// The arguments for which a claim is made: those that radial functions and filters meet, and whose results are normal.
    fn domain(self, dtype: Dtype) -> [f64; 2] {
        let exponent = if dtype == Dtype::F32 { 87.0 } else { 708.0 };
        match self {
            Function::Exp | Function::ExpM1 => [-exponent, exponent],
            Function::Logistic => [-exponent, 1e3],
            Function::Sin | Function::Cos => [-3e3, 3e3],
            Function::Tanh | Function::ShiftedSoftplus => [-1e3, 1e3],
            Function::Sqrt | Function::Ln => [2_f64.powi(-100), 2_f64.powi(100)],
            // π times more basis functions than any model has.
            Function::Sinc | Function::SincD1 | Function::SincD2 | Function::SincD3 => [-200.0, 200.0],
        }
    }

    /// The number in whose last place errors are counted: the result, but for functions that promise less near their zeros.
    fn scale(self, x: f64, result: f64) -> f64 {
        match self {
            Function::Tanh => 1.0,
            Function::Ln => result.abs().max(1.0),
            // π in three parts is off by 10⁻¹⁵ in f32, which shows beside the zeros that are further out.
            Function::Sin | Function::Cos if x.abs() > 4.0 => 1.0,
            // sinc and its derivatives oscillate below 1/|x|.
            Function::Sinc | Function::SincD1 | Function::SincD2 | Function::SincD3 if x.abs() > 1.0 => {
                result.abs().max(1.0 / x.abs())
            }
            _ => result.abs(),
        }
    }

    /// Arguments from all over the domain, exactly representable in `T`: evenly spread, of every magnitude down to 10⁻³⁰, and
    /// the numbers next to multiples of π/2, where sines and cosines vanish.
    fn arguments<T: Scalar>(self) -> Vec<f64> {
        const EVEN: u32 = 4096;
        let [least, most] = self.domain(T::DTYPE);
        let even = (0..=EVEN).map(|i| least + (most - least) * f64::from(i) / f64::from(EVEN));
        let magnitudes = (-1200..=1200).map(|i| 10_f64.powf(f64::from(i) / 40.0)).flat_map(|x| [x, -x]);
        let quarters = (-1920..=1920).flat_map(|i| {
            let x = T::from_f64(f64::from(i) * FRAC_PI_2).to_f64();
            let step = last_place(T::DTYPE, x);
            [x - step, x, x + step]
        });
        let special = [0.0, 1.999, -1.999, 2.0, -2.0, 2.001, -2.001];
        let all = even.chain(magnitudes).chain(quarters).chain(special);
        all.map(|x| T::from_f64(x).to_f64()).filter(|x| (least..=most).contains(x)).collect()
    }
}

/// The distance from a number to the next of `dtype`.
fn last_place(dtype: Dtype, x: f64) -> f64 {
    let epsilon = if dtype == Dtype::F32 { f64::from(f32::EPSILON) } else { f64::EPSILON };
    // Without sign and mantissa, the bits of a number are those of the power of two below it.
    epsilon * f64::from_bits(x.to_bits() & f64::INFINITY.to_bits())
}

/// By how many units in the last place `found` misses the function at `x`; infinite where it is no number.
fn error(function: Function, dtype: Dtype, x: f64, found: f64) -> f64 {
    let result = function.of(x);
    if found == result {
        return 0.0;
    }
    let ulps = (found - result).abs() / last_place(dtype, function.scale(x, result));
    if ulps.is_nan() { f64::INFINITY } else { ulps }
}

/// By how many units in the last place a target may be off, at an argument.
type Claim = fn(Function, Dtype, f64) -> f64;

/// Holds every function in `T` to what is claimed of it; `compute` is the target.
fn judge<T: Scalar>(target: &str, claim: Claim, mut compute: impl FnMut(Function, &[T]) -> Vec<T>) {
    let mut broken = Vec::new();
    for function in Function::ALL {
        let arguments = function.arguments::<T>();
        let found = compute(function, &arguments.iter().map(|x| T::from_f64(*x)).collect::<Vec<T>>());
        assert_eq!(found.len(), arguments.len());
        let judged = arguments.iter().zip(&found).map(|(x, y)| {
            let (error, claim) = (error(function, T::DTYPE, *x, y.to_f64()), claim(function, T::DTYPE, *x));
            (error / claim, error, claim)
        });
        let (at, worst) = judged.enumerate().max_by(|(_, a), (_, b)| a.0.total_cmp(&b.0)).expect("arguments");
        let ((of_claim, error, claim), x, y) = (worst, arguments[at], found[at].to_f64());
        let line = format!(
            "{function:?} in {} on {target}: {error:.2} ulp of {claim} at {x:e}, which is {y:e} and should be {:e}",
            T::DTYPE,
            function.of(x)
        );
        println!("{line}");
        if of_claim > 1.0 {
            broken.push(line);
        }
    }
    assert!(broken.is_empty(), "claims that do not hold:\n{}", broken.join("\n"));
}

/// What would be no exponential at all fails, however small the numbers are.
#[test]
fn errors_are_relative() {
    for dtype in Dtype::ALL {
        for x in [-80.0, -20.0, 1.0, 80.0] {
            let right = f64::exp(x);
            assert_eq!(error(Function::Exp, dtype, x, right), 0.0);
            assert!(error(Function::Exp, dtype, x, 0.0) > 1e6, "0 for e^{x}");
            assert!(error(Function::Exp, dtype, x, f64::NAN).is_infinite());
            let next = error(Function::Exp, dtype, x, right + last_place(dtype, right));
            assert!((0.99..=1.01).contains(&next), "{next} ulp");
        }
    }
    assert!(error(Function::Sin, Dtype::F64, 0.0, 1e-300).is_infinite(), "no error is small beside 0");
    assert!(error(Function::Cos, Dtype::F32, std::f64::consts::FRAC_PI_2, 0.0) > 1e6, "the cutoff ends in this zero");
    assert!(error(Function::Tanh, Dtype::F32, 1e-9, 0.0) < 1.0, "tanh promises no more than absolute accuracy");
}

#[test]
fn every_function_has_arguments_of_every_kind() {
    for function in Function::ALL {
        let arguments = function.arguments::<f32>();
        assert!(arguments.len() > 4000, "{function:?}: {}", arguments.len());
        let [least, most] = function.domain(Dtype::F32);
        let near = |end: f64| arguments.iter().any(|x| (x - end).abs() <= 1e-3 * end.abs());
        assert!(near(least) && near(most), "{function:?}");
    }
}
