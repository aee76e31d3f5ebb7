//! What moves atoms.

use ff_model::host::Real;
use ff_model::{HostModel, Prediction, Wanted};
use ff_structure::Structure;

/// Energies and their derivatives as a function of structures.
pub trait Potential {
    /// Computes every structure; of each the numbers that it has alone. `out` gets as many predictions as there are structures.
    ///
    /// # Errors
    /// The first structure that cannot be computed.
    fn evaluate(
        &mut self,
        structures: &[Structure],
        wanted: Wanted,
        out: &mut Vec<Prediction>,
    ) -> Result<(), PotentialError>;

    /// How often neighbour lists were built.
    fn rebuilds(&self) -> u64;
}

/// A structure that cannot be computed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("system {system}: {reason}")]
pub struct PotentialError {
    /// Its number, from 0, in the call.
    pub system: usize,
    /// Why.
    pub reason: String,
}

/// A model on the host.
pub struct ModelPotential<T: Real> {
    model: HostModel<T>,
    rebuilds: u64,
}

impl<T: Real> ModelPotential<T> {
    /// The potential of a model.
    pub fn new(model: HostModel<T>) -> Self {
        Self { model, rebuilds: 0 }
    }
}

impl<T: Real> Potential for ModelPotential<T> {
    fn evaluate(
        &mut self,
        structures: &[Structure],
        wanted: Wanted,
        out: &mut Vec<Prediction>,
    ) -> Result<(), PotentialError> {
        // Lists are built anew in every evaluation.
        self.rebuilds += 1;
        *out = self
            .model
            .predict(structures, wanted)
            .map_err(|error| PotentialError { system: error.index(), reason: error.reason() })?;
        Ok(())
    }

    fn rebuilds(&self) -> u64 {
        self.rebuilds
    }
}

impl<P: Potential + ?Sized> Potential for Box<P> {
    fn evaluate(
        &mut self,
        structures: &[Structure],
        wanted: Wanted,
        out: &mut Vec<Prediction>,
    ) -> Result<(), PotentialError> {
        (**self).evaluate(structures, wanted, out)
    }

    fn rebuilds(&self) -> u64 {
        (**self).rebuilds()
    }
}
