//! Neighbour lists of structures, by the host kernel of `cell_list` in f64.

use ff_kernels::cell_list::host::{HostConfig, build};
use ff_spec::cell_list::{InputError, Inputs, List, NeighborList, Strategy};

use crate::Structure;

/// Why no neighbour list can be made.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum NeighborError {
    /// Periodic directions without lattice vectors.
    #[error("pbc is {pbc:?} but there is no cell, expected one for periodic directions")]
    MissingCell {
        /// The periodic directions.
        pbc: [bool; 3],
    },
    /// Anything else.
    #[error(transparent)]
    Input(#[from] InputError),
}

/// Structures as one batch, for lists of all pairs with d < `cutoff` in Å.
///
/// # Errors
/// [`NeighborError::MissingCell`]; what else may be wrong is found where the list is built.
pub fn batch(structures: &[Structure], cutoff: f64) -> Result<Inputs<f64>, NeighborError> {
    let mut inputs = Inputs { positions: vec![], system_ptr: vec![0], cell: vec![], pbc: vec![], cutoff };
    for structure in structures {
        push(&mut inputs, &structure.positions, structure.cell, structure.pbc)?;
    }
    Ok(inputs)
}

fn push(
    inputs: &mut Inputs<f64>,
    positions: &[[f64; 3]],
    cell: Option<[[f64; 3]; 3]>,
    pbc: [bool; 3],
) -> Result<(), NeighborError> {
    if cell.is_none() && pbc.contains(&true) {
        return Err(NeighborError::MissingCell { pbc });
    }
    inputs.positions.extend_from_slice(positions.as_flattened());
    let n_atoms = inputs.positions.len() / 3;
    let too_many = |_| InputError::TooMany { what: "atoms", found: n_atoms as u64, limit: u64::from(u32::MAX) };
    inputs.system_ptr.push(u32::try_from(n_atoms).map_err(too_many)?);
    inputs.cell.extend_from_slice(cell.unwrap_or_default().as_flattened());
    inputs.pbc.push(pbc);
    Ok(())
}

/// All pairs of one system with d < cutoff as a full list: every pair in both directions, every periodic image, an atom's
/// own images too; coincident atoms are neighbours (d = 0), an atom is not its own.
///
/// `positions` and `cutoff` in Å; `cell` has the lattice vectors a, b, c as rows, of any shape and handedness; only those of
/// periodic directions are read. Atoms may lie anywhere.
///
/// # Errors
/// [`NeighborError`].
pub fn neighbors(
    positions: &[[f64; 3]],
    cell: Option<[[f64; 3]; 3]>,
    pbc: [bool; 3],
    cutoff: f64,
) -> Result<NeighborList<f64>, NeighborError> {
    let mut inputs = batch(&[], cutoff)?;
    push(&mut inputs, positions, cell, pbc)?;
    let mut list = NeighborList::default();
    build(&inputs, List::Full, Strategy::Cells, &HostConfig::default(), &mut list)?;
    Ok(list)
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
            assert!(matches!(error, NeighborError::Input(InputError::Cutoff { .. })), "{error}");
        }
        let error = neighbors(&[[0.0; 3], [0.0, f64::NAN, 0.0]], None, open, 1.0).expect_err("NaN");
        assert!(matches!(error, NeighborError::Input(InputError::NotFinite { atom: 1, .. })), "{error}");
        let error = neighbors(&[], None, [false, true, false], 1.0).expect_err("no cell");
        assert!(matches!(error, NeighborError::MissingCell { .. }), "{error}");
        let [a, b, c] = CUBE;
        for cell in [[a, b, b], [a, b, [1.0, 1.0, 1e-12]], [a, [f64::NAN; 3], c], [a, b, [0.0; 3]]] {
            let error = neighbors(&[], Some(cell), [true; 3], 1.0).expect_err("a singular cell");
            assert!(matches!(error, NeighborError::Input(InputError::SingularCell { .. })), "{error}");
        }
        let error = neighbors(&[[1e10, 0.0, 0.0]], Some(CUBE), [true; 3], 1.0).expect_err("too far");
        assert!(matches!(error, NeighborError::Input(InputError::FarAway { atom: 0, .. })), "{error}");
        let error = neighbors(&[[0.0; 3]], Some(CUBE), [true; 3], 1e6).expect_err("too many images");
        assert!(matches!(error, NeighborError::Input(InputError::TooManyImages { .. })), "{error}");
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
