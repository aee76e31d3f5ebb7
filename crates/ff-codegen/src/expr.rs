//! Symbolic expressions in a normal form: sums of products of integer powers.
//!
//! The constructors [`add`], [`mul`], [`pow`] and [`call`] keep the form, so that equal terms meet and cancel as soon
//! as they are made. Subtraction, division and negation are products with −1 and negative powers.

use std::cmp::Ordering;
use std::collections::BTreeMap;

/// A coefficient, ordered by `total_cmp` so that expressions can be sorted and used as keys.
#[derive(Clone, Copy, Debug)]
pub struct Number(pub f64);

impl Ord for Number {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.total_cmp(&other.0)
    }
}

impl PartialOrd for Number {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Number {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Number {}

/// Up to where `flat` is 0: there e^(1 − 1/x) is below 10⁻²²¹. Above it 1/x and its powers are finite, in f32 as well.
pub const FLAT_UNTIL: f64 = 1.0 / 512.0;

/// A function of one argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Func {
    /// eˣ.
    Exp,
    /// sin x.
    Sin,
    /// cos x.
    Cos,
    /// tanh x.
    Tanh,
    /// √x.
    Sqrt,
    /// Natural logarithm.
    Ln,
    /// The n-th derivative of sin(x)/x; only n = 0 can be written in a formula.
    Sinc(u8),
    /// e^(1 − 1/x) for x > 0, else 0: smooth, and flat at 0, where all derivatives vanish.
    Flat,
    /// 1/x where `flat` is not 0, elsewhere a number that is finite: what derivatives of `flat` have beside it. No formula
    /// can write it.
    FlatInverse,
}

impl Func {
    /// The functions a formula may name.
    pub const NAMED: [Func; 8] =
        [Func::Exp, Func::Sin, Func::Cos, Func::Tanh, Func::Sqrt, Func::Ln, Func::Sinc(0), Func::Flat];

    /// The name in formulas and in the hand-written `maths` modules that rendered code calls; those have no `flat`, which is
    /// rendered in place.
    pub fn name(self) -> &'static str {
        match self {
            Func::Exp => "exp",
            Func::Sin => "sin",
            Func::Cos => "cos",
            Func::Tanh => "tanh",
            Func::Sqrt => "sqrt",
            Func::Ln => "ln",
            Func::Sinc(0) => "sinc",
            Func::Sinc(1) => "sinc_d1",
            Func::Sinc(2) => "sinc_d2",
            Func::Sinc(_) => "sinc_d3",
            Func::Flat => "flat",
            Func::FlatInverse => "flat_inverse",
        }
    }

    /// The value at `x`.
    pub fn eval(self, x: f64) -> f64 {
        match self {
            Func::Exp => x.exp(),
            Func::Sin => x.sin(),
            Func::Cos => x.cos(),
            Func::Tanh => x.tanh(),
            Func::Sqrt => x.sqrt(),
            Func::Ln => x.ln(),
            Func::Sinc(n) => sinc_derivative(n, x),
            Func::Flat if x > FLAT_UNTIL => (1.0 - 1.0 / x).exp(),
            Func::Flat => 0.0,
            Func::FlatInverse => 1.0 / x.max(FLAT_UNTIL),
        }
    }
}

/// The n-th derivative of sin(x)/x = ∫₀¹ cos(xt) dt: its Taylor series where the closed form would cancel.
fn sinc_derivative(n: u8, x: f64) -> f64 {
    if x.abs() < 2.0 {
        // x^(2m) (−1)^m/(2m + 1)! differentiated n times, term by term.
        let n = i32::from(n);
        let mut factorial = 1.0;
        let mut sum = 0.0;
        for m in 0..14 {
            let p = 2 * m;
            if m > 0 {
                factorial *= f64::from(p * (p + 1));
            }
            if p >= n {
                let falling: f64 = (p - n + 1..=p).map(f64::from).product();
                let sign = if m % 2 == 0 { 1.0 } else { -1.0 };
                sum += sign * falling * x.powi(p - n) / factorial;
            }
        }
        sum
    } else {
        let (s, c) = x.sin_cos();
        match n {
            0 => s / x,
            1 => (c - s / x) / x,
            2 => (-s - 2.0 * (c - s / x) / x) / x,
            _ => (-c - 3.0 * (-s - 2.0 * (c - s / x) / x) / x) / x,
        }
    }
}

