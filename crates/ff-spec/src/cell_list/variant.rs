//! What changes the generated code of `cell_list`, and its names.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Which of a pair's two directed edges are listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum List {
    /// Both.
    Full,
    /// The one with receiver < sender; of an atom and its own image the one whose shift is positive in its first
    /// component that is not zero.
    Half,
}

impl List {
    /// All kinds of list.
    pub const ALL: [List; 2] = [List::Full, List::Half];

    /// The name used in variant ids.
    pub fn name(self) -> &'static str {
        match self {
            List::Full => "full",
            List::Half => "half",
        }
    }

    /// Whether the edge `receiver` ← `sender` in image `shift` is in such a list, given that it is in the full one.
    #[inline]
    pub fn has(self, receiver: u32, sender: u32, shift: [i32; 3]) -> bool {
        self == List::Full || receiver < sender || (receiver == sender && shift > [0; 3])
    }
}

/// How candidates for edges are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// Atoms sorted into the cells of a grid; candidates are those of the cells around. O(N).
    Cells,
    /// All atoms of the system in all images within reach. O(N²), without the work of sorting.
    Brute,
}

impl Strategy {
    /// All strategies.
    pub const ALL: [Strategy; 2] = [Strategy::Cells, Strategy::Brute];

    /// The name used in variant ids.
    pub fn name(self) -> &'static str {
        match self {
            Strategy::Cells => "cells",
            Strategy::Brute => "brute",
        }
    }
}

/// What changes the generated code. One variant is one generated file for both targets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Variant {
    /// Edges listed.
    pub list: List,
    /// Candidates.
    pub strategy: Strategy,
}

impl Variant {
    /// The id: `full_cells`, `half_brute`. It is also the family that tuning tables are keyed by.
    pub fn id(&self) -> String {
        format!("{}_{}", self.list.name(), self.strategy.name())
    }
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.id())
    }
}

/// A variant id that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed cell_list variant `{found}`, expected <list>_<strategy>: `full` or `half`, `cells` or `brute`")]
pub struct MalformedVariant {
    /// What was given.
    pub found: String,
}

impl FromStr for Variant {
    type Err = MalformedVariant;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let malformed = || MalformedVariant { found: s.to_owned() };
        let (list, strategy) = s.split_once('_').ok_or_else(malformed)?;
        Ok(Self {
            list: List::ALL.into_iter().find(|l| l.name() == list).ok_or_else(malformed)?,
            strategy: Strategy::ALL.into_iter().find(|m| m.name() == strategy).ok_or_else(malformed)?,
        })
    }
}
