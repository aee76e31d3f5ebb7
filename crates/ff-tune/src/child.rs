//! The searching side of a worker process.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child as Process, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use ff_spec::{Clock, DeviceId, LaunchConfig};
use ff_tables::Evidence;
use serde::de::DeserializeOwned;

use crate::records::{Stage, Verdict};
use crate::request::Baseline;
use crate::times::{Times, ns};
use crate::workbench::{Failure, Lost, Opened, Round, Timed, Workbench};
use crate::worker::{Answer, Greeting, Question};

/// How often it is asked whether the search was stopped while a worker measures.
const TICK: Duration = Duration::from_millis(50);

/// How many of the last lines that a worker wrote to stderr are kept, for its failure to quote.
const LAST_WORDS: usize = 3;

/// Measures in a process of its own, so that a kernel which never ends, ends the process or takes all memory costs its own
/// row. The next question after such an end starts another process, which prepares again what was ready to be timed.
pub struct Child<'a> {
    device: DeviceId,
    clock: Clock,
    tasks: usize,
    command: Box<dyn Fn() -> Command + 'a>,
    stop: &'a AtomicBool,
    worker: Option<Worker>,
    task: Option<usize>,
    referenced: bool,
    /// What is ready to be timed, and what has died since it was.
    held: BTreeMap<LaunchConfig, Option<Failure>>,
    spent: Times,
}

struct Worker {
    process: Process,
    questions: ChildStdin,
    answers: Receiver<String>,
    /// Reads stderr to its end, and keeps the last of it.
    last_words: Option<JoinHandle<Vec<String>>>,
    told_to_stop: bool,
}

/// Why a question has no answer.
enum Silence {
    /// The worker has died of it.
    Died(Failure),
    /// There can be no worker.
    Lost(Lost),
}

