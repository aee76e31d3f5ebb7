//! What a search takes from records and writes to them, and what it concludes.

use ff_spec::{LaunchConfig, SCHEMA_VERSION, TuneKey};
use ff_tables::{Entry, EntryFields, Pass, PassOf, Tie};

use super::state::{Line, Progress, Samples};
use super::{Search, unix_time};
use crate::choice::{Candidate, choose};
use crate::compare::block_medians;
use crate::measure::Timing;
use crate::op::Tuned;
use crate::outcome::{Event, Note, NoteKind, ProblemOutcome, Scored, TuneError};
use crate::records::{Record, Stage, Verdict, identity};
use crate::request::Task;
use crate::space::Explanation;
use crate::times::Times;
use crate::workbench::Failure;

impl<O: Tuned> Search<'_, O> {
    /// What the records hold of a configuration, where it passed.
    pub(super) fn reusable(&self, progress: &Progress<'_, O>, config: &LaunchConfig, stage: Stage) -> Option<Scored> {
        let record = self.recorded(progress, config, stage).filter(|r| r.verdict == Verdict::Correct)?;
        let evidence = record.evidence.clone()?;
        let Record { kernel_hash, dtype, unix_time, .. } = record;
        let device = &self.bench.device().slug;
        let of = PassOf { device, kernel_hash, config, dtype: *dtype, order: O::ORDER };
        let pass = Pass::record(of, evidence, *unix_time).ok()?;
        Some(Scored { config: config.clone(), timing: Timing::of(&record.samples_ns)?, pass })
    }

    /// As [`Search::reusable`], with the rounds that finals are decided by.
    pub(super) fn reusable_final(&self, progress: &Progress<'_, O>, config: &LaunchConfig) -> Option<Candidate> {
        let scored = self.reusable(progress, config, Stage::Final)?;
        let record = self.recorded(progress, config, Stage::Final)?;
        Some(Candidate { scored, blocks: block_medians(&record.samples_ns, &record.blocks) })
    }

    pub(super) fn recorded(&self, progress: &Progress<'_, O>, config: &LaunchConfig, stage: Stage) -> Option<&Record> {
        let Task { variant, kernel_hash, dtype, .. } = progress.task;
        let (device, compiler) = (self.bench.device(), &self.request.compiler);
        let variant = variant.to_string();
        let of = (variant.as_str(), O::ORDER);
        let identity = identity(kernel_hash, of, config, &progress.problem, *dtype, device, compiler);
        self.reuse.get(&(identity, stage))
    }

    /// Takes a configuration from the records where its screening stands there, whatever came of it.
    pub(super) fn reuse_screened(&mut self, progress: &mut Progress<'_, O>, config: &LaunchConfig) -> bool {
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

    pub(super) fn fail(
        &mut self,
        progress: &mut Progress<'_, O>,
        config: &LaunchConfig,
        stage: Stage,
        samples: Samples,
        (failure, times): (Failure, Times),
    ) -> Result<(), TuneError> {
        let Failure { verdict, reason, evidence, .. } = failure;
        let timing = Timing::of(&samples.ns);
        let line = Line { stage, samples, verdict, reason: Some(reason.clone()), evidence, times };
        self.record(progress, config, line)?;
        if stage == Stage::Final {
            // It was counted as correct in the screening.
            if let Some(n) = progress.counts.get_mut(&Verdict::Correct) {
                *n -= 1;
            }
            *progress.counts.entry(verdict).or_default() += 1;
            let text = format!("finalist {config} failed ({verdict}): {reason}");
            progress.notes.push(Note::new(NoteKind::Finalist, text));
        } else {
            let best = progress.best_ns();
            self.count(progress, config, verdict, Some(&reason), timing, best);
        }
        Ok(())
    }

    pub(super) fn count(
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

    pub(super) fn record(
        &mut self,
        progress: &Progress<'_, O>,
        config: &LaunchConfig,
        line: Line,
    ) -> Result<(), TuneError> {
        let Line { stage, samples: Samples { ns: samples_ns, blocks }, verdict, reason, evidence, times } = line;
        let times = Times { framework_ns: self.ledger.rest(), ..times };
        let record = Record {
            schema: SCHEMA_VERSION,
            op: O::NAME.to_owned(),
            order: O::ORDER,
            variant: progress.task.variant.to_string(),
            kernel_hash: progress.task.kernel_hash.clone(),
            config: config.clone(),
            problem: progress.problem.clone(),
            dtype: progress.task.dtype,
            device: self.bench.device().clone(),
            compiler: self.request.compiler.clone(),
            clock: self.bench.clock(),
            stage,
            samples_ns,
            blocks,
            verdict,
            reason,
            evidence,
            times: Some(times),
            seed: self.request.seed,
            unix_time: unix_time(),
        };
        Ok(self.records.append(&record)?)
    }

    /// Chooses, and makes the entry where it is better than what the table has or the search was complete.
    pub(super) fn conclude(
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
                clock: self.bench.clock(),
                driver: self.bench.device().driver.clone(),
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
            let refused = |error| notes.push(Note::new(NoteKind::NoEntry, format!("no table entry: {error}")));
            Entry::new(fields).map_err(refused).ok()
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
            times: Times::default(),
        };
        (outcome, entry)
    }
}
