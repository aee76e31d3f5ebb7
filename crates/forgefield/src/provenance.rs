//! What this binary was built from, as records and tables name it.

use ff_kernels::generated::FUSED_MESSAGE_TEMPLATE_HASH;
use ff_spec::RuntimeKind;
use ff_spec::fused_message::Variant;
use ff_tables::Versions;

/// (variant id, hash of its generated file and of the hand-written pieces).
const KERNEL_HASHES: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/kernel_hashes.rs"));

/// Hash of the templates of `fused_message`.
pub const TEMPLATE_HASH: &str = FUSED_MESSAGE_TEMPLATE_HASH;

/// Hash of a variant's kernel source; empty for one that was not rendered, which no table accepts.
pub fn kernel_hash(variant: &Variant) -> String {
    let id = variant.id();
    KERNEL_HASHES.iter().find(|(known, _)| *known == id).map(|(_, hash)| (*hash).to_owned()).unwrap_or_default()
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
