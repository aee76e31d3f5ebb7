//! Non-linearities between layers.

use serde::{Deserialize, Serialize};

/// A non-linearity σ: between the two layers of an `mlp` filter, and after dense layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// ln(½eˣ + ½), SchNet's.
    ShiftedSoftplus,
    /// tanh x.
    Tanh,
    /// x/(1 + e⁻ˣ).
    Silu,
}

impl Activation {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Silu, Self::ShiftedSoftplus, Self::Tanh];

    /// Its name in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::ShiftedSoftplus => "shifted_softplus",
            Self::Tanh => "tanh",
            Self::Silu => "silu",
        }
    }
}
