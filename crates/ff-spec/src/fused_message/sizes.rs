//! The sizes of a call, apart from its tensors and parameters.

use super::{Activation, Filter, FilterKind, InputError, Inputs, Message, Radial, Variant};
use crate::{Problem, Scalar};

/// The sizes of one call: what kernels are configured by. With a [`Radial`] it is all of a call that is no tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Sizes {
    /// Message.
    pub message: Message,
    /// Atoms.
    pub n_atoms: usize,
    /// Directed edges.
    pub n_edges: usize,
    /// Feature width F.
    pub features: usize,
    /// Radial basis functions K; 0 for a tabulated filter.
    pub n_basis: usize,
    /// Of the filter.
    pub filter: FilterSizes,
}

/// What [`Filter`] says besides its weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FilterSizes {
    /// [`Filter::Linear`].
    Linear,
    /// [`Filter::Mlp`].
    Mlp {
        /// Hidden width H.
        hidden: usize,
        /// σ.
        activation: Activation,
    },
    /// [`Filter::Tabulated`].
    Tabulated {
        /// 2: values and slopes; 3: and curvatures.
        order: usize,
        /// Grid nodes; segments + 1.
        n_nodes: usize,
    },
}

impl FilterSizes {
    /// Which kind of filter this is.
    pub fn kind(self) -> FilterKind {
        match self {
            Self::Linear => FilterKind::Linear,
            Self::Mlp { .. } => FilterKind::Mlp,
            Self::Tabulated { .. } => FilterKind::Tabulated,
        }
    }

    /// Hidden width H; 0 without a hidden layer.
    pub fn hidden(self) -> usize {
        match self {
            Self::Mlp { hidden, .. } => hidden,
            _ => 0,
        }
    }
}

impl<T> Filter<T> {
    /// The filter without its weights.
    pub fn sizes(&self) -> FilterSizes {
        match self {
            Self::Linear { .. } => FilterSizes::Linear,
            Self::Mlp { hidden, activation, .. } => FilterSizes::Mlp { hidden: *hidden, activation: *activation },
            Self::Tabulated { order, n_nodes, .. } => FilterSizes::Tabulated { order: *order, n_nodes: *n_nodes },
        }
    }
}

impl<T: Scalar> Inputs<T> {
    /// The sizes of these tensors.
    pub fn sizes(&self) -> Sizes {
        Sizes {
            message: self.message,
            n_atoms: self.n_atoms,
            n_edges: self.n_edges(),
            features: self.features,
            n_basis: self.radial.n_basis,
            filter: self.filter.sizes(),
        }
    }
}

impl Sizes {
    /// Filter channels C.
    pub fn channels(&self) -> usize {
        self.message.parts() * self.features
    }

    /// Elements of `y` or `dq` [n_atoms, F], and of `dmu` [n_atoms, 3, F], which cfconv has not.
    pub fn outputs(&self) -> [usize; 2] {
        let rows = self.n_atoms * self.features;
        [rows, if self.message == Message::Painn { 3 * rows } else { 0 }]
    }

    /// The sizes that tables are keyed by and constraints may name; the longest row, which is not known here, is 0.
    pub fn problem(&self, name: &str) -> Problem {
        let n_basis = match self.filter {
            FilterSizes::Tabulated { order, .. } => 2 * order,
            _ => self.n_basis,
        };
        Problem {
            name: name.to_owned(),
            n_atoms: self.n_atoms as u64,
            n_edges: self.n_edges as u64,
            features: self.features as u32,
            n_basis: n_basis as u32,
            hidden: self.filter.hidden() as u32,
            ..Problem::default()
        }
    }

    /// Checks that kernels can index what is of these sizes, and the order of a table.
    ///
    /// # Errors
    /// [`InputError::TooLarge`] and [`InputError::TableOrder`].
    pub fn check(&self) -> Result<(), InputError> {
        for (what, found) in [
            ("n_edges", self.n_edges),
            ("n_atoms × 3F", self.n_atoms.saturating_mul(3).saturating_mul(self.features)),
            ("3 × n_edges", self.n_edges.saturating_mul(3)),
        ] {
            if found > u32::MAX as usize {
                return Err(InputError::TooLarge { what, found: found as u64 });
            }
        }
        match self.filter {
            FilterSizes::Tabulated { order, n_nodes } if !(2..=3).contains(&order) || n_nodes < 2 => {
                Err(InputError::TableOrder { found: order })
            }
            _ => Ok(()),
        }
    }

