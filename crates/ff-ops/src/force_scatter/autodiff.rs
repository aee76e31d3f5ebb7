//! The ops and the first backward of the sum as nodes of Burn's autodiff graph.

use std::sync::Arc;

use burn::tensor::Shape;
use burn::tensor::ops::FloatTensor;
use burn_autodiff::checkpoint::base::Checkpointer;
use burn_autodiff::checkpoint::strategy::CheckpointStrategy;
use burn_autodiff::grads::Gradients;
use burn_autodiff::ops::{Backward, Ops};
use burn_autodiff::{Autodiff, NodeId};
use ff_spec::LaunchError;
use ff_spec::force_scatter::OP;

use super::{EdgePrimitives, ForceScatterBackend, ListPrimitives, ScatterPlan, SumPrimitives};
use crate::nodes::{Joined, join, record};

impl<B: ForceScatterBackend, C: CheckpointStrategy> ForceScatterBackend for Autodiff<B, C> {
    // A graph of its own takes one derivative of those that there are kernels for.
    const SCATTER_ORDER: u8 = B::SCATTER_ORDER.saturating_sub(1);

    fn edge_differences(
        list: &ListPrimitives<Self>,
        positions: FloatTensor<Self>,
        plan: &Arc<ScatterPlan>,
    ) -> Result<FloatTensor<Self>, LaunchError> {
        let prep = Differences.prepare::<C>([positions.node]).compute_bound().stateful();
        let state = (list.clone().map(|int| int), plan.clone());
        let positions = positions.primitive;
        record::<B, C, _, _, 1>(prep, (B::SCATTER_ORDER, 1), "edge_vec", state, |(list, plan)| {
            B::edge_differences(&list, positions, &plan)
        })
    }

    fn edge_sums(
        list: &ListPrimitives<Self>,
        grad: FloatTensor<Self>,
        plan: &Arc<ScatterPlan>,
    ) -> Result<FloatTensor<Self>, LaunchError> {
        let prep = EdgeSums.prepare::<C>([grad.node]).compute_bound().stateful();
        let state = (list.clone().map(|int| int), plan.clone());
        let grad = grad.primitive;
        record::<B, C, _, _, 1>(prep, (B::SCATTER_ORDER, 1), "edge_vec", state, |(list, plan)| {
            B::edge_sums(&list, grad, &plan)
        })
    }

    fn force_scatter(
        list: &ListPrimitives<Self>,
        edges: EdgePrimitives<Self>,
        plan: &Arc<ScatterPlan>,
    ) -> Result<SumPrimitives<Self>, LaunchError> {
        let nodes = [edges.edge_vec.node.clone(), edges.edge_grad.node.clone()];
        let prep = Sums.prepare::<C>(nodes).compute_bound().stateful();
        let state =
            State { list: list.clone().map(|int| int), edges: edges.map(|float| float.primitive), plan: plan.clone() };
        let joined = record::<B, C, _, _, 2>(prep, (B::SCATTER_ORDER, 1), OP, state, |state| {
            B::force_scatter(&state.list, state.edges, &state.plan).map(SumPrimitives::join)
        })?;
        Ok(SumPrimitives::split(joined, plan))
    }

    fn force_scatter_backward(
        list: &ListPrimitives<Self>,
        edges: EdgePrimitives<Self>,
        grad: SumPrimitives<Self>,
        plan: &Arc<ScatterPlan>,
    ) -> Result<EdgePrimitives<Self>, LaunchError> {
        let nodes = [&edges.edge_vec, &edges.edge_grad, &grad.forces, &grad.strain].map(|tensor| tensor.node.clone());
        let prep = Spread.prepare::<C>(nodes).compute_bound().stateful();
        let state = (
            State { list: list.clone().map(|int| int), edges: edges.map(|float| float.primitive), plan: plan.clone() },
            grad.map(|float| float.primitive),
        );
        let joined = record::<B, C, _, _, 4>(prep, (B::SCATTER_ORDER, 2), OP, state, |(state, grad)| {
            B::force_scatter_backward(&state.list, state.edges, grad, &state.plan).map(EdgePrimitives::join)
        })?;
        Ok(EdgePrimitives::split(joined, plan))
    }

    fn force_scatter_double_backward(
        _: &ListPrimitives<Self>,
        _: EdgePrimitives<Self>,
        _: SumPrimitives<Self>,
        _: EdgePrimitives<Self>,
        _: &Arc<ScatterPlan>,
    ) -> Result<(SumPrimitives<Self>, EdgePrimitives<Self>), LaunchError> {
        Err(LaunchError::Unsupported("the third backward of `force_scatter` is not registered".to_owned()))
    }
}

