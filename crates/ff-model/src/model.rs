//! A model as it was read.

use std::path::Path;

use crate::config::{Config, ConfigError};
use crate::file::{FileError, ModelFile};
use crate::weights::Weights;

/// A model: what it is, and its weights in f64.
#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    config: Config,
    weights: Weights,
}

impl Model {
    /// Reads a file.
    ///
    /// # Errors
    /// [`FileError`], which names the file and what was expected and found in it.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, FileError> {
        let path = path.as_ref();
        let file = ModelFile::read(path)?;
        Self::from_file(&file).map_err(|source| FileError::Config { path: path.to_owned(), source })
    }

    /// Of what a file holds.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn from_file(file: &ModelFile) -> Result<Self, ConfigError> {
        let config = file.config()?;
        let weights = Weights::read(file, &config)?;
        Ok(Self { config, weights })
    }

    /// Of a config and weights that fit it, such as [`Weights::random`] gives.
    pub fn new(config: Config, weights: Weights) -> Self {
        Self { config, weights }
    }

    /// What it is.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Its weights.
    pub fn weights(&self) -> &Weights {
        &self.weights
    }
}
