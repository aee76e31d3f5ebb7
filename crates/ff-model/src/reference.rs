//! Where atoms were when a neighbour list was built, and whether it still has every pair.

use ff_structure::Structure;

use crate::stress::{cross, dot};

type Matrix = [[f64; 3]; 3];

/// What a neighbour list depends on beside positions and its cutoff.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Setting {
    /// Lattice vectors as rows, Å, with zeros in open directions, whose rows may hold anything.
    cell: Matrix,
    pbc: [bool; 3],
    atoms: usize,
}

impl Setting {
    /// Of so many atoms.
    pub fn new(cell: Matrix, pbc: [bool; 3], atoms: usize) -> Self {
        let row = |k: usize| if pbc[k] { cell[k] } else { [0.0; 3] };
        Self { cell: std::array::from_fn(row), pbc, atoms }
    }

    /// Of a structure; `None` where a direction repeats and there is no cell.
    fn of(structure: &Structure) -> Option<Self> {
        let Structure { cell, pbc, .. } = structure;
        let is_complete = cell.is_some() || !pbc.contains(&true);
        is_complete.then(|| Self::new(cell.unwrap_or_default(), *pbc, structure.n_atoms()))
    }

    /// ε of H = H₀(1 + ε), where H are the lattice vectors of `now` and H₀ these; zero where nothing has changed. `None` where the
    /// two are of different atoms, and where a cell has changed that does not repeat in all directions.
    fn strain(&self, now: &Self) -> Option<Matrix> {
        if self == now {
            return Some([[0.0; 3]; 3]);
        }
        if (self.atoms, self.pbc, now.pbc) != (now.atoms, [true; 3], [true; 3]) {
            return None;
        }
        let change: Matrix = std::array::from_fn(|k| std::array::from_fn(|c| now.cell[k][c] - self.cell[k][c]));
        let [a, b, c] = self.cell;
        let volume = dot(a, cross(b, c));
        // The inverse of H₀ has these as its columns, over the volume.
        let columns = [cross(b, c), cross(c, a), cross(a, b)];
        let entry = |i: usize, j: usize| (0..3).map(|k| columns[k][i] * change[k][j]).sum::<f64>() / volume;
        Some(std::array::from_fn(|i| std::array::from_fn(|j| entry(i, j))))
    }
}

/// A structure as it was when its neighbour list was built, with a skin beyond the cutoff: for whoever keeps the list, with the
/// vectors r₀ of its edges, elsewhere than on the host.
///
/// After the cell has become H = H₀(1 + ε) and the positions are x = x₀(1 + ε) + u, an edge from atom i to atom j has the vector
/// r₀(1 + ε) + u_j − u_i. The list misses no pair within the cutoff as long as (1 − ‖ε‖)(cutoff + skin) − 2 max |u| is not below it: in
/// a cell that stays the same, until an atom has moved by half of the skin. Positions are never wrapped.
#[derive(Clone, Debug)]
pub struct Reference {
    setting: Setting,
    species: Vec<u8>,
    positions: Vec<[f64; 3]>,
    /// Å.
    cutoff: f64,
    skin: f64,
    /// Length of the shortest edge, Å.
    shortest: f64,
}

impl Reference {
    /// Of a structure whose list has all pairs with d < `cutoff` + `skin`, the shortest of its edges as long as `shortest`, all in Å.
    /// `None` where a direction repeats and there is no cell.
    pub fn new(structure: &Structure, cutoff: f64, skin: f64, shortest: f64) -> Option<Self> {
        let (species, positions) = (structure.species.clone(), structure.positions.clone());
        Some(Self { setting: Setting::of(structure)?, species, positions, cutoff, skin, shortest })
    }

