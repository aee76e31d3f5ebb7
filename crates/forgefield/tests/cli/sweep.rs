//! Sweeps and notebooks: from a description to results that are gated, kept and shown.

use std::fs;

use serde_json::Value;

use super::*;

/// A sweep of milliseconds over small kernels.
const SWEEP: &str = r#"
schema = 1
beside = ["implementation"]
[sampling]
seconds = 0
least = 3
most = 3
[axes]
variant = ["painn_linear_bessel_cosine_receiver", "cfconv_mlp_gaussian_cosine_edge_atomic"]
problem = ["h2o", "molecules"]
implementation = ["kernel", "fused", "unfused"]
order = [0, 1]
features = 8
n_basis = 4
hidden = 8
[[exclude]]
implementation = "kernel"
order = 1
[[include]]
variant = "cfconv_tabulated_receiver"
problem = "molecules"
table_tolerance = [1e-2, 1e-5]
[[include]]
variant = "cfconv_linear_gaussian_cosine_receiver"
n_atoms = 64
degree = 6
skew = [0, 1]
order = [0, 1, 2]
[[include]]
variant = ["full_cells", "half_brute"]
problem = "molecules"
[[include]]
variant = "gather"
problem = "molecules"
order = [0, 1, 2]
"#;

fn written(text: &str) -> tempfile::TempDir {
    let dir = folder();
    fs::create_dir_all(dir.path().join("x")).expect("a folder");
    fs::write(dir.path().join("x/sweep.toml"), text).expect("writable");
    dir
}

fn lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).expect("results");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[test]
fn a_sweep_measures_every_row_once_and_goes_on_where_it_was_cut() {
    let dir = written(SWEEP);
    let (dir, results) = (dir.path(), dir.path().join("x/results.jsonl"));
    let plan = run(dir, "sweep x/sweep.toml --runtime host --dry-run --json").expect(0, &[]).json();
    let rows = plan["rows"].as_array().expect("rows").len();
    // 2 variants × 2 problems × (3 + 2), and 2 + 6 + 2 + 3 included.
    assert_eq!((rows, plan["excluded"].as_u64()), (33, Some(4)));
    assert!(plan["predicted_s"].as_f64().is_some_and(|s| s > 0.0) && !results.exists());
    run(dir, "sweep x/sweep.toml --runtime host --quiet").expect(0, &["correct", "results x/results.jsonl (33 rows"]);
    let whole = lines(&results);
    assert_eq!(whole.len(), rows);
    for line in &whole {
        assert_eq!((&line["verdict"], &line["sweep"]), (&"correct".into(), &"x".into()), "{line}");
        assert_eq!(line["samples_ns"].as_array().map(Vec::len), Some(3), "{line}");
        // Gated on both sides, and compared with more than zeros.
        assert!(
            line["rel_error"].as_array().is_some_and(|e| e.len() == 2 && e.iter().all(|e| e.as_f64() < Some(1e-3)))
        );
        assert_eq!((&line["device"]["software"], &line["device"]["runtime"]), (&false.into(), &"host".into()));
        assert!(line["versions"]["burn"].is_string() && line["kernel_hash"] != "", "{line}");
    }
    let errors = |tolerance: f64| -> f64 {
        let of = |line: &&Value| line["row"]["table_tolerance"].as_f64() == Some(tolerance);
        let line = whole.iter().find(of).expect("a table");
        line["metrics"]["force_rel_error"].as_f64().expect("an error")
    };
    assert!(errors(1e-5) < errors(1e-2) && errors(1e-2) < 0.5, "a finer table is nearer to the filter");
    let csv = fs::read_to_string(dir.join("x/results.csv")).expect("beside it");
    assert_eq!(csv.lines().count(), 1 + 3 * rows, "a row per sample");
    assert!(fs::metadata(dir.join("x/results.parquet")).is_ok_and(|file| file.len() > 1000));

    // As a run that was killed in its last line leaves it.
    let text = fs::read(&results).expect("there");
    fs::write(&results, &text[..text.len() - 40]).expect("writable");
    let done =
        run(dir, "sweep x/sweep.toml --runtime host --resume --json").expect(0, &["dropped the torn last line 33"]);
    assert_eq!(done.json()["rows"].as_array().map(Vec::len), Some(1), "the torn row alone");
    assert!(fs::read(&results).expect("there").starts_with(&text[..text.len() - 4000]), "nothing before it is touched");
    run(dir, "sweep x/sweep.toml --runtime host --resume")
        .expect(0, &["33 rows are in the results", "nothing was measured"]);
    assert_eq!(lines(&results).len(), rows);
}

