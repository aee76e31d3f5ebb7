//! The static gate of an op: every variant compiled for CUDA in every order, its resources compared with a committed table.
//!
//! What is compiled, at 128 features, 20 basis functions and 128 hidden units, in f32 and f64, for sm_80 and sm_90: all
//! kernels of every variant at its default configuration and, where it has a tuning space, at the corners of that: each
//! parameter at its least and at its greatest value with the others at their defaults, and all at their least and at their
//! greatest, where the constraints admit it.
//!
//! An op whose kernels are many says which of them stand for all: [`AnyOp::is_gated`](crate::ops::AnyOp::is_gated) and
//! [`AnyOp::has_corners`](crate::ops::AnyOp::has_corners).

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, BufWriter, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Instant;

use ff_record::{Kernel, Recorder, Target};
use ff_spec::{Dtype, LaunchConfig, LaunchError, Problem, SCHEMA_VERSION};
use ff_tune::{Space, Target as SpaceTarget};
use serde::{Deserialize, Serialize};

use super::Footprint;
use super::nvrtc::Nvrtc;
use super::subject::Subject;
use crate::failure::{Failure, Result};
use crate::ops::AnyCall;
use crate::options::Sizes;
use crate::screen::{Left, Screen};

/// The architectures that are judged.
const VERSIONS: [u16; 2] = [80, 90];
/// Lines of each kind that are shown.
const SHOWN: usize = 20;

/// The table as it is committed.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    schema: u32,
    op: String,
    /// Version of the NVRTC that made it: another one allocates registers in another way.
    nvrtc: String,
    /// By variant with its order, dtype, architecture, configuration and kernel.
    kernels: BTreeMap<String, Row>,
}

/// What is kept of a kernel; spills and stack are left out where there are none.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    registers: u32,
    shared: u32,
    blocks_per_sm: u32,
    occupancy: f64,
    #[serde(default, skip_serializing_if = "none")]
    spill_bytes: u32,
    #[serde(default, skip_serializing_if = "none")]
    stack_bytes: u32,
}

fn none(bytes: &u32) -> bool {
    *bytes == 0
}

impl Row {
    fn new(footprint: &Footprint) -> Self {
        let Footprint { resources, shared_memory, occupancy, .. } = footprint;
        Self {
            registers: resources.registers,
            shared: *shared_memory,
            blocks_per_sm: occupancy.as_ref().map_or(0, |o| o.blocks),
            occupancy: occupancy.as_ref().map_or(0.0, |o| o.fraction),
            spill_bytes: resources.spill_stores + resources.spill_loads,
            stack_bytes: resources.stack,
        }
    }

    fn text(&self) -> String {
        let Self { registers, shared, blocks_per_sm, spill_bytes, stack_bytes, .. } = self;
        format!(
            "{registers} registers, {shared} B shared, {blocks_per_sm} blocks, {spill_bytes} B spilled, {stack_bytes} B stack"
        )
    }
}

/// One kernel to be compiled.
struct CompileJob {
    key: String,
    version: u16,
    kernel: Kernel,
}

/// What came of a run.
#[derive(Default, Serialize)]
struct Report {
    nvrtc: Option<String>,
    kernels: usize,
    sources: usize,
    seconds: f64,
    skipped: Option<String>,
    errors: Vec<String>,
    spills: Vec<String>,
    differences: Vec<String>,
    unjudged: Option<String>,
}

/// Compiles all of it and compares.
///
/// # Errors
/// What does not hold, with code 1; a table that cannot be read or written.
pub fn run(op: &str, path: &Path, update: bool, json: bool, screen: &Screen) -> Result<()> {
    let begin = Instant::now();
    let table = if update && !path.exists() { None } else { Some(read(op, path)?) };
    let subjects: Vec<Subject> = Subject::all(op)?.into_iter().filter(is_gated).collect();
    let variants = subjects.iter().filter(|subject| subject.order() == 0).count();
    let jobs = jobs(&subjects)?;
    let firsts = first_jobs(&jobs);
    let mut report = Report { kernels: jobs.len(), sources: firsts.len(), ..Report::default() };
    screen.headline(format!(
        "{} kernels of {variants} variants emitted as CUDA C++ in {:.1} s: in all orders, at their defaults and at \
         corners of their tuning spaces, in {} for {}",
        jobs.len(),
        begin.elapsed().as_secs_f64(),
        Dtype::ALL.map(|d| d.to_string()).join(" and "),
        VERSIONS.map(|v| format!("sm_{v}")).join(" and "),
    ))?;
    let nvrtc = match Nvrtc::find() {
        Ok(nvrtc) => nvrtc,
        Err(missing) if update => return Err(Failure::fault(missing)),
        Err(missing) => {
            report.skipped = Some(missing.to_string());
            return end(&report, json, screen);
        }
    };
    let known = nvrtc.archs();
    if let Some(version) = VERSIONS.iter().find(|v| !known.contains(v)) {
        return Err(Failure::input(format!("NVRTC {} does not know sm_{version}", nvrtc.version())));
    }
    report.nvrtc = Some(nvrtc.version());
    screen.headline(format!("NVRTC {}, {}", nvrtc.version(), nvrtc.path.display()))?;
    let found = compile(op, &jobs, &firsts, &mut report, screen)?;
    report.seconds = begin.elapsed().as_secs_f64();
    if update && report.errors.is_empty() {
        let table = Table { schema: SCHEMA_VERSION, op: op.to_owned(), nvrtc: nvrtc.version(), kernels: found };
        ff_tables::fs::replace(path, render(&table)?.as_bytes())
            .map_err(|e| Failure::fault(format!("cannot write {}: {e}", path.display())))?;
        screen.headline(format!("wrote {}", path.display()))?;
    } else if let Some(table) = table {
        judge(&table, &found, &nvrtc.version(), &mut report);
    }
    end(&report, json, screen)
}

