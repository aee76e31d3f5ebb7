//! Models: `predict`, `profile`, `convert`, `inspect model`, `verify --model` and `bench --suite models`.

use ff_model::file::StoredDtype;
use ff_model::weights::Weights;
use ff_model::{Config, Model, ModelFile};
use ff_structure::{FrameReader, read_structures};
use serde_json::Value;

use super::*;

/// Water twice and a wire of two atoms.
const FRAMES: &str = "\
3
Properties=species:S:1:pos:R:3 name=water charge=0
O 0.0 0.0 0.1
H 0.0 0.8 -0.5
H 0.0 -0.8 -0.5
2
Lattice=\"3 0 0 0 10 0 0 0 10\" Properties=species:S:1:pos:R:3 pbc=\"T F F\" name=wire
H 0.0 0.0 0.0
H 1.1 0.2 0.0
3
Properties=species:S:1:pos:R:3 name=bent
O 0.0 0.0 0.1
H 0.1 0.9 -0.5
H 0.0 -0.7 -0.6
";

/// A folder with `model.safetensors`, small and random, and `frames.extxyz`.
pub fn with_model(change: impl Fn(&mut Config)) -> tempfile::TempDir {
    let dir = folder();
    let mut file = ModelFile::default();
    for (key, value) in [
        ("model", "painn"),
        ("n_atom_basis", "8"),
        ("n_interactions", "2"),
        ("n_rbf", "5"),
        ("cutoff", "4.0"),
        ("head", r#"{"layers":[8,4,1],"activation":"silu"}"#),
    ] {
        file.set(key, value);
    }
    let mut config = file.config().expect("a config");
    change(&mut config);
    Weights::random(&config, 12, 1)
        .to_file(&config, StoredDtype::F32)
        .write(dir.path().join("model.safetensors"))
        .expect("written");
    std::fs::write(dir.path().join("frames.extxyz"), FRAMES).expect("written");
    dir
}

pub fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("no number: {value}"))
}

#[test]
fn tables_say_how_much_they_err() {
    let dir = with_model(|_| {});
    let dir = dir.path();
    let predict = "predict frames.extxyz --model model.safetensors --dtype f64 --json";
    let exact = run(dir, predict).expect(0, &[]).json();
    assert!(exact.get("table_error").is_none());
    let tables = run(dir, &format!("{predict} --tabulate 1e-7")).expect(0, &[]).json();
    let error = number(&tables["table_error"]);
    assert!(error > 0.0 && error <= 1e-7, "{error}");
    let [exact, tables] = [exact, tables].map(|report| report["results"].as_array().expect("frames").clone());
    for (exact, tables) in exact.iter().zip(&tables) {
        let (exact, tables) = (number(&exact["energy"]), number(&tables["energy"]));
        assert!(exact != tables && (exact - tables).abs() < 1e-5, "{exact} and {tables}");
    }
    let profile = "profile frames.extxyz --model model.safetensors --seconds 0 --tabulate 1e-6";
    run(dir, profile).expect(0, &["filters are tables that err by "]);
    run(dir, &format!("{predict} --tabulate 7")).expect(2, &["`7` is no tolerance of a table, expected 1e-12 to 1e-2"]);
}

/// The same folder with `large.safetensors`, whose energies and forces are ten thousand times as large.
fn with_large_model() -> tempfile::TempDir {
    let dir = with_model(|_| {});
    let model = Model::load(dir.path().join("model.safetensors")).expect("a model");
    let mut weights = model.weights().clone();
    let last = weights.head.last_mut().expect("a head");
    last.weight.iter_mut().for_each(|weight| *weight *= 1e4);
    let file = weights.to_file(model.config(), StoredDtype::F32);
    file.write(dir.path().join("large.safetensors")).expect("written");
    dir
}

