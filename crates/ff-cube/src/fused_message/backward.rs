//! From inputs to launches of both backwards on a cube runtime.

use std::marker::PhantomData;
use std::time::Duration;

use cubecl::prelude::*;
use cubecl::server::Handle;
use ff_spec::fused_message::{
    Activation, BackwardInputs, DoubleBackwardInputs, DoubleGradients, Filter, FilterSizes, Gradients, InputError,
    Inputs, Message, Outputs, Reduction, Sizes, Variant, Wanted,
};
use ff_spec::{
    DeviceId, FusedMessageBackward, FusedMessageDoubleBackward, Launch, LaunchConfig, LaunchError, Op, SenderList,
    digest,
};

use super::call::{UNITS, array, check_rows, clear, filter_tensors, most_tiles_in_software, upload_inputs};
use super::config::{BackwardConfig, CubeConfig, Kernel};
use super::kernels::parts::{add_groups, add_parts};
use super::parameters::cube_config;
use super::submit::{BackwardCall, Buffers, Grid, submit};
use crate::Element;
use crate::buffers::{Buffer, cubes, empty, fault, timed, upload};

/// The most parts into which the edges are cut where gradients in weights are summed, but on a software adapter, whose loops
/// bound a part: the cubes that can share the work. A large GPU holds some thousands of planes at once, and each part is
/// walked by a few.
const PARTS: usize = 1024;

/// Each part has sums of its own: so many bytes of them may be had, unless that is less than of [`FEWEST_PARTS`].
const PARTS_BYTES: usize = 64 << 20;

/// Parts that are always allowed.
const FEWEST_PARTS: usize = 64;

/// Parts that one unit adds up. Where there are more, they are added in groups first, so that no unit waits for a thousand
/// reads one after another.
const ADDED_AT_ONCE: usize = 32;

/// Bytes of sums of gradients in weights that a unit holds in registers.
const SUM_BYTES: usize = 256;

/// What a backward reads, in a device's memory; `None` for a tensor without elements.
pub struct BackwardTensors {
    /// `row_ptr`, `sender`, `edge_vec`, `nodes`, `vectors`, `weights`, `bias`, `hidden_weights`, `hidden_bias` and the radial
    /// parameters, as in [`super::CubeLaunch::from_handles`].
    pub forward: [Option<Buffer>; 10],
    /// The fields of [`SenderList`] in their order, u32; none of them is read where [`reads_list_by_sender`] says so.
    pub list: [Option<Buffer>; 3],
    /// Gradients in `y` or `dq` [n_atoms, F] and in `dmu` [n_atoms, 3, F].
    pub grad: [Option<Buffer>; 2],
    /// The direction of a second backward: as `forward` from `edge_vec` to `hidden_bias`, `None` also for a tensor that is zero. The
    /// weights' are all given or none.
    pub tangent: Option<[Option<Buffer>; 7]>,
}

/// Whether a backward of an order of a variant reads the list by sender: the first of those that add atomically does not.
pub fn reads_list_by_sender(variant: &Variant, order: u8) -> bool {
    !(variant.reduction == Reduction::EdgeAtomic && order == 1)
}

/// What a backward computed, in a device's memory; what was not wanted or has no elements is unspecified.
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
    /// Of a second backward, in the cotangents: of `y` or `dq` [n_atoms, F] and of `dmu` [n_atoms, 3, F].
    pub grad: [Handle; 2],
}

/// Inputs of a backward, which say its order.
pub trait CubeBackwardInputs<T> {
    /// Which order this is.
    type Op: Op;

    #[doc(hidden)]
    fn check(&self) -> Result<(), InputError>;
    #[doc(hidden)]
    fn forward(&self) -> &Inputs<T>;
    #[doc(hidden)]
    fn grad(&self) -> &Outputs<T>;
    #[doc(hidden)]
    fn tangent(&self) -> Option<&Gradients<T>>;
    #[doc(hidden)]
    fn wanted(&self) -> Wanted;
    #[doc(hidden)]
    fn outputs(found: DoubleGradients<f64>) -> <Self::Op as Op>::Outputs;
}

impl<T: Element> CubeBackwardInputs<T> for BackwardInputs<T> {
    type Op = FusedMessageBackward;

    fn check(&self) -> Result<(), InputError> {
        BackwardInputs::check(self)
    }

