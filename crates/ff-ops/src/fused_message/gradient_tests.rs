//! Gradients through Burn's graph: against Burn's own autodiff of the plain composition, and against differences.

use burn::backend::wgpu::Wgpu;
use burn::tensor::backend::AutodiffBackend;
use burn::tensor::{DType, Int, TensorData};
use burn_autodiff::Autodiff;
use burn_autodiff::checkpoint::strategy::{BalancedCheckpointing, CheckpointStrategy, NoCheckpointing};
use burn_flex::Flex;
use ff_reference::fused_message::{backward, double_backward};
use ff_spec::fused_message::{BackwardInputs, DoubleBackwardInputs, Filter, Outputs};
use ff_spec::{FusedMessageBackward, FusedMessageDoubleBackward};
use ff_testkit::generators::{CaseSpec, rounded};
use ff_testkit::gradients::{random_cotangents, random_tangent};
use ff_testkit::tensors::ByTensors;
use ff_testkit::tolerance::{Order, tolerance};

use super::*;
use crate::testing::{assert_agree, case, filter, floats, graph, numbers, numbers_of, spec, variants};
use crate::unfused;

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

/// Weights on a graph over theirs, which does not track them.
fn over<B: AutodiffBackend>(filter: &FilterTensors<B::InnerBackend>) -> FilterTensors<B> {
    match filter {
        FilterTensors::Linear { a, b } => {
            FilterTensors::Linear { a: Tensor::from_inner(a.clone()), b: Tensor::from_inner(b.clone()) }
        }
        FilterTensors::Mlp { a1, b1, a2, b2, activation } => FilterTensors::Mlp {
            a1: Tensor::from_inner(a1.clone()),
            b1: Tensor::from_inner(b1.clone()),
            a2: Tensor::from_inner(a2.clone()),
            b2: Tensor::from_inner(b2.clone()),
            activation: *activation,
        },
        FilterTensors::Tabulated { values } => FilterTensors::Tabulated { values: Tensor::from_inner(values.clone()) },
    }
}

/// The tensors of a call on a graph, each a leaf of it.
struct Leaves<B: Backend> {
    graph: Graph<B>,
    nodes: Tensor<B, 2>,
    vectors: Option<Tensor<B, 3>>,
    filter: FilterTensors<B>,
}

impl<B: AutodiffBackend + FusedMessageBackend> Leaves<B> {
    fn new(inputs: &Inputs<f64>, dtype: Dtype) -> Self {
        let device = Default::default();
        let (n, f, c) = (inputs.n_atoms, inputs.features, inputs.channels());
        let graph = graph::<B>(inputs, dtype, DType::I32, &device).unwrap();
        let painn = inputs.message == MessageKind::Painn;
        Self {
            graph: graph.with_edge_vec(graph.edge_vec().clone().require_grad()).unwrap(),
            nodes: floats::<B, 2>(&inputs.nodes, [n, c], dtype, &device).require_grad(),
            vectors: painn.then(|| floats(&inputs.vectors, [n, 3, f], dtype, &device).require_grad()),
            filter: tracked(filter::<B>(inputs, dtype, &device)),
        }
    }

    /// The same tensors as leaves of a graph over this one.
    fn over<O: AutodiffBackend<InnerBackend = B> + FusedMessageBackend>(&self, list: &Graph<O>) -> Leaves<O> {
        macro_rules! leaf {
            ($tensor:expr) => {
                Tensor::<O, _>::from_inner($tensor.clone()).require_grad()
            };
        }
        Leaves {
            graph: list.with_edge_vec(leaf!(self.graph.edge_vec())).unwrap(),
            nodes: leaf!(self.nodes),
            vectors: self.vectors.as_ref().map(|vectors| leaf!(vectors)),
            filter: tracked(over(&self.filter)),
        }
    }

    /// ⟨grad, outputs⟩ of the op.
    fn loss(
        &self,
        variant: &Variant,
        radial: &Radial<f64>,
        grad: (Tensor<B, 2>, Option<Tensor<B, 3>>),
    ) -> Tensor<B, 1> {
        let options = Options { variant, tables: &[] };
        let (nodes, vectors) = (self.nodes.clone(), self.vectors.clone());
        let message = fused_message(&self.graph, nodes, vectors, radial, &self.filter, &options).unwrap();
        let loss = (message.nodes * grad.0).sum();
        match (message.vectors, grad.1) {
            (Some(vectors), Some(grad)) => loss + (vectors * grad).sum(),
            _ => loss,
        }
    }

