//! `fused_message`: radial basis, filter, message and scatter in one kernel.
//!
//! | name | shape | dtype | meaning |
//! | --- | --- | --- | --- |
//! | `row_ptr`, `sender` | [n_atoms + 1], [n_edges] | u32 | directed edges i ← j, CSR by receiver i |
//! | `edge_vec` | [n_edges, 3] | T | r_ij = x_j + S·H − x_i in Å |
//! | `nodes` | `x` [n_atoms, F] (cfconv), `s` [n_atoms, 3F] (painn) | T | scalar features of the sender |
//! | `vectors` | `mu` [n_atoms, 3, F] (painn only) | T | vector features of the sender |
//! | filter | `A` [K, C], `b` [C]; `A1` [K, H], `b1` [H], `A2` [H, C], `b2` [C]; `table` [n_nodes, order, C] | T | C = F (cfconv), 3F (painn) |

use std::collections::BTreeMap;

pub use crate::Activation;
use crate::dtype::cast;
use crate::{Problem, Scalar};

mod cost;
mod gradients;
mod sizes;
mod variant;

pub use cost::{HERMITE_WEIGHT, TABLE_NODES, backward_cost, cost, double_backward_cost};
pub use gradients::{BackwardInputs, DoubleBackwardInputs, DoubleGradients, Gradients, Wanted};
pub use sizes::{FilterSizes, Sizes};
pub use variant::{FilterKind, MalformedVariant, Message, Reduction, Variant};

/// The name of this family of kernels.
pub const OP: &str = "fused_message";

/// The sizes of its calls.
pub const AXES: &[&str] = &["n_atoms", "n_edges", "mean_degree", "features", "n_basis", "hidden"];

crate::op::declare! {
    /// Radial basis, filter, message and scatter: [`fused_message`](crate::fused_message).
    impl Op for FusedMessage: 0, Inputs -> Outputs, family;
    /// The first backward of [`FusedMessage`].
    impl Op for FusedMessageBackward: 1, BackwardInputs -> Gradients, family;
    /// The second backward of [`FusedMessage`]: the vector-Jacobian product of the first.
    impl Op for FusedMessageDoubleBackward: 2, DoubleBackwardInputs -> DoubleGradients, family;
}

/// Parameters of the radial functions, by the names their TOML files declare.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Radial<T> {
    /// Cutoff radius r_c in Å. Edges with d ≥ r_c contribute exactly nothing.
    pub r_cut: T,
    /// Radial basis functions K; 0 for a tabulated filter.
    pub n_basis: usize,
    /// Parameters of the basis: length K where declared per function, else 1.
    pub basis: BTreeMap<String, Vec<T>>,
    /// Parameters of the cutoff function: length 1 each.
    pub cutoff: BTreeMap<String, Vec<T>>,
}

impl<T: Scalar> Radial<T> {
    /// The same parameters in another dtype, rounded to nearest.
    pub fn cast<U: Scalar>(&self) -> Radial<U> {
        let cast_map = |m: &BTreeMap<String, Vec<T>>| m.iter().map(|(k, v)| (k.clone(), cast(v))).collect();
        Radial {
            r_cut: U::from_f64(self.r_cut.to_f64()),
            n_basis: self.n_basis,
            basis: cast_map(&self.basis),
            cutoff: cast_map(&self.cutoff),
        }
    }
}

/// The filter's weights, row-major.
#[derive(Clone, Debug, PartialEq)]
pub enum Filter<T> {
    /// `a` [K, C], `b` [C].
    Linear {
        /// A.
        a: Vec<T>,
        /// b.
        b: Vec<T>,
    },
    /// `a1` [K, H], `b1` [H], `a2` [H, C], `b2` [C].
    Mlp {
        /// Hidden width H.
        hidden: usize,
        /// A₁.
        a1: Vec<T>,
        /// b₁.
        b1: Vec<T>,
        /// A₂.
        a2: Vec<T>,
        /// b₂.
        b2: Vec<T>,
        /// σ.
        activation: Activation,
    },
    /// Hermite nodes on a uniform grid over [0, r_c]: `values` [n_nodes, order, C] holds W, dW/dd (and d²W/dd²) at
    /// d = n·r_c/(n_nodes − 1). The cutoff function is inside the table.
    Tabulated {
        /// 2: values and slopes, cubic segments; 3: and curvatures, quintic segments.
        order: usize,
        /// Grid nodes; segments + 1.
        n_nodes: usize,
        /// The samples.
        values: Vec<T>,
    },
}

