//! `validate`: a model against labels and against another model.

use super::models::{number, with_model};
use super::*;

/// A folder with a model and frames that it labelled itself, in f64.
fn labelled() -> tempfile::TempDir {
    let dir = with_model(|_| {});
    run(dir.path(), "predict frames.extxyz --model model.safetensors --dtype f64 -o labelled.extxyz").expect(0, &[]);
    dir
}

const VALIDATE: &str = "validate --model model.safetensors --against";

#[test]
fn a_model_agrees_with_its_own_labels_and_not_with_others() {
    let dir = labelled();
    let dir = dir.path();
    let same = run(dir, &format!("{VALIDATE} labelled.extxyz --json --figure parity.svg")).expect(0, &[]).json();
    assert_eq!((&same["frames"], &same["atoms"], &same["passed"]), (&3.into(), &8.into(), &true.into()));
    for key in ["energy_mae_mev_per_atom", "energy_rmse_mev_per_atom", "force_mae_mev_per_a", "force_rmse_mev_per_a"] {
        // The model's own energies and forces are of the order of eV: this is what f32 leaves of them.
        assert!((0.0..0.1).contains(&number(&same[key])), "{key}: {same}");
    }
    assert!((number(&same["force_cosine"]) - 1.0).abs() < 1e-6 && number(&same["stress_rmse_gpa"]) < 1e-3, "{same}");
    assert_eq!(same["stresses"], 1, "the wire's, and no molecule's");
    let names: Vec<_> = same["by_element"].as_array().expect("elements").iter().map(|e| e["element"].clone()).collect();
    assert_eq!(names, ["H", "O"]);
    let sizes = same["by_size"].as_array().expect("sizes");
    assert_eq!((&sizes[0]["frames"], &sizes[1]["frames"], &sizes[1]["atoms_to"]), (&1.into(), &2.into(), &4.into()));
    let svg = std::fs::read_to_string(dir.join("parity.svg")).expect("a figure");
    assert!(svg.contains("reference force component (eV/Å)") && svg.contains("labelled.extxyz"));

    // One energy of three is off by 90 meV on three atoms: 10 meV/atom in the mean.
    let text = std::fs::read_to_string(dir.join("labelled.extxyz")).expect("written");
    let energy = ff_structure::FrameReader::open(dir.join("labelled.extxyz")).expect("a file").next();
    let energy = energy.expect("a frame").expect("read").value("energy").expect("an energy").to_owned();
    let off = energy.parse::<f64>().expect("a number") - 0.093;
    std::fs::write(dir.join("off.extxyz"), text.replace(&energy, &off.to_string())).expect("written");
    run(dir, &format!("{VALIDATE} off.extxyz"))
        .expect(1, &["energy MAE, meV/atom: expected below 10, found 10.3", "does not hold", "ELEMENT", "SIZE"]);
    let worse = run(dir, &format!("{VALIDATE} off.extxyz --json")).expect(1, &[]).json();
    assert!((number(&worse["energy_mean_mev_per_atom"]) - 31.0 / 3.0).abs() < 0.1, "{worse}");
    assert_eq!((&worse["passed"], &worse["limits"][0]["holds"]), (&false.into(), &false.into()));
    run(dir, &format!("{VALIDATE} off.extxyz --max-energy 11")).expect(0, &["holds"]);
    run(dir, &format!("{VALIDATE} off.extxyz --max-energy 11 --batch-atoms 1")).expect(0, &["3 structures, 8 atoms"]);
}

#[test]
fn two_models_are_compared_on_molecules_or_files() {
    let dir = with_model(|_| {});
    let dir = dir.path();
    run(dir, "convert model.safetensors -o other.safetensors --energy-unit kcal/mol --dtype f64").expect(0, &[]);
    let molecules = run(dir, &format!("{VALIDATE} other.safetensors --json")).expect(0, &[]).json();
    assert_eq!((&molecules["frames"], &molecules["stress_rmse_gpa"]), (&8.into(), &serde_json::Value::Null));
    let words = format!("{VALIDATE} other.safetensors frames.extxyz frames.extxyz");
    let twice = run(dir, &format!("{words} --dtype f64 --json")).expect(0, &[]).json();
    assert_eq!((&twice["frames"], &twice["stresses"]), (&6.into(), &2.into()));
    assert!(number(&twice["force_rmse_mev_per_a"]) < 1e-6, "{twice}");
    // Stress that was asked for and is not there does not hold.
    run(dir, &format!("{VALIDATE} other.safetensors --max-stress 1"))
        .expect(1, &["stress RMSE, GPa: expected below 1, found nothing to compare"]);
    // What stands before a structure that cannot be computed is compared and shown.
    let chlorine =
        std::fs::read_to_string(dir.join("frames.extxyz")).expect("frames").replace("H 0.0 -0.7", "Cl 0.0 -0.7");
    std::fs::write(dir.join("chlorine.extxyz"), chlorine).expect("written");
    let done = run(dir, &format!("{VALIDATE} other.safetensors frames.extxyz chlorine.extxyz --json"))
        .expect(2, &["chlorine.extxyz: frame 3: atom 2 has atomic number 17", "compared before: 5 structures"]);
    assert_eq!((&done.json()["frames"], &done.json()["passed"]), (&5.into(), &false.into()));
}

