//! `verify`: what is counted, what is written and when it is no pass.

use super::*;

const ONE: &str = "verify --variant cfconv_linear_gaussian_cosine_receiver --runtime host --dtype f64";

#[test]
fn a_pass_is_counted_and_written() {
    let dir = folder();
    let done = run(dir.path(), &format!("{ONE} --json result.json --junit result.xml"));
    done.expect(0, &["runtimes host: ", "RUNTIME", "passed: 15 passed, 0 failed, 0 skipped, 0 unsupported"]);
    let text = std::fs::read_to_string(dir.path().join("result.json")).expect("written");
    let json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let keys = |value: &serde_json::Value| value.as_object().expect("an object").keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&json), ["passed", "failed", "skipped", "unsupported", "cases"]);
    assert_eq!(json["passed"], 15);
    let expected = [
        "op",
        "variant",
        "runtime",
        "dtype",
        "order",
        "case",
        "seed",
        "verdict",
        "reason",
        "rel_error",
        "max_abs_error",
    ];
    for row in json["cases"].as_array().expect("rows") {
        assert_eq!(keys(row), expected);
        assert_eq!(row["verdict"], "passed");
        assert!(row["rel_error"].as_f64().is_some_and(|e| e < 1e-12), "{row}");
    }
    let junit = std::fs::read_to_string(dir.path().join("result.xml")).expect("written");
    assert!(junit.starts_with("<?xml"), "{junit}");
    let report = quick_junit::Report::deserialize_from_str(&junit).expect("JUnit XML");
    assert_eq!((report.tests, report.failures, report.errors), (15, 0, 0), "{junit}");
    assert_eq!(report.test_suites.iter().map(|suite| suite.test_cases.len()).sum::<usize>(), 15);
}

#[test]
fn json_can_go_to_stdout() {
    let dir = folder();
    let done = run(dir.path(), &format!("{ONE} --json -")).expect(0, &[]);
    assert_eq!(done.json()["cases"].as_array().map(Vec::len), Some(15));
}

#[test]
fn orders_without_kernels_are_skipped_and_prove_nothing() {
    let dir = folder();
    let lists = "verify --variant full_cells --runtime host --dtype f64";
    let done = run(dir.path(), &format!("{lists} --order 2 --json -"));
    let done = done.expect(1, &["no case was executed"]);
    let json = done.json();
    assert_eq!((json["passed"].as_u64(), json["skipped"].as_u64()), (Some(0), Some(42)));
    assert_eq!(json["cases"][0]["reason"], "order 2 is not registered");
    run(dir.path(), &format!("{lists} --order 0,2")).expect(0, &["42 skipped", "order 2 is not registered"]);
}

/// `verify --passes` notes what passed, and `ops` shows it.
#[test]
fn passes_are_noted() {
    let dir = folder();
    let note = format!("{ONE} --order 0,2 --passes passes.json");
    run(dir.path(), &note).expect(0, &[]);
    run(dir.path(), &note).expect(0, &[]);
    let json = run(dir.path(), "ops --json --passes passes.json").json();
    let variants = json.as_array().expect("a list");
    let id = "cfconv_linear_gaussian_cosine_receiver";
    let passes = &variants.iter().find(|variant| variant["variant"] == id).expect("rendered")["passes"];
    let passes = passes.as_array().expect("a list");
    let orders: Vec<_> = passes.iter().map(|pass| pass["order"].as_u64()).collect();
    assert_eq!(orders, [Some(0), Some(2)], "noted once each");
    for pass in passes {
        assert!(pass["device"].as_str().is_some_and(|slug| slug.starts_with("host-")), "{pass}");
        assert!(pass["date"].as_str().is_some_and(|day| day.starts_with("20")), "{pass}");
        assert!(pass["current"] == true && pass["full"] == false && pass["cases"].as_u64() > Some(0), "{pass}");
    }
    // Marks of a variant among its family, of the family, which is as its least variant, and every pass in full.
    let line = |words: &str, name: &str| {
        let shown = run(dir.path(), &format!("{words} --passes passes.json")).expect(0, &["HOST"]).out;
        shown.lines().find(|line| line.trim_start().starts_with(name)).expect("listed").to_owned()
    };
    let family = "cfconv_linear_receiver";
    let of_variant = line(&format!("ops {family}"), id);
    assert!(of_variant.contains("yes        ○ · ○"), "{of_variant}");
    let of_family = line("ops", family);
    assert!(of_family.contains(" · · ·") && !of_family.contains('○'), "{of_family}");
    run(dir.path(), &format!("ops {id} --passes passes.json")).expect(0, &["PASSED ON", "(quick)", "this"]);
    let text = std::fs::read_to_string(dir.path().join("passes.json")).expect("written");
    let mut stale: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    for pass in stale["passes"].as_array_mut().expect("a list") {
        for hash in pass["code"].as_object_mut().expect("pieces of code").values_mut() {
            *hash = "0".into();
        }
    }
    std::fs::write(dir.path().join("passes.json"), stale.to_string()).expect("written");
    let of_variant = line(&format!("ops {family}"), id);
    assert!(of_variant.contains("~ · ~"), "{of_variant}");
    run(dir.path(), "ops --passes none.json").expect(2, &["there is no none.json"]);
    // Two seeds are no pass, and what is no such file is left as it is.
    run(dir.path(), &format!("{ONE} --seeds 2 --passes few.json")).expect(1, &[]);
    assert!(std::fs::read_to_string(dir.path().join("few.json")).expect("written").contains("\"passes\": []"));
    std::fs::write(dir.path().join("other.json"), "{}").expect("written");
    run(dir.path(), "ops --passes other.json").expect(2, &["other.json"]);
    run(dir.path(), &format!("{ONE} --passes other.json")).expect(2, &["other.json"]);
    assert_eq!(std::fs::read_to_string(dir.path().join("other.json")).expect("kept"), "{}");
}

