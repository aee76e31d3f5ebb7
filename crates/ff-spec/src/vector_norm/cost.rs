//! What one call has to compute and to move.

use crate::{Cost, Dtype, Problem};

/// Counts one call of `vector_norm`: of the forward (order 0), of its first backward (1) or of its second (2).
///
/// Per atom and channel: three FMAs and a root for the norm; the first backward divides g by it besides and takes three
/// products; the second takes five for s, three quotients (s/n, s/n² and g/n), and three times an FMA and a product. All of
/// it is counted as messages. Nothing is gathered.
pub fn cost(order: u8, problem: &Problem, dtype: Dtype) -> Cost {
    // Three of every V, t and gradient in V, one of every norm, g and gradient in g.
    let (flops, floats) = match order {
        0 => (7, 3 + 1),
        1 => (7 + 4, 3 + 1 + 3),
        _ => (7 + 5 + 3 + 9, 3 + 1 + 3 + 1 + 3),
    };
    let elements = problem.n_atoms * u64::from(problem.features);
    Cost {
        flops: flops * elements,
        filter_flops: 0,
        message_flops: flops * elements,
        weight_flops: 0,
        compulsory_bytes: floats * elements * dtype.size() as u64,
        gathered_bytes: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_by_hand() {
        let inputs = super::super::tests::inputs();
        // 2 atoms and 3 channels.
        let [zero, one, two] = [0, 1, 2].map(|order| cost(order, &inputs.problem("two"), Dtype::F64));
        assert_eq!([zero.flops, one.flops, two.flops], [6 * 7, 6 * 11, 6 * 24]);
        assert_eq!([zero, one, two].map(|cost| cost.compulsory_bytes), [6 * 4 * 8, 6 * 7 * 8, 6 * 11 * 8]);
        assert!([zero, one, two].iter().all(|cost| cost.message_flops == cost.flops && cost.gathered_bytes == 0));
    }
}
