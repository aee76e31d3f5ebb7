//! Integrators: all systems, step by step.

use std::time::{Duration, Instant};

use ff_model::{Prediction, Wanted};
use ff_structure::Structure;
use serde::{Deserialize, Serialize};

use crate::cell::{self, Matrix};
use crate::error::MdError;
use crate::observe::{Blocks, Observables, Slope};
use crate::potential::{Potential, PotentialError};
use crate::random::{Purpose, Stream};
use crate::settings::{Ensemble, Settings};
use crate::system::{System, remove_drift};
use crate::units::{BAR, BOLTZMANN, EV_PER_AMU};

/// A cell whose height falls below this part of what it was has collapsed.
const LEAST_HEIGHT: f64 = 0.5;
/// A cell whose volume is beyond this many times what it was has evaporated.
const MOST_VOLUME: f64 = 20.0;
/// A strain of one step beyond it is no relaxation.
const MOST_STRAIN: f64 = 0.1;

/// Systems under a potential.
pub struct Simulation<P> {
    potential: P,
    settings: Settings,
    structures: Vec<Structure>,
    bodies: Vec<Body>,
    predictions: Vec<Prediction>,
    step: u64,
    /// Lists that were built before this process took over.
    rebuilds: u64,
    /// Spent in the potential by this process.
    in_potential: Duration,
}

/// All that a simulation has to remember, to the last bit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Steps taken.
    pub step: u64,
    rebuilds: u64,
    systems: Vec<SystemState>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct SystemState {
    positions: Vec<[f64; 3]>,
    cell: Option<Matrix>,
    moving: Moving,
}

/// What changes of a system beside its structure.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Moving {
    velocities: Vec<[f64; 3]>,
    /// What thermostat and barostat put in, eV.
    exchanged: f64,
    /// Conserved quantity over time in ps, as differences from the first.
    drift: Slope,
    first_conserved: f64,
    temperature: Blocks,
    /// Heights and volume of the cell at the beginning.
    first_heights: [f64; 3],
    first_volume: f64,
}

struct Body {
    replica: u64,
    masses: Vec<f64>,
    /// eV/amu over the mass, 0 along fixed coordinates.
    mobility: Vec<[f64; 3]>,
    degrees: usize,
    loses_drift: bool,
    moving: Moving,
    /// The strain of this step's barostat.
    strain: Option<Matrix>,
}

impl Body {
    fn new(system: &System, settings: &Settings) -> Self {
        let mobility = |(free, mass): (&[bool; 3], &f64)| free.map(|free| if free { EV_PER_AMU / mass } else { 0.0 });
        let cell = system.structure.cell.unwrap_or_default();
        let volume = cell::volume(&cell);
        Self {
            replica: system.replica,
            masses: system.masses.clone(),
            mobility: system.free.iter().zip(&system.masses).map(mobility).collect(),
            degrees: system.degrees(settings),
            loses_drift: system.loses_drift(settings),
            moving: Moving {
                velocities: system.velocities.clone().unwrap_or_default(),
                exchanged: 0.0,
                drift: Slope::default(),
                first_conserved: 0.0,
                temperature: Blocks::default(),
                first_heights: if volume > 0.0 { cell::heights(&cell) } else { [0.0; 3] },
                first_volume: volume,
            },
            strain: None,
        }
    }

    /// Kinetic energy, eV.
    fn kinetic(&self) -> f64 {
        let sum: f64 = self.moving.velocities.iter().zip(&self.masses).map(|(v, mass)| mass * cell::dot(*v, *v)).sum();
        0.5 * sum / EV_PER_AMU
    }

    /// Σ m v⊗v, eV; symmetric.
    fn momentum_flux(&self) -> Matrix {
        let mut flux = [[0.0; 3]; 3];
        for (v, mass) in self.moving.velocities.iter().zip(&self.masses) {
            for a in 0..3 {
                for b in 0..3 {
                    flux[a][b] += mass * v[a] * v[b];
                }
            }
        }
        cell::scale(&flux, 1.0 / EV_PER_AMU)
    }

