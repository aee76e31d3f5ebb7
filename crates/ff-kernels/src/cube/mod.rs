//! The cube target: CubeCL kernels for CUDA, Vulkan, Metal and WebGPU from one source.

pub mod buffers;
mod cuda;
pub mod maths;
pub mod recorder;
mod runtime;
mod spirv;

pub use runtime::{CubeRuntime, abilities};
