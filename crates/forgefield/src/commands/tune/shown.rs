//! What happens in a search, as it is shown.

use ff_tune::{Event, ProblemOutcome};

use super::args::BudgetArg;
use crate::screen::{Left, Progress, Screen, nanoseconds};

/// Steps of the progress bar per task.
const STEPS: u64 = 1000;

/// The progress of all searches.
pub struct SearchProgress<'a> {
    /// The bar, or its lines.
    pub progress: Progress<'a>,
    /// Tasks of all ops.
    tasks: usize,
    /// Tasks of the ops before.
    pub before: usize,
    task: usize,
    title: String,
}

impl<'a> SearchProgress<'a> {
    /// For so many tasks of all ops.
    pub fn new(tasks: usize, budget: BudgetArg, screen: &'a Screen) -> Self {
        let left = match budget {
            BudgetArg::Time(time) => Left::Until(time),
            BudgetArg::Evaluations(_) | BudgetArg::All => Left::Estimated,
        };
        let progress = screen.progress(tasks as u64 * STEPS, left);
        Self { progress, tasks, before: 0, task: 0, title: String::new() }
    }

    /// Tasks of this op and those after it.
    pub fn left(&self) -> usize {
        self.tasks - self.before
    }

    /// Shows an event.
    pub fn event(&mut self, event: Event<'_>) {
        let base = self.task as u64 * STEPS;
        match event {
            Event::Note(note) => self.progress.line(format!("note: {note}")),
            Event::Begin { index, variant, dtype, problem, configs, .. } => {
                self.task = self.before + index;
                self.title = format!("{}/{} {} {variant} {dtype}", self.task + 1, self.tasks, problem.name);
                self.progress.step(self.task as u64 * STEPS, &self.title);
                self.progress.plain(format!("{}: {configs} configurations", self.title));
            }
            Event::Measured { done, total, best_ns, .. } => {
                let best = best_ns.map(|ns| format!(", best {}", nanoseconds(ns))).unwrap_or_default();
                // The last tenth is for the finals.
                let step = base + (9 * STEPS / 10) * done as u64 / total.max(1) as u64;
                self.progress.step(step, format!("{}: {done} of {total}{best}", self.title));
            }
            Event::Finals { configs } => {
                self.progress.step(base + 9 * STEPS / 10, format!("{}: finals of {configs}", self.title));
            }
            Event::End(outcome) => {
                self.progress.step(base + STEPS, &self.title);
                let best = match (&outcome.best, outcome.ratio()) {
                    (Some(best), Some(ratio)) => format!("{}, × {ratio:.2}", nanoseconds(best.timing.median_ns)),
                    (Some(best), None) => nanoseconds(best.timing.median_ns),
                    (None, _) => "nothing passed".to_owned(),
                };
                self.progress.plain(format!("  best {best} ({})", counts(outcome)));
            }
        }
    }
}

fn counts(outcome: &ProblemOutcome) -> String {
    let mut parts: Vec<String> =
        outcome.counts.iter().filter(|(_, n)| **n > 0).map(|(v, n)| format!("{n} {v}")).collect();
    if outcome.reused > 0 {
        parts.push(format!("{} of them from records", outcome.reused));
    }
    parts.join(", ")
}
