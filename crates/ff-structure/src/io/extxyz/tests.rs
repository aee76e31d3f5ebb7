//! What is read of texts, and how what is broken in them is named.

use std::io::{BufRead, Read};
use std::path::Path;

use super::*;
use crate::io::frame::{ColumnKind, Labels};
use crate::io::{Frame, Frames};
use crate::{Structure, StructureError};

fn parse(text: &str, path: &Path) -> Result<Frames, StructureError> {
    let mut reader = Reader::new(text.as_bytes(), path.into());
    let frames: Result<Vec<Frame>, _> = std::iter::from_fn(|| reader.next_frame().transpose()).collect();
    let structures = frames?.into_iter().map(|frame| frame.structure).collect();
    Ok(Frames { structures, warnings: reader.warnings().to_vec() })
}

fn first(text: &str) -> Frame {
    let mut reader = Reader::new(text.as_bytes(), Path::new("f.extxyz").into());
    reader.next_frame().unwrap_or_else(|error| panic!("{error}")).expect("a frame")
}

fn read(text: &str) -> Result<Vec<Structure>, String> {
    parse(text, Path::new("f.extxyz")).map(|frames| frames.structures).map_err(|e| e.to_string())
}

#[test]
fn frames_columns_and_quotes() {
    let text = "2\r\nProperties=id:I:1:pos:R:3:label:S:1:species:S:1 Lattice = \"4 0 0 0 5 0 0 0 6\" \
                note='a = \"b\"' name=\"two atoms\" pbc=\"T F T\" flag empty= energy=-1e-3 m=[[1,2],[3,4]]\r\n\
                7 0 1e0 -2.5 \"a b\" H\r\n8 1 2 3 c CL\r\n\r\n\
                1\r\npbc=[F, F, F] Properties=pos:R:3:Z:I:1\r\n0 0 0 79\r\n\
                0\r\nLattice={1 0 0 0 1 0 0 0 1} Properties=species:S:1:pos:R:3\r\n\r\n\r\n";
    let frames = read(text).expect("three frames");
    assert_eq!(frames.len(), 3);
    assert_eq!(
        frames[0],
        Structure {
            name: "two atoms".into(),
            species: vec![1, 17],
            positions: vec![[0.0, 1.0, -2.5], [1.0, 2.0, 3.0]],
            cell: Some([[4.0, 0.0, 0.0], [0.0, 5.0, 0.0], [0.0, 0.0, 6.0]]),
            pbc: [true, false, true],
        }
    );
    assert_eq!(frames[1], Structure::open("f#2", vec![79], vec![[0.0; 3]]));
    assert_eq!((frames[2].n_atoms(), frames[2].pbc), (0, [true; 3]));
}

#[test]
fn plain_xyz_has_free_comments_and_further_columns() {
    let frames = read("2\nit's 5\" wide = {\n  C 0 0 0 0.1\n  8 1 0 0\n1\n\nH 0 0 0\n").expect("two frames");
    assert_eq!(frames[0], Structure::open("f#1", vec![6, 8], vec![[0.0; 3], [1.0, 0.0, 0.0]]));
    assert_eq!(frames[1].name, "f#2");
    assert_eq!(read("1\nLattice energy\nH 0 0 0").expect("one frame")[0].name, "f");
}

