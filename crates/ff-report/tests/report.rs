//! Reports of real records: what `tune`, `bench`, `verify` and the tables of one host left, and of a software adapter.

use std::path::Path;

use ff_report::{Basis, Bench, Device, ECHARTS, ECHARTS_VERSION, Figure, FigureError, Over, Peak, Report, Sources};
use ff_spec::{Dtype, RuntimeKind};
use ff_tables::Table;
use ff_tune::{Record, Stage, Verdict, records};
use serde_json::Value;
use sha2::{Digest, Sha256};

const ALL: [Figure; 5] = [
    Figure::HeatMap,
    Figure::SpeedUp(Over::Default),
    Figure::SpeedUp(Over::Unfused),
    Figure::Roofline,
    Figure::BestSoFar,
];

fn fixture(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name);
    std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn real_records() -> Vec<Record> {
    let (records, torn) = records::parse(&fixture("records.jsonl"), Path::new("records.jsonl")).expect("records");
    assert_eq!(torn, None);
    records
}

fn sources() -> Sources {
    let name = "tables/host-amd-epyc-x86-v3-2t/fused_message.json";
    let text = String::from_utf8(fixture(name)).expect("text");
    let table = Table::parse(&text, Path::new(name)).expect("a table");
    Sources {
        records: real_records(),
        tables: vec![table],
        benches: vec![Bench::parse(&fixture("bench.json")).expect("a bench")],
        gates: vec![serde_json::from_slice(&fixture("verify.json")).expect("a gate")],
        forgefield: "0".to_owned(),
        ..Sources::default()
    }
}

fn no_peak(_: &Device) -> Option<Peak> {
    None
}

/// The document within a page.
fn document(page: &str) -> Value {
    let (_, rest) = page.split_once("id=\"data\">").expect("a document");
    let (text, _) = rest.split_once("</script>").expect("its end");
    serde_json::from_str(text).expect("JSON")
}

#[test]
fn real_records_become_a_page_that_loads_nothing() {
    let report = Report::new(sources(), no_peak);
    assert_eq!((report.searches.len(), report.devices.len()), (3, 2));
    let page = ff_report::page(&report);
    let document = document(&page);
    assert_eq!(document["searches"][1]["configs"].as_array().map(Vec::len), Some(48));
    for mark in ["STYLE", "DATA", "LIBRARY", "SCRIPT", "PANELS"] {
        assert!(!page.contains(&format!("/* {mark} */")), "{mark} is filled in");
    }
    // Outside of the library and the document, which hold texts that no browser follows.
    let own = page.replace(ECHARTS, "");
    for loads in ["src=", "href=", "url(", "@import", "fetch(", "http://", "https://"] {
        assert!(!own.contains(loads), "`{loads}` in the page");
    }
    assert_eq!(page.matches("</script").count(), 4, "document, library, scripts");
    assert_eq!(ff_report::page(&report), page, "the same report, the same bytes");
}

#[test]
fn what_a_record_says_stays_text() {
    let hostile = "</script><script>window.broken = 1</script><!-- /* SCRIPT */ \u{2028}";
    let mut sources = sources();
    for record in &mut sources.records {
        record.reason = Some(hostile.to_owned());
        record.problem.name = hostile.to_owned();
        record.device.name = hostile.to_owned();
        record.compiler = hostile.to_owned();
    }
    sources.warnings.push(hostile.to_owned());
    sources.files.push(hostile.to_owned());
    let report = Report::new(sources, no_peak);
    let page = ff_report::page(&report);
    assert_eq!(page.matches("</script").count(), 4);
    assert!(!page.contains("window.broken = 1</script>"));
    let document = document(&page);
    assert_eq!(document["warnings"][0], hostile);
    assert_eq!(document["searches"][0]["configs"][0]["reason"], hostile);
    for figure in [Figure::HeatMap, Figure::SpeedUp(Over::Default), Figure::BestSoFar] {
        let svg = ff_report::svg(&report, figure).expect("drawn");
        assert!(!svg.contains("<script"), "{figure:?}");
    }
}

#[test]
fn nothing_is_a_page_too_and_no_figure() {
    let report = Report::new(Sources::default(), no_peak);
    assert!(document(&ff_report::page(&report))["searches"].as_array().is_some_and(Vec::is_empty));
    for figure in ALL {
        assert!(matches!(ff_report::svg(&report, figure), Err(FigureError::Empty(_))), "{figure:?}");
    }
}