#[test]
fn a_reduced_precision_says_by_how_much_it_errs() {
    let dir = with_model(|_| {});
    let dir = dir.path();
    let predict = "predict frames.extxyz --model model.safetensors";
    let exact = run(dir, &format!("{predict} --json")).expect(0, &[]).json();
    assert_eq!((&exact["precision"], exact.get("beside_f32")), (&"f32".into(), None));
    for precision in ["f16", "bf16", "int8"] {
        let found = run(dir, &format!("{predict} --json --precision {precision}")).expect(0, &[]).json();
        let said = &found["beside_f32"];
        assert_eq!((&found["precision"], &said["structures"]), (&precision.into(), &3.into()));
        let frames = |report: &Value| report["results"].as_array().expect("frames").clone();
        let differences = frames(&found)
            .iter()
            .zip(&frames(&exact))
            .map(|(p, r)| (number(&p["energy"]) - number(&r["energy"])).abs() / number(&p["atoms"]))
            .collect::<Vec<_>>();
        let mean = 1e3 * differences.iter().sum::<f64>() / 3.0;
        assert!(mean > 0.0 && (mean - number(&said["energy_mae_mev_per_atom"])).abs() < 1e-9 * mean, "{mean}: {said}");
        assert!(number(&said["force_rmse_mev_per_a"]) > 0.0 && number(&said["stress_rmse_gpa"]) > 0.0);
        // The wire has a stress, water has none.
        let words = format!("precision {precision} errs beside f32 on 3 structures by: energy ");
        run(dir, &format!("{predict} --precision {precision}")).expect(0, &[&words, " meV/atom, forces ", ", stress "]);
        let profile = format!("profile frames.extxyz --model model.safetensors --seconds 0 --precision {precision}");
        run(dir, &profile).expect(0, &["on 1 structures", &format!("precision {precision}: floors are those of f32")]);
    }
    // Tables are rounded with the rest.
    let of =
        |options: &str| number(&run(dir, &format!("{predict} --json {options}")).expect(0, &[]).json()["table_error"]);
    let (exact, rounded) = (of("--tabulate 1e-6"), of("--tabulate 1e-6 --precision f16"));
    assert!(exact <= 1e-6 && (1e-4..2e-3).contains(&rounded), "{exact} and {rounded}");
}

#[test]
fn a_precision_that_errs_too_much_is_refused_unless_it_is_allowed() {
    let dir = with_large_model();
    let dir = dir.path();
    let predict = "predict frames.extxyz --model large.safetensors --precision int8";
    let refused =
        ["precision int8: ", "force RMSE, meV/Å: expected below 50, found ", "--allow-inaccurate goes on with it"];
    run(dir, &format!("{predict} -o out.extxyz")).expect(1, &refused);
    assert!(!dir.join("out.extxyz").exists(), "nothing is written");
    for command in [
        "md frames.extxyz --steps 1",
        "minimize frames.extxyz --steps 1",
        "profile frames.extxyz",
        "validate --against large.safetensors",
    ] {
        run(dir, &format!("{command} --model large.safetensors --precision int8")).expect(1, &refused);
    }
    let allowed = run(dir, &format!("{predict} --allow-inaccurate -o out.extxyz")).expect(0, &["3 structures"]);
    assert!(allowed.err.contains("warning: precision int8: "), "{}", allowed.err);
    run(dir, "predict frames.extxyz --model large.safetensors").expect(0, &[]);
    // What is stored in less than f32 is computed in f32.
    let both = "predict frames.extxyz --model model.safetensors --dtype f64 --precision f16";
    run(dir, both).expect(2, &["--precision f16 stores less than f32 holds: expected --dtype f32, found f64"]);
    run(dir, "predict frames.extxyz --model model.safetensors --precision fp8").expect(2, &["fp8", "bf16"]);
}

#[test]
fn dynamics_go_on_in_the_precision_that_they_began_in() {
    let dir = with_model(|_| {});
    let dir = dir.path();
    let md = "md frames.extxyz --frame 1 --model model.safetensors --restart state --allow-inaccurate";
    run(dir, &format!("{md} --steps 10 --precision bf16"))
        .expect(0, &["precision bf16 errs beside f32 on 1 structures"]);
    run(dir, &format!("{md} --steps 20")).expect(2, &["state"]);
    run(dir, &format!("{md} --steps 20 --precision int8")).expect(2, &["state"]);
    run(dir, &format!("{md} --steps 20 --precision bf16")).expect(0, &["20 steps"]);
}

