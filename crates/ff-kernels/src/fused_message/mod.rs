//! `fused_message`: its variants, and how a launch configuration becomes a launch.

mod launch;
mod on_host;
mod prepare;
mod table;

use ff_spec::fused_message::{FilterKind, InputError, Inputs, Message, Radial, Reduction, Sizes, Variant};

pub use ff_cube::fused_message::{
    BackwardOutputs, BackwardTensors, CubeBackward, CubeBackwardInputs, CubeLaunch, cube_config, radial_parameters,
    reads_list_by_sender,
};
pub use ff_host::fused_message as host;
pub use ff_host::fused_message::{Compiled as HostElement, Parameters};
pub use ff_spec::SenderList;
pub use launch::{default_backward_config, default_config, host_call, host_config};
pub use on_host::{HostInputs, HostLaunch};
pub use table::{Tabulation, tabulate};

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

/// One variant.
#[derive(Debug)]
pub struct Registered {
    /// [`Variant::id`].
    pub id: &'static str,
    /// Message.
    pub message: Message,
    /// Filter.
    pub filter: FilterKind,
    /// Names of basis and cutoff, `None` where they are in the table.
    pub radial: Option<(&'static str, &'static str)>,
    /// Reduction.
    pub reduction: Reduction,
}

impl Registered {
    /// The variant this is.
    pub fn variant(&self) -> Variant {
        Variant {
            message: self.message,
            filter: self.filter,
            radial: self.radial.map(|(basis, cutoff)| (basis.to_owned(), cutoff.to_owned())),
            reduction: self.reduction,
        }
    }

    /// Its radial functions, `None` where they are in the table.
    pub fn pair(&self) -> Option<RadialPair> {
        let (basis, cutoff) = self.radial?;
        let (basis, cutoff) = (f64::basis(basis)?, f64::cutoff(cutoff)?);
        Some(RadialPair {
            basis: basis.name,
            basis_parameters: basis.parameters,
            basis_jet: basis.jet,
            cutoff: cutoff.name,
            cutoff_parameters: cutoff.parameters,
            cutoff_jet: cutoff.jet,
        })
    }

    /// The source of its forward on host: its radial functions, none where they are in the table, and what all variants share.
    pub fn text(&self) -> String {
        let radial = self.radial.and_then(|(basis, cutoff)| Some([f64::basis(basis)?.text, f64::cutoff(cutoff)?.text]));
        radial.into_iter().flatten().chain([host::SOURCE]).collect::<Vec<_>>().join("\n")
    }

    /// Its kernels on host.
    pub fn stages<T: HostElement>(&self) -> host::Stages<T> {
        T::stages(&self.variant()).expect("radial functions are rendered for host and registry from the same files")
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
        let Some(pair) = &self.pair() else { return Ok(()) };
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

/// Every variant.
pub fn registered() -> &'static [Registered] {
    crate::generated::fused_message::VARIANTS
}

/// The registered form of a variant.
pub fn find(variant: &Variant) -> Option<&'static Registered> {
    let id = variant.id();
    registered().iter().find(|r| r.id == id)
}
