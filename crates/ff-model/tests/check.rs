//! The checks of models: models that are right pass them, one that is not does not.

use std::path::Path;

use ff_model::check::{Check, Checker, Property};
use ff_model::config::{Aggregation, Basis, CutoffFn};
use ff_model::convert::{Conversion, convert};
use ff_model::file::StoredDtype;
use ff_model::units::{Energy, Length, Unit};
use ff_model::weights::Weights;
use ff_model::{Config, HostModel, Model, ModelFile, Wanted};
use ff_spec::Dtype;
use ff_structure::{FrameReader, Labels, Structure, problems};
use ff_testkit::shared;

/// What a test changes of a small model.
type Change<'a> = &'a dyn Fn(&mut Config);

/// A small model's file.
fn small(kind: &str, change: impl Fn(&mut Config)) -> ModelFile {
    let mut file = ModelFile::default();
    for (key, value) in [
        ("model", kind),
        ("n_atom_basis", "8"),
        ("n_interactions", "2"),
        ("n_rbf", "6"),
        ("cutoff", "4.0"),
        ("head", r#"{"layers":[8,4,1],"activation":"silu"}"#),
    ] {
        file.set(key, value);
    }
    let mut config = file.config().expect("a config");
    change(&mut config);
    Weights::random(&config, 20, 7).to_file(&config, StoredDtype::F32)
}

fn failed(checks: &[Check]) -> Vec<&Check> {
    checks.iter().filter(|check| !check.holds()).collect()
}

#[test]
fn the_yardsticks_pass_on_all_frames() {
    for name in ["painn_gaussian", "schnet_gaussian", "ethanol_painn"] {
        let (Some(weights), Some(frames)) =
            (shared(&format!("yardsticks/{name}.safetensors")), shared(&format!("yardsticks/{name}.extxyz")))
        else {
            return;
        };
        let checker = Checker::new(&Model::load(weights).expect("a model")).expect("kernels");
        let mut labelled = 0;
        for (index, frame) in FrameReader::open(frames).expect("a file").enumerate() {
            let frame = frame.expect("a frame");
            let labels = frame.labels().expect("labels");
            for dtype in Dtype::ALL {
                let checks = checker.frame(&frame.structure, &labels, dtype, index as u64).expect("an evaluation");
                let failed = failed(&checks);
                assert!(failed.is_empty(), "{name}, frame {index} (`{}`): {failed:?}", frame.structure.name);
                let compared =
                    checks.iter().filter(|c| matches!(c.property, Property::Energy | Property::Forces)).count();
                labelled += compared;
            }
        }
        assert!(labelled >= 4, "{name}: {labelled} labels compared");
    }
}

#[test]
fn small_models_of_every_kind_have_the_properties() {
    let variants: [(&str, Change<'_>); 5] = [
        ("painn", &|_| {}),
        ("schnet", &|config| config.filters = 5),
        ("painn", &|config| (config.basis, config.cutoff_fn) = (Basis::Bessel, CutoffFn::Cosine)),
        ("schnet", &|config| config.basis = Basis::GaussianCentered),
        ("painn", &|config| {
            (config.aggregation, config.shared_filters, config.shared_interactions) = (Aggregation::Avg, true, true);
        }),
    ];
    let crystal = problems::rock_salt(1);
    for (kind, change) in variants {
        let checker = Checker::new(&Model::from_file(&small(kind, change)).expect("a model")).expect("kernels");
        for structure in problems::molecules().iter().chain([&crystal]) {
            for dtype in Dtype::ALL {
                let checks = checker.frame(structure, &Labels::default(), dtype, 3).expect("an evaluation");
                assert!(failed(&checks).is_empty(), "{kind} on `{}`: {:?}", structure.name, failed(&checks));
                assert_eq!(checks.len(), if structure.cell.is_some() { 6 } else { 5 });
            }
        }
    }
}

#[test]
fn wrong_labels_do_not_pass() {
    let model = Model::from_file(&small("painn", |_| {})).expect("a model");
    let checker = Checker::new(&model).expect("kernels");
    let structure = problems::rock_salt(1);
    let host = HostModel::<f64>::new(&model).expect("kernels");
    let right = host.predict(std::slice::from_ref(&structure), Wanted::FORCES).expect("an evaluation").remove(0);
    let labels =
        Labels { energy: Some(right.energy), forces: Some(right.forces.clone()), stress: right.stress, energies: None };
    let properties = |labels: &Labels| -> Vec<Property> {
        let checks = checker.frame(&structure, labels, Dtype::F64, 0).expect("an evaluation");
        failed(&checks).iter().map(|check| check.property).collect()
    };
    assert_eq!(properties(&labels), []);
    let wrong = Labels { energy: Some(right.energy * (1.0 + 1e-9)), ..labels.clone() };
    assert_eq!(properties(&wrong), [Property::Energy]);
    let mut wrong = labels.clone();
    wrong.forces.as_mut().expect("forces")[1][2] += 2e-7;
    assert_eq!(properties(&wrong), [Property::Forces]);
    wrong.forces.as_mut().expect("forces").pop();
    assert_eq!(properties(&wrong), [Property::Forces]);
    let mut wrong = labels.clone();
    wrong.stress.as_mut().expect("a stress")[0][1] += 1e-7;
    assert_eq!(properties(&wrong), [Property::Stress]);
    wrong.energy = Some(f64::NAN);
    assert_eq!(properties(&wrong), [Property::Energy, Property::Stress]);
}

/// Energies and forces in f64 of a few systems.
fn predictions(file: &ModelFile, structures: &[Structure]) -> Vec<ff_model::Prediction> {
    let model = Model::from_file(file).expect("a model");
    HostModel::<f64>::new(&model).expect("kernels").predict(structures, Wanted::FORCES).expect("an evaluation")
}

#[test]
fn a_converted_file_predicts_the_same() {
    let mut structures = problems::molecules();
    structures.push(problems::rock_salt(1));
    let variants: [(&str, Basis); 4] = [
        ("painn", Basis::Gaussian),
        ("painn", Basis::Bessel),
        ("schnet", Basis::GaussianCentered),
        ("schnet", Basis::Bessel),
    ];
    for (kind, basis) in variants {
        let mut file = small(kind, |config| {
            (config.basis, config.energy_unit, config.offset_per_atom) = (basis, Energy::KilocaloriePerMole, -3.0);
        });
        let rows: Vec<f64> = (0..20).map(|z| -f64::from(z)).collect();
        file.tensors.push(ff_model::file::Tensor::of_f64("atomref", &[20, 1], &rows));
        let before = predictions(&file, &structures);
        // Of early files the head has another name.
        for tensor in &mut file.tensors {
            if let Some(rest) = tensor.name.strip_prefix("head.") {
                tensor.name = format!("output_modules.0.{rest}");
            }
        }
        let wide =
            convert(&file, Conversion { dtype: Some(StoredDtype::F64), ..Conversion::default() }).expect("a model");
        assert!(wide.tensors.iter().all(|tensor| tensor.dtype == StoredDtype::F64));
        assert!(wide.tensor("head.outnet.0.weight").is_some());
        assert_eq!(predictions(&wide, &structures), before, "{kind}: widening is exact");
        for (energy, length) in [(Energy::Hartree, Length::Bohr), (Energy::ElectronVolt, Length::Nanometre)] {
            let to = Conversion { energy: Some(energy), length: Some(length), dtype: None };
            let converted = convert(&wide, to).expect("a model");
            assert_eq!(converted.get("energy_unit"), Some(energy.name()));
            assert_eq!(converted.get("length_unit"), Some(length.name()));
            for (found, expected) in predictions(&converted, &structures).iter().zip(&before) {
                assert!((found.energy - expected.energy).abs() < 1e-11 * expected.energy.abs().max(1.0));
                let pairs = found.forces.as_flattened().iter().zip(expected.forces.as_flattened());
                let worst = pairs.fold(0.0, |most: f64, (a, b)| most.max((a - b).abs()));
                assert!(worst < 1e-10, "{kind} {basis}: {worst}");
            }
            let back = convert(
                &converted,
                Conversion {
                    energy: Some(Energy::KilocaloriePerMole),
                    length: Some(Length::Angstrom),
                    dtype: Some(StoredDtype::F32),
                },
            );
            let back = back.expect("a model");
            for tensor in &back.tensors {
                let (now, then) = (tensor.values(), wide.tensor(&tensor.name).expect("the same names").values());
                let close = now.iter().zip(&then).all(|(a, b)| (a - b).abs() <= 1e-6 * b.abs());
                assert!(close, "{kind}: {}", tensor.name);
            }
        }
    }
}

#[test]
fn what_is_no_model_is_not_converted() {
    let mut file = small("painn", |_| {});
    file.tensors.retain(|tensor| tensor.name != "head.outnet.1.bias");
    let error = convert(&file, Conversion::default()).expect_err("a missing tensor").to_string();
    assert!(error.contains("head.outnet.1.bias"), "{error}");
    assert!(Model::load(Path::new("no/such.safetensors")).is_err());
}
