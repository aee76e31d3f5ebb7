//! The weights of a model, checked against what it says it is.
//!
//! Names are SchNetPack's: `representation.embedding.weight`, `representation.interactions.l.…`, `representation.mixing.l.…`,
//! `representation.filter_net.…`, `head.outnet.k.…`, or `output_modules.0.outnet.k.…` for the head.

mod write;

use ff_kernels::fused_message::registered;
use ff_spec::fused_message::{Message, Radial};

use crate::config::{Basis, Config, ConfigError, CutoffFn, Kind};
use crate::file::{ModelFile, Tensor};
use crate::units::Unit;

/// y = x·Wᵀ + b.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Linear {
    /// Inputs.
    pub inputs: usize,
    /// Outputs.
    pub outputs: usize,
    /// [outputs, inputs].
    pub weight: Vec<f64>,
    /// [outputs]; empty where there is none.
    pub bias: Vec<f64>,
}

/// One interaction.
#[derive(Clone, Debug, PartialEq)]
pub enum Interaction {
    /// Of PaiNN.
    Painn {
        /// `filter_net`: the columns of this layer, K → 3F.
        filter: Linear,
        /// `interatomic_context_net`: F → F → 3F.
        context: [Linear; 2],
        /// `mu_channel_mix`: F → 2F, without bias.
        mix: Linear,
        /// `intraatomic_context_net`: 2F → F → 3F.
        update: [Linear; 2],
    },
    /// Of SchNet.
    Schnet {
        /// `in2f`: F → filters, without bias.
        inputs: Linear,
        /// `filter_network`: K → filters → filters.
        filter: [Linear; 2],
        /// `f2out`: filters → F → F.
        output: [Linear; 2],
    },
}

/// All weights of a model, widened; radial functions in Å.
#[derive(Clone, Debug, PartialEq)]
pub struct Weights {
    /// [rows, F], by atomic number.
    pub embedding: Vec<f64>,
    /// Parameters of the radial functions.
    pub radial: Radial<f64>,
    /// Interactions in order.
    pub interactions: Vec<Interaction>,
    /// Layers of the head.
    pub head: Vec<Linear>,
    /// Energies of atoms that are added, eV, by atomic number; empty where there are none.
    pub atomref: Vec<f64>,
}

/// The names under which a tensor of the head is found.
pub(crate) fn head_names(layer: usize, what: &str) -> [String; 2] {
    ["head", "output_modules.0"].map(|prefix| format!("{prefix}.outnet.{layer}.{what}"))
}

fn shape(shape: &[usize]) -> String {
    format!("[{}]", shape.iter().map(usize::to_string).collect::<Vec<_>>().join(", "))
}

/// Reads tensors and notes which.
struct Reader<'a> {
    file: &'a ModelFile,
    model: String,
    read: Vec<&'a str>,
}

impl<'a> Reader<'a> {
    fn find(&mut self, names: &[String]) -> Option<&'a Tensor> {
        let tensor = self.file.any_tensor(names)?;
        self.read.push(&tensor.name);
        Some(tensor)
    }

    fn missing(&self, name: &str, expected: String) -> ConfigError {
        ConfigError::Missing { name: name.to_owned(), expected, model: self.model.clone() }
    }

    fn tensor(&mut self, names: &[String], expected: &[usize]) -> Result<Vec<f64>, ConfigError> {
        let tensor = self.find(names).ok_or_else(|| self.missing(&names[0], shape(expected)))?;
        if tensor.shape != expected {
            let (expected, found) = (shape(expected), shape(&tensor.shape));
            return Err(ConfigError::Shape { name: tensor.name.clone(), expected, found });
        }
        finite(tensor)
    }

    fn linear(&mut self, prefix: &str, [inputs, outputs]: [usize; 2], bias: bool) -> Result<Linear, ConfigError> {
        self.linear_of(&[prefix.to_owned()], [inputs, outputs], bias)
    }

    fn linear_of(
        &mut self,
        prefixes: &[String],
        [inputs, outputs]: [usize; 2],
        bias: bool,
    ) -> Result<Linear, ConfigError> {
        let names = |what: &str| prefixes.iter().map(|prefix| format!("{prefix}.{what}")).collect::<Vec<_>>();
        let weight = self.tensor(&names("weight"), &[outputs, inputs])?;
        let bias = if bias { self.tensor(&names("bias"), &[outputs])? } else { Vec::new() };
        Ok(Linear { inputs, outputs, weight, bias })
    }
}

