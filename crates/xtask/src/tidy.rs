//! `cargo xtask tidy`: the repository's rules as checks. Every violation is listed, none stops the others.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, bail};
use ff_codegen::{HEADER_START, Sources, TEMPLATE_ROOT};
use serde::Deserialize;

use crate::codegen;

/// The workspace's crates and which of its other crates each may depend on: the table in `ARCHITECTURE.md`.
const ALLOWED: &[(&str, &[&str])] = &[
    ("ff-spec", &[]),
    ("ff-reference", &["ff-spec"]),
    ("ff-codegen", &["ff-spec"]),
    ("ff-tables", &["ff-spec"]),
    ("ff-host", &["ff-spec"]),
    ("ff-cube", &["ff-spec"]),
    ("ff-kernels", &["ff-spec", "ff-host", "ff-cube"]),
    ("ff-record", &["ff-spec", "ff-cube", "ff-kernels"]),
    ("ff-yardstick", &["ff-spec", "ff-kernels", "ff-ops"]),
    ("ff-testkit", &["ff-spec", "ff-reference"]),
    ("ff-ops", &["ff-spec", "ff-kernels", "ff-tables"]),
    ("ff-tune", &["ff-spec", "ff-tables", "ff-reference", "ff-testkit"]),
    ("ff-export", &["ff-spec", "ff-tables", "ff-tune"]),
    ("ff-report", &["ff-spec", "ff-tables", "ff-tune", "ff-testkit"]),
    ("ff-structure", &["ff-spec", "ff-kernels"]),
    ("ff-model", &["ff-spec", "ff-kernels", "ff-structure"]),
    ("ff-md", &["ff-model", "ff-structure"]),
    ("ff-nn", &["ff-spec", "ff-kernels", "ff-model", "ff-ops", "ff-structure", "ff-tables"]),
    ("ff-train", &["ff-spec", "ff-kernels", "ff-model", "ff-nn", "ff-ops", "ff-structure"]),
    ("ff-ipi", &[]),
    ("ff-sweep", &["ff-spec", "ff-tables", "ff-tune", "ff-export"]),
    (
        "forgefield",
        &[
            "ff-spec",
            "ff-reference",
            "ff-host",
            "ff-cube",
            "ff-kernels",
            "ff-record",
            "ff-yardstick",
            "ff-tables",
            "ff-testkit",
            "ff-ops",
            "ff-tune",
            "ff-export",
            "ff-ipi",
            "ff-md",
            "ff-model",
            "ff-nn",
            "ff-report",
            "ff-structure",
            "ff-sweep",
            "ff-train",
        ],
    ),
    ("ff-python", &["ff-spec", "ff-model", "ff-structure"]),
    ("training", &["ff-spec", "ff-ops", "ff-structure", "ff-yardstick"]),
    ("xtask", &["ff-spec", "ff-codegen"]),
];

/// What any crate's tests may use besides: tests are where kernels and oracle meet.
const ALLOWED_IN_TESTS: &[&str] = &["ff-spec", "ff-reference", "ff-testkit"];

/// The packages of tests across crates: they may use all of them.
const TESTS: &[&str] = &["ff-tests", "ff-ops-tests"];

/// The package that `cargo build` means.
const BINARY: &str = "forgefield";

/// The Python module, which is built together with the binary.
const MODULE: &str = "ff-python";

/// Crates that must build where no GPU crate does, and fast.
const LIGHT: &[&str] = &["ff-spec", "ff-reference", "ff-codegen", "ff-tables", "ff-testkit", "xtask"];

/// Lines with tags of a template in percent; beyond it nobody can review what is rendered.
const MOST_TAGS: usize = 40;

/// Lines of a template that are read at one glance: one that only instantiates may have tags on each of them.
const GLANCE: usize = 40;

/// First components of absolute paths that name one person's machine. `/usr`, `/proc` and the like name a system.
const PRIVATE_ROOTS: &[&str] = &["work", "home", "root", "Users", "mnt", "workspace"];

