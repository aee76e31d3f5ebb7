//! What records say of each search: one result per configuration.

use std::collections::BTreeMap;

use ff_spec::{Clock, DeviceId, Dtype, LaunchConfig, Problem, kernel_name};

use crate::measure::Timing;
use crate::records::{Record, Stage, Verdict};

/// What was measured of one kernel on one problem, device and compiler.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// The op.
    pub op: String,
    /// The derivative order.
    pub order: u8,
    /// Variant id.
    pub variant: String,
    /// Hash of the kernel source.
    pub kernel_hash: String,
    /// Element type.
    pub dtype: Dtype,
    /// The problem.
    pub problem: Problem,
    /// The device with its driver.
    pub device: DeviceId,
    /// What compiled the kernel.
    pub compiler: String,
    /// What the samples were measured with.
    pub clock: Clock,
    /// The default configuration: what batches were measured beside, else what was measured first.
    pub default: LaunchConfig,
    /// The record that counts of each configuration: the last of the finals, else the last of the screening.
    pub results: BTreeMap<LaunchConfig, Record>,
}

impl Recorded {
    /// The results by search, in the order in which the searches began.
    pub fn of(records: &[Record]) -> Vec<Recorded> {
        let mut found: Vec<Recorded> = Vec::new();
        let mut places: BTreeMap<String, usize> = BTreeMap::new();
        for record in records {
            // The identity of the search is that of a record with no configuration.
            let search = Record { config: LaunchConfig::default(), ..record.clone() }.identity();
            let place = *places.entry(search).or_insert_with(|| {
                found.push(Recorded {
                    op: record.op.clone(),
                    order: record.order,
                    variant: record.variant.clone(),
                    kernel_hash: record.kernel_hash.clone(),
                    dtype: record.dtype,
                    problem: record.problem.clone(),
                    device: record.device.clone(),
                    compiler: record.compiler.clone(),
                    clock: record.clock,
                    default: record.config.clone(),
                    results: BTreeMap::new(),
                });
                found.len() - 1
            });
            let search = &mut found[place];
            if record.stage == Stage::Anchor {
                search.default = record.config.clone();
                continue;
            }
            match search.results.get(&record.config) {
                Some(before) if before.stage == Stage::Final && record.stage == Stage::Screen => {}
                _ => {
                    search.results.insert(record.config.clone(), record.clone());
                }
            }
        }
        found.retain(|search| !search.results.is_empty());
        found
    }

    /// What was measured, by [`kernel_name`].
    pub fn kernel(&self) -> String {
        kernel_name(&self.variant, self.order)
    }

    /// The time of a configuration, ns: the median of its samples; `None` where it failed or is not recorded. One that was
    /// eliminated has the time of the samples that it got.
    pub fn time_ns(&self, config: &LaunchConfig) -> Option<f64> {
        time_ns(self.results.get(config)?)
    }

    /// The fastest of what passed and was not eliminated.
    pub fn best(&self) -> Option<(&LaunchConfig, f64)> {
        let passed = self.results.iter().filter(|(_, record)| record.verdict == Verdict::Correct);
        let times = passed.filter_map(|(config, record)| Some((config, time_ns(record)?)));
        times.min_by(|a, b| a.1.total_cmp(&b.1))
    }
}

fn time_ns(record: &Record) -> Option<f64> {
    let timed = matches!(record.verdict, Verdict::Correct | Verdict::Eliminated);
    Timing::of(&record.samples_ns).filter(|_| timed).map(|timing| timing.median_ns)
}
