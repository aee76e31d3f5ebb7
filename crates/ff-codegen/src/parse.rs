//! Formulas as text to [`Expr`]: a Pratt parser.
//!
//! Written here because the maintained parsers that allow own functions (exmex among them) read `-d^2` as (−d)², which
//! in a formula such as `exp(-d^2)` is a wrong kernel and no error. Where the two agree, tests compare with exmex.

use crate::expr::{Expr, Func, add, call, mul, neg, num, pow, var};
use crate::nearest::nearest;

/// Why a formula cannot be read. Columns count characters from 1.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// A character or word where another was expected.
    #[error("column {column}: expected {expected}, found {found}")]
    Unexpected {
        /// Where.
        column: usize,
        /// What would have been read.
        expected: &'static str,
        /// What stands there.
        found: String,
    },
    /// A name that is no variable here.
    #[error("column {column}: unknown variable `{name}`, expected one of {known}{hint}")]
    UnknownVariable {
        /// Where.
        column: usize,
        /// The name.
        name: String,
        /// The variables that exist.
        known: String,
        /// The nearest of them, as a phrase.
        hint: String,
    },
    /// A name that is no function here.
    #[error("column {column}: unknown function `{name}`, expected one of {known}{hint}")]
    UnknownFunction {
        /// Where.
        column: usize,
        /// The name.
        name: String,
        /// The functions that exist.
        known: String,
        /// The nearest of them, as a phrase.
        hint: String,
    },
    /// An exponent that is no integer.
    #[error("column {column}: expected an integer exponent, found {found}; write exp(n*ln(x)) for a real power")]
    Exponent {
        /// Where.
        column: usize,
        /// What the exponent is.
        found: String,
    },
}

/// What a formula may name.
#[derive(Clone, Copy, Debug)]
pub struct Scope<'a> {
    /// Its variables.
    pub variables: &'a [&'a str],
    /// Whether `max(a, b)` is allowed: in defaults, which are never differentiated.
    pub max: bool,
}

/// Reads a formula.
///
/// # Errors
/// [`ParseError`], with the column.
pub fn parse(text: &str, scope: Scope<'_>) -> Result<Expr, ParseError> {
    let mut parser = Parser { chars: text.chars().collect(), at: 0, scope };
    let expr = parser.sum()?;
    match parser.peek() {
        None => Ok(expr),
        Some(_) => Err(parser.unexpected("an operator or the end")),
    }
}

struct Parser<'a> {
    chars: Vec<char>,
    at: usize,
    scope: Scope<'a>,
}

