//! Tables say how wrong they are: sampled segments against the oracle's exact filter.

use ff_kernels::fused_message::tabulate;
use ff_reference::fused_message::forward;
use ff_spec::Dtype;
use ff_spec::fused_message::{FilterKind, Variant};
use ff_testkit::catalogue::CaseSet;
use ff_testkit::fused_message::cases;
use ff_testkit::tolerance::{Order, tolerance};

#[test]
fn a_table_keeps_its_tolerance_and_no_more_segments_than_it_needs() {
    for exact in ff_kernels::fused_message::registered().iter().filter(|r| r.filter != FilterKind::Tabulated) {
        let variant = exact.variant();
        let case = cases(CaseSet::Quick).remove(0);
        let inputs = case.inputs(&variant, Dtype::F64, 0).expect("a catalogue case");
        let tabulated: Variant = format!("{}_tabulated_{}", variant.message.name(), variant.reduction.name())
            .parse()
            .expect("every message has a tabulated variant");
        let want = forward(&variant, &inputs).expect("a catalogue case");
        let mut nodes = Vec::new();
        for (order, asked) in [(2, 1e-4), (2, 1e-6), (3, 1e-6), (3, 1e-9)] {
            let table = tabulate(&variant, &inputs, order, asked).expect("within reach of a table");
            assert!(table.rel_error <= asked);
            let ff_spec::fused_message::Filter::Tabulated { n_nodes, .. } = &table.filter else {
                panic!("a table was asked for")
            };
            nodes.push(*n_nodes);
            let mut sampled = inputs.clone();
            sampled.radial = ff_spec::fused_message::Radial { r_cut: inputs.radial.r_cut, ..Default::default() };
            sampled.filter = table.filter;
            let got = forward(&tabulated, &sampled).expect("the same inputs with a table");
            // The stated error is relative to the largest filter value; messages add up at most their magnitudes, and
            // the points it was measured at are not the edges': a factor of four covers what lies between.
            let scale = want.magnitude.nodes.iter().copied().fold(0.0, f64::max);
            for (got, want) in got.outputs.nodes.iter().zip(&want.outputs.nodes) {
                assert!((got - want).abs() <= 4.0 * asked * scale, "{variant} order {order} asked {asked:e}");
            }
        }
        assert!(nodes[0] < nodes[1], "a tighter tolerance takes more cubic segments: {nodes:?}");
        assert!(nodes[2] < nodes[1], "quintic segments are fewer at the same tolerance: {nodes:?}");
        assert!(tolerance(Dtype::F32, Order::Forward) > 1e-9, "the finest table is beyond what f32 resolves");
    }
}
