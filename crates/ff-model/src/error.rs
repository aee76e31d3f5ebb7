//! Why a structure cannot be computed.

use ff_spec::cell_list::InputError;

/// Why a structure cannot be computed; structures are counted from 0.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ModelError {
    /// An element without an embedding.
    #[error(
        "structure {index} (`{name}`): atom {atom} has atomic number {z}, which the model has no embedding for, expected 1 to {}",
        rows - 1
    )]
    Element {
        /// Name of the structure.
        name: String,
        /// Its number.
        index: usize,
        /// The atom.
        atom: usize,
        /// Its atomic number.
        z: u8,
        /// Rows of the embedding.
        rows: usize,
    },
    /// Periodic directions without lattice vectors.
    #[error("structure {index} (`{name}`): pbc is {pbc:?} but there is no cell, expected one for periodic directions")]
    MissingCell {
        /// Name of the structure.
        name: String,
        /// Its number.
        index: usize,
        /// The periodic directions.
        pbc: [bool; 3],
    },
    /// Atoms in one place: the direction between them is not defined.
    #[error("structure {index} (`{name}`): atoms {} and {} are in one place, expected a distance above 0", atoms[0], atoms[1])]
    Coincident {
        /// Name of the structure.
        name: String,
        /// Its number.
        index: usize,
        /// The atoms.
        atoms: [usize; 2],
    },
    /// No neighbour list can be made.
    #[error("structure {index} (`{name}`): {source}")]
    Neighbors {
        /// Name of the structure.
        name: String,
        /// Its number.
        index: usize,
        /// Why.
        source: InputError,
    },
}

impl ModelError {
    /// The number of the structure, from 0, among those that were given together.
    pub fn index(&self) -> usize {
        match self {
            Self::Element { index, .. }
            | Self::MissingCell { index, .. }
            | Self::Coincident { index, .. }
            | Self::Neighbors { index, .. } => *index,
        }
    }

    /// Why, without which structure: for whoever counts them otherwise.
    pub fn reason(&self) -> String {
        let (Self::Element { name, index, .. }
        | Self::MissingCell { name, index, .. }
        | Self::Coincident { name, index, .. }
        | Self::Neighbors { name, index, .. }) = self;
        let all = self.to_string();
        all.strip_prefix(&format!("structure {index} (`{name}`): ")).unwrap_or(&all).to_owned()
    }
}
