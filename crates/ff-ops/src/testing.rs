//! What the tests of this crate share: random cases, the host kernels' answer, uploads to a Burn backend, and comparison.

use burn::tensor::backend::Backend;
use burn::tensor::{DType, Int, Tensor, TensorData};
use ff_spec::fused_message::{Activation, Filter, FilterKind, Inputs, Message, Outputs, Reduction, Variant};
use ff_spec::{Dtype, Prepare, RuntimeKind};
use ff_testkit::generators::{CaseSpec, Degrees, Distances, random_inputs};
use ff_testkit::tolerance::norm;

use crate::dtype::burn_dtype;
use crate::fused_message::{FilterTensors, Graph, OpError};

/// Odd sizes, empty rows, and edges in the skin.
pub(crate) fn spec() -> CaseSpec {
    CaseSpec {
        n_atoms: 11,
        features: 7,
        n_basis: 5,
        hidden: 6,
        activation: Activation::ShiftedSoftplus,
        table_order: 2,
        table_nodes: 65,
        r_cut: 4.5,
        degrees: Degrees::EmptyRows(13),
        distances: Distances::Skin,
    }
}

pub(crate) fn case(spec: &CaseSpec, variant: &Variant) -> Inputs<f64> {
    random_inputs(spec, variant, 17).unwrap()
}

/// Every message and filter with these radial functions.
pub(crate) fn variants(basis: &str, cutoff: &str, reduction: Reduction) -> Vec<Variant> {
    let radial = |filter| (filter != FilterKind::Tabulated).then(|| (basis.to_owned(), cutoff.to_owned()));
    Message::ALL
        .into_iter()
        .flat_map(|message| {
            FilterKind::ALL.map(|filter| Variant { message, filter, radial: radial(filter), reduction })
        })
        .collect()
}

/// The fused host kernel's outputs.
pub(crate) fn on_host(variant: &Variant, inputs: &Inputs<f64>, dtype: Dtype) -> Outputs<f64> {
    let host: Box<dyn Prepare> = ff_kernels::open(RuntimeKind::Host).unwrap();
    let config = host.default_config(variant, dtype, &inputs.problem("test"));
    let mut launch = host.prepare(variant, dtype, inputs, &config).unwrap();
    launch.run().unwrap();
    launch.outputs().unwrap()
}

/// Numbers of mixed sign and size.
pub(crate) fn numbers(n: usize, seed: usize) -> Vec<f64> {
    (0..n).map(|i| ((i * 7 + seed * 13) as f64 * 0.73).sin()).collect()
}

/// The elements of a tensor, widened.
pub(crate) fn numbers_of<B: Backend, const D: usize>(tensor: &Tensor<B, D>) -> Vec<f64> {
    tensor.to_data().iter::<f64>().collect()
}

/// ‖found − expected‖ and ‖expected‖.
fn error_and_scale(found: &[f64], expected: &[f64]) -> (f64, f64) {
    assert_eq!(found.len(), expected.len());
    (norm(found.iter().zip(expected).map(|(a, b)| a - b)), norm(expected.iter().copied()))
}

/// Asserts that tensors agree by the gate's norm.
pub(crate) fn assert_agree(what: &str, found: &[f64], expected: &[f64], tolerance: f64) {
    let (error, scale) = error_and_scale(found, expected);
    assert!(scale > 0.0, "{what} tells nothing");
    assert!(error <= tolerance * scale, "{what}: {error:e} of {scale:e}");
}

/// The larger ‖found − expected‖/‖expected‖ of the two outputs; NaN where one is NaN.
pub(crate) fn distance(found: &Outputs<f64>, expected: &Outputs<f64>) -> f64 {
    let one = |found: &[f64], expected: &[f64]| {
        let (error, scale) = error_and_scale(found, expected);
        if error == 0.0 { 0.0 } else { error / scale }
    };
    let (nodes, vectors) = (one(&found.nodes, &expected.nodes), one(&found.vectors, &expected.vectors));
    if nodes.is_nan() || vectors.is_nan() { f64::NAN } else { nodes.max(vectors) }
}

pub(crate) fn floats<B: Backend, const D: usize>(
    values: &[f64],
    shape: [usize; D],
    dtype: Dtype,
    device: &B::Device,
) -> Tensor<B, D> {
    let dtype = burn_dtype(dtype);
    Tensor::from_data(TensorData::new(values.to_vec(), shape).convert_dtype(dtype), (device, dtype))
}

pub(crate) fn indices<B: Backend>(values: &[u32], dtype: DType, device: &B::Device) -> Tensor<B, 1, Int> {
    let values: Vec<i64> = values.iter().map(|i| i64::from(*i)).collect();
    let n = values.len();
    Tensor::from_data(TensorData::new(values, [n]).convert_dtype(dtype), (device, dtype))
}

pub(crate) fn graph<B: Backend>(
    inputs: &Inputs<f64>,
    dtype: Dtype,
    index: DType,
    device: &B::Device,
) -> Result<Graph<B>, OpError> {
    let indices = |values: &[u32]| indices(values, index, device);
    let edge_vec = floats(&inputs.edge_vec, [inputs.edge_vec.len() / 3, 3], dtype, device);
    Graph::new(indices(&inputs.row_ptr), indices(&inputs.sender), edge_vec)
}

pub(crate) fn filter<B: Backend>(inputs: &Inputs<f64>, dtype: Dtype, device: &B::Device) -> FilterTensors<B> {
    let (k, c) = (inputs.radial.n_basis, inputs.channels());
    match &inputs.filter {
        Filter::Linear { a, b } => {
            FilterTensors::Linear { a: floats(a, [k, c], dtype, device), b: floats(b, [c], dtype, device) }
        }
        Filter::Mlp { hidden, a1, b1, a2, b2, activation } => FilterTensors::Mlp {
            a1: floats(a1, [k, *hidden], dtype, device),
            b1: floats(b1, [*hidden], dtype, device),
            a2: floats(a2, [*hidden, c], dtype, device),
            b2: floats(b2, [c], dtype, device),
            activation: *activation,
        },
        Filter::Tabulated { order, n_nodes, values } => {
            FilterTensors::Tabulated { values: floats(values, [*n_nodes, *order, c], dtype, device) }
        }
    }
}
