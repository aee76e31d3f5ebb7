//! Matrices of the filter in the order in which passes over channels read them.

use crate::host::{Aligned, Element};

/// The passes over `features` channels: (first channel, registers), `most` registers at a time and then fewer; a last
/// pass of one register may be wider than what is left.
pub(super) fn passes(features: usize, lanes: usize, most: usize) -> impl Iterator<Item = (usize, usize)> {
    let mut c = 0;
    std::iter::from_fn(move || {
        let left = features.checked_sub(c).filter(|left| *left > 0)?;
        let mut registers = most;
        while registers > 1 && registers * lanes > left {
            registers /= 2;
        }
        let at = c;
        c += registers * lanes;
        Some((at, registers))
    })
}

/// A matrix [rows, parts × features], copied so that every pass reads one contiguous piece [rows, parts, channels of the
/// pass], padded with zeros to whole registers. As it lies in a row-major matrix, the columns of one pass would share a
/// few sets of the L1 cache, and as a `Vec` it would start within a cache line.
#[derive(Clone)]
pub(super) struct Packed<T> {
    values: Aligned<T>,
    rows: usize,
    parts: usize,
}

impl<T: Element> Packed<T> {
    /// For the passes of `passes(features, lanes, most)`.
    pub fn new(matrix: &[T], parts: usize, features: usize, lanes: usize, most: usize) -> Self {
        let rows = matrix.len().checked_div(parts * features).unwrap_or(0);
        let mut values = Aligned::zeros(rows * parts * features.next_multiple_of(lanes));
        let mut at = 0;
        for (c, registers) in passes(features, lanes, most) {
            let width = (registers * lanes).min(features - c);
            for row in matrix.chunks_exact(features) {
                values[at..at + width].copy_from_slice(&row[c..c + width]);
                at += registers * lanes;
            }
        }
        Self { values, rows, parts }
    }

    /// The piece [rows, parts, width] of the pass that starts at channel `first`; `width` is in whole registers.
    #[inline(always)]
    pub fn piece(&self, first: usize, width: usize) -> &[T] {
        &self.values[self.rows * self.parts * first..][..self.rows * self.parts * width]
    }
}
