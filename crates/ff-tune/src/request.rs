//! What a search is asked for.

use std::path::PathBuf;
use std::time::Duration;

use ff_spec::{Dtype, LaunchConfig, Op, Problem};
use ff_tables::Versions;
use serde::{Deserialize, Serialize};

use crate::measure::Policy;
use crate::shard::Shard;
use crate::space::Spaces;
use crate::strategy::StrategyKind;

/// One variant on one problem in one dtype.
pub struct Task<'a, O: Op> {
    /// The variant.
    pub variant: O::Variant,
    /// Hash of its kernel source, as rendered.
    pub kernel_hash: String,
    /// Element type.
    pub dtype: Dtype,
    /// Name of the problem.
    pub problem: String,
    /// Makes the tensors. They are made when the task begins and dropped when it ends: large problems need not all be in
    /// memory at once.
    pub inputs: Box<dyn Fn() -> O::Inputs + 'a>,
}

/// When a search ends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Budget {
    /// When every configuration has been tried.
    Exhaustive,
    /// After this many configurations of each task, the default among them.
    Evaluations(usize),
    /// After this time, shared evenly among the tasks that are left. The default is always measured.
    Time(Duration),
}

/// What to tune and where to put it.
pub struct Request<'a, O: Op> {
    /// The spaces of the op.
    pub spaces: &'a Spaces,
    /// In the order in which they are done.
    pub tasks: Vec<Task<'a, O>>,
    /// When to end.
    pub budget: Budget,
    /// How to measure.
    pub policy: Policy,
    /// In which order configurations are tried; `None` for all of them in a random one, until the budget ends.
    pub strategy: Option<StrategyKind>,
    /// An estimated cost of a configuration, in any unit.
    pub estimate: Option<&'a EstimateFn<'a, O>>,
    /// The share of the space that is tried at all, by the estimate; 1 for all of it.
    pub keep: f64,
    /// The share of every space that is tried; what tables hold besides is not.
    pub shard: Option<Shard>,
    /// Seed of the order in which configurations are tried.
    pub seed: u64,
    /// Whether what stands in the records under the same identity is taken from there.
    pub resume: bool,
    /// The folder that holds `<device-slug>/<op>.json`.
    pub tables: PathBuf,
    /// For the table.
    pub versions: Versions,
    /// For the table.
    pub template_hash: String,
    /// For the records: what compiles the kernels.
    pub compiler: String,
}

/// A measured composition of separate operations that computes the same.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Baseline {
    /// Its samples, ns.
    pub samples_ns: Vec<u64>,
    /// Its error against the oracle. A ratio to a wrong result is not stated.
    pub rel_error: f64,
}

/// Times the unfused composition on the same runtime; `None` where there is none, an error where it cannot be had.
pub type BaselineFn<'a, O> =
    dyn Fn(&<O as Op>::Variant, Dtype, &<O as Op>::Inputs) -> Result<Option<Baseline>, String> + 'a;

/// Estimates the cost of a configuration on a problem, in any unit; `None` where nothing is known of it. The tuner knows no
/// kernels: who asks for a search knows what a configuration may cost.
pub type EstimateFn<'a, O> = dyn Fn(&<O as Op>::Variant, Dtype, &Problem, &LaunchConfig) -> Option<f64> + 'a;