fn finite(tensor: &Tensor) -> Result<Vec<f64>, ConfigError> {
    let values = tensor.values();
    match values.iter().position(|x| !x.is_finite()) {
        None => Ok(values),
        Some(index) => Err(ConfigError::Value {
            name: tensor.name.clone(),
            index,
            expected: "a finite value".to_owned(),
            found: values[index],
        }),
    }
}

impl Weights {
    /// The weights that a file holds of the model that its metadata describe.
    ///
    /// # Errors
    /// [`ConfigError`] for a tensor that is missing, surplus, of another shape or not finite, and for radial functions that are not
    /// those of the metadata.
    pub fn read(file: &ModelFile, config: &Config) -> Result<Self, ConfigError> {
        let mut reader =
            Reader { file, model: format!("{} of {} interactions", config.kind, config.layers), read: Vec::new() };
        let f = config.features;
        let embedding = embedding(&mut reader, f)?;
        let radial = radial(&mut reader, config)?;
        let interactions = match config.kind {
            Kind::Painn => painn(&mut reader, config)?,
            Kind::Schnet => schnet(&mut reader, config)?,
        };
        let widths = config.head.layers.windows(2).enumerate();
        let head = widths
            .map(|(k, width)| {
                let prefixes = ["head", "output_modules.0"].map(|prefix| format!("{prefix}.outnet.{k}"));
                reader.linear_of(&prefixes, [width[0], width[1]], true)
            })
            .collect::<Result<_, _>>()?;
        let atomref = match reader.find(&["atomref".to_owned()]) {
            None => Vec::new(),
            Some(tensor) if matches!(tensor.shape[..], [_] | [_, 1]) => {
                finite(tensor)?.into_iter().map(|x| x * config.energy_unit.factor()).collect()
            }
            Some(tensor) => {
                let (expected, found) = ("[rows] or [rows, 1]".to_owned(), shape(&tensor.shape));
                return Err(ConfigError::Shape { name: tensor.name.clone(), expected, found });
            }
        };
        if let Some(tensor) = file.tensors.iter().find(|tensor| !reader.read.contains(&tensor.name.as_str())) {
            return Err(ConfigError::Surplus { name: tensor.name.clone(), model: reader.model });
        }
        Ok(Self { embedding, radial, interactions, head, atomref })
    }

    /// Parameters that training changes, each once where layers share them.
    pub fn n_parameters(&self, config: &Config) -> usize {
        let linear = |linear: &Linear| linear.weight.len() + linear.bias.len();
        let of = |interaction: &Interaction, first: bool| match interaction {
            Interaction::Painn { filter, context, mix, update } => {
                let filter = if first || !config.shared_filters { linear(filter) } else { 0 };
                let rest = context.iter().chain(update).map(linear).sum::<usize>() + linear(mix);
                filter + if first || !config.shared_interactions { rest } else { 0 }
            }
            Interaction::Schnet { .. } if !first && config.shared_interactions => 0,
            Interaction::Schnet { inputs, filter, output } => {
                linear(inputs) + filter.iter().chain(output).map(linear).sum::<usize>()
            }
        };
        let interactions = self.interactions.iter().enumerate().map(|(l, interaction)| of(interaction, l == 0));
        self.embedding.len() + interactions.sum::<usize>() + self.head.iter().map(linear).sum::<usize>()
    }
}

