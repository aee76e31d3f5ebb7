//! Fair timing: contenders take turns, so that a warm processor, a busy neighbour or a changed clock meets all of them.

use std::time::{Duration, Instant};

use ff_spec::{FusedMessage, Launch, LaunchError, Op};
use serde::{Deserialize, Serialize};

use crate::verify::guarded;

/// How much is measured. One policy holds for a whole run.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// Runs before the first sample: compilation, caches, clocks.
    pub warmup: u32,
    /// Consecutive samples of one contender in a round, so that its own data is in cache for most of them.
    pub block: u32,
    /// A block ends early once it has taken this long.
    pub block_time: Duration,
    /// Contenders measured together, beside the default.
    pub batch: usize,
    /// Bytes that the tensors of all contenders measured together may take. Each holds its own, and two always may.
    pub memory: u64,
    /// Rounds of a first look.
    pub screen_rounds: u32,
    /// Rounds before the elimination factor applies in full; and the fewest from which a median is kept.
    pub min_rounds: u32,
    /// A contender is dropped when its *best* sample is above this factor times the best median of any contender (twice
    /// the factor before `min_rounds`). Its median can then hardly win; noise alone would have to slow every sample.
    pub eliminate: f64,
    /// The best of the screening that are measured again, beside the default.
    pub finalists: usize,
    /// Rounds of the finals. Nobody is eliminated there.
    pub final_rounds: u32,
    /// A single run that takes longer is a verdict of its own. It cannot be interrupted, only not repeated.
    pub timeout: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            warmup: 1,
            block: 3,
            block_time: Duration::from_millis(20),
            batch: 8,
            memory: 2 << 30,
            screen_rounds: 4,
            min_rounds: 2,
            eliminate: 1.5,
            finalists: 4,
            final_rounds: 12,
            timeout: Duration::from_secs(10),
        }
    }
}

/// What samples come to.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Timing {
    /// Median, ns.
    pub median_ns: f64,
    /// Median absolute deviation from the median, ns.
    pub spread_ns: f64,
    /// Number of samples.
    pub samples: u32,
}

impl Timing {
    /// The timing of samples in ns; `None` for no samples.
    pub fn of(samples_ns: &[u64]) -> Option<Self> {
        let median_ns = median(samples_ns.iter().map(|s| *s as f64).collect())?;
        let spread_ns = median(samples_ns.iter().map(|s| (*s as f64 - median_ns).abs()).collect())?;
        Some(Self { median_ns, spread_ns, samples: u32::try_from(samples_ns.len()).unwrap_or(u32::MAX) })
    }

    /// The standard error of the median, from the spread as for normal noise: 1.2533 σ/√n with σ = 1.4826 MAD.
    pub fn standard_error_ns(&self) -> f64 {
        1.2533 * 1.4826 * self.spread_ns / f64::from(self.samples.max(1)).sqrt()
    }

    /// Whether the difference of two medians is within twice its standard error: a difference that another run may well
    /// turn round.
    pub fn ties(&self, other: &Timing) -> bool {
        let noise = self.standard_error_ns().hypot(other.standard_error_ns());
        (self.median_ns - other.median_ns).abs() <= 2.0 * noise
    }
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        n if n % 2 == 1 => Some(values[middle]),
        _ => Some(0.5 * (values[middle - 1] + values[middle])),
    }
}

/// What became of a contender.
#[derive(Clone, Debug, PartialEq)]
pub enum Fate {
    /// Measured to the end.
    Standing,
    /// Too slow to win.
    Eliminated(String),
    /// One run took longer than [`Policy::timeout`].
    TimedOut(String),
    /// It failed while running.
    Failed(LaunchError),
}

/// A prepared launch that is being timed.
pub struct Contender<'a, O: Op = FusedMessage> {
    /// The launch.
    pub launch: &'a mut dyn Launch<O>,
    /// Never eliminated and never timed out: the default configuration, which everything is compared to.
    pub anchor: bool,
    /// All samples in the order in which they were taken.
    pub samples_ns: Vec<u64>,
    /// What became of it.
    pub fate: Fate,
}

