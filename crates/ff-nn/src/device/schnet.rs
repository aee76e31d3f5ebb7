//! SchNet: convolutions and dense layers, then the same backwards.

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
use crate::schnet::Interaction;

/// The weights of one interaction.
#[derive(Debug)]
pub(super) struct Layer<B: NetworkBackend> {
    interaction: Interaction<B>,
    filter: LoadedFilter<B>,
    inputs: Transposed<B>,
    output: [Transposed<B>; 2],
}

impl<B: NetworkBackend> Layer<B> {
    /// Of the weights of a file.
    pub fn new(
        (inputs, output): (&Linear, &[Linear; 2]),
        filter: LoadedFilter<B>,
        dtype: Dtype,
        device: &B::Device,
    ) -> Self {
        let transposed = |linear: &Linear| Transposed::new(linear, dtype, device);
        Self {
            interaction: Interaction::new((inputs, output), dtype, device),
            filter,
            inputs: transposed(inputs),
            output: output.each_ref().map(transposed),
        }
    }
}

/// Energies of atoms with features x [n_atoms, F] and, where wanted, gradients in edge vectors.
pub(super) fn run<B: NetworkBackend>(
    layers: &[Layer<B>],
    run: &Run<'_, B>,
    mut x: Tensor<B, 2>,
) -> Result<Evaluated<B>, NetworkError> {
    let mut all = Vec::with_capacity(layers.len());
    for layer in layers {
        let kept;
        (x, kept) = layer.interaction.forward(run.setup, run.graph, &layer.filter, x)?;
        if run.gradients {
            all.push(kept);
        }
    }
    let (energies, of_x) = run.head.run(x, run.gradients);
    let Some(mut of_x) = of_x else { return Ok(Evaluated { energies, edge_grad: None }) };
    let mut edge_grad = None;
    for (l, (layer, kept)) in layers.iter().zip(all).enumerate().rev() {
        let [first, second] = &layer.output;
        let of_hidden = second.backward(of_x.clone()) * slope(run.setup.config().activation, kept.hidden);
        let cotangents = Features { nodes: first.backward(of_hidden), vectors: None };
        let features = Features { nodes: kept.nodes, vectors: None };
        // Nothing reads what the features of the first layer depend on.
        let wanted = Wanted { nodes: l > 0, edge_vec: true, filter: false };
        let found = run.setup.kernels().backward(run.graph, features, &layer.filter, cotangents, wanted)?;
        edge_grad = found.edge_vec.map(|own| add(edge_grad, own));
        if let Some(of_nodes) = found.nodes {
            of_x = of_x + layer.inputs.backward(of_nodes);
        }
    }
    Ok(Evaluated { energies, edge_grad })
}
