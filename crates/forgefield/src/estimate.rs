//! Where costs of configurations are counted, before anything is measured: a first guess, for the order in which a search tries,
//! never in place of a measurement. How an op counts is its own.

use ff_spec::{DeviceId, RuntimeKind};

use crate::inspect::nvrtc::Nvrtc;

/// A device, and what compiles for it.
pub struct Estimator {
    /// The device.
    pub device: DeviceId,
    /// Compiles for CUDA, where the device is one and NVRTC is found.
    pub nvrtc: Option<Nvrtc>,
}

impl Estimator {
    /// For a device.
    pub fn new(device: &DeviceId) -> Self {
        let nvrtc = if device.runtime == RuntimeKind::Cuda { Nvrtc::find().ok() } else { None };
        Self { device: device.clone(), nvrtc }
    }
}
