//! Random cells, and random batches of systems in them; [`strategies`] has both for property tests.

use std::f64::consts::TAU;

use ff_spec::Dtype;
use ff_spec::cell_list::Inputs;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// The shape of a cell.
#[derive(Clone, Debug, PartialEq)]
pub struct CellSpec {
    /// Lengths along three orthogonal axes before anything else, in Å. Their product stays the volume.
    pub lengths: [f64; 3],
    /// The largest part of a length by which they differ between seeds.
    pub jitter: f64,
    /// How many times its predecessors each vector may have added or taken away; reduced cells have at most a half.
    pub skew: f64,
    /// Mirrored.
    pub left_handed: bool,
    /// Turned any way in space.
    pub rotated: bool,
}

impl CellSpec {
    /// An upright box, a little different for every seed.
    pub fn upright(lengths: [f64; 3]) -> Self {
        Self { lengths, jitter: 0.03, skew: 0.0, left_handed: false, rotated: false }
    }
}

/// Where the atoms of a system are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Arrangement {
    /// Independent of each other.
    Uniform,
    /// Each somewhere in its own part of the cell, so that few are close.
    Liquid,
    /// As `Uniform`, but every third atom lies exactly where its predecessor lies.
    Coincident,
    /// As `Liquid`, each atom moved by up to this many lattice vectors in every periodic direction.
    Unwrapped(i32),
    /// On points one Å apart, with an offset that no type rounds; needs whole lengths and an upright cell without jitter.
    Lattice,
    /// Spheres of this radius in Å around as many points as there are dozens of atoms.
    Clusters(f64),
    /// One after the other along the third axis.
    Chain,
}

/// A system.
#[derive(Clone, Debug, PartialEq)]
pub struct SystemSpec {
    /// Atoms.
    pub n_atoms: usize,
    /// Cell. In open directions atoms are placed by it, but it is not part of the inputs.
    pub cell: CellSpec,
    /// The periodic directions.
    pub pbc: [bool; 3],
    /// Positions.
    pub arrangement: Arrangement,
}

/// Systems that are searched together.
#[derive(Clone, Debug, PartialEq)]
pub struct BatchSpec {
    /// The systems.
    pub systems: Vec<SystemSpec>,
    /// r_c in Å.
    pub cutoff: f64,
}

/// Lattice vectors as rows in Å.
pub fn random_cell(spec: &CellSpec, rng: &mut ChaCha8Rng) -> [[f64; 3]; 3] {
    let mut cell = [[0.0; 3]; 3];
    for (k, row) in cell.iter_mut().enumerate() {
        row[k] = spec.lengths[k] * (1.0 + spec.jitter * rng.random_range(-1.0..1.0));
    }
    // Vectors that are added to later ones leave the volume as it is.
    for (k, l) in [(1, 0), (2, 0), (2, 1)] {
        let by = spec.skew * rng.random_range(-1.0..1.0);
        cell[k] = std::array::from_fn(|c| cell[k][c] + by * cell[l][c]);
    }
    let turn = random_rotation(rng);
    if spec.rotated {
        cell = cell.map(|row| rotated(&turn, row));
    }
    if spec.left_handed {
        cell = cell.map(|[x, y, z]| [-x, y, z]);
    }
    cell
}

/// A rotation, as a matrix by rows.
pub fn random_rotation(rng: &mut ChaCha8Rng) -> [[f64; 3]; 3] {
    // Marsaglia: a point on the sphere of unit quaternions.
    let u: f64 = rng.random_range(0.0..1.0);
    let ((a, b), (c, d)) = (rng.random_range(0.0..TAU).sin_cos(), rng.random_range(0.0..TAU).sin_cos());
    let ([x, y], [z, w]) = ([a, b].map(|v| v * (1.0 - u).sqrt()), [c, d].map(|v| v * u.sqrt()));
    [
        [1.0 - 2.0 * (y * y + z * z), 2.0 * (x * y - z * w), 2.0 * (x * z + y * w)],
        [2.0 * (x * y + z * w), 1.0 - 2.0 * (x * x + z * z), 2.0 * (y * z - x * w)],
        [2.0 * (x * z - y * w), 2.0 * (y * z + x * w), 1.0 - 2.0 * (x * x + y * y)],
    ]
}

/// A matrix, by rows, times a vector.
pub fn rotated(matrix: &[[f64; 3]; 3], v: [f64; 3]) -> [f64; 3] {
    matrix.map(|row| row[0] * v[0] + row[1] * v[1] + row[2] * v[2])
}

/// S·H for any S.
pub fn combined(s: [f64; 3], cell: &[[f64; 3]; 3]) -> [f64; 3] {
    std::array::from_fn(|c| (0..3).filter(|k| s[*k] != 0.0).map(|k| s[k] * cell[k][c]).sum())
}

