//! The kernels of the backend beneath Burn's fusion wrapper.

use std::sync::Arc;

use burn::tensor::ops::FloatTensor;
use burn_fusion::{Fusion, FusionBackend};
use ff_spec::LaunchError;

use super::{NormPlan, VectorNormBackend};
use crate::fusion::{float, fused};

impl<B: FusionBackend + VectorNormBackend> VectorNormBackend for Fusion<B> {
    const NORM_ORDER: u8 = B::NORM_ORDER;

    fn vector_norm(vectors: FloatTensor<Self>, plan: &Arc<NormPlan>) -> Result<FloatTensor<Self>, LaunchError> {
        let device = vectors.client.device().clone();
        Ok(fused::<B>(&device, B::vector_norm(float::<B>(vectors), plan)?))
    }

    fn vector_norm_backward(
        vectors: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        plan: &Arc<NormPlan>,
    ) -> Result<FloatTensor<Self>, LaunchError> {
        let device = vectors.client.device().clone();
        let found = B::vector_norm_backward(float::<B>(vectors), float::<B>(grad), plan)?;
        Ok(fused::<B>(&device, found))
    }

    fn vector_norm_double_backward(
        vectors: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        tangent: FloatTensor<Self>,
        plan: &Arc<NormPlan>,
    ) -> Result<[FloatTensor<Self>; 2], LaunchError> {
        let device = vectors.client.device().clone();
        let [vectors, grad, tangent] = [vectors, grad, tangent].map(float::<B>);
        let found = B::vector_norm_double_backward(vectors, grad, tangent, plan)?;
        Ok(found.map(|tensor| fused::<B>(&device, tensor)))
    }
}
