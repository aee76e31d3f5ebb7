//! What a model says of a structure.

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
