//! What a search comes to: a table, a line of notes, and where everything is.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use ff_spec::{DeviceId, Dtype, kernel_name};
use ff_tune::{NoteKind, Outcome, ProblemOutcome, Times, Verdict};

use crate::failure::Result;
use crate::ops;
use crate::screen::{Paint, Screen, columns, nanoseconds};

/// Prints an outcome; with `verbose` every note, and what of each row the table leaves out.
pub fn show(outcome: &Outcome, device: &DeviceId, records: &Path, verbose: bool, screen: &Screen) -> Result<()> {
    let problems = &outcome.problems;
    let dtypes: BTreeSet<Dtype> = problems.iter().map(|p| p.dtype).collect();
    let several = dtypes.len() > 1;
    let mut header = vec!["PROBLEM", "KERNEL"];
    header.extend(several.then_some("DTYPE"));
    header.extend(["DEFAULT", "CHOSEN", "SPEED-UP", "× UNFUSED", "TIE"]);
    if verbose {
        header.extend(["SPREAD", "TRIED", "CONFIG"]);
    }
    let rows: Vec<Vec<String>> = problems.iter().map(|p| row(p, several, verbose)).collect();
    let align =
        header.iter().map(|h| if matches!(*h, "PROBLEM" | "KERNEL" | "DTYPE" | "TIE" | "CONFIG") { 'l' } else { 'r' });
    let mut lines = columns(&header, &rows, &align.collect::<String>()).into_iter();
    screen.line(screen.paint(Paint::Bold, lines.next().unwrap_or_default()))?;
    let mut shown = None;
    for (problem, line) in problems.iter().zip(lines) {
        let of = (problem.op, &problem.problem.name);
        if verbose && shown.replace(of) != Some(of) {
            screen.line(screen.paint(Paint::Bold, ops::find(problem.op)?.heading(&problem.problem)))?;
        }
        screen.line(line)?;
        // Why there is nothing in a row has to be said beside it.
        for note in problem.notes.iter().filter(|_| verbose || problem.best.is_none()) {
            screen.line(format!("  note: {}", note.text))?;
        }
        let wrong = problem.counts.get(&Verdict::Correctness).copied().unwrap_or(0);
        if wrong > 0 {
            let text = format!("{wrong} configurations gave wrong results; the records say which");
            screen.line(format!("  {}", screen.paint(Paint::Red, text)))?;
        }
    }
    if device.software {
        let text = format!("{} is a software adapter: these times are no performance claims", device.name);
        screen.line(screen.paint(Paint::Yellow, text))?;
    }
    if !verbose && let Some(notes) = notes(problems) {
        screen.line(format!("notes   {notes}"))?;
    }
    screen.line(format!("time    {}", spent(&outcome.times)))?;
    screen.line(format!("records {}", records.display()))?;
    if outcome.tables.is_empty() {
        screen.line("table   none: nothing passed")?;
    }
    outcome.tables.iter().try_for_each(|table| screen.line(format!("table   {}", table.display())))
}

fn row(p: &ProblemOutcome, dtype: bool, verbose: bool) -> Vec<String> {
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "–".to_owned());
    let ratio = |r: Option<f64>| or_dash(r.map(|r| format!("{r:.2}")));
    let best = p.best.as_ref();
    let mut cells = vec![p.problem.name.clone(), kernel_name(&p.family, p.order)];
    cells.extend(dtype.then(|| p.dtype.to_string()));
    cells.extend([
        or_dash(p.default.as_ref().map(|d| nanoseconds(d.timing.median_ns))),
        or_dash(best.map(|b| nanoseconds(b.timing.median_ns))),
        ratio(p.ratio()),
        ratio(p.unfused_ratio()),
        or_dash(tie(p)),
    ]);
    if verbose {
        let tried: usize = p.counts.values().sum();
        cells.extend([
            or_dash(best.map(|b| format!("{:.1} %", 100.0 * b.timing.spread_ns / b.timing.median_ns))),
            tried.to_string(),
            or_dash(best.map(|b| b.config.to_string())),
        ]);
    }
    cells
}

/// What the chosen configuration is not told apart from: the default, which then stays, or so many others.
fn tie(p: &ProblemOutcome) -> Option<String> {
    let (default, best) = (p.default.as_ref(), p.best.as_ref()?);
    if default.is_some_and(|default| default.config == best.config) {
        return Some("default".to_owned());
    }
    Some(p.ties.len()).filter(|ties| *ties > 0).map(|ties| format!("{ties} more"))
}

/// How many notes there are of each kind; `None` where there are none.
fn notes(problems: &[ProblemOutcome]) -> Option<String> {
    let mut kinds: BTreeMap<NoteKind, usize> = BTreeMap::new();
    for note in problems.iter().flat_map(|p| &p.notes) {
        *kinds.entry(note.kind).or_default() += 1;
    }
    let kinds: Vec<String> = kinds.iter().map(|(kind, n)| format!("{n} {kind}")).collect();
    (!kinds.is_empty()).then(|| format!("{} (--verbose has them)", kinds.join(", ")))
}

/// Where the time went, and which share of it the tuner took for itself.
fn spent(times: &Times) -> String {
    let seconds = |ns: u64| ns as f64 * 1e-9;
    format!(
        "{:.1} s: {:.1} s compiling, {:.1} s gating, {:.1} s running, {:.1} s of its own ({:.1} %)",
        seconds(times.total_ns()),
        seconds(times.compile_ns),
        seconds(times.gate_ns),
        seconds(times.benchmark_ns),
        seconds(times.own_ns()),
        100.0 * times.own_share()
    )
}

#[cfg(test)]
mod tests {
    use ff_spec::{Problem, cell_list};
    use ff_tune::Note;

    use super::*;

    fn outcome(kinds: &[NoteKind]) -> ProblemOutcome {
        ProblemOutcome {
            op: cell_list::OP,
            variant: "full_cells".to_owned(),
            order: 0,
            family: "full_cells".to_owned(),
            dtype: Dtype::F32,
            problem: Problem {
                name: "h2o".to_owned(),
                n_atoms: 3,
                n_systems: 1,
                n_edges: 6,
                max_degree: 2,
                ..Problem::default()
            },
            default: None,
            best: None,
            ties: Vec::new(),
            unfused: None,
            counts: BTreeMap::new(),
            reused: 0,
            space: None,
            notes: kinds.iter().map(|kind| Note { kind: *kind, text: "text".to_owned() }).collect(),
            times: Times::default(),
        }
    }

    #[test]
    fn notes_are_counted_by_kind() {
        let problems = [outcome(&[NoteKind::Drift, NoteKind::Unfused]), outcome(&[]), outcome(&[NoteKind::Drift])];
        let expected = "2 of drift, 1 of an unfused composition that failed (--verbose has them)";
        assert_eq!(notes(&problems).as_deref(), Some(expected));
        assert_eq!(notes(&problems[1..2]), None);
    }

    #[test]
    fn a_row_without_a_result_has_dashes() {
        assert_eq!(row(&outcome(&[]), true, false), ["h2o", "full_cells", "f32", "–", "–", "–", "–", "–"]);
    }
}
