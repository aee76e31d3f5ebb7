//! Gradients in the weights of a linear map: sums of products of its inputs and the gradients in its outputs.

use pulp::{Simd, WithSimd};

use super::weights::passes;
use crate::host::{Element, Lane, MAX_LANES, unroll};

/// Sums [rows, columns] of one part of the edges, where `columns` are in the order of the passes.
pub(super) struct Accumulator<T> {
    values: Vec<T>,
    rows: usize,
}

impl<T: Element> Accumulator<T> {
    pub fn new(rows: usize, columns: usize) -> Self {
        Self { values: vec![T::default(); rows * columns], rows }
    }

    /// The sums [rows, width] of the columns from `first` on.
    #[inline(always)]
    pub fn piece(&mut self, first: usize, width: usize) -> &mut [T] {
        &mut self.values[self.rows * first..][..self.rows * width]
    }

    pub fn values(&self) -> &[T] {
        &self.values
    }

    /// The sum of all, in their order.
    pub fn total<'a>(mut parts: impl Iterator<Item = &'a Self>) -> Self
    where
        T: 'a,
    {
        let Some(first) = parts.next() else { return Self { values: Vec::new(), rows: 0 } };
        let mut sums: Vec<f64> = first.values.iter().map(|x| x.to_f64()).collect();
        for part in parts {
            for (sum, x) in sums.iter_mut().zip(&part.values) {
                *sum += x.to_f64();
            }
        }
        Self { values: sums.into_iter().map(T::from_f64).collect(), rows: first.rows }
    }

    /// Writes the sums of passes of `lanes`·`most` channels as `weights` [rows − 1, parts · features] and `bias`, the last row.
    pub fn unpack(
        &self,
        parts: usize,
        features: usize,
        (lanes, most): (usize, usize),
        weights: &mut [T],
        bias: &mut [T],
    ) {
        let mut at = 0;
        for (c, registers) in passes(features, lanes, most) {
            let width = (registers * lanes).min(features - c);
            for row in weights.chunks_exact_mut(parts * features).chain([&mut *bias]) {
                for part in row.chunks_exact_mut(features) {
                    part[c..c + width].copy_from_slice(&self.values[at..at + width]);
                    at += registers * lanes;
                }
            }
        }
    }
}

/// Adds coefficientsᵀ · values, and the column sums of values as the last row.
pub(super) struct Outer<'a, T> {
    /// [rows − 1, stride], edges along the stride.
    pub coefficients: &'a [T],
    pub stride: usize,
    pub edges: usize,
    /// [edges, width].
    pub values: &'a [T],
    pub width: usize,
    /// [rows, width].
    pub sums: &'a mut [T],
}

impl<T: Element> WithSimd for Outer<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let lanes = T::lanes::<S>();
        let mut c = 0;
        while c < self.width {
            if c + 3 * lanes <= self.width {
                self.columns::<S, 3>(simd, c, 3 * lanes);
                c += 3 * lanes;
            } else {
                self.columns::<S, 1>(simd, c, lanes.min(self.width - c));
                c += lanes;
            }
        }
    }
}

