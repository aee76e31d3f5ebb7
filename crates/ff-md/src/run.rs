//! Runs: steps with what is written of them, restart files, and an end.

use std::time::Instant;

use ff_structure::io::{Column, ColumnKind};
use ff_structure::{Frame, Labels};

use crate::dynamics::Simulation;
use crate::error::MdError;
use crate::minimize::Minimizer;
use crate::observe::Observables;
use crate::output::{Outputs, RestartFile};
use crate::potential::Potential;
use crate::units::ase_momentum;

/// How long a run is, and what it writes when; all in steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Steps from the very beginning, before a restart too.
    pub steps: u64,
    /// Between frames of the trajectory.
    pub every: u64,
    /// Between lines of the log.
    pub log_every: u64,
    /// Between restart files.
    pub restart_every: u64,
}

/// How a run ended.
#[derive(Debug)]
pub enum Ended {
    /// As planned.
    Done,
    /// Because it was asked to.
    Interrupted,
    /// At a state that has no next one.
    Diverged(MdError),
}

/// Who follows a run.
pub trait Watch {
    /// Whether to stop before the next step.
    fn stop(&mut self) -> bool {
        false
    }

    /// So many steps are taken.
    fn step(&mut self, step: u64) {
        let _ = step;
    }

    /// A line of the log.
    fn row(&mut self, row: &Row) {
        let _ = row;
    }
}

/// Nobody.
impl Watch for () {}

/// A line of the log of a simulation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Row {
    /// Steps taken.
    pub step: u64,
    /// Time, fs.
    pub time_fs: f64,
    /// The replica.
    pub replica: u64,
    /// Momentary values.
    pub values: Observables,
    /// Slope of the conserved quantity so far, meV per atom and ps.
    pub drift: f64,
    /// Lists built so far.
    pub rebuilds: u64,
    /// Steps per second of this process, 0 before the first.
    pub steps_per_s: f64,
    /// Time per day, ns.
    pub ns_per_day: f64,
}

impl Row {
    /// The names of the columns of a log.
    pub const HEADER: &str = "step,time_fs,replica,potential_ev,kinetic_ev,total_ev,temperature_k,pressure_bar,volume_a3,conserved_ev,\
                              drift_mev_per_atom_ps,rebuilds,steps_per_s,ns_per_day";

    /// The line, without its end; what there is none of stays empty.
    pub fn line(&self) -> String {
        let Self { step, time_fs, replica, values, drift, rebuilds, steps_per_s, ns_per_day } = self;
        let Observables { potential, kinetic, temperature, pressure_bar, volume, conserved } = values;
        let optional = |value: &Option<f64>| value.map(|x| format!("{x:.3}")).unwrap_or_default();
        let (pressure, volume, total) = (optional(pressure_bar), optional(volume), potential + kinetic);
        format!(
            "{step},{time_fs},{replica},{potential:.9},{kinetic:.9},{total:.9},{temperature:.3},{pressure},{volume},{conserved:.9},\
             {drift:.6},{rebuilds},{steps_per_s:.1},{ns_per_day:.3}"
        )
    }
}

/// What a run says at its end, of all its systems together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Summary {
    /// Steps taken from the very beginning.
    pub steps: u64,
    /// Slope of the conserved quantity, meV per atom and ps: the mean of the systems.
    pub drift: f64,
    /// Mean temperature over steps and systems, K; `None` of no step.
    pub mean_temperature: Option<f64>,
    /// Its statistical error, K, where there were steps enough to tell.
    pub temperature_error: Option<f64>,
    /// Lists built.
    pub rebuilds: u64,
}

impl Summary {
    /// Of a simulation as it is now.
    pub fn new<P: Potential>(simulation: &Simulation<P>) -> Self {
        let systems = || 0..simulation.structures().len();
        let n = systems().len().max(1) as f64;
        let temperature = systems().map(|system| simulation.temperature(system).mean()).sum::<f64>() / n;
        let errors: Option<Vec<f64>> = systems().map(|system| simulation.temperature(system).error()).collect();
        Self {
            steps: simulation.step_number(),
            drift: systems().map(|system| simulation.drift(system)).sum::<f64>() / n,
            mean_temperature: (simulation.step_number() > 0).then_some(temperature),
            temperature_error: errors.map(|errors| errors.iter().map(|e| e * e).sum::<f64>().sqrt() / n),
            rebuilds: simulation.rebuilds(),
        }
    }
}