/// A batch. Rows of its cells in open directions are NaN, since nobody may read them.
///
/// Sizes come from the specification alone and never from the seed; numbers of edges cannot.
pub fn random_batch(spec: &BatchSpec, seed: u64) -> Inputs<f64> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut inputs =
        Inputs { positions: Vec::new(), system_ptr: vec![0], cell: Vec::new(), pbc: Vec::new(), cutoff: spec.cutoff };
    for system in &spec.systems {
        let mut cell = random_cell(&system.cell, &mut rng);
        for mut s in places(system, &mut rng) {
            if let Arrangement::Unwrapped(cells) = system.arrangement {
                for k in (0..3).filter(|k| system.pbc[*k]) {
                    s[k] += f64::from(rng.random_range(-cells..=cells));
                }
            }
            inputs.positions.extend(combined(s, &cell));
        }
        for k in (0..3).filter(|k| !system.pbc[*k]) {
            cell[k] = [f64::NAN; 3];
        }
        inputs.system_ptr.push((inputs.positions.len() / 3) as u32);
        inputs.cell.extend(cell.as_flattened());
        inputs.pbc.push(system.pbc);
    }
    inputs
}

/// The lattice coordinates of the atoms.
fn places(spec: &SystemSpec, rng: &mut ChaCha8Rng) -> Vec<[f64; 3]> {
    let n = spec.n_atoms;
    let lengths = spec.cell.lengths;
    let uniform = |rng: &mut ChaCha8Rng| -> [f64; 3] { std::array::from_fn(|_| rng.random_range(0.0..1.0)) };
    let mut places: Vec<[f64; 3]> = match spec.arrangement {
        Arrangement::Uniform => (0..n).map(|_| uniform(rng)).collect(),
        Arrangement::Liquid | Arrangement::Unwrapped(_) => {
            let per_axis = (1..).find(|m| m * m * m >= n).unwrap_or(1);
            let mut sites: Vec<usize> = (0..per_axis * per_axis * per_axis).collect();
            sites.shuffle(rng);
            let site = |i: usize| [i % per_axis, i / per_axis % per_axis, i / per_axis / per_axis];
            sites
                .into_iter()
                .take(n)
                .map(|i| {
                    let within = uniform(rng);
                    std::array::from_fn(|c| (site(i)[c] as f64 + 0.7 * within[c]) / per_axis as f64)
                })
                .collect()
        }
        Arrangement::Coincident => {
            let mut places: Vec<[f64; 3]> = (0..n).map(|_| uniform(rng)).collect();
            for i in (1..n).step_by(3) {
                places[i] = places[i - 1];
            }
            places
        }
        Arrangement::Lattice => {
            let [a, b, c] = lengths.map(|length| length as usize);
            let offset: [f64; 3] = std::array::from_fn(|_| f64::from(rng.random_range(-8..8)) / 4.0);
            let mut places: Vec<[f64; 3]> = (0..a * b * c)
                .map(|i| [i % a, i / a % b, i / a / b])
                // Multiplied by the length again, these come out as they were only for powers of two.
                .map(|p| std::array::from_fn(|c| (p[c] as f64 + offset[c]) / lengths[c]))
                .collect();
            places.shuffle(rng);
            places.truncate(n);
            places
        }
        Arrangement::Clusters(radius) => {
            // Away from the faces of the cell: across them f32 leaves little of a vector in a box as large as this.
            let centres: Vec<[f64; 3]> = (0..n.div_ceil(12)).map(|_| uniform(rng).map(|s| 0.05 + 0.9 * s)).collect();
            (0..n)
                .map(|i| {
                    let within = uniform(rng);
                    std::array::from_fn(|c| centres[i / 12][c] + radius * (2.0 * within[c] - 1.0) / lengths[c])
                })
                .collect()
        }
        Arrangement::Chain => (0..n)
            .map(|i| {
                let [x, y, z] = uniform(rng);
                [x, y, (i as f64 + 0.5 * z) / n as f64]
            })
            .collect(),
    };
    if spec.arrangement == Arrangement::Chain {
        // Neighbours in space need not be neighbours in memory.
        places.shuffle(rng);
    }
    places
}

/// The inputs as a kernel of `dtype` sees them: rounded to nearest and widened again.
pub fn rounded_batch(inputs: &Inputs<f64>, dtype: Dtype) -> Inputs<f64> {
    match dtype {
        Dtype::F32 => inputs.cast::<f32>().cast(),
        Dtype::F64 => inputs.clone(),
    }
}

/// proptest strategies over cells, systems and batches.
pub mod strategies {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::{Arrangement, BatchSpec, CellSpec, Inputs, SystemSpec, random_batch};

