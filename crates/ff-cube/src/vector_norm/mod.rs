//! The cube kernels of `vector_norm`: one for each order, without shared memory, reductions and atomics.
//!
//! | kernel | order | a unit's share | writes |
//! | --- | --- | --- | --- |
//! | `norms` | 0 | `vector_width` channels of one atom | `norm` |
//! | `first_gradients` | 1 | the same | the gradient in the vectors |
//! | `second_gradients` | 2 | the same | the gradients in g and in the vectors |
//!
//! Neighbouring units own neighbouring channels, so what the units of a plane read of an axis is contiguous.

mod kernels;
mod launch;

use ff_spec::{LaunchConfig, LaunchError, Limits};

pub use launch::{CubeLaunch, Sizes};

/// Launch parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CubeConfig {
    /// Units of one cube.
    pub units_per_cube: usize,
    /// Neighbouring channels that one unit loads at once and computes.
    pub vector_width: usize,
}

/// Vectors that every API loads at once.
const WIDTHS: [u32; 3] = [1, 2, 4];

/// Reads a cube configuration for rows of `features` channels.
///
/// # Errors
/// [`LaunchError::Constraint`] for a parameter that is missing, unknown or 0, for units that are more than a cube of the device has
/// or no whole planes of it, and for vectors that no API loads or that a row is not a multiple of.
pub fn cube_config(limits: &Limits, features: usize, config: &LaunchConfig) -> Result<CubeConfig, LaunchError> {
    let [units, width] = config.exactly(["units_per_cube", "vector_width"])?;
    let Limits { max_units_per_cube, plane_size, .. } = *limits;
    if units > max_units_per_cube || !units.is_multiple_of(plane_size.max(1)) {
        return Err(LaunchError::Constraint(format!(
            "{units} units per cube, expected at most {max_units_per_cube} in whole planes of {plane_size}"
        )));
    }
    if !WIDTHS.contains(&width) || !features.is_multiple_of(width as usize) {
        return Err(LaunchError::Constraint(format!(
            "vector_width = {width}, expected 1, 2 or 4, of which F = {features} is a multiple"
        )));
    }
    Ok(CubeConfig { units_per_cube: units as usize, vector_width: width as usize })
}
