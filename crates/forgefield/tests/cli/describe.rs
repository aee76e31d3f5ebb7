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
fn ops_list_every_variant() {
    let dir = folder();
    run(dir.path(), "ops")
        .expect(0, &["fused_message", "f32, f64", "registered 0, 1, 2; gated 0, 1, 2", "painn_tabulated_receiver"]);
    let json = run(dir.path(), "ops --json").json();
    let op = &json["ops"][0];
    assert_eq!(op["op"], "fused_message");
    let lists = &json["ops"][1];
    assert_eq!((&lists["op"], lists["variants"].as_array().map(Vec::len)), (&"cell_list".into(), Some(4)));
    let scatters = &json["ops"][2];
    assert_eq!((&scatters["op"], &scatters["variants"][0]["variant"]), (&"force_scatter".into(), &"gather".into()));
    assert_eq!(scatters["orders_gated"], serde_json::json!([0, 1, 2]));
    let launch = |op: &serde_json::Value, order: u64, part: &str, value: &str| {
        let launch = op["launch"].as_array().expect("a list");
        let of_order = |l: &&serde_json::Value| l["orders"].as_array().is_some_and(|all| all.contains(&order.into()));
        let spaces = launch.iter().filter(of_order).filter(|l| l[part] == value);
        spaces.map(|l| l["target"].as_str().expect("text").to_owned()).collect::<Vec<_>>()
    };
    for order in 0..=2 {
        assert_eq!(launch(op, order, "reduction", "receiver"), ["host", "cube"]);
        assert_eq!(launch(scatters, order, "reduction", "atomic"), ["host", "cube"]);
    }
    assert_eq!(launch(lists, 0, "strategy", "brute"), ["host", "cube"]);
    assert_eq!(op["orders_gated"], serde_json::json!([0, 1, 2]));
    assert_eq!(lists["orders_gated"], serde_json::json!([0]));
    let variants = op["variants"].as_array().expect("a list");
    assert_eq!(variants.len(), ff_kernels::fused_message::registered().len());
    let gaussian = variants.iter().find(|v| v["variant"] == "cfconv_mlp_gaussian_cosine_receiver").expect("rendered");
    let parameters = gaussian["parameters"].to_string();
    assert!(parameters.contains("A1") && parameters.contains("basis.mu[K]"), "{parameters}");
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
