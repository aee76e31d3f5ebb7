//! Neighbour search on the host: exact, serial, in f64.
//!
//! Linked cells on a sparse grid. Space is cut along the lattice vectors (along orthonormal complements of them in open
//! directions) into bins not thinner than the cutoff, and atoms are sorted by bin: only occupied bins exist, so a huge
//! empty box costs nothing. A cell thinner than the cutoff is one bin that is visited once per periodic image. The grid only
//! proposes pairs, with a margin for rounding; whether one is an edge is decided by `edge_vec` alone.

use std::ops::Range;

/// Directed edges i ← j, CSR by receiver i, sorted within a row by (sender, shift).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NeighborList {
    /// Start of each receiver's edges, `[n_atoms + 1]`.
    pub row_ptr: Vec<u32>,
    /// Sender j of each edge, `[n_edges]`.
    pub sender: Vec<u32>,
    /// Periodic image S of the sender, `[n_edges]`; 0 in open directions.
    pub shift: Vec<[i32; 3]>,
    /// r_ij = x_j + S·H − x_i in Å, `[n_edges]`.
    pub edge_vec: Vec<[f64; 3]>,
}

impl NeighborList {
    /// Directed edges.
    pub fn n_edges(&self) -> usize {
        self.sender.len()
    }

    /// The edges of receiver `atom`.
    ///
    /// # Panics
    /// If there is no such atom.
    pub fn row(&self, atom: usize) -> Range<usize> {
        self.row_ptr[atom] as usize..self.row_ptr[atom + 1] as usize
    }
}

/// Why no neighbour list can be made.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum NeighborError {
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
    /// Periodic directions without lattice vectors.
    #[error("pbc is {pbc:?} but there is no cell, expected one for periodic directions")]
    MissingCell {
        /// The periodic directions.
        pbc: [bool; 3],
    },
    /// Lattice vectors that are not finite, are zero, or lie in one plane or line.
    #[error("cell is {found:?} with pbc {pbc:?}, expected finite, linearly independent periodic lattice vectors")]
    SingularCell {
        /// Rows a, b, c.
        found: [[f64; 3]; 3],
        /// The periodic directions.
        pbc: [bool; 3],
    },
    /// An atom whose image cannot be counted in `i32`.
    #[error("atom {atom} (counted from 0) lies {found:e} cells away from the origin, expected at most {MAX_WRAP:e}")]
    FarAway {
        /// Atom index.
        atom: usize,
        /// Cells between the origin and the atom.
        found: f64,
    },
    /// A cutoff that spans absurdly many cells.
    #[error("cutoff {cutoff} Å spans {found:e} images of the cell, expected at most {MAX_IMAGES:e}")]
    TooManyImages {
        /// The cutoff.
        cutoff: f64,
        /// Images to visit for every atom.
        found: f64,
    },
    /// More edges than the index type holds.
    #[error("{found} edges, more than the {limit} that the u32 index type holds")]
    TooManyEdges {
        /// Edges in the list.
        found: u64,
        /// The most there may be.
        limit: u64,
    },
}

/// With these bounds every shift and bin index stays within `i32`.
const MAX_WRAP: f64 = (1 << 28) as f64;
const MAX_IMAGES: f64 = (1 << 28) as f64;

/// All pairs with d < cutoff as a full list: every pair in both directions, every periodic image, an atom's own images
/// too; coincident atoms are neighbours (d = 0), an atom is not its own.
///
/// `positions` and `cutoff` in Å; `cell` has the lattice vectors a, b, c as rows, of any shape and handedness; only those of
/// periodic directions are read. Atoms may lie anywhere. Time is O(N log N) at bounded density, memory O(N + n_edges).
/// The edge j ← i is exactly the negative of i ← j, so the list is symmetric to the last bit.
///
/// # Errors
/// [`NeighborError`].
pub fn neighbors(
    positions: &[[f64; 3]],
    cell: Option<[[f64; 3]; 3]>,
    pbc: [bool; 3],
    cutoff: f64,
) -> Result<NeighborList, NeighborError> {
    search(positions, cell, pbc, cutoff, u64::from(u32::MAX))
}

