//! What `notebook` is asked for.

use std::path::PathBuf;

use clap::Args;

/// `notebook`.
#[derive(Debug, Args)]
pub struct NotebookArgs {
    /// Folders with README.md, analysis.py, results.jsonl and figures.
    #[arg(required = true, value_name = "EXPERIMENT")]
    pub experiments: Vec<PathBuf>,
    /// Where the notebooks go.
    #[arg(long, value_name = "DIR", default_value = "notebooks-export")]
    pub out: PathBuf,
    /// Write nothing; end with 1 where a notebook is missing, older than what it is made of, or has other outputs.
    #[arg(long)]
    pub check: bool,
    /// Replace notebooks that were edited by hand too.
    #[arg(long, conflicts_with = "check")]
    pub force: bool,
}
