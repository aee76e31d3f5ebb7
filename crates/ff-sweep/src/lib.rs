//! Sweeps: a question asked as axes, and everything that was measured to answer it.
//!
//! A [`Description`] (TOML) expands into [`Row`]s; [`run()`] measures them in groups that take turns, gates every row before and
//! after it is timed, and appends [`Measured`] lines to a file that [`Results`] reads; [`notebook`] makes of an experiment a
//! Jupyter notebook. What a row's words mean (ops, structures, runtimes) is known to a [`Bench`] alone, so that the whole
//! sweep runs in tests without a kernel. This crate never prints; [`Event`]s say what happens.

pub mod axes;
mod description;
mod expand;
pub mod notebook;
mod predict;
mod results;
mod row;
mod run;
#[cfg(test)]
mod tests;

pub use description::{Description, DescriptionError, Kind, ReplayOf, Sampling};
pub use expand::Expansion;
pub use predict::{Basis, Prediction, predict};
pub use results::{Measured, RESULT_SCHEMA, ResultWriter, Results, Verdict, columns};
pub use row::{Row, Value};
pub use run::{Bench, Event, Group, Job, Origin, Refused, Stopped, Subject, Timed, groups, remaining, run};
