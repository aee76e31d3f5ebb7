//! From inputs to launches of the three orders, on every runtime.

use ff_spec::force_scatter::Reduction;
use ff_spec::{Device, ForceScatter, ForceScatterBackward, ForceScatterDoubleBackward, Op, Scalar};

use super::{CubeLaunch, HostLaunch, default_config};
use crate::runtime::prepare;

prepare! {
    ForceScatter, ForceScatterBackward, ForceScatterDoubleBackward;
    default: default_config;
    host: |variant, inputs, config| HostLaunch::<T, _>::new(*variant, inputs, config);
    cube: |on, variant, inputs, config| {
        // The first backward sums nothing.
        if O::ORDER != 1 && variant.reduction == Reduction::Atomic {
            on.check_adds(T::DTYPE)?;
        }
        CubeLaunch::<R, T, _>::new(on.client(), on.device(), *variant, inputs, config)
    };
}
