//! Neighbour lists as ops on tensors read them.

use std::sync::{Arc, OnceLock};

use burn::tensor::backend::Backend;
use burn::tensor::ops::IntTensor;
use burn::tensor::{Int, Tensor, TensorData};
use ff_kernels::SenderList;
use ff_kernels::fused_message::host::ReceiverOrder;
use ff_spec::Dtype;
use ff_spec::fused_message::InputError;

use crate::call::{Context, OpError};
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
    /// Read by the host kernels alone.
    host: Arc<HostList>,
    /// Found by the first call on a device that sums by sender, and kept for all with this list.
    by_sender: BySender<B>,
    /// The atoms of one system as `system_ptr`, likewise.
    whole: Arc<OnceLock<IntTensor<B>>>,
}

/// What is known of a list on host: the indices where they were checked, and what the host kernels read, found by the first call
/// that needs it and kept for all with this list.
#[derive(Debug, Default)]
pub(crate) struct HostList {
    indices: OnceLock<[Vec<u32>; 2]>,
    senders: OnceLock<SenderList>,
    order: ReceiverOrder,
}

impl HostList {
    /// With the list by sender that a kernel built.
    pub fn with_senders(senders: SenderList) -> Self {
        Self { senders: OnceLock::from(senders), ..Self::default() }
    }

    /// With `row_ptr` and `sender`.
    fn with_indices(indices: [Vec<u32>; 2]) -> Self {
        Self { indices: OnceLock::from(indices), ..Self::default() }
    }

    /// `row_ptr` and `sender`, which are `read` once.
    pub fn indices(&self, read: impl FnOnce() -> [Vec<u32>; 2]) -> &[Vec<u32>; 2] {
        self.indices.get_or_init(read)
    }

    /// `row_ptr` and `sender`, read back from the device where nobody has looked at them.
    fn read<B: Backend>(
        &self,
        row_ptr: &Tensor<B, 1, Int>,
        sender: &Tensor<B, 1, Int>,
    ) -> Result<&[Vec<u32>; 2], OpError> {
        if let Some(known) = self.indices.get() {
            return Ok(known);
        }
        let found = [read("row_ptr", row_ptr)?, read("sender", sender)?];
        Ok(self.indices(|| found))
    }

    /// The list by sender of these `row_ptr` and `sender`.
    pub fn senders(&self, [row_ptr, sender]: &[Vec<u32>; 2]) -> &SenderList {
        self.senders.get_or_init(|| SenderList::new(row_ptr, sender))
    }

    /// Where the order of receivers is kept.
    pub fn order(&self) -> &ReceiverOrder {
        &self.order
    }
}

/// A list by sender on its device, where it is kept: `sender_ptr`, `transpose` and `receiver`.
pub(crate) type BySender<B> = Arc<OnceLock<[IntTensor<B>; 3]>>;

/// The list by sender; the first call for a list sorts it on host, where it reads back what is not known there.
pub(crate) fn by_sender<B: Backend>(
    kept: &BySender<B>,
    host: &HostList,
    row_ptr: &IntTensor<B>,
    sender: &IntTensor<B>,
) -> Result<[IntTensor<B>; 3], OpError> {
    if let Some(found) = kept.get() {
        return Ok(found.clone());
    }
    let sender = Tensor::<B, 1, Int>::from_primitive(sender.clone());
    let row_ptr = Tensor::<B, 1, Int>::from_primitive(row_ptr.clone());
    let SenderList { sender_ptr, transpose, receiver } = host.senders(host.read(&row_ptr, &sender)?);
    let upload = |values: &Vec<u32>| indices::<B>(values, &sender.device()).into_primitive();
    Ok(kept.get_or_init(|| [sender_ptr, transpose, receiver].map(upload)).clone())
}

fn indices<B: Backend>(values: &[u32], device: &B::Device) -> Tensor<B, 1, Int> {
    let values: Vec<i64> = values.iter().map(|i| i64::from(*i)).collect();
    Tensor::from_data(&values[..], device)
}

