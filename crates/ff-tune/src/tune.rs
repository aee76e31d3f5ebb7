//! The search over one device: gate, time, gate again, record, and rewrite the table after every problem.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use ff_spec::{
    Dtype, FusedMessage, Launch, LaunchConfig, LaunchError, Op, Prepare, Problem, SCHEMA_VERSION, TuneKey, kernel_name,
};
use ff_tables::{Entry, EntryFields, Evidence, Pass, Table, TableError, Tie, Versions, gate_tolerance};
use serde::Serialize;

use crate::choice::{Candidate, choose};
use crate::compare::block_medians;
use crate::drift::Drift;
use crate::measure::{self, Contender, Fate, Limits, Policy, Timing};
use crate::op::Tuned;
use crate::points::Points;
use crate::records::{Record, RecordError, RecordWriter, Stage, Verdict, identity};
use crate::shard::Shard;
use crate::space::{Explanation, SpaceError, Spaces, Target};
use crate::strategy::{StrategyKind, prefilter};
use crate::trials::Trials;
use crate::verify::{Refusal, Verifier, guarded};

/// The part of a problem's time that goes to screening; the rest is for the finals.
const SCREEN_SHARE: f64 = 0.7;

/// One variant on one problem in one dtype.
pub struct Task<'a, O: Op = FusedMessage> {
    /// The variant.
    pub variant: O::Variant,
    /// Hash of its kernel source, as rendered.
    pub kernel_hash: String,
    /// Element type.
    pub dtype: Dtype,
    /// Name of the problem.
    pub problem: String,
    /// Makes the tensors. They are made when the task begins and dropped when it ends: large problems need not all be in
    /// memory at once.
    pub inputs: Box<dyn Fn() -> O::Inputs + 'a>,
}

/// When a search ends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Budget {
    /// When every configuration has been tried.
    Exhaustive,
    /// After this many configurations of each task, the default among them.
    Evaluations(usize),
    /// After this time, shared evenly among the tasks that are left. The default is always measured.
    Time(Duration),
}

/// What to tune and where to put it.
pub struct Request<'a, O: Op = FusedMessage> {
    /// The spaces of the op.
    pub spaces: &'a Spaces,
    /// In the order in which they are done.
    pub tasks: Vec<Task<'a, O>>,
    /// When to end.
    pub budget: Budget,
    /// How to measure.
    pub policy: Policy,
    /// In which order configurations are tried; `None` for all of them in a random one, until the budget ends.
    pub strategy: Option<StrategyKind>,
    /// An estimated cost of a configuration, in any unit.
    pub estimate: Option<&'a EstimateFn<'a, O>>,
    /// The share of the space that is tried at all, by the estimate; 1 for all of it.
    pub keep: f64,
    /// The share of every space that is tried; what tables hold besides is not.
    pub shard: Option<Shard>,
    /// Seed of the order in which configurations are tried.
    pub seed: u64,
    /// Whether what stands in the records under the same identity is taken from there.
    pub resume: bool,
    /// The folder that holds `<device-slug>/<op>.json`.
    pub tables: PathBuf,
    /// For the table.
    pub versions: Versions,
    /// For the table.
    pub template_hash: String,
    /// For the records: what compiles the kernels.
    pub compiler: String,
}

/// A measured composition of separate operations that computes the same.
#[derive(Clone, Debug, PartialEq)]
pub struct Baseline {
    /// Its samples, ns.
    pub samples_ns: Vec<u64>,
    /// Its error against the oracle. A ratio to a wrong result is not stated.
    pub rel_error: f64,
}

/// Times the unfused composition on the same runtime; `None` where there is none.
pub type BaselineFn<'a, O = FusedMessage> =
    dyn Fn(&<O as Op>::Variant, Dtype, &<O as Op>::Inputs) -> Option<Baseline> + 'a;

/// Estimates the cost of a configuration on a problem, in any unit; `None` where nothing is known of it. The tuner knows no
/// kernels: who asks for a search knows what a configuration may cost.
pub type EstimateFn<'a, O = FusedMessage> =
    dyn Fn(&<O as Op>::Variant, Dtype, &Problem, &LaunchConfig) -> Option<f64> + 'a;

/// What happens, for whoever shows it.
#[derive(Debug)]
pub enum Event<'a> {
    /// Something that a reader of the log should know.
    Note(String),
    /// A task begins.
    Begin {
        /// Index of the task.
        index: usize,
        /// Number of tasks.
        total: usize,
        /// Id of its variant, with what [`kernel_name`] adds for its order.
        variant: &'a str,
        /// Its dtype.
        dtype: Dtype,
        /// Its problem.
        problem: &'a Problem,
        /// Configurations that will be tried, the default among them.
        configs: usize,
        /// What the constraints removed; `None` where the space is empty.
        space: Option<&'a Explanation>,
    },
    /// A configuration is done.
    Measured {
        /// How many are done.
        done: usize,
        /// Of how many.
        total: usize,
        /// The configuration.
        config: &'a LaunchConfig,
        /// What came of it.
        verdict: Verdict,
        /// Why.
        reason: Option<&'a str>,
        /// What it cost.
        timing: Option<Timing>,
        /// The best median so far, ns.
        best_ns: Option<f64>,
    },
    /// The finals begin.
    Finals {
        /// How many configurations take part.
        configs: usize,
    },
    /// A task has ended; its table entry, if any, is on disk.
    End(&'a ProblemOutcome),
}

