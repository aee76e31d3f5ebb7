//! The host kernels on Flex tensors, read where they lie.

use std::sync::{Arc, OnceLock};

use burn::tensor::Element;
use burn_flex::{Flex, FlexDevice, FlexTensor};
use ff_kernels::fused_message::host::{Backward, Call, Direction};
use ff_kernels::fused_message::{HostElement, SenderList, host_config};
use ff_kernels::host::HostRuntime;
use ff_spec::fused_message::{DoubleGradients, Filter, FilterKind, Gradients, Message, Outputs, Radial, Wanted};
use ff_spec::{Device, DeviceId, Dtype, LaunchError};

use super::{
    FilterPrimitives, FusedMessageBackend, Plan, PrimitiveDoubleGradients, PrimitiveGradients, PrimitiveMessage,
    Primitives,
};
use crate::flex::{indices, tensor};

impl FusedMessageBackend for Flex {
    const ORDER: u8 = 2;

    fn device_id(_: &FlexDevice) -> DeviceId {
        static DEVICE: OnceLock<DeviceId> = OnceLock::new();
        DEVICE.get_or_init(|| HostRuntime::new().device().clone()).clone()
    }

    fn fused_message(inputs: Primitives<Self>, plan: &Arc<Plan>) -> Result<PrimitiveMessage<Self>, LaunchError> {
        match plan.dtype {
            Dtype::F32 => forward::<f32>(&inputs, plan),
            Dtype::F64 => forward::<f64>(&inputs, plan),
        }
    }

    fn fused_message_backward(
        inputs: Primitives<Self>,
        grad: PrimitiveMessage<Self>,
        wanted: Wanted,
        plan: &Arc<Plan>,
    ) -> Result<PrimitiveGradients<Self>, LaunchError> {
        match plan.dtype {
            Dtype::F32 => backward::<f32>(&inputs, &grad, wanted, plan),
            Dtype::F64 => backward::<f64>(&inputs, &grad, wanted, plan),
        }
    }

    fn fused_message_double_backward(
        inputs: Primitives<Self>,
        grad: PrimitiveMessage<Self>,
        tangent: PrimitiveGradients<Self>,
        wanted: Wanted,
        plan: &Arc<Plan>,
    ) -> Result<PrimitiveDoubleGradients<Self>, LaunchError> {
        match plan.dtype {
            Dtype::F32 => double_backward::<f32>(&inputs, &grad, &tangent, wanted, plan),
            Dtype::F64 => double_backward::<f64>(&inputs, &grad, &tangent, wanted, plan),
        }
    }
}

/// The tensors of a call as the host kernels read them.
struct Borrowed<T> {
    row_ptr: Vec<u32>,
    sender: Vec<u32>,
    edge_vec: FlexTensor,
    nodes: FlexTensor,
    vectors: Option<FlexTensor>,
    filter: Filter<T>,
    radial: Radial<T>,
}

impl<T: HostElement + Element> Borrowed<T> {
    fn new(inputs: &Primitives<Flex>, plan: &Plan) -> Self {
        Self {
            row_ptr: indices(&inputs.row_ptr),
            sender: indices(&inputs.sender),
            edge_vec: inputs.edge_vec.to_contiguous(),
            nodes: inputs.nodes.to_contiguous(),
            vectors: inputs.vectors.as_ref().map(FlexTensor::to_contiguous),
            filter: weights::<T>(&inputs.filter, &plan.sizes.filter),
            // Rounded like every other input of this dtype.
            radial: plan.sizes.cast().radial,
        }
    }

    fn call<'a>(&'a self, inputs: &'a Primitives<Flex>, plan: &Plan) -> Call<'a, T> {
        let (basis, cutoff) = match &plan.registered.pair() {
            Some(pair) => (
                pair.basis_parameters.iter().map(|(name, _)| self.radial.basis[*name].as_slice()).collect(),
                pair.cutoff_parameters.iter().map(|(name, _)| self.radial.cutoff[*name][0]).collect(),
            ),
            None => Default::default(),
        };
        Call {
            features: plan.sizes.features,
            row_ptr: &self.row_ptr,
            sender: &self.sender,
            edge_vec: self.edge_vec.storage::<T>(),
            nodes: self.nodes.storage::<T>(),
            vectors: storage(self.vectors.as_ref()),
            r_cut: self.radial.r_cut,
            n_basis: self.radial.n_basis,
            basis,
            cutoff,
            filter: &self.filter,
            table: None,
            order: Some(&inputs.order),
        }
    }
}

