//! Minimisation by FIRE (Bitzek et al., doi:10.1103/PhysRevLett.97.170201), of positions and, where asked, cells.

use ff_model::{Prediction, Wanted};
use ff_structure::Structure;
use serde::{Deserialize, Serialize};

use crate::cell::{self, Matrix};
use crate::error::MdError;
use crate::observe::Observables;
use crate::potential::{Potential, PotentialError};
use crate::system::System;
use crate::units::BAR;

/// FIRE's own numbers, as ASE has them; times are of unit masses.
const FIRST_STEP: f64 = 0.1;
const LONGEST_STEP: f64 = 1.0;
/// Å, of all coordinates together.
const LONGEST_MOVE: f64 = 0.2;
const PATIENCE: u32 = 5;
const FASTER: f64 = 1.1;
const SLOWER: f64 = 0.5;
const FIRST_MIX: f64 = 0.1;
const LESS_MIX: f64 = 0.99;

/// What is minimised, and how far.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct FireSettings {
    /// At rest where no force is larger, eV/Å; of a cell none of the strain derivatives of the enthalpy over the number of atoms, in eV.
    pub largest_force_at_rest: f64,
    /// Whether the cell relaxes too.
    pub cell: bool,
    /// Pressure on a cell that relaxes, bar.
    pub pressure_bar: f64,
    /// Forces beyond end the run, eV/Å.
    pub largest_force: f64,
}

impl Default for FireSettings {
    fn default() -> Self {
        Self { largest_force_at_rest: 0.01, cell: false, pressure_bar: 0.0, largest_force: 1e6 }
    }
}

/// Where a minimisation is, to the last bit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FireState {
    /// Steps taken.
    pub step: u64,
    rebuilds: u64,
    systems: Vec<Walker>,
}

/// One system on its way. Positions are those in the first cell, which `stretch` deforms: x = S·u, and so do lattice vectors. The
/// coordinates of S are N times its entries, which makes a cell about as stiff as an atom.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Walker {
    positions: Vec<[f64; 3]>,
    first_cell: Option<Matrix>,
    stretch: Matrix,
    velocities: Vec<[f64; 3]>,
    stretch_velocity: Matrix,
    time_step: f64,
    mix: f64,
    downhill: u32,
    at_rest: bool,
}

impl Walker {
    fn new(structure: &Structure) -> Self {
        Self {
            positions: structure.positions.clone(),
            first_cell: structure.cell,
            stretch: cell::IDENTITY,
            velocities: vec![[0.0; 3]; structure.n_atoms()],
            stretch_velocity: [[0.0; 3]; 3],
            time_step: FIRST_STEP,
            mix: FIRST_MIX,
            downhill: 0,
            at_rest: false,
        }
    }

    fn step(&mut self, forces: &[[f64; 3]], on_stretch: &Matrix) {
        let all = |a: &[[f64; 3]], m: &Matrix, b: &[[f64; 3]], n: &Matrix| {
            let atoms: f64 = a.iter().zip(b).map(|(a, b)| cell::dot(*a, *b)).sum();
            atoms + cell::contract(m, n)
        };
        let power = all(forces, on_stretch, &self.velocities, &self.stretch_velocity);
        let square = all(forces, on_stretch, forces, on_stretch);
        if power > 0.0 {
            let speed = all(&self.velocities, &self.stretch_velocity, &self.velocities, &self.stretch_velocity).sqrt();
            let (kept, along) = (1.0 - self.mix, self.mix * speed / square.sqrt());
            let mix = |v: &mut [f64; 3], f: &[f64; 3]| (0..3).for_each(|a| v[a] = kept * v[a] + along * f[a]);
            self.velocities.iter_mut().zip(forces).for_each(|(v, f)| mix(v, f));
            self.stretch_velocity.iter_mut().zip(on_stretch).for_each(|(v, f)| mix(v, f));
            if self.downhill > PATIENCE {
                self.time_step = (self.time_step * FASTER).min(LONGEST_STEP);
                self.mix *= LESS_MIX;
            }
            self.downhill += 1;
        } else {
            self.velocities.iter_mut().for_each(|v| *v = [0.0; 3]);
            self.stretch_velocity = [[0.0; 3]; 3];
            (self.mix, self.downhill) = (FIRST_MIX, 0);
            // The first step of all has no velocity that could point uphill.
            self.time_step = if power < 0.0 { self.time_step * SLOWER } else { self.time_step };
        }
        let dt = self.time_step;
        let kick = |v: &mut [f64; 3], f: &[f64; 3]| (0..3).for_each(|a| v[a] += dt * f[a]);
        self.velocities.iter_mut().zip(forces).for_each(|(v, f)| kick(v, f));
        self.stretch_velocity.iter_mut().zip(on_stretch).for_each(|(v, f)| kick(v, f));
        let length =
            dt * all(&self.velocities, &self.stretch_velocity, &self.velocities, &self.stretch_velocity).sqrt();
        let by = if length > LONGEST_MOVE { dt * LONGEST_MOVE / length } else { dt };
        for (x, v) in self.positions.iter_mut().zip(&self.velocities) {
            (0..3).for_each(|axis| x[axis] += by * v[axis]);
        }
        let n_atoms = self.positions.len() as f64;
        self.stretch = cell::add(&self.stretch, &cell::scale(&self.stretch_velocity, by / n_atoms));
    }
}

