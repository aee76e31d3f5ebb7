//! `forgefield.neighbor_list`.

use ff_structure::neighbors;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::arrays::{Array, array};
use crate::engine::on_threads;
use crate::model::positions_of;

/// What `quantities` ask for of the pairs with d < `cutoff`, sorted by receiver: receivers `i`, senders `j`, images `S`, distances
/// `d` in Å and vectors `D` from i to j in Å.
#[pyfunction]
pub fn neighbor_list<'py>(
    py: Python<'py>,
    quantities: &str,
    positions: &Bound<'py, PyAny>,
    cell: &Bound<'py, PyAny>,
    pbc: &Bound<'py, PyAny>,
    cutoff: f64,
) -> PyResult<Vec<Bound<'py, PyAny>>> {
    if let Some(other) = quantities.chars().find(|quantity| !"ijSdD".contains(*quantity)) {
        return Err(PyValueError::new_err(format!("`quantities`: expected letters of ijSdD, found {other}")));
    }
    let positions = positions_of(positions)?;
    let cell = Array::<f64>::new("cell", cell)?.of_shape("cell", &[Some(3); 2], "[3, 3], lattice vectors as rows")?;
    let pbc = Array::<u8>::new("pbc", pbc)?.of_shape("pbc", &[Some(3)], "[3]")?;
    let positions = positions.as_slice().as_chunks::<3>().0.to_vec();
    let rows = cell.as_slice();
    let cell: [[f64; 3]; 3] = std::array::from_fn(|k| std::array::from_fn(|c| rows[3 * k + c]));
    let flags = pbc.as_slice();
    let pbc: [bool; 3] = std::array::from_fn(|k| flags[k] != 0);
    let list = py
        .detach(|| on_threads(|| neighbors(&positions, Some(cell), pbc, cutoff)))
        .map_err(|error| PyValueError::new_err(error.to_string()))?;
    let n = list.n_edges();
    let receivers = || {
        let rows = list.row_ptr.windows(2).enumerate();
        rows.flat_map(|(i, row)| std::iter::repeat_n(i as i64, (row[1] - row[0]) as usize))
    };
    let quantity = |quantity: char| match quantity {
        'i' => array(py, &[n], receivers()),
        'j' => array(py, &[n], list.sender.iter().map(|j| i64::from(*j))),
        'S' => array(py, &[n, 3], list.shift.as_flattened().iter().map(|s| i64::from(*s))),
        'd' => array(py, &[n], list.edge_vec.iter().map(|r| r.iter().map(|x| x * x).sum::<f64>().sqrt())),
        _ => array(py, &[n, 3], list.edge_vec.as_flattened().iter().copied()),
    };
    quantities.chars().map(quantity).collect()
}
