//! Lists on a device that stay valid while atoms move a little.

use cubecl::prelude::*;
use cubecl::server::Handle;
use ff_spec::cell_list::{InputError, Inputs, NeighborList, Variant};
use ff_spec::{DeviceId, LaunchConfig, LaunchError};

use super::kernels::{self, OUT_OF_REACH, REPORT, Real};
use super::launch::{CubeLaunch, Kept, array};
use crate::Element;
use crate::buffers::{Buffer, fill, upload};

/// A list at cutoff + skin of atoms that move on the device. It is built again, system by system, only when it may miss a pair
/// (Verlet, Phys. Rev. 159, 98 (1967)).
///
/// [`CubeSkinList::update`] submits every kernel at once and reads nothing back: whether an atom has moved too far, which
/// systems are built again and whether there is room for their edges is decided on the device. What went wrong stays noted
/// there, and everything is built again in each update, until [`CubeSkinList::finish`] asks and makes it good.
pub struct CubeSkinList<R: Runtime, T> {
    launch: CubeLaunch<R, T>,
    device: DeviceId,
    variant: Variant,
    config: LaunchConfig,
    /// Systems, cells, and the cutoff with the skin; the positions are those that were last known here.
    inputs: Inputs<T>,
    skin: T,
    /// Positions each system had when its list was built [n_atoms, 3].
    built_at: Buffer,
    /// [n_systems].
    rebuilds: Buffer,
}

/// What kept lists from being written since the last [`CubeSkinList::finish`]. The list of the latest positions has been
/// built; what was computed with those before it must be computed again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repair {
    /// There was room for fewer edges than there were; now there is for more.
    Room {
        /// Edges that there was room for.
        capacity: usize,
        /// The most edges of a list.
        edges: usize,
    },
    /// An atom had left the region that the grids were made for; they were made anew.
    Reach,
}

/// A list in the memory of its device. The arrays of edges are as long as the list may become, and zero behind its end. A list
/// that could not be written is empty, until [`CubeSkinList::finish`] has made it good.
#[derive(Clone, Debug)]
pub struct ListBuffers {
    /// Edges that there is room for.
    pub capacity: usize,
    /// [n_atoms + 1], u32.
    pub row_ptr: Handle,
    /// [capacity], u32.
    pub sender: Handle,
    /// [capacity, 3], i32.
    pub shift: Handle,
    /// [capacity, 3], Å.
    pub edge_vec: Handle,
    /// [n_atoms + 1], u32; of a full list `row_ptr` itself.
    pub sender_ptr: Handle,
    /// [capacity], u32.
    pub transpose: Handle,
}

impl<R: Runtime, T: Element> CubeSkinList<R, T> {
    /// Builds lists of all pairs with d < `inputs.cutoff` + `skin`, both in Å, with room for a quarter more edges.
    ///
    /// # Errors
    /// As [`CubeLaunch::new`] and where it runs; a skin that is negative or not finite is an [`InputError::Cutoff`].
    pub fn new(
        client: &ComputeClient<R>,
        device: &DeviceId,
        variant: Variant,
        mut inputs: Inputs<T>,
        skin: T,
        config: &LaunchConfig,
    ) -> Result<Self, LaunchError> {
        Inputs::check_skin(skin)?;
        inputs.cutoff += skin;
        let width = ff_spec::Scalar::to_f64(skin);
        let launch = CubeLaunch::with_skin(client, device, variant, &inputs, config, Some(width))?;
        let (built_at, rebuilds) = (upload(client, &inputs.positions), upload(client, &vec![0; inputs.n_systems()]));
        let (device, config) = (device.clone(), config.clone());
        let mut list = Self { launch, device, variant, config, inputs, skin, built_at, rebuilds };
        list.launch.reset_report();
        list.launch.submit_count(None);
        let n_edges = list.launch.finish()?;
        list.make_room(n_edges)?;
        list.launch.reset_report();
        list.launch.submit_count(None);
        list.launch.submit_write(None);
        list.launch.submit_seal();
        list.launch.n_edges = list.launch.finish()?;
        Ok(list)
    }

