//! An experiment as a Jupyter notebook (nbformat 4.5): its README's words, cells that run from its results, stored figures.
//!
//! The cells come from `analysis.py` in the percent format: `# %%` begins a code cell, `# %% [markdown]` one of text,
//! `# %% tags=["parameters"]` the one that names the results, `# %% figure="name"` one that draws, and `# %% table="name"` one
//! that ends in a table. What the last two put out is stored from `name.svg`, `name.png` and the README, which
//! `experiments/draw` made by running the same cells. Whatever is stored names the hash of the results that it is of, so that
//! nothing can be shown that is older than they are.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value as Json, json};
use sha2::{Digest, Sha256};

/// What a notebook is made of.
#[derive(Clone, Debug, Default)]
pub struct Experiment {
    /// Its folder's name.
    pub slug: String,
    /// `README.md`.
    pub readme: String,
    /// `analysis.py`.
    pub analysis: String,
    /// The contents of the results' file.
    pub results: Vec<u8>,
    /// Where the results lie, from the notebook.
    pub results_path: String,
    /// The figures by name.
    pub figures: BTreeMap<String, Figure>,
}

/// A figure in both formats.
#[derive(Clone, Debug, Default)]
pub struct Figure {
    /// SVG.
    pub svg: String,
    /// PNG.
    pub png: Vec<u8>,
}

/// An experiment of which no notebook can be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotebookError {
    /// `analysis.py` is not as it should be.
    #[error("analysis.py, line {line}: {reason}")]
    Analysis {
        /// Line, from 1.
        line: usize,
        /// What was expected and found.
        reason: String,
    },
    /// A figure or a table is missing.
    #[error("no {kind} `{name}`; experiments/draw makes it from the results")]
    Missing {
        /// What of it.
        kind: &'static str,
        /// Its name.
        name: String,
    },
    /// A figure or a table is of other results.
    #[error(
        "{kind} `{name}` is of other results, expected those of sha256 {expected}; experiments/draw makes it again"
    )]
    Stale {
        /// What of it.
        kind: &'static str,
        /// Its name.
        name: String,
        /// Hash of the results.
        expected: String,
    },
    /// A notebook that is none.
    #[error("not a notebook: {0}")]
    Malformed(String),
}

/// How a notebook stands to its experiment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State {
    /// Whether its cells are others than those that were written: somebody works in it.
    pub edited: bool,
    /// Whether the results are others now.
    pub stale_results: bool,
    /// Whether the README or the cells are others now.
    pub stale_cells: bool,
    /// Whether, with all that as it should be, what it puts out or its metadata is not what would be written now.
    pub stale_outputs: bool,
}

