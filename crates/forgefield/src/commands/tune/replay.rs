use ff_spec::{Dtype, LaunchConfig, Problem, SCHEMA_VERSION, kernel_name};
use ff_tune::replay::{CostFn, Course, Quartiles, Replay, Replayed, rank_correlation, replay, transferred};
use ff_tune::{Recorded, records};
use serde::Serialize;

use super::args::{BudgetArg, StrategyArg, TuneArgs};
use crate::estimate::Estimator;
use crate::failure::{Failure, Result};
use crate::ops;
use crate::screen::{Paint, Screen, columns, nanoseconds};

/// A search in the records that cannot be replayed.
#[derive(Serialize)]
struct Skipped {
    variant: String,
    dtype: Dtype,
    problem: Problem,
    device: String,
    reason: String,
}

#[derive(Serialize)]
struct Document {
    schema: u32,
    repeats: usize,
    seed: u64,
    batch: usize,
    replays: Vec<ShownSearch>,
    skipped: Vec<Skipped>,
}

/// A search with what its costs were estimated by.
#[derive(Serialize)]
struct ShownSearch {
    #[serde(flatten)]
    replayed: Replayed,
    /// How the recorded times go with the counted costs, from -1 to 1; absent where costs cannot be counted.
    counted_rank_correlation: Option<f64>,
}

/// Searches records again, without a device.
pub fn run(args: &TuneArgs, screen: &Screen) -> Result<()> {
    let defaults = Replay::default();
    let options = Replay {
        strategies: match args.strategy {
            None | Some(StrategyArg::All) => defaults.strategies,
            Some(StrategyArg::One(kind)) => vec![kind],
        },
        repeats: usize::from(args.repeats),
        seed: args.sizes.seed,
        evaluations: match args.budget {
            None | Some(BudgetArg::All) => None,
            Some(BudgetArg::Evaluations(n)) => Some(n),
            Some(BudgetArg::Time(_)) => {
                return Err(Failure::input(
                    "--budget: a replay takes no time, expected a number of configurations or `all`",
                ));
            }
        },
        batch: defaults.batch,
    };
    let mut all = Vec::new();
    for path in &args.replay {
        let (records, torn) = records::read(path).map_err(Failure::input)?;
        if let Some(torn) = torn {
            screen.warn(format!("warning: {}: {torn}", path.display()));
        }
        all.extend(records);
    }
    let searches = Recorded::of(&all);
    let asked = |search: &&Recorded| {
        let among = |wanted: &[String], found: &String| wanted.is_empty() || wanted.contains(found);
        among(&args.op, &search.op)
            && among(&args.variant, &search.variant)
            && among(&args.problem, &search.problem.name)
            && (args.dtype.is_empty() || args.dtype.contains(&search.dtype))
    };
    let (mut replays, mut skipped) = (Vec::new(), Vec::new());
    for search in searches.iter().filter(asked) {
        let (near, counted) = (transferred(search, &searches), counted(search));
        let cost = near.as_ref().map(|cost| cost as &CostFn<'_>).or(counted.as_ref().map(|cost| cost as &CostFn<'_>));
        match replay(search, &options, cost) {
            Ok(replayed) => {
                let counted_rank_correlation = counted.as_ref().and_then(|cost| rank_correlation(search, cost));
                replays.push(ShownSearch { replayed, counted_rank_correlation });
            }
            Err(reason) => skipped.push(Skipped {
                variant: search.kernel(),
                dtype: search.dtype,
                problem: search.problem.clone(),
                device: search.device.slug.clone(),
                reason,
            }),
        }
    }
    if args.json {
        let Replay { repeats, seed, batch, .. } = options;
        let empty = replays.is_empty();
        screen.json(&Document { schema: SCHEMA_VERSION, repeats, seed, batch, replays, skipped })?;
        return if empty { Err(nothing()) } else { Ok(()) };
    }
    for replayed in &replays {
        show(replayed, options.repeats, screen)?;
    }
    for Skipped { variant, dtype, problem, device, reason } in &skipped {
        screen.line(format!("skipped {variant} {dtype} on {} ({device}): {reason}", problem.name))?;
    }
    if replays.is_empty() { Err(nothing()) } else { Ok(()) }
}