impl<'a, O: Op> Contender<'a, O> {
    /// A contender without samples.
    pub fn new(launch: &'a mut dyn Launch<O>, anchor: bool) -> Self {
        Self { launch, anchor, samples_ns: Vec::new(), fate: Fate::Standing }
    }

    /// Takes a block of samples.
    fn block(&mut self, policy: &Policy, stop: &dyn Fn() -> bool) {
        let start = Instant::now();
        for _ in 0..policy.block.max(1) {
            if stop() {
                return;
            }
            match guarded(|| self.launch.time()) {
                Ok(time) => {
                    // A device clock may be coarse; a time of 0 would make ratios meaningless.
                    self.samples_ns.push(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX).max(1));
                    if time > policy.timeout && !self.anchor {
                        self.fate = Fate::TimedOut(format!("one run took {time:.1?}, allowed {:.1?}", policy.timeout));
                        return;
                    }
                }
                Err(error) => {
                    self.fate = Fate::Failed(error);
                    return;
                }
            }
            if start.elapsed() >= policy.block_time {
                return;
            }
        }
    }
}

/// When to end before all rounds are done.
pub struct Limits<'a> {
    /// Asked before every run; ends at once.
    pub stop: &'a dyn Fn() -> bool,
    /// Looked at after every round from [`Policy::min_rounds`] on.
    pub deadline: Option<Instant>,
}

