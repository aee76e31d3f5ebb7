//! Models on a runtime that is known only when a program runs.

use std::sync::Arc;

use burn_cubecl::CubeBackend;
use burn_cubecl::cubecl::wgpu::WgpuRuntime;
use burn_flex::Flex;
use ff_model::{Model, Prediction, Wanted};
use ff_ops::fused_message::CubeKernels;
use ff_spec::{DeviceId, Dtype, RuntimeKind};
use ff_structure::Structure;
use ff_tables::Table;

use super::{DeviceModel, Moving};
use crate::error::NetworkError;
use crate::network::NetworkBackend;

/// Whether models run on a device in a dtype. In f64 what Burn computes between the messages is not refused on Vulkan, but wrong, as
/// Mesa's software device shows; Metal has no f64.
pub fn computes_in(device: &DeviceId, dtype: Dtype) -> bool {
    match device.runtime {
        RuntimeKind::Vulkan | RuntimeKind::Metal => dtype == Dtype::F32,
        RuntimeKind::Host | RuntimeKind::Cuda => dtype == Dtype::F32 || device.f64,
    }
}

/// A model on some device.
pub trait Predict {
    /// As [`DeviceModel::predict`].
    ///
    /// # Errors
    /// As there.
    fn predict(&self, structures: &[Structure], wanted: Wanted) -> Result<Vec<Prediction>, NetworkError>;

    /// As [`DeviceModel::moving`].
    ///
    /// # Errors
    /// As there.
    fn moving(self: Box<Self>, skin: f64) -> Result<Box<dyn Follow>, NetworkError>;
}

impl<B: NetworkBackend> Predict for DeviceModel<B> {
    fn predict(&self, structures: &[Structure], wanted: Wanted) -> Result<Vec<Prediction>, NetworkError> {
        DeviceModel::predict(self, structures, wanted)
    }

    fn moving(self: Box<Self>, skin: f64) -> Result<Box<dyn Follow>, NetworkError> {
        Ok(Box::new(DeviceModel::moving(*self, skin)?))
    }
}

/// A model on some device, with neighbour lists that stay there from call to call.
pub trait Follow {
    /// As [`Moving::predict`].
    ///
    /// # Errors
    /// As there.
    fn predict(&mut self, structures: &[Structure], wanted: Wanted) -> Result<Vec<Prediction>, NetworkError>;

    /// As [`Moving::rebuilds`].
    fn rebuilds(&self) -> u64;
}

impl<B: NetworkBackend> Follow for Moving<B> {
    fn predict(&mut self, structures: &[Structure], wanted: Wanted) -> Result<Vec<Prediction>, NetworkError> {
        Moving::predict(self, structures, wanted)
    }

    fn rebuilds(&self) -> u64 {
        Moving::rebuilds(self)
    }
}

/// A model on the device that [`ff_kernels::open`] opens of a runtime; on the host, by Burn's operations between the host kernels.
///
/// # Errors
/// As [`DeviceModel::new`]; [`NetworkError::Open`] where there is no such device.
pub fn open(
    kind: RuntimeKind,
    model: &Model,
    dtype: Dtype,
    tables: Arc<[Table]>,
) -> Result<Box<dyn Predict>, NetworkError> {
    // Not generic: where it is called, nothing of Burn is compiled.
    ff_kernels::open(kind)?;
    match kind {
        RuntimeKind::Host => Ok(Box::new(DeviceModel::<Flex>::new(model, dtype, tables, &Default::default())?)),
        RuntimeKind::Vulkan | RuntimeKind::Metal => {
            type Gpu = CubeBackend<WgpuRuntime, f32, i32, u32>;
            Ok(Box::new(DeviceModel::<Gpu>::new(model, dtype, tables, &WgpuRuntime::opened())?))
        }
        #[cfg(feature = "cuda")]
        RuntimeKind::Cuda => {
            use burn_cubecl::cubecl::cuda::CudaRuntime;
            type Gpu = CubeBackend<CudaRuntime, f32, i32, u8>;
            Ok(Box::new(DeviceModel::<Gpu>::new(model, dtype, tables, &CudaRuntime::opened())?))
        }
        #[cfg(not(feature = "cuda"))]
        RuntimeKind::Cuda => unreachable!("what is not compiled in cannot be opened"),
    }
}
