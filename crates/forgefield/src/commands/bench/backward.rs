//! The suite of the two backwards of `fused_message`: what forces need of them, and what training does.

use ff_reference::fused_message::{BackwardOracle, DoubleBackwardOracle, backward, double_backward};
use ff_spec::fused_message::{BackwardInputs, DoubleBackwardInputs, DoubleGradients, Gradients, Inputs, Wanted};
use ff_spec::{Dtype, FusedMessageBackward, FusedMessageDoubleBackward, Op, Prepare, Runtime};
use ff_testkit::gate::{Gated, Verdict};
use ff_testkit::gradients::{random_cotangents, random_tangent, rounded_backward, rounded_double_backward};

use super::{CHECKED_ROWS, Chosen, Row, export, peak_of, prepare, some_receivers, time};
use crate::failure::{Failure, Result};
use crate::options::BenchArgs;
use crate::screen::Screen;
use crate::tensors;

/// A message step whose first or second backward is timed.
#[derive(Clone)]
pub struct Case {
    pub name: String,
    forward: super::Case,
    kind: Kind,
}

#[derive(Clone, Copy)]
enum Kind {
    /// The first backward.
    First(Wanted),
    /// The second backward in all inputs, in a direction in features and edge vectors as a loss on forces has it.
    Second,
}

/// The cases that peers are compared at: gradients in features and edge vectors, and in weights besides.
pub fn suite() -> Vec<Case> {
    let of = |name: &str, suffix: &str, kind| {
        let forward = super::suite().into_iter().find(|case| case.name == name);
        forward.map(|forward| Case { name: format!("{name}-{suffix}"), forward, kind })
    };
    let names = ["painn-linear", "painn-tabulated", "schnet-mlp", "schnet-tabulated"];
    let of_all = |name: &'static str| {
        let weights = !name.ends_with("tabulated");
        let gradients = if weights { of(name, "gradients", Kind::First(Wanted::ALL)) } else { None };
        [of(name, "forces", Kind::First(Wanted::INPUTS)), gradients, of(name, "double", Kind::Second)]
    };
    names.into_iter().flat_map(of_all).flatten().collect()
}

/// Times one case. The gradients in the outputs are zero but for some receivers, spread over all, of which the oracle knows
/// every gradient; the kernels have no branch on them.
///
/// # Errors
/// Gradients that are wrong, and whatever stops the runtime.
pub fn measure(case: &Case, runtime: &(dyn Runtime + 'static), args: &BenchArgs, screen: &Screen) -> Result<Row> {
    let forward: &dyn Prepare = runtime;
    let chosen = prepare(&case.forward, forward, args, screen)?;
    let (inputs, dtype) = (&chosen.inputs, case.forward.dtype);
    let step = inputs.n_atoms.div_ceil(CHECKED_ROWS).max(1);
    let mut grad = random_cotangents(inputs, 0);
    mask(&mut grad.nodes, inputs.n_atoms, step);
    mask(&mut grad.vectors, inputs.n_atoms, step);
    let places = places(inputs, step);
    match case.kind {
        Kind::First(wanted) => {
            let all = BackwardInputs { inputs: inputs.clone(), grad, wanted };
            let all = rounded_backward(&all, dtype);
            let part = BackwardInputs { inputs: some_receivers(&all.inputs, step), ..all.clone() };
            let BackwardOracle { mut outputs, mut magnitude } =
                backward(&chosen.variant, &part).map_err(Failure::fault)?;
            spread(&mut outputs, &places, inputs);
            spread(&mut magnitude, &places, inputs);
            let tensors = all.tensors();
            let oracle = BackwardOracle { outputs, magnitude };
            let written = oracle.outputs.tensors().iter().map(|(_, values)| values.len()).sum();
            let timed = Timed::<FusedMessageBackward, _> {
                inputs: &all,
                oracle,
                mask: |_: &mut Gradients<f64>| (),
                read: &tensors,
                written,
            };
            timed.measure(case, &chosen, runtime, args, Gradients::tensors)
        }
        Kind::Second => {
            let tangent = random_tangent(inputs, false, 0);
            let all = DoubleBackwardInputs { inputs: inputs.clone(), grad, tangent };
            let all = rounded_double_backward(&all, dtype);
            let mut part = DoubleBackwardInputs { inputs: some_receivers(&all.inputs, step), ..all.clone() };
            part.tangent.edge_vec = places.iter().map(|at| all.tangent.edge_vec[*at]).collect();
            let DoubleBackwardOracle { mut outputs, mut magnitude } =
                double_backward(&chosen.variant, &part).map_err(Failure::fault)?;
            spread(&mut outputs.gradients, &places, inputs);
            spread(&mut magnitude.gradients, &places, inputs);
            let tensors = all.tensors();
            let oracle = DoubleBackwardOracle { outputs, magnitude };
            let written = oracle.outputs.tensors().iter().map(|(_, values)| values.len()).sum();
            // What other receivers' outputs change at is not known: only that it was written.
            let known = |outputs: &mut DoubleGradients<f64>| {
                mask(&mut outputs.grad.nodes, inputs.n_atoms, step);
                mask(&mut outputs.grad.vectors, inputs.n_atoms, step);
            };
            let timed =
                Timed::<FusedMessageDoubleBackward, _> { inputs: &all, oracle, mask: known, read: &tensors, written };
            timed.measure(case, &chosen, runtime, args, DoubleGradients::tensors)
        }
    }
}

/// Zeros in all finite values but of every `step`-th row.
fn mask(values: &mut [f64], rows: usize, step: usize) {
    let per_row = values.len() / rows.max(1);
    for (row, values) in values.chunks_exact_mut(per_row.max(1)).enumerate() {
        if row % step != 0 {
            values.iter_mut().filter(|v| v.is_finite()).for_each(|v| *v = 0.0);
        }
    }
}

/// Where the elements of the edge vectors of [`some_receivers`] are among all.
fn places(inputs: &Inputs<f64>, step: usize) -> Vec<usize> {
    (0..inputs.n_atoms)
        .step_by(step)
        .flat_map(|row| 3 * inputs.row_ptr[row] as usize..3 * inputs.row_ptr[row + 1] as usize)
        .collect()
}

/// Puts gradients in the edge vectors of some receivers where they are among all; those of the others are zero.
fn spread(part: &mut Gradients<f64>, places: &[usize], inputs: &Inputs<f64>) {
    let mut edge_vec = vec![0.0; inputs.edge_vec.len()];
    for (at, value) in places.iter().zip(&part.edge_vec) {
        edge_vec[*at] = *value;
    }
    part.edge_vec = edge_vec;
}

/// A backward with what it should give.
struct Timed<'a, O: Gated, M> {
    inputs: &'a O::Inputs,
    oracle: O::Oracle,
    /// Hides what the oracle does not know.
    mask: M,
    read: &'a [(String, Vec<usize>, &'a [f64])],
    /// Elements.
    written: usize,
}

