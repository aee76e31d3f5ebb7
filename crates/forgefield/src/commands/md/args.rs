//! What `md` is asked for.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use ff_spec::Dtype;

use crate::models::PackArgs;
use crate::options::RuntimeChoice;

/// `md`.
#[derive(Debug, Args)]
pub struct MdArgs {
    /// What moves, and what is written.
    #[command(flatten)]
    pub run: RunArgs,
    /// What is held constant.
    #[arg(long, default_value = "nve")]
    pub ensemble: EnsembleChoice,
    /// Steps, those before a restart among them.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u64).range(..=ff_md::MOST_STEPS))]
    pub steps: u64,
    /// Time step.
    #[arg(long, value_name = "FS", default_value_t = 0.5)]
    pub timestep_fs: f64,
    /// Temperature of the first velocities and of thermostats.
    #[arg(long, value_name = "K", default_value_t = 300.0)]
    pub temperature: f64,
    /// Pressure of `npt` and `npt-aniso`.
    #[arg(long, value_name = "BAR", default_value_t = 1.0, allow_negative_numbers = true)]
    pub pressure_bar: f64,
    /// Friction of `langevin`, 1/ps.
    #[arg(long, value_name = "RATE", default_value_t = 1.0)]
    pub friction_per_ps: f64,
    /// Relaxation time of the kinetic energy in `bussi` and `npt`.
    #[arg(long, value_name = "FS", default_value_t = 100.0)]
    pub thermostat_fs: f64,
    /// Relaxation time of the volume in `npt`.
    #[arg(long, value_name = "FS", default_value_t = 1000.0)]
    pub barostat_fs: f64,
    /// Compressibility that `npt` assumes, 1/bar; the default is water's. It sets how fast the volume relaxes, not where to.
    #[arg(long, value_name = "X", default_value_t = 4.6e-5)]
    pub compressibility_per_bar: f64,
    /// Seed of velocities, thermostats and barostats.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Where the first velocities come from.
    #[arg(long, default_value = "draw")]
    pub velocities: VelocityChoice,
    /// Leave the motion of the centre of mass.
    #[arg(long)]
    pub keep_drift: bool,
    /// Draw energy and temperature against time as an SVG.
    #[arg(long, value_name = "FILE.svg")]
    pub figure: Option<PathBuf>,
    /// Stop where a force is larger, eV/Å.
    #[arg(long, value_name = "FORCE", default_value_t = 500.0)]
    pub max_force: f64,
}

/// What `md` and `minimize` have in common.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// The structure file (extxyz, PDB): all of its frames advance together.
    pub file: PathBuf,
    /// The model (safetensors).
    #[arg(long, value_name = "FILE")]
    pub model: PathBuf,
    /// Take one frame of the file, counted from 1.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub frame: Option<u32>,
    /// Write the trajectory to this extxyz file.
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Write energies and more to this CSV file, as it runs.
    #[arg(long, value_name = "FILE")]
    pub log: Option<PathBuf>,
    /// Go on from this file where it is there, and keep the state in it.
    #[arg(long, value_name = "FILE")]
    pub restart: Option<PathBuf>,
    /// Steps between frames.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
    pub every: u64,
    /// Steps between lines of the log.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
    pub log_every: u64,
    /// Steps between restart files.
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..))]
    pub restart_every: u64,
    /// Element type of the evaluation; positions and velocities are f64 in any case.
    #[arg(long, default_value = "f32")]
    pub dtype: Dtype,
    /// How the model is packed.
    #[command(flatten)]
    pub packing: PackArgs,
    /// Where to compute forces; auto is the host.
    #[arg(long, default_value = "auto")]
    pub runtime: RuntimeChoice,
    /// Print the result as JSON.
    #[arg(long)]
    pub json: bool,
    /// Advance so many copies of every frame, each with random numbers of its own.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub replicas: u32,
    /// The number of the first replica: replica 7 of ten is replica 7 alone.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub first_replica: u32,
}

/// What is held constant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum EnsembleChoice {
    /// Energy (velocity Verlet).
    Nve,
    /// Temperature (Langevin dynamics, BAOAB).
    Langevin,
    /// Temperature (stochastic velocity rescaling).
    Bussi,
    /// Temperature and pressure (stochastic cell rescaling of the volume).
    Npt,
    /// The same of all of the cell, lengths and angles.
    NptAniso,
}

/// Where the first velocities come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum VelocityChoice {
    /// Drawn at --temperature.
    Draw,
    /// The column `momenta` of the file, in ASE's unit.
    File,
    /// None.
    Zero,
}
