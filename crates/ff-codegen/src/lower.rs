//! Expressions to straight-line code: shared subexpressions become `let` bindings, powers become products.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;

use crate::expr::{Expr, FLAT_UNTIL, Func, Number, factors, num, split_coefficient};

/// The variable that changes from edge to edge; what does not depend on it is multiplied first, so that a compiler can
/// take it out of the loop over edges.
pub const DISTANCE: &str = "d";

/// What code is rendered for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// `Lane<S, T>` on this processor.
    Host,
    /// `F: Float` inside a `#[cube]` function.
    Cube,
}

/// Straight-line code for one expression.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Body {
    /// `let` bindings and the result, ready to stand in a function.
    pub code: String,
    /// The variables it reads.
    pub reads: Vec<String>,
    /// Whether it calls into `maths`.
    pub maths: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Op {
    Add,
    Sub,
    Mul,
    Div,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Node {
    /// The bits of an `f64`.
    Num(u64),
    Pi,
    Var(String),
    Neg(usize),
    Bin(Op, usize, usize),
    Call(Func, usize),
    /// The greater of two.
    Max(usize, usize),
    /// `yes` where less < more, else `no`: (less, more, yes, no).
    Select(usize, usize, usize, usize),
}

/// A factor of a product as it is rendered: divisions are kept together, since d/r_c is what formulas mean.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Atom {
    Single(Expr),
    Ratio(Expr, Expr),
}

impl Atom {
    fn varies(&self) -> bool {
        match self {
            Atom::Single(e) => e.contains(DISTANCE),
            Atom::Ratio(a, b) => a.contains(DISTANCE) || b.contains(DISTANCE),
        }
    }
}

type Term = (f64, BTreeMap<Atom, i32>);

/// Which numerator a denominator is paired with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pairing {
    /// One that depends on d: the powers of d/r_c in a polynomial.
    Varying,
    /// One that does not: the frequency π/r_c in a sine.
    Constant,
}

/// A directed acyclic graph of operations in which equal nodes are one; children come before parents.
#[derive(Clone, Debug)]
pub struct Dag {
    nodes: Vec<Node>,
    known: HashMap<Node, usize>,
    pairing: Pairing,
    root: usize,
}

/// Operations of the lowered expression, a division as 4 and a function as 16.
pub fn cost(expr: &Expr) -> usize {
    Dag::new(expr).cost()
}

impl Dag {
    /// Lowers an expression, trying each way to pair divisions and keeping the cheapest.
    pub fn new(expr: &Expr) -> Self {
        let lower = |pairing| {
            let mut dag = Self { nodes: Vec::new(), known: HashMap::new(), pairing, root: 0 };
            dag.root = dag.lower(expr);
            dag
        };
        let (varying, constant) = (lower(Pairing::Varying), lower(Pairing::Constant));
        if constant.cost() < varying.cost() { constant } else { varying }
    }

    fn node(&mut self, node: Node) -> usize {
        if let Some(id) = self.known.get(&node) {
            return *id;
        }
        self.nodes.push(node.clone());
        self.known.insert(node, self.nodes.len() - 1);
        self.nodes.len() - 1
    }

    fn bin(&mut self, op: Op, a: usize, b: usize) -> usize {
        self.node(Node::Bin(op, a, b))
    }

    fn lower(&mut self, expr: &Expr) -> usize {
        match expr {
            Expr::Num(Number(n)) if n.is_sign_negative() && *n != 0.0 => {
                let positive = self.node(Node::Num((-n).to_bits()));
                self.node(Node::Neg(positive))
            }
            Expr::Num(Number(n)) => self.node(Node::Num(n.to_bits())),
            Expr::Pi => self.node(Node::Pi),
            Expr::Var(name) => self.node(Node::Var(name.clone())),
            Expr::Call(func, x) => {
                let x = self.lower(x);
                match func {
                    Func::Flat => self.flat(x),
                    Func::FlatInverse => self.flat_inverse(x),
                    func => self.node(Node::Call(*func, x)),
                }
            }
            Expr::Add(terms) => {
                let terms = terms.iter().map(|t| self.term(t)).collect();
                let (sign, id) = self.sum(terms);
                self.signed(sign, id)
            }
            Expr::Mul(_) | Expr::Pow(..) => {
                let term = self.term(expr);
                let (sign, id) = self.product(term, None);
                self.signed(sign, id)
            }
            Expr::Max(..) => unreachable!("the parser accepts `max` in defaults only, which are never rendered"),
        }
    }

