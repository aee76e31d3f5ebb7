//! `bench`: kernels timed beside what the machine could do at most, and compared with what they took.

mod apart;
pub mod args;
mod comparison;
pub mod instructions;
mod models;
mod result;
mod timed;

use std::fs;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use ff_kernels::host::peak::{self, Peak};
use ff_spec::{Dtype, Launch, LaunchError, Runtime, RuntimeKind, SCHEMA_VERSION};
use ff_structure::read_frames;
use ff_tables::{Loaded, load_all};
use ff_testkit::gate::Gated;

use self::apart::Start;
use self::args::{BenchArgs, Suite};
use self::comparison::{against, comparable, compare_stored, same_machine, show_comparisons, verdict};
use self::result::{Report, Samples, read_report, show};
use super::verify::writable;
use crate::failure::{Failure, Result};
use crate::machine::Machine;
use crate::screen::{Left, Screen};
use crate::{interrupt, ops, runtimes, workload};

pub use self::result::{Floor, Row};
pub use self::timed::Timed;

/// Receivers that are compared with the oracle: all of them would take minutes on a large problem.
pub const CHECKED_ROWS: usize = 64;

/// A case of any op.
pub trait Case {
    /// Its name on the command line.
    fn name(&self) -> &str;

    /// The op.
    fn op(&self) -> &'static str;

    /// Whether it can be measured on a runtime.
    fn runs_on(&self, _runtime: RuntimeKind) -> bool {
        true
    }

