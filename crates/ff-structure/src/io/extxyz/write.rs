//! Frames as extended XYZ, in the form that ASE writes and reads.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{self, Write};

use super::KEYS;
use crate::Structure;
use crate::elements::{MAX_ATOMIC_NUMBER, symbol};
use crate::io::frame::{Frame, LABELS, Labels};
use crate::io::quoted;

/// Why a frame could not be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// What is written to refused.
    #[error("cannot write the frame: {0}")]
    Io(#[from] io::Error),
    /// Extended XYZ has no form for it, or a reader would see another frame. Nothing of the frame was written.
    #[error("frame `{frame}`: expected {expected}, found {found}")]
    Frame {
        /// Name of the structure.
        frame: String,
        /// What can be written.
        expected: String,
        /// What there is.
        found: String,
    },
}

/// Writes frames as extended XYZ, one after the other, so that reading gives the same frames bit for bit.
///
/// A structure's name is written where `info` has it, since a frame without one is named after its file. Each frame is one call
/// of the writer beneath.
pub struct FrameWriter<W: Write> {
    to: W,
    text: String,
}

impl<W: Write> FrameWriter<W> {
    /// Writes to a file, or whatever takes bytes.
    pub fn new(to: W) -> Self {
        Self { to, text: String::new() }
    }

    /// Writes a frame as it is, with the labels it has.
    ///
    /// # Errors
    /// [`WriteError`]: what is written to refused, or the frame could not be read again. That is numbers that are not finite,
    /// species without a symbol, a periodic direction without a cell, columns of another length than the atoms, line breaks in
    /// a text, an empty key, and a key or column with the name of one that the structure is written under.
    pub fn write(&mut self, frame: &Frame) -> Result<(), WriteError> {
        self.put(frame, None)
    }

    /// Writes a frame with results: `energy` and `stress` (nine numbers, row by row) in the comment, `forces` and `energies` as
    /// columns, from where ASE has them as results of a calculator.
    ///
    /// Whatever the frame has under these four names is left out, given anew or not: results of two origins are none.
    ///
    /// # Errors
    /// As [`Self::write`], of the results too.
    pub fn write_results(&mut self, frame: &Frame, results: &Labels) -> Result<(), WriteError> {
        self.put(frame, Some(results))
    }

    /// What is written to, after all that was written has gone there.
    ///
    /// # Errors
    /// What flushing says.
    pub fn finish(mut self) -> io::Result<W> {
        self.to.flush()?;
        Ok(self.to)
    }

    fn put(&mut self, frame: &Frame, results: Option<&Labels>) -> Result<(), WriteError> {
        self.text.clear();
        format(frame, results, &mut self.text).map_err(|Unwritable { expected, found }| {
            let frame = frame.structure.name.clone();
            WriteError::Frame { frame, expected, found }
        })?;
        Ok(self.to.write_all(self.text.as_bytes())?)
    }
}

/// What there is no form for.
struct Unwritable {
    expected: String,
    found: String,
}

fn unwritable(expected: impl Into<String>, found: impl Into<String>) -> Unwritable {
    Unwritable { expected: expected.into(), found: found.into() }
}