    /// e^(1 − 1/x) where x is above [`FLAT_UNTIL`], else 0. Spelt out rather than called, so that all terms of a derivative share
    /// 1/x and the exponential, and so that the hand-written maths, which every kernel's pass is of, has nothing of it.
    fn flat(&mut self, x: usize) -> usize {
        let inverse = self.flat_inverse(x);
        let [zero, one, until] = [0.0, 1.0, FLAT_UNTIL].map(|n: f64| self.node(Node::Num(n.to_bits())));
        let exponent = self.bin(Op::Sub, one, inverse);
        let exp = self.node(Node::Call(Func::Exp, exponent));
        self.node(Node::Select(until, x, exp, zero))
    }

    fn flat_inverse(&mut self, x: usize) -> usize {
        let [one, until] = [1.0, FLAT_UNTIL].map(|n: f64| self.node(Node::Num(n.to_bits())));
        let x = self.node(Node::Max(x, until));
        self.bin(Op::Div, one, x)
    }

    fn signed(&mut self, negative: bool, id: usize) -> usize {
        if negative { self.node(Node::Neg(id)) } else { id }
    }

    /// A product as a number and atoms, with denominators paired into ratios.
    fn term(&self, expr: &Expr) -> Term {
        let (coefficient, rest) = split_coefficient(expr.clone());
        let all: Vec<(Expr, i32)> = factors(&rest).into_iter().filter(|(base, _)| *base != num(1.0)).collect();
        let (mut above, below): (Vec<_>, Vec<_>) = all.into_iter().partition(|(_, n)| *n > 0);
        // Only plain symbols are paired: dividing a function's value by r_c is no more than a division.
        let pairable = |e: &Expr| matches!(e, Expr::Var(_) | Expr::Pi);
        above.sort_by_key(|(e, _)| (self.pairing == Pairing::Varying) != e.contains(DISTANCE));
        let mut atoms = BTreeMap::new();
        for (denominator, n) in below {
            let mut left = -n;
            for (numerator, m) in above.iter_mut().filter(|(e, _)| pairable(e) && pairable(&denominator)) {
                let take = left.min(*m);
                if take > 0 {
                    *atoms.entry(Atom::Ratio(numerator.clone(), denominator.clone())).or_insert(0) += take;
                    *m -= take;
                    left -= take;
                }
            }
            if left > 0 {
                atoms.insert(Atom::Single(denominator), -left);
            }
        }
        atoms.extend(above.into_iter().filter(|(_, m)| *m > 0).map(|(e, m)| (Atom::Single(e), m)));
        (coefficient, atoms)
    }

