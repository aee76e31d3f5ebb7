//! Frames one after the other, from anything that gives lines.

use std::borrow::Cow;
use std::io::{self, BufRead};
use std::path::Path;
use std::sync::Arc;

use super::header::Header;
use crate::io::frame::{Frame, Origin};
use crate::io::{Place, StructureWarning, frame_name, quoted};
use crate::{Structure, StructureError};

/// Atoms that a count is trusted with memory for before their lines are seen.
const MOST_UNSEEN: usize = 4096;

/// The parser: what it holds is a line and the frame that is being read.
pub(in crate::io) struct Reader<R> {
    lines: Lines<R>,
    path: Arc<Path>,
    frames: usize,
    /// Whether the current line is the count of a frame that was not read yet.
    at_count: bool,
    warnings: Vec<StructureWarning>,
}

impl<R: BufRead> Reader<R> {
    pub(in crate::io) fn new(source: R, path: Arc<Path>) -> Self {
        let lines = Lines { source, bytes: Vec::new(), number: 0 };
        Self { lines, path, frames: 0, at_count: false, warnings: Vec::new() }
    }

    /// Each thing once, of the frames so far.
    pub(in crate::io) fn warnings(&self) -> &[StructureWarning] {
        &self.warnings
    }

    /// What is read from.
    #[cfg(test)]
    pub(super) fn source(&self) -> &R {
        &self.lines.source
    }

    /// The next frame; `None` at the end of the file.
    pub(in crate::io) fn next_frame(&mut self) -> Result<Option<Frame>, StructureError> {
        if !self.find_count()? {
            return Ok(None);
        }
        self.at_count = false;
        self.frames += 1;
        let path = Arc::clone(&self.path);
        let mut place = Place { path: &path, frame: self.frames, line: self.lines.number };
        let n_atoms: usize = {
            let line = self.lines.text();
            line.trim().parse().map_err(|_| place.expected("a number of atoms", quoted(line.trim())))?
        };
        place.line += 1;
        self.advance_to(place, || "a comment line".into())?;
        let comment = self.lines.text();
        let Header { name, cell, pbc, columns, info, slips } = Header::parse(&comment, place)?;
        for (found, meant) in slips {
            match self.warnings.iter_mut().find(|warning| (&warning.found, warning.meant) == (&found, meant)) {
                Some(known) => known.frames += 1,
                None => self.warnings.push(place.slip(&found, meant)),
            }
        }
        let header_line = place.line;
        let mut species = Vec::with_capacity(n_atoms.min(MOST_UNSEEN));
        let mut positions = Vec::with_capacity(n_atoms.min(MOST_UNSEEN));
        let mut kept = columns.kept();
        for atom in 1..=n_atoms {
            place.line += 1;
            self.advance_to(place, || format!("atom {atom} of {n_atoms}"))?;
            let (z, position) = columns.atom(&self.lines.text(), &mut kept, place)?;
            species.push(z);
            positions.push(position);
        }
        // Frames are numbered only where there are several, which the first one learns from what follows it.
        let name = match name {
            Some(name) => name,
            None => {
                let several = self.frames > 1 || self.find_count()?;
                frame_name(&path, self.frames, several)
            }
        };
        let structure = Structure { name, species, positions, cell, pbc };
        let origin = Origin { path, frame: self.frames, line: header_line };
        Ok(Some(Frame { structure, info, columns: kept, origin }))
    }

    /// Moves to the count of the next frame, if there is one. Blank lines between frames and at the end are common; a blank
    /// comment is never reached here.
    fn find_count(&mut self) -> Result<bool, StructureError> {
        while !self.at_count {
            if !self.advance()? {
                return Ok(false);
            }
            self.at_count = !self.lines.text().trim().is_empty();
        }
        Ok(true)
    }

    /// Moves to the line at a place, where `what` has to be.
    fn advance_to(&mut self, place: Place<'_>, what: impl FnOnce() -> String) -> Result<(), StructureError> {
        if self.advance()? { Ok(()) } else { Err(place.expected(what(), "the end of the file")) }
    }

    fn advance(&mut self) -> Result<bool, StructureError> {
        self.lines.advance().map_err(|source| StructureError::Read { path: self.path.to_path_buf(), source })
    }
}

/// A source's lines, one at a time.
struct Lines<R> {
    source: R,
    /// The current line without its end.
    bytes: Vec<u8>,
    /// Which it is, counted from 1.
    number: usize,
}

impl<R: BufRead> Lines<R> {
    fn advance(&mut self) -> io::Result<bool> {
        self.bytes.clear();
        if self.source.read_until(b'\n', &mut self.bytes)? == 0 {
            return Ok(false);
        }
        if self.bytes.pop_if(|last| *last == b'\n').is_some() {
            self.bytes.pop_if(|last| *last == b'\r');
        }
        self.number += 1;
        Ok(true)
    }

    /// The line as text. Comments in old files are often Latin-1; only the fields that are read have to be ASCII.
    fn text(&self) -> Cow<'_, str> {
        let text = String::from_utf8_lossy(&self.bytes);
        if self.number > 1 || !text.starts_with(BYTE_ORDER_MARK) {
            return text;
        }
        Cow::Owned(text.trim_start_matches(BYTE_ORDER_MARK).to_owned())
    }
}

/// What some editors begin a file with.
pub(in crate::io) const BYTE_ORDER_MARK: char = '\u{feff}';