    /// Atoms.
    pub fn n_atoms(&self) -> usize {
        self.launch.n_atoms
    }

    /// Edges that there is room for.
    pub fn capacity(&self) -> usize {
        self.launch.capacity()
    }

    /// Makes room for so many edges; lists that were written are lost.
    ///
    /// # Errors
    /// As [`CubeLaunch::set_capacity`].
    pub fn set_capacity(&mut self, edges: usize) -> Result<(), LaunchError> {
        self.launch.set_capacity(edges.max(1))?;
        self.build_all()
    }

    /// Moves the atoms to `positions` [n_atoms, 3] in Å. Systems in which one has moved by more than skin/2 are built again; all
    /// edge vectors are those of the new positions. Nothing is waited for.
    ///
    /// # Safety
    /// `positions` has 3·n_atoms elements of the list's dtype, one after another.
    pub unsafe fn update(&mut self, positions: Handle) {
        self.launch.tensors.positions.0 = positions;
        let launch = &self.launch;
        fill(&launch.client, &launch.rows.moved.0, launch.n_systems, 0);
        let (count, dim) = launch.flat(launch.n_atoms);
        // SAFETY: buffers have the shapes that the kernel indexes, as the caller promises of `positions`.
        unsafe {
            kernels::find_moved::launch_unchecked::<Real, R>(
                &launch.client,
                count,
                dim,
                array(&launch.tensors.positions),
                array(&self.built_at),
                array(&launch.tensors.system_ptr),
                launch.grids(),
                array(&launch.rows.moved),
                array(&launch.rows.report),
                launch.n_atoms as u32,
                launch.n_systems as u32,
                CubeLaunch::<R, T>::real(),
            );
        }
        let kept = self.launch.renew();
        self.submit(Some(&kept));
    }

    /// Changes the cells to `cell` [n_systems, 3, 3] in Å, and builds those systems again whose cell is another. Waits for the
    /// positions, which grids are made from.
    ///
    /// # Errors
    /// As [`CubeSkinList::new`]; the list is then as it was before.
    pub fn set_cell(&mut self, cell: &[T]) -> Result<Option<Repair>, LaunchError> {
        let (expected, found) = (self.inputs.cell.len(), cell.len());
        if found != expected {
            return Err(InputError::Shape { tensor: "cell", shape: "[n_systems, 3, 3]", expected, found }.into());
        }
        let repair = self.finish()?;
        let positions = self.launch.read::<T>(&self.launch.tensors.positions, self.inputs.positions.len())?;
        let moved = (0..self.inputs.n_systems()).map(|system| u32::from(self.inputs.cell_differs(system, cell)));
        let moved: Vec<u32> = moved.collect();
        let inputs = Inputs { positions, cell: cell.to_vec(), ..self.inputs.clone() };
        self.remake(inputs, &moved)?;
        Ok(self.finish()?.or(repair))
    }

    /// Waits for the lists since the last call, and says what kept any of them from being written: the one of the latest
    /// positions has been built then.
    ///
    /// # Errors
    /// [`LaunchError::Input`] for a position that is not finite and for more edges than the index type holds, else what
    /// the device met.
    pub fn finish(&mut self) -> Result<Option<Repair>, LaunchError> {
        let report = self.launch.read::<u32>(&self.launch.rows.report, REPORT)?;
        let [n_edges, failure, lacking] = [report[0], report[1], report[2]];
        if failure == OUT_OF_REACH {
            let positions = self.launch.read::<T>(&self.launch.tensors.positions, self.inputs.positions.len())?;
            let inputs = Inputs { positions, ..self.inputs.clone() };
            inputs.check()?;
            self.remake(inputs, &vec![1; self.inputs.n_systems()])?;
            return Ok(self.finish()?.or(Some(Repair::Reach)));
        }
        if lacking == 0 || failure != 0 {
            self.launch.n_edges = self.launch.judge(n_edges, failure)?;
            return Ok(None);
        }
        let capacity = self.capacity();
        if lacking < u32::MAX {
            self.make_room(lacking as usize)?;
        }
        self.build_all()?;
        Ok(Some(Repair::Room { capacity, edges: lacking as usize }))
    }

