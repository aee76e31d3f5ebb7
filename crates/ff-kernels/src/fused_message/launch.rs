//! From inputs and a [`LaunchConfig`] to a launch, on host and on a cube runtime.

use std::time::Duration;

use cubecl::ir::StorageType;
use cubecl::prelude::*;
use cubecl::server::Handle;
use ff_spec::fused_message::{Activation, Filter, FilterSizes, Inputs, Outputs, Radial, Reduction, Sizes, Variant};
use ff_spec::{DeviceId, Dtype, LaunchConfig, LaunchError, Limits, Problem, RuntimeKind};

use super::cube::{CubeConfig, InputsLaunch, Lanes, Real, zero};
use super::host::{Call, HostConfig, MAX_PARAMETERS};
use super::{CubeEntry, HostElement, Registered, shared_memory};
use crate::cube::buffers::{Buffer, fault, timed, upload};
use crate::digest::digest;

/// Reads parameters out of a configuration and insists that nothing else is in it.
struct Reader<'a> {
    config: &'a LaunchConfig,
    known: &'a [&'a str],
}

impl Reader<'_> {
    fn check(&self) -> Result<(), LaunchError> {
        for name in self.known {
            if self.config.get(name).is_none_or(|v| v == 0) {
                return Err(LaunchError::Constraint(format!(
                    "`{name}` must be set and positive, found `{}`",
                    self.config
                )));
            }
        }
        match self.config.0.keys().find(|name| !self.known.contains(&name.as_str())) {
            Some(name) => {
                Err(LaunchError::Constraint(format!("unknown parameter `{name}`, expected {}", self.known.join(", "))))
            }
            None => Ok(()),
        }
    }

    fn get(&self, name: &str) -> usize {
        self.config.get(name).unwrap_or(1) as usize
    }
}

/// The host kernel's launch parameters.
///
/// # Errors
/// [`LaunchError::Constraint`] for a missing, zero or unknown parameter.
pub fn host_config(config: &LaunchConfig) -> Result<HostConfig, LaunchError> {
    let reader = Reader { config, known: &["edges_per_task", "edges_per_tile", "channel_block"] };
    reader.check()?;
    Ok(HostConfig {
        edges_per_task: reader.get("edges_per_task"),
        edges_per_tile: reader.get("edges_per_tile"),
        channel_block: reader.get("channel_block"),
    })
}

/// The cube kernel's compile-time parameters and its vector width.
///
/// # Errors
/// [`LaunchError::Constraint`] for a missing, zero or unknown parameter and for anything the device cannot hold.
pub fn cube_config(
    variant: &Variant,
    dtype: Dtype,
    sizes: &Sizes,
    limits: &Limits,
    config: &LaunchConfig,
) -> Result<(CubeConfig, usize), LaunchError> {
    let known: &[&str] = match variant.reduction {
        Reduction::Receiver => &["rows_per_cube", "channels_per_cube", "vector_width", "edges_per_tile", "unroll"],
        Reduction::EdgeAtomic => &["tiles_per_cube", "channels_per_cube", "edges_per_tile", "unroll"],
    };
    let reader = Reader { config, known };
    reader.check()?;
    let vector = reader.get("vector_width");
    let groups = reader.get(known[0]);
    let channels = reader.get("channels_per_cube");
    let (edges_per_tile, unroll) = (reader.get("edges_per_tile"), reader.get("unroll"));
    let refuse = |text: String| Err(LaunchError::Constraint(text));
    if !channels.is_multiple_of(vector) || !sizes.features.is_multiple_of(vector) {
        return refuse(format!(
            "vector_width = {vector} divides neither channels_per_cube = {channels} nor F = {}",
            sizes.features
        ));
    }
    if !edges_per_tile.is_multiple_of(unroll) {
        return refuse(format!("unroll = {unroll} does not divide edges_per_tile = {edges_per_tile}"));
    }
    let units = channels / vector;
    if units * groups > limits.max_units_per_cube as usize {
        return refuse(format!("{} units per cube, the device has {}", units * groups, limits.max_units_per_cube));
    }
    let (hidden, order, tanh) = match sizes.filter {
        FilterSizes::Linear => (0, 0, false),
        FilterSizes::Mlp { hidden, activation } => (hidden, 0, activation == Activation::Tanh),
        FilterSizes::Tabulated { order, .. } => (0, order, false),
    };
    let shared = shared_memory(&sizes.problem(""), dtype.size(), groups, edges_per_tile, order);
    if shared > limits.shared_memory as usize {
        return refuse(format!("{shared} bytes of shared memory per cube, the device has {}", limits.shared_memory));
    }
    let n_basis = sizes.n_basis;
    let depth = match sizes.filter {
        FilterSizes::Linear => n_basis,
        FilterSizes::Mlp { .. } => hidden,
        FilterSizes::Tabulated { .. } => 2 * order,
    };
    Ok((CubeConfig { units, groups, edges_per_tile, unroll, n_basis, hidden, order, depth, tanh }, vector))
}

