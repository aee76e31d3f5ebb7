//! An interaction of SchNet (arXiv 1706.08566).

use burn::module::Module;
use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use ff_model::weights::Linear;
use ff_ops::fused_message::{Features, Graph, LoadedFilter};
use ff_spec::Dtype;

use crate::activation::activate;
use crate::dense::Dense;
use crate::error::NetworkError;
use crate::network::NetworkBackend;
use crate::setup::Setup;

/// What the backward of an interaction reads.
pub(crate) struct Kept<B: Backend> {
    /// y, [n_atoms, filters].
    pub nodes: Tensor<B, 2>,
    /// Pre-activations after the message, [n_atoms, F].
    pub hidden: Tensor<B, 2>,
}

/// A continuous-filter convolution between dense layers, without its filter.
#[derive(Module, Debug)]
pub struct Interaction<B: Backend> {
    inputs: Dense<B>,
    output: [Dense<B>; 2],
}

impl<B: Backend> Interaction<B> {
    pub(crate) fn new((inputs, output): (&Linear, &[Linear; 2]), dtype: Dtype, device: &B::Device) -> Self {
        let dense = |linear: &Linear| Dense::from_linear(linear, dtype, device);
        Self { inputs: dense(inputs), output: output.each_ref().map(dense) }
    }

    pub(crate) fn to_linears(&self) -> (Linear, [Linear; 2]) {
        (self.inputs.to_linear(), self.output.each_ref().map(Dense::to_linear))
    }
}

impl<B: NetworkBackend> Interaction<B> {
    /// x [n_atoms, F] of the next layer, with what the backward reads.
    pub(crate) fn forward(
        &self,
        setup: &Setup<B>,
        graph: &Graph<B>,
        filter: &LoadedFilter<B>,
        x: Tensor<B, 2>,
    ) -> Result<(Tensor<B, 2>, Kept<B>), NetworkError> {
        let nodes = self.inputs.forward(x.clone());
        let sums = setup.kernels().forward(graph, Features { nodes: nodes.clone(), vectors: None }, filter)?.nodes;
        let [first, second] = &self.output;
        let hidden = first.forward(sums);
        let x = x + second.forward(activate(setup.config().activation, hidden.clone()));
        Ok((x, Kept { nodes, hidden }))
    }
}
