use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A floating-point element type of tensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dtype {
    /// IEEE 754 binary32.
    F32,
    /// IEEE 754 binary64.
    F64,
}

impl Dtype {
    /// Every dtype the kernels are rendered for.
    pub const ALL: [Dtype; 2] = [Dtype::F32, Dtype::F64];

    /// Bytes of one element.
    pub fn size(self) -> usize {
        match self {
            Dtype::F32 => 4,
            Dtype::F64 => 8,
        }
    }

    /// The lower-case name used on the command line and in files.
    pub fn name(self) -> &'static str {
        match self {
            Dtype::F32 => "f32",
            Dtype::F64 => "f64",
        }
    }

    /// A number as this type holds it: rounded to nearest.
    pub fn round(self, x: f64) -> f64 {
        match self {
            Dtype::F32 => f64::from(x as f32),
            Dtype::F64 => x,
        }
    }
}

/// The same elements in another type, rounded to nearest.
pub(crate) fn cast<T: Scalar, U: Scalar>(values: &[T]) -> Vec<U> {
    values.iter().map(|x| U::from_f64(x.to_f64())).collect()
}

/// The `cast` of types whose `map` changes every element.
macro_rules! cast_by_map {
    ($($tensors:ident),+) => {$(
        impl<T: $crate::Scalar> $tensors<T> {
            /// The same tensors in another dtype, rounded to nearest.
            pub fn cast<U: $crate::Scalar>(&self) -> $tensors<U> {
                self.map(|x| U::from_f64(x.to_f64()))
            }
        }
    )+};
}

pub(crate) use cast_by_map;

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A dtype name that is not one of [`Dtype::ALL`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown dtype `{0}`, expected `f32` or `f64`")]
pub struct UnknownDtype(pub String);

impl FromStr for Dtype {
    type Err = UnknownDtype;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        Dtype::ALL.into_iter().find(|d| d.name() == s).ok_or_else(|| UnknownDtype(s.to_owned()))
    }
}

/// A Rust type that holds one element of a [`Dtype`].
pub trait Scalar: Copy + Default + PartialEq + fmt::Debug + Send + Sync + 'static {
    /// The dtype this type stands for.
    const DTYPE: Dtype;
    /// Rounds to nearest.
    fn from_f64(value: f64) -> Self;
    /// Widens exactly.
    fn to_f64(self) -> f64;
}

impl Scalar for f32 {
    const DTYPE: Dtype = Dtype::F32;
    fn from_f64(value: f64) -> Self {
        value as f32
    }
    fn to_f64(self) -> f64 {
        f64::from(self)
    }
}

impl Scalar for f64 {
    const DTYPE: Dtype = Dtype::F64;
    fn from_f64(value: f64) -> Self {
        value
    }
    fn to_f64(self) -> f64 {
        self
    }
}
