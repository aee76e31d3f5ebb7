//! Problems whose features exceed a cache: the host kernel takes receivers in an order of its own there.

use ff_kernels::fused_message::host::{Call, ReceiverOrder};
use ff_kernels::fused_message::{find, host_call, host_config};
use ff_reference::fused_message::{backward, forward};
use ff_spec::fused_message::{Activation, BackwardInputs, DoubleBackwardInputs, Inputs, Variant, Wanted};
use ff_spec::{Dtype, FusedMessage, FusedMessageBackward, FusedMessageDoubleBackward, Prepare, Problem, RuntimeKind};
use ff_testkit::degrees::Degrees;
use ff_testkit::fused_message::gradients::{random_cotangents, random_tangent};
use ff_testkit::fused_message::{CaseSpec, Distances, random_inputs, rounded};
use ff_testkit::gate::check;
use ff_testkit::tensors::ByTensors;

fn specs() -> Vec<CaseSpec> {
    let base = CaseSpec {
        n_atoms: 3_000,
        features: 33,
        n_basis: 6,
        hidden: 7,
        activation: Activation::ShiftedSoftplus,
        table_order: 3,
        table_nodes: 17,
        r_cut: 5.0,
        degrees: Degrees::EmptyRows(5),
        distances: Distances::Skin,
    };
    vec![
        CaseSpec { degrees: Degrees::PowerLaw { max: 700, exponent: 0.7 }, ..base.clone() },
        CaseSpec { degrees: Degrees::LongRow { long: 4_000, short: 1 }, ..base.clone() },
        base,
    ]
}

fn host() -> Box<dyn Prepare<FusedMessage>> {
    ff_kernels::open(RuntimeKind::Host).expect("the host is always there")
}

#[test]
fn receivers_in_any_order_pass_the_gate() {
    for id in
        ["painn_linear_gaussian_cosine_receiver", "painn_tabulated_receiver", "painn_linear_bessel_cosine_edge_atomic"]
    {
        let variant: Variant = id.parse().expect("an id");
        for (spec, dtype) in specs().iter().flat_map(|spec| Dtype::ALL.map(|dtype| (spec, dtype))) {
            let inputs = rounded(&random_inputs(spec, &variant, 7).expect("valid sizes"), dtype);
            assert!((inputs.nodes.len() + inputs.vectors.len()) * dtype.size() > 2 << 20, "too small to be ordered");
            let oracle = forward(&variant, &inputs).expect("valid inputs");
            let config = host().default_config(&variant, dtype, &inputs.problem("many"));
            let verdict = check::<FusedMessage>(host().as_ref(), &variant, dtype, &config, &inputs, &oracle);
            assert!(verdict.passed(), "{variant} {dtype} {:?}: {verdict:?}", spec.degrees);
        }
    }
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    let variant: Variant = "painn_linear_gaussian_cosine_receiver".parse().expect("an id");
    // One problem that is ordered and cut into many tasks, and one that is neither.
    let small = CaseSpec { n_atoms: 20, degrees: Degrees::Uniform(19), ..specs().remove(0) };
    for spec in [specs().remove(0), small] {
        let inputs = rounded(&random_inputs(&spec, &variant, 3).expect("valid sizes"), Dtype::F32);
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
            pool.install(|| {
                let config = host().default_config(&variant, Dtype::F32, &inputs.problem("threads"));
                let mut launch = host().prepare(&variant, Dtype::F32, &inputs, &config).expect("prepares");
                launch.run().expect("runs");
                let outputs = launch.outputs().expect("outputs");
                outputs.nodes.iter().chain(&outputs.vectors).map(|x| x.to_bits()).collect::<Vec<u64>>()
            })
        };
        let one = run(1);
        assert!(one.iter().any(|bits| *bits != 0));
        assert!(run(2) == one && run(5) == one, "{} atoms", spec.n_atoms);
    }
}

