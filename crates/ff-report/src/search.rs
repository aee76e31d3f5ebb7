//! A search of the tuner: its configurations, what they cost over pairs of parameters, and how the best was come by.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use ff_spec::LaunchConfig;
use ff_tune::compare::block_medians;
use ff_tune::replay::Quartiles;
use ff_tune::{Record, Recorded, Stage, Timing, Verdict};
use serde::Serialize;

use crate::report::{Subject, clock};
use crate::speedup::{self, Gain};

/// A pause between two records that is longer than this, in seconds, is one between two runs and no time of the search.
const PAUSE: u64 = 600;

/// What was measured of one kernel on one problem, device and compiler.
#[derive(Clone, Debug, Serialize)]
pub struct Search {
    /// Of what.
    #[serde(flatten)]
    pub subject: Subject,
    /// Hash of the kernel source.
    pub kernel_hash: String,
    /// What compiled it.
    pub compiler: String,
    /// What times were measured with.
    pub clock: &'static str,
    /// Names of the launch parameters.
    pub parameters: Vec<String>,
    /// Every configuration, with what counts of it.
    pub configs: Vec<Config>,
    /// Place of the default.
    pub default: Option<usize>,
    /// Place of the fastest that passed.
    pub fastest: Option<usize>,
    /// Place of what the tuner chooses: the fastest that is told apart from the default, else the default.
    pub chosen: Option<usize>,
    /// Times over pairs of parameters, the pair that matters most first.
    pub maps: Vec<Map>,
    /// The best so far, in the order of measurement.
    pub course: Vec<Step>,
    /// Configurations by what came of them.
    pub counts: BTreeMap<Verdict, usize>,
    /// The largest relative error of a configuration that passed.
    pub rel_error: Option<f64>,
    /// Of the chosen over the default.
    #[serde(skip)]
    pub(crate) gain: Option<Gain>,
}

/// One configuration.
#[derive(Clone, Debug, Serialize)]
pub struct Config {
    /// Values of the parameters; `None` for one that it does not have.
    pub values: Vec<Option<u32>>,
    /// Median and quartiles of its samples in ns; `None` where it was not timed.
    pub ns: Option<f64>,
    /// Lower quartile.
    pub low: Option<f64>,
    /// Upper quartile.
    pub high: Option<f64>,
    /// Number of samples.
    pub samples: usize,
    /// Its time over that of the fastest, both over the default that was timed beside them, so that what the machine did
    /// meanwhile is no difference; at least 1: a few samples of the screening tell nothing faster than what won the finals.
    pub ratio: Option<f64>,
    /// What came of it.
    pub verdict: Verdict,
    /// Why, for all but what passed.
    pub reason: Option<String>,
    /// When it was measured.
    pub stage: Stage,
}

/// Times over two parameters, or over one where no second was varied.
#[derive(Clone, Debug, Serialize)]
pub struct Map {
    /// Place of the parameter to the right.
    pub x: usize,
    /// Of the one upwards.
    pub y: Option<usize>,
    /// Their values, ascending.
    pub x_values: Vec<u32>,
    /// As `x_values`; empty without a second parameter.
    pub y_values: Vec<u32>,
    /// What was measured, by rows from below.
    pub cells: Vec<Cell>,
}

/// What was measured at two values, whatever the other parameters were.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Cell {
    /// Place in `x_values`.
    pub x: usize,
    /// Place in `y_values`.
    pub y: usize,
    /// Place of the fastest configuration here: of what the finals timed, where they timed any of these.
    pub best: Option<usize>,
    /// Median of [`Config::ratio`] of all that were timed here.
    pub median: Option<f64>,
    /// Place of the configuration that has the other parameters of the fastest of all.
    pub slice: Option<usize>,
    /// Configurations here.
    pub tried: usize,
    /// Those of them with a time.
    pub timed: usize,
}

/// The best so far after an evaluation.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Step {
    /// Evaluations, from 1.
    pub evaluation: usize,
    /// Seconds since the first record of the search.
    pub seconds: u64,
    /// The best median so far, ns; `None` before anything worked.
    pub best_ns: Option<f64>,
}

impl Search {
    pub(crate) fn new(subject: Subject, search: &Recorded, records: &[Record]) -> Self {
        let names: BTreeSet<&String> = search.results.keys().flat_map(|config| config.0.keys()).collect();
        let parameters: Vec<String> = names.into_iter().cloned().collect();
        let mut configs: Vec<Config> =
            search.results.iter().map(|(config, record)| Config::new(config, &parameters, record)).collect();
        let place = |config: &LaunchConfig| search.results.keys().position(|known| known == config);
        let mine: Vec<&Record> = records.iter().filter(|record| is_of(record, search)).collect();
        let gain = speedup::gain(search, &mine);
        let fastest = compare_with_the_fastest(&mut configs, search, &mine);
        let rel_errors = search.results.values().filter(|record| record.verdict == Verdict::Correct);
        let mut counts = BTreeMap::new();
        for config in &configs {
            *counts.entry(config.verdict).or_insert(0) += 1;
        }
        Self {
            subject,
            kernel_hash: search.kernel_hash.clone(),
            compiler: search.compiler.clone(),
            clock: clock(search.clock),
            default: place(&search.default),
            fastest,
            chosen: gain.as_ref().and_then(|gain| place(&gain.config)),
            maps: maps(&parameters, &configs, fastest),
            course: course(&mine),
            counts,
            rel_error: rel_errors.filter_map(|r| Some(r.evidence.as_ref()?.rel_error)).reduce(f64::max),
            parameters,
            configs,
            gain,
        }
    }

