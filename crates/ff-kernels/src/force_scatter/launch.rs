//! Launch configurations, and launches of the three orders on the host.

use std::time::{Duration, Instant};

use ff_spec::force_scatter::{
    BackwardInputs, DoubleBackwardInputs, DoubleGradients, Gradients, Inputs, OrderInputs, Outputs, Reduction, Variant,
};
use ff_spec::{DeviceId, Dtype, LaunchConfig, LaunchError, Op, Problem, RuntimeKind, SenderList, digest};

use super::HostElement;
use super::host::{Call, Cotangents, HostConfig, Tangent};

/// The configuration that is used where no table entry applies, the same for every order.
pub fn default_config(device: &DeviceId, _: &Variant, _: Dtype, _: &Problem) -> LaunchConfig {
    match device.runtime {
        RuntimeKind::Host => [("edges_per_task", HostConfig::default().edges_per_task as u32)].into(),
        // Whole planes on every device: powers of two, like their sizes.
        _ => [("units_per_cube", device.limits.max_units_per_cube.min(128))].into(),
    }
}

/// Reads a host configuration.
///
/// # Errors
/// [`LaunchError::Constraint`] for a parameter that is missing, unknown or 0.
pub fn host_config(config: &LaunchConfig) -> Result<HostConfig, LaunchError> {
    let [edges_per_task] = config.exactly(["edges_per_task"])?;
    Ok(HostConfig { edges_per_task: edges_per_task as usize })
}

/// The inputs of one order on the host.
pub trait HostInputs<T>: OrderInputs<T> {
    /// Runs the kernel of a reduction.
    fn run(&self, reduction: Reduction, call: &Call<'_, T>, config: &HostConfig, out: &mut Self::Outputs);
}

impl<T: HostElement> HostInputs<T> for Inputs<T> {
    fn run(&self, reduction: Reduction, call: &Call<'_, T>, config: &HostConfig, out: &mut Outputs<T>) {
        T::forward(call, reduction, config, out);
    }
}

impl<T: HostElement> HostInputs<T> for BackwardInputs<T> {
    fn run(&self, _: Reduction, call: &Call<'_, T>, config: &HostConfig, out: &mut Gradients<T>) {
        T::backward(call, &cotangents(&self.grad), config, out);
    }
}

impl<T: HostElement> HostInputs<T> for DoubleBackwardInputs<T> {
    fn run(&self, reduction: Reduction, call: &Call<'_, T>, config: &HostConfig, out: &mut DoubleGradients<T>) {
        let tangent = Tangent { edge_vec: &self.tangent.edge_vec, edge_grad: &self.tangent.edge_grad };
        T::double_backward(call, &cotangents(&self.grad), &tangent, reduction, config, out);
    }
}

fn cotangents<T>(grad: &Outputs<T>) -> Cotangents<'_, T> {
    Cotangents { forces: &grad.forces, strain: &grad.strain }
}

/// A host kernel of one order with its tensors.
pub struct HostLaunch<T, I: HostInputs<T>> {
    reduction: Reduction,
    config: HostConfig,
    inputs: I,
    senders: SenderList,
    outputs: I::Outputs,
}

impl<T: HostElement, I: HostInputs<T>> HostLaunch<T, I> {
    /// Takes the tensors over after checking them, and sorts the list by sender.
    ///
    /// # Errors
    /// [`LaunchError::Input`] and [`LaunchError::Constraint`].
    pub fn new(variant: Variant, inputs: I, config: &LaunchConfig) -> Result<Self, LaunchError> {
        inputs.check()?;
        let config = host_config(config)?;
        let senders = SenderList::new(&inputs.forward().row_ptr, &inputs.forward().sender);
        Ok(Self { reduction: variant.reduction, config, senders, outputs: inputs.poisoned(), inputs })
    }
}

impl<T: HostElement, I: HostInputs<T>> ff_spec::Launch<I::Op> for HostLaunch<T, I> {
    fn poison(&mut self) -> Result<(), LaunchError> {
        self.outputs = self.inputs.poisoned();
        Ok(())
    }

    fn run(&mut self) -> Result<(), LaunchError> {
        let Inputs { row_ptr, sender, edge_vec, edge_grad, system_ptr } = self.inputs.forward();
        let call = Call { row_ptr, sender, edge_vec, edge_grad, system_ptr, senders: &self.senders };
        self.inputs.run(self.reduction, &call, &self.config, &mut self.outputs);
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
        let Inputs { row_ptr, sender, system_ptr, .. } = self.inputs.forward();
        let SenderList { sender_ptr, transpose, receiver } = &self.senders;
        let indices = [row_ptr, sender, system_ptr, sender_ptr, transpose, receiver];
        let tensors = self.inputs.tensors();
        let mut parts: Vec<&[u8]> = indices.map(|values| bytemuck::cast_slice(values)).to_vec();
        parts.extend(tensors.iter().map(|(_, values)| bytemuck::cast_slice::<T, u8>(values)));
        Ok(digest(&parts))
    }
}