    fn kick(&mut self, forces: &[[f64; 3]], dt: f64) {
        for ((v, mobility), force) in self.moving.velocities.iter_mut().zip(&self.mobility).zip(forces) {
            for axis in 0..3 {
                v[axis] += dt * mobility[axis] * force[axis];
            }
        }
    }

    fn drift(&self, positions: &mut [[f64; 3]], dt: f64) {
        for (x, v) in positions.iter_mut().zip(&self.moving.velocities) {
            for axis in 0..3 {
                x[axis] += dt * v[axis];
            }
        }
    }

    /// The part O of BAOAB: friction and noise over a whole step.
    fn langevin(&mut self, settings: &Settings, friction_per_ps: f64, step: u64) {
        let before = self.kinetic();
        let mut stream = Stream::new(settings.seed, self.replica, step, Purpose::Langevin);
        let kept = libm::exp(-friction_per_ps * 1e-3 * settings.timestep_fs);
        let noise = (1.0 - kept * kept) * BOLTZMANN * settings.temperature;
        for (v, mobility) in self.moving.velocities.iter_mut().zip(&self.mobility) {
            for axis in 0..3 {
                v[axis] = kept * v[axis] + (noise * mobility[axis]).sqrt() * stream.normal();
            }
        }
        if self.loses_drift {
            remove_drift(&mut self.moving.velocities, &self.masses);
        }
        self.moving.exchanged += self.kinetic() - before;
    }

    /// Stochastic velocity rescaling over a whole step, equation A7 of doi:10.1063/1.2408420.
    fn rescale(&mut self, settings: &Settings, thermostat_fs: f64, step: u64) {
        if self.loses_drift {
            // What is lost here is the rounding of forces, which are to sum to zero.
            remove_drift(&mut self.moving.velocities, &self.masses);
        }
        let kinetic = self.kinetic();
        if kinetic == 0.0 {
            // Velocities without a direction cannot be scaled; the next step has some.
            return;
        }
        let mut stream = Stream::new(settings.seed, self.replica, step, Purpose::Thermostat);
        let kept = libm::exp(-settings.timestep_fs / thermostat_fs);
        let wanted = 0.5 * self.degrees as f64 * BOLTZMANN * settings.temperature;
        let share = (1.0 - kept) * wanted / (self.degrees as f64 * kinetic);
        let along = stream.normal();
        let across = stream.chi_square(self.degrees - 1);
        let square = kept + share * (along * along + across) + 2.0 * along * (kept * share).sqrt();
        let sign = if along + (kept / share).sqrt() < 0.0 { -1.0 } else { 1.0 };
        let factor = sign * square.max(0.0).sqrt();
        self.moving.velocities.iter_mut().for_each(|v| *v = v.map(|x| x * factor));
        self.moving.exchanged += self.kinetic() - kinetic;
    }

