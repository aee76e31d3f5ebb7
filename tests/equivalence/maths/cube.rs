//! On the devices of this machine, one unit per argument.

#![allow(missing_docs, reason = "`#[cube]` expands into items that carry no documentation")]

use cubecl::prelude::*;
use ff_kernels::cube::maths;
use ff_spec::{Dtype, RuntimeKind, Scalar};

use super::{Function, judge};

/// As on the host, without fused multiply-adds. Exponential, logarithm and root in f32 are the device's own: Vulkan's
/// "Precision and Operation of SPIR-V Instructions" gives them 3 + 2|x|, 3, and those of a division and an inverse root.
fn claim(function: Function, dtype: Dtype, x: f64) -> f64 {
    match (function, dtype) {
        (Function::Exp, Dtype::F32) => 3.0 + 2.0 * x.abs(),
        (Function::Logistic, Dtype::F32) => 5.0 + 2.0 * x.abs(),
        (Function::Ln, Dtype::F32) => 3.0,
        (Function::Sqrt, Dtype::F32) => 5.0,
        (Function::Sqrt, Dtype::F64) => 0.5,
        (Function::Exp | Function::Tanh | Function::Ln, _) => 2.0,
        (Function::Sin | Function::Cos, Dtype::F64) => 8.0,
        (Function::SincD1 | Function::SincD2 | Function::SincD3, Dtype::F64) => 6.0,
        (Function::ExpM1 | Function::Sin | Function::Cos | Function::Logistic, _) => 3.0,
        (Function::ShiftedSoftplus, _) => 4.0,
        (Function::Sinc | Function::SincD1 | Function::SincD2 | Function::SincD3, _) => 4.0,
    }
}

#[cube(launch_unchecked)]
fn apply<F: Float>(x: &Array<F>, y: &mut Array<F>, #[comptime] function: Function) {
    if ABSOLUTE_POS < x.len() {
        let x = x[ABSOLUTE_POS];
        y[ABSOLUTE_POS] = if comptime!(function == Function::Exp) {
            maths::exp::<F>(x)
        } else if comptime!(function == Function::ExpM1) {
            maths::exp_m1::<F>(x)
        } else if comptime!(function == Function::Sin) {
            maths::sin::<F>(x)
        } else if comptime!(function == Function::Cos) {
            maths::cos::<F>(x)
        } else if comptime!(function == Function::Tanh) {
            maths::tanh::<F>(x)
        } else if comptime!(function == Function::ShiftedSoftplus) {
            maths::shifted_softplus::<F>(x)
        } else if comptime!(function == Function::Logistic) {
            maths::logistic::<F>(x)
        } else if comptime!(function == Function::Sqrt) {
            maths::sqrt::<F>(x)
        } else if comptime!(function == Function::Ln) {
            maths::ln::<F>(x)
        } else if comptime!(function == Function::Sinc) {
            maths::sinc::<F>(x)
        } else if comptime!(function == Function::SincD1) {
            maths::sinc_d1::<F>(x)
        } else if comptime!(function == Function::SincD2) {
            maths::sinc_d2::<F>(x)
        } else {
            maths::sinc_d3::<F>(x)
        };
    }
}

fn launch<R: Runtime, T: Float + CubeElement>(client: &ComputeClient<R>, function: Function, x: &[T]) -> Vec<T> {
    const UNITS: u32 = 64;
    let input = client.create_from_slice(T::as_bytes(x));
    let output = client.empty(size_of_val(x));
    // SAFETY: both buffers hold as many elements as are said here, and the kernel compares every index with that number.
    unsafe {
        apply::launch_unchecked::<T, R>(
            client,
            CubeCount::Static((x.len() as u32).div_ceil(UNITS), 1, 1),
            CubeDim::new_1d(UNITS),
            ArrayArg::from_raw_parts(input, x.len()),
            ArrayArg::from_raw_parts(output.clone(), x.len()),
            function,
        );
    }
    T::from_bytes(&client.read_one(output).expect("the device answers")).to_vec()
}

fn keeps_its_claims<R: Runtime, T: Float + CubeElement + Scalar>(client: &ComputeClient<R>, name: &str) {
    judge::<T>(name, claim, |function, x| launch::<R, T>(client, function, x));
}

#[test]
fn functions_of_devices_keep_their_claims() {
    for runtime in ff_tests::runtimes() {
        let device = runtime.device();
        match device.runtime {
            RuntimeKind::Host => {}
            RuntimeKind::Vulkan | RuntimeKind::Metal => {
                use cubecl::wgpu::{WgpuDevice, WgpuRuntime};
                let client = WgpuRuntime::client(&WgpuDevice::DefaultDevice);
                keeps_its_claims::<_, f32>(&client, &device.name);
                if device.f64 {
                    keeps_its_claims::<_, f64>(&client, &device.name);
                }
            }
            RuntimeKind::Cuda => {
                #[cfg(feature = "cuda")]
                {
                    use cubecl::cuda::{CudaDevice, CudaRuntime};
                    let client = CudaRuntime::client(&CudaDevice::new(0));
                    keeps_its_claims::<_, f32>(&client, &device.name);
                    keeps_its_claims::<_, f64>(&client, &device.name);
                }
            }
        }
    }
}
