//! Lists beneath a graph: they are constants of it.

use burn::tensor::backend::AutodiffBackend;
use burn::tensor::ops::FloatTensor;
use burn_autodiff::Autodiff;
use burn_autodiff::checkpoint::strategy::CheckpointStrategy;
use ff_kernels::cell_list::Repair;
use ff_spec::LaunchError;

use super::{CellListBackend, ListRequest, ListTensors};

impl<B: CellListBackend, C: CheckpointStrategy> CellListBackend for Autodiff<B, C> {
    type List = B::List;

    fn build(request: ListRequest, device: &Self::Device) -> Result<B::List, LaunchError> {
        B::build(request, device)
    }

    fn update(list: &mut B::List, positions: FloatTensor<Self>) -> Result<(), LaunchError> {
        B::update(list, positions.primitive)
    }

    fn set_cell(list: &mut B::List, cell: &[f64]) -> Result<Option<Repair>, LaunchError> {
        B::set_cell(list, cell)
    }

    fn finish(list: &mut B::List) -> Result<Option<Repair>, LaunchError> {
        B::finish(list)
    }

    fn rebuilds(list: &B::List) -> Result<Vec<u64>, LaunchError> {
        B::rebuilds(list)
    }

    fn tensors(list: &B::List) -> ListTensors<Self> {
        let ListTensors { row_ptr, sender, shift, edge_vec, transpose, senders } = B::tensors(list);
        ListTensors { row_ptr, sender, shift, edge_vec: Self::from_inner(edge_vec), transpose, senders }
    }
}
