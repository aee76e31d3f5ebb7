//! What the numerical gate found, in as many lines as a reader looks at.

use std::collections::{BTreeMap, BTreeSet};

use ff_spec::{Dtype, RuntimeKind};
use ff_testkit::gate::GateSummary;
use serde::Serialize;

use crate::report::family;

/// Reasons of one line that are told.
const REASONS: usize = 5;

/// The cases of one family at one order, as `verify` judged them.
#[derive(Clone, Debug, Serialize)]
pub struct Checked {
    /// Op.
    pub op: String,
    /// The variants' family.
    pub family: String,
    /// Their ids.
    pub variants: BTreeSet<String>,
    /// Runtime.
    pub runtime: RuntimeKind,
    /// Element type.
    pub dtype: Dtype,
    /// Derivative order.
    pub order: u8,
    /// Cases that passed.
    pub passed: usize,
    /// That failed.
    pub failed: usize,
    /// That were not executed.
    pub skipped: usize,
    /// That the device cannot do.
    pub unsupported: usize,
    /// The largest ‖out − ref‖/‖ref‖ of those that were executed.
    pub worst: Option<f64>,
    /// Why cases are no pass: the first few reasons.
    pub reasons: Vec<String>,
    /// How many further reasons there are.
    pub more_reasons: usize,
}

/// Op, family, order, runtime and element type.
type Group = (String, String, u8, RuntimeKind, Dtype);

impl Checked {
    pub(crate) fn of(summaries: &[GateSummary]) -> Vec<Self> {
        let mut groups: BTreeMap<Group, (Self, BTreeSet<String>)> = BTreeMap::new();
        for row in summaries.iter().flat_map(|summary| &summary.cases) {
            let family = family(&row.op, &row.variant);
            let key = (row.op.clone(), family.clone(), row.order, row.runtime, row.dtype);
            let (group, reasons) = groups.entry(key).or_insert_with(|| {
                let checked = Self {
                    op: row.op.clone(),
                    family,
                    variants: BTreeSet::new(),
                    runtime: row.runtime,
                    dtype: row.dtype,
                    order: row.order,
                    passed: 0,
                    failed: 0,
                    skipped: 0,
                    unsupported: 0,
                    worst: None,
                    reasons: Vec::new(),
                    more_reasons: 0,
                };
                (checked, BTreeSet::new())
            });
            group.variants.insert(row.variant.clone());
            match row.verdict.as_str() {
                "passed" => group.passed += 1,
                "skipped" => group.skipped += 1,
                "unsupported" => group.unsupported += 1,
                // A verdict that is not known is no pass.
                _ => group.failed += 1,
            }
            group.worst = group.worst.into_iter().chain(row.rel_error).reduce(f64::max);
            if row.verdict != "passed" {
                let reason = row.reason.as_deref().unwrap_or("no reason given");
                reasons.insert(format!("{}: {reason}", row.verdict));
            }
        }
        let mut all: Vec<Self> = Vec::new();
        for (mut checked, reasons) in groups.into_values() {
            checked.more_reasons = reasons.len().saturating_sub(REASONS);
            checked.reasons = reasons.into_iter().take(REASONS).collect();
            all.push(checked);
        }
        all
    }
}

/// One variant at one order on one device, all of whose cases passed, as `verify --passes` noted it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passed {
    /// Op.
    pub op: String,
    /// Variant id.
    pub variant: String,
    /// Derivative order.
    pub order: u8,
    /// Slug of the device.
    pub device: String,
    /// Element types.
    pub dtypes: Vec<Dtype>,
    /// Cases that passed.
    pub passed: usize,
    /// Day, UTC.
    pub on: String,
    /// Whether the kernel that passed is the one of today.
    pub current: bool,
}

/// The passes of a family at one order on one device.
#[derive(Clone, Debug, Serialize)]
pub struct PassedFamily {
    /// Op.
    pub op: String,
    /// The variants' family.
    pub family: String,
    /// Derivative order.
    pub order: u8,
    /// Slug of the device.
    pub device: String,
    /// Element types in which some variant passed.
    pub dtypes: BTreeSet<Dtype>,
    /// Variants that passed.
    pub variants: usize,
    /// Those of them whose kernel has changed since.
    pub stale: usize,
    /// Cases that passed.
    pub passed: usize,
    /// The last day, UTC.
    pub on: String,
}

impl PassedFamily {
    pub(crate) fn of(passes: &[Passed]) -> Vec<Self> {
        let mut groups: BTreeMap<(String, String, u8, String), Self> = BTreeMap::new();
        for pass in passes {
            let family = family(&pass.op, &pass.variant);
            let key = (pass.op.clone(), family.clone(), pass.order, pass.device.clone());
            let group = groups.entry(key).or_insert_with(|| Self {
                op: pass.op.clone(),
                family,
                order: pass.order,
                device: pass.device.clone(),
                dtypes: BTreeSet::new(),
                variants: 0,
                stale: 0,
                passed: 0,
                on: String::new(),
            });
            group.dtypes.extend(&pass.dtypes);
            group.variants += 1;
            group.stale += usize::from(!pass.current);
            group.passed += pass.passed;
            // Days are written so that their order is that of their texts.
            group.on = group.on.clone().max(pass.on.clone());
        }
        groups.into_values().collect()
    }
}
