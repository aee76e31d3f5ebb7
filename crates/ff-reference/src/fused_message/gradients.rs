//! The first and the second backward.

use ff_spec::fused_message::{
    BackwardInputs, DoubleBackwardInputs, DoubleGradients, Gradients, Outputs, Variant, Wanted,
};

use super::{Dual, Number, ReferenceError, Tracked, call, check_finite};
use crate::Oracle;

/// The gradients of L = ⟨g, forward⟩ that are wanted, for cotangents g.
///
/// Edges with d ≥ r_c contribute exactly nothing; at d = 0, where L has no derivative in the edge vector, its gradient
/// is zero by definition.
///
/// # Errors
/// [`ReferenceError`] for inputs that are not the variant's.
pub fn backward(variant: &Variant, inputs: &BackwardInputs<f64>) -> Result<Oracle<Gradients<f64>>, ReferenceError> {
    let tracked = backward_over::<Tracked>(variant, inputs)?;
    let (outputs, magnitude) = (tracked.map(|x| x.value), tracked.map(magnitude));
    check_finite(outputs.tensors())?;
    Ok(Oracle { outputs, magnitude })
}

/// The gradients of Q = ⟨t, gradients of L⟩ in g and in every input, for cotangents g and t: what Q is at edges is as in
/// [`backward`], and so are its own gradients there.
///
/// Q is the derivative of L in direction t, so these are the derivatives of the outputs and of the gradients of L in
/// that direction.
///
/// # Errors
/// [`ReferenceError`] for inputs that are not the variant's.
pub fn double_backward(
    variant: &Variant,
    inputs: &DoubleBackwardInputs<f64>,
) -> Result<Oracle<DoubleGradients<f64>>, ReferenceError> {
    let tracked = double_backward_over::<Tracked>(variant, inputs)?;
    let (outputs, magnitude) = (tracked.map(|x| x.value), tracked.map(magnitude));
    check_finite(outputs.tensors())?;
    Ok(Oracle { outputs, magnitude })
}

/// The least that a sum of any terms counts for: below 1e-38 f32 has no numbers to full precision, its tolerance is 1e-5,
/// and weights and features of up to 10³ may multiply what underflowed. The weights of a basis function that is far from
/// every edge have nothing but such terms in their gradient.
const UNDERFLOW: f64 = 1e-30;

fn magnitude(x: &Tracked) -> f64 {
    if x.magnitude == 0.0 { 0.0 } else { x.magnitude.max(UNDERFLOW) }
}

/// As [`backward`], over any number type: over `f32` it shows what rounding alone does. Its results may not be finite.
///
/// # Errors
/// As [`backward`].
pub fn backward_over<N: Number>(
    variant: &Variant,
    inputs: &BackwardInputs<f64>,
) -> Result<Gradients<N>, ReferenceError> {
    inputs.check()?;
    let call = call::<N>(variant, &inputs.inputs)?;
    Ok(call.backward(&inputs.grad.map(|g| N::constant(*g)), inputs.wanted))
}

/// As [`double_backward`], over any number type: over `f32` it shows what rounding alone does. Its results may not be
/// finite.
///
/// # Errors
/// As [`double_backward`].
pub fn double_backward_over<N: Number>(
    variant: &Variant,
    inputs: &DoubleBackwardInputs<f64>,
) -> Result<DoubleGradients<N>, ReferenceError> {
    inputs.check()?;
    let mut call = call::<Dual<N>>(variant, &inputs.inputs)?;
    call.set_tangents(&inputs.tangent);
    let grad: Outputs<Dual<N>> = inputs.grad.map(|g| Dual::constant(*g));
    Ok(DoubleGradients {
        grad: call.forward().map(|x| x.tangent),
        gradients: call.backward(&grad, Wanted::ALL).map(|x| x.tangent),
    })
}

#[cfg(test)]
mod tests {
    use ff_spec::fused_message::{Activation, Filter, FilterKind, InputError, Inputs, Message, Radial, Reduction};

    use super::*;
    use crate::fused_message::{FilterFunction, forward};
    use crate::radial::{RADIAL_FUNCTIONS, RadialKind, default_parameters};
    use crate::testing::numbers;

    const R_C: f64 = 4.0;
    /// The edge at d = 0.
    const AT_ZERO: usize = 2;
    /// The edges at and beyond the cutoff.
    const BEYOND: [usize; 2] = [4, 6];