    fn forward(&self) -> &Inputs<T> {
        &self.inputs
    }

    fn grad(&self) -> &Outputs<T> {
        &self.grad
    }

    fn tangent(&self) -> Option<&Gradients<T>> {
        None
    }

    fn wanted(&self) -> Wanted {
        self.wanted
    }

    fn outputs(found: DoubleGradients<f64>) -> Gradients<f64> {
        found.gradients
    }
}

impl<T: Element> CubeBackwardInputs<T> for DoubleBackwardInputs<T> {
    type Op = FusedMessageDoubleBackward;

    fn check(&self) -> Result<(), InputError> {
        DoubleBackwardInputs::check(self)
    }

    fn forward(&self) -> &Inputs<T> {
        &self.inputs
    }

    fn grad(&self) -> &Outputs<T> {
        &self.grad
    }

    fn tangent(&self) -> Option<&Gradients<T>> {
        Some(&self.tangent)
    }

    fn wanted(&self) -> Wanted {
        Wanted::ALL
    }

    fn outputs(found: DoubleGradients<f64>) -> DoubleGradients<f64> {
        found
    }
}

/// A backward of a cube kernel, of the order of its inputs `I`, with its buffers on a device.
pub struct CubeBackward<R: Runtime, T, I> {
    call: BackwardCall<R>,
    /// Elements of the outputs, before padding; 0 for what is not wanted.
    lengths: [usize; 9],
    wanted: Wanted,
    /// Gradients in node features are added atomically.
    adds: bool,
    /// H and σ of an `mlp` filter.
    hidden: Option<(usize, Activation)>,
    of: PhantomData<fn(T) -> I>,
}

impl<R: Runtime, T: Element, I: CubeBackwardInputs<T>> CubeBackward<R, T, I> {
    /// Uploads tensors that were checked against the variant, and the list by sender.
    ///
    /// # Errors
    /// [`LaunchError::Input`], [`LaunchError::Constraint`] and [`LaunchError::Runtime`].
    pub fn new(
        client: &ComputeClient<R>,
        device: &DeviceId,
        variant: &Variant,
        backward: &I,
        config: &LaunchConfig,
    ) -> Result<Self, LaunchError> {
        backward.check()?;
        let inputs = backward.forward();
        let indices = |values: Vec<u32>| (!values.is_empty()).then(|| upload(client, &values));
        let floats = |values: &[T]| (!values.is_empty()).then(|| upload(client, values));
        let SenderList { sender_ptr, transpose, receiver } = match reads_list_by_sender(variant, I::Op::ORDER) {
            true => SenderList::new(&inputs.row_ptr, &inputs.sender),
            false => SenderList::default(),
        };
        let grad = backward.grad();
        let tensors = BackwardTensors {
            forward: upload_inputs(client, variant, inputs).map(Some),
            list: [sender_ptr, transpose, receiver].map(indices),
            grad: [floats(&grad.nodes), floats(&grad.vectors)],
            tangent: backward.tangent().map(|tangent| {
                let [weights, bias, hidden_weights, hidden_bias] =
                    tangent.filter.as_ref().map_or([&[][..]; 4], filter_tensors);
                [&tangent.edge_vec, &tangent.nodes, &tangent.vectors, weights, bias, hidden_weights, hidden_bias]
                    .map(floats)
            }),
        };
        let (sizes, wanted) = (&inputs.sizes(), backward.wanted());
        // SAFETY: the tensors were checked, and the list was made of them.
        let launch = unsafe { Self::from_handles(client, device, variant, sizes, tensors, wanted, config) };
        let mut launch = launch?;
        launch.poison()?;
        Ok(launch)
    }

