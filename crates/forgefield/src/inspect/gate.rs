//! The static gate of an op: every variant compiled for CUDA in every order, its resources compared with a committed table.
//!
//! What is compiled, at 128 features, 20 basis functions and 128 hidden units, in f32 and f64, for sm_80 and sm_90: all
//! kernels of every variant at its default configuration and, where it has a tuning space, at the corners of that: each
//! parameter at its least and at its greatest value with the others at their defaults, and all at their least and at their
//! greatest, where the constraints admit it.
//!
//! The kernels of `fused_message` are generic over radial functions, and many: their corners are compiled in f32 with each
//! basis and each cutoff once, and so are their large backwards, in both dtypes. The second backward is compiled for
//! `receiver` alone, whose vectors are the wider ones and fill more registers.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, BufWriter, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Instant;

use ff_record::{Kernel, Recorder, Target};
use ff_spec::fused_message::{FilterKind, Reduction, Variant};
use ff_spec::{Dtype, LaunchConfig, LaunchError, Problem, SCHEMA_VERSION};
use ff_tune::Space;
use serde::{Deserialize, Serialize};

use super::Footprint;
use super::nvrtc::Nvrtc;
use super::subject::{AllSpaces, Call, Subject};
use crate::failure::{Failure, Result};
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
struct Job {
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
    let subjects: Vec<Subject> = Subject::all(op).into_iter().filter(is_gated).collect();
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

/// Radial functions that the backwards and the corners are compiled with.
const PAIRS: [[&str; 2]; 3] = [["gaussian", "cosine"], ["bessel", "polynomial"], ["expnorm", "cosine"]];

/// Whether a subject's kernels are compiled.
fn is_gated(subject: &Subject) -> bool {
    let Subject::Message(variant, order) = subject else { return true };
    *order == 0 || (is_paired(variant) && (*order == 1 || variant.reduction == Reduction::Receiver))
}

/// Whether they are compiled at the corners of its space too.
fn has_corners(subject: &Subject, dtype: Dtype) -> bool {
    let Subject::Message(variant, _) = subject else { return true };
    dtype == Dtype::F32 && is_paired(variant)
}

fn is_paired(variant: &Variant) -> bool {
    variant.radial.as_ref().is_none_or(|(basis, cutoff)| PAIRS.contains(&[basis, cutoff]))
}

/// Every kernel of these subjects, emitted.
fn jobs(subjects: &[Subject]) -> Result<Vec<Job>> {
    let recorders = VERSIONS.map(|version| (version, Recorder::new(Target::Cuda(version))));
    let spaces = AllSpaces::new()?;
    let mut jobs = Vec::new();
    for subject in subjects {
        let (problem, space, call) = (problem(subject), spaces.of(subject), subject.call(&SIZES)?);
        for dtype in Dtype::ALL {
            for (version, recorder) in &recorders {
                let default = subject.default_config(recorder.device(), dtype, &problem);
                let corners = space.filter(|_| has_corners(subject, dtype)).map(|space| {
                    let admitted = |c: &LaunchConfig| space.refuses(c, recorder.device(), &problem, dtype).is_none();
                    corners(space, &default).into_iter().filter(admitted).collect::<Vec<_>>()
                });
                for config in std::iter::once(default.clone()).chain(corners.into_iter().flatten()) {
                    jobs.extend(of_config(subject, (*version, recorder), &call, dtype, &config)?);
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
    let (features, n_basis, hidden) = match subject {
        Subject::Message(variant, _) => match variant.filter {
            FilterKind::Linear => (128, 20, 0),
            FilterKind::Mlp => (128, 20, 128),
            FilterKind::Tabulated => (128, 4, 0),
        },
        Subject::List(_) | Subject::Scatter(..) => (0, 0, 0),
    };
    let n_systems = if features > 0 { 0 } else { 1 };
    let name = "gate".to_owned();
    Problem { name, n_atoms: 4096, n_systems, n_edges: 131_072, max_degree: 64, features, n_basis, hidden }
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
    call: &Call,
    dtype: Dtype,
    config: &LaunchConfig,
) -> Result<Vec<Job>> {
    let start = format!("{} {dtype} sm_{version} {config}", subject.name());
    let kernels = match subject.record(recorder, call, dtype, config) {
        Ok(kernels) => kernels,
        Err(LaunchError::Constraint(_)) => return Ok(Vec::new()),
        Err(error) => return Err(Failure::unmet(format!("{start}: {error}"))),
    };
    let job = |kernel: Kernel| Job { key: format!("{start}: {}", kernel.name), version, kernel };
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
fn first_jobs(jobs: &[Job]) -> Vec<usize> {
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
    jobs: &[Job],
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
                    let Job { version, kernel, .. } = &jobs[*job];
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
    for Job { key, version, kernel } in jobs {
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
mod tests {
    use super::*;

    fn row(registers: u32, spill_bytes: u32) -> Row {
        Row { registers, shared: 0, blocks_per_sm: 1, occupancy: 0.5, spill_bytes, stack_bytes: 0 }
    }

    fn table(nvrtc: &str, rows: &[(&str, Row)]) -> Table {
        let kernels = rows.iter().map(|(key, row)| ((*key).to_owned(), row.clone())).collect();
        Table { schema: SCHEMA_VERSION, op: "fused_message".to_owned(), nvrtc: nvrtc.to_owned(), kernels }
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
        let spaces = AllSpaces::new().unwrap_or_else(|e| panic!("{}", e.message));
        let subjects = ff_spec::OPS.iter().flat_map(|op| Subject::all(op));
        let mut seen = 0;
        for space in subjects.filter_map(|subject| spaces.of(&subject).cloned()) {
            let found = corners(&space, space.defaults());
            // Two for each parameter and two for all, less those that the defaults are.
            assert!(found.len() > space.parameters().len() && found.len() <= 2 * space.parameters().len() + 2);
            assert!(!found.contains(space.defaults()));
            seen += 1;
        }
        assert!(seen > 52, "messages and lists have spaces");
    }

    /// Jobs of an op's subjects that satisfy a condition.
    fn jobs_of(op: &str, of: impl Fn(&Subject) -> bool) -> Vec<Job> {
        let subjects: Vec<Subject> = Subject::all(op).into_iter().filter(of).collect();
        jobs(&subjects).unwrap_or_else(|e| panic!("{}", e.message))
    }

    #[test]
    fn lists_and_scatters_are_compiled_in_every_order() {
        for (op, expected) in [
            ("cell_list", ["full_cells f32 sm_80 ", "half_brute f64 sm_90 ", "full_brute f64 sm_80 "]),
            ("force_scatter", ["gather f32 sm_80 ", "gather order 1 f64 sm_90 ", "atomic order 2 f32 sm_80 "]),
        ] {
            let jobs = jobs_of(op, |_| true);
            for start in expected {
                assert!(jobs.iter().any(|job| job.key.starts_with(start)), "no {start}");
            }
            let keys: BTreeSet<&String> = jobs.iter().map(|job| &job.key).collect();
            assert_eq!(keys.len(), jobs.len(), "a key for each");
            for (a, b) in jobs.iter().zip(&jobs_of(op, |_| true)) {
                assert_eq!((&a.key, &a.kernel), (&b.key, &b.kernel), "one definition has one text");
            }
        }
        let list = jobs_of("cell_list", |subject| subject.id() == "half_cells");
        for kernel in [
            "place",
            "arrange",
            "walk",
            "walk#2",
            "sort_rows",
            "count_sent",
            "sort_sent",
            "scan_tiles",
            "add_sums",
            "find_moved",
        ] {
            assert!(list.iter().any(|job| job.key.ends_with(&format!(": {kernel}"))), "no {kernel}");
        }
    }

    #[test]
    fn every_radial_function_is_in_a_backward_that_is_compiled() {
        let names = |of: &dyn Fn(&Subject) -> bool| -> BTreeSet<String> {
            let subjects = Subject::all("fused_message").into_iter().filter(|subject| of(subject));
            let radial = subjects.filter_map(|subject| match subject {
                Subject::Message(variant, _) => variant.radial,
                Subject::List(_) | Subject::Scatter(..) => None,
            });
            radial.flat_map(|(basis, cutoff)| [basis, cutoff]).collect()
        };
        for order in 1..=2 {
            assert_eq!(names(&|s| s.order() == order && is_gated(s)), names(&|s| s.order() == order), "order {order}");
        }
    }

    #[test]
    fn every_radial_function_is_compiled_at_corners() {
        let of = |dtype| -> BTreeSet<String> {
            let subjects = Subject::all("fused_message").into_iter().filter(|subject| has_corners(subject, dtype));
            let radial = subjects.filter_map(|subject| match subject {
                Subject::Message(variant, _) => variant.radial,
                Subject::List(_) | Subject::Scatter(..) => None,
            });
            radial.flat_map(|(basis, cutoff)| [basis, cutoff]).collect()
        };
        let all = ["bessel", "cosine", "expnorm", "gaussian", "polynomial"].map(str::to_owned);
        assert_eq!((of(Dtype::F32), of(Dtype::F64)), (BTreeSet::from(all), BTreeSet::new()));
    }

    #[test]
    fn every_message_is_compiled_in_every_order() {
        let jobs = jobs_of("fused_message", |subject| subject.order() == 0);
        for subject in Subject::all("fused_message").iter().filter(|subject| subject.order() == 0) {
            for what in ["f32 sm_80", "f32 sm_90", "f64 sm_80", "f64 sm_90"] {
                let start = format!("{} {what} ", subject.name());
                assert!(jobs.iter().any(|job| job.key.starts_with(&start)), "no {start}");
            }
        }
        let of_one = |order: u8| {
            let id = "painn_mlp_bessel_cosine_receiver";
            jobs_of("fused_message", move |subject| subject.id() == id && subject.order() == order)
        };
        let again = of_one(0);
        for a in &again {
            let b = jobs.iter().find(|job| job.key == a.key).unwrap_or_else(|| panic!("no {}", a.key));
            assert_eq!(a.kernel, b.kernel, "one definition has one text");
        }
        let kernels = |order| -> BTreeSet<String> { of_one(order).into_iter().map(|job| job.kernel.name).collect() };
        let (first, second) = (kernels(1), kernels(2));
        for kernel in ["senders", "last_map", "first_map", "add_parts"] {
            assert!(first.contains(kernel) && second.contains(kernel), "{kernel}: {first:?}, {second:?}");
        }
        assert!(second.contains("receivers") && !first.contains("receivers"), "{first:?}, {second:?}");
    }
}
