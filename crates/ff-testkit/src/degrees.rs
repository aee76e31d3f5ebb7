//! Rows of random lists.

use proptest::prelude::*;

/// How many edges each row has.
#[derive(Clone, Debug, PartialEq)]
pub enum Degrees {
    /// The same number in every row; 0 for no edges at all.
    Uniform(usize),
    /// The same number in two rows of three; the first and the last row are empty.
    EmptyRows(usize),
    /// max·(i + 1)^−exponent in row i: few long rows and a tail of short ones.
    PowerLaw {
        /// Edges of the first row.
        max: usize,
        /// Steepness.
        exponent: f64,
    },
    /// One row, in the middle, is this much longer than the others.
    LongRow {
        /// Its edges.
        long: usize,
        /// Edges of every other row.
        short: usize,
    },
}

impl Degrees {
    /// Edges of each row.
    pub fn rows(&self, n_atoms: usize) -> Vec<usize> {
        let degree = |i: usize| match *self {
            Degrees::Uniform(degree) => degree,
            Degrees::EmptyRows(degree) => {
                if i.is_multiple_of(3) || i + 1 == n_atoms {
                    0
                } else {
                    degree
                }
            }
            Degrees::PowerLaw { max, exponent } => (max as f64 * ((i + 1) as f64).powf(-exponent)).round() as usize,
            Degrees::LongRow { long, short } => {
                if i == n_atoms / 2 {
                    long
                } else {
                    short
                }
            }
        };
        (0..n_atoms).map(degree).collect()
    }
}

/// Degrees of up to some twenty edges per row, among them none.
pub fn strategy() -> impl Strategy<Value = Degrees> {
    prop_oneof![
        (0usize..20).prop_map(Degrees::Uniform),
        (1usize..20).prop_map(Degrees::EmptyRows),
        ((1usize..60), 0.5..2.0).prop_map(|(max, exponent)| Degrees::PowerLaw { max, exponent }),
        ((1usize..200), 0usize..4).prop_map(|(long, short)| Degrees::LongRow { long, short }),
    ]
}
