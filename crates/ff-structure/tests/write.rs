//! What is written is read again bit for bit.

use std::fs::File;
use std::path::Path;

use ff_structure::io::{Column, ColumnKind, WriteError};
use ff_structure::{Frame, FrameReader, FrameWriter, Labels, Structure};
use proptest::collection::vec;
use proptest::prelude::*;

/// Any finite number, the smallest and both zeros among them.
fn number() -> impl Strategy<Value = f64> {
    use prop::num::f64::{NEGATIVE, NORMAL, POSITIVE, SUBNORMAL, ZERO};
    prop_oneof![POSITIVE | NEGATIVE | NORMAL | SUBNORMAL | ZERO, -100.0..100.0]
}

fn triple() -> impl Strategy<Value = [f64; 3]> {
    prop::array::uniform3(number())
}

/// Text of what keys and values are told apart by, and of what is mistaken for it.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![r#"[ab =:,"'\\{}\[\]\t\u{a0}é\u{feff}]{0,6}"#, "[a-z_]{1,8}", Just("pbc=\"T T T\"".to_owned())]
}

fn kind() -> impl Strategy<Value = ColumnKind> {
    prop::sample::select(vec![ColumnKind::Text, ColumnKind::Real, ColumnKind::Integer, ColumnKind::Logical])
}

fn column(n_atoms: usize) -> impl Strategy<Value = Column> {
    // A name cannot hold the `:` that ends it.
    let name = text().prop_map(|name| name.replace(':', ""));
    let name = name.prop_filter("columns of the structure", |name| !matches!(name.as_str(), "species" | "pos"));
    (name, kind(), 1usize..4).prop_flat_map(move |(name, kind, width)| {
        vec(text(), n_atoms * width).prop_map(move |values| Column::new(name.clone(), kind, width, values))
    })
}

fn frame() -> impl Strategy<Value = Frame> {
    let structure = (0usize..5).prop_flat_map(|n_atoms| {
        let cell = prop::option::of((prop::array::uniform3(triple()), any::<[bool; 3]>()));
        let species = vec(1u8..=118, n_atoms);
        (species, vec(triple(), n_atoms), cell, vec(column(n_atoms), 0..3))
    });
    let is_free = |(key, _): &(String, String)| !matches!(key.as_str(), "" | "Lattice" | "pbc" | "Properties" | "name");
    let pair = (text(), text()).prop_filter("keys of the structure", is_free);
    let name = text().prop_filter("a name", |name| !name.is_empty());
    (structure, vec(pair, 0..4), name, any::<prop::sample::Index>()).prop_map(
        |((species, positions, cell, columns), pairs, name, at)| {
            let (cell, pbc) = cell.map_or((None, [false; 3]), |(cell, pbc)| (Some(cell), pbc));
            let mut frame = Frame::from(Structure { name, species, positions, cell, pbc });
            let at = at.index(pairs.len() + 1);
            let after = frame.info.split_off(0);
            frame.info = pairs;
            frame.info.splice(at..at, after);
            frame.columns = columns;
            frame
        },
    )
}

fn labels(n_atoms: usize) -> impl Strategy<Value = Labels> {
    let energies = prop::option::of(vec(number(), n_atoms));
    let forces = prop::option::of(vec(triple(), n_atoms));
    let stress = prop::option::of(prop::array::uniform3(triple()));
    (prop::option::of(number()), energies, forces, stress).prop_map(|(energy, energies, forces, stress)| Labels {
        energy,
        energies,
        forces,
        stress,
    })
}

/// Every number of a structure and its labels as bits, since 0 and -0 are equal.
fn bits(structure: &Structure, labels: &Labels) -> Vec<u64> {
    let geometry = structure.positions.iter().chain(structure.cell.iter().flatten()).flatten();
    let results = labels.energy.iter().chain(labels.energies.iter().flatten());
    let derivatives = labels.forces.iter().flatten().chain(labels.stress.iter().flatten()).flatten();
    geometry.chain(results).chain(derivatives).map(|number| number.to_bits()).collect()
}

