//! Records of the tuner in the formats of other tools.
//!
//! | format | is | holds |
//! | --- | --- | --- |
//! | [`kernel_tuner`] | a cache file of Kernel Tuner, for its simulation mode and its dashboard | one search |
//! | [`t4`] | results in the auto-tuning community's T4 schema 1.0.0 | one search |
//! | [`csv`], [`parquet`] | a tidy table, one row per sample | any records |
//! | [`table`] | the same two of any columns | what other crates tabulate |
//! | [`bencher`] | Bencher metric format | the best of every search |
//!
//! A search is one kernel on one problem, device and compiler ([`Recorded`]); the result of a configuration is its final, else
//! its screening, and its time the median of the samples. What failed stays a failure and never becomes a time. Nothing here
//! touches files.

mod community;
mod metrics;
pub mod table;
mod tidy;

pub use community::{kernel_tuner, t4};
pub use ff_tune::Recorded;
pub use metrics::bencher;
pub use tidy::{csv, parquet};

/// Records that a format has no place for.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// Nothing to write.
    #[error("no records, expected at least one")]
    Empty,
    /// Two configurations with other parameters: a cache has one list of them.
    #[error("{search}: configurations with {reason}")]
    Parameters {
        /// Variant, dtype and problem.
        search: String,
        /// What was expected and found.
        reason: String,
    },
    /// Nothing passed, so there is nothing to follow.
    #[error("no configuration of these records passed, expected at least one")]
    NothingPassed,
    /// A time that is no time.
    #[error("{unix_time} seconds since 1970 are no date")]
    Date {
        /// What the record says.
        unix_time: u64,
    },
    /// The writer of the format refuses.
    #[error("cannot write {format}: {reason}")]
    Writer {
        /// The format.
        format: &'static str,
        /// Why not.
        reason: String,
    },
}

#[cfg(test)]
mod testing;