#[test]
fn shards_are_everything() {
    let dir = written(SWEEP);
    let dir = dir.path();
    let mut all = Vec::new();
    for shard in 0..3 {
        let words = format!("sweep x/sweep.toml --runtime host --dry-run --json --shard {shard}/3");
        let plan = run(dir, &words).expect(0, &[]).json();
        all.extend(plan["rows"].as_array().expect("rows").iter().map(|planned| planned["row"].to_string()));
    }
    let count = all.len();
    all.sort();
    all.dedup();
    assert_eq!((count, all.len()), (33, 33));
}

#[test]
fn bad_sweeps_end_before_anything_is_measured() {
    for (from, to, words) in [
        ("[sampling]", "[smpling]", ["unknown key `smpling`", "did you mean `sampling`?"]),
        ("problem = [", "problm = [", ["unknown key `axes.problm`", "did you mean `problem`?"]),
        ("\"h2o\", ", "\"h3o\", ", ["unknown built-in structure `h3o`", "did you mean `h2o`?"]),
        ("painn_linear_bessel", "pain_linear_bessel", ["did you mean `painn_linear_bessel_cosine_receiver`?", "row "]),
        ("\"unfused\"]", "\"unfuse\"]", ["`axes.implementation`", "expected one of kernel, fused, unfused"]),
        (
            "order = [0, 1]\nfeatures",
            "order = [0, 3]\nfeatures",
            ["order 3 of op `fused_message`", "expected at most 2"],
        ),
        ("degree = 6\n", "", ["expected either `problem`", "`n_atoms` with `degree`"]),
        ("degree = 6\n", "degree = -4\n", ["`degree` is -4", "expected a degree from 0"]),
        ("degree = 6\n", "degree = 4.4\n", ["`degree` is 4.4", "expected a whole number"]),
        ("features = 8\n", "features = 0\n", ["row ", ": features is 0, expected 1 to 65536"]),
        ("[1e-2, 1e-5]", "[1e-2, 0.0]", ["`table_tolerance` is 0", "expected a positive number"]),
        ("[1e-2, 1e-5]", "[1e-2, -1]", ["`table_tolerance` is -1", "expected a positive number"]),
        ("[1e-2, 1e-5]", "1e-2\ntable_order = 0", ["`table_order` is 0", "expected 2 (cubic) or 3"]),
        (
            "hidden = 8\n",
            "hidden = 8\nconfig.edges_per_tle = 1\n",
            ["unknown launch parameter `edges_per_tle`", "did you mean `edges_per_tile`?"],
        ),
        (
            "hidden = 8\n",
            "hidden = 8\nconfig.edges_per_tile = 1000000000000\n",
            ["`config.edges_per_tile` is 1000000000000", "expected at most 65536"],
        ),
        (
            "\"half_brute\"]\n",
            "\"half_brute\"]\nfeatures = [16, 32]\n",
            ["no use for `features`", "expected one of them"],
        ),
        ("schema = 1", "schema = 1\nlimit = 10", ["37 rows", "expected at most 10"]),
        ("schema = 1", "schema = 7", ["schema version 7", "expected 1"]),
    ] {
        assert!(SWEEP.contains(from), "{from}");
        let dir = written(&SWEEP.replacen(from, to, 1));
        run(dir.path(), "sweep x/sweep.toml --runtime host").expect(2, &words);
        assert!(!dir.path().join("x/results.jsonl").exists(), "`{to}`: nothing is written");
    }
    let dir = written(SWEEP);
    let dir = dir.path();
    run(dir, "sweep none.toml").expect(2, &["sweep none.toml: cannot be read"]);
    run(dir, "sweep x/sweep.toml --shard 3/3").expect(2, &["expected a share such as `0/4`"]);
    let results = dir.join("x/results.jsonl");
    fs::write(&results, "{\"schema\":9}\n").expect("writable");
    run(dir, "sweep x/sweep.toml --runtime host")
        .expect(2, &["results x/results.jsonl, line 1: schema version 9", "expected 1"]);
    fs::write(&results, "{\"schema\":1}\n{\"schema\":1}\n").expect("writable");
    run(dir, "sweep x/sweep.toml --runtime host").expect(2, &["results x/results.jsonl, line 1: missing field"]);
    assert_eq!(fs::read_to_string(&results).expect("there"), "{\"schema\":1}\n{\"schema\":1}\n", "kept");
}

