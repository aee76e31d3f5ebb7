//! A skeleton in a copy of the repository: what is written, what is refused, and what it is good for.

use std::process::Command;

use super::*;

/// No op that anybody adds.
const NAME: &str = "unwritten_sum";

fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("crates/xtask is two levels below")
}

/// The files of the repository below these paths, in a folder of their own that git knows.
fn copied(below: &[&str]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for path in tidy::tracked(workspace()).unwrap() {
        let (from, to) = (workspace().join(&path), folder.path().join(&path));
        if from.exists() && below.iter().any(|below| path.starts_with(below)) {
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            fs::copy(from, to).unwrap();
        }
    }
    assert!(Command::new("git").args(["init", "-q"]).current_dir(folder.path()).status().unwrap().success());
    folder
}

/// What the command reads.
fn sources() -> tempfile::TempDir {
    copied(&["crates/", "kernel-templates/", "autotune/spaces/", "rustfmt.toml"])
}

/// Every file with its text.
fn texts(root: &Path) -> BTreeMap<String, String> {
    let text = |path: String| (path.clone(), fs::read_to_string(root.join(path)).unwrap());
    tidy::tracked(root).unwrap().into_iter().map(text).collect()
}

fn refused(root: &Path, name: &str) -> String {
    format!("{:#}", run(root, name).expect_err(name))
}

#[test]
fn a_skeleton_is_whole_and_as_the_rules_ask() {
    let folder = sources();
    let root = folder.path();
    let before = texts(root);
    run(root, NAME).unwrap();
    let after = texts(root);

    // Every file and line is there, and of the files that were there nothing but these lines.
    for path in FILES.iter().map(|file| named(file.path, NAME)) {
        assert!(after[&path].contains(NAME), "{path}");
        assert!(!["{{op}}", "{{Op}}", "{{OP}}"].iter().any(|left| after[&path].contains(left)), "{path}");
    }
    for (path, _, line) in INSERTIONS {
        assert!(after[path].contains(named(line, NAME).trim()), "{path}");
    }
    let inserted: BTreeSet<&str> = INSERTIONS.iter().map(|(path, ..)| *path).collect();
    let generated = format!("{}/mod.rs", ff_codegen::GENERATED_FOLDERS[0]);
    for (path, text) in &before {
        let may_change = inserted.contains(path.as_str()) || *path == generated;
        assert_eq!(*text != after[path], may_change, "{path}");
    }

    // As rustfmt has them, and sorted. It follows modules into other files, which the shared ones have.
    let (changed, new): (Vec<&String>, Vec<&String>) = after
        .keys()
        .filter(|path| path.ends_with(".rs") && before.get(*path) != Some(&after[*path]))
        .partition(|path| before.contains_key(*path));
    let mut check = Command::new("rustfmt");
    check
        .args(["--check", "--edition", "2024", "--config-path"])
        .arg(root)
        .args(new.iter().map(|path| root.join(path)));
    assert!(check.status().unwrap().success());
    let changed: BTreeMap<String, String> =
        changed.into_iter().map(|path| (path.clone(), after[path].clone())).collect();
    assert_eq!(formatted(root, changed.clone()).unwrap(), changed);
    let fits = |path: &&String| after[*path].lines().all(|line| line.chars().count() <= 130);
    assert!(new.iter().all(fits));

    // As codegen renders them and tidy asks.
    let sources = Sources::load(root).unwrap();
    let rendered = codegen::format(root, ff_codegen::generate_with(&sources, Some(NAME)).unwrap()).unwrap();
    assert_eq!(rendered.keys().collect::<Vec<_>>(), codegen::tree(root).unwrap().iter().collect::<Vec<_>>());
    assert!(rendered.iter().all(|(path, text)| after[path] == *text));
    assert!(rendered[&format!("crates/ff-kernels/src/generated/{NAME}.rs")].contains("&[\"unwritten_sum\"]"));
    assert_eq!(tidy::naming_with(root, &BTreeMap::new(), NAME).unwrap(), Vec::<String>::new());
    assert_eq!(tidy::registered(root, &tidy::tracked(root).unwrap()).unwrap(), Vec::<String>::new());

    // Once.
    assert!(refused(root, NAME).contains("`unwritten_sum` exists: kernel-templates/unwritten_sum/README.md"));
    assert_eq!(texts(root), after);
}

#[test]
fn names_that_are_none_or_are_taken_are_refused() {
    let folder = sources();
    let before = texts(folder.path());
    for (name, expected) in [
        ("EdgeSum", "is no name of an op"),
        ("edge-sum", "is no name of an op"),
        ("edge__sum", "is no name of an op"),
        ("_sum", "is no name of an op"),
        ("sum_", "is no name of an op"),
        ("2sums", "is no name of an op"),
        ("", "is no name of an op"),
        ("../sum", "is no name of an op"),
        ("match", "is a word of the language"),
        ("gen", "is a word of the language"),
        ("std", "is a word of the language"),
        ("tests", "taken for tests"),
        // Modules of crates that have other names, and types of ff-spec and of the skeleton.
        ("digest", "`digest` exists: crates/ff-spec/src/digest.rs"),
        ("buffers", "`buffers` exists: crates/ff-cube/src/buffers.rs"),
        ("host", "`host` exists: crates/ff-kernels/src/lib.rs has a module of that name"),
        ("problem", "the type of `problem` would be `Problem`"),
        ("cube_config", "the type of `cube_config` would be `CubeConfig`"),
        // In the words of other files.
        ("sum", "`sum` would be found in files that do not mean it"),
    ] {
        let error = refused(folder.path(), name);
        assert!(error.contains(expected), "{name}: {error}");
    }
    assert_eq!(texts(folder.path()), before);
}

