//! Frames to fit, to watch and to test on.

use std::path::{Path, PathBuf};

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use crate::config::TrainConfig;
use crate::error::TrainError;
use crate::labels::{Duplicates, LabelOptions, Labelled, UnitHints, read_labelled, symbols};

/// A labelled frame and where it is from.
#[derive(Clone, Debug)]
pub struct Sample {
    /// The atoms with their labels.
    pub frame: Labelled,
    /// The file.
    pub path: PathBuf,
}

/// Frames to fit, to watch and to test on.
#[derive(Clone, Debug, Default)]
pub struct Split {
    /// What is fitted.
    pub train: Vec<Sample>,
    /// What is watched: it chooses the weights that are kept.
    pub validation: Vec<Sample>,
    /// What the result is tested on; may be none.
    pub test: Vec<Sample>,
    /// What a user should be told.
    pub warnings: Vec<String>,
}

impl Split {
    /// Reads the files of a config and splits them.
    ///
    /// # Errors
    /// [`TrainError`]: files that cannot be read, labels that are missing, an element that is in no frame to be fitted.
    pub fn load(config: &TrainConfig) -> Result<Self, TrainError> {
        let options = config.labels()?;
        let mut warnings = Vec::new();
        let mut read = |paths: &[PathBuf]| -> Result<Vec<Sample>, TrainError> {
            let mut samples = Vec::new();
            for path in paths {
                let (frames, told) = read_labelled(path, &options)?;
                warnings.extend(told.iter().map(|warning| format!("warning: {warning}")));
                samples.extend(frames.into_iter().map(|frame| Sample { frame, path: path.clone() }));
            }
            Ok(samples)
        };
        let data = &config.data;
        let (mut train, mut validation, test) = (read(&data.train)?, read(&data.validation)?, read(&data.test)?);
        if validation.is_empty() {
            (train, validation) = draw(config, train)?;
        }
        let mut split = Self { train, validation, test, warnings };
        if data.energy_unit.is_none() {
            split.ask(&options)?;
        }
        split.check(config)?;
        Ok(split)
    }

