//! The command line.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{ArgGroup, Args, Parser, Subcommand, ValueEnum};
use ff_spec::{Dtype, RuntimeKind};
use ff_tune::{Shard, StrategyKind};
use serde::Serialize;

use crate::failure::{Failure, Result};

/// What `forgefield` alone prints.
pub const SHORT_HELP: &str = "\
forgefield: fused kernels for machine-learned force fields, on GPU and host

usage: forgefield <command> [options]

  devices   what can run here, and where its tuning tables go
  ops       every op, variant, parameter and dtype
  verify    check kernels against the f64 reference
  eval      run one variant on tensors from a file
  tune      search, check, time, and write this device's tuning table
  bench     time kernels beside the machine's floor; catch slow-downs
  inspect   what a kernel becomes: code, registers, occupancy, bounds
  neighbors pairs within a cutoff, of every frame of a file
  tables    show, check, compare, merge and query tuning tables
  export    tuning records for Kernel Tuner, T4, Parquet, CSV, Bencher
  sweep     measure everything that an experiment's axes span
  notebook  an experiment's results as a Jupyter notebook
  report    a page to look at, or a figure, of what was measured

start with `forgefield devices`, then `forgefield tune`: under two minutes

`forgefield <command> --help` has every option and an example.
exit codes: 0 done, 1 does not hold, 2 bad usage or input, 3 device fault";

/// The arguments of one run.
#[derive(Debug, Parser)]
#[command(name = "forgefield", version, about = "Fused kernels for machine-learned force fields, on GPU and host")]
pub struct Options {
    /// Print results and errors only.
    #[arg(long, short, global = true)]
    pub quiet: bool,
    /// What to do.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// Reads the command line; usage errors end the process with code 2.
pub fn parse() -> Options {
    Options::parse()
}

impl Options {
    /// Whether only results and errors are printed. A worker's search does the talking.
    pub fn is_quiet(&self) -> bool {
        self.quiet || matches!(&self.command, Some(Command::Tune(args)) if args.serve.is_some())
    }

