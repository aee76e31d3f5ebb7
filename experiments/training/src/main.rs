//! Fits a small PaiNN to energies and forces of Stillinger–Weber silicon on host, and times a step with fused messages
//! against one with messages composed of Burn's operations.

mod data;
mod model;
mod teacher;

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use burn::module::{AutodiffModule, Module};
use burn::optim::{AdamConfig, GradientsParams, Optimizer};
use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use burn_autodiff::Autodiff;
use burn_flex::Flex;
use clap::Parser;
use data::{Batch, Frame, frames};
use model::{CUTOFF, Messages, Model, Sizes};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

/// Gradients in weights.
type Once = Autodiff<Flex>;
/// Gradients in positions, over that.
type Twice = Autodiff<Once>;

#[derive(Parser)]
#[command(about)]
struct Args {
    /// Folder for results.json.
    out: PathBuf,
    /// Optimiser steps.
    #[arg(long, default_value_t = 3000)]
    steps: usize,
    /// Of data, weights and the order of frames.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Frames to fit.
    #[arg(long, default_value_t = 200)]
    train: usize,
    /// Frames held out.
    #[arg(long, default_value_t = 40)]
    held_out: usize,
    /// Frames of a step.
    #[arg(long, default_value_t = 4)]
    batch: usize,
    /// Pairs of steps that are timed.
    #[arg(long, default_value_t = 30)]
    timed: usize,
}

const SIZES: Sizes = Sizes { features: 32, n_basis: 20, layers: 2 };
const LEARNING_RATE: f64 = 3e-3;
/// Weight of the squared error of energies per atom, in (eV/Å)² per eV².
const ENERGY_WEIGHT: f64 = 100.0;

/// Mean squared errors.
struct Losses<B: Backend> {
    /// Of energies per atom, eV².
    energy: Tensor<B, 1>,
    /// Of force components, (eV/Å)².
    forces: Tensor<B, 1>,
}

impl<B: Backend> Losses<B> {
    fn total(&self) -> Tensor<B, 1> {
        self.energy.clone().mul_scalar(ENERGY_WEIGHT) + self.forces.clone()
    }
}

/// The errors of a model, on a graph of its weights.
fn losses(
    model: &Model<Once>,
    batch: &Batch<Once>,
    over: &Batch<Twice>,
    messages: &Messages<Twice>,
) -> Result<Losses<Once>> {
    // Positions alone are tracked in the outer graph; beneath it the weights still are.
    let outer = Model::<Twice>::from_inner(model.clone()).no_grad();
    let positions = Tensor::<Twice, 2>::from_inner(batch.positions.clone()).require_grad();
    let energies = outer.energies(positions.clone(), over, messages)?;
    let n_atoms = batch.positions.dims()[0] / batch.n_frames;
    let gradients = energies.clone().sum().backward();
    // Energies are per atom, forces are of the whole.
    let gradient = positions.grad(&gradients).context("the energy does not depend on the positions")?;
    let forces = gradient.mul_scalar(-(n_atoms as f64));
    let square = |x: Tensor<Once, 1>| (x.clone() * x).mean();
    let error = forces - batch.forces.clone();
    let components = error.dims()[0] * 3;
    Ok(Losses {
        energy: square(energies.inner() - batch.energies.clone()),
        forces: square(error.reshape([components])),
    })
}

/// A batch on both graphs.
struct Pair {
    once: Batch<Once>,
    twice: Batch<Twice>,
}

impl Pair {
    fn new(frames: &[&Frame], mean: f64) -> Result<Self> {
        Ok(Self { once: Batch::new(frames, mean)?, twice: Batch::new(frames, mean)? })
    }

    fn losses(&self, model: &Model<Once>, messages: &Messages<Twice>) -> Result<Losses<Once>> {
        losses(model, &self.once, &self.twice, messages)
    }
}

#[derive(Serialize)]
struct Point {
    step: usize,
    /// eV per atom.
    energy_rmse: f64,
    /// eV/Å.
    force_rmse: f64,
    loss: f64,
}

#[derive(Serialize)]
struct Timing {
    /// Medians over the pairs of steps, ms.
    fused_ms: f64,
    composed_ms: f64,
    /// Median of the ratios of the pairs.
    ratio: f64,
    /// Largest relative difference of the loss and of a gradient's norm between the two.
    difference: f64,
}

#[derive(Serialize)]
struct Results {
    seed: u64,
    steps: usize,
    atoms_per_step: usize,
    edges_per_step: usize,
    threads: usize,
    held_out: Vec<Point>,
    /// First loss on held-out frames over the last.
    fall: f64,
    seconds: f64,
    timing: Timing,
}

fn number<B: Backend>(tensor: &Tensor<B, 1>) -> f64 {
    tensor.to_data().iter::<f64>().next().unwrap_or(f64::NAN)
}

fn held_out(model: &Model<Once>, batches: &[Pair], step: usize, messages: &Messages<Twice>) -> Result<Point> {
    let (mut energy, mut forces) = (0.0, 0.0);
    for batch in batches {
        let losses = batch.losses(model, messages)?;
        energy += number(&losses.energy) / batches.len() as f64;
        forces += number(&losses.forces) / batches.len() as f64;
    }
    let loss = ENERGY_WEIGHT * energy + forces;
    Ok(Point { step, energy_rmse: energy.sqrt(), force_rmse: forces.sqrt(), loss })
}

