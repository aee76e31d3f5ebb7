//! Something of a row that is gated and timed: a launch with what it should give.

use std::time::Duration;

use ff_reference::Oracle;
use ff_spec::{Dtype, Launch, LaunchConfig, LaunchError, Op, Prepare, Problem, RuntimeKind};
use ff_sweep::{Refused, Timed, Verdict};
use ff_testkit::gate::{Failure, check_launch};
use ff_testkit::tensors::ByTensors;
use ff_tune::{GateVerifier, Tuned, Verifier};

use crate::commands::bench::peak_of;

/// The default configuration with the parameters that a row fixes.
pub fn configured<O: Op>(
    runtime: &dyn Prepare<O>,
    variant: &O::Variant,
    dtype: Dtype,
    problem: &Problem,
    fixed: &LaunchConfig,
) -> LaunchConfig {
    let mut config = runtime.default_config(variant, dtype, problem);
    config.0.extend(fixed.0.clone());
    config
}

/// What a row times, or why it cannot be.
pub type Subjected = std::result::Result<Box<dyn Timed>, Refused>;

/// What the gate says, as a row of a sweep has it.
fn judged(gate: std::result::Result<(f64, f64), Failure>) -> std::result::Result<f64, Refused> {
    gate.map(|(rel_error, _)| rel_error).map_err(|failure| match failure {
        Failure::Wrong { reason, .. } => Refused::new(Verdict::Correctness, reason),
        Failure::Fault(error) => error.into(),
    })
}

/// A kernel with the gate of a search, which compares some rows where the oracle of all would take long.
///
/// # Errors
/// What the launch refuses, and inputs without a reference.
pub fn gated<O: Tuned>(
    runtime: &dyn Prepare<O>,
    variant: &O::Variant,
    dtype: Dtype,
    inputs: &O::Inputs,
    config: &LaunchConfig,
) -> Subjected {
    let launch = runtime.prepare(variant, dtype, inputs, config)?;
    let mut verifier = GateVerifier::<O>::default();
    let announced = verifier.begin(variant, dtype, inputs);
    announced.map_err(|e| Refused::new(Verdict::Correctness, format!("no reference: {e}")))?;
    Ok(Box::new(GatedLaunch { launch, verifier, on_host: runtime.device().runtime == RuntimeKind::Host }))
}

/// A launch with what judges it.
struct GatedLaunch<O: Tuned> {
    launch: Box<dyn Launch<O>>,
    verifier: GateVerifier<O>,
    /// Whether its memory is this process's.
    on_host: bool,
}

impl<O: Tuned> Timed for GatedLaunch<O> {
    fn gate(&mut self) -> std::result::Result<f64, Refused> {
        judged(self.verifier.judge(self.launch.as_mut()))
    }

    fn time(&mut self) -> std::result::Result<Duration, Refused> {
        Ok(self.launch.time()?)
    }

    fn peak_bytes(&mut self) -> std::result::Result<Option<u64>, Refused> {
        // What a process has resident says nothing of another device's memory.
        if self.on_host { peak(|| self.launch.run()) } else { Ok(None) }
    }
}

/// A launch with what it should give.
pub struct CheckedLaunch<O: ByTensors, M> {
    /// The launch.
    pub launch: Box<dyn Launch<O>>,
    /// Its variant, or one that promises what the launch does of its bits.
    pub variant: O::Variant,
    /// Element type.
    pub dtype: Dtype,
    /// What the outputs are compared with.
    pub oracle: Oracle<O::Outputs>,
    /// Hides what the oracle does not know.
    pub known: M,
    /// Whether its memory is this process's.
    pub on_host: bool,
}

impl<O: ByTensors, M: Fn(&mut O::Outputs)> Timed for CheckedLaunch<O, M> {
    fn gate(&mut self) -> std::result::Result<f64, Refused> {
        let Self { launch, variant, dtype, oracle, known, .. } = self;
        let mut masked = Masked { launch: launch.as_mut(), known };
        judged(check_launch::<O>(&mut masked, variant, *dtype, oracle).into_result())
    }

    fn time(&mut self) -> std::result::Result<Duration, Refused> {
        Ok(self.launch.time()?)
    }

    fn peak_bytes(&mut self) -> std::result::Result<Option<u64>, Refused> {
        if self.on_host { peak(|| self.launch.run()) } else { Ok(None) }
    }
}

/// A launch of which only what is known is looked at.
struct Masked<'a, O: Op, M> {
    launch: &'a mut dyn Launch<O>,
    known: &'a M,
}

impl<O: Op, M: Fn(&mut O::Outputs)> Launch<O> for Masked<'_, O, M> {
    fn poison(&mut self) -> std::result::Result<(), LaunchError> {
        self.launch.poison()
    }

    fn run(&mut self) -> std::result::Result<(), LaunchError> {
        self.launch.run()
    }

    fn time(&mut self) -> std::result::Result<Duration, LaunchError> {
        self.launch.time()
    }

    fn outputs(&mut self) -> std::result::Result<O::Outputs, LaunchError> {
        let mut outputs = self.launch.outputs()?;
        (self.known)(&mut outputs);
        Ok(outputs)
    }

    fn input_digest(&mut self) -> std::result::Result<u64, LaunchError> {
        self.launch.input_digest()
    }
}

/// Bytes that a run makes resident at its peak.
///
/// # Errors
/// As the run.
pub fn peak(run: impl FnOnce() -> std::result::Result<(), LaunchError>) -> std::result::Result<Option<u64>, Refused> {
    trim();
    let found = peak_of(run).map_err(|e| Refused::new(Verdict::Runtime, e.message))?;
    Ok(found.map(|bytes| bytes as u64))
}

/// Gives the system back what the allocator keeps of earlier runs, which would hide what this one takes.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn trim() {
    // SAFETY: `malloc_trim` takes no pointer and may be called at any time, from any thread.
    unsafe { libc::malloc_trim(0) };
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn trim() {}
