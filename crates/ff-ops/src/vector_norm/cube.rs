//! The cube kernels on the buffers of CubeCL tensors.

use std::sync::Arc;

use burn::tensor::Shape;
use burn::tensor::backend::DeviceOps;
use burn_cubecl::cubecl::server::ComputeServer;
use burn_cubecl::tensor::CubeTensor;
use burn_cubecl::{BoolElement, CubeBackend, FloatElement, IntElement};
use ff_kernels::cube::Element;
use ff_kernels::vector_norm::{CubeLaunch, OrderInputs, Sizes};
use ff_spec::vector_norm::{BackwardInputs, DoubleBackwardInputs, Inputs};
use ff_spec::{Dtype, LaunchError, Op};

use super::{NormPlan, VectorNormBackend};
use crate::dtype::burn_dtype;
use crate::fused_message::CubeKernels;
use crate::fused_message::cube::buffer;

/// Launches the order of `$inputs` in the element type of a plan.
macro_rules! by_dtype {
    ($plan:expr, $inputs:ident, $tensors:expr) => {
        match $plan.dtype {
            Dtype::F32 => launch::<R, f32, $inputs<f32>, _>($tensors, $plan),
            Dtype::F64 => launch::<R, f64, $inputs<f64>, _>($tensors, $plan),
        }
    };
}

impl<R, F, I, BT> VectorNormBackend for CubeBackend<R, F, I, BT>
where
    R: CubeKernels,
    R::Server: ComputeServer,
    R::Device: DeviceOps,
    F: FloatElement,
    I: IntElement,
    BT: BoolElement,
{
    const NORM_ORDER: u8 = 2;

    fn vector_norm(vectors: CubeTensor<R>, plan: &Arc<NormPlan>) -> Result<CubeTensor<R>, LaunchError> {
        only(by_dtype!(plan, Inputs, [vectors])?)
    }

    fn vector_norm_backward(
        vectors: CubeTensor<R>,
        grad: CubeTensor<R>,
        plan: &Arc<NormPlan>,
    ) -> Result<CubeTensor<R>, LaunchError> {
        only(by_dtype!(plan, BackwardInputs, [vectors, grad])?)
    }

    fn vector_norm_double_backward(
        vectors: CubeTensor<R>,
        grad: CubeTensor<R>,
        tangent: CubeTensor<R>,
        plan: &Arc<NormPlan>,
    ) -> Result<[CubeTensor<R>; 2], LaunchError> {
        outputs(by_dtype!(plan, DoubleBackwardInputs, [vectors, grad, tangent])?)
    }
}

fn only<T>(found: Vec<T>) -> Result<T, LaunchError> {
    outputs(found).map(|[only]| only)
}

/// The outputs of an order, of which it has so many.
fn outputs<T, const N: usize>(found: Vec<T>) -> Result<[T; N], LaunchError> {
    let count = found.len();
    found.try_into().map_err(|_| LaunchError::Runtime(format!("{count} outputs, expected {N}")))
}

/// Submits the kernel of an order; its outputs in their order.
fn launch<R, T, I, const N: usize>(
    tensors: [CubeTensor<R>; N],
    plan: &NormPlan,
) -> Result<Vec<CubeTensor<R>>, LaunchError>
where
    R: CubeKernels,
    T: Element,
    I: OrderInputs<T>,
{
    let NormPlan { n_atoms, features, epsilon, .. } = *plan;
    let (client, device) = (tensors[0].client.clone(), tensors[0].device.clone());
    let order = <I::Op as Op>::ORDER;
    let sizes = Sizes { n_atoms, features, epsilon: ff_spec::Scalar::from_f64(epsilon) };
    let tensors = tensors.into_iter().map(|tensor| buffer(Some(tensor))).collect();
    // SAFETY: shape, dtype and device of the vectors and ε were checked, and gradients are of the shapes that they are of.
    let launch =
        unsafe { CubeLaunch::<R, T, I>::from_handles(&client, &plan.device, sizes, tensors, plan.config(order)) }?;
    let (norms, axes) = (vec![n_atoms, features], vec![n_atoms, 3, features]);
    let shapes = match order {
        0 => vec![norms],
        1 => vec![axes],
        _ => vec![norms, axes],
    };
    let outputs = launch.into_outputs().into_iter().zip(shapes).map(|(handle, shape)| {
        let shape = Shape::from(shape);
        CubeTensor::new_contiguous(client.clone(), device.clone(), shape, handle, burn_dtype(plan.dtype))
    });
    Ok(outputs.collect())
}
