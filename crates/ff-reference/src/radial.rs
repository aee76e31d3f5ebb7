//! Radial basis and cutoff functions, evaluated from their formulas.
//!
//! A formula is text over `d` (distance, Å), `r_c` (cutoff radius, Å), `k` (1-based index of the basis function),
//! `n_basis` and its own parameters, with `pi`, `+ - * / ^` and `exp sin cos tanh sqrt ln sinc flat`; the defaults
//! of parameters may also use `max(a, b)`. As in mathematics, −x² is −(x²).

use std::collections::BTreeMap;

use exmex::prelude::*;
use exmex::{BinOp, MakeOperators, MatchLiteral, Operator};

use crate::Jet;
use crate::generated::radial_functions;

/// Every radial function there is, ordered by (kind, name).
pub static RADIAL_FUNCTIONS: &[RadialSpec] = radial_functions::RADIAL_FUNCTIONS;

/// What a radial function is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RadialKind {
    /// One of K functions φ_k(d) that a filter is expanded in.
    Basis,
    /// f_c(d), which falls to zero with zero slope at r_c.
    Cutoff,
}

impl RadialKind {
    /// The lower-case name.
    pub fn name(self) -> &'static str {
        match self {
            RadialKind::Basis => "basis",
            RadialKind::Cutoff => "cutoff",
        }
    }
}

/// A parameter of a radial function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParameterSpec {
    /// Its name in the formula.
    pub name: &'static str,
    /// Whether there is one value for each of the K functions, or one for all.
    pub per_basis: bool,
    /// Formula of its default in `r_c`, `k` and `n_basis`.
    pub default: &'static str,
    /// Meaning and unit.
    pub doc: &'static str,
}

impl ParameterSpec {
    /// How many values it has for K functions.
    pub fn len_for(&self, n_basis: usize) -> usize {
        if self.per_basis { n_basis } else { 1 }
    }
}

/// A radial function as its data file declares it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RadialSpec {
    /// Its name in variant ids.
    pub name: &'static str,
    /// Basis or cutoff.
    pub kind: RadialKind,
    /// The formula.
    pub formula: &'static str,
    /// Where it is from.
    pub source: &'static str,
    /// Its parameters.
    pub parameters: &'static [ParameterSpec],
}

/// A radial function that is unknown, cannot be read or lacks parameters.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RadialError {
    /// No function of that name and kind.
    #[error("unknown {} `{found}`, the nearest known is `{nearest}`; known are {known}", kind.name())]
    Unknown {
        /// What was looked for.
        kind: RadialKind,
        /// The name given.
        found: String,
        /// The known name most like it.
        nearest: &'static str,
        /// Every known name of that kind.
        known: String,
    },
    /// A formula that cannot be read in only one way.
    #[error("formula `{formula}` of `{function}`: {message}")]
    Formula {
        /// The radial function.
        function: String,
        /// Its formula or the default of a parameter.
        formula: String,
        /// What is wrong.
        message: String,
    },
    /// A formula names a variable it has not.
    #[error("formula `{formula}` of `{function}` uses `{found}`, expected one of {expected}")]
    Variable {
        /// The radial function.
        function: String,
        /// Its formula or the default of a parameter.
        formula: String,
        /// The variable.
        found: String,
        /// The variables there are.
        expected: String,
    },
    /// A missing, surplus or mis-sized parameter.
    #[error("radial function `{function}` has parameters [{found}], expected [{expected}]")]
    Parameters {
        /// The radial function.
        function: String,
        /// Expected names and lengths.
        expected: String,
        /// Given names and lengths.
        found: String,
    },
}

