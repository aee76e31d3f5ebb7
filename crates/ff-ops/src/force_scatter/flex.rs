//! The host kernels on Flex tensors, read where they lie.

use std::sync::Arc;

use burn::tensor::Element;
use burn_flex::{Flex, FlexTensor};
use ff_kernels::SenderList;
use ff_kernels::force_scatter::host::{Call, Cotangents, Tangent};
use ff_kernels::force_scatter::{HostElement, host_config};
use ff_spec::force_scatter::{DoubleGradients, Gradients, Outputs};
use ff_spec::{Dtype, LaunchError};

use super::{EdgePrimitives, ForceScatterBackend, ListPrimitives, ScatterPlan, SumPrimitives};
use crate::flex::{indices, tensor};

/// Calls `$function` with the element type of a plan.
macro_rules! by_dtype {
    ($plan:expr, $function:ident($($argument:expr),*)) => {
        match $plan.dtype {
            Dtype::F32 => $function::<f32>($($argument),*),
            Dtype::F64 => $function::<f64>($($argument),*),
        }
    };
}

impl ForceScatterBackend for Flex {
    const SCATTER_ORDER: u8 = 2;

    fn edge_differences(
        list: &ListPrimitives<Self>,
        positions: FlexTensor,
        plan: &Arc<ScatterPlan>,
    ) -> Result<FlexTensor, LaunchError> {
        by_dtype!(plan, edge_differences(list, &positions, plan))
    }

    fn edge_sums(
        list: &ListPrimitives<Self>,
        grad: FlexTensor,
        plan: &Arc<ScatterPlan>,
    ) -> Result<FlexTensor, LaunchError> {
        by_dtype!(plan, edge_sums(list, &grad, plan))
    }

    fn force_scatter(
        list: &ListPrimitives<Self>,
        edges: EdgePrimitives<Self>,
        plan: &Arc<ScatterPlan>,
    ) -> Result<SumPrimitives<Self>, LaunchError> {
        by_dtype!(plan, forward(list, &edges, plan))
    }

    fn force_scatter_backward(
        list: &ListPrimitives<Self>,
        edges: EdgePrimitives<Self>,
        grad: SumPrimitives<Self>,
        plan: &Arc<ScatterPlan>,
    ) -> Result<EdgePrimitives<Self>, LaunchError> {
        by_dtype!(plan, backward(list, &edges, &grad, plan))
    }

    fn force_scatter_double_backward(
        list: &ListPrimitives<Self>,
        edges: EdgePrimitives<Self>,
        grad: SumPrimitives<Self>,
        tangent: EdgePrimitives<Self>,
        plan: &Arc<ScatterPlan>,
    ) -> Result<(SumPrimitives<Self>, EdgePrimitives<Self>), LaunchError> {
        by_dtype!(plan, double_backward(list, &edges, &grad, &tangent, plan))
    }
}

/// A list as the host kernels read it.
struct List<'a> {
    indices: &'a [Vec<u32>; 2],
    senders: &'a SenderList,
    system_ptr: Vec<u32>,
}

impl<'a> List<'a> {
    fn new(list: &'a ListPrimitives<Flex>) -> Self {
        Self { system_ptr: indices(&list.system_ptr), ..Self::without_systems(list) }
    }

    /// Of no system: the kernels sum no strain.
    fn without_systems(list: &'a ListPrimitives<Flex>) -> Self {
        let read = list.host.indices(|| [&list.row_ptr, &list.sender].map(indices));
        Self { indices: read, senders: list.host.senders(read), system_ptr: vec![0] }
    }

    fn call<'b, T>(&'b self, edge_vec: &'b [T], edge_grad: &'b [T]) -> Call<'b, T> {
        let Self { indices: [row_ptr, sender], senders, system_ptr } = self;
        Call { row_ptr, sender, edge_vec, edge_grad, system_ptr, senders }
    }
}

/// Two tensors of one call, contiguous.
struct Two([FlexTensor; 2]);

impl Two {
    fn edges(edges: &EdgePrimitives<Flex>) -> Self {
        Self([&edges.edge_vec, &edges.edge_grad].map(FlexTensor::to_contiguous))
    }

    fn sums(sums: &SumPrimitives<Flex>) -> Self {
        Self([&sums.forces, &sums.strain].map(FlexTensor::to_contiguous))
    }

    fn values<T: HostElement + Element>(&self) -> [&[T]; 2] {
        self.0.each_ref().map(|tensor| tensor.storage::<T>())
    }
}

fn room<T: HostElement>(plan: &ScatterPlan) -> (Outputs<T>, Gradients<T>) {
    let zeros = |len: usize| vec![T::default(); len];
    let sums = Outputs { forces: zeros(3 * plan.n_atoms), strain: zeros(9 * plan.n_systems) };
    (sums, Gradients { edge_vec: zeros(3 * plan.n_edges), edge_grad: zeros(3 * plan.n_edges) })
}

