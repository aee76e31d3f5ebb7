//! `inspect`: code, resources and the static gate, on machines without a GPU.

use std::io::Write;

use super::*;

const PAINN: &str = "inspect fused_message --variant painn_linear_bessel_cosine_receiver";

/// The committed table of the static gate.
const TABLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../autotune/static/cuda.json");

/// Runs where NVRTC cannot be found.
fn without_nvrtc(dir: &Path, words: &str) -> Done {
    let mut command = forgefield(dir);
    command.env("FORGEFIELD_NVRTC", dir.join("nowhere")).args(words.split_whitespace());
    command.output().expect("the binary starts").into()
}

/// Runs what needs NVRTC; without one says so past the test harness, which would swallow it.
fn with_nvrtc(dir: &Path, words: &str, test: &str) -> Option<Done> {
    let done = run(dir, words);
    if done.code == Some(3) && done.err.contains("no NVRTC here") {
        let _ = writeln!(std::io::stderr(), "{test}: NOT TESTED, {}", done.err.trim());
        return None;
    }
    Some(done)
}

#[test]
fn cuda_source_needs_no_nvrtc_and_has_one_text() {
    let dir = folder();
    let words = format!("{PAINN} --emit source --arch sm_90");
    let first = without_nvrtc(dir.path(), &words).expect(0, &["extern \"C\" __global__ void __launch_bounds__(32)"]);
    // Features are read and written four at a time.
    assert!(first.out.contains("const float_4* __restrict__ buffer_3"), "{}", first.out);
    assert_eq!(first.out, without_nvrtc(dir.path(), &words).out);
    let words =
        format!("{PAINN} --emit source --arch sm_80,sm_90 --config unroll=2,edges_per_tile=8 --dtype f64 --json");
    let json = without_nvrtc(dir.path(), &words).expect(0, &[]).json();
    assert_eq!((&json["config"]["unroll"], &json["config"]["edges_per_tile"]), (&2.into(), &8.into()));
    assert_eq!(json["code"].as_array().map(Vec::len), Some(2));
    assert!(json["code"][1]["text"].as_str().is_some_and(|text| text.contains("double_2")), "{json}");
}

#[test]
fn other_targets_are_printed_too() {
    let dir = folder();
    run(dir.path(), &format!("{PAINN} --target vulkan --emit spirv"))
        .expect(0, &["; SPIR-V", "OpEntryPoint GLCompute", "LocalSize 32 1 1"]);
    run(dir.path(), &format!("{PAINN} --target host --emit source"))
        .expect(0, &["host::receiver(&Stages::new::<Radial, host::Painn>()"]);
    run(dir.path(), &format!("{PAINN} --target host")).expect(0, &["FLOPs", "no roofline"]);
}

#[test]
fn resources_count_flops_and_bytes() {
    let dir = folder();
    let json = run(dir.path(), &format!("{PAINN} --target vulkan --problem h2 --features 8 --n-basis 4 --json")).json();
    // Two edges. Filter: 9 of geometry, 5 values of 16, 4 × 24 FMAs, 24 products; message: 16 for each feature.
    assert_eq!(json["cost"]["filter_flops"], 2 * (9 + 5 * 16 + 2 * 4 * 24 + 24));
    assert_eq!(json["cost"]["message_flops"], 2 * 16 * 8);
    // Two atoms with 6 × 8 features each, read for each edge.
    assert_eq!(json["cost"]["gathered_bytes"], 2 * 48 * 4);
}

#[test]
fn mistakes_say_what_was_expected() {
    let dir = folder();
    for (words, said) in [
        ("inspect fused_mesage --variant x", "did you mean `fused_message`?"),
        ("inspect fused_message", "--variant"),
        ("inspect fused_message --variant pain_tabulated_receiver", "did you mean `painn_tabulated_receiver`?"),
        (&format!("{PAINN} --config unrol=4"), "unknown parameter `unrol` in --config, did you mean `unroll`?"),
        (&format!("{PAINN} --config unroll=3 --emit source"), "unroll = 3 does not divide edges_per_tile = 16"),
        (&format!("{PAINN} --arch hopper"), "expected one such as `sm_90`"),
        (&format!("{PAINN} --emit spirv"), "target `cuda` has no `spirv`, expected `resources` or `source` or `ptx`"),
        (&format!("{PAINN} --target host --emit ptx"), "target `host` has no `ptx`"),
        (&format!("{PAINN} --problem watr-64"), "did you mean `water-64`?"),
        ("inspect fused_message --gate missing.json", "cannot read missing.json"),
    ] {
        without_nvrtc(dir.path(), words).expect(2, &[said]);
    }
}

#[test]
fn a_missing_nvrtc_is_a_fault_that_says_where_it_looked() {
    let dir = folder();
    let nowhere = dir.path().join("nowhere").display().to_string();
    for emit in ["resources", "ptx"] {
        without_nvrtc(dir.path(), &format!("{PAINN} --emit {emit}"))
            .expect(3, &["no NVRTC here", &nowhere, "CUDA_PATH", "pip install nvidia-cuda-nvrtc"]);
    }
}

#[test]
fn the_gate_without_nvrtc_still_emits_and_says_that_it_skipped() {
    let dir = folder();
    let done = without_nvrtc(dir.path(), &format!("inspect fused_message --gate {TABLE}"));
    let done = done.expect(0, &["kernels of 52 variants emitted as CUDA C++", "skipped: ", "no NVRTC here"]);
    assert!(!done.out.contains("0 errors"), "{}", done.out);
}

#[test]
fn nvrtc_says_what_a_kernel_takes() {
    let dir = folder();
    let Some(done) = with_nvrtc(dir.path(), &format!("{PAINN} --json"), "nvrtc_says_what_a_kernel_takes") else {
        return;
    };
    let json = done.expect(0, &[]).json();
    let kernels = json["kernels"].as_array().expect("a list");
    assert_eq!(kernels.len(), 2);
    for kernel in kernels {
        assert!(kernel["registers"].as_u64().is_some_and(|n| (32..=255).contains(&n)), "{kernel}");
        assert_eq!((&kernel["spill_stores"], &kernel["stack"]), (&0.into(), &0.into()), "{kernel}");
        // 16 edges × (5 + 20 floats and 3 indices).
        assert_eq!((&kernel["shared_memory"], &kernel["units"]), (&(16 * 28 * 4).into(), &32.into()));
        assert!(kernel["occupancy"]["fraction"].as_f64().is_some_and(|f| f > 0.0 && f <= 1.0), "{kernel}");
    }
    let parts: Vec<&str> =
        json["rooflines"].as_array().expect("a list").iter().flat_map(|r| r["part"].as_str()).collect();
    assert_eq!(parts, ["A100 SXM 80 GB", "H100 SXM", "H200 SXM"]);
    run(dir.path(), &format!("{PAINN} --emit ptx --arch sm_80")).expect(0, &[".target sm_80", ".visible .entry"]);
}

#[test]
fn an_architecture_that_nvrtc_does_not_know_lists_those_it_does() {
    let dir = folder();
    let test = "an_architecture_that_nvrtc_does_not_know_lists_those_it_does";
    if let Some(done) = with_nvrtc(dir.path(), &format!("{PAINN} --arch sm_35"), test) {
        done.expect(2, &["does not know sm_35, expected sm_", "sm_90"]);
    }
}
