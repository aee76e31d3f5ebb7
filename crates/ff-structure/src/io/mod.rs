//! Structure files: extended XYZ (and plain XYZ), read and written, and PDB, read.
//!
//! The parsers are our own. Of the published crates, `extxyz` 0.2 says neither frame nor line where a file is broken, and
//! `pdbtbx` 0.12 regroups atoms by chain and residue number (which merges residues once numbers wrap, as in any large
//! water box) instead of keeping the order of the file, on which forces and results depend.

mod extxyz;
mod frame;
mod pdb;
mod reader;

use std::fmt;
use std::path::{Path, PathBuf};

use crate::Structure;

pub use extxyz::{FrameWriter, WriteError};
pub use frame::{Column, ColumnKind, Frame, Labels};
pub use reader::FrameReader;

/// File name endings that [`FrameReader`] and [`read_frames`] know.
pub const EXTENSIONS: &[&str] = &["extxyz", "xyz", "pdb", "ent"];

/// Why a structure file could not be read. Frames and lines are counted from 1.
#[derive(Debug, thiserror::Error)]
pub enum StructureError {
    /// The file system refused.
    #[error("{}: cannot read the file: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file name says nothing about the format.
    #[error("{}: expected one of the extensions {expected}, found `{found}`", path.display())]
    Extension {
        /// The file.
        path: PathBuf,
        /// The known extensions.
        expected: String,
        /// The one it has.
        found: String,
    },
    /// A file without any frame.
    #[error("{}: expected at least one frame, found {found}", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
        /// What is there instead.
        found: &'static str,
    },
    /// A line that cannot be read as what its place asks for.
    #[error("{}:{line}: frame {frame}: expected {expected}, found {found}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Line in the file; one past the last line where the file ends too early.
        line: usize,
        /// Frame in the file.
        frame: usize,
        /// What should be there.
        expected: String,
        /// What is there.
        found: String,
    },
}

/// Something in a structure file that is valid and was probably not meant: a key that is not read and is nearly one that is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StructureWarning {
    /// The file.
    pub path: PathBuf,
    /// Line in the file, counted from 1.
    pub line: usize,
    /// Frame in the file, counted from 1: the first where it is so.
    pub frame: usize,
    /// Frames where it is so.
    pub frames: usize,
    /// The key that is there.
    pub found: String,
    /// The key that was probably meant.
    pub meant: &'static str,
}

impl fmt::Display for StructureWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, line, frame, frames, found, meant } = self;
        let (path, found) = (path.display(), quoted(found));
        write!(f, "{path}:{line}: frame {frame}: key {found} means nothing and is not read, did you mean `{meant}`?")?;
        match frames - 1 {
            0 => Ok(()),
            1 => write!(f, " (and in 1 further frame)"),
            further => write!(f, " (and in {further} further frames)"),
        }
    }
}

/// What a structure file holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Frames {
    /// One system per frame.
    pub structures: Vec<Structure>,
    /// What a user should be told, each thing once.
    pub warnings: Vec<StructureWarning>,
}

/// The structures of [`read_frames`], for whoever has no user to warn.
///
/// # Errors
/// As [`read_frames`].
pub fn read_structures(path: impl AsRef<Path>) -> Result<Vec<Structure>, StructureError> {
    read_frames(path).map(|frames| frames.structures)
}

/// Reads every frame of a structure file at once; the format follows from the extension (see [`EXTENSIONS`]). [`FrameReader`]
/// reads them one by one, with all that they say.
///
/// Units: Å. Atoms keep the order of the file. From extended XYZ come species, positions, `Lattice`, `pbc` and `name`; other
/// keys and columns are skipped. From PDB come `ATOM` and `HETATM` (of alternate locations the first of each residue)
/// and `CRYST1`. One broken frame is an error: nothing is skipped silently. A key of extended XYZ that is skipped and is nearly
/// `Lattice`, `Properties` or `pbc`, in a frame without that key, is a warning.
///
/// # Errors
/// [`StructureError`], naming file, frame and line, what was expected and what was found.
pub fn read_frames(path: impl AsRef<Path>) -> Result<Frames, StructureError> {
    let mut reader = FrameReader::open(path)?;
    let structures = reader.by_ref().map(|frame| Ok(frame?.structure)).collect::<Result<Vec<_>, _>>()?;
    Ok(Frames { structures, warnings: reader.warnings().to_vec() })
}

/// A position in a file, for error messages.
#[derive(Clone, Copy)]
struct Place<'a> {
    path: &'a Path,
    frame: usize,
    line: usize,
}

impl Place<'_> {
    /// The error that at this place something else was expected.
    fn expected(self, expected: impl Into<String>, found: impl Into<String>) -> StructureError {
        StructureError::Syntax {
            path: self.path.to_owned(),
            line: self.line,
            frame: self.frame,
            expected: expected.into(),
            found: found.into(),
        }
    }

    /// The warning that a key here is nearly one that is read.
    fn slip(self, found: &str, meant: &'static str) -> StructureWarning {
        let Self { path, frame, line } = self;
        StructureWarning { path: path.to_owned(), line, frame, frames: 1, found: found.to_owned(), meant }
    }

    /// A finite number, or the error that `what` was expected.
    fn number(self, what: &str, text: &str) -> Result<f64, StructureError> {
        match text.trim().parse::<f64>() {
            Ok(value) if value.is_finite() => Ok(value),
            Ok(value) => Err(self.expected(format!("a finite number for {what}"), value.to_string())),
            Err(_) => Err(self.expected(format!("a number for {what}"), quoted(text))),
        }
    }
}

/// Text from a file as error messages show it: in back quotes and not longer than a line.
fn quoted(text: &str) -> String {
    const LONGEST: usize = 60;
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("`{}…`", &text[..end]),
        None => format!("`{text}`"),
    }
}

/// The name of a frame that does not say its own: the file's, numbered where there are several.
fn frame_name(path: &Path, frame: usize, several: bool) -> String {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    if several { format!("{stem}#{frame}") } else { stem.into_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(file: &str, content: &[u8]) -> String {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = dir.path().join(file);
        std::fs::write(&path, content).expect("a written file");
        let error = read_structures(&path).expect_err("an error").to_string();
        error.replace(&format!("{}{}", dir.path().display(), std::path::MAIN_SEPARATOR), "")
    }

    #[test]
    fn errors_name_the_file_and_what_is_wrong_with_it() {
        assert_eq!(
            message("water.cif", b""),
            "water.cif: expected one of the extensions extxyz, xyz, pdb, ent, found `cif`"
        );
        assert_eq!(message("water", b""), "water: expected one of the extensions extxyz, xyz, pdb, ent, found ``");
        assert_eq!(message("water.XYZ", b""), "water.XYZ: expected at least one frame, found an empty file");
        assert_eq!(message("water.extxyz", b" \n\n"), "water.extxyz: expected at least one frame, found an empty file");
        assert_eq!(message("water.pdb", b"REMARK\nEND\n"), "water.pdb: expected at least one frame, found no atoms");
        assert_eq!(message("a.xyz", b"1\n\xe9\nQ 0 0 0\n"), "a.xyz:3: frame 1: expected a chemical symbol, found `Q`");
        let missing = read_structures("no/such/file.xyz").expect_err("an error").to_string();
        assert!(missing.starts_with("no/such/file.xyz: cannot read the file: "), "{missing}");
    }
}
