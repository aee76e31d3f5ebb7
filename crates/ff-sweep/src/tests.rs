//! The whole sweep on a bench that does as it is told.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ff_spec::{Atomics, Clock, DeviceId, Dtype, LaunchConfig, Limits, Problem, RuntimeKind};
use ff_tables::Versions;
use ff_tune::Shard;
use ff_tune::lines::LineError;
use proptest::prelude::*;

use crate::*;

fn parse(text: &str) -> Result<Description, String> {
    Description::parse(text, Path::new("experiments/x/sweep.toml")).map_err(|e| e.to_string())
}

/// A sound sweep, to be broken in one place each.
const SOUND: &str = r#"
schema = 1
title = "a sweep"
repeats = 2
beside = ["variant"]
[sampling]
seconds = 0.0
least = 3
most = 3
[axes]
variant = ["a", "b"]
features = [8, 16, 32]
degree = [1.5]
dtype = "f32"
[axes.config]
unroll = [1, 2]
[derived]
n_atoms = "64 / features"
n_basis = "n_atoms + config_unroll"
[[exclude]]
features = 32
when = "config_unroll == 2"
[[include]]
variant = "a"
features = 64
config.unroll = 4
"#;

#[test]
fn a_sweep_expands_as_it_says() {
    let expansion = parse(SOUND).and_then(|d| d.expand().map_err(|e| e.to_string())).unwrap_or_else(|e| panic!("{e}"));
    // 2 × 3 × 2 without two, and one included, each twice.
    assert_eq!((expansion.rows.len(), expansion.excluded, expansion.duplicates), (22, 2, 0));
    let last = expansion.rows.last().expect("rows");
    assert_eq!(
        last.to_string(),
        "n_atoms=1 degree=1.5 variant=a dtype=f32 features=64 n_basis=5 repeat=1 config.unroll=4"
    );
    assert_eq!(last.config(), LaunchConfig::from([("unroll", 4)]));
}

#[test]
fn bad_sweeps_say_what_was_expected() {
    for (from, to, expected) in [
        ("schema = 1", "schema = 2", "schema version 2, expected 1"),
        ("schema = 1\n", "", "no `schema`"),
        ("title", "titel", "unknown key `titel`, did you mean `title`?"),
        ("least", "lest", "unknown key `sampling.lest`, did you mean `least`?"),
        ("features = [8, 16, 32]", "featurs = [8]", "unknown key `axes.featurs`, did you mean `features`?"),
        ("features = 32\nwhen", "features = 32\nwehn", "unknown key `exclude[0].wehn`, did you mean `when`?"),
        ("[axes.config]", "[axes.confg]", "did you mean `config`?"),
        ("[8, 16, 32]", "[]", "`axes.features` has no values"),
        ("[8, 16, 32]", "[8, 8]", "`axes.features` has 8 twice"),
        ("[8, 16, 32]", "[8, -1]", "`axes.features` is -1, expected a whole number from 0"),
        ("[8, 16, 32]", "\"wide\"", "expected a whole number from 0"),
        ("\"f32\"", "\"f16\"", "expected one of f32, f64"),
        ("[1.5]", "[nan]", "expected a number"),
        ("[1.5]", "[4, 4.0]", "`axes.degree` has 4 twice"),
        ("64 / features", "64 / featres", "names `featres`, which is no axis, did you mean `features`?"),
        ("64 / features", "64 /", "is no expression"),
        ("64 / features", "96 / features", "`derived.n_atoms` is 1.5, expected a whole number from 0; `floor`"),
        ("64 / features", "n_basis", "which is derived from it in turn"),
        ("64 / features", "64 / hidden", "names `hidden`, which this row does not have as a number"),
        ("n_atoms =", "degree =", "`derived.degree` is an axis already"),
        ("n_atoms =", "problem =", "an expression is a number"),
        ("config_unroll == 2", "config_unroll", "`exclude.when` `config_unroll` is 2, expected true or false"),
        ("features = 32\nwhen = \"config_unroll == 2\"", "", "`exclude[0]` is empty"),
        (
            "[\"variant\"]",
            "[\"varant\"]",
            "`beside` names `varant`, which is no axis of this sweep, did you mean `variant`?",
        ),
        ("repeats = 2", "repeats = 0", "`repeats` is 0, expected a whole number from 1"),
        ("features = 64\n", "repeat = 3\nfeatures = 64\n", "`include[0].repeat` is made by `repeats = N`"),
        ("most = 3", "most = 2", "`sampling.most` is 2, expected at least `sampling.least`, which is 3"),
        (
            "repeats = 2",
            "repeats = 2\nlimit = 25",
            "26 rows (2 of `config.unroll` × 3 of `features` × 2 of `variant`, 1 included, 2 repeats), expected at most 25",
        ),
        ("repeats = 2", "kind = \"replay\"", "no `replay.records`"),
        ("[axes]", "[axes", "expected"),
    ] {
        assert!(SOUND.contains(from), "{from}");
        let found = parse(&SOUND.replacen(from, to, 1)).and_then(|d| d.expand().map_err(|e| e.to_string()));
        let error = found.err().unwrap_or_else(|| panic!("`{to}` was accepted"));
        assert!(error.contains(expected), "`{to}`: {error}");
        assert!(error.starts_with("sweep experiments/x/sweep.toml: "), "{error}");
    }
}

