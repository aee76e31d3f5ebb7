//! `vector_norm`: its variant, and how a launch configuration becomes a launch.

mod launch;
mod prepare;

use ff_spec::vector_norm::{Strategy, Variant};

pub use ff_cube::vector_norm::{CubeConfig, CubeLaunch, Sizes, cube_config};
pub use ff_host::vector_norm as host;
pub use ff_host::vector_norm::Compiled as HostElement;
pub use ff_spec::vector_norm::OrderInputs;
pub use launch::{HostInputs, HostLaunch, default_config, host_config};

/// One variant.
#[derive(Debug)]
pub struct Registered {
    /// [`Variant::id`].
    pub id: &'static str,
    /// Strategy.
    pub strategy: Strategy,
}

impl Registered {
    /// The variant this is.
    pub fn variant(&self) -> Variant {
        Variant { strategy: self.strategy }
    }
}

/// Every variant.
pub fn registered() -> &'static [Registered] {
    crate::generated::vector_norm::VARIANTS
}

/// The registered form of a variant.
pub fn find(variant: &Variant) -> Option<&'static Registered> {
    registered().iter().find(|r| r.variant() == *variant)
}
