use std::collections::BTreeSet;
use std::path::Path;

use ff_spec::fused_message::{OP, Variant};
use ff_spec::{DeviceId, Dtype};
use ff_tune::{
    Budget, Event, GateVerifier, Outcome, Policy, ProblemOutcome, RecordWriter, Request, Spaces, Task, TuneError,
    Verdict, tune,
};

use crate::baseline::Unfused;
use crate::failure::{Failure, Result};
use crate::options::{BudgetArg, Strategy, TuneArgs};
use crate::screen::{Left, Paint, Screen, columns, nanoseconds};
use crate::workload::{self, Workload};
use crate::{interrupt, provenance, runtimes, variants};

/// What is tuned when nothing is said: the filters of SchNet and PaiNN, both reductions, and their tables.
const DEFAULT_VARIANTS: [&str; 6] = [
    "cfconv_mlp_receiver",
    "cfconv_mlp_edge_atomic",
    "cfconv_tabulated_receiver",
    "painn_linear_receiver",
    "painn_linear_edge_atomic",
    "painn_tabulated_receiver",
];

/// A batch of molecules, a small and a medium liquid.
const DEFAULT_PROBLEMS: [&str; 3] = ["molecules", "water-64", "water-512"];

/// Steps of the progress bar per task.
const STEPS: u64 = 1000;

/// Searches, and writes records and the table.
pub fn run(args: &TuneArgs, screen: &Screen) -> Result<()> {
    for op in &args.op {
        variants::op_of(op, "tune", &[OP])?;
    }
    // There is one strategy; naming it here makes a second one a compile error.
    let Strategy::Brute = args.strategy;
    let variants = chosen(&args.variant)?;
    let dtypes: BTreeSet<Dtype> = args.dtype.iter().copied().collect();
    let dtypes = if dtypes.is_empty() { BTreeSet::from([Dtype::F32]) } else { dtypes };
    let spaces = match &args.space {
        Some(path) => Spaces::load(path),
        None => Spaces::fused_message(),
    };
    let spaces = spaces.map_err(Failure::input)?;
    let built_in = if args.problem.is_empty() && args.structure.is_empty() {
        DEFAULT_PROBLEMS.map(str::to_owned).to_vec()
    } else {
        args.problem.clone()
    };
    let workloads = workload::collect(&built_in, &args.structure, &args.sizes)?;
    let runtime = runtimes::open(args.runtime, screen)?;
    let mut tasks = Vec::new();
    for workload in &workloads {
        for (variant, dtype) in variants.iter().flat_map(|v| dtypes.iter().map(move |d| (v, *d))) {
            tasks.push(task(workload, variant, dtype, args)?);
        }
    }
    let mut records = open_records(&args.out)?;
    let budget = match args.budget {
        BudgetArg::Time(time) => Budget::Time(time),
        BudgetArg::Evaluations(n) => Budget::Evaluations(n),
        BudgetArg::All => Budget::Exhaustive,
    };
    let kind = runtime.device().runtime;
    let request = Request {
        spaces: &spaces,
        tasks,
        budget,
        policy: Policy::default(),
        seed: args.sizes.seed,
        resume: args.resume,
        tables: args.out.clone(),
        versions: provenance::versions(),
        template_hash: provenance::TEMPLATE_HASH.to_owned(),
        compiler: provenance::compiler(kind),
    };
    let stop = interrupt::flag();
    let unfused = Unfused::new(kind, stop);
    let mut shown = Shown::new(request.tasks.len(), args.budget, screen);
    let result = tune(
        runtime.as_ref(),
        &request,
        &mut GateVerifier::default(),
        Some(&|variant, dtype, inputs| unfused.measure(variant, dtype, inputs)),
        &mut records,
        &mut |event| shown.event(event),
        stop,
    );
    shown.progress.end();
    for note in unfused.notes() {
        screen.say(format!("note: {note}"));
    }
    let outcome = result.map_err(|error| failure(error, records.path()))?;
    if args.json {
        screen.json(&outcome)?;
    } else {
        summary(&outcome, runtime.device(), records.path(), screen)?;
    }
    if outcome.stopped {
        return Err(Failure::interrupted("interrupted: what was measured is kept; --resume goes on from there"));
    }
    if outcome.problems.iter().all(|p| p.best.is_none()) {
        return Err(Failure::unmet("no configuration passed the gate and was timed"));
    }
    Ok(())
}

fn chosen(names: &[String]) -> Result<Vec<Variant>> {
    let mut chosen: Vec<Variant> = Vec::new();
    let defaults = DEFAULT_VARIANTS.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    for name in if names.is_empty() { &defaults } else { names } {
        let variant = variants::representative(name)?;
        if !chosen.contains(&variant) {
            chosen.push(variant);
        }
    }
    Ok(chosen)
}

fn task<'a>(workload: &'a Workload, variant: &Variant, dtype: Dtype, args: &TuneArgs) -> Result<Task<'a>> {
    let make = workload.maker(variant, &args.sizes)?;
    Ok(Task {
        variant: variant.clone(),
        kernel_hash: provenance::kernel_hash(variant),
        dtype,
        problem: workload.name.clone(),
        inputs: Box::new(make),
    })
}

/// Records are opened before anything is measured: a folder that cannot be written to is bad input.
fn open_records(out: &Path) -> Result<RecordWriter> {
    let unwritable = |e| Failure::input(format!("--out {}: cannot write there: {e}", out.display()));
    ff_tables::fs::ensure_writable(out).map_err(unwritable)?;
    RecordWriter::open(&out.join("records.jsonl")).map_err(Failure::input)
}