    /// The gradients in every leaf, flat and in the order of [`Gradients::tensors`].
    fn gradients(&self, found: &B::Gradients) -> Vec<(&'static str, Tensor<B::InnerBackend, 1>)> {
        macro_rules! of {
            ($name:literal, $tensor:expr) => {
                ($name, $tensor.grad(found).unwrap().flatten::<1>(0, $tensor.dims().len() - 1))
            };
        }
        let mut all = vec![of!("nodes", self.nodes)];
        all.extend(self.vectors.iter().map(|vectors| of!("vectors", vectors)));
        all.push(of!("edge_vec", self.graph.edge_vec()));
        match &self.filter {
            FilterTensors::Linear { a, b } => all.extend([of!("A", a), of!("b", b)]),
            FilterTensors::Mlp { a1, b1, a2, b2, .. } => {
                all.extend([of!("A1", a1), of!("b1", b1), of!("A2", a2), of!("b2", b2)]);
            }
            FilterTensors::Tabulated { .. } => {}
        }
        all
    }
}

/// Random cotangents as tensors.
fn cotangents<B: Backend>(
    inputs: &Inputs<f64>,
    grad: &Outputs<f64>,
    dtype: Dtype,
) -> (Tensor<B, 2>, Option<Tensor<B, 3>>) {
    let (device, n, f) = (Default::default(), inputs.n_atoms, inputs.features);
    let painn = inputs.message == MessageKind::Painn;
    let vectors = painn.then(|| floats(&grad.vectors, [n, 3, f], dtype, &device));
    (floats(&grad.nodes, [n, f], dtype, &device), vectors)
}

/// Gradients of ⟨grad, outputs⟩ through the fused op.
fn fused<B: FusedMessageBackend, C: CheckpointStrategy>(
    variant: &Variant,
    inputs: &Inputs<f64>,
    grad: &Outputs<f64>,
    dtype: Dtype,
) -> Vec<(&'static str, Vec<f64>)> {
    let leaves = Leaves::<Autodiff<B, C>>::new(inputs, dtype);
    let found = leaves.loss(variant, &inputs.radial, cotangents(inputs, grad, dtype)).backward();
    leaves.gradients(&found).iter().map(|(name, tensor)| (*name, numbers_of(tensor))).collect()
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
                let found = fused::<Flex, BalancedCheckpointing>(&variant, &inputs, &grad, dtype);
                let expected = expected.tensors().into_iter().filter(|(_, values)| !values.is_empty());
                for ((name, found), (_, expected)) in found.iter().zip(expected) {
                    assert_agree(&format!("{variant} {dtype} {name}"), found, expected, tolerance(dtype, Order::First));
                }
            }
        }
    }
}

/// On a device they are the oracle's too.
#[test]
fn gradients_on_a_device_are_the_oracle_s() {
    if let Err(error) = ff_kernels::open(RuntimeKind::Vulkan) {
        println!("not tested on a GPU: {error}");
        return;
    }
    gradients_are_the_oracle_s::<Wgpu>();
    #[cfg(feature = "fusion")]
    gradients_are_the_oracle_s::<burn_fusion::Fusion<Wgpu>>();
}

fn gradients_are_the_oracle_s<B: FusedMessageBackend>() {
    for variant in Reduction::ALL.into_iter().flat_map(|r| variants("gaussian", "cosine", r)) {
        let inputs = case(&spec(), &variant);
        let grad = random_cotangents(&inputs, 3);
        let all = FusedMessageBackward::rounded(&BackwardInputs { inputs, grad, wanted: Wanted::ALL }, Dtype::F32);
        let oracle = backward(&variant, &all).unwrap().outputs;
        let found = fused::<B, NoCheckpointing>(&variant, &all.inputs, &all.grad, Dtype::F32);
        let expected: Vec<_> = oracle.tensors().into_iter().filter(|(_, values)| !values.is_empty()).collect();
        assert_eq!(found.len(), expected.len(), "{variant}");
        for ((name, found), (_, expected)) in found.iter().zip(expected) {
            assert_agree(&format!("{variant} {name}"), found, expected, tolerance(Dtype::F32, Order::First));
        }
    }
}

