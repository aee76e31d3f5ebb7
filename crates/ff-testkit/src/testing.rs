//! What the tests of this crate ask of every op, and of those that are compared tensor by tensor.

use std::ops::ControlFlow;

use ff_spec::{Dtype, Prepare};

use crate::case::CaseSet;
use crate::catalogue::OracleCache;
use crate::gate::{GatePlan, GateSummary, run_gate};
use crate::gated::{Evaluated, Gated};
use crate::tensors::{ByTensors, is_degenerate};
use crate::tolerance::tolerance;

/// The gate over three seeds on one runtime.
pub(crate) fn gate<O: Gated>(
    runtime: &dyn Prepare<O>,
    variants: &[O::Variant],
    dtypes: &[Dtype],
    set: CaseSet,
    cache: &mut OracleCache<O>,
) -> GateSummary {
    let plan = GatePlan { variants, dtypes, set, seeds: 3 };
    run_gate(&[runtime], &plan, cache, &mut |_| ControlFlow::Continue(()))
}

/// A right kernel passes every case there is.
pub(crate) fn assert_passes<O: Gated>(
    runtime: &dyn Prepare<O>,
    variants: &[O::Variant],
    dtypes: &[Dtype],
) -> GateSummary {
    let summary = gate(runtime, variants, dtypes, CaseSet::Full, &mut OracleCache::default());
    let failure = summary.cases.iter().find(|row| row.verdict != "passed");
    assert_eq!(summary.failure(), None, "{failure:?}");
    assert_eq!(summary.passed, summary.cases.len());
    assert!(summary.cases.iter().all(|row| row.op == O::NAME && row.order == O::ORDER));
    summary
}

/// A kernel with a fault fails one of the quick cases at least, in every variant and dtype.
pub(crate) fn assert_caught<O: Gated>(
    fault: &str,
    runtime: &dyn Prepare<O>,
    variants: &[O::Variant],
    cache: &mut OracleCache<O>,
) {
    let summary = gate(runtime, variants, &Dtype::ALL, CaseSet::Quick, cache);
    for (variant, dtype) in variants.iter().flat_map(|variant| Dtype::ALL.map(|dtype| (variant.to_string(), dtype))) {
        let mut rows = summary.cases.iter().filter(|row| row.variant == variant && row.dtype == dtype);
        let caught = rows.any(|row| row.verdict == "failed");
        assert!(caught, "{fault} went unnoticed in {variant} {dtype} of order {}", O::ORDER);
    }
}

/// Every case tells right from wrong in each of its tensors, and is degenerate where it says so.
pub(crate) fn assert_cases_tell<O: ByTensors>(variant: &O::Variant, seeds: u64) {
    let mut cache = OracleCache::<O>::default();
    for case in O::cases(variant, CaseSet::Full) {
        for seed in 0..seeds {
            let evaluated = cache.get(&case, variant, Dtype::F32, seed).unwrap();
            let place = format!("{variant} of order {}, `{}`", O::ORDER, case.id);
            assert_eq!(O::discriminates(&evaluated.oracle, Dtype::F32), Ok(()), "{place}");
            assert_eq!(is_degenerate::<O>(&evaluated.oracle), case.degenerate, "{place}");
        }
    }
}

/// One tensor after the other is made wrong in one element; everything that the gate asks of outputs must notice.
/// `reproducible` promises the same bits and `atomic`, where the op has such a variant, does not.
pub(crate) fn assert_every_tensor_is_looked_at<'a, O: ByTensors>(
    case: &str,
    reproducible: &O::Variant,
    atomic: impl Into<Option<&'a O::Variant>>,
) where
    O::Variant: 'a,
{
    let atomic = atomic.into();
    let case = O::cases(reproducible, CaseSet::Quick).into_iter().find(|found| found.id == case).unwrap();
    let Evaluated { inputs, oracle } = O::evaluate(&case, reproducible, Dtype::F64, 0).unwrap();
    let right = oracle.outputs.clone();
    assert!(O::compare(&right, &oracle, Dtype::F64).is_ok());
    assert!(O::survivor(&O::poisoned(&inputs)).is_none());
    let (mut start, tol) = (0, tolerance(Dtype::F64, O::TOLERANCE));
    for ((tensor, values), (_, bounds)) in O::tensors(&right).into_iter().zip(O::tensors(&oracle.magnitude)) {
        let largest = (0..values.len()).max_by(|a, b| values[*a].abs().total_cmp(&values[*b].abs())).unwrap();
        assert!(values[largest] != 0.0, "`{tensor}` tells nothing");
        for at in [largest, values.len() / 2].into_iter().filter(|at| values[*at] != 0.0) {
            let change = |out: &O::Outputs, to: &dyn Fn(f64) -> f64| {
                let mut element = 0;
                O::map(out, &mut |x| {
                    element += 1;
                    if element == start + at + 1 { to(x) } else { x }
                })
            };
            let (value, bound) = (values[at], bounds[at]);
            for wrong in [f64::NAN, 0.0, -value, value + 2.0 * tol * (value.abs() + bound)] {
                let found = O::compare(&change(&right, &|_| wrong), &oracle, Dtype::F64).unwrap_err();
                let reason = found.to_string();
                assert!(reason.contains(&format!("`{tensor}`")), "{reproducible} of order {}: {reason}", O::ORDER);
            }
            let last_bit = change(&right, &|x| f64::from_bits(x.to_bits() ^ 1));
            assert!(O::broken_promise(reproducible, &right, &last_bit).unwrap().contains(tensor));
            assert_eq!(atomic.and_then(|atomic| O::broken_promise(atomic, &right, &last_bit)), None);
            for written in [0.0, 1.0] {
                assert!(O::survivor(&change(&O::poisoned(&inputs), &|_| written)).is_some());
            }
        }
        start += values.len();
    }
}