/// Checks every rule; false and a list on stderr where any is broken.
pub fn run(root: &Path) -> anyhow::Result<bool> {
    let packages = packages(root)?;
    let files = tracked(root)?;
    let sources = Sources::load(root)?;
    let mut rules: Vec<(&str, Vec<String>)> = vec![
        ("dependencies", dependencies(&packages)),
        ("pins", pins(&packages)),
        ("lints", lints(root, &packages)?),
        ("generated files", generated(root, &sources)?),
        ("template tags", tags(&sources)),
        ("paths", paths(root, &files)),
    ];
    rules.push(("registered ops", registered(root, &files)?));
    let read = |path: &String| (path.clone(), fs::read_to_string(root.join(path)).unwrap_or_default());
    let ops = ops(&files);
    let texts: Vec<(String, String)> = files.iter().filter(|path| is_shared(path, &ops)).map(read).collect();
    rules.push(("files that name an op", naming(&texts, &ops)));
    let readmes: Vec<(String, String)> =
        ops.iter().map(|op| read(&format!("{TEMPLATE_ROOT}/{op}/README.md"))).collect();
    rules.push(("radial function table", base_table(&sources, &readmes)));
    let wheel = &["build", "--package", BINARY, "--package", MODULE][..];
    let [built, wheel, tested] =
        [&["build"][..], wheel, &["test", "--workspace", "--no-run"]].map(|build| units(root, build));
    rules.push(("features", apart(&(&built? | &wheel?), &tested?)));

    let broken: usize = rules.iter().map(|(_, violations)| violations.len()).sum();
    for (rule, violations) in &rules {
        for violation in violations {
            eprintln!("tidy: {rule}: {violation}");
        }
    }
    if broken > 0 {
        eprintln!("tidy: {broken} violations");
    } else {
        println!("tidy: {} rules hold", rules.len());
    }
    Ok(broken == 0)
}

/// Where every op is registered with the cases of its orders: a file each, listed in one table.
const REGISTRY: &str = "crates/forgefield/src/ops";

/// Ops that are declared and not registered, or registered and not listed.
pub fn registered(root: &Path, files: &[String]) -> anyhow::Result<Vec<String>> {
    let read = |path: &String| (path.clone(), fs::read_to_string(root.join(path)).unwrap_or_default());
    let below = format!("{REGISTRY}/");
    let registry: Vec<(String, String)> =
        files.iter().filter(|path| path.starts_with(&below) && path.ends_with(".rs")).map(read).collect();
    let table = fs::read_to_string(root.join(format!("{below}mod.rs"))).unwrap_or_default();
    let code: String = registry.iter().map(|(_, text)| text.as_str()).collect();
    let mut nouns = String::new();
    for path in files.iter().filter(|path| path.starts_with("crates/ff-spec/src/") && path.ends_with(".rs")) {
        nouns += &fs::read_to_string(root.join(path))?;
    }
    Ok([unregistered(&nouns, &code), unlisted(&registry, &table)].concat())
}

/// Ops and orders of `nouns`, the sources of ff-spec, that `registry` does not name: no gate would ever see them.
fn unregistered(nouns: &str, registry: &str) -> Vec<String> {
    let declared = nouns.lines().filter_map(|line| line.trim_start().strip_prefix("impl Op for "));
    // What the macro that declares them calls an op is no op.
    let names: Vec<&str> =
        declared.filter_map(|rest| rest.split([' ', ':']).next()).filter(|name| !name.starts_with('$')).collect();
    if names.is_empty() {
        return vec!["no `impl Op for` was found in ff-spec".to_owned()];
    }
    // As the argument of a step of a registration: an import or a word in a comment registers nothing.
    let steps = ["op::<", "first::<", "second::<"];
    let code: String = registry.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
    let named = |name: &str| steps.iter().any(|step| code.contains(&format!("{step}{name}>")));
    names
        .into_iter()
        .filter(|name| !named(name))
        .map(|name| format!("`{name}` is an op of ff-spec that {REGISTRY} does not register"))
        .collect()
}

