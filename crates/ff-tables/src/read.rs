//! Tables as files are read: what is wrong with an entry, and what the others are.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use ff_spec::{DeviceId, TuneKey};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Deserializer, Value};

use crate::entry::digests;
use crate::table::Refused;
use crate::{Entry, EntryError, EntryFields, TABLE_SCHEMA, Table, Versions};

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
    #[error(
        "tuning table {}: schema version {found}, expected {TABLE_SCHEMA}{}",
        path.display(),
        if *found < u64::from(TABLE_SCHEMA) { ": run `tune` again, which writes it anew" } else { "" }
    )]
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
    /// An entry that is not used, whatever becomes of the others.
    #[error("tuning table {}, line {line}: entry {entry}{} is refused: {reason}", path.display(), named(key.as_deref()))]
    Entry {
        /// Which file.
        path: PathBuf,
        /// The line that it begins in.
        line: usize,
        /// Its index.
        entry: usize,
        /// Its key, where that can be read.
        key: Option<Box<TuneKey>>,
        /// What was expected and found.
        reason: String,
    },
}

fn named(key: Option<&TuneKey>) -> String {
    key.map(|key| format!(" (`{key}`)")).unwrap_or_default()
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

/// A table as it is written; its entries are read one by one.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    #[serde(rename = "schema")]
    _schema: u32,
    op: String,
    device: DeviceId,
    versions: Versions,
    template_hash: String,
    #[serde(rename = "entries")]
    _entries: Vec<IgnoredAny>,
}

impl Table {
    /// Reads a table of which every entry is sound.
    ///
    /// # Errors
    /// [`TableError`] with the path and what was expected; of several entries that are refused the first.
    pub fn load(path: &Path) -> Result<Self, TableError> {
        whole(Self::salvage(path)?)
    }

    /// Reads a table of which every entry is sound from text; `path` is for messages.
    ///
    /// # Errors
    /// As [`Table::load`].
    pub fn parse(text: &str, path: &Path) -> Result<Self, TableError> {
        whole(salvage_text(text, path)?)
    }

    /// Reads the entries of a table that are sound, with a [`TableError::Entry`] for each of the others. To a call for which one
    /// of those is the nearest, [`select`](crate::select) answers with the default.
    ///
    /// # Errors
    /// [`TableError`] where the file is no table at all.
    pub fn salvage(path: &Path) -> Result<(Self, Vec<TableError>), TableError> {
        let io = |source| TableError::Io { action: "read", path: path.to_owned(), source };
        salvage_text(&fs::read_to_string(path).map_err(io)?, path)
    }
}

fn whole((table, refused): (Table, Vec<TableError>)) -> Result<Table, TableError> {
    refused.into_iter().next().map_or(Ok(table), Err)
}

fn salvage_text(text: &str, path: &Path) -> Result<(Table, Vec<TableError>), TableError> {
    let malformed = |reason: String| TableError::Malformed { path: path.to_owned(), reason };
    let mut value: Value = serde_json::from_str(text).map_err(|e| malformed(e.to_string()))?;
    // The version first: a later schema may well have keys that this one does not know.
    let schema = value.get("schema").ok_or_else(|| malformed("missing field `schema`".to_owned()))?;
    match schema.as_u64() {
        Some(found) if found == u64::from(TABLE_SCHEMA) => {}
        // Earlier versions had entries too, and what has none is no table that a search may take the place of.
        Some(found) if found < u64::from(TABLE_SCHEMA) && value.get("entries").is_none() => {
            return Err(malformed("missing field `entries`".to_owned()));
        }
        Some(found) => return Err(TableError::Schema { path: path.to_owned(), found }),
        None => return Err(malformed(format!("`schema` is {schema}, expected {TABLE_SCHEMA}"))),
    }
    let header: Header = serde_json::from_str(text).map_err(|e| malformed(e.to_string()))?;
    let mut table = Table::new(&header.op, header.device, header.versions, &header.template_hash);
    // The shared types of ff-spec ignore keys that they do not know, so compare with what was understood.
    let understood = serde_json::to_value(&table).map_err(|e| malformed(e.to_string()))?;
    value["entries"] = Value::Array(Vec::new());
    if let Some((key, nearest)) = unknown_key(&value, &understood, "") {
        return Err(TableError::UnknownKey { path: path.to_owned(), key, nearest });
    }
    let mut errors = Vec::new();
    for (entry, (line, text)) in elements(text).into_iter().enumerate() {
        match read_entry(text, &table.device.slug) {
            Ok(sound) => table.entries.push(sound),
            Err(reason) => {
                let key = serde_json::from_str::<Value>(text).ok();
                let key = key.and_then(|entry| TuneKey::deserialize(entry.get("key")?).ok());
                table.refused.extend(key.clone().map(|key| Refused { key, reason: reason.clone() }));
                let key = key.map(Box::new);
                errors.push(TableError::Entry { path: path.to_owned(), line, entry, key, reason });
            }
        }
    }
    Ok((table, errors))
}

