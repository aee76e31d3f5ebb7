use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Instant;

use ff_spec::fused_message::{OP, Variant};
use ff_spec::{Dtype, Runtime, RuntimeKind};
use ff_testkit::catalogue::{CaseSet, OracleCache, cases};
use ff_testkit::gate::{GatePlan, GateRow, GateSummary, run_gate};

use super::junit;
use super::ops::ORDERS;
use crate::failure::{Failure, Result};
use crate::options::{Cases, VerifyArgs};
use crate::screen::{Left, Paint, Screen, columns, pretty};
use crate::{interrupt, runtimes, variants};

/// Failing rows that are shown; all are in the JSON.
const SHOWN: usize = 50;

/// Runs the gate and says what it found.
pub fn run(args: &VerifyArgs, screen: &Screen) -> Result<()> {
    for op in &args.op {
        variants::op(op)?;
    }
    let variants = chosen(&args.variant)?;
    let dtypes = if args.dtype.is_empty() { Dtype::ALL.to_vec() } else { distinct(&args.dtype) };
    let orders = distinct(&args.order);
    let set = if args.cases.contains(&Cases::Full) { CaseSet::Full } else { CaseSet::Quick };
    let to_stdout = args.json.as_deref().is_some_and(|path| path.as_os_str() == "-");
    let json_file = args.json.as_deref().filter(|_| !to_stdout);
    for path in [json_file, args.junit.as_deref()].into_iter().flatten() {
        writable(path)?;
    }
    let (runtimes, missing) = open(args)?;
    let names: Vec<String> = runtimes.iter().map(|r| runtimes::describe(r.device())).collect();
    let headline = match args.runtime[..] {
        [choice] if choice.kind().is_none() => format!("runtime {} (chosen by auto)", names.join("; ")),
        _ => format!("runtimes {}", names.join("; ")),
    };
    screen.headline(headline)?;

    let plan = GatePlan { variants: &variants, dtypes: &dtypes, set, seeds: args.seeds };
    let mut summary = GateSummary::default();
    let begin = Instant::now();
    if orders.contains(&0) {
        let runtimes: Vec<&dyn Runtime> = runtimes.iter().map(AsRef::as_ref).collect();
        summary = gate(&runtimes, &plan, screen);
    }
    for order in orders.iter().filter(|order| !ORDERS.contains(order)) {
        let kinds = runtimes.iter().map(|r| r.device().runtime);
        skip(&mut summary, *order, &kinds.collect::<Vec<_>>(), &plan);
    }
    let seconds = begin.elapsed().as_secs_f64();

    if let Some(path) = &args.junit {
        write(path, &junit::xml(&summary))?;
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

fn chosen(names: &[String]) -> Result<Vec<Variant>> {
    if names.is_empty() {
        return Ok(variants::all());
    }
    let mut chosen = BTreeSet::new();
    for name in names {
        chosen.extend(variants::matching(name)?);
    }
    Ok(chosen.into_iter().collect())
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

fn gate(runtimes: &[&dyn Runtime], plan: &GatePlan<'_>, screen: &Screen) -> GateSummary {
    let stop = interrupt::flag();
    let total = plan.rows(runtimes.len()) as u64;
    screen.say(format!("{total} cases"));
    let progress = screen.progress(total, Left::Estimated);
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
    let summary = run_gate(runtimes, plan, &mut OracleCache::default(), &mut on_row);
    progress.end();
    summary
}

/// A row for everything that an order without kernels was asked for.
fn skip(summary: &mut GateSummary, order: u8, runtimes: &[RuntimeKind], plan: &GatePlan<'_>) {
    for (runtime, variant) in runtimes.iter().flat_map(|r| plan.variants.iter().map(move |v| (*r, v))) {
        for (dtype, case) in plan.dtypes.iter().flat_map(|d| cases(OP, variant, plan.set).into_iter().map(|c| (*d, c)))
        {
            for seed in 0..plan.seeds {
                summary.skipped += 1;
                summary.cases.push(GateRow {
                    op: OP.to_owned(),
                    variant: variant.id(),
                    runtime,
                    dtype,
                    order,
                    case: case.id.to_owned(),
                    seed,
                    verdict: "skipped".to_owned(),
                    reason: Some(format!("order {order} is not registered")),
                    rel_error: None,
                    max_abs_error: None,
                });
            }
        }
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
        let filter =
            row.variant.parse::<Variant>().map_or_else(|_| row.variant.clone(), |v| v.filter.name().to_owned());
        let counts = groups.entry((row.runtime, row.dtype, filter)).or_default();
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
        .map(|((runtime, dtype, filter), counts)| {
            let Counts { passed, failed, skipped, unsupported, worst } = counts;
            let worst = if passed + failed == 0 { "–".to_owned() } else { format!("{worst:.1e}") };
            let counts = [passed, failed, skipped, unsupported].map(|n| n.to_string());
            [runtime.to_string(), dtype.to_string(), filter].into_iter().chain(counts).chain([worst]).collect()
        })
        .collect();
    let header = ["RUNTIME", "DTYPE", "FILTER", "PASSED", "FAILED", "SKIPPED", "UNSUPPORTED", "WORST ERROR"];
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
fn writable(path: &Path) -> Result<()> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    ff_tables::fs::ensure_writable(folder).map_err(|e| Failure::input(format!("cannot write {}: {e}", path.display())))
}

fn write(path: &Path, text: &str) -> Result<()> {
    ff_tables::fs::replace(path, text.as_bytes())
        .map_err(|e| Failure::fault(format!("cannot write {}: {e}", path.display())))
}
