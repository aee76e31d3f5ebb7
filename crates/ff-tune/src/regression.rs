//! When a kernel has become slower than it was.
//!
//! The unit is the process. Where its code and its tensors lie in memory makes a process faster or slower than another one of
//! the same binary for as long as it lives, so a thousand samples of one process are one observation. Each process
//! therefore comes down to one figure, and processes are compared:
//!
//! - *Paired*: a process of either binary at a time, which take turns. What the machine does meanwhile happens to both, so
//!   only their ratio is kept. Of two binaries that are alike either is as likely to have the faster process, whatever
//!   the noise: the bet of [`crate::compare`], which may be looked at after every pair.
//! - *Stored*: processes of an earlier session against processes of this one, by ranks (Mann and Whitney 1947), with the median
//!   of all ratios as the estimate (Hodges and Lehmann 1963). What the machine does differently today is not told
//!   apart from what the code does differently.
//!
//! Two mistakes can be made: to miss a slow-down and to see one where nothing has changed. A threshold at the slow-down that has to
//! be caught misses half of those that are exactly as large; so the estimate is held against a line half way there, at √(1 + p)
//! for a slow-down by p, from which both mistakes are as far away. Over the line *and* slower with confidence is a regression.

use std::cmp::Ordering;

use crate::compare::{Difference, FALSE_WINNERS, compare};
use crate::measure::median;

/// Pairs of processes from which a bet can be won.
pub const FEWEST_PAIRS: usize = 8;
/// Pairs after which the estimate decides: enough for processes that differ by 4 %.
pub const MOST_PAIRS: usize = 96;
/// The fewest processes on either side with which ranks can say anything.
pub const FEWEST_PROCESSES: usize = 4;

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rule {
    /// The slow-down that has to be caught: 0.05 for 5 %.
    pub fail_over: f64,
    /// How many kernels are compared: among all of them together, were none changed, one is called slower in 5 % of runs at
    /// most.
    pub comparisons: usize,
}

impl Rule {
    /// The ratio from which on an estimate is nearer to the slow-down than to no change.
    pub fn line(&self) -> f64 {
        (1.0 + self.fail_over).sqrt()
    }
}

/// What a comparison came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It is slower.
    Slower,
    /// It is not.
    NotSlower,
    /// It may be as slow as had to be caught and it may be unchanged: the machine is too noisy.
    Undecided,
}

/// New time over old time.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Change {
    /// The estimate.
    pub ratio: f64,
    /// From where, with 95 % confidence.
    pub low: f64,
    /// Up to where.
    pub high: f64,
    /// What that means.
    pub verdict: Verdict,
}

impl Change {
    fn new(ratio: f64, [low, high]: [f64; 2], slower: bool, rule: Rule) -> Self {
        let verdict = if slower && ratio > rule.line() {
            Verdict::Slower
        } else if low <= 1.0 && high >= 1.0 + rule.fail_over {
            Verdict::Undecided
        } else {
            Verdict::NotSlower
        };
        Self { ratio, low, high, verdict }
    }
}

/// Whether more pairs would not change what is said, or there are to be no more. `ratios` has new time over old of each pair
/// of processes.
pub fn settled(ratios: &[f64], rule: Rule) -> bool {
    let over_line = |comparisons| compare(ratios, &vec![rule.line(); ratios.len()], comparisons);
    ratios.len() >= MOST_PAIRS
        || over_line(rule.comparisons) == Difference::Slower
        || over_line(1) == Difference::Faster
}

/// Judges pairs of processes; `None` for no pairs.
pub fn paired(ratios: &[f64], rule: Rule) -> Option<Change> {
    let ratio = median(ratios.to_vec())?;
    let slower = compare(ratios, &vec![1.0; ratios.len()], rule.comparisons) == Difference::Slower;
    let mut sorted = ratios.to_vec();
    sorted.sort_by(f64::total_cmp);
    let n = sorted.len();
    // Of n ratios, a fair coin has as few as k below the median with this probability.
    let mut below = 0.5_f64.powi(n as i32);
    let (mut ways, mut k) = (below, 0);
    while below <= 0.025 && k < n / 2 {
        k += 1;
        ways *= (n + 1 - k) as f64 / k as f64;
        below += ways;
    }
    let interval = if k == 0 { [0.0, f64::INFINITY] } else { [sorted[k - 1], sorted[n - k]] };
    Some(Change::new(ratio, interval, slower, rule))
}

