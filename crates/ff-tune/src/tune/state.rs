//! What a search keeps while it goes on: of a task, of a configuration, of time.

use std::collections::BTreeMap;
use std::time::Instant;

use ff_spec::{LaunchConfig, Problem};
use ff_tables::Evidence;

use crate::drift::Drift;
use crate::measure::{Mark, Policy};
use crate::op::Tuned;
use crate::outcome::{Note, Scored};
use crate::records::{Stage, Verdict};
use crate::request::Task;
use crate::times::{Times, ns};
use crate::trials::Trials;

/// What a record says beside what it is about.
pub(super) struct Line {
    pub(super) stage: Stage,
    pub(super) samples: Samples,
    pub(super) verdict: Verdict,
    pub(super) reason: Option<String>,
    pub(super) evidence: Option<Evidence>,
    pub(super) times: Times,
}

/// Samples in the order in which they were taken, and how many each round has.
#[derive(Clone, Debug, Default)]
pub(super) struct Samples {
    pub(super) ns: Vec<u64>,
    pub(super) blocks: Vec<u32>,
}

impl Line {
    pub(super) fn correct(stage: Stage, samples: Samples, evidence: Option<Evidence>, times: Times) -> Self {
        Self { stage, samples, verdict: Verdict::Correct, reason: None, evidence, times }
    }
}

/// A configuration that is ready to be timed.
pub(super) struct Prepared {
    pub(super) config: LaunchConfig,
    pub(super) evidence: Evidence,
    /// What it has taken so far.
    pub(super) times: Times,
}

/// Where the time goes.
#[derive(Debug)]
pub(super) struct Ledger {
    /// When the last record was written.
    pub(super) mark: Instant,
    /// What has been accounted for since.
    pub(super) since: Times,
    /// What has been accounted for in all, without the framework.
    pub(super) spent: Times,
}

impl Default for Ledger {
    fn default() -> Self {
        Self { mark: Instant::now(), since: Times::default(), spent: Times::default() }
    }
}

impl Ledger {
    pub(super) fn add(&mut self, times: Times) {
        self.since += times;
        self.spent += times;
    }

    /// What was not accounted for since the last record, ns: the framework's.
    pub(super) fn rest(&mut self) -> u64 {
        let (now, since) = (Instant::now(), std::mem::take(&mut self.since));
        let clock = now.duration_since(std::mem::replace(&mut self.mark, now));
        ns(clock).saturating_sub(since.total_ns())
    }
}

/// What a task has come to so far.
pub(super) struct Progress<'t, O: Tuned> {
    pub(super) task: &'t Task<'t, O>,
    pub(super) problem: Problem,
    pub(super) default: LaunchConfig,
    pub(super) launch_bytes: u64,
    pub(super) trials: Trials,
    pub(super) done: usize,
    pub(super) total: usize,
    pub(super) counts: BTreeMap<Verdict, usize>,
    pub(super) reused: usize,
    pub(super) screened: Vec<Scored>,
    pub(super) drift: Drift,
    pub(super) notes: Vec<Note>,
    /// Whether the verifier knows this problem, once it has been asked.
    pub(super) announced: Option<bool>,
}

impl<O: Tuned> Progress<'_, O> {
    /// What a batch is compared with.
    pub(super) fn mark(&self, policy: &Policy) -> Mark {
        let rivals = self.screened.iter().filter(|s| s.config != self.default);
        let mut leaders_ns: Vec<f64> = rivals.map(|s| self.drift.corrected(&s.config, s.timing.median_ns)).collect();
        leaders_ns.sort_by(f64::total_cmp);
        leaders_ns.truncate(policy.finalists);
        Mark { leaders_ns, best_ns: self.best_ns(), anchor_ns: self.drift.reference_ns() }
    }

    /// The best median so far, as if all had been measured when the default was first.
    pub(super) fn best_ns(&self) -> Option<f64> {
        self.screened.iter().map(|s| self.drift.corrected(&s.config, s.timing.median_ns)).reduce(f64::min)
    }

    /// How many may be measured beside the default: as many as are wanted and as the tensors leave room for.
    pub(super) fn rivals(&self, wanted: usize, policy: &Policy) -> usize {
        let room = usize::try_from(policy.memory / self.launch_bytes.max(1)).unwrap_or(usize::MAX);
        wanted.min(room.saturating_sub(1)).max(1)
    }
}
