//! Weights back into a file, and models of random weights.

use ff_spec::fused_message::Radial;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{Interaction, Linear, Weights};
use crate::config::{Basis, Config, Kind};
use crate::file::{ModelFile, StoredDtype, Tensor};
use crate::units::Unit;

impl Weights {
    /// The file that these weights were read from, or would be: tensors in the order in which [`Weights::read`] reads them, in `dtype`.
    pub fn to_file(&self, config: &Config, dtype: StoredDtype) -> ModelFile {
        let mut writer = Writer { file: ModelFile::default(), dtype };
        writer.file.set_config(config);
        let (f, angstrom) = (config.features, config.length_unit.factor());
        writer.tensor("representation.embedding.weight", &[self.embedding.len() / f, f], &self.embedding);
        writer.tensor("representation.cutoff_fn.cutoff", &[1], &[config.cutoff / angstrom]);
        if config.basis != Basis::Bessel {
            let (mu, gamma) = (&self.radial.basis["mu"], &self.radial.basis["gamma"]);
            let offsets: Vec<f64> = mu.iter().map(|mu| mu / angstrom).collect();
            let widths: Vec<f64> = gamma.iter().map(|gamma| (0.5 / gamma).sqrt() / angstrom).collect();
            writer.tensor("representation.radial_basis.offsets", &[offsets.len()], &offsets);
            writer.tensor("representation.radial_basis.widths", &[widths.len()], &widths);
        }
        // As in `of_basis`.
        let of_basis = |filter: &Linear| {
            let scale = if config.basis == Basis::Bessel { angstrom } else { 1.0 };
            Linear { weight: filter.weight.iter().map(|w| w / scale).collect(), ..filter.clone() }
        };
        if config.kind == Kind::Painn {
            let filters = self.interactions.iter().filter_map(|interaction| match interaction {
                Interaction::Painn { filter, .. } => Some(of_basis(filter)),
                Interaction::Schnet { .. } => None,
            });
            let mut net = Linear { inputs: config.n_basis, ..Linear::default() };
            for filter in filters.take(if config.shared_filters { 1 } else { usize::MAX }) {
                net.outputs += filter.outputs;
                net.weight.extend(filter.weight);
                net.bias.extend(filter.bias);
            }
            writer.linear("representation.filter_net", &net);
        }
        for (l, interaction) in self.interactions.iter().enumerate() {
            let at = format!("representation.interactions.{l}");
            match interaction {
                Interaction::Painn { context, mix, update, .. } => {
                    let mixing = format!("representation.mixing.{l}");
                    for (k, linear) in context.iter().enumerate() {
                        writer.linear(&format!("{at}.interatomic_context_net.{k}"), linear);
                    }
                    writer.linear(&format!("{mixing}.mu_channel_mix"), mix);
                    for (k, linear) in update.iter().enumerate() {
                        writer.linear(&format!("{mixing}.intraatomic_context_net.{k}"), linear);
                    }
                }
                Interaction::Schnet { inputs, filter: [first, second], output } => {
                    writer.linear(&format!("{at}.in2f"), inputs);
                    writer.linear(&format!("{at}.filter_network.0"), &of_basis(first));
                    writer.linear(&format!("{at}.filter_network.1"), second);
                    for (k, linear) in output.iter().enumerate() {
                        writer.linear(&format!("{at}.f2out.{k}"), linear);
                    }
                }
            }
        }
        for (k, linear) in self.head.iter().enumerate() {
            writer.linear(&format!("head.outnet.{k}"), linear);
        }
        if !self.atomref.is_empty() {
            let unit = config.energy_unit.factor();
            let own: Vec<f64> = self.atomref.iter().map(|energy| energy / unit).collect();
            // Energies of atoms are large and their sums cancel.
            writer.file.tensors.push(Tensor::of_f64("atomref", &[own.len()], &own));
        }
        writer.file
    }

