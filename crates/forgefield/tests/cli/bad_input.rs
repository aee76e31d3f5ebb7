//! Names, files and machines that are not what they should be.

use super::*;

/// The smallest search there is.
const TUNE: &str =
    "tune --runtime host --problem h2o --variant cfconv_linear_receiver --features 8 --n-basis 4 --budget 1";

#[test]
fn unknown_names_suggest_the_nearest() {
    let dir = folder();
    let dir = dir.path();
    run(dir, "verify --variant cfconv_linear_gausian_cosine_receiver")
        .expect(2, &["unknown basis `gausian`", "`gaussian`"]);
    run(dir, "verify --variant cfconv_linear_gaussian_cosin_receiver")
        .expect(2, &["unknown cutoff `cosin`", "`cosine`"]);
    run(dir, "verify --variant pain_tabulated_receiver").expect(2, &["did you mean `painn_tabulated_receiver`?"]);
    run(dir, "verify --variant gathr").expect(2, &["unknown variant `gathr`, did you mean `gather`?"]);
    run(dir, "verify --op force_scatter --variant nonsense")
        .expect(2, &["`nonsense`", "expected one of gather, atomic"]);
    let of_another = run(dir, "eval fused_message --variant gather --inputs a --outputs b").expect(2, &["`gather`"]);
    assert!(!of_another.err.contains("did you mean"), "{}", of_another.err);
    run(dir, "verify --op fused_mesage").expect(2, &["unknown op `fused_mesage`, did you mean `fused_message`?"]);
    run(dir, "eval fused_messages --variant x --inputs a --outputs b").expect(2, &["did you mean `fused_message`?"]);
    run(dir, "tune --problem watr-64").expect(2, &["did you mean `water-64`?"]);
    run(dir, "tune --problem water-1").expect(2, &["out of range"]);
    for (words, hint) in [
        ("verify --dtype f16", "f32"),
        ("devces", "devices"),
        ("verify --runtme host", "--runtime"),
        ("tune --budget 9x", "90s"),
    ] {
        run(dir, words).expect(2, &[hint]);
    }
    run(dir, "tune --features 0").expect(2, &["--features is 0, expected 1 to 65536"]);
    run(dir, "tune --cutoff nan").expect(2, &["--cutoff is NaN, expected a positive radius"]);
}

/// A sound space, to be broken in one place each.
const SPACE: &str = r#"op = "fused_message"
[[space]]
target = "host"
reduction = "receiver"
constraints = ["channel_block <= 2 * next_pow2(features)"]
[space.parameters]
edges_per_task = [4, 16]
edges_per_tile = [32]
channel_block = [32, 64]
[space.defaults]
edges_per_task = 16
edges_per_tile = 32
channel_block = 64
"#;

#[test]
fn malformed_spaces_end_before_anything_is_measured() {
    let dir = folder();
    for (from, to, words) in [
        ("[[space]]", "[[space", ["malformed tuning space space.toml", "line 2"]),
        ("constraints =", "constrants =", ["`constrants`", "`constraints`"]),
        ("(features)", "(featres)", ["`featres`", "`features`"]),
        ("channel_block = 64", "channel_block = 100", ["default 100", "[32, 64]"]),
        ("[4, 16]", "[]", ["`edges_per_task`", "no values"]),
        ("fused_message", "fused_massage", ["`fused_massage`", "`fused_message`"]),
        ("\"receiver\"", "\"edge_atomic\"", ["no [[space]]", "reduction `receiver`"]),
    ] {
        let broken = SPACE.replacen(from, to, 1);
        assert_ne!(broken, SPACE);
        std::fs::write(dir.path().join("space.toml"), broken).expect("written");
        run(dir.path(), &format!("{TUNE} --space space.toml --out out")).expect(2, &words);
        let records = std::fs::read_to_string(dir.path().join("out/records.jsonl")).unwrap_or_default();
        assert!(records.is_empty(), "{records}");
    }
    run(dir.path(), &format!("{TUNE} --space none.toml")).expect(2, &["cannot read tuning space none.toml"]);
    std::fs::write(dir.path().join("space.toml"), SPACE).expect("written");
    run(dir.path(), &format!("{TUNE} --space space.toml --out out")).expect(0, &["records "]);
}

#[test]
fn malformed_structures_are_named_with_their_line() {
    let dir = folder();
    std::fs::write(dir.path().join("bad.xyz"), "2\nwater\nO 0 0 0\nH 0 x 0\n").expect("written");
    run(dir.path(), "tune --structure bad.xyz --out out").expect(2, &["bad.xyz:4: frame 1"]);
    run(dir.path(), "tune --structure none.xyz --out out").expect(2, &["none.xyz"]);
    assert!(!dir.path().join("out").exists());
}

