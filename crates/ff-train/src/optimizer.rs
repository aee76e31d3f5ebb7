//! AdamW on flat weights, with a moving average of them.

use std::ops::Range;

use rayon::prelude::*;

use crate::config::OptimizerConfig;

/// Elements that are added up or changed by one task: sums over tasks have one order.
const CHUNK: usize = 1 << 14;

/// Weights in f32 and what the optimiser keeps of each.
#[derive(Clone, Debug, PartialEq)]
pub struct Weights {
    /// The weights.
    pub values: Vec<f32>,
    /// Means of gradients.
    pub first: Vec<f32>,
    /// Means of their squares.
    pub second: Vec<f32>,
    /// The moving average.
    pub average: Vec<f32>,
}

impl Weights {
    /// As before any step.
    pub fn new(values: Vec<f32>) -> Self {
        let zeros = vec![0.0; values.len()];
        Self { average: values.clone(), first: zeros.clone(), second: zeros, values }
    }

    /// A step, counted from 0, at a learning rate, with the sum of `parts` as gradient; `decayed` are the ranges of matrices. Gives
    /// the norm of the gradient; where it is not finite, nothing was changed.
    pub fn step(
        &mut self,
        config: &OptimizerConfig,
        rate: f64,
        step: u64,
        mut parts: Vec<Vec<f32>>,
        decayed: &[Range<usize>],
    ) -> f64 {
        let Some((gradient, others)) = parts.split_first_mut() else { return 0.0 };
        let squares: Vec<f64> = gradient
            .par_chunks_mut(CHUNK)
            .enumerate()
            .map(|(chunk, sum)| {
                for other in others.iter() {
                    let other = &other[chunk * CHUNK..][..sum.len()];
                    sum.iter_mut().zip(other).for_each(|(sum, other)| *sum += other);
                }
                // Eight sums, so that they are made by lanes.
                let mut lanes = [0.0f64; 8];
                for eight in sum.chunks(8) {
                    lanes.iter_mut().zip(eight).for_each(|(lane, g)| *lane += f64::from(*g) * f64::from(*g));
                }
                lanes.iter().sum()
            })
            .collect();
        let norm = squares.iter().sum::<f64>().sqrt();
        if !norm.is_finite() {
            return norm;
        }
        let clip = if config.clip > 0.0 && norm > config.clip { config.clip / norm } else { 1.0 } as f32;
        let (beta1, beta2, epsilon) = (config.beta1 as f32, config.beta2 as f32, config.epsilon as f32);
        let power = step.saturating_add(1).min(i32::MAX as u64) as i32;
        let (unbias1, unbias2) = (1.0 - config.beta1.powi(power), 1.0 - config.beta2.powi(power));
        let (size, root) = ((rate / unbias1) as f32, (1.0 / unbias2.sqrt()) as f32);
        // Early weights are forgotten sooner.
        let ema = config.ema.min((step + 1) as f64 / (step + 10) as f64) as f32;
        let keep = (1.0 - rate * config.weight_decay) as f32;
        for range in decayed {
            self.values[range.clone()].iter_mut().for_each(|w| *w *= keep);
        }
        let all = (&mut self.values[..], &mut self.first[..], &mut self.second[..], &mut self.average[..]);
        (all.0.par_chunks_mut(CHUNK), all.1.par_chunks_mut(CHUNK), all.2.par_chunks_mut(CHUNK))
            .into_par_iter()
            .zip(all.3.par_chunks_mut(CHUNK))
            .zip(gradient.par_chunks(CHUNK))
            .for_each(|(((values, first, second), average), gradient)| {
                let weights = values.iter_mut().zip(first).zip(second).zip(average).zip(gradient);
                for ((((w, m), v), a), g) in weights {
                    let g = g * clip;
                    *m = beta1 * *m + (1.0 - beta1) * g;
                    *v = beta2 * *v + (1.0 - beta2) * g * g;
                    *w -= size * *m / (v.sqrt() * root + epsilon);
                    *a = ema * *a + (1.0 - ema) * *w;
                }
            });
        norm
    }

    /// What is watched and written: the average, or without one the weights.
    pub fn watched(&self, config: &OptimizerConfig) -> &[f32] {
        if config.ema > 0.0 { &self.average } else { &self.values }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_first_step_has_the_size_of_the_rate_and_a_gradient_that_is_not_finite_changes_nothing() {
        let config = OptimizerConfig { weight_decay: 0.0, ema: 0.0, ..OptimizerConfig::default() };
        let mut weights = Weights::new(vec![1.0; 40_000]);
        let gradient: Vec<f32> = (0..40_000).map(|k| if k % 2 == 0 { 1e-3 } else { -1e-3 }).collect();
        let norm = weights.step(&config, 1e-2, 0, vec![gradient.clone(), gradient], &[]);
        assert!((norm - 2e-3 * 200.0).abs() < 1e-6, "{norm}");
        // m/√v is the sign of the gradient, to ε over its size.
        let sign = |k: usize| if k.is_multiple_of(2) { 1.0 } else { -1.0f32 };
        assert!(weights.values.iter().enumerate().all(|(k, w)| (w - 1.0 + 1e-2 * sign(k)).abs() < 1e-5));
        let before = weights.clone();
        assert!(weights.step(&config, 1e-2, 1, vec![vec![f32::NAN; 40_000]], &[]).is_nan());
        assert_eq!(weights, before);
    }

    #[test]
    fn a_quadratic_is_minimised_and_long_gradients_are_clipped() {
        let config = OptimizerConfig { weight_decay: 0.0, clip: 1.0, ..OptimizerConfig::default() };
        let mut weights = Weights::new(vec![5.0, -3.0]);
        for step in 0..4000 {
            let gradient = weights.values.iter().zip([1.0, 2.0]).map(|(w, at)| 100.0 * (w - at)).collect();
            weights.step(&config, 1e-2 * (1.0 - step as f64 / 4000.0), step, vec![gradient], &[]);
        }
        let error = |values: &[f32]| (values[0] - 1.0).abs().max((values[1] - 2.0).abs());
        assert!(error(&weights.values) < 1e-3 && error(weights.watched(&config)) < 1e-2, "{weights:?}");
    }
}
