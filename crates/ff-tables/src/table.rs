use std::io;
use std::path::{Path, PathBuf};

use ff_spec::{DeviceId, TuneKey, family};
use serde::{Deserialize, Serialize};

use crate::entry::same_bucket;
use crate::{Entry, EntryError, TableError};

/// Version of the format of a table. Version 1 had passes that named no configuration and no device, and no digests.
pub const TABLE_SCHEMA: u32 = 2;

/// What a table was made with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Versions {
    /// This workspace.
    pub forgefield: String,
    /// Burn.
    pub burn: String,
    /// CubeCL.
    pub cubecl: String,
}

/// The tuning table of one op on one device.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Table {
    /// [`TABLE_SCHEMA`].
    pub schema: u32,
    /// The family of kernels.
    pub op: String,
    /// Where the entries were measured. With `software: true` they are never used on hardware.
    pub device: DeviceId,
    /// What they were measured with.
    pub versions: Versions,
    /// Hash of the templates that the kernels were rendered from. Other templates make other kernels.
    pub template_hash: String,
    pub(crate) entries: Vec<Entry>,
    /// What stood in the file and is no entry, where its key can be read. It is not written again.
    #[serde(skip)]
    pub(crate) refused: Vec<Refused>,
}

/// An entry of a file that is not used.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Refused {
    /// The calls that it was for.
    pub(crate) key: TuneKey,
    /// What is wrong with it.
    pub(crate) reason: String,
}

/// Something in a table that is well-formed and still wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Finding {
    /// An op that does not exist.
    #[error("op `{0}` does not exist")]
    UnknownOp(String),
    /// An entry that belongs into the table of another op.
    #[error("entry {entry} is of variant `{variant}`, which op `{op}` does not have")]
    Variant {
        /// Index of the entry.
        entry: usize,
        /// Its variant.
        variant: String,
        /// The table's op.
        op: String,
    },
    /// The file does not lie where it would be looked for.
    #[error("lies at {}, expected a path that ends in {}", found.display(), expected.display())]
    Place {
        /// Its path.
        found: PathBuf,
        /// The end it should have.
        expected: PathBuf,
    },
    /// A slug that is no folder name.
    #[error("device slug `{0}` has characters outside [a-z0-9-]")]
    Slug(String),
    /// Two entries under one key.
    #[error("entries {first} and {second} have the same key `{key}`")]
    Duplicate {
        /// Index of one.
        first: usize,
        /// Index of the other.
        second: usize,
        /// Their key.
        key: String,
    },
    /// No entries.
    #[error("holds no entries")]
    Empty,
}

/// Tables that cannot become one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("tables differ in {what}: `{found}`, expected `{expected}`")]
pub struct MergeError {
    /// Which field.
    pub what: &'static str,
    /// Its value in the table to take from.
    pub found: String,
    /// Its value in the table to merge into.
    pub expected: String,
}

/// What a merge did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MergeReport {
    /// Entries under new keys.
    pub added: usize,
    /// Entries that replaced a slower one.
    pub replaced: usize,
    /// Entries that were left out, since the present one is at least as fast.
    pub kept: usize,
}

impl Table {
    /// An empty table.
    pub fn new(op: &str, device: DeviceId, versions: Versions, template_hash: &str) -> Self {
        Self {
            schema: TABLE_SCHEMA,
            op: op.to_owned(),
            device,
            versions,
            template_hash: template_hash.to_owned(),
            entries: Vec::new(),
            refused: Vec::new(),
        }
    }

    /// Where the table of an op on a device lies under a root such as `autotune/tables`.
    pub fn path(root: &Path, slug: &str, op: &str) -> PathBuf {
        root.join(slug).join(format!("{op}.json"))
    }

    /// The entries, in the order of their keys.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The entry of exactly this key.
    pub fn get(&self, key: &TuneKey) -> Option<&Entry> {
        self.entries.iter().find(|e| same_bucket(&e.key, key))
    }

    /// Adds an entry, in place of the one under the same key.
    ///
    /// # Errors
    /// [`EntryError::Device`] where its pass is of another device.
    pub fn insert(&mut self, entry: Entry) -> Result<(), EntryError> {
        if entry.pass.device() != self.device.slug {
            let (found, expected) = (entry.pass.device().to_owned(), self.device.slug.clone());
            return Err(EntryError::Device { found, expected });
        }
        self.put(entry);
        Ok(())
    }

