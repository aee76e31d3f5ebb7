//! A training from its first step to the model's file.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use burn::module::AutodiffModule;
use burn_autodiff::Autodiff;
use burn_flex::Flex;
use ff_model::{Config, HostModel, Model, Wanted, batch};
use ff_nn::{Network, Setup, weights};
use ff_spec::Dtype;
use ff_structure::Structure;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::batches;
use crate::checkpoint;
use crate::config::{LossConfig, TrainConfig};
use crate::direct::Direct;
use crate::error::TrainError;
use crate::errors::{ErrorSums, Errors, Values};
use crate::loss::{Fitted, Scales, Terms, filled, flatten, gradient, tracked};
use crate::matching;
use crate::offsets;
use crate::optimizer::Weights;
use crate::parallel::Workers;
use crate::schedule::Plateau;
use crate::split::{Sample, Split, isolated};
use crate::start;

/// Gradients in weights.
type Once = Autodiff<Flex>;
/// Gradients in positions, over that.
type Twice = Autodiff<Once>;

/// All that changes while a model is trained.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    /// Weights and what the optimiser keeps.
    pub weights: Weights,
    /// The weights of the least watched loss.
    pub best: Vec<f32>,
    /// How far it is.
    pub progress: Progress,
}

/// How far a training is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Steps that are done.
    pub step: u64,
    /// Epochs that are done.
    pub epoch: u64,
    /// Steps of this epoch that are done.
    pub at: usize,
    /// Sums over them of the loss's terms.
    pub terms: Terms,
    /// The rate's course.
    pub plateau: Plateau,
    /// The least watched loss.
    pub least: Option<f64>,
    /// Its epoch.
    pub best_epoch: u64,
    /// Bytes of the log.
    pub log: u64,
    /// Seconds before this process.
    pub seconds: f64,
}

/// A line of the log: an epoch, the first of them before any step. Energies are per atom, forces by component.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// Epochs that are done.
    pub epoch: u64,
    /// Steps that are done.
    pub step: u64,
    /// The learning rate of the next step.
    pub rate: f64,
    /// Mean loss of the epoch's steps, each with the weights before it.
    pub train_loss: Option<f64>,
    /// Root mean square error of its energies, meV/atom.
    pub train_energy_rmse_mev_per_atom: Option<f64>,
    /// Root mean square error of its forces, meV/Å.
    pub train_force_rmse_mev_per_a: Option<f64>,
    /// Root mean square error of what is linear in its features, in units of the deviation of the teacher's.
    pub train_feature_rmse: Option<f64>,
    /// Loss on the watched frames.
    pub loss: f64,
    /// Errors on the watched frames.
    pub energy_mae_mev_per_atom: Option<f64>,
    /// Likewise.
    pub energy_rmse_mev_per_atom: Option<f64>,
    /// Likewise.
    pub force_mae_mev_per_a: Option<f64>,
    /// Likewise.
    pub force_rmse_mev_per_a: Option<f64>,
    /// Likewise.
    pub stress_rmse_gpa: Option<f64>,
    /// Whether these are the best weights so far.
    pub best: bool,
    /// Time of all processes.
    pub seconds: f64,
}

/// Who follows a training.
pub trait Watch {
    /// Whether it is to end after this step.
    fn stop(&mut self) -> bool {
        false
    }
    /// A step is done, of `steps`, with this loss.
    fn step(&mut self, step: u64, steps: u64, loss: f64);
    /// An epoch is done, of `epochs`.
    fn epoch(&mut self, row: &Row, epochs: u64);
}

/// How a training ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// All epochs are done.
    Done,
    /// The watched loss had no new minimum for as many epochs as it was given.
    Stopped,
    /// It was asked to end.
    Interrupted,
    /// The loss, or its gradient, of this step is not finite; counted from 1. The weights are those before it.
    Diverged {
        /// The step.
        step: u64,
    },
}

/// Files that a training writes as it goes.
#[derive(Clone, Debug, Default)]
pub struct Files {
    /// Where it goes on from.
    pub checkpoint: Option<PathBuf>,
    /// JSON lines, one an epoch.
    pub log: Option<PathBuf>,
}

