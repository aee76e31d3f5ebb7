//! Metrics of a run, for those that follow them over time.

use ff_tune::Recorded;
use ff_tune::replay::Quartiles;
use serde_json::{Map, Value, json};

use crate::ExportError;

/// The best of every search in Bencher's metric format, ns: its median with the quartiles of its samples, under
/// `variant/dtype/problem/device`. Of several searches with one name the last counts. A search in which nothing passed has
/// no line: a failure is never a 0.
///
/// # Errors
/// [`ExportError::NothingPassed`].
pub fn bencher(searches: &[Recorded]) -> Result<String, ExportError> {
    let mut metrics: Map<String, Value> = Map::new();
    for search in searches {
        let Some((config, _)) = search.best() else { continue };
        let samples = search.results[config].samples_ns.iter().map(|ns| *ns as f64);
        let Some(Quartiles { lower, median, upper }) = Quartiles::of(samples.collect()) else { continue };
        let Recorded { dtype, problem, device, .. } = search;
        let name = format!("{}/{dtype}/{}/{}", search.kernel(), problem.name, device.slug);
        let latency = json!({ "value": median, "lower_value": lower, "upper_value": upper });
        metrics.insert(name, json!({ "latency": latency }));
    }
    if metrics.is_empty() {
        return Err(ExportError::NothingPassed);
    }
    let text = serde_json::to_string_pretty(&Value::Object(metrics));
    text.map(|text| text + "\n").map_err(|e| ExportError::Writer { format: "Bencher metrics", reason: e.to_string() })
}

#[cfg(test)]
mod tests {
    use ff_tune::Verdict;

    use super::*;
    use crate::testing::records;

    #[test]
    fn the_best_of_every_search_and_no_failures() {
        let mut all = records();
        let mut failed = all[0].clone();
        failed.problem.name = "water-512".to_owned();
        failed.verdict = Verdict::Runtime;
        all.push(failed.clone());
        let text = bencher(&Recorded::of(&all)).expect("one passed");
        let metrics: Value = serde_json::from_str(&text).expect("JSON");
        let name = "painn_linear_gaussian_cosine_receiver/f32/water-64/fake";
        assert_eq!(metrics, json!({ name: { "latency": { "value": 2.0, "lower_value": 2.0, "upper_value": 3.0 } } }));
        assert!(matches!(bencher(&Recorded::of(&[failed])), Err(ExportError::NothingPassed)));
    }
}
