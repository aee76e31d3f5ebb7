//! A layer of a model that is called again and again.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use burn::tensor::Tensor;
use ff_spec::Dtype;
use ff_spec::fused_message::{OP, Radial, Sizes, Variant, Wanted};
use ff_tables::Table;

use super::plan::{self, Choice, Kind, Plan};
use super::primitives::{KeptFilter, KeptRadial, PrimitiveGradients, PrimitiveMessage, Primitives};
use super::{Features, FilterTensors, FusedMessageBackend, Message};
use crate::call::{Context, OpError, primitive, tensor};
use crate::graph::Graph;

/// Size classes that are remembered; a program with more of them chooses again.
const MOST_CLASSES: usize = 4096;

/// The message of one layer, kept from call to call: the kernels of a variant with the parameters of its radial functions on
/// one device.
///
/// What does not change between calls is done once: parameters are checked and uploaded by the first call of a dtype, a
/// configuration of every derivative order is chosen by the first call of a size class, and a filter that was
/// [loaded](Layer::load) is copied and packed for the host kernels by the first call that reads it. A size class is a dtype, a
/// number of atoms, the sizes of features and filter, and a number of edges to within an eighth of an octave: so a list that
/// gains an edge keeps its kernels, and a trajectory runs under one configuration. It is the one that the sizes of the first
/// call select.
///
/// Calls are those of [`fused_message`](super::fused_message): on `Autodiff<B>` they are nodes of Burn's graph. The backwards
/// can be had without a graph too, from cotangents that the caller has. Clones share what is kept.
pub struct Layer<B: FusedMessageBackend> {
    kind: Arc<Kind>,
    device: B::Device,
    tables: Arc<[Table]>,
    radial: KeptRadial<B>,
    classes: Arc<Mutex<Classes>>,
}

/// The configurations of each size class, by derivative order.
type Classes = HashMap<(Dtype, Sizes), Arc<[Choice]>>;

/// A call whose tensors were checked.
struct Checked<B: FusedMessageBackend> {
    inputs: Primitives<B>,
    plan: Plan,
    context: Context<B::Device>,
}

/// A filter as a [`Layer`] takes it, checked. Clones share what is kept.
#[derive(Clone, Debug)]
pub struct LoadedFilter<B: FusedMessageBackend> {
    tensors: FilterTensors<B>,
    dtype: Dtype,
    kept: KeptFilter<B>,
}

/// Gradients in those inputs that were wanted, each in the shape of what it is taken in; `None` for the others.
#[derive(Clone, Debug)]
pub struct MessageGradients<B: FusedMessageBackend> {
    /// In `x` [n_atoms, F] or `s` [n_atoms, 3F].
    pub nodes: Option<Tensor<B, 2>>,
    /// In `mu` [n_atoms, 3, F] (painn).
    pub vectors: Option<Tensor<B, 3>>,
    /// In `edge_vec` [n_edges, 3], 1/Å.
    pub edge_vec: Option<Tensor<B, 2>>,
    /// In the weights; a table has none.
    pub filter: Option<FilterTensors<B>>,
}

/// Gradients of a first backward.
#[derive(Clone, Debug)]
pub struct MessageDoubleGradients<B: FusedMessageBackend> {
    /// In its cotangents.
    pub cotangents: Features<B>,
    /// In its inputs.
    pub gradients: MessageGradients<B>,
}

impl<B: FusedMessageBackend> Layer<B> {
    /// The message of `variant` on `device`. `radial` holds r_cut in Å and the parameters of the radial functions that the
    /// variant names; of a tabulated filter r_cut alone. Configurations are the nearest that `tables` hold of an order for this
    /// device, else for its architecture, else the default; layers can share them.
    ///
    /// # Errors
    /// [`OpError`] for a variant that was not rendered and for parameters that are not its.
    pub fn new(
        variant: &Variant,
        radial: &Radial<f64>,
        tables: impl Into<Arc<[Table]>>,
        device: &B::Device,
    ) -> Result<Self, OpError> {
        let kind = Kind::new(variant, radial, B::device_id(device))?;
        Ok(Self {
            kind: Arc::new(kind),
            device: device.clone(),
            tables: tables.into(),
            radial: Arc::default(),
            classes: Arc::default(),
        })
    }

    /// Checks a filter once for all calls with it. Keep what is returned for as long as the weights stay the same.
    ///
    /// # Errors
    /// [`OpError`] where tensors do not fit together, the variant or the device.
    pub fn load(&self, tensors: FilterTensors<B>) -> Result<LoadedFilter<B>, OpError> {
        let context = match &tensors {
            FilterTensors::Linear { a, .. } => Context::of("A", a),
            FilterTensors::Mlp { a1, .. } => Context::of("A1", a1),
            FilterTensors::Tabulated { values } => Context::of("table", values),
        }?;
        self.check_device(&context)?;
        let sizes = self.sizes_of(&tensors);
        sizes.check()?;
        sizes.check_variant(&self.kind.variant)?;
        tensors.check(&context, self.kind.radial.n_basis, sizes.channels())?;
        Ok(LoadedFilter { tensors, dtype: context.dtype, kept: Arc::default() })
    }

