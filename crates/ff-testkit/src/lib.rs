//! What every kernel is judged by: one tolerance function, one generator per domain object, one catalogue of cases, one
//! gate, and the faults that prove the gate can fail.

mod case;
pub mod catalogue;
pub mod cell_list;
mod degrees;
pub mod faults;
pub mod force_scatter;
pub mod fused_message;
pub mod gate;
mod gated;
pub mod launches;
pub mod played;
pub mod registry;
pub mod sampling;
pub mod scalar;
mod shared;
pub mod small;
pub mod tensors;
#[cfg(test)]
mod testing;
pub mod tolerance;

pub use fused_message::{gradients, mutants};
pub use shared::shared;

/// Random inputs of every op, reproducible from a seed.
pub mod generators {
    pub use crate::cell_list::systems;
    pub use crate::degrees::Degrees;
    pub use crate::fused_message::{CaseSpec, Distances, random_inputs, rounded, sampled, strategies};
}
