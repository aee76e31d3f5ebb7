//! From inputs to launches, on every runtime.

use ff_spec::{CellList, Device};

use super::{CubeLaunch, HostLaunch, default_config};
use crate::runtime::prepare;

prepare! {
    CellList;
    default: default_config;
    host: |variant, inputs, config| HostLaunch::<T>::new(*variant, inputs, config);
    cube: |on, variant, inputs, config| CubeLaunch::<R, T>::new(on.client(), on.device(), *variant, inputs, config);
}
