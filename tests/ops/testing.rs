//! What the tests of ops on tensors share: the host kernels' answer, whether there is a GPU, and uploads to a Burn backend.

use burn::tensor::backend::Backend;
use burn::tensor::{DType, Int, Tensor, TensorData};
use ff_ops::burn_dtype;
use ff_ops::fused_message::{FilterTensors, Graph, OpError};
use ff_spec::fused_message::{Inputs, Outputs, Variant};
use ff_spec::{Dtype, Prepare, RuntimeKind};

/// The fused host kernel's outputs.
pub fn on_host(variant: &Variant, inputs: &Inputs<f64>, dtype: Dtype) -> Outputs<f64> {
    let host: Box<dyn Prepare> = ff_kernels::open(RuntimeKind::Host).unwrap();
    let config = host.default_config(variant, dtype, &inputs.problem("test"));
    let mut launch = host.prepare(variant, dtype, inputs, &config).unwrap();
    launch.run().unwrap();
    launch.outputs().unwrap()
}

/// Whether there is Vulkan to test on; where there is none, that is said.
pub fn on_a_gpu() -> bool {
    let opened = ff_kernels::open(RuntimeKind::Vulkan);
    opened.map_err(|error| println!("not tested on a GPU: {error}")).is_ok()
}

/// The elements of a tensor, widened.
pub fn numbers_of<B: Backend, const D: usize>(tensor: &Tensor<B, D>) -> Vec<f64> {
    tensor.to_data().iter::<f64>().collect()
}

pub fn floats<B: Backend, const D: usize>(
    values: &[f64],
    shape: [usize; D],
    dtype: Dtype,
    device: &B::Device,
) -> Tensor<B, D> {
    let dtype = burn_dtype(dtype);
    Tensor::from_data(TensorData::new(values.to_vec(), shape).convert_dtype(dtype), (device, dtype))
}

pub fn indices<B: Backend>(values: &[u32], dtype: DType, device: &B::Device) -> Tensor<B, 1, Int> {
    let values: Vec<i64> = values.iter().map(|i| i64::from(*i)).collect();
    let n = values.len();
    Tensor::from_data(TensorData::new(values, [n]).convert_dtype(dtype), (device, dtype))
}

pub fn graph<B: Backend>(
    inputs: &Inputs<f64>,
    dtype: Dtype,
    index: DType,
    device: &B::Device,
) -> Result<Graph<B>, OpError> {
    let indices = |values: &[u32]| indices(values, index, device);
    let edge_vec = floats(&inputs.edge_vec, [inputs.edge_vec.len() / 3, 3], dtype, device);
    Graph::new(indices(&inputs.row_ptr), indices(&inputs.sender), edge_vec)
}

pub fn filter<B: Backend>(inputs: &Inputs<f64>, dtype: Dtype, device: &B::Device) -> FilterTensors<B> {
    FilterTensors::upload(&inputs.filter, inputs.radial.n_basis, inputs.channels(), dtype, device)
}