    /// Appends the displacements u [n_atoms, 3] in Å of a structure of the same atoms, and says ε. `None` where its list may miss a
    /// pair within the cutoff, or atoms may be in one place: then the list has to be built again, and part of them may have been
    /// appended.
    pub fn moved(&self, structure: &Structure, displacements: &mut Vec<f64>) -> Option<Matrix> {
        let strain = self.setting.strain(&Setting::of(structure)?)?;
        if self.species != structure.species {
            return None;
        }
        let (mut furthest, mut outermost) = (0.0_f64, 0.0_f64);
        for (now, then) in structure.positions.iter().zip(&self.positions) {
            let strained = |c: usize| (0..3).map(|k| then[k] * strain[k][c]).sum::<f64>();
            let moved: [f64; 3] = std::array::from_fn(|c| now[c] - then[c] - strained(c));
            // Of numbers that are none, `max` takes the other.
            if !moved.iter().all(|x| x.is_finite()) {
                return None;
            }
            furthest = furthest.max(dot(moved, moved));
            outermost = now.iter().fold(outermost, |most, x| most.max(x.abs()));
            displacements.extend(moved);
        }
        let reach = self.cutoff + self.skin;
        // With what the decisions of the list itself are rounded by.
        let nearer = 2.0 * furthest.sqrt() + 16.0 * f64::EPSILON * outermost.max(reach);
        let kept = 1.0 - strain.as_flattened().iter().map(|x| x * x).sum::<f64>().sqrt();
        let is_whole = kept * reach - nearer >= self.cutoff && kept * self.shortest > nearer;
        is_whole.then_some(strain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CELL: Matrix = [[6.0, 0.0, 0.0], [1.5, 7.0, 0.0], [-0.5, 1.0, 8.0]];

    fn periodic(positions: Vec<[f64; 3]>) -> Structure {
        Structure { cell: Some(CELL), pbc: [true; 3], ..Structure::open("x", vec![8; positions.len()], positions) }
    }

    fn moved(reference: &Reference, structure: &Structure) -> Option<(Matrix, Vec<f64>)> {
        let mut displacements = Vec::new();
        let strain = reference.moved(structure, &mut displacements)?;
        Some((strain, displacements))
    }

    fn strained(structure: &Structure, strain: &Matrix) -> Structure {
        let by = |x: &[f64; 3]| std::array::from_fn(|c| x[c] + (0..3).map(|k| x[k] * strain[k][c]).sum::<f64>());
        Structure {
            cell: structure.cell.map(|cell| cell.each_ref().map(by)),
            positions: structure.positions.iter().map(by).collect(),
            ..structure.clone()
        }
    }

    #[test]
    fn atoms_may_move_by_half_of_the_skin() {
        let structure = periodic(vec![[1.0; 3], [-20.0, 3.0, 2.0]]);
        let reference = Reference::new(&structure, 5.0, 0.5, 2.0).unwrap();
        for (by, expected) in [(0.2499, true), (0.2501, false), (6.0, false), (f64::NAN, false), (f64::INFINITY, false)]
        {
            let mut now = structure.clone();
            now.positions[1][2] += by;
            let found = moved(&reference, &now);
            assert_eq!(found.is_some(), expected, "{by} Å");
            if let Some((strain, u)) = found {
                assert_eq!((strain, &u[..5]), ([[0.0; 3]; 3], &[0.0; 5][..]));
                assert!((u[5] - by).abs() < 1e-12, "{}", u[5]);
            }
        }
        assert!(moved(&Reference::new(&structure, 5.0, 0.0, 2.0).unwrap(), &structure).is_none(), "no skin, no list");
    }

    #[test]
    fn what_is_shared_by_all_atoms_is_a_strain() {
        let structure = periodic(vec![[1.0, 2.0, 3.0], [50.0, -30.0, 20.0]]);
        let reference = Reference::new(&structure, 5.0, 0.5, 2.0).unwrap();
        let strain = [[0.01, 0.002, 0.0], [-0.001, 0.02, 0.003], [0.0, 0.004, -0.01]];
        let (found, u) = moved(&reference, &strained(&structure, &strain)).unwrap();
        let close = |a: &[f64], b: &[f64]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-12);
        assert!(close(found.as_flattened(), strain.as_flattened()), "{found:?}");
        assert!(close(&u, &[0.0; 6]), "{u:?}");
        // 5.5 Å less a twelfth are just above the cutoff, less a tenth below.
        let uniform = |x: f64| strained(&structure, &[[x, 0.0, 0.0], [0.0; 3], [0.0; 3]]);
        assert!(moved(&reference, &uniform(-0.5 / 6.0)).is_some() && moved(&reference, &uniform(-0.1)).is_none());
    }

    #[test]
    fn other_structures_have_other_lists() {
        let structure = periodic(vec![[1.0; 3], [2.0; 3]]);
        let reference = Reference::new(&structure, 5.0, 0.5, 2.0).unwrap();
        let slab = Structure { pbc: [true, true, false], ..structure.clone() };
        let wider = strained(&slab, &[[1e-3, 0.0, 0.0], [0.0; 3], [0.0; 3]]);
        let oxide = Structure { species: vec![8, 1], ..structure.clone() };
        let flat = Structure { cell: Some([[0.0; 3]; 3]), ..structure.clone() };
        for other in [periodic(vec![[1.0; 3]]), slab.clone(), oxide, flat, Structure { cell: None, ..structure }] {
            assert!(moved(&reference, &other).is_none(), "{other:?}");
        }
        // Only what repeats in all directions is strained; rows of open directions hold anything.
        let reference = Reference::new(&slab, 5.0, 0.5, 2.0).unwrap();
        assert!(moved(&reference, &wider).is_none());
        let mut other = slab;
        other.cell.as_mut().unwrap()[2] = [f64::NAN; 3];
        assert!(moved(&reference, &other).is_some());
        assert!(Reference::new(&Structure { cell: None, ..other }, 5.0, 0.5, 2.0).is_none());
    }

    /// What would be in one place without anybody noticing has its list built again, where that is seen.
    #[test]
    fn atoms_that_may_meet_have_a_new_list() {
        let structure = Structure::open("near", vec![1; 2], vec![[0.0; 3], [0.3, 0.0, 0.0]]);
        let reference = Reference::new(&structure, 5.0, 0.5, 0.3).unwrap();
        for (by, expected) in [(0.1, true), (0.16, false)] {
            let mut now = structure.clone();
            now.positions[1][0] -= by;
            assert_eq!(moved(&reference, &now).is_some(), expected, "{by} Å");
        }
    }
}