    /// Takes tensors that lie in the device's memory already. On a software adapter the rows are read back, as in
    /// [`super::CubeLaunch::from_handles`].
    ///
    /// # Errors
    /// [`LaunchError::Constraint`] and [`LaunchError::Runtime`].
    ///
    /// # Panics
    /// Where `tensors` has a direction and `I` none, or the other way round.
    ///
    /// # Safety
    /// As for [`super::CubeLaunch::from_handles`]; `list` is what [`SenderList::new`] makes of `row_ptr` and `sender`, the
    /// gradients have the shapes of the outputs and the direction those of the inputs.
    pub unsafe fn from_handles(
        client: &ComputeClient<R>,
        device: &DeviceId,
        variant: &Variant,
        sizes: &Sizes,
        tensors: BackwardTensors,
        wanted: Wanted,
        config: &LaunchConfig,
    ) -> Result<Self, LaunchError> {
        assert_eq!(tensors.tangent.is_some(), I::Op::ORDER == 2, "the second backward alone has a direction");
        let (tile, vector) = cube_config(variant, T::DTYPE, sizes, &device.limits, config)?;
        let (n_atoms, n_edges, channels) = (sizes.n_atoms, sizes.n_edges, sizes.channels());
        let wanted =
            Wanted { filter: wanted.filter && !matches!(sizes.filter, FilterSizes::Tabulated { .. }), ..wanted };
        let rates = tensors.tangent.is_some();
        let by_list = reads_list_by_sender(variant, I::Op::ORDER);
        let fit = |kernel| {
            let shape = BackwardConfig {
                kernel,
                tile: fewer_at_once(tile, sizes.message, rates && kernel == Kernel::Senders),
                parts: sizes.message.parts(),
                nodes: wanted.nodes,
                edges: wanted.edge_vec && matches!(kernel, Kernel::Senders | Kernel::Edges),
                searched: !by_list,
                rates,
                varied: tensors.tangent.as_ref().is_some_and(|t| t[3..].iter().any(Option::is_some)),
                rows: (SUM_BYTES / (sizes.message.parts() * vector * size_of::<T>())).clamp(1, tile.depth + 1),
            };
            fit::<T>(shape, vector, device.limits.shared_memory as usize)
        };
        let (by_receiver, by_sender, by_edge) = (fit(Kernel::Receivers)?, fit(Kernel::Senders)?, fit(Kernel::Edges)?);
        let (last, first) = (fit(Kernel::LastMap)?, fit(Kernel::FirstMap)?);
        let features = sizes.features / vector;

        let floats = |tensor: Option<Buffer>| tensor.unwrap_or_else(|| upload::<R, T>(client, &[]));
        let (inputs, list) = (tensors.forward.map(floats), tensors.list.map(floats));
        let check = |what, rows, config: &BackwardConfig| {
            let turns = |tiles| config.turns(tiles, features);
            check_rows(client, device, (what, rows, n_atoms), config.tile.edges_per_tile, turns)
        };
        if by_list {
            check("sender", &list[0], &by_sender)?;
        } else if device.software && most_tiles_in_software(|tiles| by_edge.turns(tiles, features)) == 0 {
            return Err(too_many_turns());
        }
        if rates {
            check("receiver", &inputs[0], &by_receiver)?;
        }
        let part_bytes = ((tile.depth + 1) * channels).max((tile.n_basis + 1) * tile.hidden) * size_of::<T>();
        let most_parts = (PARTS_BYTES / part_bytes.max(1)).clamp(FEWEST_PARTS, PARTS);
        let mut edges_per_part = n_edges.div_ceil(most_parts).next_multiple_of(tile.edges_per_tile);
        if device.software && wanted.filter {
            for config in [&last, &first] {
                let most = most_tiles_in_software(|tiles| config.turns(tiles, features));
                if most == 0 {
                    return Err(too_many_turns());
                }
                edges_per_part = edges_per_part.min(most * config.tile.edges_per_tile);
            }
        }
        let n_parts = n_edges.div_ceil(edges_per_part.max(1));
        let most = client.properties().hardware.max_cube_count;
        let grid = |[x, y, z]: [usize; 3], config: BackwardConfig| {
            if x > most.0 as usize || y > most.1 as usize || z > most.2 as usize {
                return Err(LaunchError::Constraint(format!("{x} × {y} × {z} cubes, the device takes {most:?}")));
            }
            Ok((x * y > 0).then_some(Grid { count: CubeCount::Static(x as u32, y as u32, z as u32), config }))
        };
        let any = sizes.features.min(1);
        let blocks = |config: &BackwardConfig| features.div_ceil(config.tile.units);
        let walk = |config: BackwardConfig, rows: usize, y: usize| {
            let rows = rows.div_ceil(config.tile.groups);
            let along_z = rows.div_ceil(most.0 as usize).max(1);
            grid([rows.div_ceil(along_z), y, along_z], config)
        };
        let receivers = walk(by_receiver, n_atoms, blocks(&by_receiver))?;
        let senders = walk(by_sender, n_atoms, any)?;
        let edges = walk(by_edge, n_edges.div_ceil(by_edge.tile.edges_per_tile), any)?;
        let parts_of = |config: &BackwardConfig| n_parts.div_ceil(config.tile.groups);
        let last_map = grid([parts_of(&last), blocks(&last), (tile.depth + 1).div_ceil(last.rows)], last)?;
        let first_map = grid([parts_of(&first), any, 1], first)?;

        let painn = sizes.message == Message::Painn;
        let lengths = [
            (wanted.nodes, n_atoms * channels),
            (wanted.nodes && painn, 3 * n_atoms * sizes.features),
            (wanted.edge_vec, 3 * n_edges),
            (wanted.filter, tile.depth * channels),
            (wanted.filter, channels),
            (wanted.filter, tile.hidden * tile.n_basis),
            (wanted.filter, tile.hidden),
            (rates, n_atoms * sizes.features),
            (rates && painn, 3 * n_atoms * sizes.features),
        ]
        .map(|(wanted, length)| if wanted { length } else { 0 });
        let memory = |length: usize| empty(client, length, size_of::<T>());
        let slots = n_parts + groups_of(n_parts);
        let parts = |rows: usize, columns: usize| memory(if wanted.filter { slots * rows * columns } else { 0 });
        let zeros = |length: usize| {
            let buffer = memory(length);
            clear::<R, T>(client, &buffer);
            buffer
        };
        let direction = tensors.tangent.map(|[edge_vec, nodes, vectors, weights @ ..]| {
            let [weights, bias, hidden_weights, hidden_bias] = weights.map(floats);
            [
                edge_vec.unwrap_or_else(|| zeros(3 * n_edges)),
                nodes.unwrap_or_else(|| zeros(n_atoms * channels)),
                vectors.unwrap_or_else(|| zeros(if painn { 3 * n_atoms * sizes.features } else { 0 })),
                weights,
                bias,
                hidden_weights,
                hidden_bias,
            ]
        });
        let segments = match sizes.filter {
            FilterSizes::Tabulated { n_nodes, .. } => n_nodes - 1,
            _ => 0,
        };
        let call = BackwardCall {
            client: client.clone(),
            real: T::as_type_native_unchecked().storage_type(),
            vector,
            buffers: Buffers {
                inputs,
                list,
                grad: tensors.grad.map(floats),
                direction,
                outputs: lengths.map(memory),
                partials: [parts(tile.depth + 1, channels), parts(tile.n_basis + 1, tile.hidden)],
            },
            scalars: (n_atoms as u32, features as u32, segments as u32),
            parts: (n_parts, edges_per_part),
            receivers: receivers.filter(|_| rates),
            senders: senders.filter(|_| by_list && (wanted.nodes || wanted.edge_vec)),
            edges: edges.filter(|_| !by_list && (wanted.nodes || wanted.edge_vec)),
            last_map: last_map.filter(|_| wanted.filter),
            first_map: first_map.filter(|_| wanted.filter && tile.hidden > 0),
        };
        let hidden = match sizes.filter {
            FilterSizes::Mlp { hidden, activation } => Some((hidden, activation)),
            _ => None,
        };
        Ok(Self { call, lengths, wanted, adds: !by_list, hidden, of: PhantomData })
    }

