//! The command line: its commands, and what several of them are asked for.

use clap::{Args, Parser, Subcommand, ValueEnum};
use ff_spec::RuntimeKind;

use crate::commands::bench::args::BenchArgs;
use crate::commands::convert::args::ConvertArgs;
use crate::commands::devices::args::DevicesArgs;
use crate::commands::distill::args::DistillArgs;
use crate::commands::eval::args::EvalArgs;
use crate::commands::export::args::ExportArgs;
use crate::commands::inspect::args::InspectArgs;
use crate::commands::md::args::MdArgs;
use crate::commands::minimize::args::MinimizeArgs;
use crate::commands::neighbors::args::{ListFormat, NeighborsArgs};
use crate::commands::notebook::args::NotebookArgs;
use crate::commands::ops::args::OpsArgs;
use crate::commands::predict::args::PredictArgs;
use crate::commands::profile::args::ProfileArgs;
use crate::commands::report::args::ReportArgs;
use crate::commands::serve::args::ServeArgs;
use crate::commands::sweep::args::SweepArgs;
use crate::commands::tables::args::TablesArgs;
use crate::commands::train::args::TrainArgs;
use crate::commands::tune::args::TuneArgs;
use crate::commands::validate::args::ValidateArgs;
use crate::commands::verify::args::VerifyArgs;
use crate::failure::{Failure, Result};

/// What `forgefield` alone prints.
pub const SHORT_HELP: &str = "\
forgefield: fused kernels for machine-learned force fields, on GPU and host
usage: forgefield <command> [options]

  devices   what can run here, and where its tuning tables go
  ops       every op, variant, parameter and dtype
  predict   energies, forces and stress of a model for a file's frames
  md        molecular dynamics with a model;  minimize  to rest
  serve     forces for i-PI and ASE through a socket
  profile   what the parts of a model take, and floors;  convert  its units
  train     a model on labels;  distill  a teacher;  validate  the errors
  verify    check kernels against the f64 reference; check a model
  eval      run one variant on tensors from a file
  tune      search, check, time, and write this device's tuning table
  bench     time kernels and models beside the floor; catch slow-downs
  inspect   what a kernel becomes: code, bounds; what a model computes
  neighbors pairs within a cutoff, of every frame of a file
  tables    show, check, compare, merge and query tuning tables
  export    tuning records for Kernel Tuner, T4, Parquet, CSV, Bencher
  sweep     measure everything that an experiment's axes span
  notebook  an experiment's results as a Jupyter notebook
  report    a page to look at, or a figure, of what was measured
start with `forgefield devices`; `forgefield <command> --help` has examples
exit codes: 0 done, 1 does not hold, 2 bad usage or input, 3 device fault";

/// The examples of `tables select`. Like those of [`Command`] they name ops, which commands themselves do not.
pub const TABLES_SELECT_EXAMPLE: &str = "Example:
  forgefield tables select --problem water-1000 --variant cfconv_mlp_receiver --dtype f32
  forgefield tables select --problem molecules --op cell_list";

/// The example of `tables renew`, which names one too.
pub const TABLES_RENEW_EXAMPLE: &str = "Example:\n  forgefield tables renew autotune/tables/my-gpu/fused_message.json";

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
            Some(Command::Predict(args)) => args.json,
            Some(Command::Md(args)) => args.run.json,
            Some(Command::Minimize(args)) => args.run.json,
            Some(Command::Validate(args)) => args.json,
            Some(Command::Distill(args)) => args.json,
            Some(Command::Serve(args)) => args.json,
            Some(Command::Profile(args)) => args.json,
            Some(Command::Train(args)) => args.json,
            Some(Command::Convert(_) | Command::Export(_) | Command::Notebook(_) | Command::Report(_)) | None => false,
        }
    }
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// What can run here, and under which slug its tuning tables go.
    #[command(after_help = "Example:\n  forgefield devices --json")]
    Devices(DevicesArgs),
    /// Every op, variant, parameter and dtype, with the derivative orders registered and gated.
    #[command(after_help = "Examples:
  forgefield ops
  forgefield ops painn_linear_receiver
  forgefield ops --json

