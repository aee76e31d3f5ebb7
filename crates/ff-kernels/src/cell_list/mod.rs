//! `cell_list`: its variants, and how a launch configuration becomes a launch.

mod launch;
mod prepare;

use ff_spec::cell_list::{List, Strategy, Variant};

pub use ff_cube::cell_list::{CubeConfig, CubeLaunch, CubeSkinList, ListBuffers, Repair, cube_config};
pub use ff_host::cell_list as host;
pub use ff_host::cell_list::Real as HostElement;
pub use launch::{HostLaunch, default_config, host_config};

/// One variant.
#[derive(Debug)]
pub struct Registered {
    /// [`Variant::id`].
    pub id: &'static str,
    /// Edges listed.
    pub list: List,
    /// Candidates.
    pub strategy: Strategy,
}

impl Registered {
    /// The variant this is.
    pub fn variant(&self) -> Variant {
        Variant { list: self.list, strategy: self.strategy }
    }
}

/// Every variant.
pub fn registered() -> &'static [Registered] {
    crate::generated::cell_list::VARIANTS
}

/// The registered form of a variant.
pub fn find(variant: &Variant) -> Option<&'static Registered> {
    registered().iter().find(|r| r.variant() == *variant)
}
