//! What the fused ops are measured against, gated as they are.
//!
//! The library has no tests within: they would compile its concrete backends, which are most of it, a second time.

mod gradients;
mod on_tensors;
mod testing;
mod unfused;
