//! `force_scatter`: gradients in edge vectors to forces on atoms and to the strain derivative of each system.
//!
//! | name | shape | dtype | meaning |
//! | --- | --- | --- | --- |
//! | `row_ptr`, `sender` | [n_atoms + 1], [n_edges] | u32 | directed edges i ← j, CSR by receiver i |
//! | `edge_vec` | [n_edges, 3] | T | r_e = x_j + S·H − x_i in Å |
//! | `edge_grad` | [n_edges, 3] | T | g_e = ∂E/∂r_e in eV/Å |
//! | `system_ptr` | [n_systems + 1] | u32 | CSR of atoms by system; no edge joins two systems |
//! | `forces` | [n_atoms, 3] | T | F_i = Σ_{receiver i} g_e − Σ_{sender i} g_e in eV/Å |
//! | `strain` | [n_systems, 3, 3] | T | ∂E/∂ε = Σ_e sym(r_e ⊗ g_e) in eV, over the edges whose receiver is in the system |
//!
//! sym(A) = (A + Aᵀ)/2. The stress is `strain` over the volume of the cell.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::dtype::{cast, cast_by_map};
use crate::{Problem, Scalar};

mod cost;
mod gradients;
mod order;

pub use cost::cost;
pub use gradients::{BackwardInputs, DoubleBackwardInputs, DoubleGradients, Gradients};
pub use order::OrderInputs;

/// The name of this family of kernels.
pub const OP: &str = "force_scatter";

/// The sizes of its calls.
pub const AXES: &[&str] = &["n_atoms", "n_systems", "n_edges", "mean_degree"];

crate::op::declare! {
    /// Edge gradients to forces and strain derivatives: [`force_scatter`](crate::force_scatter).
    impl Op for ForceScatter: 0, Inputs -> Outputs, id;
    /// The first backward of [`ForceScatter`].
    impl Op for ForceScatterBackward: 1, BackwardInputs -> Gradients, id;
    /// The second backward of [`ForceScatter`]: the vector-Jacobian product of the first.
    impl Op for ForceScatterDoubleBackward: 2, DoubleBackwardInputs -> DoubleGradients, id;
}

/// How edges are summed into atoms and systems.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reduction {
    /// One owner per atom, which walks its row and its column of the list: no atomics, the same bits on every run.
    Gather,
    /// Edges on their own, added atomically.
    Atomic,
}

impl Reduction {
    /// All reductions.
    pub const ALL: [Reduction; 2] = [Reduction::Gather, Reduction::Atomic];

    /// The name used in variant ids.
    pub fn name(self) -> &'static str {
        match self {
            Reduction::Gather => "gather",
            Reduction::Atomic => "atomic",
        }
    }
}

/// What changes the generated code. One variant is one generated file for both targets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Variant {
    /// Reduction.
    pub reduction: Reduction,
}

impl Variant {
    /// The id: `gather`, `atomic`. It is also the family that tuning tables are keyed by.
    pub fn id(&self) -> String {
        self.reduction.name().to_owned()
    }
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.reduction.name())
    }
}

/// A variant id that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed force_scatter variant `{found}`, expected `gather` or `atomic`")]
pub struct MalformedVariant {
    /// What was given.
    pub found: String,
}

impl FromStr for Variant {
    type Err = MalformedVariant;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let reduction = Reduction::ALL.into_iter().find(|r| r.name() == s);
        reduction.map(|reduction| Self { reduction }).ok_or_else(|| MalformedVariant { found: s.to_owned() })
    }
}

/// All inputs of one call, owned, row-major; see the table at the top of this module.
#[derive(Clone, Debug, PartialEq)]
pub struct Inputs<T> {
    /// [n_atoms + 1].
    pub row_ptr: Vec<u32>,
    /// [n_edges].
    pub sender: Vec<u32>,
    /// [n_edges, 3], Å.
    pub edge_vec: Vec<T>,
    /// [n_edges, 3], eV/Å.
    pub edge_grad: Vec<T>,
    /// [n_systems + 1], from 0 to n_atoms.
    pub system_ptr: Vec<u32>,
}

