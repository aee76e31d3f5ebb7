//! Dense layers whose weights stand among all others, and their gradients.

use gemm::{Parallelism, gemm};

use super::Real;

/// Where a dense layer's weights [inputs, outputs] and biases are among all.
#[derive(Clone, Debug)]
pub(super) struct DenseAt {
    pub inputs: usize,
    pub outputs: usize,
    pub weight: usize,
    pub bias: Option<usize>,
}

impl DenseAt {
    pub fn weights<'a, T>(&self, all: &'a [T]) -> &'a [T] {
        &all[self.weight..][..self.inputs * self.outputs]
    }

    /// x·W + b of rows x.
    pub fn forward<T: Real>(&self, all: &[T], x: &[T]) -> Vec<T> {
        let rows = x.len() / self.inputs;
        let mut y = Vec::with_capacity(rows * self.outputs);
        match self.bias {
            Some(bias) => (0..rows).for_each(|_| y.extend_from_slice(&all[bias..][..self.outputs])),
            None => y.resize(rows * self.outputs, T::default()),
        }
        let (x, w) = (Matrix::rows(x, self.inputs), Matrix::rows(self.weights(all), self.outputs));
        product(&mut y, [rows, self.inputs, self.outputs], x, w, self.bias.is_some());
        y
    }

    /// x·W.
    pub fn linear<T: Real>(&self, all: &[T], x: &[T]) -> Vec<T> {
        Self { bias: None, ..self.clone() }.forward(all, x)
    }

    /// ȳ·Wᵀ.
    pub fn backward<T: Real>(&self, all: &[T], y: &[T]) -> Vec<T> {
        let rows = y.len() / self.outputs;
        let mut x = vec![T::default(); rows * self.inputs];
        let (y, w) = (Matrix::rows(y, self.outputs), Matrix::columns(self.weights(all), self.outputs));
        product(&mut x, [rows, self.outputs, self.inputs], y, w, false);
        x
    }

    /// Adds xᵀ·ȳ to the gradient in W, and Σ ȳ to that in b, of values; of tangents only the former, as biases have none.
    pub fn gather<T: Real>(&self, gradient: &mut [T], x: &[T], y: &[T], values: bool) {
        let rows = x.len() / self.inputs;
        let own = &mut gradient[self.weight..][..self.inputs * self.outputs];
        let (xt, y_) = (Matrix::columns(x, self.inputs), Matrix::rows(y, self.outputs));
        product(own, [self.inputs, rows, self.outputs], xt, y_, true);
        if let Some(bias) = self.bias.filter(|_| values) {
            for row in y.chunks_exact(self.outputs) {
                add(&mut gradient[bias..][..self.outputs], row);
            }
        }
    }
}

/// A matrix with the strides of its rows and columns.
#[derive(Clone, Copy)]
struct Matrix<'a, T> {
    values: &'a [T],
    strides: [isize; 2],
}

impl<'a, T> Matrix<'a, T> {
    /// Rows of `width` elements.
    fn rows(values: &'a [T], width: usize) -> Self {
        Self { values, strides: [width as isize, 1] }
    }

    /// The transpose of that.
    fn columns(values: &'a [T], width: usize) -> Self {
        Self { values, strides: [1, width as isize] }
    }
}

/// C = A·B or, where `accumulate`, C + A·B: A [m, k], B [k, n], C [m, n] in rows.
fn product<T: Real>(c: &mut [T], [m, k, n]: [usize; 3], a: Matrix<'_, T>, b: Matrix<'_, T>, accumulate: bool) {
    assert_eq!((a.values.len(), b.values.len(), c.len()), (m * k, k * n, m * n), "[{m}, {k}]·[{k}, {n}]");
    let one = T::from_f64(1.0);
    // SAFETY: A has m·k elements and B k·n, as was asserted, in rows or in columns without gaps; C is borrowed exclusively and has
    // m rows of n. Written as Cᵀ = Bᵀ·Aᵀ.
    unsafe {
        gemm(
            n,
            m,
            k,
            c.as_mut_ptr(),
            n as isize,
            1,
            accumulate,
            b.values.as_ptr(),
            b.strides[0],
            b.strides[1],
            a.values.as_ptr(),
            a.strides[0],
            a.strides[1],
            one,
            one,
            false,
            false,
            false,
            Parallelism::None,
        );
    }
}

pub(super) fn add<T: Real>(sum: &mut [T], other: &[T]) {
    assert_eq!(sum.len(), other.len());
    sum.iter_mut().zip(other).for_each(|(sum, other)| *sum += *other);
}

pub(super) fn sum<T: Real>(mut a: Vec<T>, b: &[T]) -> Vec<T> {
    add(&mut a, b);
    a
}