    /// Checks it, times it, and checks it again.
    ///
    /// # Errors
    /// Outputs that are wrong, and whatever stops the runtime.
    fn measure(
        &self,
        runtime: &(dyn Runtime + 'static),
        roof: Option<Peak>,
        args: &BenchArgs,
        screen: &Screen,
    ) -> Result<Row>;
}

/// Times the suite.
pub fn run(args: &BenchArgs, screen: &Screen) -> Result<()> {
    if let Some(table) = &args.instructions {
        return instructions::run(table, args, screen);
    }
    let cases = chosen(args)?;
    if args.list {
        return cases.iter().try_for_each(|case| screen.line(case.name()));
    }
    // Its workers read the same files.
    if !args.serve {
        for path in &args.structure {
            workload::warn(&read_frames(path).map_err(Failure::input)?.warnings, screen);
        }
    }
    if args.fail_over <= 0.0 {
        return Err(Failure::input("--fail-over 0%: expected above 0%, a slow-down that can be caught"));
    }
    let old = args.compare.as_deref().map(read_report).transpose()?;
    if let Some(path) = &args.save {
        writable(path)?;
    }
    if let Some(dir) = &args.export {
        fs::create_dir_all(dir).map_err(|e| Failure::input(format!("cannot create {}: {e}", dir.display())))?;
    }
    if let Some(threads) = args.threads {
        // One of them is this thread, which would otherwise only wait for the others.
        rayon::ThreadPoolBuilder::new()
            .num_threads(threads.into())
            .use_current_thread()
            .build_global()
            .map_err(Failure::fault)?;
    }
    let runtime = runtimes::open(args.runtime(), screen)?;
    let (device, threads) = (runtime.device().clone(), rayon::current_num_threads());
    let machine = Machine::of(&device, threads);
    if let (Some(path), Some(old)) = (&args.compare, &old) {
        same_machine(path, old, &machine)?;
    }
    if args.serve {
        let [case] = &cases[..] else { return Err(Failure::input("--serve expects one --case")) };
        let row = case.measure(runtime.as_ref(), None, args, screen)?;
        return screen.line(serde_json::to_string(&row).map_err(Failure::fault)?);
    }
    // What Ctrl-C finds measured is kept.
    interrupt::flag();
    let roof = (device.runtime == RuntimeKind::Host).then(peak::measure);
    if let Some(roof) = roof {
        screen.headline(format!(
            "{threads} threads; measured: {:.0} GFLOP/s in f32, {:.0} in f64, {:.1} GB/s copied",
            roof.f32 / 1e9,
            roof.f64 / 1e9,
            roof.bytes / 1e9
        ))?;
    }
    if device.software {
        screen.warn("a software adapter: these times say nothing of a GPU");
    }
    let (here, not_here): (Vec<_>, Vec<_>) = cases.into_iter().partition(|case| case.runs_on(device.runtime));
    for case in &not_here {
        screen.warn(format!("{}: not measured, it exists on host only", case.name()));
    }
    if let (Some(path), Some(old), None) = (&args.compare, &old, &args.baseline_binary) {
        comparable(path, old, &here, runtime.clock(), args.processes())?;
    }
    let mut report = Report {
        schema: SCHEMA_VERSION,
        forgefield: env!("CARGO_PKG_VERSION").to_owned(),
        machine,
        clock: runtime.clock(),
        threads,
        peak: roof.map(|roof| [roof.f32, roof.f64, roof.bytes]),
        rows: Vec::new(),
        comparisons: Vec::new(),
        device,
    };
    let start = Start { args, runtime: report.device.runtime };
    match &args.baseline_binary {
        Some(baseline) => against(baseline, &start, &here, &mut report, screen)?,
        None if args.processes() > 1 => apart(&start, &here, roof, &mut report, screen)?,
        None => {
            for case in here.iter().take_while(|_| !interrupt::raised()) {
                screen.say(case.name());
                report.rows.push(case.measure(runtime.as_ref(), roof, args, screen)?);
            }
        }
    }
    // What was measured is shown, whatever comes of writing and comparing it.
    let saved = args.save.as_deref().map_or(Ok(()), |path| save(path, &report));
    let mut compared = Ok(());
    if let (Some(path), Some(old), None, false) = (&args.compare, &old, &args.baseline_binary, interrupt::raised()) {
        match compare_stored(path, old, &report.rows, args, screen) {
            Ok(comparisons) => report.comparisons = comparisons,
            Err(failure) => compared = Err(failure),
        }
    }
    if args.json {
        screen.json(&report)?;
    } else {
        show(&report.rows, screen)?;
        show_comparisons(&report.comparisons, screen)?;
    }
    saved.and(compared)?;
    if interrupt::raised() {
        return Err(Failure::interrupted("interrupted: the cases after that were not measured"));
    }
    if old.is_some() || args.baseline_binary.is_some() {
        verdict(&report.comparisons, args.fail_over, screen)?;
    }
    Ok(())
}

fn save(path: &Path, report: &Report) -> Result<()> {
    let text = serde_json::to_string(report).map_err(Failure::fault)?;
    ff_tables::fs::replace(path, (text + "\n").as_bytes())
        .map_err(|e| Failure::input(format!("cannot write {}: {e}", path.display())))
}

/// Times every case in several processes. They come round by round, so that what the machine does meanwhile is spread over
/// all cases.
fn apart(
    start: &Start<'_>,
    cases: &[Rc<dyn Case>],
    roof: Option<Peak>,
    report: &mut Report,
    screen: &Screen,
) -> Result<()> {
    let processes = start.args.processes();
    let mut rows: Vec<Option<Row>> = cases.iter().map(|_| None).collect();
    let progress = screen.progress((processes * cases.len()) as u64, Left::Estimated);
    for round in 0..processes {
        for (at, (case, row)) in cases.iter().zip(&mut rows).enumerate() {
            progress.step((round * cases.len() + at) as u64, case.name());
            if interrupt::raised() {
                break;
            }
            match start.one_more(case.name(), row) {
                Err(failure) if failure.code == 130 => break,
                other => other?,
            }
        }
        progress.plain(format!("{} of {processes} processes of each case", round + 1));
    }
    progress.end();
    report.rows = rows.into_iter().flatten().map(|row| row.under(roof)).collect();
    Ok(())
}

/// The cases that are asked for. The ops of most to tell come first.
fn chosen(args: &BenchArgs) -> Result<Vec<Rc<dyn Case>>> {
    for op in &args.op {
        ops::find(op)?;
    }
    let mut all: Vec<Rc<dyn Case>> = match (args.suite, &args.model) {
        (Suite::Models, Some(model)) => models::cases(model, args.full)?,
        (Suite::Models, None) => return Err(Failure::input("no --model, which the suite `models` is of")),
        (Suite::Kernels, None) => ops::ALL.iter().rev().flat_map(|op| op.bench_cases(&args.structure)).collect(),
        (Suite::Kernels, Some(_)) => return Err(Failure::input("--model is of --suite models, found --suite kernels")),
    };
    all.retain(|case| args.op.is_empty() || args.op.iter().any(|op| op == case.op()));
    if args.case.is_empty() {
        return Ok(all);
    }
    args.case
        .iter()
        .map(|name| {
            all.iter().find(|case| case.name() == name).cloned().ok_or_else(|| {
                let known: Vec<&str> = all.iter().map(|case| case.name()).collect();
                Failure::input(format!(
                    "unknown case `{name}`{}; expected one of {}",
                    ops::meant(name, &known),
                    known.join(", ")
                ))
            })
        })
        .collect()
}

/// The tables of an op; says which cannot be read.
pub fn tables(op: &str, args: &BenchArgs, screen: &Screen) -> Loaded {
    let tables = load_all(&args.tables, op);
    for error in &tables.errors {
        screen.warn(format!("warning: {error}"));
    }
    tables
}

/// The most samples of a block, and how long it goes on; one sample is taken in any case.
const BLOCK: (usize, Duration) = (32, Duration::from_millis(10));
/// The fewest blocks.
const FEWEST_BLOCKS: usize = 5;

/// A few consecutive samples in ns.
fn block_of(sample: &mut impl FnMut() -> Result<Duration>) -> Result<Vec<u64>> {
    let (begin, mut block) = (Instant::now(), Vec::new());
    while block.is_empty() || (block.len() < BLOCK.0 && begin.elapsed() < BLOCK.1) {
        // A coarse clock may say 0, of which there is no ratio.
        block.push(u64::try_from(sample()?.as_nanos()).unwrap_or(u64::MAX).max(1));
    }
    Ok(block)
}

/// Takes samples for as long as is asked for, at least five blocks; or when it is asked for them.
pub fn time(args: &BenchArgs, mut sample: impl FnMut() -> Result<Duration>) -> Result<Samples> {
    if args.serve {
        return apart::serve(sample);
    }
    let (begin, mut blocks) = (Instant::now(), Vec::new());
    let time = Duration::from_secs_f64(args.seconds());
    while blocks.len() < FEWEST_BLOCKS || (begin.elapsed() < time && blocks.len() < 10_000) {
        blocks.push(block_of(&mut sample)?);
        if interrupt::raised() {
            break;
        }
    }
    Samples::of(vec![blocks])
}

/// Runs the kernel on poisoned outputs and compares what is left of them by `known`; their relative error.
pub fn check<O: Gated>(
    launch: &mut dyn Launch<O>,
    oracle: &O::Oracle,
    dtype: Dtype,
    known: impl Fn(&mut O::Outputs),
) -> Result<f64> {
    launch.poison()?;
    launch.run()?;
    let mut outputs = launch.outputs()?;
    known(&mut outputs);
    compare::<O>(&outputs, oracle, dtype)
}

/// The relative error of outputs.
pub fn compare<O: Gated>(outputs: &O::Outputs, oracle: &O::Oracle, dtype: Dtype) -> Result<f64> {
    let compared = O::compare(outputs, oracle, dtype);
    let (rel_error, _) = compared.map_err(|e| Failure::unmet(format!("not timed, the output is wrong: {e}")))?;
    Ok(rel_error)
}

/// Bytes that become resident while something runs, at their peak; `None` where the system does not say.
pub fn peak_of(run: impl FnOnce() -> std::result::Result<(), LaunchError>) -> Result<Option<usize>> {
    let status = |field: &str| -> Option<usize> {
        let text = fs::read_to_string("/proc/self/status").ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix(field))?;
        line.trim_start_matches(':').trim().trim_end_matches("kB").trim().parse::<usize>().ok().map(|kib| kib * 1024)
    };
    // 5 resets the peak to what is resident now.
    if fs::write("/proc/self/clear_refs", "5").is_err() {
        return Ok(None);
    }
    let Some(resident) = status("VmRSS") else { return Ok(None) };
    run()?;
    Ok(status("VmHWM").map(|peak| peak.saturating_sub(resident)))
}

/// Writes a file for other programs.
///
/// # Errors
/// Where it cannot be written.
pub fn export(path: &Path, bytes: &[u8]) -> Result<()> {
    ff_tables::fs::replace(path, bytes).map_err(|e| Failure::input(format!("cannot write {}: {e}", path.display())))
}