#[test]
fn predictions_are_written_as_they_are_printed() {
    let dir = with_model(|_| {});
    let dir = dir.path();
    let predict = "predict frames.extxyz --model model.safetensors --dtype f64";
    let printed = run(dir, &format!("{predict} --json --per-atom")).expect(0, &[]).json();
    assert_eq!((&printed["frames"], &printed["atoms"], &printed["dtype"]), (&3.into(), &8.into(), &"f64".into()));
    assert!(number(&printed["structures_per_s"]) > 0.0 && number(&printed["seconds"]) > 0.0);
    let results = printed["results"].as_array().expect("a result per frame");
    run(dir, &format!("{predict} -o out.extxyz --per-atom")).expect(0, &["3 structures", "structures/s"]);
    // A batch for each frame gives the same bits.
    run(dir, &format!("{predict} -o singles.extxyz --per-atom --batch-atoms 1")).expect(0, &[]);
    let read = |name: &str| std::fs::read(dir.join(name)).expect("written");
    assert!(read("out.extxyz") == read("singles.extxyz"), "the same bytes");
    let frames: Vec<_> =
        FrameReader::open(dir.join("out.extxyz")).expect("a file").map(|f| f.expect("a frame")).collect();
    assert_eq!(frames.len(), 3);
    for (frame, result) in frames.iter().zip(results) {
        let labels = frame.labels().expect("labels");
        assert_eq!(frame.structure.name.as_str(), result["name"].as_str().expect("a name"));
        assert_eq!(labels.energy, result["energy"].as_f64());
        assert_eq!(serde_json::json!(labels.forces), result["forces"]);
        assert_eq!(serde_json::json!(labels.stress), result["stress"]);
        let sum: f64 = labels.energies.expect("energies of atoms").iter().sum();
        assert!((sum - labels.energy.expect("an energy")).abs() < 1e-12);
    }
    assert!(
        frames[1].labels().expect("labels").stress.is_some() && frames[0].labels().expect("labels").stress.is_none()
    );
    assert_eq!(frames[0].value("charge"), Some("0"), "what else a frame says is kept");
    // A table, and what is not wanted.
    run(dir, predict).expect(0, &["ENERGY eV", "MAX |F|", "wire"]);
    let energies = run(dir, &format!("{predict} --no-forces --json")).expect(0, &[]).json();
    assert_eq!(energies["results"][1]["energy"], results[1]["energy"]);
    assert!(energies["results"][1]["max_force"].is_null() && energies["results"][1].get("forces").is_none());
    let no_stress = run(dir, &format!("{predict} --no-stress --json")).expect(0, &[]).json();
    assert!(no_stress["results"][1]["stress"].is_null() && no_stress["results"][1]["max_force"].is_number());
}

#[test]
fn what_was_computed_before_an_error_is_kept() {
    let dir = with_model(|_| {});
    let dir = dir.path();
    let predict = "predict broken.extxyz --model model.safetensors -o out.extxyz";
    let frames = |name: &str| read_structures(dir.join(name)).expect("frames").len();
    // The last frame is torn, of an element without an embedding, or has two atoms in one place.
    for (from, to, words) in [
        ("H 0.0 -0.7 -0.6", "H 0.0 -0.7 seven", ["broken.extxyz:14: frame 3", "`seven`"]),
        ("H 0.0 -0.7 -0.6", "Cl 0.0 -0.7 -0.6", ["broken.extxyz: frame 3: atom 2 has atomic number 17", "1 to 11"]),
        ("H 0.0 -0.7 -0.6", "H 0.1 0.9 -0.5", ["broken.extxyz: frame 3: atoms 1 and 2 are in one place", "above 0"]),
    ] {
        std::fs::write(dir.join("broken.extxyz"), FRAMES.replace(from, to)).expect("written");
        run(dir, predict).expect(2, &words).expect(2, &["the 2 frames before are in out.extxyz"]);
        assert_eq!(frames("out.extxyz"), 2);
    }
    // Nothing to keep: what was there stays.
    std::fs::write(dir.join("broken.extxyz"), "one\n").expect("written");
    run(dir, predict).expect(2, &["broken.extxyz:1: frame 1"]);
    assert_eq!(frames("out.extxyz"), 2);
    std::fs::write(dir.join("broken.extxyz"), "").expect("written");
    run(dir, predict).expect(2, &["broken.extxyz: expected at least one frame, found an empty file"]);
    let left: Vec<_> = std::fs::read_dir(dir).expect("a folder").flatten().map(|f| f.file_name()).collect();
    assert_eq!(left.len(), 4, "no temporary file is left: {left:?}");
}

