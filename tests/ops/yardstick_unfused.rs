//! The composition of Burn's operations, against the fused kernels.

use std::time::Duration;

use ff_spec::fused_message::{Inputs, Reduction, Variant};
use ff_spec::{Dtype, LaunchError, RuntimeKind};
use ff_testkit::fused_message::small::{case, distance, spec, variants};
use ff_yardstick::unfused::{largest_tensor, prepare};

use crate::testing::on_host;

/// Both sides round differently at every step of the same formula; a wrong term is orders of magnitude above.
fn tolerance(dtype: Dtype) -> f64 {
    match dtype {
        Dtype::F32 => 1e-4,
        Dtype::F64 => 1e-10,
    }
}

fn agrees(kind: RuntimeKind, variant: &Variant, inputs: &Inputs<f64>, dtype: Dtype) {
    let mut unfused = match prepare(kind, inputs, variant, dtype) {
        Err(LaunchError::Unsupported(reason)) if kind != RuntimeKind::Host => {
            println!("{kind} {variant} {dtype} not run: {reason}");
            return;
        }
        prepared => prepared.unwrap(),
    };
    unfused.poison().unwrap();
    let poisoned = unfused.outputs().unwrap();
    assert!(poisoned.nodes.iter().chain(&poisoned.vectors).all(|x| x.is_nan()));
    let before = unfused.input_digest().unwrap();
    unfused.run().unwrap();
    assert!(unfused.time().unwrap() > Duration::ZERO);
    assert_eq!(before, unfused.input_digest().unwrap());
    let error = distance(&unfused.outputs().unwrap(), &on_host(variant, inputs, dtype));
    assert!(error <= tolerance(dtype), "{kind} {variant} {dtype}: {error:e}");
}

fn radial() -> impl Iterator<Item = (&'static str, &'static str)> {
    ["gaussian", "bessel", "expnorm"].into_iter().flat_map(|basis| [(basis, "cosine"), (basis, "polynomial")])
}

#[test]
fn equals_the_fused_host_kernel_on_host() {
    for (basis, cutoff) in radial() {
        for variant in variants(basis, cutoff, Reduction::Receiver).into_iter().filter(|v| v.radial.is_some()) {
            for dtype in Dtype::ALL {
                agrees(RuntimeKind::Host, &variant, &case(&spec(), &variant), dtype);
            }
        }
    }
}

#[test]
fn equals_the_fused_host_kernel_on_the_gpu() {
    let kind = if cfg!(target_os = "macos") { RuntimeKind::Metal } else { RuntimeKind::Vulkan };
    for (basis, cutoff) in [("gaussian", "cosine"), ("bessel", "polynomial"), ("expnorm", "cosine")] {
        for variant in variants(basis, cutoff, Reduction::Receiver).into_iter().filter(|v| v.radial.is_some()) {
            for dtype in Dtype::ALL {
                agrees(kind, &variant, &case(&spec(), &variant), dtype);
            }
        }
    }
}

#[test]
fn nothing_to_sum_is_zero() {
    let variant = "painn_linear_gaussian_cosine_receiver".parse().unwrap();
    for sizes in [(0, 4, 0), (3, 0, 2), (3, 4, 0)] {
        let (n_atoms, features, degree) = sizes;
        let degrees = ff_testkit::degrees::Degrees::Uniform(degree);
        let spec = ff_testkit::fused_message::CaseSpec { n_atoms, features, degrees, ..spec() };
        agrees(RuntimeKind::Host, &variant, &case(&spec, &variant), Dtype::F32);
    }
}

#[test]
fn what_has_no_composition_is_unsupported() {
    let known: Variant = "cfconv_linear_gaussian_cosine_receiver".parse().unwrap();
    let inputs = case(&spec(), &known);
    for id in ["cfconv_tabulated_receiver", "cfconv_linear_mine_cosine_receiver"] {
        let result = prepare(RuntimeKind::Host, &inputs, &id.parse().unwrap(), Dtype::F32);
        assert!(matches!(result.err(), Some(LaunchError::Unsupported(_))), "{id}");
    }
    assert_eq!(largest_tensor(&inputs, Dtype::F64), (inputs.n_edges() * 8 * inputs.channels().max(5)) as u64);
}
