//! One launch, checked, timed, and checked again.

use std::path::Path;

use ff_spec::{Dtype, LaunchConfig, Prepare, Problem};
use ff_testkit::gate::Gated;

use super::args::BenchArgs;
use super::result::{Floor, Row};
use super::{check, peak_of, time};
use crate::failure::Result;

/// A call with what it should give, and what its row says besides times.
pub struct Timed<'a, O: Gated> {
    /// Name of the case.
    pub case: &'a str,
    /// The variant.
    pub variant: &'a O::Variant,
    /// Element type.
    pub dtype: Dtype,
    /// Rounded to it.
    pub inputs: &'a O::Inputs,
    /// Sizes.
    pub problem: Problem,
    /// The configuration.
    pub config: LaunchConfig,
    /// What the outputs are compared with.
    pub oracle: O::Oracle,
    /// Hides what the oracle does not know.
    pub known: &'a dyn Fn(&mut O::Outputs),
    /// Bytes of inputs and outputs, which are there before anything runs.
    pub bytes: usize,
    /// What it cannot do without, where that is counted.
    pub floor: Option<Floor>,
}

impl<O: Gated> Timed<'_, O> {
    /// Times it; `export` writes outputs to a folder where one is given.
    ///
    /// # Errors
    /// Outputs that are wrong, and whatever stops the runtime.
    pub fn measure(
        self,
        runtime: &dyn Prepare<O>,
        args: &BenchArgs,
        export: impl Fn(&Path, &O::Outputs) -> Result<()>,
    ) -> Result<Row> {
        let Self { case, variant, dtype, inputs, problem, config, oracle, known, bytes, floor } = self;
        let mut launch = runtime.prepare(variant, dtype, inputs, &config)?;
        let before = check::<O>(launch.as_mut(), &oracle, dtype, known)?;
        if let Some(dir) = &args.export {
            export(dir, &launch.outputs()?)?;
        }
        let memory = peak_of(|| launch.run())?.map(|extra| 1.0 + extra as f64 / bytes.max(1) as f64);
        let samples = time(args, || Ok(launch.time()?))?;
        let after = check::<O>(launch.as_mut(), &oracle, dtype, known)?;
        Ok(Row {
            case: case.to_owned(),
            variant: variant.to_string(),
            dtype,
            ns_per_edge: samples.timing.median_ns / problem.n_edges.max(1) as f64,
            problem,
            config,
            samples,
            rates: None,
            floor,
            floor_ns: None,
            bound: None,
            rel_error: before.max(after),
            memory,
        })
    }
}
