//! What the gate has to know of an op, and what it says of a launch.

use std::fmt;

use ff_spec::{Dtype, LaunchError, Op, Problem};

use crate::case::{Case, CaseSet};

/// What the gate has to know of an op: its cases, its oracle, and how outputs are compared.
pub trait Gated: Op + Sized {
    /// The sizes and the kind of randomness of a case.
    type Spec: Clone + fmt::Debug + PartialEq;
    /// What outputs are compared with.
    type Oracle: fmt::Debug;
    /// Why there is no oracle for a case.
    type Error: std::error::Error;

    /// The cases of a variant.
    fn cases(variant: &Self::Variant, set: CaseSet) -> Vec<Case<Self::Spec>>;

    /// One variant for all those that the oracle cannot tell from this one.
    fn representative(variant: &Self::Variant) -> Self::Variant;

    /// The inputs of a case, rounded to `dtype`, and what the oracle says of them.
    ///
    /// # Errors
    /// [`Gated::Error`] for a variant that the oracle does not know.
    fn evaluate(
        case: &Case<Self::Spec>,
        variant: &Self::Variant,
        dtype: Dtype,
        seed: u64,
    ) -> Result<Evaluated<Self>, Self::Error>;

    /// About how much memory an evaluation takes.
    fn bytes(evaluated: &Evaluated<Self>) -> usize;

    /// The sizes that configurations are chosen by.
    fn problem(name: &str, evaluated: &Evaluated<Self>) -> Problem;

    /// Whether outputs of zeros, constants and nothing would fail, unless they are right.
    ///
    /// # Errors
    /// What would pass.
    fn discriminates(oracle: &Self::Oracle, dtype: Dtype) -> Result<(), String>;

    /// An element that `poison` should have filled and has not.
    fn survivor(outputs: &Self::Outputs) -> Option<String>;

    /// Compares outputs with the oracle, to (‖out − ref‖/‖ref‖, max |out − ref|).
    ///
    /// # Errors
    /// [`Failure::Wrong`] with the reason.
    fn compare(outputs: &Self::Outputs, oracle: &Self::Oracle, dtype: Dtype) -> Result<(f64, f64), Failure>;

    /// How the outputs of two runs differ although the variant promises the same bits.
    fn broken_promise(variant: &Self::Variant, first: &Self::Outputs, second: &Self::Outputs) -> Option<String>;
}

/// Inputs with what the oracle says of them.
pub struct Evaluated<O: Gated> {
    /// Rounded to the dtype.
    pub inputs: O::Inputs,
    /// Exact for those inputs.
    pub oracle: O::Oracle,
}

impl<O: Gated> fmt::Debug for Evaluated<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Evaluated").field("inputs", &self.inputs).field("oracle", &self.oracle).finish()
    }
}

/// What the gate says of one launch.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// Right, in all the ways that are checked.
    Passed {
        /// ‖out − ref‖/‖ref‖, the largest over tensors and runs.
        rel_error: f64,
        /// max |out − ref|.
        max_abs_error: f64,
    },
    /// No pass.
    Failed(Failure),
}

/// Why a launch is no pass. Whoever gates kernels fails with this; what comes of it in a file or on a screen is for them to say.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Failure {
    /// Wrong in some way.
    #[error("{reason}")]
    Wrong {
        /// Which.
        reason: String,
        /// (‖out − ref‖/‖ref‖, max |out − ref|), where outputs could be compared.
        errors: Option<(f64, f64)>,
    },
    /// It could not be prepared, run or read.
    #[error(transparent)]
    Fault(#[from] LaunchError),
}

impl Failure {
    /// Wrong, before outputs could be compared.
    pub fn wrong(reason: impl Into<String>) -> Self {
        Self::Wrong { reason: reason.into(), errors: None }
    }
}

impl Verdict {
    /// Whether it is a pass.
    pub fn passed(&self) -> bool {
        matches!(self, Verdict::Passed { .. })
    }

    /// `passed`, `failed`; `unsupported` where the device lacks a type or an atomic that the variant needs; `skipped` where the
    /// launch configuration breaks a constraint.
    pub fn name(&self) -> &'static str {
        match self {
            Verdict::Passed { .. } => "passed",
            Verdict::Failed(Failure::Fault(LaunchError::Unsupported(_))) => "unsupported",
            Verdict::Failed(Failure::Fault(LaunchError::Constraint(_))) => "skipped",
            Verdict::Failed(_) => "failed",
        }
    }

    /// Why it is no pass.
    pub fn reason(&self) -> Option<String> {
        match self {
            Verdict::Passed { .. } => None,
            // Its name says the rest.
            Verdict::Failed(Failure::Fault(LaunchError::Unsupported(lacking))) => Some(lacking.clone()),
            Verdict::Failed(failure) => Some(failure.to_string()),
        }
    }

    /// (‖out − ref‖/‖ref‖, max |out − ref|), where outputs were compared and are finite.
    pub fn errors(&self) -> (Option<f64>, Option<f64>) {
        let errors = match self {
            Verdict::Passed { rel_error, max_abs_error } => Some((*rel_error, *max_abs_error)),
            Verdict::Failed(Failure::Wrong { errors, .. }) => *errors,
            Verdict::Failed(Failure::Fault(_)) => None,
        };
        let (rel, abs) = errors.unzip();
        // JSON has no NaN, and a missing error is one that could not be computed.
        (rel.filter(|x| x.is_finite()), abs.filter(|x| x.is_finite()))
    }

    /// As a result.
    ///
    /// # Errors
    /// [`Failure`] of what is no pass.
    pub fn into_result(self) -> Result<(f64, f64), Failure> {
        match self {
            Verdict::Passed { rel_error, max_abs_error } => Ok((rel_error, max_abs_error)),
            Verdict::Failed(failure) => Err(failure),
        }
    }
}

impl From<Failure> for Verdict {
    fn from(failure: Failure) -> Self {
        Verdict::Failed(failure)
    }
}

impl From<LaunchError> for Verdict {
    fn from(error: LaunchError) -> Self {
        Verdict::Failed(error.into())
    }
}
