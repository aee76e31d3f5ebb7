//! When what passed the gate: written by `verify --passes`, read by `ops`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use ff_spec::{DeviceId, Dtype, RuntimeKind, SCHEMA_VERSION};
use ff_testkit::catalogue::CaseSet;
use ff_testkit::gate::{GateRow, GateSummary, MIN_SEEDS};
use serde::{Deserialize, Serialize};

use crate::failure::{Failure, Result};
use crate::provenance;

/// Where they are where no file is named.
pub const USUAL: &str = "autotune/passes.json";

/// One variant at one order on one device, all of whose cases passed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Pass {
    /// Op.
    pub op: String,
    /// Variant id.
    pub variant: String,
    /// Derivative order.
    pub order: u8,
    /// Runtime.
    pub runtime: RuntimeKind,
    /// Slug of the device.
    pub device: String,
    /// Element types.
    pub dtypes: Vec<Dtype>,
    /// Cases that passed.
    pub passed: usize,
    /// Whether they were all that there are, or the quick ones.
    pub full: bool,
    /// Day, UTC.
    pub on: String,
    /// Hash of the kernel's source.
    pub kernel: String,
}

/// Everything that passed.
#[derive(Debug, Serialize, Deserialize)]
pub struct Passes {
    schema: u32,
    passes: Vec<Pass>,
}

impl Passes {
    /// Reads a file; one that is not there holds nothing.
    ///
    /// # Errors
    /// A file that cannot be read, and one that is no such file, which is left as it is.
    pub fn read(path: &Path) -> Result<Self> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Self { schema: SCHEMA_VERSION, passes: Vec::new() });
            }
            Err(error) => return Err(Failure::input(format!("cannot read {}: {error}", path.display()))),
        };
        let found: Self =
            serde_json::from_str(&text).map_err(|e| Failure::input(format!("{}: {e}", path.display())))?;
        if found.schema != SCHEMA_VERSION {
            let (expected, found) = (SCHEMA_VERSION, found.schema);
            let path = path.display();
            return Err(Failure::input(format!("{path} has schema version {found}, expected {expected}")));
        }
        Ok(found)
    }

    /// Adds what passed completely: a variant at an order with enough seeds and without a failure. It takes the place of what
    /// was known of it on this device.
    pub fn add(&mut self, summary: &GateSummary, set: CaseSet, devices: &[&DeviceId]) {
        let mut groups: BTreeMap<(&str, &str, u8, RuntimeKind), Vec<&GateRow>> = BTreeMap::new();
        for row in &summary.cases {
            groups.entry((&row.op, &row.variant, row.order, row.runtime)).or_default().push(row);
        }
        for ((op, variant, order, runtime), rows) in groups {
            let count = |verdict: &str| rows.iter().filter(|row| row.verdict == verdict).count();
            let seeds: BTreeSet<u64> = rows.iter().map(|row| row.seed).collect();
            let Some(device) = devices.iter().find(|device| device.runtime == runtime) else { continue };
            if count("passed") == 0 || count("failed") + count("skipped") > 0 || seeds.len() < MIN_SEEDS {
                continue;
            }
            let passed = rows.iter().filter(|row| row.verdict == "passed");
            let dtypes: BTreeSet<Dtype> = passed.map(|row| row.dtype).collect();
            let pass = Pass {
                op: op.to_owned(),
                variant: variant.to_owned(),
                order,
                runtime,
                device: device.slug.clone(),
                dtypes: dtypes.into_iter().collect(),
                passed: count("passed"),
                full: set == CaseSet::Full,
                on: time::OffsetDateTime::now_utc().date().to_string(),
                kernel: provenance::kernel_hash(variant),
            };
            let same = |other: &Pass| {
                (&other.op, &other.variant, other.order, &other.device)
                    == (&pass.op, &pass.variant, order, &pass.device)
            };
            self.passes.retain(|other| !same(other));
            self.passes.push(pass);
        }
        let key = |pass: &Pass| (pass.op.clone(), pass.variant.clone(), pass.order, pass.device.clone());
        self.passes.sort_by_key(key);
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Pass> {
        self.passes.iter()
    }

    /// The passes of a variant.
    pub fn of<'a>(&'a self, op: &'a str, variant: &'a str) -> impl Iterator<Item = &'a Pass> {
        self.passes.iter().filter(move |pass| pass.op == op && pass.variant == variant)
    }
}

impl Pass {
    /// Whether the kernel that passed is the one in this binary.
    pub fn is_current(&self) -> bool {
        self.kernel == provenance::kernel_hash(&self.variant)
    }
}
