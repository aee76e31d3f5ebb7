//! Gradients through Burn's graph: against Burn's own autodiff of the plain composition, and against differences.

use burn::backend::wgpu::Wgpu;
use burn::tensor::backend::AutodiffBackend;
use burn::tensor::{DType, Int, TensorData};
use burn_autodiff::Autodiff;
use burn_autodiff::checkpoint::strategy::{BalancedCheckpointing, CheckpointStrategy};
use burn_flex::Flex;
use ff_spec::fused_message::{Filter, Gradients, Outputs};
use ff_testkit::generators::{CaseSpec, rounded};
use ff_testkit::tolerance::{Order, tolerance};

use super::*;
use crate::testing::{case, filter, floats, graph, spec, variants};
use crate::unfused;

/// Numbers of mixed sign and size.
fn numbers(n: usize, seed: usize) -> Vec<f64> {
    (0..n).map(|i| ((i * 7 + seed * 13) as f64 * 0.73).sin()).collect()
}

fn tracked<B: AutodiffBackend>(filter: FilterTensors<B>) -> FilterTensors<B> {
    match filter {
        FilterTensors::Linear { a, b } => FilterTensors::Linear { a: a.require_grad(), b: b.require_grad() },
        FilterTensors::Mlp { a1, b1, a2, b2, activation } => FilterTensors::Mlp {
            a1: a1.require_grad(),
            b1: b1.require_grad(),
            a2: a2.require_grad(),
            b2: b2.require_grad(),
            activation,
        },
        FilterTensors::Tabulated { values } => FilterTensors::Tabulated { values },
    }
}

/// Gradients of ⟨grad, outputs⟩ through the fused op.
fn fused<C: CheckpointStrategy>(
    variant: &Variant,
    inputs: &Inputs<f64>,
    grad: &Outputs<f64>,
    dtype: Dtype,
) -> Gradients<f64> {
    let device = Default::default();
    let (n, f, c) = (inputs.n_atoms, inputs.features, inputs.channels());
    let graph = graph::<Autodiff<Flex, C>>(inputs, dtype, DType::I32, &device).unwrap();
    let graph = graph.with_edge_vec(graph.edge_vec().clone().require_grad()).unwrap();
    let nodes = floats::<Autodiff<Flex, C>, 2>(&inputs.nodes, [n, c], dtype, &device).require_grad();
    let painn = inputs.message == MessageKind::Painn;
    let vectors = painn.then(|| floats(&inputs.vectors, [n, 3, f], dtype, &device).require_grad());
    let weights = tracked(filter::<Autodiff<Flex, C>>(inputs, dtype, &device));
    let options = Options { variant, tables: &[] };
    let message = fused_message(&graph, nodes.clone(), vectors.clone(), &inputs.radial, &weights, &options).unwrap();
    let mut loss = (message.nodes * floats(&grad.nodes, [n, f], dtype, &device)).sum();
    if let Some(vectors) = message.vectors {
        loss = loss + (vectors * floats(&grad.vectors, [n, 3, f], dtype, &device)).sum();
    }
    let found = loss.backward();
    macro_rules! read {
        ($of:expr) => {
            $of.grad(&found).unwrap().into_data().iter::<f64>().collect::<Vec<f64>>()
        };
    }
    Gradients {
        nodes: read!(nodes),
        vectors: vectors.map(|vectors| read!(vectors)).unwrap_or_default(),
        edge_vec: read!(graph.edge_vec()),
        filter: match &weights {
            FilterTensors::Linear { a, b } => Some(Filter::Linear { a: read!(a), b: read!(b) }),
            FilterTensors::Mlp { a1, b1, a2, b2, activation } => Some(Filter::Mlp {
                hidden: a1.dims()[1],
                a1: read!(a1),
                b1: read!(b1),
                a2: read!(a2),
                b2: read!(b2),
                activation: *activation,
            }),
            FilterTensors::Tabulated { .. } => None,
        },
    }
}

