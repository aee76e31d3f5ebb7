//! CUDA C++ of a cube kernel, by CubeCL's own compiler and without a driver.

use std::sync::Mutex;

use cubecl::features::{AtomicUsage, Plane, TypeUsage};
use cubecl::ir::{
    DeviceProperties, ElemType, FloatKind, HardwareProperties, MemoryDeviceProperties, StorageType, Type, VectorSize,
};
use cubecl::prelude::{ExecutionMode, KernelBuilder, KernelDefinition, KernelSettings};
use cubecl::profile::TimingMethod;
use cubecl::{CompilationError, Compiler};
use cubecl_cpp::cuda::CudaDialect;
use cubecl_cpp::cuda::mma::CudaWmmaCompiler;
use cubecl_cpp::register_supported_types;
use cubecl_cpp::shared::{CompilationOptions, CppCompiler, CppSupportedFeatures};

/// A CUDA device of a compute capability (90 for `sm_90`): the figures of its whole-size part, in the CUDA C++ Programming
/// Guide's table of technical specifications.
///
/// These are the properties that the CUDA runtime of CubeCL registers for it, but for the matrix instructions, which no
/// kernel here uses, and for f64, which that runtime compiles and does not announce.
pub(crate) fn properties(version: u16) -> DeviceProperties {
    let hardware = HardwareProperties {
        load_width: 128,
        plane_size_min: 32,
        plane_size_max: 32,
        max_bindings: 1024,
        max_shared_memory_size: shared_memory_per_block(version),
        max_cube_count: (i32::MAX as u32, 65_535, 65_535),
        max_units_per_cube: 1024,
        max_cube_dim: (1024, 1024, 64),
        num_streaming_multiprocessors: None,
        num_tensor_cores: None,
        min_tensor_cores_dim: Some(8),
        num_cpu_cores: None,
        max_vector_size: VectorSize::MAX,
    };
    // Never allocated from: a size that any such device has.
    let memory = MemoryDeviceProperties { max_page_size: 4 << 30, alignment: 512 };
    let mut properties = DeviceProperties::new(Default::default(), memory, hardware, TimingMethod::System);
    register_supported_types(&mut properties);
    let float = |kind| StorageType::Scalar(ElemType::Float(kind));
    properties.register_type_usage(float(FloatKind::F64), TypeUsage::all());
    properties.register_type_usage(float(FloatKind::TF32), TypeUsage::Conversion);
    let add = |kind| Type::new(StorageType::Atomic(ElemType::Float(kind)));
    let usage = AtomicUsage::Add | AtomicUsage::LoadStore;
    properties.register_atomic_type_usage(add(FloatKind::F64), usage);
    if version >= 90 {
        for lanes in [2, 4] {
            properties.register_atomic_type_usage(add(FloatKind::F32).with_vector_size(lanes), usage);
        }
    }
    properties.features.copy_async = version >= 80;
    properties.features.cube_cluster = version >= 90;
    properties.features.memory_reinterpret = true;
    properties.features.alignment = true;
    for plane in [Plane::Sync, Plane::Ops, Plane::NonUniformControlFlow] {
        properties.features.plane.insert(plane);
    }
    properties
}

/// The most that a block may ask for, in bytes.
fn shared_memory_per_block(version: u16) -> usize {
    1024 * match version {
        80 | 87 => 163,
        90 | 100 | 101 | 103 => 227,
        75 => 64,
        // Also what an unknown one has at least.
        _ => 99,
    }
}

