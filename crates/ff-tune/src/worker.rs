//! The side of a worker process: answers what [`crate::Child`] asks, line by line, and watches over itself.
//!
//! Every line is one JSON document. The worker greets, then each question has one answer; `"stop"` has none and ends a
//! measurement between two launches. Where the questions end the process ends, so none outlives the search.

use std::cell::RefCell;
use std::io::{BufRead, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use ff_spec::{Clock, Device, DeviceId, Dtype, Launch, LaunchConfig, LaunchError, Op, Prepare, Problem, RuntimeKind};
use serde::{Deserialize, Serialize};

use crate::measure::Policy;
use crate::memory::{resident, spare};
use crate::op::Tuned;
use crate::records::Verdict;
use crate::times::Times;
use crate::workbench::{Failure, InProcess, Lost, Round, Workbench};

/// How often a worker looks at itself: seldom enough that samples do not notice, a few microseconds each time.
const TICK: Duration = Duration::from_millis(50);

/// What a worker is asked.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Question {
    Open(usize),
    Reference,
    Prepare(LaunchConfig),
    Time(Vec<LaunchConfig>, Round),
    Pass(LaunchConfig),
    Release(LaunchConfig),
    Unfused,
    /// No question: ends what is being measured.
    Stop,
}

/// What a worker says first.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Greeting {
    pub(crate) worker_on: DeviceId,
    pub(crate) tasks: usize,
}

/// What a worker says to a question.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Answer<T> {
    /// With what it took.
    Done(T, Times),
    /// The worker cannot go on at all.
    Lost(String),
    /// What is being run will be the end of this process.
    Dying(Failure),
}

/// Looks at a process from inside: how long a call of a kernel takes, and how much memory there is.
///
/// A runtime that is watched ([`Watch::over`]) says when a call begins and ends; a thread of [`serve`] reads it.
#[derive(Debug)]
pub struct Watch {
    begin: Instant,
    /// When the call under way has to be over, ms after `begin`; 0 where there is none.
    due_ms: AtomicU64,
    /// How long it may take, ms.
    allowed_ms: AtomicU64,
    memory: Option<u64>,
}

impl Watch {
    /// With a bound of the memory of this process in bytes; `None` for three quarters of what the system can spare.
    pub fn new(memory: Option<u64>) -> Arc<Self> {
        let spare = || Some(resident()?.saturating_add(spare()? / 4 * 3));
        let (due_ms, allowed_ms) = (AtomicU64::new(0), AtomicU64::new(0));
        Arc::new(Self { begin: Instant::now(), due_ms, allowed_ms, memory: memory.or_else(spare) })
    }

    /// The same runtime under this watch.
    pub fn over<'a, O: Op>(self: &Arc<Self>, runtime: &'a dyn Prepare<O>, policy: &Policy) -> impl Prepare<O> + 'a {
        let times = Allowed { run: policy.timeout, compile: policy.compile_timeout };
        Watched { runtime, watch: Arc::clone(self), times, default: RefCell::default() }
    }

    /// Runs something that has to be over in time.
    fn during<T>(&self, allowed: Duration, action: impl FnOnce() -> T) -> T {
        let (now, allowed) = (millis(self.begin.elapsed()), millis(allowed));
        self.allowed_ms.store(allowed, Ordering::Relaxed);
        self.due_ms.store((now + allowed).max(1), Ordering::Relaxed);
        let done = action();
        self.due_ms.store(0, Ordering::Relaxed);
        done
    }

    /// What is wrong now.
    fn look(&self) -> Option<Failure> {
        let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
        // First, since what takes all memory takes its time too.
        if let Some((allowed, found)) = self.memory.zip(resident()).filter(|(allowed, found)| found > allowed) {
            let (found, allowed) = (gib(found), gib(allowed));
            let reason = format!("took {found:.2} GiB of memory, allowed {allowed:.2} GiB");
            return Some(Failure::new(Verdict::Runtime, reason));
        }
        let due = self.due_ms.load(Ordering::Relaxed);
        (due != 0 && millis(self.begin.elapsed()) > due).then(|| {
            let allowed = Duration::from_millis(self.allowed_ms.load(Ordering::Relaxed));
            Failure::new(Verdict::Timeout, format!("one call did not end, allowed {allowed:.1?}"))
        })
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// How long calls may take.
#[derive(Clone, Copy)]
struct Allowed {
    run: Duration,
    compile: Duration,
}

/// A runtime whose calls are watched.
struct Watched<'a, O: Op> {
    runtime: &'a dyn Prepare<O>,
    watch: Arc<Watch>,
    times: Allowed,
    /// Of the last problem. It has ten times as long as others, since everything is compared to it.
    default: RefCell<LaunchConfig>,
}

impl<O: Op> Device for Watched<'_, O> {
    fn device(&self) -> &DeviceId {
        self.runtime.device()
    }

    fn clock(&self) -> Clock {
        self.runtime.clock()
    }
}

