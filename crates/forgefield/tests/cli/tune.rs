//! `tune` and what it leaves behind.

use std::collections::BTreeSet;

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
    let done = run(dir.path(), &words)
        .expect(0, &["DEFAULT", "CHOSEN", "SPEED-UP", "UNFUSED", "time    ", " of its own (", "records ", "table "]);
    assert!(done.out.starts_with("runtime host: "), "{}", done.out);
    let rows: Vec<&str> = done.out.lines().filter(|line| line.starts_with("molecules ")).collect();
    assert_eq!(rows.len(), 2, "a row for each variant and problem: {}", done.out);
    assert!(done.out.lines().all(|line| line.chars().count() <= 100), "{}", done.out);
    // The runtime, the header, the rows; at most one line of notes; time, records, table.
    assert!((7..=8).contains(&done.out.lines().count()), "{}", done.out);
    assert!(records(dir.path()).iter().all(|r| r["schema"] == 1 && r["device"]["runtime"] == "host"));
    run(dir.path(), "tables check --dir out").expect(0, &["2 entries, each with a numerical pass"]);
    let sizes = "--runtime host --features 16 --n-basis 8 --hidden 16 --dir out";
    let select = format!("tables select --problem molecules --variant cfconv_mlp_receiver {sizes}");
    run(dir.path(), &select).expect(0, &["step    exact device", "config  channel_block="]);
    run(dir.path(), &format!("{select} --dtype f64"))
        .expect(0, &["step    default", "no entry for cfconv_mlp_receiver in f64"]);
    // Resuming measures nothing again.
    let before = records(dir.path()).iter().filter(|r| r["stage"] == "screen").count();
    run(dir.path(), &format!("{words} --resume --verbose"))
        .expect(0, &["4 of them from records", "molecules: 40 atoms", "SPREAD", "CONFIG", "channel_block="]);
    assert_eq!(records(dir.path()).iter().filter(|r| r["stage"] == "screen").count(), before);
    // A table merges with itself without a change.
    let table = std::fs::read_dir(dir.path().join("out")).expect("made").flatten().find(|f| f.path().is_dir());
    let table = table.expect("a device folder").path().join("fused_message.json").display().to_string();
    run(dir.path(), &format!("tables merge {table} {table}"))
        .expect(0, &["0 added, 0 faster and replaced, 2 not faster"]);
    run(dir.path(), &format!("tables diff {table} {table}")).expect(0, &["2 of 2 entries have the same configuration"]);
}

#[test]
fn every_order_is_tuned_on_its_own() {
    let dir = folder();
    let dir = dir.path();
    let words = format!(
        "tune {SMALL} --problem h2o --variant gather,painn_linear_receiver,painn_tabulated_receiver --order 0,1,2 --budget 2"
    );
    run(dir, &words).expect(0, &["gather_backward", "painn_linear_receiver_double_backward", "force_scatter.json"]);
    let searches: BTreeSet<(String, u64)> = records(dir)
        .iter()
        .map(|r| (r["op"].as_str().expect("an op").to_owned(), r["order"].as_u64().expect("an order")))
        .collect();
    let all = ["force_scatter", "fused_message"].map(|op| [0, 1, 2].map(|order| (op.to_owned(), order)));
    assert_eq!(searches, all.into_iter().flatten().collect());
    run(dir, "tables check --dir out").expect(0, &["3 entries, each with a numerical pass", "6 entries, each"]);
    run(dir, "tables show --dir out").expect(0, &["painn_tabulated_receiver_backward"]);
    let sizes = "--runtime host --features 16 --n-basis 8 --hidden 16 --dir out --problem h2o";
    let select = format!("tables select {sizes} --variant painn_linear_receiver");
    for order in 0..=2 {
        let call =
            if order > 0 { format!("painn_linear_receiver order={order} f32") } else { "receiver f32".to_owned() };
        run(dir, &format!("{select} --order {order}")).expect(0, &["step    exact device", &call]);
    }
    run(dir, &format!("tables select {sizes} --op force_scatter --order 2 --dtype f64"))
        .expect(0, &["step    default", "no entry for gather of order 2 in f64"]);
    run(dir, &format!("tables select {sizes} --op cell_list --order 1")).expect(2, &["has no derivatives"]);
    run(dir, "tune --op cell_list --order 1 --out out").expect(2, &["has no derivatives, expected --order 0"]);
    run(dir, "tune --order 3 --out out").expect(2, &["3 is not in 0..=2"]);
    // Resuming takes each order from its own records.
    let before = records(dir).len();
    run(dir, &format!("{words} --resume")).expect(0, &["2 of them from records"]);
    let again = records(dir);
    assert!(again[before..].iter().all(|r| r["stage"] != "screen"), "nothing is screened twice");
}