/// A configuration that every device can launch: what is used where no table entry applies.
pub fn default_config(device: &DeviceId, variant: &Variant, dtype: Dtype, problem: &Problem) -> LaunchConfig {
    if device.runtime == RuntimeKind::Host {
        return LaunchConfig::from([("edges_per_task", 512), ("edges_per_tile", 128), ("channel_block", 32)]);
    }
    let order = match variant.filter {
        ff_spec::fused_message::FilterKind::Tabulated => problem.n_basis as usize / 2,
        _ => 0,
    };
    let mut edges_per_tile = 16;
    while edges_per_tile > 1
        && shared_memory(problem, dtype.size(), 1, edges_per_tile, order) > device.limits.shared_memory as usize
    {
        edges_per_tile /= 2;
    }
    let edges_per_tile = edges_per_tile as u32;
    let unroll = edges_per_tile.min(4);
    let channels = problem.features.next_power_of_two().clamp(32, 128);
    match variant.reduction {
        Reduction::Receiver => {
            // 16 bytes: the widest load of a unit. Twice that fills its registers with filters in f64.
            let widest = 16 / dtype.size() as u32;
            let fits = |v: &u32| *v <= widest && problem.features.is_multiple_of(*v);
            let vector = [4, 2, 1].into_iter().find(fits).unwrap_or(1);
            LaunchConfig::from([
                ("rows_per_cube", 1),
                ("channels_per_cube", channels),
                ("vector_width", vector),
                ("edges_per_tile", edges_per_tile),
                ("unroll", unroll),
            ])
        }
        Reduction::EdgeAtomic => LaunchConfig::from([
            ("tiles_per_cube", 1),
            ("channels_per_cube", channels),
            ("edges_per_tile", edges_per_tile),
            ("unroll", unroll),
        ]),
    }
}

/// As [`default_config`], for the first (1) or the second (2) backward.
pub fn default_backward_config(
    device: &DeviceId,
    variant: &Variant,
    order: u8,
    dtype: Dtype,
    problem: &Problem,
) -> LaunchConfig {
    if device.runtime == RuntimeKind::Host {
        // A tile keeps what its edge vectors are owed by every lane: that of so few edges stays in L1.
        let block = if order == 1 { 32 } else { 16 };
        return LaunchConfig::from([("edges_per_task", 512), ("edges_per_tile", 32), ("channel_block", block)]);
    }
    default_config(device, variant, dtype, problem)
}

