use cubecl::features::AtomicUsage;
use cubecl::ir::{ElemType, FloatKind, StorageType, Type};
use cubecl::prelude::*;
use ff_spec::fused_message::{BackwardInputs, DoubleBackwardInputs, Inputs, Reduction, Variant};
use ff_spec::{
    Atomics, CellList, Clock, DeviceId, Dtype, ForceScatter, ForceScatterBackward, ForceScatterDoubleBackward,
    FusedMessageBackward, FusedMessageDoubleBackward, Launch, LaunchConfig, LaunchError, Limits, Op, Problem,
    RuntimeKind, cell_list, force_scatter,
};

use ff_cube::Element;

use crate::fused_message::{self, CubeBackward, CubeLaunch, Registered};

/// What a client says of its device: limits, types that it adds atomically, and whether it computes in f64.
///
/// CubeCL 0.10 compiles f64 for CUDA, and every CUDA device has it, but its runtime does not announce the type.
pub fn abilities<R: Runtime>(client: &ComputeClient<R>, runtime: RuntimeKind) -> (Limits, Atomics, bool) {
    let properties = client.properties();
    let hardware = &properties.hardware;
    let adds = |kind: FloatKind| {
        let atomic = Type::new(StorageType::Atomic(ElemType::Float(kind)));
        properties.atomic_type_usage(atomic).contains(AtomicUsage::Add)
    };
    let limits = Limits {
        max_units_per_cube: hardware.max_units_per_cube,
        shared_memory: u32::try_from(hardware.max_shared_memory_size).unwrap_or(u32::MAX),
        plane_size: hardware.plane_size_max,
    };
    let atomics = Atomics { f32_add: adds(FloatKind::F32), f64_add: adds(FloatKind::F64) };
    (limits, atomics, properties.supports_type(ElemType::Float(FloatKind::F64)) || runtime == RuntimeKind::Cuda)
}

/// A device that CubeCL drives.
pub struct CubeRuntime<R: Runtime> {
    client: ComputeClient<R>,
    device: DeviceId,
}

impl<R: Runtime> CubeRuntime<R> {
    /// Wraps a client; `identify` fills in what only the API knows: name, arch, driver and whether it is software.
    pub fn new(
        client: ComputeClient<R>,
        runtime: RuntimeKind,
        (name, arch, driver, software): (String, String, String, bool),
    ) -> Self {
        let (limits, atomics, f64) = abilities(&client, runtime);
        let slug = DeviceId::slugify(&format!("{runtime} {name}"));
        let device = DeviceId { runtime, slug, name, arch, driver, software, threads: 0, limits, atomics, f64 };
        Self { client, device }
    }

    /// Whether the device computes in `dtype`.
    fn check(&self, dtype: Dtype) -> Result<(), LaunchError> {
        if dtype == Dtype::F64 && !self.device.f64 {
            return Err(LaunchError::Unsupported(format!("{} does not compute in f64", self.device.name)));
        }
        Ok(())
    }

    /// Whether the device adds `dtype` atomically.
    fn check_adds(&self, dtype: Dtype) -> Result<(), LaunchError> {
        let adds = match dtype {
            Dtype::F32 => self.device.atomics.f32_add,
            Dtype::F64 => self.device.atomics.f64_add,
        };
        if adds {
            return Ok(());
        }
        Err(LaunchError::Unsupported(format!("{} does not add {dtype} atomically", self.device.name)))
    }
}

impl<R: Runtime> ff_spec::Device for CubeRuntime<R> {
    fn device(&self) -> &DeviceId {
        &self.device
    }

    fn clock(&self) -> Clock {
        match self.client.properties().timing_method {
            cubecl::profile::TimingMethod::Device => Clock::Device,
            cubecl::profile::TimingMethod::System => Clock::Wall,
        }
    }
}

impl<R: Runtime> ff_spec::Prepare for CubeRuntime<R> {
    fn default_config(&self, variant: &Variant, dtype: Dtype, problem: &Problem) -> LaunchConfig {
        fused_message::default_config(&self.device, variant, dtype, problem)
    }

    fn prepare(
        &self,
        variant: &Variant,
        dtype: Dtype,
        inputs: &Inputs<f64>,
        config: &LaunchConfig,
    ) -> Result<Box<dyn Launch>, LaunchError> {
        let registered = fused_message::find(variant).ok_or_else(|| LaunchError::UnknownVariant(variant.id()))?;
        self.check(dtype)?;
        if variant.reduction == Reduction::EdgeAtomic {
            self.check_adds(dtype)?;
        }
        fn launch<R: Runtime, T: Element>(
            on: &CubeRuntime<R>,
            registered: &Registered,
            inputs: &Inputs<T>,
            config: &LaunchConfig,
        ) -> Result<Box<dyn Launch>, LaunchError> {
            registered.check(inputs)?;
            Ok(Box::new(CubeLaunch::<R, T>::new(&on.client, &on.device, &registered.variant(), inputs, config)?))
        }
        match dtype {
            Dtype::F32 => launch::<R, f32>(self, registered, &inputs.cast(), config),
            Dtype::F64 => launch::<R, f64>(self, registered, inputs, config),
        }
    }
}

