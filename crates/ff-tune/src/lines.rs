//! Results as JSON lines that are only ever appended: what tuning and sweeps keep of a measurement.
//!
//! A line counts from its line feed on: what a crash leaves behind the last one is dropped where it is no whole line of its
//! kind, and said so.

use std::fmt;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// What one line holds.
pub trait Line: Serialize + DeserializeOwned {
    /// What such lines are called in messages: `records`.
    const WHAT: &'static str;
    /// The schema version that is written and read.
    const SCHEMA: u32;

    /// The schema version of this line.
    fn schema(&self) -> u32;
}

/// Lines that cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum LineError {
    /// The file system refuses. What was written before is kept.
    #[error("cannot {action} {what} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// [`Line::WHAT`].
        what: &'static str,
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Another run holds the file.
    #[error("{what} {} are in use by another run, expected a folder of its own", path.display())]
    InUse {
        /// [`Line::WHAT`].
        what: &'static str,
        /// Which file.
        path: PathBuf,
    },
    /// Another schema version.
    #[error("{what} {}, line {line}: schema version {found}, expected {expected}", path.display())]
    Schema {
        /// [`Line::WHAT`].
        what: &'static str,
        /// Which file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// The version there.
        found: u64,
        /// [`Line::SCHEMA`].
        expected: u32,
    },
    /// A whole line that is something else.
    #[error("{what} {}, line {line}: {reason}", path.display())]
    Malformed {
        /// [`Line::WHAT`].
        what: &'static str,
        /// Which file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
}

/// What a crash left of a last line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TornLine {
    /// Line, from 1.
    pub line: usize,
    /// Bytes that were dropped.
    pub bytes: usize,
}

impl fmt::Display for TornLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "dropped the torn last line {} ({} bytes), as a run that was killed leaves it", self.line, self.bytes)
    }
}

/// Reads lines, without a torn last one.
///
/// # Errors
/// [`LineError`] with file and line.
pub fn read<T: Line>(path: &Path) -> Result<(Vec<T>, Option<TornLine>), LineError> {
    let bytes = fs::read(path).map_err(|source| LineError::Io {
        action: "read",
        what: T::WHAT,
        path: path.to_owned(),
        source,
    })?;
    parse(&bytes, path)
}

/// Reads lines from the contents of a file; `path` is for messages.
///
/// # Errors
/// As [`read`].
pub fn parse<T: Line>(bytes: &[u8], path: &Path) -> Result<(Vec<T>, Option<TornLine>), LineError> {
    let mut lines = Vec::new();
    for (index, line) in bytes.split_inclusive(|b| *b == b'\n').enumerate() {
        let (line, whole) = line.strip_suffix(b"\n").map_or((line, false), |line| (line, true));
        match parse_line(line, index + 1, path) {
            Ok(parsed) => lines.push(parsed),
            // No object is the beginning of another, so a tail that can be read lost nothing but its line feed.
            Err(LineError::Malformed { line: number, .. }) if !whole => {
                return Ok((lines, Some(TornLine { line: number, bytes: line.len() })));
            }
            Err(error) => return Err(error),
        }
    }
    Ok((lines, None))
}

fn parse_line<T: Line>(bytes: &[u8], line: usize, path: &Path) -> Result<T, LineError> {
    let malformed = |e: serde_json::Error| LineError::Malformed {
        what: T::WHAT,
        path: path.to_owned(),
        line,
        reason: e.to_string(),
    };
    match serde_json::from_slice::<T>(bytes) {
        Ok(parsed) if parsed.schema() == T::SCHEMA => Ok(parsed),
        other => {
            // Another version explains whatever else does not fit.
            let value: Value = serde_json::from_slice(bytes).map_err(malformed)?;
            match value.get("schema").and_then(Value::as_u64) {
                Some(found) if found != u64::from(T::SCHEMA) => {
                    let (what, path) = (T::WHAT, path.to_owned());
                    Err(LineError::Schema { what, path, line, found, expected: T::SCHEMA })
                }
                _ => other.map_err(malformed),
            }
        }
    }
}

/// Appends lines to a file that no other run appends to meanwhile.
#[derive(Debug)]
pub struct LineWriter<T: Line> {
    file: File,
    path: PathBuf,
    /// Length of the file up to its last whole line.
    length: u64,
    existing: Vec<T>,
    torn: Option<TornLine>,
}

impl<T: Line> LineWriter<T> {
    /// Opens a file for appending, making it and its folder where missing; cuts off a torn last line.
    ///
    /// # Errors
    /// [`LineError`], before anything is measured: not writable, in use, malformed, another schema version.
    pub fn open(path: &Path) -> Result<Self, LineError> {
        let what = T::WHAT;
        let io = |action| move |source| LineError::Io { action, what, path: path.to_owned(), source };
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir).map_err(io("make the folder of"))?;
        }
        let mut file = OpenOptions::new().append(true).create(true).open(path).map_err(io("open"))?;
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => return Err(LineError::InUse { what, path: path.to_owned() }),
            // Some network file systems have no locks; then it is up to the user.
            Ok(()) | Err(TryLockError::Error(_)) => {}
        }
        // A device or a pipe has nothing to read back.
        let regular = file.metadata().map_err(io("open"))?.is_file();
        let bytes = if regular { fs::read(path).map_err(io("read"))? } else { Vec::new() };
        let (existing, torn) = parse(&bytes, path)?;
        let mut length = bytes.len() as u64;
        if let Some(torn) = &torn {
            length -= torn.bytes as u64;
            file.set_len(length).map_err(io("repair"))?;
        } else if bytes.last().is_some_and(|b| *b != b'\n') {
            file.write_all(b"\n").map_err(io("repair"))?;
            length += 1;
        }
        Ok(Self { file, path: path.to_owned(), length, existing, torn })
    }

    /// The lines that the file held when it was opened.
    pub fn existing(&self) -> &[T] {
        &self.existing
    }

    /// What was cut off when the file was opened.
    pub fn torn(&self) -> Option<&TornLine> {
        self.torn.as_ref()
    }

    /// Where the lines go.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Appends one line with one write.
    ///
    /// # Errors
    /// [`LineError::Io`]; then the file is cut back to its last whole line.
    pub fn append(&mut self, line: &T) -> Result<(), LineError> {
        let mut bytes = serde_json::to_vec(line).map_err(|e| self.error("write", io::Error::other(e)))?;
        bytes.push(b'\n');
        if let Err(source) = self.file.write_all(&bytes).and_then(|()| self.file.flush()) {
            // A part of the line may be there. If it cannot be cut off either, the reader drops it.
            let _ = self.file.set_len(self.length);
            return Err(self.error("write", source));
        }
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// Waits until what was appended is on the disk.
    ///
    /// # Errors
    /// [`LineError::Io`].
    pub fn sync(&mut self) -> Result<(), LineError> {
        self.file.sync_data().map_err(|source| self.error("sync", source))
    }

    #[cfg(test)]
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    fn error(&self, action: &'static str, source: io::Error) -> LineError {
        LineError::Io { action, what: T::WHAT, path: self.path.clone(), source }
    }
}

/// Another run may append at once. Closing alone does not do: a process that another thread is starting holds a copy of
/// every open file until it runs its program, and a lock lasts as long as any copy.
impl<T: Line> Drop for LineWriter<T> {
    fn drop(&mut self) {
        let _ = self.file.unlock();
    }
}
