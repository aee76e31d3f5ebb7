//! `bench`: what is timed is checked, and what is compared is judged.

use super::*;

const BENCH: &str = "bench --runtime host --threads 1 --case painn-linear-benzene --seconds 0.1";

#[test]
fn rows_have_an_error_and_a_floor() {
    let dir = folder();
    let report = run(dir.path(), &format!("{BENCH} --json")).expect(0, &[]).json();
    let row = &report["rows"][0];
    assert_eq!(row["case"], "painn-linear-benzene");
    assert_eq!(row["problem"]["n_atoms"], 12);
    let number = |value: &serde_json::Value| value.as_f64().unwrap_or_else(|| panic!("no number: {row}"));
    assert!(number(&row["timing"]["median_ns"]) > 0.0 && number(&row["timing"]["samples"]) >= 5.0);
    assert!(number(&row["rel_error"]) > 0.0 && number(&row["rel_error"]) < 1e-5, "{row}");
    assert!(number(&row["floor_ns"]) > 0.0 && report["peak"][0].as_f64().is_some_and(|p| p > 1e9));
}

#[test]
fn exports_what_eval_reads() {
    let dir = folder();
    run(dir.path(), &format!("{BENCH} --export out")).expect(0, &["painn-linear-benzene"]);
    let eval = "eval fused_message --runtime host --variant painn_linear_bessel_cosine_receiver \
                --inputs out/painn-linear-benzene.in.safetensors --outputs again.safetensors";
    run(dir.path(), eval).expect(0, &["12 atoms, 132 edges"]);
    let tensors = |name: &str| {
        let bytes = std::fs::read(dir.path().join(name)).expect("written");
        let file = safetensors::SafeTensors::deserialize(&bytes).expect("safetensors");
        ["dq", "dmu"].map(|name| file.tensor(name).expect("an output").data().to_vec())
    };
    assert!(tensors("again.safetensors") == tensors("out/painn-linear-benzene.out.safetensors"), "the same bits");
}

/// Few and short processes: what they are judged by is tested where it is computed.
const SAVE: &str = "bench --runtime host --threads 1 --case painn-linear-benzene --seconds 0.02 --processes 5";

/// A saved result with one number of its only row changed.
fn changed(old: &serde_json::Value, path: &Path, change: impl Fn(&mut serde_json::Value)) {
    let mut report = old.clone();
    change(&mut report);
    std::fs::write(path, report.to_string()).expect("written");
}

#[test]
fn a_slower_run_ends_with_one() {
    let dir = folder();
    let dir = dir.path();
    run(dir, &format!("{SAVE} --save old.json")).expect(0, &[]);
    let old: serde_json::Value =
        serde_json::from_slice(&std::fs::read(dir.join("old.json")).expect("written")).expect("JSON");
    assert_eq!(old["rows"][0]["processes"].as_array().map(Vec::len), Some(5));
    let compare = format!("{SAVE} --compare changed.json --fail-over 20%");
    let scaled = |factor: f64| {
        changed(&old, &dir.join("changed.json"), |report| {
            for process in report["rows"][0]["processes"].as_array_mut().expect("processes") {
                for block in process.as_array_mut().expect("blocks") {
                    *block = (block.as_f64().expect("a number") * factor).into();
                }
            }
        });
    };
    scaled(0.01);
    run(dir, &compare).expect(1, &["of the old time", "slower, by --fail-over 20.0%: painn-linear-benzene"]);
    scaled(100.0);
    let report = run(dir, &format!("{compare} --json")).expect(0, &[]).json();
    let comparison = &report["comparisons"][0];
    assert_eq!((&comparison["case"], &comparison["verdict"]), (&"painn-linear-benzene".into(), &"not_slower".into()));
    assert_eq!(comparison["processes"], serde_json::json!([5, 5]));
    // What ranks of 5 and 5 say with 95 % confidence has bounds.
    let bounds = ["low", "ratio", "high"].map(|name| comparison[name].as_f64().expect("a number"));
    assert!(bounds[0] <= bounds[1] && bounds[1] <= bounds[2] && bounds[2] < 0.5, "{bounds:?}");

    // Another machine, another problem, another schema, a file that ends half way.
    let refused = |change: &dyn Fn(&mut serde_json::Value), words: &[&str]| {
        changed(&old, &dir.join("changed.json"), change);
        run(dir, &compare).expect(2, words);
    };
    refused(
        &|report| report["machine"]["memory_gib"] = 3.into(),
        &["changed.json is of another machine", "GiB, there 3 GiB"],
    );
    refused(
        &|report| report["machine"]["device"] = "PDP-11".into(),
        &["device: here", "there PDP-11", "--baseline-binary"],
    );
    // What was measured is shown all the same.
    refused(
        &|report| report["rows"][0]["problem"]["n_edges"] = 7.into(),
        &["MEDIAN ms", "another problem in changed.json: n_edges 7 there, 132 here"],
    );
    refused(&|report| report["schema"] = 99.into(), &["schema 99, expected"]);
    let one = serde_json::json!([[1.0]]);
    // What can be known before is known before, and not after minutes.
    let early = |change: &dyn Fn(&mut serde_json::Value), words: &[&str]| {
        changed(&old, &dir.join("changed.json"), change);
        let done = run(dir, &compare).expect(2, words);
        assert!(!done.out.contains("MEDIAN ms") && !done.err.contains("of 5 processes"), "{}\n{}", done.out, done.err);
    };
    early(&|report| report["clock"] = "device".into(), &["changed.json was measured with timestamps of the device"]);
    early(&|report| report["rows"] = serde_json::json!([]), &["no case is in both: changed.json has none"]);
    early(&|report| report["rows"][0]["case"] = "another".into(), &["no case is in both: changed.json has none"]);
    early(&|report| report["rows"][0]["processes"] = one.clone(), &["1 processes in changed.json", "expected 4 each"]);
    for time in [0.0, -1.0] {
        let change = |report: &mut serde_json::Value| report["rows"][0]["processes"][2][0] = time.into();
        early(&change, &["changed.json: painn-linear-benzene has a time of", "expected above 0"]);
    }
    let text = old.to_string();
    std::fs::write(dir.join("changed.json"), &text[..text.len() / 2]).expect("written");
    run(dir, &compare).expect(2, &["changed.json:", "expected the JSON of `forgefield bench`"]);
}

