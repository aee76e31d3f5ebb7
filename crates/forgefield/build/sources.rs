//! Whose a source file of the host kernels is, and a digest of what a compiler reads of it.
//!
//! A pass of a host kernel is of these files and no others: comments, tests, other ops, other orders and the other target
//! invalidate nothing. Used by the build script, and by the tests of the crate.

use std::io;
use std::path::Path;
use std::{fmt::Write as _, fs};

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use sha2::{Digest, Sha256};

/// What a file is part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Every kernel.
    EveryOp,
    /// The kernels of its op, in the orders that [`orders`] says.
    Op,
    /// The variants of its op that have its name in their id: `bessel`, or the whole id.
    Named,
}

/// Where the sources of host kernels lie below `crates/`, the first that fits. `{op}` is a folder, which is of the op of its
/// name, `*` one file, `**` whatever lies below a folder. What is listed without a part, and what is not listed, is in the code
/// of no kernel.
const PLACES: [(&str, Option<Part>); 8] = [
    ("ff-host/src/generated/*", Some(Part::Named)),
    // Updates of a list: `verify` builds lists, so no pass is of these.
    ("ff-host/src/{op}/skin.rs", None),
    // What models have between their messages: no op is made of it.
    ("ff-host/src/layers/**", None),
    ("ff-host/src/{op}/**", Some(Part::Op)),
    ("ff-host/src/peak.rs", None),
    // A list of modules: an op that comes takes no pass from those that are there.
    ("ff-host/src/lib.rs", None),
    ("ff-host/src/*", Some(Part::EveryOp)),
    ("ff-spec/src/{op}/grid.rs", Some(Part::Op)),
];

/// What the first line of a generated file has before the op whose formulas were rendered.
const RENDERED_FROM: &str = " from kernel-templates/";

/// The crates that they lie in.
const ROOTS: [&str; 2] = ["ff-host/src", "ff-spec/src"];

/// The orders that a file of an op is for, by how its name begins; all where it begins otherwise. The second backward is made of
/// pieces of the first.
const ORDERS: [(&str, &[u8]); 3] = [("forward", &[0]), ("backward", &[1, 2]), ("double", &[2])];

/// A source file of host kernels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Its op; empty for one of every op.
    pub op: String,
    /// What it is part of.
    pub part: Part,
    /// Its name without `.rs`.
    pub name: String,
    /// The orders it is for.
    pub orders: Vec<u8>,
    /// Digest of its tokens.
    pub digest: String,
}

/// The sources of host kernels below the folder `crates`.
///
/// # Errors
/// What the file system says, and a file that is no Rust.
pub fn find(crates: &Path) -> io::Result<Vec<Source>> {
    let mut found = Vec::new();
    for root in ROOTS {
        if crates.join(root).is_dir() {
            collect(crates, &crates.join(root), &mut found)?;
        }
    }
    // The order of a folder is the file system's.
    found.sort_by(|a, b| (&a.op, &a.name, &a.digest).cmp(&(&b.op, &b.name, &b.digest)));
    Ok(found)
}

fn collect(crates: &Path, folder: &Path, found: &mut Vec<Source>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(crates, &path, found)?;
            continue;
        }
        let place = path.strip_prefix(crates).unwrap_or(&path).to_string_lossy().replace('\\', "/");
        let Some((op, part)) = place_of(&place) else { continue };
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let text = fs::read_to_string(&path)?;
        let wrong = |what: String| io::Error::other(format!("{}: {what}", path.display()));
        let op = match part {
            Part::Named => rendered_from(&text).ok_or_else(|| wrong("no op in its first line".to_owned()))?,
            _ => op.unwrap_or_default(),
        };
        let digest = digest(&text).map_err(|e| wrong(format!("no Rust that can be read: {e}")))?;
        let orders = if part == Part::Op { orders(&name) } else { vec![0, 1, 2] };
        found.push(Source { op: op.to_owned(), part, name, orders, digest });
    }
    Ok(())
}

/// The op whose templates a file was rendered from, as the file says.
fn rendered_from(text: &str) -> Option<&str> {
    let (op, _) = text.lines().next()?.split_once(RENDERED_FROM)?.1.split_once('/')?;
    Some(op)
}

/// The part of a file by its path below `crates` and its op, where the path has that; `None` for what is in no host kernel.
pub fn place_of(path: &str) -> Option<(Option<&str>, Part)> {
    if !path.ends_with(".rs") {
        return None;
    }
    let fitting = PLACES.iter().find_map(|(pattern, part)| Some((fits(path, pattern)?, *part)));
    let (op, part) = fitting.and_then(|(op, part)| Some((op, part?)))?;
    // The list of what was rendered is no part of any of it.
    let list = part == Part::Named && path.ends_with("/mod.rs");
    (!list).then_some((op, part))
}