impl Parser<'_> {
    /// The next character that is not a space.
    fn peek(&mut self) -> Option<char> {
        while self.chars.get(self.at).is_some_and(|c| c.is_whitespace()) {
            self.at += 1;
        }
        self.chars.get(self.at).copied()
    }

    fn eat(&mut self, c: char) -> bool {
        let found = self.peek() == Some(c);
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, c: char, expected: &'static str) -> Result<(), ParseError> {
        if self.eat(c) { Ok(()) } else { Err(self.unexpected(expected)) }
    }

    fn unexpected(&mut self, expected: &'static str) -> ParseError {
        let found = self.peek().map_or_else(|| "the end".to_owned(), |c| format!("`{c}`"));
        ParseError::Unexpected { column: self.at + 1, expected, found }
    }

    fn take_while(&mut self, accept: impl Fn(char) -> bool) -> String {
        let start = self.at;
        while self.chars.get(self.at).is_some_and(|c| accept(*c)) {
            self.at += 1;
        }
        self.chars[start..self.at].iter().collect()
    }

    fn sum(&mut self) -> Result<Expr, ParseError> {
        let mut left = self.product()?;
        loop {
            if self.eat('+') {
                left = add([left, self.product()?]);
            } else if self.eat('-') {
                left = add([left, neg(self.product()?)]);
            } else {
                return Ok(left);
            }
        }
    }

    fn product(&mut self) -> Result<Expr, ParseError> {
        let mut left = self.signed()?;
        loop {
            if self.eat('*') {
                left = mul([left, self.signed()?]);
            } else if self.eat('/') {
                left = mul([left, pow(self.signed()?, -1)]);
            } else {
                return Ok(left);
            }
        }
    }

    /// A sign binds weaker than a power: −x² is −(x²).
    fn signed(&mut self) -> Result<Expr, ParseError> {
        if self.eat('-') {
            Ok(neg(self.signed()?))
        } else if self.eat('+') {
            self.signed()
        } else {
            self.power()
        }
    }

    fn power(&mut self) -> Result<Expr, ParseError> {
        let base = self.atom()?;
        if !self.eat('^') {
            return Ok(base);
        }
        self.peek();
        let column = self.at + 1;
        // Right-associative, as in mathematics: a^b^c is a^(b^c).
        match self.signed()? {
            Expr::Num(n) if n.0.fract() == 0.0 && n.0.abs() <= 64.0 => Ok(pow(base, n.0 as i32)),
            Expr::Num(n) => Err(ParseError::Exponent { column, found: format!("{}", n.0) }),
            _ => Err(ParseError::Exponent { column, found: "an expression".to_owned() }),
        }
    }

    fn atom(&mut self) -> Result<Expr, ParseError> {
        match self.peek() {
            Some('(') => {
                self.at += 1;
                let inner = self.sum()?;
                self.expect(')', "`)`")?;
                Ok(inner)
            }
            Some(c) if c.is_ascii_digit() || c == '.' => {
                let column = self.at + 1;
                let mut text = self.take_while(|c| c.is_ascii_digit() || c == '.');
                if self.chars.get(self.at).is_some_and(|c| matches!(c, 'e' | 'E')) {
                    self.at += 1;
                    text.push('e');
                    if self.chars.get(self.at).is_some_and(|c| matches!(c, '-' | '+')) {
                        text.push(self.chars[self.at]);
                        self.at += 1;
                    }
                    text += &self.take_while(|c| c.is_ascii_digit());
                }
                text.parse().map(num).map_err(|_| ParseError::Unexpected {
                    column,
                    expected: "a number",
                    found: format!("`{text}`"),
                })
            }
            Some(c) if c.is_alphabetic() || c == '_' => {
                let column = self.at + 1;
                let name = self.take_while(|c| c.is_alphanumeric() || c == '_');
                if self.eat('(') { self.function(name, column) } else { self.variable(name, column) }
            }
            _ => Err(self.unexpected("a number, a name or `(`")),
        }
    }

    fn function(&mut self, name: String, column: usize) -> Result<Expr, ParseError> {
        if name == "max" && self.scope.max {
            let a = self.sum()?;
            self.expect(',', "`,` (max takes two arguments)")?;
            let b = self.sum()?;
            self.expect(')', "`)`")?;
            return Ok(Expr::Max(Box::new(a), Box::new(b)));
        }
        let Some(func) = Func::NAMED.into_iter().find(|f| f.name() == name) else {
            let mut known: Vec<&str> = Func::NAMED.iter().map(|f| f.name()).collect();
            if self.scope.max {
                known.push("max");
            }
            let hint = nearest(&name, &known);
            return Err(ParseError::UnknownFunction { column, known: known.join(", "), hint, name });
        };
        let argument = self.sum()?;
        self.expect(')', "`)`")?;
        Ok(call(func, argument))
    }

    fn variable(&mut self, name: String, column: usize) -> Result<Expr, ParseError> {
        if name == "pi" {
            Ok(Expr::Pi)
        } else if self.scope.variables.contains(&name.as_str()) {
            Ok(var(&name))
        } else {
            let mut known = self.scope.variables.to_vec();
            known.push("pi");
            let hint = nearest(&name, &known);
            Err(ParseError::UnknownVariable { column, known: known.join(", "), hint, name })
        }
    }
}
