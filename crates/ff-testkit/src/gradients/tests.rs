use std::cell::Cell;
use std::collections::BTreeSet;

use ff_reference::fused_message::{backward_over, double_backward_over};
use ff_spec::Op;
use ff_spec::fused_message::Reduction;
use proptest::prelude::*;

use super::mutants::Derivative;
use super::*;
use crate::catalogue::OracleCache;
use crate::gate::Tensors;
use crate::generators::strategies;
use crate::tolerance::{compare, compare_rounded, tolerance};

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
            let forward: Vec<_> = catalogue::cases(OP, &variant, set).into_iter().map(|case| case.id).collect();
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
    let of_ops = [FusedMessage::ORDER, FusedMessageBackward::ORDER, FusedMessageDoubleBackward::ORDER];
    assert_eq!(of_ops, [Order::Forward, Order::First, Order::Second].map(Order::number));
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

/// Every case tells right from wrong in each of its tensors, and is degenerate where it says so.
#[test]
fn every_case_discriminates() {
    fn check<O: Gated<Variant = Variant>>(zero: fn(&O::Oracle) -> bool) {
        let mut cache = OracleCache::<O>::default();
        for variant in variants() {
            for case in O::cases(&variant, CaseSet::Full) {
                let evaluated = cache.get(&case, &variant, Dtype::F32, 0).unwrap();
                assert_eq!(O::discriminates(&evaluated.oracle, Dtype::F32), Ok(()), "{variant} {}", case.id);
                assert_eq!(zero(&evaluated.oracle), case.degenerate, "{variant} {}", case.id);
            }
        }
    }
    check::<FusedMessageBackward>(|oracle| all_zero(&oracle.magnitude.tensors()));
    check::<FusedMessageDoubleBackward>(|oracle| all_zero(&oracle.magnitude.tensors()));
}

fn all_zero(tensors: &Tensors) -> bool {
    tensors.iter().all(|(_, values)| values.iter().all(|m| *m == 0.0))
}

/// One tensor after the other is made wrong in one element; everything that the gate asks of outputs must notice.
#[test]
fn every_tensor_is_looked_at() {
    type Named<'a> = Vec<(&'static str, &'a [f64])>;
    fn check<O: Derivative + Gated<Variant = Variant>>(
        order: Order,
        tensors: fn(&O::Outputs) -> Named<'_>,
        magnitudes: fn(&O::Oracle) -> Named<'_>,
    ) {
        for id in ["painn_mlp_bessel_polynomial_receiver", "painn_linear_gaussian_cosine_receiver"] {
            let receiver: Variant = id.parse().unwrap();
            let atomic = Variant { reduction: Reduction::EdgeAtomic, ..receiver.clone() };
            let case = &O::cases(&receiver, CaseSet::Quick)[0];
            let Evaluated { inputs, oracle } = O::evaluate(case, &receiver, Dtype::F64, 0).unwrap();
            let right = O::compute(&receiver, &inputs).unwrap();
            assert!(O::compare(&right, &oracle, Dtype::F64).is_ok());
            assert!(O::survivor(&O::poisoned(&inputs)).is_none());
            let (mut start, tol) = (0, tolerance(Dtype::F64, order));
            for ((tensor, values), (_, bounds)) in tensors(&right).into_iter().zip(magnitudes(&oracle)) {
                let at = start + values.len() / 2;
                let change = |out: &O::Outputs, to: &dyn Fn(f64) -> f64| {
                    let n = Cell::new(0);
                    O::map(out, &|x| if n.replace(n.get() + 1) == at { to(x) } else { x })
                };
                let (value, bound) = (values[values.len() / 2], bounds[values.len() / 2]);
                for wrong in [f64::NAN, 0.0, -value, value + 2.0 * tol * (value.abs() + bound)] {
                    let found = O::compare(&change(&right, &|_| wrong), &oracle, Dtype::F64);
                    let reason = found.unwrap_err().reason().unwrap().to_owned();
                    assert!(reason.contains(&format!("`{tensor}`")), "{id}: {reason}");
                }
                let last_bit = change(&right, &|x| f64::from_bits(x.to_bits() ^ 1));
                assert!(O::broken_promise(&receiver, &right, &last_bit).unwrap().contains(tensor));
                assert_eq!(O::broken_promise(&atomic, &right, &last_bit), None);
                assert!(O::survivor(&change(&O::poisoned(&inputs), &|_| 1.0)).is_some());
                start += values.len();
            }
        }
    }
    check::<FusedMessageBackward>(Order::First, Gradients::tensors, |oracle| oracle.magnitude.tensors());
    check::<FusedMessageDoubleBackward>(Order::Second, DoubleGradients::tensors, |oracle| oracle.magnitude.tensors());
}

