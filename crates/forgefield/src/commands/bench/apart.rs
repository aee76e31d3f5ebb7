//! Cases timed in processes of their own, of this binary or of another one.
//!
//! A process prepares its case, checks it and says `ready`; for every line on its stdin it takes a block of samples and
//! prints them as a JSON array of ns; at the end of its stdin it checks the case again and prints its row.

use std::io::{self, BufRead, BufReader, Lines, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use ff_spec::{Dtype, LaunchConfig, Problem, RuntimeKind};
use ff_tune::regression::{Change, Rule, paired, settled};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Deserialize;

use super::args::BenchArgs;
use super::comparison::differences;
use super::result::{Row, Samples, median_of};
use super::{FEWEST_BLOCKS, block_of};
use crate::failure::{Failure, Result};
use crate::interrupt;

/// What a process says when it can be asked for samples.
const READY: &str = "ready";

/// The samples of a process that is asked for blocks on its stdin.
pub fn serve(mut sample: impl FnMut() -> Result<Duration>) -> Result<Samples> {
    let gone = |e: io::Error| Failure::fault(format!("nobody asks for samples any more: {e}"));
    let say = |text: &str| {
        let mut out = io::stdout().lock();
        writeln!(out, "{text}").and_then(|()| out.flush()).map_err(gone)
    };
    // The first calls find cold caches.
    block_of(&mut sample)?;
    say(READY)?;
    let mut blocks = Vec::new();
    for line in io::stdin().lines() {
        line.map_err(gone)?;
        let block = block_of(&mut sample)?;
        say(&serde_json::to_string(&block).map_err(Failure::fault)?)?;
        blocks.push(block);
    }
    if blocks.is_empty() {
        blocks.push(block_of(&mut sample)?);
    }
    Samples::of(vec![blocks])
}

/// How processes are started.
pub struct Start<'a> {
    pub args: &'a BenchArgs,
    /// The runtime that was opened: `auto` need not mean the same to another binary.
    pub runtime: RuntimeKind,
}

impl Start<'_> {
    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.args(["bench", "--quiet", "--runtime", self.runtime.name(), "--tables"]).arg(&self.args.tables);
        if let Some(threads) = self.args.threads {
            command.args(["--threads", &threads.to_string()]);
        }
        if let Some(model) = &self.args.model {
            command.args(["--suite", "models", "--model"]).arg(model);
            if self.args.full {
                command.arg("--full");
            }
        }
        if !self.args.structure.is_empty() {
            command.arg("--structure").args(&self.args.structure);
        }
        command
    }

    /// The names of the cases that a binary has.
    ///
    /// # Errors
    /// Where it is no such binary.
    pub fn cases(&self, program: &Path) -> Result<Vec<String>> {
        let expected = "expected a forgefield binary that has `bench --list`";
        let done = self.command(program).arg("--list").output();
        let done = done.map_err(|e| Failure::input(format!("cannot run {}: {e}, {expected}", program.display())))?;
        if !done.status.success() {
            let reason = last_line(&done.stderr);
            return Err(Failure::input(format!(
                "{} ended with {}: {reason}; {expected}",
                program.display(),
                done.status
            )));
        }
        Ok(String::from_utf8_lossy(&done.stdout).lines().map(str::to_owned).collect())
    }

    fn process(&self, program: &Path, case: &str) -> Result<Process> {
        let mut command = self.command(program);
        command.args(["--serve", "--case", case]);
        let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let fault = |e: io::Error| Failure::fault(format!("cannot run {}: {e}", program.display()));
        let mut child = piped.spawn().map_err(fault)?;
        let (Some(ask), Some(out)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(Failure::fault("a process without pipes"));
        };
        let what = format!("{case} in {}", program.display());
        let mut process = Process { child, ask: Some(ask), answers: BufReader::new(out).lines(), what };
        match process.line()? {
            line if line == READY => Ok(process),
            line => Err(Failure::fault(format!("{}: found `{line}`, expected `{READY}`", process.what))),
        }
    }

    /// Times a case in one more process of this binary and adds its samples to the row.
    ///
    /// # Errors
    /// What stops the process.
    pub fn one_more(&self, case: &str, row: &mut Option<Row>) -> Result<()> {
        let mut process = self.process(&this_binary()?, case)?;
        let (begin, mut blocks) = (Instant::now(), 0);
        while goes_on(self.args, begin, blocks) {
            process.block()?;
            blocks += 1;
        }
        let new: Row = process.end()?;
        match row {
            Some(row) => row.add(new),
            None => *row = Some(new),
        }
        Ok(())
    }

    /// Times a case in pairs of processes of this binary and of another one, until it is known which is faster.
    ///
    /// # Errors
    /// What stops a process; a case that is another problem in the other binary.
    pub fn against(&self, baseline: &Path, case: &str, rule: Rule) -> Result<(Row, Change, BaselineRow)> {
        let this = this_binary()?;
        let mut rng = ChaCha8Rng::seed_from_u64(0);
        let (mut ratios, mut row, mut subject) = (Vec::new(), None::<Row>, None);
        while !settled(&ratios, rule) {
            // Which is started first is drawn: the second finds the memory that the first has left.
            let old_first = rng.random();
            let mut old = if old_first { Some(self.process(baseline, case)?) } else { None };
            let mut new = self.process(&this, case)?;
            let mut old = match old.take() {
                Some(old) => old,
                None => self.process(baseline, case)?,
            };
            let (begin, mut rounds) = (Instant::now(), Vec::new());
            while goes_on(self.args, begin, rounds.len()) {
                let [before, after] = if rng.random() {
                    let before = old.block()?;
                    [before, new.block()?]
                } else {
                    let after = new.block()?;
                    [old.block()?, after]
                };
                rounds.push(median_of(&after) / median_of(&before));
            }
            let (then, now): (BaselineRow, Row) = (old.end()?, new.end()?);
            if interrupt::raised() {
                break;
            }
            if let Some(difference) = then.problem_differs(&now) {
                return Err(Failure::input(format!("{case} is another problem in the baseline: {difference}")));
            }
            ratios.push(median_of(&rounds));
            subject = Some(then);
            match &mut row {
                Some(row) => row.add(now),
                None => row = Some(now),
            }
        }
        let change = paired(&ratios, rule);
        let (Some(row), Some(subject), Some(change)) = (row, subject, change) else {
            return Err(Failure::interrupted("interrupted: no pair of processes was timed"));
        };
        Ok((row, change, subject))
    }
}