/// The SHA-256 of results, in hexadecimal: what everything derived from them names.
pub fn digest(results: &[u8]) -> String {
    hex(&Sha256::digest(results))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// A cell before it has an id.
#[derive(Clone, Debug, PartialEq)]
struct Cell {
    code: bool,
    source: String,
    tags: Vec<String>,
    outputs: Vec<Json>,
}

impl Cell {
    fn text(source: String) -> Self {
        Self { code: false, source, tags: Vec::new(), outputs: Vec::new() }
    }
}

/// The notebook, as JSON with one line per line of a cell, as Jupyter writes it.
///
/// # Errors
/// [`NotebookError`] for cells that cannot be read, and for figures and tables that are missing or of other results.
pub fn notebook(experiment: &Experiment) -> Result<String, NotebookError> {
    let cells = cells(experiment)?;
    let mut ids = BTreeSet::new();
    let mut written = Vec::new();
    for cell in &cells {
        // Two cells that say the same are told apart by how many came before.
        let id = (0..).map(|copy| id(cell, copy)).find(|id| ids.insert(id.clone())).unwrap_or_default();
        let mut metadata = serde_json::Map::new();
        if !cell.tags.is_empty() {
            metadata.insert("tags".to_owned(), json!(cell.tags));
        }
        written.push(if cell.code {
            json!({
                "cell_type": "code", "execution_count": null, "id": id, "metadata": metadata,
                "outputs": cell.outputs, "source": lines(&cell.source),
            })
        } else {
            json!({"cell_type": "markdown", "id": id, "metadata": metadata, "source": lines(&cell.source)})
        });
    }
    let document = json!({
        "cells": written,
        "metadata": {
            "forgefield": {
                "cells_sha256": cells_digest(&cells),
                "results_sha256": digest(&experiment.results),
                "sweep": experiment.slug,
            },
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        },
        "nbformat": 4,
        "nbformat_minor": 5,
    });
    serde_json::to_string_pretty(&document).map(|text| text + "\n").map_err(|e| NotebookError::Malformed(e.to_string()))
}

/// How a notebook that was written before stands to its experiment now.
///
/// # Errors
/// [`NotebookError::Malformed`] for what is no notebook of ours; else as [`notebook`], and of figures and tables only where
/// everything else is as it should be.
pub fn state(existing: &str, experiment: &Experiment) -> Result<State, NotebookError> {
    let malformed = |reason: &str| NotebookError::Malformed(reason.to_owned());
    let document: Json = serde_json::from_str(existing).map_err(|e| malformed(&e.to_string()))?;
    let written = document["metadata"]["forgefield"]["cells_sha256"].as_str();
    let results = document["metadata"]["forgefield"]["results_sha256"].as_str();
    let (Some(written), Some(results)) = (written, results) else {
        return Err(malformed("no metadata of forgefield, which says what it was made from"));
    };
    let cells = document["cells"].as_array().ok_or_else(|| malformed("no cells"))?;
    let found: Vec<Cell> = cells.iter().map(read).collect();
    let edited = cells_digest(&found) != written;
    let stale_results = results != digest(&experiment.results);
    let stale_cells = sources(experiment)? != written;
    let stale_outputs = !(edited || stale_results || stale_cells) && existing != notebook(experiment)?;
    Ok(State { edited, stale_results, stale_cells, stale_outputs })
}

/// The digest of the cells as they would be written now; figures play no part in it.
fn sources(experiment: &Experiment) -> Result<String, NotebookError> {
    let percent = percent(&experiment.analysis)?;
    Ok(cells_digest(&bare(experiment, percent).into_iter().map(|(cell, _)| cell).collect::<Vec<_>>()))
}

/// A cell of a notebook, in which a source is a text or a list of lines.
fn read(cell: &Json) -> Cell {
    let source = match &cell["source"] {
        Json::Array(lines) => lines.iter().filter_map(Json::as_str).collect(),
        other => other.as_str().unwrap_or_default().to_owned(),
    };
    let tags = cell["metadata"]["tags"].as_array().into_iter().flatten().filter_map(Json::as_str);
    let tags = tags.map(str::to_owned).collect();
    Cell { code: cell["cell_type"] == "code", source, tags, outputs: Vec::new() }
}

/// What somebody who edits a notebook changes: kinds, sources and tags of its cells, and not what a run puts out.
fn cells_digest(cells: &[Cell]) -> String {
    let mut hash = Sha256::new();
    for cell in cells {
        for part in [if cell.code { "code" } else { "markdown" }, &cell.source, &cell.tags.join(",")] {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part.as_bytes());
        }
    }
    hex(&hash.finalize())
}

fn id(cell: &Cell, copy: usize) -> String {
    let text = format!("{}\n{copy}\n{}", cell.code, cell.source);
    hex(&Sha256::digest(text.as_bytes()))[..16].to_owned()
}

fn lines(source: &str) -> Vec<&str> {
    source.split_inclusive('\n').collect()
}

/// What a cell puts out.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Output {
    Nothing,
    Figure(String),
    Table(String),
}

/// A cell of `analysis.py`.
struct Percent {
    code: bool,
    parameters: bool,
    output: Output,
    source: String,
}

fn cells(experiment: &Experiment) -> Result<Vec<Cell>, NotebookError> {
    let hash = digest(&experiment.results);
    let mut all = Vec::new();
    for (mut cell, output) in bare(experiment, percent(&experiment.analysis)?) {
        match output {
            Output::Nothing => {}
            Output::Figure(name) => {
                let missing = || NotebookError::Missing { kind: "figure", name: name.clone() };
                let Figure { svg, png } = experiment.figures.get(&name).ok_or_else(missing)?;
                let named = |bytes: &[u8]| bytes.windows(hash.len()).any(|part| part == hash.as_bytes());
                if !named(svg.as_bytes()) || !named(png) {
                    return Err(NotebookError::Stale { kind: "figure", name, expected: hash });
                }
                cell.outputs.push(json!({
                    "data": {
                        "image/png": STANDARD.encode(png),
                        "image/svg+xml": lines(svg),
                        "text/plain": [format!("<Figure {name}>")],
                    },
                    "metadata": {}, "output_type": "display_data",
                }));
            }
            Output::Table(name) => {
                let text = table(&experiment.readme, &name, &hash)?;
                cell.outputs.push(json!({
                    "data": {"text/markdown": lines(&text), "text/plain": lines(&text)},
                    "metadata": {}, "output_type": "display_data",
                }));
            }
        }
        all.push(cell);
    }
    Ok(all)
}

/// The cells without what they put out, and what that is.
fn bare(experiment: &Experiment, percent: Vec<Percent>) -> Vec<(Cell, Output)> {
    let folder = experiment.results_path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let mut all = vec![(Cell::text(linked(&words(&experiment.readme), folder)), Output::Nothing)];
    for Percent { code, parameters, output, source } in percent {
        let (source, tags) = if parameters {
            (format!("results = {}", json!(experiment.results_path)), vec!["parameters".to_owned()])
        } else {
            (source, Vec::new())
        };
        all.push((Cell { code, source, tags, outputs: Vec::new() }, output));
    }
    all
}

