//! Extended XYZ as ASE, OVITO and libAtoms write it: a count, a comment line of `key=value` pairs, one line per atom.
//!
//! `Lattice` holds nine numbers, the vectors a, b, c one after the other; without `pbc` it means periodic in all
//! directions. `Properties` names the columns as `name:type:width` triples. A comment with neither is free text: plain XYZ.

mod header;
mod read;
mod write;

pub(super) use read::{BYTE_ORDER_MARK, Reader};
pub use write::{FrameWriter, WriteError};

#[cfg(test)]
mod tests;

/// The keys that say what the atoms are: without them a crystal is a molecule, and columns are in another order.
const KEYS: [&str; 3] = ["Lattice", "Properties", "pbc"];
