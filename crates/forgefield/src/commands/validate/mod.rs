//! `validate`: a model beside another model or labelled frames, and whether its errors are below limits.

pub mod args;
mod figure;
pub mod source;

use std::path::Path;
use std::time::{Duration, Instant};

use ff_model::host::Times;
use ff_model::{Model, Prediction, Wanted, batch};
use ff_spec::{Dtype, Precision};
use ff_structure::Structure;
use ff_train::errors::{Errors, Values};
use ff_train::validate::Verdict;
use ff_train::{Required, Validation};
use serde::Serialize;

use self::args::ValidateArgs;
use self::source::{Item, Source, holds_structures};
use crate::failure::{Failure, Result};
use crate::interrupt;
use crate::models::{AnyModel, BesideF32, PackArgs, PredictError, Untrained, announce, fits, load, of_frame};
use crate::screen::{Paint, Progress, Screen, columns};

/// How often those who see no bar hear how far it is.
const SAID_EVERY: Duration = Duration::from_secs(5);

/// What is printed as JSON.
#[derive(Serialize)]
struct Report {
    model: String,
    against: String,
    dtype: Dtype,
    precision: Precision,
    /// By how much a reduced precision errs.
    #[serde(skip_serializing_if = "Option::is_none")]
    beside_f32: Option<BesideF32>,
    #[serde(flatten)]
    errors: Errors,
    /// Frames of the reference without any label.
    unlabelled: u64,
    limits: Vec<Verdict>,
    passed: bool,
    seconds: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    figure: Option<String>,
    stopped: Option<String>,
}

/// Compares.
pub fn run(args: &ValidateArgs, screen: &Screen) -> Result<()> {
    if let Some(figure) = &args.figure {
        super::verify::writable(figure)?;
    }
    let model = load(&args.model)?;
    let host = AnyModel::new(&model, args.dtype, args.packing)?;
    let (source, reference) = if holds_structures(&args.against) {
        if let Some(file) = args.files.first() {
            let message = format!(
                "{} has structures of its own: expected no FILES beside labelled frames, found {}",
                args.against.display(),
                file.display()
            );
            return Err(Failure::input(message));
        }
        (Source::labelled(&args.against, args.labels.options(Required::default()))?, None)
    } else {
        let reference = load(&args.against)?;
        let packed = AnyModel::new(&reference, args.dtype, PackArgs::EXACT)?;
        (Source::of(&args.files)?, Some((reference, packed)))
    };
    let runtime = announce(args.runtime, screen)?.runtime;
    let evaluator = host.on(runtime, &model, args.dtype)?;
    let reference = reference
        .map(|(model, packed)| Ok::<_, Failure>((packed.on(runtime, &model, args.dtype)?, model)))
        .transpose()?;
    // What Ctrl-C finds compared is shown.
    interrupt::flag();
    let mut run = Run {
        args,
        model: &model,
        evaluator,
        beside_f32: None,
        reference,
        screen,
        progress: screen.counter(),
        untrained: Untrained::default(),
        pending: Vec::new(),
        validation: Validation::default(),
        unlabelled: 0,
        said: Instant::now(),
    };
    let begin = Instant::now();
    let mut source = source;
    let done = run.items(&mut source);
    source.warn(screen);
    run.end(done, begin.elapsed().as_secs_f64())
}

struct Run<'a> {
    args: &'a ValidateArgs,
    model: &'a Model,
    evaluator: AnyModel,
    /// By how much a reduced precision errs on the first structures.
    beside_f32: Option<BesideF32>,
    /// The reference, where it is a model.
    reference: Option<(AnyModel, Model)>,
    screen: &'a Screen,
    progress: Progress<'a>,
    untrained: Untrained,
    /// Structures of the next call.
    pending: Vec<Item>,
    validation: Validation,
    unlabelled: u64,
    said: Instant,
}

