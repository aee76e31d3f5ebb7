//! Built-in structures: what benches, tests and a first try run on without any file.

use std::array::from_fn;
use std::f64::consts::PI;

use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::{Structure, neighbors};

/// A built-in structure, or a family of them by size.
#[derive(Clone, Copy, Debug)]
pub struct BuiltIn {
    /// The id on the command line and in records; `<…>` stands for a number.
    pub id: &'static str,
    /// What it is.
    pub doc: &'static str,
    /// Smallest and largest number that the id may end with; `None` for a single structure.
    pub sizes: Option<(usize, usize)>,
    build: fn(usize) -> Vec<Structure>,
}

impl BuiltIn {
    /// The id up to its number.
    fn stem(&self) -> &'static str {
        self.id.split('<').next().unwrap_or_default()
    }
}

/// Every built-in structure.
pub const BUILT_INS: &[BuiltIn] = &[
    BuiltIn {
        id: "water-<molecules>",
        doc: "periodic cubic water at 0.997 g/cm³",
        sizes: Some((64, 100_000)),
        build: |n| vec![water_box(n, 0)],
    },
    BuiltIn {
        id: "si-<cells>",
        doc: "diamond silicon, a = 5.431 Å, n × n × n cubic cells of 8 atoms",
        sizes: Some((1, 50)),
        build: |n| vec![silicon(n)],
    },
    BuiltIn {
        id: "nacl-<cells>",
        doc: "rock salt, a = 5.6402 Å, n × n × n cubic cells of 8 atoms",
        sizes: Some((1, 50)),
        build: |n| vec![rock_salt(n)],
    },
    BuiltIn { id: "h2", doc: "hydrogen", sizes: None, build: |_| vec![h2()] },
    BuiltIn { id: "h2o", doc: "water", sizes: None, build: |_| vec![h2o()] },
    BuiltIn { id: "ch4", doc: "methane", sizes: None, build: |_| vec![ch4()] },
    BuiltIn { id: "nh3", doc: "ammonia", sizes: None, build: |_| vec![nh3()] },
    BuiltIn { id: "c2h6", doc: "ethane, staggered", sizes: None, build: |_| vec![c2h6()] },
    BuiltIn { id: "c6h6", doc: "benzene", sizes: None, build: |_| vec![c6h6()] },
    BuiltIn { id: "co2", doc: "carbon dioxide", sizes: None, build: |_| vec![co2()] },
    BuiltIn {
        id: "h2o-perturbed",
        doc: "water, each coordinate moved by up to 0.1 Å",
        sizes: None,
        build: |_| vec![h2o_perturbed(0)],
    },
    BuiltIn { id: "molecules", doc: "all eight molecules as one batch", sizes: None, build: |_| molecules() },
];

/// An id that names no built-in structure.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BuiltInError {
    /// No such id.
    #[error("unknown built-in structure `{found}`, did you mean `{nearest}`? Expected one of {known}")]
    Unknown {
        /// What was asked for.
        found: String,
        /// The known id that is closest in spelling.
        nearest: String,
        /// All known ids.
        known: String,
    },
    /// A number out of range.
    #[error("built-in structure `{found}` is out of range, expected `{id}` with a number from {smallest} to {largest}")]
    Size {
        /// What was asked for.
        found: String,
        /// The family it belongs to.
        id: &'static str,
        /// Smallest number.
        smallest: usize,
        /// Largest number.
        largest: usize,
    },
}

