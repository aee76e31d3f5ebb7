//! The host kernels on Flex tensors, read where they lie.

use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use burn::tensor::Element;
use burn_flex::{Flex, FlexDevice, FlexTensor};
use ff_kernels::fused_message::host::{Backward, Call, Direction, HostConfig, PackedFilter};
use ff_kernels::fused_message::{HostElement, Registered, SenderList, host_config};
use ff_kernels::host::HostRuntime;
use ff_spec::fused_message::{
    DoubleGradients, Filter, FilterKind, FilterSizes, Gradients, Message, Outputs, Radial, Sizes, Wanted,
};
use ff_spec::{Device, DeviceId, Dtype, LaunchError};

use super::primitives::FilterPrimitives;
use super::{FusedMessageBackend, Plan, PrimitiveDoubleGradients, PrimitiveGradients, PrimitiveMessage, Primitives};
use crate::flex::{indices, tensor};

impl FusedMessageBackend for Flex {
    const ORDER: u8 = 2;

    type KeptRadial = HostRadial;
    type KeptFilter = HostFilter;

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

/// Radial parameters of each dtype, rounded by its first call.
#[derive(Debug, Default)]
pub struct HostRadial {
    f32: OnceLock<Radial<f32>>,
    f64: OnceLock<Radial<f64>>,
}

/// A filter of each dtype, copied by its first call.
#[derive(Debug, Default)]
pub struct HostFilter {
    f32: OnceLock<Owned<f32>>,
    f64: OnceLock<Owned<f64>>,
}

/// A filter as the host kernels own it; weights are small beside everything else.
#[derive(Debug)]
struct Owned<T> {
    filter: Filter<T>,
    packed: Mutex<Packed<T>>,
}

/// A filter in the orders of the passes of configurations and derivative orders.
struct Packed<T>(Vec<(HostConfig, u8, Arc<PackedFilter<T>>)>);

impl<T> fmt::Debug for Packed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(config, order, _)| (order, config))).finish()
    }
}

impl<T: HostElement> Owned<T> {
    /// The filter, packed by the first call of a configuration.
    fn packed(&self, order: u8, config: &HostConfig, sizes: &Sizes) -> Arc<PackedFilter<T>> {
        let mut kept = self.packed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((.., packed)) = kept.0.iter().find(|(of, for_order, _)| of == config && *for_order == order) {
            return packed.clone();
        }
        let packed = Arc::new(PackedFilter::new(order, &self.filter, sizes.message.parts(), sizes.features, config));
        kept.0.push((*config, order, packed.clone()));
        packed
    }
}

/// An element type of which something is kept.
trait Kept: HostElement + Element {
    fn radial(kept: &HostRadial) -> &OnceLock<Radial<Self>>;
    fn filter(kept: &HostFilter) -> &OnceLock<Owned<Self>>;
}

impl Kept for f32 {
    fn radial(kept: &HostRadial) -> &OnceLock<Radial<f32>> {
        &kept.f32
    }

    fn filter(kept: &HostFilter) -> &OnceLock<Owned<f32>> {
        &kept.f32
    }
}

impl Kept for f64 {
    fn radial(kept: &HostRadial) -> &OnceLock<Radial<f64>> {
        &kept.f64
    }

    fn filter(kept: &HostFilter) -> &OnceLock<Owned<f64>> {
        &kept.f64
    }
}

/// A call's tensors as the host kernels read them, and how.
struct Borrowed<'a, T: HostElement> {
    inputs: &'a Primitives<Flex>,
    plan: &'a Plan,
    config: HostConfig,
    list: &'a [Vec<u32>; 2],
    edge_vec: FlexTensor,
    nodes: FlexTensor,
    vectors: Option<FlexTensor>,
    radial: &'a Radial<T>,
    filter: &'a Filter<T>,
    packed: Arc<PackedFilter<T>>,
}

impl<'a, T: Kept> Borrowed<'a, T> {
    /// Of a derivative order.
    fn new(inputs: &'a Primitives<Flex>, plan: &'a Plan, order: u8) -> Result<Self, LaunchError> {
        let config = host_config(plan.config(order))?;
        let owned = T::filter(&inputs.kept_filter).get_or_init(|| Owned {
            filter: weights::<T>(&inputs.filter, plan.sizes.filter),
            packed: Mutex::new(Packed(Vec::new())),
        });
        Ok(Self {
            inputs,
            plan,
            config,
            list: inputs.host.indices(|| [&inputs.row_ptr, &inputs.sender].map(indices)),
            edge_vec: inputs.edge_vec.to_contiguous(),
            nodes: inputs.nodes.to_contiguous(),
            vectors: inputs.vectors.as_ref().map(FlexTensor::to_contiguous),
            // Rounded like every other input of this dtype.
            radial: T::radial(&inputs.kept_radial).get_or_init(|| plan.kind.radial.cast()),
            filter: &owned.filter,
            packed: owned.packed(order, &config, &plan.sizes),
        })
    }