fn forward<T: HostElement + Element>(
    inputs: &Primitives<Flex>,
    plan: &Plan,
) -> Result<PrimitiveMessage<Flex>, LaunchError> {
    let config = host_config(plan.config(0))?;
    let (n_atoms, features) = (plan.sizes.n_atoms, plan.sizes.features);
    let borrowed = Borrowed::<T>::new(inputs, plan);
    let rows = n_atoms * features;
    let painn = plan.sizes.message == Message::Painn;
    let mut outputs =
        Outputs { nodes: vec![T::default(); rows], vectors: vec![T::default(); if painn { 3 * rows } else { 0 }] };
    plan.registered.stages().forward(&borrowed.call(inputs, plan), &config, &mut outputs);
    Ok(message(outputs, plan))
}

/// The outputs as tensors.
fn message<T: Element>(outputs: Outputs<T>, plan: &Plan) -> PrimitiveMessage<Flex> {
    let (n_atoms, features) = (plan.sizes.n_atoms, plan.sizes.features);
    let painn = plan.sizes.message == Message::Painn;
    PrimitiveMessage {
        nodes: tensor(outputs.nodes, &[n_atoms, features]),
        vectors: painn.then(|| tensor(outputs.vectors, &[n_atoms, 3, features])),
    }
}

/// Gradients in the outputs as the host kernels read them.
struct Cotangents {
    nodes: FlexTensor,
    vectors: Option<FlexTensor>,
}

impl Cotangents {
    fn new(grad: &PrimitiveMessage<Flex>) -> Self {
        let vectors = grad.vectors.as_ref().map(FlexTensor::to_contiguous);
        Self { nodes: grad.nodes.to_contiguous(), vectors }
    }

    fn backward<'a, T: HostElement + Element>(
        &'a self,
        inputs: &'a Primitives<Flex>,
        call: &Call<T>,
        wanted: Wanted,
    ) -> Backward<'a, T> {
        let SenderList { sender_ptr, transpose, receiver } =
            inputs.senders.get_or_init(|| SenderList::new(call.row_ptr, call.sender));
        let (nodes, vectors) = (self.nodes.storage::<T>(), storage(self.vectors.as_ref()));
        Backward { sender_ptr, transpose, receiver, nodes, vectors, wanted }
    }
}

/// The elements of a tensor, none where there is none.
fn storage<T: HostElement + Element>(tensor: Option<&FlexTensor>) -> &[T] {
    tensor.map_or(&[], |tensor| tensor.storage::<T>())
}

/// Room for the gradients that are wanted.
fn room<T: HostElement + Element>(call: &Call<T>, wanted: Wanted) -> Gradients<T> {
    let zeros = |wanted: bool, len: usize| vec![T::default(); if wanted { len } else { 0 }];
    let filter = wanted.filter && call.filter.kind() != FilterKind::Tabulated;
    Gradients {
        nodes: zeros(wanted.nodes, call.nodes.len()),
        vectors: zeros(wanted.nodes, call.vectors.len()),
        edge_vec: zeros(wanted.edge_vec, call.edge_vec.len()),
        filter: filter.then(|| call.filter.map(|_| T::default())),
    }
}

/// The gradients that were wanted, as tensors.
fn gradients<T: HostElement + Element>(found: Gradients<T>, wanted: Wanted, plan: &Plan) -> PrimitiveGradients<Flex> {
    let (n_atoms, features) = (plan.sizes.n_atoms, plan.sizes.features);
    let (n_basis, channels) = (plan.sizes.radial.n_basis, plan.sizes.channels());
    let painn = plan.sizes.message == Message::Painn;
    PrimitiveGradients {
        nodes: wanted.nodes.then(|| tensor(found.nodes, &[n_atoms, channels])),
        vectors: (wanted.nodes && painn).then(|| tensor(found.vectors, &[n_atoms, 3, features])),
        edge_vec: wanted.edge_vec.then(|| tensor(found.edge_vec, &[plan.n_edges, 3])),
        filter: found.filter.and_then(|filter| match filter {
            Filter::Linear { a, b } => {
                Some(FilterPrimitives::Linear { a: tensor(a, &[n_basis, channels]), b: tensor(b, &[channels]) })
            }
            Filter::Mlp { hidden, a1, b1, a2, b2, .. } => Some(FilterPrimitives::Mlp {
                a1: tensor(a1, &[n_basis, hidden]),
                b1: tensor(b1, &[hidden]),
                a2: tensor(a2, &[hidden, channels]),
                b2: tensor(b2, &[channels]),
            }),
            Filter::Tabulated { .. } => None,
        }),
    }
}

