//! From inputs to launches of the first backward on a cube runtime.

use std::time::Duration;

use cubecl::ir::StorageType;
use cubecl::prelude::*;
use cubecl::server::Handle;
use ff_spec::fused_message::{Activation, BackwardInputs, Filter, Gradients, Inputs, Message, Wanted};
use ff_spec::{DeviceId, FusedMessageBackward, LaunchConfig, LaunchError};

use super::cube::backward::{BackwardConfig, CotangentsLaunch, add_parts, first_map, last_map, senders};
use super::cube::radial::Radial;
use super::cube::{CubeConfig, InputsLaunch, Lanes, Real, zero};
use super::launch::{array, cube_config, host_call, radial_parameters};
use super::{CubeBackwardEntry, HostElement, Registered, SenderList};
use crate::cube::buffers::{Buffer, cubes, empty, fault, upload};
use crate::digest::digest;

/// The most parts into which the edges are cut where gradients in weights are summed. Each has sums of its own, so it bounds
/// their memory, to so many times that of the weights, and the cubes that can share the work.
const PARTS: usize = 64;

/// The most edges of a part on a software adapter, which may then have more parts: Mesa's (22.3) silently ends a unit's loops
/// after 65,535 turns, of which the first map takes up to a hundred per edge.
const EDGES_IN_SOFTWARE: usize = 512;

/// Bytes of sums of gradients in weights that a unit holds in registers.
const SUM_BYTES: usize = 256;

/// Units of a cube that adds parts up or clears.
const UNITS: usize = 256;

/// What the backward reads, in a device's memory; `None` for a tensor without elements.
pub struct BackwardTensors {
    /// `row_ptr`, `sender`, `edge_vec`, `nodes`, `vectors`, `weights`, `bias`, `hidden_weights` and `hidden_bias`, as in
    /// [`super::CubeLaunch::from_handles`].
    pub forward: [Option<Buffer>; 9],
    /// The fields of [`SenderList`] in their order, u32.
    pub list: [Option<Buffer>; 3],
    /// Gradients in `y` or `dq` [n_atoms, F] and in `dmu` [n_atoms, 3, F].
    pub grad: [Option<Buffer>; 2],
}

/// What the backward computed, in a device's memory; what was not wanted or has no elements is unspecified.
pub struct BackwardOutputs {
    /// Gradient in `x` [n_atoms, F] or `s` [n_atoms, 3F].
    pub nodes: Handle,
    /// In `mu` [n_atoms, 3, F].
    pub vectors: Handle,
    /// In `edge_vec` [n_edges, 3].
    pub edge_vec: Handle,
    /// In `A` or `A2`, [K, C] or [H, C].
    pub weights: Handle,
    /// In `b` or `b2`, [C].
    pub bias: Handle,
    /// In `A1` [K, H].
    pub hidden_weights: Handle,
    /// In `b1` [H].
    pub hidden_bias: Handle,
}

/// Buffers of one call.
struct Buffers {
    /// In the order of [`super::cube::Inputs`], up to `hidden_bias`.
    inputs: [Buffer; 9],
    radial: Buffer,
    /// The fields of [`SenderList`].
    list: [Buffer; 3],
    grad: [Buffer; 2],
    /// In the order of [`BackwardOutputs`].
    outputs: [Buffer; 7],
    /// Sums of parts of the edges: of the last map [n_parts, depth + 1, C], and of the first [n_parts, K + 1, H].
    partials: [Buffer; 2],
}

/// One kernel's cubes.
#[derive(Clone)]
struct Grid {
    count: CubeCount,
    config: BackwardConfig,
}

/// What a variant needs for one launch of its kernels.
pub struct CubeBackwardCall<R: Runtime> {
    client: ComputeClient<R>,
    real: StorageType,
    /// Elements of a vector.
    vector: usize,
    buffers: Buffers,
    /// Atoms, vectors of features, segments of the table.
    scalars: (u32, u32, u32),
    /// Parts of the edges, and edges of each.
    parts: (usize, usize),
    senders: Option<Grid>,
    last_map: Option<Grid>,
    first_map: Option<Grid>,
}

