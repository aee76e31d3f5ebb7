use std::fs;

use ff_structure::{Labels, read_structures};

use super::*;

/// Energies are the sum of the first coordinates; it cannot label helium, and dies of neon.
struct Sums {
    asked: Vec<usize>,
    most: usize,
}

impl Teacher for Sums {
    fn name(&self) -> &str {
        "sums scale=1"
    }

    fn atoms_of_a_call(&self) -> usize {
        self.most
    }

    fn label(&mut self, frames: &[Frame]) -> Result<Vec<Result<Labels, String>>, TeacherError> {
        self.asked.push(frames.len());
        let of = |frame: &Frame| match frame.structure.species[0] {
            2 => Ok(Err("helium: no".to_owned())),
            10 => Err(TeacherError::Ended { teacher: "sums".into(), status: "signal: 11".into() }),
            _ => Ok(Ok(Labels {
                energy: Some(frame.structure.positions.iter().map(|x| x[0]).sum()),
                forces: Some(vec![[-1.0, 0.0, 0.0]; frame.structure.n_atoms()]),
                ..Labels::default()
            })),
        };
        frames.iter().map(of).collect()
    }
}

fn sums() -> Sums {
    Sums { asked: Vec::new(), most: 2 }
}

/// Seven frames of one atom; the third is helium. Labels of another origin stand in them.
fn structures(dir: &Path) -> Vec<PathBuf> {
    let frame = |i: usize| {
        let symbol = if i == 2 { "He" } else { "H" };
        format!("1\nProperties=species:S:1:pos:R:3:REF_forces:R:3 REF_energy=7\n{symbol} {}.1 0 0 9 9 9\n", i)
    };
    let files = [dir.join("a.xyz"), dir.join("b.xyz")];
    fs::write(&files[0], (0..4).map(frame).collect::<String>()).expect("written");
    fs::write(&files[1], (4..7).map(frame).collect::<String>()).expect("written");
    files.to_vec()
}

fn labelled(files: &[PathBuf], teacher: &mut Sums, path: &Path) -> Result<LabelCounts, DistillError> {
    let mut to = LabelFile::open(path, "sums scale=1")?;
    label(files, teacher, &mut to, &mut |_| true)
}

#[test]
fn frames_are_labelled_and_those_that_cannot_be_are_listed() {
    let dir = tempfile::tempdir().expect("a folder");
    let (files, path) = (structures(dir.path()), dir.path().join("labels.extxyz"));
    let counts = labelled(&files, &mut sums(), &path).expect("labelled");
    assert_eq!(counts, LabelCounts { labelled: 6, earlier: 0, skipped: 1 });
    let (frames, _) = crate::read_labelled(&path, &crate::LabelOptions::default()).expect("frames");
    let energies: Vec<_> = frames.iter().map(|frame| frame.energy).collect();
    // The teacher's labels, and no others.
    assert_eq!(energies, [0.1, 1.1, 3.1, 4.1, 5.1, 6.1].map(Some));
    let frame = FrameReader::open(&path).expect("a file").nth(2).expect("three").expect("read");
    assert!(frame.value(SOURCE).is_some_and(|source| source.ends_with("a.xyz#4")));
    assert_eq!((frame.value(TEACHER), frame.value("name")), (Some("sums scale=1"), None));
    let to = LabelFile::open(&path, "sums scale=1").expect("open");
    assert_eq!((to.skipped()[0].frame, to.skipped()[0].reason.as_str()), (3, "helium: no"));
}

#[test]
fn it_goes_on_wherever_it_was_cut() {
    let dir = tempfile::tempdir().expect("a folder");
    let (files, path) = (structures(dir.path()), dir.path().join("labels.extxyz"));
    labelled(&files, &mut sums(), &path).expect("labelled");
    let (whole, skips) =
        (fs::read(&path).expect("labels"), fs::read(path.with_extension("skipped.jsonl")).expect("skips"));
    for end in 0..whole.len() {
        fs::write(&path, &whole[..end]).expect("cut");
        // Helium is skipped after the second frame is in.
        let begins = whole.windows(2).enumerate().filter(|(_, w)| w == b"1\n").map(|(at, _)| at);
        let frame_ends: Vec<usize> = begins.skip(1).filter(|at| whole[at - 1] == b'\n').chain([whole.len()]).collect();
        let skipped = if end >= frame_ends[1] { &skips[..] } else { &skips[..skips.len() / 2] };
        fs::write(path.with_extension("skipped.jsonl"), skipped).expect("cut");
        let mut teacher = sums();
        let counts = labelled(&files, &mut teacher, &path).unwrap_or_else(|error| panic!("cut at {end}: {error}"));
        assert_eq!((counts.labelled, counts.skipped), (6, 1), "cut at {end}");
        let asked: usize = teacher.asked.iter().sum();
        let seen = if skipped.len() == skips.len() { 1 } else { 0 };
        assert_eq!(asked as u64, 7 - seen - counts.earlier, "cut at {end}");
        assert!(fs::read(&path).expect("labels") == whole, "cut at {end}");
    }
    let mut teacher = sums();
    assert_eq!(labelled(&files, &mut teacher, &path).expect("nothing to do").earlier, 6);
    assert_eq!(teacher.asked, [0_usize; 0]);
}

