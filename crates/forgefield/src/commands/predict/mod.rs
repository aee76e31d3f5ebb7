//! `predict`: energies, forces and stress of every frame of a file.

pub mod args;
mod output;

use std::path::Path;
use std::time::{Duration, Instant};

use ff_model::host::Times;
use ff_model::{Model, Prediction, Wanted, batch};
use ff_spec::{Dtype, Precision};
use ff_structure::{Frame, FrameReader, Labels, Structure};
use serde::Serialize;

use self::args::PredictArgs;
use self::output::Output;
use crate::failure::{Failure, Result};
use crate::models::{AnyModel, BesideF32, PredictError, Untrained, announce, fits, largest_force, load, of_tables};
use crate::screen::{Progress, Screen};
use crate::{interrupt, workload};

/// How often those who see no bar hear how far it is.
const SAID_EVERY: Duration = Duration::from_secs(5);

/// What is printed as JSON.
#[derive(Serialize)]
struct Report<'a> {
    model: String,
    dtype: Dtype,
    frames: usize,
    atoms: usize,
    seconds: f64,
    structures_per_s: f64,
    /// How much filters that are tables err beside their largest value.
    #[serde(skip_serializing_if = "Option::is_none")]
    table_error: Option<f64>,
    precision: Precision,
    /// By how much a reduced precision errs.
    #[serde(skip_serializing_if = "Option::is_none")]
    beside_f32: Option<BesideF32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    results: Option<&'a [Row]>,
}

/// A frame of the result, in eV and Å.
#[derive(Serialize)]
struct Row {
    frame: usize,
    name: String,
    atoms: usize,
    energy: f64,
    max_force: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    energies: Option<Vec<f64>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    forces: Option<Vec<[f64; 3]>>,
    stress: Option<[[f64; 3]; 3]>,
}

/// Evaluates a model on every frame of a file.
pub fn run(args: &PredictArgs, screen: &Screen) -> Result<()> {
    let model = load(&args.model)?;
    let host = AnyModel::new(&model, args.dtype, args.packing)?;
    let mut reader = FrameReader::open(&args.file).map_err(Failure::input)?;
    let output = args.output.as_deref().map(|path| Output::create(path, &args.file)).transpose()?;
    let evaluator = host.on(announce(args.runtime, screen)?.runtime, &model, args.dtype)?;
    // What Ctrl-C finds computed is kept.
    interrupt::flag();
    let forces = !args.no_forces;
    let mut run = Run {
        args,
        model: &model,
        evaluator: &evaluator,
        beside_f32: None,
        wanted: Wanted { forces, stress: forces && !args.no_stress, per_atom: args.per_atom },
        screen,
        progress: screen.counter(),
        output,
        rows: Vec::new(),
        untrained: Untrained::default(),
        pending: Vec::new(),
        frames: 0,
        atoms: 0,
        begin: Instant::now(),
        said: Instant::now(),
    };
    let done = run.frames(&mut reader);
    workload::warn(reader.warnings(), screen);
    run.end(done)
}

struct Run<'a> {
    args: &'a PredictArgs,
    model: &'a Model,
    evaluator: &'a AnyModel,
    /// By how much a reduced precision errs on the first frames.
    beside_f32: Option<BesideF32>,
    wanted: Wanted,
    screen: &'a Screen,
    progress: Progress<'a>,
    output: Option<Output>,
    rows: Vec<Row>,
    untrained: Untrained,
    /// Frames of the next call.
    pending: Vec<Frame>,
    /// Frames and atoms that are done.
    frames: usize,
    atoms: usize,
    begin: Instant,
    said: Instant,
}

