use std::collections::BTreeSet;

use ff_spec::{Dtype, LaunchConfig};
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
    /// It does not say where.
    #[error("the device is empty, expected the slug of the one it was gated on")]
    NoDevice,
}

/// What a pass is of: one configuration of one kernel on one device, in one derivative order and element type.
#[derive(Clone, Copy, Debug)]
pub struct PassOf<'a> {
    /// Slug of the device.
    pub device: &'a str,
    /// Hash of the kernel.
    pub kernel_hash: &'a str,
    /// The configuration.
    pub config: &'a LaunchConfig,
    /// Element type.
    pub dtype: Dtype,
    /// Derivative order.
    pub order: u8,
}

/// A recorded numerical pass: the right to stand in a table.
///
/// It names what it is of ([`PassOf`]), so that it is worth nothing beside another configuration or on another device. It is made
/// by [`Pass::record`] or read from a file; both derive the verdict from the measured errors again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "RawPass", into = "RawPass")]
pub struct Pass {
    device: String,
    kernel_hash: String,
    config: LaunchConfig,
    dtype: Dtype,
    order: u8,
    evidence: Evidence,
    unix_time: u64,
}

impl Pass {
    /// Judges the evidence for what a pass shall be of, and keeps it where it passes.
    ///
    /// `unix_time` is in seconds.
    ///
    /// # Errors
    /// The first thing that keeps this evidence from being a pass.
    pub fn record(of: PassOf<'_>, evidence: Evidence, unix_time: u64) -> Result<Self, PassError> {
        let PassOf { device, kernel_hash, config, dtype, order } = of;
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
        if device.is_empty() {
            return Err(PassError::NoDevice);
        }
        let (device, kernel_hash, config) = (device.to_owned(), kernel_hash.to_owned(), config.clone());
        Ok(Self { device, kernel_hash, config, dtype, order, evidence, unix_time })
    }

    /// The slug of the device that it was checked on.
    pub fn device(&self) -> &str {
        &self.device
    }

    /// The configuration that was checked.
    pub fn config(&self) -> &LaunchConfig {
        &self.config
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

    /// The hash of the kernel that was checked.
    pub fn kernel_hash(&self) -> &str {
        &self.kernel_hash
    }
}

/// [`Pass`] as it is written.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPass {
    device: String,
    kernel_hash: String,
    config: LaunchConfig,
    dtype: Dtype,
    order: u8,
    rel_error: f64,
    max_abs_error: f64,
    cases: u32,
    seeds: Vec<u64>,
    unix_time: u64,
}

impl TryFrom<RawPass> for Pass {
    type Error = PassError;

    fn try_from(raw: RawPass) -> Result<Self, PassError> {
        let RawPass { device, kernel_hash, config, dtype, order, rel_error, max_abs_error, cases, seeds, unix_time } =
            raw;
        let of = PassOf { device: &device, kernel_hash: &kernel_hash, config: &config, dtype, order };
        Pass::record(of, Evidence { rel_error, max_abs_error, cases, seeds }, unix_time)
    }
}

impl From<Pass> for RawPass {
    fn from(pass: Pass) -> Self {
        let Pass { device, kernel_hash, config, dtype, order, evidence, unix_time } = pass;
        let Evidence { rel_error, max_abs_error, cases, seeds } = evidence;
        Self { device, kernel_hash, config, dtype, order, rel_error, max_abs_error, cases, seeds, unix_time }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn evidence(rel_error: f64) -> Evidence {
        Evidence { rel_error, max_abs_error: 1e-6, cases: 4, seeds: vec![1, 2, 3] }
    }

    fn record(dtype: Dtype, order: u8, evidence: Evidence) -> Result<Pass, PassError> {
        let config = LaunchConfig::from([("a", 1)]);
        Pass::record(PassOf { device: "gpu", kernel_hash: "k", config: &config, dtype, order }, evidence, 7)
    }

    #[test]
    fn the_verdict_is_derived_from_the_errors() {
        assert!(record(Dtype::F32, 0, evidence(1e-6)).is_ok());
        assert!(matches!(record(Dtype::F64, 0, evidence(1e-6)), Err(PassError::Tolerance { .. })));
        for bad in [f64::NAN, f64::INFINITY, -1.0, 1.1e-5] {
            assert!(matches!(record(Dtype::F32, 0, evidence(bad)), Err(PassError::Tolerance { .. })));
        }
        let bad = Evidence { max_abs_error: f64::NAN, ..evidence(0.0) };
        assert!(matches!(record(Dtype::F32, 0, bad), Err(PassError::AbsError { .. })));
        let bad = Evidence { cases: 0, ..evidence(0.0) };
        assert_eq!(record(Dtype::F32, 0, bad), Err(PassError::NoCases));
        let bad = Evidence { seeds: vec![1, 1, 1], ..evidence(0.0) };
        assert_eq!(record(Dtype::F32, 0, bad), Err(PassError::Seeds { found: 1 }));
        let config = LaunchConfig::default();
        let of = PassOf { device: "gpu", kernel_hash: "", config: &config, dtype: Dtype::F32, order: 0 };
        assert_eq!(Pass::record(of, evidence(0.0), 0), Err(PassError::NoKernel));
        let of = PassOf { device: "", kernel_hash: "k", ..of };
        assert_eq!(Pass::record(of, evidence(0.0), 0), Err(PassError::NoDevice));
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
            let found = record(dtype, order, evidence(error));
            assert_eq!(found.is_ok(), passes, "order {order} in {dtype}: {found:?}");
        }
    }

    #[test]
    fn a_file_cannot_claim_a_pass() {
        let pass = record(Dtype::F32, 0, evidence(1e-6)).expect("within tolerance");
        let text = serde_json::to_string(&pass).expect("plain data");
        assert_eq!(serde_json::from_str::<Pass>(&text).expect("round trip"), pass);
        let edited = text.replace("1e-6,\"max", "0.5,\"max");
        assert_ne!(edited, text);
        assert!(serde_json::from_str::<Pass>(&edited).expect_err("too large").to_string().contains("relative error"));
        for part in ["\"device\":\"gpu\",", "\"config\":{\"a\":1},", "\"order\":0,"] {
            let less = text.replace(part, "");
            assert_ne!(less, text);
            assert!(serde_json::from_str::<Pass>(&less).is_err(), "a pass without {part}");
        }
    }

    #[test]
    fn joined_evidence_keeps_the_worst() {
        let both = evidence(1e-6).and(&Evidence { seeds: vec![3, 4], ..evidence(f64::NAN) });
        assert!(both.rel_error.is_nan());
        assert!(evidence(f64::NAN).and(&evidence(0.0)).rel_error.is_nan());
        assert_eq!((both.cases, both.seeds), (8, vec![1, 2, 3, 4]));
    }
}