    /// Whether stdout carries one JSON document.
    pub fn prints_json(&self) -> bool {
        match &self.command {
            Some(Command::Devices(args)) => args.json,
            Some(Command::Ops(args)) => args.json,
            Some(Command::Verify(args)) => args.json.as_deref().is_some_and(|path| path.as_os_str() == "-"),
            Some(Command::Eval(args)) => args.json,
            Some(Command::Inspect(args)) => args.json,
            Some(Command::Tune(args)) => args.json || args.serve.is_some(),
            Some(Command::Bench(args)) => args.json || args.serve,
            Some(Command::Neighbors(args)) => args.format == ListFormat::Json,
            Some(Command::Tables(args)) => args.json(),
            Some(Command::Sweep(args)) => args.json,
            Some(Command::Export(_) | Command::Notebook(_) | Command::Report(_)) | None => false,
        }
    }
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// What can run here, and under which slug its tuning tables go.
    #[command(after_help = "Example:\n  forgefield devices --json")]
    Devices(JsonOnly),
    /// Every op, variant, parameter and dtype, with the derivative orders registered and gated.
    #[command(after_help = "Example:\n  forgefield ops")]
    Ops(OpsArgs),
    /// Check kernels against the f64 reference: the equivalence gate.
    #[command(after_help = "Examples:
  forgefield verify
  forgefield verify --variant painn_linear_receiver --runtime host --dtype f64 --cases full --json result.json

Ends with 1 where a case fails and where no case was executed.")]
    Verify(VerifyArgs),
    /// Run one variant on tensors from a safetensors file.
    #[command(after_help = "Example:
  forgefield eval fused_message --variant cfconv_mlp_gaussian_cosine_receiver --inputs in.safetensors --outputs out.safetensors

Tensors of fused_message (T is --dtype; C = F for cfconv, 3F for painn):
  row_ptr [n_atoms+1], sender [n_edges]     u32 (i32, i64 and u64 are accepted)
  edge_vec [n_edges, 3]                     T, Å
  x [n_atoms, F]                            cfconv;  y [n_atoms, F] comes out
  s [n_atoms, 3F], mu [n_atoms, 3, F]       painn;   dq [n_atoms, F], dmu [n_atoms, 3, F] come out
  A [K, C], b [C]                           linear
  A1 [K, H], b1 [H], A2 [H, C], b2 [C]      mlp; metadata `activation`: shifted_softplus or tanh
  table [n_nodes, order, C]                 tabulated
  r_cut [] or [1]                           Å; a tensor or metadata
  basis.<name>, cutoff.<name>               parameters of the radial functions; defaults where left out
The metadata key `forgefield` of the outputs holds variant, runtime, launch configuration and how it was chosen.")]
    Eval(EvalArgs),
    /// What a variant and a configuration become: code, registers, spills, occupancy, counted FLOPs and bytes, roofline.
    #[command(after_help = "Examples:
  forgefield inspect fused_message --variant painn_linear_bessel_cosine_receiver --arch sm_80,sm_90
  forgefield inspect fused_message --variant painn_linear_bessel_cosine_receiver --emit source --config unroll=8
  forgefield inspect fused_message --variant painn_linear_bessel_cosine_receiver --order 1
  forgefield inspect cell_list --variant full_cells --emit source --arch sm_90
  forgefield inspect cell_list --gate autotune/static/cell_list.json

No GPU and no driver is needed. NVRTC (for ptx, resources of cuda, and --gate) is looked for in FORGEFIELD_NVRTC (a library
or its folder), CUDA_PATH, the wheels of Python environments (`pip install nvidia-cuda-nvrtc nvidia-cuda-runtime`), and where
CUDA is installed.")]
    Inspect(InspectArgs),
    /// Search launch configurations, check and time them, and write the tuning table of this device.
    #[command(after_help = "Examples:
  forgefield tune
  forgefield tune --structure liquid.extxyz --variant painn_linear_receiver --budget 5m --resume
  forgefield tune --op cell_list --structure liquid.extxyz --dtype f32,f64
  forgefield tune --op fused_message,force_scatter --order 0,1,2 --budget 10m
  forgefield tune --variant painn_linear_receiver --problem water-512 --strategy bayesian --budget 40
  forgefield tune --explain --runtime vulkan --variant painn_linear_receiver --problem water-512
  forgefield tune --replay autotune/tables/records.jsonl --repeats 50

Samples and verdicts are appended to DIR/records.jsonl, the table is DIR/<device-slug>/<op>.json.
Ctrl-C ends cleanly and keeps what was measured; --resume goes on from there.")]
    Tune(TuneArgs),
    /// Time kernels beside what the machine could do at most; find out whether they have become slower.
    #[command(after_help = "Examples:
  forgefield bench --runtime host --threads 2
  forgefield bench --case painn-linear --save old.json
  forgefield bench --case painn-linear --compare old.json --fail-over 5%
  forgefield bench --case painn-linear --baseline-binary old/forgefield --fail-over 5%
  forgefield bench --instructions autotune/static/instructions.json

Every output is compared with the f64 reference before and after it is timed. FLOOR is the larger of counted FLOPs over
the measured rate of fused multiply-adds and of compulsory bytes over the measured rate of a copy.
--compare judges by ranks what processes take now and took when FILE was saved, on this very machine: code 2 elsewhere.
--baseline-binary runs both binaries in turns, 8 to 96 pairs of processes a case: the sharper of the two.
--fail-over P is the slow-down that has to be caught: code 1 where a case is slower with confidence and by more than
half of P, from where a slow-down by P and no change at all are equally far.")]
    Bench(BenchArgs),
    /// Pairs within a cutoff, every periodic image counted, for each frame of a structure file.
    #[command(after_help = "Example:
  forgefield neighbors liquid.extxyz --cutoff 5 --format json

One JSON line per frame: {\"n_atoms\", \"n_pairs\", \"pairs\": [[i, j, s_a, s_b, s_c], …]}, sorted, atoms counted from 0;
the pair's vector is x_j + S·H − x_i. A full list has every pair in both directions.")]
    Neighbors(NeighborsArgs),
    /// Show, check, compare, merge and query tuning tables.
    #[command(after_help = "Example:
  forgefield tables select --problem water-1000 --variant painn_linear_receiver --dtype f32")]
    Tables(TablesArgs),
    /// Write tuning records in the format of another tool.
    #[command(after_help = "Examples:
  forgefield export kernel-tuner autotune/tables/records.jsonl -o caches
  forgefield export t4 records.jsonl --variant full_cells --problem molecules --dtype f32 -o results.json
  forgefield export parquet records.jsonl -o samples.parquet

kernel-tuner and t4 hold one search (a kernel on a problem and a device) per file: records of several go into a folder.
csv and parquet have one row per sample, bencher the best median of every search with its quartiles, in ns.")]
    Export(ExportArgs),
    /// Measure every row that the axes of an experiment span; results as JSON lines, CSV and Parquet beside it.
    #[command(after_help = "Examples:
  forgefield sweep experiments/reduction-strategy/sweep.toml --dry-run
  forgefield sweep experiments/reduction-strategy/sweep.toml --resume --out results
  forgefield sweep experiments/fused-vs-unfused/sweep.toml --runtime cuda --shard 0/4 --out shard-0

A description has `[axes]` (lists of values; `[axes.config]` of launch parameters), `[[include]]`, `[[exclude]]` and
`[derived]`, `repeats`, and `limit`, the most rows that its axes may span [default: 2000]; docs/sweep.md has all keys.
Every row is compared with a reference before and after it is timed. DIR/results.jsonl is only ever appended to, and of two
lines on the same thing the later one counts; lines of several devices or shards may be put together with `cat`.
Ctrl-C ends cleanly and keeps what was measured; --resume goes on from there.")]
    Sweep(SweepArgs),
    /// An experiment as a Jupyter notebook: its README, cells that run from its results, stored figures.
    #[command(after_help = "Examples:
  forgefield notebook experiments/reduction-strategy
  forgefield notebook experiments/reduction-strategy --check

Cells come from analysis.py, figures from where `experiments/draw` put them. A notebook that was edited by hand is kept.
--check writes nothing and ends with 1 where a notebook is older than its results, README or cells, or has other outputs than these.")]
    Notebook(NotebookArgs),
    /// A self-contained page of what was tuned, timed and checked; or one figure of it.
    #[command(after_help = "Examples:
  forgefield report
  forgefield report records.jsonl --bench bench.json --verify verify.json -o report.html
  forgefield report --variant painn_linear_receiver --problem water-512 --figure heat-map.svg
  forgefield report --figure speed-up.svg --plot speed-up-unfused

The page loads nothing: heat maps over launch parameters, speed-ups, best-so-far curves, a roofline, the gate, devices.
Without RECORDS it shows records.jsonl of the folder of tables where there is one, and always those tables.
A roof is measured by `bench` on host and documented for some GPUs. Software adapters have no place in speed-ups.")]
    Report(ReportArgs),
}

/// A command that only prints.
#[derive(Debug, Args)]
pub struct JsonOnly {
    /// Print the result as JSON.
    #[arg(long)]
    pub json: bool,
}

/// Where to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum RuntimeChoice {
    /// The fastest found here: a hardware GPU if there is one, else the host; never a software adapter.
    Auto,
    /// This processor: SIMD and all cores.
    Host,
    /// CubeCL through Vulkan.
    Vulkan,
    /// CubeCL through CUDA.
    Cuda,
    /// CubeCL through Metal.
    Metal,
}

impl RuntimeChoice {
    /// The runtime, unless it is to be found.
    pub fn kind(self) -> Option<RuntimeKind> {
        match self {
            RuntimeChoice::Auto => None,
            RuntimeChoice::Host => Some(RuntimeKind::Host),
            RuntimeChoice::Vulkan => Some(RuntimeKind::Vulkan),
            RuntimeChoice::Cuda => Some(RuntimeKind::Cuda),
            RuntimeChoice::Metal => Some(RuntimeKind::Metal),
        }
    }
}

/// How many cases of the catalogue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Cases {
    /// A few small ones.
    Quick,
    /// Every one.
    Full,
}

