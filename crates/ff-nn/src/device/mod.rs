//! Models on a device, without a tape: the forward of the modules, which keeps what the backward reads, and that written out on
//! tensors.

mod atoms;
mod head;
mod moving;
mod painn;
mod runtime;
mod schnet;

use std::sync::Arc;

use burn::tensor::{Tensor, TensorData, Transaction};
use ff_model::config::Config;
use ff_model::weights::Interaction as Stored;
use ff_model::{Model, Prediction, Raw, Wanted};
use ff_ops::force_scatter::{Forces, ScatterOptions, force_scatter};
use ff_ops::fused_message::{Graph, LoadedFilter, OpError};
use ff_spec::force_scatter::{Reduction, Variant};
use ff_spec::{Dtype, LaunchError};
use ff_structure::Structure;
use ff_tables::Table;

use crate::dense::parameter;
use crate::error::NetworkError;
use crate::filter::Filter;
use crate::network::NetworkBackend;
use crate::setup::Setup;
use atoms::Atoms;
use head::Head;
pub use moving::Moving;
pub use runtime::{Follow, Predict, computes_in, open};

/// A model with its weights on a device, in either order of its dense layers, and the kernels of its messages.
///
/// `B` has no graph: forward and backward are launched one after the other, and a call waits for the device once, where it reads
/// energies, forces and strain derivatives together. Neighbour lists are built on the host, in f64, by every call; [`Moving`] keeps
/// them where the same structures come again.
#[derive(Debug)]
pub struct DeviceModel<B: NetworkBackend> {
    setup: Setup<B>,
    dtype: Dtype,
    device: B::Device,
    /// [rows, F].
    embedding: Tensor<B, 2>,
    layers: Layers<B>,
    head: Head<B>,
}

/// Interactions in order, all of one kind.
#[derive(Debug)]
enum Layers<B: NetworkBackend> {
    Painn(Vec<painn::Layer<B>>),
    Schnet(Vec<schnet::Layer<B>>),
}

/// What all layers of an evaluation read.
struct Run<'a, B: NetworkBackend> {
    setup: &'a Setup<B>,
    head: &'a Head<B>,
    graph: &'a Graph<B>,
    /// Whether gradients in edge vectors are wanted.
    gradients: bool,
}

/// Energies of atoms [n_atoms, 1] and, where wanted, their gradients in edge vectors [n_edges, 3], in the model's units.
struct Evaluated<B: NetworkBackend> {
    energies: Tensor<B, 2>,
    edge_grad: Option<Tensor<B, 2>>,
}

impl<B: NetworkBackend> DeviceModel<B> {
    /// Uploads a model's weights, rounded to `dtype`. Kernels run under the nearest configurations that `tables` hold for the
    /// device, else under the default ones.
    ///
    /// # Errors
    /// [`NetworkError`] for radial functions and activations without kernels, and for a dtype that the device does not compute in.
    pub fn new(
        model: &Model,
        dtype: Dtype,
        tables: impl Into<Arc<[Table]>>,
        device: &B::Device,
    ) -> Result<Self, NetworkError> {
        let (config, weights) = (model.config(), model.weights());
        let id = B::device_id(device);
        if !computes_in(&id, dtype) {
            let message = format!("{} does not compute models in {dtype}", id.name);
            return Err(OpError::Launch(LaunchError::Unsupported(message)).into());
        }
        let setup = Setup::with_tables(config, weights, tables, device)?;
        let load = |stored: &Stored| -> Result<LoadedFilter<B>, NetworkError> {
            let tensors = Filter::new(stored, dtype, device).tensors(setup.filter_activation());
            Ok(setup.kernels().load(tensors)?)
        };
        let last = weights.interactions.len() - 1;
        let (mut painn, mut schnet) = (Vec::new(), Vec::new());
        for (l, stored) in weights.interactions.iter().enumerate() {
            let filter = load(stored)?;
            match stored {
                Stored::Painn { context, mix, update, .. } => {
                    painn.push(painn::Layer::new((context, mix, update), filter, l == last, dtype, device));
                }
                Stored::Schnet { inputs, output, .. } => {
                    schnet.push(schnet::Layer::new((inputs, output), filter, dtype, device));
                }
            }
        }
        let rows = weights.embedding.len() / config.features;
        Ok(Self {
            embedding: parameter(weights.embedding.clone(), [rows, config.features], dtype, device).val(),
            layers: if schnet.is_empty() { Layers::Painn(painn) } else { Layers::Schnet(schnet) },
            head: Head::new(&weights.head, config.head.activation, dtype, device),
            setup,
            dtype,
            device: device.clone(),
        })
    }

