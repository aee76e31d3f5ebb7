//! `fused_message`: what was rendered, and how a launch configuration becomes a launch.

pub mod cube;
mod cube_backward;
pub mod host;
mod launch;
mod on_host;
mod table;

use ff_spec::Problem;
use ff_spec::fused_message::{
    DoubleGradients, FilterKind, Gradients, InputError, Inputs, Message, Radial, Reduction, Sizes, Variant,
};

pub use cube_backward::{
    BackwardOutputs, BackwardTensors, CubeBackward, CubeBackwardCall, CubeBackwardInputs, backward_on_cube,
    reads_list_by_sender,
};
pub use launch::{
    CubeCall, CubeLaunch, cube_config, default_backward_config, default_config, host_config, radial_parameters,
};
pub use on_host::{HostInputs, HostLaunch};
pub use table::{Tabulation, tabulate};

pub use crate::SenderList;
use crate::cube::recorder::Paper;
use crate::host::Element;
use host::{Backward, Call, Direction, HostConfig};

/// A host kernel.
pub type HostEntry<T> = fn(&Call<T>, &HostConfig, &mut ff_spec::fused_message::Outputs<T>);

/// The first backward of a host kernel.
pub type HostBackwardEntry<T> = fn(&Call<T>, Backward<'_, T>, &HostConfig, &mut Gradients<T>);

/// The second backward of a host kernel.
pub type HostDoubleBackwardEntry<T> =
    fn(&Call<T>, Backward<'_, T>, Direction<'_, T>, &HostConfig, &mut DoubleGradients<T>);

/// A cube kernel's launcher for one runtime.
pub type CubeEntry<R> = fn(&CubeCall<R>);

/// The launcher of a cube kernel's backwards, of either order, for one runtime.
pub type CubeBackwardEntry<R> = fn(&CubeBackwardCall<R>);

/// Parameters of a radial function in declared order: name, and whether there is one per basis function.
pub type Parameters = &'static [(&'static str, bool)];

/// Basis and cutoff of a variant.
#[derive(Clone, Copy)]
pub struct RadialPair {
    /// Name of the basis.
    pub basis: &'static str,
    /// Its parameters.
    pub basis_parameters: Parameters,
    /// φ_k and its first two derivatives: (d, r_c, k, parameters).
    pub basis_jet: fn(f64, f64, f64, &[f64]) -> [f64; 3],
    /// Name of the cutoff.
    pub cutoff: &'static str,
    /// Its parameters.
    pub cutoff_parameters: Parameters,
    /// f_c and its first two derivatives: (d, r_c, parameters).
    pub cutoff_jet: fn(f64, f64, &[f64]) -> [f64; 3],
}

/// One rendered variant.
pub struct Registered {
    /// [`Variant::id`].
    pub id: &'static str,
    /// Message.
    pub message: Message,
    /// Filter.
    pub filter: FilterKind,
    /// Radial functions, `None` where they are in the table.
    pub radial: Option<RadialPair>,
    /// Reduction.
    pub reduction: Reduction,
    /// Host kernels.
    pub host_f32: HostEntry<f32>,
    /// Host kernels.
    pub host_f64: HostEntry<f64>,
    /// First backward on host.
    pub backward_f32: HostBackwardEntry<f32>,
    /// First backward on host.
    pub backward_f64: HostBackwardEntry<f64>,
    /// Second backward on host.
    pub double_backward_f32: HostDoubleBackwardEntry<f32>,
    /// Second backward on host.
    pub double_backward_f64: HostDoubleBackwardEntry<f64>,
    /// The generated file, both targets.
    pub text: &'static str,
    /// Launchers for Vulkan and Metal.
    pub wgpu: CubeEntry<cubecl::wgpu::WgpuRuntime>,
    /// Launchers for CUDA.
    #[cfg(feature = "cuda")]
    pub cuda: CubeEntry<cubecl::cuda::CudaRuntime>,
    /// Launchers for a device that need not be there.
    pub paper: CubeEntry<Paper>,
    /// Both backwards on Vulkan and Metal.
    pub backward_wgpu: CubeBackwardEntry<cubecl::wgpu::WgpuRuntime>,
    /// Both backwards on CUDA.
    #[cfg(feature = "cuda")]
    pub backward_cuda: CubeBackwardEntry<cubecl::cuda::CudaRuntime>,
    /// Both backwards on a device that need not be there.
    pub backward_paper: CubeBackwardEntry<Paper>,
}