Marks say what last passed the gate on a runtime, one for each derivative order; of a family its least proven variant.
--json: [{\"op\", \"variant\", \"family\", \"orders\", \"orders_gated\", \"dtypes\", \"deterministic\", \"parameters\", \"radial\",
\"passes\": [{\"order\", \"device\", \"runtime\", \"date\", \"current\", \"cases\", \"full\", \"dtypes\"}]}], for NAME with
\"radial_functions\" and \"launch\" too. A pass is current where the kernel that passed is the one in this binary.")]
    Ops(OpsArgs),
    /// Energies, forces and stress of a model for every frame of a structure file.
    #[command(after_help = "Examples:
  forgefield predict liquid.extxyz --model model.safetensors -o predicted.extxyz
  forgefield predict molecule.xyz --model model.safetensors --dtype f64 --json

Energies are in eV, forces in eV/Å, stress in eV/Å³ (tension positive, where a cell is periodic), under the keys that ASE reads.
Frames are read, computed and written as they come, in constant memory. The output appears under its name at the end; after an
error or Ctrl-C it holds the whole frames that were computed before it.
--json: {\"model\", \"dtype\", \"frames\", \"atoms\", \"seconds\", \"structures_per_s\", \"results\": [{\"frame\", \"name\", \"atoms\",
\"energy\", \"max_force\", \"forces\", \"stress\"}]}, the results without -o.")]
    Predict(PredictArgs),
    /// Molecular dynamics of a structure file's frames under a model: NVE, NVT, NPT.
    #[command(after_help = "Examples:
  forgefield md molecule.xyz --model model.safetensors --steps 10000 -o trajectory.extxyz --log log.csv --figure run.svg
  forgefield md liquid.extxyz --model model.safetensors --ensemble npt --pressure-bar 1 --steps 100000 --restart liquid.json
  forgefield md molecule.xyz --model model.safetensors --ensemble langevin --replicas 64 --json

All frames of FILE, and of each --replicas copies, advance in one call per step. Frames hold energy, forces, stress and momenta as
ASE reads them, positions that are never wrapped, and replica, step and time_fs. Masses are the standard ones, or a column
`masses`; a column `move_mask` holds atoms, as ASE writes FixAtoms and FixCartesian. Without --keep-drift the motion of the centre
of mass is taken out and its three degrees of freedom do not count.
--restart: killed at any time, the same command goes on where FILE.json was written last and ends with the same bits on host.
--runtime vulkan, cuda or metal: forces of a device, in f32 on Vulkan and Metal; replicas and restarts agree to rounding there.
A run that diverges stops before the step that has no forces, ends with 1, and keeps what was written.
--json: {\"steps\", \"drift_mev_per_atom_ps\", \"mean_temperature_k\", \"temperature_error_k\", \"steps_per_s\", \"ns_per_day\",
\"rebuilds\", \"replicas\", \"atoms\", \"stopped\": null or why}; the drift is the slope of the conserved quantity.")]
    Md(MdArgs),
    /// Relax a structure file's frames to the next minimum of a model's energy, by FIRE.
    #[command(after_help = "Examples:
  forgefield minimize molecule.xyz --model model.safetensors -o relaxed.extxyz
  forgefield minimize crystal.extxyz --model model.safetensors --cell --fmax 0.005 -o relaxed.extxyz

Each frame moves on its own until no force is larger than --fmax; with --cell also no strain derivative of the enthalpy over the
number of atoms, in eV. Files and --runtime are as those of `md`; the last frame of each system is written in any case.
Ends with 1 where a system is not at rest after --steps.
--json: {\"steps\", \"converged\", \"steps_per_s\", \"rebuilds\", \"systems\": [{\"name\", \"replica\", \"energy\", \"max_force\",
\"volume\", \"converged\"}], \"stopped\": null or why}.")]
    Minimize(MinimizeArgs),
    /// A model's errors against labelled frames or another model, and whether they are below limits.
    #[command(after_help = "Examples:
  forgefield validate --model model.safetensors --against labelled.extxyz --figure parity.svg
  forgefield validate --model student.safetensors --against teacher.safetensors
  forgefield validate --model student.safetensors --against teacher.safetensors a.extxyz b.pdb --max-force 30 --json

