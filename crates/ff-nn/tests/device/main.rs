//! Models on devices against the host's kernels in f64.

mod moving;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ff_model::{HostModel, Model, ModelError, Prediction, Wanted};
use ff_nn::NetworkError;
use ff_nn::device::{Predict, open};
use ff_ops::fused_message::OpError;
use ff_spec::{Dtype, LaunchError, RuntimeKind};
use ff_structure::io::FrameReader;
use ff_structure::{Structure, builtin};

const ALL: Wanted = Wanted { per_atom: true, ..Wanted::FORCES };

/// How far off energies (beside those of the atoms) and forces (eV/Å, beside the largest where that is above 1) may be.
fn tolerances(dtype: Dtype) -> (f64, f64) {
    match dtype {
        Dtype::F32 => (1e-5, 1e-4),
        Dtype::F64 => (1e-10, 1e-7),
    }
}

/// Vulkan, or `None` where that is not here, which is said.
fn vulkan(model: &Model, dtype: Dtype) -> Option<Box<dyn Predict>> {
    match open(RuntimeKind::Vulkan, model, dtype, Arc::default()) {
        Ok(found) => Some(found),
        Err(NetworkError::Open(error)) => {
            println!("not tested on a GPU: {error}");
            None
        }
        Err(error) => panic!("{}: {error}", model.config().summary()),
    }
}

fn flex(model: &Model, dtype: Dtype) -> Box<dyn Predict> {
    open(RuntimeKind::Host, model, dtype, Arc::default()).unwrap()
}

fn assert_same(what: &str, structure: &Structure, found: &Prediction, expected: &Prediction, dtype: Dtype) {
    let (energy, force) = tolerances(dtype);
    let what = format!("{what}, {}", structure.name);
    let (n_atoms, scale) = (structure.n_atoms(), expected.energies.iter().map(|e| e.abs()).sum::<f64>());
    let error = (found.energy - expected.energy).abs();
    assert!(error <= energy * scale, "{what}: {} and {} eV", found.energy, expected.energy);
    assert_eq!((found.energies.len(), found.forces.len()), (n_atoms, n_atoms), "{what}");
    for (e, expected) in found.energies.iter().zip(&expected.energies) {
        assert!((e - expected).abs() <= energy * scale, "{what}: {e} and {expected} eV of an atom");
    }
    let force = force * expected.forces.as_flattened().iter().fold(1.0, |most: f64, f| most.max(f.abs()));
    for (f, expected) in found.forces.as_flattened().iter().zip(expected.forces.as_flattened()) {
        assert!((f - expected).abs() <= force, "{what}: {f} and {expected} eV/Å");
    }
    assert_eq!(found.stress.is_some(), expected.stress.is_some(), "{what}");
    for (found, expected) in found.stress.iter().zip(&expected.stress) {
        for (s, expected) in found.as_flattened().iter().zip(expected.as_flattened()) {
            // A stress is a sum of forces times distances over a volume: here a hundredth of a force and less.
            assert!((s - expected).abs() <= force, "{what}: {s} and {expected} eV/Å³");
        }
    }
}

/// All structures at once, energies alone, and the first ones each alone.
fn assert_agrees(what: &str, model: &Model, device: &dyn Predict, structures: &[Structure], dtype: Dtype) {
    let expected = HostModel::<f64>::new(model).unwrap().predict(structures, ALL).unwrap();
    let found = device.predict(structures, ALL).unwrap();
    assert_eq!(found.len(), structures.len(), "{what}");
    for (structure, (found, expected)) in structures.iter().zip(found.iter().zip(&expected)) {
        assert_same(what, structure, found, expected, dtype);
    }
    assert!(found.iter().flat_map(|of| of.forces.as_flattened()).any(|force| force.abs() > 1e-3), "{what}");
    let energies = device.predict(structures, Wanted::ENERGY).unwrap();
    for (alone, with) in energies.iter().zip(&found) {
        assert!(alone.forces.is_empty() && alone.energies.is_empty() && alone.stress.is_none(), "{what}");
        assert!((alone.energy - with.energy).abs() <= tolerances(dtype).0 * with.energy.abs(), "{what}");
    }
}

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/models").join(format!("{name}.safetensors"))
}

/// A model with the structures that stand beside it: molecules, two atoms apart, cells thinner than the cutoff.
fn load(path: &Path) -> (Model, Vec<Structure>) {
    let frames = FrameReader::open(path.with_extension("extxyz")).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    (Model::load(path).unwrap(), frames.unwrap().into_iter().map(|frame| frame.structure).collect())
}