    /// Messages of all edges of `graph`, summed into their receivers, as [`fused_message`](super::fused_message) computes them.
    ///
    /// # Errors
    /// [`OpError`] for the first thing that does not fit.
    pub fn forward(
        &self,
        graph: &Graph<B>,
        features: Features<B>,
        filter: &LoadedFilter<B>,
    ) -> Result<Message<B>, OpError> {
        let Checked { inputs, plan, .. } = self.call(graph, features, filter)?;
        plan::launch(inputs, plan)
    }

    /// The vector-Jacobian product: gradients in what is `wanted` of ⟨cotangents, message⟩, with `cotangents` in the shapes of
    /// [`Message`]. Nothing of a forward is needed.
    ///
    /// # Errors
    /// As [`Layer::forward`].
    pub fn backward(
        &self,
        graph: &Graph<B>,
        features: Features<B>,
        filter: &LoadedFilter<B>,
        cotangents: Features<B>,
        wanted: Wanted,
    ) -> Result<MessageGradients<B>, OpError> {
        let Checked { inputs, plan, context } = self.call(graph, features, filter)?;
        let cotangents = cotangents.checked(&context, &plan.sizes)?;
        let plan = Arc::new(plan);
        let found = B::fused_message_backward(inputs, cotangents, wanted, &plan)?;
        Ok(MessageGradients::of(found, &plan))
    }

    /// The vector-Jacobian product of [`Layer::backward`]: gradients in what is `wanted` of the inputs and in the cotangents, of
    /// ⟨tangent, gradients of the backward⟩. What `tangent` lacks is zero.
    ///
    /// # Errors
    /// As [`Layer::forward`].
    pub fn double_backward(
        &self,
        graph: &Graph<B>,
        features: Features<B>,
        filter: &LoadedFilter<B>,
        cotangents: Features<B>,
        tangent: MessageGradients<B>,
        wanted: Wanted,
    ) -> Result<MessageDoubleGradients<B>, OpError> {
        let Checked { inputs, plan, context } = self.call(graph, features, filter)?;
        let cotangents = cotangents.checked(&context, &plan.sizes)?;
        let tangent = tangent.checked(&context, &plan)?;
        let plan = Arc::new(plan);
        let found = B::fused_message_double_backward(inputs, cotangents, tangent, wanted, &plan)?;
        let PrimitiveMessage { nodes, vectors } = found.grad;
        Ok(MessageDoubleGradients {
            cotangents: Features { nodes: tensor(nodes), vectors: vectors.map(tensor) },
            gradients: MessageGradients::of(found.gradients, &plan),
        })
    }

    /// The variant.
    pub fn variant(&self) -> &Variant {
        &self.kind.variant
    }

    /// The checked tensors of a call and its plan.
    fn call(&self, graph: &Graph<B>, features: Features<B>, filter: &LoadedFilter<B>) -> Result<Checked<B>, OpError> {
        let context = Context::of("nodes", &features.nodes)?;
        self.check_device(&context)?;
        plan::check_features(&context, graph, &features, self.kind.variant.message)?;
        let (channels, [n_atoms, width]) = (filter.tensors.channels(), features.nodes.dims());
        if width != channels {
            let expected = format!("[n_atoms, C] = [{n_atoms}, {channels}] as the filter");
            return Err(OpError::Shape { tensor: "nodes", found: vec![n_atoms, width], expected });
        }
        if filter.dtype != context.dtype {
            let (found, expected) = (filter.dtype.to_string(), format!("{} as `nodes`", context.dtype));
            return Err(OpError::Dtype { tensor: "filter", found, expected });
        }
        let sizes = plan::sizes(&self.kind, context.dtype, graph, &features, filter.tensors.sizes())?;
        let plan =
            Plan { kind: self.kind.clone(), dtype: context.dtype, sizes, chosen: self.chosen(context.dtype, sizes) };
        let inputs = plan::primitives(graph, features, &filter.tensors, (&self.radial, &filter.kept));
        Ok(Checked { inputs, plan, context })
    }

    /// The configurations of a size class.
    fn chosen(&self, dtype: Dtype, sizes: Sizes) -> Arc<[Choice]> {
        let class = (dtype, Sizes { n_edges: eighths_of_octaves(sizes.n_edges), ..sizes });
        let mut classes = self.classes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(chosen) = classes.get(&class) {
            return chosen.clone();
        }
        if classes.len() >= MOST_CLASSES {
            classes.clear();
        }
        let chosen: Arc<[Choice]> = [0, 1, 2].map(|order| self.kind.choose(order, dtype, &sizes, &self.tables)).into();
        classes.insert(class, chosen.clone());
        chosen
    }

