//! What the tests of this crate share: the host kernels' answer, and uploads to a Burn backend.

use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};
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

pub fn graph<B: Backend>(inputs: &Inputs<f64>, dtype: Dtype, device: &B::Device) -> Result<Graph<B>, OpError> {
    Graph::upload(&inputs.row_ptr, &inputs.sender, &inputs.edge_vec, dtype, device)
}

pub fn filter<B: Backend>(inputs: &Inputs<f64>, dtype: Dtype, device: &B::Device) -> FilterTensors<B> {
    FilterTensors::upload(&inputs.filter, inputs.radial.n_basis, inputs.channels(), dtype, device)
}