impl<T> Filter<T> {
    /// Which kind of filter these weights are for.
    pub fn kind(&self) -> FilterKind {
        match self {
            Filter::Linear { .. } => FilterKind::Linear,
            Filter::Mlp { .. } => FilterKind::Mlp,
            Filter::Tabulated { .. } => FilterKind::Tabulated,
        }
    }
}

/// All inputs of one call, owned, row-major; see the table at the top of this module.
#[derive(Clone, Debug, PartialEq)]
pub struct Inputs<T> {
    /// Message these tensors are shaped for.
    pub message: Message,
    /// Atoms.
    pub n_atoms: usize,
    /// Feature width F.
    pub features: usize,
    /// [n_atoms + 1].
    pub row_ptr: Vec<u32>,
    /// [n_edges].
    pub sender: Vec<u32>,
    /// [n_edges, 3], Å.
    pub edge_vec: Vec<T>,
    /// `x` [n_atoms, F] or `s` [n_atoms, 3F].
    pub nodes: Vec<T>,
    /// `mu` [n_atoms, 3, F]; empty for cfconv.
    pub vectors: Vec<T>,
    /// Radial functions.
    pub radial: Radial<T>,
    /// Filter weights.
    pub filter: Filter<T>,
}

/// What one call computes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outputs<T> {
    /// `y` [n_atoms, F] (cfconv) or `dq` [n_atoms, F] (painn).
    pub nodes: Vec<T>,
    /// `dmu` [n_atoms, 3, F] (painn); empty for cfconv.
    pub vectors: Vec<T>,
}

/// Inputs that cannot be computed on, with what was expected and what was found.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum InputError {
    /// A tensor has the wrong number of elements.
    #[error("`{tensor}` has {found} elements, expected {expected} for shape {shape}")]
    Shape {
        /// Tensor name as in `ops.md`.
        tensor: String,
        /// The shape it should have.
        shape: String,
        /// Elements of that shape.
        expected: usize,
        /// Elements given.
        found: usize,
    },
    /// `row_ptr` does not start at 0.
    #[error("`row_ptr` starts at {found}, expected 0")]
    RowPtrStart {
        /// First entry.
        found: u32,
    },
    /// `row_ptr` descends.
    #[error("`row_ptr` descends at row {row}: {from} to {to}, expected ascending offsets")]
    RowPtrDescends {
        /// Row index.
        row: usize,
        /// Start of the row.
        from: u32,
        /// Its end.
        to: u32,
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
    /// NaN or infinity.
    #[error("`{tensor}`[{index}] is {found}, expected a finite value")]
    NotFinite {
        /// Tensor name.
        tensor: String,
        /// Flat index.
        index: usize,
        /// The value.
        found: f64,
    },
    /// A cutoff radius that is not positive.
    #[error("`r_cut` is {found}, expected a positive radius in Å")]
    Cutoff {
        /// The value.
        found: f64,
    },
    /// A missing, surplus or mis-sized parameter of a radial function.
    #[error("radial function `{function}` has parameters [{found}], expected [{expected}]")]
    RadialParameters {
        /// Its name.
        function: String,
        /// Expected names and lengths.
        expected: String,
        /// Given names and lengths.
        found: String,
    },
    /// The tensors are for another message or filter than the variant.
    #[error("inputs are for {found}, but variant `{variant}` was asked for")]
    Variant {
        /// Variant id.
        variant: String,
        /// Message and filter of the inputs.
        found: String,
    },
    /// More than the index type holds.
    #[error("{what} is {found}, more than the u32 index type holds; split the batch into several calls")]
    TooLarge {
        /// Which count.
        what: &'static str,
        /// Its value.
        found: u64,
    },
    /// A table with a degree of smoothness nobody rendered.
    #[error("`table` stores {found} derivatives per node, expected 2 (cubic) or 3 (quintic), on at least 2 nodes")]
    TableOrder {
        /// The order given.
        found: usize,
    },
}

impl<T: Scalar> Inputs<T> {
    /// Directed edges.
    pub fn n_edges(&self) -> usize {
        self.sender.len()
    }

    /// Filter channels C.
    pub fn channels(&self) -> usize {
        self.message.parts() * self.features
    }

    /// The longest row; 0 without edges.
    pub fn max_degree(&self) -> usize {
        self.row_ptr.windows(2).map(|w| (w[1] - w[0]) as usize).max().unwrap_or(0)
    }

    /// The sizes that tables are keyed by and constraints may name.
    pub fn problem(&self, name: &str) -> Problem {
        Problem { max_degree: self.max_degree() as u64, ..self.sizes().problem(name) }
    }

