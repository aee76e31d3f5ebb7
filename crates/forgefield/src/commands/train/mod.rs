//! `train`: a model fitted to labelled frames.

pub mod args;
mod figure;

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ff_train::{Ended, Errors, Files, Row, Split, TrainConfig, TrainError, Training, Watch, card};
use serde::Serialize;
use serde_json::Value;

use self::args::TrainArgs;
use crate::failure::{Failure, Result};
use crate::interrupt;
use crate::models::on_host;
use crate::screen::{Left, Progress, Screen};

/// How often those who see no bar hear how far it is.
const SAID_EVERY: Duration = Duration::from_secs(5);

/// What is printed as JSON.
#[derive(Serialize)]
struct Report<'a> {
    model: &'a Path,
    parameters: usize,
    frames: usize,
    epochs: u64,
    best_epoch: u64,
    steps: u64,
    seconds: f64,
    steps_per_s: f64,
    watched: Errors,
    tested: Option<Errors>,
    stopped: Option<String>,
}

/// Trains.
pub fn run(args: &TrainArgs, screen: &Screen) -> Result<()> {
    let config = config(args)?;
    let checkpoint = checkpoint(&args.output);
    check_paths(args, &config, &checkpoint)?;
    let split = Split::load(&config).map_err(failure)?;
    split.warnings.iter().for_each(|warning| screen.warn(warning));
    on_host(args.runtime, screen)?;
    let threads = args.threads.map_or_else(rayon::current_num_threads, usize::from);
    let mut training = Training::new(&config, &split, threads).map_err(failure)?;
    if args.resume && training.resume(&checkpoint).map_err(failure)? {
        screen.say(format!("goes on from step {}", training.state().progress.step));
    }
    screen.say(format!(
        "{}, {} parameters; {} frames fitted, {} watched; {} steps",
        training.model_config().summary(),
        training.n_weights(),
        split.train.len(),
        split.validation.len(),
        training.n_steps()
    ));
    // What Ctrl-C finds done is kept.
    interrupt::flag();
    let first = training.state().progress.step;
    let begin = Instant::now();
    let mut follower = Follower {
        progress: screen.progress(training.n_steps(), Left::Estimated),
        rows: Vec::new(),
        first,
        begin,
        said: None,
    };
    let files = Files { checkpoint: Some(checkpoint.clone()), log: args.log.clone() };
    let ended = training.run(&files, &mut follower);
    let Follower { progress, rows, .. } = follower;
    progress.end();
    let ended = ended.map_err(failure)?;
    let seconds = begin.elapsed().as_secs_f64();
    let done = &training.state().progress;
    if ended == Ended::Interrupted {
        let message = format!(
            "interrupted after step {}: {} is kept, and --resume goes on from it",
            done.step,
            checkpoint.display()
        );
        return Err(Failure::interrupted(message));
    }
    let model = training.best();
    let watched = ff_train::run::errors(&model, &split.validation).map_err(failure)?.errors();
    let tested = match &split.test[..] {
        [] => None,
        test => Some(ff_train::run::errors(&model, test).map_err(failure)?.errors()),
    };
    card::file(&training, &split, &model, &watched, tested.as_ref()).write(&args.output).map_err(Failure::fault)?;
    // The result is there, and there is nothing to go on with.
    if let Err(error) = fs::remove_file(&checkpoint)
        && error.kind() != ErrorKind::NotFound
    {
        return Err(Failure::fault(format!("cannot remove {}: {error}", checkpoint.display())));
    }
    let failure = match ended {
        Ended::Diverged { step } => Some(Failure::unmet(format!(
            "the loss of step {step} is not finite: training ended, the weights of epoch {} are in {}; a smaller \
             `optimizer.rate` may help",
            done.best_epoch,
            args.output.display()
        ))),
        Ended::Done | Ended::Stopped | Ended::Interrupted => None,
    };
    let report = Report {
        model: &args.output,
        parameters: training.n_weights(),
        frames: split.train.len(),
        epochs: done.epoch,
        best_epoch: done.best_epoch,
        steps: done.step,
        seconds,
        steps_per_s: (done.step - first) as f64 / seconds.max(1e-9),
        watched,
        tested,
        stopped: match ended {
            Ended::Stopped => Some("no better weights for as long as early_stopping says".to_owned()),
            _ => failure.as_ref().map(|failure| failure.message.clone()),
        },
    };
    if args.json {
        screen.json(&report)?
    } else {
        print(&report, screen)?
    }
    if let Some(path) = &args.figure {
        let rows = match &args.log {
            Some(log) => read(log)?,
            None => rows,
        };
        let name = args.output.file_name().unwrap_or_default().to_string_lossy();
        figure::write(path, &format!("Training of {name}"), &rows)?;
    }
    failure.map_or(Ok(()), Err)
}

/// The file's config with what was given beside it.
fn config(args: &TrainArgs) -> Result<TrainConfig> {
    let mut config = match &args.config {
        None if args.train.is_empty() => {
            let message = "expected a CONFIG, or --train FILE with labelled frames, found neither";
            return Err(Failure::input(message));
        }
        None => TrainConfig::default(),
        Some(path) => TrainConfig::load(path).map_err(failure)?,
    };
    fn set<T: Clone>(value: &mut T, given: &Option<T>) {
        if let Some(given) = given {
            *value = given.clone();
        }
    }
    let TrainConfig { data, model, optimizer, run, .. } = &mut config;
    for (files, given) in
        [(&mut data.train, &args.train), (&mut data.validation, &args.validation), (&mut data.test, &args.test)]
    {
        if !given.is_empty() {
            files.clone_from(given);
        }
    }
    set(&mut data.isolated_atoms, &args.isolated_atoms.clone().map(Some));
    set(&mut data.energy_unit, &args.energy_unit.clone().map(Some));
    set(&mut model.kind, &args.model);
    set(&mut model.features, &args.features);
    set(&mut model.layers, &args.layers);
    set(&mut model.n_basis, &args.n_basis);
    set(&mut model.cutoff, &args.cutoff);
    set(&mut optimizer.rate, &args.rate);
    set(&mut run.epochs, &args.epochs);
    set(&mut run.seed, &args.seed);
    set(&mut run.batch, &args.batch);
    set(&mut run.batch_atoms, &args.batch_atoms.map(Some));
    if args.batch.is_some() {
        run.batch_atoms = None;
    }
    config.check().map_err(failure)?;
    Ok(config)
}

