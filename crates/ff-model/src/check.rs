//! Whether a model computes what it should: a file's labels, and what holds of every energy whatever the weights are.

use ff_spec::Dtype;
use ff_structure::{Labels, Structure};
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::config::ConfigError;
use crate::error::ModelError;
use crate::host::HostModel;
use crate::model::Model;
use crate::prediction::{Prediction, Wanted};

type Vec3 = [f64; 3];
type Matrix = [Vec3; 3];

/// What is checked of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Property {
    /// The energy is the label's.
    Energy,
    /// So are the forces.
    Forces,
    /// So is the stress.
    Stress,
    /// Forces are the slopes of the energy, by differences of that in f64.
    Differences,
    /// The stress is that under a strain, by differences of the energy in f64.
    Strain,
    /// A rotated system has the same energy and rotated forces.
    Rotation,
    /// Renumbered atoms have the same energy and forces.
    Permutation,
    /// In a batch each system has the numbers that it has alone: on the host to the last bit.
    Batch,
    /// A device says what the host says in f64.
    Host,
    /// Forces sum to zero.
    Balance,
}

impl Property {
    /// Its name in results.
    pub fn name(self) -> &'static str {
        match self {
            Self::Energy => "energy",
            Self::Forces => "forces",
            Self::Stress => "stress",
            Self::Differences => "differences",
            Self::Strain => "strain",
            Self::Rotation => "rotation",
            Self::Permutation => "permutation",
            Self::Batch => "batch",
            Self::Host => "host",
            Self::Balance => "balance",
        }
    }

    /// Whether its error is relative.
    pub fn is_relative(self) -> bool {
        self == Self::Energy
    }

    /// The unit of its error.
    pub fn unit(self) -> &'static str {
        match self {
            Self::Energy => "beside those of the atoms",
            Self::Stress | Self::Strain => "in eV/Å³",
            Self::Forces
            | Self::Differences
            | Self::Rotation
            | Self::Permutation
            | Self::Batch
            | Self::Host
            | Self::Balance => "in eV/Å",
        }
    }
}

/// One check of one frame.
#[derive(Clone, Debug, PartialEq)]
pub struct Check {
    /// What is checked.
    pub property: Property,
    /// The element type.
    pub dtype: Dtype,
    /// How far off it is: energies relative, forces in eV/Å, stress in eV/Å³; infinite where something is missing.
    pub error: f64,
    /// How far off it may be.
    pub tolerance: f64,
}

impl Check {
    /// Whether it holds.
    pub fn holds(&self) -> bool {
        self.error <= self.tolerance
    }
}

/// How far off energies (relative) and forces (eV/Å) of an element type may be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tolerances {
    /// Energy, relative to the sum of those of its atoms without their signs.
    pub energy: f64,
    /// Every component of every force, eV/Å.
    pub forces: f64,
    /// The same, of forces against differences of energies, which have errors of their own.
    pub differences: f64,
}

impl Tolerances {
    /// Of an element type.
    pub const fn of(dtype: Dtype) -> Self {
        match dtype {
            Dtype::F32 => Self { energy: 1e-5, forces: 1e-4, differences: 1e-4 },
            Dtype::F64 => Self { energy: 1e-10, forces: 1e-7, differences: 1e-6 },
        }
    }
}

/// What is computed of every structure.
const WANTED: Wanted = Wanted { per_atom: true, ..Wanted::FORCES };

/// Random directions in which slopes are compared with differences.
const DIRECTIONS: usize = 3;

/// The step of differences in Å, and of strains: with four points what is left out is far below rounding.
const STEP: f64 = 1e-4;

/// A model in both element types, to be checked.
pub struct Checker {
    single: HostModel<f32>,
    double: HostModel<f64>,
}

impl Checker {
    /// Packs a model.
    ///
    /// # Errors
    /// As [`HostModel::new`].
    pub fn new(model: &Model) -> Result<Self, ConfigError> {
        Ok(Self { single: HostModel::new(model)?, double: HostModel::new(model)? })
    }

