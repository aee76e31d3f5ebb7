//! A CubeCL runtime without a device: what is launched on it is compiled to text, kept, and run nowhere.
//!
//! Launches go through the code that real devices run, so that what is recorded is what they would be given: the same
//! kernels with the same parameters, in the same order. Memory has a size and nothing in it; what is read back is zero.

mod cell_list;
mod cuda;
mod spirv;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cubecl::bytes::Bytes;
use cubecl::client::ComputeClient;
use cubecl::device::{Device, DeviceId, DeviceService};
use cubecl::future::DynFut;
use cubecl::ir::{DeviceProperties, ElemType, StorageType, TargetProperties};
use cubecl::prelude::{KernelDefinition, KernelId};
use cubecl::profile::ProfileDuration;
use cubecl::server::{
    Binding, ComputeServer, CopyDescriptor, CubeCount, ExecutionMode, Handle, IoError, KernelArguments, MemoryLayout,
    MemoryLayoutDescriptor, MemoryLayoutPolicy, ProfileError, ProfilingToken, ServerCommunication, ServerError,
    ServerUtilities,
};
use cubecl::stream_id::StreamId;
use cubecl::zspace::{Shape, Strides};
use cubecl::{CompilationError, Compiler, CubeTask, MemoryAllocationMode, MemoryUsage, Runtime};
use cubecl_runtime::kernel::KernelMetadata as _;
use cubecl_runtime::logging::ServerLogger;
use cubecl_runtime::memory_management::ManagedMemoryHandle;
use cubecl_runtime::storage::{ComputeStorage, ManagedResource, StorageHandle, StorageId};
use ff_cube::buffers::{fault, first_lines};
use ff_kernels::cube::CubeRuntime;
use ff_spec::{Dtype, LaunchConfig, LaunchError, Op, Prepare, RuntimeKind};

/// What is compiled for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Target {
    /// CUDA C++ for a compute capability: 90 of `sm_90`.
    Cuda(u16),
    /// SPIR-V for Vulkan 1.3.
    #[default]
    Vulkan,
}

/// Numbers of [`Target::Cuda`] and [`Target::Vulkan`] among the types of devices of a process, which others count from 0.
const TYPES: [u16; 2] = [0xf0f0, 0xf0f1];

impl Device for Target {
    fn from_id(id: DeviceId) -> Self {
        if id.type_id == TYPES[0] { Self::Cuda(id.index_id) } else { Self::Vulkan }
    }

    fn to_id(&self) -> DeviceId {
        let (type_id, index_id) = match self {
            Self::Cuda(version) => (TYPES[0], *version),
            Self::Vulkan => (TYPES[1], 0),
        };
        DeviceId { type_id, index_id }
    }
}

/// A kernel as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kernel {
    /// Name of its function; the second of one name, with other parameters, has `#2` behind it.
    pub name: String,
    /// Units of a cube.
    pub units: u32,
    /// CUDA C++, or SPIR-V as disassembled.
    pub text: String,
    /// Name of its entry in the text.
    pub entry: String,
    /// Bytes of dynamic shared memory that it is launched with; 0 of SPIR-V, whose shared memory is all static.
    pub shared_memory: u32,
}

/// The kernels of one recording, in the order of their first launches.
#[derive(Default)]
struct Log {
    known: Vec<KernelId>,
    kernels: Vec<Kernel>,
    error: Option<String>,
}

/// What the server leaves for [`Recorder`].
#[derive(Default)]
pub struct Shared(Mutex<Log>);

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shared")
    }
}

