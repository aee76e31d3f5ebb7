//! Models on the host's kernels, without a tape: the forward keeps what the backward reads, and the backward is written out.

mod blocks;
mod filter;
mod head;
mod neighbors;
mod painn;
mod schedule;
mod schnet;
mod system;
mod times;
mod workspace;

use std::ops::Range;
use std::sync::Mutex;

use ff_kernels::fused_message::HostElement;
use ff_kernels::fused_message::host::{HostConfig, PackedFilter, Stages};
use ff_kernels::host::layers::{Activation, Compiled as Layers, Dense, Level, Storage};
use ff_kernels::{force_scatter, fused_message};
use ff_spec::fused_message::{Filter, Radial};
use ff_spec::{Dtype, Precision};

use crate::config::{Config, ConfigError};
use crate::error::ModelError;
use crate::model::Model;
use crate::prediction::{Prediction, Raw, Wanted};
use crate::weights::{Interaction, Linear};
use ff_structure::Structure;
use filter::Filters;
pub(crate) use filter::TABLE_ORDER;
use neighbors::Lists;
pub use neighbors::Neighbors;
pub use times::{Part, Times};
use workspace::Workspace;

/// An element type that models run in.
pub trait Real: HostElement + Layers + force_scatter::host::Compiled + Into<f64> {}

impl Real for f32 {}
impl Real for f64 {}

/// Atoms of consecutive small systems that are computed together: dense layers read their weights once for all of them.
const GROUP: usize = 72;

/// Directed edges of a task of messages.
pub(crate) const EDGES_PER_TASK: usize = 512;

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
    /// Bytes of its filter: packed for a direction it is no larger, and not counted again.
    fn bytes(&self) -> usize {
        let elements = match &self.filter {
            Filter::Linear { a, b } => a.len() + b.len(),
            Filter::Mlp { a1, b1, a2, b2, .. } => a1.len() + b1.len() + a2.len() + b2.len(),
            Filter::Tabulated { values, .. } => values.len(),
        };
        elements * size_of::<T>()
    }

    fn new(filter: Filter<T>, parts: usize, features: usize, configs: &Configs) -> Self {
        let pack = |order, config| PackedFilter::new(order, &filter, parts, features, config);
        Self { forward: pack(0, &configs.forward), backward: pack(1, &configs.backward), filter }
    }
}

/// The weights of an interaction.
enum Layer<T> {
    Painn(Box<painn::Layer<T>>),
    Schnet(Box<schnet::Layer<T>>),
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
    table_error: Option<f64>,
    precision: Precision,
    /// Workspaces that are not in use: as many as were ever in use at once.
    pool: Mutex<Vec<Workspace<T>>>,
}

fn cast<T: Real>(values: &[f64]) -> Vec<T> {
    values.iter().map(|x| T::from_f64(*x)).collect()
}

/// Rounds what is stored in less than it is computed in.
fn stored<T: Real>(mut values: Vec<T>, storage: Option<Storage>) -> Vec<T> {
    if let Some(storage) = storage {
        T::narrow(storage, &mut values);
    }
    values
}

fn dense<T: Real>(linear: &Linear, precision: Precision) -> Dense<T> {
    let [weights, bias] = [&linear.weight, &linear.bias].map(|values| stored(cast(values), precision.storage()));
    match precision {
        Precision::Int8 => Dense::int8(linear.inputs, linear.outputs, &weights, &bias, Level::best()),
        _ => Dense::new(linear.inputs, linear.outputs, &weights, &bias),
    }
}

impl<T: Real> HostModel<T> {
    /// Packs a model's weights, rounded to `T`.
    ///
    /// # Errors
    /// [`ConfigError::Unsupported`] for radial functions that were not rendered.
    pub fn new(model: &Model) -> Result<Self, ConfigError> {
        Self::with_precision(model, Precision::F32, None)
    }

    /// As [`HostModel::new`], with filters as tables that err by at most `tolerance` beside their largest value: much faster messages,
    /// whose error [`HostModel::table_error`] says.
    ///
    /// # Errors
    /// As [`HostModel::new`], and for a tolerance that no table reaches.
    pub fn tabulated(model: &Model, tolerance: f64) -> Result<Self, ConfigError> {
        Self::with_precision(model, Precision::F32, Some(tolerance))
    }

