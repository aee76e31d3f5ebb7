//! The cube kernels on the buffers of CubeCL tensors.

use std::sync::Arc;

use burn::tensor::backend::DeviceOps;
use burn::tensor::{Shape, Tensor};
use burn_cubecl::cubecl::server::ComputeServer;
use burn_cubecl::tensor::CubeTensor;
use burn_cubecl::{BoolElement, CubeBackend, FloatElement, IntElement};
use ff_kernels::cube::Element;
use ff_kernels::force_scatter::{CubeLaunch, OrderInputs, Sizes};
use ff_spec::force_scatter::{BackwardInputs, DoubleBackwardInputs, Inputs};
use ff_spec::{Dtype, LaunchError};

use super::{EdgePrimitives, ForceScatterBackend, ListPrimitives, ScatterPlan, SumPrimitives};
use crate::call::{primitive, tensor};
use crate::dtype::burn_dtype;
use crate::fused_message::cube::{buffer, indices};
use crate::fused_message::{CubeKernels, FusedMessageBackend};

impl<R, F, I, BT> ForceScatterBackend for CubeBackend<R, F, I, BT>
where
    R: CubeKernels,
    R::Server: ComputeServer,
    R::Device: DeviceOps,
    F: FloatElement,
    I: IntElement,
    BT: BoolElement,
{
    const SCATTER_ORDER: u8 = 2;

    fn edge_differences(
        list: &ListPrimitives<Self>,
        positions: CubeTensor<R>,
        plan: &Arc<ScatterPlan>,
    ) -> Result<CubeTensor<R>, LaunchError> {
        // The first backward with F̄ = −x: ḡ_ij = −x_i + x_j.
        let positions = tensor::<Self, 2>(positions);
        let options = (&positions.device(), burn_dtype(plan.dtype));
        let edges = primitive(Tensor::<Self, 2>::zeros([plan.n_edges, 3], options));
        let strain = primitive(Tensor::<Self, 3>::zeros([plan.n_systems, 3, 3], options));
        let edges = EdgePrimitives { edge_vec: edges.clone(), edge_grad: edges };
        let grad = SumPrimitives { forces: primitive(positions.neg()), strain };
        Ok(Self::force_scatter_backward(list, edges, grad, plan)?.edge_grad)
    }

    fn edge_sums(
        list: &ListPrimitives<Self>,
        grad: CubeTensor<R>,
        plan: &Arc<ScatterPlan>,
    ) -> Result<CubeTensor<R>, LaunchError> {
        // The forces of these gradients with the other sign; of no system, so that no strain is summed.
        let plan = Arc::new(ScatterPlan { n_systems: 0, ..ScatterPlan::clone(plan) });
        let edges = EdgePrimitives { edge_vec: grad.clone(), edge_grad: grad };
        let sums = Self::force_scatter(list, edges, &plan)?;
        Ok(primitive(tensor::<Self, 2>(sums.forces).neg()))
    }

    fn force_scatter(
        list: &ListPrimitives<Self>,
        edges: EdgePrimitives<Self>,
        plan: &Arc<ScatterPlan>,
    ) -> Result<SumPrimitives<Self>, LaunchError> {
        let tensors = vec![edges.edge_vec, edges.edge_grad];
        let mut found = match plan.dtype {
            Dtype::F32 => launch::<R, f32, Self, Inputs<f32>>(list, tensors, plan),
            Dtype::F64 => launch::<R, f64, Self, Inputs<f64>>(list, tensors, plan),
        }?
        .into_iter();
        Ok(sums(&mut found))
    }

    fn force_scatter_backward(
        list: &ListPrimitives<Self>,
        inputs: EdgePrimitives<Self>,
        grad: SumPrimitives<Self>,
        plan: &Arc<ScatterPlan>,
    ) -> Result<EdgePrimitives<Self>, LaunchError> {
        let tensors = vec![inputs.edge_vec, inputs.edge_grad, grad.forces, grad.strain];
        let mut found = match plan.dtype {
            Dtype::F32 => launch::<R, f32, Self, BackwardInputs<f32>>(list, tensors, plan),
            Dtype::F64 => launch::<R, f64, Self, BackwardInputs<f64>>(list, tensors, plan),
        }?
        .into_iter();
        Ok(edges(&mut found))
    }

    fn force_scatter_double_backward(
        list: &ListPrimitives<Self>,
        inputs: EdgePrimitives<Self>,
        grad: SumPrimitives<Self>,
        tangent: EdgePrimitives<Self>,
        plan: &Arc<ScatterPlan>,
    ) -> Result<(SumPrimitives<Self>, EdgePrimitives<Self>), LaunchError> {
        let tensors =
            vec![inputs.edge_vec, inputs.edge_grad, grad.forces, grad.strain, tangent.edge_vec, tangent.edge_grad];
        let mut found = match plan.dtype {
            Dtype::F32 => launch::<R, f32, Self, DoubleBackwardInputs<f32>>(list, tensors, plan),
            Dtype::F64 => launch::<R, f64, Self, DoubleBackwardInputs<f64>>(list, tensors, plan),
        }?
        .into_iter();
        Ok((sums(&mut found), edges(&mut found)))
    }
}