#[test]
fn every_option_agrees_on_burn_s_host_backend() {
    let folder = golden("").parent().unwrap().to_owned();
    let paths = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut paths: Vec<PathBuf> =
        paths.filter(|path| path.extension().is_some_and(|ext| ext == "safetensors")).collect();
    paths.sort();
    assert!(paths.len() > 20, "{} models", paths.len());
    for path in paths {
        let what = path.file_stem().unwrap().to_string_lossy().into_owned();
        let (model, structures) = load(&path);
        for dtype in Dtype::ALL {
            assert_agrees(&format!("{what} {dtype}"), &model, &*flex(&model, dtype), &structures, dtype);
        }
    }
}

/// Kernels of both kinds of message, with radial functions of every kind; the rest is the same as on Burn's host backend.
#[test]
fn options_agree_on_a_device() {
    for name in ["painn_mollifier", "painn_shared_both", "schnet_bessel"] {
        let (model, structures) = load(&golden(name));
        let Some(device) = vulkan(&model, Dtype::F32) else { return };
        assert_agrees(&format!("{name} on a device"), &model, &*device, &structures, Dtype::F32);
    }
}

/// What Vulkan would compute wrongly is refused.
#[test]
fn no_model_runs_on_vulkan_in_double_precision() {
    let (model, _) = load(&golden("painn_gaussian_centered"));
    match open(RuntimeKind::Vulkan, &model, Dtype::F64, Arc::default()) {
        Err(NetworkError::Op(OpError::Launch(LaunchError::Unsupported(why)))) => {
            assert!(why.ends_with("does not compute models in f64"), "{why}");
        }
        Err(NetworkError::Open(error)) => println!("not tested on a GPU: {error}"),
        other => panic!("{:?}", other.map(drop)),
    }
}

/// Models of the size that people train.
#[test]
fn yardsticks_agree_on_a_device() {
    let Some(shared) = ff_testkit::shared("yardsticks") else { return };
    for name in ["painn_gaussian", "schnet_gaussian", "ethanol_painn"] {
        let (model, structures) = load(&shared.join(format!("{name}.safetensors")));
        let Some(device) = vulkan(&model, Dtype::F32) else { return };
        let few = &structures[..structures.len().min(4)];
        assert_agrees(&format!("{name} on a device"), &model, &*device, few, Dtype::F32);
    }
}

/// A structure alone has the numbers that it has in a batch, however small it is.
#[test]
fn a_batch_agrees_with_its_structures() {
    for name in ["painn_atomref", "schnet_filters"] {
        let (model, mut structures) = load(&golden(name));
        structures.push(Structure::open("atom", vec![8], vec![[0.5; 3]]));
        structures.push(Structure::open("apart", vec![1, 6], vec![[0.0; 3], [50.0; 3]]));
        structures.push(Structure::open("nothing", vec![], vec![]));
        structures.extend(builtin("molecules").unwrap());
        let devices = [Some(flex(&model, Dtype::F32)), vulkan(&model, Dtype::F32)];
        for device in devices.into_iter().flatten() {
            assert_agrees(name, &model, &*device, &structures, Dtype::F32);
            let together = device.predict(&structures, ALL).unwrap();
            for (structure, together) in structures.iter().zip(&together) {
                let alone = device.predict(std::slice::from_ref(structure), ALL).unwrap();
                assert_same(name, structure, &alone[0], together, Dtype::F32);
            }
            assert_eq!(device.predict(&[], ALL).unwrap(), Vec::new());
        }
    }
}

/// What cannot be computed is named as on the host, the first of several.
#[test]
fn errors_are_those_of_the_host() {
    let (model, structures) = load(&golden("painn_energy_offset"));
    let water = structures[0].clone();
    let heavy = Structure::open("gold", vec![1, 79], vec![[0.0; 3], [1.0; 3]]);
    let endless = Structure { pbc: [true, false, false], cell: None, ..water.clone() };
    let twice = Structure::open("twice", vec![1; 3], vec![[0.0; 3], [1.0; 3], [1.0; 3]]);
    let nowhere = Structure::open("nowhere", vec![1; 2], vec![[0.0; 3], [f64::INFINITY; 3]]);
    let (host, device) = (HostModel::<f64>::new(&model).unwrap(), flex(&model, Dtype::F64));
    for wrong in [&heavy, &endless, &twice, &nowhere] {
        let batch = [water.clone(), wrong.clone(), heavy.clone()];
        // Alone with what stands before it: within a group of small systems the host looks at elements first.
        let expected: ModelError = host.predict(&batch[..2], ALL).unwrap_err();
        assert_eq!(expected.index(), 1);
        assert_eq!(device.predict(&batch, ALL).unwrap_err(), NetworkError::Structure(expected));
    }
}