#[test]
fn gradients_are_those_of_the_composition() {
    for (basis, cutoff) in [("gaussian", "cosine"), ("bessel", "polynomial"), ("expnorm", "cosine")] {
        for variant in variants(basis, cutoff, Reduction::Receiver) {
            if variant.radial.is_none() {
                continue;
            }
            for dtype in Dtype::ALL {
                let inputs = rounded(&case(&spec(), &variant), dtype);
                let rows = inputs.n_atoms * inputs.features;
                let grad = Outputs { nodes: numbers(rows, 1), vectors: numbers(inputs.vectors.len(), 2) };
                let grad = match dtype {
                    Dtype::F32 => grad.cast::<f32>().cast(),
                    Dtype::F64 => grad,
                };
                let expected = unfused::gradients(&variant, &inputs, &grad);
                let found = fused::<BalancedCheckpointing>(&variant, &inputs, &grad, dtype);
                for ((name, found), (_, expected)) in found.tensors().into_iter().zip(expected.tensors()) {
                    assert_eq!(found.len(), expected.len(), "{variant} {name}");
                    let norm = |v: &mut dyn Iterator<Item = f64>| v.map(|x| x * x).sum::<f64>().sqrt();
                    let error = norm(&mut found.iter().zip(expected).map(|(a, b)| a - b));
                    let scale = norm(&mut expected.iter().copied());
                    assert!(found.is_empty() || scale > 0.0, "{variant} {name} tells nothing");
                    assert!(
                        error <= tolerance(dtype, Order::First) * scale,
                        "{variant} {dtype} {name}: {error:e} of {scale:e}"
                    );
                }
            }
        }
    }
}

/// A two-layer energy of a molecule: ½ Σ q² + ½ Σ |μ|² of a message passed twice.
fn energy<B: FusedMessageBackend>(
    positions: Tensor<B, 2>,
    list: &Graph<B>,
    receiver: Tensor<B, 1, Int>,
    inputs: &Inputs<f64>,
    variant: &Variant,
    filter: &FilterTensors<B>,
) -> Tensor<B, 1> {
    let (n, f) = (inputs.n_atoms, inputs.features);
    let edge_vec = positions.clone().select(0, list.sender().clone()) - positions.select(0, receiver);
    let list = list.with_edge_vec(edge_vec).unwrap();
    let device = Default::default();
    let options = Options { variant, tables: &[] };
    let mut nodes = floats::<B, 2>(&inputs.nodes, [n, 3 * f], Dtype::F64, &device);
    let mut vectors = floats::<B, 3>(&inputs.vectors, [n, 3, f], Dtype::F64, &device);
    for _ in 0..2 {
        let message =
            fused_message(&list, nodes.clone(), Some(vectors.clone()), &inputs.radial, filter, &options).unwrap();
        let update = message.nodes.clone().tanh();
        nodes = nodes + Tensor::cat(vec![update.clone(), update.clone(), update], 1);
        vectors = vectors + message.vectors.unwrap();
    }
    ((nodes.clone() * nodes).sum() + (vectors.clone() * vectors).sum()).mul_scalar(0.5)
}