/// The same of both backwards, whose weight gradients are sums over all edges.
#[test]
fn the_number_of_threads_changes_no_bit_of_gradients() {
    fn same_bits<O: ByTensors<Variant = Variant>>(
        host: fn() -> Box<dyn Prepare<O>>,
        variant: &Variant,
        inputs: &O::Inputs,
        problem: &Problem,
    ) where
        O::Inputs: Sync,
    {
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
            pool.install(|| {
                let config = host().default_config(variant, Dtype::F32, problem);
                let mut launch = host().prepare(variant, Dtype::F32, inputs, &config).expect("prepares");
                launch.run().expect("runs");
                let outputs = launch.outputs().expect("outputs");
                let all = O::tensors(&outputs).into_iter();
                all.flat_map(|(_, values)| values.iter().map(|x| x.to_bits()).collect::<Vec<u64>>()).collect::<Vec<_>>()
            })
        };
        let one = run(1);
        assert!(one.iter().any(|bits| *bits != 0));
        assert!(run(2) == one && run(5) == one, "order {} of {variant}", O::ORDER);
    }
    fn opened() -> Box<dyn Prepare<FusedMessageBackward>> {
        ff_kernels::open(RuntimeKind::Host).expect("the host is always there")
    }
    fn opened_twice() -> Box<dyn Prepare<FusedMessageDoubleBackward>> {
        ff_kernels::open(RuntimeKind::Host).expect("the host is always there")
    }
    for id in ["painn_linear_gaussian_cosine_receiver", "cfconv_mlp_bessel_cosine_receiver"] {
        let variant: Variant = id.parse().expect("an id");
        // Many tasks for every thread.
        let spec =
            CaseSpec { n_atoms: 600, degrees: Degrees::PowerLaw { max: 300, exponent: 0.7 }, ..specs().remove(0) };
        let inputs = random_inputs(&spec, &variant, 3).expect("valid sizes");
        let problem = inputs.problem("threads");
        let (grad, tangent) = (random_cotangents(&inputs, 3), random_tangent(&inputs, true, 3));
        let first = BackwardInputs { inputs: inputs.clone(), grad: grad.clone(), wanted: Wanted::ALL };
        let first = FusedMessageBackward::rounded(&first, Dtype::F32);
        same_bits::<FusedMessageBackward>(opened, &variant, &first, &problem);
        let second = FusedMessageDoubleBackward::rounded(&DoubleBackwardInputs { inputs, grad, tangent }, Dtype::F32);
        same_bits::<FusedMessageDoubleBackward>(opened_twice, &variant, &second, &problem);
    }
}

/// Every choice of gradients passes the gate by itself: what nobody asked for is no part of another's computation.
#[test]
fn gradients_that_are_wanted_alone_are_right() {
    let spec = CaseSpec { n_atoms: 40, degrees: Degrees::EmptyRows(9), ..specs().remove(0) };
    let choices = (1..8_u8).map(|bits| Wanted { nodes: bits & 1 != 0, edge_vec: bits & 2 != 0, filter: bits & 4 != 0 });
    let judge = |runtime: &dyn Prepare<FusedMessageBackward>, variant: &Variant, dtype: Dtype, wanted: Wanted| {
        let inputs = random_inputs(&spec, variant, 5).expect("valid sizes");
        let grad = random_cotangents(&inputs, 5);
        let all = FusedMessageBackward::rounded(&BackwardInputs { inputs, grad, wanted }, dtype);
        let oracle = backward(variant, &all).expect("valid inputs");
        let config = runtime.default_config(variant, dtype, &all.inputs.problem("wanted"));
        let verdict = check::<FusedMessageBackward>(runtime, variant, dtype, &config, &all, &oracle);
        assert!(verdict.passed(), "{variant} {dtype} {wanted:?}: {verdict:?}");
    };
    let host: Box<dyn Prepare<FusedMessageBackward>> = ff_kernels::open(RuntimeKind::Host).expect("always there");
    for id in [
        "painn_linear_gaussian_cosine_receiver",
        "painn_mlp_bessel_cosine_edge_atomic",
        "cfconv_mlp_expnorm_polynomial_receiver",
    ] {
        let variant: Variant = id.parse().expect("an id");
        for wanted in choices.clone() {
            Dtype::ALL.into_iter().for_each(|dtype| judge(host.as_ref(), &variant, dtype, wanted));
        }
    }
    match ff_kernels::open(RuntimeKind::Vulkan) {
        Ok(runtime) => {
            let vulkan: Box<dyn Prepare<FusedMessageBackward>> = runtime;
            let variant: Variant = "cfconv_linear_gaussian_cosine_receiver".parse().expect("an id");
            for wanted in choices {
                judge(vulkan.as_ref(), &variant, Dtype::F32, wanted);
            }
        }
        Err(error) => println!("not tested on a GPU: {error}"),
    }
}