    /// Weights as before any training, with an embedding for atomic numbers below `rows`: uniform within √(6/(inputs + outputs)), as
    /// Glorot and Bengio (2010) have them, and, since what is zero tests nothing, biases within 0.1. All are numbers of f32. The same
    /// seed gives the same weights.
    pub fn random(config: &Config, rows: usize, seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let (f, n, k) = (config.features, config.filters, config.n_basis);
        let mut linear = |inputs: usize, outputs: usize, bias: bool| {
            let limit = (6.0 / (inputs + outputs) as f64).sqrt();
            let mut uniform =
                |len: usize, limit: f64| (0..len).map(|_| f64::from(rng.random_range(-limit..limit) as f32)).collect();
            let weight = uniform(inputs * outputs, limit);
            Linear { inputs, outputs, weight, bias: uniform(if bias { outputs } else { 0 }, 0.1) }
        };
        let embedding = linear(rows, f, false).weight;
        let mut interactions: Vec<Interaction> = Vec::new();
        for _ in 0..config.layers {
            let interaction = match (config.kind, interactions.first()) {
                (Kind::Painn, first) => {
                    let own = Interaction::Painn {
                        filter: linear(k, 3 * f, true),
                        context: [linear(f, f, true), linear(f, 3 * f, true)],
                        mix: linear(f, 2 * f, false),
                        update: [linear(2 * f, f, true), linear(f, 3 * f, true)],
                    };
                    shared(config, own, first)
                }
                (Kind::Schnet, Some(first)) if config.shared_interactions => first.clone(),
                (Kind::Schnet, _) => Interaction::Schnet {
                    inputs: linear(f, n, false),
                    filter: [linear(k, n, true), linear(n, n, true)],
                    output: [linear(n, f, true), linear(f, f, true)],
                },
            };
            interactions.push(interaction);
        }
        let head = config.head.layers.windows(2).map(|width| linear(width[0], width[1], true)).collect();
        Self { embedding, radial: default_radial(config), interactions, head, atomref: Vec::new() }
    }
}

/// A layer of PaiNN with what it shares with the first.
fn shared(config: &Config, own: Interaction, first: Option<&Interaction>) -> Interaction {
    let (
        Interaction::Painn { filter, context, mix, update },
        Some(Interaction::Painn { filter: of_all, context: of_first, mix: mix_first, update: update_first }),
    ) = (&own, first)
    else {
        return own;
    };
    let filter = if config.shared_filters { of_all } else { filter }.clone();
    match config.shared_interactions {
        true => Interaction::Painn {
            filter,
            context: of_first.clone(),
            mix: mix_first.clone(),
            update: update_first.clone(),
        },
        false => Interaction::Painn { filter, context: context.clone(), mix: mix.clone(), update: update.clone() },
    }
}

/// SchNetPack's radial functions: Gaussians on a grid from 0, or around 0 with widths from 1 Å, to the cutoff.
fn default_radial(config: &Config) -> Radial<f64> {
    let (k, r_c) = (config.n_basis, config.cutoff);
    let step = |start: f64| (r_c - start) / k.saturating_sub(1).max(1) as f64;
    let mut radial = Radial { r_cut: r_c, n_basis: k, ..Radial::default() };
    let widths: Vec<f64> = match config.basis {
        Basis::Bessel => return radial,
        Basis::Gaussian => vec![step(0.0); k],
        Basis::GaussianCentered => (0..k).map(|k| 1.0 + k as f64 * step(1.0)).collect(),
    };
    let mu = match config.basis {
        Basis::Gaussian => (0..k).map(|k| k as f64 * step(0.0)).collect(),
        _ => vec![0.0; k],
    };
    radial.basis.insert("mu".to_owned(), mu);
    radial.basis.insert("gamma".to_owned(), widths.iter().map(|width| 0.5 / (width * width)).collect());
    radial
}

struct Writer {
    file: ModelFile,
    dtype: StoredDtype,
}

impl Writer {
    fn tensor(&mut self, name: &str, shape: &[usize], values: &[f64]) {
        let bytes = Vec::new();
        let empty = Tensor { name: name.to_owned(), shape: shape.to_vec(), dtype: self.dtype, bytes };
        self.file.tensors.push(empty.with_values(values));
    }

    fn linear(&mut self, prefix: &str, Linear { inputs, outputs, weight, bias }: &Linear) {
        self.tensor(&format!("{prefix}.weight"), &[*outputs, *inputs], weight);
        if !bias.is_empty() {
            self.tensor(&format!("{prefix}.bias"), &[*outputs], bias);
        }
    }
}
