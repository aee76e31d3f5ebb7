//! `cell_list`: neighbour lists of batches of systems, in any cell.
//!
//! | name | shape | dtype | meaning |
//! | --- | --- | --- | --- |
//! | `positions` | [n_atoms, 3] | T | x_i in Å, anywhere: atoms need not lie in their cell |
//! | `system_ptr` | [n_systems + 1] | u32 | CSR of atoms by system |
//! | `cell`, `pbc` | [n_systems, 3, 3], [n_systems, 3] | T, bool | lattice vectors a, b, c as rows in Å; which of them repeat. Rows of open directions are not read |
//! | `row_ptr`, `sender` | [n_atoms + 1], [n_edges] | u32 | edges i ← j, CSR by receiver i, each row sorted by (sender, shift) |
//! | `shift` | [n_edges, 3] | i32 | periodic image S of the sender; 0 in open directions |
//! | `edge_vec` | [n_edges, 3] | T | r_ij = (x_j − x_i) + S·H in Å |
//! | `sender_ptr`, `transpose` | [n_atoms + 1], [n_edges] | u32 | CSR by sender: the ids of the edges sent by j, sorted by (receiver, −shift) |
//!
//! On a full list `sender_ptr` equals `row_ptr`, and `transpose`[e] is the reverse of edge e.

pub mod grid;

use std::ops::Range;

use crate::Scalar;
use crate::dtype::cast;

mod cost;
mod estimate;
#[cfg(test)]
mod tests;
mod variant;

pub use cost::compulsory_bytes;
pub use variant::{List, MalformedVariant, Strategy, Variant};

/// The name of this family of kernels.
pub const OP: &str = "cell_list";

/// The sizes of its calls, edges as they are estimated before there is a list.
pub const AXES: &[&str] = &["n_atoms", "n_systems", "n_edges", "mean_degree"];

crate::op::declare! {
    /// Neighbour lists: [`cell_list`](crate::cell_list).
    impl Op for CellList: 0, Inputs -> NeighborList, id;
}

/// A batch of systems in one flat list of atoms; see the table at the top of this module.
#[derive(Clone, Debug, PartialEq)]
pub struct Inputs<T> {
    /// [n_atoms, 3], Å.
    pub positions: Vec<T>,
    /// [n_systems + 1], from 0 to n_atoms.
    pub system_ptr: Vec<u32>,
    /// [n_systems, 3, 3], Å.
    pub cell: Vec<T>,
    /// [n_systems, 3].
    pub pbc: Vec<[bool; 3]>,
    /// Edges have d < cutoff, Å.
    pub cutoff: T,
}

/// A neighbour list; see the table at the top of this module.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NeighborList<T> {
    /// [n_atoms + 1].
    pub row_ptr: Vec<u32>,
    /// [n_edges].
    pub sender: Vec<u32>,
    /// [n_edges, 3].
    pub shift: Vec<[i32; 3]>,
    /// [n_edges, 3], Å.
    pub edge_vec: Vec<[T; 3]>,
    /// [n_atoms + 1].
    pub sender_ptr: Vec<u32>,
    /// [n_edges].
    pub transpose: Vec<u32>,
}

impl<T> NeighborList<T> {
    /// Directed edges.
    pub fn n_edges(&self) -> usize {
        self.sender.len()
    }

    /// Atoms.
    pub fn n_atoms(&self) -> usize {
        self.row_ptr.len().saturating_sub(1)
    }

    /// The edges of receiver `atom`.
    ///
    /// # Panics
    /// If there is no such atom.
    pub fn row(&self, atom: usize) -> Range<usize> {
        self.row_ptr[atom] as usize..self.row_ptr[atom + 1] as usize
    }

    /// Bytes of all arrays.
    pub fn bytes(&self) -> usize {
        size_of_val(&self.row_ptr[..])
            + size_of_val(&self.sender[..])
            + size_of_val(&self.shift[..])
            + size_of_val(&self.edge_vec[..])
            + size_of_val(&self.sender_ptr[..])
            + size_of_val(&self.transpose[..])
    }
}

/// Why no neighbour list can be made. Atoms and systems are counted from 0.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum InputError {
    /// A tensor has the wrong number of elements.
    #[error("`{tensor}` has {found} elements, expected {expected} for shape {shape}")]
    Shape {
        /// Tensor name as in `ops.md`.
        tensor: &'static str,
        /// The shape it should have.
        shape: &'static str,
        /// Elements of that shape.
        expected: usize,
        /// Elements given.
        found: usize,
    },
    /// `system_ptr` does not ascend from 0 to the number of atoms.
    #[error("`system_ptr` goes from {from} to {to} at entry {entry}, expected ascending offsets from 0 to n_atoms")]
    SystemPtr {
        /// Index of the offending entry.
        entry: usize,
        /// The entry before, or what the first entry must be.
        from: u32,
        /// The entry.
        to: u32,
    },
    /// A cutoff that is no radius.
    #[error("cutoff is {found}, expected a positive radius in Å")]
    Cutoff {
        /// The value.
        found: f64,
    },
    /// NaN or infinity among the positions.
    #[error("position of atom {atom} (counted from 0) is {found:?}, expected finite coordinates")]
    NotFinite {
        /// Atom index.
        atom: usize,
        /// Its position.
        found: [f64; 3],
    },
    /// Lattice vectors that are not finite, are zero, or lie in one plane or line.
    #[error(
        "cell of system {system} is {found:?} with pbc {pbc:?}, expected finite, linearly independent periodic lattice \
         vectors"
    )]
    SingularCell {
        /// System index.
        system: usize,
        /// Rows a, b, c.
        found: [[f64; 3]; 3],
        /// The periodic directions.
        pbc: [bool; 3],
    },
    /// An atom whose image cannot be counted in `i32`.
    #[error("atom {atom} (counted from 0) lies {found:e} cells away from the origin, expected at most {limit:e}")]
    FarAway {
        /// Atom index.
        atom: usize,
        /// Cells between the origin and the atom.
        found: f64,
        /// The most there may be.
        limit: f64,
    },
    /// A cutoff that spans absurdly many cells.
    #[error("cutoff {cutoff} Å spans {found:e} images of the cell of system {system}, expected at most {limit:e}")]
    TooManyImages {
        /// System index.
        system: usize,
        /// The cutoff.
        cutoff: f64,
        /// Images to visit for every atom.
        found: f64,
        /// The most there may be.
        limit: f64,
    },
    /// More than the index type holds.
    #[error("{found} {what}, more than the {limit} that the u32 index type holds; split the batch or lower the cutoff")]
    TooMany {
        /// Atoms or edges.
        what: &'static str,
        /// How many.
        found: u64,
        /// The most there may be.
        limit: u64,
    },
}

