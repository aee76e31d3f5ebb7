//! What changes the generated code of `fused_message`, and its names.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// How a filter, a sender's features and a direction make a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Message {
    /// SchNet's continuous-filter convolution (arXiv 1706.08566, eq. 2): y_i = Σ_j x_j ⊙ W(d_ij).
    Cfconv,
    /// PaiNN's message block (arXiv 2102.03150, eqs. 7 and 8), split in SchNetPack's order (q, r, μ).
    Painn,
}

impl Message {
    /// All messages.
    pub const ALL: [Message; 2] = [Message::Cfconv, Message::Painn];

    /// Filters per feature: C = parts · F.
    pub fn parts(self) -> usize {
        match self {
            Message::Cfconv => 1,
            Message::Painn => 3,
        }
    }

    /// The name used in variant ids.
    pub fn name(self) -> &'static str {
        match self {
            Message::Cfconv => "cfconv",
            Message::Painn => "painn",
        }
    }
}

/// How W(d) is obtained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FilterKind {
    /// W = f_c(d)·(Φ(d) A + b).
    Linear,
    /// W = f_c(d)·(σ(Φ(d) A₁ + b₁) A₂ + b₂).
    Mlp,
    /// Either of the above, sampled into Hermite segments.
    Tabulated,
}

impl FilterKind {
    /// All filters.
    pub const ALL: [FilterKind; 3] = [FilterKind::Linear, FilterKind::Mlp, FilterKind::Tabulated];

    /// The name used in variant ids.
    pub fn name(self) -> &'static str {
        match self {
            FilterKind::Linear => "linear",
            FilterKind::Mlp => "mlp",
            FilterKind::Tabulated => "tabulated",
        }
    }
}

/// How messages are summed into receivers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reduction {
    /// One owner per receiver row: no atomics, the same bits on every run.
    Receiver,
    /// Edges in tiles of equal size, partial sums added atomically.
    EdgeAtomic,
}

impl Reduction {
    /// All reductions.
    pub const ALL: [Reduction; 2] = [Reduction::Receiver, Reduction::EdgeAtomic];

    /// The name used in variant ids.
    pub fn name(self) -> &'static str {
        match self {
            Reduction::Receiver => "receiver",
            Reduction::EdgeAtomic => "edge_atomic",
        }
    }
}

/// What changes the generated code. One variant is one generated file for both targets.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Variant {
    /// Message.
    pub message: Message,
    /// Filter.
    pub filter: FilterKind,
    /// Names of the radial basis and the cutoff; `None` for a tabulated filter, which has them in its table.
    pub radial: Option<(String, String)>,
    /// Reduction.
    pub reduction: Reduction,
}

impl Variant {
    /// The id: `painn_linear_gaussian_cosine_receiver`, `cfconv_tabulated_edge_atomic`.
    pub fn id(&self) -> String {
        match &self.radial {
            Some((basis, cutoff)) => {
                format!("{}_{}_{basis}_{cutoff}_{}", self.message.name(), self.filter.name(), self.reduction.name())
            }
            None => self.family(),
        }
    }

    /// The id without its radial functions: what tuning tables are keyed by.
    pub fn family(&self) -> String {
        format!("{}_{}_{}", self.message.name(), self.filter.name(), self.reduction.name())
    }
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.id())
    }
}

/// A variant id that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "malformed fused_message variant `{found}`, expected <message>_<filter>[_<basis>_<cutoff>]_<reduction> \
     such as `painn_linear_gaussian_cosine_receiver`"
)]
pub struct MalformedVariant {
    /// What was given.
    pub found: String,
}

impl FromStr for Variant {
    type Err = MalformedVariant;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let malformed = || MalformedVariant { found: s.to_owned() };
        let rest = s;
        let message = Message::ALL.into_iter().find(|m| rest.starts_with(m.name())).ok_or_else(malformed)?;
        let rest = rest[message.name().len()..].strip_prefix('_').ok_or_else(malformed)?;
        let filter = FilterKind::ALL.into_iter().find(|m| rest.starts_with(m.name())).ok_or_else(malformed)?;
        let rest = rest[filter.name().len()..].strip_prefix('_').ok_or_else(malformed)?;
        let reduction = Reduction::ALL.into_iter().find(|m| rest.ends_with(m.name())).ok_or_else(malformed)?;
        let radial = match (filter, rest[..rest.len() - reduction.name().len()].strip_suffix('_')) {
            (FilterKind::Tabulated, None) => None,
            (FilterKind::Linear | FilterKind::Mlp, Some(radial)) => {
                let (basis, cutoff) = radial.rsplit_once('_').ok_or_else(malformed)?;
                Some((basis.to_owned(), cutoff.to_owned()))
            }
            _ => return Err(malformed()),
        };
        Ok(Self { message, filter, radial, reduction })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_round_trip() {
        for id in [
            "painn_linear_gaussian_cosine_receiver",
            "cfconv_mlp_expnorm_polynomial_edge_atomic",
            "painn_tabulated_receiver",
            "cfconv_linear_my_basis_cosine_receiver",
        ] {
            assert_eq!(id.parse::<Variant>().map(|v| v.id()), Ok(id.to_owned()));
        }
        for bad in
            ["", "painn", "painn_linear_receiver", "cfconv_tabulated_gaussian_cosine_receiver", "x_linear_a_b_receiver"]
        {
            assert!(bad.parse::<Variant>().is_err(), "{bad} was accepted");
        }
    }
}
