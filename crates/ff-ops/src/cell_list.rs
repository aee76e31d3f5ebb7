//! Neighbour lists of atoms whose positions are Burn tensors, kept from step to step.
//!
//! [`Neighbors`] holds the list of a batch of systems at cutoff + skin. [`Neighbors::update`] moves the atoms: the list of a
//! system is built again only where an atom has moved by more than skin/2 since. On a device all of this happens there, with
//! nothing read back; [`Neighbors::finish`] says whether every list since the last call had room. The graph feeds
//! [`fused_message`](crate::fused_message) directly, with its transposed list.
//!
//! The list is fixed in every backward. Edge vectors that depend on positions are those of
//! [`edge_vec`](crate::force_scatter::edge_vec), with [`Neighbors::offset`].

mod autodiff;
mod cube;
mod flex;
#[cfg(feature = "fusion")]
mod fusion;

use std::fmt;
use std::sync::{Arc, OnceLock};

use burn::tensor::ops::{FloatTensor, IntTensor};
use burn::tensor::{Int, Tensor, TensorData};
use ff_kernels::SenderList;
pub use ff_kernels::cell_list::Repair;
use ff_kernels::cell_list::{cube_config, default_config, host_config};
use ff_spec::cell_list::{Inputs, List, Variant};
use ff_spec::{DeviceId, Dtype, LaunchConfig, LaunchError, RuntimeKind};
use ff_tables::cell_list::{ListQuery, select_list};
use ff_tables::{Selection, Table};

use crate::call::{Context, OpError, primitive, tensor};
use crate::dtype::burn_dtype;
use crate::force_scatter::{ForceScatterBackend, Systems};
use crate::graph::{Graph, HostList};

/// A backend that keeps neighbour lists.
pub trait CellListBackend: ForceScatterBackend {
    /// A list with what it needs to be built again.
    type List: fmt::Debug;

    /// Builds a list.
    ///
    /// # Errors
    /// [`LaunchError`] for what no list can be made of and what the device refuses.
    fn build(request: ListRequest, device: &Self::Device) -> Result<Self::List, LaunchError>;

    /// Moves the atoms to `positions` [n_atoms, 3].
    ///
    /// # Errors
    /// As [`CellListBackend::build`], of what is known without waiting for the device.
    fn update(list: &mut Self::List, positions: FloatTensor<Self>) -> Result<(), LaunchError>;

    /// Changes the cells to `cell` [n_systems, 3, 3] in Å.
    ///
    /// # Errors
    /// As [`CellListBackend::build`].
    fn set_cell(list: &mut Self::List, cell: &[f64]) -> Result<Option<Repair>, LaunchError>;

    /// Waits, and says what was made good.
    ///
    /// # Errors
    /// As [`CellListBackend::build`].
    fn finish(list: &mut Self::List) -> Result<Option<Repair>, LaunchError>;

    /// Builds of each system since the first, [n_systems].
    ///
    /// # Errors
    /// [`LaunchError::Runtime`].
    fn rebuilds(list: &Self::List) -> Result<Vec<u64>, LaunchError>;

    /// The full list.
    fn tensors(list: &Self::List) -> ListTensors<Self>;
}

/// What a list is built from.
pub struct ListRequest {
    device: DeviceId,
    variant: Variant,
    dtype: Dtype,
    inputs: Inputs<f64>,
    skin: f64,
    config: LaunchConfig,
}

/// A full list; behind its end the arrays of edges may go on with zeros.
#[derive(Debug)]
pub struct ListTensors<B: CellListBackend> {
    /// [n_atoms + 1].
    pub row_ptr: IntTensor<B>,
    /// [n_edges].
    pub sender: IntTensor<B>,
    /// [n_edges, 3].
    pub shift: IntTensor<B>,
    /// [n_edges, 3], Å.
    pub edge_vec: FloatTensor<B>,
    /// The reverse of each edge, [n_edges].
    pub transpose: IntTensor<B>,
    /// The transposed list on the host, where the kernels read it there.
    pub senders: Option<SenderList>,
}

/// Systems in the order of their atoms.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    /// Atoms of each system, [n_systems].
    pub n_atoms: &'a [usize],
    /// Lattice vectors as rows, [n_systems, 3, 3], Å; those of open directions are not read.
    pub cell: &'a [f64],
    /// Which of them repeat, [n_systems].
    pub pbc: &'a [[bool; 3]],
}

