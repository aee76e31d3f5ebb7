//! `profile`: what the parts of an evaluation take, beside what they could take at least.

pub mod args;

use std::collections::BTreeMap;
use std::time::Instant;

use ff_kernels::host::peak;
use ff_model::Wanted;
use ff_model::host::{Part, Times};
use ff_model::plan::PartCount;
use ff_spec::{Dtype, Precision};
use ff_structure::{FrameReader, Structure, edges};
use ff_tune::measure::median;
use serde::Serialize;

use self::args::ProfileArgs;
use crate::failure::{Failure, Result};
use crate::models::{AnyModel, BesideF32, Roof, load, of_tables, on_host};
use crate::screen::{Screen, columns};
use crate::{interrupt, workload};

/// Rounds that are taken in any case, after one to warm up.
const FEWEST: usize = 3;

/// What is printed as JSON.
#[derive(Serialize)]
struct Report {
    model: String,
    name: String,
    dtype: Dtype,
    threads: usize,
    systems: usize,
    atoms: u64,
    edges: u64,
    rounds: usize,
    energy_ms: f64,
    energy_forces_ms: f64,
    forces_over_energy: f64,
    /// How much filters that are tables err beside their largest value.
    #[serde(skip_serializing_if = "Option::is_none")]
    table_error: Option<f64>,
    precision: Precision,
    /// By how much a reduced precision errs.
    #[serde(skip_serializing_if = "Option::is_none")]
    beside_f32: Option<BesideF32>,
    /// What packed weights take.
    weight_bytes: Option<usize>,
    floor_ms: f64,
    /// Whether all that is touched fits the processor's cache, and floors are of FLOPs alone.
    cached: bool,
    parts: Vec<PartRow>,
}

/// A part of a layer. Its time is that of all threads together over their number.
#[derive(Serialize)]
struct PartRow {
    part: &'static str,
    layer: usize,
    ms: f64,
    floor_ms: f64,
    bound: &'static str,
}

/// Times one evaluation and its parts.
pub fn run(args: &ProfileArgs, screen: &Screen) -> Result<()> {
    let model = load(&args.model)?;
    let host = AnyModel::new(&model, args.dtype, args.packing)?;
    let structure = frame(args, screen)?;
    on_host(args.runtime, screen)?;
    let beside_f32 = args.packing.compare(&model, std::slice::from_ref(&structure), screen)?;
    interrupt::flag();
    let systems = vec![structure; args.repeat as usize];
    let config = model.config();
    let predict = |wanted: Wanted, times: &Times| {
        let begin = Instant::now();
        let done = host.predict(&systems, wanted, times);
        done.map(|_| begin.elapsed().as_secs_f64() * 1e3).map_err(|e| e.of_frames(&args.file, args.frame as usize))
    };
    // What cannot be computed is said by the first evaluation, which also finds cold caches.
    predict(Wanted::FORCES, &Times::off())?;
    let found = edges(&systems[..1], config.cutoff).map_err(Failure::input)?;
    let copies = u64::from(args.repeat);
    let (atoms, n_edges) = (found.n_atoms() as u64 * copies, found.sender.len() as u64 * copies);
    let plan = args.packing.plan(config, args.dtype);
    let threads = rayon::current_num_threads();

    let (mut energy, mut forces) = (Vec::new(), Vec::new());
    let mut parts: BTreeMap<(usize, usize), Vec<f64>> = BTreeMap::new();
    let begin = Instant::now();
    // In turns: what the machine does meanwhile is spread over all three.
    while energy.len() < FEWEST || begin.elapsed().as_secs_f64() < args.seconds {
        energy.push(predict(Wanted::ENERGY, &Times::off())?);
        forces.push(predict(Wanted::FORCES, &Times::off())?);
        let times = Times::of_layers(config.layers);
        predict(Wanted::FORCES, &times)?;
        for part in Part::ALL {
            for layer in 0..config.layers {
                let ms = times.of(part, layer).as_secs_f64() * 1e3 / threads as f64;
                parts.entry((part as usize, layer)).or_default().push(ms);
            }
        }
        if interrupt::raised() {
            break;
        }
    }
    let roof = Roof::new(peak::measure(), &model, args.dtype, atoms, n_edges);
    let row = |PartCount { part, layer, flops, bytes }: PartCount| {
        let (floor, bound) = roof.floor(flops.at(atoms, n_edges), bytes.at(atoms, n_edges));
        let taken = parts.remove(&(part as usize, layer)).unwrap_or_default();
        PartRow { part: part.name(), layer, ms: of_rounds(taken), floor_ms: floor / 1e6, bound }
    };
    let parts: Vec<PartRow> = plan.parts(true).into_iter().map(row).collect();
    let rounds = energy.len();
    let (energy_ms, energy_forces_ms) = (of_rounds(energy), of_rounds(forces));
    let report = Report {
        model: args.model.display().to_string(),
        name: systems[0].name.clone(),
        dtype: args.dtype,
        threads,
        systems: systems.len(),
        atoms,
        edges: n_edges,
        rounds,
        energy_ms,
        energy_forces_ms,
        forces_over_energy: energy_forces_ms / energy_ms,
        table_error: host.table_error(),
        precision: host.precision(),
        beside_f32,
        weight_bytes: host.weight_bytes(),
        floor_ms: parts.iter().map(|part| part.floor_ms).sum(),
        cached: roof.cached,
        parts,
    };
    if args.json { screen.json(&report) } else { show(&report, screen) }
}

