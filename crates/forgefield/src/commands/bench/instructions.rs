//! Instructions of every host kernel, counted by callgrind and compared with a committed table: a witness without noise.
//!
//! Valgrind runs one thread on a processor that it makes up, with AVX2 at most, so a count says nothing of AVX-512 and is the
//! same on every machine. Only what one call of a kernel executes is counted, preparation and process are not. Each
//! kernel runs on small random inputs under its default configuration, and has to pass the comparison with the oracle
//! first, on the processor itself.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::hint::black_box;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use ff_spec::{Dtype, Launch, Op, Prepare, Problem, Runtime, RuntimeKind, SCHEMA_VERSION};
use ff_testkit::gate::Gated;
use ff_testkit::tensors::{ByTensors, Forward};
use serde::{Deserialize, Serialize};

use super::args::BenchArgs;
use super::check;
use crate::failure::{Failure, Result};
use crate::screen::{Left, Screen};
use crate::{ops, provenance, runtimes};

/// A count that changes by more than this is a difference.
const MOST_CHANGE: f64 = 0.02;
/// Differences that are shown.
const SHOWN: usize = 20;

/// The table as it is committed.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    schema: u32,
    /// What made the code that was counted: another compiler makes other code.
    compiler: String,
    /// The SIMD level that valgrind's processor has.
    level: String,
    /// The version of valgrind that counted.
    valgrind: String,
    /// By op, variant, dtype and derivative order.
    instructions: BTreeMap<String, u64>,
}

/// What came of a run.
#[derive(Default, Serialize)]
struct Report {
    valgrind: Option<String>,
    level: Option<String>,
    kernels: usize,
    seconds: f64,
    skipped: Option<String>,
    differences: Vec<String>,
    /// Why differences are not judged.
    unjudged: Option<String>,
    instructions: BTreeMap<String, u64>,
}

/// Counts and compares.
///
/// # Errors
/// A kernel that is wrong, and counts that have changed, with code 1; a table that cannot be read or written.
pub fn run(path: &Path, args: &BenchArgs, screen: &Screen) -> Result<()> {
    // One of one thread is this thread: what a kernel executes is executed where it is counted.
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).use_current_thread().build_global();
    pool.map_err(Failure::fault)?;
    let runtime = runtimes::of(RuntimeKind::Host).map_err(runtimes::unavailable)?;
    let jobs = jobs();
    if args.counted {
        return counted(&jobs, runtime.as_ref(), screen);
    }
    let begin = Instant::now();
    let table = if args.update && !path.exists() { None } else { Some(read(path)?) };
    for job in &jobs {
        (job.prepare)(runtime.as_ref())?
            .check()
            .map_err(|e| Failure { message: format!("{}: {}", job.key, e.message), ..e })?;
    }
    screen.headline(format!("{} kernels checked in {:.1} s", jobs.len(), begin.elapsed().as_secs_f64()))?;
    let mut report = Report { kernels: jobs.len(), ..Report::default() };
    let version = match valgrind() {
        Ok(version) => version,
        Err(missing) if args.update => return Err(Failure::fault(missing)),
        Err(missing) => {
            report.skipped = Some(missing);
            return end(&report, args.json, screen);
        }
    };
    screen.headline(format!("valgrind {version}"))?;
    let (level, found) = count(&jobs, screen)?;
    report.seconds = begin.elapsed().as_secs_f64();
    let compiler = provenance::compiler(RuntimeKind::Host);
    if args.update {
        let table = Table {
            schema: SCHEMA_VERSION,
            compiler,
            level: level.clone(),
            valgrind: version.clone(),
            instructions: found.clone(),
        };
        let text = serde_json::to_string_pretty(&table).map_err(Failure::fault)? + "\n";
        ff_tables::fs::replace(path, text.as_bytes())
            .map_err(|e| Failure::fault(format!("cannot write {}: {e}", path.display())))?;
        screen.headline(format!("wrote {}", path.display()))?;
    } else if let Some(table) = table {
        report.differences = differences(&table.instructions, &found);
        if (&table.compiler, &table.level) != (&compiler, &level) {
            report.unjudged = Some(format!(
                "counts are of {} on {}, here {compiler} on {level}: differences are not judged",
                table.compiler, table.level
            ));
        } else if table.valgrind != version {
            screen.warn(format!("counts are of valgrind {}, here {version}; judged all the same", table.valgrind));
        }
    }
    report.instructions = found;
    (report.valgrind, report.level) = (Some(version), Some(level));
    end(&report, args.json, screen)
}

