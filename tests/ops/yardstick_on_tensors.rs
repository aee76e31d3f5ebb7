//! The fused op and the composition on tensors, through the gate.

use ff_reference::fused_message::{backward as oracle, forward as forward_oracle};
use ff_spec::fused_message::{BackwardInputs, Reduction, Wanted};
use ff_spec::{Dtype, FusedMessage, FusedMessageBackward, RuntimeKind};
use ff_testkit::degrees::Degrees;
use ff_testkit::fused_message::CaseSpec;
use ff_testkit::fused_message::gradients::random_cotangents;
use ff_testkit::fused_message::small::{case, spec, variants};
use ff_testkit::gate::check_launch;
use ff_testkit::tensors::ByTensors;
use ff_yardstick::on_tensors::{Implementation, backward, forward};

/// The gate, on both implementations in both orders.
#[test]
fn both_pass_the_gate_on_host() {
    let spec = CaseSpec { degrees: Degrees::Uniform(9), ..spec() };
    for variant in variants("gaussian", "cosine", Reduction::EdgeAtomic) {
        for dtype in Dtype::ALL {
            let inputs = FusedMessage::rounded(&case(&spec, &variant), dtype);
            let wanted = if variant.radial.is_some() { Wanted::ALL } else { Wanted::INPUTS };
            let all = BackwardInputs { grad: random_cotangents(&inputs, 3), inputs: inputs.clone(), wanted };
            let all = FusedMessageBackward::rounded(&all, dtype);
            for implementation in [Implementation::Fused, Implementation::Unfused] {
                if implementation == Implementation::Unfused && variant.radial.is_none() {
                    assert!(forward(RuntimeKind::Host, implementation, &inputs, &variant, dtype).is_err());
                    assert!(backward(RuntimeKind::Host, implementation, &all, &variant, dtype).is_err());
                    continue;
                }
                let what = format!("{implementation:?} {variant} {dtype}");
                let mut launch = forward(RuntimeKind::Host, implementation, &inputs, &variant, dtype).unwrap();
                let expected = forward_oracle(&variant, &inputs).unwrap();
                let verdict = check_launch(launch.as_mut(), &variant, dtype, &expected);
                assert!(verdict.passed(), "{what}: {verdict:?}");
                let mut launch = backward(RuntimeKind::Host, implementation, &all, &variant, dtype).unwrap();
                let expected = oracle(&variant, &all).unwrap();
                let verdict = check_launch(launch.as_mut(), &variant, dtype, &expected);
                assert!(verdict.passed(), "{what}, backward: {verdict:?}");
            }
        }
    }
}
