//! What the kernels of `force_scatter` promise beyond the gate: bits that no thread changes, forces that cancel, and
//! configurations that are refused.

use ff_reference::force_scatter::forward;
use ff_spec::force_scatter::{DoubleBackwardInputs, Inputs, Reduction, Variant};
use ff_spec::{Dtype, ForceScatter, ForceScatterDoubleBackward, LaunchConfig, Prepare, RuntimeKind};
use ff_testkit::catalogue::CaseSet;
use ff_testkit::force_scatter::{cases, random_cotangents, random_inputs, random_tangent};

const GATHER: Variant = Variant { reduction: Reduction::Gather };

fn inputs(case: &str) -> Inputs<f64> {
    let case = cases(CaseSet::Full).into_iter().find(|c| c.id == case).expect("in the catalogue");
    random_inputs(&case.spec, 3)
}

#[test]
fn gather_has_the_same_bits_on_any_number_of_threads() {
    let inputs = inputs("unequal_systems");
    let (grad, tangent) = (random_cotangents(&inputs, 3), random_tangent(&inputs, 3));
    let inputs = DoubleBackwardInputs { inputs, grad, tangent };
    for dtype in Dtype::ALL {
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
            pool.install(|| {
                let host = ff_kernels::open(RuntimeKind::Host).expect("the host is always there");
                let host: &dyn Prepare<ForceScatterDoubleBackward> = host.as_ref();
                // Many tasks.
                let config = [("edges_per_task", 100)].into();
                let mut launch = host.prepare(&GATHER, dtype, &inputs, &config).expect("a launch");
                launch.run().expect("runs");
                launch.outputs().expect("outputs")
            })
        };
        let one = run(1);
        assert!(run(2) == one && run(5) == one, "{dtype}");
    }
}

/// Σ_i F_i = 0 to rounding in every system, on every runtime.
#[test]
fn forces_of_every_system_cancel() {
    for runtime in ff_tests::runtimes() {
        let runtime: &dyn Prepare<ForceScatter> = runtime.as_ref();
        for case in ["batch", "unequal_systems", "cancellation"] {
            let inputs = inputs(case).cast::<f32>().cast::<f64>();
            let config = runtime.default_config(&GATHER, Dtype::F32, &inputs.problem(case));
            let mut launch = runtime.prepare(&GATHER, Dtype::F32, &inputs, &config).expect("a launch");
            launch.run().expect("runs");
            let forces = launch.outputs().expect("outputs").forces;
            let magnitude = forward(&inputs).expect("an oracle").magnitude.forces;
            for atoms in inputs.system_ptr.windows(2) {
                for axis in 0..3 {
                    let total = |v: &[f64]| (atoms[0]..atoms[1]).map(|i| v[3 * i as usize + axis]).sum::<f64>();
                    let (found, scale) = (total(&forces), total(&magnitude));
                    assert!(found.abs() <= 1e-6 * scale, "{case}: {found:e} of {scale:e}");
                }
            }
        }
    }
}

#[test]
fn configurations_that_cannot_run_are_refused() {
    let inputs = inputs("small");
    for runtime in ff_tests::runtimes() {
        let kind = runtime.device().runtime;
        let parameter = if kind == RuntimeKind::Host { "edges_per_task" } else { "units_per_cube" };
        let runtime: &dyn Prepare<ForceScatter> = runtime.as_ref();
        let mut refused: Vec<LaunchConfig> =
            vec![LaunchConfig::default(), [(parameter, 0)].into(), [(parameter, 64), ("unroll", 2)].into()];
        if kind != RuntimeKind::Host {
            refused.extend([8, 48, 1 << 20].map(|units| LaunchConfig::from([(parameter, units)])));
        }
        for config in refused {
            let error = runtime.prepare(&GATHER, Dtype::F32, &inputs, &config).err().expect("refused").to_string();
            assert!(error.contains("launch configuration refused") && error.contains("expected"), "{error}");
        }
        let mut across = inputs.clone();
        across.system_ptr = vec![0, 1, inputs.n_atoms() as u32];
        let config = runtime.default_config(&GATHER, Dtype::F32, &across.problem("small"));
        let error = runtime.prepare(&GATHER, Dtype::F32, &across, &config).err().expect("refused").to_string();
        assert!(error.contains("expected both ends in one system"), "{error}");
    }
}
