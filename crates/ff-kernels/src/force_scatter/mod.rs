//! `force_scatter`: what was rendered, and how a launch configuration becomes a launch.

pub mod cube;
pub mod host;
mod launch;

use ff_spec::force_scatter::{DoubleGradients, Gradients, Outputs, Reduction, Variant};

pub use cube::{CubeConfig, CubeLaunch};
pub use launch::{HostLaunch, OrderInputs, cube_config, default_config, host_config};

use crate::host::Element;
use host::{Call, Cotangents, HostConfig, Tangent};

/// A host kernel.
pub type HostForward<T> = fn(&Call<'_, T>, &HostConfig, &mut Outputs<T>);

/// The first backward of a host kernel.
pub type HostBackward<T> = fn(&Call<'_, T>, &Cotangents<'_, T>, &HostConfig, &mut Gradients<T>);

/// The second backward of a host kernel.
pub type HostDoubleBackward<T> =
    fn(&Call<'_, T>, &Cotangents<'_, T>, &Tangent<'_, T>, &HostConfig, &mut DoubleGradients<T>);

/// The three orders on host.
pub struct HostEntries<T> {
    /// Forces and strain derivatives.
    pub forward: HostForward<T>,
    /// Gradients in edge vectors and edge gradients.
    pub backward: HostBackward<T>,
    /// Gradients of those in the cotangents and in the inputs.
    pub double_backward: HostDoubleBackward<T>,
}

/// One rendered variant.
pub struct Registered {
    /// [`Variant::id`].
    pub id: &'static str,
    /// Reduction.
    pub reduction: Reduction,
    /// Host kernels.
    pub host_f32: HostEntries<f32>,
    /// Host kernels.
    pub host_f64: HostEntries<f64>,
    /// The generated file, both targets.
    pub text: &'static str,
}

impl Registered {
    /// The variant this is.
    pub fn variant(&self) -> Variant {
        Variant { reduction: self.reduction }
    }
}

/// Everything that was rendered.
pub fn registered() -> &'static [Registered] {
    crate::generated::force_scatter::VARIANTS
}

/// The rendered form of a variant.
pub fn find(variant: &Variant) -> Option<&'static Registered> {
    registered().iter().find(|r| r.variant() == *variant)
}

/// The host kernels of a dtype.
pub trait HostElement: Element {
    /// This variant's entries.
    fn entries(registered: &Registered) -> &HostEntries<Self>;
}

impl HostElement for f32 {
    fn entries(registered: &Registered) -> &HostEntries<f32> {
        &registered.host_f32
    }
}

impl HostElement for f64 {
    fn entries(registered: &Registered) -> &HostEntries<f64> {
        &registered.host_f64
    }
}
