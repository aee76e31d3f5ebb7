//! Edge vectors from positions, and forces and strain derivatives from gradients in edge vectors, on Burn tensors.
//!
//! The two are each other's gradients: [`edge_vec`] gathers over the edges what [`force_scatter`] sums into the atoms. On
//! `Autodiff<B>` both are nodes of Burn's graph, so forces come from Burn's backward or, where the gradients in edge vectors
//! are at hand, from [`force_scatter`]; on `Autodiff<Autodiff<B>>` a loss on either has gradients in turn. The neighbour
//! list is fixed in every backward.
//!
//! Shapes and units are those of [`ff_spec::force_scatter`]; the maths is in `ops.md`.

mod autodiff;
mod cube;
mod flex;
#[cfg(feature = "fusion")]
mod fusion;

use std::sync::Arc;

use burn::tensor::ops::{FloatTensor, IntTensor};
use burn::tensor::{Int, Tensor};
use ff_kernels::force_scatter::{Registered, cube_config, default_config, find, host_config};
use ff_spec::force_scatter::{OP, Reduction, Variant};
use ff_spec::{DeviceId, Dtype, LaunchConfig, LaunchError, Problem, RuntimeKind, TuneKey};
use ff_tables::{Query, Table, select};

use crate::call::{Context, OpError, check_indices, check_support, primitive, tensor};
use crate::fused_message::FusedMessageBackend;
use crate::graph::{Graph, HostList, by_sender};

/// A backend that carries the kernels of `force_scatter`.
pub trait ForceScatterBackend: FusedMessageBackend {
    /// The highest order of derivatives that there are kernels for.
    const SCATTER_ORDER: u8;

    /// x_sender − x_receiver of `positions` [n_atoms, 3] for every edge, [n_edges, 3].
    ///
    /// # Errors
    /// [`LaunchError`] for what the device refuses.
    fn edge_differences(
        list: &ListPrimitives<Self>,
        positions: FloatTensor<Self>,
        plan: &Arc<ScatterPlan>,
    ) -> Result<FloatTensor<Self>, LaunchError>;

    /// Σ over the edges that an atom sends − Σ over those it receives of `grad` [n_edges, 3], [n_atoms, 3]: the transpose of
    /// [`ForceScatterBackend::edge_differences`].
    ///
    /// # Errors
    /// As [`ForceScatterBackend::edge_differences`].
    fn edge_sums(
        list: &ListPrimitives<Self>,
        grad: FloatTensor<Self>,
        plan: &Arc<ScatterPlan>,
    ) -> Result<FloatTensor<Self>, LaunchError>;

    /// Forces [n_atoms, 3] and strain derivatives [n_systems, 3, 3].
    ///
    /// # Errors
    /// As [`ForceScatterBackend::edge_differences`].
    fn force_scatter(
        list: &ListPrimitives<Self>,
        edges: EdgePrimitives<Self>,
        plan: &Arc<ScatterPlan>,
    ) -> Result<SumPrimitives<Self>, LaunchError>;

    /// The first backward: gradients in edge vectors and edge gradients, from those in the sums.
    ///
    /// # Errors
    /// As [`ForceScatterBackend::edge_differences`].
    fn force_scatter_backward(
        list: &ListPrimitives<Self>,
        edges: EdgePrimitives<Self>,
        grad: SumPrimitives<Self>,
        plan: &Arc<ScatterPlan>,
    ) -> Result<EdgePrimitives<Self>, LaunchError>;

    /// The second backward: from gradients `tangent` in those of the first, gradients in `grad` and in `edges`.
    ///
    /// # Errors
    /// As [`ForceScatterBackend::edge_differences`], and [`LaunchError::Unsupported`] where
    /// [`ForceScatterBackend::SCATTER_ORDER`] is less than 2.
    fn force_scatter_double_backward(
        list: &ListPrimitives<Self>,
        edges: EdgePrimitives<Self>,
        grad: SumPrimitives<Self>,
        tangent: EdgePrimitives<Self>,
        plan: &Arc<ScatterPlan>,
    ) -> Result<(SumPrimitives<Self>, EdgePrimitives<Self>), LaunchError>;
}

/// A checked neighbour list with its systems.
#[derive(Clone, Debug)]
pub struct ListPrimitives<B: FusedMessageBackend> {
    row_ptr: IntTensor<B>,
    sender: IntTensor<B>,
    system_ptr: IntTensor<B>,
    /// Kept with the graph.
    host: Arc<HostList>,
    /// `sender_ptr`, `transpose` and `receiver` on a device, which the cube kernels read where sums are gathered.
    by_sender: Option<[IntTensor<B>; 3]>,
}

