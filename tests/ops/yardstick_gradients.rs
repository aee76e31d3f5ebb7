//! Gradients through Burn's graph: of the fused op against Burn's own autodiff of the plain composition, and against the oracle.

use burn::backend::wgpu::Wgpu;
use burn::tensor::backend::{AutodiffBackend, Backend};
use burn::tensor::{Int, Tensor};
use burn_autodiff::Autodiff;
use burn_autodiff::checkpoint::strategy::{BalancedCheckpointing, CheckpointStrategy, NoCheckpointing};
use burn_flex::Flex;
use ff_ops::fused_message::{FilterTensors, FusedMessageBackend, Graph, Options, fused_message};
use ff_reference::fused_message::{backward, double_backward};
use ff_spec::fused_message::{
    BackwardInputs, DoubleBackwardInputs, Inputs, Message as MessageKind, Outputs, Radial, Reduction, Variant, Wanted,
};
use ff_spec::{Dtype, FusedMessageBackward, FusedMessageDoubleBackward};
use ff_testkit::fused_message::gradients::{random_cotangents, random_tangent};
use ff_testkit::fused_message::small::{assert_agree, case, numbers, spec, variants};
use ff_testkit::fused_message::{CaseSpec, rounded};
use ff_testkit::tensors::ByTensors;
use ff_testkit::tolerance::{Order, tolerance};
use ff_yardstick::unfused;

use crate::testing::{filter, floats, numbers_of, on_a_gpu};

