//! A formula's value and derivatives in d as straight-line code.

use std::cell::RefCell;

use crate::expr::{Expr, add, call, mul, num, pow};
use crate::lower::{DISTANCE, Dag};
use crate::simplify::simplify;

/// The value and the first `count − 1` derivatives in d.
///
/// Each is found twice and the cheaper kept: once on the formula as it is, where sums may cancel against each other, and
/// once with the sums that functions and powers are taken of as symbols of their own, which keeps u in terms of u.
pub fn derivatives(formula: &Expr, count: usize) -> Vec<Dag> {
    let plain = chain(formula.clone(), count, &|name| num(f64::from(u8::from(name == DISTANCE))));

    let names = Names::default();
    let named = names.replace(formula, false);
    let definitions = names.0.into_inner();
    let named = chain(named, count, &|name| in_distance(name, &definitions));

    plain
        .iter()
        .zip(&named)
        .map(|(plain, named)| {
            let (plain, named) = (Dag::new(plain), Dag::new(&spell_out(named, &definitions)));
            if named.cost() < plain.cost() { named } else { plain }
        })
        .collect()
}

fn chain(formula: Expr, count: usize, variable: &dyn Fn(&str) -> Expr) -> Vec<Expr> {
    let mut all = vec![simplify(&formula)];
    while all.len() < count {
        let last = &all[all.len() - 1];
        all.push(simplify(&last.derivative(variable)));
    }
    all
}

/// dv/dd of a variable or symbol.
fn in_distance(name: &str, definitions: &[Expr]) -> Expr {
    match symbol(name, definitions) {
        Some(definition) => definition.derivative(&|inner| in_distance(inner, definitions)),
        None => num(f64::from(u8::from(name == DISTANCE))),
    }
}

/// What a symbol stands for: the n-th definition for `#n`, which no file can write.
fn symbol<'a>(name: &str, definitions: &'a [Expr]) -> Option<&'a Expr> {
    name.strip_prefix('#').and_then(|n| definitions.get(n.parse::<usize>().ok()?))
}

/// Definitions of symbols.
#[derive(Default)]
struct Names(RefCell<Vec<Expr>>);

impl Names {
    /// Replaces every sum that depends on d and stands `inside` a function or under a power.
    fn replace(&self, expr: &Expr, inside: bool) -> Expr {
        match expr {
            Expr::Add(terms) => {
                let sum = add(terms.iter().map(|t| self.replace(t, inside)));
                if !inside || !expr.contains(DISTANCE) {
                    return sum;
                }
                let mut definitions = self.0.borrow_mut();
                let index = definitions.iter().position(|d| *d == sum).unwrap_or_else(|| {
                    definitions.push(sum);
                    definitions.len() - 1
                });
                Expr::Var(format!("#{index}"))
            }
            Expr::Mul(factors) => mul(factors.iter().map(|f| self.replace(f, inside))),
            Expr::Pow(base, n) => pow(self.replace(base, true), *n),
            Expr::Call(func, x) => call(*func, self.replace(x, true)),
            leaf => leaf.clone(),
        }
    }
}

/// Puts definitions back in place of their symbols. Not through the constructors: they would merge a definition into the
/// sum around it, which is what the symbol prevented. Except where sums meet of which one term is left, as of (r − d) − (r + d):
/// to add them up would cancel.
fn spell_out(expr: &Expr, definitions: &[Expr]) -> Expr {
    let all = |inner: &[Expr]| inner.iter().map(|e| spell_out(e, definitions)).collect::<Vec<_>>();
    match expr {
        Expr::Var(name) => match symbol(name, definitions) {
            Some(definition) => spell_out(definition, definitions),
            None => expr.clone(),
        },
        Expr::Add(terms) => {
            let terms = all(terms);
            match add(terms.clone()) {
                Expr::Add(_) => Expr::Add(terms),
                single => single,
            }
        }
        Expr::Mul(factors) => Expr::Mul(all(factors)),
        Expr::Pow(base, n) => Expr::Pow(Box::new(spell_out(base, definitions)), *n),
        Expr::Call(func, x) => Expr::Call(*func, Box::new(spell_out(x, definitions))),
        leaf => leaf.clone(),
    }
}
