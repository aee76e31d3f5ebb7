//! Search over recorded measurements, without a device: how fast each strategy finds what is best.

use ff_spec::{Dtype, LaunchConfig, Problem, TuneKey};
use serde::Serialize;

use crate::measure::Policy;
use crate::ops::BuiltIn;
use crate::points::Points;
use crate::recorded::Recorded;
use crate::space::{SpaceError, Spaces, Target};
use crate::strategy::StrategyKind;
use crate::trials::Trials;

/// Fewer configurations than this are no space in which a search could show anything.
pub const FEWEST: usize = 8;

/// How near to the best a search has to come to count as done.
pub const NEAR: f64 = 1.05;

/// How to replay.
#[derive(Clone, Debug)]
pub struct Replay {
    /// The strategies that are compared.
    pub strategies: Vec<StrategyKind>,
    /// Searches per strategy, each with its own seed.
    pub repeats: usize,
    /// Seed of the first.
    pub seed: u64,
    /// Configurations that a search may try, the default among them; `None` for all.
    pub evaluations: Option<usize>,
    /// Asked for at once, as the tuner asks for what it measures together.
    pub batch: usize,
}

impl Default for Replay {
    fn default() -> Self {
        let strategies = StrategyKind::ALL.into_iter().filter(|kind| *kind != StrategyKind::BruteForce);
        Self {
            strategies: strategies.collect(),
            repeats: 25,
            seed: 0,
            evaluations: None,
            batch: Policy::default().batch,
        }
    }
}

/// Median and quartiles over repeats.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Quartiles {
    /// A quarter is below.
    pub lower: f64,
    /// Half is.
    pub median: f64,
    /// Three quarters are.
    pub upper: f64,
}

impl Quartiles {
    /// Of some values; `None` for none. Between two values they lie on the line.
    pub fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let last = values.len().checked_sub(1)?;
        let at = |share: f64| {
            let place = share * last as f64;
            let (below, part) = (values[place.floor() as usize], place.fract());
            // An infinite neighbour must not make a number of what is none.
            if part == 0.0 { below } else { below + part * (values[place.ceil() as usize] - below) }
        };
        Some(Self { lower: at(0.25), median: at(0.5), upper: at(0.75) })
    }
}

/// How one strategy fared.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Course {
    /// The strategy.
    pub strategy: StrategyKind,
    /// Best time so far over the best of all, after 1, 2, … evaluations; `None` where a quarter of the repeats has found nothing
    /// that works yet.
    pub best_so_far: Vec<Option<Quartiles>>,
    /// Evaluations until the best so far is within [`NEAR`] of the best of all; `None` where a quarter of the repeats never is.
    pub until_near: Option<Quartiles>,
}

/// How much of the space of a search the records hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Coverage {
    /// Configurations of the space.
    pub space: usize,
    /// Those of them that are recorded; the others are no part of what is replayed.
    pub recorded: usize,
    /// Recorded configurations that the space does not have.
    pub outside: usize,
}

/// The estimated cost of a configuration, in any unit; `None` where nothing is known of it.
pub type CostFn<'a> = dyn Fn(&LaunchConfig) -> Option<f64> + 'a;

/// What replaying one search of the records came to.
#[derive(Clone, Debug, Serialize)]
pub struct Replayed {
    /// The op.
    pub op: String,
    /// The derivative order.
    pub order: u8,
    /// Variant id.
    pub variant: String,
    /// Element type.
    pub dtype: Dtype,
    /// The problem.
    pub problem: Problem,
    /// Slug of the device.
    pub device: String,
    /// Configurations that are replayed.
    pub configs: usize,
    /// Those of them that failed.
    pub failed: usize,
    /// How much of the space that is; `None` where there is no space of this op.
    pub coverage: Option<Coverage>,
    /// Time of the default over the best; `None` where the default failed.
    pub default_ratio: Option<f64>,
    /// The best configuration.
    pub best: LaunchConfig,
    /// Its time, ns.
    pub best_ns: f64,
    /// What came of each strategy, in the order asked for. One that goes by estimates is left out where there are none.
    pub courses: Vec<Course>,
}

