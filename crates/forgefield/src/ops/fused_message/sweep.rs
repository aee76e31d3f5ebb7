//! Rows of a sweep that are messages: of structures and of random graphs, with exact and with sampled filters, by the kernels and
//! by compositions of tensor operations.

use std::collections::BTreeMap;
use std::rc::Rc;

use ff_kernels::fused_message::tabulate;
use ff_reference::fused_message::{backward, forward};
use ff_spec::fused_message::{
    Activation, BackwardInputs, DoubleBackwardInputs, DoubleGradients, Filter, FilterKind, Inputs, Message, Outputs,
    Radial, Reduction, Variant, Wanted,
};
use ff_spec::{
    FusedMessage, FusedMessageBackward, FusedMessageDoubleBackward, LaunchConfig, LaunchError, Problem, Runtime,
    RuntimeKind,
};
use ff_sweep::{Refused, Row, Subject, Verdict};
use ff_testkit::degrees::Degrees;
use ff_testkit::fused_message::gradients::{random_cotangents, random_tangent};
use ff_testkit::fused_message::{CaseSpec, Distances, random_inputs};
use ff_testkit::sampling::{Rows, placed};
use ff_testkit::tensors::ByTensors;
use ff_yardstick::on_tensors::{self, Implementation};

use super::Messages;
use super::bench::{mask, some_receivers};
use super::bench_backward::some_second;
use super::call::{self, exact};
use super::potential::{self, Evaluated};
use crate::commands::bench::CHECKED_ROWS;
use crate::commands::sweep::kernels::{Asked, Geometry, Kernels, PreparedRow};
use crate::commands::sweep::launched::{CheckedLaunch, Subjected, configured};
use crate::failure::{Failure, Result};
use crate::machine::spare_memory;
use crate::ops::AnyOp;
use crate::ops::order::UsedOrder;
use crate::options::Sizes;

/// The tensors of a message with an exact filter.
fn inputs(kernels: &mut Kernels, asked: &Asked, variant: &Variant) -> Result<Inputs<f64>> {
    let sizes = &asked.sizes;
    match &asked.geometry {
        Geometry::Problem(problem) => {
            let workload = kernels.workload(problem, sizes)?;
            call::inputs(&workload, variant, sizes)
        }
        Geometry::Graph { n_atoms, degree, skew } => {
            let spec = CaseSpec {
                n_atoms: *n_atoms,
                features: sizes.features,
                n_basis: sizes.n_basis,
                hidden: sizes.hidden,
                activation: Activation::ShiftedSoftplus,
                table_order: 2,
                table_nodes: 2,
                r_cut: sizes.cutoff,
                degrees: degrees(*n_atoms, *degree, *skew),
                distances: Distances::Inside,
            };
            random_inputs(&spec, variant, sizes.seed).map_err(Failure::input)
        }
    }
}

/// Prepares a row.
///
/// # Errors
/// What is wrong with the row; what the kernel itself refuses is a result.
pub fn prepare(kernels: &mut Kernels, row: &Row, asked: &Asked, variant: &Variant) -> Result<PreparedRow> {
    let dtype = asked.dtype;
    let exact_variant = exact(variant);
    let expected = sizes(asked, &exact_variant)?;
    let (bytes, most) = (input_bytes(&exact_variant, &expected), spare_memory() as f64);
    if bytes > most {
        let gib = |bytes: f64| format!("{:.1} GiB", bytes / f64::from(1 << 30));
        let reason = format!("not tried, its inputs would take {} of memory, allowed {}", gib(bytes), gib(most));
        let refused = Err(Refused::new(Verdict::Skipped, reason));
        return Ok(PreparedRow { problem: expected, config: LaunchConfig::default(), subject: refused });
    }
    let exact = inputs(kernels, asked, &exact_variant)?;
    let mut metrics = BTreeMap::new();
    let inputs = match asked.table {
        None => exact,
        Some((order, tolerance)) => {
            let table = match tabulate(&exact_variant, &exact, order, tolerance) {
                // A tolerance out of reach is a result too.
                Err(error @ LaunchError::Constraint(_)) => {
                    let problem = Problem { n_basis: 2 * order as u32, hidden: 0, ..exact.problem(&expected.name) };
                    let config = LaunchConfig::default();
                    return Ok(PreparedRow { problem, config, subject: Err(error.into()) });
                }
                found => found?,
            };
            metrics.insert("filter_rel_error".to_owned(), table.rel_error);
            if let Filter::Tabulated { n_nodes, values, .. } = &table.filter {
                metrics.insert("table_nodes".to_owned(), *n_nodes as f64);
                metrics.insert("table_bytes".to_owned(), (values.len() * dtype.size()) as f64);
            }
            let radial = Radial { r_cut: exact.radial.r_cut, ..Radial::default() };
            let inputs = Inputs { filter: table.filter, radial, ..exact.clone() };
            if row.number("table_tolerance").is_some() && asked.order == 0 && variant.message == Message::Cfconv {
                let key = row.without(&["table_tolerance", "table_order", "order", "variant", "runtime", "repeat"]);
                let key = format!("{key} {exact_variant}");
                let reference: Rc<Evaluated> =
                    kernels.kept(key, || Ok(potential::evaluate(&exact_variant, &exact)?))?;
                let [energy, force] = potential::evaluate(variant, &inputs)?.errors(&reference);
                metrics.insert("energy_rel_error".to_owned(), energy);
                metrics.insert("force_rel_error".to_owned(), force);
            }
            inputs
        }
    };
    let inputs = FusedMessage::rounded(&inputs, dtype);
    let problem = inputs.problem(&expected.name);
    let runtime = kernels.runtime(row)?;
    let config = match asked.implementation {
        None => configured(FusedMessage::on(runtime), variant, dtype, &problem, &asked.config),
        Some(_) => LaunchConfig::default(),
    };
    let subject = message_subject(runtime, asked, variant, inputs, &config);
    Ok(PreparedRow { problem, config, subject: subject.map(|timed| Subject::Timed(timed, metrics)) })
}

