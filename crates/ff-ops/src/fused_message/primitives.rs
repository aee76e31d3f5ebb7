//! The tensors of a call beneath their types.

use std::sync::Arc;

use burn::tensor::backend::Backend;
use burn::tensor::ops::{FloatTensor, IntTensor};
use burn::tensor::{Shape, TensorMetadata};
use ff_spec::fused_message::Wanted;

use super::FusedMessageBackend;
use crate::graph::{BySender, HostList};

/// What a layer keeps, shared.
pub(super) type KeptRadial<B> = Arc<<B as FusedMessageBackend>::KeptRadial>;

/// What a loaded filter keeps, shared.
pub(super) type KeptFilter<B> = Arc<<B as FusedMessageBackend>::KeptFilter>;

/// The tensors of one call; only this crate makes them, after checking shapes, dtypes and devices.
#[derive(Clone, Debug)]
pub struct Primitives<B: FusedMessageBackend> {
    pub(super) row_ptr: IntTensor<B>,
    pub(super) sender: IntTensor<B>,
    pub(super) edge_vec: FloatTensor<B>,
    pub(super) nodes: FloatTensor<B>,
    pub(super) vectors: Option<FloatTensor<B>>,
    pub(super) filter: FilterPrimitives<B>,
    /// Kept with the graph.
    pub(super) host: Arc<HostList>,
    /// Likewise, read by the cube kernels.
    pub(super) by_sender: BySender<B>,
    /// Kept with the layer.
    pub(super) kept_radial: KeptRadial<B>,
    /// Kept with the filter that was loaded.
    pub(super) kept_filter: KeptFilter<B>,
}

/// [`FilterTensors`] without their types.
#[derive(Clone, Debug)]
pub(super) enum FilterPrimitives<B: Backend> {
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
    pub(super) nodes: Option<FloatTensor<B>>,
    /// In `mu`.
    pub(super) vectors: Option<FloatTensor<B>>,
    /// In `edge_vec`.
    pub(super) edge_vec: Option<FloatTensor<B>>,
    /// In the weights.
    pub(super) filter: Option<FilterPrimitives<B>>,
}

/// Gradients of the first backward.
pub struct PrimitiveDoubleGradients<B: Backend> {
    /// In the cotangents.
    pub(super) grad: PrimitiveMessage<B>,
    /// In the inputs.
    pub(super) gradients: PrimitiveGradients<B>,
}

/// The shapes of gradients: of those in features, vectors and edge vectors, and in weights; empty where they are not wanted.
#[derive(Clone, Debug)]
pub(super) struct Shapes {
    pub(super) nodes: Option<Shape>,
    pub(super) vectors: Option<Shape>,
    pub(super) edge_vec: Option<Shape>,
    pub(super) filter: Vec<Shape>,
}

impl Shapes {
    pub fn new<B: FusedMessageBackend>(inputs: &Primitives<B>, wanted: Wanted) -> Self {
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

impl<B: FusedMessageBackend> Primitives<B> {
    /// The same call on another backend, which keeps the same.
    pub(super) fn map<C: FusedMessageBackend<KeptRadial = B::KeptRadial, KeptFilter = B::KeptFilter>>(
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
            host: self.host,
            by_sender: by_sender(self.by_sender),
            kept_radial: self.kept_radial,
            kept_filter: self.kept_filter,
        }
    }

    /// What a call may have gradients in: features, edge vectors, vectors where there are any, and weights.
    pub(super) fn tensors(&self) -> Vec<FloatTensor<B>> {
        let mut all = vec![self.nodes.clone(), self.edge_vec.clone()];
        all.extend(self.vectors.clone());
        all.extend(self.filter.tensors());
        all
    }
}

impl<B: Backend> FilterPrimitives<B> {
    pub(super) fn map<C: Backend>(
        self,
        mut float: impl FnMut(FloatTensor<B>) -> FloatTensor<C>,
    ) -> FilterPrimitives<C> {
        match self {
            Self::Linear { a, b } => FilterPrimitives::Linear { a: float(a), b: float(b) },
            Self::Mlp { a1, b1, a2, b2 } => {
                FilterPrimitives::Mlp { a1: float(a1), b1: float(b1), a2: float(a2), b2: float(b2) }
            }
            Self::Tabulated { values } => FilterPrimitives::Tabulated { values: float(values) },
        }
    }

    /// The tensors in their order in `ops.md`.
    pub(super) fn tensors(&self) -> Vec<FloatTensor<B>> {
        match self.clone() {
            Self::Linear { a, b } => vec![a, b],
            Self::Mlp { a1, b1, a2, b2 } => vec![a1, b1, a2, b2],
            Self::Tabulated { values } => vec![values],
        }
    }
}

impl<B: Backend> PrimitiveMessage<B> {
    pub(super) fn map<C: Backend>(
        self,
        mut float: impl FnMut(FloatTensor<B>) -> FloatTensor<C>,
    ) -> PrimitiveMessage<C> {
        PrimitiveMessage { nodes: float(self.nodes), vectors: self.vectors.map(float) }
    }
}

impl<B: Backend> PrimitiveGradients<B> {
    pub(super) fn map<C: Backend>(
        self,
        mut float: impl FnMut(FloatTensor<B>) -> FloatTensor<C>,
    ) -> PrimitiveGradients<C> {
        PrimitiveGradients {
            nodes: self.nodes.map(&mut float),
            vectors: self.vectors.map(&mut float),
            edge_vec: self.edge_vec.map(&mut float),
            filter: self.filter.map(|filter| filter.map(float)),
        }
    }
}