/// What a configuration of a search may cost by counting.
fn counted(search: &Recorded) -> Option<impl Fn(&LaunchConfig) -> Option<f64>> {
    let Recorded { op, variant, dtype, problem, device, .. } = search;
    let op = ops::find(op).ok()?;
    let (id, forward) = (op.one(variant).ok()?, op.forward());
    let estimator = Estimator::new(device);
    forward.estimated(&estimator, id, *dtype, problem, &search.default)?;
    Some(move |config: &LaunchConfig| forward.estimated(&estimator, id, *dtype, problem, config))
}

fn nothing() -> Failure {
    Failure::unmet("nothing was replayed: no search of these records has enough configurations")
}

fn show(shown: &ShownSearch, repeats: usize, screen: &Screen) -> Result<()> {
    let ShownSearch { replayed, counted_rank_correlation } = shown;
    let Replayed { variant, order, dtype, problem, device, configs, failed, coverage, best, best_ns, courses, .. } =
        replayed;
    let kernel = kernel_name(variant, *order);
    screen.line(screen.paint(Paint::Bold, format!("{kernel} {dtype} on {} ({device})", problem.name)))?;
    let covered = match coverage {
        Some(c) if c.outside > 0 => format!(
            "{} of the {} configurations of the space are recorded, and {} that it does not have",
            c.recorded, c.space, c.outside
        ),
        Some(c) => format!("{} of the {} configurations of the space are recorded", c.recorded, c.space),
        None => "the space of this op is not known".to_owned(),
    };
    screen.line(format!("  {configs} configurations, {failed} failed; {covered}"))?;
    screen.line(format!("  best {}: {best}", nanoseconds(*best_ns)))?;
    if let Some(correlation) = counted_rank_correlation {
        screen.line(format!("  counted costs: rank correlation {correlation:.2} with the recorded times"))?;
    }
    let evaluations = courses.iter().map(|c| c.best_so_far.len()).max().unwrap_or(0);
    let mut marks: Vec<usize> = (0..).map(|power| 1 << power).take_while(|mark| *mark < evaluations).collect();
    marks.push(evaluations);
    let header: Vec<String> = ["STRATEGY".to_owned(), "WITHIN 5 %".to_owned()]
        .into_iter()
        .chain(marks.iter().map(|mark| format!("AFTER {mark}")))
        .collect();
    let rows: Vec<Vec<String>> = courses
        .iter()
        .map(|Course { strategy, best_so_far, until_near }| {
            let until = until_near.as_ref().map_or_else(|| "–".to_owned(), |q| quartiles(q, 0));
            let so_far = marks.iter().map(|mark| best_so_far.get(mark - 1).and_then(Option::as_ref));
            let so_far = so_far.map(|q| q.map_or_else(|| "–".to_owned(), |q| quartiles(q, 2)));
            [strategy.to_string(), until].into_iter().chain(so_far).collect()
        })
        .collect();
    let header: Vec<&str> = header.iter().map(String::as_str).collect();
    let align: String = std::iter::once('l').chain(std::iter::repeat_n('r', header.len() - 1)).collect();
    for line in columns(&header, &rows, &align) {
        screen.line(format!("  {line}"))?;
    }
    let runs = if repeats == 1 { "search".to_owned() } else { format!("{repeats} searches") };
    screen.line(format!("  best so far over the best of all, by evaluations: median (quartiles) of {runs}"))
}

fn quartiles(q: &Quartiles, digits: usize) -> String {
    let Quartiles { lower, median, upper } = q;
    if lower == upper {
        format!("{median:.digits$}")
    } else {
        format!("{median:.digits$} ({lower:.digits$}–{upper:.digits$})")
    }
}
