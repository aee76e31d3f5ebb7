//! Every variant on a water box, on host: `cargo bench -p ff-tests`. Times are of outputs that were just compared with the
//! oracle's; the other runtimes are timed by `forgefield tune`, with the device's own clock.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ff_reference::radial::{RadialKind, default_parameters};
use ff_spec::fused_message::{Activation, Filter, FilterKind, Inputs, Radial, Variant};
use ff_spec::{Dtype, Prepare, RuntimeKind};
use ff_structure::{MessageSpec, message_inputs, problems::water_box, random_linear, random_mlp};
use ff_testkit::fused_message::rounded;
use ff_testkit::gate::check_launch;

const FEATURES: usize = 128;
const N_BASIS: usize = 20;
const R_CUT: f64 = 5.0;

/// 64 molecules: small enough for the oracle, dense enough to be a liquid.
fn inputs(variant: &Variant) -> Inputs<f64> {
    let channels = variant.message.parts() * FEATURES;
    let (basis, cutoff) = variant.radial.clone().unwrap_or_else(|| ("gaussian".into(), "cosine".into()));
    let exact = Radial {
        r_cut: R_CUT,
        n_basis: N_BASIS,
        basis: default_parameters(&basis, RadialKind::Basis, R_CUT, N_BASIS).expect("declared functions"),
        cutoff: default_parameters(&cutoff, RadialKind::Cutoff, R_CUT, N_BASIS).expect("declared functions"),
    };
    let filter = match variant.filter {
        FilterKind::Mlp => random_mlp(N_BASIS, FEATURES, channels, Activation::ShiftedSoftplus, 0),
        FilterKind::Linear | FilterKind::Tabulated => random_linear(N_BASIS, channels, 0),
    };
    let water = water_box(64, 0);
    let build = |radial: Radial<f64>, filter: Filter<f64>| {
        let spec = MessageSpec { message: variant.message, features: FEATURES, radial, filter, seed: 0 };
        message_inputs(std::slice::from_ref(&water), R_CUT, &spec).expect("a built-in problem")
    };
    if variant.filter != FilterKind::Tabulated {
        return build(exact, filter);
    }
    let linear = Variant { filter: FilterKind::Linear, radial: Some((basis, cutoff)), ..variant.clone() };
    let table = ff_kernels::fused_message::tabulate(&linear, &build(exact, filter), 2, 1e-5).expect("within reach");
    build(Radial { r_cut: R_CUT, ..Radial::default() }, table.filter)
}

fn variants(c: &mut Criterion) {
    let runtime: Box<dyn Prepare> = ff_kernels::open(RuntimeKind::Host).expect("the host is always there");
    let mut group = c.benchmark_group("fused_message/water-64");
    group.sample_size(20);
    for registered in ff_kernels::fused_message::registered() {
        let variant = registered.variant();
        let inputs = rounded(&inputs(&variant), Dtype::F32);
        let config = runtime.default_config(&variant, Dtype::F32, &inputs.problem("water-64"));
        let mut launch = runtime.prepare(&variant, Dtype::F32, &inputs, &config).expect("prepares");
        let oracle = ff_reference::fused_message::forward(&variant, &inputs).expect("a valid problem");
        let verdict = check_launch(launch.as_mut(), &variant, Dtype::F32, &oracle);
        assert!(verdict.passed(), "{variant} is not timed: {verdict:?}");
        group.throughput(Throughput::Elements(inputs.n_edges() as u64));
        group.bench_function(registered.id, |b| b.iter(|| launch.run().expect("runs")));
    }
    group.finish();
}

criterion_group!(benches, variants);
criterion_main!(benches);
