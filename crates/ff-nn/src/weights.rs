//! Weights to begin a training with.

use std::collections::BTreeMap;

use ff_model::config::{Basis, Config, Kind};
use ff_model::weights::{Interaction, Linear, Weights};
use ff_spec::fused_message::Radial;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Radial functions as SchNetPack makes them: Gaussians on a grid from 0 to the cutoff whose widths are its step, or centred
/// Gaussians with widths on a grid from 1 Å to the cutoff; Bessel functions have no parameters.
pub fn radial(config: &Config) -> Radial<f64> {
    let (k, cutoff) = (config.n_basis, config.cutoff);
    let step = |from: f64| if k > 1 { (cutoff - from) / (k - 1) as f64 } else { cutoff };
    let (mu, widths): (Vec<f64>, Vec<f64>) = match config.basis {
        Basis::Bessel => return Radial { r_cut: cutoff, n_basis: k, ..Radial::default() },
        Basis::Gaussian => (0..k).map(|n| (n as f64 * step(0.0), step(0.0))).unzip(),
        Basis::GaussianCentered => (0..k).map(|n| (0.0, 1.0 + n as f64 * step(1.0))).unzip(),
    };
    let gamma = widths.iter().map(|width| 0.5 / (width * width)).collect();
    let basis = BTreeMap::from([("mu".to_owned(), mu), ("gamma".to_owned(), gamma)]);
    Radial { r_cut: cutoff, n_basis: k, basis, cutoff: BTreeMap::new() }
}

/// Random weights as SchNetPack begins with: dense layers of Xavier's uniform distribution with zero biases, embeddings of the
/// normal one, that of atomic number 0 zero. `rows` is one more than the largest atomic number; equal seeds give equal weights.
pub fn random(config: &Config, rows: usize, seed: u64) -> Weights {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let (f, n, k) = (config.features, config.filters, config.n_basis);
    let mut embedding: Vec<f64> = (0..rows * f).map(|_| normal(&mut rng)).collect();
    embedding.iter_mut().take(f).for_each(|x| *x = 0.0);
    // One layer makes the filters of all interactions of a PaiNN, and its width is in the distribution.
    let all_filters = if config.shared_filters { 3 * f } else { 3 * f * config.layers };
    let mut interactions: Vec<Interaction> = (0..config.layers)
        .map(|_| match config.kind {
            Kind::Painn => Interaction::Painn {
                filter: xavier_of(&mut rng, k, 3 * f, k + all_filters, true),
                context: [xavier(&mut rng, f, f, true), xavier(&mut rng, f, 3 * f, true)],
                mix: xavier(&mut rng, f, 2 * f, false),
                update: [xavier(&mut rng, 2 * f, f, true), xavier(&mut rng, f, 3 * f, true)],
            },
            Kind::Schnet => Interaction::Schnet {
                inputs: xavier(&mut rng, f, n, false),
                filter: [xavier(&mut rng, k, n, true), xavier(&mut rng, n, n, true)],
                output: [xavier(&mut rng, n, f, true), xavier(&mut rng, f, f, true)],
            },
        })
        .collect();
    share(config, &mut interactions);
    let widths: Vec<(usize, usize)> = config.head.layers.windows(2).map(|pair| (pair[0], pair[1])).collect();
    Weights {
        embedding,
        radial: radial(config),
        interactions,
        head: widths.into_iter().map(|(inputs, outputs)| xavier(&mut rng, inputs, outputs, true)).collect(),
        atomref: Vec::new(),
    }
}

/// Gives all layers the weights of the first, where the config says that they share them.
fn share(config: &Config, interactions: &mut [Interaction]) {
    let first = interactions[0].clone();
    for interaction in interactions {
        let own = interaction.clone();
        if config.shared_interactions {
            *interaction = first.clone();
        }
        if let (
            Interaction::Painn { filter: of_first, .. },
            Interaction::Painn { filter: own, .. },
            Interaction::Painn { filter, .. },
        ) = (&first, own, interaction)
        {
            *filter = if config.shared_filters { of_first.clone() } else { own };
        }
    }
}

fn xavier(rng: &mut ChaCha8Rng, inputs: usize, outputs: usize, bias: bool) -> Linear {
    xavier_of(rng, inputs, outputs, inputs + outputs, bias)
}

/// Uniform within √(6/fans).
fn xavier_of(rng: &mut ChaCha8Rng, inputs: usize, outputs: usize, fans: usize, bias: bool) -> Linear {
    let bound = (6.0 / fans as f64).sqrt();
    Linear {
        inputs,
        outputs,
        weight: (0..inputs * outputs).map(|_| rng.random_range(-bound..bound)).collect(),
        bias: vec![0.0; if bias { outputs } else { 0 }],
    }
}

/// By Box and Muller.
fn normal(rng: &mut ChaCha8Rng) -> f64 {
    let (u, v): (f64, f64) = (rng.random_range(f64::MIN_POSITIVE..1.0), rng.random());
    (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
}