impl Shared {
    fn take(&self) -> Log {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Records what ops launch.
pub struct Recorder {
    client: ComputeClient<Paper>,
    runtime: CubeRuntime<Paper>,
}

impl Recorder {
    /// A recorder for a target.
    pub fn new(target: Target) -> Self {
        let client = Paper::client(&target);
        let (kind, name, arch) = match target {
            Target::Cuda(version) => (RuntimeKind::Cuda, format!("sm_{version}"), format!("sm_{version}")),
            Target::Vulkan => (RuntimeKind::Vulkan, "1.3".to_owned(), "vulkan1.3".to_owned()),
        };
        let identity = (name, arch, String::new(), false);
        let runtime = CubeRuntime::new(client.clone(), kind, identity);
        Self { client, runtime }
    }

    /// The device whose kernels are recorded, as tuning tables and constraints know it.
    pub fn device(&self) -> &ff_spec::DeviceId {
        ff_spec::Device::device(&self.runtime)
    }

    /// The kernels of one call.
    ///
    /// # Errors
    /// As [`Prepare::prepare`], and [`LaunchError::Compile`].
    pub fn record<O: Op>(
        &self,
        variant: &O::Variant,
        dtype: Dtype,
        inputs: &O::Inputs,
        config: &LaunchConfig,
    ) -> Result<Vec<Kernel>, LaunchError>
    where
        CubeRuntime<Paper>: Prepare<O>,
    {
        let _one_at_a_time = one_at_a_time();
        let mut launch = self.runtime.prepare(variant, dtype, inputs, config)?;
        self.log(|| launch.run())
    }

    /// What `launch` launches.
    fn log(&self, launch: impl FnOnce() -> Result<(), LaunchError>) -> Result<Vec<Kernel>, LaunchError> {
        let wait = || cubecl::future::block_on(self.client.sync()).map_err(fault);
        wait()?;
        self.client.info().take();
        let done = launch();
        wait()?;
        let Log { kernels, error, .. } = self.client.info().take();
        done?;
        match error {
            Some(error) => Err(LaunchError::Compile(error)),
            None => Ok(numbered(kernels)),
        }
    }
}

/// Held from preparation to the end of a launch: a target has one server in a process, so what one thread prepares would be
/// recorded with what another launches.
fn one_at_a_time() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Numbers kernels of one name.
fn numbered(mut kernels: Vec<Kernel>) -> Vec<Kernel> {
    let mut of_name = BTreeMap::new();
    for kernel in &mut kernels {
        let n = of_name.entry(kernel.name.clone()).or_insert(0);
        *n += 1;
        if *n > 1 {
            kernel.name = format!("{}#{n}", kernel.name);
        }
    }
    kernels
}

/// The runtime that [`Recorder`] launches on.
#[derive(Clone, Debug)]
pub struct Paper;

impl Runtime for Paper {
    type Compiler = ToText;
    type Server = PaperServer;
    type Device = Target;

    fn client(device: &Target) -> ComputeClient<Self> {
        ComputeClient::load(device)
    }

    fn name(_: &ComputeClient<Self>) -> &'static str {
        "paper"
    }

    fn max_cube_count() -> (u32, u32, u32) {
        (65_535, 65_535, 65_535)
    }

    fn can_read_tensor(_: &Shape, _: &Strides) -> bool {
        true
    }

    /// Those of matrix instructions, which no kernel here uses.
    fn target_properties() -> TargetProperties {
        TargetProperties { mma: Default::default() }
    }

    fn enumerate_devices(_: u16, _: &Shared) -> Vec<DeviceId> {
        vec![Target::default().to_id()]
    }
}

/// CubeCL's compiler of a target, as far as its text.
#[derive(Clone, Debug)]
pub struct ToText;

/// What [`ToText`] makes of a definition.
pub struct Text {
    text: String,
    entry: String,
    shared_memory: u32,
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Compiler for ToText {
    type Representation = Text;
    type CompilationOptions = Target;

    fn compile(
        &mut self,
        kernel: KernelDefinition,
        target: &Target,
        mode: ExecutionMode,
        address: StorageType,
    ) -> Result<Text, CompilationError> {
        let entry = kernel.options.kernel_name.clone();
        let (text, shared_memory) = match target {
            Target::Cuda(version) => cuda::emit(*version, kernel, mode, address)?,
            Target::Vulkan => (spirv::emit(kernel, mode, address)?, 0),
        };
        Ok(Text { text, entry, shared_memory })
    }

    fn elem_size(&self, elem: ElemType) -> usize {
        elem.size()
    }

    fn extension(&self) -> &'static str {
        "txt"
    }
}

/// The server of a target.
#[derive(Debug)]
pub struct PaperServer {
    target: Target,
    utilities: Arc<ServerUtilities<Self>>,
}

impl PaperServer {
    fn properties(target: Target) -> DeviceProperties {
        match target {
            Target::Cuda(version) => cuda::properties(version),
            Target::Vulkan => spirv::properties(),
        }
    }
}

impl DeviceService for PaperServer {
    fn init(device: DeviceId) -> Self {
        let target = Target::from_id(device);
        let logger = Arc::new(ServerLogger::default());
        let utilities = ServerUtilities::new(Self::properties(target), logger, Shared::default(), Contiguous);
        Self { target, utilities: Arc::new(utilities) }
    }

