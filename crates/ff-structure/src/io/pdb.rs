//! PDB, format 3.3: the records `ATOM`, `HETATM`, `CRYST1`, `MODEL`, `ENDMDL` and `END`; all others are skipped.
//!
//! The orientation of the cell is the format's default (a along x, b in the xy plane); `SCALEn` is not read.

use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;

use super::{Place, frame_name, quoted};
use crate::elements::atomic_number;
use crate::{Structure, StructureError};

/// A residue as `altLoc` is judged by: chain, number and insertion code, columns 22 to 27.
type Residue = String;

/// The atoms of the frame being read.
#[derive(Default)]
struct Frame {
    species: Vec<u8>,
    positions: Vec<[f64; 3]>,
    /// The alternate location that is kept, by residue: the first one seen.
    alternate: HashMap<Residue, String>,
}

pub(super) fn parse(text: &str, path: &Path) -> Result<Vec<Structure>, StructureError> {
    let mut frames: Vec<Structure> = Vec::new();
    let mut cell = None;
    let mut frame = Frame::default();
    let mut in_model = false;
    let close = |frames: &mut Vec<Structure>, frame: Frame, cell: Option<[[f64; 3]; 3]>| {
        let Frame { species, positions, .. } = frame;
        frames.push(Structure { name: String::new(), species, positions, cell, pbc: [cell.is_some(); 3] });
    };
    let mut place = Place { path, frame: 1, line: 0 };
    for line in text.lines() {
        place.line += 1;
        place.frame = frames.len() + 1;
        match columns(line, 0..6) {
            "CRYST1" => cell = unit_cell(line, place)?,
            "MODEL" if in_model => return Err(place.expected("ENDMDL", quoted(line.trim()))),
            "MODEL" => {
                // Atoms before the first MODEL are a frame of their own.
                if !frame.positions.is_empty() {
                    close(&mut frames, std::mem::take(&mut frame), cell);
                }
                in_model = true;
            }
            "ENDMDL" | "END" if frame.positions.is_empty() && in_model => {
                return Err(place.expected("at least one ATOM or HETATM in the model", quoted(line.trim())));
            }
            "END" if in_model => return Err(place.expected("ENDMDL", "END")),
            "ENDMDL" | "END" => {
                // Some programs write END after each frame of a trajectory; at the end of a file of models it is empty.
                if !frame.positions.is_empty() {
                    close(&mut frames, std::mem::take(&mut frame), cell);
                }
                in_model = false;
            }
            _ if line.starts_with("ATOM") || line.starts_with("HETATM") => frame.atom(line, place)?,
            _ => {}
        }
    }
    place.line += 1;
    place.frame = frames.len() + 1;
    if in_model {
        return Err(place.expected("ENDMDL", "the end of the file"));
    }
    if !frame.positions.is_empty() {
        close(&mut frames, frame, cell);
    }
    let several = frames.len() > 1;
    for (i, structure) in frames.iter_mut().enumerate() {
        structure.name = frame_name(path, i + 1, several);
    }
    Ok(frames)
}

impl Frame {
    fn atom(&mut self, line: &str, place: Place<'_>) -> Result<(), StructureError> {
        if line.len() < 54 {
            let expected = "coordinates in columns 31 to 54";
            return Err(place.expected(expected, format!("a line of {} columns: {}", line.len(), quoted(line))));
        }
        let alternate = columns(line, 16..17);
        if !alternate.is_empty() {
            let residue = line.get(21..27).unwrap_or_default().to_owned();
            if self.alternate.entry(residue).or_insert_with(|| alternate.to_owned()) != alternate {
                return Ok(());
            }
        }
        let mut position = [0.0; 3];
        for (k, (name, range)) in
            [("x (columns 31 to 38)", 30..38), ("y (columns 39 to 46)", 38..46), ("z (columns 47 to 54)", 46..54)]
                .into_iter()
                .enumerate()
        {
            position[k] = place.number(name, columns(line, range))?;
        }
        self.species.push(element(line, place)?);
        self.positions.push(position);
        Ok(())
    }
}

/// The trimmed text of fixed columns (counted from 0); empty beyond the end of the line.
fn columns(line: &str, range: Range<usize>) -> &str {
    let end = range.end.min(line.len());
    line.get(range.start.min(end)..end).unwrap_or_default().trim()
}