    /// Checks that a call of these sizes is one of a variant.
    ///
    /// # Errors
    /// [`InputError::Variant`] where message or filter differ.
    pub fn check_variant(&self, variant: &Variant) -> Result<(), InputError> {
        let filter = self.filter.kind();
        if self.message == variant.message && filter == variant.filter {
            return Ok(());
        }
        let found = format!("message `{}` with filter `{}`", self.message.name(), filter.name());
        Err(InputError::Variant { variant: variant.id(), found })
    }
}

impl<T: Scalar> Radial<T> {
    /// Checks that the cutoff is a radius and every parameter finite; the names of parameters are the kernels' to check.
    ///
    /// # Errors
    /// [`InputError::Cutoff`] and [`InputError::NotFinite`].
    pub fn check(&self) -> Result<(), InputError> {
        let found = self.r_cut.to_f64();
        if !(found.is_finite() && found > 0.0) {
            return Err(InputError::Cutoff { found });
        }
        for (tensor, values) in self.tensors() {
            if let Some(index) = values.iter().position(|x| !x.to_f64().is_finite()) {
                return Err(InputError::NotFinite { tensor, index, found: values[index].to_f64() });
            }
        }
        Ok(())
    }

    /// Every parameter as `basis.` or `cutoff.` and its name.
    pub fn tensors(&self) -> impl Iterator<Item = (String, &[T])> {
        [("basis", &self.basis), ("cutoff", &self.cutoff)]
            .into_iter()
            .flat_map(|(prefix, map)| map.iter().map(move |(name, values)| (format!("{prefix}.{name}"), &values[..])))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZES: Sizes = Sizes {
        message: Message::Painn,
        n_atoms: 5,
        n_edges: 12,
        features: 4,
        n_basis: 8,
        filter: FilterSizes::Mlp { hidden: 6, activation: Activation::Tanh },
    };

    #[test]
    fn what_kernels_cannot_index_is_named() {
        assert_eq!(SIZES.check(), Ok(()));
        let reason = |sizes: Sizes| sizes.check().unwrap_err().to_string();
        let many = u32::MAX as usize;
        assert!(reason(Sizes { n_edges: many + 1, ..SIZES }).starts_with("n_edges is 4294967296"));
        assert!(reason(Sizes { n_edges: many, ..SIZES }).starts_with("3 × n_edges"));
        assert!(reason(Sizes { n_atoms: usize::MAX, ..SIZES }).starts_with("n_atoms × 3F"));
        for (order, n_nodes) in [(1, 9), (4, 9), (2, 1)] {
            let filter = FilterSizes::Tabulated { order, n_nodes };
            assert!(reason(Sizes { filter, ..SIZES }).contains(&format!("stores {order} derivatives")));
        }
    }

    #[test]
    fn a_table_is_keyed_by_its_coefficients() {
        let problem = SIZES.problem("x");
        assert_eq!((problem.n_basis, problem.hidden, problem.n_edges), (8, 6, 12));
        let table = Sizes { filter: FilterSizes::Tabulated { order: 3, n_nodes: 9 }, ..SIZES }.problem("x");
        assert_eq!((table.n_basis, table.hidden), (6, 0));
    }

    #[test]
    fn a_parameter_that_is_not_finite_is_named() {
        let mut radial = Radial { r_cut: 5.0, n_basis: 2, ..Radial::default() };
        assert_eq!(radial.check(), Ok(()));
        radial.cutoff.insert("p".to_owned(), vec![6.0, f64::NAN]);
        assert!(radial.check().unwrap_err().to_string().starts_with("`cutoff.p`[1] is NaN"));
        radial.r_cut = 0.0;
        assert_eq!(radial.check(), Err(InputError::Cutoff { found: 0.0 }));
    }
}
