//! The cube kernels of `force_scatter`: small kernels on one queue, the same for every size.
//!
//! | kernel | a unit's share | orders | writes |
//! | --- | --- | --- | --- |
//! | `gather_forces` | one atom: its row and its column of the list | 0, 2 | `forces` |
//! | `scatter_forces` | one edge | 0, 2 | `forces`, atomically |
//! | `strain_parts`, `sum_parts` | edges of a part of a system; one element of a system | 0, 2 | `strain` |
//! | `add_strain_parts` | edges of a part of a system | 0, 2 | `strain`, atomically |
//! | `spread` | one edge | 1, 2 | gradients in edge vectors and edge gradients |
//!
//! A part is one cube. How many parts each system has follows from the sizes of the call and the configuration, so `gather`
//! gives the same bits on every run.

mod kernels;
mod launch;

use ff_spec::{Dtype, LaunchConfig, LaunchError, Limits};

pub use launch::{CubeLaunch, Sizes};

/// Launch parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CubeConfig {
    /// Units of one cube: a power of two.
    pub units_per_cube: usize,
}

/// Reads a cube configuration.
///
/// # Errors
/// [`LaunchError::Constraint`] for a parameter that is missing, unknown or 0, and for units that are no power of two, fewer
/// than 16, more than a cube of the device has, whose sums are more than its shared memory holds, or that leave one of its
/// planes in part idle (Mesa's software Vulkan, 22.3, computes nonsense in such a plane).
pub fn cube_config(limits: &Limits, dtype: Dtype, config: &LaunchConfig) -> Result<CubeConfig, LaunchError> {
    // The nine elements of a strain have a unit each.
    const LEAST: u32 = 16;
    let [units] = config.exactly(["units_per_cube"])?;
    let whole_planes = units.is_multiple_of(limits.plane_size.max(1));
    if !units.is_power_of_two() || !(LEAST..=limits.max_units_per_cube).contains(&units) || !whole_planes {
        return Err(LaunchError::Constraint(format!(
            "{units} units per cube, expected a power of two from {LEAST} to {} in whole planes of {}",
            limits.max_units_per_cube, limits.plane_size
        )));
    }
    let shared = kernels::SYMMETRIC * units as usize * dtype.size();
    if shared > limits.shared_memory as usize {
        return Err(LaunchError::Constraint(format!(
            "{shared} bytes of shared memory per cube, the device has {}",
            limits.shared_memory
        )));
    }
    Ok(CubeConfig { units_per_cube: units as usize })
}