impl<B: Backend> Graph<B> {
    /// Reads the list back from its device once and checks it.
    ///
    /// # Errors
    /// [`OpError`] where shapes do not fit together, `row_ptr` does not ascend from 0 to n_edges or a sender is no atom.
    pub fn new(row_ptr: Tensor<B, 1, Int>, sender: Tensor<B, 1, Int>, edge_vec: Tensor<B, 2>) -> Result<Self, OpError> {
        let graph = Self::of_list(row_ptr, sender, edge_vec, HostList::default(), Arc::default());
        graph.check_shapes()?;
        graph.checked()
    }

    /// The same, with a list on host that is right.
    fn checked(self) -> Result<Self, OpError> {
        let [offsets, senders] = self.host.read(&self.row_ptr, &self.sender)?;
        if offsets[0] != 0 {
            return Err(InputError::RowPtrStart { found: offsets[0] }.into());
        }
        if let Some(row) = offsets.windows(2).position(|w| w[0] > w[1]) {
            return Err(InputError::RowPtrDescends { row, from: offsets[row], to: offsets[row + 1] }.into());
        }
        let (n_atoms, n_edges) = (self.n_atoms(), offsets[self.n_atoms()] as usize);
        if n_edges != self.n_edges() {
            let expected = format!("[n_edges] = [{n_edges}], the last entry of `row_ptr`");
            return Err(OpError::Shape { tensor: "sender", found: vec![self.n_edges()], expected });
        }
        match senders.iter().position(|j| *j as usize >= n_atoms) {
            Some(edge) => Err(InputError::Sender { edge, found: senders[edge], n_atoms }.into()),
            None => Ok(self),
        }
    }

    /// Uploads a list and its edge vectors [n_edges, 3] in Å, rounded to `dtype`. Nothing is read back.
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
        let (edge_vec, dtype) = (TensorData::new(edge_vec.to_vec(), [edge_vec.len() / 3, 3]), burn_dtype(dtype));
        let edge_vec = Tensor::from_data(edge_vec.convert_dtype(dtype), (device, dtype));
        let host = HostList::with_indices([row_ptr.to_vec(), sender.to_vec()]);
        let [row_ptr, sender] = [row_ptr, sender].map(|values| indices(values, device));
        let graph = Self::of_list(row_ptr, sender, edge_vec, host, Arc::default());
        graph.check_shapes()?;
        graph.checked()
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
        let graph = Self::of_list(row_ptr, sender, edge_vec, HostList::default(), Arc::default());
        graph.check_shapes()?;
        Ok(graph)
    }

    /// A list that a kernel built, with its transposed list.
    pub(crate) fn of_list(
        row_ptr: Tensor<B, 1, Int>,
        sender: Tensor<B, 1, Int>,
        edge_vec: Tensor<B, 2>,
        host: HostList,
        by_sender: BySender<B>,
    ) -> Self {
        Self { row_ptr, sender, edge_vec, host: Arc::new(host), by_sender, whole: Arc::default() }
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

    /// `row_ptr` and `sender`, read back from the device where they are not known on host.
    pub(crate) fn read_list(&self) -> Result<&[Vec<u32>; 2], OpError> {
        self.host.read(&self.row_ptr, &self.sender)
    }

    /// What is kept for the host kernels.
    pub(crate) fn host(&self) -> &Arc<HostList> {
        &self.host
    }

    /// `system_ptr` [2] of all atoms as one system.
    pub(crate) fn whole(&self) -> IntTensor<B> {
        let upload =
            || Tensor::<B, 1, Int>::from_data([0, self.n_atoms() as i64], &self.sender.device()).into_primitive();
        self.whole.get_or_init(upload).clone()
    }

    /// Where the list by sender on a device is kept.
    pub(crate) fn by_sender(&self) -> &BySender<B> {
        &self.by_sender
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
    pub(crate) fn check(&self, context: &Context<B::Device>) -> Result<(), OpError> {
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