/// The cells of a text in the percent format.
fn percent(text: &str) -> Result<Vec<Percent>, NotebookError> {
    let mut cells: Vec<Percent> = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let Some(header) = line.strip_prefix("# %%") else {
            match cells.last_mut() {
                Some(cell) if cell.code => cell.source += &format!("{line}\n"),
                Some(cell) => {
                    let line = line.strip_prefix('#').map_or(line, |line| line.strip_prefix(' ').unwrap_or(line));
                    cell.source += &format!("{line}\n");
                }
                // What stands before the first cell is about the file.
                None => {}
            }
            continue;
        };
        let named = |key: &str| -> Option<String> {
            let rest = header.trim().strip_prefix(key)?.strip_prefix("=\"")?;
            Some(rest.strip_suffix('"')?.to_owned()).filter(|name| !name.is_empty())
        };
        let (mut code, mut parameters, mut output) = (true, false, Output::Nothing);
        match header.trim() {
            "" => {}
            "[markdown]" => code = false,
            "tags=[\"parameters\"]" => parameters = true,
            other => {
                let found = named("figure").map(Output::Figure).or_else(|| named("table").map(Output::Table));
                output = found.ok_or_else(|| NotebookError::Analysis {
                    line: number + 1,
                    reason: format!(
                        "a cell `{other}`, expected nothing, [markdown], tags=[\"parameters\"], figure=\"…\" or table=\"…\""
                    ),
                })?;
            }
        }
        cells.push(Percent { code, parameters, output, source: String::new() });
    }
    for cell in &mut cells {
        cell.source = cell.source.trim_matches('\n').to_owned();
    }
    let parameters = cells.iter().filter(|cell| cell.parameters).count();
    if parameters != 1 {
        let reason = format!("{parameters} cells of parameters, expected one, which names the results");
        return Err(NotebookError::Analysis { line: 1, reason });
    }
    Ok(cells)
}

/// Begins a table of the README that is made from the results: `<!-- table NAME of HASH -->`.
const BEGIN: &str = "<!-- table ";
/// Ends it.
const END: &str = "<!-- end -->";

/// The README without figures and tables, which the cells put out.
fn words(readme: &str) -> String {
    let (mut kept, mut inside) = (Vec::new(), false);
    for line in readme.lines() {
        inside |= line.starts_with(BEGIN);
        if !inside && !line.starts_with("![") {
            kept.push(line);
        }
        inside &= line != END;
    }
    // Where a figure stood between two empty lines, one is left.
    kept.dedup_by(|b, a| a.is_empty() && b.is_empty());
    kept.join("\n").trim().to_owned()
}

/// Markdown with links that are relative to the experiment's folder, seen from the notebook.
fn linked(text: &str, folder: &str) -> String {
    let mut parts = text.split("](");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |all, part| {
        let elsewhere = folder.is_empty()
            || part.starts_with(['#', '/'])
            || part.split(')').next().is_some_and(|to| to.contains("://"));
        if elsewhere { format!("{all}]({part}") } else { format!("{all}]({folder}/{part}") }
    })
}