/// The cell of a `CRYST1` record; `None` for the unit cube that stands for "no crystal", and for zeros.
fn unit_cell(line: &str, place: Place<'_>) -> Result<Option<[[f64; 3]; 3]>, StructureError> {
    let fields = [
        ("a (columns 7 to 15)", 6..15),
        ("b (columns 16 to 24)", 15..24),
        ("c (columns 25 to 33)", 24..33),
        ("alpha (columns 34 to 40)", 33..40),
        ("beta (columns 41 to 47)", 40..47),
        ("gamma (columns 48 to 54)", 47..54),
    ];
    let mut values = [0.0; 6];
    for (value, (name, range)) in values.iter_mut().zip(fields) {
        *value = place.number(name, columns(line, range))?;
    }
    let [a, b, c, angles @ ..] = values;
    if [a, b, c] == [0.0; 3] || values == [1.0, 1.0, 1.0, 90.0, 90.0, 90.0] {
        return Ok(None);
    }
    // The cosine of 90 degrees is 6e-17 in floating point; a cell that is written as orthorhombic stays so.
    let cosine = |degrees: f64| if degrees == 90.0 { 0.0 } else { degrees.to_radians().cos() };
    let [cos_alpha, cos_beta, cos_gamma] = angles.map(cosine);
    let sin_gamma = (1.0 - cos_gamma * cos_gamma).sqrt();
    let y = (cos_alpha - cos_beta * cos_gamma) / sin_gamma;
    let z = (1.0 - cos_beta * cos_beta - y * y).sqrt();
    let positive = [a, b, c, z].iter().all(|value| *value > 0.0);
    if !positive || angles.iter().any(|angle| !(*angle > 0.0 && *angle < 180.0)) {
        let expected = "three positive lengths and three angles that span a cell";
        return Err(place.expected(expected, format!("{a} {b} {c} {} {} {}", angles[0], angles[1], angles[2])));
    }
    Ok(Some([[a, 0.0, 0.0], [b * cos_gamma, b * sin_gamma, 0.0], [c * cos_beta, c * y, c * z]]))
}

