//! The host target: plain Rust, SIMD chosen at run time, threads by rayon.

mod lane;
pub mod maths;
mod runtime;

pub use lane::{Element, Lane, Terms};
pub use runtime::HostRuntime;