/// How far a list reaches, and what it may use.
#[derive(Clone, Copy, Debug)]
pub struct Options<'a> {
    /// Pairs with d < cutoff are never missed, Å.
    pub cutoff: f64,
    /// How much further pairs are listed, Å: half of it is how far an atom may move before its system is built again.
    pub skin: f64,
    /// The tuning tables at hand; none means cells in their default configuration.
    pub tables: &'a [Table],
}

/// The full neighbour list of a batch, kept while its atoms move.
#[derive(Debug)]
pub struct Neighbors<B: CellListBackend> {
    list: B::List,
    context: Context<B::Device>,
    n_atoms: usize,
    /// [n_systems + 1].
    system_ptr: Tensor<B, 1, Int>,
    /// The system of each atom, [n_atoms].
    of_atoms: Tensor<B, 1, Int>,
    /// Lattice vectors with zeros in open directions, [n_systems, 3, 3].
    cell: Tensor<B, 3>,
    pbc: Vec<[bool; 3]>,
    variant: Variant,
    config: LaunchConfig,
    selection: Selection,
}

impl<B: CellListBackend> Neighbors<B> {
    /// Builds the list of atoms at `positions` [n_atoms, 3] in Å, f32 or f64, which are read back once.
    ///
    /// # Errors
    /// [`OpError`] for the first thing that does not fit.
    pub fn new(positions: Tensor<B, 2>, batch: &Batch<'_>, options: &Options<'_>) -> Result<Self, OpError> {
        let context = Context::of("positions", &positions)?;
        let dtype = context.dtype;
        let n_atoms: usize = batch.n_atoms.iter().sum();
        context.float("positions", &positions, [n_atoms, 3], "n_atoms, 3")?;
        let data = positions
            .try_into_data()
            .map_err(|error| OpError::Read { tensor: "positions", reason: error.to_string() })?;
        let mut system_ptr = vec![0_u32];
        for n in batch.n_atoms {
            // More atoms than u32 counts are refused where the list is built.
            system_ptr.push(system_ptr[system_ptr.len() - 1].saturating_add(u32::try_from(*n).unwrap_or(u32::MAX)));
        }
        let inputs = Inputs {
            positions: data.iter::<f64>().collect(),
            system_ptr: system_ptr.clone(),
            cell: batch.cell.to_vec(),
            pbc: batch.pbc.to_vec(),
            cutoff: options.cutoff,
        };
        inputs.check().map_err(LaunchError::from)?;
        Inputs::check_skin(options.skin).map_err(LaunchError::from)?;
        let id = B::device_id(&context.device);
        let problem = Inputs { cutoff: options.cutoff + options.skin, ..inputs.clone() }.estimate("");
        let query = ListQuery {
            device: &id,
            template_hash: ff_kernels::generated::CELL_LIST_TEMPLATE_HASH,
            list: List::Full,
            dtype,
            problem: &problem,
        };
        let (variant, selection) = select_list(options.tables, query, |_, config| match id.runtime {
            RuntimeKind::Host => host_config(config).is_ok(),
            _ => cube_config(&id.limits, config).is_ok(),
        });
        let config = selection.config.clone().unwrap_or_else(|| default_config(&id, &variant, dtype, &problem));
        let request = ListRequest { device: id, variant, dtype, inputs, skin: options.skin, config: config.clone() };
        let list = B::build(request, &context.device)?;
        let indices = |values: Vec<i64>| Tensor::<B, 1, Int>::from_data(&values[..], &context.device);
        let of_atoms = batch.n_atoms.iter().enumerate().flat_map(|(s, n)| std::iter::repeat_n(s as i64, *n)).collect();
        Ok(Self {
            list,
            n_atoms,
            system_ptr: indices(system_ptr.into_iter().map(i64::from).collect()),
            of_atoms: indices(of_atoms),
            cell: lattice(batch.cell, batch.pbc, &context),
            pbc: batch.pbc.to_vec(),
            variant,
            config,
            selection,
            context,
        })
    }