impl<B: ForceScatterBackend> EdgePrimitives<B> {
    fn join(self) -> FloatTensor<B> {
        join::<B>([self.edge_vec, self.edge_grad].into_iter())
    }

    fn split(joined: FloatTensor<B>, plan: &ScatterPlan) -> Self {
        let (mut joined, shape) = (Joined::<B>::new(joined), Shape::new([plan.n_edges, 3]));
        Self { edge_vec: joined.next(&shape), edge_grad: joined.next(&shape) }
    }
}

impl<B: ForceScatterBackend> SumPrimitives<B> {
    fn join(self) -> FloatTensor<B> {
        join::<B>([self.forces, self.strain].into_iter())
    }

    fn split(joined: FloatTensor<B>, plan: &ScatterPlan) -> Self {
        let mut joined = Joined::<B>::new(joined);
        let forces = joined.next(&Shape::new([plan.n_atoms, 3]));
        Self { forces, strain: joined.next(&Shape::new([plan.n_systems, 3, 3])) }
    }
}

/// What the backward of the sum reads.
#[derive(Clone, Debug)]
struct State<B: ForceScatterBackend> {
    list: ListPrimitives<B>,
    edges: EdgePrimitives<B>,
    plan: Arc<ScatterPlan>,
}

/// Burn's backward has no way to fail but this. The forward has refused what it knows; what the device refuses of a backward alone shows
/// here.
fn or_panic<T>(found: Result<T, LaunchError>, plan: &ScatterPlan) -> T {
    found.unwrap_or_else(|error| panic!("backward of `force_scatter` ({plan:?}): {error}"))
}

fn register<B: ForceScatterBackend, const N: usize>(
    parents: [Option<NodeId>; N],
    gradients: [FloatTensor<B>; N],
    grads: &mut Gradients,
) {
    for (parent, gradient) in parents.into_iter().zip(gradients) {
        if let Some(id) = parent {
            grads.register::<B>(id, gradient);
        }
    }
}

#[derive(Debug)]
struct Differences;

impl<B: ForceScatterBackend> Backward<B, 1> for Differences {
    type State = (ListPrimitives<B>, Arc<ScatterPlan>);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let (list, plan) = ops.state;
        let grad = grads.consume::<B>(&ops.node);
        let found = or_panic(B::edge_sums(&list, grad, &plan), &plan);
        register::<B, 1>(ops.parents.map(|parent| parent.map(|node| node.id)), [found], grads);
    }
}

/// The transpose of [`Differences`], whose transpose that is.
#[derive(Debug)]
struct EdgeSums;

impl<B: ForceScatterBackend> Backward<B, 1> for EdgeSums {
    type State = (ListPrimitives<B>, Arc<ScatterPlan>);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let (list, plan) = ops.state;
        let grad = grads.consume::<B>(&ops.node);
        let found = or_panic(B::edge_differences(&list, grad, &plan), &plan);
        register::<B, 1>(ops.parents.map(|parent| parent.map(|node| node.id)), [found], grads);
    }
}

#[derive(Debug)]
struct Sums;

impl<B: ForceScatterBackend> Backward<B, 2> for Sums {
    type State = State<B>;

    fn backward(self, ops: Ops<State<B>, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let State { list, edges, plan } = ops.state;
        let grad = SumPrimitives::split(grads.consume::<B>(&ops.node), &plan);
        let found = or_panic(B::force_scatter_backward(&list, edges, grad, &plan), &plan);
        register::<B, 2>(
            ops.parents.map(|parent| parent.map(|node| node.id)),
            [found.edge_vec, found.edge_grad],
            grads,
        );
    }
}

#[derive(Debug)]
struct Spread;

impl<B: ForceScatterBackend> Backward<B, 4> for Spread {
    type State = (State<B>, SumPrimitives<B>);

    fn backward(self, ops: Ops<Self::State, 4>, grads: &mut Gradients, _: &mut Checkpointer) {
        let (State { list, edges, plan }, grad) = ops.state;
        let tangent = EdgePrimitives::split(grads.consume::<B>(&ops.node), &plan);
        let found = B::force_scatter_double_backward(&list, edges, grad, tangent, &plan);
        let (sums, edges) = or_panic(found, &plan);
        register::<B, 4>(
            ops.parents.map(|parent| parent.map(|node| node.id)),
            [edges.edge_vec, edges.edge_grad, sums.forces, sums.strain],
            grads,
        );
    }
}
