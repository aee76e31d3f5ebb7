use std::collections::BTreeSet;
use std::ops::ControlFlow;

use super::mutants::{Kernel, MutantRuntime, Mutation};
use super::*;
use crate::catalogue::OracleCache;
use crate::gate::{GatePlan, GateRow, GateSummary, run_gate};
use crate::tolerance::tolerance;

const GATHER: Variant = Variant { reduction: Reduction::Gather };
const ATOMIC: Variant = Variant { reduction: Reduction::Atomic };

#[test]
fn ids_are_unique_and_quick_is_part_of_full() {
    let (quick, full) = (cases(CaseSet::Quick), cases(CaseSet::Full));
    assert_eq!(full.iter().map(|c| c.id).collect::<BTreeSet<_>>().len(), full.len());
    assert!(quick.iter().all(|case| full.contains(case)));
}

#[test]
fn shapes_are_those_of_the_spec_and_values_those_of_the_seed() {
    for case in cases(CaseSet::Full) {
        let [a, b] = [0, 1].map(|seed| random_inputs(&case.spec, seed));
        assert_eq!((&a.row_ptr, &a.system_ptr), (&b.row_ptr, &b.system_ptr), "{}", case.id);
        assert_eq!(a, random_inputs(&case.spec, 0), "{}", case.id);
        assert_eq!((a.check(), a.n_systems()), (Ok(()), case.spec.systems.len()), "{}", case.id);
        assert_eq!(a == b, case.degenerate, "{}", case.id);
        assert!(a.n_edges() < 50_000, "{}: {} edges are too many for the oracle", case.id, a.n_edges());
    }
}

#[test]
fn orders_are_those_of_the_tolerance() {
    fn check<O: Scatter>() {
        assert_eq!(O::ORDER, O::TOLERANCE.number());
    }
    check::<ForceScatter>();
    check::<ForceScatterBackward>();
    check::<ForceScatterDoubleBackward>();
}

/// What cancels does so in the forces and in the strain.
#[test]
fn the_cancelling_case_cancels() {
    let case = cases(CaseSet::Quick).into_iter().find(|case| case.id == "cancellation").unwrap();
    let Oracle { outputs, magnitude } = forward(&random_inputs(&case.spec, 0)).unwrap();
    // Edges of the first row leave nothing of themselves; what is left is what its atom sends.
    let lost = outputs.forces.iter().zip(&magnitude.forces).filter(|(f, m)| f.abs() < 0.05 * **m).count();
    assert!(lost > 10, "{lost} forces");
    assert!(outputs.strain.iter().zip(&magnitude.strain).all(|(s, m)| s.abs() < 0.2 * m));
}

/// Every case tells right from wrong in each of its tensors, and is degenerate where it says so.
#[test]
fn every_case_discriminates() {
    fn check<O: Scatter + Gated<Spec = ScatterSpec, Oracle = Oracle<<O as Op>::Outputs>>>() {
        let mut cache = OracleCache::<O>::default();
        for case in cases(CaseSet::Full) {
            for seed in 0..3 {
                let evaluated = cache.get(&case, &GATHER, Dtype::F32, seed).unwrap();
                assert_eq!(O::discriminates(&evaluated.oracle, Dtype::F32), Ok(()), "{} {}", O::ORDER, case.id);
                let magnitude = O::tensors(&evaluated.oracle.magnitude);
                let nothing = magnitude.iter().all(|(_, values)| values.iter().all(|m| *m == 0.0));
                assert_eq!(nothing, case.degenerate, "{} {}", O::ORDER, case.id);
            }
        }
    }
    check::<ForceScatter>();
    check::<ForceScatterBackward>();
    check::<ForceScatterDoubleBackward>();
}

