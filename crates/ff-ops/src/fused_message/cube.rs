//! The cube kernels on the buffers of CubeCL tensors.

use std::sync::{Arc, OnceLock};

use burn::tensor::backend::DeviceOps;
use burn::tensor::{DType, Shape, TensorMetadata};
use burn_cubecl::cubecl::features::AtomicUsage;
use burn_cubecl::cubecl::ir::{ElemType, FloatKind, StorageType, Type};
use burn_cubecl::cubecl::prelude::Float;
use burn_cubecl::cubecl::server::{ComputeServer, Handle};
use burn_cubecl::cubecl::wgpu::{WgpuDevice, WgpuRuntime};
use burn_cubecl::kernel::{cast, into_contiguous};
use burn_cubecl::tensor::CubeTensor;
use burn_cubecl::{BoolElement, CubeBackend, CubeElement, CubeRuntime, FloatElement, IntElement, cubecl};
use ff_kernels::fused_message::{
    BackwardTensors, CubeBackward, CubeBackwardEntry, CubeEntry, CubeLaunch, HostElement, Registered,
};
use ff_spec::fused_message::{Message, Wanted};
use ff_spec::{Atomics, DeviceId, Dtype, LaunchError, Limits, RuntimeKind};

use super::{
    FilterPrimitives, FusedMessageBackend, Plan, PrimitiveDoubleGradients, PrimitiveGradients, PrimitiveMessage,
    Primitives, Shapes, by_sender,
};
use crate::dtype::burn_dtype;

/// A CubeCL runtime that kernels were rendered for.
pub trait CubeKernels: CubeRuntime {
    /// The launcher of a variant.
    fn entry(registered: &Registered) -> CubeEntry<Self>;
    /// The launcher of its first backward.
    fn backward(registered: &Registered) -> CubeBackwardEntry<Self>;
    /// What this project calls the runtime.
    fn kind() -> RuntimeKind;
    /// The one device that [`ff_kernels::open`] opens.
    fn opened() -> Self::Device;
}

impl CubeKernels for WgpuRuntime {
    fn entry(registered: &Registered) -> CubeEntry<Self> {
        registered.wgpu
    }

    fn backward(registered: &Registered) -> CubeBackwardEntry<Self> {
        registered.backward_wgpu
    }

    fn kind() -> RuntimeKind {
        if cfg!(target_os = "macos") { RuntimeKind::Metal } else { RuntimeKind::Vulkan }
    }

    fn opened() -> WgpuDevice {
        WgpuDevice::DefaultDevice
    }
}

#[cfg(feature = "cuda")]
impl CubeKernels for cubecl::cuda::CudaRuntime {
    fn entry(registered: &Registered) -> CubeEntry<Self> {
        registered.cuda
    }

    fn backward(registered: &Registered) -> CubeBackwardEntry<Self> {
        registered.backward_cuda
    }

    fn kind() -> RuntimeKind {
        RuntimeKind::Cuda
    }

    fn opened() -> cubecl::cuda::CudaDevice {
        cubecl::cuda::CudaDevice::new(0)
    }
}

