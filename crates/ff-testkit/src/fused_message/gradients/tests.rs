use std::collections::BTreeSet;

use ff_reference::fused_message::{backward_over, double_backward_over};
use ff_spec::fused_message::{Filter, Reduction};
use proptest::prelude::*;

use super::*;
use crate::fused_message::strategies;
use crate::gate;
use crate::tensors::compare_near;
use crate::testing::{assert_cases_tell, assert_every_tensor_is_looked_at};
use crate::tolerance::{compare, tolerance};

/// Both messages with every filter, and every radial function.
const VARIANTS: [&str; 8] = [
    "cfconv_linear_bessel_cosine_receiver",
    "cfconv_mlp_gaussian_polynomial_receiver",
    "cfconv_mlp_expnorm_cosine_receiver",
    "cfconv_tabulated_receiver",
    "painn_linear_expnorm_polynomial_receiver",
    "painn_linear_gaussian_cosine_receiver",
    "painn_mlp_bessel_polynomial_receiver",
    "painn_tabulated_receiver",
];

fn variants() -> Vec<Variant> {
    VARIANTS.map(|id| id.parse().unwrap()).to_vec()
}

#[test]
fn cases_are_those_of_the_forward_and_a_few() {
    for variant in variants() {
        for set in [CaseSet::Quick, CaseSet::Full] {
            let forward: Vec<_> = FusedMessage::cases(&variant, set).into_iter().map(|case| case.id).collect();
            let first: Vec<_> = FusedMessageBackward::cases(&variant, set).into_iter().map(|case| case.id).collect();
            let second: Vec<_> =
                FusedMessageDoubleBackward::cases(&variant, set).into_iter().map(|case| case.id).collect();
            assert!(first.starts_with(&forward) && second.starts_with(&forward));
            assert!(first[forward.len()..].contains(&"forces") && second[forward.len()..] == ["forces"]);
            assert_eq!(first.iter().collect::<BTreeSet<_>>().len(), first.len());
            let forces = FusedMessageBackward::cases(&variant, set).into_iter().find(|case| case.id == "forces");
            assert_eq!(forces.map(|case| case.spec.wanted), Some(Wanted::INPUTS));
            let forces = FusedMessageDoubleBackward::cases(&variant, set).into_iter().find(|case| case.id == "forces");
            assert_eq!(forces.map(|case| case.spec.weights), Some(false));
        }
    }
}

#[test]
fn orders_are_those_of_the_tolerance() {
    fn check<O: ByTensors>() {
        assert_eq!(O::ORDER, O::TOLERANCE.number());
    }
    check::<FusedMessage>();
    check::<FusedMessageBackward>();
    check::<FusedMessageDoubleBackward>();
}

#[test]
fn cotangents_are_new_for_every_seed_and_no_part_of_the_inputs() {
    let variant = &variants()[4];
    let case = &FusedMessageDoubleBackward::cases(variant, CaseSet::Quick)[0];
    let of = |seed| FusedMessageDoubleBackward::evaluate(case, variant, Dtype::F64, seed).unwrap().inputs;
    let (a, b) = (of(0), of(1));
    assert_eq!(a, of(0));
    assert_ne!(a.grad, b.grad);
    assert_ne!(a.tangent, b.tangent);
    assert_ne!(a.tangent.nodes, a.inputs.nodes);
    assert_ne!(a.tangent.nodes[..10], a.grad.nodes[..10]);
    let first = FusedMessageBackward::cases(variant, CaseSet::Quick);
    let single = FusedMessageBackward::evaluate(&first[0], variant, Dtype::F32, 0).unwrap().inputs;
    assert_eq!(single, single.cast::<f32>().cast(), "rounded to the dtype");
}

#[test]
fn every_case_discriminates() {
    for variant in variants() {
        assert_cases_tell::<FusedMessageBackward>(&variant, 1);
        assert_cases_tell::<FusedMessageDoubleBackward>(&variant, 1);
    }
}

#[test]
fn every_tensor_is_looked_at() {
    for id in ["painn_mlp_bessel_polynomial_receiver", "painn_linear_gaussian_cosine_receiver"] {
        let receiver: Variant = id.parse().unwrap();
        let atomic = Variant { reduction: Reduction::EdgeAtomic, ..receiver.clone() };
        assert_every_tensor_is_looked_at::<FusedMessage>("small", &receiver, &atomic);
        assert_every_tensor_is_looked_at::<FusedMessageBackward>("small", &receiver, &atomic);
        assert_every_tensor_is_looked_at::<FusedMessageDoubleBackward>("small", &receiver, &atomic);
    }
}

#[test]
fn what_is_missing_or_proves_nothing_is_named() {
    let variant: Variant = "cfconv_linear_gaussian_cosine_receiver".parse().unwrap();
    let case = &FusedMessageBackward::cases(&variant, CaseSet::Quick)[0];
    let Evaluated { mut oracle, .. } = FusedMessageBackward::evaluate(case, &variant, Dtype::F64, 0).unwrap();
    let unasked = Gradients { filter: None, ..oracle.outputs.clone() };
    let discriminates = <FusedMessageBackward as gate::Gated>::discriminates;
    let missing = <FusedMessageBackward as gate::Gated>::compare(&unasked, &oracle, Dtype::F64).unwrap_err();
    assert!(missing.to_string().contains("expected [nodes, vectors, edge_vec, A, b]"), "{missing:?}");
    // The same number everywhere, a tensor of zeros that are sums, a tensor of zeros into which nothing was summed.
    oracle.outputs.edge_vec.fill(0.5);
    let constant = discriminates(&oracle, Dtype::F64).unwrap_err();
    assert!(constant.contains("`edge_vec` full of 5e-1"), "{constant}");
    oracle.outputs.edge_vec.fill(0.0);
    let zero = discriminates(&oracle, Dtype::F64).unwrap_err();
    assert!(zero.contains("`edge_vec` full of 0e0"), "{zero}");
    oracle.magnitude.edge_vec.fill(0.0);
    assert_eq!(discriminates(&oracle, Dtype::F64), Ok(()));
    // One weight is its own mean, but it must not be a number that a kernel may write by chance.
    for (value, telling) in [(0.0, false), (1.0, false), (0.7, true)] {
        let one = |b| Gradients { filter: Some(Filter::Linear { a: Vec::new(), b: vec![b] }), ..Gradients::default() };
        let found = discriminates(&Oracle { outputs: one(value), magnitude: one(2.0) }, Dtype::F64);
        assert_eq!(found.is_ok(), telling, "{found:?}");
    }
}

