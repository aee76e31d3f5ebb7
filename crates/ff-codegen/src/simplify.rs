//! Cheaper forms of the same expression: common factors out of sums, and sums multiplied out where that is cheaper.
//!
//! Sums are multiplied out only where it saves operations, so a factored formula keeps the accuracy it was written for.

use std::collections::BTreeMap;

use crate::expr::{Expr, add, call, factors, mul, num, pow, split_coefficient};
use crate::lower::cost;

/// More terms than this are not worth multiplying out; it also bounds the work for a formula such as (1 + x)^64.
const MOST_TERMS: usize = 128;

/// The simplified expression.
pub fn simplify(expr: &Expr) -> Expr {
    match expr {
        Expr::Add(terms) => sum(add(terms.iter().map(simplify))),
        Expr::Mul(factors) => mul(factors.iter().map(simplify)),
        Expr::Pow(base, n) => pow(simplify(base), *n),
        Expr::Call(func, x) => call(*func, simplify(x)),
        leaf => leaf.clone(),
    }
}

fn sum(expr: Expr) -> Expr {
    let factored = factor(&expr);
    // The common factors stay outside: multiplying out what is left lets its terms meet.
    let (common, rest): (Vec<Expr>, Vec<Expr>) = match &factored {
        Expr::Mul(all) => all.iter().cloned().partition(|f| !matches!(f, Expr::Add(_))),
        other => (Vec::new(), vec![other.clone()]),
    };
    let [rest @ Expr::Add(terms)] = &rest[..] else { return factored };
    let Some(expanded) = expand(terms).map(|e| factor(&e)).filter(|e| e != rest) else { return factored };
    let expanded = mul(common.into_iter().chain([expanded]));
    if cost(&expanded) < cost(&factored) { expanded } else { factored }
}

/// Takes the factors that all terms share, and their greatest common number, out of a sum.
fn factor(expr: &Expr) -> Expr {
    let Expr::Add(terms) = expr else { return expr.clone() };
    let split: Vec<(f64, BTreeMap<Expr, i32>)> = terms
        .iter()
        .map(|t| {
            let (c, rest) = split_coefficient(t.clone());
            (c, factors(&rest).into_iter().filter(|(base, _)| *base != num(1.0)).collect())
        })
        .collect();
    let mut shared = split[0].1.clone();
    for (_, other) in &split[1..] {
        shared.retain(|base, n| match other.get(base) {
            // Both above or both below the bar: what they share is the exponent nearer to zero.
            Some(m) if m.signum() == n.signum() => {
                *n = n.signum() * n.abs().min(m.abs());
                true
            }
            _ => false,
        });
    }
    let number = greatest_common_number(split.iter().map(|(c, _)| *c));
    let shared: Vec<Expr> = shared.into_iter().map(|(base, n)| pow(base, n)).chain([num(number)]).collect();
    let inverse = pow(mul(shared.clone()), -1);
    let rest = add(terms.iter().map(|t| mul([t.clone(), inverse.clone()])));
    mul(shared.into_iter().chain([rest]))
}

/// The greatest number that all are integer multiples of, where all are multiples of 1/64; else 1.
fn greatest_common_number(all: impl Iterator<Item = f64>) -> f64 {
    let mut gcd = 0u64;
    for c in all {
        let scaled = c.abs() * 64.0;
        if scaled.fract() != 0.0 || scaled >= (1u64 << 52) as f64 {
            return 1.0;
        }
        let (mut a, mut b) = (gcd, scaled as u64);
        while b != 0 {
            (a, b) = (b, a % b);
        }
        gcd = a;
    }
    gcd as f64 / 64.0
}

/// Multiplies out products and powers of sums; `None` where that would be too large.
fn expand(terms: &[Expr]) -> Option<Expr> {
    let mut out = Vec::new();
    for term in terms {
        let mut products = vec![num(1.0)];
        for (base, n) in factors(term) {
            match base {
                Expr::Add(inner) if n > 0 => {
                    for _ in 0..n {
                        let product =
                            add(products.iter().flat_map(|p| inner.iter().map(|t| mul([p.clone(), t.clone()]))));
                        products = match product {
                            Expr::Add(terms) => terms,
                            single => vec![single],
                        };
                        if products.len() > MOST_TERMS {
                            return None;
                        }
                    }
                }
                base => {
                    let factor = pow(base, n);
                    products = products.iter().map(|p| mul([p.clone(), factor.clone()])).collect();
                }
            }
        }
        out.extend(products);
    }
    (out.len() <= MOST_TERMS).then(|| add(out))
}
