//! Tables as files and as answers.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use ff_spec::cell_list::{List, Strategy};
use ff_spec::{Atomics, Clock, DeviceId, Dtype, LaunchConfig, Limits, Problem, RuntimeKind, TuneKey};
use ff_tables::cell_list::{ListQuery, select_list};
use ff_tables::{
    Entry, EntryError, EntryFields, Evidence, Finding, Pass, PassOf, Query, Step, Table, TableError, Tie, Versions,
    load_all, select,
};

fn device(slug: &str, arch: &str, software: bool) -> DeviceId {
    DeviceId {
        runtime: RuntimeKind::Vulkan,
        name: slug.to_owned(),
        slug: slug.to_owned(),
        arch: arch.to_owned(),
        driver: "1.0".to_owned(),
        software,
        threads: 0,
        limits: Limits { max_units_per_cube: 1024, shared_memory: 32768, plane_size: 32 },
        atomics: Atomics::default(),
        f64: true,
    }
}

fn problem(n_atoms: u64, features: u32) -> Problem {
    let name = format!("water-{n_atoms}");
    let n_edges = n_atoms * 50 + 1;
    Problem { name, n_atoms, n_edges, max_degree: 60, features, n_basis: 20, ..Problem::default() }
}

fn pass(device: &str, order: u8, rel_error: f64, config: &LaunchConfig) -> Pass {
    let evidence = Evidence { rel_error, max_abs_error: 1e-6, cases: 12, seeds: vec![1, 2, 3] };
    let of = PassOf { device, kernel_hash: "abc", config, dtype: Dtype::F32, order };
    Pass::record(of, evidence, 1_700_000_000).expect("within the tolerance of its order")
}

/// The same on another device.
fn moved(entry: Entry, slug: &str) -> Entry {
    let pass = pass(slug, entry.key.order, 1e-7, &entry.config);
    Entry::new(EntryFields { pass, ..(*entry).clone() }).expect("consistent")
}

fn fields(n_atoms: u64, features: u32, rows: u32) -> EntryFields {
    let problem = problem(n_atoms, features);
    let config = LaunchConfig::from([("rows_per_cube", rows)]);
    EntryFields {
        key: TuneKey::new("painn_linear_receiver", 0, Dtype::F32, &problem),
        variant: "painn_linear_gaussian_cosine_receiver".to_owned(),
        problem,
        pass: pass("gpu", 0, 1e-7, &config),
        config,
        median_ns: 1000.0,
        spread_ns: 10.0,
        samples: 20,
        clock: Clock::Device,
        driver: "1.0".to_owned(),
        default_median_ns: Some(1500.0),
        unfused_median_ns: None,
        ties: vec![Tie { config: LaunchConfig::from([("rows_per_cube", 9)]), median_ns: 1001.0, spread_ns: 9.5 }],
    }
}

fn entry(n_atoms: u64, features: u32, rows: u32) -> Entry {
    Entry::new(fields(n_atoms, features, rows)).expect("consistent")
}

fn table(device: DeviceId, entries: impl IntoIterator<Item = Entry>) -> Table {
    let versions = Versions { forgefield: "0.1.0".into(), burn: "0.21.0".into(), cubecl: "0.10.0".into() };
    let mut table = Table::new("fused_message", device, versions, "hash");
    let slug = table.device.slug.clone();
    entries.into_iter().for_each(|e| table.insert(moved(e, &slug)).expect("of this device"));
    table
}

fn key(n_atoms: u64, features: u32) -> TuneKey {
    TuneKey::new("painn_linear_receiver", 0, Dtype::F32, &problem(n_atoms, features))
}

