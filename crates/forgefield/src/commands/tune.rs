mod explain;
mod replay;
mod worker;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ff_spec::{
    CellList, DeviceId, Dtype, ForceScatter, ForceScatterBackward, ForceScatterDoubleBackward, FusedMessage,
    FusedMessageBackward, FusedMessageDoubleBackward, LaunchConfig, Op, Prepare, Problem, Runtime, RuntimeKind,
    cell_list, force_scatter, fused_message, kernel_name,
};
use ff_testkit::force_scatter::{random_cotangents, random_tangent};
use ff_tune::replay::nearest_problem;
use ff_tune::{
    BaselineFn, Budget, EstimateFn, Event, GateVerifier, InProcess, Outcome, Policy, ProblemOutcome, RecordWriter,
    Recorded, Request, Shard, SpaceError, Spaces, StrategyKind, Task, Times, TuneError, Tuned, Verdict, Workbench,
    tune,
};

use crate::baseline::Unfused;
use crate::estimate::Estimator;
use crate::failure::{Failure, Result};
use crate::options::{BudgetArg, StrategyArg, TuneArgs};
use crate::screen::{Left, Paint, Screen, columns, nanoseconds};
use crate::variants::ByOp;
use crate::workload::{self, Workload};
use crate::{interrupt, provenance, runtimes, variants};

/// What is tuned when nothing is said: full lists by both strategies, half lists; force scatters; the filters of SchNet and
/// PaiNN, both reductions, and their tables.
const DEFAULT_VARIANTS: [&str; 11] = [
    "full_cells",
    "full_brute",
    "half_cells",
    "gather",
    "atomic",
    "cfconv_mlp_receiver",
    "cfconv_mlp_edge_atomic",
    "cfconv_tabulated_receiver",
    "painn_linear_receiver",
    "painn_linear_edge_atomic",
    "painn_tabulated_receiver",
];

/// A batch of molecules, a small and a medium liquid.
const DEFAULT_PROBLEMS: [&str; 3] = ["molecules", "water-64", "water-512"];

/// Atoms of a system up to which brute force is timed: its time grows with their square, and cells win long before.
const MOST_BRUTE: usize = 4096;

/// What a search may take when nothing is said.
const DEFAULT_BUDGET: BudgetArg = BudgetArg::Time(Duration::from_secs(100));

/// Steps of the progress bar per task.
const STEPS: u64 = 1000;

