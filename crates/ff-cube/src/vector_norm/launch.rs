//! From inputs to buffers on a device, and from there to launches of the three orders.

use std::marker::PhantomData;
use std::time::Duration;

use cubecl::prelude::*;
use cubecl::server::Handle;
use ff_spec::vector_norm::OrderInputs;
use ff_spec::{DeviceId, LaunchConfig, LaunchError, Op, digest};

use super::kernels::{self, Lanes, Real};
use super::{CubeConfig, cube_config};
use crate::Element;
use crate::buffers::{Buffer, cubes, empty, fault, fill, timed, upload};

/// The sizes of a call, and its one number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sizes<T> {
    /// Atoms.
    pub n_atoms: usize,
    /// Channels F.
    pub features: usize,
    /// ε > 0.
    pub epsilon: T,
}

/// The kernel of one order with its buffers on a device; `I` are the inputs of the order.
pub struct CubeLaunch<R: Runtime, T, I> {
    client: ComputeClient<R>,
    config: CubeConfig,
    sizes: Sizes<T>,
    /// In the order of [`OrderInputs::tensors`].
    tensors: Vec<Buffer>,
    /// In the order of the tensors of the outputs, with their elements.
    outputs: Vec<(Buffer, usize)>,
    /// The inputs that this was made of.
    inputs: PhantomData<fn() -> I>,
}

impl<R: Runtime, T: Element, I: OrderInputs<T>> CubeLaunch<R, T, I> {
    /// Uploads tensors after checking them. Outputs start poisoned.
    ///
    /// # Errors
    /// [`LaunchError::Input`] and [`LaunchError::Constraint`].
    pub fn new(
        client: &ComputeClient<R>,
        device: &DeviceId,
        inputs: &I,
        config: &LaunchConfig,
    ) -> Result<Self, LaunchError> {
        inputs.check()?;
        let forward = inputs.forward();
        let tensors = inputs.tensors().iter().map(|(_, values)| Some(upload(client, values))).collect();
        let sizes = Sizes { n_atoms: forward.n_atoms, features: forward.features, epsilon: forward.epsilon };
        // SAFETY: checked inputs were uploaded to this client.
        let mut launch = unsafe { Self::from_handles(client, device, sizes, tensors, config)? };
        ff_spec::Launch::poison(&mut launch)?;
        Ok(launch)
    }

    /// Takes tensors that lie in the device's memory already: `vectors`, for the backwards `grad`, for the second `tangent`.
    /// `None` stands for one without elements.
    ///
    /// # Errors
    /// [`LaunchError::Constraint`].
    ///
    /// # Safety
    /// The buffers belong to `client`, are contiguous and row-major, hold `T`, and have the shapes that `sizes` says, which would
    /// pass [`ff_spec::vector_norm::Inputs::check`].
    pub unsafe fn from_handles(
        client: &ComputeClient<R>,
        device: &DeviceId,
        sizes: Sizes<T>,
        tensors: Vec<Option<Buffer>>,
        config: &LaunchConfig,
    ) -> Result<Self, LaunchError> {
        let config = cube_config(&device.limits, sizes.features, config)?;
        let norms = sizes.n_atoms * sizes.features;
        let lengths = match I::Op::ORDER {
            0 => vec![norms],
            1 => vec![3 * norms],
            _ => vec![norms, 3 * norms],
        };
        Ok(Self {
            client: client.clone(),
            config,
            sizes,
            tensors: tensors.into_iter().map(|buffer| buffer.unwrap_or_else(|| upload::<R, T>(client, &[]))).collect(),
            outputs: lengths.into_iter().map(|len| (empty(client, len, size_of::<T>()), len)).collect(),
            inputs: PhantomData,
        })
    }

    /// Submits the kernel once, without waiting, and hands over the outputs: `norm` (order 0), the gradient in the vectors
    /// (order 1), or those in `grad` and in the vectors (order 2).
    pub fn into_outputs(self) -> Vec<Handle> {
        self.submit();
        self.outputs.into_iter().map(|((handle, _), _)| handle).collect()
    }