/// What one call computes, or one cotangent for each of its elements.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outputs<T> {
    /// [n_atoms, 3], eV/Å.
    pub forces: Vec<T>,
    /// [n_systems, 3, 3], eV. Symmetric as an output; a cotangent need not be.
    pub strain: Vec<T>,
}

/// Inputs that cannot be computed on. Atoms, systems and edges are counted from 0.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum InputError {
    /// A tensor has the wrong number of elements.
    #[error("`{tensor}` has {found} elements, expected {expected} for shape {shape}")]
    Shape {
        /// Tensor name as in the table of this module.
        tensor: &'static str,
        /// The shape it should have.
        shape: &'static str,
        /// Elements of that shape.
        expected: usize,
        /// Elements given.
        found: usize,
    },
    /// `row_ptr` or `system_ptr` does not ascend from 0 to the number of what it counts.
    #[error("`{tensor}` goes from {from} to {to} at entry {entry}, expected ascending offsets from 0 to {end}")]
    Offsets {
        /// Tensor name.
        tensor: &'static str,
        /// Index of the offending entry.
        entry: usize,
        /// The entry before, or what this entry must be where it is the first or the last.
        from: u32,
        /// The entry.
        to: u32,
        /// What the last entry must be.
        end: &'static str,
    },
    /// An edge's sender is no atom.
    #[error("`sender`[{edge}] is {found}, expected an atom below n_atoms = {n_atoms}")]
    Sender {
        /// Edge index.
        edge: usize,
        /// Its sender.
        found: u32,
        /// Atoms.
        n_atoms: usize,
    },
    /// An edge between two systems, whose strain is neither's.
    #[error(
        "edge {edge} joins atom {receiver} of system {receiver_system} and atom {sender} of system {sender_system}, \
         expected both ends in one system"
    )]
    AcrossSystems {
        /// Edge index.
        edge: usize,
        /// Its receiver.
        receiver: usize,
        /// The receiver's system.
        receiver_system: usize,
        /// Its sender.
        sender: usize,
        /// The sender's system.
        sender_system: usize,
    },
    /// NaN or infinity.
    #[error("`{tensor}`[{index}] is {found}, expected a finite value")]
    NotFinite {
        /// Tensor name.
        tensor: &'static str,
        /// Flat index.
        index: usize,
        /// The value.
        found: f64,
    },
    /// More than the index type holds.
    #[error("{what} is {found}, more than the u32 index type holds; split the batch into several calls")]
    TooLarge {
        /// Which count.
        what: &'static str,
        /// Its value.
        found: usize,
    },
}

/// A tensor with its name, its shape in words, the elements of that shape and its values.
type Named<'a, T> = (&'static str, &'static str, usize, &'a [T]);

fn check_tensors<T: Scalar>(tensors: &[Named<'_, T>]) -> Result<(), InputError> {
    for &(tensor, shape, expected, values) in tensors {
        if values.len() != expected {
            return Err(InputError::Shape { tensor, shape, expected, found: values.len() });
        }
        if let Some(index) = values.iter().position(|x| !x.to_f64().is_finite()) {
            return Err(InputError::NotFinite { tensor, index, found: values[index].to_f64() });
        }
    }
    Ok(())
}

fn check_offsets(tensor: &'static str, offsets: &[u32], (end, count): (&'static str, usize)) -> Result<(), InputError> {
    let fail = |entry, from| Err(InputError::Offsets { tensor, entry, from, to: offsets[entry], end });
    let last = offsets.len() - 1;
    if offsets[0] != 0 {
        return fail(0, 0);
    }
    if let Some(entry) = offsets.windows(2).position(|w| w[0] > w[1]) {
        return fail(entry + 1, offsets[entry]);
    }
    if offsets[last] as usize != count { fail(last, count as u32) } else { Ok(()) }
}

impl<T> Inputs<T> {
    /// Atoms.
    pub fn n_atoms(&self) -> usize {
        self.row_ptr.len().saturating_sub(1)
    }

