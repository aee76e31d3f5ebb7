//! What holds for every model, checked on models of random shapes and weights and on random structures.

use std::f64::consts::PI;

use ff_kernels::host::layers::Activation;
use ff_model::config::{Aggregation, Basis, Config, CutoffFn, Head, Kind};
use ff_model::file::StoredDtype;
use ff_model::units::{Energy, Length};
use ff_model::weights::Weights;
use ff_model::{HostModel, Model, ModelError, Neighbors, Prediction, Wanted};
use ff_spec::Precision;
use ff_structure::Structure;
use proptest::prelude::*;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

const CUTOFF: f64 = 4.0;

/// A model without its weights.
fn configs() -> impl Strategy<Value = Config> {
    let kind = prop_oneof![Just(Kind::Painn), Just(Kind::Schnet)];
    let basis = prop_oneof![Just(Basis::Gaussian), Just(Basis::GaussianCentered), Just(Basis::Bessel)];
    let cutoff_fn = prop_oneof![Just(CutoffFn::Cosine), Just(CutoffFn::Mollifier)];
    let activation = prop_oneof![Just(Activation::Silu), Just(Activation::ShiftedSoftplus), Just(Activation::Tanh)];
    let aggregation = prop_oneof![3 => Just(Aggregation::Sum), 1 => Just(Aggregation::Avg)];
    let sizes = (1..20_usize, 1..20_usize, 1..4_usize, 1..8_usize, prop::collection::vec(1..12_usize, 0..3));
    let flags = (any::<bool>(), any::<bool>());
    (kind, basis, cutoff_fn, activation, aggregation, sizes, flags).prop_map(
        |(kind, basis, cutoff_fn, activation, aggregation, (features, filters, layers, n_basis, hidden), flags)| {
            let schnet = kind == Kind::Schnet;
            Config {
                kind,
                features,
                filters: if schnet { filters } else { features },
                layers,
                n_basis,
                basis,
                cutoff: CUTOFF,
                cutoff_fn,
                activation,
                epsilon: 1e-8,
                shared_filters: flags.0 && !schnet,
                shared_interactions: flags.1,
                head: Head {
                    layers: [vec![features], hidden, vec![1]].concat(),
                    activation: Activation::ShiftedSoftplus,
                },
                aggregation,
                energy_unit: Energy::ElectronVolt,
                length_unit: Length::Angstrom,
                offset_per_atom: -3.25,
                elements: Vec::new(),
            }
        },
    )
}

fn models() -> impl Strategy<Value = Model> {
    (configs(), any::<u64>()).prop_map(|(config, seed)| {
        let weights = Weights::random(&config, 101, seed);
        Model::new(config, weights)
    })
}

/// Atoms at random, none closer than 0.8 Å, in a cell or not.
fn structure(n_atoms: usize, pbc: [bool; 3], seed: u64) -> Structure {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut uniform = |low: f64, high: f64| rng.random_range(low..high);
    let cell: [[f64; 3]; 3] =
        std::array::from_fn(|a| std::array::from_fn(|b| if a == b { uniform(4.0, 7.0) } else { uniform(-1.5, 1.5) }));
    let periodic = pbc.contains(&true);
    let distance = |a: [f64; 3], b: [f64; 3]| {
        let images = if periodic { -1..=1 } else { 0..=0 };
        let mut least = f64::INFINITY;
        for s in images.clone() {
            for t in images.clone() {
                for u in images.clone() {
                    let shift = [s, t, u].map(f64::from);
                    let moved = |k: usize| b[k] - a[k] + (0..3).map(|axis| shift[axis] * cell[axis][k]).sum::<f64>();
                    least = least.min((0..3).map(|k| moved(k) * moved(k)).sum::<f64>().sqrt());
                }
            }
        }
        least
    };
    let mut positions: Vec<[f64; 3]> = Vec::new();
    while positions.len() < n_atoms {
        let fraction: [f64; 3] = std::array::from_fn(|_| uniform(0.0, 1.0));
        let position = std::array::from_fn(|k| (0..3).map(|axis| fraction[axis] * cell[axis][k]).sum());
        if positions.iter().all(|other| distance(*other, position) > 0.8) {
            positions.push(position);
        }
    }
    let species = (0..n_atoms).map(|_| [1, 6, 7, 8, 14][rng.random_range(0..5)]).collect();
    let cell = periodic.then_some(cell);
    Structure { name: format!("random {n_atoms}"), species, positions, cell, pbc }
}