/// Borrows checked inputs in the form the host kernels read.
pub fn host_call<'a, T: HostElement>(registered: &Registered, inputs: &'a Inputs<T>) -> Call<'a, T> {
    let pair = registered.radial;
    if let Some(p) = pair {
        let most = p.basis_parameters.len().max(p.cutoff_parameters.len());
        assert!(
            most <= MAX_PARAMETERS,
            "a radial function has {most} parameters, the host kernel takes {MAX_PARAMETERS}"
        );
    }
    Call {
        features: inputs.features,
        row_ptr: &inputs.row_ptr,
        sender: &inputs.sender,
        edge_vec: &inputs.edge_vec,
        nodes: &inputs.nodes,
        vectors: &inputs.vectors,
        r_cut: inputs.radial.r_cut,
        n_basis: inputs.radial.n_basis,
        basis: pair
            .map(|p| p.basis_parameters.iter().map(|(name, _)| inputs.radial.basis[*name].as_slice()).collect())
            .unwrap_or_default(),
        cutoff: pair
            .map(|p| p.cutoff_parameters.iter().map(|(name, _)| inputs.radial.cutoff[*name][0]).collect())
            .unwrap_or_default(),
        filter: &inputs.filter,
        table: None,
        order: None,
    }
}

/// Buffers of one call on a cube runtime.
struct Buffers {
    /// In the order of [`super::cube::Inputs`], up to `radial`.
    inputs: [Buffer; 10],
    out_nodes: Buffer,
    out_vectors: Buffer,
}

/// What a generated launcher needs for one launch.
pub struct CubeCall<'a, R: Runtime> {
    /// The device's queue.
    pub client: &'a ComputeClient<R>,
    /// Cubes.
    pub count: CubeCount,
    /// Units of a cube.
    pub dim: CubeDim,
    /// Element type.
    pub real: StorageType,
    /// Elements of a vector.
    pub vector: usize,
    /// Compile-time parameters.
    pub config: CubeConfig,
    buffers: &'a Buffers,
    scalars: (u32, u32, u32),
}

impl<R: Runtime> CubeCall<'_, R> {
    /// The arguments for [`super::cube::Inputs`].
    pub fn inputs(&self) -> InputsLaunch<Real, Lanes, R> {
        arguments(self.buffers.inputs.each_ref(), self.vector, self.scalars)
    }

    /// The `y` or `dq` buffer.
    pub fn out_nodes(&self) -> ArrayArg<R> {
        array(&self.buffers.out_nodes, self.vector)
    }

    /// The `dmu` buffer.
    pub fn out_vectors(&self) -> ArrayArg<R> {
        array(&self.buffers.out_vectors, self.vector)
    }
}

/// Tensors in the order of [`super::cube::Inputs`], the vector width, and atoms, vectors of features and segments of the table
/// as the kernels' arguments.
pub(super) fn arguments<R: Runtime>(
    tensors: [&Buffer; 10],
    vector: usize,
    (n_atoms, features, segments): (u32, u32, u32),
) -> InputsLaunch<Real, Lanes, R> {
    let [row_ptr, sender, edge_vec, nodes, vectors, weights, bias, hidden_weights, hidden_bias, radial] = tensors;
    InputsLaunch::new(
        array(row_ptr, 1),
        array(sender, 1),
        array(edge_vec, 1),
        array(nodes, vector),
        array(vectors, vector),
        array(weights, vector),
        array(bias, vector),
        array(hidden_weights, 1),
        array(hidden_bias, 1),
        array(radial, 1),
        n_atoms,
        features,
        segments,
    )
}

/// A filter's tensors as the kernels read them: `A`, `A2` or the table, `b` or `b2`, `A1` and `b1`; empty for what it lacks.
pub(super) fn filter_tensors<T>(filter: &Filter<T>) -> [&[T]; 4] {
    match filter {
        Filter::Linear { a, b } => [a, b, &[], &[]],
        Filter::Mlp { a1, b1, a2, b2, .. } => [a2, b2, a1, b1],
        Filter::Tabulated { values, .. } => [values, &[], &[], &[]],
    }
}

