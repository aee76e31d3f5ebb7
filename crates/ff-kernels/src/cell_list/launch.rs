//! Launch configurations, and launches on the host.

use std::time::{Duration, Instant};

use ff_spec::cell_list::{Inputs, NeighborList, Variant};
use ff_spec::{CellList, DeviceId, Dtype, LaunchConfig, LaunchError, Limits, Problem, RuntimeKind};

use super::cube::CubeConfig;
use super::host::HostConfig;
use super::{HostElement, Registered};
use crate::digest::digest;

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

/// The values of all parameters of a kernel, in the order of their names.
fn values<const N: usize>(config: &LaunchConfig, names: [&str; N]) -> Result<[u32; N], LaunchError> {
    let refuse = |text: String| LaunchError::Constraint(text);
    if let Some(name) = config.0.keys().find(|name| !names.contains(&name.as_str())) {
        return Err(refuse(format!("unknown parameter `{name}`, expected {}", names.join(", "))));
    }
    let mut values = [0; N];
    for (value, name) in values.iter_mut().zip(names) {
        *value = match config.get(name) {
            Some(0) => return Err(refuse(format!("`{name}` is 0, expected at least 1"))),
            Some(value) => value,
            None => return Err(refuse(format!("`{name}` is not set, expected {}", names.join(", ")))),
        };
    }
    Ok(values)
}

/// Reads a host configuration.
///
/// # Errors
/// [`LaunchError::Constraint`] for a parameter that is missing, unknown or 0.
pub fn host_config(config: &LaunchConfig) -> Result<HostConfig, LaunchError> {
    let [rows_per_task, bins_across, bins_along] = values(config, ["rows_per_task", "bins_across", "bins_along"])?;
    Ok(HostConfig { rows_per_task: rows_per_task as usize, bins_across, bins_along })
}

/// Reads a cube configuration.
///
/// # Errors
/// [`LaunchError::Constraint`] for a parameter that is missing, unknown or 0, units that are more
/// than a cube of the device has or leave one of its planes in part idle (Mesa's software Vulkan, 22.3, computes nonsense in
/// such a plane), and more bins per search radius than pay: the memory of a system grows with their cube.
pub fn cube_config(limits: &Limits, config: &LaunchConfig) -> Result<CubeConfig, LaunchError> {
    const MOST_BINS: u32 = 8;
    let [atoms_per_cube, units_per_atom, bins_across, bins_along] =
        values(config, ["atoms_per_cube", "units_per_atom", "bins_across", "bins_along"])?;
    let units = u64::from(atoms_per_cube) * u64::from(units_per_atom);
    if units > u64::from(limits.max_units_per_cube) {
        return Err(LaunchError::Constraint(format!(
            "{units} units per cube, the device has {}",
            limits.max_units_per_cube
        )));
    }
    if !units.is_multiple_of(u64::from(limits.plane_size.max(1))) {
        return Err(LaunchError::Constraint(format!(
            "{units} units per cube are not in whole planes, the device's have {}",
            limits.plane_size
        )));
    }
    if bins_across.max(bins_along) > MOST_BINS {
        return Err(LaunchError::Constraint(format!("more than {MOST_BINS} bins per search radius, found `{config}`")));
    }
    Ok(CubeConfig {
        atoms_per_cube: atoms_per_cube as usize,
        units_per_atom: units_per_atom as usize,
        bins_across,
        bins_along,
    })
}

/// A host kernel with its tensors.
pub struct HostLaunch<T: HostElement> {
    registered: &'static Registered,
    config: HostConfig,
    inputs: Inputs<T>,
    list: NeighborList<T>,
}

impl<T: HostElement> HostLaunch<T> {
    /// Takes the tensors over after checking them.
    ///
    /// # Errors
    /// [`LaunchError::CellList`] and [`LaunchError::Constraint`].
    pub fn new(registered: &'static Registered, inputs: Inputs<T>, config: &LaunchConfig) -> Result<Self, LaunchError> {
        let config = host_config(config)?;
        inputs.check()?;
        Ok(Self { registered, config, inputs, list: NeighborList::default() })
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
        Ok(T::entry(self.registered)(&self.inputs, &self.config, &mut self.list)?)
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
