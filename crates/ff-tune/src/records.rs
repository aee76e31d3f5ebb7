//! Records: every sample and every verdict, as JSON lines that are only ever appended. Everything else is derived.
//!
//! One line is one [`Stage`] of one configuration. A line counts from its line feed on: what a crash leaves behind the
//! last one is dropped where it is no whole record, and said so.

use std::fmt;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use ff_spec::{Clock, DeviceId, Dtype, LaunchConfig, Problem, SCHEMA_VERSION};
use ff_tables::Evidence;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::times::Times;

/// What came of a configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Gated, timed and gated again.
    Correct,
    /// Gated, then dropped as too slow.
    Eliminated,
    /// Refused before the launch.
    Constraint,
    /// Did not compile.
    Compile,
    /// Failed while running.
    Runtime,
    /// One run took too long.
    Timeout,
    /// Ran, with a wrong result.
    Correctness,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Verdict::Correct => "correct",
            Verdict::Eliminated => "eliminated",
            Verdict::Constraint => "constraint",
            Verdict::Compile => "compile",
            Verdict::Runtime => "runtime",
            Verdict::Timeout => "timeout",
            Verdict::Correctness => "correctness",
        })
    }
}

/// When a configuration was measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// A first look, beside others of its batch.
    Screen,
    /// The default beside a batch: what shows drift between batches.
    Anchor,
    /// Among the best, with more samples.
    Final,
}

/// One line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// [`SCHEMA_VERSION`].
    pub schema: u32,
    /// The family of kernels.
    pub op: String,
    /// Variant id.
    pub variant: String,
    /// Hash of the kernel source.
    pub kernel_hash: String,
    /// The configuration.
    pub config: LaunchConfig,
    /// The problem.
    pub problem: Problem,
    /// Element type.
    pub dtype: Dtype,
    /// The device with its driver.
    pub device: DeviceId,
    /// What compiled the kernel.
    pub compiler: String,
    /// What the samples were measured with.
    pub clock: Clock,
    /// When in the search.
    pub stage: Stage,
    /// Every sample in the order in which it was taken, ns.
    pub samples_ns: Vec<u64>,
    /// How many of them each round has; empty in records of earlier versions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub blocks: Vec<u32>,
    /// What came of it.
    pub verdict: Verdict,
    /// Why, for every verdict but `correct`.
    pub reason: Option<String>,
    /// What the gate measured, where it ran.
    pub evidence: Option<Evidence>,
    /// What it took on the clock; not in records of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<Times>,
    /// Seed of the search.
    pub seed: u64,
    /// Seconds since 1970.
    pub unix_time: u64,
}

impl Record {
    /// What a measurement is of: two records with the same identity measured the same thing, and the later one counts.
    pub fn identity(&self) -> String {
        identity(
            &self.kernel_hash,
            &self.variant,
            &self.config,
            &self.problem,
            self.dtype,
            &self.device,
            &self.compiler,
        )
    }
}

/// [`Record::identity`] of what has yet to be measured.
pub(crate) fn identity(
    kernel_hash: &str,
    variant: &str,
    config: &LaunchConfig,
    problem: &Problem,
    dtype: Dtype,
    device: &DeviceId,
    compiler: &str,
) -> String {
    let DeviceId { runtime, slug, driver, threads, .. } = device;
    let Problem { name, n_atoms, n_systems, n_edges, max_degree, features, n_basis, hidden } = problem;
    // A unit separator, which none of these texts holds.
    [
        kernel_hash.to_owned(),
        variant.to_owned(),
        config.to_string(),
        format!("{name} {n_atoms} {n_systems} {n_edges} {max_degree} {features} {n_basis} {hidden} {dtype}"),
        format!("{runtime} {slug} {threads}"),
        driver.clone(),
        compiler.to_owned(),
    ]
    .join("\u{1f}")
}

