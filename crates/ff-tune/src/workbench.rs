//! What a search measures in: this process, or another one that may die of what it measures.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ff_spec::{Clock, DeviceId, Dtype, Launch, LaunchConfig, LaunchError, Op, Prepare, Problem, RuntimeKind};
use ff_tables::Evidence;
use ff_testkit::gate;
use serde::{Deserialize, Serialize};

use crate::measure::{self, Contender, Limits, Mark, Policy};
use crate::op::Tuned;
use crate::records::{Stage, Verdict};
use crate::request::{Baseline, BaselineFn, Task};
use crate::times::{Times, ns};
use crate::verify::{Verifier, guarded};

/// A configuration that cannot be timed further, with its verdict.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Failure {
    /// What came of it.
    pub verdict: Verdict,
    /// Why.
    pub reason: String,
    /// What the gate measured, where it ran.
    pub evidence: Option<Evidence>,
    /// True where no configuration of this variant can do better.
    pub hopeless: bool,
}

impl Failure {
    /// Without a word about errors.
    pub(crate) fn new(verdict: Verdict, reason: impl Into<String>) -> Self {
        Self { verdict, reason: reason.into(), evidence: None, hopeless: false }
    }

    /// With where it happened before the reason.
    pub(crate) fn placed(self, place: &str) -> Self {
        Self { reason: format!("{place}{}", self.reason), ..self }
    }
}

impl From<LaunchError> for Failure {
    fn from(error: LaunchError) -> Self {
        let (verdict, hopeless) = match &error {
            LaunchError::Constraint(_) => (Verdict::Constraint, false),
            LaunchError::Compile(_) => (Verdict::Compile, false),
            LaunchError::Runtime(_) => (Verdict::Runtime, false),
            // The device, the variant or the tensors: another configuration changes none of them.
            _ => (Verdict::Constraint, true),
        };
        Self { verdict, reason: error.to_string(), evidence: None, hopeless }
    }
}

impl From<gate::Failure> for Failure {
    /// Of one case; the evidence is without seeds.
    fn from(failure: gate::Failure) -> Self {
        match failure {
            gate::Failure::Fault(error) => error.into(),
            gate::Failure::Wrong { reason, errors } => {
                let evidence =
                    |(rel_error, max_abs_error)| Evidence { rel_error, max_abs_error, cases: 1, ..Evidence::default() };
                Self { evidence: errors.map(evidence), ..Self::new(Verdict::Correctness, reason) }
            }
        }
    }
}

/// The workbench itself is gone: nothing can be measured any more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("kernels cannot be measured: {0}")]
pub struct Lost(pub String);

/// What a task turns out to be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Opened {
    /// Its sizes.
    pub problem: Problem,
    /// The configuration that is used where no table entry applies.
    pub default: LaunchConfig,
    /// Bytes of the tensors of one launch.
    pub launch_bytes: u64,
}

/// How a batch is timed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Round {
    /// A first look or the finals.
    pub stage: Stage,
    /// What is known of times before, for a first look.
    pub mark: Mark,
    /// How much time is left, where it is limited.
    pub left: Option<Duration>,
}

/// What timing a configuration came to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Timed {
    /// Why it cannot be chosen, where that is known now.
    pub failure: Option<Failure>,
    /// All samples in the order in which they were taken, ns.
    pub samples_ns: Vec<u64>,
    /// How many of them each round has.
    pub blocks: Vec<u32>,
    /// What warm-up and samples took on the clock, ns.
    pub took_ns: u64,
}

impl Timed {
    fn of<O: Op>(contender: Contender<'_, O>) -> Self {
        let Contender { failure, samples_ns, blocks, took, .. } = contender;
        Self { failure, samples_ns, blocks, took_ns: ns(took) }
    }
}

/// Prepares, gates and times configurations of one task after another, and says what each step took.
///
/// What fails is a [`Failure`] of its configuration; [`Lost`] ends the search.
pub trait Workbench {
    /// The device.
    fn device(&self) -> &DeviceId;

    /// The clock of samples.
    fn clock(&self) -> Clock;

    /// Makes the tensors of a task and drops those of the one before.
    ///
    /// # Errors
    /// [`Lost`].
    fn open(&mut self, task: usize) -> Result<Result<Opened, Failure>, Lost>;

    /// Computes what outputs on the problem are compared with.
    ///
    /// # Errors
    /// [`Lost`].
    fn reference(&mut self) -> Result<Result<(), Failure>, Lost>;

    /// Prepares a configuration on the problem and gates it there: it may be timed until it is released.
    ///
    /// # Errors
    /// [`Lost`].
    fn prepare(&mut self, config: &LaunchConfig) -> Result<Result<Evidence, Failure>, Lost>;

