//! What tuning gains over the default, and fusing over the composition of plain operations.

use ff_spec::LaunchConfig;
use ff_tables::Table;
use ff_tune::compare::{Difference, compare};
use ff_tune::replay::Quartiles;
use ff_tune::{Record, Recorded, Stage, Timing, Verdict};
use serde::Serialize;

use crate::report::{Known, Subject, subject};
use crate::search::{Search, rounds};

/// What a time is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Over {
    /// The default configuration of the same kernel.
    Default,
    /// The same step as a composition of plain tensor operations on the same device.
    Unfused,
}

/// What a ratio was made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Basis {
    /// Rounds in which both were timed side by side; the spread is the quartiles of their ratios.
    Rounds,
    /// Samples of both; the spread is of their median absolute deviations, one against the other.
    Samples,
    /// An entry of a table; the spread is of the entry's median absolute deviation alone.
    Table,
}

/// How many times as fast, on hardware: software adapters are never among these.
#[derive(Clone, Debug, Serialize)]
pub struct Speedup {
    /// Of what.
    #[serde(flatten)]
    pub subject: Subject,
    /// Compared with what.
    pub over: Over,
    /// The ratio of the times; 1 where the default stays.
    pub ratio: f64,
    /// Lower end of its spread.
    pub low: Option<f64>,
    /// Upper end.
    pub high: Option<f64>,
    /// What it was made from.
    pub basis: Basis,
    /// Whether the default stays: nothing was told apart from it as faster.
    pub default_stays: bool,
    /// The configuration.
    pub config: String,
    /// Its median, ns.
    pub ns: f64,
    /// The median of what it is compared with, ns.
    pub over_ns: f64,
}

/// What the tuner chose in a search, beside the default.
#[derive(Clone, Debug)]
pub(crate) struct Gain {
    pub config: LaunchConfig,
    pub ratio: Option<Quartiles>,
    pub basis: Basis,
    pub ns: f64,
    pub default_ns: Option<f64>,
    pub default_stays: bool,
}

/// Decides as the tuner does: the fastest of the finals that beats the default in the rounds that both were timed in, else
/// the default. Without finals, by the standard errors of the medians of the screening.
pub(crate) fn gain(search: &Recorded, records: &[&Record]) -> Option<Gain> {
    let finals = last_finals(records);
    let anchor = finals.iter().find(|r| r.config == search.default && passed(r));
    if let Some(anchor) = anchor {
        let rivals: Vec<(&Record, Timing)> = finals
            .iter()
            .filter(|r| r.config != search.default && passed(r))
            .filter_map(|r| Some((*r, Timing::of(&r.samples_ns)?)))
            .collect();
        let default = Timing::of(&anchor.samples_ns)?;
        let beaten = rounds(anchor);
        let beats = |(record, timing): &&(&Record, Timing)| {
            timing.median_ns < default.median_ns
                && compare(&rounds(record), &beaten, rivals.len().max(1)) == Difference::Faster
        };
        let best = rivals.iter().filter(beats).min_by(|a, b| a.1.median_ns.total_cmp(&b.1.median_ns));
        return Some(match best {
            Some((record, timing)) => {
                let ratios = beaten.iter().zip(rounds(record)).map(|(default, best)| default / best);
                Gain {
                    config: record.config.clone(),
                    ratio: Quartiles::of(ratios.collect()),
                    basis: Basis::Rounds,
                    ns: timing.median_ns,
                    default_ns: Some(default.median_ns),
                    default_stays: false,
                }
            }
            None => stays(&search.default, default),
        });
    }
    let timing = |config: &LaunchConfig| {
        search.results.get(config).filter(|r| passed(r)).and_then(|r| Timing::of(&r.samples_ns))
    };
    let (config, _) = search.best()?;
    let best = timing(config)?;
    let Some(default) = timing(&search.default) else {
        // The default failed here: there is a best and nothing to compare it with.
        let (config, ns) = (config.clone(), best.median_ns);
        return Some(Gain { config, ratio: None, basis: Basis::Samples, ns, default_ns: None, default_stays: false });
    };
    if *config == search.default || best.ties(&default) {
        return Some(stays(&search.default, default));
    }
    let at = |default: f64, best: f64| default / best.max(f64::MIN_POSITIVE);
    Some(Gain {
        config: config.clone(),
        ratio: Some(Quartiles {
            lower: at(default.median_ns - default.spread_ns, best.median_ns + best.spread_ns),
            median: at(default.median_ns, best.median_ns),
            upper: at(default.median_ns + default.spread_ns, best.median_ns - best.spread_ns),
        }),
        basis: Basis::Samples,
        ns: best.median_ns,
        default_ns: Some(default.median_ns),
        default_stays: false,
    })
}

