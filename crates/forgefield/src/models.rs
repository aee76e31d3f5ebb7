//! Models as commands use them: loaded, on a runtime, in an element type that is known only when they run.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use clap::Args;
use ff_kernels::host::peak::Peak;
use ff_md::SKIN;
use ff_model::host::{Real, Times};
use ff_model::{Config, HostModel, Model, ModelError, Plan, Prediction, Wanted, batch};
use ff_nn::NetworkError;
use ff_nn::device::{Follow, Predict, open};
use ff_spec::{DeviceId, Dtype, RuntimeKind};
use ff_structure::{Structure, elements};

use crate::failure::{Failure, Result};
use crate::options::RuntimeChoice;
use crate::screen::Screen;
use crate::{machine, runtimes};

/// Reads a model's file.
///
/// # Errors
/// What is wrong with it, as bad input.
pub fn load(path: &Path) -> Result<Model> {
    Model::load(path).map_err(Failure::input)
}

/// Refuses runtimes on which models are not measured; else says in the first line of output where they are.
///
/// # Errors
/// A runtime other than the host.
pub fn on_host(choice: RuntimeChoice, screen: &Screen) -> Result<()> {
    match choice.kind() {
        None | Some(RuntimeKind::Host) => announce(choice, screen).map(drop),
        Some(kind) => {
            let message =
                format!("the parts of models are measured on host: expected --runtime host or auto, found {kind}");
            Err(Failure::input(message))
        }
    }
}

/// Opens the runtime of a model and says so in the first line of output. `auto` is the host: nothing says yet from which size on a
/// GPU is faster.
///
/// # Errors
/// A runtime that was asked for and cannot be had, as a fault.
pub fn announce(choice: RuntimeChoice, screen: &Screen) -> Result<DeviceId> {
    let auto = if choice.kind().is_none() { " (chosen by auto)" } else { "" };
    let runtime = runtimes::of(choice.kind().unwrap_or(RuntimeKind::Host)).map_err(runtimes::unavailable)?;
    screen.headline(format!("runtime {}{auto}", runtimes::describe(runtime.device())))?;
    Ok(runtime.device().clone())
}

/// How the filters of a model are read.
#[derive(Clone, Copy, Debug, Args)]
pub struct FilterArgs {
    /// Read filters from tables that err by at most this beside their largest value: faster messages [default: exact filters].
    #[arg(long, value_name = "ERROR", value_parser = tolerance)]
    pub tabulate: Option<f64>,
}

fn tolerance(text: &str) -> std::result::Result<f64, String> {
    let found = text.parse::<f64>().ok().filter(|error| (1e-12..=1e-2).contains(error));
    found.ok_or_else(|| format!("`{text}` is no tolerance of a table, expected 1e-12 to 1e-2"))
}

impl FilterArgs {
    /// No tables.
    pub const EXACT: Self = Self { tabulate: None };

    /// Packs a model for the host.
    ///
    /// # Errors
    /// A model without kernels and a tolerance that no table reaches, as bad input.
    pub fn pack<T: Real>(self, model: &Model) -> Result<HostModel<T>> {
        match self.tabulate {
            None => HostModel::new(model),
            Some(tolerance) => HostModel::tabulated(model, tolerance),
        }
        .map_err(Failure::input)
    }

    /// What an evaluation does.
    pub fn plan(self, config: &Config, dtype: Dtype) -> Plan {
        match self.tabulate {
            None => Plan::new(config, dtype),
            Some(_) => Plan::tabulated(config, dtype),
        }
    }
}

/// A model on a runtime.
pub enum AnyModel {
    /// On the host in f32.
    Single(HostModel<f32>),
    /// On the host in f64.
    Double(HostModel<f64>),
    /// On a device.
    Device(Box<dyn Predict>),
}