/// Systems on their way to a minimum, each on its own.
pub struct Minimizer<P> {
    potential: P,
    settings: FireSettings,
    systems: Vec<System>,
    structures: Vec<Structure>,
    predictions: Vec<Prediction>,
    state: FireState,
    earlier_rebuilds: u64,
}

impl<P: Potential> Minimizer<P> {
    /// Systems where they are, evaluated; or where the state of an earlier minimisation of them was.
    ///
    /// # Errors
    /// [`MdError`]: settings and systems that mean nothing, systems that the potential refuses.
    pub fn new(
        potential: P,
        systems: Vec<System>,
        settings: FireSettings,
        state: Option<FireState>,
    ) -> Result<Self, MdError> {
        let positive = |name, value: f64| {
            let expected = "a positive force in eV/Å".to_owned();
            let refused = MdError::Setting { name, expected, found: value.to_string() };
            if value.is_finite() && value > 0.0 { Ok(()) } else { Err(refused) }
        };
        positive("the largest force at rest", settings.largest_force_at_rest)?;
        positive("the largest force", settings.largest_force)?;
        for (number, system) in systems.iter().enumerate() {
            let structure = &system.structure;
            let refuse = |reason: String| Err(MdError::System { system: number, name: structure.name.clone(), reason });
            if structure.n_atoms() == 0 {
                return refuse("there are no atoms, expected one or more".to_owned());
            }
            let volume = structure.cell.as_ref().map_or(0.0, cell::volume);
            if settings.cell && (structure.pbc != [true; 3] || !(volume.is_finite() && volume > 0.0)) {
                let pbc = structure.pbc;
                return refuse(format!(
                    "to relax the cell it has to repeat in all directions, found pbc {pbc:?} and a volume of {volume} Å³"
                ));
            }
            if settings.cell && system.free.iter().any(|free| *free != [true; 3]) {
                return refuse("some atoms are fixed, expected none where the cell relaxes: it moves all".to_owned());
            }
        }
        let structures: Vec<Structure> = systems.iter().map(|system| system.structure.clone()).collect();
        let fresh = || FireState { step: 0, rebuilds: 0, systems: structures.iter().map(Walker::new).collect() };
        let state = state.unwrap_or_else(fresh);
        let fits = state.systems.len() == systems.len()
            && state.systems.iter().zip(&structures).all(|(w, s)| w.positions.len() == s.n_atoms());
        if !fits {
            let (expected, found) = ("a state of the same systems".to_owned(), "one of others".to_owned());
            return Err(MdError::Setting { name: "the state", expected, found });
        }
        let predictions = vec![Prediction::default(); systems.len()];
        let earlier_rebuilds = state.rebuilds;
        let mut new = Self { potential, settings, systems, structures, predictions, state, earlier_rebuilds };
        let all: Vec<usize> = (0..new.systems.len()).collect();
        new.place(&all);
        new.evaluate(&all, new.state.step)?;
        if earlier_rebuilds > 0 {
            // What was evaluated at this step counted its lists already.
            new.earlier_rebuilds = earlier_rebuilds.saturating_sub(new.potential.rebuilds());
            new.state.rebuilds = earlier_rebuilds;
        }
        Ok(new)
    }

    /// Where it is.
    pub fn state(&self) -> &FireState {
        &self.state
    }

    /// The systems as they are now.
    pub fn structures(&self) -> &[Structure] {
        &self.structures
    }

    /// Energies, forces and stresses as they are now.
    pub fn predictions(&self) -> &[Prediction] {
        &self.predictions
    }

    /// Whether a system is at rest.
    pub fn converged(&self, system: usize) -> bool {
        self.state.systems[system].at_rest
    }

    /// The systems that are not.
    pub fn active(&self) -> Vec<usize> {
        (0..self.systems.len()).filter(|system| !self.converged(*system)).collect()
    }

    /// Which replica a system is.
    pub fn replica(&self, system: usize) -> u64 {
        self.systems[system].replica
    }

    /// Which coordinates of a system move.
    pub fn free(&self, system: usize) -> &[[bool; 3]] {
        &self.systems[system].free
    }

    /// How often lists were built.
    pub fn rebuilds(&self) -> u64 {
        self.state.rebuilds
    }

    /// Momentary values of a system, which has no velocities; the conserved quantity is its enthalpy.
    pub fn observe(&self, system: usize) -> Observables {
        let (structure, prediction) = (&self.structures[system], &self.predictions[system]);
        let volume = structure.cell.as_ref().map(cell::volume).filter(|_| structure.pbc.contains(&true));
        let work = if self.settings.cell { self.settings.pressure_bar * BAR * volume.unwrap_or(0.0) } else { 0.0 };
        Observables {
            potential: prediction.energy,
            kinetic: 0.0,
            temperature: 0.0,
            pressure_bar: prediction.stress.map(|stress| -cell::trace(&stress) / 3.0 / BAR),
            volume,
            conserved: prediction.energy + work,
        }
    }