/// Judges processes of another session against processes of this one; `None` where there are too few on either side.
pub fn stored(old: &[f64], new: &[f64], rule: Rule) -> Option<Change> {
    if old.len().min(new.len()) < FEWEST_PROCESSES {
        return None;
    }
    let mut ratios: Vec<f64> = new.iter().flat_map(|new| old.iter().map(move |old| new / old)).collect();
    ratios.sort_by(f64::total_cmp);
    // How often a new process is slower than an old one; ties are halves.
    let wins = |ratio: &f64| match ratio.total_cmp(&1.0) {
        Ordering::Greater => 1.0,
        Ordering::Equal => 0.5,
        Ordering::Less => 0.0,
    };
    let u: f64 = ratios.iter().map(wins).sum();
    let at_most = rank_sums(old.len(), new.len());
    // As many losses or fewer.
    let slower = at_most[(ratios.len() as f64 - u).ceil() as usize] <= FALSE_WINNERS / rule.comparisons.max(1) as f64;
    let k = at_most.iter().take_while(|p| **p <= 0.025).count();
    let interval = if k == 0 { [0.0, f64::INFINITY] } else { [ratios[k - 1], ratios[ratios.len() - k]] };
    let ratio = median(ratios)?;
    Some(Change::new(ratio, interval, slower, rule))
}