    /// The sizes of a call without atoms and edges.
    fn sizes_of(&self, tensors: &FilterTensors<B>) -> Sizes {
        let message = self.kind.variant.message;
        Sizes {
            message,
            n_atoms: 0,
            n_edges: 0,
            features: tensors.channels() / message.parts(),
            n_basis: self.kind.radial.n_basis,
            filter: tensors.sizes(),
        }
    }

    fn check_device(&self, context: &Context<B::Device>) -> Result<(), OpError> {
        if context.device == self.device {
            return Ok(());
        }
        let (found, expected) = (format!("{:?}", context.device), format!("{:?} as the layer", self.device));
        Err(OpError::Device { tensor: context.of, found, expected })
    }
}

/// log₂(n + 1) in eighths, rounded.
fn eighths_of_octaves(n: usize) -> usize {
    (8.0 * ((n + 1) as f64).log2()).round() as usize
}

impl<B: FusedMessageBackend> Features<B> {
    /// Cotangents of outputs of these sizes.
    fn checked(self, context: &Context<B::Device>, sizes: &Sizes) -> Result<PrimitiveMessage<B>, OpError> {
        let (n, f) = (sizes.n_atoms, sizes.features);
        context.float("cotangent of nodes", &self.nodes, [n, f], "n_atoms, F")?;
        plan::check_vectors(context, "cotangent of mu", &self.vectors, [n, 3, f], sizes.message)?;
        Ok(PrimitiveMessage { nodes: primitive(self.nodes), vectors: self.vectors.map(primitive) })
    }
}

impl<B: FusedMessageBackend> MessageGradients<B> {
    /// No gradient; as a tangent it is zero.
    pub fn none() -> Self {
        Self { nodes: None, vectors: None, edge_vec: None, filter: None }
    }

    fn of(found: PrimitiveGradients<B>, plan: &Plan) -> Self {
        Self {
            nodes: found.nodes.map(tensor),
            vectors: found.vectors.map(tensor),
            edge_vec: found.edge_vec.map(tensor),
            filter: found.filter.and_then(|filter| FilterTensors::of_primitives(filter, plan.sizes.filter)),
        }
    }

    /// As tangents of gradients of this plan.
    fn checked(self, context: &Context<B::Device>, plan: &Plan) -> Result<PrimitiveGradients<B>, OpError> {
        let Plan { sizes, kind, .. } = plan;
        let (n, f) = (sizes.n_atoms, sizes.features);
        if let Some(nodes) = &self.nodes {
            context.float("tangent of nodes", nodes, [n, sizes.channels()], "n_atoms, C")?;
        }
        if let Some(edge_vec) = &self.edge_vec {
            context.float("tangent of edge_vec", edge_vec, [sizes.n_edges, 3], "n_edges, 3")?;
        }
        if self.vectors.is_some() {
            plan::check_vectors(context, "tangent of mu", &self.vectors, [n, 3, f], sizes.message)?;
        }
        if let Some(filter) = &self.filter {
            if let FilterTensors::Tabulated { values } = filter {
                let (found, expected) = (values.dims().to_vec(), "none: a table has no gradient".to_owned());
                return Err(OpError::Shape { tensor: "tangent of table", found, expected });
            }
            Sizes { filter: filter.sizes(), ..*sizes }.check_variant(&kind.variant)?;
            filter.check(context, sizes.n_basis, sizes.channels())?;
            if filter.sizes().hidden() != sizes.filter.hidden() {
                let found = vec![sizes.n_basis, filter.sizes().hidden()];
                let expected = format!("[K, H] = [{}, {}]", sizes.n_basis, sizes.filter.hidden());
                return Err(OpError::Shape { tensor: "tangent of A1", found, expected });
            }
        }
        Ok(PrimitiveGradients {
            nodes: self.nodes.map(primitive),
            vectors: self.vectors.map(primitive),
            edge_vec: self.edge_vec.map(primitive),
            filter: self.filter.map(|filter| filter.primitives()),
        })
    }
}

impl<B: FusedMessageBackend> Clone for Layer<B> {
    fn clone(&self) -> Self {
        Self {
            kind: self.kind.clone(),
            device: self.device.clone(),
            tables: self.tables.clone(),
            radial: self.radial.clone(),
            classes: self.classes.clone(),
        }
    }
}

impl<B: FusedMessageBackend> fmt::Debug for Layer<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{OP} {} on {:?}", self.kind.variant, self.device)
    }
}