/// Edge vectors and gradients in them, or what else edges have two of, [n_edges, 3] each.
#[derive(Clone, Debug)]
pub struct EdgePrimitives<B: FusedMessageBackend> {
    /// r_e, Å.
    pub edge_vec: FloatTensor<B>,
    /// ∂E/∂r_e, eV/Å.
    pub edge_grad: FloatTensor<B>,
}

/// What edges are summed into.
#[derive(Clone, Debug)]
pub struct SumPrimitives<B: FusedMessageBackend> {
    /// [n_atoms, 3], eV/Å.
    pub forces: FloatTensor<B>,
    /// [n_systems, 3, 3], eV.
    pub strain: FloatTensor<B>,
}

impl<B: FusedMessageBackend> ListPrimitives<B> {
    /// The same list on another backend.
    pub(crate) fn map<C: FusedMessageBackend>(
        self,
        mut int: impl FnMut(IntTensor<B>) -> IntTensor<C>,
    ) -> ListPrimitives<C> {
        ListPrimitives {
            row_ptr: int(self.row_ptr),
            sender: int(self.sender),
            system_ptr: int(self.system_ptr),
            host: self.host,
            by_sender: self.by_sender.map(|list| list.map(int)),
        }
    }
}

impl<B: FusedMessageBackend> EdgePrimitives<B> {
    pub(crate) fn map<C: FusedMessageBackend>(
        self,
        mut float: impl FnMut(FloatTensor<B>) -> FloatTensor<C>,
    ) -> EdgePrimitives<C> {
        EdgePrimitives { edge_vec: float(self.edge_vec), edge_grad: float(self.edge_grad) }
    }
}

impl<B: FusedMessageBackend> SumPrimitives<B> {
    pub(crate) fn map<C: FusedMessageBackend>(
        self,
        mut float: impl FnMut(FloatTensor<B>) -> FloatTensor<C>,
    ) -> SumPrimitives<C> {
        SumPrimitives { forces: float(self.forces), strain: float(self.strain) }
    }
}

/// Which kernel a call launches, and how.
#[derive(Clone, Debug)]
pub struct ScatterPlan {
    device: DeviceId,
    variant: Variant,
    dtype: Dtype,
    /// By derivative order.
    configs: [LaunchConfig; 3],
    n_atoms: usize,
    n_systems: usize,
    n_edges: usize,
}

impl ScatterPlan {
    fn registered(&self) -> Result<&'static Registered, LaunchError> {
        find(&self.variant).ok_or_else(|| LaunchError::UnknownVariant(self.variant.id()))
    }

    /// The configuration of a derivative order.
    fn config(&self, order: u8) -> &LaunchConfig {
        &self.configs[usize::from(order)]
    }
}

/// What a call is asked to use.
#[derive(Clone, Copy, Debug)]
pub struct ScatterOptions<'a> {
    /// The kernel variant.
    pub variant: Variant,
    /// The tuning tables at hand, of which each order takes entries of its own; none means the default configurations.
    pub tables: &'a [Table],
}

/// Atoms of each system as `system_ptr` [n_systems + 1], of a list whose edges join atoms of one system.
///
/// The atoms of a system follow one another, in the order of the systems. It is checked when it is made.
#[derive(Clone, Debug)]
pub struct Systems<B: FusedMessageBackend> {
    n_atoms: usize,
    system_ptr: Tensor<B, 1, Int>,
    /// The system of each edge, [n_edges].
    of_edges: Tensor<B, 1, Int>,
}

