//! Where the structures of a comparison come from, one by one.

use std::path::{Path, PathBuf};

use ff_structure::io::EXTENSIONS;
use ff_structure::{FrameReader, Structure, builtin};
use ff_train::labels::UnitHints;
use ff_train::{LabelOptions, LabelReader, Labelled};

use crate::failure::{Failure, Result};
use crate::screen::Screen;
use crate::workload;

/// The built-in set.
const MOLECULES: &str = "molecules";

/// A structure, with labels where there are any.
pub struct Item {
    /// The file, or the built-in set.
    pub file: PathBuf,
    /// Its labels and the frame of the file.
    pub labelled: Labelled,
}

/// Structures of files, labelled or not, or of the built-in set.
pub enum Source {
    /// Labelled frames.
    Labelled {
        /// The file.
        file: PathBuf,
        /// Its frames.
        reader: Box<LabelReader>,
        /// Whether its units are those that are said.
        hints: UnitHints,
        /// How it is read.
        options: LabelOptions,
    },
    /// Files that are still to be read, the next last, and the one that is read.
    Files { left: Vec<PathBuf>, open: Option<(PathBuf, Box<FrameReader>, usize)> },
    /// The built-in set.
    BuiltIn(std::iter::Enumerate<std::vec::IntoIter<Structure>>),
}

/// Whether a file's name says that it holds structures.
pub fn holds_structures(file: &Path) -> bool {
    let extension = file.extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    EXTENSIONS.contains(&extension.as_str())
}

impl Source {
    /// Labelled frames.
    ///
    /// # Errors
    /// A file that cannot be read, as bad input.
    pub fn labelled(file: &Path, options: LabelOptions) -> Result<Self> {
        let reader = LabelReader::open(file, options.clone()).map_err(Failure::input)?;
        Ok(Self::Labelled { file: file.to_owned(), reader: Box::new(reader), hints: UnitHints::default(), options })
    }

    /// Structures of files; of none the built-in set.
    ///
    /// # Errors
    /// The first of them that cannot be opened, as bad input.
    pub fn of(files: &[PathBuf]) -> Result<Self> {
        if files.is_empty() {
            let molecules = builtin(MOLECULES).map_err(Failure::input)?;
            return Ok(Self::BuiltIn(molecules.into_iter().enumerate()));
        }
        for file in files {
            FrameReader::open(file).map_err(Failure::input)?;
        }
        Ok(Self::Files { left: files.iter().rev().cloned().collect(), open: None })
    }

    /// The next structure.
    ///
    /// # Errors
    /// What is wrong with a file, as bad input.
    pub fn next(&mut self, screen: &Screen) -> Result<Option<Item>> {
        let unlabelled = |structure, frame| Labelled { structure, frame, energy: None, forces: None, stress: None };
        match self {
            Self::Labelled { file, reader, hints, .. } => {
                let Some(labelled) = reader.next().transpose().map_err(Failure::input)? else { return Ok(None) };
                hints.look(&labelled);
                Ok(Some(Item { file: file.clone(), labelled }))
            }
            Self::Files { left, open } => loop {
                if open.is_none() {
                    let Some(file) = left.pop() else { return Ok(None) };
                    let reader = Box::new(FrameReader::open(&file).map_err(Failure::input)?);
                    *open = Some((file, reader, 0));
                }
                let Some((file, reader, number)) = open else { continue };
                if let Some(frame) = reader.next().transpose().map_err(Failure::input)? {
                    *number += 1;
                    return Ok(Some(Item { file: file.clone(), labelled: unlabelled(frame.structure, *number) }));
                }
                workload::warn(reader.warnings(), screen);
                *open = None;
            },
            Self::BuiltIn(structures) => Ok(structures
                .next()
                .map(|(i, structure)| Item { file: MOLECULES.into(), labelled: unlabelled(structure, i + 1) })),
        }
    }

    /// What a user should be told of what was read.
    pub fn warn(&self, screen: &Screen) {
        if let Self::Labelled { file, reader, hints, options } = self {
            workload::warn(reader.warnings(), screen);
            for hint in hints.hints(options.units) {
                screen.warn(format!("warning: {}: {hint}", file.display()));
            }
        }
    }
}
