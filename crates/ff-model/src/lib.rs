//! SchNet and PaiNN: from their files to energies, forces and stress, without a tape.
//!
//! [`Model::load`] reads and checks a file; [`HostModel`] packs its weights for the host's kernels and predicts.

pub mod batch;
pub mod check;
pub mod config;
pub mod convert;
mod deviation;
mod error;
pub mod file;
pub mod host;
mod model;
pub mod plan;
mod prediction;
mod reference;
pub mod stress;
pub mod units;
pub mod weights;

pub use config::{Config, ConfigError};
pub use deviation::Deviation;
pub use error::ModelError;
pub use file::{FileError, ModelFile};
pub use host::{HostModel, Neighbors};
pub use model::Model;
pub use plan::Plan;
pub use prediction::{Prediction, Raw, Wanted};
pub use reference::Reference;
