//! Where a training goes on after Ctrl-C, or after it was killed.

use std::io;
use std::path::Path;

use ff_model::file::Tensor;
use ff_model::{FileError, ModelFile};
use serde_json::{Map, Value};

use crate::error::TrainError;
use crate::optimizer::Weights;
use crate::run::{Progress, State};

const FORMAT: &str = "forgefield-checkpoint";
const SCHEMA: &str = "2";

/// Writes a state in one piece: whatever happens there is a whole one.
///
/// # Errors
/// [`TrainError::ModelFile`].
pub fn write(path: &Path, state: &State, identity: &Map<String, Value>) -> Result<(), TrainError> {
    let mut file = ModelFile::default();
    file.set("format", FORMAT);
    file.set("schema", SCHEMA);
    file.set("identity", Value::Object(identity.clone()).to_string());
    file.set("progress", serde_json::to_string(&state.progress).unwrap_or_default());
    let Weights { values, first, second, average } = &state.weights;
    for (name, values) in NAMES.into_iter().zip([values, first, second, average, &state.best]) {
        file.tensors.push(Tensor::of_f32(name, &[values.len()], values));
    }
    Ok(file.write(path)?)
}

const NAMES: [&str; 5] = ["weights", "first_moments", "second_moments", "average", "best"];

/// Reads a state of a run with this identity and so many weights; `None` where there is no file.
///
/// # Errors
/// [`TrainError::Checkpoint`]: a file that is none, or of a run that differs, by the name of what does.
pub fn read(path: &Path, identity: &Map<String, Value>, n_weights: usize) -> Result<Option<State>, TrainError> {
    let refused = |reason: String| TrainError::Checkpoint { path: path.to_owned(), reason };
    let file = match ModelFile::read(path) {
        Err(FileError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(FileError::Format { found, .. }) => return Err(refused(format!("expected a checkpoint, found {found}"))),
        read => read?,
    };
    if let Some((key, expected)) = [("format", FORMAT), ("schema", SCHEMA)].iter().find(|(k, v)| file.get(k) != Some(v))
    {
        let found = file.get(key).unwrap_or("none");
        return Err(refused(format!("expected a checkpoint whose {key} is `{expected}`, found `{found}`")));
    }
    let json = |key: &str| serde_json::from_str::<Value>(file.get(key).unwrap_or_default()).unwrap_or_default();
    let known = json("identity");
    let (known, none) = (known.as_object(), Map::new());
    let known = known.unwrap_or(&none);
    for key in identity.keys().chain(known.keys()) {
        let (expected, found) = (identity.get(key), known.get(key));
        if expected != found {
            let shown = |value: Option<&Value>| value.map_or("none".to_owned(), Value::to_string);
            let (expected, found) = (shown(expected), shown(found));
            return Err(refused(format!("it is of a run with another `{key}`: expected {expected}, found {found}")));
        }
    }
    let progress: Progress = serde_json::from_value(json("progress"))
        .map_err(|error| refused(format!("its progress cannot be read: {error}")))?;
    let tensor = |name: &str| -> Result<Vec<f32>, TrainError> {
        let found = file.tensor(name).map(Tensor::values).unwrap_or_default();
        if found.len() != n_weights {
            let n = found.len();
            return Err(refused(format!("expected {n_weights} numbers in `{name}`, found {n}")));
        }
        Ok(found.into_iter().map(|x| x as f32).collect())
    };
    let [values, first, second, average, best] = NAMES.map(tensor);
    let weights = Weights { values: values?, first: first?, second: second?, average: average? };
    Ok(Some(State { weights, best: best?, progress }))
}
