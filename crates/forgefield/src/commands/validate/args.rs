//! What `validate` is asked for.

use std::path::PathBuf;

use clap::Args;
use ff_model::units::{Energy, Length};
use ff_spec::Dtype;
use ff_train::labels::StressUnit;
use ff_train::{Keys, LabelOptions, Limits, Required, Units};

use crate::models::PackArgs;
use crate::options::RuntimeChoice;

/// `validate`.
#[derive(Debug, Args)]
pub struct ValidateArgs {
    /// The model that is validated (safetensors).
    #[arg(long, value_name = "FILE")]
    pub model: PathBuf,
    /// What it is compared with: a model (safetensors), or labelled frames (extxyz).
    #[arg(long, value_name = "FILE")]
    pub against: PathBuf,
    /// Structures to compare two models on [default: the eight built-in molecules].
    #[arg(value_name = "FILES")]
    pub files: Vec<PathBuf>,
    /// The mean absolute error of energies has to be below this, meV/atom [default: 10, where energies are compared].
    #[arg(long, value_name = "MEV", value_parser = limit)]
    pub max_energy: Option<f64>,
    /// The root mean square error of force components has to be below this, meV/Å [default: 50, where forces are compared].
    #[arg(long, value_name = "MEV", value_parser = limit)]
    pub max_force: Option<f64>,
    /// The root mean square error of stress components has to be below this, GPa [default: 0.1, where stress is compared].
    #[arg(long, value_name = "GPA", value_parser = limit)]
    pub max_stress: Option<f64>,
    /// What the labels are called, and their units.
    #[command(flatten)]
    pub labels: LabelArgs,
    /// Draw predictions over their reference (SVG).
    #[arg(long, value_name = "FILE")]
    pub figure: Option<PathBuf>,
    /// Element type of the evaluation.
    #[arg(long, default_value = "f32")]
    pub dtype: Dtype,
    /// How the model is packed; another model has exact filters and stores nothing in less than --dtype.
    #[command(flatten)]
    pub packing: PackArgs,
    /// Atoms of one call; a larger frame is a call of its own [default: as half of the free memory suffices for].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub batch_atoms: Option<u32>,
    /// Where to run; auto is the host.
    #[arg(long, default_value = "auto")]
    pub runtime: RuntimeChoice,
    /// Print the result as JSON.
    #[arg(long)]
    pub json: bool,
}

impl ValidateArgs {
    /// What errors have to be below.
    pub fn limits(&self) -> Limits {
        Limits { energy: self.max_energy, force: self.max_force, stress: self.max_stress }
    }
}

fn limit(text: &str) -> Result<f64, String> {
    let found = text.parse::<f64>().ok().filter(|limit| *limit > 0.0);
    found.ok_or_else(|| format!("`{text}` is no limit, expected a number above 0"))
}

/// How labels of a structure file are read.
#[derive(Clone, Debug, Args)]
pub struct LabelArgs {
    /// The key of the energy [default: energy, Energy, total_energy, TotEnergy or free_energy, with REF_, ref_, DFT_, dft_ or without].
    #[arg(long, value_name = "KEY", hide_short_help = true)]
    pub energy_key: Option<String>,
    /// The column of forces [default: forces, force or Forces, as the energy's].
    #[arg(long, value_name = "KEY", hide_short_help = true)]
    pub forces_key: Option<String>,
    /// The key of the stress [default: stress, as the energy's].
    #[arg(long, value_name = "KEY", hide_short_help = true)]
    pub stress_key: Option<String>,
    /// The key of the virial −∂E/∂ε, read where no stress is there [default: virial or virials, as the energy's].
    #[arg(long, value_name = "KEY", hide_short_help = true)]
    pub virial_key: Option<String>,
    /// The unit of energy in labelled files: eV, Ha, kcal/mol, kJ/mol.
    #[arg(long, value_name = "UNIT", default_value = "eV", hide_short_help = true)]
    pub energy_unit: Energy,
    /// The unit of length in labelled files: Ang, Bohr, nm.
    #[arg(long, value_name = "UNIT", default_value = "Ang", hide_short_help = true)]
    pub length_unit: Length,
    /// The unit of stress in labelled files, tension positive: GPa, kbar, or energy/length3 of the other two.
    #[arg(long, value_name = "UNIT", default_value = "energy/length3", hide_short_help = true)]
    pub stress_unit: StressUnit,
}

impl LabelArgs {
    /// As they are read, with what every frame must have.
    pub fn options(&self, required: Required) -> LabelOptions {
        LabelOptions {
            keys: Keys {
                energy: self.energy_key.clone(),
                forces: self.forces_key.clone(),
                stress: self.stress_key.clone(),
                virial: self.virial_key.clone(),
            },
            units: Units { energy: self.energy_unit, length: self.length_unit, stress: self.stress_unit },
            required,
        }
    }
}