/// Searches, and writes records and tables.
pub fn run(args: &TuneArgs, screen: &Screen) -> Result<()> {
    let begin = Instant::now();
    if !args.replay.is_empty() {
        return replay::run(args, screen);
    }
    let strategy = match args.strategy {
        Some(StrategyArg::All) => {
            return Err(Failure::input("--strategy all compares strategies, expected --replay with records"));
        }
        Some(StrategyArg::One(kind)) => Some(kind),
        None => None,
    };
    let defaults = || DEFAULT_VARIANTS.map(str::to_owned).to_vec();
    let names = if args.variant.is_empty() { defaults() } else { args.variant.clone() };
    let ByOp { messages, mut lists, scatters } =
        variants::by_op(&args.op, &names, |name| Ok(vec![variants::representative(name)?]))?;
    let orders: BTreeSet<u8> = args.order.iter().copied().collect();
    if !orders.contains(&0) {
        if messages.is_empty() && scatters.is_empty() {
            let op = cell_list::OP;
            return Err(Failure::input(format!("op `{op}` has no derivatives, expected --order 0 among the orders")));
        }
        lists.clear();
    }
    let dtypes: BTreeSet<Dtype> = args.dtype.iter().copied().collect();
    let dtypes = if dtypes.is_empty() { BTreeSet::from([Dtype::F32]) } else { dtypes };
    let tuned = [
        (cell_list::OP, lists.is_empty()),
        (force_scatter::OP, scatters.is_empty()),
        (fused_message::OP, messages.is_empty()),
    ];
    let tuned: Vec<&str> = tuned.into_iter().filter(|(_, none)| !none).map(|(op, _)| op).collect();
    let given = args.space.as_ref().map(|path| Spaces::load(path)).transpose().map_err(Failure::input)?;
    if let Some(spaces) = given.as_ref().filter(|spaces| !tuned.contains(&spaces.op.as_str())) {
        let (op, tuned) = (&spaces.op, tuned.join(", "));
        return Err(Failure::input(format!("--space: these are the spaces of op `{op}`, expected those of {tuned}")));
    }
    let spaces = |op: &str, built_in: fn() -> std::result::Result<Spaces, SpaceError>| match &given {
        Some(spaces) if spaces.op == op => Ok(spaces.clone()),
        _ => built_in().map_err(Failure::fault),
    };
    let (of_lists, of_scatters, of_messages) = (
        spaces(cell_list::OP, Spaces::cell_list)?,
        spaces(force_scatter::OP, Spaces::force_scatter)?,
        spaces(fused_message::OP, Spaces::fused_message)?,
    );
    let built_in = if args.problem.is_empty() && args.structure.is_empty() {
        DEFAULT_PROBLEMS.map(str::to_owned).to_vec()
    } else {
        args.problem.clone()
    };
    let workloads = workload::collect(&built_in, &args.structure, &args.sizes)?;
    let runtime = runtimes::open(args.runtime, screen)?;
    let unfused = Unfused::new(runtime.device().runtime, interrupt::flag());
    let baseline: &BaselineFn<'_> = &|variant, dtype, inputs| unfused.measure(variant, dtype, inputs);
    let estimator = Estimator::new(runtime.device());
    let counted: &EstimateFn<'_> =
        &|variant, dtype, problem, config| estimator.message(variant, dtype, problem, config);
    let kind = runtime.device().runtime;
    let mut list_tasks = Vec::new();
    let (mut scatter_tasks, mut scatter_backwards, mut scatter_double_backwards) = (Vec::new(), Vec::new(), Vec::new());
    let (mut message_tasks, mut backwards, mut double_backwards) = (Vec::new(), Vec::new(), Vec::new());
    for workload in &workloads {
        for (variant, dtype) in lists.iter().flat_map(|v| dtypes.iter().map(move |d| (v, *d))) {
            let make = workload.list_maker(args.sizes.cutoff)?;
            if variant.strategy == cell_list::Strategy::Brute {
                let inputs = make();
                let largest = (0..inputs.n_systems()).map(|system| inputs.atoms(system).len()).max().unwrap_or(0);
                if largest > MOST_BRUTE {
                    let name = &workload.name;
                    screen
                        .say(format!("{variant} is not tried on `{name}`: a system of {largest} atoms takes minutes"));
                    continue;
                }
            }
            list_tasks.push(task::<CellList>(kind, workload, variant, dtype, Box::new(make)));
        }
        for (variant, dtype) in scatters.iter().flat_map(|v| dtypes.iter().map(move |d| (v, *d))) {
            let (make, seed) = (workload.scatter_maker(&args.sizes)?, args.sizes.seed);
            let backward = move || {
                let inputs = make();
                force_scatter::BackwardInputs { grad: random_cotangents(&inputs, seed), inputs }
            };
            let double_backward = move || {
                let force_scatter::BackwardInputs { inputs, grad } = backward();
                let tangent = random_tangent(&inputs, seed);
                force_scatter::DoubleBackwardInputs { inputs, grad, tangent }
            };
            for order in &orders {
                match order {
                    0 => scatter_tasks.push(task::<ForceScatter>(kind, workload, variant, dtype, Box::new(make))),
                    1 => scatter_backwards.push(task(kind, workload, variant, dtype, Box::new(backward))),
                    _ => scatter_double_backwards.push(task(kind, workload, variant, dtype, Box::new(double_backward))),
                }
            }
        }
        for (variant, dtype) in messages.iter().flat_map(|v| dtypes.iter().map(move |d| (v, *d))) {
            for order in &orders {
                match order {
                    0 => {
                        let make = workload.maker(variant, &args.sizes)?;
                        message_tasks.push(task::<FusedMessage>(kind, workload, variant, dtype, Box::new(make)));
                    }
                    1 => {
                        let make = workload.backward_maker(variant, &args.sizes)?;
                        backwards.push(task(kind, workload, variant, dtype, Box::new(make)));
                    }
                    _ => {
                        let make = workload.double_backward_maker(variant, &args.sizes)?;
                        double_backwards.push(task(kind, workload, variant, dtype, Box::new(make)));
                    }
                }
            }
        }
    }
    // Lists first: what they leave of a time goes to the messages, which have more to try.
    let mut queues: Vec<Box<dyn Searched + '_>> = vec![
        Box::new(Queue::<CellList>::new(&of_lists, list_tasks, |runtime| runtime)),
        Box::new(Queue::<ForceScatter>::new(&of_scatters, scatter_tasks, |runtime| runtime)),
        Box::new(Queue::<ForceScatterBackward>::new(&of_scatters, scatter_backwards, |runtime| runtime)),
        Box::new(Queue::<ForceScatterDoubleBackward>::new(&of_scatters, scatter_double_backwards, |runtime| runtime)),
        Box::new(Queue::<FusedMessage> {
            baseline: Some(baseline),
            counted: Some(counted),
            ..Queue::new(&of_messages, message_tasks, |runtime| runtime)
        }),
        Box::new(Queue::<FusedMessageBackward>::new(&of_messages, backwards, |runtime| runtime)),
        Box::new(Queue::<FusedMessageDoubleBackward>::new(&of_messages, double_backwards, |runtime| runtime)),
    ];
    let shard = deal(args.shard, &mut queues, screen)?;
    if args.explain {
        let mut explained = Vec::new();
        for queue in &queues {
            explained.extend(queue.explained(runtime.device())?);
        }
        return explain::show(&explained, args.json, screen);
    }
    let budget = args.budget.unwrap_or(DEFAULT_BUDGET);
    let (stop, device, policy) = (interrupt::flag(), runtime.as_ref(), policy(args));
    if let Some(op) = &args.serve {
        let served = queues.iter().find(|queue| queue.op() == *op);
        let served = served
            .ok_or_else(|| Failure::input(format!("--serve {op}: expected an op that is tuned, with its order")))?;
        return served.serve(device, &policy);
    }
    let records = open_records(&args.out)?;
    let estimated = args.prefilter.is_some() || strategy == Some(StrategyKind::CostModel);
    let earlier = if estimated { Recorded::of(records.existing()) } else { Vec::new() };
    let mut session = Session {
        args,
        policy,
        budget,
        strategy,
        shard,
        earlier,
        records,
        shown: Shown::new(queues.iter().map(|queue| queue.len()).sum(), budget, screen),
        end: if let BudgetArg::Time(time) = budget { Some(Instant::now() + time) } else { None },
        outcome: Outcome::default(),
        stop,
    };
    let searched = queues.into_iter().try_for_each(|queue| queue.search(&mut session, device));
    let Session { records, shown, mut outcome, .. } = session;
    shown.progress.end();
    searched?;
    // Reading structures and opening a device are the tuner's own time too.
    outcome.times = outcome.times.filled(begin.elapsed());
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