    /// All checks of a frame in an element type.
    ///
    /// Forces may be off by [`Tolerances`], times the largest force in eV/Å where that is above 1; a stress by what errors of that
    /// size in the forces of all atoms make over the cutoff, tolerance · N · r_c / V; the sum of all forces by that times √N.
    ///
    /// # Errors
    /// [`ModelError`] for a structure that cannot be computed.
    pub fn frame(
        &self,
        structure: &Structure,
        labels: &Labels,
        dtype: Dtype,
        seed: u64,
    ) -> Result<Vec<Check>, ModelError> {
        let model: &Evaluate<'_, ModelError> = match dtype {
            Dtype::F32 => &|structures, wanted| self.single.predict(structures, wanted),
            Dtype::F64 => &|structures, wanted| self.double.predict(structures, wanted),
        };
        Frame { model, exact: &self.double, structure, dtype, bits: true }.checks(labels, seed)
    }

    /// The same of what a device says by `model`, whose numbers are also compared with those of the host in f64. In a batch they are
    /// those of a system alone to [`Tolerances`].
    ///
    /// # Errors
    /// What `model` says, and [`ModelError`] of the host.
    pub fn device_frame<E: From<ModelError>>(
        &self,
        model: &Evaluate<'_, E>,
        structure: &Structure,
        labels: &Labels,
        dtype: Dtype,
        seed: u64,
    ) -> Result<Vec<Check>, E> {
        Frame { model, exact: &self.double, structure, dtype, bits: false }.checks(labels, seed)
    }
}

/// A model as it is checked.
pub type Evaluate<'a, E> = dyn Fn(&[Structure], Wanted) -> Result<Vec<Prediction>, E> + 'a;

struct Frame<'a, E> {
    model: &'a Evaluate<'a, E>,
    exact: &'a HostModel<f64>,
    structure: &'a Structure,
    dtype: Dtype,
    /// Whether numbers in a batch are those of its systems to the last bit.
    bits: bool,
}

