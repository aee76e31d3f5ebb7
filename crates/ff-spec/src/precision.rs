//! How the numbers of a model are stored, beside the element type that its arithmetic is in.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A floating-point type of two bytes that numbers are stored in between the parts of a model, and not computed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Storage {
    /// IEEE 754 binary16: eleven significant bits, numbers from 2⁻²⁴ to 65504.
    F16,
    /// The upper half of binary32: eight significant bits, the range of f32.
    Bf16,
}

impl Storage {
    /// Both.
    pub const ALL: [Self; 2] = [Self::F16, Self::Bf16];

    /// The largest relative error of a number that is rounded to it, within its range.
    pub fn epsilon(self) -> f64 {
        match self {
            Self::F16 => 1.0 / f64::from(1 << 11),
            Self::Bf16 => 1.0 / f64::from(1 << 8),
        }
    }
}

/// How the numbers of a model are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// Nothing is stored in less than the element type.
    #[default]
    F32,
    /// Weights, tables and the features between parts in f16; sums and gradients in f32.
    F16,
    /// The same in bf16.
    Bf16,
    /// Weights and inputs of dense layers in eight bits, summed as integers; all else in f32.
    Int8,
}

impl Precision {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::F32, Self::F16, Self::Bf16, Self::Int8];

    /// Its name on the command line and in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
            Self::Int8 => "int8",
        }
    }

    /// What features, weights and tables are stored in, where that is less than the element type.
    pub fn storage(self) -> Option<Storage> {
        match self {
            Self::F32 | Self::Int8 => None,
            Self::F16 => Some(Storage::F16),
            Self::Bf16 => Some(Storage::Bf16),
        }
    }

    /// Whether anything is stored in less than the element type.
    pub fn is_reduced(self) -> bool {
        self != Self::F32
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A name that is not one of [`Precision::ALL`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown precision `{0}`, expected `f32`, `f16`, `bf16` or `int8`")]
pub struct UnknownPrecision(pub String);

impl FromStr for Precision {
    type Err = UnknownPrecision;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|precision| precision.name() == s).ok_or_else(|| UnknownPrecision(s.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        for precision in Precision::ALL {
            assert_eq!(precision.to_string().parse(), Ok(precision));
            assert_eq!(precision.is_reduced(), precision != Precision::default());
        }
        let error = "fp8".parse::<Precision>().unwrap_err().to_string();
        assert!(Precision::ALL.iter().all(|precision| error.contains(precision.name())), "{error}");
    }
}
