//! Models whose numbers are stored in less than f32, beside themselves in f32.

use std::path::{Path, PathBuf};

use ff_model::{ConfigError, HostModel, Model, ModelError, Neighbors, Prediction, Wanted};
use ff_spec::{Precision, Storage};
use ff_structure::{Structure, builtin, read_structures};
use ff_testkit::tolerance::{Order, norm, storage_tolerance};

const ALL: Wanted = Wanted { per_atom: true, ..Wanted::FORCES };

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The small model of this repository with eight deformed molecules of ethanol, golden models of either kind, and the yardsticks where
/// they are.
fn models() -> Vec<(String, Model, Vec<Structure>)> {
    let mut paths: Vec<PathBuf> = ["painn_bessel", "schnet_bessel"]
        .map(|name| root().join(format!("tests/golden/models/{name}.safetensors")))
        .into();
    if let Some(shared) = ff_testkit::shared("yardsticks") {
        paths.extend(
            ["painn_gaussian", "schnet_gaussian", "ethanol_painn"].map(|n| shared.join(format!("{n}.safetensors"))),
        );
    }
    let mut models = vec![("ethanol".to_owned(), small(), ethanols())];
    for path in paths {
        let structures = read_structures(path.with_extension("extxyz")).expect("structures");
        models.push((path.display().to_string(), Model::load(&path).expect("a model"), structures));
    }
    models
}

fn small() -> Model {
    Model::load(root().join("models/ethanol-painn-small.safetensors")).expect("a model")
}

fn ethanols() -> Vec<Structure> {
    let ethanol = read_structures(root().join("models/ethanol.extxyz")).expect("ethanol").remove(0);
    let moved = |k: usize| {
        let mut moved = ethanol.clone();
        for (atom, position) in moved.positions.iter_mut().enumerate() {
            position[(atom + k) % 3] += 0.03 * ((atom * 7 + k * 3) % 5) as f64 - 0.06;
        }
        moved
    };
    (0..8).map(moved).collect()
}

fn packed(model: &Model, precision: Precision) -> HostModel<f32> {
    HostModel::with_precision(model, precision, None).expect("a model")
}

/// ‖a − b‖/‖b‖ of values of all structures.
fn relative(found: &[Prediction], reference: &[Prediction], values: impl Fn(&Prediction) -> Vec<f64>) -> f64 {
    let [found, reference] = [found, reference].map(|all| all.iter().flat_map(&values).collect::<Vec<_>>());
    norm(found.iter().zip(&reference).map(|(a, b)| a - b)) / norm(reference.iter().copied())
}

#[test]
fn energies_and_forces_err_by_roundings_of_what_is_stored() {
    for (name, model, structures) in models() {
        let reference = packed(&model, Precision::F32).predict(&structures, ALL).expect("predictions");
        for precision in Precision::ALL {
            let found = packed(&model, precision).predict(&structures, ALL).expect("predictions");
            // Energies of single atoms are stored as they are, and would hide what is computed.
            let single = |z: u8| model.weights().atomref.get(usize::from(z)).copied().unwrap_or(0.0);
            let own: Vec<f64> = structures.iter().flat_map(|s| &s.species).map(|z| single(*z)).collect();
            let without = |all: &[Prediction]| {
                let energies = all.iter().flat_map(|p| &p.energies).zip(&own);
                vec![Prediction {
                    energies: energies.map(|(e, own)| e - own - model.config().offset_per_atom).collect(),
                    ..Prediction::default()
                }]
            };
            let energies = relative(&without(&found), &without(&reference), |p| p.energies.clone());
            let forces = relative(&found, &reference, |p| p.forces.as_flattened().to_vec());
            println!("{name} in {precision}: {energies:.2e} of the energies of atoms, {forces:.2e} of the forces");
            let Some(storage) = precision.storage() else {
                // Of a row of integers up to 127 half a step is less than a two-hundredth of the largest; most are smaller.
                let bound = if precision == Precision::Int8 { 16.0 / 254.0 } else { 0.0 };
                assert!(energies <= bound && forces <= bound, "{name} in {precision}: {energies:e} and {forces:e}");
                continue;
            };
            // Interactions err independently of each other.
            let layers = (model.config().layers as f64).sqrt();
            let [forward, first] = [Order::Forward, Order::First]
                .map(|order| layers * storage_tolerance(storage, order).expect("a bound"));
            assert!(energies > 0.0 && energies <= forward, "{name} in {precision}: energies {energies:e}");
            assert!(forces > 0.0 && forces <= first, "{name} in {precision}: forces {forces:e}");
        }
    }
}

