//! Errors of predictions against a reference, gathered frame by frame in constant memory, with sums in f64.

use std::collections::BTreeMap;

use ff_structure::{Structure, elements};
use serde::Serialize;

use crate::labels::GPA;

/// Energy, forces and stress of a structure in eV and Å, as far as they are there.
#[derive(Clone, Copy, Debug, Default)]
pub struct Values<'a> {
    /// Energy, eV.
    pub energy: Option<f64>,
    /// Forces, eV/Å, `[n_atoms]`.
    pub forces: Option<&'a [[f64; 3]]>,
    /// Stress, eV/Å³.
    pub stress: Option<[[f64; 3]; 3]>,
}

/// Sums over differences.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sums {
    n: u64,
    /// Their mean so far, and the sum of squares about it (Welford): a shift that all have in common does not drown the rest.
    mean: f64,
    about_mean: f64,
    absolute: f64,
    square: f64,
    largest: f64,
}

impl Sums {
    /// Adds a difference. One that is not a number stays in all results.
    pub fn add(&mut self, difference: f64) {
        self.n += 1;
        let from_mean = difference - self.mean;
        self.mean += from_mean / self.n as f64;
        self.about_mean += from_mean * (difference - self.mean);
        self.absolute += difference.abs();
        self.square += difference * difference;
        if difference.is_nan() || difference.abs() > self.largest {
            self.largest = difference.abs();
        }
    }

    /// How many there are.
    pub fn n(&self) -> u64 {
        self.n
    }

    /// Their mean, of none nothing.
    pub fn mean(&self) -> Option<f64> {
        (self.n > 0).then_some(self.mean)
    }

    /// The root of their mean square about their mean.
    pub fn spread(&self) -> Option<f64> {
        self.over(self.about_mean).map(f64::sqrt)
    }

    /// Their mean absolute value.
    pub fn mae(&self) -> Option<f64> {
        self.over(self.absolute)
    }

    /// The root of their mean square.
    pub fn rmse(&self) -> Option<f64> {
        self.over(self.square).map(f64::sqrt)
    }

    /// The largest absolute value.
    pub fn largest(&self) -> Option<f64> {
        (self.n > 0).then_some(self.largest)
    }

    fn over(&self, sum: f64) -> Option<f64> {
        (self.n > 0).then(|| sum / self.n as f64)
    }
}

/// Sums over forces: components, and the angle between prediction and reference.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ForceSums {
    /// Of components, eV/Å.
    pub components: Sums,
    product: f64,
    predicted: f64,
    reference: f64,
}

impl ForceSums {
    fn add(&mut self, predicted: [f64; 3], reference: [f64; 3]) {
        for (p, r) in predicted.into_iter().zip(reference) {
            self.components.add(p - r);
            self.product += p * r;
            self.predicted += p * p;
            self.reference += r * r;
        }
    }

    /// The cosine of the angle between predicted and reference forces, all components as one vector: Σ F·F′ / √(Σ F² Σ F′²). Where
    /// either is zero throughout there is none.
    pub fn cosine(&self) -> Option<f64> {
        let norm = (self.predicted * self.reference).sqrt();
        (norm > 0.0 || norm.is_nan()).then(|| self.product / norm)
    }
}

/// Sums over structures of a size.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct SizeSums {
    /// Structures.
    pub frames: u64,
    /// Of energies per atom, eV.
    pub energy: Sums,
    /// Of forces.
    pub forces: ForceSums,
}

/// All that is known of the differences between predictions and a reference.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ErrorSums {
    /// Structures.
    pub frames: u64,
    /// Their atoms.
    pub atoms: u64,
    /// Of energies per atom, eV.
    pub energy: Sums,
    /// Of energies, eV.
    pub total: Sums,
    /// Of forces.
    pub forces: ForceSums,
    /// Of the nine components of stress, eV/Å³.
    pub stress: Sums,
    /// Of forces on atoms of an element, by atomic number.
    pub by_element: BTreeMap<u8, ForceSums>,
    /// Of structures by size: up to so many atoms, a power of two, and more than half of it.
    pub by_size: BTreeMap<usize, SizeSums>,
}

