//! The host kernels on Flex tensors, read where they lie.

use std::sync::Arc;

use burn::tensor::Element;
use burn_flex::{Flex, FlexTensor};
use ff_kernels::vector_norm::host::Call;
use ff_kernels::vector_norm::{HostElement, host_config};
use ff_spec::vector_norm::{DoubleGradients, Gradients, Outputs};
use ff_spec::{Dtype, LaunchError};

use super::{NormPlan, VectorNormBackend};
use crate::flex::tensor;

/// Calls `$function` with the element type of a plan.
macro_rules! by_dtype {
    ($plan:expr, $function:ident($($argument:expr),*)) => {
        match $plan.dtype {
            Dtype::F32 => $function::<f32>($($argument),*),
            Dtype::F64 => $function::<f64>($($argument),*),
        }
    };
}

impl VectorNormBackend for Flex {
    const NORM_ORDER: u8 = 2;

    fn vector_norm(vectors: FlexTensor, plan: &Arc<NormPlan>) -> Result<FlexTensor, LaunchError> {
        by_dtype!(plan, forward(&vectors.to_contiguous(), plan))
    }

    fn vector_norm_backward(
        vectors: FlexTensor,
        grad: FlexTensor,
        plan: &Arc<NormPlan>,
    ) -> Result<FlexTensor, LaunchError> {
        by_dtype!(plan, backward(&vectors.to_contiguous(), &grad.to_contiguous(), plan))
    }

    fn vector_norm_double_backward(
        vectors: FlexTensor,
        grad: FlexTensor,
        tangent: FlexTensor,
        plan: &Arc<NormPlan>,
    ) -> Result<[FlexTensor; 2], LaunchError> {
        let [vectors, grad, tangent] = [vectors, grad, tangent].map(|tensor| tensor.to_contiguous());
        by_dtype!(plan, double_backward(&vectors, &grad, &tangent, plan))
    }
}

fn call<'a, T: HostElement + Element>(vectors: &'a FlexTensor, plan: &NormPlan) -> Call<'a, T> {
    let NormPlan { n_atoms, features, epsilon, .. } = *plan;
    Call { n_atoms, features, vectors: vectors.storage::<T>(), epsilon: ff_spec::Scalar::from_f64(epsilon) }
}

/// The norms, [n_atoms, F].
fn norms(plan: &NormPlan) -> [usize; 2] {
    [plan.n_atoms, plan.features]
}

/// The vectors, [n_atoms, 3, F].
fn axes(plan: &NormPlan) -> [usize; 3] {
    [plan.n_atoms, 3, plan.features]
}

/// Room for what a kernel writes.
fn room<T: HostElement>(shape: &[usize]) -> Vec<T> {
    vec![T::default(); shape.iter().product()]
}

fn forward<T: HostElement + Element>(vectors: &FlexTensor, plan: &NormPlan) -> Result<FlexTensor, LaunchError> {
    let mut out = Outputs { norm: room(&norms(plan)) };
    T::forward(&call(vectors, plan), &host_config(plan.config(0))?, &mut out);
    Ok(tensor(out.norm, &norms(plan)))
}

fn backward<T: HostElement + Element>(
    vectors: &FlexTensor,
    grad: &FlexTensor,
    plan: &NormPlan,
) -> Result<FlexTensor, LaunchError> {
    let mut out = Gradients { vectors: room(&axes(plan)) };
    T::backward(&call(vectors, plan), grad.storage::<T>(), &host_config(plan.config(1))?, &mut out);
    Ok(tensor(out.vectors, &axes(plan)))
}

fn double_backward<T: HostElement + Element>(
    vectors: &FlexTensor,
    grad: &FlexTensor,
    tangent: &FlexTensor,
    plan: &NormPlan,
) -> Result<[FlexTensor; 2], LaunchError> {
    let mut out = DoubleGradients { grad: room(&norms(plan)), vectors: room(&axes(plan)) };
    let (call, config) = (call(vectors, plan), host_config(plan.config(2))?);
    T::double_backward(&call, grad.storage::<T>(), tangent.storage::<T>(), &config, &mut out);
    Ok([tensor(out.grad, &norms(plan)), tensor(out.vectors, &axes(plan))])
}
