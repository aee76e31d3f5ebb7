//! `report`: a page, or a figure, of what was tuned, timed and checked.

pub mod args;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use ff_report::{Bench, Device, Figure, FigureError, Over, Passed, Peak, Report, Sources};
use ff_spec::{Dtype, OPS};
use ff_tables::{Table, load_all};
use ff_testkit::gate::GateSummary;
use ff_tune::{Record, records};

use self::args::{Plot, ReportArgs};
use crate::failure::{Failure, Result};
use crate::inspect::gpu;
use crate::ops::meant;
use crate::passes::{self, Passes};
use crate::screen::Screen;

/// Where tables are looked for unless a place is named; only there they may be missing, as passes may.
const TABLES: &str = "autotune/tables";
/// Records that are looked for in the folder of tables where none are named.
const RECORDS: &str = "records.jsonl";

/// Writes a page, a figure, or both.
pub fn run(args: &ReportArgs, screen: &Screen) -> Result<()> {
    let page = args.out.as_deref().or(if args.figure.is_none() { Some(Path::new("report.html")) } else { None });
    if let Some(path) = args.figure.as_deref()
        && path.extension().is_some_and(|extension| !extension.eq_ignore_ascii_case("svg"))
    {
        return Err(Failure::input(format!(
            "--figure {}: expected the ending .svg, which figures are",
            path.display()
        )));
    }
    let report = Report::new(read(args, screen)?, documented);
    if report.devices.is_empty() && report.checked.is_empty() && report.passed.is_empty() {
        screen.warn("warning: nothing was found to report on; `forgefield tune` measures something");
    }
    // The figure first: what cannot be drawn is an error, and then no page should look like a success.
    if let Some(path) = &args.figure {
        let figure = match args.plot {
            Plot::HeatMap => Figure::HeatMap,
            Plot::SpeedUp => Figure::SpeedUp(Over::Default),
            Plot::SpeedUpUnfused => Figure::SpeedUp(Over::Unfused),
            Plot::Roofline => Figure::Roofline,
            Plot::BestSoFar => Figure::BestSoFar,
        };
        let svg = ff_report::svg(&report, figure).map_err(|error| match error {
            FigureError::Empty(_) => Failure::input(error),
            FigureError::Plotting(_) => Failure::fault(error),
        })?;
        write("--figure", path, &svg, screen)?;
    }
    page.map_or(Ok(()), |path| write("-o", path, &ff_report::page(&report), screen))
}

fn write(flag: &str, path: &Path, text: &str, screen: &Screen) -> Result<()> {
    ff_tables::fs::replace(path, text.as_bytes())
        .map_err(|e| Failure::input(format!("{flag} {}: cannot write there: {e}", path.display())))?;
    screen.line(format!("wrote {} ({} bytes)", path.display(), text.len()))
}

/// Reads everything that was named. What was not named need not be there.
fn read(args: &ReportArgs, screen: &Screen) -> Result<Sources> {
    let mut sources = Sources { forgefield: env!("CARGO_PKG_VERSION").to_owned(), ..Sources::default() };
    let tables = args.tables.as_deref().unwrap_or(Path::new(TABLES));
    let default = tables.join(RECORDS);
    let paths: Vec<PathBuf> = match args.records.as_slice() {
        [] if default.is_file() => vec![default],
        named => named.to_vec(),
    };
    for path in &paths {
        let (found, torn) = records::read(path).map_err(Failure::input)?;
        if let Some(torn) = torn {
            warn(&mut sources, screen, format!("{}: {torn}", path.display()));
        }
        sources.files.push(format!("{} ({} records)", path.display(), found.len()));
        sources.records.extend(found);
    }
    if let Some(path) = &args.tables {
        expected("--tables", path, path.is_dir(), "a folder")?;
    }
    for op in OPS {
        let loaded = load_all(tables, op);
        for error in &loaded.errors {
            warn(&mut sources, screen, format!("{error}"));
        }
        for (path, table) in loaded.tables {
            sources.files.push(format!("{} ({} entries)", path.display(), table.entries().len()));
            sources.tables.push(table);
        }
    }
    for path in &args.bench {
        let bench =
            Bench::parse(&contents(path)?).map_err(|e| Failure::input(format!("--bench {}: {e}", path.display())))?;
        sources.files.push(path.display().to_string());
        sources.benches.push(bench);
    }
    for path in &args.verify {
        let gate: GateSummary = serde_json::from_slice(&contents(path)?).map_err(|e| {
            Failure::input(format!("--verify {}: {e}, expected the JSON of `forgefield verify`", path.display()))
        })?;
        sources.files.push(format!("{} ({} cases)", path.display(), gate.cases.len()));
        sources.gates.push(gate);
    }
    if let Some(path) = &args.passes {
        expected("--passes", path, path.is_file(), "a file")?;
    }
    let passes = args.passes.as_deref().unwrap_or(Path::new(passes::USUAL));
    if passes.is_file() {
        sources.passes = passed(&Passes::read(passes)?);
        sources.files.push(passes.display().to_string());
    }
    narrow(args, &mut sources)?;
    Ok(sources)
}