impl<E: From<ModelError>> Frame<'_, E> {
    fn predict(&self, structure: &Structure) -> Result<Prediction, E> {
        let mut predictions = (self.model)(std::slice::from_ref(structure), WANTED)?;
        Ok(predictions.remove(0))
    }

    fn energy(&self, structure: &Structure) -> Result<f64, ModelError> {
        Ok(self.exact.predict(std::slice::from_ref(structure), Wanted::ENERGY)?[0].energy)
    }

    fn checks(&self, labels: &Labels, seed: u64) -> Result<Vec<Check>, E> {
        let (structure, dtype) = (self.structure, self.dtype);
        let tolerances = Tolerances::of(dtype);
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let found = self.predict(structure)?;
        let n = structure.n_atoms() as f64;
        let largest = found.forces.as_flattened().iter().fold(1.0, |most: f64, x| most.max(x.abs()));
        let mut checks = Vec::new();
        let mut check =
            |property, error, tolerance| checks.push(Check { property, dtype, error: finite(error), tolerance });

        if let Some(energy) = labels.energy {
            check(Property::Energy, relative(energy, &found), tolerances.energy);
        }
        if let Some(forces) = &labels.forces {
            check(Property::Forces, apart(&found.forces, forces), tolerances.forces * largest);
        }
        if let Some(stress) = labels.stress {
            let error = found.stress.map_or(f64::INFINITY, |found| apart(&found, &stress));
            check(Property::Stress, error, tolerances.forces * largest * self.lever());
        }

        let (error, rounding) = self.differences(&found.forces, &mut rng)?;
        check(Property::Differences, error, tolerances.differences * largest + rounding);
        if let (Some(stress), true) = (found.stress, structure.pbc == [true; 3]) {
            let (error, rounding) = self.strain(stress, &mut rng)?;
            check(Property::Strain, error, tolerances.differences * largest * self.lever() + rounding);
        }

        let rotation = random_rotation(&mut rng);
        let rotated = rotated(structure, rotation);
        let of_rotated = self.predict(&rotated)?;
        let expected: Vec<Vec3> = found.forces.iter().map(|f| times(rotation, *f)).collect();
        let allowed = tolerances.forces * largest;
        let same = |other: &Prediction, forces: &[Vec3]| {
            // One number for both: in units of what each may be off by.
            (relative(other.energy, &found) / tolerances.energy).max(apart(&other.forces, forces) / allowed) * allowed
        };
        check(Property::Rotation, same(&of_rotated, &expected), allowed);

        let mut order: Vec<usize> = (0..structure.n_atoms()).collect();
        order.shuffle(&mut rng);
        let of_shuffled = self.predict(&permuted(structure, &order))?;
        let expected: Vec<Vec3> = order.iter().map(|atom| found.forces[*atom]).collect();
        check(Property::Permutation, same(&of_shuffled, &expected), allowed);

        let batch = [structure.clone(), rotated, structure.clone()];
        let together = (self.model)(&batch, WANTED)?;
        if self.bits {
            let equal = together[0] == found && together[1] == of_rotated && together[2] == found;
            check(Property::Batch, if equal { 0.0 } else { f64::INFINITY }, 0.0);
        } else {
            let expected = [&found, &of_rotated, &found];
            let off = together.iter().zip(expected).map(|(together, alone)| same(together, &alone.forces));
            check(Property::Batch, off.fold(0.0, f64::max), allowed);
            let host = self.exact.predict(std::slice::from_ref(structure), WANTED)?.remove(0);
            check(Property::Host, same(&host, &host.forces), allowed);
        }

        let sum: Vec3 = std::array::from_fn(|k| found.forces.iter().map(|f| f[k]).sum());
        check(Property::Balance, sum.iter().fold(0.0, |most: f64, x| most.max(x.abs())), allowed * n.sqrt().max(1.0));
        Ok(checks)
    }

    /// N·r_c/V in Å⁻²: what forces over the cutoff are to stress. 0 without a cell.
    fn lever(&self) -> f64 {
        let volume = self.structure.cell.map_or(f64::INFINITY, |cell| determinant(cell).abs());
        self.structure.n_atoms() as f64 * self.exact.config().cutoff / volume
    }

    /// How far slopes along random directions of random atoms are from differences, and what rounding of the energies alone makes.
    fn differences(&self, forces: &[Vec3], rng: &mut ChaCha8Rng) -> Result<(f64, f64), ModelError> {
        let n = self.structure.n_atoms();
        let (mut worst, mut rounding): (f64, f64) = (0.0, 0.0);
        let directions = if n == 0 { 0 } else { DIRECTIONS };
        for _ in 0..directions {
            let (atom, direction) = (rng.random_range(0..n), random_direction(rng));
            let mut moved = self.structure.clone();
            let (slope, error) = slope(|h| {
                moved.positions[atom] = std::array::from_fn(|k| self.structure.positions[atom][k] + h * direction[k]);
                self.energy(&moved)
            })?;
            let along: f64 = (0..3).map(|k| forces[atom][k] * direction[k]).sum();
            worst = worst.max(finite((slope + along).abs()));
            rounding = rounding.max(error);
        }
        Ok((worst, rounding))
    }

    /// How far the stress along a random strain is from differences of the energy over the volume.
    fn strain(&self, stress: Matrix, rng: &mut ChaCha8Rng) -> Result<(f64, f64), ModelError> {
        let volume = self.structure.cell.map_or(f64::INFINITY, |cell| determinant(cell).abs());
        let [xx, yy, zz, yz, xz, xy]: [f64; 6] = std::array::from_fn(|_| rng.random_range(-1.0..1.0));
        let strain = [[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]];
        let (slope, error) = slope(|h| {
            let by: Matrix =
                std::array::from_fn(|a| std::array::from_fn(|b| f64::from(u8::from(a == b)) + h * strain[a][b]));
            self.energy(&rotated(self.structure, by))
        })?;
        let along: f64 =
            (0..3).flat_map(|a| (0..3).map(move |b| (a, b))).map(|(a, b)| stress[a][b] * strain[a][b]).sum();
        Ok((finite((slope / volume - along).abs()), error / volume))
    }
}

