//! Models with random weights: what tests and benches run on where no trained one is at hand.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::config::{Basis, Config, Kind};
use crate::file::{ModelFile, Tensor};
use crate::units::Unit;

impl ModelFile {
    /// A file of a model with random weights in f32: those of dense layers uniform within √(6/(inputs + outputs)) as Glorot and
    /// Bengio (2010) have them, biases within 0.1, embeddings within 1 for atomic numbers below `rows`. Radial functions are
    /// SchNetPack's: centres from 0 to the cutoff, widths their distance. The same seed gives the same file.
    pub fn random(config: &Config, rows: usize, seed: u64) -> Self {
        let mut random = Random { rng: ChaCha8Rng::seed_from_u64(seed), file: Self::default() };
        let (f, n, k, layers) = (config.features, config.filters, config.n_basis, config.layers);
        random.file.set_config(config);
        random.uniform("representation.embedding.weight", &[rows, f], 1.0);
        let cutoff = config.cutoff / config.length_unit.factor();
        let distance = cutoff / k.saturating_sub(1).max(1) as f64;
        let centres: Vec<f32> = (0..k).map(|k| (k as f64 * distance) as f32).collect();
        let radial = |what: &str| format!("representation.radial_basis.{what}");
        match config.basis {
            Basis::Gaussian => {
                random.file.tensors.push(Tensor::of_f32(radial("offsets"), &[k], &centres));
                random.file.tensors.push(Tensor::of_f32(radial("widths"), &[k], &vec![distance as f32; k]));
            }
            Basis::GaussianCentered => {
                let widths: Vec<f32> = (1..=k).map(|k| (k as f64 * distance) as f32).collect();
                random.file.tensors.push(Tensor::of_f32(radial("offsets"), &[k], &vec![0.0; k]));
                random.file.tensors.push(Tensor::of_f32(radial("widths"), &[k], &widths));
            }
            Basis::Bessel => {
                let frequency = |k: usize| (k as f64 * std::f64::consts::PI / cutoff) as f32;
                let frequencies: Vec<f32> = (1..=k).map(frequency).collect();
                random.file.tensors.push(Tensor::of_f32(radial("freqs"), &[k], &frequencies));
            }
        }
        random.file.tensors.push(Tensor::of_f32("representation.cutoff_fn.cutoff", &[1], &[cutoff as f32]));
        let own = if config.shared_interactions { 1 } else { layers };
        let at = |list: &str, l: usize, what: &str| format!("representation.{list}.{l}.{what}");
        if config.kind == Kind::Painn {
            let columns = if config.shared_filters { 3 * f } else { 3 * f * layers };
            random.dense("representation.filter_net", [k, columns], true);
        }
        for l in 0..own {
            match config.kind {
                Kind::Painn => {
                    random.dense(&at("interactions", l, "interatomic_context_net.0"), [f, f], true);
                    random.dense(&at("interactions", l, "interatomic_context_net.1"), [f, 3 * f], true);
                    random.dense(&at("mixing", l, "mu_channel_mix"), [f, 2 * f], false);
                    random.dense(&at("mixing", l, "intraatomic_context_net.0"), [2 * f, f], true);
                    random.dense(&at("mixing", l, "intraatomic_context_net.1"), [f, 3 * f], true);
                }
                Kind::Schnet => {
                    random.dense(&at("interactions", l, "in2f"), [f, n], false);
                    random.dense(&at("interactions", l, "filter_network.0"), [k, n], true);
                    random.dense(&at("interactions", l, "filter_network.1"), [n, n], true);
                    random.dense(&at("interactions", l, "f2out.0"), [n, f], true);
                    random.dense(&at("interactions", l, "f2out.1"), [f, f], true);
                }
            }
        }
        for (layer, widths) in config.head.layers.windows(2).enumerate() {
            random.dense(&format!("head.outnet.{layer}"), [widths[0], widths[1]], true);
        }
        random.file
    }
}

struct Random {
    rng: ChaCha8Rng,
    file: ModelFile,
}

impl Random {
    fn uniform(&mut self, name: &str, shape: &[usize], within: f32) {
        let count: usize = shape.iter().product();
        let values: Vec<f32> = (0..count).map(|_| self.rng.random_range(-within..within)).collect();
        self.file.tensors.push(Tensor::of_f32(name, shape, &values));
    }

    fn dense(&mut self, prefix: &str, [inputs, outputs]: [usize; 2], bias: bool) {
        let within = (6.0 / (inputs + outputs) as f32).sqrt();
        self.uniform(&format!("{prefix}.weight"), &[outputs, inputs], within);
        if bias {
            self.uniform(&format!("{prefix}.bias"), &[outputs], 0.1);
        }
    }
}
