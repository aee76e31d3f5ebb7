//! What every call on tensors checks, and how it fails.

use burn::tensor::backend::Backend;
use burn::tensor::ops::FloatTensor;
use burn::tensor::{Tensor, TensorPrimitive};
use ff_spec::fused_message::InputError;
use ff_spec::{DeviceId, Dtype, LaunchError};

use crate::dtype::{burn_dtype, spec_dtype};

/// A call that cannot be made.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum OpError {
    /// A tensor has another shape.
    #[error("`{tensor}` has shape {found:?}, expected {expected}")]
    Shape {
        /// Its name as in `ops.md`.
        tensor: &'static str,
        /// Its shape.
        found: Vec<usize>,
        /// What it should be, with the names of the sizes.
        expected: String,
    },
    /// A tensor has another dtype.
    #[error("`{tensor}` is {found}, expected {expected}")]
    Dtype {
        /// Its name.
        tensor: &'static str,
        /// Its dtype.
        found: String,
        /// What it should be.
        expected: String,
    },
    /// A tensor lies on another device than the one that the call follows.
    #[error("`{tensor}` is on {found}, expected {expected}")]
    Device {
        /// Its name.
        tensor: &'static str,
        /// Its device.
        found: String,
        /// What it should be, and of which tensor that is the device.
        expected: String,
    },
    /// Vectors are missing or not wanted.
    #[error("message `{message}` {expected} `{tensor}`, found {found}")]
    Vectors {
        /// Their name.
        tensor: &'static str,
        /// The message.
        message: &'static str,
        /// What it does with them.
        expected: &'static str,
        /// What was given.
        found: &'static str,
    },
    /// An index that is no u32.
    #[error("`{tensor}`[{index}] is {found}, expected an index from 0 to 2³² − 1")]
    Index {
        /// Its name.
        tensor: &'static str,
        /// Where.
        index: usize,
        /// The value.
        found: i64,
    },
    /// An edge joins two systems.
    #[error("edge {edge} goes from an atom of system {sender} to one of system {receiver}, expected both in one")]
    Systems {
        /// Which, by its place in the list.
        edge: usize,
        /// Of its receiver.
        receiver: usize,
        /// Of its sender.
        sender: usize,
    },
    /// The device failed while a tensor was read.
    #[error("`{tensor}` could not be read: {reason}")]
    Read {
        /// Its name.
        tensor: &'static str,
        /// What the device said.
        reason: String,
    },
    /// The neighbour list, the radial functions or the variant are wrong.
    #[error(transparent)]
    Input(#[from] InputError),
    /// The kernel cannot be launched here.
    #[error(transparent)]
    Launch(#[from] LaunchError),
}

/// Kernels index with u32.
pub(crate) fn check_indices(what: &'static str, found: usize) -> Result<(), OpError> {
    if found > u32::MAX as usize {
        return Err(InputError::TooLarge { what, found: found as u64 }.into());
    }
    Ok(())
}

/// Whether a device computes in `dtype` and, where sums are `atomic`, adds in it.
pub(crate) fn check_support(device: &DeviceId, dtype: Dtype, atomic: bool) -> Result<(), LaunchError> {
    if dtype == Dtype::F64 && !device.f64 {
        return Err(LaunchError::Unsupported(format!("{} does not compute in f64", device.name)));
    }
    let adds = match dtype {
        Dtype::F32 => device.atomics.f32_add,
        Dtype::F64 => device.atomics.f64_add,
    };
    if atomic && !adds {
        return Err(LaunchError::Unsupported(format!("{} does not add {dtype} atomically", device.name)));
    }
    Ok(())
}

/// What every tensor of a call must share.
#[derive(Debug)]
pub(crate) struct Context<D> {
    /// The tensor that has these.
    pub of: &'static str,
    pub device: D,
    pub dtype: Dtype,
}

impl<D: PartialEq + std::fmt::Debug> Context<D> {
    /// The device and dtype of a tensor that others must share.
    pub fn of<B: Backend<Device = D>, const R: usize>(
        name: &'static str,
        tensor: &Tensor<B, R>,
    ) -> Result<Self, OpError> {
        let dtype = spec_dtype(tensor.dtype()).ok_or_else(|| OpError::Dtype {
            tensor: name,
            found: format!("{:?}", tensor.dtype()),
            expected: "f32 or f64".to_owned(),
        })?;
        Ok(Self { of: name, device: tensor.device(), dtype })
    }

    /// Checks dtype, device and shape; `names` are those of the sizes in `expected`.
    pub fn float<B: Backend<Device = D>, const R: usize>(
        &self,
        tensor: &'static str,
        found: &Tensor<B, R>,
        expected: [usize; R],
        names: &str,
    ) -> Result<(), OpError> {
        if found.dtype() != burn_dtype(self.dtype) {
            let (found, expected) = (format!("{:?}", found.dtype()), format!("{} as `{}`", self.dtype, self.of));
            return Err(OpError::Dtype { tensor, found, expected });
        }
        self.device(tensor, &found.device())?;
        if found.dims() != expected {
            let expected = format!("[{names}] = {expected:?}");
            return Err(OpError::Shape { tensor, found: found.dims().to_vec(), expected });
        }
        Ok(())
    }

    pub fn device(&self, tensor: &'static str, found: &D) -> Result<(), OpError> {
        if *found == self.device {
            return Ok(());
        }
        let expected = format!("{:?} as for `{}`", self.device, self.of);
        Err(OpError::Device { tensor, found: format!("{found:?}"), expected })
    }
}

pub(crate) fn primitive<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> FloatTensor<B> {
    tensor.into_primitive().tensor()
}

pub(crate) fn tensor<B: Backend, const D: usize>(primitive: FloatTensor<B>) -> Tensor<B, D> {
    Tensor::from_primitive(TensorPrimitive::Float(primitive))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Flex has one device, so what tells devices apart is asked itself.
    #[test]
    fn a_tensor_on_another_device_is_named() {
        let context = Context { of: "nodes", device: "gpu 0", dtype: Dtype::F32 };
        let elsewhere = context.device("mu", &"gpu 1").unwrap_err().to_string();
        assert_eq!(elsewhere, "`mu` is on \"gpu 1\", expected \"gpu 0\" as for `nodes`");
    }
}
