//! Launch parameters as the kernels are compiled with them.

use ff_spec::fused_message::{Activation, FilterSizes, Radial, Reduction, Sizes, Variant};
use ff_spec::{Dtype, LaunchConfig, LaunchError, Limits, Problem, Scalar};

use super::config::CubeConfig;
use crate::generated::{Basis, Cutoff};

/// The cube kernel's compile-time parameters and its vector width.
///
/// # Errors
/// [`LaunchError::Constraint`] for a missing, zero or unknown parameter and for anything the device cannot hold.
pub fn cube_config(
    variant: &Variant,
    dtype: Dtype,
    sizes: &Sizes,
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
    if !channels.is_multiple_of(vector) || !sizes.features.is_multiple_of(vector) {
        return refuse(format!(
            "vector_width = {vector} divides neither channels_per_cube = {channels} nor F = {}",
            sizes.features
        ));
    }
    if !edges_per_tile.is_multiple_of(unroll) {
        return refuse(format!("unroll = {unroll} does not divide edges_per_tile = {edges_per_tile}"));
    }
    let units = channels / vector;
    if units * groups > limits.max_units_per_cube as usize {
        return refuse(format!("{} units per cube, the device has {}", units * groups, limits.max_units_per_cube));
    }
    // Filters without a hidden layer read no activation: one and the same, so that no kernel is compiled twice.
    let (hidden, order, activation) = match sizes.filter {
        FilterSizes::Linear => (0, 0, Activation::ShiftedSoftplus),
        FilterSizes::Mlp { hidden, activation } => (hidden, 0, activation),
        FilterSizes::Tabulated { order, .. } => (0, order, Activation::ShiftedSoftplus),
    };
    let shared = shared_memory(&sizes.problem(""), dtype.size(), groups, edges_per_tile, order);
    if shared > limits.shared_memory as usize {
        return refuse(format!("{shared} bytes of shared memory per cube, the device has {}", limits.shared_memory));
    }
    let n_basis = sizes.n_basis;
    let depth = match sizes.filter {
        FilterSizes::Linear => n_basis,
        FilterSizes::Mlp { .. } => hidden,
        FilterSizes::Tabulated { .. } => 2 * order,
    };
    let (parts, radial) = (variant.message.parts(), radial_functions(variant)?);
    let config =
        CubeConfig { units, groups, edges_per_tile, unroll, n_basis, hidden, order, depth, activation, parts, radial };
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

/// Checked radial parameters of a variant as the kernels read them, the tensor `radial` of their inputs: r_c, the cutoff's
/// parameters, then each of the basis' parameters: one value per k, so that kernels read them all alike.
///
/// # Panics
/// For radial functions that were not rendered and parameters that were not checked.
pub fn radial_parameters<T: Scalar>(variant: &Variant, given: &Radial<T>) -> Vec<T> {
    let mut radial = vec![given.r_cut];
    let functions = radial_functions(variant).expect("the parameters were checked for rendered functions");
    if let Some((basis, cutoff)) = functions {
        radial.extend(cutoff.parameters().iter().map(|name| given.cutoff[*name][0]));
        for values in basis.parameters().iter().map(|name| &given.basis[*name]) {
            radial.extend((0..given.n_basis).map(|k| values[if values.len() == 1 { 0 } else { k }]));
        }
    }
    radial
}

/// Bytes of shared memory of one cube.
pub fn shared_memory(problem: &Problem, element: usize, groups: usize, edges_per_tile: usize, order: usize) -> usize {
    let floats = 5 + (problem.n_basis as usize).max(2 * order) + problem.hidden as usize;
    groups * edges_per_tile * (floats * element + 3 * 4)
}
