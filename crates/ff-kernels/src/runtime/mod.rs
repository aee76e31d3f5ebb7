//! Devices that prepare every op.

mod cube;
mod host;
mod open;

pub use cube::{CubeRuntime, abilities};
pub use host::HostRuntime;
pub use open::{OpenError, available, compiled, open};