#[cfg(unix)]
#[test]
fn two_binaries_take_turns() {
    let dir = folder();
    let dir = dir.path();
    let binary = env!("CARGO_BIN_EXE_forgefield");
    let against = |baseline: &str, case: &str| {
        run(
            dir,
            &format!(
                "bench --runtime host --threads 1 --case {case} --seconds 0.01 --fail-over 400% --baseline-binary {baseline} --json"
            ),
        )
    };
    let report = against(binary, "painn-linear-benzene").expect(0, &[]).json();
    let comparison = &report["comparisons"][0];
    assert_eq!(comparison["verdict"], "not_slower", "{comparison}");
    let pairs = comparison["processes"][0].as_u64().expect("a number");
    assert!((8..=24).contains(&pairs), "{comparison}");
    assert_eq!(report["rows"][0]["processes"].as_array().map(Vec::len), Some(pairs as usize));

    // A baseline that computes something else under the name of the case.
    script(
        &dir.join("other"),
        &format!("exec {binary} $(echo \"$@\" | sed s/painn-linear-benzene/painn-linear-999-atoms/)"),
    );
    against("./other", "painn-linear-benzene").expect(2, &["painn-linear-benzene is another problem in the baseline"]);
    // One that does not have the case, one that is no forgefield, one that is not there.
    script(&dir.join("older"), "echo painn-linear");
    against("./older", "painn-linear-benzene")
        .expect(2, &["painn-linear-benzene: not in the baseline", "no case is in both"]);
    script(&dir.join("silent"), "true");
    against("./silent", "painn-linear-benzene").expect(2, &["no case is in both", "expected a forgefield binary"]);
    script(&dir.join("no"), "echo what >&2; exit 7");
    against("./no", "painn-linear-benzene").expect(2, &["what; expected a forgefield binary"]);
    against("./nowhere", "painn-linear-benzene").expect(2, &["cannot read ./nowhere"]);
}

/// An executable script of `sh`.
#[cfg(unix)]
fn script(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::write(path, format!("#!/bin/sh\n{text}\n")).expect("written");
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).expect("executable");
}

