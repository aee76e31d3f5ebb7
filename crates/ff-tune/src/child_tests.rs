//! Searches in a worker process that dies of what it measures. The worker is this test binary.

use std::io::{BufReader, stdin, stdout};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ff_spec::{Clock, Dtype, FusedMessage, LaunchConfig, RuntimeKind};
use ff_tables::{Table, Versions};
use tempfile::TempDir;

use crate::child::Child;
use crate::measure::Policy;
use crate::outcome::{Event, Outcome, TuneError};
use crate::records::{self, Record, RecordWriter, Stage, Verdict};
use crate::request::{Baseline, Budget, Request, Task};
use crate::space::Spaces;
use crate::testing::{Behaviour, FakeRuntime, FakeVerifier, device, inputs};
use crate::tune::tune;
use crate::workbench::InProcess;
use crate::worker::{Watch, serve};

/// The worker's name as a test; it says what its kernels do.
const WORKER: &str = "child_tests::worker";
const CONFIGS: usize = 32;

static STOP: AtomicBool = AtomicBool::new(false);

/// What is waited for is nothing here, so a second is long even on a machine that does much else.
fn policy() -> Policy {
    Policy { timeout: Duration::from_secs(1), ..Policy::default() }
}

fn tasks() -> Vec<Task<'static, FusedMessage>> {
    vec![Task {
        variant: "cfconv_linear_gaussian_cosine_receiver".parse().expect("a variant"),
        kernel_hash: "kernel".to_owned(),
        dtype: Dtype::F32,
        problem: "water-2".to_owned(),
        inputs: Box::new(inputs),
    }]
}

/// One configuration misbehaves as told, 2048 edges per task are the best.
fn landscape(faults: &str, config: &LaunchConfig) -> Behaviour {
    let of = |name| config.get(name).expect("set");
    let (task, tile, block) = (of("edges_per_task"), of("edges_per_tile"), of("channel_block"));
    let fault = |name: &str| faults.split(',').find_map(|f| f.strip_prefix(name)?.parse::<u32>().ok());
    match (task, tile, block) {
        (128, 16, 16) => fault("hangs@").map(Behaviour::NeverEndsAt),
        (128, 32, 16) => fault("aborts@").map(Behaviour::AbortsAt),
        (128, 64, 16) => fault("takes@").map(Behaviour::TakesMemoryAt),
        _ => None,
    }
    .unwrap_or(Behaviour::Takes(if task == 2048 { 600 } else { 900 } + u64::from(tile)))
}

/// Not a test: what the tests below start, with its faults in its last argument.
#[test]
#[ignore = "a worker process"]
fn worker() {
    let Some(faults) = std::env::args().find_map(|word| word.strip_prefix("faults:").map(str::to_owned)) else {
        return;
    };
    let mut runtime = FakeRuntime::new(move |config| landscape(&faults, config));
    runtime.device = device(RuntimeKind::Host);
    let (watch, policy, tasks) = (Watch::new(Some(96 << 20)), policy(), tasks());
    let watched = watch.over(&runtime, &policy);
    let mut verifier = FakeVerifier::default();
    let baseline = |_: &_, _, _: &_| Ok(Some(Baseline { samples_ns: vec![1800; 5], rel_error: 1e-6 }));
    let mut bench = InProcess::new(&watched, &tasks, &policy, &mut verifier, Some(&baseline), &STOP);
    serve(&mut bench, &watch, &STOP, BufReader::new(stdin()), stdout()).expect("answered");
}

fn command(faults: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this test"));
    // The last word is a filter that no test has, beside the one that the worker has.
    command.args([WORKER, &format!("faults:{faults}"), "--ignored", "--nocapture", "--quiet", "--test-threads=2"]);
    command
}

struct Run {
    dir: TempDir,
    notes: Vec<String>,
}

impl Run {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().expect("temp dir"), notes: Vec::new() }
    }

    fn tune(&mut self, faults: &str, each: &mut dyn FnMut(&Event<'_>, &AtomicBool)) -> Result<Outcome, TuneError> {
        self.tune_with(&|| command(faults), each)
    }

    fn tune_with(
        &mut self,
        command: &dyn Fn() -> Command,
        each: &mut dyn FnMut(&Event<'_>, &AtomicBool),
    ) -> Result<Outcome, TuneError> {
        let spaces = Spaces::built_in("fused_message").expect("sound");
        let request = Request {
            spaces: &spaces,
            tasks: tasks(),
            budget: Budget::Exhaustive,
            policy: policy(),
            strategy: None,
            estimate: None,
            keep: 1.0,
            shard: None,
            seed: 1,
            resume: true,
            tables: self.dir.path().join("tables"),
            versions: Versions { forgefield: "0".into(), burn: "0".into(), cubecl: "0".into() },
            template_hash: "templates".to_owned(),
            compiler: "rustc".to_owned(),
        };
        let stop = AtomicBool::new(false);
        let mut child = Child::new(device(RuntimeKind::Host), Clock::Wall, request.tasks.len(), command, &stop);
        let mut records = RecordWriter::open(&self.records_path())?;
        let notes = &mut self.notes;
        let mut on_event = |event: Event<'_>| {
            each(&event, &stop);
            if let Event::Note(note) = event {
                notes.push(note);
            }
        };
        tune(&mut child, &request, &mut records, &mut on_event, &stop)
    }

    fn records_path(&self) -> std::path::PathBuf {
        self.dir.path().join("records.jsonl")
    }

    fn failed(&self) -> Vec<Record> {
        let (records, _) = records::read(&self.records_path()).expect("readable");
        records.into_iter().filter(|r| !matches!(r.verdict, Verdict::Correct | Verdict::Eliminated)).collect()
    }
}