#[test]
fn without_one_place_nothing_is_written() {
    let folder = sources();
    let root = folder.path();
    for (path, place, line) in INSERTIONS {
        let whole = fs::read_to_string(root.join(path)).unwrap();
        let broken = match place {
            Place::Modules => whole.replace("mod ", "module "),
            Place::Lines(begin) | Place::Array(begin) => whole.replace(&format!("\n{begin}"), "\nelsewhere "),
        };
        assert_ne!(broken, whole, "{path}");
        fs::write(root.join(path), broken).unwrap();
        let before = texts(root);
        let error = refused(root, NAME);
        let line = named(line, NAME);
        assert!(error.contains(&format!("found no place in {path} for `{}`", line.trim())), "{error}");
        assert_eq!(texts(root), before);
        fs::write(root.join(path), whole).unwrap();
    }
    fs::remove_file(root.join(INSERTIONS[0].0)).unwrap();
    assert!(refused(root, NAME).contains("cannot read crates/ff-spec/src/lib.rs"));
    assert!(!root.join(format!("kernel-templates/{NAME}")).exists());
}

#[test]
fn lines_go_before_the_last_of_a_list() {
    let lines = "a! {\n}\n\nb! {\n    x: X;\n    y: Y;\n}\n";
    assert_eq!(insert(lines, Place::Lines("b! {"), "    n: N;").unwrap(), lines.replace("    y", "    n: N;\n    y"));
    for (list, expected) in [
        ("\nconst A: [T; 2] =\n    [x, y];\n", "\nconst A: [T; 3] =\n    [x, n, y];\n"),
        ("\nconst A: [T; 1] = [x];\n", "\nconst A: [T; 2] = [n, x];\n"),
        (
            "\nconst A: [T; 2] = [\n    (x, f),\n    (y, g),\n];\n",
            "\nconst A: [T; 3] = [\n    (x, f),\n    n, (y, g),\n];\n",
        ),
    ] {
        assert_eq!(insert(list, Place::Array("const A: [T; "), "n").as_deref(), Some(expected));
    }
    assert_eq!(insert("\nconst A: [T; N] = [x];\n", Place::Array("const A: [T; "), "n"), None);
    let modules = "mod a;\n/// Of c.\npub mod c;\n\nuse c::C;\n\nmod tests {\n}\n";
    assert_eq!(insert(modules, Place::Modules, "mod b;").unwrap(), modules.replace("mod c;\n", "mod c;\nmod b;\n"));
}

/// That the skeleton builds, that its gate fails in every case with what is to be written, and that the other ops do as before.
/// Builds the workspace from nothing; `FORGEFIELD_SOAK_TARGET` names a folder that keeps what was built.
#[test]
#[ignore = "builds the workspace in release"]
fn a_skeleton_builds_and_its_gate_fails() {
    let folder = copied(&[""]);
    let root = folder.path();
    let target = std::env::var_os("FORGEFIELD_SOAK_TARGET").map_or_else(|| root.join("target"), Into::into);
    let others = tidy::ops(&tidy::tracked(root).unwrap());
    run(root, NAME).unwrap();
    let cargo = |words: &str| {
        let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
        let mut command = Command::new(cargo);
        command.args(words.split_whitespace()).current_dir(root).env("CARGO_TARGET_DIR", &target);
        // What cargo says of this crate to this test is not true of the copy.
        std::env::vars()
            .filter(|(name, _)| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_"))
            .for_each(|(name, _)| {
                command.env_remove(name);
            });
        let output = command.output().unwrap();
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stdout).into_owned(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    };
    for words in ["fmt --all -- --check", "xtask codegen --check", "xtask tidy"] {
        let (code, _, said) = cargo(words);
        assert_eq!(code, Some(0), "{words}: {said}");
    }
    let (code, summary, said) = cargo(&format!("run --release --quiet -- verify --op {NAME} --runtime host --json -"));
    assert_eq!(code, Some(1), "{said}");
    let summary: serde_json::Value = serde_json::from_str(&summary).unwrap();
    let cases = summary["cases"].as_array().unwrap();
    assert!(!cases.is_empty() && summary["failed"] == cases.len(), "{summary}");
    for case in cases {
        let reason = case["reason"].as_str().unwrap_or_default();
        assert!(
            reason.contains("not written yet: write `forward` in crates/ff-reference/src/unwritten_sum.rs"),
            "{case}"
        );
    }
    for op in others {
        let (code, _, said) = cargo(&format!("run --release --quiet -- verify --op {op} --runtime host"));
        assert_eq!(code, Some(0), "{op}: {said}");
    }
}