    /// Times configurations that are prepared, side by side.
    ///
    /// # Errors
    /// [`Lost`].
    fn time(&mut self, configs: &[LaunchConfig], round: &Round) -> Result<Vec<Timed>, Lost>;

    /// Gates a configuration that was timed, on the problem once more and on the catalogue's cases. The evidence is of all
    /// that was gated of it.
    ///
    /// # Errors
    /// [`Lost`].
    fn pass(&mut self, config: &LaunchConfig) -> Result<Result<Evidence, Failure>, Lost>;

    /// Drops a configuration that was prepared.
    ///
    /// # Errors
    /// [`Lost`].
    fn release(&mut self, config: &LaunchConfig) -> Result<(), Lost>;

    /// Times the unfused composition; `None` where there is none.
    ///
    /// # Errors
    /// [`Lost`]; why it cannot be had.
    fn unfused(&mut self) -> Result<Result<Option<Baseline>, String>, Lost>;

    /// What the kernels took since this was last asked.
    fn spent(&mut self) -> Times;
}

/// A task whose tensors are in memory.
struct Open<O: Op> {
    index: usize,
    inputs: O::Inputs,
    default: LaunchConfig,
}

/// A configuration that is ready to be timed.
struct Held<O: Op> {
    launch: Box<dyn Launch<O>>,
    evidence: Evidence,
    /// Whether a run takes longer than a block of samples.
    long: bool,
}

/// Measures in this process: a panic is a failure of its configuration, but what ends a process ends the search.
pub struct InProcess<'a, O: Tuned> {
    runtime: &'a dyn Prepare<O>,
    tasks: &'a [Task<'a, O>],
    policy: &'a Policy,
    verifier: &'a mut dyn Verifier<O>,
    baseline: Option<&'a BaselineFn<'a, O>>,
    stop: &'a AtomicBool,
    open: Option<Open<O>>,
    held: BTreeMap<LaunchConfig, Held<O>>,
    /// What passed on the catalogue's cases, which do not depend on the problem.
    gated: BTreeMap<(O::Variant, Dtype, LaunchConfig), Evidence>,
    spent: Times,
}

impl<'a, O: Tuned> InProcess<'a, O> {
    /// For these tasks. Raising `stop` ends a measurement between two launches.
    pub fn new(
        runtime: &'a dyn Prepare<O>,
        tasks: &'a [Task<'a, O>],
        policy: &'a Policy,
        verifier: &'a mut dyn Verifier<O>,
        baseline: Option<&'a BaselineFn<'a, O>>,
        stop: &'a AtomicBool,
    ) -> Self {
        let (open, held, gated, spent) = (None, BTreeMap::new(), BTreeMap::new(), Times::default());
        Self { runtime, tasks, policy, verifier, baseline, stop, open, held, gated, spent }
    }

    /// How many tasks there are.
    pub(crate) fn tasks(&self) -> usize {
        self.tasks.len()
    }

    fn opened(&self) -> Result<(&'a Task<'a, O>, &Open<O>), Failure> {
        let open = self.open.as_ref().ok_or_else(|| Failure::new(Verdict::Runtime, "no task was opened"))?;
        Ok((&self.tasks[open.index], open))
    }

    fn prepared(&mut self, config: &LaunchConfig) -> Result<Evidence, Failure> {
        let begin = Instant::now();
        let (runtime, (task, open)) = (self.runtime, self.opened()?);
        let launch = guarded(|| -> Result<_, LaunchError> {
            let mut launch = runtime.prepare(&task.variant, task.dtype, &open.inputs, config)?;
            // Devices compile when a kernel is first launched; one that does not run says so here, and not as a failed comparison.
            if runtime.device().runtime != RuntimeKind::Host {
                launch.run()?;
            }
            Ok(launch)
        });
        self.spent.compile_ns += ns(begin.elapsed());
        let (begin, mut launch) = (Instant::now(), launch?);
        let evidence = guarded(|| self.verifier.recheck(launch.as_mut()));
        let took = begin.elapsed();
        self.spent.gate_ns += ns(took);
        let evidence = evidence?;
        // Two runs and as much again for reading and comparing.
        let long = took > 4 * self.policy.block_time;
        self.held.insert(config.clone(), Held { launch, evidence: evidence.clone(), long });
        Ok(evidence)
    }

    fn passed(&mut self, config: &LaunchConfig) -> Result<Evidence, Failure> {
        let begin = Instant::now();
        let evidence = self.gate_again(config);
        self.spent.gate_ns += ns(begin.elapsed());
        evidence
    }

    fn gate_again(&mut self, config: &LaunchConfig) -> Result<Evidence, Failure> {
        let (task, _) = self.opened()?;
        let held = self.held.get_mut(config);
        let held = held.ok_or_else(|| Failure::new(Verdict::Runtime, "it was not prepared"))?;
        let again = guarded(|| self.verifier.recheck(held.launch.as_mut()));
        let again = again.map_err(|failure| failure.placed("after timing: "))?;
        let problem = held.evidence.and(&again);
        let key = (task.variant.clone(), task.dtype, config.clone());
        let catalogue = match self.gated.get(&key) {
            Some(evidence) => evidence.clone(),
            None => {
                let evidence = guarded(|| self.verifier.check(self.runtime, &task.variant, task.dtype, config))?;
                self.gated.insert(key, evidence.clone());
                evidence
            }
        };
        Ok(catalogue.and(&problem))
    }
}