/// The elements of a tensor under its name.
type Named = (&'static str, Vec<f64>);

/// Those tensors that there are.
fn present(tensors: Vec<(&'static str, &[f64])>) -> Vec<Named> {
    tensors.into_iter().filter(|(_, values)| !values.is_empty()).map(|(name, values)| (name, values.to_vec())).collect()
}

/// The list, with indices of the type that the backend has for them.
fn graph<B: Backend>(inputs: &Inputs<f64>, dtype: Dtype) -> Graph<B> {
    Graph::upload(&inputs.row_ptr, &inputs.sender, &inputs.edge_vec, dtype, &Default::default()).unwrap()
}

/// What computes a message.
#[derive(Clone, Copy)]
enum By {
    /// The fused op.
    Kernels,
    /// The same of Burn's operations, with Burn's own gradients.
    Composition,
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
        let graph = graph::<B>(inputs, dtype);
        let painn = inputs.message == MessageKind::Painn;
        Self {
            graph: graph.with_edge_vec(graph.edge_vec().clone().require_grad()).unwrap(),
            nodes: floats::<B, 2>(&inputs.nodes, [n, c], dtype, &device).require_grad(),
            vectors: painn.then(|| floats(&inputs.vectors, [n, 3, f], dtype, &device).require_grad()),
            filter: filter::<B>(inputs, dtype, &device).require_grad(),
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
            filter: FilterTensors::from_inner(self.filter.clone()).require_grad(),
        }
    }

    /// ⟨grad, outputs⟩ of the op.
    fn loss(
        &self,
        by: By,
        variant: &Variant,
        radial: &Radial<f64>,
        grad: (Tensor<B, 2>, Option<Tensor<B, 3>>),
    ) -> Tensor<B, 1> {
        let (nodes, vectors) = (self.nodes.clone(), self.vectors.clone());
        let (nodes, vectors) = match by {
            By::Kernels => {
                let options = Options { variant, tables: &[] };
                let message = fused_message(&self.graph, nodes, vectors, radial, &self.filter, &options).unwrap();
                (message.nodes, message.vectors)
            }
            By::Composition => {
                let row_ptr: Vec<i64> = self.graph.row_ptr().to_data().iter::<i64>().collect();
                let receiver: Vec<i64> =
                    row_ptr.windows(2).zip(0..).flat_map(|(row, i)| (row[0]..row[1]).map(move |_| i)).collect();
                let receiver = Tensor::<B, 1, Int>::from_data(&receiver[..], &self.graph.edge_vec().device());
                unfused::message(&self.graph, &receiver, nodes, vectors, radial, &self.filter, variant).unwrap()
            }
        };
        let loss = (nodes * grad.0).sum();
        match (vectors, grad.1) {
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

/// Gradients of ⟨grad, outputs⟩ through Burn's graph.
fn first<B: FusedMessageBackend, C: CheckpointStrategy>(
    by: By,
    variant: &Variant,
    inputs: &Inputs<f64>,
    grad: &Outputs<f64>,
    dtype: Dtype,
) -> Vec<Named> {
    let leaves = Leaves::<Autodiff<B, C>>::new(inputs, dtype);
    let found = leaves.loss(by, variant, &inputs.radial, cotangents(inputs, grad, dtype)).backward();
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
                // In f64, whatever the kernels compute in.
                let expected = first::<Flex, NoCheckpointing>(By::Composition, &variant, &inputs, &grad, Dtype::F64);
                let found = first::<Flex, BalancedCheckpointing>(By::Kernels, &variant, &inputs, &grad, dtype);
                assert_alike(&format!("{variant} {dtype}"), &found, &expected, tolerance(dtype, Order::First));
            }
        }
    }
}

/// Asserts that all of what was found agrees with what was expected, under the same names.
fn assert_alike(what: &str, found: &[Named], expected: &[Named], tolerance: f64) {
    let names = |all: &[Named]| all.iter().map(|(name, _)| *name).collect::<Vec<_>>();
    assert_eq!(names(found), names(expected), "{what}");
    for ((name, found), (_, expected)) in found.iter().zip(expected) {
        assert_agree(&format!("{what} {name}"), found, expected, tolerance);
    }
}

/// On one device the composition of Burn's operations has the same gradients.
#[test]
fn gradients_on_a_device_are_those_of_the_composition_there() {
    if !on_a_gpu() {
        return;
    }
    for id in ["painn_linear_gaussian_cosine_receiver", "cfconv_mlp_bessel_polynomial_receiver"] {
        let variant: Variant = id.parse().unwrap();
        let inputs = rounded(&case(&spec(), &variant), Dtype::F32);
        let grad = random_cotangents(&inputs, 3).cast::<f32>().cast();
        let of = |by| first::<Wgpu, NoCheckpointing>(by, &variant, &inputs, &grad, Dtype::F32);
        assert_alike(id, &of(By::Kernels), &of(By::Composition), tolerance(Dtype::F32, Order::First));
    }
}

/// On a device they are the oracle's too.
#[test]
fn gradients_on_a_device_are_the_oracle_s() {
    if !on_a_gpu() {
        return;
    }
    gradients_are_the_oracle_s::<Wgpu>();
    gradients_are_the_oracle_s::<burn_fusion::Fusion<Wgpu>>();
}

fn gradients_are_the_oracle_s<B: FusedMessageBackend>() {
    for variant in Reduction::ALL.into_iter().flat_map(|r| variants("gaussian", "cosine", r)) {
        let inputs = case(&spec(), &variant);
        let grad = random_cotangents(&inputs, 3);
        let all = FusedMessageBackward::rounded(&BackwardInputs { inputs, grad, wanted: Wanted::ALL }, Dtype::F32);
        let oracle = backward(&variant, &all).unwrap().outputs;
        let found = first::<B, NoCheckpointing>(By::Kernels, &variant, &all.inputs, &all.grad, Dtype::F32);
        let tolerance = tolerance(Dtype::F32, Order::First);
        assert_alike(&variant.to_string(), &found, &present(oracle.tensors()), tolerance);
    }
}

/// Random inputs of a second backward.
fn double_inputs(variant: &Variant, dtype: Dtype) -> DoubleBackwardInputs<f64> {
    let inputs = case(&spec(), variant);
    let (grad, tangent) = (random_cotangents(&inputs, 3), random_tangent(&inputs, true, 3));
    FusedMessageDoubleBackward::rounded(&DoubleBackwardInputs { inputs, grad, tangent }, dtype)
}

/// ⟨tangent, gradients⟩, differentiated once more.
fn second<B: FusedMessageBackend, C: CheckpointStrategy>(
    by: By,
    variant: &Variant,
    DoubleBackwardInputs { inputs, grad, tangent }: &DoubleBackwardInputs<f64>,
    dtype: Dtype,
) -> Vec<Named> {
    type Once<B, C> = Autodiff<B, C>;
    let once = Leaves::<Once<B, C>>::new(inputs, dtype);
    let list = graph::<Autodiff<Once<B, C>, C>>(inputs, dtype);
    let twice = once.over(&list);
    let (g, g_mu) = cotangents::<Once<B, C>>(inputs, grad, dtype);
    let (g, g_mu) = (g.require_grad(), g_mu.map(Tensor::require_grad));
    let over = (Tensor::from_inner(g.clone()), g_mu.clone().map(Tensor::from_inner));
    let first = twice.gradients(&twice.loss(by, variant, &inputs.radial, over).backward());
    let tangents = present(tangent.tensors());
    assert_eq!(first.len(), tangents.len(), "{variant}");
    let device = Default::default();
    let found = first
        .into_iter()
        .zip(tangents)
        .map(|((_, gradient), (_, t))| (gradient * floats::<Once<B, C>, 1>(&t, [t.len()], dtype, &device)).sum())
        .reduce(|a, b| a + b)
        .unwrap()
        .backward();
    let mut second = vec![("grad.nodes", numbers_of(&g.grad(&found).unwrap()))];
    second.extend(g_mu.iter().map(|g_mu| ("grad.vectors", numbers_of(&g_mu.grad(&found).unwrap()))));
    second.extend(once.gradients(&found).iter().map(|(name, tensor)| (*name, numbers_of(tensor))));
    second
}

/// What comes out is the oracle's second backward.
fn gradients_of_gradients_are_the_oracle_s<B: FusedMessageBackend, C: CheckpointStrategy>(
    variant: &Variant,
    dtype: Dtype,
) {
    let all = double_inputs(variant, dtype);
    let oracle = double_backward(variant, &all).unwrap().outputs;
    let found = second::<B, C>(By::Kernels, variant, &all, dtype);
    let tolerance = tolerance(dtype, Order::Second);
    assert_alike(&format!("{variant} {dtype}"), &found, &present(oracle.tensors()), tolerance);
}

#[test]
fn the_gradients_have_gradients() {
    for (basis, cutoff, reduction) in [
        ("gaussian", "cosine", Reduction::Receiver),
        ("bessel", "polynomial", Reduction::Receiver),
        ("expnorm", "cosine", Reduction::EdgeAtomic),
    ] {
        for variant in variants(basis, cutoff, reduction) {
            for dtype in Dtype::ALL {
                gradients_of_gradients_are_the_oracle_s::<Flex, NoCheckpointing>(&variant, dtype);
            }
            gradients_of_gradients_are_the_oracle_s::<Flex, BalancedCheckpointing>(&variant, Dtype::F64);
        }
    }
}

/// They are those that Burn finds of the composition, with nothing of ours but the forward formulas written in its operations.
#[test]
fn the_gradients_of_gradients_are_those_of_the_composition() {
    for (basis, cutoff) in [("gaussian", "cosine"), ("bessel", "polynomial"), ("expnorm", "cosine")] {
        for variant in variants(basis, cutoff, Reduction::Receiver).iter().filter(|variant| variant.radial.is_some()) {
            let all = double_inputs(variant, Dtype::F64);
            let of = |by| second::<Flex, NoCheckpointing>(by, variant, &all, Dtype::F64);
            let tolerance = tolerance(Dtype::F64, Order::Second);
            assert_alike(&variant.to_string(), &of(By::Kernels), &of(By::Composition), tolerance);
        }
    }
}

/// Gradients of calls without atoms, edges, channels or basis functions are there, in their shapes and zero where there is
/// nothing to sum.
#[test]
fn nothing_to_sum_has_gradients() {
    fn check<B: FusedMessageBackend>(dtype: Dtype) {
        let degrees = ff_testkit::degrees::Degrees::Uniform;
        for id in ["painn_linear_gaussian_cosine_receiver", "cfconv_mlp_bessel_polynomial_edge_atomic"] {
            let variant: Variant = id.parse().unwrap();
            for spec in [
                CaseSpec { n_atoms: 0, degrees: degrees(0), ..spec() },
                CaseSpec { n_atoms: 3, degrees: degrees(0), ..spec() },
                CaseSpec { features: 0, ..spec() },
                CaseSpec { n_basis: 0, ..spec() },
            ] {
                let inputs = rounded(&case(&spec, &variant), dtype);
                let grad = random_cotangents(&inputs, 3);
                let all = BackwardInputs { inputs, grad, wanted: Wanted::ALL };
                let all = FusedMessageBackward::rounded(&all, dtype);
                let expected = backward(&variant, &all).unwrap().outputs;
                let found = first::<B, NoCheckpointing>(By::Kernels, &variant, &all.inputs, &all.grad, dtype);
                for (name, found) in found {
                    let expected = expected.tensors().into_iter().find(|(other, _)| *other == name);
                    let expected = expected.map(|(_, values)| values).unwrap_or_default();
                    let what = format!("{id} {spec:?} {name}");
                    assert_eq!(found.len(), expected.len(), "{what}");
                    match expected.iter().any(|x| *x != 0.0) {
                        true => assert_agree(&what, &found, expected, tolerance(dtype, Order::First)),
                        false => assert!(found.iter().all(|x| *x == 0.0), "{what}"),
                    }
                }
            }
        }
    }
    check::<Flex>(Dtype::F64);
    if on_a_gpu() {
        check::<Wgpu>(Dtype::F32);
    }
}

#[test]
fn the_gradients_on_a_device_have_gradients() {
    if !on_a_gpu() {
        return;
    }
    for variant in variants("gaussian", "cosine", Reduction::Receiver) {
        gradients_of_gradients_are_the_oracle_s::<Wgpu, NoCheckpointing>(&variant, Dtype::F32);
    }
}

/// A loss on the gradients in edge vectors alone has them in the weights alone: nothing else is tracked or has a direction.
#[test]
fn a_loss_on_forces_on_a_device_is_that_on_host() {
    fn gradients<B: FusedMessageBackend>(variant: &Variant, inputs: &Inputs<f64>) -> Vec<Vec<f64>> {
        let (dtype, device) = (Dtype::F32, Default::default());
        let weights = filter::<Autodiff<B>>(inputs, dtype, &device).require_grad();
        let list = graph::<Autodiff<Autodiff<B>>>(inputs, dtype);
        let edge_vec = list.edge_vec().clone().require_grad();
        let (n, f, c) = (inputs.n_atoms, inputs.features, inputs.channels());
        let painn = inputs.message == MessageKind::Painn;
        let leaves = Leaves::<Autodiff<Autodiff<B>>> {
            graph: list.with_edge_vec(edge_vec.clone()).unwrap(),
            nodes: floats(&inputs.nodes, [n, c], dtype, &device),
            vectors: painn.then(|| floats(&inputs.vectors, [n, 3, f], dtype, &device)),
            filter: FilterTensors::from_inner(weights.clone()),
        };
        let grad = cotangents(inputs, &random_cotangents(inputs, 3).cast::<f32>().cast(), dtype);
        let forces = edge_vec.grad(&leaves.loss(By::Kernels, variant, &inputs.radial, grad).backward()).unwrap();
        let found = (forces.clone() * forces).sum().backward();
        let of = |tensor: &Tensor<Autodiff<B>, 2>| numbers_of(&tensor.grad(&found).unwrap());
        let of_bias = |tensor: &Tensor<Autodiff<B>, 1>| numbers_of(&tensor.grad(&found).unwrap());
        match &weights {
            FilterTensors::Linear { a, b } => vec![of(a), of_bias(b)],
            FilterTensors::Mlp { a1, b1, a2, b2, .. } => vec![of(a1), of_bias(b1), of(a2), of_bias(b2)],
            FilterTensors::Tabulated { .. } => Vec::new(),
        }
    }
    if !on_a_gpu() {
        return;
    }
    for id in ["painn_linear_gaussian_cosine_receiver", "cfconv_mlp_bessel_polynomial_receiver"] {
        let variant: Variant = id.parse().unwrap();
        let inputs = rounded(&case(&spec(), &variant), Dtype::F32);
        let expected = gradients::<Flex>(&variant, &inputs);
        assert!(!expected.is_empty());
        let found = gradients::<Wgpu>(&variant, &inputs);
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(&expected) {
            assert_agree(id, found, expected, tolerance(Dtype::F32, Order::Second));
        }
    }
}
