//! Models on the host's kernels, without a tape: the forward keeps what the backward reads, and the backward is written out.

mod blocks;
mod head;
mod painn;
mod schnet;
mod system;
mod times;
mod workspace;

use std::sync::Mutex;

use ff_kernels::fused_message::HostElement;
use ff_kernels::fused_message::host::{HostConfig, PackedFilter, Stages};
use ff_kernels::host::layers::{Activation, Compiled as Layers, Dense};
use ff_kernels::{force_scatter, fused_message};
use ff_spec::fused_message::{Filter, FilterKind, Radial, Reduction, Variant};
use rayon::prelude::*;

use crate::config::{Aggregation, Config, ConfigError};
use crate::error::ModelError;
use crate::model::Model;
use crate::prediction::{Prediction, Wanted};
use crate::units::Unit;
use crate::weights::{Interaction, Linear};
use ff_structure::Structure;
pub use times::{Part, Times};
use workspace::Workspace;

/// An element type that models run in.
pub trait Real: HostElement + Layers + force_scatter::host::Compiled {}

impl Real for f32 {}
impl Real for f64 {}

/// Atoms of consecutive small systems that are computed together: dense layers read their weights once for all of them.
const GROUP: usize = 72;

/// The filter of an interaction, packed for both directions.
struct PackedMessage<T> {
    filter: Filter<T>,
    forward: PackedFilter<T>,
    backward: PackedFilter<T>,
}

/// The launch parameters of messages and of their backward.
#[derive(Clone, Copy)]
struct Configs {
    forward: HostConfig,
    backward: HostConfig,
}

impl<T: Real> PackedMessage<T> {
    fn new(filter: Filter<T>, parts: usize, features: usize, configs: &Configs) -> Self {
        let pack = |order, config| PackedFilter::new(order, &filter, parts, features, config);
        Self { forward: pack(0, &configs.forward), backward: pack(1, &configs.backward), filter }
    }
}

/// The weights of an interaction.
enum Layer<T> {
    Painn(painn::Layer<T>),
    Schnet(schnet::Layer<T>),
}

/// A model with its weights packed for the host's kernels.
pub struct HostModel<T: Real> {
    config: Config,
    /// [rows, F].
    embedding: Vec<T>,
    radial: Radial<T>,
    /// Parameters of the radial functions in the order in which the kernels declare them.
    basis: Vec<Vec<T>>,
    stages: Stages<T>,
    configs: Configs,
    layers: Vec<Layer<T>>,
    head: Vec<Dense<T>>,
    head_activation: Activation,
    atomref: Vec<f64>,
    /// Workspaces that are not in use: as many as were ever in use at once.
    pool: Mutex<Vec<Box<Workspace<T>>>>,
}

fn cast<T: Real>(values: &[f64]) -> Vec<T> {
    values.iter().map(|x| T::from_f64(*x)).collect()
}

fn dense<T: Real>(linear: &Linear) -> Dense<T> {
    Dense::new(linear.inputs, linear.outputs, &cast(&linear.weight), &cast(&linear.bias))
}

impl<T: Real> HostModel<T> {
    /// Packs a model's weights, rounded to `T`.
    ///
    /// # Errors
    /// [`ConfigError::Unsupported`] for radial functions that were not rendered, and for a filter's activation that has no kernel.
    pub fn new(model: &Model) -> Result<Self, ConfigError> {
        let (config, weights) = (model.config(), model.weights());
        crate::weights::check_radial(config)?;
        let (basis, cutoff) = config.radial_names();
        let variant = Variant {
            message: config.message(),
            filter: match weights.interactions[0] {
                Interaction::Painn { .. } => FilterKind::Linear,
                Interaction::Schnet { .. } => FilterKind::Mlp,
            },
            radial: Some((basis.to_owned(), cutoff.to_owned())),
            reduction: Reduction::Receiver,
        };
        let registered = fused_message::find(&variant).ok_or_else(|| ConfigError::Unsupported {
            what: format!("the kernel {variant}"),
            expected: "one that `forgefield ops` lists".to_owned(),
        })?;
        let radial: Radial<T> = weights.radial.cast();
        let declared = registered.pair().map_or(&[][..], |pair| pair.basis_parameters);
        let last = weights.interactions.len() - 1;
        let layers = weights.interactions.iter().enumerate();
        let configs = Configs {
            forward: env("FWD", HostConfig { edges_per_task: 512, edges_per_tile: 128, channel_block: 32 }),
            backward: env("BWD", HostConfig { edges_per_task: 512, edges_per_tile: 32, channel_block: 32 }),
        };
        Ok(Self {
            embedding: cast(&weights.embedding),
            basis: declared.iter().map(|(name, _)| radial.basis[*name].clone()).collect(),
            radial,
            stages: registered.stages(),
            configs,
            layers: layers
                .map(|(l, interaction)| {
                    Ok(match interaction {
                        Interaction::Painn { filter, context, mix, update } => {
                            Layer::Painn(painn::Layer::new(&configs, filter, context, mix, update, l == last))
                        }
                        Interaction::Schnet { inputs, filter, output } => {
                            Layer::Schnet(schnet::Layer::new(&configs, config.activation, inputs, filter, output)?)
                        }
                    })
                })
                .collect::<Result<_, ConfigError>>()?,
            head: weights.head.iter().map(dense).collect(),
            head_activation: config.head.activation,
            atomref: weights.atomref.clone(),
            config: config.clone(),
            pool: Mutex::default(),
        })
    }

