//! Constraints as expressions over named numbers.

use std::collections::BTreeMap;

use exmex::{BinOp, Express, FlatEx, MakeOperators, Operator, ops_factory};

// exmex' own value type gives `/` a higher priority than `*` and `&&` a higher one than `==`, and rounds integer
// quotients: `a * b / c` would be `a * (b / c)`. So the operators are declared here, on reals, with the priorities of C.
// Truth is 1 and 0. Operators with names are unary only, since exmex reads a binary `max` in `max_units_per_cube`.
ops_factory!(
    Operators,
    f64,
    binary("||", 1, |a, b| truth(a != 0.0 || b != 0.0, a, b)),
    binary("&&", 2, |a, b| truth(a != 0.0 && b != 0.0, a, b)),
    binary("==", 3, |a, b| truth(a == b, a, b)),
    binary("!=", 3, |a, b| truth(a != b, a, b)),
    binary("<", 4, |a, b| truth(a < b, a, b)),
    binary("<=", 4, |a, b| truth(a <= b, a, b)),
    binary(">", 4, |a, b| truth(a > b, a, b)),
    binary(">=", 4, |a, b| truth(a >= b, a, b)),
    binary("+", 5, |a, b| a + b),
    Operator::make_bin_unary("-", BinOp { apply: |a, b| a - b, prio: 5, is_commutative: false }, |a| -a),
    binary("*", 6, |a, b| a * b),
    binary("/", 6, |a, b| a / b),
    binary("%", 6, |a, b| a % b),
    Operator::make_unary("next_pow2", next_pow2),
    Operator::make_unary("log2", f64::log2),
    Operator::make_unary("ceil", f64::ceil),
    Operator::make_unary("floor", f64::floor)
);

fn binary<'a>(repr: &'a str, prio: i64, apply: fn(f64, f64) -> f64) -> Operator<'a, f64> {
    // Not declared commutative, which would let exmex reorder operands of one priority: harmless for `+`, wrong beside `-`.
    Operator::make_bin(repr, BinOp { apply, prio, is_commutative: false })
}

/// 1 or 0; an operand that is not a number stays one, so that 1/0-style mistakes are reported and not taken for `false`.
fn truth(value: bool, a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() { f64::NAN } else { f64::from(u8::from(value)) }
}

/// The smallest power of two that is not below `x`; 1 below 1.
fn next_pow2(x: f64) -> f64 {
    if x <= 1.0 { 1.0 } else { x.log2().ceil().exp2() }
}

/// An expression over named numbers, with the operators and priorities of C and `next_pow2`, `log2`, `ceil` and `floor`.
#[derive(Clone, Debug)]
pub struct Expression {
    text: String,
    names: Vec<String>,
    expression: FlatEx<f64, Operators>,
}

impl Expression {
    /// Reads an expression; what it names is the caller's to check.
    ///
    /// # Errors
    /// What about `text` is no expression.
    pub fn parse(text: &str) -> Result<Self, String> {
        // exmex takes `{any text}` for a name and is not meant for other alphabets.
        let allowed = |c: char| c.is_ascii_alphanumeric() || " _.+-*/%<>=!&|()".contains(c);
        if let Some(c) = text.chars().find(|c| !allowed(*c)) {
            return Err(format!("`{text}` has the unexpected character `{c}`"));
        }
        let expression =
            FlatEx::<f64, Operators>::parse(text).map_err(|e| format!("`{text}` is no expression: {}", e.msg()))?;
        Ok(Self { text: text.to_owned(), names: expression.var_names().to_vec(), expression })
    }

    /// The expression as it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What it names, sorted.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Its value where [`Expression::names`] have these values, in their order.
    ///
    /// # Errors
    /// Why it cannot be evaluated.
    pub fn evaluate(&self, arguments: &[f64]) -> Result<f64, String> {
        self.expression.eval(arguments).map_err(|e| format!("`{}` cannot be evaluated: {}", self.text, e.msg()))
    }
}

/// An expression that a configuration must make true.
#[derive(Clone, Debug)]
pub(crate) struct Constraint(Expression);

impl Constraint {
    /// Reads an expression; what it names is the caller's to check.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let expression = Expression::parse(text).map_err(|e| format!("constraint {e}"))?;
        // Only a comparison or a connective of comparisons is a statement; `a + b` is a slip.
        if !["<", ">", "==", "!="].iter().any(|op| text.contains(op)) {
            return Err(format!("constraint `{text}` compares nothing, expected something true or false"));
        }
        Ok(Self(expression))
    }

    /// The expression as it was written.
    pub(crate) fn text(&self) -> &str {
        self.0.text()
    }

    /// What it names, sorted.
    pub(crate) fn names(&self) -> &[String] {
        self.0.names()
    }

    /// Whether it is true for these values.
    pub(crate) fn holds(&self, values: &BTreeMap<String, f64>) -> Result<bool, String> {
        let arguments: Option<Vec<f64>> = self.names().iter().map(|n| values.get(n).copied()).collect();
        self.judge(&arguments.ok_or_else(|| format!("constraint `{}` names something unset", self.text()))?)
    }

    /// Whether it is true where [`Constraint::names`] have these values, in their order.
    pub(crate) fn judge(&self, arguments: &[f64]) -> Result<bool, String> {
        match self.0.evaluate(arguments).map_err(|e| format!("constraint {e}"))? {
            1.0 => Ok(true),
            0.0 => Ok(false),
            x => Err(format!("constraint `{}` is {x}, expected something true or false", self.text())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn priorities_are_those_of_c() {
        let values = BTreeMap::from([("max_units", 8.0), ("b", 3.0), ("floor_b", 2.0)].map(|(k, v)| (k.to_owned(), v)));
        for (text, expected) in [
            ("max_units * b / floor_b == 12", true),
            ("b * max_units / 16 == 1.5", true),
            ("b - floor_b - 1 == 0", true),
            ("max_units / floor_b / 2 == 2", true),
            ("b == 3 && floor_b == 2 || max_units == 0", true),
            ("b == 2 && floor_b == 2 || max_units == 0", false),
            ("b % 2 == 1 && max_units % 2 != 1", true),
            ("1 + 2 * b == 7", true),
            ("(1 + 2) * b == 9", true),
            ("next_pow2(b) == 4 && next_pow2(max_units) == 8 && next_pow2(0) == 1", true),
            ("-b + 3 <= 0", true),
            ("ceil(b / 2) == 2 && floor(b / 2) == 1", true),
        ] {
            assert_eq!(Constraint::parse(text).expect(text).holds(&values), Ok(expected), "{text}");
        }
        assert!(Constraint::parse("b % 0 == 0").expect("parses").holds(&values).is_err());
        for bad in ["", "b <", "b == {x}", "b + 1", "ü == 1", "(b == 1", "b = 1", "b b == 1"] {
            assert!(Constraint::parse(bad).is_err(), "`{bad}` was accepted");
        }
    }
}
