//! Why dynamics cannot begin or go on.

use std::path::PathBuf;

/// Why dynamics cannot begin or go on. Systems and atoms are counted from 0.
#[derive(Debug, thiserror::Error)]
pub enum MdError {
    /// A setting that means nothing.
    #[error("{name} is {found}, expected {expected}")]
    Setting {
        /// Its name.
        name: &'static str,
        /// What can be set.
        expected: String,
        /// What was.
        found: String,
    },
    /// A system that cannot be moved.
    #[error("system {system} (`{name}`): {reason}")]
    System {
        /// Its number.
        system: usize,
        /// Name of the structure.
        name: String,
        /// What was expected and found.
        reason: String,
    },
    /// A step that led nowhere: the run ends before it.
    #[error("step {step}: system {system} (`{name}`): {reason}")]
    Diverged {
        /// The step that could not be taken.
        step: u64,
        /// The number of the system.
        system: usize,
        /// Name of the structure.
        name: String,
        /// Which atom, which force, which limit.
        reason: String,
    },
    /// The potential has failed, whatever the systems.
    #[error("step {step}: {reason}")]
    Fault {
        /// The step that could not be taken.
        step: u64,
        /// What it said.
        reason: String,
    },
    /// A file that cannot be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A restart file of something else.
    #[error("{}: {reason}", path.display())]
    Restart {
        /// The file.
        path: PathBuf,
        /// What was expected and found.
        reason: String,
    },
}

impl MdError {
    /// Whether the run came to a state that has no next one.
    pub fn is_divergence(&self) -> bool {
        matches!(self, Self::Diverged { .. })
    }
}