/// One gradient of the loss: its value, the norm of the gradient in the first filter, and the time in ms.
fn gradient(model: &Model<Once>, batch: &Pair, messages: &Messages<Twice>) -> Result<(f64, f64, f64)> {
    let start = Instant::now();
    let loss = batch.losses(model, messages)?.total();
    let found = loss.backward();
    let gradient = model.first_filter().grad(&found).context("the loss does not depend on the filter")?;
    let time = start.elapsed().as_secs_f64() * 1e3;
    Ok((number(&loss), number(&(gradient.clone() * gradient).sum().sqrt()), time))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Steps with fused and composed messages in turn, on the same batch; what they compute is compared first.
fn time(model: &Model<Once>, batch: &Pair, pairs: usize, kernels: &Messages<Twice>) -> Result<Timing> {
    let operations = &Messages::new(SIZES.n_basis, false)?;
    let (fused, composed) = (gradient(model, batch, kernels)?, gradient(model, batch, operations)?);
    let apart = |a: f64, b: f64| (a - b).abs() / b.abs();
    let difference = apart(fused.0, composed.0).max(apart(fused.1, composed.1));
    ensure!(difference < 1e-3, "fused and composed messages differ by {difference:e} of the loss or its gradient");
    let mut times = Vec::new();
    for _ in 0..pairs {
        times.push((gradient(model, batch, kernels)?.2, gradient(model, batch, operations)?.2));
    }
    Ok(Timing {
        fused_ms: median(times.iter().map(|t| t.0).collect()),
        composed_ms: median(times.iter().map(|t| t.1).collect()),
        ratio: median(times.iter().map(|t| t.1 / t.0).collect()),
        difference,
    })
}

fn main() -> Result<()> {
    let args = Args::parse();
    std::fs::create_dir_all(&args.out).with_context(|| format!("cannot make {}", args.out.display()))?;
    let device = Default::default();
    Flex::seed(&device, args.seed);
    let all = frames(args.train + args.held_out, CUTOFF, args.seed)?;
    let (train, held) = all.split_at(args.train);
    ensure!(args.batch > 0 && train.len() >= args.batch && !held.is_empty(), "no batch of {} frames", args.batch);
    let mean = train.iter().map(|frame| frame.energy / 64.0).sum::<f64>() / train.len() as f64;
    let refs: Vec<&Frame> = held.iter().collect();
    let held: Vec<Pair> = refs.chunks(args.batch).map(|frames| Pair::new(frames, mean)).collect::<Result<_>>()?;

    let kernels = &Messages::new(SIZES.n_basis, true)?;
    let mut model = Model::<Once>::new(&SIZES, &device);
    let mut optimiser = AdamConfig::new().init();
    let mut rng = ChaCha8Rng::seed_from_u64(args.seed);
    let mut order: Vec<&Frame> = train.iter().collect();
    let mut curve = vec![held_out(&model, &held, 0, kernels)?];
    let begin = Instant::now();
    for step in 0..args.steps {
        let at = step * args.batch % (order.len() - order.len() % args.batch);
        if at == 0 {
            order.shuffle(&mut rng);
        }
        let batch = Pair::new(&order[at..at + args.batch], mean)?;
        let gradients = batch.losses(&model, kernels)?.total().backward();
        let gradients = GradientsParams::from_grads(gradients, &model);
        // A cosine from the full rate to none.
        let rate = 0.5 * LEARNING_RATE * (1.0 + (std::f64::consts::PI * step as f64 / args.steps as f64).cos());
        model = optimiser.step(rate, model, gradients);
        if (step + 1) % 100 == 0 || step + 1 == args.steps {
            let point = held_out(&model, &held, step + 1, kernels)?;
            eprintln!(
                "step {}: held out {:.4} eV per atom, {:.4} eV/Å, loss {:.3e}",
                point.step, point.energy_rmse, point.force_rmse, point.loss
            );
            curve.push(point);
        }
    }
    let seconds = begin.elapsed().as_secs_f64();
    let batch = Pair::new(&order[..args.batch], mean)?;
    let timing = time(&model, &batch, args.timed, kernels)?;
    let results = Results {
        seed: args.seed,
        steps: args.steps,
        atoms_per_step: batch.once.positions.dims()[0],
        edges_per_step: batch.once.graph.n_edges(),
        threads: std::thread::available_parallelism().map_or(1, usize::from),
        fall: curve[0].loss / curve[curve.len() - 1].loss,
        held_out: curve,
        seconds,
        timing,
    };
    let path = args.out.join("results.json");
    std::fs::write(&path, serde_json::to_string_pretty(&results)? + "\n")
        .with_context(|| format!("cannot write {}", path.display()))?;
    println!(
        "held-out loss fell {:.0} x; a step takes {:.1} ms fused, {:.1} ms composed ({:.2} x)",
        results.fall, results.timing.fused_ms, results.timing.composed_ms, results.timing.ratio
    );
    Ok(())
}
