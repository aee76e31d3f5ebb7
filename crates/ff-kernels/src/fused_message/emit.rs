//! A variant compiled for a device that need not be there.

use ff_spec::fused_message::{Activation, Filter, FilterKind, Inputs, Radial, Variant};
use ff_spec::{Dtype, LaunchConfig, LaunchError, Problem};

use super::cube::CubeConfig;
use super::{Registered, cube_config};
use crate::cube::blueprint::{Blueprint, Described};

/// Inputs of these sizes without tensors: what configurations are judged by.
fn sizes(variant: &Variant, problem: &Problem) -> Inputs<f32> {
    let (n_basis, hidden) = (problem.n_basis as usize, problem.hidden as usize);
    let none = Vec::new;
    let filter = match variant.filter {
        FilterKind::Linear => Filter::Linear { a: none(), b: none() },
        FilterKind::Mlp => {
            let activation = Activation::ShiftedSoftplus;
            Filter::Mlp { hidden, a1: none(), b1: none(), a2: none(), b2: none(), activation }
        }
        FilterKind::Tabulated => Filter::Tabulated { order: n_basis / 2, n_nodes: 2, values: none() },
    };
    Inputs {
        message: variant.message,
        n_atoms: problem.n_atoms as usize,
        features: problem.features as usize,
        row_ptr: Vec::new(),
        sender: Vec::new(),
        edge_vec: none(),
        nodes: none(),
        vectors: none(),
        radial: Radial {
            r_cut: 1.0,
            n_basis: if variant.filter == FilterKind::Tabulated { 0 } else { n_basis },
            ..Radial::default()
        },
        filter,
    }
}

impl<'a> Blueprint<'a> {
    /// What `registered` becomes at these sizes: the checks of a launch without its tensors.
    ///
    /// # Errors
    /// [`LaunchError::Constraint`].
    pub fn new(
        registered: &Registered,
        device: &'a Described,
        dtype: Dtype,
        problem: &Problem,
        config: &LaunchConfig,
    ) -> Result<Self, LaunchError> {
        let variant = registered.variant();
        let inputs = sizes(&variant, problem);
        let (config, vector): (CubeConfig, usize) =
            cube_config(&variant, dtype, &inputs, problem, &device.device.limits, config)?;
        Ok(Self { device, config, vector, dtype })
    }
}
