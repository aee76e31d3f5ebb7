//! Dense layers, by the matrix product of the crate `gemm`.

use gemm::{Parallelism, gemm};

use crate::{Aligned, Element};

/// The most inputs of one product: up to here `gemm` sums the inputs of a row in one pass, whatever the number of rows, and so
/// to the same bits.
const DEPTH: usize = 512;

/// y = x·W + b with its weights in the order of both directions, packed once for all calls.
#[derive(Clone, Debug)]
pub struct Dense<T> {
    inputs: usize,
    outputs: usize,
    /// [inputs, outputs].
    forward: Aligned<T>,
    /// [outputs, inputs].
    backward: Aligned<T>,
    /// [outputs]; empty where there is none.
    bias: Vec<T>,
}

impl<T: Element> Dense<T> {
    /// Of `weights` [outputs, inputs], as PyTorch's `Linear` has them, and `bias` [outputs] or empty.
    ///
    /// # Panics
    /// For lengths that do not fit.
    pub fn new(inputs: usize, outputs: usize, weights: &[T], bias: &[T]) -> Self {
        assert_eq!(weights.len(), inputs * outputs, "weights of [{outputs}, {inputs}]");
        assert!(bias.is_empty() || bias.len() == outputs, "{} biases of {outputs} outputs", bias.len());
        let mut forward = Aligned::zeros(weights.len());
        for (o, row) in weights.chunks_exact(inputs.max(1)).enumerate() {
            for (i, w) in row.iter().enumerate() {
                forward[i * outputs + o] = *w;
            }
        }
        Self { inputs, outputs, forward, backward: Aligned::from(weights), bias: bias.to_vec() }
    }

    /// Inputs.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// Outputs.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// The bias [outputs], or nothing.
    pub fn bias(&self) -> &[T] {
        &self.bias
    }

    pub(super) fn forward(&self, x: &[T], y: &mut [T], accumulate: bool) {
        let accumulate = if self.bias.is_empty() {
            accumulate
        } else {
            for row in y.chunks_exact_mut(self.outputs) {
                match accumulate {
                    true => row.iter_mut().zip(&self.bias).for_each(|(y, b)| *y += *b),
                    false => row.copy_from_slice(&self.bias),
                }
            }
            true
        };
        product(&self.forward, [self.inputs, self.outputs], x, y, accumulate);
    }

    pub(super) fn backward(&self, of_y: &[T], of_x: &mut [T], accumulate: bool) {
        product(&self.backward, [self.outputs, self.inputs], of_y, of_x, accumulate);
    }
}

/// y = x·M or, where `accumulate`, y + x·M: `matrix` [depth, width], `x` [rows, depth], `y` [rows, width].
fn product<T: Element>(matrix: &[T], [depth, width]: [usize; 2], x: &[T], y: &mut [T], mut accumulate: bool) {
    let rows = y.len() / width.max(1);
    assert_eq!((x.len(), y.len()), (rows * depth, rows * width), "rows of {depth} to rows of {width}");
    assert_eq!(matrix.len(), depth * width);
    let one = T::from_f64(1.0);
    for first in (0..depth).step_by(DEPTH) {
        let part = DEPTH.min(depth - first);
        // SAFETY: the matrix holds rows `first..first + part` of `width` elements, `x` as many columns of its `rows`, and `y`
        // is borrowed exclusively and holds `rows` of `width`, as was asserted.
        unsafe {
            gemm(
                width,
                rows,
                part,
                y.as_mut_ptr(),
                width as isize,
                1,
                accumulate,
                matrix.as_ptr().add(first * width),
                width as isize,
                1,
                x.as_ptr().add(first),
                depth as isize,
                1,
                one,
                one,
                false,
                false,
                false,
                Parallelism::None,
            );
        }
        accumulate = true;
    }
}
