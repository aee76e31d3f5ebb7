//! What a model is, apart from its weights.

use std::fmt;
use std::str::FromStr;

pub use ff_kernels::host::layers::Activation;

use crate::units::{Energy, Length};

/// What metadata or tensors of a model's file say that cannot be, with what was expected and found.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ConfigError {
    /// A value of the metadata.
    #[error("metadata `{key}`: expected {expected}, found {found}")]
    Metadata {
        /// Its key.
        key: &'static str,
        /// What it should be.
        expected: String,
        /// What it is.
        found: String,
    },
    /// A model that is not one of these.
    #[error("a model of kind `{found}`, expected painn or schnet")]
    Kind {
        /// What it says it is.
        found: String,
    },
    /// A tensor that should be there.
    #[error("tensor `{name}` of shape {expected} is missing from a {model}")]
    Missing {
        /// Its name.
        name: String,
        /// Its shape.
        expected: String,
        /// The model, with its layers.
        model: String,
    },
    /// A tensor of another shape.
    #[error("tensor `{name}`: expected shape {expected}, found {found}")]
    Shape {
        /// Its name.
        name: String,
        /// What follows from the metadata.
        expected: String,
        /// What it has.
        found: String,
    },
    /// Values that are not what the metadata says, or not finite.
    #[error("tensor `{name}`[{index}]: expected {expected}, found {found}")]
    Value {
        /// Its name.
        name: String,
        /// Flat index.
        index: usize,
        /// What it should be.
        expected: String,
        /// What it is.
        found: f64,
    },
    /// A tensor that a model of this kind does not have.
    #[error("tensor `{name}` is no part of a {model}: what it would change is not known")]
    Surplus {
        /// Its name.
        name: String,
        /// The model, with its layers.
        model: String,
    },
    /// Something that is defined and not built.
    #[error("{what} is not supported: expected {expected}")]
    Unsupported {
        /// What the model asks for.
        what: String,
        /// What there is.
        expected: String,
    },
}

/// A choice that metadata name.
macro_rules! choice {
    ($(#[$doc:meta])* $type:ident, $key:literal { $($(#[$item:meta])* $variant:ident: $name:literal;)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $type { $($(#[$item])* $variant),* }

        impl $type {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// Its name in metadata.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),* }
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.name())
            }
        }

        impl FromStr for $type {
            type Err = ConfigError;

            fn from_str(text: &str) -> Result<Self, ConfigError> {
                Self::ALL.iter().copied().find(|choice| choice.name() == text).ok_or_else(|| ConfigError::Metadata {
                    key: $key,
                    expected: one_of(Self::ALL.iter().map(|choice| choice.name())),
                    found: quoted(text),
                })
            }
        }
    };
}

choice! {
    /// Which model.
    Kind, "model" {
        /// PaiNN (arXiv 2102.03150).
        Painn: "painn";
        /// SchNet (arXiv 1706.08566).
        Schnet: "schnet";
    }
}

choice! {
    /// Radial basis.
    Basis, "basis" {
        /// exp(−½(d − μ_k)²/w_k²), centres on a grid.
        Gaussian: "gaussian";
        /// exp(−½d²/w_k²), widths on a grid.
        GaussianCentered: "gaussian_centered";
        /// sin(kπd/r_c)/d.
        Bessel: "bessel";
    }
}

choice! {
    /// Cutoff function.
    CutoffFn, "cutoff_fn" {
        /// ½(cos(πd/r_c) + 1).
        Cosine: "cosine";
        /// exp(1 − 1/(1 − (d/r_c)²)).
        Mollifier: "mollifier";
    }
}

choice! {
    /// How energies of atoms make that of a system.
    Aggregation, "aggregation" {
        /// Their sum.
        Sum: "sum";
        /// Their mean.
        Avg: "avg";
    }
}

/// The activation of a name.
pub(crate) fn activation(key: &'static str, text: &str) -> Result<Activation, ConfigError> {
    let all = Activation::ALL;
    all.into_iter().find(|activation| activation.name() == text).ok_or_else(|| ConfigError::Metadata {
        key,
        expected: one_of(all.into_iter().map(Activation::name)),
        found: quoted(text),
    })
}

pub(crate) fn one_of<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.collect::<Vec<_>>().join(" or ")
}

pub(crate) fn quoted(text: &str) -> String {
    format!("`{text}`")
}

/// The layers of the head that makes an energy of an atom's features.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// Widths from the features to 1.
    pub layers: Vec<usize>,
    /// σ after every layer but the last.
    pub activation: Activation,
}

/// A model without its weights, in SchNetPack's terms. Lengths in Å and energies in eV, whatever the file has.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Which model.
    pub kind: Kind,
    /// Features F of an atom.
    pub features: usize,
    /// Channels of SchNet's filters; F of PaiNN.
    pub filters: usize,
    /// Interactions L.
    pub layers: usize,
    /// Radial basis functions K.
    pub n_basis: usize,
    /// Radial basis.
    pub basis: Basis,
    /// Cutoff radius r_c, Å.
    pub cutoff: f64,
    /// Cutoff function.
    pub cutoff_fn: CutoffFn,
    /// σ of the interactions.
    pub activation: Activation,
    /// ε inside PaiNN's norm.
    pub epsilon: f64,
    /// Whether all layers have the filters of one.
    pub shared_filters: bool,
    /// Whether all layers have the weights of one.
    pub shared_interactions: bool,
    /// The head.
    pub head: Head,
    /// How energies of atoms are aggregated.
    pub aggregation: Aggregation,
    /// The unit of energies in the file.
    pub energy_unit: Energy,
    /// The unit of lengths in the file.
    pub length_unit: Length,
    /// Added to the energy of a system per atom, eV.
    pub offset_per_atom: f64,
    /// Atomic numbers that it was trained on; empty where the file does not say.
    pub elements: Vec<u8>,
}

impl Config {
    /// Filters per atom feature: C = parts · filters.
    pub fn parts(&self) -> usize {
        match self.kind {
            Kind::Painn => 3,
            Kind::Schnet => 1,
        }
    }

    /// What it is in a few words.
    pub fn summary(&self) -> String {
        let Self { kind, features, layers, n_basis, basis, cutoff, cutoff_fn, .. } = self;
        format!(
            "{kind} with {layers} interactions, F = {features}, {n_basis} {basis} functions, {cutoff_fn} cutoff at {cutoff} Å"
        )
    }
}