/// A model on a device.
///
/// # Errors
/// A dtype that the device does not compute in, as a fault; filters that are to be tables, as bad input.
pub fn device(kind: RuntimeKind, model: &Model, dtype: Dtype, has_tables: bool) -> Result<Box<dyn Predict>> {
    if has_tables {
        let message = format!("--tabulate: tables of a model's filters are read on host, found --runtime {kind}");
        return Err(Failure::input(message));
    }
    open(kind, model, dtype, Arc::default()).map_err(Failure::fault)
}

/// Why there is no prediction.
#[derive(Debug)]
pub enum PredictError {
    /// A structure that cannot be computed.
    Structure(ModelError),
    /// A device that fails.
    Device(String),
}

impl From<ModelError> for PredictError {
    fn from(error: ModelError) -> Self {
        Self::Structure(error)
    }
}

impl From<NetworkError> for PredictError {
    fn from(error: NetworkError) -> Self {
        match error {
            NetworkError::Structure(error) => Self::Structure(error),
            other => Self::Device(other.to_string()),
        }
    }
}

impl PredictError {
    /// Of structures that are frames of a file, the first of them frame `first`, counted from 1.
    pub fn of_frames(self, file: &Path, first: usize) -> Failure {
        match self {
            Self::Structure(error) => of_frame(file, first + error.index(), &error),
            Self::Device(message) => Failure::fault(message),
        }
    }
}

impl AnyModel {
    /// Packs a model for the host.
    ///
    /// # Errors
    /// As [`FilterArgs::pack`].
    pub fn new(model: &Model, dtype: Dtype, filters: FilterArgs) -> Result<Self> {
        Ok(match dtype {
            Dtype::F32 => Self::Single(filters.pack(model)?),
            Dtype::F64 => Self::Double(filters.pack(model)?),
        })
    }

    /// How much filters that are tables err beside their largest value; `None` where they are exact.
    pub fn table_error(&self) -> Option<f64> {
        match self {
            Self::Single(model) => model.table_error(),
            Self::Double(model) => model.table_error(),
            Self::Device(_) => None,
        }
    }

    /// The same model on a runtime: what is wrong with it was said by the host's, whatever it runs on.
    ///
    /// # Errors
    /// A dtype that the device does not compute in, as a fault; tables, as bad input.
    pub fn on(self, runtime: RuntimeKind, model: &Model, dtype: Dtype) -> Result<Self> {
        match runtime {
            RuntimeKind::Host => Ok(self),
            kind => Ok(Self::Device(device(kind, model, dtype, self.table_error().is_some())?)),
        }
    }

    /// As [`HostModel::predict_timed`]; the parts of an evaluation on a device are not timed.
    ///
    /// # Errors
    /// As there, and what a device says.
    pub fn predict(
        &self,
        structures: &[Structure],
        wanted: Wanted,
        times: &Times,
    ) -> std::result::Result<Vec<Prediction>, PredictError> {
        Ok(match self {
            Self::Single(model) => model.predict_timed(structures, wanted, times)?,
            Self::Double(model) => model.predict_timed(structures, wanted, times)?,
            Self::Device(model) => model.predict(structures, wanted)?,
        })
    }
}

/// A model that is asked for the same structures again and again, with their atoms moved: on a device their neighbour lists stay
/// there.
pub enum Asked {
    /// On the host.
    Host(Box<AnyModel>),
    /// On a device.
    Device(Box<dyn Follow>),
}

impl Asked {
    /// Of a model where it is.
    ///
    /// # Errors
    /// As [`Predict::moving`].
    pub fn of(model: AnyModel) -> Result<Self> {
        Ok(match model {
            AnyModel::Device(model) => Self::Device(model.moving(SKIN).map_err(Failure::fault)?),
            host => Self::Host(Box::new(host)),
        })
    }

    /// As [`AnyModel::predict`].
    ///
    /// # Errors
    /// As there.
    pub fn predict(
        &mut self,
        structures: &[Structure],
        wanted: Wanted,
    ) -> std::result::Result<Vec<Prediction>, PredictError> {
        match self {
            Self::Host(model) => model.predict(structures, wanted, &Times::off()),
            Self::Device(model) => Ok(model.predict(structures, wanted)?),
        }
    }
}

