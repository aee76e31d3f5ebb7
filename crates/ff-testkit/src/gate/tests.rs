use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use ff_reference::Oracle;
use ff_reference::fused_message::forward;
use ff_spec::fused_message::{Inputs, Outputs, Reduction, Variant};
use ff_spec::{Clock, DeviceId, FusedMessage, Problem};
use proptest::prelude::*;

use super::*;
use crate::fused_message::mutants::MutantRuntime;
use crate::fused_message::{cases, rounded, strategies};
use crate::played::Played;
use crate::tensors::is_degenerate;

fn variant(id: &str) -> Variant {
    id.parse().unwrap()
}

fn evaluated(variant: &Variant, case: &str) -> Arc<Evaluated<FusedMessage>> {
    let case = cases(CaseSet::Full).into_iter().find(|c| c.id == case).unwrap();
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
        let (variant, mut cache) = (variant(id), OracleCache::<FusedMessage>::default());
        for case in cases(CaseSet::Full) {
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
            let lacking = verdict.name() == "unsupported";
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
