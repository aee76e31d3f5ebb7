//! Records of one search with every kind of end.

use ff_spec::{Atomics, Clock, DeviceId, Dtype, LaunchConfig, Limits, Problem, RuntimeKind, SCHEMA_VERSION};
use ff_tables::Evidence;
use ff_tune::{Record, Stage, Times, Verdict};

pub(crate) fn records() -> Vec<Record> {
    let device = DeviceId {
        runtime: RuntimeKind::Host,
        name: "Fake host".to_owned(),
        slug: "fake".to_owned(),
        arch: "fake".to_owned(),
        driver: String::new(),
        software: false,
        threads: 2,
        limits: Limits { max_units_per_cube: 8, shared_memory: 32768, plane_size: 32 },
        atomics: Atomics { f32_add: true, f64_add: false },
        f64: true,
    };
    let name = "water-64".to_owned();
    let problem =
        Problem { name, n_atoms: 64, n_edges: 3200, max_degree: 60, features: 128, n_basis: 20, ..Problem::default() };
    let record = |edges: u32, unroll: u32, stage, samples_ns: Vec<u64>, verdict, reason: Option<&str>| Record {
        schema: SCHEMA_VERSION,
        op: "fused_message".to_owned(),
        order: 0,
        variant: "painn_linear_gaussian_cosine_receiver".to_owned(),
        kernel_hash: "abc".to_owned(),
        config: LaunchConfig::from([("edges_per_task", edges), ("unroll", unroll)]),
        problem: problem.clone(),
        dtype: Dtype::F32,
        device: device.clone(),
        compiler: "rustc".to_owned(),
        clock: Clock::Wall,
        stage,
        blocks: if samples_ns.is_empty() { Vec::new() } else { vec![1, samples_ns.len() as u32 - 1] },
        evidence: (verdict != Verdict::Constraint && verdict != Verdict::Compile).then(|| Evidence {
            rel_error: 1e-7,
            max_abs_error: 1e-6,
            cases: 3,
            seeds: vec![1, 2, 3],
        }),
        samples_ns,
        verdict,
        reason: reason.map(str::to_owned),
        // Ms, so that they are told apart; the others are of an earlier version.
        times: (edges == 512 && unroll == 4).then_some(Times {
            compile_ns: 1_000_000,
            gate_ns: 2_000_000,
            benchmark_ns: 3_000_000,
            strategy_ns: 4_000_000,
            framework_ns: 5_000_000,
        }),
        seed: 7,
        unix_time: 1,
    };
    vec![
        record(128, 1, Stage::Screen, vec![5, 5, 6], Verdict::Correct, None),
        record(128, 2, Stage::Screen, vec![9, 9, 9], Verdict::Eliminated, Some("best of 3 samples is 1.8 times")),
        record(128, 4, Stage::Screen, vec![], Verdict::Constraint, Some("too many units, \"quoted\"")),
        record(512, 1, Stage::Screen, vec![], Verdict::Compile, Some("expected `;`")),
        record(512, 2, Stage::Screen, vec![90], Verdict::Timeout, Some("one run took 90 ns")),
        record(512, 4, Stage::Screen, vec![4, 4], Verdict::Correctness, Some("after timing: found 0, expected 1")),
        record(128, 1, Stage::Anchor, vec![5, 7], Verdict::Correct, None),
        record(128, 1, Stage::Final, vec![2, 2, 4], Verdict::Correct, None),
    ]
}
