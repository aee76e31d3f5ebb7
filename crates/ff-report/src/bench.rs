//! Results of `forgefield bench`, as far as a report shows them.

use ff_spec::{DeviceId, Dtype, LaunchConfig, OPS, Problem, SCHEMA_VERSION, USUAL_OP, family};
use ff_tune::Timing;
use serde::Deserialize;

/// What a bench measured. Fields that a report does not show are not read, so that benches may grow.
#[derive(Clone, Debug, Deserialize)]
pub struct Bench {
    /// The version that it was measured with.
    pub forgefield: String,
    /// Where.
    pub device: DeviceId,
    /// Threads of the host runtime.
    pub threads: u32,
    /// Measured rates: FLOP/s in f32 and in f64, B/s of a copy.
    pub peak: Option<[f64; 3]>,
    pub(crate) rows: Vec<Row>,
}

/// A case.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Row {
    pub case: String,
    pub variant: String,
    pub dtype: Dtype,
    pub problem: Problem,
    pub config: LaunchConfig,
    pub timing: Timing,
    /// What a call cannot do without, where the bench counted it.
    pub floor: Option<Floor>,
    /// Set where FLOPs and bytes of a forward call were counted.
    pub floor_ns: Option<f64>,
}

impl Row {
    /// The op whose variant this is; rows do not say.
    pub(crate) fn op(&self) -> &'static str {
        let knows = |op: &&&str| family(op, &self.variant).is_some();
        OPS.iter().find(knows).copied().unwrap_or(USUAL_OP)
    }
}

#[derive(Clone, Copy, Debug, Deserialize)]
pub(crate) struct Floor {
    pub flops: u64,
    pub bytes: u64,
}

/// Not the results of a bench.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// Another schema version.
    #[error("schema version {found}, expected {SCHEMA_VERSION}")]
    Schema {
        /// The version there.
        found: u64,
    },
    /// Something else.
    #[error("{0}, expected the JSON of `forgefield bench`")]
    Malformed(#[from] serde_json::Error),
}

impl Bench {
    /// Reads results from the contents of a file.
    ///
    /// # Errors
    /// [`BenchError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, BenchError> {
        let value: serde_json::Value = serde_json::from_slice(bytes)?;
        // Another version explains whatever else does not fit.
        match value.get("schema").and_then(serde_json::Value::as_u64) {
            Some(found) if found != u64::from(SCHEMA_VERSION) => Err(BenchError::Schema { found }),
            _ => Ok(serde_json::from_value(value)?),
        }
    }

    /// Keeps the rows that are wanted, by op, variant, problem and element type.
    pub fn retain(&mut self, wanted: impl Fn(&str, &str, &str, Dtype) -> bool) {
        self.rows.retain(|row| wanted(row.op(), &row.variant, &row.problem.name, row.dtype));
    }
}
