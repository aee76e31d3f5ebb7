//! What the kernels of `vector_norm` promise beyond the gate: bits that neither threads nor launch parameters change, rotations
//! that change no norm, and configurations that are refused.

use ff_kernels::vector_norm::registered;
use ff_spec::vector_norm::{BackwardInputs, DoubleBackwardInputs, Inputs, Strategy, Variant};
use ff_spec::{
    Dtype, Launch, LaunchConfig, LaunchError, Prepare, Runtime, RuntimeKind, VectorNorm, VectorNormBackward,
    VectorNormDoubleBackward,
};
use ff_testkit::tensors::ByTensors;
use ff_testkit::vector_norm::properties::check_rotations;
use ff_testkit::vector_norm::strategies::norm_spec;
use ff_testkit::vector_norm::{Kind, NormSpec, random_cotangents, random_inputs, random_tangent};
use proptest::prelude::*;

const ONE: Variant = Variant { strategy: Strategy::Channelwise };

fn inputs(n_atoms: usize, features: usize) -> Inputs<f64> {
    random_inputs(&NormSpec { n_atoms, features, kind: Kind::Ordinary }, 3)
}

fn second(inputs: Inputs<f64>) -> DoubleBackwardInputs<f64> {
    let (grad, tangent) = (random_cotangents(&inputs, 3), random_tangent(&inputs, 3));
    DoubleBackwardInputs { inputs, grad, tangent }
}

/// What a runtime computes; `None` in a dtype that it does not.
fn computed<O: ByTensors<Variant = Variant>>(
    runtime: &dyn Prepare<O>,
    dtype: Dtype,
    inputs: &O::Inputs,
    config: &LaunchConfig,
) -> Option<O::Outputs> {
    let mut launch: Box<dyn Launch<O>> = match runtime.prepare(&ONE, dtype, inputs, config) {
        Err(LaunchError::Unsupported(reason)) => {
            println!("not tested: {reason}");
            return None;
        }
        launch => launch.expect("a launch"),
    };
    launch.run().expect("runs");
    Some(launch.outputs().expect("outputs"))
}

#[test]
fn there_is_one_variant() {
    assert_eq!(registered().iter().map(|registered| registered.variant()).collect::<Vec<_>>(), [ONE]);
}

#[test]
fn the_host_has_the_same_bits_on_any_number_of_threads_and_in_any_tasks() {
    let inputs = second(inputs(100, 21));
    for dtype in Dtype::ALL {
        let run = |threads: usize, atoms_per_task: u32| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
            pool.install(|| {
                let host = ff_kernels::open(RuntimeKind::Host).expect("the host is always there");
                let host: &dyn Prepare<VectorNormDoubleBackward> = host.as_ref();
                computed(host, dtype, &inputs, &[("atoms_per_task", atoms_per_task)].into())
            })
        };
        let one = run(1, 100);
        assert!(one.is_some() && run(2, 7) == one && run(5, 1) == one && run(3, 4000) == one, "{dtype}");
    }
}

/// A channel is computed alike wherever it is: vectors of any width and cubes of any size give the same bits.
#[test]
fn devices_have_the_same_bits_in_vectors_and_cubes_of_any_size() {
    let inputs = second(inputs(19, 24)).cast::<f32>().cast();
    for runtime in ff_tests::runtimes().iter().filter(|runtime| runtime.device().runtime != RuntimeKind::Host) {
        let plane = runtime.device().limits.plane_size;
        let runtime: &dyn Prepare<VectorNormDoubleBackward> = runtime.as_ref();
        let run = |units: u32, width: u32| {
            computed(runtime, Dtype::F32, &inputs, &[("units_per_cube", units), ("vector_width", width)].into())
        };
        let one = run(plane, 1);
        assert!(one.is_some(), "f32 is there");
        for (units, width) in [(plane, 2), (2 * plane, 4), (4 * plane, 1)] {
            assert!(run(units, width) == one, "{units} units, vectors of {width}");
        }
    }
}

#[test]
fn norms_are_invariant_and_their_gradients_equivariant_on_every_runtime() {
    for runtime in ff_tests::runtimes() {
        for (dtype, seed) in Dtype::ALL.into_iter().flat_map(|dtype| [(dtype, 0), (dtype, 1)]) {
            let inputs = inputs(13, 37);
            if dtype == Dtype::F64 && !runtime.device().f64 {
                println!("not tested: {} in f64", runtime.device().name);
                continue;
            }
            assert_eq!(rotations(runtime.as_ref(), dtype, &inputs, seed), Ok(()), "{dtype}");
        }
    }
}

/// [`check_rotations`] of the kernels of a runtime, under its default configuration.
fn rotations(runtime: &(dyn Runtime + 'static), dtype: Dtype, inputs: &Inputs<f64>, seed: u64) -> Result<(), String> {
    let config = Prepare::<VectorNorm>::default_config(runtime, &ONE, dtype, &inputs.problem("rotated"));
    let norms = |inputs: &Inputs<f64>| {
        computed::<VectorNorm>(runtime, dtype, inputs, &config).ok_or_else(|| "unsupported".to_owned())
    };
    let gradients = |inputs: &BackwardInputs<f64>| {
        computed::<VectorNormBackward>(runtime, dtype, inputs, &config).ok_or_else(|| "unsupported".to_owned())
    };
    check_rotations(&norms, &gradients, inputs, dtype, seed)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn rotations_change_nothing_on_the_host_for_any_input(
        spec in norm_spec(),
        f64 in any::<bool>(),
        seed in any::<u64>(),
    ) {
        let dtype = if f64 { Dtype::F64 } else { Dtype::F32 };
        let host = ff_kernels::open(RuntimeKind::Host).expect("the host is always there");
        let found = rotations(host.as_ref(), dtype, &random_inputs(&spec, seed), seed);
        prop_assert!(found.is_ok(), "{spec:?} {dtype}: {found:?}");
    }
}

#[test]
fn configurations_and_inputs_that_cannot_run_are_refused() {
    let inputs = inputs(4, 6);
    for runtime in ff_tests::runtimes() {
        let (kind, limits) = (runtime.device().runtime, runtime.device().limits);
        let runtime: &dyn Prepare<VectorNorm> = runtime.as_ref();
        let default = runtime.default_config(&ONE, Dtype::F32, &inputs.problem("small"));
        let with = |name: &str, value: u32| {
            let mut config = default.clone();
            config.0.insert(name.to_owned(), value);
            config
        };
        let mut refused = vec![LaunchConfig::default(), with("unroll", 2)];
        if kind == RuntimeKind::Host {
            refused.push(with("atoms_per_task", 0));
        } else {
            // Six channels are no multiple of 4, and no API loads 3 or 8 at once.
            refused.extend([0, 3, 4, 8].map(|width| with("vector_width", width)));
            refused.extend([0, limits.plane_size + 1, 1 << 20].map(|units| with("units_per_cube", units)));
        }
        for config in refused {
            let error = runtime.prepare(&ONE, Dtype::F32, &inputs, &config).err().expect("refused").to_string();
            assert!(error.contains("launch configuration refused") && error.contains("expected"), "{error}");
        }
        // What f64 holds and f32 does not.
        let tiny = Inputs { epsilon: 1e-60, ..inputs.clone() };
        let error = runtime.prepare(&ONE, Dtype::F32, &tiny, &default).err().expect("refused");
        assert!(error.is_input() && error.to_string().contains("`epsilon` is 0"), "{error}");
    }
}