fn fine(run: &Run, outcome: &Outcome) {
    let problem = &outcome.problems[0];
    assert_eq!(problem.counts.values().sum::<usize>(), CONFIGS, "{:?}", problem.counts);
    assert_eq!(problem.best.as_ref().map(|b| b.config.get("edges_per_task")), Some(Some(2048)));
    assert!(problem.unfused.is_some());
    let path = Table::path(&run.dir.path().join("tables"), "fake-host", "fused_message");
    assert_eq!(Table::load(&path).expect("a valid table").entries().len(), 1);
    let (records, torn) = records::read(&run.records_path()).expect("readable");
    assert_eq!(records.iter().filter(|r| r.stage == Stage::Screen).count(), CONFIGS);
    assert_eq!(torn, None);
}

#[test]
fn a_worker_does_what_this_process_would() {
    let mut run = Run::new();
    let outcome = run.tune("none", &mut |_, _| {}).expect("runs");
    fine(&run, &outcome);
    assert_eq!(run.failed(), []);
    assert!(outcome.times.kernels_ns() > 0 && outcome.times.own_ns() > 0, "{:?}", outcome.times);
}

#[test]
fn what_kills_a_worker_costs_its_own_row() {
    // In the first run of a launch, and again in the middle of a batch: prepared, gated and warmed up by then.
    for call in [1, 5] {
        for (fault, verdict, reason) in [
            ("hangs", Verdict::Timeout, "one call did not end, allowed 1.1s"),
            ("aborts", Verdict::Runtime, "signal 6 (abort): free(): invalid pointer"),
            ("takes", Verdict::Runtime, "GiB of memory, allowed 0.09 GiB"),
        ] {
            let mut run = Run::new();
            let outcome = run.tune(&format!("{fault}@{call}"), &mut |_, _| {}).expect("runs");
            fine(&run, &outcome);
            let failed = run.failed();
            assert_eq!(failed.len(), 1, "{fault} at {call}: {failed:?}");
            let (found, why) = (failed[0].verdict, failed[0].reason.as_deref().unwrap_or_default());
            assert!(found == verdict && why.contains(reason), "{fault} at {call}: {found}, {why}");
            // It is not tried again.
            let again = run.tune("none", &mut |_, _| {}).expect("runs");
            assert_eq!((again.problems[0].reused, run.failed().len()), (CONFIGS, 1), "{fault} at {call}");
        }
    }
    let mut run = Run::new();
    let outcome = run.tune("hangs@6,aborts@5,takes@1", &mut |_, _| {}).expect("runs");
    fine(&run, &outcome);
    assert_eq!(run.failed().len(), 3, "{:?}", run.failed());
}

#[test]
fn a_stop_reaches_the_worker() {
    let mut run = Run::new();
    let mut each = |event: &Event<'_>, stop: &AtomicBool| {
        if let Event::Measured { done: 9, .. } = event {
            stop.store(true, Ordering::Relaxed);
        }
    };
    let outcome = run.tune("none", &mut each).expect("a stop is no error");
    assert!(outcome.stopped && outcome.problems[0].notes[0].text.starts_with("stopped after"), "{outcome:?}");
    let outcome = run.tune("none", &mut |_, _| {}).expect("runs");
    assert!(outcome.problems[0].reused >= 9, "{outcome:?}");
    fine(&run, &outcome);
}

#[test]
fn no_worker_no_search() {
    let mut run = Run::new();
    let error = run.tune_with(&|| Command::new("/nowhere/forgefield"), &mut |_, _| {}).expect_err("not there");
    assert!(matches!(error, TuneError::Lost(_)) && error.to_string().contains("cannot be started"), "{error}");
    let refuses = || {
        let mut command = Command::new("sh");
        command.args(["-c", "echo 'no such device' >&2; exit 3"]);
        command
    };
    let error = run.tune_with(&refuses, &mut |_, _| {}).expect_err("it ends").to_string();
    assert!(error.contains("ended before it was ready: exit code 3: no such device"), "{error}");
}
