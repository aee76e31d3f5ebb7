use std::num::ParseFloatError;
use std::ops::{Add, Div, Mul, Neg, Sub};
use std::str::FromStr;

/// A function of one variable at a point: its value and first three derivatives, as Taylor coefficients f⁽ⁿ⁾/n!.
///
/// Arithmetic on jets is automatic differentiation: exact to rounding, with no symbolic step. The unit is that of the
/// value, per variable unit to the n.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Jet([f64; 4]);

impl Jet {
    /// A constant: all derivatives are zero.
    pub fn constant(value: f64) -> Self {
        Self([value, 0.0, 0.0, 0.0])
    }

    /// The variable itself: the first derivative is one.
    pub fn variable(value: f64) -> Self {
        Self([value, 1.0, 0.0, 0.0])
    }

    /// f, f′, f″, f‴.
    pub fn derivatives(self) -> [f64; 4] {
        let [a, b, c, d] = self.0;
        [a, b, 2.0 * c, 6.0 * d]
    }

    /// The value alone.
    pub fn value(self) -> f64 {
        self.0[0]
    }

    /// f(self), from f and its first three derivatives at the value of `self` (Faà di Bruno's formula).
    fn compose(self, [f, f1, f2, f3]: [f64; 4]) -> Self {
        let [_, a, b, c] = self.0;
        Self([f, f1 * a, f1 * b + f2 / 2.0 * a * a, f1 * c + f2 * a * b + f3 / 6.0 * a * a * a])
    }

    /// eˣ.
    pub fn exp(self) -> Self {
        self.compose([self.value().exp(); 4])
    }

    /// The natural logarithm.
    pub fn ln(self) -> Self {
        let x = self.value();
        self.compose([x.ln(), 1.0 / x, -1.0 / (x * x), 2.0 / (x * x * x)])
    }

    /// sin x.
    pub fn sin(self) -> Self {
        let (s, c) = self.value().sin_cos();
        self.compose([s, c, -s, -c])
    }

    /// cos x.
    pub fn cos(self) -> Self {
        let (s, c) = self.value().sin_cos();
        self.compose([c, -s, -c, s])
    }

    /// tanh x.
    pub fn tanh(self) -> Self {
        let t = self.value().tanh();
        let s = 1.0 - t * t;
        self.compose([t, s, -2.0 * t * s, (6.0 * t * t - 2.0) * s])
    }

    /// √x.
    pub fn sqrt(self) -> Self {
        let x = self.value();
        let r = x.sqrt();
        self.compose([r, 0.5 / r, -0.25 / (r * x), 0.375 / (r * x * x)])
    }

    /// sin(x)/x, 1 at 0.
    pub fn sinc(self) -> Self {
        self.compose(sinc_derivatives(self.value()))
    }

    /// e^(1 − 1/x) for x > 0, else 0 with all derivatives.
    pub fn flat(self) -> Self {
        let x = self.value();
        let f = if x > 0.0 { (1.0 - 1.0 / x).exp() } else { 0.0 };
        // Where the exponential underflows, so do its products with powers of 1/x; in floats these would be 0·∞.
        if f == 0.0 {
            return Self::constant(0.0);
        }
        let r = 1.0 / x;
        self.compose([f, f * r * r, f * r.powi(3) * (r - 2.0), f * r.powi(4) * (r * r - 6.0 * r + 6.0)])
    }

    /// The jet with the larger value.
    pub fn max(self, other: Self) -> Self {
        if other.value() > self.value() { other } else { self }
    }

    /// xᵖ. An exponent that does not vary gives the power rule (with integer powers valid for any x), another one
    /// e^(p ln x).
    pub fn pow(self, exponent: Self) -> Self {
        let [p, p1, p2, p3] = exponent.0;
        if [p1, p2, p3] != [0.0; 3] {
            return (exponent * self.ln()).exp();
        }
        let x = self.value();
        let power = |n: f64| if n.fract() == 0.0 && n.abs() < 1e6 { x.powi(n as i32) } else { x.powf(n) };
        let mut factor = 1.0;
        let derivatives = [0.0, 1.0, 2.0, 3.0].map(|n| {
            // The falling factorial is zero once a whole power is used up; 0·x⁻¹ at x = 0 would be NaN instead.
            let value = if factor == 0.0 { 0.0 } else { factor * power(p - n) };
            factor *= p - n;
            value
        });
        self.compose(derivatives)
    }
}

/// sin(x)/x and its first three derivatives.
fn sinc_derivatives(x: f64) -> [f64; 4] {
    if x.abs() < 2.0 {
        // The closed forms below cancel near 0. The series Σ (−1)ⁿ x²ⁿ/(2n+1)! is at full precision after 16 terms here.
        let mut sums = [0.0; 4];
        let mut coefficient = 1.0;
        for n in 0..16 {
            let power = 2 * n;
            let mut term = coefficient;
            for (order, sum) in sums.iter_mut().enumerate() {
                if power >= order as i32 {
                    *sum += term * x.powi(power - order as i32);
                }
                term *= f64::from(power - order as i32);
            }
            coefficient /= -f64::from((power + 2) * (power + 3));
        }
        return sums;
    }
    let s = x.sin() / x;
    let s1 = (x.cos() - s) / x;
    // From x s″ + 2 s′ + x s = 0 and its derivative.
    let s2 = -s - 2.0 * s1 / x;
    let s3 = -(3.0 * s2 + x * s1 + s) / x;
    [s, s1, s2, s3]
}

