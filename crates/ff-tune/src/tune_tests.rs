//! The whole search on a device that does as it is told.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ff_spec::{CellList, Dtype, FusedMessage, LaunchConfig, RuntimeKind, TuneKey, cell_list};
use ff_tables::{Evidence, Table, Versions};
use ff_testkit::cell_list::mutants::{Mutation, ScalarLists, mutate};
use tempfile::TempDir;

use crate::gate::GateVerifier;
use crate::measure::{Policy, Timing};
use crate::outcome::{Event, Outcome, TuneError};
use crate::records::{self, Record, RecordWriter, Stage, Verdict};
use crate::request::{Baseline, Budget, Request, Task};
use crate::shard::merge;
use crate::space::{SpaceError, Spaces};
use crate::strategy::StrategyKind;
use crate::testing::{Behaviour, FakeRuntime, FakeVerifier, inputs};
use crate::times::Times;
use crate::tune::tune;
use crate::workbench::InProcess;

const VARIANT: &str = "cfconv_linear_gaussian_cosine_receiver";
/// 4 rows × 4 tiles × 2 blocks: 32 features leave blocks of 32 and 64.
const CONFIGS: usize = 32;

struct Bench {
    dir: TempDir,
    spaces: Spaces,
    verifier: FakeVerifier,
    stop: AtomicBool,
    notes: Vec<String>,
}

impl Bench {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().expect("temp dir"),
            spaces: Spaces::built_in("fused_message").expect("sound"),
            verifier: FakeVerifier::default(),
            stop: AtomicBool::new(false),
            notes: Vec::new(),
        }
    }

    fn request(&self, problems: &[&str]) -> Request<'static, FusedMessage> {
        let tasks = problems.iter().map(|problem| Task {
            variant: VARIANT.parse().expect("a variant"),
            kernel_hash: "kernel".to_owned(),
            dtype: Dtype::F32,
            problem: (*problem).to_owned(),
            inputs: Box::new(inputs),
        });
        // Shared by all requests of a test binary; it is small and there are few.
        let spaces = Box::leak(Box::new(self.spaces.clone()));
        Request {
            spaces,
            tasks: tasks.collect(),
            budget: Budget::Exhaustive,
            policy: Policy::default(),
            strategy: None,
            estimate: None,
            keep: 1.0,
            shard: None,
            seed: 1,
            resume: false,
            tables: self.dir.path().join("tables"),
            versions: Versions { forgefield: "0".into(), burn: "0".into(), cubecl: "0".into() },
            template_hash: "templates".to_owned(),
            compiler: "rustc".to_owned(),
        }
    }

    fn run(&mut self, runtime: &FakeRuntime, request: &Request<'_, FusedMessage>) -> Result<Outcome, TuneError> {
        let mut records = RecordWriter::open(&self.records_path())?;
        let notes = &mut self.notes;
        let mut on_event = |event: Event<'_>| {
            if let Event::Note(note) = event {
                notes.push(note);
            }
        };
        let stop = &self.stop;
        let mut here = InProcess::new(runtime, &request.tasks, &request.policy, &mut self.verifier, None, stop);
        tune(&mut here, request, &mut records, &mut on_event, stop)
    }

    fn records_path(&self) -> std::path::PathBuf {
        self.dir.path().join("records.jsonl")
    }

    fn records(&self) -> Vec<Record> {
        records::read(&self.records_path()).expect("readable").0
    }

    fn table(&self) -> Table {
        let path = Table::path(&self.dir.path().join("tables"), "fake-host", "fused_message");
        let table = Table::load(&path).expect("a valid table");
        assert_eq!(table.check(Some(&path)), []);
        table
    }
}

fn get(config: &LaunchConfig, name: &str) -> u32 {
    config.get(name).expect("set")
}