/// Modules of `files`, each a path with its text, that register an op and are no line of the table, which every command goes
/// through.
fn unlisted(files: &[(String, String)], table: &str) -> Vec<String> {
    let list = table.split_once("ALL: [").and_then(|(_, rest)| rest.split_once("];")).map_or("", |(list, _)| list);
    let registers = |text: &str| text.lines().any(|line| line.starts_with("const REGISTRATION:"));
    let module = |path: &str| path.rsplit('/').next().unwrap_or_default().trim_end_matches(".rs").to_owned();
    files
        .iter()
        .filter(|(path, text)| registers(text) && !list.contains(&format!("&{}::", module(path))))
        .map(|(path, _)| format!("{path} registers an op that `ALL` of {REGISTRY}/mod.rs does not list"))
        .collect()
}

/// The most files that all ops share and that name one op.
const MOST_NAMING: usize = 6;

/// What it is of the ops that were there before this was counted, by line: none of these numbers may grow.
const NAMING_BEFORE: &str = include_str!("naming.txt");

/// Every op: one has a folder of templates with a list of its variants.
pub fn ops(files: &[String]) -> Vec<String> {
    let of_folder =
        |path: &String| Some(path.strip_prefix(TEMPLATE_ROOT)?.strip_suffix("/variants.toml")?[1..].to_owned());
    files.iter().filter_map(of_folder).collect()
}

/// What [`naming`] will say of an op once some files have these texts.
pub fn naming_with(root: &Path, texts: &BTreeMap<String, String>, op: &str) -> anyhow::Result<Vec<String>> {
    let mut files = tracked(root)?;
    files.extend(texts.keys().filter(|path| !root.join(path).exists()).cloned());
    let ops = ops(&files);
    let text = |path: &String| match texts.get(path) {
        Some(text) => text.clone(),
        None => fs::read_to_string(root.join(path)).unwrap_or_default(),
    };
    let shared: Vec<(String, String)> =
        files.iter().filter(|path| is_shared(path, &ops)).map(|path| (path.clone(), text(path))).collect();
    Ok(naming(&shared, &[op.to_owned()]))
}

/// Of the files that all ops share, each a path with its text, those that name an op, where they are more than [`MOST_NAMING`] or
/// [`NAMING_BEFORE`] allows. A file is shared unless it is an op's own (`<op>.rs`, or anywhere below `<op>/`), generated, a test,
/// a document or data of the tuner; `mod <op>;` names nothing, since the language asks for it in each crate.
fn naming(shared: &[(String, String)], ops: &[String]) -> Vec<String> {
    let mut violations = Vec::new();
    for op in ops {
        let found: Vec<&str> =
            shared.iter().filter(|(_, text)| names(text, op)).map(|(path, _)| path.as_str()).collect();
        let before = NAMING_BEFORE.lines().filter_map(|line| line.split_once(' ')).find(|(known, _)| known == op);
        let most = before.and_then(|(_, most)| most.parse().ok()).unwrap_or(MOST_NAMING);
        if found.len() > most {
            violations.push(format!(
                "{} shared files name `{op}`, expected at most {most}: {}",
                found.len(),
                found.join(", ")
            ));
        }
    }
    violations
}

/// Crates that are made of ops and so name them: models, and their gradients.
const OF_OPS: [&str; 3] = ["crates/ff-model/", "crates/ff-nn/", "crates/ff-train/"];

/// Whether a file is code that all ops share.
fn is_shared(path: &str, ops: &[String]) -> bool {
    let code = [".rs", ".toml", ".py", ".sh", ".json"].iter().any(|end| path.ends_with(end)) || path == ".ci/run";
    let own = |part: &str| ops.iter().any(|op| part.strip_suffix(".rs").unwrap_or(part) == op);
    // Data, documents, and what is generated from them.
    let apart = ["autotune/", "docs/", "experiments/", "notebooks-export/", "tests/", "kernel-templates/", ".git"];
    let is_test = |part: &str| ["tests", "tests.rs", "testing.rs"].contains(&part) || part.ends_with("_tests.rs");
    code && !apart.iter().chain(&OF_OPS).any(|start| path.starts_with(start))
        && !path.split('/').any(|part| own(part) || is_test(part) || part == "generated")
}

