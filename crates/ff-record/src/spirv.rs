//! SPIR-V of a cube kernel, by CubeCL's own compiler and without an adapter.

use cubecl::features::{AtomicUsage, Plane, TypeUsage};
use cubecl::ir::{
    AddressType, DeviceProperties, ElemType, FloatKind, HardwareProperties, IntKind, MemoryDeviceProperties,
    StorageType, Type, UIntKind,
};
use cubecl::prelude::{ExecutionMode, KernelDefinition};
use cubecl::profile::TimingMethod;
use cubecl::{CompilationError, Compiler, VulkanCompilationOptions, WgpuCompilationOptions};
use cubecl_spirv::{GLCompute, SpirvCompiler};

/// An adapter as most desktops have one: Vulkan 1.3 with f64, 64-bit integers and atomic addition of floats.
pub(crate) fn properties() -> DeviceProperties {
    let hardware = HardwareProperties {
        load_width: 128,
        plane_size_min: 32,
        plane_size_max: 32,
        max_bindings: 32,
        max_shared_memory_size: 32 << 10,
        max_cube_count: (65_535, 65_535, 65_535),
        max_units_per_cube: 1024,
        max_cube_dim: (1024, 1024, 64),
        num_streaming_multiprocessors: None,
        num_tensor_cores: None,
        min_tensor_cores_dim: None,
        num_cpu_cores: None,
        max_vector_size: cubecl_spirv::MAX_VECTORIZATION,
    };
    let memory = MemoryDeviceProperties { max_page_size: 1 << 30, alignment: 256 };
    let mut properties = DeviceProperties::new(Default::default(), memory, hardware, TimingMethod::System);
    properties.register_address_type(AddressType::U32);
    for elem in [
        ElemType::UInt(UIntKind::U32),
        ElemType::UInt(UIntKind::U64),
        ElemType::Int(IntKind::I32),
        ElemType::Int(IntKind::I64),
        ElemType::Float(FloatKind::F32),
        ElemType::Float(FloatKind::F64),
        ElemType::Bool,
    ] {
        properties.register_type_usage(elem, TypeUsage::all());
    }
    for kind in [FloatKind::F32, FloatKind::F64] {
        let atomic = Type::new(StorageType::Atomic(ElemType::Float(kind)));
        properties.register_atomic_type_usage(atomic, AtomicUsage::Add | AtomicUsage::LoadStore);
    }
    properties.features.plane.insert(Plane::Sync);
    properties
}

/// Disassembly of a definition's module.
pub(crate) fn emit(
    definition: KernelDefinition,
    mode: ExecutionMode,
    address: StorageType,
) -> Result<String, CompilationError> {
    let vulkan = VulkanCompilationOptions { max_spirv_version: (1, 6), ..Default::default() };
    let options = WgpuCompilationOptions { supports_u64: true, supports_vulkan: true, vulkan };
    let kernel = SpirvCompiler::<GLCompute>::default().compile(definition, &options, mode, address)?;
    Ok(kernel.to_string())
}
