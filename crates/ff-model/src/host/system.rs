//! A system with its neighbour list, as the kernels read them.

use ff_kernels::SenderList;
use ff_kernels::cell_list::host as lists;
use ff_kernels::force_scatter::host as scatter;
use ff_kernels::fused_message::host::{Backward, Call, PackedFilter, ReceiverOrder};
use ff_spec::cell_list::{Inputs, List, NeighborList, Strategy};
use ff_spec::force_scatter::{Outputs as Forces, Reduction};
use ff_spec::fused_message::{Filter, Gradients, Outputs, Wanted};
use ff_structure::Structure;

use super::neighbors::Kept;
use super::{HostModel, PackedMessage, Real};
use crate::error::ModelError;

/// One system of a group, with tensors of its own where kernels want whole ones.
pub(super) struct System<T> {
    pub n_atoms: usize,
    inputs: Inputs<f64>,
    list: NeighborList<f64>,
    senders: SenderList,
    order: ReceiverOrder,
    edge_vec: Vec<T>,
    system_ptr: [u32; 2],
    /// Messages of a layer.
    pub message: Outputs<T>,
    /// Gradients in what a layer's messages were made of.
    pub gradients: Gradients<T>,
    /// Gradients in the edge vectors, summed over layers.
    edge_grad: Vec<T>,
    pub forces: Forces<T>,
}

impl<T: Real> Default for System<T> {
    fn default() -> Self {
        let inputs = Inputs { positions: vec![], system_ptr: vec![0, 0], cell: vec![], pbc: vec![], cutoff: 1.0 };
        Self {
            n_atoms: 0,
            inputs,
            list: NeighborList::default(),
            senders: SenderList::default(),
            order: ReceiverOrder::default(),
            edge_vec: Vec::new(),
            system_ptr: [0, 0],
            message: Outputs::default(),
            gradients: Gradients { nodes: Vec::new(), vectors: Vec::new(), edge_vec: Vec::new(), filter: None },
            edge_grad: Vec::new(),
            forces: Forces { forces: Vec::new(), strain: vec![T::default(); 9] },
        }
    }
}

impl<T: Real> System<T> {
    /// Takes a structure over: its list, which the caller may have kept, and edge vectors rounded once from f64. `index` is its
    /// number in the caller's list.
    pub fn load(
        &mut self,
        structure: &Structure,
        cutoff: f64,
        index: usize,
        kept: Option<(&mut Kept, f64)>,
    ) -> Result<(), ModelError> {
        self.n_atoms = structure.n_atoms();
        let Inputs { positions, system_ptr, cell, pbc, cutoff: radius } = &mut self.inputs;
        positions.clear();
        positions.extend_from_slice(structure.positions.as_flattened());
        cell.clear();
        cell.extend_from_slice(structure.cell.unwrap_or_default().as_flattened());
        pbc.clear();
        pbc.push(structure.pbc);
        system_ptr[1] = self.n_atoms as u32;
        *radius = cutoff;
        if structure.cell.is_none() && structure.pbc.contains(&true) {
            return Err(ModelError::MissingCell { name: structure.name.clone(), index, pbc: structure.pbc });
        }
        let (inputs, list) = (&self.inputs, &mut self.list);
        match kept {
            Some((kept, skin)) => kept.load(inputs, skin, list),
            None => lists::build(inputs, List::Full, Strategy::Cells, &lists::HostConfig::default(), list),
        }
        .map_err(|source| ModelError::Neighbors { name: structure.name.clone(), index, source })?;
        if let Some(edge) = self.list.edge_vec.iter().position(|r| *r == [0.0; 3]) {
            let receiver = self.list.row_ptr.partition_point(|start| *start as usize <= edge) - 1;
            let atoms = [receiver, self.list.sender[edge] as usize];
            return Err(ModelError::Coincident { name: structure.name.clone(), index, atoms });
        }
        self.system_ptr = [0, self.n_atoms as u32];
        self.order = ReceiverOrder::default();
        let list = &self.list;
        self.senders.sender_ptr.clone_from(&list.sender_ptr);
        self.senders.transpose.clone_from(&list.transpose);
        self.senders.receiver.clear();
        for (atom, row) in list.row_ptr.windows(2).enumerate() {
            self.senders.receiver.resize(row[1] as usize, atom as u32);
        }
        self.edge_vec.clear();
        self.edge_vec.extend(list.edge_vec.as_flattened().iter().map(|x| T::from_f64(*x)));
        Ok(())
    }