    fn utilities(&self) -> Arc<dyn std::any::Any + Send + Sync> {
        self.utilities.clone()
    }
}

impl ServerCommunication for PaperServer {
    const SERVER_COMM_ENABLED: bool = false;
}

/// Every tensor is an allocation of its own.
#[derive(Debug)]
pub struct Contiguous;

impl MemoryLayoutPolicy for Contiguous {
    fn apply(&self, stream: StreamId, descriptors: &[MemoryLayoutDescriptor]) -> (Handle, Vec<MemoryLayout>) {
        let bytes = |d: &MemoryLayoutDescriptor| d.shape.iter().product::<usize>() * d.elem_size;
        let all = Handle::new(stream, descriptors.iter().map(bytes).sum::<usize>() as u64);
        let mut start = 0;
        let layouts = descriptors.iter().map(|descriptor| {
            let end = start + bytes(descriptor) as u64;
            let handle = all.clone().offset_start(start).offset_end(all.size() - end);
            start = end;
            let mut strides = vec![1; descriptor.shape.len()];
            for at in (1..strides.len()).rev() {
                strides[at - 1] = strides[at] * descriptor.shape[at];
            }
            MemoryLayout::new(handle, strides)
        });
        let layouts = layouts.collect();
        (all, layouts)
    }
}

/// Memory that nothing is kept in.
pub struct Nowhere;

impl ComputeStorage for Nowhere {
    type Resource = ();

    fn alignment(&self) -> usize {
        1
    }

    fn get(&mut self, _: &StorageHandle) {}

    fn alloc(&mut self, size: u64) -> Result<StorageHandle, IoError> {
        let utilization = cubecl_runtime::storage::StorageUtilization { offset: 0, size };
        Ok(StorageHandle::new(StorageId::new(), utilization))
    }

    fn dealloc(&mut self, _: StorageId) {}

    fn flush(&mut self) {}
}

impl ComputeServer for PaperServer {
    type Kernel = Box<dyn CubeTask<ToText>>;
    type Info = Shared;
    type MemoryLayoutPolicy = Contiguous;
    type Storage = Nowhere;

    fn initialize_memory(&mut self, _: ManagedMemoryHandle, _: u64, _: StreamId) {}

    fn logger(&self) -> Arc<ServerLogger> {
        self.utilities.logger.clone()
    }

    fn utilities(&self) -> Arc<ServerUtilities<Self>> {
        self.utilities.clone()
    }

    fn read(&mut self, of: Vec<CopyDescriptor>, _: StreamId) -> DynFut<Result<Vec<Bytes>, ServerError>> {
        let zeros = |d: &CopyDescriptor| Bytes::from_bytes_vec(vec![0; d.handle.size_in_used() as usize]);
        let zeros = of.iter().map(zeros).collect();
        Box::pin(async move { Ok(zeros) })
    }

    fn write(&mut self, _: Vec<(CopyDescriptor, Bytes)>, _: StreamId) {}

    fn sync(&mut self, _: StreamId) -> DynFut<Result<(), ServerError>> {
        Box::pin(async move { Ok(()) })
    }

    fn get_resource(&mut self, binding: Binding, _: StreamId) -> Result<ManagedResource<()>, ServerError> {
        Ok(ManagedResource::new(binding.memory, ()))
    }

    unsafe fn launch(
        &mut self,
        kernel: Self::Kernel,
        _: CubeCount,
        _: KernelArguments,
        mode: ExecutionMode,
        _: StreamId,
    ) {
        let mut log = self.utilities.info.0.lock().unwrap_or_else(PoisonError::into_inner);
        let id = kernel.id();
        if log.known.contains(&id) {
            return;
        }
        log.known.push(id);
        let name = function(kernel.as_ref().name());
        match kernel.compile(&mut ToText, &self.target, mode, kernel.address_type()) {
            Ok(compiled) => {
                let Text { text, entry, shared_memory } = compiled.repr.expect("`KernelTask` keeps it");
                log.kernels.push(Kernel { name, units: compiled.cube_dim.num_elems(), text, entry, shared_memory });
            }
            Err(error) => {
                let error = first_lines(&error);
                log.error.get_or_insert(format!("{name}: {error}"));
            }
        }
    }

    fn flush(&mut self, _: StreamId) -> Result<(), ServerError> {
        Ok(())
    }

    fn memory_usage(&mut self, _: StreamId) -> Result<MemoryUsage, ServerError> {
        Ok(MemoryUsage { number_allocs: 0, bytes_in_use: 0, bytes_padding: 0, bytes_reserved: 0 })
    }

    fn memory_cleanup(&mut self, _: StreamId) {}

    fn start_profile(&mut self, _: StreamId) -> Result<ProfilingToken, ServerError> {
        Ok(ProfilingToken { id: 0 })
    }

    fn end_profile(&mut self, _: StreamId, _: ProfilingToken) -> Result<ProfileDuration, ProfileError> {
        Err(ProfileError::NotRegistered { backtrace: Default::default() })
    }

    fn allocation_mode(&mut self, _: MemoryAllocationMode, _: StreamId) {}
}

/// The function of a kernel's type, `…::walk::Walk<…>`: `#[cube]` puts the type in a module of that name.
fn function(kernel: &str) -> String {
    let path = kernel.split('<').next().unwrap_or_default();
    path.rsplit("::").nth(1).unwrap_or(path).to_owned()
}
