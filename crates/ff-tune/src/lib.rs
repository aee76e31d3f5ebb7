//! The tuner: which configurations there are, what they cost, whether they are right, and what is kept of it.
//!
//! [`space`] enumerates configurations, [`measure`] times them fairly, [`records`] keeps every sample and verdict, and
//! [`tune`] puts them together: gate, time, gate again, record, rewrite the table. Kernels are seen through
//! [`ff_spec::Runtime`] and [`ff_spec::Launch`] alone, and the numerical gate through [`Verifier`], so that the whole
//! search runs in tests without a device. This crate never prints; [`Event`]s say what happens.

mod child;
#[cfg(test)]
mod child_tests;
mod choice;
pub mod compare;
mod constraint;
mod drift;
mod fit;
mod gate;
pub mod lines;
pub mod measure;
pub mod memory;
mod op;
mod ops;
mod outcome;
mod points;
mod product;
mod recorded;
pub mod records;
pub mod regression;
pub mod replay;
mod request;
mod shard;
pub mod space;
pub mod strategy;
#[cfg(test)]
mod testing;
mod times;
mod trials;
mod tune;
#[cfg(test)]
mod tune_tests;
mod verify;
mod workbench;
mod worker;

pub use child::Child;
pub use constraint::Expression;
pub use gate::GateVerifier;
pub use measure::{Policy, Timing};
pub use op::{Rows, Tuned};
pub use outcome::{Event, Note, NoteKind, Outcome, ProblemOutcome, Scored, TuneError};
pub use points::Points;
pub use recorded::Recorded;
pub use records::{Record, RecordError, RecordWriter, Stage, Verdict};
pub use request::{Baseline, BaselineFn, Budget, EstimateFn, Request, Task};
pub use shard::{Overlap, Shard, merge};
pub use space::{Explanation, Part, Space, SpaceError, Spaces, Target};
pub use strategy::{Strategy, StrategyKind};
pub use times::Times;
pub use tune::tune;
pub use verify::{Verifier, guarded};
pub use workbench::{Failure, InProcess, Lost, Opened, Round, Timed, Workbench};
pub use worker::{Watch, serve};
