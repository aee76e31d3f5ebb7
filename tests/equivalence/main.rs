//! Numerical equivalence of the generated kernels to the oracle, on every runtime of this machine.

mod force_scatter;
mod gate;
mod layers;
mod lists;
mod many_atoms;
mod maths;
mod mollifier;
mod mutants;
mod properties;
mod table;
mod vector_norm;
mod yardsticks;
