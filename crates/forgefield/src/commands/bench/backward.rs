//! The suite of the first backward of `fused_message`: what forces need of it, and what training does.

use ff_reference::fused_message::{BackwardOracle, backward};
use ff_spec::fused_message::{BackwardInputs, Gradients, Inputs, Outputs, Variant, Wanted};
use ff_spec::{Dtype, FusedMessageBackward, Launch, Prepare, Runtime};
use ff_testkit::generators::rounded;
use ff_testkit::gradients::random_cotangents;
use ff_testkit::tolerance::{Order, compare};

use super::{CHECKED_ROWS, Chosen, Row, peak_of, prepare, some_receivers, time};
use crate::failure::{Failure, Result};
use crate::options::BenchArgs;
use crate::screen::Screen;

/// A message step whose backward is timed.
#[derive(Clone)]
pub struct Case {
    pub name: String,
    forward: super::Case,
    wanted: Wanted,
}

/// The cases that peers are compared at: gradients in features and edge vectors, and in weights besides.
pub fn suite() -> Vec<Case> {
    let of = |name: &str, suffix: &str, wanted| {
        let forward = super::suite().into_iter().find(|case| case.name == name);
        forward.map(|forward| Case { name: format!("{name}-{suffix}"), forward, wanted })
    };
    [
        of("painn-linear", "forces", Wanted::INPUTS),
        of("painn-linear", "gradients", Wanted::ALL),
        of("painn-tabulated", "forces", Wanted::INPUTS),
        of("schnet-mlp", "forces", Wanted::INPUTS),
        of("schnet-mlp", "gradients", Wanted::ALL),
        of("schnet-tabulated", "forces", Wanted::INPUTS),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Times one case. The gradients in the outputs are zero but for some receivers, spread over all: of those the oracle
/// knows every gradient, and to the kernel a zero costs what any number does.
///
/// # Errors
/// Gradients that are wrong, and whatever stops the runtime.
pub fn measure(case: &Case, runtime: &dyn Runtime, args: &BenchArgs, screen: &Screen) -> Result<Row> {
    let forward: &dyn Prepare = runtime;
    let Chosen { variant, inputs, problem, config, .. } = prepare(&case.forward, forward, args, screen)?;
    let dtype = case.forward.dtype;
    let step = inputs.n_atoms.div_ceil(CHECKED_ROWS).max(1);
    let mut grad = random_cotangents(&inputs, 0);
    for values in [&mut grad.nodes, &mut grad.vectors] {
        let per_row = values.len() / inputs.n_atoms.max(1);
        for (row, values) in values.chunks_exact_mut(per_row.max(1)).enumerate() {
            values.iter_mut().for_each(|g| *g = if row % step == 0 { round(*g, dtype) } else { 0.0 });
        }
    }
    let oracle = oracle(&variant, &inputs, &grad, step, case.wanted)?;
    let inputs = BackwardInputs { inputs: rounded(&inputs, dtype), grad, wanted: case.wanted };
    let runtime: &dyn Prepare<FusedMessageBackward> = runtime;
    let mut launch = runtime.prepare(&variant, dtype, &inputs, &config)?;
    let before = check(launch.as_mut(), &oracle, dtype)?;
    let read: usize = inputs.tensors().iter().map(|(_, _, values)| values.len()).sum();
    let written: usize = oracle.outputs.tensors().iter().map(|(_, values)| values.len()).sum();
    let bytes = (read + written) * dtype.size() + 4 * (inputs.inputs.row_ptr.len() + inputs.inputs.sender.len());
    let memory = peak_of(|| launch.run())?.map(|extra| 1.0 + extra as f64 / bytes.max(1) as f64);
    let timing = time(args, || Ok(launch.time()?))?;
    let after = check(launch.as_mut(), &oracle, dtype)?;
    Ok(Row {
        case: case.name.clone(),
        variant: variant.id(),
        dtype,
        ns_per_edge: timing.median_ns / problem.n_edges.max(1) as f64,
        problem,
        config,
        timing,
        floor_ns: None,
        bound: None,
        rel_error: before.max(after),
        memory,
    })
}

fn round(x: f64, dtype: Dtype) -> f64 {
    match dtype {
        Dtype::F32 => f64::from(x as f32),
        Dtype::F64 => x,
    }
}

/// The oracle's gradients where only every `step`-th receiver has one in its outputs.
fn oracle(
    variant: &Variant,
    inputs: &Inputs<f64>,
    grad: &Outputs<f64>,
    step: usize,
    wanted: Wanted,
) -> Result<BackwardOracle> {
    let part = some_receivers(inputs, step);
    let rows = part.row_ptr.clone();
    let of_part = backward(variant, &BackwardInputs { inputs: part, grad: grad.clone(), wanted });
    let mut oracle = of_part.map_err(Failure::fault)?;
    // The edges of the others have none.
    let all = |part: &mut Gradients<f64>| {
        let mut edge_vec = vec![0.0; inputs.edge_vec.len()];
        for row in (0..inputs.n_atoms).step_by(step) {
            let (from, to) = (3 * rows[row] as usize, 3 * inputs.row_ptr[row] as usize);
            let len = 3 * (rows[row + 1] - rows[row]) as usize;
            edge_vec[to..to + len].copy_from_slice(&part.edge_vec[from..from + len]);
        }
        part.edge_vec = edge_vec;
    };
    all(&mut oracle.outputs);
    all(&mut oracle.magnitude);
    Ok(oracle)
}

/// Runs the kernel on poisoned outputs; the largest relative error of its gradients.
fn check(launch: &mut dyn Launch<FusedMessageBackward>, oracle: &BackwardOracle, dtype: Dtype) -> Result<f64> {
    launch.poison()?;
    launch.run()?;
    let outputs = launch.outputs()?;
    let mut worst = 0.0_f64;
    let references = oracle.outputs.tensors().into_iter().zip(oracle.magnitude.tensors());
    for ((name, out), ((_, reference), (_, magnitude))) in outputs.tensors().into_iter().zip(references) {
        let comparison = compare(dtype, Order::First, out, reference, magnitude);
        if let Some(reason) = comparison.reason {
            return Err(Failure::unmet(format!("not timed, the gradient in `{name}` is wrong: {reason}")));
        }
        worst = worst.max(comparison.rel_error);
    }
    Ok(worst)
}