Labels are looked for as energy, forces, stress and virial with REF_, ref_, DFT_, dft_ before them or nothing; the first spelling that
a file has is that of all its labels (--help: --energy-key and the other keys, --energy-unit and the other units). Frames without
labels are left out and counted. Two models are compared on FILES, or on the eight built-in molecules.
Energies are compared per atom, forces and stress by component; the cosine is that of all forces as one vector. Forces are shown by
element, everything by size in powers of two. Frames come and go in constant memory; --figure draws a sample of 1500 points each.
Ends with 1 where an error is not below its limit: energy MAE, force RMSE, stress RMSE, each where it was compared, and one that
was asked for in any case.
--json: {\"frames\", \"energy_mae_mev_per_atom\", \"energy_rmse_mev_per_atom\", \"force_mae_mev_per_a\", \"force_rmse_mev_per_a\",
\"force_cosine\", \"stress_rmse_gpa\": null or a number, \"by_element\", \"by_size\", \"limits\", \"passed\", …}.")]
    Validate(ValidateArgs),
    /// Structures labelled by a teacher, a model or any ASE calculator, and a student trained on them.
    #[command(after_help = "Examples:
  forgefield distill structures.extxyz --teacher teacher.safetensors --labels labelled.extxyz
  forgefield distill structures.extxyz --teacher teacher.safetensors --labels labelled.extxyz --student train.toml -o student.safetensors
  forgefield distill molecules.extxyz --teacher tblite.ase:TBLite --teacher-arg method=GFN2-xTB --teacher-arg verbosity=0 \\
      --python venv/bin/python --timeout 600 --labels labelled.extxyz --student train.toml -o student.safetensors --rounds 3

A calculator is made once, by calling what --teacher names, in a process of --python, which needs ASE; modules of the working folder
are found. It gets the columns initial_charges and initial_magmoms where a frame has them. What it prints goes to stderr.
Frames are added one by one with energy, forces and, where a cell repeats, stress, the teacher's name and where the structure was
read. A structure that the teacher refuses is skipped, counted and listed in FILE.skipped.jsonl, and not tried again; a teacher that
dies is an error, code 3, and what it labelled is kept.
--student is a training as `train` reads it, without `train` in [data]: the labels are fitted. A round trains a --committee of
students, moves some of FILES under them, and labels those structures on which they disagree the most; a round that finds none is the
last. Rounds are on record in FILE.rounds.jsonl, beside their students and structures.
Killed at any time, the same command goes on: after the last whole frame, from a training's checkpoint, with the next round.
--json: {\"teacher\", \"labels\", \"labelled\", \"earlier\", \"skipped\": [{\"file\", \"frame\", \"reason\"}], \"seconds\",
\"structures_per_s\", \"rounds\": […], \"student\": null or {\"file\", \"steps\", \"frames\", \"watched\", \"tested\", …},
\"stopped\": null or why}.")]
    Distill(DistillArgs),
    /// Forces for i-PI or ASE's SocketIOCalculator, through their socket.
    #[command(after_help = "Examples:
  forgefield serve --ipi localhost:31415 --model model.safetensors --structure water.extxyz
  forgefield serve --unix water --model model.safetensors --structure water.extxyz

i-PI and ASE are the servers and move the atoms; this answers with energy, forces and, where a direction repeats, the virial.
They send no elements: FILE has them, in the server's order, and says which directions repeat; its positions do not matter.
Any number of these may answer one server. i-PI's batches (batch_size with consolidate_messages) are computed in one call.
--unix NAME is the socket /tmp/ipi_NAME, as i-PI and ASE call it. --runtime vulkan, cuda or metal computes on a device.
--json: {\"model\", \"dtype\", \"server\", \"atoms\", \"connections\", \"evaluations\", \"seconds\", \"computing_seconds\",
\"evaluations_per_s\", \"ended\"}; seconds are those of being connected.")]
    Serve(ServeArgs),
    /// What energy and forces of one frame take, by part and layer, beside the floor that arithmetic and bandwidth set.
    #[command(after_help = "Examples:
  forgefield profile benzene.xyz --model model.safetensors
  forgefield profile benzene.xyz --model model.safetensors --repeat 64 --json