/// Best at tasks of 2048 edges and tiles of 64: 600 ns against the default's 1000.
fn landscape(config: &LaunchConfig) -> Behaviour {
    let tasks = if get(config, "edges_per_task") == 2048 { 500 } else { 900 };
    let tiles = if get(config, "edges_per_tile") == 64 { 100 } else { 400 };
    Behaviour::Takes(tasks + tiles + u64::from(32 - get(config, "channel_block")))
}

#[test]
fn finds_the_best_and_writes_what_it_did() {
    let mut bench = Bench::new();
    let runtime = FakeRuntime::new(landscape);
    let outcome = bench.run(&runtime, &bench.request(&["water-2"])).expect("runs");
    let problem = &outcome.problems[0];
    let best = problem.best.as_ref().expect("found");
    assert_eq!((get(&best.config, "edges_per_task"), get(&best.config, "edges_per_tile")), (2048, 64));
    assert_eq!(get(&best.config, "channel_block"), 32);
    assert!((problem.ratio().expect("default passed") - 1000.0 / 600.0).abs() < 1e-6);
    assert_eq!(problem.counts.values().sum::<usize>(), CONFIGS);
    assert!(problem.counts[&Verdict::Eliminated] > 0 && problem.notes.is_empty());
    assert_eq!(bench.verifier.checks, problem.counts[&Verdict::Correct], "what stands is gated once on the catalogue");

    let table = bench.table();
    assert_eq!(table.entries().len(), 1);
    let entry = &table.entries()[0];
    assert_eq!((entry.median_ns, entry.default_median_ns), (600.0, Some(1000.0)));
    assert_eq!(entry.pass.kernel_hash(), "kernel");
    assert_eq!(entry.samples, Policy::default().final_rounds * Policy::default().block);

    let records = bench.records();
    assert_eq!(records.iter().filter(|r| r.stage == Stage::Screen).count(), CONFIGS);
    assert_eq!(records.iter().filter(|r| r.stage == Stage::Final).count(), 1 + Policy::default().finalists);
    assert_eq!(records[0].config, problem.default.as_ref().expect("passed").config, "the default comes first");
    let samples: u64 = records.iter().map(|r| r.samples_ns.len() as u64).sum();
    assert_eq!(samples, *runtime.samples.borrow(), "every sample is kept");
    assert!(records.iter().all(|r| (r.verdict == Verdict::Correct) == r.reason.is_none()));
}

#[test]
fn times_add_up() {
    let mut bench = Bench::new();
    let begin = Instant::now();
    let outcome = bench.run(&FakeRuntime::new(landscape), &bench.request(&["water-2", "water-3"])).expect("runs");
    let clock = begin.elapsed().as_nanos() as u64;
    let (run, tasks) = (outcome.times, outcome.problems.iter().map(|p| p.times).sum::<Times>());
    assert!(tasks.total_ns() <= run.total_ns() && run.total_ns() <= clock, "{tasks:?} of {run:?} in {clock} ns");
    assert_eq!(tasks.kernels_ns(), run.kernels_ns());
    let of_records: Times = bench.records().iter().map(|r| r.times.expect("recorded")).sum();
    // References are nobody's, and what comes after the last record.
    assert!(of_records.total_ns() <= run.total_ns(), "{of_records:?} of {run:?}");
    assert_eq!(of_records.benchmark_ns, run.benchmark_ns);
    assert_eq!(of_records.compile_ns, run.compile_ns);
    assert!(
        [run.compile_ns, run.gate_ns, run.benchmark_ns, run.strategy_ns, run.framework_ns].iter().all(|ns| *ns > 0)
    );
}

