//! Flex tensors as the host kernels read and write them.

use burn::tensor::{DType, Element, TensorData};
use burn_flex::FlexTensor;

/// A tensor of these values.
pub(crate) fn tensor<T: Element>(values: Vec<T>, shape: &[usize]) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(values, shape.to_vec()))
}

/// Indices of any width as u32, which the list was checked to fit.
pub(crate) fn indices(tensor: &FlexTensor) -> Vec<u32> {
    let tensor = tensor.to_contiguous();
    match tensor.dtype() {
        DType::I32 => tensor.storage::<i32>().iter().map(|i| *i as u32).collect(),
        DType::I64 => tensor.storage::<i64>().iter().map(|i| *i as u32).collect(),
        DType::U32 => tensor.storage::<u32>().to_vec(),
        _ => tensor.into_data().iter::<i64>().map(|i| i as u32).collect(),
    }
}
