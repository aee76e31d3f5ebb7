//! Structures labelled by a teacher, into a file that only grows and is gone on with after any end.
//!
//! The file has the frames that were labelled, in the order of the structures; beside it stands the list of those that were skipped.
//! Both together say where to go on, so that nothing else is kept.

use std::collections::HashSet;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, BufRead, BufReader, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use ff_structure::io::WriteError;
use ff_structure::{Frame, FrameReader, FrameWriter, Structure, StructureError};
use serde::{Deserialize, Serialize};

use crate::teacher::{Teacher, TeacherError};

/// The key that names the teacher of a frame.
const TEACHER: &str = "teacher";
/// The key that says where a frame's structure was read.
const SOURCE: &str = "source";

/// Why labelling ended before its end. What was labelled is kept.
#[derive(Debug, thiserror::Error)]
pub enum DistillError {
    /// A structure file that is broken.
    #[error(transparent)]
    Structure(#[from] StructureError),
    /// A teacher that cannot go on, with the structure that it was asked about.
    #[error("{}: frame {frame}: {error}", file.display())]
    Teacher {
        /// The file of the structure.
        file: PathBuf,
        /// Its frame, counted from 1.
        frame: usize,
        /// What happened.
        error: TeacherError,
    },
    /// A file that was labelled by another teacher, or from other structures.
    #[error("{} is of another run: expected {expected}, found {found}; give another file for the labels", path.display())]
    Other {
        /// The file.
        path: PathBuf,
        /// What goes with this run.
        expected: String,
        /// What is there.
        found: String,
    },
    /// A file that another run is writing.
    #[error("{} is being written by another run", .0.display())]
    Busy(PathBuf),
    /// A file that cannot be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A frame that has no form in a file.
    #[error("{}: {reason}", path.display())]
    Frame {
        /// The file that it was to be written to.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

/// A structure that the teacher could not label.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skipped {
    /// The file.
    pub file: String,
    /// Its frame, counted from 1.
    pub frame: usize,
    /// What the teacher said.
    pub reason: String,
}

/// The labelled frames and the list of those that were skipped, open to be added to.
pub struct LabelFile {
    path: PathBuf,
    skipped_path: PathBuf,
    writer: FrameWriter<File>,
    skips: File,
    /// Frames that were there when it was opened, and are yet to be found again among the structures.
    earlier: Option<FrameReader>,
    skipped: Vec<Skipped>,
    /// Where they stand: files and frames.
    skipped_places: HashSet<(String, usize)>,
    labelled: u64,
    /// Of these, those that were there when it was opened.
    found: u64,
    /// What had been torn and was cut off: bytes.
    torn: u64,
    teacher: String,
    _held: Held,
}

/// A lock on an open file. Closing alone does not end it: a process that another thread is starting holds a copy of every open file
/// until it runs its program.
struct Held(File);

impl Drop for Held {
    fn drop(&mut self) {
        let _ = self.0.unlock();
    }
}

/// What a structure was in an earlier run.
enum Earlier {
    Labelled,
    Skipped,
    New,
}

impl LabelFile {
    /// Opens a file of labels of a teacher, new or of an earlier run, whose torn end is cut off.
    ///
    /// # Errors
    /// [`DistillError::File`], [`DistillError::Structure`].
    pub fn open(path: &Path, teacher: &str) -> Result<Self, DistillError> {
        let skipped_path = path.with_extension("skipped.jsonl");
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| DistillError::File { path, source }
        };
        let open = |path: &Path| OpenOptions::new().read(true).append(true).create(true).open(path);
        let labels = open(path).map_err(failed(path))?;
        match labels.try_lock() {
            Err(TryLockError::WouldBlock) => return Err(DistillError::Busy(path.to_owned())),
            // A file system without locks has no second writer that could be told of.
            Err(TryLockError::Error(_)) | Ok(()) => {}
        }
        let held = Held(labels.try_clone().map_err(failed(path))?);
        let (frames, mut torn) = cut(&labels, whole_frames).map_err(failed(path))?;
        let skips = open(&skipped_path).map_err(failed(&skipped_path))?;
        let (_, cut_off) = cut(&skips, whole_lines).map_err(failed(&skipped_path))?;
        torn += cut_off;
        let mut skipped = Vec::new();
        for line in BufReader::new(File::open(&skipped_path).map_err(failed(&skipped_path))?).lines() {
            let line = line.map_err(failed(&skipped_path))?;
            skipped.push(serde_json::from_str(&line).map_err(|error| DistillError::Other {
                path: skipped_path.clone(),
                expected: "a line of JSON with `file`, `frame` and `reason`".to_owned(),
                found: format!("`{line}` ({error})"),
            })?);
        }
        let skipped_places = skipped.iter().map(|skipped: &Skipped| (skipped.file.clone(), skipped.frame)).collect();
        let earlier = if frames > 0 { Some(FrameReader::open(path)?) } else { None };
        Ok(Self {
            path: path.to_owned(),
            skipped_path,
            writer: FrameWriter::new(labels),
            skips,
            earlier,
            skipped,
            skipped_places,
            labelled: 0,
            found: 0,
            torn,
            teacher: teacher.to_owned(),
            _held: held,
        })
    }

    /// Frames in the file that belong to structures that were seen to.
    pub fn labelled(&self) -> u64 {
        self.labelled
    }

    /// Of these, those that were there when it was opened.
    pub fn found(&self) -> u64 {
        self.found
    }

    /// Structures that were skipped, of earlier runs too.
    pub fn skipped(&self) -> &[Skipped] {
        &self.skipped
    }

    /// The list of them.
    pub fn skipped_path(&self) -> &Path {
        &self.skipped_path
    }

    /// Bytes of a torn end that were cut off.
    pub fn torn(&self) -> u64 {
        self.torn
    }

    /// Whether a structure was seen to by an earlier run.
    fn earlier(&mut self, file: &Path, frame: usize, structure: &Structure) -> Result<Earlier, DistillError> {
        let name = file.display().to_string();
        let place = (name, frame);
        if self.skipped_places.contains(&place) {
            return Ok(Earlier::Skipped);
        }
        let name = place.0;
        let Some(reader) = &mut self.earlier else { return Ok(Earlier::New) };
        let Some(found) = reader.next().transpose()? else {
            self.earlier = None;
            return Ok(Earlier::New);
        };
        self.labelled += 1;
        self.found += 1;
        let number = self.labelled;
        let other = |expected: String, found: String| DistillError::Other {
            path: self.path.clone(),
            expected,
            found: format!("{found} at its frame {number}"),
        };
        let teacher = found.value(TEACHER).unwrap_or("none").to_owned();
        if teacher != self.teacher {
            return Err(other(format!("labels of the teacher `{}`", self.teacher), format!("those of `{teacher}`")));
        }
        let (a, b) = (&found.structure, structure);
        if (&a.species, &a.positions, a.cell, a.pbc) != (&b.species, &b.positions, b.cell, b.pbc) {
            let source = found.value(SOURCE).unwrap_or("nowhere").to_owned();
            return Err(other(format!("the structure of {name}#{frame}"), format!("that of {source}")));
        }
        Ok(Earlier::Labelled)
    }

    fn write(
        &mut self,
        file: &Path,
        number: usize,
        frame: &Frame,
        labels: &ff_structure::Labels,
    ) -> Result<(), DistillError> {
        let mut labelled = Frame::from(frame.structure.clone());
        // Other labels of the frame, and a name that is only its file's, do not go with it.
        labelled.info.clear();
        if let Some(name) = frame.value("name") {
            labelled.info.push(("name".to_owned(), name.to_owned()));
        }
        labelled.info.push((SOURCE.to_owned(), format!("{}#{number}", file.display())));
        labelled.info.push((TEACHER.to_owned(), self.teacher.clone()));
        self.writer.write_results(&labelled, labels).map_err(|error| match error {
            WriteError::Io(source) => DistillError::File { path: self.path.clone(), source },
            WriteError::Frame { .. } => DistillError::Frame { path: self.path.clone(), reason: error.to_string() },
        })?;
        self.labelled += 1;
        Ok(())
    }

    fn skip(&mut self, skipped: Skipped) -> Result<(), DistillError> {
        let failed = |source| DistillError::File { path: self.skipped_path.clone(), source };
        let line = serde_json::to_string(&skipped).map_err(|error| failed(error.into()))? + "\n";
        self.skips.write_all(line.as_bytes()).map_err(failed)?;
        self.skipped.push(skipped);
        Ok(())
    }
}

/// Cuts a file after what is whole in it: how much that is by the count of `whole`, and the bytes that were cut off.
fn cut(mut file: &File, whole: fn(&mut dyn BufRead) -> io::Result<(u64, u64)>) -> io::Result<(u64, u64)> {
    file.seek(SeekFrom::Start(0))?;
    let (count, end) = whole(&mut BufReader::new(file))?;
    let length = file.metadata()?.len();
    if end < length {
        file.set_len(end)?;
    }
    Ok((count, length - end))
}

/// Lines that end with a line break, and where the last of them does.
fn whole_lines(from: &mut dyn BufRead) -> io::Result<(u64, u64)> {
    let (mut count, mut end, mut line) = (0, 0, Vec::new());
    while from.read_until(b'\n', &mut line)? > 0 && line.last() == Some(&b'\n') {
        count += 1;
        end += line.len() as u64;
        line.clear();
    }
    Ok((count, end))
}

/// Frames of extended XYZ, as they are written here, all of whose lines are there, and where the last of them ends. What follows
/// something that is no frame is left for the reader to complain of.
fn whole_frames(from: &mut dyn BufRead) -> io::Result<(u64, u64)> {
    let (mut count, mut end, mut at, mut line) = (0, 0, 0, Vec::new());
    loop {
        line.clear();
        if from.read_until(b'\n', &mut line)? == 0 {
            return Ok((count, end));
        }
        at += line.len() as u64;
        let atoms =
            std::str::from_utf8(&line).ok().and_then(|text| text.strip_suffix('\n')?.trim().parse::<u64>().ok());
        let Some(atoms) = atoms else {
            // The first bytes of a number are its torn line; anything else is not ours to cut.
            let torn = line.last() != Some(&b'\n') && line.iter().all(u8::is_ascii_digit);
            if torn {
                return Ok((count, end));
            }
            return Ok((count, at + io::copy(from, &mut io::sink())?));
        };
        for _ in 0..=atoms {
            line.clear();
            from.read_until(b'\n', &mut line)?;
            if line.last() != Some(&b'\n') {
                return Ok((count, end));
            }
            at += line.len() as u64;
        }
        count += 1;
        end = at;
    }
}

/// What was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LabelCounts {
    /// Frames in the file of labels.
    pub labelled: u64,
    /// Of these, frames of earlier runs.
    pub earlier: u64,
    /// Structures that the teacher could not label, of earlier runs too.
    pub skipped: u64,
}

