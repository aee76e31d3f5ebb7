//! From inputs to the kernels' buffers, and from there to launches.

use std::time::Duration;

use cubecl::ir::StorageType;
use cubecl::prelude::*;
use ff_spec::cell_list::{InputError, Inputs, List, NeighborList, Strategy, Variant};
use ff_spec::{CellList, DeviceId, LaunchConfig, LaunchError, Scalar, digest};

use super::CubeConfig;
use super::cube_config;
use super::fold::Grids;
use super::kernels::{self, GridsLaunch, PLACE, REPORT, Real};
use super::scan::Scan;
use crate::Element;
use crate::buffers::{Buffer, cubes, empty, fault, fill, timed, upload};

/// Units of a cube in kernels that give each atom or edge one unit.
const UNITS: usize = 256;

/// What is read.
pub(super) struct Tensors {
    /// [n_atoms, 3].
    pub positions: Buffer,
    /// [n_systems + 1].
    pub system_ptr: Buffer,
    /// [n_systems, FLOATS].
    pub floats: Buffer,
    /// [n_systems, INTEGERS].
    pub integers: Buffer,
}

/// What has the size of the atoms or bins.
pub(super) struct Rows {
    /// Not 0 for systems whose list is built, and not kept [n_systems].
    pub moved: Buffer,
    /// [n_atoms, PLACE].
    pub places: Buffer,
    /// Atoms of each bin, then where it starts [n_bins + 1].
    starts: Buffer,
    /// [n_atoms] by slot.
    wrapped: Buffer,
    /// [n_atoms] by slot.
    atoms: Buffer,
    /// Edges of each unit, then where it writes them [n_atoms · units_per_atom + 1].
    offsets: Buffer,
    /// [n_atoms + 1].
    pub row_ptr: Buffer,
    /// [n_atoms + 1]; of a full list `row_ptr` itself.
    pub sender_ptr: Buffer,
    /// [REPORT].
    pub report: Buffer,
}

/// What has the size of the list.
pub(super) struct Edges {
    /// Edges that the buffers hold.
    pub capacity: usize,
    /// Rows before they are sorted: senders and images. Then the edges of each sender before they are, and their receivers.
    scratch: [Buffer; 2],
    pub sender: Buffer,
    pub shift: Buffer,
    pub edge_vec: Buffer,
    /// Until it is written, the receiver of each edge, then its rank among the edges of its sender.
    pub transpose: Buffer,
}

/// The rows of a list that was built before, of which some are kept.
pub(super) struct Kept {
    pub row_ptr: Buffer,
    pub sender: Buffer,
    pub shift: Buffer,
}

impl Edges {
    /// `size` is that of a float.
    pub fn new<R: Runtime>(client: &ComputeClient<R>, capacity: usize, size: usize) -> Self {
        let indices = |each: usize| empty(client, each * capacity, size_of::<u32>());
        Self {
            capacity,
            scratch: [indices(1), indices(1)],
            sender: indices(1),
            shift: indices(3),
            edge_vec: empty(client, 3 * capacity, size),
            transpose: indices(1),
        }
    }

    /// Fills what is read with what no kernel writes; all bits set is NaN in every float.
    fn poison<R: Runtime>(&self, client: &ComputeClient<R>, size: usize) {
        for ((handle, len), words) in
            [(&self.sender, 1), (&self.transpose, 1), (&self.edge_vec, size / size_of::<u32>())]
        {
            fill(client, handle, len * words, u32::MAX);
        }
        fill(client, &self.shift.0, self.shift.1, i32::MAX as u32);
    }
}

/// The kernels of a list with their buffers on a device.
///
/// The first run counts the edges, makes room for them and writes them. Later runs submit all kernels at once; if there is
/// no longer room, what was counted is made room for and the edges are written then.
pub struct CubeLaunch<R: Runtime, T> {
    pub(super) client: ComputeClient<R>,
    list: List,
    pub(super) strategy: Strategy,
    pub(super) config: CubeConfig,
    pub(super) n_atoms: usize,
    pub(super) n_systems: usize,
    n_bins: usize,
    pub(super) tensors: Tensors,
    pub(super) rows: Rows,
    scan: Scan,
    pub(super) edges: Edges,
    /// Edges of the last run.
    pub(super) n_edges: usize,
    element: std::marker::PhantomData<T>,
}