/// An op without edges: what its table is keyed by is atoms and channels.
#[test]
fn norms_are_tuned_by_atoms_and_channels() {
    let dir = folder();
    let dir = dir.path();
    let words =
        "tune --runtime host --out out --op vector_norm --problem molecules --features 24 --order 0,1,2 --budget 2";
    run(dir, words).expect(0, &["channelwise_double_backward", "vector_norm.json"]);
    run(dir, "tables check --dir out").expect(0, &["3 entries, each with a numerical pass"]);
    for record in records(dir) {
        let problem = &record["problem"];
        assert_eq!((&problem["n_atoms"], &problem["features"]), (&40.into(), &24.into()), "{record}");
        assert_eq!((&problem["n_edges"], &problem["n_systems"]), (&0.into(), &0.into()), "{record}");
    }
    // Another cutoff has other edges, and the same norms.
    let select = "tables select --runtime host --dir out --op vector_norm --problem molecules --features 24 --cutoff 3";
    run(dir, &format!("{select} --order 1")).expect(0, &["channelwise order=1 f32 n_atoms=40", "step    exact device"]);
    run(dir, &format!("{select} --dtype f64")).expect(0, &["step    default", "no entry for channelwise in f64"]);
}

#[test]
fn lists_are_tuned_and_the_table_is_used() {
    let dir = folder();
    let dir = dir.path();
    let words = "tune --runtime host --out out --op cell_list --problem molecules --budget 3 --verbose";
    let done =
        run(dir, words).expect(0, &["molecules: 40 atoms in 8 systems, lists of about ", "full_brute", "half_cells"]);
    assert!(!done.out.contains("painn"), "{}", done.out);
    let of_lists = records(dir);
    assert!(
        of_lists.iter().all(|r| r["op"] == "cell_list" && r["kernel_hash"].as_str().is_some_and(|h| !h.is_empty()))
    );
    assert!(of_lists.iter().any(|r| r["verdict"] == "correct" && r["stage"] == "final"));
    run(dir, "tables check --dir out").expect(0, &["3 entries, each with a numerical pass"]);
    run(dir, "tables show --dir out").expect(0, &["cell_list.json", "SYSTEMS", "half_cells"]);
    run(dir, "tables show --dir out --op fused_message").expect(0, &["no tables of `fused_message`"]);
    let select = "tables select --runtime host --dir out --op cell_list --problem molecules";
    run(dir, &format!("{select} --variant half_cells")).expect(
        0,
        &["call    half_cells f32 n_atoms=40 n_systems=8", "step    exact device", "0.00 systems, 0.00 degree"],
    );
    run(dir, &format!("{select} --variant half_brute"))
        .expect(0, &["step    default", "no entry for half_brute in f32"]);
    run(dir, &format!("{select} --variant full_cell")).expect(2, &["did you mean `full_cells`?"]);
    run(dir, &format!("{select} --dtype f64")).expect(0, &["call    full_cells f64", "step    default"]);
    // Of full lists the one that the table says is faster.
    let table = run(dir, "tables show --dir out --json").json();
    let entries = table[0]["entries"].as_array().expect("entries").clone();
    let median = |family: &str| {
        entries.iter().find(|e| e["key"]["family"] == family).and_then(|e| e["median_ns"].as_f64()).expect("tuned")
    };
    let faster = if median("full_brute") < median("full_cells") { "full_brute" } else { "full_cells" };
    let found = run(dir, &format!("{select} --json --quiet")).json();
    assert_eq!((&found["variant"], &found["op"]), (&faster.into(), &"cell_list".into()));
    let config = entries.iter().find(|e| e["key"]["family"] == faster).map(|e| &e["config"]);
    assert_eq!(Some(&found["used"]), config);
    // The records hold both ops, the tables lie side by side.
    run(dir, &format!("{words} --resume")).expect(0, &["3 of them from records"]);
    let both =
        format!("tune {SMALL} --problem h2o --variant full_cells,painn_linear_receiver --budget 2 --json --quiet");
    let json = run(dir, &both).expect(0, &[]).json();
    let ops: Vec<_> = json["problems"].as_array().expect("problems").iter().map(|p| p["op"].clone()).collect();
    assert_eq!(ops, ["cell_list", "fused_message"]);
    assert_eq!(json["tables"].as_array().map(Vec::len), Some(2));
    run(dir, "tables check --dir out").expect(0, &["4 entries", "1 entries"]);
}

