//! PaiNN's update (arXiv 2102.03150, eqs. 9 and 10), apart from its dense layers: a register of channels at a time.

use std::ops::Range;

use pulp::{Arch, Simd, WithSimd};

use crate::{Element, Lane};

/// Vectors of each atom after PaiNN's channel mix.
#[derive(Clone, Copy)]
pub struct Mixed<'a, T> {
    /// F.
    pub features: usize,
    /// [rows, 3, (V, U)], each of F channels.
    pub values: &'a [T],
}

/// Gradients that the update's backward reads.
#[derive(Clone, Copy)]
pub struct OfOutputs<'a, T> {
    /// In the updated q, [rows, F].
    pub q: &'a [T],
    /// In the updated μ, [rows, 3, F]; empty where it is not updated.
    pub mu: &'a [T],
}

/// What is computed of one register of channels of a row.
trait Kernel<T: Element> {
    fn compute<S: Simd, const FULL: bool>(&mut self, simd: S, row: usize, channels: Range<usize>);
}

struct Rows<'k, K, T> {
    kernel: &'k mut K,
    rows: usize,
    features: usize,
    element: std::marker::PhantomData<T>,
}

impl<T: Element, K: Kernel<T>> WithSimd for Rows<'_, K, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let lanes = T::lanes::<S>();
        for row in 0..self.rows {
            let mut first = 0;
            while first + lanes <= self.features {
                self.kernel.compute::<S, true>(simd, row, first..first + lanes);
                first += lanes;
            }
            if first < self.features {
                self.kernel.compute::<S, false>(simd, row, first..self.features);
            }
        }
    }
}

fn run<T: Element>(rows: usize, features: usize, mut kernel: impl Kernel<T>) {
    Arch::new().dispatch(Rows { kernel: &mut kernel, rows, features, element: std::marker::PhantomData });
}

#[inline(always)]
fn load<S: Simd, T: Element, const FULL: bool>(simd: S, from: &[T]) -> Lane<S, T> {
    if FULL { Lane::load_full(simd, from) } else { Lane::load(simd, from) }
}

#[inline(always)]
fn store<S: Simd, T: Element, const FULL: bool>(to: &mut [T], lanes: Lane<S, T>) {
    if FULL { lanes.store_full(to) } else { lanes.store(to) }
}

/// Where `channels` are in a row of `width` elements, `part` widths of F into it.
#[inline(always)]
fn at(row: usize, width: usize, offset: usize, channels: &Range<usize>) -> Range<usize> {
    let start = row * width + offset;
    start + channels.start..start + channels.end
}

impl<T: Element> Mixed<'_, T> {
    /// V (0) or U (1) of an atom's channels, by axis.
    #[inline(always)]
    fn load<S: Simd, const FULL: bool>(
        &self,
        simd: S,
        row: usize,
        which: usize,
        channels: &Range<usize>,
    ) -> [Lane<S, T>; 3] {
        let f = self.features;
        let x = load::<S, T, FULL>(simd, &self.values[at(3 * row, 2 * f, which * f, channels)]);
        let y = load::<S, T, FULL>(simd, &self.values[at(3 * row + 1, 2 * f, which * f, channels)]);
        let z = load::<S, T, FULL>(simd, &self.values[at(3 * row + 2, 2 * f, which * f, channels)]);
        [x, y, z]
    }
}

/// Σ_xyz a ⊙ b.
#[inline(always)]
fn dot<S: Simd, T: Element>(a: [Lane<S, T>; 3], b: [Lane<S, T>; 3]) -> Lane<S, T> {
    a[2].mul_add(b[2], a[1].mul_add(b[1], a[0] * b[0]))
}

/// Where (a_q, a_μ, a_qμ) lie in a row of `a`, and its width; without a_μ where vectors are not updated.
#[inline(always)]
fn parts(features: usize, vectors: bool) -> ([usize; 3], usize) {
    let last = if vectors { 2 * features } else { features };
    ([0, features, last], last + features)
}

struct Context<'a, T> {
    mixed: Mixed<'a, T>,
    epsilon: T,
    q: &'a [T],
    norm: &'a mut [T],
    context: &'a mut [T],
}

