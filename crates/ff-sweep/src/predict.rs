use std::collections::BTreeMap;
use std::time::Duration;

use crate::description::{Kind, Sampling};
use crate::results::Measured;
use crate::row::Row;

/// How a prediction was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Basis {
    /// The same row was measured before.
    Measured,
    /// The mean of rows that were measured before.
    Mean,
    /// What the sampling allows, and a guess for the rest.
    Allowance,
}

/// What a row will take.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Prediction {
    /// How long.
    pub time: Duration,
    /// How that is known.
    pub basis: Basis,
}

/// What making inputs, the oracle, the gate and the warm-up take of a row of which nothing is known.
const REST: Duration = Duration::from_millis(400);
/// What a row of a replay takes then.
const REPLAYED: Duration = Duration::from_millis(20);

/// What rows will take, by earlier results: the same row's, else the mean of the rows there are, else an allowance.
pub fn predict(rows: &[Row], earlier: &[Measured], kind: &Kind, sampling: &Sampling) -> Vec<Prediction> {
    let key = |row: &Row| row.without(&["runtime", "repeat"]).to_string();
    let known: BTreeMap<String, f64> = earlier.iter().map(|line| (key(&line.row), line.wall_s)).collect();
    let mean = earlier.iter().map(|line| line.wall_s).sum::<f64>() / earlier.len() as f64;
    let allowance = match kind {
        Kind::Timing => sampling.time + REST,
        Kind::Replay(_) => REPLAYED,
    };
    let of = |seconds: f64, basis| Duration::try_from_secs_f64(seconds).ok().map(|time| Prediction { time, basis });
    rows.iter()
        .map(|row| {
            let same = known.get(&key(row)).and_then(|seconds| of(*seconds, Basis::Measured));
            let mean = || if earlier.is_empty() { None } else { of(mean, Basis::Mean) };
            same.or_else(mean).unwrap_or(Prediction { time: allowance, basis: Basis::Allowance })
        })
        .collect()
}
