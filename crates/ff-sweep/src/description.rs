use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ff_tables::nearest;
use ff_tune::Expression;
use toml::{Table, Value as Toml};

use crate::axes::{AXES, CONFIG, Values, values_of};
use crate::row::Value;

/// The schema version of descriptions.
const SCHEMA: u64 = 1;

/// Rows that a sweep may have where it does not say.
const LIMIT: usize = 2000;

/// What a sweep does with its rows.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// Gates and times kernels.
    Timing,
    /// Searches recorded measurements again.
    Replay(ReplayOf),
}

/// What a replay is of.
#[derive(Clone, Debug, PartialEq)]
pub struct ReplayOf {
    /// The records.
    pub records: PathBuf,
    /// Searches per row, each with a seed of its own.
    pub searches: usize,
}

/// How long a row is timed.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampling {
    /// Time of samples of a row.
    pub time: Duration,
    /// Samples that are taken whatever they take.
    pub least: usize,
    /// Samples that are enough.
    pub most: usize,
    /// A row of which one run takes longer is given up.
    pub timeout: Duration,
}

impl Default for Sampling {
    fn default() -> Self {
        Self { time: Duration::from_millis(500), least: 5, most: 50, timeout: Duration::from_secs(60) }
    }
}

/// Values by axis.
pub(crate) type Axes = BTreeMap<String, Vec<Value>>;

/// What rows are taken out by.
#[derive(Clone, Debug, Default)]
pub(crate) struct Exclude {
    /// Each of these axes has one of these values.
    pub(crate) values: Axes,
    /// And this is true.
    pub(crate) when: Option<Expression>,
}

/// A sweep as its file says it.
#[derive(Clone, Debug)]
pub struct Description {
    /// What it is about, in one line.
    pub title: String,
    /// What it does.
    pub kind: Kind,
    /// Rows that it may have.
    pub limit: usize,
    /// How often each row is measured.
    pub repeats: u64,
    /// Axes whose values are measured in turns, side by side on the same inputs.
    pub beside: Vec<String>,
    /// How long.
    pub sampling: Sampling,
    pub(crate) path: PathBuf,
    pub(crate) axes: Axes,
    pub(crate) derived: BTreeMap<String, Expression>,
    pub(crate) includes: Vec<Axes>,
    pub(crate) excludes: Vec<Exclude>,
}

/// A description that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("sweep {}: {reason}", path.display())]
pub struct DescriptionError {
    /// Which file.
    pub path: PathBuf,
    /// What was expected and found, and where.
    pub reason: String,
}

/// Keys at the top of a description.
const TOP: &[&str] = &[
    "schema", "title", "kind", "limit", "repeats", "beside", "sampling", "replay", "axes", "derived", "include",
    "exclude",
];

impl Description {
    /// Reads a file.
    ///
    /// # Errors
    /// [`DescriptionError`] for what cannot be read, an unknown key (with the nearest known one), and a value of the wrong kind.
    pub fn load(path: &Path) -> Result<Self, DescriptionError> {
        let text = fs::read_to_string(path)
            .map_err(|e| DescriptionError { path: path.to_owned(), reason: format!("cannot be read: {e}") })?;
        Self::parse(&text, path)
    }

    /// Reads the text of a file; `path` is for messages, and what relative paths in the text start from.
    ///
    /// # Errors
    /// As [`Description::load`].
    pub fn parse(text: &str, path: &Path) -> Result<Self, DescriptionError> {
        read(text, path).map_err(|reason| DescriptionError { path: path.to_owned(), reason })
    }

    pub(crate) fn error(&self, reason: String) -> DescriptionError {
        DescriptionError { path: self.path.clone(), reason }
    }

    /// The name of the folder that the file lies in: what results and notebooks are called by.
    pub fn slug(&self) -> String {
        let folder = self.path.canonicalize().ok();
        let folder = folder.as_deref().and_then(Path::parent).and_then(Path::file_name);
        folder.map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    }
}

