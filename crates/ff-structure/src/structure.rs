/// One system of atoms.
#[derive(Clone, Debug, PartialEq)]
pub struct Structure {
    /// What it is called in messages and results.
    pub name: String,
    /// Atomic number of each atom, `[n_atoms]`.
    pub species: Vec<u8>,
    /// Positions x_i in Å, `[n_atoms]`; atoms may lie outside the cell.
    pub positions: Vec<[f64; 3]>,
    /// Lattice vectors a, b, c as rows, in Å. Rows of open directions have no meaning and may be zero.
    pub cell: Option<[[f64; 3]; 3]>,
    /// Which of a, b, c repeat.
    pub pbc: [bool; 3],
}

impl Structure {
    /// A system with open boundaries.
    pub fn open(name: impl Into<String>, species: Vec<u8>, positions: Vec<[f64; 3]>) -> Self {
        Self { name: name.into(), species, positions, cell: None, pbc: [false; 3] }
    }

    /// A system that repeats in all three directions.
    pub fn periodic(name: impl Into<String>, species: Vec<u8>, positions: Vec<[f64; 3]>, cell: [[f64; 3]; 3]) -> Self {
        Self { name: name.into(), species, positions, cell: Some(cell), pbc: [true; 3] }
    }

    /// Number of atoms.
    pub fn n_atoms(&self) -> usize {
        self.positions.len()
    }
}