    /// Three atoms, edges of every kind: long, short, to itself, and those that contribute in part or not at all.
    fn linear(message: Message, basis: &str, cutoff: &str) -> Inputs<f64> {
        let (n_atoms, features, n_basis) = (3, 2, 3);
        let c = message.parts() * features;
        let edges: [(u32, [f64; 3]); 8] = [
            (1, [1.1, -0.4, 0.7]),
            (2, [-0.3, 2.2, 1.9]),
            (2, [0.0; 3]),
            (0, [0.3, 0.5, -0.2]),
            (2, [0.0, -R_C, 0.0]),
            (0, [2.1, -2.3, 2.2]),
            (1, [0.1, 4.4, 0.3]),
            (2, [-1.7, 0.2, -0.6]),
        ];
        Inputs {
            message,
            n_atoms,
            features,
            row_ptr: vec![0, 3, 3, 8],
            sender: edges.iter().map(|e| e.0).collect(),
            edge_vec: edges.iter().flat_map(|e| e.1).collect(),
            nodes: numbers(n_atoms * c, 1),
            vectors: numbers(if message == Message::Painn { n_atoms * 3 * features } else { 0 }, 2),
            radial: Radial {
                r_cut: R_C,
                n_basis,
                basis: default_parameters(basis, RadialKind::Basis, R_C, n_basis).unwrap(),
                cutoff: default_parameters(cutoff, RadialKind::Cutoff, R_C, n_basis).unwrap(),
            },
            filter: Filter::Linear { a: numbers(n_basis * c, 3), b: numbers(c, 4) },
        }
    }

    /// Every message with every filter, the two activations and the two orders of tables being filters of their own, and
    /// every pair of radial functions.
    fn all() -> Vec<(Variant, Inputs<f64>)> {
        let names = |kind| RADIAL_FUNCTIONS.iter().filter(move |s| s.kind == kind).map(|s| s.name);
        let mut all = Vec::new();
        for message in Message::ALL {
            for basis in names(RadialKind::Basis) {
                for cutoff in names(RadialKind::Cutoff) {
                    let linear = linear(message, basis, cutoff);
                    let (hidden, k, c) = (5, linear.radial.n_basis, linear.channels());
                    let mlp = |activation| Filter::Mlp {
                        hidden,
                        a1: numbers(k * hidden, 5),
                        b1: numbers(hidden, 6),
                        a2: numbers(hidden * c, 7),
                        b2: numbers(c, 8),
                        activation,
                    };
                    let table = |order| {
                        let (n_nodes, function) = (9, FilterFunction::new(&linear, Some((basis, cutoff))).unwrap());
                        let jets = (0..n_nodes).map(|n| function.jet(R_C * n as f64 / (n_nodes - 1) as f64));
                        let values = jets
                            .flat_map(|jet| (0..order).flat_map(move |m| jet.clone().into_iter().map(move |w| w[m])));
                        Filter::Tabulated { order, n_nodes, values: values.collect() }
                    };
                    for filter in [
                        linear.filter.clone(),
                        mlp(Activation::ShiftedSoftplus),
                        mlp(Activation::Tanh),
                        mlp(Activation::Silu),
                        table(2),
                        table(3),
                    ] {
                        let kind = filter.kind();
                        let radial = (kind != FilterKind::Tabulated).then(|| (basis.to_owned(), cutoff.to_owned()));
                        let variant = Variant { message, filter: kind, radial, reduction: Reduction::Receiver };
                        all.push((variant, Inputs { filter, ..linear.clone() }));
                    }
                }
            }
        }
        all
    }

    /// Numbers in the shape of the outputs.
    fn cotangents(inputs: &Inputs<f64>, seed: usize) -> Outputs<f64> {
        let like = inputs.poisoned_outputs();
        Outputs { nodes: numbers(like.nodes.len(), seed), vectors: numbers(like.vectors.len(), seed + 1) }
    }

    /// Numbers in the shape of the inputs. The edges at d = 0 and at r_c do not move, since differences across these two
    /// distances are no derivatives.
    fn direction(inputs: &Inputs<f64>, seed: usize) -> Gradients<f64> {
        let mut n = 0;
        let mut direction = inputs.filled_gradients(Wanted::ALL, 0.0).map(|_| {
            n += 1;
            numbers(1, n + seed)[0]
        });
        for e in [AT_ZERO, BEYOND[0]] {
            direction.edge_vec[3 * e..][..3].fill(0.0);
        }
        direction
    }

