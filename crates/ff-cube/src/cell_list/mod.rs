//! The cube kernels of `cell_list`: a pipeline of small kernels on one queue.
//!
//! | stage | kernels | writes |
//! | --- | --- | --- |
//! | sort | `place`, scan, `arrange` | atoms by folded bin (`brute`: by system, as they come) |
//! | count | `walk`, scan, `row_starts` | `row_ptr` and the number of edges |
//! | write | `walk`, `sort_rows` | `sender`, `shift`, `edge_vec` |
//! | transpose | `reverse`; half lists `count_sent`, scan, `scatter_sent`, `sort_sent` | `sender_ptr`, `transpose` |
//!
//! Nothing is read back between them: the last two stages write only if the capacity, in edges, is enough, and the count is
//! compared with it afterwards. Which list and which strategy is what two kernels are compiled for and which of them
//! run; sizes are read at run time, so that no other size compiles anything again.
//!
//! The list is the same bits on every run: rows are sorted whatever order atomics left, and no float is ever summed across
//! units.

mod fold;
mod kernels;
mod launch;
mod scan;
mod skin;

use ff_spec::{LaunchConfig, LaunchError, Limits};

pub use launch::CubeLaunch;
pub use skin::{CubeSkinList, ListBuffers, Repair};

/// Launch parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CubeConfig {
    /// Atoms of one cube.
    pub atoms_per_cube: usize,
    /// Neighbouring units that share the row of one atom.
    pub units_per_atom: usize,
    /// Bins per search radius along a and b.
    pub bins_across: u32,
    /// Bins per search radius along c, the direction in which bins follow each other in memory.
    pub bins_along: u32,
}

impl CubeConfig {
    /// Bins per search radius in each direction.
    fn bins(&self) -> [u32; 3] {
        [self.bins_across, self.bins_across, self.bins_along]
    }
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
        config.exactly(["atoms_per_cube", "units_per_atom", "bins_across", "bins_along"])?;
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
