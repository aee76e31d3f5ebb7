//! Launch parameters as the kernels are compiled with them.

use ff_spec::fused_message::{Activation, Filter, Inputs, Radial, Reduction, Variant};
use ff_spec::{Dtype, LaunchConfig, LaunchError, Limits, Problem, Scalar};

use super::config::CubeConfig;
use crate::generated::{Basis, Cutoff};

/// The cube kernel's compile-time parameters and its vector width.
///
/// # Errors
/// [`LaunchError::Constraint`] for a missing, zero or unknown parameter and for anything the device cannot hold.
pub fn cube_config<T>(
    variant: &Variant,
    dtype: Dtype,
    inputs: &Inputs<T>,
    problem: &Problem,
    limits: &Limits,
    config: &LaunchConfig,
) -> Result<(CubeConfig, usize), LaunchError> {
    let [groups, channels, vector, edges_per_tile, unroll] = match variant.reduction {
        Reduction::Receiver => {
            config.exactly(["rows_per_cube", "channels_per_cube", "vector_width", "edges_per_tile", "unroll"])?
        }
        Reduction::EdgeAtomic => {
            let [groups, channels, edges_per_tile, unroll] =
                config.exactly(["tiles_per_cube", "channels_per_cube", "edges_per_tile", "unroll"])?;
            [groups, channels, 1, edges_per_tile, unroll]
        }
    }
    .map(|value| value as usize);
    let refuse = |text: String| Err(LaunchError::Constraint(text));
    if !channels.is_multiple_of(vector) || !inputs.features.is_multiple_of(vector) {
        return refuse(format!(
            "vector_width = {vector} divides neither channels_per_cube = {channels} nor F = {}",
            inputs.features
        ));
    }
    if !edges_per_tile.is_multiple_of(unroll) {
        return refuse(format!("unroll = {unroll} does not divide edges_per_tile = {edges_per_tile}"));
    }
    let units = channels / vector;
    if units * groups > limits.max_units_per_cube as usize {
        return refuse(format!("{} units per cube, the device has {}", units * groups, limits.max_units_per_cube));
    }
    let (hidden, order, tanh) = match &inputs.filter {
        Filter::Linear { .. } => (0, 0, false),
        Filter::Mlp { hidden, activation, .. } => (*hidden, 0, *activation == Activation::Tanh),
        Filter::Tabulated { order, .. } => (0, *order, false),
    };
    let shared = shared_memory(problem, dtype.size(), groups, edges_per_tile, order);
    if shared > limits.shared_memory as usize {
        return refuse(format!("{shared} bytes of shared memory per cube, the device has {}", limits.shared_memory));
    }
    let depth = match &inputs.filter {
        Filter::Linear { .. } => inputs.radial.n_basis,
        Filter::Mlp { .. } => hidden,
        Filter::Tabulated { .. } => 2 * order,
    };
    let n_basis = inputs.radial.n_basis;
    let (parts, radial) = (variant.message.parts(), radial_functions(variant)?);
    let config =
        CubeConfig { units, groups, edges_per_tile, unroll, n_basis, hidden, order, depth, tanh, parts, radial };
    Ok((config, vector))
}

/// The radial functions of a variant; `None` where they are in a table.
fn radial_functions(variant: &Variant) -> Result<Option<(Basis, Cutoff)>, LaunchError> {
    let Some((basis, cutoff)) = &variant.radial else { return Ok(None) };
    match (Basis::find(basis), Cutoff::find(cutoff)) {
        (Some(basis), Some(cutoff)) => Ok(Some((basis, cutoff))),
        _ => Err(LaunchError::UnknownVariant(variant.id())),
    }
}

/// r_c, the cutoff's parameters, then each of the basis' parameters: one value per k, so that kernels read them all alike.
/// Names and lengths have been checked.
pub(super) fn radial_parameters<T: Scalar>(config: &CubeConfig, given: &Radial<T>) -> Vec<T> {
    let mut radial = vec![given.r_cut];
    if let Some((basis, cutoff)) = config.radial {
        radial.extend(cutoff.parameters().iter().map(|name| given.cutoff[*name][0]));
        for values in basis.parameters().iter().map(|name| &given.basis[*name]) {
            radial.extend((0..config.n_basis).map(|k| values[if values.len() == 1 { 0 } else { k }]));
        }
    }
    radial
}

/// Bytes of shared memory of one cube.
pub fn shared_memory(problem: &Problem, element: usize, groups: usize, edges_per_tile: usize, order: usize) -> usize {
    let floats = 5 + (problem.n_basis as usize).max(2 * order) + problem.hidden as usize;
    groups * edges_per_tile * (floats * element + 3 * 4)
}