#[test]
fn software_adapters_make_no_claims() {
    let report = Report::new(sources(), no_peak);
    let software = |device: usize| report.devices[device].software;
    assert!(report.searches.iter().any(|search| software(search.subject.device)), "there is one to leave out");
    assert!(!report.speedups.is_empty() && report.speedups.iter().all(|bar| !software(bar.subject.device)));
    assert!(!report.points.is_empty() && report.points.iter().all(|point| !software(point.subject.device)));
    let mut all = sources();
    all.records.iter_mut().for_each(|record| record.device.software = true);
    all.tables.iter_mut().for_each(|table| table.device.software = true);
    all.benches.iter_mut().for_each(|bench| bench.device.software = true);
    let report = Report::new(all, no_peak);
    assert!(report.speedups.is_empty() && report.points.is_empty() && report.roofs.is_empty());
    // Its times are still shown where they are no claim, and labelled.
    let svg = ff_report::svg(&report, Figure::HeatMap).expect("drawn");
    assert!(svg.contains("a software adapter"));
    for figure in [Figure::SpeedUp(Over::Default), Figure::SpeedUp(Over::Unfused), Figure::Roofline] {
        assert!(matches!(ff_report::svg(&report, figure), Err(FigureError::Empty(_))), "{figure:?}");
    }
}

/// The tuner wrote table and records in one run, so a report has to come to what the table says.
#[test]
fn records_and_their_table_agree() {
    let sources = sources();
    let table = sources.tables[0].clone();
    let report = Report::new(sources, no_peak);
    let search = report.searches.iter().find(|s| s.subject.variant == "painn_linear_gaussian_cosine_receiver");
    let search = search.expect("recorded");
    let entry = table.entries().iter().find(|e| e.variant == search.subject.variant).expect("in the table");
    assert_eq!(search.chosen.map(|place| search.config(place)), Some(entry.config.to_string()));
    let bar = report.speedups.iter().find(|b| b.over == Over::Default && b.subject == search.subject).expect("a bar");
    assert_eq!((bar.basis, bar.default_stays), (Basis::Rounds, entry.default_median_ns == Some(entry.median_ns)));
    let unfused = report.speedups.iter().find(|b| b.over == Over::Unfused && b.subject == search.subject);
    assert_eq!(unfused.map(|b| b.ratio), entry.unfused_speedup());
}

/// A winner in every round is a winner; its ratio and spread are those of the rounds.
#[test]
fn what_beats_the_default_in_its_rounds_is_chosen() {
    let mut records: Vec<Record> =
        real_records().into_iter().filter(|r| r.stage == Stage::Final && r.variant == "full_brute").collect();
    assert!(records.len() > 1);
    let default = records[0].clone();
    let anchor = Record { stage: Stage::Anchor, ..default.clone() };
    for (i, record) in records.iter_mut().enumerate() {
        record.blocks = vec![1; 12];
        // The default takes 1,200 ns and the third 1,000 in every round, the second is ahead in half of them.
        record.samples_ns =
            (0..12).map(|round| [1200, [900, 1300][round % 2], 1000][i.min(2)] + round as u64).collect();
    }
    records.truncate(3);
    let winner = records[2].config.clone();
    records.insert(0, anchor);
    let report = Report::new(Sources { records: records.clone(), ..Sources::default() }, no_peak);
    let search = &report.searches[0];
    assert_eq!(search.chosen.map(|place| search.config(place)), Some(winner.to_string()));
    let bar = &report.speedups[0];
    assert!(!bar.default_stays && (bar.ratio - 1.2).abs() < 0.01, "{bar:?}");
    assert!(bar.low <= Some(bar.ratio) && bar.high >= Some(bar.ratio));
    // Without it nothing is told apart.
    records.pop();
    let report = Report::new(Sources { records, ..Sources::default() }, no_peak);
    assert!(report.speedups[0].default_stays && report.speedups[0].ratio == 1.0);
}

#[test]
fn maps_hold_every_configuration_once() {
    let report = Report::new(sources(), no_peak);
    for search in &report.searches {
        assert!(!search.maps.is_empty());
        for map in &search.maps {
            assert_eq!(map.cells.iter().map(|cell| cell.tried).sum::<usize>(), search.configs.len());
            let best = map.cells.iter().filter_map(|cell| search.configs[cell.best?].ratio).reduce(f64::min);
            assert_eq!(best, search.fastest.and_then(|place| search.configs[place].ratio));
            assert!(map.y.is_none_or(|y| search.parameters[map.x] < search.parameters[y]), "one way in every search");
            let slice = map.cells.iter().filter(|cell| cell.slice == search.fastest).count();
            assert_eq!(slice, 1, "the fastest lies in its own slice");
        }
        let bests: Vec<f64> = search.course.iter().filter_map(|step| step.best_ns).collect();
        assert!(bests.windows(2).all(|pair| pair[1] <= pair[0]));
        assert_eq!(search.course.len(), search.configs.len(), "one evaluation each");
    }
    // One parameter alone is a row.
    let row = report.searches.iter().find(|s| s.subject.variant == "full_brute").expect("recorded");
    assert_eq!((row.maps.len(), row.maps[0].y), (1, None));
}

