//! Structure files of any format, frame by frame.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use std::sync::Arc;

use super::{EXTENSIONS, Frame, StructureError, StructureWarning, extxyz, pdb};

/// A structure file, frame by frame; the format follows from the extension (see [`EXTENSIONS`]).
///
/// What is read is as in [`read_frames`](super::read_frames), which is this to the end. An extended XYZ file may be longer than
/// memory: one frame is held at a time. A PDB file is read whole when it is opened. After an error there are no further frames.
pub struct FrameReader {
    source: Source,
    path: Arc<Path>,
    /// Whether a frame or an error came already.
    begun: bool,
    ended: bool,
}

enum Source {
    ExtXyz(extxyz::Reader<BufReader<File>>),
    Pdb { frames: std::vec::IntoIter<Frame>, is_blank: bool },
}

impl FrameReader {
    /// Opens a file and reads nothing yet, unless it is PDB.
    ///
    /// # Errors
    /// [`StructureError`]: an extension that is not known, a file that cannot be opened, a broken PDB file.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, StructureError> {
        let path: Arc<Path> = path.as_ref().into();
        let refused = |source| StructureError::Read { path: path.to_path_buf(), source };
        let extension = path.extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
        let source = match extension.as_str() {
            "extxyz" | "xyz" => {
                let file = BufReader::new(File::open(&path).map_err(refused)?);
                Source::ExtXyz(extxyz::Reader::new(file, Arc::clone(&path)))
            }
            "pdb" | "ent" => {
                let bytes = std::fs::read(&path).map_err(refused)?;
                let text = String::from_utf8_lossy(&bytes);
                let text = text.trim_start_matches(extxyz::BYTE_ORDER_MARK);
                let frames: Vec<Frame> = pdb::parse(text, &path)?
                    .into_iter()
                    // The names are the file's own, not said by the frames.
                    .map(|structure| Frame { info: Vec::new(), ..Frame::from(structure) })
                    .collect();
                Source::Pdb { frames: frames.into_iter(), is_blank: text.trim().is_empty() }
            }
            _ => {
                let expected = EXTENSIONS.join(", ");
                return Err(StructureError::Extension { path: path.to_path_buf(), expected, found: extension });
            }
        };
        Ok(Self { source, path, begun: false, ended: false })
    }

    /// What a user should be told about the frames so far, each thing once.
    pub fn warnings(&self) -> &[StructureWarning] {
        match &self.source {
            Source::ExtXyz(reader) => reader.warnings(),
            Source::Pdb { .. } => &[],
        }
    }

    fn advance(&mut self) -> Result<Option<Frame>, StructureError> {
        // A file of extended XYZ without a frame and without an error has nothing but blank lines.
        let (frame, is_blank) = match &mut self.source {
            Source::ExtXyz(reader) => (reader.next_frame()?, true),
            Source::Pdb { frames, is_blank } => (frames.next(), *is_blank),
        };
        if frame.is_none() && !self.begun {
            let found = if is_blank { "an empty file" } else { "no atoms" };
            return Err(StructureError::Empty { path: self.path.to_path_buf(), found });
        }
        Ok(frame)
    }
}

impl Iterator for FrameReader {
    type Item = Result<Frame, StructureError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let next = self.advance().transpose();
        self.begun = true;
        self.ended = !matches!(next, Some(Ok(_)));
        next
    }
}

impl std::iter::FusedIterator for FrameReader {}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a file gives one by one, as text, and its warnings at the end.
    fn read(name: &str, content: &str) -> (Vec<String>, usize) {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = dir.path().join(name);
        std::fs::write(&path, content).expect("a written file");
        let mut reader = FrameReader::open(&path).unwrap_or_else(|error| panic!("{error}"));
        let said = |next: Result<Frame, StructureError>| match next {
            Ok(frame) => frame.structure.name,
            Err(error) => error.to_string().replace(&path.display().to_string(), name),
        };
        let frames = reader.by_ref().map(said).collect();
        assert!(reader.next().is_none(), "{name}: something after the end");
        (frames, reader.warnings().len())
    }

    #[test]
    fn frames_before_an_error_are_read_and_none_after_it() {
        let good = "1\nlattice=none\nH 0 0 0\n";
        assert_eq!(read("f.xyz", good), (vec!["f".into()], 1));
        let (frames, warnings) = read("f.xyz", &format!("{good}{good}1\n\nQ 0 0 0\n{good}"));
        let error = "f.xyz:9: frame 3: expected a chemical symbol, found `Q`".to_owned();
        assert_eq!((frames, warnings), (vec!["f#1".into(), "f#2".into(), error], 1));
        let empty = "f.xyz: expected at least one frame, found an empty file".to_owned();
        assert_eq!(read("f.xyz", " \n"), (vec![empty], 0));
    }

    #[test]
    fn pdb_is_read_as_frames_too() {
        let atom = "ATOM      1  O   HOH A   1       1.000   2.000   3.000  1.00  0.00           O\n";
        assert_eq!(read("f.pdb", &format!("{atom}END\n{atom}END\n")), (vec!["f#1".into(), "f#2".into()], 0));
        let empty = "f.pdb: expected at least one frame, found no atoms".to_owned();
        assert_eq!(read("f.pdb", "REMARK\n"), (vec![empty], 0));
    }
}