/// The elements of the array `entries` of a table that was read already, as they are written, each with the line it begins in.
fn elements(text: &str) -> Vec<(usize, &str)> {
    // In a string a quotation mark has a backslash before it, so what is found is a whole string; a key where a colon follows.
    let after = |(at, name): (usize, &str)| {
        let rest = text[at + name.len()..].trim_start().strip_prefix(':')?.trim_start().strip_prefix('[')?;
        Some(text.len() - rest.len())
    };
    let mut at = text.match_indices("\"entries\"").find_map(after).unwrap_or(text.len());
    let mut found = Vec::new();
    loop {
        at += text[at..].len() - text[at..].trim_start_matches([' ', '\t', '\r', '\n', ',']).len();
        let mut stream = Deserializer::from_str(&text[at..]).into_iter::<IgnoredAny>();
        let Some(Ok(_)) = stream.next() else { return found };
        let end = at + stream.byte_offset();
        found.push((text[..at].matches('\n').count() + 1, &text[at..end]));
        at = end;
    }
}

/// Reads one entry as it is written.
fn read_entry(text: &str, device: &str) -> Result<Entry, String> {
    let text = without_space(text);
    let Some((fields, named, own)) = digests(&text) else {
        // What is wrong besides is of more use than that.
        understood(&text)?;
        return Err("no `digest` at its end, expected that of its fields".to_owned());
    };
    let entry = Entry::new(understood(&fields)?).map_err(|e| e.to_string())?;
    if entry.pass.device() != device {
        let (found, expected) = (entry.pass.device().to_owned(), device.to_owned());
        return Err(EntryError::Device { found, expected }.to_string());
    }
    if named != own {
        return Err(format!("it was changed after it was measured: its digest is {own}, expected {named}"));
    }
    Ok(entry)
}

/// The fields of an entry, with no key that nobody reads.
fn understood(text: &str) -> Result<EntryFields, String> {
    // From a value, since places in a text without white space are of no use.
    let value: Value = serde_json::from_str(text).map_err(|e| e.to_string())?;
    let fields = EntryFields::deserialize(&value).map_err(|e| e.to_string())?;
    let known = serde_json::to_value(&fields).map_err(|e| e.to_string())?;
    match unknown_key(&value, &known, "") {
        Some((key, nearest)) => Err(format!("unknown key `{key}`{}", did_you_mean(nearest.as_deref()))),
        None => Ok(fields),
    }
}

/// JSON without the white space between its tokens.
fn without_space(json: &str) -> String {
    let (mut in_string, mut escaped) = (false, false);
    let kept = |c: &char| {
        let keep = in_string || !c.is_ascii_whitespace();
        in_string ^= *c == '"' && !escaped;
        escaped = in_string && *c == '\\' && !escaped;
        keep
    };
    json.chars().filter(kept).collect()
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
    /// Tables that could not, and entries of the others that are refused: a caller says so and goes on without them.
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
        match Table::salvage(&path) {
            Ok((table, refused)) => {
                loaded.tables.push((path, table));
                loaded.errors.extend(refused);
            }
            Err(error) => loaded.errors.push(error),
        }
    }
    loaded
}