impl Run<'_> {
    /// All structures, in calls of as many atoms as memory suffices for.
    fn items(&mut self, source: &mut Source) -> Result<()> {
        let most = match self.args.batch_atoms {
            Some(atoms) => atoms as usize,
            None => {
                let models = [Some(self.model), self.reference.as_ref().map(|(_, model)| model)];
                let atoms = |model: &Model| batch::atoms(model.config(), self.args.dtype);
                models.into_iter().flatten().map(atoms).min().unwrap_or(1)
            }
        };
        let mut atoms = 0;
        loop {
            let item = match source.next(self.screen) {
                Ok(Some(item)) => item,
                Ok(None) => break,
                Err(failure) => {
                    self.call()?;
                    return Err(failure);
                }
            };
            if interrupt::raised() {
                return Err(Failure::interrupted("interrupted"));
            }
            let labelled = &item.labelled;
            let unlabelled = labelled.energy.is_none() && labelled.forces.is_none() && labelled.stress.is_none();
            if self.reference.is_none() && unlabelled {
                self.unlabelled += 1;
                continue;
            }
            let structure = &labelled.structure;
            if !batch::takes(atoms, most, structure) {
                self.call()?;
                atoms = 0;
            }
            if let Err(failure) = self.look(&item) {
                self.call()?;
                return Err(failure);
            }
            atoms += structure.n_atoms();
            self.pending.push(item);
        }
        self.call()
    }

    /// Refuses what memory does not suffice for, and says what a model was not trained on.
    fn look(&mut self, item: &Item) -> Result<()> {
        let Item { file, labelled } = item;
        let models = [Some(self.model), self.reference.as_ref().map(|(_, model)| model)];
        for model in models.into_iter().flatten() {
            fits(model, self.args.dtype, file, labelled.frame, labelled.structure.n_atoms())?;
            self.untrained.look(model.config(), file, labelled.frame, &labelled.structure, self.screen);
        }
        Ok(())
    }

    /// Computes and compares the pending structures by one call; where one of them cannot be computed, those before it.
    fn call(&mut self) -> Result<()> {
        let items = std::mem::take(&mut self.pending);
        let (mut structures, mut rest) = (Vec::with_capacity(items.len()), Vec::with_capacity(items.len()));
        // The call wants structures in one slice.
        for mut item in items {
            let empty = Structure::open("", Vec::new(), Vec::new());
            structures.push(std::mem::replace(&mut item.labelled.structure, empty));
            rest.push(item);
        }
        if self.validation.sums.frames == 0 {
            self.beside_f32 = self.args.packing.compare(self.model, &structures, self.screen)?;
        }
        let mut failure = None;
        let mut evaluated = |model: &AnyModel| {
            model.predict(&structures, Wanted::FORCES, &Times::off()).unwrap_or_else(|error| match error {
                PredictError::Structure(error) => {
                    let good = error.index();
                    let Item { file, labelled } = &rest[good];
                    failure.get_or_insert(of_frame(file, labelled.frame, &error));
                    model.predict(&structures[..good], Wanted::FORCES, &Times::off()).unwrap_or_default()
                }
                PredictError::Device(message) => {
                    failure.get_or_insert(Failure::fault(message));
                    Vec::new()
                }
            })
        };
        let predicted = evaluated(&self.evaluator);
        let reference = self.reference.as_ref().map(|(model, _)| evaluated(model));
        for (i, (structure, prediction)) in structures.iter().zip(&predicted).enumerate() {
            let values = |p: &Prediction| (Some(p.energy), p.stress);
            let (energy, stress) = values(prediction);
            let predicted = Values { energy, forces: Some(&prediction.forces), stress };
            let reference = match &reference {
                None => {
                    let labels = &rest[i].labelled;
                    Values { energy: labels.energy, forces: labels.forces.as_deref(), stress: labels.stress }
                }
                Some(reference) => {
                    let Some(other) = reference.get(i) else { break };
                    let (energy, stress) = values(other);
                    Values { energy, forces: Some(&other.forces), stress }
                }
            };
            self.validation.add(structure, predicted, reference).map_err(Failure::input)?;
        }
        let frames = self.validation.sums.frames;
        let text = format!("{frames} structures");
        self.progress.step(frames, &text);
        if self.said.elapsed() >= SAID_EVERY {
            self.progress.plain(text);
            self.said = Instant::now();
        }
        failure.map_or(Ok(()), Err)
    }

    /// Shows what was compared, however it ended.
    fn end(self, done: Result<()>, seconds: f64) -> Result<()> {
        self.progress.end();
        let errors = self.validation.sums.errors();
        if errors.frames == 0 {
            return done.and(Err(Failure::unmet("nothing was compared")));
        }
        let limits = self.args.limits().judge(&errors);
        let holds = !limits.is_empty() && limits.iter().all(|verdict| verdict.holds);
        let title = format!("{} against {}", self.args.model.display(), self.args.against.display());
        if let Some(path) = &self.args.figure {
            let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let title = format!("{} against {}", name(&self.args.model), name(&self.args.against));
            figure::write(path, &title, &self.validation, &errors)?;
        }
        let report = Report {
            model: self.args.model.display().to_string(),
            against: self.args.against.display().to_string(),
            dtype: self.args.dtype,
            precision: self.evaluator.precision(),
            beside_f32: self.beside_f32,
            unlabelled: self.unlabelled,
            passed: holds && done.is_ok(),
            seconds,
            figure: self.args.figure.as_ref().map(|path| path.display().to_string()),
            stopped: done.as_ref().err().map(|failure| failure.message.clone()),
            limits,
            errors,
        };
        if self.args.json {
            self.screen.json(&report)?;
        } else {
            show(&report, &title, self.screen)?;
        }
        if let Err(mut failure) = done {
            failure.message += &format!("; compared before: {} structures", report.errors.frames);
            return Err(failure);
        }
        if holds {
            return Ok(());
        }
        let failed = report.limits.iter().filter(|verdict| !verdict.holds).map(|verdict| {
            let found = verdict.found.map_or("nothing to compare".to_owned(), |found| format!("{found:.4}"));
            format!("{}: expected below {}, found {found}", verdict.quantity, verdict.limit)
        });
        Err(Failure::unmet(failed.collect::<Vec<_>>().join("; ")))
    }
}

