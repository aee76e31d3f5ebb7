//! Extended XYZ as ASE, OVITO and libAtoms write it: a count, a comment line of `key=value` pairs, one line per atom.
//!
//! `Lattice` holds nine numbers, the vectors a, b, c one after the other; without `pbc` it means periodic in all
//! directions. `Properties` names the columns as `name:type:width` triples. A comment with neither is free text: plain XYZ.

use std::path::Path;

use super::{Frames, Place, StructureWarning, frame_name, quoted};
use crate::elements::{MAX_ATOMIC_NUMBER, atomic_number};
use crate::{Structure, StructureError};

/// The keys that say what the atoms are: without them a crystal is a molecule, and columns are in another order.
const KEYS: [&str; 3] = ["Lattice", "Properties", "pbc"];

/// Typing errors that a key may have and still be taken for a slip; a third of its letters where that is less.
const MOST_ERRORS: usize = 2;

pub(super) fn parse(text: &str, path: &Path) -> Result<Frames, StructureError> {
    let mut frames: Vec<(Structure, bool)> = Vec::new();
    let mut warnings: Vec<StructureWarning> = Vec::new();
    let mut lines = text.lines().zip(1..).peekable();
    let n_lines = text.lines().count();
    while let Some((line, number)) = lines.next() {
        // Blank lines between frames and at the end are common; a blank comment is never reached here.
        if line.trim().is_empty() {
            continue;
        }
        let mut place = Place { path, frame: frames.len() + 1, line: number };
        let n_atoms: usize =
            line.trim().parse().map_err(|_| place.expected("a number of atoms", quoted(line.trim())))?;
        place.line += 1;
        let ends = |place: Place<'_>, what: String| place.expected(what, "the end of the file");
        let (comment, _) = lines.next().ok_or_else(|| ends(place, "a comment line".into()))?;
        let header = Header::parse(comment, place)?;
        for (found, meant) in header.slips {
            match warnings.iter_mut().find(|warning| (warning.found.as_str(), warning.meant) == (found, meant)) {
                Some(known) => known.frames += 1,
                None => warnings.push(place.slip(found, meant)),
            }
        }
        // The count is not trusted with memory before the lines are seen.
        let mut species = Vec::with_capacity(n_atoms.min(n_lines));
        let mut positions = Vec::with_capacity(n_atoms.min(n_lines));
        for atom in 1..=n_atoms {
            place.line += 1;
            let (line, _) = lines.next().ok_or_else(|| ends(place, format!("atom {atom} of {n_atoms}")))?;
            let (z, position) = header.columns.atom(line, place)?;
            species.push(z);
            positions.push(position);
        }
        let named = header.name.is_some();
        let name = header.name.unwrap_or_default();
        frames.push((Structure { name, species, positions, cell: header.cell, pbc: header.pbc }, named));
    }
    let several = frames.len() > 1;
    let named = |(i, (mut structure, named)): (usize, (Structure, bool))| {
        if !named {
            structure.name = frame_name(path, i + 1, several);
        }
        structure
    };
    Ok(Frames { structures: frames.into_iter().enumerate().map(named).collect(), warnings })
}

/// What the comment line says.
struct Header<'a> {
    name: Option<String>,
    cell: Option<[[f64; 3]; 3]>,
    pbc: [bool; 3],
    columns: Columns,
    /// Keys that are not read, each with the one that it was probably meant to be.
    slips: Vec<(&'a str, &'static str)>,
}

impl<'a> Header<'a> {
    fn parse(comment: &'a str, place: Place<'_>) -> Result<Self, StructureError> {
        let mut header = Self { name: None, cell: None, pbc: [false; 3], columns: Columns::PLAIN, slips: Vec::new() };
        let has = |key: &str| comment.split(key).skip(1).any(|after| after.trim_start().starts_with('='));
        if !has("Lattice") && !has("Properties") {
            // Free text, which need not be pairs; what stands before a `=` in it may still have been meant as a key.
            let before = comment.match_indices('=').map(|(at, _)| comment[..at].split_whitespace().next_back());
            header.slips = slips(before.flatten());
            return Ok(header);
        }
        let mut pbc = None;
        let pairs = pairs(comment, place)?;
        header.slips = slips(pairs.iter().map(|(key, _)| *key));
        for (key, value) in pairs {
            match key {
                "Lattice" => header.cell = Some(lattice(value, place)?),
                "pbc" => pbc = Some(periodic(value, place)?),
                "Properties" => header.columns = Columns::parse(value, place)?,
                "name" if !value.is_empty() => header.name = Some(value.to_owned()),
                _ => {}
            }
        }
        header.pbc = pbc.unwrap_or([header.cell.is_some(); 3]);
        if header.cell.is_none() && header.pbc.contains(&true) {
            let slip = header.slips.iter().find(|(_, meant)| *meant == "Lattice");
            let found = slip.map_or_else(|| "none".to_owned(), |(found, _)| quoted(found));
            return Err(place.expected("a Lattice, because pbc has a periodic direction", found));
        }
        Ok(header)
    }
}

