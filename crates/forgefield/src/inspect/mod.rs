//! What a variant becomes on a device that need not be there: code, resources, bounds.

pub mod emitted;
pub mod gate;
pub mod gpu;
pub mod nvrtc;
pub mod ptxas;
pub mod subject;

use ff_record::Kernel;
use serde::{Deserialize, Serialize};

use gpu::Occupancy;
use ptxas::Resources;

/// What a CUDA kernel takes of a device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Footprint {
    /// Of the machine code.
    #[serde(flatten)]
    pub resources: Resources,
    /// Bytes of shared memory of a block, static and dynamic.
    pub shared_memory: u32,
    /// Threads of a block.
    pub units: u32,
    /// Absent for an architecture whose limits are not known here.
    pub occupancy: Option<Occupancy>,
}

impl Footprint {
    /// Reads the log that NVRTC left for a kernel.
    ///
    /// # Errors
    /// The log, where it says nothing of registers.
    pub fn new(log: &str, kernel: &Kernel, version: u16) -> Result<Self, String> {
        let resources = Resources::read(log).ok_or_else(|| format!("ptxas said nothing of registers: {log}"))?;
        let shared_memory = resources.static_shared + kernel.shared_memory;
        let occupancy = gpu::occupancy(version, resources.registers, shared_memory, kernel.units);
        Ok(Self { resources, shared_memory, units: kernel.units, occupancy })
    }
}
