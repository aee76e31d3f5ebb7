//! Properties of neighbour lists over random batches and launch configurations, and lists that only a large system has.

use std::ops::ControlFlow;

use ff_reference::cell_list::search_rows;
use ff_spec::cell_list::{Inputs, List, NeighborList, Strategy, Variant};
use ff_spec::{CellList, Dtype, LaunchConfig, Prepare, RuntimeKind};
use ff_testkit::catalogue::{CaseSet, OracleCache};
use ff_testkit::cell_list::compare;
use ff_testkit::cell_list::mutants::{Mutation, mutate};
use ff_testkit::cell_list::properties::check_all;
use ff_testkit::gate::{GatePlan, run_gate};
use ff_testkit::generators::systems::{rounded_batch, strategies};
use proptest::prelude::*;
use proptest::strategy::Strategy as _;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

fn host() -> Box<dyn Prepare<CellList>> {
    ff_kernels::open(RuntimeKind::Host).expect("the host is always there")
}

fn list(
    runtime: &dyn Prepare<CellList>,
    variant: &Variant,
    dtype: Dtype,
    inputs: &Inputs<f64>,
    config: &LaunchConfig,
) -> Result<NeighborList<f64>, String> {
    let mut launch = runtime.prepare(variant, dtype, inputs, config).map_err(|e| e.to_string())?;
    launch.run().map_err(|e| e.to_string())?;
    launch.outputs().map_err(|e| e.to_string())
}

fn variants() -> impl proptest::strategy::Strategy<Value = Variant> {
    (prop::sample::select(List::ALL.to_vec()), prop::sample::select(Strategy::ALL.to_vec()))
        .prop_map(|(list, strategy)| Variant { list, strategy })
}

/// Launch parameters over the whole range a space may offer, and odd ones that no space would.
fn host_config() -> impl proptest::strategy::Strategy<Value = LaunchConfig> {
    (1..40_u32, 1..4_u32, 1..12_u32)
        .prop_map(|(a, b, c)| LaunchConfig::from([("rows_per_task", a), ("bins_across", b), ("bins_along", c)]))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, ..ProptestConfig::default() })]

    #[test]
    fn host_lists_have_every_property_under_any_configuration(
        variant in variants(),
        inputs in strategies::batch(),
        config in host_config(),
        f64 in any::<bool>(),
        seed in any::<u64>(),
    ) {
        let dtype = if f64 { Dtype::F64 } else { Dtype::F32 };
        let (inputs, host) = (rounded_batch(&inputs, dtype), host());
        let make = |inputs: &Inputs<f64>, kind: List| {
            list(host.as_ref(), &Variant { list: kind, ..variant }, dtype, inputs, &config)
        };
        if let Err(error) = check_all(&make, &inputs, variant.list, dtype, seed) {
            return Err(TestCaseError::fail(format!("{variant} {dtype} {config}: {error}")));
        }
    }

    #[test]
    fn every_configuration_gives_the_same_bits(
        variant in variants(),
        inputs in strategies::batch(),
        config in host_config(),
    ) {
        let host = host();
        let default = host.default_config(&variant, Dtype::F32, &inputs.problem("", &[]));
        let [first, second] = [&default, &config].map(|config| list(host.as_ref(), &variant, Dtype::F32, &inputs, config));
        prop_assert_eq!(first, second);
    }
}

/// A liquid of so many atoms at 0.1 atoms/Å³, in a skewed cell, some of them outside it.
fn liquid(n_atoms: usize) -> Inputs<f64> {
    let length = (n_atoms as f64 / 0.1).cbrt();
    let cell = [[length, 0.0, 0.0], [0.3 * length, length, 0.0], [-0.2 * length, 0.1 * length, length]];
    let mut rng = ChaCha8Rng::seed_from_u64(n_atoms as u64);
    let positions = (0..n_atoms).flat_map(|_| {
        let s: [f64; 3] = std::array::from_fn(|_| rng.random_range(-0.2..1.1));
        std::array::from_fn::<f64, 3, _>(|c| (0..3).map(|k| s[k] * cell[k][c]).sum())
    });
    Inputs {
        positions: positions.collect(),
        system_ptr: vec![0, n_atoms as u32],
        cell: cell.as_flattened().to_vec(),
        pbc: vec![[true; 3]],
        cutoff: 5.0,
    }
}

#[test]
fn large_systems_are_cut_into_parts_that_do_not_show() {
    let host = host();
    for dtype in Dtype::ALL {
        let inputs = rounded_batch(&liquid(20_000), dtype);
        for kind in List::ALL {
            let oracle = search_rows(&inputs, kind, dtype, (0..20_000).step_by(401).collect()).expect("valid inputs");
            let variant = Variant { list: kind, strategy: Strategy::Cells };
            let config = host.default_config(&variant, dtype, &inputs.problem("", &[]));
            let found = list(host.as_ref(), &variant, dtype, &inputs, &config).expect("a list");
            if let Err(verdict) = compare(&found, &oracle, dtype) {
                panic!("{variant} {dtype}: {verdict:?}");
            }
            let one_thread = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("a thread");
            let again = one_thread.install(|| list(self::host().as_ref(), &variant, dtype, &inputs, &config));
            assert!(again.as_ref() == Ok(&found), "{variant} {dtype} depends on the number of threads");
        }
    }
}

#[test]
fn every_fault_around_a_real_kernel_fails_the_gate() {
    let mut cache = OracleCache::default();
    for mutation in Mutation::ALL {
        for list in List::ALL.into_iter().filter(|list| mutation.concerns(*list)) {
            let variants = [Variant { list, strategy: Strategy::Cells }];
            let plan =
                GatePlan::<CellList> { variants: &variants, dtypes: &[Dtype::F64], set: CaseSet::Quick, seeds: 3 };
            let runtime = mutate(host(), mutation);
            let summary = run_gate(&[runtime.as_ref()], &plan, &mut cache, &mut |_| ControlFlow::Continue(()));
            assert!(summary.failed > 0, "{mutation:?} passed the gate in {list:?} lists");
        }
    }
}