/// Of an axis of numbers 5 and 5.0 are one value, wherever they stand.
#[test]
fn whole_numbers_are_numbers_where_numbers_are_expected() {
    let text = "schema = 1\n[axes]\ncutoff = [4.0, 5.0, 6]\nfeatures = [8, 16]\n[[exclude]]\ncutoff = [5, 6.0]\n\
                [[include]]\ncutoff = 4\nfeatures = 8\n";
    let expansion = parse(text).and_then(|d| d.expand().map_err(|e| e.to_string())).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!((expansion.rows.len(), expansion.excluded, expansion.duplicates), (2, 4, 1));
    assert!(expansion.rows.iter().all(|row| row.get("cutoff") == Some(&Value::Number(4.0))));
    assert!(expansion.rows.iter().all(|row| matches!(row.get("features"), Some(Value::Integer(_)))));
}

/// What is refused is not offered.
#[test]
fn unknown_axes_are_answered_with_those_that_may_be_given() {
    let error = parse("schema = 1\n[axes]\nrepeats = 2\n").expect_err("no axis");
    assert!(error.contains("unknown key `axes.repeats`") && error.contains("seed, implementation"), "{error}");
    assert!(!error.contains("repeat,") && !error.contains("`repeat`"), "{error}");
}

/// A product that would not fit memory is refused before it is made.
#[test]
fn too_large_a_product_is_refused_at_once() {
    let values: Vec<String> = (1..=1000).map(|n| n.to_string()).collect();
    let axes: Vec<String> = ["features", "hidden", "n_basis", "seed", "n_atoms"]
        .iter()
        .map(|name| format!("{name} = [{}]", values.join(", ")))
        .collect();
    let text = format!("schema = 1\n[axes]\n{}", axes.join("\n"));
    let error = parse(&text).and_then(|d| d.expand().map_err(|e| e.to_string())).expect_err("10^15 rows");
    assert!(error.contains("1000000000000000 rows") && error.contains("expected at most 2000"), "{error}");
}

/// Sizes of three axes, what is excluded of each, repeats and how many include the first values again.
fn sweeps() -> impl Strategy<Value = (usize, usize, usize, usize, usize)> {
    (1usize..5, 1usize..5, 1usize..4, 1usize..4, 0usize..6)
}

fn text((features, hidden, variants, repeats, bound): (usize, usize, usize, usize, usize)) -> String {
    let numbers = |n: usize| (1..=n).map(|n| n.to_string()).collect::<Vec<_>>().join(", ");
    let names = (0..variants).map(|n| format!("\"v{n}\"")).collect::<Vec<_>>().join(", ");
    format!(
        "schema = 1\nrepeats = {repeats}\nbeside = [\"variant\"]\n[axes]\nfeatures = [{}]\nhidden = [{}]\nvariant = [{names}]\n\
         [derived]\nn_basis = \"features * hidden\"\n[[exclude]]\nwhen = \"features + hidden < {bound}\"\n\
         [[include]]\nfeatures = 1\nhidden = 1\nvariant = \"v0\"\n",
        numbers(features),
        numbers(hidden),
    )
}

