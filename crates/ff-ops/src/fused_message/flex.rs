//! The host kernels on Flex tensors, read where they lie.

use std::sync::OnceLock;

use burn::tensor::{DType, Element, TensorData};
use burn_flex::{Flex, FlexDevice, FlexTensor};
use ff_kernels::fused_message::host::Call;
use ff_kernels::fused_message::{HostElement, host_config};
use ff_kernels::host::HostRuntime;
use ff_spec::fused_message::{Filter, Message, Outputs, Radial};
use ff_spec::{Device, DeviceId, Dtype, LaunchError};

use super::{FilterPrimitives, FusedMessageBackend, Plan, PrimitiveMessage, Primitives};

impl FusedMessageBackend for Flex {
    fn device_id(_: &FlexDevice) -> DeviceId {
        static DEVICE: OnceLock<DeviceId> = OnceLock::new();
        DEVICE.get_or_init(|| HostRuntime::new().device().clone()).clone()
    }

    fn fused_message(inputs: Primitives<Self>, plan: &Plan) -> Result<PrimitiveMessage<Self>, LaunchError> {
        match plan.dtype {
            Dtype::F32 => run::<f32>(&inputs, plan),
            Dtype::F64 => run::<f64>(&inputs, plan),
        }
    }
}

fn run<T: HostElement + Element>(
    inputs: &Primitives<Flex>,
    plan: &Plan,
) -> Result<PrimitiveMessage<Flex>, LaunchError> {
    let config = host_config(&plan.config)?;
    let (n_atoms, features) = (plan.sizes.n_atoms, plan.sizes.features);
    let (row_ptr, sender) = (indices(&inputs.row_ptr), indices(&inputs.sender));
    let (edge_vec, nodes) = (inputs.edge_vec.to_contiguous(), inputs.nodes.to_contiguous());
    let vectors = inputs.vectors.as_ref().map(FlexTensor::to_contiguous);
    let filter = weights::<T>(&inputs.filter, &plan.sizes.filter);
    // Rounded like every other input of this dtype.
    let radial: Radial<T> = plan.sizes.cast().radial;
    let (basis, cutoff) = match &plan.registered.radial {
        Some(pair) => (
            pair.basis_parameters.iter().map(|(name, _)| radial.basis[*name].as_slice()).collect(),
            pair.cutoff_parameters.iter().map(|(name, _)| radial.cutoff[*name][0]).collect(),
        ),
        None => Default::default(),
    };
    let call = Call {
        features,
        row_ptr: &row_ptr,
        sender: &sender,
        edge_vec: edge_vec.storage::<T>(),
        nodes: nodes.storage::<T>(),
        vectors: vectors.as_ref().map_or(&[], |vectors| vectors.storage::<T>()),
        r_cut: radial.r_cut,
        n_basis: radial.n_basis,
        basis,
        cutoff,
        filter: &filter,
        table: None,
        order: Some(&inputs.order),
    };
    let rows = n_atoms * features;
    let painn = plan.sizes.message == Message::Painn;
    let mut outputs =
        Outputs { nodes: vec![T::default(); rows], vectors: vec![T::default(); if painn { 3 * rows } else { 0 }] };
    T::entry(plan.registered)(&call, &config, &mut outputs);
    let tensor = |values: Vec<T>, shape: &[usize]| FlexTensor::from_data(TensorData::new(values, shape.to_vec()));
    Ok(PrimitiveMessage {
        nodes: tensor(outputs.nodes, &[n_atoms, features]),
        vectors: painn.then(|| tensor(outputs.vectors, &[n_atoms, 3, features])),
    })
}

/// Indices of any width as u32, which the list was checked to fit.
fn indices(tensor: &FlexTensor) -> Vec<u32> {
    let tensor = tensor.to_contiguous();
    match tensor.dtype() {
        DType::I32 => tensor.storage::<i32>().iter().map(|i| *i as u32).collect(),
        DType::I64 => tensor.storage::<i64>().iter().map(|i| *i as u32).collect(),
        DType::U32 => tensor.storage::<u32>().to_vec(),
        _ => tensor.into_data().iter::<i64>().map(|i| i as u32).collect(),
    }
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
