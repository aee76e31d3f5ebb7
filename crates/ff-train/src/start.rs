//! Trainings that begin with a model, whole or with a part of its channels or weights.

use std::ops::Range;
use std::path::Path;

use ff_model::Model;
use ff_model::config::Config;
use ff_model::units::{Energy, Length};
use ff_model::weights::{Interaction, Linear, Weights};

use crate::config::TrainConfig;
use crate::error::TrainError;

/// A model of these elements to begin with, and its weights; their energies of atoms are not taken over.
///
/// # Errors
/// A file that cannot be read, other units than eV and Å, an element that it has no embedding of, more features to keep than it has.
pub fn load(path: &Path, config: &TrainConfig, elements: Vec<u8>) -> Result<(Config, Weights), TrainError> {
    let model = Model::load(path)?;
    let (mut config, mut weights) = match config.model.keep_features {
        None => (model.config().clone(), model.weights().clone()),
        Some(features) => kept(&model, features)?,
    };
    let refused = |expected: String, found: String| TrainError::Setting { key: "model.start", expected, found };
    if (config.energy_unit, config.length_unit) != (Energy::ElectronVolt, Length::Angstrom) {
        let found = format!("{} in {} and {}", path.display(), config.energy_unit, config.length_unit);
        return Err(refused("a model in eV and Å".to_owned(), found));
    }
    let rows = weights.embedding.len() / config.features;
    if let Some(z) = elements.iter().find(|z| usize::from(**z) >= rows) {
        let found = format!("{}, which has elements up to {}", path.display(), rows - 1);
        return Err(refused(format!("a model with an embedding of element {z}"), found));
    }
    (config.elements, config.offset_per_atom, weights.atomref) = (elements, 0.0, Vec::new());
    Ok((config, weights))
}

/// Makes the smallest share of every matrix zero; where they are.
pub fn zeros(values: &mut [f32], matrices: &[Range<usize>], share: f64) -> Vec<usize> {
    let mut zeros = Vec::new();
    for matrix in matrices {
        let mut order: Vec<usize> = matrix.clone().collect();
        order.sort_by(|a, b| values[*a].abs().total_cmp(&values[*b].abs()).then(a.cmp(b)));
        order.truncate((share * matrix.len() as f64) as usize);
        order.sort_unstable();
        zeros.extend(order);
    }
    zeros.iter().for_each(|weight| values[*weight] = 0.0);
    zeros
}

/// A PaiNN with those of its features that have the largest weights, each tensor's in units of its own norm; of hidden units the
/// same share, those whose weights before and after are the largest.
fn kept(model: &Model, features: usize) -> Result<(Config, Weights), TrainError> {
    let (mut config, weights) = (model.config().clone(), model.weights());
    let f = config.features;
    let refused = |expected: String, found: String| TrainError::Setting { key: "model.keep_features", expected, found };
    if features > f {
        return Err(refused(format!("at most the {f} features of `model.start`"), features.to_string()));
    }
    let mut score = vec![0.0; f];
    by_column(&weights.embedding, f, &mut score);
    for interaction in &weights.interactions {
        let Interaction::Painn { filter, context, mix, update } = interaction else {
            return Err(refused("none for a model that is no PaiNN".to_owned(), features.to_string()));
        };
        for linear in [filter, &context[1], mix, &update[1]] {
            by_row(linear, f, &mut score);
        }
        for linear in [&context[0], mix, &update[0]] {
            by_column(&linear.weight, f, &mut score);
        }
    }
    let channels = largest(&score, features);
    let of =
        |parts: usize| -> Vec<usize> { (0..parts).flat_map(|p| channels.iter().map(move |c| p * f + c)).collect() };
    let [one, two, three] = [1, 2, 3].map(of);
    let interactions = weights.interactions.iter().map(|interaction| match interaction {
        Interaction::Painn { filter, context, mix, update } => {
            let [in_context, in_update] = [context, update].map(|pair| hidden(pair, features));
            Interaction::Painn {
                filter: part(filter, &all(filter.inputs), &three),
                context: [part(&context[0], &one, &in_context), part(&context[1], &in_context, &three)],
                mix: part(mix, &one, &two),
                update: [part(&update[0], &two, &in_update), part(&update[1], &in_update, &three)],
            }
        }
        other => other.clone(),
    });
    let interactions = interactions.collect();
    let (mut head, mut inputs) = (Vec::new(), one.clone());
    for (k, linear) in weights.head.iter().enumerate() {
        let outputs = match weights.head.get(k + 1) {
            None => all(linear.outputs),
            Some(next) => {
                let most = (linear.outputs * features).div_ceil(f);
                hidden(&[linear.clone(), next.clone()], most)
            }
        };
        head.push(part(linear, &inputs, &outputs));
        inputs = outputs;
    }
    let embedding = weights.embedding.chunks_exact(f).flat_map(|row| one.iter().map(|c| row[*c])).collect();
    (config.features, config.filters) = (features, features);
    config.head.layers = std::iter::once(features).chain(head.iter().map(|linear: &Linear| linear.outputs)).collect();
    let weights = Weights { embedding, interactions, head, radial: weights.radial.clone(), atomref: Vec::new() };
    Ok((config, weights))
}

