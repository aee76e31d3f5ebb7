//! `tune` and what it leaves behind.

use super::*;

const SMALL: &str = "--runtime host --features 16 --n-basis 8 --hidden 16 --out out";

fn records(dir: &Path) -> Vec<serde_json::Value> {
    let text = std::fs::read_to_string(dir.join("out/records.jsonl")).unwrap_or_default();
    assert!(text.is_empty() || text.ends_with('\n'), "a torn line was left");
    text.lines().map(|line| serde_json::from_str(line).expect("a whole record")).collect()
}

#[test]
fn a_search_leaves_records_and_a_table_that_is_used() {
    let dir = folder();
    let words =
        format!("tune {SMALL} --problem molecules --variant cfconv_mlp_receiver,painn_tabulated_receiver --budget 4");
    let done = run(dir.path(), &words).expect(0, &["molecules: 40 atoms", "DEFAULT", "UNFUSED", "records ", "table "]);
    assert!(done.out.starts_with("runtime host: "), "{}", done.out);
    assert!(records(dir.path()).iter().all(|r| r["schema"] == 1 && r["device"]["runtime"] == "host"));
    run(dir.path(), "tables check --dir out").expect(0, &["2 entries, each with a numerical pass"]);
    let sizes = "--runtime host --features 16 --n-basis 8 --hidden 16 --dir out";
    let select = format!("tables select --problem molecules --variant cfconv_mlp_receiver {sizes}");
    run(dir.path(), &select).expect(0, &["step    exact device", "config  channel_block="]);
    run(dir.path(), &format!("{select} --dtype f64"))
        .expect(0, &["step    default", "no entry for cfconv_mlp_receiver in f64"]);
    // Resuming measures nothing again.
    let before = records(dir.path()).iter().filter(|r| r["stage"] == "screen").count();
    run(dir.path(), &format!("{words} --resume")).expect(0, &["4 of them from records"]);
    assert_eq!(records(dir.path()).iter().filter(|r| r["stage"] == "screen").count(), before);
    // A table merges with itself without a change.
    let table = std::fs::read_dir(dir.path().join("out")).expect("made").flatten().find(|f| f.path().is_dir());
    let table = table.expect("a device folder").path().join("fused_message.json").display().to_string();
    run(dir.path(), &format!("tables merge {table} {table}"))
        .expect(0, &["0 added, 0 faster and replaced, 2 not faster"]);
    run(dir.path(), &format!("tables diff {table} {table}")).expect(0, &["2 of 2 entries have the same configuration"]);
}

#[test]
fn an_outcome_can_be_had_as_json() {
    let dir = folder();
    let words = format!("tune {SMALL} --problem h2o --variant painn_linear_receiver --budget 1 --json --quiet");
    let done = run(dir.path(), &words).expect(0, &[]);
    let json = done.json();
    assert_eq!(json["problems"][0]["problem"]["name"], "h2o");
    assert!(json["problems"][0]["best"]["timing"]["median_ns"].as_f64().is_some_and(|ns| ns > 0.0), "{json}");
    assert!(json["problems"][0]["unfused"]["median_ns"].as_f64().is_some_and(|ns| ns > 0.0), "{json}");
    assert!(done.err.is_empty(), "{}", done.err);
}

#[cfg(unix)]
#[test]
fn ctrl_c_keeps_what_was_measured() {
    use std::process::Stdio;
    use std::time::{Duration, Instant};

    let dir = folder();
    let words = format!(
        "tune {SMALL} --problem molecules water-64 --variant cfconv_mlp_receiver,painn_linear_receiver --budget all"
    );
    let child = forgefield(dir.path())
        .args(words.split_whitespace())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts");
    let begin = Instant::now();
    let lines = || std::fs::read_to_string(dir.path().join("out/records.jsonl")).unwrap_or_default().lines().count();
    while lines() < 5 {
        assert!(begin.elapsed() < Duration::from_secs(60), "nothing was recorded in a minute");
        std::thread::sleep(Duration::from_millis(10));
    }
    let kill = Command::new("sh").arg("-c").arg(format!("kill -INT {}", child.id())).status().expect("a shell");
    assert!(kill.success());
    let done: Done = child.wait_with_output().expect("ends").into();
    done.expect(130, &["interrupted: what was measured is kept", "stopped after", "records "]);
    let kept = records(dir.path()).len();
    assert!(kept >= 5);
    run(dir.path(), "tables check --dir out").expect(0, &["each with a numerical pass"]);
    let again = format!("tune {SMALL} --problem molecules --variant cfconv_mlp_receiver --budget 3 --resume");
    run(dir.path(), &again).expect(0, &["from records"]);
    assert!(records(dir.path()).len() >= kept);
}
