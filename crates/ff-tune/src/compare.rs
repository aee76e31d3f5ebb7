//! When a difference between two times is real.
//!
//! Contenders of the finals take turns, so each round holds a block of every one, next to each other and in an order that is
//! drawn anew. Of two that are alike, either is as likely to have the lower block median in a round, whatever the noise
//! looks like, however it wanders from round to round and whether the machine slows down all the while. So the signs of the rounds are a fair coin, and the test is a bet against it: staked on
//! every bias alike, a capital of 1 becomes 2ⁿ / ((n + 1)·C(n, k)) after k of n rounds. Against a fair coin it reaches c at
//! any time with probability 1/c at most (Ville's inequality), so it may be looked at after every round.
//!
//! A difference is called real where the capital has reached the number of comparisons over [`FALSE_WINNERS`]: of identical
//! contenders a winner is declared in at most that share of finals, among all rivals of the default together. What has not
//! got there by the last round is a tie.
//!
//! No sample is dropped as an outlier. Medians and signs do not follow a few of them, and all of them are in the records.

use std::cmp::Ordering;

use crate::measure::{Policy, median};

/// The share of finals in which a winner may be declared among identical contenders.
pub const FALSE_WINNERS: f64 = 0.05;

/// What comparing one contender with another came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Difference {
    /// The first is faster.
    Faster,
    /// It is slower.
    Slower,
    /// They could not be told apart.
    Tie,
}

/// The medians of the blocks that samples were taken in.
pub fn block_medians(samples_ns: &[u64], blocks: &[u32]) -> Vec<f64> {
    let mut rest = samples_ns;
    let medians = blocks.iter().filter_map(|count| {
        let (block, after) = rest.split_at((*count as usize).min(rest.len()));
        rest = after;
        median(block.iter().map(|ns| *ns as f64).collect())
    });
    medians.collect()
}

/// Compares two contenders by their block medians, round by round, as one of so many comparisons.
pub fn compare(one: &[f64], other: &[f64], comparisons: usize) -> Difference {
    let wanted = needed(comparisons);
    let (mut wins, mut rounds) = (0, 0);
    for (one, other) in one.iter().zip(other) {
        // Equal times, as a coarse clock gives them, say nothing.
        match one.total_cmp(other) {
            Ordering::Less => wins += 1,
            Ordering::Greater => {}
            Ordering::Equal => continue,
        }
        rounds += 1;
        if log_capital(wins, rounds) >= wanted {
            return if 2 * wins > rounds { Difference::Faster } else { Difference::Slower };
        }
    }
    Difference::Tie
}

/// Whether further rounds, `left` of them, can still make a difference real.
pub(crate) fn may_differ(one: &[f64], other: &[f64], left: usize, comparisons: usize) -> bool {
    let wins = one.iter().zip(other).filter(|(one, other)| one < other).count();
    let rounds = one.iter().zip(other).filter(|(one, other)| one != other).count();
    let most = log_capital(wins + left, rounds + left).max(log_capital(wins, rounds + left));
    most >= needed(comparisons)
}

/// Whether the finals have said what they can: the fastest is told apart from everything else, or cannot be any more.
/// `blocks` are the block medians of all contenders that stand, the first of them the default's where `anchored`.
pub(crate) fn decided(blocks: &[Vec<f64>], anchored: bool, round: u32, policy: &Policy) -> bool {
    if round < policy.final_rounds {
        return false;
    }
    let left = policy.most_final_rounds.saturating_sub(round) as usize;
    let comparisons = blocks.len().saturating_sub(1).max(1);
    let open = |one: &[f64], other: &[f64]| {
        compare(one, other, comparisons) == Difference::Tie && may_differ(one, other, left, comparisons)
    };
    let pooled = blocks.iter().map(|medians| median(medians.clone()).unwrap_or(f64::INFINITY));
    let Some((fastest, _)) = pooled.enumerate().min_by(|a, b| a.1.total_cmp(&b.1)) else { return true };
    let from_fastest = blocks.iter().enumerate().any(|(i, other)| i != fastest && open(&blocks[fastest], other));
    let from_default = anchored && blocks[1..].iter().any(|rival| open(rival, &blocks[0]));
    !(from_fastest || from_default)
}

/// The logarithm of the capital that makes a difference real.
fn needed(comparisons: usize) -> f64 {
    (comparisons.max(1) as f64 / FALSE_WINNERS).ln()
}

