//! The equivalence gate: the one definition of a kernel that computes what it should.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;

use ff_reference::Oracle;
use ff_spec::{Dtype, Launch, LaunchConfig, LaunchError, Op, Prepare, RuntimeKind};
use serde::{Deserialize, Serialize};

use crate::case::CaseSet;
use crate::catalogue::OracleCache;
use crate::gated::Evaluated;
pub use crate::gated::{Failure, Gated, Verdict};
use crate::tensors::{ByTensors, compare_near};

/// Fewer seeds than this prove nothing about buffers that survive a launch.
pub const MIN_SEEDS: usize = 3;

/// Poisons, checks that this took, and runs.
fn run_poisoned<O: Gated>(launch: &mut dyn Launch<O>) -> Result<O::Outputs, Failure> {
    launch.poison()?;
    if let Some(survivor) = O::survivor(&launch.outputs()?) {
        return Err(Failure::wrong(format!("{survivor} after `poison`, a missing write would not show")));
    }
    launch.run()?;
    Ok(launch.outputs()?)
}

/// The gate for one prepared launch: poisons the outputs, runs and compares; does so again and, where the variant
/// promises it, expects the same bits; and expects the inputs unchanged throughout. The tuner calls it before and after
/// timing.
pub fn check_launch<O: Gated>(
    launch: &mut dyn Launch<O>,
    variant: &O::Variant,
    dtype: Dtype,
    oracle: &O::Oracle,
) -> Verdict {
    match O::discriminates(oracle, dtype) {
        Ok(()) => check_runs(launch, variant, &|outputs| O::compare(outputs, oracle, dtype)),
        Err(reason) => Failure::wrong(reason).into(),
    }
}

/// As [`check_launch`], on inputs that nobody chose: they may prove nothing, and outputs are compared by [`compare_near`].
pub fn check_near<O: ByTensors>(
    launch: &mut dyn Launch<O>,
    variant: &O::Variant,
    dtype: Dtype,
    oracle: &Oracle<O::Outputs>,
) -> Verdict {
    check_runs(launch, variant, &|outputs| compare_near::<O>(outputs, oracle, dtype))
}

/// The largest relative and absolute error of outputs, or what is wrong with them.
type Compared = Result<(f64, f64), Failure>;

/// Two runs, each from poison.
fn check_runs<O: Gated>(
    launch: &mut dyn Launch<O>,
    variant: &O::Variant,
    compare: &dyn Fn(&O::Outputs) -> Compared,
) -> Verdict {
    let mut checked = || -> Compared {
        let digest = launch.input_digest()?;
        let first = run_poisoned(launch)?;
        let (rel_1, abs_1) = compare(&first)?;
        if launch.input_digest()? != digest {
            return Err(Failure::wrong("the kernel changed its inputs"));
        }
        let second = run_poisoned(launch)?;
        let (rel_2, abs_2) = compare(&second)?;
        if launch.input_digest()? != digest {
            return Err(Failure::wrong("the kernel changed its inputs in its second run"));
        }
        if let Some(broken) = O::broken_promise(variant, &first, &second) {
            return Err(Failure::wrong(broken));
        }
        Ok((rel_1.max(rel_2), abs_1.max(abs_2)))
    };
    match checked() {
        Ok((rel_error, max_abs_error)) => Verdict::Passed { rel_error, max_abs_error },
        Err(failure) => failure.into(),
    }
}

/// The gate for one variant, dtype, configuration and set of inputs, which must be rounded to `dtype`.
pub fn check<O: Gated>(
    runtime: &dyn Prepare<O>,
    variant: &O::Variant,
    dtype: Dtype,
    config: &LaunchConfig,
    inputs: &O::Inputs,
    oracle: &O::Oracle,
) -> Verdict {
    match runtime.prepare(variant, dtype, inputs, config) {
        Ok(mut launch) => check_launch(launch.as_mut(), variant, dtype, oracle),
        Err(error) => error.into(),
    }
}