/// ⟨tangent, gradients⟩ is differentiated once more: what comes out is the oracle's second backward.
fn gradients_of_gradients_are_the_oracle_s<B: FusedMessageBackend>(variant: &Variant, dtype: Dtype) {
    let inputs = case(&spec(), variant);
    let (grad, tangent) = (random_cotangents(&inputs, 3), random_tangent(&inputs, true, 3));
    let all = FusedMessageDoubleBackward::rounded(&DoubleBackwardInputs { inputs, grad, tangent }, dtype);
    let oracle = double_backward(variant, &all).unwrap().outputs;
    let DoubleBackwardInputs { inputs, grad, tangent } = &all;

    let once = Leaves::<Autodiff<B>>::new(inputs, dtype);
    let list = graph::<Autodiff<Autodiff<B>>>(inputs, dtype, DType::I32, &Default::default()).unwrap();
    let twice = once.over(&list);
    let (g, g_mu) = cotangents::<Autodiff<B>>(inputs, grad, dtype);
    let (g, g_mu) = (g.require_grad(), g_mu.map(Tensor::require_grad));
    let over = (Tensor::from_inner(g.clone()), g_mu.clone().map(Tensor::from_inner));
    let first = twice.gradients(&twice.loss(variant, &inputs.radial, over).backward());
    let tangents = tangent.tensors().into_iter().filter(|(_, values)| !values.is_empty());
    let device = Default::default();
    let found = first
        .into_iter()
        .zip(tangents)
        .map(|((_, gradient), (_, t))| (gradient * floats::<Autodiff<B>, 1>(t, [t.len()], dtype, &device)).sum())
        .reduce(|a, b| a + b)
        .unwrap()
        .backward();
    let mut second = vec![("grad.nodes", numbers_of(&g.grad(&found).unwrap()))];
    second.extend(g_mu.iter().map(|g_mu| ("grad.vectors", numbers_of(&g_mu.grad(&found).unwrap()))));
    second.extend(once.gradients(&found).iter().map(|(name, tensor)| (*name, numbers_of(tensor))));
    let expected = oracle.tensors().into_iter().filter(|(_, values)| !values.is_empty());
    assert_eq!(second.len(), expected.clone().count(), "{variant}");
    for ((name, found), (expected_name, expected)) in second.iter().zip(expected) {
        assert_eq!(*name, expected_name);
        assert_agree(&format!("{variant} {dtype} {name}"), found, expected, tolerance(dtype, Order::Second));
    }
}

#[test]
fn the_gradients_have_gradients() {
    for (basis, cutoff) in [("gaussian", "cosine"), ("bessel", "polynomial")] {
        for variant in variants(basis, cutoff, Reduction::Receiver) {
            for dtype in Dtype::ALL {
                gradients_of_gradients_are_the_oracle_s::<Flex>(&variant, dtype);
            }
        }
    }
}

#[test]
fn the_gradients_on_a_device_have_gradients() {
    if let Err(error) = ff_kernels::open(RuntimeKind::Vulkan) {
        println!("not tested on a GPU: {error}");
        return;
    }
    for variant in variants("gaussian", "cosine", Reduction::Receiver) {
        gradients_of_gradients_are_the_oracle_s::<Wgpu>(&variant, Dtype::F32);
    }
}