/// A prediction with another number of atoms than its structure or its reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected forces on {expected} atoms on both sides, found {predicted} predicted and {reference} of the reference"
)]
pub struct CountError {
    /// Atoms of the structure.
    pub expected: usize,
    /// Forces predicted.
    pub predicted: usize,
    /// Forces of the reference.
    pub reference: usize,
}

impl ErrorSums {
    /// Adds a structure: what both sides have is compared.
    ///
    /// # Errors
    /// Forces on another number of atoms; nothing is added.
    pub fn add(
        &mut self,
        structure: &Structure,
        predicted: Values<'_>,
        reference: Values<'_>,
    ) -> Result<(), CountError> {
        let n_atoms = structure.n_atoms();
        let forces = predicted.forces.zip(reference.forces);
        if let Some((p, r)) = forces.filter(|(p, r)| p.len() != n_atoms || r.len() != n_atoms) {
            return Err(CountError { expected: n_atoms, predicted: p.len(), reference: r.len() });
        }
        self.frames += 1;
        self.atoms += n_atoms as u64;
        let of_size = self.by_size.entry(n_atoms.next_power_of_two()).or_default();
        of_size.frames += 1;
        if let (Some(p), Some(r)) = (predicted.energy, reference.energy) {
            let per_atom = (p - r) / n_atoms as f64;
            self.total.add(p - r);
            self.energy.add(per_atom);
            of_size.energy.add(per_atom);
        }
        if let Some((p, r)) = forces {
            for ((p, r), z) in p.iter().zip(r).zip(&structure.species) {
                self.forces.add(*p, *r);
                of_size.forces.add(*p, *r);
                self.by_element.entry(*z).or_default().add(*p, *r);
            }
        }
        if let (Some(p), Some(r)) = (predicted.stress, reference.stress) {
            p.as_flattened().iter().zip(r.as_flattened()).for_each(|(p, r)| self.stress.add(p - r));
        }
        Ok(())
    }

    /// The results, in the units that people compare.
    pub fn errors(&self) -> Errors {
        let milli = |x: Option<f64>| x.map(|x| 1e3 * x);
        let gpa = |x: Option<f64>| x.map(|x| GPA * x);
        let element = |(z, sums): (&u8, &ForceSums)| ElementErrors {
            element: elements::symbol(*z).map_or_else(|| z.to_string(), str::to_owned),
            atoms: sums.components.n / 3,
            force_mae_mev_per_a: milli(sums.components.mae()),
            force_rmse_mev_per_a: milli(sums.components.rmse()),
            force_cosine: sums.cosine(),
        };
        let size = |(most, sums): (&usize, &SizeSums)| SizeErrors {
            atoms_from: most / 2 + 1,
            atoms_to: *most,
            frames: sums.frames,
            energy_mae_mev_per_atom: milli(sums.energy.mae()),
            energy_rmse_mev_per_atom: milli(sums.energy.rmse()),
            force_mae_mev_per_a: milli(sums.forces.components.mae()),
            force_rmse_mev_per_a: milli(sums.forces.components.rmse()),
            force_cosine: sums.forces.cosine(),
        };
        Errors {
            frames: self.frames,
            atoms: self.atoms,
            energies: self.energy.n,
            energy_mae_mev_per_atom: milli(self.energy.mae()),
            energy_rmse_mev_per_atom: milli(self.energy.rmse()),
            energy_mean_mev_per_atom: milli(self.energy.mean()),
            energy_spread_mev_per_atom: milli(self.energy.spread()),
            energy_mae_mev: milli(self.total.mae()),
            force_components: self.forces.components.n,
            force_mae_mev_per_a: milli(self.forces.components.mae()),
            force_rmse_mev_per_a: milli(self.forces.components.rmse()),
            force_largest_mev_per_a: milli(self.forces.components.largest()),
            force_cosine: self.forces.cosine(),
            stresses: self.stress.n / 9,
            stress_mae_gpa: gpa(self.stress.mae()),
            stress_rmse_gpa: gpa(self.stress.rmse()),
            by_element: self.by_element.iter().map(element).collect(),
            by_size: self.by_size.iter().map(size).collect(),
        }
    }
}