impl Run<'_> {
    /// All frames, in calls of as many atoms as memory suffices for.
    fn frames(&mut self, reader: &mut FrameReader) -> Result<()> {
        let config = self.model.config();
        let most = match self.args.batch_atoms {
            Some(atoms) => atoms as usize,
            None => batch::atoms(config, self.args.dtype),
        };
        let mut atoms = 0;
        for frame in reader {
            let frame = match frame {
                Ok(frame) => frame,
                Err(error) => {
                    // What stands before the broken frame is computed.
                    self.call()?;
                    return Err(Failure::input(error));
                }
            };
            if !batch::takes(atoms, most, &frame.structure) {
                self.call()?;
                atoms = 0;
            }
            if interrupt::raised() {
                return Err(Failure::interrupted(format!("interrupted after {} frames", self.frames)));
            }
            atoms += frame.structure.n_atoms();
            let number = self.frames + self.pending.len() + 1;
            if let Err(failure) = fits(self.model, self.args.dtype, &self.args.file, number, frame.structure.n_atoms())
            {
                self.call()?;
                return Err(failure);
            }
            self.untrained.look(config, &self.args.file, number, &frame.structure, self.screen);
            self.pending.push(frame);
        }
        self.call()
    }

    /// Computes the pending frames by one call; where one of them cannot be computed, those before it by another.
    fn call(&mut self) -> Result<()> {
        let frames = std::mem::take(&mut self.pending);
        let mut structures = Vec::with_capacity(frames.len());
        // The call wants structures in one slice: they go there and come back.
        let mut rest: Vec<Frame> = Vec::with_capacity(frames.len());
        for mut frame in frames {
            structures.push(std::mem::replace(&mut frame.structure, Structure::open("", Vec::new(), Vec::new())));
            rest.push(frame);
        }
        if self.frames == 0 {
            self.beside_f32 = self.args.packing.compare(self.model, &structures, self.screen)?;
        }
        let predict = |structures: &[Structure]| self.evaluator.predict(structures, self.wanted, &Times::off());
        let (predictions, failure) = match predict(&structures) {
            Ok(predictions) => (predictions, None),
            Err(error) => {
                let before = match &error {
                    PredictError::Structure(error) => predict(&structures[..error.index()]).unwrap_or_default(),
                    PredictError::Device(_) => Vec::new(),
                };
                (before, Some(error.of_frames(&self.args.file, self.frames + 1)))
            }
        };
        for ((mut frame, structure), prediction) in rest.into_iter().zip(structures).zip(predictions) {
            frame.structure = structure;
            self.result(&frame, prediction)?;
        }
        let rate = format!("{} structures, {:.1}/s", self.frames, self.rate());
        self.progress.step(self.frames as u64, &rate);
        if self.said.elapsed() >= SAID_EVERY {
            self.progress.plain(rate);
            self.said = Instant::now();
        }
        failure.map_or(Ok(()), Err)
    }

    fn result(&mut self, frame: &Frame, prediction: Prediction) -> Result<()> {
        let Prediction { energy, energies, forces, stress } = prediction;
        let (n_atoms, wanted) = (frame.structure.n_atoms(), self.wanted);
        let max_force = wanted.forces.then(|| largest_force(&forces));
        let energies = wanted.per_atom.then_some(energies);
        let forces = wanted.forces.then_some(forces);
        let number = self.frames + 1;
        if let Some(output) = &mut self.output {
            output.write(frame, &Labels { energy: Some(energy), energies, forces, stress })?;
        } else {
            let name = frame.structure.name.clone();
            let row = Row { frame: number, name, atoms: n_atoms, energy, max_force, energies, forces, stress };
            if self.args.json {
                self.rows.push(row);
            } else {
                self.line(&row)?;
            }
        }
        self.frames += 1;
        self.atoms += n_atoms;
        Ok(())
    }

    /// A line of the table, whose columns have fixed widths: it is printed as it is computed.
    fn line(&self, row: &Row) -> Result<()> {
        let Row { frame, name, atoms, energy, max_force, .. } = row;
        if self.frames == 0 {
            let force = if max_force.is_some() { "MAX |F| eV/Å" } else { "" };
            let header = format!("{:>7}  {:<24}  {:>7}  {:>18}  {force:>12}", "FRAME", "NAME", "ATOMS", "ENERGY eV");
            self.screen.line(header.trim_end())?;
        }
        let force = max_force.map(|force| format!("{force:.6}")).unwrap_or_default();
        self.screen.line(format!("{frame:>7}  {name:<24}  {atoms:>7}  {energy:>18.8}  {force:>12}").trim_end())?;
        for (atom, energy) in row.energies.iter().flatten().enumerate() {
            self.screen.line(format!("{:>7}  {:<24}  {atom:>7}  {energy:>18.8}", "", ""))?;
        }
        Ok(())
    }

    fn rate(&self) -> f64 {
        self.frames as f64 / self.begin.elapsed().as_secs_f64().max(1e-9)
    }

    /// Keeps what was computed, however it ended, and says how it went.
    fn end(self, done: Result<()>) -> Result<()> {
        let (seconds, rate) = (self.begin.elapsed().as_secs_f64(), self.rate());
        self.progress.end();
        let path = self.args.output.as_deref();
        let kept = self.output.map_or(Ok(0), |output| output.keep(done.is_ok()));
        if let Err(mut failure) = done {
            if let (Some(path), Ok(kept @ 1..)) = (path, &kept) {
                failure.message += &format!("; the {kept} frames before are in {}", path.display());
            }
            return Err(failure);
        }
        kept?;
        let report = Report {
            model: self.args.model.display().to_string(),
            dtype: self.args.dtype,
            frames: self.frames,
            atoms: self.atoms,
            seconds,
            structures_per_s: rate,
            table_error: self.evaluator.table_error(),
            precision: self.evaluator.precision(),
            beside_f32: self.beside_f32,
            output: path.map(shown),
            results: path.is_none().then_some(&self.rows[..]),
        };
        if self.args.json {
            return self.screen.json(&report);
        }
        if let Some(error) = self.evaluator.table_error() {
            self.screen.line(of_tables(error))?;
        }
        let to = path.map(|path| format!(" to {}", path.display())).unwrap_or_default();
        let (frames, atoms) = (self.frames, self.atoms);
        self.screen.line(format!("{frames} structures, {atoms} atoms{to} in {seconds:.2} s: {rate:.1} structures/s"))
    }
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}