fn sums<B: FusedMessageBackend>(found: &mut impl Iterator<Item = B::FloatTensorPrimitive>) -> SumPrimitives<B> {
    let mut next = || found.next().expect("an order of this op has these outputs");
    SumPrimitives { forces: next(), strain: next() }
}

fn edges<B: FusedMessageBackend>(found: &mut impl Iterator<Item = B::FloatTensorPrimitive>) -> EdgePrimitives<B> {
    let mut next = || found.next().expect("an order of this op has these outputs");
    EdgePrimitives { edge_vec: next(), edge_grad: next() }
}

/// Submits the kernels of an order; its outputs in their order.
fn launch<R, T, B, I>(
    list: &ListPrimitives<B>,
    tensors: Vec<CubeTensor<R>>,
    plan: &ScatterPlan,
) -> Result<Vec<CubeTensor<R>>, LaunchError>
where
    R: CubeKernels,
    T: Element,
    B: FusedMessageBackend<FloatTensorPrimitive = CubeTensor<R>, IntTensorPrimitive = CubeTensor<R>>,
    I: OrderInputs<T>,
{
    let ScatterPlan { device: id, n_atoms, n_systems, n_edges, .. } = plan;
    let (client, device) = (tensors[0].client.clone(), tensors[0].device.clone());
    let [sender_ptr, transpose] = match &list.by_sender {
        Some([sender_ptr, transpose, _]) => [Some(sender_ptr.clone()), Some(transpose.clone())],
        None => [None, None],
    };
    let lists = [
        indices(list.row_ptr.clone()),
        indices(list.sender.clone()),
        indices(list.system_ptr.clone()),
        sender_ptr.and_then(indices),
        transpose.and_then(indices),
    ];
    let sizes = Sizes { n_atoms: *n_atoms, n_systems: *n_systems, n_edges: *n_edges };
    let tensors = tensors.into_iter().map(|tensor| buffer(Some(tensor))).collect();
    let config = plan.config(<I::Op as ff_spec::Op>::ORDER);
    // SAFETY: shapes, dtypes and devices of every tensor were checked, and so were `Graph` and `Systems`.
    let launch = unsafe {
        CubeLaunch::<R, T, I>::from_handles(&client, id, plan.registered()?.variant(), sizes, lists, tensors, config)
    }?;
    let (sums, edges) = ([vec![*n_atoms, 3], vec![*n_systems, 3, 3]], [vec![*n_edges, 3], vec![*n_edges, 3]]);
    let shapes = match <I::Op as ff_spec::Op>::ORDER {
        0 => sums.to_vec(),
        1 => edges.to_vec(),
        _ => [sums, edges].concat(),
    };
    let outputs = launch.into_outputs().into_iter().zip(shapes).map(|(handle, shape)| {
        let shape = Shape::from(shape);
        CubeTensor::new_contiguous(client.clone(), device.clone(), shape, handle, burn_dtype(plan.dtype))
    });
    Ok(outputs.collect())
}
