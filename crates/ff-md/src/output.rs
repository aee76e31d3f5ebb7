//! Files that a killed run leaves whole: a trajectory and a log that are only appended to, and the state that says how long they
//! were when it was taken.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use ff_structure::io::WriteError;
use ff_structure::{Frame, FrameWriter, Labels};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::MdError;

/// Format and version of restart files.
const FORMAT: &str = "forgefield-restart";
const SCHEMA: u64 = 1;

/// A file that only grows, and knows how long it is.
struct Appended {
    path: PathBuf,
    file: File,
    length: u64,
}

impl Write for Appended {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.length += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Appended {
    fn create(path: &Path) -> Result<Self, MdError> {
        let file = File::create(path).map_err(|e| failed(path, &e, "cannot create the file"))?;
        Ok(Self { path: path.to_owned(), file, length: 0 })
    }

    /// Takes from a file what was written after it had this length.
    fn resume(path: &Path, length: u64) -> Result<Self, MdError> {
        let cannot = |e: io::Error| failed(path, &e, "cannot go on with the file");
        let mut file = OpenOptions::new().write(true).open(path).map_err(cannot)?;
        let found = file.metadata().map_err(cannot)?.len();
        if found < length {
            let reason = format!("expected the {length} bytes that were written before the restart, found {found}");
            return Err(MdError::Restart { path: path.to_owned(), reason });
        }
        file.set_len(length).map_err(cannot)?;
        file.seek(SeekFrom::Start(length)).map_err(cannot)?;
        Ok(Self { path: path.to_owned(), file, length })
    }

    /// Takes from the file what was written after it had this length, part of a frame or of a line. What fails here, as it does with
    /// devices and pipes, is not worth more than the error that led here.
    fn cut(&mut self, length: u64) {
        if self.file.set_len(length).and_then(|()| self.file.seek(SeekFrom::Start(length))).is_ok() {
            self.length = length;
        }
    }

    fn sync(&self) -> Result<(), MdError> {
        let cannot = |e: io::Error| failed(&self.path, &e, "cannot write the file");
        // Devices and pipes have nothing to be brought to.
        if self.file.metadata().map_err(cannot)?.is_file() { self.file.sync_data().map_err(cannot) } else { Ok(()) }
    }
}

fn failed(path: &Path, error: &io::Error, what: &str) -> MdError {
    let source = io::Error::new(error.kind(), format!("{what}: {error}"));
    MdError::File { path: path.to_owned(), source }
}

/// How long files are, bytes; 0 of those that are not written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lengths {
    trajectory: u64,
    log: u64,
}

/// The trajectory and the log of a run, each where wanted.
#[derive(Default)]
pub struct Outputs {
    trajectory: Option<Appended>,
    log: Option<Appended>,
    resumed: bool,
}

impl Outputs {
    /// New files, in place of what has their names.
    ///
    /// # Errors
    /// Files that cannot be created.
    pub fn create(trajectory: Option<&Path>, log: Option<&Path>) -> Result<Self, MdError> {
        let create = |path: Option<&Path>| path.map(Appended::create).transpose();
        Ok(Self { trajectory: create(trajectory)?, log: create(log)?, resumed: false })
    }

    /// The files of a run that goes on, as they were when its state was taken.
    ///
    /// # Errors
    /// Files that are shorter than they were.
    pub fn resume(trajectory: Option<&Path>, log: Option<&Path>, lengths: Lengths) -> Result<Self, MdError> {
        let resume = |path: Option<&Path>, length| path.map(|path| Appended::resume(path, length)).transpose();
        Ok(Self { trajectory: resume(trajectory, lengths.trajectory)?, log: resume(log, lengths.log)?, resumed: true })
    }

    /// Whether they hold what was written up to a restart, that of step 0 among it.
    pub(crate) fn resumed(&self) -> bool {
        self.resumed
    }

    /// Whether there is a trajectory.
    pub fn has_trajectory(&self) -> bool {
        self.trajectory.is_some()
    }

    /// Adds a frame to the trajectory, where there is one: all of it or nothing.
    ///
    /// # Errors
    /// A disk that is full, a frame that has no form.
    pub fn frame(&mut self, frame: &Frame, results: &Labels) -> Result<(), MdError> {
        let Some(trajectory) = &mut self.trajectory else { return Ok(()) };
        let before = trajectory.length;
        let written = FrameWriter::new(&mut *trajectory).write_results(frame, results);
        written.map_err(|error| {
            trajectory.cut(before);
            match error {
                WriteError::Io(error) => failed(&trajectory.path, &error, "cannot write the frame"),
                error => failed(&trajectory.path, &io::Error::other(error), "cannot write the frame"),
            }
        })
    }

