//! The head: energies of atoms from their features, and back.

use burn::tensor::Tensor;
use ff_kernels::host::layers::Activation;
use ff_model::weights::Linear;
use ff_spec::Dtype;

use crate::activation::{activate, slope};
use crate::dense::{Dense, Transposed};
use crate::network::NetworkBackend;

/// Dense layers with an activation between.
#[derive(Debug)]
pub(super) struct Head<B: NetworkBackend> {
    hidden: Vec<(Dense<B>, Transposed<B>)>,
    last: (Dense<B>, Transposed<B>),
    activation: Activation,
}

impl<B: NetworkBackend> Head<B> {
    /// Of the weights of a file.
    ///
    /// # Panics
    /// Without a layer.
    pub fn new(layers: &[Linear], activation: Activation, dtype: Dtype, device: &B::Device) -> Self {
        let pair =
            |linear: &Linear| (Dense::from_linear(linear, dtype, device), Transposed::new(linear, dtype, device));
        let (last, hidden) = layers.split_last().expect("a head has a layer");
        Self { hidden: hidden.iter().map(pair).collect(), last: pair(last), activation }
    }

    /// Energies [n_atoms, 1] and, where wanted, the gradient of their sum in q [n_atoms, F].
    pub fn run(&self, q: Tensor<B, 2>, gradient: bool) -> (Tensor<B, 2>, Option<Tensor<B, 2>>) {
        let [n_atoms, _] = q.dims();
        let mut x = q;
        let mut kept = Vec::new();
        for (dense, _) in &self.hidden {
            let hidden = dense.forward(x);
            x = activate(self.activation, hidden.clone());
            if gradient {
                kept.push(hidden);
            }
        }
        let energies = self.last.0.forward(x);
        let of_q = gradient.then(|| {
            // In what the last layer reads it is a row of weights, for all atoms.
            let row = self.last.1.weight();
            let [_, width] = row.dims();
            let of_last = row.expand([n_atoms, width]);
            let back = |of: Tensor<B, 2>, ((_, weights), hidden): (&(_, Transposed<B>), Tensor<B, 2>)| {
                weights.backward(slope(self.activation, hidden) * of)
            };
            self.hidden.iter().zip(kept).rev().fold(of_last, back)
        });
        (energies, of_q)
    }
}
