//! Dense layers, by the matrix product of the crate `gemm` or in eight bits.

use gemm::{Parallelism, gemm};

use super::int8::{self, Level};
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
    forward: Matrix<T>,
    /// [outputs, inputs].
    backward: Matrix<T>,
    /// [outputs]; empty where there is none.
    bias: Vec<T>,
}

/// The weights of one direction.
#[derive(Clone, Debug)]
enum Matrix<T> {
    Full(Aligned<T>),
    Int8(int8::Matrix),
}

impl<T: Element> Dense<T> {
    /// Of `weights` [outputs, inputs], as PyTorch's `Linear` has them, and `bias` [outputs] or empty.
    ///
    /// # Panics
    /// For lengths that do not fit.
    pub fn new(inputs: usize, outputs: usize, weights: &[T], bias: &[T]) -> Self {
        check(inputs, outputs, weights, bias);
        let mut forward = Aligned::zeros(weights.len());
        for (o, row) in weights.chunks_exact(inputs.max(1)).enumerate() {
            for (i, w) in row.iter().enumerate() {
                forward[i * outputs + o] = *w;
            }
        }
        let (forward, backward) = (Matrix::Full(forward), Matrix::Full(Aligned::from(weights)));
        Self { inputs, outputs, forward, backward, bias: bias.to_vec() }
    }

    /// The same with weights in eight bits, a scale for each output; inputs, and gradients of the backward, are rounded to eight
    /// bits row by row, products are summed as integers, and biases are as they are. The backward is that of the rounded weights,
    /// as if inputs were not rounded.
    ///
    /// # Panics
    /// For lengths that do not fit, and a level that this processor does not have.
    pub fn int8(inputs: usize, outputs: usize, weights: &[T], bias: &[T], level: Level) -> Self {
        check(inputs, outputs, weights, bias);
        assert!(Level::available().contains(&level), "this processor has no {}", level.name());
        let (integers, scales) = int8::quantised(inputs, weights);
        let at = |output: usize, input: usize| integers[output * inputs + input];
        // Outputs are what the backward sums over, so that their scales go to the gradients before these are rounded.
        let forward = int8::Matrix::new(level, [inputs, outputs], |i, o| at(o, i), Vec::new(), scales.clone());
        let backward = int8::Matrix::new(level, [outputs, inputs], at, scales, vec![1.0; inputs]);
        let (forward, backward) = (Matrix::Int8(forward), Matrix::Int8(backward));
        Self { inputs, outputs, forward, backward, bias: bias.to_vec() }
    }

    /// Bytes that it takes.
    pub fn bytes(&self) -> usize {
        let matrix = |matrix: &Matrix<T>| match matrix {
            Matrix::Full(weights) => size_of_val(&weights[..]),
            Matrix::Int8(weights) => weights.bytes(),
        };
        matrix(&self.forward) + matrix(&self.backward) + size_of_val(&self.bias[..])
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
        self.forward.product([self.inputs, self.outputs], x, y, accumulate);
    }

    pub(super) fn backward(&self, of_y: &[T], of_x: &mut [T], accumulate: bool) {
        self.backward.product([self.outputs, self.inputs], of_y, of_x, accumulate);
    }
}

fn check<T>(inputs: usize, outputs: usize, weights: &[T], bias: &[T]) {
    assert_eq!(weights.len(), inputs * outputs, "weights of [{outputs}, {inputs}]");
    assert!(bias.is_empty() || bias.len() == outputs, "{} biases of {outputs} outputs", bias.len());
}

impl<T: Element> Matrix<T> {
    fn product(&self, sizes: [usize; 2], x: &[T], y: &mut [T], accumulate: bool) {
        match self {
            Self::Full(weights) => product(weights, sizes, x, y, accumulate),
            Self::Int8(weights) => weights.product(x, y, accumulate),
        }
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
