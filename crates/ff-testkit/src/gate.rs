//! The equivalence gate: the one definition of a kernel that computes what it should.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;

use ff_spec::{Dtype, FusedMessage, Launch, LaunchConfig, LaunchError, Op, Prepare, Problem, RuntimeKind};
use serde::{Deserialize, Serialize};

use crate::catalogue::{Case, CaseSet, Evaluated, OracleCache};

/// Fewer seeds than this prove nothing about buffers that survive a launch.
pub const MIN_SEEDS: usize = 3;

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
    /// [`Verdict::Failed`] with the reason.
    fn compare(outputs: &Self::Outputs, oracle: &Self::Oracle, dtype: Dtype) -> Result<(f64, f64), Verdict>;

    /// How the outputs of two runs differ although the variant promises the same bits.
    fn broken_promise(variant: &Self::Variant, first: &Self::Outputs, second: &Self::Outputs) -> Option<String>;
}

/// What the gate says of one launch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "verdict", rename_all = "lowercase")]
pub enum Verdict {
    /// Right, in all the ways that are checked.
    Passed {
        /// ‖out − ref‖/‖ref‖, the largest over tensors and runs.
        rel_error: f64,
        /// max |out − ref|.
        max_abs_error: f64,
    },
    /// Wrong in some way.
    Failed {
        /// Which.
        reason: String,
        /// As of a pass, where outputs could be compared.
        rel_error: Option<f64>,
        /// As of a pass, where outputs could be compared.
        max_abs_error: Option<f64>,
    },
    /// The device lacks a type or an atomic that the variant needs.
    Unsupported {
        /// Which.
        reason: String,
    },
    /// Not executed: the launch configuration breaks a constraint.
    Skipped {
        /// Which.
        reason: String,
    },
}

impl Verdict {
    /// Whether it is a pass.
    pub fn passed(&self) -> bool {
        matches!(self, Verdict::Passed { .. })
    }

    /// `passed`, `failed`, `unsupported` or `skipped`.
    pub fn name(&self) -> &'static str {
        match self {
            Verdict::Passed { .. } => "passed",
            Verdict::Failed { .. } => "failed",
            Verdict::Unsupported { .. } => "unsupported",
            Verdict::Skipped { .. } => "skipped",
        }
    }

    /// Why it is no pass.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Verdict::Passed { .. } => None,
            Verdict::Failed { reason, .. } | Verdict::Unsupported { reason } | Verdict::Skipped { reason } => {
                Some(reason)
            }
        }
    }

    /// (‖out − ref‖/‖ref‖, max |out − ref|), where outputs were compared and are finite.
    pub fn errors(&self) -> (Option<f64>, Option<f64>) {
        let (rel, abs) = match self {
            Verdict::Passed { rel_error, max_abs_error } => (Some(*rel_error), Some(*max_abs_error)),
            Verdict::Failed { rel_error, max_abs_error, .. } => (*rel_error, *max_abs_error),
            _ => (None, None),
        };
        // JSON has no NaN, and a missing error is one that could not be computed.
        (rel.filter(|x| x.is_finite()), abs.filter(|x| x.is_finite()))
    }

    pub(crate) fn failed(reason: impl Into<String>) -> Self {
        Verdict::Failed { reason: reason.into(), rel_error: None, max_abs_error: None }
    }
}

impl From<LaunchError> for Verdict {
    fn from(error: LaunchError) -> Self {
        match error {
            LaunchError::Unsupported(reason) => Verdict::Unsupported { reason },
            LaunchError::Constraint(_) => Verdict::Skipped { reason: error.to_string() },
            other => Verdict::failed(other.to_string()),
        }
    }
}