    fn registered(&self) -> &'static Registered {
        self.plan.kind.registered
    }

    fn call(&self) -> Call<'_, T> {
        let (basis, cutoff) = match &self.registered().pair() {
            Some(pair) => (
                pair.basis_parameters.iter().map(|(name, _)| self.radial.basis[*name].as_slice()).collect(),
                pair.cutoff_parameters.iter().map(|(name, _)| self.radial.cutoff[*name][0]).collect(),
            ),
            None => Default::default(),
        };
        let [row_ptr, sender] = self.list;
        Call {
            features: self.plan.sizes.features,
            row_ptr,
            sender,
            edge_vec: self.edge_vec.storage::<T>(),
            nodes: self.nodes.storage::<T>(),
            vectors: storage(self.vectors.as_ref()),
            r_cut: self.radial.r_cut,
            n_basis: self.radial.n_basis,
            basis,
            cutoff,
            filter: self.filter,
            packed: Some(&self.packed),
            order: Some(self.inputs.host.order()),
        }
    }
}

/// Room for outputs.
fn outputs<T: Element>(sizes: &Sizes) -> Outputs<T> {
    let [nodes, vectors] = sizes.outputs().map(|len| vec![T::default(); len]);
    Outputs { nodes, vectors }
}

fn forward<T: Kept>(inputs: &Primitives<Flex>, plan: &Plan) -> Result<PrimitiveMessage<Flex>, LaunchError> {
    let borrowed = Borrowed::<T>::new(inputs, plan, 0)?;
    let mut out = outputs(&plan.sizes);
    borrowed.registered().stages().forward(&borrowed.call(), &borrowed.config, &mut out);
    Ok(message(out, plan))
}

/// The outputs as tensors.
fn message<T: Element>(outputs: Outputs<T>, plan: &Plan) -> PrimitiveMessage<Flex> {
    let Sizes { n_atoms, features, .. } = plan.sizes;
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

    fn backward<'a, T: Kept>(&'a self, borrowed: &'a Borrowed<'_, T>, wanted: Wanted) -> Backward<'a, T> {
        let SenderList { sender_ptr, transpose, receiver } = borrowed.inputs.host.senders(borrowed.list);
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
    let (Sizes { n_atoms, n_edges, features, n_basis, .. }, channels) = (plan.sizes, plan.sizes.channels());
    let painn = plan.sizes.message == Message::Painn;
    PrimitiveGradients {
        nodes: wanted.nodes.then(|| tensor(found.nodes, &[n_atoms, channels])),
        vectors: (wanted.nodes && painn).then(|| tensor(found.vectors, &[n_atoms, 3, features])),
        edge_vec: wanted.edge_vec.then(|| tensor(found.edge_vec, &[n_edges, 3])),
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

fn backward<T: Kept>(
    inputs: &Primitives<Flex>,
    grad: &PrimitiveMessage<Flex>,
    wanted: Wanted,
    plan: &Plan,
) -> Result<PrimitiveGradients<Flex>, LaunchError> {
    let borrowed = Borrowed::<T>::new(inputs, plan, 1)?;
    let (call, grad) = (borrowed.call(), Cotangents::new(grad));
    let mut out = room(&call, wanted);
    let backward = grad.backward(&borrowed, wanted);
    borrowed.registered().stages().backward(&call, backward, &borrowed.config, &mut out);
    Ok(gradients(out, wanted, plan))
}

fn double_backward<T: Kept>(
    inputs: &Primitives<Flex>,
    grad: &PrimitiveMessage<Flex>,
    tangent: &PrimitiveGradients<Flex>,
    wanted: Wanted,
    plan: &Plan,
) -> Result<PrimitiveDoubleGradients<Flex>, LaunchError> {
    let borrowed = Borrowed::<T>::new(inputs, plan, 2)?;
    let (call, cotangents) = (borrowed.call(), Cotangents::new(grad));
    let own = |tensor: &Option<FlexTensor>, len: usize| match tensor {
        Some(tensor) => tensor.to_contiguous().storage::<T>().to_vec(),
        None => vec![T::default(); len],
    };
    let nodes = own(&tangent.nodes, call.nodes.len());
    let vectors = own(&tangent.vectors, call.vectors.len());
    let edge_vec = own(&tangent.edge_vec, call.edge_vec.len());
    let filter = tangent.filter.as_ref().map(|filter| weights::<T>(filter, plan.sizes.filter));
    let direction = Direction { nodes: &nodes, vectors: &vectors, edge_vec: &edge_vec, filter: filter.as_ref() };
    let mut out = DoubleGradients { grad: outputs(&plan.sizes), gradients: room(&call, wanted) };
    let backward = cotangents.backward(&borrowed, wanted);
    borrowed.registered().stages().double_backward(&call, backward, direction, &borrowed.config, &mut out);
    Ok(PrimitiveDoubleGradients { grad: message(out.grad, plan), gradients: gradients(out.gradients, wanted, plan) })
}

/// A filter's weights, copied.
fn weights<T: Kept>(filter: &FilterPrimitives<Flex>, sizes: FilterSizes) -> Filter<T> {
    let own = |tensor: &FlexTensor| tensor.to_contiguous().storage::<T>().to_vec();
    match (filter, sizes) {
        (FilterPrimitives::Linear { a, b }, _) => Filter::Linear { a: own(a), b: own(b) },
        (FilterPrimitives::Mlp { a1, b1, a2, b2 }, FilterSizes::Mlp { hidden, activation }) => {
            Filter::Mlp { hidden, a1: own(a1), b1: own(b1), a2: own(a2), b2: own(b2), activation }
        }
        (FilterPrimitives::Tabulated { values }, FilterSizes::Tabulated { order, n_nodes }) => {
            Filter::Tabulated { order, n_nodes, values: own(values) }
        }
        _ => unreachable!("`sizes` were taken from this filter"),
    }
}