/// The tasks of an op in one order, whatever op that is.
trait Searched {
    /// How many.
    fn len(&self) -> usize;

    /// Keeps those of a share; `numbers` goes on from the queue before.
    fn keep(&mut self, shard: Shard, numbers: &mut dyn Iterator<Item = usize>);

    /// What the constraints leave of each space.
    fn explained(&self, device: &DeviceId) -> Result<Vec<explain::Explained>>;

    /// What a worker is asked to serve.
    fn op(&self) -> String;

    /// Measures for the process that started this one.
    fn serve(&self, runtime: &dyn Runtime, policy: &Policy) -> Result<()>;

    /// Searches for all of them.
    fn search(self: Box<Self>, session: &mut Session<'_>, runtime: &dyn Runtime) -> Result<()>;
}

struct Queue<'a, O: Op> {
    spaces: &'a Spaces,
    tasks: Vec<Task<'a, O>>,
    /// A runtime as what prepares this op.
    prepare: for<'r> fn(&'r dyn Runtime) -> &'r dyn Prepare<O>,
    baseline: Option<&'a BaselineFn<'a, O>>,
    /// A cost that can be counted where nothing was measured.
    counted: Option<&'a EstimateFn<'a, O>>,
}

impl<'a, O: Op> Queue<'a, O> {
    fn new(
        spaces: &'a Spaces,
        tasks: Vec<Task<'a, O>>,
        prepare: for<'r> fn(&'r dyn Runtime) -> &'r dyn Prepare<O>,
    ) -> Self {
        Self { spaces, tasks, prepare, baseline: None, counted: None }
    }
}

