//! Help, `devices` and `ops`.

use std::process::Stdio;

use super::*;

const COMMANDS: [&str; 7] = ["devices", "ops", "verify", "eval", "tune", "inspect", "tables"];

#[test]
fn no_arguments_print_a_help_that_fits_a_screen() {
    let dir = folder();
    let help = run(dir.path(), "").expect(0, &COMMANDS);
    assert!(help.out.lines().count() <= 24 && help.out.lines().all(|line| line.chars().count() <= 80), "{}", help.out);
    assert!(help.err.is_empty(), "{}", help.err);
}

#[test]
fn every_command_has_help_with_an_example() {
    let dir = folder();
    let tables = ["show", "check", "select", "diff", "merge", "renew"].map(|c| format!("tables {c}"));
    for command in COMMANDS.map(str::to_owned).iter().chain(&tables) {
        run(dir.path(), &format!("{command} --help")).expect(0, &["Example", &format!("forgefield {command}")]);
    }
}

#[test]
fn devices_name_host_and_what_is_missing_without_chatter() {
    let dir = folder();
    let text = run(dir.path(), "devices").expect(0, &["auto uses ", "host: ", "SIMD", "slug", "runtime `cuda`"]);
    assert!(text.out.starts_with("auto uses "), "{}", text.out);
    assert!(text.err.is_empty(), "driver chatter: {}", text.err);
    let json = run(dir.path(), "devices --json").json();
    assert_eq!(json["devices"][0]["runtime"], "host");
    for device in json["devices"].as_array().expect("a list") {
        for key in ["name", "slug", "arch", "driver", "software", "limits", "atomics", "f64", "clock"] {
            assert!(device.get(key).is_some(), "no {key} in {device}");
        }
        assert!(json["auto"] != device["runtime"] || device["software"] == false, "auto took a software adapter");
    }
    let known = json["devices"].as_array().map_or(0, Vec::len) + json["unavailable"].as_array().map_or(0, Vec::len);
    assert_eq!(known, 4, "every runtime is named: {json}");
}

#[test]
fn ops_fit_a_screen() {
    let dir = folder();
    let page = run(dir.path(), "ops")
        .expect(0, &["f32 and f64", "fused_message: ", "cell_list: ", "force_scatter: ", "vector_norm: "])
        .out;
    assert!(page.lines().all(|line| line.chars().count() <= 100), "{page}");
    let rendered = ff_kernels::fused_message::registered().len()
        + ff_kernels::cell_list::registered().len()
        + ff_kernels::force_scatter::registered().len()
        + ff_kernels::vector_norm::registered().len();
    assert!(page.starts_with(&format!("{rendered} variants of 4 ops")), "{page}");
    let families = page.lines().filter_map(|line| line.strip_prefix("  ").filter(|line| !line.starts_with(' ')));
    let counted: usize = families.filter_map(|line| line.split_whitespace().nth(1)?.parse::<usize>().ok()).sum();
    assert_eq!(counted, rendered, "the families have all of them: {page}");
    assert!(page.lines().count() <= 36, "{page}");
    // Without notes of passes every mark says so; lists have nothing to differentiate.
    let marks = |family: &str| {
        let line = page.lines().find(|line| line.trim_start().starts_with(family)).expect("listed");
        line.matches('·').count()
    };
    let runtimes = ff_kernels::compiled().len();
    assert_eq!((marks("full_cells"), marks("painn_mlp_receiver")), (runtimes, 3 * runtimes), "{page}");
}

#[test]
fn ops_show_what_is_named() {
    let dir = folder();
    let narrow = |done: Done| {
        assert!(done.out.lines().all(|line| line.chars().count() <= 100), "{}", done.out);
        done
    };
    for (name, words) in [
        ("fused_message", ["registered 0, 1, 2; gated 0, 1, 2", "painn_tabulated_receiver", "exp(-gamma*(d - mu)^2)"]),
        ("cell_list", ["registered 0; gated 0", "half_cells", "rows_per_task"]),
        (
            "painn_linear_receiver",
            ["8 variants of fused_message", "painn_linear_bessel_cosine_receiver", "edges_per_tile"],
        ),
        (
            "cfconv_mlp_gaussian_cosine_receiver",
            ["variant of fused_message", "basis.mu[K]", "family      cfconv_mlp_receiver"],
        ),
        ("atomic", ["variant of force_scatter", "same bits   no", "no pass noted"]),
        ("vector_norm", ["variant of vector_norm", "same bits   yes", "atoms_per_task"]),
    ] {
        narrow(run(dir.path(), &format!("ops {name}")).expect(0, &words));
    }
    run(dir.path(), "ops painn_linaer_receiver").expect(2, &["did you mean `painn_linear_receiver`?"]);
    run(dir.path(), "ops fused_mesage").expect(2, &["unknown name", "did you mean `fused_message`?"]);
}

