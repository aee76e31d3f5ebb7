//! Trains a small PaiNN on energies and forces of ethanol and writes it as a model's file, with its errors on frames that it has
//! not seen as `ff-model` computes them.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use burn::optim::{AdamConfig, GradientsParams, Optimizer};
use burn::tensor::{Tensor, TensorData};
use burn_autodiff::Autodiff;
use burn_flex::Flex;
use clap::Parser;
use ff_kernels::host::layers::Activation;
use ff_model::config::{Aggregation, Basis, Config, CutoffFn, Head, Kind};
use ff_model::units::{Energy, Length};
use ff_model::{HostModel, Model, ModelFile, Wanted};
use ff_nn::{Batch, Network, Setup, evaluate, weights};
use ff_spec::Dtype;
use ff_structure::{Frame, FrameReader, Structure, StructureError};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

/// Gradients in weights.
type Once = Autodiff<Flex>;
/// Gradients in positions, over that.
type Twice = Autodiff<Once>;

/// Fits a small PaiNN to ethanol.
#[derive(Parser)]
#[command(about)]
struct Args {
    /// Folder with ethanol_train.extxyz, ethanol_test.extxyz and ethanol_isolated_atoms.extxyz.
    data: PathBuf,
    /// The file of the model that is written.
    model: PathBuf,
    /// The file of results that is written.
    results: PathBuf,
    /// Minutes after which training ends; the learning rate falls with time.
    #[arg(long, default_value_t = 10.0)]
    minutes: f64,
    /// Of weights and the order of frames.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Features of an atom.
    #[arg(long, default_value_t = 32)]
    features: usize,
    /// Interactions.
    #[arg(long, default_value_t = 2)]
    layers: usize,
    /// Frames of a step.
    #[arg(long, default_value_t = 10)]
    batch: usize,
    /// Learning rate at the start.
    #[arg(long, default_value_t = 5e-3)]
    rate: f64,
}

/// The learning rate at the end over that at the start.
const DECAY: f64 = 1e-2;
/// Weight of the squared error of energies per atom, in (eV/Å)² per eV².
const ENERGY_WEIGHT: f64 = 100.0;
/// Frames of the training set that are watched and never fitted.
const WATCHED: usize = 50;

/// A labelled frame.
struct Labelled {
    structure: Structure,
    /// eV.
    energy: f64,
    /// eV/Å.
    forces: Vec<[f64; 3]>,
}

fn frames(path: &Path) -> Result<Vec<Labelled>> {
    let labelled = |frame: Result<Frame, StructureError>| -> Result<Labelled> {
        let frame = frame?;
        let labels = frame.labels()?;
        let energy = labels.energy.with_context(|| format!("{}: a frame without an energy", path.display()))?;
        let forces = labels.forces.unwrap_or_default();
        Ok(Labelled { structure: frame.structure, energy, forces })
    };
    FrameReader::open(path)?.map(labelled).collect()
}

/// Energies of isolated atoms by atomic number, eV; zero for others.
fn isolated(path: &Path) -> Result<Vec<f64>> {
    let mut energies = vec![0.0; 10];
    for frame in frames(path)? {
        let [z] = frame.structure.species[..] else {
            anyhow::bail!("{}: a frame of {} atoms, expected one", path.display(), frame.structure.n_atoms());
        };
        *energies.get_mut(usize::from(z)).with_context(|| format!("atomic number {z}, expected at most 9"))? =
            frame.energy;
    }
    Ok(energies)
}

fn config(args: &Args) -> Config {
    Config {
        kind: Kind::Painn,
        features: args.features,
        filters: args.features,
        layers: args.layers,
        n_basis: 20,
        basis: Basis::Gaussian,
        cutoff: 5.0,
        cutoff_fn: CutoffFn::Cosine,
        activation: Activation::Silu,
        epsilon: 1e-8,
        shared_filters: false,
        shared_interactions: false,
        head: Head { layers: vec![args.features, args.features / 2, 1], activation: Activation::Silu },
        aggregation: Aggregation::Sum,
        energy_unit: Energy::ElectronVolt,
        length_unit: Length::Angstrom,
        offset_per_atom: 0.0,
        elements: vec![1, 6, 8],
    }
}