/// An expression. Built through [`add`], [`mul`], [`pow`] and [`call`], never by its variants.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Expr {
    /// A number.
    Num(Number),
    /// π, kept as a symbol because each target has its own constant for it.
    Pi,
    /// A variable.
    Var(String),
    /// A sum of at least two terms, sorted.
    Add(Vec<Expr>),
    /// A product of at least two factors, sorted; a coefficient comes first.
    Mul(Vec<Expr>),
    /// An integer power other than 0 and 1.
    Pow(Box<Expr>, i32),
    /// A function of one argument.
    Call(Func, Box<Expr>),
    /// The greater of two: in defaults of parameters only, since it has no derivative.
    Max(Box<Expr>, Box<Expr>),
}

/// A number.
pub fn num(value: f64) -> Expr {
    Expr::Num(Number(value))
}

/// A variable.
pub fn var(name: &str) -> Expr {
    Expr::Var(name.to_owned())
}

/// The sum, with equal terms collected.
pub fn add(terms: impl IntoIterator<Item = Expr>) -> Expr {
    let mut collected: BTreeMap<Expr, f64> = BTreeMap::new();
    let mut pending: Vec<Expr> = terms.into_iter().collect();
    while let Some(term) = pending.pop() {
        let (coefficient, rest) = split_coefficient(term);
        match rest {
            // A number in front of a sum is spread over it, or equal terms on both sides would not meet.
            Expr::Add(inner) => pending.extend(inner.into_iter().map(|t| mul([num(coefficient), t]))),
            rest => *collected.entry(rest).or_insert(0.0) += coefficient,
        }
    }
    let mut terms: Vec<Expr> =
        collected.into_iter().filter(|(_, c)| *c != 0.0).map(|(rest, c)| mul([num(c), rest])).collect();
    terms.sort();
    match terms.len() {
        0 => num(0.0),
        1 => terms.swap_remove(0),
        _ => Expr::Add(terms),
    }
}

/// The product, with equal bases collected into powers.
pub fn mul(factors: impl IntoIterator<Item = Expr>) -> Expr {
    let mut coefficient = 1.0;
    let mut collected: BTreeMap<Expr, i32> = BTreeMap::new();
    let mut pending: Vec<Expr> = factors.into_iter().collect();
    while let Some(factor) = pending.pop() {
        match factor {
            Expr::Num(n) => coefficient *= n.0,
            Expr::Mul(inner) => pending.extend(inner),
            Expr::Pow(base, n) => *collected.entry(*base).or_insert(0) += n,
            base => *collected.entry(base).or_insert(0) += 1,
        }
    }
    if coefficient == 0.0 {
        return num(0.0);
    }
    let mut factors: Vec<Expr> = collected.into_iter().filter(|(_, n)| *n != 0).map(|(b, n)| pow(b, n)).collect();
    factors.sort();
    if coefficient != 1.0 {
        factors.insert(0, num(coefficient));
    }
    match factors.len() {
        0 => num(coefficient),
        1 => factors.swap_remove(0),
        _ => Expr::Mul(factors),
    }
}

/// The integer power.
pub fn pow(base: Expr, exponent: i32) -> Expr {
    match (base, exponent) {
        (_, 0) => num(1.0),
        (base, 1) => base,
        (Expr::Num(n), e) => num(n.0.powi(e)),
        (Expr::Pow(inner, n), e) => pow(*inner, n * e),
        (Expr::Mul(factors), e) => mul(factors.into_iter().map(|f| pow(f, e))),
        (base, e) => Expr::Pow(Box::new(base), e),
    }
}

/// The function of `argument`.
pub fn call(func: Func, argument: Expr) -> Expr {
    match argument {
        Expr::Num(n) => num(func.eval(n.0)),
        argument => Expr::Call(func, Box::new(argument)),
    }
}

/// −x.
pub fn neg(x: Expr) -> Expr {
    mul([num(-1.0), x])
}

/// Splits a term into its number and the rest, which is 1 for a number.
pub fn split_coefficient(term: Expr) -> (f64, Expr) {
    match term {
        Expr::Num(n) => (n.0, num(1.0)),
        Expr::Mul(mut factors) => match factors[0] {
            Expr::Num(n) => {
                factors.remove(0);
                (n.0, if factors.len() == 1 { factors.swap_remove(0) } else { Expr::Mul(factors) })
            }
            _ => (1.0, Expr::Mul(factors)),
        },
        term => (1.0, term),
    }
}

/// The factors of a product as (base, exponent); a term that is no product is its own factor.
pub fn factors(term: &Expr) -> Vec<(Expr, i32)> {
    let of = |f: &Expr| match f {
        Expr::Pow(base, n) => ((**base).clone(), *n),
        f => (f.clone(), 1),
    };
    match term {
        Expr::Mul(all) => all.iter().map(of).collect(),
        term => vec![of(term)],
    }
}

