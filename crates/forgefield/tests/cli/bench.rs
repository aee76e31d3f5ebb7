//! `bench`: what is timed is checked, and what is compared is judged.

use super::*;

const BENCH: &str = "bench --runtime host --threads 1 --case painn-linear-benzene --seconds 0.1";

#[test]
fn rows_have_an_error_and_a_floor() {
    let dir = folder();
    let report = run(dir.path(), &format!("{BENCH} --json -")).expect(0, &[]).json();
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

#[test]
fn a_slower_run_ends_with_one() {
    let dir = folder();
    let dir = dir.path();
    run(dir, &format!("{BENCH} --json old.json")).expect(0, &[]);
    let old: serde_json::Value =
        serde_json::from_slice(&std::fs::read(dir.join("old.json")).expect("written")).expect("JSON");
    let scaled = |factor: f64| {
        let mut report = old.clone();
        for field in ["median_ns", "spread_ns"] {
            let value = &mut report["rows"][0]["timing"][field];
            *value = (value.as_f64().expect("a number") * factor).into();
        }
        std::fs::write(dir.join("scaled.json"), report.to_string()).expect("written");
    };
    let compare = format!("{BENCH} --compare scaled.json --fail-over 20%");
    scaled(0.01);
    run(dir, &compare).expect(1, &["slower by more than 20.0 %: painn-linear-benzene"]);
    scaled(100.0);
    run(dir, &compare).expect(0, &["of the old time"]);
}

#[test]
fn lists_are_checked_timed_and_written() {
    let dir = folder();
    let command = "bench --runtime host --op cell_list --case list-64-atoms,list-64-atoms-brute --seconds 0.1 --export out --json -";
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
fn bad_usage_is_told() {
    let dir = folder();
    let dir = dir.path();
    run(dir, "bench --case painn-liner").expect(2, &["unknown case `painn-liner`, did you mean `painn-linear`?"]);
    run(dir, "bench --seconds=-1").expect(2, &["--seconds"]);
    run(dir, "bench --compare old.json --fail-over 5").expect(2, &["`5` is no threshold"]);
    run(dir, "bench --compare missing.json").expect(2, &["cannot read missing.json"]);
    std::fs::write(dir.join("other.json"), "{\"schema\": 1}").expect("written");
    run(dir, "bench --compare other.json").expect(2, &["other.json: missing field"]);
    run(dir, &format!("{BENCH} --structure nowhere.pdb --case painn-linear-nowhere")).expect(2, &["nowhere.pdb"]);
}