/// Uploads a call's tensors, in the order of [`super::cube::Inputs`].
pub(super) fn upload_inputs<R: Runtime, T: HostElement + CubeElement>(
    client: &ComputeClient<R>,
    registered: &Registered,
    inputs: &Inputs<T>,
) -> [Buffer; 10] {
    let floats = |values: &[T]| upload(client, values);
    let [weights, bias, hidden_weights, hidden_bias] = filter_tensors(&inputs.filter).map(floats);
    [
        upload(client, &inputs.row_ptr),
        upload(client, &inputs.sender),
        floats(&inputs.edge_vec),
        floats(&inputs.nodes),
        floats(&inputs.vectors),
        weights,
        bias,
        hidden_weights,
        hidden_bias,
        floats(&radial_parameters(registered, &inputs.radial)),
    ]
}

/// The turns after which Mesa (22.3) ends every loop of a unit on a software adapter, counted over all of its loops; it does
/// so without a word.
const TURNS_IN_SOFTWARE: usize = 65_535;

/// The most tiles that a unit of a software adapter can walk, where `turns` of a number of tiles are those of its loops.
pub(super) fn most_tiles_in_software(turns: impl Fn(usize) -> usize) -> usize {
    TURNS_IN_SOFTWARE.saturating_sub(turns(0)) / (turns(1) - turns(0)).max(1)
}

/// Refuses a list with a row that a unit of a software adapter could not walk to its end; of such an adapter alone, `rows`
/// [n_atoms + 1] is read back for it.
pub(super) fn check_rows<R: Runtime>(
    client: &ComputeClient<R>,
    device: &DeviceId,
    (what, rows, n_atoms): (&str, &Buffer, usize),
    edges_per_tile: usize,
    turns: impl Fn(usize) -> usize,
) -> Result<(), LaunchError> {
    if !device.software {
        return Ok(());
    }
    let most = most_tiles_in_software(turns) * edges_per_tile;
    let bytes = client.read_one(rows.0.clone()).map_err(fault)?;
    let ends = &u32::from_bytes(&bytes)[..=n_atoms];
    match ends.windows(2).map(|row| (row[1] - row[0]) as usize).max() {
        Some(longest) if longest > most => Err(LaunchError::Constraint(format!(
            "a {what} of {longest} edges, of which {} walks {most} in this configuration: software ends a unit's loops after \
             {TURNS_IN_SOFTWARE} turns",
            device.name
        ))),
        _ => Ok(()),
    }
}

/// Checked radial parameters as the cube kernels read them, the tensor `radial` of [`super::cube::Inputs`]: r_c, the cutoff's
/// parameters, then each of the basis' parameters: one value per k, so that kernels read them all alike.
pub fn radial_parameters<T: HostElement>(registered: &Registered, radial: &Radial<T>) -> Vec<T> {
    let mut all = vec![radial.r_cut];
    let Some(pair) = registered.radial else { return all };
    all.extend(pair.cutoff_parameters.iter().map(|(name, _)| radial.cutoff[*name][0]));
    for (name, _) in pair.basis_parameters {
        let values = &radial.basis[*name];
        all.extend((0..radial.n_basis).map(|k| if values.len() == 1 { values[0] } else { values[k] }));
    }
    all
}

/// A buffer as an array of vectors.
pub(super) fn array<R: Runtime>((handle, len): &Buffer, vector: usize) -> ArrayArg<R> {
    // SAFETY: the handle was created with `len` elements, of which whole vectors are claimed.
    unsafe { ArrayArg::from_raw_parts(handle.clone(), (len / vector).max(1)) }
}

/// A cube kernel with its buffers on a device.
pub struct CubeLaunch<R: Runtime, T> {
    client: ComputeClient<R>,
    entry: CubeEntry<R>,
    reduction: Reduction,
    config: CubeConfig,
    vector: usize,
    count: Option<CubeCount>,
    buffers: Buffers,
    scalars: (u32, u32, u32),
    /// Elements of the outputs, before padding to one.
    lengths: (usize, usize),
    element: std::marker::PhantomData<T>,
}