    /// Cells of any skew and handedness, from flat to long, some thinner than any cutoff of [`batch_spec`].
    pub fn cell_spec() -> impl Strategy<Value = CellSpec> {
        let length = || prop_oneof![1.3..4.0, 4.0..14.0];
        ([length(), length(), length()], prop_oneof![Just(0.0), 0.0..0.5, 0.5..2.0], any::<bool>(), any::<bool>())
            .prop_map(|(lengths, skew, left_handed, rotated)| CellSpec {
                lengths,
                jitter: 0.0,
                skew,
                left_handed,
                rotated,
            })
    }

    /// Systems of up to a dozen atoms in any cell, inside and outside, with any periodic directions.
    pub fn system_spec() -> impl Strategy<Value = SystemSpec> {
        let arrangements = vec![
            Arrangement::Uniform,
            Arrangement::Liquid,
            Arrangement::Coincident,
            Arrangement::Unwrapped(1),
            Arrangement::Unwrapped(20),
            Arrangement::Chain,
            Arrangement::Clusters(1.0),
        ];
        (0usize..12, cell_spec(), any::<[bool; 3]>(), select(arrangements))
            .prop_map(|(n_atoms, cell, pbc, arrangement)| SystemSpec { n_atoms, cell, pbc, arrangement })
    }

    /// Batches of up to four systems.
    pub fn batch_spec() -> impl Strategy<Value = BatchSpec> {
        (vec(system_spec(), 0..4), 0.5..5.0).prop_map(|(systems, cutoff)| BatchSpec { systems, cutoff })
    }

    /// Batches of up to four systems, with positions.
    pub fn batch() -> impl Strategy<Value = Inputs<f64>> {
        (batch_spec(), any::<u64>()).prop_map(|(spec, seed)| random_batch(&spec, seed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(arrangement: Arrangement) -> SystemSpec {
        let cell = CellSpec { lengths: [4.0, 8.0, 16.0], jitter: 0.0, skew: 0.0, left_handed: false, rotated: false };
        SystemSpec { n_atoms: 27, cell, pbc: [true, true, false], arrangement }
    }

    fn volume([a, b, c]: [[f64; 3]; 3]) -> f64 {
        a[0] * (b[1] * c[2] - b[2] * c[1]) - a[1] * (b[0] * c[2] - b[2] * c[0]) + a[2] * (b[0] * c[1] - b[1] * c[0])
    }

    #[test]
    fn cells_have_the_volume_and_the_handedness_they_say() {
        let mut rng = ChaCha8Rng::seed_from_u64(0);
        for seed in 0..20 {
            let left_handed = seed % 2 == 0;
            let cell =
                CellSpec { lengths: [2.0, 5.0, 7.0], jitter: 0.0, skew: 3.0, left_handed, rotated: seed % 3 == 0 };
            let found = volume(random_cell(&cell, &mut rng));
            assert!((found - if left_handed { -70.0 } else { 70.0 }).abs() < 1e-11, "{found}");
        }
    }

    #[test]
    fn a_seed_says_it_all() {
        let batch =
            BatchSpec { systems: vec![SystemSpec { pbc: [true; 3], ..spec(Arrangement::Liquid) }; 2], cutoff: 3.0 };
        assert_eq!(random_batch(&batch, 1), random_batch(&batch, 1));
        let (a, b) = (random_batch(&batch, 1), random_batch(&batch, 2));
        assert_ne!(a.positions, b.positions);
        assert_eq!((a.system_ptr.clone(), a.pbc.clone()), (b.system_ptr, b.pbc));
        a.check().unwrap();
    }

    #[test]
    fn arrangements_are_what_they_say() {
        let positions = |arrangement| {
            let batch = BatchSpec { systems: vec![spec(arrangement)], cutoff: 3.0 };
            let inputs = random_batch(&batch, 5);
            assert_eq!(inputs.n_atoms(), 27);
            assert!(inputs.cell(0)[2].iter().all(|x| x.is_nan()) && inputs.cell(0)[1][1] == 8.0);
            (0..27).map(|i| inputs.position(i)).collect::<Vec<_>>()
        };
        let lattice = positions(Arrangement::Lattice);
        assert!(lattice.iter().flatten().all(|x| (4.0 * x).fract() == 0.0));
        let coincident = positions(Arrangement::Coincident);
        assert_eq!(coincident[0], coincident[1]);
        assert_ne!(coincident[2], coincident[3]);
        let outside = positions(Arrangement::Unwrapped(9));
        assert!(outside.iter().any(|x| x[0].abs() > 12.0) && outside.iter().all(|x| (0.0..16.0).contains(&x[2])));
    }
}
