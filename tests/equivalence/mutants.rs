//! The gate must bite: real kernels with a fault put around them, on every runtime of this machine.

use std::ops::ControlFlow;

use ff_spec::{Dtype, FusedMessage};
use ff_testkit::catalogue::{CaseSet, OracleCache};
use ff_testkit::gate::{GatePlan, run_gate};
use ff_testkit::mutants::{Mutation, mutate};

#[test]
fn every_fault_fails_the_gate_on_every_runtime() {
    let variants: Vec<_> = ["painn_linear_gaussian_cosine_receiver", "cfconv_mlp_bessel_polynomial_receiver"]
        .iter()
        .map(|id| id.parse().expect("these were rendered"))
        .collect();
    let plan = GatePlan::<FusedMessage> { variants: &variants, dtypes: &[Dtype::F32], set: CaseSet::Quick, seeds: 3 };
    let mut cache = OracleCache::default();
    let kinds: Vec<_> = ff_tests::runtimes().iter().map(|runtime| runtime.device().runtime).collect();
    for kind in kinds {
        for mutation in Mutation::ALL {
            let runtime = mutate(ff_kernels::open(kind).expect("it was just opened"), mutation);
            for variant in &variants {
                let plan = GatePlan { variants: std::slice::from_ref(variant), ..plan };
                let summary = run_gate(&[runtime.as_ref()], &plan, &mut cache, &mut |_| ControlFlow::Continue(()));
                assert!(summary.failed > 0, "{mutation:?} passed the gate on {kind} in {variant}");
            }
        }
    }
}