/// The built-in structure with this id: one system, or the batch `molecules`.
///
/// # Errors
/// [`BuiltInError`], with the known ids and the nearest of them.
pub fn builtin(id: &str) -> Result<Vec<Structure>, BuiltInError> {
    let (stem, number) = id.split_at(id.trim_end_matches(|c: char| c.is_ascii_digit()).len());
    for entry in BUILT_INS {
        match entry.sizes {
            None if entry.id == id => return Ok((entry.build)(0)),
            Some((smallest, largest)) if entry.stem() == stem && !number.is_empty() => {
                let in_range = number.parse().ok().filter(|n| (smallest..=largest).contains(n));
                let out_of_range = || BuiltInError::Size { found: id.to_owned(), id: entry.id, smallest, largest };
                return in_range.map(entry.build).ok_or_else(out_of_range);
            }
            _ => {}
        }
    }
    // A family is compared without its number, so that `watr-512` is near `water-512` and not near `h2`.
    let (lower, lower_stem) = (id.to_ascii_lowercase(), stem.to_ascii_lowercase());
    let candidate = |entry: &BuiltIn| match entry.sizes {
        Some(_) if number.is_empty() => (strsim::damerau_levenshtein(&lower, entry.stem()), entry.id.to_owned()),
        Some(_) => (strsim::damerau_levenshtein(&lower_stem, entry.stem()), format!("{}{number}", entry.stem())),
        None => (strsim::damerau_levenshtein(&lower, entry.id), entry.id.to_owned()),
    };
    let nearest = BUILT_INS.iter().map(candidate).min_by_key(|(distance, _)| *distance);
    Err(BuiltInError::Unknown {
        found: id.to_owned(),
        nearest: nearest.map(|(_, id)| id).unwrap_or_default(),
        known: BUILT_INS.iter().map(|entry| entry.id).collect::<Vec<_>>().join(", "),
    })
}

/// The eight molecules as one batch.
pub fn molecules() -> Vec<Structure> {
    vec![h2(), h2o(), ch4(), nh3(), c2h6(), c6h6(), co2(), h2o_perturbed(0)]
}

/// O–H bond of a free water molecule in Å, and its H–O–H angle in degrees (Benedict, Gailar and Plyler 1956).
const WATER_BOND: f64 = 0.9572;
const WATER_ANGLE: f64 = 104.52;

/// A periodic cubic box of rigid water molecules at 0.997 g/cm³, random but free of overlaps; O, H, H per molecule.
///
/// Oxygens lie on a jittered lattice, orientations are random among those that keep atoms of different molecules apart
/// (O–O above 2.4 Å, O–H above 1.5 Å, H–H above 1.7 Å). The same seed gives the same box. The structure of the liquid it is not:
/// it has the density, and so the neighbour counts.
pub fn water_box(n_molecules: usize, seed: u64) -> Structure {
    /// Å³ per molecule: 18.01528 g/mol / (0.997 g/cm³ · N_A).
    const VOLUME: f64 = 18.015_28 / 0.997 / 0.602_214_076;
    /// Where the O–O distribution of the liquid begins.
    const OXYGENS: f64 = 2.45;
    const NEIGHBOURHOOD: f64 = 4.5;
    const TRIES: usize = 40;
    const SWEEPS: usize = 3;
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let length = (n_molecules as f64 * VOLUME).cbrt();
    let (mut oxygens, spacing) = lattice_sites(n_molecules, length);
    // More sites than molecules: the vacancies are spread at random.
    oxygens.shuffle(&mut rng);
    oxygens.truncate(n_molecules);
    let jitter = (0.5 * (spacing - OXYGENS)).clamp(0.0, 0.3);
    for site in &mut oxygens {
        let step = in_unit_ball(&mut rng);
        *site = from_fn(|k| site[k] + jitter * step[k]);
    }
    let cell = cubic(length);
    let near = neighbors(&oxygens, Some(cell), [true; 3], NEIGHBOURHOOD)
        .expect("finite sites in a cell that is thicker than the neighbourhood");

    // Each molecule in turn takes the first orientation that fits those of its neighbours, or the best of a few; later sweeps
    // turn again those that were boxed in.
    let mut hydrogens: Vec<Option<[[f64; 3]; 2]>> = vec![None; n_molecules];
    for _ in 0..SWEEPS {
        for i in 0..n_molecules {
            let room = |pair: &[[f64; 3]; 2], hydrogens: &[Option<[[f64; 3]; 2]>]| {
                near.row(i).fold(f64::INFINITY, |room, e| {
                    let other = hydrogens[near.sender[e] as usize];
                    clearance(pair, near.edge_vec[e], other.as_ref()).min(room)
                })
            };
            let mut best = hydrogens[i].map(|pair| (room(&pair, &hydrogens), pair));
            for _ in 0..TRIES {
                if best.is_some_and(|(room, _)| room >= 1.0) {
                    break;
                }
                let pair = random_orientation(&mut rng);
                let room = room(&pair, &hydrogens);
                if best.is_none_or(|(most, _)| room > most) {
                    best = Some((room, pair));
                }
            }
            hydrogens[i] = best.map(|(_, pair)| pair);
        }
    }
    let atoms = oxygens.iter().zip(hydrogens.into_iter().flatten()).flat_map(|(o, [p, q])| {
        let at = |h: [f64; 3]| from_fn(|k| o[k] + h[k]);
        [*o, at(p), at(q)]
    });
    Structure::periodic(format!("water-{n_molecules}"), [8, 1, 1].repeat(n_molecules), atoms.collect(), cell)
}

