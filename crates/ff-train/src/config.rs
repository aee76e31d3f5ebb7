//! What a training is asked for: a TOML file in which every key has a default and no other key is known.

use std::fmt;
use std::path::{Path, PathBuf};

use ff_model::config::{Aggregation, Basis, Config, CutoffFn, Head, Kind};
use ff_model::units::{Energy, Length, UnknownUnit};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use crate::error::TrainError;
use crate::labels::{Keys, LabelOptions, Units};

/// A training: data, model, loss, optimiser and course. Lengths in Å, energies in eV.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TrainConfig {
    /// Files of frames and how they are split.
    pub data: DataConfig,
    /// What is fitted.
    pub model: ModelConfig,
    /// Weights of squared errors.
    pub loss: LossConfig,
    /// AdamW.
    pub optimizer: OptimizerConfig,
    /// The learning rate's course.
    pub schedule: ScheduleConfig,
    /// How long, in which batches.
    pub run: RunConfig,
}

/// Files of labelled frames.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct DataConfig {
    /// Files of frames to fit.
    #[serde(deserialize_with = "paths")]
    pub train: Vec<PathBuf>,
    /// Files of frames to watch; without any, `validation_frames` of `train` are.
    #[serde(deserialize_with = "paths")]
    pub validation: Vec<PathBuf>,
    /// Frames of `train` to watch and not to fit, drawn by `run.seed`; by default one in twenty.
    pub validation_frames: Option<usize>,
    /// Files of frames that the result is tested on, once.
    #[serde(deserialize_with = "paths")]
    pub test: Vec<PathBuf>,
    /// A file of single atoms, whose energies are taken from those of frames; without it they are fitted.
    pub isolated_atoms: Option<PathBuf>,
    /// A model whose features are matched, where `loss.features` weighs them; `distill` gives its teacher.
    pub teacher: Option<PathBuf>,
    /// Key of energies, where it is not to be looked for.
    pub energy_key: Option<String>,
    /// Column of forces.
    pub forces_key: Option<String>,
    /// Key of stresses.
    pub stress_key: Option<String>,
    /// Key of virials.
    pub virial_key: Option<String>,
    /// Unit of energies: `eV`, `Ha`, `kcal/mol` or `kJ/mol`. Where it is not given it is eV, and labels that look like others are
    /// refused.
    pub energy_unit: Option<String>,
    /// Unit of lengths: `Ang` or `Bohr`.
    pub length_unit: String,
    /// Unit of stresses: `energy/length3`, `GPa` or `kbar`.
    pub stress_unit: String,
    /// What the result says of where its data are from.
    pub source: Option<String>,
    /// What the result says of its licence.
    pub license: Option<String>,
}

impl Default for DataConfig {
    fn default() -> Self {
        Self {
            train: Vec::new(),
            validation: Vec::new(),
            validation_frames: None,
            test: Vec::new(),
            isolated_atoms: None,
            teacher: None,
            energy_key: None,
            forces_key: None,
            stress_key: None,
            virial_key: None,
            energy_unit: None,
            length_unit: Length::default().to_string(),
            stress_unit: "energy/length3".to_owned(),
            source: None,
            license: None,
        }
    }
}

/// The model's sizes, in SchNetPack's terms.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ModelConfig {
    /// `painn` or `schnet`.
    pub kind: String,
    /// Features F of an atom.
    pub features: usize,
    /// Channels of SchNet's filters; F where not given.
    pub filters: Option<usize>,
    /// Interactions L.
    pub layers: usize,
    /// Radial basis functions K.
    pub n_basis: usize,
    /// `gaussian`, `gaussian_centered` or `bessel`.
    pub basis: String,
    /// Cutoff radius, Å.
    pub cutoff: f64,
    /// `cosine` or `mollifier`.
    pub cutoff_fn: String,
    /// Whether all layers have the filters of one.
    pub shared_filters: bool,
    /// Whether all layers have the weights of one.
    pub shared_interactions: bool,
    /// Widths of the head between the features and the energy; F/2 where not given.
    pub head: Option<Vec<usize>>,
    /// A model to begin with, which then has all sizes above.
    pub start: Option<PathBuf>,
    /// Features of `start` to keep, those of the largest weights (PaiNN).
    pub keep_features: Option<usize>,
    /// The share of the smallest weights of each matrix of `start` that become zero, and stay so.
    pub sparsity: f64,
}

impl Default for ModelConfig {
    fn default() -> Self {
        Self {
            kind: Kind::Painn.to_string(),
            features: 128,
            filters: None,
            layers: 3,
            n_basis: 20,
            basis: Basis::Gaussian.to_string(),
            cutoff: 5.0,
            cutoff_fn: CutoffFn::Cosine.to_string(),
            shared_filters: false,
            shared_interactions: false,
            head: None,
            start: None,
            keep_features: None,
            sparsity: 0.0,
        }
    }
}

