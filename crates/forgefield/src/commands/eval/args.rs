//! What `eval` is asked for.

use std::path::PathBuf;

use clap::Args;
use ff_spec::Dtype;

use crate::options::RuntimeChoice;

/// `eval`.
#[derive(Debug, Args)]
pub struct EvalArgs {
    /// The op.
    pub op: String,
    /// The variant.
    #[arg(long)]
    pub variant: String,
    /// Element type of the tensors.
    #[arg(long, default_value = "f32")]
    pub dtype: Dtype,
    /// Where to run.
    #[arg(long, default_value = "auto")]
    pub runtime: RuntimeChoice,
    /// The tensors, safetensors.
    #[arg(long, value_name = "FILE")]
    pub inputs: PathBuf,
    /// Where the outputs go, safetensors.
    #[arg(long, value_name = "FILE")]
    pub outputs: PathBuf,
    /// Gradients in the outputs, safetensors, under their names; asks for those in the inputs, as `grad.*` beside the outputs.
    #[arg(long, value_name = "FILE")]
    pub grad: Option<PathBuf>,
    /// Folder of tuning tables.
    #[arg(long, value_name = "DIR", default_value = "autotune/tables")]
    pub tables: PathBuf,
    /// Print what was run as JSON.
    #[arg(long)]
    pub json: bool,
}