fn search(
    positions: &[[f64; 3]],
    cell: Option<[[f64; 3]; 3]>,
    pbc: [bool; 3],
    cutoff: f64,
    limit: u64,
) -> Result<NeighborList, NeighborError> {
    let grid = Grid::new(positions, cell, pbc, cutoff)?;
    let mut row = Vec::new();
    // Counted before anything of that size is allocated; skipped in the usual case that even the proposals are few.
    if grid.n_proposals() > limit {
        let mut found = 0;
        for i in 0..positions.len() {
            grid.row(i, &mut row);
            found += row.len() as u64;
        }
        if found > limit {
            return Err(NeighborError::TooManyEdges { found, limit });
        }
    }
    let mut list = NeighborList { row_ptr: vec![0], ..NeighborList::default() };
    for i in 0..positions.len() {
        grid.row(i, &mut row);
        row.sort_unstable_by_key(|edge| (edge.sender, edge.shift));
        list.sender.extend(row.iter().map(|edge| edge.sender));
        list.shift.extend(row.iter().map(|edge| edge.shift));
        list.edge_vec.extend(row.iter().map(|edge| edge.vec));
        list.row_ptr.push(list.sender.len() as u32);
    }
    Ok(list)
}

struct Edge {
    sender: u32,
    shift: [i32; 3],
    vec: [f64; 3],
}

/// Atoms sorted into the occupied bins of a grid.
struct Grid<'a> {
    positions: &'a [[f64; 3]],
    cutoff: f64,
    /// Search radius: the cutoff and a margin for the rounding of bins and wrapped positions.
    reach: f64,
    /// Lattice vectors; in open directions orthonormal complements.
    basis: [[f64; 3]; 3],
    /// Bins around the cell in periodic directions.
    n_bins: [Option<i64>; 3],
    /// How many bins away neighbours can be.
    span: [i64; 3],
    /// Cell in which each atom lies, `[n_atoms]`.
    wrap: Vec<[i32; 3]>,
    /// Positions moved into the cell, `[n_atoms]`.
    wrapped: Vec<[f64; 3]>,
    /// Bin of each atom, `[n_atoms]`.
    bin: Vec<[i64; 3]>,
    /// Occupied bins in ascending order, each with its part of `atoms`.
    occupied: Vec<([i64; 3], Range<usize>)>,
    /// Atoms in ascending order of (bin, atom), `[n_atoms]`.
    atoms: Vec<u32>,
}

