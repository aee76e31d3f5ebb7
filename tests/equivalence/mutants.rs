//! The gate must bite: real kernels of every order with a fault put around them, on every runtime of this machine.

use std::ops::ControlFlow;

use ff_spec::{
    Dtype, ForceScatter, ForceScatterBackward, ForceScatterDoubleBackward, FusedMessage, FusedMessageBackward,
    FusedMessageDoubleBackward, Prepare, Runtime, RuntimeKind, VectorNorm, VectorNormBackward,
    VectorNormDoubleBackward, force_scatter, fused_message, vector_norm,
};
use ff_testkit::catalogue::{CaseSet, OracleCache};
use ff_testkit::faults::{Fault, mutate};
use ff_testkit::force_scatter::mutants as scatters;
use ff_testkit::fused_message::{gradients, mutants};
use ff_testkit::gate::{GatePlan, GateSummary, run_gate};
use ff_testkit::tensors::ByTensors;
use ff_testkit::vector_norm::mutants as norms;

/// The gate of a variant on one runtime, up to its first failure.
fn gate<O: ByTensors, R: Prepare<O> + ?Sized>(
    runtime: &R,
    variant: &O::Variant,
    cache: &mut OracleCache<O>,
) -> GateSummary {
    let plan =
        GatePlan::<O> { variants: std::slice::from_ref(variant), dtypes: &[Dtype::F32], set: CaseSet::Quick, seeds: 3 };
    run_gate(&[runtime], &plan, cache, &mut |row| match row.verdict.as_str() {
        "failed" => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    })
}

/// Each variant passes as it is and fails with any of its faults. On a device, where every kernel is compiled first, this is
/// shown of the first few.
fn faults_are_caught<O: ByTensors, F: Fault<O>>(
    variants: &[O::Variant],
    on_devices: usize,
    faults: impl Fn(&O::Variant) -> Vec<F>,
) where
    dyn Runtime: Prepare<O>,
{
    let mut cache = OracleCache::default();
    for kind in ff_tests::runtimes().iter().map(|runtime| runtime.device().runtime) {
        let open = || ff_kernels::open(kind).expect("it was just opened");
        let shown = if kind == RuntimeKind::Host { variants.len() } else { on_devices };
        for variant in &variants[..shown] {
            let place = format!("{variant} of order {} on {kind}", O::ORDER);
            assert_eq!(gate::<O, _>(open().as_ref(), variant, &mut cache).failure(), None, "{place}");
            let faults = faults(variant);
            assert!(!faults.is_empty(), "{place}");
            for fault in faults {
                let runtime = mutate::<O, dyn Runtime, F>(open(), fault);
                let summary = gate::<O, _>(runtime.as_ref(), variant, &mut cache);
                assert_eq!(summary.failed, 1, "{fault:?} passed the gate in {place}");
            }
        }
    }
}

fn variants<const N: usize>(ids: [&str; N]) -> [fused_message::Variant; N] {
    ids.map(|id| id.parse().expect("these were rendered"))
}

#[test]
fn every_fault_of_a_forward_is_caught() {
    let variants = variants(["painn_linear_gaussian_cosine_receiver", "cfconv_mlp_bessel_polynomial_receiver"]);
    faults_are_caught::<FusedMessage, _>(&variants, 2, |_| mutants::Mutation::ALL.to_vec());
}

/// Both messages, every filter, both reductions.
const DERIVATIVES: [&str; 4] = [
    "painn_linear_gaussian_cosine_receiver",
    "cfconv_linear_bessel_polynomial_edge_atomic",
    "cfconv_mlp_expnorm_cosine_receiver",
    "painn_tabulated_receiver",
];

fn concerning(variant: &fused_message::Variant) -> Vec<gradients::mutants::Mutation> {
    gradients::mutants::Mutation::ALL.into_iter().filter(|fault| fault.concerns(variant)).collect()
}

#[test]
fn every_fault_of_a_first_backward_is_caught() {
    faults_are_caught::<FusedMessageBackward, _>(&variants(DERIVATIVES), 1, concerning);
}

#[test]
fn every_fault_of_a_second_backward_is_caught() {
    faults_are_caught::<FusedMessageDoubleBackward, _>(&variants(DERIVATIVES), 1, concerning);
}

#[test]
fn every_fault_of_force_scatter_is_caught_in_every_order() {
    let variants = force_scatter::Reduction::ALL.map(|reduction| force_scatter::Variant { reduction });
    let faults = |order| move |_: &force_scatter::Variant| scatters::Mutation::of_order(order).to_vec();
    faults_are_caught::<ForceScatter, _>(&variants, 2, faults(0));
    faults_are_caught::<ForceScatterBackward, _>(&variants, 2, faults(1));
    faults_are_caught::<ForceScatterDoubleBackward, _>(&variants, 2, faults(2));
}

#[test]
fn every_fault_of_vector_norm_is_caught_in_every_order() {
    let variants = vector_norm::Strategy::ALL.map(|strategy| vector_norm::Variant { strategy });
    let faults = |order| move |_: &vector_norm::Variant| norms::Mutation::of_order(order);
    faults_are_caught::<VectorNorm, _>(&variants, 1, faults(0));
    faults_are_caught::<VectorNormBackward, _>(&variants, 1, faults(1));
    faults_are_caught::<VectorNormDoubleBackward, _>(&variants, 1, faults(2));
}