impl<O: Tuned> Searched for Queue<'_, O> {
    fn len(&self) -> usize {
        self.tasks.len()
    }

    fn keep(&mut self, shard: Shard, numbers: &mut dyn Iterator<Item = usize>) {
        self.tasks.retain(|_| numbers.next().is_some_and(|task| shard.has(task)));
    }

    fn explained(&self, device: &DeviceId) -> Result<Vec<explain::Explained>> {
        explain::spaces(device, self.spaces, &self.tasks)
    }

    fn op(&self) -> String {
        worker::of::<O>()
    }

    fn serve(&self, runtime: &dyn Runtime, policy: &Policy) -> Result<()> {
        worker::serve::<O>((self.prepare)(runtime), &self.tasks, policy, self.baseline)
    }

    fn search(self: Box<Self>, session: &mut Session<'_>, runtime: &dyn Runtime) -> Result<()> {
        session.search((self.prepare)(runtime), self.spaces, self.tasks, self.baseline, self.counted)
    }
}

fn policy(args: &TuneArgs) -> Policy {
    Policy { eliminates: !args.no_eliminate, finalists: usize::from(args.finalists), ..Policy::default() }
}

/// Keeps the tasks of a share; what is returned is the share of every space where they are too few to be dealt out.
fn deal(shard: Option<Shard>, queues: &mut [Box<dyn Searched + '_>], screen: &Screen) -> Result<Option<Shard>> {
    let Some(shard) = shard else { return Ok(None) };
    let tasks = queues.iter().map(|queue| queue.len()).sum();
    if !shard.deals_tasks(tasks) {
        screen.say(format!("shard: {tasks} tasks are too few to be dealt out, so configurations of each are"));
        return Ok(Some(shard));
    }
    let mut numbers = 0..tasks;
    queues.iter_mut().for_each(|queue| queue.keep(shard, &mut numbers));
    screen.say(format!("shard: {} of {tasks} tasks", queues.iter().map(|queue| queue.len()).sum::<usize>()));
    Ok(None)
}

fn task<'a, O: Op>(
    runtime: RuntimeKind,
    workload: &Workload,
    variant: &O::Variant,
    dtype: Dtype,
    inputs: Box<dyn Fn() -> O::Inputs + 'a>,
) -> Task<'a, O> {
    let kernel_hash = provenance::kernel_hash(O::NAME, &variant.to_string(), O::ORDER, runtime);
    Task { variant: variant.clone(), kernel_hash, dtype, problem: workload.name.clone(), inputs }
}

/// What the searches of several ops share.
struct Session<'a> {
    args: &'a TuneArgs,
    policy: Policy,
    budget: BudgetArg,
    strategy: Option<StrategyKind>,
    /// Of every space, where tasks are not dealt out.
    shard: Option<Shard>,
    /// What the records hold of other problems, where costs are estimated.
    earlier: Vec<Recorded>,
    records: RecordWriter,
    shown: Shown<'a>,
    /// When the time is up, where it is limited.
    end: Option<Instant>,
    /// Of the ops before.
    outcome: Outcome,
    stop: &'a AtomicBool,
}

