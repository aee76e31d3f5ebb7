use std::sync::{Arc, OnceLock};

use burn::tensor::backend::{AutodiffBackend, Backend};
use burn::tensor::ops::IntTensor;
use burn::tensor::{Int, Tensor, TensorData};
use ff_kernels::fused_message::SenderList;
use ff_kernels::fused_message::host::ReceiverOrder;
use ff_spec::Dtype;
use ff_spec::fused_message::{Activation, Filter, InputError};

use super::{Context, FilterPrimitives, OpError, primitive};
use crate::dtype::burn_dtype;

/// A neighbour list with its edge vectors: `row_ptr` [n_atoms + 1] and `sender` [n_edges], CSR by receiver, and
/// `edge_vec` [n_edges, 3] in Å.
///
/// The list is checked when it is made, so that no kernel ever reads beyond a tensor.
#[derive(Clone, Debug)]
pub struct Graph<B: Backend> {
    row_ptr: Tensor<B, 1, Int>,
    sender: Tensor<B, 1, Int>,
    edge_vec: Tensor<B, 2>,
    /// Found by the first call on host, and kept for all with this list.
    order: Arc<ReceiverOrder>,
    /// Likewise, by the first backward on host.
    senders: Arc<OnceLock<SenderList>>,
    /// Likewise, by the first call on a device that sums by sender.
    by_sender: BySender<B>,
}

/// A list by sender on its device, where it is kept: `sender_ptr`, `transpose` and `receiver`.
pub(crate) type BySender<B> = Arc<OnceLock<[IntTensor<B>; 3]>>;

/// The list by sender; the first call for a list reads it back and sorts it on host.
pub(crate) fn by_sender<B: Backend>(
    kept: &BySender<B>,
    row_ptr: &IntTensor<B>,
    sender: &IntTensor<B>,
) -> Result<[IntTensor<B>; 3], OpError> {
    if let Some(found) = kept.get() {
        return Ok(found.clone());
    }
    let sender = Tensor::<B, 1, Int>::from_primitive(sender.clone());
    let row_ptr = read("row_ptr", &Tensor::<B, 1, Int>::from_primitive(row_ptr.clone()))?;
    let list = SenderList::new(&row_ptr, &read("sender", &sender)?);
    let upload = |values: Vec<u32>| {
        let values: Vec<i64> = values.into_iter().map(i64::from).collect();
        Tensor::<B, 1, Int>::from_data(&values[..], &sender.device()).into_primitive()
    };
    let SenderList { sender_ptr, transpose, receiver } = list;
    Ok(kept.get_or_init(|| [sender_ptr, transpose, receiver].map(upload)).clone())
}

impl<B: Backend> Graph<B> {
    /// Reads the list back from its device once and checks it.
    ///
    /// # Errors
    /// [`OpError`] where shapes do not fit together, `row_ptr` does not ascend from 0 to n_edges or a sender is no atom.
    pub fn new(row_ptr: Tensor<B, 1, Int>, sender: Tensor<B, 1, Int>, edge_vec: Tensor<B, 2>) -> Result<Self, OpError> {
        let graph = Self {
            row_ptr,
            sender,
            edge_vec,
            order: Arc::default(),
            senders: Arc::default(),
            by_sender: Arc::default(),
        };
        graph.check_shapes()?;
        let offsets = read("row_ptr", &graph.row_ptr)?;
        if offsets[0] != 0 {
            return Err(InputError::RowPtrStart { found: offsets[0] }.into());
        }
        if let Some(row) = offsets.windows(2).position(|w| w[0] > w[1]) {
            return Err(InputError::RowPtrDescends { row, from: offsets[row], to: offsets[row + 1] }.into());
        }
        let (n_atoms, n_edges) = (graph.n_atoms(), offsets[graph.n_atoms()] as usize);
        if n_edges != graph.n_edges() {
            let expected = format!("[n_edges] = [{n_edges}], the last entry of `row_ptr`");
            return Err(OpError::Shape { tensor: "sender", found: vec![graph.n_edges()], expected });
        }
        let senders = read("sender", &graph.sender)?;
        match senders.iter().position(|j| *j as usize >= n_atoms) {
            Some(edge) => Err(InputError::Sender { edge, found: senders[edge], n_atoms }.into()),
            None => Ok(graph),
        }
    }

    /// Uploads a list and its edge vectors [n_edges, 3] in Å, rounded to `dtype`.
    ///
    /// # Errors
    /// As [`Graph::new`].
    pub fn upload(
        row_ptr: &[u32],
        sender: &[u32],
        edge_vec: &[f64],
        dtype: Dtype,
        device: &B::Device,
    ) -> Result<Self, OpError> {
        let indices = |values: &[u32]| {
            let values: Vec<i64> = values.iter().map(|i| i64::from(*i)).collect();
            Tensor::<B, 1, Int>::from_data(&values[..], device)
        };
        let rows = edge_vec.len() / 3;
        Self::new(indices(row_ptr), indices(sender), floats(edge_vec, [rows, 3], dtype, device))
    }

    /// Takes a list that is known to be right, such as one that was built on the device, without reading it.
    ///
    /// # Errors
    /// [`OpError::Shape`] where shapes do not fit together.
    ///
    /// # Safety
    /// `row_ptr` ascends from 0 to n_edges and every sender is below n_atoms: kernels index with both, unchecked.
    pub unsafe fn new_unchecked(
        row_ptr: Tensor<B, 1, Int>,
        sender: Tensor<B, 1, Int>,
        edge_vec: Tensor<B, 2>,
    ) -> Result<Self, OpError> {
        let graph = Self {
            row_ptr,
            sender,
            edge_vec,
            order: Arc::default(),
            senders: Arc::default(),
            by_sender: Arc::default(),
        };
        graph.check_shapes()?;
        Ok(graph)
    }

