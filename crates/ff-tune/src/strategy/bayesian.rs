//! Bayesian optimisation: a Gaussian process over the grid, and the expected improvement.

use nalgebra::linalg::Cholesky;
use nalgebra::{DMatrix, DVector, Dyn};
use rand::seq::index::sample;

use super::{Known, Strategy};
use crate::points::Points;

/// Random points before there is a model.
const FIRST: usize = 8;
/// Observations that a model is made of: the best, and of the others the latest. Its cost grows with their cube.
const MOST_OBSERVED: usize = 128;
/// Points whose improvement is estimated, at random where there are more.
const MOST_CANDIDATES: usize = 1024;
/// Length scales that are tried, in units of a parameter's whole range, and variances of the noise beside that of the signal.
const SCALES: [f64; 5] = [0.15, 0.3, 0.6, 1.2, 2.4];
const NOISES: [f64; 2] = [1e-4, 1e-2];

/// Asks for the points where a Gaussian process on the logarithm of times expects the most improvement on the best. Several at
/// once by believing the process about those chosen before.
pub(super) struct Bayesian {
    known: Known,
    /// What was told, in order.
    observed: Vec<usize>,
}

impl Bayesian {
    pub(super) fn new(known: Known) -> Self {
        Self { known, observed: Vec::new() }
    }

    /// Coordinates and values of what the model is made of. A failure counts as the slowest of all.
    fn observations(&self, points: &Points) -> Option<(Vec<Vec<f64>>, Vec<f64>)> {
        let time = |point: &usize| self.known.time(*point).filter(|t| t.is_finite());
        let slowest = self.observed.iter().filter_map(time).reduce(f64::max)?;
        let mut kept = self.observed.clone();
        if kept.len() > MOST_OBSERVED {
            kept.sort_by(|a, b| time(a).unwrap_or(f64::INFINITY).total_cmp(&time(b).unwrap_or(f64::INFINITY)));
            kept.truncate(MOST_OBSERVED / 2);
            let latest = self.observed.iter().rev().filter(|p| !kept.contains(p)).take(MOST_OBSERVED / 2).copied();
            let latest: Vec<usize> = latest.collect();
            kept.extend(latest);
        }
        let values = kept.iter().map(|point| time(point).unwrap_or(slowest).ln()).collect();
        Some((kept.into_iter().map(|point| points.coordinates(point)).collect(), values))
    }
}

impl Strategy for Bayesian {
    fn ask(&mut self, points: &Points, most: usize) -> Vec<usize> {
        if self.known.open > 0 {
            return Vec::new();
        }
        let model = if self.observed.len() < FIRST { None } else { self.observations(points) };
        let Some((mut places, mut values)) = model else {
            let first = FIRST.saturating_sub(self.observed.len()).max(1).min(most);
            return std::iter::from_fn(|| self.known.draw()).take(first).collect();
        };
        let mut candidates: Vec<(usize, Vec<f64>)> = self.candidates(points);
        let Some(mut process) = Process::fit(&places, &values) else {
            return std::iter::from_fn(|| self.known.draw()).take(most).collect();
        };
        let best = values.iter().copied().fold(f64::INFINITY, f64::min);
        let mut asked = Vec::new();
        while asked.len() < most && !candidates.is_empty() {
            let scored = candidates.iter().enumerate().map(|(i, (_, place))| {
                let (mean, deviation) = process.predict(&places, place);
                (i, mean, improvement(best, mean, deviation))
            });
            let Some((chosen, mean, _)) = scored.max_by(|a, b| a.2.total_cmp(&b.2)) else { break };
            let (point, place) = candidates.swap_remove(chosen);
            self.known.take(point);
            asked.push(point);
            places.push(place);
            values.push(mean);
            match process.again(&places, &values) {
                Some(next) => process = next,
                None => break,
            }
        }
        asked
    }

    fn tell(&mut self, _: &Points, point: usize, time: Option<f64>) {
        if self.known.told[point].is_none() {
            self.observed.push(point);
        }
        self.known.tell(point, time);
    }
}

impl Bayesian {
    fn candidates(&mut self, points: &Points) -> Vec<(usize, Vec<f64>)> {
        let free: Vec<usize> = (0..points.len()).filter(|point| !self.known.taken[*point]).collect();
        let chosen: Vec<usize> = if free.len() <= MOST_CANDIDATES {
            free
        } else {
            sample(&mut self.known.rng, free.len(), MOST_CANDIDATES).into_iter().map(|i| free[i]).collect()
        };
        chosen.into_iter().map(|point| (point, points.coordinates(point))).collect()
    }
}

/// The expected improvement on `best` of a normal variable.
fn improvement(best: f64, mean: f64, deviation: f64) -> f64 {
    if deviation <= 0.0 {
        return (best - mean).max(0.0);
    }
    let z = (best - mean) / deviation;
    let density = (-0.5 * z * z).exp() / std::f64::consts::TAU.sqrt();
    let below = 0.5 * libm::erfc(-z / std::f64::consts::SQRT_2);
    deviation * (z * below + density)
}

