//! The ops on Burn tensors, on every backend: against the oracle, the host kernels, differences and Burn's own operations.
//!
//! A package of its own, at the level of optimisation of ff-yardstick: what both have of Burn's concrete backends, which is most of
//! either, is compiled once.

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