/// Errors in meV/atom, meV/Å and GPa; `None` where nothing was compared.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Errors {
    /// Structures.
    pub frames: u64,
    /// Their atoms.
    pub atoms: u64,
    /// Energies that were compared.
    pub energies: u64,
    /// Mean absolute error of the energy per atom.
    pub energy_mae_mev_per_atom: Option<f64>,
    /// Root mean square error of the energy per atom.
    pub energy_rmse_mev_per_atom: Option<f64>,
    /// Mean error of the energy per atom, prediction less reference: a shift of the zero, where it is as large as the others.
    pub energy_mean_mev_per_atom: Option<f64>,
    /// Root mean square error of the energy per atom about that mean: what is left where only the zero differs.
    pub energy_spread_mev_per_atom: Option<f64>,
    /// Mean absolute error of the energy of a structure, meV.
    pub energy_mae_mev: Option<f64>,
    /// Components of forces that were compared.
    pub force_components: u64,
    /// Mean absolute error of a component of the force.
    pub force_mae_mev_per_a: Option<f64>,
    /// Root mean square error of a component of the force.
    pub force_rmse_mev_per_a: Option<f64>,
    /// Largest error of a component of the force.
    pub force_largest_mev_per_a: Option<f64>,
    /// Cosine of the angle between all forces as one vector: [`ForceSums::cosine`].
    pub force_cosine: Option<f64>,
    /// Stresses that were compared.
    pub stresses: u64,
    /// Mean absolute error of a component of the stress.
    pub stress_mae_gpa: Option<f64>,
    /// Root mean square error of a component of the stress.
    pub stress_rmse_gpa: Option<f64>,
    /// Of the atoms of each element.
    pub by_element: Vec<ElementErrors>,
    /// Of structures by size, in powers of two.
    pub by_size: Vec<SizeErrors>,
}

/// Errors of forces on the atoms of an element.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ElementErrors {
    /// Its symbol.
    pub element: String,
    /// Atoms.
    pub atoms: u64,
    /// As in [`Errors`].
    pub force_mae_mev_per_a: Option<f64>,
    /// As in [`Errors`].
    pub force_rmse_mev_per_a: Option<f64>,
    /// As in [`Errors`].
    pub force_cosine: Option<f64>,
}