impl Add for Jet {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(std::array::from_fn(|n| self.0[n] + other.0[n]))
    }
}

impl Sub for Jet {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self(std::array::from_fn(|n| self.0[n] - other.0[n]))
    }
}

impl Neg for Jet {
    type Output = Self;
    fn neg(self) -> Self {
        Self(self.0.map(|x| -x))
    }
}

impl Mul for Jet {
    type Output = Self;
    fn mul(self, other: Self) -> Self {
        let (a, b) = (self.0, other.0);
        Self([
            a[0] * b[0],
            a[0] * b[1] + a[1] * b[0],
            a[0] * b[2] + a[1] * b[1] + a[2] * b[0],
            a[0] * b[3] + a[1] * b[2] + a[2] * b[1] + a[3] * b[0],
        ])
    }
}

impl Div for Jet {
    type Output = Self;
    fn div(self, other: Self) -> Self {
        let (a, b) = (self.0, other.0);
        let mut q = [0.0; 4];
        for n in 0..4 {
            let mut rest = a[n];
            for m in 0..n {
                rest -= q[m] * b[n - m];
            }
            q[n] = rest / b[0];
        }
        Self(q)
    }
}

impl FromStr for Jet {
    type Err = ParseFloatError;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        s.parse().map(Self::constant)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each derivative of a jet is the central difference of the one below it.
    fn check(name: &str, f: fn(Jet) -> Jet, points: &[f64]) {
        for &x in points {
            let h = 1e-5;
            let at = f(Jet::variable(x)).derivatives();
            let (up, down) = (f(Jet::variable(x + h)).derivatives(), f(Jet::variable(x - h)).derivatives());
            for n in 0..3 {
                let difference = (up[n] - down[n]) / (2.0 * h);
                // Step² times a sixth of a derivative two orders up, which for x⁻² at 0.2 is 500 times this one.
                let allowed = 2e-8 * (1.0 + difference.abs());
                assert!((difference - at[n + 1]).abs() < allowed, "{name}({x}) order {}: {difference} {at:?}", n + 1);
            }
        }
    }

    #[test]
    fn derivatives_match_differences() {
        let all = [-2.5, -1.0, -0.1, 0.0, 0.3, 1.9999, 2.0001, 3.0, 17.0];
        let positive = [0.2, 1.0, 3.0];
        check("exp", |x| (Jet::constant(0.3) * x).exp(), &all);
        check("sin", Jet::sin, &all);
        check("cos", Jet::cos, &all);
        check("tanh", Jet::tanh, &all);
        check("sinc", Jet::sinc, &all);
        check("cube", |x| x.pow(Jet::constant(3.0)), &all);
        check("square", |x| x.pow(Jet::constant(2.0)), &all);
        check("first", |x| x.pow(Jet::constant(1.0)), &all);
        check("zeroth", |x| x.pow(Jet::constant(0.0)), &all);
        check("quotient", |x| (x - Jet::constant(1.0)) / (x * x + Jet::constant(1.0)), &all);
        check("negative", |x| -x * x, &all);
        check("ln", Jet::ln, &positive);
        check("sqrt", Jet::sqrt, &positive);
        check("inverse", |x| x.pow(Jet::constant(-2.0)), &positive);
        check("root", |x| x.pow(Jet::constant(1.5)), &positive);
        check("tower", |x| x.pow(x), &positive);
        check("flat", Jet::flat, &[-1.0, -1e-9, 0.0, 1e-4, 0.03, 0.5, 1.0, 3.0]);
    }

    /// No argument, however small, is multiplied to a NaN, and the steps from the smallest values to 0 are none.
    #[test]
    fn flat_ends_in_zeros() {
        for x in [0.0, -0.0, -1.0, 5e-324, 1e-300, 1e-9, 1.0 / 800.0] {
            assert_eq!(Jet::variable(x).flat().derivatives(), [0.0; 4], "{x}");
        }
        let last = Jet::variable(1.0 / 744.0).flat().derivatives();
        assert!(last[0] > 0.0 && last.iter().all(|f| f.abs() < 1e-304), "{last:?}");
        assert_eq!(Jet::variable(1.0).flat().derivatives(), [1.0, 1.0, -1.0, 1.0]);
    }

    #[test]
    fn sinc_is_accurate_near_zero_and_across_the_seam() {
        assert_eq!(sinc_derivatives(0.0), [1.0, 0.0, -1.0 / 3.0, 0.0]);
        // sinc′(x) = −x/3 + O(x³), where the quotient (x cos x − sin x)/x² has lost every digit.
        let [_, s1, _, s3] = sinc_derivatives(1e-9);
        assert!((s1 / (-1e-9 / 3.0) - 1.0).abs() < 1e-14, "{s1}");
        assert!((s3 / (1e-9 / 5.0) - 1.0).abs() < 1e-14, "{s3}");
        let (below, above) = (sinc_derivatives(2.0 - 1e-15), sinc_derivatives(2.0));
        for n in 0..4 {
            assert!((below[n] - above[n]).abs() < 4e-15, "order {n}: {below:?} {above:?}");
        }
    }
}
