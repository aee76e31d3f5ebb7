//! The cube kernels on the buffers of CubeCL tensors.

use std::fmt;
use std::sync::{Arc, OnceLock};

use burn::tensor::backend::DeviceOps;
use burn::tensor::{DType, Shape, TensorMetadata};
use burn_cubecl::cubecl::client::ComputeClient;
use burn_cubecl::cubecl::server::{ComputeServer, Handle};
use burn_cubecl::cubecl::wgpu::{WgpuDevice, WgpuRuntime};
use burn_cubecl::kernel::{cast, into_contiguous};
use burn_cubecl::tensor::CubeTensor;
use burn_cubecl::{BoolElement, CubeBackend, CubeRuntime, FloatElement, IntElement};
use ff_kernels::cube::Element;
use ff_kernels::fused_message::{
    BackwardOutputs, BackwardTensors, CubeBackward, CubeBackwardInputs, CubeLaunch, radial_parameters,
    reads_list_by_sender,
};
use ff_spec::fused_message::{BackwardInputs, DoubleBackwardInputs, Message, Wanted};
use ff_spec::{DeviceId, Dtype, LaunchError, RuntimeKind};

use super::primitives::{FilterPrimitives, Shapes};
use super::{FusedMessageBackend, Plan, PrimitiveDoubleGradients, PrimitiveGradients, PrimitiveMessage, Primitives};
use crate::dtype::burn_dtype;
use crate::graph::by_sender;

/// A CubeCL runtime that this project opens.
pub trait CubeKernels: CubeRuntime {
    /// What this project calls the runtime.
    fn kind() -> RuntimeKind;
    /// The one device that [`ff_kernels::open`] opens.
    fn opened() -> Self::Device;
}

impl CubeKernels for WgpuRuntime {
    fn kind() -> RuntimeKind {
        if cfg!(target_os = "macos") { RuntimeKind::Metal } else { RuntimeKind::Vulkan }
    }

    fn opened() -> WgpuDevice {
        WgpuDevice::DefaultDevice
    }
}

#[cfg(feature = "cuda")]
impl CubeKernels for burn_cubecl::cubecl::cuda::CudaRuntime {
    fn kind() -> RuntimeKind {
        RuntimeKind::Cuda
    }

    fn opened() -> burn_cubecl::cubecl::cuda::CudaDevice {
        burn_cubecl::cubecl::cuda::CudaDevice::new(0)
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
    const ORDER: u8 = 2;

    type KeptRadial = CubeRadial;
    // The kernels read a filter's tensors where they lie.
    type KeptFilter = ();

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
        match plan.dtype {
            Dtype::F32 => launch::<R, f32, Self>(inputs, plan),
            Dtype::F64 => launch::<R, f64, Self>(inputs, plan),
        }
    }

    fn fused_message_backward(
        inputs: Primitives<Self>,
        grad: PrimitiveMessage<Self>,
        wanted: Wanted,
        plan: &Arc<Plan>,
    ) -> Result<PrimitiveGradients<Self>, LaunchError> {
        let (gradients, _) = match plan.dtype {
            Dtype::F32 => backward::<R, f32, Self, BackwardInputs<f32>>(inputs, grad, None, wanted, plan),
            Dtype::F64 => backward::<R, f64, Self, BackwardInputs<f64>>(inputs, grad, None, wanted, plan),
        }?;
        Ok(gradients)
    }

    fn fused_message_double_backward(
        inputs: Primitives<Self>,
        grad: PrimitiveMessage<Self>,
        tangent: PrimitiveGradients<Self>,
        wanted: Wanted,
        plan: &Arc<Plan>,
    ) -> Result<PrimitiveDoubleGradients<Self>, LaunchError> {
        let (client, device, tangent) = (inputs.nodes.client.clone(), inputs.nodes.device.clone(), Some(tangent));
        let (gradients, grad) = match plan.dtype {
            Dtype::F32 => backward::<R, f32, Self, DoubleBackwardInputs<f32>>(inputs, grad, tangent, wanted, plan),
            Dtype::F64 => backward::<R, f64, Self, DoubleBackwardInputs<f64>>(inputs, grad, tangent, wanted, plan),
        }?;
        Ok(PrimitiveDoubleGradients { grad: message((&client, &device), plan, grad), gradients })
    }
}

