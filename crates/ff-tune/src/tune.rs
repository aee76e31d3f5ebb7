//! The search over one device: gate, time, gate again, record, and rewrite the table after every problem.

mod book;
mod state;

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use ff_spec::{DeviceId, LaunchConfig, Op, Problem, TuneKey, kernel_name};
use ff_tables::{Entry, Evidence, Pass, PassOf, TABLE_SCHEMA, Table, TableError, gate_tolerance};

use self::state::{Ledger, Line, Prepared, Progress, Samples};
use crate::choice::Candidate;
use crate::compare::block_medians;
use crate::drift::Drift;
use crate::measure::{Mark, Timing};
use crate::op::Tuned;
use crate::outcome::{Event, Note, NoteKind, Outcome, ProblemOutcome, Scored, TuneError};
use crate::points::Points;
use crate::records::{Record, RecordWriter, Stage, Verdict};
use crate::request::{Baseline, Budget, EstimateFn, Request, Task};
use crate::space::Target;
use crate::strategy::{StrategyKind, prefilter};
use crate::times::{Times, ns};
use crate::trials::Trials;
use crate::workbench::{Failure, Opened, Round, Timed, Workbench};

/// The part of a problem's time that goes to screening; the rest is for the finals.
const SCREEN_SHARE: f64 = 0.7;

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
    bench: &mut dyn Workbench,
    request: &Request<'_, O>,
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
    let begin = Instant::now();
    let device = bench.device().clone();
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
    let table = open_table(&*bench, request, &path, on_event)?;
    let reuse = if request.resume { index(records.existing()) } else { HashMap::new() };
    let ledger = Ledger { mark: begin, ..Ledger::default() };
    let mut search = Search { bench, request, records, on_event, stop, table, reuse, ledger };
    let end = match request.budget {
        Budget::Time(time) => Some(begin + time),
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
        let Some((mut problem, entry)) = search.task(index, task, share)? else { continue };
        if let Some(entry) = entry {
            // Its pass is of the workbench's device, which the table is of.
            if let Err(error) = search.table.insert(entry) {
                problem.notes.push(Note::new(NoteKind::NoEntry, format!("no table entry: {error}")));
            } else {
                search.table.save(&path)?;
            }
        }
        search.records.sync()?;
        (search.on_event)(Event::End(&problem));
        outcome.problems.push(problem);
    }
    outcome.stopped = search.stopped();
    outcome.times = search.ledger.spent.filled(begin.elapsed());
    outcome.tables.extend(path.is_file().then_some(path));
    Ok(outcome)
}