    /// Stochastic cell rescaling over a whole step; `stress` is that of the last evaluation, whose cell this is.
    ///
    /// With η the strain of the step, dη = (β/3τ)(P − P₀)dt + √(2β kT/3Vτ)dW: the noise has variance 1 for the diagonal entries and ½
    /// for the others of a symmetric η. Of an isotropic cell η is its trace over three times one. The weight that this keeps is
    /// exp(−(K + U + P₀V)/kT) in dV and in the fractional coordinates and their momenta.
    fn relax_cell(&mut self, settings: &Settings, npt: &Npt, structure: &mut Structure, stress: &Matrix, step: u64) {
        let Some(cell) = structure.cell else { return };
        let volume = cell::volume(&cell);
        let before = self.kinetic();
        let pressure = cell::add(&cell::scale(&self.momentum_flux(), 1.0 / volume), &cell::scale(stress, -1.0));
        let mut stream = Stream::new(settings.seed, self.replica, step, Purpose::Barostat);
        let rate = npt.compressibility / npt.barostat_fs * settings.timestep_fs;
        let noise = 2.0 * rate * BOLTZMANN * settings.temperature / volume;
        let strain = if npt.anisotropic {
            let diagonal = (noise / 3.0).sqrt();
            let mut strain = [[0.0; 3]; 3];
            for a in 0..3 {
                strain[a][a] = rate / 3.0 * (pressure[a][a] - npt.pressure) + diagonal * stream.normal();
            }
            for (a, b) in [(1, 2), (0, 2), (0, 1)] {
                let mean = 0.5 * (pressure[a][b] + pressure[b][a]);
                strain[a][b] = rate / 3.0 * mean + diagonal * std::f64::consts::FRAC_1_SQRT_2 * stream.normal();
                strain[b][a] = strain[a][b];
            }
            strain
        } else {
            let mean = cell::trace(&pressure) / 3.0;
            let growth = rate * (mean - npt.pressure) + noise.sqrt() * stream.normal();
            cell::scale(&cell::IDENTITY, growth / 3.0)
        };
        let (stretch, shrink) = if npt.anisotropic {
            (cell::exponential(&strain), cell::exponential(&cell::scale(&strain, -1.0)))
        } else {
            let factor = libm::exp(strain[0][0]);
            (cell::scale(&cell::IDENTITY, factor), cell::scale(&cell::IDENTITY, 1.0 / factor))
        };
        let cell = cell.map(|row| cell::apply(&stretch, row));
        structure.cell = Some(cell);
        structure.positions.iter_mut().for_each(|x| *x = cell::apply(&stretch, *x));
        self.moving.velocities.iter_mut().for_each(|v| *v = cell::apply(&shrink, *v));
        // The potential's part is that of the mean of the stresses before and after the step.
        let work = 0.5 * volume * cell::contract(stress, &strain);
        self.moving.exchanged += self.kinetic() - before + npt.pressure * (cell::volume(&cell) - volume) + work;
        self.strain = Some(strain);
    }

    /// Whether the cell is still one, and if not why.
    fn broken_cell(&self, structure: &Structure) -> Option<String> {
        let strain = self.strain?;
        let cell = structure.cell?;
        let largest = strain.as_flattened().iter().fold(0.0_f64, |most, x| most.max(x.abs()));
        if !cell::within(largest, MOST_STRAIN) {
            return Some(format!(
                "the barostat strains the cell by {largest:.3} in one step, expected at most {MOST_STRAIN}: a longer relaxation time \
                 or a smaller compressibility may help"
            ));
        }
        let (heights, volume) = (cell::heights(&cell), cell::volume(&cell));
        for (height, first) in heights.iter().zip(&self.moving.first_heights) {
            if !cell::within(LEAST_HEIGHT * first, *height) {
                return Some(format!(
                    "the cell has shrunk to {height:.3} Å between two faces that were {first:.3} Å apart, expected at least half of it"
                ));
            }
        }
        let first = self.moving.first_volume;
        (!cell::within(volume, MOST_VOLUME * first)).then(|| {
            format!(
                "the cell has grown from {first:.1} to {volume:.1} Å³, expected at most {MOST_VOLUME} times its volume"
            )
        })
    }
}

/// A barostat in eV, Å and fs.
struct Npt {
    barostat_fs: f64,
    pressure: f64,
    compressibility: f64,
    anisotropic: bool,
}

impl<P: Potential> Simulation<P> {
    /// Systems at step 0, evaluated.
    ///
    /// # Errors
    /// [`MdError`]: settings and systems that mean nothing, systems that the potential refuses, forces that are beyond the limit.
    pub fn new(potential: P, systems: &[System], settings: Settings) -> Result<Self, MdError> {
        let mut simulation = Self::prepare(potential, systems, settings)?;
        simulation.evaluate(0)?;
        for system in 0..simulation.bodies.len() {
            let first = simulation.observe(system).conserved;
            simulation.bodies[system].moving.first_conserved = first;
        }
        Ok(simulation)
    }

