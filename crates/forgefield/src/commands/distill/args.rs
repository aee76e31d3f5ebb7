//! What `distill` is asked for.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use ff_spec::Dtype;
use serde_json::{Map, Value};

use crate::options::RuntimeChoice;

/// `distill`.
#[derive(Debug, Args)]
pub struct DistillArgs {
    /// The structures to label (extxyz, PDB).
    #[arg(value_name = "FILES", required = true)]
    pub files: Vec<PathBuf>,
    /// Who labels them: a model (safetensors), or an ASE calculator as `module:callable`.
    #[arg(long, value_name = "TEACHER")]
    pub teacher: String,
    /// An argument of the callable; a value that is not JSON is text.
    #[arg(long = "teacher-arg", value_name = "KEY=VALUE", value_parser = argument)]
    pub teacher_args: Vec<(String, Value)>,
    /// The labelled frames (extxyz); where it is there it is gone on with.
    #[arg(long, value_name = "FILE")]
    pub labels: PathBuf,
    /// The Python that has ASE and the callable.
    #[arg(long, value_name = "PROGRAM", default_value = "python3")]
    pub python: PathBuf,
    /// Seconds after which a calculator that has not answered is ended [default: none].
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub timeout: Option<Duration>,
    /// Train a student on the labels: its training (TOML, as `train` reads it, without `train` in [data]).
    #[arg(long, value_name = "CONFIG", requires = "output")]
    pub student: Option<PathBuf>,
    /// The student's file that is written.
    #[arg(long, short, value_name = "FILE.safetensors", requires = "student")]
    pub output: Option<PathBuf>,
    /// Rounds before.
    #[command(flatten)]
    pub rounds: RoundArgs,
    /// Element type of a model's evaluation.
    #[arg(long, default_value = "f32")]
    pub dtype: Dtype,
    /// Atoms of one call of a model; a larger frame is a call of its own [default: as half of the free memory suffices for].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub batch_atoms: Option<u32>,
    /// Where a model runs; auto is the host.
    #[arg(long, default_value = "auto")]
    pub runtime: RuntimeChoice,
    /// Print the result as JSON.
    #[arg(long)]
    pub json: bool,
}

/// Rounds in which a committee of students draws structures to label.
#[derive(Clone, Debug, Args)]
pub struct RoundArgs {
    /// Rounds of drawing structures where students disagree, before the student is trained.
    #[arg(long, value_name = "N", default_value_t = 0, requires = "student")]
    pub rounds: u32,
    /// Students of a round, which differ by their seeds.
    #[arg(long, value_name = "K", default_value_t = 3, value_parser = clap::value_parser!(u32).range(2..=100))]
    pub committee: u32,
    /// Temperatures of their dynamics, K.
    #[arg(long, value_name = "K", value_delimiter = ',', default_value = "300,600")]
    pub temperatures: Vec<f64>,
    /// Structures of FILES, drawn by the round, that move at each temperature.
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub starts: usize,
    /// Steps of a trajectory.
    #[arg(long, value_name = "N", default_value_t = 2000)]
    pub md_steps: u64,
    /// Steps from one look at the committee to the next.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..))]
    pub md_every: u64,
    /// Time step, fs.
    #[arg(long, value_name = "FS", default_value_t = 0.5)]
    pub timestep_fs: f64,
    /// Structures that a round adds at most: those of the largest disagreement.
    #[arg(long, value_name = "N", default_value_t = 50)]
    pub draw: usize,
    /// Disagreement about the force on an atom from which a structure is worth labelling, eV/Å.
    #[arg(long, value_name = "FORCE", default_value_t = 0.1)]
    pub least_disagreement: f64,
    /// Disagreement from which a trajectory means nothing and ends, eV/Å.
    #[arg(long, value_name = "FORCE", default_value_t = 3.0)]
    pub most_disagreement: f64,
}

impl DistillArgs {
    /// The arguments of the callable; of a key that is given twice the last.
    pub fn teacher_arguments(&self) -> Map<String, Value> {
        self.teacher_args.iter().cloned().collect()
    }
}

fn argument(text: &str) -> Result<(String, Value), String> {
    let (key, value) = text.split_once('=').filter(|(key, _)| !key.is_empty()).ok_or("expected KEY=VALUE")?;
    let value = serde_json::from_str(value).unwrap_or_else(|_| Value::String(value.to_owned()));
    Ok((key.to_owned(), value))
}

fn seconds(text: &str) -> Result<Duration, String> {
    let found = text.parse::<f64>().ok().filter(|s| *s > 0.0).and_then(|s| Duration::try_from_secs_f64(s).ok());
    found.ok_or_else(|| format!("`{text}` is no time, expected seconds above 0"))
}