/// One line of `forgefield verify`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GateRow {
    /// Op.
    pub op: String,
    /// Variant id.
    pub variant: String,
    /// Runtime.
    pub runtime: RuntimeKind,
    /// Element type.
    pub dtype: Dtype,
    /// Derivative order: 0, 1 or 2.
    pub order: u8,
    /// Case id.
    pub case: String,
    /// Seed of the values.
    pub seed: u64,
    /// [`Verdict::name`].
    pub verdict: String,
    /// Why it is no pass.
    pub reason: Option<String>,
    /// ‖out − ref‖/‖ref‖, where it could be computed.
    pub rel_error: Option<f64>,
    /// max |out − ref|, where it could be computed.
    pub max_abs_error: Option<f64>,
}

/// All lines of `forgefield verify`, with their counts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct GateSummary {
    /// Passes.
    pub passed: usize,
    /// Failures.
    pub failed: usize,
    /// Not executed, for the reason in the row.
    pub skipped: usize,
    /// Not possible on the device.
    pub unsupported: usize,
    /// The rows.
    pub cases: Vec<GateRow>,
    /// What makes the whole no pass although no row fails.
    #[serde(skip)]
    pub shortfalls: Vec<String>,
}

impl GateSummary {
    /// Why this is no pass, if it is none: failures, nothing executed, too few seeds, only cases that prove nothing, or
    /// an interruption.
    pub fn failure(&self) -> Option<String> {
        if self.failed > 0 {
            return Some(format!("{} of {} cases failed", self.failed, self.passed + self.failed));
        }
        if self.passed == 0 {
            let (skipped, unsupported) = (self.skipped, self.unsupported);
            return Some(format!("no case was executed ({skipped} skipped, {unsupported} unsupported)"));
        }
        (!self.shortfalls.is_empty()).then(|| self.shortfalls.join("; "))
    }

    /// Adds what the gate says of another op.
    pub fn extend(&mut self, other: GateSummary) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
        self.unsupported += other.unsupported;
        self.cases.extend(other.cases);
        self.shortfalls.extend(other.shortfalls);
    }

    fn push(&mut self, row: GateRow) {
        *match row.verdict.as_str() {
            "passed" => &mut self.passed,
            "failed" => &mut self.failed,
            "skipped" => &mut self.skipped,
            _ => &mut self.unsupported,
        } += 1;
        self.cases.push(row);
    }
}

/// What a gate covers of one op.
#[derive(Debug)]
pub struct GatePlan<'a, O: Op> {
    /// Variants.
    pub variants: &'a [O::Variant],
    /// Element types.
    pub dtypes: &'a [Dtype],
    /// Cases.
    pub set: CaseSet,
    /// Seeds 0, 1, …; fewer than [`MIN_SEEDS`] are no pass.
    pub seeds: u64,
}

// Derived, these would ask the op itself to be `Copy`.
impl<O: Op> Clone for GatePlan<'_, O> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<O: Op> Copy for GatePlan<'_, O> {}

impl<O: Gated> GatePlan<'_, O> {
    /// How many rows [`run_gate`] will report for this many runtimes.
    pub fn rows(&self, runtimes: usize) -> usize {
        let cases: usize = self.variants.iter().map(|v| O::cases(v, self.set).len()).sum();
        runtimes * cases * self.dtypes.len() * self.seeds as usize
    }
}

