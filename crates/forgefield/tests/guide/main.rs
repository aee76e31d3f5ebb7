//! Every command of `docs/`, and of the workflow that others call, is run.
//!
//! A block ```` ```sh ```` is a script of `sh -e`; ```` ```sh exit=1 ```` is expected to end with that code, and
//! ```` ```sh slow ```` is run by the ignored tests only: it builds the workspace. The blocks of a chapter run in their order in a
//! copy of the repository. A block ```` ```text ```` right behind one shows lines of its output: numbers are any numbers
//! there, and `…` is anything. Commands stand in no other kind of block, and Rust only where doctests compile it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use pulldown_cmark::{CodeBlockKind, Event, Parser, Tag, TagEnd};

mod workflow;

/// Chapters and whether they have Rust, which is compiled as doctests of the crate that it is about.
const CHAPTERS: &[(&str, bool)] = &[
    ("README", false),
    ("add-a-basis", false),
    ("add-a-variant", false),
    ("burn", true),
    ("gate", false),
    ("models", false),
    ("notebook", false),
    ("report", false),
    ("sweep", false),
    ("training", false),
    ("tune-a-gpu", false),
    ("write-an-op", true),
];

/// What a chapter shows.
#[derive(Debug, PartialEq)]
enum Block {
    Script { text: String, exit: i32, slow: bool },
    Output(String),
    Rust,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the workspace")
}

/// The blocks of a text in their order; TOML, JSON and YAML are there to be read.
fn blocks(text: &str) -> Result<Vec<Block>, String> {
    let (mut found, mut open) = (Vec::new(), None::<(String, String)>);
    for event in Parser::new(text) {
        match event {
            Event::Start(Tag::CodeBlock(kind)) => {
                let CodeBlockKind::Fenced(info) = kind else { return Err("a block without a fence".to_owned()) };
                open = Some((info.to_string(), String::new()));
            }
            Event::Text(text) => {
                if let Some((_, block)) = &mut open {
                    block.push_str(&text);
                }
            }
            Event::End(TagEnd::CodeBlock) => {
                let (info, text) = open.take().unwrap_or_default();
                found.extend(block(&info, text)?);
            }
            _ => {}
        }
    }
    Ok(found)
}

fn block(info: &str, text: String) -> Result<Option<Block>, String> {
    let mut words = info.split_whitespace();
    let (mut exit, mut slow) = (0, false);
    let language = words.next().unwrap_or_default();
    for word in words {
        match (language, word, word.strip_prefix("exit=").and_then(|code| code.parse().ok())) {
            ("sh", "slow", _) => slow = true,
            ("sh", _, Some(code)) => exit = code,
            _ => return Err(format!("```{info}: `{word}` means nothing here")),
        }
    }
    match language {
        "sh" => Ok(Some(Block::Script { text, exit, slow })),
        "text" => Ok(Some(Block::Output(text))),
        "rust" => Ok(Some(Block::Rust)),
        // Python is run by the tests of the wheel.
        "python" | "toml" | "json" | "yaml" => Ok(None),
        _ => Err(format!("```{info}: expected sh, text, rust, python, toml, json or yaml")),
    }
}

/// A line with `#` for every number and single spaces.
fn without_numbers(line: &str) -> String {
    let mut text = String::new();
    for c in line.split_whitespace().collect::<Vec<_>>().join(" ").chars() {
        match c {
            '0'..='9' if text.ends_with('#') => {}
            '.' if text.ends_with('#') => {}
            '0'..='9' => text.push('#'),
            c => text.push(c),
        }
    }
    text
}

/// Whether an output has a line that reads as this one.
fn shows(output: &str, line: &str) -> bool {
    let parts: Vec<String> = line.split('…').map(without_numbers).collect();
    output.lines().map(without_numbers).any(|found| {
        let mut rest = found.as_str();
        parts.iter().all(|part| {
            let part = part.trim();
            let at = rest.find(part);
            at.inspect(|at| rest = &rest[at + part.len()..]).is_some()
        })
    })
}

/// Copies what a clone would have into a folder of the target directory, always the same, so that builds there are kept.
fn copy_of_the_repository(name: &str) -> PathBuf {
    let (root, to) = (root(), Path::new(env!("CARGO_TARGET_TMPDIR")).join("guide").join(name));
    if to.exists() {
        fs::remove_dir_all(&to).expect("the copy of an earlier run");
    }
    copy(&root, &to, &root);
    // Repository rules are about files that git knows.
    for words in [&["init", "--quiet"][..], &["add", "--all"]] {
        let done = Command::new("git").args(words).current_dir(&to).output().expect("git");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }
    to
}

fn copy(from: &Path, to: &Path, root: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder").flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        let at_root = from == root;
        if at_root && ["target", ".git", "carry"].iter().any(|skipped| name == *skipped) {
            continue;
        }
        if path.is_dir() {
            copy(&path, &to.join(name), root);
        } else {
            // With the time of its change, which cargo looks at.
            fs::copy(&path, to.join(&name)).expect("a file");
            let changed = path.metadata().and_then(|meta| meta.modified()).expect("a time");
            fs::File::options()
                .write(true)
                .open(to.join(name))
                .and_then(|file| file.set_modified(changed))
                .expect("a time");
        }
    }
}

