//! Launch configurations, and launches of the three orders on the host.

use std::time::{Duration, Instant};

use ff_spec::vector_norm::{
    BackwardInputs, DoubleBackwardInputs, DoubleGradients, Gradients, Inputs, OrderInputs, Outputs, Variant,
};
use ff_spec::{DeviceId, Dtype, LaunchConfig, LaunchError, Op, Problem, RuntimeKind, digest};

use super::HostElement;
use super::host::{Call, HostConfig};

/// The configuration that is used where no table entry applies, the same for every order.
pub fn default_config(device: &DeviceId, _: &Variant, dtype: Dtype, problem: &Problem) -> LaunchConfig {
    match device.runtime {
        RuntimeKind::Host => [("atoms_per_task", HostConfig::default().atoms_per_task as u32)].into(),
        _ => {
            // 16 bytes: the widest load of a unit. Whole planes on every device: powers of two, like their sizes.
            let widest = 16 / dtype.size() as u32;
            let fits = |width: &u32| *width <= widest && problem.features.is_multiple_of(*width);
            let width = [4, 2, 1].into_iter().find(fits).unwrap_or(1);
            [("units_per_cube", device.limits.max_units_per_cube.min(256)), ("vector_width", width)].into()
        }
    }
}

/// Reads a host configuration.
///
/// # Errors
/// [`LaunchError::Constraint`] for a parameter that is missing, unknown or 0.
pub fn host_config(config: &LaunchConfig) -> Result<HostConfig, LaunchError> {
    let [atoms_per_task] = config.exactly(["atoms_per_task"])?;
    Ok(HostConfig { atoms_per_task: atoms_per_task as usize })
}

/// The inputs of one order on the host.
pub trait HostInputs<T>: OrderInputs<T> {
    /// Runs the kernel.
    fn run(&self, call: &Call<'_, T>, config: &HostConfig, out: &mut Self::Outputs);
}

impl<T: HostElement> HostInputs<T> for Inputs<T> {
    fn run(&self, call: &Call<'_, T>, config: &HostConfig, out: &mut Outputs<T>) {
        T::forward(call, config, out);
    }
}

impl<T: HostElement> HostInputs<T> for BackwardInputs<T> {
    fn run(&self, call: &Call<'_, T>, config: &HostConfig, out: &mut Gradients<T>) {
        T::backward(call, &self.grad, config, out);
    }
}

impl<T: HostElement> HostInputs<T> for DoubleBackwardInputs<T> {
    fn run(&self, call: &Call<'_, T>, config: &HostConfig, out: &mut DoubleGradients<T>) {
        T::double_backward(call, &self.grad, &self.tangent, config, out);
    }
}

/// A host kernel of one order with its tensors.
pub struct HostLaunch<T, I: HostInputs<T>> {
    config: HostConfig,
    inputs: I,
    outputs: I::Outputs,
}

impl<T: HostElement, I: HostInputs<T>> HostLaunch<T, I> {
    /// Takes the tensors over after checking them.
    ///
    /// # Errors
    /// [`LaunchError::Input`] and [`LaunchError::Constraint`].
    pub fn new(inputs: I, config: &LaunchConfig) -> Result<Self, LaunchError> {
        inputs.check()?;
        Ok(Self { config: host_config(config)?, outputs: inputs.poisoned(), inputs })
    }
}

impl<T: HostElement, I: HostInputs<T>> ff_spec::Launch<I::Op> for HostLaunch<T, I> {
    fn poison(&mut self) -> Result<(), LaunchError> {
        self.outputs = self.inputs.poisoned();
        Ok(())
    }

    fn run(&mut self) -> Result<(), LaunchError> {
        let Inputs { n_atoms, features, vectors, epsilon } = self.inputs.forward();
        let call = Call { n_atoms: *n_atoms, features: *features, vectors, epsilon: *epsilon };
        self.inputs.run(&call, &self.config, &mut self.outputs);
        Ok(())
    }

    fn time(&mut self) -> Result<Duration, LaunchError> {
        let start = Instant::now();
        self.run()?;
        Ok(start.elapsed())
    }

    fn outputs(&mut self) -> Result<<I::Op as Op>::Outputs, LaunchError> {
        Ok(I::widened(&self.outputs))
    }

    fn input_digest(&mut self) -> Result<u64, LaunchError> {
        let tensors = self.inputs.tensors();
        let parts: Vec<&[u8]> = tensors.iter().map(|(_, values)| bytemuck::cast_slice::<T, u8>(values)).collect();
        Ok(digest(&parts))
    }
}