    /// Submits the kernels once, without waiting, and hands over the buffers of the gradients.
    pub fn into_outputs(self) -> BackwardOutputs {
        self.submit();
        let [nodes, vectors, edge_vec, weights, bias, hidden_weights, hidden_bias, grad @ ..] =
            self.call.buffers.outputs.map(|(handle, _)| handle);
        BackwardOutputs { nodes, vectors, edge_vec, weights, bias, hidden_weights, hidden_bias, grad }
    }

    fn submit(&self) {
        if self.wanted.edge_vec {
            // What lies behind the end of a list with room for more has no sender, and gradients all the same.
            clear::<R, T>(&self.call.client, &self.call.buffers.outputs[2]);
        }
        if self.adds && self.wanted.nodes {
            // What edges add to.
            self.call.buffers.outputs[..2].iter().for_each(|buffer| clear::<R, T>(&self.call.client, buffer));
        }
        submit(&self.call);
        if self.wanted.filter {
            self.add_parts(0, self.call.last_map.is_some());
            self.add_parts(1, self.call.first_map.is_some());
        }
    }

    /// Adds up the parts of the last map (0) or of the first (1); without any, the gradients are zero.
    fn add_parts(&self, map: usize, launched: bool) {
        let (weights, bias) = (3 + 2 * map, 4 + 2 * map);
        let [split, rest] = [self.lengths[weights], self.lengths[bias]];
        let BackwardCall { client, buffers, parts, .. } = &self.call;
        let n_parts = if launched { parts.0 } else { 0 };
        let groups = groups_of(n_parts);
        if groups > 0 {
            // SAFETY: every index is checked in the kernel against the slots, of which there are so many.
            unsafe {
                add_groups::launch_unchecked::<T, R>(
                    client,
                    cubes(client, groups * (split + rest), UNITS),
                    CubeDim::new_1d(UNITS as u32),
                    array(&buffers.partials[map], 1),
                    n_parts as u32,
                    groups as u32,
                    ADDED_AT_ONCE as u32,
                    (split + rest) as u32,
                );
            }
        }
        let (first, count) = if groups > 0 { (n_parts, groups) } else { (0, n_parts) };
        // SAFETY: every index is checked against the lengths in the kernel.
        unsafe {
            add_parts::launch_unchecked::<T, R>(
                client,
                cubes(client, split + rest, UNITS),
                CubeDim::new_1d(UNITS as u32),
                array(&buffers.partials[map], 1),
                array(&buffers.outputs[weights], 1),
                array(&buffers.outputs[bias], 1),
                first as u32,
                count as u32,
                split as u32,
                (split + rest) as u32,
            );
        }
    }