/// `verify`.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// Ops to check [default: all].
    #[arg(long, value_delimiter = ',')]
    pub op: Vec<String>,
    /// Variants or families to check [default: all].
    #[arg(long, value_delimiter = ',')]
    pub variant: Vec<String>,
    /// Runtimes to check [default: host and every available one].
    #[arg(long, value_delimiter = ',')]
    pub runtime: Vec<RuntimeChoice>,
    /// Element types to check [default: f32,f64].
    #[arg(long, value_delimiter = ',')]
    pub dtype: Vec<Dtype>,
    /// Derivative orders to check: 0 forward, 1 and 2 backward.
    #[arg(long, value_delimiter = ',', default_value = "0", value_parser = clap::value_parser!(u8).range(0..=2))]
    pub order: Vec<u8>,
    /// Seeds per case; fewer than 3 are no pass.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    pub seeds: u64,
    /// Cases of the catalogue; full contains quick.
    #[arg(long, value_delimiter = ',', default_value = "quick")]
    pub cases: Vec<Cases>,
    /// Also write JUnit XML.
    #[arg(long, value_name = "FILE")]
    pub junit: Option<PathBuf>,
    /// Also write all rows as JSON; `-` for stdout.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Also note in FILE what passed, for `ops`.
    #[arg(long, value_name = "FILE")]
    pub passes: Option<PathBuf>,
}