/// A model, its data and its state.
pub struct Training {
    config: TrainConfig,
    setup: Setup<Twice>,
    /// For weights on their way to a file.
    plain: Setup<Flex>,
    network: Network<Flex>,
    /// What gives gradients of a PaiNN without a tape.
    direct: Option<Direct<f32>>,
    /// Weights of the model; what else is trained comes after them.
    n_weights: usize,
    /// Weights that stay zero.
    zeros: Vec<usize>,
    matrices: Vec<Range<usize>>,
    frames: Vec<Fitted>,
    atoms: Vec<usize>,
    validation: Vec<Sample>,
    workers: Workers,
    identity: Map<String, Value>,
    state: State,
    order: Vec<Vec<usize>>,
    steps: u64,
    begin: Instant,
}

impl Training {
    /// Prepares a training in so many threads: offsets are taken from the energies, lists are made.
    ///
    /// # Errors
    /// [`TrainError`].
    pub fn new(config: &TrainConfig, split: &Split, threads: usize) -> Result<Self, TrainError> {
        config.check()?;
        let device = Default::default();
        let elements = split.elements();
        let rows = elements.last().map_or(1, |z| usize::from(*z) + 1);
        let (mut model, mut begin) = match &config.model.start {
            Some(path) => start::load(path, config, elements)?,
            None => {
                let model = config.model(elements)?;
                let begin = weights::random(&model, rows, config.run.seed);
                (model, begin)
            }
        };
        let rows = begin.embedding.len() / model.features;
        let labelled: Vec<(&Structure, f64)> =
            split.train.iter().filter_map(|sample| Some((&sample.frame.structure, sample.frame.energy?))).collect();
        match &config.data.isolated_atoms {
            None => begin.atomref = offsets::fitted(&labelled, &model.elements),
            Some(path) => {
                begin.atomref = isolated(path, &config.labels()?, &model.elements)?;
                // What binds, as a mean per atom, is not left to the network.
                model.offset_per_atom = offsets::left(&labelled, &begin.atomref);
            }
        }
        let setup = Setup::<Twice>::new(&model, &begin, &device)?;
        let plain = Setup::<Flex>::new(&model, &begin, &device)?;
        let network = Network::<Flex>::from_weights(&model, &begin, Dtype::F32, &device);
        let mut frames: Vec<Fitted> = split
            .train
            .iter()
            .map(|Sample { frame, path }| {
                let offset = setup.offset(&frame.structure);
                Fitted::new(frame, offset, model.cutoff, rows).map_err(|error| of_frame(error, path, frame.frame))
            })
            .collect::<Result<_, _>>()?;
        let (mut values, mut matrices) = flatten::<_, f32>(&network);
        let n_weights = values.len();
        let zeros = start::zeros(&mut values, &matrices, config.model.sparsity);
        let atoms: Vec<usize> = frames.iter().map(Fitted::n_atoms).collect();
        let workers = Workers::new(threads).map_err(|error| TrainError::Data {
            what: "threads".to_owned(),
            expected: format!("{threads} of them"),
            found: error.to_string(),
        })?;
        let matched = match &config.data.teacher {
            None => None,
            Some(path) => {
                let width = matching::attach(path, &split.train, &mut frames, &workers)?;
                let projection = matching::projection(model.features, width, config.run.seed);
                matrices.push(n_weights..n_weights + model.features * width);
                values.extend(projection);
                Some(width)
            }
        };
        let direct = Direct::new(setup.config(), setup.radial(), rows, matched);
        Ok(Self {
            direct,
            n_weights,
            zeros,
            steps: config.run.epochs * batches::steps(&config.run, &atoms),
            order: batches::epoch(&config.run, &atoms, 0),
            state: State { best: values.clone(), weights: Weights::new(values), progress: Progress::default() },
            identity: identity(config, split),
            config: config.clone(),
            validation: split.validation.clone(),
            setup,
            plain,
            network,
            matrices,
            frames,
            atoms,
            workers,
            begin: Instant::now(),
        })
    }

    /// The model.
    pub fn model_config(&self) -> &Config {
        self.setup.config()
    }

    /// What is trained.
    pub fn config(&self) -> &TrainConfig {
        &self.config
    }

    /// Weights of the model.
    pub fn n_weights(&self) -> usize {
        self.n_weights
    }

    /// Steps of all epochs; of batches by atoms those of the first times their number.
    pub fn n_steps(&self) -> u64 {
        self.steps
    }

