//! What `minimize` is asked for.

use clap::Args;

use crate::commands::md::args::RunArgs;

/// `minimize`.
#[derive(Debug, Args)]
pub struct MinimizeArgs {
    /// What moves, and what is written.
    #[command(flatten)]
    pub run: RunArgs,
    /// Steps at most.
    #[arg(long, default_value_t = 1000)]
    pub steps: u64,
    /// The largest force at rest, eV/Å.
    #[arg(long, value_name = "FORCE", default_value_t = 0.01)]
    pub fmax: f64,
    /// Relax the cell too.
    #[arg(long)]
    pub cell: bool,
    /// Pressure on a cell that relaxes.
    #[arg(long, value_name = "BAR", default_value_t = 0.0, requires = "cell", allow_negative_numbers = true)]
    pub pressure_bar: f64,
}
