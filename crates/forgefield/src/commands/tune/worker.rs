//! The worker process that a search measures in: this binary again, with the same words and one more.

use std::ffi::OsString;
use std::io::{BufReader, stdin, stdout};
use std::process::Command;
use std::sync::atomic::AtomicBool;

use ff_spec::{Op, Prepare};
use ff_tune::{BaselineFn, Child, GateVerifier, InProcess, Policy, Task, Tuned, Watch};

use crate::failure::{Failure, Result};
use crate::interrupt;

/// What an op is called between the two.
pub fn of<O: Op>() -> String {
    format!("{}/{}", O::NAME, O::ORDER)
}

/// A workbench in a process of its own, which starts with the first question.
pub fn start<'a, O: Op>(runtime: &dyn Prepare<O>, tasks: &[Task<'_, O>], stop: &'a AtomicBool) -> Child<'a> {
    let command = || {
        // What this process runs, even where its file was replaced meanwhile.
        let program = if cfg!(target_os = "linux") { Ok("/proc/self/exe".into()) } else { std::env::current_exe() };
        let mut command = Command::new(program.unwrap_or_else(|_| "forgefield".into()));
        let words: Vec<OsString> = std::env::args_os().skip(1).collect();
        command.args(words).args(["--serve", &of::<O>()]);
        command
    };
    Child::new(runtime.device().clone(), runtime.clock(), tasks.len(), command, stop)
}

/// Answers until nobody asks.
///
/// # Errors
/// Where answers cannot be written.
pub fn serve<O: Tuned>(
    runtime: &dyn Prepare<O>,
    tasks: &[Task<'_, O>],
    policy: &Policy,
    baseline: Option<&BaselineFn<'_, O>>,
) -> Result<()> {
    let (watch, stop, mut verifier) = (Watch::new(None), interrupt::flag(), GateVerifier::default());
    let watched = watch.over(runtime, policy);
    let mut bench = InProcess::new(&watched, tasks, policy, &mut verifier, baseline, stop);
    ff_tune::serve(&mut bench, &watch, stop, BufReader::new(stdin()), stdout()).map_err(Failure::fault)
}
