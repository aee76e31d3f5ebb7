use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

use ff_export::table::{Cells, Column};
use ff_spec::{Clock, DeviceId, Dtype, LaunchConfig, Problem};
use ff_tables::Versions;
use ff_tune::Timing;
use ff_tune::lines::{self, Line, LineError, LineWriter, TornLine};
use serde::{Deserialize, Serialize};

use crate::axes::place;
use crate::row::{Row, Value};

/// The schema version of results.
pub const RESULT_SCHEMA: u32 = 1;

/// What came of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Gated, timed and gated again; of a replay: replayed.
    Correct,
    /// The device or the composition cannot do it.
    Unsupported,
    /// Not tried, because of what it would take.
    Skipped,
    /// Refused before the launch.
    Constraint,
    /// Did not compile.
    Compile,
    /// Failed while running.
    Runtime,
    /// One run took too long.
    Timeout,
    /// Ran, with a wrong result.
    Correctness,
}

impl Verdict {
    /// As results spell it.
    pub fn name(self) -> &'static str {
        match self {
            Verdict::Correct => "correct",
            Verdict::Unsupported => "unsupported",
            Verdict::Skipped => "skipped",
            Verdict::Constraint => "constraint",
            Verdict::Compile => "compile",
            Verdict::Runtime => "runtime",
            Verdict::Timeout => "timeout",
            Verdict::Correctness => "correctness",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// One line of results: a row and what was measured of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Measured {
    /// [`RESULT_SCHEMA`].
    pub schema: u32,
    /// The sweep, by the name of its folder.
    pub sweep: String,
    /// The row as the sweep has it.
    pub row: Row,
    /// The family of kernels.
    pub op: String,
    /// Variant id.
    pub variant: String,
    /// Hash of the kernel source.
    pub kernel_hash: String,
    /// Derivative order.
    pub order: u8,
    /// Element type.
    pub dtype: Dtype,
    /// The configuration it was launched with; empty where there is none to choose.
    pub config: LaunchConfig,
    /// The problem.
    pub problem: Problem,
    /// The device with its driver. `software: true` says nothing about speed.
    pub device: DeviceId,
    /// Versions of forgefield, Burn and CubeCL.
    pub versions: Versions,
    /// What compiled the kernel.
    pub compiler: String,
    /// What the samples were measured with.
    pub clock: Clock,
    /// Rows with the same name here took turns on the same inputs.
    pub group: String,
    /// What came of it.
    pub verdict: Verdict,
    /// Why, for every verdict but `correct`.
    pub reason: Option<String>,
    /// ‖out − ref‖/‖ref‖ before and after it was timed.
    pub rel_error: Option<[f64; 2]>,
    /// Every sample in the order in which it was taken, ns.
    pub samples_ns: Vec<u64>,
    /// Bytes that became resident during one run, at their peak, outputs among them.
    pub peak_bytes: Option<u64>,
    /// What else is to be said of it, by a name with its unit.
    pub metrics: BTreeMap<String, f64>,
    /// Of a replay: how often which records were searched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replayed: Option<String>,
    /// What the row took in all, s.
    pub wall_s: f64,
    /// Seconds since 1970.
    pub unix_time: u64,
}

impl Measured {
    /// What a measurement is of: two lines with the same identity measured the same thing, and the later one counts.
    pub fn identity(&self) -> String {
        identity(&self.row, &self.kernel_hash, &self.device, &self.compiler)
    }
}

/// [`Measured::identity`] of what has yet to be measured. Where a row asked to run does not matter, where it ran does.
pub(crate) fn identity(row: &Row, kernel_hash: &str, device: &DeviceId, compiler: &str) -> String {
    let DeviceId { runtime, slug, driver, threads, .. } = device;
    let row = row.without(&["runtime"]).to_string();
    // A unit separator, which none of these texts holds.
    [row, kernel_hash.to_owned(), format!("{runtime} {slug} {threads}"), driver.clone(), compiler.to_owned()]
        .join("\u{1f}")
}

impl Line for Measured {
    const WHAT: &'static str = "results";
    const SCHEMA: u32 = RESULT_SCHEMA;

