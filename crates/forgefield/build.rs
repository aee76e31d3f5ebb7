//! Digests of the sources of host kernels and versions of what compiles them, for passes, records and tables.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

#[path = "build/sources.rs"]
mod sources;

use sources::{Part, Source};

fn main() -> io::Result<()> {
    let manifest = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    let root = manifest.join("../..");
    let crates = root.join("crates");
    let lock = root.join("Cargo.lock");
    for path in [&crates.join("ff-host/src"), &crates.join("ff-spec/src"), &lock, &manifest.join("build")] {
        // A folder that is not there would have this run every time.
        if path.exists() {
            println!("cargo::rerun-if-changed={}", path.display());
        }
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

    write_sources(&crates)
}

/// Writes the table of sources as Rust: (op, part, name, orders, digest).
fn write_sources(crates: &Path) -> io::Result<()> {
    let mut table = String::from("&[\n");
    for Source { op, part, name, orders, digest } in sources::find(crates)? {
        let part = match part {
            Part::EveryOp => "every op",
            Part::Op => "op",
            Part::Named => "named",
        };
        let _ = writeln!(table, "    (\"{op}\", \"{part}\", \"{name}\", &{orders:?}, \"{digest}\"),");
    }
    table.push_str("]\n");
    fs::write(PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default()).join("host_sources.rs"), table)
}

/// The version of a package in Cargo.lock.
fn locked(lock: &str, package: &str) -> String {
    let start = format!("name = \"{package}\"\n");
    let version = lock.split_once(&start).and_then(|(_, rest)| rest.lines().next());
    let version = version.and_then(|line| line.strip_prefix("version = \"")).unwrap_or("unknown");
    version.trim_end_matches('"').to_owned()
}
