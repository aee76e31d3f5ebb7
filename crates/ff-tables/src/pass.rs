use std::collections::BTreeSet;

use ff_spec::Dtype;
use serde::{Deserialize, Serialize};

/// Seeds that a gate must have used at least (`ops.md`).
const MIN_SEEDS: usize = 3;

/// The largest relative error ‖out − ref‖/‖ref‖ that the gate lets through (`ops.md`), by derivative order.
pub const fn gate_tolerance(dtype: Dtype, order: u8) -> f64 {
    match (dtype, order) {
        (Dtype::F32, 0 | 1) => 1e-5,
        (Dtype::F32, _) => 1e-4,
        (Dtype::F64, 0) => 1e-12,
        (Dtype::F64, 1) => 1e-11,
        (Dtype::F64, _) => 1e-10,
    }
}

/// What a numerical gate measured, whatever came of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evidence {
    /// Largest ‖out − ref‖/‖ref‖ over the cases, before and after timing.
    #[serde(with = "nan_as_null")]
    pub rel_error: f64,
    /// Largest |out − ref| over all elements.
    #[serde(with = "nan_as_null")]
    pub max_abs_error: f64,
    /// Cases that were executed.
    pub cases: u32,
    /// The seeds their inputs came from.
    pub seeds: Vec<u64>,
}

/// JSON has no NaN, and a failed gate may well have measured one.
mod nan_as_null {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
        value.is_finite().then_some(*value).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
        Ok(Option::deserialize(deserializer)?.unwrap_or(f64::NAN))
    }
}

impl Evidence {
    /// Both together: the larger errors, all cases, all seeds.
    pub fn and(&self, other: &Evidence) -> Evidence {
        // `f64::max` would drop a NaN, and a NaN is the worst error there is.
        let worse = |a: f64, b: f64| if a.is_nan() || a > b { a } else { b };
        Evidence {
            rel_error: worse(self.rel_error, other.rel_error),
            max_abs_error: worse(self.max_abs_error, other.max_abs_error),
            cases: self.cases.saturating_add(other.cases),
            seeds: self.seeds.iter().chain(&other.seeds).copied().collect::<BTreeSet<_>>().into_iter().collect(),
        }
    }
}

/// Evidence that is no pass.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum PassError {
    /// The error is too large, or not a number.
    #[error("relative error {found:e} of order {order} in {dtype}, expected at most {expected:e}")]
    Tolerance {
        /// Element type.
        dtype: Dtype,
        /// Derivative order.
        order: u8,
        /// Measured.
        found: f64,
        /// Allowed.
        expected: f64,
    },
    /// The elementwise error is not a finite number.
    #[error("maximal absolute error {found}, expected a finite number that is not negative")]
    AbsError {
        /// Measured.
        found: f64,
    },
    /// Nothing was executed.
    #[error("no case was executed, expected at least one")]
    NoCases,
    /// Too few seeds.
    #[error("{found} different seeds, expected at least {MIN_SEEDS}")]
    Seeds {
        /// How many.
        found: usize,
    },
    /// It does not say which kernel passed.
    #[error("the kernel hash is empty, expected the hash of the source that was gated")]
    NoKernel,
}

/// A recorded numerical pass: the right to stand in a table.
///
/// It is made by [`Pass::record`] or read from a file; both derive the verdict from the measured errors again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "RawPass", into = "RawPass")]
pub struct Pass {
    dtype: Dtype,
    order: u8,
    evidence: Evidence,
    unix_time: u64,
    kernel_hash: String,
}

impl Pass {
    /// Judges the evidence for a derivative order of one kernel source and keeps it where it passes.
    ///
    /// `unix_time` is in seconds.
    ///
    /// # Errors
    /// The first thing that keeps this evidence from being a pass.
    pub fn record(
        dtype: Dtype,
        order: u8,
        evidence: Evidence,
        kernel_hash: &str,
        unix_time: u64,
    ) -> Result<Self, PassError> {
        let expected = gate_tolerance(dtype, order);
        // Written so that a NaN fails.
        if !(0.0..=expected).contains(&evidence.rel_error) {
            return Err(PassError::Tolerance { dtype, order, found: evidence.rel_error, expected });
        }
        if !(evidence.max_abs_error.is_finite() && evidence.max_abs_error >= 0.0) {
            return Err(PassError::AbsError { found: evidence.max_abs_error });
        }
        if evidence.cases == 0 {
            return Err(PassError::NoCases);
        }
        let seeds = evidence.seeds.iter().collect::<BTreeSet<_>>().len();
        if seeds < MIN_SEEDS {
            return Err(PassError::Seeds { found: seeds });
        }
        if kernel_hash.is_empty() {
            return Err(PassError::NoKernel);
        }
        Ok(Self { dtype, order, evidence, unix_time, kernel_hash: kernel_hash.to_owned() })
    }

    /// The element type that was checked.
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// The derivative order that was checked.
    pub fn order(&self) -> u8 {
        self.order
    }

