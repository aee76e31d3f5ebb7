//! A device for tests, with times and faults by configuration.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use ff_spec::fused_message::{Filter, Inputs, Message, Outputs, Radial, Variant};
use ff_spec::{
    Atomics, Clock, Device, DeviceId, Dtype, FusedMessage, Launch, LaunchConfig, LaunchError, Limits, Prepare, Problem,
    RuntimeKind, SCHEMA_VERSION,
};
use ff_tables::Evidence;

use crate::records::{Record, Stage, Verdict};
use crate::verify::Verifier;
use crate::workbench::Failure;

pub(crate) fn device(runtime: RuntimeKind) -> DeviceId {
    let max_units_per_cube = if runtime == RuntimeKind::Host { 8 } else { 1024 };
    DeviceId {
        runtime,
        name: format!("Fake {runtime}"),
        slug: format!("fake-{runtime}"),
        arch: "fake".to_owned(),
        driver: "1".to_owned(),
        software: runtime == RuntimeKind::Vulkan,
        threads: 0,
        limits: Limits { max_units_per_cube, shared_memory: 32768, plane_size: 32 },
        atomics: Atomics { f32_add: true, f64_add: false },
        f64: true,
    }
}

pub(crate) fn problem(n_atoms: u64, features: u32) -> Problem {
    let name = format!("water-{n_atoms}");
    Problem { name, n_atoms, n_edges: n_atoms * 50, max_degree: 60, features, n_basis: 20, ..Problem::default() }
}

/// A record of a wrong result at so many edges per task.
pub(crate) fn record(edges: u32) -> Record {
    Record {
        schema: SCHEMA_VERSION,
        op: "fused_message".to_owned(),
        order: 0,
        variant: "painn_linear_gaussian_cosine_receiver".to_owned(),
        kernel_hash: "abc".to_owned(),
        config: LaunchConfig::from([("edges_per_task", edges)]),
        problem: problem(64, 128),
        dtype: Dtype::F32,
        device: device(RuntimeKind::Host),
        compiler: "rustc".to_owned(),
        clock: Clock::Wall,
        stage: Stage::Screen,
        samples_ns: vec![10, 11, 12],
        blocks: vec![3],
        verdict: Verdict::Correctness,
        reason: Some("NaN in the output".to_owned()),
        evidence: Some(Evidence { rel_error: 0.5, max_abs_error: 1.0, cases: 3, seeds: vec![1, 2, 3] }),
        times: None,
        seed: 7,
        unix_time: 1,
    }
}

/// Two atoms that see each other.
pub(crate) fn inputs() -> Inputs<f64> {
    Inputs {
        message: Message::Cfconv,
        n_atoms: 2,
        features: 32,
        row_ptr: vec![0, 1, 2],
        sender: vec![1, 0],
        edge_vec: vec![1.0, 0.0, 0.0, -1.0, 0.0, 0.0],
        nodes: vec![1.0; 64],
        vectors: Vec::new(),
        radial: Radial { r_cut: 5.0, n_basis: 1, ..Radial::default() },
        filter: Filter::Linear { a: vec![1.0; 32], b: vec![0.0; 32] },
    }
}

/// What a configuration does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Behaviour {
    Takes(u64),
    Refused,
    DoesNotCompile,
    Unsupported,
    PanicsInPrepare,
    Wrong,
    /// Right at first, wrong once it has been timed.
    GoesWrong,
    /// Fails at this call.
    FailsAt(u32),
    /// Does not come back from this call.
    NeverEndsAt(u32),
    /// Ends the process at this call.
    AbortsAt(u32),
    /// Takes all memory at this call.
    TakesMemoryAt(u32),
}

pub(crate) struct FakeLaunch {
    behaviour: Behaviour,
    calls: u32,
    timed: bool,
    poisoned: bool,
    log: Rc<RefCell<u64>>,
}

impl FakeLaunch {
    pub(crate) fn timed(ns: u64) -> Self {
        Self::new(Behaviour::Takes(ns), Rc::default())
    }

    pub(crate) fn faulty(at: u32) -> Self {
        Self::new(Behaviour::FailsAt(at), Rc::default())
    }

    fn new(behaviour: Behaviour, log: Rc<RefCell<u64>>) -> Self {
        Self { behaviour, calls: 0, timed: false, poisoned: true, log }
    }
}

impl Launch for FakeLaunch {
    fn poison(&mut self) -> Result<(), LaunchError> {
        self.poisoned = true;
        Ok(())
    }

    fn run(&mut self) -> Result<(), LaunchError> {
        self.calls += 1;
        self.poisoned = false;
        match self.behaviour {
            Behaviour::FailsAt(at) if self.calls >= at => Err(LaunchError::Runtime("fell off the bus".to_owned())),
            Behaviour::NeverEndsAt(at) if self.calls >= at => loop {
                std::thread::park();
            },
            Behaviour::AbortsAt(at) if self.calls >= at => {
                eprintln!("free(): invalid pointer");
                std::process::abort()
            }
            Behaviour::TakesMemoryAt(at) if self.calls >= at => {
                let mut all = Vec::new();
                loop {
                    // Ones, since pages of zeros are not taken before they are written to.
                    all.push(std::hint::black_box(vec![1_u8; 16 << 20]));
                }
            }
            _ => Ok(()),
        }
    }