impl<R: Runtime, T: HostElement + CubeElement + Float> CubeLaunch<R, T> {
    /// Uploads checked tensors.
    ///
    /// # Errors
    /// [`LaunchError::Input`], [`LaunchError::Constraint`] and [`LaunchError::Runtime`].
    pub fn new(
        client: &ComputeClient<R>,
        device: &DeviceId,
        registered: &'static Registered,
        entry: CubeEntry<R>,
        inputs: &Inputs<T>,
        config: &LaunchConfig,
    ) -> Result<Self, LaunchError> {
        registered.check(inputs)?;
        let tensors = || upload_inputs(client, registered, inputs);
        let mut launch = Self::build(client, device, registered, entry, &inputs.sizes(), config, tensors)?;
        ff_spec::Launch::poison(&mut launch)?;
        Ok(launch)
    }

    /// Takes tensors that lie in the device's memory already, in the order of [`super::cube::Inputs`]: `row_ptr`,
    /// `sender`, `edge_vec`, `nodes`, `vectors`, `weights`, `bias`, `hidden_weights`, `hidden_bias`, and what
    /// [`radial_parameters`] makes; `None` for one without elements. Of a list with room for more, arrays of edges go on behind
    /// the edges that `row_ptr` counts, and `sizes` counts that room. On a software adapter `row_ptr` is read back: its loops
    /// bound the length of a row.
    ///
    /// # Errors
    /// [`LaunchError::Constraint`] and [`LaunchError::Runtime`].
    ///
    /// # Safety
    /// The buffers belong to `client`, are contiguous and row-major, hold u32 (the first two) or `T`, and have the shapes
    /// that `sizes` says. Sizes and radial parameters passed [`Registered::check_call`], `row_ptr` ascends from 0 to no more than
    /// the number of edges, and every sender is below the number of atoms.
    pub unsafe fn from_handles(
        client: &ComputeClient<R>,
        device: &DeviceId,
        registered: &'static Registered,
        entry: CubeEntry<R>,
        sizes: &Sizes,
        tensors: [Option<Buffer>; 10],
        config: &LaunchConfig,
    ) -> Result<Self, LaunchError> {
        let tensors = || tensors.map(|tensor| tensor.unwrap_or_else(|| upload::<R, T>(client, &[])));
        Self::build(client, device, registered, entry, sizes, config, tensors)
    }

    fn build(
        client: &ComputeClient<R>,
        device: &DeviceId,
        registered: &'static Registered,
        entry: CubeEntry<R>,
        sizes: &Sizes,
        config: &LaunchConfig,
        tensors: impl FnOnce() -> [Buffer; 10],
    ) -> Result<Self, LaunchError> {
        let variant = registered.variant();
        let (config, vector) = cube_config(&variant, T::DTYPE, sizes, &device.limits, config)?;
        let groups = match registered.reduction {
            Reduction::Receiver => sizes.n_atoms,
            Reduction::EdgeAtomic => sizes.n_edges.div_ceil(config.edges_per_tile),
        };
        let cubes = groups.div_ceil(config.groups);
        let blocks = (sizes.features / vector).div_ceil(config.units);
        let most = client.properties().hardware.max_cube_count;
        let along_z = cubes.div_ceil(most.0 as usize);
        if along_z > most.2 as usize || blocks > most.1 as usize {
            return Err(LaunchError::Constraint(format!("{cubes} × {blocks} cubes, the device takes {most:?}")));
        }
        let count = (cubes * blocks > 0)
            .then(|| CubeCount::Static(cubes.div_ceil(along_z) as u32, blocks as u32, along_z as u32));
        let segments = match sizes.filter {
            FilterSizes::Tabulated { n_nodes, .. } => n_nodes - 1,
            _ => 0,
        };
        let lengths: (usize, usize) = sizes.outputs().into();
        let output = |used: usize| match used {
            0 => upload::<R, T>(client, &[]),
            used => (client.empty(used * size_of::<T>()), used),
        };
        let tensors = tensors();
        if registered.reduction == Reduction::Receiver {
            let rows = ("receiver", &tensors[0], sizes.n_atoms);
            check_rows(client, device, rows, config.edges_per_tile, |tiles| config.turns(tiles))?;
        }
        Ok(Self {
            client: client.clone(),
            entry,
            reduction: registered.reduction,
            config,
            vector,
            count,
            buffers: Buffers { inputs: tensors, out_nodes: output(lengths.0), out_vectors: output(lengths.1) },
            scalars: (sizes.n_atoms as u32, (sizes.features / vector) as u32, segments as u32),
            lengths,
            element: std::marker::PhantomData,
        })
    }

