//! `md`: molecular dynamics of a file's frames under a model.

pub mod args;
mod figure;
pub mod setup;

use std::time::{Duration, Instant};

use ff_md::{
    Ended, Ensemble, Outputs, Plan, RestartFile, Row, Settings, Simulation, Summary, System, Velocities, Watch,
};
use serde::Serialize;

use self::args::{EnsembleChoice, MdArgs, VelocityChoice};
use crate::failure::{Failure, Result};
use crate::interrupt;
use crate::screen::{Left, Progress, Screen};

/// How often those who see no bar hear how far it is.
const SAID_EVERY: Duration = Duration::from_secs(10);
/// Steps beyond which hydrogen's bonds are no longer followed well, and those of anything.
const LONG_STEPS: [(f64, f64); 2] = [(1.1, 2.0), (5.0, f64::INFINITY)];

/// What is printed as JSON.
#[derive(Serialize)]
struct Report {
    steps: u64,
    drift_mev_per_atom_ps: f64,
    mean_temperature_k: Option<f64>,
    temperature_error_k: Option<f64>,
    steps_per_s: f64,
    ns_per_day: f64,
    /// Of the time of the steps what the model took; the rest is the integrator's and that of what is written.
    model_share: f64,
    rebuilds: u64,
    replicas: usize,
    atoms: usize,
    stopped: Option<String>,
}

/// Runs dynamics.
pub fn run(args: &MdArgs, screen: &Screen) -> Result<()> {
    let run = &args.run;
    let settings = settings(args);
    settings.check().map_err(Failure::input)?;
    setup::check_paths(run, args.figure.as_deref())?;
    let (model, host) = setup::potential(run, screen)?;
    let mut systems = setup::systems(run, &model, screen)?;
    let from = match args.velocities {
        VelocityChoice::Draw => Velocities::Drawn,
        VelocityChoice::File => Velocities::Given,
        VelocityChoice::Zero => Velocities::Zero,
    };
    for (number, system) in systems.iter_mut().enumerate() {
        let begun = system.start(from, &settings);
        begun.map_err(|e| Failure::input(format!("{}: system {number}: {e}", run.file.display())))?;
    }
    warn(&systems, &settings, screen);
    let restart = match &run.restart {
        None => None,
        Some(path) => {
            let mut identity = setup::identity("md", &settings, run)?;
            identity.insert("velocities".to_owned(), format!("{:?}", args.velocities).to_lowercase().into());
            Some(RestartFile::new(path, identity).map_err(Failure::input)?)
        }
    };
    let failed = |error| setup::failure(error, &run.file);
    let earlier = restart.as_ref().map(RestartFile::load).transpose().map_err(failed)?.flatten();
    let potential = setup::placed(run, &model, host, screen)?;
    setup::compare(run, &model, &systems, screen)?;
    let (output, log) = (run.output.as_deref(), run.log.as_deref());
    let (mut simulation, mut outputs) = match earlier {
        None => {
            let simulation = Simulation::new(potential, &systems, settings).map_err(failed)?;
            (simulation, Outputs::create(output, log).map_err(failed)?)
        }
        Some((state, lengths)) => {
            let simulation = Simulation::restore(potential, &systems, settings, state).map_err(failed)?;
            if simulation.step_number() > args.steps {
                let (step, path) = (simulation.step_number(), run.restart.as_deref().unwrap_or(&run.file));
                let message = format!("{} is at step {step}, expected at most --steps {}", path.display(), args.steps);
                return Err(Failure::input(message));
            }
            (simulation, Outputs::resume(output, log, lengths).map_err(failed)?)
        }
    };
    // What Ctrl-C finds written is whole.
    interrupt::flag();
    let first = simulation.step_number();
    let before = simulation.in_potential();
    if first > 0 {
        screen.say(format!("goes on from step {first}"));
    }
    let plan = Plan { steps: args.steps, every: run.every, log_every: run.log_every, restart_every: run.restart_every };
    let mut follower = Follower {
        progress: screen.progress(args.steps, Left::Estimated),
        rows: Vec::new(),
        keeps: args.figure.is_some(),
        first,
        begin: Instant::now(),
        said: Instant::now(),
    };
    let ended = ff_md::simulate(&mut simulation, &plan, &mut outputs, restart.as_ref(), &mut follower);
    let Follower { progress, rows, begin, .. } = follower;
    let seconds = begin.elapsed().as_secs_f64();
    progress.end();
    let ended = ended.map_err(failed)?;
    let summary = Summary::new(&simulation);
    let steps_per_s = (summary.steps - first) as f64 / seconds.max(1e-9);
    let failure = match ended {
        Ended::Done => None,
        Ended::Interrupted => Some(Failure::interrupted(format!("interrupted after step {}", summary.steps))),
        Ended::Diverged(error) => Some(failed(error)),
    };
    let report = Report {
        steps: summary.steps,
        drift_mev_per_atom_ps: summary.drift,
        mean_temperature_k: summary.mean_temperature,
        temperature_error_k: summary.temperature_error,
        steps_per_s,
        ns_per_day: steps_per_s * settings.timestep_fs * 86_400.0 * 1e-6,
        model_share: (simulation.in_potential() - before).as_secs_f64() / seconds.max(1e-9),
        rebuilds: summary.rebuilds,
        replicas: simulation.structures().len(),
        atoms: simulation.structures().iter().map(|structure| structure.n_atoms()).sum(),
        stopped: failure.as_ref().map(|failure| failure.message.clone()),
    };
    if run.json {
        screen.json(&report)?
    } else {
        print(&report, &settings, screen)?
    }
    if let Some(path) = &args.figure {
        let file = run.file.file_name().unwrap_or(run.file.as_os_str()).to_string_lossy();
        let title = format!("{file} in {}", name(args.ensemble));
        figure::write(path, &title, log, rows)?;
    }
    failure.map_or(Ok(()), Err)
}

