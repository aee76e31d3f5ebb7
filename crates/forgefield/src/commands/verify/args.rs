//! What `verify` is asked for.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use ff_spec::Dtype;

use crate::options::RuntimeChoice;

/// How many cases of the catalogue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Cases {
    /// A few small ones.
    Quick,
    /// Every one.
    Full,
}

/// `verify`.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// Check this model (safetensors) in place of kernels.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["op", "variant", "order", "seeds", "cases", "passes"])]
    pub model: Option<PathBuf>,
    /// Frames to check it on, with their labels [default: the model's file with the extension extxyz].
    #[arg(long, value_name = "FILE", requires = "model")]
    pub against: Option<PathBuf>,
    /// Ops to check [default: all].
    #[arg(long, value_delimiter = ',')]
    pub op: Vec<String>,
    /// Variants or families to check [default: all].
    #[arg(long, value_delimiter = ',')]
    pub variant: Vec<String>,
    /// Runtimes to check [default: host and every available one].
    #[arg(long, value_delimiter = ',')]
    pub runtime: Vec<RuntimeChoice>,
    /// Element types to check [default: f32,f64].
    #[arg(long, value_delimiter = ',')]
    pub dtype: Vec<Dtype>,
    /// Derivative orders to check: 0 forward, 1 and 2 backward.
    #[arg(long, value_delimiter = ',', default_value = "0", value_parser = clap::value_parser!(u8).range(0..=2))]
    pub order: Vec<u8>,
    /// Seeds per case; fewer than 3 are no pass.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    pub seeds: u64,
    /// Cases of the catalogue; full contains quick.
    #[arg(long, value_delimiter = ',', default_value = "quick")]
    pub cases: Vec<Cases>,
    /// Also write JUnit XML.
    #[arg(long, value_name = "FILE")]
    pub junit: Option<PathBuf>,
    /// Also write all rows as JSON; `-` for stdout.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Also note in FILE what passed, for `ops`.
    #[arg(long, value_name = "FILE")]
    pub passes: Option<PathBuf>,
}
