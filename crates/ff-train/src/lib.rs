//! Models fitted to labelled frames, or to a teacher, and validated against them.

pub mod distill;
pub mod errors;
pub mod labels;
pub mod teacher;
pub mod validate;

pub use distill::{DistillError, LabelCounts, LabelFile, Skipped};
pub use errors::{ErrorSums, Errors};
pub use labels::{Keys, Label, LabelError, LabelOptions, LabelReader, Labelled, Required, Units, read_labelled};
pub use teacher::{AseTeacher, Teacher, TeacherError};
pub use validate::{Limits, Validation};
