//! Models fitted to labelled frames, or to a teacher, and validated against them.