    /// A sum by Horner's rule on whichever atom most terms share; returns whether it is negated, and the node.
    fn sum(&mut self, mut terms: Vec<Term>) -> (bool, usize) {
        let mut parts: Vec<(bool, usize)> = Vec::new();
        while !terms.is_empty() {
            let mut uses: BTreeMap<&Atom, usize> = BTreeMap::new();
            for (_, atoms) in &terms {
                for atom in atoms.iter().filter(|(_, n)| **n > 0).map(|(a, _)| a) {
                    *uses.entry(atom).or_insert(0) += 1;
                }
            }
            let most = uses.values().copied().max().unwrap_or(0);
            let atom = uses.into_iter().find(|(_, n)| *n == most && most > 1).map(|(a, _)| a.clone());
            let Some(atom) = atom else {
                for term in terms.drain(..) {
                    parts.push(self.product(term, None));
                }
                break;
            };
            let has = |t: &Term| t.1.get(&atom).is_some_and(|n| *n > 0);
            let (mut group, others): (Vec<Term>, Vec<Term>) = terms.into_iter().partition(has);
            terms = others;
            let least = group.iter().map(|(_, atoms)| atoms[&atom]).min().unwrap_or(1);
            for (_, atoms) in &mut group {
                match atoms[&atom] - least {
                    0 => atoms.remove(&atom),
                    n => atoms.insert(atom.clone(), n),
                };
            }
            let (negative, inner) = self.sum(group);
            let (_, whole) = self.product((1.0, BTreeMap::from([(atom, least)])), Some(inner));
            parts.push((negative, whole));
        }
        // Terms that stand alone first, nested ones after: 1 + x*(3 + …).
        parts.sort_by_key(|(negative, id)| (*negative, !matches!(self.nodes[*id], Node::Num(_))));
        let (negative, mut total) = parts[0];
        for (sign, id) in parts.drain(1..) {
            total = self.bin(if sign == negative { Op::Add } else { Op::Sub }, total, id);
        }
        (negative, total)
    }

    /// A product, with an already lowered last factor if given; returns whether it is negated, and the node.
    fn product(&mut self, (coefficient, atoms): Term, last: Option<usize>) -> (bool, usize) {
        let mut atoms: Vec<(Atom, i32)> = atoms.into_iter().collect();
        atoms.sort_by_key(|(atom, _)| atom.varies());
        let (mut above, mut below): (Vec<usize>, Vec<usize>) = (Vec::new(), Vec::new());
        if coefficient.abs() != 1.0 {
            above.push(self.node(Node::Num(coefficient.abs().to_bits())));
        }
        for (atom, n) in atoms {
            let base = match &atom {
                Atom::Single(e) => self.lower(e),
                Atom::Ratio(a, b) => {
                    let (a, b) = (self.lower(a), self.lower(b));
                    self.bin(Op::Div, a, b)
                }
            };
            let power = self.power(base, n.unsigned_abs());
            if n > 0 { above.push(power) } else { below.push(power) }
        }
        above.extend(last);
        let mut join = |all: Vec<usize>| all.into_iter().reduce(|a, b| self.node(Node::Bin(Op::Mul, a, b)));
        let (above, below) = (join(above), join(below));
        let above = above.unwrap_or_else(|| self.node(Node::Num(1.0f64.to_bits())));
        let id = below.map_or(above, |below| self.bin(Op::Div, above, below));
        (coefficient < 0.0, id)
    }

    /// x^n by squaring, so that the squares can be shared.
    fn power(&mut self, base: usize, n: u32) -> usize {
        match n {
            0 | 1 => base,
            n => {
                let half = self.power(base, n / 2);
                let square = self.bin(Op::Mul, half, half);
                if n % 2 == 0 { square } else { self.bin(Op::Mul, square, base) }
            }
        }
    }

    fn children(&self, id: usize) -> Vec<usize> {
        match &self.nodes[id] {
            Node::Neg(a) | Node::Call(_, a) => vec![*a],
            Node::Bin(_, a, b) | Node::Max(a, b) => vec![*a, *b],
            Node::Select(less, more, yes, no) => vec![*less, *more, *yes, *no],
            Node::Num(_) | Node::Pi | Node::Var(_) => Vec::new(),
        }
    }

    /// How often each node is read, 0 for what the root does not need.
    fn uses(&self) -> Vec<usize> {
        let mut uses = vec![0; self.nodes.len()];
        uses[self.root] = 1;
        for id in (0..self.nodes.len()).rev().filter(|id| *id <= self.root) {
            if uses[id] > 0 {
                for child in self.children(id) {
                    uses[child] += 1;
                }
            }
        }
        uses
    }