/// Whether a path fits a pattern; the op that stands for `{op}`, if that occurs.
fn fits<'a>(path: &'a str, pattern: &str) -> Option<Option<&'a str>> {
    let (mut path, mut op) = (path.split('/'), None);
    for expected in pattern.split('/') {
        let found = path.next()?;
        match expected {
            "**" => return Some(op),
            "*" => {}
            "{op}" => op = Some(found),
            name if name == found => {}
            _ => return None,
        }
    }
    path.next().is_none().then_some(op)
}

/// The orders that a file of an op is for.
pub fn orders(name: &str) -> Vec<u8> {
    let named = ORDERS.iter().find(|(start, _)| name.starts_with(start));
    named.map_or_else(|| vec![0, 1, 2], |(_, orders)| orders.to_vec())
}

/// SHA-256 of the tokens of a file, 16 digits: without comments, documentation, lints, tests and cube kernels.
///
/// # Errors
/// Text that is no sequence of Rust's tokens.
pub fn digest(text: &str) -> Result<String, proc_macro2::LexError> {
    let mut hash = Sha256::new();
    absorb(&mut hash, text.parse()?);
    let mut digits = String::new();
    for byte in hash.finalize().iter().take(8) {
        // Writing to a string cannot fail.
        let _ = write!(digits, "{byte:02x}");
    }
    Ok(digits)
}

fn absorb(hash: &mut Sha256, stream: TokenStream) {
    let tokens: Vec<TokenTree> = stream.into_iter().collect();
    let mut at = 0;
    while at < tokens.len() {
        if let Some((inside, end)) = attribute(&tokens[at..]) {
            let text = inside.to_string().replace(' ', "");
            if text == "cfg(test)" || text == "cube" || text.starts_with("cube(") {
                at += end;
                at += item(&tokens[at..]);
                continue;
            }
            if ["doc", "allow(", "expect("].iter().any(|start| text.starts_with(start)) {
                at += end;
                continue;
            }
        }
        match &tokens[at] {
            TokenTree::Group(group) => {
                let (open, close) = match group.delimiter() {
                    Delimiter::Parenthesis => ("(", ")"),
                    Delimiter::Brace => ("{", "}"),
                    Delimiter::Bracket => ("[", "]"),
                    Delimiter::None => ("", ""),
                };
                token(hash, open);
                absorb(hash, group.stream());
                token(hash, close);
            }
            other => token(hash, &other.to_string()),
        }
        at += 1;
    }
}

fn token(hash: &mut Sha256, text: &str) {
    hash.update(text);
    hash.update([0]);
}

/// What stands in the attribute that these tokens begin with, and how many tokens it is.
fn attribute(tokens: &[TokenTree]) -> Option<(TokenStream, usize)> {
    let punct = |at: usize, c: char| matches!(tokens.get(at), Some(TokenTree::Punct(p)) if p.as_char() == c);
    if !punct(0, '#') {
        return None;
    }
    let at = if punct(1, '!') { 2 } else { 1 };
    match tokens.get(at) {
        Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Bracket => Some((group.stream(), at + 1)),
        _ => None,
    }
}

