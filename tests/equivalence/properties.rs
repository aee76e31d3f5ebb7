//! Properties of the kernels over random inputs: the same code as the gate, on inputs nobody chose.

use ff_reference::Oracle;
use ff_reference::fused_message::forward;
use ff_spec::fused_message::Outputs;
use ff_spec::{Dtype, FusedMessage, LaunchConfig, Prepare, RuntimeKind};
use ff_testkit::gate::{Gated, check};
use ff_testkit::generators::{rounded, strategies};
use ff_testkit::tensors::is_degenerate;
use ff_testkit::tolerance::cancels;
use proptest::prelude::*;

/// Launch parameters over the whole range a space may offer, and odd ones that no space would.
fn host_config() -> impl Strategy<Value = LaunchConfig> {
    (1..3000_u32, 1..200_u32, 1..300_u32)
        .prop_map(|(a, b, c)| LaunchConfig::from([("edges_per_task", a), ("edges_per_tile", b), ("channel_block", c)]))
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

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn host_equals_the_oracle_under_any_configuration(
        (variant, inputs) in strategies::inputs(),
        config in host_config(),
        f64 in any::<bool>(),
    ) {
        let dtype = if f64 { Dtype::F64 } else { Dtype::F32 };
        let runtime = ff_kernels::open(RuntimeKind::Host).expect("the host is always there");
        let inputs = rounded(&inputs, dtype);
        let oracle = forward(&variant, &inputs).expect("the generator's inputs are valid");
        prop_assume!(tells(&oracle, dtype));
        let verdict = check::<FusedMessage>(runtime.as_ref(), &variant, dtype, &config, &inputs, &oracle);
        prop_assert!(verdict.passed(), "{variant} {dtype} {config}: {verdict:?}");
    }
}

proptest! {
    // A software adapter compiles each kernel anew for each shape: fewer cases, default configuration.
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn other_runtimes_equal_the_oracle((variant, inputs) in strategies::inputs()) {
        let inputs = rounded(&inputs, Dtype::F32);
        let oracle = forward(&variant, &inputs).expect("the generator's inputs are valid");
        prop_assume!(tells(&oracle, Dtype::F32));
        for runtime in ff_tests::runtimes() {
            let runtime: &dyn Prepare = runtime.as_ref();
            let config = runtime.default_config(&variant, Dtype::F32, &inputs.problem("property"));
            let verdict = check::<FusedMessage>(runtime, &variant, Dtype::F32, &config, &inputs, &oracle);
            prop_assert!(verdict.passed(), "{} {variant}: {verdict:?}", runtime.device().runtime);
        }
    }
}