/// The keys that are nearly one of [`KEYS`] which is not there itself: in another case, or with a typing error or two.
fn slips<'a>(keys: impl Iterator<Item = &'a str> + Clone) -> Vec<(&'a str, &'static str)> {
    let missing: Vec<&'static str> = KEYS.into_iter().filter(|key| !keys.clone().any(|found| found == *key)).collect();
    let nearest = |found: &'a str| {
        let errors = |key: &&'static str| {
            let errors = strsim::damerau_levenshtein(&found.to_lowercase(), &key.to_lowercase());
            (errors <= MOST_ERRORS.min(key.len() / 3)).then_some((errors, *key))
        };
        missing.iter().filter_map(errors).min().map(|(_, key)| (found, key))
    };
    let mut slips: Vec<(&str, &str)> = Vec::new();
    for slip in keys.filter_map(nearest) {
        if !slips.contains(&slip) {
            slips.push(slip);
        }
    }
    slips
}

/// The `key=value` pairs of a comment line; a key without a value stands for `T`.
fn pairs<'a>(comment: &'a str, place: Place<'_>) -> Result<Vec<(&'a str, &'a str)>, StructureError> {
    let mut pairs = Vec::new();
    let mut rest = comment.trim_start();
    while !rest.is_empty() {
        let (key, after) = token(rest, |c| c.is_whitespace() || c == '=', place)?;
        let after_blank = after.trim_start();
        let Some(after) = after_blank.strip_prefix('=') else {
            pairs.push((key, "T"));
            rest = after_blank;
            continue;
        };
        // `name= energy=1` is an empty value followed by a pair; only a quoted value may stand apart from its `=`.
        let apart = after.trim_start();
        let (value, after) = if apart.starts_with(['"', '\'', '{', '[']) {
            token(apart, char::is_whitespace, place)?
        } else {
            token(after, char::is_whitespace, place)?
        };
        pairs.push((key, value));
        rest = after.trim_start();
    }
    Ok(pairs)
}

/// Splits off one token: quoted or bracketed text, or everything up to a delimiter.
fn token<'a>(
    text: &'a str,
    delimiter: impl Fn(char) -> bool,
    place: Place<'_>,
) -> Result<(&'a str, &'a str), StructureError> {
    let close = match text.chars().next() {
        Some(quote @ ('"' | '\'')) => quote,
        Some('{') => '}',
        Some('[') => ']',
        _ => return Ok(text.split_at(text.find(delimiter).unwrap_or(text.len()))),
    };
    let body = &text[1..];
    let mut escaped = false;
    let mut depth = 0;
    for (at, c) in body.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '[' if close == ']' => depth += 1,
            '{' if close == '}' => depth += 1,
            _ if c == close && depth > 0 => depth -= 1,
            _ if c == close => return Ok((&body[..at], &body[at + 1..])),
            _ => {}
        }
    }
    Err(place.expected(format!("a closing `{close}`"), quoted(text)))
}

fn lattice(value: &str, place: Place<'_>) -> Result<[[f64; 3]; 3], StructureError> {
    let separators = |c: char| c.is_whitespace() || c == ',';
    let entries: Vec<&str> = value.split(separators).filter(|s| !s.is_empty()).collect();
    if entries.len() != 9 {
        let found = format!("{} in {}", entries.len(), quoted(value));
        return Err(place.expected("nine numbers for Lattice", found));
    }
    let mut cell = [[0.0; 3]; 3];
    for (entry, text) in cell.as_flattened_mut().iter_mut().zip(entries) {
        *entry = place.number("Lattice", text)?;
    }
    Ok(cell)
}