#[test]
fn what_is_missing_or_proves_nothing_is_named() {
    let variant: Variant = "cfconv_linear_gaussian_cosine_receiver".parse().unwrap();
    let case = &FusedMessageBackward::cases(&variant, CaseSet::Quick)[0];
    let Evaluated { mut oracle, .. } = FusedMessageBackward::evaluate(case, &variant, Dtype::F64, 0).unwrap();
    let unasked = Gradients { filter: None, ..oracle.outputs.clone() };
    let missing = FusedMessageBackward::compare(&unasked, &oracle, Dtype::F64).unwrap_err();
    assert!(missing.reason().unwrap().contains("expected [nodes, vectors, edge_vec, A, b]"), "{missing:?}");
    // The same number everywhere, a tensor of zeros that are sums, a tensor of zeros into which nothing was summed.
    oracle.outputs.edge_vec.fill(0.5);
    let constant = FusedMessageBackward::discriminates(&oracle, Dtype::F64).unwrap_err();
    assert!(constant.contains("`edge_vec` full of 5e-1"), "{constant}");
    oracle.outputs.edge_vec.fill(0.0);
    let zero = FusedMessageBackward::discriminates(&oracle, Dtype::F64).unwrap_err();
    assert!(zero.contains("`edge_vec` full of 0e0"), "{zero}");
    oracle.magnitude.edge_vec.fill(0.0);
    assert_eq!(FusedMessageBackward::discriminates(&oracle, Dtype::F64), Ok(()));
    // One weight is its own mean, but it must not be a number that a kernel may write by chance.
    for (value, telling) in [(0.0, false), (1.0, false), (0.7, true)] {
        let one: [(&str, &[f64]); 1] = [("b", &[value])];
        let found = tell_tensors(Dtype::F64, Order::First, &one, &[("b", &[2.0])]);
        assert_eq!(found.is_ok(), telling, "{found:?}");
    }
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

    fn take(&mut self, order: Order, place: &str, out: &Tensors, reference: &Tensors, magnitude: &Tensors) {
        let tol = tolerance(Dtype::F32, order);
        for (((tensor, out), (_, reference)), (_, magnitude)) in out.iter().zip(reference).zip(magnitude) {
            let found = compare(Dtype::F32, order, out, reference, magnitude);
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
#[test]
fn arithmetic_in_f32_passes_the_first_backward() {
    let mut worst = Worst::default();
    for variant in variants() {
        for case in FusedMessageBackward::cases(&variant, CaseSet::Full) {
            let Evaluated { inputs, oracle } = FusedMessageBackward::evaluate(&case, &variant, Dtype::F32, 0).unwrap();
            let out = backward_over::<f32>(&variant, &inputs).unwrap().map(|x| f64::from(*x));
            let place = format!("{variant} {}", case.id);
            let (reference, magnitude) = (oracle.outputs.tensors(), oracle.magnitude.tensors());
            worst.take(Order::First, &place, &out.tensors(), &reference, &magnitude);
        }
    }
    worst.judge();
}

/// As the first.
#[test]
fn arithmetic_in_f32_passes_the_second_backward() {
    let mut worst = Worst::default();
    for variant in variants() {
        for case in FusedMessageDoubleBackward::cases(&variant, CaseSet::Full) {
            let Evaluated { inputs, oracle } =
                FusedMessageDoubleBackward::evaluate(&case, &variant, Dtype::F32, 0).unwrap();
            let out = double_backward_over::<f32>(&variant, &inputs).unwrap().map(|x| f64::from(*x));
            let place = format!("{variant} {}", case.id);
            let (reference, magnitude) = (oracle.outputs.tensors(), oracle.magnitude.tensors());
            worst.take(Order::Second, &place, &out.tensors(), &reference, &magnitude);
        }
    }
    worst.judge();
}

/// Every element is as near as the gate asks, and the norm but for what rounding alone makes of sums that cancel as a
/// whole: among random inputs are those of one feature on an edge of 10⁻⁶ Å, where all that counts is one W near zero.
fn near(order: Order, out: &Tensors, reference: &Tensors, magnitude: &Tensors) -> Result<(), TestCaseError> {
    for (((tensor, out), (_, reference)), (_, magnitude)) in out.iter().zip(reference).zip(magnitude) {
        let norm = magnitude.iter().map(|m| m * m).sum::<f64>().sqrt();
        let rounding = 8.0 * f64::from(f32::EPSILON) * norm;
        let found = compare_rounded(Dtype::F32, order, out, reference, magnitude, rounding);
        prop_assert!(found.passed, "`{tensor}`: {found:?}");
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn arithmetic_in_f32_is_near_whatever_the_inputs((variant, inputs) in strategies::inputs(), seed in 0u64..1000) {
        let grad = random_cotangents(&inputs, seed);
        let tangent = random_tangent(&inputs, true, seed);
        let one = BackwardInputs { inputs: inputs.clone(), grad: grad.clone(), wanted: Wanted::ALL };
        let one = rounded_backward(&one, Dtype::F32);
        let oracle = backward(&variant, &one).unwrap();
        let out = backward_over::<f32>(&variant, &one).unwrap().map(|x| f64::from(*x));
        near(Order::First, &out.tensors(), &oracle.outputs.tensors(), &oracle.magnitude.tensors())?;
        let two = rounded_double_backward(&DoubleBackwardInputs { inputs, grad, tangent }, Dtype::F32);
        let oracle = double_backward(&variant, &two).unwrap();
        let out = double_backward_over::<f32>(&variant, &two).unwrap().map(|x| f64::from(*x));
        near(Order::Second, &out.tensors(), &oracle.outputs.tensors(), &oracle.magnitude.tensors())?;
    }
}