fn read(text: &str, path: &Path) -> Result<Description, String> {
    let mut top: Table = text.parse().map_err(|e: toml::de::Error| e.to_string().trim_end().to_owned())?;
    known(&top, TOP, "")?;
    match top.remove("schema") {
        Some(Toml::Integer(1)) => {}
        Some(other) => return Err(format!("schema version {other}, expected {SCHEMA}")),
        None => return Err(format!("no `schema`, expected `schema = {SCHEMA}`")),
    }
    let title = match top.remove("title") {
        None => String::new(),
        Some(Toml::String(title)) => title,
        Some(other) => return Err(wrong("title", &other, "text")),
    };
    let replay = section(&mut top, "replay", &["records", "searches"])?;
    let kind = match top.remove("kind").as_ref().map(Toml::as_str) {
        None | Some(Some("timing")) if replay.is_none() => Kind::Timing,
        None | Some(Some("timing")) => {
            return Err("a `replay` section, expected `kind = \"replay\"` with it".to_owned());
        }
        Some(Some("replay")) => Kind::Replay(replay_of(replay.unwrap_or_default(), path)?),
        Some(other) => return Err(format!("`kind` is {other:?}, expected \"timing\" or \"replay\"")),
    };
    let limit = count(top.remove("limit"), "limit", LIMIT as u64, 1)? as usize;
    let repeats = count(top.remove("repeats"), "repeats", 1, 1)?;
    let sampling =
        sampling(section(&mut top, "sampling", &["seconds", "least", "most", "timeout_s"])?.unwrap_or_default())?;
    let axes = match top.remove("axes") {
        Some(Toml::Table(table)) => read_axes(table, "axes", &[])?.0,
        Some(other) => return Err(wrong("axes", &other, "a table")),
        None => return Err("no `axes`, expected a table of them".to_owned()),
    };
    let derived = match top.remove("derived") {
        Some(Toml::Table(table)) => derived(table, &axes)?,
        Some(other) => return Err(wrong("derived", &other, "a table of expressions")),
        None => BTreeMap::new(),
    };
    let (mut includes, mut excludes) = (Vec::new(), Vec::new());
    for (place, table) in tables(top.remove("include"), "include")? {
        includes.push(read_axes(table, &place, &[])?.0);
    }
    for (place, table) in tables(top.remove("exclude"), "exclude")? {
        let (values, mut rest) = read_axes(table, &place, &["when"])?;
        let when = match rest.remove("when") {
            None => None,
            Some(Toml::String(text)) => Some(expression(&text, &format!("{place}.when"))?),
            Some(other) => return Err(wrong(&format!("{place}.when"), &other, "an expression")),
        };
        if values.is_empty() && when.is_none() {
            return Err(format!("`{place}` is empty and would exclude every row, expected axes or `when`"));
        }
        excludes.push(Exclude { values, when });
    }
    let beside = beside(top.remove("beside"), &axes)?;
    Ok(Description {
        title,
        kind,
        limit,
        repeats,
        beside,
        sampling,
        path: path.to_owned(),
        axes,
        derived,
        includes,
        excludes,
    })
}

/// Expects that every key is a known one.
fn known(table: &Table, known: &[&str], place: &str) -> Result<(), String> {
    let Some(unknown) = table.keys().find(|key| !known.contains(&key.as_str())) else { return Ok(()) };
    Err(format!("unknown key `{place}{unknown}`{}, expected one of {}", meant(unknown, known), known.join(", ")))
}

fn meant(found: &str, known: &[&str]) -> String {
    nearest(found, known.iter().copied()).map(|n| format!(", did you mean `{n}`?")).unwrap_or_default()
}

fn wrong(place: &str, found: &Toml, expected: &str) -> String {
    format!("`{place}` is {found}, expected {expected}")
}

fn section(top: &mut Table, name: &str, keys: &[&str]) -> Result<Option<Table>, String> {
    match top.remove(name) {
        None => Ok(None),
        Some(Toml::Table(table)) => {
            known(&table, keys, &format!("{name}."))?;
            Ok(Some(table))
        }
        Some(other) => Err(wrong(name, &other, "a table")),
    }
}