impl Session<'_> {
    /// Searches for one op. Time is shared evenly among all tasks that are left.
    fn search<O: Tuned>(
        &mut self,
        runtime: &dyn Prepare<O>,
        spaces: &Spaces,
        tasks: Vec<Task<'_, O>>,
        baseline: Option<&BaselineFn<'_, O>>,
        counted: Option<&EstimateFn<'_, O>>,
    ) -> Result<()> {
        let count = tasks.len();
        if count == 0 || self.stop.load(Ordering::Relaxed) {
            return Ok(());
        }
        let budget = match (self.budget, self.end) {
            (BudgetArg::Time(time), end) => {
                let left = end.map_or(time, |end| end.saturating_duration_since(Instant::now()));
                Budget::Time(left.mul_f64(count as f64 / self.shown.left() as f64))
            }
            (BudgetArg::Evaluations(n), _) => Budget::Evaluations(n),
            (BudgetArg::All, _) => Budget::Exhaustive,
        };
        let slug = runtime.device().slug.clone();
        let (strategy, keep) = (self.strategy, self.args.prefilter.unwrap_or(1.0));
        if strategy == Some(StrategyKind::CostModel) || keep < 1.0 {
            self.expect_estimates(runtime, &tasks, counted)?;
        }
        let (earlier, estimated) = (&self.earlier, strategy == Some(StrategyKind::CostModel) || keep < 1.0);
        // What was measured of a problem like this one says more than what can be counted.
        let estimate = |variant: &O::Variant, dtype, problem: &Problem, config: &LaunchConfig| match nearest_problem(
            (&variant.to_string(), O::ORDER),
            dtype,
            problem,
            &slug,
            earlier,
        ) {
            Some(cost) => cost(config),
            None => counted?(variant, dtype, problem, config),
        };
        let estimate: Option<&EstimateFn<'_, O>> = if estimated { Some(&estimate) } else { None };
        let request = Request {
            spaces,
            tasks,
            budget,
            strategy,
            estimate,
            keep,
            shard: self.shard,
            policy: self.policy.clone(),
            seed: self.args.sizes.seed,
            resume: self.args.resume,
            tables: self.args.out.clone(),
            versions: provenance::versions(),
            template_hash: provenance::template_hash(O::NAME).to_owned(),
            compiler: provenance::compiler(runtime.device().runtime),
        };
        let shown = &mut self.shown;
        let mut on_event = |event: Event<'_>| shown.event(event);
        let mut verifier = GateVerifier::default();
        let mut here;
        let mut child;
        let bench: &mut dyn Workbench = if self.args.in_process {
            here = InProcess::new(runtime, &request.tasks, &request.policy, &mut verifier, baseline, self.stop);
            &mut here
        } else {
            child = worker::start::<O>(runtime, &request.tasks, self.stop);
            &mut child
        };
        let result = tune(bench, &request, &mut self.records, &mut on_event, self.stop);
        let outcome = result.map_err(|error| failure(error, self.records.path()))?;
        self.shown.before += count;
        self.outcome.extend(outcome);
        Ok(())
    }
}

impl Session<'_> {
    /// Expects that costs can be estimated for every task.
    fn expect_estimates<O: Tuned>(
        &self,
        runtime: &dyn Prepare<O>,
        tasks: &[Task<'_, O>],
        counted: Option<&EstimateFn<'_, O>>,
    ) -> Result<()> {
        let slug = &runtime.device().slug;
        for task in tasks {
            let variant = task.variant.to_string();
            let problem = O::sizes(&task.problem, &(task.inputs)());
            let default = runtime.default_config(&task.variant, task.dtype, &problem);
            let counted = counted.and_then(|counted| counted(&task.variant, task.dtype, &problem, &default));
            if counted.is_none()
                && nearest_problem((&variant, O::ORDER), task.dtype, &problem, slug, &self.earlier).is_none()
            {
                let (name, records) = (&problem.name, self.records.path().display());
                let kernel = kernel_name(&variant, O::ORDER);
                return Err(Failure::input(format!(
                    "no estimate of {kernel} in {} on `{name}`: {records} has no other problem of it on this device, and it \
                     cannot be counted (only `fused_message` is, on the host, and on CUDA with NVRTC)",
                    task.dtype
                )));
            }
        }
        Ok(())
    }
}

/// Records are opened before anything is measured: a folder that cannot be written to is bad input.
fn open_records(out: &Path) -> Result<RecordWriter> {
    let unwritable = |e| Failure::input(format!("--out {}: cannot write there: {e}", out.display()));
    ff_tables::fs::ensure_writable(out).map_err(unwritable)?;
    RecordWriter::open(&out.join("records.jsonl")).map_err(Failure::input)
}

fn failure(error: TuneError, records: &Path) -> Failure {
    match error {
        TuneError::NoTasks | TuneError::NoEstimate(_) | TuneError::Output { .. } | TuneError::Space(_) => {
            Failure::input(error)
        }
        TuneError::Table(ff_tables::TableError::Io { action: "write", .. }) | TuneError::Records(_) => {
            Failure::fault(format!("{error}; what was measured before is kept in {}", records.display()))
        }
        TuneError::Lost(_) => {
            Failure::fault(format!("{error}; what was measured before is kept in {}", records.display()))
        }
        TuneError::Table(_) => Failure::input(error),
    }
}

