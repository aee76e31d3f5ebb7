//! What moves: a structure with masses, velocities, and atoms that are held.

use ff_structure::{Frame, Structure, elements};

use crate::cell;
use crate::error::MdError;
use crate::random::{Purpose, Stream};
use crate::settings::{Ensemble, Settings};
use crate::units::{BOLTZMANN, EV_PER_AMU, ase_momentum};

/// A system before its first step.
#[derive(Clone, Debug, PartialEq)]
pub struct System {
    /// The atoms; positions may lie outside the cell and stay there.
    pub structure: Structure,
    /// Masses, amu, `[n_atoms]`.
    pub masses: Vec<f64>,
    /// Which coordinates of an atom move, `[n_atoms]`.
    pub free: Vec<[bool; 3]>,
    /// Velocities, Å/fs, `[n_atoms]`; `None` until they are drawn.
    pub velocities: Option<Vec<[f64; 3]>>,
    /// Which of the seed's random numbers are its own.
    pub replica: u64,
}

/// Where first velocities come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Velocities {
    /// Drawn at the temperature.
    Drawn,
    /// Those of the frame's momenta.
    Given,
    /// All zero.
    Zero,
}

impl System {
    /// A system of standard masses whose atoms are all free.
    ///
    /// # Errors
    /// An element without a mass.
    pub fn new(structure: Structure, replica: u64) -> Result<Self, String> {
        let mass = |(atom, z): (usize, &u8)| {
            elements::mass(*z)
                .ok_or_else(|| format!("atom {atom} has atomic number {z}, expected an element with a mass"))
        };
        let masses = structure.species.iter().enumerate().map(mass).collect::<Result<_, _>>()?;
        let free = vec![[true; 3]; structure.n_atoms()];
        Ok(Self { structure, masses, free, velocities: None, replica })
    }

    /// The system of a frame, with what its columns say of masses (`masses` or `mass`, amu), of coordinates that move (`move_mask`,
    /// one or three logicals, as ASE writes constraints) and of momenta (`momenta`, √(amu·eV), as ASE has them).
    ///
    /// # Errors
    /// An element without a mass, columns of another form.
    pub fn from_frame(frame: &Frame, replica: u64) -> Result<Self, String> {
        let n_atoms = frame.structure.n_atoms();
        let mut system = Self::new(frame.structure.clone(), replica);
        if let Some(masses) = ["masses", "mass"].into_iter().find_map(|name| frame.column(name)) {
            let masses = numbers(masses.name.as_str(), masses.values(), masses.width, 1)?;
            let structure = frame.structure.clone();
            system = Ok(Self { structure, masses, free: vec![[true; 3]; n_atoms], velocities: None, replica });
        }
        let mut system = system?;
        if let Some(column) = frame.column("move_mask") {
            let logical = |text: &str| match text {
                "T" | "True" | "true" | "TRUE" | "1" => Ok(true),
                "F" | "False" | "false" | "FALSE" | "0" => Ok(false),
                other => Err(format!("the column `move_mask` has `{other}`, expected T or F")),
            };
            let values = column.values().map(logical).collect::<Result<Vec<_>, _>>()?;
            system.free = match column.width {
                1 => values.into_iter().map(|moves| [moves; 3]).collect(),
                3 => values.as_chunks::<3>().0.to_vec(),
                width => {
                    return Err(format!("the column `move_mask` has {width} values for each atom, expected 1 or 3"));
                }
            };
        }
        if let Some(column) = frame.column("momenta") {
            let momenta = numbers("momenta", column.values(), column.width, 3)?;
            let velocity = |(p, mass): (&[f64; 3], &f64)| p.map(|p| p / (ase_momentum() * mass));
            system.velocities = Some(momenta.as_chunks::<3>().0.iter().zip(&system.masses).map(velocity).collect());
        }
        Ok(system)
    }

