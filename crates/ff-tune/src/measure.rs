//! Fair timing: contenders take turns, so that a warm processor, a busy neighbour or a changed clock meets all of them.

use std::time::{Duration, Instant};

use ff_spec::{Launch, Op};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::compare::{block_medians, decided};
use crate::records::Verdict;
use crate::verify::guarded;
use crate::workbench::Failure;

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
    /// the factor before `min_rounds`), and when it is above the median of the last that would be among the finalists. Its median
    /// can then hardly win; noise alone would have to slow every sample. After all rounds the median itself is compared with
    /// that, by which finalists are taken.
    pub eliminate: f64,
    /// Whether the slow are dropped at all.
    pub eliminates: bool,
    /// The best of the screening that are measured again, beside the default.
    pub finalists: usize,
    /// The fewest rounds of the finals. Nobody is eliminated there.
    pub final_rounds: u32,
    /// The most: what has not been told apart by then is a tie.
    pub most_final_rounds: u32,
    /// A single run that takes longer is a verdict of its own. In this process it cannot be interrupted, only not repeated; in
    /// a process of its own it ends with that. The default has ten times as long.
    pub timeout: Duration,
    /// How long a launch may take to be prepared, and on a device its first run, which compiles, in a process of its own.
    pub compile_timeout: Duration,
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
            eliminates: true,
            finalists: 4,
            final_rounds: 12,
            most_final_rounds: 36,
            timeout: Duration::from_secs(10),
            compile_timeout: Duration::from_secs(60),
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

/// The median; `None` of nothing.
pub fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        n if n % 2 == 1 => Some(values[middle]),
        _ => Some(0.5 * (values[middle - 1] + values[middle])),
    }
}

/// A prepared launch that is being timed.
pub struct Contender<'a, O: Op> {
    /// The launch.
    pub launch: &'a mut dyn Launch<O>,
    /// Never eliminated and never timed out: the default configuration, which everything is compared to.
    pub anchor: bool,
    /// All samples in the order in which they were taken.
    pub samples_ns: Vec<u64>,
    /// How many of them each round has.
    pub blocks: Vec<u32>,
    /// Whether it needs no warm-up: where a run takes longer than a block, every sample follows another contender's.
    pub warm: bool,
    /// What warm-up and samples took on the clock.
    pub took: Duration,
    /// Why it is measured no further; `None` of one that stands.
    pub failure: Option<Failure>,
}

impl<'a, O: Op> Contender<'a, O> {
    /// A contender without samples.
    pub fn new(launch: &'a mut dyn Launch<O>, anchor: bool) -> Self {
        let (samples_ns, blocks) = (Vec::new(), Vec::new());
        Self { launch, anchor, samples_ns, blocks, warm: false, took: Duration::ZERO, failure: None }
    }

    /// Takes a block of samples.
    fn block(&mut self, policy: &Policy, stop: &dyn Fn() -> bool) {
        let (begin, before) = (Instant::now(), self.samples_ns.len());
        self.samples(policy, stop);
        self.took += begin.elapsed();
        self.blocks.push(u32::try_from(self.samples_ns.len() - before).unwrap_or(u32::MAX));
    }

    fn samples(&mut self, policy: &Policy, stop: &dyn Fn() -> bool) {
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
                        let reason = format!("one run took {time:.1?}, allowed {:.1?}", policy.timeout);
                        self.failure = Some(Failure::new(Verdict::Timeout, reason));
                        return;
                    }
                }
                Err(error) => {
                    self.failure = Some(error.into());
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

/// What is known of times before a batch is measured.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Mark {
    /// The best medians so far without the default's, as many as there are [`Policy::finalists`], ascending, ns.
    pub leaders_ns: Vec<f64>,
    /// The best median so far, the default's too, ns; `None` where there is none.
    pub best_ns: Option<f64>,
    /// What the default took when the machine was as fast as in that best, ns. If the default takes longer now, so would
    /// the best.
    pub anchor_ns: Option<f64>,
}

