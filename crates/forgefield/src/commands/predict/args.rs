//! What `predict` is asked for.

use std::path::PathBuf;

use clap::Args;
use ff_spec::Dtype;

use crate::models::PackArgs;
use crate::options::RuntimeChoice;

/// `predict`.
#[derive(Debug, Args)]
pub struct PredictArgs {
    /// The structure file (extxyz, PDB).
    pub file: PathBuf,
    /// The model (safetensors).
    #[arg(long, value_name = "FILE")]
    pub model: PathBuf,
    /// Write frames with energies, forces and stress to this extxyz file [default: print a table].
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Element type of the evaluation.
    #[arg(long, default_value = "f32")]
    pub dtype: Dtype,
    /// How the model is packed.
    #[command(flatten)]
    pub packing: PackArgs,
    /// Atoms of one call; a larger frame is a call of its own [default: as half of the free memory suffices for].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub batch_atoms: Option<u32>,
    /// Also the energy of each atom.
    #[arg(long)]
    pub per_atom: bool,
    /// No forces, and hence no stress.
    #[arg(long)]
    pub no_forces: bool,
    /// No stress.
    #[arg(long)]
    pub no_stress: bool,
    /// Where to run; auto is the host.
    #[arg(long, default_value = "auto")]
    pub runtime: RuntimeChoice,
    /// Print the result as JSON.
    #[arg(long)]
    pub json: bool,
}