    /// The largest force on a coordinate's atom that moves, eV/Å; with a cell that relaxes the largest of its derivatives too.
    pub fn largest_force(&self, system: usize) -> f64 {
        let forces = self.forces(system);
        let atoms = forces.iter().map(|f| cell::dot(*f, *f).sqrt()).fold(0.0, f64::max);
        let cell = self.enthalpy_derivative(system);
        let n_atoms = forces.len() as f64;
        cell.as_flattened().iter().map(|x| (x / n_atoms).abs()).fold(atoms, f64::max)
    }

    /// Forces along what moves.
    fn forces(&self, system: usize) -> Vec<[f64; 3]> {
        let forces = self.predictions[system].forces.iter().zip(&self.systems[system].free);
        forces.map(|(f, free)| std::array::from_fn(|axis| if free[axis] { f[axis] } else { 0.0 })).collect()
    }

    /// ∂(E + PV)/∂ε of a cell that relaxes, eV; symmetric.
    fn enthalpy_derivative(&self, system: usize) -> Matrix {
        let (structure, prediction) = (&self.structures[system], &self.predictions[system]);
        let (true, Some(stress), Some(lattice)) = (self.settings.cell, prediction.stress, structure.cell) else {
            return [[0.0; 3]; 3];
        };
        let volume = cell::volume(&lattice);
        let symmetric = cell::scale(&cell::add(&stress, &cell::transpose(&stress)), 0.5 * volume);
        cell::add(&symmetric, &cell::scale(&cell::IDENTITY, self.settings.pressure_bar * BAR * volume))
    }

    /// Moves every system that is not at rest by one step.
    ///
    /// # Errors
    /// [`MdError::Diverged`] and [`MdError::Fault`].
    pub fn step(&mut self) -> Result<(), MdError> {
        let active = self.active();
        for system in active.iter().copied() {
            let mut forces = self.forces(system);
            let derivative = self.enthalpy_derivative(system);
            let walker = &mut self.state.systems[system];
            let mut on_stretch = [[0.0; 3]; 3];
            if self.settings.cell {
                let back = cell::transpose(&walker.stretch);
                forces.iter_mut().for_each(|f| *f = cell::apply(&back, *f));
                let n_atoms = forces.len() as f64;
                on_stretch = cell::scale(&cell::product(&derivative, &cell::inverse(&back)), -1.0 / n_atoms);
            }
            walker.step(&forces, &on_stretch);
        }
        self.place(&active);
        self.evaluate(&active, self.state.step + 1)?;
        self.state.step += 1;
        Ok(())
    }

    /// Puts atoms and cells where their walkers are.
    fn place(&mut self, systems: &[usize]) {
        for system in systems.iter().copied() {
            let (walker, structure) = (&self.state.systems[system], &mut self.structures[system]);
            if self.settings.cell {
                structure.cell = walker.first_cell.map(|cell| cell.map(|row| cell::apply(&walker.stretch, row)));
                structure.positions = walker.positions.iter().map(|x| cell::apply(&walker.stretch, *x)).collect();
            } else {
                structure.positions.clone_from(&walker.positions);
            }
        }
    }

    fn evaluate(&mut self, systems: &[usize], step: u64) -> Result<(), MdError> {
        let broken = |system: usize, structures: &[Structure], reason: String| {
            let name = structures[system].name.clone();
            match step {
                0 => MdError::System { system, name, reason },
                _ => MdError::Diverged { step, system, name, reason },
            }
        };
        let batch: Vec<Structure> = systems.iter().map(|system| self.structures[*system].clone()).collect();
        let mut found = Vec::new();
        self.potential.evaluate(&batch, Wanted::FORCES, &mut found).map_err(|error| match error {
            PotentialError::System { system, reason } => broken(systems[system], &self.structures, reason),
            PotentialError::Fault(reason) => MdError::Fault { step, reason },
        })?;
        self.state.rebuilds = self.earlier_rebuilds + self.potential.rebuilds();
        for (system, prediction) in systems.iter().copied().zip(found) {
            let limit = self.settings.largest_force;
            let size = |f: &[f64; 3]| cell::dot(*f, *f).sqrt();
            if let Some(atom) = prediction.forces.iter().position(|f| !cell::within(size(f), limit)) {
                let force = prediction.forces[atom];
                let reason = format!("the force on atom {atom} is {force:?} eV/Å, expected at most {limit}");
                return Err(broken(system, &self.structures, reason));
            }
            if !prediction.energy.is_finite() {
                let reason = format!("the energy is {} eV, expected a finite one", prediction.energy);
                return Err(broken(system, &self.structures, reason));
            }
            if self.settings.cell && prediction.stress.is_none() {
                let reason = "the potential has no stress, expected one to relax the cell".to_owned();
                return Err(broken(system, &self.structures, reason));
            }
            self.predictions[system] = prediction;
            self.state.systems[system].at_rest = self.largest_force(system) <= self.settings.largest_force_at_rest;
        }
        Ok(())
    }
}
