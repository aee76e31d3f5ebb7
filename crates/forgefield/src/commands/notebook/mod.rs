//! `notebook`: an experiment as a Jupyter notebook.

pub mod args;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Component, Path, PathBuf};

use ff_sweep::Results;
use ff_sweep::notebook::{Experiment, Figure, NotebookError, State, notebook, state};

use self::args::NotebookArgs;
use crate::failure::{Failure, Result};
use crate::screen::Screen;

/// The file of an experiment's results.
const RESULTS: &str = "results.jsonl";
/// The file of a sweep, where one made them.
const SWEEP: &str = "sweep.toml";

/// Writes notebooks, or checks whether they are as new as what they are made of.
pub fn run(args: &NotebookArgs, screen: &Screen) -> Result<()> {
    let (mut kept, mut stale) = (0, 0);
    for folder in &args.experiments {
        let experiment = read(folder, &args.out)?;
        let path = args.out.join(format!("{}.ipynb", experiment.slug));
        let refused = |e: NotebookError| Failure::input(format!("{}: {e}", folder.display()));
        let existing = match fs::read_to_string(&path) {
            Ok(text) => Some(text),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(Failure::input(format!("cannot read {}: {error}", path.display()))),
        };
        let found = match &existing {
            None => None,
            Some(text) => match state(text, &experiment) {
                Ok(found) => Some(found),
                // Whoever put something else there wants it.
                Err(NotebookError::Malformed(reason)) if !args.force => {
                    return Err(Failure::input(format!("{}: {reason}; it is kept", path.display())));
                }
                Err(NotebookError::Malformed(_)) => None,
                Err(error) => return Err(refused(error)),
            },
        };
        if args.check {
            let (fresh, text) = judged(found);
            screen.line(format!("{}: {text}", path.display()))?;
            stale += usize::from(!fresh);
            continue;
        }
        let text = notebook(&experiment).map_err(refused)?;
        if found.is_some_and(|found| found.edited) && !args.force {
            kept += 1;
            screen.line(format!("{}: edited by hand, kept; --force replaces it", path.display()))?;
            continue;
        }
        if existing.as_deref() == Some(text.as_str()) {
            screen.line(format!("{}: as it was", path.display()))?;
            continue;
        }
        ff_tables::fs::replace(&path, text.as_bytes())
            .map_err(|e| Failure::input(format!("cannot write {}: {e}", path.display())))?;
        screen.line(format!("wrote {} ({} bytes)", path.display(), text.len()))?;
    }
    if stale > 0 {
        let (n, of) = (stale, args.experiments.len());
        return Err(Failure::unmet(format!(
            "{n} of {of} notebooks are not up to date; `forgefield notebook` writes them"
        )));
    }
    if kept > 0 {
        return Err(Failure::unmet(format!("{kept} notebooks were edited by hand and not written")));
    }
    Ok(())
}

/// Whether a notebook is up to date, and how it is.
fn judged(found: Option<State>) -> (bool, &'static str) {
    match found {
        None => (false, "missing"),
        Some(State { stale_results: true, edited: true, .. }) => (false, "older than its results, and edited by hand"),
        Some(State { stale_results: true, .. }) => (false, "older than its results"),
        // What somebody changed on purpose differs from the README and the cells.
        Some(State { edited: true, .. }) => (true, "up to date with its results, edited by hand"),
        Some(State { stale_cells: true, .. }) => (false, "older than its README or its cells"),
        Some(State { stale_outputs: true, .. }) => {
            (false, "its outputs or its metadata are others than would be written")
        }
        Some(_) => (true, "up to date"),
    }
}

/// Whether results are those of a sweep.
fn check_rows(path: &Path) -> Result<()> {
    let parsed = Results::read(path).map_err(Failure::input)?;
    if let Some(torn) = parsed.torn {
        let (path, line) = (path.display(), torn.line);
        return Err(Failure::input(format!("{path}: torn last line {line}; `forgefield sweep --resume` drops it")));
    }
    if parsed.rows.is_empty() {
        return Err(Failure::input(format!("{}: no results", path.display())));
    }
    Ok(())
}

/// Whether results that no sweep made are objects of JSON, one a line.
fn check_objects(path: &Path, results: &[u8]) -> Result<()> {
    let mut lines = (1..).zip(results.split_inclusive(|byte| *byte == b'\n')).peekable();
    if lines.peek().is_none() {
        return Err(Failure::input(format!("{}: no results", path.display())));
    }
    for (number, line) in lines {
        if let Err(error) = serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(line) {
            let path = path.display();
            return Err(Failure::input(format!("{path}:{number}: expected an object of JSON, found none: {error}")));
        }
    }
    Ok(())
}

fn read(folder: &Path, out: &Path) -> Result<Experiment> {
    let file = |name: &str| {
        let path = folder.join(name);
        fs::read(&path).map_err(|e| Failure::input(format!("cannot read {}: {e}", path.display())))
    };
    let text = |name: &str| {
        String::from_utf8(file(name)?)
            .map_err(|_| Failure::input(format!("{}: not UTF-8", folder.join(name).display())))
    };
    let full = folder.canonicalize();
    let full = full.map_err(|e| Failure::input(format!("cannot read {}: {e}", folder.display())))?;
    let slug = full.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let (readme, analysis, results) = (text("README.md")?, text("analysis.py")?, file(RESULTS)?);
    // Results that nobody could read must not be shown.
    match folder.join(SWEEP).exists() {
        true => check_rows(&folder.join(RESULTS))?,
        false => check_objects(&folder.join(RESULTS), &results)?,
    }
    let mut figures = BTreeMap::new();
    let entries = fs::read_dir(folder).map_err(|e| Failure::input(format!("cannot read {}: {e}", folder.display())))?;
    for path in entries.flatten().map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|e| e == "svg"))
    {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let (svg, png) = (text(&format!("{name}.svg"))?, file(&format!("{name}.png"))?);
        figures.insert(name, Figure { svg, png });
    }
    let results_path = relative(&absolute(out)?, &full.join(RESULTS));
    Ok(Experiment { slug, readme, analysis, results, results_path, figures })
}

/// A path that need not exist, without links as far as it does.
fn absolute(path: &Path) -> Result<PathBuf> {
    let full = std::path::absolute(path).map_err(|e| Failure::input(format!("{}: {e}", path.display())))?;
    let existing = full.ancestors().find_map(|part| Some((part, part.canonicalize().ok()?)));
    Ok(match existing {
        Some((part, real)) => real.join(full.strip_prefix(part).unwrap_or(Path::new(""))),
        None => full,
    })
}

/// `to` as it is reached from the folder `from`, with slashes everywhere.
fn relative(from: &Path, to: &Path) -> String {
    let parts = |path: &Path| -> Vec<String> {
        let named = path.components().filter(|part| !matches!(part, Component::CurDir));
        named.map(|part| part.as_os_str().to_string_lossy().into_owned()).collect()
    };
    let (from, to) = (parts(from), parts(to));
    let common = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
    let up = std::iter::repeat_n("..".to_owned(), from.len() - common);
    up.chain(to[common..].iter().cloned()).collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_reached_from_the_notebook() {
        for (from, to, expected) in [
            ("/a/notebooks-export", "/a/experiments/x/r", "../experiments/x/r"),
            ("/a", "/a/x/r", "x/r"),
            ("/a/b/c", "/d/r", "../../../d/r"),
        ] {
            assert_eq!(relative(Path::new(from), Path::new(to)), expected);
        }
    }
}
