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
    /// x [n_atoms, F] of the next layer.
    pub(crate) fn forward(
        &self,
        setup: &Setup<B>,
        graph: &Graph<B>,
        filter: &LoadedFilter<B>,
        x: Tensor<B, 2>,
    ) -> Result<Tensor<B, 2>, NetworkError> {
        let nodes = self.inputs.forward(x.clone());
        let sums = setup.kernels().forward(graph, Features { nodes, vectors: None }, filter)?.nodes;
        let [first, second] = &self.output;
        Ok(x + second.forward(activate(setup.config().activation, first.forward(sums))))
    }
}
