//! Tensors to safetensors files.

use std::collections::HashMap;

use ff_spec::Dtype;
use safetensors::SafeTensorError;
use safetensors::tensor::{Dtype as FileDtype, TensorView};

use crate::failure::{Failure, Result};

/// A tensor as a file holds it: little-endian, row-major.
pub struct Tensor {
    name: String,
    dtype: FileDtype,
    shape: Vec<usize>,
    data: Vec<u8>,
}

impl Tensor {
    /// Of floating-point numbers. Those of f32 were computed or rounded in f32 and widened: narrowing is exact.
    pub fn floats(name: impl Into<String>, shape: Vec<usize>, values: &[f64], dtype: Dtype) -> Self {
        let (dtype, data) = match dtype {
            Dtype::F32 => (FileDtype::F32, values.iter().flat_map(|v| (*v as f32).to_le_bytes()).collect()),
            Dtype::F64 => (FileDtype::F64, values.iter().flat_map(|v| v.to_le_bytes()).collect()),
        };
        Self { name: name.into(), dtype, shape, data }
    }

    /// A vector of indices.
    pub fn indices(name: &str, values: &[u32]) -> Self {
        let data = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        Self { name: name.to_owned(), dtype: FileDtype::U32, shape: vec![values.len()], data }
    }

    /// Of signed integers.
    pub fn integers(name: &str, shape: Vec<usize>, values: &[i32]) -> Self {
        let data = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        Self { name: name.to_owned(), dtype: FileDtype::I32, shape, data }
    }
}

/// Tensors as a safetensors file. Of metadata there is one key at most, since the order of several in the file would differ
/// from run to run.
///
/// # Errors
/// What the format cannot hold.
pub fn write(tensors: &[Tensor], metadata: Option<(&str, String)>) -> Result<Vec<u8>> {
    let metadata = metadata.map(|(key, value)| HashMap::from([(key.to_owned(), value)]));
    tensors
        .iter()
        .map(|Tensor { name, dtype, shape, data }| Ok((name.as_str(), TensorView::new(*dtype, shape.clone(), data)?)))
        .collect::<std::result::Result<Vec<_>, SafeTensorError>>()
        .and_then(|views| safetensors::serialize(views, metadata))
        .map_err(|e| Failure::fault(format!("cannot write safetensors: {e}")))
}

/// Tensors without their shapes as a safetensors file.
///
/// # Errors
/// As [`write`].
pub fn write_flat(tensors: &[(&str, &[f64])], dtype: Dtype) -> Result<Vec<u8>> {
    let all = tensors.iter().map(|(name, values)| Tensor::floats(*name, vec![values.len()], values, dtype));
    write(&all.collect::<Vec<_>>(), None)
}
