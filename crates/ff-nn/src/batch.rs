//! Structures as tensors.

use burn::tensor::{Int, Tensor, TensorData};
use ff_ops::burn_dtype;
use ff_ops::force_scatter::Systems;
use ff_ops::fused_message::Graph;
use ff_spec::Dtype;
use ff_structure::{Structure, neighbors};

use crate::error::NetworkError;
use crate::network::NetworkBackend;

/// A structure with the neighbour list of its positions: what a batch is made of, to be kept where a structure is in many.
#[derive(Clone, Debug)]
pub struct Listed {
    row_ptr: Vec<u32>,
    sender: Vec<u32>,
    /// S·H of every edge, Å.
    offset: Vec<f64>,
    /// x_j + S·H − x_i of every edge, Å.
    edge_vec: Vec<f64>,
    species: Vec<i64>,
    positions: Vec<f64>,
}

impl Listed {
    /// Of a structure whose atoms see each other within `cutoff` in Å, for a network with `rows` embeddings. Errors call it
    /// structure `index`.
    ///
    /// # Errors
    /// [`NetworkError`] for what cannot be computed.
    pub fn new(structure: &Structure, cutoff: f64, rows: usize, index: usize) -> Result<Self, NetworkError> {
        let list = neighbors(&structure.positions, structure.cell, structure.pbc, cutoff)
            .map_err(|source| NetworkError::Neighbors { structure: index, source })?;
        if let Some(atom) = structure.species.iter().position(|z| *z == 0 || usize::from(*z) >= rows) {
            let z = structure.species[atom];
            return Err(NetworkError::Element { structure: index, atom, z, rows });
        }
        if let Some(edge) = list.edge_vec.iter().position(|r| *r == [0.0; 3]) {
            let receiver = list.row_ptr.partition_point(|end| *end as usize <= edge) - 1;
            let atoms = [receiver, list.sender[edge] as usize];
            return Err(NetworkError::Coincident { structure: index, atoms });
        }
        let cell = structure.cell.unwrap_or_default();
        // Rows of open directions are not read: they may hold anything.
        let along = |shift: &[i32; 3], b: usize| -> f64 {
            (0..3).filter(|a| structure.pbc[*a]).map(|a| f64::from(shift[a]) * cell[a][b]).sum()
        };
        Ok(Self {
            offset: list.shift.iter().flat_map(|shift| [0, 1, 2].map(|b| along(shift, b))).collect(),
            edge_vec: list.edge_vec.as_flattened().to_vec(),
            row_ptr: list.row_ptr,
            sender: list.sender,
            species: structure.species.iter().map(|z| i64::from(*z)).collect(),
            positions: structure.positions.as_flattened().to_vec(),
        })
    }

    /// Atoms.
    pub fn n_atoms(&self) -> usize {
        self.species.len()
    }

    /// Where the edges of each receiver begin, [n_atoms + 1].
    pub fn row_ptr(&self) -> &[u32] {
        &self.row_ptr
    }

    /// The sender of every edge.
    pub fn sender(&self) -> &[u32] {
        &self.sender
    }

    /// The vector from receiver to sender of every edge, [n_edges, 3], Å.
    pub fn edge_vec(&self) -> &[f64] {
        &self.edge_vec
    }

    /// Atomic numbers.
    pub fn species(&self) -> &[i64] {
        &self.species
    }
}

/// Structures of any sizes, periodic and open, with the neighbour lists of their positions.
#[derive(Clone, Debug)]
pub struct Batch<B: NetworkBackend> {
    /// With S·H in the place of edge vectors.
    graph: Graph<B>,
    systems: Systems<B>,
    species: Tensor<B, 1, Int>,
    system_of_atoms: Tensor<B, 1, Int>,
    positions: Tensor<B, 2>,
    per_atom: Tensor<B, 1>,
}

impl<B: NetworkBackend> Batch<B> {
    /// Of structures whose atoms see each other within `cutoff` in Å, for a network with `rows` embeddings, in its `dtype`.
    ///
    /// # Errors
    /// [`NetworkError`] for the first structure that cannot be computed.
    pub fn new<'a>(
        structures: impl IntoIterator<Item = &'a Structure>,
        cutoff: f64,
        rows: usize,
        dtype: Dtype,
        device: &B::Device,
    ) -> Result<Self, NetworkError> {
        let listed = structures.into_iter().enumerate();
        let listed: Vec<Listed> =
            listed.map(|(index, structure)| Listed::new(structure, cutoff, rows, index)).collect::<Result<_, _>>()?;
        Self::of_listed(&listed, dtype, device)
    }

    /// Of structures with their lists, in the network's `dtype`.
    ///
    /// # Errors
    /// [`NetworkError::Op`] for more edges than a list can have.
    pub fn of_listed<'a>(
        structures: impl IntoIterator<Item = &'a Listed>,
        dtype: Dtype,
        device: &B::Device,
    ) -> Result<Self, NetworkError> {
        let (mut row_ptr, mut sender, mut offset) = (vec![0u32], Vec::new(), Vec::new());
        let (mut species, mut systems, mut positions, mut counts) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for (index, listed) in structures.into_iter().enumerate() {
            let (first, first_edge) = (positions.len() as u32 / 3, sender.len() as u32);
            row_ptr.extend(listed.row_ptr[1..].iter().map(|end| first_edge + end));
            sender.extend(listed.sender.iter().map(|j| first + j));
            offset.extend_from_slice(&listed.offset);
            species.extend_from_slice(&listed.species);
            systems.extend(std::iter::repeat_n(index as i64, listed.n_atoms()));
            positions.extend_from_slice(&listed.positions);
            counts.push(listed.n_atoms());
        }
        let burn = burn_dtype(dtype);
        let indices = |values: Vec<i64>| Tensor::<B, 1, Int>::from_data(&values[..], device);
        let graph = Graph::upload(&row_ptr, &sender, &offset, dtype, device)?;
        let per_atom: Vec<f64> = counts.iter().map(|n| 1.0 / (*n).max(1) as f64).collect();
        let n_atoms = positions.len() / 3;
        Ok(Self {
            systems: Systems::new(&graph, &counts)?,
            graph,
            species: indices(species),
            system_of_atoms: indices(systems),
            positions: Tensor::from_data(TensorData::new(positions, [n_atoms, 3]).convert_dtype(burn), (device, burn)),
            per_atom: Tensor::from_data(TensorData::new(per_atom, [counts.len()]).convert_dtype(burn), (device, burn)),
        })
    }

    /// Systems.
    pub fn n_systems(&self) -> usize {
        self.systems.n_systems()
    }

    /// Atoms.
    pub fn n_atoms(&self) -> usize {
        self.graph.n_atoms()
    }

    /// The neighbour list, with S·H [n_edges, 3] in Å in the place of edge vectors.
    pub fn graph(&self) -> &Graph<B> {
        &self.graph
    }

    /// Which atoms are of which system.
    pub fn systems(&self) -> &Systems<B> {
        &self.systems
    }

    /// [n_atoms, 3], Å.
    pub fn positions(&self) -> &Tensor<B, 2> {
        &self.positions
    }

    /// Atomic numbers, [n_atoms].
    pub fn species(&self) -> &Tensor<B, 1, Int> {
        &self.species
    }

    pub(crate) fn system_of_atoms(&self) -> &Tensor<B, 1, Int> {
        &self.system_of_atoms
    }

    /// 1/n of each system's n atoms, [n_systems].
    pub fn per_atom(&self) -> &Tensor<B, 1> {
        &self.per_atom
    }
}
