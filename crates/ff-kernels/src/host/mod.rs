//! The host target: plain Rust, SIMD chosen at run time, threads by rayon.

mod aligned;
mod lane;
pub mod maths;
pub mod peak;
mod runtime;

pub use aligned::Aligned;
pub(crate) use lane::unroll;
pub use lane::{Element, Lane, MAX_LANES, Terms, has_many_registers};
pub use runtime::HostRuntime;
