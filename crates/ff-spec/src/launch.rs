use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::{DeviceId, Dtype, LaunchConfig, Problem, cell_list, force_scatter, fused_message};

/// A family of kernels: what its variants are, what they read and what they write.
pub trait Op: 'static {
    /// The one name that templates, oracles, spaces, tables and tests share.
    const NAME: &'static str;
    /// The derivative order: 0 for the op itself, 1 for its vector-Jacobian product, 2 for that of order 1.
    const ORDER: u8;
    /// What changes the generated code; prints as its id and is read from it.
    type Variant: Clone + Ord + fmt::Debug + fmt::Display + FromStr;
    /// All inputs of one call, in f64.
    type Inputs: Clone + fmt::Debug;
    /// What one call computes, widened to f64.
    type Outputs: Clone + fmt::Debug;

    /// What tuning tables are keyed by of a variant.
    fn family(variant: &Self::Variant) -> String;
}

/// Declares ops: of each the module of its family, its derivative order, what in that module it reads and computes, and the
/// method of its variant that is [`Op::family`].
macro_rules! ops {
    ($(
        $(#[$doc:meta])*
        impl Op for $op:ident: $module:ident, $order:literal, $inputs:ident -> $outputs:ident, $family:ident;
    )*) => {
        $(
            $(#[$doc])*
            #[derive(Debug)]
            pub struct $op;

            impl Op for $op {
                const NAME: &'static str = $module::OP;
                const ORDER: u8 = $order;
                type Variant = $module::Variant;
                type Inputs = $module::$inputs<f64>;
                type Outputs = $module::$outputs<f64>;

                fn family(variant: &Self::Variant) -> String {
                    variant.$family()
                }
            }
        )*

        /// The family of an op's variant by its id, what tables are keyed by; `None` where the op has no such variant.
        pub fn family(op: &str, id: &str) -> Option<String> {
            $(if $op::NAME == op && $op::ORDER == 0 {
                return id.parse().ok().map(|variant| $op::family(&variant));
            })*
            None
        }

        /// A device that kernels of every family can be prepared on.
        pub trait Runtime: $(Prepare<$op> +)* {}

        impl<R> Runtime for R where R: $(Prepare<$op> +)* {}
    };
}

ops! {
    /// Radial basis, filter, message and scatter: [`fused_message`].
    impl Op for FusedMessage: fused_message, 0, Inputs -> Outputs, family;
    /// The first backward of [`FusedMessage`].
    impl Op for FusedMessageBackward: fused_message, 1, BackwardInputs -> Gradients, family;
    /// The second backward of [`FusedMessage`]: the vector-Jacobian product of the first.
    impl Op for FusedMessageDoubleBackward: fused_message, 2, DoubleBackwardInputs -> DoubleGradients, family;
    /// Neighbour lists: [`cell_list`].
    impl Op for CellList: cell_list, 0, Inputs -> NeighborList, id;
    /// Edge gradients to forces and strain derivatives: [`force_scatter`].
    impl Op for ForceScatter: force_scatter, 0, Inputs -> Outputs, id;
    /// The first backward of [`ForceScatter`].
    impl Op for ForceScatterBackward: force_scatter, 1, BackwardInputs -> Gradients, id;
    /// The second backward of [`ForceScatter`]: the vector-Jacobian product of the first.
    impl Op for ForceScatterDoubleBackward: force_scatter, 2, DoubleBackwardInputs -> DoubleGradients, id;
}

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
    Input(#[from] fused_message::InputError),
    /// No neighbour list can be made of these tensors.
    #[error(transparent)]
    CellList(#[from] cell_list::InputError),
    /// The edges, their gradients or their cotangents are wrong.
    #[error(transparent)]
    ForceScatter(#[from] force_scatter::InputError),
}

impl LaunchError {
    /// Whether the tensors are wrong: nothing that a kernel or a device could do better.
    pub fn is_input(&self) -> bool {
        matches!(self, Self::Input(_) | Self::CellList(_) | Self::ForceScatter(_))
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