#[test]
fn ops_list_every_variant() {
    let dir = folder();
    let json = run(dir.path(), "ops --json").json();
    let of_op = |json: &serde_json::Value, op: &str| -> Vec<serde_json::Value> {
        json.as_array().expect("a list").iter().filter(|row| row["op"] == op).cloned().collect()
    };
    assert_eq!(of_op(&json, "cell_list").len(), 4);
    assert_eq!(of_op(&json, "force_scatter")[0]["variant"], "gather");
    let messages = of_op(&json, "fused_message");
    assert_eq!(messages.len(), ff_kernels::fused_message::registered().len());
    for row in json.as_array().expect("a list") {
        let orders = if row["op"] == "cell_list" { serde_json::json!([0]) } else { serde_json::json!([0, 1, 2]) };
        assert_eq!((&row["orders"], &row["orders_gated"]), (&orders, &orders), "{row}");
        assert_eq!((&row["dtypes"], &row["passes"]), (&serde_json::json!(["f32", "f64"]), &serde_json::json!([])));
        assert!(row["family"].is_string() && row.get("launch").is_none(), "{row}");
    }
    let gaussian =
        messages.iter().find(|row| row["variant"] == "cfconv_mlp_gaussian_cosine_receiver").expect("rendered");
    assert_eq!(gaussian["radial"], serde_json::json!(["gaussian", "cosine"]));
    let parameters = gaussian["parameters"].to_string();
    assert!(parameters.contains("A1") && parameters.contains("basis.mu[K]"), "{parameters}");

    // What is named also has its formulas and launch parameters.
    let named = |name: &str| run(dir.path(), &format!("ops {name} --json")).json();
    let targets = |row: &serde_json::Value, order: u64| -> Vec<String> {
        let launch = row["launch"].as_array().expect("a list");
        let of_order = |l: &&serde_json::Value| l["orders"].as_array().is_some_and(|all| all.contains(&order.into()));
        launch.iter().filter(of_order).map(|l| l["target"].as_str().expect("text").to_owned()).collect()
    };
    let (messages, scatters) = (named("painn_mlp_receiver"), named("atomic"));
    assert_eq!((messages.as_array().map(Vec::len), scatters.as_array().map(Vec::len)), (Some(6), Some(1)));
    for order in 0..=2 {
        assert_eq!(targets(&messages[0], order), ["host", "cube"]);
        assert_eq!(targets(&scatters[0], order), ["host", "cube"]);
    }
    assert_eq!(targets(&named("full_brute")[0], 0), ["host", "cube"]);
    assert_eq!(
        (&messages[0]["launch"][0]["reduction"], &scatters[0]["launch"][0]["reduction"]),
        (&"receiver".into(), &"atomic".into())
    );
    let formulas = messages[0]["radial_functions"].as_array().expect("a list");
    assert!(formulas.len() == 2 && formulas.iter().all(|f| f["formula"].is_string()), "{formulas:?}");
}

#[test]
fn a_closed_stdout_is_no_error() {
    let dir = folder();
    let mut child =
        forgefield(dir.path()).arg("ops").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("starts");
    drop(child.stdout.take());
    let done: Done = child.wait_with_output().expect("ends").into();
    assert_eq!((done.code, done.err.as_str()), (Some(0), ""));
}

#[test]
fn json_goes_alone_to_stdout() {
    let dir = folder();
    let words = "tables select --problem h2o --variant painn_linear_receiver --features 16 --runtime host --json";
    let done = run(dir.path(), words).expect(0, &[]);
    assert_eq!(done.json()["step"], "default");
    assert!(done.err.starts_with("runtime host: "), "{}", done.err);
}