/// Where the state is kept.
fn checkpoint(output: &Path) -> PathBuf {
    let mut name = output.as_os_str().to_owned();
    name.push(".checkpoint");
    name.into()
}

/// Refuses to write over what is read, and over a training that was not asked about.
fn check_paths(args: &TrainArgs, config: &TrainConfig, checkpoint: &Path) -> Result<()> {
    let folder = args.output.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !folder.is_dir() {
        return Err(Failure::input(format!("{}: expected a folder to write into, found none", folder.display())));
    }
    if args.output.is_dir() {
        return Err(Failure::input(format!("{}: expected a file to write, found a folder", args.output.display())));
    }
    let data = &config.data;
    let read = [&data.train, &data.validation, &data.test]
        .into_iter()
        .flatten()
        .chain(&data.isolated_atoms)
        .chain(&data.teacher)
        .chain(&config.model.start);
    let mut all: Vec<&Path> = read.chain(&args.config).map(PathBuf::as_path).collect();
    let real = |path: &Path| fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let written = [Some(&args.output), args.log.as_ref(), args.figure.as_ref()];
    for path in written.into_iter().flatten() {
        if let Some(other) = all.iter().find(|other| real(other) == real(path)) {
            let (path, other) = (path.display(), other.display());
            return Err(Failure::input(format!("{path} is to be written and is {other} too: expected another file")));
        }
        all.push(path);
    }
    if checkpoint.exists() && !args.resume && !args.fresh {
        let found = checkpoint.display();
        return Err(Failure::input(format!(
            "{found} is that of a training that has not ended: expected --resume to go on from it, or --fresh to begin anew"
        )));
    }
    Ok(())
}

/// An error of a training under its exit code.
pub fn failure(error: TrainError) -> Failure {
    match error {
        TrainError::Write { .. } => Failure::fault(error),
        _ => Failure::input(error),
    }
}

/// The lines of a log.
fn read(log: &Path) -> Result<Vec<Value>> {
    let text = fs::read_to_string(log)
        .map_err(|e| Failure::fault(format!("cannot read {} to draw it: {e}", log.display())))?;
    Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
}

fn print(report: &Report, screen: &Screen) -> Result<()> {
    let Report { steps, epochs, best_epoch, seconds, steps_per_s, .. } = report;
    screen.line(format!("{steps} steps in {epochs} epochs, {seconds:.1} s, {steps_per_s:.1} steps/s"))?;
    if let Some(reason) = &report.stopped {
        screen.line(format!("stopped: {reason}"))?;
    }
    let watched = &report.watched;
    screen.line(format!(
        "{} watched frames, best after epoch {best_epoch}: {}",
        watched.frames,
        card::said(watched)
    ))?;
    if let Some(tested) = &report.tested {
        screen.line(format!("{} test frames: {}", tested.frames, card::said(tested)))?;
    }
    screen.line(format!("{}: {} parameters", report.model.display(), report.parameters))
}

/// Shows how far it is, and keeps what is drawn.
struct Follower<'a> {
    progress: Progress<'a>,
    rows: Vec<Value>,
    first: u64,
    begin: Instant,
    said: Option<Instant>,
}

impl Follower<'_> {
    fn rate(&self, step: u64) -> f64 {
        (step - self.first) as f64 / self.begin.elapsed().as_secs_f64().max(1e-9)
    }
}

impl Watch for Follower<'_> {
    fn stop(&mut self) -> bool {
        interrupt::raised()
    }

    fn step(&mut self, step: u64, steps: u64, loss: f64) {
        let rate = self.rate(step);
        self.progress.step(step, format_args!("loss {loss:.3e}, {rate:.1} steps/s"));
        if self.said.is_some_and(|said| said.elapsed() >= 6 * SAID_EVERY) {
            let left = (steps.saturating_sub(step)) as f64 / rate.max(1e-9);
            self.progress.plain(format_args!("step {step}, loss {loss:.3e}, {rate:.1} steps/s, {left:.0} s left"));
            self.said = Some(Instant::now());
        }
    }

    fn epoch(&mut self, row: &Row, epochs: u64) {
        let number = |x: Option<f64>| x.map_or("–".to_owned(), |x| format!("{x:.2}"));
        let text = format!(
            "epoch {}/{epochs}: watched {} meV/atom, {} meV/Å in the mean, loss {:.3e}{}, {:.1} steps/s",
            row.epoch,
            number(row.energy_mae_mev_per_atom),
            number(row.force_mae_mev_per_a),
            row.loss,
            if row.best { " (best)" } else { "" },
            self.rate(row.step)
        );
        // Epochs of few frames come faster than anybody reads.
        if row.epoch == epochs || self.said.is_none_or(|said| said.elapsed() >= SAID_EVERY) {
            self.progress.line(text);
            self.said = Some(Instant::now());
        }
        self.rows.extend(serde_json::to_value(row));
    }
}
