//! What a call computes and moves, in each order.

use crate::{Cost, Dtype, Problem};

/// Counts one call: of the forward (order 0), of its first backward (1) or of its second (2).
///
/// Per edge: 6 sums for the forces of both ends and 18 for sym(r ⊗ g); the first backward takes F̄ᵢ − F̄ⱼ and two products of
/// sym(S̄) with a vector, 36; the second the forward's 6, 36 for two products in the strain and 30 for those of the
/// first without forces. All of it is counted as messages. Edges gather the cotangents of their senders' forces in order 1.
pub fn cost(order: u8, problem: &Problem, dtype: Dtype) -> Cost {
    let (n, s, e) = (problem.n_atoms, problem.n_systems, problem.n_edges);
    let (sums, edges) = (3 * n + 9 * s, 6 * e);
    let (flops, floats, gathered) = match order {
        0 => (24, edges + sums, 0),
        1 => (36, 2 * edges + sums, 3),
        _ => (72, 3 * edges + 2 * sums, 0),
    };
    Cost {
        flops: flops * e,
        filter_flops: 0,
        message_flops: flops * e,
        weight_flops: 0,
        compulsory_bytes: 4 * (n + 1 + e + s + 1) + floats * dtype.size() as u64,
        gathered_bytes: e * gathered * dtype.size() as u64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_by_hand() {
        // 3 atoms and 4 edges in 2 systems.
        let problem =
            Problem { name: String::new(), n_atoms: 3, n_systems: 2, n_edges: 4, max_degree: 2, ..Problem::default() };
        let [forward, first, second] = [0, 1, 2].map(|order| cost(order, &problem, Dtype::F64));
        assert_eq!([forward.flops, first.flops, second.flops], [4 * 24, 4 * 36, 4 * 72]);
        let indices = (4 + 4 + 3) * 4;
        assert_eq!(forward.compulsory_bytes, indices + (24 + 9 + 18) * 8);
        assert_eq!(first.compulsory_bytes, indices + (48 + 9 + 18) * 8);
        assert_eq!(second.compulsory_bytes, indices + (72 + 2 * 27) * 8);
        assert_eq!([forward.gathered_bytes, first.gathered_bytes], [0, 4 * 3 * 8]);
    }
}