    fn schema(&self) -> u32 {
        self.schema
    }
}

/// Appends results to a file that no other run appends to meanwhile.
pub type ResultWriter = LineWriter<Measured>;

/// What a file of results says.
#[derive(Clone, Debug, PartialEq)]
pub struct Results {
    /// The lines that count: of each identity the last, in the order of the file.
    pub rows: Vec<Measured>,
    /// Earlier lines of the same identity, which do not count.
    pub superseded: usize,
    /// What a crash left.
    pub torn: Option<TornLine>,
}

impl Results {
    /// Reads a file.
    ///
    /// # Errors
    /// [`LineError`] with file and line: not readable, of another schema, malformed.
    pub fn read(path: &Path) -> Result<Self, LineError> {
        let (all, torn) = lines::read(path)?;
        let (rows, superseded) = counting(all);
        Ok(Self { rows, superseded, torn })
    }
}

/// Of each identity the last.
pub(crate) fn counting(all: Vec<Measured>) -> (Vec<Measured>, usize) {
    let last: BTreeMap<String, usize> = all.iter().enumerate().map(|(i, line)| (line.identity(), i)).collect();
    let last: BTreeSet<usize> = last.into_values().collect();
    let superseded = all.len() - last.len();
    (all.into_iter().enumerate().filter(|(i, _)| last.contains(i)).map(|(_, line)| line).collect(), superseded)
}

/// A tidy table of results: one row per sample, and one without a time for a row without samples.
pub fn columns(results: &[Measured]) -> Vec<Column> {
    let mut rows: Vec<(&Measured, Option<(u64, u64)>)> = Vec::new();
    for result in results {
        let samples = result.samples_ns.iter().enumerate().map(|(i, ns)| Some((i as u64, *ns)));
        match result.samples_ns.is_empty() {
            true => rows.push((result, None)),
            false => rows.extend(samples.map(|sample| (result, sample))),
        }
    }
    let mut columns = Vec::new();
    let mut add = |name: String, cells: Cells| columns.push(Column { name, cells });
    let text = |get: &dyn Fn(&Measured) -> String| Cells::Text(rows.iter().map(|(r, _)| Some(get(r))).collect());
    let count = |get: &dyn Fn(&Measured) -> u64| Cells::Count(rows.iter().map(|(r, _)| Some(get(r))).collect());
    add("sweep".to_owned(), text(&|r| r.sweep.clone()));
    let names: BTreeSet<&String> = results.iter().flat_map(|r| r.row.0.keys()).collect();
    let mut names: Vec<&String> = names.into_iter().collect();
    names.sort_by_key(|name| place(name));
    for name in names {
        let values = || rows.iter().map(|(r, _)| r.row.get(name));
        let cells = if values().flatten().all(|value| matches!(value, Value::Integer(_))) {
            Cells::Count(values().map(|v| if let Some(Value::Integer(n)) = v { Some(*n) } else { None }).collect())
        } else if values().flatten().all(|value| value.number().is_some()) {
            Cells::Number(values().map(|v| v.and_then(Value::number)).collect())
        } else {
            Cells::Text(values().map(|v| v.map(ToString::to_string)).collect())
        };
        add(format!("row_{}", name.replace('.', "_")), cells);
    }
    add("op".to_owned(), text(&|r| r.op.clone()));
    add("variant".to_owned(), text(&|r| r.variant.clone()));
    add("kernel_hash".to_owned(), text(&|r| r.kernel_hash.clone()));
    add("order".to_owned(), count(&|r| r.order.into()));
    add("dtype".to_owned(), text(&|r| r.dtype.to_string()));
    add("config".to_owned(), text(&|r| r.config.to_string()));
    add("problem".to_owned(), text(&|r| r.problem.name.clone()));
    let own: BTreeSet<&str> = results.iter().flat_map(|r| r.problem.axes.keys().map(String::as_str)).collect();
    for axis in ["n_atoms", "n_edges", "max_degree", "features", "n_basis", "hidden"].into_iter().chain(own) {
        add(axis.to_owned(), Cells::Count(rows.iter().map(|(r, _)| r.problem.get(axis)).collect()));
    }
    add("runtime".to_owned(), text(&|r| r.device.runtime.to_string()));
    add("device".to_owned(), text(&|r| r.device.slug.clone()));
    add("driver".to_owned(), text(&|r| r.device.driver.clone()));
    add("threads".to_owned(), count(&|r| r.device.threads.into()));
    add("software".to_owned(), Cells::Truth(rows.iter().map(|(r, _)| Some(r.device.software)).collect()));
    add("forgefield".to_owned(), text(&|r| r.versions.forgefield.clone()));
    add("burn".to_owned(), text(&|r| r.versions.burn.clone()));
    add("cubecl".to_owned(), text(&|r| r.versions.cubecl.clone()));
    add("compiler".to_owned(), text(&|r| r.compiler.clone()));
    add("group".to_owned(), text(&|r| r.group.clone()));
    add("verdict".to_owned(), text(&|r| r.verdict.to_string()));
    add("reason".to_owned(), Cells::Text(rows.iter().map(|(r, _)| r.reason.clone()).collect()));
    for (i, name) in ["rel_error_before", "rel_error_after"].into_iter().enumerate() {
        add(name.to_owned(), Cells::Number(rows.iter().map(|(r, _)| r.rel_error.map(|e| e[i])).collect()));
    }
    add("peak_bytes".to_owned(), Cells::Count(rows.iter().map(|(r, _)| r.peak_bytes).collect()));
    let metrics: BTreeSet<&String> = results.iter().flat_map(|r| r.metrics.keys()).collect();
    for name in metrics {
        add(name.clone(), Cells::Number(rows.iter().map(|(r, _)| r.metrics.get(name).copied()).collect()));
    }
    add("wall_s".to_owned(), Cells::Number(rows.iter().map(|(r, _)| Some(r.wall_s)).collect()));
    add("unix_time_s".to_owned(), count(&|r| r.unix_time));
    let median = |r: &Measured| Timing::of(&r.samples_ns).map(|timing| timing.median_ns);
    add("median_ns".to_owned(), Cells::Number(rows.iter().map(|(r, _)| median(r)).collect()));
    add("sample".to_owned(), Cells::Count(rows.iter().map(|(_, s)| s.map(|(place, _)| place)).collect()));
    add("time_ns".to_owned(), Cells::Count(rows.iter().map(|(_, s)| s.map(|(_, ns)| ns)).collect()));
    columns
}
