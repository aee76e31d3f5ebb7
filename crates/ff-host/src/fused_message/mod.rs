//! The host kernels of `fused_message`: hand-written stages that a variant composes.
//!
//! A task walks its edges in tiles. Per tile: distances and directions (edges in the skin are dropped here), then the
//! coefficients of the filter (basis values, hidden layer or Hermite weights). Then, for each few registers of channels,
//! one pass over the edges computes the filter of a group of edges in registers, gathers the senders' features, and
//! sums the messages of a receiver in registers.

mod backward;
mod call;
mod config;
mod double;
mod forward;
mod gradient;
mod hidden;
mod map;
mod message;
mod order;
mod outer;
mod radial;
mod rates;
mod stages;
mod sweep;
mod tile;
mod weights;

/// The source of the forward kernels, less the radial functions that are rendered.
pub const SOURCE: &str = concat!(include_str!("forward.rs"), include_str!("message.rs"), include_str!("map.rs"));

pub use call::{Backward, Call, Direction};
pub use config::HostConfig;
pub use order::ReceiverOrder;
pub use radial::{Basis, BasisStage, Cutoff, CutoffStage, Jet, MAX_PARAMETERS, Parameters};
pub use stages::{Compiled, Stages};
pub use weights::PackedFilter;
