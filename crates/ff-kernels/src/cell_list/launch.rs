//! Launch configurations, and launches on the host.

use std::time::{Duration, Instant};

use ff_spec::cell_list::{Inputs, NeighborList, Variant};
use ff_spec::{CellList, DeviceId, Dtype, LaunchConfig, LaunchError, Problem, RuntimeKind, digest};

use super::HostElement;
use super::host::{HostConfig, build};

/// The configuration that is used where no table entry applies.
pub fn default_config(device: &DeviceId, _: &Variant, _: Dtype, _: &Problem) -> LaunchConfig {
    match device.runtime {
        RuntimeKind::Host => {
            let HostConfig { rows_per_task, bins_across, bins_along } = HostConfig::default();
            let rows_per_task = rows_per_task as u32;
            [("rows_per_task", rows_per_task), ("bins_across", bins_across), ("bins_along", bins_along)].into()
        }
        _ => {
            // Whole planes on every device: powers of two, like their sizes.
            let units = device.limits.max_units_per_cube.min(128);
            LaunchConfig::from([
                ("atoms_per_cube", (units / 4).max(1)),
                ("units_per_atom", units.min(4)),
                ("bins_across", 1),
                ("bins_along", 2),
            ])
        }
    }
}

/// Reads a host configuration.
///
/// # Errors
/// [`LaunchError::Constraint`] for a parameter that is missing, unknown or 0.
pub fn host_config(config: &LaunchConfig) -> Result<HostConfig, LaunchError> {
    let [rows_per_task, bins_across, bins_along] = config.exactly(["rows_per_task", "bins_across", "bins_along"])?;
    Ok(HostConfig { rows_per_task: rows_per_task as usize, bins_across, bins_along })
}

/// A host kernel with its tensors.
pub struct HostLaunch<T: HostElement> {
    variant: Variant,
    config: HostConfig,
    inputs: Inputs<T>,
    list: NeighborList<T>,
}

impl<T: HostElement> HostLaunch<T> {
    /// Takes the tensors over after checking them.
    ///
    /// # Errors
    /// [`LaunchError::Input`] and [`LaunchError::Constraint`].
    pub fn new(variant: Variant, inputs: Inputs<T>, config: &LaunchConfig) -> Result<Self, LaunchError> {
        let config = host_config(config)?;
        inputs.check()?;
        Ok(Self { variant, config, inputs, list: NeighborList::default() })
    }
}

impl<T: HostElement> ff_spec::Launch<CellList> for HostLaunch<T> {
    fn poison(&mut self) -> Result<(), LaunchError> {
        let NeighborList { row_ptr, sender, shift, edge_vec, sender_ptr, transpose } = &mut self.list;
        for indices in [row_ptr, sender, sender_ptr, transpose] {
            indices.fill(u32::MAX);
        }
        shift.fill([i32::MAX; 3]);
        edge_vec.fill([T::from_f64(f64::NAN); 3]);
        Ok(())
    }

    fn run(&mut self) -> Result<(), LaunchError> {
        Ok(build(&self.inputs, self.variant.list, self.variant.strategy, &self.config, &mut self.list)?)
    }

    fn time(&mut self) -> Result<Duration, LaunchError> {
        let start = Instant::now();
        self.run()?;
        Ok(start.elapsed())
    }

    fn outputs(&mut self) -> Result<NeighborList<f64>, LaunchError> {
        let NeighborList { row_ptr, sender, shift, edge_vec, sender_ptr, transpose } = self.list.clone();
        let edge_vec = edge_vec.iter().map(|vec| vec.map(T::to_f64)).collect();
        Ok(NeighborList { row_ptr, sender, shift, edge_vec, sender_ptr, transpose })
    }

    fn input_digest(&mut self) -> Result<u64, LaunchError> {
        let Inputs { positions, system_ptr, cell, pbc, cutoff } = &self.inputs;
        let pbc: Vec<u8> = pbc.as_flattened().iter().map(|periodic| u8::from(*periodic)).collect();
        Ok(digest(&[
            bytemuck::cast_slice(positions),
            bytemuck::cast_slice(system_ptr),
            bytemuck::cast_slice(cell),
            &pbc,
            bytemuck::bytes_of(cutoff),
        ]))
    }
}