    /// The model.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Energies and, where wanted, forces and stress of every structure; the numbers of each are those it has alone, to the last
    /// bit.
    ///
    /// # Errors
    /// [`ModelError`] for the first structure that cannot be computed.
    pub fn predict(&self, structures: &[Structure], wanted: Wanted) -> Result<Vec<Prediction>, ModelError> {
        self.predict_timed(structures, wanted, &Times::off())
    }

    /// As [`HostModel::predict`], and adds what each part takes to `times`.
    ///
    /// # Errors
    /// As [`HostModel::predict`].
    pub fn predict_timed(
        &self,
        structures: &[Structure],
        wanted: Wanted,
        times: &Times,
    ) -> Result<Vec<Prediction>, ModelError> {
        let mut predictions = vec![Prediction::default(); structures.len()];
        let groups = groups(structures);
        if let [_] = groups[..] {
            self.group(0, structures, wanted, times, &mut predictions)?;
            return Ok(predictions);
        }
        let mut rest = &mut predictions[..];
        let tasks: Vec<_> = groups
            .into_iter()
            .map(|group| {
                let (out, others) = std::mem::take(&mut rest).split_at_mut(group.len());
                rest = others;
                (group, out)
            })
            .collect();
        tasks
            .into_par_iter()
            .try_for_each(|(group, out)| self.group(group.start, &structures[group], wanted, times, out))?;
        Ok(predictions)
    }

    /// Computes systems together in one workspace; the first is number `first` in the caller's list.
    fn group(
        &self,
        first: usize,
        structures: &[Structure],
        wanted: Wanted,
        times: &Times,
        out: &mut [Prediction],
    ) -> Result<(), ModelError> {
        let taken = self.pool.lock().unwrap_or_else(std::sync::PoisonError::into_inner).pop();
        let mut workspace = taken.unwrap_or_default();
        let done = self.evaluate(first, structures, wanted, times, &mut workspace, out);
        self.pool.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(workspace);
        done
    }

    fn evaluate(
        &self,
        first: usize,
        structures: &[Structure],
        wanted: Wanted,
        times: &Times,
        workspace: &mut Workspace<T>,
        out: &mut [Prediction],
    ) -> Result<(), ModelError> {
        times.whole(Part::Neighbors, 0, || workspace.load(self, first, structures))?;
        match &self.layers[0] {
            Layer::Painn(_) => painn::run(self, workspace, wanted.forces, times),
            Layer::Schnet(_) => schnet::run(self, workspace, wanted.forces, times),
        }
        if wanted.forces {
            times.whole(Part::Forces, 0, || workspace.scatter());
        }
        for (slot, (structure, prediction)) in structures.iter().zip(out).enumerate() {
            self.finish(workspace, slot, structure, wanted, prediction);
        }
        Ok(())
    }

    /// Totals in f64 and in eV, Å.
    fn finish(
        &self,
        workspace: &Workspace<T>,
        slot: usize,
        structure: &Structure,
        wanted: Wanted,
        out: &mut Prediction,
    ) {
        let unit = self.config.energy_unit.factor();
        let n_atoms = structure.n_atoms();
        let scale = match self.config.aggregation {
            Aggregation::Avg if n_atoms > 0 => unit / n_atoms as f64,
            _ => unit,
        };
        let own = |z: &u8| self.atomref.get(usize::from(*z)).copied().unwrap_or(0.0) + self.config.offset_per_atom;
        let raw = workspace.energies(slot);
        out.energy =
            raw.iter().map(|e| e.to_f64()).sum::<f64>() * scale + structure.species.iter().map(own).sum::<f64>();
        out.energies.clear();
        if wanted.per_atom {
            out.energies.extend(raw.iter().zip(&structure.species).map(|(e, z)| e.to_f64() * scale + own(z)));
        }
        out.forces.clear();
        out.stress = None;
        if wanted.forces {
            let (forces, strain) = workspace.forces(slot);
            let force = |f: &[T; 3]| f.map(|x| x.to_f64() * scale);
            out.forces.extend(forces.as_chunks::<3>().0.iter().map(force));
            if wanted.stress {
                let strain: [[f64; 3]; 3] =
                    std::array::from_fn(|a| std::array::from_fn(|b| strain[3 * a + b].to_f64() * scale));
                out.stress = crate::stress::stress(structure, strain);
            }
        }
    }
}

/// Structures in groups of consecutive ones that are computed together.
fn groups(structures: &[Structure]) -> Vec<std::ops::Range<usize>> {
    let mut groups = Vec::new();
    let (mut start, mut atoms) = (0, 0);
    for (at, structure) in structures.iter().enumerate() {
        if at > start && atoms + structure.n_atoms() > GROUP {
            groups.push(start..at);
            (start, atoms) = (at, 0);
        }
        atoms += structure.n_atoms();
    }
    if start < structures.len() {
        groups.push(start..structures.len());
    }
    groups
}

fn env(name: &str, or: HostConfig) -> HostConfig {
    let Ok(text) = std::env::var(name) else { return or };
    let v: Vec<usize> = text.split(',').map(|x| x.parse().unwrap()).collect();
    HostConfig { edges_per_task: v[0], edges_per_tile: v[1], channel_block: v[2] }
}