/// Weights of mean squared errors.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LossConfig {
    /// Of energies per atom, 1/eV².
    pub energy: f64,
    /// Of force components, Å²/eV².
    pub forces: f64,
    /// Of stress components, Å⁶/eV²; with 0 stresses are not read.
    pub stress: f64,
    /// Of features: how far those of `data.teacher`, in units of their deviation, are from what is linear in the model's own.
    pub features: f64,
}

impl Default for LossConfig {
    fn default() -> Self {
        Self { energy: 100.0, forces: 1.0, stress: 0.0, features: 0.0 }
    }
}

/// AdamW (arXiv 1711.05101).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct OptimizerConfig {
    /// The largest learning rate.
    pub rate: f64,
    /// Decay of the mean of gradients.
    pub beta1: f64,
    /// Decay of the mean of their squares.
    pub beta2: f64,
    /// Added to the root of the latter.
    pub epsilon: f64,
    /// Decay of matrices, in units of the learning rate.
    pub weight_decay: f64,
    /// The largest norm of a gradient; 0 for none.
    pub clip: f64,
    /// Decay of the moving average of weights, which is what is watched and written; 0 for none.
    pub ema: f64,
}

impl Default for OptimizerConfig {
    fn default() -> Self {
        Self { rate: 1e-3, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.01, clip: 10.0, ema: 0.999 }
    }
}

/// How the learning rate goes after a linear rise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Course {
    /// It stays.
    Constant,
    /// Half a cosine down to `min_rate` at the last step.
    Cosine,
    /// Times `factor` after `patience` epochs in which the watched loss had no new minimum.
    Plateau,
}

/// The learning rate's course.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ScheduleConfig {
    /// What it does after the rise.
    pub kind: Course,
    /// Steps of the rise.
    pub warmup_steps: u64,
    /// The least rate of `cosine` and `plateau`.
    pub min_rate: f64,
    /// Of `plateau`.
    pub factor: f64,
    /// Of `plateau`, epochs.
    pub patience: u64,
}

impl Default for ScheduleConfig {
    fn default() -> Self {
        Self { kind: Course::Cosine, warmup_steps: 100, min_rate: 1e-6, factor: 0.5, patience: 20 }
    }
}

/// How long, in which batches.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RunConfig {
    /// Times that every frame is fitted.
    pub epochs: u64,
    /// Frames of a step.
    pub batch: usize,
    /// Atoms of a step, at most, in the place of `batch`; a larger frame is a step of its own.
    pub batch_atoms: Option<usize>,
    /// Of weights, the split and the order of frames.
    pub seed: u64,
    /// Epochs without a new minimum of the watched loss after which training ends; 0 for none.
    pub early_stopping: u64,
    /// Atoms from which on a batch is computed in parts, of about so many atoms, by several threads.
    pub part_atoms: usize,
    /// Seconds between checkpoints.
    pub checkpoint_seconds: f64,
}

impl Default for RunConfig {
    fn default() -> Self {
        Self {
            epochs: 200,
            batch: 10,
            batch_atoms: None,
            seed: 0,
            early_stopping: 0,
            part_atoms: 48,
            checkpoint_seconds: 60.0,
        }
    }
}

/// One path or a list of them.
fn paths<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<PathBuf>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "a path or a list of paths")]
    enum Paths {
        One(PathBuf),
        Many(Vec<PathBuf>),
    }
    Ok(match Paths::deserialize(deserializer)? {
        Paths::One(path) => vec![path],
        Paths::Many(paths) => paths,
    })
}

impl TrainConfig {
    /// Reads a file; paths in it are relative to its folder.
    ///
    /// # Errors
    /// [`TrainError::Config`]: a file that cannot be read, is no TOML, or has a key that is not known or of another type.
    pub fn load(path: &Path) -> Result<Self, TrainError> {
        let text = std::fs::read_to_string(path).map_err(|error| TrainError::Config {
            place: path.display().to_string(),
            reason: format!("cannot be read: {error}"),
        })?;
        let mut config = Self::parse(&text, &path.display().to_string())?;
        let folder = path.parent().unwrap_or(Path::new(""));
        let DataConfig { train, validation, test, isolated_atoms, teacher, .. } = &mut config.data;
        let start = &mut config.model.start;
        for file in train.iter_mut().chain(validation).chain(test).chain(isolated_atoms).chain(teacher).chain(start) {
            *file = folder.join(&file);
        }
        Ok(config)
    }

