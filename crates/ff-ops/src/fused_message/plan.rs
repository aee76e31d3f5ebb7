//! From a call on tensors to the kernel that it launches, and how.

use std::fmt;
use std::sync::Arc;

use burn::tensor::Tensor;
use ff_kernels::fused_message::{Registered, cube_config, default_backward_config, default_config, find, host_config};
use ff_spec::fused_message::{FilterSizes, Message as MessageKind, OP, Radial, Reduction, Sizes, Variant};
use ff_spec::{DeviceId, Dtype, LaunchConfig, LaunchError, RuntimeKind, TuneKey};
use ff_tables::{Query, Selection, Table, select};

use super::primitives::{KeptFilter, KeptRadial, Primitives};
use super::{Features, FilterTensors, FusedMessageBackend, Message};
use crate::call::{Context, OpError, check_support, primitive, tensor};
use crate::graph::Graph;

/// What does not depend on the tensors of a call, checked.
#[derive(Clone)]
pub(super) struct Kind {
    pub registered: &'static Registered,
    pub variant: Variant,
    pub radial: Radial<f64>,
    pub device: DeviceId,
}

impl Kind {
    /// The kernels of a variant on a device, with the parameters of its radial functions.
    ///
    /// # Errors
    /// [`LaunchError::UnknownVariant`], and [`OpError::Input`] for parameters that are not the variant's.
    pub fn new(variant: &Variant, radial: &Radial<f64>, device: DeviceId) -> Result<Self, OpError> {
        let registered = find(variant).ok_or_else(|| LaunchError::UnknownVariant(variant.id()))?;
        registered.check_radial(radial)?;
        Ok(Self { registered, variant: variant.clone(), radial: radial.clone(), device })
    }

    /// The configuration of a derivative order: the nearest of the tables that this device can launch, else the default.
    pub fn choose(&self, order: u8, dtype: Dtype, sizes: &Sizes, tables: &[Table]) -> Choice {
        let Self { variant, device, .. } = self;
        let problem = sizes.problem("");
        let query = Query {
            op: OP,
            device,
            template_hash: ff_kernels::generated::FUSED_MESSAGE_TEMPLATE_HASH,
            key: &TuneKey::new(&variant.family(), order, dtype, &problem),
        };
        let selection = select(tables, query, |config| match device.runtime {
            RuntimeKind::Host => host_config(config).is_ok(),
            _ => cube_config(variant, dtype, sizes, &device.limits, config).is_ok(),
        });
        let default = || match order {
            0 => default_config(device, variant, dtype, &problem),
            _ => default_backward_config(device, variant, order, dtype, &problem),
        };
        Choice { config: selection.config.clone().unwrap_or_else(default), selection }
    }
}

/// A launch configuration, and how it was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    /// What the kernel is launched with.
    pub config: LaunchConfig,
    /// Exact device, same architecture or default, and why.
    pub selection: Selection,
}

/// Which kernel a call launches, and how; only this crate makes it.
#[derive(Clone)]
pub struct Plan {
    pub(super) kind: Arc<Kind>,
    pub(super) dtype: Dtype,
    pub(super) sizes: Sizes,
    /// By derivative order; those of the backwards where there may be one.
    pub(super) chosen: Arc<[Choice]>,
}

impl Plan {
    /// The configuration of a derivative order.
    pub(super) fn config(&self, order: u8) -> &LaunchConfig {
        &self.chosen[usize::from(order)].config
    }
}

impl fmt::Debug for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in {}", self.kind.registered.id, self.dtype)?;
        self.chosen
            .iter()
            .enumerate()
            .try_for_each(|(order, choice)| write!(f, ", order {order} with {}", choice.config))
    }
}

/// Checks features [n_atoms, C] and [n_atoms, 3, F] for a graph, and that the graph lies where they do.
pub(super) fn check_features<B: FusedMessageBackend>(
    context: &Context<B::Device>,
    graph: &Graph<B>,
    features: &Features<B>,
    message: MessageKind,
) -> Result<(), OpError> {
    let n_atoms = graph.n_atoms();
    let [found_atoms, width] = features.nodes.dims();
    let parts = message.parts();
    if found_atoms != n_atoms || !width.is_multiple_of(parts) {
        let columns = if parts == 1 { "F" } else { "3F" };
        let expected = format!("[n_atoms = {n_atoms}, {columns}]");
        return Err(OpError::Shape { tensor: "nodes", found: vec![found_atoms, width], expected });
    }
    graph.check(context)?;
    check_vectors(context, "mu", &features.vectors, [n_atoms, 3, width / parts], message)
}

/// Checks that there are vectors [n_atoms, 3, F] where the message has some.
pub(super) fn check_vectors<B: FusedMessageBackend>(
    context: &Context<B::Device>,
    name: &'static str,
    vectors: &Option<Tensor<B, 3>>,
    shape: [usize; 3],
    message: MessageKind,
) -> Result<(), OpError> {
    let wrong = |expected, found| Err(OpError::Vectors { tensor: name, message: message.name(), expected, found });
    match (vectors, message) {
        (None, MessageKind::Cfconv) => Ok(()),
        (Some(vectors), MessageKind::Painn) => context.float(name, vectors, shape, "n_atoms, 3, F"),
        (None, MessageKind::Painn) => wrong("reads", "none"),
        (Some(_), MessageKind::Cfconv) => wrong("does not read", "a tensor"),
    }
}

/// The sizes of a call, whose tensors were checked.
///
/// # Errors
/// [`OpError`] for what kernels cannot index, for a filter of another variant and for what the device lacks.
pub(super) fn sizes<B: FusedMessageBackend>(
    kind: &Kind,
    dtype: Dtype,
    graph: &Graph<B>,
    features: &Features<B>,
    filter: FilterSizes,
) -> Result<Sizes, OpError> {
    let sizes = Sizes {
        message: kind.variant.message,
        n_atoms: graph.n_atoms(),
        n_edges: graph.n_edges(),
        features: features.nodes.dims()[1] / kind.variant.message.parts(),
        n_basis: kind.radial.n_basis,
        filter,
    };
    sizes.check()?;
    check_support(&kind.device, dtype, kind.variant.reduction == Reduction::EdgeAtomic)?;
    Ok(sizes)
}

/// The tensors of a call, with what a layer and a filter keep.
pub(super) fn primitives<B: FusedMessageBackend>(
    graph: &Graph<B>,
    features: Features<B>,
    filter: &FilterTensors<B>,
    kept: (&KeptRadial<B>, &KeptFilter<B>),
) -> Primitives<B> {
    Primitives {
        row_ptr: graph.row_ptr().clone().into_primitive(),
        sender: graph.sender().clone().into_primitive(),
        edge_vec: primitive(graph.edge_vec().clone()),
        nodes: primitive(features.nodes),
        vectors: features.vectors.map(primitive),
        filter: filter.primitives(),
        host: graph.host().clone(),
        by_sender: graph.by_sender().clone(),
        kept_radial: kept.0.clone(),
        kept_filter: kept.1.clone(),
    }
}

/// Launches the forward.
pub(super) fn launch<B: FusedMessageBackend>(inputs: Primitives<B>, plan: Plan) -> Result<Message<B>, OpError> {
    let chosen = plan.chosen.clone();
    let message = B::fused_message(inputs, &Arc::new(plan))?;
    Ok(Message { nodes: tensor(message.nodes), vectors: message.vectors.map(tensor), chosen })
}
