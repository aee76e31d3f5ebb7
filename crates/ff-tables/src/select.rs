use std::fmt;

use ff_spec::{DeviceId, LaunchConfig, TuneKey};
use serde::{Deserialize, Serialize};

use crate::entry::same_bucket;
use crate::table::Refused;
use crate::{Entry, Table};

/// How far a bucket may lie from a call on any one axis, in octaves. Beyond a factor of eight a measurement says little
/// about which configuration wins, and the default is the safer choice.
pub const MAX_OCTAVES: f64 = 3.0;

/// What a configuration must have gained over the default where it was measured, to be used at other sizes or on another device
/// of the architecture: there nothing says that it is not slower than the default, and a small gain is no reason to try. Of 24
/// sizes that were not tuned, entries that had gained 1.07 made two slower by more than noise (`experiments/tuner/held-out`).
pub const LEAST_GAIN: f64 = 1.1;

/// How a configuration was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// In a table of this very device.
    ExactDevice,
    /// In a table of another device of the same runtime and architecture.
    SameArchitecture,
    /// In no table: use the default configuration.
    Default,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Step::ExactDevice => "exact device",
            Step::SameArchitecture => "same architecture",
            Step::Default => "default",
        })
    }
}

/// What is asked of the tables.
#[derive(Clone, Copy, Debug)]
pub struct Query<'a> {
    /// The family of kernels.
    pub op: &'a str,
    /// Where the call will run.
    pub device: &'a DeviceId,
    /// Hash of the templates that the kernels at hand were rendered from.
    pub template_hash: &'a str,
    /// The call.
    pub key: &'a TuneKey,
}

/// What the tables answer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Selection {
    /// The configuration; `None` for the default one.
    pub config: Option<LaunchConfig>,
    /// How it was found.
    pub step: Step,
    /// Distance of the entry from the call in octaves, as of [`TuneKey::distance`].
    pub distance: Option<Vec<f64>>,
    /// The key of the entry.
    pub key: Option<TuneKey>,
    /// Why this one, and what was passed over, in one line.
    pub reason: String,
}

/// The configuration for a call: nearest bucket of the exact device, else of the same architecture, else the default.
///
/// `feasible` says whether a configuration can run on the real shape; the next nearest is taken where it cannot. At other sizes
/// than those it was measured at an entry is used only where it gained [`LEAST_GAIN`]; else the default is, which was as good
/// at the nearest size. Never crossed: software and hardware adapters, runtimes, template hashes, variant families,
/// derivative orders, dtypes: a backward without entries of its own runs under its default, which was gated at its order, and not
/// under what was chosen for the forward. Where the nearest entry is one that [`Table::salvage`] refused, the default is used.
pub fn select<'t>(
    tables: impl IntoIterator<Item = &'t Table>,
    query: Query<'_>,
    feasible: impl Fn(&LaunchConfig) -> bool,
) -> Selection {
    select_entry(tables, query, feasible).0
}

/// An entry of a table, or what is refused there, with its distance in octaves: all together and along each axis.
type Candidate<'t> = (f64, Vec<f64>, &'t Table, Result<&'t Entry, &'t Refused>);