#[test]
fn failures_cost_their_own_row() {
    let mut bench = Bench::new();
    let runtime = FakeRuntime::new(|config| match (get(config, "edges_per_task"), get(config, "edges_per_tile")) {
        (128, 16) => Behaviour::Refused,
        (128, 32) => Behaviour::DoesNotCompile,
        (128, 64) => Behaviour::Wrong,
        (128, 128) => Behaviour::GoesWrong,
        (8192, 16) => Behaviour::FailsAt(6),
        (8192, 32) => Behaviour::PanicsInPrepare,
        (8192, 64) => Behaviour::Takes(20_000_000_000),
        _ => landscape(config),
    });
    let outcome = bench.run(&runtime, &bench.request(&["water-2"])).expect("runs");
    let counts = &outcome.problems[0].counts;
    // Two channel blocks of each.
    assert_eq!(counts[&Verdict::Constraint], 2);
    assert_eq!(counts[&Verdict::Compile], 2);
    assert_eq!(counts[&Verdict::Correctness], 4);
    assert_eq!(counts[&Verdict::Runtime], 4);
    assert_eq!(counts[&Verdict::Timeout], 2);
    assert_eq!(bench.table().entries()[0].median_ns, 600.0);
    let reasons: Vec<String> = bench.records().into_iter().filter_map(|r| r.reason).collect();
    for expected in ["too many units", "expected `;`", "found 0, expected 1", "after timing", "off the bus", "panic: "]
    {
        assert!(reasons.iter().any(|r| r.contains(expected)), "no reason says `{expected}`: {reasons:?}");
    }
}

#[test]
fn a_verifier_cannot_wave_errors_through() {
    let mut bench = Bench::new();
    bench.verifier.rel_error = 0.1;
    let outcome = bench.run(&FakeRuntime::new(landscape), &bench.request(&["water-2"])).expect("runs");
    assert_eq!(outcome.problems[0].counts, [(Verdict::Correctness, CONFIGS)].into());
    assert_eq!((outcome.problems[0].best.clone(), outcome.tables), (None, vec![]));
}

#[test]
fn a_broken_default_does_not_end_the_search() {
    let mut bench = Bench::new();
    let runtime = FakeRuntime::new(|config| match config.to_string().as_str() {
        "channel_block=32 edges_per_task=512 edges_per_tile=64" => Behaviour::Wrong,
        _ => landscape(config),
    });
    let outcome = bench.run(&runtime, &bench.request(&["water-2"])).expect("runs");
    assert_eq!((outcome.problems[0].default.clone(), outcome.problems[0].ratio()), (None, None));
    let table = bench.table();
    let entry = &table.entries()[0];
    assert_eq!((entry.median_ns, entry.default_median_ns), (600.0, None));

    let unsupported = FakeRuntime::new(|_| Behaviour::Unsupported);
    let mut bench = Bench::new();
    let outcome = bench.run(&unsupported, &bench.request(&["water-2"])).expect("runs");
    assert!(outcome.problems[0].notes[0].text.contains("unsupported"));
    assert_eq!(unsupported.prepared.borrow().len(), 1, "asked once");
}

#[test]
fn a_tie_goes_to_the_default() {
    let mut bench = Bench::new();
    let runtime = FakeRuntime::new(|_| Behaviour::Takes(1000));
    let outcome = bench.run(&runtime, &bench.request(&["water-2"])).expect("runs");
    let problem = &outcome.problems[0];
    assert_eq!(problem.best, problem.default);
    assert_eq!(problem.ties.len(), Policy::default().finalists);
    assert_eq!(bench.table().entries()[0].ties.len(), Policy::default().finalists);
}

#[test]
fn budgets_bound_the_search() {
    let mut bench = Bench::new();
    let runtime = FakeRuntime::new(landscape);
    let request = Request { budget: Budget::Evaluations(5), ..bench.request(&["water-2"]) };
    let outcome = bench.run(&runtime, &request).expect("runs");
    assert_eq!(outcome.problems[0].counts.values().sum::<usize>(), 5);

    let mut bench = Bench::new();
    let request = Request { budget: Budget::Time(Duration::ZERO), ..bench.request(&["water-2", "water-3"]) };
    let outcome = bench.run(&runtime, &request).expect("runs");
    let defaults: Vec<_> = outcome.problems.iter().map(|p| p.default.is_some()).collect();
    assert_eq!(defaults, [true, true], "the default is always measured");
}