#[test]
fn near_misses_of_keys_are_said_once() {
    let warnings = |text: &str| -> Vec<String> {
        let frames = parse(text, Path::new("f.xyz")).unwrap_or_else(|error| panic!("{error}"));
        frames.warnings.iter().map(ToString::to_string).collect()
    };
    let cell = "\"4 0 0 0 4 0 0 0 4\"";
    for (comment, found, meant) in [
        (format!("lattice={cell} Properties=species:S:1:pos:R:3"), "lattice", "Lattice"),
        (format!("LATTICE = {cell}"), "LATTICE", "Lattice"),
        (format!("Latice={cell} energy=-1.5"), "Latice", "Lattice"),
        (format!("energy=-1.5 Latttise={cell}"), "Latttise", "Lattice"),
        (format!("properties=pos:R:3:species:S:1 Lattice={cell}"), "properties", "Properties"),
        (format!("Propertis=species:S:1:pos:R:3 Lattice={cell}"), "Propertis", "Properties"),
        (format!("Lattice={cell} PBC=\"T T F\""), "PBC", "pbc"),
        (format!("Lattice={cell} pcb=\"T T F\""), "pcb", "pbc"),
    ] {
        let text = format!("1\n{comment}\nH 0 0 0\n");
        let expected =
            format!("f.xyz:2: frame 1: key `{found}` means nothing and is not read, did you mean `{meant}`?");
        assert_eq!(warnings(&text), [&*expected], "{comment}");
        assert_eq!(warnings(&text.repeat(3)), [format!("{expected} (and in 2 further frames)")], "{comment}");
    }
    // Where the key is there, and where nothing looks like one.
    for comment in [
        format!("Lattice={cell} lattice=fcc pbc=\"T T T\" pbe=-1.5 Properties=species:S:1:pos:R:3"),
        "energy=-1.5 forces=none charge=0 name=x config_type=bulk stress=0 free_energy=1".to_owned(),
        "a molecule, whose lattice has Properties".to_owned(),
        "E = -1.5 eV, step= 7, practice=x, b=3".to_owned(),
    ] {
        assert_eq!(warnings(&format!("1\n{comment}\nH 0 0 0\n")), [""; 0], "{comment}");
    }
}

#[test]
fn a_broken_frame_is_named_with_its_line() {
    let good = "1\nProperties=species:S:1:pos:R:3\nH 0 0 0\n";
    for (broken, expected) in [
        ("x\n", "f.extxyz:4: frame 2: expected a number of atoms, found `x`"),
        ("-1\n", "f.extxyz:4: frame 2: expected a number of atoms, found `-1`"),
        ("1\n", "f.extxyz:5: frame 2: expected a comment line, found the end of the file"),
        ("2\n\nH 0 0 0\n", "f.extxyz:7: frame 2: expected atom 2 of 2, found the end of the file"),
        ("18446744073709551615\n\n", "f.extxyz:6: frame 2: expected atom 1 of 18446744073709551615, found the end"),
        ("1\n\nH 0 0\n", "f.extxyz:6: frame 2: expected a symbol and three coordinates, found 3 in `H 0 0`"),
        ("1\n\nH 0 0 nan\n", "f.extxyz:6: frame 2: expected a finite number for z, found NaN"),
        ("1\n\nH 0 inf 0\n", "f.extxyz:6: frame 2: expected a finite number for y, found inf"),
        ("1\n\nH 0x 0 0\n", "f.extxyz:6: frame 2: expected a number for x, found `0x`"),
        ("1\n\n119 0 0 0\n", "f.extxyz:6: frame 2: expected a chemical symbol, found `119`"),
        ("1\nProperties=species:S:1:pos:R:3\nH 0 0 0 0\n", "expected 4 columns as in Properties, found 5 in `H 0"),
        ("1\nProperties=species:S:1\nH\n", "f.extxyz:5: frame 2: expected columns species:S:1 (or Z:I:1) and pos:R:3"),
        ("1\nProperties=species:S:1:pos:R:2\n", "frame 2: expected columns species:S:1 and pos:R:3, found `pos:R:2`"),
        ("1\nProperties=species:S\n", "expected Properties as name:type:width triples, type one of S, R, I, L, found"),
        ("1\nLattice=\"1 0 0 0 1 0 0 0\"\n", "frame 2: expected nine numbers for Lattice, found 8 in `1 0 0 0 1 0"),
        ("1\nLattice=\"1 0 0 0 1 0 0 0 1\n", "f.extxyz:5: frame 2: expected a closing `\"`, found"),
        ("1\nLattice=\"1 0 0 0 1 0 0 0 NaN\"\n", "frame 2: expected a finite number for Lattice, found NaN"),
        ("1\nLattice=\"1 0 0 0 1 0 0 0 1\" pbc=\"T T\"\n", "expected three of T or F for pbc, found `T T`"),
        ("1\nProperties=species:S:1:pos:R:3 pbc=\"T F F\"\n", "frame 2: expected a Lattice, because pbc has a"),
        ("1\nProperties=species:S:1:pos:R:3 lattice=1 pbc=\"T F F\"\n", "periodic direction, found `lattice`"),
    ] {
        let error = read(&format!("{good}{broken}")).expect_err(broken);
        assert!(error.contains(expected), "{error}\n  does not contain\n{expected}");
        assert!(error.contains("frame 2"), "{error}");
    }
    // A count that is too small or too large shows at the line where the frames lose step.
    let text = format!("{good}1\n\nH 0 0 0\nH 1 0 0\n{good}");
    assert!(read(&text).expect_err("one too many").starts_with("f.extxyz:7: frame 3: expected a number of atoms"));
    let text = format!("{good}3\n\nH 0 0 0\nH 1 0 0\n{good}");
    assert!(read(&text).expect_err("one too few").starts_with("f.extxyz:8: frame 2: expected a symbol"));
}