    /// Reads a text; `place` is what errors call it.
    ///
    /// # Errors
    /// As [`TrainConfig::load`].
    pub fn parse(text: &str, place: &str) -> Result<Self, TrainError> {
        let refused = |reason: String| TrainError::Config { place: place.to_owned(), reason };
        let table: toml::Table = text.parse().map_err(|e: toml::de::Error| refused(e.to_string().trim_end().into()))?;
        let sections = Self::default().to_map();
        for (section, content) in &table {
            let Some(known) = sections.get(section).and_then(Value::as_object) else {
                return Err(refused(unknown(section, "", sections.keys())));
            };
            let Some(content) = content.as_table() else {
                return Err(refused(format!("`{section}` is {content}, expected a section `[{section}]`")));
            };
            if let Some(key) = content.keys().find(|key| !known.contains_key(key.as_str())) {
                return Err(refused(unknown(key, &format!(" in [{section}]"), known.keys())));
            }
        }
        toml::from_str(text).map_err(|e| refused(e.to_string().trim_end().to_owned()))
    }

    /// All keys, by section.
    pub fn to_map(&self) -> Map<String, Value> {
        match serde_json::to_value(self) {
            Ok(Value::Object(map)) => map,
            other => unreachable!("a config is an object of JSON: {other:?}"),
        }
    }

