//! What is trained of a model.

use burn::module::{Module, Param};
use burn::tensor::backend::Backend;
use burn::tensor::{IndexingUpdateOp, Tensor};
use ff_model::ModelFile;
use ff_model::config::{Aggregation, Config};
use ff_model::units::Unit;
use ff_model::weights::{Interaction as Stored, Weights};
use ff_ops::force_scatter::ForceScatterBackend;
use ff_ops::vector_norm::VectorNormBackend;
use ff_ops::{burn_dtype, spec_dtype};
use ff_spec::Dtype;

use crate::activation::activate;
use crate::batch::Batch;
use crate::dense::{Dense, numbers, parameter};
use crate::error::NetworkError;
use crate::filter::Filter;
use crate::setup::Setup;
use crate::{painn, schnet};

/// A backend that carries all ops of a network.
pub trait NetworkBackend: ForceScatterBackend + VectorNormBackend {}

impl<B: ForceScatterBackend + VectorNormBackend> NetworkBackend for B {}

/// One interaction, without its filter.
#[derive(Module, Debug)]
#[expect(clippy::large_enum_variant, reason = "a model has a few, all of one kind")]
pub enum Interaction<B: Backend> {
    /// Of PaiNN.
    Painn(painn::Interaction<B>),
    /// Of SchNet.
    Schnet(schnet::Interaction<B>),
}

impl<B: Backend> Interaction<B> {
    fn new(stored: &Stored, dtype: Dtype, device: &B::Device) -> Self {
        match stored {
            Stored::Painn { context, mix, update, .. } => {
                Self::Painn(painn::Interaction::new((context, mix, update), dtype, device))
            }
            Stored::Schnet { inputs, output, .. } => {
                Self::Schnet(schnet::Interaction::new((inputs, output), dtype, device))
            }
        }
    }

    fn to_stored(&self, filter: &Filter<B>) -> Stored {
        let (first, second) = filter.layers();
        match self {
            Self::Painn(interaction) => {
                let (context, mix, update) = interaction.to_linears();
                Stored::Painn { filter: first.to_linear(), context, mix, update }
            }
            Self::Schnet(interaction) => {
                let (inputs, output) = interaction.to_linears();
                let second = second.expect("a filter of SchNet has two layers");
                Stored::Schnet { inputs, filter: [first.to_linear(), second.to_linear()], output }
            }
        }
    }
}

/// The weights of a SchNet or a PaiNN, in f32 or f64.
#[derive(Module, Debug)]
pub struct Network<B: Backend> {
    /// [rows, F], by atomic number.
    embedding: Param<Tensor<B, 2>>,
    /// Of each layer, or the one that all share.
    filters: Vec<Filter<B>>,
    /// Likewise.
    interactions: Vec<Interaction<B>>,
    head: Vec<Dense<B>>,
}

/// Element `l`, or the one that all layers share.
fn of_layer<T>(all: &[T], l: usize) -> &T {
    &all[l.min(all.len() - 1)]
}

impl<B: Backend> Network<B> {
    /// Of weights as `ff-model` reads or [`random`](crate::weights::random) makes them, rounded to `dtype`. What layers share is
    /// taken from the first.
    pub fn from_weights(config: &Config, weights: &Weights, dtype: Dtype, device: &B::Device) -> Self {
        let layers = |shared: bool| &weights.interactions[..if shared { 1 } else { weights.interactions.len() }];
        let rows = weights.embedding.len() / config.features;
        // All weights of an interaction of SchNet are shared, those of its filter too.
        let shared_filters = match weights.interactions[0] {
            Stored::Painn { .. } => config.shared_filters,
            Stored::Schnet { .. } => config.shared_interactions,
        };
        Self {
            embedding: parameter(weights.embedding.clone(), [rows, config.features], dtype, device),
            filters: layers(shared_filters).iter().map(|stored| Filter::new(stored, dtype, device)).collect(),
            interactions: layers(config.shared_interactions)
                .iter()
                .map(|stored| Interaction::new(stored, dtype, device))
                .collect(),
            head: weights.head.iter().map(|linear| Dense::from_linear(linear, dtype, device)).collect(),
        }
    }

    /// The element type of its weights.
    pub fn dtype(&self) -> Dtype {
        spec_dtype(self.embedding.val().dtype()).expect("weights are made in f32 or f64")
    }

    /// Rows of the embedding: one more than the largest atomic number.
    pub fn rows(&self) -> usize {
        self.embedding.dims()[0]
    }
}

impl<B: NetworkBackend> Network<B> {
    /// Its weights, widened, with what is not trained.
    pub fn to_weights(&self, setup: &Setup<B>) -> Weights {
        let stored = |l| of_layer(&self.interactions, l).to_stored(of_layer(&self.filters, l));
        Weights {
            embedding: numbers(&self.embedding.val()),
            radial: setup.radial().clone(),
            interactions: (0..setup.config().layers).map(stored).collect(),
            head: self.head.iter().map(Dense::to_linear).collect(),
            atomref: setup.atomref().to_vec(),
        }
    }

    /// As a file under SchNetPack's names, with all that the config says in its metadata.
    pub fn to_file(&self, setup: &Setup<B>) -> ModelFile {
        self.to_weights(setup).to_file(setup.config(), self.dtype().into())
    }

    /// Energies of systems without their offsets ([`Setup::offset`]), [n_systems] in eV, from edge vectors [n_edges, 3] in Å.
    ///
    /// # Errors
    /// [`NetworkError::Op`] for edge vectors of another shape or dtype.
    pub fn energies(
        &self,
        setup: &Setup<B>,
        batch: &Batch<B>,
        edge_vec: Tensor<B, 2>,
    ) -> Result<Tensor<B, 1>, NetworkError> {
        let config = setup.config();
        let graph = batch.graph().with_edge_vec(edge_vec)?;
        let mut q = self.embedding.val().select(0, batch.species().clone());
        let [n_atoms, f] = q.dims();
        let device = q.device();
        let mut mu = Some(Tensor::<B, 3>::zeros([n_atoms, 3, f], (&device, burn_dtype(self.dtype()))));
        for l in 0..config.layers {
            let filter = setup.kernels().load(of_layer(&self.filters, l).tensors(setup.filter_activation()))?;
            match of_layer(&self.interactions, l) {
                Interaction::Painn(painn) => {
                    let vectors = mu.take().expect("only the last layer has none");
                    (q, mu, _) = painn.forward(setup, &graph, &filter, (q, vectors), l + 1 == config.layers)?;
                }
                Interaction::Schnet(schnet) => (q, _) = schnet.forward(setup, &graph, &filter, q)?,
            }
        }
        let (last, hidden) = self.head.split_last().expect("a head has a layer");
        for dense in hidden {
            q = activate(config.head.activation, dense.forward(q));
        }
        let of_atoms = last.forward(q).reshape([n_atoms]).mul_scalar(config.energy_unit.factor());
        let zeros = Tensor::<B, 1>::zeros([batch.n_systems()], (&device, burn_dtype(self.dtype())));
        let sums = zeros.select_assign(0, batch.system_of_atoms().clone(), of_atoms, IndexingUpdateOp::Add);
        Ok(match config.aggregation {
            Aggregation::Sum => sums,
            Aggregation::Avg => sums * batch.per_atom().clone(),
        })
    }
}