proptest! {
    // Each case runs sweeps through files.
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_rows_are_the_product_without_what_is_excluded(sweep in sweeps()) {
        let (features, hidden, variants, repeats, bound) = sweep;
        let expansion = parse(&text(sweep)).and_then(|d| d.expand().map_err(|e| e.to_string())).map_err(TestCaseError::fail)?;
        let mut expected = BTreeSet::new();
        for f in 1..=features {
            for h in 1..=hidden {
                for v in 0..variants {
                    if f + h >= bound || (f, h, v) == (1, 1, 0) {
                        expected.insert((f as u64, h as u64, format!("v{v}")));
                    }
                }
            }
        }
        let found: Vec<_> = expansion
            .rows
            .iter()
            .map(|row| {
                let (f, h) = (row.integer("features").unwrap_or(0), row.integer("hidden").unwrap_or(0));
                prop_assert_eq!(row.integer("n_basis"), Some(f * h));
                Ok(((f, h, row.text("variant").unwrap_or_default().to_owned()), row.integer("repeat").unwrap_or(99)))
            })
            .collect::<Result<_, _>>()?;
        prop_assert_eq!(found.len(), expected.len() * repeats, "no row is there twice");
        let distinct: BTreeSet<_> = found.iter().cloned().collect();
        prop_assert_eq!(distinct.len(), found.len());
        prop_assert!(found.iter().all(|(row, repeat)| expected.contains(row) && *repeat < repeats as u64));
        let included = bound > 2;
        prop_assert_eq!(expansion.duplicates, usize::from(!included));
        prop_assert_eq!(expansion.excluded + expected.len() - usize::from(included), features * hidden * variants);
    }

    #[test]
    fn shards_have_every_row_once_and_groups_whole(sweep in sweeps(), count in 1usize..6) {
        let description = parse(&text(sweep)).map_err(TestCaseError::fail)?;
        let rows = description.expand().map_err(|e| TestCaseError::fail(e.to_string()))?.rows;
        let all = groups(rows.clone(), &description.beside);
        let mut seen: BTreeMap<String, usize> = BTreeMap::new();
        for index in 0..count {
            let shard: Shard = format!("{index}/{count}").parse().map_err(TestCaseError::fail)?;
            for group in all.iter().filter(|group| shard.has(group.index)) {
                for row in &group.rows {
                    prop_assert!(seen.insert(row.to_string(), group.index).is_none(), "{} is in two shares", row);
                }
            }
        }
        prop_assert_eq!(seen.len(), rows.len());
        // Rows that differ in their variant alone are together.
        for a in &rows {
            for b in rows.iter().filter(|b| b.without(&["variant"]) == a.without(&["variant"])) {
                prop_assert_eq!(seen[&a.to_string()], seen[&b.to_string()]);
            }
        }
    }

    #[test]
    fn what_is_interrupted_and_resumed_is_measured_once(sweep in sweeps(), stops in prop::collection::vec(0usize..12, 0..4)) {
        let description = parse(&text(sweep)).map_err(TestCaseError::fail)?;
        let rows = description.expand().map_err(|e| TestCaseError::fail(e.to_string()))?.rows;
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("results.jsonl");
        let mut bench = FakeBench::default();
        let groups = groups(rows.clone(), &description.beside);
        for after in stops.into_iter().map(Some).chain([None]) {
            let stopped = bench.run(&groups, &path, true, after);
            prop_assert_eq!(stopped.is_err(), bench.stop.load(Ordering::Relaxed), "{:?}", stopped);
            bench.stop.store(false, Ordering::Relaxed);
        }
        let results = Results::read(&path).expect("whole");
        prop_assert_eq!(results.rows.len(), rows.len());
        prop_assert_eq!(results.superseded, 0, "a row was measured twice");
        prop_assert!(bench.run(&groups, &path, true, None).is_ok());
        prop_assert_eq!(Results::read(&path).expect("whole"), results);
    }
}

