use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;

use ff_spec::{Runtime, RuntimeKind};

use super::{CubeRuntime, HostRuntime};

/// A runtime that cannot be had here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Not built in.
    #[error("runtime `{0}` is not compiled into this binary, {1}")]
    NotCompiled(RuntimeKind, &'static str),
    /// No loader, driver or device.
    #[error("runtime `{runtime}` is not available here: {reason}")]
    Unavailable {
        /// Which.
        runtime: RuntimeKind,
        /// What is missing and what to install, or what the API said, in one line.
        reason: String,
    },
}

/// Runtimes that this build can look for.
pub fn compiled() -> Vec<RuntimeKind> {
    RuntimeKind::ALL.into_iter().filter(|kind| not_compiled(*kind).is_none()).collect()
}

fn not_compiled(kind: RuntimeKind) -> Option<&'static str> {
    match kind {
        RuntimeKind::Host => None,
        RuntimeKind::Vulkan => cfg!(target_os = "macos").then_some("on macOS use `metal`"),
        RuntimeKind::Metal => (!cfg!(target_os = "macos")).then_some("it exists on macOS only"),
        RuntimeKind::Cuda => (!cfg!(feature = "cuda")).then_some("build with `--features cuda`"),
    }
}

/// Opens a runtime.
///
/// # Errors
/// [`OpenError`] says whether it was not compiled in or found nothing to drive.
pub fn open(kind: RuntimeKind) -> Result<Box<dyn Runtime>, OpenError> {
    if let Some(hint) = not_compiled(kind) {
        return Err(OpenError::NotCompiled(kind, hint));
    }
    match kind {
        RuntimeKind::Host => Ok(Box::new(HostRuntime::new())),
        RuntimeKind::Vulkan | RuntimeKind::Metal => quietly(kind, open_wgpu),
        RuntimeKind::Cuda => open_cuda(),
    }
}

/// A compiled runtime, opened or with the reason why not.
pub type Opened = (RuntimeKind, Result<Box<dyn Runtime>, OpenError>);

/// Opens every compiled runtime, host first; what is not available comes as its error.
pub fn available() -> Vec<Opened> {
    compiled().into_iter().map(|kind| (kind, open(kind))).collect()
}

/// Runs driver initialisation that reports a missing device by panicking.
fn quietly(
    kind: RuntimeKind,
    open: impl FnOnce() -> Result<Box<dyn Runtime>, String>,
) -> Result<Box<dyn Runtime>, OpenError> {
    // One at a time: the panic hook is the process's.
    static HOOK: Mutex<()> = Mutex::new(());
    let guard = HOOK.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let result = catch_unwind(AssertUnwindSafe(open));
    std::panic::set_hook(hook);
    drop(guard);
    let reason = match result {
        Ok(Ok(runtime)) => return Ok(runtime),
        Ok(Err(reason)) => reason,
        Err(panic) => panic
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()))
            .unwrap_or_else(|| "the driver could not be initialised".to_owned()),
    };
    // CubeCL panics with wgpu's debug text where there is no adapter, which says nothing that a user could do.
    let reason = if reason.contains("No possible adapter") { no_adapter(kind) } else { &reason };
    Err(OpenError::Unavailable { runtime: kind, reason: reason.lines().next().unwrap_or_default().to_owned() })
}

/// Why wgpu finds no adapter, and what to install.
fn no_adapter(kind: RuntimeKind) -> &'static str {
    if kind == RuntimeKind::Metal {
        return "no Metal device was found";
    }
    let loader = if cfg!(windows) { "vulkan-1.dll" } else { "libvulkan.so.1" };
    // SAFETY: wgpu has just tried to load the same library, by the same name; its initialisers have no preconditions.
    match unsafe { libloading::Library::new(loader) } {
        Ok(_) => {
            "the Vulkan loader finds no adapter; install the GPU's driver, or Debian's `mesa-vulkan-drivers` for software \
             Vulkan"
        }
        Err(_) => {
            "there is no Vulkan loader; install the GPU's driver with Debian's `libvulkan1`, or `mesa-vulkan-drivers` for \
             software Vulkan"
        }
    }
}

