//! From inputs to launches of the three orders, on every runtime.

use ff_spec::{Device, VectorNorm, VectorNormBackward, VectorNormDoubleBackward};

use super::{CubeLaunch, HostLaunch, default_config};
use crate::runtime::prepare;

prepare! {
    VectorNorm, VectorNormBackward, VectorNormDoubleBackward;
    default: default_config;
    host: |_, inputs, config| HostLaunch::<T, _>::new(inputs, config);
    cube: |on, _, inputs, config| CubeLaunch::<R, T, _>::new(on.client(), on.device(), inputs, config);
}