/// The declared function of a name and kind.
///
/// # Errors
/// [`RadialError::Unknown`].
pub fn find(name: &str, kind: RadialKind) -> Result<&'static RadialSpec, RadialError> {
    let of_kind = || RADIAL_FUNCTIONS.iter().filter(move |spec| spec.kind == kind);
    of_kind().find(|spec| spec.name == name).ok_or_else(|| RadialError::Unknown {
        kind,
        found: name.to_owned(),
        nearest: of_kind()
            .map(|spec| spec.name)
            .max_by(|a, b| strsim::jaro_winkler(a, name).total_cmp(&strsim::jaro_winkler(b, name)))
            .unwrap_or("none"),
        known: of_kind().map(|spec| format!("`{}`", spec.name)).collect::<Vec<_>>().join(", "),
    })
}

/// The default parameters of a radial function for a cutoff radius in Å and K functions: length K where the parameter
/// is declared per function, else 1.
///
/// # Errors
/// [`RadialError`] for an unknown name or a default that cannot be read.
pub fn default_parameters(
    name: &str,
    kind: RadialKind,
    r_c: f64,
    n_basis: usize,
) -> Result<BTreeMap<String, Vec<f64>>, RadialError> {
    let spec = find(name, kind)?;
    let mut defaults = BTreeMap::new();
    for parameter in spec.parameters {
        let formula = Formula::parse(name, parameter.default, &["r_c", "k", "n_basis"])?;
        let value = |k: usize| formula.eval(&[r_c, k as f64, n_basis as f64].map(Jet::constant)).value();
        defaults.insert(parameter.name.to_owned(), (1..=parameter.len_for(n_basis)).map(value).collect());
    }
    Ok(defaults)
}

/// A radial function with its formula compiled.
#[derive(Clone, Debug)]
pub struct RadialFunction<'s> {
    spec: &'s RadialSpec,
    formula: Formula,
}

impl<'s> RadialFunction<'s> {
    /// Compiles the formula.
    ///
    /// # Errors
    /// [`RadialError::Formula`] or [`RadialError::Variable`].
    pub fn new(spec: &'s RadialSpec) -> Result<Self, RadialError> {
        let mut variables = vec!["d", "r_c", "k", "n_basis"];
        variables.extend(spec.parameters.iter().map(|p| p.name));
        Ok(Self { spec, formula: Formula::parse(spec.name, spec.formula, &variables)? })
    }

    /// Fixes everything but the distance and the index, so that many evaluations share one lookup.
    ///
    /// # Errors
    /// [`RadialError::Parameters`] where `parameters` are not exactly the declared ones.
    pub fn bind(
        self,
        r_c: f64,
        n_basis: usize,
        parameters: &BTreeMap<String, Vec<f64>>,
    ) -> Result<BoundRadial, RadialError> {
        let expected: BTreeMap<&str, usize> =
            self.spec.parameters.iter().map(|p| (p.name, p.len_for(n_basis))).collect();
        let found: BTreeMap<&str, usize> = parameters.iter().map(|(name, v)| (name.as_str(), v.len())).collect();
        if expected != found {
            let list = |m: BTreeMap<&str, usize>| {
                m.iter().map(|(name, len)| format!("{name}: {len}")).collect::<Vec<_>>().join(", ")
            };
            return Err(RadialError::Parameters {
                function: self.spec.name.to_owned(),
                expected: list(expected),
                found: list(found),
            });
        }
        let rows = (0..n_basis.max(1))
            .map(|k| {
                let mut row = vec![0.0, r_c, (k + 1) as f64, n_basis as f64];
                row.extend(self.spec.parameters.iter().map(|p| {
                    let values = &parameters[p.name];
                    values.get(if p.per_basis { k } else { 0 }).copied().unwrap_or(f64::NAN)
                }));
                row.into_iter().map(Jet::constant).collect()
            })
            .collect();
        Ok(BoundRadial { formula: self.formula, rows })
    }

    /// φ_k(d) and its first three derivatives in d: `k` counts from 1, `d` and `r_c` are in Å.
    ///
    /// # Errors
    /// As [`RadialFunction::bind`], which see for many evaluations.
    pub fn jet(
        &self,
        d: f64,
        r_c: f64,
        k: usize,
        n_basis: usize,
        parameters: &BTreeMap<String, Vec<f64>>,
    ) -> Result<[f64; 4], RadialError> {
        Ok(self.clone().bind(r_c, n_basis, parameters)?.jet(d, k))
    }
}