    /// Refuses numbers that no training has.
    ///
    /// # Errors
    /// [`TrainError::Setting`], the first of them.
    pub fn check(&self) -> Result<(), TrainError> {
        let Self { data, model, loss, optimizer, schedule, run } = self;
        let refused = |key: &'static str, expected: &str, found: &dyn fmt::Display| {
            Err(TrainError::Setting { key, expected: expected.to_owned(), found: found.to_string() })
        };
        if data.train.is_empty() {
            return refused("data.train", "a file of labelled frames", &"none");
        }
        if model.start.is_none() && (model.keep_features.is_some() || model.sparsity != 0.0) {
            return refused("model.start", "a model whose weights are taken out", &"none");
        }
        let of_start = ModelConfig {
            start: model.start.clone(),
            keep_features: model.keep_features,
            sparsity: model.sparsity,
            ..ModelConfig::default()
        };
        if let Some(start) = model.start.as_ref().filter(|_| *model != of_start) {
            return refused("model.start", "no sizes beside it, since it has its own", &start.display());
        }
        if !(0.0..1.0).contains(&model.sparsity) {
            return refused("model.sparsity", "a share from 0 to below 1", &model.sparsity);
        }
        // Far above any model; beyond it only memory runs out.
        const MOST: usize = 1 << 14;
        for (key, value) in [
            ("model.features", model.features),
            ("model.filters", model.filters.unwrap_or(1)),
            ("model.keep_features", model.keep_features.unwrap_or(1)),
            ("model.layers", model.layers),
            ("model.n_basis", model.n_basis),
            ("run.batch", run.batch),
            ("run.batch_atoms", run.batch_atoms.unwrap_or(1)),
            ("run.part_atoms", run.part_atoms),
        ] {
            if value == 0 || (key.starts_with("model") && value > MOST) {
                return refused(key, &format!("1 to {MOST}"), &value);
            }
        }
        let positive = [
            ("model.cutoff", model.cutoff),
            ("optimizer.rate", optimizer.rate),
            ("optimizer.epsilon", optimizer.epsilon),
            ("schedule.factor", schedule.factor),
        ];
        if let Some((key, value)) = positive.into_iter().find(|(_, value)| !(value.is_finite() && *value > 0.0)) {
            return refused(key, "a positive number", &value);
        }
        let weights = [
            ("loss.energy", loss.energy),
            ("loss.forces", loss.forces),
            ("loss.stress", loss.stress),
            ("loss.features", loss.features),
            ("optimizer.weight_decay", optimizer.weight_decay),
            ("optimizer.clip", optimizer.clip),
            ("schedule.min_rate", schedule.min_rate),
            ("run.checkpoint_seconds", run.checkpoint_seconds),
        ];
        if let Some((key, value)) = weights.into_iter().find(|(_, value)| !(value.is_finite() && *value >= 0.0)) {
            return refused(key, "a number that is not negative", &value);
        }
        if loss.energy + loss.forces + loss.stress == 0.0 {
            return refused("loss", "a weight above 0", &"none");
        }
        if loss.features > 0.0 && model.kind != Kind::Painn.to_string() {
            return refused("loss.features", "0 for a model that is no PaiNN", &loss.features);
        }
        match &data.teacher {
            None if loss.features > 0.0 => {
                return refused("data.teacher", "a model whose features are matched", &"none");
            }
            Some(teacher) if loss.features == 0.0 => {
                return refused("data.teacher", "none where `loss.features` is 0", &teacher.display());
            }
            _ => {}
        }
        let fractions = [
            ("optimizer.beta1", optimizer.beta1),
            ("optimizer.beta2", optimizer.beta2),
            ("optimizer.ema", optimizer.ema),
        ];
        if let Some((key, value)) = fractions.into_iter().find(|(_, value)| !(0.0..1.0).contains(value)) {
            return refused(key, "a number from 0 to below 1", &value);
        }
        if schedule.factor > 1.0 {
            return refused("schedule.factor", "a number up to 1", &schedule.factor);
        }
        if run.epochs == 0 {
            return refused("run.epochs", "1 or more", &run.epochs);
        }
        Ok(())
    }

    /// The model, of the elements of the data.
    ///
    /// # Errors
    /// [`TrainError::Setting`] for a name that is not known.
    pub fn model(&self, elements: Vec<u8>) -> Result<Config, TrainError> {
        let model = &self.model;
        let kind: Kind = choice("model.kind", &model.kind, Kind::ALL)?;
        let features = model.features;
        let activation = match kind {
            Kind::Painn => ff_model::config::Activation::Silu,
            Kind::Schnet => ff_model::config::Activation::ShiftedSoftplus,
        };
        let hidden = model.head.clone().unwrap_or_else(|| vec![(features / 2).max(1)]);
        if hidden.contains(&0) {
            let (expected, found) = ("positive widths".to_owned(), format!("{hidden:?}"));
            return Err(TrainError::Setting { key: "model.head", expected, found });
        }
        let layers = [vec![features], hidden, vec![1]].concat();
        Ok(Config {
            kind,
            features,
            filters: if kind == Kind::Schnet { model.filters.unwrap_or(features) } else { features },
            layers: model.layers,
            n_basis: model.n_basis,
            basis: choice("model.basis", &model.basis, Basis::ALL)?,
            cutoff: model.cutoff,
            cutoff_fn: choice("model.cutoff_fn", &model.cutoff_fn, CutoffFn::ALL)?,
            activation,
            epsilon: 1e-8,
            shared_filters: model.shared_filters,
            shared_interactions: model.shared_interactions,
            head: Head { layers, activation },
            aggregation: Aggregation::Sum,
            energy_unit: Energy::ElectronVolt,
            length_unit: Length::Angstrom,
            offset_per_atom: 0.0,
            elements,
        })
    }

    /// How frames are read. A label whose weight is not zero has to be there in some frame, not in all of them.
    ///
    /// # Errors
    /// [`TrainError::Setting`] for a unit that is not known.
    pub fn labels(&self) -> Result<LabelOptions, TrainError> {
        let DataConfig {
            energy_key, forces_key, stress_key, virial_key, energy_unit, length_unit, stress_unit, ..
        } = &self.data;
        let refused = |key: &'static str, found: &str| {
            let found = found.to_owned();
            move |error: String| TrainError::Setting { key, expected: error, found }
        };
        let units = Units {
            energy: match energy_unit {
                None => Energy::default(),
                Some(unit) => unit.parse().map_err(|e: UnknownUnit| refused("data.energy_unit", unit)(e.expected))?,
            },
            length: length_unit
                .parse()
                .map_err(|e: UnknownUnit| refused("data.length_unit", length_unit)(e.expected))?,
            stress: stress_unit.parse().map_err(refused("data.stress_unit", stress_unit))?,
        };
        let keys = Keys {
            energy: energy_key.clone(),
            forces: forces_key.clone(),
            stress: stress_key.clone(),
            virial: virial_key.clone(),
        };
        Ok(LabelOptions { keys, units, ..LabelOptions::default() })
    }
}

/// A choice by its name.
fn choice<T: Copy + fmt::Display>(key: &'static str, found: &str, all: &[T]) -> Result<T, TrainError> {
    all.iter().find(|choice| choice.to_string() == found).copied().ok_or_else(|| TrainError::Setting {
        key,
        expected: all.iter().map(T::to_string).collect::<Vec<_>>().join(" or "),
        found: format!("`{found}`"),
    })
}

/// What is wrong with a key, with the nearest that is known.
fn unknown<'a>(key: &str, place: &str, known: impl Iterator<Item = &'a String>) -> String {
    let known: Vec<&str> = known.map(String::as_str).collect();
    let nearest = known
        .iter()
        .map(|k| (strsim::damerau_levenshtein(key, k), k))
        .filter(|(distance, k)| *distance <= k.chars().count().max(3) / 2)
        .min_by_key(|(distance, _)| *distance)
        .map_or_else(String::new, |(_, k)| format!(" (nearest: `{k}`)"));
    format!("unknown key `{key}`{place}, expected one of {}{nearest}", known.join(", "))
}
