//! When what passed the gate: written by `verify --passes`, read by `ops`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use ff_spec::{DeviceId, Dtype, RuntimeKind};
use ff_testkit::catalogue::CaseSet;
use ff_testkit::gate::{GateRow, GateSummary, MIN_SEEDS};
use serde::{Deserialize, Serialize};

use crate::code::Code;
use crate::failure::{Failure, Result};

/// Version of the file. Version 1 had one hash of all sources, which any of them changed.
const SCHEMA: u32 = 2;

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
    /// The code that passed.
    pub code: Code,
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
                return Ok(Self { schema: SCHEMA, passes: Vec::new() });
            }
            Err(error) => return Err(Failure::input(format!("cannot read {}: {error}", path.display()))),
        };
        // The version first: another one has other keys.
        #[derive(Deserialize)]
        struct Version {
            schema: u32,
        }
        let malformed = |e: serde_json::Error| Failure::input(format!("{}: {e}", path.display()));
        let Version { schema } = serde_json::from_str(&text).map_err(malformed)?;
        if schema != SCHEMA {
            let (expected, found) = (SCHEMA, schema);
            let path = path.display();
            let again = if found < expected { ": run `verify --passes` again, into a new file" } else { "" };
            return Err(Failure::input(format!("{path} has schema version {found}, expected {expected}{again}")));
        }
        serde_json::from_str(&text).map_err(malformed)
    }

    /// Adds what passed completely: a variant at an order with enough seeds and without a failure. It takes the place of what
    /// was known of it on this device.
    ///
    /// # Errors
    /// Code that cannot be emitted, although it ran.
    pub fn add(&mut self, summary: &GateSummary, set: CaseSet, devices: &[&DeviceId]) -> Result<()> {
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
                code: Code::of(op, variant, order, runtime)?,
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
        Ok(())
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
    /// What of the code that passed is not that of this binary; `None` where it is the same. Nothing is emitted for that.
    pub fn staleness(&self) -> Option<String> {
        self.code.changes(&Code::built_in(&self.op, &self.variant, self.order, self.runtime))
    }

    /// Whether the code that passed is that of this binary.
    pub fn is_current(&self) -> bool {
        self.staleness().is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_pass_says_what_changed() {
        let pass = |order, runtime, edit: &dyn Fn(&mut serde_json::Map<String, serde_json::Value>)| {
            let (op, variant) = ("fused_message".to_owned(), "painn_linear_gaussian_cosine_receiver".to_owned());
            let mut code = serde_json::to_value(Code::built_in(&op, &variant, order, runtime)).expect("plain data");
            edit(code.as_object_mut().expect("a map"));
            let code = serde_json::from_value(code).expect("a map of hashes");
            let (device, dtypes, on) = ("device".to_owned(), Dtype::ALL.to_vec(), "2026-11-27".to_owned());
            Pass { op, variant, order, runtime, device, dtypes, passed: 9, full: true, on, code }
        };
        for (order, runtime) in [(0, RuntimeKind::Host), (1, RuntimeKind::Cuda), (2, RuntimeKind::Vulkan)] {
            assert_eq!(pass(order, runtime, &|_| {}).staleness(), None, "order {order} on {runtime}");
        }
        let other =
            |name: &'static str| move |code: &mut serde_json::Map<_, _>| drop(code.insert(name.into(), "0".into()));
        let stale = pass(2, RuntimeKind::Host, &other("sources of order 2"));
        assert!(!stale.is_current());
        assert_eq!(stale.staleness().as_deref(), Some("sources of order 2 changed"));
        let stale = pass(1, RuntimeKind::Cuda, &other("add_groups"));
        assert_eq!(stale.staleness().as_deref(), Some("add_groups changed"));
        // Not of the same runtime, and nothing of it is known.
        let unknown = Pass { runtime: RuntimeKind::Host, ..pass(1, RuntimeKind::Cuda, &|_| {}) };
        assert!(unknown.staleness().is_some_and(|why| why.starts_with("sources of every op, ")));
        let unknown = Pass { variant: "painn".to_owned(), ..pass(1, RuntimeKind::Cuda, &|_| {}) };
        assert_eq!(unknown.staleness().as_deref(), Some("what runs now is not known"));
    }
}
