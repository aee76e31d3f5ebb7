//! A model as a teacher.

use std::path::Path;

use ff_model::host::Times;
use ff_model::{Model, Prediction, Wanted, batch};
use ff_structure::{Frame, Labels, Structure};
use ff_train::{Teacher, TeacherError};
use sha2::{Digest, Sha256};

use super::args::DistillArgs;
use crate::failure::{Failure, Result};
use crate::models::{AnyModel, PackArgs, PredictError, Untrained, announce, load};
use crate::screen::Screen;

/// A model on a runtime.
pub struct ModelTeacher<'a> {
    args: &'a DistillArgs,
    screen: &'a Screen,
    model: Model,
    evaluator: AnyModel,
    /// The file's name and what its bytes hash to.
    name: String,
    most: usize,
    untrained: Untrained,
    seen: usize,
}

impl<'a> ModelTeacher<'a> {
    /// Loads it, and says where it runs.
    ///
    /// # Errors
    /// What is wrong with the file, a runtime that cannot be had.
    pub fn open(args: &'a DistillArgs, screen: &'a Screen) -> Result<Self> {
        let path = Path::new(&args.teacher);
        if !path.is_file() {
            return Err(Failure::input(TeacherError::Path(args.teacher.clone())));
        }
        let model = load(path)?;
        let host = AnyModel::new(&model, args.dtype, PackArgs::EXACT)?;
        let bytes = std::fs::read(path).map_err(|e| Failure::input(format!("cannot read {}: {e}", path.display())))?;
        let hash: String = Sha256::digest(bytes).iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        let file = path.file_name().unwrap_or_default().to_string_lossy();
        let name = format!("{file} {hash} {}", args.dtype);
        let most = match args.batch_atoms {
            Some(atoms) => atoms as usize,
            None => batch::atoms(model.config(), args.dtype),
        };
        let evaluator = host.on(announce(args.runtime, screen)?.runtime, &model, args.dtype)?;
        Ok(Self { args, screen, model, evaluator, name, most, untrained: Untrained::default(), seen: 0 })
    }

    fn predict(&self, structures: &[Structure]) -> std::result::Result<Vec<Prediction>, PredictError> {
        self.evaluator.predict(structures, Wanted::FORCES, &Times::off())
    }
}

impl Teacher for ModelTeacher<'_> {
    fn name(&self) -> &str {
        &self.name
    }

    fn atoms_of_a_call(&self) -> usize {
        self.most
    }

    fn label(
        &mut self,
        frames: &[Frame],
    ) -> std::result::Result<Vec<std::result::Result<Labels, String>>, TeacherError> {
        let structures: Vec<Structure> = frames.iter().map(|frame| frame.structure.clone()).collect();
        for structure in &structures {
            self.seen += 1;
            let path = Path::new(&structure.name);
            self.untrained.look(self.model.config(), path, self.seen, structure, self.screen);
        }
        let mut labels = Vec::with_capacity(frames.len());
        while labels.len() < structures.len() {
            let left = &structures[labels.len()..];
            // Those before one that cannot be computed are a call of their own.
            let (good, refused) = match self.predict(left) {
                Ok(predictions) => (predictions, None),
                Err(PredictError::Structure(error)) => {
                    let before = self.predict(&left[..error.index()]);
                    (before.map_err(|e| self.fault(&e))?, Some(error.reason()))
                }
                Err(error) => return Err(self.fault(&error)),
            };
            labels.extend(good.into_iter().map(|prediction| {
                let Prediction { energy, forces, stress, .. } = prediction;
                let finite = energy.is_finite() && forces.iter().flatten().all(|f| f.is_finite());
                if finite {
                    Ok(Labels { energy: Some(energy), energies: None, forces: Some(forces), stress })
                } else {
                    Err("its energy or forces are not finite".to_owned())
                }
            }));
            labels.extend(refused.map(Err));
        }
        Ok(labels)
    }
}

impl ModelTeacher<'_> {
    fn fault(&self, error: &PredictError) -> TeacherError {
        let reason = match error {
            PredictError::Structure(error) => error.to_string(),
            PredictError::Device(message) => message.clone(),
        };
        TeacherError::Fault { teacher: self.args.teacher.clone(), reason }
    }
}
