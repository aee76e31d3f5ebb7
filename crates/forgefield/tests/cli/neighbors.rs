//! `neighbors`: pairs of every frame, and files that are not what they should be.

use super::*;

const FRAMES: &str = "\
2
Lattice=\"3 0 0 0 10 0 0 0 10\" Properties=species:S:1:pos:R:3 pbc=\"T F F\"
H 0.0 0.0 0.0
H 1.0 0.0 0.0
1
Properties=species:S:1:pos:R:3
He 5.0 5.0 5.0
";

#[test]
fn every_frame_is_a_line_of_sorted_pairs() {
    let dir = folder();
    let dir = dir.path();
    std::fs::write(dir.join("two.extxyz"), FRAMES).expect("written");
    let lines = |options: &str| -> Vec<serde_json::Value> {
        let done = run(dir, &format!("neighbors two.extxyz --cutoff 3.5 --format json {options}")).expect(0, &[]);
        done.out.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    };
    // Along a wire of period 3: the other atom at 1, at −2 and, from the second, at 2; each atom's own images at ±3.
    let full = serde_json::json!({"n_atoms": 2, "n_pairs": 8, "pairs": [
        [0, 0, -1, 0, 0], [0, 0, 1, 0, 0], [0, 1, -1, 0, 0], [0, 1, 0, 0, 0],
        [1, 0, 0, 0, 0], [1, 0, 1, 0, 0], [1, 1, -1, 0, 0], [1, 1, 1, 0, 0]]});
    let none = serde_json::json!({"n_atoms": 1, "n_pairs": 0, "pairs": []});
    assert_eq!(lines(""), [full, none.clone()]);
    let half = serde_json::json!({"n_atoms": 2, "n_pairs": 4, "pairs": [
        [0, 0, 1, 0, 0], [0, 1, -1, 0, 0], [0, 1, 0, 0, 0], [1, 1, 1, 0, 0]]});
    assert_eq!(lines("--half"), [half, none]);
    run(dir, "neighbors two.extxyz --cutoff 3.5").expect(0, &["frame 1: 2 atoms, 8 pairs, 4.00 per atom", "frame 2"]);
}

#[test]
fn a_table_changes_how_and_not_what() {
    let dir = folder();
    let dir = dir.path();
    std::fs::write(dir.join("two.extxyz"), FRAMES).expect("written");
    let list =
        |options: &str| run(dir, &format!("neighbors two.extxyz --cutoff 3.5 --format json {options}")).expect(0, &[]);
    let without = list("--tables none");
    assert!(without.err.is_empty(), "{}", without.err);
    let tune =
        "tune --runtime host --out out --op cell_list --structure two.extxyz --cutoff 3.5 --dtype f64 --budget 2";
    run(dir, &format!("{tune} --verbose")).expect(0, &["two: 3 atoms in 2 systems"]);
    let with = list("--tables out");
    assert_eq!((with.out, with.err), (without.out, String::new()));
    let table = std::fs::read_dir(dir.join("out")).expect("made").flatten().find(|f| f.path().is_dir());
    std::fs::write(table.expect("a device folder").path().join("cell_list.json"), "{").expect("written");
    let broken = list("--tables out");
    assert!(broken.err.contains("warning: ") && broken.err.contains("cell_list.json"), "{}", broken.err);
}

#[test]
fn a_key_that_is_nearly_known_is_a_warning() {
    let dir = folder();
    let dir = dir.path();
    std::fs::write(dir.join("slip.extxyz"), FRAMES.replace("Lattice", "lattice").replace(" pbc=\"T F F\"", ""))
        .expect("written");
    let warning =
        "warning: slip.extxyz:2: frame 1: key `lattice` means nothing and is not read, did you mean `Lattice`?";
    let done = run(dir, "neighbors slip.extxyz --cutoff 3.5 --format json").expect(0, &[]);
    assert_eq!(done.err.trim_end(), warning, "one line, and stdout has the lists");
    let first = done.out.lines().next().expect("a line for each frame");
    let pairs: serde_json::Value = serde_json::from_str(first).expect("JSON");
    assert_eq!(pairs["n_pairs"], 2, "read as a molecule");
    // Once, however often the file is read: workers read it too.
    for words in [
        "tune --runtime host --out out --structure slip.extxyz --op cell_list --variant full_brute --budget 1 --quiet",
        "tables select --structure slip.extxyz --variant painn_linear_receiver --runtime host --dir none",
    ] {
        let done = run(dir, words).expect(0, &[]);
        assert_eq!(done.err.matches(warning).count(), 1, "{words}: {}", done.err);
    }
    // Where directions are said to repeat it is an error that names the key.
    std::fs::write(dir.join("slip.extxyz"), FRAMES.replace("Lattice", "lattice")).expect("written");
    run(dir, "neighbors slip.extxyz --cutoff 3.5")
        .expect(2, &["slip.extxyz:2: frame 1: expected a Lattice", "found `lattice`"]);
}

#[test]
fn bad_input_is_named_by_frame_and_line() {
    let dir = folder();
    let dir = dir.path();
    std::fs::write(dir.join("broken.extxyz"), FRAMES.replace("5.0 5.0 5.0", "5.0 five 5.0")).expect("written");
    run(dir, "neighbors broken.extxyz --cutoff 5").expect(2, &["broken.extxyz:7: frame 2", "`five`"]);
    std::fs::write(dir.join("flat.extxyz"), FRAMES.replace("3 0 0", "0 0 0")).expect("written");
    run(dir, "neighbors flat.extxyz --cutoff 5")
        .expect(2, &["flat.extxyz: frame 1: cell of system 0 is", "linearly independent"]);
    std::fs::write(dir.join("two.extxyz"), FRAMES).expect("written");
    for cutoff in ["0", "nan", "inf"] {
        run(dir, &format!("neighbors two.extxyz --cutoff {cutoff}")).expect(2, &["cutoff is"]);
    }
    run(dir, "neighbors two.extxyz").expect(2, &["--cutoff"]);
    run(dir, "neighbors nowhere.extxyz --cutoff 5").expect(2, &["nowhere.extxyz: cannot read"]);
}
