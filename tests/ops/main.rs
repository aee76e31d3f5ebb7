//! The ops on Burn tensors, on every backend: against the oracle, the host kernels, differences and Burn's own operations.
//!
//! They are here and not beside the ops because they compile Burn's concrete backends, which takes minutes where kernels are
//! optimised.

mod cell_list;
mod force_scatter;
mod fused_message;
mod gradients;
mod invariance;
mod layer;
mod testing;
mod yardstick_gradients;
mod yardstick_on_tensors;
mod yardstick_unfused;