impl From<Lost> for Silence {
    fn from(lost: Lost) -> Self {
        Self::Lost(lost)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // One that has ended already is as good.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl<'a> Child<'a> {
    /// A workbench for as many tasks, on a device that this process has opened too. `command` starts a process that calls
    /// [`crate::serve`] for the same tasks with its standard input and output.
    pub fn new(
        device: DeviceId,
        clock: Clock,
        tasks: usize,
        command: impl Fn() -> Command + 'a,
        stop: &'a AtomicBool,
    ) -> Self {
        let (worker, task, referenced, held, spent) = (None, None, false, BTreeMap::new(), Times::default());
        Self { device, clock, tasks, command: Box::new(command), stop, worker, task, referenced, held, spent }
    }

    /// The process id of the worker, where there is one.
    pub fn id(&self) -> Option<u32> {
        self.worker.as_ref().map(|worker| worker.process.id())
    }

    fn start(&self) -> Result<Worker, Lost> {
        let lost = |what: String| Lost(format!("worker process: {what}"));
        let mut command = (self.command)();
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // Ctrl-C is for the search alone, which tells its worker.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut process = command.spawn().map_err(|e| lost(format!("cannot be started: {e}")))?;
        let (Some(questions), Some(out), Some(err)) =
            (process.stdin.take(), process.stdout.take(), process.stderr.take())
        else {
            return Err(lost("has no pipes".to_owned()));
        };
        let last_words = thread::spawn(move || {
            let mut words = Vec::new();
            for line in BufReader::new(err).lines().map_while(Result::ok) {
                words.push(line);
                if words.len() > LAST_WORDS {
                    words.remove(0);
                }
            }
            words
        });
        let (said, answers) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                if said.send(line).is_err() {
                    break;
                }
            }
        });
        let mut worker = Worker { process, questions, answers, last_words: Some(last_words), told_to_stop: false };
        // Drivers may print before the greeting.
        let greeting = loop {
            match worker.answers.recv() {
                Ok(line) => match serde_json::from_str::<Greeting>(&line) {
                    Ok(greeting) => break greeting,
                    Err(_) => continue,
                },
                Err(_) => return Err(lost(format!("ended before it was ready: {}", worker.ended()))),
            }
        };
        let (found, expected) = (greeting.worker_on.slug, &self.device.slug);
        if found != *expected || greeting.tasks != self.tasks {
            let (found, expected) = ((found, greeting.tasks), (expected, self.tasks));
            return Err(lost(format!("has device and number of tasks {found:?}, expected {expected:?}")));
        }
        Ok(worker)
    }

    /// The worker, as far as it was: with its task, its reference, and what was ready to be timed.
    fn revive(&mut self) -> Result<(), Silence> {
        if self.worker.is_some() {
            return Ok(());
        }
        self.worker = Some(self.start()?);
        let Some(task) = self.task else { return Ok(()) };
        let opened = self.ask::<Result<Opened, Failure>>(&Question::Open(task))?;
        opened.map_err(Silence::Died)?;
        if self.referenced {
            self.ask::<Result<(), Failure>>(&Question::Reference)?.map_err(Silence::Died)?;
        }
        let held: Vec<LaunchConfig> = self.held.iter().filter(|(_, f)| f.is_none()).map(|(c, _)| c.clone()).collect();
        for config in held {
            let failure = match self.ask::<Result<Evidence, Failure>>(&Question::Prepare(config.clone())) {
                Ok(Ok(_)) => continue,
                Ok(Err(failure)) => failure,
                Err(Silence::Died(failure)) => failure,
                Err(lost) => return Err(lost),
            };
            self.held.insert(config, Some(failure));
            if self.worker.is_none() {
                // One less each time, so this ends.
                return self.revive();
            }
        }
        Ok(())
    }

    /// The answer to a question of a worker that is up to it.
    fn call<T: DeserializeOwned>(&mut self, question: &Question) -> Result<T, Silence> {
        self.revive()?;
        self.ask(question)
    }

    fn ask<T: DeserializeOwned>(&mut self, question: &Question) -> Result<T, Silence> {
        let Some(worker) = &mut self.worker else { return Err(Lost("there is no worker process".to_owned()).into()) };
        let begin = Instant::now();
        let answer = worker.say(question).map_or_else(|| worker.hear::<T>(self.stop), Err);
        if !matches!(answer, Ok(Answer::Done(..))) {
            // What the kernel took that the worker died of.
            self.spent.benchmark_ns += ns(begin.elapsed());
        }
        match answer {
            Ok(Answer::Done(done, spent)) => {
                self.spent += spent;
                Ok(done)
            }
            Ok(Answer::Lost(reason)) => Err(Lost(reason).into()),
            Ok(Answer::Dying(failure)) => {
                self.worker = None;
                Err(Silence::Died(failure))
            }
            Err(silence) => {
                self.worker = None;
                Err(silence)
            }
        }
    }

    /// Times configurations of which some are the end of a worker, after it was one: each alone to find them, then what is
    /// left side by side.
    fn time_apart(&mut self, configs: &[LaunchConfig], round: &Round) -> Result<Vec<Timed>, Lost> {
        let alone = Round { stage: Stage::Screen, ..round.clone() };
        let mut fatal = BTreeMap::new();
        for config in configs {
            if let Err(silence) = self.call::<Vec<Timed>>(&Question::Time(vec![config.clone()], alone.clone())) {
                fatal.insert(config.clone(), silence.died()?);
                self.held.insert(config.clone(), fatal.get(config).cloned());
            }
        }
        let left: Vec<LaunchConfig> = configs.iter().filter(|c| !fatal.contains_key(*c)).cloned().collect();
        let mut timed = match self.call::<Vec<Timed>>(&Question::Time(left.clone(), round.clone())) {
            Ok(timed) => timed,
            Err(silence) => {
                let died = silence.died()?;
                let reason = format!("beside others, though not alone: {}", died.reason);
                let failure = Failure { reason, ..died };
                left.iter().map(|_| Timed { failure: Some(failure.clone()), ..Timed::default() }).collect()
            }
        }
        .into_iter();
        let of = |config| match fatal.get(config) {
            Some(failure) => Timed { failure: Some(failure.clone()), ..Timed::default() },
            None => timed.next().unwrap_or_default(),
        };
        Ok(configs.iter().map(of).collect())
    }
}

impl Silence {
    fn died(self) -> Result<Failure, Lost> {
        match self {
            Silence::Died(failure) => Ok(failure),
            Silence::Lost(lost) => Err(lost),
        }
    }
}

impl Worker {
    /// Why it could not be said.
    fn say(&mut self, question: &Question) -> Option<Silence> {
        let line = match serde_json::to_string(question) {
            Ok(line) => line + "\n",
            Err(error) => return Some(Lost(format!("a question cannot be written: {error}")).into()),
        };
        let written = self.questions.write_all(line.as_bytes()).and_then(|()| self.questions.flush());
        written.err().map(|_| self.died())
    }

    fn hear<T: DeserializeOwned>(&mut self, stop: &AtomicBool) -> Result<Answer<T>, Silence> {
        loop {
            match self.answers.recv_timeout(TICK) {
                Ok(line) => {
                    let unreadable = |e| Lost(format!("worker process: answered `{line}`: {e}")).into();
                    return serde_json::from_str(&line).map_err(unreadable);
                }
                Err(RecvTimeoutError::Disconnected) => return Err(self.died()),
                Err(RecvTimeoutError::Timeout) => {}
            }
            if stop.load(Ordering::Relaxed)
                && !std::mem::replace(&mut self.told_to_stop, true)
                && let Some(silence) = self.say(&Question::Stop)
            {
                return Err(silence);
            }
        }
    }

