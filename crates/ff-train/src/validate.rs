//! Predictions beside a reference, frame by frame: their errors, points to draw, and whether limits hold.

use ff_structure::Structure;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use crate::errors::{CountError, ErrorSums, Errors, Values};
use crate::labels::GPA;

/// Errors below which a model passes. What has no limit is judged by the default where it was compared; a limit that was asked for is
/// not held where nothing was.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Limits {
    /// Mean absolute error of the energy, meV/atom.
    pub energy: Option<f64>,
    /// Root mean square error of force components, meV/Å.
    pub force: Option<f64>,
    /// Root mean square error of stress components, GPa.
    pub stress: Option<f64>,
}

/// The default of [`Limits::energy`].
pub const ENERGY_LIMIT: f64 = 10.0;
/// The default of [`Limits::force`].
pub const FORCE_LIMIT: f64 = 50.0;
/// The default of [`Limits::stress`].
pub const STRESS_LIMIT: f64 = 0.1;

/// An error beside its limit.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Verdict {
    /// What was judged, with its unit.
    pub quantity: &'static str,
    /// The error; `None` where nothing was compared.
    pub found: Option<f64>,
    /// What it has to be below.
    pub limit: f64,
    /// Whether it is.
    pub holds: bool,
}

impl Limits {
    /// Judges errors. What was not compared and has no limit of its own is left out.
    pub fn judge(&self, errors: &Errors) -> Vec<Verdict> {
        [
            ("energy MAE, meV/atom", errors.energy_mae_mev_per_atom, self.energy, ENERGY_LIMIT),
            ("force RMSE, meV/Å", errors.force_rmse_mev_per_a, self.force, FORCE_LIMIT),
            ("stress RMSE, GPa", errors.stress_rmse_gpa, self.stress, STRESS_LIMIT),
        ]
        .into_iter()
        .filter(|(_, found, limit, _)| found.is_some() || limit.is_some())
        .map(|(quantity, found, limit, default)| {
            let limit = limit.unwrap_or(default);
            Verdict { quantity, found, limit, holds: found.is_some_and(|found| found < limit) }
        })
        .collect()
    }
}

/// A random sample of fixed size of a stream of any length, each item with the same chance (Vitter's algorithm R).
#[derive(Clone, Debug)]
pub struct Reservoir<T> {
    items: Vec<T>,
    most: usize,
    seen: u64,
    rng: ChaCha8Rng,
}

impl<T> Reservoir<T> {
    /// Of so many items; equal seeds choose equally.
    pub fn new(most: usize, seed: u64) -> Self {
        Self { items: Vec::new(), most, seen: 0, rng: ChaCha8Rng::seed_from_u64(seed) }
    }

    /// Offers an item.
    pub fn offer(&mut self, item: T) {
        self.seen += 1;
        if self.items.len() < self.most {
            self.items.push(item);
            return;
        }
        let place = self.rng.random_range(0..self.seen);
        if let Some(kept) = usize::try_from(place).ok().and_then(|place| self.items.get_mut(place)) {
            *kept = item;
        }
    }

    /// What was chosen.
    pub fn items(&self) -> &[T] {
        &self.items
    }

    /// How many were offered.
    pub fn seen(&self) -> u64 {
        self.seen
    }
}

/// Points of a figure, reference and prediction, that are kept of each quantity.
const MOST_POINTS: usize = 1500;

/// The comparison of a model with a reference, in constant memory.
#[derive(Clone, Debug)]
pub struct Validation {
    /// Sums over all frames.
    pub sums: ErrorSums,
    /// Energies per atom, eV: reference and prediction.
    pub energies: Reservoir<(f64, f64)>,
    /// Components of forces, eV/Å.
    pub forces: Reservoir<(f64, f64)>,
    /// Components of stress, GPa.
    pub stresses: Reservoir<(f64, f64)>,
}

impl Default for Validation {
    fn default() -> Self {
        let points = |seed| Reservoir::new(MOST_POINTS, seed);
        Self { sums: ErrorSums::default(), energies: points(0), forces: points(1), stresses: points(2) }
    }
}

impl Validation {
    /// Adds a structure.
    ///
    /// # Errors
    /// Forces on another number of atoms.
    pub fn add(
        &mut self,
        structure: &Structure,
        predicted: Values<'_>,
        reference: Values<'_>,
    ) -> Result<(), CountError> {
        self.sums.add(structure, predicted, reference)?;
        if let Some((r, p)) = reference.energy.zip(predicted.energy) {
            let n = structure.n_atoms() as f64;
            self.energies.offer((r / n, p / n));
        }
        if let Some((r, p)) = reference.forces.zip(predicted.forces) {
            r.as_flattened().iter().zip(p.as_flattened()).for_each(|(r, p)| self.forces.offer((*r, *p)));
        }
        if let Some((r, p)) = reference.stress.zip(predicted.stress) {
            let points = r.as_flattened().iter().zip(p.as_flattened());
            points.for_each(|(r, p)| self.stresses.offer((GPA * r, GPA * p)));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_defaults_or_demands() {
        let mut validation = Validation::default();
        let structure = Structure::open("h", vec![1], vec![[0.0; 3]]);
        let force = [[0.03, 0.04, 0.0]];
        let values = |energy: f64, forces: &'static [[f64; 3]]| Values {
            energy: Some(energy),
            forces: Some(forces),
            stress: None,
        };
        let predicted = Values { forces: Some(&force), ..values(0.009, &[]) };
        validation.add(&structure, predicted, values(0.0, &[[0.0; 3]])).expect("one force");
        let errors = validation.sums.errors();
        let judged =
            |limits: Limits| -> Vec<bool> { limits.judge(&errors).iter().map(|verdict| verdict.holds).collect() };
        assert_eq!(judged(Limits::default()), [true, true]);
        // RMSE of the components: 0.05/√3 eV/Å, 28.9 meV/Å.
        assert_eq!(judged(Limits { energy: Some(8.9), force: Some(28.8), stress: None }), [false, false]);
        assert_eq!(judged(Limits { energy: Some(9.1), force: Some(28.9), stress: Some(1.0) }), [true, true, false]);
        assert_eq!(validation.forces.items(), [(0.0, 0.03), (0.0, 0.04), (0.0, 0.0)]);
        // What is not a number is below no limit.
        let nan = Values { energy: Some(f64::NAN), ..Values::default() };
        validation.add(&structure, nan, values(0.0, &[[0.0; 3]])).expect("no forces");
        assert!(!Limits { energy: Some(f64::INFINITY), ..Limits::default() }.judge(&validation.sums.errors())[0].holds);
    }

    #[test]
    fn a_reservoir_is_even_and_repeatable() {
        let sample = |seed| {
            let mut reservoir = Reservoir::new(1000, seed);
            (0..100_000).for_each(|i| reservoir.offer(f64::from(i)));
            reservoir
        };
        let reservoir = sample(3);
        assert_eq!((reservoir.items().len(), reservoir.seen()), (1000, 100_000));
        assert_eq!(reservoir.items(), sample(3).items());
        // The mean of 1000 uniform values: ± 913 is one standard deviation, here five.
        let mean = reservoir.items().iter().sum::<f64>() / 1000.0;
        assert!((mean - 50_000.0).abs() < 4600.0, "{mean}");
    }
}
