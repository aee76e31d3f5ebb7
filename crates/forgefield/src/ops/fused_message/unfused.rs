//! The unfused composition, timed beside the fused kernels.

use std::time::{Duration, Instant};

use ff_spec::fused_message::{FilterKind, Inputs, Outputs, Variant};
use ff_spec::{Dtype, LaunchError, Prepare, RuntimeKind};
use ff_testkit::fused_message::rounded;
use ff_testkit::tolerance::norm;
use ff_tune::Baseline;
use ff_yardstick::unfused;

use crate::interrupt;
use crate::machine::spare_memory;

/// Tensors of the size of the largest that live at once in the composition.
const TENSORS: u64 = 6;

/// Samples are taken until there are this many or until the time is up; never fewer than two.
const SAMPLES: usize = 11;
const TIME: Duration = Duration::from_secs(1);

/// Measures the composition on one runtime, until an interrupt.
pub struct Unfused {
    runtime: RuntimeKind,
}

impl Unfused {
    /// For a runtime.
    pub fn new(runtime: RuntimeKind) -> Self {
        Self { runtime }
    }

    /// Samples and error of the composition; `None` where there is none.
    ///
    /// # Errors
    /// Why it cannot be had.
    pub fn measure(
        &self,
        variant: &Variant,
        dtype: Dtype,
        inputs: &Inputs<f64>,
    ) -> std::result::Result<Option<Baseline>, String> {
        if variant.filter == FilterKind::Tabulated {
            // A composition would sample no table; that of the filter it was made from stands beside the untabulated family.
            return Ok(None);
        }
        let needed = TENSORS * unfused::largest_tensor(inputs, dtype);
        if needed > spare_memory() {
            let gib = needed as f64 / f64::from(1 << 30);
            return Err(format!("not measured, it would take about {gib:.1} GiB of memory"));
        }
        self.sample(variant, dtype, inputs).map(Some).map_err(|error| error.to_string())
    }

    fn sample(&self, variant: &Variant, dtype: Dtype, inputs: &Inputs<f64>) -> Result<Baseline, LaunchError> {
        let mut launch = unfused::prepare(self.runtime, inputs, variant, dtype)?;
        launch.run()?;
        let rel_error = distance(&launch.outputs()?, &reference(variant, &rounded(inputs, dtype))?);
        let (begin, mut samples_ns) = (Instant::now(), Vec::new());
        while samples_ns.len() < 2 || (samples_ns.len() < SAMPLES && begin.elapsed() < TIME) {
            if interrupt::raised() {
                break;
            }
            samples_ns.push(u64::try_from(launch.time()?.as_nanos()).unwrap_or(u64::MAX));
        }
        Ok(Baseline { samples_ns, rel_error })
    }
}

/// The right outputs: the host kernel in f64, itself gated to 1e-12. The scalar oracle would take minutes on a large problem.
fn reference(variant: &Variant, inputs: &Inputs<f64>) -> Result<Outputs<f64>, LaunchError> {
    let host: Box<dyn Prepare> =
        ff_kernels::open(RuntimeKind::Host).map_err(|e| LaunchError::Unsupported(e.to_string()))?;
    let config = host.default_config(variant, Dtype::F64, &inputs.problem("reference"));
    let mut launch = host.prepare(variant, Dtype::F64, inputs, &config)?;
    launch.run()?;
    launch.outputs()
}

/// ‖out − ref‖/‖ref‖, the larger of the two tensors.
fn distance(out: &Outputs<f64>, reference: &Outputs<f64>) -> f64 {
    let relative = |out: &[f64], reference: &[f64]| {
        if out.len() != reference.len() {
            return f64::INFINITY;
        }
        let off = norm(out.iter().zip(reference).map(|(o, r)| o - r));
        if off == 0.0 { 0.0 } else { off / norm(reference.iter().copied()) }
    };
    let (nodes, vectors) = (relative(&out.nodes, &reference.nodes), relative(&out.vectors, &reference.vectors));
    // `f64::max` would drop a NaN.
    if nodes.is_nan() || vectors.is_nan() { f64::NAN } else { nodes.max(vectors) }
}