/// At least `n` sites in a cubic box: of the simple, body-centred and face-centred cubic lattices the one whose nearest
/// neighbours are furthest apart, and their distance.
fn lattice_sites(n: usize, length: f64) -> (Vec<[f64; 3]>, f64) {
    let bases: [(&[[f64; 3]], f64); 3] = [
        (&[[0.0; 3]], 1.0),
        (&[[0.0; 3], [0.5; 3]], 0.75f64.sqrt()),
        (&[[0.0; 3], [0.0, 0.5, 0.5], [0.5, 0.0, 0.5], [0.5, 0.5, 0.0]], 0.5f64.sqrt()),
    ];
    let (mut sites, mut furthest) = (Vec::new(), 0.0);
    for (basis, nearest) in bases {
        let cells = (1..).find(|cells: &usize| basis.len() * cells.pow(3) >= n).unwrap_or(1);
        let spacing = nearest * length / cells as f64;
        if spacing > furthest {
            furthest = spacing;
            sites = lattice(basis, cells, length / cells as f64);
        }
    }
    (sites, furthest)
}

/// How well a molecule's hydrogens (relative to its oxygen) keep clear of a molecule at `between`: the smallest distance
/// in units of where the liquid's O–H and H–H distributions begin, and hence 1 or more if none is too close.
fn clearance(pair: &[[f64; 3]; 2], between: [f64; 3], other: Option<&[[f64; 3]; 2]>) -> f64 {
    const OXYGEN_HYDROGEN: f64 = 1.7;
    const HYDROGENS: f64 = 1.9;
    let norm = |v: [f64; 3]| (v[0] * v[0] + v[1] * v[1] + v[2] * v[2]).sqrt();
    // A neighbour not yet turned counts as a bare oxygen.
    let mut room = f64::INFINITY;
    for p in pair {
        room = room.min(norm(from_fn(|k| between[k] - p[k])) / OXYGEN_HYDROGEN);
        for q in other.into_iter().flatten() {
            room = room.min(norm(from_fn(|k| between[k] + q[k] - p[k])) / HYDROGENS);
        }
    }
    for q in other.into_iter().flatten() {
        room = room.min(norm(from_fn(|k| between[k] + q[k])) / OXYGEN_HYDROGEN);
    }
    room
}

/// A vector uniform in the unit ball, by rejection.
fn in_unit_ball(rng: &mut ChaCha8Rng) -> [f64; 3] {
    loop {
        let v: [f64; 3] = from_fn(|_| 2.0 * rng.random::<f64>() - 1.0);
        if v[0] * v[0] + v[1] * v[1] + v[2] * v[2] <= 1.0 {
            return v;
        }
    }
}