    /// A direction in one tensor alone, for each that the inputs have.
    fn directions(inputs: &Inputs<f64>, seed: usize) -> Vec<(&'static str, Gradients<f64>)> {
        let full = direction(inputs, seed);
        let tensors = full.tensors().into_iter().filter(|(_, values)| !values.is_empty());
        tensors
            .map(|(tensor, values)| {
                let mut only = inputs.filled_gradients(Wanted::ALL, 0.0);
                let target = tensors_mut(&mut only).into_iter().find(|(name, _)| *name == tensor).unwrap().1;
                target.copy_from_slice(values);
                (tensor, only)
            })
            .collect()
    }

    type TensorMut<'a> = (&'static str, &'a mut Vec<f64>);

    fn tensors_mut(gradients: &mut Gradients<f64>) -> Vec<TensorMut<'_>> {
        let mut all = vec![
            ("nodes", &mut gradients.nodes),
            ("vectors", &mut gradients.vectors),
            ("edge_vec", &mut gradients.edge_vec),
        ];
        match &mut gradients.filter {
            Some(Filter::Linear { a, b }) => all.extend([("A", a), ("b", b)]),
            Some(Filter::Mlp { a1, b1, a2, b2, .. }) => all.extend([("A1", a1), ("b1", b1), ("A2", a2), ("b2", b2)]),
            _ => {}
        }
        all
    }

    /// inputs + h t.
    fn moved(inputs: &Inputs<f64>, t: &Gradients<f64>, h: f64) -> Inputs<f64> {
        let mut moved = inputs.clone();
        let add = |x: &mut Vec<f64>, t: &[f64]| x.iter_mut().zip(t).for_each(|(x, t)| *x += h * t);
        add(&mut moved.nodes, &t.nodes);
        add(&mut moved.vectors, &t.vectors);
        add(&mut moved.edge_vec, &t.edge_vec);
        match (&mut moved.filter, &t.filter) {
            (Filter::Linear { a, b }, Some(Filter::Linear { a: ta, b: tb })) => {
                add(a, ta);
                add(b, tb);
            }
            (Filter::Mlp { a1, b1, a2, b2, .. }, Some(Filter::Mlp { a1: ta1, b1: tb1, a2: ta2, b2: tb2, .. })) => {
                add(a1, ta1);
                add(b1, tb1);
                add(a2, ta2);
                add(b2, tb2);
            }
            _ => assert!(t.filter.is_none()),
        }
        moved
    }

    type Tensor<'a> = (&'a str, &'a [f64]);

    /// ⟨a, b⟩.
    fn product(a: &[Tensor], b: &[Tensor]) -> f64 {
        assert_eq!(a.len(), b.len());
        let pair = |(a, b): (&Tensor, &Tensor)| -> f64 {
            assert_eq!((a.0, a.1.len()), (b.0, b.1.len()));
            a.1.iter().zip(b.1).map(|(a, b)| a * b).sum()
        };
        a.iter().zip(b).map(pair).sum()
    }

    fn first(variant: &Variant, inputs: &Inputs<f64>, grad: &Outputs<f64>) -> Oracle<Gradients<f64>> {
        let inputs = BackwardInputs { inputs: inputs.clone(), grad: grad.clone(), wanted: Wanted::ALL };
        backward(variant, &inputs).unwrap()
    }

    fn second(
        variant: &Variant,
        inputs: &Inputs<f64>,
        grad: &Outputs<f64>,
        tangent: &Gradients<f64>,
    ) -> Oracle<DoubleGradients<f64>> {
        let (inputs, grad, tangent) = (inputs.clone(), grad.clone(), tangent.clone());
        double_backward(variant, &DoubleBackwardInputs { inputs, grad, tangent }).unwrap()
    }

    /// f′(0) by central differences of fourth order.
    fn difference(f: impl Fn(f64) -> f64) -> f64 {
        let h = 1e-3;
        (8.0 * (f(h) - f(-h)) - (f(2.0 * h) - f(-2.0 * h))) / (12.0 * h)
    }

    /// What a difference may be off by, of the sum of the |terms|: h⁴/30 = 3e-14 times a fifth derivative, up to 1e5 times
    /// the value on the shortest edge (24/d⁵ with d = 0.6, and 10 from its basis), and rounding of 1e-16/h.
    const DIFFERENCE: f64 = 1e-8;

    #[test]
    fn backward_matches_differences() {
        for (variant, inputs) in all() {
            let grad = cotangents(&inputs, 20);
            let Oracle { outputs, magnitude } = first(&variant, &inputs, &grad);
            for (tensor, t) in directions(&inputs, 30) {
                let l =
                    |h| product(&forward(&variant, &moved(&inputs, &t, h)).unwrap().outputs.tensors(), &grad.tensors());
                let (expected, found) = (difference(l), product(&outputs.tensors(), &t.tensors()));
                let scale = product(&magnitude.tensors(), &t.map(|t| t.abs()).tensors());
                assert!(found != 0.0, "{variant}: nothing in `{tensor}`");
                assert!(
                    (found - expected).abs() < DIFFERENCE * scale,
                    "{variant} `{tensor}`: {found}, expected {expected} (scale {scale})"
                );
            }
        }
    }

    #[test]
    fn double_backward_matches_differences_of_backward() {
        for (variant, inputs) in all() {
            let (grad, t) = (cotangents(&inputs, 20), direction(&inputs, 30));
            let Oracle { outputs, magnitude } = second(&variant, &inputs, &grad, &t);
            let q = |inputs: &Inputs<f64>, grad: &Outputs<f64>| {
                product(&first(&variant, inputs, grad).outputs.tensors(), &t.tensors())
            };
            for (tensor, along) in directions(&inputs, 40) {
                let expected = difference(|h| q(&moved(&inputs, &along, h), &grad));
                let found = product(&outputs.gradients.tensors(), &along.tensors());
                let scale = product(&magnitude.gradients.tensors(), &along.map(|t| t.abs()).tensors());
                assert!(found != 0.0, "{variant}: nothing in `{tensor}`");
                assert!(
                    (found - expected).abs() < DIFFERENCE * scale,
                    "{variant} `{tensor}`: {found}, expected {expected} (scale {scale})"
                );
            }
            // Q is linear in g, so no step is small or large.
            let along = cotangents(&inputs, 50);
            let (expected, found) = (q(&inputs, &along), product(&outputs.grad.tensors(), &along.tensors()));
            let scale = product(&magnitude.grad.tensors(), &along.map(|g| g.abs()).tensors());
            assert!((found - expected).abs() < 1e-13 * scale, "{variant} `grad`: {found}, expected {expected}");
        }
    }

    #[test]
    fn the_gradient_in_g_is_the_derivative_of_the_outputs() {
        for (variant, inputs) in all() {
            let (grad, t) = (cotangents(&inputs, 20), direction(&inputs, 30));
            let Oracle { outputs, magnitude } = second(&variant, &inputs, &grad, &t);
            let at = |h| forward(&variant, &moved(&inputs, &t, h)).unwrap().outputs;
            let [down_2, down, up, up_2] = [-2e-3, -1e-3, 1e-3, 2e-3].map(at);
            for tensor in 0..2 {
                let of = |o: &Outputs<f64>| o.tensors()[tensor].1.to_vec();
                let [down_2, down, up, up_2] = [&down_2, &down, &up, &up_2].map(of);
                let (found, scale) = (of(&outputs.grad), of(&magnitude.grad));
                for i in 0..found.len() {
                    let expected = (8.0 * (up[i] - down[i]) - (up_2[i] - down_2[i])) / 12e-3;
                    assert!(
                        (found[i] - expected).abs() <= DIFFERENCE * scale[i],
                        "{variant} {tensor}[{i}]: {}, expected {expected}",
                        found[i]
                    );
                }
            }
        }
    }

    #[test]
    fn second_derivatives_are_symmetric_and_linear_in_g() {
        for (variant, inputs) in all() {
            let (g, t, s) = (cotangents(&inputs, 20), direction(&inputs, 30), direction(&inputs, 40));
            let (along_t, along_s) = (second(&variant, &inputs, &g, &t), second(&variant, &inputs, &g, &s));
            let scale = product(&along_t.magnitude.gradients.tensors(), &s.map(|s| s.abs()).tensors());
            let [ts, st] = [(&along_t, &s), (&along_s, &t)]
                .map(|(along, by)| product(&along.outputs.gradients.tensors(), &by.tensors()));
            assert!((ts - st).abs() < 1e-13 * scale && ts != 0.0, "{variant}: {ts} and {st}");

            let other = cotangents(&inputs, 60);
            let mut sum = other.clone();
            sum.nodes.iter_mut().zip(&g.nodes).for_each(|(sum, g)| *sum += 2.0 * g);
            sum.vectors.iter_mut().zip(&g.vectors).for_each(|(sum, g)| *sum += 2.0 * g);
            let (of_other, of_sum) = (second(&variant, &inputs, &other, &t), second(&variant, &inputs, &sum, &t));
            assert_eq!(
                of_other.outputs.grad, along_t.outputs.grad,
                "{variant}: the gradient in g does not depend on g"
            );
            let parts = |o: &Oracle<DoubleGradients<f64>>| -> Vec<f64> {
                o.outputs.gradients.tensors().into_iter().flat_map(|(_, v)| v.to_vec()).collect()
            };
            let magnitudes = of_sum.magnitude.gradients.tensors().into_iter().flat_map(|(_, v)| v.to_vec());
            let (a, b) = (parts(&along_t), parts(&of_other));
            for (i, (sum, m)) in parts(&of_sum).into_iter().zip(magnitudes).enumerate() {
                let expected = 2.0 * a[i] + b[i];
                // The magnitude of the sum may be far below those of its parts where they cancel, which here none does.
                assert!((sum - expected).abs() <= 1e-12 * m, "{variant}[{i}]: {sum}, expected {expected}");
            }
        }
    }

    #[test]
    fn edges_without_a_direction_or_a_length_in_reach_are_still() {
        for (variant, inputs) in all() {
            let (grad, mut t) = (cotangents(&inputs, 20), direction(&inputs, 30));
            let still = [AT_ZERO, BEYOND[0]];
            still.iter().for_each(|e| t.edge_vec[3 * e..][..3].copy_from_slice(&[1.0, -2.0, 3.0]));
            let (one, two) = (first(&variant, &inputs, &grad), second(&variant, &inputs, &grad, &t));
            for e in [AT_ZERO, BEYOND[0], BEYOND[1]] {
                for tensor in [
                    &one.outputs.edge_vec,
                    &one.magnitude.edge_vec,
                    &two.outputs.gradients.edge_vec,
                    &two.magnitude.gradients.edge_vec,
                ] {
                    assert_eq!(tensor[3 * e..][..3], [0.0; 3], "{variant} edge {e}");
                }
            }
            // A motion where nothing moves is none, …
            still.iter().for_each(|e| t.edge_vec[3 * e..][..3].fill(0.0));
            assert_eq!(second(&variant, &inputs, &grad, &t), two, "{variant}");
            // … and without the edges that are out of reach all else is the same.
            let keep = |e: &usize| !BEYOND.contains(e);
            let kept = |v: &[f64]| (0..8).filter(keep).flat_map(|e| v[3 * e..][..3].to_vec()).collect::<Vec<_>>();
            let without = Inputs {
                row_ptr: vec![0, 3, 3, 6],
                sender: (0..8).filter(keep).map(|e| inputs.sender[e]).collect(),
                edge_vec: kept(&inputs.edge_vec),
                ..inputs.clone()
            };
            let shorter = Gradients { edge_vec: kept(&t.edge_vec), ..t.clone() };
            let expected = Gradients { edge_vec: kept(&one.outputs.edge_vec), ..one.outputs };
            assert_eq!(first(&variant, &without, &grad).outputs, expected, "{variant}");
            let found = second(&variant, &without, &grad, &shorter).outputs;
            let edge_vec = kept(&two.outputs.gradients.edge_vec);
            assert_eq!(found.gradients, Gradients { edge_vec, ..two.outputs.gradients }, "{variant}");
            assert_eq!(found.grad, two.outputs.grad, "{variant}");
        }
    }

    #[test]
    fn the_edge_at_zero_still_sends_its_features() {
        let (variant, inputs) = all().swap_remove(0);
        let grad = cotangents(&inputs, 20);
        let with = first(&variant, &inputs, &grad).outputs;
        let mut far = inputs;
        far.edge_vec[3 * AT_ZERO] = R_C;
        let without = first(&variant, &far, &grad).outputs;
        assert_ne!(with.nodes, without.nodes);
        assert_ne!(with.filter, without.filter);
    }

    #[test]
    fn magnitudes_bound_values() {
        for (variant, inputs) in all() {
            let (grad, t) = (cotangents(&inputs, 20), direction(&inputs, 30));
            let one = first(&variant, &inputs, &grad);
            let two = second(&variant, &inputs, &grad, &t);
            let pairs = one.outputs.tensors().into_iter().zip(one.magnitude.tensors());
            for ((tensor, values), (_, bounds)) in
                pairs.chain(two.outputs.tensors().into_iter().zip(two.magnitude.tensors()))
            {
                for (value, bound) in values.iter().zip(bounds) {
                    assert!(value.abs() <= bound * (1.0 + 1e-12), "{variant} `{tensor}`: {value} above {bound}");
                }
            }
        }
    }

    #[test]
    fn what_underflows_in_f32_is_no_error() {
        let (variant, mut inputs) =
            all().into_iter().find(|(v, _)| v.id() == "painn_linear_gaussian_cosine_receiver").unwrap();
        let Some(gamma) = inputs.radial.basis.get_mut("gamma") else { panic!("the gaussian has one") };
        // exp(−200) is no number of f32, exp(−2000) none of f64; each needs 4 Å² or so.
        (gamma[0], gamma[1]) = (80.0, 1e5);
        inputs.edge_vec.chunks_exact_mut(3).for_each(|r| r.copy_from_slice(&[0.0, 1.6, 0.1]));
        let Oracle { outputs, magnitude } = first(&variant, &inputs, &cotangents(&inputs, 20));
        let (Some(Filter::Linear { a, .. }), Some(Filter::Linear { a: m, .. })) = (outputs.filter, magnitude.filter)
        else {
            panic!("the filter is linear")
        };
        let c = inputs.channels();
        assert!(a[..c].iter().all(|a| a.abs() < 1e-60 && *a != 0.0) && a[c..2 * c].iter().all(|a| *a == 0.0));
        assert!(m[..2 * c].iter().all(|m| *m == UNDERFLOW) && m[2 * c..].iter().all(|m| *m > 1e-3), "{m:?}");
    }

    #[test]
    fn what_is_not_wanted_is_not_there_and_changes_nothing() {
        for (variant, inputs) in all() {
            let grad = cotangents(&inputs, 20);
            let full = first(&variant, &inputs, &grad).outputs;
            for bits in 0..8 {
                let wanted = Wanted { nodes: bits & 1 > 0, edge_vec: bits & 2 > 0, filter: bits & 4 > 0 };
                let part = BackwardInputs { inputs: inputs.clone(), grad: grad.clone(), wanted };
                let found = backward(&variant, &part).unwrap().outputs;
                let some = |wanted: bool, values: &[f64]| if wanted { values.to_vec() } else { Vec::new() };
                let expected = Gradients {
                    nodes: some(wanted.nodes, &full.nodes),
                    vectors: some(wanted.nodes, &full.vectors),
                    edge_vec: some(wanted.edge_vec, &full.edge_vec),
                    filter: full.filter.clone().filter(|_| wanted.filter),
                };
                assert_eq!(found, expected, "{variant} {wanted:?}");
            }
        }
    }

    #[test]
    fn no_direction_in_the_weights_is_the_direction_zero() {
        for (variant, inputs) in all() {
            let (grad, t) = (cotangents(&inputs, 20), direction(&inputs, 30));
            let none = Gradients { filter: None, ..t.clone() };
            let zero = Gradients { filter: t.filter.as_ref().map(|f| f.map(|_| 0.0)), ..t };
            let [none, zero] = [none, zero].map(|t| second(&variant, &inputs, &grad, &t).outputs);
            assert_eq!(none, zero, "{variant}");
        }
    }

    #[test]
    fn wrong_inputs_are_named() {
        let (variant, inputs) = all().swap_remove(0);
        let grad = Outputs { vectors: vec![1.0], ..cotangents(&inputs, 20) };
        let wrong = BackwardInputs { inputs: inputs.clone(), grad, wanted: Wanted::ALL };
        let error = backward(&variant, &wrong).unwrap_err().to_string();
        assert!(error.contains("`grad.dmu` has 1 elements"), "{error}");
        let grad = cotangents(&inputs, 20);
        let tangent = Gradients { edge_vec: Vec::new(), ..direction(&inputs, 30) };
        let wrong = DoubleBackwardInputs { inputs: inputs.clone(), grad: grad.clone(), tangent };
        let error = double_backward(&variant, &wrong).unwrap_err().to_string();
        assert!(error.contains("`tangent.edge_vec` has 0 elements"), "{error}");
        let other: Variant = "painn_linear_gaussian_cosine_receiver".parse().unwrap();
        let right = BackwardInputs { inputs, grad, wanted: Wanted::ALL };
        let error = backward(&other, &right).unwrap_err();
        assert!(matches!(error, ReferenceError::Input(InputError::Variant { .. })), "{error}");
        let mut huge = right;
        huge.inputs.nodes.fill(1e200);
        huge.grad.nodes.fill(1e200);
        let error = backward(&variant, &huge).unwrap_err();
        assert!(matches!(error, ReferenceError::NotFinite { tensor: "edge_vec", .. }), "{error}");
    }
}