impl<T: Element> Kernel<T> for Context<'_, T> {
    #[inline(always)]
    fn compute<S: Simd, const FULL: bool>(&mut self, simd: S, row: usize, channels: Range<usize>) {
        let f = self.mixed.features;
        let [x, y, z] = self.mixed.load::<S, FULL>(simd, row, 0, &channels);
        let norm = z.mul_add(z, y.mul_add(y, x.mul_add(x, Lane::splat(simd, self.epsilon)))).sqrt();
        let q = load::<S, T, FULL>(simd, &self.q[at(row, f, 0, &channels)]);
        store::<S, T, FULL>(&mut self.norm[at(row, f, 0, &channels)], norm);
        store::<S, T, FULL>(&mut self.context[at(row, 2 * f, 0, &channels)], q);
        store::<S, T, FULL>(&mut self.context[at(row, 2 * f, f, &channels)], norm);
    }
}

pub(super) fn context<T: Element>(mixed: Mixed<'_, T>, epsilon: T, q: &[T], norm: &mut [T], context: &mut [T]) {
    let f = mixed.features;
    run(q.len() / f, f, Context { mixed, epsilon, q, norm, context });
}

struct Update<'a, T> {
    mixed: Mixed<'a, T>,
    a: &'a [T],
    q: &'a mut [T],
    mu: &'a mut [T],
}

impl<T: Element> Kernel<T> for Update<'_, T> {
    #[inline(always)]
    fn compute<S: Simd, const FULL: bool>(&mut self, simd: S, row: usize, channels: Range<usize>) {
        let f = self.mixed.features;
        let vectors = !self.mu.is_empty();
        let ([of_q, of_mu, of_qmu], width) = parts(f, vectors);
        let v = self.mixed.load::<S, FULL>(simd, row, 0, &channels);
        let u = self.mixed.load::<S, FULL>(simd, row, 1, &channels);
        let a_q = load::<S, T, FULL>(simd, &self.a[at(row, width, of_q, &channels)]);
        let a_qmu = load::<S, T, FULL>(simd, &self.a[at(row, width, of_qmu, &channels)]);
        let q = &mut self.q[at(row, f, 0, &channels)];
        let updated = load::<S, T, FULL>(simd, q) + a_qmu.mul_add(dot(v, u), a_q);
        store::<S, T, FULL>(q, updated);
        if vectors {
            let a_mu = load::<S, T, FULL>(simd, &self.a[at(row, width, of_mu, &channels)]);
            unroll!(axis in 0..3 => {
                let mu = &mut self.mu[at(3 * row + axis, f, 0, &channels)];
                let updated = a_mu.mul_add(u[axis], load::<S, T, FULL>(simd, mu));
                store::<S, T, FULL>(mu, updated);
            });
        }
    }
}

pub(super) fn update<T: Element>(mixed: Mixed<'_, T>, a: &[T], q: &mut [T], mu: &mut [T]) {
    let f = mixed.features;
    run(q.len() / f, f, Update { mixed, a, q, mu });
}

struct UpdateBackward<'a, T> {
    mixed: Mixed<'a, T>,
    of: OfOutputs<'a, T>,
    of_a: &'a mut [T],
}

impl<T: Element> Kernel<T> for UpdateBackward<'_, T> {
    #[inline(always)]
    fn compute<S: Simd, const FULL: bool>(&mut self, simd: S, row: usize, channels: Range<usize>) {
        let f = self.mixed.features;
        let vectors = !self.of.mu.is_empty();
        let ([of_q, of_mu, of_qmu], width) = parts(f, vectors);
        let v = self.mixed.load::<S, FULL>(simd, row, 0, &channels);
        let u = self.mixed.load::<S, FULL>(simd, row, 1, &channels);
        let g = load::<S, T, FULL>(simd, &self.of.q[at(row, f, 0, &channels)]);
        store::<S, T, FULL>(&mut self.of_a[at(row, width, of_q, &channels)], g);
        store::<S, T, FULL>(&mut self.of_a[at(row, width, of_qmu, &channels)], g * dot(v, u));
        if vectors {
            let m = axes::<S, T, FULL>(simd, self.of.mu, f, row, &channels);
            store::<S, T, FULL>(&mut self.of_a[at(row, width, of_mu, &channels)], dot(m, u));
        }
    }
}

