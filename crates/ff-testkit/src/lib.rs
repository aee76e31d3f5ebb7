//! What every kernel is judged by: one tolerance function, one generator per domain object, one catalogue of cases, one
//! gate, and the faults that prove the gate can fail.

mod case;
pub mod catalogue;
pub mod cell_list;
pub mod degrees;
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
pub mod tensors;
#[cfg(test)]
mod testing;
pub mod tolerance;
pub mod vector_norm;

pub use shared::shared;