/// `ops`.
#[derive(Debug, Args)]
pub struct OpsArgs {
    /// Print the result as JSON.
    #[arg(long)]
    pub json: bool,
    /// What passed, as `verify --passes` wrote it [default: autotune/passes.json, where it is there].
    #[arg(long, value_name = "FILE")]
    pub passes: Option<PathBuf>,
}

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

/// What a variant is compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum InspectTarget {
    /// Plain Rust.
    Host,
    /// SPIR-V.
    Vulkan,
    /// CUDA C++, then NVRTC.
    Cuda,
}

/// What is printed of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Emit {
    /// CUDA C++, or the generated Rust.
    Source,
    /// SPIR-V, disassembled.
    Spirv,
    /// PTX.
    Ptx,
    /// Registers, spills, shared memory, occupancy; FLOPs, bytes and roofline.
    Resources,
}

impl InspectTarget {
    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            InspectTarget::Host => "host",
            InspectTarget::Vulkan => "vulkan",
            InspectTarget::Cuda => "cuda",
        }
    }
}

impl Emit {
    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Emit::Source => "source",
            Emit::Spirv => "spirv",
            Emit::Ptx => "ptx",
            Emit::Resources => "resources",
        }
    }
}

/// A CUDA architecture: 90 of `sm_90`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arch(pub u16);

impl FromStr for Arch {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let number = text.strip_prefix("sm_").and_then(|n| n.parse().ok()).filter(|n| (10..1000).contains(n));
        number.map(Arch).ok_or_else(|| format!("`{text}` is no architecture, expected one such as `sm_90`"))
    }
}

/// `inspect`.
#[derive(Debug, Args)]
pub struct InspectArgs {
    /// The op.
    pub op: String,
    /// The variant.
    #[arg(long, required_unless_present_any = ["gate", "emitted"])]
    pub variant: Option<String>,
    /// Derivative order: 0 the op itself, 1 its first backward, 2 its second.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=2))]
    pub order: u8,
    /// Element type.
    #[arg(long, default_value = "f32")]
    pub dtype: Dtype,
    /// Built-in problem.
    #[arg(long, value_name = "NAME", default_value = "water-512")]
    pub problem: String,
    #[command(flatten)]
    #[allow(missing_docs, reason = "clap would show the text as help")]
    pub sizes: Sizes,
    /// Launch parameters, `unroll=8,edges_per_tile=16` [default: those of the default configuration].
    #[arg(long, value_name = "K=V", value_delimiter = ',', value_parser = parameter)]
    pub config: Vec<(String, u32)>,
    /// What it is compiled for.
    #[arg(long, default_value = "cuda")]
    pub target: InspectTarget,
    /// CUDA architectures.
    #[arg(long, value_delimiter = ',', default_value = "sm_80,sm_90")]
    pub arch: Vec<Arch>,
    /// What is printed.
    #[arg(long, default_value = "resources")]
    pub emit: Emit,
    /// Compile every variant of the op in every order for CUDA and compare what it takes with this table; ends with 1 on an
    /// error, a spill or a stack frame that is not listed, and on other figures.
    #[arg(long, value_name = "TABLE", group = "committed", conflicts_with_all = ["variant", "order", "config", "emit", "target", "arch", "problem"])]
    pub gate: Option<PathBuf>,
    /// Compare the hashes of what every variant of the op is emitted as, in every order, as CUDA C++ and as SPIR-V, with those of
    /// this file, by which `ops` knows passes that are current; ends with 1 where they differ.
    #[arg(long, value_name = "FILE", group = "committed", conflicts_with_all = ["variant", "order", "config", "emit", "target", "arch", "problem"])]
    pub emitted: Option<PathBuf>,
    /// Compile what standard input says and print what NVRTC does: how the gate uses all cores.
    #[arg(long, hide = true, requires = "gate")]
    pub compile_tasks: bool,
    /// Rewrite the table or the file.
    #[arg(long, requires = "committed")]
    pub update: bool,
    /// Print the result as JSON.
    #[arg(long)]
    pub json: bool,
}

fn parameter(text: &str) -> std::result::Result<(String, u32), String> {
    let pair = text.split_once('=').and_then(|(name, value)| Some((name.trim(), value.trim().parse().ok()?)));
    let pair = pair.filter(|(name, value)| !name.is_empty() && *value > 0);
    let (name, value) =
        pair.ok_or_else(|| format!("`{text}`, expected a parameter and a positive number such as `unroll=4`"))?;
    Ok((name.to_owned(), value))
}

