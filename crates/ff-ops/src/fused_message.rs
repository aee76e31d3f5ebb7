//! `fused_message` on Burn tensors: radial basis, filter, message and scatter in one kernel, and its gradients.
//!
//! On `Autodiff<B>` the op is a node of Burn's graph whose backward is itself a fused kernel, with gradients in features,
//! edge vectors and weights; nothing of size n_edges × F is kept for it. On `Autodiff<Autodiff<B>>` that backward is a node
//! as well, so that a loss on forces has gradients in the weights. What a backend has kernels for is
//! [`FusedMessageBackend::ORDER`]; tracking a tensor beyond that is an error where the op is called.
//!
//! Shapes and units are those of [`ff_spec::fused_message`]; the maths is in `ops.md`.

mod autodiff;
pub(crate) mod cube;
mod flex;
#[cfg(feature = "fusion")]
mod fusion;
mod inputs;

use std::sync::{Arc, OnceLock};

use burn::tensor::backend::Backend;
use burn::tensor::ops::{FloatTensor, IntTensor};
use burn::tensor::{Shape, Tensor, TensorMetadata, TensorPrimitive};
use ff_kernels::fused_message::host::ReceiverOrder;
use ff_kernels::fused_message::{
    Registered, SenderList, cube_config, default_backward_config, default_config, find, host_config,
};
use ff_spec::fused_message::{InputError, Inputs, Message as MessageKind, OP, Radial, Reduction, Variant, Wanted};
use ff_spec::{DeviceId, Dtype, LaunchConfig, LaunchError, Problem, RuntimeKind, TuneKey};
use ff_tables::{Query, Selection, Table, select};

pub use cube::CubeKernels;
pub(crate) use inputs::{BySender, by_sender};
pub use inputs::{FilterTensors, Graph};

use crate::dtype::{burn_dtype, spec_dtype};

/// A backend that carries the fused kernels: Flex by the host kernels, every `CubeBackend` by the cube kernels.
pub trait FusedMessageBackend: Backend {
    /// The highest order of derivatives that there are kernels for: with 1, `Autodiff<Self>` has gradients.
    const ORDER: u8;

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

/// The tensors of one call; only [`fused_message`] makes them, after checking shapes, dtypes and devices.
#[derive(Clone, Debug)]
pub struct Primitives<B: Backend> {
    row_ptr: IntTensor<B>,
    sender: IntTensor<B>,
    edge_vec: FloatTensor<B>,
    nodes: FloatTensor<B>,
    vectors: Option<FloatTensor<B>>,
    filter: FilterPrimitives<B>,
    /// Kept with the graph; the host kernels alone read both.
    order: Arc<ReceiverOrder>,
    senders: Arc<OnceLock<SenderList>>,
    /// Likewise, read by the cube kernels.
    by_sender: BySender<B>,
}

/// [`FilterTensors`] without their types.
#[derive(Clone, Debug)]
enum FilterPrimitives<B: Backend> {
    Linear { a: FloatTensor<B>, b: FloatTensor<B> },
    Mlp { a1: FloatTensor<B>, b1: FloatTensor<B>, a2: FloatTensor<B>, b2: FloatTensor<B> },
    Tabulated { values: FloatTensor<B> },
}

/// `y` or `dq` [n_atoms, F], and `dmu` [n_atoms, 3, F] (painn).
#[derive(Clone, Debug)]
pub struct PrimitiveMessage<B: Backend> {
    /// `y` or `dq`.
    pub nodes: FloatTensor<B>,
    /// `dmu`.
    pub vectors: Option<FloatTensor<B>>,
}

/// Gradients in those inputs that were asked for, in their shapes.
pub struct PrimitiveGradients<B: Backend> {
    /// In `x` or `s`.
    nodes: Option<FloatTensor<B>>,
    /// In `mu`.
    vectors: Option<FloatTensor<B>>,
    /// In `edge_vec`.
    edge_vec: Option<FloatTensor<B>>,
    /// In the weights.
    filter: Option<FilterPrimitives<B>>,
}

/// Gradients of the first backward.
pub struct PrimitiveDoubleGradients<B: Backend> {
    /// In the cotangents.
    grad: PrimitiveMessage<B>,
    /// In the inputs.
    gradients: PrimitiveGradients<B>,
}

/// The shapes of gradients: of those in features, vectors and edge vectors, and in weights; empty where they are not wanted.
#[derive(Clone, Debug)]
struct Shapes {
    nodes: Option<Shape>,
    vectors: Option<Shape>,
    edge_vec: Option<Shape>,
    filter: Vec<Shape>,
}

impl Shapes {
    fn new<B: FusedMessageBackend>(inputs: &Primitives<B>, wanted: Wanted) -> Self {
        let tabulated = matches!(inputs.filter, FilterPrimitives::Tabulated { .. });
        let weights = if wanted.filter && !tabulated { inputs.filter.tensors() } else { Vec::new() };
        Self {
            nodes: wanted.nodes.then(|| inputs.nodes.shape()),
            vectors: inputs.vectors.as_ref().filter(|_| wanted.nodes).map(|vectors| vectors.shape()),
            edge_vec: wanted.edge_vec.then(|| inputs.edge_vec.shape()),
            filter: weights.iter().map(|weights| weights.shape()).collect(),
        }
    }
}

/// Which kernel a call launches, and how; only [`fused_message`] makes it.
pub struct Plan {
    registered: &'static Registered,
    dtype: Dtype,
    device: DeviceId,
    n_edges: usize,
    /// Everything of the inputs but their tensors, which are empty here.
    sizes: Inputs<f64>,
    /// By derivative order; those of the backwards where there is a graph.
    configs: Vec<LaunchConfig>,
}

/// What a call is asked to use.
#[derive(Clone, Copy, Debug)]
pub struct Options<'a> {
    /// The kernel variant.
    pub variant: &'a Variant,
    /// The tuning tables at hand; none means the default configuration.
    pub tables: &'a [Table],
}