/// Records that cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The file system refuses. What was written before is kept.
    #[error("cannot {action} records {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Another run holds the file.
    #[error("records {} are in use by another run, expected a folder of its own", path.display())]
    InUse {
        /// Which file.
        path: PathBuf,
    },
    /// Another schema version.
    #[error("records {}, line {line}: schema version {found}, expected {SCHEMA_VERSION}", path.display())]
    Schema {
        /// Which file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// The version there.
        found: u64,
    },
    /// A whole line that is no record.
    #[error("records {}, line {line}: {reason}", path.display())]
    Malformed {
        /// Which file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
}

/// What a crash left of a last line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TornLine {
    /// Line, from 1.
    pub line: usize,
    /// Bytes that were dropped.
    pub bytes: usize,
}

impl fmt::Display for TornLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "dropped the torn last line {} ({} bytes), as a run that was killed leaves it", self.line, self.bytes)
    }
}

/// Reads records, without a torn last line.
///
/// # Errors
/// [`RecordError`] with file and line.
pub fn read(path: &Path) -> Result<(Vec<Record>, Option<TornLine>), RecordError> {
    let bytes = fs::read(path).map_err(|source| RecordError::Io { action: "read", path: path.to_owned(), source })?;
    parse(&bytes, path)
}

/// Reads records from the contents of a file; `path` is for messages.
///
/// # Errors
/// As [`read`].
pub fn parse(bytes: &[u8], path: &Path) -> Result<(Vec<Record>, Option<TornLine>), RecordError> {
    let mut records = Vec::new();
    for (index, line) in bytes.split_inclusive(|b| *b == b'\n').enumerate() {
        let (line, whole) = line.strip_suffix(b"\n").map_or((line, false), |line| (line, true));
        match parse_line(line, index + 1, path) {
            Ok(record) => records.push(record),
            // No object is the beginning of another, so a tail that reads as a record lost nothing but its line feed.
            Err(RecordError::Malformed { line: number, .. }) if !whole => {
                return Ok((records, Some(TornLine { line: number, bytes: line.len() })));
            }
            Err(error) => return Err(error),
        }
    }
    Ok((records, None))
}

fn parse_line(bytes: &[u8], line: usize, path: &Path) -> Result<Record, RecordError> {
    let malformed =
        |e: serde_json::Error| RecordError::Malformed { path: path.to_owned(), line, reason: e.to_string() };
    match serde_json::from_slice::<Record>(bytes) {
        Ok(record) if record.schema == SCHEMA_VERSION => Ok(record),
        other => {
            // Another version explains whatever else does not fit.
            let value: Value = serde_json::from_slice(bytes).map_err(malformed)?;
            match value.get("schema").and_then(Value::as_u64) {
                Some(found) if found != u64::from(SCHEMA_VERSION) => {
                    Err(RecordError::Schema { path: path.to_owned(), line, found })
                }
                _ => other.map_err(malformed),
            }
        }
    }
}

/// Appends records to a file that no other run appends to meanwhile.
#[derive(Debug)]
pub struct RecordWriter {
    file: File,
    path: PathBuf,
    /// Length of the file up to its last whole line.
    length: u64,
    existing: Vec<Record>,
    torn: Option<TornLine>,
}

