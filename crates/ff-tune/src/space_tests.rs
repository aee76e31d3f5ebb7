//! Spaces: built-in ones, synthetic ones, and files that are wrong.

use std::time::{Duration, Instant};

use ff_spec::cell_list::Strategy;
use ff_spec::fused_message::Reduction;
use ff_spec::{Limits, force_scatter};
use proptest::prelude::{prop, prop_assert, prop_assert_eq, proptest};

use super::*;
use crate::testing::{device, problem};

/// The file of `fused_message`.
const FUSED_MESSAGE: &str = include_str!("../../../autotune/spaces/fused_message.toml");

const RECEIVER: Part = Part::new("reduction", "receiver");

#[test]
fn the_built_in_file_covers_every_target_reduction_and_order() {
    let spaces = Spaces::built_in("fused_message").expect("the built-in file is sound");
    for runtime in RuntimeKind::ALL {
        for (reduction, order) in Reduction::ALL.into_iter().flat_map(|r| [(r, 0), (r, 1), (r, 2)]) {
            let part = Part::new("reduction", reduction.name());
            let space = spaces.get(Target::of(runtime), part, order).expect("described");
            for features in [1, 3, 16, 17, 64, 128, 250, 512] {
                for dtype in Dtype::ALL {
                    let (device, problem) = (device(runtime), problem(64, features));
                    let configs = space.enumerate(&device, &problem, dtype).expect("not empty");
                    assert!(configs.iter().all(|c| space.refuses(c, &device, &problem, dtype).is_none()));
                    assert_eq!(configs.iter().collect::<BTreeSet<_>>().len(), configs.len());
                }
            }
        }
    }
}

#[test]
fn constraints_bound_the_cube() {
    let spaces = Spaces::built_in("fused_message").expect("sound");
    let space = spaces.get(Target::Cube, RECEIVER, 0).expect("described");
    let (device, problem) = (device(RuntimeKind::Vulkan), problem(64, 126));
    let (points, explanation) = space.open(&device, &problem, Dtype::F64).expect("decidable");
    assert_eq!(explanation.total, 4 * 4 * 3 * 4 * 4);
    assert_eq!(explanation.total, explanation.kept + explanation.removed.iter().map(|(_, n)| n).sum::<u64>());
    for config in points.iter() {
        let get = |name| config.get(name).expect("set");
        assert!(get("rows_per_cube") * get("channels_per_cube") / get("vector_width") <= 1024);
        assert!(get("vector_width") <= 2, "126 features are not a multiple of 4");
        assert_eq!(get("edges_per_tile") % get("unroll"), 0);
        assert!(get("rows_per_cube") * get("edges_per_tile") * (20 + 8) * 8 <= 32768);
    }
    let refused = LaunchConfig::from([("vector_width", 4)]);
    assert!(space.refuses(&refused, &device, &problem, Dtype::F32).is_some_and(|r| r.contains("not set")));
}

#[test]
fn lists_have_a_space_for_every_target_and_strategy() {
    let spaces = Spaces::built_in("cell_list").expect("the built-in file is sound");
    assert!(matches!(spaces.expect("fused_message"), Err(SpaceError::Op { .. })));
    for runtime in RuntimeKind::ALL {
        for strategy in Strategy::ALL {
            let part = Part::new("strategy", strategy.name());
            let space = spaces.get(Target::of(runtime), part, 0).expect("described");
            for (n_systems, max_units_per_cube, plane_size) in [(1, 1024, 32), (64, 256, 64), (9, 128, 4)] {
                let mut device = device(runtime);
                device.limits = Limits { max_units_per_cube, plane_size, ..device.limits };
                let problem = Problem { n_systems, features: 0, n_basis: 0, ..problem(64, 0) };
                let configs = space.enumerate(&device, &problem, Dtype::F32).expect("not empty");
                for config in configs.iter().filter(|_| runtime != RuntimeKind::Host) {
                    let units = config.get("atoms_per_cube").zip(config.get("units_per_atom"));
                    let units = units.map(|(atoms, units)| atoms * units).expect("set");
                    assert!(units <= max_units_per_cube && units % plane_size == 0, "{config}");
                }
                // Nothing is tried twice that brute force cannot tell apart: it has no bins.
                let bins: BTreeSet<_> = configs.iter().map(|c| (c.get("bins_across"), c.get("bins_along"))).collect();
                assert_eq!(bins.len() > 1, strategy == Strategy::Cells);
            }
        }
    }
    let error = spaces.get(Target::Host, RECEIVER, 0).expect_err("of the other op").to_string();
    assert!(error.contains("target `host`, reduction `receiver` and order 0"), "{error}");
}

