//! One search over several processes or machines.

use std::collections::HashMap;
use std::path::PathBuf;
use std::str::FromStr;

use ff_spec::kernel_name;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use crate::recorded::Recorded;
use crate::records::{Record, Stage};

/// Share `index` of `count`. All shares together are everything, and no two have anything in common, as long as they are
/// asked for the same things.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    index: usize,
    count: usize,
}

impl Shard {
    /// Whether whole tasks are dealt out, as they are where there is at least one for each share; else configurations of every
    /// task are.
    pub fn deals_tasks(self, tasks: usize) -> bool {
        tasks >= self.count
    }

    /// Whether the task with this number is in this share.
    pub fn has(self, task: usize) -> bool {
        task % self.count == self.index
    }

    /// Which of so many points are in this share. They are spread by chance, the same everywhere, since neighbours on the grid
    /// are alike.
    pub(crate) fn of_points(self, points: usize) -> Vec<bool> {
        let mut order: Vec<usize> = (0..points).collect();
        order.shuffle(&mut ChaCha8Rng::seed_from_u64(0));
        let mut mine = vec![false; points];
        order.into_iter().skip(self.index).step_by(self.count).for_each(|point| mine[point] = true);
        mine
    }
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once('/').and_then(|(i, n)| Some((i.parse().ok()?, n.parse().ok()?)));
        let shard = parts.map(|(index, count)| Self { index, count }).filter(|shard| shard.index < shard.count);
        shard.ok_or_else(|| format!("`{text}`, expected a share such as `0/4`, counted from 0 to 3"))
    }
}

/// Two files that hold a measurement of the same thing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{} and {} both claim {what}, expected shards without overlap", first.display(), second.display())]
pub struct Overlap {
    /// Variant, dtype, problem, configuration.
    pub what: String,
    /// One file.
    pub first: PathBuf,
    /// The other.
    pub second: PathBuf,
}

/// All records of several files, in their order, without those that two of them have alike. The default configuration is
/// measured in every share and may be in all of them.
///
/// # Errors
/// [`Overlap`] where two files hold different measurements of one configuration.
pub fn merge(files: &[(PathBuf, Vec<Record>)]) -> Result<Vec<Record>, Overlap> {
    let mut merged: Vec<Record> = Vec::new();
    let mut owners: HashMap<(String, Stage), (usize, Vec<usize>)> = HashMap::new();
    for (place, (path, records)) in files.iter().enumerate() {
        let searches = Recorded::of(records);
        for record in records {
            let (owner, held) = owners.entry((record.identity(), record.stage)).or_insert((place, Vec::new()));
            if *owner != place {
                if held.iter().any(|index| merged[*index] == *record) {
                    continue;
                }
                let of = |s: &Recorded| (&s.variant, s.order) == (&record.variant, record.order);
                let default = searches.iter().any(|s| of(s) && s.default == record.config);
                if !default {
                    let Record { variant, order, dtype, problem, config, .. } = record;
                    let what = format!("{} {dtype} on `{}` with {config}", kernel_name(variant, *order), problem.name);
                    return Err(Overlap { what, first: files[*owner].0.clone(), second: path.clone() });
                }
            }
            held.push(merged.len());
            merged.push(record.clone());
        }
    }
    Ok(merged)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::Verdict;
    use crate::testing::record;

    #[test]
    fn shares_are_everything_and_have_nothing_in_common() {
        for (points, count) in [(1, 1), (7, 3), (100, 7), (3, 5), (0, 2)] {
            let shares: Vec<Vec<bool>> = (0..count)
                .map(|i| format!("{i}/{count}").parse::<Shard>().expect("a share").of_points(points))
                .collect();
            for point in 0..points {
                assert_eq!(shares.iter().filter(|share| share[point]).count(), 1, "{point} of {points} in {count}");
            }
            let sizes: Vec<usize> = shares.iter().map(|s| s.iter().filter(|mine| **mine).count()).collect();
            assert!(
                sizes.iter().max().zip(sizes.iter().min()).is_some_and(|(most, least)| most - least <= 1),
                "{sizes:?}"
            );
        }
        for bad in ["", "1", "4/4", "1/0", "a/2", "-1/2"] {
            assert!(bad.parse::<Shard>().is_err(), "`{bad}` was accepted");
        }
        let shard: Shard = "1/3".parse().expect("a share");
        assert!(shard.has(4) && !shard.has(3) && shard.deals_tasks(3) && !shard.deals_tasks(2));
    }

    #[test]
    fn what_two_shares_claim_is_found() {
        let of =
            |edges, ns| Record { samples_ns: vec![ns; 3], verdict: Verdict::Correct, reason: None, ..record(edges) };
        let anchor = Record { stage: Stage::Anchor, ..of(1, 9) };
        let file = |name: &str, records: &[Record]| (PathBuf::from(name), records.to_vec());
        let one = file("a.jsonl", &[of(1, 10), of(2, 20), anchor.clone()]);
        let other = file("b.jsonl", &[of(1, 11), of(3, 30), anchor]);
        // The default is in both, and one of its anchors is the same to the last sample.
        let merged = merge(&[one.clone(), other.clone()]).expect("no overlap");
        assert_eq!(merged.len(), 5);
        assert_eq!(merge(&[one.clone(), one.clone()]).expect("alike").len(), 3, "a copy adds nothing");
        let claims = file("c.jsonl", &[of(1, 11), of(2, 21)]);
        let error = merge(&[one, other, claims]).expect_err("2 is claimed twice");
        assert_eq!((error.first.to_str(), error.second.to_str()), (Some("a.jsonl"), Some("c.jsonl")));
        assert!(error.to_string().contains("edges_per_task=2, expected shards"), "{error}");
    }
}
