//! Some rows of a problem that is too large for the scalar oracle: which, their edges, and their outputs.

use std::collections::BTreeSet;

/// Some of the rows of a problem.
#[derive(Clone, Debug, PartialEq)]
pub struct Rows {
    /// All rows there are.
    pub n_atoms: usize,
    /// Those that are compared with the oracle, ascending.
    pub sampled: Vec<usize>,
}

impl Rows {
    /// About `count` rows of `n_atoms` > 0 from the first to the last, and these.
    pub fn spread(n_atoms: usize, count: usize, besides: impl IntoIterator<Item = usize>) -> Self {
        let even = (0..count).map(|i| i * n_atoms / count);
        let all: BTreeSet<usize> = even.chain(besides).chain([n_atoms - 1]).collect();
        Self { n_atoms, sampled: all.into_iter().collect() }
    }

    /// At most `count` rows with equal distances, the first among them.
    pub fn even(n_atoms: usize, count: usize) -> Self {
        let step = n_atoms.div_ceil(count.max(1)).max(1);
        Self { n_atoms, sampled: (0..n_atoms).step_by(step).collect() }
    }

    /// Takes the edges of all other rows away from a list. Atoms stay, since edges name their senders.
    pub fn keep(&self, row_ptr: &mut [u32], sender: &mut Vec<u32>, edge_vec: &mut Vec<f64>) {
        let old = row_ptr.to_vec();
        let (all, vectors) = (std::mem::take(sender), std::mem::take(edge_vec));
        let mut wanted = self.sampled.iter().peekable();
        for row in 0..self.n_atoms {
            if wanted.next_if(|r| **r == row).is_some() {
                let edges = old[row] as usize..old[row + 1] as usize;
                edge_vec.extend_from_slice(&vectors[3 * edges.start..3 * edges.end]);
                sender.extend_from_slice(&all[edges]);
            }
            row_ptr[row + 1] = u32::try_from(sender.len()).unwrap_or(u32::MAX);
        }
    }

    /// Where the elements of the edge vectors of the sampled rows are among all.
    pub fn places(&self, row_ptr: &[u32]) -> Vec<usize> {
        let of = |row: &usize| 3 * row_ptr[*row] as usize..3 * row_ptr[row + 1] as usize;
        self.sampled.iter().flat_map(of).collect()
    }

    /// The sampled rows of a tensor.
    pub fn gather(&self, values: &[f64]) -> Vec<f64> {
        let width = values.len() / self.n_atoms.max(1);
        self.sampled.iter().flat_map(|row| &values[row * width..(row + 1) * width]).copied().collect()
    }

    /// Zeros in all finite elements of the other rows of a tensor: of these it is known that they were written.
    pub fn mask(&self, values: &mut [f64]) {
        let width = (values.len() / self.n_atoms.max(1)).max(1);
        let mut sampled = self.sampled.iter().peekable();
        for (row, values) in values.chunks_exact_mut(width).enumerate() {
            if sampled.next_if(|r| **r == row).is_none() {
                values.iter_mut().filter(|v| v.is_finite()).for_each(|v| *v = 0.0);
            }
        }
    }
}

/// Numbers at their places among `len`; zero everywhere else.
pub fn placed(values: &[f64], places: &[usize], len: usize) -> Vec<f64> {
    let mut all = vec![0.0; len];
    places.iter().zip(values).for_each(|(at, value)| all[*at] = *value);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_spread_over_all() {
        let rows = Rows::spread(100, 4, [7]);
        assert_eq!(rows.sampled, [0, 7, 25, 50, 75, 99]);
        assert_eq!(Rows::even(10, 3).sampled, [0, 4, 8]);
        assert_eq!(Rows::even(0, 3).sampled, Vec::<usize>::new());
    }

    #[test]
    fn edges_outputs_and_places_are_of_the_sampled_rows() {
        let rows = Rows { n_atoms: 3, sampled: vec![0, 2] };
        let (mut row_ptr, mut sender) = (vec![0, 1, 3, 4], vec![1, 0, 2, 0]);
        let mut edge_vec: Vec<f64> = (0..12).map(f64::from).collect();
        assert_eq!(rows.places(&row_ptr), [0, 1, 2, 9, 10, 11]);
        rows.keep(&mut row_ptr, &mut sender, &mut edge_vec);
        assert_eq!((row_ptr, sender), (vec![0, 1, 1, 2], vec![1, 0]));
        assert_eq!(placed(&edge_vec, &[0, 1, 2, 9, 10, 11], 12)[9..], [9.0, 10.0, 11.0]);
        let mut outputs = vec![1.0, 2.0, 3.0, f64::NAN, 5.0, 6.0];
        assert_eq!(rows.gather(&outputs[..]).len(), 4);
        rows.mask(&mut outputs);
        assert_eq!(outputs[..3], [1.0, 2.0, 0.0]);
        assert!(outputs[3].is_nan(), "what is not finite is never hidden");
        assert_eq!(outputs[4..], [5.0, 6.0]);
    }
}
