//! Models fitted to labelled frames, or to a teacher, and validated against them.

mod batches;
pub mod card;
mod checkpoint;
pub mod config;
pub mod direct;
pub mod distill;
mod error;
pub mod errors;
pub mod labels;
pub mod loss;
mod matching;
mod offsets;
mod optimizer;
mod parallel;
pub mod run;
mod schedule;
pub mod split;
mod start;
pub mod teacher;
#[cfg(test)]
mod tests;
pub mod validate;

pub use config::TrainConfig;
pub use distill::{DistillError, LabelCounts, LabelFile, Skipped};
pub use error::TrainError;
pub use errors::{ErrorSums, Errors};
pub use labels::{Keys, Label, LabelError, LabelOptions, LabelReader, Labelled, Required, Units, read_labelled};
pub use run::{Ended, Files, Row, Training, Watch};
pub use split::{Sample, Split};
pub use teacher::{AseTeacher, Teacher, TeacherError};
pub use validate::{Limits, Validation};
