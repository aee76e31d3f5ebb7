//! The real files beside the checkout, where there are any: `../shared` from the workspace root.

use std::path::PathBuf;

use ff_structure::{FrameReader, FrameWriter, neighbors, read_frames, read_structures};

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

#[test]
fn frames_one_by_one_are_those_of_the_whole_and_can_be_written() {
    for file in ["data", "data/train", "yardsticks"].into_iter().flat_map(files) {
        let whole = read_frames(&file).unwrap_or_else(|error| panic!("{error}"));
        let mut reader = FrameReader::open(&file).unwrap_or_else(|error| panic!("{error}"));
        let frames: Vec<_> = reader.by_ref().map(|frame| frame.unwrap_or_else(|error| panic!("{error}"))).collect();
        assert!(frames.iter().map(|frame| &frame.structure).eq(&whole.structures), "{}", file.display());
        assert_eq!(reader.warnings(), whole.warnings, "{}", file.display());

        // Under the same name, so that frames without names are called alike.
        let dir = tempfile::tempdir().expect("a temporary folder");
        let copy = dir.path().join(file.file_name().expect("a name"));
        let mut writer = FrameWriter::new(std::fs::File::create(&copy).expect("a new file"));
        for frame in &frames {
            writer.write(frame).unwrap_or_else(|error| panic!("{error}"));
        }
        writer.finish().expect("a written file");
        let again = FrameReader::open(&copy).unwrap_or_else(|error| panic!("{error}"));
        let again: Vec<_> = again.map(|frame| frame.unwrap_or_else(|error| panic!("{error}"))).collect();
        assert!(again == frames, "{}", file.display());
        for (frame, again) in frames.iter().zip(&again) {
            let labels = frame.labels().unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(again.labels().unwrap_or_else(|error| panic!("{error}")), labels, "{}", frame.structure.name);
        }
    }
}

/// What the files' own descriptions say of their labels.
#[test]
fn labelled_files_have_their_labels() {
    for (folder, name, forces, stress) in [
        ("data/train", "ethanol_train.extxyz", true, false),
        ("data/train", "ethanol_isolated_atoms.extxyz", false, false),
        ("data/train", "silicon_train.extxyz", true, false),
        ("yardsticks", "painn_gaussian.extxyz", true, true),
        ("yardsticks", "ethanol_painn.extxyz", true, false),
    ] {
        let Some(folder) = ff_testkit::shared(folder) else { continue };
        let file = folder.join(name);
        let reader = FrameReader::open(&file).unwrap_or_else(|error| panic!("{error}"));
        for frame in reader.map(|frame| frame.unwrap_or_else(|error| panic!("{error}"))) {
            let labels = frame.labels().unwrap_or_else(|error| panic!("{error}"));
            let periodic = frame.structure.pbc == [true; 3];
            let name = &frame.structure.name;
            assert!(labels.energy.is_some(), "{name}");
            assert_eq!((labels.forces.is_some(), labels.stress.is_some()), (forces, stress && periodic), "{name}");
            // Forces of a system without a field add up to nothing: the printed digits are eight, or five of up to 64 atoms.
            for axis in 0..3 {
                let sum: f64 = labels.forces.iter().flatten().map(|force| force[axis]).sum();
                assert!(sum.abs() < 64.0 * 1e-5, "{name}: forces add up to {sum} eV/Å");
            }
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
