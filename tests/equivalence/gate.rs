use std::ops::ControlFlow;

use ff_spec::{
    CellList, Dtype, ForceScatter, ForceScatterBackward, ForceScatterDoubleBackward, FusedMessage, Prepare, Runtime,
};
use ff_testkit::catalogue::{CaseSet, OracleCache};
use ff_testkit::gate::{GatePlan, Gated, run_gate};

/// The quick catalogue over everything that was rendered of an op: what `forgefield verify` runs by default.
fn passes<O: Gated>(variants: &[O::Variant])
where
    dyn Runtime: Prepare<O>,
{
    let runtimes = ff_tests::runtimes();
    let borrowed: Vec<&dyn Runtime> = runtimes.iter().map(AsRef::as_ref).collect();
    let plan = GatePlan::<O> { variants, dtypes: &Dtype::ALL, set: CaseSet::Quick, seeds: 3 };
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

#[test]
fn every_variant_passes_the_gate() {
    let variants: Vec<_> = ff_kernels::fused_message::registered().iter().map(|r| r.variant()).collect();
    passes::<FusedMessage>(&variants);
}

#[test]
fn every_list_passes_the_gate() {
    let variants: Vec<_> = ff_kernels::cell_list::registered().iter().map(|r| r.variant()).collect();
    passes::<CellList>(&variants);
}

#[test]
fn every_force_scatter_passes_the_gate_in_every_order() {
    let variants: Vec<_> = ff_kernels::force_scatter::registered().iter().map(|r| r.variant()).collect();
    passes::<ForceScatter>(&variants);
    passes::<ForceScatterBackward>(&variants);
    passes::<ForceScatterDoubleBackward>(&variants);
}
