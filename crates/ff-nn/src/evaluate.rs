//! Energies and their derivatives.

use burn::module::{AutodiffModule, Module};
use burn::tensor::Tensor;
use burn::tensor::backend::{AutodiffBackend, Backend};
use ff_ops::burn_dtype;
use ff_ops::force_scatter::{edge_vec, strained};

use crate::batch::Batch;
use crate::error::NetworkError;
use crate::network::{Network, NetworkBackend};
use crate::setup::Setup;

/// What a network says of a batch.
#[derive(Clone, Debug)]
pub struct Evaluation<B: Backend> {
    /// Energies of systems without their offsets, [n_systems], eV.
    pub energies: Tensor<B, 1>,
    /// F = −∂E/∂x, [n_atoms, 3], eV/Å.
    pub forces: Tensor<B, 2>,
    /// ∂E/∂ε, [n_systems, 3, 3], eV, where wanted; over the volume, the stress.
    pub strain: Option<Tensor<B, 3>>,
}

/// Energies, forces and, where wanted, strain derivatives, by one backward on the graph of `A`, which tracks positions and strain
/// alone. Where the backend beneath has a graph too, as with `A = Autodiff<Autodiff<B>>`, all of them have gradients in the weights.
///
/// # Errors
/// [`NetworkError`] where tensors do not fit together or the backend has no second derivative.
pub fn evaluate<A: AutodiffBackend + NetworkBackend>(
    network: &Network<A::InnerBackend>,
    setup: &Setup<A>,
    batch: &Batch<A>,
    strain: bool,
) -> Result<Evaluation<A::InnerBackend>, NetworkError> {
    let outer = Network::<A>::from_inner(network.clone()).no_grad();
    let positions = batch.positions().clone().require_grad();
    let mut vectors = edge_vec(batch.graph(), positions.clone(), Some(batch.graph().edge_vec().clone()))?;
    let (device, dtype) = (positions.device(), burn_dtype(network.dtype()));
    let shape = [batch.n_systems(), 3, 3];
    let strain = strain.then(|| Tensor::<A, 3>::zeros(shape, (&device, dtype)).require_grad());
    if let Some(strain) = &strain {
        vectors = strained(vectors, strain.clone(), batch.systems())?;
    }
    let energies = outer.energies(setup, batch, vectors)?;
    let gradients = energies.clone().sum().backward();
    // An energy that depends on no edge has no gradient, which means zero.
    let zeros = || Tensor::zeros([batch.n_atoms(), 3], (&device, dtype));
    let forces = positions.grad(&gradients).map_or_else(zeros, |gradient| -gradient);
    let of_strain =
        |strain: Tensor<A, 3>| strain.grad(&gradients).unwrap_or_else(|| Tensor::zeros(shape, (&device, dtype)));
    Ok(Evaluation { energies: energies.inner(), forces, strain: strain.map(of_strain) })
}
