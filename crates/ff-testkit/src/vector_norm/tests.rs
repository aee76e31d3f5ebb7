use std::collections::BTreeSet;

use ff_spec::Dtype;
use ff_spec::vector_norm::Strategy;

use super::mutants::{Kernel, MutantRuntime, Mutation};
use super::*;
use crate::catalogue::OracleCache;
use crate::testing::{assert_cases_tell, assert_caught, assert_every_tensor_is_looked_at, assert_passes, gate};
use crate::tolerance::tolerance;

const ONE: Variant = Variant { strategy: Strategy::Channelwise };
const ORDERS: [Order; 3] = [Order::Forward, Order::First, Order::Second];

#[test]
fn ids_are_unique_and_quick_is_part_of_full() {
    for order in ORDERS {
        let (quick, full) = (cases(order, CaseSet::Quick), cases(order, CaseSet::Full));
        assert_eq!(full.iter().map(|c| c.id).collect::<BTreeSet<_>>().len(), full.len());
        assert!(quick.iter().all(|case| full.contains(case)));
    }
}

#[test]
fn shapes_are_those_of_the_spec_and_values_those_of_the_seed() {
    for case in cases(Order::Second, CaseSet::Full) {
        let [a, b] = [0, 1].map(|seed| random_inputs(&case.spec, seed));
        assert_eq!(a, random_inputs(&case.spec, 0), "{}", case.id);
        assert_eq!((a.check(), a.n_atoms, a.features), (Ok(()), case.spec.n_atoms, case.spec.features), "{}", case.id);
        assert_eq!(a == b, a.vectors.iter().all(|x| *x == 0.0), "{}", case.id);
        let twice = VectorNormDoubleBackward::inputs(&case.spec, &ONE, 0).unwrap();
        assert_eq!(twice.check(), Ok(()), "{}", case.id);
    }
}

#[test]
fn orders_are_those_of_the_tolerance() {
    fn check<O: ByTensors>() {
        assert_eq!(O::ORDER, O::TOLERANCE.number());
    }
    check::<VectorNorm>();
    check::<VectorNormBackward>();
    check::<VectorNormDoubleBackward>();
}

#[test]
fn every_case_discriminates() {
    assert_cases_tell::<VectorNorm>(&ONE, 3);
    assert_cases_tell::<VectorNormBackward>(&ONE, 3);
    assert_cases_tell::<VectorNormDoubleBackward>(&ONE, 3);
}

#[test]
fn every_tensor_is_looked_at() {
    assert_every_tensor_is_looked_at::<VectorNorm>("small", &ONE, None);
    assert_every_tensor_is_looked_at::<VectorNormBackward>("small", &ONE, None);
    assert_every_tensor_is_looked_at::<VectorNormDoubleBackward>("small", &ONE, None);
}

/// What cancels does so where t is along V, and ε is what the norm is made of where V is far below it.
#[test]
fn cases_are_what_their_names_say() {
    let of = |id: &str| {
        let case = cases(Order::Second, CaseSet::Quick).into_iter().find(|case| case.id == id).unwrap();
        VectorNormDoubleBackward::inputs(&case.spec, &ONE, 0).unwrap()
    };
    let along = of("along");
    let Oracle { outputs, magnitude } = double_backward(&along).unwrap();
    let lost = outputs.vectors.iter().zip(&magnitude.vectors).filter(|(v, m)| v.abs() < 1e-5 * **m).count();
    assert!((250..350).contains(&lost), "{lost} of {} gradients", outputs.vectors.len());
    let below = forward(&of("below_epsilon").inputs).unwrap().outputs.norm;
    assert!(below.iter().all(|n| (1.0..1.05).contains(&(n * n / EPSILON))), "{below:?}");
    let huge = forward(&of("huge").inputs).unwrap().outputs.norm;
    assert!(huge.iter().all(|n| n * n < f64::from(f32::MAX)));
    assert!(huge.iter().filter(|n| n.powi(3) > f64::from(f32::MAX)).count() > 50, "{huge:?}");
}

/// A kernel that does no more than round passes everything: the cases leave it room.
#[test]
fn the_right_kernels_pass_everything() {
    fn check<O: Kernel>() {
        let summary = assert_passes::<O>(&MutantRuntime::new(None), &[ONE], &Dtype::ALL);
        let unfair: Vec<_> = summary
            .cases
            .iter()
            .filter(|row| row.rel_error.is_none_or(|error| error > 0.4 * tolerance(row.dtype, O::TOLERANCE)))
            .collect();
        assert!(unfair.is_empty(), "{unfair:?}");
    }
    check::<VectorNorm>();
    check::<VectorNormBackward>();
    check::<VectorNormDoubleBackward>();
}

#[test]
fn every_fault_is_caught() {
    fn check<O: Kernel>() {
        let mut cache = OracleCache::default();
        for mutation in Mutation::of_order(O::ORDER) {
            assert_caught::<O>(&format!("{mutation:?}"), &MutantRuntime::new(Some(mutation)), &[ONE], &mut cache);
        }
    }
    check::<VectorNorm>();
    check::<VectorNormBackward>();
    check::<VectorNormDoubleBackward>();
}

/// The ids of the quick cases that a fault fails in f32.
fn failing<O: Kernel>(mutation: Mutation) -> BTreeSet<String> {
    let runtime = MutantRuntime::new(Some(mutation));
    let summary = gate::<O>(&runtime, &[ONE], &[Dtype::F32], CaseSet::Quick, &mut OracleCache::default());
    summary.cases.into_iter().filter(|row| row.verdict == "failed").map(|row| row.case).collect()
}

/// Each of the odd cases is there for a fault that no ordinary one shows in f32.
#[test]
fn odd_cases_find_what_others_cannot() {
    let ids = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect::<BTreeSet<_>>();
    for fault in [Mutation::EpsilonForgotten, Mutation::EpsilonPerAxis, Mutation::EpsilonOutside] {
        assert_eq!(failing::<VectorNorm>(fault), ids(&["below_epsilon"]), "{fault:?}");
    }
    assert_eq!(failing::<VectorNormBackward>(Mutation::EpsilonForgotten), ids(&["below_epsilon", "zero"]));
    assert_eq!(failing::<VectorNormDoubleBackward>(Mutation::Cubed), ids(&["huge"]));
}
