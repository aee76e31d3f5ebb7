//! What `tune` is asked for.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::Args;
use ff_spec::Dtype;
use ff_tune::{Shard, StrategyKind};

use crate::options::{RuntimeChoice, Sizes, percent};

/// In which order configurations are tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StrategyArg {
    /// By this strategy.
    One(StrategyKind),
    /// By each in turn, to compare them.
    All,
}

impl FromStr for StrategyArg {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text {
            "all" => Ok(StrategyArg::All),
            name => name.parse().map(StrategyArg::One).map_err(|e| format!("{e}, or all with --replay")),
        }
    }
}

/// When a search ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BudgetArg {
    /// After this time.
    Time(Duration),
    /// After this many configurations of each variant and problem.
    Evaluations(usize),
    /// When all were tried.
    All,
}

impl FromStr for BudgetArg {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let expected = || {
            format!("`{text}` is no budget, expected a time (`90s`, `5m`, `2h`), a number of configurations, or `all`")
        };
        if text == "all" {
            return Ok(BudgetArg::All);
        }
        if let Ok(n) = text.parse::<usize>() {
            return if n > 0 { Ok(BudgetArg::Evaluations(n)) } else { Err(expected()) };
        }
        let unit =
            text.chars().last().and_then(|c| [('s', 1.0), ('m', 60.0), ('h', 3600.0)].into_iter().find(|u| u.0 == c));
        let (_, seconds) = unit.ok_or_else(expected)?;
        let number: f64 = text[..text.len() - 1].parse().map_err(|_| expected())?;
        let time = Duration::try_from_secs_f64(number * seconds).map_err(|_| expected())?;
        if time.is_zero() { Err(expected()) } else { Ok(BudgetArg::Time(time)) }
    }
}

/// `tune`.
#[derive(Debug, Args)]
pub struct TuneArgs {
    /// Ops to tune [default: all].
    #[arg(long, value_delimiter = ',')]
    pub op: Vec<String>,
    /// Variants or families to tune [default: full lists by both strategies, half lists, both force scatters, and those of
    /// SchNet and PaiNN].
    #[arg(long, visible_alias = "family", value_delimiter = ',')]
    pub variant: Vec<String>,
    /// Derivative orders to tune: 0 is the op itself, 1 its first backward, 2 its second.
    #[arg(long, value_delimiter = ',', default_value = "0", value_parser = clap::value_parser!(u8).range(0..=2))]
    pub order: Vec<u8>,
    /// Structure files (extxyz, PDB); all frames of a file are one batch.
    #[arg(long, value_name = "FILE", num_args = 1..)]
    pub structure: Vec<PathBuf>,
    /// Built-in problems [default without files: molecules, water-64, water-512].
    #[arg(long, value_name = "NAME", num_args = 1.., value_delimiter = ',')]
    pub problem: Vec<String>,
    /// Element types [default: f32].
    #[arg(long, value_delimiter = ',')]
    pub dtype: Vec<Dtype>,
    /// Where to run.
    #[arg(long, default_value = "auto")]
    pub runtime: RuntimeChoice,
    #[command(flatten)]
    #[allow(missing_docs, reason = "clap would show the text as help")]
    pub sizes: Sizes,
    /// In which order configurations are tried: brute-force, random, local, annealing, genetic, bayesian, cost-model; with
    /// --replay also `all` [default: random, brute-force with --budget all].
    #[arg(long, value_name = "NAME")]
    pub strategy: Option<StrategyArg>,
    /// Try only this share of each space, by what the records of --out say of the nearest other problem, else by counted FLOPs and
    /// bytes.
    #[arg(long, value_name = "SHARE", value_parser = portion)]
    pub prefilter: Option<f64>,
    /// When to end: a time in all (`90s`, `5m`), a number of configurations of each variant and problem, or `all`
    /// [default: 100s].
    #[arg(long)]
    pub budget: Option<BudgetArg>,
    /// Search these records again, without a device: best so far against evaluations, for each strategy.
    #[arg(long, value_name = "FILE", num_args = 1.., conflicts_with_all = ["explain", "resume", "structure", "space", "prefilter"])]
    pub replay: Vec<PathBuf>,
    /// Searches per strategy of a replay.
    #[arg(long, default_value_t = 25, requires = "replay", value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub repeats: u16,
    /// Do share I of N, from 0: of the tasks, or where there are fewer of those than shares, of every space.
    /// `tables merge` joins what the shares have found.
    #[arg(long, value_name = "I/N", conflicts_with = "replay")]
    pub shard: Option<Shard>,
    /// Measure nothing; say what each constraint removes from the space.
    #[arg(long)]
    pub explain: bool,
    /// Take what stands in the records from there.
    #[arg(long)]
    pub resume: bool,
    /// Time slow configurations to the end too.
    #[arg(long)]
    pub no_eliminate: bool,
    /// The best of the screening that are timed side by side again, beside the default.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..))]
    pub finalists: u8,
    /// Measure in this process, for a debugger or a profiler: a kernel that does not end or ends the process is the end of the
    /// search.
    #[arg(long)]
    pub in_process: bool,
    /// Answer the questions of a search for the op of this name and order.
    #[arg(long, hide = true)]
    pub serve: Option<String>,
    /// Where records and tables go.
    #[arg(long, value_name = "DIR", default_value = "autotune/tables")]
    pub out: PathBuf,
    /// Tuning space in place of the built-in one of its op.
    #[arg(long, value_name = "FILE")]
    pub space: Option<PathBuf>,
    /// End with every note, and with sizes, spreads and configurations beside the table.
    #[arg(long)]
    pub verbose: bool,
    /// Print the outcome as JSON.
    #[arg(long)]
    pub json: bool,
}

fn portion(text: &str) -> std::result::Result<f64, String> {
    percent(text)
        .ok()
        .filter(|p| *p > 0.0 && *p <= 1.0)
        .ok_or_else(|| format!("`{text}`, expected above 0% and up to 100%"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budgets() {
        assert_eq!("90s".parse(), Ok(BudgetArg::Time(Duration::from_secs(90))));
        assert_eq!("1.5m".parse(), Ok(BudgetArg::Time(Duration::from_secs(90))));
        assert_eq!("12".parse(), Ok(BudgetArg::Evaluations(12)));
        assert_eq!("all".parse(), Ok(BudgetArg::All));
        for bad in ["", "0", "s", "-3s", "90x", "0s", "1µ", "nans"] {
            assert!(bad.parse::<BudgetArg>().is_err(), "{bad} was accepted");
        }
    }
}
