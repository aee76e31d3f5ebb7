//! What a run of the benches leaves: rows, their samples, and the file that a later run is compared with.

use std::fs;
use std::path::Path;

use ff_kernels::host::peak::Peak;
use ff_spec::{Clock, DeviceId, Dtype, LaunchConfig, Problem, SCHEMA_VERSION};
use ff_tune::Timing;
use ff_tune::measure::median;
use serde::{Deserialize, Serialize};

use super::comparison::Comparison;
use super::models::Rates;
use crate::failure::{Failure, Result};
use crate::machine::Machine;
use crate::screen::{Screen, columns};

/// One line of the result.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Row {
    pub case: String,
    pub variant: String,
    pub dtype: Dtype,
    pub problem: Problem,
    pub config: LaunchConfig,
    #[serde(flatten)]
    pub samples: Samples,
    /// Of a model.
    #[serde(flatten)]
    pub rates: Option<Rates>,
    /// Median per edge.
    pub ns_per_edge: f64,
    /// What it computes and moves at least.
    pub floor: Option<Floor>,
    /// The larger of counted FLOPs over the measured FMA rate and compulsory bytes over the measured copy rate, ns.
    pub floor_ns: Option<f64>,
    /// Which of the two.
    pub bound: Option<String>,
    /// ‖out − ref‖/‖ref‖ on the rows that were compared with the oracle.
    pub rel_error: f64,
    /// Peak memory while running over that of inputs and outputs.
    pub memory: Option<f64>,
}

/// What a call cannot do without.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Floor {
    pub flops: u64,
    pub bytes: u64,
}

impl Row {
    /// With its floor under what the machine can do, where that is known.
    pub fn under(mut self, roof: Option<Peak>) -> Self {
        if let (Some(roof), Some(floor)) = (roof, self.floor) {
            let (flops, bytes) = (floor.flops as f64 / roof.flops(self.dtype), floor.bytes as f64 / roof.bytes);
            self.floor_ns = Some(1e9 * flops.max(bytes));
            self.bound = Some(if flops > bytes { "FLOPs" } else { "bytes" }.to_owned());
        }
        self
    }

    /// Adds what another process measured of the same case.
    pub fn add(&mut self, other: Row) {
        self.samples.processes.extend(other.samples.processes);
        let blocks = self.samples.processes.iter().flatten().map(|ns| *ns as u64).collect::<Vec<_>>();
        self.samples.timing = Timing::of(&blocks).unwrap_or(self.samples.timing);
        self.ns_per_edge = self.samples.timing.median_ns / self.problem.n_edges.max(1) as f64;
        self.rates = self.rates.map(|_| Rates::new(&self.problem, self.samples.timing.median_ns));
        self.rel_error = self.rel_error.max(other.rel_error);
        self.memory = self.memory.into_iter().chain(other.memory).reduce(f64::max);
    }
}

/// The times of a case.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Samples {
    /// Of all samples; where there are several processes, of all their blocks.
    pub timing: Timing,
    /// Of every process the medians of its blocks of consecutive samples, ns.
    pub processes: Vec<Vec<f64>>,
}

impl Samples {
    /// From blocks of samples in ns, by process.
    pub fn of(processes: Vec<Vec<Vec<u64>>>) -> Result<Self> {
        let all: Vec<u64> = processes.iter().flatten().flatten().copied().collect();
        let timing = Timing::of(&all).ok_or_else(|| Failure::fault("no sample was taken"))?;
        let median = |block: &Vec<u64>| median_of(&block.iter().map(|ns| *ns as f64).collect::<Vec<_>>());
        let processes = processes.iter().map(|blocks| blocks.iter().map(median).collect()).collect();
        Ok(Self { timing, processes })
    }

    /// One figure for each process.
    pub fn by_process(&self) -> Vec<f64> {
        self.processes.iter().filter(|blocks| !blocks.is_empty()).map(|blocks| median_of(blocks)).collect()
    }
}

/// The median of some numbers, of which there is one at least.
pub fn median_of(numbers: &[f64]) -> f64 {
    median(numbers.to_vec()).unwrap_or(f64::NAN)
}

/// Everything that was measured.
#[derive(Debug, Serialize, Deserialize)]
pub struct Report {
    pub schema: u32,
    pub forgefield: String,
    pub machine: Machine,
    pub device: DeviceId,
    pub clock: Clock,
    pub threads: usize,
    /// Measured FMA rate (FLOP/s) for f32 and f64, and copy rate (B/s).
    pub peak: Option<[f64; 3]>,
    pub rows: Vec<Row>,
    /// Against an earlier result or another binary.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub comparisons: Vec<Comparison>,
}

pub fn show(rows: &[Row], screen: &Screen) -> Result<()> {
    let header = [
        "CASE",
        "DTYPE",
        "ATOMS",
        "EDGES",
        "MEDIAN ms",
        "±",
        "ns/EDGE",
        "FLOOR ms",
        "BOUND",
        "× FLOOR",
        "MEMORY",
        "ERROR",
        "STRUCTURES/s",
    ];
    let mut table = Vec::new();
    for row in rows {
        let ms = |ns: f64| format!("{:.3}", ns / 1e6);
        table.push(vec![
            row.case.clone(),
            row.dtype.to_string(),
            row.problem.n_atoms.to_string(),
            row.problem.n_edges.to_string(),
            ms(row.samples.timing.median_ns),
            ms(row.samples.timing.spread_ns),
            format!("{:.1}", row.ns_per_edge),
            row.floor_ns.map_or("-".to_owned(), ms),
            row.bound.clone().unwrap_or_else(|| "-".to_owned()),
            row.floor_ns.map_or("-".to_owned(), |floor| format!("{:.2}", row.samples.timing.median_ns / floor)),
            row.memory.map_or("-".to_owned(), |m| format!("{m:.2}")),
            format!("{:.1e}", row.rel_error),
            row.rates.map(|rates| format!("{:.1}", rates.structures_per_s)).unwrap_or_default(),
        ]);
    }
    // Of kernels nobody counts structures.
    let header = if rows.iter().any(|row| row.rates.is_some()) { &header[..] } else { &header[..header.len() - 1] };
    columns(header, &table, "llrrrrrrlrrrr").into_iter().try_for_each(|line| screen.line(line))
}

pub fn read_report(path: &Path) -> Result<Report> {
    let text = fs::read_to_string(path).map_err(|e| Failure::input(format!("cannot read {}: {e}", path.display())))?;
    let report: Report = serde_json::from_str(&text)
        .map_err(|e| Failure::input(format!("{}: {e}, expected the JSON of `forgefield bench`", path.display())))?;
    if report.schema != SCHEMA_VERSION {
        let found = report.schema;
        return Err(Failure::input(format!("{}: schema {found}, expected {SCHEMA_VERSION}", path.display())));
    }
    for row in &report.rows {
        let times = || row.samples.processes.iter().flatten();
        if let Some(ns) = times().find(|ns| !(ns.is_finite() && **ns > 0.0)) {
            let (path, case) = (path.display(), &row.case);
            return Err(Failure::input(format!("{path}: {case} has a time of {ns} ns, expected above 0")));
        }
    }
    Ok(report)
}
