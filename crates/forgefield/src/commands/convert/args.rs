//! What `convert` is asked for.

use std::path::PathBuf;

use clap::Args;
use ff_model::units::{Energy, Length};
use ff_spec::Dtype;

/// `convert`.
#[derive(Debug, Args)]
pub struct ConvertArgs {
    /// The model (safetensors).
    pub file: PathBuf,
    /// Where the converted model goes.
    #[arg(long, short, value_name = "FILE")]
    pub output: PathBuf,
    /// Unit of energies: eV, Ha, kcal/mol or kJ/mol [default: as it is].
    #[arg(long, value_name = "UNIT")]
    pub energy_unit: Option<Energy>,
    /// Unit of lengths: Ang, Bohr or nm [default: as it is].
    #[arg(long, value_name = "UNIT")]
    pub length_unit: Option<Length>,
    /// Element type of all tensors [default: as each is].
    #[arg(long)]
    pub dtype: Option<Dtype>,
}
