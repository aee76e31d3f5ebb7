//! The op and its first backward as nodes of Burn's autodiff graph, whose backwards are the fused ones of the backend beneath.

use std::sync::Arc;

use burn::tensor::Shape;
use burn::tensor::ops::FloatTensor;
use burn_autodiff::Autodiff;
use burn_autodiff::checkpoint::base::Checkpointer;
use burn_autodiff::checkpoint::strategy::CheckpointStrategy;
use burn_autodiff::grads::Gradients;
use burn_autodiff::ops::{Backward, Ops};
use ff_spec::fused_message::{Message, OP, Wanted};
use ff_spec::{DeviceId, LaunchError};

use super::primitives::{FilterPrimitives, Shapes};
use super::{FusedMessageBackend, Plan, PrimitiveDoubleGradients, PrimitiveGradients, PrimitiveMessage, Primitives};
use crate::nodes::{Joined, join, record};

/// Calls `$record` with the number of `$parents` as a constant.
macro_rules! with_parents {
    ($parents:expr, $($n:literal)*, |$nodes:ident| $record:expr) => {{
        let parents = $parents;
        match parents.len() {
            $($n => {
                let $nodes: [_; $n] = std::array::from_fn(|parent| parents[parent].node.clone());
                $record
            })*
            n => unreachable!("no filter and message have {n} tensors"),
        }
    }};
}

impl<B: FusedMessageBackend, C: CheckpointStrategy> FusedMessageBackend for Autodiff<B, C> {
    // A graph of its own takes one derivative of those that there are kernels for.
    const ORDER: u8 = B::ORDER.saturating_sub(1);

    type KeptRadial = B::KeptRadial;
    type KeptFilter = B::KeptFilter;

    fn device_id(device: &Self::Device) -> DeviceId {
        B::device_id(device)
    }

    fn fused_message(inputs: Primitives<Self>, plan: &Arc<Plan>) -> Result<PrimitiveMessage<Self>, LaunchError> {
        if let FilterPrimitives::Tabulated { values } = &inputs.filter
            && values.node.clone_if_require_grad().is_some()
        {
            let reason =
                "a gradient in the nodes of a tabulated filter is not registered: make the table anew from its weights";
            return Err(LaunchError::Unsupported(reason.to_owned()));
        }
        let parents = inputs.tensors();
        let state = (inner(inputs), plan.clone());
        let joined = with_parents!(parents, 3 4 5 6 7, |nodes| {
            let prep = FusedMessageGradients.prepare::<C>(nodes).compute_bound().stateful();
            record::<B, C, _, _, _>(prep, (B::ORDER, 1), OP, state, |(inputs, plan)| {
                let message = B::fused_message(inputs, &plan)?;
                Ok(join::<B>([message.nodes].into_iter().chain(message.vectors)))
            })
        })?;
        Ok(message(joined, plan))
    }

    fn fused_message_backward(
        inputs: Primitives<Self>,
        grad: PrimitiveMessage<Self>,
        wanted: Wanted,
        plan: &Arc<Plan>,
    ) -> Result<PrimitiveGradients<Self>, LaunchError> {
        let mut parents = inputs.tensors();
        parents.extend([grad.nodes.clone()].into_iter().chain(grad.vectors.clone()));
        let shapes = Shapes::new(&inputs, wanted);
        let grad = grad.map(|float| float.primitive);
        let state = DoubleState { inputs: inner(inputs), grad, shapes: shapes.clone(), wanted, plan: plan.clone() };
        let joined = with_parents!(parents, 4 5 6 7 9, |nodes| {
            let prep = FusedMessageDoubleGradients.prepare::<C>(nodes).compute_bound().stateful();
            record::<B, C, _, _, _>(prep, (B::ORDER, 2), OP, state, |state| {
                let DoubleState { inputs, grad, wanted, plan, .. } = state;
                let found = B::fused_message_backward(inputs, grad, wanted, &plan)?;
                let filter = found.filter.iter().flat_map(FilterPrimitives::tensors);
                Ok(join::<B>([found.nodes, found.vectors, found.edge_vec].into_iter().flatten().chain(filter)))
            })
        })?;
        Ok(shapes.gradients(joined))
    }

    fn fused_message_double_backward(
        _: Primitives<Self>,
        _: PrimitiveMessage<Self>,
        _: PrimitiveGradients<Self>,
        _: Wanted,
        _: &Arc<Plan>,
    ) -> Result<PrimitiveDoubleGradients<Self>, LaunchError> {
        Err(LaunchError::Unsupported("the third backward of `fused_message` is not registered".to_owned()))
    }
}

/// The same tensors beneath the graph.
fn inner<B: FusedMessageBackend, C: CheckpointStrategy>(inputs: Primitives<Autodiff<B, C>>) -> Primitives<B> {
    inputs.map(|float| float.primitive, |int| int, |list| list)
}

