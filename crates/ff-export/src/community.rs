//! The two formats that other auto-tuners read.

use ff_tune::measure::Timing;
use ff_tune::{Points, Record, Recorded, Times, Verdict};
use serde_json::{Map, Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::ExportError;

const NS_PER_MS: f64 = 1e6;

/// A cache file of Kernel Tuner. `problem_size` is atoms, edges and features.
///
/// A configuration that was eliminated has the time of the samples it got. Records of earlier versions do not say what they
/// took: there `benchmark_time` is the sum of the samples, and times of compilation, verification, strategy and framework
/// are 0.
///
/// # Errors
/// [`ExportError`].
pub fn kernel_tuner(search: &Recorded) -> Result<String, ExportError> {
    let points = points(search)?;
    let parameters: Map<String, Value> = points.parameters().map(|(name, v)| (name.to_owned(), json!(v))).collect();
    let keys: Vec<&String> = parameters.keys().collect();
    let problem = &search.problem;
    let head = json!({
        "device_name": search.device.name,
        "kernel_name": format!("{}_{}", search.kernel(), search.dtype),
        "problem_size": [problem.n_atoms, problem.n_edges, problem.features],
        "tune_params_keys": keys,
        "tune_params": parameters,
        // A list, as newer versions write it, is not what readers of the format expect.
        "objective": "time",
    });
    let mut text = serde_json::to_string_pretty(&head).map_err(|e| writer("Kernel Tuner's cache", e))?;
    // Its reader knows a whole file by the two braces at its end, each on a line of its own.
    text.truncate(text.trim_end_matches(['}', '\n']).len());
    text.push_str(",\n\"cache\": {");
    for (place, record) in search.results.values().enumerate() {
        let key: Vec<String> = record.config.0.values().map(u32::to_string).collect();
        let entry = serde_json::to_string(&cached(record)?).map_err(|e| writer("Kernel Tuner's cache", e))?;
        let comma = if place == 0 { "" } else { "," };
        text.push_str(&format!("{comma}\n\"{}\": {entry}", key.join(",")));
    }
    text.push_str("}\n}");
    Ok(text)
}

/// One line of a cache.
fn cached(record: &Record) -> Result<Map<String, Value>, ExportError> {
    let mut entry: Map<String, Value> = record.config.0.iter().map(|(name, v)| (name.clone(), json!(v))).collect();
    let error = match record.verdict {
        Verdict::Correct | Verdict::Eliminated => None,
        Verdict::Constraint => Some("InvalidConfig"),
        Verdict::Compile => Some("CompilationFailedConfig"),
        // There is no fourth word.
        Verdict::Runtime | Verdict::Timeout | Verdict::Correctness => Some("RuntimeFailedConfig"),
    };
    match (Timing::of(&record.samples_ns), error) {
        (Some(timing), None) => {
            entry.insert("time".to_owned(), json!(timing.median_ns / NS_PER_MS));
            entry.insert("times".to_owned(), json!(milliseconds(record)));
        }
        (_, error) => {
            let error = error.unwrap_or("RuntimeFailedConfig");
            entry.insert("__error__".to_owned(), json!(error));
            entry.insert("time".to_owned(), json!(error));
        }
    }
    let times = times(record);
    for (name, ns) in [
        ("compile_time", times.compile_ns),
        ("verification_time", times.gate_ns),
        ("benchmark_time", times.benchmark_ns),
        ("strategy_time", times.strategy_ns),
        ("framework_time", times.framework_ns),
    ] {
        entry.insert(name.to_owned(), json!(ns as f64 / NS_PER_MS));
    }
    entry.insert("timestamp".to_owned(), json!(timestamp(record)?));
    Ok(entry)
}

/// Results in the T4 schema.
///
/// `correctness` is 1 where the gate passed and 0 where it did not or could not run. What was not timed has no measurement of
/// a time.
///
/// # Errors
/// [`ExportError`].
pub fn t4(search: &Recorded) -> Result<String, ExportError> {
    points(search)?;
    let results: Result<Vec<Value>, ExportError> = search.results.values().map(result).collect();
    let document = json!({
        "schema_version": "1.0.0",
        "metadata": { "timeunit": "milliseconds" },
        "results": results?,
    });
    serde_json::to_string_pretty(&document).map(|text| text + "\n").map_err(|e| writer("T4", e))
}

fn result(record: &Record) -> Result<Value, ExportError> {
    let invalidity = match record.verdict {
        Verdict::Correct | Verdict::Eliminated => "correct",
        Verdict::Constraint => "constraints",
        Verdict::Compile => "compile",
        Verdict::Runtime => "runtime",
        Verdict::Timeout => "timeout",
        Verdict::Correctness => "correctness",
    };
    let mut measurements = Vec::new();
    if let Some(timing) = Timing::of(&record.samples_ns).filter(|_| invalidity == "correct") {
        measurements.push(json!({ "name": "time", "value": timing.median_ns / NS_PER_MS, "unit": "ms" }));
        measurements.push(json!({ "name": "spread", "value": timing.spread_ns / NS_PER_MS, "unit": "ms" }));
    }
    if let Some(evidence) = record.evidence.as_ref().filter(|e| e.rel_error.is_finite()) {
        measurements.push(json!({ "name": "relative_error", "value": evidence.rel_error, "unit": "" }));
    }
    if let Some(reason) = &record.reason {
        measurements.push(json!({ "name": "reason", "value": reason, "unit": "" }));
    }
    let times = times(record);
    let gated = record.evidence.is_some() && record.verdict != Verdict::Correctness;
    Ok(json!({
        "timestamp": timestamp(record)?,
        "configuration": record.config,
        "objectives": ["time"],
        "times": {
            "compilation_time": times.compile_ns as f64 / NS_PER_MS,
            "runtimes": milliseconds(record),
            "framework": times.framework_ns as f64 / NS_PER_MS,
            "search_algorithm": times.strategy_ns as f64 / NS_PER_MS,
            "validation": times.gate_ns as f64 / NS_PER_MS,
        },
        "invalidity": invalidity,
        "correctness": if gated { 1.0 } else { 0.0 },
        "measurements": measurements,
    }))
}

/// The grid of a search; one cache holds configurations with the same parameters.
fn points(search: &Recorded) -> Result<Points, ExportError> {
    let configs: Vec<_> = search.results.keys().cloned().collect();
    if configs.is_empty() {
        return Err(ExportError::Empty);
    }
    Points::of(&configs).map_err(|reason| ExportError::Parameters {
        search: format!("{} {} on `{}`", search.kernel(), search.dtype, search.problem.name),
        reason,
    })
}

/// What a record took; of one that does not say, what its samples took.
fn times(record: &Record) -> Times {
    let samples = || Times { benchmark_ns: record.samples_ns.iter().sum(), ..Times::default() };
    record.times.unwrap_or_else(samples)
}

fn milliseconds(record: &Record) -> Vec<f64> {
    record.samples_ns.iter().map(|ns| *ns as f64 / NS_PER_MS).collect()
}

fn timestamp(record: &Record) -> Result<String, ExportError> {
    let date = i64::try_from(record.unix_time).ok().and_then(|s| OffsetDateTime::from_unix_timestamp(s).ok());
    let text = date.and_then(|date| date.format(&Rfc3339).ok());
    text.ok_or(ExportError::Date { unix_time: record.unix_time })
}

fn writer(format: &'static str, error: impl ToString) -> ExportError {
    ExportError::Writer { format, reason: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::records;

    #[test]
    fn a_cache_says_what_the_records_say() {
        let search = &Recorded::of(&records())[0];
        let text = kernel_tuner(search).expect("fits");
        assert!(text.ends_with("}\n}"), "its reader looks for these bytes");
        let cache: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(cache["objective"], "time");
        assert_eq!(cache["tune_params_keys"], json!(["edges_per_task", "unroll"]));
        assert_eq!(cache["tune_params"], json!({ "edges_per_task": [128, 512], "unroll": [1, 2, 4] }));
        assert_eq!(cache["problem_size"], json!([64, 3200, 128]));
        let entries = cache["cache"].as_object().expect("entries");
        assert_eq!(entries.len(), search.results.len());
        for (key, entry) in entries {
            let config =
                search.results.keys().find(|c| c.0.values().map(u32::to_string).collect::<Vec<_>>().join(",") == *key);
            let record = &search.results[config.expect("one of them")];
            match record.verdict {
                Verdict::Correct | Verdict::Eliminated => {
                    let ms = entry["time"].as_f64().expect("a time");
                    assert_eq!(Some(ms * 1e6), search.time_ns(&record.config));
                    assert_eq!(entry["times"].as_array().map(Vec::len), Some(record.samples_ns.len()));
                    assert!(entry.get("__error__").is_none());
                }
                _ => assert!(entry["time"].is_string() && entry["time"] == entry["__error__"], "{entry}"),
            }
        }
        assert_eq!(entries["512,4"]["time"], "RuntimeFailedConfig", "a wrong result");
        assert_eq!(entries["128,4"]["time"], "InvalidConfig");
        assert_eq!(entries["128,1"]["time"], json!(2e-6), "of the final");
        assert_eq!(entries["128,1"]["timestamp"], "1970-01-01T00:00:01Z");
        let of = |key: &str| {
            ["compile", "verification", "benchmark", "strategy", "framework"]
                .map(|name| entries[key][format!("{name}_time")].as_f64().expect("a time"))
        };
        assert_eq!(of("512,4"), [1.0, 2.0, 3.0, 4.0, 5.0]);
        assert_eq!(of("128,1"), [0.0, 0.0, 8e-6, 0.0, 0.0], "a record of an earlier version: 2, 2 and 4 ns");
    }

    #[test]
    fn t4_has_a_word_for_every_verdict() {
        let search = &Recorded::of(&records())[0];
        let document: Value = serde_json::from_str(&t4(search).expect("fits")).expect("JSON");
        assert_eq!(
            (&document["schema_version"], &document["metadata"]["timeunit"]),
            (&json!("1.0.0"), &json!("milliseconds"))
        );
        let of = |edges: u32, unroll: u32| {
            let results = document["results"].as_array().expect("results");
            let config = json!({ "edges_per_task": edges, "unroll": unroll });
            results.iter().find(|r| r["configuration"] == config).expect("there").clone()
        };
        let times = &of(512, 4)["times"];
        let of_times = |name: &str| times[name].as_f64().expect("a time");
        let found = ["compilation_time", "validation", "search_algorithm", "framework"].map(of_times);
        assert_eq!(found, [1.0, 2.0, 4.0, 5.0]);
        let (best, wrong, refused) = (of(128, 1), of(512, 4), of(128, 4));
        assert_eq!((&best["invalidity"], &best["correctness"]), (&json!("correct"), &json!(1.0)));
        assert_eq!(best["measurements"][0], json!({ "name": "time", "value": 2e-6, "unit": "ms" }));
        assert_eq!((&wrong["invalidity"], &wrong["correctness"]), (&json!("correctness"), &json!(0.0)));
        assert_eq!((&refused["invalidity"], &refused["correctness"]), (&json!("constraints"), &json!(0.0)));
        let timed = |r: &Value| r["measurements"].as_array().expect("a list").iter().any(|m| m["name"] == "time");
        assert!(timed(&best) && !timed(&wrong) && !timed(&refused), "a failure has no time");
    }

    #[test]
    fn other_parameters_are_refused() {
        let mut records = records();
        records[1].config.0.insert("another".to_owned(), 1);
        let search = &Recorded::of(&records)[0];
        assert!(matches!(kernel_tuner(search), Err(ExportError::Parameters { .. })));
        let error = t4(search).expect_err("refused").to_string();
        assert!(error.contains("painn_linear_gaussian_cosine_receiver f32 on `water-64`"), "{error}");
    }
}
