//! JUnit XML, as CI systems read it.

use std::collections::BTreeMap;

use ff_testkit::gate::{GateRow, GateSummary};
use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};

use crate::failure::{Failure, Result};

/// One suite per op, runtime and dtype, one case per row; unsupported rows count as skipped.
///
/// # Errors
/// Where it cannot be written as XML.
pub fn xml(summary: &GateSummary) -> Result<String> {
    let mut suites: BTreeMap<String, Vec<&GateRow>> = BTreeMap::new();
    for row in &summary.cases {
        suites.entry(format!("{}.{}.{}", row.op, row.runtime, row.dtype)).or_default().push(row);
    }
    let mut report = Report::new("forgefield verify");
    for (name, rows) in suites {
        let mut suite = TestSuite::new(name.as_str());
        suite.add_test_cases(rows.into_iter().map(|row| {
            let mut case = TestCase::new(
                format!("{} order {} {} seed {}", row.variant, row.order, row.case, row.seed),
                status(row),
            );
            case.set_classname(name.as_str());
            case
        }));
        report.add_test_suite(suite);
    }
    report.to_string().map_err(|e| Failure::fault(format!("cannot write JUnit XML: {e}")))
}

fn status(row: &GateRow) -> TestCaseStatus {
    let reason = row.reason.as_deref().unwrap_or_default();
    let (mut status, message) = match row.verdict.as_str() {
        "passed" => return TestCaseStatus::success(),
        "failed" => (TestCaseStatus::non_success(NonSuccessKind::Failure), reason.to_owned()),
        verdict => (TestCaseStatus::skipped(), format!("{verdict}: {reason}")),
    };
    status.set_message(message);
    status
}

#[cfg(test)]
mod tests {
    use ff_spec::{Dtype, RuntimeKind};

    use super::*;

    #[test]
    fn rows_can_be_read_back() {
        let row = |variant: &str, dtype, verdict: &str, reason: Option<&str>| GateRow {
            op: "fused_message".to_owned(),
            variant: variant.to_owned(),
            runtime: RuntimeKind::Host,
            dtype,
            order: 1,
            case: "a < b".to_owned(),
            seed: 7,
            verdict: verdict.to_owned(),
            reason: reason.map(str::to_owned),
            rel_error: None,
            max_abs_error: None,
        };
        let cases = vec![
            row("one", Dtype::F64, "passed", None),
            row("two", Dtype::F32, "failed", Some("x<y> & \"z\"\n\u{1b}[0m")),
            row("three", Dtype::F32, "unsupported", Some("no f64")),
            row("four", Dtype::F32, "skipped", None),
        ];
        let text = xml(&GateSummary { cases, ..GateSummary::default() }).unwrap_or_else(|e| panic!("{}", e.message));
        let report = Report::deserialize_from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"));
        assert_eq!((report.tests, report.failures, report.errors), (4, 1, 0), "{text}");
        let names: Vec<&str> = report.test_suites.iter().map(|suite| suite.name.as_str()).collect();
        assert_eq!(names, ["fused_message.host.f32", "fused_message.host.f64"]);
        let suite = &report.test_suites[0];
        assert_eq!((suite.tests, suite.failures, suite.skipped), (3, 1, 2));
        assert_eq!(suite.test_cases[0].name.as_str(), "two order 1 a < b seed 7");
        let message = |case: &TestCase| match &case.status {
            TestCaseStatus::Success { .. } => None,
            TestCaseStatus::NonSuccess { message, .. } | TestCaseStatus::Skipped { message, .. } => {
                message.as_ref().map(|message| message.as_str().to_owned())
            }
        };
        let failed = message(&suite.test_cases[0]).expect("a reason");
        assert!(failed.starts_with("x<y> & \"z\"") && !failed.contains('\u{1b}'), "{failed}");
        assert_eq!(message(&suite.test_cases[1]).as_deref(), Some("unsupported: no f64"));
    }
}
