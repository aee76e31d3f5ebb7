//! The searches of one op in one order after the other, and what they share.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use ff_spec::{DeviceId, LaunchConfig, Prepare, Problem, Runtime, kernel_name};
use ff_tune::replay::nearest_problem;
use ff_tune::{
    BaselineFn, Budget, EstimateFn, Event, GateVerifier, InProcess, Outcome, Policy, RecordWriter, Recorded, Request,
    Shard, Spaces, StrategyKind, Task, Workbench, tune,
};

use super::args::{BudgetArg, TuneArgs};
use super::shown::SearchProgress;
use super::{explain, failure, worker};
use crate::failure::{Failure, Result};
use crate::ops::{self, UsedOrder};
use crate::provenance;

/// The tasks of an op in one order, whatever op that is.
pub trait Searched {
    /// How many.
    fn len(&self) -> usize;

    /// Keeps those of a share; `numbers` goes on from the queue before.
    fn keep(&mut self, shard: Shard, numbers: &mut dyn Iterator<Item = usize>);

    /// What the constraints leave of each space.
    ///
    /// # Errors
    /// A space that is missing or contradicts itself.
    fn explained(&self, device: &DeviceId) -> Result<Vec<explain::Explained>>;

    /// What a worker is asked to serve.
    fn op(&self) -> String;

    /// Measures for the process that started this one.
    ///
    /// # Errors
    /// Where answers cannot be written.
    fn serve(&self, runtime: &(dyn Runtime + 'static), policy: &Policy) -> Result<()>;

    /// Searches for all of them.
    ///
    /// # Errors
    /// What ends a run.
    fn search(self: Box<Self>, session: &mut Session<'_>, runtime: &(dyn Runtime + 'static)) -> Result<()>;
}

/// The tasks of `O`.
pub struct Queue<'a, O: UsedOrder> {
    spaces: &'a Spaces,
    tasks: Vec<Task<'a, O>>,
    baseline: Box<BaselineFn<'a, O>>,
    /// A cost that can be counted where nothing was measured.
    counted: Box<EstimateFn<'a, O>>,
}

impl<'a, O: UsedOrder> Queue<'a, O> {
    /// Tasks with what is timed beside them and how their costs are counted.
    pub fn new(
        spaces: &'a Spaces,
        tasks: Vec<Task<'a, O>>,
        baseline: Box<BaselineFn<'a, O>>,
        counted: Box<EstimateFn<'a, O>>,
    ) -> Self {
        Self { spaces, tasks, baseline, counted }
    }
}

impl<O: UsedOrder> Searched for Queue<'_, O> {
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

    fn serve(&self, runtime: &(dyn Runtime + 'static), policy: &Policy) -> Result<()> {
        worker::serve::<O>(O::on(runtime), &self.tasks, policy, Some(&*self.baseline))
    }

    fn search(self: Box<Self>, session: &mut Session<'_>, runtime: &(dyn Runtime + 'static)) -> Result<()> {
        session.search(*self, runtime)
    }
}

/// What the searches of several ops share.
pub struct Session<'a> {
    /// The command line.
    pub args: &'a TuneArgs,
    /// How to measure.
    pub policy: Policy,
    /// When to end.
    pub budget: BudgetArg,
    /// In which order configurations are tried.
    pub strategy: Option<StrategyKind>,
    /// Of every space, where tasks are not dealt out.
    pub shard: Option<Shard>,
    /// What the records hold of other problems, where costs are estimated.
    pub earlier: Vec<Recorded>,
    /// Where every sample goes.
    pub records: RecordWriter,
    /// What the user sees meanwhile.
    pub shown: SearchProgress<'a>,
    /// When the time is up, where it is limited.
    pub end: Option<Instant>,
    /// Of the ops before.
    pub outcome: Outcome,
    /// Raised by an interrupt.
    pub stop: &'a AtomicBool,
}

impl Session<'_> {
    /// Searches for one op. Time is shared evenly among all tasks that are left.
    fn search<O: UsedOrder>(&mut self, queue: Queue<'_, O>, runtime: &(dyn Runtime + 'static)) -> Result<()> {
        let Queue { spaces, tasks, baseline, counted } = queue;
        let runtime = O::on(runtime);
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
            self.expect_estimates::<O>(runtime, &tasks, &*counted)?;
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
            None => counted(variant, dtype, problem, config),
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
            here = InProcess::new(runtime, &request.tasks, &request.policy, &mut verifier, Some(&*baseline), self.stop);
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

    /// Expects that costs can be estimated for every task.
    fn expect_estimates<O: UsedOrder>(
        &self,
        runtime: &dyn Prepare<O>,
        tasks: &[Task<'_, O>],
        counted: &EstimateFn<'_, O>,
    ) -> Result<()> {
        let slug = &runtime.device().slug;
        for task in tasks {
            let variant = task.variant.to_string();
            let problem = O::sizes(&task.problem, &(task.inputs)());
            let default = runtime.default_config(&task.variant, task.dtype, &problem);
            let counted = counted(&task.variant, task.dtype, &problem, &default);
            if counted.is_none()
                && nearest_problem((&variant, O::ORDER), task.dtype, &problem, slug, &self.earlier).is_none()
            {
                let (name, records) = (&problem.name, self.records.path().display());
                let kernel = kernel_name(&variant, O::ORDER);
                let known: Vec<String> =
                    ops::ALL.iter().filter(|op| op.is_estimated()).map(|op| format!("`{}`", op.name())).collect();
                return Err(Failure::input(format!(
                    "no estimate of {kernel} in {} on `{name}`: {records} has no other problem of it on this device, and it \
                     cannot be counted (only {} is, on the host, and on CUDA with NVRTC)",
                    task.dtype,
                    known.join(", ")
                )));
            }
        }
        Ok(())
    }
}
