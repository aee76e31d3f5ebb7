//! The cube pieces of `fused_message`: kernels, and `#[cube]` functions that they compose.
//!
//! Units of a cube are laid out as X = channels of one row, Y = rows (`receiver`) or tiles of edges (`edge_atomic`).
//! The units of one Y load a tile of edges into shared memory, turn distances into filter coefficients together, and
//! then each unit runs over the tile for its own channels, `unroll` edges at a time, with filter and sums in registers.
//!
//! | launch | receiver | edge_atomic |
//! | --- | --- | --- |
//! | cube x | channels_per_cube / vector_width | channels_per_cube |
//! | cube y | rows_per_cube | tiles_per_cube |
//! | count x, z | rows / rows_per_cube | tiles / tiles_per_cube |
//! | count y | F / channels_per_cube | F / channels_per_cube |
//!
//! Message and radial functions are comptime data: one kernel per reduction and one per walk of the backwards serve every
//! variant, and what is emitted for a device holds the code of one.

#![allow(missing_docs, reason = "`#[cube]` expands into items that carry no documentation")]

mod backward;
mod call;
pub(crate) mod config;
mod fill;
mod filter;
mod kernels;
mod launch;
mod parameters;
mod radial;
mod slopes;
mod submit;
pub(crate) mod tile;

pub use backward::{BackwardOutputs, BackwardTensors, CubeBackward, CubeBackwardInputs, reads_list_by_sender};
pub use config::{BackwardConfig, CubeConfig};
pub use launch::CubeLaunch;
pub use parameters::{cube_config, radial_parameters, shared_memory};

// Every kernel names its element type and vector width by these two, so that the pieces are compiled once for all of
// them and not once per kernel.
cubecl::define_scalar!(pub Real);
cubecl::define_size!(pub Lanes);
