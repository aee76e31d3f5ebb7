//! What `ops` is asked for.

use std::path::PathBuf;

use clap::Args;

/// `ops`.
#[derive(Debug, Args)]
pub struct OpsArgs {
    /// An op, a family or a variant, to be shown in full.
    pub name: Option<String>,
    /// Print the result as JSON: a list of variants, of what is named with formulas and launch parameters.
    #[arg(long)]
    pub json: bool,
    /// What passed, as `verify --passes` wrote it [default: autotune/passes.json, where it is there].
    #[arg(long, value_name = "FILE")]
    pub passes: Option<PathBuf>,
}