#[test]
fn every_strategy_searches_on_a_device() {
    for strategy in StrategyKind::ALL {
        let mut bench = Bench::new();
        let runtime = FakeRuntime::new(landscape);
        // As well as it can be known: the landscape itself, in other units.
        let estimate = |_: &_, _, _: &_, config: &LaunchConfig| match landscape(config) {
            Behaviour::Takes(ns) => Some(ns as f64 / 7.0),
            _ => None,
        };
        let request = Request { strategy: Some(strategy), estimate: Some(&estimate), ..bench.request(&["water-2"]) };
        let outcome = bench.run(&runtime, &request).expect("runs");
        assert_eq!(outcome.problems[0].counts.values().sum::<usize>(), CONFIGS, "{strategy}");
        assert_eq!(bench.table().entries()[0].median_ns, 600.0, "{strategy}");
        let screened: BTreeSet<LaunchConfig> =
            bench.records().into_iter().filter(|r| r.stage == Stage::Screen).map(|r| r.config).collect();
        assert_eq!(screened.len(), CONFIGS, "{strategy}: each once");

        // A budget holds for all of them, and what the table has is tried first.
        let request = Request { budget: Budget::Evaluations(3), seed: 9, ..request };
        let outcome = bench.run(&runtime, &request).expect("runs");
        assert_eq!(outcome.problems[0].counts.values().sum::<usize>(), 3, "{strategy}");
        assert_eq!(outcome.problems[0].best.as_ref().map(|b| b.timing.median_ns), Some(600.0), "{strategy}");
    }
}

#[test]
fn estimates_order_and_filter() {
    let mut bench = Bench::new();
    let runtime = FakeRuntime::new(landscape);
    let estimate = |_: &_, _, _: &_, config: &LaunchConfig| match landscape(config) {
        Behaviour::Takes(ns) => Some(ns as f64),
        _ => None,
    };
    let request = Request {
        strategy: Some(StrategyKind::CostModel),
        estimate: Some(&estimate),
        budget: Budget::Evaluations(2),
        ..bench.request(&["water-2"])
    };
    let outcome = bench.run(&runtime, &request).expect("runs");
    assert_eq!(outcome.problems[0].best.as_ref().map(|b| b.timing.median_ns), Some(600.0), "the first that is tried");

    let mut bench = Bench::new();
    let request = Request { keep: 0.25, estimate: Some(&estimate), ..bench.request(&["water-2"]) };
    let outcome = bench.run(&runtime, &request).expect("runs");
    let problem = &outcome.problems[0];
    assert!(problem.counts.values().sum::<usize>() < CONFIGS / 2, "{:?}", problem.counts);
    assert!(problem.notes[0].text.contains("left out by their estimated cost"), "{:?}", problem.notes);
    assert_eq!(problem.best.as_ref().map(|b| b.timing.median_ns), Some(600.0));

    let request = Request { strategy: Some(StrategyKind::CostModel), ..bench.request(&["water-2"]) };
    assert!(matches!(bench.run(&runtime, &request), Err(TuneError::NoEstimate(_))));
}

#[test]
fn shards_try_everything_once() {
    let mut all = Vec::new();
    let mut files = Vec::new();
    for share in ["0/3", "1/3", "2/3"] {
        let mut bench = Bench::new();
        let request = Request { shard: share.parse().ok(), ..bench.request(&["water-2"]) };
        let outcome = bench.run(&FakeRuntime::new(landscape), &request).expect("runs");
        let default = outcome.problems[0].default.as_ref().expect("passed").config.clone();
        let records = bench.records();
        let screened = records.iter().filter(|r| r.stage == Stage::Screen && r.config != default);
        all.extend(screened.map(|r| r.config.clone()));
        files.push((share.into(), records));
    }
    assert_eq!((all.len(), all.iter().collect::<BTreeSet<_>>().len()), (CONFIGS - 1, CONFIGS - 1));
    assert!(merge(&files).is_ok());
    files.push((std::path::PathBuf::from("again"), files[1].1.clone()));
    assert!(merge(&files).is_ok(), "a copy is no claim");
    files[3].1.iter_mut().for_each(|r| r.samples_ns.iter_mut().for_each(|ns| *ns += 1));
    assert!(merge(&files).is_err());
}