/// What a call returns.
#[derive(Clone, Debug)]
pub struct Message<B: Backend> {
    /// `y` (cfconv) or `dq` (painn), [n_atoms, F].
    pub nodes: Tensor<B, 2>,
    /// `dmu` [n_atoms, 3, F] (painn).
    pub vectors: Option<Tensor<B, 3>>,
    /// The launch configuration that was used.
    pub config: LaunchConfig,
    /// How it was found: exact device, same architecture or default, and why.
    pub selection: Selection,
    /// The same of the first and the second backward, each from the entries of its own order; empty without a graph.
    pub backwards: Vec<(LaunchConfig, Selection)>,
}

/// A call that cannot be made.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum OpError {
    /// A tensor has another shape.
    #[error("`{tensor}` has shape {found:?}, expected {expected}")]
    Shape {
        /// Its name as in `ops.md`.
        tensor: &'static str,
        /// Its shape.
        found: Vec<usize>,
        /// What it should be, with the names of the sizes.
        expected: String,
    },
    /// A tensor has another dtype.
    #[error("`{tensor}` is {found}, expected {expected}")]
    Dtype {
        /// Its name.
        tensor: &'static str,
        /// Its dtype.
        found: String,
        /// What it should be.
        expected: String,
    },
    /// A tensor lies on another device than the one that the call follows.
    #[error("`{tensor}` is on {found}, expected {expected}")]
    Device {
        /// Its name.
        tensor: &'static str,
        /// Its device.
        found: String,
        /// What it should be, and of which tensor that is the device.
        expected: String,
    },
    /// `mu` is missing or not wanted.
    #[error("message `{message}` {expected} `mu`, found {found}")]
    Vectors {
        /// The message.
        message: &'static str,
        /// What it does with `mu`.
        expected: &'static str,
        /// What was given.
        found: &'static str,
    },
    /// An index that is no u32.
    #[error("`{tensor}`[{index}] is {found}, expected an index from 0 to 2³² − 1")]
    Index {
        /// Its name.
        tensor: &'static str,
        /// Where.
        index: usize,
        /// The value.
        found: i64,
    },
    /// An edge joins two systems.
    #[error("edge {edge} goes from an atom of system {sender} to one of system {receiver}, expected both in one")]
    Systems {
        /// Which, by its place in the list.
        edge: usize,
        /// Of its receiver.
        receiver: usize,
        /// Of its sender.
        sender: usize,
    },
    /// The device failed while a tensor was read.
    #[error("`{tensor}` could not be read: {reason}")]
    Read {
        /// Its name.
        tensor: &'static str,
        /// What the device said.
        reason: String,
    },
    /// The neighbour list, the radial functions or the variant are wrong.
    #[error(transparent)]
    Input(#[from] InputError),
    /// The kernel cannot be launched here.
    #[error(transparent)]
    Launch(#[from] LaunchError),
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
    let variant = options.variant;
    let registered = find(variant).ok_or_else(|| LaunchError::UnknownVariant(variant.id()))?;
    let dtype = spec_dtype(nodes.dtype()).ok_or_else(|| OpError::Dtype {
        tensor: "nodes",
        found: format!("{:?}", nodes.dtype()),
        expected: "f32 or f64".to_owned(),
    })?;
    let mut sizes = Inputs::<f64> {
        message: variant.message,
        n_atoms: 0,
        features: 0,
        row_ptr: vec![0],
        sender: Vec::new(),
        edge_vec: Vec::new(),
        nodes: Vec::new(),
        vectors: Vec::new(),
        radial: radial.clone(),
        filter: filter.sizes(0),
    };
    // Without atoms and features every tensor is empty, so this checks all that is no tensor.
    registered.check(&sizes)?;
    let (n_atoms, n_edges) = (graph.n_atoms(), graph.n_edges());
    let [found_atoms, width] = nodes.dims();
    let parts = variant.message.parts();
    if found_atoms != n_atoms || !width.is_multiple_of(parts) {
        let columns = if parts == 1 { "F" } else { "3F" };
        let expected = format!("[n_atoms = {n_atoms}, {columns}]");
        return Err(OpError::Shape { tensor: "nodes", found: vec![found_atoms, width], expected });
    }
    let features = width / parts;
    check_indices("n_atoms × 3F", n_atoms.saturating_mul(3 * features))?;
    check_indices("3 × n_edges", n_edges.saturating_mul(3))?;
    let context = Context { of: "nodes", device: nodes.device(), dtype };
    graph.check(&context)?;
    match (&vectors, variant.message) {
        (None, MessageKind::Cfconv) => {}
        (Some(vectors), MessageKind::Painn) => {
            context.float("mu", vectors, [n_atoms, 3, features], "n_atoms, 3, F")?;
        }
        (None, MessageKind::Painn) => {
            return Err(OpError::Vectors { message: "painn", expected: "reads", found: "none" });
        }
        (Some(_), MessageKind::Cfconv) => {
            return Err(OpError::Vectors { message: "cfconv", expected: "does not read", found: "a tensor" });
        }
    }
    let hidden = filter.check(&context, radial.n_basis, width)?;
    sizes.n_atoms = n_atoms;
    sizes.features = features;
    sizes.filter = filter.sizes(hidden);

    let device = B::device_id(&context.device);
    check_support(&device, dtype, variant.reduction == Reduction::EdgeAtomic)?;
    let problem = Problem { n_edges: n_edges as u64, ..sizes.problem("") };
    let chosen = |order: u8| {
        let query = Query {
            op: OP,
            device: &device,
            template_hash: ff_kernels::generated::FUSED_MESSAGE_TEMPLATE_HASH,
            key: &TuneKey::new(&variant.family(), order, dtype, &problem),
        };
        let selection = select(options.tables, query, |config| match device.runtime {
            RuntimeKind::Host => host_config(config).is_ok(),
            _ => cube_config(variant, dtype, &sizes, &problem, &device.limits, config).is_ok(),
        });
        let default = || match order {
            0 => default_config(&device, variant, dtype, &problem),
            _ => default_backward_config(&device, variant, order, dtype, &problem),
        };
        (selection.config.clone().unwrap_or_else(default), selection)
    };
    let (config, selection) = chosen(0);
    let backwards: Vec<_> = if B::ad_enabled(&context.device) { [1, 2].map(chosen).to_vec() } else { Vec::new() };
    let configs = [&config].into_iter().chain(backwards.iter().map(|(config, _)| config)).cloned().collect();
    let plan = Arc::new(Plan { registered, dtype, device, n_edges, sizes, configs });
    let inputs = Primitives {
        row_ptr: graph.row_ptr().clone().into_primitive(),
        sender: graph.sender().clone().into_primitive(),
        edge_vec: primitive(graph.edge_vec().clone()),
        nodes: primitive(nodes),
        vectors: vectors.map(primitive),
        filter: filter.primitives(),
        order: graph.order().clone(),
        senders: graph.senders().clone(),
        by_sender: graph.by_sender().clone(),
    };
    let message = B::fused_message(inputs, &plan)?;
    Ok(Message { nodes: tensor(message.nodes), vectors: message.vectors.map(tensor), config, selection, backwards })
}

impl Plan {
    /// The configuration of a derivative order.
    fn config(&self, order: u8) -> &LaunchConfig {
        &self.configs[usize::from(order)]
    }
}

impl std::fmt::Debug for Plan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} in {}", self.registered.id, self.dtype)?;
        self.configs.iter().enumerate().try_for_each(|(order, config)| write!(f, ", order {order} with {config}"))
    }
}