    fn time(&mut self) -> Result<Duration, LaunchError> {
        self.run()?;
        self.timed = true;
        *self.log.borrow_mut() += 1;
        // A little noise that repeats itself: a median of `ns` with a spread of one part in a hundred.
        let ns = if let Behaviour::Takes(ns) = self.behaviour { ns } else { 600 };
        Ok(Duration::from_nanos(ns + [0, ns / 100, 0][self.calls as usize % 3]))
    }

    fn outputs(&mut self) -> Result<Outputs<f64>, LaunchError> {
        let wrong = self.behaviour == Behaviour::Wrong || (self.behaviour == Behaviour::GoesWrong && self.timed);
        let value = if self.poisoned { f64::NAN } else { f64::from(u8::from(!wrong)) };
        Ok(Outputs { nodes: vec![value], vectors: Vec::new() })
    }

    fn input_digest(&mut self) -> Result<u64, LaunchError> {
        Ok(0)
    }
}

type Behaviours = Box<dyn Fn(&LaunchConfig) -> Behaviour>;

pub(crate) struct FakeRuntime {
    pub(crate) device: DeviceId,
    pub(crate) behaviour: Behaviours,
    /// Every configuration that was prepared, in order.
    pub(crate) prepared: RefCell<Vec<LaunchConfig>>,
    /// How many samples were taken.
    pub(crate) samples: Rc<RefCell<u64>>,
}

impl FakeRuntime {
    pub(crate) fn new(behaviour: impl Fn(&LaunchConfig) -> Behaviour + 'static) -> Self {
        Self {
            device: device(RuntimeKind::Host),
            behaviour: Box::new(behaviour),
            prepared: RefCell::default(),
            samples: Rc::default(),
        }
    }
}

impl Device for FakeRuntime {
    fn device(&self) -> &DeviceId {
        &self.device
    }

    fn clock(&self) -> Clock {
        Clock::Wall
    }
}

impl Prepare for FakeRuntime {
    fn default_config(&self, _: &Variant, _: Dtype, _: &Problem) -> LaunchConfig {
        LaunchConfig::from([("channel_block", 32), ("edges_per_task", 512), ("edges_per_tile", 64)])
    }

    fn prepare(
        &self,
        _: &Variant,
        _: Dtype,
        _: &Inputs<f64>,
        config: &LaunchConfig,
    ) -> Result<Box<dyn Launch>, LaunchError> {
        self.prepared.borrow_mut().push(config.clone());
        match (self.behaviour)(config) {
            Behaviour::Refused => Err(LaunchError::Constraint("too many units".to_owned())),
            Behaviour::DoesNotCompile => Err(LaunchError::Compile("expected `;`".to_owned())),
            Behaviour::Unsupported => Err(LaunchError::Unsupported("no f64".to_owned())),
            // Unwinds as a panic does, without the hook's text in the test's output.
            Behaviour::PanicsInPrepare => std::panic::resume_unwind(Box::new("index out of bounds")),
            behaviour => Ok(Box::new(FakeLaunch::new(behaviour, Rc::clone(&self.samples)))),
        }
    }
}

/// Judges [`FakeLaunch`]: 1 is right.
pub(crate) struct FakeVerifier {
    pub(crate) rel_error: f64,
    pub(crate) checks: usize,
}

impl Default for FakeVerifier {
    fn default() -> Self {
        Self { rel_error: 1e-7, checks: 0 }
    }
}

impl FakeVerifier {
    fn evidence(&self) -> Evidence {
        Evidence { rel_error: self.rel_error, max_abs_error: 1e-6, cases: 3, seeds: vec![1, 2, 3] }
    }
}

impl Verifier<FusedMessage> for FakeVerifier {
    fn begin(&mut self, _: &Variant, _: Dtype, _: &Inputs<f64>) -> Result<(), String> {
        Ok(())
    }

    fn check(&mut self, _: &dyn Prepare, _: &Variant, _: Dtype, _: &LaunchConfig) -> Result<Evidence, Failure> {
        self.checks += 1;
        Ok(self.evidence())
    }

    fn recheck(&mut self, launch: &mut dyn Launch) -> Result<Evidence, Failure> {
        launch.poison()?;
        launch.run()?;
        let found = launch.outputs()?.nodes[0];
        if found == 1.0 {
            return Ok(self.evidence());
        }
        let evidence = Some(Evidence { rel_error: (found - 1.0).abs(), ..self.evidence() });
        Err(Failure { evidence, ..Failure::new(Verdict::Correctness, format!("found {found}, expected 1")) })
    }
}
