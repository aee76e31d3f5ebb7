//! The static gate's own tests.

use ff_spec::fused_message::Variant;

use super::*;
use crate::ops;

fn row(registers: u32, spill_bytes: u32) -> Row {
    Row { registers, shared: 0, blocks_per_sm: 1, occupancy: 0.5, spill_bytes, stack_bytes: 0 }
}

fn table(nvrtc: &str, rows: &[(&str, Row)]) -> Table {
    let kernels = rows.iter().map(|(key, row)| ((*key).to_owned(), row.clone())).collect();
    Table { schema: SCHEMA_VERSION, op: "fused_message".to_owned(), nvrtc: nvrtc.to_owned(), kernels }
}

fn judged(table: &Table, found: &[(&str, Row)]) -> (usize, usize, bool) {
    let found = found.iter().map(|(key, row)| ((*key).to_owned(), row.clone())).collect();
    let mut report = Report::default();
    judge(table, &found, "13.2", &mut report);
    (report.spills.len(), report.differences.len(), report.unjudged.is_some())
}

#[test]
fn a_table_is_judged_by_its_own_nvrtc() {
    let same = table("13.2", &[("a", row(40, 0)), ("b", row(255, 16))]);
    assert_eq!(judged(&same, &[("a", row(40, 0)), ("b", row(255, 16))]), (0, 0, false));
    assert_eq!(judged(&same, &[("a", row(41, 0)), ("b", row(255, 24))]), (1, 2, false));
    assert_eq!(judged(&same, &[("a", row(40, 0)), ("c", row(40, 8))]), (1, 2, false));
    let other = table("12.9", &[("a", row(40, 0)), ("b", row(255, 16))]);
    assert_eq!(judged(&other, &[("a", row(99, 0)), ("b", row(255, 24))]), (1, 0, true));
}

#[test]
fn tables_survive_being_written() {
    let before = table("13.2", &[("a", row(40, 0)), ("b", row(255, 16))]);
    let text = render(&before).unwrap_or_else(|e| panic!("{}", e.message));
    assert_eq!(text.lines().filter(|line| line.contains("registers")).count(), 2, "one line each: {text}");
    let after: Table = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"));
    assert_eq!(after.kernels, before.kernels);
}

#[test]
fn corners_are_the_ends_of_each_parameter() {
    let mut seen = 0;
    for op in ops::ALL {
        let spaces = op.spaces().unwrap_or_else(|e| panic!("{}", e.message));
        for subject in subjects_of(op.name()).iter().filter(|s| s.order() == 0 && op.has_corners(s.id, 0, Dtype::F32)) {
            let space = spaces.get(SpaceTarget::Cube, subject.part(), 0).unwrap_or_else(|e| panic!("{e}"));
            let found = corners(space, space.defaults());
            // Two for each parameter and two for all, less those that the defaults are.
            assert!(found.len() > space.parameters().len() && found.len() <= 2 * space.parameters().len() + 2);
            assert!(!found.contains(space.defaults()));
            seen += 1;
        }
    }
    // Four lists; of messages three pairs of radial functions, two filters, two messages and two reductions, and their tables; a
    // fourth pair for each message under one filter.
    assert!(seen >= 4 + 3 * 8 + 4 + 2, "messages and lists have corners, found {seen}");
}

/// Every variant of an op in every order.
fn subjects_of(op: &str) -> Vec<Subject> {
    Subject::all(op).unwrap_or_else(|e| panic!("{}", e.message))
}

/// Jobs of an op's subjects that satisfy a condition.
fn jobs_of(op: &str, of: impl Fn(&Subject) -> bool) -> Vec<CompileJob> {
    let subjects: Vec<Subject> = subjects_of(op).into_iter().filter(of).collect();
    jobs(&subjects).unwrap_or_else(|e| panic!("{}", e.message))
}

