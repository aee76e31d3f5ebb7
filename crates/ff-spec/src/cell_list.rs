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

use std::f64::consts::PI;
use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::dtype::cast;
use crate::{Problem, Scalar};

/// The name of this family of kernels.
pub const OP: &str = "cell_list";

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

    /// The sizes of a list that is there, given its row lengths. Tables are keyed by [`Inputs::estimate`].
    pub fn problem(&self, name: &str, row_ptr: &[u32]) -> Problem {
        Problem {
            name: name.to_owned(),
            n_atoms: self.n_atoms() as u64,
            n_systems: self.n_systems() as u64,
            n_edges: u64::from(row_ptr.last().copied().unwrap_or(0)),
            max_degree: row_ptr.windows(2).map(|w| u64::from(w[1] - w[0])).max().unwrap_or(0),
            features: 0,
            n_basis: 0,
            hidden: 0,
        }
    }

    /// The sizes that tables are keyed by and constraints may name: what is known of a list before it is built, which is
    /// atoms, systems, density and cutoff.
    ///
    /// Edges are those of a full list of atoms spread evenly: Σ over systems of n² · 4/3 π r³ / V, with the cutoff r in Å and
    /// V in Å³. V is that of the cell; in open directions it reaches as far as the atoms do and a cutoff more, since half of
    /// what surrounds a surface is empty. A system without periodic directions has at most n (n − 1) edges, and no list has
    /// more than its index type counts. The longest row is that of the densest system. Half lists and clusters have other
    /// numbers of edges; a table that was made with these sizes is asked with these sizes.
    ///
    /// # Panics
    /// If shapes or offsets are not those that [`Inputs::check`] expects.
    pub fn estimate(&self, name: &str) -> Problem {
        let most = f64::from(u32::MAX);
        let (mut n_edges, mut max_degree) = (0.0, 0.0_f64);
        for system in 0..self.n_systems() {
            let degree = self.expected_degree(system).min(most);
            n_edges += self.atoms(system).len() as f64 * degree;
            max_degree = max_degree.max(degree);
        }
        let (n_edges, max_degree) = (n_edges.min(most).round() as u64, max_degree.ceil() as u64);
        Problem { n_edges, max_degree, ..self.problem(name, &[]) }
    }

    /// Edges per atom of a system whose atoms are spread evenly; not a number or infinite where it has no volume.
    fn expected_degree(&self, system: usize) -> f64 {
        let n_atoms = self.atoms(system).len() as f64;
        let sphere = 4.0 / 3.0 * PI * self.cutoff.to_f64().powi(3);
        match self.pbc[system] {
            _ if n_atoms == 0.0 => 0.0,
            [false, false, false] => (n_atoms * sphere / self.volume(system)).min(n_atoms - 1.0),
            _ => n_atoms * sphere / self.volume(system),
        }
    }

    /// The volume that a system's atoms share, in Å³: what its periodic lattice vectors span, times the extent of its atoms
    /// and a cutoff at right angles to them.
    fn volume(&self, system: usize) -> f64 {
        let rows = self.cell(system).map(|row| row.map(Scalar::to_f64));
        let periodic = (0..3).filter(|k| self.pbc[system][*k]).map(|k| rows[k]);
        let (mut axes, mut volume) = (Vec::with_capacity(3), 1.0);
        for row in periodic {
            let rest = without(row, &axes);
            volume *= norm(rest);
            axes.push(rest.map(|x| x / norm(rest)));
        }
        while axes.len() < 3 {
            // Of the axes of space the one that leans least on those that are there.
            let rests = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]].map(|axis| without(axis, &axes));
            let rest = rests.into_iter().fold([0.0; 3], |a, b| if norm(b) > norm(a) { b } else { a });
            let axis = rest.map(|x| x / norm(rest));
            let places = self.atoms(system).map(|atom| dot(self.position(atom).map(Scalar::to_f64), axis));
            let ends = places.fold([f64::INFINITY, f64::NEG_INFINITY], |[low, high], x| [low.min(x), high.max(x)]);
            volume *= ends[1] - ends[0] + self.cutoff.to_f64();
            axes.push(axis);
        }
        volume
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

fn dot(a: [f64; 3], b: [f64; 3]) -> f64 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

fn norm(a: [f64; 3]) -> f64 {
    dot(a, a).sqrt()
}

