//! The suite of `fused_message`: PaiNN's and SchNet's steps.

use std::path::PathBuf;

use ff_kernels::fused_message::{registered, tabulate};
use ff_kernels::host::peak::Peak;
use ff_reference::fused_message::forward;
use ff_reference::radial::{RadialKind, default_parameters};
use ff_spec::fused_message::{
    Activation, Filter, FilterKind, Inputs, Message, OP, Outputs, Radial, Reduction, Variant, Wanted, cost,
};
use ff_spec::{
    Dtype, FusedMessage, FusedMessageBackward, FusedMessageDoubleBackward, LaunchConfig, Prepare, Problem, Runtime,
};
use ff_structure::{MessageSpec, builtin, message_inputs, random_linear, random_mlp, read_structures};
use ff_testkit::degrees::Degrees;
use ff_testkit::fused_message::gradients::{BackwardSpec, DoubleBackwardSpec};
use ff_testkit::fused_message::{CaseSpec, Distances, rounded};
use ff_testkit::sampling::Rows;

use super::call::TABLE_TOLERANCE;
use super::{is_usual, tensors};
use crate::commands::bench::args::BenchArgs;
use crate::commands::bench::instructions::CountedJob;
use crate::commands::bench::{CHECKED_ROWS, Case, Floor, Row, Timed, export, tables};
use crate::commands::eval::choose;
use crate::failure::{Failure, Result};
use crate::screen::Screen;

/// A message step with its sizes.
#[derive(Clone)]
pub struct Step {
    /// Its name on the command line.
    pub name: String,
    message: Message,
    filter: FilterKind,
    /// Whether the filter is sampled into a table first.
    tabulated: bool,
    problem: &'static str,
    cutoff: f64,
    features: usize,
    n_basis: usize,
    /// Element type.
    pub dtype: Dtype,
}

/// Hidden width of mlp filters.
const HIDDEN: usize = 128;
/// Derivatives stored per node of a table: quintic segments, which need the least memory for their error.
const TABLE_ORDER: usize = 3;

impl Step {
    /// The untabulated variant, with the radial functions of its model.
    fn exact(&self) -> Variant {
        let basis = if self.message == Message::Painn { "bessel" } else { "gaussian" };
        Variant {
            message: self.message,
            filter: self.filter,
            radial: Some((basis.to_owned(), "cosine".to_owned())),
            reduction: Reduction::Receiver,
        }
    }
}

/// The built-in suite: PaiNN's message at the size that peers are compared at, then one axis changed at a time; SchNet's.
pub fn suite() -> Vec<Step> {
    let painn = Step {
        name: "painn-linear".to_owned(),
        message: Message::Painn,
        filter: FilterKind::Linear,
        tabulated: false,
        problem: "water-1333",
        cutoff: 5.0,
        features: 128,
        n_basis: 20,
        dtype: Dtype::F32,
    };
    let schnet = Step {
        name: "schnet-mlp".to_owned(),
        message: Message::Cfconv,
        filter: FilterKind::Mlp,
        n_basis: 50,
        ..painn.clone()
    };
    let change = |suffix: &str, case: &Step, change: fn(&mut Step)| {
        let mut case = Step { name: format!("{}-{suffix}", case.name), ..case.clone() };
        change(&mut case);
        case
    };
    let tabulated = Step { name: "painn-tabulated".to_owned(), tabulated: true, ..painn.clone() };
    vec![
        change("f64", &painn, |c| c.dtype = Dtype::F64),
        change("64-features", &painn, |c| c.features = 64),
        change("256-features", &painn, |c| c.features = 256),
        change("degree-12", &painn, |c| c.cutoff = 3.224),
        change("degree-120", &painn, |c| c.cutoff = 6.568),
        change("999-atoms", &painn, |c| c.problem = "water-333"),
        change("15999-atoms", &painn, |c| c.problem = "water-5333"),
        change("50001-atoms", &painn, |c| c.problem = "water-16667"),
        change("benzene", &painn, |c| c.problem = "c6h6"),
        change("benzene", &tabulated, |c| c.problem = "c6h6"),
        change("50001-atoms", &tabulated, |c| c.problem = "water-16667"),
        Step { name: "schnet-tabulated".to_owned(), tabulated: true, ..schnet.clone() },
        schnet,
        tabulated,
        painn,
    ]
    .into_iter()
    .rev()
    .collect()
}

