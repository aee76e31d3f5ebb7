//! Devices, which know no op: each op says in its own module how they prepare it.

mod cube;
mod host;
mod open;
mod prepare;

pub use cube::{CubeRuntime, abilities};
pub use host::HostRuntime;
pub use open::{OpenError, available, compiled, open};
pub(crate) use prepare::prepare;