/// ln 2ⁿ/((n + 1)·C(n, k)).
fn log_capital(k: usize, n: usize) -> f64 {
    let ways: f64 = (1..=k.min(n - k)).map(|i| ((n - i + 1) as f64 / i as f64).ln()).sum();
    n as f64 * std::f64::consts::LN_2 - ((n + 1) as f64).ln() - ways
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;
    use std::time::Duration;

    use ff_spec::fused_message::Outputs;
    use ff_spec::{FusedMessage, Launch, LaunchError};
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::measure::{Contender, Limits, finals};

    /// A machine whose speed wanders: what its neighbours do, its clock, and rare long pauses. All contenders live on it.
    struct Machine {
        rng: ChaCha8Rng,
        /// Its slowness now, as a logarithm.
        mood: f64,
        noise: f64,
        /// By how much it slows down from sample to sample.
        trend: f64,
    }

    impl Machine {
        fn normal(&mut self) -> f64 {
            let (u, v): (f64, f64) = (self.rng.random(), self.rng.random());
            (-2.0 * (1.0 - u).ln()).sqrt() * (std::f64::consts::TAU * v).cos()
        }

        fn time(&mut self, ns: f64) -> u64 {
            self.mood = 0.98 * self.mood + self.trend + self.noise * self.normal();
            // Skewed, as times are: nothing runs faster than it can.
            let jitter = self.noise * self.normal().abs();
            let pause = if self.rng.random_ratio(1, 40) { self.rng.random::<f64>() * 3.0 } else { 0.0 };
            (ns * (self.mood + jitter + pause).exp()) as u64
        }
    }

    struct Noisy {
        machine: Rc<RefCell<Machine>>,
        ns: f64,
    }

    impl Launch for Noisy {
        fn poison(&mut self) -> Result<(), LaunchError> {
            Ok(())
        }

        fn run(&mut self) -> Result<(), LaunchError> {
            Ok(())
        }

        fn time(&mut self) -> Result<Duration, LaunchError> {
            Ok(Duration::from_nanos(self.machine.borrow_mut().time(self.ns)))
        }

        fn outputs(&mut self) -> Result<Outputs<f64>, LaunchError> {
            Ok(Outputs { nodes: Vec::new(), vectors: Vec::new() })
        }

        fn input_digest(&mut self) -> Result<u64, LaunchError> {
            Ok(0)
        }
    }

    /// Finals of a default that takes 1 ms and of rivals; which of them are declared faster, and the rounds that took.
    fn declared(seed: u64, rivals: &[f64], noise: f64, trend: f64) -> (Vec<usize>, usize) {
        let machine = Machine { rng: ChaCha8Rng::seed_from_u64(seed), mood: 0.0, noise, trend };
        let machine = Rc::new(RefCell::new(machine));
        let times = std::iter::once(1e6).chain(rivals.iter().map(|factor| factor * 1e6));
        let mut launches: Vec<Noisy> = times.map(|ns| Noisy { machine: Rc::clone(&machine), ns }).collect();
        let mut contenders: Vec<Contender<'_, FusedMessage>> =
            launches.iter_mut().enumerate().map(|(i, launch)| Contender::new(launch, i == 0)).collect();
        let limits = Limits { stop: &|| false, deadline: None };
        finals(&mut contenders, &Policy::default(), &limits);
        let blocks: Vec<Vec<f64>> = contenders.iter().map(|c| block_medians(&c.samples_ns, &c.blocks)).collect();
        let faster = (1..blocks.len()).filter(|i| compare(&blocks[*i], &blocks[0], rivals.len()) == Difference::Faster);
        (faster.collect(), blocks[0].len())
    }

    /// Of identical contenders, whatever the noise, and however often it is looked at.
    #[test]
    fn identical_contenders_seldom_have_a_winner() {
        const TRIALS: u64 = 2000;
        for (noise, trend) in [(0.002, 0.0), (0.02, 0.0), (0.2, 0.0), (0.002, 0.001), (0.0, 0.001)] {
            for rivals in [1, 4] {
                let found =
                    (0..TRIALS).filter(|seed| !declared(*seed, &vec![1.0; rivals], noise, trend).0.is_empty()).count();
                let share = found as f64 / TRIALS as f64;
                assert!(share <= FALSE_WINNERS, "{rivals} rivals at noise {noise}, trend {trend}: a winner in {share}");
            }
        }
    }

    /// A test that never finds anything would pass the one above.
    #[test]
    fn real_differences_are_found() {
        let share = |factor: f64, noise: f64| {
            let found = (0..300).filter(|seed| declared(*seed, &[1.0, factor, 1.0], noise, 0.0).0 == [2]).count();
            found as f64 / 300.0
        };
        assert!(share(0.9, 0.02) > 0.95, "ten percent at two percent of noise: {}", share(0.9, 0.02));
        assert!(share(0.97, 0.005) > 0.9, "three at a half: {}", share(0.97, 0.005));
        let rounds = declared(1, &[0.5], 0.02, 0.0).1;
        assert_eq!(rounds, Policy::default().final_rounds as usize, "what is clear takes no longer than it must");
        let rounds = declared(1, &[1.0], 0.02, 0.0).1;
        assert!(rounds > Policy::default().final_rounds as usize, "what is not takes {rounds} rounds");
    }

    #[test]
    fn the_capital_is_a_bet() {
        assert_eq!(log_capital(0, 0), 0.0);
        // The mean over a fair coin stays 1, so that nothing is won by waiting.
        for n in [1_usize, 5, 12] {
            let mean: f64 = (0..=n)
                .map(|k| {
                    let ways: f64 = (1..=k).map(|i| (n - i + 1) as f64 / i as f64).product();
                    ways / 2_f64.powi(n as i32) * log_capital(k, n).exp()
                })
                .sum();
            assert!((mean - 1.0).abs() < 1e-12, "{mean} after {n}");
        }
        let (low, high) = (vec![1.0; 12], vec![2.0; 12]);
        // Eight rounds are enough for one comparison, ten for four: 2⁸/9 > 20, 2¹⁰/11 > 80.
        assert_eq!((compare(&low[..7], &high, 1), compare(&low[..8], &high, 1)), (Difference::Tie, Difference::Faster));
        assert_eq!(
            (compare(&low[..9], &high, 4), compare(&high[..10], &low, 4)),
            (Difference::Tie, Difference::Slower)
        );
        assert_eq!(compare(&low, &low, 1), Difference::Tie);
        assert!(may_differ(&low[..4], &high, 4, 1) && !may_differ(&low[..4], &high, 3, 1));
    }

    #[test]
    fn blocks_are_where_they_were_taken() {
        assert_eq!(block_medians(&[5, 1, 9, 4, 2, 2], &[3, 1, 2]), [5.0, 4.0, 2.0]);
        assert_eq!(block_medians(&[5, 1], &[3, 1]), [3.0], "a file may say anything");
        assert!(block_medians(&[5, 1], &[]).is_empty());
    }
}
