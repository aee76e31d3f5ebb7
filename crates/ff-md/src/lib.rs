//! Molecular dynamics and minimisation of many systems at once, under any [`Potential`].
//!
//! State is f64 on the host: positions that are never wrapped in Å, velocities in Å/fs, masses in amu, energies in eV. All systems
//! of a [`Simulation`] advance in one call of the potential per step, and each has the bits that it has alone: its random numbers
//! are a function of seed, replica, step and purpose, and nothing is summed across systems.

mod cell;
mod draw;
mod dynamics;
mod error;
mod minimize;
mod observe;
mod output;
mod potential;
mod random;
mod run;
mod settings;
mod system;
pub mod units;

pub use draw::{DrawSettings, DrawSummary, Drawn, disagreement, draw};
pub use dynamics::{Simulation, State};
pub use error::MdError;
pub use minimize::{FireSettings, FireState, Minimizer};
pub use observe::{Blocks, Observables, Slope};
pub use output::{Outputs, RestartFile};
pub use potential::{ModelPotential, Potential, PotentialError, SKIN};
pub use random::MOST_STEPS;
pub use run::{Ended, Plan, Row, Summary, Watch, minimize, simulate};
pub use settings::{Ensemble, LONGEST_STEP_FS, Settings};
pub use system::{System, Velocities};
