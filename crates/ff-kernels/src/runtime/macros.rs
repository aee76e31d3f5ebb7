//! How orders of an op are prepared on both runtimes: what of it is alike for all ops.

/// [`ff_spec::Prepare`] of orders on [`HostRuntime`](crate::runtime::HostRuntime) and on every
/// [`CubeRuntime`](crate::runtime::CubeRuntime).
///
/// `default` is a function of device, variant, dtype and problem. `host` makes a launch of a variant, of inputs that it may keep
/// and of a configuration; `cube` of the runtime too, and of inputs that it reads. In both `T` is the element type and `O` the order,
/// in `cube` `R` is the CubeCL runtime, which computes in `T`; either may leave early with a
/// [`LaunchError`](ff_spec::LaunchError).
macro_rules! prepare {
    (
        $($op:ty),+;
        default: $default:expr;
        host: |$variant:pat_param, $given:pat_param, $config:pat_param| $host:expr;
        cube: |$on:pat_param, $of:pat_param, $read:pat_param, $with:pat_param| $cube:expr;
    ) => {$(
        impl ff_spec::Prepare<$op> for $crate::runtime::HostRuntime {
            fn default_config(
                &self,
                variant: &<$op as ff_spec::Op>::Variant,
                dtype: ff_spec::Dtype,
                problem: &ff_spec::Problem,
            ) -> ff_spec::LaunchConfig {
                #[allow(dead_code, reason = "few defaults depend on the order")]
                type O = $op;
                ($default)(ff_spec::Device::device(self), variant, dtype, problem)
            }

            fn prepare(
                &self,
                variant: &<$op as ff_spec::Op>::Variant,
                dtype: ff_spec::Dtype,
                inputs: &<$op as ff_spec::Op>::Inputs,
                config: &ff_spec::LaunchConfig,
            ) -> Result<Box<dyn ff_spec::Launch<$op>>, ff_spec::LaunchError> {
                #[allow(dead_code, reason = "few launches depend on the order")]
                type O = $op;
                let ($variant, $config) = (variant, config);
                Ok(match dtype {
                    ff_spec::Dtype::F32 => {
                        #[allow(dead_code, reason = "where it follows from the inputs")]
                        type T = f32;
                        let $given = inputs.cast::<f32>();
                        Box::new($host?)
                    }
                    ff_spec::Dtype::F64 => {
                        #[allow(dead_code, reason = "where it follows from the inputs")]
                        type T = f64;
                        let $given = inputs.clone();
                        Box::new($host?)
                    }
                })
            }
        }

        impl<R: cubecl::Runtime> ff_spec::Prepare<$op> for $crate::runtime::CubeRuntime<R> {
            fn default_config(
                &self,
                variant: &<$op as ff_spec::Op>::Variant,
                dtype: ff_spec::Dtype,
                problem: &ff_spec::Problem,
            ) -> ff_spec::LaunchConfig {
                #[allow(dead_code, reason = "few defaults depend on the order")]
                type O = $op;
                ($default)(ff_spec::Device::device(self), variant, dtype, problem)
            }

            fn prepare(
                &self,
                variant: &<$op as ff_spec::Op>::Variant,
                dtype: ff_spec::Dtype,
                inputs: &<$op as ff_spec::Op>::Inputs,
                config: &ff_spec::LaunchConfig,
            ) -> Result<Box<dyn ff_spec::Launch<$op>>, ff_spec::LaunchError> {
                #[allow(dead_code, reason = "few launches depend on the order")]
                type O = $op;
                self.check(dtype)?;
                let ($on, $of, $with) = (self, variant, config);
                Ok(match dtype {
                    ff_spec::Dtype::F32 => {
                        #[allow(dead_code, reason = "where it follows from the inputs")]
                        type T = f32;
                        let $read = &inputs.cast::<f32>();
                        Box::new($cube?)
                    }
                    ff_spec::Dtype::F64 => {
                        #[allow(dead_code, reason = "where it follows from the inputs")]
                        type T = f64;
                        let $read = inputs;
                        Box::new($cube?)
                    }
                })
            }
        }
    )+};
}

pub(crate) use prepare;