    /// Goes on from a state of the same systems; what follows has the bits that it would have had.
    ///
    /// # Errors
    /// As [`Simulation::new`], and a state of other systems.
    pub fn restore(potential: P, systems: &[System], settings: Settings, state: State) -> Result<Self, MdError> {
        let mut simulation = Self::prepare(potential, systems, settings)?;
        let (expected, found) = (systems.len(), state.systems.len());
        if expected != found {
            let (expected, found) = (format!("{expected}, as there are systems"), found.to_string());
            return Err(MdError::Setting { name: "the number of systems of the state", expected, found });
        }
        let all = simulation.structures.iter_mut().zip(&mut simulation.bodies).zip(state.systems).enumerate();
        for (system, ((structure, body), state)) in all {
            let (expected, found) = (structure.n_atoms(), state.positions.len());
            if found != expected || state.moving.velocities.len() != expected {
                let reason = format!("the state is of {found} atoms, expected {expected}");
                return Err(MdError::System { system, name: structure.name.clone(), reason });
            }
            (structure.positions, structure.cell, body.moving) = (state.positions, state.cell, state.moving);
        }
        (simulation.step, simulation.rebuilds) = (state.step, state.rebuilds);
        // What was evaluated at this step counted its lists already.
        simulation.evaluate(state.step)?;
        simulation.rebuilds -= simulation.potential.rebuilds().min(simulation.rebuilds);
        Ok(simulation)
    }

    fn prepare(potential: P, systems: &[System], settings: Settings) -> Result<Self, MdError> {
        settings.check()?;
        for (number, system) in systems.iter().enumerate() {
            system.check(number, &settings)?;
        }
        Ok(Self {
            potential,
            settings,
            structures: systems.iter().map(|system| system.structure.clone()).collect(),
            bodies: systems.iter().map(|system| Body::new(system, &settings)).collect(),
            predictions: Vec::new(),
            step: 0,
            rebuilds: 0,
            in_potential: Duration::ZERO,
        })
    }

    /// All that has to be remembered.
    pub fn state(&self) -> State {
        let system = |(structure, body): (&Structure, &Body)| SystemState {
            positions: structure.positions.clone(),
            cell: structure.cell,
            moving: body.moving.clone(),
        };
        let systems = self.structures.iter().zip(&self.bodies).map(system).collect();
        State { step: self.step, rebuilds: self.rebuilds(), systems }
    }

    /// Steps taken.
    pub fn step_number(&self) -> u64 {
        self.step
    }

    /// Time, fs.
    pub fn time_fs(&self) -> f64 {
        self.step as f64 * self.settings.timestep_fs
    }

    /// What is simulated.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The systems as they are now.
    pub fn structures(&self) -> &[Structure] {
        &self.structures
    }

    /// Energies, forces and stresses as they are now.
    pub fn predictions(&self) -> &[Prediction] {
        &self.predictions
    }

    /// Velocities of a system, Å/fs.
    pub fn velocities(&self, system: usize) -> &[[f64; 3]] {
        &self.bodies[system].moving.velocities
    }

    /// Turns all velocities around.
    pub fn reverse(&mut self) {
        for v in self.bodies.iter_mut().flat_map(|body| &mut body.moving.velocities) {
            *v = v.map(|x| -x);
        }
    }

    /// Masses of a system, amu.
    pub fn masses(&self, system: usize) -> &[f64] {
        &self.bodies[system].masses
    }

    /// Which coordinates of a system's atom move.
    pub fn is_free(&self, system: usize, atom: usize) -> [bool; 3] {
        self.bodies[system].mobility[atom].map(|mobility| mobility > 0.0)
    }

    /// Which random numbers are a system's.
    pub fn replica(&self, system: usize) -> u64 {
        self.bodies[system].replica
    }

