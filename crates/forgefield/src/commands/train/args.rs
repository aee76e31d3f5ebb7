//! What `train` is asked for.

use std::path::PathBuf;

use clap::Args;

use crate::options::RuntimeChoice;

/// `train`. What is given beside a CONFIG goes before what stands in it.
#[derive(Debug, Args)]
pub struct TrainArgs {
    /// The training (TOML).
    pub config: Option<PathBuf>,
    /// Frames to fit (extxyz), labelled with energies and forces.
    #[arg(long, value_name = "FILE", num_args = 1..)]
    pub train: Vec<PathBuf>,
    /// Frames to watch and not to fit [default: one in twenty of those to fit, drawn by --seed].
    #[arg(long, value_name = "FILE", num_args = 1..)]
    pub validation: Vec<PathBuf>,
    /// Frames to test the result on.
    #[arg(long, value_name = "FILE", num_args = 1..)]
    pub test: Vec<PathBuf>,
    /// Single atoms with their energies [default: energies of atoms are fitted].
    #[arg(long, value_name = "FILE")]
    pub isolated_atoms: Option<PathBuf>,
    /// Unit of energies in these files: eV, Ha, kcal/mol or kJ/mol.
    #[arg(long, value_name = "UNIT")]
    pub energy_unit: Option<String>,
    /// painn or schnet [default: painn].
    #[arg(long, value_name = "KIND")]
    pub model: Option<String>,
    /// Features F of an atom [default: 128].
    #[arg(long, value_name = "F")]
    pub features: Option<usize>,
    /// Interactions [default: 3].
    #[arg(long, value_name = "L")]
    pub layers: Option<usize>,
    /// Radial basis functions [default: 20].
    #[arg(long, value_name = "K")]
    pub n_basis: Option<usize>,
    /// Cutoff radius in Å [default: 5].
    #[arg(long, value_name = "R")]
    pub cutoff: Option<f64>,
    /// Times that every frame is fitted [default: 200].
    #[arg(long, value_name = "N")]
    pub epochs: Option<u64>,
    /// Frames of a step [default: 10].
    #[arg(long, value_name = "N")]
    pub batch: Option<usize>,
    /// Atoms of a step, at most, in the place of --batch.
    #[arg(long, value_name = "N", conflicts_with = "batch")]
    pub batch_atoms: Option<usize>,
    /// The largest learning rate [default: 0.001].
    #[arg(long, value_name = "RATE")]
    pub rate: Option<f64>,
    /// Seed of weights, split and order of frames [default: 0].
    #[arg(long)]
    pub seed: Option<u64>,
    /// The model's file that is written.
    #[arg(long, short, value_name = "FILE.safetensors")]
    pub output: PathBuf,
    /// Go on from FILE.safetensors.checkpoint where it is there.
    #[arg(long, conflicts_with = "fresh")]
    pub resume: bool,
    /// Begin anew where there is a checkpoint.
    #[arg(long)]
    pub fresh: bool,
    /// Write a JSON line for every epoch to this file, as it runs.
    #[arg(long, value_name = "FILE.jsonl")]
    pub log: Option<PathBuf>,
    /// Draw errors against epochs as an SVG.
    #[arg(long, value_name = "FILE.svg")]
    pub figure: Option<PathBuf>,
    /// Threads that parts of a batch are computed in [default: all]; results do not depend on it.
    #[arg(long, value_name = "N")]
    pub threads: Option<u16>,
    /// Where to run; auto is the host.
    #[arg(long, default_value = "auto")]
    pub runtime: RuntimeChoice,
    /// Print the result as JSON.
    #[arg(long)]
    pub json: bool,
}