    /// Submits the kernel once, without waiting, and hands over the buffers of `y` or `dq` and of `dmu`.
    pub fn into_outputs(self) -> (Handle, Handle) {
        self.submit();
        (self.buffers.out_nodes.0, self.buffers.out_vectors.0)
    }

    fn submit(&self) {
        let Some(count) = &self.count else {
            // Nothing to sum; rows without edges are zero all the same.
            self.clear();
            return;
        };
        if self.reduction == Reduction::EdgeAtomic {
            self.clear();
        }
        (self.entry)(&CubeCall {
            client: &self.client,
            count: count.clone(),
            dim: CubeDim::new_2d(self.config.units as u32, self.config.groups as u32),
            real: T::as_type_native_unchecked().storage_type(),
            vector: self.vector,
            config: self.config,
            buffers: &self.buffers,
            scalars: self.scalars,
        });
    }

    fn clear(&self) {
        for ((handle, len), used) in
            [(&self.buffers.out_nodes, self.lengths.0), (&self.buffers.out_vectors, self.lengths.1)]
        {
            if used == 0 {
                continue;
            }
            let units = 256;
            let cubes = len.div_ceil(units);
            let x = cubes.min(65_535);
            // SAFETY: every index is checked against the length in the kernel.
            unsafe {
                zero::launch_unchecked::<T, R>(
                    &self.client,
                    CubeCount::Static(x as u32, cubes.div_ceil(x) as u32, 1),
                    CubeDim::new_1d(units as u32),
                    ArrayArg::from_raw_parts(handle.clone(), *len),
                );
            }
        }
    }

    fn wait(&self) -> Result<(), LaunchError> {
        cubecl::future::block_on(self.client.sync()).map_err(fault)
    }
}

impl<R: Runtime, T: HostElement + CubeElement + Float> ff_spec::Launch for CubeLaunch<R, T> {
    fn poison(&mut self) -> Result<(), LaunchError> {
        let nan = <T as ff_spec::Scalar>::from_f64(f64::NAN);
        self.buffers.out_nodes = upload(&self.client, &vec![nan; self.lengths.0]);
        self.buffers.out_vectors = upload(&self.client, &vec![nan; self.lengths.1]);
        Ok(())
    }

    fn run(&mut self) -> Result<(), LaunchError> {
        self.submit();
        self.wait()
    }

    fn time(&mut self) -> Result<Duration, LaunchError> {
        self.wait()?;
        let duration = timed(&self.client, "fused_message", || self.submit())?;
        self.wait()?;
        Ok(duration)
    }

    fn outputs(&mut self) -> Result<Outputs<f64>, LaunchError> {
        let read = |(handle, _): &(Handle, usize), used: usize| -> Result<Vec<f64>, LaunchError> {
            if used == 0 {
                return Ok(Vec::new());
            }
            let bytes = self.client.read_one(handle.clone()).map_err(fault)?;
            Ok(T::from_bytes(&bytes)[..used].iter().map(|x| ff_spec::Scalar::to_f64(*x)).collect())
        };
        Ok(Outputs {
            nodes: read(&self.buffers.out_nodes, self.lengths.0)?,
            vectors: read(&self.buffers.out_vectors, self.lengths.1)?,
        })
    }

    fn input_digest(&mut self) -> Result<u64, LaunchError> {
        let mut parts = Vec::new();
        for (handle, _) in &self.buffers.inputs {
            parts.push(self.client.read_one(handle.clone()).map_err(fault)?);
        }
        let parts: Vec<&[u8]> = parts.iter().map(|bytes| &bytes[..]).collect();
        Ok(digest(&parts))
    }
}