    /// Frames that are fitted.
    pub fn n_frames(&self) -> usize {
        self.frames.len()
    }

    /// The state.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Goes on from a checkpoint where there is one; whether there was.
    ///
    /// # Errors
    /// [`TrainError::Checkpoint`] for one of another run.
    pub fn resume(&mut self, checkpoint: &Path) -> Result<bool, TrainError> {
        let Some(state) = checkpoint::read(checkpoint, &self.identity, self.state.weights.values.len())? else {
            return Ok(false);
        };
        self.order = batches::epoch(&self.config.run, &self.atoms, state.progress.epoch);
        self.state = state;
        Ok(true)
    }

    /// Keeps the state in a file.
    ///
    /// # Errors
    /// [`TrainError::ModelFile`].
    pub fn save(&self, checkpoint: &Path) -> Result<(), TrainError> {
        let mut state = self.state.clone();
        state.progress.seconds = self.seconds();
        checkpoint::write(checkpoint, &state, &self.identity)
    }

    fn seconds(&self) -> f64 {
        self.state.progress.seconds + self.begin.elapsed().as_secs_f64()
    }

    fn rate(&self) -> f64 {
        let Progress { plateau, step, .. } = &self.state.progress;
        plateau.rate(&self.config.optimizer, &self.config.schedule, *step, self.steps)
    }

    /// One step, unless the loss or its gradient is not finite; gives the loss before it.
    ///
    /// # Errors
    /// [`TrainError::Network`].
    pub fn step(&mut self) -> Result<f64, TrainError> {
        let Progress { step, at, .. } = self.state.progress;
        let batch = &self.order[at];
        let parts = batches::parts(batch, &self.atoms, self.config.run.part_atoms);
        let scales = Scales::new(&self.config.loss, batch.iter().map(|frame| &self.frames[*frame]));
        let of = |part: usize| parts[part].iter().map(|frame| &self.frames[*frame]).collect::<Vec<&Fitted>>();
        let values = &self.state.weights.values;
        let found = match &self.direct {
            Some(direct) => {
                let loaded = direct.load(values);
                self.workers.run(parts.len(), |part| Ok(direct.gradient(&loaded, &of(part), &scales)))
            }
            None => {
                let network = filled(self.network.clone(), values);
                self.workers.run(parts.len(), |part| {
                    let own = tracked(Network::<Once>::from_inner(network.clone()));
                    gradient::<Twice, f32>(&own, &self.setup, &of(part), &scales, Dtype::F32)
                })
            }
        };
        let (mut gradients, mut terms) = (Vec::with_capacity(found.len()), [0.0; 4]);
        for part in found {
            let (gradient, own) = part?;
            terms.iter_mut().zip(own).for_each(|(sum, own)| *sum += own);
            gradients.push(gradient);
        }
        let loss: f64 = terms.iter().sum();
        if !loss.is_finite() {
            return Ok(loss);
        }
        let rate = self.rate();
        let norm = self.state.weights.step(&self.config.optimizer, rate, step, gradients, &self.matrices);
        if !norm.is_finite() {
            return Ok(norm);
        }
        self.zeros.iter().for_each(|weight| self.state.weights.values[*weight] = 0.0);
        let progress = &mut self.state.progress;
        progress.terms.iter_mut().zip(terms).for_each(|(sum, own)| *sum += own);
        (progress.step, progress.at) = (step + 1, at + 1);
        Ok(loss)
    }

    /// The model of some weights, in the order of the state's.
    pub fn model(&self, values: &[f32]) -> Model {
        let network = filled(self.network.clone(), values);
        Model::new(self.plain.config().clone(), network.to_weights(&self.plain))
    }

    /// The model of the best weights so far.
    pub fn best(&self) -> Model {
        self.model(&self.state.best)
    }

