use std::time::Duration;

use crate::fused_message::{InputError, Inputs, Outputs, Variant};
use crate::{DeviceId, Dtype, LaunchConfig, Problem};

/// Why a kernel could not be prepared, launched or read.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum LaunchError {
    /// The device lacks a type or an atomic that the variant needs.
    #[error("unsupported on this device: {0}")]
    Unsupported(String),
    /// No such variant was rendered.
    #[error("unknown variant `{0}`, `forgefield ops` lists what was rendered")]
    UnknownVariant(String),
    /// The launch configuration breaks a constraint.
    #[error("launch configuration refused: {0}")]
    Constraint(String),
    /// The kernel did not compile.
    #[error("kernel did not compile: {0}")]
    Compile(String),
    /// The device failed while running.
    #[error("device fault: {0}")]
    Runtime(String),
    /// The tensors are wrong.
    #[error(transparent)]
    Input(#[from] InputError),
}

/// One kernel with its inputs on a device and its outputs allocated, ready to run any number of times.
///
/// The gate, the tuner and the benches see kernels through this alone, so what is timed is what is checked.
pub trait Launch {
    /// Fills every output element with NaN.
    ///
    /// # Errors
    /// [`LaunchError::Runtime`].
    fn poison(&mut self) -> Result<(), LaunchError>;

    /// Runs the kernel once and waits for it.
    ///
    /// # Errors
    /// Anything of [`LaunchError`] but `Input`.
    fn run(&mut self) -> Result<(), LaunchError>;

    /// Runs the kernel once and returns its duration by [`Runtime::clock`].
    ///
    /// # Errors
    /// As [`Launch::run`].
    fn time(&mut self) -> Result<Duration, LaunchError>;

    /// Reads the outputs back, widened exactly.
    ///
    /// # Errors
    /// [`LaunchError::Runtime`].
    fn outputs(&mut self) -> Result<Outputs<f64>, LaunchError>;

    /// A digest of the inputs as they now lie in the device's memory.
    ///
    /// # Errors
    /// [`LaunchError::Runtime`].
    fn input_digest(&mut self) -> Result<u64, LaunchError>;
}

/// What [`Runtime::time`](Launch::time) is measured with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Clock {
    /// The device's own timestamps.
    Device,
    /// The processor's monotonic clock around a launch and a wait.
    Wall,
}

/// A device that kernels can be prepared on.
pub trait Runtime {
    /// Which device this is.
    fn device(&self) -> &DeviceId;

    /// The clock of [`Launch::time`].
    fn clock(&self) -> Clock;

    /// The configuration that is used where no table entry applies: always feasible.
    fn default_config(&self, variant: &Variant, dtype: Dtype, problem: &Problem) -> LaunchConfig;

    /// Uploads `inputs` (rounded to `dtype`), allocates outputs and checks everything that can be checked before a launch.
    ///
    /// # Errors
    /// Anything of [`LaunchError`].
    fn prepare(
        &self,
        variant: &Variant,
        dtype: Dtype,
        inputs: &Inputs<f64>,
        config: &LaunchConfig,
    ) -> Result<Box<dyn Launch>, LaunchError>;
}