    /// A list that a kernel built, with its transposed list.
    pub(crate) fn of_list(
        row_ptr: Tensor<B, 1, Int>,
        sender: Tensor<B, 1, Int>,
        edge_vec: Tensor<B, 2>,
        senders: Arc<OnceLock<SenderList>>,
        by_sender: BySender<B>,
    ) -> Self {
        Self { row_ptr, sender, edge_vec, order: Arc::default(), senders, by_sender }
    }

    /// The same list with other edge vectors [n_edges, 3] in Å, as after a step of dynamics.
    ///
    /// # Errors
    /// [`OpError::Shape`].
    pub fn with_edge_vec(&self, edge_vec: Tensor<B, 2>) -> Result<Self, OpError> {
        let graph = Self { edge_vec, ..self.clone() };
        graph.check_shapes()?;
        Ok(graph)
    }

    /// Atoms.
    pub fn n_atoms(&self) -> usize {
        self.row_ptr.dims()[0] - 1
    }

    /// Directed edges.
    pub fn n_edges(&self) -> usize {
        self.sender.dims()[0]
    }

    /// [n_atoms + 1].
    pub fn row_ptr(&self) -> &Tensor<B, 1, Int> {
        &self.row_ptr
    }

    /// [n_edges].
    pub fn sender(&self) -> &Tensor<B, 1, Int> {
        &self.sender
    }

    /// [n_edges, 3], Å.
    pub fn edge_vec(&self) -> &Tensor<B, 2> {
        &self.edge_vec
    }

    /// `row_ptr` and `sender`, read back from the device.
    pub(crate) fn read_list(&self) -> Result<(Vec<u32>, Vec<u32>), OpError> {
        Ok((read("row_ptr", &self.row_ptr)?, read("sender", &self.sender)?))
    }

    /// Where the order of receivers is kept.
    pub(super) fn order(&self) -> &Arc<ReceiverOrder> {
        &self.order
    }

    /// Where the list by sender on a device is kept.
    pub(crate) fn by_sender(&self) -> &BySender<B> {
        &self.by_sender
    }

    /// Where the list by sender is kept.
    pub(crate) fn senders(&self) -> &Arc<OnceLock<SenderList>> {
        &self.senders
    }

    fn check_shapes(&self) -> Result<(), OpError> {
        if self.row_ptr.dims()[0] == 0 {
            return Err(OpError::Shape { tensor: "row_ptr", found: vec![0], expected: "[n_atoms + 1]".to_owned() });
        }
        if self.edge_vec.dims() != [self.n_edges(), 3] {
            let expected = format!("[n_edges, 3] = [{}, 3]", self.n_edges());
            return Err(OpError::Shape { tensor: "edge_vec", found: self.edge_vec.dims().to_vec(), expected });
        }
        Ok(())
    }

    /// Checks what a call's other tensors decide: dtype and device.
    pub(super) fn check(&self, context: &Context<B::Device>) -> Result<(), OpError> {
        context.float("edge_vec", &self.edge_vec, [self.n_edges(), 3], "n_edges, 3")?;
        self.check_list(context)
    }

    /// Checks that the list is on the device of a call.
    pub(crate) fn check_list(&self, context: &Context<B::Device>) -> Result<(), OpError> {
        context.device("row_ptr", &self.row_ptr.device())?;
        context.device("sender", &self.sender.device())
    }
}

fn read<B: Backend>(tensor: &'static str, indices: &Tensor<B, 1, Int>) -> Result<Vec<u32>, OpError> {
    let data = indices.clone().try_into_data().map_err(|error| OpError::Read { tensor, reason: error.to_string() })?;
    data.iter::<i64>()
        .enumerate()
        .map(|(index, found)| u32::try_from(found).map_err(|_| OpError::Index { tensor, index, found }))
        .collect()
}

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

    /// Checks the tensors for K basis functions and C channels; returns the hidden width, 0 without one.
    pub(super) fn check(
        &self,
        context: &Context<B::Device>,
        n_basis: usize,
        channels: usize,
    ) -> Result<usize, OpError> {
        match self {
            Self::Linear { a, b } => {
                context.float("A", a, [n_basis, channels], "K, C")?;
                context.float("b", b, [channels], "C")?;
                Ok(0)
            }
            Self::Mlp { a1, b1, a2, b2, .. } => {
                let hidden = a1.dims()[1];
                context.float("A1", a1, [n_basis, hidden], "K, H")?;
                context.float("b1", b1, [hidden], "H")?;
                context.float("A2", a2, [hidden, channels], "H, C")?;
                context.float("b2", b2, [channels], "C")?;
                Ok(hidden)
            }
            Self::Tabulated { values } => {
                let [n_nodes, order, _] = values.dims();
                context.float("table", values, [n_nodes, order, channels], "n_nodes, order, C")?;
                Ok(0)
            }
        }
    }

    /// The filter's sizes with empty tensors.
    pub(super) fn sizes(&self, hidden: usize) -> Filter<f64> {
        let none = Vec::new;
        match self {
            Self::Linear { .. } => Filter::Linear { a: none(), b: none() },
            Self::Mlp { activation, .. } => {
                Filter::Mlp { hidden, a1: none(), b1: none(), a2: none(), b2: none(), activation: *activation }
            }
            Self::Tabulated { values } => {
                let [n_nodes, order, _] = values.dims();
                Filter::Tabulated { order, n_nodes, values: none() }
            }
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
