//! The kernels of the backend beneath Burn's fusion wrapper.

use std::sync::Arc;

use burn::tensor::ops::FloatTensor;
use burn_fusion::{Fusion, FusionBackend};
use ff_spec::LaunchError;

use super::{EdgePrimitives, ForceScatterBackend, ListPrimitives, ScatterPlan, SumPrimitives};
use crate::fusion::{float, fused, int};

impl<B: FusionBackend + ForceScatterBackend> ForceScatterBackend for Fusion<B> {
    const SCATTER_ORDER: u8 = B::SCATTER_ORDER;

    fn edge_differences(
        list: &ListPrimitives<Self>,
        positions: FloatTensor<Self>,
        plan: &Arc<ScatterPlan>,
    ) -> Result<FloatTensor<Self>, LaunchError> {
        let device = positions.client.device().clone();
        let found = B::edge_differences(&list.clone().map(int::<B>), float::<B>(positions), plan)?;
        Ok(fused::<B>(&device, found))
    }

    fn edge_sums(
        list: &ListPrimitives<Self>,
        grad: FloatTensor<Self>,
        plan: &Arc<ScatterPlan>,
    ) -> Result<FloatTensor<Self>, LaunchError> {
        let device = grad.client.device().clone();
        let found = B::edge_sums(&list.clone().map(int::<B>), float::<B>(grad), plan)?;
        Ok(fused::<B>(&device, found))
    }

    fn force_scatter(
        list: &ListPrimitives<Self>,
        edges: EdgePrimitives<Self>,
        plan: &Arc<ScatterPlan>,
    ) -> Result<SumPrimitives<Self>, LaunchError> {
        let device = edges.edge_vec.client.device().clone();
        let found = B::force_scatter(&list.clone().map(int::<B>), edges.map(float::<B>), plan)?;
        Ok(found.map(|tensor| fused::<B>(&device, tensor)))
    }

    fn force_scatter_backward(
        list: &ListPrimitives<Self>,
        edges: EdgePrimitives<Self>,
        grad: SumPrimitives<Self>,
        plan: &Arc<ScatterPlan>,
    ) -> Result<EdgePrimitives<Self>, LaunchError> {
        let device = edges.edge_vec.client.device().clone();
        let (edges, grad) = (edges.map(float::<B>), grad.map(float::<B>));
        let found = B::force_scatter_backward(&list.clone().map(int::<B>), edges, grad, plan)?;
        Ok(found.map(|tensor| fused::<B>(&device, tensor)))
    }

    fn force_scatter_double_backward(
        list: &ListPrimitives<Self>,
        edges: EdgePrimitives<Self>,
        grad: SumPrimitives<Self>,
        tangent: EdgePrimitives<Self>,
        plan: &Arc<ScatterPlan>,
    ) -> Result<(SumPrimitives<Self>, EdgePrimitives<Self>), LaunchError> {
        let device = edges.edge_vec.client.device().clone();
        let (edges, grad, tangent) = (edges.map(float::<B>), grad.map(float::<B>), tangent.map(float::<B>));
        let (sums, edges) = B::force_scatter_double_backward(&list.clone().map(int::<B>), edges, grad, tangent, plan)?;
        let fused = |tensor| fused::<B>(&device, tensor);
        Ok((sums.map(fused), edges.map(fused)))
    }
}