#[test]
fn predict_refuses_what_it_cannot_do() {
    let dir = with_model(|config| config.elements = vec![1, 6]);
    let dir = dir.path();
    let predict = "predict frames.extxyz --model model.safetensors";
    let done = run(dir, predict).expect(0, &[]);
    assert_eq!(done.err.matches("has O, which the model was not trained on (H, C)").count(), 1, "{}", done.err);
    run(dir, &format!("{predict} -o frames.extxyz")).expect(2, &["frames.extxyz is the input"]);
    run(dir, &format!("{predict} -o ./frames.extxyz")).expect(2, &["is the input"]);
    run(dir, &format!("{predict} -o out.pdb")).expect(2, &["expected the extension extxyz or xyz, found `pdb`"]);
    run(dir, &format!("{predict} -o frames.extxyz/out.extxyz")).expect(2, &["frames.extxyz/out.extxyz"]);
    if !cfg!(feature = "cuda") {
        run(dir, &format!("{predict} --runtime cuda")).expect(3, &["runtime `cuda` is not compiled into this binary"]);
    }
    run(dir, &format!("{predict} --batch-atoms 0")).expect(2, &["--batch-atoms"]);
    run(dir, "predict frames.extxyz --model frames.extxyz").expect(2, &["frames.extxyz: expected a safetensors file"]);
    run(dir, "predict nowhere.extxyz --model model.safetensors").expect(2, &["nowhere.extxyz: cannot read"]);
    run(dir, "predict frames.extxyz").expect(2, &["--model"]);
}

/// Frames come through a pipe, which takes what was not read yet only when some of them were computed.
#[cfg(unix)]
#[test]
fn ctrl_c_keeps_the_frames_that_were_computed() {
    use std::io::Write;
    use std::process::Stdio;

    let dir = with_model(|_| {});
    let dir = dir.path();
    assert!(Command::new("mkfifo").arg(dir.join("pipe.extxyz")).status().expect("mkfifo").success());
    let child = forgefield(dir)
        .args("predict pipe.extxyz --model model.safetensors -o out.extxyz --batch-atoms 3".split_whitespace())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts");
    let mut pipe = std::fs::File::options().write(true).open(dir.join("pipe.extxyz")).expect("a pipe");
    pipe.write_all(FRAMES.repeat(1000).as_bytes()).expect("written");
    let kill = Command::new("sh").arg("-c").arg(format!("kill -INT {}", child.id())).status().expect("a shell");
    assert!(kill.success());
    // Whoever waits for a frame hears of Ctrl-C with the next; nobody may be left to read the last.
    let _ = pipe.write_all(FRAMES.repeat(1000).as_bytes());
    drop(pipe);
    let done: Done = child.wait_with_output().expect("ends").into();
    let done = done.expect(130, &["interrupted after", "frames before are in out.extxyz"]);
    let kept = read_structures(dir.join("out.extxyz")).expect("whole frames").len();
    assert!(
        (1..6000).contains(&kept) && done.err.contains(&format!("the {kept} frames before")),
        "{kept}: {}",
        done.err
    );
}

#[test]
fn profile_has_parts_and_floors() {
    let dir = with_model(|_| {});
    let words = "profile frames.extxyz --model model.safetensors --seconds 0 --frame 2 --repeat 3";
    let report = run(dir.path(), &format!("{words} --json")).expect(0, &[]).json();
    assert_eq!((&report["atoms"], &report["name"], &report["systems"]), (&6.into(), &"wire".into(), &3.into()));
    assert!(number(&report["edges"]) > 0.0 && number(&report["energy_ms"]) > 0.0);
    let ratio = number(&report["energy_forces_ms"]) / number(&report["energy_ms"]);
    assert!((number(&report["forces_over_energy"]) - ratio).abs() < 1e-9);
    let parts = report["parts"].as_array().expect("parts");
    for (part, layer) in [("neighbors", 0), ("message", 1), ("message backward", 0), ("update", 1), ("forces", 0)] {
        let found = parts.iter().find(|p| p["part"] == part && p["layer"] == layer);
        let found = found.unwrap_or_else(|| panic!("no {part} {layer}: {report}"));
        assert!(number(&found["ms"]) > 0.0 && found["floor_ms"].is_number(), "{found}");
    }
    run(dir.path(), words).expect(0, &["PART", "OF FLOOR", "energy and forces"]);
    run(dir.path(), "profile frames.extxyz --model model.safetensors --frame 4").expect(2, &["3 frames", "frame 4"]);
}

