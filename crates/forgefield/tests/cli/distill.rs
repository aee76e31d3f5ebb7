//! `distill`: structures labelled by a model and by calculators.

use ff_structure::FrameReader;

use super::models::{number, with_model};
use super::*;

const DISTILL: &str = "distill frames.extxyz --teacher model.safetensors --labels labels.extxyz";

#[test]
fn a_model_labels_what_it_predicts_and_goes_on_where_it_was() {
    let dir = with_model(|_| {});
    let dir = dir.path();
    let done = run(dir, &format!("{DISTILL} --dtype f64 --json")).expect(0, &["runtime host"]).json();
    assert_eq!(
        (&done["labelled"], &done["earlier"], &done["stopped"]),
        (&3.into(), &0.into(), &serde_json::Value::Null)
    );
    run(dir, "predict frames.extxyz --model model.safetensors --dtype f64 -o predicted.extxyz").expect(0, &[]);
    let labels = |name: &str| -> Vec<_> {
        let frames = FrameReader::open(dir.join(name)).expect("a file");
        frames.map(|frame| frame.expect("a frame").labels().expect("labels")).collect()
    };
    assert_eq!(labels("labels.extxyz"), labels("predicted.extxyz"), "bit for bit");
    let whole = std::fs::read(dir.join("labels.extxyz")).expect("labels");
    std::fs::write(dir.join("labels.extxyz"), &whole[..whole.len() / 2]).expect("cut");
    let done = run(dir, &format!("{DISTILL} --dtype f64 --json")).expect(0, &["torn end"]).json();
    assert!(number(&done["earlier"]) >= 1.0 && done["labelled"] == 3, "{done}");
    assert!(std::fs::read(dir.join("labels.extxyz")).expect("labels") == whole, "the same bytes");
    // The student's side: what was labelled is what a model is compared with.
    run(dir, "validate --model model.safetensors --against labels.extxyz").expect(0, &["3 structures, 8 atoms"]);
    run(dir, &format!("{DISTILL} --dtype f32")).expect(2, &["is of another run", "f32", "f64"]);
}

#[test]
fn what_cannot_be_labelled_is_skipped_once() {
    let dir = with_model(|_| {});
    let dir = dir.path();
    let frames = std::fs::read_to_string(dir.join("frames.extxyz")).expect("frames");
    std::fs::write(dir.join("frames.extxyz"), frames.replacen("O 0.0 0.0 0.1", "Cl 0.0 0.0 0.1", 1)).expect("written");
    let done = run(dir, &format!("{DISTILL} --json")).expect(0, &[]).json();
    assert_eq!((&done["labelled"], &done["skipped"][0]["frame"]), (&2.into(), &1.into()));
    assert!(done["skipped"][0]["reason"].as_str().is_some_and(|reason| reason.contains("atomic number 17")), "{done}");
    run(dir, DISTILL).expect(0, &["1 structures skipped, listed in labels.skipped.jsonl", "2 of them before"]);
    std::fs::write(dir.join("frames.extxyz"), "1\n\nCl 0 0 0\n").expect("written");
    std::fs::remove_file(dir.join("labels.extxyz")).expect("removed");
    std::fs::remove_file(dir.join("labels.skipped.jsonl")).expect("removed");
    run(dir, DISTILL).expect(1, &["no structure was labelled, 1 were skipped"]);
}

#[test]
fn distill_refuses_what_it_cannot_do() {
    let dir = with_model(|_| {});
    let dir = dir.path();
    let distill = "distill frames.extxyz --labels labels.extxyz --teacher";
    run(dir, &format!("{distill} nowhere.safetensors")).expect(2, &["expected a model's file or `module:callable`"]);
    run(dir, &format!("{distill} :EMT")).expect(2, &["`:EMT`", "`module:callable`"]);
    run(dir, &format!("{distill} a:b --python no/python")).expect(2, &["cannot start no/python"]);
    run(dir, &format!("{distill} model.safetensors --teacher-arg x=1")).expect(2, &["takes no arguments"]);
    run(dir, &format!("{distill} a:b --teacher-arg x")).expect(2, &["expected KEY=VALUE"]);
    run(dir, &format!("{distill} a:b --timeout 0")).expect(2, &["--timeout"]);
    run(dir, "distill frames.extxyz --teacher model.safetensors --labels frames.extxyz").expect(2, &["is an input"]);
    run(dir, "distill frames.extxyz --teacher model.safetensors --labels a.pdb").expect(2, &["found `pdb`"]);
    run(dir, "distill nowhere.xyz --teacher model.safetensors --labels a.xyz").expect(2, &["nowhere.xyz: cannot read"]);
    assert!(!dir.join("labels.extxyz").exists(), "nothing was begun");
}
