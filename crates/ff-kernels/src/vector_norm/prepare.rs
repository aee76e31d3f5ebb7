//! From inputs to launches of the three orders, on every runtime.

use cubecl::Runtime;
use ff_spec::vector_norm::{BackwardInputs, DoubleBackwardInputs, Inputs, Variant};
use ff_spec::{
    Device, Dtype, Launch, LaunchConfig, LaunchError, Prepare, Problem, VectorNorm, VectorNormBackward,
    VectorNormDoubleBackward,
};

use super::{CubeLaunch, HostLaunch, default_config};
use crate::runtime::{CubeRuntime, HostRuntime};

/// One order.
macro_rules! prepare {
    ($($op:ident $inputs:ident),*) => {$(
        impl Prepare<$op> for HostRuntime {
            fn default_config(&self, variant: &Variant, dtype: Dtype, problem: &Problem) -> LaunchConfig {
                default_config(self.device(), variant, dtype, problem)
            }

            fn prepare(
                &self,
                _: &Variant,
                dtype: Dtype,
                inputs: &$inputs<f64>,
                config: &LaunchConfig,
            ) -> Result<Box<dyn Launch<$op>>, LaunchError> {
                Ok(match dtype {
                    Dtype::F32 => Box::new(HostLaunch::<f32, _>::new(inputs.cast(), config)?),
                    Dtype::F64 => Box::new(HostLaunch::<f64, _>::new(inputs.clone(), config)?),
                })
            }
        }

        impl<R: Runtime> Prepare<$op> for CubeRuntime<R> {
            fn default_config(&self, variant: &Variant, dtype: Dtype, problem: &Problem) -> LaunchConfig {
                default_config(self.device(), variant, dtype, problem)
            }

            fn prepare(
                &self,
                _: &Variant,
                dtype: Dtype,
                inputs: &$inputs<f64>,
                config: &LaunchConfig,
            ) -> Result<Box<dyn Launch<$op>>, LaunchError> {
                let (client, device) = (self.client(), self.device());
                self.check(dtype)?;
                Ok(match dtype {
                    Dtype::F32 => Box::new(CubeLaunch::<R, f32, _>::new(client, device, &inputs.cast(), config)?),
                    Dtype::F64 => Box::new(CubeLaunch::<R, f64, _>::new(client, device, inputs, config)?),
                })
            }
        }
    )*};
}
prepare!(VectorNorm Inputs, VectorNormBackward BackwardInputs, VectorNormDoubleBackward DoubleBackwardInputs);