fn embedding(reader: &mut Reader<'_>, f: usize) -> Result<Vec<f64>, ConfigError> {
    let name = "representation.embedding.weight".to_owned();
    let tensor =
        reader.find(std::slice::from_ref(&name)).ok_or_else(|| reader.missing(&name, format!("[rows, {f}]")))?;
    match tensor.shape[..] {
        [_, width] if width == f => finite(tensor),
        _ => Err(ConfigError::Shape { name, expected: format!("[rows, {f}]"), found: shape(&tensor.shape) }),
    }
}

fn painn(reader: &mut Reader<'_>, config: &Config) -> Result<Vec<Interaction>, ConfigError> {
    let (f, k, layers) = (config.features, config.n_basis, config.layers);
    let columns = if config.shared_filters { 3 * f } else { 3 * f * layers };
    let net = of_basis(config, reader.linear("representation.filter_net", [k, columns], true)?);
    (0..layers)
        .map(|l| {
            let first = if config.shared_filters { 0 } else { 3 * f * l };
            let filter = Linear {
                inputs: k,
                outputs: 3 * f,
                weight: net.weight[first * k..(first + 3 * f) * k].to_vec(),
                bias: net.bias[first..first + 3 * f].to_vec(),
            };
            let interaction = layer(reader, config, "interactions", l);
            let mixing = layer(reader, config, "mixing", l);
            let context = format!("{interaction}.interatomic_context_net");
            let update = format!("{mixing}.intraatomic_context_net");
            Ok(Interaction::Painn {
                filter,
                context: [
                    reader.linear(&format!("{context}.0"), [f, f], true)?,
                    reader.linear(&format!("{context}.1"), [f, 3 * f], true)?,
                ],
                mix: reader.linear(&format!("{mixing}.mu_channel_mix"), [f, 2 * f], false)?,
                update: [
                    reader.linear(&format!("{update}.0"), [2 * f, f], true)?,
                    reader.linear(&format!("{update}.1"), [f, 3 * f], true)?,
                ],
            })
        })
        .collect()
}

fn schnet(reader: &mut Reader<'_>, config: &Config) -> Result<Vec<Interaction>, ConfigError> {
    let (f, n, k) = (config.features, config.filters, config.n_basis);
    (0..config.layers)
        .map(|l| {
            let at = layer(reader, config, "interactions", l);
            Ok(Interaction::Schnet {
                inputs: reader.linear(&format!("{at}.in2f"), [f, n], false)?,
                filter: [
                    of_basis(config, reader.linear(&format!("{at}.filter_network.0"), [k, n], true)?),
                    reader.linear(&format!("{at}.filter_network.1"), [n, n], true)?,
                ],
                output: [
                    reader.linear(&format!("{at}.f2out.0"), [n, f], true)?,
                    reader.linear(&format!("{at}.f2out.1"), [f, f], true)?,
                ],
            })
        })
        .collect()
}

/// A layer on basis values in Å: those of Bessel functions are inverse lengths.
fn of_basis(config: &Config, mut linear: Linear) -> Linear {
    if config.basis == Basis::Bessel {
        linear.weight.iter_mut().for_each(|w| *w *= config.length_unit.factor());
    }
    linear
}

/// Where the weights of layer `l` are: its own, or the first's where layers share them and only one was written.
fn layer(reader: &Reader<'_>, config: &Config, list: &str, l: usize) -> String {
    let prefix = |l: usize| format!("representation.{list}.{l}");
    let own = format!("{}.", prefix(l));
    let there = reader.file.tensors.iter().any(|tensor| tensor.name.starts_with(&own));
    if there || !config.shared_interactions { prefix(l) } else { prefix(0) }
}