#[test]
fn little_memory_makes_small_batches() {
    let mut bench = Bench::new();
    let policy = Policy { memory: 1, ..Policy::default() };
    let request = Request { policy, ..bench.request(&["water-2"]) };
    let outcome = bench.run(&FakeRuntime::new(landscape), &request).expect("runs");
    assert_eq!(outcome.problems[0].counts.values().sum::<usize>(), CONFIGS);
    assert_eq!(bench.table().entries()[0].median_ns, 600.0);
    let records = bench.records();
    assert_eq!(records.iter().filter(|r| r.stage == Stage::Anchor).count(), CONFIGS - 1, "one batch for each");
    assert_eq!(records.iter().filter(|r| r.stage == Stage::Final).count(), 2);
}

#[test]
fn an_earlier_choice_competes_again() {
    let mut bench = Bench::new();
    let runtime = FakeRuntime::new(landscape);
    bench.run(&runtime, &bench.request(&["water-2"])).expect("runs");
    for seed in 2..6 {
        let request = Request { budget: Budget::Evaluations(2), seed, ..bench.request(&["water-2"]) };
        bench.run(&runtime, &request).expect("runs");
        assert_eq!(bench.table().entries()[0].median_ns, 600.0);
    }
}

#[test]
fn resuming_measures_nothing_twice() {
    let mut bench = Bench::new();
    let runtime = FakeRuntime::new(landscape);
    let first = bench.run(&runtime, &bench.request(&["water-2"])).expect("runs");
    let samples = *runtime.samples.borrow();
    let request = Request { resume: true, ..bench.request(&["water-2"]) };
    let second = bench.run(&runtime, &request).expect("runs");
    assert_eq!(*runtime.samples.borrow(), samples);
    assert_eq!(second.problems[0].reused, CONFIGS);
    assert_eq!(second.problems[0].counts, first.problems[0].counts);
    let configs = [&first, &second].map(|o| o.problems[0].best.as_ref().map(|b| b.config.clone()));
    assert_eq!(configs[0], configs[1]);

    let mut request = Request { resume: true, ..bench.request(&["water-2"]) };
    request.tasks[0].kernel_hash = "changed".to_owned();
    let third = bench.run(&runtime, &request).expect("runs");
    assert_eq!(third.problems[0].reused, 0, "another kernel is measured anew");
}

#[test]
fn a_stop_in_the_middle_keeps_what_was_measured() {
    let mut bench = Bench::new();
    let request = bench.request(&["water-2", "water-3"]);
    let runtime = FakeRuntime::new(landscape);
    let mut records = RecordWriter::open(&bench.records_path()).expect("writable");
    let measured = Cell::new(0);
    let stop = &bench.stop;
    let mut on_event = |event: Event<'_>| {
        if matches!(event, Event::Measured { .. }) {
            measured.set(measured.get() + 1);
            stop.store(measured.get() >= 20, Ordering::Relaxed);
        }
    };
    let mut here = InProcess::new(&runtime, &request.tasks, &request.policy, &mut bench.verifier, None, stop);
    let outcome = tune(&mut here, &request, &mut records, &mut on_event, stop).expect("a stop is no error");
    drop(records);
    assert!(outcome.stopped && outcome.problems.len() == 1);
    assert!(outcome.problems[0].notes[0].text.starts_with("stopped after"));
    let screened = bench.records().iter().filter(|r| r.stage == Stage::Screen).count();
    assert!((20..CONFIGS).contains(&screened), "{screened}");
    assert_eq!(bench.table().entries().len(), 1);

    // The rest follows on resume, and only the rest.
    bench.stop.store(false, Ordering::Relaxed);
    let request = Request { resume: true, ..bench.request(&["water-2"]) };
    let outcome = bench.run(&runtime, &request).expect("runs");
    assert_eq!(outcome.problems[0].reused, screened);
    assert_eq!(bench.table().entries()[0].median_ns, 600.0);
}