    /// The model.
    pub fn config(&self) -> &Config {
        self.setup.config()
    }

    /// The element type of its weights.
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// Energies and, where wanted, forces and stress of every structure, by one flat call. How sums and products are divided depends
    /// on what is computed together: numbers are those of a structure alone to rounding, not to the last bit.
    ///
    /// # Errors
    /// [`NetworkError::Structure`] for the first structure that cannot be computed; others for what the device refuses.
    pub fn predict(&self, structures: &[Structure], wanted: Wanted) -> Result<Vec<Prediction>, NetworkError> {
        let atoms = Atoms::<B>::new(structures, self.config().cutoff, self.rows(), self.dtype, &self.device)?;
        self.evaluate(&atoms, structures, wanted)
    }

    /// Rows of the embedding.
    fn rows(&self) -> usize {
        self.embedding.dims()[0]
    }

    /// Structures whose atoms are on the device.
    fn evaluate(
        &self,
        atoms: &Atoms<B>,
        structures: &[Structure],
        wanted: Wanted,
    ) -> Result<Vec<Prediction>, NetworkError> {
        let config = self.config();
        let gradients = wanted.forces && atoms.n_edges > 0;
        let (mut energies, mut forces, mut strain) = (Vec::new(), Vec::new(), Vec::new());
        if let Some(tensors) = &atoms.tensors {
            let q = self.embedding.clone().select(0, tensors.species.clone());
            let run = Run { setup: &self.setup, head: &self.head, graph: &tensors.graph, gradients };
            let Evaluated { energies: of_atoms, edge_grad } = match &self.layers {
                Layers::Painn(layers) => painn::run(layers, &run, q)?,
                Layers::Schnet(layers) => schnet::run(layers, &run, q)?,
            };
            let mut read = Transaction::<B>::default().register(of_atoms);
            if let Some(edge_grad) = edge_grad {
                let variant = Variant { reduction: Reduction::Gather };
                let options = ScatterOptions { variant, tables: self.setup.tables() };
                let found: Forces<B> = force_scatter(&tensors.graph, edge_grad, &tensors.systems, &options)?;
                read = read.register(found.forces).register(found.strain);
            }
            let found = read.try_execute().map_err(|error| {
                let reason = error.to_string();
                NetworkError::Op(OpError::Read { tensor: "energies and forces", reason })
            })?;
            let mut found = found.into_iter().map(widened);
            energies = found.next().unwrap_or_default();
            forces = found.next().unwrap_or_default();
            strain = found.next().unwrap_or_default();
        }
        if wanted.forces && !gradients {
            // Energies that depend on no edge have no gradients.
            forces = vec![0.0; 3 * atoms.n_atoms];
            strain = vec![0.0; 9 * structures.len()];
        }
        let (mut first, atomref) = (0, self.setup.atomref());
        let of = |(system, structure): (usize, &Structure)| {
            let own = first..first + structure.n_atoms();
            first = own.end;
            let raw = Raw {
                energies: &energies[own.clone()],
                forces: if wanted.forces { &forces[3 * own.start..3 * own.end] } else { &[] },
                strain: if wanted.forces { &strain[9 * system..9 * system + 9] } else { &[] },
            };
            let mut prediction = Prediction::default();
            prediction.set(config, atomref, structure, wanted, raw);
            prediction
        };
        Ok(structures.iter().enumerate().map(of).collect())
    }
}

fn widened(data: TensorData) -> Vec<f64> {
    data.iter::<f64>().collect()
}

/// The sum of gradients that layers have in one tensor.
fn add<B: NetworkBackend, const D: usize>(sum: Option<Tensor<B, D>>, other: Tensor<B, D>) -> Tensor<B, D> {
    match sum {
        Some(sum) => sum + other,
        None => other,
    }
}
