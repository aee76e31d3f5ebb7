//! Records: every sample and every verdict, as JSON lines that are only ever appended. Everything else is derived.
//!
//! One line is one [`Stage`] of one configuration; [`crate::lines`] reads and writes them.

use std::fmt;
use std::path::Path;

use ff_spec::{Clock, DeviceId, Dtype, LaunchConfig, Problem, SCHEMA_VERSION};
use ff_tables::Evidence;
use serde::{Deserialize, Serialize};

pub use crate::lines::TornLine;
use crate::lines::{self, Line, LineError, LineWriter};

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
    /// The derivative order; absent in records of a version that tuned forwards alone.
    #[serde(default)]
    pub order: u8,
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
            (&self.variant, self.order),
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
    (variant, order): (&str, u8),
    config: &LaunchConfig,
    problem: &Problem,
    dtype: Dtype,
    device: &DeviceId,
    compiler: &str,
) -> String {
    let DeviceId { runtime, slug, driver, threads, .. } = device;
    let sizes: Vec<String> = problem.sizes().map(|(_, size)| size.to_string()).collect();
    // A unit separator, which none of these texts holds.
    [
        kernel_hash.to_owned(),
        format!("{variant} {order}"),
        config.to_string(),
        format!("{} {} {dtype}", problem.name, sizes.join(" ")),
        format!("{runtime} {slug} {threads}"),
        driver.clone(),
        compiler.to_owned(),
    ]
    .join("\u{1f}")
}

/// Records that cannot be read or written.
pub type RecordError = LineError;

/// Appends records to a file that no other run appends to meanwhile.
pub type RecordWriter = LineWriter<Record>;

impl Line for Record {
    const WHAT: &'static str = "records";
    const SCHEMA: u32 = SCHEMA_VERSION;

    fn schema(&self) -> u32 {
        self.schema
    }
}

/// Reads records, without a torn last line.
///
/// # Errors
/// [`RecordError`] with file and line.
pub fn read(path: &Path) -> Result<(Vec<Record>, Option<TornLine>), RecordError> {
    lines::read(path)
}

/// Reads records from the contents of a file; `path` is for messages.
///
/// # Errors
/// As [`read`].
pub fn parse(bytes: &[u8], path: &Path) -> Result<(Vec<Record>, Option<TornLine>), RecordError> {
    lines::parse(bytes, path)
}

#[cfg(test)]
mod tests {
    use std::{fs, io};

    use rand::{Rng, SeedableRng};
    use serde_json::Value;

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
        // A process that another thread is starting has a copy of the file for a moment.
        let second = RecordWriter::open(&path).expect("free again");
        let _copy = second.file().try_clone().expect("copied");
        drop(second);
        RecordWriter::open(&path).expect("free though a copy is open");
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