#[test]
fn lists_scatters_and_norms_are_compiled_in_every_order() {
    for (op, expected) in [
        ("cell_list", ["full_cells f32 sm_80 ", "half_brute f64 sm_90 ", "full_brute f64 sm_80 "]),
        ("force_scatter", ["gather f32 sm_80 ", "gather order 1 f64 sm_90 ", "atomic order 2 f32 sm_80 "]),
        ("vector_norm", ["channelwise f32 sm_80 ", "channelwise order 1 f64 sm_90 ", "channelwise order 2 f32 sm_80 "]),
    ] {
        let jobs = jobs_of(op, |_| true);
        for start in expected {
            assert!(jobs.iter().any(|job| job.key.starts_with(start)), "no {start}");
        }
        let keys: BTreeSet<&String> = jobs.iter().map(|job| &job.key).collect();
        assert_eq!(keys.len(), jobs.len(), "a key for each");
        for (a, b) in jobs.iter().zip(&jobs_of(op, |_| true)) {
            assert_eq!((&a.key, &a.kernel), (&b.key, &b.kernel), "one definition has one text");
        }
    }
    let list = jobs_of("cell_list", |subject| subject.id == "half_cells");
    for kernel in [
        "place",
        "arrange",
        "walk",
        "walk#2",
        "sort_rows",
        "count_sent",
        "sort_sent",
        "scan_tiles",
        "add_sums",
        "find_moved",
    ] {
        assert!(list.iter().any(|job| job.key.ends_with(&format!(": {kernel}"))), "no {kernel}");
    }
}

#[test]
fn every_radial_function_is_in_a_backward_that_is_compiled() {
    let names = |of: &dyn Fn(&Subject) -> bool| -> BTreeSet<String> {
        let subjects = subjects_of("fused_message").into_iter().filter(|subject| of(subject));
        let radial = subjects.filter_map(|subject| subject.id.parse::<Variant>().ok()?.radial);
        radial.flat_map(|(basis, cutoff)| [basis, cutoff]).collect()
    };
    for order in 1..=2 {
        assert_eq!(names(&|s| s.order() == order && is_gated(s)), names(&|s| s.order() == order), "order {order}");
    }
}

#[test]
fn every_radial_function_is_compiled_at_corners() {
    let of = |dtype| -> BTreeSet<String> {
        let subjects = subjects_of("fused_message")
            .into_iter()
            .filter(|subject| subject.op.has_corners(subject.id, subject.order(), dtype));
        let radial = subjects.filter_map(|subject| subject.id.parse::<Variant>().ok()?.radial);
        radial.flat_map(|(basis, cutoff)| [basis, cutoff]).collect()
    };
    let all = ["bessel", "cosine", "expnorm", "gaussian", "mollifier", "polynomial"].map(str::to_owned);
    assert_eq!((of(Dtype::F32), of(Dtype::F64)), (BTreeSet::from(all), BTreeSet::new()));
}

#[test]
fn every_message_is_compiled_in_every_order() {
    let jobs = jobs_of("fused_message", |subject| subject.order() == 0);
    for subject in subjects_of("fused_message").iter().filter(|subject| subject.order() == 0) {
        for what in ["f32 sm_80", "f32 sm_90", "f64 sm_80", "f64 sm_90"] {
            let start = format!("{} {what} ", subject.name());
            assert!(jobs.iter().any(|job| job.key.starts_with(&start)), "no {start}");
        }
    }
    let of_one = |order: u8| {
        let id = "painn_mlp_bessel_cosine_receiver";
        jobs_of("fused_message", move |subject| subject.id == id && subject.order() == order)
    };
    let again = of_one(0);
    for a in &again {
        let b = jobs.iter().find(|job| job.key == a.key).unwrap_or_else(|| panic!("no {}", a.key));
        assert_eq!(a.kernel, b.kernel, "one definition has one text");
    }
    let kernels = |order| -> BTreeSet<String> { of_one(order).into_iter().map(|job| job.kernel.name).collect() };
    let (first, second) = (kernels(1), kernels(2));
    for kernel in ["senders", "last_map", "first_map", "add_parts"] {
        assert!(first.contains(kernel) && second.contains(kernel), "{kernel}: {first:?}, {second:?}");
    }
    assert!(second.contains("receivers") && !first.contains("receivers"), "{first:?}, {second:?}");
}
