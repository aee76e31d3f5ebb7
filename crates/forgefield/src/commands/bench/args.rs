//! What `bench` is asked for.

use std::path::PathBuf;

use clap::{ArgGroup, Args, ValueEnum};

use crate::options::{RuntimeChoice, percent};

/// What is timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Suite {
    /// The kernels of all ops.
    Kernels,
    /// Energy and forces of a model.
    Models,
}

/// `bench`.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("earlier").args(["compare", "baseline_binary"]).multiple(true))]
pub struct BenchArgs {
    /// What is timed: kernels, or energy and forces of a model.
    #[arg(long, default_value = "kernels")]
    pub suite: Suite,
    /// The model of the suite `models` (safetensors).
    #[arg(long, value_name = "FILE", required_if_eq("suite", "models"))]
    pub model: Option<PathBuf>,
    /// Also the largest systems, up to 100,000 atoms.
    #[arg(long, requires = "model")]
    pub full: bool,
    /// Ops to time [default: all].
    #[arg(long, value_delimiter = ',')]
    pub op: Vec<String>,
    /// Cases to time [default: all].
    #[arg(long, value_delimiter = ',')]
    pub case: Vec<String>,
    /// Structure files (extxyz, PDB) whose first frames are cases too: painn-linear-<name> and painn-tabulated-<name>.
    #[arg(long, value_name = "FILE", num_args = 1..)]
    pub structure: Vec<PathBuf>,
    /// Where to run.
    #[arg(long, default_value = "auto")]
    pub runtime: RuntimeChoice,
    /// Threads of the host runtime [default: all].
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub threads: Option<u16>,
    /// Seconds of samples of one case in one process [default: 2, of several processes 0.3 each].
    #[arg(long, value_parser = seconds)]
    pub seconds: Option<f64>,
    /// Processes that each case is timed in, one after the other [default: 1, with --save and --compare 10].
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..=50), conflicts_with = "baseline_binary")]
    pub processes: Option<u8>,
    /// Folder of tuning tables.
    #[arg(long, value_name = "DIR", default_value = "autotune/tables")]
    pub tables: PathBuf,
    /// Also write inputs and outputs of each case as safetensors, for other programs to be timed on.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["save", "compare", "baseline_binary"])]
    pub export: Option<PathBuf>,
    /// Write all rows and times to FILE, for --compare.
    #[arg(long, value_name = "FILE")]
    pub save: Option<PathBuf>,
    /// Compare with what --save wrote on this machine.
    #[arg(long, value_name = "FILE")]
    pub compare: Option<PathBuf>,
    /// Compare with another forgefield binary, in turns; in place of the times of --compare where both are given.
    #[arg(long, value_name = "PATH")]
    pub baseline_binary: Option<PathBuf>,
    /// The slow-down that has to be caught.
    #[arg(long, default_value = "5%", value_parser = percent, requires = "earlier")]
    pub fail_over: f64,
    /// Count the instructions of every host kernel under callgrind and compare them with this table; ends with 1 where a
    /// count has changed by more than 2 %.
    #[arg(long, value_name = "TABLE", conflicts_with_all = ["op", "case", "structure", "threads", "seconds", "processes", "export", "save", "earlier", "list"])]
    pub instructions: Option<PathBuf>,
    /// Rewrite the table.
    #[arg(long, requires = "instructions")]
    pub update: bool,
    /// Name the cases and time none.
    #[arg(long)]
    pub list: bool,
    /// Print the result as JSON.
    #[arg(long)]
    pub json: bool,
    /// Take a block of samples for every line on stdin: what several processes and two binaries are asked by.
    #[arg(long, hide = true)]
    pub serve: bool,
    /// Run every kernel whose instructions are counted: what callgrind is given.
    #[arg(long, hide = true, requires = "instructions")]
    pub counted: bool,
}

impl BenchArgs {
    /// Where to run: models run on host.
    pub fn runtime(&self) -> RuntimeChoice {
        match (self.suite, self.runtime) {
            (Suite::Models, RuntimeChoice::Auto) => RuntimeChoice::Host,
            (_, runtime) => runtime,
        }
    }

    /// Processes of each case.
    pub fn processes(&self) -> usize {
        let several = self.save.is_some() || self.compare.is_some();
        self.processes.map_or(if several { 10 } else { 1 }, usize::from)
    }

    /// Seconds of samples of one case in one process.
    pub fn seconds(&self) -> f64 {
        let several = self.serve || self.baseline_binary.is_some() || self.processes() > 1;
        self.seconds.unwrap_or(if several { 0.3 } else { 2.0 })
    }
}

fn seconds(text: &str) -> std::result::Result<f64, String> {
    let found = text.trim_end_matches('s').parse::<f64>().ok().filter(|s| (0.0..=3600.0).contains(s));
    found.ok_or_else(|| format!("`{text}` is no time, expected 0 to 3600 seconds"))
}
