//! `cargo xtask new-op NAME`: the skeleton of an op, which builds and whose gate fails until its oracle and its kernels are
//! written. Everything is made in memory first: where anything is in the way, nothing is written.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::{Context, bail};
use ff_codegen::{GeneratedFile, Sources, TEMPLATE_ROOT};

use crate::{codegen, tidy};

#[cfg(test)]
mod tests;

/// A file of a new op.
struct File {
    /// Where it is, with names in place of the op's.
    path: &'static str,
    /// Its text, likewise.
    text: &'static str,
    /// What is to be written in it.
    then: &'static str,
}

/// Those of an op, in the order in which they are filled in. `{{op}}` stands for its name, `{{Op}}` for its type and `{{OP}}` for
/// the name in capitals.
const FILES: [File; 13] = [
    File {
        path: "kernel-templates/{{op}}/README.md",
        text: include_str!("new_op/README.md.txt"),
        then: "the formula, names and shapes",
    },
    File {
        path: "kernel-templates/{{op}}/variants.toml",
        text: include_str!("new_op/variants.toml.txt"),
        then: "more variants, where there are any",
    },
    File {
        path: "kernel-templates/{{op}}/mod.rs.tera",
        text: include_str!("new_op/mod.rs.tera.txt"),
        then: "their axes",
    },
    File {
        path: "crates/ff-spec/src/{{op}}.rs",
        text: include_str!("new_op/spec.rs.txt"),
        then: "inputs, outputs, what is checked of them, the cost",
    },
    File {
        path: "crates/ff-codegen/src/ops/{{op}}.rs",
        text: include_str!("new_op/codegen.rs.txt"),
        then: "their axes, as they are read from variants.toml",
    },
    File {
        path: "crates/ff-reference/src/{{op}}.rs",
        text: include_str!("new_op/reference.rs.txt"),
        then: "the oracle: until it is there every case fails",
    },
    File {
        path: "crates/ff-testkit/src/{{op}}.rs",
        text: include_str!("new_op/testkit.rs.txt"),
        then: "cases that find the op's own faults, and those faults",
    },
    File {
        path: "crates/ff-host/src/{{op}}/mod.rs",
        text: include_str!("new_op/host.rs.txt"),
        then: "the host kernel: until it is there every case fails on `host`",
    },
    File {
        path: "crates/ff-cube/src/{{op}}.rs",
        text: include_str!("new_op/cube.rs.txt"),
        then: "the cube kernel: until it is there every case fails on devices",
    },
    File {
        path: "crates/ff-kernels/src/{{op}}.rs",
        text: include_str!("new_op/kernels.rs.txt"),
        then: "default configurations, and what a launch hands to the kernels",
    },
    File {
        path: "autotune/spaces/{{op}}.toml",
        text: include_str!("new_op/space.toml.txt"),
        then: "launch parameters",
    },
    File {
        path: "crates/ff-tune/src/ops/{{op}}.rs",
        text: include_str!("new_op/tune.rs.txt"),
        then: "nothing, unless the oracle of a large problem takes long",
    },
    File {
        path: "crates/forgefield/src/ops/{{op}}.rs",
        text: include_str!("new_op/binary.rs.txt"),
        then: "what it computes in a few words; what is tuned, timed and counted",
    },
];

