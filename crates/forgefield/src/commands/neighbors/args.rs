//! What `neighbors` is asked for.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::options::RuntimeChoice;

/// `neighbors`.
#[derive(Debug, Args)]
pub struct NeighborsArgs {
    /// The structure file (extxyz, PDB).
    pub file: PathBuf,
    /// Cutoff radius in Å.
    #[arg(long)]
    pub cutoff: f64,
    /// Each pair in one direction only.
    #[arg(long)]
    pub half: bool,
    /// How the pairs are printed.
    #[arg(long, default_value = "text")]
    pub format: ListFormat,
    /// Where to run.
    #[arg(long, default_value = "host")]
    pub runtime: RuntimeChoice,
    /// Folder of tuning tables.
    #[arg(long, value_name = "DIR", default_value = "autotune/tables")]
    pub tables: PathBuf,
}

/// How a list is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ListFormat {
    /// Counts, a line per frame.
    Text,
    /// All pairs, a JSON line per frame.
    Json,
}