impl<B: FusedMessageBackend> Systems<B> {
    /// `n_atoms` [n_systems] counts the atoms of each system of `graph`, whose list is read back where nobody has checked it.
    ///
    /// # Errors
    /// [`OpError`] where the atoms are not those of the graph or an edge joins two systems.
    pub fn new(graph: &Graph<B>, n_atoms: &[usize]) -> Result<Self, OpError> {
        let total: usize = n_atoms.iter().sum();
        if total != graph.n_atoms() {
            let expected = format!("counts that sum to n_atoms = {}", graph.n_atoms());
            return Err(OpError::Shape { tensor: "system_ptr", found: vec![total], expected });
        }
        let [row_ptr, sender] = graph.read_list()?;
        let mut system_ptr = vec![0u32];
        let mut of_atoms = Vec::with_capacity(total);
        for (system, n) in n_atoms.iter().enumerate() {
            of_atoms.extend(std::iter::repeat_n(system as i64, *n));
            system_ptr.push(of_atoms.len() as u32);
        }
        let mut of_edges = Vec::with_capacity(sender.len());
        for (atom, row) in row_ptr.windows(2).enumerate() {
            for edge in row[0]..row[1] {
                let (system, other) = (of_atoms[atom], of_atoms[sender[edge as usize] as usize]);
                if system != other {
                    return Err(OpError::Systems {
                        edge: edge as usize,
                        receiver: system as usize,
                        sender: other as usize,
                    });
                }
                of_edges.push(system);
            }
        }
        let device = graph.edge_vec().device();
        let indices = |values: Vec<i64>| Tensor::<B, 1, Int>::from_data(&values[..], &device);
        let system_ptr = indices(system_ptr.into_iter().map(i64::from).collect());
        Ok(Self { n_atoms: total, system_ptr, of_edges: indices(of_edges) })
    }

    /// Those of a list that a kernel built.
    pub(crate) fn of_list(n_atoms: usize, system_ptr: Tensor<B, 1, Int>, of_edges: Tensor<B, 1, Int>) -> Self {
        Self { n_atoms, system_ptr, of_edges }
    }

    /// Checks that they are of as many atoms and edges as `graph`, and on the device of a call: kernels index with them.
    fn check(&self, graph: &Graph<B>, context: &Context<B::Device>) -> Result<(), OpError> {
        context.device("system_ptr", &self.system_ptr.device())?;
        let n_edges = self.of_edges.dims()[0];
        let sizes = [("systems' atoms", self.n_atoms, graph.n_atoms()), ("systems' edges", n_edges, graph.n_edges())];
        match sizes.into_iter().find(|(_, found, expected)| found != expected) {
            Some((tensor, found, expected)) => {
                let expected = format!("[{expected}] as the graph: they were made for another list");
                Err(OpError::Shape { tensor, found: vec![found], expected })
            }
            None => Ok(()),
        }
    }

    /// Systems.
    pub fn n_systems(&self) -> usize {
        self.system_ptr.dims()[0] - 1
    }

    /// The system of each edge, [n_edges].
    pub fn of_edges(&self) -> &Tensor<B, 1, Int> {
        &self.of_edges
    }
}

/// r_ij = x_j − x_i + S·H of every edge of `graph`, [n_edges, 3] in Å.
///
/// `positions` is [n_atoms, 3] in Å; `offset` holds S·H of each edge, [n_edges, 3] in Å, and may depend on tensors itself. None
/// stands for open systems. It runs under the default configuration of [`force_scatter`].
///
/// # Errors
/// [`OpError`] for the first thing that does not fit.
pub fn edge_vec<B: ForceScatterBackend>(
    graph: &Graph<B>,
    positions: Tensor<B, 2>,
    offset: Option<Tensor<B, 2>>,
) -> Result<Tensor<B, 2>, OpError> {
    let context = Context::of("positions", &positions)?;
    graph.check_list(&context)?;
    context.float("positions", &positions, [graph.n_atoms(), 3], "n_atoms, 3")?;
    if let Some(offset) = &offset {
        context.float("offset", offset, [graph.n_edges(), 3], "n_edges, 3")?;
    }
    // One system will do: nothing is summed over it.
    let system_ptr = Tensor::from_primitive(graph.whole());
    let options = ScatterOptions { variant: Variant { reduction: Reduction::Gather }, tables: &[] };
    let (list, plan) = call::<B>(graph, system_ptr, &options, context.dtype)?;
    let differences = tensor::<B, 2>(B::edge_differences(&list, primitive(positions), &plan)?);
    Ok(match offset {
        Some(offset) => differences + offset,
        None => differences,
    })
}

/// Edge vectors [n_edges, 3] under a strain ε of each system, [n_systems, 3, 3]: r_e (1 + ε).
///
/// With ε = 0 tracked, the gradient in it is the strain derivative of an energy; divided by the volume, its stress.
///
/// # Errors
/// [`OpError`] where shapes, dtypes or devices do not fit together.
pub fn strained<B: FusedMessageBackend>(
    edge_vec: Tensor<B, 2>,
    strain: Tensor<B, 3>,
    systems: &Systems<B>,
) -> Result<Tensor<B, 2>, OpError> {
    let context = Context::of("edge_vec", &edge_vec)?;
    let n_edges = systems.of_edges.dims()[0];
    context.float("edge_vec", &edge_vec, [n_edges, 3], "n_edges, 3")?;
    context.float("strain", &strain, [systems.n_systems(), 3, 3], "n_systems, 3, 3")?;
    context.device("system of each edge", &systems.of_edges.device())?;
    let of_edges = strain.select(0, systems.of_edges.clone());
    let change = edge_vec.clone().unsqueeze_dim::<3>(1).matmul(of_edges).squeeze_dim::<2>(1);
    Ok(edge_vec + change)
}

