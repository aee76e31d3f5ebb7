//! What `export` is asked for.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use ff_spec::Dtype;

/// What records are written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ExportFormat {
    /// A cache of Kernel Tuner, for its simulation mode and its dashboard.
    KernelTuner,
    /// Results in the auto-tuning community's schema 1.0.0.
    T4,
    /// A tidy table, compressed.
    Parquet,
    /// A tidy table, text.
    Csv,
    /// Metrics for regression tracking.
    Bencher,
}

/// `export`.
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// The format.
    pub format: ExportFormat,
    /// Records, as `tune` writes them.
    #[arg(required = true, value_name = "RECORDS")]
    pub records: Vec<PathBuf>,
    /// Where it goes: a file, or a folder for several searches.
    #[arg(long, short, value_name = "OUT")]
    pub out: PathBuf,
    /// Ops [default: all].
    #[arg(long, value_delimiter = ',')]
    pub op: Vec<String>,
    /// Variants, by their full ids [default: all].
    #[arg(long, value_delimiter = ',')]
    pub variant: Vec<String>,
    /// Problems [default: all].
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub problem: Vec<String>,
    /// Element types [default: all].
    #[arg(long, value_delimiter = ',')]
    pub dtype: Vec<Dtype>,
}
