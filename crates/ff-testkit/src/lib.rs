//! What every kernel is judged by: one tolerance function, one generator per domain object, one catalogue of cases, one
//! gate, and the faults that prove the gate can fail.

pub mod catalogue;
pub mod cell_list;
pub mod force_scatter;
pub mod gate;
pub mod generators;
pub mod gradients;
pub mod mutants;
pub mod played;
pub mod registry;
pub mod sampling;
pub mod tensors;
#[cfg(test)]
mod testing;
pub mod tolerance;