/// Errors of structures of a size.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SizeErrors {
    /// The fewest atoms of this class.
    pub atoms_from: usize,
    /// The most.
    pub atoms_to: usize,
    /// Structures.
    pub frames: u64,
    /// As in [`Errors`].
    pub energy_mae_mev_per_atom: Option<f64>,
    /// As in [`Errors`].
    pub energy_rmse_mev_per_atom: Option<f64>,
    /// As in [`Errors`].
    pub force_mae_mev_per_a: Option<f64>,
    /// As in [`Errors`].
    pub force_rmse_mev_per_a: Option<f64>,
    /// As in [`Errors`].
    pub force_cosine: Option<f64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(found: Option<f64>, expected: f64) {
        let found = found.unwrap_or_else(|| panic!("expected {expected}, found nothing"));
        assert!((found - expected).abs() <= 1e-9 * expected.abs(), "expected {expected}, found {found}");
    }

    #[test]
    fn errors_are_those_of_the_definitions() {
        let oh = Structure::open("oh", vec![8, 1], vec![[0.0; 3], [1.0, 0.0, 0.0]]);
        let h = Structure::open("h", vec![1], vec![[0.0; 3]]);
        let mut sums = ErrorSums::default();
        let (p, r) = ([[1.0, 0.0, 0.0], [0.0, 2.0, 0.0]], [[0.0, 0.0, 0.0], [0.0, 1.0, 0.5]]);
        let predicted = Values { energy: Some(1.0), forces: Some(&p), stress: None };
        sums.add(&oh, predicted, Values { energy: Some(1.4), forces: Some(&r), stress: None }).unwrap();
        let stressed = |x: f64| Values { energy: Some(x), forces: None, stress: Some([[x; 3]; 3]) };
        sums.add(&h, stressed(0.3), stressed(0.2)).unwrap();

        let errors = sums.errors();
        assert_eq!((errors.frames, errors.atoms, errors.energies, errors.stresses), (2, 3, 2, 1));
        // Per atom: −0.2 and 0.1 eV.
        close(errors.energy_mae_mev_per_atom, 150.0);
        close(errors.energy_rmse_mev_per_atom, 1e3 * (0.05_f64 / 2.0).sqrt());
        close(errors.energy_mean_mev_per_atom, -50.0);
        close(errors.energy_spread_mev_per_atom, 150.0);
        close(errors.energy_mae_mev, 250.0);
        // Components: 1, 0, 0 and 0, 1, −0.5 eV/Å.
        close(errors.force_mae_mev_per_a, 1e3 * 2.5 / 6.0);
        close(errors.force_rmse_mev_per_a, 1e3 * (2.25_f64 / 6.0).sqrt());
        close(errors.force_largest_mev_per_a, 1e3);
        close(errors.force_cosine, 2.0 / (5.0_f64 * 1.25).sqrt());
        close(errors.stress_rmse_gpa, 16.021_766_34);
        let elements: Vec<_> = errors.by_element.iter().map(|e| (e.element.as_str(), e.atoms)).collect();
        assert_eq!(elements, [("H", 1), ("O", 1)]);
        close(errors.by_element[0].force_rmse_mev_per_a, 1e3 * (1.25_f64 / 3.0).sqrt());
        // The reference's forces on O are zero: no angle.
        assert_eq!(errors.by_element[1].force_cosine, None);
        let sizes: Vec<_> = errors.by_size.iter().map(|s| (s.atoms_from, s.atoms_to, s.frames)).collect();
        assert_eq!(sizes, [(1, 1, 1), (2, 2, 1)]);
        assert_eq!(errors.by_size[0].force_mae_mev_per_a, None);
    }

    #[test]
    fn what_is_not_a_number_is_seen_and_counts_must_agree() {
        let h = Structure::open("h", vec![1], vec![[0.0; 3]]);
        let mut sums = ErrorSums::default();
        let nan = [[f64::NAN, 0.0, 0.0]];
        let zero = [[0.0; 3]];
        let values = |forces| Values { forces: Some(forces), ..Values::default() };
        sums.add(&h, values(&nan), values(&zero)).unwrap();
        sums.add(&h, values(&zero), values(&zero)).unwrap();
        assert!(sums.errors().force_rmse_mev_per_a.is_some_and(f64::is_nan));
        assert!(sums.errors().force_largest_mev_per_a.is_some_and(f64::is_nan));
        let error = sums.add(&h, values(&[[0.0; 3]; 2]), values(&zero)).unwrap_err().to_string();
        let expected = "expected forces on 1 atoms on both sides, found 2 predicted and 1 of the reference";
        assert_eq!((error.as_str(), sums.frames), (expected, 2));
    }

    #[test]
    fn sizes_are_classes_of_powers_of_two() {
        let mut sums = ErrorSums::default();
        for n in [5, 8, 9] {
            let structure = Structure::open("x", vec![1; n], vec![[0.0; 3]; n]);
            sums.add(&structure, Values::default(), Values::default()).unwrap();
        }
        let sizes: Vec<_> = sums.errors().by_size.iter().map(|s| (s.atoms_from, s.atoms_to, s.frames)).collect();
        assert_eq!(sizes, [(5, 8, 2), (9, 16, 1)]);
    }
}