fn device() -> DeviceId {
    DeviceId {
        runtime: RuntimeKind::Host,
        name: "Fake".to_owned(),
        slug: "fake".to_owned(),
        arch: "fake".to_owned(),
        driver: String::new(),
        software: false,
        threads: 2,
        limits: Limits { max_units_per_cube: 2, shared_memory: 32768, plane_size: 8 },
        atomics: Atomics::default(),
        f64: true,
    }
}

/// Variants `v…` and `a`, `b` are fine; others do what their names say.
#[derive(Default)]
struct FakeBench {
    stop: Rc<AtomicBool>,
    /// Every run, in order.
    runs: Rc<RefCell<Vec<String>>>,
    prepared: usize,
    /// Another kernel source.
    hash: String,
    /// Where it is a replay, what of.
    replayed: Option<String>,
}

struct FakeTimed {
    variant: String,
    gates: Cell<usize>,
    runs: Rc<RefCell<Vec<String>>>,
}

impl Timed for FakeTimed {
    fn gate(&mut self) -> Result<f64, Refused> {
        self.gates.set(self.gates.get() + 1);
        let broken = self.variant == "wrong" || self.variant == "wrong_later" && self.gates.get() > 1;
        if broken { Err(Refused::new(Verdict::Correctness, "NaN")) } else { Ok(1e-7) }
    }

    fn time(&mut self) -> Result<Duration, Refused> {
        self.runs.borrow_mut().push(self.variant.clone());
        match self.variant.as_str() {
            "endless" => Ok(Duration::from_secs(3600)),
            "faulty" if self.runs.borrow().iter().filter(|v| *v == "faulty").count() > 2 => {
                Err(Refused::new(Verdict::Runtime, "gone"))
            }
            "panics" if self.gates.get() > 0 => panic!("a driver"),
            _ => Ok(Duration::from_micros(7)),
        }
    }

    fn peak_bytes(&mut self) -> Result<Option<u64>, Refused> {
        Ok(Some(4096))
    }
}

impl Bench for FakeBench {
    fn source(&mut self, _: &Row) -> Result<(String, DeviceId, String), String> {
        Ok((self.hash.clone(), device(), "rustc".to_owned()))
    }

    fn replayed(&self) -> Option<&str> {
        self.replayed.as_deref()
    }

    fn prepare(&mut self, row: &Row) -> Result<(Origin, Result<Subject, Refused>), String> {
        self.prepared += 1;
        let variant = row.text("variant").ok_or("no variant")?.to_owned();
        let problem = Problem {
            name: "p".to_owned(),
            n_atoms: 3,
            n_edges: 6,
            max_degree: 2,
            features: 8,
            n_basis: 4,
            ..Problem::default()
        };
        let origin = Origin {
            op: "fused_message".to_owned(),
            variant: variant.clone(),
            kernel_hash: self.hash.clone(),
            order: 0,
            dtype: Dtype::F32,
            config: row.config(),
            problem,
            device: device(),
            versions: Versions { forgefield: "0".to_owned(), burn: "0".to_owned(), cubecl: "0".to_owned() },
            compiler: "rustc".to_owned(),
            clock: Clock::Wall,
        };
        let subject = match variant.as_str() {
            "huge" => Err(Refused::new(Verdict::Skipped, "too much memory")),
            "computed" => Ok(Subject::Computed(BTreeMap::from([("x".to_owned(), 2.0)]))),
            _ => Ok(Subject::Timed(
                Box::new(FakeTimed { variant, gates: Cell::new(0), runs: self.runs.clone() }),
                BTreeMap::new(),
            )),
        };
        Ok((origin, subject))
    }
}

