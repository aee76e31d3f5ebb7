//! What a call moves.

use super::List;
use crate::{Dtype, Problem};

/// Bytes that a neighbour list of these sizes cannot avoid moving: positions, systems and cells read once, the list written
/// once. Its FLOPs depend on how many candidates a strategy looks at, and are not counted.
pub fn compulsory_bytes(list: List, problem: &Problem, dtype: Dtype) -> u64 {
    let (n, s, e, float) = (problem.n_atoms, problem.n_systems, problem.n_edges, dtype.size() as u64);
    // Of a full list senders start where receivers do.
    let starts = match list {
        List::Full => n + 1,
        List::Half => 2 * (n + 1),
    };
    let read = 3 * n * float + 4 * (s + 1) + s * (9 * float + 3) + float;
    // Of an edge its sender, shift, vector and place in the transposed list.
    read + 4 * starts + e * (4 + 12 + 3 * float + 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_by_hand() {
        let problem =
            Problem { name: String::new(), n_atoms: 3, n_systems: 2, n_edges: 4, max_degree: 2, ..Problem::default() };
        // Positions, 3 offsets, 2 cells with their directions, the cutoff; 4 offsets, 4 edges of 20 + 12 bytes.
        let full = compulsory_bytes(List::Full, &problem, Dtype::F32);
        assert_eq!(full, 36 + 12 + 2 * (36 + 3) + 4 + 16 + 4 * 32);
        assert_eq!(compulsory_bytes(List::Half, &problem, Dtype::F32), full + 16);
    }
}
