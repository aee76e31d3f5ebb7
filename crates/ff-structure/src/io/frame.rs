//! What a frame says beyond the structure, and the labels among it.

use std::path::Path;
use std::sync::Arc;

use super::{Place, quoted};
use crate::{Structure, StructureError};

/// What labels may be called, `REF_energy` for one; the first spelling that a frame has is its labels.
const PREFIXES: [&str; 3] = ["REF_", "ref_", ""];

/// One frame of a file: the structure, and what else the frame says.
///
/// Two frames are equal where they say the same, wherever they were read.
#[derive(Clone, Debug)]
pub struct Frame {
    /// The system of atoms.
    pub structure: Structure,
    /// The pairs of the comment line in file order, without `Lattice`, `pbc` and `Properties` and without quotes; `T` for a key
    /// that has no value. A `name` that the frame gives itself is here too. The comment of plain XYZ is one value, `comment`,
    /// unless it is nothing but `key=value` pairs.
    pub info: Vec<(String, String)>,
    /// The columns other than species and positions, in file order. What `Properties` does not name is not kept.
    pub columns: Vec<Column>,
    /// Where it was read.
    pub(super) origin: Origin,
}

impl PartialEq for Frame {
    fn eq(&self, other: &Self) -> bool {
        (&self.structure, &self.info, &self.columns) == (&other.structure, &other.info, &other.columns)
    }
}

/// A structure as the frame of a file, with its name as `info`.
impl From<Structure> for Frame {
    fn from(structure: Structure) -> Self {
        let info = match structure.name.as_str() {
            "" => Vec::new(),
            name => vec![("name".to_owned(), name.to_owned())],
        };
        let origin = Origin { path: Path::new(&structure.name).into(), frame: 1, line: 2 };
        Self { structure, info, columns: Vec::new(), origin }
    }
}

impl Frame {
    /// The raw value of a key of the comment line; where it is there twice, the last.
    pub fn value(&self, key: &str) -> Option<&str> {
        self.info.iter().rfind(|(found, _)| found == key).map(|(_, value)| value.as_str())
    }

    /// The column of a name; where it is there twice, the last.
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().rfind(|column| column.name == name)
    }

    /// The labels of the frame: the keys `energy` and `stress`, the columns `forces` and `energies`.
    ///
    /// All four may be spelled with `REF_` or `ref_` before them. The labels of a frame have one spelling: where it has several,
    /// as in a file of predictions beside what they are compared with, `REF_` goes before `ref_` and both before none.
    /// A stress is nine numbers, row by row, or six in Voigt's order as ASE has it (xx, yy, zz, yz, xz, xy).
    ///
    /// # Errors
    /// [`StructureError::Syntax`] where a label is not finite numbers, as many as it has to have.
    pub fn labels(&self) -> Result<Labels, StructureError> {
        let spelled = |prefix: &str| {
            let value = |key: &str| self.value(&format!("{prefix}{key}"));
            let column = |key: &str| self.column(&format!("{prefix}{key}"));
            let any =
                value("energy").or(value("stress")).is_some() || column("forces").or(column("energies")).is_some();
            any.then(|| prefix.to_owned())
        };
        let Some(prefix) = PREFIXES.into_iter().find_map(spelled) else { return Ok(Labels::default()) };
        let [energy, stress, forces, energies] = LABELS.map(|label| format!("{prefix}{label}"));
        Ok(Labels {
            energy: self.number(&energy)?,
            energies: self.numbers::<1>(&energies)?.map(|rows| rows.into_iter().map(|[energy]| energy).collect()),
            forces: self.vectors(&forces)?,
            stress: self.matrix(&stress)?,
        })
    }

    /// The file and the frame in it, counted from 1.
    pub fn origin(&self) -> (&Path, usize) {
        (&self.origin.path, self.origin.frame)
    }

    /// The finite number of a key of the comment line, where it is there.
    ///
    /// # Errors
    /// [`StructureError::Syntax`] where it is none.
    pub fn number(&self, key: &str) -> Result<Option<f64>, StructureError> {
        self.value(key).map(|text| self.origin.place().number(key, text)).transpose()
    }

    /// The column of three finite numbers for each atom, `[n_atoms]`, where it is there.
    ///
    /// # Errors
    /// [`StructureError::Syntax`] where it is something else.
    pub fn vectors(&self, name: &str) -> Result<Option<Vec<[f64; 3]>>, StructureError> {
        self.numbers::<3>(name)
    }

    /// The 3 × 3 matrix of a key of the comment line, where it is there: nine numbers row by row, or six in Voigt's order.
    ///
    /// # Errors
    /// [`StructureError::Syntax`] where it is something else.
    pub fn matrix(&self, key: &str) -> Result<Option<[[f64; 3]; 3]>, StructureError> {
        self.value(key).map(|text| tensor(key, text, self.origin.place())).transpose()
    }

    /// The rows of a column of `N` numbers for each atom, where there is one.
    fn numbers<const N: usize>(&self, name: &str) -> Result<Option<Vec<[f64; N]>>, StructureError> {
        let Some(column) = self.column(name) else { return Ok(None) };
        let mut place = self.origin.place();
        let Column { kind, width, .. } = column;
        if *width != N || !matches!(kind, ColumnKind::Real | ColumnKind::Integer) {
            let found = format!("`{name}:{}:{width}`", kind.letter());
            return Err(place.expected(format!("a column `{name}:R:{N}`"), found));
        }
        let n_atoms = self.structure.n_atoms();
        if column.len() != n_atoms * N {
            let expected = format!("{} values of {name}, {N} for each of {n_atoms} atoms", n_atoms * N);
            return Err(place.expected(expected, column.len().to_string()));
        }
        let mut values = column.values();
        let mut rows = vec![[0.0; N]; n_atoms];
        for row in &mut rows {
            place.line += 1;
            for (entry, text) in row.iter_mut().zip(&mut values) {
                *entry = place.number(name, text)?;
            }
        }
        Ok(Some(rows))
    }
}