fn expected(flag: &str, path: &Path, there: bool, what: &str) -> Result<()> {
    if there { Ok(()) } else { Err(Failure::input(format!("{flag} {}: not there, expected {what}", path.display()))) }
}

/// Something that was left out, on the screen and in the page.
fn warn(sources: &mut Sources, screen: &Screen, text: String) {
    screen.warn(format!("warning: {text}"));
    sources.warnings.push(text);
}

fn contents(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|e| Failure::input(format!("cannot read {}: {e}", path.display())))
}

fn passed(passes: &Passes) -> Vec<Passed> {
    let all = passes.iter().map(|pass| Passed {
        op: pass.op.clone(),
        variant: pass.variant.clone(),
        order: pass.order,
        device: pass.device.clone(),
        dtypes: pass.dtypes.clone(),
        passed: pass.passed,
        on: pass.on.clone(),
        current: pass.is_current(),
    });
    all.collect()
}

/// Keeps what was asked for. Where nothing is left of records that there were, that is an error and no empty page.
fn narrow(args: &ReportArgs, sources: &mut Sources) -> Result<()> {
    let among = |wanted: &[String], found: &str| wanted.is_empty() || wanted.iter().any(|wanted| wanted == found);
    let dtype = |found: Dtype| args.dtype.is_empty() || args.dtype.contains(&found);
    let wanted = |op: &str, variant: &str, problem: &str, of: Dtype| {
        among(&args.op, op)
            && ff_report::names(&args.variant, op, variant)
            && among(&args.problem, problem)
            && dtype(of)
    };
    let keep = |r: &Record| wanted(&r.op, &r.variant, &r.problem.name, r.dtype);
    let (records, entries) = (sources.records.len(), count(&sources.tables));
    let unknown = unknown(args, sources);
    sources.records.retain(keep);
    for table in &mut sources.tables {
        let op = table.op.clone();
        table.retain(|entry| wanted(&op, &entry.variant, &entry.problem.name, entry.key.dtype));
    }
    sources.tables.retain(|table| !table.entries().is_empty());
    for bench in &mut sources.benches {
        bench.retain(|op, variant, problem, of| wanted(op, variant, problem, of));
    }
    if records + entries > 0 && sources.records.len() + count(&sources.tables) == 0 {
        return Err(Failure::input(format!(
            "none of {records} records and {entries} entries of tables is of what was asked for, expected at least one{unknown}"
        )));
    }
    Ok(())
}

/// The names asked for that neither records nor tables have, each with the nearest that they have.
fn unknown(args: &ReportArgs, sources: &Sources) -> String {
    let of_records = sources.records.iter().map(|r| (r.op.as_str(), r.variant.as_str(), r.problem.name.as_str()));
    let entries =
        sources.tables.iter().flat_map(|table| table.entries().iter().map(move |entry| (table.op.as_str(), entry)));
    let of_tables = entries.map(|(op, entry)| (op, entry.variant.as_str(), entry.problem.name.as_str()));
    let (mut ops, mut variants, mut problems) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for (op, variant, problem) in of_records.chain(of_tables) {
        ops.insert(op.to_owned());
        variants.extend([variant.to_owned(), ff_report::family(op, variant)]);
        problems.insert(problem.to_owned());
    }
    let mut found = String::new();
    for (what, wanted, known) in
        [("op", &args.op, &ops), ("variant", &args.variant, &variants), ("problem", &args.problem, &problems)]
    {
        let names: Vec<&str> = known.iter().map(String::as_str).collect();
        for name in wanted.iter().filter(|name| !known.contains(*name)) {
            found += &format!("; there is no {what} `{name}`{}", meant(name, &names));
        }
    }
    found
}

fn count(tables: &[Table]) -> usize {
    tables.iter().map(|table| table.entries().len()).sum()
}

/// What the maker documents of a device.
fn documented(device: &Device) -> Option<Peak> {
    let part = gpu::reported_as(&device.name)?;
    let source = format!("documented: {}", part.source);
    Some(Peak { f32: part.peak(4), f64: part.peak(8), bytes: part.bandwidth, source })
}