#[test]
fn forces_are_differences_of_the_energy() {
    type B = Autodiff<Flex>;
    let device = Default::default();
    for id in ["painn_linear_gaussian_cosine_receiver", "painn_mlp_bessel_polynomial_receiver"] {
        let variant: Variant = id.parse().unwrap();
        let mut inputs = case(&CaseSpec { n_atoms: 6, ..spec() }, &variant);
        // All pairs of six atoms in a box that the cutoff does not quite span.
        let positions: Vec<f64> = numbers(18, 3).into_iter().map(|x| 2.0 * x).collect();
        inputs.row_ptr = (0..=6).map(|i| 5 * i).collect();
        inputs.sender = (0..6u32).flat_map(|i| (0..6).filter(move |j| *j != i)).collect();
        inputs.edge_vec = vec![1.0; 90];
        let receiver: Vec<i64> = (0..6).flat_map(|i| [i; 5]).collect();
        let (list, weights) =
            (graph::<B>(&inputs, Dtype::F64, DType::I32, &device).unwrap(), filter::<B>(&inputs, Dtype::F64, &device));
        let receiver = Tensor::<B, 1, Int>::from_data(TensorData::new(receiver, [30]), &device);
        let at = |x: &[f64]| floats::<B, 2>(x, [6, 3], Dtype::F64, &device);
        let value = |x: &[f64]| {
            let energy = energy(at(x), &list, receiver.clone(), &inputs, &variant, &weights);
            energy.into_data().iter::<f64>().next().unwrap()
        };
        let x = at(&positions).require_grad();
        let found = energy(x.clone(), &list, receiver.clone(), &inputs, &variant, &weights).backward();
        let gradient: Vec<f64> = x.grad(&found).unwrap().into_data().iter::<f64>().collect();
        let scale = gradient.iter().fold(0.0, |m: f64, g| m.max(g.abs()));
        assert!(scale > 1e-3);
        for (k, expected) in gradient.iter().enumerate() {
            // Truncation of the fifth order and rounding of the energy are both about 1e-10 of it at this step.
            let step = |h: f64| {
                let mut x = positions.clone();
                x[k] += h;
                value(&x)
            };
            let h = 1e-3;
            let difference = (8.0 * (step(h) - step(-h)) - (step(2.0 * h) - step(-2.0 * h))) / (12.0 * h);
            assert!((difference - expected).abs() <= 1e-8 * scale, "{id} coordinate {k}: {difference} and {expected}");
        }
        for axis in 0..3 {
            let sum: f64 = gradient.iter().skip(axis).step_by(3).sum();
            assert!(sum.abs() <= 1e-12 * scale, "{id}: forces along axis {axis} sum to {sum:e}");
        }
    }
}

#[test]
fn what_is_not_registered_is_an_error_where_it_is_called() {
    fn call<B: FusedMessageBackend + AutodiffBackend>(id: &str, track_table: bool) -> Result<(), OpError> {
        let device = Default::default();
        let variant: Variant = id.parse().unwrap();
        let inputs = case(&spec(), &variant);
        let dtype = Dtype::F32;
        let graph = graph::<B>(&inputs, dtype, DType::I32, &device)?;
        let nodes = floats::<B, 2>(&inputs.nodes, [inputs.n_atoms, inputs.channels()], dtype, &device);
        let nodes = if track_table { nodes } else { nodes.require_grad() };
        let vectors = (inputs.message == MessageKind::Painn)
            .then(|| floats(&inputs.vectors, [inputs.n_atoms, 3, inputs.features], dtype, &device));
        let weights = match filter::<B>(&inputs, dtype, &device) {
            FilterTensors::Tabulated { values } if track_table => {
                FilterTensors::Tabulated { values: values.require_grad() }
            }
            weights => weights,
        };
        fused_message(&graph, nodes, vectors, &inputs.radial, &weights, &Options { variant: &variant, tables: &[] })
            .map(|_| ())
    }
    let linear = "painn_linear_gaussian_cosine_receiver";
    let reason = |found: Result<(), OpError>| found.unwrap_err().to_string();
    assert_eq!(call::<Autodiff<Flex>>(linear, false), Ok(()));
    assert_eq!(call::<Autodiff<Flex>>("cfconv_tabulated_receiver", false), Ok(()));
    assert!(reason(call::<Autodiff<Flex>>("cfconv_tabulated_receiver", true)).contains("make the table anew"));
    let second = reason(call::<Autodiff<Autodiff<Flex>>>(linear, false));
    assert!(second.contains("not registered"), "{second}");
    match ff_kernels::open(RuntimeKind::Vulkan) {
        Ok(_) => {
            let gpu = reason(call::<Autodiff<Wgpu>>(linear, false));
            assert!(gpu.contains("not registered for vulkan"), "{gpu}");
        }
        Err(error) => println!("not tested on a GPU: {error}"),
    }
}