    fn died(&mut self) -> Silence {
        Silence::Died(Failure::new(Verdict::Runtime, format!("its process ended with {}", self.ended())))
    }

    /// How the process ended, with its last words.
    fn ended(&mut self) -> String {
        let status = self.process.wait().map_or_else(|e| e.to_string(), described);
        // The pipe ends with the process.
        let words = self.last_words.take().and_then(|reader| reader.join().ok()).unwrap_or_default().join(" / ");
        if words.is_empty() { status } else { format!("{status}: {words}") }
    }
}

#[cfg(unix)]
fn described(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;

    let name = |signal| match signal {
        4 => " (illegal instruction)",
        6 => " (abort)",
        7 => " (bus error)",
        8 => " (arithmetic)",
        9 => " (killed, as the system does where memory runs out)",
        11 => " (segmentation fault)",
        _ => "",
    };
    match (status.signal(), status.code()) {
        (Some(signal), _) => format!("signal {signal}{}", name(signal)),
        (_, Some(code)) => format!("exit code {code}"),
        _ => status.to_string(),
    }
}

#[cfg(not(unix))]
fn described(status: ExitStatus) -> String {
    status.to_string()
}

impl Workbench for Child<'_> {
    fn device(&self) -> &DeviceId {
        &self.device
    }

    fn clock(&self) -> Clock {
        self.clock
    }

    fn open(&mut self, task: usize) -> Result<Result<Opened, Failure>, Lost> {
        (self.task, self.referenced) = (None, false);
        self.held.clear();
        match self.call::<Result<Opened, Failure>>(&Question::Open(task)) {
            Ok(opened) => {
                self.task = Some(task);
                Ok(opened)
            }
            Err(silence) => Ok(Err(silence.died()?)),
        }
    }

    fn reference(&mut self) -> Result<Result<(), Failure>, Lost> {
        match self.call::<Result<(), Failure>>(&Question::Reference) {
            Ok(reference) => {
                self.referenced = reference.is_ok();
                Ok(reference)
            }
            Err(silence) => Ok(Err(silence.died()?)),
        }
    }

    fn prepare(&mut self, config: &LaunchConfig) -> Result<Result<Evidence, Failure>, Lost> {
        match self.call::<Result<Evidence, Failure>>(&Question::Prepare(config.clone())) {
            Ok(prepared) => {
                if prepared.is_ok() {
                    self.held.insert(config.clone(), None);
                }
                Ok(prepared)
            }
            Err(silence) => Ok(Err(silence.died()?)),
        }
    }

    fn time(&mut self, configs: &[LaunchConfig], round: &Round) -> Result<Vec<Timed>, Lost> {
        let mut timed = match self.call::<Vec<Timed>>(&Question::Time(configs.to_vec(), round.clone())) {
            Ok(timed) => timed,
            Err(silence) => {
                silence.died()?;
                self.time_apart(configs, round)?
            }
        };
        for (config, timed) in configs.iter().zip(&mut timed) {
            // What it died of, where it could not be made ready again.
            if let Some(failure) = self.held.get(config).cloned().flatten() {
                *timed = Timed { failure: Some(failure), ..Timed::default() };
            }
        }
        Ok(timed)
    }

    fn pass(&mut self, config: &LaunchConfig) -> Result<Result<Evidence, Failure>, Lost> {
        if let Some(failure) = self.held.get(config).cloned().flatten() {
            return Ok(Err(failure));
        }
        match self.call::<Result<Evidence, Failure>>(&Question::Pass(config.clone())) {
            Ok(passed) => Ok(passed),
            Err(silence) => {
                let failure = silence.died()?;
                let reason = format!("after timing: {}", failure.reason);
                let failure = Failure { reason, ..failure };
                self.held.insert(config.clone(), Some(failure.clone()));
                Ok(Err(failure))
            }
        }
    }

    fn release(&mut self, config: &LaunchConfig) -> Result<(), Lost> {
        let ready = self.held.remove(config).is_some_and(|failure| failure.is_none());
        if !ready || self.worker.is_none() {
            return Ok(());
        }
        // Where the worker dies of it, the next one does not have it.
        match self.ask::<()>(&Question::Release(config.clone())) {
            Ok(()) | Err(Silence::Died(_)) => Ok(()),
            Err(Silence::Lost(lost)) => Err(lost),
        }
    }

    fn unfused(&mut self) -> Result<Result<Option<Baseline>, String>, Lost> {
        match self.call::<Result<Option<Baseline>, String>>(&Question::Unfused) {
            Ok(measured) => Ok(measured),
            Err(silence) => Ok(Err(silence.died()?.reason)),
        }
    }

    fn spent(&mut self) -> Times {
        std::mem::take(&mut self.spent)
    }
}