/// The table to go on with: the one on disk where it is for these templates and this kind of device, else a new one.
fn open_table<O: Tuned>(
    bench: &dyn Workbench,
    request: &Request<'_, O>,
    path: &Path,
    on_event: &mut dyn FnMut(Event<'_>),
) -> Result<Table, TuneError> {
    let device = bench.device();
    let mut new = Table::new(O::NAME, device.clone(), request.versions.clone(), &request.template_hash);
    if !path.exists() {
        return Ok(new);
    }
    let old = match Table::load(path) {
        Ok(old) => old,
        // No pass in it names its configuration, so there is nothing to keep.
        Err(error @ TableError::Schema { found, .. }) if found < u64::from(TABLE_SCHEMA) => {
            on_event(Event::Note(format!("{error}; it will be replaced with the first new entry")));
            return Ok(new);
        }
        Err(error) => return Err(error.into()),
    };
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

/// The verdict on what the gate measured, derived here and not taken from the verifier.
fn judged<O: Op>(
    task: &Task<'_, O>,
    device: &DeviceId,
    config: &LaunchConfig,
    evidence: Evidence,
) -> Result<Pass, Failure> {
    let Task { kernel_hash, dtype, .. } = task;
    let of = PassOf { device: &device.slug, kernel_hash, config, dtype: *dtype, order: O::ORDER };
    Pass::record(of, evidence.clone(), unix_time()).map_err(|error| Failure {
        verdict: Verdict::Correctness,
        reason: error.to_string(),
        evidence: Some(evidence),
        hopeless: false,
    })
}

fn scored(config: &LaunchConfig, samples: &[u64], pass: Pass) -> Result<Scored, Failure> {
    let timing = Timing::of(samples).ok_or_else(|| Failure::new(Verdict::Runtime, "no samples"))?;
    Ok(Scored { config: config.clone(), timing, pass })
}

/// What is asked of a result before it is timed; it has yet to pass on the catalogue's cases and seeds.
fn bearable<O: Op>(task: &Task<'_, O>, evidence: Evidence) -> Result<Evidence, Failure> {
    let (found, allowed) = (evidence.rel_error, gate_tolerance(task.dtype, O::ORDER));
    if (0.0..=allowed).contains(&found) {
        return Ok(evidence);
    }
    let reason = format!("relative error {found:e} in {}, expected at most {allowed:e}", task.dtype);
    Err(Failure { evidence: Some(evidence), ..Failure::new(Verdict::Correctness, reason) })
}

fn unix_time() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

struct Search<'a, O: Tuned> {
    bench: &'a mut dyn Workbench,
    request: &'a Request<'a, O>,
    records: &'a mut RecordWriter,
    on_event: &'a mut dyn FnMut(Event<'_>),
    stop: &'a AtomicBool,
    table: Table,
    reuse: HashMap<(String, Stage), Record>,
    ledger: Ledger,
}