    /// As [`HostModel::new`], or [`HostModel::tabulated`] where there is a tolerance, with numbers that are stored in less than f32.
    ///
    /// In f16 and bf16 these are weights, filters and their tables, and the features that one part leaves for another or for the
    /// backward. On host they are rounded when they are packed or written, and lie in memory as f32. In int8 they are the weights
    /// and inputs of the dense layers of interactions; the head stays in f32. What is summed, gradients and edge vectors are in f32.
    /// The backward is that of the rounded weights at the stored features, as if features were not rounded, so that forces are
    /// gradients of the energy up to roundings: [`HostModel::deviation`] says by how much all of it differs from f32.
    ///
    /// # Errors
    /// As [`HostModel::tabulated`], and for a reduced precision of f64.
    pub fn with_precision(model: &Model, precision: Precision, table: Option<f64>) -> Result<Self, ConfigError> {
        if precision.is_reduced() && T::DTYPE != Dtype::F32 {
            return Err(ConfigError::Unsupported {
                what: format!("precision {precision} of a computation in {}", T::DTYPE),
                expected: format!("the element type {}, or precision {}", Dtype::F32, Precision::F32),
            });
        }
        let storage = precision.storage();
        let (config, weights) = (model.config(), model.weights());
        let Filters { variant, filters, table_error } = Filters::new(model, table, storage)?;
        let registered = fused_message::find(&variant).expect("a variant that was found before");
        let mut radial: Radial<T> = weights.radial.cast();
        if table_error.is_some() {
            // A table has them in it.
            radial = Radial { r_cut: radial.r_cut, ..Radial::default() };
        }
        let declared = registered.pair().map_or(&[][..], |pair| pair.basis_parameters);
        let last = weights.interactions.len() - 1;
        let layers = weights.interactions.iter().zip(&filters).enumerate();
        // What the head errs by, energies err by, and its products are the fewest.
        let of_head = if precision == Precision::Int8 { Precision::F32 } else { precision };
        let configs = Configs {
            forward: HostConfig { edges_per_task: EDGES_PER_TASK, edges_per_tile: 128, channel_block: 32 },
            backward: HostConfig { edges_per_task: EDGES_PER_TASK, edges_per_tile: 32, channel_block: 32 },
        };
        Ok(Self {
            embedding: stored(cast(&weights.embedding), storage),
            basis: declared.iter().map(|(name, _)| radial.basis[*name].clone()).collect(),
            radial,
            stages: registered.stages(),
            configs,
            layers: layers
                .map(|(l, (interaction, filter))| {
                    let message = PackedMessage::new(filter.cast(), config.parts(), config.filters, &configs);
                    match interaction {
                        Interaction::Painn { context, mix, update, .. } => Layer::Painn(Box::new(painn::Layer::new(
                            message,
                            context,
                            mix,
                            update,
                            l == last,
                            precision,
                        ))),
                        Interaction::Schnet { inputs, output, .. } => {
                            Layer::Schnet(Box::new(schnet::Layer::new(message, inputs, output, precision)))
                        }
                    }
                })
                .collect(),
            head: weights.head.iter().map(|layer| dense(layer, of_head)).collect(),
            head_activation: config.head.activation,
            atomref: weights.atomref.clone(),
            config: config.clone(),
            table_error,
            precision,
            pool: Mutex::default(),
        })
    }

    /// How much tabulated filters err beside their largest value; `None` where they are exact.
    pub fn table_error(&self) -> Option<f64> {
        self.table_error
    }

    /// How numbers are stored.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// Bytes that packed weights take: dense layers in the order of either direction, filters or their tables, the embedding.
    pub fn weight_bytes(&self) -> usize {
        let size = size_of::<T>();
        let layers = self.layers.iter().map(|layer| match layer {
            Layer::Painn(layer) => layer.bytes(),
            Layer::Schnet(layer) => layer.bytes(),
        });
        let head = self.head.iter().map(Dense::bytes);
        layers.chain(head).sum::<usize>() + self.embedding.len() * size
    }

    /// Rounds what a part wrote to what it is stored in.
    fn store(&self, values: &mut [T]) {
        if let Some(storage) = self.precision.storage() {
            T::narrow(storage, values);
        }
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
        let mut groups = Vec::new();
        let mut predictions = Vec::new();
        let call = Call { structures, wanted, times };
        self.call(&call, &mut groups, Lists::default(), &mut predictions)?;
        Ok(predictions)
    }