fn open_wgpu() -> Result<Box<dyn Runtime>, String> {
    use cubecl::Runtime as _;
    use cubecl::wgpu::{RuntimeOptions, WgpuDevice, WgpuRuntime, init_setup};

    #[cfg(target_os = "macos")]
    use cubecl::wgpu::Metal as Api;
    #[cfg(not(target_os = "macos"))]
    use cubecl::wgpu::Vulkan as Api;

    // One device per process: CubeCL keeps the client of a device, and Burn shares it.
    static ADAPTER: Mutex<Option<(String, String, String, bool)>> = Mutex::new(None);
    let device = WgpuDevice::DefaultDevice;
    let mut known = ADAPTER.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if known.is_none() {
        let info = init_setup::<Api>(&device, RuntimeOptions::default()).adapter.get_info();
        let driver = format!("{} {}", info.driver, info.driver_info).trim().to_owned();
        // wgpu's word for what an adapter is: `DiscreteGpu`, `IntegratedGpu`, `Cpu`.
        let kind = format!("{:?}", info.device_type);
        let software = kind == "Cpu";
        *known = Some((info.name, kind.to_lowercase(), driver, software));
    }
    let identity = known.clone().ok_or("no adapter")?;
    let kind = if cfg!(target_os = "macos") { RuntimeKind::Metal } else { RuntimeKind::Vulkan };
    let client = WgpuRuntime::client(&device);
    Ok(Box::new(CubeRuntime::new(client, kind, identity)))
}

#[cfg(not(feature = "cuda"))]
fn open_cuda() -> Result<Box<dyn Runtime>, OpenError> {
    Err(OpenError::NotCompiled(RuntimeKind::Cuda, "build with `--features cuda`"))
}

#[cfg(feature = "cuda")]
fn open_cuda() -> Result<Box<dyn Runtime>, OpenError> {
    quietly(RuntimeKind::Cuda, || {
        use cubecl::Runtime as _;
        use cubecl::cuda::{CudaDevice, CudaRuntime};
        use cudarc::driver::{result, sys};

        // SAFETY: loads a library by its name, as the first call of the driver would.
        if !unsafe { sys::is_culib_present() } {
            return Err("there is no CUDA driver (libcuda); install NVIDIA's, Debian's `nvidia-driver`".to_owned());
        }
        // SAFETY: the same of the compiler.
        if !unsafe { cudarc::nvrtc::sys::is_culib_present() } || cubecl::cuda::install::cuda_path().is_none() {
            let reason = "there is no CUDA toolkit, whose NVRTC compiles kernels; install it, or name its folder in \
                          CUDA_PATH and that of its libnvrtc in LD_LIBRARY_PATH";
            return Err(reason.to_owned());
        }
        let driver = |error: cudarc::driver::DriverError| match error.0 {
            sys::CUresult::CUDA_ERROR_NO_DEVICE => {
                "NVIDIA's driver finds no GPU; `nvidia-smi` lists those that it sees".to_owned()
            }
            code => format!("NVIDIA's driver says {code:?}"),
        };
        result::init().map_err(driver)?;
        let ordinal = 0;
        let device = result::device::get(ordinal).map_err(driver)?;
        let name = result::device::get_name(device).map_err(driver)?;
        // SAFETY: `device` was just returned by the driver.
        let attribute = |which| unsafe { result::device::get_attribute(device, which) }.map_err(driver);
        let major = attribute(sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?;
        let minor = attribute(sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?;
        let mut version = 0;
        // SAFETY: the pointer is to a live integer, the only thing the call writes.
        unsafe { sys::cuDriverGetVersion(&mut version) }.result().map_err(driver)?;
        let version = format!("CUDA {}.{}", version / 1000, version % 1000 / 10);
        let identity = (name, format!("sm_{major}{minor}"), version, false);
        let client = CudaRuntime::client(&CudaDevice::new(ordinal as usize));
        Ok(Box::new(CubeRuntime::new(client, RuntimeKind::Cuda, identity)))
    })
}
