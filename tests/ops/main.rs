//! The ops on Burn tensors, on every backend: against the oracle, the host kernels, differences and Burn's own operations.
//!
//! A package of its own, optimised little: Burn's concrete backends, which are most of it, take minutes to compile where kernels are
//! optimised, and what is tested is compiled elsewhere.

mod cell_list;
mod force_scatter;
mod fused_message;
mod gradients;
mod invariance;
mod layer;
mod testing;
mod vector_norm;
mod yardstick_gradients;
mod yardstick_on_tensors;
mod yardstick_unfused;
