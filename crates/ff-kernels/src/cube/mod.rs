//! The cube target: CubeCL kernels for CUDA, Vulkan, Metal and WebGPU from one source.

pub mod blueprint;
pub mod buffers;
pub mod cuda;
pub mod maths;
mod runtime;
pub mod spirv;

pub use runtime::{CubeRuntime, abilities};
