//! `cell_list`: what was rendered, and how a launch configuration becomes a launch.

pub mod cube;
pub(crate) mod grid;
pub mod host;
mod launch;

use ff_spec::cell_list::{InputError, Inputs, List, NeighborList, Strategy, Variant};

pub use cube::{CubeConfig, CubeLaunch, CubeSkinList, ListBuffers, Repair};
pub use launch::{HostLaunch, cube_config, default_config, host_config};

use host::HostConfig;

/// A host kernel.
pub type HostEntry<T> = fn(&Inputs<T>, &HostConfig, &mut NeighborList<T>) -> Result<(), InputError>;

/// One rendered variant.
pub struct Registered {
    /// [`Variant::id`].
    pub id: &'static str,
    /// Edges listed.
    pub list: List,
    /// Candidates.
    pub strategy: Strategy,
    /// Host kernels.
    pub host_f32: HostEntry<f32>,
    /// Host kernels.
    pub host_f64: HostEntry<f64>,
    /// The generated file, both targets.
    pub text: &'static str,
}

impl Registered {
    /// The variant this is.
    pub fn variant(&self) -> Variant {
        Variant { list: self.list, strategy: self.strategy }
    }
}

/// Everything that was rendered.
pub fn registered() -> &'static [Registered] {
    crate::generated::cell_list::VARIANTS
}

/// The rendered form of a variant.
pub fn find(variant: &Variant) -> Option<&'static Registered> {
    registered().iter().find(|r| r.variant() == *variant)
}

/// The host kernels of a dtype.
pub trait HostElement: host::Real {
    /// This variant's entry.
    fn entry(registered: &Registered) -> HostEntry<Self>;
}

impl HostElement for f32 {
    fn entry(registered: &Registered) -> HostEntry<f32> {
        registered.host_f32
    }
}

impl HostElement for f64 {
    fn entry(registered: &Registered) -> HostEntry<f64> {
        registered.host_f64
    }
}