/// Some lists of milliseconds.
const LISTS: &str = "schema = 1\n[sampling]\nseconds = 0\nleast = 3\nmost = 3\n[axes]\nvariant = \"full_cells\"\n\
                     problem = [\"h2o\", \"molecules\"]\n";

#[test]
fn an_axis_that_no_row_has_a_use_for_is_refused() {
    let dir = written(&format!("{LISTS}hidden = 8\n"));
    run(dir.path(), "sweep x/sweep.toml --runtime host --dry-run")
        .expect(2, &["axis `hidden`", "no row has a use for it"]);
}

#[test]
fn a_table_out_of_reach_is_a_row_without_a_time() {
    let dir = written(
        "schema = 1\n[sampling]\nseconds = 0\nleast = 3\nmost = 3\n[axes]\nvariant = \"cfconv_tabulated_receiver\"\n\
         problem = \"h2o\"\nfeatures = 4\nn_basis = 4\nhidden = 4\ntable_tolerance = [1e-30, 1e-2]\n",
    );
    run(dir.path(), "sweep x/sweep.toml --runtime host").expect(0, &["constraint", "(2 rows"]);
    let results = lines(&dir.path().join("x/results.jsonl"));
    let verdicts: Vec<&Value> = results.iter().map(|line| &line["verdict"]).collect();
    assert_eq!(verdicts, ["constraint", "correct"]);
    assert!(results[0]["reason"].as_str().is_some_and(|reason| reason.contains("asked for 1.0e-30")), "{}", results[0]);
    assert_eq!((&results[0]["problem"]["n_basis"], &results[0]["problem"]["hidden"]), (&4.into(), &0.into()));
}

#[test]
fn a_dry_run_predicts_what_a_run_would_do() {
    let dir = written(LISTS);
    let (dir, results) = (dir.path(), dir.path().join("x/results.jsonl"));
    run(dir, "sweep x/sweep.toml --runtime host --quiet").expect(0, &[]);
    let plan = |words: &str| run(dir, &format!("sweep x/sweep.toml --dry-run {words}"));
    let done = plan("--runtime host --resume --json").expect(0, &["2 rows are in the results already"]).json();
    assert_eq!((done["rows"].as_array().map(Vec::len), done["predicted_s"].as_f64()), (Some(0), Some(0.0)));
    fs::write(dir.join("x/sweep.toml"), LISTS.replace("\"h2o\"", "\"ch4\", \"h2o\"")).expect("writable");
    let left = plan("--runtime host --resume --json").expect(0, &[]).json();
    assert_eq!(left["rows"].as_array().map(Vec::len), Some(1));
    assert_eq!((&left["rows"][0]["row"]["problem"], &left["rows"][0]["basis"]), (&"ch4".into(), &"mean".into()));
    let all = plan("--runtime host").expect(0, &["3 rows", "2 as measured before", "1 by the mean of what was"]);
    assert!(!all.out.contains(" min"), "milliseconds are no minutes: {}", all.out);
    // What the host took says nothing of another runtime.
    plan("--runtime vulkan").expect(0, &["(3 by what the sampling allows)"]);
    // As a run that was killed in its last line leaves it.
    let text = fs::read(&results).expect("there");
    fs::write(&results, &text[..text.len() - 40]).expect("writable");
    plan("--runtime host").expect(0, &["warning: x/results.jsonl: torn last line 2"]);
    assert_eq!(fs::read(&results).expect("there").len(), text.len() - 40, "a dry run drops nothing");
}

