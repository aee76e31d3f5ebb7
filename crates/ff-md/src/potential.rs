//! What moves atoms.

use ff_model::host::Real;
use ff_model::{HostModel, Neighbors, Prediction, Wanted};
use ff_structure::Structure;

/// Energies and their derivatives as a function of structures.
pub trait Potential {
    /// Computes every structure; of each the numbers that it has alone. `out` gets as many predictions as there are structures.
    ///
    /// # Errors
    /// The first structure that cannot be computed, or a fault.
    fn evaluate(
        &mut self,
        structures: &[Structure],
        wanted: Wanted,
        out: &mut Vec<Prediction>,
    ) -> Result<(), PotentialError>;

    /// How often neighbour lists were built again.
    fn rebuilds(&self) -> u64;
}

/// Why there are no energies.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum PotentialError {
    /// A structure that cannot be computed.
    #[error("system {system}: {reason}")]
    System {
        /// Its number, from 0, in the call.
        system: usize,
        /// Why.
        reason: String,
    },
    /// What computes has failed, whatever the structures.
    #[error("{0}")]
    Fault(String),
}

/// What lists reach further than the cutoff by, Å: atoms of a liquid take some ten femtoseconds to move by half of it.
pub const SKIN: f64 = 0.5;

/// A model on the host, with neighbour lists that are kept from step to step.
pub struct ModelPotential<T: Real> {
    model: HostModel<T>,
    neighbors: Neighbors,
}

impl<T: Real> ModelPotential<T> {
    /// The potential of a model.
    pub fn new(model: HostModel<T>) -> Self {
        Self { model, neighbors: Neighbors::new(SKIN).expect("a skin") }
    }
}

impl<T: Real> Potential for ModelPotential<T> {
    fn evaluate(
        &mut self,
        structures: &[Structure],
        wanted: Wanted,
        out: &mut Vec<Prediction>,
    ) -> Result<(), PotentialError> {
        self.model
            .predict_with(structures, wanted, &mut self.neighbors, out)
            .map_err(|error| PotentialError::System { system: error.index(), reason: error.reason() })
    }

    fn rebuilds(&self) -> u64 {
        self.neighbors.rebuilds()
    }
}

impl<P: Potential + ?Sized> Potential for &mut P {
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