impl<O: Tuned> Workbench for InProcess<'_, O> {
    fn device(&self) -> &DeviceId {
        self.runtime.device()
    }

    fn clock(&self) -> Clock {
        self.runtime.clock()
    }

    fn open(&mut self, index: usize) -> Result<Result<Opened, Failure>, Lost> {
        self.held.clear();
        self.open = None;
        let task = self.tasks.get(index).ok_or_else(|| Lost(format!("there is no task {index}")))?;
        let inputs = (task.inputs)();
        let problem = O::sizes(&task.problem, &inputs);
        let default = self.runtime.default_config(&task.variant, task.dtype, &problem);
        let launch_bytes = O::launch_bytes(&inputs, task.dtype);
        self.open = Some(Open { index, inputs, default: default.clone() });
        Ok(Ok(Opened { problem, default, launch_bytes }))
    }

    fn reference(&mut self) -> Result<Result<(), Failure>, Lost> {
        let begin = Instant::now();
        let Some(Open { index, inputs, .. }) = &self.open else { return Err(Lost("no task was opened".to_owned())) };
        let (task, verifier) = (&self.tasks[*index], &mut self.verifier);
        let announced = guarded(|| {
            let announced = verifier.begin(&task.variant, task.dtype, inputs);
            announced.map_err(|reason| Failure::new(Verdict::Correctness, reason))
        });
        self.spent.gate_ns += ns(begin.elapsed());
        Ok(announced)
    }

    fn prepare(&mut self, config: &LaunchConfig) -> Result<Result<Evidence, Failure>, Lost> {
        Ok(self.prepared(config))
    }

    fn time(&mut self, configs: &[LaunchConfig], round: &Round) -> Result<Vec<Timed>, Lost> {
        let default = self.open.as_ref().map(|open| &open.default);
        let mut launches: BTreeMap<&LaunchConfig, &mut Held<O>> = self.held.iter_mut().collect();
        let (mut contenders, mut places) = (Vec::new(), Vec::new());
        for config in configs {
            if let Some(held) = launches.remove(config) {
                let warm = held.long;
                let contender = Contender::new(held.launch.as_mut(), Some(config) == default);
                contenders.push(Contender { warm, ..contender });
                places.push(config);
            }
        }
        let stop = || self.stop.load(Ordering::Relaxed);
        let limits = Limits { stop: &stop, deadline: round.left.map(|left| Instant::now() + left) };
        match round.stage {
            Stage::Final => measure::finals(&mut contenders, self.policy, &limits),
            Stage::Screen | Stage::Anchor => measure::screen(&mut contenders, &round.mark, self.policy, &limits),
        };
        let mut timed: BTreeMap<&LaunchConfig, Timed> =
            places.into_iter().zip(contenders.into_iter().map(Timed::of)).collect();
        let missing = || Failure::new(Verdict::Runtime, "it was not prepared");
        let all = configs.iter().map(|config| {
            timed.remove(config).unwrap_or_else(|| Timed { failure: Some(missing()), ..Timed::default() })
        });
        let all: Vec<Timed> = all.collect();
        self.spent.benchmark_ns += all.iter().map(|timed| timed.took_ns).sum::<u64>();
        Ok(all)
    }

    fn pass(&mut self, config: &LaunchConfig) -> Result<Result<Evidence, Failure>, Lost> {
        Ok(self.passed(config))
    }

    fn release(&mut self, config: &LaunchConfig) -> Result<(), Lost> {
        self.held.remove(config);
        Ok(())
    }

    fn unfused(&mut self) -> Result<Result<Option<Baseline>, String>, Lost> {
        let (Some(baseline), Some(open)) = (self.baseline, &self.open) else { return Ok(Ok(None)) };
        let (begin, task) = (Instant::now(), &self.tasks[open.index]);
        let measured = guarded(|| Ok::<_, LaunchError>(baseline(&task.variant, task.dtype, &open.inputs)));
        self.spent.benchmark_ns += ns(begin.elapsed());
        Ok(measured.unwrap_or_else(|error| Err(error.to_string())))
    }

    fn spent(&mut self) -> Times {
        std::mem::take(&mut self.spent)
    }
}