impl Registered {
    /// The variant this is.
    pub fn variant(&self) -> Variant {
        Variant {
            message: self.message,
            filter: self.filter,
            radial: self.radial.map(|pair| (pair.basis.to_owned(), pair.cutoff.to_owned())),
            reduction: self.reduction,
        }
    }

    /// Checks inputs against this variant, radial parameters included.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check<T: ff_spec::Scalar>(&self, inputs: &Inputs<T>) -> Result<(), InputError> {
        inputs.check()?;
        self.check_call(&inputs.sizes(), &inputs.radial)
    }

    /// Checks all of a call that is no tensor against this variant.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check_call<T: ff_spec::Scalar>(&self, sizes: &Sizes, radial: &Radial<T>) -> Result<(), InputError> {
        sizes.check()?;
        sizes.check_variant(&self.variant())?;
        self.check_radial(radial)
    }

    /// Checks the parameters of the radial functions: their names and lengths, and that they are finite.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check_radial<T: ff_spec::Scalar>(&self, radial: &Radial<T>) -> Result<(), InputError> {
        radial.check()?;
        let Some(pair) = &self.radial else { return Ok(()) };
        for (function, declared, given) in
            [(pair.basis, pair.basis_parameters, &radial.basis), (pair.cutoff, pair.cutoff_parameters, &radial.cutoff)]
        {
            let expected: Vec<(String, usize)> = declared
                .iter()
                .map(|(name, per_basis)| ((*name).to_owned(), if *per_basis { radial.n_basis } else { 1 }))
                .collect();
            let matches = given.len() == expected.len()
                && expected.iter().all(|(name, length)| given.get(name).is_some_and(|v| v.len() == *length));
            if !matches {
                let list = |pairs: &mut dyn Iterator<Item = (&str, usize)>| {
                    pairs.map(|(name, length)| format!("{name}: {length}")).collect::<Vec<_>>().join(", ")
                };
                return Err(InputError::RadialParameters {
                    function: function.to_owned(),
                    expected: list(&mut expected.iter().map(|(n, l)| (n.as_str(), *l))),
                    found: list(&mut given.iter().map(|(n, v)| (n.as_str(), v.len()))),
                });
            }
        }
        Ok(())
    }
}

/// Everything that was rendered.
pub fn registered() -> &'static [Registered] {
    crate::generated::fused_message::VARIANTS
}

/// The rendered form of a variant.
pub fn find(variant: &Variant) -> Option<&'static Registered> {
    let id = variant.id();
    registered().iter().find(|r| r.id == id)
}

/// The host kernels of a dtype.
pub trait HostElement: Element {
    /// This variant's entry.
    fn entry(registered: &Registered) -> HostEntry<Self>;
    /// Its first backward.
    fn backward(registered: &Registered) -> HostBackwardEntry<Self>;
    /// Its second backward.
    fn double_backward(registered: &Registered) -> HostDoubleBackwardEntry<Self>;
}

impl HostElement for f32 {
    fn entry(registered: &Registered) -> HostEntry<f32> {
        registered.host_f32
    }

    fn backward(registered: &Registered) -> HostBackwardEntry<f32> {
        registered.backward_f32
    }

    fn double_backward(registered: &Registered) -> HostDoubleBackwardEntry<f32> {
        registered.double_backward_f32
    }
}

impl HostElement for f64 {
    fn entry(registered: &Registered) -> HostEntry<f64> {
        registered.host_f64
    }

    fn backward(registered: &Registered) -> HostBackwardEntry<f64> {
        registered.backward_f64
    }

    fn double_backward(registered: &Registered) -> HostDoubleBackwardEntry<f64> {
        registered.double_backward_f64
    }
}

/// Bytes of shared memory of one cube.
pub fn shared_memory(problem: &Problem, element: usize, groups: usize, edges_per_tile: usize, order: usize) -> usize {
    let floats = 5 + (problem.n_basis as usize).max(2 * order) + problem.hidden as usize;
    groups * edges_per_tile * (floats * element + 3 * 4)
}