impl<O: Op> Prepare<O> for Watched<'_, O> {
    fn default_config(&self, variant: &O::Variant, dtype: Dtype, problem: &Problem) -> LaunchConfig {
        let default = self.runtime.default_config(variant, dtype, problem);
        self.default.replace(default.clone());
        default
    }

    fn prepare(
        &self,
        variant: &O::Variant,
        dtype: Dtype,
        inputs: &O::Inputs,
        config: &LaunchConfig,
    ) -> Result<Box<dyn Launch<O>>, LaunchError> {
        let factor = if *self.default.borrow() == *config { 10 } else { 1 };
        let times = Allowed { run: self.times.run * factor, compile: self.times.compile * factor };
        let launch = self.watch.during(times.compile, || self.runtime.prepare(variant, dtype, inputs, config))?;
        // The host's kernels were compiled with this program.
        let compiles = self.runtime.device().runtime != RuntimeKind::Host;
        Ok(Box::new(WatchedLaunch { launch, watch: Arc::clone(&self.watch), times, compiles }))
    }
}

struct WatchedLaunch<O: Op> {
    launch: Box<dyn Launch<O>>,
    watch: Arc<Watch>,
    times: Allowed,
    /// Whether the next run does.
    compiles: bool,
}

impl<O: Op> WatchedLaunch<O> {
    fn during<T>(&mut self, action: impl FnOnce(&mut dyn Launch<O>) -> T) -> T {
        // A run that is over is judged by its time; one that is not gets a little longer.
        let run = self.times.run + self.times.run / 10;
        let allowed = if std::mem::take(&mut self.compiles) { run.max(self.times.compile) } else { run };
        self.watch.during(allowed, || action(self.launch.as_mut()))
    }
}

impl<O: Op> Launch<O> for WatchedLaunch<O> {
    fn poison(&mut self) -> Result<(), LaunchError> {
        self.launch.poison()
    }

    fn run(&mut self) -> Result<(), LaunchError> {
        self.during(|launch| launch.run())
    }

    fn time(&mut self) -> Result<Duration, LaunchError> {
        self.during(|launch| launch.time())
    }

    fn outputs(&mut self) -> Result<O::Outputs, LaunchError> {
        self.launch.outputs()
    }

    fn input_digest(&mut self) -> Result<u64, LaunchError> {
        self.launch.input_digest()
    }
}

/// Answers questions until there are no more, and ends the process then. `stop` is raised where the search is to end.
///
/// A call under `watch` that does not end, and memory that runs out, are said before the process is ended for it.
///
/// # Errors
/// Where answers cannot be written.
pub fn serve<O: Tuned>(
    bench: &mut InProcess<'_, O>,
    watch: &Arc<Watch>,
    stop: &'static AtomicBool,
    questions: impl BufRead + Send + 'static,
    answers: impl Write + Send + 'static,
) -> std::io::Result<()> {
    // Of all processes this is the one that the system should end first.
    let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
    let answers = Arc::new(Mutex::new(answers));
    let (watch, dying) = (Arc::clone(watch), Arc::clone(&answers));
    thread::spawn(move || {
        let failure = loop {
            thread::sleep(TICK);
            if let Some(failure) = watch.look() {
                break failure;
            }
        };
        // Whoever asked ends this process now; where nobody does, nobody waits for it.
        let _ = say(&dying, &Answer::<()>::Dying(failure));
        thread::sleep(Duration::from_secs(10));
        std::process::abort();
    });
    let (asked, questions_asked) = mpsc::channel();
    thread::spawn(move || {
        for line in questions.lines().map_while(Result::ok) {
            match serde_json::from_str(&line) {
                Ok(Question::Stop) => stop.store(true, Ordering::Relaxed),
                Ok(question) => {
                    if asked.send(question).is_err() {
                        break;
                    }
                }
                Err(_) => break,
            }
        }
        // Nobody is left to answer to, whatever is being measured.
        std::process::exit(0);
    });
    say(&answers, &Greeting { worker_on: bench.device().clone(), tasks: bench.tasks() })?;
    for question in questions_asked {
        match question {
            Question::Open(task) => {
                let opened = bench.open(task);
                answer(&answers, bench, opened)
            }
            Question::Reference => {
                let reference = bench.reference();
                answer(&answers, bench, reference)
            }
            Question::Prepare(config) => {
                let prepared = bench.prepare(&config);
                answer(&answers, bench, prepared)
            }
            Question::Time(configs, round) => {
                let timed = bench.time(&configs, &round);
                answer(&answers, bench, timed)
            }
            Question::Pass(config) => {
                let passed = bench.pass(&config);
                answer(&answers, bench, passed)
            }
            Question::Release(config) => {
                let released = bench.release(&config);
                answer(&answers, bench, released)
            }
            Question::Unfused => {
                let unfused = bench.unfused();
                answer(&answers, bench, unfused)
            }
            Question::Stop => Ok(()),
        }?;
    }
    Ok(())
}

fn answer<T: Serialize>(
    answers: &Mutex<impl Write>,
    bench: &mut dyn Workbench,
    done: Result<T, Lost>,
) -> std::io::Result<()> {
    match done {
        Ok(done) => say(answers, &Answer::Done(done, bench.spent())),
        Err(Lost(reason)) => say(answers, &Answer::<T>::Lost(reason)),
    }
}

/// Writes one line.
fn say(answers: &Mutex<impl Write>, what: &impl Serialize) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(what)?;
    line.push(b'\n');
    let mut answers = answers.lock().unwrap_or_else(PoisonError::into_inner);
    answers.write_all(&line)?;
    answers.flush()
}