/// A configuration that passed the gate before and after it was timed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Scored {
    /// The configuration.
    pub config: LaunchConfig,
    /// What it cost.
    pub timing: Timing,
    /// Its numerical pass.
    pub pass: Pass,
}

/// What came of one task.
#[derive(Clone, Debug, Serialize)]
pub struct ProblemOutcome {
    /// The op.
    pub op: &'static str,
    /// Id of the variant.
    pub variant: String,
    /// The derivative order.
    pub order: u8,
    /// Its family, which tables are keyed by.
    pub family: String,
    /// Element type.
    pub dtype: Dtype,
    /// The problem.
    pub problem: Problem,
    /// The default configuration, where it passed.
    pub default: Option<Scored>,
    /// The chosen one: the lowest median, or the default where that ties with it.
    pub best: Option<Scored>,
    /// Configurations that tie with the chosen one.
    pub ties: Vec<Scored>,
    /// The unfused composition, where it was measured and right.
    pub unfused: Option<Timing>,
    /// Configurations by verdict.
    pub counts: BTreeMap<Verdict, usize>,
    /// How many of them were taken from earlier records.
    pub reused: usize,
    /// What the constraints removed.
    pub space: Option<Explanation>,
    /// What kept this task from being done in full: unsupported, an empty space, a stop.
    pub notes: Vec<String>,
}

impl ProblemOutcome {
    /// How many times faster the chosen configuration is than the default.
    pub fn ratio(&self) -> Option<f64> {
        Some(self.default.as_ref()?.timing.median_ns / self.best.as_ref()?.timing.median_ns)
    }

    /// How many times faster the chosen configuration is than the unfused composition.
    pub fn unfused_ratio(&self) -> Option<f64> {
        Some(self.unfused?.median_ns / self.best.as_ref()?.timing.median_ns)
    }
}

/// What came of a run, or of several of them.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Outcome {
    /// Each task that was begun.
    pub problems: Vec<ProblemOutcome>,
    /// Whether the stop flag ended the run.
    pub stopped: bool,
    /// Where the tables are, where there are any.
    pub tables: Vec<PathBuf>,
}

impl Outcome {
    /// Adds what came of another op.
    pub fn extend(&mut self, other: Outcome) {
        self.problems.extend(other.problems);
        self.stopped |= other.stopped;
        self.tables.extend(other.tables);
    }
}