fn sums<T: Element>(found: Outputs<T>, plan: &ScatterPlan) -> SumPrimitives<Flex> {
    SumPrimitives {
        forces: tensor(found.forces, &[plan.n_atoms, 3]),
        strain: tensor(found.strain, &[plan.n_systems, 3, 3]),
    }
}

fn edges<T: Element>(found: Gradients<T>, plan: &ScatterPlan) -> EdgePrimitives<Flex> {
    let shape = [plan.n_edges, 3];
    EdgePrimitives { edge_vec: tensor(found.edge_vec, &shape), edge_grad: tensor(found.edge_grad, &shape) }
}

/// The first backward with F̄ = −x: ḡ_ij = −x_i + x_j.
fn edge_differences<T: HostElement + Element>(
    list: &ListPrimitives<Flex>,
    positions: &FlexTensor,
    plan: &ScatterPlan,
) -> Result<FlexTensor, LaunchError> {
    let list = List::new(list);
    let forces: Vec<T> = positions.to_contiguous().storage::<T>().iter().map(|x| T::from_f64(-x.to_f64())).collect();
    let (zeros, strain) = (vec![T::default(); 3 * plan.n_edges], vec![T::default(); 9 * plan.n_systems]);
    let (_, mut out) = room(plan);
    let grad = Cotangents { forces: &forces, strain: &strain };
    T::backward(&list.call(&zeros, &zeros), &grad, &host_config(plan.config(1))?, &mut out);
    Ok(tensor(out.edge_grad, &[plan.n_edges, 3]))
}

/// The forces of these gradients with the other sign.
fn edge_sums<T: HostElement + Element>(
    list: &ListPrimitives<Flex>,
    grad: &FlexTensor,
    plan: &ScatterPlan,
) -> Result<FlexTensor, LaunchError> {
    let (list, grad) = (List::without_systems(list), grad.to_contiguous());
    let edges = grad.storage::<T>();
    let mut out = Outputs { forces: vec![T::default(); 3 * plan.n_atoms], strain: Vec::new() };
    let reduction = plan.registered()?.reduction;
    T::forward(&list.call(edges, edges), reduction, &host_config(plan.config(0))?, &mut out);
    let sums = out.forces.into_iter().map(|x| T::from_f64(-x.to_f64())).collect();
    Ok(tensor(sums, &[plan.n_atoms, 3]))
}

fn forward<T: HostElement + Element>(
    list: &ListPrimitives<Flex>,
    inputs: &EdgePrimitives<Flex>,
    plan: &ScatterPlan,
) -> Result<SumPrimitives<Flex>, LaunchError> {
    let (list, inputs) = (List::new(list), Two::edges(inputs));
    let [edge_vec, edge_grad] = inputs.values::<T>();
    let (mut out, _) = room(plan);
    let reduction = plan.registered()?.reduction;
    T::forward(&list.call(edge_vec, edge_grad), reduction, &host_config(plan.config(0))?, &mut out);
    Ok(sums(out, plan))
}

fn backward<T: HostElement + Element>(
    list: &ListPrimitives<Flex>,
    inputs: &EdgePrimitives<Flex>,
    grad: &SumPrimitives<Flex>,
    plan: &ScatterPlan,
) -> Result<EdgePrimitives<Flex>, LaunchError> {
    let (list, inputs, grad) = (List::new(list), Two::edges(inputs), Two::sums(grad));
    let ([edge_vec, edge_grad], [forces, strain]) = (inputs.values::<T>(), grad.values::<T>());
    let (_, mut out) = room(plan);
    let config = host_config(plan.config(1))?;
    T::backward(&list.call(edge_vec, edge_grad), &Cotangents { forces, strain }, &config, &mut out);
    Ok(edges(out, plan))
}

fn double_backward<T: HostElement + Element>(
    list: &ListPrimitives<Flex>,
    inputs: &EdgePrimitives<Flex>,
    grad: &SumPrimitives<Flex>,
    tangent: &EdgePrimitives<Flex>,
    plan: &ScatterPlan,
) -> Result<(SumPrimitives<Flex>, EdgePrimitives<Flex>), LaunchError> {
    let (list, inputs, grad, tangent) = (List::new(list), Two::edges(inputs), Two::sums(grad), Two::edges(tangent));
    let ([edge_vec, edge_grad], [forces, strain]) = (inputs.values::<T>(), grad.values::<T>());
    let [t_vec, t_grad] = tangent.values::<T>();
    let (sum, gradients) = room(plan);
    let mut out = DoubleGradients { grad: sum, gradients };
    let (reduction, config) = (plan.registered()?.reduction, host_config(plan.config(2))?);
    let tangent = Tangent { edge_vec: t_vec, edge_grad: t_grad };
    T::double_backward(
        &list.call(edge_vec, edge_grad),
        &Cotangents { forces, strain },
        &tangent,
        reduction,
        &config,
        &mut out,
    );
    Ok((sums(out.grad, plan), edges(out.gradients, plan)))
}
