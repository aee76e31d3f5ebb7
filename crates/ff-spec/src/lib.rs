//! The nouns of forgefield: pure, serialisable data that every other crate agrees on.
//!
//! Nothing here does IO, starts a thread or knows a GPU. See `ARCHITECTURE.md` for who may depend on whom.

mod activation;
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
mod op;
mod ops;
mod precision;
mod sender_list;
pub mod vector_norm;

pub use activation::Activation;
pub use config::LaunchConfig;
pub use cost::{Cost, ELEMENTARY, GEOMETRY};
pub use device::{Atomics, DeviceId, Limits, RuntimeKind};
pub use digest::digest;
pub use dtype::{Dtype, Scalar, UnknownDtype};
pub use key::{Problem, TuneKey, kernel_name};
pub use launch::{Clock, Device, InputError, Launch, LaunchError, Prepare};
pub use op::Op;
pub use ops::*;
pub use precision::{Precision, Storage, UnknownPrecision};
pub use sender_list::SenderList;

/// The version of every JSON document this workspace writes (records, tables, results).
pub const SCHEMA_VERSION: u32 = 1;
