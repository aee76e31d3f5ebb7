//! The norm and its first backward as nodes of Burn's autodiff graph.

use std::sync::Arc;

use burn::tensor::ops::FloatTensor;
use burn_autodiff::Autodiff;
use burn_autodiff::checkpoint::base::Checkpointer;
use burn_autodiff::checkpoint::strategy::CheckpointStrategy;
use burn_autodiff::grads::Gradients;
use burn_autodiff::ops::{Backward, Ops};
use ff_spec::LaunchError;
use ff_spec::vector_norm::OP;

use super::{NormPlan, VectorNormBackend};
use crate::nodes::record;

impl<B: VectorNormBackend, C: CheckpointStrategy> VectorNormBackend for Autodiff<B, C> {
    // A graph of its own takes one derivative of those that there are kernels for.
    const NORM_ORDER: u8 = B::NORM_ORDER.saturating_sub(1);

    fn vector_norm(vectors: FloatTensor<Self>, plan: &Arc<NormPlan>) -> Result<FloatTensor<Self>, LaunchError> {
        let prep = Norm.prepare::<C>([vectors.node]).compute_bound().stateful();
        let state = (vectors.primitive, plan.clone());
        record::<B, C, _, _, 1>(prep, (B::NORM_ORDER, 1), OP, state, |(vectors, plan)| B::vector_norm(vectors, &plan))
    }

    fn vector_norm_backward(
        vectors: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        plan: &Arc<NormPlan>,
    ) -> Result<FloatTensor<Self>, LaunchError> {
        let prep = Gradient.prepare::<C>([vectors.node, grad.node]).compute_bound().stateful();
        let state = (vectors.primitive, grad.primitive, plan.clone());
        record::<B, C, _, _, 2>(prep, (B::NORM_ORDER, 2), OP, state, |(vectors, grad, plan)| {
            B::vector_norm_backward(vectors, grad, &plan)
        })
    }

    fn vector_norm_double_backward(
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: &Arc<NormPlan>,
    ) -> Result<[FloatTensor<Self>; 2], LaunchError> {
        Err(LaunchError::Unsupported("the third backward of `vector_norm` is not registered".to_owned()))
    }
}

/// Burn's backward has no way to fail but this. The forward has refused what it knows; what the device refuses of a backward alone shows
/// here.
fn or_panic<T>(found: Result<T, LaunchError>, plan: &NormPlan) -> T {
    found.unwrap_or_else(|error| panic!("backward of `vector_norm` ({plan:?}): {error}"))
}

#[derive(Debug)]
struct Norm;

impl<B: VectorNormBackend> Backward<B, 1> for Norm {
    type State = (FloatTensor<B>, Arc<NormPlan>);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let (vectors, plan) = ops.state;
        let grad = grads.consume::<B>(&ops.node);
        let [parent] = ops.parents;
        if let Some(node) = parent {
            grads.register::<B>(node.id, or_panic(B::vector_norm_backward(vectors, grad, &plan), &plan));
        }
    }
}

#[derive(Debug)]
struct Gradient;

impl<B: VectorNormBackend> Backward<B, 2> for Gradient {
    type State = (FloatTensor<B>, FloatTensor<B>, Arc<NormPlan>);

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let (vectors, grad, plan) = ops.state;
        let tangent = grads.consume::<B>(&ops.node);
        let found = B::vector_norm_double_backward(vectors, grad, tangent, &plan);
        let [of_grad, of_vectors] = or_panic(found, &plan);
        for (parent, gradient) in ops.parents.into_iter().zip([of_vectors, of_grad]) {
            if let Some(node) = parent {
                grads.register::<B>(node.id, gradient);
            }
        }
    }
}