/// A radial function with its parameters.
#[derive(Clone, Debug)]
pub struct BoundRadial {
    formula: Formula,
    /// The values of the variables for each k, the first of them (d) to be filled in.
    rows: Vec<Vec<Jet>>,
}

impl BoundRadial {
    /// φ_k(d) and its first three derivatives in d, in Å and 1/Åⁿ; `k` counts from 1 and is at most K.
    pub fn jet(&self, d: f64, k: usize) -> [f64; 4] {
        self.formula.eval_at(d, &self.rows[k - 1]).derivatives()
    }
}

/// A parsed formula and, for each of its variables in exmex's (alphabetical) order, the caller's index of it.
#[derive(Clone, Debug)]
struct Formula {
    expression: FlatEx<Jet, JetOperators, NumberLiteral>,
    order: Vec<usize>,
}

impl Formula {
    fn parse(function: &str, text: &str, variables: &[&str]) -> Result<Self, RadialError> {
        let formula_error =
            |message| RadialError::Formula { function: function.to_owned(), formula: text.to_owned(), message };
        let normal = normalise(text).map_err(formula_error)?;
        let expression = FlatEx::parse(&normal).map_err(|e| formula_error(e.to_string()))?;
        let index = |name: &String| {
            variables.iter().position(|v| v == name).ok_or_else(|| RadialError::Variable {
                function: function.to_owned(),
                formula: text.to_owned(),
                found: name.clone(),
                expected: variables.join(", "),
            })
        };
        let order = expression.var_names().iter().map(index).collect::<Result<_, _>>()?;
        Ok(Self { expression, order })
    }

    fn eval(&self, values: &[Jet]) -> Jet {
        self.eval_ordered(self.order.iter().map(|&i| values[i]))
    }

    /// With the first variable being the distance, in which derivatives are taken.
    fn eval_at(&self, d: f64, values: &[Jet]) -> Jet {
        self.eval_ordered(self.order.iter().map(|&i| if i == 0 { Jet::variable(d) } else { values[i] }))
    }

    fn eval_ordered(&self, values: impl Iterator<Item = Jet>) -> Jet {
        // The only failure is a wrong number of variables, and `order` has one entry for each of the expression's.
        self.expression.eval_iter(values).expect("one value per variable")
    }
}

/// Rewrites a formula so that exmex reads it as mathematics does.
///
/// exmex binds a sign tighter than a power (`-x^2` is (−x)²) and chains powers to the left. A leading sign therefore
/// becomes `0-`, and what would still differ is refused.
fn normalise(text: &str) -> Result<String, String> {
    let mut out = String::with_capacity(text.len() + 8);
    let mut previous = '(';
    let mut powers = vec![false];
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c.is_whitespace() {
            continue;
        }
        let starts_operand = matches!(previous, '(' | ',');
        match c {
            '+' | '-' if starts_operand => out.push('0'),
            '+' | '-' if matches!(previous, '+' | '-' | '*' | '/') => {
                return Err(format!("`{c}` follows `{previous}`, expected parentheses around the signed term"));
            }
            '^' if powers.last() == Some(&true) => {
                return Err("a power of a power, expected parentheses around one of them".to_owned());
            }
            _ => {}
        }
        match c {
            '(' => powers.push(false),
            ')' => {
                powers.pop();
            }
            '^' => powers.iter_mut().next_back().into_iter().for_each(|p| *p = true),
            '+' | '-' if previous == '^' => {}
            '+' | '-' | '*' | '/' | ',' => powers.iter_mut().next_back().into_iter().for_each(|p| *p = false),
            _ => {}
        }
        out.push(c);
        previous = c;
        if c.is_ascii_digit() || c == '.' {
            // A literal is copied whole: the sign of its exponent is no operator.
            let mut last = c;
            while let Some(&next) = chars.peek() {
                let exponent_sign = matches!(next, '+' | '-') && matches!(last, 'e' | 'E');
                if !(next.is_ascii_digit() || matches!(next, '.' | 'e' | 'E') || exponent_sign) {
                    break;
                }
                out.push(next);
                last = next;
                chars.next();
            }
        } else if c.is_alphabetic() || c == '_' {
            // So is a name, which may contain digits.
            while let Some(next) = chars.next_if(|n| n.is_alphanumeric() || *n == '_') {
                out.push(next);
            }
        }
    }
    Ok(out)
}