    /// Systems.
    pub fn n_systems(&self) -> usize {
        self.system_ptr.len().saturating_sub(1)
    }

    /// Directed edges.
    pub fn n_edges(&self) -> usize {
        self.sender.len()
    }

    /// The system of each atom, [n_atoms], of checked inputs.
    pub fn system_of_atoms(&self) -> Vec<u32> {
        let systems = self.system_ptr.windows(2).enumerate();
        systems.flat_map(|(system, atoms)| (atoms[0]..atoms[1]).map(move |_| system as u32)).collect()
    }

    /// The sizes that tables are keyed by and constraints may name.
    pub fn problem(&self, name: &str) -> Problem {
        Problem {
            name: name.to_owned(),
            n_atoms: self.n_atoms() as u64,
            n_systems: self.n_systems() as u64,
            n_edges: self.n_edges() as u64,
            max_degree: self.row_ptr.windows(2).map(|w| u64::from(w[1] - w[0])).max().unwrap_or(0),
            ..Problem::default()
        }
    }
}

impl<T: Scalar> Inputs<T> {
    /// The same inputs in another dtype, rounded to nearest.
    pub fn cast<U: Scalar>(&self) -> Inputs<U> {
        Inputs {
            row_ptr: self.row_ptr.clone(),
            sender: self.sender.clone(),
            edge_vec: cast(&self.edge_vec),
            edge_grad: cast(&self.edge_grad),
            system_ptr: self.system_ptr.clone(),
        }
    }

    /// Every floating-point tensor by its name.
    pub fn tensors(&self) -> Vec<(&'static str, &[T])> {
        vec![("edge_vec", &self.edge_vec[..]), ("edge_grad", &self.edge_grad[..])]
    }

    /// Checks shapes, offsets, indices, that no edge joins two systems, and finiteness.
    ///
    /// # Errors
    /// The first thing that is wrong, with what was expected and found.
    pub fn check(&self) -> Result<(), InputError> {
        for (tensor, shape, offsets) in
            [("row_ptr", "[n_atoms + 1]", &self.row_ptr), ("system_ptr", "[n_systems + 1]", &self.system_ptr)]
        {
            if offsets.is_empty() {
                return Err(InputError::Shape { tensor, shape, expected: 1, found: 0 });
            }
        }
        let (n_atoms, n_edges) = (self.n_atoms(), self.n_edges());
        for (what, found) in
            [("3 × n_atoms", 3 * n_atoms), ("9 × n_systems", 9 * self.n_systems()), ("3 × n_edges", 3 * n_edges)]
        {
            if found > u32::MAX as usize {
                return Err(InputError::TooLarge { what, found });
            }
        }
        check_offsets("row_ptr", &self.row_ptr, ("n_edges", n_edges))?;
        check_offsets("system_ptr", &self.system_ptr, ("n_atoms", n_atoms))?;
        let systems = self.system_of_atoms();
        for (receiver, row) in self.row_ptr.windows(2).enumerate() {
            for edge in row[0] as usize..row[1] as usize {
                let found = self.sender[edge];
                let sender = found as usize;
                if sender >= n_atoms {
                    return Err(InputError::Sender { edge, found, n_atoms });
                }
                if systems[receiver] != systems[sender] {
                    return Err(InputError::AcrossSystems {
                        edge,
                        receiver,
                        receiver_system: systems[receiver] as usize,
                        sender,
                        sender_system: systems[sender] as usize,
                    });
                }
            }
        }
        check_tensors(&[
            ("edge_vec", "[n_edges, 3]", 3 * n_edges, &self.edge_vec),
            ("edge_grad", "[n_edges, 3]", 3 * n_edges, &self.edge_grad),
        ])
    }

    /// Output buffers of the right size, every element NaN, so that a missing write shows.
    pub fn poisoned_outputs(&self) -> Outputs<T> {
        let nan = T::from_f64(f64::NAN);
        Outputs { forces: vec![nan; 3 * self.n_atoms()], strain: vec![nan; 9 * self.n_systems()] }
    }
}