/// The two hydrogens of a water molecule relative to its oxygen, turned by a uniformly random rotation.
fn random_orientation(rng: &mut ChaCha8Rng) -> [[f64; 3]; 2] {
    // A quaternion uniform on the sphere, by rejection from the cube.
    let (q, norm2) = loop {
        let q: [f64; 4] = from_fn(|_| 2.0 * rng.random::<f64>() - 1.0);
        let norm2: f64 = q.iter().map(|x| x * x).sum();
        if (0.01..=1.0).contains(&norm2) {
            break (q, norm2);
        }
    };
    let [w, x, y, z] = q;
    let s = 2.0 / norm2;
    let rotation = [
        [1.0 - s * (y * y + z * z), s * (x * y - w * z), s * (x * z + w * y)],
        [s * (x * y + w * z), 1.0 - s * (x * x + z * z), s * (y * z - w * x)],
        [s * (x * z - w * y), s * (y * z + w * x), 1.0 - s * (x * x + y * y)],
    ];
    water_hydrogens().map(|h| rotation.map(|row| row[0] * h[0] + row[1] * h[1] + row[2] * h[2]))
}

/// The hydrogens of a water molecule in the xz plane, relative to its oxygen.
fn water_hydrogens() -> [[f64; 3]; 2] {
    let (sin, cos) = (0.5 * WATER_ANGLE).to_radians().sin_cos();
    [[WATER_BOND * sin, 0.0, WATER_BOND * cos], [-WATER_BOND * sin, 0.0, WATER_BOND * cos]]
}

/// An alkane C_n H_2n+2 with all carbons in trans: C–C 1.53 Å, C–H 1.09 Å, tetrahedral angles.
pub fn alkane(carbons: usize) -> Structure {
    let half = 0.5 * (-1.0f64 / 3.0).acos();
    let (sin, cos) = half.sin_cos();
    let carbon = |i: usize| [1.53 * sin * i as f64, 0.0, if i.is_multiple_of(2) { 0.0 } else { 1.53 * cos }];
    let (mut species, mut positions) = (vec![6; carbons], (0..carbons).map(carbon).collect::<Vec<_>>());
    let mut add = |at: [f64; 3], by: [f64; 3]| {
        species.push(1);
        positions.push(from_fn(|k| at[k] + 1.09 * by[k]));
    };
    for i in 0..carbons {
        // Away from the neighbours, which are up of an even carbon and down of an odd one.
        let away = if i % 2 == 0 { -cos } else { cos };
        add(carbon(i), [0.0, sin, away]);
        add(carbon(i), [0.0, -sin, away]);
    }
    for (end, along) in [(0, -sin), (carbons.saturating_sub(1), sin)] {
        let up = if end % 2 == 0 { cos } else { -cos };
        if carbons > 0 {
            add(carbon(end), [along, 0.0, up]);
        }
    }
    Structure::open(format!("alkane-{carbons}"), species, positions)
}

/// Diamond silicon, `cells`³ cubic cells of 8 atoms, a = 5.431 Å.
pub fn silicon(cells: usize) -> Structure {
    const A: f64 = 5.431;
    let face = [[0.0; 3], [0.0, 0.5, 0.5], [0.5, 0.0, 0.5], [0.5, 0.5, 0.0]];
    let basis: Vec<[f64; 3]> = face.into_iter().flat_map(|x| [x, x.map(|v| v + 0.25)]).collect();
    let positions = lattice(&basis, cells, A);
    Structure::periodic(format!("si-{cells}"), vec![14; positions.len()], positions, cubic(A * cells as f64))
}

/// Rock salt, `cells`³ cubic cells of 8 atoms (Na and Cl in turn), a = 5.6402 Å.
pub fn rock_salt(cells: usize) -> Structure {
    const A: f64 = 5.6402;
    let face = [[0.0; 3], [0.0, 0.5, 0.5], [0.5, 0.0, 0.5], [0.5, 0.5, 0.0]];
    let basis: Vec<[f64; 3]> = face.into_iter().flat_map(|[x, y, z]| [[x, y, z], [x + 0.5, y, z]]).collect();
    let positions = lattice(&basis, cells, A);
    let species = [11, 17].repeat(positions.len() / 2);
    Structure::periodic(format!("nacl-{cells}"), species, positions, cubic(A * cells as f64))
}

fn cubic(length: f64) -> [[f64; 3]; 3] {
    [[length, 0.0, 0.0], [0.0, length, 0.0], [0.0, 0.0, length]]
}

