//! Why a model cannot be trained.

use std::path::PathBuf;

use ff_model::config::ConfigError;
use ff_model::{FileError, ModelError};
use ff_nn::NetworkError;

use crate::labels::LabelError;

/// Why a model cannot be trained. Frames are counted from 1.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// A configuration that cannot be read.
    #[error("{place}: {reason}")]
    Config {
        /// The file.
        place: String,
        /// What is wrong.
        reason: String,
    },
    /// A setting that no training has.
    #[error("`{key}` is {found}, expected {expected}")]
    Setting {
        /// Its key.
        key: &'static str,
        /// What it should be.
        expected: String,
        /// What it is.
        found: String,
    },
    /// Frames that are not labelled as they have to be.
    #[error(transparent)]
    Labels(#[from] LabelError),
    /// A frame that cannot be used.
    #[error("{}: frame {frame}: {reason}", path.display())]
    Frame {
        /// The file.
        path: PathBuf,
        /// The frame.
        frame: usize,
        /// What was expected and found.
        reason: String,
    },
    /// Labels that look like those of another unit.
    #[error("frames of data.{what}: {hint}: expected `data.energy_unit` to say it, `{unit}` if that is right")]
    Units {
        /// Which frames.
        what: &'static str,
        /// What was found.
        hint: String,
        /// The unit that they are read in.
        unit: String,
    },
    /// Frames that do not suffice.
    #[error("{what}: expected {expected}, found {found}")]
    Data {
        /// What of the data.
        what: String,
        /// What it should be.
        expected: String,
        /// What it is.
        found: String,
    },
    /// A network that cannot be evaluated.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// A structure that cannot be computed.
    #[error(transparent)]
    Structure(#[from] ModelError),
    /// A model without kernels.
    #[error(transparent)]
    Model(#[from] ConfigError),
    /// A model's file that cannot be read or written.
    #[error(transparent)]
    ModelFile(#[from] FileError),
    /// A checkpoint that this run cannot go on from.
    #[error("{}: {reason}", path.display())]
    Checkpoint {
        /// The file.
        path: PathBuf,
        /// What was expected and found.
        reason: String,
    },
    /// A file that cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}