/// Whether code names an op by its name or one of its types, in something else than a declaration of its module or a unit test.
fn names(text: &str, op: &str) -> bool {
    let text = text.split_once("#[cfg(test)]\nmod tests {").map_or(text, |(code, _)| code);
    let kind: String = op.split('_').map(|word| word[..1].to_uppercase() + &word[1..]).collect();
    let declared = [format!("mod {op};"), format!("pub mod {op};"), format!("pub(crate) mod {op};")];
    let lines = text.lines().map(str::trim).filter(|line| !declared.iter().any(|mods| mods == line));
    lines.into_iter().any(|line| line.contains(op) || line.contains(&kind))
}

/// What this reads of a unit of cargo's graph.
#[derive(Debug, Deserialize)]
struct Unit {
    pkg_id: String,
    features: Vec<String>,
    profile: UnitProfile,
}

#[derive(Debug, Deserialize)]
struct UnitProfile {
    opt_level: String,
}

#[derive(Debug, Deserialize)]
struct Units {
    units: Vec<Unit>,
}

/// What a release build compiles: `name@version: features, opt-level`. What is compiled for the build itself, as macros are, has
/// features of its own, which `cargo tree` does not tell apart.
fn units(root: &Path, build: &[&str]) -> anyhow::Result<BTreeSet<String>> {
    let arguments = [build, &["--release", "--unit-graph", "-Z", "unstable-options"]].concat();
    let command = Command::new(cargo()).args(&arguments).env("RUSTC_BOOTSTRAP", "1").current_dir(root).output();
    let text = said(&arguments.join(" "), command)?;
    let units = serde_json::from_str::<Units>(&text).context("cannot read cargo's graph of units")?.units;
    let line = |Unit { pkg_id, features, profile }: Unit| {
        let package = pkg_id.rsplit(['/', '#']).next().unwrap_or_default();
        format!("{package}: {}, opt-level {}", features.join(" "), profile.opt_level)
    };
    Ok(units.into_iter().map(line).collect())
}

/// Packages that `cargo build` or the wheel compiles with other features than the tests do, so that they and all above them would
/// be compiled twice: lines of `built` that `tested` does not have. What tests do not compile at all is compiled once.
fn apart(built: &BTreeSet<String>, tested: &BTreeSet<String>) -> Vec<String> {
    let like = |line: &str| {
        let package = line.split_once(' ').map_or(line, |(package, _)| package);
        let found: Vec<&str> = tested.iter().map(String::as_str).filter(|line| line.starts_with(package)).collect();
        found.join("` or `")
    };
    built
        .difference(tested)
        .filter(|line| !like(line).is_empty())
        .map(|line| {
            format!("a build has `{line}`, expected what tests have, `{}`: {BINARY} can turn that on", like(line))
        })
        .collect()
}

/// What this reads of `cargo metadata`.
#[derive(Debug, Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Debug, Deserialize)]
struct Package {
    name: String,
    manifest_path: String,
    dependencies: Vec<Dependency>,
}

#[derive(Debug, Deserialize)]
struct Dependency {
    name: String,
    req: String,
    /// Null for a normal dependency, else `dev` or `build`.
    kind: Option<String>,
    /// Set for the workspace's own crates.
    path: Option<String>,
}

fn cargo() -> String {
    std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned())
}

fn packages(root: &Path) -> anyhow::Result<Vec<Package>> {
    let text = output(root, &cargo(), &["metadata", "--no-deps", "--format-version", "1"])?;
    Ok(serde_json::from_str::<Metadata>(&text).context("cannot read the output of `cargo metadata`")?.packages)
}