/// P(U ≤ u) for u = 0, 1, …, m·n where all orders of m and n values are equally likely.
fn rank_sums(m: usize, n: usize) -> Vec<f64> {
    // Chosen from 1..=m + n, the excess of m ranks over the least possible sum: partitions into at most m parts up to n.
    let mut ways = vec![vec![0.0; m * n + 1]; m + 1];
    ways[0][0] = 1.0;
    for rank in 1..=m + n {
        for chosen in (1..=m.min(rank)).rev() {
            let excess = rank - chosen;
            if excess <= n {
                for u in (excess..=m * n).rev() {
                    let more = ways[chosen - 1][u - excess];
                    ways[chosen][u] += more;
                }
            }
        }
    }
    let all: f64 = ways[m].iter().sum();
    let mut sum = 0.0;
    let at_most = ways[m].iter().map(|ways| {
        sum += ways;
        sum / all
    });
    at_most.collect()
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    const RULE: Rule = Rule { fail_over: 0.05, comparisons: 1 };

    #[test]
    fn rank_sums_are_those_of_tables() {
        // Two and three values: 10 orders, of which U = 0, 1, …, 6 have 1, 1, 2, 2, 2, 1, 1.
        let expected = [0.1, 0.2, 0.4, 0.6, 0.8, 0.9, 1.0];
        for (m, n) in [(2, 3), (3, 2)] {
            let found = rank_sums(m, n);
            assert!(found.iter().zip(expected).all(|(f, e)| (f - e).abs() < 1e-12) && found.len() == 7, "{found:?}");
        }
        // Published critical values of U at 5 %, two-sided.
        for (m, n, critical) in [(4, 4, 0), (5, 5, 2), (8, 8, 13), (10, 10, 23), (12, 8, 22)] {
            let at_most = rank_sums(m, n);
            assert!(at_most[critical] <= 0.025 && at_most[critical + 1] > 0.025, "{m} and {n}: {at_most:?}");
        }
    }

    /// Ratios of pairs of processes on a machine where processes differ by `spread`, now and then by a lot.
    fn ratios(rng: &mut ChaCha8Rng, factor: f64, spread: f64) -> impl FnMut() -> f64 {
        let mut rng = ChaCha8Rng::seed_from_u64(rng.random());
        move || {
            let mut process = || {
                let (u, v): (f64, f64) = (rng.random(), rng.random());
                let normal = (-2.0 * (1.0 - u).ln()).sqrt() * (std::f64::consts::TAU * v).cos();
                let disturbed = if rng.random_ratio(1, 20) { rng.random::<f64>() } else { 0.0 };
                spread * normal + disturbed
            };
            factor * (process() - process()).exp()
        }
    }

    fn sequentially(mut next: impl FnMut() -> f64, rule: Rule) -> (Change, usize) {
        let mut found = Vec::new();
        while !settled(&found, rule) {
            found.push(next());
        }
        (paired(&found, rule).expect("pairs"), found.len())
    }

    /// Caught of 5 % slower, called slower of unchanged, as shares of many trials.
    fn rates(trial: impl Fn(&mut ChaCha8Rng, f64) -> Verdict) -> (f64, f64) {
        const TRIALS: usize = 1000;
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        let mut share = |factor: f64| {
            (0..TRIALS).filter(|_| trial(&mut rng, factor) == Verdict::Slower).count() as f64 / TRIALS as f64
        };
        (share(1.05), share(1.0))
    }

    #[test]
    fn pairs_catch_what_they_must_and_nothing_else() {
        for spread in [0.002, 0.01, 0.02, 0.04] {
            let (caught, false_alarms) = rates(|rng, factor| sequentially(ratios(rng, factor, spread), RULE).0.verdict);
            assert!(caught >= 0.95, "spread {spread}: {caught} caught");
            assert!(false_alarms <= 0.05, "spread {spread}: {false_alarms} false alarms");
        }
        // Where nothing can be told, nothing is claimed.
        let (_, false_alarms) = rates(|rng, factor| sequentially(ratios(rng, factor, 0.2), RULE).0.verdict);
        assert!(false_alarms <= 0.05, "{false_alarms}");
    }

    #[test]
    fn stored_processes_catch_what_they_must_and_nothing_else() {
        let trial = |rng: &mut ChaCha8Rng, factor: f64| {
            let mut session = |factor: f64| {
                let mut next = ratios(rng, factor, 0.01);
                (0..10).map(|_| next()).collect::<Vec<f64>>()
            };
            let (old, new) = (session(1.0), session(factor));
            stored(&old, &new, RULE).expect("enough").verdict
        };
        let (caught, false_alarms) = rates(trial);
        assert!(caught >= 0.95 && false_alarms <= 0.05, "{caught} caught, {false_alarms} false alarms");
    }

    #[test]
    fn what_is_clear_takes_the_fewest_pairs() {
        let clear = |ratio: f64| sequentially(|| ratio, RULE);
        let (slower, pairs) = clear(1.06);
        assert_eq!((slower.verdict, slower.ratio, pairs), (Verdict::Slower, 1.06, FEWEST_PAIRS));
        assert_eq!(clear(1.001).0.verdict, Verdict::NotSlower, "slower with confidence, and under the line");
        assert_eq!(clear(0.5), (Change { ratio: 0.5, low: 0.5, high: 0.5, verdict: Verdict::NotSlower }, FEWEST_PAIRS));
        let many = Rule { comparisons: 40, ..RULE };
        assert!(sequentially(|| 1.06, many).1 > FEWEST_PAIRS, "a claim among 40 needs more");
        assert_eq!(sequentially(|| 1.06, many).0.verdict, Verdict::Slower);
        assert_eq!(sequentially(|| 1.0, many), (paired(&[1.0; 8], RULE).expect("pairs"), FEWEST_PAIRS));
    }

    #[test]
    fn noise_is_said() {
        let mut side = false;
        let (change, pairs) = sequentially(
            || {
                side = !side;
                if side { 0.8 } else { 1.25 }
            },
            RULE,
        );
        assert_eq!((change.verdict, change.low, change.high, pairs), (Verdict::Undecided, 0.8, 1.25, MOST_PAIRS));
        assert_eq!(stored(&[1.0; 3], &[1.0; 9], RULE), None, "too few");
        let change = stored(&[1.0; 5], &[1.1; 5], RULE).expect("enough");
        assert_eq!(change.verdict, Verdict::Slower);
        assert_eq!(stored(&[1.0; 5], &[1.0; 5], RULE).map(|c| c.verdict), Some(Verdict::NotSlower));
    }

    #[test]
    fn intervals_are_those_of_order_statistics() {
        let ratios: Vec<f64> = (1..=12).map(f64::from).collect();
        let change = paired(&ratios, RULE).expect("pairs");
        // Of 12, the third least and the third greatest are a 95 % interval (96.1 %), the fourth are not (85.4 %).
        assert_eq!((change.ratio, change.low, change.high), (6.5, 3.0, 10.0));
        let few = paired(&ratios[..5], RULE).expect("pairs");
        assert_eq!((few.low, few.high), (0.0, f64::INFINITY), "five cannot give 95 %");
    }
}