    /// Adds lines to the log, where there is one: all of them or none.
    ///
    /// # Errors
    /// A disk that is full.
    pub fn lines(&mut self, lines: &str) -> Result<(), MdError> {
        let Some(log) = &mut self.log else { return Ok(()) };
        let before = log.length;
        let written = log.write_all(lines.as_bytes());
        written.map_err(|error| {
            log.cut(before);
            failed(&log.path, &error, "cannot write the log")
        })
    }

    /// Brings everything to the disk. How long it is.
    fn settle(&self) -> Result<Lengths, MdError> {
        let settle = |file: &Option<Appended>| match file {
            None => Ok(0),
            Some(file) => file.sync().map(|()| file.length),
        };
        Ok(Lengths { trajectory: settle(&self.trajectory)?, log: settle(&self.log)? })
    }
}

/// A file with the state of a run, which is replaced as a whole.
pub struct RestartFile {
    path: PathBuf,
    /// What has to be the same for a run to go on.
    identity: Map<String, Value>,
}

#[derive(Serialize, Deserialize)]
struct Content<S> {
    format: String,
    schema: u64,
    identity: Map<String, Value>,
    lengths: Lengths,
    state: S,
}

impl RestartFile {
    /// The restart file of runs with this identity: settings, model, input.
    ///
    /// # Errors
    /// A path that is there and is no file, which would be replaced by one.
    pub fn new(path: &Path, identity: Map<String, Value>) -> Result<Self, MdError> {
        if fs::metadata(path).is_ok_and(|found| !found.is_file()) {
            let reason = "expected a file or nothing, found something else".to_owned();
            return Err(MdError::Restart { path: path.to_owned(), reason });
        }
        Ok(Self { path: path.to_owned(), identity })
    }

    /// The state, and how long the files were then; `None` where there is no restart file yet.
    ///
    /// # Errors
    /// A file that cannot be read, of another format, or of a run with another identity.
    pub fn load<S: DeserializeOwned>(&self) -> Result<Option<(S, Lengths)>, MdError> {
        let text = match fs::read_to_string(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            read => read.map_err(|e| failed(&self.path, &e, "cannot read the restart file"))?,
        };
        let refuse = |reason: String| Err(MdError::Restart { path: self.path.clone(), reason });
        let content: Value = match serde_json::from_str(&text) {
            Ok(content) => content,
            Err(error) => return refuse(format!("expected a restart file, found no JSON: {error}")),
        };
        let (format, schema) = (content["format"].as_str(), content["schema"].as_u64());
        if (format, schema) != (Some(FORMAT), Some(SCHEMA)) {
            return refuse(format!("expected {FORMAT} of schema {SCHEMA}, found {format:?} of schema {schema:?}"));
        }
        let none = Map::new();
        let identity = content["identity"].as_object().unwrap_or(&none);
        for key in self.identity.keys().chain(identity.keys()) {
            let (expected, found) = (self.identity.get(key), identity.get(key));
            if expected != found {
                let shown = |value: Option<&Value>| value.map_or("none".to_owned(), Value::to_string);
                let (expected, found) = (shown(expected), shown(found));
                return refuse(format!("it is of a run with another `{key}`: expected {expected}, found {found}"));
            }
        }
        match serde_json::from_str::<Content<S>>(&text) {
            Ok(content) => Ok(Some((content.state, content.lengths))),
            Err(error) => refuse(format!("the state cannot be read: {error}")),
        }
    }

    /// Replaces the file, after everything that it stands for is on the disk. Whatever happens there is a whole one.
    ///
    /// # Errors
    /// A disk that is full.
    pub fn save<S: Serialize>(&self, state: &S, outputs: &Outputs) -> Result<(), MdError> {
        let lengths = outputs.settle()?;
        let (format, identity) = (FORMAT.to_owned(), self.identity.clone());
        let content = Content { format, schema: SCHEMA, identity, lengths, state };
        let cannot = |error: &io::Error| failed(&self.path, error, "cannot write the restart file");
        let text = serde_json::to_vec(&content).map_err(|error| cannot(&error.into()))?;
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        let beside = self.path.with_file_name(format!(".{name}.new"));
        let written = File::create(&beside).and_then(|mut file| {
            file.write_all(&text)?;
            file.sync_data()
        });
        written.and_then(|()| fs::rename(&beside, &self.path)).map_err(|error| {
            // What is left of it helps nobody.
            let _ = fs::remove_file(&beside);
            cannot(&error)
        })
    }
}