    /// Looks at the watched frames, with the average of weights where there is one.
    fn look(&mut self) -> Result<Row, TrainError> {
        let watched = self.state.weights.watched(&self.config.optimizer);
        let sums = errors(&self.model(watched), &self.validation)?;
        let loss = watched_loss(&self.config.loss, &sums);
        let best = self.state.progress.least.is_none_or(|least| loss < least) && loss.is_finite();
        if best {
            self.state.best = watched.to_vec();
            (self.state.progress.least, self.state.progress.best_epoch) = (Some(loss), self.state.progress.epoch);
        }
        let Progress { epoch, step, at, terms, .. } = self.state.progress;
        let steps = at as f64;
        let root = |term: f64, weight: f64| (at > 0 && weight > 0.0).then(|| (term / steps / weight).sqrt());
        let milli = |root: Option<f64>| root.map(|root| 1e3 * root);
        let weights = &self.config.loss;
        let Errors {
            energy_mae_mev_per_atom,
            energy_rmse_mev_per_atom,
            force_mae_mev_per_a,
            force_rmse_mev_per_a,
            stress_rmse_gpa,
            ..
        } = sums.errors();
        Ok(Row {
            epoch,
            step,
            rate: self.rate(),
            train_loss: (at > 0).then(|| terms.iter().sum::<f64>() / steps),
            train_energy_rmse_mev_per_atom: milli(root(terms[0], weights.energy)),
            train_force_rmse_mev_per_a: milli(root(terms[1], weights.forces)),
            train_feature_rmse: root(terms[3], weights.features),
            loss,
            energy_mae_mev_per_atom,
            energy_rmse_mev_per_atom,
            force_mae_mev_per_a,
            force_rmse_mev_per_a,
            stress_rmse_gpa,
            best,
            seconds: self.seconds(),
        })
    }

    /// Trains to the end, from where the state is.
    ///
    /// # Errors
    /// [`TrainError`]; the checkpoint is then the last that was written.
    pub fn run(&mut self, files: &Files, watch: &mut impl Watch) -> Result<Ended, TrainError> {
        let mut log = files.log.as_deref().map(|path| Log::open(path, self.state.progress.log)).transpose()?;
        let epochs = self.config.run.epochs;
        let mut told = |training: &mut Self, row: &Row, watch: &mut dyn FnMut(&Row)| -> Result<(), TrainError> {
            if let Some(log) = &mut log {
                training.state.progress.log = log.line(row)?;
            }
            watch(row);
            Ok(())
        };
        if self.state.progress.step == 0 {
            let row = self.look()?;
            told(self, &row, &mut |row| watch.epoch(row, epochs))?;
        }
        let every = Duration::from_secs_f64(self.config.run.checkpoint_seconds.min(1e9));
        let mut saved = Instant::now();
        while self.state.progress.epoch < epochs {
            let loss = self.step()?;
            if !loss.is_finite() {
                return Ok(Ended::Diverged { step: self.state.progress.step + 1 });
            }
            watch.step(self.state.progress.step, self.steps, loss);
            if self.state.progress.at == self.order.len() {
                self.state.progress.epoch += 1;
                let mut row = self.look()?;
                let progress = &mut self.state.progress;
                progress.plateau.look(&self.config.schedule, row.loss);
                (progress.at, progress.terms) = (0, [0.0; 4]);
                row.rate = self.rate();
                told(self, &row, &mut |row| watch.epoch(row, epochs))?;
                self.order = batches::epoch(&self.config.run, &self.atoms, self.state.progress.epoch);
                let patience = self.config.run.early_stopping;
                if patience > 0 && row.epoch - self.state.progress.best_epoch >= patience {
                    return Ok(Ended::Stopped);
                }
            }
            let stop = watch.stop() && self.state.progress.epoch < epochs;
            if let Some(checkpoint) = files.checkpoint.as_deref().filter(|_| stop || saved.elapsed() >= every) {
                self.save(checkpoint)?;
                saved = Instant::now();
            }
            if stop {
                return Ok(Ended::Interrupted);
            }
        }
        Ok(Ended::Done)
    }
}

/// An error of a network with where the frame is from.
fn of_frame(error: TrainError, path: &Path, frame: usize) -> TrainError {
    let reason = match &error {
        TrainError::Network(error) => error.to_string(),
        _ => return error,
    };
    let own = format!("structure {frame}: ");
    let reason = reason.strip_prefix(&own).unwrap_or(&reason).to_owned();
    TrainError::Frame { path: path.to_owned(), frame, reason }
}