impl<R, F, I, BT> FusedMessageBackend for CubeBackend<R, F, I, BT>
where
    R: CubeKernels,
    R::Server: ComputeServer,
    R::Device: DeviceOps,
    F: FloatElement,
    I: IntElement,
    BT: BoolElement,
{
    const ORDER: u8 = 1;

    fn device_id(device: &R::Device) -> DeviceId {
        // Opening looks at the driver, once per runtime; a program that made its own client first stays unidentified.
        static OPENED: [OnceLock<Option<DeviceId>>; RuntimeKind::ALL.len()] = [const { OnceLock::new() }; 4];
        let opened = OPENED[R::kind() as usize]
            .get_or_init(|| ff_kernels::open(R::kind()).ok().map(|runtime| runtime.device().clone()));
        match opened {
            Some(id) if *device == R::opened() => id.clone(),
            _ => unidentified::<R>(device),
        }
    }

    fn fused_message(inputs: Primitives<Self>, plan: &Arc<Plan>) -> Result<PrimitiveMessage<Self>, LaunchError> {
        let entry = R::entry(plan.registered);
        match plan.dtype {
            Dtype::F32 => launch::<R, f32, Self>(inputs, plan, entry),
            Dtype::F64 => launch::<R, f64, Self>(inputs, plan, entry),
        }
    }

    fn fused_message_backward(
        inputs: Primitives<Self>,
        grad: PrimitiveMessage<Self>,
        wanted: Wanted,
        plan: &Arc<Plan>,
    ) -> Result<PrimitiveGradients<Self>, LaunchError> {
        let entry = R::backward(plan.registered);
        match plan.dtype {
            Dtype::F32 => backward::<R, f32, Self>(inputs, grad, wanted, plan, entry),
            Dtype::F64 => backward::<R, f64, Self>(inputs, grad, wanted, plan, entry),
        }
    }

    fn fused_message_double_backward(
        _: Primitives<Self>,
        _: PrimitiveMessage<Self>,
        _: PrimitiveGradients<Self>,
        _: Wanted,
        _: &Arc<Plan>,
    ) -> Result<PrimitiveDoubleGradients<Self>, LaunchError> {
        let kind = R::kind();
        Err(LaunchError::Unsupported(format!("the second backward of `fused_message` has no kernels on {kind}")))
    }
}

/// What the client of a device says of it: enough to launch, too little to find it in a table.
fn unidentified<R: CubeKernels>(device: &R::Device) -> DeviceId {
    let client = R::client(device);
    let properties = client.properties();
    let hardware = &properties.hardware;
    let adds = |kind| {
        let atomic = Type::new(StorageType::Atomic(ElemType::Float(kind)));
        properties.atomic_type_usage(atomic).contains(AtomicUsage::Add)
    };
    DeviceId {
        runtime: R::kind(),
        name: format!("{} {device:?}", R::kind()),
        slug: String::new(),
        arch: String::new(),
        driver: String::new(),
        software: false,
        threads: 0,
        limits: Limits {
            max_units_per_cube: hardware.max_units_per_cube,
            shared_memory: u32::try_from(hardware.max_shared_memory_size).unwrap_or(u32::MAX),
            plane_size: hardware.plane_size_max,
        },
        atomics: Atomics { f32_add: adds(FloatKind::F32), f64_add: adds(FloatKind::F64) },
        f64: properties.supports_type(ElemType::Float(FloatKind::F64)),
    }
}

/// The tensors of the forward in the order of [`CubeLaunch::from_handles`].
fn buffers<R, B>(inputs: Primitives<B>) -> [Option<(Handle, usize)>; 9]
where
    R: CubeRuntime,
    B: FusedMessageBackend<FloatTensorPrimitive = CubeTensor<R>, IntTensorPrimitive = CubeTensor<R>>,
{
    let (weights, bias, hidden_weights, hidden_bias) = match inputs.filter {
        FilterPrimitives::Linear { a, b } => (Some(a), Some(b), None, None),
        FilterPrimitives::Mlp { a1, b1, a2, b2 } => (Some(a2), Some(b2), Some(a1), Some(b1)),
        FilterPrimitives::Tabulated { values } => (Some(values), None, None, None),
    };
    [
        indices(inputs.row_ptr),
        indices(inputs.sender),
        buffer(Some(inputs.edge_vec)),
        buffer(Some(inputs.nodes)),
        buffer(inputs.vectors),
        buffer(weights),
        buffer(bias),
        buffer(hidden_weights),
        buffer(hidden_bias),
    ]
}

