//! `inspect model`: what a model is, what an evaluation of it computes and moves, and its plan of kernels. Nothing is run.

use std::fs;
use std::path::Path;

use ff_model::plan::{Count, PartCount};
use ff_model::{Config, Plan, batch};
use ff_spec::Dtype;
use serde::Serialize;

use super::args::InspectArgs;
use crate::failure::{Failure, Result};
use crate::models::load;
use crate::screen::{Screen, columns};

/// What is printed as JSON.
#[derive(Serialize)]
struct Report {
    model: String,
    kind: String,
    n_atom_basis: usize,
    n_filters: usize,
    n_interactions: usize,
    n_rbf: usize,
    basis: String,
    cutoff: f64,
    cutoff_fn: String,
    activation: &'static str,
    head: Vec<usize>,
    aggregation: String,
    energy_unit: String,
    length_unit: String,
    elements: Vec<u8>,
    parameters: usize,
    file_bytes: u64,
    dtype: Dtype,
    atoms: u64,
    degree: u64,
    edges: u64,
    /// Of the workspace of an evaluation of energies and forces.
    memory: Count,
    energy: Total,
    energy_forces: Total,
    parts: Vec<PartCount>,
    plan: Vec<PlanRow>,
}

/// An evaluation as a formula, and for the sizes that are asked for.
#[derive(Serialize)]
struct Total {
    flops: Count,
    bytes: Count,
    flops_here: u64,
    bytes_here: u64,
}

/// A step of the plan.
#[derive(Serialize)]
struct PlanRow {
    part: &'static str,
    layer: usize,
    kernel: &'static str,
    shape: String,
    for_forces: bool,
    flops: Count,
    bytes: Count,
    flops_here: u64,
    bytes_here: u64,
}

/// Prints what a model's file holds and what an evaluation takes.
pub fn run(args: &InspectArgs, path: &Path, screen: &Screen) -> Result<()> {
    let model = load(path)?;
    let size = fs::metadata(path).map_err(|e| Failure::input(format!("cannot read {}: {e}", path.display())))?.len();
    let config = model.config();
    let degree = args.degree.unwrap_or_else(|| batch::expected_degree(config.cutoff).round() as u64);
    let (atoms, edges) = (args.atoms, args.atoms.saturating_mul(degree));
    let plan = Plan::new(config, args.dtype);
    let total = |forces| {
        let (flops, bytes) = plan.total(forces);
        Total { flops, bytes, flops_here: flops.at(atoms, edges), bytes_here: bytes.at(atoms, edges) }
    };
    let report = Report {
        model: path.display().to_string(),
        kind: config.kind.to_string(),
        n_atom_basis: config.features,
        n_filters: config.filters,
        n_interactions: config.layers,
        n_rbf: config.n_basis,
        basis: config.basis.to_string(),
        cutoff: config.cutoff,
        cutoff_fn: config.cutoff_fn.to_string(),
        activation: config.activation.name(),
        head: config.head.layers.clone(),
        aggregation: config.aggregation.to_string(),
        energy_unit: config.energy_unit.to_string(),
        length_unit: config.length_unit.to_string(),
        elements: config.elements.clone(),
        parameters: model.weights().n_parameters(config),
        file_bytes: size,
        dtype: args.dtype,
        atoms,
        degree,
        edges,
        memory: batch::memory(config, args.dtype),
        energy: total(false),
        energy_forces: total(true),
        parts: plan.parts(true),
        plan: rows(&plan, atoms, edges),
    };
    if args.json { screen.json(&report) } else { show(&report, config, screen) }
}

fn rows(plan: &Plan, atoms: u64, edges: u64) -> Vec<PlanRow> {
    let row = |step: &ff_model::plan::Step| PlanRow {
        part: step.part.name(),
        layer: step.layer,
        kernel: step.kernel,
        shape: step.shape.clone(),
        for_forces: step.for_forces,
        flops: step.flops,
        bytes: step.bytes,
        flops_here: step.flops.at(atoms, edges),
        bytes_here: step.bytes.at(atoms, edges),
    };
    plan.steps(true).map(row).collect()
}

fn show(report: &Report, config: &Config, screen: &Screen) -> Result<()> {
    let Report { model, dtype, atoms, degree, edges, memory, .. } = report;
    screen.line(format!("{model}: {}", config.summary()))?;
    let head: Vec<String> = report.head.iter().map(usize::to_string).collect();
    screen.line(format!(
        "activation {}, head {}, energies of atoms by {}; file in {} and {}",
        report.activation,
        head.join(" → "),
        report.aggregation,
        report.energy_unit,
        report.length_unit
    ))?;
    screen.line(format!("{} parameters, {} in the file", report.parameters, bytes(report.file_bytes)))?;
    screen.line(format!(
        "memory in {dtype}: {} per atom, {} per edge; {} for N = {atoms} atoms of {degree} neighbours, E = {edges}",
        bytes(memory.per_atom),
        bytes(memory.per_edge),
        bytes(memory.at(*atoms, *edges))
    ))?;
    screen.line("")?;
    let parts: Vec<Vec<String>> = report
        .parts
        .iter()
        .map(|PartCount { part, layer, flops, bytes }| {
            let counts = [flops.per_atom, flops.per_edge, bytes.fixed, bytes.per_atom, bytes.per_edge];
            let counts = counts.map(|count| count.to_string());
            [part.name().to_owned(), layer.to_string()].into_iter().chain(counts).collect()
        })
        .collect();
    let header = ["PART", "LAYER", "FLOPs/ATOM", "FLOPs/EDGE", "BYTES", "BYTES/ATOM", "BYTES/EDGE"];
    columns(&header, &parts, "lrrrrrr").into_iter().try_for_each(|line| screen.line(line))?;
    screen.line("")?;
    let plan: Vec<Vec<String>> = report
        .plan
        .iter()
        .enumerate()
        .map(|(at, row)| {
            let PlanRow { part, layer, kernel, shape, flops_here, bytes_here, .. } = row;
            let mut cells = vec![(at + 1).to_string(), (*part).to_owned(), layer.to_string(), (*kernel).to_owned()];
            cells.extend([shape.clone(), flops_here.to_string(), bytes_here.to_string()]);
            cells
        })
        .collect();
    let header = ["STEP", "PART", "LAYER", "KERNEL", "SHAPE", "FLOPs", "BYTES"];
    columns(&header, &plan, "rlrllrr").into_iter().try_for_each(|line| screen.line(line))?;
    screen.line("")?;
    for (name, total) in [("energy", &report.energy), ("energy and forces", &report.energy_forces)] {
        screen.line(format!(
            "{name}: {} FLOPs = {}; {} bytes = {}",
            total.flops_here, total.flops, total.bytes_here, total.bytes
        ))?;
    }
    Ok(())
}

/// Bytes as people read them.
fn bytes(count: u64) -> String {
    match count as f64 {
        x if x < 1e4 => format!("{count} B"),
        x if x < 1e7 => format!("{:.1} KiB", x / 1024.0),
        x if x < 1e10 => format!("{:.1} MiB", x / f64::from(1 << 20)),
        x => format!("{:.1} GiB", x / f64::from(1 << 30)),
    }
}