fn failure(error: TuneError, records: &Path) -> Failure {
    match error {
        TuneError::NoTasks | TuneError::Output { .. } | TuneError::Space(_) => Failure::input(error),
        TuneError::Table(ff_tables::TableError::Io { action: "write", .. }) | TuneError::Records(_) => {
            Failure::fault(format!("{error}; what was measured before is kept in {}", records.display()))
        }
        TuneError::Table(_) => Failure::input(error),
    }
}

/// What happens, as it is shown.
struct Shown<'a> {
    progress: crate::screen::Progress<'a>,
    task: usize,
    title: String,
}

impl<'a> Shown<'a> {
    fn new(tasks: usize, budget: BudgetArg, screen: &'a Screen) -> Self {
        let left = match budget {
            BudgetArg::Time(time) => Left::Until(time),
            BudgetArg::Evaluations(_) | BudgetArg::All => Left::Estimated,
        };
        Self { progress: screen.progress(tasks as u64 * STEPS, left), task: 0, title: String::new() }
    }

    fn event(&mut self, event: Event<'_>) {
        let base = self.task as u64 * STEPS;
        match event {
            Event::Note(note) => self.progress.line(format!("note: {note}")),
            Event::Begin { index, total, variant, dtype, problem, configs, .. } => {
                self.task = index;
                self.title = format!("{}/{total} {} {variant} {dtype}", index + 1, problem.name);
                self.progress.step(index as u64 * STEPS, &self.title);
                self.progress.plain(format!("{}: {configs} configurations", self.title));
            }
            Event::Measured { done, total, best_ns, .. } => {
                let best = best_ns.map(|ns| format!(", best {}", nanoseconds(ns))).unwrap_or_default();
                // The last tenth is for the finals.
                let step = base + (9 * STEPS / 10) * done as u64 / total.max(1) as u64;
                self.progress.step(step, format!("{}: {done} of {total}{best}", self.title));
            }
            Event::Finals { configs } => {
                self.progress.step(base + 9 * STEPS / 10, format!("{}: finals of {configs}", self.title));
            }
            Event::End(outcome) => {
                self.progress.step(base + STEPS, &self.title);
                let best = match (&outcome.best, outcome.ratio()) {
                    (Some(best), Some(ratio)) => format!("{}, × {ratio:.2}", nanoseconds(best.timing.median_ns)),
                    (Some(best), None) => nanoseconds(best.timing.median_ns),
                    (None, _) => "nothing passed".to_owned(),
                };
                self.progress.plain(format!("  best {best} ({})", counts(outcome)));
            }
        }
    }
}

fn counts(outcome: &ProblemOutcome) -> String {
    let mut parts: Vec<String> =
        outcome.counts.iter().filter(|(_, n)| **n > 0).map(|(v, n)| format!("{n} {v}")).collect();
    if outcome.reused > 0 {
        parts.push(format!("{} of them from records", outcome.reused));
    }
    parts.join(", ")
}

fn summary(outcome: &Outcome, device: &DeviceId, records: &Path, screen: &Screen) -> Result<()> {
    let header =
        ["FAMILY", "DTYPE", "DEFAULT", "BEST", "× DEFAULT", "SPREAD", "UNFUSED", "× UNFUSED", "TRIED", "CONFIG"];
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "–".to_owned());
    let rows: Vec<Vec<String>> = outcome
        .problems
        .iter()
        .map(|p| {
            let best = p.best.as_ref();
            let ratio = |r: Option<f64>| or_dash(r.map(|r| format!("{r:.2}")));
            let tried: usize = p.counts.values().sum();
            vec![
                p.variant.family(),
                p.dtype.to_string(),
                or_dash(p.default.as_ref().map(|d| nanoseconds(d.timing.median_ns))),
                or_dash(best.map(|b| nanoseconds(b.timing.median_ns))),
                ratio(p.ratio()),
                or_dash(best.map(|b| format!("{:.1} %", 100.0 * b.timing.spread_ns / b.timing.median_ns))),
                or_dash(p.unfused.map(|u| nanoseconds(u.median_ns))),
                ratio(p.unfused_ratio()),
                tried.to_string(),
                or_dash(best.map(|b| b.config.to_string())),
            ]
        })
        .collect();
    // Aligned over all problems, shown by problem.
    let mut lines = columns(&header, &rows, "llrrrrrrrl").into_iter();
    screen.line(screen.paint(Paint::Bold, lines.next().unwrap_or_default()))?;
    let mut problem = "";
    for (outcome, line) in outcome.problems.iter().zip(lines) {
        if outcome.problem.name != problem {
            problem = &outcome.problem.name;
            let (atoms, edges) = (outcome.problem.n_atoms, outcome.problem.n_edges);
            screen.line(screen.paint(Paint::Bold, format!("{problem}: {atoms} atoms, {edges} edges")))?;
        }
        screen.line(line)?;
        for note in &outcome.notes {
            screen.line(format!("  note: {note}"))?;
        }
        let wrong = outcome.counts.get(&Verdict::Correctness).copied().unwrap_or(0);
        if wrong > 0 {
            let text = format!("{wrong} configurations gave wrong results; the records say which");
            screen.line(format!("  {}", screen.paint(Paint::Red, text)))?;
        }
    }
    if device.software {
        let text = format!("{} is a software adapter: these times are no performance claims", device.name);
        screen.line(screen.paint(Paint::Yellow, text))?;
    }
    screen.line(format!("records {}", records.display()))?;
    match &outcome.table {
        Some(table) => screen.line(format!("table   {}", table.display())),
        None => screen.line("table   none: nothing passed"),
    }
}