/// What edges are summed into.
#[derive(Clone, Debug)]
pub struct Forces<B: FusedMessageBackend> {
    /// F_i = −∂E/∂x_i, [n_atoms, 3], eV/Å.
    pub forces: Tensor<B, 2>,
    /// ∂E/∂ε, symmetric, [n_systems, 3, 3], eV.
    pub strain: Tensor<B, 3>,
}

/// Forces and strain derivatives from the gradients `edge_grad` = ∂E/∂r_e [n_edges, 3] in eV/Å in the edge vectors of `graph`.
///
/// # Errors
/// [`OpError`] for the first thing that does not fit; [`LaunchError::Unsupported`] for a reduction that the device has not.
pub fn force_scatter<B: ForceScatterBackend>(
    graph: &Graph<B>,
    edge_grad: Tensor<B, 2>,
    systems: &Systems<B>,
    options: &ScatterOptions<'_>,
) -> Result<Forces<B>, OpError> {
    let context = Context::of("edge_grad", &edge_grad)?;
    graph.check_list(&context)?;
    let shape = [graph.n_edges(), 3];
    context.float("edge_grad", &edge_grad, shape, "n_edges, 3")?;
    context.float("edge_vec", graph.edge_vec(), shape, "n_edges, 3")?;
    systems.check(graph, &context)?;
    let (list, plan) = call::<B>(graph, systems.system_ptr.clone(), options, context.dtype)?;
    let edges = EdgePrimitives { edge_vec: primitive(graph.edge_vec().clone()), edge_grad: primitive(edge_grad) };
    let SumPrimitives { forces, strain } = B::force_scatter(&list, edges, &plan)?;
    Ok(Forces { forces: tensor(forces), strain: tensor(strain) })
}

fn call<B: FusedMessageBackend>(
    graph: &Graph<B>,
    system_ptr: Tensor<B, 1, Int>,
    &ScatterOptions { variant, tables }: &ScatterOptions<'_>,
    dtype: Dtype,
) -> Result<(ListPrimitives<B>, Arc<ScatterPlan>), OpError> {
    let (n_atoms, n_edges, n_systems) = (graph.n_atoms(), graph.n_edges(), system_ptr.dims()[0] - 1);
    check_indices("3 × n_edges", n_edges.saturating_mul(3))?;
    let device = B::device_id(&system_ptr.device());
    check_support(&device, dtype, variant.reduction == Reduction::Atomic)?;
    let problem = Problem {
        name: String::new(),
        n_atoms: n_atoms as u64,
        n_systems: n_systems as u64,
        n_edges: n_edges as u64,
        // Configurations do not depend on the rest, and no table is keyed by it.
        ..Problem::default()
    };
    let (row_ptr, sender) = (graph.row_ptr().clone().into_primitive(), graph.sender().clone().into_primitive());
    let by_sender = match (device.runtime, variant.reduction) {
        (RuntimeKind::Host, _) | (_, Reduction::Atomic) => None,
        _ => Some(by_sender::<B>(graph.by_sender(), graph.host(), &row_ptr, &sender)?),
    };
    let list = ListPrimitives {
        row_ptr,
        sender,
        system_ptr: system_ptr.into_primitive(),
        host: graph.host().clone(),
        by_sender,
    };
    let configs = [0, 1, 2].map(|order| {
        let default = || default_config(&device, &variant, dtype, &problem);
        if tables.is_empty() {
            return default();
        }
        let query = Query {
            op: OP,
            device: &device,
            template_hash: ff_kernels::generated::FORCE_SCATTER_TEMPLATE_HASH,
            key: &TuneKey::new(&variant.id(), order, dtype, &problem),
        };
        let selection = select(tables, query, |config| match device.runtime {
            RuntimeKind::Host => host_config(config).is_ok(),
            _ => cube_config(&device.limits, dtype, config).is_ok(),
        });
        selection.config.unwrap_or_else(default)
    });
    Ok((list, Arc::new(ScatterPlan { device, variant, dtype, configs, n_atoms, n_systems, n_edges })))
}

#[cfg(test)]
mod tests;
