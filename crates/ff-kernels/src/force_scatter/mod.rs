//! `force_scatter`: its variants, and how a launch configuration becomes a launch.

mod launch;
mod prepare;

use ff_spec::force_scatter::{Reduction, Variant};

pub use ff_cube::force_scatter::{CubeConfig, CubeLaunch, Sizes, cube_config};
pub use ff_host::force_scatter as host;
pub use ff_host::force_scatter::Compiled as HostElement;
pub use ff_spec::force_scatter::OrderInputs;
pub use launch::{HostInputs, HostLaunch, default_config, host_config};

/// One variant.
#[derive(Debug)]
pub struct Registered {
    /// [`Variant::id`].
    pub id: &'static str,
    /// Reduction.
    pub reduction: Reduction,
}

impl Registered {
    /// The variant this is.
    pub fn variant(&self) -> Variant {
        Variant { reduction: self.reduction }
    }
}

/// Every variant.
pub fn registered() -> &'static [Registered] {
    crate::generated::force_scatter::VARIANTS
}

/// The registered form of a variant.
pub fn find(variant: &Variant) -> Option<&'static Registered> {
    registered().iter().find(|r| r.variant() == *variant)
}