/// The tables.
fn show(report: &Report, title: &str, screen: &Screen) -> Result<()> {
    let errors = &report.errors;
    let number = |x: Option<f64>, digits: usize| x.map_or("–".to_owned(), |x| format!("{x:.digits$}"));
    let lines = |header: &[&str], rows: &[Vec<String>]| -> Result<()> {
        if rows.is_empty() {
            return Ok(());
        }
        let align = format!("l{}", "r".repeat(header.len() - 1));
        columns(header, rows, &align).into_iter().try_for_each(|line| screen.line(line))
    };
    let unlabelled = match report.unlabelled {
        0 => String::new(),
        n => format!(", {n} without labels left out"),
    };
    let (frames, atoms) = (errors.frames, errors.atoms);
    screen.line(format!("{title}: {frames} structures, {atoms} atoms{unlabelled}, {:.2} s", report.seconds))?;
    let row = |name: &str, n: u64, mae: Option<f64>, rmse: Option<f64>, digits: usize| {
        vec![name.to_owned(), n.to_string(), number(mae, digits), number(rmse, digits)]
    };
    lines(
        &["ERROR OF", "VALUES", "MAE", "RMSE"],
        &[
            row(
                "energy, meV/atom",
                errors.energies,
                errors.energy_mae_mev_per_atom,
                errors.energy_rmse_mev_per_atom,
                3,
            ),
            row(
                "force component, meV/Å",
                errors.force_components,
                errors.force_mae_mev_per_a,
                errors.force_rmse_mev_per_a,
                2,
            ),
            row("stress component, GPa", 9 * errors.stresses, errors.stress_mae_gpa, errors.stress_rmse_gpa, 4),
        ],
    )?;
    let mean = number(errors.energy_mean_mev_per_atom, 3);
    let spread = number(errors.energy_spread_mev_per_atom, 3);
    let (cosine, largest) = (number(errors.force_cosine, 6), number(errors.force_largest_mev_per_a, 1));
    screen.line(format!(
        "mean error of energies {mean} meV/atom, RMSE about it {spread}; cosine of forces {cosine}, largest error {largest} meV/Å"
    ))?;
    let elements: Vec<_> = errors
        .by_element
        .iter()
        .map(|e| {
            let force = [number(e.force_mae_mev_per_a, 2), number(e.force_rmse_mev_per_a, 2)];
            let [mae, rmse] = force;
            vec![e.element.clone(), e.atoms.to_string(), mae, rmse, number(e.force_cosine, 6)]
        })
        .collect();
    lines(&["ELEMENT", "ATOMS", "FORCE MAE", "RMSE", "COSINE"], &elements)?;
    let sizes: Vec<_> = errors
        .by_size
        .iter()
        .map(|s| {
            let atoms = match s.atoms_from {
                from if from == s.atoms_to => from.to_string(),
                from => format!("{from}–{}", s.atoms_to),
            };
            vec![
                atoms,
                s.frames.to_string(),
                number(s.energy_mae_mev_per_atom, 3),
                number(s.energy_rmse_mev_per_atom, 3),
                number(s.force_mae_mev_per_a, 2),
                number(s.force_rmse_mev_per_a, 2),
                number(s.force_cosine, 6),
            ]
        })
        .collect();
    lines(&["SIZE", "FRAMES", "ENERGY MAE", "RMSE", "FORCE MAE", "RMSE", "COSINE"], &sizes)?;
    for Verdict { quantity, found, limit, holds } in &report.limits {
        let (paint, word) = if *holds { (Paint::Green, "holds") } else { (Paint::Red, "does not hold") };
        let found = number(*found, 4);
        screen.line(format!("{quantity}: {found}, limit {limit}: {}", screen.paint(paint, word)))?;
    }
    Ok(())
}
