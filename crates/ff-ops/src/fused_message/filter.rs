//! A filter's weights as tensors.

use burn::tensor::backend::{AutodiffBackend, Backend};
use burn::tensor::{Tensor, TensorData};
use ff_spec::Dtype;
use ff_spec::fused_message::{Activation, Filter, FilterSizes};

use super::primitives::FilterPrimitives;
use crate::call::{Context, OpError, primitive, tensor};
use crate::dtype::burn_dtype;

/// The filter's weights; C = F (cfconv) or 3F (painn).
#[derive(Clone, Debug)]
pub enum FilterTensors<B: Backend> {
    /// W = f_c(d)·(Φ(d) A + b).
    Linear {
        /// A [K, C].
        a: Tensor<B, 2>,
        /// b [C].
        b: Tensor<B, 1>,
    },
    /// W = f_c(d)·(σ(Φ(d) A₁ + b₁) A₂ + b₂).
    Mlp {
        /// A₁ [K, H].
        a1: Tensor<B, 2>,
        /// b₁ [H].
        b1: Tensor<B, 1>,
        /// A₂ [H, C].
        a2: Tensor<B, 2>,
        /// b₂ [C].
        b2: Tensor<B, 1>,
        /// σ.
        activation: Activation,
    },
    /// Either of the above as Hermite nodes on a uniform grid over [0, r_c].
    Tabulated {
        /// [n_nodes, order, C].
        values: Tensor<B, 3>,
    },
}

/// Numbers as a tensor, rounded to `dtype`.
fn floats<B: Backend, const D: usize>(
    values: &[f64],
    shape: [usize; D],
    dtype: Dtype,
    device: &B::Device,
) -> Tensor<B, D> {
    let dtype = burn_dtype(dtype);
    Tensor::from_data(TensorData::new(values.to_vec(), shape).convert_dtype(dtype), (device, dtype))
}

impl<B: Backend> FilterTensors<B> {
    /// Uploads weights for K basis functions and C channels, rounded to `dtype`.
    ///
    /// # Panics
    /// Where the weights are not of these sizes.
    pub fn upload(filter: &Filter<f64>, n_basis: usize, channels: usize, dtype: Dtype, device: &B::Device) -> Self {
        let (k, c) = (n_basis, channels);
        match filter {
            Filter::Linear { a, b } => {
                Self::Linear { a: floats(a, [k, c], dtype, device), b: floats(b, [c], dtype, device) }
            }
            Filter::Mlp { hidden, a1, b1, a2, b2, activation } => Self::Mlp {
                a1: floats(a1, [k, *hidden], dtype, device),
                b1: floats(b1, [*hidden], dtype, device),
                a2: floats(a2, [*hidden, c], dtype, device),
                b2: floats(b2, [c], dtype, device),
                activation: *activation,
            },
            Filter::Tabulated { order, n_nodes, values } => {
                Self::Tabulated { values: floats(values, [*n_nodes, *order, c], dtype, device) }
            }
        }
    }

    /// C, as the tensors say it.
    pub(super) fn channels(&self) -> usize {
        match self {
            Self::Linear { b, .. } => b.dims()[0],
            Self::Mlp { b2, .. } => b2.dims()[0],
            Self::Tabulated { values } => values.dims()[2],
        }
    }

    /// Its sizes, which [`FilterTensors::check`] shows to be those of all tensors.
    pub(super) fn sizes(&self) -> FilterSizes {
        match self {
            Self::Linear { .. } => FilterSizes::Linear,
            Self::Mlp { a1, activation, .. } => FilterSizes::Mlp { hidden: a1.dims()[1], activation: *activation },
            Self::Tabulated { values } => {
                let [n_nodes, order, _] = values.dims();
                FilterSizes::Tabulated { order, n_nodes }
            }
        }
    }