#[test]
fn scatters_have_a_space_for_every_target_reduction_and_order() {
    let spaces = Spaces::built_in("force_scatter").expect("the built-in file is sound");
    for (runtime, plane_size) in RuntimeKind::ALL.into_iter().flat_map(|r| [(r, 4), (r, 32), (r, 64)]) {
        for reduction in force_scatter::Reduction::ALL {
            for order in 0..=2 {
                let part = Part::new("reduction", reduction.name());
                let space = spaces.get(Target::of(runtime), part, order).expect("described");
                let mut device = device(runtime);
                device.limits.plane_size = plane_size;
                let configs = space.enumerate(&device, &problem(64, 0), Dtype::F32).expect("not empty");
                assert!(configs.len() > 1, "{configs:?}");
            }
        }
    }
    assert!(spaces.get(Target::Host, RECEIVER, 0).is_err());
}

#[test]
fn norms_have_a_space_for_every_target_and_order() {
    let spaces = Spaces::built_in("vector_norm").expect("the built-in file is sound");
    let part = Part::new("strategy", "channelwise");
    for (runtime, order) in RuntimeKind::ALL.into_iter().flat_map(|r| [(r, 0), (r, 1), (r, 2)]) {
        let space = spaces.get(Target::of(runtime), part, order).expect("described");
        for features in [1, 2, 17, 64, 128] {
            for config in space.enumerate(&device(runtime), &problem(64, features), Dtype::F64).expect("not empty") {
                let width = config.get("vector_width").unwrap_or(1);
                assert!(features.is_multiple_of(width), "vectors of {width} straddle rows of {features}");
            }
        }
    }
}

#[test]
fn an_empty_space_names_the_constraint() {
    let text = FUSED_MESSAGE.replace("unroll <= edges_per_tile", "unroll > 1000");
    let spaces = Spaces::parse(&text, "x.toml").expect("sound");
    let space = spaces.get(Target::Cube, RECEIVER, 0).expect("described");
    let error = space.enumerate(&device(RuntimeKind::Cuda), &problem(64, 128), Dtype::F32).expect_err("empty");
    assert!(error.to_string().ends_with("none of 768 configurations is left; `unroll > 1000` never holds"), "{error}");
}

/// A host space of these values for each parameter, with these constraints.
fn synthetic(parameters: &[(String, Vec<u32>)], constraints: &[String]) -> Space {
    let values: String = parameters.iter().map(|(name, values)| format!("{name} = {values:?}\n")).collect();
    let defaults: String = parameters.iter().map(|(name, values)| format!("{name} = {}\n", values[0])).collect();
    let text = format!(
        "op = \"fused_message\"\n[[space]]\ntarget = \"host\"\nreduction = \"receiver\"\n\
         constraints = {constraints:?}\n[space.parameters]\n{values}[space.defaults]\n{defaults}"
    );
    let spaces = Spaces::parse(&text, "x.toml").unwrap_or_else(|e| panic!("{e}"));
    spaces.get(Target::Host, RECEIVER, 0).expect("described").clone()
}

#[test]
fn constraints_name_the_axes_of_their_op() {
    // A list has no features, so nothing can depend on them; a message sees no systems.
    let lists = include_str!("../../../autotune/spaces/cell_list.toml");
    for (text, from, to) in [
        (lists, "bins_across <= 8 && bins_along <= 8", "bins_across <= features"),
        (FUSED_MESSAGE, "unroll <= edges_per_tile", "unroll <= n_systems"),
    ] {
        let error = Spaces::parse(&text.replacen(from, to, 1), "x.toml").expect_err("another op's").to_string();
        assert!(error.contains(&format!("constraint `{to}` names unknown")), "{error}");
    }
    // An axis of one op alone, as a dense op would have.
    let raw = "target = \"host\"\nreduction = \"receiver\"\nconstraints = [\"tile <= out_features\"]\n\
               parameters.tile = [16, 64, 256]\ndefaults.tile = 16\n";
    let raw: RawSpace = toml::from_str(raw).expect("of this shape");
    let space = Space::new(raw, RECEIVER, &["n_atoms", "out_features"], "x.toml").expect("sound");
    let kept = |out_features: u64| {
        let axes = BTreeMap::from([("out_features".to_owned(), out_features)]);
        let problem = Problem { axes, ..problem(64, 128) };
        space.enumerate(&device(RuntimeKind::Host), &problem, Dtype::F32).expect("not empty").len()
    };
    assert_eq!([16, 100, 256].map(kept), [1, 2, 3]);
}

