//! Why a network cannot be made or evaluated.

use ff_kernels::OpenError;
use ff_model::ModelError;
use ff_ops::fused_message::OpError;
use ff_structure::NeighborError;

/// Why a network cannot be made or evaluated; structures are counted from 0.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum NetworkError {
    /// An element without an embedding.
    #[error(
        "structure {structure}: atom {atom} has atomic number {z}, expected one with an embedding, 1 to {}",
        rows.saturating_sub(1)
    )]
    Element {
        /// The number of the structure.
        structure: usize,
        /// The atom.
        atom: usize,
        /// Its atomic number.
        z: u8,
        /// Rows of the embedding.
        rows: usize,
    },
    /// Atoms in one place: the direction between them is not defined.
    #[error("structure {structure}: atoms {} and {} are in one place, expected a distance above 0", atoms[0], atoms[1])]
    Coincident {
        /// The number of the structure.
        structure: usize,
        /// The atoms.
        atoms: [usize; 2],
    },
    /// No neighbour list can be made.
    #[error("structure {structure}: {source}")]
    Neighbors {
        /// The number of the structure.
        structure: usize,
        /// Why.
        source: NeighborError,
    },
    /// A structure that no model computes.
    #[error(transparent)]
    Structure(#[from] ModelError),
    /// There is no such device.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// An op refuses its tensors.
    #[error(transparent)]
    Op(#[from] OpError),
}