/// Replays one search. `costs` estimates by configuration, for [`StrategyKind::CostModel`].
///
/// A configuration has the time that the records give it; a failed one fails. The default comes first, as on a device.
///
/// # Errors
/// Why there is nothing to replay.
pub fn replay(search: &Recorded, replay: &Replay, costs: Option<&CostFn<'_>>) -> Result<Replayed, String> {
    let configs: Vec<LaunchConfig> = search.results.keys().cloned().collect();
    if configs.len() < FEWEST {
        return Err(format!("{} configurations are recorded, expected at least {FEWEST}", configs.len()));
    }
    let points = Points::of(&configs).map_err(|e| format!("the records are not of one space: {e}"))?;
    let times: Vec<Option<f64>> = points.iter().map(|config| search.time_ns(&config)).collect();
    let best = times.iter().enumerate().filter_map(|(point, time)| Some((point, (*time)?)));
    let (best, best_ns) = best.min_by(|a, b| a.1.total_cmp(&b.1)).ok_or("no configuration passed")?;
    let costs: Option<Vec<Option<f64>>> = costs.map(|cost| points.iter().map(|c| cost(&c)).collect());
    let costs = costs.filter(|costs| costs.iter().any(Option::is_some));
    let evaluations = replay.evaluations.unwrap_or(usize::MAX).min(points.len());
    let mut courses = Vec::new();
    for kind in &replay.strategies {
        let mut runs = Vec::new();
        for repeat in 0..replay.repeats as u64 {
            let seed = replay.seed.wrapping_add(repeat);
            let Some(strategy) = kind.start(&points, seed, costs.as_deref()) else { break };
            let trials = Trials::new(points.clone(), strategy, None, search.default.clone(), evaluations - 1);
            runs.push(run(trials, search, evaluations, replay.batch));
        }
        if !runs.is_empty() {
            courses.push(course(*kind, &runs, best_ns, evaluations));
        }
    }
    Ok(Replayed {
        op: search.op.clone(),
        order: search.order,
        variant: search.variant.clone(),
        dtype: search.dtype,
        problem: search.problem.clone(),
        device: search.device.slug.clone(),
        configs: points.len(),
        failed: times.iter().filter(|time| time.is_none()).count(),
        coverage: coverage(search).and_then(Result::ok),
        default_ratio: search.time_ns(&search.default).map(|time| time / best_ns),
        best: points.config(best),
        best_ns,
        courses,
    })
}

/// What the nearest other problem of the same kernel, dtype and device says a configuration costs: its time there. `None` where
/// `searches` hold no such problem.
pub fn transferred<'s>(
    search: &Recorded,
    searches: &'s [Recorded],
) -> Option<impl Fn(&LaunchConfig) -> Option<f64> + use<'s>> {
    nearest_problem((&search.variant, search.order), search.dtype, &search.problem, &search.device.slug, searches)
}

/// As [`transferred`], for a search of a variant at a derivative order that has no records yet.
pub fn nearest_problem<'s>(
    (variant, order): (&str, u8),
    dtype: Dtype,
    problem: &Problem,
    slug: &str,
    searches: &'s [Recorded],
) -> Option<impl Fn(&LaunchConfig) -> Option<f64> + use<'s>> {
    let here = TuneKey::new(variant, order, dtype, problem);
    let others = searches.iter().filter(|other| other.problem != *problem && other.device.slug == slug);
    let near = others.filter_map(|other| {
        let distance = TuneKey::new(&other.variant, other.order, other.dtype, &other.problem).distance(&here)?;
        Some((distance.iter().sum::<f64>(), other))
    });
    let (_, nearest) = near.min_by(|a, b| a.0.total_cmp(&b.0))?;
    Some(move |config: &LaunchConfig| nearest.time_ns(config))
}

/// Spearman's rank correlation of estimated costs with recorded times, over the configurations that have both; `None` where
/// there are fewer than [`FEWEST`], or all alike.
pub fn rank_correlation(search: &Recorded, cost: &CostFn<'_>) -> Option<f64> {
    let pairs = search.results.keys().filter_map(|config| Some((cost(config)?, search.time_ns(config)?)));
    let (costs, times): (Vec<f64>, Vec<f64>) = pairs.unzip();
    if costs.len() < FEWEST {
        return None;
    }
    let (costs, times) = (ranks(&costs), ranks(&times));
    let middle = (costs.len() as f64 - 1.0) / 2.0;
    let product = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a - middle) * (b - middle)).sum::<f64>();
    let size = (product(&costs, &costs) * product(&times, &times)).sqrt();
    (size > 0.0).then(|| product(&costs, &times) / size)
}

/// The place of each value among all; equal values share the middle of theirs.
fn ranks(values: &[f64]) -> Vec<f64> {
    let below = |value: &f64| values.iter().filter(|other| *other < value).count() as f64;
    let alike = |value: &f64| values.iter().filter(|other| *other == value).count() as f64;
    values.iter().map(|value| below(value) + (alike(value) - 1.0) / 2.0).collect()
}

