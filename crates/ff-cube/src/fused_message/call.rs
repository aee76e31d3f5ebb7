//! What launches of every order share: a call's tensors on a device and as arguments of kernels.

use cubecl::prelude::*;
use ff_spec::fused_message::{Filter, Inputs, Variant};
use ff_spec::{DeviceId, LaunchError};

use super::kernels::parts::zero;
use super::parameters::radial_parameters;
use super::tile::InputsLaunch;
use super::{Lanes, Real};
use crate::Element;
use crate::buffers::{Buffer, cubes, fault, upload};

/// Units of a cube that clears.
pub(super) const UNITS: usize = 256;

/// Tensors in the order of [`super::tile::Inputs`], the vector width, and atoms, vectors of features
/// and segments of the table as the kernels' arguments.
pub(super) fn arguments<R: Runtime>(
    tensors: [&Buffer; 10],
    vector: usize,
    (n_atoms, features, segments): (u32, u32, u32),
) -> InputsLaunch<Real, Lanes, R> {
    let [row_ptr, sender, edge_vec, nodes, vectors, weights, bias, hidden_weights, hidden_bias, radial] = tensors;
    InputsLaunch::new(
        array(row_ptr, 1),
        array(sender, 1),
        array(edge_vec, 1),
        array(nodes, vector),
        array(vectors, vector),
        array(weights, vector),
        array(bias, vector),
        array(hidden_weights, 1),
        array(hidden_bias, 1),
        array(radial, 1),
        n_atoms,
        features,
        segments,
    )
}

/// A filter's tensors as the kernels read them: `A`, `A2` or the table, `b` or `b2`, `A1` and `b1`; empty for what it lacks.
pub(super) fn filter_tensors<T>(filter: &Filter<T>) -> [&[T]; 4] {
    match filter {
        Filter::Linear { a, b } => [a, b, &[], &[]],
        Filter::Mlp { a1, b1, a2, b2, .. } => [a2, b2, a1, b1],
        Filter::Tabulated { values, .. } => [values, &[], &[], &[]],
    }
}

/// Uploads a call's tensors, in the order of [`super::tile::Inputs`].
pub(super) fn upload_inputs<R: Runtime, T: Element>(
    client: &ComputeClient<R>,
    variant: &Variant,
    inputs: &Inputs<T>,
) -> [Buffer; 10] {
    let floats = |values: &[T]| upload(client, values);
    let [weights, bias, hidden_weights, hidden_bias] = filter_tensors(&inputs.filter).map(floats);
    [
        upload(client, &inputs.row_ptr),
        upload(client, &inputs.sender),
        floats(&inputs.edge_vec),
        floats(&inputs.nodes),
        floats(&inputs.vectors),
        weights,
        bias,
        hidden_weights,
        hidden_bias,
        floats(&radial_parameters(variant, &inputs.radial)),
    ]
}

/// The turns after which Mesa (22.3) ends every loop of a unit on a software adapter, counted over all of its loops; it does
/// so without a word.
const TURNS_IN_SOFTWARE: usize = 65_535;

/// The most tiles that a unit of a software adapter can walk, where `turns` of a number of tiles are those of its loops.
pub(super) fn most_tiles_in_software(turns: impl Fn(usize) -> usize) -> usize {
    TURNS_IN_SOFTWARE.saturating_sub(turns(0)) / (turns(1) - turns(0)).max(1)
}

/// Refuses a list with a row that a unit of a software adapter could not walk to its end; of such an adapter alone, `rows`
/// [n_atoms + 1] is read back for it.
pub(super) fn check_rows<R: Runtime>(
    client: &ComputeClient<R>,
    device: &DeviceId,
    (what, rows, n_atoms): (&str, &Buffer, usize),
    edges_per_tile: usize,
    turns: impl Fn(usize) -> usize,
) -> Result<(), LaunchError> {
    if !device.software {
        return Ok(());
    }
    let most = most_tiles_in_software(turns) * edges_per_tile;
    let bytes = client.read_one(rows.0.clone()).map_err(fault)?;
    let ends = &u32::from_bytes(&bytes)[..=n_atoms];
    match ends.windows(2).map(|row| (row[1] - row[0]) as usize).max() {
        Some(longest) if longest > most => Err(LaunchError::Constraint(format!(
            "a {what} of {longest} edges, of which {} walks {most} in this configuration: software ends a unit's loops after \
             {TURNS_IN_SOFTWARE} turns",
            device.name
        ))),
        _ => Ok(()),
    }
}

/// A buffer as an array of vectors.
pub(super) fn array<R: Runtime>((handle, len): &Buffer, vector: usize) -> ArrayArg<R> {
    // SAFETY: the handle was created with `len` elements, of which whole vectors are claimed.
    unsafe { ArrayArg::from_raw_parts(handle.clone(), (len / vector).max(1)) }
}

/// Zeroes a buffer.
pub(super) fn clear<R: Runtime, T: Element>(client: &ComputeClient<R>, buffer: &Buffer) {
    // SAFETY: every index is checked against the length in the kernel.
    unsafe {
        zero::launch_unchecked::<T, R>(
            client,
            cubes(client, buffer.1, UNITS),
            CubeDim::new_1d(UNITS as u32),
            array(buffer, 1),
        );
    }
}
