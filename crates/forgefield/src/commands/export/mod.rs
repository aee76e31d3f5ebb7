//! `export`: tuning records in the formats of other tools.

pub mod args;

use std::path::{Path, PathBuf};

use ff_export::{ExportError, Recorded};
use ff_tune::{Record, records};

use self::args::{ExportArgs, ExportFormat};
use crate::failure::{Failure, Result};
use crate::screen::Screen;

/// Writes records in the format of another tool.
pub fn run(args: &ExportArgs, screen: &Screen) -> Result<()> {
    let mut all = Vec::new();
    for path in &args.records {
        let (records, torn) = records::read(path).map_err(Failure::input)?;
        if let Some(torn) = torn {
            screen.warn(format!("warning: {}: {torn}", path.display()));
        }
        all.extend(records);
    }
    let among = |wanted: &[String], found: &String| wanted.is_empty() || wanted.contains(found);
    let found = all.len();
    all.retain(|r| {
        among(&args.op, &r.op)
            && among(&args.variant, &r.variant)
            && among(&args.problem, &r.problem.name)
            && (args.dtype.is_empty() || args.dtype.contains(&r.dtype))
    });
    if all.is_empty() {
        return Err(Failure::input(format!("none of {found} records is of what was asked for, expected at least one")));
    }
    match args.format {
        ExportFormat::KernelTuner => searches(args, &all, ff_export::kernel_tuner, screen),
        ExportFormat::T4 => searches(args, &all, ff_export::t4, screen),
        ExportFormat::Csv => one(&args.out, &ff_export::csv(&all).map_err(refused)?, screen),
        ExportFormat::Parquet => one(&args.out, &ff_export::parquet(&all).map_err(refused)?, screen),
        ExportFormat::Bencher => {
            one(&args.out, ff_export::bencher(&Recorded::of(&all)).map_err(refused)?.as_bytes(), screen)
        }
    }
}

/// A file per search: of one search the file itself, else in a folder.
fn searches(
    args: &ExportArgs,
    records: &[Record],
    export: impl Fn(&Recorded) -> std::result::Result<String, ExportError>,
    screen: &Screen,
) -> Result<()> {
    let searches = Recorded::of(records);
    if let ([search], false) = (searches.as_slice(), args.out.is_dir()) {
        return one(&args.out, export(search).map_err(refused)?.as_bytes(), screen);
    }
    if args.out.extension().is_some() {
        return Err(Failure::input(format!(
            "-o {}: these records hold {} searches, expected one (--variant, --problem, --dtype) or a folder for a file of each",
            args.out.display(),
            searches.len()
        )));
    }
    let mut names: Vec<PathBuf> = Vec::new();
    for search in &searches {
        let Recorded { dtype, problem, device, kernel_hash, .. } = search;
        let name = format!("{}-{dtype}-{}-{}", search.kernel(), problem.name, device.slug);
        let name: String =
            name.chars().map(|c| if c.is_alphanumeric() || "-_.".contains(c) { c } else { '-' }).collect();
        let mut path = args.out.join(format!("{name}.json"));
        // Kernels, drivers and compilers that the name does not tell apart.
        for count in 1.. {
            if !names.contains(&path) {
                break;
            }
            let hash = kernel_hash.get(..8).unwrap_or(kernel_hash);
            path = args.out.join(format!("{name}-{hash}-{count}.json"));
        }
        one(&path, export(search).map_err(refused)?.as_bytes(), screen)?;
        names.push(path);
    }
    Ok(())
}

fn one(path: &Path, contents: &[u8], screen: &Screen) -> Result<()> {
    ff_tables::fs::replace(path, contents)
        .map_err(|e| Failure::input(format!("-o {}: cannot write there: {e}", path.display())))?;
    screen.line(format!("wrote {} ({} bytes)", path.display(), contents.len()))
}

fn refused(error: ExportError) -> Failure {
    match error {
        ExportError::Empty | ExportError::Parameters { .. } | ExportError::Date { .. } => Failure::input(error),
        ExportError::NothingPassed => Failure::unmet(error),
        ExportError::Writer { .. } => Failure::fault(error),
    }
}
