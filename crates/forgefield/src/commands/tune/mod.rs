//! `tune`: configurations searched, gated and timed, and the table that comes of it.

pub mod args;
mod explain;
pub mod queue;
mod replay;
mod shown;
mod summary;
mod worker;

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use ff_spec::Dtype;
use ff_tune::{Outcome, Policy, RecordWriter, Recorded, Shard, Spaces, StrategyKind, TuneError};

use self::args::{BudgetArg, StrategyArg, TuneArgs};
use self::queue::{Searched, Session};
use self::shown::SearchProgress;
use crate::estimate::Estimator;
use crate::failure::{Failure, Result};
use crate::ops::{AnyOp, Chosen, Tasks};
use crate::screen::Screen;
use crate::{interrupt, ops, runtimes, workload};

/// A batch of molecules, a small and a medium liquid.
const DEFAULT_PROBLEMS: [&str; 3] = ["molecules", "water-64", "water-512"];

/// What a search may take when nothing is said.
const DEFAULT_BUDGET: BudgetArg = BudgetArg::Time(Duration::from_secs(100));

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
    let defaults = || ops::ALL.iter().flat_map(|op| op.tuned_by_default()).map(|id| (*id).to_owned()).collect();
    let names: Vec<String> = if args.variant.is_empty() { defaults() } else { args.variant.clone() };
    let mut chosen = ops::chosen(&args.op, &names, |op, name| Ok(vec![op.representative(name)?]))?;
    let orders: BTreeSet<u8> = args.order.iter().copied().collect();
    let first = chosen.first().map(|chosen| chosen.op.name()).unwrap_or_default();
    chosen.retain(|chosen| orders.iter().any(|order| chosen.op.order(*order).is_some()));
    if chosen.is_empty() {
        return Err(Failure::input(format!("op `{first}` has no derivatives, expected --order 0 among the orders")));
    }
    let dtypes: BTreeSet<Dtype> = args.dtype.iter().copied().collect();
    let dtypes: Vec<Dtype> = if dtypes.is_empty() { vec![Dtype::F32] } else { dtypes.into_iter().collect() };
    let given = args.space.as_ref().map(|path| Spaces::load(path)).transpose().map_err(Failure::input)?;
    let tuned: Vec<&str> = chosen.iter().map(|chosen| chosen.op.name()).collect();
    if let Some(spaces) = given.as_ref().filter(|spaces| !tuned.contains(&spaces.op.as_str())) {
        let (op, tuned) = (&spaces.op, tuned.join(", "));
        return Err(Failure::input(format!("--space: these are the spaces of op `{op}`, expected those of {tuned}")));
    }
    let spaces = |op: &dyn AnyOp| match &given {
        Some(spaces) if spaces.op == op.name() => Ok(spaces.clone()),
        _ => op.spaces(),
    };
    let spaces = chosen.iter().map(|chosen| spaces(chosen.op)).collect::<Result<Vec<_>>>()?;
    let built_in = if args.problem.is_empty() && args.structure.is_empty() {
        DEFAULT_PROBLEMS.map(str::to_owned).to_vec()
    } else {
        args.problem.clone()
    };
    let workloads = workload::collect(&built_in, &args.structure, &args.sizes)?;
    if args.serve.is_none() {
        workloads.iter().for_each(|workload| workload.warn(screen));
    }
    let runtime = runtimes::open(args.runtime, screen)?;
    let estimator = Estimator::new(runtime.device());
    let mut queues = Vec::new();
    for (Chosen { op, ids }, spaces) in chosen.iter().zip(&spaces) {
        for order in orders.iter().filter_map(|order| op.order(*order)) {
            let tasks = Tasks {
                spaces,
                ids,
                dtypes: &dtypes,
                workloads: &workloads,
                sizes: &args.sizes,
                estimator: &estimator,
                runtime: runtime.device().runtime,
            };
            queues.push(order.queue(tasks, screen)?);
        }
    }
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
        shown: SearchProgress::new(queues.iter().map(|queue| queue.len()).sum(), budget, screen),
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
        summary::show(&outcome, runtime.device(), records.path(), args.verbose, screen)?;
    }
    if outcome.stopped {
        return Err(Failure::interrupted("interrupted: what was measured is kept; --resume goes on from there"));
    }
    if outcome.problems.iter().all(|p| p.best.is_none()) {
        return Err(Failure::unmet("no configuration passed the gate and was timed"));
    }
    Ok(())
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