impl<B: Backend> Primitives<B> {
    /// The same call on another backend.
    pub(crate) fn map<C: Backend>(
        self,
        mut float: impl FnMut(FloatTensor<B>) -> FloatTensor<C>,
        mut int: impl FnMut(IntTensor<B>) -> IntTensor<C>,
        by_sender: impl FnOnce(BySender<B>) -> BySender<C>,
    ) -> Primitives<C> {
        Primitives {
            row_ptr: int(self.row_ptr),
            sender: int(self.sender),
            edge_vec: float(self.edge_vec),
            nodes: float(self.nodes),
            vectors: self.vectors.map(&mut float),
            filter: self.filter.map(float),
            order: self.order,
            senders: self.senders,
            by_sender: by_sender(self.by_sender),
        }
    }

    /// What a call may have gradients in: features, edge vectors, vectors where there are any, and weights.
    fn tensors(&self) -> Vec<FloatTensor<B>> {
        let mut all = vec![self.nodes.clone(), self.edge_vec.clone()];
        all.extend(self.vectors.clone());
        all.extend(self.filter.tensors());
        all
    }
}

impl<B: Backend> FilterPrimitives<B> {
    fn map<C: Backend>(self, mut float: impl FnMut(FloatTensor<B>) -> FloatTensor<C>) -> FilterPrimitives<C> {
        match self {
            Self::Linear { a, b } => FilterPrimitives::Linear { a: float(a), b: float(b) },
            Self::Mlp { a1, b1, a2, b2 } => {
                FilterPrimitives::Mlp { a1: float(a1), b1: float(b1), a2: float(a2), b2: float(b2) }
            }
            Self::Tabulated { values } => FilterPrimitives::Tabulated { values: float(values) },
        }
    }

