//! From inputs to launches of the three orders, on every runtime.

use cubecl::Runtime;
use ff_spec::force_scatter::{BackwardInputs, DoubleBackwardInputs, Inputs, Reduction, Variant};
use ff_spec::{
    Device, Dtype, ForceScatter, ForceScatterBackward, ForceScatterDoubleBackward, Launch, LaunchConfig, LaunchError,
    Prepare, Problem,
};

use super::{CubeLaunch, HostLaunch, default_config};
use crate::runtime::{CubeRuntime, HostRuntime};

/// One order; only the orders that sum add atomically.
macro_rules! prepare {
    ($($op:ident $inputs:ident $sums:literal),*) => {$(
        impl Prepare<$op> for HostRuntime {
            fn default_config(&self, variant: &Variant, dtype: Dtype, problem: &Problem) -> LaunchConfig {
                default_config(self.device(), variant, dtype, problem)
            }

            fn prepare(
                &self,
                variant: &Variant,
                dtype: Dtype,
                inputs: &$inputs<f64>,
                config: &LaunchConfig,
            ) -> Result<Box<dyn Launch<$op>>, LaunchError> {
                Ok(match dtype {
                    Dtype::F32 => Box::new(HostLaunch::<f32, _>::new(*variant, inputs.cast(), config)?),
                    Dtype::F64 => Box::new(HostLaunch::<f64, _>::new(*variant, inputs.clone(), config)?),
                })
            }
        }

        impl<R: Runtime> Prepare<$op> for CubeRuntime<R> {
            fn default_config(&self, variant: &Variant, dtype: Dtype, problem: &Problem) -> LaunchConfig {
                default_config(self.device(), variant, dtype, problem)
            }

            fn prepare(
                &self,
                variant: &Variant,
                dtype: Dtype,
                inputs: &$inputs<f64>,
                config: &LaunchConfig,
            ) -> Result<Box<dyn Launch<$op>>, LaunchError> {
                let (client, device) = (self.client(), self.device());
                self.check(dtype)?;
                if $sums && variant.reduction == Reduction::Atomic {
                    self.check_adds(dtype)?;
                }
                Ok(match dtype {
                    Dtype::F32 => {
                        Box::new(CubeLaunch::<R, f32, _>::new(client, device, *variant, &inputs.cast(), config)?)
                    }
                    Dtype::F64 => Box::new(CubeLaunch::<R, f64, _>::new(client, device, *variant, inputs, config)?),
                })
            }
        }
    )*};
}
prepare!(
    ForceScatter Inputs true,
    ForceScatterBackward BackwardInputs false,
    ForceScatterDoubleBackward DoubleBackwardInputs true
);