    /// How often the list of each system was built again, [n_systems].
    ///
    /// # Errors
    /// [`LaunchError::Runtime`].
    pub fn rebuilds(&self) -> Result<Vec<u32>, LaunchError> {
        self.launch.read(&self.rebuilds, self.inputs.n_systems())
    }

    /// The list, with edge vectors of the latest positions, as of the last [`CubeSkinList::finish`].
    ///
    /// # Errors
    /// [`LaunchError::Runtime`].
    pub fn read(&self) -> Result<NeighborList<T>, LaunchError> {
        self.launch.read_list()
    }

    /// The list as it lies in memory. Later updates write to other memory.
    pub fn buffers(&self) -> ListBuffers {
        let CubeLaunch { rows, edges, .. } = &self.launch;
        ListBuffers {
            capacity: edges.capacity,
            row_ptr: rows.row_ptr.0.clone(),
            sender: edges.sender.0.clone(),
            shift: edges.shift.0.clone(),
            edge_vec: edges.edge_vec.0.clone(),
            sender_ptr: rows.sender_ptr.0.clone(),
            transpose: edges.transpose.0.clone(),
        }
    }

    /// Makes room for a quarter more than `n_edges`, where the device holds as many.
    fn make_room(&mut self, n_edges: usize) -> Result<(), LaunchError> {
        let most = self.launch.most_room();
        self.launch.set_capacity(n_edges.max((n_edges + n_edges / 4).min(most)).max(1))
    }

    /// Builds the lists of all systems for the latest positions, and waits for them.
    fn build_all(&mut self) -> Result<(), LaunchError> {
        fill(&self.launch.client, &self.launch.rows.moved.0, self.launch.n_systems, 1);
        self.launch.reset_report();
        self.submit(None);
        self.launch.n_edges = self.launch.finish()?;
        Ok(())
    }

    /// Makes the grids anew for `inputs`, and builds the systems that are marked.
    fn remake(&mut self, inputs: Inputs<T>, moved: &[u32]) -> Result<(), LaunchError> {
        let (client, skin) = (self.launch.client.clone(), ff_spec::Scalar::to_f64(self.skin));
        let mut launch = CubeLaunch::with_skin(&client, &self.device, self.variant, &inputs, &self.config, Some(skin))?;
        launch.set_capacity(self.capacity())?;
        launch.rows.moved = upload(&client, moved);
        launch.reset_report();
        self.inputs = inputs;
        let kept = std::mem::replace(&mut self.launch, launch).renew();
        self.submit(Some(&kept));
        Ok(())
    }

    /// Submits the build of what is marked in `moved`, and notes it.
    fn submit(&self, kept: Option<&Kept>) {
        let launch = &self.launch;
        launch.submit_count(kept);
        launch.submit_write(kept);
        launch.submit_seal();
        let (count, dim) = launch.flat(launch.n_atoms.max(launch.n_systems));
        // SAFETY: buffers have the shapes that the kernel indexes, and units are compared with atoms and systems.
        unsafe {
            kernels::remember::launch_unchecked::<Real, R>(
                &launch.client,
                count,
                dim,
                array(&launch.tensors.positions),
                array(&self.built_at),
                array(&launch.rows.places),
                array(&launch.rows.moved),
                array(&self.rebuilds),
                launch.n_atoms as u32,
                launch.n_systems as u32,
                CubeLaunch::<R, T>::real(),
            );
        }
    }
}
