use std::ops::ControlFlow;

use ff_spec::{Dtype, FusedMessage, Runtime};
use ff_testkit::catalogue::{CaseSet, OracleCache};
use ff_testkit::gate::{GatePlan, run_gate};

/// The quick catalogue over everything that was rendered: what `forgefield verify` runs by default.
#[test]
fn every_variant_passes_the_gate() {
    let runtimes = ff_tests::runtimes();
    let borrowed: Vec<&dyn Runtime> = runtimes.iter().map(AsRef::as_ref).collect();
    let variants: Vec<_> = ff_kernels::fused_message::registered().iter().map(|r| r.variant()).collect();
    let plan = GatePlan::<FusedMessage> { variants: &variants, dtypes: &Dtype::ALL, set: CaseSet::Quick, seeds: 3 };
    let mut failures = Vec::new();
    let summary = run_gate(&borrowed, &plan, &mut OracleCache::new(4), &mut |row| {
        if row.verdict == "failed" {
            failures.push(format!(
                "{} {} {} {} seed {}: {}",
                row.runtime,
                row.variant,
                row.dtype,
                row.case,
                row.seed,
                row.reason.as_deref().unwrap_or_default()
            ));
        }
        ControlFlow::Continue(())
    });
    for reason in summary.cases.iter().filter(|r| r.verdict == "unsupported").filter_map(|r| r.reason.as_deref()) {
        assert!(reason.contains("f64"), "only f64 may be unsupported, found: {reason}");
    }
    println!("{} passed, {} unsupported", summary.passed, summary.unsupported);
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
    assert_eq!(summary.failure(), None);
}