/// The sizes of a message before anything of it is made; only the mean of a skewed graph's degrees is known then.
fn sizes(asked: &Asked, variant: &Variant) -> Result<Problem> {
    let Sizes { features, n_basis, hidden, .. } = asked.sizes;
    match &asked.geometry {
        Geometry::Problem(problem) => Messages.problem(&variant.id(), problem, &asked.sizes),
        Geometry::Graph { n_atoms, degree, skew } => Ok(Problem {
            name: format!("graph-{n_atoms}-{degree}-{skew}"),
            n_atoms: *n_atoms as u64,
            n_edges: (*n_atoms as f64 * degree) as u64,
            max_degree: degree.ceil() as u64,
            features: features as u32,
            n_basis: n_basis as u32,
            hidden: if variant.filter == FilterKind::Mlp { hidden as u32 } else { 0 },
            ..Problem::default()
        }),
    }
}

/// Bytes of the inputs of a message as they are made, in f64.
fn input_bytes(variant: &Variant, problem: &Problem) -> f64 {
    let [n_atoms, n_edges] = [problem.n_atoms, problem.n_edges].map(|n| n as f64);
    let [features, n_basis, hidden] = [problem.features, problem.n_basis, problem.hidden].map(f64::from);
    let channels = variant.message.parts() as f64 * features;
    let vectors = if variant.message == Message::Painn { 3.0 * features } else { 0.0 };
    let weights = if variant.filter == FilterKind::Mlp { hidden * (n_basis + channels) } else { n_basis * channels };
    // An edge has a vector and a sender.
    8.0 * (n_atoms * (channels + vectors) + weights) + 28.0 * n_edges
}

/// Degrees with this mean: all alike, or in proportion to (i + 1)^−skew.
fn degrees(n_atoms: usize, degree: f64, skew: f64) -> Degrees {
    if skew == 0.0 {
        return Degrees::Uniform(degree.round() as usize);
    }
    let shares: f64 = (1..=n_atoms).map(|i| (i as f64).powf(-skew)).sum();
    let max = if n_atoms == 0 { 0.0 } else { n_atoms as f64 * degree / shares };
    Degrees::PowerLaw { max: max.round() as usize, exponent: skew }
}

