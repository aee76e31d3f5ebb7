//! Neighbour state that stays on a device, beside models that list anew in every call.

use ff_nn::device::Follow;
use ff_testkit::tolerance::{Order, compare_rounded};

use super::*;

/// Å, as in dynamics.
const SKIN: f64 = 0.5;

type Matrix = [[f64; 3]; 3];

/// A model twice: one that lists anew, one that keeps its lists.
struct Pair {
    what: String,
    dtype: Dtype,
    fresh: Box<dyn Predict>,
    moving: Box<dyn Follow>,
}

impl Pair {
    /// On Burn's host backend in either dtype and on Vulkan in f32, where that is here.
    fn all(name: &str, model: &Model) -> Vec<Self> {
        let pair = |dtype, [fresh, moving]: [Box<dyn Predict>; 2], on: &str| Self {
            what: format!("{name} in {dtype} {on}"),
            dtype,
            fresh,
            moving: moving.moving(SKIN).unwrap(),
        };
        let mut all: Vec<Self> = Dtype::ALL
            .into_iter()
            .map(|dtype| pair(dtype, [(); 2].map(|()| flex(model, dtype)), "on the host"))
            .collect();
        if let (Some(fresh), Some(moving)) = (vulkan(model, Dtype::F32), vulkan(model, Dtype::F32)) {
            all.push(pair(Dtype::F32, [fresh, moving], "on a device"));
        }
        all
    }

    /// Both say the same to rounding; whether lists were kept.
    fn assert_same(&mut self, structures: &[Structure], step: usize) -> bool {
        let before = self.moving.rebuilds();
        let found = self.moving.predict(structures, ALL).unwrap();
        let expected = self.fresh.predict(structures, ALL).unwrap();
        assert_eq!(found.len(), structures.len(), "{}", self.what);
        for ((structure, found), expected) in structures.iter().zip(&found).zip(&expected) {
            let what = format!("{}, {}, step {step}", self.what, structure.name);
            let same = |of: &str, order, a: &[f64], b: &[f64], magnitude: f64| {
                // In a crystal they cancel: each sum is rounded by an ulp of its terms.
                let ulp = if self.dtype == Dtype::F32 { f64::from(f32::EPSILON) } else { f64::EPSILON };
                let rounding = ulp * magnitude * (b.len() as f64).sqrt();
                let found = compare_rounded(self.dtype, order, a, b, &vec![magnitude; b.len()], rounding);
                assert!(found.passed, "{what}: {of}: {:?}", found.reason);
            };
            let scale = expected.energies.iter().map(|e| e.abs()).sum::<f64>();
            same("energies", Order::Forward, &found.energies, &expected.energies, scale);
            let force = expected.forces.as_flattened().iter().fold(1.0, |most: f64, f| most.max(f.abs()));
            // What a force sums are as many pushes and pulls as an atom has neighbours.
            let [a, b] = [found, expected].map(|of| of.forces.as_flattened());
            same("forces", Order::First, a, b, 4.0 * force);
            assert_eq!(found.stress.is_some(), expected.stress.is_some(), "{what}");
            for (a, b) in found.stress.iter().zip(&expected.stress) {
                same("stress", Order::First, a.as_flattened(), b.as_flattened(), force);
            }
        }
        before == self.moving.rebuilds()
    }
}

/// Numbers from −1 to 1 that are no others the next time.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 11) as f64 / (1_u64 << 52) as f64 - 1.0
    }

    fn vector(&mut self, size: f64) -> [f64; 3] {
        std::array::from_fn(|_| size * self.next())
    }
}

fn walk(structures: &mut [Structure], numbers: &mut Numbers, size: f64) {
    for x in structures.iter_mut().flat_map(|structure| &mut structure.positions) {
        let by = numbers.vector(size);
        (0..3).for_each(|k| x[k] += by[k]);
    }
}

fn strain(structure: &mut Structure, strain: &Matrix) {
    let by = |x: &mut [f64; 3]| {
        let old = *x;
        (0..3).for_each(|c| x[c] += (0..3).map(|k| old[k] * strain[k][c]).sum::<f64>());
    };
    structure.positions.iter_mut().for_each(by);
    structure.cell.iter_mut().flatten().for_each(by);
}

/// Golden structures, among them a triclinic cell, with one that has drifted many cells away.
fn structures(of: &[Structure]) -> Vec<Structure> {
    let mut all = of.to_vec();
    let mut far = of.iter().find(|structure| structure.name == "triclinic").unwrap().clone();
    let [a, _, c] = far.cell.unwrap();
    far.positions.iter_mut().for_each(|x| (0..3).for_each(|k| x[k] += 40.0 * a[k] - 70.0 * c[k]));
    all.push(far);
    all.push(Structure::open("apart", vec![1, 6], vec![[0.0; 3], [50.0; 3]]));
    all
}