/// Decimal literals with an optional exponent.
#[derive(Clone, Debug)]
struct NumberLiteral;

impl MatchLiteral for NumberLiteral {
    fn is_literal(text: &str) -> Option<&str> {
        let bytes = text.as_bytes();
        let digits = |from: usize| bytes[from..].iter().take_while(|b| b.is_ascii_digit() || **b == b'.').count();
        let mantissa = digits(0);
        if mantissa == 0 {
            return None;
        }
        let mut end = mantissa;
        if matches!(bytes.get(end), Some(b'e' | b'E')) {
            let sign = usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-')));
            let exponent = digits(end + 1 + sign);
            if exponent > 0 {
                end += 1 + sign + exponent;
            }
        }
        Some(&text[..end])
    }
}

/// The operators of formulas, over jets.
#[derive(Clone, Debug)]
struct JetOperators;

impl MakeOperators<Jet> for JetOperators {
    fn make<'a>() -> Vec<Operator<'a, Jet>> {
        let binary = |apply, prio, is_commutative| BinOp { apply, prio, is_commutative };
        vec![
            Operator::make_bin("^", binary(|a: Jet, b| a.pow(b), 4, false)),
            Operator::make_bin("/", binary(|a, b| a / b, 3, false)),
            Operator::make_bin("*", binary(|a, b| a * b, 2, true)),
            Operator::make_bin_unary("-", binary(|a, b| a - b, 1, false), |a| -a),
            Operator::make_bin_unary("+", binary(|a, b| a + b, 0, true), |a| a),
            Operator::make_bin("max", binary(Jet::max, 0, true)),
            Operator::make_unary("exp", Jet::exp),
            Operator::make_unary("sin", Jet::sin),
            Operator::make_unary("cos", Jet::cos),
            Operator::make_unary("tanh", Jet::tanh),
            Operator::make_unary("sqrt", Jet::sqrt),
            Operator::make_unary("ln", Jet::ln),
            Operator::make_unary("sinc", Jet::sinc),
            Operator::make_unary("flat", Jet::flat),
            Operator::make_constant("pi", Jet::constant(std::f64::consts::PI)),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const R_C: f64 = 5.0;
    const K: usize = 7;

    fn bound(spec: &'static RadialSpec) -> BoundRadial {
        let parameters = default_parameters(spec.name, spec.kind, R_C, K).unwrap();
        RadialFunction::new(spec).unwrap().bind(R_C, K, &parameters).unwrap()
    }

    #[test]
    fn every_function_is_declared_in_order() {
        let keys: Vec<_> = RADIAL_FUNCTIONS.iter().map(|s| (s.kind, s.name)).collect();
        assert!(keys.is_sorted(), "{keys:?}");
        assert!(keys.iter().any(|(kind, _)| *kind == RadialKind::Basis));
        assert!(keys.iter().any(|(kind, _)| *kind == RadialKind::Cutoff));
    }

    #[test]
    fn derivatives_match_differences() {
        for spec in RADIAL_FUNCTIONS {
            let f = bound(spec);
            for k in 1..=K {
                for d in [0.01, 0.5, 1.3, 2.7, 4.0, 4.99] {
                    let h = 1e-5;
                    let (at, up, down) = (f.jet(d, k), f.jet(d + h, k), f.jet(d - h, k));
                    for n in 0..3 {
                        let difference = (up[n] - down[n]) / (2.0 * h);
                        // Step² times the fifth derivative, which grows like (kπ/r_c)⁵ ~ 2e3 for the highest function.
                        let allowed = 2e-6 * (1.0 + difference.abs());
                        assert!(
                            (difference - at[n + 1]).abs() < allowed,
                            "{} k={k} d={d} order {}: {difference} against {at:?}",
                            spec.name,
                            n + 1
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn cutoffs_start_at_one_and_end_flat_at_zero() {
        for spec in RADIAL_FUNCTIONS.iter().filter(|s| s.kind == RadialKind::Cutoff) {
            let f = bound(spec);
            let [start, slope, ..] = f.jet(0.0, 1);
            assert!((start - 1.0).abs() < 1e-15 && slope.abs() < 1e-15, "{}: {start} {slope}", spec.name);
            let [end, slope, ..] = f.jet(R_C, 1);
            assert!(end.abs() < 1e-15 && slope.abs() < 1e-15, "{}: {end} {slope}", spec.name);
        }
    }

    #[test]
    fn functions_equal_their_textbook_forms() {
        let pi = std::f64::consts::PI;
        for (name, kind, form) in [
            (
                "cosine",
                RadialKind::Cutoff,
                (|d, _| 0.5 * ((std::f64::consts::PI * d / R_C).cos() + 1.0)) as fn(f64, f64) -> f64,
            ),
            ("polynomial", RadialKind::Cutoff, |d, _| {
                let x: f64 = d / R_C;
                1.0 - 28.0 * x.powi(6) + 48.0 * x.powi(7) - 21.0 * x.powi(8)
            }),
            ("mollifier", RadialKind::Cutoff, |d, _| (1.0 - 1.0 / (1.0 - (d / R_C).powi(2))).exp()),
            ("bessel", RadialKind::Basis, |d, k| (k * std::f64::consts::PI * d / R_C).sin() / d),
            ("gaussian", RadialKind::Basis, |d, k| {
                let spacing = R_C / (K as f64 - 1.0);
                (-0.5 * ((d - (k - 1.0) * spacing) / spacing).powi(2)).exp()
            }),
            ("expnorm", RadialKind::Basis, |d, k| {
                let start = (-5f64).exp();
                let mu = start + (1.0 - start) * (k - 1.0) / (K as f64 - 1.0);
                let beta = (2.0 / K as f64 * (1.0 - start)).powi(-2);
                (-beta * ((-5.0 * d / R_C).exp() - mu).powi(2)).exp()
            }),
        ] {
            let f = bound(find(name, kind).unwrap());
            for k in 1..=K {
                for d in [0.1, 1.0, 2.2, 3.9, 4.9] {
                    let (found, expected) = (f.jet(d, k)[0], form(d, k as f64));
                    assert!((found - expected).abs() < 1e-14, "{name} k={k} d={d}: {found}, expected {expected}");
                }
            }
        }
        // The limit at d = 0, where the quotient has none.
        let bessel = bound(find("bessel", RadialKind::Basis).unwrap());
        assert!((bessel.jet(0.0, 3)[0] - 3.0 * pi / R_C).abs() < 1e-15);
    }

    /// Against Taylor series of exp(1 − 1/(1 − x²)) in decimal arithmetic of 80 digits, at the binary numbers x.
    #[test]
    fn the_mollifier_equals_its_series_up_to_the_cutoff() {
        let spec = find("mollifier", RadialKind::Cutoff).unwrap();
        // A power of two, so that d = x·r_c is exact.
        let r_c = 4.0;
        let f = RadialFunction::new(spec).unwrap().bind(r_c, 1, &BTreeMap::new()).unwrap();
        for (x, expected) in [
            (0.0, [1.0, 0.0, -2.0, 0.0]),
            (0.3, [0.9058322914025679, -0.6563209453466258, -2.577677198304161, -4.074645648036995]),
            (0.7, [0.38259269556636666, -2.0593224674852486, -3.163577163484508, 28.845243209457188]),
            (0.95, [9.549752219557577e-05, -0.019086947236985525, 3.050886601402041, -350.21863852185714]),
            (0.99, [4.078037078607729e-22, -2.0389670502369354e-18, 9.786774052742437e-15, -4.497704108546278e-11]),
            (
                0.999,
                [1.5080842205194566e-217, -7.540419215605474e-212, 3.755127822099986e-206, -1.8625278452827855e-200],
            ),
            // e^(−524288), which no double holds.
            (1.0 - 2f64.powi(-20), [0.0; 4]),
            (1.0, [0.0; 4]),
            (1.5, [0.0; 4]),
        ] {
            let found = f.jet(x * r_c, 1);
            for (n, (found, expected)) in found.into_iter().zip(expected).enumerate() {
                let expected = expected / r_c.powi(n as i32);
                // The exponent is up to 500, whose rounding is multiplied by itself: 500 · 2⁻⁵³ and a few times that.
                let allowed = 1e-12 * f64::abs(expected);
                assert!((found - expected).abs() <= allowed, "x = {x}, order {n}: {found:e}, expected {expected:e}");
            }
        }
    }

    #[test]
    fn defaults_hold_for_one_function() {
        for spec in RADIAL_FUNCTIONS {
            for (name, values) in default_parameters(spec.name, spec.kind, R_C, 1).unwrap() {
                assert_eq!(values.len(), 1, "{} {name}", spec.name);
                assert!(values.iter().all(|v| v.is_finite()), "{} {name} {values:?}", spec.name);
            }
        }
        let mu = &default_parameters("gaussian", RadialKind::Basis, 4.0, 3).unwrap()["mu"];
        assert_eq!(mu, &[0.0, 2.0, 4.0]);
    }

    #[test]
    fn formulas_read_as_mathematics() {
        let at = |text: &str, x: f64| Formula::parse("test", text, &["x"]).map(|f| f.eval(&[Jet::constant(x)]).value());
        for (text, x, expected) in [
            ("-x^2", 3.0, -9.0),
            ("2*(-x^2)", 3.0, -18.0),
            ("x^-2", 2.0, 0.25),
            ("12 - x - 4", 3.0, 5.0),
            ("12 - x + 4", 3.0, 13.0),
            ("24/x/2", 3.0, 4.0),
            ("24/x*2", 3.0, 16.0),
            ("2*x/4*3", 6.0, 9.0),
            ("1.5e-1*x + 2E+1", 2.0, 20.3),
            ("max(x - 1, 1) + max(1, -x)", 5.0, 5.0),
            ("(max(x - 1, 1)/2)^2", 5.0, 4.0),
            ("sinc(x)", 0.0, 1.0),
            ("sin(x) + sinc(x)", 0.0, 1.0),
            ("exp(-(x - 1)^2)", 1.0, 1.0),
        ] {
            let found = at(text, x).unwrap();
            assert!((found - expected).abs() < 1e-14, "{text} at {x}: {found}, expected {expected}");
        }
        for bad in ["x*-x^2", "x^x^2", "x - -x", "y + x", "x +", "foo(x)", "(x"] {
            assert!(at(bad, 1.0).is_err(), "`{bad}` was accepted");
        }
    }

    #[test]
    fn errors_help() {
        let unknown = find("gausian", RadialKind::Basis).unwrap_err().to_string();
        assert!(unknown.contains("nearest known is `gaussian`") && unknown.contains("`bessel`"), "{unknown}");
        let spec = find("gaussian", RadialKind::Basis).unwrap();
        let missing = RadialFunction::new(spec).unwrap().bind(R_C, 3, &BTreeMap::new()).unwrap_err();
        assert_eq!(missing.to_string(), "radial function `gaussian` has parameters [], expected [gamma: 3, mu: 3]");
    }
}
