//! Dynamics under models: conservation of energy in f32.

mod common;

use std::path::{Path, PathBuf};

use common::started;
use ff_md::{Ensemble, ModelPotential, Settings, Simulation, Summary};
use ff_model::{HostModel, Model};
use ff_structure::read_structures;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Slope of the energy in meV per atom and ps over so many steps of 0.5 fs from 300 K, and the mean temperature, of so many replicas.
fn nve(model: &Path, structures: &Path, replicas: u64, steps: u64) -> Summary {
    let model = Model::load(model).unwrap_or_else(|error| panic!("{error}"));
    let structure = read_structures(structures).unwrap_or_else(|error| panic!("{error}")).remove(0);
    let settings = Settings::new(Ensemble::Nve);
    assert_eq!((settings.timestep_fs, settings.temperature), (0.5, 300.0));
    let systems: Vec<_> = (0..replicas).map(|replica| started(structure.clone(), replica, &settings)).collect();
    let potential = ModelPotential::<f32>::new(HostModel::new(&model).expect("kernels"));
    let mut simulation = Simulation::new(potential, &systems, settings).unwrap_or_else(|error| panic!("{error}"));
    for _ in 0..steps {
        simulation.step().unwrap_or_else(|error| panic!("{error}"));
    }
    let summary = Summary::new(&simulation);
    println!("{steps} steps: {summary:?}");
    for system in 0..systems.len() {
        println!("  replica {system}: {} meV/atom/ps", simulation.drift(system));
    }
    summary
}

fn small() -> (PathBuf, PathBuf) {
    (root().join("models/ethanol-painn-small.safetensors"), root().join("models/ethanol.extxyz"))
}

/// The slope over half a picosecond is that of the fluctuation too.
#[test]
fn ethanol_keeps_its_energy_for_a_while() {
    let (model, structures) = small();
    let summary = nve(&model, &structures, 2, 1000);
    assert!(summary.drift.abs() < 1.0, "{summary:?}");
    let temperature = summary.mean_temperature.expect("steps");
    assert!(temperature > 50.0 && temperature < 600.0, "{summary:?}");
}

#[test]
#[ignore = "a minute or so"]
fn ethanol_keeps_its_energy_over_ten_thousand_steps() {
    let (model, structures) = small();
    let summary = nve(&model, &structures, 1, 10_000);
    assert!(summary.drift.abs() <= 0.1, "{summary:?}");
    let Some(shared) = ff_testkit::shared("yardsticks") else { return };
    let (model, structures) = (shared.join("ethanol_painn.safetensors"), shared.join("ethanol_painn.extxyz"));
    let summary = nve(&model, &structures, 1, 10_000);
    assert!(summary.drift.abs() <= 0.1, "{summary:?}");
}

#[test]
fn ethanols_energy_fluctuates_with_the_square_of_the_step() {
    let (model, structures) = small();
    let model = Model::load(model).unwrap_or_else(|error| panic!("{error}"));
    let structure = read_structures(structures).unwrap_or_else(|error| panic!("{error}")).remove(0);
    // Half a picosecond: later trajectories of different steps are different trajectories.
    let fluctuation = |dt: f64| {
        let settings = Settings { timestep_fs: dt, ..Settings::new(Ensemble::Nve) };
        let system = started(structure.clone(), 0, &settings);
        let potential = ModelPotential::<f32>::new(HostModel::new(&model).expect("kernels"));
        let mut simulation = Simulation::new(potential, &[system], settings).unwrap_or_else(|error| panic!("{error}"));
        let energies: Vec<f64> = (0..(500.0 / dt) as usize)
            .map(|_| {
                simulation.step().unwrap_or_else(|error| panic!("{error}"));
                simulation.observe(0).conserved
            })
            .collect();
        let (mean, _) = common::mean(&energies);
        (energies.iter().map(|e| (e - mean).powi(2)).sum::<f64>() / energies.len() as f64).sqrt()
    };
    let (long, short) = (fluctuation(0.5), fluctuation(0.25));
    println!("{long:e} eV at 0.5 fs, {short:e} eV at 0.25 fs: {}", long / short);
    assert!((long / short - 4.0).abs() < 0.6, "{}", long / short);
}