    /// A configuration as text.
    pub fn config(&self, place: usize) -> String {
        let values = self.parameters.iter().zip(&self.configs[place].values);
        let parts: Vec<String> = values.filter_map(|(name, value)| Some(format!("{name}={}", (*value)?))).collect();
        parts.join(" ")
    }
}

/// Whether a record is one of a search.
fn is_of(record: &Record, search: &Recorded) -> bool {
    let same = (&record.kernel_hash, &record.variant, record.order, &record.compiler, record.dtype)
        == (&search.kernel_hash, &search.variant, search.order, &search.compiler, search.dtype);
    same && record.problem == search.problem && record.device == search.device
}

impl Config {
    fn new(config: &LaunchConfig, parameters: &[String], record: &Record) -> Self {
        let timed = matches!(record.verdict, Verdict::Correct | Verdict::Eliminated);
        let timing = Timing::of(&record.samples_ns).filter(|_| timed);
        let quartiles = Quartiles::of(record.samples_ns.iter().map(|ns| *ns as f64).collect());
        let quartiles = quartiles.filter(|_| timing.is_some());
        Self {
            values: parameters.iter().map(|name| config.get(name)).collect(),
            ns: timing.map(|timing| timing.median_ns),
            ratio: None,
            low: quartiles.map(|q| q.lower),
            high: quartiles.map(|q| q.upper),
            samples: record.samples_ns.len(),
            verdict: record.verdict,
            reason: record.reason.clone(),
            stage: record.stage,
        }
    }
}

/// Sets the ratios, and finds the fastest: of the finals where there were any, else of the screening.
fn compare_with_the_fastest(configs: &mut [Config], search: &Recorded, records: &[&Record]) -> Option<usize> {
    let over = over_default(&search.default, records);
    let default_ns = search.time_ns(&search.default);
    // Where the default was not timed beside it, its own time is all that there is.
    let time = |config: &LaunchConfig, ns: f64| {
        let over = over.get(config).and_then(|(_, over)| *over);
        default_ns.zip(over).map_or(ns, |(default_ns, over)| default_ns * over)
    };
    let times: Vec<Option<f64>> =
        search.results.keys().zip(&*configs).map(|(config, known)| Some(time(config, known.ns?))).collect();
    let passed = |i: &usize| configs[*i].verdict == Verdict::Correct && times[*i].is_some();
    let finals = (0..configs.len()).any(|i| passed(&i) && configs[i].stage == Stage::Final);
    let candidates = (0..configs.len()).filter(passed).filter(|i| !finals || configs[*i].stage == Stage::Final);
    let fastest = candidates.min_by(|a, b| times[*a].partial_cmp(&times[*b]).unwrap_or(Ordering::Equal))?;
    for (config, ns) in configs.iter_mut().zip(&times) {
        config.ratio = ns.zip(times[fastest]).map(|(ns, least)| (ns / least).max(1.0));
    }
    Some(fastest)
}

/// What each configuration took over the default that was timed beside it, in the record of it that counts: of the finals as
/// medians; of the screening round by round, since what is eliminated has the first rounds of its batch alone.
fn over_default(default: &LaunchConfig, records: &[&Record]) -> BTreeMap<LaunchConfig, (Stage, Option<f64>)> {
    let mut found: BTreeMap<LaunchConfig, (Stage, Option<f64>)> = BTreeMap::new();
    let mut beside: Option<&Record> = None;
    for record in records {
        if record.stage == Stage::Anchor || (record.stage == Stage::Final && record.config == *default) {
            beside = Some(record);
        }
        let counts = found.get(&record.config).is_none_or(|(before, _)| *before == Stage::Screen);
        if record.stage == Stage::Anchor || !(counts || record.stage == Stage::Final) {
            continue;
        }
        let anchor = beside.filter(|anchor| (anchor.stage == Stage::Final) == (record.stage == Stage::Final));
        let medians = |anchor: &Record| {
            Some(Timing::of(&record.samples_ns)?.median_ns / Timing::of(&anchor.samples_ns)?.median_ns)
        };
        let paired = |anchor: &Record| {
            let pairs = rounds(record).into_iter().zip(rounds(anchor)).map(|(ns, default)| ns / default);
            Quartiles::of(pairs.collect()).map(|q| q.median)
        };
        let ratio = anchor.and_then(|anchor| match record.stage {
            Stage::Final => medians(anchor),
            _ => paired(anchor).or_else(|| medians(anchor)),
        });
        found.insert(record.config.clone(), (record.stage, ratio.filter(|ratio| ratio.is_finite())));
    }
    found
}

