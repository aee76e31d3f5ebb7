//! From inputs to buffers on a device, and from there to launches of the three orders.

use std::marker::PhantomData;
use std::time::Duration;

use cubecl::ir::StorageType;
use cubecl::prelude::*;
use cubecl::server::Handle;
use ff_spec::force_scatter::{Inputs, OrderInputs, Reduction, Variant};
use ff_spec::{DeviceId, LaunchConfig, LaunchError, Op, SenderList, digest};

use super::kernels::{self, ProductsLaunch, Real, SYMMETRIC};
use super::{CubeConfig, cube_config};
use crate::Element;
use crate::buffers::{Buffer, cubes, empty, fault, fill, timed, upload};

/// Edges that each unit of a part sums, on average over the systems.
const EDGES_PER_UNIT: usize = 32;

/// Most parts of one system: they are added up one after the other.
const MOST_PARTS: usize = 256;

/// The sizes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Atoms.
    pub n_atoms: usize,
    /// Systems.
    pub n_systems: usize,
    /// Directed edges.
    pub n_edges: usize,
}

/// The kernels of one order with their buffers on a device; `I` are the inputs of the order.
pub struct CubeLaunch<R: Runtime, T, I> {
    client: ComputeClient<R>,
    reduction: Reduction,
    config: CubeConfig,
    sizes: Sizes,
    /// `row_ptr`, `sender`, `system_ptr`, `sender_ptr`, `transpose`.
    list: [Buffer; 5],
    /// In the order of [`OrderInputs::tensors`].
    tensors: Vec<Buffer>,
    /// In the order of the tensors of the outputs, with their elements.
    outputs: Vec<(Buffer, usize)>,
    /// [n_systems, parts, 6].
    sums: Buffer,
    parts: usize,
    /// Bound where a kernel reads nothing.
    unread: [Buffer; 2],
    /// The element type and the inputs that this was made of.
    inputs: PhantomData<fn() -> (T, I)>,
}

impl<R: Runtime, T: Element, I: OrderInputs<T>> CubeLaunch<R, T, I> {
    /// Uploads tensors after checking them, with the list by sender. Outputs start poisoned.
    ///
    /// # Errors
    /// [`LaunchError::Input`] and [`LaunchError::Constraint`].
    pub fn new(
        client: &ComputeClient<R>,
        device: &DeviceId,
        variant: Variant,
        inputs: &I,
        config: &LaunchConfig,
    ) -> Result<Self, LaunchError> {
        inputs.check()?;
        let forward = inputs.forward();
        let Inputs { row_ptr, sender, system_ptr, .. } = forward;
        let SenderList { sender_ptr, transpose, .. } = &SenderList::new(row_ptr, sender);
        let list = [row_ptr, sender, system_ptr, sender_ptr, transpose].map(|values| Some(upload(client, values)));
        let tensors = inputs.tensors().iter().map(|(_, values)| Some(upload(client, values))).collect();
        let (n_atoms, n_systems, n_edges) = (forward.n_atoms(), forward.n_systems(), forward.n_edges());
        let sizes = Sizes { n_atoms, n_systems, n_edges };
        // SAFETY: checked inputs were uploaded to this client.
        let mut launch = unsafe { Self::from_handles(client, device, variant, sizes, list, tensors, config)? };
        ff_spec::Launch::poison(&mut launch)?;
        Ok(launch)
    }

