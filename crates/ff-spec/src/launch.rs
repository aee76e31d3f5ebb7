use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use crate::{DeviceId, Dtype, FusedMessage, LaunchConfig, Op, Problem};

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
    Input(InputError),
}

impl LaunchError {
    /// Whether the tensors are wrong: nothing that a kernel or a device could do better.
    pub fn is_input(&self) -> bool {
        matches!(self, Self::Input(_))
    }
}

/// What an op says of inputs that it cannot compute on: each has an error of its own for that, which `?` makes a
/// [`LaunchError`].
#[derive(Clone, Debug, thiserror::Error)]
#[error(transparent)]
pub struct InputError(Arc<dyn Error + Send + Sync>);

impl InputError {
    /// Of the error of an op.
    pub(crate) fn new(error: impl Error + Send + Sync + 'static) -> Self {
        Self(Arc::new(error))
    }

    /// The error of an op, where this is of that op.
    pub fn downcast_ref<E: Error + 'static>(&self) -> Option<&E> {
        self.0.downcast_ref()
    }
}

impl PartialEq for InputError {
    fn eq(&self, other: &Self) -> bool {
        // An error of unknown type is what it says.
        self.to_string() == other.to_string()
    }
}

/// One kernel with its inputs on a device and its outputs allocated, ready to run any number of times.
///
/// The gate, the tuner and the benches see kernels through this alone, so what is timed is what is checked.
pub trait Launch<O: Op = FusedMessage> {
    /// Fills every output element with what no kernel writes: NaN, and for integers the largest value.
    ///
    /// # Errors
    /// [`LaunchError::Runtime`].
    fn poison(&mut self) -> Result<(), LaunchError>;

    /// Runs the kernel once and waits for it.
    ///
    /// # Errors
    /// Anything of [`LaunchError`] but `Input`.
    fn run(&mut self) -> Result<(), LaunchError>;

    /// Runs the kernel and returns the duration of one run by [`Device::clock`]: the mean of several in a row where a device is
    /// timed by the host's clock and one run is short for it.
    ///
    /// # Errors
    /// As [`Launch::run`].
    fn time(&mut self) -> Result<Duration, LaunchError>;

    /// Reads the outputs back, widened exactly.
    ///
    /// # Errors
    /// [`LaunchError::Runtime`].
    fn outputs(&mut self) -> Result<O::Outputs, LaunchError>;

    /// A digest of the inputs as they now lie in the device's memory.
    ///
    /// # Errors
    /// [`LaunchError::Runtime`].
    fn input_digest(&mut self) -> Result<u64, LaunchError>;
}

/// What [`Launch::time`] is measured with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Clock {
    /// The device's own timestamps.
    Device,
    /// The processor's monotonic clock around launches and a wait.
    Wall,
}

/// A device.
pub trait Device {
    /// Which device this is.
    fn device(&self) -> &DeviceId;

    /// The clock of [`Launch::time`].
    fn clock(&self) -> Clock;
}

/// A device that kernels of a family can be prepared on.
pub trait Prepare<O: Op = FusedMessage>: Device {
    /// The configuration that is used where no table entry applies: always feasible.
    fn default_config(&self, variant: &O::Variant, dtype: Dtype, problem: &Problem) -> LaunchConfig;

    /// Uploads `inputs` (rounded to `dtype`), allocates outputs and checks everything that can be checked before a launch.
    ///
    /// # Errors
    /// Anything of [`LaunchError`].
    fn prepare(
        &self,
        variant: &O::Variant,
        dtype: Dtype,
        inputs: &O::Inputs,
        config: &LaunchConfig,
    ) -> Result<Box<dyn Launch<O>>, LaunchError>;
}
