//! The host kernels: plain Rust, SIMD chosen at run time, threads by rayon.
//!
//! Every kernel is compiled here, for each element type and SIMD level, and reached through function pointers, so that what
//! depends on this crate compiles none of them again.

// Bodies beyond the bound of an unrolled loop index out of bounds, and are never compiled.
#![allow(unconditional_panic)]

#[macro_use]
mod unroll;

mod aligned;
pub mod cell_list;
pub mod force_scatter;
pub mod fused_message;
#[allow(clippy::too_many_arguments, reason = "a radial function has as many arguments as its file declares parameters")]
pub mod generated;
mod lane;
pub mod layers;
pub mod maths;
pub mod peak;
mod pool;
pub mod vector_norm;

pub use aligned::Aligned;
pub use lane::{Element, Lane, MAX_LANES, Terms, has_many_registers};
