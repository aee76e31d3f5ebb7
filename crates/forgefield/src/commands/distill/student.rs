//! The student: a model trained on what a teacher labelled.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ff_train::{Ended, Errors, Files, Row, Split, TrainConfig, Training, Watch, card};
use serde::Serialize;

use crate::commands::train::failure;
use crate::failure::{Failure, Result};
use crate::interrupt;
use crate::screen::{Left, Progress, Screen};

/// How often those who see no bar hear how far it is.
const SAID_EVERY: Duration = Duration::from_secs(5);

/// A student that was trained.
#[derive(Clone, Debug, Serialize)]
pub struct Trained {
    /// Its file.
    pub file: PathBuf,
    /// Its seed.
    pub seed: u64,
    /// Steps.
    pub steps: u64,
    /// Frames that were fitted.
    pub frames: usize,
    /// Time of this process.
    pub seconds: f64,
    /// Errors on the frames that were watched.
    pub watched: Errors,
    /// Errors on the config's test frames.
    pub tested: Option<Errors>,
}

/// The training of a student, on the labels alone.
///
/// # Errors
/// A config that cannot be read, or has frames of its own to fit.
pub fn config(path: &Path, labels: &Path, teacher: &str) -> Result<TrainConfig> {
    let mut config = TrainConfig::load(path).map_err(failure)?;
    if let Some(file) = config.data.train.first() {
        return Err(Failure::input(format!(
            "{}: expected no `train` in [data], since the student is fitted to what the teacher labels, found {}",
            path.display(),
            file.display()
        )));
    }
    config.data.train = vec![labels.to_owned()];
    // A teacher's labels are in eV and Å, whatever their medians look like.
    config.data.energy_unit = Some("eV".to_owned());
    if config.loss.features > 0.0 {
        config.data.teacher.get_or_insert_with(|| teacher.into());
    }
    config.check().map_err(failure)?;
    Ok(config)
}

/// Trains a student, from its checkpoint where there is one, and writes its file.
///
/// # Errors
/// What is wrong with labels or config; a loss that is not finite, under code 1; Ctrl-C, after which the checkpoint is there.
pub fn train(config: &TrainConfig, output: &Path, screen: &Screen) -> Result<Trained> {
    let checkpoint = PathBuf::from(format!("{}.checkpoint", output.display()));
    let split = Split::load(config).map_err(failure)?;
    split.warnings.iter().for_each(|warning| screen.warn(warning));
    let mut training = Training::new(config, &split, rayon::current_num_threads()).map_err(failure)?;
    if training.resume(&checkpoint).map_err(failure)? {
        screen.say(format!("{}: goes on from step {}", output.display(), training.state().progress.step));
    }
    let begin = Instant::now();
    let mut follower =
        Follower { progress: screen.progress(training.n_steps(), Left::Estimated), said: Instant::now() };
    let files = Files { checkpoint: Some(checkpoint.clone()), log: None };
    let ended = training.run(&files, &mut follower);
    follower.progress.end();
    let ended = ended.map_err(failure)?;
    let done = &training.state().progress;
    match ended {
        Ended::Interrupted => {
            let message = format!(
                "interrupted after step {} of {}: the same command goes on from it",
                done.step,
                output.display()
            );
            return Err(Failure::interrupted(message));
        }
        Ended::Diverged { step } => {
            let message = format!("{}: the loss of step {step} is not finite; nothing was written", output.display());
            return Err(Failure::unmet(message));
        }
        Ended::Done | Ended::Stopped => {}
    }
    let model = training.best();
    let errors = |samples| ff_train::run::errors(&model, samples).map(|sums| sums.errors()).map_err(failure);
    let watched = errors(&split.validation)?;
    let tested = if split.test.is_empty() { None } else { Some(errors(&split.test)?) };
    card::file(&training, &split, &model, &watched, tested.as_ref()).write(output).map_err(Failure::fault)?;
    if let Err(error) = fs::remove_file(&checkpoint)
        && error.kind() != ErrorKind::NotFound
    {
        return Err(Failure::fault(format!("cannot remove {}: {error}", checkpoint.display())));
    }
    Ok(Trained {
        file: output.to_owned(),
        seed: config.run.seed,
        steps: done.step,
        frames: split.train.len(),
        seconds: begin.elapsed().as_secs_f64(),
        watched,
        tested,
    })
}

impl Trained {
    /// What a user is told.
    pub fn said(&self) -> String {
        let Self { file, steps, frames, seconds, watched, tested, .. } = self;
        let tested = tested.as_ref().map(|errors| format!("; {} tested: {}", errors.frames, card::said(errors)));
        format!(
            "{}: {frames} frames, {steps} steps, {seconds:.1} s; {} watched: {}{}",
            file.display(),
            watched.frames,
            card::said(watched),
            tested.unwrap_or_default()
        )
    }
}

struct Follower<'a> {
    progress: Progress<'a>,
    said: Instant,
}

impl Watch for Follower<'_> {
    fn stop(&mut self) -> bool {
        interrupt::raised()
    }

    fn step(&mut self, step: u64, steps: u64, loss: f64) {
        let text = format!("step {step} of {steps}, loss {loss:.3e}");
        self.progress.step(step, &text);
        if self.said.elapsed() >= SAID_EVERY {
            self.progress.plain(text);
            self.said = Instant::now();
        }
    }

    fn epoch(&mut self, _: &Row, _: u64) {}
}
