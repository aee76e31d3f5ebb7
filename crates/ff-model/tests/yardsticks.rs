//! Models of other programs, against what those computed with them.

use ff_model::host::Real;
use ff_model::{HostModel, Model, ModelFile, Wanted};
use ff_structure::io::FrameReader;

/// Every model with its labelled frames: of SchNetPack in f64, on weights rounded to f32.
fn check<T: Real>(model: &std::path::Path, energy: f64, forces: f64) {
    let host = HostModel::<T>::new(&Model::load(model).expect("a model")).expect("a model with kernels");
    let frames: Vec<_> =
        FrameReader::open(model.with_extension("extxyz")).and_then(Iterator::collect).expect("labelled frames");
    assert!(!frames.is_empty());
    let structures: Vec<_> = frames.iter().map(|frame| frame.structure.clone()).collect();
    let wanted = Wanted { per_atom: true, ..Wanted::FORCES };
    let predictions = host.predict(&structures, wanted).expect("predictions");
    for (frame, found) in frames.iter().zip(&predictions) {
        let labels = frame.labels().expect("labels");
        let name = format!("{}: {}", model.display(), frame.structure.name);
        let expected = labels.energy.expect("an energy");
        // Beside the terms that were summed: with random weights energies of atoms cancel.
        let scale = found.energies.iter().map(|e| e.abs()).sum::<f64>();
        let error = (found.energy - expected).abs();
        assert!(error <= energy * scale, "{name}: {} and {expected} eV, of atoms {:?}", found.energy, found.energies);
        let expected = labels.forces.expect("forces");
        // In eV/Å, and beside the largest where that is above 1: model `painn_nm` has forces of 200 eV/Å.
        let forces = forces * expected.as_flattened().iter().fold(1.0, |most: f64, f| most.max(f.abs()));
        for (f, g) in found.forces.as_flattened().iter().zip(expected.as_flattened()) {
            assert!((f - g).abs() <= forces, "{name}: {f} and {g} eV/Å");
        }
        match (labels.stress, found.stress) {
            (Some(expected), Some(found)) => {
                for (s, t) in found.as_flattened().iter().zip(expected.as_flattened()) {
                    // A stress is a sum of forces times distances over a volume: here a hundredth of a force and less.
                    assert!((s - t).abs() <= forces, "{name}: {s} and {t} eV/Å³");
                }
            }
            (Some(_), None) => panic!("{name}: no stress"),
            (None, _) => {}
        }
    }
}

#[test]
fn models_of_schnetpack_give_its_energies_forces_and_stress() {
    let Some(shared) = ff_testkit::shared("yardsticks") else { return };
    for name in ["painn_gaussian", "schnet_gaussian", "ethanol_painn"] {
        let model = shared.join(format!("{name}.safetensors"));
        check::<f32>(&model, 1e-5, 1e-4);
        check::<f64>(&model, 1e-10, 1e-7);
        let file = ModelFile::read(&model).expect("a file");
        let folder = tempfile::tempdir().expect("a folder");
        let copy = folder.path().join("copy.safetensors");
        file.write(&copy).expect("a written file");
        assert_eq!(std::fs::read(&copy).expect("bytes"), std::fs::read(&model).expect("bytes"), "{name}");
    }
}

/// Models of every option that SchNetPack has, written by `python/tools/test_schnetpack_to_safetensors.py`.
#[test]
fn every_option_of_schnetpack_is_what_it_means_there() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/models");
    let mut names: Vec<_> = std::fs::read_dir(folder)
        .expect("golden models")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "safetensors"))
        .collect();
    names.sort();
    assert!(names.len() > 20, "{} models", names.len());
    for model in names {
        check::<f32>(&model, 1e-5, 1e-4);
        check::<f64>(&model, 1e-10, 1e-7);
    }
}