    /// Takes tensors that lie in the device's memory already: the list as `row_ptr`, `sender`, `system_ptr`, `sender_ptr`,
    /// `transpose` (the last two are read by `gather` alone), then `edge_vec`, `edge_grad`; for the backwards `forces` and
    /// `strain` of the cotangents; for the second the direction's `edge_vec` and `edge_grad`. `None` stands for one without
    /// elements or that is not read. Of a list with room for more, arrays of edges go on behind the edges that `row_ptr`
    /// counts, and `sizes` counts that room: what lies there is not read, and its gradients are zero.
    ///
    /// # Errors
    /// [`LaunchError::Constraint`].
    ///
    /// # Safety
    /// The buffers belong to `client`, are contiguous and row-major, hold u32 (the list) or `T`, and have the shapes that `sizes`
    /// says; the list would pass [`Inputs::check`], and `sender_ptr` and `transpose` are those of [`SenderList`].
    pub unsafe fn from_handles(
        client: &ComputeClient<R>,
        device: &DeviceId,
        variant: Variant,
        sizes: Sizes,
        list: [Option<Buffer>; 5],
        tensors: Vec<Option<Buffer>>,
        config: &LaunchConfig,
    ) -> Result<Self, LaunchError> {
        let config = cube_config(&device.limits, T::DTYPE, config)?;
        let Sizes { n_atoms, n_systems, n_edges } = sizes;
        let (sums, gradients) = ([3 * n_atoms, 9 * n_systems], [3 * n_edges; 2]);
        let lengths = match I::Op::ORDER {
            0 => sums.to_vec(),
            1 => gradients.to_vec(),
            _ => [sums, gradients].concat(),
        };
        let per_part = EDGES_PER_UNIT * config.units_per_cube * n_systems.max(1);
        let parts = n_edges.div_ceil(per_part).clamp(1, MOST_PARTS);
        let unread = || upload::<R, T>(client, &[]);
        Ok(Self {
            client: client.clone(),
            reduction: variant.reduction,
            config,
            sizes,
            list: list.map(|buffer| buffer.unwrap_or_else(unread)),
            tensors: tensors.into_iter().map(|buffer| buffer.unwrap_or_else(unread)).collect(),
            outputs: lengths.into_iter().map(|len| (empty(client, len, size_of::<T>()), len)).collect(),
            sums: empty(client, SYMMETRIC * parts * n_systems, size_of::<T>()),
            parts,
            unread: [unread(), unread()],
            inputs: PhantomData,
        })
    }

    /// Submits the kernels once, without waiting, and hands over the outputs in the order of their tensors: `forces` and
    /// `strain` (orders 0 and 2), then the gradients in `edge_vec` and `edge_grad` (orders 1 and 2).
    pub fn into_outputs(self) -> Vec<Handle> {
        self.submit();
        self.outputs.into_iter().map(|((handle, _), _)| handle).collect()
    }

    fn submit(&self) {
        let [edge_vec, edge_grad, rest @ ..] = &self.tensors[..] else { unreachable!("every order reads these") };
        match (I::Op::ORDER, rest) {
            (0, _) => self.submit_sums(edge_grad, [edge_vec, edge_grad], None),
            (1, _) => self.submit_spread(edge_vec, edge_grad, true),
            (_, [_, _, t_vec, t_grad]) => {
                self.submit_sums(t_grad, [edge_vec, t_grad], Some([t_vec, edge_grad]));
                self.submit_spread(t_vec, t_grad, false);
            }
            _ => unreachable!("the second backward reads six tensors"),
        }
    }

    /// Cubes and units for one unit each.
    fn flat(&self, n: usize) -> (CubeCount, CubeDim) {
        let units = self.config.units_per_cube;
        (cubes(&self.client, n, units), CubeDim::new_1d(units as u32))
    }

