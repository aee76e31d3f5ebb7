//! In which order the points of a space are tried.
//!
//! A [`Strategy`] says which points it wants to know (ask) and learns what they came to (tell). It sees neither kernels
//! nor clocks, so that the same code searches on a device and over recorded measurements ([`crate::replay`]).

mod annealing;
mod bayesian;
mod genetic;
mod local;
mod ordered;

use std::fmt;
use std::str::FromStr;

use ff_tables::nearest;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::{Serialize, Serializer};

use crate::points::Points;

/// A search over the points of a space. Lower is better.
pub trait Strategy {
    /// Up to `most` points that were neither asked for nor told before. None where nothing is left, or where it wants to
    /// be told first about what it has asked for.
    fn ask(&mut self, points: &Points, most: usize) -> Vec<usize>;

    /// What a point came to, in any unit of time; `None` where it failed. A point that was not asked for may be told too:
    /// the default, what a table chose, what records hold.
    fn tell(&mut self, points: &Points, point: usize, time: Option<f64>);
}

/// The strategies there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum StrategyKind {
    /// Every point, in an order that the seed decides: drift of the machine must not line up with a parameter.
    BruteForce,
    /// Points drawn without replacement until the budget ends.
    Random,
    /// Descent over points that differ in one parameter, from a new start wherever it ends.
    Local,
    /// A walk over points that differ in one parameter, which goes uphill ever more rarely.
    Annealing,
    /// A population that crosses over and mutates.
    Genetic,
    /// A Gaussian process over the grid, asked where the most improvement is to be expected.
    Bayesian,
    /// In the order of an estimated cost, which the op supplies.
    CostModel,
}

impl StrategyKind {
    /// All of them.
    pub const ALL: [StrategyKind; 7] = [
        StrategyKind::BruteForce,
        StrategyKind::Random,
        StrategyKind::Local,
        StrategyKind::Annealing,
        StrategyKind::Genetic,
        StrategyKind::Bayesian,
        StrategyKind::CostModel,
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            StrategyKind::BruteForce => "brute-force",
            StrategyKind::Random => "random",
            StrategyKind::Local => "local",
            StrategyKind::Annealing => "annealing",
            StrategyKind::Genetic => "genetic",
            StrategyKind::Bayesian => "bayesian",
            StrategyKind::CostModel => "cost-model",
        }
    }

    /// A search that the seed makes repeatable. `costs` are estimates by point, which [`StrategyKind::CostModel`] cannot do
    /// without: then `None`.
    pub fn start(self, points: &Points, seed: u64, costs: Option<&[Option<f64>]>) -> Option<Box<dyn Strategy>> {
        let known = Known::new(points, seed);
        Some(match self {
            StrategyKind::BruteForce | StrategyKind::Random => Box::new(ordered::Ordered::shuffled(known)),
            StrategyKind::Local => Box::new(local::Local::new(known)),
            StrategyKind::Annealing => Box::new(annealing::Annealing::new(known)),
            StrategyKind::Genetic => Box::new(genetic::Genetic::new(known)),
            StrategyKind::Bayesian => Box::new(bayesian::Bayesian::new(known)),
            StrategyKind::CostModel => Box::new(ordered::Ordered::by_cost(known, costs?)),
        })
    }
}

impl fmt::Display for StrategyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl Serialize for StrategyKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl FromStr for StrategyKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|kind| kind.name() == text).ok_or_else(|| {
            let names = Self::ALL.map(Self::name);
            let near = nearest(text, names).map(|n| format!(", did you mean `{n}`?")).unwrap_or_default();
            format!("no strategy `{text}`{near}, expected {}", names.join(", "))
        })
    }
}

/// The points whose estimate is among the lowest `share` of all estimates, and those that have none: what is sure to be slow
/// need not be tried.
pub fn prefilter(points: &Points, costs: &[Option<f64>], share: f64) -> Vec<bool> {
    let mut sorted: Vec<f64> = costs.iter().take(points.len()).flatten().copied().filter(|c| !c.is_nan()).collect();
    sorted.sort_by(f64::total_cmp);
    let kept = (share * sorted.len() as f64).ceil().max(1.0) as usize;
    let most = sorted.get(kept - 1).or(sorted.last()).copied().unwrap_or(f64::INFINITY);
    costs.iter().take(points.len()).map(|cost| cost.is_none_or(|cost| cost <= most)).collect()
}

