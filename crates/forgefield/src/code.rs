//! The code that a pass is of: what a device is given, or on host the sources of one op and order.
//!
//! A cube kernel is the text that CubeCL emits for it at the default configuration of its kind of device, for a few sizes and in
//! both element types, whatever Rust it comes from and whatever its function is called. The text is CUDA C++ on every device:
//! CubeCL's optimiser for SPIR-V walks hash maps, so the same kernel is other SPIR-V in another process, and not in its order
//! alone. A host kernel is the tokens of its sources (`build/sources.rs`). What changes elsewhere changes neither.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, OnceLock, PoisonError};

use ff_record::{Kernel, Recorder, Target};
use ff_spec::{Dtype, RuntimeKind, kernel_name};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::failure::{Failure, Result};
use crate::inspect::subject::Subject;
use crate::options::Sizes;

/// (op or empty, part, file, orders, digest of its tokens).
const HOST_SOURCES: &[(&str, &str, &str, &[u8], &str)] = include!(concat!(env!("OUT_DIR"), "/host_sources.rs"));

/// The hashes of emitted text as they are committed.
const EMITTED: &str = include_str!("../../../autotune/static/emitted.json");

/// The sizes that kernels are emitted for: those of common models, and odd ones, which no vector divides.
const SIZES: [Sizes; 2] = [
    Sizes { cutoff: 5.0, features: 128, n_basis: 20, hidden: 128, seed: 0 },
    Sizes { cutoff: 5.0, features: 17, n_basis: 5, hidden: 9, seed: 0 },
];

/// The problem whose calls are recorded: its edges are enough for every kernel of a call to be launched, also those that add up
/// many parts.
const PROBLEM: &str = "water-64";

/// Pieces of code by name, kernels or groups of sources, each with a hash of 16 hexadecimal digits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Code(BTreeMap<String, String>);

impl Code {
    /// The code that this binary runs for a variant of an op in one order. Cube kernels are emitted for that, which takes some
    /// milliseconds each and is done once in a process.
    ///
    /// # Errors
    /// An unknown variant or order, and a kernel that cannot be emitted.
    pub fn of(op: &str, id: &str, order: u8, runtime: RuntimeKind) -> Result<Self> {
        static EMITTED_HERE: Mutex<BTreeMap<String, Code>> = Mutex::new(BTreeMap::new());
        let Some(target) = target(runtime) else { return Ok(Self::on_host(op, id, order)) };
        let key = key(op, id, order, runtime);
        let known = || EMITTED_HERE.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(code) = known().get(&key) {
            return Ok(code.clone());
        }
        let code = emitted(&Subject::find(op, id, order)?, target)?;
        known().insert(key, code.clone());
        Ok(code)
    }

    /// The same without emitting anything: the hashes of cube kernels are those that were committed when this binary was built,
    /// which a test compares with what it emits. Of what is not among them there is no code.
    pub fn built_in(op: &str, id: &str, order: u8, runtime: RuntimeKind) -> Self {
        if runtime == RuntimeKind::Host {
            return Self::on_host(op, id, order);
        }
        static TABLE: OnceLock<BTreeMap<String, Code>> = OnceLock::new();
        let table = TABLE.get_or_init(|| Emitted::parse(EMITTED).map(|table| table.code).unwrap_or_default());
        table.get(&key(op, id, order, runtime)).cloned().unwrap_or_default()
    }

    /// The sources of a host kernel, in groups.
    fn on_host(op: &str, id: &str, order: u8) -> Self {
        let named = |name: &str| id == name || format!("_{id}_").contains(&format!("_{name}_"));
        let of_order = format!("sources of order {order}");
        let mut groups: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (of, part, name, orders, digest) in HOST_SOURCES {
            let group = match *part {
                "every op" => "sources of every op",
                _ if *of != op || !orders.contains(&order) => continue,
                "op" if orders.len() == 3 => "sources of every order",
                "op" => &of_order,
                _ if named(name) => "sources of the variant",
                _ => continue,
            };
            groups.entry(group).or_default().push(digest);
        }
        Self(groups.into_iter().map(|(group, digests)| (group.to_owned(), hash(digests))).collect())
    }

    /// One hash of all of it, 16 hexadecimal digits; empty where there is no code.
    pub fn hash(&self) -> String {
        // Names do not count, and neither does an order.
        let hashes: BTreeSet<&str> = self.0.values().map(String::as_str).collect();
        if hashes.is_empty() { String::new() } else { hash(hashes) }
    }

