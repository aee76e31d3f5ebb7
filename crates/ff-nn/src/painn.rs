//! An interaction of PaiNN (arXiv 2102.03150).

use burn::module::Module;
use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use ff_kernels::host::layers::Activation;
use ff_model::weights::Linear;
use ff_ops::fused_message::{Features, Graph, LoadedFilter};
use ff_ops::vector_norm::vector_norm;
use ff_spec::Dtype;

use crate::activation::activate;
use crate::dense::Dense;
use crate::error::NetworkError;
use crate::network::NetworkBackend;
use crate::setup::Setup;

/// A message and an update, without the filter of the message.
#[derive(Module, Debug)]
pub struct Interaction<B: Backend> {
    context: [Dense<B>; 2],
    mix: Dense<B>,
    update: [Dense<B>; 2],
}

/// Weights in a file's form, in the order of the fields.
pub(crate) type Stored<'a> = (&'a [Linear; 2], &'a Linear, &'a [Linear; 2]);

fn mlp<B: Backend>([first, second]: &[Dense<B>; 2], activation: Activation, x: Tensor<B, 2>) -> Tensor<B, 2> {
    second.forward(activate(activation, first.forward(x)))
}

impl<B: Backend> Interaction<B> {
    pub(crate) fn new((context, mix, update): Stored<'_>, dtype: Dtype, device: &B::Device) -> Self {
        let dense = |linear: &Linear| Dense::from_linear(linear, dtype, device);
        Self { context: context.each_ref().map(dense), mix: dense(mix), update: update.each_ref().map(dense) }
    }

    pub(crate) fn to_linears(&self) -> ([Linear; 2], Linear, [Linear; 2]) {
        let [context, update] = [&self.context, &self.update].map(|pair| pair.each_ref().map(Dense::to_linear));
        (context, self.mix.to_linear(), update)
    }
}

impl<B: NetworkBackend> Interaction<B> {
    /// q [n_atoms, F] and μ [n_atoms, 3, F] of the next layer; after the last there is no μ, as nothing would read it.
    pub(crate) fn forward(
        &self,
        setup: &Setup<B>,
        graph: &Graph<B>,
        filter: &LoadedFilter<B>,
        (q, mu): (Tensor<B, 2>, Tensor<B, 3>),
        last: bool,
    ) -> Result<(Tensor<B, 2>, Option<Tensor<B, 3>>), NetworkError> {
        let [n_atoms, f] = q.dims();
        let (activation, epsilon) = (setup.config().activation, setup.config().epsilon);
        let nodes = mlp(&self.context, activation, q.clone());
        let sums = setup.kernels().forward(graph, Features { nodes, vectors: Some(mu.clone()) }, filter)?;
        let q = q + sums.nodes;
        let mu = mu + sums.vectors.expect("a message of PaiNN has vectors");

        let mixed = self.mix.forward(mu.clone().reshape([3 * n_atoms, f])).reshape([n_atoms, 3, 2 * f]);
        let (v, u) = (mixed.clone().narrow(2, 0, f), mixed.narrow(2, f, f));
        let norm = vector_norm(v.clone(), epsilon)?;
        let gates = mlp(&self.update, activation, Tensor::cat(vec![q.clone(), norm], 1));
        let gate = |part: usize| gates.clone().narrow(1, part * f, f);
        let inner = (v * u.clone()).sum_dim(1).squeeze_dim::<2>(1);
        let q = q + gate(0) + gate(2) * inner;
        let mu = (!last).then(|| mu + u * gate(1).unsqueeze_dim::<3>(1));
        Ok((q, mu))
    }
}
