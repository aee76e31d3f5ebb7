//! What this binary was built from, as records and tables name it.

use ff_spec::RuntimeKind;
use ff_tables::Versions;

use crate::code::Code;
use crate::ops;

/// Hash of the templates of an op; empty for an op that does not exist, which no table is for.
pub fn template_hash(op: &str) -> &'static str {
    ops::ALL.into_iter().find(|known| known.name() == op).map_or("", |op| op.template_hash())
}

/// Hash of the code of a variant in one order on a runtime, by its id; empty for one that was not rendered or cannot be emitted,
/// which no table accepts.
pub fn kernel_hash(op: &str, id: &str, order: u8, runtime: RuntimeKind) -> String {
    Code::of(op, id, order, runtime).map(|code| code.hash()).unwrap_or_default()
}

/// Versions of this workspace and of what it computes with.
pub fn versions() -> Versions {
    Versions {
        forgefield: env!("CARGO_PKG_VERSION").to_owned(),
        burn: env!("FORGEFIELD_BURN").to_owned(),
        cubecl: env!("FORGEFIELD_CUBECL").to_owned(),
    }
}

/// What compiles the kernels of a runtime.
pub fn compiler(runtime: RuntimeKind) -> String {
    match runtime {
        RuntimeKind::Host => format!(
            "rustc {} {} opt-level={}",
            env!("FORGEFIELD_RUSTC"),
            env!("FORGEFIELD_TARGET"),
            env!("FORGEFIELD_OPT_LEVEL")
        ),
        RuntimeKind::Vulkan => format!("cubecl {} spirv", env!("FORGEFIELD_CUBECL")),
        RuntimeKind::Metal => format!("cubecl {} msl", env!("FORGEFIELD_CUBECL")),
        RuntimeKind::Cuda => format!("cubecl {} nvrtc", env!("FORGEFIELD_CUBECL")),
    }
}