/// A loss on the gradients in edge vectors alone has them in the weights alone: nothing else is tracked or has a direction.
#[test]
fn a_loss_on_forces_on_a_device_is_that_on_host() {
    fn gradients<B: FusedMessageBackend>(variant: &Variant, inputs: &Inputs<f64>) -> Vec<Vec<f64>> {
        let (dtype, device) = (Dtype::F32, Default::default());
        let weights = tracked(filter::<Autodiff<B>>(inputs, dtype, &device));
        let list = graph::<Autodiff<Autodiff<B>>>(inputs, dtype, DType::I32, &Default::default()).unwrap();
        let edge_vec = list.edge_vec().clone().require_grad();
        let (n, f, c) = (inputs.n_atoms, inputs.features, inputs.channels());
        let painn = inputs.message == MessageKind::Painn;
        let leaves = Leaves::<Autodiff<Autodiff<B>>> {
            graph: list.with_edge_vec(edge_vec.clone()).unwrap(),
            nodes: floats(&inputs.nodes, [n, c], dtype, &device),
            vectors: painn.then(|| floats(&inputs.vectors, [n, 3, f], dtype, &device)),
            filter: over(&weights),
        };
        let grad = cotangents(inputs, &random_cotangents(inputs, 3).cast::<f32>().cast(), dtype);
        let forces = edge_vec.grad(&leaves.loss(variant, &inputs.radial, grad).backward()).unwrap();
        let found = (forces.clone() * forces).sum().backward();
        let of = |tensor: &Tensor<Autodiff<B>, 2>| numbers_of(&tensor.grad(&found).unwrap());
        let of_bias = |tensor: &Tensor<Autodiff<B>, 1>| numbers_of(&tensor.grad(&found).unwrap());
        match &weights {
            FilterTensors::Linear { a, b } => vec![of(a), of_bias(b)],
            FilterTensors::Mlp { a1, b1, a2, b2, .. } => vec![of(a1), of_bias(b1), of(a2), of_bias(b2)],
            FilterTensors::Tabulated { .. } => Vec::new(),
        }
    }
    if let Err(error) = ff_kernels::open(RuntimeKind::Vulkan) {
        println!("not tested on a GPU: {error}");
        return;
    }
    for id in ["painn_linear_gaussian_cosine_receiver", "cfconv_mlp_bessel_polynomial_receiver"] {
        let variant: Variant = id.parse().unwrap();
        let inputs = rounded(&case(&spec(), &variant), Dtype::F32);
        let expected = gradients::<Flex>(&variant, &inputs);
        assert!(!expected.is_empty());
        for (found, expected) in gradients::<Wgpu>(&variant, &inputs).iter().zip(&expected) {
            assert_agree(id, found, expected, tolerance(Dtype::F32, Order::Second));
        }
    }
}

/// All pairs of six atoms in a box that the cutoff does not quite span.
struct Molecule {
    variant: Variant,
    inputs: Inputs<f64>,
    positions: Vec<f64>,
}

impl Molecule {
    fn new(id: &str) -> Self {
        let variant: Variant = id.parse().unwrap();
        let mut inputs = case(&CaseSpec { n_atoms: 6, ..spec() }, &variant);
        inputs.row_ptr = (0..=6).map(|i| 5 * i).collect();
        inputs.sender = (0..6u32).flat_map(|i| (0..6).filter(move |j| *j != i)).collect();
        inputs.edge_vec = vec![1.0; 90];
        let positions = numbers(18, 3).into_iter().map(|x| 2.0 * x).collect();
        Self { variant, inputs, positions }
    }

