//! The suite of the two backwards of `fused_message`: what forces need of them, and what training does.

use ff_reference::Oracle;
use ff_reference::fused_message::{backward, double_backward};
use ff_spec::fused_message::{
    BackwardInputs, DoubleBackwardInputs, DoubleGradients, Gradients, Inputs, Variant, Wanted,
};
use ff_spec::{FusedMessageBackward, FusedMessageDoubleBackward, Prepare, Runtime};
use ff_testkit::gradients::{random_cotangents, random_tangent};
use ff_testkit::tensors::ByTensors;

use super::{Chosen, Row, check, checked_step, choose, export, mask, peak_of, prepare, some_receivers, tables, time};
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
pub(super) fn measure(
    case: &Case,
    runtime: &(dyn Runtime + 'static),
    args: &BenchArgs,
    screen: &Screen,
) -> Result<Row> {
    let forward: &dyn Prepare = runtime;
    let chosen = prepare(&case.forward, forward, args, screen)?;
    let (inputs, dtype) = (&chosen.inputs, case.forward.dtype);
    let step = checked_step(inputs);
    let mut grad = random_cotangents(inputs, 0);
    mask(&mut grad, inputs.n_atoms, step);
    match case.kind {
        Kind::First(wanted) => {
            let all = BackwardInputs { inputs: inputs.clone(), grad, wanted };
            let all = FusedMessageBackward::rounded(&all, dtype);
            // The oracle passes over what has no cotangents.
            let oracle = backward(&chosen.variant, &all).map_err(Failure::fault)?;
            let known = |_: &mut Gradients<f64>| ();
            let timed = Timed::<FusedMessageBackward, _> { inputs: &all, oracle, mask: known, read: &all.tensors() };
            timed.measure(case, &chosen, runtime, args, screen)
        }
        Kind::Second => {
            let tangent = random_tangent(inputs, false, 0);
            let all = DoubleBackwardInputs { inputs: inputs.clone(), grad, tangent };
            let all = FusedMessageDoubleBackward::rounded(&all, dtype);
            let places = places(inputs, step);
            let mut part = DoubleBackwardInputs { inputs: some_receivers(&all.inputs, step), ..all.clone() };
            part.tangent.edge_vec = places.iter().map(|at| all.tangent.edge_vec[*at]).collect();
            let mut oracle = double_backward(&chosen.variant, &part).map_err(Failure::fault)?;
            spread(&mut oracle.outputs.gradients, &places, inputs);
            spread(&mut oracle.magnitude.gradients, &places, inputs);
            // What other receivers' outputs change at is not known.
            let known = |outputs: &mut DoubleGradients<f64>| mask(&mut outputs.grad, inputs.n_atoms, step);
            let read = &all.tensors();
            let timed = Timed::<FusedMessageDoubleBackward, _> { inputs: &all, oracle, mask: known, read };
            timed.measure(case, &chosen, runtime, args, screen)
        }
    }
}

/// Where the elements of the edge vectors of [`some_receivers`] are among all.
pub(in crate::commands) fn places(inputs: &Inputs<f64>, step: usize) -> Vec<usize> {
    (0..inputs.n_atoms)
        .step_by(step)
        .flat_map(|row| 3 * inputs.row_ptr[row] as usize..3 * inputs.row_ptr[row + 1] as usize)
        .collect()
}

/// Puts gradients in the edge vectors of some receivers where they are among all; those of the others are zero.
pub(in crate::commands) fn spread(part: &mut Gradients<f64>, places: &[usize], inputs: &Inputs<f64>) {
    let mut edge_vec = vec![0.0; inputs.edge_vec.len()];
    for (at, value) in places.iter().zip(&part.edge_vec) {
        edge_vec[*at] = *value;
    }
    part.edge_vec = edge_vec;
}

/// A backward with what it should give.
struct Timed<'a, O: ByTensors, M> {
    inputs: &'a O::Inputs,
    oracle: Oracle<O::Outputs>,
    /// Hides what the oracle does not know.
    mask: M,
    read: &'a [(String, Vec<usize>, &'a [f64])],
}

impl<O: ByTensors<Variant = Variant>, M: Fn(&mut O::Outputs)> Timed<'_, O, M> {
    fn measure(
        &self,
        case: &Case,
        chosen: &Chosen,
        runtime: &dyn Prepare<O>,
        args: &BenchArgs,
        screen: &Screen,
    ) -> Result<Row> {
        let Chosen { exact, variant, problem, .. } = chosen;
        let dtype = case.forward.dtype;
        let (_, config) = choose(runtime, &tables(O::NAME, args, screen), variant, dtype, self.inputs, problem);
        let mut launch = runtime.prepare(variant, dtype, self.inputs, &config)?;
        let before = check(launch.as_mut(), &self.oracle, dtype, &self.mask)?;
        if let Some(dir) = &args.export {
            let more = self.read.iter().filter(|(name, ..)| name.contains("grad.") || name.contains("tangent."));
            let inputs = tensors::write_inputs(exact, more.cloned(), dtype)?;
            export(&dir.join(format!("{}.in.safetensors", case.name)), &inputs)?;
            let outputs = launch.outputs()?;
            let outputs = tensors::write_flat(&O::tensors(&outputs), dtype)?;
            export(&dir.join(format!("{}.out.safetensors", case.name)), &outputs)?;
        }
        let read: usize = self.read.iter().map(|(_, _, values)| values.len()).sum();
        let written: usize = O::tensors(&self.oracle.outputs).iter().map(|(_, values)| values.len()).sum();
        let indices = 4 * (chosen.inputs.row_ptr.len() + chosen.inputs.sender.len());
        let bytes = (read + written) * dtype.size() + indices;
        let memory = peak_of(|| launch.run())?.map(|extra| 1.0 + extra as f64 / bytes.max(1) as f64);
        let samples = time(args, || Ok(launch.time()?))?;
        let after = check(launch.as_mut(), &self.oracle, dtype, &self.mask)?;
        Ok(Row {
            case: case.name.clone(),
            variant: variant.id(),
            dtype,
            ns_per_edge: samples.timing.median_ns / problem.n_edges.max(1) as f64,
            problem: problem.clone(),
            config,
            samples,
            floor: None,
            floor_ns: None,
            bound: None,
            rel_error: before.max(after),
            memory,
        })
    }
}