    /// As [`HostModel::predict`], with neighbour lists that `neighbors` keeps for the next call with the same structures, moved, and
    /// into `out`, whose memory is used again. The numbers are those of [`HostModel::predict`], to the last bit. Calls for which no
    /// list is built allocate nothing once they have seen the largest of their systems, but what `gemm` packs the matrices of a
    /// product into.
    ///
    /// # Errors
    /// As [`HostModel::predict`]; `out` is then unspecified.
    pub fn predict_with(
        &self,
        structures: &[Structure],
        wanted: Wanted,
        neighbors: &mut Neighbors,
        out: &mut Vec<Prediction>,
    ) -> Result<(), ModelError> {
        let mut groups = std::mem::take(&mut neighbors.groups);
        let call = Call { structures, wanted, times: &Times::off() };
        let done = self.call(&call, &mut groups, neighbors.of(structures.len()), out);
        neighbors.groups = groups;
        done
    }

    fn call(
        &self,
        call: &Call<'_>,
        groups: &mut Vec<Range<usize>>,
        lists: Lists<'_>,
        out: &mut Vec<Prediction>,
    ) -> Result<(), ModelError> {
        out.resize_with(call.structures.len(), Prediction::default);
        group(call.structures, groups);
        let threads = if groups.len() > 1 { 1 } else { rayon::current_num_threads() };
        let run = || self.groups(call, groups, lists, threads, out);
        // Once into the pool, and not once for every part.
        match rayon::current_thread_index() {
            Some(_) => run(),
            None => rayon::scope(|_| run()),
        }
    }

    /// Computes groups in parallel; `lists` and `out` begin with those of the first. The error is that of the first group that has
    /// one, whatever the number of threads.
    fn groups(
        &self,
        call: &Call<'_>,
        groups: &[Range<usize>],
        lists: Lists<'_>,
        threads: usize,
        out: &mut [Prediction],
    ) -> Result<(), ModelError> {
        match groups {
            [] => Ok(()),
            [group] => self.group(call, group.clone(), lists, threads, out),
            _ => {
                let (first, second) = groups.split_at(groups.len() / 2);
                let at = second[0].start - first[0].start;
                let (lists, (out, others)) = (lists.split(at), out.split_at_mut(at));
                let (first, second) = rayon::join(
                    || self.groups(call, first, lists.0, threads, out),
                    || self.groups(call, second, lists.1, threads, others),
                );
                first.and(second)
            }
        }
    }

    /// Computes systems together in one workspace, with so many threads.
    fn group(
        &self,
        call: &Call<'_>,
        group: Range<usize>,
        lists: Lists<'_>,
        threads: usize,
        out: &mut [Prediction],
    ) -> Result<(), ModelError> {
        let taken = self.pool.lock().unwrap_or_else(std::sync::PoisonError::into_inner).pop();
        let mut workspace = taken.unwrap_or_default();
        workspace.threads = threads;
        let done = self.evaluate(call, group, lists, &mut workspace, out);
        self.pool.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(workspace);
        done
    }

    fn evaluate(
        &self,
        call: &Call<'_>,
        group: Range<usize>,
        lists: Lists<'_>,
        workspace: &mut Workspace<T>,
        out: &mut [Prediction],
    ) -> Result<(), ModelError> {
        let Call { structures, wanted, times } = *call;
        let (first, structures) = (group.start, &structures[group]);
        let threads = workspace.threads;
        times.whole(Part::Neighbors, 0, threads, || workspace.load(self, first, structures, lists))?;
        match &self.layers[0] {
            Layer::Painn(_) => schedule::run::<T, painn::Painn>(self, workspace, wanted.forces, times),
            Layer::Schnet(_) => schedule::run::<T, schnet::Schnet>(self, workspace, wanted.forces, times),
        }
        if wanted.forces {
            times.whole(Part::Forces, 0, threads, || workspace.scatter());
        }
        for (slot, (structure, prediction)) in structures.iter().zip(out).enumerate() {
            let (forces, strain) = workspace.forces(slot);
            let raw = Raw { energies: workspace.energies(slot), forces, strain };
            prediction.set(&self.config, &self.atomref, structure, wanted, raw);
        }
        Ok(())
    }
}

/// What a call is asked for.
struct Call<'a> {
    structures: &'a [Structure],
    wanted: Wanted,
    times: &'a Times,
}

/// Cuts structures into groups of consecutive ones that are computed together.
fn group(structures: &[Structure], groups: &mut Vec<Range<usize>>) {
    groups.clear();
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
}