/// The three axes of channels of an atom, of a tensor [rows, 3, F].
#[inline(always)]
fn axes<S: Simd, T: Element, const FULL: bool>(
    simd: S,
    values: &[T],
    features: usize,
    row: usize,
    channels: &Range<usize>,
) -> [Lane<S, T>; 3] {
    let x = load::<S, T, FULL>(simd, &values[at(3 * row, features, 0, channels)]);
    let y = load::<S, T, FULL>(simd, &values[at(3 * row + 1, features, 0, channels)]);
    let z = load::<S, T, FULL>(simd, &values[at(3 * row + 2, features, 0, channels)]);
    [x, y, z]
}

pub(super) fn update_backward<T: Element>(mixed: Mixed<'_, T>, of: OfOutputs<'_, T>, of_a: &mut [T]) {
    let f = mixed.features;
    run(of.q.len() / f, f, UpdateBackward { mixed, of, of_a });
}

struct MixedBackward<'a, T> {
    mixed: Mixed<'a, T>,
    a: &'a [T],
    norm: &'a [T],
    of_context: &'a [T],
    of_mu: &'a [T],
    of_q: &'a mut [T],
    of_mixed: &'a mut [T],
}

impl<T: Element> Kernel<T> for MixedBackward<'_, T> {
    #[inline(always)]
    fn compute<S: Simd, const FULL: bool>(&mut self, simd: S, row: usize, channels: Range<usize>) {
        let f = self.mixed.features;
        let vectors = !self.of_mu.is_empty();
        let ([_, of_mu, of_qmu], width) = parts(f, vectors);
        let v = self.mixed.load::<S, FULL>(simd, row, 0, &channels);
        let u = self.mixed.load::<S, FULL>(simd, row, 1, &channels);
        let of_q = &mut self.of_q[at(row, f, 0, &channels)];
        let g = load::<S, T, FULL>(simd, of_q);
        let along = g * load::<S, T, FULL>(simd, &self.a[at(row, width, of_qmu, &channels)]);
        let norm = load::<S, T, FULL>(simd, &self.norm[at(row, f, 0, &channels)]);
        let of_norm = load::<S, T, FULL>(simd, &self.of_context[at(row, 2 * f, f, &channels)]);
        // Lanes beyond the channels hold the norm 0, and their quotient is not stored.
        let by_norm = of_norm / norm;
        unroll!(axis in 0..3 => {
            let of_v = by_norm.mul_add(v[axis], along * u[axis]);
            store::<S, T, FULL>(&mut self.of_mixed[at(3 * row + axis, 2 * f, 0, &channels)], of_v);
        });
        if vectors {
            let a_mu = load::<S, T, FULL>(simd, &self.a[at(row, width, of_mu, &channels)]);
            let m = axes::<S, T, FULL>(simd, self.of_mu, f, row, &channels);
            unroll!(axis in 0..3 => {
                let of_u = a_mu.mul_add(m[axis], along * v[axis]);
                store::<S, T, FULL>(&mut self.of_mixed[at(3 * row + axis, 2 * f, f, &channels)], of_u);
            });
        } else {
            unroll!(axis in 0..3 => {
                store::<S, T, FULL>(&mut self.of_mixed[at(3 * row + axis, 2 * f, f, &channels)], along * v[axis]);
            });
        }
        let direct = load::<S, T, FULL>(simd, &self.of_context[at(row, 2 * f, 0, &channels)]);
        store::<S, T, FULL>(of_q, g + direct);
    }
}

pub(super) fn mixed_backward<T: Element>(
    mixed: Mixed<'_, T>,
    a: &[T],
    norm: &[T],
    of_context: &[T],
    of_mu: &[T],
    of_q: &mut [T],
    of_mixed: &mut [T],
) {
    let f = mixed.features;
    run(of_q.len() / f, f, MixedBackward { mixed, a, norm, of_context, of_mu, of_q, of_mixed });
}