/// Every tensor by name: the output, what it should be, its magnitude.
fn beside<'a, O: ByTensors>(
    outputs: &'a O::Outputs,
    oracle: &'a Oracle<O::Outputs>,
) -> impl Iterator<Item = (&'static str, [&'a [f64]; 3])> {
    let expected = O::tensors(&oracle.outputs).into_iter().zip(O::tensors(&oracle.magnitude));
    let all = O::tensors(outputs).into_iter().zip(expected);
    all.map(|((name, out), ((_, reference), (_, magnitude)))| (name, [out, reference, magnitude]))
}

/// What came nearest to its limits.
#[derive(Debug, Default)]
struct Worst {
    /// Error of an element in units of what it is allowed, and where.
    element: (f64, String),
    /// Error in the norm in units of what it is allowed, and where.
    norm: (f64, String),
}

impl Worst {
    /// A kernel also rounds inside its functions, which are exact here: a catalogue that leaves less than this is unfair.
    fn judge(&self) {
        println!("{self:?}");
        assert!(self.element.0 < 0.25 && self.norm.0 < 0.5, "{self:?}");
        // Rounding shows: these are no copies of the oracle's numbers.
        assert!(self.element.0 > 1e-4 && self.norm.0 > 1e-3, "{self:?}");
    }

    fn take<O: ByTensors>(&mut self, place: &str, outputs: &O::Outputs, oracle: &Oracle<O::Outputs>) {
        let tol = tolerance(Dtype::F32, O::TOLERANCE);
        for (tensor, [out, reference, magnitude]) in beside::<O>(outputs, oracle) {
            let found = compare(Dtype::F32, O::TOLERANCE, out, reference, magnitude);
            let i = found.worst_index.unwrap_or(0);
            let element = match found.worst_index {
                Some(i) => (out[i] - reference[i]).abs() / (tol * (reference[i].abs() + magnitude[i])),
                None => 0.0,
            };
            if element > self.element.0 {
                self.element = (element, format!("{place} `{tensor}`[{i}]"));
            }
            if found.rel_error / tol > self.norm.0 {
                self.norm = (found.rel_error / tol, format!("{place} `{tensor}`"));
            }
            assert!(found.passed, "{place} `{tensor}`: {found:?}");
        }
    }
}

/// A kernel of f32 that does no more than round at every step, in the plainest order, passes everywhere.
fn arithmetic_in_f32_passes<O: ByTensors<Variant = Variant>>(kernel: fn(&Variant, &O::Inputs) -> O::Outputs) {
    let mut worst = Worst::default();
    for variant in variants() {
        for case in O::cases(&variant, CaseSet::Full) {
            let Evaluated { inputs, oracle } = O::evaluate(&case, &variant, Dtype::F32, 0).unwrap();
            worst.take::<O>(&format!("{variant} {}", case.id), &kernel(&variant, &inputs), &oracle);
        }
    }
    worst.judge();
}

fn backward_in_f32(variant: &Variant, inputs: &BackwardInputs<f64>) -> Gradients<f64> {
    backward_over::<f32>(variant, inputs).unwrap().cast()
}

fn double_backward_in_f32(variant: &Variant, inputs: &DoubleBackwardInputs<f64>) -> DoubleGradients<f64> {
    double_backward_over::<f32>(variant, inputs).unwrap().cast()
}

#[test]
fn arithmetic_in_f32_passes_the_first_backward() {
    arithmetic_in_f32_passes::<FusedMessageBackward>(backward_in_f32);
}

#[test]
fn arithmetic_in_f32_passes_the_second_backward() {
    arithmetic_in_f32_passes::<FusedMessageDoubleBackward>(double_backward_in_f32);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn arithmetic_in_f32_is_near_whatever_the_inputs((variant, inputs) in strategies::inputs(), seed in 0u64..1000) {
        let grad = random_cotangents(&inputs, seed);
        let tangent = random_tangent(&inputs, true, seed);
        let one = BackwardInputs { inputs: inputs.clone(), grad: grad.clone(), wanted: Wanted::ALL };
        let one = FusedMessageBackward::rounded(&one, Dtype::F32);
        let (found, oracle) = (backward_in_f32(&variant, &one), backward(&variant, &one).unwrap());
        let near = compare_near::<FusedMessageBackward>(&found, &oracle, Dtype::F32);
        prop_assert!(near.is_ok(), "{near:?}");
        let two = DoubleBackwardInputs { inputs, grad, tangent };
        let two = FusedMessageDoubleBackward::rounded(&two, Dtype::F32);
        let (found, oracle) = (double_backward_in_f32(&variant, &two), double_backward(&variant, &two).unwrap());
        let near = compare_near::<FusedMessageDoubleBackward>(&found, &oracle, Dtype::F32);
        prop_assert!(near.is_ok(), "{near:?}");
    }
}
