//! What one call has to compute and to move, counted from its sizes alone: the two axes of a roofline.

use serde::Serialize;

/// FLOPs that one value of a radial function, a cutoff function or an activation counts as, whatever its formula: about
/// what a polynomial for exp, sin or ln in f32 takes, with its argument.
pub const ELEMENTARY: u64 = 16;

/// FLOPs of an edge's geometry: d (three products, two sums, a root) and u (three quotients).
pub const GEOMETRY: u64 = 9;

/// FLOPs and bytes of one call.
///
/// A sum, a product, a quotient and a root are 1 FLOP each, a fused multiply-add is 2. Every edge counts as one within
/// the cutoff. Bytes count the indices (u32) and the tensors in their dtype; parameters of radial functions, a few
/// values in all, are left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Cost {
    /// All of them.
    pub flops: u64,
    /// Those that make W(d): geometry, radial functions, linear maps, cutoff.
    pub filter_flops: u64,
    /// Those that make messages, or their gradients, of W and add them up.
    pub message_flops: u64,
    /// Those that make gradients in the filter's weights; 0 in a forward.
    pub weight_flops: u64,
    /// Every input read once and every output written once: what no implementation can avoid moving.
    pub compulsory_bytes: u64,
    /// What an edge reads of the atom at its other end: the sender's features, in a backward the receiver's cotangents, in
    /// the second both and the features' direction. What is moved where no cache holds them.
    pub gathered_bytes: u64,
}

impl Cost {
    /// FLOPs per compulsory byte; 0 where nothing is moved.
    pub fn intensity(&self) -> f64 {
        if self.compulsory_bytes == 0 { 0.0 } else { self.flops as f64 / self.compulsory_bytes as f64 }
    }
}
