//! Faults on purpose around any kernel: a gate is worth what it catches.
//!
//! [`mutate`] puts a fault around every launch of a runtime, from the outside: through what its kernels read, through what
//! they wrote, or through the digest of their inputs. All else is the kernel's own.

use std::fmt;
use std::time::Duration;

use ff_spec::{Clock, Device, DeviceId, Dtype, Launch, LaunchConfig, LaunchError, Op, Prepare, Problem};

use crate::played::{Leftovers, shape};
use crate::tensors::{ByTensors, Forward as _};

/// A fault that a kernel of any op can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Common {
    /// The last element is not written.
    MissingWrite,
    /// The edge vectors that the first launch of the same shape left in memory are used: wrong from the second seed on.
    StaleBufferRead,
    /// An input is written to.
    InputOverwritten,
    /// Everything is zero.
    ZeroOutput,
}

/// A fault that can be put around a right kernel of `O`.
pub trait Fault<O: ByTensors>: Copy + fmt::Debug + 'static {
    /// Which of the faults of every op this is; one of `O`'s own for `None`.
    fn common(self) -> Option<Common>;

    /// Changes inputs, which may be malformed, to those from which a right kernel computes what a faulty one would from these.
    fn read(self, _inputs: &mut O::Inputs) {}

    /// Changes the outputs of a right kernel to those of a faulty one on the given inputs.
    ///
    /// # Errors
    /// [`LaunchError::Unsupported`] for a variant that cannot have the fault.
    fn write(self, _variant: &O::Variant, _inputs: &O::Inputs, _outputs: &mut O::Outputs) -> Result<(), LaunchError> {
        Ok(())
    }
}

/// A runtime with a fault around every launch of `O`.
pub fn mutate<'a, O, R, F>(runtime: Box<R>, fault: F) -> Box<dyn Prepare<O> + 'a>
where
    O: ByTensors,
    R: Prepare<O> + ?Sized + 'a,
    F: Fault<O>,
{
    Box::new(Mutated { inner: runtime, fault, leftovers: Leftovers::default() })
}

struct Mutated<R: ?Sized, F> {
    inner: Box<R>,
    fault: F,
    leftovers: Leftovers,
}

impl<R: Device + ?Sized, F> Device for Mutated<R, F> {
    fn device(&self) -> &DeviceId {
        self.inner.device()
    }

    fn clock(&self) -> Clock {
        self.inner.clock()
    }
}

impl<O: ByTensors, R: Prepare<O> + ?Sized, F: Fault<O>> Prepare<O> for Mutated<R, F> {
    fn default_config(&self, variant: &O::Variant, dtype: Dtype, problem: &Problem) -> LaunchConfig {
        self.inner.default_config(variant, dtype, problem)
    }

    fn prepare(
        &self,
        variant: &O::Variant,
        dtype: Dtype,
        inputs: &O::Inputs,
        config: &LaunchConfig,
    ) -> Result<Box<dyn Launch<O>>, LaunchError> {
        let right = |read: &O::Inputs| self.inner.prepare(variant, dtype, read, config);
        around(self.fault, &self.leftovers, (variant, dtype, inputs), right)
    }
}

/// The launch that `right` prepares of what is read, with a fault around it.
pub(crate) fn around<O: ByTensors, F: Fault<O>>(
    fault: F,
    leftovers: &Leftovers,
    (variant, dtype, inputs): (&O::Variant, Dtype, &O::Inputs),
    right: impl FnOnce(&O::Inputs) -> Result<Box<dyn Launch<O>>, LaunchError>,
) -> Result<Box<dyn Launch<O>>, LaunchError> {
    let mut read = inputs.clone();
    if fault.common() == Some(Common::StaleBufferRead) {
        leftovers.read(shape::<O>(variant, dtype, inputs), O::forward_mut(&mut read).edge_vec_mut());
    }
    fault.read(&mut read);
    let inner = right(&read)?;
    let inputs = O::rounded(inputs, dtype);
    Ok(Box::new(MutatedLaunch { inner, fault, variant: variant.clone(), inputs, runs: 0, poisoned: false }))
}

struct MutatedLaunch<O: Op, F> {
    inner: Box<dyn Launch<O>>,
    fault: F,
    variant: O::Variant,
    inputs: O::Inputs,
    runs: u64,
    poisoned: bool,
}

impl<O: ByTensors, F: Fault<O>> Launch<O> for MutatedLaunch<O, F> {
    fn poison(&mut self) -> Result<(), LaunchError> {
        self.poisoned = true;
        self.inner.poison()
    }

    fn run(&mut self) -> Result<(), LaunchError> {
        (self.poisoned, self.runs) = (false, self.runs + 1);
        self.inner.run()
    }

    fn time(&mut self) -> Result<Duration, LaunchError> {
        (self.poisoned, self.runs) = (false, self.runs + 1);
        self.inner.time()
    }

    fn outputs(&mut self) -> Result<O::Outputs, LaunchError> {
        let mut outputs = self.inner.outputs()?;
        if self.poisoned {
            return Ok(outputs);
        }
        self.fault.write(&self.variant, &self.inputs, &mut outputs)?;
        let elements: usize = O::tensors(&outputs).iter().map(|(_, values)| values.len()).sum();
        let mut element = 0;
        Ok(O::map(&outputs, &mut |x| {
            element += 1;
            match self.fault.common() {
                Some(Common::ZeroOutput) => 0.0,
                Some(Common::MissingWrite) if element == elements => f64::NAN,
                _ => x,
            }
        }))
    }

    fn input_digest(&mut self) -> Result<u64, LaunchError> {
        let digest = self.inner.input_digest()?;
        Ok(if self.fault.common() == Some(Common::InputOverwritten) { digest ^ self.runs } else { digest })
    }
}
