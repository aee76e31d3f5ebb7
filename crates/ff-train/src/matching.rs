//! Features of a teacher, which those of a student are matched with.

use std::path::Path;

use burn_flex::Flex;
use ff_model::Model;
use ff_nn::Network;
use ff_spec::Dtype;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::direct::Direct;
use crate::error::TrainError;
use crate::loss::{Fitted, flatten};
use crate::parallel::Workers;
use crate::split::Sample;

/// Frames that are computed at once.
const CHUNK: usize = 16;

/// Gives every frame the features that the head of a teacher reads of it, each channel less its mean and all of them over their
/// deviation. Returns their number per atom.
///
/// # Errors
/// A file that is no PaiNN with SiLU in eV; a frame that it cannot compute.
pub fn attach(path: &Path, samples: &[Sample], frames: &mut [Fitted], workers: &Workers) -> Result<usize, TrainError> {
    let model = Model::load(path)?;
    let (config, weights) = (model.config(), model.weights());
    let (width, rows) = (config.features, weights.embedding.len() / config.features);
    let teacher = Direct::<f32>::new(config, &weights.radial, rows, None).ok_or_else(|| TrainError::Setting {
        key: "data.teacher",
        expected: "a PaiNN with SiLU, in eV, that sums its atoms".to_owned(),
        found: format!("{}, {}", path.display(), config.summary()),
    })?;
    let (values, _) =
        flatten::<_, f32>(&Network::<Flex>::from_weights(config, weights, Dtype::F32, &Default::default()));
    let loaded = teacher.load(&values);
    let chunks: Vec<&[Sample]> = samples.chunks(CHUNK).collect();
    let found = workers.run(chunks.len(), |chunk| -> Result<Vec<f32>, TrainError> {
        let own = chunks[chunk].iter().map(|Sample { frame, path }| {
            Fitted::new(frame, 0.0, config.cutoff, rows).map_err(|error| TrainError::Frame {
                path: path.clone(),
                frame: frame.frame,
                reason: format!("the teacher of data.teacher cannot compute it: {error}"),
            })
        });
        let own = own.collect::<Result<Vec<_>, _>>()?;
        Ok(teacher.features(&loaded, &own.iter().collect::<Vec<_>>()))
    });
    let mut all = Vec::new();
    for chunk in found {
        all.extend(chunk?);
    }
    standardise(&mut all, width);
    let mut rest = &all[..];
    for frame in frames {
        let (own, others) = rest.split_at(width * frame.n_atoms());
        frame.set_features(own.to_vec());
        rest = others;
    }
    Ok(width)
}

/// Takes the mean from every channel of [n, `width`] and divides all by their deviation: channels that say little stay small.
fn standardise(values: &mut [f32], width: usize) {
    let n = (values.len() / width).max(1) as f64;
    let mut means = vec![0.0f64; width];
    for row in values.chunks_exact(width) {
        means.iter_mut().zip(row).for_each(|(mean, x)| *mean += f64::from(*x) / n);
    }
    let squares: f64 = values
        .chunks_exact(width)
        .flat_map(|row| row.iter().zip(&means))
        .map(|(x, m)| (f64::from(*x) - m).powi(2))
        .sum();
    let deviation = (squares / (n * width as f64)).sqrt().max(f64::MIN_POSITIVE);
    for row in values.chunks_exact_mut(width) {
        row.iter_mut().zip(&means).for_each(|(x, mean)| *x = ((f64::from(*x) - mean) / deviation) as f32);
    }
}

/// Weights [features, width] and biases [width] of a projection to begin with: Xavier's uniform distribution, zeros.
pub fn projection(features: usize, width: usize, seed: u64) -> Vec<f32> {
    // Other numbers than those of the model's weights.
    let mut rng = ChaCha8Rng::seed_from_u64(seed ^ 0x6665_6174_7572_6573);
    let most = (6.0 / (features + width) as f32).sqrt();
    let mut values: Vec<f32> = (0..features * width).map(|_| rng.random_range(-most..most)).collect();
    values.extend(std::iter::repeat_n(0.0, width));
    values
}
