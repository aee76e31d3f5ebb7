//! PaiNN: message and update of every layer, then the same backwards.

use burn::tensor::Tensor;
use ff_model::weights::Linear;
use ff_ops::fused_message::{Features, LoadedFilter};
use ff_spec::Dtype;
use ff_spec::fused_message::Wanted;

use super::{Evaluated, Run, add};
use crate::activation::slope;
use crate::dense::Transposed;
use crate::error::NetworkError;
use crate::network::NetworkBackend;
use crate::painn::{Interaction, Kept, Stored};

/// The weights of one interaction.
#[derive(Debug)]
pub(super) struct Layer<B: NetworkBackend> {
    interaction: Interaction<B>,
    filter: LoadedFilter<B>,
    context: [Transposed<B>; 2],
    mix: Transposed<B>,
    update: [Transposed<B>; 2],
}

impl<B: NetworkBackend> Layer<B> {
    /// Of the weights of a file. The last layer does not update vectors, which nothing reads after it.
    pub fn new(
        (context, mix, update): Stored<'_>,
        filter: LoadedFilter<B>,
        last: bool,
        dtype: Dtype,
        device: &B::Device,
    ) -> Self {
        let mut update = update.clone();
        if last {
            let (features, outputs) = (mix.inputs, &mut update[1]);
            outputs.weight.drain(features * features..2 * features * features);
            outputs.bias.drain(features..2 * features);
            outputs.outputs = 2 * features;
        }
        let transposed = |linear: &Linear| Transposed::new(linear, dtype, device);
        Self {
            interaction: Interaction::new((context, mix, &update), dtype, device),
            filter,
            context: context.each_ref().map(transposed),
            mix: transposed(mix),
            update: update.each_ref().map(transposed),
        }
    }

    /// Gradients in q and μ with the messages, of those in the next layer's; there, after the last layer, no μ is read.
    fn update_backward(
        &self,
        run: &Run<'_, B>,
        kept: &Kept<B>,
        of_q: Tensor<B, 2>,
        of_mu: Option<Tensor<B, 3>>,
    ) -> (Tensor<B, 2>, Tensor<B, 3>) {
        let [n_atoms, f] = of_q.dims();
        let Kept { v, u, norm, inner, hidden_update, gates, .. } = kept;
        let mut of_gates = vec![of_q.clone(), of_q.clone() * inner.clone()];
        if let Some(of_mu) = &of_mu {
            of_gates.insert(1, (of_mu.clone() * u.clone()).sum_dim(1).squeeze_dim(1));
        }
        let of_hidden = self.update[1].backward(Tensor::cat(of_gates, 1))
            * slope(run.setup.config().activation, hidden_update.clone());
        let of_context = self.update[0].backward(of_hidden);
        let by_norm = (of_context.clone().narrow(1, f, f) / norm.clone()).unsqueeze_dim::<3>(1);
        let along = (of_q.clone() * gates.inner(f)).unsqueeze_dim::<3>(1);
        let of_v = v.clone() * by_norm + u.clone() * along.clone();
        let through = v.clone() * along;
        let of_u = match &of_mu {
            Some(of_mu) => through + of_mu.clone() * gates.vector(f),
            None => through,
        };
        let of_mixed = Tensor::cat(vec![of_v, of_u], 2).reshape([3 * n_atoms, 2 * f]);
        let of_mu = add(of_mu, self.mix.backward(of_mixed).reshape([n_atoms, 3, f]));
        (of_q + of_context.narrow(1, 0, f), of_mu)
    }

    /// Gradients in q that came through the messages, of those in s.
    fn context_backward(&self, run: &Run<'_, B>, hidden: Tensor<B, 2>, of_nodes: Tensor<B, 2>) -> Tensor<B, 2> {
        let of_hidden = self.context[1].backward(of_nodes) * slope(run.setup.config().activation, hidden);
        self.context[0].backward(of_hidden)
    }
}

/// Energies of atoms with features q [n_atoms, F] and, where wanted, gradients in edge vectors.
pub(super) fn run<B: NetworkBackend>(
    layers: &[Layer<B>],
    run: &Run<'_, B>,
    mut q: Tensor<B, 2>,
) -> Result<Evaluated<B>, NetworkError> {
    let [n_atoms, f] = q.dims();
    let mut mu = Some(Tensor::<B, 3>::zeros([n_atoms, 3, f], (&q.device(), q.dtype())));
    let mut all = Vec::with_capacity(layers.len());
    for (l, layer) in layers.iter().enumerate() {
        let vectors = mu.take().expect("only the last layer has none");
        let last = l + 1 == layers.len();
        let kept;
        (q, mu, kept) = layer.interaction.forward(run.setup, run.graph, &layer.filter, (q, vectors), last)?;
        if run.gradients {
            all.push(kept);
        }
    }
    let (energies, of_q) = run.head.run(q, run.gradients);
    let Some(mut of_q) = of_q else { return Ok(Evaluated { energies, edge_grad: None }) };
    let (mut of_mu, mut edge_grad) = (None, None);
    for (l, (layer, kept)) in layers.iter().zip(all).enumerate().rev() {
        let (scalars, vectors) = layer.update_backward(run, &kept, of_q, of_mu);
        // Before the first layer there are no vectors, and nothing reads what its features depend on.
        let wanted = Wanted { nodes: l > 0, edge_vec: true, filter: false };
        let features = Features { nodes: kept.nodes, vectors: Some(kept.vectors) };
        let cotangents = Features { nodes: scalars.clone(), vectors: Some(vectors.clone()) };
        let found = run.setup.kernels().backward(run.graph, features, &layer.filter, cotangents, wanted)?;
        edge_grad = found.edge_vec.map(|own| add(edge_grad, own));
        of_q = match found.nodes {
            Some(of_nodes) => scalars + layer.context_backward(run, kept.hidden, of_nodes),
            None => scalars,
        };
        of_mu = Some(match found.vectors {
            Some(before) => vectors + before,
            None => vectors,
        });
    }
    Ok(Evaluated { energies, edge_grad })
}