/// What is fitted: a network and what of its model is not trained.
struct Fit {
    setup: Setup<Twice>,
    rows: usize,
}

impl Fit {
    /// Mean squared errors of energies per atom in eV² and of force components in (eV/Å)².
    fn losses(&self, network: &Network<Once>, frames: &[&Labelled]) -> Result<[Tensor<Once, 1>; 2]> {
        let device = Default::default();
        let structures = frames.iter().map(|frame| &frame.structure);
        let cutoff = self.setup.config().cutoff;
        let batch = Batch::<Twice>::new(structures, cutoff, self.rows, Dtype::F32, &device)?;
        let energies: Vec<f32> =
            frames.iter().map(|frame| (frame.energy - self.setup.offset(&frame.structure)) as f32).collect();
        let forces: Vec<f32> = frames.iter().flat_map(|frame| frame.forces.as_flattened()).map(|x| *x as f32).collect();
        let energies = Tensor::<Once, 1>::from_data(TensorData::new(energies, [frames.len()]), &device);
        let forces = Tensor::<Once, 2>::from_data(TensorData::new(forces, [batch.n_atoms(), 3]), &device);
        let found = evaluate::<Twice>(network, &self.setup, &batch, false)?;
        let energy = (found.energies - energies) * batch.per_atom().clone().inner();
        let force = (found.forces - forces).reshape([3 * batch.n_atoms()]);
        Ok([energy, force].map(|error| (error.clone() * error).mean()))
    }
}

fn total([energy, forces]: &[Tensor<Once, 1>; 2]) -> Tensor<Once, 1> {
    energy.clone().mul_scalar(ENERGY_WEIGHT) + forces.clone()
}

fn number(tensor: &Tensor<Once, 1>) -> f64 {
    tensor.to_data().iter::<f64>().next().unwrap_or(f64::NAN)
}

#[derive(Serialize)]
struct Point {
    step: usize,
    seconds: f64,
    /// Root mean square errors on the watched frames: meV per atom, meV/Å.
    energy_rmse: f64,
    force_rmse: f64,
}

/// Errors of the written file on frames that were neither fitted nor watched.
#[derive(Serialize)]
struct Errors {
    frames: usize,
    /// Mean absolute errors: meV per atom, meV/Å per component.
    energy_mae: f64,
    force_mae: f64,
    /// Root mean square errors, likewise.
    energy_rmse: f64,
    force_rmse: f64,
    /// Mean absolute label of a force component, meV/Å: what a model without forces is wrong by.
    force_labels: f64,
}

fn errors(model: &Model, frames: &[Labelled]) -> Result<Errors> {
    let structures: Vec<Structure> = frames.iter().map(|frame| frame.structure.clone()).collect();
    let predictions = HostModel::<f64>::new(model)?.predict(&structures, Wanted::FORCES)?;
    let (mut energies, mut forces, mut labels) = (Vec::new(), Vec::new(), Vec::new());
    for (frame, found) in frames.iter().zip(&predictions) {
        energies.push(1e3 * (found.energy - frame.energy) / frame.structure.n_atoms() as f64);
        let (found, expected) = (found.forces.as_flattened(), frame.forces.as_flattened());
        forces.extend(found.iter().zip(expected).map(|(found, expected)| 1e3 * (found - expected)));
        labels.extend(expected.iter().map(|x| 1e3 * x));
    }
    let mean = |values: &[f64]| values.iter().map(|x| x.abs()).sum::<f64>() / values.len() as f64;
    let square = |values: &[f64]| (values.iter().map(|x| x * x).sum::<f64>() / values.len() as f64).sqrt();
    Ok(Errors {
        frames: frames.len(),
        energy_mae: mean(&energies),
        force_mae: mean(&forces),
        energy_rmse: square(&energies),
        force_rmse: square(&forces),
        force_labels: mean(&labels),
    })
}

#[derive(Serialize)]
struct Results {
    seed: u64,
    features: usize,
    layers: usize,
    parameters: usize,
    frames: usize,
    frames_per_step: usize,
    steps: usize,
    seconds: f64,
    /// Size of the model's file, bytes.
    bytes: u64,
    held_out: Errors,
    watched: Vec<Point>,
}