/// Files that git tracks, and those that it would if they were added.
pub fn tracked(root: &Path) -> anyhow::Result<Vec<String>> {
    let text = output(root, "git", &["ls-files", "-z", "--cached", "--others", "--exclude-standard"])?;
    Ok(text.split('\0').filter(|path| !path.is_empty()).map(str::to_owned).collect())
}

fn output(root: &Path, program: &str, arguments: &[&str]) -> anyhow::Result<String> {
    said(
        &format!("{program} {}", arguments.join(" ")),
        Command::new(program).args(arguments).current_dir(root).output(),
    )
}

/// What a command printed, where it ended well.
fn said(command: &str, output: std::io::Result<std::process::Output>) -> anyhow::Result<String> {
    let output = output.with_context(|| format!("cannot run `{command}`"))?;
    if !output.status.success() {
        bail!("`{command}` failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    String::from_utf8(output.stdout).with_context(|| format!("`{command}` printed something that is not UTF-8"))
}

fn dependencies(packages: &[Package]) -> Vec<String> {
    let mut violations = Vec::new();
    for package in packages.iter().filter(|p| !TESTS.contains(&p.name.as_str())) {
        let Some((_, allowed)) = ALLOWED.iter().find(|(name, _)| *name == package.name) else {
            violations.push(format!("`{}` is not in the table of allowed dependencies", package.name));
            continue;
        };
        for dependency in &package.dependencies {
            let (name, dev) = (dependency.name.as_str(), dependency.kind.as_deref() == Some("dev"));
            if dependency.path.is_some() && !allowed.contains(&name) && !(dev && ALLOWED_IN_TESTS.contains(&name)) {
                let expected = if allowed.is_empty() { "none".to_owned() } else { allowed.join(", ") };
                let kind = dependency.kind.as_deref().unwrap_or("normal");
                violations.push(format!("`{}` has a {kind} dependency on `{name}`, allowed: {expected}", package.name));
            }
            if LIGHT.contains(&package.name.as_str()) && is_gpu(name) {
                violations
                    .push(format!("`{}` depends on `{name}`, expected to build without GPU crates", package.name));
            }
        }
    }
    violations
}

/// The two families whose versions have to move together.
fn is_gpu(name: &str) -> bool {
    ["burn", "cubecl"]
        .iter()
        .any(|family| name.strip_prefix(family).is_some_and(|rest| rest.is_empty() || rest.starts_with('-')))
}

fn pins(packages: &[Package]) -> Vec<String> {
    let all = packages.iter().flat_map(|p| p.dependencies.iter().map(move |d| (p, d)));
    all.filter(|(_, d)| is_gpu(&d.name) && !d.req.starts_with('='))
        .map(|(p, d)| format!("`{}` depends on `{} {}`, expected an exact version (`=…`)", p.name, d.name, d.req))
        .collect()
}

fn lints(root: &Path, packages: &[Package]) -> anyhow::Result<Vec<String>> {
    let mut violations = Vec::new();
    for package in packages {
        let text = fs::read_to_string(&package.manifest_path)
            .with_context(|| format!("cannot read the manifest of `{}`", package.name))?;
        let manifest: toml::Table = toml::from_str(&text)?;
        if manifest.get("lints").and_then(|l| l.get("workspace")) != Some(&toml::Value::Boolean(true)) {
            let path = Path::new(&package.manifest_path);
            let shown = path.strip_prefix(root).unwrap_or(path).display();
            violations.push(format!("{shown}: expected `[lints] workspace = true`"));
        }
    }
    Ok(violations)
}

fn generated(root: &Path, sources: &Sources) -> anyhow::Result<Vec<String>> {
    let expected: BTreeSet<String> = ff_codegen::generate(sources)?.into_iter().map(|file| file.path).collect();
    let found: BTreeSet<String> = codegen::tree(root)?.into_iter().collect();
    let mut violations: Vec<String> =
        found.difference(&expected).map(|path| format!("{path}: nothing generates it; remove it")).collect();
    violations.extend(expected.difference(&found).map(|path| format!("{path}: missing; run `cargo xtask codegen`")));
    for path in &found {
        if !fs::read_to_string(root.join(path)).unwrap_or_default().starts_with(HEADER_START) {
            violations.push(format!("{path}: expected the first line to start with `{HEADER_START}`"));
        }
    }
    Ok(violations)
}

fn tags(sources: &Sources) -> Vec<String> {
    let templates = sources.0.iter().filter(|(path, _)| path.ends_with(".tera"));
    templates
        .filter_map(|(path, text)| {
            let (tagged, lines) = tagged_lines(text);
            (lines > GLANCE && tagged * 100 > lines * MOST_TAGS).then(|| {
                let share = (100 * tagged).div_ceil(lines.max(1));
                format!("{path}: {tagged} of {lines} lines have tags ({share} %), expected at most {MOST_TAGS} %")
            })
        })
        .collect()
}

/// Lines that a Tera tag touches, and all lines that are not blank.
fn tagged_lines(text: &str) -> (usize, usize) {
    let (mut tagged, mut lines, mut open) = (0, 0, false);
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let last = |marks: [&str; 3]| marks.iter().filter_map(|m| line.rfind(m)).max();
        let (start, end) = (last(["{{", "{%", "{#"]), last(["}}", "%}", "#}"]));
        lines += 1;
        tagged += usize::from(open || start.is_some());
        open = match (start, end) {
            (Some(start), Some(end)) => start > end,
            (Some(_), None) => true,
            (None, Some(_)) => false,
            (None, None) => open,
        };
    }
    (tagged, lines)
}

fn paths(root: &Path, files: &[String]) -> Vec<String> {
    let mut violations = Vec::new();
    for file in files {
        // Images and the like are not text, and a file deleted in the tree is still listed.
        let Ok(text) = fs::read_to_string(root.join(file)) else { continue };
        for (index, line) in text.lines().enumerate() {
            if let Some(path) = absolute_path(line) {
                violations.push(format!("{file}:{}: `{path}`, expected a path relative to the repository", index + 1));
            }
        }
    }
    violations
}

/// The first absolute path of a line that no other machine has.
fn absolute_path(line: &str) -> Option<&str> {
    let path_from = |start: usize| {
        let rest = &line[start..];
        &rest[..rest.find(|c: char| c.is_whitespace() || "\"'`)>,;".contains(c)).unwrap_or(rest.len())]
    };
    for root in PRIVATE_ROOTS {
        let pattern = format!("/{root}/");
        for (start, _) in line.match_indices(&pattern) {
            // Within a longer path or an address it is relative to that.
            let before = line[..start].chars().next_back();
            if !before.is_some_and(|c| c.is_alphanumeric() || "._-~*})]>".contains(c)) {
                return Some(path_from(start));
            }
        }
    }
    // A drive letter, a link or a dependency that starts at the root.
    for prefix in ["](", "path = \""] {
        let starts = line.match_indices(prefix).map(|(at, _)| at + prefix.len());
        if let Some(start) = starts.into_iter().find(|start| line[*start..].starts_with('/')) {
            return Some(path_from(start));
        }
    }
    line.match_indices(":\\").find_map(|(colon, _)| {
        let letter = line[..colon].chars().next_back()?;
        let before = line[..colon - letter.len_utf8()].chars().next_back();
        (letter.is_ascii_uppercase() && !before.is_some_and(char::is_alphanumeric)).then(|| path_from(colon - 1))
    })
}

/// Radial functions that have no row in the README beside them; each of `readmes` is a path with its text.
fn base_table(sources: &Sources, readmes: &[(String, String)]) -> Vec<String> {
    let missing = |(readme, text): &(String, String)| -> Vec<String> {
        let bases = format!("{}bases", readme.trim_end_matches("README.md"));
        sources
            .in_folder(&bases, "toml")
            .filter(|(_, name, _)| !text.lines().any(|line| line.starts_with(&format!("| `{name}` |"))))
            .map(|(path, name, _)| format!("{path}: expected a row that starts with | `{name}` | in {readme}"))
            .collect()
    };
    readmes.iter().flat_map(missing).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, dependencies: &[(&str, &str, Option<&str>)]) -> Package {
        let dependency = |(name, req, kind): &(&str, &str, Option<&str>)| Dependency {
            name: (*name).to_owned(),
            req: (*req).to_owned(),
            kind: kind.map(str::to_owned),
            path: name.starts_with("ff-").then(|| format!("crates/{name}")),
        };
        let dependencies = dependencies.iter().map(dependency).collect();
        Package { name: name.to_owned(), manifest_path: String::new(), dependencies }
    }

    #[test]
    fn features_that_tests_alone_turn_on_are_found() {
        let lines = |lines: &[&str]| -> BTreeSet<String> { lines.iter().map(|line| (*line).to_owned()).collect() };
        let tested = lines(&[
            "bytes@1.0.0: default std, opt-level 3",
            "memchr@2.0.0: std, opt-level 0",
            "rand@1.0.0: , opt-level 3",
        ]);
        let same = lines(&["bytes@1.0.0: default std, opt-level 3", "memchr@2.0.0: std, opt-level 0"]);
        assert_eq!(apart(&same, &tested), Vec::<String>::new());
        let found = apart(&lines(&["bytes@1.0.0: default std, opt-level 3", "memchr@2.0.0: , opt-level 0"]), &tested);
        let expected =
            "a build has `memchr@2.0.0: , opt-level 0`, expected what tests have, `memchr@2.0.0: std, opt-level 0`: ";
        assert!(found.len() == 1 && found[0].starts_with(expected), "{found:?}");
    }

    #[test]
    fn dependency_rules() {
        let fine = [
            package(
                "ff-ops",
                &[("ff-kernels", "*", None), ("ff-testkit", "*", Some("dev")), ("burn", "=0.21.0", None)],
            ),
            package(TESTS[0], &[("forgefield", "*", None), ("xtask", "*", None)]),
        ];
        assert_eq!(dependencies(&fine), Vec::<String>::new());
        let broken = dependencies(&[
            package("ff-codegen", &[("ff-kernels", "*", None), ("cubecl-core", "=0.10.0", None)]),
            package("ff-ops", &[("ff-tune", "*", Some("dev"))]),
            package("ff-new", &[]),
        ]);
        assert_eq!(
            broken,
            [
                "`ff-codegen` has a normal dependency on `ff-kernels`, allowed: ff-spec",
                "`ff-codegen` depends on `cubecl-core`, expected to build without GPU crates",
                "`ff-ops` has a dev dependency on `ff-tune`, allowed: ff-spec, ff-kernels, ff-tables",
                "`ff-new` is not in the table of allowed dependencies",
            ]
        );
    }

    #[test]
    fn gpu_crates_are_pinned_exactly() {
        let loose = package("ff-kernels", &[("cubecl", "^0.10", None), ("burner", "1", None)]);
        assert_eq!(pins(&[loose]), ["`ff-kernels` depends on `cubecl ^0.10`, expected an exact version (`=…`)"]);
    }

    #[test]
    fn an_op_that_no_gate_sees_is_found() {
        let nouns =
            "impl Op for $op {\n}\nops! {\n    impl Op for Message: message, 0;\nimpl Op for MessageBackward {\n}\n";
        assert_eq!(unregistered(nouns, "op::<Message>().first::<MessageBackward>()"), Vec::<String>::new());
        let found = unregistered(nouns, "op::<Message>()");
        assert_eq!(found.len(), 1);
        assert!(found[0].contains("`MessageBackward`"), "{found:?}");
        let mentioned =
            "use Message;\n// op::<Message>() some day\nop::<Message>()\n    // .first::<MessageBackward>()\n";
        assert_eq!(unregistered(nouns, mentioned).len(), 1, "a comment and an import register nothing");
        assert_eq!(unregistered("", "").len(), 1, "nothing to check is no pass");
        let file = |name: &str, text: &str| (format!("{REGISTRY}/{name}.rs"), text.to_owned());
        let files = [file("one", "const REGISTRATION: A = op::<A>();\n"), file("names", "fn find() {}\n")];
        assert_eq!(unlisted(&files, "pub const ALL: [&dyn AnyOp; 1] = [&one::One];"), Vec::<String>::new());
        assert_eq!(unlisted(&files, "pub const ALL: [&dyn AnyOp; 1] = [&two::Two];").len(), 1);
        assert_eq!(unlisted(&files, "").len(), 1, "no table lists nothing");
    }

    #[test]
    fn an_op_is_named_in_its_own_files() {
        let ops = ["edge_sum".to_owned()];
        for (path, shared) in [
            ("crates/a/src/run.rs", true),
            ("crates/a/Cargo.toml", true),
            ("crates/a/src/edge_sum.rs", false),
            ("crates/a/src/edge_sum/bench.rs", false),
            ("crates/a/src/generated/mod.rs", false),
            ("crates/a/src/run/tests.rs", false),
            ("crates/a/tests/cli/main.rs", false),
            ("autotune/spaces/other.toml", false),
            ("README.md", false),
        ] {
            assert_eq!(is_shared(path, &ops), shared, "{path}");
        }
        assert!(names("use crate::edge_sum::OP;", "edge_sum") && names("fn of(_: EdgeSum) {}", "edge_sum"));
        assert!(!names("pub mod edge_sum;\nfn run() {}\n#[cfg(test)]\nmod tests {\n    // edge_sum\n}", "edge_sum"));
    }

    #[test]
    fn tags_are_counted_by_line() {
        assert_eq!(tagged_lines("a\n\n{{ b }}\n{% if c\n and d %}\ne\n"), (3, 5));
        let template = |text: &str| Sources([("t.rs.tera".to_owned(), text.to_owned())].into());
        let of = |tagged, plain| tags(&template(&("{{ a }}\n".repeat(tagged) + &"b\n".repeat(plain))));
        for allowed in [(GLANCE, 0), (20, 30)] {
            assert_eq!(of(allowed.0, allowed.1), Vec::<String>::new());
        }
        assert_eq!(of(30, 15), ["t.rs.tera: 30 of 45 lines have tags (67 %), expected at most 40 %"]);
    }

    #[test]
    fn private_paths_are_found() {
        let private = |rest: &str| format!("/{}/{rest}", "home");
        for (line, found) in [
            (format!("let p = \"{}\";", private("me/x.toml")), Some(private("me/x.toml"))),
            (format!("see {}", private("a, b")), Some(private("a"))),
            (format!("https://example.org{}", private("a")), None),
            (format!("shared{}", private("a")), None),
            ("read /proc/cpuinfo and /usr/lib".to_owned(), None),
            (format!("[text]({}docs/a.md)", '/'), Some("/docs/a.md".to_owned())),
            (format!("C:{}temp", '\\'), Some(format!("C:{}temp", '\\'))),
            ("a = b / c; x /= 2".to_owned(), None),
        ] {
            assert_eq!(absolute_path(&line), found.as_deref(), "{line}");
        }
    }

    #[test]
    fn every_base_has_its_row() {
        let bases =
            ["gaussian", "bessel"].map(|b| (format!("{TEMPLATE_ROOT}/fused_message/bases/{b}.toml"), String::new()));
        let readme = format!("{TEMPLATE_ROOT}/fused_message/README.md");
        let found = base_table(&Sources(bases.into()), &[(readme, "| name |\n| `gaussian` | x |\n".to_owned())]);
        assert_eq!(found.len(), 1);
        assert!(found[0].contains("bases/bessel.toml"), "{found:?}");
    }
}
