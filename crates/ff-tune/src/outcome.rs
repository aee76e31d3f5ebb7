//! What happens in a search, and what comes of it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::{fmt, io};

use ff_spec::{Dtype, LaunchConfig, Problem};
use ff_tables::{Pass, TableError};
use serde::Serialize;

use crate::measure::Timing;
use crate::records::{RecordError, Verdict};
use crate::space::{Explanation, SpaceError};
use crate::strategy::StrategyKind;
use crate::times::Times;
use crate::workbench::Lost;

/// What happens, for whoever shows it.
#[derive(Debug)]
pub enum Event<'a> {
    /// Something that a reader of the log should know.
    Note(String),
    /// A task begins.
    Begin {
        /// Index of the task.
        index: usize,
        /// Number of tasks.
        total: usize,
        /// Id of its variant, with what [`ff_spec::kernel_name`] adds for its order.
        variant: &'a str,
        /// Its dtype.
        dtype: Dtype,
        /// Its problem.
        problem: &'a Problem,
        /// Configurations that will be tried, the default among them.
        configs: usize,
        /// What the constraints removed; `None` where the space is empty.
        space: Option<&'a Explanation>,
    },
    /// A configuration is done.
    Measured {
        /// How many are done.
        done: usize,
        /// Of how many.
        total: usize,
        /// The configuration.
        config: &'a LaunchConfig,
        /// What came of it.
        verdict: Verdict,
        /// Why.
        reason: Option<&'a str>,
        /// What it cost.
        timing: Option<Timing>,
        /// The best median so far, ns.
        best_ns: Option<f64>,
    },
    /// The finals begin.
    Finals {
        /// How many configurations take part.
        configs: usize,
    },
    /// A task has ended; its table entry, if any, is on disk.
    End(&'a ProblemOutcome),
}

/// A configuration that passed the gate before and after it was timed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Scored {
    /// The configuration.
    pub config: LaunchConfig,
    /// What it cost.
    pub timing: Timing,
    /// Its numerical pass.
    pub pass: Pass,
}

/// What a note is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NoteKind {
    /// The machine became faster or slower meanwhile.
    Drift,
    /// The constraints leave nothing of the space.
    EmptySpace,
    /// Configurations that were not tried for what they are estimated to cost.
    LeftOut,
    /// A stop before all were tried.
    Stopped,
    /// The variant cannot run here, or there is no reference to check it against.
    NotRun,
    /// A finalist that failed when it was looked at more closely.
    Finalist,
    /// The unfused composition was not measured or was wrong.
    Unfused,
    /// What was chosen is no entry of a table.
    NoEntry,
}

impl fmt::Display for NoteKind {
    /// As a part of `3 …`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            NoteKind::Drift => "of drift",
            NoteKind::EmptySpace => "of an empty space",
            NoteKind::LeftOut => "of configurations left out",
            NoteKind::Stopped => "stopped after a part",
            NoteKind::NotRun => "not run here",
            NoteKind::Finalist => "of a finalist that failed",
            NoteKind::Unfused => "of an unfused composition that failed",
            NoteKind::NoEntry => "without a table entry",
        })
    }
}

/// Something that a reader of an outcome should know. In JSON it is its text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(into = "String")]
pub struct Note {
    /// What it is about.
    pub kind: NoteKind,
    /// A sentence.
    pub text: String,
}

impl Note {
    pub(crate) fn new(kind: NoteKind, text: impl Into<String>) -> Self {
        Self { kind, text: text.into() }
    }
}

impl From<Note> for String {
    fn from(note: Note) -> Self {
        note.text
    }
}

/// What came of one task.
#[derive(Clone, Debug, Serialize)]
pub struct ProblemOutcome {
    /// The op.
    pub op: &'static str,
    /// Id of the variant.
    pub variant: String,
    /// The derivative order.
    pub order: u8,
    /// Its family, which tables are keyed by.
    pub family: String,
    /// Element type.
    pub dtype: Dtype,
    /// The problem.
    pub problem: Problem,
    /// The default configuration, where it passed.
    pub default: Option<Scored>,
    /// The chosen one: the lowest median, or the default where that ties with it.
    pub best: Option<Scored>,
    /// Configurations that tie with the chosen one.
    pub ties: Vec<Scored>,
    /// The unfused composition, where it was measured and right.
    pub unfused: Option<Timing>,
    /// Configurations by verdict.
    pub counts: BTreeMap<Verdict, usize>,
    /// How many of them were taken from earlier records.
    pub reused: usize,
    /// What the constraints removed.
    pub space: Option<Explanation>,
    /// What kept this task from being done in full, and what its times have gone through.
    pub notes: Vec<Note>,
    /// Where its time went.
    pub times: Times,
}

impl ProblemOutcome {
    /// How many times faster the chosen configuration is than the default.
    pub fn ratio(&self) -> Option<f64> {
        Some(self.default.as_ref()?.timing.median_ns / self.best.as_ref()?.timing.median_ns)
    }

    /// How many times faster the chosen configuration is than the unfused composition.
    pub fn unfused_ratio(&self) -> Option<f64> {
        Some(self.unfused?.median_ns / self.best.as_ref()?.timing.median_ns)
    }
}

/// What came of a run, or of several of them.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Outcome {
    /// Each task that was begun.
    pub problems: Vec<ProblemOutcome>,
    /// Whether the stop flag ended the run.
    pub stopped: bool,
    /// Where the tables are, where there are any.
    pub tables: Vec<PathBuf>,
    /// Where the time of the whole run went.
    pub times: Times,
}

impl Outcome {
    /// Adds what came of another op.
    pub fn extend(&mut self, other: Outcome) {
        let known = self.tables.clone();
        self.problems.extend(other.problems);
        self.stopped |= other.stopped;
        // The orders of an op share a table.
        self.tables.extend(other.tables.into_iter().filter(|table| !known.contains(table)).collect::<Vec<_>>());
        self.times += other.times;
    }
}

/// What ends a run. What was recorded and written before it is kept.
#[derive(Debug, thiserror::Error)]
pub enum TuneError {
    /// Nothing to do.
    #[error("no variant, dtype and problem to tune, expected at least one")]
    NoTasks,
    /// A strategy that goes by estimates, without any.
    #[error("strategy `{0}` goes by the estimated cost of configurations, and there is no estimate")]
    NoEstimate(StrategyKind),
    /// The tables cannot go there. Nothing was measured.
    #[error("cannot write tuning tables to {}: {source}", path.display())]
    Output {
        /// The folder.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A table cannot be read or written.
    #[error(transparent)]
    Table(#[from] TableError),
    /// What kernels are measured in cannot be had.
    #[error(transparent)]
    Lost(#[from] Lost),
    /// A record cannot be written.
    #[error(transparent)]
    Records(#[from] RecordError),
    /// The space has no place for a task, or a constraint has no value.
    #[error(transparent)]
    Space(#[from] SpaceError),
}