#[test]
fn inspect_model_counts_and_plans() {
    let dir = with_model(|_| {});
    let dir = dir.path();
    let report = run(dir, "inspect model model.safetensors --atoms 10 --degree 4 --json").expect(0, &[]).json();
    let model = Model::load(dir.join("model.safetensors")).expect("a model");
    assert_eq!(report["parameters"], model.weights().n_parameters(model.config()));
    assert_eq!((&report["kind"], &report["atoms"], &report["edges"]), (&"painn".into(), &10.into(), &40.into()));
    let plan = report["plan"].as_array().expect("a plan");
    let sum: f64 = plan.iter().map(|step| number(&step["flops_here"])).sum();
    assert_eq!(sum, number(&report["energy_forces"]["flops_here"]));
    assert_eq!((&plan[0]["part"], &plan[1]["part"]), (&"neighbors".into(), &"embedding".into()));
    assert_eq!(plan.last().map(|step| &step["kernel"]), Some(&"force_scatter".into()));
    run(dir, "inspect model model.safetensors").expect(0, &["parameters", "FLOPs/EDGE", "fused_message backward"]);
    run(dir, "inspect model").expect(2, &["expected `inspect model FILE`"]);
    run(dir, "inspect fused_message model.safetensors").expect(2, &["unexpected `model.safetensors`"]);
    run(dir, "inspect fused_message").expect(2, &["--variant"]);
    run(dir, "inspect model nowhere.safetensors").expect(2, &["nowhere.safetensors: cannot read"]);
}

#[test]
fn a_model_is_verified_against_labels() {
    let dir = with_model(|_| {});
    let dir = dir.path();
    let verify = "verify --model model.safetensors";
    run(dir, verify).expect(2, &["model.extxyz is not there", "--against"]);
    run(dir, "predict frames.extxyz --model model.safetensors --dtype f64 -o model.extxyz").expect(0, &[]);
    let done = run(dir, &format!("{verify} --json -")).expect(0, &[]).json();
    assert_eq!((&done["failed"], &done["skipped"]), (&0.into(), &0.into()));
    // Two dtypes; energy and forces of three frames, the stress of one; five properties of each frame.
    assert_eq!(done["passed"], 2 * (2 * 3 + 1 + 5 * 3));
    let energy = done["cases"][0].clone();
    assert_eq!((&energy["op"], &energy["verdict"]), (&"model".into(), &"passed".into()));
    assert!(energy["case"].as_str().is_some_and(|case| case.contains("energy, frame 1 `water`")), "{energy}");
    run(dir, &format!("{verify} --dtype f64 --junit gate.xml")).expect(0, &["passed", "f64"]).expect(0, &["model"]);
    assert!(dir.join("gate.xml").is_file());
    // A label that is off.
    let text = std::fs::read_to_string(dir.join("model.extxyz")).expect("written");
    let labelled: Vec<_> =
        FrameReader::open(dir.join("model.extxyz")).expect("a file").map(|f| f.expect("a frame")).collect();
    let energy = labelled[0].value("energy").expect("an energy").to_owned();
    let off = (energy.parse::<f64>().expect("a number") * (1.0 + 1e-8)).to_string();
    std::fs::write(dir.join("off.extxyz"), text.replace(&energy, &off)).expect("written");
    run(dir, &format!("{verify} --against off.extxyz --dtype f64"))
        .expect(1, &["the gate is not passed: 1 of 22 cases failed", "energy, frame 1 `water`"]);
    run(dir, &format!("{verify} --against off.extxyz --dtype f32")).expect(0, &[]);
    run(dir, &format!("{verify} --op fused_message")).expect(2, &["--op"]);
}

#[test]
fn a_converted_model_says_the_same() {
    let dir = with_model(|_| {});
    let dir = dir.path();
    run(dir, "convert model.safetensors -o other.safetensors --energy-unit kcal/mol --length-unit Bohr --dtype f64")
        .expect(0, &["energies in kcal/mol, lengths in Bohr"]);
    let energies = |model: &str| -> Vec<f64> {
        let done = run(dir, &format!("predict frames.extxyz --model {model} --dtype f64 --json")).expect(0, &[]).json();
        done["results"].as_array().expect("results").iter().map(|result| number(&result["energy"])).collect()
    };
    for (a, b) in energies("model.safetensors").iter().zip(energies("other.safetensors")) {
        assert!((a - b).abs() < 1e-11 * a.abs().max(1.0), "{a} and {b}");
    }
    run(dir, "convert model.safetensors -o ./model.safetensors").expect(2, &["is the input"]);
    run(dir, "convert model.safetensors -o x.safetensors --energy-unit erg")
        .expect(2, &["unknown unit of energy `erg`"]);
    run(dir, "convert frames.extxyz -o x.safetensors").expect(2, &["frames.extxyz: expected a safetensors file"]);
}

