//! What a call of the host kernels is: its tensors, cotangents, tangent and launch parameters.

use arrayvec::ArrayVec;
use ff_spec::fused_message::{Filter, Wanted};

use super::order::ReceiverOrder;
use super::radial::MAX_PARAMETERS;
use super::weights::PackedFilter;

/// Borrowed inputs of one call; shapes as in [`ff_spec::fused_message::Inputs`], already checked. `nodes` and `vectors` are
/// read fastest where they start at a cache line, as in [`Aligned`](crate::Aligned).
pub struct Call<'a, T> {
    /// Feature width F.
    pub features: usize,
    /// [n_atoms + 1].
    pub row_ptr: &'a [u32],
    /// [n_edges].
    pub sender: &'a [u32],
    /// [n_edges, 3], Å.
    pub edge_vec: &'a [T],
    /// `x` or `s`.
    pub nodes: &'a [T],
    /// `mu`, or empty.
    pub vectors: &'a [T],
    /// r_c, Å.
    pub r_cut: T,
    /// K.
    pub n_basis: usize,
    /// Parameters of the basis in declared order, each of length 1 or K.
    pub basis: ArrayVec<&'a [T], MAX_PARAMETERS>,
    /// Parameters of the cutoff function in declared order.
    pub cutoff: Vec<T>,
    /// Weights.
    pub filter: &'a Filter<T>,
    /// The filter as the caller has packed it for this configuration and derivative order. Without, every call packs it,
    /// which of a table costs a molecule as much as the message.
    pub packed: Option<&'a PackedFilter<T>>,
    /// Where the order of receivers is kept between calls with the same neighbour list. Without, every call finds it, on
    /// one thread.
    pub order: Option<&'a ReceiverOrder>,
}

/// What the backward reads besides its call.
#[derive(Clone, Copy)]
pub struct Backward<'a, T> {
    /// [n_atoms + 1], the list by sender.
    pub sender_ptr: &'a [u32],
    /// [n_edges], the edges of each sender.
    pub transpose: &'a [u32],
    /// [n_edges], the receiver of each edge.
    pub receiver: &'a [u32],
    /// Gradient in `y` or `dq`, [n_atoms, F].
    pub nodes: &'a [T],
    /// Gradient in `dmu`, [n_atoms, 3, F], or empty.
    pub vectors: &'a [T],
    /// What is computed; the rest of the outputs is left alone.
    pub wanted: Wanted,
}

/// A tangent in the inputs of a call; shapes as theirs.
#[derive(Clone, Copy)]
pub struct Direction<'a, T> {
    /// In `x` or `s`.
    pub nodes: &'a [T],
    /// In `mu`, or empty.
    pub vectors: &'a [T],
    /// In the edge vectors.
    pub edge_vec: &'a [T],
    /// In the filter's weights, if any.
    pub filter: Option<&'a Filter<T>>,
}

impl<T> Call<'_, T> {
    /// Coefficients per edge of the filter's last linear map.
    pub(super) fn depth(&self) -> usize {
        match self.filter {
            Filter::Linear { .. } => self.n_basis,
            Filter::Mlp { hidden, .. } => *hidden,
            Filter::Tabulated { order, .. } => 2 * order,
        }
    }

    /// Units of the hidden layer, 0 where there is none.
    pub(super) fn hidden(&self) -> usize {
        match self.filter {
            Filter::Mlp { hidden, .. } => *hidden,
            _ => 0,
        }
    }

    /// The order in which rows are summed, `own` being where it is kept if the caller keeps none.
    pub(super) fn row_order<'b>(&'b self, own: &'b ReceiverOrder) -> Option<&'b [u32]> {
        let bytes = size_of_val(self.nodes) + size_of_val(self.vectors);
        self.order.unwrap_or(own).of(bytes, self.row_ptr, self.sender)
    }
}
