//! `minimize`: a file's frames to the next minimum of a model's energy.

pub mod args;

use std::time::Instant;

use ff_md::{Ended, FireSettings, Minimizer, Outputs, Plan, RestartFile, Watch};
use serde::Serialize;

use self::args::MinimizeArgs;
use crate::commands::md::setup;
use crate::failure::{Failure, Result};
use crate::interrupt;
use crate::screen::{Left, Progress, Screen};

/// What is printed as JSON.
#[derive(Serialize)]
struct Report {
    steps: u64,
    converged: usize,
    steps_per_s: f64,
    rebuilds: u64,
    systems: Vec<Row>,
    stopped: Option<String>,
}

/// A system at the end.
#[derive(Serialize)]
struct Row {
    name: String,
    replica: u64,
    energy: f64,
    max_force: f64,
    volume: Option<f64>,
    converged: bool,
}

/// Minimises.
pub fn run(args: &MinimizeArgs, screen: &Screen) -> Result<()> {
    let run = &args.run;
    setup::check_paths(run, None)?;
    let settings = FireSettings {
        largest_force_at_rest: args.fmax,
        cell: args.cell,
        pressure_bar: args.pressure_bar,
        ..FireSettings::default()
    };
    let (model, host) = setup::potential(run, screen)?;
    let systems = setup::systems(run, &model, screen)?;
    let restart = match &run.restart {
        None => None,
        Some(path) => {
            let identity = setup::identity("minimize", &settings, run)?;
            Some(RestartFile::new(path, identity).map_err(Failure::input)?)
        }
    };
    let failed = |error| setup::failure(error, &run.file);
    let earlier = restart.as_ref().map(RestartFile::load).transpose().map_err(failed)?.flatten();
    let potential = setup::placed(run, &model, host, screen)?;
    setup::compare(run, &model, &systems, screen)?;
    let (output, log) = (run.output.as_deref(), run.log.as_deref());
    let (state, lengths) = earlier.unzip();
    let mut minimizer = Minimizer::new(potential, systems, settings, state).map_err(failed)?;
    let mut outputs = match lengths {
        None => Outputs::create(output, log),
        Some(lengths) => Outputs::resume(output, log, lengths),
    }
    .map_err(failed)?;
    interrupt::flag();
    let first = minimizer.state().step;
    let plan = Plan { steps: args.steps, every: run.every, log_every: run.log_every, restart_every: run.restart_every };
    let begin = Instant::now();
    let mut follower = Follower { progress: screen.progress(args.steps, Left::Estimated) };
    let ended = ff_md::minimize(&mut minimizer, &plan, &mut outputs, restart.as_ref(), &mut follower);
    let seconds = begin.elapsed().as_secs_f64();
    follower.progress.end();
    let ended = ended.map_err(failed)?;
    let steps = minimizer.state().step;
    let rows: Vec<Row> = (0..minimizer.structures().len())
        .map(|system| Row {
            name: minimizer.structures()[system].name.clone(),
            replica: minimizer.replica(system),
            energy: minimizer.observe(system).potential,
            max_force: minimizer.largest_force(system),
            volume: minimizer.observe(system).volume,
            converged: minimizer.converged(system),
        })
        .collect();
    let converged = rows.iter().filter(|row| row.converged).count();
    let failure = match ended {
        Ended::Done if converged == rows.len() => None,
        Ended::Done => {
            let (all, fmax) = (rows.len(), args.fmax);
            let message =
                format!("{converged} of {all} systems are at rest (forces up to {fmax} eV/Å) after {steps} steps");
            Some(Failure::unmet(message))
        }
        Ended::Interrupted => Some(Failure::interrupted(format!("interrupted after step {steps}"))),
        Ended::Diverged(error) => Some(failed(error)),
    };
    let report = Report {
        steps,
        converged,
        steps_per_s: (steps - first) as f64 / seconds.max(1e-9),
        rebuilds: minimizer.rebuilds(),
        systems: rows,
        stopped: failure.as_ref().map(|failure| failure.message.clone()),
    };
    if run.json {
        screen.json(&report)?;
    } else {
        for row in &report.systems {
            let state = if row.converged { "at rest" } else { "not at rest" };
            let volume = row.volume.map(|volume| format!(", {volume:.3} Å³")).unwrap_or_default();
            let Row { name, energy, max_force, .. } = row;
            screen.line(format!("{name}: {energy:.6} eV, largest force {max_force:.4} eV/Å{volume}, {state}"))?;
        }
        screen.line(format!("{steps} steps, {:.1} steps/s", report.steps_per_s))?;
    }
    failure.map_or(Ok(()), Err)
}

struct Follower<'a> {
    progress: Progress<'a>,
}

impl Watch for Follower<'_> {
    fn stop(&mut self) -> bool {
        interrupt::raised()
    }

    fn step(&mut self, step: u64) {
        self.progress.step(step, "");
    }
}
