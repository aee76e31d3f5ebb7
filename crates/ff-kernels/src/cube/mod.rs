//! The cube target: CubeCL kernels for CUDA, Vulkan, Metal and WebGPU from one source.

pub mod maths;
mod runtime;

pub use runtime::CubeRuntime;