    fn wait(&self) -> Result<(), LaunchError> {
        cubecl::future::block_on(self.call.client.sync()).map_err(fault)
    }
}

/// Groups that parts are added up in first; 0 where one unit adds them all.
fn groups_of(n_parts: usize) -> usize {
    if n_parts > ADDED_AT_ONCE { n_parts.div_ceil(ADDED_AT_ONCE) } else { 0 }
}

fn too_many_turns() -> LaunchError {
    LaunchError::Constraint("one tile of edges takes more turns than loops have in software".to_owned())
}

/// Half as many edges at once where a message has three filters, which with a slope or rate each fill the same registers as
/// those of the forward, and half as many again where they have `both`.
fn fewer_at_once(tile: CubeConfig, message: Message, both: bool) -> CubeConfig {
    let halve = |unroll: usize, when: bool| if when && unroll.is_multiple_of(2) { unroll / 2 } else { unroll };
    CubeConfig { unroll: halve(halve(tile.unroll, message == Message::Painn), both), ..tile }
}

/// The configuration of a kernel with a tile that the device can hold: fewer edges, then fewer at once, then fewer groups and
/// units.
fn fit<T>(mut config: BackwardConfig, vector: usize, available: usize) -> Result<BackwardConfig, LaunchError> {
    loop {
        let needed = config.shared_memory(size_of::<T>(), vector);
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

impl<R: Runtime, T: Element, I: CubeBackwardInputs<T>> Launch<I::Op> for CubeBackward<R, T, I> {
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
        let duration = timed(&self.call.client, "fused_message_backward", || self.submit())?;
        self.wait()?;
        Ok(duration)
    }

    fn outputs(&mut self) -> Result<<I::Op as Op>::Outputs, LaunchError> {
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
        let gradients = Gradients { nodes: read(0)?, vectors: read(1)?, edge_vec: read(2)?, filter };
        Ok(I::outputs(DoubleGradients { grad: Outputs { nodes: read(7)?, vectors: read(8)? }, gradients }))
    }

    fn input_digest(&mut self) -> Result<u64, LaunchError> {
        let Buffers { inputs, list, grad, direction, .. } = &self.call.buffers;
        let mut parts = Vec::new();
        for (handle, _) in inputs.iter().chain(list).chain(grad).chain(direction.iter().flatten()) {
            parts.push(self.call.client.read_one(handle.clone()).map_err(fault)?);
        }
        let parts: Vec<&[u8]> = parts.iter().map(|bytes| &bytes[..]).collect();
        Ok(digest(&parts))
    }
}