/// The element of an atom: columns 77 and 78, or from the atom's name where they are blank.
///
/// Names hold the symbol right-justified in columns 13 and 14 (` CA ` is a carbon, `CA  ` is calcium), except that hydrogens
/// with four characters start in column 13 (`HG11`). Two letters there are trusted for ions and other hetero atoms only,
/// because many programs write protein names left-justified.
fn element(line: &str, place: Place<'_>) -> Result<u8, StructureError> {
    // Deuterium is hydrogen to a force field.
    let lookup = |symbol: &str| if symbol == "D" { Some(1) } else { atomic_number(symbol) };
    let column = columns(line, 76..78);
    // Files from before format 3.0 have serial digits here, which say nothing about the element.
    if !column.is_empty() && column.bytes().all(|b| b.is_ascii_alphabetic()) {
        return lookup(column).ok_or_else(|| place.expected("an element in columns 77 and 78", quoted(column)));
    }
    let field = line.get(12..16).unwrap_or_default();
    let name = field.trim();
    let letters = name.trim_start_matches(|c: char| c.is_ascii_digit());
    let first = letters.get(..1).unwrap_or_default();
    let two = field.get(..2).unwrap_or_default();
    let is_hetero = line.starts_with("HETATM") || columns(line, 17..20) == name;
    let is_long_hydrogen = name.len() == 4 && matches!(first, "H" | "D");
    let by_two = if is_hetero && !is_long_hydrogen { atomic_number(two) } else { None };
    by_two.or_else(|| lookup(first)).ok_or_else(|| {
        place.expected("an element in columns 77 and 78 or an atom name that starts with one", quoted(field))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<Structure>, String> {
        parse(text, Path::new("f.pdb")).map_err(|e| e.to_string())
    }

    /// An atom record with the name in columns 13 to 16 as given.
    fn atom(record: &str, name: &str, alternate: char, residue: &str, number: u32, x: f64, element: &str) -> String {
        format!(
            "{record:<6}{:>5} {name:<4}{alternate}{residue:>3} A{number:>4}    {x:>8.3}{:>8.3}{:>8.3}{:>6.2}{:>6.2}          {element:>2}\n",
            1, 2.0, -3.5, 1.0, 0.0
        )
    }

    #[test]
    fn elements_from_column_or_name() {
        for (record, name, residue, element, z) in [
            ("ATOM", " CA ", "ALA", " C", 6),
            ("ATOM", " CA ", "ALA", "", 6),
            ("ATOM", "CA  ", "ALA", "", 6),
            ("HETATM", "CA  ", " CA", "", 20),
            ("ATOM", "NA  ", " NA", "", 11),
            ("HETATM", "CL  ", " CL", "CL", 17),
            ("ATOM", "HG11", "VAL", "", 1),
            ("ATOM", "1HB ", "ALA", "", 1),
            ("HETATM", "HO5'", "DOD", "", 1),
            ("ATOM", " D  ", "ALA", " D", 1),
            ("ATOM", " O  ", "HOH", "12", 8),
            ("HETATM", "FE  ", "HEM", "", 26),
            ("HETATM", " CD ", "XYZ", "", 6),
        ] {
            let frames = read(&atom(record, name, ' ', residue, 1, 1.0, element)).expect("one frame");
            assert_eq!((frames[0].species[0], frames[0].positions[0]), (z, [1.0, 2.0, -3.5]), "{name} {residue}");
        }
    }

    #[test]
    fn models_are_frames_and_alternates_are_left_out() {
        let model = |n: u32, x: f64| {
            let a = atom("ATOM", " N  ", ' ', "SER", 1, x, "N");
            let b = atom("ATOM", " CA ", 'A', "SER", 1, x, "C");
            let c = atom("ATOM", " CA ", 'B', "SER", 1, x + 0.3, "C");
            let d = atom("HETATM", " O  ", 'B', "HOH", 2, x, "O");
            format!("MODEL     {n:>4}\n{a}{b}{c}TER\n{d}ENDMDL\n")
        };
        let cell = "CRYST1   10.000   11.000   12.000  90.00 100.00 120.00 P 1           1\n";
        let frames = read(&format!("REMARK é\n{cell}{}{}END\n", model(1, 1.0), model(2, 2.0))).expect("two models");
        assert_eq!(frames.len(), 2);
        assert_eq!((frames[1].name.as_str(), &frames[1].species[..]), ("f#2", &[7, 6, 8][..]));
        assert_eq!(frames[1].positions[1], [2.0, 2.0, -3.5]);
        let [a, b, c] = frames[0].cell.expect("a cell");
        let dot = |p: [f64; 3], q: [f64; 3]| p.iter().zip(q).map(|(x, y)| x * y).sum::<f64>();
        for (found, expected) in [
            (dot(a, a), 100.0),
            (dot(b, b), 121.0),
            (dot(c, c), 144.0),
            (dot(a, b), -55.0),
            (dot(b, c), 0.0),
            (dot(a, c), 120.0 * 100f64.to_radians().cos()),
        ] {
            assert!((found - expected).abs() < 1e-12 * 144.0, "{found} is not {expected}");
        }
        assert_eq!(frames[0].pbc, [true; 3]);
    }

    #[test]
    fn end_separates_frames_and_the_unit_cube_is_no_cell() {
        let a = atom("ATOM", " O  ", ' ', "HOH", 1, 1.0, "O");
        let cube = "CRYST1    1.000    1.000    1.000  90.00  90.00  90.00 P 1           1\n";
        let cell = "CRYST1    9.000    9.000    9.000  90.00  90.00  90.00 P 1           1\n";
        let frames = read(&format!("{cube}{a}END\n{cell}{a}{a}END\n")).expect("two frames");
        assert_eq!((frames[0].cell, frames[0].pbc, frames[0].n_atoms()), (None, [false; 3], 1));
        assert_eq!(frames[1].cell, Some([[9.0, 0.0, 0.0], [0.0, 9.0, 0.0], [0.0, 0.0, 9.0]]));
        assert_eq!(frames[1].n_atoms(), 2);
    }

    #[test]
    fn a_broken_frame_is_named_with_its_line() {
        let a = atom("ATOM", " O  ", ' ', "HOH", 1, 1.0, "O");
        let good = format!("MODEL        1\n{a}ENDMDL\n");
        for (broken, expected) in [
            (format!("MODEL        2\n{a}"), "f.pdb:6: frame 2: expected ENDMDL, found the end of the file"),
            (format!("MODEL        2\n{a}MODEL\n"), "f.pdb:6: frame 2: expected ENDMDL, found `MODEL`"),
            (format!("MODEL        2\n{a}END\n"), "f.pdb:6: frame 2: expected ENDMDL, found END"),
            ("MODEL        2\nENDMDL\n".into(), "f.pdb:5: frame 2: expected at least one ATOM or HETATM in the model"),
            (
                "ATOM      1  O   HOH A   1    1.0\n".into(),
                "f.pdb:4: frame 2: expected coordinates in columns 31 to 54",
            ),
            (
                a.replace("   1.000", "********"),
                "frame 2: expected a number for x (columns 31 to 38), found `********`",
            ),
            (
                a.replace("  -3.500", "     NaN"),
                "frame 2: expected a finite number for z (columns 47 to 54), found NaN",
            ),
            (atom("ATOM", " O  ", ' ', "HOH", 1, 1.0, "Xx"), "expected an element in columns 77 and 78, found `Xx`"),
            (atom("ATOM", " ?  ", ' ', "HOH", 1, 1.0, ""), "an atom name that starts with one, found ` ?  `"),
            ("CRYST1    9.000    9.000    9.000  90.00".into(), "expected a number for beta (columns 41 to 47), found"),
            (
                "CRYST1    9.000    9.000    9.000  90.00  90.00 180.00".into(),
                "f.pdb:4: frame 2: expected three positive lengths and three angles that span a cell, found 9 9 9 90 90",
            ),
        ] {
            let error = read(&format!("{good}{broken}")).expect_err(&broken);
            assert!(error.contains(expected), "{error}\n  does not contain\n{expected}");
        }
    }
}