#[test]
fn ops_variants_and_spaces_have_to_fit() {
    let dir = folder();
    let dir = dir.path();
    run(dir, "tune --op cell_lists").expect(2, &["did you mean `cell_list`?"]);
    run(dir, "tune --op cell_list --variant painn_linear_receiver").expect(2, &["is of op cell_list"]);
    run(dir, "tune --op cell_list --variant full_cellz").expect(2, &["did you mean `full_cells`?"]);
    let space = concat!(env!("CARGO_MANIFEST_DIR"), "/../../autotune/spaces/cell_list.toml");
    let text = std::fs::read_to_string(space).expect("there").replace("[64, 128, 256, 512, 1024]", "[128, 300]");
    std::fs::write(dir.join("lists.toml"), &text).expect("written");
    let words = "tune --runtime host --out out --problem h2o --budget all --space lists.toml --quiet";
    run(dir, &format!("{words} --variant painn_linear_receiver")).expect(2, &["the spaces of op `cell_list`"]);
    run(dir, &format!("{words} --variant full_brute")).expect(0, &[]);
    let tried: std::collections::BTreeSet<u64> =
        records(dir).iter().filter_map(|r| r["config"]["rows_per_task"].as_u64()).collect();
    assert_eq!(tried, [128, 300].into());
    std::fs::write(dir.join("lists.toml"), text.replacen("strategy = ", "stratgy = ", 1)).expect("written");
    run(dir, &format!("{words} --variant full_brute")).expect(2, &["did you mean `strategy`?"]);
}

#[test]
fn an_outcome_can_be_had_as_json() {
    let dir = folder();
    let words = format!("tune {SMALL} --problem h2o --variant painn_linear_receiver --budget 1 --json --quiet");
    let done = run(dir.path(), &words).expect(0, &[]);
    let json = done.json();
    assert_eq!(json["problems"][0]["problem"]["name"], "h2o");
    assert_eq!(json["problems"][0]["variant"], "painn_linear_gaussian_cosine_receiver");
    assert!(json["problems"][0]["best"]["timing"]["median_ns"].as_f64().is_some_and(|ns| ns > 0.0), "{json}");
    assert!(json["problems"][0]["unfused"]["median_ns"].as_f64().is_some_and(|ns| ns > 0.0), "{json}");
    assert!(done.err.is_empty(), "{}", done.err);
    // The parts of the time are those of the clock, and every record says what it took.
    let times = |json: &serde_json::Value| -> u64 {
        json.as_object().expect("times").values().filter_map(serde_json::Value::as_u64).sum()
    };
    assert!(times(&json["problems"][0]["times"]) <= times(&json["times"]), "{json}");
    assert!(records(dir.path()).iter().all(|r| times(&r["times"]) > 0 && r["times"]["compile_ns"].is_u64()));
    // The same without a worker.
    let here = run(dir.path(), &format!("{words} --in-process --finalists 1 --no-eliminate")).expect(0, &[]).json();
    assert_eq!(here["problems"][0]["counts"]["correct"], 1, "{here}");
}

