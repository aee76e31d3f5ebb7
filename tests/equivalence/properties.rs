//! Properties of the kernels of every order over random inputs and launch parameters: the same code as the gate, on inputs
//! and configurations that nobody chose.

use ff_reference::Oracle;
use ff_reference::fused_message::forward;
use ff_spec::force_scatter::{Reduction, Variant};
use ff_spec::fused_message::Outputs;
use ff_spec::{
    Dtype, ForceScatter, ForceScatterBackward, ForceScatterDoubleBackward, FusedMessage, FusedMessageBackward,
    FusedMessageDoubleBackward, LaunchConfig, LaunchError, Op, Prepare, Runtime, RuntimeKind, VectorNorm,
    VectorNormBackward, VectorNormDoubleBackward, vector_norm,
};
use ff_testkit::force_scatter::strategies::scatter_spec;
use ff_testkit::fused_message::strategies::{backward_spec, case_spec, double_backward_spec};
use ff_testkit::fused_message::{rounded, strategies};
use ff_testkit::gate::{Gated, check, check_near};
use ff_testkit::launches::{Change, changed, changes};
use ff_testkit::tensors::{ByTensors, Forward as _, is_degenerate};
use ff_testkit::tolerance::cancels;
use ff_testkit::vector_norm::strategies::norm_spec;
use proptest::prelude::*;
use proptest::sample::select;

/// Launch parameters over the whole range a space may offer, and odd ones that no space would.
fn host_config() -> impl Strategy<Value = LaunchConfig> {
    (1..3000_u32, 1..200_u32, 1..300_u32)
        .prop_map(|(a, b, c)| LaunchConfig::from([("edges_per_task", a), ("edges_per_tile", b), ("channel_block", c)]))
}

fn dtype() -> impl Strategy<Value = Dtype> {
    select(&Dtype::ALL)
}

/// Whether there is a kernel of a variant: not every cutoff function is rendered with everything else.
fn is_rendered(variant: &ff_spec::fused_message::Variant) -> bool {
    ff_kernels::fused_message::find(variant).is_some()
}

fn variant() -> impl Strategy<Value = ff_spec::fused_message::Variant> {
    strategies::variant().prop_filter("a rendered variant", is_rendered)
}

fn host() -> Box<dyn Runtime> {
    ff_kernels::open(RuntimeKind::Host).expect("the host is always there")
}

/// Whether the gate will judge this case by the kernel: a single output is matched by a constant, which proves nothing, and
/// outputs whose terms cancel have an error that tells how the terms were rounded. proptest counts what is turned down
/// here and fails when it is most.
fn tells(oracle: &Oracle<Outputs<f64>>, dtype: Dtype) -> bool {
    let Oracle { outputs, magnitude } = oracle;
    let judged = || {
        FusedMessage::discriminates(oracle, dtype).is_ok()
            && !cancels(&outputs.nodes, &magnitude.nodes)
            && !cancels(&outputs.vectors, &magnitude.vectors)
    };
    is_degenerate::<FusedMessage>(oracle) || judged()
}

/// What a kernel is asked for: variant, dtype, case and seed.
type Asked<'a, O> = (&'a <O as Op>::Variant, Dtype, &'a <O as ByTensors>::Spec, u64);

