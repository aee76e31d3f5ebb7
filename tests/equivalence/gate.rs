use std::collections::BTreeSet;
use std::ops::ControlFlow;

use ff_spec::fused_message::{Activation, FilterKind, Message, Reduction, Variant};
use ff_spec::{
    CellList, Dtype, ForceScatter, ForceScatterBackward, ForceScatterDoubleBackward, FusedMessage,
    FusedMessageBackward, FusedMessageDoubleBackward, LaunchError, Prepare, Runtime, RuntimeKind, VectorNorm,
    VectorNormBackward, VectorNormDoubleBackward,
};
use ff_testkit::catalogue::{CaseSet, OracleCache};
use ff_testkit::degrees::Degrees;
use ff_testkit::fused_message::{CaseSpec, Distances};
use ff_testkit::gate::{Failure, GatePlan, Gated, Verdict, check_launch, run_gate};

/// The quick catalogue of an op on some runtimes: what `forgefield verify` runs by default.
fn passes_on<O: Gated>(runtimes: &[Box<dyn Runtime>], variants: &[O::Variant])
where
    dyn Runtime: Prepare<O>,
{
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

/// On all runtimes of this machine.
fn passes<O: Gated>(variants: &[O::Variant])
where
    dyn Runtime: Prepare<O>,
{
    passes_on::<O>(&ff_tests::runtimes(), variants);
}

#[test]
fn every_variant_passes_the_gate() {
    let variants: Vec<_> = ff_kernels::fused_message::registered().iter().map(|r| r.variant()).collect();
    passes::<FusedMessage>(&variants);
}

fn radial_functions(variants: &[Variant]) -> BTreeSet<&str> {
    let pairs = variants.iter().filter_map(|variant| variant.radial.as_ref());
    pairs.flat_map(|(basis, cutoff)| [basis.as_str(), cutoff.as_str()]).collect()
}

/// A variant of every message, filter and reduction, each with the radial functions that those before it have least.
fn one_of_every_structure() -> Vec<Variant> {
    let rendered: Vec<Variant> = ff_kernels::fused_message::registered().iter().map(|r| r.variant()).collect();
    let mut chosen: Vec<Variant> = Vec::new();
    for message in Message::ALL {
        for filter in FilterKind::ALL {
            for reduction in Reduction::ALL {
                let alike: Vec<&Variant> = rendered
                    .iter()
                    .filter(|v| (v.message, v.filter, v.reduction) == (message, filter, reduction))
                    .collect();
                assert!(!alike.is_empty(), "{message:?} {filter:?} {reduction:?} was not rendered");
                let used = |variant: &Variant| {
                    let of = radial_functions(std::slice::from_ref(variant));
                    chosen
                        .iter()
                        .map(|v| radial_functions(std::slice::from_ref(v)).intersection(&of).count())
                        .sum::<usize>()
                };
                let next = alike.into_iter().min_by_key(|variant| used(variant)).expect("not empty").clone();
                chosen.push(next);
            }
        }
    }
    assert_eq!(radial_functions(&chosen), radial_functions(&rendered), "not every radial function has its turn");
    chosen
}

#[test]
fn first_backwards_of_every_structure_pass_the_gate_on_the_host() {
    let host = ff_kernels::open(RuntimeKind::Host).expect("the host is always there");
    passes_on::<FusedMessageBackward>(&[host], &one_of_every_structure());
}

#[test]
fn second_backwards_of_every_structure_pass_the_gate_on_the_host() {
    let host = ff_kernels::open(RuntimeKind::Host).expect("the host is always there");
    passes_on::<FusedMessageDoubleBackward>(&[host], &one_of_every_structure());
}

/// Their kernels are generic over the radial functions, each of which is in one of these.
#[test]
fn both_backwards_of_every_message_and_filter_pass_the_gate_on_devices() {
    let variants = [
        "cfconv_linear_expnorm_cosine_receiver",
        "cfconv_mlp_bessel_polynomial_receiver",
        "cfconv_tabulated_receiver",
        "painn_linear_gaussian_cosine_receiver",
        "painn_linear_bessel_mollifier_receiver",
        "painn_mlp_expnorm_polynomial_edge_atomic",
        "painn_tabulated_receiver",
    ]
    .map(|id| id.parse().expect("an id"));
    let mut devices = ff_tests::runtimes();
    devices.retain(|runtime| runtime.device().runtime != RuntimeKind::Host);
    if devices.is_empty() {
        println!("SKIPPED: there is no runtime but the host");
        return;
    }
    passes_on::<FusedMessageBackward>(&devices, &variants);
    passes_on::<FusedMessageDoubleBackward>(&devices, &variants);
}

/// A row of `long` edges is right, or refused on a software adapter, whose loops end early; returns whether it was.
fn is_right_or_refused<O: Gated<Variant = Variant>>(long: usize, set: impl Fn(&mut O::Spec, CaseSpec)) -> bool
where
    dyn Runtime: Prepare<O>,
{
    let variant: Variant = "cfconv_mlp_bessel_polynomial_receiver".parse().expect("an id");
    let mut case = O::cases(&variant, CaseSet::Quick).remove(0);
    let spec = CaseSpec {
        n_atoms: 2,
        features: 32,
        n_basis: 20,
        hidden: 64,
        activation: Activation::ShiftedSoftplus,
        table_order: 2,
        table_nodes: 2,
        r_cut: 5.0,
        degrees: Degrees::LongRow { long, short: 1 },
        distances: Distances::Inside,
    };
    set(&mut case.spec, spec);
    let evaluated = O::evaluate(&case, &variant, Dtype::F32, 0).expect("valid sizes");
    let mut refused = false;
    let problem = O::problem("long", &evaluated);
    for runtime in ff_tests::runtimes() {
        let config = Prepare::<O>::default_config(runtime.as_ref(), &variant, Dtype::F32, &problem);
        let launch = Prepare::<O>::prepare(runtime.as_ref(), &variant, Dtype::F32, &evaluated.inputs, &config);
        let verdict = match launch {
            Ok(mut launch) => check_launch(launch.as_mut(), &variant, Dtype::F32, &evaluated.oracle),
            Err(error) => error.into(),
        };
        match &verdict {
            Verdict::Failed(Failure::Fault(LaunchError::Constraint(reason))) if runtime.device().software => {
                assert!(reason.contains("turns"), "{reason}");
                refused = true;
            }
            _ => assert!(verdict.passed(), "{} {long} edges, order {}: {verdict:?}", runtime.device().name, O::ORDER),
        }
    }
    refused
}

#[test]
fn a_long_row_is_right_or_refused() {
    for long in [400, 900, 2_000, 12_000] {
        let refused = [
            is_right_or_refused::<FusedMessage>(long, |case, spec| *case = spec),
            is_right_or_refused::<FusedMessageBackward>(long, |case, spec| case.forward = spec),
            is_right_or_refused::<FusedMessageDoubleBackward>(long, |case, spec| case.forward = spec),
        ];
        assert!(long > 400 || !refused.contains(&true), "{refused:?}");
        println!("{long} edges: refused in software in orders 0, 1, 2: {refused:?}");
    }
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

#[test]
fn every_vector_norm_passes_the_gate_in_every_order() {
    let variants: Vec<_> = ff_kernels::vector_norm::registered().iter().map(|r| r.variant()).collect();
    passes::<VectorNorm>(&variants);
    passes::<VectorNormBackward>(&variants);
    passes::<VectorNormDoubleBackward>(&variants);
}