/// The machine was twice as fast while one batch of the screening was timed, and the finals were timed when it was slow.
#[test]
fn what_was_eliminated_on_a_fast_machine_is_not_faster_than_the_fastest() {
    let family = |r: &Record| r.variant == "painn_linear_gaussian_cosine_receiver";
    let mut records: Vec<Record> = real_records().into_iter().filter(family).collect();
    let drifts = records.iter().rposition(|r| r.stage == Stage::Anchor).expect("a batch");
    for record in records[drifts..].iter_mut().filter(|r| r.stage != Stage::Final) {
        record.samples_ns.iter_mut().for_each(|ns| *ns /= 2);
    }
    let steady = Report::new(Sources { records: real_records(), ..Sources::default() }, no_peak);
    let steady = steady.searches.iter().find(|s| s.subject.variant == records[0].variant).expect("recorded");
    let report = Report::new(Sources { records, ..Sources::default() }, no_peak);
    let search = &report.searches[0];
    let fastest = &search.configs[search.fastest.expect("one passed")];
    assert_eq!((fastest.stage, fastest.ratio), (Stage::Final, Some(1.0)));
    assert!(search.configs.iter().any(|c| c.ns < fastest.ns && c.ns.is_some()), "there is one that looks faster");
    for (config, steady) in search.configs.iter().zip(&steady.configs) {
        let [ratio, steady] = [config, steady].map(|c| c.ratio.expect("timed"));
        assert!(ratio >= 1.0 && (ratio / steady - 1.0).abs() < 1e-3, "{ratio}, {steady} on a steady machine");
    }
    let svg = ff_report::svg(&report, Figure::HeatMap).expect("drawn");
    let tiles = svg.lines().filter_map(|line| line.trim_start_matches(|c| "★◆~ ".contains(c)).parse::<f64>().ok());
    assert!(svg.contains("~1.") && tiles.min_by(f64::total_cmp).is_some_and(|least| least >= 1.0), "{svg}");
}

#[test]
fn devices_of_one_name_are_told_apart() {
    let mut sources = sources();
    let mut other = sources.tables[0].clone();
    other.device.arch = "x86-v4".to_owned();
    other.device.slug = other.device.slug.replace("v3", "v4");
    sources.tables.push(other);
    let report = Report::new(sources, no_peak);
    let labels: Vec<String> = report.devices.iter().map(Device::label).collect();
    assert!(labels.contains(&"AMD EPYC (host, x86-v3)".to_owned()), "{labels:?}");
    assert!(labels.contains(&"AMD EPYC (host, x86-v4)".to_owned()), "{labels:?}");
    assert!(labels.iter().any(|label| label.ends_with("(vulkan)")), "no more than is needed: {labels:?}");
    let speed = ff_report::svg(&report, Figure::SpeedUp(Over::Unfused)).expect("drawn");
    for text in ["AMD EPYC (host, x86-v3)", "AMD EPYC (host, x86-v4)", "molecules, x86-v3", "molecules, x86-v4"] {
        assert!(speed.contains(text), "no `{text}`");
    }
}

/// A note explains what is drawn, and nothing else.
#[test]
fn notes_of_speed_ups_say_what_holds() {
    let only = |basis: Basis, stays: bool| {
        let mut report = Report::new(sources(), no_peak);
        report.speedups.retain(|bar| bar.over == Over::Default);
        for bar in &mut report.speedups {
            (bar.basis, bar.default_stays, bar.low, bar.high) =
                (basis, stays, Some(1.1), Some(if stays { 1.1 } else { 1.3 }));
        }
        ff_report::svg(&report, Figure::SpeedUp(Over::Default)).expect("drawn")
    };
    let rounds = only(Basis::Rounds, false);
    assert!(rounds.contains("quartiles over rounds") && !rounds.contains("of tables") && !rounds.contains("“default”"));
    let table = only(Basis::Table, false);
    assert!(table.contains("of tables") && !table.contains("quartiles over rounds"));
    let stays = only(Basis::Rounds, true);
    assert!(stays.contains("“default”: nothing") && !stays.contains("Whiskers"));
}

#[test]
fn a_configuration_that_failed_has_no_time() {
    let mut records = real_records();
    records.retain(|r| r.variant == "full_brute");
    for record in records.iter_mut().filter(|r| r.config.get("rows_per_task") == Some(64)) {
        record.verdict = Verdict::Correctness;
        record.reason = Some("NaN in the output".to_owned());
    }
    let report = Report::new(Sources { records, ..Sources::default() }, no_peak);
    let search = &report.searches[0];
    let cell = &search.maps[0].cells[0];
    assert_eq!((cell.tried, cell.timed, cell.best), (1, 0, None));
    assert_eq!(search.counts.get(&Verdict::Correctness), Some(&1));
    assert!(ff_report::svg(&report, Figure::HeatMap).expect("drawn").contains('✕'));
}