fn six_of_ten() -> Vec<(String, Vec<u32>)> {
    ["a", "b", "c", "d", "e", "f"].map(|name| (name.to_owned(), (1..=10).collect())).to_vec()
}

#[test]
fn a_million_points_open_in_a_second() {
    let (device, problem) = (device(RuntimeKind::Host), problem(64, 8));
    // Unoptimised code is given ten times as long.
    let most = Duration::from_secs(if cfg!(debug_assertions) { 10 } else { 1 });
    // The first cuts whole branches off; the last is judged a million times and removes nothing.
    for (constraints, kept) in [
        (vec!["a * b <= 16", "c % b == 0", "d + e + f <= 9"], None),
        (vec!["a + b + c + d + e + f >= 6"], Some(1_000_000)),
    ] {
        let constraints: Vec<String> = constraints.into_iter().map(str::to_owned).collect();
        let space = synthetic(&six_of_ten(), &constraints);
        let start = Instant::now();
        let (points, explanation) = space.open(&device, &problem, Dtype::F32).expect("decidable");
        let took = start.elapsed();
        assert!(took < most, "took {took:?}");
        assert_eq!((explanation.total, explanation.kept), (1_000_000, points.len() as u64));
        assert!(kept.is_none_or(|kept| kept == points.len()));
    }
}

#[test]
fn contradictions_are_named() {
    let (device, problem) = (device(RuntimeKind::Host), problem(64, 8));
    for (constraints, expected) in [
        (vec!["a <= 3", "b > 10", "a * b >= 1"], "`b > 10` never holds"),
        (vec!["a <= 3", "c <= 5", "c >= a", "a * b >= 40"], "`a <= 3` and `a * b >= 40` cannot both hold"),
        (vec!["features > 8", "a <= 3"], "`features > 8` never holds"),
        (vec!["f > 1", "a > b", "b > c", "c > a"], "`a > b`, `b > c`, `c > a` cannot hold together"),
    ] {
        let constraints: Vec<String> = constraints.into_iter().map(str::to_owned).collect();
        let space = synthetic(&six_of_ten(), &constraints);
        let error = space.enumerate(&device, &problem, Dtype::F32).expect_err("empty");
        let expected = format!("none of 1000000 configurations is left; {expected}");
        assert!(error.to_string().ends_with(&expected), "{error}");
    }
}

proptest! {
    /// Against every combination, judged one by one.
    #[test]
    fn a_pruned_product_keeps_what_brute_force_keeps(
        parameters in prop::collection::vec(prop::collection::btree_set(1_u32..40, 1..5), 1..5),
        chosen in prop::collection::vec((0_usize..6, 0_usize..5, 0_usize..5, 1_u32..60), 0..5),
    ) {
        let parameters: Vec<(String, Vec<u32>)> = ["a", "b", "c", "d"]
            .iter()
            .zip(parameters)
            .map(|(name, values)| ((*name).to_owned(), values.into_iter().collect()))
            .collect();
        let name = |i: usize| &parameters[i % parameters.len()].0;
        let constraints: Vec<String> = chosen
            .into_iter()
            .map(|(shape, x, y, n)| match (shape, name(x), name(y)) {
                (0, x, y) => format!("{x} * {y} <= {}", n * n),
                (1, x, y) => format!("{x} % {y} == 0"),
                (2, x, y) => format!("{x} <= {y} + {n}"),
                (3, x, _) => format!("{x} >= {n}"),
                (4, _, _) => format!("features <= {n}"),
                (_, x, y) => format!("{x} != {n} || {y} > {x}"),
            })
            .collect();
        let space = synthetic(&parameters, &constraints);
        let (device, problem) = (device(RuntimeKind::Host), problem(64, 8));
        let mut all = vec![LaunchConfig::default()];
        for (name, values) in &parameters {
            let with = |config: &LaunchConfig, value: &u32| {
                let mut config = config.clone();
                config.0.insert(name.clone(), *value);
                config
            };
            all = all.iter().flat_map(|config| values.iter().map(move |value| with(config, value))).collect();
        }
        let expected: Vec<LaunchConfig> =
            all.iter().filter(|c| space.refuses(c, &device, &problem, Dtype::F32).is_none()).cloned().collect();
        let (points, explanation) = space.open(&device, &problem, Dtype::F32).expect("decidable");
        prop_assert_eq!(points.iter().collect::<Vec<_>>(), expected.clone());
        prop_assert_eq!(explanation.total, all.len() as u64);
        let removed: u64 = explanation.removed.iter().map(|(_, n)| n).sum();
        prop_assert_eq!(explanation.kept + removed, explanation.total);
        for (text, alone) in space.alone(&device, &problem, Dtype::F32).expect("decidable") {
            let only = synthetic(&parameters, std::slice::from_ref(&text));
            let refused = all.iter().filter(|c| only.refuses(c, &device, &problem, Dtype::F32).is_some()).count();
            prop_assert_eq!(alone, refused as u64, "{}", text);
        }
        if expected.is_empty() {
            let SpaceError::Empty { conflict, .. } = space.empty(&device, &problem, Dtype::F32).expect("decidable")
            else { panic!("another error") };
            prop_assert!(!conflict.is_empty());
            // They empty it without the others, and none of them can be spared.
            let left = |constraints: &[String]| {
                synthetic(&parameters, constraints).open(&device, &problem, Dtype::F32).expect("decidable").0.len()
            };
            prop_assert_eq!(left(&conflict), 0);
            for spared in 0..conflict.len() {
                let mut others = conflict.clone();
                others.remove(spared);
                prop_assert!(left(&others) > 0, "{:?} without {}", conflict, spared);
            }
        }
    }
}