fn periodic(value: &str, place: Place<'_>) -> Result<[bool; 3], StructureError> {
    let wrong = || place.expected("three of T or F for pbc", quoted(value));
    let separators = |c: char| c.is_whitespace() || c == ',';
    let mut flags = value.split(separators).filter(|s| !s.is_empty()).map(|flag| match flag {
        "T" | "t" | "True" | "TRUE" | "true" | "1" => Ok(true),
        "F" | "f" | "False" | "FALSE" | "false" | "0" => Ok(false),
        _ => Err(wrong()),
    });
    let mut pbc = [false; 3];
    for periodic in &mut pbc {
        *periodic = flags.next().ok_or_else(wrong)??;
    }
    if flags.next().is_some() { Err(wrong()) } else { Ok(pbc) }
}

/// Where species and positions stand in an atom's line.
struct Columns {
    species: usize,
    position: usize,
    /// Columns of a line; `None` where a plain XYZ file may have any number of further ones.
    total: Option<usize>,
}

impl Columns {
    const PLAIN: Self = Self { species: 0, position: 1, total: None };

    fn parse(properties: &str, place: Place<'_>) -> Result<Self, StructureError> {
        let fields: Vec<&str> = properties.split(':').collect();
        let malformed = |found: &str| {
            let expected = "Properties as name:type:width triples, type one of S, R, I, L";
            place.expected(expected, quoted(found))
        };
        let (mut symbols, mut numbers, mut position, mut total) = (None, None, None, 0usize);
        for triple in fields.chunks(3) {
            let &[name, kind @ ("S" | "R" | "I" | "L"), width] = triple else {
                return Err(malformed(&triple.join(":")));
            };
            let width: usize =
                width.parse().ok().filter(|w| (1..=10_000).contains(w)).ok_or_else(|| malformed(&triple.join(":")))?;
            match (name, kind, width) {
                ("species", "S", 1) => symbols = Some(total),
                ("Z" | "numbers", "I", 1) => numbers = Some(total),
                ("pos", "R", 3) => position = Some(total),
                ("species" | "pos", ..) => {
                    return Err(place.expected("columns species:S:1 and pos:R:3", quoted(&triple.join(":"))));
                }
                _ => {}
            }
            total += width;
        }
        match (symbols.or(numbers), position) {
            (Some(species), Some(position)) => Ok(Self { species, position, total: Some(total) }),
            _ => Err(place.expected("columns species:S:1 (or Z:I:1) and pos:R:3 in Properties", quoted(properties))),
        }
    }

    fn atom(&self, line: &str, place: Place<'_>) -> Result<(u8, [f64; 3]), StructureError> {
        let columns = self.split(line, place)?;
        let right = match self.total {
            Some(total) => columns.len() == total,
            None => columns.len() >= 4,
        };
        if !right {
            let expected = match self.total {
                Some(total) => format!("{total} columns as in Properties"),
                None => "a symbol and three coordinates".into(),
            };
            return Err(place.expected(expected, format!("{} in {}", columns.len(), quoted(line.trim()))));
        }
        let text = columns[self.species];
        let z = match text.parse::<u8>() {
            Ok(z) if (1..=MAX_ATOMIC_NUMBER).contains(&z) => Some(z),
            Ok(_) => None,
            Err(_) => atomic_number(text),
        };
        let z = z.ok_or_else(|| place.expected("a chemical symbol", quoted(text)))?;
        let mut position = [0.0; 3];
        for (k, name) in ["x", "y", "z"].into_iter().enumerate() {
            position[k] = place.number(name, columns[self.position + k])?;
        }
        Ok((z, position))
    }

    fn split<'a>(&self, line: &'a str, place: Place<'_>) -> Result<Vec<&'a str>, StructureError> {
        // Only columns that Properties declares can be quoted text; in plain XYZ a quote is a character like any other.
        if self.total.is_none() || !line.contains('"') {
            return Ok(line.split_whitespace().collect());
        }
        let mut columns = Vec::new();
        let mut rest = line.trim();
        while !rest.is_empty() {
            let (column, after) = token(rest, char::is_whitespace, place)?;
            columns.push(column);
            rest = after.trim_start();
        }
        Ok(columns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
            (
                "1\nProperties=species:S:1\nH\n",
                "f.extxyz:5: frame 2: expected columns species:S:1 (or Z:I:1) and pos:R:3",
            ),
            (
                "1\nProperties=species:S:1:pos:R:2\n",
                "frame 2: expected columns species:S:1 and pos:R:3, found `pos:R:2`",
            ),
            (
                "1\nProperties=species:S\n",
                "expected Properties as name:type:width triples, type one of S, R, I, L, found",
            ),
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
}