fn launch<R, T, B>(inputs: Primitives<B>, plan: &Plan, entry: CubeEntry<R>) -> Result<PrimitiveMessage<B>, LaunchError>
where
    R: CubeKernels,
    T: HostElement + CubeElement + cubecl::CubeElement + Float,
    B: FusedMessageBackend<FloatTensorPrimitive = CubeTensor<R>, IntTensorPrimitive = CubeTensor<R>>,
{
    let (client, device) = (inputs.nodes.client.clone(), inputs.nodes.device.clone());
    let tensors = buffers(inputs);
    let sizes = plan.sizes.cast::<T>();
    // SAFETY: `fused_message` checked shapes, dtypes and devices of every tensor, and `Graph` the list.
    let launch = unsafe {
        CubeLaunch::<R, T>::from_handles(
            &client,
            &plan.device,
            plan.registered,
            entry,
            (&sizes, plan.n_edges),
            tensors,
            &plan.config,
        )
    }?;
    let (nodes, vectors) = launch.into_outputs();
    let tensor = |shape: &[usize], handle: Handle| {
        let shape = Shape::from(shape.to_vec());
        CubeTensor::new_contiguous(client.clone(), device.clone(), shape, handle, burn_dtype(plan.dtype))
    };
    let (n_atoms, features) = (sizes.n_atoms, sizes.features);
    Ok(PrimitiveMessage {
        nodes: tensor(&[n_atoms, features], nodes),
        vectors: (sizes.message == Message::Painn).then(|| tensor(&[n_atoms, 3, features], vectors)),
    })
}

fn backward<R, T, B>(
    inputs: Primitives<B>,
    grad: PrimitiveMessage<B>,
    wanted: Wanted,
    plan: &Plan,
    entry: CubeBackwardEntry<R>,
) -> Result<PrimitiveGradients<B>, LaunchError>
where
    R: CubeKernels,
    T: HostElement + CubeElement + cubecl::CubeElement + Float,
    B: FusedMessageBackend<FloatTensorPrimitive = CubeTensor<R>, IntTensorPrimitive = CubeTensor<R>>,
{
    let (client, device) = (inputs.nodes.client.clone(), inputs.nodes.device.clone());
    let list = by_sender::<B>(&inputs.by_sender, &inputs.row_ptr, &inputs.sender)
        .map_err(|error| LaunchError::Runtime(error.to_string()))?;
    let shapes = Shapes::new(&inputs, wanted);
    let tensors = BackwardTensors {
        forward: buffers(inputs),
        list: list.map(indices),
        grad: [buffer(Some(grad.nodes)), buffer(grad.vectors)],
    };
    let sizes = plan.sizes.cast::<T>();
    // SAFETY: as in `launch`; the list by sender was made of this list.
    let launch = unsafe {
        CubeBackward::<R, T>::from_handles(
            &client,
            &plan.device,
            plan.registered,
            entry,
            (&sizes, plan.n_edges),
            tensors,
            wanted,
            &plan.config,
        )
    }?;
    let found = launch.into_outputs();
    let tensor = |shape: &Shape, handle: Handle| {
        CubeTensor::new_contiguous(client.clone(), device.clone(), shape.clone(), handle, burn_dtype(plan.dtype))
    };
    Ok(PrimitiveGradients {
        nodes: shapes.nodes.as_ref().map(|shape| tensor(shape, found.nodes)),
        vectors: shapes.vectors.as_ref().map(|shape| tensor(shape, found.vectors)),
        edge_vec: shapes.edge_vec.as_ref().map(|shape| tensor(shape, found.edge_vec)),
        filter: match &shapes.filter[..] {
            [a, b] => Some(FilterPrimitives::Linear { a: tensor(a, found.weights), b: tensor(b, found.bias) }),
            [a1, b1, a2, b2] => Some(FilterPrimitives::Mlp {
                a1: tensor(a1, found.hidden_weights),
                b1: tensor(b1, found.hidden_bias),
                a2: tensor(a2, found.weights),
                b2: tensor(b2, found.bias),
            }),
            _ => None,
        },
    })
}

/// A tensor's own buffer where it is contiguous, else a copy that is.
pub(crate) fn buffer<R: CubeRuntime>(tensor: Option<CubeTensor<R>>) -> Option<(Handle, usize)> {
    let tensor = tensor.filter(|tensor| tensor.shape().num_elements() > 0)?;
    let len = tensor.shape().num_elements();
    Some((into_contiguous(tensor).handle, len))
}

/// Indices as u32; those of i32 that are not negative, as checked, have the same bits.
pub(crate) fn indices<R: CubeRuntime>(tensor: CubeTensor<R>) -> Option<(Handle, usize)> {
    let empty = tensor.shape().num_elements() == 0;
    match tensor.dtype {
        DType::I32 | DType::U32 => buffer(Some(tensor)),
        _ if empty => None,
        _ => buffer(Some(cast(tensor, DType::U32))),
    }
}