#[test]
fn malformed_files_say_what_was_expected() {
    let error = |from: &str, to: &str| {
        let text = FUSED_MESSAGE.replacen(from, to, 1);
        assert_ne!(text, FUSED_MESSAGE, "`{from}` is not in the file");
        Spaces::parse(&text, "x.toml").expect_err("malformed").to_string()
    };
    for (from, to, expected) in [
        ("constraints = [", "constraint = [", "did you mean `constraints`?"),
        ("target = \"host\"", "target = \"hots\"", "did you mean `host`?"),
        ("reduction = \"edge_atomic\"", "reduction = \"receiver\"", "described twice"),
        ("op = \"fused_message\"", "op = \"fused\"", "expected cell_list or force_scatter or vector_norm or"),
        ("op = \"fused_message\"", "op = \"fused_massage\"", "did you mean `fused_message`?"),
        ("op = \"fused_message\"", "op = \"cell_list\"", "unknown field `reduction`"),
        ("reduction = \"receiver\"", "strategy = \"cells\"", "told apart by `reduction`"),
        ("reduction = \"receiver\"", "reductoin = \"receiver\"", "did you mean `reduction`?"),
        ("reduction = \"receiver\"", "reduction = \"reciever\"", "did you mean `receiver`?"),
        ("reduction = \"receiver\"", "", "missing field `reduction` of the [[space]] for target `host`"),
        (
            "reduction = \"receiver\"",
            "reduction = \"gather\"",
            "of op `force_scatter`, expected one of op `fused_message`",
        ),
        ("reduction = \"receiver\"", "reduction = \"receiver\"\norders = [0, 3]", "order 3 in `orders`"),
        ("reduction = \"receiver\"", "reduction = \"receiver\"\norders = [0, 1]", "described twice"),
        ("edges_per_task = [128, 512, 2048, 8192]", "edges_per_task = []", "has no values"),
        ("edges_per_task = [128, 512, 2048, 8192]", "edges_per_task = [16, 16]", "twice"),
        ("edges_per_task = [128, 512, 2048, 8192]", "edges_per_task = [0, 16]", "value 0"),
        ("edges_per_task = [128, 512, 2048, 8192]", "edges_per_task = [-1, 16]", "line"),
        ("edges_per_task = [128, 512, 2048, 8192]", "hidden = [16]", "variable"),
        ("edges_per_task = 512", "edges_per_task = 17", "none of its values"),
        ("edges_per_task = 512", "", "no default"),
        ("edges_per_task = 512", "edges_per_task = 512\nedges_per_tusk = 1", "did you mean `edges_per_task`?"),
        ("unroll <= edges_per_tile", "unrol <= edges_per_tile", "did you mean `unroll`?"),
        ("unroll <= edges_per_tile", "unroll <= ", "constraint `unroll <= `"),
        ("unroll <= edges_per_tile", "unroll + edges_per_tile", "true or false"),
        ("[space.defaults]", "[space.defaults", "x.toml"),
    ] {
        let message = error(from, to);
        assert!(message.contains(expected) && message.contains("x.toml"), "`{to}` gave: {message}");
    }
    assert!(matches!(Spaces::load(Path::new("no/such/file.toml")), Err(SpaceError::Io { .. })));
}