/// Poisons, checks that this took, and runs.
fn run_poisoned<O: Gated>(launch: &mut dyn Launch<O>) -> Result<O::Outputs, Verdict> {
    launch.poison()?;
    if let Some(survivor) = O::survivor(&launch.outputs()?) {
        return Err(Verdict::failed(format!("{survivor} after `poison`, a missing write would not show")));
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
    let mut checked = || -> Result<Verdict, Verdict> {
        O::discriminates(oracle, dtype).map_err(Verdict::failed)?;
        let digest = launch.input_digest()?;
        let first = run_poisoned(launch)?;
        let (rel_1, abs_1) = O::compare(&first, oracle, dtype)?;
        if launch.input_digest()? != digest {
            return Err(Verdict::failed("the kernel changed its inputs"));
        }
        let second = run_poisoned(launch)?;
        let (rel_2, abs_2) = O::compare(&second, oracle, dtype)?;
        if launch.input_digest()? != digest {
            return Err(Verdict::failed("the kernel changed its inputs in its second run"));
        }
        if let Some(broken) = O::broken_promise(variant, &first, &second) {
            return Err(Verdict::failed(broken));
        }
        Ok(Verdict::Passed { rel_error: rel_1.max(rel_2), max_abs_error: abs_1.max(abs_2) })
    };
    checked().unwrap_or_else(|verdict| verdict)
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
pub struct GatePlan<'a, O: Op = FusedMessage> {
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
                        Err(error) => (Verdict::failed(format!("oracle: {error}")), None),
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
                        reason: verdict.reason().map(str::to_owned),
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
            return (Verdict::failed(format!("the default configuration [{config}]: {error}")), None);
        }
        Err(error) => return (error.into(), None),
    };
    let mut verdict = check_launch(launch.as_mut(), variant, dtype, &evaluated.oracle);
    if let Some(Prepared { launch: mut earlier, evaluated }) = earlier
        && verdict.passed()
        && let Err(disturbed) =
            run_poisoned(earlier.as_mut()).and_then(|out| O::compare(&out, &evaluated.oracle, dtype))
    {
        let reason = disturbed.reason().unwrap_or_default();
        verdict = Verdict::failed(format!("an earlier launch of the same shape is wrong after this one ran: {reason}"));
    }
    let launch = verdict.passed().then_some(launch);
    (verdict, launch)
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;
    use std::time::Duration;

    use ff_reference::Oracle;
    use ff_reference::fused_message::forward;
    use ff_spec::fused_message::{Inputs, OP, Outputs, Reduction, Variant};
    use ff_spec::{Clock, DeviceId, Problem};
    use proptest::prelude::*;

    use super::*;
    use crate::catalogue::cases;
    use crate::generators::{rounded, strategies};
    use crate::mutants::MutantRuntime;
    use crate::played::Played;
    use crate::tensors::is_degenerate;

    fn variant(id: &str) -> Variant {
        id.parse().unwrap()
    }

    fn evaluated(variant: &Variant, case: &str) -> Arc<Evaluated> {
        let case = cases(OP, variant, CaseSet::Full).into_iter().find(|c| c.id == case).unwrap();
        OracleCache::default().get(&case, variant, Dtype::F64, 0).unwrap()
    }

    /// The gate on a launch of these outputs, one per run, the last of them for ever.
    fn judge(variant: &Variant, oracle: &Oracle<Outputs<f64>>, outputs: &[&Outputs<f64>]) -> Verdict {
        let results = outputs.iter().map(|outputs| (*outputs).clone()).collect();
        let mut launch = Played::<FusedMessage>::new(outputs[0].map(|_| f64::NAN), results);
        check_launch(&mut launch, variant, Dtype::F64, oracle)
    }

    #[test]
    fn the_right_answer_passes_and_its_faults_are_named() {
        let receiver = variant("painn_linear_gaussian_cosine_receiver");
        let atomic = variant("painn_linear_gaussian_cosine_edge_atomic");
        let oracle = &evaluated(&receiver, "small").oracle;
        let right = oracle.outputs.clone();
        assert!(judge(&receiver, oracle, &[&right]).passed());

        let mut nan = right.clone();
        nan.vectors[7] = f64::NAN;
        assert!(judge(&receiver, oracle, &[&nan]).reason().unwrap().contains("not finite"));
        assert!(!judge(&atomic, oracle, &[&right, &nan]).passed(), "a fault of the second run alone");

        let mut last_bit = right.clone();
        last_bit.nodes[3] = f64::from_bits(last_bit.nodes[3].to_bits() ^ 1);
        assert!(judge(&receiver, oracle, &[&right, &last_bit]).reason().unwrap().contains("same bits"));
        assert!(judge(&atomic, oracle, &[&right, &last_bit]).passed(), "atomics may differ in the last bit");

        let mut deaf = Played::<FusedMessage>::new(right.clone(), vec![right.clone()]);
        let found = check_launch(&mut deaf, &receiver, Dtype::F64, oracle);
        assert!(found.reason().unwrap().contains("poison"));

        let mut short = right;
        short.nodes.pop();
        assert!(judge(&receiver, oracle, &[&short]).reason().unwrap().contains("elements"));
    }

    #[test]
    fn a_case_that_proves_nothing_is_no_pass() {
        let variant = variant("cfconv_linear_gaussian_cosine_receiver");
        let one = Outputs { nodes: vec![2.0], vectors: Vec::new() };
        let oracle = Oracle { outputs: one.clone(), magnitude: one.clone() };
        for dtype in Dtype::ALL {
            assert!(FusedMessage::discriminates(&oracle, dtype).is_err());
        }
        assert!(!judge(&variant, &oracle, &[&one]).passed());

        let zero = Outputs { nodes: vec![0.0; 4], vectors: Vec::new() };
        let degenerate = Oracle { outputs: zero.clone(), magnitude: zero };
        assert!(is_degenerate::<FusedMessage>(&degenerate));
        assert_eq!(FusedMessage::discriminates(&degenerate, Dtype::F32), Ok(()));
    }

    #[test]
    fn every_case_discriminates() {
        for id in [
            "cfconv_linear_bessel_polynomial_receiver",
            "painn_mlp_expnorm_cosine_receiver",
            "painn_tabulated_receiver",
            "cfconv_tabulated_receiver",
        ] {
            let (variant, mut cache) = (variant(id), <OracleCache>::default());
            for case in cases(OP, &variant, CaseSet::Full) {
                let evaluated = cache.get(&case, &variant, Dtype::F32, 0).unwrap();
                assert_eq!(FusedMessage::discriminates(&evaluated.oracle, Dtype::F32), Ok(()), "{id} {}", case.id);
            }
        }
    }

    #[test]
    fn nothing_executed_is_a_failure() {
        assert!(GateSummary::default().failure().unwrap().contains("no case was executed"));
        let runtime = MutantRuntime::new(None);
        let variants = [variant("cfconv_tabulated_receiver")];
        let plan = GatePlan { variants: &variants, dtypes: &Dtype::ALL, set: CaseSet::Quick, seeds: 3 };
        let summary = run_gate(&[&runtime], &plan, &mut OracleCache::default(), &mut |_| ControlFlow::Continue(()));
        assert_eq!((summary.passed, summary.failed), (0, 0));
        assert_eq!(summary.unsupported, summary.cases.len());
        assert_eq!(summary.unsupported, plan.rows(1));
        assert!(summary.failure().is_some());
    }

    /// A runtime whose launches all use the memory of the one prepared last.
    struct Sharing {
        inner: MutantRuntime,
        last: Shared,
    }

    type Shared = Rc<RefCell<Option<Box<dyn Launch>>>>;

    struct SharingLaunch(Shared);

    impl SharingLaunch {
        fn with<R>(&self, f: impl FnOnce(&mut Box<dyn Launch>) -> R) -> R {
            f(self.0.borrow_mut().as_mut().expect("`prepare` filled it"))
        }
    }

    impl Launch for SharingLaunch {
        fn poison(&mut self) -> Result<(), LaunchError> {
            self.with(|last| last.poison())
        }
        fn run(&mut self) -> Result<(), LaunchError> {
            self.with(|last| last.run())
        }
        fn time(&mut self) -> Result<Duration, LaunchError> {
            self.with(|last| last.time())
        }
        fn outputs(&mut self) -> Result<Outputs<f64>, LaunchError> {
            self.with(|last| last.outputs())
        }
        fn input_digest(&mut self) -> Result<u64, LaunchError> {
            self.with(|last| last.input_digest())
        }
    }

    impl ff_spec::Device for Sharing {
        fn device(&self) -> &DeviceId {
            self.inner.device()
        }
        fn clock(&self) -> Clock {
            self.inner.clock()
        }
    }

    impl Prepare for Sharing {
        fn default_config(&self, variant: &Variant, dtype: Dtype, problem: &Problem) -> LaunchConfig {
            self.inner.default_config(variant, dtype, problem)
        }
        fn prepare(
            &self,
            variant: &Variant,
            dtype: Dtype,
            inputs: &Inputs<f64>,
            config: &LaunchConfig,
        ) -> Result<Box<dyn Launch>, LaunchError> {
            *self.last.borrow_mut() = Some(self.inner.prepare(variant, dtype, inputs, config)?);
            Ok(Box::new(SharingLaunch(self.last.clone())))
        }
    }

    #[test]
    fn launches_that_share_memory_are_caught() {
        let runtime = Sharing { inner: MutantRuntime::new(None), last: Shared::default() };
        let variants = [variant("painn_linear_gaussian_cosine_receiver")];
        let plan = GatePlan { variants: &variants, dtypes: &[Dtype::F32], set: CaseSet::Quick, seeds: 3 };
        let summary = run_gate(&[&runtime], &plan, &mut OracleCache::default(), &mut |_| ControlFlow::Continue(()));
        assert!(summary.failed > 0);
        for row in summary.cases.iter().filter(|row| row.verdict == "failed") {
            assert!(row.seed == 1 && row.reason.as_ref().unwrap().contains("earlier launch"), "{row:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        /// Whatever the inputs, a right kernel passes, or the gate says that these inputs prove nothing.
        #[test]
        fn a_right_kernel_is_not_refused((mut variant, inputs) in strategies::inputs()) {
            variant.reduction = Reduction::Receiver;
            for dtype in Dtype::ALL {
                let inputs = rounded(&inputs, dtype);
                let oracle = forward(&variant, &inputs).unwrap();
                let verdict =
                    check(&MutantRuntime::new(None), &variant, dtype, &LaunchConfig::default(), &inputs, &oracle);
                let excused = verdict.reason().is_some_and(|r| r.contains("proves nothing"));
                let lacking = matches!(verdict, Verdict::Unsupported { .. });
                prop_assert!(verdict.passed() || excused || lacking, "{verdict:?}");
            }
        }
    }

    #[test]
    fn too_few_seeds_and_interruptions_are_failures() {
        let runtime = MutantRuntime::new(None);
        let variants = [variant("cfconv_linear_gaussian_cosine_receiver")];
        let plan = GatePlan { variants: &variants, dtypes: &[Dtype::F32], set: CaseSet::Quick, seeds: 2 };
        let mut cache = OracleCache::default();
        let few = run_gate(&[&runtime], &plan, &mut cache, &mut |_| ControlFlow::Continue(()));
        assert!(few.failed == 0 && few.failure().unwrap().contains("2 seeds"));
        let plan = GatePlan { seeds: 3, ..plan };
        let cut = run_gate(&[&runtime], &plan, &mut cache, &mut |_| ControlFlow::Break(()));
        assert_eq!(cut.cases.len(), 1);
        assert!(cut.failure().unwrap().contains("interrupted"));
    }

    #[test]
    fn rows_are_the_json_of_verify() {
        let runtime = MutantRuntime::new(None);
        let variants = [variant("cfconv_linear_gaussian_cosine_receiver")];
        let plan = GatePlan { variants: &variants, dtypes: &[Dtype::F32], set: CaseSet::Quick, seeds: 3 };
        let summary = run_gate(&[&runtime], &plan, &mut OracleCache::default(), &mut |_| ControlFlow::Continue(()));
        let json = serde_json::to_value(&summary).unwrap();
        let keys = |v: &serde_json::Value| v.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        assert_eq!(keys(&json), ["passed", "failed", "skipped", "unsupported", "cases"]);
        assert_eq!(
            keys(&json["cases"][0]),
            [
                "op",
                "variant",
                "runtime",
                "dtype",
                "order",
                "case",
                "seed",
                "verdict",
                "reason",
                "rel_error",
                "max_abs_error"
            ]
        );
        assert_eq!(json["cases"][0]["verdict"], "passed");
        assert_eq!(json["cases"][0]["order"], 0);
    }
}
