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

/// Eight waters, bent and stretched, and a small student for them.
fn waters(dir: &Path) {
    let water = |i: usize| {
        let x = 0.02 * i as f64;
        format!("3\n\nO 0.0 0.0 {}\nH {x} {} -0.5\nH 0.0 -0.8 {}\n", 0.1 - x, 0.8 + x, -0.5 + 2.0 * x)
    };
    std::fs::write(dir.join("waters.xyz"), (0..8).map(water).collect::<String>()).expect("written");
    let config = "[model]\nfeatures = 8\nlayers = 1\nn_basis = 5\ncutoff = 4.0\n[run]\nepochs = 2\nbatch = 4\n";
    std::fs::write(dir.join("student.toml"), config).expect("written");
}

const STUDENT: &str =
    "distill waters.xyz --teacher model.safetensors --labels labels.extxyz --student student.toml -o s.safetensors";

#[test]
fn a_student_is_trained_on_the_labels_alone() {
    let dir = with_model(|_| {});
    let dir = dir.path();
    waters(dir);
    let done = run(dir, &format!("{STUDENT} --json")).expect(0, &[]).json();
    let student = &done["student"];
    assert_eq!(
        (&done["labelled"], &student["frames"], &student["file"]),
        (&8.into(), &7.into(), &"s.safetensors".into())
    );
    assert!(number(&student["watched"]["force_mae_mev_per_a"]).is_finite(), "{done}");
    run(dir, "validate --model s.safetensors --against labels.extxyz --max-energy inf --max-force inf")
        .expect(0, &["8 structures, 24 atoms"]);
    assert!(!dir.join("s.safetensors.checkpoint").exists());
    std::fs::write(dir.join("student.toml"), "[data]\ntrain = \"other.extxyz\"\n").expect("written");
    run(dir, STUDENT).expect(2, &["expected no `train` in [data]", "other.extxyz"]);
    run(dir, "distill waters.xyz --teacher model.safetensors --labels l.extxyz --student student.toml")
        .expect(2, &["--output"]);
    run(dir, "distill waters.xyz --teacher model.safetensors --labels l.extxyz --rounds 1").expect(2, &["--student"]);
    run(dir, &STUDENT.replace("s.safetensors", "model.safetensors")).expect(2, &["model.safetensors is an input"]);
}

#[test]
fn rounds_draw_where_students_disagree_and_are_on_record() {
    let dir = with_model(|_| {});
    let dir = dir.path();
    waters(dir);
    let rounds = "--rounds 2 --committee 2 --temperatures 100 --starts 2 --md-steps 20 --md-every 5 --draw 3 \
                  --least-disagreement 0 --most-disagreement 1000";
    let done = run(dir, &format!("{STUDENT} {rounds} --json")).expect(0, &[]).json();
    let rows = done["rounds"].as_array().expect("rounds");
    assert_eq!((rows.len(), &done["labelled"], &done["earlier"]), (2, &14.into(), &0.into()));
    // Eight looks: two structures, four times each; three of them drawn.
    assert_eq!((&rows[0]["looks"], &rows[0]["drawn"], &rows[1]["labelled"]), (&8.into(), &3.into(), &11.into()));
    assert!(number(&rows[0]["largest_disagreement"]) > 0.0, "students of different seeds differ: {done}");
    let seeds: Vec<_> = rows[0]["students"].as_array().expect("students").iter().map(|s| s["seed"].clone()).collect();
    assert_eq!(seeds, [0, 1]);
    let drawn =
        FrameReader::open(dir.join("labels.round-1.extxyz")).expect("drawn").next().expect("one").expect("read");
    let said = drawn.value("disagreement").expect("a disagreement").parse::<f64>().expect("a number");
    assert!((said - number(&rows[0]["largest_disagreement"])).abs() < 1e-9, "the largest comes first");
    // The same command has nothing to label and no round to do; another one is refused.
    let labels = std::fs::read(dir.join("labels.extxyz")).expect("labels");
    let again = run(dir, &format!("{STUDENT} {rounds} --json")).expect(0, &[]).json();
    assert_eq!((&again["labelled"], &again["earlier"], &again["rounds"]), (&14.into(), &14.into(), &done["rounds"]));
    assert!(std::fs::read(dir.join("labels.extxyz")).expect("labels") == labels);
    run(dir, &format!("{STUDENT} {}", rounds.replace("--draw 3", "--draw 4")))
        .expect(2, &["labels.rounds.jsonl", "other dynamics"]);
}