/// One search of a dozen configurations, and every strategy over it.
#[test]
fn a_replay_is_a_sweep_without_a_device() {
    let sweep = "schema = 1\nkind = \"replay\"\nreplay = { records = \"records.jsonl\", searches = 3 }\n[axes]\n\
                 variant = \"full_cells\"\nproblem = \"h2o\"\nstrategy = [\"random\", \"local\", \"cost-model\"]\n";
    let dir = written(sweep);
    let dir = dir.path();
    run(dir, "sweep x/sweep.toml").expect(2, &["cannot read records x/records.jsonl"]);
    run(dir, "tune --runtime host --variant full_cells --problem h2o --budget all --out x --quiet").expect(0, &[]);
    run(dir, "sweep x/sweep.toml --runtime host").expect(2, &["a replay runs nowhere"]);
    run(dir, "sweep x/sweep.toml").expect(0, &["strategy=random", "skipped"]);
    let results = lines(&dir.join("x/results.jsonl"));
    assert_eq!(results.len(), 3);
    assert!(results[0]["metrics"]["evaluations_until_near_median"].as_f64().is_some_and(|n| n >= 1.0));
    assert!(results[2]["reason"].as_str().is_some_and(|reason| reason.contains("no other problem")));
    // What was searched another number of times, or in other records, is another result.
    run(dir, "sweep x/sweep.toml --resume").expect(0, &["3 rows are in the results already"]);
    fs::write(dir.join("x/sweep.toml"), sweep.replace("searches = 3", "searches = 4")).expect("writable");
    run(dir, "sweep x/sweep.toml --resume").expect(0, &["strategy=random", "(3 rows"]);
    let again = lines(&dir.join("x/results.jsonl"));
    assert_eq!(again.len(), 6);
    assert!(again[3]["replayed"].as_str().is_some_and(|of| of.starts_with("4 searches of records ")), "{}", again[3]);
    fs::write(dir.join("x/sweep.toml"), sweep.replace("h2o", "co2")).expect("writable");
    run(dir, "sweep x/sweep.toml").expect(2, &["no such search", "full_cells f32 on h2o"]);
}