/// `fused_message` in the orders that are derivatives.
macro_rules! prepare_backward {
    ($($op:ident $inputs:ident),*) => {$(
        impl<R: Runtime> ff_spec::Prepare<$op> for CubeRuntime<R> {
            fn default_config(&self, variant: &Variant, dtype: Dtype, problem: &Problem) -> LaunchConfig {
                fused_message::default_backward_config(&self.device, variant, $op::ORDER, dtype, problem)
            }

            fn prepare(
                &self,
                variant: &Variant,
                dtype: Dtype,
                inputs: &$inputs<f64>,
                config: &LaunchConfig,
            ) -> Result<Box<dyn Launch<$op>>, LaunchError> {
                let registered =
                    fused_message::find(variant).ok_or_else(|| LaunchError::UnknownVariant(variant.id()))?;
                self.check(dtype)?;
                if !fused_message::reads_list_by_sender(variant, $op::ORDER) {
                    self.check_adds(dtype)?;
                }
                fn launch<R: Runtime, T: Element>(
                    on: &CubeRuntime<R>,
                    registered: &Registered,
                    inputs: &$inputs<T>,
                    config: &LaunchConfig,
                ) -> Result<Box<dyn Launch<$op>>, LaunchError> {
                    inputs.check()?;
                    registered.check(&inputs.inputs)?;
                    let variant = registered.variant();
                    Ok(Box::new(CubeBackward::<R, T, _>::new(&on.client, &on.device, &variant, inputs, config)?))
                }
                match dtype {
                    Dtype::F32 => launch::<R, f32>(self, registered, &inputs.cast(), config),
                    Dtype::F64 => launch::<R, f64>(self, registered, inputs, config),
                }
            }
        }
    )*};
}
prepare_backward!(FusedMessageBackward BackwardInputs, FusedMessageDoubleBackward DoubleBackwardInputs);

impl<R: Runtime> ff_spec::Prepare<CellList> for CubeRuntime<R> {
    fn default_config(&self, variant: &cell_list::Variant, dtype: Dtype, problem: &Problem) -> LaunchConfig {
        crate::cell_list::default_config(&self.device, variant, dtype, problem)
    }

    fn prepare(
        &self,
        variant: &cell_list::Variant,
        dtype: Dtype,
        inputs: &cell_list::Inputs<f64>,
        config: &LaunchConfig,
    ) -> Result<Box<dyn Launch<CellList>>, LaunchError> {
        use crate::cell_list::CubeLaunch;
        let (client, device) = (&self.client, &self.device);
        self.check(dtype)?;
        Ok(match dtype {
            Dtype::F32 => Box::new(CubeLaunch::<R, f32>::new(client, device, *variant, &inputs.cast(), config)?),
            Dtype::F64 => Box::new(CubeLaunch::<R, f64>::new(client, device, *variant, inputs, config)?),
        })
    }
}

/// `force_scatter` in one order; only the orders that sum add atomically.
macro_rules! prepare_force_scatter {
    ($($op:ident $inputs:ident $sums:literal),*) => {$(
        impl<R: Runtime> ff_spec::Prepare<$op> for CubeRuntime<R> {
            fn default_config(&self, variant: &force_scatter::Variant, dtype: Dtype, problem: &Problem) -> LaunchConfig {
                crate::force_scatter::default_config(&self.device, variant, dtype, problem)
            }

            fn prepare(
                &self,
                variant: &force_scatter::Variant,
                dtype: Dtype,
                inputs: &force_scatter::$inputs<f64>,
                config: &LaunchConfig,
            ) -> Result<Box<dyn Launch<$op>>, LaunchError> {
                use crate::force_scatter::CubeLaunch;
                let (client, device) = (&self.client, &self.device);
                self.check(dtype)?;
                if $sums && variant.reduction == force_scatter::Reduction::Atomic {
                    self.check_adds(dtype)?;
                }
                Ok(match dtype {
                    Dtype::F32 => {
                        Box::new(CubeLaunch::<R, f32, _>::new(client, device, *variant, &inputs.cast(), config)?)
                    }
                    Dtype::F64 => Box::new(CubeLaunch::<R, f64, _>::new(client, device, *variant, inputs, config)?),
                })
            }
        }
    )*};
}
prepare_force_scatter!(
    ForceScatter Inputs true,
    ForceScatterBackward BackwardInputs false,
    ForceScatterDoubleBackward DoubleBackwardInputs true
);