/// What is left of a vector at right angles to these unit vectors, which are so to each other.
fn without(vector: [f64; 3], axes: &[[f64; 3]]) -> [f64; 3] {
    axes.iter().fold(vector, |rest, axis| {
        let along = dot(rest, *axis);
        std::array::from_fn(|c| rest[c] - along * axis[c])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One system of a lattice of points 1 Å apart, `sizes` of them along each axis, each axis periodic or not.
    fn lattice(sizes: [usize; 3], pbc: [bool; 3], cutoff: f64) -> Inputs<f64> {
        let [a, b, c] = sizes;
        let points = (0..a * b * c).flat_map(|at| [at / (b * c), at / c % b, at % c].map(|x| x as f64));
        let cell = (0..9).map(|at| if at % 4 == 0 { sizes[at / 4] as f64 } else { 0.0 });
        Inputs {
            positions: points.collect(),
            system_ptr: vec![0, (a * b * c) as u32],
            cell: cell.collect(),
            pbc: vec![pbc],
            cutoff,
        }
    }

    /// Edges of such a lattice, counted: of two points along an axis all images within reach, or the points there are.
    fn counted(sizes: [usize; 3], pbc: [bool; 3], cutoff: f64) -> u64 {
        let steps = |k: usize| -> Vec<(i64, u64)> {
            let (size, reach) = (sizes[k] as i64, cutoff as i64 + 1);
            let pairs = |step: i64| if pbc[k] { size } else { (size - step.abs()).max(0) };
            (-reach..=reach).map(|step| (step, pairs(step) as u64)).collect()
        };
        let [first, second, third] = [steps(0), steps(1), steps(2)];
        let mut edges = 0;
        for (x, along_x) in &first {
            for (y, along_y) in &second {
                for (z, along_z) in &third {
                    let square = x * x + y * y + z * z;
                    if square > 0 && (square as f64) < cutoff * cutoff {
                        edges += along_x * along_y * along_z;
                    }
                }
            }
        }
        edges
    }

    #[test]
    fn sizes_are_near_those_of_an_even_density() {
        let (periodic, open) = ([true; 3], [false; 3]);
        for (sizes, pbc, cutoff, octaves) in [
            ([1, 1, 1], periodic, 5.2, 0.1),
            ([12, 12, 12], periodic, 3.3, 0.1),
            ([3, 9, 2], periodic, 4.4, 0.1),
            // Surfaces, edges and corners: half an octave of a key that looks three octaves around.
            ([12, 12, 12], open, 3.3, 0.5),
            ([5, 5, 5], open, 3.3, 0.5),
            ([8, 8, 8], [true, true, false], 3.3, 0.5),
            ([8, 8, 8], [false, false, true], 3.3, 0.5),
            // One layer and one row of atoms are the furthest from a density: 4/3 and 2/3 π times as many.
            ([9, 1, 9], [true, false, true], 4.4, 0.6),
            ([9, 1, 1], [true, false, false], 4.01, 1.1),
        ] {
            let found = lattice(sizes, pbc, cutoff).estimate("x");
            let expected = counted(sizes, pbc, cutoff);
            let off = (found.n_edges as f64 / expected as f64).log2();
            assert!(off.abs() < octaves, "{sizes:?} {pbc:?}: {found:?}, expected {expected}, {off:.2} octaves off");
            assert_eq!(found.max_degree, found.mean_degree().ceil() as u64);
        }
    }

    #[test]
    fn sizes_depend_on_the_system_and_not_on_how_it_lies() {
        let upright = lattice([4, 5, 6], [true, true, false], 3.5);
        let expected = upright.estimate("x");
        assert_eq!((expected.name.as_str(), expected.n_atoms, expected.n_systems), ("x", 120, 1));
        // Exact: 120² atoms of 4/3 π 3.5³ in 4 · 5 · (5 + 3.5) Å³.
        assert_eq!(expected.n_edges, (14_400.0 * 4.0 / 3.0 * PI * 42.875 / 170.0_f64).round() as u64);
        let skewed = Inputs { cell: vec![4.0, 0.0, 0.0, 7.0, -5.0, 0.0, f64::NAN, 0.0, 9e9], ..upright.clone() };
        assert_eq!(skewed.estimate("x"), expected);
        let turned = Inputs {
            positions: upright
                .positions
                .chunks(3)
                .flat_map(|p| [p[2], 0.6 * p[0] - 0.8 * p[1], 0.8 * p[0] + 0.6 * p[1]])
                .collect(),
            cell: vec![0.0, 2.4, 3.2, 0.0, -4.0, 3.0, 0.0, 0.0, 0.0],
            ..upright.clone()
        };
        assert_eq!(turned.estimate("x"), expected);
        assert_eq!(upright.cast::<f32>().estimate("x"), expected);
        // Systems are counted one by one, empty ones too.
        let three = Inputs {
            positions: [&upright.positions[..], &upright.positions].concat(),
            system_ptr: vec![0, 120, 120, 240],
            cell: [&upright.cell[..], &upright.cell, &upright.cell].concat(),
            pbc: vec![upright.pbc[0]; 3],
            cutoff: upright.cutoff,
        };
        let found = three.estimate("x");
        assert_eq!((found.n_atoms, found.n_systems, found.max_degree), (240, 3, expected.max_degree));
        assert_eq!(found.n_edges, (2.0 * 14_400.0 * 4.0 / 3.0 * PI * 42.875 / 170.0_f64).round() as u64);
    }

    #[test]
    fn sizes_stay_sane() {
        let molecule = Inputs { cutoff: 1e9, ..lattice([2, 2, 3], [false; 3], 1.0) };
        assert_eq!((molecule.estimate("").n_edges, molecule.estimate("").max_degree), (12 * 11, 11));
        let lone = lattice([1, 1, 1], [false; 3], 5.0).estimate("");
        assert_eq!((lone.n_edges, lone.max_degree), (0, 0));
        let flat = Inputs { cell: vec![0.0; 9], ..lattice([2, 2, 2], [true; 3], 5.0) };
        let dense = lattice([1, 1, 1], [true; 3], 1e30);
        for inputs in [flat, dense] {
            let found = inputs.estimate("");
            assert_eq!((found.n_edges, found.max_degree), (u64::from(u32::MAX), u64::from(u32::MAX)));
        }
        let none = Inputs { system_ptr: vec![0], pbc: vec![], ..lattice([0, 0, 0], [true; 3], 5.0) };
        assert_eq!((none.estimate("").n_edges, none.estimate("").n_systems), (0, 0));
    }

    #[test]
    fn ids_round_trip() {
        for list in List::ALL {
            for strategy in Strategy::ALL {
                let variant = Variant { list, strategy };
                assert_eq!(variant.id().parse(), Ok(variant));
            }
        }
        for bad in ["", "full", "cells_full", "full_cells_", "half_brute_x"] {
            assert!(bad.parse::<Variant>().is_err(), "{bad} was accepted");
        }
    }

    #[test]
    fn of_every_pair_a_half_list_has_one_edge() {
        for (i, j, shift) in [(0, 1, [0; 3]), (3, 2, [1, 0, -1]), (4, 4, [0, -1, 5]), (4, 4, [0, 0, 2])] {
            let back = shift.map(|s| -s);
            assert_ne!(List::Half.has(i, j, shift), List::Half.has(j, i, back));
            assert!(List::Full.has(i, j, shift) && List::Full.has(j, i, back));
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let good = Inputs {
            positions: vec![0.0; 9],
            system_ptr: vec![0, 1, 3],
            cell: vec![0.0; 18],
            pbc: vec![[false; 3]; 2],
            cutoff: 1.0,
        };
        assert_eq!(good.check(), Ok(()));
        let wrong = |change: &dyn Fn(&mut Inputs<f64>)| {
            let mut inputs = good.clone();
            change(&mut inputs);
            inputs.check().expect_err("wrong inputs")
        };
        let shape = |change: &dyn Fn(&mut Inputs<f64>), expected: &str| match wrong(change) {
            InputError::Shape { tensor, .. } => assert_eq!(tensor, expected),
            error => panic!("{error}"),
        };
        shape(&|i| i.positions.truncate(8), "positions");
        shape(&|i| i.system_ptr.truncate(2), "system_ptr");
        shape(&|i| i.cell.truncate(17), "cell");
        for bad in [[1, 1, 3], [0, 4, 3], [0, 2, 2], [0, 1, 4]] {
            assert!(matches!(wrong(&|i| i.system_ptr = bad.to_vec()), InputError::SystemPtr { .. }), "{bad:?}");
        }
        for bad in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(matches!(wrong(&|i| i.cutoff = bad), InputError::Cutoff { .. }));
        }
        assert!(matches!(wrong(&|i| i.positions[5] = f64::NAN), InputError::NotFinite { atom: 1, .. }));
        for bad in [-0.1, f64::NAN, f64::INFINITY] {
            assert!(matches!(Inputs::check_skin(bad), Err(InputError::Cutoff { .. })), "{bad}");
        }
        assert_eq!(Inputs::check_skin(0.0), Ok(()));
    }
}