#[test]
fn models_are_benched_and_compared() {
    let dir = with_model(|_| {});
    let dir = dir.path();
    let bench = "bench --suite models --model model.safetensors --threads 1";
    let list = run(dir, &format!("{bench} --list")).expect(0, &["benzene-1", "benzene-64", "water-5184-atoms"]);
    assert!(!list.out.contains("99999"), "{}", list.out);
    run(dir, &format!("{bench} --full --list")).expect(0, &["water-99999-atoms"]);
    let report = run(dir, &format!("{bench} --case benzene-16 --seconds 0.02 --json")).expect(0, &[]).json();
    let row = &report["rows"][0];
    assert_eq!((&row["case"], &row["n_atoms"], &row["n_systems"]), (&"benzene-16".into(), &192.into(), &16.into()));
    let rate = number(&row["structures_per_s"]) * number(&row["median_ns"]);
    assert!((rate - 16e9).abs() < 1e3 && number(&row["floor_ns"]) > 0.0, "{row}");
    let case = format!("{bench} --case benzene-1 --seconds 0.01 --processes 5");
    run(dir, &format!("{case} --save old.json")).expect(0, &["STRUCTURES/s"]);
    let compared = run(dir, &format!("{case} --compare old.json --fail-over 900% --json")).expect(0, &[]).json();
    assert_eq!(compared["comparisons"][0]["case"], "benzene-1");
    run(dir, "bench --suite models").expect(2, &["--model"]);
    run(dir, "bench --model model.safetensors").expect(2, &["--suite models"]);
}

#[test]
fn the_model_that_comes_with_the_repository_holds_its_checks() {
    let models = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models");
    let [model, frames] = ["ethanol-painn-small.safetensors", "ethanol.extxyz"].map(|name| models.join(name));
    let dir = folder();
    let words = format!("--model {} --against {}", model.display(), frames.display());
    run(dir.path(), &format!("verify {words}")).expect(0, &["10 passed, 0 failed"]);
    let json = run(dir.path(), &format!("predict {} --model {} --json", frames.display(), model.display())).json();
    // Total energies of ethanol by PBE/def2-SVP lie at −4,210 eV.
    assert!((number(&json["results"][0]["energy"]) + 4209.7).abs() < 1.0, "{json}");
}

/// Where there is Vulkan a model says there what it says on the host, and `verify` compares the two.
#[test]
fn a_device_says_what_the_host_says() {
    let dir = with_model(|_| {});
    let dir = dir.path();
    let predict =
        |runtime: &str| run(dir, &format!("predict frames.extxyz --model model.safetensors --json {runtime}"));
    let found = predict("--runtime vulkan");
    if found.code == Some(3) && found.err.contains("runtime `vulkan` is not") {
        println!("not tested on a GPU: {}", found.err);
        return;
    }
    let [found, expected] = [found, predict("")].map(|done| done.expect(0, &[]).json()["results"].clone());
    let [found, expected] = [&found, &expected].map(|results| results.as_array().expect("results"));
    assert_eq!((found.len(), expected.len()), (3, 3));
    let flat = |value: &Value| -> Vec<f64> {
        value.as_array().expect("rows").iter().flat_map(|row| row.as_array().expect("a row")).map(number).collect()
    };
    for (found, expected) in found.iter().zip(expected) {
        let [a, b] = [found, expected].map(|of| number(&of["energy"]));
        assert!((a - b).abs() <= 1e-5 * b.abs().max(1.0), "{a} and {b} eV");
        for (a, b) in flat(&found["forces"]).iter().zip(flat(&expected["forces"])) {
            assert!((a - b).abs() <= 1e-4, "{a} and {b} eV/Å");
        }
        assert_eq!(found["stress"].is_null(), expected["stress"].is_null());
    }
    run(dir, "verify --model model.safetensors --against frames.extxyz --runtime vulkan")
        .expect(0, &["runtime vulkan", "does not compute models in f64: not checked"]);
    run(dir, "predict frames.extxyz --model model.safetensors --runtime vulkan --dtype f64")
        .expect(3, &["does not compute models in f64"]);
}
