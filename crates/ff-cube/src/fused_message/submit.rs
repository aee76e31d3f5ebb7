//! The kernels of a backward, submitted with the arguments of one call.

use cubecl::ir::StorageType;
use cubecl::prelude::*;

use super::call::{arguments, array};
use super::config::{BackwardConfig, CubeConfig};
use super::kernels::edges::edges;
use super::kernels::maps::{first_map, last_map};
use super::kernels::receivers::receivers;
use super::kernels::senders::senders;
use super::slopes::{CotangentsLaunch, Direction, DirectionLaunch};
use super::tile::InputsLaunch;
use super::{Lanes, Real};
use crate::buffers::Buffer;

/// Buffers of one call.
pub(super) struct Buffers {
    /// In the order of [`super::tile::Inputs`], up to `radial`.
    pub inputs: [Buffer; 10],
    /// The fields of [`ff_spec::SenderList`].
    pub list: [Buffer; 3],
    pub grad: [Buffer; 2],
    /// In the order of [`Direction`].
    pub direction: Option<[Buffer; 7]>,
    /// In the order of [`super::BackwardOutputs`].
    pub outputs: [Buffer; 9],
    /// Sums of parts of the edges, then of groups of parts where `groups_of` makes some: of the last map
    /// [n_parts + groups, depth + 1, C], and of the first [n_parts + groups, K + 1, H].
    pub partials: [Buffer; 2],
}

/// One kernel's cubes.
#[derive(Clone)]
pub(super) struct Grid {
    pub count: CubeCount,
    pub config: BackwardConfig,
}

/// What one launch of the kernels needs.
pub(super) struct BackwardCall<R: Runtime> {
    pub client: ComputeClient<R>,
    pub real: StorageType,
    /// Elements of a vector.
    pub vector: usize,
    pub buffers: Buffers,
    /// Atoms, vectors of features, segments of the table.
    pub scalars: (u32, u32, u32),
    /// Parts of the edges, and edges of each.
    pub parts: (usize, usize),
    pub receivers: Option<Grid>,
    pub senders: Option<Grid>,
    pub edges: Option<Grid>,
    pub last_map: Option<Grid>,
    pub first_map: Option<Grid>,
}

impl<R: Runtime> BackwardCall<R> {
    /// The arguments for [`super::tile::Inputs`], with the list by sender instead of that by receiver where `sent`.
    fn inputs(&self, sent: bool) -> InputsLaunch<Real, Lanes, R> {
        let mut tensors = self.buffers.inputs.each_ref();
        if sent {
            let [sender_ptr, _, receiver] = &self.buffers.list;
            (tensors[0], tensors[1]) = (sender_ptr, receiver);
        }
        arguments(tensors, self.vector, self.scalars)
    }

    fn grad(&self) -> CotangentsLaunch<Real, Lanes, R> {
        let [nodes, vectors] = &self.buffers.grad;
        CotangentsLaunch::new(array(nodes, self.vector), array(vectors, self.vector), self.scalars.1)
    }

    fn direction(&self) -> ComptimeOptionArgs<Direction<Real, Lanes>, R> {
        let direction = self.buffers.direction.as_ref();
        direction
            .map(|[edge_vec, nodes, vectors, weights, bias, hidden_weights, hidden_bias]| {
                DirectionLaunch::new(
                    array(edge_vec, 1),
                    array(nodes, self.vector),
                    array(vectors, self.vector),
                    array(weights, self.vector),
                    array(bias, self.vector),
                    array(hidden_weights, 1),
                    array(hidden_bias, 1),
                )
            })
            .into()
    }
}

/// Submits the kernels of a call.
pub(super) fn submit<R: Runtime>(call: &BackwardCall<R>) {
    let BackwardCall { client, buffers, vector, real, .. } = call;
    let [_, transpose, receiver] = &buffers.list;
    let [nodes, vectors, edge_vec, _, _, _, _, grad_nodes, grad_vectors] = &buffers.outputs;
    let (n_parts, edges_per_part) = (call.parts.0 as u32, call.parts.1 as u32);
    let dim = |config: &CubeConfig| CubeDim::new_2d(config.units as u32, config.groups as u32);
    if let Some(Grid { count, config }) = &call.receivers {
        // SAFETY: the buffers have the shapes that the kernel indexes, as `CubeBackward` made or was promised them.
        unsafe {
            receivers::launch_unchecked::<Real, Lanes, R>(
                client,
                count.clone(),
                dim(&config.tile),
                call.inputs(false),
                call.direction(),
                array(grad_nodes, *vector),
                array(grad_vectors, *vector),
                *config,
                *real,
                *vector,
            );
        }
    }
    if let Some(Grid { count, config }) = &call.senders {
        // SAFETY: as above.
        unsafe {
            senders::launch_unchecked::<Real, Lanes, R>(
                client,
                count.clone(),
                dim(&config.tile),
                call.inputs(true),
                call.grad(),
                call.direction(),
                array(transpose, 1),
                array(nodes, *vector),
                array(vectors, *vector),
                array(edge_vec, 1),
                *config,
                *real,
                *vector,
            );
        }
    }
    if let Some(Grid { count, config }) = &call.edges {
        // SAFETY: as above.
        unsafe {
            edges::launch_unchecked::<Real, Lanes, R>(
                client,
                count.clone(),
                dim(&config.tile),
                call.inputs(false),
                call.grad(),
                call.direction(),
                array(nodes, *vector),
                array(vectors, *vector),
                array(edge_vec, 1),
                *config,
                *real,
                *vector,
            );
        }
    }
    if let Some(Grid { count, config }) = &call.last_map {
        // SAFETY: as above.
        unsafe {
            last_map::launch_unchecked::<Real, Lanes, R>(
                client,
                count.clone(),
                dim(&config.tile),
                call.inputs(false),
                call.grad(),
                call.direction(),
                array(receiver, 1),
                array(&buffers.partials[0], *vector),
                n_parts,
                edges_per_part,
                *config,
                *real,
                *vector,
            );
        }
    }
    if let Some(Grid { count, config }) = &call.first_map {
        // SAFETY: as above.
        unsafe {
            first_map::launch_unchecked::<Real, Lanes, R>(
                client,
                count.clone(),
                dim(&config.tile),
                call.inputs(false),
                call.grad(),
                call.direction(),
                array(receiver, 1),
                array(&buffers.partials[1], 1),
                n_parts,
                edges_per_part,
                *config,
                *real,
                *vector,
            );
        }
    }
}