/// What labels and results are called, in the comment line (the first two) and as columns.
pub(super) const LABELS: [&str; 4] = ["energy", "stress", "forces", "energies"];

/// Energies and their derivatives that belong to a frame: labels to train on, or results to write.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Labels {
    /// Energy of the system in eV.
    pub energy: Option<f64>,
    /// Energies of the atoms in eV, `[n_atoms]`.
    pub energies: Option<Vec<f64>>,
    /// Forces in eV/Å, `[n_atoms]`.
    pub forces: Option<Vec<[f64; 3]>>,
    /// Stress in eV/Å³, the strain derivative of the energy over the volume; rows of a symmetric matrix.
    pub stress: Option<[[f64; 3]; 3]>,
}

/// A stress as files spell it: nine numbers row by row, also as nested lists, or six of Voigt's.
fn tensor(key: &str, text: &str, place: Place<'_>) -> Result<[[f64; 3]; 3], StructureError> {
    // ASE writes what it has no other form for as JSON, a matrix of another name among it.
    let entries = text.trim_start().strip_prefix("_JSON").unwrap_or(text);
    let separators = |c: char| c.is_whitespace() || matches!(c, ',' | '[' | ']');
    let entries: Vec<&str> = entries.split(separators).filter(|entry| !entry.is_empty()).collect();
    let numbers = entries.iter().map(|entry| place.number(key, entry)).collect::<Result<Vec<f64>, _>>()?;
    match numbers[..] {
        [xx, xy, xz, yx, yy, yz, zx, zy, zz] => Ok([[xx, xy, xz], [yx, yy, yz], [zx, zy, zz]]),
        [xx, yy, zz, yz, xz, xy] => Ok([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]]),
        _ => {
            let found = format!("{} in {}", numbers.len(), quoted(text));
            Err(place.expected(format!("nine numbers for {key}, or six in Voigt's order"), found))
        }
    }
}

/// A column of an extended XYZ file: its name and type, and what stands there for each atom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// What `Properties` calls it.
    pub name: String,
    /// What its values are said to be.
    pub kind: ColumnKind,
    /// Values of an atom.
    pub width: usize,
    /// The values one after the other: a string for each would take several times the memory.
    text: String,
    /// Where each value ends in `text`.
    ends: Vec<usize>,
}

impl Column {
    /// A column of values `[n_atoms, width]`, as text without quotes.
    pub fn new(
        name: impl Into<String>,
        kind: ColumnKind,
        width: usize,
        values: impl IntoIterator<Item = impl AsRef<str>>,
    ) -> Self {
        let mut column = Self { name: name.into(), kind, width, text: String::new(), ends: Vec::new() };
        values.into_iter().for_each(|value| column.push(value.as_ref()));
        column
    }

    /// The values as the file has them, without quotes, `[n_atoms, width]`.
    pub fn values(&self) -> impl Iterator<Item = &str> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, end)| &self.text[start..*end])
    }

    /// Number of values, of all atoms together.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether it has no values.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    pub(super) fn push(&mut self, value: &str) {
        self.text.push_str(value);
        self.ends.push(self.text.len());
    }
}

/// What the values of a column are said to be. Nothing but labels is read as that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColumnKind {
    /// `S`, text.
    Text,
    /// `R`, real numbers.
    Real,
    /// `I`, integers.
    Integer,
    /// `L`, `T` or `F`.
    Logical,
}

impl ColumnKind {
    /// Its letter in `Properties`.
    pub fn letter(self) -> char {
        match self {
            Self::Text => 'S',
            Self::Real => 'R',
            Self::Integer => 'I',
            Self::Logical => 'L',
        }
    }

    /// The kind of a letter.
    pub(super) fn from_letter(letter: &str) -> Option<Self> {
        match letter {
            "S" => Some(Self::Text),
            "R" => Some(Self::Real),
            "I" => Some(Self::Integer),
            "L" => Some(Self::Logical),
            _ => None,
        }
    }
}

/// Where a frame was read, for what is found out about it later.
#[derive(Clone, Debug)]
pub(super) struct Origin {
    pub path: Arc<Path>,
    /// Frame in the file, counted from 1.
    pub frame: usize,
    /// The line of its comment.
    pub line: usize,
}

impl Origin {
    fn place(&self) -> Place<'_> {
        Place { path: &self.path, frame: self.frame, line: self.line }
    }
}