    /// Atomic numbers of the frames to be fitted, in order.
    pub fn elements(&self) -> Vec<u8> {
        let mut all: Vec<u8> = self.train.iter().flat_map(|sample| sample.frame.structure.species.clone()).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// Refuses labels that look like those of another unit, where none was given.
    fn ask(&self, options: &LabelOptions) -> Result<(), TrainError> {
        for (what, samples) in [("train", &self.train), ("validation", &self.validation), ("test", &self.test)] {
            let mut hints = UnitHints::default();
            samples.iter().for_each(|sample| hints.look(&sample.frame));
            if let Some(hint) = hints.hints(options.units).first() {
                return Err(TrainError::Units { what, hint: hint.to_string(), unit: options.units.energy.to_string() });
            }
        }
        Ok(())
    }

    fn check(&mut self, config: &TrainConfig) -> Result<(), TrainError> {
        let known = self.elements();
        let sets = [("fitted", &self.train), ("watched", &self.validation), ("tested", &self.test)];
        for (what, samples) in sets {
            for Sample { frame, path } in samples {
                let structure = &frame.structure;
                if let Some(z) = structure.species.iter().find(|z| !known.contains(z)) {
                    let symbol = symbols([*z]);
                    let reason = format!(
                        "it is {what} and has {symbol}, which no frame to be fitted has: expected one that has"
                    );
                    return Err(TrainError::Frame { path: path.clone(), frame: frame.frame, reason });
                }
            }
        }
        let loss = &config.loss;
        type Has = fn(&Labelled) -> bool;
        let labels: [(&str, f64, Has); 3] = [
            ("energies", loss.energy, |frame| frame.energy.is_some()),
            ("forces", loss.forces, |frame| frame.forces.is_some()),
            ("stresses", loss.stress, |frame| frame.stress.is_some()),
        ];
        for (what, weight, has) in labels {
            for (set, samples) in [("frames to be fitted", &self.train), ("frames to be watched", &self.validation)] {
                let found = samples.iter().filter(|sample| has(&sample.frame)).count();
                if weight > 0.0 && found == 0 {
                    return Err(TrainError::Data {
                        what: set.to_owned(),
                        expected: format!("some with {what}, or a weight of 0 for them in the loss"),
                        found: "none".to_owned(),
                    });
                }
                if weight > 0.0 && found < samples.len() {
                    let (all, missing) = (samples.len(), samples.len() - found);
                    self.warnings.push(format!("warning: {missing} of {all} {set} have no {what}"));
                }
            }
            let unread = self.train.iter().filter(|sample| has(&sample.frame)).count();
            if weight == 0.0 && unread > 0 {
                self.warnings.push(format!(
                    "warning: {unread} frames have {what}, which are not fitted: their weight in the loss is 0"
                ));
            }
        }
        self.warnings.extend(duplicates(&sets));
        Ok(())
    }
}

/// Draws frames to watch; the rest keeps its order.
fn draw(config: &TrainConfig, all: Vec<Sample>) -> Result<(Vec<Sample>, Vec<Sample>), TrainError> {
    let wanted = config.data.validation_frames.unwrap_or_else(|| all.len().div_ceil(20));
    if wanted == 0 || wanted >= all.len() {
        return Err(TrainError::Data {
            what: "frames to be fitted".to_owned(),
            expected: format!("more than the {wanted} of them that are watched, and at least one that is"),
            found: all.len().to_string(),
        });
    }
    let mut order: Vec<usize> = (0..all.len()).collect();
    order.shuffle(&mut ChaCha8Rng::seed_from_u64(config.run.seed));
    let mut watched = vec![false; all.len()];
    order[..wanted].iter().for_each(|frame| watched[*frame] = true);
    let (validation, train): (Vec<_>, Vec<_>) = all.into_iter().zip(watched).partition(|(_, watched)| *watched);
    let samples = |part: Vec<(Sample, bool)>| part.into_iter().map(|(sample, _)| sample).collect();
    Ok((samples(train), samples(validation)))
}

/// What is said of frames that are in two sets.
fn duplicates(sets: &[(&str, &Vec<Sample>); 3]) -> Vec<String> {
    let mut warnings = Vec::new();
    let mut seen = Duplicates::default();
    for (set, (what, samples)) in sets.iter().enumerate() {
        let elsewhere = |(at, sample): (usize, &Sample)| {
            let (other, first) = seen.look(set, at, &sample.frame.structure)?;
            (other != set).then(|| (place(sample), sets[other].0, place(&sets[other].1[first])))
        };
        let found: Vec<_> = samples.iter().enumerate().filter_map(elsewhere).collect();
        if let Some((sample, other, first)) = found.first() {
            let n = found.len();
            warnings.push(format!(
                "warning: {n} frames that are {what} are in another set too, the first: {sample} is {first}, which is {other}"
            ));
        }
    }
    warnings
}

fn place(sample: &Sample) -> String {
    format!("{}: frame {}", sample.path.display(), sample.frame.frame)
}

/// Energies of isolated atoms by atomic number, eV, from a file of single atoms.
///
/// # Errors
/// [`TrainError`]: a frame of more atoms, an element that is missing.
pub fn isolated(path: &Path, options: &LabelOptions, elements: &[u8]) -> Result<Vec<f64>, TrainError> {
    let mut options = options.clone();
    options.required.energy = true;
    let (frames, _) = read_labelled(path, &options)?;
    let mut energies = [None; u8::MAX as usize + 1];
    for frame in frames {
        let refused = |reason: String| TrainError::Frame { path: path.to_owned(), frame: frame.frame, reason };
        let [z] = frame.structure.species[..] else {
            return Err(refused(format!("expected one atom, found {}", frame.structure.n_atoms())));
        };
        energies[usize::from(z)] = frame.energy;
    }
    let rows = elements.iter().max().map_or(0, |z| usize::from(*z) + 1);
    let mut atomref = vec![0.0; rows];
    for z in elements {
        atomref[usize::from(*z)] = energies[usize::from(*z)].ok_or_else(|| TrainError::Data {
            what: path.display().to_string(),
            expected: format!("an atom of every element of the frames to be fitted, {} among them", symbols([*z])),
            found: "none".to_owned(),
        })?;
    }
    Ok(atomref)
}
