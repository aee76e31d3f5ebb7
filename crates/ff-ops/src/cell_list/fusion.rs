//! Lists of the backend beneath Burn's fusion wrapper.

use std::fmt;

use burn::tensor::ops::FloatTensor;
use burn_fusion::{Fusion, FusionBackend};
use ff_kernels::cell_list::Repair;
use ff_spec::LaunchError;

use super::{CellListBackend, ListRequest, ListTensors};
use crate::fusion::{float, fused, fused_int};

/// A list and the device of its tensors.
pub struct FusionList<B: CellListBackend> {
    list: B::List,
    device: B::Device,
}

impl<B: CellListBackend> fmt::Debug for FusionList<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.list.fmt(f)
    }
}

impl<B: FusionBackend + CellListBackend> CellListBackend for Fusion<B> {
    type List = FusionList<B>;

    fn build(request: ListRequest, device: &Self::Device) -> Result<FusionList<B>, LaunchError> {
        Ok(FusionList { list: B::build(request, device)?, device: device.clone() })
    }

    fn update(list: &mut FusionList<B>, positions: FloatTensor<Self>) -> Result<(), LaunchError> {
        B::update(&mut list.list, float::<B>(positions))
    }

    fn set_cell(list: &mut FusionList<B>, cell: &[f64]) -> Result<Option<Repair>, LaunchError> {
        B::set_cell(&mut list.list, cell)
    }

    fn finish(list: &mut FusionList<B>) -> Result<Option<Repair>, LaunchError> {
        B::finish(&mut list.list)
    }

    fn rebuilds(list: &FusionList<B>) -> Result<Vec<u64>, LaunchError> {
        B::rebuilds(&list.list)
    }

    fn tensors(FusionList { list, device }: &FusionList<B>) -> ListTensors<Self> {
        let ListTensors { row_ptr, sender, shift, edge_vec, transpose, senders } = B::tensors(list);
        ListTensors {
            row_ptr: fused_int::<B>(device, row_ptr),
            sender: fused_int::<B>(device, sender),
            shift: fused_int::<B>(device, shift),
            edge_vec: fused::<B>(device, edge_vec),
            transpose: fused_int::<B>(device, transpose),
            senders,
        }
    }
}