#[test]
fn roofs_are_measured_else_documented() {
    let report = Report::new(sources(), |_| panic!("the bench measured the only hardware"));
    let roof = report.roofs.iter().find(|roof| roof.dtype == Dtype::F32).expect("measured");
    assert!(roof.source.starts_with("measured"));
    // A kernel that is limited by what the bench measured stays under its roof, unless its data is in caches.
    let benched: Vec<_> = report.points.iter().filter(|point| point.label.starts_with("bench")).collect();
    assert_eq!(benched.len(), 4, "the four forward cases");
    assert!(benched.iter().all(|point| point.share.is_some_and(|share| share > 0.0 && share < 1.0)));

    let documented = |device: &Device| {
        assert_eq!(device.runtime, RuntimeKind::Host);
        Some(Peak { f32: 2e12, f64: 1e12, bytes: 1e11, source: "a datasheet".to_owned() })
    };
    let report = Report::new(Sources { benches: Vec::new(), ..sources() }, documented);
    assert_eq!(report.roofs.len(), 2);
    assert_eq!((report.roofs[0].at(1.0), report.roofs[0].at(1e3)), (1e11, 2e12));
}

#[test]
fn a_bench_of_another_schema_says_so() {
    let text = String::from_utf8(fixture("bench.json")).expect("text").replacen("\"schema\": 1", "\"schema\": 9", 1);
    let error = Bench::parse(text.as_bytes()).expect_err("another schema").to_string();
    assert_eq!(error, "schema version 9, expected 1");
    let error = Bench::parse(b"{\"schema\": 1}").expect_err("no bench").to_string();
    assert!(error.contains("missing field") && error.contains("forgefield bench"), "{error}");
}

#[test]
fn the_gate_is_summed_up_by_family() {
    let report = Report::new(sources(), no_peak);
    let sum = |pick: fn(&ff_report::Checked) -> usize| report.checked.iter().map(pick).sum::<usize>();
    assert_eq!((sum(|c| c.passed), sum(|c| c.failed), sum(|c| c.skipped)), (75, 0, 42));
    let skipped = report.checked.iter().find(|c| c.skipped > 0).expect("lists have no backward");
    assert_eq!((skipped.op.as_str(), skipped.order), ("cell_list", 1));
    assert_eq!(skipped.reasons, ["skipped: order 1 is not registered"]);
}

#[test]
fn figures_are_the_same_bytes_and_hold_what_they_show() {
    let report = Report::new(sources(), no_peak);
    for figure in ALL {
        let svg = ff_report::svg(&report, figure).expect("drawn");
        assert_eq!(ff_report::svg(&report, figure).expect("drawn"), svg, "{figure:?}");
        assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"), "{figure:?}");
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{figure:?}");
    }
    let svg = |figure| ff_report::svg(&report, figure).expect("drawn");
    let rects = |svg: &str| svg.matches("<rect").count();
    let heat = svg(Figure::HeatMap);
    let tiles: usize =
        report.searches.iter().map(|s| s.maps[0].cells.iter().filter(|c| c.best.is_some()).count()).sum();
    // Besides tiles there are the page and the 32 steps of the scale.
    assert_eq!(rects(&heat), tiles + 33);
    assert_eq!(heat.matches('★').count(), report.searches.len() + 1, "one in each panel and one in the note");
    for text in ["painn_linear_receiver, f32", "molecules on AMD EPYC (host)", "a software adapter", "edges_per_task"] {
        assert!(heat.contains(text), "no `{text}`");
    }
    let bars = report.speedups.iter().filter(|bar| bar.over == Over::Unfused).count();
    let speed = svg(Figure::SpeedUp(Over::Unfused));
    assert_eq!(rects(&speed), bars + 2, "bars, the page, a legend");
    assert!(speed.contains("painn_linear_receiver, f32, molecules"));
    let roof = svg(Figure::Roofline);
    assert!(roof.contains("FLOP per compulsory byte") && roof.contains("measured by"));
    let in_f32 = report.points.iter().filter(|point| point.subject.dtype == Dtype::F32).count();
    assert_eq!(roof.matches("<circle").count(), in_f32);
    assert!(svg(Figure::BestSoFar).contains("best so far / best of all"));
}

/// The library is what its package has, to the byte. `experiments/report/library` compares it with the registry's.
#[test]
fn the_charting_library_is_that_of_its_package() {
    let hash: String = Sha256::digest(ECHARTS).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hash, "b66b25aeb4df84e33199dc21694014d336d222cbd9deb0e5a7c14bd6aa0d0fd0");
    assert!(ECHARTS.contains(&format!("\"{ECHARTS_VERSION}\"")), "the version that it says of itself");
    assert!(ECHARTS.contains("Apache License, Version 2.0") && !ECHARTS.contains("</script"));
}
