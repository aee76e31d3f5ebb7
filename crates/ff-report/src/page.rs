//! The page: a frame, a charting library, a script and the document, in one text.

use crate::report::Report;

/// Apache ECharts as its npm package `echarts` ships it: `dist/echarts.min.js`, under Apache-2.0 (`assets/echarts/LICENSE`).
pub const ECHARTS: &str = include_str!("../assets/echarts/echarts.min.js");

/// The version of that package.
pub const ECHARTS_VERSION: &str = "6.1.0";

const FRAME: &str = include_str!("../assets/page.html");
const STYLE: &str = include_str!("../assets/page.css");
const SCRIPT: &str = include_str!("../assets/page.js");
const PANELS: &str = include_str!("../assets/panels.js");

/// The whole page: HTML that loads nothing.
pub fn page(report: &Report) -> String {
    let data = embedded(report);
    let parts = [
        ("/* STYLE */", STYLE),
        ("/* DATA */", &data),
        ("/* LIBRARY */", ECHARTS),
        ("/* SCRIPT */", SCRIPT),
        ("/* PANELS */", PANELS),
    ];
    let (mut page, mut rest) = (String::new(), FRAME);
    // In the order of the frame, so that no part is looked for within another.
    for (mark, part) in parts {
        if let Some((before, after)) = rest.split_once(mark) {
            page.push_str(before);
            page.push_str(part);
            rest = after;
        }
    }
    page + rest
}

/// The document as JSON that may stand within a script element.
fn embedded(report: &Report) -> String {
    // Its only maps have names of verdicts as keys, and numbers that are not finite become null: nothing can fail.
    let text = serde_json::to_string(report).unwrap_or_default();
    // Within a script element HTML ends and opens things at `<` alone, and in JSON that can only stand in a string.
    text.replace('<', "\\u003c")
}
