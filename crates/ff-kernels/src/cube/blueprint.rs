//! A cube kernel without a device: its definition from sizes alone, for compilers that need no driver.

use cubecl::ir::{AddressType, DeviceProperties, Scope, StorageType, TargetProperties};
use cubecl::prelude::*;
use ff_spec::{DeviceId, Dtype};

use crate::fused_message::cube::{CubeConfig, Inputs, InputsCompilationArg, InputsExpand, Lanes, Real};

/// A device as CubeCL's compilers see it, without the device.
pub struct Described {
    /// What tuning tables and constraints know of it.
    pub device: DeviceId,
    pub(crate) properties: DeviceProperties,
    pub(crate) target: TargetProperties,
}

/// What fixes the code of a variant: sizes, element type and the device it is compiled for.
pub struct Blueprint<'a> {
    pub(crate) device: &'a Described,
    pub(crate) config: CubeConfig,
    pub(crate) vector: usize,
    pub(crate) dtype: Dtype,
}

/// The body of a generated kernel, as `#[cube]` expands it.
pub type Body<C> = fn(
    &mut Scope,
    InputsExpand<Real, Lanes>,
    <Array<C> as CubeType>::ExpandType,
    <Array<C> as CubeType>::ExpandType,
    CubeConfig,
    StorageType,
    usize,
);

impl Blueprint<'_> {
    /// Units of one cube.
    pub fn units(&self) -> u32 {
        (self.config.units * self.config.groups) as u32
    }

    /// What the kernel that `#[cube(launch_unchecked)]` generates defines; that one asks a client for the properties.
    pub fn define<C: CubePrimitive>(&self, body: Body<C>) -> KernelDefinition {
        let real = match self.dtype {
            Dtype::F32 => f32::as_type_native_unchecked().storage_type(),
            Dtype::F64 => f64::as_type_native_unchecked().storage_type(),
        };
        let settings = KernelSettings::default()
            .cube_dim(CubeDim::new_2d(self.config.units as u32, self.config.groups as u32))
            .address_type(AddressType::U32)
            .kernel_name(format!("kernel_f_{real}_n_{}", self.vector));
        let mut builder = KernelBuilder::default();
        builder.runtime_properties(self.device.target.clone());
        builder.device_properties(&self.device.properties);
        builder.scope.register_type::<Real>(real);
        builder.scope.register_size::<Lanes>(self.vector);
        settings.address_type.register(&mut builder.scope);
        let own = || ArrayCompilationArg { inplace: None };
        let inputs = InputsCompilationArg::<Real, Lanes> {
            row_ptr: own(),
            sender: own(),
            edge_vec: own(),
            nodes: own(),
            vectors: own(),
            weights: own(),
            bias: own(),
            hidden_weights: own(),
            hidden_bias: own(),
            radial: own(),
            n_atoms: (),
            features: (),
            segments: (),
        };
        let inputs = <Inputs<Real, Lanes> as LaunchArg>::expand(&inputs, &mut builder);
        let out_nodes = <Array<C> as LaunchArg>::expand_output(&own(), &mut builder);
        let out_vectors = <Array<C> as LaunchArg>::expand_output(&own(), &mut builder);
        body(&mut builder.scope, inputs, out_nodes, out_vectors, self.config, real, self.vector);
        builder.build(settings)
    }
}
