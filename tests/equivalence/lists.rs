//! Properties of neighbour lists over random batches and launch configurations, and lists that only a large system has.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use ff_kernels::cell_list::host::{HostConfig, SkinList, build};
use ff_reference::cell_list::{search, search_rows};
use ff_spec::cell_list::{InputError, Inputs, List, NeighborList, Strategy, Variant};
use ff_spec::{CellList, Dtype, LaunchConfig, LaunchError, Prepare, RuntimeKind};
use ff_testkit::catalogue::{CaseSet, OracleCache};
use ff_testkit::cell_list::compare;
use ff_testkit::cell_list::mutants::{Mutation, mutate};
use ff_testkit::cell_list::properties::check_all;
use ff_testkit::cell_list::systems::{rounded_batch, strategies};
use ff_testkit::gate::{GatePlan, run_gate};
use ff_testkit::launches::{changed, changes};
use proptest::prelude::*;
use proptest::strategy::Strategy as _;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

const FULL: Variant = Variant { list: List::Full, strategy: Strategy::Cells };

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

proptest! {
    // A software adapter takes its time for each of the dozens of lists that the properties make.
    #![proptest_config(ProptestConfig { cases: 12, max_global_rejects: 48, ..ProptestConfig::default() })]

    #[test]
    fn other_runtimes_have_every_property_under_any_configuration(
        variant in variants(),
        inputs in strategies::batch(),
        changes in changes(),
        f64 in any::<bool>(),
        seed in any::<u64>(),
    ) {
        let dtype = if f64 { Dtype::F64 } else { Dtype::F32 };
        let inputs = rounded_batch(&inputs, dtype);
        for runtime in ff_tests::runtimes() {
            let device = runtime.device().clone();
            if device.runtime == RuntimeKind::Host {
                continue;
            }
            if f64 && !device.f64 {
                println!("not tested in f64 on {}: it has none", device.runtime);
                continue;
            }
            let runtime: &dyn Prepare<CellList> = runtime.as_ref();
            let config = changed(&runtime.default_config(&variant, dtype, &inputs.problem("", &[])), &changes);
            let refused = runtime.prepare(&variant, dtype, &inputs, &config).err();
            prop_assume!(!matches!(refused, Some(LaunchError::Constraint(_))));
            let make = |inputs: &Inputs<f64>, kind: List| {
                list(runtime, &Variant { list: kind, ..variant }, dtype, inputs, &config)
            };
            if let Err(error) = check_all(&make, &inputs, variant.list, dtype, seed) {
                return Err(TestCaseError::fail(format!("{} {variant} {dtype} [{config}]: {error}", device.runtime)));
            }
        }
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

/// So many systems of 0 to 3 atoms in one call, every tenth of them periodic in some direction: the sums of a device over all of
/// them take three levels.
#[test]
fn a_hundred_thousand_systems_are_one_call() {
    const SYSTEMS: usize = 100_000;
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let mut inputs =
        Inputs { positions: Vec::new(), system_ptr: vec![0], cell: Vec::new(), pbc: Vec::new(), cutoff: 1.5 };
    for system in 0..SYSTEMS {
        inputs.positions.extend((0..3 * (system % 4)).map(|_| f64::from(rng.random_range(-1.0_f32..1.0))));
        inputs.system_ptr.push((inputs.positions.len() / 3) as u32);
        inputs.cell.extend([2.5, 0.0, 0.0, 0.5, 2.0, 0.0, 0.0, -0.25, 1.0]);
        inputs.pbc.push(std::array::from_fn(|k| system % 10 == k));
    }
    let runtimes = ff_tests::runtimes();
    for variant in List::ALL.map(|list| Variant { list, strategy: Strategy::Cells }) {
        let oracle = search(&inputs, variant.list, Dtype::F32).expect("valid inputs");
        for runtime in &runtimes {
            let (runtime, kind): (&dyn Prepare<CellList>, _) = (runtime.as_ref(), runtime.device().runtime);
            let config = runtime.default_config(&variant, Dtype::F32, &inputs.problem("", &[]));
            let found = list(runtime, &variant, Dtype::F32, &inputs, &config).expect("a list");
            if let Err(verdict) = compare(&found, &oracle, Dtype::F32) {
                panic!("{variant} on {kind}: {verdict:?}");
            }
            assert!(found.n_edges() > SYSTEMS / 4, "{} edges prove little", found.n_edges());
        }
    }
}

/// Powers of two change no mantissa, so a list in another unit of length is the same list, however extreme the unit.
#[test]
fn a_list_does_not_depend_on_the_unit_of_length() {
    let inputs = liquid(300);
    for list in List::ALL {
        let make = |inputs: &Inputs<f64>| {
            let mut out = NeighborList::default();
            build(inputs, list, Strategy::Cells, &HostConfig::default(), &mut out).expect("a list");
            out
        };
        let expected = make(&inputs);
        for unit in [2f64.powi(-80), 2f64.powi(80)] {
            let scale = |values: &[f64]| values.iter().map(|x| x * unit).collect();
            let cutoff = inputs.cutoff * unit;
            let scaled =
                Inputs { positions: scale(&inputs.positions), cell: scale(&inputs.cell), cutoff, ..inputs.clone() };
            let mut found = make(&scaled);
            found.edge_vec.iter_mut().flatten().for_each(|x| *x /= unit);
            assert!(found == expected, "another list in units of {unit:e}");
        }
    }
}

/// The keys of the edges of `list` whose vectors are shorter than `cutoff`.
fn within(list: &NeighborList<f64>, cutoff: f64) -> BTreeSet<(usize, u32, [i32; 3])> {
    let rows = (0..list.n_atoms()).flat_map(|i| list.row(i).map(move |e| (i, e)));
    let near = rows.filter(|(_, e)| list.edge_vec[*e].iter().map(|x| x * x).sum::<f64>() < cutoff * cutoff);
    near.map(|(i, e)| (i, list.sender[e], list.shift[e])).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    /// Atoms of some systems walk at random; the kept list must hold every pair that a fresh one has, in the same order and
    /// with the same vectors, and be built again only for systems that moved far enough.
    #[test]
    fn kept_lists_miss_no_pair(
        inputs in strategies::batch(),
        half in any::<bool>(),
        skin in 0.0..2.0_f64,
        step in 0.0..0.5_f64,
        seed in any::<u64>(),
    ) {
        let (kind, config) = (if half { List::Half } else { List::Full }, HostConfig::default());
        let variant = Variant { list: kind, strategy: Strategy::Cells };
        let mut kept = SkinList::new(inputs.clone(), skin, variant, config).expect("valid inputs");
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let (mut now, mut cell_changed) = (inputs.clone(), false);
        for round in 0..6 {
            let walks: Vec<bool> = (0..inputs.n_systems()).map(|_| rng.random()).collect();
            for system in (0..inputs.n_systems()).filter(|system| walks[*system]) {
                for x in &mut now.positions[3 * inputs.atoms(system).start..3 * inputs.atoms(system).end] {
                    *x += rng.random_range(-1.0..=1.0) * step;
                }
            }
            if round == 4 && inputs.n_systems() > 0 && inputs.pbc[0][0] {
                now.cell[0] *= 1.01;
                cell_changed = true;
            }
            let before: Vec<u64> = kept.rebuilds().to_vec();
            let rebuilt = kept.update(&now.positions, Some(&now.cell)).expect("valid inputs");
            let after = kept.rebuilds();
            prop_assert_eq!(rebuilt, (0..after.len()).filter(|s| after[*s] > before[*s]).count());
            prop_assert!(!(cell_changed && round == 4) || after[0] == before[0] + 1, "a changed cell is a new list");

            let mut fresh = NeighborList::default();
            build(&now, kind, Strategy::Cells, &config, &mut fresh).expect("valid inputs");
            let (all, kept_near) = (within(&fresh, now.cutoff), within(kept.list(), now.cutoff));
            prop_assert!(all == kept_near, "missing {:?}", all.difference(&kept_near).next());
            let mut near = NeighborList::default();
            kept.within(now.cutoff, &mut near);
            prop_assert_eq!(near, fresh);
            // The list itself is as whole as a fresh one: ordered, with its transpose.
            let mut wider = NeighborList::default();
            let reach = Inputs { cutoff: now.cutoff + skin, ..now.clone() };
            build(&reach, kind, Strategy::Cells, &config, &mut wider).expect("valid inputs");
            if rebuilt == inputs.n_systems() {
                prop_assert_eq!(kept.list(), &wider);
            }
            for edge in 0..if half { 0 } else { kept.list().n_edges() } {
                let list = kept.list();
                let back = list.transpose[edge] as usize;
                prop_assert_eq!(list.shift[back], list.shift[edge].map(|s| -s));
                prop_assert_eq!(list.edge_vec[back], list.edge_vec[edge].map(|x| -x));
            }
        }
        // Small steps within a wide skin cost no build at all.
        if 6.0 * step * 3f64.sqrt() < skin / 2.0 && !cell_changed {
            prop_assert_eq!(kept.rebuilds(), &vec![0; inputs.n_systems()][..]);
        }
    }
}

#[test]
fn a_kept_list_survives_what_it_refuses() {
    let inputs = liquid(60);
    let mut kept = SkinList::new(inputs.clone(), 0.5, FULL, HostConfig::default()).expect("valid inputs");
    let before = kept.list().clone();
    let mut broken = inputs.positions.clone();
    broken[7] = f64::NAN;
    // Systems and atoms are counted in the whole batch, also where only some of it is built again.
    let pair = inputs.select(&[0, 0]);
    let mut two = SkinList::new(pair.clone(), 0.5, FULL, HostConfig::default()).expect("valid inputs");
    let flat: Vec<f64> = pair.cell[..9].iter().copied().chain([0.0; 9]).collect();
    assert!(matches!(two.update(&pair.positions, Some(&flat)), Err(InputError::SingularCell { system: 1, .. })));
    assert!(matches!(two.update(&pair.positions, Some(&flat[..9])), Err(InputError::Shape { tensor: "cell", .. })));
    assert_eq!(two.update(&pair.positions, None), Ok(0));
    assert!(matches!(kept.update(&broken, None), Err(InputError::NotFinite { atom: 2, .. })));
    assert!(matches!(kept.update(&broken[3..], None), Err(InputError::Shape { tensor: "positions", .. })));
    assert!(matches!(kept.update(&inputs.positions, Some(&[0.0; 9])), Err(InputError::SingularCell { .. })));
    assert_eq!((kept.list(), kept.rebuilds()), (&before, &[0][..]));
    assert_eq!(kept.update(&inputs.positions, None), Ok(0));
    assert_eq!(kept.list(), &before);
    for skin in [-0.1, f64::NAN, f64::INFINITY] {
        let refused = SkinList::new(inputs.clone(), skin, FULL, HostConfig::default());
        assert!(matches!(refused, Err(InputError::Cutoff { .. })), "{skin}");
    }
}

#[test]
fn more_edges_than_the_index_type_holds_are_counted_and_refused() {
    // 70,000 coincident atoms see each other: nearly five thousand million edges.
    let inputs = Inputs {
        positions: vec![0.5_f32; 3 * 70_000],
        system_ptr: vec![0, 70_000],
        cell: vec![0.0; 9],
        pbc: vec![[false; 3]],
        cutoff: 1.0,
    };
    let error = build(&inputs, List::Full, Strategy::Cells, &HostConfig::default(), &mut NeighborList::default());
    let found = 70_000 * 69_999;
    assert_eq!(error, Err(InputError::TooMany { what: "edges", found, limit: u64::from(u32::MAX) - 1 }));
    assert!(error.expect_err("too many").to_string().contains("split the batch or lower the cutoff"));
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