    /// Operations; see [`cost`].
    pub fn cost(&self) -> usize {
        let price = |node: &Node| match node {
            Node::Num(_) | Node::Pi | Node::Var(_) => 0,
            Node::Neg(_) | Node::Bin(Op::Add | Op::Sub | Op::Mul, ..) | Node::Max(..) | Node::Select(..) => 1,
            Node::Bin(Op::Div, ..) => 4,
            Node::Call(..) => 16,
        };
        self.nodes.iter().zip(self.uses()).filter(|(_, uses)| *uses > 0).map(|(node, _)| price(node)).sum()
    }

    /// The value of the straight-line code itself, in its own order of operations, each result rounded by `round`.
    pub fn eval(&self, variable: &dyn Fn(&str) -> f64, round: &dyn Fn(f64) -> f64) -> f64 {
        let mut values: Vec<f64> = Vec::with_capacity(self.nodes.len());
        for node in &self.nodes {
            values.push(round(match node {
                Node::Num(bits) => f64::from_bits(*bits),
                Node::Pi => std::f64::consts::PI,
                Node::Var(name) => variable(name),
                Node::Neg(a) => -values[*a],
                Node::Bin(Op::Add, a, b) => values[*a] + values[*b],
                Node::Bin(Op::Sub, a, b) => values[*a] - values[*b],
                Node::Bin(Op::Mul, a, b) => values[*a] * values[*b],
                Node::Bin(Op::Div, a, b) => values[*a] / values[*b],
                Node::Call(func, a) => func.eval(values[*a]),
                Node::Max(a, b) => values[*a].max(values[*b]),
                Node::Select(less, more, yes, no) => values[if values[*less] < values[*more] { *yes } else { *no }],
            }));
        }
        values[self.root]
    }

    /// The code for a target.
    pub fn render(&self, target: Target) -> Body {
        let uses = self.uses();
        // (text, precedence): 1 sums, 2 products, 3 negation, 4 everything that never needs parentheses.
        let mut texts: Vec<(String, u8)> = Vec::with_capacity(self.nodes.len());
        let mut body = Body { code: String::new(), reads: Vec::new(), maths: false };
        let mut lets = 0;
        for (id, node) in self.nodes.iter().enumerate() {
            let wrap = |a: usize, least: u8| {
                let (text, precedence) = &texts[a];
                if *precedence < least { format!("({text})") } else { text.clone() }
            };
            let used = uses[id] > 0;
            let mut text = match node {
                Node::Num(bits) => (literal(f64::from_bits(*bits), target), 4),
                Node::Pi => match target {
                    Target::Host => (format!("{DISTANCE}.lit(std::f64::consts::PI)"), 4),
                    Target::Cube => ("maths::pi::<F>()".to_owned(), 4),
                },
                Node::Var(name) => (name.clone(), 4),
                Node::Neg(a) => (format!("-{}", wrap(*a, 4)), 3),
                Node::Bin(op, a, b) => {
                    let (sign, precedence) = match op {
                        Op::Add => ('+', 1),
                        Op::Sub => ('-', 1),
                        Op::Mul => ('*', 2),
                        Op::Div => ('/', 2),
                    };
                    (format!("{} {sign} {}", wrap(*a, precedence), wrap(*b, precedence + 1)), precedence)
                }
                Node::Call(func, a) => {
                    let turbofish = if target == Target::Cube { "::<F>" } else { "" };
                    (format!("maths::{}{turbofish}({})", func.name(), texts[*a].0), 4)
                }
                Node::Max(a, b) => match target {
                    Target::Host => (format!("{}.max({})", wrap(*a, 4), texts[*b].0), 4),
                    Target::Cube => (format!("max({}, {})", texts[*a].0, texts[*b].0), 4),
                },
                Node::Select(less, more, yes, no) => {
                    let [more, yes, no] = [*more, *yes, *no].map(|id| &texts[id].0);
                    match target {
                        Target::Host => (format!("{}.select_less({more}, {yes}, {no})", wrap(*less, 4)), 4),
                        Target::Cube => (format!("select({} < {more}, {yes}, {no})", texts[*less].0), 4),
                    }
                }
            };
            if used {
                match node {
                    Node::Var(name) if !body.reads.contains(name) => body.reads.push(name.clone()),
                    Node::Num(_) | Node::Pi if target == Target::Host => body.reads.push(DISTANCE.to_owned()),
                    _ => {}
                }
                body.maths |= matches!(node, Node::Call(..)) || (matches!(node, Node::Pi) && target == Target::Cube);
                let leaf = matches!(node, Node::Num(_) | Node::Pi | Node::Var(_));
                if uses[id] > 1 && !leaf {
                    body.code += &format!("let t{lets} = {};\n", text.0);
                    text = (format!("t{lets}"), 4);
                    lets += 1;
                }
            }
            texts.push(text);
        }
        body.code += &texts[self.root].0;
        body
    }
}

