//! `verify`: kernels against the f64 reference.

pub mod args;
mod junit;
mod model;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Instant;

use ff_spec::{Dtype, Runtime, RuntimeKind};
use ff_testkit::catalogue::CaseSet;
use ff_testkit::gate::{GateRow, GateSummary};

use self::args::{Cases, VerifyArgs};
use crate::failure::{Failure, Result};
use crate::ops::{AnyOrder, Chosen, Plan};
use crate::passes::Passes;
use crate::screen::{Left, Paint, Screen, columns, pretty};
use crate::{interrupt, ops, runtimes};

/// Failing rows that are shown; all are in the JSON.
const SHOWN: usize = 50;

/// Runs the gate and says what it found.
pub fn run(args: &VerifyArgs, screen: &Screen) -> Result<()> {
    if let Some(path) = &args.model {
        return model::run(path, args, screen);
    }
    let all = || ops::ids().into_iter().map(str::to_owned).collect();
    let names: Vec<String> = if args.variant.is_empty() { all() } else { args.variant.clone() };
    let chosen = ops::chosen(&args.op, &names, |op, name| op.matching(name))?;
    let dtypes = if args.dtype.is_empty() { Dtype::ALL.to_vec() } else { distinct(&args.dtype) };
    let orders = distinct(&args.order);
    let set = if args.cases.contains(&Cases::Full) { CaseSet::Full } else { CaseSet::Quick };
    let to_stdout = args.json.as_deref().is_some_and(|path| path.as_os_str() == "-");
    let json_file = args.json.as_deref().filter(|_| !to_stdout);
    for path in [json_file, args.junit.as_deref(), args.passes.as_deref()].into_iter().flatten() {
        writable(path)?;
    }
    let (runtimes, missing) = open(args)?;
    let names: Vec<String> = runtimes.iter().map(|r| runtimes::describe(r.device())).collect();
    let headline = match args.runtime[..] {
        [choice] if choice.kind().is_none() => format!("runtime {} (chosen by auto)", names.join("; ")),
        _ => format!("runtimes {}", names.join("; ")),
    };
    screen.headline(headline)?;

    let begin = Instant::now();
    let runtimes: Vec<&(dyn Runtime + 'static)> = runtimes.iter().map(AsRef::as_ref).collect();
    let mut gate = Gate { runtimes: &runtimes, screen, summary: GateSummary::default() };
    for Chosen { op, ids } in &chosen {
        let plan = Plan { ids, dtypes: &dtypes, set, seeds: args.seeds };
        for order in &orders {
            match op.order(*order) {
                Some(order) => gate.run(order, &plan),
                None => gate.skip(op.forward(), *order, &plan),
            }
        }
    }
    let summary = gate.summary;
    let seconds = begin.elapsed().as_secs_f64();

    if let Some(path) = &args.junit {
        write(path, &junit::xml(&summary)?)?;
    }
    // Of what was interrupted nobody knows whether all cases of it would have passed.
    if let Some(path) = args.passes.as_deref().filter(|_| !interrupt::raised()) {
        // Several runs, each of its own variants, may note in one file.
        let _held = ff_tables::fs::lock_folder_of(path);
        let mut passes = Passes::read(path)?;
        passes.add(&summary, set, &runtimes.iter().map(|runtime| runtime.device()).collect::<Vec<_>>())?;
        write(path, &(pretty(&passes)? + "\n"))?;
    }
    if let Some(path) = json_file {
        write(path, &(pretty(&summary)? + "\n"))?;
    }
    if to_stdout {
        screen.json(&summary)?;
    } else {
        show(&summary, &missing, seconds, screen)?;
    }
    match summary.failure() {
        _ if interrupt::raised() => Err(Failure::interrupted("interrupted: the cases after that were not executed")),
        Some(reason) => Err(Failure::unmet(format!("the gate is not passed: {reason}"))),
        None => Ok(()),
    }
}

fn distinct<T: Ord + Copy>(values: &[T]) -> Vec<T> {
    values.iter().copied().collect::<BTreeSet<_>>().into_iter().collect()
}

/// Open runtimes, and why others are not.
type Opened = (Vec<Box<dyn Runtime>>, Vec<String>);

/// The runtimes to check, and why the others are not: what was asked for must be there, what was not need not.
fn open(args: &VerifyArgs) -> Result<Opened> {
    let (mut open, mut missing): Opened = (Vec::new(), Vec::new());
    if args.runtime.is_empty() {
        for kind in ff_kernels::compiled() {
            match runtimes::of(kind) {
                Ok(runtime) => open.push(runtime),
                Err(error) => missing.push(error.to_string()),
            }
        }
    }
    for choice in &args.runtime {
        let runtime = match choice.kind() {
            Some(kind) => runtimes::of(kind).map_err(runtimes::unavailable)?,
            None => runtimes::fastest()?,
        };
        if open.iter().all(|r| r.device().runtime != runtime.device().runtime) {
            open.push(runtime);
        }
    }
    Ok((open, missing))
}

/// The gate of one op after the other.
struct Gate<'a> {
    runtimes: &'a [&'a (dyn Runtime + 'static)],
    screen: &'a Screen,
    summary: GateSummary,
}

impl Gate<'_> {
    fn run(&mut self, order: &dyn AnyOrder, plan: &Plan<'_>) {
        if interrupt::raised() {
            return;
        }
        let stop = interrupt::flag();
        let total = order.gate_rows(self.runtimes.len(), plan) as u64;
        let of_order = if order.order() == 0 { String::new() } else { format!(", order {}", order.order()) };
        self.screen.say(format!("{}{of_order}: {total} cases", order.op()));
        let progress = self.screen.progress(total, Left::Estimated);
        let mut done = 0;
        let mut on_row = |row: &GateRow| {
            done += 1;
            progress.step(done, format!("{} {} {}", row.runtime, row.dtype, row.variant));
            if row.verdict == "failed" {
                progress.line(format!("failed: {}", title(row)));
            }
            // Ten lines in all for those who see no bar.
            if done.is_multiple_of(total.div_ceil(10)) {
                progress.plain(format!("{done} of {total} done"));
            }
            if stop.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let summary = order.gate(self.runtimes, plan, &mut on_row);
        progress.end();
        self.summary.extend(summary);
    }

    /// A row for everything that an order without kernels was asked for: as many cases as the op itself has.
    fn skip(&mut self, forward: &dyn AnyOrder, order: u8, plan: &Plan<'_>) {
        let mut summary = GateSummary::default();
        for (runtime, id) in self.runtimes.iter().flat_map(|r| plan.ids.iter().map(move |id| (r, id))) {
            let cases = || forward.cases(id, plan.set);
            for (dtype, case) in plan.dtypes.iter().flat_map(|d| cases().into_iter().map(|c| (*d, c))) {
                for seed in 0..plan.seeds {
                    summary.skipped += 1;
                    summary.cases.push(GateRow {
                        op: forward.op().to_owned(),
                        variant: (*id).to_owned(),
                        runtime: runtime.device().runtime,
                        dtype,
                        order,
                        case: case.to_owned(),
                        seed,
                        verdict: "skipped".to_owned(),
                        reason: Some(format!("order {order} is not registered")),
                        rel_error: None,
                        max_abs_error: None,
                    });
                }
            }
        }
        self.summary.extend(summary);
    }
}

fn title(row: &GateRow) -> String {
    let GateRow { variant, runtime, dtype, order, case, seed, .. } = row;
    format!("{variant} on {runtime} in {dtype}, order {order}, case `{case}`, seed {seed}")
}

#[derive(Default)]
struct Counts {
    passed: usize,
    failed: usize,
    skipped: usize,
    unsupported: usize,
    worst: f64,
}

fn show(summary: &GateSummary, missing: &[String], seconds: f64, screen: &Screen) -> Result<()> {
    let mut groups: BTreeMap<(RuntimeKind, Dtype, String), Counts> = BTreeMap::new();
    let mut reasons: BTreeMap<(&str, RuntimeKind, &str), (usize, BTreeSet<&str>)> = BTreeMap::new();
    for row in &summary.cases {
        let group = ops::find(&row.op).map_or_else(|_| row.variant.clone(), |op| op.group(&row.variant));
        let order = if row.order == 0 { String::new() } else { format!(" order {}", row.order) };
        let kernels = format!("{} {group}{order}", row.op);
        let counts = groups.entry((row.runtime, row.dtype, kernels)).or_default();
        match row.verdict.as_str() {
            "passed" => counts.passed += 1,
            "failed" => counts.failed += 1,
            "skipped" => counts.skipped += 1,
            _ => counts.unsupported += 1,
        }
        counts.worst = counts.worst.max(row.rel_error.unwrap_or_default());
        if matches!(row.verdict.as_str(), "skipped" | "unsupported") {
            let reason = row.reason.as_deref().unwrap_or("no reason given");
            let (count, variants) = reasons.entry((&row.verdict, row.runtime, reason)).or_default();
            *count += 1;
            variants.insert(&row.variant);
        }
    }
    let rows: Vec<Vec<String>> = groups
        .into_iter()
        .map(|((runtime, dtype, kernels), counts)| {
            let Counts { passed, failed, skipped, unsupported, worst } = counts;
            let worst = if passed + failed == 0 { "–".to_owned() } else { format!("{worst:.1e}") };
            let counts = [passed, failed, skipped, unsupported].map(|n| n.to_string());
            [runtime.to_string(), dtype.to_string(), kernels].into_iter().chain(counts).chain([worst]).collect()
        })
        .collect();
    let header = ["RUNTIME", "DTYPE", "KERNELS", "PASSED", "FAILED", "SKIPPED", "UNSUPPORTED", "WORST ERROR"];
    for line in columns(&header, &rows, "lllrrrrr") {
        screen.line(line)?;
    }
    for ((verdict, runtime, reason), (count, variants)) in reasons {
        screen.line(format!("{verdict} on {runtime}, {count} cases of {} variants: {reason}", variants.len()))?;
    }
    for reason in missing {
        screen.line(format!("not checked: {reason}"))?;
    }
    let failures: Vec<&GateRow> = summary.cases.iter().filter(|r| r.verdict == "failed").collect();
    for row in failures.iter().take(SHOWN) {
        let reason = row.reason.as_deref().unwrap_or("no reason given");
        screen.line(format!("{} {}: {reason}", screen.paint(Paint::Red, "failed"), title(row)))?;
    }
    if failures.len() > SHOWN {
        screen.line(format!("and {} more failures; --json lists all", failures.len() - SHOWN))?;
    }
    let GateSummary { passed, failed, skipped, unsupported, .. } = summary;
    let verdict = match summary.failure() {
        Some(_) => screen.paint(Paint::Red, "not passed"),
        None => screen.paint(Paint::Green, "passed"),
    };
    screen.line(format!(
        "{verdict}: {passed} passed, {failed} failed, {skipped} skipped, {unsupported} unsupported in {seconds:.1} s"
    ))
}

/// Checks that a report can be written before minutes are spent on it.
pub fn writable(path: &Path) -> Result<()> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let file: io::Result<()> = if path.is_dir() { Err(io::ErrorKind::IsADirectory.into()) } else { Ok(()) };
    file.and_then(|()| ff_tables::fs::ensure_writable(folder))
        .map_err(|e| Failure::input(format!("cannot write {}: {e}", path.display())))
}

fn write(path: &Path, text: &str) -> Result<()> {
    ff_tables::fs::replace(path, text.as_bytes())
        .map_err(|e| Failure::fault(format!("cannot write {}: {e}", path.display())))
}