/// Compiles a definition to what the CUDA runtime would hand to NVRTC, and the bytes of dynamic shared memory that it would
/// be launched with.
pub(crate) fn emit(
    version: u16,
    definition: KernelDefinition,
    mode: ExecutionMode,
    address: StorageType,
) -> Result<(String, u32), CompilationError> {
    type CudaCompiler = CppCompiler<CudaDialect<CudaWmmaCompiler>>;
    let options = CompilationOptions {
        warp_size: 32,
        supports_features: CppSupportedFeatures {
            grid_constants: version >= 70,
            clusters: version >= 90,
            fast_math: true,
            fast_tanh: version >= 75,
            elect_sync: version >= 90,
        },
    };
    // CubeCL numbers temporaries from a counter of the process that a compilation resets at its end and printing moves on.
    // An empty kernel before each makes the text a function of the definition.
    static COUNTER: Mutex<()> = Mutex::new(());
    let _one_at_a_time = COUNTER.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let compile = |definition| CudaCompiler::default().compile(definition, &options, mode, address);
    compile(KernelBuilder::default().build(KernelSettings::default()))?;
    let kernel = compile(definition)?;
    let shared_memory = kernel.shared_memory_size() as u32;
    Ok((in_order(&kernel.to_string(), shared_memory), shared_memory))
}

/// The text with all that CubeCL takes from hash sets (vector types, variables, shared arrays) in a fixed order, so that one
/// definition has one text. Two shared arrays swap their places in memory by this, as they do between two runs of CubeCL.
fn in_order(source: &str, shared_memory: u32) -> String {
    let mut lines: Vec<String> = source.lines().map(str::to_owned).collect();
    let is_type = |line: &str| line.starts_with("struct __align__(");
    if let Some(first) = lines.iter().position(|line| is_type(line)) {
        let end = lines.iter().rposition(|line| is_type(line)).unwrap_or(first);
        let end = end + lines[end..].iter().position(|line| line == "};").unwrap_or(0);
        let block = lines[first..=end].join("\n");
        let mut types: Vec<String> = block.split("struct __align__(").map(|t| t.trim().to_owned()).collect();
        types.retain(|t| !t.is_empty());
        types.sort();
        lines.splice(first..=end, types.into_iter().map(|t| format!("struct __align__({t}")));
    }
    let is_variable = |line: &str| {
        let name = line.strip_suffix(';').and_then(|l| l.split_once(' ')).map(|(_, name)| name);
        name.is_some_and(|n| ["l_mut_", "l_arr_"].iter().any(|p| n.starts_with(p)) && !n.contains(['=', ' ']))
    };
    if let Some(first) = lines.iter().position(|line| is_variable(line)) {
        let run = lines[first..].iter().take_while(|line| line.is_empty() || is_variable(line)).count();
        lines[first..first + run].sort_by_key(|line| (line.len(), line.clone()));
    }
    let shared: Vec<usize> = (0..lines.len()).filter(|i| lines[*i].starts_with("// Shared array size: ")).collect();
    if let Some(placed) = place(shared.iter().filter_map(|i| Some((&*lines[*i], &**lines.get(i + 1)?))), shared_memory)
    {
        for (at, (comment, declaration)) in shared.into_iter().zip(placed) {
            (lines[at], lines[at + 1]) = (comment, declaration);
        }
    }
    lines.join("\n") + "\n"
}

/// Shared arrays (a comment with their bytes, a declaration with their offset) by name, each right after the one before;
/// `None` where they would not fill the same memory as before.
fn place<'a>(arrays: impl Iterator<Item = (&'a str, &'a str)>, bytes: u32) -> Option<Vec<(String, String)>> {
    let mut arrays: Vec<(&str, &str)> = arrays.collect();
    arrays.sort_by_key(|(_, declaration)| declaration.split_once('=').map(|(name, _)| name.to_owned()));
    let mut end = 0_u32;
    let mut placed = Vec::new();
    for (comment, declaration) in arrays {
        let size: u32 = comment.strip_suffix(" bytes")?.rsplit_once(' ')?.1.parse().ok()?;
        let (head, tail) = declaration.split_once("dynamic_shared_mem[")?;
        let (_, tail) = tail.split_once(']')?;
        // The widest element has 8 bytes.
        let start = end.next_multiple_of(8);
        placed.push((comment.to_owned(), format!("{head}dynamic_shared_mem[{start}]{tail}")));
        end = start + size;
    }
    (end == bytes).then_some(placed)
}