/// Steps on the first frames of structure files, whose latency is that of one molecule.
pub fn of_structures(paths: &[PathBuf]) -> Vec<Step> {
    let mut all = Vec::new();
    for path in paths {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        for base in suite().into_iter().filter(|c| ["painn-linear", "painn-tabulated"].contains(&c.name.as_str())) {
            all.push(Step { name: format!("{}-{name}", base.name), problem: "", ..base });
        }
    }
    all
}

/// The exact inputs of a case.
fn inputs(case: &Step, args: &BenchArgs) -> Result<Inputs<f64>> {
    let structures = if case.problem.is_empty() {
        let path = args
            .structure
            .iter()
            .find(|path| case.name.ends_with(&*path.file_stem().unwrap_or_default().to_string_lossy()));
        let path = path.ok_or_else(|| Failure::input(format!("case `{}` has no structure file", case.name)))?;
        let mut frames = read_structures(path).map_err(Failure::input)?;
        // Latency is that of one molecule.
        frames.truncate(1);
        frames
    } else {
        builtin(case.problem).map_err(Failure::input)?
    };
    let variant = case.exact();
    let channels = case.message.parts() * case.features;
    let parameters =
        |name: &str, kind| default_parameters(name, kind, case.cutoff, case.n_basis).map_err(Failure::input);
    let (basis, cutoff) = variant.radial.clone().unwrap_or_default();
    let spec = MessageSpec {
        message: case.message,
        features: case.features,
        radial: Radial {
            r_cut: case.cutoff,
            n_basis: case.n_basis,
            basis: parameters(&basis, RadialKind::Basis)?,
            cutoff: parameters(&cutoff, RadialKind::Cutoff)?,
        },
        filter: match case.filter {
            FilterKind::Mlp => random_mlp(case.n_basis, HIDDEN, channels, Activation::ShiftedSoftplus, 0),
            FilterKind::Linear | FilterKind::Tabulated => random_linear(case.n_basis, channels, 0),
        },
        seed: 0,
    };
    message_inputs(&structures, case.cutoff, &spec).map_err(Failure::input)
}

/// What a case is about: its exact inputs, and the variant, inputs, sizes and configuration that are launched.
pub struct LaunchedCase {
    /// With the filter as it is before it is sampled.
    pub exact: Inputs<f64>,
    /// What is launched.
    pub variant: Variant,
    /// What is launched on.
    pub inputs: Inputs<f64>,
    /// Its sizes.
    pub problem: Problem,
    /// The forward's.
    pub config: LaunchConfig,
}

/// Makes a step.
///
/// # Errors
/// A problem or a structure that cannot be read, and a filter that no table can stand in for.
pub fn prepare(case: &Step, runtime: &dyn Prepare, args: &BenchArgs, screen: &Screen) -> Result<LaunchedCase> {
    let exact = rounded(&inputs(case, args)?, case.dtype);
    let exact_variant = case.exact();
    let (variant, inputs) = if case.tabulated {
        let table = tabulate(&exact_variant, &exact, TABLE_ORDER, TABLE_TOLERANCE)?;
        let filter: Filter<f64> = table.filter;
        let radial = Radial { r_cut: exact.radial.r_cut, ..Radial::default() };
        let variant = Variant { filter: FilterKind::Tabulated, radial: None, ..exact_variant };
        (variant, rounded(&Inputs { filter, radial, ..exact.clone() }, case.dtype))
    } else {
        (exact_variant, exact.clone())
    };
    let problem = inputs.problem(if case.problem.is_empty() { &case.name } else { case.problem });
    let tables = tables(OP, args, screen);
    let (_, config) = choose(runtime, &tables, &variant, case.dtype, &inputs, &problem);
    Ok(LaunchedCase { exact, variant, inputs, problem, config })
}