/// How many tokens the item is that these begin with: to its body or its semicolon.
fn item(tokens: &[TokenTree]) -> usize {
    let ends = |token: &TokenTree| match token {
        TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
        TokenTree::Punct(punct) => punct.as_char() == ';',
        _ => false,
    };
    tokens.iter().position(ends).map_or(tokens.len(), |end| end + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KERNEL: &str = "fn sum(x: &[f64]) -> f64 { let mut all = 0.0; for v in x { all += v } all }";

    #[test]
    fn what_no_compiler_reads_does_not_count() {
        let same = [
            "/// Adds.\nfn sum(x: &[f64]) -> f64 {\n    // In order.\n    let mut all = 0.0;\n    for v in x { all += v }\n\n    all }",
            "//! Sums.\n#[allow(dead_code)]\nfn sum(x: &[f64]) -> f64 { let mut all = 0.0; for v in x { all += v /* as f64 */ } all }",
            "#![allow(missing_docs, reason = \"short\")] fn sum(x: &[f64]) -> f64 { let mut all = 0.0; for v in x { all += v } all }\n\
             #[cfg(test)]\nmod tests { #[test] fn zero() { assert_eq!(super::sum(&[]), 0.0) } }",
            "#[cube(launch)] fn on_device(x: &Array<f32>) { x[0] = 1.0 } \
             fn sum(x: &[f64]) -> f64 { let mut all = 0.0; for v in x { all += v } all }",
        ];
        for text in same {
            assert_eq!(digest(text).expect("Rust"), digest(KERNEL).expect("Rust"), "{text}");
        }
        let other = [
            KERNEL.replace("0.0", "0.5"),
            KERNEL.replace("+=", "-="),
            KERNEL.replace("all }", "(all) }"),
            KERNEL.replace("f64 {", "f64 { #![inline]"),
            format!("#[inline(never)] {KERNEL}"),
            format!("{KERNEL} #[cfg(test)] mod tests {{}} fn more() {{}}"),
            KERNEL.replace("\"", "").replace("all += v", "all += \"// v\""),
        ];
        for text in other {
            assert_ne!(digest(&text).expect("Rust"), digest(KERNEL).expect("Rust"), "{text}");
        }
        assert!(digest("fn sum( {").is_err());
    }

    #[test]
    fn files_belong_to_their_op_and_order() {
        for (path, expected) in [
            ("ff-host/src/lane.rs", Some((None, Part::EveryOp))),
            ("ff-host/src/peak.rs", None),
            // A list of modules: an op that comes takes no pass from those that are there.
            ("ff-host/src/lib.rs", None),
            ("ff-host/src/fused_message/sweep.rs", Some((Some("fused_message"), Part::Op))),
            ("ff-host/src/generated/bessel.rs", Some((None, Part::Named))),
            ("ff-host/src/generated/mod.rs", None),
            ("ff-host/src/cell_list/rows.rs", Some((Some("cell_list"), Part::Op))),
            ("ff-host/src/{op}/skin.rs", None),
            ("ff-host/src/layers/dense.rs", None),
            ("ff-spec/src/cell_list/grid.rs", Some((Some("cell_list"), Part::Op))),
            ("ff-spec/src/lib.rs", None),
            ("ff-cube/src/cell_list/scan.rs", None),
            ("ff-kernels/src/cell_list/mod.rs", None),
            ("ff-host/src/lane.txt", None),
        ] {
            assert_eq!(place_of(path), expected, "{path}");
        }
        let header = "// Generated by `x` from kernel-templates/fused_message/{a.toml, b.tera}. Do not edit.\n";
        assert_eq!(rendered_from(header), Some("fused_message"));
        assert_eq!(rendered_from("//! Sums.\n// from kernel-templates/fused_message/a.tera\n"), None);
        assert_eq!(orders("forward_receiver"), [0]);
        assert_eq!(orders("backward"), [1, 2]);
        assert_eq!(orders("double_backward"), [2]);
        assert_eq!(orders("tile"), [0, 1, 2]);
    }

    #[test]
    fn every_folder_is_of_an_op() {
        let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        for Source { op, name, .. } in find(&crates).expect("readable") {
            assert!(op.is_empty() || ff_spec::OPS.contains(&op.as_str()), "`{name}` of `{op}` is in no kernel's code");
        }
    }

    /// What one order alone counts for is named by no file of the others.
    #[test]
    fn no_order_uses_a_file_of_another() {
        let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let mut files = Vec::new();
        for root in ROOTS {
            walk(&crates.join(root), &mut files);
        }
        let mut of_an_order = 0;
        for path in &files {
            let place = path.strip_prefix(&crates).expect("below").to_string_lossy().replace('\\', "/");
            let Some((Some(op), Part::Op)) = place_of(&place) else { continue };
            let name = path.file_stem().expect("a file").to_string_lossy().into_owned();
            let (mine, text) = (orders(&name), fs::read_to_string(path).expect("readable"));
            of_an_order += usize::from(mine.len() < 3);
            // These name all of them, to have them compiled.
            if name == "mod" || name == "stages" {
                continue;
            }
            for other in &files {
                let place = other.strip_prefix(&crates).expect("below").to_string_lossy().replace('\\', "/");
                if place_of(&place) != Some((Some(op), Part::Op)) {
                    continue;
                }
                let other = other.file_stem().expect("a file").to_string_lossy().into_owned();
                let theirs = orders(&other);
                let path = format!("{other}::");
                let inside_a_name = |at: usize| text[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
                let uses = text.match_indices(&path).any(|(at, _)| !inside_a_name(at));
                assert!(
                    !uses || other == name || mine.iter().all(|order| theirs.contains(order)),
                    "{place}: `{name}` of orders {mine:?} names `{other}` of orders {theirs:?}"
                );
            }
        }
        assert!(of_an_order > 0, "no file is of an order alone: were they renamed?");
    }

    fn walk(folder: &Path, files: &mut Vec<std::path::PathBuf>) {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            if entry.path().is_dir() { walk(&entry.path(), files) } else { files.push(entry.path()) }
        }
    }
}
