//! From inputs to launches, on every runtime.

use cubecl::Runtime;
use ff_spec::cell_list::{Inputs, Variant};
use ff_spec::{CellList, Device, Dtype, Launch, LaunchConfig, LaunchError, Prepare, Problem};

use super::{CubeLaunch, HostLaunch, default_config};
use crate::runtime::{CubeRuntime, HostRuntime};

impl Prepare<CellList> for HostRuntime {
    fn default_config(&self, variant: &Variant, dtype: Dtype, problem: &Problem) -> LaunchConfig {
        default_config(self.device(), variant, dtype, problem)
    }

    fn prepare(
        &self,
        variant: &Variant,
        dtype: Dtype,
        inputs: &Inputs<f64>,
        config: &LaunchConfig,
    ) -> Result<Box<dyn Launch<CellList>>, LaunchError> {
        Ok(match dtype {
            Dtype::F32 => Box::new(HostLaunch::<f32>::new(*variant, inputs.cast(), config)?),
            Dtype::F64 => Box::new(HostLaunch::<f64>::new(*variant, inputs.clone(), config)?),
        })
    }
}

impl<R: Runtime> Prepare<CellList> for CubeRuntime<R> {
    fn default_config(&self, variant: &Variant, dtype: Dtype, problem: &Problem) -> LaunchConfig {
        default_config(self.device(), variant, dtype, problem)
    }

    fn prepare(
        &self,
        variant: &Variant,
        dtype: Dtype,
        inputs: &Inputs<f64>,
        config: &LaunchConfig,
    ) -> Result<Box<dyn Launch<CellList>>, LaunchError> {
        let (client, device) = (self.client(), self.device());
        self.check(dtype)?;
        Ok(match dtype {
            Dtype::F32 => Box::new(CubeLaunch::<R, f32>::new(client, device, *variant, &inputs.cast(), config)?),
            Dtype::F64 => Box::new(CubeLaunch::<R, f64>::new(client, device, *variant, inputs, config)?),
        })
    }
}