/// What ends a run. What was recorded and written before it is kept.
#[derive(Debug, thiserror::Error)]
pub enum TuneError {
    /// Nothing to do.
    #[error("no variant, dtype and problem to tune, expected at least one")]
    NoTasks,
    /// A strategy that goes by estimates, without any.
    #[error("strategy `{0}` goes by the estimated cost of configurations, and there is no estimate")]
    NoEstimate(StrategyKind),
    /// The tables cannot go there. Nothing was measured.
    #[error("cannot write tuning tables to {}: {source}", path.display())]
    Output {
        /// The folder.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A table cannot be read or written.
    #[error(transparent)]
    Table(#[from] TableError),
    /// A record cannot be written.
    #[error(transparent)]
    Records(#[from] RecordError),
    /// The space has no place for a task, or a constraint has no value.
    #[error(transparent)]
    Space(#[from] SpaceError),
}

/// Tunes every task in turn.
///
/// For each: the default configuration first, then what the strategy asks for (what the table holds for this problem goes
/// before it), screened in batches beside the default; the best are then measured again beside it. A
/// configuration is gated before it is timed and again after; one that fails costs its own row. The table is replaced
/// after each task. Raising `stop` ends the run between two launches and keeps what was measured.
///
/// # Errors
/// [`TuneError`]: what can be known beforehand (output, spaces, an unreadable table) before anything is measured.
pub fn tune<O: Tuned>(
    runtime: &dyn Prepare<O>,
    request: &Request<'_, O>,
    verifier: &mut dyn Verifier<O>,
    baseline: Option<&BaselineFn<'_, O>>,
    records: &mut RecordWriter,
    on_event: &mut dyn FnMut(Event<'_>),
    stop: &AtomicBool,
) -> Result<Outcome, TuneError> {
    if request.tasks.is_empty() {
        return Err(TuneError::NoTasks);
    }
    if let (Some(StrategyKind::CostModel), None) = (request.strategy, request.estimate) {
        return Err(TuneError::NoEstimate(StrategyKind::CostModel));
    }
    let device = runtime.device();
    request.spaces.expect(O::NAME)?;
    for task in &request.tasks {
        request.spaces.get(Target::of(device.runtime), O::part(&task.variant), O::ORDER)?;
    }
    let path = Table::path(&request.tables, &device.slug, O::NAME);
    let folder = request.tables.join(&device.slug);
    ff_tables::fs::ensure_writable(&folder).map_err(|source| TuneError::Output { path: folder.clone(), source })?;
    if let Some(torn) = records.torn() {
        on_event(Event::Note(format!("{}: {torn}", records.path().display())));
    }
    if device.software {
        on_event(Event::Note(format!(
            "{} is a software adapter: its timings are kept as such and never used on hardware",
            device.name
        )));
    }
    let table = open_table(runtime, request, &path, on_event)?;
    let reuse = if request.resume { index(records.existing()) } else { HashMap::new() };
    let mut search =
        Search { runtime, request, verifier, baseline, records, on_event, stop, table, reuse, gated: BTreeMap::new() };
    let end = match request.budget {
        Budget::Time(time) => Some(Instant::now() + time),
        Budget::Exhaustive | Budget::Evaluations(_) => None,
    };
    let mut outcome = Outcome::default();
    for (index, task) in request.tasks.iter().enumerate() {
        if search.stopped() {
            break;
        }
        let share = end.map(|end| {
            let left = u32::try_from(request.tasks.len() - index).unwrap_or(u32::MAX);
            end.saturating_duration_since(Instant::now()) / left
        });
        let (problem, entry) = search.task(index, task, share)?;
        if let Some(entry) = entry {
            search.table.insert(entry);
            search.table.save(&path)?;
        }
        search.records.sync()?;
        (search.on_event)(Event::End(&problem));
        outcome.problems.push(problem);
    }
    outcome.stopped = search.stopped();
    outcome.tables.extend(path.is_file().then_some(path));
    Ok(outcome)
}

/// The table to go on with: the one on disk where it is for these templates and this kind of device, else a new one.
fn open_table<O: Tuned>(
    runtime: &dyn Prepare<O>,
    request: &Request<'_, O>,
    path: &Path,
    on_event: &mut dyn FnMut(Event<'_>),
) -> Result<Table, TuneError> {
    let device = runtime.device();
    let mut new = Table::new(O::NAME, device.clone(), request.versions.clone(), &request.template_hash);
    if !path.exists() {
        return Ok(new);
    }
    let old = Table::load(path)?;
    // Entries carry their own driver; table-wide fields say what the latest run had.
    match new.merge(old) {
        Ok(_) => {}
        Err(error) => {
            on_event(Event::Note(format!("{} will be replaced with the first new entry: {error}", path.display())))
        }
    }
    Ok(new)
}

/// The latest screening and the latest final record of each identity.
fn index(records: &[Record]) -> HashMap<(String, Stage), Record> {
    records.iter().map(|r| ((r.identity(), r.stage), r.clone())).collect()
}

/// A configuration that cannot be timed further, with its verdict.
struct Failure {
    verdict: Verdict,
    reason: String,
    evidence: Option<Evidence>,
    /// True where no configuration of this variant can do better.
    hopeless: bool,
}

impl From<LaunchError> for Failure {
    fn from(error: LaunchError) -> Self {
        let (verdict, hopeless) = match &error {
            LaunchError::Unsupported(_)
            | LaunchError::UnknownVariant(_)
            | LaunchError::Input(_)
            | LaunchError::CellList(_)
            | LaunchError::ForceScatter(_) => (Verdict::Constraint, true),
            LaunchError::Constraint(_) => (Verdict::Constraint, false),
            LaunchError::Compile(_) => (Verdict::Compile, false),
            LaunchError::Runtime(_) => (Verdict::Runtime, false),
        };
        Self { verdict, reason: error.to_string(), evidence: None, hopeless }
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Fault(error) => error.into(),
            Refusal::Wrong { reason, evidence } => {
                Self { verdict: Verdict::Correctness, reason, evidence, hopeless: false }
            }
        }
    }
}

/// The verdict on what the gate measured, derived here and not taken from the verifier.
fn judged<O: Op>(task: &Task<'_, O>, evidence: Evidence) -> Result<Pass, Failure> {
    Pass::record(task.dtype, O::ORDER, evidence.clone(), &task.kernel_hash, unix_time()).map_err(|error| Failure {
        verdict: Verdict::Correctness,
        reason: error.to_string(),
        evidence: Some(evidence),
        hopeless: false,
    })
}

fn unix_time() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

/// What a record says beside what it is about.
struct Line {
    stage: Stage,
    samples: Samples,
    verdict: Verdict,
    reason: Option<String>,
    evidence: Option<Evidence>,
}

/// Samples in the order in which they were taken, and how many each round has.
#[derive(Clone, Debug, Default)]
struct Samples {
    ns: Vec<u64>,
    blocks: Vec<u32>,
}

impl Samples {
    /// What a contender came to.
    fn of<O: Op>(contender: Contender<'_, O>) -> (Fate, Self) {
        (contender.fate, Self { ns: contender.samples_ns, blocks: contender.blocks })
    }
}

impl Line {
    fn correct(stage: Stage, samples: Samples, evidence: Option<Evidence>) -> Self {
        Self { stage, samples, verdict: Verdict::Correct, reason: None, evidence }
    }
}

/// A gated launch on the device.
struct Prepared<O: Op> {
    config: LaunchConfig,
    launch: Box<dyn Launch<O>>,
    evidence: Evidence,
}

/// What a task has come to so far.
struct Progress<'t, O: Tuned> {
    task: &'t Task<'t, O>,
    inputs: O::Inputs,
    problem: Problem,
    default: LaunchConfig,
    trials: Trials,
    done: usize,
    total: usize,
    counts: BTreeMap<Verdict, usize>,
    reused: usize,
    screened: Vec<Scored>,
    drift: Drift,
    notes: Vec<String>,
    /// Whether the verifier knows this problem, once it has been asked.
    announced: Option<bool>,
}

impl<O: Tuned> Progress<'_, O> {
    /// The best median so far, as if all had been measured when the default was first.
    fn best_ns(&self) -> Option<f64> {
        self.screened.iter().map(|s| self.drift.corrected(&s.config, s.timing.median_ns)).reduce(f64::min)
    }

    /// How many may be measured beside the default: as many as are wanted and as the tensors leave room for.
    fn rivals(&self, wanted: usize, policy: &Policy) -> usize {
        let each = O::launch_bytes(&self.inputs, self.task.dtype).max(1);
        let room = usize::try_from(policy.memory / each).unwrap_or(usize::MAX);
        wanted.min(room.saturating_sub(1)).max(1)
    }
}

struct Search<'a, O: Tuned> {
    runtime: &'a dyn Prepare<O>,
    request: &'a Request<'a, O>,
    verifier: &'a mut dyn Verifier<O>,
    baseline: Option<&'a BaselineFn<'a, O>>,
    records: &'a mut RecordWriter,
    on_event: &'a mut dyn FnMut(Event<'_>),
    stop: &'a AtomicBool,
    table: Table,
    reuse: HashMap<(String, Stage), Record>,
    /// What passed on the catalogue's cases, which do not depend on the problem.
    gated: BTreeMap<(O::Variant, Dtype, LaunchConfig), Evidence>,
}

impl<O: Tuned> Search<'_, O> {
    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn task(
        &mut self,
        index: usize,
        task: &Task<'_, O>,
        share: Option<Duration>,
    ) -> Result<(ProblemOutcome, Option<Entry>), TuneError> {
        let begin = Instant::now();
        let inputs = (task.inputs)();
        let problem = O::sizes(&task.problem, &inputs);
        let key = TuneKey::of::<O>(&task.variant, task.dtype, &problem);
        let default = self.runtime.default_config(&task.variant, task.dtype, &problem);
        let mut notes = Vec::new();
        let target = Target::of(self.runtime.device().runtime);
        let space = self.request.spaces.get(target, O::part(&task.variant), O::ORDER)?;
        let (points, explanation) = space.open(self.runtime.device(), &problem, task.dtype)?;
        if points.is_empty() {
            // Said, not fatal: the default is still gated and timed, and other problems may have more room.
            notes.push(space.empty(self.runtime.device(), &problem, task.dtype)?.to_string());
        }
        // What an earlier run chose competes again, so a short run cannot lose what a long one found.
        let known = self.table.get(&key).map(|e| e.config.clone());
        let trials = self.trials(index, task, &problem, points, known, &default, &mut notes)?;
        let total = trials.left() + 1;
        (self.on_event)(Event::Begin {
            index,
            total: self.request.tasks.len(),
            variant: &kernel_name(&task.variant.to_string(), O::ORDER),
            dtype: task.dtype,
            problem: &problem,
            configs: total,
            space: Some(&explanation).filter(|e| e.kept > 0),
        });
        let mut progress = Progress {
            task,
            inputs,
            problem,
            default,
            trials,
            done: 0,
            total,
            counts: BTreeMap::new(),
            reused: 0,
            screened: Vec::new(),
            drift: Drift::default(),
            notes,
            announced: None,
        };
        let screen_end = share.map(|s| begin + s.mul_f64(SCREEN_SHARE));
        let end = share.map(|s| begin + s);

        let mut unfused = None;
        let mut finals = Vec::new();
        if self.screen(&mut progress, screen_end)? {
            finals = self.finals(&mut progress, end)?;
            if !self.stopped() && !progress.screened.is_empty() {
                unfused = self.unfused(&mut progress);
            }
        }
        if self.stopped() {
            progress.notes.push(format!("stopped after {} of {} configurations", progress.done, progress.total));
        }
        Ok(self.conclude(progress, finals, unfused, explanation, key))
    }

