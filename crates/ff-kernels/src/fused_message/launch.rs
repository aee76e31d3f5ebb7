//! Launch parameters: defaults, and those of the host kernels.

use ff_cube::fused_message::shared_memory;
use ff_spec::fused_message::{Inputs, Reduction, Variant};
use ff_spec::{DeviceId, Dtype, LaunchConfig, LaunchError, Problem, RuntimeKind};

use super::host::{Call, HostConfig, MAX_PARAMETERS};
use super::{HostElement, Registered};

/// The host kernel's launch parameters.
///
/// # Errors
/// [`LaunchError::Constraint`] for a missing, zero or unknown parameter.
pub fn host_config(config: &LaunchConfig) -> Result<HostConfig, LaunchError> {
    let names = ["edges_per_task", "edges_per_tile", "channel_block"];
    let [edges_per_task, edges_per_tile, channel_block] = config.exactly(names)?.map(|value| value as usize);
    Ok(HostConfig { edges_per_task, edges_per_tile, channel_block })
}

/// A configuration that every device can launch: what is used where no table entry applies.
pub fn default_config(device: &DeviceId, variant: &Variant, dtype: Dtype, problem: &Problem) -> LaunchConfig {
    if device.runtime == RuntimeKind::Host {
        return LaunchConfig::from([("edges_per_task", 512), ("edges_per_tile", 128), ("channel_block", 32)]);
    }
    let order = match variant.filter {
        ff_spec::fused_message::FilterKind::Tabulated => problem.n_basis as usize / 2,
        _ => 0,
    };
    let mut edges_per_tile = 16;
    while edges_per_tile > 1
        && shared_memory(problem, dtype.size(), 1, edges_per_tile, order) > device.limits.shared_memory as usize
    {
        edges_per_tile /= 2;
    }
    let edges_per_tile = edges_per_tile as u32;
    let unroll = edges_per_tile.min(4);
    let channels = problem.features.next_power_of_two().clamp(32, 128);
    match variant.reduction {
        Reduction::Receiver => {
            // 16 bytes: the widest load of a unit. Twice that fills its registers with filters in f64.
            let widest = 16 / dtype.size() as u32;
            let fits = |v: &u32| *v <= widest && problem.features.is_multiple_of(*v);
            let vector = [4, 2, 1].into_iter().find(fits).unwrap_or(1);
            LaunchConfig::from([
                ("rows_per_cube", 1),
                ("channels_per_cube", channels),
                ("vector_width", vector),
                ("edges_per_tile", edges_per_tile),
                ("unroll", unroll),
            ])
        }
        Reduction::EdgeAtomic => LaunchConfig::from([
            ("tiles_per_cube", 1),
            ("channels_per_cube", channels),
            ("edges_per_tile", edges_per_tile),
            ("unroll", unroll),
        ]),
    }
}

/// As [`default_config`], for the first (1) or the second (2) backward.
pub fn default_backward_config(
    device: &DeviceId,
    variant: &Variant,
    order: u8,
    dtype: Dtype,
    problem: &Problem,
) -> LaunchConfig {
    if device.runtime == RuntimeKind::Host {
        // A tile keeps what its edge vectors are owed by every lane: that of so few edges stays in L1.
        let block = if order == 1 { 32 } else { 16 };
        return LaunchConfig::from([("edges_per_task", 512), ("edges_per_tile", 32), ("channel_block", block)]);
    }
    default_config(device, variant, dtype, problem)
}

/// Borrows checked inputs in the form the host kernels read.
pub fn host_call<'a, T: HostElement>(registered: &Registered, inputs: &'a Inputs<T>) -> Call<'a, T> {
    let pair = registered.pair();
    if let Some(p) = &pair {
        let most = p.basis_parameters.len().max(p.cutoff_parameters.len());
        assert!(
            most <= MAX_PARAMETERS,
            "a radial function has {most} parameters, the host kernel takes {MAX_PARAMETERS}"
        );
    }
    Call {
        features: inputs.features,
        row_ptr: &inputs.row_ptr,
        sender: &inputs.sender,
        edge_vec: &inputs.edge_vec,
        nodes: &inputs.nodes,
        vectors: &inputs.vectors,
        r_cut: inputs.radial.r_cut,
        n_basis: inputs.radial.n_basis,
        basis: pair
            .as_ref()
            .map(|p| p.basis_parameters.iter().map(|(name, _)| inputs.radial.basis[*name].as_slice()).collect())
            .unwrap_or_default(),
        cutoff: pair
            .as_ref()
            .map(|p| p.cutoff_parameters.iter().map(|(name, _)| inputs.radial.cutoff[*name][0]).collect())
            .unwrap_or_default(),
        filter: &inputs.filter,
        packed: None,
        order: None,
    }
}