impl<R: Runtime, T: Element> CubeLaunch<R, T> {
    /// Uploads tensors, and the grids that are made for them, after checking them. Outputs start poisoned.
    ///
    /// # Errors
    /// [`LaunchError::Input`] for inputs without a list, [`LaunchError::Constraint`] for a configuration that the device or
    /// the index type does not hold.
    pub fn new(
        client: &ComputeClient<R>,
        device: &DeviceId,
        variant: Variant,
        inputs: &Inputs<T>,
        config: &LaunchConfig,
    ) -> Result<Self, LaunchError> {
        Self::with_skin(client, device, variant, inputs, config, None)
    }

    /// As [`CubeLaunch::new`], of atoms that move; the cutoff includes the `skin`, in Å.
    pub(super) fn with_skin(
        client: &ComputeClient<R>,
        device: &DeviceId,
        variant: Variant,
        inputs: &Inputs<T>,
        config: &LaunchConfig,
        skin: Option<f64>,
    ) -> Result<Self, LaunchError> {
        let config = cube_config(&device.limits, config)?;
        inputs.check()?;
        let Variant { list, strategy } = variant;
        let (n_atoms, n_systems) = (inputs.n_atoms(), inputs.n_systems());
        let grids = Grids::new(inputs, strategy, config.bins(), skin)?;
        let n_places = n_atoms as u64 * config.units_per_atom.max(PLACE) as u64;
        if n_places >= u64::from(u32::MAX) {
            return Err(LaunchError::Constraint(format!(
                "{n_atoms} atoms of units_per_atom = {} are more than u32 counts",
                config.units_per_atom
            )));
        }
        let n_offsets = n_atoms * config.units_per_atom + 1;
        let indices = |len: usize| empty(client, len, size_of::<u32>());
        let system_ptr = upload(client, &inputs.system_ptr);
        let row_ptr = indices(n_atoms + 1);
        let sender_ptr = match list {
            List::Full => row_ptr.clone(),
            List::Half => indices(n_atoms + 1),
        };
        let starts = match strategy {
            Strategy::Cells => indices(grids.n_bins + 1),
            // One bin per system.
            Strategy::Brute => system_ptr.clone(),
        };
        let mut launch = Self {
            client: client.clone(),
            list,
            strategy,
            config,
            n_atoms,
            n_systems,
            n_bins: grids.n_bins,
            tensors: Tensors {
                positions: upload(client, &inputs.positions),
                system_ptr,
                floats: upload(client, &grids.floats),
                integers: upload(client, &grids.integers),
            },
            rows: Rows {
                moved: upload(client, &vec![1u32; n_systems]),
                places: indices(PLACE * n_atoms),
                starts,
                wrapped: empty(client, 4 * n_atoms, size_of::<T>()),
                atoms: indices(n_atoms),
                offsets: indices(n_offsets),
                row_ptr,
                sender_ptr,
                report: indices(REPORT),
            },
            scan: Scan::new(client, n_offsets.max(grids.n_bins + 1)),
            edges: Edges::new(client, 0, size_of::<T>()),
            n_edges: 0,
            element: std::marker::PhantomData,
        };
        ff_spec::Launch::poison(&mut launch)?;
        Ok(launch)
    }

    /// Edges that there is room for.
    pub fn capacity(&self) -> usize {
        self.edges.capacity
    }

    /// Makes room for so many edges, poisoned; what was written is lost. A run that finds more makes more.
    ///
    /// # Errors
    /// [`LaunchError::Input`] for more than the index type holds, [`LaunchError::Unsupported`] for more than one buffer of
    /// the device does.
    pub fn set_capacity(&mut self, edges: usize) -> Result<(), LaunchError> {
        let limit = Self::most_edges();
        if edges as u64 > limit {
            return Err(InputError::TooMany { what: "edges", found: edges as u64, limit }.into());
        }
        let most = self.client.properties().memory.max_page_size;
        let bytes = Self::bytes_per_edge() * edges as u64;
        if bytes > most {
            return Err(LaunchError::Unsupported(format!(
                "{edges} edges need a buffer of {bytes} bytes, the device's hold {most}"
            )));
        }
        // Freed first: both together would be twice the memory.
        self.edges = Edges::new(&self.client, 0, size_of::<T>());
        self.n_edges = 0;
        self.edges = Edges::new(&self.client, edges, size_of::<T>());
        // The first run is checked too.
        self.edges.poison(&self.client, size_of::<T>());
        Ok(())
    }