/// What happens, as it is shown.
struct Shown<'a> {
    progress: crate::screen::Progress<'a>,
    /// Tasks of all ops.
    tasks: usize,
    /// Tasks of the ops before.
    before: usize,
    task: usize,
    title: String,
}

impl<'a> Shown<'a> {
    fn new(tasks: usize, budget: BudgetArg, screen: &'a Screen) -> Self {
        let left = match budget {
            BudgetArg::Time(time) => Left::Until(time),
            BudgetArg::Evaluations(_) | BudgetArg::All => Left::Estimated,
        };
        let progress = screen.progress(tasks as u64 * STEPS, left);
        Self { progress, tasks, before: 0, task: 0, title: String::new() }
    }

    /// Tasks of this op and those after it.
    fn left(&self) -> usize {
        self.tasks - self.before
    }

    fn event(&mut self, event: Event<'_>) {
        let base = self.task as u64 * STEPS;
        match event {
            Event::Note(note) => self.progress.line(format!("note: {note}")),
            Event::Begin { index, variant, dtype, problem, configs, .. } => {
                self.task = self.before + index;
                self.title = format!("{}/{} {} {variant} {dtype}", self.task + 1, self.tasks, problem.name);
                self.progress.step(self.task as u64 * STEPS, &self.title);
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
                kernel_name(&p.family, p.order),
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
    let mut shown = None;
    for (outcome, line) in outcome.problems.iter().zip(lines) {
        let problem = &outcome.problem;
        if shown.replace((outcome.op, &problem.name)) != Some((outcome.op, &problem.name)) {
            screen.line(screen.paint(Paint::Bold, heading(outcome.op, problem)))?;
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
    screen.line(format!("time    {}", spent(&outcome.times)))?;
    screen.line(format!("records {}", records.display()))?;
    if outcome.tables.is_empty() {
        screen.line("table   none: nothing passed")?;
    }
    outcome.tables.iter().try_for_each(|table| screen.line(format!("table   {}", table.display())))
}

/// Where the time went, and which share of it the tuner took for itself.
fn spent(times: &Times) -> String {
    let seconds = |ns: u64| ns as f64 * 1e-9;
    format!(
        "{:.1} s: {:.1} s compiling, {:.1} s gating, {:.1} s running, {:.1} s of its own ({:.1} %)",
        seconds(times.total_ns()),
        seconds(times.compile_ns),
        seconds(times.gate_ns),
        seconds(times.benchmark_ns),
        seconds(times.own_ns()),
        100.0 * times.own_share()
    )
}

/// A problem with its sizes. Those of lists are estimates, as tables are keyed by them.
fn heading(op: &str, problem: &Problem) -> String {
    let Problem { name, n_atoms, n_systems, n_edges, .. } = problem;
    match op {
        cell_list::OP => {
            let systems = if *n_systems == 1 { "system" } else { "systems" };
            format!("{name}: {n_atoms} atoms in {n_systems} {systems}, lists of about {n_edges} edges")
        }
        _ => format!("{name}: {n_atoms} atoms, {n_edges} edges"),
    }
}

#[cfg(test)]
mod tests {
    use ff_kernels::cell_list::{cube_config, default_config, host_config};
    use ff_spec::cell_list::{List, Strategy, Variant};
    use ff_spec::{Limits, RuntimeKind};
    use ff_tune::{Part, Target};

    use super::*;

    /// Spaces and kernels are written in two places; here they meet.
    #[test]
    fn the_kernels_take_every_configuration_of_a_list() {
        let spaces = Spaces::cell_list().unwrap_or_else(|e| panic!("{e}"));
        let host = runtimes::of(RuntimeKind::Host).unwrap_or_else(|e| panic!("{e}"));
        let molecules = ff_structure::builtin("molecules").unwrap_or_else(|e| panic!("{e}"));
        let problem = ff_structure::batch(&molecules, 5.0).unwrap_or_else(|e| panic!("{e}")).estimate("molecules");
        for (runtime, max_units_per_cube, plane_size) in
            [(RuntimeKind::Host, 2, 16), (RuntimeKind::Cuda, 1024, 32), (RuntimeKind::Vulkan, 128, 8)]
        {
            let limits = Limits { max_units_per_cube, plane_size, shared_memory: 32768 };
            let device = DeviceId { runtime, limits, ..host.device().clone() };
            for strategy in Strategy::ALL {
                let variant = Variant { list: List::Full, strategy };
                let space =
                    spaces.get(Target::of(runtime), Part::Strategy(strategy), 0).unwrap_or_else(|e| panic!("{e}"));
                let configs = space.enumerate(&device, &problem, Dtype::F32).unwrap_or_else(|e| panic!("{e}"));
                let default = default_config(&device, &variant, Dtype::F32, &problem);
                assert_eq!(space.defaults(), &default, "of {runtime} and {strategy:?}");
                assert!(configs.contains(&default), "{default} on {runtime}");
                for config in &configs {
                    let taken = match runtime {
                        RuntimeKind::Host => host_config(config).map(|_| ()),
                        _ => cube_config(&device.limits, config).map(|_| ()),
                    };
                    assert_eq!(taken, Ok(()), "{config} on {runtime}");
                }
            }
        }
    }
    /// The same of the ops that are differentiated, in every order.
    #[test]
    fn the_kernels_take_every_configuration_of_every_order() {
        let host = runtimes::of(RuntimeKind::Host).unwrap_or_else(|e| panic!("{e}"));
        let (messages, scatters) = (Spaces::fused_message(), Spaces::force_scatter());
        let (messages, scatters) =
            (messages.unwrap_or_else(|e| panic!("{e}")), scatters.unwrap_or_else(|e| panic!("{e}")));
        let sizes = Problem {
            name: "test".to_owned(),
            n_atoms: 64,
            n_systems: 1,
            n_edges: 3200,
            max_degree: 60,
            features: 128,
            n_basis: 20,
            hidden: 0,
        };
        for (runtime, max_units_per_cube, plane_size) in
            [(RuntimeKind::Host, 2, 16), (RuntimeKind::Cuda, 1024, 32), (RuntimeKind::Vulkan, 1024, 8)]
        {
            let limits = Limits { max_units_per_cube, plane_size, shared_memory: 32768 };
            let device = DeviceId { runtime, limits, ..host.device().clone() };
            let target = Target::of(runtime);
            for order in 0..=2 {
                for reduction in force_scatter::Reduction::ALL {
                    let variant = force_scatter::Variant { reduction };
                    let space = scatters.get(target, Part::Scatter(reduction), order);
                    let space = space.unwrap_or_else(|e| panic!("{e}"));
                    let default = ff_kernels::force_scatter::default_config(&device, &variant, Dtype::F32, &sizes);
                    assert_eq!(space.defaults(), &default, "of {runtime} and {reduction:?}");
                    for config in space.enumerate(&device, &sizes, Dtype::F32).unwrap_or_else(|e| panic!("{e}")) {
                        let taken = match runtime {
                            RuntimeKind::Host => ff_kernels::force_scatter::host_config(&config).map(|_| ()),
                            _ => ff_kernels::force_scatter::cube_config(&limits, &config).map(|_| ()),
                        };
                        assert_eq!(taken, Ok(()), "{config} on {runtime}");
                    }
                }
                for name in ["painn_linear_receiver", "painn_linear_edge_atomic"] {
                    let variant = variants::representative(name).unwrap_or_else(|e| panic!("{}", e.message));
                    let space = messages.get(target, Part::Reduction(variant.reduction), order);
                    let space = space.unwrap_or_else(|e| panic!("{e}"));
                    let default = match order {
                        0 => ff_kernels::fused_message::default_config(&device, &variant, Dtype::F32, &sizes),
                        _ => ff_kernels::fused_message::default_backward_config(
                            &device,
                            &variant,
                            order,
                            Dtype::F32,
                            &sizes,
                        ),
                    };
                    assert_eq!(space.defaults(), &default, "of {runtime}, {name} and order {order}");
                    let configs = space.enumerate(&device, &sizes, Dtype::F32).unwrap_or_else(|e| panic!("{e}"));
                    assert!(configs.contains(&default), "{default} on {runtime} in order {order}");
                    if runtime == RuntimeKind::Host {
                        for config in configs {
                            let taken = ff_kernels::fused_message::host_config(&config).map(|_| ());
                            assert_eq!(taken, Ok(()), "{config}");
                        }
                    }
                }
            }
        }
    }
}