fn count(found: Option<Toml>, place: &str, default: u64, smallest: u64) -> Result<u64, String> {
    match found {
        None => Ok(default),
        Some(Toml::Integer(n)) if u64::try_from(n).is_ok_and(|n| n >= smallest) => Ok(n as u64),
        Some(other) => Err(wrong(place, &other, &format!("a whole number from {smallest}"))),
    }
}

fn seconds(found: Option<Toml>, place: &str, default: Duration) -> Result<Duration, String> {
    let Some(found) = found else { return Ok(default) };
    let number = found.as_float().or(found.as_integer().map(|n| n as f64));
    let time = number.filter(|s| (0.0..=86400.0).contains(s)).map(Duration::from_secs_f64);
    time.ok_or_else(|| wrong(place, &found, "0 to 86400 seconds"))
}

fn sampling(mut table: Table) -> Result<Sampling, String> {
    let default = Sampling::default();
    let least = count(table.remove("least"), "sampling.least", default.least as u64, 1)? as usize;
    let most = count(table.remove("most"), "sampling.most", default.most.max(least) as u64, 1)? as usize;
    if most < least {
        return Err(format!("`sampling.most` is {most}, expected at least `sampling.least`, which is {least}"));
    }
    Ok(Sampling {
        time: seconds(table.remove("seconds"), "sampling.seconds", default.time)?,
        least,
        most,
        timeout: seconds(table.remove("timeout_s"), "sampling.timeout_s", default.timeout)?,
    })
}

fn replay_of(mut table: Table, path: &Path) -> Result<ReplayOf, String> {
    let records = match table.remove("records") {
        Some(Toml::String(file)) => path.parent().unwrap_or(Path::new("")).join(file),
        Some(other) => return Err(wrong("replay.records", &other, "the name of a file")),
        None => return Err("no `replay.records`, expected the name of a file".to_owned()),
    };
    let searches = count(table.remove("searches"), "replay.searches", 25, 1)?;
    Ok(ReplayOf { records, searches: searches as usize })
}

fn tables(found: Option<Toml>, name: &str) -> Result<Vec<(String, Table)>, String> {
    let Some(found) = found else { return Ok(Vec::new()) };
    let Toml::Array(items) = found else { return Err(wrong(name, &found, &format!("tables, as of [[{name}]]"))) };
    items
        .into_iter()
        .enumerate()
        .map(|(i, item)| match item {
            Toml::Table(table) => Ok((format!("{name}[{i}]"), table)),
            other => Err(wrong(&format!("{name}[{i}]"), &other, "a table")),
        })
        .collect()
}

/// The axes of a table, and the keys besides them that were expected there.
fn read_axes(table: Table, place: &str, besides: &[&str]) -> Result<(Axes, Table), String> {
    let (mut found, mut rest) = (Axes::new(), Table::new());
    for (name, value) in table {
        if name == "repeat" {
            return Err(format!("`{place}.repeat` is made by `repeats = N`, expected that in its place"));
        }
        if besides.contains(&name.as_str()) {
            rest.insert(name, value);
        } else if let (true, Toml::Table(parameters)) = (name == "config", &value) {
            for (parameter, value) in parameters {
                let name = format!("{CONFIG}{parameter}");
                found.insert(name.clone(), values(&name, value, place)?);
            }
        } else {
            let read = values(&name, &value, place).map_err(|error| {
                if values_of(&name).is_none() { unknown_axis(&name, place, besides) } else { error }
            })?;
            found.insert(name, read);
        }
    }
    Ok((found, rest))
}

fn unknown_axis(name: &str, place: &str, besides: &[&str]) -> String {
    let axes = AXES.iter().map(|axis| axis.name).filter(|name| *name != "repeat");
    let known: Vec<&str> = axes.chain(besides.iter().copied()).chain(["config"]).collect();
    format!("unknown key `{place}.{name}`{}, expected one of {}", meant(name, &known), known.join(", "))
}