fn described(mut file: ModelFile) -> ModelFile {
    file.set(
        "source",
        "Trained by experiments/training of forgefield on ethanol_train.extxyz of BOTNet-datasets (arXiv 2205.06643).",
    );
    file.set(
        "license",
        "MIT OR Apache-2.0; the data it was trained on are under the MIT licence (Copyright 2022 davkovacs)",
    );
    file.set(
        "card",
        "A small PaiNN for one gas-phase ethanol molecule (C2H6O) near equilibrium, trained on 950 frames of rMD17 with \
         PBE/def2-SVP energies and forces. Total energies in eV are those of that method. Not for other molecules, ions, \
         reactions or condensed phases. Errors on frames that were not fitted stand in models/README.md.",
    );
    file
}

fn main() -> Result<()> {
    let args = Args::parse();
    let device = Default::default();
    let mut all = frames(&args.data.join("ethanol_train.extxyz"))?;
    let test = frames(&args.data.join("ethanol_test.extxyz"))?;
    let mut rng = ChaCha8Rng::seed_from_u64(args.seed);
    all.shuffle(&mut rng);
    ensure!(args.batch > 0 && all.len() >= WATCHED + args.batch, "{} frames, expected more than {WATCHED}", all.len());
    let (watched, train) = all.split_at(WATCHED);
    let watched: Vec<&Labelled> = watched.iter().collect();

    let mut config = config(&args);
    let mut begin = weights::random(&config, 10, args.seed);
    begin.atomref = isolated(&args.data.join("ethanol_isolated_atoms.extxyz"))?;
    // What binds the molecule, as a mean per atom, is not left to the network.
    let setup = Setup::<Twice>::new(&config, &begin, &device)?;
    let bound = |frame: &Labelled| (frame.energy - setup.offset(&frame.structure)) / frame.structure.n_atoms() as f64;
    config.offset_per_atom = train.iter().map(bound).sum::<f64>() / train.len() as f64;
    let setup = Setup::new(&config, &begin, &device)?;
    let mut network = Network::<Once>::from_weights(&config, &begin, Dtype::F32, &device);
    let fit = Fit { setup, rows: network.rows() };

    let mut optimiser = AdamConfig::new().init();
    let mut order: Vec<&Labelled> = train.iter().collect();
    let mut points = Vec::new();
    let (start, limit) = (Instant::now(), 60.0 * args.minutes);
    let mut step = 0;
    loop {
        let seconds = start.elapsed().as_secs_f64();
        let ended = seconds >= limit;
        if step % 500 == 0 || ended {
            let [energy, forces] = fit.losses(&network, &watched)?.map(|loss| 1e3 * number(&loss).sqrt());
            eprintln!("step {step}, {seconds:.0} s: watched {energy:.2} meV per atom, {forces:.1} meV/Å");
            points.push(Point { step, seconds, energy_rmse: energy, force_rmse: forces });
        }
        if ended {
            break;
        }
        let at = step * args.batch % (order.len() - order.len() % args.batch);
        if at == 0 {
            order.shuffle(&mut rng);
        }
        let gradients = total(&fit.losses(&network, &order[at..at + args.batch])?).backward();
        let gradients = GradientsParams::from_grads(gradients, &network);
        network = optimiser.step(args.rate * DECAY.powf(seconds / limit), network, gradients);
        step += 1;
    }
    let seconds = start.elapsed().as_secs_f64();

    // What is not trained does not depend on the backend.
    let once = Setup::<Once>::new(&config, &begin, &device)?;
    let file = described(network.to_file(&once));
    file.write(&args.model)?;
    let model = Model::load(&args.model)?;
    let results = Results {
        seed: args.seed,
        features: args.features,
        layers: args.layers,
        parameters: model.weights().n_parameters(model.config()),
        frames: train.len(),
        frames_per_step: args.batch,
        steps: step,
        seconds,
        bytes: std::fs::metadata(&args.model)?.len(),
        held_out: errors(&model, &test)?,
        watched: points,
    };
    std::fs::write(&args.results, serde_json::to_string_pretty(&results)? + "\n")
        .with_context(|| format!("cannot write {}", args.results.display()))?;
    let Errors { energy_mae, force_mae, frames, .. } = &results.held_out;
    println!("{frames} held-out frames: mean absolute errors {energy_mae:.2} meV per atom, {force_mae:.1} meV/Å");
    Ok(())
}
