//! What one call has to compute and to move, counted from its sizes alone: the two axes of a roofline.

use serde::Serialize;

use crate::fused_message::{FilterKind, Message, Variant};
use crate::{Dtype, Problem};

/// FLOPs that one value of a radial function, a cutoff function or an activation counts as, whatever its formula: about
/// what a polynomial for exp, sin or ln in f32 takes, with its argument.
pub const ELEMENTARY: u64 = 16;

/// FLOPs of an edge's geometry: d (three products, two sums, a root) and u (three quotients).
pub const GEOMETRY: u64 = 9;

/// FLOPs of one Hermite weight of a tabulated filter.
pub const HERMITE_WEIGHT: u64 = 5;

/// Nodes of the table that a tabulated filter is counted with: 256 segments, which keep cubic tables of the usual filters
/// below a relative error of 1e-6. A [`Problem`] does not say how long its table is.
pub const TABLE_NODES: u64 = 257;

/// FLOPs and bytes of one forward call.
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
    /// Those that make messages of W and add them up.
    pub message_flops: u64,
    /// Every input read once and every output written once: what no implementation can avoid moving.
    pub compulsory_bytes: u64,
    /// The sender's features, read once for each edge: what is moved where no cache holds them.
    pub gathered_bytes: u64,
}

impl Cost {
    /// FLOPs per compulsory byte; 0 where nothing is moved.
    pub fn intensity(&self) -> f64 {
        if self.compulsory_bytes == 0 { 0.0 } else { self.flops as f64 / self.compulsory_bytes as f64 }
    }
}

/// Counts one forward call of `fused_message`.
///
/// ```
/// use ff_spec::{Dtype, Problem, cost};
/// # let problem = Problem {
/// #     name: String::new(), n_atoms: 2, n_systems: 0, n_edges: 2, max_degree: 1, features: 1, n_basis: 1, hidden: 0,
/// # };
/// let variant = "cfconv_linear_gaussian_cosine_receiver".parse()?;
/// assert_eq!(cost(&variant, &problem, Dtype::F32).message_flops, 2 * 2);
/// # Ok::<(), ff_spec::fused_message::MalformedVariant>(())
/// ```
pub fn cost(variant: &Variant, problem: &Problem, dtype: Dtype) -> Cost {
    let (n, e, f) = (problem.n_atoms, problem.n_edges, u64::from(problem.features));
    let (k, h) = (u64::from(problem.n_basis), u64::from(problem.hidden));
    let c = variant.message.parts() as u64 * f;

    // A sum that starts at its bias is made of FMAs alone; f_c is one more product per channel.
    let (filter, weights) = match variant.filter {
        FilterKind::Linear => (ELEMENTARY * (k + 1) + 2 * k * c + c, k * c + c),
        FilterKind::Mlp => (ELEMENTARY * (k + 1) + 2 * k * h + ELEMENTARY * h + 2 * h * c + c, k * h + h + h * c + c),
        // K is 2·order weights here, and the table holds f_c.
        FilterKind::Tabulated => (HERMITE_WEIGHT * k + 2 * k * c, TABLE_NODES * (k / 2) * c),
    };
    let (message, gathered, output) = match variant.message {
        Message::Cfconv => (2 * f, f, f),
        // w_q: one FMA. w_r and w_μ: two products. Each component of Δμ: two FMAs.
        Message::Painn => (16 * f, 6 * f, 4 * f),
    };
    let filter_flops = e * (GEOMETRY + filter);
    let message_flops = e * message;
    let floats = 3 * e + n * gathered + weights + n * output;
    Cost {
        flops: filter_flops + message_flops,
        filter_flops,
        message_flops,
        compulsory_bytes: 4 * (n + 1 + e) + floats * dtype.size() as u64,
        gathered_bytes: e * gathered * dtype.size() as u64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(n_basis: u32, hidden: u32) -> Problem {
        Problem {
            name: String::new(),
            n_atoms: 3,
            n_systems: 0,
            n_edges: 4,
            max_degree: 2,
            features: 2,
            n_basis,
            hidden,
        }
    }

    fn counted(id: &str, n_basis: u32, hidden: u32, dtype: Dtype) -> Cost {
        let variant = id.parse().unwrap_or_else(|e| panic!("{e}"));
        cost(&variant, &problem(n_basis, hidden), dtype)
    }

    #[test]
    fn cfconv_linear_by_hand() {
        // An edge, K = 5, C = 2: 9 of geometry, 6 elementary, 5·2 FMAs, 2 products with f_c; 2 FMAs of message.
        // Floats: 12 of edge_vec, 6 of x, 10 + 2 of weights, 6 of y; indices 4 + 4.
        let found = counted("cfconv_linear_bessel_cosine_receiver", 5, 0, Dtype::F32);
        let expected = Cost {
            flops: 4 * 127 + 4 * 4,
            filter_flops: 4 * 127,
            message_flops: 4 * 4,
            compulsory_bytes: 8 * 4 + 36 * 4,
            gathered_bytes: 4 * 2 * 4,
        };
        assert_eq!(found, expected);
        assert_eq!(found.intensity(), 524.0 / 176.0);
    }

    #[test]
    fn painn_mlp_by_hand() {
        // An edge, K = 5, H = 7, C = 6: 9, 6 elementary, 35 FMAs, 7 elementary, 42 FMAs, 6; per feature 16.
        // Floats: 12, 3 atoms × (3 + 3)·2, weights 35 + 7 + 42 + 6, outputs 3 × 4·2; indices 4 + 4.
        let found = counted("painn_mlp_gaussian_polynomial_edge_atomic", 5, 7, Dtype::F64);
        let expected = Cost {
            flops: 4 * (377 + 32),
            filter_flops: 4 * (9 + 96 + 70 + 112 + 84 + 6),
            message_flops: 4 * 32,
            compulsory_bytes: 8 * 4 + (12 + 36 + 90 + 24) * 8,
            gathered_bytes: 4 * 12 * 8,
        };
        assert_eq!(found, expected);
    }

    #[test]
    fn tables_by_hand() {
        // Cubic: 4 weights an edge; 257 nodes × 2 values × C.
        let found = counted("cfconv_tabulated_receiver", 4, 0, Dtype::F32);
        assert_eq!(found.filter_flops, 4 * (9 + 20 + 16));
        assert_eq!(found.compulsory_bytes, 8 * 4 + (12 + 6 + 257 * 2 * 2 + 6) * 4);
    }

    #[test]
    fn reductions_cost_alike() {
        let [a, b] =
            ["painn_tabulated_receiver", "painn_tabulated_edge_atomic"].map(|id| counted(id, 6, 0, Dtype::F32));
        assert_eq!(a, b);
    }

    #[test]
    fn nothing_costs_nothing() {
        let variant = "cfconv_tabulated_receiver".parse().unwrap_or_else(|e| panic!("{e}"));
        let empty = Problem { n_atoms: 0, n_edges: 0, n_basis: 0, ..problem(0, 0) };
        let found = cost(&variant, &empty, Dtype::F32);
        // One offset of an empty row_ptr.
        assert_eq!((found.flops, found.compulsory_bytes, found.intensity()), (0, 4, 0.0));
    }
}
