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

/// What earlier rows took.
#[derive(Default)]
struct Known {
    /// By row.
    same: BTreeMap<String, f64>,
    total: f64,
    lines: usize,
}

/// What rows will take, by earlier results of the runtime that they ask for: the same row's, else the mean of the rows there
/// are, else an allowance.
pub fn predict(rows: &[Row], earlier: &[Measured], kind: &Kind, sampling: &Sampling) -> Vec<Prediction> {
    let key = |row: &Row| row.without(&["runtime", "repeat"]).to_string();
    // Under no runtime: those of all, for rows that run wherever it is.
    let mut known: BTreeMap<Option<&str>, Known> = BTreeMap::new();
    for line in earlier {
        for runtime in [None, Some(line.device.runtime.name())] {
            let known = known.entry(runtime).or_default();
            known.same.insert(key(&line.row), line.wall_s);
            known.total += line.wall_s;
            known.lines += 1;
        }
    }
    let allowance = match kind {
        Kind::Timing => sampling.time + REST,
        Kind::Replay(_) => REPLAYED,
    };
    let of = |seconds: f64, basis| Duration::try_from_secs_f64(seconds).ok().map(|time| Prediction { time, basis });
    rows.iter()
        .map(|row| {
            let known = known.get(&row.text("runtime").filter(|name| *name != "auto"));
            let same = known.and_then(|known| of(*known.same.get(&key(row))?, Basis::Measured));
            let mean = || known.and_then(|known| of(known.total / known.lines as f64, Basis::Mean));
            same.or_else(mean).unwrap_or(Prediction { time: allowance, basis: Basis::Allowance })
        })
        .collect()
}