/// The slope of an energy at 0 from four points, and what rounding of the energies makes of it.
fn slope(mut energy: impl FnMut(f64) -> Result<f64, ModelError>) -> Result<(f64, f64), ModelError> {
    let [far_below, below, above, far_above] =
        [energy(-2.0 * STEP)?, energy(-STEP)?, energy(STEP)?, energy(2.0 * STEP)?];
    let slope = (8.0 * (above - below) - (far_above - far_below)) / (12.0 * STEP);
    Ok((slope, 8.0 * f64::EPSILON * above.abs().max(below.abs()) / STEP))
}

/// A comparison with what is not a number holds never.
fn finite(error: f64) -> f64 {
    if error.is_nan() { f64::INFINITY } else { error }
}

/// How far an energy is from the one that was found, beside the energies of the atoms that were summed: those of a model that was not
/// trained cancel.
fn relative(energy: f64, found: &Prediction) -> f64 {
    let off = (found.energy - energy).abs();
    let terms: f64 = found.energies.iter().map(|energy| energy.abs()).sum();
    if off == 0.0 { 0.0 } else { off / terms.max(found.energy.abs()) }
}

/// The largest difference of two lists of vectors; infinite where they are not of one length.
fn apart(found: &[Vec3], expected: &[Vec3]) -> f64 {
    if found.len() != expected.len() {
        return f64::INFINITY;
    }
    let pairs = found.as_flattened().iter().zip(expected.as_flattened());
    pairs.fold(0.0, |most, (a, b)| most.max(finite((a - b).abs())))
}

fn times(matrix: Matrix, x: Vec3) -> Vec3 {
    matrix.map(|row| row[0] * x[0] + row[1] * x[1] + row[2] * x[2])
}

fn determinant([a, b, c]: Matrix) -> f64 {
    a[0] * (b[1] * c[2] - b[2] * c[1]) + a[1] * (b[2] * c[0] - b[0] * c[2]) + a[2] * (b[0] * c[1] - b[1] * c[0])
}

/// Positions and cell by a matrix.
fn rotated(structure: &Structure, by: Matrix) -> Structure {
    Structure {
        positions: structure.positions.iter().map(|x| times(by, *x)).collect(),
        cell: structure.cell.map(|cell| cell.map(|row| times(by, row))),
        ..structure.clone()
    }
}

fn permuted(structure: &Structure, order: &[usize]) -> Structure {
    Structure {
        species: order.iter().map(|atom| structure.species[*atom]).collect(),
        positions: order.iter().map(|atom| structure.positions[*atom]).collect(),
        ..structure.clone()
    }
}

fn random_direction(rng: &mut ChaCha8Rng) -> Vec3 {
    loop {
        let x: Vec3 = std::array::from_fn(|_| rng.random_range(-1.0..1.0));
        let norm = x.iter().map(|x| x * x).sum::<f64>().sqrt();
        if (0.1..=1.0).contains(&norm) {
            return x.map(|x| x / norm);
        }
    }
}

/// About a random axis by a random angle.
fn random_rotation(rng: &mut ChaCha8Rng) -> Matrix {
    let [x, y, z] = random_direction(rng);
    let (sin, cos) = rng.random_range(0.5..std::f64::consts::PI).sin_cos();
    let t = 1.0 - cos;
    [
        [t * x * x + cos, t * x * y - sin * z, t * x * z + sin * y],
        [t * x * y + sin * z, t * y * y + cos, t * y * z - sin * x],
        [t * x * z - sin * y, t * y * z + sin * x, t * z * z + cos],
    ]
}
