//! The host target: plain Rust, SIMD chosen at run time, threads by rayon.

mod lane;
pub mod maths;
pub mod peak;
mod runtime;

pub(crate) use lane::unroll;
pub use lane::{Element, Lane, MAX_LANES, Terms};
pub use runtime::HostRuntime;
