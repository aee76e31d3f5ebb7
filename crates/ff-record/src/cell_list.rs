//! What is recorded of `cell_list`: kernels that build a list, and those that no other op has, which keep it up to date.

use ff_cube::Element;
use ff_cube::buffers::upload;
use ff_cube::cell_list::{CubeLaunch, CubeSkinList};
use ff_spec::cell_list::{Inputs, Variant};
use ff_spec::{Dtype, LaunchConfig, LaunchError};

use crate::{Kernel, Paper, Recorder, one_at_a_time};

impl Recorder {
    /// The kernels that build a list, then those that keep one of moving atoms up to date besides.
    ///
    /// # Errors
    /// As [`Recorder::record`].
    pub fn record_list(
        &self,
        variant: &Variant,
        dtype: Dtype,
        inputs: &Inputs<f64>,
        config: &LaunchConfig,
    ) -> Result<Vec<Kernel>, LaunchError> {
        let _one_at_a_time = one_at_a_time();
        match dtype {
            Dtype::F32 => self.list_of::<f32>(variant, &inputs.cast(), config),
            Dtype::F64 => self.list_of::<f64>(variant, inputs, config),
        }
    }

    fn list_of<T: Element>(
        &self,
        variant: &Variant,
        inputs: &Inputs<T>,
        config: &LaunchConfig,
    ) -> Result<Vec<Kernel>, LaunchError> {
        /// Å; its size is in no kernel.
        const SKIN: f64 = 1.0;
        let (client, device) = (&self.client, self.device());
        let mut list = CubeLaunch::<Paper, T>::new(client, device, *variant, inputs, config)?;
        // No count comes back that room would be made for.
        list.set_capacity(1)?;
        let skin = <T as ff_spec::Scalar>::from_f64(SKIN);
        let mut moving = CubeSkinList::<Paper, T>::new(client, device, *variant, inputs.clone(), skin, config)?;
        let positions = upload(client, &inputs.positions).0;
        self.log(|| {
            ff_spec::Launch::run(&mut list)?;
            // SAFETY: these are positions of as many atoms.
            unsafe { moving.update(positions) };
            moving.finish().map(|_| ())
        })
    }
}