/// The bits of a painn message with a Gaussian linear filter.
fn message(inputs: &Inputs<f32>, order: Option<&ReceiverOrder>) -> Vec<u32> {
    let variant: Variant = "painn_linear_gaussian_cosine_receiver".parse().expect("an id");
    let registered = find(&variant).expect("rendered");
    let config = host().default_config(&variant, Dtype::F32, &inputs.problem("order"));
    let call = Call { order, ..host_call(registered, inputs) };
    let mut outputs = inputs.poisoned_outputs();
    registered.stages().forward(&call, &host_config(&config).expect("a host configuration"), &mut outputs);
    outputs.nodes.iter().chain(&outputs.vectors).map(|x| x.to_bits()).collect()
}

fn inputs(spec: &CaseSpec) -> Inputs<f32> {
    let variant: Variant = "painn_linear_gaussian_cosine_receiver".parse().expect("an id");
    random_inputs(spec, &variant, 5).expect("valid sizes").cast()
}

#[test]
fn an_order_kept_between_calls_changes_no_bit() {
    let mut inputs = inputs(&specs()[0]);
    let (order, found) = (ReceiverOrder::default(), message(&inputs, None));
    assert!(message(&inputs, Some(&order)) == found, "the call that finds it");
    assert!(message(&inputs, Some(&order)) == found, "a call that reads it");
    // The next step of dynamics: the same list with other vectors.
    inputs.edge_vec.iter_mut().for_each(|x| *x *= 0.99);
    let moved = message(&inputs, None);
    assert!(moved != found && message(&inputs, Some(&order)) == moved, "other positions");
}

#[test]
#[should_panic(expected = "an order of the receivers of another neighbour list")]
fn an_order_of_other_atoms_is_refused() {
    let (order, base) = (ReceiverOrder::default(), specs().remove(2));
    message(&inputs(&base), Some(&order));
    message(&inputs(&CaseSpec { n_atoms: base.n_atoms + 1, ..base }), Some(&order));
}

#[test]
fn the_digest_of_inputs_covers_features() {
    let variant: Variant = "painn_linear_gaussian_cosine_receiver".parse().expect("an id");
    let inputs = random_inputs(&CaseSpec { n_atoms: 9, ..specs().remove(2) }, &variant, 5).expect("valid sizes");
    let digest = |change: &dyn Fn(&mut Inputs<f64>)| {
        let mut inputs = inputs.clone();
        change(&mut inputs);
        let config = host().default_config(&variant, Dtype::F64, &inputs.problem("digest"));
        let mut launch = host().prepare(&variant, Dtype::F64, &inputs, &config).expect("prepares");
        launch.input_digest().expect("host memory")
    };
    let unchanged = digest(&|_| {});
    assert_eq!(digest(&|_| {}), unchanged);
    assert_ne!(digest(&|inputs| inputs.nodes[7] += 1.0), unchanged);
    assert_ne!(digest(&|inputs| inputs.vectors[7] += 1.0), unchanged);
}
