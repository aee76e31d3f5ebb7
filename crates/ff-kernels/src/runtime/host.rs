use ff_spec::{Atomics, Clock, Device, DeviceId, Limits, RuntimeKind};

/// This processor.
#[derive(Debug)]
pub struct HostRuntime {
    device: DeviceId,
}

impl Default for HostRuntime {
    fn default() -> Self {
        Self::new()
    }
}

impl HostRuntime {
    /// Looks at the processor once.
    pub fn new() -> Self {
        let (arch, lanes) = simd_level();
        let threads = rayon::current_num_threads() as u32;
        let name = processor_name();
        Self {
            device: DeviceId {
                runtime: RuntimeKind::Host,
                // Thread count and SIMD level change what is fastest as much as the model does.
                slug: DeviceId::slugify(&format!("host {name} {arch} {threads}t")),
                name,
                arch: arch.to_owned(),
                driver: String::new(),
                software: false,
                threads,
                limits: Limits { max_units_per_cube: threads, shared_memory: l1_data_cache(), plane_size: lanes },
                atomics: Atomics { f32_add: true, f64_add: true },
                f64: true,
            },
        }
    }
}

/// The level that [`pulp::Arch`] picks here, and its `f32` lanes.
fn simd_level() -> (&'static str, u32) {
    struct Lanes;
    impl pulp::WithSimd for Lanes {
        type Output = u32;
        fn with_simd<S: pulp::Simd>(self, _: S) -> u32 {
            S::F32_LANES as u32
        }
    }
    let lanes = pulp::Arch::new().dispatch(Lanes);
    let name = match (std::env::consts::ARCH, lanes) {
        ("x86_64", 16) => "x86-v4",
        ("x86_64", 8) => "x86-v3",
        ("aarch64", 4) => "neon",
        (_, 1) => "scalar",
        _ => "simd",
    };
    (name, lanes)
}

#[cfg(target_arch = "x86_64")]
fn processor_name() -> String {
    raw_cpuid::CpuId::new()
        .get_processor_brand_string()
        .map_or_else(|| "x86_64".to_owned(), |brand| brand.as_str().trim().to_owned())
}

#[cfg(not(target_arch = "x86_64"))]
fn processor_name() -> String {
    std::env::consts::ARCH.to_owned()
}

/// Bytes; 32 KiB where the processor does not say.
#[cfg(target_arch = "x86_64")]
fn l1_data_cache() -> u32 {
    use raw_cpuid::CacheType;
    let bytes = raw_cpuid::CpuId::new().get_cache_parameters().and_then(|mut caches| {
        let l1 = caches.find(|c| c.level() == 1 && matches!(c.cache_type(), CacheType::Data | CacheType::Unified))?;
        Some(l1.associativity() * l1.physical_line_partitions() * l1.coherency_line_size() * l1.sets())
    });
    bytes.map_or(32 * 1024, |b| b as u32)
}

#[cfg(not(target_arch = "x86_64"))]
fn l1_data_cache() -> u32 {
    32 * 1024
}

impl Device for HostRuntime {
    fn device(&self) -> &DeviceId {
        &self.device
    }

    fn clock(&self) -> Clock {
        Clock::Wall
    }
}
