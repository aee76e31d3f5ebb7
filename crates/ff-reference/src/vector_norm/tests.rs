use super::*;
use crate::testing::numbers;

/// Three atoms with F = 5; every third channel is far below √ε.
fn inputs() -> DoubleBackwardInputs<f64> {
    let (n_atoms, features) = (3, 5);
    let mut vectors = numbers(3 * n_atoms * features, 1);
    vectors.iter_mut().enumerate().filter(|(at, _)| at % features % 3 == 1).for_each(|(_, x)| *x *= 1e-5);
    DoubleBackwardInputs {
        grad: numbers(n_atoms * features, 2),
        tangent: numbers(vectors.len(), 3),
        inputs: Inputs { n_atoms, features, vectors, epsilon: 1e-8 },
    }
}

fn first(all: &DoubleBackwardInputs<f64>) -> BackwardInputs<f64> {
    BackwardInputs { inputs: all.inputs.clone(), grad: all.grad.clone() }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// The vectors, `h` of a direction further.
fn moved(inputs: &Inputs<f64>, direction: &[f64], h: f64) -> Inputs<f64> {
    let vectors = inputs.vectors.iter().zip(direction).map(|(x, t)| x + h * t).collect();
    Inputs { vectors, ..inputs.clone() }
}

#[test]
fn one_channel_by_hand() {
    // V = (2, 3, 6), ε = 0 but for rounding: the norm is 7.
    let inputs = Inputs { n_atoms: 1, features: 1, vectors: vec![2.0, 3.0, 6.0], epsilon: 1e-30 };
    assert_eq!(forward(&inputs).unwrap().outputs.norm, [7.0]);
    let close = |found: &[f64], expected: &[f64]| {
        assert_eq!(found.len(), expected.len());
        assert!(found.iter().zip(expected).all(|(f, e)| (f - e).abs() <= 1e-15 * e.abs()), "{found:?}, {expected:?}");
    };
    let once = BackwardInputs { inputs: inputs.clone(), grad: vec![14.0] };
    close(&backward(&once).unwrap().outputs.vectors, &[4.0, 6.0, 12.0]);
    // s = 7, s/n² = 1/7, g/n = 2.
    let twice = DoubleBackwardInputs { inputs, grad: vec![14.0], tangent: vec![0.5, 0.0, 1.0] };
    let found = double_backward(&twice).unwrap().outputs;
    close(&found.grad, &[1.0]);
    close(&found.vectors, &[2.0 * (0.5 - 2.0 / 7.0), 2.0 * -3.0 / 7.0, 2.0 * (1.0 - 6.0 / 7.0)]);
}

/// ε is left where V is nothing: it is added once, beneath the root.
#[test]
fn at_zero_the_norm_is_the_root_of_epsilon() {
    let mut all = inputs();
    all.inputs.vectors.fill(0.0);
    assert_eq!(forward(&all.inputs).unwrap().outputs.norm, [1e-4; 15]);
    let Oracle { outputs, magnitude } = backward(&first(&all)).unwrap();
    assert!(outputs.vectors.iter().chain(&magnitude.vectors).all(|x| *x == 0.0));
    let Oracle { outputs, magnitude } = double_backward(&all).unwrap();
    assert!(outputs.grad.iter().chain(&magnitude.grad).all(|x| *x == 0.0));
    for (at, found) in outputs.vectors.iter().enumerate() {
        let expected = all.grad[at / 15 * 5 + at % 5] * all.tangent[at] / 1e-4;
        assert!((found - expected).abs() <= 1e-14 * expected.abs(), "{found}, expected {expected}");
    }
}

#[test]
fn the_first_backward_is_the_derivative_of_the_forward() {
    let all = inputs();
    // Vectors far below √ε = 1e-4 bend within a step of that: this one is short for them too.
    let h = 1e-8;
    let l = |h| dot(&forward(&moved(&all.inputs, &all.tangent, h)).unwrap().outputs.norm, &all.grad);
    let found = dot(&backward(&first(&all)).unwrap().outputs.vectors, &all.tangent);
    let expected = (l(h) - l(-h)) / (2.0 * h);
    assert!((found - expected).abs() < 1e-6 * expected.abs(), "{found}, expected {expected}");
}

#[test]
fn the_second_backward_is_the_derivative_of_the_first() {
    let all = inputs();
    let h = 1e-8;
    let found = double_backward(&all).unwrap().outputs;
    let of_inputs = |h| {
        let moved = moved(&all.inputs, &all.tangent, h);
        backward(&BackwardInputs { inputs: moved, ..first(&all) }).unwrap().outputs.vectors
    };
    // Element by element: it is the first backward's derivative along t.
    for ((plus, minus), found) in of_inputs(h).iter().zip(of_inputs(-h)).zip(&found.vectors) {
        let expected = (plus - minus) / (2.0 * h);
        assert!((found - expected).abs() < 1e-6 * expected.abs().max(1.0), "{found}, expected {expected}");
    }
    // Q is linear in g, so a difference has no error but rounding.
    let direction = numbers(all.grad.len(), 4);
    let q = |h: f64| {
        let grad = all.grad.iter().zip(&direction).map(|(g, d)| g + h * d).collect();
        dot(&backward(&BackwardInputs { grad, ..first(&all) }).unwrap().outputs.vectors, &all.tangent)
    };
    let (found, expected) = (dot(&found.grad, &direction), q(0.5) - q(-0.5));
    assert!((found - expected).abs() < 1e-12 * expected.abs().max(1.0), "{found}, expected {expected}");
}

/// s/n, and (g/n)·(t_a − V_a·s/n²).
#[test]
fn the_second_backward_is_what_the_formulas_say() {
    let all = inputs();
    let found = double_backward(&all).unwrap().outputs;
    let Inputs { features: f, vectors, epsilon, .. } = &all.inputs;
    for (at, found_v) in found.vectors.iter().enumerate() {
        let (atom, c) = (at / (3 * f), at % f);
        let of = |values: &[f64], axis: usize| values[3 * f * atom + axis * f + c];
        let n = ((0..3).map(|a| of(vectors, a).powi(2)).sum::<f64>() + epsilon).sqrt();
        let s: f64 = (0..3).map(|a| of(vectors, a) * of(&all.tangent, a)).sum();
        let place = f * atom + c;
        let expected = all.grad[place] / n * (all.tangent[at] - vectors[at] * s / (n * n));
        assert!((found_v - expected).abs() <= 1e-12 * expected.abs().max(1.0), "{found_v}, expected {expected}");
        assert!((found.grad[place] - s / n).abs() <= 1e-12);
    }
}

#[test]
fn magnitudes_bound_values() {
    let all = inputs();
    let zero = forward(&all.inputs).unwrap();
    let one = backward(&first(&all)).unwrap();
    let two = double_backward(&all).unwrap();
    let values = [zero.outputs.tensors(), one.outputs.tensors(), two.outputs.tensors()].concat();
    let bounds = [zero.magnitude.tensors(), one.magnitude.tensors(), two.magnitude.tensors()].concat();
    for ((tensor, values), (_, bounds)) in values.into_iter().zip(bounds) {
        for (value, bound) in values.iter().zip(bounds) {
            assert!(value.abs() <= bound * (1.0 + 1e-12), "`{tensor}`: {value} above {bound}");
        }
    }
}

#[test]
fn nothing_has_no_norm_and_wrong_inputs_and_results_are_named() {
    for (n_atoms, features) in [(0, 4), (4, 0)] {
        let inputs = Inputs { n_atoms, features, vectors: Vec::new(), epsilon: 1e-8 };
        assert_eq!(forward(&inputs).unwrap().outputs.norm, [0.0; 0]);
        let once = BackwardInputs { inputs, grad: Vec::new() };
        assert_eq!(backward(&once).unwrap().outputs.vectors, [0.0; 0]);
    }
    let mut wrong = inputs().inputs;
    wrong.epsilon = 0.0;
    let error = forward(&wrong).unwrap_err().to_string();
    assert!(error.contains("`epsilon` is 0"), "{error}");
    let mut huge = inputs().inputs;
    huge.vectors[4] = 1e200;
    let error = forward(&huge).unwrap_err();
    assert!(matches!(error, ReferenceError::NotFinite { tensor: "norm", index: 4, .. }), "{error}");
}