#[test]
fn a_stop_never_worsens_the_table() {
    let mut bench = Bench::new();
    bench.run(&FakeRuntime::new(landscape), &bench.request(&["water-2"])).expect("runs");
    let good = bench.table();
    let slow = FakeRuntime::new(|_| Behaviour::Takes(5000));
    let request = bench.request(&["water-2"]);
    let mut records = RecordWriter::open(&bench.records_path()).expect("writable");
    let stop = &bench.stop;
    let mut on_event = |event: Event<'_>| {
        if matches!(event, Event::Measured { .. }) {
            stop.store(true, Ordering::Relaxed);
        }
    };
    let mut here = InProcess::new(&slow, &request.tasks, &request.policy, &mut bench.verifier, None, stop);
    tune(&mut here, &request, &mut records, &mut on_event, stop).expect("runs");
    assert_eq!(bench.table(), good);
}

#[test]
fn torn_records_are_said_and_repaired() {
    let mut bench = Bench::new();
    let runtime = FakeRuntime::new(landscape);
    bench.run(&runtime, &bench.request(&["water-2"])).expect("runs");
    let bytes = fs::read(bench.records_path()).expect("there");
    fs::write(bench.records_path(), &bytes[..bytes.len() - 50]).expect("writable");
    let request = Request { resume: true, ..bench.request(&["water-2"]) };
    bench.run(&runtime, &request).expect("runs");
    assert!(bench.notes.iter().any(|n| n.contains("torn last line")), "{:?}", bench.notes);
    assert!(records::read(&bench.records_path()).expect("whole").1.is_none());
}

#[test]
fn an_output_that_cannot_be_written_is_known_before_measuring() {
    let mut bench = Bench::new();
    let file = bench.dir.path().join("file");
    fs::write(&file, "").expect("writable");
    let runtime = FakeRuntime::new(landscape);
    let request = Request { tables: file, ..bench.request(&["water-2"]) };
    let error = bench.run(&runtime, &request).expect_err("a file is no folder");
    assert!(matches!(error, TuneError::Output { .. }), "{error}");
    assert!(runtime.prepared.borrow().is_empty());

    let request = bench.request(&["water-2"]);
    let path = Table::path(&request.tables, "fake-host", "fused_message");
    fs::create_dir_all(path.parent().expect("has one")).expect("writable");
    fs::write(&path, "{ \"schema\": 1 }").expect("writable");
    let error = bench.run(&runtime, &request).expect_err("a malformed table");
    assert!(matches!(error, TuneError::Table(_)), "{error}");
    assert!(matches!(bench.run(&runtime, &bench.request(&[])), Err(TuneError::NoTasks)));
    assert!(runtime.prepared.borrow().is_empty());
}

#[cfg(target_os = "linux")]
#[test]
fn a_disk_that_fills_ends_the_run_and_keeps_the_table() {
    let mut bench = Bench::new();
    let runtime = FakeRuntime::new(landscape);
    bench.run(&runtime, &bench.request(&["water-2"])).expect("runs");
    let good = bench.table();
    let mut records = RecordWriter::open(Path::new("/dev/full")).expect("it opens");
    let request = bench.request(&["water-2"]);
    let (verifier, stop) = (&mut bench.verifier, &bench.stop);
    let mut here = InProcess::new(&runtime, &request.tasks, &request.policy, verifier, None, stop);
    let error = tune(&mut here, &request, &mut records, &mut |_| {}, stop);
    assert!(matches!(error, Err(TuneError::Records(_))));
    assert_eq!(bench.table(), good);
}

