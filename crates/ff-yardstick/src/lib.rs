//! What the fused ops are measured against: the same message composed of Burn's operations, and both as something that is
//! gated and timed.
//!
//! For benches, sweeps and tests alone. It names concrete backends, whose text is large, so that `ff-ops` need not.

pub mod on_tensors;
pub mod unfused;