/// [`select`], with the entry and the table that it stands in.
pub(crate) fn select_entry<'t>(
    tables: impl IntoIterator<Item = &'t Table>,
    query: Query<'_>,
    feasible: impl Fn(&LaunchConfig) -> bool,
) -> (Selection, Option<(&'t Table, &'t Entry)>) {
    let mut exact = Vec::new();
    let mut similar = Vec::new();
    let mut passed_over = Vec::new();
    for table in tables.into_iter().filter(|t| t.op == query.op && t.device.runtime == query.device.runtime) {
        let (theirs, ours) = (&table.device, query.device);
        let same_device = theirs.slug == ours.slug;
        let same_arch = !ours.arch.is_empty() && theirs.arch == ours.arch;
        if !(same_device || same_arch) {
            continue;
        }
        if theirs.software != ours.software {
            passed_over.push(format!("table of {} is for a {} adapter", theirs.slug, kind(theirs)));
        } else if table.template_hash != query.template_hash {
            passed_over.push(format!(
                "table of {} is for templates {}, expected {}",
                theirs.slug,
                short(&table.template_hash),
                short(query.template_hash)
            ));
        } else if same_device {
            exact.push(table);
        } else {
            similar.push(table);
        }
    }
    for (step, tables) in [(Step::ExactDevice, exact), (Step::SameArchitecture, similar)] {
        let mut candidates: Vec<Candidate<'t>> = tables
            .iter()
            .flat_map(|table| {
                let sound = table.entries.iter().map(|entry| (*table, &entry.key, Ok(entry)));
                // Behind the others, since of two as near the sound one is used.
                sound.chain(table.refused.iter().map(|refused| (*table, &refused.key, Err(refused))))
            })
            .filter_map(|(table, key, entry)| {
                let distance = key.distance(query.key)?;
                Some((distance.iter().sum(), distance, table, entry))
            })
            .collect();
        // Equal distances go to the earlier table and entry, which are sorted, so the answer is always the same.
        candidates.sort_by(|a, b| a.0.total_cmp(&b.0));
        let (near, far): (Vec<_>, Vec<_>) =
            candidates.into_iter().partition(|(_, d, ..)| d.iter().all(|octaves| *octaves <= MAX_OCTAVES));
        let mut infeasible = 0;
        for (sum, distance, table, entry) in &near {
            let entry = match entry {
                Ok(entry) => *entry,
                Err(Refused { key, reason }) => {
                    let slug = &table.device.slug;
                    let reason = format!("default: {step} {slug}, `{key}` at {sum:.2} octaves, is refused: {reason}");
                    let (distance, key) = (Some(distance.clone()), Some(key.clone()));
                    let reason = join(reason, &passed_over);
                    return (Selection { config: None, step: Step::Default, distance, key, reason }, None);
                }
            };
            if !feasible(&entry.config) {
                infeasible += 1;
                continue;
            }
            let mut reason = format!("{step} {}, `{}` at {sum:.2} octaves", table.device.slug, entry.key);
            if infeasible > 0 {
                reason.push_str(&format!(", {infeasible} nearer infeasible on this shape"));
            }
            let measured = step == Step::ExactDevice && same_bucket(&entry.key, query.key);
            // Where the default did not pass there is nothing else that is known to run.
            let gain = entry.speedup().unwrap_or(f64::INFINITY);
            if !measured && gain < LEAST_GAIN {
                reason = format!("default: {reason}, where it was {gain:.2} times as fast, less than {LEAST_GAIN}");
                let selection = Selection {
                    config: None,
                    step: Step::Default,
                    distance: Some(distance.clone()),
                    key: Some(entry.key.clone()),
                    reason: join(reason, &passed_over),
                };
                return (selection, Some((*table, entry)));
            }
            let selection = Selection {
                config: Some(entry.config.clone()),
                step,
                distance: Some(distance.clone()),
                key: Some(entry.key.clone()),
                reason: join(reason, &passed_over),
            };
            return (selection, Some((*table, entry)));
        }
        if infeasible > 0 {
            passed_over.push(format!("{step}: {infeasible} near entries infeasible on this shape"));
        }
        if let Some((sum, ..)) = far.first().filter(|_| near.is_empty()) {
            passed_over.push(format!("{step}: nearest entry at {sum:.2} octaves, more than {MAX_OCTAVES} on one axis"));
        } else if near.is_empty() && !tables.is_empty() {
            let TuneKey { family, order, dtype, .. } = query.key;
            let of_order = if *order > 0 { format!(" of order {order}") } else { String::new() };
            passed_over.push(format!("{step}: no entry for {family}{of_order} in {dtype}"));
        }
    }
    let reason = if passed_over.is_empty() { "default: no table for this device" } else { "default" };
    let reason = join(reason.to_owned(), &passed_over);
    (Selection { config: None, step: Step::Default, distance: None, key: None, reason }, None)
}

fn kind(device: &DeviceId) -> &'static str {
    if device.software { "software" } else { "hardware" }
}

fn short(hash: &str) -> &str {
    hash.get(..12).unwrap_or(hash)
}

fn join(reason: String, passed_over: &[String]) -> String {
    std::iter::once(reason).chain(passed_over.iter().cloned()).collect::<Vec<_>>().join("; ")
}