/// Parameters of the radial functions in Å: those of the file where it holds them, else SchNetPack's defaults.
fn radial(reader: &mut Reader<'_>, config: &Config) -> Result<Radial<f64>, ConfigError> {
    let (k, angstrom) = (config.n_basis, config.length_unit.factor());
    let cutoff = "representation.cutoff_fn.cutoff".to_owned();
    if let Some(tensor) = reader.find(std::slice::from_ref(&cutoff)) {
        close(tensor, &finite(tensor)?, &[config.cutoff / angstrom])?;
    }
    let name = |what: &str| [format!("representation.radial_basis.{what}")];
    let mut radial = Radial { r_cut: config.cutoff, n_basis: k, ..Radial::default() };
    match config.basis {
        Basis::Bessel => {
            if let Some(tensor) = reader.find(&name("freqs")) {
                let expected: Vec<f64> =
                    (1..=k).map(|k| k as f64 * std::f64::consts::PI * angstrom / config.cutoff).collect();
                close(tensor, &finite(tensor)?, &expected)?;
            }
        }
        Basis::Gaussian | Basis::GaussianCentered => {
            let [offsets, widths] = [name("offsets"), name("widths")].map(|name| reader.tensor(&name, &[k]));
            let (offsets, widths) = (offsets?, widths?);
            if let Some(index) = widths.iter().position(|width| *width == 0.0) {
                let (name, expected) = ("representation.radial_basis.widths".to_owned(), "a width".to_owned());
                return Err(ConfigError::Value { name, index, expected, found: 0.0 });
            }
            let gamma = widths.iter().map(|width| 0.5 / (width * angstrom).powi(2)).collect();
            radial.basis.insert("mu".to_owned(), offsets.iter().map(|offset| offset * angstrom).collect());
            radial.basis.insert("gamma".to_owned(), gamma);
        }
    }
    Ok(radial)
}

/// Checks that buffers hold what follows from the metadata, to the rounding of f32.
fn close(tensor: &Tensor, found: &[f64], expected: &[f64]) -> Result<(), ConfigError> {
    if found.len() != expected.len() {
        let (expected, found) = (shape(&[expected.len()]), shape(&tensor.shape));
        return Err(ConfigError::Shape { name: tensor.name.clone(), expected, found });
    }
    match found.iter().zip(expected).position(|(found, expected)| (found - expected).abs() > 1e-5 * expected.abs()) {
        None => Ok(()),
        Some(index) => Err(ConfigError::Value {
            name: tensor.name.clone(),
            index,
            expected: format!("{} as the metadata say", expected[index]),
            found: found[index],
        }),
    }
}

impl Config {
    /// The names of the radial functions among the kernels.
    pub fn radial_names(&self) -> (&'static str, &'static str) {
        let basis = match self.basis {
            Basis::Gaussian | Basis::GaussianCentered => "gaussian",
            Basis::Bessel => "bessel",
        };
        let cutoff = match self.cutoff_fn {
            CutoffFn::Cosine => "cosine",
            CutoffFn::Mollifier => "mollifier",
        };
        (basis, cutoff)
    }

    /// The message of its interactions.
    pub fn message(&self) -> Message {
        match self.kind {
            Kind::Painn => Message::Painn,
            Kind::Schnet => Message::Cfconv,
        }
    }
}

/// Whether kernels of these radial functions were rendered.
pub(crate) fn check_radial(config: &Config) -> Result<(), ConfigError> {
    let wanted = config.radial_names();
    if registered().iter().any(|variant| variant.message == config.message() && variant.radial == Some(wanted)) {
        return Ok(());
    }
    let mut known: Vec<String> = registered()
        .iter()
        .filter_map(|variant| variant.radial.map(|(basis, cutoff)| format!("{basis} with {cutoff}")))
        .collect();
    known.sort();
    known.dedup();
    let what = format!("basis {} with cutoff {}", wanted.0, wanted.1);
    Err(ConfigError::Unsupported { what, expected: known.join(", ") })
}
