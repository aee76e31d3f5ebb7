//! The cube kernels of `cell_list`: a pipeline of small kernels on one queue.
//!
//! | stage | kernels | writes |
//! | --- | --- | --- |
//! | sort | `place`, scan, `arrange` | atoms by folded bin (`brute`: by system, as they come) |
//! | count | `walk`, scan, `row_starts` | `row_ptr` and the number of edges |
//! | write | `walk`, `sort_rows` | `sender`, `shift`, `edge_vec` |
//! | transpose | `reverse`; half lists `count_sent`, scan, `scatter_sent`, `sort_sent` | `sender_ptr`, `transpose` |
//!
//! Nothing is read back between them: the last two stages write only if the capacity, in edges, is enough, and the count is
//! compared with it afterwards. Which list and which strategy is what two kernels are compiled for and which of them
//! run; sizes are read at run time, so that no other size compiles anything again.
//!
//! The list is the same bits on every run: rows are sorted whatever order atomics left, and no float is ever summed across
//! units.

mod fold;
mod kernels;
mod launch;
mod scan;
mod skin;

pub use launch::CubeLaunch;
pub use skin::{CubeSkinList, ListBuffers, Repair};

/// Launch parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CubeConfig {
    /// Atoms of one cube.
    pub atoms_per_cube: usize,
    /// Neighbouring units that share the row of one atom.
    pub units_per_atom: usize,
    /// Bins per search radius along a and b.
    pub bins_across: u32,
    /// Bins per search radius along c, the direction in which bins follow each other in memory.
    pub bins_along: u32,
}

impl CubeConfig {
    /// Bins per search radius in each direction.
    fn bins(&self) -> [u32; 3] {
        [self.bins_across, self.bins_across, self.bins_along]
    }
}