#[test]
fn tables_of_other_templates_give_way_and_software_is_labelled() {
    let mut bench = Bench::new();
    let mut runtime = FakeRuntime::new(landscape);
    bench.run(&runtime, &bench.request(&["water-2"])).expect("runs");
    let request = Request { template_hash: "new".to_owned(), ..bench.request(&["water-3"]) };
    bench.run(&runtime, &request).expect("runs");
    let table = bench.table();
    assert_eq!((table.entries().len(), table.template_hash.as_str()), (1, "new"));
    assert!(bench.notes.iter().any(|n| n.contains("template_hash")), "{:?}", bench.notes);

    // Of a format whose entries say less there is nothing to keep; one that is still to come is not touched.
    let path = Table::path(&bench.dir.path().join("tables"), "fake-host", "fused_message");
    let of_schema = |schema: u32| {
        let text = fs::read_to_string(&path).expect("there");
        let now = format!("\"schema\": {}", ff_tables::TABLE_SCHEMA);
        fs::write(&path, text.replace(&now, &format!("\"schema\": {schema}"))).expect("writable");
    };
    of_schema(1);
    bench.run(&runtime, &bench.request(&["water-2"])).expect("runs");
    assert_eq!(bench.table().entries().len(), 1);
    assert!(bench.notes.iter().any(|n| n.contains("schema version 1, expected 2")), "{:?}", bench.notes);
    of_schema(9);
    let error = bench.run(&runtime, &bench.request(&["water-2"])).expect_err("of a later format");
    assert!(matches!(error, TuneError::Table(ff_tables::TableError::Schema { found: 9, .. })), "{error}");
    fs::remove_file(&path).expect("was there");

    runtime.device.software = true;
    bench.run(&runtime, &bench.request(&["water-2"])).expect("runs");
    assert!(bench.table().device.software);
    assert!(bench.notes.iter().any(|n| n.contains("software adapter")));
}

#[test]
fn an_unfused_baseline_counts_only_where_it_is_right() {
    for (rel_error, expected) in [(1e-6, Some(3.0)), (0.1, None), (f64::NAN, None)] {
        let bench = &mut Bench::new();
        let request = bench.request(&["water-2"]);
        let mut records = RecordWriter::open(&bench.records_path()).expect("writable");
        let runtime = FakeRuntime::new(landscape);
        let baseline = |_: &_, _, _: &_| Ok(Some(Baseline { samples_ns: vec![1800; 5], rel_error }));
        let (verifier, stop) = (&mut bench.verifier, &bench.stop);
        let mut here = InProcess::new(&runtime, &request.tasks, &request.policy, verifier, Some(&baseline), stop);
        let outcome = tune(&mut here, &request, &mut records, &mut |_| {}, stop);
        let problem = &outcome.expect("runs").problems[0];
        assert_eq!(problem.unfused_ratio(), expected);
        assert_eq!(problem.notes.is_empty(), expected.is_some());
    }
}

#[test]
fn an_empty_space_still_measures_the_default() {
    let mut bench = Bench::new();
    let text = include_str!("../../../autotune/spaces/fused_message.toml");
    let constraint = "channel_block <= 16 || channel_block <= next_pow2(features)";
    assert!(text.contains(constraint));
    let text = text.replace(constraint, "channel_block < 1");
    bench.spaces = Spaces::parse(&text, "x.toml").expect("sound");
    let outcome = bench.run(&FakeRuntime::new(landscape), &bench.request(&["water-2"])).expect("runs");
    let problem = &outcome.problems[0];
    assert!(problem.notes[0].text.contains("`channel_block < 1`"), "{:?}", problem.notes);
    assert_eq!(problem.best, problem.default);
    assert!(problem.best.is_some());
}

#[test]
fn evidence_is_joined_over_all_checks() {
    let mut bench = Bench::new();
    bench.run(&FakeRuntime::new(landscape), &bench.request(&["water-2"])).expect("runs");
    let record = bench.records().into_iter().find(|r| r.stage == Stage::Screen).expect("there");
    // Three cases each of the catalogue, the problem before and the problem after.
    let expected = Evidence { rel_error: 1e-7, max_abs_error: 1e-6, cases: 9, seeds: vec![1, 2, 3] };
    assert_eq!(record.evidence, Some(expected));
    assert_eq!(record.device.runtime, RuntimeKind::Host);
    assert!(Timing::of(&record.samples_ns).is_some());
}