    /// The most edges that [`CubeLaunch::set_capacity`] takes.
    pub(super) fn most_room(&self) -> usize {
        let by_buffer = self.client.properties().memory.max_page_size / Self::bytes_per_edge();
        usize::try_from(by_buffer.min(Self::most_edges())).unwrap_or(usize::MAX)
    }

    /// Of the largest buffer.
    fn bytes_per_edge() -> u64 {
        3 * size_of::<T>() as u64
    }

    /// Edges whose vectors are counted, in words of 32 bits, by the index type.
    fn most_edges() -> u64 {
        u64::from(u32::MAX) / (3 * size_of::<T>() / size_of::<u32>()) as u64
    }

    pub(super) fn real() -> StorageType {
        T::as_type_native_unchecked().storage_type()
    }

    pub(super) fn grids(&self) -> GridsLaunch<Real, R> {
        GridsLaunch::new(array(&self.tensors.floats), array(&self.tensors.integers))
    }

    /// Cubes and units for one unit each.
    pub(super) fn flat(&self, n: usize) -> (CubeCount, CubeDim) {
        let most = self.client.properties().hardware.max_units_per_cube as usize;
        let units = UNITS.min(most);
        (cubes(&self.client, n, units), CubeDim::new_1d(units as u32))
    }

    /// Cubes and units for `units_per_atom` units per atom, and one more.
    fn by_row(&self) -> (CubeCount, CubeDim) {
        let CubeConfig { atoms_per_cube, units_per_atom, .. } = self.config;
        let units = atoms_per_cube * units_per_atom;
        let count = cubes(&self.client, self.n_atoms * units_per_atom + 1, units);
        (count, CubeDim::new_1d(units as u32))
    }

    /// Replaces what the list is written to by fresh memory; the rows that were there.
    pub(super) fn renew(&mut self) -> Kept {
        let Self { client, rows, edges, .. } = self;
        let indices = |len: usize| empty(client, len, size_of::<u32>());
        let kept = Kept { row_ptr: rows.row_ptr.clone(), sender: edges.sender.clone(), shift: edges.shift.clone() };
        rows.row_ptr = indices(self.n_atoms + 1);
        rows.sender_ptr = match self.list {
            List::Full => rows.row_ptr.clone(),
            List::Half => indices(self.n_atoms + 1),
        };
        edges.sender = indices(edges.capacity);
        edges.shift = indices(3 * edges.capacity);
        edges.edge_vec = empty(client, 3 * edges.capacity, size_of::<T>());
        edges.transpose = indices(edges.capacity);
        kept
    }

    /// Begins a report anew.
    pub(super) fn reset_report(&self) {
        fill(&self.client, &self.rows.report.0, REPORT, 0);
    }

