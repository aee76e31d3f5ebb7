//! The nouns of forgefield: pure, serialisable data that every other crate agrees on.
//!
//! Nothing here does IO, starts a thread or knows a GPU. See `ARCHITECTURE.md` for who may depend on whom.

pub mod cell_list;
mod config;
mod cost;
mod device;
mod digest;
mod dtype;
pub mod force_scatter;
pub mod fused_message;
mod key;
mod launch;
mod sender_list;

pub use config::LaunchConfig;
pub use cost::{
    Cost, ELEMENTARY, GEOMETRY, HERMITE_WEIGHT, TABLE_NODES, backward_cost, cost, double_backward_cost, list_bytes,
    scatter_cost,
};
pub use device::{Atomics, DeviceId, Limits, RuntimeKind};
pub use digest::digest;
pub use dtype::{Dtype, Scalar, UnknownDtype};
pub use key::{Problem, TuneKey, kernel_name};
pub use launch::{
    CellList, Clock, Device, ForceScatter, ForceScatterBackward, ForceScatterDoubleBackward, FusedMessage,
    FusedMessageBackward, FusedMessageDoubleBackward, Launch, LaunchError, Op, Prepare, Runtime, family,
};
pub use sender_list::SenderList;

/// The version of every JSON document this workspace writes (records, tables, results).
pub const SCHEMA_VERSION: u32 = 1;

/// The families of kernels, by the one name that templates, oracles, spaces, tables and tests share.
pub const OPS: &[&str] = &[cell_list::OP, force_scatter::OP, fused_message::OP];