    /// The tensors in their order in `ops.md`.
    fn tensors(&self) -> Vec<FloatTensor<B>> {
        match self.clone() {
            Self::Linear { a, b } => vec![a, b],
            Self::Mlp { a1, b1, a2, b2 } => vec![a1, b1, a2, b2],
            Self::Tabulated { values } => vec![values],
        }
    }
}

impl<B: Backend> PrimitiveMessage<B> {
    pub(crate) fn map<C: Backend>(
        self,
        mut float: impl FnMut(FloatTensor<B>) -> FloatTensor<C>,
    ) -> PrimitiveMessage<C> {
        PrimitiveMessage { nodes: float(self.nodes), vectors: self.vectors.map(float) }
    }
}

impl<B: Backend> PrimitiveGradients<B> {
    fn map<C: Backend>(self, mut float: impl FnMut(FloatTensor<B>) -> FloatTensor<C>) -> PrimitiveGradients<C> {
        PrimitiveGradients {
            nodes: self.nodes.map(&mut float),
            vectors: self.vectors.map(&mut float),
            edge_vec: self.edge_vec.map(&mut float),
            filter: self.filter.map(|filter| filter.map(float)),
        }
    }
}

/// Kernels index with u32.
pub(crate) fn check_indices(what: &'static str, found: usize) -> Result<(), OpError> {
    if found > u32::MAX as usize {
        return Err(InputError::TooLarge { what, found: found as u64 }.into());
    }
    Ok(())
}

/// Whether a device computes in `dtype` and, where sums are `atomic`, adds in it.
pub(crate) fn check_support(device: &DeviceId, dtype: Dtype, atomic: bool) -> Result<(), LaunchError> {
    if dtype == Dtype::F64 && !device.f64 {
        return Err(LaunchError::Unsupported(format!("{} does not compute in f64", device.name)));
    }
    let adds = match dtype {
        Dtype::F32 => device.atomics.f32_add,
        Dtype::F64 => device.atomics.f64_add,
    };
    if atomic && !adds {
        return Err(LaunchError::Unsupported(format!("{} does not add {dtype} atomically", device.name)));
    }
    Ok(())
}

/// What every tensor of a call must share.
#[derive(Debug)]
pub(crate) struct Context<D> {
    /// The tensor that has these.
    pub of: &'static str,
    pub device: D,
    pub dtype: Dtype,
}

impl<D: PartialEq + std::fmt::Debug> Context<D> {
    /// Checks dtype, device and shape; `names` are those of the sizes in `expected`.
    pub fn float<B: Backend<Device = D>, const R: usize>(
        &self,
        tensor: &'static str,
        found: &Tensor<B, R>,
        expected: [usize; R],
        names: &str,
    ) -> Result<(), OpError> {
        if found.dtype() != burn_dtype(self.dtype) {
            let (found, expected) = (format!("{:?}", found.dtype()), format!("{} as `{}`", self.dtype, self.of));
            return Err(OpError::Dtype { tensor, found, expected });
        }
        self.device(tensor, &found.device())?;
        if found.dims() != expected {
            let expected = format!("[{names}] = {expected:?}");
            return Err(OpError::Shape { tensor, found: found.dims().to_vec(), expected });
        }
        Ok(())
    }

    pub fn device(&self, tensor: &'static str, found: &D) -> Result<(), OpError> {
        if *found == self.device {
            return Ok(());
        }
        let expected = format!("{:?} as for `{}`", self.device, self.of);
        Err(OpError::Device { tensor, found: format!("{found:?}"), expected })
    }
}

pub(crate) fn primitive<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> FloatTensor<B> {
    tensor.into_primitive().tensor()
}

pub(crate) fn tensor<B: Backend, const D: usize>(primitive: FloatTensor<B>) -> Tensor<B, D> {
    Tensor::from_primitive(TensorPrimitive::Float(primitive))
}

#[cfg(test)]
mod gradient_tests;
#[cfg(test)]
mod tests;