    /// What the gate measured.
    pub fn evidence(&self) -> &Evidence {
        &self.evidence
    }

    /// When, in seconds since 1970.
    pub fn unix_time(&self) -> u64 {
        self.unix_time
    }

    /// The hash of the kernel source that was checked.
    pub fn kernel_hash(&self) -> &str {
        &self.kernel_hash
    }
}

/// [`Pass`] as it is written.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPass {
    dtype: Dtype,
    /// Absent where there was no other.
    #[serde(default)]
    order: u8,
    rel_error: f64,
    max_abs_error: f64,
    cases: u32,
    seeds: Vec<u64>,
    unix_time: u64,
    kernel_hash: String,
}

impl TryFrom<RawPass> for Pass {
    type Error = PassError;

    fn try_from(raw: RawPass) -> Result<Self, PassError> {
        let RawPass { dtype, order, rel_error, max_abs_error, cases, seeds, unix_time, kernel_hash } = raw;
        let evidence = Evidence { rel_error, max_abs_error, cases, seeds };
        Pass::record(dtype, order, evidence, &kernel_hash, unix_time)
    }
}

impl From<Pass> for RawPass {
    fn from(pass: Pass) -> Self {
        let Evidence { rel_error, max_abs_error, cases, seeds } = pass.evidence;
        let Pass { dtype, order, unix_time, kernel_hash, .. } = pass;
        Self { dtype, order, rel_error, max_abs_error, cases, seeds, unix_time, kernel_hash }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn evidence(rel_error: f64) -> Evidence {
        Evidence { rel_error, max_abs_error: 1e-6, cases: 4, seeds: vec![1, 2, 3] }
    }

    #[test]
    fn the_verdict_is_derived_from_the_errors() {
        assert!(Pass::record(Dtype::F32, 0, evidence(1e-6), "k", 0).is_ok());
        assert!(matches!(Pass::record(Dtype::F64, 0, evidence(1e-6), "k", 0), Err(PassError::Tolerance { .. })));
        for bad in [f64::NAN, f64::INFINITY, -1.0, 1.1e-5] {
            assert!(matches!(Pass::record(Dtype::F32, 0, evidence(bad), "k", 0), Err(PassError::Tolerance { .. })));
        }
        let bad = Evidence { max_abs_error: f64::NAN, ..evidence(0.0) };
        assert!(matches!(Pass::record(Dtype::F32, 0, bad, "k", 0), Err(PassError::AbsError { .. })));
        let bad = Evidence { cases: 0, ..evidence(0.0) };
        assert_eq!(Pass::record(Dtype::F32, 0, bad, "k", 0), Err(PassError::NoCases));
        let bad = Evidence { seeds: vec![1, 1, 1], ..evidence(0.0) };
        assert_eq!(Pass::record(Dtype::F32, 0, bad, "k", 0), Err(PassError::Seeds { found: 1 }));
        assert_eq!(Pass::record(Dtype::F32, 0, evidence(0.0), "", 0), Err(PassError::NoKernel));
    }

    #[test]
    fn every_order_has_its_tolerance() {
        for (dtype, order, error, passes) in [
            (Dtype::F64, 0, 5e-12, false),
            (Dtype::F64, 1, 5e-12, true),
            (Dtype::F64, 1, 5e-11, false),
            (Dtype::F64, 2, 5e-11, true),
            (Dtype::F32, 1, 5e-5, false),
            (Dtype::F32, 2, 5e-5, true),
        ] {
            let found = Pass::record(dtype, order, evidence(error), "k", 0);
            assert_eq!(found.is_ok(), passes, "order {order} in {dtype}: {found:?}");
        }
    }

    #[test]
    fn a_file_cannot_claim_a_pass() {
        let pass = Pass::record(Dtype::F32, 0, evidence(1e-6), "k", 7).expect("within tolerance");
        let text = serde_json::to_string(&pass).expect("plain data");
        assert_eq!(serde_json::from_str::<Pass>(&text).expect("round trip"), pass);
        let edited = text.replace("1e-6,\"max", "0.5,\"max");
        assert_ne!(edited, text);
        assert!(serde_json::from_str::<Pass>(&edited).expect_err("too large").to_string().contains("relative error"));
        // Of a version that knew the forward alone.
        let older = text.replace("\"order\":0,", "");
        assert_ne!(older, text);
        assert_eq!(serde_json::from_str::<Pass>(&older).expect("order 0"), pass);
    }

    #[test]
    fn joined_evidence_keeps_the_worst() {
        let both = evidence(1e-6).and(&Evidence { seeds: vec![3, 4], ..evidence(f64::NAN) });
        assert!(both.rel_error.is_nan());
        assert!(evidence(f64::NAN).and(&evidence(0.0)).rel_error.is_nan());
        assert_eq!((both.cases, both.seeds), (8, vec![1, 2, 3, 4]));
    }
}