/// Runs a simulation to the end of its plan. With new outputs it writes its first frames, lines and restart file before it begins;
/// with those that it goes on with they are there.
///
/// A run that diverges keeps what was written, and the last restart file.
///
/// # Errors
/// [`MdError::File`]: what could not be written.
pub fn simulate<P: Potential>(
    simulation: &mut Simulation<P>,
    plan: &Plan,
    outputs: &mut Outputs,
    restart: Option<&RestartFile>,
    watch: &mut dyn Watch,
) -> Result<Ended, MdError> {
    let (begin, first) = (Instant::now(), simulation.step_number());
    let save = |simulation: &Simulation<P>, outputs: &Outputs| match restart {
        None => Ok(()),
        Some(restart) => restart.save(&simulation.state(), outputs),
    };
    if !outputs.resumed() {
        outputs.lines(&format!("{}\n", Row::HEADER))?;
        write(simulation, plan, outputs, 0.0, watch)?;
        save(simulation, outputs)?;
    }
    let mut saved = first;
    while simulation.step_number() < plan.steps {
        if watch.stop() {
            save(simulation, outputs)?;
            return Ok(Ended::Interrupted);
        }
        match simulation.step() {
            Err(error) if error.is_divergence() => return Ok(Ended::Diverged(error)),
            taken => taken?,
        }
        let step = simulation.step_number();
        watch.step(step);
        let rate = (step - first) as f64 / begin.elapsed().as_secs_f64().max(1e-9);
        write(simulation, plan, outputs, rate, watch)?;
        if step.is_multiple_of(plan.restart_every) {
            save(simulation, outputs)?;
            saved = step;
        }
    }
    if saved != simulation.step_number() {
        save(simulation, outputs)?;
    }
    Ok(Ended::Done)
}

/// The frames and lines that are due.
fn write<P: Potential>(
    simulation: &Simulation<P>,
    plan: &Plan,
    outputs: &mut Outputs,
    steps_per_s: f64,
    watch: &mut dyn Watch,
) -> Result<(), MdError> {
    let step = simulation.step_number();
    if step.is_multiple_of(plan.every) && outputs.has_trajectory() {
        for system in 0..simulation.structures().len() {
            let (frame, results) = frame(simulation, system);
            outputs.frame(&frame, &results)?;
        }
    }
    if step.is_multiple_of(plan.log_every) {
        let ns_per_day = steps_per_s * simulation.settings().timestep_fs * 86_400.0 * 1e-6;
        let mut lines = String::new();
        for system in 0..simulation.structures().len() {
            let row = Row {
                step,
                time_fs: simulation.time_fs(),
                replica: simulation.replica(system),
                values: simulation.observe(system),
                drift: simulation.drift(system),
                rebuilds: simulation.rebuilds(),
                steps_per_s,
                ns_per_day,
            };
            lines += &row.line();
            lines.push('\n');
            watch.row(&row);
        }
        outputs.lines(&lines)?;
    }
    Ok(())
}

/// A system as a frame that ASE reads: momenta in its unit, constraints, and masses where they are not the standard ones.
fn frame<P: Potential>(simulation: &Simulation<P>, system: usize) -> (Frame, Labels) {
    let (structure, prediction) = (&simulation.structures()[system], &simulation.predictions()[system]);
    let mut frame = Frame::from(structure.clone());
    for (key, value) in [
        ("replica", simulation.replica(system).to_string()),
        ("step", simulation.step_number().to_string()),
        ("time_fs", format!("{:?}", simulation.time_fs())),
    ] {
        frame.info.push((key.to_owned(), value));
    }
    let masses = simulation.masses(system);
    let momenta = simulation.velocities(system).iter().zip(masses).flat_map(|(v, mass)| {
        let to_ase = ase_momentum() * mass;
        v.map(|v| format!("{:?}", v * to_ase))
    });
    frame.columns.push(Column::new("momenta", ColumnKind::Real, 3, momenta));
    let standard = structure.species.iter().map(|z| ff_structure::elements::mass(*z));
    if !standard.eq(masses.iter().map(|mass| Some(*mass))) {
        let masses = masses.iter().map(|mass| format!("{mass:?}"));
        frame.columns.push(Column::new("masses", ColumnKind::Real, 1, masses));
    }
    let free: Vec<[bool; 3]> = (0..structure.n_atoms()).map(|atom| simulation.is_free(system, atom)).collect();
    frame.columns.extend(move_mask(&free));
    let results = Labels {
        energy: Some(prediction.energy),
        energies: None,
        forces: Some(prediction.forces.clone()),
        stress: prediction.stress,
    };
    (frame, results)
}