/// The frame that is asked for; nothing after it is read.
fn frame(args: &ProfileArgs, screen: &Screen) -> Result<Structure> {
    let mut reader = FrameReader::open(&args.file).map_err(Failure::input)?;
    let (mut count, mut last) = (0, None);
    while count < args.frame {
        let Some(frame) = reader.next().transpose().map_err(Failure::input)? else { break };
        (count, last) = (count + 1, Some(frame.structure));
    }
    workload::warn(reader.warnings(), screen);
    match last {
        Some(structure) if count == args.frame => Ok(structure),
        _ => Err(Failure::input(format!(
            "{}: {count} frames, expected a frame {} as --frame says",
            args.file.display(),
            args.frame
        ))),
    }
}

fn of_rounds(samples: Vec<f64>) -> f64 {
    median(samples).unwrap_or(0.0)
}

fn show(report: &Report, screen: &Screen) -> Result<()> {
    let Report { name, dtype, threads, systems, atoms, edges, rounds, .. } = report;
    let copies = if *systems == 1 { String::new() } else { format!(" × {systems}") };
    screen
        .line(format!("{name}{copies} in {dtype}: {atoms} atoms, {edges} edges, {threads} threads, {rounds} rounds"))?;
    let header = ["PART", "LAYER", "ms", "SHARE", "FLOOR ms", "BOUND", "OF FLOOR"];
    let rows: Vec<Vec<String>> = report
        .parts
        .iter()
        .map(|PartRow { part, layer, ms, floor_ms, bound }| {
            let reached = if *ms > 0.0 { format!("{:.0} %", 100.0 * floor_ms / ms) } else { "–".to_owned() };
            vec![
                (*part).to_owned(),
                layer.to_string(),
                format!("{ms:.4}"),
                format!("{:.1} %", 100.0 * ms / report.energy_forces_ms),
                format!("{floor_ms:.4}"),
                (*bound).to_owned(),
                reached,
            ]
        })
        .collect();
    columns(&header, &rows, "lrrrrlr").into_iter().try_for_each(|line| screen.line(line))?;
    if let Some(error) = report.table_error {
        screen.line(of_tables(error))?;
    }
    if report.precision.is_reduced() {
        screen.line(format!("precision {}: floors are those of f32", report.precision))?;
    }
    if report.cached {
        screen.line("all that is touched fits the processor's cache: floors are of FLOPs alone")?;
    }
    screen.line(format!(
        "energy {:.4} ms, energy and forces {:.4} ms, {:.2} times as much; floor {:.4} ms",
        report.energy_ms, report.energy_forces_ms, report.forces_over_energy, report.floor_ms
    ))
}