/// Whether a subject's kernels are compiled.
fn is_gated(subject: &Subject) -> bool {
    subject.op.is_gated(subject.id, subject.order())
}

/// Every kernel of these subjects, emitted.
fn jobs(subjects: &[Subject]) -> Result<Vec<CompileJob>> {
    let recorders = VERSIONS.map(|version| (version, Recorder::new(Target::Cuda(version))));
    let mut spaces = BTreeMap::new();
    for subject in subjects {
        if let Entry::Vacant(place) = spaces.entry(subject.op.name()) {
            place.insert(subject.op.spaces()?);
        }
    }
    let mut jobs = Vec::new();
    for subject in subjects {
        let (problem, call) = (problem(subject), subject.call(&SIZES)?);
        for dtype in Dtype::ALL {
            let has_corners = subject.op.has_corners(subject.id, subject.order(), dtype);
            let space = spaces[subject.op.name()].get(SpaceTarget::Cube, subject.part(), subject.order());
            let space = space.ok().filter(|_| has_corners);
            for (version, recorder) in &recorders {
                let default = subject.default_config(recorder.device(), dtype, &problem);
                let corners = space.map(|space| {
                    let admitted = |c: &LaunchConfig| space.refuses(c, recorder.device(), &problem, dtype).is_none();
                    corners(space, &default).into_iter().filter(admitted).collect::<Vec<_>>()
                });
                for config in std::iter::once(default.clone()).chain(corners.into_iter().flatten()) {
                    jobs.extend(of_config(subject, (*version, recorder), call.as_ref(), dtype, &config)?);
                }
            }
        }
    }
    Ok(jobs)
}

/// What is compiled for.
const SIZES: Sizes = Sizes { cutoff: 5.0, features: 128, n_basis: 20, hidden: 128, seed: 0 };

/// The sizes that configurations are chosen for.
fn problem(subject: &Subject) -> Problem {
    let [features, n_basis, hidden] = subject.op.widths(subject.id, &SIZES);
    let n_systems = if features > 0 { 0 } else { 1 };
    Problem {
        name: "gate".to_owned(),
        n_atoms: 4096,
        n_systems,
        n_edges: 131_072,
        max_degree: 64,
        features,
        n_basis,
        hidden,
        ..Problem::default()
    }
}

/// Each parameter at its least and greatest, then all of them, without what the default is already.
fn corners(space: &Space, default: &LaunchConfig) -> Vec<LaunchConfig> {
    let ends: Vec<(&String, [u32; 2])> = space
        .parameters()
        .iter()
        .filter_map(|(name, values)| Some((name, [*values.iter().min()?, *values.iter().max()?])))
        .collect();
    let mut corners = BTreeSet::new();
    for side in 0..2 {
        let mut all = default.clone();
        for (name, ends) in &ends {
            let mut one = default.clone();
            one.0.insert((*name).clone(), ends[side]);
            all.0.insert((*name).clone(), ends[side]);
            corners.insert(one);
        }
        corners.insert(all);
    }
    corners.remove(default);
    corners.into_iter().collect()
}