/// The outputs of the op, which were joined.
fn message<B: FusedMessageBackend>(joined: FloatTensor<B>, plan: &Plan) -> PrimitiveMessage<B> {
    let (n, f) = (plan.sizes.n_atoms, plan.sizes.features);
    let mut joined = Joined::<B>::new(joined);
    let nodes = joined.next(&Shape::new([n, f]));
    let vectors = (plan.sizes.message == Message::Painn).then(|| joined.next(&Shape::new([n, 3, f])));
    PrimitiveMessage { nodes, vectors }
}

impl Shapes {
    /// The gradients that were joined.
    fn gradients<B: FusedMessageBackend>(&self, joined: FloatTensor<B>) -> PrimitiveGradients<B> {
        let mut joined = Joined::<B>::new(joined);
        let mut next = |shape: &Shape| joined.next(shape);
        PrimitiveGradients {
            nodes: self.nodes.as_ref().map(&mut next),
            vectors: self.vectors.as_ref().map(&mut next),
            edge_vec: self.edge_vec.as_ref().map(&mut next),
            filter: match &self.filter[..] {
                [a, b] => Some(FilterPrimitives::Linear { a: next(a), b: next(b) }),
                [a1, b1, a2, b2] => {
                    Some(FilterPrimitives::Mlp { a1: next(a1), b1: next(b1), a2: next(a2), b2: next(b2) })
                }
                _ => None,
            },
        }
    }
}

impl<B: FusedMessageBackend> PrimitiveGradients<B> {
    /// In the order of [`Primitives::tensors`].
    fn tensors(self, painn: bool) -> Vec<Option<FloatTensor<B>>> {
        let weights = self.filter.map(|filter| filter.tensors()).unwrap_or_default();
        let mut all = vec![self.nodes, self.edge_vec];
        all.extend(painn.then_some(self.vectors));
        all.extend(weights.into_iter().map(Some));
        all
    }
}

/// What of a call is tracked, by its tensors in the order of [`Primitives::tensors`].
fn wanted<B: FusedMessageBackend, P>(inputs: &Primitives<B>, parents: &[Option<P>]) -> Wanted {
    let painn = usize::from(inputs.vectors.is_some());
    let tracked = |range: std::ops::Range<usize>| parents[range].iter().any(Option::is_some);
    Wanted {
        nodes: tracked(0..1) || tracked(2..2 + painn),
        edge_vec: tracked(1..2),
        filter: tracked(2 + painn..inputs.tensors().len()),
    }
}

/// Burn's backward has no way to fail but this. The forward has refused what it knows; what the device refuses of a backward alone, such
/// as rows longer than software walks under its configuration, shows here.
fn or_panic<T>(found: Result<T, LaunchError>, plan: &Plan) -> T {
    found.unwrap_or_else(|error| panic!("backward of `fused_message` ({plan:?}): {error}"))
}

#[derive(Debug)]
struct FusedMessageGradients;

impl<B: FusedMessageBackend, const N: usize> Backward<B, N> for FusedMessageGradients {
    type State = (Primitives<B>, Arc<Plan>);

    fn backward(self, ops: Ops<Self::State, N>, grads: &mut Gradients, _: &mut Checkpointer) {
        let (inputs, plan) = ops.state;
        let grad = message::<B>(grads.consume::<B>(&ops.node), &plan);
        let (wanted, painn) = (wanted(&inputs, &ops.parents), inputs.vectors.is_some());
        let found = or_panic(B::fused_message_backward(inputs, grad, wanted, &plan), &plan);
        for (parent, gradient) in ops.parents.into_iter().zip(found.tensors(painn)) {
            if let (Some(node), Some(gradient)) = (parent, gradient) {
                grads.register::<B>(node.id, gradient);
            }
        }
    }
}

/// What the second backward needs of the first.
#[derive(Clone, Debug)]
struct DoubleState<B: FusedMessageBackend> {
    inputs: Primitives<B>,
    grad: PrimitiveMessage<B>,
    shapes: Shapes,
    wanted: Wanted,
    plan: Arc<Plan>,
}

#[derive(Debug)]
struct FusedMessageDoubleGradients;

impl<B: FusedMessageBackend, const N: usize> Backward<B, N> for FusedMessageDoubleGradients {
    type State = DoubleState<B>;

    fn backward(self, ops: Ops<Self::State, N>, grads: &mut Gradients, _: &mut Checkpointer) {
        let DoubleState { inputs, grad, shapes, plan, .. } = ops.state;
        let tangent = shapes.gradients(grads.consume::<B>(&ops.node));
        let (wanted, painn) = (wanted(&inputs, &ops.parents), inputs.vectors.is_some());
        let in_inputs = inputs.tensors().len();
        let found = or_panic(B::fused_message_double_backward(inputs, grad, tangent, wanted, &plan), &plan);
        let mut gradients = found.gradients.tensors(painn);
        // Weights that nobody asked for leave no gap before the cotangents.
        gradients.resize_with(in_inputs, || None);
        gradients.extend([Some(found.grad.nodes)].into_iter().chain(found.grad.vectors.map(Some)));
        for (parent, gradient) in ops.parents.into_iter().zip(gradients) {
            if let (Some(node), Some(gradient)) = (parent, gradient) {
                grads.register::<B>(node.id, gradient);
            }
        }
    }
}