/// Processes that this one has started.
#[cfg(target_os = "linux")]
fn children(id: u32) -> Vec<u32> {
    let processes = std::fs::read_dir("/proc").expect("Linux").flatten();
    let parent = |process: u32| -> Option<u32> {
        let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
        // A state, then the parent, after a name in parentheses that may hold anything.
        stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
    };
    let ids = processes.filter_map(|entry| entry.file_name().to_string_lossy().parse::<u32>().ok());
    ids.filter(|process| parent(*process) == Some(id)).collect()
}

#[cfg(target_os = "linux")]
#[test]
fn a_worker_that_dies_costs_one_row_at_most() {
    use std::process::Stdio;
    use std::time::{Duration, Instant};

    let dir = folder();
    let dir = dir.path();
    let words =
        format!("tune {SMALL} --problem water-64 --variant painn_linear_receiver --budget all --strategy random");
    let child = forgefield(dir)
        .args(words.split_whitespace())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts");
    let begin = Instant::now();
    let lines = || std::fs::read_to_string(dir.join("out/records.jsonl")).unwrap_or_default().lines().count();
    while lines() < 3 {
        assert!(begin.elapsed() < Duration::from_secs(60), "nothing was recorded in a minute");
        std::thread::sleep(Duration::from_millis(5));
    }
    let workers = children(child.id());
    assert_eq!(workers.len(), 1, "one worker");
    let kill = Command::new("sh").arg("-c").arg(format!("kill -SEGV {}", workers[0])).status().expect("a shell");
    assert!(kill.success());
    let done: Done = child.wait_with_output().expect("ends").into();
    done.expect(0, &["17 configurations", "records "]);
    let screened: Vec<_> = records(dir).into_iter().filter(|r| r["stage"] == "screen").collect();
    assert_eq!(screened.len(), 17, "every configuration of the space has its row, and the default");
    let failed: Vec<_> =
        screened.iter().filter(|r| r["verdict"] != "correct" && r["verdict"] != "eliminated").collect();
    assert!(failed.len() <= 1, "{failed:?}");
    assert!(failed.iter().all(|r| r["reason"].as_str().is_some_and(|why| why.contains("signal 11"))), "{failed:?}");
    run(dir, "tables check --dir out").expect(0, &["1 entries, each with a numerical pass"]);
}

#[test]
fn records_of_another_schema_are_left_alone() {
    let dir = folder();
    let path = dir.path().join("out/records.jsonl");
    std::fs::create_dir_all(path.parent().expect("has one")).expect("made");
    std::fs::write(&path, "{\"schema\":9}\n").expect("written");
    run(dir.path(), &format!("tune {SMALL} --problem h2o --variant painn_linear_receiver --budget 1"))
        .expect(2, &["records.jsonl, line 1: schema version 9, expected 1"]);
    assert_eq!(std::fs::read_to_string(&path).expect("there"), "{\"schema\":9}\n");
}

/// A disk of so many kB for as long as it lives; `None` where this user may not mount one.
#[cfg(target_os = "linux")]
struct SmallDisk(std::path::PathBuf);