fn structures() -> impl Strategy<Value = Structure> {
    (1..9_usize, any::<[bool; 3]>(), any::<u64>()).prop_map(|(n, pbc, seed)| structure(n, pbc, seed))
}

fn one(model: &HostModel<f64>, structure: &Structure) -> Prediction {
    model.predict(std::slice::from_ref(structure), Wanted::FORCES).expect("a prediction").remove(0)
}

fn energy(model: &HostModel<f64>, structure: &Structure) -> f64 {
    let predictions = model.predict(std::slice::from_ref(structure), Wanted::ENERGY).expect("a prediction");
    predictions[0].energy
}

/// Whether two numbers agree but for rounding, beside what they are made of.
fn close(a: f64, b: f64, scale: f64) -> bool {
    (a - b).abs() <= 1e-10 * (1.0 + scale)
}

fn mapped(structure: &Structure, map: impl Fn([f64; 3]) -> [f64; 3]) -> Structure {
    let positions = structure.positions.iter().map(|x| map(*x)).collect();
    Structure { positions, cell: structure.cell.map(|cell| cell.map(&map)), ..structure.clone() }
}

/// (1 + ε)·x.
fn strained(structure: &Structure, strain: [[f64; 3]; 3]) -> Structure {
    mapped(structure, |x| std::array::from_fn(|a| x[a] + (0..3).map(|b| strain[a][b] * x[b]).sum::<f64>()))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn forces_are_minus_the_gradient(model in models(), structure in structures(), direction in any::<u64>()) {
        let model = HostModel::<f64>::new(&model).expect("a model");
        let forces = one(&model, &structure).forces;
        let mut rng = ChaCha8Rng::seed_from_u64(direction);
        let step: Vec<[f64; 3]> = forces.iter().map(|_| std::array::from_fn(|_| rng.random_range(-1.0..1.0))).collect();
        let moved = |h: f64| {
            let mut moved = structure.clone();
            for (x, d) in moved.positions.iter_mut().zip(&step) {
                *x = std::array::from_fn(|k| x[k] + h * d[k]);
            }
            energy(&model, &moved)
        };
        // Of fourth order: its error is far below what a wrong term would change.
        let h = 1e-4;
        let slope = (8.0 * (moved(h) - moved(-h)) - (moved(2.0 * h) - moved(-2.0 * h))) / (12.0 * h);
        let along: f64 = forces.iter().zip(&step).map(|(f, d)| (0..3).map(|k| f[k] * d[k]).sum::<f64>()).sum();
        let scale: f64 = forces.iter().flatten().map(|f| f.abs()).sum();
        prop_assert!((slope + along).abs() <= 1e-6 * (1.0 + scale), "{slope} and {along}");
    }

    #[test]
    fn stress_is_the_derivative_in_the_strain(
        model in models(), n in 1..7_usize, seed in any::<u64>(), axes in (0..3_usize, 0..3_usize), pbc in any::<[bool; 3]>(),
    ) {
        let model = HostModel::<f64>::new(&model).expect("a model");
        let structure = structure(n, pbc, seed);
        let stress = one(&model, &structure).stress;
        let Some(cell) = structure.cell else {
            prop_assert_eq!(stress, None);
            return Ok(());
        };
        let stress = stress.expect("a stress");
        if pbc != [true; 3] {
            return Ok(());
        }
        let volume = (0..3).map(|k| cell[0][k] * (cell[1][(k + 1) % 3] * cell[2][(k + 2) % 3]
            - cell[1][(k + 2) % 3] * cell[2][(k + 1) % 3])).sum::<f64>().abs();
        let (a, b) = axes;
        let at = |h: f64| {
            let mut strain = [[0.0; 3]; 3];
            strain[a][b] += 0.5 * h;
            strain[b][a] += 0.5 * h;
            energy(&model, &strained(&structure, strain))
        };
        let h = 1e-4;
        let slope = (8.0 * (at(h) - at(-h)) - (at(2.0 * h) - at(-2.0 * h))) / (12.0 * h) / volume;
        let scale: f64 = stress.as_flattened().iter().map(|x| x.abs()).sum();
        prop_assert!((slope - stress[a][b]).abs() <= 1e-6 * (1e-2 + scale), "{slope} and {}", stress[a][b]);
        prop_assert_eq!(stress[a][b], stress[b][a]);
    }

    /// Atoms walk, jump by lattice vectors, and cells change, of several structures at once: kept lists change no bit.
    #[test]
    fn kept_lists_give_the_numbers_of_new_ones(
        model in models(),
        structures in prop::collection::vec(structures(), 0..5),
        skin in 0.0..1.5_f64,
        step in 0.0..0.4_f64,
        seed in any::<u64>(),
    ) {
        let model = HostModel::<f64>::new(&model).expect("a model");
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let (mut structures, mut kept) = (structures, Neighbors::new(skin).expect("a skin"));
        let mut predictions = Vec::new();
        for round in 0..8 {
            model.predict_with(&structures, Wanted::FORCES, &mut kept, &mut predictions).expect("predictions");
            prop_assert_eq!(&predictions, &model.predict(&structures, Wanted::FORCES).expect("predictions"));
            for structure in &mut structures {
                if let (5, Some(cell)) = (round, &mut structure.cell) {
                    cell[2][2] *= 1.01;
                }
                for position in &mut structure.positions {
                    let (jumps, axis) = (round == 2 && rng.random(), rng.random_range(0..3));
                    *position = std::array::from_fn(|k| {
                        let jump = structure.cell.filter(|_| jumps && structure.pbc[axis]).map_or(0.0, |cell| cell[axis][k]);
                        position[k] + jump + rng.random_range(-step..=step)
                    });
                }
            }
        }
        let most = 8 * structures.len() as u64;
        prop_assert!(kept.rebuilds() <= most, "{} of at most {most}", kept.rebuilds());
    }

    #[test]
    fn rotations_turn_forces_and_stress(model in models(), structure in structures(), angles in (0.0..PI, 0.0..PI)) {
        let model = HostModel::<f64>::new(&model).expect("a model");
        let ((s, c), (t, d)) = (angles.0.sin_cos(), angles.1.sin_cos());
        // Turned about z, then about x, then mirrored.
        let turn = |[x, y, z]: [f64; 3]| {
            let [x, y] = [c * x - s * y, s * x + c * y];
            [-x, d * y - t * z, t * y + d * z]
        };
        let (before, after) = (one(&model, &structure), one(&model, &mapped(&structure, turn)));
        let scale: f64 = before.forces.iter().flatten().map(|f| f.abs()).sum::<f64>() + before.energy.abs();
        prop_assert!(close(before.energy, after.energy, scale));
        for (f, g) in before.forces.iter().zip(&after.forces) {
            for (f, g) in turn(*f).into_iter().zip(*g) {
                prop_assert!(close(f, g, scale), "{f} and {g}");
            }
        }
        let moved = one(&model, &Structure {
            positions: structure.positions.iter().map(|x| std::array::from_fn(|k| x[k] + 7.5)).collect(),
            ..structure.clone()
        });
        prop_assert!(close(before.energy, moved.energy, scale));
        for k in 0..3 {
            prop_assert!(before.forces.iter().map(|f| f[k]).sum::<f64>().abs() <= 1e-10 * (1.0 + scale), "a net force");
        }
    }

    #[test]
    fn the_order_of_atoms_does_not_matter(model in models(), structure in structures(), by in 0..8_usize) {
        let model = HostModel::<f64>::new(&model).expect("a model");
        let mut other = structure.clone();
        let by = by % structure.n_atoms();
        other.positions.rotate_left(by);
        other.species.rotate_left(by);
        let (before, mut after) = (one(&model, &structure), one(&model, &other));
        after.forces.rotate_right(by);
        let scale: f64 = before.forces.iter().flatten().map(|f| f.abs()).sum::<f64>() + before.energy.abs();
        prop_assert!(close(before.energy, after.energy, scale));
        for (f, g) in before.forces.as_flattened().iter().zip(after.forces.as_flattened()) {
            prop_assert!(close(*f, *g, scale), "{f} and {g}");
        }
    }

    #[test]
    fn a_supercell_has_as_many_times_the_energy(model in models(), n in 1..5_usize, seed in any::<u64>()) {
        let host = HostModel::<f64>::new(&model).expect("a model");
        let single = structure(n, [true; 3], seed);
        let cell = single.cell.expect("a cell");
        let mut double = single.clone();
        double.species.extend(&single.species);
        double.positions.extend(single.positions.iter().map(|x| -> [f64; 3] { std::array::from_fn(|k| x[k] + cell[1][k]) }));
        double.cell = Some([cell[0], cell[1].map(|x| 2.0 * x), cell[2]]);
        let (one, two) = (one(&host, &single), one(&host, &double));
        let avg = model.config().aggregation == Aggregation::Avg;
        let offset = model.config().offset_per_atom * n as f64;
        let (times, per_force) = if avg { (1.0, 0.5) } else { (2.0, 1.0) };
        let scale: f64 = one.forces.iter().flatten().map(|f| f.abs()).sum::<f64>() + one.energy.abs();
        prop_assert!(close(times * (one.energy - offset), two.energy - 2.0 * offset, scale));
        for (k, f) in two.forces.iter().enumerate() {
            for (f, g) in f.iter().zip(one.forces[k % n]) {
                prop_assert!(close(*f, per_force * g, scale), "{f} and {g}");
            }
        }
    }

    #[test]
    fn a_batch_has_the_bits_of_its_structures(model in models(), sizes in prop::collection::vec(0..40_usize, 1..9), seed in any::<u64>()) {
        let seeds = (seed..=u64::MAX).chain(0..);
        let batch: Vec<Structure> = sizes.iter().zip(seeds).map(|(n, seed)| {
            // A box that is not crowded.
            let mut structure = structure((*n).min(8), [seed % 2 == 0; 3], seed);
            let many = n / 8;
            for copy in 1..=many {
                structure.species.extend_from_within(..(*n).min(8));
                let first: Vec<[f64; 3]> = structure.positions[..(*n).min(8)].to_vec();
                structure.positions.extend(first.iter().map(|x| [x[0] + 1.0 + 8.5 * copy as f64, x[1], x[2]]));
            }
            if let Some(cell) = &mut structure.cell {
                cell[0] = [8.5 * (many + 1) as f64 + 2.0, 0.0, 0.0];
            }
            structure
        }).collect();
        let wanted = Wanted { per_atom: true, ..Wanted::FORCES };
        let f32 = HostModel::<f32>::new(&model).expect("a model");
        let f64 = HostModel::<f64>::new(&model).expect("a model");
        let (Ok(all), Ok(wide)) = (f32.predict(&batch, wanted), f64.predict(&batch, wanted)) else {
            return Err(TestCaseError::reject("atoms in one place"));
        };
        for (structure, (narrow, wide)) in batch.iter().zip(all.iter().zip(&wide)) {
            let single = std::slice::from_ref(structure);
            prop_assert_eq!(&f32.predict(single, wanted).expect("a prediction")[0], narrow);
            prop_assert_eq!(&f64.predict(single, wanted).expect("a prediction")[0], wide);
            let scale = wide.energies.iter().map(|e| e.abs()).sum::<f64>();
            prop_assert!((narrow.energy - wide.energy).abs() <= 1e-4 * (1.0 + scale), "{} and {}", narrow.energy, wide.energy);
        }
        for precision in Precision::ALL {
            let model = HostModel::<f32>::with_precision(&model, precision, None).expect("a model");
            let found = model.predict(&batch, wanted).expect("predictions");
            if precision == Precision::F32 {
                prop_assert_eq!(&found, &all);
            }
            for (structure, found) in batch.iter().zip(&found) {
                let single = model.predict(std::slice::from_ref(structure), wanted).expect("a prediction");
                prop_assert_eq!(&single[0], found, "{}", precision);
            }
        }
    }

    #[test]
    fn energies_are_smooth_where_atoms_come_near(model in models(), seed in any::<u64>()) {
        let model = HostModel::<f64>::new(&model).expect("a model");
        let mut pair = structure(2, [false; 3], seed);
        let mut at = |d: f64| {
            pair.positions = vec![[0.0; 3], [d, 0.0, 0.0]];
            one(&model, &pair)
        };
        let (inside, outside) = (at(CUTOFF - 1e-6), at(CUTOFF + 1e-6));
        prop_assert!((inside.energy - outside.energy).abs() < 1e-9);
        prop_assert!((inside.forces[0][0] - outside.forces[0][0]).abs() < 1e-3 * (1.0 + inside.energy.abs()));
        prop_assert_eq!(outside.forces, vec![[0.0; 3]; 2]);
    }

    #[test]
    fn tables_err_by_what_they_say(model in models(), structure in structures()) {
        let exact = HostModel::<f64>::new(&model).expect("a model");
        prop_assert_eq!(exact.table_error(), None);
        // Of functions with a pole near 0, no table of this size holds all that is asked for.
        let Ok(tables) = HostModel::<f64>::tabulated(&model, 1e-9) else { return Err(TestCaseError::reject("no table")) };
        prop_assert!(tables.table_error().expect("an error") <= 1e-9);
        let (exact, tables) = (one(&exact, &structure), one(&tables, &structure));
        let scale: f64 = exact.forces.iter().flatten().map(|f| f.abs()).sum::<f64>() + exact.energy.abs();
        prop_assert!((exact.energy - tables.energy).abs() <= 1e-6 * (1.0 + scale));
        for (f, g) in exact.forces.as_flattened().iter().zip(tables.forces.as_flattened()) {
            prop_assert!((f - g).abs() <= 1e-4 * (1.0 + scale), "{f} and {g}");
        }
    }

    #[test]
    fn files_hold_all_of_a_model(model in models()) {
        let file = model.weights().to_file(model.config(), StoredDtype::F64);
        let read = Model::from_file(&file).expect("a model");
        prop_assert_eq!(read.config(), model.config());
        let host = HostModel::<f64>::new(&model).expect("a model");
        let again = HostModel::<f64>::new(&read).expect("a model");
        let structure = structure(5, [true, false, true], 3);
        prop_assert!(close(energy(&host, &structure), energy(&again, &structure), energy(&host, &structure).abs()));
        let file = read.weights().to_file(read.config(), StoredDtype::F64);
        let twice = Model::from_file(&file).expect("a model");
        prop_assert_eq!(twice.weights().interactions.clone(), read.weights().interactions.clone());
    }
}