impl<T: Scalar> Inputs<T> {
    /// Atoms.
    pub fn n_atoms(&self) -> usize {
        self.positions.len() / 3
    }

    /// Systems.
    pub fn n_systems(&self) -> usize {
        self.pbc.len()
    }

    /// The atoms of a system.
    ///
    /// # Panics
    /// If there is no such system.
    pub fn atoms(&self, system: usize) -> Range<usize> {
        self.system_ptr[system] as usize..self.system_ptr[system + 1] as usize
    }

    /// Lattice vectors of a system as rows.
    ///
    /// # Panics
    /// If there is no such system.
    pub fn cell(&self, system: usize) -> [[T; 3]; 3] {
        let rows = &self.cell[9 * system..9 * system + 9];
        std::array::from_fn(|k| std::array::from_fn(|c| rows[3 * k + c]))
    }

    /// Position of an atom.
    ///
    /// # Panics
    /// If there is no such atom.
    pub fn position(&self, atom: usize) -> [T; 3] {
        std::array::from_fn(|c| self.positions[3 * atom + c])
    }

    /// Checks a skin in Å, which lists of moving atoms add to their cutoff.
    ///
    /// # Errors
    /// [`InputError::Cutoff`] for one that is negative or not finite.
    pub fn check_skin(skin: T) -> Result<(), InputError> {
        let found = skin.to_f64();
        if found.is_finite() && found >= 0.0 { Ok(()) } else { Err(InputError::Cutoff { found }) }
    }

    /// Whether the cell of a system is another than it was in `before` [n_systems, 3, 3]: by bits, since open rows may hold
    /// anything.
    pub fn cell_differs(&self, system: usize, before: &[T]) -> bool {
        let bits = |cell: &[T]| cell[9 * system..][..9].iter().map(|x| x.to_f64().to_bits()).collect::<Vec<_>>();
        bits(&self.cell) != bits(before)
    }

    /// Some systems of a batch, in the order of `systems`.
    ///
    /// # Panics
    /// If there is no such system.
    pub fn select(&self, systems: &[usize]) -> Self {
        let mut part =
            Self { positions: Vec::new(), system_ptr: vec![0], cell: Vec::new(), pbc: Vec::new(), cutoff: self.cutoff };
        for &system in systems {
            let atoms = self.atoms(system);
            part.positions.extend_from_slice(&self.positions[3 * atoms.start..3 * atoms.end]);
            part.system_ptr.push((part.positions.len() / 3) as u32);
            part.cell.extend_from_slice(self.cell(system).as_flattened());
            part.pbc.push(self.pbc[system]);
        }
        part
    }

    /// The same inputs in another dtype, rounded to nearest.
    pub fn cast<U: Scalar>(&self) -> Inputs<U> {
        Inputs {
            positions: cast(&self.positions),
            system_ptr: self.system_ptr.clone(),
            cell: cast(&self.cell),
            pbc: self.pbc.clone(),
            cutoff: U::from_f64(self.cutoff.to_f64()),
        }
    }

    /// Checks shapes, offsets, and that positions and cutoff are finite; cells are checked where their grids are made.
    ///
    /// # Errors
    /// The first thing that is wrong, with what was expected and found.
    pub fn check(&self) -> Result<(), InputError> {
        let (n_atoms, n_systems) = (self.n_atoms(), self.n_systems());
        for (tensor, shape, expected, found) in [
            ("positions", "[n_atoms, 3]", 3 * n_atoms, self.positions.len()),
            ("system_ptr", "[n_systems + 1]", n_systems + 1, self.system_ptr.len()),
            ("cell", "[n_systems, 3, 3]", 9 * n_systems, self.cell.len()),
        ] {
            if found != expected {
                return Err(InputError::Shape { tensor, shape, expected, found });
            }
        }
        if n_atoms > u32::MAX as usize {
            return Err(InputError::TooMany { what: "atoms", found: n_atoms as u64, limit: u64::from(u32::MAX) });
        }
        let mut from = 0;
        for (entry, &to) in self.system_ptr.iter().enumerate() {
            let last = entry == n_systems;
            if to < from || (entry == 0 && to != 0) || (last && to as usize != n_atoms) || to as usize > n_atoms {
                return Err(InputError::SystemPtr { entry, from, to });
            }
            from = to;
        }
        let cutoff = self.cutoff.to_f64();
        if !(cutoff.is_finite() && cutoff > 0.0) {
            return Err(InputError::Cutoff { found: cutoff });
        }
        if let Some(at) = self.positions.iter().position(|x| !x.to_f64().is_finite()) {
            let found = self.position(at / 3).map(Scalar::to_f64);
            return Err(InputError::NotFinite { atom: at / 3, found });
        }
        Ok(())
    }
}
