//! Models fitted to labelled frames, or to a teacher, and validated against them.

pub mod errors;
pub mod labels;

pub use errors::{ErrorSums, Errors};
pub use labels::{Keys, Label, LabelError, LabelOptions, LabelReader, Labelled, Required, Units, read_labelled};