#[test]
fn a_file_of_another_run_is_refused_and_kept() {
    let dir = tempfile::tempdir().expect("a folder");
    let (files, path) = (structures(dir.path()), dir.path().join("labels.extxyz"));
    labelled(&files, &mut sums(), &path).expect("labelled");
    let before = fs::read(&path).expect("labels");
    let refused = |files: &[PathBuf], teacher: &str| {
        let mut to = LabelFile::open(&path, teacher).expect("open");
        label(files, &mut sums(), &mut to, &mut |_| true).expect_err("refused").to_string()
    };
    let error = refused(&files, "sums scale=2");
    assert!(
        error.contains("labels of the teacher `sums scale=2`, found those of `sums scale=1` at its frame 1"),
        "{error}"
    );
    let swapped: Vec<_> = files.iter().rev().cloned().collect();
    let error = refused(&swapped, "sums scale=1");
    assert!(error.contains("b.xyz#1") && error.contains("a.xyz#1"), "{error}");
    let error = refused(&files[..1], "sums scale=1");
    assert!(error.contains("of these structures alone") && error.contains("b.xyz#1"), "{error}");
    assert!(fs::read(&path).expect("labels") == before);
    // Two at once.
    let _held = LabelFile::open(&path, "sums scale=1").expect("open");
    let busy = LabelFile::open(&path, "sums scale=1").map(|_| ()).expect_err("held").to_string();
    assert!(busy.ends_with("is being written by another run"), "{busy}");
}

#[test]
fn a_teacher_that_dies_leaves_what_it_labelled() {
    let dir = tempfile::tempdir().expect("a folder");
    let (files, path) = (structures(dir.path()), dir.path().join("labels.extxyz"));
    let text = fs::read_to_string(&files[1]).expect("a file").replace("H 5.1", "Ne 5.1");
    fs::write(&files[1], text).expect("written");
    let mut teacher = Sums { most: 1, ..sums() };
    let error = labelled(&files, &mut teacher, &path).expect_err("dead").to_string();
    assert!(
        error.ends_with("b.xyz: frame 2: teacher sums: expected an answer, found the end of its process (signal: 11)"),
        "{error}"
    );
    assert_eq!(read_structures(&path).expect("labels").len(), 4);
    // It stops where it is told to.
    let mut to = LabelFile::open(&dir.path().join("few.extxyz"), "sums scale=1").expect("open");
    let counts =
        label(&files, &mut Sums { most: 1, ..sums() }, &mut to, &mut |counts| counts.labelled < 2).expect("stopped");
    assert_eq!(counts.labelled, 2);
}

