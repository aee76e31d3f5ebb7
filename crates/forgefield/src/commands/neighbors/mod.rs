//! `neighbors`: the pairs within a cutoff, of every frame of a file.

pub mod args;

pub use crate::ops::neighbors::run;
