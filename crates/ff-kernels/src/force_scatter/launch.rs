//! Launch configurations, and launches of the three orders on the host.

use std::time::{Duration, Instant};

use ff_spec::force_scatter::{
    BackwardInputs, DoubleBackwardInputs, DoubleGradients, Gradients, InputError, Inputs, Outputs, Variant,
};
use ff_spec::{
    DeviceId, Dtype, ForceScatter, ForceScatterBackward, ForceScatterDoubleBackward, LaunchConfig, LaunchError, Limits,
    Op, Problem, RuntimeKind,
};

use super::cube::CubeConfig;
use super::host::{Call, Cotangents, HostConfig, Tangent};
use super::{HostElement, Registered};
use crate::SenderList;
use crate::digest::digest;

/// The configuration that is used where no table entry applies, the same for every order.
pub fn default_config(device: &DeviceId, _: &Variant, _: Dtype, _: &Problem) -> LaunchConfig {
    match device.runtime {
        RuntimeKind::Host => [("edges_per_task", HostConfig::default().edges_per_task as u32)].into(),
        // Whole planes on every device: powers of two, like their sizes.
        _ => [("units_per_cube", device.limits.max_units_per_cube.min(128))].into(),
    }
}

/// The value of the one parameter of a kernel.
fn only(config: &LaunchConfig, name: &str) -> Result<u32, LaunchError> {
    match (config.get(name), config.0.len()) {
        (Some(value), 1) if value > 0 => Ok(value),
        _ => Err(LaunchError::Constraint(format!("expected `{name}` alone, positive, found `{config}`"))),
    }
}

/// Reads a host configuration.
///
/// # Errors
/// [`LaunchError::Constraint`] for a parameter that is missing, unknown or 0.
pub fn host_config(config: &LaunchConfig) -> Result<HostConfig, LaunchError> {
    Ok(HostConfig { edges_per_task: only(config, "edges_per_task")? as usize })
}

/// Reads a cube configuration.
///
/// # Errors
/// [`LaunchError::Constraint`] for a parameter that is missing, unknown or 0, and for units that are no power of two, fewer
/// than 16, more than a cube of the device has, or leave one of its planes in part idle (Mesa's software Vulkan, 22.3,
/// computes nonsense in such a plane).
pub fn cube_config(limits: &Limits, config: &LaunchConfig) -> Result<CubeConfig, LaunchError> {
    // The nine elements of a strain have a unit each.
    const LEAST: u32 = 16;
    let units = only(config, "units_per_cube")?;
    let whole_planes = units.is_multiple_of(limits.plane_size.max(1));
    if !units.is_power_of_two() || !(LEAST..=limits.max_units_per_cube).contains(&units) || !whole_planes {
        return Err(LaunchError::Constraint(format!(
            "{units} units per cube, expected a power of two from {LEAST} to {} in whole planes of {}",
            limits.max_units_per_cube, limits.plane_size
        )));
    }
    Ok(CubeConfig { units_per_cube: units as usize })
}

/// The inputs of one order, as a launch sees them.
pub trait OrderInputs<T>: Sized {
    /// The order.
    type Op: Op<Variant = Variant>;
    /// What it computes.
    type Outputs;

