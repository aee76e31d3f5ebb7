//! What of a model is not trained.

use std::sync::Arc;

use ff_model::config::{Config, Kind};
use ff_model::weights::Weights;
use ff_ops::fused_message::{FusedMessageBackend, Layer};
use ff_spec::fused_message::{Activation, FilterKind, Radial, Reduction, Variant};
use ff_structure::Structure;
use ff_tables::Table;

use crate::error::NetworkError;

/// What of a model is not trained: what it is, its radial functions, the energies of its atoms, and the kernels of its messages.
#[derive(Debug)]
pub struct Setup<B: FusedMessageBackend> {
    config: Config,
    radial: Radial<f64>,
    /// By atomic number, eV; may be empty.
    atomref: Vec<f64>,
    tables: Arc<[Table]>,
    kernels: Layer<B>,
}

impl<B: FusedMessageBackend> Setup<B> {
    /// Of a model; of its weights the radial functions and the energies of atoms are read. Kernels run under their default
    /// configurations.
    ///
    /// # Errors
    /// [`NetworkError`] for radial functions without kernels.
    pub fn new(config: &Config, weights: &Weights, device: &B::Device) -> Result<Self, NetworkError> {
        Self::with_tables(config, weights, Vec::new(), device)
    }

    /// As [`Setup::new`], with kernels under the nearest configurations that `tables` hold for the device.
    ///
    /// # Errors
    /// As [`Setup::new`].
    pub fn with_tables(
        config: &Config,
        weights: &Weights,
        tables: impl Into<Arc<[Table]>>,
        device: &B::Device,
    ) -> Result<Self, NetworkError> {
        let tables = tables.into();
        let (basis, cutoff) = config.radial_names();
        let variant = Variant {
            message: config.message(),
            filter: match config.kind {
                Kind::Painn => FilterKind::Linear,
                Kind::Schnet => FilterKind::Mlp,
            },
            radial: Some((basis.to_owned(), cutoff.to_owned())),
            reduction: Reduction::Receiver,
        };
        Ok(Self {
            kernels: Layer::new(&variant, &weights.radial, tables.clone(), device)?,
            config: config.clone(),
            radial: weights.radial.clone(),
            atomref: weights.atomref.clone(),
            tables,
        })
    }

    /// The model.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Parameters of the radial functions, in Å.
    pub fn radial(&self) -> &Radial<f64> {
        &self.radial
    }

    /// Energies of atoms by atomic number, eV; empty where there are none.
    pub fn atomref(&self) -> &[f64] {
        &self.atomref
    }

    /// What is added to the energy of a structure beside what is trained, eV: in f64, since totals are large beside what differs
    /// between structures.
    pub fn offset(&self, structure: &Structure) -> f64 {
        let of = |z: &u8| self.atomref.get(usize::from(*z)).copied().unwrap_or(0.0) + self.config.offset_per_atom;
        structure.species.iter().map(of).sum()
    }

    pub(crate) fn filter_activation(&self) -> Activation {
        self.config.activation
    }

    pub(crate) fn tables(&self) -> &[Table] {
        &self.tables
    }

    pub(crate) fn kernels(&self) -> &Layer<B> {
        &self.kernels
    }
}
