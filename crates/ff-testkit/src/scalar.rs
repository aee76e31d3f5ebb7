//! The device of kernels that are written for the tests alone.

use ff_spec::{Atomics, Clock, Device, DeviceId, Limits, RuntimeKind};

use crate::played::Leftovers;

/// A device whose every kernel is simple enough to be right by inspection, with or without a fault.
#[derive(Debug)]
pub struct Mutants<M> {
    pub(crate) mutation: Option<M>,
    device: DeviceId,
    pub(crate) leftovers: Leftovers,
}

/// The device of mutants.
pub(crate) fn scalar_device() -> DeviceId {
    DeviceId {
        runtime: RuntimeKind::Host,
        name: "scalar".to_owned(),
        slug: "scalar".to_owned(),
        arch: "scalar".to_owned(),
        driver: String::new(),
        software: true,
        threads: 1,
        limits: Limits { max_units_per_cube: 1, shared_memory: 0, plane_size: 1 },
        atomics: Atomics::default(),
        f64: true,
    }
}

impl<M> Mutants<M> {
    /// A runtime whose every launch has the fault; a right one for `None`.
    pub fn new(mutation: Option<M>) -> Self {
        Self { mutation, device: scalar_device(), leftovers: Leftovers::default() }
    }
}

impl<M> Device for Mutants<M> {
    fn device(&self) -> &DeviceId {
        &self.device
    }

    fn clock(&self) -> Clock {
        Clock::Wall
    }
}