#[test]
fn entries_are_consistent_or_refused() {
    let wrong = |edit: fn(&mut EntryFields)| {
        let mut fields = fields(64, 128, 1);
        edit(&mut fields);
        Entry::new(fields).expect_err("inconsistent")
    };
    assert!(matches!(wrong(|f| f.problem.n_atoms = 65), EntryError::Key { .. }));
    assert!(matches!(
        wrong(|f| f.variant = "cfconv_linear_gaussian_cosine_receiver".into()),
        EntryError::Family { .. }
    ));
    assert!(matches!(wrong(|f| f.key.dtype = Dtype::F64), EntryError::Dtype { .. }));
    assert!(matches!(wrong(|f| f.key.order = 1), EntryError::Order { found: 0, expected: 1 }));
    assert!(matches!(wrong(|f| f.config = [("rows_per_cube", 2)].into()), EntryError::Config { .. }));
    assert!(matches!(wrong(|f| f.median_ns = f64::NAN), EntryError::Time { field: "median_ns", .. }));
    assert!(matches!(wrong(|f| f.ties[0].spread_ns = -1.0), EntryError::Time { field: "spread_ns", .. }));
    assert!(matches!(wrong(|f| f.samples = 0), EntryError::NoSamples));
    let error = wrong(|f| {
        f.problem.axes.insert("out_features".to_owned(), 384);
        f.key = TuneKey::new(&f.key.family, 0, Dtype::F32, &f.problem);
    });
    assert_eq!(error, EntryError::Axis { found: "out_features".to_owned(), op: "fused_message" });
    assert!(error.to_string().ends_with("mean_degree, features, n_basis, hidden"), "{error}");
    assert!(matches!(wrong(|f| f.median_ns = 1501.0), EntryError::SlowerThanDefault { .. }));
    assert_eq!(entry(64, 128, 1).speedup(), Some(1.5));
    let error = table(device("gpu", "a", false), []).insert(moved(entry(64, 128, 1), "other")).expect_err("moved");
    assert_eq!(error, EntryError::Device { found: "other".to_owned(), expected: "gpu".to_owned() });
}

#[test]
fn a_table_survives_its_file() {
    let root = tempfile::tempdir().expect("temp dir");
    // 51/3 and the like: degrees that no short decimal holds.
    let table = table(device("gpu", "gen-9", false), [entry(4096, 128, 2), entry(3, 128, 1), entry(64, 17, 4)]);
    let path = Table::path(root.path(), "gpu", "fused_message");
    table.save(&path).expect("writable");
    assert_eq!(Table::load(&path).expect("valid"), table);
    assert_eq!(table.check(Some(&path)), []);
    assert_eq!(table.entries()[0].key.features, 17, "sorted by key");

    let misplaced = table.check(Some(Path::new("tables/other/fused_message.json")));
    assert!(matches!(misplaced[..], [Finding::Place { .. }]));
}

/// A product of matrices, of which one width is a size that no other op has.
fn dense(out_features: u64) -> Problem {
    let axes = BTreeMap::from([("out_features".to_owned(), out_features)]);
    Problem { name: "water-64".to_owned(), n_atoms: 192, features: 128, axes, ..Problem::default() }
}