#[test]
fn notebooks_are_as_new_as_their_results_or_say_so() {
    let dir = written(
        "schema = 1\n[sampling]\nseconds = 0\nleast = 3\nmost = 3\n[axes]\nvariant = \"full_cells\"\nproblem = \"h2o\"\n",
    );
    let (dir, book) = (dir.path(), dir.path().join("notebooks-export/x.ipynb"));
    run(dir, "notebook x").expect(2, &["cannot read x/README.md"]);
    fs::write(dir.join("x/README.md"), "# X\n\nWhat was asked.\n\n![a](a.svg)\n").expect("writable");
    let cells = "# %% tags=[\"parameters\"]\nresults = \"results.jsonl\"\n# %% figure=\"a\"\nprint(results)\n";
    fs::write(dir.join("x/analysis.py"), cells).expect("writable");
    run(dir, "notebook x").expect(2, &["cannot read x/results.jsonl"]);
    run(dir, "sweep x/sweep.toml --runtime host --quiet").expect(0, &[]);
    run(dir, "notebook x").expect(2, &["no figure `a`", "experiments/draw"]);
    let draw = || {
        use std::process::Command;
        let hash = Command::new("sha256sum").arg(dir.join("x/results.jsonl")).output().expect("coreutils");
        let hash = String::from_utf8_lossy(&hash.stdout).split(' ').next().unwrap_or_default().to_owned();
        for kind in ["svg", "png"] {
            fs::write(dir.join(format!("x/a.{kind}")), &hash).expect("writable");
        }
    };
    draw();
    run(dir, "notebook x --check").expect(1, &["x.ipynb: missing", "1 of 1 notebooks are not up to date"]);
    run(dir, "notebook x").expect(0, &["wrote notebooks-export/x.ipynb"]);
    run(dir, "notebook x --check").expect(0, &["up to date"]);
    let text = fs::read_to_string(&book).expect("written");
    let notebook: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!((&notebook["nbformat"], &notebook["nbformat_minor"]), (&4.into(), &5.into()));
    assert_eq!(notebook["cells"][1]["source"][0], "results = \"../x/results.jsonl\"");

    // What it puts out is other than would be written, or cannot be written at all.
    let mut cleared = notebook.clone();
    cleared["cells"][2]["outputs"] = Value::Array(Vec::new());
    fs::write(&book, cleared.to_string()).expect("writable");
    run(dir, "notebook x --check").expect(1, &["its outputs or its metadata are others"]);
    run(dir, "notebook x").expect(0, &["wrote notebooks-export/x.ipynb"]);
    assert_eq!(fs::read_to_string(&book).expect("there"), text);
    fs::remove_file(dir.join("x/a.svg")).expect("there");
    run(dir, "notebook x --check").expect(2, &["no figure `a`"]);
    draw();
    // Results that a run left in its last line are no results to show.
    let results = fs::read_to_string(dir.join("x/results.jsonl")).expect("there");
    fs::write(dir.join("x/results.jsonl"), format!("{results}{}", &results[..100])).expect("writable");
    for words in ["notebook x", "notebook x --check"] {
        run(dir, words).expect(2, &["x/results.jsonl: torn last line 2", "`forgefield sweep --resume` drops it"]);
    }
    run(dir, "sweep x/sweep.toml --runtime host --resume --quiet").expect(0, &["dropped the torn last line 2"]);
    assert_eq!(fs::read_to_string(dir.join("x/results.jsonl")).expect("there"), results);

    // Measured again: figures, then the notebook, are of other results.
    run(dir, "sweep x/sweep.toml --runtime host --quiet").expect(0, &[]);
    run(dir, "notebook x --check").expect(1, &["older than its results"]);
    run(dir, "notebook x").expect(2, &["figure `a` is of other results"]);
    draw();
    run(dir, "notebook x").expect(0, &["wrote"]);

    // Edited by hand: kept, and said so.
    let mine = fs::read_to_string(&book).expect("written").replace("print(results)", "print(1)");
    fs::write(&book, &mine).expect("writable");
    run(dir, "notebook x --check").expect(0, &["edited by hand"]);
    run(dir, "notebook x").expect(1, &["edited by hand, kept"]);
    assert_eq!(fs::read_to_string(&book).expect("there"), mine);
    run(dir, "notebook x --force").expect(0, &["wrote"]);
    fs::write(&book, "mine").expect("writable");
    run(dir, "notebook x").expect(2, &["it is kept"]);
    assert_eq!(fs::read_to_string(&book).expect("there"), "mine");
}

#[test]
fn notebooks_of_results_that_no_sweep_made_want_objects_alone() {
    let dir = tempfile::tempdir().expect("a folder");
    let dir = dir.path();
    fs::create_dir(dir.join("x")).expect("writable");
    fs::write(dir.join("x/README.md"), "# X\n\nWhat was asked.\n").expect("writable");
    let cells = "# %% tags=[\"parameters\"]\nresults = \"results.jsonl\"\n";
    fs::write(dir.join("x/analysis.py"), cells).expect("writable");
    for (results, expected) in [
        ("", "x/results.jsonl: no results"),
        ("{\"a\": 1}\n[2]\n", "x/results.jsonl:2: expected an object of JSON"),
        ("{\"a\": 1}\n{\"a\"", "x/results.jsonl:2: expected an object of JSON"),
    ] {
        fs::write(dir.join("x/results.jsonl"), results).expect("writable");
        run(dir, "notebook x").expect(2, &[expected]);
    }
    fs::write(dir.join("x/results.jsonl"), "{\"a\": 1}\n{\"a\": 2}\n").expect("writable");
    run(dir, "notebook x").expect(0, &["wrote notebooks-export/x.ipynb"]);
}