fn stays(default: &LaunchConfig, timing: Timing) -> Gain {
    Gain {
        config: default.clone(),
        ratio: Some(Quartiles { lower: 1.0, median: 1.0, upper: 1.0 }),
        basis: Basis::Rounds,
        ns: timing.median_ns,
        default_ns: Some(timing.median_ns),
        default_stays: true,
    }
}

fn passed(record: &Record) -> bool {
    record.verdict == Verdict::Correct
}

/// The finals of the last run that had any: only what was timed side by side is compared round by round.
fn last_finals<'r>(records: &[&'r Record]) -> Vec<&'r Record> {
    let end = records.iter().rposition(|r| r.stage == Stage::Final).map_or(0, |last| last + 1);
    let begin = records[..end].iter().rposition(|r| r.stage != Stage::Final).map_or(0, |last| last + 1);
    let mut run: Vec<&Record> = Vec::new();
    for record in &records[begin..end] {
        // Where a configuration comes again, another run began.
        if run.iter().any(|r| r.config == record.config) {
            run.clear();
        }
        run.push(record);
    }
    run
}

/// Of searches where there are records, else of tables. Software adapters are left out.
pub(crate) fn all(searches: &[Search], tables: &[Table], known: &mut Known) -> Vec<Speedup> {
    let mut found = Vec::new();
    for search in searches.iter().filter(|search| !known.devices[search.subject.device].software) {
        let Some(Gain { ratio: Some(ratio), basis, ns, default_ns: Some(over_ns), default_stays, .. }) = &search.gain
        else {
            continue;
        };
        found.push(Speedup {
            subject: search.subject.clone(),
            over: Over::Default,
            ratio: ratio.median,
            low: Some(ratio.lower),
            high: Some(ratio.upper),
            basis: *basis,
            default_stays: *default_stays,
            config: search.chosen.map(|place| search.config(place)).unwrap_or_default(),
            ns: *ns,
            over_ns: *over_ns,
        });
    }
    for table in tables.iter().filter(|table| !table.device.software) {
        let device = known.place(&table.device);
        for entry in table.entries() {
            let subject = subject(&table.op, &entry.variant, &entry.problem, entry.key.dtype, device);
            let by = |over, over_ns: f64| Speedup {
                subject: subject.clone(),
                over,
                ratio: over_ns / entry.median_ns,
                low: Some(over_ns / (entry.median_ns + entry.spread_ns)),
                high: (entry.median_ns > entry.spread_ns).then(|| over_ns / (entry.median_ns - entry.spread_ns)),
                basis: Basis::Table,
                default_stays: false,
                config: entry.config.to_string(),
                ns: entry.median_ns,
                over_ns,
            };
            // Records of the same search have every round, a table has medians.
            let recorded = |other: &Speedup| other.over == Over::Default && other.subject == subject;
            if let Some(default_ns) = entry.default_median_ns
                && !found.iter().any(recorded)
            {
                let stays = default_ns == entry.median_ns;
                let bar = by(Over::Default, default_ns);
                let (low, high) = if stays { (Some(1.0), Some(1.0)) } else { (bar.low, bar.high) };
                found.push(Speedup { default_stays: stays, low, high, ..bar });
            }
            if let Some(unfused_ns) = entry.unfused_median_ns {
                found.push(by(Over::Unfused, unfused_ns));
            }
        }
    }
    found
}