/// A file without end: what is read of it is counted.
struct Endless {
    text: &'static str,
    at: usize,
    read: usize,
}

impl Read for Endless {
    fn read(&mut self, to: &mut [u8]) -> std::io::Result<usize> {
        (&self.text.as_bytes()[self.at..]).read(to).inspect(|n| self.consume(*n))
    }
}

impl BufRead for Endless {
    fn fill_buf(&mut self) -> std::io::Result<&[u8]> {
        Ok(&self.text.as_bytes()[self.at..])
    }

    fn consume(&mut self, n: usize) {
        self.read += n;
        self.at = (self.at + n) % self.text.len();
    }
}

#[test]
fn no_more_is_read_than_a_frame_and_the_count_after_it() {
    let text = "2\npositions=here\nH 0 0 0\nO 1 0 0\n\n";
    let mut reader = Reader::new(Endless { text, at: 0, read: 0 }, Path::new("f.xyz").into());
    for frame in 1..=1000 {
        let read = reader.next_frame().expect("a good frame").expect("no end");
        assert_eq!((read.structure.name, read.structure.species), (format!("f#{frame}"), vec![1, 8]));
        let n_bytes = reader.source().read;
        assert!(n_bytes <= frame * text.len() + "2\n".len(), "{n_bytes} bytes read for {frame} frames");
    }
}

#[test]
fn what_else_a_frame_says_is_kept() {
    let frame = first(
        "2\nProperties=id:I:1:Z:I:1:pos:R:3:label:S:2:species:S:1 Lattice=\"4 0 0 0 5 0 0 0 6\" name=x flag \
         'two words'=\"a \\\"b\\\" c-\\d \\\\\" empty= m=[[1,2],[3,4]] name=\n7 9 0 0 0 \"a b\" c H\n8 9 0 0 0 'd e O\n",
    );
    let pairs: Vec<(&str, &str)> = frame.info.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    let expected = [
        ("name", "x"),
        ("flag", "T"),
        ("two words", "a \"b\" c-\\d \\"),
        ("empty", ""),
        ("m", "[1,2],[3,4]"),
        ("name", ""),
    ];
    assert_eq!(pairs, expected);
    assert_eq!((frame.value("name"), frame.structure.name.as_str()), (Some(""), "x"));
    let columns: Vec<_> = frame
        .columns
        .iter()
        .map(|column| (column.name.as_str(), column.kind, column.width, column.values().collect::<Vec<_>>()))
        .collect();
    let expected = [
        ("id", ColumnKind::Integer, 1, vec!["7", "8"]),
        ("Z", ColumnKind::Integer, 1, vec!["9", "9"]),
        ("label", ColumnKind::Text, 2, vec!["a b", "c", "'d", "e"]),
    ];
    assert_eq!(columns, expected);
    // Where the species are numbers, these are no column of their own.
    assert!(first("1\nProperties=Z:I:1:pos:R:3\n1 0 0 0\n").columns.is_empty());
}

#[test]
fn a_plain_comment_is_pairs_or_text() {
    for (comment, expected) in [
        ("energy=-1.5 pbc=\"T T T\" name='a b'", &[("energy", "-1.5"), ("name", "a b")][..]),
        ("  a molecule, 5\" wide = { ", &[("comment", "a molecule, 5\" wide = {")]),
        ("E = -1.5 eV", &[("comment", "E = -1.5 eV")]),
        (" ", &[]),
    ] {
        let frame = first(&format!("1\n{comment}\nH 0 0 0 0.5\n"));
        let pairs: Vec<(&str, &str)> = frame.info.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        assert_eq!(pairs, expected, "{comment}");
        assert_eq!((frame.structure, frame.columns), (Structure::open("f", vec![1], vec![[0.0; 3]]), vec![]));
    }
}