impl<O: Tuned> Search<'_, O> {
    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// `None` where there is nothing to say but what was said: the tensors could not be made.
    fn task(
        &mut self,
        index: usize,
        task: &Task<'_, O>,
        share: Option<Duration>,
    ) -> Result<Option<(ProblemOutcome, Option<Entry>)>, TuneError> {
        let (begin, before) = (Instant::now(), self.ledger.spent);
        let Opened { problem, default, launch_bytes } = match self.bench.open(index)? {
            Ok(opened) => opened,
            Err(Failure { verdict, reason, .. }) => {
                let (variant, name) = (&task.variant, &task.problem);
                (self.on_event)(Event::Note(format!("{variant} on `{name}` was not begun ({verdict}): {reason}")));
                return Ok(None);
            }
        };
        let key = TuneKey::of::<O>(&task.variant, task.dtype, &problem);
        let mut notes = Vec::new();
        let device = self.bench.device().clone();
        let space = self.request.spaces.get(Target::of(device.runtime), O::part(&task.variant), O::ORDER)?;
        let (points, explanation) = space.open(&device, &problem, task.dtype)?;
        if points.is_empty() {
            // Said, not fatal: the default is still gated and timed, and other problems may have more room.
            let conflict = space.empty(&device, &problem, task.dtype)?.to_string();
            notes.push(Note::new(NoteKind::EmptySpace, conflict));
        }
        let (points, costs) = self.points(task, &problem, points, &mut notes);
        // What an earlier run chose competes again, so a short run cannot lose what a long one found.
        let known = self.table.get(&key).map(|e| e.config.clone());
        let trials = self.trials(index, points, costs.as_deref(), known, &default)?;
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
            problem,
            default,
            launch_bytes,
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
                unfused = self.unfused(&mut progress)?;
            }
        }
        if self.stopped() {
            let text = format!("stopped after {} of {} configurations", progress.done, progress.total);
            progress.notes.push(Note::new(NoteKind::Stopped, text));
        }
        let mut concluded = self.conclude(progress, finals, unfused, explanation, key);
        concluded.0.times = self.ledger.spent.since(before).filled(begin.elapsed());
        Ok(Some(concluded))
    }

    /// What of the space is tried at all, with the estimated costs.
    fn points(
        &self,
        task: &Task<'_, O>,
        problem: &Problem,
        mut points: Points,
        notes: &mut Vec<Note>,
    ) -> (Points, Option<Vec<Option<f64>>>) {
        let Request { estimate, keep, shard, .. } = self.request;
        if let Some(shard) = shard {
            points.retain(&shard.of_points(points.len()));
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
            let text = format!("{} of {all} configurations were left out by their estimated cost", all - points.len());
            notes.push(Note::new(NoteKind::LeftOut, text));
        }
        (points, costs)
    }

    /// In which order the points are tried, within the budget, `known` before all others.
    fn trials(
        &self,
        index: usize,
        points: Points,
        costs: Option<&[Option<f64>]>,
        known: Option<LaunchConfig>,
        default: &LaunchConfig,
    ) -> Result<Trials, TuneError> {
        let Request { strategy, shard, seed, budget, .. } = self.request;
        // A share has nothing that another one may have too.
        let first = known.filter(|config| shard.is_none() || points.position(config).is_some());
        let kind = strategy.unwrap_or(match budget {
            Budget::Exhaustive => StrategyKind::BruteForce,
            Budget::Evaluations(_) | Budget::Time(_) => StrategyKind::Random,
        });
        let search = kind.start(&points, seed ^ index as u64, costs).ok_or(TuneError::NoEstimate(kind))?;
        let most = if let Budget::Evaluations(n) = budget { n.saturating_sub(1) } else { usize::MAX };
        Ok(Trials::new(points, search, first, default.clone(), most))
    }

    /// Has the reference computed, once and only when something is to be measured: it costs time.
    fn announce(&mut self, progress: &mut Progress<'_, O>) -> Result<bool, TuneError> {
        if let Some(announced) = progress.announced {
            return Ok(announced);
        }
        let announced = self.bench.reference()?;
        self.account();
        progress.announced = Some(announced.is_ok());
        if let Err(failure) = announced {
            let text = format!("no reference to check against: {}", failure.reason);
            progress.notes.push(Note::new(NoteKind::NotRun, text));
        }
        Ok(progress.announced == Some(true))
    }

    /// Takes over what the workbench has spent.
    fn account(&mut self) -> Times {
        let spent = self.bench.spent();
        self.ledger.add(spent);
        spent
    }

    /// A first look at every configuration. False where the variant cannot run here at all.
    fn screen(&mut self, progress: &mut Progress<'_, O>, end: Option<Instant>) -> Result<bool, TuneError> {
        let default = progress.default.clone();
        let mut anchored = false;
        if !self.reuse_screened(progress, &default) {
            if !self.announce(progress)? {
                return Ok(false);
            }
            match self.prepare(progress, &default)? {
                Ok(prepared) => {
                    self.measure(progress, false, vec![prepared], end)?;
                    anchored = true;
                }
                Err((failure, _)) if failure.hopeless => {
                    progress.notes.push(Note::new(NoteKind::NotRun, failure.reason));
                    return Ok(false);
                }
                Err(failed) => self.fail(progress, &default, Stage::Screen, Samples::default(), failed)?,
            }
        }
        let default_passed = progress.screened.iter().any(|s| s.config == default);
        if anchored && !default_passed {
            self.bench.release(&default)?;
            anchored = false;
        }
        let mut more = true;
        while more {
            let mut batch: Vec<Prepared> = Vec::new();
            let room = progress.rivals(self.request.policy.batch, &self.request.policy);
            while batch.len() < room {
                let late = end.is_some_and(|end| Instant::now() >= end);
                let begin = Instant::now();
                let next = if late || self.stopped() { None } else { progress.trials.next(room - batch.len()) };
                let strategy_ns = ns(begin.elapsed());
                self.ledger.add(Times { strategy_ns, ..Times::default() });
                let Some(config) = next else {
                    // A strategy may want to know of this batch before it asks for another.
                    more = !batch.is_empty();
                    break;
                };
                if self.reuse_screened(progress, &config) {
                    continue;
                }
                if !self.announce(progress)? {
                    return Ok(false);
                }
                if !anchored && default_passed {
                    // The default came from the records; now there is something to time beside it.
                    anchored = self.prepare(progress, &default)?.is_ok();
                }
                match self.prepare(progress, &config)? {
                    Ok(mut prepared) => {
                        prepared.times.strategy_ns = strategy_ns;
                        batch.push(prepared);
                    }
                    Err((failure, times)) => {
                        let failed = (failure, Times { strategy_ns, ..times });
                        self.fail(progress, &config, Stage::Screen, Samples::default(), failed)?;
                    }
                }
            }
            if !batch.is_empty() {
                let configs: Vec<LaunchConfig> = batch.iter().map(|p| p.config.clone()).collect();
                self.measure(progress, anchored, batch, end)?;
                configs.iter().try_for_each(|config| self.bench.release(config))?;
            }
        }
        if anchored {
            self.bench.release(&default)?;
        }
        Ok(true)
    }

    /// Times a batch, beside the default where that is prepared too; gates it again and records it.
    fn measure(
        &mut self,
        progress: &mut Progress<'_, O>,
        anchored: bool,
        batch: Vec<Prepared>,
        end: Option<Instant>,
    ) -> Result<(), TuneError> {
        let anchor = anchored.then(|| progress.default.clone());
        let configs: Vec<LaunchConfig> = anchor.into_iter().chain(batch.iter().map(|p| p.config.clone())).collect();
        let mark = progress.mark(&self.request.policy);
        let mut timed = self.time(&configs, Stage::Screen, mark, end)?.into_iter();
        if let Some(Timed { failure: None, samples_ns, blocks, took_ns }) =
            timed.by_ref().take(usize::from(anchored)).next()
            && let Some(timing) = Timing::of(&samples_ns)
        {
            progress.drift.anchor(timing.median_ns, batch.iter().map(|p| p.config.clone()));
            let times = Times { benchmark_ns: took_ns, ..Times::default() };
            let line = Line::correct(Stage::Anchor, Samples { ns: samples_ns, blocks }, None, times);
            self.record(progress, &progress.default.clone(), line)?;
        }
        for (prepared, timed) in batch.into_iter().zip(timed) {
            if let Some(scored) = self.judge(progress, prepared, Stage::Screen, timed)? {
                if scored.config == progress.default {
                    progress.drift.begin(scored.timing.median_ns);
                }
                progress.screened.push(scored);
            }
        }
        Ok(())
    }

    fn time(
        &mut self,
        configs: &[LaunchConfig],
        stage: Stage,
        mark: Mark,
        end: Option<Instant>,
    ) -> Result<Vec<Timed>, TuneError> {
        let left = end.map(|end| end.saturating_duration_since(Instant::now()));
        let timed = self.bench.time(configs, &Round { stage, mark, left })?;
        self.account();
        Ok(timed)
    }

    /// The verdict after timing: gates again what still stands, and records. `None` where nothing can be said yet.
    fn judge(
        &mut self,
        progress: &mut Progress<'_, O>,
        prepared: Prepared,
        stage: Stage,
        timed: Timed,
    ) -> Result<Option<Scored>, TuneError> {
        let Prepared { config, evidence, mut times } = prepared;
        let Timed { failure, samples_ns, blocks, took_ns } = timed;
        times.benchmark_ns += took_ns;
        let samples = Samples { ns: samples_ns, blocks };
        let failure = match failure {
            // It was right before it was timed.
            Some(failure) if matches!(failure.verdict, Verdict::Eliminated | Verdict::Timeout) => {
                Failure { evidence: Some(evidence), ..failure }
            }
            Some(failure) => failure,
            // Stopped too early to say anything: not recorded, so that a resumed run measures it.
            None if samples.ns.len() < self.request.policy.min_rounds.max(1) as usize => return Ok(None),
            None => {
                let passed = self.bench.pass(&config)?;
                times += self.account();
                let device = self.bench.device();
                let passed = passed.and_then(|evidence| judged(progress.task, device, &config, evidence));
                match passed.and_then(|pass| scored(&config, &samples.ns, pass)) {
                    Ok(scored) => {
                        let line = Line::correct(stage, samples, Some(scored.pass.evidence().clone()), times);
                        self.record(progress, &config, line)?;
                        if stage == Stage::Screen {
                            let timing = scored.timing;
                            let corrected = progress.drift.corrected(&config, timing.median_ns);
                            let best = progress.best_ns().unwrap_or(f64::INFINITY).min(corrected);
                            self.count(progress, &config, Verdict::Correct, None, Some(timing), Some(best));
                        }
                        return Ok(Some(scored));
                    }
                    Err(failure) => failure,
                }
            }
        };
        self.fail(progress, &config, stage, samples, (failure, times))?;
        Ok(None)
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
        if !self.announce(progress)? {
            return Ok(Vec::new());
        }
        (self.on_event)(Event::Finals { configs: order.len() });
        let mut finalists = Vec::new();
        for scored in order {
            match self.prepare(progress, &scored.config)? {
                Ok(prepared) => finalists.push(prepared),
                Err(failed) => self.fail(progress, &scored.config, Stage::Final, Samples::default(), failed)?,
            }
        }
        let configs: Vec<LaunchConfig> = finalists.iter().map(|p| p.config.clone()).collect();
        let timed = self.time(&configs, Stage::Final, Mark::default(), deadline)?;
        // Too few samples to replace those of the screening.
        let least = self.request.policy.min_rounds as usize;
        if timed.iter().any(|timed| timed.failure.is_none() && timed.samples_ns.len() < least) {
            return Ok(Vec::new());
        }
        let mut candidates: Vec<Candidate> = Vec::new();
        for (prepared, timed) in finalists.into_iter().zip(timed) {
            let blocks = block_medians(&timed.samples_ns, &timed.blocks);
            let scored = self.judge(progress, prepared, Stage::Final, timed)?;
            candidates.extend(scored.map(|scored| Candidate { scored, blocks }));
        }
        configs.iter().try_for_each(|config| self.bench.release(config))?;
        // A finalist that failed now is no candidate any more, whatever it was before.
        progress
            .screened
            .retain(|s| candidates.iter().any(|k| k.scored.config == s.config) || !configs.contains(&s.config));
        Ok(candidates)
    }

    fn unfused(&mut self, progress: &mut Progress<'_, O>) -> Result<Option<Timing>, TuneError> {
        let measured = self.bench.unfused()?;
        self.account();
        let Baseline { samples_ns, rel_error } = match measured {
            Ok(Some(baseline)) => baseline,
            Ok(None) => return Ok(None),
            Err(error) => {
                progress.notes.push(Note::new(NoteKind::Unfused, format!("unfused composition: {error}")));
                return Ok(None);
            }
        };
        let allowed = gate_tolerance(progress.task.dtype, O::ORDER);
        if !(0.0..=allowed).contains(&rel_error) {
            let text = format!("unfused composition: relative error {rel_error:e}, expected at most {allowed:e}");
            progress.notes.push(Note::new(NoteKind::Unfused, text));
            return Ok(None);
        }
        Ok(Timing::of(&samples_ns))
    }

    /// Prepares a configuration on the problem and gates it there.
    fn prepare(
        &mut self,
        progress: &Progress<'_, O>,
        config: &LaunchConfig,
    ) -> Result<Result<Prepared, (Failure, Times)>, TuneError> {
        let prepared = self.bench.prepare(config)?;
        let times = self.account();
        let evidence = match prepared {
            Ok(evidence) => bearable(progress.task, evidence),
            Err(failure) => Err(failure),
        };
        Ok(match evidence {
            Ok(evidence) => Ok(Prepared { config: config.clone(), evidence, times }),
            Err(failure) => {
                self.bench.release(config)?;
                Err((failure, times))
            }
        })
    }
}