fn small() -> Model {
    let config = Config {
        kind: Kind::Painn,
        features: 6,
        filters: 6,
        layers: 2,
        n_basis: 4,
        basis: Basis::Gaussian,
        cutoff: CUTOFF,
        cutoff_fn: CutoffFn::Cosine,
        activation: Activation::Silu,
        epsilon: 1e-8,
        shared_filters: false,
        shared_interactions: false,
        head: Head { layers: vec![6, 3, 1], activation: Activation::Silu },
        aggregation: Aggregation::Sum,
        energy_unit: Energy::ElectronVolt,
        length_unit: Length::Angstrom,
        offset_per_atom: 0.0,
        elements: Vec::new(),
    };
    let weights = Weights::random(&config, 101, 1);
    Model::new(config, weights)
}

#[test]
fn what_cannot_be_computed_is_named() {
    let model = HostModel::<f32>::new(&small()).expect("a model");
    let predict = |structure: &Structure| model.predict(&[water(), structure.clone()], Wanted::FORCES).unwrap_err();
    let mut wrong = water();
    wrong.species[2] = 118;
    assert_eq!(
        predict(&wrong).to_string(),
        "structure 1 (`water`): atom 2 has atomic number 118, which the model has no embedding for, expected 1 to 100"
    );
    let mut wrong = water();
    wrong.positions[1] = wrong.positions[0];
    assert!(matches!(predict(&wrong), ModelError::Coincident { index: 1, atoms: [0, 1], .. }));
    let mut wrong = water();
    wrong.positions[1][2] = f64::NAN;
    assert!(matches!(predict(&wrong), ModelError::Neighbors { index: 1, .. }), "{}", predict(&wrong));
    let mut wrong = water();
    wrong.pbc = [true, false, false];
    assert!(matches!(predict(&wrong), ModelError::MissingCell { index: 1, .. }));
    // What went wrong leaves nothing behind.
    assert_eq!(model.predict(&[water()], Wanted::FORCES), model.predict(&[water()], Wanted::FORCES));
}