    fn put(&mut self, entry: Entry) {
        self.entries.retain(|e| !same_bucket(&e.key, &entry.key));
        self.entries.push(entry);
        // Sorted, so that a review sees what changed and nothing else.
        self.entries.sort_by(|a, b| order(&a.key).partial_cmp(&order(&b.key)).unwrap_or(std::cmp::Ordering::Equal));
    }

    /// Keeps the entries that are wanted.
    pub fn retain(&mut self, wanted: impl FnMut(&Entry) -> bool) {
        self.entries.retain(wanted);
    }

    /// Takes over the entries of another run or machine of the same kind; under one key the lower median stays.
    ///
    /// # Errors
    /// Where op, runtime, device, kind of adapter or templates differ.
    pub fn merge(&mut self, other: Table) -> Result<MergeReport, MergeError> {
        let device = |d: &DeviceId| format!("{}/{} software={}", d.runtime, d.slug, d.software);
        for (what, found, expected) in [
            ("op", other.op.clone(), self.op.clone()),
            ("device", device(&other.device), device(&self.device)),
            ("template_hash", other.template_hash.clone(), self.template_hash.clone()),
        ] {
            if found != expected {
                return Err(MergeError { what, found, expected });
            }
        }
        let mut report = MergeReport::default();
        for entry in other.entries {
            match self.get(&entry.key).map(|present| entry.median_ns < present.median_ns) {
                None => report.added += 1,
                Some(true) => report.replaced += 1,
                Some(false) => {
                    report.kept += 1;
                    continue;
                }
            }
            // Tables of one device hold entries of that device.
            self.put(entry);
        }
        Ok(report)
    }

    /// Everything that is well-formed and still wrong; `path` is where the table was found, if it was.
    ///
    /// That every entry has a pass of its own configuration needs no check: one without could not have been read.
    pub fn check(&self, path: Option<&Path>) -> Vec<Finding> {
        let mut findings = Vec::new();
        if !ff_spec::OPS.contains(&self.op.as_str()) {
            findings.push(Finding::UnknownOp(self.op.clone()));
        } else {
            let strangers = self.entries.iter().enumerate().filter(|(_, e)| family(&self.op, &e.variant).is_none());
            findings.extend(strangers.map(|(entry, e)| Finding::Variant {
                entry,
                variant: e.variant.clone(),
                op: self.op.clone(),
            }));
        }
        if self.device.slug.is_empty() || self.device.slug != DeviceId::slugify(&self.device.slug) {
            findings.push(Finding::Slug(self.device.slug.clone()));
        }
        let expected = Self::path(Path::new(""), &self.device.slug, &self.op);
        if let Some(found) = path.filter(|p| !p.ends_with(&expected)) {
            findings.push(Finding::Place { found: found.to_owned(), expected });
        }
        for (second, entry) in self.entries.iter().enumerate() {
            if let Some(first) = self.entries[..second].iter().position(|e| same_bucket(&e.key, &entry.key)) {
                findings.push(Finding::Duplicate { first, second, key: entry.key.to_string() });
            }
        }
        if self.entries.is_empty() {
            findings.push(Finding::Empty);
        }
        findings
    }

    /// Replaces the file at `path` as a whole: a reader or a crash sees the old table or the new one.
    ///
    /// # Errors
    /// [`TableError::Io`]; then the old file is as it was.
    pub fn save(&self, path: &Path) -> Result<(), TableError> {
        let io = |source| TableError::Io { action: "write", path: path.to_owned(), source };
        let mut text = serde_json::to_string_pretty(self).map_err(|e| io(io::Error::other(e)))?;
        text.push('\n');
        crate::fs::replace(path, text.as_bytes()).map_err(io)
    }
}

fn order(key: &TuneKey) -> impl PartialOrd {
    let TuneKey { family, order, dtype, n_atoms, n_systems, mean_degree, features, n_basis, axes } = key;
    (family, order, dtype, features, n_basis, n_atoms, n_systems, mean_degree, axes)
}