    /// What of the space is tried, within the budget.
    #[allow(clippy::too_many_arguments, reason = "what a task has found out so far, once")]
    fn trials(
        &self,
        index: usize,
        task: &Task<'_, O>,
        problem: &Problem,
        mut points: Points,
        first: Option<LaunchConfig>,
        default: &LaunchConfig,
        notes: &mut Vec<String>,
    ) -> Result<Trials, TuneError> {
        let Request { strategy, estimate, keep, shard, seed, budget, .. } = self.request;
        let mut first = first;
        if let Some(shard) = shard {
            points.retain(&shard.of_points(points.len()));
            first = first.filter(|config| points.position(config).is_some());
        }
        let cost = |estimate: &EstimateFn<'_, O>, points: &Points| -> Vec<Option<f64>> {
            points.iter().map(|config| estimate(&task.variant, task.dtype, problem, &config)).collect()
        };
        let mut costs = estimate.map(|estimate| cost(estimate, &points));
        if let Some(costs) = costs.as_mut().filter(|_| *keep < 1.0) {
            let kept = prefilter(&points, costs, *keep);
            let all = points.len();
            points.retain(&kept);
            let mut kept = kept.into_iter();
            costs.retain(|_| kept.next() == Some(true));
            notes.push(format!("{} of {all} configurations were left out by their estimated cost", all - points.len()));
        }
        let kind = strategy.unwrap_or(match budget {
            Budget::Exhaustive => StrategyKind::BruteForce,
            Budget::Evaluations(_) | Budget::Time(_) => StrategyKind::Random,
        });
        let search = kind.start(&points, seed ^ index as u64, costs.as_deref()).ok_or(TuneError::NoEstimate(kind))?;
        let most = if let Budget::Evaluations(n) = budget { n.saturating_sub(1) } else { usize::MAX };
        Ok(Trials::new(points, search, first, default.clone(), most))
    }

    /// Tells the verifier about the problem, once and only when something is to be measured: a reference costs time.
    fn announce(&mut self, progress: &mut Progress<'_, O>) -> bool {
        if let Some(announced) = progress.announced {
            return announced;
        }
        let announced = guarded(|| {
            let announced = self.verifier.begin(&progress.task.variant, progress.task.dtype, &progress.inputs);
            announced.map_err(|reason| Refusal::Wrong { reason, evidence: None })
        });
        progress.announced = Some(announced.is_ok());
        if let Err(refusal) = announced {
            progress.notes.push(format!("no reference to check against: {}", Failure::from(refusal).reason));
        }
        progress.announced == Some(true)
    }

    /// A first look at every configuration. False where the variant cannot run here at all.
    fn screen(&mut self, progress: &mut Progress<'_, O>, end: Option<Instant>) -> Result<bool, TuneError> {
        let default = progress.default.clone();
        let mut anchor = None;
        if !self.reuse_screened(progress, &default) {
            if !self.announce(progress) {
                return Ok(false);
            }
            match self.prepare(progress, &default) {
                Ok(prepared) => {
                    let mut batch = vec![prepared];
                    self.measure(progress, None, &mut batch, end)?;
                    anchor = batch.pop();
                }
                Err(failure) if failure.hopeless => {
                    progress.notes.push(failure.reason);
                    return Ok(false);
                }
                Err(failure) => self.fail(progress, &default, Stage::Screen, Samples::default(), failure)?,
            }
        }
        let default_passed = progress.screened.iter().any(|s| s.config == default);
        anchor = anchor.filter(|_| default_passed);
        let mut more = true;
        while more {
            let mut batch: Vec<Prepared<O>> = Vec::new();
            let room = progress.rivals(self.request.policy.batch, &self.request.policy);
            while batch.len() < room {
                let late = end.is_some_and(|end| Instant::now() >= end);
                let next = if late || self.stopped() { None } else { progress.trials.next(room - batch.len()) };
                let Some(config) = next else {
                    // A strategy may want to know of this batch before it asks for another.
                    more = !batch.is_empty();
                    break;
                };
                if self.reuse_screened(progress, &config) {
                    continue;
                }
                if !self.announce(progress) {
                    return Ok(false);
                }
                if anchor.is_none() && default_passed {
                    // The default came from the records; now there is something to time beside it.
                    anchor = self.prepare(progress, &default).ok();
                }
                match self.prepare(progress, &config) {
                    Ok(prepared) => batch.push(prepared),
                    Err(failure) => self.fail(progress, &config, Stage::Screen, Samples::default(), failure)?,
                }
            }
            if !batch.is_empty() {
                self.measure(progress, anchor.as_mut(), &mut batch, end)?;
            }
        }
        Ok(true)
    }

    /// Times a batch beside the anchor, gates it again and records it.
    fn measure(
        &mut self,
        progress: &mut Progress<'_, O>,
        anchor: Option<&mut Prepared<O>>,
        batch: &mut [Prepared<O>],
        deadline: Option<Instant>,
    ) -> Result<(), TuneError> {
        // Without any median yet, the batch itself is the measure.
        let best_ns = progress.best_ns().unwrap_or(f64::INFINITY);
        let mark = measure::Mark { best_ns, anchor_ns: progress.drift.reference_ns() };
        let anchored = anchor.is_some();
        let mut fates: Vec<(Fate, Samples)> = {
            let mut contenders: Vec<Contender<'_, O>> = anchor
                .into_iter()
                .chain(batch.iter_mut())
                .map(|p| Contender::new(p.launch.as_mut(), p.config == progress.default))
                .collect();
            let (stop, policy) = (|| self.stopped(), &self.request.policy);
            measure::screen(&mut contenders, mark, policy, &Limits { stop: &stop, deadline });
            contenders.into_iter().map(Samples::of).collect()
        };
        let anchor_samples = anchored.then(|| fates.remove(0));
        if let Some((Fate::Standing, samples)) = anchor_samples.filter(|(_, s)| !s.ns.is_empty()) {
            let config = progress.default.clone();
            if let Some(timing) = Timing::of(&samples.ns) {
                progress.drift.anchor(timing.median_ns, batch.iter().map(|p| p.config.clone()));
            }
            self.record(progress, &config, Line::correct(Stage::Anchor, samples, None))?;
        }
        for (prepared, (fate, samples)) in batch.iter_mut().zip(fates) {
            if let Some(scored) = self.judge(progress, prepared, Stage::Screen, fate, samples)? {
                if scored.config == progress.default {
                    progress.drift.begin(scored.timing.median_ns);
                }
                progress.screened.push(scored);
            }
        }
        Ok(())
    }

    /// The verdict after timing: gates again what still stands, and records. `None` where nothing can be said yet.
    fn judge(
        &mut self,
        progress: &mut Progress<'_, O>,
        prepared: &mut Prepared<O>,
        stage: Stage,
        fate: Fate,
        samples: Samples,
    ) -> Result<Option<Scored>, TuneError> {
        let evidence = Some(prepared.evidence.clone());
        let failure = match fate {
            Fate::Eliminated(reason) => Failure { verdict: Verdict::Eliminated, reason, evidence, hopeless: false },
            Fate::TimedOut(reason) => Failure { verdict: Verdict::Timeout, reason, evidence, hopeless: false },
            Fate::Failed(error) => error.into(),
            // Stopped too early to say anything: not recorded, so that a resumed run measures it.
            Fate::Standing if samples.ns.len() < self.request.policy.min_rounds.max(1) as usize => return Ok(None),
            Fate::Standing => match self.pass(progress, prepared, &samples.ns) {
                Ok(scored) => {
                    let line = Line::correct(stage, samples, Some(scored.pass.evidence().clone()));
                    self.record(progress, &scored.config, line)?;
                    if stage == Stage::Screen {
                        let timing = scored.timing;
                        let corrected = progress.drift.corrected(&scored.config, timing.median_ns);
                        let best = progress.best_ns().unwrap_or(f64::INFINITY).min(corrected);
                        self.count(progress, &scored.config, Verdict::Correct, None, Some(timing), Some(best));
                    }
                    return Ok(Some(scored));
                }
                Err(failure) => failure,
            },
        };
        self.fail(progress, &prepared.config, stage, samples, failure)?;
        Ok(None)
    }

    /// Gates what was timed once more and judges all errors measured on it.
    fn pass(
        &mut self,
        progress: &Progress<'_, O>,
        prepared: &mut Prepared<O>,
        samples: &[u64],
    ) -> Result<Scored, Failure> {
        let again = guarded(|| self.verifier.recheck(prepared.launch.as_mut())).map_err(|refusal| {
            let failure = Failure::from(refusal);
            Failure { reason: format!("after timing: {}", failure.reason), ..failure }
        })?;
        let evidence = prepared.evidence.and(&again);
        let pass = judged(progress.task, evidence)?;
        let Some(timing) = Timing::of(samples) else {
            return Err(LaunchError::Runtime("no samples".to_owned()).into());
        };
        Ok(Scored { config: prepared.config.clone(), timing, pass })
    }

    /// Measures the best of the screening again, beside the default, with more samples.
    fn finals(
        &mut self,
        progress: &mut Progress<'_, O>,
        deadline: Option<Instant>,
    ) -> Result<Vec<Candidate>, TuneError> {
        let mut order: Vec<Scored> = progress.screened.clone();
        // Batches are compared as if the machine had been as fast as when the default was first measured.
        let corrected = |s: &Scored| progress.drift.corrected(&s.config, s.timing.median_ns);
        order.sort_by(|a, b| corrected(a).total_cmp(&corrected(b)));
        let default = order.iter().position(|s| s.config == progress.default).map(|i| order.remove(i));
        order.truncate(progress.rivals(self.request.policy.finalists, &self.request.policy));
        order.splice(0..0, default);
        if self.stopped() || order.len() < 2 {
            return Ok(Vec::new());
        }
        let reused: Vec<Candidate> = order.iter().filter_map(|s| self.reusable_final(progress, &s.config)).collect();
        if reused.len() == order.len() {
            return Ok(reused);
        }
        if !self.announce(progress) {
            return Ok(Vec::new());
        }
        (self.on_event)(Event::Finals { configs: order.len() });
        let mut finalists = Vec::new();
        for scored in order {
            match self.prepare(progress, &scored.config) {
                Ok(prepared) => finalists.push(prepared),
                Err(failure) => self.fail(progress, &scored.config, Stage::Final, Samples::default(), failure)?,
            }
        }
        let fates: Vec<(Fate, Samples)> = {
            let mut contenders: Vec<Contender<'_, O>> =
                finalists.iter_mut().map(|p| Contender::new(p.launch.as_mut(), p.config == progress.default)).collect();
            let (stop, policy) = (|| self.stopped(), &self.request.policy);
            measure::finals(&mut contenders, policy, &Limits { stop: &stop, deadline });
            contenders.into_iter().map(Samples::of).collect()
        };
        // Too few samples to replace those of the screening.
        let least = self.request.policy.min_rounds as usize;
        if fates.iter().any(|(fate, samples)| *fate == Fate::Standing && samples.ns.len() < least) {
            return Ok(Vec::new());
        }
        let mut candidates: Vec<Candidate> = Vec::new();
        for (prepared, (fate, samples)) in finalists.iter_mut().zip(fates) {
            let blocks = block_medians(&samples.ns, &samples.blocks);
            let scored = self.judge(progress, prepared, Stage::Final, fate, samples)?;
            candidates.extend(scored.map(|scored| Candidate { scored, blocks }));
        }
        // A finalist that failed now is no candidate any more, whatever it was before.
        progress.screened.retain(|s| {
            candidates.iter().any(|k| k.scored.config == s.config) || finalists.iter().all(|p| p.config != s.config)
        });
        Ok(candidates)
    }

    fn unfused(&mut self, progress: &mut Progress<'_, O>) -> Option<Timing> {
        let (baseline, task) = (self.baseline?, progress.task);
        let measured = guarded(|| Ok::<_, LaunchError>(baseline(&task.variant, task.dtype, &progress.inputs)));
        let baseline = match measured {
            Ok(measured) => measured?,
            Err(error) => {
                progress.notes.push(format!("unfused composition: {error}"));
                return None;
            }
        };
        let allowed = gate_tolerance(task.dtype, O::ORDER);
        if !(0.0..=allowed).contains(&baseline.rel_error) {
            let found = baseline.rel_error;
            progress.notes.push(format!("unfused composition: relative error {found:e}, expected at most {allowed:e}"));
            return None;
        }
        Timing::of(&baseline.samples_ns)
    }

    /// Prepares a configuration on the problem and gates it there and on the catalogue's cases.
    fn prepare(&mut self, progress: &Progress<'_, O>, config: &LaunchConfig) -> Result<Prepared<O>, Failure> {
        let Task { variant, dtype, .. } = progress.task;
        let mut launch = guarded(|| self.runtime.prepare(variant, *dtype, &progress.inputs, config))?;
        // The problem first: a kernel that does not compile or run says so there, and not as a failed case.
        let problem = guarded(|| self.verifier.recheck(launch.as_mut()))?;
        let gated = (variant.clone(), *dtype, config.clone());
        let catalogue = match self.gated.get(&gated) {
            Some(evidence) => evidence.clone(),
            None => {
                let evidence = guarded(|| self.verifier.check(self.runtime, variant, *dtype, config))?;
                self.gated.insert(gated, evidence.clone());
                evidence
            }
        };
        let evidence = catalogue.and(&problem);
        judged(progress.task, evidence.clone())?;
        Ok(Prepared { config: config.clone(), launch, evidence })
    }

    /// What the records hold of a configuration, where it passed.
    fn reusable(&self, progress: &Progress<'_, O>, config: &LaunchConfig, stage: Stage) -> Option<Scored> {
        let record = self.recorded(progress, config, stage).filter(|r| r.verdict == Verdict::Correct)?;
        let evidence = record.evidence.clone()?;
        let pass = Pass::record(record.dtype, O::ORDER, evidence, &record.kernel_hash, record.unix_time).ok()?;
        Some(Scored { config: config.clone(), timing: Timing::of(&record.samples_ns)?, pass })
    }

    /// As [`Search::reusable`], with the rounds that finals are decided by.
    fn reusable_final(&self, progress: &Progress<'_, O>, config: &LaunchConfig) -> Option<Candidate> {
        let scored = self.reusable(progress, config, Stage::Final)?;
        let record = self.recorded(progress, config, Stage::Final)?;
        Some(Candidate { scored, blocks: block_medians(&record.samples_ns, &record.blocks) })
    }

    fn recorded(&self, progress: &Progress<'_, O>, config: &LaunchConfig, stage: Stage) -> Option<&Record> {
        let Task { variant, kernel_hash, dtype, .. } = progress.task;
        let (device, compiler) = (self.runtime.device(), &self.request.compiler);
        let variant = variant.to_string();
        let of = (variant.as_str(), O::ORDER);
        let identity = identity(kernel_hash, of, config, &progress.problem, *dtype, device, compiler);
        self.reuse.get(&(identity, stage))
    }

    /// Takes a configuration from the records where its screening stands there, whatever came of it.
    fn reuse_screened(&mut self, progress: &mut Progress<'_, O>, config: &LaunchConfig) -> bool {
        let Some(record) = self.recorded(progress, config, Stage::Screen) else { return false };
        let (verdict, reason) = (record.verdict, record.reason.clone());
        let scored = self.reusable(progress, config, Stage::Screen);
        if verdict == Verdict::Correct && scored.is_none() {
            return false;
        }
        let timing = scored.as_ref().map(|s| s.timing);
        progress.screened.extend(scored);
        progress.reused += 1;
        let best = progress.best_ns();
        self.count(progress, config, verdict, reason.as_deref(), timing, best);
        true
    }

    fn fail(
        &mut self,
        progress: &mut Progress<'_, O>,
        config: &LaunchConfig,
        stage: Stage,
        samples: Samples,
        failure: Failure,
    ) -> Result<(), TuneError> {
        let Failure { verdict, reason, evidence, .. } = failure;
        let timing = Timing::of(&samples.ns);
        let line = Line { stage, samples, verdict, reason: Some(reason.clone()), evidence };
        self.record(progress, config, line)?;
        if stage == Stage::Final {
            // It was counted as correct in the screening.
            if let Some(n) = progress.counts.get_mut(&Verdict::Correct) {
                *n -= 1;
            }
            *progress.counts.entry(verdict).or_default() += 1;
            progress.notes.push(format!("finalist {config} failed ({verdict}): {reason}"));
        } else {
            let best = progress.best_ns();
            self.count(progress, config, verdict, Some(&reason), timing, best);
        }
        Ok(())
    }

    fn count(
        &mut self,
        progress: &mut Progress<'_, O>,
        config: &LaunchConfig,
        verdict: Verdict,
        reason: Option<&str>,
        timing: Option<Timing>,
        best_ns: Option<f64>,
    ) {
        *progress.counts.entry(verdict).or_default() += 1;
        let told = timing.filter(|_| matches!(verdict, Verdict::Correct | Verdict::Eliminated));
        progress.trials.tell(config, told.map(|t| progress.drift.corrected(config, t.median_ns)));
        progress.done += 1;
        let (done, total) = (progress.done, progress.total);
        (self.on_event)(Event::Measured { done, total, config, verdict, reason, timing, best_ns });
    }

    fn record(&mut self, progress: &Progress<'_, O>, config: &LaunchConfig, line: Line) -> Result<(), TuneError> {
        let Line { stage, samples: Samples { ns: samples_ns, blocks }, verdict, reason, evidence } = line;
        let record = Record {
            schema: SCHEMA_VERSION,
            op: O::NAME.to_owned(),
            order: O::ORDER,
            variant: progress.task.variant.to_string(),
            kernel_hash: progress.task.kernel_hash.clone(),
            config: config.clone(),
            problem: progress.problem.clone(),
            dtype: progress.task.dtype,
            device: self.runtime.device().clone(),
            compiler: self.request.compiler.clone(),
            clock: self.runtime.clock(),
            stage,
            samples_ns,
            blocks,
            verdict,
            reason,
            evidence,
            seed: self.request.seed,
            unix_time: unix_time(),
        };
        Ok(self.records.append(&record)?)
    }

    /// Chooses, and makes the entry where it is better than what the table has or the search was complete.
    fn conclude(
        &mut self,
        progress: Progress<'_, O>,
        finals: Vec<Candidate>,
        unfused: Option<Timing>,
        space: Explanation,
        key: TuneKey,
    ) -> (ProblemOutcome, Option<Entry>) {
        let Progress { task, problem, default, counts, reused, screened, drift, mut notes, .. } = progress;
        notes.extend(drift.note());
        let (default, best, ties) = choose(finals, screened, &default, &drift);
        let entry = best.as_ref().and_then(|best| {
            let fields = EntryFields {
                key: key.clone(),
                variant: task.variant.to_string(),
                problem: problem.clone(),
                config: best.config.clone(),
                median_ns: best.timing.median_ns,
                spread_ns: best.timing.spread_ns,
                samples: best.timing.samples,
                clock: self.runtime.clock(),
                driver: self.runtime.device().driver.clone(),
                default_median_ns: default.as_ref().map(|d| d.timing.median_ns),
                unfused_median_ns: unfused.map(|u| u.median_ns),
                ties: ties
                    .iter()
                    .map(|t| Tie {
                        config: t.config.clone(),
                        median_ns: t.timing.median_ns,
                        spread_ns: t.timing.spread_ns,
                    })
                    .collect(),
                pass: best.pass.clone(),
            };
            Entry::new(fields).map_err(|error| notes.push(format!("no table entry: {error}"))).ok()
        });
        // A search that was cut short must not replace what a whole one found, unless it found better.
        let known_ns = self.table.get(&key).map(|e| e.median_ns);
        let entry = entry.filter(|e| !self.stopped() || known_ns.is_none_or(|known| e.median_ns < known));
        let outcome = ProblemOutcome {
            op: O::NAME,
            order: O::ORDER,
            variant: task.variant.to_string(),
            family: O::family(&task.variant),
            dtype: task.dtype,
            problem,
            default,
            best,
            ties,
            unfused,
            counts,
            reused,
            space: Some(space).filter(|e| e.kept > 0),
            notes,
        };
        (outcome, entry)
    }
}