    /// Moves the atoms to `positions` [n_atoms, 3] in Å, and builds the lists again that may miss a pair. Nothing is waited for
    /// on a device: a position that is not finite and a list without room show in [`Neighbors::finish`], and until then such a
    /// list is empty.
    ///
    /// # Errors
    /// [`OpError`] for what does not fit; on the host for everything.
    pub fn update(&mut self, positions: Tensor<B, 2>) -> Result<(), OpError> {
        self.context.float("positions", &positions, [self.n_atoms, 3], "n_atoms, 3")?;
        Ok(B::update(&mut self.list, primitive(positions))?)
    }

    /// Changes the cells to `cell` [n_systems, 3, 3] in Å, and builds the systems again whose cell is another.
    ///
    /// # Errors
    /// [`OpError`] for cells that no list can be made of.
    pub fn set_cell(&mut self, cell: &[f64]) -> Result<Option<Repair>, OpError> {
        let repair = B::set_cell(&mut self.list, cell)?;
        self.cell = lattice(cell, &self.pbc, &self.context);
        Ok(repair)
    }

    /// Waits for the lists since the last call, and says what kept any of them from being written: those of the latest positions
    /// are there now, and what was computed with the ones before must be computed again.
    ///
    /// # Errors
    /// [`OpError`] for positions that are not finite and for more edges than the index type holds.
    pub fn finish(&mut self) -> Result<Option<Repair>, OpError> {
        Ok(B::finish(&mut self.list)?)
    }

    /// The list with the edge vectors of the latest positions. On a device its arrays of edges may go on behind the end of the
    /// list, with zeros, as its length is known there alone.
    pub fn graph(&self) -> Graph<B> {
        let ListTensors { row_ptr, sender, edge_vec, transpose, senders, .. } = B::tensors(&self.list);
        let [row_ptr, sender, transpose] = [row_ptr, sender, transpose].map(Tensor::<B, 1, Int>::from_primitive);
        // The receiver of an edge is the sender of its reverse.
        let receiver = sender.clone().select(0, transpose.clone());
        let by_sender = [row_ptr.clone(), transpose, receiver].map(Tensor::into_primitive);
        let host = senders.map(HostList::with_senders).unwrap_or_default();
        Graph::of_list(row_ptr, sender, tensor(edge_vec), host, Arc::new(OnceLock::from(by_sender)))
    }

    /// S·H of each edge in Å, [n_edges, 3], as [`edge_vec`](crate::force_scatter::edge_vec) takes it.
    pub fn offset(&self) -> Tensor<B, 2> {
        let ListTensors { sender, shift, .. } = B::tensors(&self.list);
        let of_edges = self.of_atoms.clone().select(0, Tensor::from_primitive(sender));
        let shift = Tensor::<B, 2, Int>::from_primitive(shift).float().cast(burn_dtype(self.context.dtype));
        shift.unsqueeze_dim::<3>(1).matmul(self.cell.clone().select(0, of_edges)).squeeze_dim::<2>(1)
    }

    /// The systems of the list, as [`force_scatter`](crate::force_scatter::force_scatter) takes them.
    pub fn systems(&self) -> Systems<B> {
        let sender = Tensor::<B, 1, Int>::from_primitive(B::tensors(&self.list).sender);
        Systems::of_list(self.n_atoms, self.system_ptr.clone(), self.of_atoms.clone().select(0, sender))
    }

    /// How often the list of each system was built again, [n_systems]. Waits for the device.
    ///
    /// # Errors
    /// [`OpError::Launch`] where the device fails.
    pub fn rebuilds(&self) -> Result<Vec<u64>, OpError> {
        Ok(B::rebuilds(&self.list)?)
    }

    /// The variant and the configuration that are used, and how they were found.
    pub fn choice(&self) -> (Variant, &LaunchConfig, &Selection) {
        (self.variant, &self.config, &self.selection)
    }
}

/// Cells as a tensor, with zeros in open directions.
fn lattice<B: CellListBackend>(cell: &[f64], pbc: &[[bool; 3]], context: &Context<B::Device>) -> Tensor<B, 3> {
    let rows = cell.chunks(3).zip(pbc.as_flattened());
    let values: Vec<f64> =
        rows.flat_map(|(row, periodic)| row.iter().map(|x| if *periodic { *x } else { 0.0 })).collect();
    let dtype = burn_dtype(context.dtype);
    Tensor::from_data(TensorData::new(values, [pbc.len(), 3, 3]).convert_dtype(dtype), (&context.device, dtype))
}