/// What the client of a device says of it: enough to launch, too little to find it in a table.
fn unidentified<R: CubeKernels>(device: &R::Device) -> DeviceId {
    let (limits, atomics, f64) = ff_kernels::cube::abilities(&R::client(device), R::kind());
    DeviceId {
        runtime: R::kind(),
        name: format!("{} {device:?}", R::kind()),
        slug: String::new(),
        arch: String::new(),
        driver: String::new(),
        software: false,
        threads: 0,
        limits,
        atomics,
        f64,
    }
}

/// Radial parameters on a device, by dtype.
#[derive(Default)]
pub struct CubeRadial([OnceLock<(Handle, usize)>; Dtype::ALL.len()]);

impl CubeRadial {
    /// Those of a plan, uploaded by the first call of its dtype.
    fn get<R: CubeRuntime, T: Element>(&self, client: &ComputeClient<R>, plan: &Plan) -> (Handle, usize) {
        let upload = || {
            // Rounded like every other input of this dtype.
            let values = radial_parameters::<T>(&plan.kind.registered.variant(), &plan.kind.radial.cast());
            (client.create_from_slice(T::as_bytes(&values)), values.len())
        };
        self.0[plan.dtype as usize].get_or_init(upload).clone()
    }
}

impl fmt::Debug for CubeRadial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|buffer| buffer.get().map(|(_, len)| len))).finish()
    }
}

/// The tensors of the forward in the order of [`CubeLaunch::from_handles`].
fn buffers<R, T, B>(inputs: Primitives<B>, plan: &Plan) -> [Option<(Handle, usize)>; 10]
where
    R: CubeRuntime,
    T: Element,
    B: FusedMessageBackend<
            FloatTensorPrimitive = CubeTensor<R>,
            IntTensorPrimitive = CubeTensor<R>,
            KeptRadial = CubeRadial,
        >,
{
    let radial = inputs.kept_radial.get::<R, T>(&inputs.nodes.client, plan);
    let [weights, bias, hidden_weights, hidden_bias] = weights::<R, B>(Some(inputs.filter));
    [
        indices(inputs.row_ptr),
        indices(inputs.sender),
        buffer(Some(inputs.edge_vec)),
        buffer(Some(inputs.nodes)),
        buffer(inputs.vectors),
        weights,
        bias,
        hidden_weights,
        hidden_bias,
        Some(radial),
    ]
}

/// A filter's tensors in the same order.
fn weights<R, B>(filter: Option<FilterPrimitives<B>>) -> [Option<(Handle, usize)>; 4]
where
    R: CubeRuntime,
    B: FusedMessageBackend<FloatTensorPrimitive = CubeTensor<R>, IntTensorPrimitive = CubeTensor<R>>,
{
    let tensors = match filter {
        None => [const { None }; 4],
        Some(FilterPrimitives::Linear { a, b }) => [Some(a), Some(b), None, None],
        Some(FilterPrimitives::Mlp { a1, b1, a2, b2 }) => [Some(a2), Some(b2), Some(a1), Some(b1)],
        Some(FilterPrimitives::Tabulated { values }) => [Some(values), None, None, None],
    };
    tensors.map(buffer)
}

fn launch<R, T, B>(inputs: Primitives<B>, plan: &Plan) -> Result<PrimitiveMessage<B>, LaunchError>
where
    R: CubeKernels,
    T: Element,
    B: FusedMessageBackend<
            FloatTensorPrimitive = CubeTensor<R>,
            IntTensorPrimitive = CubeTensor<R>,
            KeptRadial = CubeRadial,
        >,
{
    let (client, device) = (inputs.nodes.client.clone(), inputs.nodes.device.clone());
    let tensors = buffers::<R, T, B>(inputs, plan);
    // SAFETY: shapes, dtypes and devices of every tensor were checked before there was a plan, and the list by `Graph`.
    let launch = unsafe {
        CubeLaunch::<R, T>::from_handles(
            &client,
            &plan.kind.device,
            &plan.kind.registered.variant(),
            &plan.sizes,
            tensors,
            plan.config(0),
        )
    }?;
    let (nodes, vectors) = launch.into_outputs();
    Ok(message((&client, &device), plan, [nodes, vectors]))
}

