//! Radial functions: one TOML file each, checked and differentiated.

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use crate::differentiate::derivatives;
use crate::expr::{Expr, Func};
use crate::lower::Dag;
use crate::parse::{Scope, parse};
use crate::sources::from_toml;
use crate::{CodegenError, Sources};

/// Derivatives rendered beside the value: two for forces that can be trained, one more for their gradient in d.
pub const ORDERS: usize = 4;

/// Their names in rendered code, by order.
pub const FUNCTION_NAMES: [&str; ORDERS] = ["value", "value_d1", "value_d2", "value_d3"];

/// What a radial function is used as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RadialKind {
    /// φ_k(d).
    Basis,
    /// f_c(d).
    Cutoff,
}

/// A radial function as its file declares it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    kind: RadialKind,
    formula: String,
    source: String,
    doc: String,
    #[serde(default)]
    parameters: IndexMap<String, Parameter>,
}

/// A parameter of a radial function.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parameter {
    /// One value per basis function, else one for all.
    pub per_basis: bool,
    /// Its default as a formula in r_c, n_basis and, where `per_basis`, k.
    pub default: String,
    /// Meaning and unit.
    pub doc: String,
}

/// A radial function that has passed every check, with its derivatives in d.
#[derive(Clone, Debug)]
pub struct Radial {
    /// The name of its file.
    pub name: String,
    /// Path of its file from the workspace root.
    pub path: String,
    /// Basis or cutoff.
    pub kind: RadialKind,
    /// The formula as written.
    pub formula: String,
    /// Where it was published.
    pub source: String,
    /// One line.
    pub doc: String,
    /// Parameters in declared order.
    pub parameters: IndexMap<String, Parameter>,
    /// Value and derivatives as straight-line code.
    pub functions: Vec<Dag>,
    defaults: Vec<Expr>,
}

impl Radial {
    /// Every `bases/*.toml` of an op, bases first, then by name.
    pub fn load_all(sources: &Sources, folder: &str) -> Result<Vec<Self>, CodegenError> {
        let mut all: Vec<Self> = sources
            .in_folder(&format!("{folder}/bases"), "toml")
            .map(|(path, name, text)| Self::load(path, name, text))
            .collect::<Result<_, _>>()?;
        all.sort_by(|a, b| (a.kind, &a.name).cmp(&(b.kind, &b.name)));
        Ok(all)
    }

    /// Reads, differentiates and checks one file.
    pub fn load(path: &str, name: &str, text: &str) -> Result<Self, CodegenError> {
        let file: File = from_toml(path, text)?;
        let first: &[&str] = match file.kind {
            RadialKind::Basis => &["d", "r_c", "k"],
            RadialKind::Cutoff => &["d", "r_c"],
        };
        check_name(path, "file name", name, &[])?;
        let mut variables = first.to_vec();
        for parameter in file.parameters.keys() {
            check_name(path, "parameter", parameter, &["d", "r_c", "k", "n_basis"])?;
            variables.push(parameter);
        }
        let formula = |key: String, text: &str, scope| {
            parse(text, scope).map_err(|error| CodegenError::Formula {
                path: path.to_owned(),
                key,
                error: Box::new(error),
            })
        };
        let expr = formula("formula".to_owned(), &file.formula, Scope { variables: &variables, max: false })?;
        let mut defaults = Vec::new();
        for (name, parameter) in &file.parameters {
            if !expr.contains(name) {
                return Err(CodegenError::UnusedParameter {
                    path: path.to_owned(),
                    name: name.clone(),
                    formula: file.formula,
                });
            }
            let known: &[&str] = if parameter.per_basis { &["r_c", "n_basis", "k"] } else { &["r_c", "n_basis"] };
            let scope = Scope { variables: known, max: true };
            defaults.push(formula(format!("parameters.{name}.default"), &parameter.default, scope)?);
        }
        let radial = Self {
            name: name.to_owned(),
            path: path.to_owned(),
            kind: file.kind,
            formula: file.formula,
            source: file.source,
            doc: file.doc,
            parameters: file.parameters,
            functions: derivatives(&expr, ORDERS),
            defaults,
        };
        radial.check()?;
        Ok(radial)
    }

    /// The arguments of a rendered function in order.
    pub fn arguments(&self) -> impl Iterator<Item = &str> {
        let k = (self.kind == RadialKind::Basis).then_some("k");
        ["d", "r_c"].into_iter().chain(k).chain(self.parameters.keys().map(String::as_str))
    }