/// Maps over every pair of parameters that were varied, those first whose values matter most.
fn maps(parameters: &[String], configs: &[Config], fastest: Option<usize>) -> Vec<Map> {
    let values = |parameter: usize| -> Vec<u32> {
        let found: BTreeSet<u32> = configs.iter().filter_map(|config| config.values[parameter]).collect();
        found.into_iter().collect()
    };
    let mut varied: Vec<(usize, f64)> = (0..parameters.len())
        .filter(|parameter| values(*parameter).len() > 1)
        .map(|parameter| (parameter, weight(parameter, &values(parameter), configs)))
        .collect();
    varied.sort_by(|a, b| b.1.total_cmp(&a.1));
    let varied: Vec<usize> = varied.into_iter().map(|(parameter, _)| parameter).collect();
    if let [only] = varied[..] {
        return vec![map((only, values(only)), None, configs, fastest)];
    }
    // A pair lies the same way in every search, whichever of the two matters more there.
    let pairs =
        varied.iter().enumerate().flat_map(|(i, a)| varied[i + 1..].iter().map(move |b| (*a.min(b), *a.max(b))));
    pairs.map(|(x, y)| map((x, values(x)), Some((y, values(y))), configs, fastest)).collect()
}

/// By what factor the best time depends on a parameter: the worst of its values over the best, others at their best.
fn weight(parameter: usize, values: &[u32], configs: &[Config]) -> f64 {
    let best = |value: u32| {
        let times = configs.iter().filter(|config| config.values[parameter] == Some(value)).filter_map(|c| c.ratio);
        times.reduce(f64::min)
    };
    let best: Vec<f64> = values.iter().filter_map(|value| best(*value)).collect();
    let (least, most) = best.iter().fold((f64::INFINITY, 0.0_f64), |(l, m), ratio| (l.min(*ratio), m.max(*ratio)));
    if best.is_empty() { 0.0 } else { most / least }
}

fn map(
    (x, x_values): (usize, Vec<u32>),
    y: Option<(usize, Vec<u32>)>,
    configs: &[Config],
    fastest: Option<usize>,
) -> Map {
    let (y, y_values) = y.map_or((None, Vec::new()), |(y, values)| (Some(y), values));
    let like_the_fastest = |config: &Config| {
        fastest.is_some_and(|fastest| {
            let pairs = config.values.iter().zip(&configs[fastest].values).enumerate();
            pairs.into_iter().all(|(i, (a, b))| i == x || Some(i) == y || a == b)
        })
    };
    let mut cells = Vec::new();
    let rows: Vec<Option<u32>> = if y.is_some() { y_values.iter().copied().map(Some).collect() } else { vec![None] };
    for (row, wanted) in rows.into_iter().enumerate() {
        for (column, value) in x_values.iter().enumerate() {
            let here: Vec<usize> = (0..configs.len())
                .filter(|i| configs[*i].values[x] == Some(*value))
                .filter(|i| y.is_none_or(|y| configs[*i].values[y] == wanted))
                .collect();
            if here.is_empty() {
                continue;
            }
            let timed: Vec<(usize, f64)> = here.iter().filter_map(|i| Some((*i, configs[*i].ratio?))).collect();
            let finals_first = |a: usize, b: usize| configs[b].stage.cmp(&configs[a].stage);
            let best = timed.iter().min_by(|a, b| finals_first(a.0, b.0).then(a.1.total_cmp(&b.1))).map(|(i, _)| *i);
            cells.push(Cell {
                x: column,
                y: row,
                best,
                median: Quartiles::of(timed.iter().map(|(_, ratio)| *ratio).collect()).map(|q| q.median),
                slice: here.iter().copied().find(|i| like_the_fastest(&configs[*i])),
                tried: here.len(),
                timed: timed.len(),
            });
        }
    }
    Map { x, y, x_values, y_values, cells }
}

/// The screening in its order. What is measured again is no further evaluation.
fn course(records: &[&Record]) -> Vec<Step> {
    let mut seen = BTreeSet::new();
    let (mut best, mut seconds, mut before): (Option<f64>, u64, Option<u64>) = (None, 0, None);
    let mut steps = Vec::new();
    for record in records {
        let pause = before.map_or(0, |before| record.unix_time.saturating_sub(before));
        seconds += if pause > PAUSE { 0 } else { pause };
        before = Some(record.unix_time);
        if record.stage != Stage::Screen || !seen.insert(&record.config) {
            continue;
        }
        let timed = matches!(record.verdict, Verdict::Correct | Verdict::Eliminated);
        let time = Timing::of(&record.samples_ns).filter(|_| timed).map(|timing| timing.median_ns);
        best = best.into_iter().chain(time).reduce(f64::min);
        steps.push(Step { evaluation: steps.len() + 1, seconds, best_ns: best });
    }
    steps
}

/// The medians of the blocks of a record's rounds.
pub(crate) fn rounds(record: &Record) -> Vec<f64> {
    block_medians(&record.samples_ns, &record.blocks)
}