impl<T: Element> Outer<'_, T> {
    /// `C` registers of columns from `c` on, of which `n` columns are there.
    #[inline(always)]
    fn columns<S: Simd, const C: usize>(&mut self, simd: S, c: usize, n: usize) {
        let rows = (self.sums.len() / self.width).saturating_sub(1);
        let mut k = 0;
        while k + 4 <= rows {
            self.rows::<S, 4, C>(simd, k, c, n);
            k += 4;
        }
        while k < rows {
            self.rows::<S, 1, C>(simd, k, c, n);
            k += 1;
        }
        let mut sum = [Lane::splat(simd, T::default()); C];
        for values in self.values.chunks_exact(self.width).take(self.edges) {
            unroll!(v in 0..C => { sum[v] = sum[v] + part(simd, &values[c..c + n], v); });
        }
        unroll!(v in 0..C => { add_to(&mut self.sums[rows * self.width + c..][..n], v, sum[v]); });
    }

    /// `K` rows from `k` on.
    #[inline(always)]
    fn rows<S: Simd, const K: usize, const C: usize>(&mut self, simd: S, k: usize, c: usize, n: usize) {
        let mut sums = [[Lane::splat(simd, T::default()); C]; K];
        for (e, values) in self.values.chunks_exact(self.width).take(self.edges).enumerate() {
            let mut value = [Lane::splat(simd, T::default()); C];
            unroll!(v in 0..C => { value[v] = part(simd, &values[c..c + n], v); });
            unroll!(i in 0..K => {
                let coefficient = Lane::splat(simd, self.coefficients[(k + i) * self.stride + e]);
                unroll!(v in 0..C => { sums[i][v] = coefficient.mul_add(value[v], sums[i][v]); });
            });
        }
        unroll!(i in 0..K => {
            unroll!(v in 0..C => { add_to(&mut self.sums[(k + i) * self.width + c..][..n], v, sums[i][v]); });
        });
    }
}

/// Register `v` of some columns.
#[inline(always)]
fn part<S: Simd, T: Element>(simd: S, columns: &[T], v: usize) -> Lane<S, T> {
    let lanes = T::lanes::<S>();
    if columns.len() < lanes { Lane::load(simd, columns) } else { Lane::load_full(simd, &columns[v * lanes..]) }
}

#[inline(always)]
fn add_to<S: Simd, T: Element>(columns: &mut [T], v: usize, sum: Lane<S, T>) {
    let lanes = T::lanes::<S>();
    if columns.len() < lanes {
        (Lane::load(sum.simd, columns) + sum).store(columns);
    } else {
        let columns = &mut columns[v * lanes..];
        (Lane::load_full(sum.simd, columns) + sum).store_full(columns);
    }
}

/// Gradients in the inputs of a linear map: values · weightsᵀ, added to `gradients`.
pub(super) struct Inputs<'a, T> {
    /// [edges, width].
    pub values: &'a [T],
    pub width: usize,
    pub edges: usize,
    /// [width, rows]: the map's columns.
    pub columns: &'a [T],
    /// [edges, rows].
    pub gradients: &'a mut [T],
    pub rows: usize,
}

impl<T: Element> WithSimd for Inputs<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let lanes = T::lanes::<S>();
        let mut h = 0;
        while h < self.rows {
            let n = lanes.min(self.rows - h);
            for e in (0..self.edges).step_by(4) {
                self.block::<S, 4>(simd, e, h, n);
            }
            h += n;
        }
    }
}

impl<T: Element> Inputs<'_, T> {
    #[inline(always)]
    fn block<S: Simd, const E: usize>(&mut self, simd: S, e: usize, h: usize, n: usize) {
        let mut sums = [Lane::splat(simd, T::default()); E];
        for (c, column) in self.columns.chunks_exact(self.rows).enumerate().take(self.width) {
            let weights = part(simd, &column[h..h + n], 0);
            unroll!(i in 0..E => {
                sums[i] = Lane::splat(simd, self.values[(e + i) * self.width + c]).mul_add(weights, sums[i]);
            });
        }
        unroll!(i in 0..E => { add_to(&mut self.gradients[(e + i) * self.rows + h..][..n], 0, sums[i]); });
    }
}

/// The columns [parts · features padded, rows] of a matrix [rows, parts · features], in the order of the passes.
pub(super) fn columns<T: Element>(
    matrix: &[T],
    parts: usize,
    features: usize,
    (lanes, most): (usize, usize),
) -> Vec<T> {
    let rows = matrix.len() / (parts * features).max(1);
    let mut columns = vec![T::default(); rows * parts * features.next_multiple_of(MAX_LANES)];
    let mut at = 0;
    for (c, registers) in passes(features, lanes, most) {
        for part in 0..parts {
            for l in 0..registers * lanes {
                if c + l < features {
                    for h in 0..rows {
                        columns[at * rows + h] = matrix[h * parts * features + part * features + c + l];
                    }
                }
                at += 1;
            }
        }
    }
    columns
}
