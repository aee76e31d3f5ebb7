//! From inputs to launches of the three orders, on every runtime.

use ff_spec::fused_message::{Reduction, Variant};
use ff_spec::{Device, FusedMessage, FusedMessageBackward, FusedMessageDoubleBackward, LaunchError, Op, Scalar};

use super::{
    CubeBackward, CubeLaunch, HostLaunch, Registered, default_backward_config, default_config, find,
    reads_list_by_sender,
};
use crate::runtime::prepare;

/// The registered form of a variant that is to be launched.
fn registered(variant: &Variant) -> Result<&'static Registered, LaunchError> {
    find(variant).ok_or_else(|| LaunchError::UnknownVariant(variant.id()))
}

prepare! {
    FusedMessage;
    default: default_config;
    host: |variant, inputs, config| HostLaunch::new(registered(variant)?, inputs, config);
    cube: |on, variant, inputs, config| {
        let registered = registered(variant)?;
        if variant.reduction == Reduction::EdgeAtomic {
            on.check_adds(T::DTYPE)?;
        }
        registered.check(inputs)?;
        CubeLaunch::<R, T>::new(on.client(), on.device(), &registered.variant(), inputs, config)
    };
}

prepare! {
    FusedMessageBackward, FusedMessageDoubleBackward;
    default: |device, variant, dtype, problem| default_backward_config(device, variant, O::ORDER, dtype, problem);
    host: |variant, inputs, config| HostLaunch::new(registered(variant)?, inputs, config);
    cube: |on, variant, inputs, config| {
        let registered = registered(variant)?;
        if !reads_list_by_sender(variant, O::ORDER) {
            on.check_adds(T::DTYPE)?;
        }
        inputs.check()?;
        registered.check(&inputs.inputs)?;
        CubeBackward::<R, T, _>::new(on.client(), on.device(), &registered.variant(), inputs, config)
    };
}
