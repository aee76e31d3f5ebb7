use burn::tensor::DType;
use ff_spec::Dtype;

/// Burn's name of a dtype.
pub fn burn_dtype(dtype: Dtype) -> DType {
    match dtype {
        Dtype::F32 => DType::F32,
        Dtype::F64 => DType::F64,
    }
}

/// The dtype of a Burn tensor, if kernels were rendered for it.
pub fn spec_dtype(dtype: DType) -> Option<Dtype> {
    Dtype::ALL.into_iter().find(|d| burn_dtype(*d) == dtype)
}