/// A Gaussian process with a constant mean and a Matérn 5/2 kernel (Rasmussen & Williams 2006, algorithm 2.1 and eq. 4.17).
struct Process {
    scale: f64,
    noise: f64,
    mean: f64,
    /// Standard deviation of the signal.
    signal: f64,
    factor: Cholesky<f64, Dyn>,
    /// K⁻¹ (y − m).
    weights: DVector<f64>,
    log_likelihood: f64,
}

impl Process {
    /// With the scale and the noise under which the observations are likeliest; `None` where there is no factorisation.
    fn fit(places: &[Vec<f64>], values: &[f64]) -> Option<Self> {
        let pairs = SCALES.iter().flat_map(|scale| NOISES.iter().map(move |noise| (*scale, *noise)));
        let fits = pairs.filter_map(|(scale, noise)| Self::with(scale, noise, places, values));
        fits.max_by(|a, b| a.log_likelihood.total_cmp(&b.log_likelihood))
    }

    /// Of other observations, with scale and noise as they are.
    fn again(&self, places: &[Vec<f64>], values: &[f64]) -> Option<Self> {
        Self::with(self.scale, self.noise, places, values)
    }

    fn with(scale: f64, noise: f64, places: &[Vec<f64>], values: &[f64]) -> Option<Self> {
        let count = values.len();
        let kernel = DMatrix::from_fn(count, count, |i, j| {
            matern(scale, &places[i], &places[j]) + if i == j { noise } else { 0.0 }
        });
        let factor = Cholesky::new(kernel)?;
        let ones = DVector::from_element(count, 1.0);
        let values = DVector::from_column_slice(values);
        // The mean and the signal's variance that are likeliest, in closed form.
        let solved = factor.solve(&ones);
        let mean = solved.dot(&values) / solved.dot(&ones);
        let centred = values - mean * ones;
        let weights = factor.solve(&centred);
        let variance = (weights.dot(&centred) / count as f64).max(1e-12);
        let half_determinant: f64 = factor.l_dirty().diagonal().iter().map(|l| l.ln()).sum();
        let log_likelihood = -0.5 * count as f64 * variance.ln() - half_determinant;
        Some(Self { scale, noise, mean, signal: variance.sqrt(), factor, weights, log_likelihood })
    }

    /// Mean and standard deviation at a place.
    fn predict(&self, places: &[Vec<f64>], place: &[f64]) -> (f64, f64) {
        let count = self.weights.len();
        let beside = DVector::from_fn(count, |i, _| matern(self.scale, &places[i], place));
        let mean = self.mean + beside.dot(&self.weights);
        let explained = self.factor.l_dirty().solve_lower_triangular(&beside).map_or(0.0, |v| v.norm_squared());
        (mean, self.signal * (1.0 - explained).max(0.0).sqrt())
    }
}

fn matern(scale: f64, a: &[f64], b: &[f64]) -> f64 {
    let distance = a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt();
    let r = 5.0_f64.sqrt() * distance / scale;
    (1.0 + r + r * r / 3.0) * (-r).exp()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_goes_through_what_it_saw_and_doubts_the_rest() {
        let places: Vec<Vec<f64>> = [0.0, 0.25, 0.5, 1.0].map(|x| vec![x]).to_vec();
        let values: Vec<f64> = places.iter().map(|p| (3.0 * p[0]).sin()).collect();
        let process = Process::with(0.6, 1e-8, &places, &values).expect("positive definite");
        for (place, value) in places.iter().zip(&values) {
            let (mean, deviation) = process.predict(&places, place);
            assert!((mean - value).abs() < 1e-5 && deviation < 1e-3, "{mean} ± {deviation}, seen {value}");
        }
        let (mean, deviation) = process.predict(&places, &[0.75]);
        assert!((mean - 2.25_f64.sin()).abs() < 2.0 * deviation.max(0.02), "{mean} ± {deviation}");
        let (far, doubt) = process.predict(&places, &[40.0]);
        assert!((far - process.mean).abs() < 1e-9 && (doubt - process.signal).abs() < 1e-9);
    }

    #[test]
    fn improvement_is_that_of_a_normal_variable() {
        // Against the sum over a fine grid of the density.
        for (mean, deviation) in [(0.0, 1.0), (2.0, 0.5), (-1.0, 0.3)] {
            let step = 1e-3;
            let sum: f64 = (-20_000..0)
                .map(|i| {
                    let x = 1.0 + f64::from(i) * step;
                    let z = (x - mean) / deviation;
                    (1.0 - x) * (-0.5 * z * z).exp() / (deviation * std::f64::consts::TAU.sqrt()) * step
                })
                .sum();
            assert!((improvement(1.0, mean, deviation) - sum).abs() < 1e-3, "{sum}");
        }
        assert_eq!(improvement(1.0, 0.4, 0.0), 0.6);
        assert_eq!(improvement(1.0, 1.4, 0.0), 0.0);
    }
}
