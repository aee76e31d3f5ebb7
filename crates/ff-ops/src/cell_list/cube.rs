//! The lists that CubeCL devices keep.

use std::fmt;

use burn::tensor::DType;
use burn::tensor::Shape;
use burn::tensor::backend::DeviceOps;
use burn_cubecl::cubecl::server::{ComputeServer, Handle};
use burn_cubecl::tensor::CubeTensor;
use burn_cubecl::{BoolElement, CubeBackend, FloatElement, IntElement};
use ff_kernels::cell_list::{CubeSkinList, ListBuffers, Repair};
use ff_spec::{Dtype, LaunchError};

use super::{CellListBackend, ListRequest, ListTensors};
use crate::dtype::burn_dtype;
use crate::fused_message::CubeKernels;
use crate::fused_message::cube::buffer;

/// A list of either dtype on its device.
pub struct CubeList<R: CubeKernels> {
    list: OfDtype<R>,
    device: R::Device,
}

enum OfDtype<R: CubeKernels> {
    F32(CubeSkinList<R, f32>),
    F64(CubeSkinList<R, f64>),
}

/// Evaluates `$body` with `$list` of its dtype.
macro_rules! of_dtype {
    ($any:expr, $list:ident => $body:expr) => {
        match $any {
            OfDtype::F32($list) => $body,
            OfDtype::F64($list) => $body,
        }
    };
}

impl<R: CubeKernels> fmt::Debug for CubeList<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (n_atoms, capacity) = of_dtype!(&self.list, list => (list.n_atoms(), list.capacity()));
        write!(f, "list of {n_atoms} atoms with room for {capacity} edges on {:?}", self.device)
    }
}

impl<R, F, I, BT> CellListBackend for CubeBackend<R, F, I, BT>
where
    R: CubeKernels,
    R::Server: ComputeServer,
    R::Device: DeviceOps,
    F: FloatElement,
    I: IntElement,
    BT: BoolElement,
{
    type List = CubeList<R>;

    fn build(request: ListRequest, device: &R::Device) -> Result<CubeList<R>, LaunchError> {
        let ListRequest { device: id, variant, dtype, inputs, skin, config } = request;
        if dtype == Dtype::F64 && !id.f64 {
            return Err(LaunchError::Unsupported(format!("{} does not compute in f64", id.name)));
        }
        let client = R::client(device);
        let list = match dtype {
            Dtype::F32 => OfDtype::F32(CubeSkinList::new(&client, &id, variant, inputs.cast(), skin as f32, &config)?),
            Dtype::F64 => OfDtype::F64(CubeSkinList::new(&client, &id, variant, inputs, skin, &config)?),
        };
        Ok(CubeList { list, device: device.clone() })
    }

    fn update(list: &mut CubeList<R>, positions: CubeTensor<R>) -> Result<(), LaunchError> {
        // Without atoms there is nothing to move.
        if let Some((positions, _)) = buffer(Some(positions)) {
            // SAFETY: `Neighbors` checked shape, dtype and device.
            of_dtype!(&mut list.list, list => unsafe { list.update(positions) });
        }
        Ok(())
    }

    fn set_cell(list: &mut CubeList<R>, cell: &[f64]) -> Result<Option<Repair>, LaunchError> {
        match &mut list.list {
            OfDtype::F32(list) => list.set_cell(&cell.iter().map(|x| *x as f32).collect::<Vec<_>>()),
            OfDtype::F64(list) => list.set_cell(cell),
        }
    }

    fn finish(list: &mut CubeList<R>) -> Result<Option<Repair>, LaunchError> {
        of_dtype!(&mut list.list, list => list.finish())
    }

    fn rebuilds(list: &CubeList<R>) -> Result<Vec<u64>, LaunchError> {
        let counts = of_dtype!(&list.list, list => list.rebuilds())?;
        Ok(counts.into_iter().map(u64::from).collect())
    }

    fn tensors(list: &CubeList<R>) -> ListTensors<Self> {
        let (n_atoms, buffers) = of_dtype!(&list.list, list => (list.n_atoms(), list.buffers()));
        let dtype = match list.list {
            OfDtype::F32(_) => Dtype::F32,
            OfDtype::F64(_) => Dtype::F64,
        };
        let client = R::client(&list.device);
        let tensor = |handle: Handle, shape: &[usize], dtype| {
            CubeTensor::new_contiguous(client.clone(), list.device.clone(), Shape::from(shape.to_vec()), handle, dtype)
        };
        let ListBuffers { capacity, row_ptr, sender, shift, edge_vec, transpose, .. } = buffers;
        ListTensors {
            row_ptr: tensor(row_ptr, &[n_atoms + 1], DType::I32),
            sender: tensor(sender, &[capacity], DType::I32),
            shift: tensor(shift, &[capacity, 3], DType::I32),
            edge_vec: tensor(edge_vec, &[capacity, 3], burn_dtype(dtype)),
            transpose: tensor(transpose, &[capacity], DType::I32),
            senders: None,
        }
    }
}