    /// What of `now` is not in this code, which ran before; `None` where it is the same.
    pub fn changes(&self, now: &Code) -> Option<String> {
        if self.0.is_empty() || now.0.is_empty() {
            let unknown = if now.0.is_empty() { "what runs now is not known" } else { "what ran is not known" };
            return Some(unknown.to_owned());
        }
        let difference = |of: &Code, from: &Code| -> Vec<String> {
            let known: BTreeSet<&String> = from.0.values().collect();
            of.0.iter().filter(|(_, hash)| !known.contains(hash)).map(|(name, _)| name.clone()).collect()
        };
        let (changed, gone) = (difference(now, self), difference(self, now));
        match (changed.is_empty(), gone.is_empty()) {
            (true, true) => None,
            (false, _) => Some(format!("{} changed", changed.join(", "))),
            (true, false) => Some(format!("{} no longer there", gone.join(", "))),
        }
    }
}

/// The device that a runtime's default configurations are of; `None` for the host. Metal's kernels are those of Vulkan.
fn target(runtime: RuntimeKind) -> Option<Target> {
    match runtime {
        RuntimeKind::Host => None,
        RuntimeKind::Cuda => Some(EMITTED_FOR),
        RuntimeKind::Vulkan | RuntimeKind::Metal => Some(Target::Vulkan),
    }
}

/// What text is emitted for.
const EMITTED_FOR: Target = Target::Cuda(90);

/// The key of emitted code.
fn key(op: &str, id: &str, order: u8, runtime: RuntimeKind) -> String {
    let device = if runtime == RuntimeKind::Cuda { "cuda" } else { "vulkan" };
    format!("{op} {} {device}", kernel_name(id, order))
}

/// The kernels of a variant in an order, as a kind of device is given them by default.
fn emitted(subject: &Subject, of: Target) -> Result<Code> {
    let (recorder, device) = (Recorder::new(EMITTED_FOR), Recorder::new(of).device().clone());
    let mut texts: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for sizes in &SIZES {
        let (problem, call) = (subject.problem(PROBLEM, sizes)?, subject.call_on(PROBLEM, sizes)?);
        for dtype in Dtype::ALL {
            let config = subject.default_config(&device, dtype, &problem);
            let kernels = call
                .record(&recorder, dtype, &config)
                .map_err(|error| Failure::fault(format!("{} in {dtype} under {config}: {error}", subject.name())))?;
            for kernel in kernels {
                // The second of one name, with other parameters, is told apart by its text.
                let name = kernel.name.split('#').next().unwrap_or_default().to_owned();
                texts.entry(name).or_default().insert(hash([nameless(&kernel).as_str()]));
            }
        }
    }
    Ok(Code(texts.into_iter().map(|(name, hashes)| (name, hash(hashes.iter().map(String::as_str)))).collect()))
}

/// The text of a kernel without what its function is called.
fn nameless(kernel: &Kernel) -> String {
    if kernel.entry.is_empty() { kernel.text.clone() } else { kernel.text.replace(&kernel.entry, "kernel") }
}

/// The first 16 digits of SHA-256 over all parts.
fn hash<'a>(parts: impl IntoIterator<Item = &'a str>) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// The file of hashes of emitted text.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Emitted {
    schema: u32,
    /// By op, variant with its order, and kind of device.
    pub code: BTreeMap<String, Code>,
}

impl Emitted {
    const SCHEMA: u32 = 1;

    /// Reads the file from text.
    ///
    /// # Errors
    /// What about it is no such file.
    pub fn parse(text: &str) -> std::result::Result<Self, String> {
        let found: Self = serde_json::from_str(text).map_err(|e| e.to_string())?;
        if found.schema != Self::SCHEMA {
            return Err(format!("schema {}, expected {}", found.schema, Self::SCHEMA));
        }
        Ok(found)
    }

    /// What this binary emits for every variant of an op, in every order and for both kinds of device.
    ///
    /// # Errors
    /// A kernel that cannot be emitted.
    pub fn of(op: &str) -> Result<Self> {
        let mut code = BTreeMap::new();
        for subject in Subject::all(op)? {
            for runtime in [RuntimeKind::Cuda, RuntimeKind::Vulkan] {
                let key = key(op, subject.id, subject.order(), runtime);
                code.insert(key, Code::of(op, subject.id, subject.order(), runtime)?);
            }
        }
        Ok(Self { schema: Self::SCHEMA, code })
    }

    /// Takes over another file's code of an op.
    pub fn replace(&mut self, op: &str, with: Emitted) {
        let start = format!("{op} ");
        self.schema = with.schema;
        self.code.retain(|key, _| !key.starts_with(&start));
        self.code.extend(with.code);
    }

    /// How this file differs from what is emitted for an op.
    pub fn differences(&self, op: &str, now: &Emitted) -> Vec<String> {
        let (start, empty) = (format!("{op} "), Code::default());
        let keys: BTreeSet<&String> =
            self.code.keys().chain(now.code.keys()).filter(|k| k.starts_with(&start)).collect();
        let difference = |key: &String| {
            let (then, now) = (self.code.get(key).unwrap_or(&empty), now.code.get(key).unwrap_or(&empty));
            then.changes(now).map(|what| format!("{key}: {what}"))
        };
        keys.into_iter().filter_map(difference).collect()
    }
}

