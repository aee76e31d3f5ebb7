//! The suite of the two backwards of `fused_message`: what forces need of them, and what training does.

use ff_kernels::host::peak::Peak;
use ff_reference::Oracle;
use ff_reference::fused_message::{ReferenceError, backward, double_backward};
use ff_spec::fused_message::{BackwardInputs, DoubleBackwardInputs, DoubleGradients, OP, Variant, Wanted};
use ff_spec::{FusedMessageBackward, FusedMessageDoubleBackward, Prepare, Runtime};
use ff_testkit::fused_message::gradients::{random_cotangents, random_tangent};
use ff_testkit::sampling::{Rows, placed};
use ff_testkit::tensors::ByTensors;

use super::bench::{self, LaunchedCase, Step, mask, prepare, some_receivers};
use super::tensors;
use crate::commands::bench::args::BenchArgs;
use crate::commands::bench::{CHECKED_ROWS, Case, Row, Timed, export, tables};
use crate::commands::eval::choose;
use crate::failure::{Failure, Result};
use crate::ops::order::UsedOrder;
use crate::screen::Screen;
use crate::tensors::write_flat;

/// A message step whose first or second backward is timed.
#[derive(Clone)]
pub struct Backward {
    name: String,
    forward: Step,
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
pub fn suite() -> Vec<Backward> {
    let of = |name: &str, suffix: &str, kind| {
        let forward = bench::suite().into_iter().find(|case| case.name == name);
        forward.map(|forward| Backward { name: format!("{name}-{suffix}"), forward, kind })
    };
    let names = ["painn-linear", "painn-tabulated", "schnet-mlp", "schnet-tabulated"];
    let of_all = |name: &'static str| {
        let weights = !name.ends_with("tabulated");
        let gradients = if weights { of(name, "gradients", Kind::First(Wanted::ALL)) } else { None };
        [of(name, "forces", Kind::First(Wanted::INPUTS)), gradients, of(name, "double", Kind::Second)]
    };
    names.into_iter().flat_map(of_all).flatten().collect()
}

impl Case for Backward {
    fn name(&self) -> &str {
        &self.name
    }

    fn op(&self) -> &'static str {
        OP
    }

    /// The gradients in the outputs are zero but for some receivers, spread over all, of which the oracle knows every gradient;
    /// the kernels have no branch on them.
    fn measure(
        &self,
        runtime: &(dyn Runtime + 'static),
        _roof: Option<Peak>,
        args: &BenchArgs,
        screen: &Screen,
    ) -> Result<Row> {
        let chosen = prepare(&self.forward, runtime, args, screen)?;
        let (inputs, dtype) = (&chosen.inputs, self.forward.dtype);
        let rows = Rows::even(inputs.n_atoms, CHECKED_ROWS);
        let mut grad = random_cotangents(inputs, 0);
        mask(&mut grad, &rows);
        match self.kind {
            Kind::First(wanted) => {
                let all = BackwardInputs { inputs: inputs.clone(), grad, wanted };
                let all = FusedMessageBackward::rounded(&all, dtype);
                // The oracle passes over what has no cotangents.
                let oracle = backward(&chosen.variant, &all).map_err(Failure::fault)?;
                let call = BackwardCall::<FusedMessageBackward> { inputs: &all, read: &all.tensors(), known: &|_| () };
                self.timed(&chosen, call, oracle, FusedMessageBackward::on(runtime), (args, screen))
            }
            Kind::Second => {
                let tangent = random_tangent(inputs, false, 0);
                let all = DoubleBackwardInputs { inputs: inputs.clone(), grad, tangent };
                let all = FusedMessageDoubleBackward::rounded(&all, dtype);
                let oracle = some_second(&chosen.variant, &all, &rows).map_err(Failure::fault)?;
                let call = BackwardCall::<FusedMessageDoubleBackward> {
                    inputs: &all,
                    read: &all.tensors(),
                    // What other receivers' outputs change at is not known.
                    known: &|outputs| mask(&mut outputs.grad, &rows),
                };
                self.timed(&chosen, call, oracle, FusedMessageDoubleBackward::on(runtime), (args, screen))
            }
        }
    }
}

/// What the oracle says of a second backward whose cotangents are zero outside some receivers.
pub fn some_second(
    variant: &Variant,
    all: &DoubleBackwardInputs<f64>,
    rows: &Rows,
) -> std::result::Result<Oracle<DoubleGradients<f64>>, ReferenceError> {
    let places = rows.places(&all.inputs.row_ptr);
    let mut part = DoubleBackwardInputs { inputs: some_receivers(&all.inputs, rows), ..all.clone() };
    part.tangent.edge_vec = places.iter().map(|at| all.tangent.edge_vec[*at]).collect();
    let mut oracle = double_backward(variant, &part)?;
    for found in [&mut oracle.outputs, &mut oracle.magnitude] {
        found.gradients.edge_vec = placed(&found.gradients.edge_vec, &places, all.inputs.edge_vec.len());
    }
    Ok(oracle)
}

/// What a backward reads, and what of its outputs the oracle knows.
struct BackwardCall<'a, O: ByTensors> {
    inputs: &'a O::Inputs,
    read: &'a [(String, Vec<usize>, &'a [f64])],
    /// Hides what the oracle does not know.
    known: &'a dyn Fn(&mut O::Outputs),
}

impl Backward {
    fn timed<O: ByTensors<Variant = Variant>>(
        &self,
        chosen: &LaunchedCase,
        call: BackwardCall<'_, O>,
        oracle: Oracle<O::Outputs>,
        runtime: &dyn Prepare<O>,
        (args, screen): (&BenchArgs, &Screen),
    ) -> Result<Row> {
        let (LaunchedCase { exact, variant, problem, .. }, dtype) = (chosen, self.forward.dtype);
        let (_, config) = choose(runtime, &tables(OP, args, screen), variant, dtype, call.inputs, problem);
        let read: usize = call.read.iter().map(|(_, _, values)| values.len()).sum();
        let written: usize = O::tensors(&oracle.outputs).iter().map(|(_, values)| values.len()).sum();
        let indices = 4 * (chosen.inputs.row_ptr.len() + chosen.inputs.sender.len());
        let timed = Timed::<O> {
            case: &self.name,
            variant,
            dtype,
            inputs: call.inputs,
            problem: problem.clone(),
            config,
            oracle,
            known: call.known,
            bytes: (read + written) * dtype.size() + indices,
            floor: None,
        };
        timed.measure(runtime, args, |dir, outputs| {
            let more = call.read.iter().filter(|(name, ..)| name.contains("grad.") || name.contains("tangent."));
            let inputs = tensors::write_inputs(exact, more.cloned(), dtype)?;
            export(&dir.join(format!("{}.in.safetensors", self.name)), &inputs)?;
            let outputs = write_flat(&O::tensors(outputs), dtype)?;
            export(&dir.join(format!("{}.out.safetensors", self.name)), &outputs)
        })
    }
}