impl<'a> Grid<'a> {
    fn new(
        positions: &'a [[f64; 3]],
        cell: Option<[[f64; 3]; 3]>,
        pbc: [bool; 3],
        cutoff: f64,
    ) -> Result<Self, NeighborError> {
        if !(cutoff.is_finite() && cutoff > 0.0) {
            return Err(NeighborError::Cutoff { found: cutoff });
        }
        if let Some(atom) = positions.iter().position(|x| !x.iter().all(|v| v.is_finite())) {
            return Err(NeighborError::NotFinite { atom, found: positions[atom] });
        }
        if positions.len() > u32::MAX as usize {
            return Err(NeighborError::TooManyEdges { found: positions.len() as u64, limit: u64::from(u32::MAX) });
        }
        let basis = match cell {
            None if pbc.contains(&true) => return Err(NeighborError::MissingCell { pbc }),
            None => complete([[0.0; 3]; 3], pbc),
            Some(cell) => complete(cell, pbc),
        };
        let basis = basis.ok_or(NeighborError::SingularCell { found: cell.unwrap_or_default(), pbc })?;
        let largest = positions.as_flattened().iter().fold(0.0, |m: f64, x| m.max(x.abs()));
        let reach = cutoff * (1.0 + 1e-6) + largest * 1e-12;

        // Rows of the inverse transpose: s_k = x · dual_k, and the planes of direction k lie 1/‖dual_k‖ apart.
        let volume = dot(basis[0], cross(basis[1], basis[2]));
        let dual: [[f64; 3]; 3] =
            std::array::from_fn(|k| cross(basis[(k + 1) % 3], basis[(k + 2) % 3]).map(|x| x / volume));
        let (mut n_bins, mut span, mut bins_per_unit) = ([None; 3], [1i64; 3], [1.0 / reach; 3]);
        let mut images = 1.0;
        for k in 0..3 {
            if pbc[k] {
                let spacing = 1.0 / dot(dual[k], dual[k]).sqrt();
                let n = (spacing / reach).floor().clamp(1.0, f64::from(1 << 30));
                let reached = (reach * n / spacing).ceil();
                images *= 2.0 * reached + 1.0;
                (n_bins[k], span[k], bins_per_unit[k]) = (Some(n as i64), reached as i64, n);
            }
        }
        if images > MAX_IMAGES {
            return Err(NeighborError::TooManyImages { cutoff, found: images });
        }

        let n_atoms = positions.len();
        let mut grid = Self {
            positions,
            cutoff,
            reach,
            basis,
            n_bins,
            span,
            wrap: Vec::with_capacity(n_atoms),
            wrapped: Vec::with_capacity(n_atoms),
            bin: Vec::with_capacity(n_atoms),
            occupied: Vec::new(),
            atoms: (0..n_atoms as u32).collect(),
        };
        for (atom, &x) in positions.iter().enumerate() {
            let (mut wrap, mut bin) = ([0; 3], [0; 3]);
            for k in 0..3 {
                let s = dot(x, dual[k]);
                match n_bins[k] {
                    Some(n) => {
                        let cells = s.floor();
                        if cells.abs() > MAX_WRAP {
                            return Err(NeighborError::FarAway { atom, found: cells.abs() });
                        }
                        wrap[k] = cells as i32;
                        bin[k] = (((s - cells) * bins_per_unit[k]) as i64).min(n - 1);
                    }
                    // Clamped so that bin arithmetic cannot overflow; bins keep their order, so no pair is lost.
                    None => bin[k] = (s * bins_per_unit[k]).floor().clamp(-1e15, 1e15) as i64,
                }
            }
            let home = grid.translation(wrap);
            grid.wrapped.push(std::array::from_fn(|k| x[k] - home[k]));
            grid.wrap.push(wrap);
            grid.bin.push(bin);
        }
        let bin = &grid.bin;
        grid.atoms.sort_unstable_by_key(|&atom| (bin[atom as usize], atom));
        let mut start = 0;
        for group in grid.atoms.chunk_by(|&a, &b| bin[a as usize] == bin[b as usize]) {
            grid.occupied.push((bin[group[0] as usize], start..start + group.len()));
            start += group.len();
        }
        Ok(grid)
    }

    /// S·H.
    fn translation(&self, shift: [i32; 3]) -> [f64; 3] {
        let [a, b, c] = self.basis;
        let [s, t, u] = shift.map(f64::from);
        std::array::from_fn(|k| s * a[k] + t * b[k] + u * c[k])
    }

    /// Calls `visit` with the atoms of each occupied bin around `bin` and the image it is seen in.
    fn visit_around(&self, bin: [i64; 3], mut visit: impl FnMut(&[u32], [i32; 3])) {
        let [p, q, r] = self.span;
        for a in -p..=p {
            for b in -q..=q {
                for c in -r..=r {
                    let mut key = [bin[0] + a, bin[1] + b, bin[2] + c];
                    let mut image = [0; 3];
                    for k in 0..3 {
                        if let Some(n) = self.n_bins[k] {
                            image[k] = key[k].div_euclid(n) as i32;
                            key[k] = key[k].rem_euclid(n);
                        }
                    }
                    if let Ok(at) = self.occupied.binary_search_by_key(&key, |(bin, _)| *bin) {
                        visit(&self.atoms[self.occupied[at].1.clone()], image);
                    }
                }
            }
        }
    }

