//! The host's kept lists.

use burn_flex::{Flex, FlexTensor};
use ff_kernels::SenderList;
use ff_kernels::cell_list::host::{Real, SkinList};
use ff_kernels::cell_list::{Repair, host_config};
use ff_spec::cell_list::NeighborList;
use ff_spec::{Dtype, LaunchError};

use super::{CellListBackend, ListRequest, ListTensors};
use crate::flex::tensor;

/// A list of either dtype.
#[derive(Debug)]
pub enum HostList {
    /// Of f32.
    F32(SkinList<f32>),
    /// Of f64.
    F64(SkinList<f64>),
}

/// Evaluates `$body` with `$list` of its dtype.
macro_rules! of_dtype {
    ($any:expr, $list:ident => $body:expr) => {
        match $any {
            HostList::F32($list) => $body,
            HostList::F64($list) => $body,
        }
    };
}

impl CellListBackend for Flex {
    type List = HostList;

    fn build(request: ListRequest, _: &Self::Device) -> Result<HostList, LaunchError> {
        let ListRequest { variant, dtype, inputs, skin, config, .. } = request;
        let config = host_config(&config)?;
        Ok(match dtype {
            Dtype::F32 => HostList::F32(SkinList::new(inputs.cast(), skin as f32, variant, config)?),
            Dtype::F64 => HostList::F64(SkinList::new(inputs, skin, variant, config)?),
        })
    }

    fn update(list: &mut HostList, positions: FlexTensor) -> Result<(), LaunchError> {
        let positions = positions.to_contiguous();
        of_dtype!(list, list => list.update(positions.storage(), None))?;
        Ok(())
    }

    fn set_cell(list: &mut HostList, cell: &[f64]) -> Result<Option<Repair>, LaunchError> {
        match list {
            HostList::F32(list) => {
                let cell: Vec<f32> = cell.iter().map(|x| *x as f32).collect();
                list.set_cell(&cell)?
            }
            HostList::F64(list) => list.set_cell(cell)?,
        };
        Ok(None)
    }

    fn finish(_: &mut HostList) -> Result<Option<Repair>, LaunchError> {
        Ok(None)
    }

    fn rebuilds(list: &HostList) -> Result<Vec<u64>, LaunchError> {
        Ok(of_dtype!(list, list => list.rebuilds().to_vec()))
    }

    fn tensors(list: &HostList) -> ListTensors<Self> {
        of_dtype!(list, list => tensors(list.list()))
    }
}

fn tensors<T: Real + burn::tensor::Element>(list: &NeighborList<T>) -> ListTensors<Flex> {
    let n_edges = list.n_edges();
    let indices = |values: &[u32]| tensor(values.iter().map(|i| i64::from(*i)).collect(), &[values.len()]);
    let receiver = list.transpose.iter().map(|reverse| list.sender[*reverse as usize]).collect();
    ListTensors {
        row_ptr: indices(&list.row_ptr),
        sender: indices(&list.sender),
        shift: tensor(list.shift.iter().flatten().map(|s| i64::from(*s)).collect(), &[n_edges, 3]),
        edge_vec: tensor(list.edge_vec.as_flattened().to_vec(), &[n_edges, 3]),
        transpose: indices(&list.transpose),
        senders: Some(SenderList { sender_ptr: list.sender_ptr.clone(), transpose: list.transpose.clone(), receiver }),
    }
}