impl Expr {
    /// The value where `variable` gives each variable's.
    pub fn eval(&self, variable: &dyn Fn(&str) -> f64) -> f64 {
        match self {
            Expr::Num(n) => n.0,
            Expr::Pi => std::f64::consts::PI,
            Expr::Var(name) => variable(name),
            Expr::Add(terms) => terms.iter().map(|t| t.eval(variable)).sum(),
            Expr::Mul(factors) => factors.iter().map(|f| f.eval(variable)).product(),
            Expr::Pow(base, n) => base.eval(variable).powi(*n),
            Expr::Call(func, x) => func.eval(x.eval(variable)),
            Expr::Max(a, b) => a.eval(variable).max(b.eval(variable)),
        }
    }

    /// Whether the variable occurs.
    pub fn contains(&self, name: &str) -> bool {
        match self {
            Expr::Num(_) | Expr::Pi => false,
            Expr::Var(v) => v == name,
            Expr::Add(all) | Expr::Mul(all) => all.iter().any(|e| e.contains(name)),
            Expr::Pow(x, _) | Expr::Call(_, x) => x.contains(name),
            Expr::Max(a, b) => a.contains(name) || b.contains(name),
        }
    }

    /// The derivative, where `variable` gives each variable's; not yet simplified beyond the normal form.
    ///
    /// # Panics
    /// On `max` and on a fourth derivative of sinc: formulas contain neither.
    pub fn derivative(&self, variable: &dyn Fn(&str) -> Expr) -> Expr {
        match self {
            Expr::Num(_) | Expr::Pi => num(0.0),
            Expr::Var(name) => variable(name),
            Expr::Add(terms) => add(terms.iter().map(|t| t.derivative(variable))),
            Expr::Mul(factors) => add((0..factors.len()).map(|i| {
                mul(factors.iter().enumerate().map(|(j, f)| if i == j { f.derivative(variable) } else { f.clone() }))
            })),
            Expr::Pow(base, n) => mul([num(f64::from(*n)), pow((**base).clone(), n - 1), base.derivative(variable)]),
            Expr::Call(func, x) => {
                let inner = x.derivative(variable);
                let x = || (**x).clone();
                let outer = match func {
                    Func::Exp => self.clone(),
                    Func::Sin => call(Func::Cos, x()),
                    Func::Cos => neg(call(Func::Sin, x())),
                    Func::Tanh => add([num(1.0), neg(pow(self.clone(), 2))]),
                    Func::Sqrt => mul([num(0.5), pow(self.clone(), -1)]),
                    Func::Ln => pow(x(), -1),
                    Func::Sinc(n) => {
                        assert!(*n < 3, "sinc has named derivatives up to the third, asked for one more");
                        call(Func::Sinc(n + 1), x())
                    }
                    Func::Flat => mul([self.clone(), pow(call(Func::FlatInverse, x()), 2)]),
                    // Not where it is constant, but there it is multiplied by 0.
                    Func::FlatInverse => neg(pow(self.clone(), 2)),
                };
                mul([outer, inner])
            }
            Expr::Max(..) => unreachable!("the parser accepts `max` in defaults only"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_normal_form_collects_terms_and_powers() {
        let (x, y) = (var("x"), var("y"));
        assert_eq!(add([x.clone(), y.clone(), x.clone()]), add([y.clone(), mul([num(2.0), x.clone()])]));
        assert_eq!(add([x.clone(), neg(x.clone())]), num(0.0));
        assert_eq!(mul([x.clone(), pow(x.clone(), -1)]), num(1.0));
        assert_eq!(pow(mul([x.clone(), pow(y.clone(), 2)]), 3), mul([pow(x.clone(), 3), pow(y.clone(), 6)]));
        assert_eq!(
            add([num(2.0), neg(add([mul([num(2.0), x.clone()]), num(-1.0)]))]),
            add([num(3.0), mul([num(-2.0), x])])
        );
    }

    #[test]
    fn sinc_derivatives_agree_across_the_branch() {
        for n in 0..4u8 {
            // The branch is at 2; both sides must be the same smooth function, whose slope is at most 1/2.
            let (below, above) = (Func::Sinc(n).eval(2.0 - 1e-9), Func::Sinc(n).eval(2.0 + 1e-9));
            assert!((below - above).abs() < 2e-9, "sinc_d{n}: {below} against {above}");
            let h = 1e-3;
            for x in [0.0, 0.3, 1.9, 2.1, 7.0] {
                let f = |x| Func::Sinc(n).eval(x);
                if n < 3 {
                    let slope = (8.0 * (f(x + h) - f(x - h)) - f(x + 2.0 * h) + f(x - 2.0 * h)) / (12.0 * h);
                    let found = Func::Sinc(n + 1).eval(x);
                    assert!((slope - found).abs() < 1e-10, "sinc_d{} at {x}: {found} against {slope}", n + 1);
                }
            }
        }
    }
}