    /// The variables of basis function `k` of `n_basis` at distance `d`, with default parameters.
    pub(crate) fn variables(&self, d: f64, r_c: f64, k: usize, n_basis: usize) -> IndexMap<&str, f64> {
        let mut all = IndexMap::from([("d", d), ("r_c", r_c), ("k", k as f64), ("n_basis", n_basis as f64)]);
        for (name, default) in self.parameters.keys().zip(&self.defaults) {
            let value = default.eval(&|v| all[v]);
            all.insert(name, value);
        }
        all
    }

    /// Checks values with default parameters: finite on [0, r_c] and, for a cutoff, 1 at 0 and smooth at r_c.
    fn check(&self) -> Result<(), CodegenError> {
        for r_c in [1.0, 5.0, 12.0] {
            for n_basis in [1usize, 2, 20, 64] {
                for k in [1, n_basis.div_ceil(2), n_basis] {
                    for d in [0.0, 1e-12, 1e-3 * r_c, 0.5 * r_c, r_c] {
                        self.check_at(d, r_c, k, n_basis)?;
                    }
                }
            }
            if self.kind == RadialKind::Cutoff {
                let value = |order: usize, d| self.functions[order].eval(&|v| self.variables(d, r_c, 1, 1)[v], &|x| x);
                // A few roundings of terms of order 1 (of order 100 in the slope's polynomial).
                for (what, found, expected, tolerance) in [
                    ("value at 0", value(0, 0.0), 1.0, 1e-14),
                    ("value at r_c", value(0, r_c), 0.0, 1e-14),
                    ("slope at r_c", value(1, r_c), 0.0, 1e-12),
                ] {
                    if (found - expected).abs() > tolerance {
                        return Err(CodegenError::Cutoff { path: self.path.clone(), what, found, expected, r_c });
                    }
                }
            }
        }
        Ok(())
    }

    fn check_at(&self, d: f64, r_c: f64, k: usize, n_basis: usize) -> Result<(), CodegenError> {
        let variables = self.variables(d, r_c, k, n_basis);
        let at = match self.kind {
            RadialKind::Basis => format!("r_c = {r_c}, k = {k}, n_basis = {n_basis}"),
            RadialKind::Cutoff => format!("r_c = {r_c}"),
        };
        for name in self.parameters.keys() {
            let found = variables[name.as_str()];
            if !found.is_finite() {
                return Err(CodegenError::Default { path: self.path.clone(), name: name.clone(), found, at });
            }
        }
        for (order, function) in self.functions.iter().enumerate() {
            let found = function.eval(&|v| variables[v], &|x| x);
            if !found.is_finite() {
                return Err(CodegenError::Singular {
                    path: self.path.clone(),
                    formula: self.formula.clone(),
                    what: ["value", "first derivative", "second derivative", "third derivative"][order],
                    d,
                    found,
                    at,
                });
            }
        }
        Ok(())
    }
}

/// Names become Rust identifiers beside `t0`, `t1`… and function names, in a file name and in variant ids.
fn check_name(path: &str, what: &'static str, name: &str, taken: &[&str]) -> Result<(), CodegenError> {
    let is_let = name.strip_prefix('t').is_some_and(|n| !n.is_empty() && n.chars().all(|c| c.is_ascii_digit()));
    let plain = name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    let reserved = taken.contains(&name)
        || ["pi", "max", "maths", "mod", "radial"].contains(&name)
        || Func::NAMED.iter().any(|f| f.name() == name)
        || KEYWORDS.contains(&name);
    let expected = if !plain {
        "has to be lower-case ASCII letters, digits and `_`, starting with a letter".to_owned()
    } else if is_let {
        "is reserved for the `let` bindings of generated code".to_owned()
    } else if reserved {
        "is reserved, expected another name".to_owned()
    } else {
        return Ok(());
    };
    Err(CodegenError::Name { path: path.to_owned(), what, found: name.to_owned(), expected })
}

/// Rust keywords that could pass for a name.
const KEYWORDS: &[&str] = &[
    "abstract", "as", "async", "await", "become", "box", "break", "const", "continue", "crate", "do", "dyn", "else",
    "enum", "extern", "false", "final", "fn", "for", "gen", "if", "impl", "in", "let", "loop", "macro", "match",
    "move", "mut", "override", "priv", "pub", "ref", "return", "self", "static", "struct", "super", "trait", "true",
    "try", "type", "typeof", "unsafe", "unsized", "use", "virtual", "where", "while", "yield",
];