/// Runs the gate on every variant, dtype, case and seed, each with the runtime's default configuration.
///
/// Seeds are run one after the other on the same runtime with the same shapes, so that stale buffers show. The first
/// launch of each shape is also kept while the second one runs, then run again: two launches that live at once must not
/// share memory. `on_row` sees each row as soon as it is known and may end the gate.
///
/// Variants that the oracle cannot tell apart follow one another and share an evaluation of the oracle, as runtimes do.
pub fn run_gate<O: Gated, R: Prepare<O> + ?Sized>(
    runtimes: &[&R],
    plan: &GatePlan<'_, O>,
    cache: &mut OracleCache<O>,
    on_row: &mut dyn FnMut(&GateRow) -> ControlFlow<()>,
) -> GateSummary {
    let mut summary = GateSummary::default();
    // Whether each (runtime, variant, dtype) that was executed was so on a case that can tell right from wrong.
    let mut telling: BTreeMap<(usize, &O::Variant, Dtype), bool> = BTreeMap::new();
    let mut groups: BTreeMap<O::Variant, BTreeSet<&O::Variant>> = BTreeMap::new();
    for variant in plan.variants {
        groups.entry(O::representative(variant)).or_default().insert(variant);
    }
    'gate: for ((representative, group), &dtype) in groups.iter().flat_map(|g| plan.dtypes.iter().map(move |d| (g, d)))
    {
        for case in O::cases(representative, plan.set) {
            let mut first_launches: BTreeMap<(usize, &O::Variant), Prepared<O>> = BTreeMap::new();
            for seed in 0..plan.seeds {
                let evaluated = cache.get(&case, representative, dtype, seed);
                for (index, &variant) in (0..runtimes.len()).flat_map(|r| group.iter().map(move |v| (r, v))) {
                    let runtime = runtimes[index];
                    let (verdict, launch) = match &evaluated {
                        Ok(evaluated) => {
                            let earlier = first_launches.remove(&(index, variant));
                            gate_one(runtime, variant, dtype, case.id, evaluated, earlier)
                        }
                        Err(error) => (Failure::wrong(format!("oracle: {error}")).into(), None),
                    };
                    if verdict.passed() {
                        *telling.entry((index, variant, dtype)).or_default() |= !case.degenerate;
                    }
                    if let (0, Some(launch), Ok(evaluated)) = (seed, launch, &evaluated) {
                        first_launches.insert((index, variant), Prepared { launch, evaluated: evaluated.clone() });
                    }
                    let (rel_error, max_abs_error) = verdict.errors();
                    let row = GateRow {
                        op: O::NAME.to_owned(),
                        variant: variant.to_string(),
                        runtime: runtime.device().runtime,
                        dtype,
                        order: O::ORDER,
                        case: case.id.to_owned(),
                        seed,
                        verdict: verdict.name().to_owned(),
                        reason: verdict.reason(),
                        rel_error,
                        max_abs_error,
                    };
                    let flow = on_row(&row);
                    summary.push(row);
                    if flow.is_break() {
                        summary.shortfalls.push("interrupted before the last case".to_owned());
                        break 'gate;
                    }
                }
            }
        }
    }
    if plan.seeds < MIN_SEEDS as u64 {
        summary.shortfalls.push(format!("{} seeds, expected at least {MIN_SEEDS}", plan.seeds));
    }
    for ((_, variant, dtype), _) in telling.iter().filter(|(_, telling)| !**telling) {
        summary.shortfalls.push(format!("`{variant}` in {dtype} ran only on cases where zero is right"));
    }
    summary.shortfalls.sort();
    summary
}

/// A launch that is kept, and what it should compute.
struct Prepared<O: Gated> {
    launch: Box<dyn Launch<O>>,
    evaluated: Arc<Evaluated<O>>,
}

/// One row, and the launch where it passed. An earlier launch of the same shape is run again after this one.
fn gate_one<O: Gated, R: Prepare<O> + ?Sized>(
    runtime: &R,
    variant: &O::Variant,
    dtype: Dtype,
    case: &str,
    evaluated: &Evaluated<O>,
    earlier: Option<Prepared<O>>,
) -> (Verdict, Option<Box<dyn Launch<O>>>) {
    let config = runtime.default_config(variant, dtype, &O::problem(case, evaluated));
    let mut launch = match runtime.prepare(variant, dtype, &evaluated.inputs, &config) {
        Ok(launch) => launch,
        Err(error @ LaunchError::Constraint(_)) => {
            return (Failure::wrong(format!("the default configuration [{config}]: {error}")).into(), None);
        }
        Err(error) => return (error.into(), None),
    };
    let mut verdict = check_launch(launch.as_mut(), variant, dtype, &evaluated.oracle);
    if let Some(Prepared { launch: mut earlier, evaluated }) = earlier
        && verdict.passed()
        && let Err(disturbed) =
            run_poisoned(earlier.as_mut()).and_then(|out| O::compare(&out, &evaluated.oracle, dtype))
    {
        let reason = format!("an earlier launch of the same shape is wrong after this one ran: {disturbed}");
        verdict = Failure::wrong(reason).into();
    }
    let launch = verdict.passed().then_some(launch);
    (verdict, launch)
}

#[cfg(test)]
mod tests;