    /// How many pairs the grid proposes: an upper bound of the number of edges.
    fn n_proposals(&self) -> u64 {
        let mut total = 0u64;
        for (bin, atoms) in &self.occupied {
            let mut around = 0;
            self.visit_around(*bin, |senders, _| around += senders.len() as u64);
            total = total.saturating_add(around.saturating_mul(atoms.len() as u64));
        }
        total
    }

    /// The edges of receiver `i`, in the order of the grid.
    fn row(&self, i: usize, row: &mut Vec<Edge>) {
        row.clear();
        let (x_i, home_i, wrap_i) = (self.positions[i], self.wrapped[i], self.wrap[i]);
        let (reach2, cutoff2) = (self.reach * self.reach, self.cutoff * self.cutoff);
        self.visit_around(self.bin[i], |senders, image| {
            let moved = self.translation(image);
            let origin: [f64; 3] = std::array::from_fn(|k| home_i[k] - moved[k]);
            for &sender in senders {
                let j = sender as usize;
                let rough: [f64; 3] = std::array::from_fn(|k| self.wrapped[j][k] - origin[k]);
                if dot(rough, rough) > reach2 {
                    continue;
                }
                let shift: [i32; 3] = std::array::from_fn(|k| image[k] + wrap_i[k] - self.wrap[j][k]);
                let lattice = self.translation(shift);
                // In this order of operations the reverse edge is the exact negative.
                let vec: [f64; 3] = std::array::from_fn(|k| (self.positions[j][k] - x_i[k]) + lattice[k]);
                if dot(vec, vec) < cutoff2 && (j != i || shift != [0; 3]) {
                    row.push(Edge { sender, shift, vec });
                }
            }
        });
    }
}

/// The cell with its open directions replaced by unit vectors orthogonal to all others; `None` if its periodic rows are not
/// finite or not linearly independent.
fn complete(cell: [[f64; 3]; 3], pbc: [bool; 3]) -> Option<[[f64; 3]; 3]> {
    const INDEPENDENT: f64 = 1e-8;
    let mut span: Vec<[f64; 3]> = Vec::with_capacity(3);
    let residual = |span: &[[f64; 3]], mut v: [f64; 3]| {
        for u in span {
            let along = dot(v, *u);
            v = std::array::from_fn(|k| v[k] - along * u[k]);
        }
        v
    };
    let norm = |v: [f64; 3]| dot(v, v).sqrt();
    for row in (0..3).filter(|k| pbc[*k]).map(|k| cell[k]) {
        let rest = residual(&span, row);
        // Written so that NaN and infinity fail too.
        if !(norm(rest) > INDEPENDENT * norm(row) && norm(row).is_finite()) {
            return None;
        }
        span.push(rest.map(|x| x / norm(rest)));
    }
    let mut basis = cell;
    for k in (0..3).filter(|k| !pbc[*k]) {
        // The axis that is furthest from the span; among equals the one of this direction, so that an open box stays upright.
        let axes = [k, (k + 1) % 3, (k + 2) % 3].map(|axis| {
            let mut unit = [0.0; 3];
            unit[axis] = 1.0;
            residual(&span, unit)
        });
        let best = axes.into_iter().reduce(|a, b| if norm(b) > norm(a) * 1.01 { b } else { a })?;
        basis[k] = best.map(|x| x / norm(best));
        span.push(basis[k]);
    }
    Some(basis)
}

fn dot(a: [f64; 3], b: [f64; 3]) -> f64 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

fn cross(a: [f64; 3], b: [f64; 3]) -> [f64; 3] {
    [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]]
}