fn write(path: &Path, frames: &[(Frame, Option<Labels>)]) {
    let mut writer = FrameWriter::new(File::create(path).expect("a new file"));
    for (frame, results) in frames {
        let written = match results {
            None => writer.write(frame),
            Some(results) => writer.write_results(frame, results),
        };
        written.unwrap_or_else(|error| panic!("{error}"));
    }
    writer.finish().expect("a written file");
}

fn read(path: &Path) -> Vec<Frame> {
    let reader = FrameReader::open(path).unwrap_or_else(|error| panic!("{error}"));
    reader.map(|frame| frame.unwrap_or_else(|error| panic!("{error}"))).collect()
}

proptest! {
    #[test]
    fn what_is_written_is_read(frames in vec(frame(), 1..4)) {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = dir.path().join("f.extxyz");
        let frames: Vec<_> = frames.into_iter().map(|frame| (frame, None)).collect();
        write(&path, &frames);
        let again = read(&path);
        prop_assert_eq!(again.len(), frames.len());
        for (again, (frame, _)) in again.iter().zip(&frames) {
            prop_assert_eq!(again, frame);
            let none = Labels::default();
            prop_assert_eq!(bits(&again.structure, &none), bits(&frame.structure, &none));
        }
    }

    #[test]
    fn results_are_read_as_labels(
        (frame, stale, results) in frame().prop_flat_map(|frame| {
            let n_atoms = frame.structure.n_atoms();
            (Just(frame), labels(n_atoms), labels(n_atoms))
        })
    ) {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = dir.path().join("f.extxyz");
        write(&path, &[(frame.clone(), Some(stale))]);
        let labelled = read(&path).remove(0);
        write(&path, &[(labelled, Some(results.clone()))]);
        let again = read(&path).remove(0);
        let found = again.labels().unwrap_or_else(|error| panic!("{error}"));
        prop_assert_eq!(bits(&again.structure, &found), bits(&frame.structure, &results));
        prop_assert_eq!(found, results);
        // The rest is as it was before there were any.
        let is_label = |name: &str| ["energy", "stress", "forces", "energies"].contains(&name);
        let mut rest = again;
        rest.info.retain(|(key, _)| !is_label(key));
        rest.columns.retain(|column| !is_label(&column.name));
        prop_assert_eq!(rest, frame);
    }
}

#[test]
fn the_form_is_that_of_ase() {
    let cell = [[4.0, 0.0, 0.0], [0.0, 5.5, 0.0], [0.0, 0.0, 1e20]];
    let mut slab =
        Frame::from(Structure::periodic("a slab", vec![29, 8], vec![[0.0, -0.0, 1e-9], [1.0, 2.0, 0.1]], cell));
    slab.structure.pbc = [true, true, false];
    slab.info.push(("ref_energy".into(), "-1.50".into()));
    slab.info.push(("energy".into(), "7".into()));
    slab.columns.push(Column::new("tag", ColumnKind::Text, 1, ["O5'", "b c"]));
    slab.columns.push(Column::new("forces", ColumnKind::Real, 3, ["9"; 6]));
    let results = Labels {
        energy: Some(-3.0),
        energies: Some(vec![-1.0, -2.0]),
        forces: Some(vec![[0.25, 0.0, 0.0], [-0.25, 0.0, 0.0]]),
        stress: Some([[1.0, 6.0, 5.0], [6.0, 2.0, 4.0], [5.0, 4.0, 3.0]]),
    };
    let mut writer = FrameWriter::new(Vec::new());
    writer.write_results(&slab, &results).expect("a good frame");
    writer.write(&Frame::from(Structure::open("", vec![1], vec![[0.0; 3]]))).expect("a good frame");
    let text = String::from_utf8(writer.finish().expect("no file")).expect("text");
    let expected = "2\nLattice=\"4.0 0.0 0.0 0.0 5.5 0.0 0.0 0.0 1e20\" \
        Properties=species:S:1:pos:R:3:tag:S:1:energies:R:1:forces:R:3 pbc=\"T T F\" energy=-3.0 \
        stress=\"1.0 6.0 5.0 6.0 2.0 4.0 5.0 4.0 3.0\" name=\"a slab\" ref_energy=-1.50\n\
        Cu 0.0 -0.0 1e-9 O5' -1.0 0.25 0.0 0.0\nO 1.0 2.0 0.1 \"b c\" -2.0 -0.25 0.0 0.0\n\
        1\nProperties=species:S:1:pos:R:3 pbc=\"F F F\"\nH 0.0 0.0 0.0\n";
    assert_eq!(text, expected);
}

