use cubecl::features::AtomicUsage;
use cubecl::ir::{ElemType, FloatKind, StorageType, Type};
use cubecl::prelude::*;
use ff_spec::{Atomics, Clock, DeviceId, Dtype, LaunchError, Limits, RuntimeKind};

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

    /// What kernels are launched through.
    pub(crate) fn client(&self) -> &ComputeClient<R> {
        &self.client
    }

    /// Whether the device computes in `dtype`.
    pub(crate) fn check(&self, dtype: Dtype) -> Result<(), LaunchError> {
        if dtype == Dtype::F64 && !self.device.f64 {
            return Err(LaunchError::Unsupported(format!("{} does not compute in f64", self.device.name)));
        }
        Ok(())
    }

    /// Whether the device adds `dtype` atomically.
    pub(crate) fn check_adds(&self, dtype: Dtype) -> Result<(), LaunchError> {
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
