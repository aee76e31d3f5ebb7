//! The op as a node of Burn's autodiff graph, whose backward is the fused one of the backend beneath.

use std::sync::Arc;

use burn::tensor::Tensor;
use burn::tensor::ops::FloatTensor;
use burn_autodiff::Autodiff;
use burn_autodiff::checkpoint::base::Checkpointer;
use burn_autodiff::checkpoint::strategy::CheckpointStrategy;
use burn_autodiff::grads::Gradients;
use burn_autodiff::ops::{Backward, Ops, OpsKind};
use ff_spec::fused_message::{Message, Wanted};
use ff_spec::{DeviceId, LaunchError};

use super::{
    FilterPrimitives, FusedMessageBackend, Plan, PrimitiveGradients, PrimitiveMessage, Primitives, primitive, tensor,
};

impl<B: FusedMessageBackend, C: CheckpointStrategy> FusedMessageBackend for Autodiff<B, C> {
    // A graph of its own takes one derivative of those that there are kernels for.
    const ORDER: u8 = B::ORDER.saturating_sub(1);

    fn device_id(device: &Self::Device) -> DeviceId {
        B::device_id(device)
    }

    fn fused_message(inputs: Primitives<Self>, plan: &Arc<Plan>) -> Result<PrimitiveMessage<Self>, LaunchError> {
        let parents = parents(&inputs);
        if let FilterPrimitives::Tabulated { values } = &inputs.filter
            && values.node.clone_if_require_grad().is_some()
        {
            let reason =
                "a gradient in the nodes of a tabulated filter is not registered: make the table anew from its weights";
            return Err(LaunchError::Unsupported(reason.to_owned()));
        }
        let inner = inner(inputs);
        let output = match parents.len() {
            3 => record::<B, C, 3>(parents, inner, plan),
            4 => record::<B, C, 4>(parents, inner, plan),
            5 => record::<B, C, 5>(parents, inner, plan),
            6 => record::<B, C, 6>(parents, inner, plan),
            _ => record::<B, C, 7>(parents, inner, plan),
        }?;
        Ok(split(output, plan))
    }

    fn fused_message_backward(
        _: Primitives<Self>,
        _: PrimitiveMessage<Self>,
        _: Wanted,
        _: &Arc<Plan>,
    ) -> Result<PrimitiveGradients<Self>, LaunchError> {
        Err(LaunchError::Unsupported("the second backward of `fused_message` is not registered".to_owned()))
    }
}

/// What a call may have gradients in: features, edge vectors, vectors where there are any, and weights.
fn parents<B: FusedMessageBackend>(inputs: &Primitives<B>) -> Vec<FloatTensor<B>> {
    let mut parents = vec![inputs.nodes.clone(), inputs.edge_vec.clone()];
    parents.extend(inputs.vectors.clone());
    parents.extend(inputs.filter.tensors());
    parents
}

/// The same tensors beneath the graph.
fn inner<B: FusedMessageBackend, C: CheckpointStrategy>(inputs: Primitives<Autodiff<B, C>>) -> Primitives<B> {
    Primitives {
        row_ptr: inputs.row_ptr,
        sender: inputs.sender,
        edge_vec: inputs.edge_vec.primitive,
        nodes: inputs.nodes.primitive,
        vectors: inputs.vectors.map(|vectors| vectors.primitive),
        filter: match inputs.filter {
            FilterPrimitives::Linear { a, b } => FilterPrimitives::Linear { a: a.primitive, b: b.primitive },
            FilterPrimitives::Mlp { a1, b1, a2, b2 } => {
                FilterPrimitives::Mlp { a1: a1.primitive, b1: b1.primitive, a2: a2.primitive, b2: b2.primitive }
            }
            FilterPrimitives::Tabulated { values } => FilterPrimitives::Tabulated { values: values.primitive },
        },
        order: inputs.order,
        senders: inputs.senders,
    }
}

/// Computes the op and, where anything it is made of is tracked, records it.
fn record<B: FusedMessageBackend, C: CheckpointStrategy, const N: usize>(
    parents: Vec<FloatTensor<Autodiff<B, C>>>,
    inputs: Primitives<B>,
    plan: &Arc<Plan>,
) -> Result<FloatTensor<Autodiff<B, C>>, LaunchError> {
    let nodes = std::array::from_fn(|parent| parents[parent].node.clone());
    match (FusedMessageGradients.prepare::<C>(nodes) as burn_autodiff::ops::OpsPrep<_, B, _, C, N>)
        .compute_bound()
        .stateful()
    {
        OpsKind::Tracked(_) if B::ORDER == 0 => Err(LaunchError::Unsupported(format!(
            "a gradient through `fused_message` on {} is not registered for {}",
            B::name(&Default::default()),
            plan.device.runtime
        ))),
        OpsKind::Tracked(prep) => {
            let output = join(B::fused_message(inputs.clone(), plan)?);
            Ok(prep.finish((inputs, plan.clone()), output))
        }
        OpsKind::UnTracked(prep) => Ok(prep.finish(join(B::fused_message(inputs, plan)?))),
    }
}

/// Both outputs as one, since a node of the graph has one: [n_atoms, 1 or 4, F].
fn join<B: FusedMessageBackend>(message: PrimitiveMessage<B>) -> FloatTensor<B> {
    let nodes = tensor::<B, 2>(message.nodes).unsqueeze_dim::<3>(1);
    primitive(match message.vectors {
        Some(vectors) => Tensor::cat(vec![nodes, tensor::<B, 3>(vectors)], 1),
        None => nodes,
    })
}

/// The outputs that were joined.
fn split<B: FusedMessageBackend>(joined: FloatTensor<B>, plan: &Plan) -> PrimitiveMessage<B> {
    let joined = tensor::<B, 3>(joined);
    let nodes = joined.clone().narrow(1, 0, 1).squeeze_dim::<2>(1);
    let vectors = (plan.sizes.message == Message::Painn).then(|| primitive(joined.narrow(1, 1, 3)));
    PrimitiveMessage { nodes: primitive(nodes), vectors }
}

#[derive(Debug)]
struct FusedMessageGradients;

impl<B: FusedMessageBackend, const N: usize> Backward<B, N> for FusedMessageGradients {
    type State = (Primitives<B>, Arc<Plan>);

    fn backward(self, ops: Ops<Self::State, N>, grads: &mut Gradients, _: &mut Checkpointer) {
        let (inputs, plan) = ops.state;
        let grad = split::<B>(grads.consume::<B>(&ops.node), &plan);
        let painn = usize::from(inputs.vectors.is_some());
        let tracked = |range: std::ops::Range<usize>| ops.parents[range].iter().any(Option::is_some);
        let wanted = Wanted {
            nodes: tracked(0..1) || tracked(2..2 + painn),
            edge_vec: tracked(1..2),
            filter: tracked(2 + painn..N),
        };
        let found = match B::fused_message_backward(inputs, grad, wanted, &plan) {
            Ok(found) => found,
            // Burn's backward has no way to fail but this; the forward has refused whatever could be known.
            Err(error) => panic!("backward of `fused_message` ({plan:?}): {error}"),
        };
        let weights = found.filter.map(|filter| filter.tensors()).unwrap_or_default();
        let mut gradients = vec![found.nodes, found.edge_vec];
        gradients.extend((painn > 0).then_some(found.vectors));
        gradients.extend(weights.into_iter().map(Some));
        for (parent, gradient) in ops.parents.into_iter().zip(gradients) {
            if let (Some(node), Some(gradient)) = (parent, gradient) {
                grads.register::<B>(node.id, gradient);
            }
        }
    }
}