#[test]
fn sizes_of_one_op_stand_beside_the_shared_ones() {
    let shared =
        r#"{"name":"water-64","n_atoms":192,"n_systems":0,"n_edges":0,"max_degree":0,"features":128,"n_basis":0,"#;
    let without = Problem { axes: BTreeMap::new(), ..dense(0) };
    for (text, problem) in [(r#""hidden":0}"#, without), (r#""hidden":0,"out_features":384}"#, dense(384))] {
        let text = format!("{shared}{text}");
        assert_eq!(serde_json::to_string(&problem).expect("plain data"), text);
        assert_eq!(serde_json::from_str::<Problem>(&text).expect("readable"), problem);
    }
    let error = serde_json::from_str::<Problem>(&format!(r#"{shared}"hiden":0}}"#)).expect_err("one is missing");
    assert!(error.to_string().contains("`hidden`"), "{error}");
}

#[test]
fn a_table_is_keyed_by_the_axes_of_its_op() {
    let root = tempfile::tempdir().expect("temp dir");
    let here = device("gpu", "gen-9", false);
    let key = |out_features| TuneKey::new("dense", 0, Dtype::F32, &dense(out_features));
    let entry = |out_features: u32| {
        let (variant, problem) = ("dense".to_owned(), dense(out_features.into()));
        let fields = EntryFields { key: key(out_features.into()), variant, problem, ..fields(192, 128, out_features) };
        Entry::new(fields).expect("consistent")
    };
    let mut table = Table::new("dense", here.clone(), table(here.clone(), []).versions, "hash");
    [384, 128].into_iter().for_each(|out| table.insert(entry(out)).expect("of this device"));
    let path = Table::path(root.path(), "gpu", "dense");
    table.save(&path).expect("writable");
    let table = Table::load(&path).expect("valid");
    assert_eq!(table.entries().iter().map(|e| e.key.axes["out_features"]).collect::<Vec<_>>(), [128, 384]);
    let rows = |out_features| {
        let (key, device) = (key(out_features), &here);
        let found = select([&table], Query { op: "dense", device, template_hash: "hash", key: &key }, |_| true);
        (found.config.and_then(|config| config.get("rows_per_cube")), found.distance.and_then(|d| d.last().copied()))
    };
    assert_eq!([rows(128), rows(384)], [(Some(128), Some(0.0)), (Some(384), Some(0.0))]);
    assert_eq!((rows(150).0, rows(300).0, rows(8 * 400)), (Some(128), Some(384), (None, None)));
    // The axis is of what was measured, as everything else is.
    let text = fs::read_to_string(&path).expect("there");
    let edited = text.replace("\"out_features\": 384", "\"out_features\": 385");
    assert_eq!(text.matches("\"out_features\": 384").count(), 2, "of the key and of the problem");
    let error = Table::parse(&edited, &path).expect_err("edited").to_string();
    assert!(error.contains("out_features=385") && error.contains("changed after it was measured"), "{error}");
}

#[test]
fn malformed_files_say_where_and_what() {
    let good =
        serde_json::to_string_pretty(&table(device("gpu", "a", false), [entry(64, 128, 1)])).expect("plain data");
    let error = |from: &str, to: &str| {
        let text = good.replacen(from, to, 1);
        assert_ne!(text, good, "`{from}` is not in the table");
        Table::parse(&text, Path::new("t.json")).expect_err("malformed")
    };
    assert!(matches!(error("\"schema\": 2", "\"schema\": 3"), TableError::Schema { found: 3, .. }));
    assert!(matches!(error("\"schema\": 2,", ""), TableError::Malformed { .. }));
    let message = error("\"schema\": 2", "\"schema\": 1").to_string();
    assert!(message.contains("schema version 1, expected 2: run `tune` again"), "{message}");
    let message = error("\"ties\"", "\"tyes\"").to_string();
    assert!(message.contains("t.json") && message.contains("tyes") && message.contains("line"), "{message}");
    match error("\"plane_size\"", "\"plane_sise\": 1, \"plane_size\"") {
        TableError::UnknownKey { key, .. } => assert_eq!(key, "device.limits.plane_sise"),
        other => panic!("{other}"),
    }
    let message = error("\"rel_error\": 1e-7", "\"rel_error\": 0.1").to_string();
    assert!(message.contains("expected at most 1e-5"), "{message}");
    let message = error("\"pass\"", "\"no_pass\"").to_string();
    assert!(message.contains("no_pass"), "{message}");
    assert!(matches!(Table::parse(&good[..good.len() / 2], Path::new("t.json")), Err(TableError::Malformed { .. })));
}

#[test]
fn loads_what_it_can_and_names_what_it_cannot() {
    let root = tempfile::tempdir().expect("temp dir");
    assert!(load_all(&root.path().join("missing"), "fused_message").tables.is_empty());
    for slug in ["b", "a"] {
        let path = Table::path(root.path(), slug, "fused_message");
        table(device(slug, "x", false), [entry(64, 128, 1)]).save(&path).expect("writable");
    }
    let broken = Table::path(root.path(), "c", "fused_message");
    fs::create_dir_all(broken.parent().expect("has one")).expect("writable");
    fs::write(&broken, "{").expect("writable");
    let loaded = load_all(root.path(), "fused_message");
    assert_eq!(loaded.iter().map(|t| t.device.slug.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(loaded.errors.len(), 1);
}

#[test]
fn a_bad_entry_costs_its_own_calls_alone() {
    let root = tempfile::tempdir().expect("temp dir");
    let here = device("gpu", "gen-9", false);
    let good = table(here.clone(), [entry(64, 128, 1), entry(4096, 128, 2)]);
    let path = Table::path(root.path(), "gpu", "fused_message");
    good.save(&path).expect("writable");
    let text = fs::read_to_string(&path).expect("there");
    // A careful hand that edits the pass too.
    let edited = text.replace("\"rows_per_cube\": 1", "\"rows_per_cube\": 7");
    assert_eq!(text.matches("\"rows_per_cube\": 1").count(), 2, "the entry's and its pass'");
    fs::write(&path, &edited).expect("writable");
    let loaded = load_all(root.path(), "fused_message");
    let [error @ TableError::Entry { entry: 0, line, key: Some(_), .. }] = &loaded.errors[..] else {
        panic!("{:?}", loaded.errors)
    };
    assert_eq!(edited.lines().nth(line - 2).map(str::trim), Some("\"entries\": ["));
    let message = error.to_string();
    for word in ["fused_message.json", "painn_linear_receiver", "changed after it was measured", "digest is"] {
        assert!(message.contains(word), "{message}");
    }
    let ask = |n_atoms| {
        let key = key(n_atoms, 128);
        let query = Query { op: "fused_message", device: &here, template_hash: "hash", key: &key };
        select(loaded.iter(), query, |_| true)
    };
    // Where it was the nearest the default is used, and said why; the other entry is as good as before.
    for n_atoms in [64, 200] {
        let found = ask(n_atoms);
        assert_eq!((found.config, found.step), (None, Step::Default), "{n_atoms}");
        assert!(found.reason.contains("is refused: it was changed"), "{}", found.reason);
    }
    assert_eq!(ask(4096).config.and_then(|config| config.get("rows_per_cube")), Some(2));
    // Whoever would write the table again does not lose it.
    assert_eq!(Table::load(&path).expect_err("one is refused").to_string(), message);
    // White space is no edit.
    let value: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(Table::parse(&value.to_string(), &path).expect("the same table"), good);
    // A folder that was renamed, with the slug in the table.
    let renamed = text.replace("\"slug\": \"gpu\"", "\"slug\": \"other\"");
    let error = Table::parse(&renamed, &path).expect_err("of another device").to_string();
    assert!(error.contains("of device `gpu`, expected `other`"), "{error}");
}

#[test]
fn merging_keeps_the_faster() {
    let mut ours = table(device("gpu", "a", false), [entry(64, 128, 1), entry(128, 128, 1)]);
    let faster = Entry::new(EntryFields { median_ns: 900.0, ..fields(64, 128, 2) }).expect("consistent");
    let slower = Entry::new(EntryFields { median_ns: 1100.0, ..fields(128, 128, 2) }).expect("consistent");
    let theirs = table(device("gpu", "a", false), [faster, slower, entry(256, 128, 2)]);
    let report = ours.merge(theirs).expect("same device");
    assert_eq!((report.added, report.replaced, report.kept), (1, 1, 1));
    assert_eq!(ours.get(&key(64, 128)).and_then(|e| e.config.get("rows_per_cube")), Some(2));
    assert_eq!(ours.get(&key(128, 128)).and_then(|e| e.config.get("rows_per_cube")), Some(1));
    assert_eq!(ours.merge(table(device("gpu", "a", true), [])).expect_err("software").what, "device");
}

#[test]
fn selection_walks_the_chain() {
    let here = device("gpu", "gen-9", false);
    let exact = table(here.clone(), [entry(64, 128, 1), entry(4096, 128, 2)]);
    let sibling = table(device("other", "gen-9", false), [entry(1024, 64, 4)]);
    let stranger = table(device("third", "gen-8", false), [entry(1024, 64, 8)]);
    let tables = [exact, sibling, stranger];
    let ask = |n_atoms, features, feasible: &dyn Fn(&LaunchConfig) -> bool| {
        let key = key(n_atoms, features);
        select(&tables, Query { op: "fused_message", device: &here, template_hash: "hash", key: &key }, feasible)
    };
    let rows = |c: Option<LaunchConfig>| c.and_then(|c| c.get("rows_per_cube"));

    let found = ask(2000, 128, &|_| true);
    assert_eq!((rows(found.config), found.step), (Some(2), Step::ExactDevice));
    let found = ask(100, 128, &|_| true);
    assert_eq!((rows(found.config), found.step), (Some(1), Step::ExactDevice));
    // 100 atoms lie more than three octaves from 4096, so the second nearest is too far and a sibling answers.
    let found = ask(200, 128, &|c| c.get("rows_per_cube") != Some(1));
    assert_eq!((rows(found.config), found.step), (Some(4), Step::SameArchitecture));
    assert!(found.reason.contains("infeasible"), "{}", found.reason);
    // A feature width that only the sibling is near to.
    let found = ask(1024, 8, &|_| true);
    assert_eq!((rows(found.config), found.step), (Some(4), Step::SameArchitecture));
    assert!(found.distance.is_some_and(|d| d[3] > 2.0 && d[3] <= 3.0));
    // Too far from everything.
    let found = ask(1 << 20, 128, &|_| true);
    assert_eq!((found.config, found.step), (None, Step::Default));
    assert!(found.reason.contains("octaves"), "{}", found.reason);
    let found = ask(64, 128, &|_| false);
    assert_eq!((found.config, found.step), (None, Step::Default));
}

#[test]
fn a_small_gain_stays_at_home() {
    let here = device("gpu", "gen-9", false);
    let there = device("other", "gen-9", false);
    let tables = |default_median_ns| {
        let entry = Entry::new(EntryFields { default_median_ns, ..fields(64, 128, 2) }).expect("consistent");
        [table(here.clone(), [entry])]
    };
    let median = fields(64, 128, 2).median_ns;
    let ask = |device: &DeviceId, default_median_ns, n_atoms| {
        let (tables, key) = (tables(default_median_ns), key(n_atoms, 128));
        select(&tables, Query { op: "fused_message", device, template_hash: "hash", key: &key }, |_| true)
    };
    // Where it was measured every gain counts; elsewhere only one that is worth the risk.
    assert_eq!(ask(&here, Some(1.01 * median), 64).step, Step::ExactDevice);
    for (device, n_atoms) in [(&here, 100), (&there, 64)] {
        let found = ask(device, Some(1.09 * median), n_atoms);
        assert_eq!((found.config, found.step), (None, Step::Default));
        assert!(found.reason.contains("1.09 times as fast, less than 1.1"), "{}", found.reason);
        assert!(found.key.is_some(), "what was passed over is said");
        assert!(ask(device, Some(1.11 * median), n_atoms).config.is_some());
        assert!(ask(device, None, n_atoms).config.is_some(), "a default that did not pass is no choice");
    }
}

#[test]
fn selection_never_crosses_templates_adapters_orders_or_dtypes() {
    let software = device("llvmpipe", "cpu", true);
    let hardware = device("llvmpipe", "cpu", false);
    let tables = [table(software.clone(), [entry(64, 128, 1)])];
    let near = key(64, 128);
    let query = |device, template_hash, key| Query { op: "fused_message", device, template_hash, key };
    assert_eq!(select(&tables, query(&software, "hash", &near), |_| true).step, Step::ExactDevice);
    let found = select(&tables, query(&hardware, "hash", &near), |_| true);
    assert_eq!(found.step, Step::Default);
    assert!(found.reason.contains("software"), "{}", found.reason);
    let found = select(&tables, query(&software, "new", &near), |_| true);
    assert_eq!(found.step, Step::Default);
    assert!(found.reason.contains("templates hash, expected new"), "{}", found.reason);
    let f64_key = TuneKey { dtype: Dtype::F64, ..near.clone() };
    assert_eq!(select(&tables, query(&software, "hash", &f64_key), |_| true).step, Step::Default);
    let backward = TuneKey { order: 1, ..near.clone() };
    let found = select(&tables, query(&software, "hash", &backward), |_| true);
    assert_eq!((found.config, found.step), (None, Step::Default));
    assert!(found.reason.contains("no entry for painn_linear_receiver of order 1 in f32"), "{}", found.reason);
    let other = Query { op: "cell_list", ..query(&software, "hash", &near) };
    assert_eq!(select(&tables, other, |_| true).reason, "default: no table for this device");
}

#[test]
fn orders_stand_side_by_side() {
    let here = device("gpu", "gen-9", false);
    let mut backward = fields(64, 128, 4);
    backward.key.order = 2;
    backward.pass = pass("gpu", 2, 5e-5, &backward.config);
    let backward = Entry::new(backward).expect("consistent");
    let mut table = table(here.clone(), [entry(64, 128, 1)]);
    table.insert(backward).expect("of this device");
    assert_eq!(table.entries().len(), 2);
    assert_eq!(table.check(None), []);
    for (order, rows) in [(0, 1), (2, 4)] {
        let key = TuneKey { order, ..key(64, 128) };
        let query = Query { op: "fused_message", device: &here, template_hash: "hash", key: &key };
        let config = select([&table], query, |_| true).config;
        assert_eq!(config.and_then(|config| config.get("rows_per_cube")), Some(rows));
    }
    // A file that claims the pass for an order with a stricter tolerance is refused.
    let text = serde_json::to_string(&table).expect("plain data");
    let claimed = text.replace("\"order\":2", "\"order\":1");
    let error = Table::parse(&claimed, Path::new("t.json")).expect_err("too large an error");
    assert!(error.to_string().contains("of order 1"), "{error}");
}

/// A list of `n_atoms` in `n_systems`, of 50 edges per atom.
fn list_problem(n_atoms: u64, n_systems: u64) -> Problem {
    Problem { n_systems, n_edges: n_atoms * 50, features: 0, n_basis: 0, ..problem(n_atoms, 0) }
}

fn list_entry(variant: &str, problem: Problem, parameter: u32, median_ns: f64) -> Entry {
    let key = TuneKey::new(variant, 0, Dtype::F32, &problem);
    let config = LaunchConfig::from([("rows_per_task", parameter)]);
    let default_median_ns = None;
    let (variant, pass) = (variant.to_owned(), pass("gpu", 0, 1e-7, &config));
    let fields =
        EntryFields { key, variant, problem, config, median_ns, default_median_ns, pass, ..fields(64, 128, 1) };
    Entry::new(fields).expect("consistent")
}

fn list_table(device: DeviceId, entries: impl IntoIterator<Item = Entry>) -> Table {
    let mut table = table(device, entries);
    table.op = "cell_list".to_owned();
    table
}

#[test]
fn lists_have_families_and_a_table_of_their_own() {
    let entry = list_entry("full_cells", list_problem(64, 1), 1, 10.0);
    let other = EntryFields { variant: "half_cells".to_owned(), ..(*entry).clone() };
    assert!(matches!(Entry::new(other), Err(EntryError::Family { .. })));
    let here = device("gpu", "gen-9", false);
    let batch = list_entry("full_cells", list_problem(64, 8), 2, 20.0);
    let good = list_table(here.clone(), [batch.clone(), entry.clone()]);
    assert_eq!(good.check(None), []);
    assert_eq!(good.entries(), [entry.clone(), batch], "one system before eight");
    assert!(
        matches!(&table(here, [entry]).check(None)[..], [Finding::Variant { entry: 0, op, .. }] if op == "fused_message")
    );
}

#[test]
fn brute_force_is_chosen_where_it_was_measured_to_win() {
    let here = device("gpu", "gen-9", false);
    let (small, large) = (list_problem(64, 1), list_problem(4096, 1));
    let entries = [
        list_entry("full_cells", small.clone(), 1, 100.0),
        list_entry("full_brute", small.clone(), 2, 50.0),
        list_entry("full_cells", large.clone(), 3, 1000.0),
        list_entry("full_brute", large.clone(), 4, 9000.0),
        // The only half lists.
        list_entry("half_brute", small.clone(), 5, 1.0),
    ];
    let tables = [list_table(here.clone(), entries.clone())];
    let ask = |tables: &[Table], list, problem: &Problem, feasible: &dyn Fn(&LaunchConfig) -> bool| {
        let query = ListQuery { device: &here, template_hash: "hash", list, dtype: Dtype::F32, problem };
        let (variant, selection) = select_list(tables, query, |_, config| feasible(config));
        assert_eq!(variant.list, list);
        (variant.strategy, selection.config.and_then(|c| c.get("rows_per_task")))
    };
    let any = |_: &LaunchConfig| true;
    assert_eq!(ask(&tables, List::Full, &small, &any), (Strategy::Brute, Some(2)));
    assert_eq!(ask(&tables, List::Full, &large, &any), (Strategy::Cells, Some(3)));
    // Near the small one, and yet brute force would take four times as long per atom.
    assert_eq!(ask(&tables, List::Full, &list_problem(256, 1), &any), (Strategy::Cells, Some(1)));
    assert_eq!(ask(&tables, List::Full, &list_problem(100, 1), &any), (Strategy::Brute, Some(2)));
    assert_eq!(ask(&tables, List::Full, &list_problem(256, 4), &any), (Strategy::Brute, Some(2)));
    // Nothing to compare with: no entry of cells, one that cannot run, one of another size, or of another device.
    assert_eq!(ask(&tables, List::Half, &small, &any), (Strategy::Cells, None));
    let unfit = |config: &LaunchConfig| config.get("rows_per_task") != Some(1);
    assert_eq!(ask(&tables, List::Full, &small, &unfit), (Strategy::Cells, None));
    let [_, brute, ..] = entries;
    let cells = list_entry("full_cells", list_problem(80, 1), 6, 100.0);
    let unequal = [list_table(here.clone(), [cells.clone(), brute.clone()])];
    assert_eq!(ask(&unequal, List::Full, &small, &any), (Strategy::Cells, Some(6)));
    let cells = list_entry("full_cells", small.clone(), 7, 100.0);
    let apart = [list_table(device("other", "gen-9", false), [cells]), list_table(here.clone(), [brute])];
    assert_eq!(ask(&apart, List::Full, &small, &any), (Strategy::Cells, Some(7)));
    assert_eq!(ask(&[], List::Full, &small, &any), (Strategy::Cells, None));
}

#[test]
fn the_committed_tables_are_sound_and_of_the_schema() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../autotune/tables");
    let validator = schema();
    let mut seen = 0;
    for op in ff_spec::OPS {
        let loaded = load_all(&root, op);
        assert!(loaded.errors.is_empty(), "{:?}", loaded.errors);
        for (path, table) in &loaded.tables {
            assert_eq!(table.check(Some(path)), []);
            let text = fs::read_to_string(path).expect("readable");
            assert!(validator.is_valid(&serde_json::from_str(&text).expect("JSON")), "{}", path.display());
            seen += table.entries().len();
        }
    }
    assert!(seen > 0, "no entries under {}", root.display());
}

fn schema() -> jsonschema::Validator {
    let schema = include_str!("../../../autotune/schema/table.schema.json");
    let schema = serde_json::from_str(schema).expect("the schema is JSON");
    jsonschema::validator_for(&schema).expect("the schema is one")
}

#[test]
fn the_json_schema_holds() {
    let validator = schema();
    let table = table(device("gpu", "a", false), [entry(64, 128, 1)]);
    let value = serde_json::to_value(table).expect("plain data");
    let errors: Vec<String> = validator.iter_errors(&value).map(|e| format!("{}: {e}", e.instance_path())).collect();
    assert!(errors.is_empty(), "{errors:?}");
    for part in ["pass", "digest"] {
        let mut without = value.clone();
        without["entries"][0].as_object_mut().expect("an entry").remove(part);
        assert!(!validator.is_valid(&without), "an entry without a {part} is valid");
    }
}