/// What a search knows of the points: what they came to, and which nobody has asked for yet.
struct Known {
    /// What was told: a time, or nothing for a failure.
    told: Vec<Option<Option<f64>>>,
    /// Asked for or told.
    taken: Vec<bool>,
    /// Asked for and not told.
    open: usize,
    /// All points in a random order; those before `next` are taken.
    order: Vec<u32>,
    next: usize,
    rng: ChaCha8Rng,
}

impl Known {
    fn new(points: &Points, seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        // A space that could hold more points than this would not fit into memory.
        let mut order: Vec<u32> = (0..u32::try_from(points.len()).unwrap_or(u32::MAX)).collect();
        order.shuffle(&mut rng);
        Self { told: vec![None; points.len()], taken: vec![false; points.len()], open: 0, order, next: 0, rng }
    }

    /// Marks a point as asked for; false where it was before.
    fn take(&mut self, point: usize) -> bool {
        let free = !std::mem::replace(&mut self.taken[point], true);
        self.open += usize::from(free);
        free
    }

    /// A point that nobody has asked for, at random, and marks it.
    fn draw(&mut self) -> Option<usize> {
        while let Some(point) = self.order.get(self.next).map(|p| *p as usize) {
            self.next += 1;
            if self.take(point) {
                return Some(point);
            }
        }
        None
    }

    /// As [`Strategy::tell`].
    fn tell(&mut self, point: usize, time: Option<f64>) {
        if self.taken[point] && self.told[point].is_none() {
            self.open -= 1;
        }
        self.taken[point] = true;
        self.told[point] = Some(time);
    }