impl Case for Step {
    fn name(&self) -> &str {
        &self.name
    }

    fn op(&self) -> &'static str {
        OP
    }

    fn measure(
        &self,
        runtime: &(dyn Runtime + 'static),
        roof: Option<Peak>,
        args: &BenchArgs,
        screen: &Screen,
    ) -> Result<Row> {
        let runtime: &dyn Prepare = runtime;
        let LaunchedCase { exact, variant, inputs, problem, config } = prepare(self, runtime, args, screen)?;
        let rows = Rows::even(inputs.n_atoms, CHECKED_ROWS);
        let cost = cost(&variant, &problem, self.dtype);
        let note = format!("outputs of {variant} under {config}");
        let timed = Timed::<FusedMessage> {
            case: &self.name,
            variant: &variant,
            dtype: self.dtype,
            inputs: &inputs,
            problem,
            config,
            oracle: forward(&variant, &some_receivers(&inputs, &rows)).map_err(Failure::fault)?,
            known: &|outputs| mask(outputs, &rows),
            bytes: tensor_bytes(&inputs, self.dtype),
            floor: Some(Floor { flops: cost.flops, bytes: cost.compulsory_bytes }),
        };
        let row = timed.measure(runtime, args, |dir, outputs| {
            let read = tensors::write_inputs(&exact, std::iter::empty(), self.dtype)?;
            export(&dir.join(format!("{}.in.safetensors", self.name)), &read)?;
            let written = tensors::write_outputs(outputs, Vec::new(), &inputs, self.dtype, note.clone())?;
            export(&dir.join(format!("{}.out.safetensors", self.name)), &written)
        })?;
        Ok(row.under(roof))
    }
}

/// The same atoms with the edges of some receivers alone.
pub fn some_receivers(inputs: &Inputs<f64>, rows: &Rows) -> Inputs<f64> {
    let mut part = inputs.clone();
    rows.keep(&mut part.row_ptr, &mut part.sender, &mut part.edge_vec);
    part
}

/// Zeros in the outputs of all other receivers.
pub fn mask(outputs: &mut Outputs<f64>, rows: &Rows) {
    rows.mask(&mut outputs.nodes);
    rows.mask(&mut outputs.vectors);
}

/// Bytes of inputs and outputs.
fn tensor_bytes(inputs: &Inputs<f64>, dtype: Dtype) -> usize {
    let floats: usize = inputs.tensors().iter().map(|(_, _, values)| values.len()).sum();
    let outputs = inputs.poisoned_outputs();
    let elements = floats + outputs.nodes.len() + outputs.vectors.len();
    elements * dtype.size() + 4 * (inputs.row_ptr.len() + inputs.sender.len())
}

/// Everything that is counted: forwards of all variants in f32; in f64, and of the backwards, one pair of radial functions, since
/// each is a call of its own that the forwards count.
pub fn counted_calls() -> Vec<CountedJob> {
    let forward = CaseSpec {
        n_atoms: 16,
        features: 64,
        n_basis: 20,
        hidden: 32,
        activation: Activation::ShiftedSoftplus,
        table_order: 3,
        table_nodes: 40,
        r_cut: 5.0,
        degrees: Degrees::Uniform(20),
        distances: Distances::Skin,
    };
    let first = BackwardSpec { forward: forward.clone(), wanted: Wanted::ALL };
    let second = DoubleBackwardSpec { forward: forward.clone(), weights: true };
    let mut jobs = Vec::new();
    for variant in registered().iter().map(|registered| registered.variant()) {
        let usual = variant.filter == FilterKind::Tabulated || is_usual(&variant);
        for dtype in Dtype::ALL {
            if usual || dtype == Dtype::F32 {
                jobs.push(CountedJob::by_tensors::<FusedMessage>(&variant, dtype, forward.clone()));
            }
            if usual {
                jobs.push(CountedJob::by_tensors::<FusedMessageBackward>(&variant, dtype, first.clone()));
                jobs.push(CountedJob::by_tensors::<FusedMessageDoubleBackward>(&variant, dtype, second.clone()));
            }
        }
    }
    jobs
}