/// The sizes of a model.
#[derive(Clone, Debug, Args)]
pub struct Sizes {
    /// Cutoff radius in Å.
    #[arg(long, default_value_t = 5.0)]
    pub cutoff: f64,
    /// Feature width F.
    #[arg(long, default_value_t = 128)]
    pub features: usize,
    /// Radial basis functions K.
    #[arg(long, default_value_t = 20)]
    pub n_basis: usize,
    /// Hidden width H of mlp filters.
    #[arg(long, default_value_t = 128)]
    pub hidden: usize,
    /// Seed of features, weights and the order of the search.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
}

impl Sizes {
    /// Refuses sizes that no kernel has.
    ///
    /// # Errors
    /// The first of them.
    pub fn check(&self) -> Result<()> {
        // Far above any model; beyond it only memory runs out.
        const MOST: usize = 1 << 16;
        for (name, value) in [("features", self.features), ("n-basis", self.n_basis), ("hidden", self.hidden)] {
            if !(1..=MOST).contains(&value) {
                return Err(Failure::input(format!("--{name} is {value}, expected 1 to {MOST}")));
            }
        }
        if !(self.cutoff.is_finite() && self.cutoff > 0.0) {
            return Err(Failure::input(format!("--cutoff is {}, expected a positive radius in Å", self.cutoff)));
        }
        Ok(())
    }
}

/// In which order configurations are tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StrategyArg {
    /// By this strategy.
    One(StrategyKind),
    /// By each in turn, to compare them.
    All,
}

impl FromStr for StrategyArg {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text {
            "all" => Ok(StrategyArg::All),
            name => name.parse().map(StrategyArg::One).map_err(|e| format!("{e}, or all with --replay")),
        }
    }
}

/// When a search ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BudgetArg {
    /// After this time.
    Time(Duration),
    /// After this many configurations of each variant and problem.
    Evaluations(usize),
    /// When all were tried.
    All,
}

impl FromStr for BudgetArg {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let expected = || {
            format!("`{text}` is no budget, expected a time (`90s`, `5m`, `2h`), a number of configurations, or `all`")
        };
        if text == "all" {
            return Ok(BudgetArg::All);
        }
        if let Ok(n) = text.parse::<usize>() {
            return if n > 0 { Ok(BudgetArg::Evaluations(n)) } else { Err(expected()) };
        }
        let unit =
            text.chars().last().and_then(|c| [('s', 1.0), ('m', 60.0), ('h', 3600.0)].into_iter().find(|u| u.0 == c));
        let (_, seconds) = unit.ok_or_else(expected)?;
        let number: f64 = text[..text.len() - 1].parse().map_err(|_| expected())?;
        let time = Duration::try_from_secs_f64(number * seconds).map_err(|_| expected())?;
        if time.is_zero() { Err(expected()) } else { Ok(BudgetArg::Time(time)) }
    }
}

/// `tune`.
#[derive(Debug, Args)]
pub struct TuneArgs {
    /// Ops to tune [default: all].
    #[arg(long, value_delimiter = ',')]
    pub op: Vec<String>,
    /// Variants or families to tune [default: full lists by both strategies, half lists, both force scatters, and those of
    /// SchNet and PaiNN].
    #[arg(long, visible_alias = "family", value_delimiter = ',')]
    pub variant: Vec<String>,
    /// Derivative orders to tune: 0 is the op itself, 1 its first backward, 2 its second.
    #[arg(long, value_delimiter = ',', default_value = "0", value_parser = clap::value_parser!(u8).range(0..=2))]
    pub order: Vec<u8>,
    /// Structure files (extxyz, PDB); all frames of a file are one batch.
    #[arg(long, value_name = "FILE", num_args = 1..)]
    pub structure: Vec<PathBuf>,
    /// Built-in problems [default without files: molecules, water-64, water-512].
    #[arg(long, value_name = "NAME", num_args = 1.., value_delimiter = ',')]
    pub problem: Vec<String>,
    /// Element types [default: f32].
    #[arg(long, value_delimiter = ',')]
    pub dtype: Vec<Dtype>,
    /// Where to run.
    #[arg(long, default_value = "auto")]
    pub runtime: RuntimeChoice,
    #[command(flatten)]
    #[allow(missing_docs, reason = "clap would show the text as help")]
    pub sizes: Sizes,
    /// In which order configurations are tried: brute-force, random, local, annealing, genetic, bayesian, cost-model; with
    /// --replay also `all` [default: random, brute-force with --budget all].
    #[arg(long, value_name = "NAME")]
    pub strategy: Option<StrategyArg>,
    /// Try only this share of each space, by what the records of --out say of the nearest other problem, else by counted FLOPs and
    /// bytes.
    #[arg(long, value_name = "SHARE", value_parser = portion)]
    pub prefilter: Option<f64>,
    /// When to end: a time in all (`90s`, `5m`), a number of configurations of each variant and problem, or `all`
    /// [default: 100s].
    #[arg(long)]
    pub budget: Option<BudgetArg>,
    /// Search these records again, without a device: best so far against evaluations, for each strategy.
    #[arg(long, value_name = "FILE", num_args = 1.., conflicts_with_all = ["explain", "resume", "structure", "space", "prefilter"])]
    pub replay: Vec<PathBuf>,
    /// Searches per strategy of a replay.
    #[arg(long, default_value_t = 25, requires = "replay", value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub repeats: u16,
    /// Do share I of N, from 0: of the tasks, or where there are fewer of those than shares, of every space.
    /// `tables merge` joins what the shares have found.
    #[arg(long, value_name = "I/N", conflicts_with = "replay")]
    pub shard: Option<Shard>,
    /// Measure nothing; say what each constraint removes from the space.
    #[arg(long)]
    pub explain: bool,
    /// Take what stands in the records from there.
    #[arg(long)]
    pub resume: bool,
    /// Time slow configurations to the end too.
    #[arg(long)]
    pub no_eliminate: bool,
    /// The best of the screening that are timed side by side again, beside the default.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..))]
    pub finalists: u8,
    /// Measure in this process, for a debugger or a profiler: a kernel that does not end or ends the process is the end of the
    /// search.
    #[arg(long)]
    pub in_process: bool,
    /// Answer the questions of a search for the op of this name and order.
    #[arg(long, hide = true)]
    pub serve: Option<String>,
    /// Where records and tables go.
    #[arg(long, value_name = "DIR", default_value = "autotune/tables")]
    pub out: PathBuf,
    /// Tuning space in place of the built-in one of its op.
    #[arg(long, value_name = "FILE")]
    pub space: Option<PathBuf>,
    /// Print the outcome as JSON.
    #[arg(long)]
    pub json: bool,
}

