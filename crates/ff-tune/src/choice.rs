//! Which configuration a search ends with.

use ff_spec::LaunchConfig;

use crate::compare::{Difference, compare};
use crate::drift::Drift;
use crate::outcome::Scored;

/// A configuration of the finals.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    pub(crate) scored: Scored,
    /// The medians of its rounds, ns; empty where they are not known.
    pub(crate) blocks: Vec<f64>,
}

impl Candidate {
    /// Whether this is faster than another for real, as one of so many comparisons. Medians and rounds have to agree.
    fn beats(&self, other: &Candidate, comparisons: usize) -> bool {
        self.scored.timing.median_ns < other.scored.timing.median_ns && !self.ties(other, comparisons)
    }

    fn ties(&self, other: &Candidate, comparisons: usize) -> bool {
        if self.blocks.is_empty() || other.blocks.is_empty() {
            return self.scored.timing.ties(&other.scored.timing);
        }
        let faster = self.scored.timing.median_ns < other.scored.timing.median_ns;
        let expected = if faster { Difference::Faster } else { Difference::Slower };
        compare(&self.blocks, &other.blocks, comparisons) != expected
    }
}

/// The default where it passed, the chosen configuration, and what ties with that.
///
/// The fastest of those that beat the default, else the default: a difference that another run may turn round is no reason to
/// leave it. Without finals the screening decides, by the standard errors of medians from which drift has been taken.
pub(crate) fn choose(
    finals: Vec<Candidate>,
    screened: Vec<Scored>,
    default: &LaunchConfig,
    drift: &Drift,
) -> (Option<Scored>, Option<Scored>, Vec<Scored>) {
    let candidates = if finals.is_empty() {
        let corrected = screened.into_iter().map(|mut scored| {
            let factor = scored.timing.median_ns / drift.corrected(&scored.config, scored.timing.median_ns);
            scored.timing.median_ns /= factor;
            scored.timing.spread_ns /= factor;
            Candidate { scored, blocks: Vec::new() }
        });
        corrected.collect()
    } else {
        finals
    };
    let comparisons = candidates.len().saturating_sub(1).max(1);
    let anchor = candidates.iter().find(|c| c.scored.config == *default);
    let better = candidates.iter().filter(|c| anchor.is_none_or(|anchor| c.beats(anchor, comparisons)));
    let fastest = better.min_by(|a, b| a.scored.timing.median_ns.total_cmp(&b.scored.timing.median_ns));
    let best = fastest.or(anchor);
    let ties = candidates
        .iter()
        .filter(|c| best.is_some_and(|b| b.scored.config != c.scored.config && c.ties(b, comparisons)));
    let ties = ties.map(|c| c.scored.clone()).collect();
    (anchor.map(|a| a.scored.clone()), best.map(|b| b.scored.clone()), ties)
}

#[cfg(test)]
mod tests {
    use ff_spec::Dtype;
    use ff_tables::{Evidence, Pass, PassOf};

    use super::*;
    use crate::measure::Timing;

    fn candidate(number: u32, blocks: Vec<f64>) -> Candidate {
        let evidence = Evidence { rel_error: 1e-7, max_abs_error: 1e-6, cases: 3, seeds: vec![1, 2, 3] };
        let samples: Vec<u64> = blocks.iter().map(|ns| *ns as u64).collect();
        let timing = Timing::of(&samples).expect("samples");
        let config = LaunchConfig::from([("a", number)]);
        let of = PassOf { device: "host", kernel_hash: "kernel", config: &config, dtype: Dtype::F32, order: 0 };
        let pass = Pass::record(of, evidence, 1).expect("passes");
        Candidate { scored: Scored { config, timing, pass }, blocks }
    }

    #[test]
    fn the_default_stays_unless_something_beats_it() {
        let default = LaunchConfig::from([("a", 0)]);
        // In rounds: one is always faster by a little, one has a lower median and wins half of the rounds.
        let rounds = |times: [f64; 2]| (0..20).map(|i| times[i % 2]).collect::<Vec<f64>>();
        let anchor = candidate(0, rounds([1000.0, 1100.0]));
        let (always, wavering) = (candidate(1, rounds([990.0, 1090.0])), candidate(2, rounds([700.0, 1200.0])));
        let number = |scored: &Option<Scored>| scored.as_ref().and_then(|s| s.config.get("a"));
        let all = vec![anchor.clone(), always.clone(), wavering.clone()];
        let (found, best, ties) = choose(all, Vec::new(), &default, &Drift::default());
        assert_eq!((number(&found), number(&best)), (Some(0), Some(1)));
        assert_eq!(ties.iter().filter_map(|s| s.config.get("a")).collect::<Vec<_>>(), [2]);
        let (_, best, ties) = choose(vec![anchor, wavering.clone()], Vec::new(), &default, &Drift::default());
        assert_eq!((number(&best), ties.len()), (Some(0), 1));
        let (found, best, _) = choose(vec![always, wavering], Vec::new(), &default, &Drift::default());
        assert_eq!((number(&found), number(&best)), (None, Some(2)), "without a default the lowest median");
    }

    #[test]
    fn a_slow_batch_does_not_decide() {
        let default = LaunchConfig::from([("a", 0)]);
        let screened: Vec<Scored> =
            [(0, 1000.0), (1, 950.0), (2, 1600.0)].map(|(n, ns)| candidate(n, vec![ns; 9]).scored).to_vec();
        let mut drift = Drift::default();
        drift.begin(1000.0);
        drift.anchor(2000.0, [screened[2].config.clone()]);
        assert!(drift.note().is_some_and(|note| note.text.contains("1.00 to 2.00 times")));
        // 1,600 ns beside a default of 2,000 are 800 ns beside one of 1,000.
        let (_, best, _) = choose(Vec::new(), screened.clone(), &default, &drift);
        assert_eq!(best.map(|b| (b.config.clone(), b.timing.median_ns)), Some((screened[2].config.clone(), 800.0)));
        let (_, best, _) = choose(Vec::new(), screened.clone(), &default, &Drift::default());
        assert_eq!(best.map(|b| b.config), Some(screened[1].config.clone()));
        assert_eq!(Drift::default().note(), None);
    }
}