    /// The time of a point; infinite where it failed, `None` where it is not known yet.
    fn time(&self, point: usize) -> Option<f64> {
        self.told[point].map(|time| time.unwrap_or(f64::INFINITY))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use ff_spec::LaunchConfig;

    use super::*;

    /// 6 × 6 × 5 points, of which those with a·b > 400 are missing; a smooth valley with a side valley, and a corner that fails.
    fn landscape() -> (Points, Vec<Option<f64>>) {
        let mut configs = Vec::new();
        for a in [1, 2, 4, 8, 16, 32] {
            for b in [4, 8, 16, 32, 64, 128] {
                for c in [1, 2, 3, 4, 5] {
                    if a * b <= 400 {
                        configs.push(LaunchConfig::from([("a", a), ("b", b), ("c", c)]));
                    }
                }
            }
        }
        let points = Points::of(&configs).expect("alike");
        let times = points.iter().map(|config| {
            let [a, b, c] = ["a", "b", "c"].map(|name| f64::from(config.get(name).expect("set")));
            let main = (a.log2() - 2.0).powi(2) + (b.log2() - 5.0).powi(2) + (c - 4.0).powi(2);
            let side = 3.0 + (a.log2() - 4.0).powi(2) + (b.log2() - 3.0).powi(2) + (c - 1.0).powi(2);
            (a + c < 36.0).then_some(100.0 + 10.0 * main.min(side))
        });
        let times = times.collect();
        (points, times)
    }

    /// Asks in batches until it has `budget` answers or nothing is left; the points in the order in which they were asked for.
    fn search(kind: StrategyKind, seed: u64, batch: usize, budget: usize) -> Vec<usize> {
        let (points, times) = landscape();
        let costs: Vec<Option<f64>> = times.iter().map(|t| t.map(|t| t * t)).collect();
        let mut strategy = kind.start(&points, seed, Some(&costs)).expect("has costs");
        let mut asked = Vec::new();
        while asked.len() < budget {
            let batch = strategy.ask(&points, batch.min(budget - asked.len()));
            if batch.is_empty() {
                break;
            }
            batch.iter().for_each(|point| strategy.tell(&points, *point, times[*point]));
            asked.extend(batch);
        }
        asked
    }

    #[test]
    fn each_point_is_asked_for_once_and_in_the_end_all_are() {
        let (points, _) = landscape();
        for kind in StrategyKind::ALL {
            for batch in [1, 7] {
                let asked = search(kind, 3, batch, usize::MAX);
                assert_eq!(asked.iter().collect::<BTreeSet<_>>().len(), asked.len(), "{kind} asks twice");
                assert_eq!(asked.len(), points.len(), "{kind} by {batch} leaves points out");
                assert_eq!(asked, search(kind, 3, batch, usize::MAX), "{kind}: a seed decides everything");
            }
            let (one, other) = (search(kind, 3, 7, usize::MAX), search(kind, 4, 7, usize::MAX));
            assert_ne!(one, other, "{kind}: another seed, another order, if only among equal estimates");
        }
    }

    #[test]
    fn the_informed_beat_chance() {
        let (_, times) = landscape();
        let best = times.iter().flatten().copied().fold(f64::INFINITY, f64::min);
        // Evaluations until the best is found, the mean over seeds.
        let cost = |kind| {
            let until = (0..40).map(|seed| {
                let asked = search(kind, seed, 4, usize::MAX);
                asked.iter().position(|point| times[*point] == Some(best)).expect("all are tried") + 1
            });
            until.sum::<usize>() as f64 / 40.0
        };
        let chance = cost(StrategyKind::Random);
        for kind in [StrategyKind::Local, StrategyKind::Annealing, StrategyKind::Genetic, StrategyKind::Bayesian] {
            let found = cost(kind);
            assert!(found < 0.8 * chance, "{kind} takes {found} evaluations, chance {chance}");
        }
        assert_eq!(cost(StrategyKind::CostModel), 1.0, "the estimate has the same order");
    }

    #[test]
    fn what_is_told_unasked_is_not_asked_for() {
        let (points, times) = landscape();
        for kind in StrategyKind::ALL {
            let costs: Vec<Option<f64>> = times.clone();
            let mut strategy = kind.start(&points, 1, Some(&costs)).expect("has costs");
            (0..points.len() / 2).for_each(|point| strategy.tell(&points, point, times[point]));
            let mut asked = 0;
            loop {
                let batch = strategy.ask(&points, 5);
                assert!(batch.iter().all(|point| *point >= points.len() / 2), "{kind}");
                if batch.is_empty() {
                    break;
                }
                asked += batch.len();
                batch.iter().for_each(|point| strategy.tell(&points, *point, None));
            }
            assert_eq!(asked, points.len() - points.len() / 2, "{kind} gives up where all fails");
        }
    }

    #[test]
    fn one_point_and_none_are_spaces_too() {
        for configs in [vec![], vec![LaunchConfig::from([("a", 1)])]] {
            let points = Points::of(&configs).expect("alike");
            for kind in StrategyKind::ALL {
                let costs = vec![Some(1.0); points.len()];
                let mut strategy = kind.start(&points, 1, Some(&costs)).expect("has costs");
                assert_eq!(strategy.ask(&points, 3), (0..points.len()).collect::<Vec<_>>(), "{kind}");
                assert!(strategy.ask(&points, 3).is_empty(), "{kind}");
            }
        }
    }

    #[test]
    fn a_prefilter_keeps_the_cheap_and_the_unknown() {
        let (points, _) = landscape();
        let mut costs: Vec<Option<f64>> = (0..points.len()).map(|i| Some(i as f64)).collect();
        costs[points.len() - 1] = None;
        let kept = prefilter(&points, &costs, 0.25);
        assert_eq!(kept.iter().filter(|k| **k).count(), (points.len() - 1).div_ceil(4) + 1);
        assert!(kept[0] && kept[points.len() - 1] && !kept[points.len() - 2]);
        assert!(prefilter(&points, &vec![None; points.len()], 0.1).iter().all(|k| *k), "nothing is known of any");
        assert!(StrategyKind::CostModel.start(&points, 1, None).is_none());
    }

    #[test]
    fn names() {
        for kind in StrategyKind::ALL {
            assert_eq!(kind.to_string().parse(), Ok(kind));
        }
        let error = "bayesain".parse::<StrategyKind>().expect_err("a slip");
        assert!(error.contains("did you mean `bayesian`?") && error.contains("cost-model"), "{error}");
    }
}
