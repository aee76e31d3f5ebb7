//! The cube kernels of `force_scatter`: small kernels on one queue, the same for every size.
//!
//! | kernel | a unit's share | orders | writes |
//! | --- | --- | --- | --- |
//! | `gather_forces` | one atom: its row and its column of the list | 0, 2 | `forces` |
//! | `scatter_forces` | one edge | 0, 2 | `forces`, atomically |
//! | `strain_parts`, `sum_parts` | edges of a part of a system; one element of a system | 0, 2 | `strain` |
//! | `add_strain_parts` | edges of a part of a system | 0, 2 | `strain`, atomically |
//! | `spread` | one edge | 1, 2 | gradients in edge vectors and edge gradients |
//!
//! A part is one cube. How many parts each system has follows from the sizes of the call and the configuration, so `gather`
//! gives the same bits on every run.

mod kernels;
mod launch;

pub use launch::{CubeLaunch, Sizes};

/// Launch parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CubeConfig {
    /// Units of one cube: a power of two.
    pub units_per_cube: usize,
}
