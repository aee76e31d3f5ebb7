//! The mollifier beside the cutoff, where 1/(1 − x²) and its powers overflow: its values, and whole kernels of every order.

use ff_spec::fused_message::{Activation, BackwardInputs, DoubleBackwardInputs, Inputs, Variant, Wanted};
use ff_spec::{
    Dtype, FusedMessage, FusedMessageBackward, FusedMessageDoubleBackward, LaunchError, Prepare, Problem, Runtime,
};
use ff_testkit::degrees::Degrees;
use ff_testkit::fused_message::gradients::{random_cotangents, random_tangent};
use ff_testkit::fused_message::{CaseSpec, Distances, random_inputs};
use ff_testkit::tensors::ByTensors;

const IDS: [&str; 2] = ["cfconv_mlp_gaussian_mollifier_receiver", "painn_linear_bessel_mollifier_receiver"];

/// Against Taylor series of exp(1 − 1/(1 − x²)) in decimal arithmetic of 80 digits, at the binary numbers x.
#[test]
fn the_host_equals_its_series_up_to_the_cutoff() {
    let variant: Variant = IDS[0].parse().expect("an id");
    let pair = ff_kernels::fused_message::find(&variant).and_then(|r| r.pair()).expect("rendered");
    // A power of two, so that d = x·r_c is exact.
    let r_c = 4.0;
    for (x, expected) in [
        (0.0, [1.0, 0.0, -2.0]),
        (0.3, [0.9058322914025679, -0.6563209453466258, -2.577677198304161]),
        (0.7, [0.38259269556636666, -2.0593224674852486, -3.163577163484508]),
        (0.95, [9.549752219557577e-05, -0.019086947236985525, 3.050886601402041]),
        (0.99, [4.078037078607729e-22, -2.0389670502369354e-18, 9.786774052742437e-15]),
        (0.999, [1.5080842205194566e-217, -7.540419215605474e-212, 3.755127822099986e-206]),
        // e^(−524288), which no double holds.
        (1.0 - 2f64.powi(-20), [0.0; 3]),
        (1.0, [0.0; 3]),
    ] {
        let found = (pair.cutoff_jet)(x * r_c, r_c, &[]);
        for (order, (found, expected)) in found.into_iter().zip(expected).enumerate() {
            let expected = expected / r_c.powi(order as i32);
            // The exponent is up to 500, whose rounding is multiplied by itself: 500 · 2⁻⁵³ and a few times that.
            assert!(
                (found - expected).abs() <= 1e-12 * f64::abs(expected),
                "x = {x}, derivative {order}: {found:e}, expected {expected:e}"
            );
        }
    }
}

/// Inputs whose edges all have lengths d = x·r_c for one of these x, along an axis.
fn inputs(variant: &Variant, x: &[f64]) -> Inputs<f64> {
    let spec = CaseSpec {
        n_atoms: 9,
        features: 17,
        n_basis: 5,
        hidden: 6,
        activation: Activation::ShiftedSoftplus,
        table_order: 2,
        table_nodes: 2,
        r_cut: 5.0,
        degrees: Degrees::Uniform(8),
        distances: Distances::Inside,
    };
    let mut inputs = random_inputs(&spec, variant, 1).expect("valid sizes");
    for (edge, vector) in inputs.edge_vec.chunks_exact_mut(3).enumerate() {
        vector.fill(0.0);
        vector[edge % 3] = inputs.radial.r_cut * x[edge % x.len()];
    }
    inputs
}

/// The largest |output| of a kernel in its default configuration; `None` where the runtime has no such type.
fn largest<O: ByTensors<Variant = Variant>>(
    runtime: &(dyn Runtime + 'static),
    (variant, dtype): (&Variant, Dtype),
    inputs: &O::Inputs,
    problem: &Problem,
) -> Option<f64>
where
    dyn Runtime: Prepare<O>,
{
    let config = Prepare::<O>::default_config(runtime, variant, dtype, problem);
    let inputs = O::rounded(inputs, dtype);
    let mut launch = match Prepare::<O>::prepare(runtime, variant, dtype, &inputs, &config) {
        Err(LaunchError::Unsupported(reason)) => {
            println!("not tested on {} in {dtype}: {reason}", runtime.device().name);
            return None;
        }
        launch => launch.expect("prepares"),
    };
    launch.poison().expect("poisons");
    launch.run().expect("runs");
    let outputs = launch.outputs().expect("outputs");
    let all = O::tensors(&outputs).into_iter().flat_map(|(_, values)| values.to_vec());
    // `f64::max` would pass over a NaN.
    Some(all.fold(0.0, |largest: f64, y| if y.is_nan() { f64::INFINITY } else { largest.max(y.abs()) }))
}

/// The largest |output| in each order.
fn of_all_orders(runtime: &(dyn Runtime + 'static), of: (&Variant, Dtype), inputs: &Inputs<f64>) -> [Option<f64>; 3] {
    let problem = inputs.problem("mollifier");
    let (grad, tangent) = (random_cotangents(inputs, 3), random_tangent(inputs, true, 3));
    let first = BackwardInputs { inputs: inputs.clone(), grad: grad.clone(), wanted: Wanted::ALL };
    let second = DoubleBackwardInputs { inputs: inputs.clone(), grad, tangent };
    [
        largest::<FusedMessage>(runtime, of, inputs, &problem),
        largest::<FusedMessageBackward>(runtime, of, &first, &problem),
        largest::<FusedMessageDoubleBackward>(runtime, of, &second, &problem),
    ]
}

#[test]
fn kernels_of_every_order_end_in_zeros() {
    // Where 1 − x² is below 1/512: to the last number before r_c in f32 and, for f64, on to the last bit.
    let last: Vec<f64> = (11..=52).map(|n| 1.0 - 2f64.powi(-n)).chain([1.0]).collect();
    // Where the exponential underflows in f32 and not in f64.
    let before: Vec<f64> = (0..=40).map(|n| 0.9945 + 1e-4 * f64::from(n)).collect();
    for runtime in ff_tests::runtimes() {
        for (id, dtype) in IDS.iter().flat_map(|id| Dtype::ALL.map(|dtype| (id, dtype))) {
            let variant: Variant = id.parse().expect("an id");
            let of = |x: &[f64]| of_all_orders(runtime.as_ref(), (&variant, dtype), &inputs(&variant, x));
            for (order, found) in of(&last).into_iter().enumerate() {
                assert!(found.is_none_or(|y| y == 0.0), "{id} {dtype} order {order}: {found:?}");
            }
            // e^(−87), where the host's exponential in f32 ends, times 512⁴ and sums of a few hundred terms.
            for (order, found) in of(&before).into_iter().enumerate() {
                assert!(found.is_none_or(|y| y < 1e-22), "{id} {dtype} order {order}: {found:?}");
            }
            // The same inputs have outputs where the function has values.
            let found = of(&[0.3, 0.7]);
            assert!(found.into_iter().flatten().all(|y| y > 1e-3 && y.is_finite()), "{id} {dtype}: {found:?}");
        }
    }
}
