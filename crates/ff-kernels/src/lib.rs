//! The kernels: generated variants, the hand-written pieces they compose, and the runtimes that launch them.
//!
//! Two targets from one template: `host` (SIMD by run-time dispatch, threads by rayon) and `cube` (CubeCL). Both are
//! seen from outside through [`ff_spec::Runtime`] and [`ff_spec::Launch`] alone.

pub mod cell_list;
pub mod cube;
mod digest;
pub mod force_scatter;
pub mod fused_message;
#[allow(missing_docs, reason = "`#[cube]` expands into items that carry no documentation")]
pub mod generated;
pub mod host;
mod open;
mod sender_list;

pub use open::{OpenError, available, compiled, open};
pub use sender_list::SenderList;