#[cfg(target_os = "linux")]
impl SmallDisk {
    fn new(path: &Path, kb: u32) -> Option<Self> {
        std::fs::create_dir_all(path).expect("made");
        let size = format!("size={kb}k");
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "forgefield-test"]).arg(path).output();
        mount.is_ok_and(|done| done.status.success()).then(|| Self(path.to_owned()))
    }

    fn mounted(&self, how: &str) {
        let done = Command::new("mount").args(["-o", how]).arg(&self.0).status().expect("it mounts");
        assert!(done.success(), "{how}");
    }
}

#[cfg(target_os = "linux")]
impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_or_read_only_disk_loses_nothing_that_was_written() {
    let dir = folder();
    let Some(disk) = SmallDisk::new(&dir.path().join("out"), 16) else {
        eprintln!("SKIPPED: this user may not mount a small disk to fill");
        return;
    };
    let words = format!("tune {SMALL} --problem water-64 --variant painn_linear_receiver --budget all");
    run(dir.path(), &words).expect(3, &["what was measured before is kept", "out/records.jsonl"]);
    let kept = records(dir.path());
    assert!(kept.iter().any(|r| r["verdict"] == "correct"), "a few lines fit");
    disk.mounted("remount,ro");
    run(dir.path(), &format!("{words} --resume")).expect(2, &["--out out: cannot write there"]);
    disk.mounted("remount,rw,size=4m");
    run(dir.path(), &format!("{words} --resume")).expect(0, &["of them from records"]);
    assert_eq!(records(dir.path())[..kept.len()], kept);
}

#[test]
fn strategies_replay_what_was_measured() {
    let dir = folder();
    let dir = dir.path();
    let all = "tune --runtime host --out out --op cell_list --problem h2o molecules --variant full_cells --budget all";
    run(dir, all).expect(0, &["records "]);
    let replay = "tune --replay out/records.jsonl --repeats 3";
    let done =
        run(dir, replay).expect(0, &["full_cells f32 on h2o", "40 of the 40 configurations of the space are recorded"]);
    for strategy in ["random", "local", "annealing", "genetic", "bayesian", "cost-model"] {
        assert!(done.out.contains(strategy), "{}", done.out);
    }
    let json =
        run(dir, &format!("{replay} --json --strategy local --problem molecules --budget 10")).expect(0, &[]).json();
    let course = &json["replays"][0]["courses"][0];
    assert_eq!((&json["repeats"], &course["strategy"]), (&3.into(), &"local".into()));
    let medians: Vec<f64> =
        course["best_so_far"].as_array().expect("a list").iter().filter_map(|q| q["median"].as_f64()).collect();
    assert!(medians.len() == 10 && medians.windows(2).all(|pair| pair[1] <= pair[0]), "{medians:?}");
    run(dir, "tune --strategy all").expect(2, &["expected --replay"]);
    run(dir, "tune --strategy bayesain").expect(2, &["did you mean `bayesian`?"]);
    run(dir, &format!("{replay} --budget 9s")).expect(2, &["a replay takes no time"]);
    run(dir, &format!("{replay} --problem water-64")).expect(1, &["nothing was replayed"]);
    run(dir, "tune --replay none.jsonl").expect(2, &["none.jsonl"]);

    // The same records for other tools.
    run(dir, "export bencher out/records.jsonl -o metrics.json").expect(0, &["wrote metrics.json"]);
    let text = std::fs::read_to_string(dir.join("metrics.json")).expect("written");
    let metrics: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(metrics.as_object().map(serde_json::Map::len), Some(2));
    run(dir, "export kernel-tuner out/records.jsonl -o caches")
        .expect(0, &["full_cells-f32-h2o-", "full_cells-f32-molecules-"]);
    run(dir, "export t4 out/records.jsonl -o one.json").expect(2, &["hold 2 searches, expected one"]);
    run(dir, "export t4 out/records.jsonl -o one.json --problem h2o").expect(0, &["wrote one.json"]);
    run(dir, "export csv out/records.jsonl -o x.csv --problem none").expect(2, &["is of what was asked for"]);
    run(dir, "export parquet out/records.jsonl -o out/records.jsonl/x").expect(2, &["cannot write there"]);
}

