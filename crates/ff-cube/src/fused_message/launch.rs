//! From inputs to a launch of the forward.

use std::time::Duration;

use cubecl::prelude::*;
use cubecl::server::Handle;
use ff_spec::fused_message::{FilterSizes, Inputs, Outputs, Reduction, Sizes, Variant};
use ff_spec::{DeviceId, LaunchConfig, LaunchError, digest};

use super::call::{arguments, array, check_rows, clear, upload_inputs};
use super::config::CubeConfig;
use super::kernels::forward::{edge_atomic, receiver};
use super::parameters::cube_config;
use super::tile::InputsLaunch;
use super::{Lanes, Real};
use crate::Element;
use crate::buffers::{Buffer, fault, timed, upload};

/// Buffers of one call on a cube runtime.
struct Buffers {
    /// In the order of [`super::tile::Inputs`], up to `radial`.
    inputs: [Buffer; 10],
    out_nodes: Buffer,
    out_vectors: Buffer,
}

/// A cube kernel with its buffers on a device.
pub struct CubeLaunch<R: Runtime, T> {
    client: ComputeClient<R>,
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

impl<R: Runtime, T: Element> CubeLaunch<R, T> {
    /// Uploads tensors that were checked against the variant.
    ///
    /// # Errors
    /// [`LaunchError::Constraint`] and [`LaunchError::Runtime`].
    pub fn new(
        client: &ComputeClient<R>,
        device: &DeviceId,
        variant: &Variant,
        inputs: &Inputs<T>,
        config: &LaunchConfig,
    ) -> Result<Self, LaunchError> {
        let tensors = || upload_inputs(client, variant, inputs);
        let mut launch = Self::build(client, device, variant, &inputs.sizes(), config, tensors)?;
        ff_spec::Launch::poison(&mut launch)?;
        Ok(launch)
    }

    /// Takes tensors that lie in the device's memory already, in the order of [`super::tile::Inputs`]: `row_ptr`,
    /// `sender`, `edge_vec`, `nodes`, `vectors`, `weights`, `bias`, `hidden_weights`, `hidden_bias`, and what
    /// [`super::radial_parameters`] makes; `None` for one without elements. Of a list with room for more, arrays of edges go on
    /// behind the edges that `row_ptr` counts, and `sizes` counts that room. On a software adapter `row_ptr` is read back: its
    /// loops bound the length of a row.
    ///
    /// # Errors
    /// [`LaunchError::Constraint`] and [`LaunchError::Runtime`].
    ///
    /// # Safety
    /// The buffers belong to `client`, are contiguous and row-major, hold u32 (the first two) or `T`, and have the shapes
    /// that `sizes` says. Sizes and radial parameters were checked against the variant, `row_ptr` ascends from 0 to no more than
    /// the number of edges, and every sender is below the number of atoms.
    pub unsafe fn from_handles(
        client: &ComputeClient<R>,
        device: &DeviceId,
        variant: &Variant,
        sizes: &Sizes,
        tensors: [Option<Buffer>; 10],
        config: &LaunchConfig,
    ) -> Result<Self, LaunchError> {
        let tensors = || tensors.map(|tensor| tensor.unwrap_or_else(|| upload::<R, T>(client, &[])));
        Self::build(client, device, variant, sizes, config, tensors)
    }

    fn build(
        client: &ComputeClient<R>,
        device: &DeviceId,
        variant: &Variant,
        sizes: &Sizes,
        config: &LaunchConfig,
        tensors: impl FnOnce() -> [Buffer; 10],
    ) -> Result<Self, LaunchError> {
        let (config, vector) = cube_config(variant, T::DTYPE, sizes, &device.limits, config)?;
        let groups = match variant.reduction {
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
        if variant.reduction == Reduction::Receiver {
            let rows = ("receiver", &tensors[0], sizes.n_atoms);
            check_rows(client, device, rows, config.edges_per_tile, |tiles| config.turns(tiles))?;
        }
        Ok(Self {
            client: client.clone(),
            reduction: variant.reduction,
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
        let dim = CubeDim::new_2d(self.config.units as u32, self.config.groups as u32);
        let buffers = &self.buffers;
        let inputs: InputsLaunch<Real, Lanes, R> = arguments(buffers.inputs.each_ref(), self.vector, self.scalars);
        let (nodes, vectors) = (array(&buffers.out_nodes, self.vector), array(&buffers.out_vectors, self.vector));
        let real = T::as_type_native_unchecked().storage_type();
        // SAFETY: the buffers have the shapes that the kernel indexes, as `build` made or was promised them.
        unsafe {
            match self.reduction {
                Reduction::Receiver => receiver::launch_unchecked::<Real, Lanes, R>(
                    &self.client,
                    count.clone(),
                    dim,
                    inputs,
                    nodes,
                    vectors,
                    self.config,
                    real,
                    self.vector,
                ),
                Reduction::EdgeAtomic => edge_atomic::launch_unchecked::<Real, Lanes, R>(
                    &self.client,
                    count.clone(),
                    dim,
                    inputs,
                    nodes,
                    vectors,
                    self.config,
                    real,
                    self.vector,
                ),
            }
        }
    }

    fn clear(&self) {
        let buffers = [(&self.buffers.out_nodes, self.lengths.0), (&self.buffers.out_vectors, self.lengths.1)];
        buffers.into_iter().filter(|(_, used)| *used > 0).for_each(|(buffer, _)| clear::<R, T>(&self.client, buffer));
    }

    fn wait(&self) -> Result<(), LaunchError> {
        cubecl::future::block_on(self.client.sync()).map_err(fault)
    }
}

impl<R: Runtime, T: Element> ff_spec::Launch for CubeLaunch<R, T> {
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