fn literal(value: f64, target: Target) -> String {
    let narrow = value as f32;
    match target {
        Target::Host => format!("{DISTANCE}.lit({value:?})"),
        // `Float::new` takes an f32; what that cannot hold is cast from an f64.
        Target::Cube if f64::from(narrow) == value => format!("F::new({narrow:?})"),
        Target::Cube => format!("F::cast_from({value:?}f64)"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::differentiate::derivatives;
    use crate::parse::{Scope, parse};

    fn render(formula: &str, order: usize, target: Target) -> String {
        let scope = Scope { variables: &["d", "r_c", "k", "mu", "gamma"], max: false };
        derivatives(&parse(formula, scope).unwrap(), order + 1).pop().unwrap().render(target).code
    }

    #[test]
    fn shared_subexpressions_are_bound_once() {
        assert_eq!(
            render("exp(-gamma*(d - mu)^2)", 0, Target::Host),
            "let t0 = d - mu;\nmaths::exp(-(gamma * (t0 * t0)))"
        );
    }

    /// One exponential and one division serve all orders of the function, and neither target sees a NaN.
    #[test]
    fn flat_is_spelt_out() {
        assert_eq!(
            render("flat(d)", 0, Target::Cube),
            "select(F::new(0.001953125) < d, maths::exp::<F>(F::new(1.0) - F::new(1.0) / max(d, F::new(0.001953125))), \
             F::new(0.0))"
        );
        assert_eq!(
            render("flat(d)", 1, Target::Host),
            "let t0 = d.lit(1.0) / d.max(d.lit(0.001953125));\n\
             d.lit(0.001953125).select_less(d, maths::exp(d.lit(1.0) - t0), d.lit(0.0)) * (t0 * t0)"
        );
    }

    #[test]
    fn derivatives_stay_short() {
        // By hand: 4γ²t(3 − 2γt²)E.
        assert_eq!(
            render("exp(-gamma*(d - mu)^2)", 3, Target::Cube),
            "let t0 = d - mu;\nlet t1 = t0 * t0;\n\
             F::new(4.0) * (gamma * gamma) * (F::new(3.0) - F::new(2.0) * gamma * t1) * t0 * maths::exp::<F>(-(gamma * t1))"
        );
        // The terms of the product rule meet: −168 x⁵(1 − x)²/r_c.
        let envelope = "(1 - d/r_c)^3*(1 + 3*(d/r_c) + 6*(d/r_c)^2 + 10*(d/r_c)^3 + 15*(d/r_c)^4 + 21*(d/r_c)^5)";
        assert_eq!(
            render(envelope, 1, Target::Cube),
            "let t0 = d / r_c;\nlet t1 = F::new(1.0) - t0;\nlet t2 = t0 * t0;\n\
             -(F::new(168.0) * (t1 * t1) * (t2 * t2 * t0) / r_c)"
        );
    }
}
