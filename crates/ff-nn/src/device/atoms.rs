//! Structures as one flat list on a device.

use burn::tensor::{Int, Tensor};
use ff_kernels::cell_list::host::{HostConfig, build};
use ff_model::ModelError;
use ff_ops::force_scatter::Systems;
use ff_ops::fused_message::Graph;
use ff_spec::Dtype;
use ff_spec::cell_list::{List, NeighborList, Strategy};
use ff_structure::{NeighborError, Structure, batch};

use crate::error::NetworkError;
use crate::network::NetworkBackend;

/// Atoms of structures that are computed together.
#[derive(Debug)]
pub(super) struct Atoms<B: NetworkBackend> {
    pub n_atoms: usize,
    /// Directed edges.
    pub n_edges: usize,
    /// `None` where there are no atoms.
    pub tensors: Option<Tensors<B>>,
}

/// What a device reads of atoms.
#[derive(Clone, Debug)]
pub(super) struct Tensors<B: NetworkBackend> {
    pub graph: Graph<B>,
    pub systems: Systems<B>,
    /// Atomic numbers, [n_atoms].
    pub species: Tensor<B, 1, Int>,
}

impl<B: NetworkBackend> Atoms<B> {
    /// Of structures whose atoms see each other within `cutoff` in Å, for an embedding of `rows`; edge vectors are rounded once from
    /// f64.
    pub fn new(
        structures: &[Structure],
        cutoff: f64,
        rows: usize,
        dtype: Dtype,
        device: &B::Device,
    ) -> Result<Self, NetworkError> {
        Self::of_list(&listed(structures, cutoff, rows)?, structures, dtype, device)
    }

    /// Of structures with their list.
    pub fn of_list(
        list: &NeighborList<f64>,
        structures: &[Structure],
        dtype: Dtype,
        device: &B::Device,
    ) -> Result<Self, NetworkError> {
        let (n_atoms, n_edges) = (list.n_atoms(), list.n_edges());
        if n_atoms == 0 {
            return Ok(Self { n_atoms, n_edges, tensors: None });
        }
        let graph = Graph::upload(&list.row_ptr, &list.sender, list.edge_vec.as_flattened(), dtype, device)?;
        let counts: Vec<usize> = structures.iter().map(Structure::n_atoms).collect();
        let systems = Systems::new(&graph, &counts)?;
        let species: Vec<i64> = structures.iter().flat_map(|of| &of.species).map(|z| i64::from(*z)).collect();
        let species = Tensor::from_data(&species[..], device);
        Ok(Self { n_atoms, n_edges, tensors: Some(Tensors { graph, systems, species }) })
    }
}

/// The neighbour list of all structures.
///
/// # Errors
/// [`ModelError`] for the first structure that cannot be computed.
pub(super) fn listed(structures: &[Structure], cutoff: f64, rows: usize) -> Result<NeighborList<f64>, ModelError> {
    let known = |structure: &Structure| structure.species.iter().all(|z| (1..rows).contains(&usize::from(*z)));
    if structures.iter().all(known)
        && let Ok(list) = list(structures, cutoff)
        && !list.edge_vec.contains(&[0.0; 3])
    {
        return Ok(list);
    }
    for (index, structure) in structures.iter().enumerate() {
        check(index, structure, cutoff, rows)?;
    }
    // Each can be computed: together they are too many.
    list(structures, cutoff).map_err(|error| neighbors(structures.len().saturating_sub(1), structures.last(), error))
}

fn list(structures: &[Structure], cutoff: f64) -> Result<NeighborList<f64>, NeighborError> {
    let inputs = batch(structures, cutoff)?;
    let mut list = NeighborList::default();
    build(&inputs, List::Full, Strategy::Cells, &HostConfig::default(), &mut list)?;
    Ok(list)
}

/// Whether a structure can be computed.
fn check(index: usize, structure: &Structure, cutoff: f64, rows: usize) -> Result<(), ModelError> {
    let name = || structure.name.clone();
    if let Some(atom) = structure.species.iter().position(|z| !(1..rows).contains(&usize::from(*z))) {
        return Err(ModelError::Element { name: name(), index, atom, z: structure.species[atom], rows });
    }
    let list =
        list(std::slice::from_ref(structure), cutoff).map_err(|error| neighbors(index, Some(structure), error))?;
    if let Some(edge) = list.edge_vec.iter().position(|r| *r == [0.0; 3]) {
        let receiver = list.row_ptr.partition_point(|start| *start as usize <= edge) - 1;
        let atoms = [receiver, list.sender[edge] as usize];
        return Err(ModelError::Coincident { name: name(), index, atoms });
    }
    Ok(())
}

fn neighbors(index: usize, structure: Option<&Structure>, error: NeighborError) -> ModelError {
    let name = structure.map(|structure| structure.name.clone()).unwrap_or_default();
    match error {
        NeighborError::MissingCell { pbc } => ModelError::MissingCell { name, index, pbc },
        NeighborError::Input(source) => ModelError::Neighbors { name, index, source },
    }
}
