//! What is said of a run: momentary values, drift, means with their errors.

use serde::{Deserialize, Serialize};

/// Momentary values of one system.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Observables {
    /// Potential energy, eV.
    pub potential: f64,
    /// Kinetic energy, eV.
    pub kinetic: f64,
    /// Temperature, K, of the degrees of freedom that move; 0 where none does.
    pub temperature: f64,
    /// Pressure, bar, kinetic part included, where there is a stress.
    pub pressure_bar: Option<f64>,
    /// Volume of the cell, Å³, where there is a cell.
    pub volume: Option<f64>,
    /// What does not change but for the error of the time step, eV: the energy, with a barostat the enthalpy, less what thermostat
    /// and barostat put in.
    pub conserved: f64,
}

/// The least-squares slope of values that come in order, in constant memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Slope {
    n: u64,
    mean_x: f64,
    mean_y: f64,
    xx: f64,
    xy: f64,
}

impl Slope {
    /// Adds a value.
    pub fn push(&mut self, x: f64, y: f64) {
        self.n += 1;
        let (dx, weight) = (x - self.mean_x, 1.0 / self.n as f64);
        self.mean_x += dx * weight;
        self.mean_y += (y - self.mean_y) * weight;
        self.xx += dx * (x - self.mean_x);
        self.xy += dx * (y - self.mean_y);
    }

    /// The slope; 0 of fewer than two values.
    pub fn slope(&self) -> f64 {
        if self.xx > 0.0 { self.xy / self.xx } else { 0.0 }
    }
}

/// Blocks of the longest that an error is taken from: fewer say nothing of their own scatter.
const FEWEST_BLOCKS: u64 = 32;

/// A mean of correlated values and its statistical error, by blocks of doubling length (Flyvbjerg and Petersen,
/// doi:10.1063/1.457480), in memory that grows with the logarithm of their number.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Blocks {
    levels: Vec<Level>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Level {
    n: u64,
    mean: f64,
    squares: f64,
    /// The first of two blocks that make one of the next level.
    pending: Option<f64>,
}

impl Blocks {
    /// Adds a value.
    pub fn push(&mut self, value: f64) {
        let (mut value, mut at) = (value, 0);
        loop {
            if at == self.levels.len() {
                self.levels.push(Level::default());
            }
            let level = &mut self.levels[at];
            level.n += 1;
            let apart = value - level.mean;
            level.mean += apart / level.n as f64;
            level.squares += apart * (value - level.mean);
            match level.pending.take() {
                None => {
                    level.pending = Some(value);
                    return;
                }
                Some(first) => (value, at) = (0.5 * (first + value), at + 1),
            }
        }
    }

    /// The mean of all values; 0 of none.
    pub fn mean(&self) -> f64 {
        self.levels.first().map_or(0.0, |level| level.mean)
    }

    /// The standard error of the mean: the largest that the levels of 32 blocks or more say. `None` of fewer values.
    pub fn error(&self) -> Option<f64> {
        let enough = self.levels.iter().filter(|level| level.n >= FEWEST_BLOCKS);
        enough.map(|level| (level.squares / ((level.n - 1) * level.n) as f64).sqrt()).reduce(f64::max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Purpose, Stream};

    #[test]
    fn a_slope_is_that_of_the_line_whatever_its_height() {
        let mut slope = Slope::default();
        assert_eq!(slope.slope(), 0.0);
        for i in 0..1000 {
            let x = f64::from(i) * 5e-4;
            slope.push(x, -4000.0 + 2.5e-3 * x);
        }
        assert!((slope.slope() - 2.5e-3).abs() < 1e-9, "{}", slope.slope());
    }

    #[test]
    fn the_error_of_a_mean_is_that_of_correlated_values() {
        // x' = a·x + noise: the error of a mean is √((1 + a)/(1 − a)) times that of independent values.
        let (n, a) = (1 << 16, 0.9_f64);
        let mut stream = Stream::new(3, 0, 0, Purpose::Velocities);
        let (mut x, mut blocks) = (stream.normal(), Blocks::default());
        for _ in 0..n {
            x = a * x + (1.0 - a * a).sqrt() * stream.normal();
            blocks.push(x);
        }
        let expected = ((1.0 + a) / (1.0 - a) / f64::from(n)).sqrt();
        let error = blocks.error().expect("enough values");
        // Of 32 blocks the scatter is known to one part in √62; the largest of a few levels is above it.
        assert!(error > 0.8 * expected && error < 1.6 * expected, "{error} {expected}");
        assert!(blocks.mean().abs() < 4.0 * expected, "{}", blocks.mean());
        assert_eq!(Blocks::default().error(), None);
    }
}