/// One search; the best time after each evaluation, infinite before anything worked.
fn run(mut trials: Trials, search: &Recorded, evaluations: usize, batch: usize) -> Vec<f64> {
    let mut best = f64::INFINITY;
    let mut course = Vec::with_capacity(evaluations);
    let mut evaluated = |config: &LaunchConfig, trials: &mut Trials| {
        let time = search.time_ns(config);
        best = best.min(time.unwrap_or(f64::INFINITY));
        course.push(best);
        trials.tell(config, time);
    };
    if search.results.contains_key(&search.default) {
        evaluated(&search.default, &mut trials);
    }
    loop {
        let mut together = Vec::new();
        while together.len() < batch.max(1) {
            let Some(config) = trials.next(batch.max(1) - together.len()) else { break };
            together.push(config);
        }
        if together.is_empty() {
            return course;
        }
        together.iter().for_each(|config| evaluated(config, &mut trials));
    }
}

fn course(strategy: StrategyKind, runs: &[Vec<f64>], best_ns: f64, evaluations: usize) -> Course {
    let finite = |q: &Quartiles| q.upper.is_finite() && q.median.is_finite() && q.lower.is_finite();
    let at = |evaluation: usize| {
        let so_far = runs.iter().filter_map(|run| run.get(evaluation).or(run.last())).map(|time| time / best_ns);
        Quartiles::of(so_far.collect()).filter(finite)
    };
    let until = runs.iter().map(|run| {
        let found = run.iter().position(|time| *time <= NEAR * best_ns);
        found.map_or(f64::INFINITY, |place| (place + 1) as f64)
    });
    Course {
        strategy,
        best_so_far: (0..evaluations).map(at).collect(),
        until_near: Quartiles::of(until.collect()).filter(finite),
    }
}

/// How much of the built-in space of this search the records hold; `None` where its op has none.
fn coverage(search: &Recorded) -> Option<Result<Coverage, SpaceError>> {
    let built_in = BuiltIn::of(&search.op)?;
    let part = built_in.part((built_in.name)(&search.variant)?);
    let counted = || {
        let spaces = Spaces::built_in(built_in.op)?;
        let space = spaces.get(Target::of(search.device.runtime), part, search.order)?;
        let (points, _) = space.open(&search.device, &search.problem, search.dtype)?;
        let recorded = search.results.keys().filter(|config| points.position(config).is_some()).count();
        Ok(Coverage { space: points.len(), recorded, outside: search.results.len() - recorded })
    };
    Some(counted())
}

#[cfg(test)]
mod tests {
    use ff_spec::RuntimeKind;

    use super::*;
    use crate::records::{Record, Stage, Verdict};
    use crate::testing::{device, problem, record};

    /// All 32 configurations of a host space: the best is 600 ns, the default 1,000, a quarter fails.
    fn records(n_atoms: u64) -> Vec<Record> {
        let mut records = Vec::new();
        for edges_per_task in [128, 512, 2048, 8192] {
            for edges_per_tile in [16, 32, 64, 128] {
                for channel_block in [16, 32] {
                    let time = 500
                        + if edges_per_task == 2048 { 0 } else { 400 }
                        + if edges_per_tile == 64 { 0 } else { 300 }
                        + if channel_block == 32 { 100 } else { 200 };
                    let config = LaunchConfig::from([
                        ("edges_per_task", edges_per_task),
                        ("edges_per_tile", edges_per_tile),
                        ("channel_block", channel_block),
                    ]);
                    let fails = edges_per_tile == 16;
                    let (samples_ns, verdict) =
                        if fails { (Vec::new(), Verdict::Compile) } else { (vec![time; 3], Verdict::Correct) };
                    let reason = fails.then(|| "expected `;`".to_owned());
                    records.push(Record {
                        config,
                        problem: problem(n_atoms, 32),
                        samples_ns,
                        verdict,
                        reason,
                        ..record(1)
                    });
                }
            }
        }
        let default = records.iter().find(|r| r.samples_ns == [1000; 3]).expect("there").clone();
        records.push(Record { stage: Stage::Anchor, ..default });
        records
    }