/// None where the launch itself would be refused: the kernels know their shared memory exactly, constraints nearly.
fn of_config(
    subject: &Subject,
    (version, recorder): (u16, &Recorder),
    call: &dyn AnyCall,
    dtype: Dtype,
    config: &LaunchConfig,
) -> Result<Vec<CompileJob>> {
    let start = format!("{} {dtype} sm_{version} {config}", subject.name());
    let kernels = match call.record(recorder, dtype, config) {
        Ok(kernels) => kernels,
        Err(LaunchError::Constraint(_)) => return Ok(Vec::new()),
        Err(error) => return Err(Failure::unmet(format!("{start}: {error}"))),
    };
    let job = |kernel: Kernel| CompileJob { key: format!("{start}: {}", kernel.name), version, kernel };
    Ok(kernels.into_iter().map(job).collect())
}

/// A source, as a process gives it to another.
#[derive(Serialize, Deserialize)]
struct Task {
    job: usize,
    version: u16,
    text: String,
}

/// What NVRTC left for one source, as a process tells another.
#[derive(Serialize, Deserialize)]
struct Line {
    job: usize,
    log: std::result::Result<String, String>,
}

/// The first job of each different source.
fn first_jobs(jobs: &[CompileJob]) -> Vec<usize> {
    let mut seen = BTreeSet::new();
    (0..jobs.len()).filter(|i| seen.insert((jobs[*i].version, &jobs[*i].kernel.text))).collect()
}

/// Compiles each [`Task`] of a line of standard input, and prints a [`Line`] for it.
///
/// # Errors
/// Where there is no NVRTC, something else than tasks to read, or nobody to read the lines.
pub fn compile_tasks(screen: &Screen) -> Result<()> {
    let nvrtc = Nvrtc::find().map_err(Failure::fault)?;
    for line in std::io::stdin().lock().lines() {
        let line = line.map_err(|e| Failure::fault(format!("cannot read standard input: {e}")))?;
        let Task { job, version, text } =
            serde_json::from_str(&line).map_err(|e| Failure::input(format!("not a source to compile: {e}")))?;
        let log = nvrtc.compile(&text, version).map(|compiled| compiled.log);
        screen.line(json(&Line { job, log })?)?;
    }
    Ok(())
}

/// Compiles each source once, on all cores: NVRTC lets one thread of a process compile at a time, so each core has a process.
fn compile(
    op: &str,
    jobs: &[CompileJob],
    firsts: &[usize],
    report: &mut Report,
    screen: &Screen,
) -> Result<BTreeMap<String, Row>> {
    let fault = |e: std::io::Error| Failure::fault(format!("cannot compile in another process: {e}"));
    let program = std::env::current_exe().map_err(fault)?;
    let n = std::thread::available_parallelism().map_or(1, usize::from).min(firsts.len());
    let progress = screen.progress(firsts.len() as u64, Left::Estimated);
    let logs = std::thread::scope(|scope| {
        let (sender, lines) = mpsc::channel();
        let mut children = Vec::new();
        for i in 0..n {
            let mut child = Command::new(&program)
                .args(["inspect", op, "--gate", "-", "--compile-tasks"])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .map_err(fault)?;
            let (input, output) = (child.stdin.take(), child.stdout.take());
            scope.spawn(move || {
                let mut input = BufWriter::new(input?);
                for job in firsts.iter().skip(i).step_by(n) {
                    let CompileJob { version, kernel, .. } = &jobs[*job];
                    let task = Task { job: *job, version: *version, text: kernel.text.clone() };
                    // A process that no longer reads has ended, with a status that says why.
                    writeln!(input, "{}", serde_json::to_string(&task).ok()?).ok()?;
                }
                Some(())
            });
            let sender = sender.clone();
            scope.spawn(move || {
                for line in
                    output.into_iter().flat_map(|out| BufReader::new(out).lines()).map_while(std::result::Result::ok)
                {
                    // Where nobody listens any more there is nothing to do.
                    let _ = sender.send(line);
                }
            });
            children.push(child);
        }
        drop(sender);
        let mut logs = BTreeMap::new();
        for line in lines {
            let line: Line =
                serde_json::from_str(&line).map_err(|e| Failure::fault(format!("unexpected `{line}`: {e}")))?;
            logs.insert(line.job, line.log);
            progress.step(logs.len() as u64, "");
        }
        for mut child in children {
            let status = child.wait().map_err(fault)?;
            if !status.success() {
                return Err(Failure::fault(format!("a process that compiled ended with {status}")));
            }
        }
        Ok(logs)
    })?;
    progress.end();
    let by_source: BTreeMap<(u16, &str), usize> =
        firsts.iter().map(|i| ((jobs[*i].version, jobs[*i].kernel.text.as_str()), *i)).collect();
    let mut found = BTreeMap::new();
    for CompileJob { key, version, kernel } in jobs {
        let footprint = match logs.get(&by_source[&(*version, kernel.text.as_str())]) {
            Some(Ok(log)) => Footprint::new(log, kernel, *version),
            Some(Err(log)) => Err(log.clone()),
            None => Err("not compiled".to_owned()),
        };
        match footprint {
            Ok(footprint) => {
                found.insert(key.clone(), Row::new(&footprint));
            }
            Err(log) => report.errors.push(format!("{key}: {}", log.trim())),
        }
    }
    Ok(found)
}