/// `cells`³ copies of a basis in units of a cubic cell of edge `a`.
fn lattice(basis: &[[f64; 3]], cells: usize, a: f64) -> Vec<[f64; 3]> {
    let mut positions = Vec::with_capacity(basis.len() * cells.pow(3));
    for corner in (0..cells.pow(3)).map(|n| [n / (cells * cells), n / cells % cells, n % cells]) {
        positions.extend(basis.iter().map(|x| -> [f64; 3] { from_fn(|k| (corner[k] as f64 + x[k]) * a) }));
    }
    positions
}

/// `count` points at distance `rho` from the z axis and height `z`, evenly around it from `start` degrees.
fn ring(count: usize, rho: f64, z: f64, start: f64) -> Vec<[f64; 3]> {
    let angle = |n: usize| start.to_radians() + 2.0 * PI * n as f64 / count as f64;
    (0..count).map(|n| [rho * angle(n).cos(), rho * angle(n).sin(), z]).collect()
}

// Experimental geometries as in the NIST Computational Chemistry Comparison and Benchmark Database, release 22.

/// H₂: 0.7414 Å.
fn h2() -> Structure {
    Structure::open("h2", vec![1, 1], vec![[0.0, 0.0, 0.3707], [0.0, 0.0, -0.3707]])
}

fn h2o() -> Structure {
    let [p, q] = water_hydrogens();
    Structure::open("h2o", vec![8, 1, 1], vec![[0.0; 3], p, q])
}

fn h2o_perturbed(seed: u64) -> Structure {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut water = h2o();
    for x in water.positions.as_flattened_mut() {
        *x += 0.1 * (2.0 * rng.random::<f64>() - 1.0);
    }
    Structure { name: "h2o-perturbed".into(), ..water }
}

/// CH₄: C–H 1.087 Å, tetrahedral.
fn ch4() -> Structure {
    let t = 1.087 / 3f64.sqrt();
    let hydrogens = [[t, t, t], [t, -t, -t], [-t, t, -t], [-t, -t, t]];
    Structure::open("ch4", vec![6, 1, 1, 1, 1], [[[0.0; 3]].as_slice(), &hydrogens].concat())
}

/// NH₃: N–H 1.012 Å, H–N–H 106.67°.
fn nh3() -> Structure {
    const BOND: f64 = 1.012;
    // The hydrogens are 2 b sin(θ/2) apart, and √3 times less from the axis.
    let rho = 2.0 * BOND * (0.5 * 106.67f64).to_radians().sin() / 3f64.sqrt();
    let hydrogens = ring(3, rho, -(BOND * BOND - rho * rho).sqrt(), 0.0);
    Structure::open("nh3", vec![7, 1, 1, 1], [vec![[0.0; 3]], hydrogens].concat())
}

/// C₂H₆: C–C 1.536 Å, C–H 1.091 Å, H–C–C 110.91°, staggered.
fn c2h6() -> Structure {
    let half = 0.5 * 1.536;
    let (sin, cos) = 110.91f64.to_radians().sin_cos();
    let (rho, z) = (1.091 * sin, half - 1.091 * cos);
    let carbons = vec![[0.0, 0.0, half], [0.0, 0.0, -half]];
    let positions = [carbons, ring(3, rho, z, 0.0), ring(3, rho, -z, 60.0)].concat();
    Structure::open("c2h6", vec![6, 6, 1, 1, 1, 1, 1, 1], positions)
}

/// C₆H₆: C–C 1.397 Å, C–H 1.084 Å, planar.
fn c6h6() -> Structure {
    let positions = [ring(6, 1.397, 0.0, 0.0), ring(6, 1.397 + 1.084, 0.0, 0.0)].concat();
    Structure::open("c6h6", [[6; 6], [1; 6]].concat(), positions)
}

