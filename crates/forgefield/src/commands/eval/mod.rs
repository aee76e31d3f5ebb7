//! `eval`: one variant on tensors from a file.

pub mod args;

use ff_spec::{DeviceId, Dtype, LaunchConfig, Op, Prepare, Problem, Runtime, SCHEMA_VERSION, TuneKey};
use ff_tables::{Loaded, Query, Selection, Step, select};
use serde::Serialize;

use self::args::EvalArgs;
use crate::failure::{Failure, Result};
use crate::screen::Screen;
use crate::{ops, provenance, runtimes};

/// What was run: printed with `--json`, kept in the outputs' metadata.
#[derive(Serialize)]
struct Report {
    schema: u32,
    op: String,
    variant: String,
    dtype: Dtype,
    runtime: String,
    device: DeviceId,
    problem: Problem,
    config: LaunchConfig,
    step: Step,
    reason: String,
    /// How the gradients were computed, where they were.
    #[serde(skip_serializing_if = "Option::is_none")]
    backward: Option<BackwardRun>,
}

/// A launch of a kernel of another order.
#[derive(Serialize)]
pub struct BackwardRun {
    /// Its configuration.
    pub config: LaunchConfig,
    /// How that was found.
    pub step: Step,
    /// In words.
    pub reason: String,
}

/// A call that was read from files.
pub trait FileCall {
    /// Id of the variant.
    fn id(&self) -> String;

    /// Its sizes.
    fn problem(&self, name: &str) -> Problem;

    /// Runs it, its gradients too where they are asked for.
    ///
    /// # Errors
    /// As a launch.
    fn run(&mut self, runtime: &(dyn Runtime + 'static), tables: &Loaded, problem: &Problem) -> Result<Ran>;

    /// Output elements that are not finite.
    fn unusual(&self) -> usize;

    /// The outputs as a safetensors file; `note` says how they were computed.
    ///
    /// # Errors
    /// What the format cannot hold.
    fn file(&self, note: String) -> Result<Vec<u8>>;
}

/// How a call was run.
pub struct Ran {
    /// How its configuration was found.
    pub selection: Selection,
    /// Its configuration.
    pub config: LaunchConfig,
    /// How its gradients were computed, where they were.
    pub backward: Option<BackwardRun>,
}

/// What is said of an op whose calls are not read from files yet.
pub fn not_from_files(args: &EvalArgs) -> Failure {
    let known: Vec<&str> = ops::ALL.iter().filter(|op| op.tensors().is_some()).map(|op| op.name()).collect();
    Failure::input(format!("`eval` does not know op `{}` yet, expected one of {}", args.op, known.join(", ")))
}

/// Runs a variant on tensors from a file.
pub fn run(args: &EvalArgs, screen: &Screen) -> Result<()> {
    let op = ops::find(&args.op)?;
    let mut call = op.read_call(args, screen)?;
    let runtime = runtimes::open(args.runtime, screen)?;
    let problem = call.problem(&args.inputs.file_stem().unwrap_or_default().to_string_lossy());
    let tables = ff_tables::load_all(&args.tables, op.name());
    for error in &tables.errors {
        screen.warn(format!("warning: {error}"));
    }
    let Ran { selection, config, backward } = call.run(runtime.as_ref(), &tables, &problem)?;
    let unusual = call.unusual();
    if unusual > 0 {
        screen.warn(format!("warning: {unusual} output elements are not finite: the sums exceed {}", args.dtype));
    }
    let report = Report {
        schema: SCHEMA_VERSION,
        op: op.name().to_owned(),
        variant: call.id(),
        dtype: args.dtype,
        runtime: runtime.device().runtime.to_string(),
        device: runtime.device().clone(),
        problem,
        config,
        step: selection.step,
        reason: selection.reason,
        backward,
    };
    let note = serde_json::to_string(&report).map_err(Failure::fault)?;
    let bytes = call.file(note)?;
    ff_tables::fs::replace(&args.outputs, &bytes)
        .map_err(|e| Failure::input(format!("cannot write {}: {e}", args.outputs.display())))?;
    if args.json {
        return screen.json(&report);
    }
    let Report { variant, problem, config, reason, backward, .. } = &report;
    screen.line(format!("{variant} in {}: {} atoms, {} edges", args.dtype, problem.n_atoms, problem.n_edges))?;
    screen.line(format!("config {config} ({reason})"))?;
    if let Some(BackwardRun { config, reason, .. }) = backward {
        screen.line(format!("config {config} of the gradients ({reason})"))?;
    }
    screen.line(format!("wrote {}", args.outputs.display()))
}

/// Refuses to write over what is read.
///
/// # Errors
/// The file that would be lost.
pub fn keeps_inputs(args: &EvalArgs) -> Result<()> {
    let Ok(outputs) = args.outputs.canonicalize() else { return Ok(()) };
    let read = [("--inputs", Some(&args.inputs)), ("--grad", args.grad.as_ref())];
    match read.into_iter().find(|(_, path)| path.is_some_and(|path| path.canonicalize().is_ok_and(|p| p == outputs))) {
        Some((flag, _)) => Err(Failure::input(format!(
            "--outputs {} is the file of {flag}, which would be lost: expected another one",
            args.outputs.display()
        ))),
        None => Ok(()),
    }
}

/// The configuration for a call from the tables, or the default one, with how it was found.
pub fn choose<O: Op>(
    runtime: &(impl Prepare<O> + ?Sized),
    tables: &Loaded,
    variant: &O::Variant,
    dtype: Dtype,
    inputs: &O::Inputs,
    problem: &Problem,
) -> (Selection, LaunchConfig) {
    let key = TuneKey::of::<O>(variant, dtype, problem);
    let template_hash = provenance::template_hash(O::NAME);
    let query = Query { op: O::NAME, device: runtime.device(), template_hash, key: &key };
    let feasible = |config: &LaunchConfig| runtime.prepare(variant, dtype, inputs, config).is_ok();
    let selection = select(tables.iter(), query, feasible);
    let config = selection.config.clone().unwrap_or_else(|| runtime.default_config(variant, dtype, problem));
    (selection, config)
}