#[cfg(test)]
mod tests {
    use super::*;

    const CUBE: [[f64; 3]; 3] = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]];

    #[test]
    fn errors_say_what_was_found() {
        let open = [false; 3];
        for cutoff in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            let error = neighbors(&[], None, open, cutoff).expect_err("a bad cutoff");
            assert!(matches!(error, NeighborError::Cutoff { .. }), "{error}");
        }
        let error = neighbors(&[[0.0; 3], [0.0, f64::NAN, 0.0]], None, open, 1.0).expect_err("NaN");
        assert!(matches!(error, NeighborError::NotFinite { atom: 1, .. }), "{error}");
        let error = neighbors(&[], None, [false, true, false], 1.0).expect_err("no cell");
        assert!(matches!(error, NeighborError::MissingCell { .. }), "{error}");
        let [a, b, c] = CUBE;
        for cell in [[a, b, b], [a, b, [1.0, 1.0, 1e-12]], [a, [f64::NAN; 3], c], [a, b, [0.0; 3]]] {
            let error = neighbors(&[], Some(cell), [true; 3], 1.0).expect_err("a singular cell");
            assert!(matches!(error, NeighborError::SingularCell { .. }), "{error}");
        }
        let error = neighbors(&[[1e10, 0.0, 0.0]], Some(CUBE), [true; 3], 1.0).expect_err("too far");
        assert!(matches!(error, NeighborError::FarAway { atom: 0, .. }), "{error}");
        let error = neighbors(&[[0.0; 3]], Some(CUBE), [true; 3], 1e6).expect_err("too many images");
        assert!(matches!(error, NeighborError::TooManyImages { .. }), "{error}");
    }

    #[test]
    fn edges_are_counted_before_they_are_stored() {
        let coincident = vec![[0.0; 3]; 5];
        assert_eq!(search(&coincident, None, [false; 3], 1.0, 20).map(|list| list.n_edges()), Ok(20));
        let error = search(&coincident, None, [false; 3], 1.0, 19);
        assert_eq!(error, Err(NeighborError::TooManyEdges { found: 20, limit: 19 }));
    }

    #[test]
    fn open_rows_of_a_cell_are_not_read() {
        let slab = [[3.0, 0.0, 0.0], [1.0, 3.0, 0.0], [0.0; 3]];
        let positions = [[0.0; 3], [0.5, 0.5, 1.0], [0.0, 0.0, 1e9]];
        let pbc = [true, true, false];
        let list = neighbors(&positions, Some(slab), pbc, 3.1).expect("a list");
        let nan = [slab[0], slab[1], [f64::NAN; 3]];
        assert_eq!(neighbors(&positions, Some(nan), pbc, 3.1), Ok(list.clone()));
        assert!(list.shift.iter().all(|shift| shift[2] == 0));
        assert_eq!(list.row(2).len(), 2, "its own two images along a");
    }

    #[test]
    fn extreme_boxes_need_no_memory_of_their_size() {
        let huge = CUBE.map(|row| row.map(|x| x * 1e9));
        let positions = [[0.0; 3], [1.0, 0.0, 0.0], [1e9 - 1.0, 0.0, 0.0], [5e8, 5e8, 5e8]];
        let list = neighbors(&positions, Some(huge), [true; 3], 1.5).expect("a list");
        assert_eq!(list.row_ptr, [0, 2, 3, 4, 4]);
        assert_eq!((list.sender[1], list.shift[1]), (2, [-1, 0, 0]));
        let far = [[-1e300, 0.0, 0.0], [1e300, 0.0, 0.0], [1e300, 0.5, 0.0]];
        assert_eq!(neighbors(&far, None, [false; 3], 1.0).map(|list| list.sender), Ok(vec![2, 1]));
        let none = neighbors(&[], None, [false; 3], 1.0).expect("an empty list");
        assert_eq!((none.n_edges(), none.row_ptr), (0, vec![0]));
    }
}
