//! A run against an earlier one, or against another binary.

use std::fs;
use std::path::Path;
use std::rc::Rc;

use ff_spec::{Clock, Problem};
use ff_tune::regression::{Change, FEWEST_PROCESSES, Rule, Verdict, stored};
use serde::{Deserialize, Serialize};

use super::Case;
use super::apart::{BaselineRow, Start};
use super::args::BenchArgs;
use super::result::{Report, Row};
use crate::failure::{Failure, Result};
use crate::machine::Machine;
use crate::screen::{Left, Screen};

/// A case now and before.
#[derive(Debug, Serialize, Deserialize)]
pub struct Comparison {
    pub case: String,
    /// New time over old time.
    pub ratio: f64,
    /// From where, with 95 % confidence; `null` where there is no bound.
    pub low: Option<f64>,
    /// Up to where.
    pub high: Option<f64>,
    pub verdict: Verdict,
    /// Pairs of processes, or processes before and now.
    pub processes: Vec<usize>,
    /// What else is not as it was.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

impl Comparison {
    pub fn new(case: &str, change: Change, processes: Vec<usize>, notes: Vec<String>) -> Self {
        let Change { ratio, low, high, verdict } = change;
        let bound = |x: f64| (x.is_finite() && x > 0.0).then_some(x);
        Self { case: case.to_owned(), ratio, low: bound(low), high: bound(high), verdict, processes, notes }
    }
}

/// Times every case that a baseline has in pairs of processes.
pub fn against(
    baseline: &Path,
    start: &Start<'_>,
    cases: &[Rc<dyn Case>],
    report: &mut Report,
    screen: &Screen,
) -> Result<()> {
    // A name without a folder would be looked for elsewhere.
    let baseline = fs::canonicalize(baseline)
        .map_err(|e| Failure::input(format!("cannot read {}: {e}, expected a binary", baseline.display())))?;
    let known = start.cases(&baseline)?;
    let (shared, new): (Vec<_>, Vec<_>) = cases.iter().partition(|case| known.iter().any(|known| known == case.name()));
    for case in new {
        screen.warn(format!("{}: not in the baseline", case.name()));
    }
    if shared.is_empty() {
        return Err(Failure::input(format!(
            "no case is in both: {} has none of those that were asked for, expected a forgefield binary that has one",
            baseline.display()
        )));
    }
    let rule = Rule { fail_over: start.args.fail_over, comparisons: shared.len() };
    let progress = screen.progress(shared.len() as u64, Left::Estimated);
    for (at, case) in shared.iter().enumerate() {
        progress.step(at as u64, case.name());
        let (row, change, then) = match start.against(&baseline, case.name(), rule) {
            Err(failure) if failure.code == 130 => break,
            other => other?,
        };
        let pairs = row.samples.processes.len();
        let notes = notes(&row, &then);
        let comparison = Comparison::new(case.name(), change, vec![pairs], notes);
        progress.plain(comparison.text());
        report.comparisons.push(comparison);
        report.rows.push(row);
    }
    progress.end();
    Ok(())
}

/// What changed besides the time.
pub fn notes(now: &Row, then: &BaselineRow) -> Vec<String> {
    let mut notes = Vec::new();
    if now.variant != then.variant {
        notes.push(format!("variant {} → {}", then.variant, now.variant));
    }
    if now.config != then.config {
        notes.push(format!("configuration {} → {}", then.config, now.config));
    }
    notes
}

/// Refuses results of another machine.
pub fn same_machine(path: &Path, old: &Report, machine: &Machine) -> Result<()> {
    let differences = machine.differences(&old.machine);
    if differences.is_empty() {
        return Ok(());
    }
    Err(Failure::input(format!(
        "{} is of another machine ({}): times of two machines are not compared; make a new one here with --save, or give \
         --baseline-binary",
        path.display(),
        differences.join("; ")
    )))
}

/// Refuses an earlier result that this run could not be compared with, before it is measured.
pub fn comparable(path: &Path, old: &Report, cases: &[Rc<dyn Case>], clock: Clock, processes: usize) -> Result<()> {
    if old.clock != clock {
        let name = |clock: Clock| match clock {
            Clock::Device => "timestamps of the device",
            Clock::Wall => "the wall clock",
        };
        return Err(Failure::input(format!(
            "{} was measured with {}, this run is with {}: expected the same clock",
            path.display(),
            name(old.clock),
            name(clock)
        )));
    }
    let shared: Vec<&Row> = old.rows.iter().filter(|row| cases.iter().any(|case| case.name() == row.case)).collect();
    if shared.is_empty() {
        let path = path.display();
        return Err(Failure::input(format!("no case is in both: {path} has none of those that were asked for")));
    }
    match shared.iter().find(|row| row.samples.by_process().len().min(processes) < FEWEST_PROCESSES) {
        Some(row) => Err(too_few(path, row, processes)),
        None => Ok(()),
    }
}

fn too_few(path: &Path, before: &Row, now: usize) -> Failure {
    let then = before.samples.by_process().len();
    Failure::input(format!(
        "{}: {then} processes in {}, {now} now, expected {FEWEST_PROCESSES} each at least: times of one process say nothing of \
         another",
        before.case,
        path.display()
    ))
}

/// What differs between two problems.
pub fn differences(then: &Problem, now: &Problem) -> Vec<String> {
    let [then, now] = [then, now].map(|problem| serde_json::to_value(problem).unwrap_or_default());
    let fields = now.as_object().into_iter().flatten();
    let differing = fields.filter(|(name, value)| then.get(name.as_str()) != Some(*value));
    differing.map(|(name, value)| format!("{name} {} there, {value} here", then[name.as_str()])).collect()
}

/// Compares rows with those of an earlier result.
pub fn compare_stored(
    path: &Path,
    old: &Report,
    rows: &[Row],
    args: &BenchArgs,
    screen: &Screen,
) -> Result<Vec<Comparison>> {
    let mut pairs = Vec::new();
    for row in rows {
        match old.rows.iter().find(|before| before.case == row.case && before.dtype == row.dtype) {
            Some(before) => pairs.push((before, row)),
            None => screen.warn(format!("{}: not in {}", row.case, path.display())),
        }
    }
    let rule = Rule { fail_over: args.fail_over, comparisons: pairs.len() };
    let compare = |(before, row): &(&Row, &Row)| {
        if before.problem != row.problem {
            let differences = differences(&before.problem, &row.problem).join("; ");
            return Err(Failure::input(format!(
                "{} is another problem in {}: {differences}",
                row.case,
                path.display()
            )));
        }
        let sides = [before, row].map(|row| row.samples.by_process());
        let processes = sides.each_ref().map(Vec::len);
        let change = stored(&sides[0], &sides[1], rule);
        let change = change.ok_or_else(|| too_few(path, before, processes[1]))?;
        let Row { variant, dtype, problem, config, .. } = (*before).clone();
        let notes = notes(row, &BaselineRow { variant, dtype, problem, config });
        Ok(Comparison::new(&row.case, change, processes.into(), notes))
    };
    pairs.iter().map(compare).collect()
}

impl Comparison {
    pub fn text(&self) -> String {
        let bound = |x: Option<f64>| x.map_or("?".to_owned(), |x| format!("{x:.3}"));
        let processes = match self.processes[..] {
            [then, now] => format!("{then} and {now} processes"),
            _ => format!("{} pairs of processes", self.processes.iter().sum::<usize>()),
        };
        let verdict = match self.verdict {
            Verdict::Slower => "slower",
            Verdict::NotSlower => "not slower",
            Verdict::Undecided => "undecided",
        };
        let notes = self.notes.iter().map(|note| format!("; {note}")).collect::<String>();
        let (low, high) = (bound(self.low), bound(self.high));
        format!("{}: {:.3} of the old time ({low} to {high}, {processes}), {verdict}{notes}", self.case, self.ratio)
    }
}

pub fn show_comparisons(comparisons: &[Comparison], screen: &Screen) -> Result<()> {
    comparisons.iter().try_for_each(|comparison| screen.line(comparison.text()))
}

/// Ends with 1 where a case became slower.
pub fn verdict(comparisons: &[Comparison], fail_over: f64, screen: &Screen) -> Result<()> {
    let of = |verdict: Verdict| -> Vec<String> {
        let those = comparisons.iter().filter(|c| c.verdict == verdict);
        those.map(|c| format!("{} ({:.3})", c.case, c.ratio)).collect()
    };
    let percent = 100.0 * fail_over;
    let undecided = of(Verdict::Undecided);
    if !undecided.is_empty() {
        screen.warn(format!(
            "warning: too noisy to tell {percent:.1} % from no change, so nothing is said of {}",
            undecided.join(", ")
        ));
    }
    let slower = of(Verdict::Slower);
    match (comparisons.len(), slower.is_empty()) {
        (0, _) => Err(Failure::input("no case is in both results")),
        (_, true) => Ok(()),
        (_, false) => Err(Failure::unmet(format!("slower, by --fail-over {percent:.1}%: {}", slower.join(", ")))),
    }
}
