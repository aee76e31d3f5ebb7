//! Dense layers.

use burn::module::{Module, Param};
use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};
use ff_model::weights::Linear;
use ff_ops::burn_dtype;
use ff_spec::Dtype;

/// y = x·W + b. Not Burn's `Linear`, whose forward (0.21) has no second derivative.
#[derive(Module, Debug)]
pub struct Dense<B: Backend> {
    /// [inputs, outputs].
    weight: Param<Tensor<B, 2>>,
    /// [outputs].
    bias: Option<Param<Tensor<B, 1>>>,
}

/// Wᵀ [outputs, inputs] of a dense layer, in the order in which the backward reads it.
#[derive(Debug)]
pub(crate) struct Transposed<B: Backend>(Tensor<B, 2>);

impl<B: Backend> Transposed<B> {
    /// Of the weights of a file.
    pub fn new(linear: &Linear, dtype: Dtype, device: &B::Device) -> Self {
        let shape = [linear.outputs, linear.inputs];
        Self(parameter(linear.weight.clone(), shape, dtype, device).val())
    }

    /// Gradients [rows, inputs] in what a layer reads, of those [rows, outputs] in what it gives.
    pub fn backward(&self, of_outputs: Tensor<B, 2>) -> Tensor<B, 2> {
        of_outputs.matmul(self.0.clone())
    }

    /// Wᵀ.
    pub fn weight(&self) -> Tensor<B, 2> {
        self.0.clone()
    }
}

/// Numbers as a parameter, rounded to `dtype`.
pub(crate) fn parameter<B: Backend, const D: usize>(
    values: Vec<f64>,
    shape: [usize; D],
    dtype: Dtype,
    device: &B::Device,
) -> Param<Tensor<B, D>> {
    let dtype = burn_dtype(dtype);
    Param::from_tensor(Tensor::from_data(TensorData::new(values, shape).convert_dtype(dtype), (device, dtype)))
}

/// The elements of a tensor, widened.
pub(crate) fn numbers<B: Backend, const D: usize>(tensor: &Tensor<B, D>) -> Vec<f64> {
    tensor.to_data().iter::<f64>().collect()
}

/// [columns, rows] of [rows, columns].
fn transposed(values: &[f64], [rows, columns]: [usize; 2]) -> Vec<f64> {
    (0..rows * columns).map(|at| values[at % rows * columns + at / rows]).collect()
}

impl<B: Backend> Dense<B> {
    /// Of the weights of a file.
    pub(crate) fn from_linear(linear: &Linear, dtype: Dtype, device: &B::Device) -> Self {
        let Linear { inputs, outputs, weight, bias } = linear;
        let weight = transposed(weight, [*outputs, *inputs]);
        Self {
            weight: parameter(weight, [*inputs, *outputs], dtype, device),
            bias: (!bias.is_empty()).then(|| parameter(bias.clone(), [*outputs], dtype, device)),
        }
    }

    /// As weights of a file.
    pub(crate) fn to_linear(&self) -> Linear {
        let [inputs, outputs] = self.weight.dims();
        Linear {
            inputs,
            outputs,
            weight: transposed(&numbers(&self.weight.val()), [inputs, outputs]),
            bias: self.bias.as_ref().map(|bias| numbers(&bias.val())).unwrap_or_default(),
        }
    }

    /// W [inputs, outputs].
    pub fn weight(&self) -> Tensor<B, 2> {
        self.weight.val()
    }

    /// b [outputs], where there is one.
    pub fn bias(&self) -> Option<Tensor<B, 1>> {
        self.bias.as_ref().map(Param::val)
    }

    /// [rows, outputs] of `x` [rows, inputs].
    pub fn forward(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        let y = x.matmul(self.weight());
        match self.bias() {
            Some(bias) => y + bias.unsqueeze(),
            None => y,
        }
    }
}
