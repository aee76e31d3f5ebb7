//! What `tables` is asked for.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use ff_spec::Dtype;

use crate::options::{RuntimeChoice, Sizes, TABLES_RENEW_EXAMPLE, TABLES_SELECT_EXAMPLE};

/// `tables`.
#[derive(Debug, Args)]
pub struct TablesArgs {
    /// What to do with them.
    #[command(subcommand)]
    pub command: TablesCommand,
}

impl TablesArgs {
    /// Whether it prints JSON.
    pub fn json(&self) -> bool {
        match &self.command {
            TablesCommand::Show(args) => args.json,
            TablesCommand::Select(args) => args.json,
            TablesCommand::Check(_) | TablesCommand::Diff(_) | TablesCommand::Merge(_) | TablesCommand::Renew(_) => {
                false
            }
        }
    }
}

/// What `tables` can do.
#[derive(Debug, Subcommand)]
pub enum TablesCommand {
    /// Print tables.
    #[command(after_help = "Example:\n  forgefield tables show --dir autotune/tables")]
    Show(ShowArgs),
    /// Check schema, place and provenance; that every entry has a numerical pass is part of reading it.
    #[command(after_help = "Example:\n  forgefield tables check")]
    Check(CheckArgs),
    /// Which entry would be used here, and by which fallback step.
    #[command(after_help = TABLES_SELECT_EXAMPLE)]
    Select(SelectArgs),
    /// What differs between two tables.
    #[command(after_help = "Example:\n  forgefield tables diff old.json new.json")]
    Diff(DiffArgs),
    /// Take the entries of other tables of the same device into one, under one key the faster; or records (.jsonl) of shards,
    /// which must not overlap.
    #[command(after_help = "Examples:
  forgefield tables merge mine.json theirs.json
  forgefield tables merge all.jsonl shard-0/records.jsonl shard-1/records.jsonl")]
    Merge(MergeArgs),
    /// Have tables used again whose templates changed and whose kernels did not: of each entry the kernel is emitted and compared
    /// with that of its pass; entries of other kernels are left out.
    #[command(after_help = TABLES_RENEW_EXAMPLE)]
    Renew(RenewArgs),
}

/// `tables renew`.
#[derive(Debug, Args)]
pub struct RenewArgs {
    /// Tables.
    #[arg(required = true)]
    pub files: Vec<PathBuf>,
}

/// `tables show`.
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// Folder of tuning tables.
    #[arg(long, value_name = "DIR", default_value = "autotune/tables")]
    pub dir: PathBuf,
    /// The op [default: all].
    #[arg(long)]
    pub op: Option<String>,
    /// Print as JSON.
    #[arg(long)]
    pub json: bool,
}

/// `tables check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// Tables to check [default: all in the folder].
    pub files: Vec<PathBuf>,
    /// Tuning space in place of the built-in one of its op, for tables that were tuned in it; may be given for several ops.
    #[arg(long, value_name = "FILE")]
    pub space: Vec<PathBuf>,
    /// Folder of tuning tables.
    #[arg(long, value_name = "DIR", default_value = "autotune/tables")]
    pub dir: PathBuf,
}

/// `tables select`.
#[derive(Debug, Args)]
pub struct SelectArgs {
    /// The op.
    #[arg(long, default_value = ff_spec::USUAL_OP)]
    pub op: String,
    /// Variant or family.
    #[arg(long, visible_alias = "family", help = format!("Variant or family [default {}]", crate::ops::usual()))]
    pub variant: Option<String>,
    /// Derivative order: 0 is the op itself, 1 its first backward, 2 its second.
    #[arg(long, default_value = "0", value_parser = clap::value_parser!(u8).range(0..=2))]
    pub order: u8,
    /// Built-in problem.
    #[arg(long, value_name = "NAME", conflicts_with = "structure", required_unless_present = "structure")]
    pub problem: Option<String>,
    /// Structure file.
    #[arg(long, value_name = "FILE")]
    pub structure: Option<PathBuf>,
    /// Element type.
    #[arg(long, default_value = "f32")]
    pub dtype: Dtype,
    /// Where it would run.
    #[arg(long, default_value = "auto")]
    pub runtime: RuntimeChoice,
    #[command(flatten)]
    #[allow(missing_docs, reason = "clap would show the text as help")]
    pub sizes: Sizes,
    /// Folder of tuning tables.
    #[arg(long, value_name = "DIR", default_value = "autotune/tables")]
    pub dir: PathBuf,
    /// Print as JSON.
    #[arg(long)]
    pub json: bool,
}

/// `tables diff`.
#[derive(Debug, Args)]
pub struct DiffArgs {
    /// The old table.
    pub old: PathBuf,
    /// The new table.
    pub new: PathBuf,
}

/// `tables merge`.
#[derive(Debug, Args)]
pub struct MergeArgs {
    /// The table or the records that are changed.
    pub into: PathBuf,
    /// Tables or records to take from.
    #[arg(required = true)]
    pub from: Vec<PathBuf>,
}
