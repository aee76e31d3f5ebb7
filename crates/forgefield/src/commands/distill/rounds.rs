//! Rounds: a committee of students is trained, moves structures, and those on which it disagrees are labelled next.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use ff_md::{DrawSettings, DrawSummary, Drawn, MdError, ModelPotential};
use ff_model::HostModel;
use ff_structure::{Frame, FrameReader, FrameWriter, Structure};
use ff_train::TrainConfig;
use ff_train::validate::Reservoir;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::args::DistillArgs;
use super::student;
use crate::failure::{Failure, Result};
use crate::interrupt;
use crate::models::load;
use crate::screen::{Left, Screen};

/// A round on record.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Round {
    /// Its number, from 1.
    pub round: u32,
    /// Frames that its students were fitted to and watched by.
    pub labelled: u64,
    /// Its students, with their errors.
    pub students: Value,
    /// Looks at the committee, and those at structures that are worth labelling.
    pub looks: u64,
    /// Likewise.
    pub candidates: u64,
    /// Mean disagreement about the force on an atom, eV/Å.
    pub mean_disagreement: f64,
    /// Largest.
    pub largest_disagreement: f64,
    /// Trajectories that ended early.
    pub ended: u64,
    /// Structures that were drawn.
    pub drawn: usize,
    /// Their file, where there are any.
    pub file: Option<PathBuf>,
}

/// The rounds of a run, on record beside the labels.
pub struct Rounds<'a> {
    args: &'a DistillArgs,
    config: &'a TrainConfig,
    screen: &'a Screen,
    record: PathBuf,
    /// Those that are done.
    pub done: Vec<Round>,
}

impl<'a> Rounds<'a> {
    /// Those of earlier runs of the same command.
    ///
    /// # Errors
    /// A record of rounds that had other students, or drew otherwise.
    pub fn open(args: &'a DistillArgs, config: &'a TrainConfig, screen: &'a Screen) -> Result<Self> {
        let record = args.labels.with_extension("rounds.jsonl");
        let rounds = &args.rounds;
        let mut student = config.to_map();
        // Where files lie is no matter.
        student.remove("data");
        let identity = json!({
            "student": student, "committee": rounds.committee, "temperatures": rounds.temperatures,
            "md_steps": rounds.md_steps, "md_every": rounds.md_every, "timestep_fs": rounds.timestep_fs,
            "draw": rounds.draw, "starts": rounds.starts,
            "least_disagreement": rounds.least_disagreement, "most_disagreement": rounds.most_disagreement,
        });
        let failed = |error: &dyn std::fmt::Display| Failure::fault(format!("{}: {error}", record.display()));
        let mut done = Vec::new();
        match fs::read_to_string(&record) {
            Ok(text) => {
                // A torn last line was not done.
                let mut lines = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
                let found: Option<Value> = lines.next().and_then(|line| serde_json::from_str(line).ok());
                if found.as_ref() != Some(&identity) {
                    return Err(Failure::input(format!(
                        "{} is of rounds with other students or other dynamics: expected the same config and options, or \
                         another file for the labels",
                        record.display()
                    )));
                }
                done.extend(lines.map_while(|line| serde_json::from_str(line).ok()));
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(&error)),
        }
        let mut text = format!("{identity}\n");
        for round in &done {
            text += &(serde_json::to_string(round).map_err(|e| failed(&e))? + "\n");
        }
        ff_tables::fs::replace(&record, text.as_bytes()).map_err(|e| failed(&e))?;
        Ok(Self { args, config, screen, record, done })
    }

    /// A file of this run, beside the labels.
    fn beside(&self, ending: &str) -> PathBuf {
        self.args.labels.with_extension(ending)
    }