/// The buffers of outputs as tensors.
fn message<R, B>(on: (&ComputeClient<R>, &R::Device), plan: &Plan, [nodes, vectors]: [Handle; 2]) -> PrimitiveMessage<B>
where
    R: CubeKernels,
    B: FusedMessageBackend<FloatTensorPrimitive = CubeTensor<R>, IntTensorPrimitive = CubeTensor<R>>,
{
    let (n_atoms, features) = (plan.sizes.n_atoms, plan.sizes.features);
    let tensor = |shape: Shape, handle: Handle| tensor(on, plan, &shape, handle);
    PrimitiveMessage {
        nodes: tensor(Shape::new([n_atoms, features]), nodes),
        vectors: (plan.sizes.message == Message::Painn).then(|| tensor(Shape::new([n_atoms, 3, features]), vectors)),
    }
}

/// A buffer as a tensor.
fn tensor<R: CubeKernels>(
    (client, device): (&ComputeClient<R>, &R::Device),
    plan: &Plan,
    shape: &Shape,
    handle: Handle,
) -> CubeTensor<R> {
    CubeTensor::new_contiguous(client.clone(), device.clone(), shape.clone(), handle, burn_dtype(plan.dtype))
}

/// The backward of the order of `I`: gradients in the inputs, and the buffers of those in the cotangents.
fn backward<R, T, B, I>(
    inputs: Primitives<B>,
    grad: PrimitiveMessage<B>,
    tangent: Option<PrimitiveGradients<B>>,
    wanted: Wanted,
    plan: &Plan,
) -> Result<(PrimitiveGradients<B>, [Handle; 2]), LaunchError>
where
    R: CubeKernels,
    T: Element,
    B: FusedMessageBackend<
            FloatTensorPrimitive = CubeTensor<R>,
            IntTensorPrimitive = CubeTensor<R>,
            KeptRadial = CubeRadial,
        >,
    I: CubeBackwardInputs<T>,
{
    let (client, device) = (inputs.nodes.client.clone(), inputs.nodes.device.clone());
    let list = match reads_list_by_sender(&plan.kind.variant, <I::Op as ff_spec::Op>::ORDER) {
        true => by_sender::<B>(&inputs.by_sender, &inputs.host, &inputs.row_ptr, &inputs.sender)
            .map_err(|error| LaunchError::Runtime(error.to_string()))?
            .map(indices),
        false => [None, None, None],
    };
    let shapes = Shapes::new(&inputs, wanted);
    let tensors = BackwardTensors {
        forward: buffers::<R, T, B>(inputs, plan),
        list,
        grad: [buffer(Some(grad.nodes)), buffer(grad.vectors)],
        tangent: tangent.map(|PrimitiveGradients { nodes, vectors, edge_vec, filter }| {
            let [weights, bias, hidden_weights, hidden_bias] = weights::<R, B>(filter);
            let [edge_vec, nodes, vectors] = [edge_vec, nodes, vectors].map(buffer);
            [edge_vec, nodes, vectors, weights, bias, hidden_weights, hidden_bias]
        }),
    };
    // SAFETY: as in `launch`; the list by sender was made of this list, and cotangents and tangents have
    // the shapes of what they are taken in.
    let launch = unsafe {
        CubeBackward::<R, T, I>::from_handles(
            &client,
            &plan.kind.device,
            &plan.kind.registered.variant(),
            &plan.sizes,
            tensors,
            wanted,
            plan.config(<I::Op as ff_spec::Op>::ORDER),
        )
    }?;
    let BackwardOutputs { nodes, vectors, edge_vec, weights, bias, hidden_weights, hidden_bias, grad } =
        launch.into_outputs();
    let tensor = |shape: &Shape, handle: Handle| tensor((&client, &device), plan, shape, handle);
    let gradients = PrimitiveGradients {
        nodes: shapes.nodes.as_ref().map(|shape| tensor(shape, nodes)),
        vectors: shapes.vectors.as_ref().map(|shape| tensor(shape, vectors)),
        edge_vec: shapes.edge_vec.as_ref().map(|shape| tensor(shape, edge_vec)),
        filter: match &shapes.filter[..] {
            [a, b] => Some(FilterPrimitives::Linear { a: tensor(a, weights), b: tensor(b, bias) }),
            [a1, b1, a2, b2] => Some(FilterPrimitives::Mlp {
                a1: tensor(a1, hidden_weights),
                b1: tensor(b1, hidden_bias),
                a2: tensor(a2, weights),
                b2: tensor(b2, bias),
            }),
            _ => None,
        },
    };
    Ok((gradients, grad))
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
