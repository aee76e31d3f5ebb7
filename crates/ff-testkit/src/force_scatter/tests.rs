use std::collections::BTreeSet;

use ff_spec::Dtype;

use super::mutants::{Kernel, MutantRuntime, Mutation};
use super::*;
use crate::catalogue::OracleCache;
use crate::testing::{assert_cases_tell, assert_caught, assert_every_tensor_is_looked_at, assert_passes};
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
    fn check<O: ByTensors>() {
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

#[test]
fn every_case_discriminates() {
    assert_cases_tell::<ForceScatter>(&GATHER, 3);
    assert_cases_tell::<ForceScatterBackward>(&GATHER, 3);
    assert_cases_tell::<ForceScatterDoubleBackward>(&GATHER, 3);
}

#[test]
fn every_tensor_is_looked_at() {
    assert_every_tensor_is_looked_at::<ForceScatter>("batch", &GATHER, &ATOMIC);
    assert_every_tensor_is_looked_at::<ForceScatterBackward>("batch", &GATHER, &ATOMIC);
    assert_every_tensor_is_looked_at::<ForceScatterDoubleBackward>("batch", &GATHER, &ATOMIC);
}

/// A kernel that does no more than round passes everything: the cases leave it room.
#[test]
fn the_right_kernels_pass_everything() {
    fn check<O: Kernel>() {
        let summary = assert_passes::<O>(&MutantRuntime::new(None), &[GATHER, ATOMIC], &Dtype::ALL);
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
    fn check<O: Kernel>() {
        let mut cache = OracleCache::default();
        for mutation in Mutation::of_order(O::ORDER) {
            let runtime = MutantRuntime::new(Some(*mutation));
            assert_caught::<O>(&format!("{mutation:?}"), &runtime, &[GATHER, ATOMIC], &mut cache);
        }
    }
    check::<ForceScatter>();
    check::<ForceScatterBackward>();
    check::<ForceScatterDoubleBackward>();
}