fn settings(args: &MdArgs) -> Settings {
    let &MdArgs { thermostat_fs, barostat_fs, pressure_bar, compressibility_per_bar, friction_per_ps, .. } = args;
    let npt =
        |anisotropic| Ensemble::Npt { thermostat_fs, barostat_fs, pressure_bar, compressibility_per_bar, anisotropic };
    Settings {
        ensemble: match args.ensemble {
            EnsembleChoice::Nve => Ensemble::Nve,
            EnsembleChoice::Langevin => Ensemble::Langevin { friction_per_ps },
            EnsembleChoice::Bussi => Ensemble::Bussi { thermostat_fs },
            EnsembleChoice::Npt => npt(false),
            EnsembleChoice::NptAniso => npt(true),
        },
        timestep_fs: args.timestep_fs,
        temperature: args.temperature,
        seed: args.seed,
        removes_drift: !args.keep_drift,
        largest_force: args.max_force,
    }
}

fn name(ensemble: EnsembleChoice) -> &'static str {
    match ensemble {
        EnsembleChoice::Nve => "NVE",
        EnsembleChoice::Langevin => "NVT (Langevin)",
        EnsembleChoice::Bussi => "NVT (Bussi)",
        EnsembleChoice::Npt => "NPT",
        EnsembleChoice::NptAniso => "NPT (anisotropic)",
    }
}

/// Says what is likely a mistake.
fn warn(systems: &[System], settings: &Settings, screen: &Screen) {
    let lightest = systems.iter().flat_map(|system| &system.masses).copied().fold(f64::INFINITY, f64::min);
    let dt = settings.timestep_fs;
    if LONG_STEPS.iter().any(|(step, mass)| dt > *step && lightest < *mass) {
        screen.warn(format!(
            "warning: a time step of {dt} fs is long for atoms of {lightest} amu: watch the drift of the conserved quantity"
        ));
    }
}

/// Shows how far it is, and keeps what is drawn.
struct Follower<'a> {
    progress: Progress<'a>,
    rows: Vec<Row>,
    keeps: bool,
    first: u64,
    begin: Instant,
    said: Instant,
}

impl Watch for Follower<'_> {
    fn stop(&mut self) -> bool {
        interrupt::raised()
    }

    fn step(&mut self, step: u64) {
        // A step of a small molecule takes less than it takes to show it.
        if step.is_multiple_of(16) {
            let rate = (step - self.first) as f64 / self.begin.elapsed().as_secs_f64().max(1e-9);
            self.progress.step(step, format_args!("{rate:.0} steps/s"));
            if self.said.elapsed() >= SAID_EVERY {
                self.progress.plain(format_args!("step {step}, {rate:.0} steps/s"));
                self.said = Instant::now();
            }
        }
    }

    fn row(&mut self, row: &Row) {
        if self.keeps {
            self.rows.push(*row);
        }
    }
}

fn print(report: &Report, settings: &Settings, screen: &Screen) -> Result<()> {
    let Report { steps, replicas, atoms, .. } = report;
    let time = *steps as f64 * settings.timestep_fs * 1e-3;
    screen.line(format!(
        "{steps} steps of {} fs ({time:.3} ps), {replicas} systems, {atoms} atoms",
        settings.timestep_fs
    ))?;
    let error = report.temperature_error_k.map(|error| format!(" ± {error:.1}")).unwrap_or_default();
    let temperature = report.mean_temperature_k.map_or("–".to_owned(), |mean| format!("{mean:.1}{error} K"));
    screen.line(format!("mean temperature {temperature}"))?;
    screen.line(format!("drift of the conserved quantity {:.4} meV/atom/ps", report.drift_mev_per_atom_ps))?;
    let (rate, day, share) = (report.steps_per_s, report.ns_per_day, 100.0 * report.model_share);
    let rebuilds = report.rebuilds;
    screen.line(format!(
        "{rate:.1} steps/s, {day:.2} ns/day, {share:.1} % of the time in the model, {rebuilds} list rebuilds"
    ))
}
