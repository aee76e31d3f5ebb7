//! Models as commands use them: loaded, on a runtime, in an element type that is known only when they run.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use clap::Args;
use ff_kernels::host::peak::Peak;
use ff_md::SKIN;
use ff_model::host::{Real, Times};
use ff_model::{Config, Deviation, HostModel, Model, ModelError, Plan, Prediction, Wanted, batch};
use ff_nn::NetworkError;
use ff_nn::device::{Follow, Predict, open};
use ff_spec::{DeviceId, Dtype, Precision, RuntimeKind};
use ff_structure::{Structure, elements};
use ff_train::labels::GPA;
use ff_train::validate::{ENERGY_LIMIT, FORCE_LIMIT, STRESS_LIMIT};
use serde::Serialize;

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

/// How a model is packed for the host.
#[derive(Clone, Copy, Debug, Args)]
pub struct PackArgs {
    /// Read filters from tables that err by at most this beside their largest value: faster messages [default: exact filters].
    #[arg(long, value_name = "ERROR", value_parser = tolerance)]
    pub tabulate: Option<f64>,
    /// Store weights and features in f16 or bf16, or weights and inputs of dense layers in int8; compared with f32 first.
    #[arg(long, value_name = "TYPE", default_value = "f32")]
    pub precision: Precision,
    /// Go on where --precision errs by more than 10 meV/atom, 50 meV/Å or 0.1 GPa.
    #[arg(long)]
    pub allow_inaccurate: bool,
}

fn tolerance(text: &str) -> std::result::Result<f64, String> {
    let found = text.parse::<f64>().ok().filter(|error| (1e-12..=1e-2).contains(error));
    found.ok_or_else(|| format!("`{text}` is no tolerance of a table, expected 1e-12 to 1e-2"))
}

/// Structures of an input that a reduced precision is compared with f32 on.
const COMPARED: usize = 8;

/// By how much a reduced precision errs, beside f32 with exact filters.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct BesideF32 {
    /// Structures that were compared.
    pub structures: usize,
    /// Mean absolute error of energies.
    pub energy_mae_mev_per_atom: f64,
    /// Root mean square error of components of forces.
    pub force_rmse_mev_per_a: f64,
    /// The same of stress; `None` where no structure has one.
    pub stress_rmse_gpa: Option<f64>,
}

impl From<Deviation> for BesideF32 {
    fn from(deviation: Deviation) -> Self {
        Self {
            structures: deviation.structures,
            energy_mae_mev_per_atom: 1e3 * deviation.energy,
            force_rmse_mev_per_a: 1e3 * deviation.forces,
            stress_rmse_gpa: deviation.stress.map(|stress| GPA * stress),
        }
    }
}

impl BesideF32 {
    /// What is not below its limit, in words; what is no number is below none.
    fn beyond(&self) -> Vec<String> {
        [
            ("energy MAE, meV/atom", Some(self.energy_mae_mev_per_atom), ENERGY_LIMIT),
            ("force RMSE, meV/Å", Some(self.force_rmse_mev_per_a), FORCE_LIMIT),
            ("stress RMSE, GPa", self.stress_rmse_gpa, STRESS_LIMIT),
        ]
        .into_iter()
        .filter_map(|(quantity, found, limit)| Some((quantity, found?, limit)))
        .filter(|(_, found, limit)| found.is_nan() || found >= limit)
        .map(|(quantity, found, limit)| format!("{quantity}: expected below {limit}, found {found:.4}"))
        .collect()
    }
}

impl PackArgs {
    /// Exact filters, and nothing stored in less than the element type.
    pub const EXACT: Self = Self { tabulate: None, precision: Precision::F32, allow_inaccurate: false };

    /// Packs a model for the host.
    ///
    /// # Errors
    /// A model without kernels, a tolerance that no table reaches and a reduced precision of f64, as bad input.
    pub fn pack<T: Real>(self, model: &Model) -> Result<HostModel<T>> {
        if self.precision.is_reduced() && T::DTYPE != Dtype::F32 {
            let (precision, dtype) = (self.precision, T::DTYPE);
            return Err(Failure::input(format!(
                "--precision {precision} stores less than f32 holds: expected --dtype f32, found {dtype}"
            )));
        }
        HostModel::with_precision(model, self.precision, self.tabulate).map_err(Failure::input)
    }