    #[test]
    fn every_strategy_ends_at_the_best() {
        let mut all = records(64);
        all.extend(records(128));
        let searches = Recorded::of(&all);
        assert_eq!(searches.len(), 2);
        let cost = transferred(&searches[0], &searches).expect("another problem");
        let options = Replay { repeats: 9, ..Replay::default() };
        let found = replay(&searches[0], &options, Some(&cost)).expect("enough");
        assert_eq!((found.configs, found.failed, found.best_ns), (32, 8, 600.0));
        assert!((found.default_ratio.expect("passed") - 1000.0 / 600.0).abs() < 1e-12);
        // 32 features leave two of the three blocks.
        assert_eq!(found.coverage, Some(Coverage { space: 32, recorded: 32, outside: 0 }));
        assert_eq!(found.courses.len(), StrategyKind::ALL.len() - 1, "brute force is random to its end");
        for course in &found.courses {
            let medians: Vec<f64> = course.best_so_far.iter().flatten().map(|q| q.median).collect();
            assert_eq!(medians.len(), 32, "{}", course.strategy);
            assert_eq!((medians[0], medians[31]), (1000.0 / 600.0, 1.0), "{}", course.strategy);
            assert!(medians.windows(2).all(|pair| pair[1] <= pair[0]));
            let until = course.until_near.expect("all end at the best");
            let first = medians.iter().position(|m| *m <= NEAR).expect("the end is") + 1;
            assert_eq!(until.median, first as f64, "{}: by either median", course.strategy);
        }
        let until = |kind| found.courses.iter().find(|c| c.strategy == kind).and_then(|c| c.until_near).expect("there");
        assert_eq!(until(StrategyKind::CostModel).median, 2.0, "the default, then what was best elsewhere");

        // The same seeds, the same courses; without estimates nothing goes by them.
        let again = replay(&searches[0], &options, None).expect("enough");
        assert!(again.courses.iter().all(|c| c.strategy != StrategyKind::CostModel));
        assert!(again.courses.iter().all(|c| found.courses.contains(c)));
        let few = Replay { evaluations: Some(4), ..options };
        let few = replay(&searches[0], &few, None).expect("enough");
        assert!(few.courses.iter().all(|c| c.best_so_far.len() == 4));
    }

    #[test]
    fn what_is_not_recorded_is_said() {
        let mut all = records(64);
        all.truncate(20);
        all[3].config.0.insert("edges_per_tile".to_owned(), 300);
        let searches = Recorded::of(&all);
        let found = replay(&searches[0], &Replay { repeats: 1, ..Replay::default() }, None).expect("enough");
        assert_eq!(found.coverage, Some(Coverage { space: 32, recorded: 19, outside: 1 }));

        all.truncate(FEWEST - 1);
        let error = replay(&Recorded::of(&all)[0], &Replay::default(), None).expect_err("too few");
        assert!(error.contains("7 configurations are recorded, expected at least 8"), "{error}");
        let mut all = records(64);
        all.iter_mut().for_each(|r| r.verdict = Verdict::Runtime);
        assert_eq!(
            replay(&Recorded::of(&all)[0], &Replay::default(), None).err().as_deref(),
            Some("no configuration passed")
        );
        let mut all = records(64);
        all[0].config = LaunchConfig::from([("other", 1)]);
        let error = replay(&Recorded::of(&all)[0], &Replay::default(), None).expect_err("two spaces");
        assert!(error.contains("not of one space"), "{error}");
    }

    #[test]
    fn a_final_counts_before_a_screening_and_kernels_and_orders_apart() {
        let config = LaunchConfig::from([("edges_per_task", 1)]);
        let of =
            |stage, ns| Record { stage, samples_ns: vec![ns; 3], verdict: Verdict::Correct, reason: None, ..record(1) };
        let all = [of(Stage::Screen, 30), of(Stage::Final, 20), of(Stage::Screen, 25)];
        let searches = Recorded::of(&all);
        assert_eq!((searches.len(), searches[0].time_ns(&config)), (1, Some(20.0)));
        assert_eq!(searches[0].best(), Some((&config, 20.0)));
        let backward = Record { order: 1, ..all[0].clone() };
        let newer = Record { kernel_hash: "newer".to_owned(), ..all[0].clone() };
        let elsewhere = Record { device: device(RuntimeKind::Vulkan), ..all[0].clone() };
        let all = [all[0].clone(), newer, elsewhere, backward];
        assert_eq!(Recorded::of(&all).len(), 4);
    }

    #[test]
    fn quartiles() {
        let of = |values: &[f64]| Quartiles::of(values.to_vec());
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[3.0]), Some(Quartiles { lower: 3.0, median: 3.0, upper: 3.0 }));
        assert_eq!(of(&[4.0, 1.0, 2.0, 3.0, 5.0]), Some(Quartiles { lower: 2.0, median: 3.0, upper: 4.0 }));
        assert_eq!(of(&[1.0, 2.0]), Some(Quartiles { lower: 1.25, median: 1.5, upper: 1.75 }));
    }

    #[test]
    fn ranks_correlate() {
        assert_eq!(ranks(&[3.0, 1.0, 3.0, 9.0]), [1.5, 0.0, 1.5, 3.0]);
        let search = &Recorded::of(&records(64))[0];
        let close = |found: Option<f64>, expected: f64| (found.expect("enough") - expected).abs() < 1e-12;
        assert!(close(rank_correlation(search, &|config| search.time_ns(config).map(|ns| ns * ns)), 1.0));
        assert!(close(rank_correlation(search, &|config| search.time_ns(config).map(|ns| -ns)), -1.0));
        assert_eq!(rank_correlation(search, &|_| Some(1.0)), None, "all alike");
        assert_eq!(rank_correlation(search, &|_| None), None);
    }
}