/// One value, or a list of them without repetition.
fn values(name: &str, found: &Toml, place: &str) -> Result<Vec<Value>, String> {
    let place = format!("{place}.{name}");
    let Some(kind) = values_of(name) else { return Err(format!("unknown axis `{place}`")) };
    let one = std::slice::from_ref(found);
    let items = found.as_array().map_or(one, Vec::as_slice);
    if items.is_empty() {
        return Err(format!("`{place}` has no values, expected at least one"));
    }
    let mut values = Vec::new();
    for item in items {
        let value = match item {
            Toml::String(text) => Some(Value::Text(text.clone())),
            // 5 and 5.0 are one value of such an axis.
            Toml::Integer(n) if kind == Values::Number => Some(Value::Number(*n as f64)),
            Toml::Integer(n) => u64::try_from(*n).ok().map(Value::Integer),
            Toml::Float(x) => Some(Value::Number(*x)),
            _ => None,
        };
        let value = value.filter(|value| kind.takes(value)).ok_or_else(|| wrong(&place, item, &kind.expected()))?;
        if values.contains(&value) {
            return Err(format!("`{place}` has {value} twice, expected different values"));
        }
        values.push(value);
    }
    Ok(values)
}

fn expression(text: &str, place: &str) -> Result<Expression, String> {
    let parsed = Expression::parse(text).map_err(|e| format!("`{place}`: {e}"))?;
    for name in parsed.names() {
        if axis_of_name(name).is_none() {
            let known: Vec<&str> = AXES.iter().map(|axis| axis.name).collect();
            return Err(format!("`{place}` names `{name}`, which is no axis{}", meant(name, &known)));
        }
    }
    Ok(parsed)
}

/// The axis that a name in an expression stands for. Expressions have no dots: `config_unroll` is `config.unroll`.
pub(crate) fn axis_of_name(name: &str) -> Option<String> {
    let name = name.strip_prefix("config_").map_or_else(|| name.to_owned(), |parameter| format!("{CONFIG}{parameter}"));
    values_of(&name).map(|_| name)
}

fn derived(table: Table, axes: &Axes) -> Result<BTreeMap<String, Expression>, String> {
    let mut derived = BTreeMap::new();
    let mut add = |name: String, value: &Toml| {
        let place = format!("derived.{name}");
        let kind = values_of(&name).ok_or_else(|| unknown_axis(&name, "derived", &[]))?;
        if !matches!(kind, Values::Integer | Values::Number) {
            return Err(format!("`{place}`: an expression is a number, and `{name}` is {}", kind.expected()));
        }
        if axes.contains_key(&name) {
            return Err(format!("`{place}` is an axis already, expected one of the two"));
        }
        let text = value.as_str().ok_or_else(|| wrong(&place, value, "an expression in quotes"))?;
        derived.insert(name, expression(text, &place)?);
        Ok(())
    };
    for (name, value) in table {
        match (&value, name.as_str()) {
            (Toml::Table(parameters), "config") => {
                parameters.iter().try_for_each(|(parameter, value)| add(format!("{CONFIG}{parameter}"), value))?;
            }
            _ => add(name, &value)?,
        }
    }
    Ok(derived)
}

fn beside(found: Option<Toml>, axes: &Axes) -> Result<Vec<String>, String> {
    let Some(found) = found else { return Ok(Vec::new()) };
    let names: Option<Vec<String>> =
        found.as_array().and_then(|names| names.iter().map(|name| name.as_str().map(str::to_owned)).collect());
    let names = names.ok_or_else(|| wrong("beside", &found, "a list of names of axes"))?;
    for name in &names {
        if !axes.contains_key(name) {
            let known: Vec<&str> = axes.keys().map(String::as_str).collect();
            let meant = meant(name, &known);
            return Err(format!("`beside` names `{name}`, which is no axis of this sweep{meant}"));
        }
        // Rows that take turns are of one order on one device.
        if ["order", "runtime", "op"].contains(&name.as_str()) {
            return Err(format!("`beside` names `{name}`, and rows of several cannot take turns"));
        }
    }
    Ok(names)
}