/// Adds the lines of a frame.
fn format(frame: &Frame, results: Option<&Labels>, text: &mut String) -> Result<(), Unwritable> {
    let Structure { species, positions, cell, pbc, .. } = &frame.structure;
    let n_atoms = positions.len();
    check_length("species", species.len(), n_atoms, 1)?;
    // Where there are results, theirs are the only labels.
    let is_kept = |name: &str| results.is_none() || !LABELS.contains(&name);
    let columns: Vec<_> = frame.columns.iter().filter(|column| is_kept(&column.name)).collect();
    let results = results.cloned().unwrap_or_default();

    let mut properties = "species:S:1:pos:R:3".to_owned();
    for column in &columns {
        let name = &column.name;
        if matches!(name.as_str(), "species" | "pos") || name.contains(':') {
            return Err(unwritable("a column of another name than `species` and `pos`, without `:`", quoted(name)));
        }
        if !(1..=10_000).contains(&column.width) {
            return Err(unwritable(format!("1 to 10000 values of {name} for each atom"), column.width.to_string()));
        }
        check_length(name, column.len(), n_atoms, column.width)?;
        properties += &format!(":{name}:{}:{}", column.kind.letter(), column.width);
    }
    for (there, label) in [(results.energies.is_some(), ":energies:R:1"), (results.forces.is_some(), ":forces:R:3")] {
        properties += if there { label } else { "" };
    }

    let _ = writeln!(text, "{n_atoms}");
    if let Some(cell) = cell {
        text.push_str("Lattice=\"");
        numbers(text, "the cell", cell.as_flattened())?;
        text.push_str("\" ");
    } else if pbc.contains(&true) {
        return Err(unwritable("a cell, because pbc has a periodic direction", "none"));
    }
    let _ = write!(text, "Properties={}", word(&properties)?);
    let [a, b, c] = pbc.map(|periodic| if periodic { 'T' } else { 'F' });
    let _ = write!(text, " pbc=\"{a} {b} {c}\"");
    if let Some(energy) = results.energy {
        text.push_str(" energy=");
        numbers(text, "the energy", &[energy])?;
    }
    if let Some(stress) = &results.stress {
        text.push_str(" stress=\"");
        numbers(text, "the stress", stress.as_flattened())?;
        text.push('"');
    }
    // After the results, because ASE takes what follows an empty value for the value.
    for (key, value) in frame.info.iter().filter(|(key, _)| is_kept(key)) {
        if key.is_empty() || KEYS.contains(&key.as_str()) {
            return Err(unwritable("a key that is not empty and says nothing of the structure", quoted(key)));
        }
        let _ = write!(text, " {}={}", word(key)?, word(value)?);
    }
    text.push('\n');

    if let Some(energies) = &results.energies {
        check_length("energies", energies.len(), n_atoms, 1)?;
    }
    if let Some(forces) = &results.forces {
        check_length("forces", forces.len(), n_atoms, 1)?;
    }
    let mut values: Vec<_> = columns.iter().map(|column| (column.width, column.values())).collect();
    for (atom, (z, position)) in species.iter().zip(positions).enumerate() {
        let expected = || unwritable(format!("an atomic number from 1 to {MAX_ATOMIC_NUMBER}"), z.to_string());
        text.push_str(symbol(*z).ok_or_else(expected)?);
        text.push(' ');
        numbers(text, "a position", position)?;
        for (width, values) in &mut values {
            for value in values.take(*width) {
                text.push(' ');
                text.push_str(&field(value)?);
            }
        }
        if let Some(energies) = &results.energies {
            text.push(' ');
            numbers(text, "an atom's energy", &energies[atom..=atom])?;
        }
        if let Some(forces) = &results.forces {
            text.push(' ');
            numbers(text, "a force", &forces[atom])?;
        }
        text.push('\n');
    }
    Ok(())
}

fn check_length(what: &str, found: usize, n_atoms: usize, width: usize) -> Result<(), Unwritable> {
    if Some(found) == n_atoms.checked_mul(width) {
        return Ok(());
    }
    Err(unwritable(format!("{width} of {what} for each of {n_atoms} atoms"), found.to_string()))
}

/// Adds numbers in their shortest form that reads back as the same bits, with a point or an exponent: ASE takes one without for
/// an integer.
fn numbers(text: &mut String, what: &str, numbers: &[f64]) -> Result<(), Unwritable> {
    for (i, number) in numbers.iter().enumerate() {
        if !number.is_finite() {
            return Err(unwritable(format!("a finite number for {what}"), number.to_string()));
        }
        let _ = write!(text, "{}{number:?}", if i == 0 { "" } else { " " });
    }
    Ok(())
}

/// A key or a value: bare where every reader ends it at the next space. To Python some control characters are space.
fn word(text: &str) -> Result<Cow<'_, str>, Unwritable> {
    let special =
        |c: char| c.is_whitespace() || c.is_control() || matches!(c, '=' | '"' | '\'' | '{' | '}' | '[' | ']' | '\\');
    in_quotes(text, text.is_empty() || text.contains(special))
}

/// A value of a column: bare unless it would be read otherwise. ASE knows no quotes here, and names of atoms hold primes.
fn field(text: &str) -> Result<Cow<'_, str>, Unwritable> {
    let special = |c: char| c.is_whitespace() || c == '"';
    in_quotes(text, text.is_empty() || text.contains(special) || text.starts_with(['\'', '{', '[']))
}

fn in_quotes(text: &str, needed: bool) -> Result<Cow<'_, str>, Unwritable> {
    if text.contains(['\n', '\r']) {
        return Err(unwritable("a text without line breaks", quoted(&text.escape_debug().to_string())));
    }
    Ok(if needed { format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")).into() } else { text.into() })
}