impl<R: Runtime> CubeBackwardCall<R> {
    /// The arguments for [`super::cube::Inputs`], with the list by sender instead of that by receiver where `sent`.
    fn inputs(&self, sent: bool) -> InputsLaunch<Real, Lanes, R> {
        let [row_ptr, sender, edge_vec, nodes, vectors, weights, bias, hidden_weights, hidden_bias] =
            &self.buffers.inputs;
        let [sender_ptr, _, receiver] = &self.buffers.list;
        let (n_atoms, features, segments) = self.scalars;
        InputsLaunch::new(
            array(if sent { sender_ptr } else { row_ptr }, 1),
            array(if sent { receiver } else { sender }, 1),
            array(edge_vec, 1),
            array(nodes, self.vector),
            array(vectors, self.vector),
            array(weights, self.vector),
            array(bias, self.vector),
            array(hidden_weights, 1),
            array(hidden_bias, 1),
            array(&self.buffers.radial, 1),
            n_atoms,
            features,
            segments,
        )
    }

    fn grad(&self) -> CotangentsLaunch<Real, Lanes, R> {
        let [nodes, vectors] = &self.buffers.grad;
        CotangentsLaunch::new(array(nodes, self.vector), array(vectors, self.vector), self.scalars.1)
    }
}

/// Launches the kernels of a call for radial functions `A`: the entry of every variant that has these.
pub fn backward_on_cube<R: Runtime, A: Radial>(call: &CubeBackwardCall<R>) {
    let CubeBackwardCall { client, buffers, vector, real, .. } = call;
    let [_, transpose, receiver] = &buffers.list;
    let [nodes, vectors, edge_vec, ..] = &buffers.outputs;
    let (n_parts, edges_per_part) = (call.parts.0 as u32, call.parts.1 as u32);
    let dim = |config: &CubeConfig| CubeDim::new_2d(config.units as u32, config.groups as u32);
    if let Some(Grid { count, config }) = &call.senders {
        // SAFETY: the buffers have the shapes that the kernel indexes, as `CubeBackward` made or was promised them.
        unsafe {
            senders::launch_unchecked::<Real, Lanes, A, R>(
                client,
                count.clone(),
                dim(&config.tile),
                call.inputs(true),
                call.grad(),
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
    if let Some(Grid { count, config }) = &call.last_map {
        // SAFETY: as above.
        unsafe {
            last_map::launch_unchecked::<Real, Lanes, A, R>(
                client,
                count.clone(),
                dim(&config.tile),
                call.inputs(false),
                call.grad(),
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
            first_map::launch_unchecked::<Real, Lanes, A, R>(
                client,
                count.clone(),
                dim(&config.tile),
                call.inputs(false),
                call.grad(),
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

/// The first backward of a cube kernel with its buffers on a device.
pub struct CubeBackward<R: Runtime, T> {
    call: CubeBackwardCall<R>,
    entry: CubeBackwardEntry<R>,
    /// Elements of the outputs, before padding; 0 for what is not wanted.
    lengths: [usize; 7],
    wanted: Wanted,
    /// H and σ of an `mlp` filter.
    hidden: Option<(usize, Activation)>,
    element: std::marker::PhantomData<T>,
}

impl<R: Runtime, T: HostElement + CubeElement + Float> CubeBackward<R, T> {
    /// Uploads checked tensors and the list by sender.
    ///
    /// # Errors
    /// [`LaunchError::Input`], [`LaunchError::Constraint`] and [`LaunchError::Runtime`].
    pub fn new(
        client: &ComputeClient<R>,
        device: &DeviceId,
        registered: &'static Registered,
        entry: CubeBackwardEntry<R>,
        backward: &BackwardInputs<T>,
        config: &LaunchConfig,
    ) -> Result<Self, LaunchError> {
        backward.check()?;
        let inputs = &backward.inputs;
        registered.check(inputs)?;
        let indices = |values: &[u32]| (!values.is_empty()).then(|| upload(client, values));
        let floats = |values: &[T]| (!values.is_empty()).then(|| upload(client, values));
        let no_weights: &[T] = &[];
        let (weights, bias, hidden_weights, hidden_bias) = match &inputs.filter {
            Filter::Linear { a, b } => (a.as_slice(), b.as_slice(), no_weights, no_weights),
            Filter::Mlp { a1, b1, a2, b2, .. } => (a2.as_slice(), b2.as_slice(), a1.as_slice(), b1.as_slice()),
            Filter::Tabulated { values, .. } => (values.as_slice(), no_weights, no_weights, no_weights),
        };
        let list = SenderList::new(&inputs.row_ptr, &inputs.sender);
        let tensors = BackwardTensors {
            forward: [
                indices(&inputs.row_ptr),
                indices(&inputs.sender),
                floats(&inputs.edge_vec),
                floats(&inputs.nodes),
                floats(&inputs.vectors),
                floats(weights),
                floats(bias),
                floats(hidden_weights),
                floats(hidden_bias),
            ],
            list: [indices(&list.sender_ptr), indices(&list.transpose), indices(&list.receiver)],
            grad: [floats(&backward.grad.nodes), floats(&backward.grad.vectors)],
        };
        let sizes = (inputs, inputs.n_edges());
        // SAFETY: the tensors were checked, and the list was made of them.
        let launch =
            unsafe { Self::from_handles(client, device, registered, entry, sizes, tensors, backward.wanted, config) };
        let mut launch = launch?;
        ff_spec::Launch::poison(&mut launch)?;
        Ok(launch)
    }

    /// Takes tensors that lie in the device's memory already. Of `sizes` all but the tensors is read (message, atoms,
    /// features, radial parameters, sizes of the filter), so its tensors may be empty; `n_edges` is the number of edges.
    ///
    /// # Errors
    /// [`LaunchError::Constraint`].
    ///
    /// # Safety
    /// As for [`super::CubeLaunch::from_handles`]; `list` is what [`SenderList::new`] makes of `row_ptr` and `sender`, and
    /// the gradients have the shapes of the outputs.
    #[expect(clippy::too_many_arguments, reason = "those of the forward and what is wanted")]
    pub unsafe fn from_handles(
        client: &ComputeClient<R>,
        device: &DeviceId,
        registered: &'static Registered,
        entry: CubeBackwardEntry<R>,
        (sizes, n_edges): (&Inputs<T>, usize),
        tensors: BackwardTensors,
        wanted: Wanted,
        config: &LaunchConfig,
    ) -> Result<Self, LaunchError> {
        let (problem, variant) = (sizes.problem(""), registered.variant());
        let (tile, vector) = cube_config(&variant, T::DTYPE, sizes, &problem, &device.limits, config)?;
        let (n_atoms, channels) = (sizes.n_atoms, sizes.message.parts() * sizes.features);
        let wanted = Wanted { filter: wanted.filter && !matches!(sizes.filter, Filter::Tabulated { .. }), ..wanted };
        let shape = BackwardConfig {
            tile: fewer_at_once(tile, sizes.message),
            parts: sizes.message.parts(),
            cutoff_parameters: registered.radial.map_or(0, |radial| radial.cutoff_parameters.len()),
            nodes: wanted.nodes,
            edges: wanted.edge_vec,
            rows: (SUM_BYTES / (sizes.message.parts() * vector * size_of::<T>())).clamp(1, tile.depth + 1),
        };
        let fit = |shape, kernel| fit::<T>(shape, vector, kernel, device.limits.shared_memory as usize);
        let by_sender = fit(shape, 0)?;
        let values_only = BackwardConfig { edges: false, ..shape };
        let (last, first) = (fit(values_only, 1)?, fit(values_only, 2)?);

        let share = n_edges.div_ceil(PARTS);
        let share = if device.software { share.min(EDGES_IN_SOFTWARE) } else { share };
        let edges_per_part = share.next_multiple_of(tile.edges_per_tile);
        let n_parts = n_edges.div_ceil(edges_per_part.max(1));
        let most = client.properties().hardware.max_cube_count;
        let grid = |[x, y, z]: [usize; 3], config: BackwardConfig| {
            if x > most.0 as usize || y > most.1 as usize || z > most.2 as usize {
                return Err(LaunchError::Constraint(format!("{x} × {y} × {z} cubes, the device takes {most:?}")));
            }
            Ok((x * y > 0).then_some(Grid { count: CubeCount::Static(x as u32, y as u32, z as u32), config }))
        };
        let any = sizes.features.min(1);
        let rows = n_atoms.div_ceil(by_sender.tile.groups);
        let along_z = rows.div_ceil(most.0 as usize).max(1);
        let senders = grid([rows.div_ceil(along_z), any, along_z], by_sender)?;
        let parts_of = |config: &BackwardConfig| n_parts.div_ceil(config.tile.groups);
        let blocks = (sizes.features / vector).div_ceil(last.tile.units);
        let last_map = grid([parts_of(&last), blocks, (tile.depth + 1).div_ceil(last.rows)], last)?;
        let first_map = grid([parts_of(&first), any, 1], first)?;

        let lengths = [
            (wanted.nodes, n_atoms * channels),
            (wanted.nodes && sizes.message == Message::Painn, 3 * n_atoms * sizes.features),
            (wanted.edge_vec, 3 * n_edges),
            (wanted.filter, tile.depth * channels),
            (wanted.filter, channels),
            (wanted.filter, tile.hidden * tile.n_basis),
            (wanted.filter, tile.hidden),
        ]
        .map(|(wanted, length)| if wanted { length } else { 0 });
        let memory = |length: usize| empty(client, length, size_of::<T>());
        let parts = |rows: usize, columns: usize| memory(if wanted.filter { n_parts * rows * columns } else { 0 });
        let floats = |tensor: Option<Buffer>| tensor.unwrap_or_else(|| upload::<R, T>(client, &[]));
        let segments = match &sizes.filter {
            Filter::Tabulated { n_nodes, .. } => n_nodes - 1,
            _ => 0,
        };
        let call = CubeBackwardCall {
            client: client.clone(),
            real: T::as_type_native_unchecked().storage_type(),
            vector,
            buffers: Buffers {
                inputs: tensors.forward.map(floats),
                radial: upload(client, &radial_parameters(&host_call(registered, sizes))),
                list: tensors.list.map(floats),
                grad: tensors.grad.map(floats),
                outputs: lengths.map(memory),
                partials: [parts(tile.depth + 1, channels), parts(tile.n_basis + 1, tile.hidden)],
            },
            scalars: (n_atoms as u32, (sizes.features / vector) as u32, segments as u32),
            parts: (n_parts, edges_per_part),
            senders: senders.filter(|_| wanted.nodes || wanted.edge_vec),
            last_map: last_map.filter(|_| wanted.filter),
            first_map: first_map.filter(|_| wanted.filter && tile.hidden > 0),
        };
        let hidden = match &sizes.filter {
            Filter::Mlp { hidden, activation, .. } => Some((*hidden, *activation)),
            _ => None,
        };
        Ok(Self { call, entry, lengths, wanted, hidden, element: std::marker::PhantomData })
    }

    /// Submits the kernels once, without waiting, and hands over the buffers of the gradients.
    pub fn into_outputs(self) -> BackwardOutputs {
        self.submit();
        let [nodes, vectors, edge_vec, weights, bias, hidden_weights, hidden_bias] =
            self.call.buffers.outputs.map(|(handle, _)| handle);
        BackwardOutputs { nodes, vectors, edge_vec, weights, bias, hidden_weights, hidden_bias }
    }

    fn submit(&self) {
        // Nothing depends on edge vectors of no sender: there are some behind the end of a list with room for more.
        self.clear(2);
        (self.entry)(&self.call);
        if self.wanted.filter {
            self.add_parts(0, self.call.last_map.is_some());
            self.add_parts(1, self.call.first_map.is_some());
        }
    }

    /// Adds up the parts of the last map (0) or of the first (1); without any, the gradients are zero.
    fn add_parts(&self, map: usize, launched: bool) {
        let (weights, bias) = (3 + 2 * map, 4 + 2 * map);
        let [split, rest] = [self.lengths[weights], self.lengths[bias]];
        let CubeBackwardCall { client, buffers, parts, .. } = &self.call;
        // SAFETY: every index is checked against the lengths in the kernel.
        unsafe {
            add_parts::launch_unchecked::<T, R>(
                client,
                cubes(client, split + rest, UNITS),
                CubeDim::new_1d(UNITS as u32),
                array(&buffers.partials[map], 1),
                array(&buffers.outputs[weights], 1),
                array(&buffers.outputs[bias], 1),
                if launched { parts.0 as u32 } else { 0 },
                split as u32,
                (split + rest) as u32,
            );
        }
    }

    /// Zeroes an output.
    fn clear(&self, output: usize) {
        let (client, length) = (&self.call.client, self.lengths[output]);
        if length == 0 {
            return;
        }
        // SAFETY: every index is checked against the length in the kernel.
        unsafe {
            zero::launch_unchecked::<T, R>(
                client,
                cubes(client, length, UNITS),
                CubeDim::new_1d(UNITS as u32),
                array(&self.call.buffers.outputs[output], 1),
            );
        }
    }

    fn wait(&self) -> Result<(), LaunchError> {
        cubecl::future::block_on(self.call.client.sync()).map_err(fault)
    }
}

/// Half as many edges at once where a message has three filters: with their slopes they fill the same registers as the
/// filters of the forward.
fn fewer_at_once(tile: CubeConfig, message: Message) -> CubeConfig {
    let halve = message == Message::Painn && tile.unroll.is_multiple_of(2);
    CubeConfig { unroll: if halve { tile.unroll / 2 } else { tile.unroll }, ..tile }
}

/// The configuration of a kernel (in the order of [`BackwardConfig::shared_memory`]) with a tile that the device can hold:
/// fewer edges, then fewer at once, then fewer groups and units.
fn fit<T>(
    mut config: BackwardConfig,
    vector: usize,
    kernel: usize,
    available: usize,
) -> Result<BackwardConfig, LaunchError> {
    loop {
        let needed = config.shared_memory(size_of::<T>(), vector)[kernel];
        if needed <= available {
            return Ok(config);
        }
        let tile = &mut config.tile;
        if tile.edges_per_tile > tile.unroll {
            tile.edges_per_tile = tile.edges_per_tile / tile.unroll / 2 * tile.unroll;
        } else if tile.unroll > 1 {
            tile.unroll /= 2;
            tile.edges_per_tile = tile.unroll;
        } else if tile.groups > 1 {
            tile.groups /= 2;
        } else if tile.units > 1 {
            tile.units /= 2;
        } else {
            return Err(LaunchError::Constraint(format!(
                "{needed} bytes of shared memory for one edge of the backward, the device has {available}"
            )));
        }
    }
}

impl<R: Runtime, T: HostElement + CubeElement + Float> ff_spec::Launch<FusedMessageBackward> for CubeBackward<R, T> {
    fn poison(&mut self) -> Result<(), LaunchError> {
        let nan = <T as ff_spec::Scalar>::from_f64(f64::NAN);
        for (buffer, length) in self.call.buffers.outputs.iter_mut().zip(self.lengths) {
            *buffer = upload(&self.call.client, &vec![nan; length]);
        }
        Ok(())
    }

    fn run(&mut self) -> Result<(), LaunchError> {
        self.submit();
        self.wait()
    }

    fn time(&mut self) -> Result<Duration, LaunchError> {
        self.wait()?;
        let client = self.call.client.clone();
        let this = &*self;
        let (_, duration) = client.profile(|| this.submit(), "fused_message_backward").map_err(fault)?;
        let ticks = cubecl::future::block_on(duration.resolve());
        self.wait()?;
        Ok(ticks.duration())
    }

    fn outputs(&mut self) -> Result<Gradients<f64>, LaunchError> {
        let read = |output: usize| -> Result<Vec<f64>, LaunchError> {
            let length = self.lengths[output];
            if length == 0 {
                return Ok(Vec::new());
            }
            let bytes = self.call.client.read_one(self.call.buffers.outputs[output].0.clone()).map_err(fault)?;
            Ok(T::from_bytes(&bytes)[..length].iter().map(|x| ff_spec::Scalar::to_f64(*x)).collect())
        };
        let filter = match self.hidden {
            _ if !self.wanted.filter => None,
            None => Some(Filter::Linear { a: read(3)?, b: read(4)? }),
            Some((hidden, activation)) => {
                Some(Filter::Mlp { hidden, a1: read(5)?, b1: read(6)?, a2: read(3)?, b2: read(4)?, activation })
            }
        };
        Ok(Gradients { nodes: read(0)?, vectors: read(1)?, edge_vec: read(2)?, filter })
    }

    fn input_digest(&mut self) -> Result<u64, LaunchError> {
        let Buffers { inputs, radial, list, grad, .. } = &self.call.buffers;
        let mut parts = Vec::new();
        for (handle, _) in inputs.iter().chain([radial]).chain(list).chain(grad) {
            parts.push(self.call.client.read_one(handle.clone()).map_err(fault)?);
        }
        let parts: Vec<&[u8]> = parts.iter().map(|bytes| &bytes[..]).collect();
        Ok(digest(&parts))
    }
}