/// Compares with the table: spills and stack frames always, other figures where the same NVRTC made them.
fn judge(table: &Table, found: &BTreeMap<String, Row>, version: &str, report: &mut Report) {
    for (key, row) in found {
        let listed = table.kernels.get(key);
        let worse = |now: u32, then: fn(&Row) -> u32| now > listed.map_or(0, then);
        if worse(row.spill_bytes, |r| r.spill_bytes) || worse(row.stack_bytes, |r| r.stack_bytes) {
            report.spills.push(format!("{key}: {}", row.text()));
        }
    }
    if table.nvrtc != version {
        report.unjudged =
            Some(format!("figures are of NVRTC {}: only errors, spills and stack frames were judged", table.nvrtc));
        return;
    }
    for key in table.kernels.keys().chain(found.keys()).collect::<BTreeSet<_>>() {
        let difference = match (table.kernels.get(key), found.get(key)) {
            (Some(then), Some(now)) if then != now => format!("{key}: {} → {}", then.text(), now.text()),
            (None, Some(now)) => format!("{key}: not in the table → {}", now.text()),
            (Some(then), None) if report.errors.iter().all(|e| !e.starts_with(key.as_str())) => {
                format!("{key}: {} → not compiled", then.text())
            }
            _ => continue,
        };
        report.differences.push(difference);
    }
}

fn end(report: &Report, json: bool, screen: &Screen) -> Result<()> {
    if json {
        screen.json(report)?;
    } else {
        for (what, lines) in [("error", &report.errors), ("spills", &report.spills), ("differs", &report.differences)] {
            for line in lines.iter().take(SHOWN) {
                screen.line(format!("{what}: {line}"))?;
            }
            if lines.len() > SHOWN {
                screen.line(format!("and {} more; --json lists all", lines.len() - SHOWN))?;
            }
        }
        match &report.skipped {
            Some(reason) => screen.line(format!("skipped: {} kernels were not compiled: {reason}", report.kernels))?,
            None => screen.line(format!(
                "{} kernels, {} different sources compiled in {:.1} s: {} errors, {} spills or stack frames that are not \
                 listed, {} differences",
                report.kernels,
                report.sources,
                report.seconds,
                report.errors.len(),
                report.spills.len(),
                report.differences.len()
            ))?,
        }
        if let Some(reason) = &report.unjudged {
            screen.line(reason)?;
        }
    }
    let counts = [&report.errors, &report.spills, &report.differences].map(Vec::len);
    if counts == [0, 0, 0] {
        return Ok(());
    }
    let [errors, spills, differences] = counts;
    Err(Failure::unmet(format!(
        "the static gate is not passed: {errors} errors, {spills} new spills, {differences} differences; \
         `--update` rewrites the table where they are meant"
    )))
}

fn read(op: &str, path: &Path) -> Result<Table> {
    let cannot = |reason: String| Failure::input(format!("cannot read {}: {reason}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|e| cannot(e.to_string()))?;
    let table: Table = serde_json::from_str(&text).map_err(|e| cannot(e.to_string()))?;
    if (table.schema, table.op.as_str()) != (SCHEMA_VERSION, op) {
        let Table { schema, op: found, .. } = &table;
        return Err(cannot(format!("schema {schema} of `{found}`, expected {SCHEMA_VERSION} of `{op}`")));
    }
    Ok(table)
}

fn json(value: &impl Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|e| Failure::fault(format!("cannot write JSON: {e}")))
}

/// JSON with one kernel on a line, so that a difference reads as one.
fn render(table: &Table) -> Result<String> {
    let Table { schema, op, nvrtc, kernels } = table;
    let mut text = format!(
        "{{\n  \"schema\": {schema},\n  \"op\": {},\n  \"nvrtc\": {},\n  \"kernels\": {{",
        json(op)?,
        json(nvrtc)?
    );
    for (index, (key, row)) in kernels.iter().enumerate() {
        let comma = if index == 0 { "" } else { "," };
        // Writing to a string does not fail.
        let _ = write!(text, "{comma}\n    {}: {}", json(key)?, json(row)?);
    }
    text.push_str("\n  }\n}\n");
    Ok(text)
}

#[cfg(test)]
#[path = "gate_tests.rs"]
mod tests;
