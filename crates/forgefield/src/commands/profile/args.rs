//! What `profile` is asked for.

use std::path::PathBuf;

use clap::Args;
use ff_spec::Dtype;

use crate::models::PackArgs;
use crate::options::RuntimeChoice;

/// `profile`.
#[derive(Debug, Args)]
pub struct ProfileArgs {
    /// The structure file (extxyz, PDB).
    pub file: PathBuf,
    /// The model (safetensors).
    #[arg(long, value_name = "FILE")]
    pub model: PathBuf,
    /// The frame, counted from 1.
    #[arg(long, value_name = "K", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub frame: u32,
    /// Copies of it that are computed by one call.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub repeat: u32,
    /// Element type of the evaluation.
    #[arg(long, default_value = "f32")]
    pub dtype: Dtype,
    /// How the model is packed.
    #[command(flatten)]
    pub packing: PackArgs,
    /// Seconds of rounds; three are taken in any case.
    #[arg(long, default_value_t = 2.0, value_parser = seconds)]
    pub seconds: f64,
    /// Where to run: the parts of a model are timed on the host.
    #[arg(long, default_value = "auto")]
    pub runtime: RuntimeChoice,
    /// Print the result as JSON.
    #[arg(long)]
    pub json: bool,
}

fn seconds(text: &str) -> std::result::Result<f64, String> {
    let found = text.trim_end_matches('s').parse::<f64>().ok().filter(|s| (0.0..=3600.0).contains(s));
    found.ok_or_else(|| format!("`{text}` is no time, expected 0 to 3600 seconds"))
}