/// `python3` with ASE, or nothing, said aloud.
fn python() -> Option<PathBuf> {
    let candidates = ["../../target/python/bin/python", "python3"];
    let has_ase = |python: &&str| {
        std::process::Command::new(python)
            .args(["-c", "import ase"])
            .stderr(std::process::Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    };
    let found = candidates.iter().find(|python| has_ase(python)).map(PathBuf::from);
    if found.is_none() {
        println!("not tested with ASE: neither {} imports it (python/check installs it)", candidates.join(" nor "));
    }
    found
}

#[test]
fn ases_calculators_are_teachers() {
    use crate::teacher::AseTeacher;
    use serde_json::Map;

    let refused = |path: &str| {
        AseTeacher::start(Path::new("python3"), path, &Map::new(), None).map(|_| ()).expect_err("refused").to_string()
    };
    for path in ["emt", "emt:", ":EMT", "a..b:EMT"] {
        assert!(refused(path).contains("expected a model's file or `module:callable`"), "{path}");
    }
    let missing =
        AseTeacher::start(Path::new("no/such/python"), "a:b", &Map::new(), None).map(|_| ()).expect_err("none");
    assert!(missing.to_string().starts_with("cannot start no/such/python: "), "{missing}");
    let Some(python) = python() else { return };
    let start = |path: &str, arguments: serde_json::Value, timeout: Option<f64>| {
        let arguments = arguments.as_object().expect("an object").clone();
        AseTeacher::start(&python, path, &arguments, timeout.map(std::time::Duration::from_secs_f64))
    };
    let none = serde_json::json!({});
    let refused = |path: &str| start(path, none.clone(), None).map(|_| ()).expect_err("refused").to_string();
    assert!(refused("ase.calculators.none:EMT").contains("ModuleNotFoundError: No module named"));
    assert!(refused("ase.calculators.emt:EMTT").contains("AttributeError"));
    assert!(refused("os:getcwd.real").contains("teacher os:getcwd.real: AttributeError"));

    let frame = |structure: Structure| Frame::from(structure);
    let dimer = |r: f64| frame(Structure::open("dimer", vec![18, 18], vec![[0.0; 3], [r, 0.0, 0.0]]));
    let arguments = serde_json::json!({"sigma": 1.0, "epsilon": 2.0, "rc": 10.0});
    let mut lj = start("ase.calculators.lj:LennardJones", arguments, None).expect("a teacher");
    assert!(lj.describes().starts_with("LennardJones, ASE "), "{}", lj.describes());
    let name = "ase.calculators.lj:LennardJones epsilon=2.0 rc=10.0 sigma=1.0";
    assert_eq!(lj.name(), name);
    let answers = lj.label(&[dimer(1.0), dimer(1.5)]).expect("answers");
    let labels: Vec<_> = answers.into_iter().map(|answer| answer.expect("labels")).collect();
    // 4ε(r⁻¹² − r⁻⁶), less its value at the cutoff.
    let expected = |r: f64| 8.0 * (r.powi(-12) - r.powi(-6)) - 8.0 * (10_f64.powi(-12) - 10_f64.powi(-6));
    let slope = |r: f64| 8.0 * (-12.0 * r.powi(-13) + 6.0 * r.powi(-7));
    for (labels, r) in labels.iter().zip([1.0, 1.5]) {
        assert!((labels.energy.expect("energy") - expected(r)).abs() < 1e-12, "{labels:?}");
        assert!((labels.forces.as_ref().expect("forces")[0][0] - slope(r)).abs() < 1e-12, "{labels:?}");
        assert_eq!(labels.stress, None, "a molecule");
    }
    // EMT knows copper and not silicon; it goes on after what it cannot do.
    let mut emt = start("ase.calculators.emt:EMT", none.clone(), None).expect("a teacher");
    let a = 1.9;
    let copper = Structure::periodic("cu", vec![29], vec![[0.0; 3]], [[0.0, a, a], [a, 0.0, a], [a, a, 0.0]]);
    let mut silicon = copper.clone();
    silicon.species = vec![14];
    let answers = emt.label(&[frame(silicon), frame(copper)]).expect("answers");
    let reason = answers[0].as_ref().expect_err("silicon");
    assert!(reason.contains("Si"), "{reason}");
    let stress = answers[1].as_ref().expect("copper").stress.expect("a stress");
    // Wider than at rest (a = 1.8 Å here): tension.
    assert!(stress[0][0] > 0.01 && (stress[0][0] - stress[2][2]).abs() < 1e-9, "{stress:?}");
    // A teacher that ends, and one that does not answer.
    let mut dead = start("ase.calculators.calculator:Calculator", none.clone(), None).expect("a teacher");
    assert!(dead.label(&[dimer(1.0)]).expect("an answer")[0].is_err(), "one without a method");
    let script = "import os, time\nfrom ase.calculators.lj import LennardJones\nclass Dead(LennardJones):\n    \
        def calculate(self, *a, **k):\n        print('noise')\n        os._exit(7)\nclass Slow(LennardJones):\n    \
        def calculate(self, *a, **k):\n        time.sleep(60)\n";
    let dir = tempfile::tempdir().expect("a folder");
    fs::write(dir.path().join("teachers_of_a_test.py"), script).expect("written");
    let from = |name: &str| format!("teachers_of_a_test:{name}");
    let path = dir.path().to_str().expect("a path");
    let start = |name: &str, timeout: Option<f64>| {
        // An interpreter that finds the test's module; the name of one alone is looked for as any is.
        let python = if python.components().count() > 1 {
            std::path::absolute(&python).expect("a path")
        } else {
            python.clone()
        };
        let wrapper = dir.path().join("python");
        let script = format!("#!/bin/sh\nPYTHONPATH='{path}' exec '{}' \"$@\"\n", python.display());
        fs::write(&wrapper, script).expect("written");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755)).expect("executable");
        }
        AseTeacher::start(&wrapper, &from(name), &Map::new(), timeout.map(std::time::Duration::from_secs_f64))
    };
    if cfg!(unix) {
        let error = start("Dead", None).expect("a teacher").label(&[dimer(1.0)]).expect_err("dead").to_string();
        assert!(error.contains("the end of its process (exit status: 7)"), "{error}");
        let error = start("Slow", Some(0.2)).expect("a teacher").label(&[dimer(1.0)]).expect_err("late").to_string();
        assert!(error.contains("expected an answer within 0.2 s, found none"), "{error}");
    }
}