#[test]
fn both_backwards_are_gated_on_host() {
    let dir = folder();
    let json = run(dir.path(), &format!("{ONE} --order 0,1,2 --json -")).expect(0, &[]).json();
    let rows = json["cases"].as_array().expect("rows");
    // The same cases, and that of forces, which ask for no gradients in weights.
    for (order, expected) in [(0, 15), (1, 18), (2, 18)] {
        let of_order = rows.iter().filter(|row| row["order"] == order);
        assert_eq!(of_order.filter(|row| row["verdict"] == "passed").count(), expected, "order {order}");
    }
}

#[test]
fn too_few_seeds_are_no_pass() {
    let dir = folder();
    run(dir.path(), &format!("{ONE} --seeds 2")).expect(1, &["2 seeds, expected at least 3"]);
}

#[test]
fn a_family_stands_for_its_variants() {
    let dir = folder();
    let done = run(dir.path(), "verify --variant cfconv_linear_receiver --runtime host --dtype f32 --json - --quiet");
    let json = done.expect(0, &[]).json();
    let variants: std::collections::BTreeSet<&str> =
        json["cases"].as_array().expect("rows").iter().filter_map(|row| row["variant"].as_str()).collect();
    assert!(variants.len() > 1 && variants.iter().all(|v| v.starts_with("cfconv_linear_")), "{variants:?}");
}

#[test]
fn neighbour_lists_are_an_op_of_their_own() {
    let dir = folder();
    let dir = dir.path();
    // Fourteen cases of three seeds.
    run(dir, "verify --variant full_cells --runtime host --dtype f64")
        .expect(0, &["cell_list full_cells", "passed: 42 passed, 0 failed, 0 skipped, 0 unsupported"]);
    run(dir, "verify --op cell_list --runtime host").expect(0, &["half_brute", "passed: 336 passed, 0 failed"]);
    run(dir, "verify --op cell_list --variant painn_tabulated_receiver").expect(2, &["is of op cell_list"]);
    run(dir, "eval cell_list --variant full_cells --inputs a --outputs b")
        .expect(2, &["`eval` runs kernels on tensors", "`forgefield neighbors FILE`"]);
}

#[test]
fn force_scatter_is_gated_in_three_orders() {
    let dir = folder();
    let dir = dir.path();
    // Seven cases of three seeds, in two dtypes, two variants and three orders.
    run(dir, "verify --op force_scatter --order 0,1,2 --runtime host")
        .expect(0, &["force_scatter gather order 2", "passed: 252 passed, 0 failed, 0 skipped, 0 unsupported"]);
    run(dir, "verify --variant atomic --runtime host --dtype f32").expect(0, &["passed: 21 passed, 0 failed"]);
}

#[test]
fn vector_norm_is_gated_in_three_orders() {
    let dir = folder();
    let dir = dir.path();
    // Six, seven and eight cases of three seeds, in two dtypes.
    run(dir, "verify --op vector_norm --order 0,1,2 --runtime host")
        .expect(0, &["vector_norm channelwise order 2", "passed: 126 passed, 0 failed, 0 skipped, 0 unsupported"]);
    run(dir, "verify --variant channelwise --runtime host --dtype f32").expect(0, &["passed: 18 passed, 0 failed"]);
    run(dir, "eval vector_norm --variant channelwise --inputs a --outputs b")
        .expect(2, &["`eval` does not know op `vector_norm` yet"]);
}