/// A table of the README.
fn table(readme: &str, name: &str, hash: &str) -> Result<String, NotebookError> {
    let mut lines = readme.lines();
    let begin = lines.find_map(|line| {
        line.strip_prefix(BEGIN)?.strip_suffix("-->")?.trim().split_once(" of ").filter(|(n, _)| *n == name)
    });
    let Some((_, of)) = begin else {
        return Err(NotebookError::Missing { kind: "table", name: name.to_owned() });
    };
    if of != hash {
        return Err(NotebookError::Stale { kind: "table", name: name.to_owned(), expected: hash.to_owned() });
    }
    let table: Vec<&str> = lines.take_while(|line| *line != END).collect();
    Ok(table.join("\n").trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANALYSIS: &str = "# What this file is.\n\n# %% tags=[\"parameters\"]\nresults = \"results.jsonl\"\n\n# %%\nx = 1\n\n\
        # %% [markdown]\n# Some *words*.\n#\n# More.\n\n# %% figure=\"speed\"\ndraw(x)\n\n# %% table=\"ratios\"\nshow(x)\n";

    fn experiment(results: &str) -> Experiment {
        let hash = digest(results.as_bytes());
        let figure = Figure { svg: format!("<svg>{hash}</svg>\n"), png: hash.clone().into_bytes() };
        Experiment {
            slug: "a".to_owned(),
            readme: format!(
                "# A\n\nQuestion: [axes](sweep.toml), [more](https://a.b).\n\n![speed](speed.svg)\n\n<!-- table ratios of {hash} -->\n| x |\n| - |\n<!-- end -->\n\nEnd.\n"
            ),
            analysis: ANALYSIS.to_owned(),
            results: results.as_bytes().to_vec(),
            results_path: "../experiments/a/results.jsonl".to_owned(),
            figures: BTreeMap::from([("speed".to_owned(), figure)]),
        }
    }

    #[test]
    fn a_notebook_has_the_words_the_cells_and_what_they_put_out() {
        let text = notebook(&experiment("r")).unwrap_or_else(|e| panic!("{e}"));
        let document: Json = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}"));
        let keys: Vec<&String> = document.as_object().into_iter().flat_map(|o| o.keys()).collect();
        assert_eq!(keys, ["cells", "metadata", "nbformat", "nbformat_minor"]);
        let cells = document["cells"].as_array().expect("cells");
        let sources: Vec<String> = cells.iter().map(|cell| read(cell).source).collect();
        assert_eq!(
            sources,
            [
                "# A\n\nQuestion: [axes](../experiments/a/sweep.toml), [more](https://a.b).\n\nEnd.",
                "results = \"../experiments/a/results.jsonl\"",
                "x = 1",
                "Some *words*.\n\nMore.",
                "draw(x)",
                "show(x)"
            ]
        );
        assert_eq!(cells[1]["metadata"]["tags"], json!(["parameters"]));
        let data = &cells[4]["outputs"][0]["data"];
        assert!(data["image/png"].is_string() && data["image/svg+xml"].is_array());
        assert_eq!(cells[5]["outputs"][0]["data"]["text/markdown"], json!(["| x |\n", "| - |"]));
        let mut ids: Vec<&str> = cells.iter().filter_map(|cell| cell["id"].as_str()).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), cells.len());
        assert_eq!(Ok(text), notebook(&experiment("r")), "the same twice");
    }

    #[test]
    fn what_is_older_than_the_results_is_found() {
        let text = notebook(&experiment("r")).unwrap_or_else(|e| panic!("{e}"));
        let fresh = State { edited: false, stale_results: false, stale_cells: false, stale_outputs: false };
        assert_eq!(state(&text, &experiment("r")), Ok(fresh));
        assert_eq!(state(&text, &experiment("s")), Ok(State { stale_results: true, ..fresh }));
        let changed = Experiment { analysis: ANALYSIS.replace("x = 1", "x = 2"), ..experiment("r") };
        assert_eq!(state(&text, &changed), Ok(State { stale_cells: true, ..fresh }));
        assert_eq!(state(&text.replace("x = 1", "x = 3"), &experiment("r")), Ok(State { edited: true, ..fresh }));
        // What a run puts out is no edit, nor is a source that Jupyter writes in another way; both would be written anew.
        let mut document: Json = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}"));
        document["cells"][2]["source"] = json!("x = 1");
        document["cells"][2]["execution_count"] = json!(7);
        document["cells"][4]["outputs"] = json!([]);
        assert_eq!(state(&document.to_string(), &experiment("r")), Ok(State { stale_outputs: true, ..fresh }));
        let title = text.replacen("Python 3", "Python 4", 1);
        assert_eq!(state(&title, &experiment("r")), Ok(State { stale_outputs: true, ..fresh }), "metadata by hand");
        let without = Experiment { figures: BTreeMap::new(), ..experiment("r") };
        assert!(matches!(state(&text, &without), Err(NotebookError::Missing { kind: "figure", .. })));
        for bad in ["", "[]", "{\"cells\": []}"] {
            assert!(matches!(state(bad, &experiment("r")), Err(NotebookError::Malformed(_))), "{bad}");
        }
    }

    #[test]
    fn figures_and_tables_of_other_results_are_refused() {
        let old = experiment("old");
        let new = experiment("new");
        let stale = |kind| {
            move |found: &Result<String, NotebookError>| match found {
                Err(NotebookError::Stale { kind: found, .. }) => *found == kind,
                _ => false,
            }
        };
        let found = notebook(&Experiment { figures: old.figures.clone(), ..new.clone() });
        assert!(stale("figure")(&found), "{found:?}");
        let found = notebook(&Experiment { readme: old.readme.clone(), ..new.clone() });
        assert!(stale("table")(&found), "{found:?}");
        let found = notebook(&Experiment { figures: BTreeMap::new(), ..new.clone() });
        assert!(matches!(found, Err(NotebookError::Missing { kind: "figure", .. })));
        for (from, to) in [("figure=", "figrue="), ("tags=[\"parameters\"]", "")] {
            let found = notebook(&Experiment { analysis: ANALYSIS.replace(from, to), ..new.clone() });
            assert!(matches!(found, Err(NotebookError::Analysis { .. })), "{found:?}");
        }
    }
}