    fn submit_sums(&self, values: &Buffer, product: [&Buffer; 2], second: Option<[&Buffer; 2]>) {
        let Self { client, parts, .. } = self;
        let [row_ptr, sender, system_ptr, sender_ptr, transpose] = &self.list;
        let [(forces, _), (strain, _), ..] = &self.outputs[..] else { unreachable!("orders 0 and 2 have these") };
        let Sizes { n_atoms, n_systems, n_edges } = self.sizes;
        let ([a, b], [c, d]) = (product, second.unwrap_or(self.unread.each_ref()));
        let products = || ProductsLaunch::new(array(a), array(b), array(c), array(d));
        let by_part = cubes(client, n_systems * parts, 1);
        let units = self.config.units_per_cube;
        match self.reduction {
            // SAFETY: buffers have the shapes that the kernels index, and units are compared with the sizes.
            Reduction::Gather => unsafe {
                let (count, dim) = self.flat(n_atoms);
                kernels::gather_forces::launch_unchecked::<Real, R>(
                    client,
                    count,
                    dim,
                    array(row_ptr),
                    array(sender_ptr),
                    array(transpose),
                    array(values),
                    array(forces),
                    n_atoms as u32,
                    real::<T>(),
                );
                kernels::strain_parts::launch_unchecked::<Real, R>(
                    client,
                    by_part,
                    dim,
                    array(row_ptr),
                    array(system_ptr),
                    products(),
                    array(&self.sums),
                    n_systems as u32,
                    *parts as u32,
                    second.is_some(),
                    units,
                    real::<T>(),
                );
                let (count, dim) = self.flat(9 * n_systems);
                kernels::sum_parts::launch_unchecked::<Real, R>(
                    client,
                    count,
                    dim,
                    array(&self.sums),
                    array(strain),
                    n_systems as u32,
                    *parts as u32,
                    real::<T>(),
                );
            },
            Reduction::Atomic => {
                for (handle, len) in [forces, strain] {
                    fill(client, handle, len * size_of::<T>() / size_of::<u32>(), 0);
                }
                if n_edges == 0 {
                    return;
                }
                let (count, dim) = self.flat(n_edges);
                // SAFETY: as above.
                unsafe {
                    kernels::scatter_forces::launch_unchecked::<Real, R>(
                        client,
                        count,
                        dim,
                        array(row_ptr),
                        array(sender),
                        array(values),
                        array(forces),
                        n_atoms as u32,
                        n_edges as u32,
                        real::<T>(),
                    );
                    kernels::add_strain_parts::launch_unchecked::<Real, R>(
                        client,
                        by_part,
                        dim,
                        array(row_ptr),
                        array(system_ptr),
                        products(),
                        array(strain),
                        n_systems as u32,
                        *parts as u32,
                        second.is_some(),
                        units,
                        real::<T>(),
                    );
                }
            }
        }
    }

    fn submit_spread(&self, vec: &Buffer, grad: &Buffer, with_forces: bool) {
        let [row_ptr, sender, system_ptr, ..] = &self.list;
        let [_, _, forces, strain, ..] = &self.tensors[..] else { unreachable!("the backwards have cotangents") };
        let [.., (of_vec, _), (of_grad, _)] = &self.outputs[..] else { unreachable!("the backwards have these") };
        let Sizes { n_atoms, n_systems, n_edges } = self.sizes;
        let (count, dim) = self.flat(n_edges);
        // SAFETY: as in `submit_sums`.
        unsafe {
            kernels::spread::launch_unchecked::<Real, R>(
                &self.client,
                count,
                dim,
                array(row_ptr),
                array(sender),
                array(system_ptr),
                array(vec),
                array(grad),
                array(forces),
                array(strain),
                array(of_vec),
                array(of_grad),
                n_atoms as u32,
                n_systems as u32,
                n_edges as u32,
                with_forces,
                real::<T>(),
            );
        }
    }

    fn wait(&self) -> Result<(), LaunchError> {
        cubecl::future::block_on(self.client.sync()).map_err(fault)
    }
}

fn array<R: Runtime>((handle, len): &Buffer) -> ArrayArg<R> {
    // SAFETY: the handle was created with `len` elements.
    unsafe { ArrayArg::from_raw_parts(handle.clone(), *len) }
}

fn real<T: CubePrimitive>() -> StorageType {
    T::as_type_native_unchecked().storage_type()
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
        let duration = timed(&self.client, "force_scatter", || self.submit())?;
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
        for (handle, _) in self.list.iter().chain(&self.tensors) {
            parts.push(self.client.read_one(handle.clone()).map_err(fault)?);
        }
        let parts: Vec<&[u8]> = parts.iter().map(|bytes| &bytes[..]).collect();
        Ok(digest(&parts))
    }
}