fn labels(info: &str, columns: &str, atoms: [&str; 2]) -> Result<Labels, String> {
    let [a, b] = atoms;
    let text = format!("2\nProperties=species:S:1:pos:R:3{columns} {info}\nH 0 0 0 {a}\nH 0 0 1 {b}\n");
    first(&text).labels().map_err(|error| error.to_string())
}

#[test]
fn labels_are_found_under_their_names() {
    let forces = Some(vec![[1.0, 2.0, 3.0], [4.0, 5.0, 6.5]]);
    let atoms = ["1 2 3", "4 5 6.5"];
    for prefix in ["", "ref_", "REF_"] {
        let found = labels(&format!("{prefix}energy=-1.5e1"), &format!(":{prefix}forces:R:3"), atoms);
        let expected = Labels { energy: Some(-15.0), forces: forces.clone(), ..Labels::default() };
        assert_eq!(found, Ok(expected), "{prefix}");
    }
    // Predictions beside their reference: no label is taken from the predictions, not even one that the reference lacks.
    let found = labels("energy=1 ref_energy=2", ":forces:R:3", atoms);
    assert_eq!(found, Ok(Labels { energy: Some(2.0), ..Labels::default() }));
    let found = labels("", ":energies:R:1", ["1", "-2"]);
    assert_eq!(found, Ok(Labels { energies: Some(vec![1.0, -2.0]), ..Labels::default() }));
    assert_eq!(labels("Energy=1", "", [""; 2]), Ok(Labels::default()));
    assert_eq!(Frame::from(Structure::open("x", vec![1], vec![[0.0; 3]])).labels().expect("none"), Labels::default());
}

#[test]
fn a_stress_is_a_matrix_or_six_of_voigts() {
    let stress =
        |text: &str| labels(&format!("stress={text}"), "", [""; 2]).map(|labels| labels.stress.expect("a stress"));
    let rows = [[1.0, 6.0, 5.0], [6.0, 2.0, 4.0], [5.0, 4.0, 3.0]];
    for text in [
        "\"1 2 3 4 5 6\"",
        "[1, 2, 3, 4, 5, 6]",
        "\"1 6 5 6 2 4 5 4 3\"",
        "[[1, 6, 5], [6, 2, 4], [5, 4, 3]]",
        "\"_JSON [[1.0, 6.0, 5.0], [6.0, 2.0, 4.0], [5.0, 4.0, 3.0]]\"",
    ] {
        assert_eq!(stress(text), Ok(rows), "{text}");
    }
    let rows = [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0]];
    assert_eq!(stress("\"1 2 3 4 5 6 7 8 9\""), Ok(rows));
}

#[test]
fn broken_labels_are_named_with_their_line() {
    let two = ["0 0 0", "0 0 x"];
    for (info, columns, atoms, expected) in [
        ("energy=low", "", [""; 2], "f.extxyz:2: frame 1: expected a number for energy, found `low`"),
        ("REF_energy=nan", "", [""; 2], "f.extxyz:2: frame 1: expected a finite number for REF_energy, found NaN"),
        ("energy=", "", [""; 2], "f.extxyz:2: frame 1: expected a number for energy, found ``"),
        (
            "ref_stress=\"1 2 3 4 5\"",
            "",
            [""; 2],
            "f.extxyz:2: frame 1: expected nine numbers for ref_stress, or six in Voigt's order, found 5 in `1 2 3 4 5`",
        ),
        ("stress=\"1 2 3 4 5 z\"", "", [""; 2], "f.extxyz:2: frame 1: expected a number for stress, found `z`"),
        ("", ":forces:R:3", two, "f.extxyz:4: frame 1: expected a number for forces, found `x`"),
        ("", ":forces:R:2", ["0 0"; 2], "f.extxyz:2: frame 1: expected a column `forces:R:3`, found `forces:R:2`"),
        ("", ":forces:S:3", two, "f.extxyz:2: frame 1: expected a column `forces:R:3`, found `forces:S:3`"),
        ("", ":energies:R:1", ["1", "inf"], "f.extxyz:4: frame 1: expected a finite number for energies, found inf"),
    ] {
        assert_eq!(labels(info, columns, atoms), Err(expected.to_owned()));
    }
}
