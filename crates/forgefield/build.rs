//! Hashes of the kernel sources and versions of what compiles them, for records and tables.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

use sha2::{Digest, Sha256};

/// As `ff_spec::OPS`.
const OPS: [&str; 3] = ["cell_list", "force_scatter", "fused_message"];

fn main() -> io::Result<()> {
    let manifest = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    let root = manifest.join("../..");
    let sources = root.join("crates/ff-kernels/src");
    let lock = root.join("Cargo.lock");
    for path in [&sources, &lock] {
        println!("cargo::rerun-if-changed={}", path.display());
    }
    let lock = fs::read_to_string(lock)?;
    for package in ["burn", "cubecl"] {
        println!("cargo::rustc-env=FORGEFIELD_{}={}", package.to_uppercase(), locked(&lock, package));
    }
    let rustc =
        std::process::Command::new(env::var_os("RUSTC").unwrap_or_else(|| "rustc".into())).arg("-V").output()?;
    let version = String::from_utf8_lossy(&rustc.stdout);
    println!("cargo::rustc-env=FORGEFIELD_RUSTC={}", version.split_whitespace().nth(1).unwrap_or("unknown"));
    println!("cargo::rustc-env=FORGEFIELD_TARGET={}", env::var("TARGET").unwrap_or_default());
    println!("cargo::rustc-env=FORGEFIELD_OPT_LEVEL={}", env::var("OPT_LEVEL").unwrap_or_default());

    // A kernel is its generated file and every hand-written piece that it may call.
    let mut files = BTreeMap::new();
    collect(&sources, &sources, &mut files)?;
    let mut table = String::from("&[\n");
    for (name, text) in files.iter().filter(|(name, _)| is_variant(name)) {
        let mut hash = Sha256::new();
        let other = |shared: &str| op(shared).is_some_and(|found| Some(found) != op(name));
        for (shared, text) in files.iter().filter(|(name, _)| !is_variant(name) && !other(name)) {
            absorb(&mut hash, shared, text);
        }
        absorb(&mut hash, name, text);
        let id = name.rsplit('/').next().unwrap_or_default().trim_end_matches(".rs");
        let digest: String = hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        let _ = writeln!(table, "    (\"{id}\", \"{digest}\"),");
    }
    table.push_str("]\n");
    fs::write(PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default()).join("kernel_hashes.rs"), table)
}

/// The op that a file belongs to by its folder, `<op>/…` or `generated/<op>/…`; `None` for what all share.
fn op(name: &str) -> Option<&str> {
    let name = name.strip_prefix("generated/").unwrap_or(name);
    OPS.into_iter().find(|op| name.strip_prefix(op).is_some_and(|rest| rest.starts_with(['/', '.'])))
}

fn is_variant(name: &str) -> bool {
    let file = name.strip_prefix("generated/").and_then(|name| name.split_once('/'));
    file.is_some_and(|(op, file)| OPS.contains(&op) && !file.contains('/') && file != "mod.rs")
}

fn absorb(hash: &mut Sha256, name: &str, text: &[u8]) {
    for part in [name.as_bytes(), text] {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
}

/// Every Rust file below a folder, by its path from `root` with forward slashes.
fn collect(root: &Path, folder: &Path, files: &mut BTreeMap<String, Vec<u8>>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(root, &path, files)?;
        } else if path.extension().is_some_and(|e| e == "rs") {
            let name = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().replace('\\', "/");
            files.insert(name, fs::read(&path)?);
        }
    }
    Ok(())
}

/// The version of a package in Cargo.lock.
fn locked(lock: &str, package: &str) -> String {
    let start = format!("name = \"{package}\"\n");
    let version = lock.split_once(&start).and_then(|(_, rest)| rest.lines().next());
    let version = version.and_then(|line| line.strip_prefix("version = \"")).unwrap_or("unknown");
    version.trim_end_matches('"').to_owned()
}