/// Stands in for callgrind: calls what it is given and says of each kernel that it took 1000 instructions.
#[cfg(unix)]
const VALGRIND: &str = r#"[ "$1" != --version ] || { echo valgrind-3.99.0; exit; }
while case $1 in -*) true ;; *) false ;; esac; do
    case $1 in --callgrind-out-file=*) out=${1#*=} ;; esac
    shift
done
n=0
"$@" | while read -r line; do
    [ $n -eq 0 ] || echo "summary: 1000" >"$out.$n"
    n=$((n + 1))
    echo "$line"
done"#;

#[cfg(unix)]
#[test]
fn instructions_are_compared_with_a_table() {
    let dir = folder();
    let dir = dir.path();
    std::fs::create_dir(dir.join("bin")).expect("a folder");
    script(&dir.join("bin/valgrind"), VALGRIND);
    let system = std::env::var("PATH").unwrap_or_default();
    let with = |path: &str, words: &str| -> Done {
        let words = format!("bench --instructions counts.json {words}");
        forgefield(dir).args(words.split_whitespace()).env("PATH", path).output().expect("the binary starts").into()
    };
    let path = format!("{}:{system}", dir.join("bin").display());
    with(&path, "").expect(2, &["counts.json: cannot read it", "--update"]);
    with(&path, "--update").expect(0, &["wrote counts.json"]);
    let text = std::fs::read_to_string(dir.join("counts.json")).expect("written");
    // 2.1 % fewer then: more now.
    std::fs::write(dir.join("counts.json"), text.replacen("1000", "979", 1)).expect("written");
    with(&path, "").expect(1, &["979 → 1000 instructions, +2.1 %", "1 kernels have changed; --update accepts"]);
    // Another compiler makes other code: said, and not judged.
    let other = text.replacen("1000", "979", 1).replacen("rustc ", "rustc 0.", 1);
    std::fs::write(dir.join("counts.json"), other).expect("written");
    with(&path, "").expect(0, &["979 → 1000", "differences are not judged"]);
    with("", "").expect(0, &["skipped:", "kernels were not counted: cannot run valgrind"]);
    with("", "--update").expect(3, &["cannot run valgrind"]);
}

#[test]
fn lists_are_checked_timed_and_written() {
    let dir = folder();
    let command = "bench --runtime host --op cell_list --case list-64-atoms,list-64-atoms-brute --seconds 0.1 --export out --json";
    let report = run(dir.path(), command).expect(0, &[]).json();
    let rows = report["rows"].as_array().expect("rows");
    assert_eq!(rows.len(), 2);
    for row in rows {
        assert_eq!((&row["problem"]["n_atoms"], &row["problem"]["n_systems"]), (&64.into(), &1.into()));
        assert!(row["timing"]["median_ns"].as_f64().is_some_and(|ns| ns > 0.0), "{row}");
        assert!(row["rel_error"].as_f64().is_some_and(|error| error < 1e-12), "{row}");
    }
    let bytes = std::fs::read(dir.path().join("out/list-64-atoms.safetensors")).expect("written");
    let file = safetensors::SafeTensors::deserialize(&bytes).expect("safetensors");
    let n_edges = rows[0]["problem"]["n_edges"].as_u64().expect("a number") as usize;
    assert_eq!(file.tensor("shift").expect("there").shape(), [n_edges, 3]);
    run(dir.path(), "bench --op fused_message --case list-64-atoms").expect(2, &["unknown case `list-64-atoms`"]);
}

#[test]
fn forces_and_their_gradients_are_timed() {
    let dir = folder();
    let listed = run(dir.path(), "bench --op force_scatter --list").expect(0, &[]).out;
    assert_eq!(listed.lines().filter(|case| case.starts_with("scatter-")).count(), listed.lines().count());
    let cases = "scatter-gather-1024-molecules,scatter-atomic,scatter-backward,scatter-double";
    let command = format!("bench --runtime host --op force_scatter --case {cases} --seconds 0.05 --json");
    let report = run(dir.path(), &command).expect(0, &[]).json();
    for (row, case) in report["rows"].as_array().expect("rows").iter().zip(cases.split(',')) {
        assert_eq!(row["case"], case);
        assert!(row["rel_error"].as_f64().is_some_and(|error| error < 1e-5), "{row}");
        assert!(row["floor_ns"].as_f64().is_some_and(|floor| floor > 0.0), "{row}");
    }
    assert_eq!(report["rows"][0]["problem"]["n_systems"], 1024);
}

#[test]
fn norms_are_timed_beside_their_floor() {
    let dir = folder();
    let listed = run(dir.path(), "bench --op vector_norm --list").expect(0, &[]).out;
    assert_eq!(listed.lines().filter(|case| case.starts_with("norm-")).count(), listed.lines().count());
    let cases = "norm-33-channels,norm-backward,norm-double";
    let command = format!("bench --runtime host --op vector_norm --case {cases} --seconds 0.05 --json");
    let report = run(dir.path(), &command).expect(0, &[]).json();
    for ((row, case), order) in report["rows"].as_array().expect("rows").iter().zip(cases.split(',')).zip(0..) {
        assert_eq!(row["case"], case);
        assert!(row["rel_error"].as_f64().is_some_and(|error| error < 1e-5), "{row}");
        // 3999 atoms; V, g and t are read, norms and gradients are written.
        let [numbers, features] = [[4, 33], [7, 128], [11, 128]][order];
        assert_eq!(row["floor"]["bytes"], 3999 * features * numbers * 4, "{row}");
    }
}

#[test]
fn bad_usage_is_told() {
    let dir = folder();
    let dir = dir.path();
    run(dir, "bench --case painn-liner").expect(2, &["unknown case `painn-liner`, did you mean `painn-linear`?"]);
    run(dir, "bench --seconds=-1").expect(2, &["--seconds"]);
    run(dir, "bench --compare old.json --fail-over 5").expect(2, &["`5` is no threshold"]);
    run(dir, "bench --fail-over 5%").expect(2, &["--compare"]);
    run(dir, "bench --compare old.json --fail-over 0%").expect(2, &["expected above 0%"]);
    std::fs::write(dir.join("file"), "kept").expect("written");
    for place in ["file/old.json", "."] {
        let done = run(dir, &format!("{BENCH} --save {place}")).expect(2, &["cannot write"]);
        assert!(!done.out.contains("GFLOP/s"), "refused before anything is measured: {}", done.out);
    }
    run(dir, "bench --compare missing.json").expect(2, &["cannot read missing.json"]);
    std::fs::write(dir.join("other.json"), "{\"schema\": 1}").expect("written");
    run(dir, "bench --compare other.json").expect(2, &["other.json: missing field"]);
    run(dir, &format!("{BENCH} --structure nowhere.pdb --case painn-linear-nowhere")).expect(2, &["nowhere.pdb"]);
}