    /// Does the next round.
    ///
    /// # Errors
    /// What training and dynamics say; Ctrl-C. What of the round was done is there, and is not done again but for the dynamics.
    pub fn next(&mut self, labelled: u64) -> Result<()> {
        let number = self.done.len() as u32 + 1;
        let mut students = Vec::new();
        for member in 0..self.args.rounds.committee {
            let mut config = self.config.clone();
            config.run.seed += u64::from(member);
            let output = self.beside(&format!("round-{number}.student-{member}.safetensors"));
            // A student that is there was finished by an earlier run of this round.
            if output.is_file() {
                students.push(json!({"file": output, "seed": config.run.seed}));
                continue;
            }
            let trained = student::train(&config, &output, self.screen)?;
            self.screen.headline(format!("round {number}: {}", trained.said()))?;
            students.push(serde_json::to_value(&trained).map_err(Failure::fault)?);
        }
        let (drawn, seen) = self.draw(number)?;
        let file = (!drawn.is_empty()).then(|| self.beside(&format!("round-{number}.extxyz")));
        if let Some(file) = &file {
            write(file, &drawn)?;
        }
        let DrawSummary { looks, candidates, mean, largest, ended } = seen;
        let round = Round {
            round: number,
            labelled,
            students: Value::Array(students),
            looks,
            candidates,
            mean_disagreement: mean,
            largest_disagreement: largest,
            ended,
            drawn: drawn.len(),
            file,
        };
        self.screen.headline(format!(
            "round {number}: disagreement {mean:.3} eV/Å on average, {largest:.3} at most; {candidates} of {looks} structures \
             worth labelling, {} drawn; {ended} trajectories ended early",
            round.drawn
        ))?;
        let cannot = |error: &dyn std::fmt::Display| Failure::fault(format!("{}: {error}", self.record.display()));
        let line = serde_json::to_string(&round).map_err(|e| cannot(&e))? + "\n";
        OpenOptions::new()
            .append(true)
            .open(&self.record)
            .and_then(|mut file| file.write_all(line.as_bytes()))
            .map_err(|e| cannot(&e))?;
        self.done.push(round);
        Ok(())
    }

    /// Moves structures under the students of a round.
    fn draw(&self, number: u32) -> Result<(Vec<Drawn>, DrawSummary)> {
        let rounds = &self.args.rounds;
        let mut committee = Vec::new();
        for member in 0..rounds.committee {
            let model = load(&self.beside(&format!("round-{number}.student-{member}.safetensors")))?;
            committee.push(ModelPotential::<f32>::new(HostModel::new(&model).map_err(Failure::input)?));
        }
        let mut starts: Reservoir<Structure> = Reservoir::new(rounds.starts, u64::from(number));
        for file in &self.args.files {
            for frame in FrameReader::open(file).map_err(Failure::input)? {
                starts.offer(frame.map_err(Failure::input)?.structure);
            }
        }
        let settings = DrawSettings {
            temperatures: rounds.temperatures.clone(),
            steps: rounds.md_steps,
            every: rounds.md_every,
            timestep_fs: rounds.timestep_fs,
            friction_per_ps: 10.0,
            seed: u64::from(number),
            least: rounds.least_disagreement,
            most: rounds.most_disagreement,
            structures: rounds.draw,
        };
        let progress =
            self.screen.progress((starts.items().len() * settings.temperatures.len()) as u64, Left::Estimated);
        let drawn = ff_md::draw(&mut committee, starts.items(), &settings, &mut |done, all| {
            progress.step(done, format!("trajectory {done} of {all}"));
            !interrupt::raised()
        });
        progress.end();
        if interrupt::raised() {
            return Err(Failure::interrupted(format!(
                "interrupted in the dynamics of round {number}: the same command goes on"
            )));
        }
        drawn.map_err(|error| match error {
            MdError::Setting { .. } | MdError::System { .. } => Failure::input(error),
            MdError::Fault { .. } => Failure::fault(error),
            _ => Failure::unmet(error),
        })
    }
}

/// Writes drawn structures, all or none.
fn write(path: &Path, drawn: &[Drawn]) -> Result<()> {
    let cannot = |error: &dyn std::fmt::Display| Failure::fault(format!("cannot write {}: {error}", path.display()));
    let mut writer = FrameWriter::new(Vec::new());
    for Drawn { structure, disagreement, temperature, step, .. } in drawn {
        let mut frame = Frame::from(structure.clone());
        for (key, value) in [
            ("disagreement", disagreement.to_string()),
            ("temperature_k", temperature.to_string()),
            ("step", step.to_string()),
        ] {
            frame.info.push((key.to_owned(), value));
        }
        writer.write(&frame).map_err(|e| cannot(&e))?;
    }
    let bytes = writer.finish().map_err(|e| cannot(&e))?;
    ff_tables::fs::replace(path, &bytes).map_err(|e| cannot(&e))
}