impl<O: Gated, M: Fn(&mut O::Outputs)> Timed<'_, O, M>
where
    O: Op<Variant = ff_spec::fused_message::Variant>,
    dyn Runtime: Prepare<O>,
{
    fn measure(
        &self,
        case: &Case,
        chosen: &Chosen,
        runtime: &(dyn Runtime + 'static),
        args: &BenchArgs,
        named: impl Fn(&O::Outputs) -> Vec<(&'static str, &[f64])>,
    ) -> Result<Row> {
        let Chosen { exact, variant, problem, config, .. } = chosen;
        let dtype = case.forward.dtype;
        let mut launch = Prepare::<O>::prepare(runtime, variant, dtype, self.inputs, config)?;
        let before = self.check(launch.as_mut(), dtype)?;
        if let Some(dir) = &args.export {
            let more = self.read.iter().filter(|(name, ..)| name.contains("grad.") || name.contains("tangent."));
            let inputs = tensors::write_inputs(exact, more.cloned(), dtype)?;
            export(&dir.join(format!("{}.in.safetensors", case.name)), &inputs)?;
            let outputs = launch.outputs()?;
            let outputs = tensors::write_flat(&named(&outputs), dtype)?;
            export(&dir.join(format!("{}.out.safetensors", case.name)), &outputs)?;
        }
        let read: usize = self.read.iter().map(|(_, _, values)| values.len()).sum();
        let indices = 4 * (chosen.inputs.row_ptr.len() + chosen.inputs.sender.len());
        let bytes = (read + self.written) * dtype.size() + indices;
        let memory = peak_of(|| launch.run())?.map(|extra| 1.0 + extra as f64 / bytes.max(1) as f64);
        let timing = time(args, || Ok(launch.time()?))?;
        let after = self.check(launch.as_mut(), dtype)?;
        Ok(Row {
            case: case.name.clone(),
            variant: variant.id(),
            dtype,
            ns_per_edge: timing.median_ns / problem.n_edges.max(1) as f64,
            problem: problem.clone(),
            config: config.clone(),
            timing,
            floor_ns: None,
            bound: None,
            rel_error: before.max(after),
            memory,
        })
    }

    /// Runs the kernel on poisoned outputs; the largest relative error of its gradients.
    fn check(&self, launch: &mut dyn ff_spec::Launch<O>, dtype: Dtype) -> Result<f64> {
        launch.poison()?;
        launch.run()?;
        let mut outputs = launch.outputs()?;
        (self.mask)(&mut outputs);
        match O::compare(&outputs, &self.oracle, dtype) {
            Ok((rel_error, _)) => Ok(rel_error),
            Err(Verdict::Failed { reason, .. }) => {
                Err(Failure::unmet(format!("not timed, a gradient is wrong: {reason}")))
            }
            Err(other) => Err(Failure::fault(format!("not timed: {other:?}"))),
        }
    }
}