    /// Submits the stages that need to know nothing of the list but what is kept of another.
    pub(super) fn submit_count(&self, kept: Option<&Kept>) {
        let Self { client, tensors, rows, .. } = self;
        let (n_atoms, n_systems) = (self.n_atoms as u32, self.n_systems as u32);
        let binned = self.strategy == Strategy::Cells;
        let (count, dim) = self.flat(self.n_atoms);
        // Without bins there is nothing to count atoms in.
        let counts = if binned { &rows.starts } else { &rows.offsets };
        if binned {
            fill(client, &rows.starts.0, self.n_bins + 1, 0);
        }
        // SAFETY: buffers have the shapes that the kernel indexes, `inputs` were checked, and units are compared with the atoms.
        unsafe {
            kernels::place::launch_unchecked::<Real, R>(
                client,
                count.clone(),
                dim,
                array(&tensors.positions),
                array(&tensors.system_ptr),
                self.grids(),
                array(&rows.moved),
                array(&rows.places),
                array(counts),
                array(&rows.report),
                n_atoms,
                n_systems,
                binned,
                Self::real(),
            );
        }
        if binned {
            self.scan.run(client, &rows.starts.0, self.n_bins + 1);
        }
        // SAFETY: as above; the bins of all atoms were counted, so ranks and starts are within the atoms.
        unsafe {
            kernels::arrange::launch_unchecked::<Real, R>(
                client,
                count,
                dim,
                array(&tensors.positions),
                array(&rows.places),
                self.grids(),
                array(&rows.starts),
                vectors(&rows.wrapped),
                array(&rows.atoms),
                n_atoms,
                binned,
                Self::real(),
            );
        }
        self.submit_walk(false);
        let units = self.config.units_per_atom;
        if let Some(kept) = kept {
            let (count, dim) = self.by_row();
            // SAFETY: as above; the rows that are kept are of as many atoms.
            unsafe {
                kernels::count_kept::launch_unchecked::<R>(
                    client,
                    count,
                    dim,
                    array(&rows.places),
                    array(&kept.row_ptr),
                    array(&rows.offsets),
                    n_atoms,
                    units,
                );
            }
        }
        self.scan.run(client, &rows.offsets.0, self.n_atoms * units + 1);
        let (count, dim) = self.flat(self.n_atoms + 1);
        // SAFETY: as above.
        unsafe {
            kernels::row_starts::launch_unchecked::<R>(
                client,
                count,
                dim,
                array(&rows.offsets),
                array(&rows.row_ptr),
                array(&rows.report),
                n_atoms,
                self.edges.capacity as u32,
                units,
            );
        }
    }

    fn submit_walk(&self, fill: bool) {
        let Self { client, tensors, rows, edges, .. } = self;
        let [senders, images] = &edges.scratch;
        // No buffer is bound twice.
        let (offsets, out) = if fill { (&rows.offsets, senders) } else { (senders, &rows.offsets) };
        let (count, dim) = self.by_row();
        // SAFETY: buffers have the shapes that the kernel indexes; it writes what there is room for.
        unsafe {
            kernels::walk::launch_unchecked::<Real, R>(
                client,
                count,
                dim,
                array(&tensors.positions),
                array(&rows.places),
                self.grids(),
                array(&rows.starts),
                vectors(&rows.wrapped),
                array(&rows.atoms),
                array(offsets),
                array(out),
                array(images),
                array(&edges.transpose),
                array(&rows.report),
                self.n_atoms as u32,
                edges.capacity as u32,
                self.config.units_per_atom,
                self.list == List::Half,
                fill,
                Self::real(),
            );
        }
    }

    /// Submits the stages that write the list, each of them nothing if there is no room for it.
    pub(super) fn submit_write(&self, kept: Option<&Kept>) {
        if self.edges.capacity == 0 {
            if self.list == List::Half {
                fill(&self.client, &self.rows.sender_ptr.0, self.n_atoms + 1, 0);
            }
            return;
        }
        self.submit_walk(true);
        let Self { client, tensors, rows, edges, .. } = self;
        let (n_atoms, capacity, units) = (self.n_atoms as u32, edges.capacity as u32, self.config.units_per_atom);
        let [first, second] = &edges.scratch;
        if let Some(kept) = kept {
            let (count, dim) = self.by_row();
            // SAFETY: as below; the rows that are kept are as long as those they become, and hold as many edges.
            unsafe {
                kernels::copy_kept::launch_unchecked::<Real, R>(
                    client,
                    count,
                    dim,
                    array(&tensors.positions),
                    array(&rows.places),
                    self.grids(),
                    array(&rows.row_ptr),
                    array(&kept.row_ptr),
                    array(&kept.sender),
                    array(&kept.shift),
                    array(&edges.sender),
                    array(&edges.shift),
                    array(&edges.edge_vec),
                    array(&edges.transpose),
                    array(&rows.report),
                    n_atoms,
                    capacity,
                    units,
                    Self::real(),
                );
            }
        }
        let (by_edge, dim) = self.flat(edges.capacity);
        // SAFETY: here and below, buffers have the shapes that the kernels index, which do nothing if the list is longer.
        unsafe {
            kernels::sort_rows::launch_unchecked::<Real, R>(
                client,
                by_edge.clone(),
                dim,
                array(&tensors.positions),
                array(&rows.places),
                self.grids(),
                array(&rows.row_ptr),
                array(first),
                array(second),
                array(&edges.transpose),
                array(&edges.sender),
                array(&edges.shift),
                array(&edges.edge_vec),
                array(&rows.report),
                n_atoms,
                capacity,
                Self::real(),
            );
        }
        if self.list == List::Full {
            // SAFETY: as above.
            unsafe {
                kernels::reverse::launch_unchecked::<R>(
                    client,
                    by_edge,
                    dim,
                    array(&rows.row_ptr),
                    array(&edges.sender),
                    array(&edges.shift),
                    array(&edges.transpose),
                    array(&rows.report),
                    n_atoms,
                    capacity,
                );
            }
            return;
        }
        fill(client, &rows.sender_ptr.0, self.n_atoms + 1, 0);
        // SAFETY: as above.
        unsafe {
            kernels::count_sent::launch_unchecked::<R>(
                client,
                by_edge.clone(),
                dim,
                array(&rows.row_ptr),
                array(&edges.sender),
                array(&rows.sender_ptr),
                array(&edges.transpose),
                n_atoms,
                capacity,
            );
        }
        self.scan.run(client, &rows.sender_ptr.0, self.n_atoms + 1);
        let (by_row, units_by_row) = self.by_row();
        // SAFETY: as above.
        unsafe {
            kernels::scatter_sent::launch_unchecked::<R>(
                client,
                by_row,
                units_by_row,
                array(&rows.row_ptr),
                array(&edges.sender),
                array(&rows.sender_ptr),
                array(&edges.transpose),
                array(first),
                array(second),
                n_atoms,
                capacity,
                units,
            );
            kernels::sort_sent::launch_unchecked::<R>(
                client,
                by_edge,
                dim,
                array(&rows.row_ptr),
                array(&edges.sender),
                array(&rows.sender_ptr),
                array(first),
                array(second),
                array(&edges.transpose),
                array(&rows.report),
                n_atoms,
                capacity,
            );
        }
    }