/// A kernel that is ready to run.
pub trait CountedCall {
    /// Runs it once.
    ///
    /// # Errors
    /// As a launch.
    fn run(&mut self) -> Result<()>;
    /// Compares what it computes with the oracle.
    ///
    /// # Errors
    /// Outputs that are wrong.
    fn check(&mut self) -> Result<()>;
}

/// A launch, and what its outputs are compared with.
pub struct CountedLaunch<'a, O: Gated> {
    /// Ready to run.
    pub launch: Box<dyn Launch<O>>,
    /// Element type.
    pub dtype: Dtype,
    /// Computes the reference.
    pub oracle: Box<dyn Fn() -> Result<O::Oracle> + 'a>,
}

impl<O: Gated> CountedCall for CountedLaunch<'_, O> {
    fn run(&mut self) -> Result<()> {
        Ok(self.launch.run()?)
    }

    fn check(&mut self) -> Result<()> {
        let oracle = (self.oracle)()?;
        check::<O>(self.launch.as_mut(), &oracle, self.dtype, |_| ()).map(|_| ())
    }
}

/// Makes a kernel with its inputs.
type PrepareFn = dyn Fn(&(dyn Runtime + 'static)) -> Result<Box<dyn CountedCall>>;

/// What is counted, made when it is its turn.
pub struct CountedJob {
    key: String,
    prepare: Box<PrepareFn>,
}

impl CountedJob {
    /// Of what `prepare` makes.
    pub fn new<O: Op>(
        variant: &O::Variant,
        dtype: Dtype,
        prepare: impl Fn(&(dyn Runtime + 'static)) -> Result<Box<dyn CountedCall>> + 'static,
    ) -> Self {
        Self { key: format!("{} {variant} {dtype} order {}", O::NAME, O::ORDER), prepare: Box::new(prepare) }
    }

    /// Of seeded random inputs of these sizes.
    pub fn by_tensors<O: ByTensors>(variant: &O::Variant, dtype: Dtype, spec: O::Spec) -> Self
    where
        dyn Runtime: Prepare<O>,
    {
        let chosen = variant.clone();
        Self::new::<O>(variant, dtype, move |runtime| {
            let inputs = O::inputs(&spec, &chosen, 0).map_err(Failure::fault)?;
            let inputs = O::rounded(&inputs, dtype);
            let problem = O::forward(&inputs).problem("instructions");
            let launch = prepare::<O>(runtime, &chosen, dtype, &inputs, &problem)?;
            let variant = chosen.clone();
            let oracle = move || O::oracle(&variant, &inputs).map_err(Failure::fault);
            Ok(Box::new(CountedLaunch::<O> { launch, dtype, oracle: Box::new(oracle) }))
        })
    }
}

/// A launch under the default configuration.
///
/// # Errors
/// As [`Prepare::prepare`].
pub fn prepare<O: Op>(
    runtime: &(dyn Runtime + 'static),
    variant: &O::Variant,
    dtype: Dtype,
    inputs: &O::Inputs,
    problem: &Problem,
) -> Result<Box<dyn Launch<O>>>
where
    dyn Runtime: Prepare<O>,
{
    let config = Prepare::<O>::default_config(runtime, variant, dtype, problem);
    Ok(Prepare::<O>::prepare(runtime, variant, dtype, inputs, &config)?)
}

/// Everything that is counted.
fn jobs() -> Vec<CountedJob> {
    ops::ALL.iter().rev().flat_map(|op| op.counted_calls()).collect()
}

/// Runs what is counted, and says in which order.
fn counted(jobs: &[CountedJob], runtime: &(dyn Runtime + 'static), screen: &Screen) -> Result<()> {
    screen.line(&runtime.device().arch)?;
    for job in jobs {
        let mut kernel = (job.prepare)(runtime)?;
        // What is found once and kept is no part of a call.
        kernel.run()?;
        forgefield_counted_call(kernel.as_mut())?;
        screen.line(&job.key)?;
    }
    Ok(())
}

/// By whose name callgrind knows when to count: two options for one pattern do not work together, for one exact name they do.
#[inline(never)]
#[unsafe(no_mangle)]
fn forgefield_counted_call(kernel: &mut dyn CountedCall) -> Result<()> {
    black_box(black_box(kernel).run())
}

/// The version of valgrind, or why there is none.
fn valgrind() -> std::result::Result<String, String> {
    let missing = "valgrind counts them (`apt-get install valgrind`)";
    let done = Command::new("valgrind").arg("--version").output();
    let done = done.map_err(|e| format!("cannot run valgrind: {e}; {missing}"))?;
    let text = String::from_utf8_lossy(&done.stdout);
    match text.trim().strip_prefix("valgrind-") {
        Some(version) if done.status.success() => Ok(version.to_owned()),
        _ => Err(format!("`valgrind --version` says `{}`, expected its version; {missing}", text.trim())),
    }
}

/// Counts all jobs under callgrind, in a process for each core; the SIMD level there, and the counts by key.
fn count(jobs: &[CountedJob], screen: &Screen) -> Result<(String, BTreeMap<String, u64>)> {
    let fault = |e: std::io::Error| Failure::fault(format!("cannot count: {e}"));
    let folder = tempfile::tempdir().map_err(fault)?;
    let out = folder.path().join("counts");
    let program = std::env::current_exe().map_err(fault)?;
    let mut option = std::ffi::OsString::from("--callgrind-out-file=");
    option.push(&out);
    let mut child = Command::new("valgrind")
        .args(["--tool=callgrind", "--quiet"])
        .args(["--toggle-collect=forgefield_counted_call", "--dump-after=forgefield_counted_call"])
        .arg(option)
        .arg(program)
        .args(["bench", "--quiet", "--instructions", "-", "--counted"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(fault)?;
    let progress = screen.progress(jobs.len() as u64, Left::Estimated);
    let mut lines = child.stdout.take().map(BufReader::new).into_iter().flat_map(BufReader::lines);
    let mut level = None;
    let mut counts = BTreeMap::new();
    for line in lines.by_ref() {
        let line = line.map_err(fault)?;
        if level.is_none() {
            level = Some(line);
            continue;
        }
        // Calls are dumped as they end, numbered from 1.
        let path = folder.path().join(format!("counts.{}", counts.len() + 1));
        let dump =
            fs::read_to_string(&path).map_err(|e| Failure::fault(format!("callgrind left no count of {line} ({e}); it finds kernels by name, which a stripped binary does not have")))?;
        let count = dump.lines().find_map(|line| line.strip_prefix("summary: ")?.trim().parse::<u64>().ok());
        let count = count.filter(|count| *count > 0);
        counts
            .insert(line.clone(), count.ok_or_else(|| Failure::fault(format!("callgrind counted nothing of {line}")))?);
        progress.step(counts.len() as u64, line);
    }
    progress.end();
    finished(child)?;
    let known: BTreeSet<&str> = jobs.iter().map(|job| job.key.as_str()).collect();
    if counts.len() != jobs.len() || counts.keys().any(|key| !known.contains(key.as_str())) {
        return Err(Failure::fault(format!("callgrind counted {} of {} kernels", counts.len(), jobs.len())));
    }
    Ok((level.unwrap_or_default(), counts))
}

fn finished(mut child: Child) -> Result<()> {
    let mut said = String::new();
    if let Some(mut stderr) = child.stderr.take() {
        let _ = stderr.read_to_string(&mut said);
    }
    let status = child.wait().map_err(Failure::fault)?;
    if status.success() {
        return Ok(());
    }
    Err(Failure::fault(format!(
        "valgrind ended with {status}: {}",
        said.trim().lines().last().unwrap_or("it said nothing")
    )))
}

fn read(path: &Path) -> Result<Table> {
    let input = |e: String| Failure::input(format!("{}: {e}; --update writes a new table", path.display()));
    let text = fs::read_to_string(path).map_err(|e| input(format!("cannot read it: {e}")))?;
    let table: Table = serde_json::from_str(&text).map_err(|e| input(e.to_string()))?;
    match table.schema {
        SCHEMA_VERSION => Ok(table),
        found => Err(input(format!("schema {found}, expected {SCHEMA_VERSION}"))),
    }
}

/// Counts that are not what the table says.
fn differences(then: &BTreeMap<String, u64>, now: &BTreeMap<String, u64>) -> Vec<String> {
    let keys: BTreeSet<&String> = then.keys().chain(now.keys()).collect();
    let difference = |key: &String| match (then.get(key), now.get(key)) {
        (Some(then), Some(now)) => {
            let change = 100.0 * (*now as f64 / (*then).max(1) as f64 - 1.0);
            let differs = now.abs_diff(*then) as f64 > MOST_CHANGE * *then as f64;
            differs.then(|| format!("{key}: {then} → {now} instructions, {change:+.1} %"))
        }
        (None, Some(now)) => Some(format!("{key}: not in the table, {now} instructions")),
        (Some(then), None) => Some(format!("{key}: {then} instructions, and there is no such kernel any more")),
        (None, None) => None,
    };
    keys.into_iter().filter_map(difference).collect()
}

fn end(report: &Report, json: bool, screen: &Screen) -> Result<()> {
    if json {
        screen.json(report)?;
    } else {
        for line in report.differences.iter().take(SHOWN) {
            screen.line(line)?;
        }
        if report.differences.len() > SHOWN {
            screen.line(format!("and {} more; --json lists all", report.differences.len() - SHOWN))?;
        }
        match &report.skipped {
            Some(reason) => screen.line(format!("skipped: {} kernels were not counted: {reason}", report.kernels))?,
            None => screen.line(format!(
                "{} kernels counted in {:.1} s: {} differ by more than {} %",
                report.kernels,
                report.seconds,
                report.differences.len(),
                100.0 * MOST_CHANGE
            ))?,
        }
        if let Some(reason) = &report.unjudged {
            screen.line(reason)?;
        }
    }
    if report.differences.is_empty() || report.unjudged.is_some() {
        return Ok(());
    }
    Err(Failure::unmet(format!(
        "the instructions of {} kernels have changed; --update accepts what is intended",
        report.differences.len()
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_beyond_two_percent_are_differences() {
        let table = |counts: &[(&str, u64)]| counts.iter().map(|(key, count)| ((*key).to_owned(), *count)).collect();
        let then: BTreeMap<String, u64> = table(&[("a", 10_000), ("b", 10_000), ("c", 10_000), ("gone", 5)]);
        let now: BTreeMap<String, u64> = table(&[("a", 10_200), ("b", 10_201), ("c", 9_700), ("new", 7)]);
        assert_eq!(
            differences(&then, &now),
            [
                "b: 10000 → 10201 instructions, +2.0 %",
                "c: 10000 → 9700 instructions, -3.0 %",
                "gone: 5 instructions, and there is no such kernel any more",
                "new: not in the table, 7 instructions"
            ]
        );
        assert!(differences(&then, &then).is_empty());
    }

    #[test]
    fn every_kernel_has_a_key_of_its_own() {
        let jobs = jobs();
        let keys: BTreeSet<&str> = jobs.iter().map(|job| job.key.as_str()).collect();
        assert_eq!(keys.len(), jobs.len());
        for expected in
            ["fused_message painn_mlp_bessel_cosine_edge_atomic f32 order 0", "cell_list full_cells f64 order 0"]
        {
            assert!(keys.contains(expected), "{expected}");
        }
    }
}