The time of a part is that of all threads together over their number. Floors are counted FLOPs over the measured rate of fused
multiply-adds or counted bytes over that of a copy, whichever is more; bytes count where an evaluation outgrows the cache.
--json: {\"model\", \"atoms\", \"edges\", \"energy_ms\", \"energy_forces_ms\", \"forces_over_energy\", \"parts\": [{\"part\", \"layer\",
\"ms\", \"floor_ms\"}]}.")]
    Profile(ProfileArgs),
    /// Fit a model to labelled frames.
    #[command(after_help = "Examples:
  forgefield train --train train.extxyz --test test.extxyz --isolated-atoms atoms.extxyz --features 64 -o model.safetensors
  forgefield train config.toml -o model.safetensors --log log.jsonl --figure curve.svg
  forgefield train config.toml -o model.safetensors --resume

Frames are extended XYZ with energies, forces and, where their weight in the loss is not 0, stress, under ASE's keys with or
without REF_. docs/training.md lists the keys of CONFIG; each has a default, and what is given here goes before them.
Weights are those of the epoch with the least loss on frames that are watched and not fitted.
-o FILE.checkpoint is kept while it runs: killed at any time, the same command with --resume goes on from it and ends with the
same bits on host. Ends with 1 where the loss is not finite; FILE then holds the best weights before.
--json: {\"model\", \"parameters\", \"frames\", \"epochs\", \"best_epoch\", \"steps\", \"seconds\", \"steps_per_s\", \"watched\", \"tested\",
\"stopped\": null or why}, the errors as `validate` has them.")]
    Train(TrainArgs),
    /// Rewrite a model's file in other units, another element type, and the newest schema.
    #[command(after_help = "Example:
  forgefield convert model.safetensors -o converted.safetensors --energy-unit eV --length-unit Ang --dtype f32

What a model predicts does not change: weights are scaled with the units. SchNetPack's pickles are converted by
python/tools/schnetpack_to_safetensors.py.")]
    Convert(ConvertArgs),
    /// Check kernels against the f64 reference: the equivalence gate; or check a model.
    #[command(after_help = "Examples:
  forgefield verify
  forgefield verify --variant painn_linear_receiver --runtime host --dtype f64 --cases full --json result.json
  forgefield verify --model model.safetensors --against labelled.extxyz

Of a model every frame's energy (1e-5 relative in f32, 1e-10 in f64), forces (1e-4, 1e-7 eV/Å) and stress (what such errors
of all forces over the cutoff make: times N·r_c/V) are compared with the labels of FILE. Whatever the labels, forces and stress
are compared with differences of the f64 energy, and rotation, permutation, batches and the sum of forces are checked.
Ends with 1 where a case fails and where no case was executed.")]
    Verify(VerifyArgs),
    /// Run one variant on tensors from a safetensors file.
    #[command(after_help = format!("Example:
  forgefield eval fused_message --variant cfconv_mlp_gaussian_cosine_receiver --inputs in.safetensors --outputs out.safetensors

{}
The metadata key `forgefield` of the outputs holds variant, runtime, launch configuration and how it was chosen.", crate::ops::tensors()))]
    Eval(EvalArgs),
    /// What a variant and a configuration become: code, registers, spills, occupancy, counted FLOPs and bytes, roofline.
    #[command(after_help = "Examples:
  forgefield inspect fused_message --variant painn_linear_bessel_cosine_receiver --arch sm_80,sm_90
  forgefield inspect fused_message --variant painn_linear_bessel_cosine_receiver --emit source --config unroll=8
  forgefield inspect fused_message --variant painn_linear_bessel_cosine_receiver --order 1
  forgefield inspect cell_list --variant full_cells --emit source --arch sm_90
  forgefield inspect cell_list --gate autotune/static/cell_list.json
  forgefield inspect model model.safetensors --atoms 1000 --degree 50

`model` counts parameters, FLOPs, bytes and memory by part and layer, and lists the plan of kernels; nothing is run.
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
  forgefield bench --suite models --model model.safetensors --json

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

/// Reads a percentage.
///
/// # Errors
/// What was expected.
pub fn percent(text: &str) -> std::result::Result<f64, String> {
    let found = text.strip_suffix('%').and_then(|t| t.parse::<f64>().ok()).filter(|p| p.is_finite() && *p >= 0.0);
    found.map(|p| p / 100.0).ok_or_else(|| format!("`{text}` is no threshold, expected a percentage such as 5%"))
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
}