#[test]
fn malformed_tables_are_refused_and_never_overwritten() {
    let dir = folder();
    run(dir.path(), &format!("{TUNE} --out out")).expect(0, &["table   "]);
    run(dir.path(), "tables check --dir out").expect(0, &["1 entries, each with a numerical pass"]);
    run(dir.path(), "tables show --dir out").expect(0, &["cfconv_linear_receiver"]);
    let slug = std::fs::read_dir(dir.path().join("out")).expect("made").flatten().find(|f| f.path().is_dir());
    let path = slug.expect("a device folder").path().join("fused_message.json");
    let text = std::fs::read_to_string(&path).expect("written");
    let name = path.display().to_string();
    for (from, to, word) in [
        ("\"entries\"", "\"entrys\"", "entrys"),
        ("\"schema\": 2", "\"schema\": 7", "schema version 7, expected 2"),
        ("\"rel_error\": ", "\"rel_error\": 1000", "relative error"),
        ("\"median_ns\"", "\"median\"", "median"),
        ("}", "", "line"),
    ] {
        let broken = text.replacen(from, to, 1);
        assert_ne!(broken, text);
        std::fs::write(&path, &broken).expect("written");
        run(dir.path(), "tables check --dir out").expect(1, &["fused_message.json", word]);
        run(dir.path(), "tables show --dir out").expect(2, &["fused_message.json", word]);
        run(dir.path(), &format!("{TUNE} --out out")).expect(2, &["fused_message.json", word]);
        assert_eq!(std::fs::read_to_string(&path).expect("there"), broken, "{name} was changed");
        // Kernels run all the same, with the default and a warning.
        let select =
            "tables select --problem h2o --variant cfconv_linear_receiver --runtime host --features 8 --dir out";
        run(dir.path(), select).expect(0, &["warning: ", "step    default"]);
    }
    run(dir.path(), "tables check --dir nowhere").expect(1, &["nothing checked"]);
    run(dir.path(), "tables check none.json").expect(1, &["none.json"]);
}

#[test]
fn an_edited_entry_is_refused_and_its_calls_take_the_default() {
    let dir = folder();
    let dir = dir.path();
    for problem in ["h2o", "water-64"] {
        let words = TUNE.replace("--problem h2o", &format!("--problem {problem}"));
        run(dir, &format!("{words} --out out")).expect(0, &["table   "]);
    }
    run(dir, "tables check --dir out").expect(0, &["2 entries, each with a numerical pass"]);
    let slug = std::fs::read_dir(dir.join("out")).expect("made").flatten().find(|f| f.path().is_dir());
    let path = slug.expect("a device folder").path().join("fused_message.json");
    let text = std::fs::read_to_string(&path).expect("written");
    let first = text.find("\"edges_per_tile\": 128").expect("the default of the first entry");
    let second = text.find("\"name\": \"water-64\"").expect("the second entry");
    assert!(first < second, "sorted by atoms");
    let (head, tail) = text.split_at(second);
    let head = |to| head.replace("\"edges_per_tile\": 128", to);
    let select = |problem: &str| {
        let sizes = "--variant cfconv_linear_receiver --features 8 --n-basis 4";
        run(dir, &format!("tables select {sizes} --problem {problem} --runtime host --dir out"))
    };
    // By a hand that forgets the pass, and by one that does not.
    let forgetful = text.replacen("\"edges_per_tile\": 128", "\"edges_per_tile\": 7", 1);
    let careful = format!("{}{tail}", head("\"edges_per_tile\": 7"));
    for (edited, word) in [(forgetful, "expected that of its pass"), (careful, "it was changed after it was measured")]
    {
        std::fs::write(&path, &edited).expect("written");
        let named = ["fused_message.json, line ", "entry 0 (`cfconv_linear_receiver", word];
        let whole = run(dir, "tables check --dir out").expect(1, &named);
        assert!(whole.out.contains("1 entries, each with a numerical pass and 1 that are refused"), "{}", whole.out);
        run(dir, &format!("tables check {}", path.display())).expect(1, &named);
        run(dir, "tables show --dir out").expect(2, &named);
        let used = select("h2o").expect(0, &["warning: ", "step    default", "is refused", word]);
        assert!(used.out.contains("edges_per_tile=128"), "{}", used.out);
        select("water-64").expect(0, &["warning: ", "step    exact device"]);
        // A search would write the table anew, without the entry.
        run(dir, &format!("{TUNE} --out out")).expect(2, &named);
        assert_eq!(std::fs::read_to_string(&path).expect("there"), edited);
    }
    // Of the format before.
    std::fs::write(&path, text.replace("\"schema\": 2", "\"schema\": 1")).expect("written");
    run(dir, "tables check --dir out").expect(1, &["schema version 1, expected 2: run `tune` again"]);
    run(dir, &format!("{TUNE} --out out")).expect(0, &["schema version 1, expected 2", "table   "]);
    run(dir, "tables check --dir out").expect(0, &["1 entries, each with a numerical pass"]);
}

