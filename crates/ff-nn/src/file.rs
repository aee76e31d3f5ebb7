//! Weights as a file under SchNetPack's names.

use ff_model::ModelFile;
use ff_model::config::{Basis, Config};
use ff_model::file::Tensor;
use ff_model::units::Unit;
use ff_model::weights::{Interaction, Linear, Weights};
use ff_spec::Dtype;

/// Appends tensors in the element type of a file.
struct Writer {
    dtype: Dtype,
    tensors: Vec<Tensor>,
}

impl Writer {
    fn push(&mut self, name: String, shape: &[usize], values: &[f64]) {
        self.tensors.push(match self.dtype {
            Dtype::F64 => Tensor::of_f64(name, shape, values),
            Dtype::F32 => Tensor::of_f32(name, shape, &values.iter().map(|x| *x as f32).collect::<Vec<_>>()),
        });
    }

    fn linear(&mut self, prefix: &str, linear: &Linear) {
        self.push(format!("{prefix}.weight"), &[linear.outputs, linear.inputs], &linear.weight);
        if !linear.bias.is_empty() {
            self.push(format!("{prefix}.bias"), &[linear.outputs], &linear.bias);
        }
    }
}

/// A file of a model: metadata of schema 1, and weights in `dtype`. What layers share is written for each, as SchNetPack's state
/// has it. Lengths and energies are in the units that the config says.
pub(crate) fn of_weights(config: &Config, weights: &Weights, dtype: Dtype) -> ModelFile {
    let mut file = ModelFile::default();
    file.set_config(config);
    let mut writer = Writer { dtype, tensors: Vec::new() };
    let rows = weights.embedding.len() / config.features;
    writer.push("representation.embedding.weight".to_owned(), &[rows, config.features], &weights.embedding);
    buffers(&mut writer, config, weights);
    filter_net(&mut writer, config, weights);
    for (l, interaction) in weights.interactions.iter().enumerate() {
        let at = format!("representation.interactions.{l}");
        match interaction {
            Interaction::Painn { context, mix, update, .. } => {
                let mixing = format!("representation.mixing.{l}");
                for (k, (context, update)) in context.iter().zip(update).enumerate() {
                    writer.linear(&format!("{at}.interatomic_context_net.{k}"), context);
                    writer.linear(&format!("{mixing}.intraatomic_context_net.{k}"), update);
                }
                writer.linear(&format!("{mixing}.mu_channel_mix"), mix);
            }
            Interaction::Schnet { inputs, filter: [first, second], output } => {
                writer.linear(&format!("{at}.in2f"), inputs);
                writer.linear(&format!("{at}.filter_network.0"), &of_file(config, first.clone()));
                writer.linear(&format!("{at}.filter_network.1"), second);
                for (k, output) in output.iter().enumerate() {
                    writer.linear(&format!("{at}.f2out.{k}"), output);
                }
            }
        }
    }
    for (k, linear) in weights.head.iter().enumerate() {
        writer.linear(&format!("head.outnet.{k}"), linear);
    }
    if !weights.atomref.is_empty() {
        let atomref: Vec<f64> = weights.atomref.iter().map(|x| x / config.energy_unit.factor()).collect();
        // Energies of atoms reach 10⁴ eV: f32 would cost them a part of what a model is right to.
        writer.tensors.push(Tensor::of_f64("atomref", &[atomref.len()], &atomref));
    }
    file.tensors = writer.tensors;
    file
}

/// Parameters of radial basis and cutoff, in the file's unit of length.
fn buffers(writer: &mut Writer, config: &Config, weights: &Weights) {
    let (k, angstrom) = (config.n_basis, config.length_unit.factor());
    match config.basis {
        Basis::Bessel => {
            let freqs: Vec<f64> = (1..=k).map(|n| n as f64 * std::f64::consts::PI * angstrom / config.cutoff).collect();
            writer.push("representation.radial_basis.freqs".to_owned(), &[k], &freqs);
        }
        Basis::Gaussian | Basis::GaussianCentered => {
            let [mu, gamma] = ["mu", "gamma"].map(|name| &weights.radial.basis[name]);
            let offsets: Vec<f64> = mu.iter().map(|mu| mu / angstrom).collect();
            let widths: Vec<f64> = gamma.iter().map(|gamma| (0.5 / gamma).sqrt() / angstrom).collect();
            writer.push("representation.radial_basis.offsets".to_owned(), &[k], &offsets);
            writer.push("representation.radial_basis.widths".to_owned(), &[k], &widths);
        }
    }
    writer.push("representation.cutoff_fn.cutoff".to_owned(), &[1], &[config.cutoff / angstrom]);
}

/// The filters of a PaiNN: those of all layers one below the other, or those that all share.
fn filter_net(writer: &mut Writer, config: &Config, weights: &Weights) {
    let filters = weights.interactions.iter().filter_map(|interaction| match interaction {
        Interaction::Painn { filter, .. } => Some(filter),
        Interaction::Schnet { .. } => None,
    });
    let own = if config.shared_filters { 1 } else { config.layers };
    let joined = filters.take(own).fold(Linear { inputs: config.n_basis, ..Linear::default() }, |mut all, filter| {
        all.outputs += filter.outputs;
        all.weight.extend_from_slice(&filter.weight);
        all.bias.extend_from_slice(&filter.bias);
        all
    });
    if joined.outputs > 0 {
        writer.linear("representation.filter_net", &of_file(config, joined));
    }
}

/// A layer on basis values in the file's unit of length: those of Bessel functions are inverse lengths.
fn of_file(config: &Config, mut linear: Linear) -> Linear {
    if config.basis == Basis::Bessel {
        linear.weight.iter_mut().for_each(|w| *w /= config.length_unit.factor());
    }
    linear
}
