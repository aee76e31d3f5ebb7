use ff_kernels::fused_message::find;
use ff_spec::fused_message::{BackwardInputs, Gradients, OP, Variant, Wanted};
use ff_spec::{
    DeviceId, Dtype, FusedMessageBackward, LaunchConfig, Op, Prepare, Problem, SCHEMA_VERSION, TuneKey, cell_list,
};
use ff_tables::{Loaded, Query, Selection, Step, select};
use serde::Serialize;

use crate::failure::{Failure, Result};
use crate::options::EvalArgs;
use crate::screen::Screen;
use crate::{provenance, runtimes, tensors, variants};

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
    backward: Option<Launched>,
}

/// A launch of a kernel of another order.
#[derive(Serialize)]
struct Launched {
    config: LaunchConfig,
    step: Step,
    reason: String,
}

/// Runs a variant on tensors from a file.
pub fn run(args: &EvalArgs, screen: &Screen) -> Result<()> {
    if args.op == cell_list::OP {
        return Err(Failure::input(format!(
            "`eval` runs kernels on tensors, and op `{}` makes lists of structures: expected op `{OP}`, or the command \
             `forgefield neighbors FILE`",
            cell_list::OP
        )));
    }
    variants::op_of(&args.op, "eval", &[OP])?;
    keeps_inputs(args)?;
    let variant = variants::one(&args.variant)?;
    let registered = find(&variant).ok_or_else(|| Failure::input(format!("`{variant}` was not rendered")))?;
    let tensors::Read { inputs, assumed } =
        tensors::read(&args.inputs, &variant, registered.pair().as_ref(), args.dtype)?;
    for note in &assumed {
        screen.say(format!("note: {note}"));
    }
    let grad = args.grad.as_deref().map(|path| tensors::read_cotangents(path, &inputs, args.dtype)).transpose()?;
    let opened = runtimes::open(args.runtime, screen)?;
    let runtime: &dyn Prepare = opened.as_ref();
    let problem = inputs.problem(&args.inputs.file_stem().unwrap_or_default().to_string_lossy());
    let tables = ff_tables::load_all(&args.tables, OP);
    for error in &tables.errors {
        screen.warn(format!("warning: {error}"));
    }
    let (selection, config) = choose(runtime, &tables, &variant, args.dtype, &inputs, &problem);
    let mut launch = runtime.prepare(&variant, args.dtype, &inputs, &config)?;
    launch.poison()?;
    launch.run()?;
    let outputs = launch.outputs()?;
    let (gradients, backward) = match grad {
        Some(grad) => {
            let inputs = BackwardInputs { inputs: inputs.clone(), grad, wanted: Wanted::ALL };
            let (gradients, launched) = gradients(opened.as_ref(), &tables, &variant, args.dtype, &inputs, &problem)?;
            (Some(gradients), Some(launched))
        }
        None => (None, None),
    };
    let more = gradients.as_ref().map(|gradients| gradients.named("grad", &inputs)).unwrap_or_default();
    let all = [&outputs.nodes[..], &outputs.vectors].into_iter().chain(more.iter().map(|(_, _, values)| *values));
    let unusual = all.flatten().filter(|v| !v.is_finite()).count();
    if unusual > 0 {
        screen.warn(format!("warning: {unusual} output elements are not finite: the sums exceed {}", args.dtype));
    }
    let report = Report {
        schema: SCHEMA_VERSION,
        op: OP.to_owned(),
        variant: variant.id(),
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
    let bytes = tensors::write(&outputs, more, &inputs, args.dtype, note)?;
    ff_tables::fs::replace(&args.outputs, &bytes)
        .map_err(|e| Failure::input(format!("cannot write {}: {e}", args.outputs.display())))?;
    if args.json {
        return screen.json(&report);
    }
    let Report { problem, config, reason, backward, .. } = &report;
    screen.line(format!("{variant} in {}: {} atoms, {} edges", args.dtype, problem.n_atoms, problem.n_edges))?;
    screen.line(format!("config {config} ({reason})"))?;
    if let Some(Launched { config, reason, .. }) = backward {
        screen.line(format!("config {config} of the gradients ({reason})"))?;
    }
    screen.line(format!("wrote {}", args.outputs.display()))
}

/// Refuses to write over what is read.
fn keeps_inputs(args: &EvalArgs) -> Result<()> {
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

/// The gradients in every input, from those in the outputs.
fn gradients(
    runtime: &dyn Prepare<FusedMessageBackward>,
    tables: &Loaded,
    variant: &Variant,
    dtype: Dtype,
    inputs: &BackwardInputs<f64>,
    problem: &Problem,
) -> Result<(Gradients<f64>, Launched)> {
    let (Selection { step, reason, .. }, config) = choose(runtime, tables, variant, dtype, inputs, problem);
    let mut launch = runtime.prepare(variant, dtype, inputs, &config)?;
    launch.poison()?;
    launch.run()?;
    Ok((launch.outputs()?, Launched { config, step, reason }))
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
