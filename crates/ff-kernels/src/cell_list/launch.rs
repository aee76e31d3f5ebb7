//! Launch configurations, and launches on the host.

use std::time::{Duration, Instant};

use ff_spec::cell_list::{Inputs, NeighborList, Variant};
use ff_spec::{CellList, DeviceId, Dtype, LaunchConfig, LaunchError, Problem, RuntimeKind};

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
        _ => LaunchConfig::default(),
    }
}

/// Reads a host configuration.
///
/// # Errors
/// [`LaunchError::Constraint`] for a parameter that is missing, unknown or 0.
pub fn host_config(config: &LaunchConfig) -> Result<HostConfig, LaunchError> {
    const NAMES: [&str; 3] = ["rows_per_task", "bins_across", "bins_along"];
    let refuse = |text: String| LaunchError::Constraint(text);
    if let Some(name) = config.0.keys().find(|name| !NAMES.contains(&name.as_str())) {
        return Err(refuse(format!("unknown parameter `{name}`, expected {}", NAMES.join(", "))));
    }
    let value = |name: &str| match config.get(name) {
        Some(0) => Err(refuse(format!("`{name}` is 0, expected at least 1"))),
        Some(value) => Ok(value),
        None => Err(refuse(format!("`{name}` is not set, expected {}", NAMES.join(", ")))),
    };
    Ok(HostConfig {
        rows_per_task: value("rows_per_task")? as usize,
        bins_across: value("bins_across")?,
        bins_along: value("bins_along")?,
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