/// Labels the frames of files that are not labelled yet. `watch` sees the counts after each call of the teacher and says whether to
/// go on.
///
/// # Errors
/// [`DistillError`]; what was labelled before is in the file.
pub fn label(
    files: &[PathBuf],
    teacher: &mut dyn Teacher,
    to: &mut LabelFile,
    watch: &mut dyn FnMut(LabelCounts) -> bool,
) -> Result<LabelCounts, DistillError> {
    let mut labelling = Labelling { teacher, to, pending: Vec::new(), counts: LabelCounts::default() };
    let mut atoms = 0;
    for file in files {
        for (number, frame) in (1..).zip(FrameReader::open(file)?) {
            let frame = match frame {
                Ok(frame) => frame,
                Err(error) => {
                    labelling.call()?;
                    return Err(error.into());
                }
            };
            match labelling.to.earlier(file, number, &frame.structure)? {
                Earlier::Labelled => {
                    labelling.counts.earlier += 1;
                    labelling.counts.labelled += 1;
                    continue;
                }
                Earlier::Skipped => {
                    labelling.counts.skipped += 1;
                    continue;
                }
                Earlier::New => {}
            }
            let more = frame.structure.n_atoms();
            if !labelling.pending.is_empty() && atoms + more > labelling.teacher.atoms_of_a_call() {
                labelling.call()?;
                atoms = 0;
                if !watch(labelling.counts) {
                    return Ok(labelling.counts);
                }
            }
            atoms += more;
            labelling.pending.push((file.clone(), number, frame));
        }
    }
    labelling.call()?;
    watch(labelling.counts);
    if let Some(Some(left)) = labelling.to.earlier.as_mut().map(Iterator::next) {
        let source = left?.value(SOURCE).unwrap_or("nowhere").to_owned();
        return Err(DistillError::Other {
            path: labelling.to.path.clone(),
            expected: "labels of these structures alone".to_owned(),
            found: format!("those of {source} too"),
        });
    }
    Ok(labelling.counts)
}

struct Labelling<'a> {
    teacher: &'a mut dyn Teacher,
    to: &'a mut LabelFile,
    /// Frames of the next call, with their places.
    pending: Vec<(PathBuf, usize, Frame)>,
    counts: LabelCounts,
}

impl Labelling<'_> {
    fn call(&mut self) -> Result<(), DistillError> {
        let (places, frames): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.pending).into_iter().map(|(file, number, frame)| ((file, number), frame)).unzip();
        let Some((file, number)) = places.first() else { return Ok(()) };
        let answers = self.teacher.label(&frames).map_err(|error| DistillError::Teacher {
            file: file.clone(),
            frame: *number,
            error,
        })?;
        for (((file, number), frame), answer) in places.iter().zip(&frames).zip(answers) {
            match answer {
                Ok(labels) => {
                    self.to.write(file, *number, frame, &labels)?;
                    self.counts.labelled += 1;
                }
                Err(reason) => {
                    self.to.skip(Skipped { file: file.display().to_string(), frame: *number, reason })?;
                    self.counts.skipped += 1;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "distill_tests.rs"]
mod tests;