#[cfg(test)]
mod tests {
    use ff_spec::OPS;

    use super::*;

    fn code(pairs: &[(&str, &str)]) -> Code {
        Code(pairs.iter().map(|(name, hash)| ((*name).to_owned(), (*hash).to_owned())).collect())
    }

    #[test]
    fn what_changed_is_named_and_a_name_is_no_change() {
        let then = code(&[("walk", "1"), ("add", "2")]);
        assert_eq!(then.changes(&code(&[("walked", "1"), ("add", "2")])), None);
        assert_eq!(then.hash(), code(&[("a", "2"), ("b", "1")]).hash());
        assert_eq!(then.changes(&code(&[("walk", "1"), ("add", "3")])).as_deref(), Some("add changed"));
        assert_eq!(then.changes(&code(&[("walk", "1")])).as_deref(), Some("add no longer there"));
        assert_eq!(code(&[("walk", "1")]).changes(&then).as_deref(), Some("add changed"));
        assert_eq!(Code::default().changes(&then).as_deref(), Some("what ran is not known"));
        assert_eq!(then.changes(&Code::default()).as_deref(), Some("what runs now is not known"));
        assert_ne!(then.hash(), code(&[("walk", "1")]).hash());
        assert_eq!(Code::default().hash(), "");
    }

    #[test]
    fn the_table_of_sources_is_of_the_files() {
        let crates = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let found = crate::sources::find(&crates).expect("readable");
        assert_eq!(found.len(), HOST_SOURCES.len());
        for (file, (op, _, name, orders, digest)) in found.iter().zip(HOST_SOURCES) {
            assert_eq!(
                (file.op.as_str(), file.name.as_str(), &file.orders[..]),
                (*op, *name, *orders),
                "{:?}",
                file.part
            );
            assert_eq!(file.digest, *digest, "{name}");
        }
    }

    #[test]
    fn every_host_kernel_has_sources_of_its_own() {
        for subject in OPS.iter().flat_map(|op| Subject::all(op).unwrap_or_else(|e| panic!("{}", e.message))) {
            let code = Code::on_host(subject.op.name(), subject.id, subject.order());
            for group in ["sources of every op", "sources of every order"] {
                assert!(code.0.contains_key(group), "{} has no {group}", subject.name());
            }
        }
        let of = |id: &str, order| Code::on_host("fused_message", id, order);
        let (gaussian, bessel) = ("painn_linear_gaussian_cosine_receiver", "painn_linear_bessel_cosine_receiver");
        assert_eq!(of(gaussian, 1).changes(&of(gaussian, 2)).as_deref(), Some("sources of order 2 changed"));
        assert_eq!(of(gaussian, 0).changes(&of(bessel, 0)).as_deref(), Some("sources of the variant changed"));
    }

    #[test]
    fn the_name_of_a_function_is_no_part_of_its_text() {
        let kernel = |entry: &str| Kernel {
            name: entry.to_owned(),
            units: 1,
            text: format!("void {entry}(float* x) {{ x[0] = 1.0; }} // {entry}"),
            entry: entry.to_owned(),
            shared_memory: 0,
        };
        assert_eq!(nameless(&kernel("walk_f_32")), nameless(&kernel("gather_f_32")));
    }

    /// For both kinds of device, all orders and sizes; of messages those with the usual radial functions, since emitting all
    /// of them takes minutes, which `inspect --emitted` does.
    #[test]
    fn the_committed_hashes_are_of_what_is_emitted() {
        let committed = Emitted::parse(EMITTED).expect("the committed file reads");
        let usual =
            |id: &str| !["bessel", "expnorm", "mollifier", "polynomial"].iter().any(|radial| id.contains(radial));
        let mut differences = Vec::new();
        for subject in OPS
            .iter()
            .flat_map(|op| Subject::all(op).unwrap_or_else(|e| panic!("{}", e.message)))
            .filter(|subject| usual(subject.id))
        {
            for runtime in [RuntimeKind::Cuda, RuntimeKind::Vulkan] {
                let (op, id, order) = (subject.op.name(), subject.id, subject.order());
                let then = committed.code.get(&key(op, id, order, runtime)).cloned().unwrap_or_default();
                let now = Code::of(op, id, order, runtime).unwrap_or_else(|e| panic!("{}", e.message));
                differences.extend(then.changes(&now).map(|what| format!("{}: {what}", key(op, id, order, runtime))));
            }
        }
        assert!(differences.is_empty(), "run `inspect OP --emitted … --update`: {differences:#?}");
    }
}