impl FakeBench {
    /// Runs, and raises the flag once so many rows have ended.
    fn run(&mut self, groups: &[Group], path: &Path, resume: bool, stop_after: Option<usize>) -> Result<(), Stopped> {
        let sampling = Sampling { time: Duration::ZERO, least: 3, most: 3, timeout: Duration::from_secs(1) };
        let stop = self.stop.clone();
        let mut writer = ResultWriter::open(path)?;
        let job = Job { sweep: "x", groups, sampling: &sampling, resume, stop: &stop };
        let mut ended = 0;
        run(self, &job, &mut writer, &mut |event| {
            if matches!(event, Event::End(_)) {
                ended += 1;
                if Some(ended) == stop_after {
                    stop.store(true, Ordering::Relaxed);
                }
            }
        })
    }
}

fn of_variants(names: &[&str]) -> Vec<Group> {
    let names: Vec<String> = names.iter().map(|name| format!("\"{name}\"")).collect();
    let text = format!("schema = 1\nbeside = [\"variant\"]\n[axes]\nvariant = [{}]\n", names.join(", "));
    let description = parse(&text).unwrap_or_else(|e| panic!("{e}"));
    groups(description.expand().unwrap_or_else(|e| panic!("{e}")).rows, &description.beside)
}

#[test]
fn rows_take_turns_and_what_is_refused_has_no_times() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("results.jsonl");
    let mut bench = FakeBench::default();
    let names = ["a", "b", "wrong", "wrong_later", "endless", "faulty", "panics", "huge", "computed"];
    bench.run(&of_variants(&names), &path, false, None).expect("nobody stops it");
    let results = Results::read(&path).expect("whole");
    let verdicts: Vec<(&str, Verdict, usize)> =
        results.rows.iter().map(|line| (line.variant.as_str(), line.verdict, line.samples_ns.len())).collect();
    assert_eq!(
        verdicts,
        [
            ("a", Verdict::Correct, 3),
            ("b", Verdict::Correct, 3),
            ("wrong", Verdict::Correctness, 0),
            ("wrong_later", Verdict::Correctness, 0),
            ("endless", Verdict::Timeout, 0),
            ("faulty", Verdict::Runtime, 0),
            ("panics", Verdict::Runtime, 0),
            ("huge", Verdict::Skipped, 0),
            ("computed", Verdict::Correct, 0),
        ]
    );
    assert!(results.rows.iter().all(|line| line.reason.is_none() == (line.verdict == Verdict::Correct)));
    assert!(results.rows.iter().all(|line| line.group == results.rows[0].group), "one group");
    assert_eq!(results.rows[0].rel_error, Some([1e-7, 1e-7]));
    assert_eq!(results.rows[8].metrics["x"], 2.0);
    // After the first looks, no row runs twice before another that still stands has run.
    let runs = bench.runs.borrow();
    let turns: Vec<&String> = runs.iter().filter(|v| ["a", "b"].contains(&v.as_str())).skip(2).collect();
    assert!(turns.chunks(2).all(|pair| pair[0] != pair[1]), "{turns:?}");
    let table = columns(&results.rows);
    let csv = ff_export::table::csv(&table).expect("a table");
    assert_eq!(String::from_utf8_lossy(&csv).lines().count(), 1 + 2 * 3 + 7, "a row per sample, and one without");
}

#[test]
fn a_changed_kernel_is_measured_again_and_the_later_line_counts() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("results.jsonl");
    let (mut bench, groups) = (FakeBench::default(), of_variants(&["a", "b"]));
    bench.run(&groups, &path, true, None).expect("nobody stops it");
    bench.run(&groups, &path, false, None).expect("nobody stops it");
    let results = Results::read(&path).expect("whole");
    assert_eq!((results.rows.len(), results.superseded), (2, 2), "without --resume");
    bench.hash = "changed".to_owned();
    bench.run(&groups, &path, true, None).expect("nobody stops it");
    assert_eq!((bench.prepared, Results::read(&path).expect("whole").rows.len()), (6, 4));
}

/// The last replay of a row is the one that counts, so a row is done where that is of the same records and as many searches.
#[test]
fn a_replay_of_something_else_is_done_again_and_takes_the_place_of_the_first() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("results.jsonl");
    let (mut bench, groups) = (FakeBench::default(), of_variants(&["a", "b"]));
    for (replayed, prepared) in [("2 searches", 2), ("2 searches", 2), ("50 searches", 4), ("2 searches", 6)] {
        bench.replayed = Some(replayed.to_owned());
        bench.run(&groups, &path, true, None).expect("nobody stops it");
        assert_eq!(bench.prepared, prepared, "{replayed}");
        let results = Results::read(&path).expect("whole").rows;
        assert!(results.len() == 2 && results.iter().all(|line| line.replayed.as_deref() == Some(replayed)));
    }
}