    /// ½ Σ q² + ½ Σ |μ|² of a message passed twice.
    fn energy<B: FusedMessageBackend>(&self, positions: Tensor<B, 2>, filter: &FilterTensors<B>) -> Tensor<B, 1> {
        let (inputs, device) = (&self.inputs, Default::default());
        let (n, f) = (inputs.n_atoms, inputs.features);
        let list = graph::<B>(inputs, Dtype::F64, DType::I32, &device).unwrap();
        let receiver: Vec<i64> = (0..6).flat_map(|i| [i; 5]).collect();
        let receiver = Tensor::<B, 1, Int>::from_data(TensorData::new(receiver, [30]), &device);
        let edge_vec = positions.clone().select(0, list.sender().clone()) - positions.select(0, receiver);
        let list = list.with_edge_vec(edge_vec).unwrap();
        let options = Options { variant: &self.variant, tables: &[] };
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
}

/// A central difference whose truncation is of the fifth order: at this step about 1e-10, as its rounding.
fn difference(value: impl Fn(f64) -> f64) -> f64 {
    let h = 1e-3;
    (8.0 * (value(h) - value(-h)) - (value(2.0 * h) - value(-2.0 * h))) / (12.0 * h)
}

#[test]
fn forces_are_differences_of_the_energy() {
    type B = Autodiff<Flex>;
    let device = Default::default();
    for id in ["painn_linear_gaussian_cosine_receiver", "painn_mlp_bessel_polynomial_receiver"] {
        let molecule = Molecule::new(id);
        let weights = filter::<B>(&molecule.inputs, Dtype::F64, &device);
        let at = |x: &[f64]| floats::<B, 2>(x, [6, 3], Dtype::F64, &device);
        let x = at(&molecule.positions).require_grad();
        let found = molecule.energy(x.clone(), &weights).backward();
        let gradient = numbers_of(&x.grad(&found).unwrap());
        let scale = gradient.iter().fold(0.0, |m: f64, g| m.max(g.abs()));
        assert!(scale > 1e-3);
        for (k, found) in gradient.iter().enumerate() {
            let expected = difference(|h| {
                let mut x = molecule.positions.clone();
                x[k] += h;
                numbers_of(&molecule.energy(at(&x), &weights))[0]
            });
            assert!((found - expected).abs() <= 1e-8 * scale, "{id} coordinate {k}: {found} and {expected}");
        }
        for axis in 0..3 {
            let sum: f64 = gradient.iter().skip(axis).step_by(3).sum();
            assert!(sum.abs() <= 1e-12 * scale, "{id}: forces along axis {axis} sum to {sum:e}");
        }
    }
}

/// A loss on forces: its gradient in the weights against differences of the loss.
#[test]
fn a_loss_on_forces_has_gradients_in_the_weights() {
    type Once = Autodiff<Flex>;
    type Twice = Autodiff<Once>;
    for id in ["painn_linear_gaussian_cosine_receiver", "painn_mlp_bessel_polynomial_receiver"] {
        let molecule = Molecule::new(id);
        let target = numbers(18, 5);
        // The loss, on a graph whose weights are tracked beneath that of the positions.
        let loss = |filter: &FilterTensors<Once>| {
            let device = Default::default();
            let filter = over(filter);
            let x = floats::<Twice, 2>(&molecule.positions, [6, 3], Dtype::F64, &device).require_grad();
            let found = molecule.energy::<Twice>(x.clone(), &filter).backward();
            let difference = x.grad(&found).unwrap() + floats::<Once, 2>(&target, [6, 3], Dtype::F64, &device);
            (difference.clone() * difference).sum()
        };
        let weights = tracked(filter::<Once>(&molecule.inputs, Dtype::F64, &Default::default()));
        let found = loss(&weights).backward();
        let gradients: Vec<Vec<f64>> = match &weights {
            FilterTensors::Linear { a, b } => {
                vec![numbers_of(&a.grad(&found).unwrap()), numbers_of(&b.grad(&found).unwrap())]
            }
            FilterTensors::Mlp { a1, b1, a2, b2, .. } => vec![
                numbers_of(&a1.grad(&found).unwrap()),
                numbers_of(&b1.grad(&found).unwrap()),
                numbers_of(&a2.grad(&found).unwrap()),
                numbers_of(&b2.grad(&found).unwrap()),
            ],
            FilterTensors::Tabulated { .. } => Vec::new(),
        };
        assert!(gradients.iter().all(|g| g.iter().any(|x| x.abs() > 1e-6)), "{id}: a gradient is zero");
        for (tensor, gradients) in gradients.iter().enumerate() {
            let scale = gradients.iter().fold(0.0, |m: f64, g| m.max(g.abs()));
            for k in [0, gradients.len() / 2, gradients.len() - 1] {
                let expected = difference(|h| {
                    let mut inputs = molecule.inputs.clone();
                    *weight(&mut inputs.filter, tensor, k) += h;
                    numbers_of(&loss(&filter::<Once>(&inputs, Dtype::F64, &Default::default())))[0]
                });
                let found = gradients[k];
                assert!((found - expected).abs() <= 1e-7 * scale, "{id} weight {tensor}[{k}]: {found} and {expected}");
            }
        }
    }
}

/// Element `k` of a tensor of the filter.
fn weight(filter: &mut Filter<f64>, tensor: usize, k: usize) -> &mut f64 {
    match (filter, tensor) {
        (Filter::Linear { a: values, .. }, 0) | (Filter::Mlp { a1: values, .. }, 0) => &mut values[k],
        (Filter::Linear { b: values, .. }, 1) | (Filter::Mlp { b1: values, .. }, 1) => &mut values[k],
        (Filter::Mlp { a2: values, .. }, 2) | (Filter::Mlp { b2: values, .. }, 3) => &mut values[k],
        (_, tensor) => unreachable!("no tensor {tensor}"),
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
    assert_eq!(call::<Autodiff<Autodiff<Flex>>>(linear, false), Ok(()));
    let third = reason(call::<Autodiff<Autodiff<Autodiff<Flex>>>>(linear, false));
    assert!(third.contains("not registered"), "{third}");
    match ff_kernels::open(RuntimeKind::Vulkan) {
        Ok(_) => assert_eq!(call::<Autodiff<Autodiff<Wgpu>>>(linear, false), Ok(())),
        Err(error) => println!("not tested on a GPU: {error}"),
    }
}