/// CO₂: C–O 1.162 Å, linear.
fn co2() -> Structure {
    Structure::open("co2", vec![6, 8, 8], vec![[0.0; 3], [0.0, 0.0, 1.162], [0.0, 0.0, -1.162]])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn distance(structure: &Structure, i: usize, j: usize) -> f64 {
        let (x, y) = (structure.positions[i], structure.positions[j]);
        (0..3).map(|k| (x[k] - y[k]).powi(2)).sum::<f64>().sqrt()
    }

    fn angle(structure: &Structure, i: usize, centre: usize, j: usize) -> f64 {
        let (a, b, c) = (distance(structure, i, centre), distance(structure, j, centre), distance(structure, i, j));
        ((a * a + b * b - c * c) / (2.0 * a * b)).acos().to_degrees()
    }

    #[test]
    fn alkanes_are_tetrahedral() {
        for carbons in [1, 2, 3, 10] {
            let alkane = alkane(carbons);
            assert_eq!(alkane.n_atoms(), 3 * carbons + 2);
            let mut bonds = vec![Vec::new(); carbons];
            for i in 0..alkane.n_atoms() {
                for j in (i + 1)..alkane.n_atoms() {
                    let d = distance(&alkane, i, j);
                    let expected = if j < carbons { 1.53 } else { 1.09 };
                    if i < carbons && d < 1.6 {
                        assert!((d - expected).abs() < 1e-12, "{d} between {i} and {j}");
                        bonds[i].push(j);
                        if let Some(others) = bonds.get_mut(j) {
                            others.push(i);
                        }
                    } else {
                        assert!(d > 1.7, "{d} between {i} and {j}");
                    }
                }
            }
            for (i, others) in bonds.iter().enumerate() {
                assert_eq!(others.len(), 4);
                for a in others {
                    for b in others.iter().filter(|b| *b > a) {
                        assert!((angle(&alkane, *a, i, *b) - 109.471).abs() < 1e-3);
                    }
                }
            }
        }
    }

    /// Smallest distances between atoms of different molecules: O–O, O–H, H–H.
    fn closest(water: &Structure) -> [f64; 3] {
        let list = neighbors(&water.positions, water.cell, water.pbc, 3.0).expect("a list");
        let mut closest = [f64::INFINITY; 3];
        for i in 0..water.n_atoms() {
            for e in list.row(i).filter(|&e| list.sender[e] as usize / 3 != i / 3 || list.shift[e] != [0; 3]) {
                let kind =
                    usize::from(water.species[i] == 1) + usize::from(water.species[list.sender[e] as usize] == 1);
                let d = list.edge_vec[e].iter().map(|x| x * x).sum::<f64>().sqrt();
                closest[kind] = closest[kind].min(d);
            }
        }
        closest
    }

    #[test]
    fn water_has_its_density_and_geometry_and_no_overlaps() {
        // A full simple cubic lattice, one molecule more, lattices with many vacancies, and a common benchmark.
        for (n, seed) in [(64, 0), (64, 1), (65, 0), (109, 0), (129, 0), (217, 3), (1000, 0)] {
            let water = water_box(n, seed);
            assert_eq!((water.n_atoms(), &water.species[..4], water.pbc), (3 * n, &[8, 1, 1, 8][..], [true; 3]));
            let length = water.cell.expect("a cell")[0][0];
            let density = n as f64 * 18.015_28 / 6.022_140_76e23 / (length * 1e-8).powi(3);
            assert!((density - 0.997).abs() < 1e-9, "{density} g/cm³");
            for o in (0..3 * n).step_by(3) {
                assert!((distance(&water, o, o + 1) - WATER_BOND).abs() < 1e-12);
                assert!((distance(&water, o, o + 2) - WATER_BOND).abs() < 1e-12);
                assert!((angle(&water, o + 1, o, o + 2) - WATER_ANGLE).abs() < 1e-9);
            }
            let [oo, oh, hh] = closest(&water);
            assert!(oo > 2.4 && oh > 1.5 && hh > 1.7, "{n} molecules: O–O {oo}, O–H {oh}, H–H {hh}");
        }
        assert_eq!(water_box(64, 7), water_box(64, 7));
        assert_ne!(water_box(64, 7).positions, water_box(64, 8).positions);
    }

    #[test]
    fn lattice_sites_never_crowd() {
        for n in (64..2_000).chain([9_999, 100_000]) {
            let (sites, spacing) = lattice_sites(n, (n as f64 * 30.0).cbrt());
            assert!(sites.len() >= n && spacing > 2.7, "{n}: {spacing}");
        }
    }

    #[test]
    fn molecules_have_their_bonds_and_angles() {
        let one = |id: &str| builtin(id).expect("a molecule").remove(0);
        for (id, i, j, bond) in [
            ("h2", 0, 1, 0.7414),
            ("h2o", 0, 2, 0.9572),
            ("ch4", 0, 3, 1.087),
            ("nh3", 0, 2, 1.012),
            ("c2h6", 0, 1, 1.536),
            ("c2h6", 0, 2, 1.091),
            ("c2h6", 1, 7, 1.091),
            ("c6h6", 0, 1, 1.397),
            ("c6h6", 5, 11, 1.084),
            ("co2", 1, 2, 2.324),
        ] {
            assert!((distance(&one(id), i, j) - bond).abs() < 1e-12, "{id} {i} {j}");
        }
        for (id, i, centre, j, degrees) in [
            ("h2o", 1, 0, 2, 104.52),
            ("ch4", 1, 0, 4, (-1.0f64 / 3.0).acos().to_degrees()),
            ("nh3", 1, 0, 3, 106.67),
            ("c2h6", 0, 1, 6, 110.91),
            ("c2h6", 1, 0, 3, 110.91),
            ("c6h6", 0, 1, 2, 120.0),
        ] {
            assert!((angle(&one(id), i, centre, j) - degrees).abs() < 1e-9, "{id} {i} {centre} {j}");
        }
        let names: Vec<String> = molecules().into_iter().map(|m| m.name).collect();
        assert_eq!(names, ["h2", "h2o", "ch4", "nh3", "c2h6", "c6h6", "co2", "h2o-perturbed"]);
        assert!(molecules().iter().all(|m| m.species.len() == m.positions.len() && !m.pbc.contains(&true)));
        assert_ne!(one("h2o-perturbed").positions, one("h2o").positions);
    }

    #[test]
    fn crystals_have_eight_atoms_per_cell() {
        let si = builtin("si-2").expect("silicon").remove(0);
        assert_eq!((si.n_atoms(), si.cell), (64, Some(cubic(10.862))));
        let salt = rock_salt(3);
        assert_eq!(salt.n_atoms(), 216);
        assert_eq!(salt.species.iter().filter(|z| **z == 11).count(), 108);
    }

    #[test]
    fn unknown_ids_name_the_nearest() {
        for (id, expected) in [
            ("watr-512", "water-512"),
            ("water", "water-<molecules>"),
            ("water-", "water-<molecules>"),
            ("H2O", "h2o"),
            ("molecule", "molecules"),
            ("nacl2", "nacl-2"),
        ] {
            match builtin(id) {
                Err(BuiltInError::Unknown { nearest, known, .. }) => {
                    assert!(known.contains("water-<molecules>, si-<cells>") && known.ends_with("molecules"));
                    assert_eq!(nearest, expected, "{id}");
                }
                other => panic!("{id}: {other:?}"),
            }
        }
        for id in ["water-63", "water-100001", "si-0", "nacl-99999999999999999999999"] {
            assert!(matches!(builtin(id), Err(BuiltInError::Size { .. })), "{id}");
        }
        let error = builtin("si-0").expect_err("out of range").to_string();
        assert!(error.contains("`si-0` is out of range, expected `si-<cells>` with a number from 1 to 50"), "{error}");
    }

    /// `cargo test --release -p ff-structure problems -- --ignored --nocapture`
    #[test]
    #[ignore = "prints times and distances"]
    fn closest_contacts_of_large_boxes() {
        for n in (64..400).chain([1_000, 10_000, 100_000]) {
            let start = std::time::Instant::now();
            let water = water_box(n, 0);
            println!("water-{n}: {:?}, O–O, O–H, H–H from {:.2?} Å", start.elapsed(), closest(&water));
        }
    }
}
