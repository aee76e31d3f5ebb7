//! The learning rate's course.

use serde::{Deserialize, Serialize};

use crate::config::{Course, OptimizerConfig, ScheduleConfig};

/// What a plateau is known by.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plateau {
    /// What the rate is multiplied by.
    scale: f64,
    /// The least watched loss.
    least: Option<f64>,
    /// Epochs since then, or since the rate was last lowered.
    waited: u64,
}

impl Default for Plateau {
    fn default() -> Self {
        Self { scale: 1.0, least: None, waited: 0 }
    }
}

impl Plateau {
    /// Looks at the watched loss of an epoch.
    pub fn look(&mut self, config: &ScheduleConfig, loss: f64) {
        if self.least.is_none_or(|least| loss < least) {
            (self.least, self.waited) = (Some(loss), 0);
            return;
        }
        self.waited += 1;
        if self.waited > config.patience {
            (self.scale, self.waited) = (self.scale * config.factor, 0);
        }
    }

    /// The learning rate of a step, counted from 0, of `steps`.
    pub fn rate(&self, optimizer: &OptimizerConfig, config: &ScheduleConfig, step: u64, steps: u64) -> f64 {
        let (most, least) = (optimizer.rate, config.min_rate.min(optimizer.rate));
        let rise = if step < config.warmup_steps { (step + 1) as f64 / config.warmup_steps as f64 } else { 1.0 };
        let after = |step: u64| step.saturating_sub(config.warmup_steps) as f64;
        rise * match config.kind {
            Course::Constant => most,
            Course::Plateau => (most * self.scale).max(least),
            Course::Cosine => {
                let part = after(step) / after(steps).max(1.0);
                least + (most - least) * 0.5 * (1.0 + (std::f64::consts::PI * part.min(1.0)).cos())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cosine_rises_and_falls_to_its_least() {
        let optimizer = OptimizerConfig { rate: 1e-2, ..OptimizerConfig::default() };
        let config = ScheduleConfig { warmup_steps: 10, min_rate: 1e-4, ..ScheduleConfig::default() };
        let rate = |step| Plateau::default().rate(&optimizer, &config, step, 110);
        assert!((rate(0) - 1e-3).abs() < 1e-15 && (rate(10) - 1e-2).abs() < 1e-15);
        // Half of the way between the two, at half of the steps after the rise.
        assert!((rate(60) - 5.05e-3).abs() < 1e-12);
        assert!((rate(110) - 1e-4).abs() < 1e-15 && (rate(500) - 1e-4).abs() < 1e-15);
    }

    #[test]
    fn a_plateau_lowers_the_rate_after_its_patience() {
        let config =
            ScheduleConfig { kind: Course::Plateau, patience: 1, warmup_steps: 0, ..ScheduleConfig::default() };
        let optimizer = OptimizerConfig { rate: 1.0, ..OptimizerConfig::default() };
        let mut plateau = Plateau::default();
        let mut rates = Vec::new();
        for loss in [3.0, 2.0, 2.0, 2.0, 1.0, 1.5, 1.5] {
            plateau.look(&config, loss);
            rates.push(plateau.rate(&optimizer, &config, 7, 10));
        }
        assert_eq!(rates, [1.0, 1.0, 1.0, 0.5, 0.5, 0.5, 0.25]);
    }
}