/// Four atoms on a line, every second one in reach.
fn line() -> cell_list::Inputs<f64> {
    cell_list::Inputs {
        positions: (0..4).flat_map(|x| [1.5 * f64::from(x), 0.0, 0.0]).collect(),
        system_ptr: vec![0, 4],
        cell: vec![0.0; 9],
        pbc: vec![[false; 3]],
        cutoff: 2.0,
    }
}

#[test]
fn lists_are_tuned_as_messages_are() {
    let bench = Bench::new();
    let spaces = Spaces::built_in("cell_list").expect("sound");
    let run = |spaces: &Spaces, runtime: &dyn ff_spec::Prepare<CellList>| {
        let request = Request::<CellList> {
            spaces,
            tasks: ["full_cells", "half_brute"]
                .map(|id| Task {
                    variant: id.parse().expect("a variant"),
                    kernel_hash: id.to_owned(),
                    dtype: Dtype::F64,
                    problem: "line".to_owned(),
                    inputs: Box::new(line),
                })
                .into(),
            budget: Budget::Evaluations(3),
            policy: Policy::default(),
            strategy: None,
            estimate: None,
            keep: 1.0,
            shard: None,
            seed: 1,
            resume: true,
            tables: bench.dir.path().join("tables"),
            versions: Versions { forgefield: "0".into(), burn: "0".into(), cubecl: "0".into() },
            template_hash: "templates".to_owned(),
            compiler: "rustc".to_owned(),
        };
        let mut records = RecordWriter::open(&bench.records_path()).expect("writable");
        let mut verifier = GateVerifier::<CellList>::default();
        let stop = &bench.stop;
        let mut here = InProcess::new(runtime, &request.tasks, &request.policy, &mut verifier, None, stop);
        tune(&mut here, &request, &mut records, &mut |_| {}, stop)
    };
    // The spaces of messages are of no use, and nothing is measured in them.
    let error = run(&bench.spaces, &ScalarLists::default()).expect_err("of another op");
    assert!(matches!(error, TuneError::Space(SpaceError::Op { .. })), "{error}");
    assert!(bench.records().is_empty());

    let wrong = mutate(Box::new(ScalarLists::default()), Mutation::UnsortedRow);
    let outcome = run(&spaces, wrong.as_ref()).expect("runs");
    assert!(outcome.problems.iter().all(|p| p.counts == [(Verdict::Correctness, 3)].into()), "{outcome:?}");
    assert_eq!(outcome.tables, Vec::<std::path::PathBuf>::new());
    fs::remove_file(bench.records_path()).expect("was there");

    let outcome = run(&spaces, &ScalarLists::default()).expect("runs");
    let path = Table::path(&bench.dir.path().join("tables"), "scalar", "cell_list");
    assert_eq!((outcome.tables, outcome.problems.len()), (vec![path.clone()], 2));
    let table = Table::load(&path).expect("a valid table");
    assert_eq!(table.check(Some(&path)), []);
    // The key is what a caller knows before there is a list, and that is not the number of its edges, 6 and 3.
    let sizes = line().estimate("line");
    assert_ne!(sizes.n_edges, 6);
    for (id, problem) in ["full_cells", "half_brute"].into_iter().zip(&outcome.problems) {
        let entry = table.get(&TuneKey::new(id, 0, Dtype::F64, &sizes)).expect("tuned");
        assert_eq!((entry.variant.as_str(), &entry.problem, entry.pass.kernel_hash()), (id, &sizes, id));
        assert_eq!((problem.op, problem.family.as_str(), &problem.problem), ("cell_list", id, &sizes));
        assert_eq!(problem.reused, 0);
    }
    assert!(bench.records().iter().all(|r| r.op == "cell_list" && r.problem == sizes));
    let outcome = run(&spaces, &ScalarLists::default()).expect("runs");
    assert!(outcome.problems.iter().all(|p| p.reused == 3), "{outcome:?}");
}
