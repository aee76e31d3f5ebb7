//! The real files beside the checkout, where there are any: `../shared` from the workspace root.

use std::path::PathBuf;

use ff_structure::{neighbors, read_structures};

/// The extxyz files of a folder in `shared`, where there is one.
fn files(folder: &str) -> Vec<PathBuf> {
    let Some(path) = ff_testkit::shared(folder) else { return Vec::new() };
    let entries = std::fs::read_dir(&path).expect("a readable folder");
    let mut files: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "extxyz"));
    files.sort();
    files
}

#[test]
fn every_frame_is_read() {
    for file in files("data").into_iter().chain(files("yardsticks")) {
        let text = std::fs::read_to_string(&file).expect("a readable file");
        let frames = read_structures(&file).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(frames.len(), text.matches("Properties=").count(), "{}", file.display());
        let n_lines: usize = frames.iter().map(|frame| frame.n_atoms() + 2).sum();
        assert_eq!(n_lines, text.lines().filter(|line| !line.is_empty()).count(), "{}", file.display());
        for frame in &frames {
            neighbors(&frame.positions, frame.cell, frame.pbc, 5.0)
                .unwrap_or_else(|error| panic!("{}: {error}", frame.name));
        }
    }
}

/// The yardsticks say how many directed edges the program had that computed them.
#[test]
fn neighbour_counts_are_those_of_schnetpack() {
    for file in files("yardsticks") {
        let text = std::fs::read_to_string(&file).expect("a readable file");
        let expected: Vec<usize> = text
            .lines()
            .filter_map(|line| line.split_once("n_edges=")?.1.split_whitespace().next()?.parse().ok())
            .collect();
        if expected.is_empty() {
            continue;
        }
        let frames = read_structures(&file).unwrap_or_else(|error| panic!("{error}"));
        let found: Vec<usize> = frames
            .iter()
            .map(|frame| neighbors(&frame.positions, frame.cell, frame.pbc, 5.0).expect("a list").n_edges())
            .collect();
        assert_eq!(found, expected, "{}", file.display());
    }
}
