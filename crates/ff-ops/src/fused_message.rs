//! `fused_message` on Burn tensors: radial basis, filter, message and scatter in one kernel, and its gradients.
//!
//! On `Autodiff<B>` the op is a node of Burn's graph whose backward is itself a fused kernel, with gradients in features,
//! edge vectors and weights; nothing of size n_edges × F is kept for it. On `Autodiff<Autodiff<B>>` that backward is a node
//! as well, so that a loss on forces has gradients in the weights. What a backend has kernels for is
//! [`FusedMessageBackend::ORDER`]; tracking a tensor beyond that is an error where the op is called.
//!
//! [`fused_message`] is one call. A model that calls again and again keeps a [`Layer`], which does once what does not change
//! between calls, and whose backwards can be had without a graph.
//!
//! Shapes and units are those of [`ff_spec::fused_message`]; the maths is in `ops.md`.

mod autodiff;
pub(crate) mod cube;
mod filter;
mod flex;
#[cfg(feature = "fusion")]
mod fusion;
mod layer;
mod plan;
mod primitives;

use std::fmt::Debug;
use std::sync::Arc;

use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use ff_spec::fused_message::{Radial, Sizes, Variant, Wanted};
use ff_spec::{DeviceId, LaunchError};
use ff_tables::Table;

pub use cube::CubeKernels;
pub use filter::FilterTensors;
pub use layer::{Layer, LoadedFilter, MessageDoubleGradients, MessageGradients};
pub use plan::{Choice, Plan};
pub use primitives::{PrimitiveDoubleGradients, PrimitiveGradients, PrimitiveMessage, Primitives};

use crate::call::Context;
pub use crate::call::OpError;
pub use crate::graph::Graph;
use plan::Kind;

/// A backend that carries the fused kernels: Flex by the host kernels, every `CubeBackend` by the cube kernels.
pub trait FusedMessageBackend: Backend {
    /// The highest order of derivatives that there are kernels for: with 1, `Autodiff<Self>` has gradients.
    const ORDER: u8;

    /// Radial parameters as the kernels read them, which a [`Layer`] keeps.
    type KeptRadial: Debug + Default + Send + Sync + 'static;

    /// What is made of a filter for the kernels, which a [`LoadedFilter`] keeps.
    type KeptFilter: Debug + Default + Send + Sync + 'static;

    /// The device as tuning tables name it. One that cannot be identified has an empty slug and is in no table.
    fn device_id(device: &Self::Device) -> DeviceId;

    /// Launches the planned kernel and does not wait for it. No intermediate has the size n_edges × F.
    ///
    /// # Errors
    /// [`LaunchError`] for what the device refuses; what it meets later shows where results are read.
    fn fused_message(inputs: Primitives<Self>, plan: &Arc<Plan>) -> Result<PrimitiveMessage<Self>, LaunchError>;

    /// The first backward: gradients in what is `wanted`, from those in the outputs.
    ///
    /// # Errors
    /// As [`FusedMessageBackend::fused_message`], and [`LaunchError::Unsupported`] where [`FusedMessageBackend::ORDER`] is 0.
    fn fused_message_backward(
        inputs: Primitives<Self>,
        grad: PrimitiveMessage<Self>,
        wanted: Wanted,
        plan: &Arc<Plan>,
    ) -> Result<PrimitiveGradients<Self>, LaunchError>;

    /// The second backward: from gradients `tangent` in those of the first, gradients in what is `wanted` of the inputs and
    /// in `grad`. What `tangent` lacks is zero.
    ///
    /// # Errors
    /// As [`FusedMessageBackend::fused_message`], and [`LaunchError::Unsupported`] where [`FusedMessageBackend::ORDER`] is
    /// less than 2.
    fn fused_message_double_backward(
        inputs: Primitives<Self>,
        grad: PrimitiveMessage<Self>,
        tangent: PrimitiveGradients<Self>,
        wanted: Wanted,
        plan: &Arc<Plan>,
    ) -> Result<PrimitiveDoubleGradients<Self>, LaunchError>;
}

/// What a call is asked to use.
#[derive(Clone, Copy, Debug)]
pub struct Options<'a> {
    /// The kernel variant.
    pub variant: &'a Variant,
    /// The tuning tables at hand; none means the default configuration.
    pub tables: &'a [Table],
}

/// Features of atoms, or cotangents of what a message is summed into.
#[derive(Clone, Debug)]
pub struct Features<B: Backend> {
    /// `x` [n_atoms, F] (cfconv) or `s` [n_atoms, 3F] (painn); a cotangent of `y` or `dq` is [n_atoms, F].
    pub nodes: Tensor<B, 2>,
    /// `mu`, or a cotangent of `dmu`, [n_atoms, 3, F] (painn only).
    pub vectors: Option<Tensor<B, 3>>,
}

/// What a call returns.
#[derive(Clone, Debug)]
pub struct Message<B: Backend> {
    /// `y` (cfconv) or `dq` (painn), [n_atoms, F].
    pub nodes: Tensor<B, 2>,
    /// `dmu` [n_atoms, 3, F] (painn).
    pub vectors: Option<Tensor<B, 3>>,
    /// The launch configuration of each derivative order, from the entries of its own: of the forward, and of both backwards
    /// where there may be any.
    pub chosen: Arc<[Choice]>,
}

/// Messages of all edges of `graph`, summed into their receivers.
///
/// `nodes` is `x` [n_atoms, F] (cfconv) or `s` [n_atoms, 3F] (painn), `vectors` is `mu` [n_atoms, 3, F] (painn only).
/// All floating-point tensors have one dtype, f32 or f64, and lie on one device. `radial` holds r_cut in Å and the
/// parameters of the radial functions that `options.variant` names; of a tabulated filter r_cut alone. The launch
/// configuration of every order is the nearest that the tables hold of that order for this device, else for its architecture,
/// else the default.
/// Finiteness of the tensors is not checked, as that would wait for the device.
///
/// # Errors
/// [`OpError`] for the first thing that does not fit.
pub fn fused_message<B: FusedMessageBackend>(
    graph: &Graph<B>,
    nodes: Tensor<B, 2>,
    vectors: Option<Tensor<B, 3>>,
    radial: &Radial<f64>,
    filter: &FilterTensors<B>,
    options: &Options<'_>,
) -> Result<Message<B>, OpError> {
    let features = Features { nodes, vectors };
    let context = Context::of("nodes", &features.nodes)?;
    let kind = Kind::new(options.variant, radial, B::device_id(&context.device))?;
    let message = options.variant.message;
    let of_variant = Sizes { message, n_atoms: 0, n_edges: 0, features: 0, n_basis: 0, filter: filter.sizes() };
    of_variant.check_variant(options.variant)?;
    plan::check_features(&context, graph, &features, message)?;
    filter.check(&context, radial.n_basis, features.nodes.dims()[1])?;
    let sizes = plan::sizes(&kind, context.dtype, graph, &features, filter.sizes())?;
    let orders = if B::ad_enabled(&context.device) { 0..3 } else { 0..1 };
    let chosen = orders.map(|order| kind.choose(order, context.dtype, &sizes, options.tables)).collect();
    let inputs = plan::primitives(graph, features, filter, (&Arc::default(), &Arc::default()));
    plan::launch(inputs, Plan { kind: Arc::new(kind), dtype: context.dtype, sizes, chosen })
}