/// Times contenders in turns, [`Policy::screen_rounds`] times round; the slow are eliminated.
///
/// Failures and samples are left in the contenders. Returns how many rounds were completed.
pub fn screen<O: Op>(contenders: &mut [Contender<'_, O>], mark: &Mark, policy: &Policy, limits: &Limits<'_>) -> u32 {
    let rounds = interleave(contenders, policy.screen_rounds, policy, limits, &mut |contenders, round| {
        let look = if round < policy.min_rounds { Look::Early } else { Look::Middle };
        eliminate(contenders, look, mark, policy);
        let mut rivals = contenders.iter().filter(|c| !c.anchor).peekable();
        rivals.peek().is_some() && rivals.all(|c| c.failure.is_some())
    });
    if rounds >= policy.min_rounds {
        eliminate(contenders, Look::Last, mark, policy);
    }
    rounds
}

/// Times contenders in turns until the fastest is told apart from all others ([`crate::compare`]), or the rounds end.
///
/// Failures and samples are left in the contenders. Returns how many rounds were completed.
pub fn finals<O: Op>(contenders: &mut [Contender<'_, O>], policy: &Policy, limits: &Limits<'_>) -> u32 {
    interleave(
        contenders,
        policy.most_final_rounds.max(policy.final_rounds),
        policy,
        limits,
        &mut |contenders, round| {
            let standing = || contenders.iter().filter(|c| c.failure.is_none());
            let anchored = standing().next().is_some_and(|c| c.anchor);
            let blocks: Vec<Vec<f64>> = standing().map(|c| block_medians(&c.samples_ns, &c.blocks)).collect();
            decided(&blocks, anchored, round, policy)
        },
    )
}

/// Times contenders in turns, at most `rounds` times round, until `done` is true after one.
fn interleave<O: Op>(
    contenders: &mut [Contender<'_, O>],
    rounds: u32,
    policy: &Policy,
    limits: &Limits<'_>,
    done: &mut dyn FnMut(&mut [Contender<'_, O>], u32) -> bool,
) -> u32 {
    for contender in contenders.iter_mut() {
        let begin = Instant::now();
        for _ in 0..if contender.warm { 0 } else { policy.warmup } {
            if (limits.stop)() {
                return 0;
            }
            if let Err(error) = guarded(|| contender.launch.run()) {
                contender.failure = Some(error.into());
                break;
            }
        }
        contender.took += begin.elapsed();
    }
    // Each round has an order of its own, drawn beforehand: nobody always follows the same predecessor's cache contents, and
    // a machine that slows down steadily is fair to all.
    let mut order: Vec<usize> = (0..contenders.len()).collect();
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    for round in 1..=rounds {
        order.shuffle(&mut rng);
        for turn in &order {
            let contender = &mut contenders[*turn];
            if contender.failure.is_none() {
                contender.block(policy, limits.stop);
            }
            if (limits.stop)() {
                return round - 1;
            }
        }
        let late = limits.deadline.is_some_and(|deadline| Instant::now() >= deadline);
        if done(contenders, round) || (late && round >= policy.min_rounds) {
            return round;
        }
    }
    rounds
}

/// When in a screening contenders are looked at.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Look {
    /// Before there are enough rounds to trust a sample.
    Early,
    /// While there are more to come.
    Middle,
    /// After all of them.
    Last,
}

/// Drops what is far from the best, and what cannot be among the finalists: its *best* sample is above the median of the last of
/// those, or after all rounds its median is, by which finalists are taken.
fn eliminate<O: Op>(contenders: &mut [Contender<'_, O>], look: Look, mark: &Mark, policy: &Policy) {
    /// How far above the last finalist a first sample may be.
    const EARLY: f64 = 1.15;
    if !policy.eliminates {
        return;
    }
    let factor = if look == Look::Early { 2.0 * policy.eliminate } else { policy.eliminate };
    // If the machine is slower now than when the best was measured, so is the best.
    let anchor = contenders.iter().find(|c| c.anchor).and_then(|c| Timing::of(&c.samples_ns));
    let drift = anchor.zip(mark.anchor_ns).map_or(1.0, |(now, then)| now.median_ns / then).max(1.0);
    let standing = || contenders.iter().filter(|c| c.failure.is_none());
    let median = |c: &Contender<'_, O>| Timing::of(&c.samples_ns).map(|t| t.median_ns);
    let best_ns = standing().filter_map(median).fold(mark.best_ns.unwrap_or(f64::INFINITY) * drift, f64::min);
    let mut leaders: Vec<f64> = mark.leaders_ns.iter().map(|ns| ns * drift).collect();
    leaders.extend(standing().filter(|c| !c.anchor).filter_map(median));
    leaders.sort_by(f64::total_cmp);
    let last = policy.finalists.checked_sub(1).and_then(|last| leaders.get(last)).copied();
    let last = last.map(|last| if look == Look::Early { EARLY * last } else { last });
    for contender in contenders.iter_mut().filter(|c| !c.anchor && c.failure.is_none()) {
        let Some(timing) = Timing::of(&contender.samples_ns) else { continue };
        let fastest = contender.samples_ns.iter().min().map_or(timing.median_ns, |ns| *ns as f64);
        let (ratio, samples) = (fastest / best_ns, timing.samples);
        if ratio > factor {
            let reason = format!("best of {samples} samples is {ratio:.2} times the best median, allowed {factor}");
            contender.failure = Some(Failure::new(Verdict::Eliminated, reason));
            continue;
        }
        let (what, found) = match look {
            Look::Early | Look::Middle => ("best", fastest),
            Look::Last => ("median", timing.median_ns),
        };
        if let Some(last) = last.filter(|last| found > *last) {
            let (ratio, finalists) = (found / last, policy.finalists);
            let reason = format!(
                "{what} of {samples} samples is {ratio:.3} times what the last of {finalists} finalists may take"
            );
            contender.failure = Some(Failure::new(Verdict::Eliminated, reason));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::FakeLaunch;

    /// What came of a contender that is measured no further.
    fn verdict<O: Op>(contender: &Contender<'_, O>) -> Option<Verdict> {
        contender.failure.as_ref().map(|failure| failure.verdict)
    }

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
        let mark = Mark { best_ns: Some(3000.0), ..Mark::default() };
        assert_eq!(screen(&mut contenders, &mark, &policy, &NEVER), 4);
        let counts: Vec<usize> = contenders.iter().map(|c| c.samples_ns.len()).collect();
        assert_eq!(counts, [8, 8, 4, 2], "1.6 × falls after two rounds, 4 × after one");
        assert_eq!((verdict(&contenders[0]), verdict(&contenders[1])), (None, None));
        assert_eq!(verdict(&contenders[2]), Some(Verdict::Eliminated));
    }

    #[test]
    fn faults_and_timeouts_cost_their_own_row() {
        let policy = Policy { timeout: Duration::from_nanos(5000), ..Policy::default() };
        let (mut fine, mut endless, mut faulty) =
            (FakeLaunch::timed(10), FakeLaunch::timed(6000), FakeLaunch::faulty(4));
        let mut contenders =
            [&mut fine, &mut endless, &mut faulty].map(|l| Contender::new(l as &mut dyn Launch, false));
        screen(&mut contenders, &Mark::default(), &policy, &NEVER);
        assert_eq!((contenders[0].samples_ns.len(), contenders[1].samples_ns.len()), (12, 1));
        assert_eq!((&contenders[0].blocks, &contenders[1].blocks), (&vec![3; 4], &vec![1]));
        assert_eq!(verdict(&contenders[1]), Some(Verdict::Timeout));
        assert_eq!(verdict(&contenders[2]), Some(Verdict::Runtime));
    }

    #[test]
    fn a_deadline_ends_after_a_round_and_a_stop_at_once() {
        let policy = Policy { block: 1, ..Policy::default() };
        let mut launch = FakeLaunch::timed(10);
        let mut contenders = [Contender::new(&mut launch, false)];
        let limits = Limits { stop: &|| false, deadline: Some(Instant::now()) };
        assert_eq!(finals(&mut contenders, &policy, &limits), policy.min_rounds);
        let limits = Limits { stop: &|| true, deadline: None };
        assert_eq!(finals(&mut contenders, &policy, &limits), 0);
    }

    #[test]
    fn a_slower_machine_eliminates_nobody() {
        // Everything takes twice as long as when the best was measured.
        let (mut anchor, mut rival) = (FakeLaunch::timed(2000), FakeLaunch::timed(1600));
        let mut contenders = [Contender::new(&mut anchor, true), Contender::new(&mut rival, false)];
        let mark = Mark { best_ns: Some(700.0), anchor_ns: Some(1000.0), ..Mark::default() };
        screen(&mut contenders, &mark, &Policy::default(), &NEVER);
        assert_eq!(verdict(&contenders[1]), None);
        let (mut anchor, mut rival) = (FakeLaunch::timed(2000), FakeLaunch::timed(1600));
        let mut contenders = [Contender::new(&mut anchor, true), Contender::new(&mut rival, false)];
        screen(&mut contenders, &Mark { anchor_ns: None, ..mark }, &Policy::default(), &NEVER);
        assert_eq!(verdict(&contenders[1]), Some(Verdict::Eliminated), "which is what would happen otherwise");
    }

    #[test]
    fn what_cannot_be_a_finalist_is_dropped() {
        let policy = Policy { finalists: 2, ..Policy::default() };
        let mut launches = [1000, 1010, 1020, 1100].map(FakeLaunch::timed);
        let run = |launches: &mut [FakeLaunch], mark: &Mark, policy: &Policy| {
            let mut contenders: Vec<_> =
                launches.iter_mut().map(|l| Contender::new(l as &mut dyn Launch, false)).collect();
            screen(&mut contenders, mark, policy, &NEVER);
            contenders.iter().map(|c| verdict(c).is_none()).collect::<Vec<bool>>()
        };
        assert_eq!(run(&mut launches, &Mark::default(), &policy), [true, true, false, false]);
        // Those of earlier batches count.
        let mark = Mark { leaders_ns: vec![900.0, 1005.0], ..Mark::default() };
        assert_eq!(run(&mut launches, &mark, &policy), [true, false, false, false]);
        let all = Policy { eliminates: false, ..policy };
        assert_eq!(run(&mut launches, &mark, &all), [true; 4]);
    }
}