    /// Submits what leaves nothing unspecified.
    pub(super) fn submit_seal(&self) {
        let Self { client, rows, edges, .. } = self;
        let (n_atoms, capacity) = (self.n_atoms as u32, edges.capacity as u32);
        let (count, dim) = self.flat(edges.capacity);
        // SAFETY: units are compared with the capacity, which is what the buffers hold.
        unsafe {
            kernels::seal::launch_unchecked::<Real, R>(
                client,
                count,
                dim,
                array(&edges.sender),
                array(&edges.shift),
                array(&edges.edge_vec),
                array(&edges.transpose),
                array(&rows.report),
                capacity,
                Self::real(),
            );
        }
        let starts = match self.list {
            List::Full => vec![&rows.row_ptr],
            List::Half => vec![&rows.row_ptr, &rows.sender_ptr],
        };
        for starts in starts {
            let (count, dim) = self.flat(self.n_atoms + 1);
            // SAFETY: units are compared with the atoms.
            unsafe {
                kernels::seal_rows::launch_unchecked::<R>(
                    client,
                    count,
                    dim,
                    array(starts),
                    array(&rows.report),
                    n_atoms,
                    capacity,
                );
            }
        }
    }

    /// Waits for the list: how many edges it has, written or not.
    pub(super) fn finish(&self) -> Result<usize, LaunchError> {
        let report = self.read::<u32>(&self.rows.report, REPORT)?;
        self.judge(report[0], report[1])
    }

    /// What a report says: how many edges the list has, written or not.
    pub(super) fn judge(&self, n_edges: u32, failure: u32) -> Result<usize, LaunchError> {
        let failed = |what: &str| Err(LaunchError::Runtime(what.to_owned()));
        match (n_edges, failure) {
            (u32::MAX, 0) => Err(self.too_many()?.into()),
            (_, kernels::WALKS_DIFFER) => failed("two walks over the same candidates found different edges"),
            (_, kernels::NO_REVERSE) => failed("an edge has no reverse"),
            (_, kernels::LOOP_CUT) => failed(
                "the device cut a loop short, as Mesa's software Vulkan does after 65,535 turns; raise `units_per_atom`",
            ),
            (_, kernels::OUT_OF_REACH) => failed("an atom is further out than its grid allows"),
            (n_edges, _) => Ok(n_edges as usize),
        }
    }