impl<T> Outputs<T> {
    /// Every tensor by the name of its field.
    pub fn tensors(&self) -> Vec<(&'static str, &[T])> {
        vec![("forces", &self.forces[..]), ("strain", &self.strain[..])]
    }

    /// The same tensors with every element changed.
    pub fn map<U>(&self, mut change: impl FnMut(&T) -> U) -> Outputs<U> {
        Outputs {
            forces: self.forces.iter().map(&mut change).collect(),
            strain: self.strain.iter().map(change).collect(),
        }
    }
}

cast_by_map!(Outputs);

#[cfg(test)]
mod tests {
    use super::*;

    /// Systems of 2, 0 and 1 atoms; the last atom sees its own image.
    pub(super) fn inputs() -> Inputs<f64> {
        Inputs {
            row_ptr: vec![0, 1, 2, 3],
            sender: vec![1, 0, 2],
            edge_vec: vec![0.5; 9],
            edge_grad: vec![0.25; 9],
            system_ptr: vec![0, 2, 2, 3],
        }
    }

    #[test]
    fn ids_round_trip() {
        for reduction in Reduction::ALL {
            let variant = Variant { reduction };
            assert_eq!(variant.id().parse(), Ok(variant));
        }
        let error = "receiver".parse::<Variant>().unwrap_err().to_string();
        assert!(error.contains("`receiver`, expected `gather` or `atomic`"), "{error}");
    }

    #[test]
    fn what_fits_is_accepted() {
        let all = inputs();
        assert_eq!(all.check(), Ok(()));
        assert_eq!((all.n_atoms(), all.n_systems(), all.n_edges()), (3, 3, 3));
        assert_eq!(all.system_of_atoms(), [0, 0, 2]);
        assert_eq!(all.cast::<f32>().cast::<f64>(), all, "these numbers are exact in both dtypes");
        let outputs = all.poisoned_outputs();
        assert_eq!((outputs.forces.len(), outputs.strain.len()), (9, 27));
        assert!(outputs.tensors().iter().all(|(_, values)| values.iter().all(|x| x.is_nan())));
        let nothing = Inputs::<f64> {
            row_ptr: vec![0],
            sender: Vec::new(),
            edge_vec: Vec::new(),
            edge_grad: Vec::new(),
            system_ptr: vec![0],
        };
        assert_eq!(nothing.check(), Ok(()));
    }

    #[test]
    fn what_does_not_fit_is_named() {
        type Change = fn(&mut Inputs<f64>);
        let cases: [(Change, &str); 11] = [
            (|a| a.row_ptr.clear(), "`row_ptr` has 0 elements, expected 1 for shape [n_atoms + 1]"),
            (|a| a.system_ptr.clear(), "`system_ptr` has 0 elements, expected 1 for shape [n_systems + 1]"),
            (
                |a| a.row_ptr[0] = 1,
                "`row_ptr` goes from 0 to 1 at entry 0, expected ascending offsets from 0 to n_edges",
            ),
            (|a| a.row_ptr[1] = 3, "`row_ptr` goes from 3 to 2 at entry 2"),
            (|a| a.sender.push(0), "`row_ptr` goes from 4 to 3 at entry 3"),
            (|a| a.system_ptr[3] = 2, "`system_ptr` goes from 3 to 2 at entry 3, expected ascending offsets"),
            (|a| a.sender[1] = 3, "`sender`[1] is 3, expected an atom below n_atoms = 3"),
            (|a| a.sender[1] = 2, "edge 1 joins atom 1 of system 0 and atom 2 of system 2, expected both ends in one"),
            (|a| a.edge_vec.truncate(8), "`edge_vec` has 8 elements, expected 9 for shape [n_edges, 3]"),
            (|a| a.edge_grad.push(0.0), "`edge_grad` has 10 elements, expected 9"),
            (|a| a.edge_grad[7] = f64::NAN, "`edge_grad`[7] is NaN, expected a finite value"),
        ];
        for (change, expected) in cases {
            let mut all = inputs();
            change(&mut all);
            let found = all.check().unwrap_err().to_string();
            assert!(found.contains(expected), "{found} does not say {expected}");
        }
    }
}
