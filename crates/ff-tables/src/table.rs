use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use ff_spec::{DeviceId, SCHEMA_VERSION, TuneKey, family};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Entry;
use crate::entry::same_bucket;

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
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Table {
    /// [`SCHEMA_VERSION`].
    pub schema: u32,
    /// The family of kernels.
    pub op: String,
    /// Where the entries were measured. With `software: true` they are never used on hardware.
    pub device: DeviceId,
    /// What they were measured with.
    pub versions: Versions,
    /// Hash of the templates that the kernels were rendered from. Other templates make other kernels.
    pub template_hash: String,
    entries: Vec<Entry>,
}

/// A table that cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// The file system refuses.
    #[error("cannot {action} tuning table {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// Which file or folder.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Another schema version.
    #[error("tuning table {}: schema version {found}, expected {SCHEMA_VERSION}", path.display())]
    Schema {
        /// Which file.
        path: PathBuf,
        /// The version in the file.
        found: u64,
    },
    /// Not a table.
    #[error("malformed tuning table {}: {reason}", path.display())]
    Malformed {
        /// Which file.
        path: PathBuf,
        /// What is wrong, with line and column where known.
        reason: String,
    },
    /// A key that nobody reads.
    #[error("tuning table {}: unknown key `{key}`{}", path.display(), did_you_mean(nearest.as_deref()))]
    UnknownKey {
        /// Which file.
        path: PathBuf,
        /// Where in the file.
        key: String,
        /// The nearest known key.
        nearest: Option<String>,
    },
}

fn did_you_mean(nearest: Option<&str>) -> String {
    nearest.map(|n| format!(", did you mean `{n}`?")).unwrap_or_default()
}

/// The nearest of the known names, where one is near enough to be meant.
pub fn nearest<'a>(found: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let distances = known.into_iter().map(|name| (strsim::damerau_levenshtein(found, name), name));
    // A third of the letters: `rows_per_cub` is a slip, `foo` is not.
    distances.min().filter(|(distance, name)| *distance <= name.len().max(3) / 3).map(|(_, name)| name)
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
            schema: SCHEMA_VERSION,
            op: op.to_owned(),
            device,
            versions,
            template_hash: template_hash.to_owned(),
            entries: Vec::new(),
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
    pub fn insert(&mut self, entry: Entry) {
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
            self.insert(entry);
        }
        Ok(report)
    }

    /// Everything that is well-formed and still wrong; `path` is where the table was found, if it was.
    ///
    /// That every entry has a pass needs no check: one without could not have been read.
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

    /// Reads a table; everything in it is validated.
    ///
    /// # Errors
    /// [`TableError`] with the path and what was expected.
    pub fn load(path: &Path) -> Result<Self, TableError> {
        let text = fs::read_to_string(path).map_err(|source| TableError::Io {
            action: "read",
            path: path.to_owned(),
            source,
        })?;
        Self::parse(&text, path)
    }

    /// Reads a table from text; `path` is for messages.
    ///
    /// # Errors
    /// As [`Table::load`].
    pub fn parse(text: &str, path: &Path) -> Result<Self, TableError> {
        let malformed = |reason: String| TableError::Malformed { path: path.to_owned(), reason };
        let value: Value = serde_json::from_str(text).map_err(|e| malformed(e.to_string()))?;
        // The version first: a later schema may well have keys that this one does not know.
        let schema = value.get("schema").ok_or_else(|| malformed("missing field `schema`".to_owned()))?;
        match schema.as_u64() {
            Some(found) if found == u64::from(SCHEMA_VERSION) => {}
            Some(found) => return Err(TableError::Schema { path: path.to_owned(), found }),
            None => return Err(malformed(format!("`schema` is {schema}, expected {SCHEMA_VERSION}"))),
        }
        let table: Table = serde_json::from_str(text).map_err(|e| malformed(e.to_string()))?;
        // The shared types of ff-spec ignore keys that they do not know, so compare with what was understood.
        let understood = serde_json::to_value(&table).map_err(|e| malformed(e.to_string()))?;
        if let Some((key, nearest)) = unknown_key(&value, &understood, "") {
            return Err(TableError::UnknownKey { path: path.to_owned(), key, nearest });
        }
        Ok(table)
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

fn order(key: &TuneKey) -> (&str, u8, ff_spec::Dtype, u32, u32, u64, u64, f64) {
    (&key.family, key.order, key.dtype, key.features, key.n_basis, key.n_atoms, key.n_systems, key.mean_degree)
}

/// The first key of `found` that is not in `known`, with the nearest one that is.
fn unknown_key(found: &Value, known: &Value, place: &str) -> Option<(String, Option<String>)> {
    match (found, known) {
        (Value::Object(found), Value::Object(known)) => found.iter().find_map(|(key, value)| {
            let place = if place.is_empty() { key.clone() } else { format!("{place}.{key}") };
            match known.get(key) {
                Some(inner) => unknown_key(value, inner, &place),
                None => {
                    let unused = known.keys().map(String::as_str).filter(|k| !found.contains_key(*k));
                    Some((place, nearest(key, unused).map(str::to_owned)))
                }
            }
        }),
        (Value::Array(found), Value::Array(known)) => {
            found.iter().zip(known).enumerate().find_map(|(i, (f, k))| unknown_key(f, k, &format!("{place}[{i}]")))
        }
        _ => None,
    }
}

/// What [`load_all`] found.
#[derive(Debug, Default)]
pub struct Loaded {
    /// The tables that could be read, by path.
    pub tables: Vec<(PathBuf, Table)>,
    /// Those that could not: a caller says so and goes on without them.
    pub errors: Vec<TableError>,
}

impl Loaded {
    /// The tables alone, for [`select`](crate::select).
    pub fn iter(&self) -> impl Iterator<Item = &Table> + Clone {
        self.tables.iter().map(|(_, table)| table)
    }
}

/// Reads the tables of an op for every device under a root such as `autotune/tables`. A missing root holds none.
pub fn load_all(root: &Path, op: &str) -> Loaded {
    let mut loaded = Loaded::default();
    let folders = match fs::read_dir(root) {
        Ok(folders) => folders,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return loaded,
        Err(source) => {
            loaded.errors.push(TableError::Io { action: "list", path: root.to_owned(), source });
            return loaded;
        }
    };
    let file = format!("{op}.json");
    let mut paths: Vec<PathBuf> = folders.flatten().map(|f| f.path().join(&file)).filter(|p| p.is_file()).collect();
    // Folder order is the file system's; selection must not depend on it.
    paths.sort();
    for path in paths {
        match Table::load(&path) {
            Ok(table) => loaded.tables.push((path, table)),
            Err(error) => loaded.errors.push(error),
        }
    }
    loaded
}
