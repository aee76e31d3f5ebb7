//! The static gate: every variant compiled for CUDA, its resources compared with a committed table.
//!
//! What is compiled, at 128 features, 20 basis functions and 128 hidden units, in f32 and f64, for sm_80 and sm_90:
//! every variant at its default configuration and at the corners of its tuning space: each parameter at its least and at
//! its greatest value with the others at their defaults, and all at their least and at their greatest, where the
//! constraints admit it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Instant;

use ff_kernels::cube::blueprint::{Blueprint, Described};
use ff_kernels::cube::cuda::{self, CudaSource};
use ff_kernels::fused_message::{Registered, default_config, registered};
use ff_spec::fused_message::{FilterKind, OP, Variant};
use ff_spec::{Dtype, LaunchConfig, Problem, SCHEMA_VERSION};
use ff_tune::{Part, Space, Spaces, Target};
use serde::{Deserialize, Serialize};

use super::Footprint;
use super::nvrtc::Nvrtc;
use crate::failure::{Failure, Result};
use crate::screen::{Left, Screen};

/// The architectures that are judged.
const VERSIONS: [u32; 2] = [80, 90];
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
    /// By variant, dtype, architecture and configuration.
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
struct Job {
    key: String,
    version: u32,
    units: u32,
    source: CudaSource,
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
pub fn run(path: &Path, update: bool, json: bool, screen: &Screen) -> Result<()> {
    let begin = Instant::now();
    let table = if update && !path.exists() { None } else { Some(read(path)?) };
    let jobs = jobs()?;
    let firsts = first_jobs(&jobs);
    let mut report = Report { kernels: jobs.len(), sources: firsts.len(), ..Report::default() };
    screen.headline(format!(
        "{} kernels of {} variants emitted as CUDA C++ in {:.1} s: at their defaults and at the corners of their tuning \
         spaces, {} in {}",
        jobs.len(),
        registered().len(),
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
    let found = compile(&jobs, &firsts, &mut report, screen)?;
    report.seconds = begin.elapsed().as_secs_f64();
    if update && report.errors.is_empty() {
        let table = Table { schema: SCHEMA_VERSION, op: OP.to_owned(), nvrtc: nvrtc.version(), kernels: found };
        ff_tables::fs::replace(path, render(&table)?.as_bytes())
            .map_err(|e| Failure::fault(format!("cannot write {}: {e}", path.display())))?;
        screen.headline(format!("wrote {}", path.display()))?;
    } else if let Some(table) = table {
        judge(&table, &found, &nvrtc.version(), &mut report);
    }
    end(&report, json, screen)
}

/// Every kernel that is judged, emitted.
fn jobs() -> Result<Vec<Job>> {
    let devices: Vec<(u32, Described)> = VERSIONS.iter().map(|v| (*v, cuda::describe(*v))).collect();
    let spaces = Spaces::fused_message().map_err(Failure::fault)?;
    let mut jobs = Vec::new();
    for registered in registered() {
        let variant = registered.variant();
        let space = spaces.get(Target::Cube, Part::Reduction(variant.reduction), 0).map_err(Failure::fault)?;
        let problem = problem(&variant);
        for dtype in Dtype::ALL {
            for (version, device) in &devices {
                let default = default_config(&device.device, &variant, dtype, &problem);
                let admitted = |c: &LaunchConfig| space.refuses(c, &device.device, &problem, dtype).is_none();
                let corners = corners(space, &default).into_iter().filter(admitted);
                for config in std::iter::once(default.clone()).chain(corners) {
                    jobs.extend(job(registered, (*version, device), dtype, &problem, &config)?);
                }
            }
        }
    }
    Ok(jobs)
}

fn problem(variant: &Variant) -> Problem {
    let (n_basis, hidden) = match variant.filter {
        FilterKind::Linear => (20, 0),
        FilterKind::Mlp => (20, 128),
        FilterKind::Tabulated => (4, 0),
    };
    Problem {
        name: "gate".to_owned(),
        n_atoms: 4096,
        n_systems: 0,
        n_edges: 131_072,
        max_degree: 64,
        features: 128,
        n_basis,
        hidden,
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

/// `None` where the launch itself would be refused: the kernels know their shared memory exactly, constraints nearly.
fn job(
    registered: &Registered,
    (version, device): (u32, &Described),
    dtype: Dtype,
    problem: &Problem,
    config: &LaunchConfig,
) -> Result<Option<Job>> {
    let Ok(blueprint) = Blueprint::new(registered, device, dtype, problem, config) else { return Ok(None) };
    let units = blueprint.units();
    let source = cuda::emit(version, (registered.define)(&blueprint))
        .map_err(|e| Failure::unmet(format!("{} in {dtype}, {config}: {e}", registered.id)))?;
    Ok(Some(Job { key: format!("{} {dtype} sm_{version} {config}", registered.id), version, units, source }))
}

/// What NVRTC left for one source, as a process tells another.
#[derive(Serialize, Deserialize)]
struct Line {
    job: usize,
    log: std::result::Result<String, String>,
}

/// The first job of each different source.
fn first_jobs(jobs: &[Job]) -> Vec<usize> {
    let mut seen = BTreeSet::new();
    (0..jobs.len()).filter(|i| seen.insert((jobs[*i].version, &jobs[*i].source.source))).collect()
}

/// Compiles share `i` of `n` of the sources and prints a line for each.
///
/// # Errors
/// Where there is no NVRTC, or nobody to read the lines.
pub fn share(share: (usize, usize), screen: &Screen) -> Result<()> {
    let (nvrtc, jobs) = (Nvrtc::find().map_err(Failure::fault)?, jobs()?);
    let (i, n) = share;
    for job in first_jobs(&jobs).into_iter().skip(i).step_by(n) {
        let log = nvrtc.compile(&jobs[job].source.source, jobs[job].version).map(|compiled| compiled.log);
        let line = Line { job, log };
        screen.line(serde_json::to_string(&line).map_err(|e| Failure::fault(format!("cannot write JSON: {e}")))?)?;
    }
    Ok(())
}

/// Compiles each source once, on all cores: NVRTC lets one thread of a process compile at a time, so each core has a process.
fn compile(jobs: &[Job], firsts: &[usize], report: &mut Report, screen: &Screen) -> Result<BTreeMap<String, Row>> {
    let fault = |e: std::io::Error| Failure::fault(format!("cannot compile in another process: {e}"));
    let program = std::env::current_exe().map_err(fault)?;
    let n = std::thread::available_parallelism().map_or(1, usize::from).min(firsts.len());
    let (sender, lines) = mpsc::channel();
    let mut children = Vec::new();
    for i in 0..n {
        let mut child = Command::new(&program)
            .args(["inspect", OP, "--gate", "-", "--share", &format!("{i}/{n}")])
            .stdout(Stdio::piped())
            .spawn()
            .map_err(fault)?;
        let out = child.stdout.take();
        let sender = sender.clone();
        std::thread::spawn(move || {
            for line in out.into_iter().flat_map(|out| BufReader::new(out).lines()).map_while(std::result::Result::ok) {
                // Where nobody listens any more there is nothing to do.
                let _ = sender.send(line);
            }
        });
        children.push(child);
    }
    drop(sender);
    let progress = screen.progress(firsts.len() as u64, Left::Estimated);
    let mut logs = BTreeMap::new();
    for line in lines {
        let line: Line =
            serde_json::from_str(&line).map_err(|e| Failure::fault(format!("unexpected `{line}`: {e}")))?;
        logs.insert(line.job, line.log);
        progress.step(logs.len() as u64, "");
    }
    progress.end();
    for mut child in children {
        let status = child.wait().map_err(fault)?;
        if !status.success() {
            return Err(Failure::fault(format!("a process that compiled ended with {status}")));
        }
    }
    let by_source: BTreeMap<(u32, &str), usize> =
        firsts.iter().map(|i| ((jobs[*i].version, jobs[*i].source.source.as_str()), *i)).collect();
    let mut found = BTreeMap::new();
    for job in jobs {
        let log = logs.get(&by_source[&(job.version, job.source.source.as_str())]);
        let footprint = match log {
            Some(Ok(log)) => Footprint::new(log, &job.source, job.units, job.version),
            Some(Err(log)) => Err(log.clone()),
            None => Err("not compiled".to_owned()),
        };
        match footprint {
            Ok(footprint) => {
                found.insert(job.key.clone(), Row::new(&footprint));
            }
            Err(log) => report.errors.push(format!("{}: {}", job.key, log.trim())),
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

fn read(path: &Path) -> Result<Table> {
    let cannot = |reason: String| Failure::input(format!("cannot read {}: {reason}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|e| cannot(e.to_string()))?;
    let table: Table = serde_json::from_str(&text).map_err(|e| cannot(e.to_string()))?;
    if (table.schema, table.op.as_str()) != (SCHEMA_VERSION, OP) {
        let Table { schema, op, .. } = &table;
        return Err(cannot(format!("schema {schema} of `{op}`, expected {SCHEMA_VERSION} of `{OP}`")));
    }
    Ok(table)
}

/// JSON with one kernel on a line, so that a difference reads as one.
fn render(table: &Table) -> Result<String> {
    fn json(value: &impl Serialize) -> Result<String> {
        serde_json::to_string(value).map_err(|e| Failure::fault(format!("cannot write JSON: {e}")))
    }
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
mod tests {
    use super::*;

    fn row(registers: u32, spill_bytes: u32) -> Row {
        Row { registers, shared: 0, blocks_per_sm: 1, occupancy: 0.5, spill_bytes, stack_bytes: 0 }
    }

    fn table(nvrtc: &str, rows: &[(&str, Row)]) -> Table {
        let kernels = rows.iter().map(|(key, row)| ((*key).to_owned(), row.clone())).collect();
        Table { schema: SCHEMA_VERSION, op: OP.to_owned(), nvrtc: nvrtc.to_owned(), kernels }
    }

    fn judged(table: &Table, found: &[(&str, Row)]) -> (usize, usize, bool) {
        let found = found.iter().map(|(key, row)| ((*key).to_owned(), row.clone())).collect();
        let mut report = Report::default();
        judge(table, &found, "13.2", &mut report);
        (report.spills.len(), report.differences.len(), report.unjudged.is_some())
    }

    #[test]
    fn a_table_is_judged_by_its_own_nvrtc() {
        let same = table("13.2", &[("a", row(40, 0)), ("b", row(255, 16))]);
        assert_eq!(judged(&same, &[("a", row(40, 0)), ("b", row(255, 16))]), (0, 0, false));
        assert_eq!(judged(&same, &[("a", row(41, 0)), ("b", row(255, 24))]), (1, 2, false));
        assert_eq!(judged(&same, &[("a", row(40, 0)), ("c", row(40, 8))]), (1, 2, false));
        let other = table("12.9", &[("a", row(40, 0)), ("b", row(255, 16))]);
        assert_eq!(judged(&other, &[("a", row(99, 0)), ("b", row(255, 24))]), (1, 0, true));
    }

    #[test]
    fn tables_survive_being_written() {
        let before = table("13.2", &[("a", row(40, 0)), ("b", row(255, 16))]);
        let text = render(&before).unwrap_or_else(|e| panic!("{}", e.message));
        assert_eq!(text.lines().filter(|line| line.contains("registers")).count(), 2, "one line each: {text}");
        let after: Table = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"));
        assert_eq!(after.kernels, before.kernels);
    }

    #[test]
    fn corners_are_the_ends_of_each_parameter() {
        let spaces = Spaces::fused_message().unwrap_or_else(|e| panic!("{e}"));
        for space in spaces.iter() {
            let found = corners(space, space.defaults());
            // Two for each parameter and two for all, less those that the defaults are.
            assert!(found.len() > space.parameters().len() && found.len() <= 2 * space.parameters().len() + 2);
            assert!(!found.contains(space.defaults()));
        }
    }

    #[test]
    fn every_variant_and_family_is_compiled() {
        let jobs = jobs().unwrap_or_else(|e| panic!("{}", e.message));
        for registered in registered() {
            for what in ["f32 sm_80", "f32 sm_90", "f64 sm_80", "f64 sm_90"] {
                let start = format!("{} {what} ", registered.id);
                assert!(jobs.iter().any(|job| job.key.starts_with(&start)), "no {start}");
            }
        }
        let again = self::jobs().unwrap_or_else(|e| panic!("{}", e.message));
        for (a, b) in jobs.iter().zip(&again) {
            assert_eq!((&a.key, &a.source), (&b.key, &b.source), "one definition has one text");
        }
    }
}
