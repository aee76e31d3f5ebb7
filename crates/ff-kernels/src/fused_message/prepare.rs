//! From inputs to launches of the three orders, on every runtime.

use cubecl::Runtime;
use ff_cube::Element;
use ff_spec::fused_message::{BackwardInputs, DoubleBackwardInputs, Inputs, Reduction, Variant};
use ff_spec::{
    Device, Dtype, FusedMessage, FusedMessageBackward, FusedMessageDoubleBackward, Launch, LaunchConfig, LaunchError,
    Op, Prepare, Problem,
};

use super::{
    CubeBackward, CubeLaunch, HostLaunch, Registered, default_backward_config, default_config, find,
    reads_list_by_sender,
};
use crate::runtime::{CubeRuntime, HostRuntime};

/// The registered form of a variant that is to be launched.
fn registered(variant: &Variant) -> Result<&'static Registered, LaunchError> {
    find(variant).ok_or_else(|| LaunchError::UnknownVariant(variant.id()))
}

/// One order on the host.
macro_rules! on_host {
    ($($op:ident: $inputs:ident),*) => {$(
        impl Prepare<$op> for HostRuntime {
            fn default_config(&self, variant: &Variant, dtype: Dtype, problem: &Problem) -> LaunchConfig {
                match $op::ORDER {
                    0 => default_config(self.device(), variant, dtype, problem),
                    order => default_backward_config(self.device(), variant, order, dtype, problem),
                }
            }

            fn prepare(
                &self,
                variant: &Variant,
                dtype: Dtype,
                inputs: &$inputs<f64>,
                config: &LaunchConfig,
            ) -> Result<Box<dyn Launch<$op>>, LaunchError> {
                let registered = registered(variant)?;
                Ok(match dtype {
                    Dtype::F32 => Box::new(HostLaunch::new(registered, inputs.cast::<f32>(), config)?),
                    Dtype::F64 => Box::new(HostLaunch::new(registered, inputs.clone(), config)?),
                })
            }
        }
    )*};
}
on_host!(
    FusedMessage: Inputs,
    FusedMessageBackward: BackwardInputs,
    FusedMessageDoubleBackward: DoubleBackwardInputs
);

impl<R: Runtime> Prepare<FusedMessage> for CubeRuntime<R> {
    fn default_config(&self, variant: &Variant, dtype: Dtype, problem: &Problem) -> LaunchConfig {
        default_config(self.device(), variant, dtype, problem)
    }

    fn prepare(
        &self,
        variant: &Variant,
        dtype: Dtype,
        inputs: &Inputs<f64>,
        config: &LaunchConfig,
    ) -> Result<Box<dyn Launch<FusedMessage>>, LaunchError> {
        let registered = registered(variant)?;
        self.check(dtype)?;
        if variant.reduction == Reduction::EdgeAtomic {
            self.check_adds(dtype)?;
        }
        fn launch<R: Runtime, T: Element>(
            on: &CubeRuntime<R>,
            registered: &Registered,
            inputs: &Inputs<T>,
            config: &LaunchConfig,
        ) -> Result<Box<dyn Launch<FusedMessage>>, LaunchError> {
            registered.check(inputs)?;
            Ok(Box::new(CubeLaunch::<R, T>::new(on.client(), on.device(), &registered.variant(), inputs, config)?))
        }
        match dtype {
            Dtype::F32 => launch::<R, f32>(self, registered, &inputs.cast(), config),
            Dtype::F64 => launch::<R, f64>(self, registered, inputs, config),
        }
    }
}

/// One order that is a derivative, on cubes.
macro_rules! backward_on_cube {
    ($($op:ident: $inputs:ident),*) => {$(
        impl<R: Runtime> Prepare<$op> for CubeRuntime<R> {
            fn default_config(&self, variant: &Variant, dtype: Dtype, problem: &Problem) -> LaunchConfig {
                default_backward_config(self.device(), variant, $op::ORDER, dtype, problem)
            }

            fn prepare(
                &self,
                variant: &Variant,
                dtype: Dtype,
                inputs: &$inputs<f64>,
                config: &LaunchConfig,
            ) -> Result<Box<dyn Launch<$op>>, LaunchError> {
                let registered = registered(variant)?;
                self.check(dtype)?;
                if !reads_list_by_sender(variant, $op::ORDER) {
                    self.check_adds(dtype)?;
                }
                fn launch<R: Runtime, T: Element>(
                    on: &CubeRuntime<R>,
                    registered: &Registered,
                    inputs: &$inputs<T>,
                    config: &LaunchConfig,
                ) -> Result<Box<dyn Launch<$op>>, LaunchError> {
                    inputs.check()?;
                    registered.check(&inputs.inputs)?;
                    let variant = registered.variant();
                    Ok(Box::new(CubeBackward::<R, T, _>::new(on.client(), on.device(), &variant, inputs, config)?))
                }
                match dtype {
                    Dtype::F32 => launch::<R, f32>(self, registered, &inputs.cast(), config),
                    Dtype::F64 => launch::<R, f64>(self, registered, inputs, config),
                }
            }
        }
    )*};
}
backward_on_cube!(FusedMessageBackward: BackwardInputs, FusedMessageDoubleBackward: DoubleBackwardInputs);