/// A message of any order and implementation. What is compared are the outputs of some receivers and their gradients.
fn message_subject(
    runtime: &(dyn Runtime + 'static),
    asked: &Asked,
    variant: &Variant,
    inputs: Inputs<f64>,
    config: &LaunchConfig,
) -> Subjected {
    let (dtype, seed, kind) = (asked.dtype, asked.sizes.seed, runtime.device().runtime);
    let on_host = kind == RuntimeKind::Host;
    if let Some(bytes) =
        asked.implementation.and_then(|which| on_tensors::peak_bytes(which, &inputs, dtype, asked.order))
    {
        let (gib, most) = (bytes as f64 / f64::from(1 << 30), spare_memory());
        if on_host && bytes > most {
            let most = most as f64 / f64::from(1 << 30);
            let reason = format!("not tried, it would take about {gib:.1} GiB of memory, allowed {most:.1} GiB");
            return Err(Refused::new(Verdict::Skipped, reason));
        }
    }
    let wrong = |e: &dyn std::fmt::Display| Refused::new(Verdict::Correctness, format!("no reference: {e}"));
    // A composition promises nothing about its bits, whatever the variant's reduction does.
    let promised = match asked.implementation {
        Some(Implementation::Unfused) => Variant { reduction: Reduction::EdgeAtomic, ..variant.clone() },
        _ => variant.clone(),
    };
    let rows = Rows::even(inputs.n_atoms, CHECKED_ROWS);
    match asked.order {
        0 => {
            let oracle = forward(variant, &some_receivers(&inputs, &rows)).map_err(|e| wrong(&e))?;
            let launch = match asked.implementation {
                None => FusedMessage::on(runtime).prepare(variant, dtype, &inputs, config)?,
                Some(which) => on_tensors::forward(kind, which, &inputs, variant, dtype)?,
            };
            let known = move |outputs: &mut Outputs<f64>| mask(outputs, &rows);
            Ok(Box::new(CheckedLaunch::<FusedMessage, _> { launch, variant: promised, dtype, oracle, known, on_host }))
        }
        1 => {
            let mut grad = random_cotangents(&inputs, seed);
            mask(&mut grad, &rows);
            let wanted = if variant.filter == FilterKind::Tabulated { Wanted::INPUTS } else { Wanted::ALL };
            let all = FusedMessageBackward::rounded(&BackwardInputs { inputs, grad, wanted }, dtype);
            let part = BackwardInputs { inputs: some_receivers(&all.inputs, &rows), ..all.clone() };
            let mut oracle = backward(variant, &part).map_err(|e| wrong(&e))?;
            let (places, len) = (rows.places(&all.inputs.row_ptr), all.inputs.edge_vec.len());
            for found in [&mut oracle.outputs, &mut oracle.magnitude] {
                found.edge_vec = placed(&found.edge_vec, &places, len);
            }
            let launch = match asked.implementation {
                None => FusedMessageBackward::on(runtime).prepare(variant, dtype, &all, config)?,
                Some(which) => on_tensors::backward(kind, which, &all, variant, dtype)?,
            };
            let known = |_: &mut _| ();
            Ok(Box::new(CheckedLaunch::<FusedMessageBackward, _> {
                launch,
                variant: promised,
                dtype,
                oracle,
                known,
                on_host,
            }))
        }
        _ => {
            let mut grad = random_cotangents(&inputs, seed);
            mask(&mut grad, &rows);
            let tangent = random_tangent(&inputs, false, seed);
            let all = DoubleBackwardInputs { inputs, grad, tangent };
            let all = FusedMessageDoubleBackward::rounded(&all, dtype);
            let oracle = some_second(variant, &all, &rows).map_err(|e| wrong(&e))?;
            let launch = FusedMessageDoubleBackward::on(runtime).prepare(variant, dtype, &all, config)?;
            // What other receivers' outputs change at is not known.
            let known = move |outputs: &mut DoubleGradients<f64>| mask(&mut outputs.grad, &rows);
            Ok(Box::new(CheckedLaunch::<FusedMessageDoubleBackward, _> {
                launch,
                variant: promised,
                dtype,
                oracle,
                known,
                on_host,
            }))
        }
    }
}

#[cfg(test)]
mod tests {
    use ff_sweep::Value;

    use super::super::of;
    use super::*;

    /// What is counted before anything is made is what is made then, but for the parameters of radial functions.
    #[test]
    fn inputs_are_as_large_as_expected() {
        for name in ["painn_linear_bessel_cosine_receiver", "cfconv_mlp_gaussian_cosine_receiver"] {
            let text = |text: &str| Value::Text(text.to_owned());
            let number = |axis: &str, n: u64| (axis.to_owned(), Value::Integer(n));
            let sizes = [number("features", 24), number("n_basis", 7), number("hidden", 40), number("n_atoms", 50)];
            let mut row = Row(sizes.into());
            row.0.insert("variant".to_owned(), text(name));
            row.0.insert("degree".to_owned(), Value::Number(6.0));
            let mut kernels = Kernels::default();
            let asked = kernels.asked(&row).unwrap_or_else(|e| panic!("{}", e.message));
            let variant = &of(asked.id);
            let expected = super::sizes(&asked, variant).unwrap_or_else(|e| panic!("{}", e.message));
            let inputs = inputs(&mut kernels, &asked, variant).unwrap_or_else(|e| panic!("{}", e.message));
            assert_eq!(inputs.problem(&expected.name), expected);
            let values: usize = inputs.tensors().iter().map(|(_, _, values)| values.len()).sum();
            let made = (8 * values + 4 * inputs.sender.len()) as f64;
            let counted = input_bytes(variant, &expected);
            assert!(counted <= made && made <= 1.05 * counted, "{name}: {counted} counted, {made} made");
        }
    }
}