    /// How often lists were built, since step 0.
    pub fn rebuilds(&self) -> u64 {
        self.rebuilds + self.potential.rebuilds()
    }

    /// How long this process has spent in the potential, the evaluation before the first step included.
    pub fn in_potential(&self) -> Duration {
        self.in_potential
    }

    /// Mean temperature of a system over all steps, and what is known of its error.
    pub fn temperature(&self, system: usize) -> &Blocks {
        &self.bodies[system].moving.temperature
    }

    /// Slope of a system's conserved quantity over all steps, meV per atom and ps.
    pub fn drift(&self, system: usize) -> f64 {
        1e3 * self.bodies[system].moving.drift.slope() / self.structures[system].n_atoms() as f64
    }

    /// Momentary values of a system.
    pub fn observe(&self, system: usize) -> Observables {
        let (structure, body, prediction) = (&self.structures[system], &self.bodies[system], &self.predictions[system]);
        let kinetic = body.kinetic();
        let volume = structure.cell.as_ref().map(cell::volume).filter(|_| structure.pbc.contains(&true));
        let pressure_bar = prediction.stress.zip(volume).map(|(stress, volume)| {
            let flux = cell::trace(&body.momentum_flux()) / volume;
            (flux - cell::trace(&stress)) / 3.0 / BAR
        });
        let work = match (self.settings.ensemble, volume) {
            (Ensemble::Npt { pressure_bar, .. }, Some(volume)) => pressure_bar * BAR * volume,
            _ => 0.0,
        };
        Observables {
            potential: prediction.energy,
            kinetic,
            temperature: if body.degrees > 0 { 2.0 * kinetic / (body.degrees as f64 * BOLTZMANN) } else { 0.0 },
            pressure_bar,
            volume,
            conserved: prediction.energy + kinetic + work - body.moving.exchanged,
        }
    }

    /// Takes one step with all systems.
    ///
    /// # Errors
    /// [`MdError::Diverged`] and [`MdError::Fault`]; the simulation is then at no step, and of no further use.
    pub fn step(&mut self) -> Result<(), MdError> {
        let settings = self.settings;
        let (dt, next) = (settings.timestep_fs, self.step + 1);
        let systems = self.structures.iter_mut().zip(&mut self.bodies).zip(&self.predictions);
        for (system, ((structure, body), prediction)) in systems.enumerate() {
            body.kick(&prediction.forces, 0.5 * dt);
            match settings.ensemble {
                Ensemble::Nve | Ensemble::Bussi { .. } => body.drift(&mut structure.positions, dt),
                Ensemble::Langevin { friction_per_ps } => {
                    body.drift(&mut structure.positions, 0.5 * dt);
                    body.langevin(&settings, friction_per_ps, next);
                    body.drift(&mut structure.positions, 0.5 * dt);
                }
                Ensemble::Npt { barostat_fs, pressure_bar, compressibility_per_bar, anisotropic, .. } => {
                    let npt = Npt {
                        barostat_fs,
                        pressure: pressure_bar * BAR,
                        compressibility: compressibility_per_bar / BAR,
                        anisotropic,
                    };
                    // `evaluate` has seen to it that there is one.
                    let stress = prediction.stress.unwrap_or_default();
                    body.drift(&mut structure.positions, 0.5 * dt);
                    body.relax_cell(&settings, &npt, structure, &stress, next);
                    body.drift(&mut structure.positions, 0.5 * dt);
                    if let Some(reason) = body.broken_cell(structure) {
                        let name = structure.name.clone();
                        return Err(MdError::Diverged { step: next, system, name, reason });
                    }
                }
            }
        }
        self.evaluate(next)?;
        for ((structure, body), prediction) in self.structures.iter().zip(&mut self.bodies).zip(&self.predictions) {
            body.kick(&prediction.forces, 0.5 * dt);
            if let (Some(strain), Some(stress), Some(cell)) = (body.strain.take(), prediction.stress, structure.cell) {
                body.moving.exchanged += 0.5 * cell::volume(&cell) * cell::contract(&stress, &strain);
            }
            if let Ensemble::Bussi { thermostat_fs } | Ensemble::Npt { thermostat_fs, .. } = settings.ensemble {
                body.rescale(&settings, thermostat_fs, next);
            }
        }
        self.step = next;
        for system in 0..self.bodies.len() {
            let Observables { temperature, conserved, .. } = self.observe(system);
            let time_ps = 1e-3 * self.time_fs();
            let moving = &mut self.bodies[system].moving;
            moving.drift.push(time_ps, conserved - moving.first_conserved);
            moving.temperature.push(temperature);
        }
        Ok(())
    }