    /// Checks as the method of that name of the inputs.
    ///
    /// # Errors
    /// As that method.
    fn check(&self) -> Result<(), InputError>;
    /// The forward's inputs among them.
    fn forward(&self) -> &Inputs<T>;
    /// Every floating-point tensor.
    fn tensors(&self) -> Vec<(&'static str, &[T])>;
    /// Outputs of the right size, all NaN.
    fn poisoned(&self) -> Self::Outputs;
    /// Outputs widened to f64.
    fn widened(outputs: &Self::Outputs) -> <Self::Op as Op>::Outputs;
    /// Outputs from their tensors, in order.
    fn collected(tensors: Vec<Vec<f64>>) -> <Self::Op as Op>::Outputs;
    /// Runs the host kernel.
    fn run(&self, registered: &Registered, call: &Call<'_, T>, config: &HostConfig, out: &mut Self::Outputs);
}

impl<T: HostElement> OrderInputs<T> for Inputs<T> {
    type Op = ForceScatter;
    type Outputs = Outputs<T>;

    fn check(&self) -> Result<(), InputError> {
        self.check()
    }
    fn forward(&self) -> &Inputs<T> {
        self
    }
    fn tensors(&self) -> Vec<(&'static str, &[T])> {
        self.tensors()
    }
    fn poisoned(&self) -> Outputs<T> {
        self.poisoned_outputs()
    }
    fn widened(outputs: &Outputs<T>) -> Outputs<f64> {
        outputs.cast()
    }
    fn collected(tensors: Vec<Vec<f64>>) -> Outputs<f64> {
        outputs(&mut tensors.into_iter())
    }
    fn run(&self, registered: &Registered, call: &Call<'_, T>, config: &HostConfig, out: &mut Outputs<T>) {
        (T::entries(registered).forward)(call, config, out);
    }
}

impl<T: HostElement> OrderInputs<T> for BackwardInputs<T> {
    type Op = ForceScatterBackward;
    type Outputs = Gradients<T>;

    fn check(&self) -> Result<(), InputError> {
        self.check()
    }
    fn forward(&self) -> &Inputs<T> {
        &self.inputs
    }
    fn tensors(&self) -> Vec<(&'static str, &[T])> {
        self.tensors()
    }
    fn poisoned(&self) -> Gradients<T> {
        self.poisoned_outputs()
    }
    fn widened(outputs: &Gradients<T>) -> Gradients<f64> {
        outputs.cast()
    }
    fn collected(tensors: Vec<Vec<f64>>) -> Gradients<f64> {
        gradients(&mut tensors.into_iter())
    }
    fn run(&self, registered: &Registered, call: &Call<'_, T>, config: &HostConfig, out: &mut Gradients<T>) {
        (T::entries(registered).backward)(call, &cotangents(&self.grad), config, out);
    }
}

impl<T: HostElement> OrderInputs<T> for DoubleBackwardInputs<T> {
    type Op = ForceScatterDoubleBackward;
    type Outputs = DoubleGradients<T>;

    fn check(&self) -> Result<(), InputError> {
        self.check()
    }
    fn forward(&self) -> &Inputs<T> {
        &self.inputs
    }
    fn tensors(&self) -> Vec<(&'static str, &[T])> {
        self.tensors()
    }
    fn poisoned(&self) -> DoubleGradients<T> {
        self.poisoned_outputs()
    }
    fn widened(outputs: &DoubleGradients<T>) -> DoubleGradients<f64> {
        outputs.cast()
    }
    fn collected(tensors: Vec<Vec<f64>>) -> DoubleGradients<f64> {
        let mut tensors = tensors.into_iter();
        DoubleGradients { grad: outputs(&mut tensors), gradients: gradients(&mut tensors) }
    }
    fn run(&self, registered: &Registered, call: &Call<'_, T>, config: &HostConfig, out: &mut DoubleGradients<T>) {
        let tangent = Tangent { edge_vec: &self.tangent.edge_vec, edge_grad: &self.tangent.edge_grad };
        (T::entries(registered).double_backward)(call, &cotangents(&self.grad), &tangent, config, out);
    }
}

fn outputs(tensors: &mut impl Iterator<Item = Vec<f64>>) -> Outputs<f64> {
    let mut next = || tensors.next().unwrap_or_default();
    Outputs { forces: next(), strain: next() }
}

fn gradients(tensors: &mut impl Iterator<Item = Vec<f64>>) -> Gradients<f64> {
    let mut next = || tensors.next().unwrap_or_default();
    Gradients { edge_vec: next(), edge_grad: next() }
}

fn cotangents<T>(grad: &Outputs<T>) -> Cotangents<'_, T> {
    Cotangents { forces: &grad.forces, strain: &grad.strain }
}

/// A host kernel of one order with its tensors.
pub struct HostLaunch<T, I: OrderInputs<T>> {
    registered: &'static Registered,
    config: HostConfig,
    inputs: I,
    senders: SenderList,
    outputs: I::Outputs,
}

impl<T: HostElement, I: OrderInputs<T>> HostLaunch<T, I> {
    /// Takes the tensors over after checking them, and sorts the list by sender.
    ///
    /// # Errors
    /// [`LaunchError::ForceScatter`] and [`LaunchError::Constraint`].
    pub fn new(registered: &'static Registered, inputs: I, config: &LaunchConfig) -> Result<Self, LaunchError> {
        inputs.check()?;
        let config = host_config(config)?;
        let senders = SenderList::new(&inputs.forward().row_ptr, &inputs.forward().sender);
        Ok(Self { registered, config, senders, outputs: inputs.poisoned(), inputs })
    }
}

impl<T: HostElement, I: OrderInputs<T>> ff_spec::Launch<I::Op> for HostLaunch<T, I> {
    fn poison(&mut self) -> Result<(), LaunchError> {
        self.outputs = self.inputs.poisoned();
        Ok(())
    }

    fn run(&mut self) -> Result<(), LaunchError> {
        let Inputs { row_ptr, sender, edge_vec, edge_grad, system_ptr } = self.inputs.forward();
        let call = Call { row_ptr, sender, edge_vec, edge_grad, system_ptr, senders: &self.senders };
        self.inputs.run(self.registered, &call, &self.config, &mut self.outputs);
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