#[test]
fn a_space_is_explained_without_measuring() {
    let dir = folder();
    let dir = dir.path();
    let words = "tune --explain --runtime host --variant cfconv_mlp_receiver --problem h2o --features 16";
    run(dir, words).expect(0, &["16 of 48 configurations", "REMOVED", "ALONE", "next_pow2(features)"]);
    assert!(!dir.join("autotune").exists(), "nothing is written");
    let json = run(dir, &format!("{words} --json --quiet")).expect(0, &[]).json();
    assert_eq!((&json["spaces"][0]["kept"], &json["spaces"][0]["conflict"]), (&16.into(), &serde_json::json!([])));
    let space = concat!(env!("CARGO_MANIFEST_DIR"), "/../../autotune/spaces/fused_message.toml");
    let text = std::fs::read_to_string(space).expect("there");
    let text = text.replacen(
        "constraints = [",
        "constraints = [\n  \"edges_per_task <= 512\",\n  \"edges_per_task >= 16 * edges_per_tile + 400\",",
        1,
    );
    std::fs::write(dir.join("x.toml"), text).expect("written");
    run(dir, &format!("{words} --space x.toml")).expect(
        2,
        &["0 of 48", "`edges_per_task <= 512` and `edges_per_task >= 16 * edges_per_tile + 400` cannot both hold"],
    );
}

#[test]
fn shards_share_the_work_and_are_joined() {
    let dir = folder();
    let dir = dir.path();
    let tune = |out: &str, shard: &str| {
        let words =
            format!("tune --runtime host --op cell_list --variant half_cells --problem h2o --budget all --out {out}");
        run(dir, &format!("{words} --shard {shard}"))
    };
    tune("a", "0/2").expect(0, &["too few to be dealt out"]);
    tune("b", "1/2").expect(0, &["records "]);
    let merge = "tables merge all.jsonl a/records.jsonl b/records.jsonl";
    run(dir, merge).expect(0, &["wrote all.jsonl"]);
    run(dir, merge).expect(0, &["0 of them new"]);
    run(dir, "tune --replay all.jsonl --strategy random --repeats 2").expect(0, &["40 of the 40 configurations"]);
    // The same share again, somewhere else.
    tune("c", "1/2").expect(0, &[]);
    run(dir, "tables merge other.jsonl a/records.jsonl b/records.jsonl c/records.jsonl")
        .expect(2, &["both claim half_cells"]);
    assert!(!dir.join("other.jsonl").exists());
    tune("d", "2/2").expect(2, &["counted from 0"]);
}

#[cfg(target_os = "linux")]
#[test]
fn an_output_that_is_in_use_or_read_only_is_known_at_once() {
    use std::process::Stdio;

    let dir = folder();
    let dir = dir.path();
    let words = format!("tune {SMALL} --problem water-64 --variant painn_linear_receiver --budget all");
    let mut child = forgefield(dir)
        .args(words.split_whitespace())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("starts");
    let begin = std::time::Instant::now();
    let begun = || std::fs::read_to_string(dir.join("out/records.jsonl")).is_ok_and(|text| text.contains('\n'));
    while !begun() {
        assert!(begin.elapsed() < std::time::Duration::from_secs(60), "nothing was recorded in a minute");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    run(dir, &words).expect(2, &["in use by another run"]);
    // Killed, not asked: its lock goes with it, and at most the last line.
    child.kill().expect("alive");
    child.wait().expect("ends");
    run(dir, &format!("{words} --resume").replace("--budget all", "--budget 2")).expect(0, &["from records"]);
    let words = format!("tune {SMALL} --problem h2o --variant painn_linear_receiver --budget 1");
    run(dir, &words.replace("--out out", "--out /proc/forgefield"))
        .expect(2, &["--out /proc/forgefield: cannot write there"]);
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