/// Where a line goes into a file that all ops share.
#[derive(Clone, Copy, Debug)]
enum Place {
    /// Among the modules of a crate, which rustfmt sorts.
    Modules,
    /// Before the last line of the block that begins with this line: what has the most to try comes last.
    Lines(&'static str),
    /// Before the last element of the array whose type begins so and ends with its length.
    Array(&'static str),
}

/// Every such line.
const INSERTIONS: [(&str, Place, &str); 13] = [
    ("crates/ff-spec/src/lib.rs", Place::Modules, "pub mod {{op}};"),
    ("crates/ff-spec/src/ops.rs", Place::Lines("ops! {"), "    {{op}}: {{Op}};"),
    ("crates/ff-reference/src/lib.rs", Place::Modules, "pub mod {{op}};"),
    ("crates/ff-codegen/src/ops/mod.rs", Place::Modules, "mod {{op}};"),
    (
        "crates/ff-codegen/src/ops/mod.rs",
        Place::Array("pub const ALL: [(&str, Render); "),
        "(ff_spec::{{op}}::OP, {{op}}::files)",
    ),
    ("crates/ff-testkit/src/lib.rs", Place::Modules, "pub mod {{op}};"),
    ("crates/ff-host/src/lib.rs", Place::Modules, "pub mod {{op}};"),
    ("crates/ff-cube/src/lib.rs", Place::Modules, "pub mod {{op}};"),
    ("crates/ff-kernels/src/lib.rs", Place::Modules, "pub mod {{op}};"),
    ("crates/ff-tune/src/ops/mod.rs", Place::Modules, "mod {{op}};"),
    ("crates/ff-tune/src/ops/mod.rs", Place::Array("pub(crate) const ALL: [BuiltIn; "), "{{op}}::SPACES"),
    ("crates/forgefield/src/ops/mod.rs", Place::Modules, "mod {{op}};"),
    ("crates/forgefield/src/ops/mod.rs", Place::Array("pub const ALL: [&dyn AnyOp; "), "&{{op}}::Entry"),
];

/// Words that no module can have for a name, and names that would hide a crate of the language or be taken for tests.
const RESERVED: &str = "abstract as async await become box break const continue crate do dyn else enum extern false final fn \
                        for gen if impl in let loop macro match mod move mut override priv pub ref return self static \
                        struct super trait true try type typeof unsafe unsized use virtual where while yield alloc core \
                        proc_macro std test tests";

/// Writes the skeleton and says what is next; nothing is written where anything is wrong.
pub fn run(root: &Path, name: &str) -> anyhow::Result<bool> {
    let plan = plan(root, name)?;
    let is_new = |path: &str| !root.join(path).exists();
    let (new, changed): (Vec<&str>, Vec<&str>) = plan.keys().map(String::as_str).partition(|path| is_new(path));
    for (path, text) in &plan {
        let full = root.join(path);
        fs::create_dir_all(full.parent().context("a file has a folder")?)?;
        fs::write(&full, text).with_context(|| format!("cannot write {path}"))?;
    }
    println!("new-op: wrote `{name}`");
    for (mark, paths) in [("new    ", new), ("changed", changed)] {
        paths.iter().for_each(|path| println!("  {mark} {path}"));
    }
    println!("\nIt builds, and every case of its gate fails. To be filled in, in this order (docs/write-an-op.md):");
    for File { path, then, .. } in &FILES {
        println!("  {}: {then}", named(path, name));
    }
    println!("\nWhat is missing next is said by\n  cargo run --release -- verify --op {name} --runtime host");
    Ok(true)
}

/// The text of every file that is written, by path.
fn plan(root: &Path, name: &str) -> anyhow::Result<BTreeMap<String, String>> {
    check_name(name)?;
    let mut files = BTreeMap::new();
    for File { path, text, .. } in &FILES {
        let path = named(path, name);
        if root.join(&path).exists() {
            bail!("`{name}` exists: {path}");
        }
        files.insert(path, named(text, name));
    }
    for (path, place, line) in INSERTIONS {
        let text = match files.remove(path) {
            Some(text) => text,
            None => fs::read_to_string(root.join(path)).with_context(|| format!("cannot read {path}"))?,
        };
        let is_module =
            |line: &str| line.ends_with(&format!("mod {name};")) || line.ends_with(&format!("mod {name} {{"));
        if matches!(place, Place::Modules) && text.lines().any(is_module) {
            bail!("`{name}` exists: {path} has a module of that name");
        }
        let inserted = insert(&text, place, &named(line, name));
        files.insert(
            path.to_owned(),
            inserted.with_context(|| format!("found no place in {path} for `{}`", named(line, name).trim()))?,
        );
    }
    check_type(root, name)?;
    let mut sources = Sources::load(root)?;
    let is_source =
        |path: &str| path.starts_with(TEMPLATE_ROOT) && (path.ends_with(".toml") || path.ends_with(".tera"));
    sources.0.extend(files.iter().filter(|(path, _)| is_source(path)).map(|(path, text)| (path.clone(), text.clone())));
    let generated = ff_codegen::generate_with(&sources, Some(name))?;
    files.extend(generated.into_iter().map(|file| (file.path, file.text)));
    let files = formatted(root, files)?;
    let is_change = |path: &String, text: &String| fs::read_to_string(root.join(path)).ok().as_ref() != Some(text);
    let files: BTreeMap<String, String> = files.into_iter().filter(|(path, text)| is_change(path, text)).collect();
    if let Some(violation) = tidy::naming_with(root, &files, name)?.first() {
        bail!("`{name}` would be found in files that do not mean it, expected a name of its own: {violation}");
    }
    Ok(files)
}

/// Refuses what is no name of a module in snake case.
fn check_name(name: &str) -> anyhow::Result<()> {
    let letters = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let words = name.split('_').all(|word| !word.is_empty());
    if !name.starts_with(|c: char| c.is_ascii_lowercase()) || !name.chars().all(letters) || !words {
        bail!("`{name}` is no name of an op, expected words of a to z and 0 to 9 with _ between them, as `edge_sum`");
    }
    if RESERVED.split_whitespace().any(|word| word == name) || name.ends_with("_tests") {
        bail!("`{name}` is a word of the language or taken for tests, expected another name");
    }
    Ok(())
}

/// Refuses a type that would hide one of ff-spec or of the skeleton.
fn check_type(root: &Path, name: &str) -> anyhow::Result<()> {
    let kind = type_of(name);
    let in_line = |line: &str| line.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == kind);
    let has_word = |text: &str| text.lines().filter(|line| !line.trim_start().starts_with("//")).any(in_line);
    if let Some(File { path, .. }) = FILES.iter().find(|file| has_word(&named(file.text, "_"))) {
        bail!("the type of `{name}` would be `{kind}`, which {} uses for something else", named(path, name));
    }
    for path in tidy::tracked(root)?.iter().filter(|path| path.starts_with("crates/ff-spec/src/")) {
        if has_word(&fs::read_to_string(root.join(path)).unwrap_or_default()) {
            bail!("the type of `{name}` would be `{kind}`, which {path} has already");
        }
    }
    Ok(())
}

/// The type of an op: its name in camel case.
fn type_of(name: &str) -> String {
    name.split('_').filter(|word| !word.is_empty()).map(|word| word[..1].to_uppercase() + &word[1..]).collect()
}

/// A text with the names of an op.
fn named(text: &str, name: &str) -> String {
    text.replace("{{op}}", name).replace("{{Op}}", &type_of(name)).replace("{{OP}}", &name.to_uppercase())
}

/// A text with a line more; `None` where it has no such place.
fn insert(text: &str, place: Place, line: &str) -> Option<String> {
    match place {
        Place::Modules => {
            let is_module =
                |line: &&str| line.ends_with(';') && (line.starts_with("mod ") || line.starts_with("pub mod "));
            let last = text.lines().rfind(is_module)?;
            let end = text.find(&format!("\n{last}\n"))? + last.len() + 2;
            Some(format!("{}{line}\n{}", &text[..end], &text[end..]))
        }
        Place::Lines(begin) => {
            let begin = text.find(&format!("\n{begin}\n"))? + begin.len() + 2;
            let end = begin + text[begin..].find("\n}")?;
            let last = begin + text[begin..end].rfind('\n').map_or(0, |at| at + 1);
            Some(format!("{}{line}\n{}", &text[..last], &text[last..]))
        }
        Place::Array(kind) => {
            let begin = text.find(&format!("\n{kind}"))? + 1 + kind.len();
            let (count, _) = text[begin..].split_once(']')?;
            let end = begin + count.len();
            let open = end + text[end..].find('[')? + 1;
            let close = open + text[open..].find("];")?;
            let last = open + last_element(&text[open..close])?;
            let count = count.parse::<usize>().ok()? + 1;
            Some(format!("{}{count}{}{line}, {}", &text[..begin], &text[end..last], &text[last..]))
        }
    }
}

/// Where the last element of a list begins; elements have commas within parentheses only.
fn last_element(list: &str) -> Option<usize> {
    let (mut depth, mut begins) = (0, vec![0]);
    for (at, c) in list.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth == 0 => begins.push(at + 1),
            _ => {}
        }
    }
    let filled = |begin: &usize| Some(begin + list[*begin..].find(|c: char| !c.is_whitespace())?);
    begins.iter().rev().find_map(filled)
}

/// The files, of which those of Rust are as rustfmt has them.
fn formatted(root: &Path, files: BTreeMap<String, String>) -> anyhow::Result<BTreeMap<String, String>> {
    let (rust, mut all): (BTreeMap<_, _>, BTreeMap<_, _>) =
        files.into_iter().partition(|(path, _)| path.ends_with(".rs"));
    // rustfmt looks for every module of a file: those that are not among these are empty for it.
    let mut empty = BTreeSet::new();
    for (path, text) in rust.iter().filter(|(path, _)| path.ends_with("/lib.rs") || path.ends_with("/mod.rs")) {
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        let modules = text.lines().filter_map(|line| Some(line.strip_suffix(';')?.split_once("mod ")?.1));
        let places = modules.map(|module| [format!("{folder}/{module}.rs"), format!("{folder}/{module}/mod.rs")]);
        empty.extend(places.filter(|places| places.iter().all(|path| !rust.contains_key(path))).map(|[file, _]| file));
    }
    let texts = rust.into_iter().chain(empty.iter().map(|path| (path.clone(), String::new())));
    all.extend(codegen::format(root, texts.map(|(path, text)| GeneratedFile { path, text }).collect())?);
    all.retain(|path, _| !empty.contains(path));
    Ok(all)
}
