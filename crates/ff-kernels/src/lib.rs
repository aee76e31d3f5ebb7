//! The ops as they are registered: their variants, launch parameters and defaults, and the runtimes that launch them.
//!
//! The kernels are in `ff-host` (SIMD by run-time dispatch, threads by rayon) and `ff-cube` (CubeCL). Both are seen from
//! outside through [`ff_spec::Runtime`] and [`ff_spec::Launch`] alone.

pub mod cell_list;
pub mod force_scatter;
pub mod fused_message;
pub mod generated;
mod runtime;
pub mod vector_norm;

pub use ff_spec::SenderList;
pub use runtime::{OpenError, available, compiled, open};

/// What every host kernel is made of, and the runtime that launches them.
pub mod host {
    pub use ff_host::{Aligned, Element, Lane, MAX_LANES, layers, maths, peak};

    pub use crate::runtime::HostRuntime;
}

/// What every cube kernel is made of, and the runtimes that launch them.
pub mod cube {
    pub use ff_cube::{Element, buffers, maths};

    pub use crate::runtime::{CubeRuntime, abilities};
}