/// Errors of a model on labelled frames.
///
/// # Errors
/// [`TrainError`] for a frame that cannot be computed, by its place among them.
pub fn errors(model: &Model, samples: &[Sample]) -> Result<ErrorSums, TrainError> {
    let host = HostModel::<f32>::new(model)?;
    let mut sums = ErrorSums::default();
    let most = batch::atoms(model.config(), Dtype::F32);
    let mut rest = samples;
    while !rest.is_empty() {
        let mut atoms = 0;
        let fits = |sample: &&Sample| {
            atoms += sample.frame.structure.n_atoms();
            atoms <= most
        };
        let (chunk, others) = rest.split_at(rest.iter().take_while(fits).count().max(1));
        rest = others;
        let structures: Vec<Structure> = chunk.iter().map(|sample| sample.frame.structure.clone()).collect();
        let found = host.predict(&structures, Wanted::FORCES)?;
        for (sample, found) in chunk.iter().zip(&found) {
            let frame = &sample.frame;
            let predicted = Values { energy: Some(found.energy), forces: Some(&found.forces), stress: found.stress };
            let labels = Values { energy: frame.energy, forces: frame.forces.as_deref(), stress: frame.stress };
            sums.add(&frame.structure, predicted, labels).map_err(|error| TrainError::Frame {
                path: sample.path.clone(),
                frame: frame.frame,
                reason: error.to_string(),
            })?;
        }
    }
    Ok(sums)
}

/// The loss of watched frames: each mean over all of them at once.
fn watched_loss(loss: &LossConfig, sums: &ErrorSums) -> f64 {
    let term = |weight: f64, rmse: Option<f64>| if weight > 0.0 { weight * rmse.unwrap_or(0.0).powi(2) } else { 0.0 };
    term(loss.energy, sums.energy.rmse())
        + term(loss.forces, sums.forces.components.rmse())
        + term(loss.stress, sums.stress.rmse())
}

/// What has to be the same for a run to go on: settings that have an effect on the result, and the frames.
fn identity(config: &TrainConfig, split: &Split) -> Map<String, Value> {
    let mut identity = Map::new();
    for (section, content) in config.to_map() {
        for (key, value) in content.as_object().into_iter().flatten() {
            // Files count by what they hold, and moments of checkpoints do not.
            if section != "data" && key != "checkpoint_seconds" && key != "start" {
                identity.insert(format!("{section}.{key}"), value.clone());
            }
        }
    }
    for (name, samples) in [("data.train", &split.train), ("data.validation", &split.validation)] {
        let mut hash = Sha256::new();
        for Sample { frame, .. } in samples {
            let structure = &frame.structure;
            hash.update(&structure.species);
            hash.update(structure.pbc.map(u8::from));
            let cell = structure.cell.iter().flatten().flatten();
            let numbers = structure.positions.as_flattened().iter().chain(cell);
            let labels = frame.energy.iter().chain(frame.forces.iter().flatten().flatten());
            for x in numbers.chain(labels).chain(frame.stress.iter().flatten().flatten()) {
                hash.update(x.to_le_bytes());
            }
        }
        let hex: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        identity.insert(name.to_owned(), hex.into());
    }
    for (name, path) in [
        ("data.isolated_atoms", &config.data.isolated_atoms),
        ("data.teacher", &config.data.teacher),
        ("model.start", &config.model.start),
    ] {
        let bytes = path.as_deref().map(|path| std::fs::read(path).unwrap_or_default());
        let hex = bytes.map(|bytes| Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect::<String>());
        identity.insert(name.to_owned(), hex.map_or(Value::Null, Value::String));
    }
    identity
}

/// JSON lines that a run which goes on continues where its checkpoint was.
struct Log {
    path: PathBuf,
    file: File,
    len: u64,
}

impl Log {
    fn open(path: &Path, len: u64) -> Result<Self, TrainError> {
        let opened = || -> io::Result<File> {
            let mut file = OpenOptions::new().create(true).truncate(false).write(true).open(path)?;
            file.set_len(len)?;
            file.seek(SeekFrom::End(0))?;
            Ok(file)
        };
        let file = opened().map_err(|source| TrainError::Write { path: path.to_owned(), source })?;
        Ok(Self { path: path.to_owned(), file, len })
    }

    /// Writes a line; gives the length of the file.
    fn line(&mut self, row: &Row) -> Result<u64, TrainError> {
        let written = serde_json::to_vec(row).map_err(io::Error::from).and_then(|mut text| {
            text.push(b'\n');
            self.file.write_all(&text)?;
            self.len += text.len() as u64;
            Ok(self.len)
        });
        written.map_err(|source| TrainError::Write { path: self.path.clone(), source })
    }
}
