//! Devices, which know no op: each op says in its own module how they prepare it.

mod cube;
mod host;
mod macros;
mod open;

pub use cube::{CubeRuntime, abilities};
pub use host::HostRuntime;
pub(crate) use macros::prepare;
pub use open::{OpenError, available, compiled, open};
