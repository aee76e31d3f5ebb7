//! The files of models: safetensors with SchNetPack's parameter names, and metadata that says what weights cannot.

mod metadata;
mod tensors;

use std::path::{Path, PathBuf};

pub use metadata::{FORMAT, SCHEMA};
pub use tensors::{StoredDtype, Tensor};

use crate::config::ConfigError;

/// A model's file as it is: metadata and tensors in the order of the file, so that it can be written back byte for byte.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ModelFile {
    /// Keys and values of the metadata.
    pub metadata: Vec<(String, String)>,
    /// Named tensors.
    pub tensors: Vec<Tensor>,
}

/// Why a model's file could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The file system refused.
    #[error("{}: cannot {what} the file: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// `read` or `write`.
        what: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
    /// Not a safetensors file.
    #[error("{}: expected a safetensors file of a model, found {found}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What it is instead.
        found: String,
    },
    /// What its metadata or tensors say cannot be.
    #[error("{}: {source}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: ConfigError,
    },
}

impl ModelFile {
    /// Reads a file.
    ///
    /// # Errors
    /// [`FileError::Io`] and [`FileError::Format`]; a pickle is said to be one.
    pub fn read(path: impl AsRef<Path>) -> Result<Self, FileError> {
        let path = path.as_ref();
        let bytes =
            std::fs::read(path).map_err(|source| FileError::Io { path: path.to_owned(), what: "read", source })?;
        Self::from_bytes(&bytes).map_err(|found| FileError::Format { path: path.to_owned(), found })
    }

    /// Writes a file in one piece: one that was there before is replaced when all is written.
    ///
    /// # Errors
    /// [`FileError::Io`].
    pub fn write(&self, path: impl AsRef<Path>) -> Result<(), FileError> {
        let path = path.as_ref();
        let written = || -> std::io::Result<()> {
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
            let mut builder = tempfile::Builder::new();
            // What any new file has; a temporary one would be its owner's alone.
            #[cfg(unix)]
            builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
            let mut file = builder.tempfile_in(folder)?;
            std::io::Write::write_all(&mut file, &self.to_bytes())?;
            file.persist(path)?;
            Ok(())
        };
        written().map_err(|source| FileError::Io { path: path.to_owned(), what: "write", source })
    }

    /// A value of the metadata.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.metadata.iter().find(|(known, _)| known == key).map(|(_, value)| value.as_str())
    }

    /// Sets a value of the metadata.
    pub fn set(&mut self, key: &str, value: impl Into<String>) {
        let value = value.into();
        match self.metadata.iter_mut().find(|(known, _)| known == key) {
            Some((_, old)) => *old = value,
            None => self.metadata.push((key.to_owned(), value)),
        }
    }

    /// A tensor by its name.
    pub fn tensor(&self, name: &str) -> Option<&Tensor> {
        self.tensors.iter().find(|tensor| tensor.name == name)
    }
}