    /// The same inputs in another dtype, rounded to nearest.
    pub fn cast<U: Scalar>(&self) -> Inputs<U> {
        Inputs {
            message: self.message,
            n_atoms: self.n_atoms,
            features: self.features,
            row_ptr: self.row_ptr.clone(),
            sender: self.sender.clone(),
            edge_vec: cast(&self.edge_vec),
            nodes: cast(&self.nodes),
            vectors: cast(&self.vectors),
            radial: self.radial.cast(),
            filter: self.filter.cast(),
        }
    }

    /// Every floating-point tensor by its name in `ops.md`, with its shape: the order in which inputs are hashed,
    /// checked and written to files.
    pub fn tensors(&self) -> Vec<(String, Vec<usize>, &[T])> {
        let (n, f, e, c) = (self.n_atoms, self.features, self.n_edges(), self.channels());
        let k = self.radial.n_basis;
        let mut all: Vec<(String, Vec<usize>, &[T])> = vec![("edge_vec".into(), vec![e, 3], &self.edge_vec)];
        match self.message {
            Message::Cfconv => all.push(("x".into(), vec![n, f], &self.nodes)),
            Message::Painn => {
                all.push(("s".into(), vec![n, 3 * f], &self.nodes));
                all.push(("mu".into(), vec![n, 3, f], &self.vectors));
            }
        }
        match &self.filter {
            Filter::Linear { a, b } => {
                all.push(("A".into(), vec![k, c], a));
                all.push(("b".into(), vec![c], b));
            }
            Filter::Mlp { hidden, a1, b1, a2, b2, .. } => {
                all.push(("A1".into(), vec![k, *hidden], a1));
                all.push(("b1".into(), vec![*hidden], b1));
                all.push(("A2".into(), vec![*hidden, c], a2));
                all.push(("b2".into(), vec![c], b2));
            }
            Filter::Tabulated { order, n_nodes, values } => {
                all.push(("table".into(), vec![*n_nodes, *order, c], values));
            }
        }
        all.extend(self.radial.tensors().map(|(name, values)| (name, vec![values.len()], values)));
        all
    }

    /// Checks shapes, indices and finiteness; the names of radial parameters are the kernels' to check.
    ///
    /// # Errors
    /// The first thing that is wrong, with what was expected and found.
    pub fn check(&self) -> Result<(), InputError> {
        self.sizes().check()?;
        if self.row_ptr.len() != self.n_atoms + 1 {
            return Err(shape_error("row_ptr", &[self.n_atoms + 1], self.row_ptr.len()));
        }
        if self.row_ptr[0] != 0 {
            return Err(InputError::RowPtrStart { found: self.row_ptr[0] });
        }
        if let Some(row) = self.row_ptr.windows(2).position(|w| w[0] > w[1]) {
            return Err(InputError::RowPtrDescends { row, from: self.row_ptr[row], to: self.row_ptr[row + 1] });
        }
        if self.row_ptr[self.n_atoms] as usize != self.n_edges() {
            return Err(shape_error("sender", &[self.row_ptr[self.n_atoms] as usize], self.n_edges()));
        }
        if let Some(edge) = self.sender.iter().position(|j| *j as usize >= self.n_atoms) {
            return Err(InputError::Sender { edge, found: self.sender[edge], n_atoms: self.n_atoms });
        }
        self.radial.check()?;
        for (tensor, shape, values) in self.tensors() {
            if values.len() != shape.iter().product::<usize>() {
                return Err(shape_error(&tensor, &shape, values.len()));
            }
            if let Some(index) = values.iter().position(|x| !x.to_f64().is_finite()) {
                return Err(InputError::NotFinite { tensor, index, found: values[index].to_f64() });
            }
        }
        if self.message == Message::Cfconv && !self.vectors.is_empty() {
            return Err(shape_error("mu", &[0], self.vectors.len()));
        }
        Ok(())
    }

    /// Checks that these tensors are what a variant reads.
    ///
    /// # Errors
    /// As [`Sizes::check_variant`].
    pub fn check_variant(&self, variant: &Variant) -> Result<(), InputError> {
        self.sizes().check_variant(variant)
    }

    /// Output buffers of the right size, every element NaN, so that a missing write shows.
    pub fn poisoned_outputs(&self) -> Outputs<T> {
        let nan = T::from_f64(f64::NAN);
        Outputs {
            nodes: vec![nan; self.n_atoms * self.features],
            vectors: match self.message {
                Message::Cfconv => Vec::new(),
                Message::Painn => vec![nan; self.n_atoms * 3 * self.features],
            },
        }
    }
}

fn shape_error(tensor: &str, shape: &[usize], found: usize) -> InputError {
    let text: Vec<String> = shape.iter().map(usize::to_string).collect();
    InputError::Shape {
        tensor: tensor.to_owned(),
        shape: format!("[{}]", text.join(", ")),
        expected: shape.iter().product(),
        found,
    }
}