/// A kernel on random inputs under a configuration. One that is refused, or a type that the device lacks, is turned down.
fn is_right<O: ByTensors>(
    runtime: &(dyn Runtime + 'static),
    (variant, dtype, spec, seed): Asked<'_, O>,
    config: impl FnOnce(&O::Inputs) -> LaunchConfig,
) -> Result<(), TestCaseError>
where
    dyn Runtime: Prepare<O>,
{
    let inputs = <O as ByTensors>::inputs(spec, variant, seed).expect("declared radial functions");
    let inputs = O::rounded(&inputs, dtype);
    let config = config(&inputs);
    let mut launch = match Prepare::<O>::prepare(runtime, variant, dtype, &inputs, &config) {
        Ok(launch) => launch,
        Err(error @ (LaunchError::Constraint(_) | LaunchError::Unsupported(_))) => {
            return Err(TestCaseError::reject(error.to_string()));
        }
        Err(error) => return Err(TestCaseError::fail(format!("{variant} {dtype} [{config}]: {error}"))),
    };
    let oracle = O::oracle(variant, &inputs).expect("the generator's inputs are valid");
    let verdict = check_near::<O>(launch.as_mut(), variant, dtype, &oracle);
    let kind = runtime.device().runtime;
    prop_assert!(verdict.passed(), "{kind} {variant} {dtype} order {} [{config}]: {verdict:?}", O::ORDER);
    Ok(())
}

/// The same on every runtime but the host, with its default configuration changed.
///
/// On a software adapter all but the number of groups of a cube that adds atomically: Mesa's Vulkan (22.3) loses the atomics of
/// a cube one of whose planes is idle, as are those of the groups behind the last edge.
fn is_right_on_devices<O: ByTensors>(asked: Asked<'_, O>, changes: &[Change]) -> Result<(), TestCaseError>
where
    dyn Runtime: Prepare<O>,
{
    let (variant, dtype, ..) = asked;
    for runtime in ff_tests::runtimes().iter().filter(|runtime| runtime.device().runtime != RuntimeKind::Host) {
        is_right::<O>(runtime.as_ref(), asked, |inputs| {
            let problem = O::forward(inputs).problem("property");
            let default = Prepare::<O>::default_config(runtime.as_ref(), variant, dtype, &problem);
            let mut config = changed(&default, changes);
            if let (true, Some(groups)) = (runtime.device().software, default.get("tiles_per_cube")) {
                config.0.insert("tiles_per_cube".to_owned(), groups);
            }
            config
        })?;
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn host_equals_the_oracle_under_any_configuration(
        (variant, inputs) in strategies::inputs().prop_filter("a rendered variant", |(variant, _)| is_rendered(variant)),
        config in host_config(),
        dtype in dtype(),
    ) {
        let runtime: Box<dyn Prepare> = host();
        let inputs = rounded(&inputs, dtype);
        let oracle = forward(&variant, &inputs).expect("the generator's inputs are valid");
        prop_assume!(tells(&oracle, dtype));
        let verdict = check::<FusedMessage>(runtime.as_ref(), &variant, dtype, &config, &inputs, &oracle);
        prop_assert!(verdict.passed(), "{variant} {dtype} {config}: {verdict:?}");
    }

    #[test]
    fn first_backwards_of_the_host_equal_the_oracle_under_any_configuration(
        (variant, dtype, spec, seed) in (variant(), dtype(), backward_spec(), any::<u64>()),
        config in host_config(),
    ) {
        is_right::<FusedMessageBackward>(host().as_ref(), (&variant, dtype, &spec, seed), |_| config)?;
    }

    #[test]
    fn second_backwards_of_the_host_equal_the_oracle_under_any_configuration(
        (variant, dtype, spec, seed) in (variant(), dtype(), double_backward_spec(), any::<u64>()),
        config in host_config(),
    ) {
        is_right::<FusedMessageDoubleBackward>(host().as_ref(), (&variant, dtype, &spec, seed), |_| config)?;
    }

    #[test]
    fn force_scatter_on_the_host_equals_the_oracle_in_every_order_under_any_configuration(
        (reduction, dtype, spec, seed) in (select(&Reduction::ALL), dtype(), scatter_spec(), any::<u64>()),
        edges_per_task in 1..3000_u32,
    ) {
        let (host, asked) = (host(), (&Variant { reduction }, dtype, &spec, seed));
        let config = LaunchConfig::from([("edges_per_task", edges_per_task)]);
        is_right::<ForceScatter>(host.as_ref(), asked, |_| config.clone())?;
        is_right::<ForceScatterBackward>(host.as_ref(), asked, |_| config.clone())?;
        is_right::<ForceScatterDoubleBackward>(host.as_ref(), asked, |_| config)?;
    }

    #[test]
    fn vector_norm_on_the_host_equals_the_oracle_in_every_order_under_any_configuration(
        (strategy, dtype, spec, seed) in (select(&vector_norm::Strategy::ALL), dtype(), norm_spec(), any::<u64>()),
        atoms_per_task in 1..60_u32,
    ) {
        let (host, asked) = (host(), (&vector_norm::Variant { strategy }, dtype, &spec, seed));
        let config = LaunchConfig::from([("atoms_per_task", atoms_per_task)]);
        is_right::<VectorNorm>(host.as_ref(), asked, |_| config.clone())?;
        is_right::<VectorNormBackward>(host.as_ref(), asked, |_| config.clone())?;
        is_right::<VectorNormDoubleBackward>(host.as_ref(), asked, |_| config)?;
    }
}

proptest! {
    // A software adapter compiles each kernel anew for each configuration and many are refused: fewer cases, and no more are
    // turned down than four for each that runs.
    #![proptest_config(ProptestConfig { cases: 16, max_global_rejects: 64, ..ProptestConfig::default() })]

    #[test]
    fn devices_equal_the_oracle_under_any_configuration(
        (variant, dtype, spec, seed) in (variant(), dtype(), case_spec(), any::<u64>()),
        changes in changes(),
    ) {
        is_right_on_devices::<FusedMessage>((&variant, dtype, &spec, seed), &changes)?;
    }

    #[test]
    fn first_backwards_of_devices_equal_the_oracle_under_any_configuration(
        (variant, dtype, spec, seed) in (variant(), dtype(), backward_spec(), any::<u64>()),
        changes in changes(),
    ) {
        is_right_on_devices::<FusedMessageBackward>((&variant, dtype, &spec, seed), &changes)?;
    }

    #[test]
    fn second_backwards_of_devices_equal_the_oracle_under_any_configuration(
        (variant, dtype, spec, seed) in (variant(), dtype(), double_backward_spec(), any::<u64>()),
        changes in changes(),
    ) {
        is_right_on_devices::<FusedMessageDoubleBackward>((&variant, dtype, &spec, seed), &changes)?;
    }

    #[test]
    fn force_scatter_on_devices_equals_the_oracle_in_every_order_under_any_configuration(
        (reduction, dtype, spec, seed) in (select(&Reduction::ALL), dtype(), scatter_spec(), any::<u64>()),
        changes in changes(),
    ) {
        let asked = (&Variant { reduction }, dtype, &spec, seed);
        // More units in f64 ask for more shared memory than `prepare` checks, and fail when they are launched.
        let most = if dtype == Dtype::F64 { 2 } else { 3 };
        let changes: Vec<Change> = changes.into_iter().map(|change| match change {
            Change::Scaled(power) => Change::Scaled(power.min(most)),
            Change::Kept => Change::Kept,
        }).collect();
        is_right_on_devices::<ForceScatter>(asked, &changes)?;
        is_right_on_devices::<ForceScatterBackward>(asked, &changes)?;
        is_right_on_devices::<ForceScatterDoubleBackward>(asked, &changes)?;
    }

    #[test]
    fn vector_norm_on_devices_equals_the_oracle_in_every_order_under_any_configuration(
        (strategy, dtype, spec, seed) in (select(&vector_norm::Strategy::ALL), dtype(), norm_spec(), any::<u64>()),
        changes in changes(),
    ) {
        let asked = (&vector_norm::Variant { strategy }, dtype, &spec, seed);
        // Vectors of more channels are refused wherever F is no multiple of them: most of all changes.
        let changes: Vec<Change> = changes.into_iter().map(|change| match change {
            Change::Scaled(power) => Change::Scaled(power.min(0)),
            Change::Kept => Change::Kept,
        }).collect();
        is_right_on_devices::<VectorNorm>(asked, &changes)?;
        is_right_on_devices::<VectorNormBackward>(asked, &changes)?;
        is_right_on_devices::<VectorNormDoubleBackward>(asked, &changes)?;
    }
}
