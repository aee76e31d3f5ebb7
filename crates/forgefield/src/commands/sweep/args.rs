//! What `sweep` is asked for.

use std::path::PathBuf;

use clap::Args;
use ff_tune::Shard;

use crate::options::RuntimeChoice;

/// `sweep`.
#[derive(Debug, Args)]
pub struct SweepArgs {
    /// The description, `sweep.toml`.
    #[arg(value_name = "SWEEP")]
    pub file: PathBuf,
    /// Where to run, in place of what the description says [default without either: auto].
    #[arg(long)]
    pub runtime: Option<RuntimeChoice>,
    /// Leave out what the results hold already.
    #[arg(long)]
    pub resume: bool,
    /// Do share I of N, from 0; rows that take turns stay together.
    #[arg(long, value_name = "I/N")]
    pub shard: Option<Shard>,
    /// Measure nothing; show the rows and what they will take.
    #[arg(long)]
    pub dry_run: bool,
    /// Where the results go [default: the folder of the description].
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Print rows or results as JSON.
    #[arg(long)]
    pub json: bool,
}