#[test]
fn what_remains_is_what_no_result_is_of() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("results.jsonl");
    let mut bench = FakeBench::default();
    bench.run(&of_variants(&["b"]), &path, false, None).expect("nobody stops it");
    let existing = Results::read(&path).expect("whole").rows;
    let (left, resumed) = remaining(&mut bench, &of_variants(&["a", "b", "c"]), &existing).expect("sound rows");
    let left: Vec<&str> = left.iter().flat_map(|group| &group.rows).filter_map(|row| row.text("variant")).collect();
    assert_eq!((left, resumed), (vec!["a", "c"], 1));
}

#[test]
fn torn_and_foreign_results_are_told_apart() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("results.jsonl");
    let (mut bench, groups) = (FakeBench::default(), of_variants(&["a", "b"]));
    bench.run(&groups, &path, true, None).expect("nobody stops it");
    let whole = fs::read(&path).expect("there");
    let first = whole.iter().position(|b| *b == b'\n').expect("two lines") + 1;
    for cut in [first + 1, first + 100, whole.len() - 2] {
        fs::write(&path, &whole[..cut]).expect("writable");
        let results = Results::read(&path).expect("readable");
        assert_eq!((results.rows.len(), results.torn.map(|torn| torn.bytes)), (1, Some(cut - first)));
        let before = bench.prepared;
        bench.run(&groups, &path, true, None).expect("nobody stops it");
        assert_eq!(bench.prepared - before, 1, "the torn row alone");
        assert_eq!(Results::read(&path).expect("repaired").rows.len(), 2);
    }
    let text = String::from_utf8(whole).expect("JSON");
    fs::write(&path, text.replacen("\"schema\":1", "\"schema\":9", 1)).expect("writable");
    let error = Results::read(&path).expect_err("of another schema");
    assert!(matches!(error, LineError::Schema { line: 1, found: 9, expected: 1, .. }), "{error}");
    assert!(error.to_string().starts_with("results "), "{error}");
    fs::write(&path, text.replacen("\"verdict\"", "\"verdikt\"", 1)).expect("writable");
    assert!(matches!(Results::read(&path), Err(LineError::Malformed { line: 1, .. })));
}

#[test]
fn predictions_go_by_what_is_known() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("results.jsonl");
    let (mut bench, groups) = (FakeBench::default(), of_variants(&["a", "b"]));
    let rows: Vec<Row> = groups.iter().flat_map(|group| group.rows.clone()).collect();
    let sampling = Sampling::default();
    let basis = |rows: &[Row], earlier: &[Measured]| -> Vec<Basis> {
        predict(rows, earlier, &Kind::Timing, &sampling).iter().map(|p| p.basis).collect()
    };
    assert_eq!(basis(&rows, &[]), [Basis::Allowance; 2]);
    assert!(predict(&rows, &[], &Kind::Timing, &sampling).iter().all(|p| p.time > sampling.time));
    bench.run(&of_variants(&["a"]), &path, false, None).expect("nobody stops it");
    let earlier = Results::read(&path).expect("whole").rows;
    assert_eq!(basis(&rows, &earlier), [Basis::Measured, Basis::Mean]);
    // What one runtime took says nothing of another.
    let on = |runtime: &str| -> Vec<Row> {
        let mut rows = rows.clone();
        rows.iter_mut().for_each(|row| drop(row.0.insert("runtime".to_owned(), Value::Text(runtime.to_owned()))));
        rows
    };
    assert_eq!(basis(&on("host"), &earlier), [Basis::Measured, Basis::Mean]);
    assert_eq!(basis(&on("auto"), &earlier), [Basis::Measured, Basis::Mean]);
    assert_eq!(basis(&on("cuda"), &earlier), [Basis::Allowance; 2]);
}