#[test]
fn tables_of_other_templates_are_used_again_where_their_kernels_are_the_same() {
    let dir = folder();
    let dir = dir.path();
    run(dir, &format!("{TUNE} --out out")).expect(0, &["table   "]);
    let slug = std::fs::read_dir(dir.join("out")).expect("made").flatten().find(|f| f.path().is_dir());
    let path = slug.expect("a device folder").path().join("fused_message.json");
    let text = std::fs::read_to_string(&path).expect("written");
    let renew = format!("tables renew {}", path.display());
    run(dir, &renew).expect(0, &["of this binary's templates already"]);
    let hash = text.split("\"template_hash\": \"").nth(1).and_then(|rest| rest.split('"').next()).expect("a hash");
    std::fs::write(&path, text.replace(hash, "0123456789abcdef")).expect("written");
    run(dir, "tables check --dir out").expect(0, &["templates 0123456789abcdef", "its entries are not used"]);
    run(dir, &renew).expect(0, &["1 entries of the same kernels are used again"]);
    assert_eq!(std::fs::read_to_string(&path).expect("there"), text);
    run(dir, "tables renew none.json").expect(2, &["none.json"]);
}

/// No Vulkan driver: what a machine without one looks like.
fn without_vulkan(dir: &Path) -> Command {
    let mut command = forgefield(dir);
    command.env("VK_DRIVER_FILES", "none.json").env("VK_ICD_FILENAMES", "none.json");
    command
}

#[test]
fn a_missing_runtime_is_a_fault_where_asked_for_and_none_with_auto() {
    let dir = folder();
    let go = |words: &str| -> Done {
        without_vulkan(dir.path()).args(words.split_whitespace()).output().expect("starts").into()
    };
    let gate = "verify --variant cfconv_tabulated_receiver --dtype f32";
    for words in [gate.to_owned(), "tune --problem h2o".to_owned(), "bench --case painn-linear".to_owned()] {
        let done = go(&format!("{words} --runtime vulkan")).expect(3, &["runtime `vulkan` is not"]);
        assert_eq!(done.err.lines().count(), 1, "{}", done.err);
        if cfg!(target_os = "linux") {
            assert!(done.err.contains("; install ") && done.err.contains("`mesa-vulkan-drivers`"), "{}", done.err);
        }
    }
    if !cfg!(feature = "cuda") {
        go(&format!("{gate} --runtime cuda")).expect(3, &["runtime `cuda` is not compiled", "--features cuda"]);
        go(&format!("{gate} --runtime auto")).expect(0, &["runtime host: ", "(chosen by auto)"]);
        let devices = go("devices").expect(0, &["auto uses host", "runtime `vulkan` is not", "; install "]);
        let missing = devices.out.lines().filter(|line| line.starts_with("runtime `vulkan`"));
        assert_eq!(missing.count(), 1, "{}", devices.out);
        // Not asked for by name: said, and no failure.
        go(gate).expect(0, &["runtimes host: ", "not checked: runtime `"]);
    }
}

#[test]
fn a_folder_that_cannot_be_written_to_is_found_before_measuring() {
    let dir = folder();
    std::fs::write(dir.path().join("file"), b"mine").expect("written");
    run(dir.path(), &format!("{TUNE} --out file")).expect(2, &["--out file: cannot write there"]);
    run(dir.path(), &format!("{TUNE} --out file/below")).expect(2, &["--out file/below: cannot write there"]);
    run(dir.path(), "verify --json file/result.json").expect(2, &["cannot write file/result.json"]);
    assert_eq!(std::fs::read(dir.path().join("file")).expect("there"), b"mine");
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_ends_the_search_and_keeps_the_table() {
    let dir = folder();
    run(dir.path(), &format!("{TUNE} --out out --quiet")).expect(0, &[]);
    std::fs::rename(dir.path().join("out/records.jsonl"), dir.path().join("kept.jsonl")).expect("moved");
    std::os::unix::fs::symlink("/dev/full", dir.path().join("out/records.jsonl")).expect("linked");
    run(dir.path(), &format!("{TUNE} --out out")).expect(3, &["cannot write records", "No space left"]);
    run(dir.path(), "tables check --dir out").expect(0, &["1 entries"]);
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").expect("there");
    let done: Done = forgefield(dir.path()).arg("ops").stdout(full).output().expect("starts").into();
    done.expect(3, &["cannot write to stdout"]);
}
