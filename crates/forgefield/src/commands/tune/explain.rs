use ff_spec::{DeviceId, Dtype, Problem, SCHEMA_VERSION, kernel_name};
use ff_tune::{Explanation, SpaceError, Spaces, Target, Task, Tuned};
use serde::Serialize;

use crate::failure::{Failure, Result};
use crate::screen::{Paint, Screen, columns};

/// What the constraints leave of the space of one task.
#[derive(Serialize)]
pub struct Explained {
    op: &'static str,
    variant: String,
    dtype: Dtype,
    problem: Problem,
    #[serde(flatten)]
    explanation: Explanation,
    /// What each constraint would remove if it were the only one.
    alone: Vec<(String, u64)>,
    /// Constraints that cannot hold together, where nothing is left.
    conflict: Vec<String>,
    #[serde(skip)]
    error: Option<SpaceError>,
}

#[derive(Serialize)]
struct Document<'a> {
    schema: u32,
    spaces: &'a [Explained],
}

/// Opens the space of every task.
pub fn spaces<O: Tuned>(device: &DeviceId, spaces: &Spaces, tasks: &[Task<'_, O>]) -> Result<Vec<Explained>> {
    let explained = tasks.iter().map(|task| {
        let problem = O::sizes(&task.problem, &(task.inputs)());
        let space = spaces.get(Target::of(device.runtime), O::part(&task.variant), O::ORDER)?;
        let (points, explanation) = space.open(device, &problem, task.dtype)?;
        let alone = space.alone(device, &problem, task.dtype)?;
        let error = points.is_empty().then(|| space.empty(device, &problem, task.dtype)).transpose()?;
        let conflict =
            if let Some(SpaceError::Empty { conflict, .. }) = &error { conflict.clone() } else { Vec::new() };
        let (variant, dtype) = (kernel_name(&task.variant.to_string(), O::ORDER), task.dtype);
        Ok(Explained { op: O::NAME, variant, dtype, problem, explanation, alone, conflict, error })
    });
    explained.collect::<std::result::Result<_, SpaceError>>().map_err(Failure::input)
}

/// Prints them; a space with nothing left ends with 2.
pub fn show(explained: &[Explained], json: bool, screen: &Screen) -> Result<()> {
    if json {
        screen.json(&Document { schema: SCHEMA_VERSION, spaces: explained })?;
    } else {
        for space in explained {
            let Explained { op, variant, dtype, problem, explanation, alone, .. } = space;
            let (kept, total) = (explanation.kept, explanation.total);
            let title = format!("{op} {variant} {dtype} on {}: {kept} of {total} configurations", problem.name);
            screen.line(screen.paint(Paint::Bold, title))?;
            let rows: Vec<Vec<String>> = explanation
                .removed
                .iter()
                .zip(alone)
                .map(|((text, removed), (_, alone))| vec![removed.to_string(), alone.to_string(), text.clone()])
                .collect();
            if rows.is_empty() {
                screen.line("  no constraints")?;
                continue;
            }
            for line in columns(&["REMOVED", "ALONE", "CONSTRAINT"], &rows, "rrl") {
                screen.line(format!("  {line}"))?;
            }
        }
    }
    match explained.iter().find_map(|space| space.error.as_ref()) {
        Some(error) => Err(Failure::input(error)),
        None => Ok(()),
    }
}