    /// Counts once more, as the sums of the scan are not to be had beyond u32.
    fn too_many(&self) -> Result<InputError, LaunchError> {
        self.submit_walk(false);
        let lengths = self.read::<u32>(&self.rows.offsets, self.n_atoms * self.config.units_per_atom)?;
        let found = lengths.into_iter().map(u64::from).sum();
        Ok(InputError::TooMany { what: "edges", found, limit: Self::most_edges() })
    }

    pub(super) fn read<E: CubeElement>(&self, (handle, _): &Buffer, len: usize) -> Result<Vec<E>, LaunchError> {
        if len == 0 {
            return Ok(Vec::new());
        }
        let bytes = self.client.read_one(handle.clone()).map_err(fault)?;
        Ok(E::from_bytes(&bytes)[..len].to_vec())
    }
}

pub(super) fn array<R: Runtime>((handle, len): &Buffer) -> ArrayArg<R> {
    // SAFETY: the handle was created with `len` elements.
    unsafe { ArrayArg::from_raw_parts(handle.clone(), *len) }
}

fn vectors<R: Runtime>((handle, len): &Buffer) -> ArrayArg<R> {
    // SAFETY: the handle was created with `len` elements, in whole vectors of four.
    unsafe { ArrayArg::from_raw_parts(handle.clone(), *len / 4) }
}

impl<R: Runtime, T: Element> CubeLaunch<R, T> {
    /// The list of the last run.
    pub(super) fn read_list(&self) -> Result<NeighborList<T>, LaunchError> {
        let (n_atoms, n_edges) = (self.n_atoms, self.n_edges);
        let edge_vec = self.read::<T>(&self.edges.edge_vec, 3 * n_edges)?;
        let shift = self.read::<i32>(&self.edges.shift, 3 * n_edges)?;
        Ok(NeighborList {
            row_ptr: self.read(&self.rows.row_ptr, n_atoms + 1)?,
            sender: self.read(&self.edges.sender, n_edges)?,
            shift: shift.as_chunks().0.to_vec(),
            edge_vec: edge_vec.as_chunks().0.to_vec(),
            sender_ptr: self.read(&self.rows.sender_ptr, n_atoms + 1)?,
            transpose: self.read(&self.edges.transpose, n_edges)?,
        })
    }
}

impl<R: Runtime, T: Element> ff_spec::Launch<CellList> for CubeLaunch<R, T> {
    fn poison(&mut self) -> Result<(), LaunchError> {
        let Self { client, rows, edges, .. } = self;
        for (handle, len) in [&rows.row_ptr, &rows.sender_ptr] {
            fill(client, handle, *len, u32::MAX);
        }
        edges.poison(client, size_of::<T>());
        Ok(())
    }

    fn run(&mut self) -> Result<(), LaunchError> {
        self.reset_report();
        self.submit_count(None);
        self.submit_write(None);
        let n_edges = self.finish()?;
        if n_edges > self.edges.capacity {
            self.set_capacity(n_edges)?;
            self.submit_write(None);
            self.finish()?;
        }
        self.n_edges = n_edges;
        Ok(())
    }

    fn time(&mut self) -> Result<Duration, LaunchError> {
        // Room for the edges first: what is timed is all kernels in one go.
        self.run()?;
        let duration = timed(&self.client, "cell_list", || {
            self.submit_count(None);
            self.submit_write(None);
        })?;
        self.finish()?;
        Ok(duration)
    }

    fn outputs(&mut self) -> Result<NeighborList<f64>, LaunchError> {
        let NeighborList { row_ptr, sender, shift, edge_vec, sender_ptr, transpose } = self.read_list()?;
        let edge_vec = edge_vec.into_iter().map(|r| r.map(Scalar::to_f64)).collect();
        Ok(NeighborList { row_ptr, sender, shift, edge_vec, sender_ptr, transpose })
    }

    fn input_digest(&mut self) -> Result<u64, LaunchError> {
        let Tensors { positions, system_ptr, floats, integers } = &self.tensors;
        let mut parts = Vec::new();
        for (handle, _) in [positions, system_ptr, floats, integers] {
            parts.push(self.client.read_one(handle.clone()).map_err(fault)?);
        }
        let parts: Vec<&[u8]> = parts.iter().map(|bytes| &bytes[..]).collect();
        Ok(digest(&parts))
    }
}
