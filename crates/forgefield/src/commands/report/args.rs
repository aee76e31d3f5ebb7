//! What `report` is asked for.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use ff_spec::Dtype;

/// What a figure shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Plot {
    /// Times over two launch parameters, others at their best; a panel for each search.
    HeatMap,
    /// How many times as fast as the default configuration.
    SpeedUp,
    /// How many times as fast as the unfused composition.
    SpeedUpUnfused,
    /// FLOP/s over intensity, under the roof.
    Roofline,
    /// The best so far against evaluations.
    BestSoFar,
}

/// `report`.
#[derive(Debug, Args)]
pub struct ReportArgs {
    /// Records, as `tune` writes them [default: records.jsonl in the folder of tables, where there is one].
    #[arg(value_name = "RECORDS")]
    pub records: Vec<PathBuf>,
    /// Where the page goes [default: report.html, and no page with --figure].
    #[arg(long, short, value_name = "OUT")]
    pub out: Option<PathBuf>,
    /// Results of `bench --save`.
    #[arg(long, value_name = "FILE", num_args = 1..)]
    pub bench: Vec<PathBuf>,
    /// Results of `verify --json`.
    #[arg(long, value_name = "FILE", num_args = 1..)]
    pub verify: Vec<PathBuf>,
    /// What passed, as `verify --passes` wrote it [default: autotune/passes.json, where it is there].
    #[arg(long, value_name = "FILE")]
    pub passes: Option<PathBuf>,
    /// Folder of tuning tables [default: autotune/tables, where it is there].
    #[arg(long, value_name = "DIR")]
    pub tables: Option<PathBuf>,
    /// Write a figure, SVG.
    #[arg(long, value_name = "FILE")]
    pub figure: Option<PathBuf>,
    /// What the figure shows.
    #[arg(long, requires = "figure", default_value = "heat-map")]
    pub plot: Plot,
    /// Ops [default: all].
    #[arg(long, value_delimiter = ',')]
    pub op: Vec<String>,
    /// Variants or families [default: all].
    #[arg(long, visible_alias = "family", value_delimiter = ',')]
    pub variant: Vec<String>,
    /// Problems [default: all].
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub problem: Vec<String>,
    /// Element types [default: all].
    #[arg(long, value_delimiter = ',')]
    pub dtype: Vec<Dtype>,
}