/// `bench`.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("earlier").args(["compare", "baseline_binary"]).multiple(true))]
pub struct BenchArgs {
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

fn percent(text: &str) -> std::result::Result<f64, String> {
    let found = text.strip_suffix('%').and_then(|t| t.parse::<f64>().ok()).filter(|p| p.is_finite() && *p >= 0.0);
    found.map(|p| p / 100.0).ok_or_else(|| format!("`{text}` is no threshold, expected a percentage such as 5%"))
}

fn portion(text: &str) -> std::result::Result<f64, String> {
    percent(text)
        .ok()
        .filter(|p| *p > 0.0 && *p <= 1.0)
        .ok_or_else(|| format!("`{text}`, expected above 0% and up to 100%"))
}

/// `neighbors`.
#[derive(Debug, Args)]
pub struct NeighborsArgs {
    /// The structure file (extxyz, PDB).
    pub file: PathBuf,
    /// Cutoff radius in Å.
    #[arg(long)]
    pub cutoff: f64,
    /// Each pair in one direction only.
    #[arg(long)]
    pub half: bool,
    /// How the pairs are printed.
    #[arg(long, default_value = "text")]
    pub format: ListFormat,
    /// Where to run.
    #[arg(long, default_value = "host")]
    pub runtime: RuntimeChoice,
    /// Folder of tuning tables.
    #[arg(long, value_name = "DIR", default_value = "autotune/tables")]
    pub tables: PathBuf,
}

/// How a list is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ListFormat {
    /// Counts, a line per frame.
    Text,
    /// All pairs, a JSON line per frame.
    Json,
}

/// What records are written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ExportFormat {
    /// A cache of Kernel Tuner, for its simulation mode and its dashboard.
    KernelTuner,
    /// Results in the auto-tuning community's schema 1.0.0.
    T4,
    /// A tidy table, compressed.
    Parquet,
    /// A tidy table, text.
    Csv,
    /// Metrics for regression tracking.
    Bencher,
}

/// `export`.
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// The format.
    pub format: ExportFormat,
    /// Records, as `tune` writes them.
    #[arg(required = true, value_name = "RECORDS")]
    pub records: Vec<PathBuf>,
    /// Where it goes: a file, or a folder for several searches.
    #[arg(long, short, value_name = "OUT")]
    pub out: PathBuf,
    /// Ops [default: all].
    #[arg(long, value_delimiter = ',')]
    pub op: Vec<String>,
    /// Variants, by their full ids [default: all].
    #[arg(long, value_delimiter = ',')]
    pub variant: Vec<String>,
    /// Problems [default: all].
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub problem: Vec<String>,
    /// Element types [default: all].
    #[arg(long, value_delimiter = ',')]
    pub dtype: Vec<Dtype>,
}

