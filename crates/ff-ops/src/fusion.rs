//! Tensors of Burn's fusion wrapper as those of the backend beneath, and back.
//!
//! `Fusion<B>` collects operations and runs them later, some of them as one kernel. A call of this crate ends what was
//! collected for its tensors and launches on `B` at once: so what the device refuses is an error of the call, as without
//! the wrapper, and not a panic of a later one.

use burn::tensor::ops::{FloatTensor, IntTensor};
use burn::tensor::{DType, Shape, TensorMetadata};
use burn_fusion::stream::OperationStreams;
use burn_fusion::{Fusion, FusionBackend, FusionTensor, NoOp, get_client};
use burn_ir::{InitOperationIr, OperationIr, OperationOutput};

/// The tensor of `B` that a fused one stands for, after all that it waits for.
pub(crate) fn float<B: FusionBackend>(tensor: FloatTensor<Fusion<B>>) -> FloatTensor<B> {
    tensor.client.clone().resolve_tensor_float::<B>(tensor)
}

/// As [`float`].
pub(crate) fn int<B: FusionBackend>(tensor: IntTensor<Fusion<B>>) -> IntTensor<B> {
    tensor.client.clone().resolve_tensor_int::<B>(tensor)
}

/// A tensor of `B` as one that fused operations may follow.
pub(crate) fn fused<B: FusionBackend>(device: &B::Device, tensor: FloatTensor<B>) -> FloatTensor<Fusion<B>> {
    let (shape, dtype) = (tensor.shape(), tensor.dtype());
    register::<B>(device, shape, dtype, B::float_tensor_handle(tensor))
}

/// As [`fused`].
pub(crate) fn fused_int<B: FusionBackend>(device: &B::Device, tensor: IntTensor<B>) -> IntTensor<Fusion<B>> {
    let (shape, dtype) = (tensor.shape(), tensor.dtype());
    register::<B>(device, shape, dtype, B::int_tensor_handle(tensor))
}

fn register<B: FusionBackend>(
    device: &B::Device,
    shape: Shape,
    dtype: DType,
    handle: B::Handle,
) -> FusionTensor<B::FusionRuntime> {
    let client = get_client::<B>(device);
    let init = InitOperationIr::create(shape, dtype, || client.register_tensor_handle(handle));
    client.register(OperationStreams::default(), OperationIr::Init(init), NoOp::<B>::new()).output()
}