#[test]
fn labels_are_read_as_they_are_called_and_doubts_are_said() {
    let dir = with_model(|config| config.elements = vec![1]);
    let dir = dir.path();
    let frame = |info: &str| format!("1\nProperties=species:S:1:pos:R:3:mine:R:3 {info}\nO 0 0 0 0 0 0\n");
    // An oxygen atom in Hartree, by PBE; a frame without labels.
    std::fs::write(dir.join("atom.extxyz"), frame("energy=-75.0") + &frame("")).expect("written");
    let done = run(dir, &format!("{VALIDATE} atom.extxyz --json")).expect(1, &["expected below 10"]);
    let json = done.json();
    assert_eq!(
        (&json["unlabelled"], &json["frames"], &json["force_rmse_mev_per_a"]),
        (&1.into(), &1.into(), &serde_json::Value::Null)
    );
    assert!(done.err.contains("warning: atom.extxyz: the median energy is 0.036"), "{}", done.err);
    assert!(done.err.contains("is the energy in Ha?") && done.err.contains("not trained on (H)"), "{}", done.err);
    let done = run(dir, &format!("{VALIDATE} atom.extxyz --energy-unit Ha --json")).expect(1, &[]);
    assert!(!done.err.contains("is the energy in"), "{}", done.err);
    let mean = number(&done.json()["energy_mean_mev_per_atom"]);
    let before = number(&json["energy_mean_mev_per_atom"]);
    assert!((mean - before - 75e3 * 26.211_386_245_988).abs() < 1.0, "{mean} and {before}");
    // Forces under a key of their own: zero on both sides.
    let done = run(dir, &format!("{VALIDATE} atom.extxyz --forces-key mine --max-energy inf --json")).expect(0, &[]);
    assert_eq!(done.json()["force_components"], 6);
}

#[test]
fn validate_refuses_what_it_cannot_do() {
    let dir = labelled();
    let dir = dir.path();
    run(dir, &format!("{VALIDATE} frames.extxyz"))
        .expect(2, &["frames.extxyz: expected labelled frames (`energy` with or without REF_", "found none among 3"]);
    run(dir, &format!("{VALIDATE} labelled.extxyz frames.extxyz")).expect(2, &["expected no FILES", "frames.extxyz"]);
    run(dir, &format!("{VALIDATE} nowhere.safetensors")).expect(2, &["nowhere.safetensors: cannot read"]);
    run(dir, &format!("{VALIDATE} labelled.extxyz --figure frames.extxyz/a.svg")).expect(2, &["frames.extxyz/a.svg"]);
    run(dir, &format!("{VALIDATE} labelled.extxyz --max-force 0")).expect(2, &["--max-force", "above 0"]);
    run(dir, &format!("{VALIDATE} labelled.extxyz --energy-unit erg")).expect(2, &["unknown unit of energy `erg`"]);
    run(dir, "validate --model model.safetensors").expect(2, &["--against"]);
}

#[test]
fn the_models_that_come_with_the_repository_hold_on_labels_that_they_were_not_fitted_to() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let dir = folder();
    let frames = root.join("../shared/data/train/ethanol_test.extxyz");
    // Mean absolute errors of forces as their cards have them, meV/Å.
    for (model, force) in [("ethanol-painn.safetensors", 12.6), ("ethanol-painn-small.safetensors", 18.6)] {
        let model = root.join("models").join(model);
        if !frames.exists() {
            println!("{}: NOT TESTED, {} is not beside this repository", model.display(), frames.display());
            continue;
        }
        let (model, frames) = (model.display(), frames.display());
        let words = format!("validate --model {model} --against {frames} --energy-unit eV --json");
        let found = run(dir.path(), &words).expect(0, &[]).json();
        assert!(number(&found["force_mae_mev_per_a"]) < force, "{model}: {found}");
    }
}
