//! An interaction of PaiNN (arXiv 2102.03150).

use burn::module::Module;
use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use ff_kernels::host::layers::Activation;
use ff_model::weights::Linear;
use ff_ops::fused_message::{Features, Graph, LoadedFilter};
use ff_ops::vector_norm::vector_norm_with;
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

/// What the backward of an interaction reads.
pub(crate) struct Kept<B: Backend> {
    /// Pre-activations before the message, [n_atoms, F].
    pub hidden: Tensor<B, 2>,
    /// s, [n_atoms, 3F].
    pub nodes: Tensor<B, 2>,
    /// μ before the message, [n_atoms, 3, F].
    pub vectors: Tensor<B, 3>,
    /// V, [n_atoms, 3, F].
    pub v: Tensor<B, 3>,
    /// U, [n_atoms, 3, F].
    pub u: Tensor<B, 3>,
    /// √(Σ V² + ε), [n_atoms, F].
    pub norm: Tensor<B, 2>,
    /// Σ_xyz V ⊙ U, [n_atoms, F].
    pub inner: Tensor<B, 2>,
    /// Pre-activations of the update, [n_atoms, F].
    pub hidden_update: Tensor<B, 2>,
    /// (a_q, a_μ, a_qμ), [n_atoms, 3F].
    pub gates: Gates<B>,
}

/// (a_q, a_μ, a_qμ) [n_atoms, 3F], or (a_q, a_qμ) [n_atoms, 2F] of a last layer that has no more.
pub(crate) struct Gates<B: Backend>(Tensor<B, 2>);

impl<B: Backend> Gates<B> {
    fn part(&self, part: usize, features: usize) -> Tensor<B, 2> {
        self.0.clone().narrow(1, part * features, features)
    }

    /// a_q [n_atoms, F].
    pub fn scalar(&self, features: usize) -> Tensor<B, 2> {
        self.part(0, features)
    }

    /// a_μ [n_atoms, 1, F], where there is one.
    pub fn vector(&self, features: usize) -> Tensor<B, 3> {
        self.part(1, features).unsqueeze_dim(1)
    }

    /// a_qμ [n_atoms, F].
    pub fn inner(&self, features: usize) -> Tensor<B, 2> {
        self.part(self.0.dims()[1] / features - 1, features)
    }
}

/// q and μ of the next layer, and what the backward of this reads.
pub(crate) type Next<B> = (Tensor<B, 2>, Option<Tensor<B, 3>>, Kept<B>);

/// The pre-activations of a hidden layer, and what follows it.
fn mlp<B: Backend>(
    [first, second]: &[Dense<B>; 2],
    activation: Activation,
    x: Tensor<B, 2>,
) -> (Tensor<B, 2>, Tensor<B, 2>) {
    let hidden = first.forward(x);
    (hidden.clone(), second.forward(activate(activation, hidden)))
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
    /// q [n_atoms, F] and μ [n_atoms, 3, F] of the next layer; after the last there is no μ, as nothing would read it. With what
    /// the backward reads.
    pub(crate) fn forward(
        &self,
        setup: &Setup<B>,
        graph: &Graph<B>,
        filter: &LoadedFilter<B>,
        (q, mu): (Tensor<B, 2>, Tensor<B, 3>),
        last: bool,
    ) -> Result<Next<B>, NetworkError> {
        let [n_atoms, f] = q.dims();
        let (activation, epsilon) = (setup.config().activation, setup.config().epsilon);
        let (hidden, nodes) = mlp(&self.context, activation, q.clone());
        let vectors = mu.clone();
        let features = Features { nodes: nodes.clone(), vectors: Some(mu.clone()) };
        let sums = setup.kernels().forward(graph, features, filter)?;
        let q = q + sums.nodes;
        let mu = mu + sums.vectors.expect("a message of PaiNN has vectors");

        let mixed = self.mix.forward(mu.clone().reshape([3 * n_atoms, f])).reshape([n_atoms, 3, 2 * f]);
        let (v, u) = (mixed.clone().narrow(2, 0, f), mixed.narrow(2, f, f));
        let norm = vector_norm_with(v.clone(), epsilon, setup.tables())?;
        let (hidden_update, gates) = mlp(&self.update, activation, Tensor::cat(vec![q.clone(), norm.clone()], 1));
        let gates = Gates(gates);
        let inner = (v.clone() * u.clone()).sum_dim(1).squeeze_dim::<2>(1);
        let q = q + gates.scalar(f) + gates.inner(f) * inner.clone();
        let mu = (!last).then(|| mu + u.clone() * gates.vector(f));
        Ok((q, mu, Kept { hidden, nodes, vectors, v, u, norm, inner, hidden_update, gates }))
    }
}