fn backward<T: HostElement + Element>(
    inputs: &Primitives<Flex>,
    grad: &PrimitiveMessage<Flex>,
    wanted: Wanted,
    plan: &Plan,
) -> Result<PrimitiveGradients<Flex>, LaunchError> {
    let config = host_config(plan.config(1))?;
    let borrowed = Borrowed::<T>::new(inputs, plan);
    let (call, grad) = (borrowed.call(inputs, plan), Cotangents::new(grad));
    let mut out = room(&call, wanted);
    plan.registered.stages().backward(&call, grad.backward(inputs, &call, wanted), &config, &mut out);
    Ok(gradients(out, wanted, plan))
}

fn double_backward<T: HostElement + Element>(
    inputs: &Primitives<Flex>,
    grad: &PrimitiveMessage<Flex>,
    tangent: &PrimitiveGradients<Flex>,
    wanted: Wanted,
    plan: &Plan,
) -> Result<PrimitiveDoubleGradients<Flex>, LaunchError> {
    let config = host_config(plan.config(2))?;
    let borrowed = Borrowed::<T>::new(inputs, plan);
    let (call, cotangents) = (borrowed.call(inputs, plan), Cotangents::new(grad));
    let own = |tensor: &Option<FlexTensor>, len: usize| match tensor {
        Some(tensor) => tensor.to_contiguous().storage::<T>().to_vec(),
        None => vec![T::default(); len],
    };
    let nodes = own(&tangent.nodes, call.nodes.len());
    let vectors = own(&tangent.vectors, call.vectors.len());
    let edge_vec = own(&tangent.edge_vec, call.edge_vec.len());
    let filter = tangent.filter.as_ref().map(|filter| weights::<T>(filter, &plan.sizes.filter));
    let direction = Direction { nodes: &nodes, vectors: &vectors, edge_vec: &edge_vec, filter: filter.as_ref() };
    let rows = plan.sizes.n_atoms * plan.sizes.features;
    let zeros = |len: usize| vec![T::default(); len];
    let painn = plan.sizes.message == Message::Painn;
    let grad = Outputs { nodes: zeros(rows), vectors: zeros(if painn { 3 * rows } else { 0 }) };
    let mut out = DoubleGradients { grad, gradients: room(&call, wanted) };
    let backward = cotangents.backward(inputs, &call, wanted);
    plan.registered.stages().double_backward(&call, backward, direction, &config, &mut out);
    Ok(PrimitiveDoubleGradients { grad: message(out.grad, plan), gradients: gradients(out.gradients, wanted, plan) })
}

/// The filter as the host kernels own it; weights are small beside everything else.
fn weights<T: HostElement + Element>(filter: &FilterPrimitives<Flex>, sizes: &Filter<f64>) -> Filter<T> {
    let own = |tensor: &FlexTensor| tensor.to_contiguous().storage::<T>().to_vec();
    match (filter, sizes) {
        (FilterPrimitives::Linear { a, b }, _) => Filter::Linear { a: own(a), b: own(b) },
        (FilterPrimitives::Mlp { a1, b1, a2, b2 }, Filter::Mlp { hidden, activation, .. }) => {
            Filter::Mlp { hidden: *hidden, a1: own(a1), b1: own(b1), a2: own(a2), b2: own(b2), activation: *activation }
        }
        (FilterPrimitives::Tabulated { values }, Filter::Tabulated { order, n_nodes, .. }) => {
            Filter::Tabulated { order: *order, n_nodes: *n_nodes, values: own(values) }
        }
        _ => unreachable!("`sizes` were taken from this filter"),
    }
}