    /// Checks the tensors for K basis functions and C channels.
    pub(super) fn check(&self, context: &Context<B::Device>, n_basis: usize, channels: usize) -> Result<(), OpError> {
        match self {
            Self::Linear { a, b } => {
                context.float("A", a, [n_basis, channels], "K, C")?;
                context.float("b", b, [channels], "C")
            }
            Self::Mlp { a1, b1, a2, b2, .. } => {
                let hidden = a1.dims()[1];
                context.float("A1", a1, [n_basis, hidden], "K, H")?;
                context.float("b1", b1, [hidden], "H")?;
                context.float("A2", a2, [hidden, channels], "H, C")?;
                context.float("b2", b2, [channels], "C")
            }
            Self::Tabulated { values } => {
                let [n_nodes, order, _] = values.dims();
                context.float("table", values, [n_nodes, order, channels], "n_nodes, order, C")
            }
        }
    }

    /// Gradients in weights of these sizes as tensors.
    pub(super) fn of_primitives(weights: FilterPrimitives<B>, sizes: FilterSizes) -> Option<Self> {
        match (weights, sizes) {
            (FilterPrimitives::Linear { a, b }, _) => Some(Self::Linear { a: tensor(a), b: tensor(b) }),
            (FilterPrimitives::Mlp { a1, b1, a2, b2 }, FilterSizes::Mlp { activation, .. }) => {
                Some(Self::Mlp { a1: tensor(a1), b1: tensor(b1), a2: tensor(a2), b2: tensor(b2), activation })
            }
            _ => None,
        }
    }

    /// Every tensor flat, in the order of their names above.
    pub fn flat(&self) -> Vec<Tensor<B, 1>> {
        fn flat<B: Backend, const D: usize>(tensor: &Tensor<B, D>) -> Tensor<B, 1> {
            tensor.clone().reshape([tensor.shape().num_elements()])
        }
        match self {
            Self::Linear { a, b } => vec![flat(a), b.clone()],
            Self::Mlp { a1, b1, a2, b2, .. } => vec![flat(a1), b1.clone(), flat(a2), b2.clone()],
            Self::Tabulated { values } => vec![flat(values)],
        }
    }

    pub(super) fn primitives(&self) -> FilterPrimitives<B> {
        match self.clone() {
            Self::Linear { a, b } => FilterPrimitives::Linear { a: primitive(a), b: primitive(b) },
            Self::Mlp { a1, b1, a2, b2, .. } => {
                FilterPrimitives::Mlp { a1: primitive(a1), b1: primitive(b1), a2: primitive(a2), b2: primitive(b2) }
            }
            Self::Tabulated { values } => FilterPrimitives::Tabulated { values: primitive(values) },
        }
    }
}

impl<B: AutodiffBackend> FilterTensors<B> {
    /// The same weights as leaves of the graph; a table, which has no gradient, as it is.
    pub fn require_grad(self) -> Self {
        match self {
            Self::Linear { a, b } => Self::Linear { a: a.require_grad(), b: b.require_grad() },
            Self::Mlp { a1, b1, a2, b2, activation } => Self::Mlp {
                a1: a1.require_grad(),
                b1: b1.require_grad(),
                a2: a2.require_grad(),
                b2: b2.require_grad(),
                activation,
            },
            Self::Tabulated { values } => Self::Tabulated { values },
        }
    }

    /// Weights of the backend beneath on this graph, which does not track them.
    pub fn from_inner(inner: FilterTensors<B::InnerBackend>) -> Self {
        match inner {
            FilterTensors::Linear { a, b } => Self::Linear { a: Tensor::from_inner(a), b: Tensor::from_inner(b) },
            FilterTensors::Mlp { a1, b1, a2, b2, activation } => Self::Mlp {
                a1: Tensor::from_inner(a1),
                b1: Tensor::from_inner(b1),
                a2: Tensor::from_inner(a2),
                b2: Tensor::from_inner(b2),
                activation,
            },
            FilterTensors::Tabulated { values } => Self::Tabulated { values: Tensor::from_inner(values) },
        }
    }
}
