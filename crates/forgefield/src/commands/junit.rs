//! JUnit XML, as CI systems read it.

use std::collections::BTreeMap;
use std::fmt::Write;

use ff_testkit::gate::{GateRow, GateSummary};

/// One suite per runtime and dtype, one case per row; unsupported rows count as skipped.
pub fn xml(summary: &GateSummary) -> String {
    let mut suites: BTreeMap<String, Vec<&GateRow>> = BTreeMap::new();
    for row in &summary.cases {
        suites.entry(format!("{}.{}.{}", row.op, row.runtime, row.dtype)).or_default().push(row);
    }
    let GateSummary { failed, skipped, unsupported, cases, .. } = summary;
    let mut text = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    // Writing to a String does not fail.
    let _ = writeln!(
        text,
        "<testsuites name=\"forgefield verify\" tests=\"{}\" failures=\"{failed}\" skipped=\"{}\" errors=\"0\">",
        cases.len(),
        skipped + unsupported
    );
    for (name, rows) in suites {
        let count = |verdict: &str| rows.iter().filter(|r| r.verdict == verdict).count();
        let _ = writeln!(
            text,
            "  <testsuite name=\"{}\" tests=\"{}\" failures=\"{}\" skipped=\"{}\" errors=\"0\">",
            escaped(&name),
            rows.len(),
            count("failed"),
            count("skipped") + count("unsupported")
        );
        for row in rows {
            let case = format!("{} order {} {} seed {}", row.variant, row.order, row.case, row.seed);
            let _ = write!(text, "    <testcase classname=\"{}\" name=\"{}\"", escaped(&name), escaped(&case));
            let reason = escaped(row.reason.as_deref().unwrap_or_default());
            let _ = match row.verdict.as_str() {
                "passed" => writeln!(text, "/>"),
                "failed" => writeln!(text, "><failure message=\"{reason}\"/></testcase>"),
                verdict => writeln!(text, "><skipped message=\"{verdict}: {reason}\"/></testcase>"),
            };
        }
        text.push_str("  </testsuite>\n");
    }
    text.push_str("</testsuites>\n");
    text
}

/// Text as an attribute value; what XML cannot hold becomes a replacement character.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\n' => out.push_str("&#10;"),
            '\t' => out.push_str("&#9;"),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::escaped;

    #[test]
    fn attributes_are_escaped() {
        assert_eq!(escaped("a<b> & \"c\"\n\u{1b}"), "a&lt;b&gt; &amp; &quot;c&quot;&#10;\u{fffd}");
    }
}
