//! `report`: a page and figures of what the binary wrote before.

use std::path::PathBuf;

use super::*;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../ff-report/tests/fixtures")
}

/// The fixtures' records in a folder, followed by some text.
fn records(dir: &Path, behind: &str) -> String {
    let text = std::fs::read_to_string(fixtures().join("records.jsonl")).expect("fixtures");
    std::fs::write(dir.join("records.jsonl"), text.clone() + behind).expect("writable");
    text
}

fn page(dir: &Path, name: &str) -> String {
    std::fs::read_to_string(dir.join(name)).expect("a page")
}

#[test]
fn a_search_is_reported_without_arguments() {
    let dir = folder();
    let dir = dir.path();
    run(dir, "tune --runtime host --op cell_list --variant full_brute --problem molecules --budget 3").expect(0, &[]);
    run(dir, "verify --runtime host --variant full_brute --dtype f32 --json v.json --passes autotune/passes.json")
        .expect(0, &["passed"]);
    run(dir, "report --verify v.json").expect(0, &["wrote report.html"]);
    let page = page(dir, "report.html");
    for text in ["<!doctype html>", "records.jsonl", "\"variant\":\"full_brute\"", "cell_list.json", "\"on\":\"20"] {
        assert!(page.contains(text), "no `{text}` in the page");
    }
    run(dir, "report --figure map.svg").expect(0, &["wrote map.svg"]);
    assert!(self::page(dir, "map.svg").contains("rows_per_task"));
}

#[test]
fn figures_are_drawn_of_what_is_asked_for() {
    let dir = folder();
    let dir = dir.path();
    records(dir, "");
    let tables = fixtures().join("tables");
    let bench = fixtures().join("bench.json");
    let (tables, bench) = (tables.display(), bench.display());
    for plot in ["heat-map", "speed-up", "speed-up-unfused", "roofline", "best-so-far"] {
        let words = format!("report records.jsonl --tables {tables} --bench {bench} --figure {plot}.svg --plot {plot}");
        run(dir, &words).expect(0, &["wrote "]);
        assert!(page(dir, &format!("{plot}.svg")).starts_with("<svg"));
    }
    assert!(!dir.join("report.html").exists(), "a figure alone was asked for");
    // By family, and by the id that belongs to it.
    for variant in ["painn_linear_receiver", "painn_linear_gaussian_cosine_receiver"] {
        let words =
            format!("report records.jsonl --variant {variant} --problem molecules --figure one.svg -o one.html");
        run(dir, &words).expect(0, &["wrote one.svg", "wrote one.html"]);
        let svg = page(dir, "one.svg");
        assert!(svg.contains("painn_linear_receiver") && !svg.contains("full_brute"));
    }
    run(dir, "report records.jsonl --problem nowhere")
        .expect(2, &["none of 82 records", "there is no problem `nowhere`"]);
    run(dir, "report records.jsonl --variant painn_linaer_receiver")
        .expect(2, &["no variant `painn_linaer_receiver`, did you mean `painn_linear_receiver`?"]);
    run(dir, "report records.jsonl --figure x.svg --plot speed-up-unfused -o x.html")
        .expect(2, &["nothing to draw", "unfused"]);
    assert!(!dir.join("x.html").exists(), "no page beside an error");
    run(dir, "report records.jsonl --figure x.png").expect(2, &["--figure x.png", ".svg"]);
    assert!(!dir.join("x.png").exists(), "no SVG under another name");
    run(dir, "report --plot roofline").expect(2, &["--figure"]);
}

#[test]
fn a_torn_line_is_said_and_another_schema_refused() {
    let dir = folder();
    let dir = dir.path();
    let text = records(dir, "{\"schema\":1,\"op\":\"cel");
    let done = run(dir, "report records.jsonl").expect(0, &["warning: records.jsonl: dropped the torn last line 83"]);
    assert!(done.out.contains("wrote report.html"));
    assert!(page(dir, "report.html").contains("dropped the torn last line 83 (21 bytes)"), "the page says so too");

    std::fs::write(dir.join("records.jsonl"), text.replacen("{\"schema\":1,", "{\"schema\":7,", 1)).expect("writable");
    run(dir, "report records.jsonl -o new.html").expect(2, &["records.jsonl, line 1: schema version 7, expected 1"]);
    assert!(!dir.join("new.html").exists());
    std::fs::write(dir.join("other.json"), "{\"schema\": 7}").expect("writable");
    run(dir, "report --bench other.json").expect(2, &["--bench other.json: schema version 7, expected 1"]);
    run(dir, "report --verify other.json").expect(2, &["--verify other.json: ", "forgefield verify"]);
    run(dir, "report missing.jsonl").expect(2, &["cannot read records missing.jsonl"]);
    run(dir, "report --tables missing -o new.html").expect(2, &["--tables missing: not there, expected a folder"]);
    run(dir, "report --passes missing -o new.html").expect(2, &["--passes missing: not there, expected a file"]);
    assert!(!dir.join("new.html").exists());
}

#[test]
fn nothing_to_report_is_said() {
    let dir = folder();
    run(dir.path(), "report").expect(0, &["warning: nothing was found to report on", "wrote report.html"]);
    run(dir.path(), "report -o there/is/none.html").expect(0, &["wrote there/is/none.html"]);
    run(dir.path(), "report -o report.html/x.html").expect(2, &["cannot write there"]);
}
