//! Stress from the derivative of the energy in the strain.

use ff_structure::Structure;

/// The stress of a structure in eV/Å³ from its strain derivative ∂E/∂ε in eV: divided by the volume of the cell.
///
/// Stress is defined where matter repeats. Of a slab or a chain whose cell has a volume it is that along its periodic directions,
/// with zeros across them, as per cell; a molecule, and a cell without volume, have none.
pub fn stress(structure: &Structure, strain: [[f64; 3]; 3]) -> Option<[[f64; 3]; 3]> {
    let cell = structure.cell?;
    let volume = dot(cell[0], cross(cell[1], cell[2])).abs();
    if !(structure.pbc.contains(&true) && volume.is_finite() && volume > 0.0) {
        return None;
    }
    let scaled = strain.map(|row| row.map(|x| x / volume));
    if structure.pbc == [true; 3] {
        return Some(scaled);
    }
    let along = projector(cell, structure.pbc);
    Some(product(product(along, scaled), along))
}

/// The projector on the span of the periodic lattice vectors.
fn projector(cell: [[f64; 3]; 3], pbc: [bool; 3]) -> [[f64; 3]; 3] {
    let periodic: Vec<[f64; 3]> =
        cell.into_iter().zip(pbc).filter(|(_, periodic)| *periodic).map(|(row, _)| row).collect();
    let outer = |u: [f64; 3]| {
        let square = dot(u, u);
        u.map(|a| u.map(|b| a * b / square))
    };
    match periodic[..] {
        [a] => outer(a),
        [a, b] => {
            let normal = outer(cross(a, b));
            std::array::from_fn(|i| std::array::from_fn(|j| f64::from(u8::from(i == j)) - normal[i][j]))
        }
        _ => std::array::from_fn(|i| std::array::from_fn(|j| f64::from(u8::from(i == j)))),
    }
}

/// a · b.
pub(crate) fn dot(a: [f64; 3], b: [f64; 3]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// a × b.
pub(crate) fn cross(a: [f64; 3], b: [f64; 3]) -> [f64; 3] {
    [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]]
}

fn product(a: [[f64; 3]; 3], b: [[f64; 3]; 3]) -> [[f64; 3]; 3] {
    std::array::from_fn(|i| std::array::from_fn(|j| (0..3).map(|k| a[i][k] * b[k][j]).sum()))
}
