use std::io;

use crate::parse::ParseError;

/// Why nothing was generated. Every message names the file that has to change.
#[derive(Debug, thiserror::Error)]
pub enum CodegenError {
    /// A source file cannot be read.
    #[error("cannot read {path}: {error}")]
    Read {
        /// Path from the workspace root.
        path: String,
        /// What the system says.
        error: io::Error,
    },
    /// A source file that must exist does not.
    #[error("{path}: missing, expected {expected}")]
    Missing {
        /// Path from the workspace root.
        path: String,
        /// What it should hold.
        expected: &'static str,
    },
    /// A TOML file does not have the expected form.
    #[error("{path}: {message}{hint}")]
    Toml {
        /// Path from the workspace root.
        path: String,
        /// The parser's message with line and column.
        message: String,
        /// The nearest known key, as a phrase.
        hint: String,
    },
    /// A file or parameter name that generated code could not use.
    #[error("{path}: {what} `{found}` {expected}")]
    Name {
        /// Path from the workspace root.
        path: String,
        /// What is named.
        what: &'static str,
        /// The name.
        found: String,
        /// What a name has to be.
        expected: String,
    },
    /// A formula or default cannot be read.
    #[error("{path}: {key}, {error}")]
    Formula {
        /// Path from the workspace root.
        path: String,
        /// The key that holds it.
        key: String,
        /// Where and why.
        error: Box<ParseError>,
    },
    /// A parameter that its own formula does not use.
    #[error("{path}: parameter `{name}` is declared, expected the formula `{formula}` to use it")]
    UnusedParameter {
        /// Path from the workspace root.
        path: String,
        /// The parameter.
        name: String,
        /// The formula.
        formula: String,
    },
    /// A default that is not a finite number.
    #[error("{path}: parameters.{name}.default is {found} for {at}, expected a finite number")]
    Default {
        /// Path from the workspace root.
        path: String,
        /// The parameter.
        name: String,
        /// The value.
        found: f64,
        /// The values of its variables.
        at: String,
    },
    /// A formula that is infinite or undefined somewhere in [0, r_c].
    #[error(
        "{path}: the {what} of `{formula}` is {found} at d = {d} ({at}), expected a finite value on [0, r_c]; \
         where a sine is divided by its argument, write sinc(x) = sin(x)/x, which is 1 at 0"
    )]
    Singular {
        /// Path from the workspace root.
        path: String,
        /// The formula.
        formula: String,
        /// The value or one of its derivatives.
        what: &'static str,
        /// Distance, Å.
        d: f64,
        /// The value there.
        found: f64,
        /// The values of the other variables.
        at: String,
    },
    /// A cutoff function that does not start at 1 or does not end smoothly at 0.
    #[error("{path}: a cutoff's {what} is {found:e} for r_c = {r_c}, expected {expected}")]
    Cutoff {
        /// Path from the workspace root.
        path: String,
        /// The value or derivative and where.
        what: &'static str,
        /// What it is.
        found: f64,
        /// What it has to be.
        expected: f64,
        /// Cutoff radius, Å.
        r_c: f64,
    },
    /// `variants.toml` asks for what cannot be.
    #[error("{path}: {message}")]
    Variants {
        /// Path from the workspace root.
        path: String,
        /// What was expected and found.
        message: String,
    },
    /// A template that does not render.
    #[error("{path}: {message}")]
    Template {
        /// Path from the workspace root.
        path: String,
        /// The chain of the template engine's messages.
        message: String,
    },
}
