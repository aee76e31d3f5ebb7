//! The file of results: whole frames, under its name when all are there or when something ends the run.

use std::fs::{self, File};
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use ff_structure::{Frame, FrameWriter, Labels};
use tempfile::{NamedTempFile, TempPath};

use crate::failure::{Failure, Result};

/// Frames are written to a file beside the one that is asked for, which takes its name in [`Output::keep`]. Who reads under that
/// name never sees half a frame.
pub struct Output {
    path: PathBuf,
    writer: FrameWriter<BufWriter<File>>,
    beside: TempPath,
    frames: usize,
}

impl Output {
    /// Refuses to write over the input, and where nothing can be written.
    ///
    /// # Errors
    /// Either, as bad input.
    pub fn create(path: &Path, input: &Path) -> Result<Self> {
        let same = match (fs::canonicalize(path), fs::canonicalize(input)) {
            (Ok(output), Ok(input)) => output == input,
            _ => false,
        };
        if same {
            let message = format!("{} is the input: expected another file for the output", path.display());
            return Err(Failure::input(message));
        }
        let cannot = |error| Failure::input(format!("cannot write {}: {error}", path.display()));
        let extension = path.extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
        if !["extxyz", "xyz"].contains(&extension.as_str()) {
            let message = format!("{}: expected the extension extxyz or xyz, found `{extension}`", path.display());
            return Err(Failure::input(message));
        }
        super::super::verify::writable(path)?;
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let (file, beside) = NamedTempFile::with_prefix_in(".predict-", folder).map_err(cannot)?.into_parts();
        Ok(Self { path: path.to_owned(), writer: FrameWriter::new(BufWriter::new(file)), beside, frames: 0 })
    }

    /// Adds a frame with its results.
    ///
    /// # Errors
    /// A frame that has no form, as bad input; a disk that is full.
    pub fn write(&mut self, frame: &Frame, results: &Labels) -> Result<()> {
        self.writer.write_results(frame, results).map_err(|error| match error {
            ff_structure::io::WriteError::Io(_) => Failure::fault(format!("{}: {error}", self.path.display())),
            ff_structure::io::WriteError::Frame { .. } => Failure::input(format!("{}: {error}", self.path.display())),
        })?;
        self.frames += 1;
        Ok(())
    }

    /// Gives the frames so far their name; with none, and no `always`, whatever had it stays. How many there are.
    ///
    /// # Errors
    /// What the file system says.
    pub fn keep(self, always: bool) -> Result<usize> {
        let Self { path, writer, beside, frames } = self;
        let cannot =
            |error: &dyn std::fmt::Display| Failure::fault(format!("cannot write {}: {error}", path.display()));
        if frames == 0 && !always {
            return Ok(0);
        }
        let file = writer.finish().map_err(|e| cannot(&e))?.into_inner().map_err(|e| cannot(&e))?;
        open_to_all(&file);
        beside.persist(&path).map_err(|e| cannot(&e.error))?;
        Ok(frames)
    }
}

/// A temporary file is its owner's alone; results are as readable as any new file is by habit.
#[cfg(unix)]
fn open_to_all(file: &File) {
    use std::os::unix::fs::PermissionsExt;
    // Where it cannot be changed the results are there all the same.
    let _ = file.set_permissions(fs::Permissions::from_mode(0o644));
}

#[cfg(not(unix))]
fn open_to_all(_: &File) {}