/// `sweep`.
#[derive(Debug, Args)]
pub struct SweepArgs {
    /// The description, `sweep.toml`.
    #[arg(value_name = "SWEEP")]
    pub file: PathBuf,
    /// Where to run, in place of what the description says [default without either: auto].
    #[arg(long)]
    pub runtime: Option<RuntimeChoice>,
    /// Leave out what the results hold already.
    #[arg(long)]
    pub resume: bool,
    /// Do share I of N, from 0; rows that take turns stay together.
    #[arg(long, value_name = "I/N")]
    pub shard: Option<Shard>,
    /// Measure nothing; show the rows and what they will take.
    #[arg(long)]
    pub dry_run: bool,
    /// Where the results go [default: the folder of the description].
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Print rows or results as JSON.
    #[arg(long)]
    pub json: bool,
}

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

/// What a figure shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Plot {
    /// Times over two launch parameters, others at their best; a panel for each search.
    HeatMap,
    /// How many times as fast as the default configuration.
    SpeedUp,
    /// How many times as fast as the unfused composition.
    SpeedUpUnfused,
    /// FLOP/s over intensity, under the roof.
    Roofline,
    /// The best so far against evaluations.
    BestSoFar,
}

/// `report`.
#[derive(Debug, Args)]
pub struct ReportArgs {
    /// Records, as `tune` writes them [default: records.jsonl in the folder of tables, where there is one].
    #[arg(value_name = "RECORDS")]
    pub records: Vec<PathBuf>,
    /// Where the page goes [default: report.html, and no page with --figure].
    #[arg(long, short, value_name = "OUT")]
    pub out: Option<PathBuf>,
    /// Results of `bench --save`.
    #[arg(long, value_name = "FILE", num_args = 1..)]
    pub bench: Vec<PathBuf>,
    /// Results of `verify --json`.
    #[arg(long, value_name = "FILE", num_args = 1..)]
    pub verify: Vec<PathBuf>,
    /// What passed, as `verify --passes` wrote it [default: autotune/passes.json, where it is there].
    #[arg(long, value_name = "FILE")]
    pub passes: Option<PathBuf>,
    /// Folder of tuning tables [default: autotune/tables, where it is there].
    #[arg(long, value_name = "DIR")]
    pub tables: Option<PathBuf>,
    /// Write a figure, SVG.
    #[arg(long, value_name = "FILE")]
    pub figure: Option<PathBuf>,
    /// What the figure shows.
    #[arg(long, requires = "figure", default_value = "heat-map")]
    pub plot: Plot,
    /// Ops [default: all].
    #[arg(long, value_delimiter = ',')]
    pub op: Vec<String>,
    /// Variants or families [default: all].
    #[arg(long, visible_alias = "family", value_delimiter = ',')]
    pub variant: Vec<String>,
    /// Problems [default: all].
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub problem: Vec<String>,
    /// Element types [default: all].
    #[arg(long, value_delimiter = ',')]
    pub dtype: Vec<Dtype>,
}

/// `tables`.
#[derive(Debug, Args)]
pub struct TablesArgs {
    /// What to do with them.
    #[command(subcommand)]
    pub command: TablesCommand,
}

impl TablesArgs {
    fn json(&self) -> bool {
        match &self.command {
            TablesCommand::Show(args) => args.json,
            TablesCommand::Select(args) => args.json,
            TablesCommand::Check(_) | TablesCommand::Diff(_) | TablesCommand::Merge(_) | TablesCommand::Renew(_) => {
                false
            }
        }
    }
}

/// What `tables` can do.
#[derive(Debug, Subcommand)]
pub enum TablesCommand {
    /// Print tables.
    #[command(after_help = "Example:\n  forgefield tables show --dir autotune/tables")]
    Show(TablesFolder),
    /// Check schema, place and provenance; that every entry has a numerical pass is part of reading it.
    #[command(after_help = "Example:\n  forgefield tables check")]
    Check(TablesFiles),
    /// Which entry would be used here, and by which fallback step.
    #[command(after_help = "Example:
  forgefield tables select --problem water-1000 --variant cfconv_mlp_receiver --dtype f32
  forgefield tables select --problem molecules --op cell_list")]
    Select(SelectArgs),
    /// What differs between two tables.
    #[command(after_help = "Example:\n  forgefield tables diff old.json new.json")]
    Diff(DiffArgs),
    /// Take the entries of other tables of the same device into one, under one key the faster; or records (.jsonl) of shards,
    /// which must not overlap.
    #[command(after_help = "Examples:
  forgefield tables merge mine.json theirs.json
  forgefield tables merge all.jsonl shard-0/records.jsonl shard-1/records.jsonl")]
    Merge(MergeArgs),
    /// Have tables used again whose templates changed and whose kernels did not: of each entry the kernel is emitted and compared
    /// with that of its pass; entries of other kernels are left out.
    #[command(after_help = "Example:\n  forgefield tables renew autotune/tables/my-gpu/fused_message.json")]
    Renew(RenewArgs),
}

