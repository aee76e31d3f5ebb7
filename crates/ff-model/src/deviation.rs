//! How a model differs from itself in another precision.

use ff_structure::Structure;

use crate::error::ModelError;
use crate::host::{HostModel, Real};
use crate::prediction::{Prediction, Wanted};

/// By how much one evaluation of structures differs from another, in eV and Å. What is no number stays in what it is part of.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Deviation {
    /// Structures that were compared.
    pub structures: usize,
    /// Mean absolute difference of energies, eV/atom.
    pub energy: f64,
    /// Root mean square difference of components of forces, eV/Å.
    pub forces: f64,
    /// Root mean square difference of components of stress, eV/Å³; `None` where no structure has one.
    pub stress: Option<f64>,
}

impl Deviation {
    /// Of predictions from a reference, both of these structures, with forces.
    pub fn between(structures: &[Structure], found: &[Prediction], reference: &[Prediction]) -> Self {
        let pairs = || found.iter().zip(reference);
        let energies = structures.iter().zip(pairs()).filter(|(structure, _)| structure.n_atoms() > 0);
        let energy = energies.map(|(structure, (p, r))| (p.energy - r.energy).abs() / structure.n_atoms() as f64);
        let forces = pairs().flat_map(|(p, r)| differences(p.forces.as_flattened(), r.forces.as_flattened()));
        let stress = pairs().filter_map(|(p, r)| Some((p.stress.as_ref()?, r.stress.as_ref()?)));
        let stress = stress.flat_map(|(p, r)| differences(p.as_flattened(), r.as_flattened()));
        Self {
            structures: found.len(),
            energy: mean(energy).unwrap_or(0.0),
            forces: root_mean_square(forces).unwrap_or(0.0),
            stress: root_mean_square(stress),
        }
    }
}

fn differences<'a>(a: &'a [f64], b: &'a [f64]) -> impl Iterator<Item = f64> + 'a {
    a.iter().zip(b).map(|(a, b)| a - b)
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (count, sum) = values.fold((0_u64, 0.0), |(count, sum), x| (count + 1, sum + x));
    (count > 0).then(|| sum / count as f64)
}

fn root_mean_square(values: impl Iterator<Item = f64>) -> Option<f64> {
    mean(values.map(|x| x * x)).map(f64::sqrt)
}

impl<T: Real> HostModel<T> {
    /// By how much energies, forces and stress of structures differ from those of a reference: the same model in f32, where this is
    /// one in a reduced precision.
    ///
    /// # Errors
    /// As [`HostModel::predict`].
    pub fn deviation<U: Real>(
        &self,
        reference: &HostModel<U>,
        structures: &[Structure],
    ) -> Result<Deviation, ModelError> {
        let found = self.predict(structures, Wanted::FORCES)?;
        let reference = reference.predict(structures, Wanted::FORCES)?;
        Ok(Deviation::between(structures, &found, &reference))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deviations_are_those_of_their_definitions() {
        let oh = Structure::open("oh", vec![8, 1], vec![[0.0; 3], [1.0, 0.0, 0.0]]);
        let none = Structure::open("none", vec![], vec![]);
        let prediction = |energy: f64, force: f64, stress: Option<f64>| Prediction {
            energy,
            energies: Vec::new(),
            forces: vec![[force, 0.0, 0.0], [0.0; 3]],
            stress: stress.map(|s| [[s; 3]; 3]),
        };
        let reference = [prediction(1.0, 0.0, Some(0.5)), Prediction::default()];
        let found = [prediction(0.6, 0.6, Some(0.25)), Prediction::default()];
        let structures = [oh, none];
        let deviation = Deviation::between(&structures, &found, &reference);
        assert_eq!((deviation.structures, deviation.stress), (2, Some(0.25)));
        assert!((deviation.energy - 0.2).abs() < 1e-15);
        assert!((deviation.forces - (0.36_f64 / 6.0).sqrt()).abs() < 1e-15);
        // Where nothing has a stress there is none to compare, and what is no number is no small one.
        let found = [prediction(1.0, f64::NAN, None), Prediction::default()];
        let deviation = Deviation::between(&structures, &found, &reference);
        assert!(deviation.stress.is_none() && deviation.forces.is_nan() && deviation.energy == 0.0);
        assert_eq!(Deviation::between(&[], &[], &[]), Deviation::default());
    }
}