/// Times contenders in turns, `rounds` times round. With `best_ns`, the best median known so far, the slow are eliminated.
///
/// Fates and samples are left in the contenders. Returns how many rounds were completed.
pub fn interleave<O: Op>(
    contenders: &mut [Contender<'_, O>],
    rounds: u32,
    best_ns: Option<f64>,
    policy: &Policy,
    limits: &Limits<'_>,
) -> u32 {
    for contender in contenders.iter_mut() {
        for _ in 0..policy.warmup {
            if (limits.stop)() {
                return 0;
            }
            if let Err(error) = guarded(|| contender.launch.run()) {
                contender.fate = Fate::Failed(error);
                break;
            }
        }
    }
    let count = contenders.len();
    for round in 1..=rounds {
        // Another one begins each round, so that nobody always follows the same predecessor's cache contents first.
        for turn in 0..count {
            let contender = &mut contenders[(turn + round as usize) % count];
            if contender.fate == Fate::Standing {
                contender.block(policy, limits.stop);
            }
            if (limits.stop)() {
                return round - 1;
            }
        }
        if let Some(best_ns) = best_ns {
            eliminate(contenders, round, best_ns, policy);
        }
        let late = limits.deadline.is_some_and(|deadline| Instant::now() >= deadline);
        let mut rivals = contenders.iter().filter(|c| !c.anchor).peekable();
        let alone = rivals.peek().is_some() && rivals.all(|c| c.fate != Fate::Standing);
        if alone || (late && round >= policy.min_rounds) {
            return round;
        }
    }
    rounds
}

fn eliminate<O: Op>(contenders: &mut [Contender<'_, O>], round: u32, best_ns: f64, policy: &Policy) {
    let factor = if round < policy.min_rounds { 2.0 * policy.eliminate } else { policy.eliminate };
    let medians = contenders.iter().filter(|c| c.fate == Fate::Standing).filter_map(|c| Timing::of(&c.samples_ns));
    let best_ns = medians.map(|t| t.median_ns).fold(best_ns, f64::min);
    for contender in contenders.iter_mut().filter(|c| !c.anchor && c.fate == Fate::Standing) {
        let Some(fastest) = contender.samples_ns.iter().min() else { continue };
        let ratio = *fastest as f64 / best_ns;
        if ratio > factor {
            contender.fate = Fate::Eliminated(format!(
                "best of {} samples is {ratio:.2} times the best median, allowed {factor}",
                contender.samples_ns.len()
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::FakeLaunch;

    const NEVER: Limits<'static> = Limits { stop: &|| false, deadline: None };

    #[test]
    fn median_and_spread() {
        assert_eq!(Timing::of(&[]), None);
        assert_eq!(Timing::of(&[5]), Some(Timing { median_ns: 5.0, spread_ns: 0.0, samples: 1 }));
        // Deviations from 3 are 2, 1, 0, 1, 97: one outlier moves neither.
        assert_eq!(Timing::of(&[1, 2, 3, 4, 100]), Some(Timing { median_ns: 3.0, spread_ns: 1.0, samples: 5 }));
        assert_eq!(Timing::of(&[1, 2, 3, 4]).map(|t| t.median_ns), Some(2.5));
    }

    #[test]
    fn ties_are_about_noise() {
        let timing = |median_ns, spread_ns, samples| Timing { median_ns, spread_ns, samples };
        assert!(timing(100.0, 5.0, 25).ties(&timing(103.0, 5.0, 25)));
        assert!(!timing(100.0, 5.0, 25).ties(&timing(110.0, 5.0, 25)));
        assert!(!timing(100.0, 5.0, 2500).ties(&timing(103.0, 5.0, 2500)));
        assert!(timing(100.0, 0.0, 3).ties(&timing(100.0, 0.0, 3)));
    }

    #[test]
    fn the_slow_are_dropped_and_the_anchor_stays() {
        let policy = Policy { block: 2, ..Policy::default() };
        let (mut anchor, mut fast, mut slow, mut slower) =
            (FakeLaunch::timed(3000), FakeLaunch::timed(1000), FakeLaunch::timed(1600), FakeLaunch::timed(4000));
        let mut contenders = [
            Contender::new(&mut anchor, true),
            Contender::new(&mut fast, false),
            Contender::new(&mut slow, false),
            Contender::new(&mut slower, false),
        ];
        assert_eq!(interleave(&mut contenders, 4, Some(3000.0), &policy, &NEVER), 4);
        let counts: Vec<usize> = contenders.iter().map(|c| c.samples_ns.len()).collect();
        assert_eq!(counts, [8, 8, 4, 2], "1.6 × falls after two rounds, 4 × after one");
        assert_eq!((&contenders[0].fate, &contenders[1].fate), (&Fate::Standing, &Fate::Standing));
        assert!(matches!(contenders[2].fate, Fate::Eliminated(_)));
    }

    #[test]
    fn faults_and_timeouts_cost_their_own_row() {
        let policy = Policy { timeout: Duration::from_nanos(5000), ..Policy::default() };
        let (mut fine, mut endless, mut faulty) =
            (FakeLaunch::timed(10), FakeLaunch::timed(6000), FakeLaunch::faulty(4));
        let mut contenders =
            [&mut fine, &mut endless, &mut faulty].map(|l| Contender::new(l as &mut dyn Launch, false));
        interleave(&mut contenders, 4, None, &policy, &NEVER);
        assert_eq!((contenders[0].samples_ns.len(), contenders[1].samples_ns.len()), (12, 1));
        assert!(matches!(contenders[1].fate, Fate::TimedOut(_)));
        assert!(matches!(contenders[2].fate, Fate::Failed(_)));
    }

    #[test]
    fn a_deadline_ends_after_a_round_and_a_stop_at_once() {
        let policy = Policy { block: 1, ..Policy::default() };
        let mut launch = FakeLaunch::timed(10);
        let mut contenders = [Contender::new(&mut launch, false)];
        let limits = Limits { stop: &|| false, deadline: Some(Instant::now()) };
        assert_eq!(interleave(&mut contenders, 9, None, &policy, &limits), policy.min_rounds);
        let limits = Limits { stop: &|| true, deadline: None };
        assert_eq!(interleave(&mut contenders, 9, None, &policy, &limits), 0);
    }
}
