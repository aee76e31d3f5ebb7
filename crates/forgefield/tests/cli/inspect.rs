//! `inspect`: code, resources and the static gate, on machines without a GPU.

use std::io::Write;

use super::*;

const PAINN: &str = "inspect fused_message --variant painn_linear_bessel_cosine_receiver";

/// A table of the static gate with nothing in it, for an op.
fn empty_table(dir: &Path, op: &str) {
    let text = format!("{{\"schema\": 1, \"op\": \"{op}\", \"nvrtc\": \"13.2\", \"kernels\": {{}}}}");
    std::fs::write(dir.join(format!("{op}.json")), text).expect("the folder is writable");
}

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
        .expect(0, &["//! `bessel`: ", "pub fn value_d1<S: Simd, T: Element>(", "fn receiver<T: Element>("]);
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
    empty_table(dir.path(), "force_scatter");
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
        ("inspect cell_list --variant full_cels", "did you mean `full_cells`?"),
        ("inspect cell_list --variant full_cells --order 1", "`cell_list` has no derivatives"),
        ("inspect force_scatter --variant gather --order 3", "3 is not in 0..=2"),
        ("inspect force_scatter --variant gather --config units_per_cube=48 --emit source", "expected a power of two"),
        ("inspect cell_list --gate force_scatter.json", "of `force_scatter`, expected 1 of `cell_list`"),
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
    for (op, variants) in [("cell_list", 4), ("force_scatter", 2), ("vector_norm", 1)] {
        empty_table(dir.path(), op);
        let done = without_nvrtc(dir.path(), &format!("inspect {op} --gate {op}.json"));
        let emitted = format!("kernels of {variants} variants emitted as CUDA C++");
        let done = done.expect(0, &[&emitted, "skipped: ", "no NVRTC here"]);
        assert!(!done.out.contains("0 errors"), "{}", done.out);
    }
}

#[test]
fn an_op_of_several_kernels_prints_all_of_them() {
    let dir = folder();
    let kernels = |words: &str| -> Vec<String> {
        let json = without_nvrtc(dir.path(), &format!("inspect {words} --arch sm_90 --emit source --json"))
            .expect(0, &[])
            .json();
        let code = json["code"].as_array().expect("a list");
        for part in code {
            assert!(part["text"].as_str().is_some_and(|text| text.contains("extern \"C\" __global__")), "{part}");
        }
        code.iter().map(|part| part["kernel"].as_str().expect("a name").to_owned()).collect()
    };
    let has = |found: &[String], expected: &[&str]| {
        for name in expected {
            assert!(found.iter().any(|kernel| kernel == name), "no {name} in {found:?}");
        }
    };
    // A count and a write of the same walk; then what keeps a list of moving atoms.
    has(
        &kernels("cell_list --variant full_cells"),
        &["place", "arrange", "walk", "walk#2", "row_starts", "sort_rows", "reverse", "find_moved", "copy_kept"],
    );
    let linear = "fused_message --variant painn_linear_bessel_cosine_receiver";
    assert_eq!(kernels(linear), ["receiver"]);
    let first = kernels(&format!("{linear} --order 1"));
    has(&first, &["senders", "last_map", "add_parts"]);
    assert!(!first.iter().any(|kernel| kernel == "receivers" || kernel == "first_map"), "{first:?}");
    has(&kernels(&format!("{linear} --order 2")), &["receivers", "senders", "last_map", "add_parts"]);
    let gather = "force_scatter --variant gather";
    assert_eq!(kernels(gather), ["gather_forces", "strain_parts", "sum_parts"]);
    assert_eq!(kernels(&format!("{gather} --order 1")), ["spread"]);
    assert_eq!(
        kernels("force_scatter --variant atomic --order 2"),
        ["fill_words", "scatter_forces", "add_strain_parts", "spread"]
    );
    for (order, kernel) in ["norms", "first_gradients", "second_gradients"].into_iter().enumerate() {
        assert_eq!(kernels(&format!("vector_norm --variant channelwise --order {order}")), [kernel]);
    }
    let spirv = run(dir.path(), "inspect cell_list --variant half_brute --target vulkan --emit spirv --dtype f64");
    spirv.expect(0, &["; half_brute in f64 for vulkan1.3, kernel `walk`", "; SPIR-V", "kernel `sort_sent`"]);
}

#[test]
fn backwards_scatters_and_lists_are_counted() {
    let dir = folder();
    let json = |words: &str| {
        run(dir.path(), &format!("inspect {words} --target host --problem h2 --features 8 --n-basis 4 --json"))
            .expect(0, &[])
            .json()
    };
    // Two edges: 9 of geometry, 2 · 5 values of 16, 2 · 4 × 24 FMAs, 4 per channel.
    let backward = json("fused_message --variant painn_linear_bessel_cosine_receiver --order 1");
    assert_eq!(
        (&backward["order"], &backward["cost"]["filter_flops"]),
        (&1.into(), &(2 * (9 + 160 + 384 + 96)).into())
    );
    assert_eq!(backward["cost"]["weight_flops"], 2 * (2 * 4 * 24 + 2 * 24));
    assert_eq!(json("force_scatter --variant gather --order 2")["cost"]["flops"], 2 * 72);
    // Two atoms of eight channels, which read 3 + 1 + 3 numbers each and write 1 + 3.
    let norm = json("vector_norm --variant channelwise --order 2");
    assert_eq!((&norm["cost"]["flops"], &norm["compulsory_bytes"]), (&(16 * 24).into(), &(16 * 11 * 4).into()));
    let list = json("cell_list --variant full_cells");
    assert!(list["cost"].is_null(), "{list}");
    // Two atoms and two edges in one system, as in `ff_spec::cell_list::compulsory_bytes`.
    assert_eq!(list["compulsory_bytes"], 24 + 8 + 39 + 4 + 12 + 2 * 32);
    run(dir.path(), "inspect cell_list --variant full_cells --target host").expect(0, &["FLOPs are not counted"]);
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