/// Whether a process is asked for another block.
fn goes_on(args: &BenchArgs, begin: Instant, blocks: usize) -> bool {
    let time = Duration::from_secs_f64(args.seconds());
    (blocks < FEWEST_BLOCKS || begin.elapsed() < time) && !interrupt::raised()
}

fn this_binary() -> Result<PathBuf> {
    std::env::current_exe().map_err(|e| Failure::fault(format!("this binary does not know where it is: {e}")))
}

/// What a row of another binary must say: it may have more fields, and others.
#[derive(Debug, Deserialize)]
pub struct BaselineRow {
    pub variant: String,
    pub dtype: Dtype,
    pub problem: Problem,
    pub config: LaunchConfig,
}

impl BaselineRow {
    /// Why the two cannot be compared: they are not of the same sizes.
    fn problem_differs(&self, row: &Row) -> Option<String> {
        let mut differing = differences(&self.problem, &row.problem);
        if self.dtype != row.dtype {
            differing.push(format!("{} there, {} here", self.dtype, row.dtype));
        }
        (!differing.is_empty()).then(|| differing.join("; "))
    }
}

/// A process that has its case ready.
struct Process {
    child: Child,
    ask: Option<ChildStdin>,
    answers: Lines<BufReader<ChildStdout>>,
    what: String,
}

impl Process {
    fn line(&mut self) -> Result<String> {
        match self.answers.next() {
            Some(Ok(line)) => Ok(line),
            _ => Err(self.failure()),
        }
    }

    /// Why it does not answer any more.
    fn failure(&mut self) -> Failure {
        if interrupt::raised() {
            return Failure::interrupted("interrupted");
        }
        let mut said = Vec::new();
        if let Some(mut stderr) = self.child.stderr.take() {
            let _ = stderr.read_to_end(&mut said);
        }
        let code = self.child.wait().ok().and_then(|status| status.code());
        let message = format!("{}: {}", self.what, last_line(&said));
        match code {
            Some(1) => Failure::unmet(message),
            Some(2) => Failure::input(message),
            _ => Failure::fault(message),
        }
    }

    /// A block of samples in ns.
    fn block(&mut self) -> Result<Vec<f64>> {
        let asked = self.ask.as_mut().is_some_and(|ask| writeln!(ask).and_then(|()| ask.flush()).is_ok());
        if !asked {
            return Err(self.failure());
        }
        let line = self.line()?;
        let block: Option<Vec<f64>> = serde_json::from_str(&line).ok();
        let block = block.filter(|block| !block.is_empty());
        block.ok_or_else(|| Failure::fault(format!("{}: found `{line}`, expected times in ns", self.what)))
    }

    /// Its row.
    fn end<R: for<'de> Deserialize<'de>>(mut self) -> Result<R> {
        self.ask = None;
        let line = self.line()?;
        let row = serde_json::from_str(&line);
        let row = row.map_err(|e| Failure::fault(format!("{}: {e}, expected a row", self.what)))?;
        let status = self.child.wait().map_err(Failure::fault)?;
        if status.success() { Ok(row) } else { Err(self.failure()) }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // What has ended by itself cannot be killed; either way nothing is left behind.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a process said last, without what every error begins with.
fn last_line(said: &[u8]) -> String {
    let said = String::from_utf8_lossy(said);
    let line = said.trim().lines().last().unwrap_or("it said nothing");
    line.strip_prefix("error: ").unwrap_or(line).to_owned()
}