/// Adds to the score of every channel the share that it has in a tensor's squares, by its columns modulo `f`.
fn by_column(values: &[f64], f: usize, score: &mut [f64]) {
    let all: f64 = values.iter().map(|w| w * w).sum::<f64>().max(f64::MIN_POSITIVE);
    values.iter().enumerate().for_each(|(at, w)| score[at % f] += w * w / all);
}

/// Likewise by the rows of a layer's weights.
fn by_row(linear: &Linear, f: usize, score: &mut [f64]) {
    let all: f64 = linear.weight.iter().map(|w| w * w).sum::<f64>().max(f64::MIN_POSITIVE);
    for (o, row) in linear.weight.chunks_exact(linear.inputs).enumerate() {
        score[o % f] += row.iter().map(|w| w * w).sum::<f64>() / all;
    }
}

/// The hidden units between two layers with the largest weights.
fn hidden([first, second]: &[Linear; 2], most: usize) -> Vec<usize> {
    let score = |unit: usize| {
        let before: f64 = first.weight[unit * first.inputs..][..first.inputs].iter().map(|w| w * w).sum();
        let after: f64 = second.weight.iter().skip(unit).step_by(second.inputs).map(|w| w * w).sum();
        before * after
    };
    let scores: Vec<f64> = (0..first.outputs).map(score).collect();
    largest(&scores, most)
}

/// The places of the largest scores, in order.
fn largest(scores: &[f64], most: usize) -> Vec<usize> {
    let mut order = all(scores.len());
    order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]).then(a.cmp(b)));
    order.truncate(most);
    order.sort_unstable();
    order
}

fn all(n: usize) -> Vec<usize> {
    (0..n).collect()
}

/// A layer with some of its inputs and outputs.
fn part(linear: &Linear, inputs: &[usize], outputs: &[usize]) -> Linear {
    let mut weight = Vec::with_capacity(inputs.len() * outputs.len());
    for o in outputs {
        weight.extend(inputs.iter().map(|i| linear.weight[o * linear.inputs + i]));
    }
    let bias = if linear.bias.is_empty() { Vec::new() } else { outputs.iter().map(|o| linear.bias[*o]).collect() };
    Linear { inputs: inputs.len(), outputs: outputs.len(), weight, bias }
}

#[cfg(test)]
mod tests {
    use ff_model::HostModel;
    use ff_model::Wanted;
    use ff_structure::Structure;

    use super::*;

    /// A PaiNN of 8 features of which those from 5 on are nowhere read.
    fn model() -> Model {
        let text = "[data]\ntrain = \"a.extxyz\"\n[model]\nfeatures = 8\nlayers = 2\nn_basis = 5\ncutoff = 3.0";
        let config = TrainConfig::parse(text, "config.toml").unwrap().model(vec![1, 8]).unwrap();
        let mut weights = ff_nn::weights::random(&config, 9, 1);
        let f = config.features;
        let drop = |linear: &mut Linear, columns: bool, rows: bool| {
            let inputs = linear.inputs;
            for (at, w) in linear.weight.iter_mut().enumerate() {
                if (columns && at % inputs % f >= 5) || (rows && at / inputs % f >= 5) {
                    *w = 0.0;
                }
            }
        };
        for interaction in &mut weights.interactions {
            let Interaction::Painn { filter, context, mix, update } = interaction else { unreachable!() };
            drop(filter, false, true);
            for linear in context.iter_mut().chain(update).chain([mix]) {
                drop(linear, true, true);
            }
        }
        drop(&mut weights.head[0], true, false);
        // Of the head's 4 hidden units a half is read.
        weights.head[1].weight[3] = 0.0;
        Model::new(config, weights)
    }

    #[test]
    fn channels_that_say_nothing_go_without_a_trace() {
        let model = model();
        let (config, weights) = kept(&model, 5).unwrap();
        assert_eq!((config.features, &config.head.layers[..]), (5, &[5, 3, 1][..]));
        let small = Model::new(config, weights);
        let positions = vec![[0.0, 0.0, 0.1], [0.9, 0.1, 0.0], [-0.3, 0.9, 0.0]];
        let water = [Structure::open("", vec![8, 1, 1], positions)];
        let of =
            |model: &Model| HostModel::<f64>::new(model).unwrap().predict(&water, Wanted::FORCES).unwrap().remove(0);
        let (large, small) = (of(&model), of(&small));
        assert!((large.energy - small.energy).abs() < 1e-12 * large.energy.abs().max(1.0));
        for (a, b) in large.forces.as_flattened().iter().zip(small.forces.as_flattened()) {
            assert!((a - b).abs() < 1e-12, "{a}, {b}");
        }
        assert!(kept(&model, 9).is_err());
    }

    #[test]
    fn the_smallest_weights_of_each_matrix_are_zero() {
        let mut values = [9.0, 0.3, -0.1, 0.2, -5.0, 1.0, -2.0, 0.01];
        assert_eq!(zeros(&mut values, &[1..5, 5..7], 0.5), [2, 3, 6 - 1]);
        assert_eq!(values, [9.0, 0.3, 0.0, 0.0, -5.0, 0.0, -2.0, 0.01]);
    }
}
