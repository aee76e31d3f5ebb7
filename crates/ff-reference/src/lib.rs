//! The f64 oracle: every op as scalar Rust, written from its definition and sharing no code with the kernels or with
//! the generator that renders them.
//!
//! Radial functions come from the same formulas as the kernels, but are evaluated by automatic differentiation
//! ([`Jet`]) over an independent parser, so a fault in the symbolic differentiator cannot hide here.

pub mod cell_list;
pub mod force_scatter;
pub mod fused_message;
mod generated;
mod jet;
mod oracle;
pub mod radial;
#[cfg(test)]
mod testing;
pub mod vector_norm;

pub use jet::Jet;
pub use oracle::Oracle;
