//! `cargo xtask codegen`: format what ff-codegen returns, then write it or compare it with the tree.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};
use ff_codegen::{GENERATED_FOLDERS, GeneratedFile, Sources};
use similar::TextDiff;

/// Lines of the first difference that `--check` shows.
const DIFF_LINES: usize = 40;

/// Renders, then writes or checks; false where `--check` found a difference.
pub fn run(root: &Path, check: bool) -> anyhow::Result<bool> {
    let files = format(root, ff_codegen::generate(&Sources::load(root)?)?)?;
    let changes = changes(root, &files)?;
    if check {
        let report = report(&changes);
        if report.is_empty() {
            println!("codegen: {} files are up to date", files.len());
        } else {
            eprintln!("{report}");
        }
        return Ok(changes.is_empty());
    }
    for change in &changes {
        match change {
            Change::Missing { path, text } | Change::Differs { path, new: text, .. } => {
                let full = root.join(path);
                fs::create_dir_all(full.parent().context("a generated file has a folder")?)?;
                // Through a rename: an interrupted run leaves whole files only.
                let temporary = full.with_extension("rs.new");
                fs::write(&temporary, text).with_context(|| format!("cannot write {path}"))?;
                fs::rename(&temporary, &full).with_context(|| format!("cannot write {path}"))?;
            }
            Change::Orphan { path } => {
                fs::remove_file(root.join(path)).with_context(|| format!("cannot remove {path}"))?
            }
        }
    }
    println!("codegen: {} files, {} changed", files.len(), changes.len());
    Ok(true)
}

/// What separates the tree from what would be generated.
#[derive(Debug, PartialEq, Eq)]
enum Change {
    Missing { path: String, text: String },
    Differs { path: String, old: String, new: String },
    Orphan { path: String },
}

fn changes(root: &Path, files: &BTreeMap<String, String>) -> anyhow::Result<Vec<Change>> {
    let mut changes = Vec::new();
    for (path, new) in files {
        match fs::read_to_string(root.join(path)) {
            Ok(old) if old == *new => {}
            Ok(old) => changes.push(Change::Differs { path: path.clone(), old, new: new.clone() }),
            Err(_) => changes.push(Change::Missing { path: path.clone(), text: new.clone() }),
        }
    }
    for path in tree(root)? {
        if !files.contains_key(&path) {
            changes.push(Change::Orphan { path });
        }
    }
    Ok(changes)
}

/// Every file in the generated folders, as paths from the root with `/`.
pub fn tree(root: &Path) -> anyhow::Result<Vec<String>> {
    let mut found = Vec::new();
    let mut folders: Vec<PathBuf> = GENERATED_FOLDERS.iter().map(|f| root.join(f)).filter(|f| f.exists()).collect();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let relative = path.strip_prefix(root).context("a folder below the root")?;
                found.push(relative.to_string_lossy().replace('\\', "/"));
            }
        }
    }
    found.sort();
    Ok(found)
}

fn report(changes: &[Change]) -> String {
    let mut text = String::new();
    for change in changes {
        text += &match change {
            Change::Missing { path, .. } => format!("missing: {path}\n"),
            Change::Differs { path, .. } => format!("differs: {path}\n"),
            Change::Orphan { path } => format!("orphan:  {path}\n"),
        };
    }
    let first = changes.iter().find_map(|c| match c {
        Change::Differs { path, old, new } => Some((path, old, new)),
        _ => None,
    });
    if let Some((path, old, new)) = first {
        let diff = TextDiff::from_lines(old, new);
        let unified = diff.unified_diff().context_radius(2).header(path, "as generated").to_string();
        let shown: Vec<&str> = unified.lines().take(DIFF_LINES).collect();
        text += &format!("\n{}\n", shown.join("\n"));
        let left = unified.lines().count().saturating_sub(DIFF_LINES);
        if left > 0 {
            text += &format!("… {left} more lines\n");
        }
    }
    if !text.is_empty() {
        text += &format!("\ncodegen: {} files are not as generated; run `cargo xtask codegen`", changes.len());
    }
    text
}

/// Runs rustfmt once over all files, with the repository's configuration.
///
/// They lie in one temporary tree while it does, since rustfmt follows `mod` declarations.
pub fn format(root: &Path, files: Vec<GeneratedFile>) -> anyhow::Result<BTreeMap<String, String>> {
    let folder = tempfile::tempdir().context("cannot make a temporary folder for rustfmt")?;
    for file in &files {
        let path = folder.path().join(&file.path);
        fs::create_dir_all(path.parent().context("a generated file has a folder")?)?;
        fs::write(&path, &file.text)?;
    }
    let output = Command::new("rustfmt")
        .args(["--edition", "2024", "--config-path"])
        .arg(root)
        .args(files.iter().map(|f| folder.path().join(&f.path)))
        .output()
        .context("cannot run rustfmt; `rustup component add rustfmt` installs it")?;
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        let errors = errors.replace(&format!("{}/", folder.path().display()), "");
        bail!("rustfmt refused generated code; the template at fault is named in the file's first line\n{errors}");
    }
    files
        .into_iter()
        .map(|file| {
            let text = fs::read_to_string(folder.path().join(&file.path))?;
            Ok((file.path, text))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn check_lists_what_differs_is_missing_or_is_orphaned() {
        let root = tempfile::tempdir().unwrap();
        let folder = GENERATED_FOLDERS[0];
        fs::create_dir_all(root.path().join(folder).join("op")).unwrap();
        for (name, text) in [("same.rs", "a\n"), ("op/other.rs", "old\n"), ("op/left_over.rs", "x\n")] {
            fs::write(root.path().join(folder).join(name), text).unwrap();
        }
        let expected = [("same.rs", "a\n"), ("op/other.rs", "new\n"), ("op/absent.rs", "y\n")];
        let expected = expected.map(|(name, text)| (format!("{folder}/{name}"), text.to_owned()));
        let report = report(&changes(root.path(), &expected.into()).unwrap());
        for line in [
            format!("missing: {folder}/op/absent.rs"),
            format!("differs: {folder}/op/other.rs"),
            format!("orphan:  {folder}/op/left_over.rs"),
            "-old".to_owned(),
            "+new".to_owned(),
            "codegen: 3 files are not as generated; run `cargo xtask codegen`".to_owned(),
        ] {
            assert!(report.lines().any(|l| l == line), "expected `{line}` in:\n{report}");
        }
        assert!(!report.contains("same.rs"), "{report}");
    }

    #[test]
    fn what_rustfmt_refuses_is_named() {
        let file = GeneratedFile { path: "crates/x/src/generated/a.rs".to_owned(), text: "fn {".to_owned() };
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("rustfmt.toml"), "max_width = 120\n").unwrap();
        let error = format(root.path(), vec![file]).unwrap_err().to_string();
        assert!(error.contains("--> crates/x/src/generated/a.rs"), "{error}");
    }
}
