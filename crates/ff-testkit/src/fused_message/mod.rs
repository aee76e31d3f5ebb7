//! What the three orders of `fused_message` are judged by: cases, comparison of every tensor, faults on purpose.

use ff_reference::Oracle;
use ff_reference::fused_message::{ReferenceError, forward};
use ff_spec::fused_message::{Activation, Inputs, Outputs, Reduction, Variant};
use ff_spec::{Dtype, FusedMessage};

use crate::case::{Case, CaseSet};
use crate::degrees::Degrees;
use crate::tensors::{ByTensors, tensors_of_spec};
use crate::tolerance::Order;

mod generators;
pub mod gradients;
pub mod mutants;
pub mod small;
pub mod strategies;
#[cfg(test)]
mod tests;

pub use generators::{CaseSpec, Distances, random_inputs, rounded, sampled};

impl Case<CaseSpec> {
    /// Inputs for a variant, rounded to `dtype`.
    ///
    /// # Errors
    /// [`ReferenceError`] for radial functions that do not exist.
    pub fn inputs(&self, variant: &Variant, dtype: Dtype, seed: u64) -> Result<Inputs<f64>, ReferenceError> {
        Ok(rounded(&random_inputs(&self.spec, variant, seed)?, dtype))
    }
}

/// The cases, the same for every variant. Sizes are such that one evaluation of the oracle stays near 10⁷ multiplications.
pub fn cases(set: CaseSet) -> Vec<Case<CaseSpec>> {
    let base = CaseSpec {
        n_atoms: 0,
        features: 8,
        n_basis: 6,
        hidden: 7,
        activation: Activation::ShiftedSoftplus,
        table_order: 2,
        table_nodes: 33,
        r_cut: 5.0,
        degrees: Degrees::Uniform(0),
        distances: Distances::Skin,
    };
    let case = |id, n_atoms, features, degrees, change: &dyn Fn(&mut CaseSpec)| {
        let mut spec = CaseSpec { n_atoms, features, degrees, ..base.clone() };
        change(&mut spec);
        let degenerate =
            spec.distances == Distances::Beyond || spec.degrees.rows(n_atoms).into_iter().sum::<usize>() == 0;
        Case { id, spec, degenerate }
    };
    let mut all = vec![
        case("small", 12, 8, Degrees::PowerLaw { max: 14, exponent: 0.7 }, &|_| {}),
        // Widths that no vector divides, rows without edges at both ends, every distance that is special.
        case("odd_boundary", 23, 17, Degrees::EmptyRows(13), &|s| {
            (s.n_basis, s.hidden, s.distances, s.r_cut) = (7, 11, Distances::Boundary, 4.7);
            (s.activation, s.table_order, s.table_nodes) = (Activation::Tanh, 3, 20);
        }),
        case("one_atom", 1, 33, Degrees::Uniform(9), &|s| (s.n_basis, s.distances) = (3, Distances::Inside)),
        case("no_edges", 5, 3, Degrees::Uniform(0), &|_| {}),
        case("wide", 14, 100, Degrees::Uniform(12), &|s| {
            (s.n_basis, s.hidden, s.table_order, s.table_nodes) = (20, 33, 3, 65);
        }),
    ];
    if set == CaseSet::Full {
        all.extend([
            case("no_atoms", 0, 8, Degrees::Uniform(0), &|_| {}),
            case("all_beyond", 9, 5, Degrees::Uniform(7), &|s| s.distances = Distances::Beyond),
            // One channel, one basis function, one hidden unit: every loop runs once.
            case("ones", 80, 1, Degrees::Uniform(6), &|s| (s.n_basis, s.hidden, s.table_nodes) = (1, 1, 2)),
            case("width_3", 60, 3, Degrees::EmptyRows(9), &|s| {
                (s.n_basis, s.hidden, s.distances) = (5, 3, Distances::Boundary);
            }),
            case("width_33", 40, 33, Degrees::PowerLaw { max: 60, exponent: 0.9 }, &|s| {
                (s.n_basis, s.hidden, s.activation, s.table_order) = (33, 31, Activation::Tanh, 3);
            }),
            case("many_basis", 30, 20, Degrees::Uniform(18), &|s| {
                (s.n_basis, s.hidden, s.table_order, s.table_nodes) = (50, 17, 3, 257);
            }),
            // More rows than any one cube or task takes, of a few edges each.
            case("many_rows", 1031, 4, Degrees::EmptyRows(3), &|s| s.n_basis = 5),
            case("long_row", 70, 7, Degrees::LongRow { long: 5000, short: 3 }, &|s| (s.n_basis, s.hidden) = (8, 9)),
            case("skewed", 120, 16, Degrees::PowerLaw { max: 2000, exponent: 1.5 }, &|s| {
                (s.n_basis, s.hidden, s.activation) = (16, 13, Activation::Silu);
                s.table_order = 3;
            }),
            // The proportions of a liquid in a real model.
            case("liquid", 32, 128, Degrees::Uniform(50), &|s| {
                (s.n_basis, s.hidden, s.table_nodes) = (20, 64, 129);
            }),
        ]);
    }
    all
}

crate::tensors::forward!(Inputs<f64>: row_ptr, sender);

impl ByTensors for FusedMessage {
    type Spec = CaseSpec;
    type Error = ReferenceError;
    const TOLERANCE: Order = Order::Forward;

    fn cases(_: &Variant, set: CaseSet) -> Vec<Case<CaseSpec>> {
        cases(set)
    }

    fn representative(variant: &Variant) -> Variant {
        Variant { reduction: Reduction::Receiver, ..variant.clone() }
    }

    fn inputs(spec: &CaseSpec, variant: &Variant, seed: u64) -> Result<Inputs<f64>, ReferenceError> {
        random_inputs(spec, variant, seed)
    }

    fn oracle(variant: &Variant, inputs: &Inputs<f64>) -> Result<Oracle<Outputs<f64>>, ReferenceError> {
        forward(variant, inputs)
    }

    fn same_bits(variant: &Variant) -> Option<&'static str> {
        (variant.reduction == Reduction::Receiver).then_some("receiver")
    }

    tensors_of_spec!(Inputs<f64>, inputs => *inputs);
}