/// Atoms wander, out of their cells too: lists are kept for some steps, then built again, and nobody sees when.
#[test]
fn kept_lists_have_the_numbers_of_new_ones() {
    for name in ["painn_mollifier", "schnet_bessel"] {
        let (model, of) = load(&golden(name));
        for mut pair in Pair::all(name, &model) {
            let (mut structures, mut numbers) = (structures(&of), Numbers(1));
            let mut kept = 0;
            for step in 0..12 {
                kept += usize::from(pair.assert_same(&structures, step));
                walk(&mut structures, &mut numbers, 0.08);
            }
            // The first call of all builds no list again.
            let (rebuilds, all) = (pair.moving.rebuilds(), structures.len() as u64);
            assert!(kept > 4 && rebuilds >= all && rebuilds % all == 0, "{}: {kept} kept, {rebuilds}", pair.what);
            // One atom of one structure that moves by more than the skin lets all of their lists be built.
            structures[0].positions[1][2] += 0.7;
            assert!(!pair.assert_same(&structures, 12) && pair.moving.rebuilds() == rebuilds + all, "{}", pair.what);
            assert!(pair.assert_same(&structures, 13), "{}", pair.what);
        }
    }
}

/// Under a barostat every cell is another in every step, and lists are kept all the same: strains that are no rotation, and with one.
#[test]
fn cells_change_and_lists_are_kept() {
    for name in ["painn_mollifier", "schnet_bessel"] {
        let (model, of) = load(&golden(name));
        for mut pair in Pair::all(name, &model) {
            let (mut structures, mut numbers) = (structures(&of), Numbers(2));
            let mut kept = 0;
            for step in 0..8 {
                kept += usize::from(pair.assert_same(&structures, step));
                walk(&mut structures, &mut numbers, 0.02);
                for structure in structures.iter_mut().filter(|structure| structure.pbc == [true; 3]) {
                    let by = std::array::from_fn(|_| numbers.vector(2e-3));
                    strain(structure, &by);
                }
            }
            assert!(kept > 4, "{}: {kept} kept", pair.what);
            let triclinic = structures.iter_mut().find(|structure| structure.name == "triclinic").unwrap();
            triclinic.cell.as_mut().unwrap()[0][0] *= 1.2;
            assert!(!pair.assert_same(&structures, 8), "{}: a cell that has grown by a fifth", pair.what);
        }
    }
}

/// Whatever comes next, its numbers are its own.
#[test]
fn other_structures_are_listed_anew() {
    let (model, of) = load(&golden("painn_atomref"));
    for mut pair in Pair::all("painn_atomref", &model) {
        assert!(pair.moving.predict(&[], ALL).unwrap().is_empty());
        assert!(pair.moving.predict(&[Structure::open("nothing", vec![], vec![])], ALL).unwrap()[0].forces.is_empty());
        pair.assert_same(&of, 0);
        pair.assert_same(&of[1..], 1);
        let mut other = of[1..].to_vec();
        other[0].species.reverse();
        assert!(!pair.assert_same(&other, 2), "{}: other elements", pair.what);
        let open = |structure: &Structure| Structure { pbc: [false; 3], cell: None, ..structure.clone() };
        let other: Vec<Structure> = other.iter().map(open).collect();
        assert!(!pair.assert_same(&other, 3), "{}: cells that no longer repeat", pair.what);
        let replicas = vec![of[0].clone(); 3];
        pair.assert_same(&replicas, 4);
        assert!(pair.assert_same(&replicas, 5), "{}", pair.what);
        let energies = pair.moving.predict(&replicas, Wanted::ENERGY).unwrap();
        assert!(energies.iter().all(|of| of.forces.is_empty() && of.energy == energies[0].energy), "{}", pair.what);
    }
}

/// Atoms that meet, cells that are gone and elements without an embedding are named as without kept lists, and what comes after them
/// is computed.
#[test]
fn errors_are_those_of_new_lists() {
    let (model, of) = load(&golden("painn_energy_offset"));
    let periodic = of.iter().find(|structure| structure.pbc == [true; 3]).unwrap();
    let near = Structure::open("near", vec![1; 2], vec![[0.0; 3], [0.2, 0.0, 0.0]]);
    let structures = [of[0].clone(), near, periodic.clone()];
    let with = |change: &dyn Fn(&mut [Structure])| {
        let mut all = structures.to_vec();
        change(&mut all);
        all
    };
    let wrong = [
        with(&|all| all[1].positions[1] = [0.0; 3]),
        with(&|all| all[2].cell = None),
        with(&|all| all[0].species[1] = 79),
        with(&|all| all[0].positions[0][1] = f64::INFINITY),
        with(&|all| all[2].cell = Some([[1.0, 0.0, 0.0], [2.0, 0.0, 0.0], [0.0, 0.0, 1.0]])),
    ];
    for mut pair in Pair::all("painn_energy_offset", &model) {
        for wrong in &wrong {
            pair.assert_same(&structures, 0);
            let expected = pair.fresh.predict(wrong, ALL).unwrap_err();
            assert_eq!(pair.moving.predict(wrong, ALL).unwrap_err(), expected, "{}", pair.what);
        }
        pair.assert_same(&structures, 1);
    }
    let refused = flex(&model, Dtype::F64).moving(-0.1).map(drop).unwrap_err();
    assert!(refused.to_string().contains("-0.1"), "{refused}");
}