/// Runs a script; its output, whatever it says where.
fn run(script: &str, exit: i32, folder: &Path, slow: bool) -> String {
    let binary = Path::new(env!("CARGO_BIN_EXE_forgefield"));
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = Command::new("sh");
    command.args(["-e", "-c", &format!("exec 2>&1\n{script}")]).current_dir(folder);
    command.env("PATH", format!("{}:{path}", binary.parent().expect("a folder").display())).env("NO_COLOR", "1");
    command.env_remove("XDG_RUNTIME_DIR").env_remove("RUSTC_BOOTSTRAP");
    // Where the registry's crates are built already. What a chapter changes of the code is built apart from all others: to cargo two
    // copies are one package, and the later build is newer than what the other one changed.
    let target = binary.ancestors().nth(2).expect("target/release/forgefield");
    command.env(
        "CARGO_TARGET_DIR",
        if slow { target.join("guide").join(folder.file_name().expect("a chapter")) } else { target.to_owned() },
    );
    let done = command.output().expect("sh");
    let output = String::from_utf8_lossy(&done.stdout).into_owned();
    assert_eq!(done.status.code(), Some(exit), "{script}\nsaid: {output}");
    output
}

fn chapter(name: &str, with_slow: bool) {
    let text = fs::read_to_string(root().join(format!("docs/{name}.md"))).expect("a chapter");
    let blocks = blocks(&text).unwrap_or_else(|e| panic!("docs/{name}.md: {e}"));
    let folder = copy_of_the_repository(name);
    let mut last = None;
    for block in &blocks {
        match block {
            Block::Script { text, exit, slow } => {
                last = (with_slow || !slow).then(|| run(text, *exit, &folder, with_slow));
            }
            Block::Output(shown) => {
                let Some(output) = &last else { continue };
                for line in shown.lines().filter(|line| !line.trim().is_empty()) {
                    assert!(shows(output, line), "docs/{name}.md shows\n{line}\nwhich is not in\n{output}");
                }
            }
            Block::Rust => last = None,
        }
    }
}

macro_rules! chapters {
    ($($test:ident $slow:ident $name:literal;)*) => {
        $(
            #[test]
            fn $test() {
                chapter($name, false);
            }

            #[test]
            #[ignore = "builds the workspace"]
            fn $slow() {
                let text = fs::read_to_string(root().join(concat!("docs/", $name, ".md"))).expect("a chapter");
                if text.contains("```sh slow") {
                    chapter($name, true);
                }
            }
        )*

        #[test]
        fn every_chapter_is_run() {
            let run: Vec<&str> = vec![$($name),*];
            assert_eq!(run, CHAPTERS.iter().map(|(name, _)| *name).collect::<Vec<_>>());
        }
    };
}

chapters! {
    contents contents_slow "README";
    add_a_basis add_a_basis_slow "add-a-basis";
    add_a_variant add_a_variant_slow "add-a-variant";
    burn burn_slow "burn";
    gate gate_slow "gate";
    models models_slow "models";
    notebook notebook_slow "notebook";
    report report_slow "report";
    sweep sweep_slow "sweep";
    training training_slow "training";
    tune_a_gpu tune_a_gpu_slow "tune-a-gpu";
    write_an_op write_an_op_slow "write-an-op";
}

#[test]
fn chapters_are_those_of_the_folder() {
    let mut found: Vec<String> = fs::read_dir(root().join("docs"))
        .expect("docs")
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.strip_suffix(".md").map(str::to_owned))
        .collect();
    found.sort_unstable();
    assert_eq!(found, CHAPTERS.iter().map(|(name, _)| *name).collect::<Vec<_>>());
    let contents = fs::read_to_string(root().join("docs/README.md")).expect("contents");
    for (name, has_rust) in CHAPTERS {
        assert!(*name == "README" || contents.contains(&format!("({name}.md)")), "{name} is not in the contents");
        let text = fs::read_to_string(root().join(format!("docs/{name}.md"))).expect("a chapter");
        let blocks = blocks(&text).unwrap_or_else(|e| panic!("docs/{name}.md: {e}"));
        assert_eq!(blocks.contains(&Block::Rust), *has_rust, "{name}: Rust that is compiled nowhere");
    }
}

#[test]
fn links_lead_somewhere() {
    for (name, _) in CHAPTERS {
        let text = fs::read_to_string(root().join(format!("docs/{name}.md"))).expect("a chapter");
        for event in Parser::new(&text) {
            let (Event::Start(Tag::Link { dest_url, .. }) | Event::Start(Tag::Image { dest_url, .. })) = event else {
                continue;
            };
            let path = dest_url.split('#').next().unwrap_or_default();
            if !path.contains("://") && !path.is_empty() {
                assert!(root().join("docs").join(path).exists(), "docs/{name}.md leads to {path}, which is not there");
            }
        }
    }
}

#[test]
fn blocks_say_what_they_are() {
    let text = "a\n```sh exit=2\nfalse\n```\n```text\nx\n```\n```sh slow\ntrue\n```\n```toml\na = 1\n```\n";
    assert_eq!(
        blocks(text),
        Ok(vec![
            Block::Script { text: "false\n".to_owned(), exit: 2, slow: false },
            Block::Output("x\n".to_owned()),
            Block::Script { text: "true\n".to_owned(), exit: 0, slow: true },
        ])
    );
    for bad in ["```console\n$ ls\n```", "```\nls\n```", "```sh fast\nls\n```", "```text slow\n```", "    ls\n"] {
        assert!(blocks(bad).is_err(), "{bad}");
    }
}

#[test]
fn shown_output_is_found_whatever_its_numbers() {
    let output = "runtime host: AMD EPYC\npainn   12.25 ms ± 3\n";
    assert!(shows(output, "painn 7 ms ± 0.1") && shows(output, "runtime host: …") && shows(output, "…EPYC"));
    assert!(!shows(output, "painn 7 ns") && !shows(output, "runtime … INTEL"));
}
