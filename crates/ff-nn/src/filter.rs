//! What is trained of a filter.

use burn::module::Module;
use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use ff_model::weights::Interaction as Stored;
use ff_ops::fused_message::FilterTensors;
use ff_spec::Dtype;
use ff_spec::fused_message::Activation;

use crate::dense::Dense;

/// The filter of an interaction: one dense layer on radial basis functions (PaiNN), or two with an activation between (SchNet).
#[derive(Module, Debug)]
pub struct Filter<B: Backend> {
    first: Dense<B>,
    second: Option<Dense<B>>,
}

impl<B: Backend> Filter<B> {
    pub(crate) fn new(stored: &Stored, dtype: Dtype, device: &B::Device) -> Self {
        let dense = |linear| Dense::from_linear(linear, dtype, device);
        match stored {
            Stored::Painn { filter, .. } => Self { first: dense(filter), second: None },
            Stored::Schnet { filter: [first, second], .. } => Self { first: dense(first), second: Some(dense(second)) },
        }
    }

    /// Its layers in order.
    pub(crate) fn layers(&self) -> (&Dense<B>, Option<&Dense<B>>) {
        (&self.first, self.second.as_ref())
    }

    /// As the fused message takes it; `activation` stands between two layers.
    pub(crate) fn tensors(&self, activation: Activation) -> FilterTensors<B> {
        let parts = |dense: &Dense<B>| -> (Tensor<B, 2>, Tensor<B, 1>) {
            (dense.weight(), dense.bias().expect("layers of filters have biases"))
        };
        let (a, b) = parts(&self.first);
        match &self.second {
            None => FilterTensors::Linear { a, b },
            Some(second) => {
                let (a2, b2) = parts(second);
                FilterTensors::Mlp { a1: a, b1: b, a2, b2, activation }
            }
        }
    }
}