    /// Directed edges.
    pub fn n_edges(&self) -> usize {
        self.list.n_edges()
    }

    /// Room for the messages and gradients of a model's layers; edge gradients are zero.
    pub fn reserve(&mut self, nodes: usize, sent: usize, vectors: usize, forces: bool) {
        let n = self.n_atoms;
        self.message.nodes.resize(n * nodes, T::default());
        self.message.vectors.resize(n * vectors, T::default());
        if forces {
            self.gradients.nodes.resize(n * sent, T::default());
            self.gradients.vectors.resize(n * vectors, T::default());
            let edges = 3 * self.n_edges();
            self.gradients.edge_vec.resize(edges, T::default());
            self.edge_grad.clear();
            self.edge_grad.resize(edges, T::default());
            self.forces.forces.resize(3 * n, T::default());
        }
    }

    fn call<'a>(
        &'a self,
        model: &'a HostModel<T>,
        (filter, packed): (&'a Filter<T>, &'a PackedFilter<T>),
        nodes: &'a [T],
        vectors: &'a [T],
    ) -> Call<'a, T> {
        Call {
            features: model.config.filters,
            row_ptr: &self.list.row_ptr,
            sender: &self.list.sender,
            edge_vec: &self.edge_vec,
            nodes,
            vectors,
            r_cut: model.radial.r_cut,
            n_basis: model.radial.n_basis,
            basis: model.basis.iter().map(Vec::as_slice).collect(),
            cutoff: Vec::new(),
            filter,
            packed: Some(packed),
            order: Some(&self.order),
        }
    }

    /// The messages of a layer, into `message`.
    pub fn forward(&mut self, model: &HostModel<T>, weights: &PackedMessage<T>, nodes: &[T], vectors: &[T]) {
        let mut message = std::mem::take(&mut self.message);
        let call = self.call(model, (&weights.filter, &weights.forward), nodes, vectors);
        model.stages.forward(&call, &model.configs.forward, &mut message);
        drop(call);
        self.message = message;
    }

    /// Gradients in what a layer's messages were made of, from those in the messages, into `gradients`; those in edge vectors are
    /// added to what other layers gave. `inputs` says whether more than the latter are wanted.
    pub fn backward(
        &mut self,
        model: &HostModel<T>,
        weights: &PackedMessage<T>,
        [nodes, vectors]: [&[T]; 2],
        [of_nodes, of_vectors]: [&[T]; 2],
        inputs: bool,
    ) {
        let empty = Gradients { nodes: Vec::new(), vectors: Vec::new(), edge_vec: Vec::new(), filter: None };
        let mut gradients = std::mem::replace(&mut self.gradients, empty);
        let kept = if inputs { None } else { Some([&mut gradients.nodes, &mut gradients.vectors].map(std::mem::take)) };
        let SenderList { sender_ptr, transpose, receiver } = &self.senders;
        let wanted = Wanted { nodes: inputs, edge_vec: true, filter: false };
        let backward = Backward { sender_ptr, transpose, receiver, nodes: of_nodes, vectors: of_vectors, wanted };
        let call = self.call(model, (&weights.filter, &weights.backward), nodes, vectors);
        model.stages.backward(&call, backward, &model.configs.backward, &mut gradients);
        drop(call);
        if let Some([nodes, vectors]) = kept {
            (gradients.nodes, gradients.vectors) = (nodes, vectors);
        }
        super::workspace::add(&mut self.edge_grad, &gradients.edge_vec);
        self.gradients = gradients;
    }

    /// Forces and strain derivative from the gradients in the edge vectors.
    pub fn scatter(&mut self) {
        let call = scatter::Call {
            row_ptr: &self.list.row_ptr,
            sender: &self.list.sender,
            edge_vec: &self.edge_vec,
            edge_grad: &self.edge_grad,
            system_ptr: &self.system_ptr,
            senders: &self.senders,
        };
        T::forward(&call, Reduction::Gather, &scatter::HostConfig::default(), &mut self.forces);
    }
}
