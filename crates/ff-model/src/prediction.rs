//! What a model says of a structure.

use ff_structure::Structure;

use crate::config::{Aggregation, Config};
use crate::stress::stress;
use crate::units::Unit;

/// What is computed beside the energy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Forces.
    pub forces: bool,
    /// Stress, where there is one; needs forces.
    pub stress: bool,
    /// The energy of each atom.
    pub per_atom: bool,
}

impl Wanted {
    /// The energy alone.
    pub const ENERGY: Self = Self { forces: false, stress: false, per_atom: false };
    /// Energy, forces and stress.
    pub const FORCES: Self = Self { forces: true, stress: true, per_atom: false };
}

/// What a model says of a structure, in eV and Å.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Prediction {
    /// Energy, eV, offsets included.
    pub energy: f64,
    /// Energies of the atoms, eV, where wanted; their sum is the energy to rounding.
    pub energies: Vec<f64>,
    /// Forces −∂E/∂x, eV/Å, where wanted.
    pub forces: Vec<[f64; 3]>,
    /// Stress (∂E/∂ε)/V, eV/Å³, tension positive, where wanted and where there is one: see [`stress`](crate::stress::stress).
    pub stress: Option<[[f64; 3]; 3]>,
}

/// What was computed of a structure in the units of a model, without offsets.
#[derive(Clone, Copy, Debug)]
pub struct Raw<'a, T> {
    /// Energies of the atoms, [n_atoms].
    pub energies: &'a [T],
    /// Negative gradients of their sum in the positions, [n_atoms, 3]; not read where forces are not wanted.
    pub forces: &'a [T],
    /// The gradient of their sum in the strain, [3, 3]; not read where stress is not wanted.
    pub strain: &'a [T],
}

impl Prediction {
    /// Takes what was computed of a structure: totals in f64 and in eV, Å, with the energies `atomref` of atoms by atomic number. Its
    /// memory is used again.
    pub fn set<T: Copy + Into<f64>>(
        &mut self,
        config: &Config,
        atomref: &[f64],
        structure: &Structure,
        wanted: Wanted,
        raw: Raw<'_, T>,
    ) {
        let (unit, n_atoms) = (config.energy_unit.factor(), structure.n_atoms());
        let scale = match config.aggregation {
            Aggregation::Avg if n_atoms > 0 => unit / n_atoms as f64,
            _ => unit,
        };
        let own = |z: &u8| atomref.get(usize::from(*z)).copied().unwrap_or(0.0) + config.offset_per_atom;
        let wide = |x: T| -> f64 { x.into() };
        let sum = raw.energies.iter().map(|e| wide(*e)).sum::<f64>();
        self.energy = sum * scale + structure.species.iter().map(own).sum::<f64>();
        self.energies.clear();
        if wanted.per_atom {
            let each = raw.energies.iter().zip(&structure.species);
            self.energies.extend(each.map(|(e, z)| wide(*e) * scale + own(z)));
        }
        self.forces.clear();
        if wanted.forces {
            self.forces.extend(raw.forces.as_chunks::<3>().0.iter().map(|f| f.map(|x| wide(x) * scale)));
        }
        self.stress = None;
        if wanted.forces && wanted.stress {
            let strain = |a: usize, b: usize| wide(raw.strain[3 * a + b]) * scale;
            self.stress = stress(structure, std::array::from_fn(|a| std::array::from_fn(|b| strain(a, b))));
        }
    }
}