fn water() -> Structure {
    Structure::open("water", vec![8, 1, 1], vec![[0.0; 3], [0.96, 0.0, 0.0], [-0.24, 0.93, 0.0]])
}

#[test]
fn no_atoms_one_atom_and_no_neighbours() {
    let model = HostModel::<f64>::new(&small()).expect("a model");
    assert_eq!(model.predict(&[], Wanted::FORCES), Ok(Vec::new()));
    let none = Structure::open("none", vec![], vec![]);
    let alone = Structure::open("alone", vec![6], vec![[1e6, 0.0, 0.0]]);
    let apart = Structure::open("apart", vec![6, 6], vec![[0.0; 3], [0.0, 50.0, 0.0]]);
    let predictions = model.predict(&[none, alone, apart], Wanted::FORCES).expect("predictions");
    assert_eq!(predictions[0], Prediction { energy: 0.0, ..Prediction::default() });
    assert_eq!(predictions[1].forces, vec![[0.0; 3]]);
    assert_eq!(predictions[2].forces, vec![[0.0; 3]; 2]);
    assert!((predictions[2].energy - 2.0 * predictions[1].energy).abs() < 1e-12);
    assert!(predictions[1].energy.is_finite() && predictions[1].energy != 0.0);
}

#[test]
fn slabs_have_stress_along_themselves_alone() {
    let model = HostModel::<f64>::new(&small()).expect("a model");
    let mut slab = structure(5, [true, true, false], 11);
    slab.cell = slab.cell.map(|[a, b, _]| [[a[0], a[1], 0.0], [b[0], b[1], 0.0], [0.0, 0.0, 20.0]]);
    let stress = one(&model, &slab).stress.expect("a stress");
    assert!(stress[0][0].abs() > 0.0 && stress[1][1].abs() > 0.0);
    assert_eq!([stress[0][2], stress[1][2], stress[2][2]], [0.0; 3]);
    let mut flat = slab.clone();
    flat.cell = slab.cell.map(|[a, b, _]| [a, b, [0.0; 3]]);
    let flat = one(&model, &flat);
    assert_eq!((flat.stress, flat.energy), (None, one(&model, &slab).energy));
}