    fn submit(&self) {
        let CubeConfig { units_per_cube, vector_width } = self.config;
        let Sizes { n_atoms, features, epsilon } = self.sizes;
        let row = features / vector_width;
        let units = n_atoms * row;
        if units == 0 {
            return;
        }
        let client = &self.client;
        let (count, dim) = (cubes(client, units, units_per_cube), CubeDim::new_1d(units_per_cube as u32));
        let array = |buffer: &Buffer| array(buffer, vector_width);
        let real = T::as_type_native_unchecked().storage_type();
        let epsilon = InputScalar::new(ff_spec::Scalar::to_f64(epsilon), real);
        let (row, units) = (row as u32, units as u32);
        match (&self.tensors[..], &self.outputs[..]) {
            // SAFETY: buffers have the shapes that the kernels index, and units are compared with how many have a share.
            ([vectors], [(norms, _)]) => unsafe {
                kernels::norms::launch_unchecked::<Real, Lanes, R>(
                    client,
                    count,
                    dim,
                    array(vectors),
                    array(norms),
                    epsilon,
                    row,
                    units,
                    real,
                    vector_width,
                );
            },
            // SAFETY: as above.
            ([vectors, grad], [(of_vectors, _)]) => unsafe {
                kernels::first_gradients::launch_unchecked::<Real, Lanes, R>(
                    client,
                    count,
                    dim,
                    array(vectors),
                    array(grad),
                    array(of_vectors),
                    epsilon,
                    row,
                    units,
                    real,
                    vector_width,
                );
            },
            // SAFETY: as above.
            ([vectors, grad, tangent], [(of_grad, _), (of_vectors, _)]) => unsafe {
                kernels::second_gradients::launch_unchecked::<Real, Lanes, R>(
                    client,
                    count,
                    dim,
                    array(vectors),
                    array(grad),
                    array(tangent),
                    array(of_grad),
                    array(of_vectors),
                    epsilon,
                    row,
                    units,
                    real,
                    vector_width,
                );
            },
            _ => unreachable!("an order reads as many tensors more as it is higher"),
        }
    }

    fn wait(&self) -> Result<(), LaunchError> {
        cubecl::future::block_on(self.client.sync()).map_err(fault)
    }
}

fn array<R: Runtime>((handle, len): &Buffer, vector: usize) -> ArrayArg<R> {
    // SAFETY: the handle was created with `len` elements, of which whole vectors are claimed.
    unsafe { ArrayArg::from_raw_parts(handle.clone(), (len / vector).max(1)) }
}

impl<R: Runtime, T: Element, I: OrderInputs<T>> ff_spec::Launch<I::Op> for CubeLaunch<R, T, I> {
    fn poison(&mut self) -> Result<(), LaunchError> {
        for ((handle, len), _) in &self.outputs {
            // All bits set is NaN in every float.
            fill(&self.client, handle, len * size_of::<T>() / size_of::<u32>(), u32::MAX);
        }
        Ok(())
    }

    fn run(&mut self) -> Result<(), LaunchError> {
        self.submit();
        self.wait()
    }

    fn time(&mut self) -> Result<Duration, LaunchError> {
        self.wait()?;
        let duration = timed(&self.client, "vector_norm", || self.submit())?;
        self.wait()?;
        Ok(duration)
    }

    fn outputs(&mut self) -> Result<<I::Op as Op>::Outputs, LaunchError> {
        let read = |((handle, _), len): &(Buffer, usize)| -> Result<Vec<f64>, LaunchError> {
            let bytes = self.client.read_one(handle.clone()).map_err(fault)?;
            Ok(T::from_bytes(&bytes)[..*len].iter().map(|x| ff_spec::Scalar::to_f64(*x)).collect())
        };
        Ok(I::collected(self.outputs.iter().map(read).collect::<Result<_, _>>()?))
    }

    fn input_digest(&mut self) -> Result<u64, LaunchError> {
        let mut parts = Vec::new();
        for (handle, _) in &self.tensors {
            parts.push(self.client.read_one(handle.clone()).map_err(fault)?);
        }
        let parts: Vec<&[u8]> = parts.iter().map(|bytes| &bytes[..]).collect();
        Ok(digest(&parts))
    }
}