/// `tables renew`.
#[derive(Debug, Args)]
pub struct RenewArgs {
    /// Tables.
    #[arg(required = true)]
    pub files: Vec<PathBuf>,
}

/// `tables show`.
#[derive(Debug, Args)]
pub struct TablesFolder {
    /// Folder of tuning tables.
    #[arg(long, value_name = "DIR", default_value = "autotune/tables")]
    pub dir: PathBuf,
    /// The op [default: all].
    #[arg(long)]
    pub op: Option<String>,
    /// Print as JSON.
    #[arg(long)]
    pub json: bool,
}

/// `tables check`.
#[derive(Debug, Args)]
pub struct TablesFiles {
    /// Tables to check [default: all in the folder].
    pub files: Vec<PathBuf>,
    /// Tuning space in place of the built-in one of its op, for tables that were tuned in it; may be given for several ops.
    #[arg(long, value_name = "FILE")]
    pub space: Vec<PathBuf>,
    /// Folder of tuning tables.
    #[arg(long, value_name = "DIR", default_value = "autotune/tables")]
    pub dir: PathBuf,
}

/// `tables select`.
#[derive(Debug, Args)]
pub struct SelectArgs {
    /// The op.
    #[arg(long, default_value = "fused_message")]
    pub op: String,
    /// Variant or family [default for cell_list: a full list, by the strategy that wins; for force_scatter: gather].
    #[arg(long, visible_alias = "family")]
    pub variant: Option<String>,
    /// Derivative order: 0 is the op itself, 1 its first backward, 2 its second.
    #[arg(long, default_value = "0", value_parser = clap::value_parser!(u8).range(0..=2))]
    pub order: u8,
    /// Built-in problem.
    #[arg(long, value_name = "NAME", conflicts_with = "structure", required_unless_present = "structure")]
    pub problem: Option<String>,
    /// Structure file.
    #[arg(long, value_name = "FILE")]
    pub structure: Option<PathBuf>,
    /// Element type.
    #[arg(long, default_value = "f32")]
    pub dtype: Dtype,
    /// Where it would run.
    #[arg(long, default_value = "auto")]
    pub runtime: RuntimeChoice,
    #[command(flatten)]
    #[allow(missing_docs, reason = "clap would show the text as help")]
    pub sizes: Sizes,
    /// Folder of tuning tables.
    #[arg(long, value_name = "DIR", default_value = "autotune/tables")]
    pub dir: PathBuf,
    /// Print as JSON.
    #[arg(long)]
    pub json: bool,
}

/// `tables diff`.
#[derive(Debug, Args)]
pub struct DiffArgs {
    /// The old table.
    pub old: PathBuf,
    /// The new table.
    pub new: PathBuf,
}

/// `tables merge`.
#[derive(Debug, Args)]
pub struct MergeArgs {
    /// The table or the records that are changed.
    pub into: PathBuf,
    /// Tables or records to take from.
    #[arg(required = true)]
    pub from: Vec<PathBuf>,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound_and_the_short_help_fits_a_screen() {
        Options::command().debug_assert();
        assert!(SHORT_HELP.lines().count() < 24);
        assert!(SHORT_HELP.lines().all(|line| line.chars().count() < 80));
        for command in Options::command().get_subcommands() {
            assert!(SHORT_HELP.contains(&format!("  {} ", command.get_name())), "{} is missing", command.get_name());
            assert!(command.get_after_help().is_some(), "{} has no example", command.get_name());
        }
    }

    #[test]
    fn budgets() {
        assert_eq!("90s".parse(), Ok(BudgetArg::Time(Duration::from_secs(90))));
        assert_eq!("1.5m".parse(), Ok(BudgetArg::Time(Duration::from_secs(90))));
        assert_eq!("12".parse(), Ok(BudgetArg::Evaluations(12)));
        assert_eq!("all".parse(), Ok(BudgetArg::All));
        for bad in ["", "0", "s", "-3s", "90x", "0s", "1µ", "nans"] {
            assert!(bad.parse::<BudgetArg>().is_err(), "{bad} was accepted");
        }
    }
}