impl RecordWriter {
    /// Opens a file for appending, making it and its folder where missing; cuts off a torn last line.
    ///
    /// # Errors
    /// [`RecordError`], before anything is measured: not writable, in use, malformed, another schema version.
    pub fn open(path: &Path) -> Result<Self, RecordError> {
        let io = |action| move |source| RecordError::Io { action, path: path.to_owned(), source };
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir).map_err(io("make the folder of"))?;
        }
        let mut file = OpenOptions::new().append(true).create(true).open(path).map_err(io("open"))?;
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => return Err(RecordError::InUse { path: path.to_owned() }),
            // Some network file systems have no locks; then it is up to the user.
            Ok(()) | Err(TryLockError::Error(_)) => {}
        }
        // A device or a pipe has nothing to read back.
        let regular = file.metadata().map_err(io("open"))?.is_file();
        let bytes = if regular { fs::read(path).map_err(io("read"))? } else { Vec::new() };
        let (existing, torn) = parse(&bytes, path)?;
        let mut length = bytes.len() as u64;
        if let Some(torn) = &torn {
            length -= torn.bytes as u64;
            file.set_len(length).map_err(io("repair"))?;
        } else if bytes.last().is_some_and(|b| *b != b'\n') {
            file.write_all(b"\n").map_err(io("repair"))?;
            length += 1;
        }
        Ok(Self { file, path: path.to_owned(), length, existing, torn })
    }

    /// The records that the file held when it was opened.
    pub fn existing(&self) -> &[Record] {
        &self.existing
    }

    /// What was cut off when the file was opened.
    pub fn torn(&self) -> Option<&TornLine> {
        self.torn.as_ref()
    }

    /// Where the records go.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Appends one line with one write.
    ///
    /// # Errors
    /// [`RecordError::Io`]; then the file is cut back to its last whole line.
    pub fn append(&mut self, record: &Record) -> Result<(), RecordError> {
        let mut line = serde_json::to_vec(record).map_err(|e| self.error("write", io::Error::other(e)))?;
        line.push(b'\n');
        if let Err(source) = self.file.write_all(&line).and_then(|()| self.file.flush()) {
            // A part of the line may be there. If it cannot be cut off either, the reader drops it.
            let _ = self.file.set_len(self.length);
            return Err(self.error("write", source));
        }
        self.length += line.len() as u64;
        Ok(())
    }

    /// Waits until what was appended is on the disk.
    ///
    /// # Errors
    /// [`RecordError::Io`].
    pub fn sync(&mut self) -> Result<(), RecordError> {
        self.file.sync_data().map_err(|source| self.error("sync", source))
    }

    fn error(&self, action: &'static str, source: io::Error) -> RecordError {
        RecordError::Io { action, path: self.path.clone(), source }
    }
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};

    use super::*;
    use crate::testing::record;

    fn written(count: u32) -> Vec<u8> {
        let mut bytes = Vec::new();
        for rows in 0..count {
            serde_json::to_writer(&mut bytes, &record(rows)).expect("plain data");
            bytes.push(b'\n');
        }
        bytes
    }

    #[test]
    fn a_cut_at_any_byte_loses_at_most_the_last_line() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("records.jsonl");
        let (bytes, one) = (written(2), written(1).len());
        for cut in 0..=bytes.len() {
            let (records, torn) = parse(&bytes[..cut], &path).expect("readable");
            // A record whose line feed alone is missing is whole.
            let whole = (cut + 1) / one;
            assert_eq!(records.len(), whole, "cut at {cut}");
            assert_eq!(torn.is_some(), cut > whole * one, "cut at {cut}");
        }
        for cut in [one - 1, one, one + 1, one + 100, 2 * one - 1] {
            fs::write(&path, &bytes[..cut]).expect("writable");
            let mut writer = RecordWriter::open(&path).expect("repairable");
            writer.append(&record(9)).expect("writable");
            drop(writer);
            let (records, torn) = read(&path).expect("repaired");
            assert_eq!((records.last(), torn), (Some(&record(9)), None), "cut at {cut}");
            assert_eq!(records.len(), (cut + 1) / one + 1);
        }
    }

    /// At every offset of the last kilobytes and at random ones before them, the file goes on where it was cut.
    #[test]
    fn a_file_that_is_cut_anywhere_can_be_written_on() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("records.jsonl");
        let bytes = written(200);
        let ends: Vec<usize> = bytes.iter().enumerate().filter(|(_, b)| **b == b'\n').map(|(i, _)| i).collect();
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(1);
        let random: Vec<usize> = (0..300).map(|_| rng.random_range(0..bytes.len())).collect();
        for cut in (bytes.len() - 3000..=bytes.len()).chain(random) {
            fs::write(&path, &bytes[..cut]).expect("writable");
            // A line is whole from its last brace on, which is the byte before its line feed.
            let whole = ends.iter().filter(|end| **end <= cut).count();
            let mut writer = RecordWriter::open(&path).expect("repairable");
            assert_eq!(writer.existing().len(), whole, "cut at {cut}");
            assert!(
                writer.existing().iter().enumerate().all(|(i, r)| r.config.get("edges_per_task") == Some(i as u32))
            );
            let torn = writer.torn().map_or(0, |torn| torn.bytes);
            let begun = cut - ends[..whole].last().map_or(0, |end| end + 1).min(cut);
            assert_eq!(torn, begun, "cut at {cut}");
            writer.append(&record(999)).expect("writable");
            drop(writer);
            let (records, torn) = read(&path).expect("whole");
            assert_eq!((records.len(), torn), (whole + 1, None), "cut at {cut}");
        }
    }

    /// A lock ends with its process, however that ends; this one is held by a process that is killed.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_dead_run_holds_nothing() {
        use std::process::{Command, Stdio};

        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("records.jsonl");
        fs::write(&path, written(1)).expect("writable");
        let held = format!("exec 9>>'{}'; flock 9; echo held; exec sleep 60", path.display());
        let mut child = Command::new("sh").args(["-c", &held]).stdout(Stdio::piped()).spawn().expect("a shell");
        let mut said = [0; 5];
        io::Read::read_exact(&mut child.stdout.take().expect("piped"), &mut said).expect("it says that it holds");
        let error = RecordWriter::open(&path).expect_err("held").to_string();
        assert!(error.contains("are in use by another run, expected a folder of its own"), "{error}");
        child.kill().expect("alive");
        child.wait().expect("ends");
        RecordWriter::open(&path).expect("free");
    }

    #[test]
    fn bad_lines_have_numbers() {
        let path = Path::new("r.jsonl");
        let mut bytes = written(1);
        bytes.extend_from_slice(b"{\"schema\":1,\n");
        bytes.extend(written(1));
        let error = parse(&bytes, path).expect_err("malformed");
        assert!(error.to_string().starts_with("records r.jsonl, line 2:"), "{error}");
        let text = String::from_utf8(written(2)).expect("JSON");
        let error = parse(text.replacen("\"schema\":1", "\"schema\":9", 1).as_bytes(), path).expect_err("newer");
        assert!(matches!(error, RecordError::Schema { line: 1, found: 9, .. }));
        let error = parse(text.replacen("\"seed\"", "\"sead\"", 1).as_bytes(), path).expect_err("unknown key");
        assert!(error.to_string().contains("sead"), "{error}");
    }

    #[test]
    fn a_nan_survives_the_file() {
        let mut nan = record(1);
        nan.evidence = nan.evidence.map(|e| Evidence { rel_error: f64::NAN, ..e });
        let line = serde_json::to_vec(&nan).expect("plain data");
        let back: Record = serde_json::from_slice(&line).expect("readable");
        assert!(back.evidence.is_some_and(|e| e.rel_error.is_nan()));
    }

    #[test]
    fn one_run_at_a_time() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("a/records.jsonl");
        let first = RecordWriter::open(&path).expect("writable");
        assert!(matches!(RecordWriter::open(&path), Err(RecordError::InUse { .. })));
        drop(first);
        RecordWriter::open(&path).expect("free again");
        // A file in place of a folder refuses even root.
        assert!(matches!(RecordWriter::open(&path.join("x.jsonl")), Err(RecordError::Io { .. })));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_is_an_error() {
        let mut writer = RecordWriter::open(Path::new("/dev/full")).expect("it opens");
        let error = writer.append(&record(1)).expect_err("full");
        assert!(error.to_string().contains("cannot write records"), "{error}");
    }

    #[test]
    fn the_json_schema_holds() {
        let schema = include_str!("../../../autotune/schema/record.schema.json");
        let schema = serde_json::from_str(schema).expect("the schema is JSON");
        let validator = jsonschema::validator_for(&schema).expect("the schema is one");
        let timed = Record { times: Some(Times { gate_ns: 7, ..Times::default() }), ..record(3) };
        let plain = Record { reason: None, evidence: None, verdict: Verdict::Correct, ..record(2) };
        for record in [record(1), plain, timed] {
            let value = serde_json::to_value(record).expect("plain data");
            let errors: Vec<String> =
                validator.iter_errors(&value).map(|e| format!("{}: {e}", e.instance_path())).collect();
            assert!(errors.is_empty(), "{errors:?}");
        }
        let mut value = serde_json::to_value(record(1)).expect("plain data");
        value["verdict"] = Value::from("fine");
        assert!(!validator.is_valid(&value));
    }
}