#[test]
fn deviations_are_what_predictions_differ_by() {
    let (model, structures) = (small(), ethanols());
    let reference = packed(&model, Precision::F32);
    assert_eq!(reference.deviation(&reference, &structures).expect("a deviation").forces, 0.0);
    for precision in [Precision::F16, Precision::Bf16, Precision::Int8] {
        let model = packed(&model, precision);
        let found = model.deviation(&reference, &structures).expect("a deviation");
        assert_eq!((found.structures, found.stress, model.precision()), (8, None, precision));
        let [p, r] = [&model, &reference].map(|model| model.predict(&structures, ALL).expect("predictions"));
        let energy = p.iter().zip(&r).map(|(p, r)| (p.energy - r.energy).abs() / 9.0).sum::<f64>() / 8.0;
        let components = (8 * 9 * 3) as f64;
        let forces = relative(&p, &r, |p| p.forces.as_flattened().to_vec())
            * norm(r.iter().flat_map(|p| p.forces.as_flattened()).copied())
            / components.sqrt();
        assert!((found.energy - energy).abs() < 1e-12 && (found.forces - forces).abs() < 1e-12 * forces, "{found:?}");
    }
}

/// The error of a reduced precision does not hide a wrong backward: forces are the gradient of a smooth function that is the energy
/// of f32 up to roundings, and the net force of a molecule is zero up to those of f32.
#[test]
fn forces_of_a_molecule_add_up_to_nothing() {
    for (name, model, structures) in models() {
        for precision in Precision::ALL {
            for prediction in packed(&model, precision).predict(&structures, ALL).expect("predictions") {
                let scale: f64 = prediction.forces.iter().flatten().map(|f| f.abs()).sum();
                for axis in 0..3 {
                    let net: f64 = prediction.forces.iter().map(|f| f[axis]).sum();
                    assert!(net.abs() <= 1e-5 * (1.0 + scale), "{name} in {precision}: {net} of {scale}");
                }
            }
        }
    }
}

#[test]
fn kept_lists_and_tables_go_with_every_precision() {
    let (model, mut structures) = (small(), ethanols());
    for precision in Precision::ALL {
        let exact = packed(&model, precision);
        let tables = HostModel::<f32>::with_precision(&model, precision, Some(1e-6)).expect("tables");
        let error = tables.table_error().expect("an error");
        // In f16 and bf16 nodes are rounded too.
        let rounding = precision.storage().map_or(0.0, Storage::epsilon);
        assert!(error >= rounding / 4.0 && error <= 1e-6 + 4.0 * rounding, "{precision}: {error:e}");
        let (mut neighbors, mut kept) = (Neighbors::new(0.5).expect("a skin"), Vec::new());
        for step in 0..3 {
            structures[0].positions[step][0] += 0.01;
            exact.predict_with(&structures, ALL, &mut neighbors, &mut kept).expect("predictions");
            assert_eq!(kept, exact.predict(&structures, ALL).expect("predictions"));
        }
        let deviation = tables.deviation(&exact, &structures).expect("a deviation");
        assert!(deviation.energy < 0.01 && deviation.forces < 0.05, "{precision}: {deviation:?}");
    }
}

#[test]
fn what_cannot_be_is_refused() {
    let model = small();
    for precision in [Precision::F16, Precision::Bf16, Precision::Int8] {
        let refused = HostModel::<f64>::with_precision(&model, precision, None).err();
        let Some(ConfigError::Unsupported { what, expected }) = refused else { panic!("{precision} of f64") };
        assert_eq!(what, format!("precision {precision} of a computation in f64"));
        assert_eq!(expected, "the element type f32, or precision f32");
        let host = packed(&model, precision);
        let wrong = Structure::open("gold", vec![79], vec![[0.0; 3]]);
        assert!(matches!(host.predict(&[wrong], ALL), Err(ModelError::Element { z: 79, .. })));
        assert!(HostModel::<f32>::with_precision(&model, precision, Some(1e-30)).is_err(), "no such table");
    }
    assert!(HostModel::<f64>::with_precision(&model, Precision::F32, None).is_ok());
}

#[test]
fn eight_bits_take_less_memory_and_the_others_as_much() {
    let model = small();
    let bytes = Precision::ALL.map(|precision| packed(&model, precision).weight_bytes());
    assert_eq!((bytes[0], bytes[0]), (bytes[1], bytes[2]));
    assert!(bytes[3] < bytes[0] / 2, "{bytes:?}");
    // An empty call is one.
    let none = packed(&model, Precision::Int8).predict(&[], ALL).expect("nothing");
    assert!(none.is_empty());
    let water = builtin("molecules").expect("molecules").remove(0);
    assert!(packed(&model, Precision::F16).predict(&[water], ALL).is_ok());
}
