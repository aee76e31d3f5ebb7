//! The committed hashes of emitted text, compared with what this binary emits, or written anew.

use std::path::Path;
use std::time::Instant;

use serde::Serialize;

use crate::code::Emitted;
use crate::failure::{Failure, Result};
use crate::screen::Screen;

#[derive(Serialize)]
struct Report {
    op: String,
    rows: usize,
    differences: Vec<String>,
}

/// Emits every variant of an op in every order, as CUDA and Vulkan devices are given it by default, and compares the hashes with
/// those of a file; with `update` they take the place of those.
///
/// # Errors
/// Differences, with code 1; a file that cannot be read or written.
pub fn run(op: &str, path: &Path, update: bool, json: bool, screen: &Screen) -> Result<()> {
    let begin = Instant::now();
    let cannot = |what: &dyn std::fmt::Display| Failure::input(format!("{}: {what}", path.display()));
    let mut committed = match std::fs::read_to_string(path) {
        Ok(text) => Emitted::parse(&text).map_err(|reason| cannot(&reason))?,
        Err(error) if update && error.kind() == std::io::ErrorKind::NotFound => Emitted::default(),
        Err(error) => return Err(cannot(&format!("cannot read: {error}"))),
    };
    let now = Emitted::of(op)?;
    let differences = committed.differences(op, &now);
    let report = Report { op: op.to_owned(), rows: now.code.len(), differences };
    screen.headline(format!(
        "{} of `{op}`, in all orders and for both kinds of device, emitted in {:.1} s",
        report.rows,
        begin.elapsed().as_secs_f64()
    ))?;
    if update {
        committed.replace(op, now);
        let mut text = serde_json::to_string_pretty(&committed).map_err(Failure::fault)?;
        text.push('\n');
        ff_tables::fs::replace(path, text.as_bytes())
            .map_err(|e| Failure::fault(format!("{}: {e}", path.display())))?;
    }
    if json {
        screen.json(&report)?;
    } else {
        report.differences.iter().try_for_each(|line| screen.line(line))?;
    }
    if update || report.differences.is_empty() {
        return Ok(());
    }
    let n = report.differences.len();
    Err(Failure::unmet(format!("{n} differ from {}: --update writes them anew", path.display())))
}
