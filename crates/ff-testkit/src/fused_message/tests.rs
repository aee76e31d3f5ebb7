use std::collections::BTreeSet;

use ff_spec::fused_message::Filter;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::catalogue::OracleCache;
use crate::tensors::is_degenerate;
use crate::tolerance::compare;

fn variants() -> Vec<Variant> {
    [
        "cfconv_linear_gaussian_cosine_receiver",
        "painn_mlp_bessel_polynomial_receiver",
        "painn_tabulated_receiver",
        "cfconv_linear_expnorm_polynomial_edge_atomic",
    ]
    .map(|id| id.parse().unwrap())
    .to_vec()
}

#[test]
fn ids_are_unique_and_quick_is_part_of_full() {
    let (quick, full) = (cases(CaseSet::Quick), cases(CaseSet::Full));
    assert_eq!(full.iter().map(|c| c.id).collect::<BTreeSet<_>>().len(), full.len());
    assert!(quick.iter().all(|case| full.contains(case)));
}

#[test]
fn every_case_is_what_its_flag_says() {
    let mut cache = OracleCache::<FusedMessage>::default();
    for variant in variants() {
        for case in cases(CaseSet::Full) {
            let evaluated = cache.get(&case, &variant, Dtype::F32, 0).unwrap();
            assert_eq!(is_degenerate::<FusedMessage>(&evaluated.oracle), case.degenerate, "{} of {variant}", case.id);
            let work =
                evaluated.inputs.n_edges() * evaluated.inputs.channels() * case.spec.n_basis.max(case.spec.hidden);
            assert!(work < 50_000_000, "{}: {work} multiplications are too many for the oracle", case.id);
        }
    }
}

/// A kernel in f32 computes, at best, the exact result of inputs that are a rounding error away. Cases must leave it
/// room: this is what the tolerances, the norm and the magnitudes are for.
#[test]
fn a_rounding_error_in_every_input_passes() {
    let mut cache = OracleCache::<FusedMessage>::default();
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    for variant in variants() {
        for case in cases(CaseSet::Full) {
            let evaluated = cache.get(&case, &variant, Dtype::F32, 0).unwrap();
            let mut inputs = evaluated.inputs.clone();
            let mut perturb = |values: &mut Vec<f64>| {
                let epsilon = f64::from(f32::EPSILON);
                values.iter_mut().for_each(|x| *x *= 1.0 + epsilon * rng.random_range(-1.0..1.0));
            };
            perturb(&mut inputs.edge_vec);
            perturb(&mut inputs.nodes);
            perturb(&mut inputs.vectors);
            inputs.radial.basis.values_mut().for_each(&mut perturb);
            match &mut inputs.filter {
                Filter::Linear { a, b } => [a, b].into_iter().for_each(perturb),
                Filter::Mlp { a1, b1, a2, b2, .. } => [a1, b1, a2, b2].into_iter().for_each(perturb),
                Filter::Tabulated { values, .. } => perturb(values),
            }
            let out = forward(&variant, &inputs).unwrap().outputs;
            let Oracle { outputs, magnitude } = &evaluated.oracle;
            for (out, reference, magnitude) in
                [(&out.nodes, &outputs.nodes, &magnitude.nodes), (&out.vectors, &outputs.vectors, &magnitude.vectors)]
            {
                let found = compare(Dtype::F32, Order::Forward, out, reference, magnitude);
                assert!(found.passed, "{} of {variant}: {found:?}", case.id);
                // Kernels round more than once: a case that leaves less than this is unfair.
                assert!(found.rel_error < 2e-6, "{} of {variant}: {found:?}", case.id);
            }
        }
    }
}
