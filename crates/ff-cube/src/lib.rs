//! The CubeCL kernels and their launches: one source for CUDA, Vulkan, Metal and WebGPU.
//!
//! Launches are generic over the runtime, so that the devices of `ff-kernels` and the recorder of `ff-record` submit the same
//! kernels with the same parameters.

pub mod buffers;
pub mod cell_list;
mod element;
pub mod force_scatter;
pub mod fused_message;
#[allow(missing_docs, reason = "`#[cube]` expands into items that carry no documentation")]
#[allow(clippy::too_many_arguments, reason = "a radial function has as many arguments as its file declares parameters")]
pub mod generated;
pub mod maths;
pub mod vector_norm;

pub use element::{Element, Real};
