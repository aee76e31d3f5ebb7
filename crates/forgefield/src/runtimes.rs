use ff_kernels::OpenError;
use ff_spec::{DeviceId, Runtime, RuntimeKind};

use crate::failure::{Failure, Result};
use crate::options::RuntimeChoice;
use crate::screen::Screen;

/// Opens one runtime and names it in the first line of output.
///
/// # Errors
/// A runtime that was asked for and cannot be had is a fault.
pub fn open(choice: RuntimeChoice, screen: &Screen) -> Result<Box<dyn Runtime>> {
    let runtime = match choice.kind() {
        Some(kind) => of(kind).map_err(unavailable)?,
        None => fastest()?,
    };
    let auto = if choice.kind().is_none() { " (chosen by auto)" } else { "" };
    screen.headline(format!("runtime {}{auto}", describe(runtime.device())))?;
    Ok(runtime)
}

/// Opens a runtime without what its driver has to say meanwhile.
///
/// # Errors
/// As [`ff_kernels::open`].
pub fn of(kind: RuntimeKind) -> std::result::Result<Box<dyn Runtime>, OpenError> {
    match kind {
        RuntimeKind::Host => ff_kernels::open(kind),
        RuntimeKind::Vulkan | RuntimeKind::Metal | RuntimeKind::Cuda => hushed(|| ff_kernels::open(kind)),
    }
}

/// Points stderr at nothing while a driver is initialised.
///
/// Loaders, layers and drivers write straight to the file descriptor: Mesa's device-select layer lets libwayland complain
/// about a missing XDG_RUNTIME_DIR, some drivers say that they are not conformant. No Rust code prints meanwhile, and why a
/// runtime is missing comes back as its error. `FORGEFIELD_DRIVER_MESSAGES=1` lets everything through.
#[cfg(unix)]
fn hushed<T>(open: impl FnOnce() -> T) -> T {
    use rustix::stdio::{dup2_stderr, stderr};
    use std::os::fd::AsFd;

    if std::env::var_os("FORGEFIELD_DRIVER_MESSAGES").is_some() {
        return open();
    }
    // Where any step fails, driver messages are the lesser evil.
    let kept = stderr().try_clone_to_owned();
    let nothing = std::fs::OpenOptions::new().write(true).open("/dev/null");
    let moved = match (&kept, &nothing) {
        (Ok(_), Ok(nothing)) => dup2_stderr(nothing.as_fd()).is_ok(),
        _ => false,
    };
    let opened = open();
    if let (true, Ok(kept)) = (moved, kept) {
        let _ = dup2_stderr(kept.as_fd());
    }
    opened
}

#[cfg(not(unix))]
fn hushed<T>(open: impl FnOnce() -> T) -> T {
    open()
}

/// The fastest runtime here: a hardware GPU where there is one, else the host. Never a software adapter.
///
/// # Errors
/// Where not even the host can be opened.
pub fn fastest() -> Result<Box<dyn Runtime>> {
    for kind in [RuntimeKind::Cuda, RuntimeKind::Metal, RuntimeKind::Vulkan] {
        if let Ok(runtime) = of(kind)
            && !runtime.device().software
        {
            return Ok(runtime);
        }
    }
    of(RuntimeKind::Host).map_err(unavailable)
}

/// `host: Intel …` with a mark where it is software.
pub fn describe(device: &DeviceId) -> String {
    let software = if device.software { ", a software adapter" } else { "" };
    format!("{}: {}{software}", device.runtime, device.name)
}

/// A runtime that cannot be opened.
pub fn unavailable(error: OpenError) -> Failure {
    Failure::fault(error)
}
