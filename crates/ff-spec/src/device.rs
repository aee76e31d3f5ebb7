use std::fmt;

use serde::{Deserialize, Serialize};

/// Where kernels run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RuntimeKind {
    /// Plain Rust on this processor: SIMD by run-time dispatch, all cores.
    Host,
    /// CubeCL through Vulkan (SPIR-V).
    Vulkan,
    /// CubeCL through Metal (MSL).
    Metal,
    /// CubeCL through CUDA (NVRTC).
    Cuda,
}

impl RuntimeKind {
    /// Every runtime this project has a name for; which of them were compiled in is another question.
    pub const ALL: [RuntimeKind; 4] = [RuntimeKind::Host, RuntimeKind::Vulkan, RuntimeKind::Metal, RuntimeKind::Cuda];

    /// The lower-case name used on the command line and in files.
    pub fn name(self) -> &'static str {
        match self {
            RuntimeKind::Host => "host",
            RuntimeKind::Vulkan => "vulkan",
            RuntimeKind::Metal => "metal",
            RuntimeKind::Cuda => "cuda",
        }
    }
}

impl fmt::Display for RuntimeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Which types a device can add atomically.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Atomics {
    /// Atomic addition of `f32` in global memory.
    pub f32_add: bool,
    /// Atomic addition of `f64` in global memory.
    pub f64_add: bool,
}

/// What a device can hold: the figures that tuning constraints may name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Units (threads) in one cube (block); on host the number of worker threads.
    pub max_units_per_cube: u32,
    /// Bytes of shared memory of one cube; on host the L1 data cache of one core.
    pub shared_memory: u32,
    /// Units that run in lock step; on host the `f32` lanes of one vector.
    pub plane_size: u32,
}

/// A device as records and tables name it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceId {
    /// The runtime that drives it.
    pub runtime: RuntimeKind,
    /// The name its driver (or the processor) reports.
    pub name: String,
    /// The folder under `autotune/tables/` that holds its tables: `[a-z0-9-]+`.
    pub slug: String,
    /// SIMD level on host (`x86-v4`), compute capability on CUDA (`sm_90`), adapter kind elsewhere.
    pub arch: String,
    /// Driver and version as reported; empty on host.
    pub driver: String,
    /// True for a software adapter: it checks results and says nothing about hardware speed.
    pub software: bool,
    /// Worker threads on host, 0 elsewhere.
    pub threads: u32,
    /// What it can hold.
    pub limits: Limits,
    /// What it can add atomically.
    pub atomics: Atomics,
    /// Whether it computes in `f64`.
    pub f64: bool,
}

impl DeviceId {
    /// A slug from free text: lower-case letters and digits, runs of anything else become one `-`.
    pub fn slugify(text: &str) -> String {
        let mut slug = String::new();
        for c in text.chars().map(|c| c.to_ascii_lowercase()) {
            if c.is_ascii_alphanumeric() {
                slug.push(c);
            } else if !slug.is_empty() && !slug.ends_with('-') {
                slug.push('-');
            }
        }
        slug.trim_end_matches('-').to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::DeviceId;

    #[test]
    fn slugs_are_folder_names() {
        assert_eq!(DeviceId::slugify("llvmpipe (LLVM 15.0.6, 256 bits)"), "llvmpipe-llvm-15-0-6-256-bits");
        assert_eq!(DeviceId::slugify("  NVIDIA H200  "), "nvidia-h200");
    }
}
