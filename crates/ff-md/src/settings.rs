//! What is simulated.

use serde::Serialize;

use crate::error::MdError;

/// Steps beyond are refused: no bond between atoms survives them.
pub const LONGEST_STEP_FS: f64 = 10.0;

/// What is held constant, and how. All times in fs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(tag = "ensemble", rename_all = "kebab-case")]
pub enum Ensemble {
    /// Energy: velocity Verlet.
    Nve,
    /// Temperature: Langevin dynamics as BAOAB (Leimkuhler and Matthews, doi:10.1093/amrx/abs010).
    Langevin {
        /// Friction, 1/ps.
        friction_per_ps: f64,
    },
    /// Temperature: stochastic velocity rescaling (Bussi, Donadio and Parrinello, doi:10.1063/1.2408420) after velocity Verlet.
    Bussi {
        /// Relaxation time of the kinetic energy.
        thermostat_fs: f64,
    },
    /// Temperature, as `Bussi`, and pressure: stochastic cell rescaling (Bernetti and Bussi, doi:10.1063/5.0020514).
    Npt {
        /// Relaxation time of the kinetic energy.
        thermostat_fs: f64,
        /// Relaxation time of the volume, for the compressibility given.
        barostat_fs: f64,
        /// Pressure, bar.
        pressure_bar: f64,
        /// Isothermal compressibility, 1/bar. It sets the rate of relaxation, not what is sampled.
        compressibility_per_bar: f64,
        /// Whether all of the cell relaxes, angles too (Del Tatto, Raiteri, Bernetti and Bussi, doi:10.3390/app12031139), instead of
        /// its volume alone.
        anisotropic: bool,
    },
}

/// A simulation but for its systems and its length.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Settings {
    /// What is held constant.
    #[serde(flatten)]
    pub ensemble: Ensemble,
    /// Time step, fs.
    pub timestep_fs: f64,
    /// Temperature of thermostats and of the first velocities, K.
    pub temperature: f64,
    /// Seed of all random numbers.
    pub seed: u64,
    /// Whether the motion of the centre of mass is taken out: of the first velocities, and where there is a thermostat at every step.
    /// Its three degrees of freedom then do not count. Where any atom is fixed nothing is taken out.
    pub removes_drift: bool,
    /// Forces beyond end the run, eV/Å.
    pub largest_force: f64,
}

impl Settings {
    /// Half a femtosecond at 300 K in the ensemble given.
    pub fn new(ensemble: Ensemble) -> Self {
        Self { ensemble, timestep_fs: 0.5, temperature: 300.0, seed: 0, removes_drift: true, largest_force: 500.0 }
    }

    /// Refuses what means nothing.
    ///
    /// # Errors
    /// [`MdError::Setting`] for the first.
    pub fn check(&self) -> Result<(), MdError> {
        let refuse = |name, expected: &str, found: f64| {
            Err(MdError::Setting { name, expected: expected.to_owned(), found: found.to_string() })
        };
        let positive = |name, value: f64, expected: &str| {
            if value.is_finite() && value > 0.0 { Ok(()) } else { refuse(name, expected, value) }
        };
        let dt = self.timestep_fs;
        if !(dt > 0.0 && dt <= LONGEST_STEP_FS) {
            return refuse("the time step", &format!("more than 0 and at most {LONGEST_STEP_FS} fs"), dt);
        }
        if !(self.temperature.is_finite() && self.temperature >= 0.0) {
            return refuse("the temperature", "0 K or more", self.temperature);
        }
        positive("the largest force", self.largest_force, "a positive force in eV/Å")?;
        // A relaxation within a few steps is no longer that of the equations.
        let slow = |name, time: f64| {
            if time.is_finite() && time >= 2.0 * dt {
                Ok(())
            } else {
                refuse(name, "two time steps or more, in fs", time)
            }
        };
        match self.ensemble {
            Ensemble::Nve => return Ok(()),
            Ensemble::Langevin { friction_per_ps } => {
                positive("the friction", friction_per_ps, "a positive rate in 1/ps")?;
            }
            Ensemble::Bussi { thermostat_fs } => slow("the relaxation time of the thermostat", thermostat_fs)?,
            Ensemble::Npt { thermostat_fs, barostat_fs, pressure_bar, compressibility_per_bar, .. } => {
                slow("the relaxation time of the thermostat", thermostat_fs)?;
                slow("the relaxation time of the barostat", barostat_fs)?;
                positive("the compressibility", compressibility_per_bar, "a positive number of 1/bar")?;
                if !pressure_bar.is_finite() {
                    return refuse("the pressure", "a finite pressure in bar", pressure_bar);
                }
            }
        }
        positive("the temperature of a thermostat", self.temperature, "more than 0 K")
    }

    /// Whether a thermostat changes velocities.
    pub fn has_thermostat(&self) -> bool {
        self.ensemble != Ensemble::Nve
    }
}
