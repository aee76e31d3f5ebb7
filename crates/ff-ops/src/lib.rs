//! The fused kernels as operations on Burn tensors.
//!
//! One module per op: its user function on `Tensor<B, D>`, the backend trait that carries it, and an implementation of
//! the trait per kind of backend. Nothing here tunes: launch configurations come from `ff-tables`.

mod call;
pub mod cell_list;
mod dtype;
mod flex;
pub mod force_scatter;
pub mod fused_message;
#[cfg(feature = "fusion")]
mod fusion;
mod graph;
mod nodes;
pub mod vector_norm;

pub use dtype::{burn_dtype, spec_dtype};