    /// Gives it its first velocities; in any case none along fixed coordinates, and where drift is removed none of the centre of mass.
    ///
    /// # Errors
    /// Given velocities that are not there.
    pub fn start(&mut self, from: Velocities, settings: &Settings) -> Result<(), String> {
        let mut velocities = match from {
            Velocities::Given => {
                self.velocities.take().ok_or("there is no column `momenta` to take velocities from")?
            }
            Velocities::Zero => vec![[0.0; 3]; self.structure.n_atoms()],
            Velocities::Drawn => {
                let mut stream = Stream::new(settings.seed, self.replica, 0, Purpose::Velocities);
                let draw = |mass: &f64| {
                    let width = (BOLTZMANN * settings.temperature * EV_PER_AMU / mass).sqrt();
                    std::array::from_fn(|_| width * stream.normal())
                };
                self.masses.iter().map(draw).collect()
            }
        };
        for (v, free) in velocities.iter_mut().zip(&self.free) {
            for axis in 0..3 {
                v[axis] *= f64::from(u8::from(free[axis]));
            }
        }
        if self.loses_drift(settings) {
            remove_drift(&mut velocities, &self.masses);
        }
        self.velocities = Some(velocities);
        Ok(())
    }

    /// Whether the motion of its centre of mass is taken out.
    pub(crate) fn loses_drift(&self, settings: &Settings) -> bool {
        settings.removes_drift && self.masses.len() > 1 && self.free.iter().all(|free| *free == [true; 3])
    }

    /// Degrees of freedom that have kinetic energy.
    pub(crate) fn degrees(&self, settings: &Settings) -> usize {
        let free = self.free.as_flattened().iter().filter(|free| **free).count();
        if self.loses_drift(settings) { free - 3 } else { free }
    }

    /// Refuses what cannot be moved.
    pub(crate) fn check(&self, system: usize, settings: &Settings) -> Result<(), MdError> {
        let name = self.structure.name.clone();
        let refuse = |reason: String| Err(MdError::System { system, name: name.clone(), reason });
        let n_atoms = self.structure.n_atoms();
        if n_atoms == 0 {
            return refuse("there are no atoms, expected one or more".to_owned());
        }
        for (what, found) in [
            ("species", self.structure.species.len()),
            ("masses", self.masses.len()),
            ("marks of what moves", self.free.len()),
            ("velocities", self.velocities.as_ref().map_or(0, Vec::len)),
        ] {
            if found != n_atoms {
                return refuse(format!("{found} {what} of {n_atoms} atoms, expected as many"));
            }
        }
        if let Some(atom) = self.masses.iter().position(|mass| !(mass.is_finite() && *mass > 0.0)) {
            return refuse(format!("atom {atom} has mass {}, expected a positive mass in amu", self.masses[atom]));
        }
        let all = self.structure.positions.iter().chain(self.velocities.iter().flatten());
        if let Some(entry) = all.clone().position(|v| !v.iter().all(|x| x.is_finite())) {
            return refuse(format!("atom {} has a position or velocity that is not finite", entry % n_atoms));
        }
        if settings.has_thermostat() && self.degrees(settings) == 0 {
            return refuse("nothing moves, expected a degree of freedom that a thermostat can act on".to_owned());
        }
        if matches!(settings.ensemble, Ensemble::Npt { .. }) {
            let volume = self.structure.cell.as_ref().map_or(0.0, cell::volume);
            if self.structure.pbc != [true; 3] || !(volume.is_finite() && volume > 0.0) {
                let pbc = self.structure.pbc;
                return refuse(format!(
                    "constant pressure needs a cell that repeats in all directions, found pbc {pbc:?} and a volume of {volume} Å³"
                ));
            }
            if self.free.iter().any(|free| *free != [true; 3]) {
                return refuse(
                    "some atoms are fixed, expected none at constant pressure: the cell moves all".to_owned(),
                );
            }
        }
        Ok(())
    }
}

/// Takes the velocity of the centre of mass from all.
pub fn remove_drift(velocities: &mut [[f64; 3]], masses: &[f64]) {
    let total: f64 = masses.iter().sum();
    let mut momentum = [0.0; 3];
    for (v, mass) in velocities.iter().zip(masses) {
        (0..3).for_each(|axis| momentum[axis] += mass * v[axis]);
    }
    for v in velocities {
        (0..3).for_each(|axis| v[axis] -= momentum[axis] / total);
    }
}

/// The values of a column of `width` numbers for each atom.
fn numbers<'a>(
    name: &str,
    values: impl Iterator<Item = &'a str>,
    found: usize,
    width: usize,
) -> Result<Vec<f64>, String> {
    if found != width {
        return Err(format!("the column `{name}` has {found} values for each atom, expected {width}"));
    }
    let number = |text: &str| {
        let number = text.parse::<f64>().ok().filter(|x| x.is_finite());
        number.ok_or_else(|| format!("the column `{name}` has `{text}`, expected a finite number"))
    };
    values.map(number).collect()
}
