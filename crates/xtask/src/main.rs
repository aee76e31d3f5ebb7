//! The repository's own tools: `cargo xtask codegen [--check]`, `cargo xtask tidy` and `cargo xtask new-op NAME`.

mod codegen;
mod new_op;
mod tidy;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, Subcommand};

/// Repository tools.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Renders kernel-templates/ into the generated folders.
    Codegen {
        /// Write nothing; fail if a generated file differs, is missing or is an orphan.
        #[arg(long)]
        check: bool,
    },
    /// Checks the repository's rules: dependencies, generated files, templates, paths, pins, lints.
    Tidy,
    /// Writes the skeleton of an op, which builds and whose gate fails.
    NewOp {
        /// Its name in snake case, as `edge_sum`: of its folders, modules, space and tables.
        name: String,
    },
}

fn main() -> ExitCode {
    let run = || -> anyhow::Result<bool> {
        let root = workspace_root()?;
        match Arguments::parse().command {
            Command::Codegen { check } => codegen::run(&root, check),
            Command::Tidy => tidy::run(&root),
            Command::NewOp { name } => new_op::run(&root, &name),
        }
    };
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The folder of the workspace's `Cargo.toml`: two above this crate's, which cargo names in the environment.
fn workspace_root() -> anyhow::Result<PathBuf> {
    let here =
        std::env::var("CARGO_MANIFEST_DIR").context("run this as `cargo xtask`: CARGO_MANIFEST_DIR is not set")?;
    let root = Path::new(&here).ancestors().nth(2).context("expected crates/xtask two levels below the workspace")?;
    Ok(root.to_owned())
}