/// One tensor after the other is made wrong in one element; everything that the gate asks of outputs must notice.
#[test]
fn every_tensor_is_looked_at() {
    fn check<O: Scatter + Gated<Spec = ScatterSpec, Oracle = Oracle<<O as Op>::Outputs>>>() {
        let case = &cases(CaseSet::Quick)[1];
        let Evaluated { inputs, oracle } = O::evaluate(case, &GATHER, Dtype::F64, 0).unwrap();
        let right = O::map(&oracle.outputs, &mut |x| x);
        assert!(O::compare(&right, &oracle, Dtype::F64).is_ok());
        assert!(O::survivor(&O::poisoned(&inputs)).is_none());
        let (mut start, tol) = (0, tolerance(Dtype::F64, O::TOLERANCE));
        for ((tensor, values), (_, bounds)) in O::tensors(&right).into_iter().zip(O::tensors(&oracle.magnitude)) {
            // The largest element, which is not zero.
            let at = (0..values.len()).max_by(|a, b| values[*a].abs().total_cmp(&values[*b].abs())).unwrap();
            let change = |out: &O::Outputs, to: &dyn Fn(f64) -> f64| {
                let mut n = 0;
                O::map(out, &mut |x| {
                    n += 1;
                    if n == start + at + 1 { to(x) } else { x }
                })
            };
            let (value, bound) = (values[at], bounds[at]);
            for wrong in [f64::NAN, 0.0, -value, value + 2.0 * tol * (value.abs() + bound)] {
                let reason = O::compare(&change(&right, &|_| wrong), &oracle, Dtype::F64).unwrap_err();
                assert!(reason.reason().unwrap().contains(&format!("`{tensor}`")), "{reason:?}");
            }
            let last_bit = change(&right, &|x| f64::from_bits(x.to_bits() ^ 1));
            assert!(O::broken_promise(&GATHER, &right, &last_bit).unwrap().contains(tensor));
            assert_eq!(O::broken_promise(&ATOMIC, &right, &last_bit), None);
            assert!(O::survivor(&change(&O::poisoned(&inputs), &|_| 0.0)).is_some());
            start += values.len();
        }
    }
    check::<ForceScatter>();
    check::<ForceScatterBackward>();
    check::<ForceScatterDoubleBackward>();
}

fn gate<O: Kernel + Gated>(mutation: Option<Mutation>, cache: &mut OracleCache<O>, set: CaseSet) -> GateSummary {
    let plan = GatePlan { variants: &[GATHER, ATOMIC], dtypes: &Dtype::ALL, set, seeds: 3 };
    run_gate(&[&MutantRuntime::new(mutation)], &plan, cache, &mut |_| ControlFlow::Continue(()))
}

/// A kernel that does no more than round passes everything: the cases leave it room.
#[test]
fn the_right_kernels_pass_everything() {
    fn check<O: Kernel + Gated>() {
        let summary = gate::<O>(None, &mut OracleCache::default(), CaseSet::Full);
        let failure = summary.cases.iter().find(|row| row.verdict != "passed");
        assert_eq!(summary.failure(), None, "{failure:?}");
        assert!(summary.passed == summary.cases.len() && summary.cases.iter().all(|row| row.order == O::ORDER));
        // Kernels sum in other orders. One after the other, as here, the 20,000 edges of a system are off by 3e-6.
        let f32_rows = summary.cases.iter().filter(|row| row.dtype == Dtype::F32);
        let unfair: Vec<_> = f32_rows
            .filter(|row| row.rel_error.is_none_or(|error| error > 0.4 * tolerance(Dtype::F32, O::TOLERANCE)))
            .collect();
        assert!(unfair.is_empty(), "{unfair:?}");
    }
    check::<ForceScatter>();
    check::<ForceScatterBackward>();
    check::<ForceScatterDoubleBackward>();
}

#[test]
fn every_fault_is_caught() {
    fn check<O: Kernel + Gated>() {
        let mut cache = OracleCache::default();
        for mutation in Mutation::of_order(O::ORDER) {
            let summary = gate::<O>(Some(*mutation), &mut cache, CaseSet::Quick);
            for (variant, dtype) in [GATHER, ATOMIC].into_iter().flat_map(|v| Dtype::ALL.map(|d| (v, d))) {
                let caught = |r: &GateRow| r.variant == variant.id() && r.dtype == dtype && r.verdict == "failed";
                let noticed = summary.cases.iter().any(caught);
                assert!(noticed, "{mutation:?} went unnoticed in {variant} {dtype} of order {}", O::ORDER);
            }
        }
    }
    check::<ForceScatter>();
    check::<ForceScatterBackward>();
    check::<ForceScatterDoubleBackward>();
}