/// Under what a model's parts are read: what the machine can do at most, and whether memory is in the way.
pub struct Roof {
    /// Measured.
    pub peak: Peak,
    /// The element type.
    pub dtype: Dtype,
    /// Whether all that an evaluation touches stays in the processor's cache, so that bytes say nothing.
    pub cached: bool,
}

impl Roof {
    /// For an evaluation of so many atoms and directed edges.
    pub fn new(peak: Peak, model: &Model, dtype: Dtype, atoms: u64, edges: u64) -> Self {
        let weights = model.weights().n_parameters(model.config()) as u64 * dtype.size() as u64;
        let touched = batch::memory(model.config(), dtype).at(atoms, edges) + weights;
        Self { peak, dtype, cached: machine::cache().is_some_and(|cache| touched <= cache) }
    }

    /// The least time in ns for so many FLOPs and bytes, and by which of the two.
    pub fn floor(&self, flops: u64, bytes: u64) -> (f64, &'static str) {
        let arithmetic = 1e9 * flops as f64 / self.peak.flops(self.dtype);
        let memory = if self.cached { 0.0 } else { 1e9 * bytes as f64 / self.peak.bytes };
        if arithmetic >= memory { (arithmetic, "FLOPs") } else { (memory, "bytes") }
    }
}

/// What is said of filters that are tables.
pub fn of_tables(error: f64) -> String {
    format!("filters are tables that err by {error:.1e} of their largest value")
}

/// The error of a structure that is a frame of a file; frames are counted from 1.
pub fn of_frame(file: &Path, frame: usize, error: &ModelError) -> Failure {
    Failure::input(format!("{}: frame {frame}: {}", file.display(), error.reason()))
}

/// Refuses a frame that memory does not suffice for, before the system ends the process for it.
///
/// # Errors
/// The frame, as a fault.
pub fn fits(model: &Model, dtype: Dtype, file: &Path, frame: usize, n_atoms: usize) -> Result<()> {
    if n_atoms <= batch::MOST_ATOMS {
        return Ok(());
    }
    let (needed, free) = (n_atoms as f64 * batch::bytes_per_atom(model.config(), dtype), batch::free());
    match free {
        Some(free) if needed > free as f64 => Err(Failure::fault(format!(
            "{}: frame {frame}: {n_atoms} atoms need about {:.1} GiB, {:.1} GiB are free",
            file.display(),
            needed / f64::from(1 << 30),
            free as f64 / f64::from(1 << 30)
        ))),
        _ => Ok(()),
    }
}

/// The largest force of an atom, eV/Å; 0 of none.
pub fn largest_force(forces: &[[f64; 3]]) -> f64 {
    forces.iter().map(|f| f.iter().map(|x| x * x).sum::<f64>().sqrt()).fold(0.0, f64::max)
}

/// Says once of each element that a model was not trained on it, where its file lists those that it was.
#[derive(Default)]
pub struct Untrained {
    said: BTreeSet<u8>,
}

impl Untrained {
    /// Looks at a frame of a file.
    pub fn look(&mut self, config: &Config, file: &Path, frame: usize, structure: &Structure, screen: &Screen) {
        if config.elements.is_empty() {
            return;
        }
        for z in &structure.species {
            if !config.elements.contains(z) && self.said.insert(*z) {
                let symbol = |z: u8| elements::symbol(z).map_or_else(|| z.to_string(), str::to_owned);
                let known: Vec<String> = config.elements.iter().map(|z| symbol(*z)).collect();
                screen.warn(format!(
                    "warning: {}: frame {frame} has {}, which the model was not trained on ({}): what it says of it means little",
                    file.display(),
                    symbol(*z),
                    known.join(", ")
                ));
            }
        }
    }
}