    /// Energies and forces of all systems where they are now, which `step` has brought them to.
    fn evaluate(&mut self, step: u64) -> Result<(), MdError> {
        let broken = |system: usize, structures: &[Structure], reason: String| {
            let name = structures[system].name.clone();
            match step {
                0 => MdError::System { system, name, reason },
                _ => MdError::Diverged { step, system, name, reason },
            }
        };
        for (system, structure) in self.structures.iter().enumerate() {
            if let Some(atom) = structure.positions.iter().position(|x| !x.iter().all(|x| x.is_finite())) {
                let force = self.predictions.get(system).and_then(|p| p.forces.get(atom)).copied().unwrap_or_default();
                let reason =
                    format!("atom {atom} has left: its position is not finite, its last force {}", shown(force));
                return Err(broken(system, &self.structures, reason));
            }
        }
        let begun = Instant::now();
        let evaluated = self.potential.evaluate(&self.structures, Wanted::FORCES, &mut self.predictions);
        self.in_potential += begun.elapsed();
        evaluated.map_err(|error| match error {
            PotentialError::System { system, reason } => broken(system, &self.structures, reason),
            PotentialError::Fault(reason) => MdError::Fault { step, reason },
        })?;
        for (system, structure) in self.structures.iter().enumerate() {
            let (expected, found) = (structure.n_atoms(), self.predictions.get(system).map_or(0, |p| p.forces.len()));
            if found != expected {
                let reason = format!("the potential has forces on {found} atoms, expected {expected}");
                return Err(broken(system, &self.structures, reason));
            }
        }
        let limit = self.settings.largest_force;
        for (system, prediction) in self.predictions.iter().enumerate() {
            let square = |f: &[f64; 3]| cell::dot(*f, *f);
            if let Some(atom) = prediction.forces.iter().position(|f| !cell::within(square(f), limit * limit)) {
                let force = shown(prediction.forces[atom]);
                let reason = format!("the force on atom {atom} is {force}, expected at most {limit} eV/Å");
                return Err(broken(system, &self.structures, reason));
            }
            if !prediction.energy.is_finite() {
                let most =
                    prediction.forces.iter().enumerate().max_by(|(_, f), (_, g)| square(f).total_cmp(&square(g)));
                let (atom, force) = most.map_or((0, [0.0; 3]), |(atom, force)| (atom, *force));
                let reason = format!(
                    "the energy is {} eV, expected a finite one; the largest force is {} on atom {atom}",
                    prediction.energy,
                    shown(force)
                );
                return Err(broken(system, &self.structures, reason));
            }
            if prediction.stress.is_none() && matches!(self.settings.ensemble, Ensemble::Npt { .. }) {
                let reason = "the potential has no stress, expected one for constant pressure".to_owned();
                return Err(broken(system, &self.structures, reason));
            }
        }
        Ok(())
    }
}

/// A force in eV/Å, with its size.
fn shown(force: [f64; 3]) -> String {
    let [x, y, z] = force;
    format!("{:.4} eV/Å ({x:.4}, {y:.4}, {z:.4})", cell::dot(force, force).sqrt())
}
