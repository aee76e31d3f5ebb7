//! Gradients in the weights of a linear map: sums of products of its inputs and the gradients in its outputs.

use ff_spec::fused_message::Filter;
use pulp::{Simd, WithSimd};

use super::call::Call;
use super::map::ground;
use super::weights::Layout;
use crate::{Element, Lane};

/// Sums [rows, columns] of one part of the edges, where `columns` are in the order of the passes.
pub(super) struct Accumulator<T> {
    values: Vec<T>,
    rows: usize,
}

impl<T: Element> Accumulator<T> {
    fn new(rows: usize, columns: usize) -> Self {
        Self { values: vec![T::default(); rows * columns], rows }
    }

    /// The sums [rows, width] of the columns from `first` on.
    #[inline(always)]
    pub fn piece(&mut self, first: usize, width: usize) -> &mut [T] {
        &mut self.values[self.rows * first..][..self.rows * width]
    }

    /// The sum of all, in f64 and in their order.
    fn total<'a>(parts: impl Iterator<Item = &'a Self>) -> Vec<T>
    where
        T: 'a,
    {
        let mut sums: Vec<f64> = Vec::new();
        for part in parts {
            sums.resize(part.values.len(), 0.0);
            for (sum, x) in sums.iter_mut().zip(&part.values) {
                *sum += x.to_f64();
            }
        }
        sums.into_iter().map(T::from_f64).collect()
    }
}

/// Gradients in a filter's weights, summed over some of the edges.
pub(super) struct WeightSums<T> {
    /// [depth + 1, C] in the order of the passes, the bias last.
    pub last: Accumulator<T>,
    /// [K + 1, H] of the first map of an `mlp` filter, the bias last.
    pub first: Accumulator<T>,
}

impl<T: Element> WeightSums<T> {
    pub fn new(call: &Call<T>, layout: Layout) -> Self {
        let columns = layout.parts * layout.features.next_multiple_of(layout.lanes);
        Self {
            last: Accumulator::new(call.depth() + 1, columns),
            first: Accumulator::new(call.n_basis + 1, call.hidden()),
        }
    }

    /// Adds up the parts and writes them where the caller has the weights.
    pub fn write(parts: &[Self], layout: Layout, filter: &mut Filter<T>) {
        let last = |weights: &mut [T], bias: &mut [T]| {
            let sums = Accumulator::total(parts.iter().map(|part| &part.last));
            layout.unpack(&sums, weights.chunks_exact_mut(bias.len()).chain([bias]));
        };
        match filter {
            Filter::Linear { a, b } => last(a, b),
            Filter::Mlp { a1, b1, a2, b2, .. } => {
                last(a2, b2);
                let sums = Accumulator::total(parts.iter().map(|part| &part.first));
                let (weights, bias) = sums.split_at(a1.len());
                a1.copy_from_slice(weights);
                b1.copy_from_slice(bias);
            }
            Filter::Tabulated { .. } => {}
        }
    }
}

/// Adds coefficientsᵀ · values and, with `BIAS`, the column sums of values as the last row.
pub(super) struct Outer<'a, T, const BIAS: bool> {
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

impl<T: Element, const BIAS: bool> WithSimd for Outer<'_, T, BIAS> {
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

impl<T: Element, const BIAS: bool> Outer<'_, T, BIAS> {
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
        if !BIAS {
            return;
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
        let ground = ground(simd);
        let mut sums = [[ground; C]; K];
        for (e, values) in self.values.chunks_exact(self.width).take(self.edges).enumerate() {
            let mut value = [Lane::splat(simd, T::default()); C];
            unroll!(v in 0..C => { value[v] = part(simd, &values[c..c + n], v); });
            unroll!(i in 0..K => {
                let coefficient = Lane::splat(simd, self.coefficients[(k + i) * self.stride + e]);
                unroll!(v in 0..C => { sums[i][v] = coefficient.mul_add(value[v], sums[i][v]); });
            });
        }
        unroll!(i in 0..K => {
            unroll!(v in 0..C => { add_to(&mut self.sums[(k + i) * self.width + c..][..n], v, sums[i][v] - ground); });
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