#[test]
fn what_cannot_be_read_again_is_refused_whole() {
    let good = || Frame::from(Structure::open("x", vec![1], vec![[0.0; 3]]));
    let refused = |change: &dyn Fn(&mut Frame, &mut Labels), expected: &str| {
        let (mut frame, mut results) = (good(), Labels::default());
        change(&mut frame, &mut results);
        let mut writer = FrameWriter::new(Vec::new());
        let error = writer.write_results(&frame, &results).expect_err(expected);
        assert!(matches!(error, WriteError::Frame { .. }));
        assert_eq!(error.to_string(), format!("frame `x`: expected {expected}"));
        assert!(writer.finish().expect("no file").is_empty());
    };
    let column = |name: &str, width, values: &[&str]| Column::new(name, ColumnKind::Real, width, values);
    refused(&|f, _| f.structure.positions[0][1] = f64::NAN, "a finite number for a position, found NaN");
    refused(&|_, r| r.energy = Some(f64::INFINITY), "a finite number for the energy, found inf");
    refused(&|f, _| f.structure.species[0] = 0, "an atomic number from 1 to 118, found 0");
    refused(&|f, _| f.structure.species.push(1), "1 of species for each of 1 atoms, found 2");
    refused(&|f, _| f.structure.pbc[2] = true, "a cell, because pbc has a periodic direction, found none");
    refused(&|f, _| f.columns.push(column("q", 2, &["1"])), "2 of q for each of 1 atoms, found 1");
    refused(&|f, _| f.columns.push(column("q", 0, &[])), "1 to 10000 values of q for each atom, found 0");
    refused(
        &|f, _| f.columns.push(column("a:b", 1, &["1"])),
        "a column of another name than `species` and `pos`, without `:`, found `a:b`",
    );
    for key in ["pbc", ""] {
        let expected = format!("a key that is not empty and says nothing of the structure, found `{key}`");
        refused(&|f, _| f.info.push((key.into(), "T T T".into())), &expected);
    }
    refused(&|f, _| f.info.push(("a".into(), "b\nc".into())), "a text without line breaks, found `b\\nc`");
    refused(&|_, r| r.forces = Some(vec![]), "1 of forces for each of 1 atoms, found 0");
    refused(&|_, r| r.energies = Some(vec![0.0; 2]), "1 of energies for each of 1 atoms, found 2");
}

/// Old forces do not stay beside a new energy.
#[test]
fn labels_of_one_frame_have_one_origin_after_writing() {
    let mut frame = Frame::from(Structure::open("x", vec![1], vec![[0.0; 3]]));
    frame.columns.push(Column::new("forces", ColumnKind::Real, 3, ["9"; 3]));
    let dir = tempfile::tempdir().expect("a temporary folder");
    let path = dir.path().join("f.extxyz");
    let results = Labels { energy: Some(1.0), ..Labels::default() };
    write(&path, &[(frame, Some(results.clone()))]);
    assert_eq!(read(&path)[0].labels().expect("good labels"), results);
}