    /// Compares a reduced precision with f32 on the first structures of an input, and says by how much it errs; nothing where
    /// nothing is reduced, or where the first structure cannot be computed, which whoever computes it says.
    ///
    /// # Errors
    /// Errors that are not below their limits, as unmet, unless they are allowed.
    pub fn compare(self, model: &Model, structures: &[Structure], screen: &Screen) -> Result<Option<BesideF32>> {
        let mut structures = &structures[..structures.len().min(COMPARED)];
        let precision = self.precision;
        if !precision.is_reduced() || structures.is_empty() {
            return Ok(None);
        }
        let (packed, reference) = (self.pack::<f32>(model)?, Self::EXACT.pack::<f32>(model)?);
        let deviation = loop {
            match packed.deviation(&reference, structures) {
                Ok(deviation) => break deviation,
                Err(error) if error.index() == 0 => return Ok(None),
                Err(error) => structures = &structures[..error.index()],
            }
        };
        let found = BesideF32::from(deviation);
        let stress = found.stress_rmse_gpa.map(|stress| format!(", stress {stress:.4} GPa")).unwrap_or_default();
        screen.headline(format!(
            "precision {precision} errs beside f32 on {} structures by: energy {:.4} meV/atom, forces {:.4} meV/Å (RMSE){stress}",
            found.structures, found.energy_mae_mev_per_atom, found.force_rmse_mev_per_a
        ))?;
        let beyond = found.beyond().join("; ");
        match (beyond.is_empty(), self.allow_inaccurate) {
            (true, _) => {}
            (false, true) => screen.warn(format!("warning: precision {precision}: {beyond}")),
            (false, false) => {
                return Err(Failure::unmet(format!(
                    "precision {precision}: {beyond}; --allow-inaccurate goes on with it"
                )));
            }
        }
        Ok(Some(found))
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
/// A dtype that the device does not compute in, as a fault; tables and a reduced precision, as bad input.
pub fn device(kind: RuntimeKind, model: &Model, dtype: Dtype, packing: PackArgs) -> Result<Box<dyn Predict>> {
    let PackArgs { tabulate, precision, .. } = packing;
    if tabulate.is_some() {
        let message = format!("--tabulate: tables of a model's filters are read on host, found --runtime {kind}");
        return Err(Failure::input(message));
    }
    if precision.is_reduced() {
        return Err(Failure::input(format!(
            "--precision {precision}: devices store numbers as they compute with them so far, expected --runtime host, \
             found {kind}"
        )));
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
    /// As [`PackArgs::pack`].
    pub fn new(model: &Model, dtype: Dtype, packing: PackArgs) -> Result<Self> {
        Ok(match dtype {
            Dtype::F32 => Self::Single(packing.pack(model)?),
            Dtype::F64 => Self::Double(packing.pack(model)?),
        })
    }

    /// How numbers are stored.
    pub fn precision(&self) -> Precision {
        match self {
            Self::Single(model) => model.precision(),
            Self::Double(model) => model.precision(),
            Self::Device(_) => Precision::F32,
        }
    }

    /// Bytes of packed weights on host.
    pub fn weight_bytes(&self) -> Option<usize> {
        match self {
            Self::Single(model) => Some(model.weight_bytes()),
            Self::Double(model) => Some(model.weight_bytes()),
            Self::Device(_) => None,
        }
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
    /// A dtype that the device does not compute in, as a fault; tables and a reduced precision, as bad input.
    pub fn on(self, runtime: RuntimeKind, model: &Model, dtype: Dtype) -> Result<Self> {
        match runtime {
            RuntimeKind::Host => Ok(self),
            kind => {
                let tabulate = self.table_error();
                let packing = PackArgs { tabulate, precision: self.precision(), ..PackArgs::EXACT };
                Ok(Self::Device(device(kind, model, dtype, packing)?))
            }
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

#[cfg(test)]
mod tests {
    use ff_model::ModelFile;
    use ff_model::weights::Weights;

    use super::*;

    #[test]
    fn devices_refuse_what_they_do_not_store_in_less() {
        let head = r#"{"layers":[4,2,1],"activation":"silu"}"#;
        let config = [
            ("model", "schnet"),
            ("n_atom_basis", "4"),
            ("n_interactions", "1"),
            ("n_rbf", "3"),
            ("cutoff", "4.0"),
            ("head", head),
        ]
        .into_iter()
        .fold(ModelFile::default(), |mut file, (key, value)| {
            file.set(key, value);
            file
        })
        .config()
        .expect("a config");
        let weights = Weights::random(&config, 10, 0);
        let model = Model::new(config, weights);
        for kind in [RuntimeKind::Vulkan, RuntimeKind::Cuda, RuntimeKind::Metal] {
            let packing = PackArgs { precision: Precision::Bf16, ..PackArgs::EXACT };
            let packed = AnyModel::new(&model, Dtype::F32, packing).expect("a model");
            let refused = packed.on(kind, &model, Dtype::F32).err().expect("a refusal");
            assert_eq!(refused.code, 2);
            assert!(refused.message.contains("--precision bf16: devices store"), "{}", refused.message);
            assert!(refused.message.contains(&format!("found {kind}")), "{}", refused.message);
        }
    }
}