/// The column of what is fixed, where anything is: one value for each atom where these suffice.
fn move_mask(free: &[[bool; 3]]) -> Option<Column> {
    let word = |free: &bool| if *free { "T" } else { "F" };
    if free.iter().all(|free| *free == [true; 3]) {
        None
    } else if free.iter().all(|free| *free == [free[0]; 3]) {
        Some(Column::new("move_mask", ColumnKind::Logical, 1, free.iter().map(|free| word(&free[0]))))
    } else {
        Some(Column::new("move_mask", ColumnKind::Logical, 3, free.as_flattened().iter().map(word)))
    }
}

/// The names of the columns of a minimisation's log.
const MINIMIZE_HEADER: &str = "step,replica,energy_ev,largest_force_ev_per_a,pressure_bar,volume_a3,converged";

/// Minimises until all systems are at rest or the plan's steps are over. Written as by [`simulate`], and of each system its last
/// frame and line in any case.
///
/// # Errors
/// As [`simulate`].
pub fn minimize<P: Potential>(
    minimizer: &mut Minimizer<P>,
    plan: &Plan,
    outputs: &mut Outputs,
    restart: Option<&RestartFile>,
    watch: &mut dyn Watch,
) -> Result<Ended, MdError> {
    let first = minimizer.state().step;
    let save = |minimizer: &Minimizer<P>, outputs: &Outputs| match restart {
        None => Ok(()),
        Some(restart) => restart.save(minimizer.state(), outputs),
    };
    let write = |minimizer: &Minimizer<P>, outputs: &mut Outputs, systems: &[usize]| {
        let step = minimizer.state().step;
        for system in systems.iter().copied() {
            let due = minimizer.converged(system) || step >= plan.steps;
            if (due || step.is_multiple_of(plan.every)) && outputs.has_trajectory() {
                let (frame, results) = rest(minimizer, system);
                outputs.frame(&frame, &results)?;
            }
            if due || step.is_multiple_of(plan.log_every) {
                let values = minimizer.observe(system);
                let optional = |value: Option<f64>| value.map(|x| format!("{x:.3}")).unwrap_or_default();
                outputs.lines(&format!(
                    "{step},{},{:.9},{:.6},{},{},{}\n",
                    minimizer.replica(system),
                    values.potential,
                    minimizer.largest_force(system),
                    optional(values.pressure_bar),
                    optional(values.volume),
                    u8::from(minimizer.converged(system))
                ))?;
            }
        }
        Ok::<(), MdError>(())
    };
    if !outputs.resumed() {
        outputs.lines(&format!("{MINIMIZE_HEADER}\n"))?;
        let all: Vec<usize> = (0..minimizer.structures().len()).collect();
        write(minimizer, outputs, &all)?;
        save(minimizer, outputs)?;
    }
    let mut saved = first;
    loop {
        let active = minimizer.active();
        let step = minimizer.state().step;
        if active.is_empty() || step >= plan.steps {
            break;
        }
        if watch.stop() {
            save(minimizer, outputs)?;
            return Ok(Ended::Interrupted);
        }
        match minimizer.step() {
            Err(error) if error.is_divergence() => return Ok(Ended::Diverged(error)),
            taken => taken?,
        }
        watch.step(step + 1);
        write(minimizer, outputs, &active)?;
        if (step + 1).is_multiple_of(plan.restart_every) {
            save(minimizer, outputs)?;
            saved = step + 1;
        }
    }
    if saved != minimizer.state().step {
        save(minimizer, outputs)?;
    }
    Ok(Ended::Done)
}

/// A system of a minimisation as a frame.
fn rest<P: Potential>(minimizer: &Minimizer<P>, system: usize) -> (Frame, Labels) {
    let (structure, prediction) = (&minimizer.structures()[system], &minimizer.predictions()[system]);
    let mut frame = Frame::from(structure.clone());
    frame.info.push(("replica".to_owned(), minimizer.replica(system).to_string()));
    frame.info.push(("step".to_owned(), minimizer.state().step.to_string()));
    frame.columns.extend(move_mask(minimizer.free(system)));
    let results = Labels {
        energy: Some(prediction.energy),
        energies: None,
        forces: Some(prediction.forces.clone()),
        stress: prediction.stress,
    };
    (frame, results)
}
