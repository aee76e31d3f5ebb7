use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Dtype, Op};

/// The sizes of one call: what a tuning table is keyed by and what constraints may name.
///
/// The axes that the ops so far share are fields; a size that an op does not have is 0, so of a new problem only those are
/// named that it has. Sizes of one op alone are [`Problem::axes`], written beside the others. Which sizes an op has at all, its
/// [`Op::AXES`] say.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Problem {
    /// The id of the problem in the catalogue or the file it came from.
    pub name: String,
    /// Atoms (rows).
    pub n_atoms: u64,
    /// Systems in the batch; 0 where the op does not see systems.
    #[serde(default)]
    pub n_systems: u64,
    /// Directed edges.
    pub n_edges: u64,
    /// Edges of the longest row.
    pub max_degree: u64,
    /// Feature width F.
    pub features: u32,
    /// Radial basis functions K; for a tabulated filter the coefficients per edge (4 cubic, 6 quintic).
    pub n_basis: u32,
    /// Width of the hidden layer of an `mlp` filter, else 0.
    pub hidden: u32,
    /// Sizes that no other op has, by the names under which its [`Op::AXES`] list them. Tables are keyed by every one.
    #[serde(flatten)]
    pub axes: BTreeMap<String, u64>,
}

impl Problem {
    /// Edges per atom; 0 for no atoms.
    pub fn mean_degree(&self) -> f64 {
        if self.n_atoms == 0 { 0.0 } else { self.n_edges as f64 / self.n_atoms as f64 }
    }

    /// All sizes by name, in the order in which files have them.
    pub fn sizes(&self) -> impl Iterator<Item = (&str, u64)> {
        let shared = [
            ("n_atoms", self.n_atoms),
            ("n_systems", self.n_systems),
            ("n_edges", self.n_edges),
            ("max_degree", self.max_degree),
            ("features", self.features.into()),
            ("n_basis", self.n_basis.into()),
            ("hidden", self.hidden.into()),
        ];
        shared.into_iter().chain(self.axes.iter().map(|(name, size)| (name.as_str(), *size)))
    }

    /// The size of an axis, where the problem has that.
    pub fn get(&self, axis: &str) -> Option<u64> {
        self.sizes().find(|(name, _)| *name == axis).map(|(_, size)| size)
    }
}

/// What a variant is called at a derivative order: by its own id, and with `_backward` or `_double_backward` behind it.
pub fn kernel_name(variant: &str, order: u8) -> String {
    let suffix = match order {
        0 => "",
        1 => "_backward",
        _ => "_double_backward",
    };
    format!("{variant}{suffix}")
}

/// What a table entry is found by: kernel family, derivative order, dtype and a problem bucket.
///
/// The distance between two keys is per axis in log2, so a table made at powers of two answers for what lies between.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TuneKey {
    /// The variant family, [`Op::family`](crate::Op::family): `painn_linear_receiver`, `full_cells`.
    pub family: String,
    /// The derivative order, [`Op::ORDER`]; a table of a version that knew no other holds order 0.
    #[serde(default)]
    pub order: u8,
    /// Element type.
    pub dtype: Dtype,
    /// Atoms.
    pub n_atoms: u64,
    /// Systems in the batch; 0 where the op does not see systems.
    #[serde(default)]
    pub n_systems: u64,
    /// Mean edges per atom.
    pub mean_degree: f64,
    /// Feature width F.
    pub features: u32,
    /// Radial basis functions K.
    pub n_basis: u32,
    /// As of the problem, [`Problem::axes`].
    #[serde(flatten)]
    pub axes: BTreeMap<String, u64>,
}

impl TuneKey {
    /// The key of a variant's call.
    pub fn of<O: Op>(variant: &O::Variant, dtype: Dtype, problem: &Problem) -> Self {
        Self::new(&O::family(variant), O::ORDER, dtype, problem)
    }

    /// The key of a problem.
    pub fn new(family: &str, order: u8, dtype: Dtype, problem: &Problem) -> Self {
        Self {
            family: family.to_owned(),
            order,
            dtype,
            n_atoms: problem.n_atoms,
            n_systems: problem.n_systems,
            mean_degree: problem.mean_degree(),
            features: problem.features,
            n_basis: problem.n_basis,
            axes: problem.axes.clone(),
        }
    }

    /// What the key consists of beside family, order and dtype: each axis by name, with its size.
    pub fn axes(&self) -> impl Iterator<Item = (&str, f64)> {
        let shared = [
            ("n_atoms", self.n_atoms as f64),
            ("n_systems", self.n_systems as f64),
            ("mean_degree", self.mean_degree),
            ("features", self.features.into()),
            ("n_basis", self.n_basis.into()),
        ];
        shared.into_iter().chain(self.axes.iter().map(|(name, size)| (name.as_str(), *size as f64)))
    }

    /// Distance in octaves along each of [`TuneKey::axes`], or `None` where family, order, dtype or the names of axes differ.
    pub fn distance(&self, other: &Self) -> Option<Vec<f64>> {
        let octaves = |a: f64, b: f64| ((a + 1.0) / (b + 1.0)).log2().abs();
        let alike = self.family == other.family
            && self.order == other.order
            && self.dtype == other.dtype
            && self.axes.keys().eq(other.axes.keys());
        alike.then(|| self.axes().zip(other.axes()).map(|((_, ours), (_, theirs))| octaves(ours, theirs)).collect())
    }
}

impl fmt::Display for TuneKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.family)?;
        if self.order > 0 {
            write!(f, "order={} ", self.order)?;
        }
        write!(f, "{} n_atoms={}", self.dtype, self.n_atoms)?;
        if self.n_systems > 0 {
            write!(f, " n_systems={}", self.n_systems)?;
        }
        write!(f, " degree={:.1}", self.mean_degree)?;
        // Lists have no features.
        if self.features > 0 {
            write!(f, " F={} K={}", self.features, self.n_basis)?;
        }
        self.axes.iter().try_for_each(|(name, size)| write!(f, " {name}={size}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A product of matrices: rows of atoms, and two widths of which only the first is one that other ops have.
    fn dense(out_features: u64) -> Problem {
        let axes = BTreeMap::from([("out_features".to_owned(), out_features)]);
        Problem { name: "water-64".to_owned(), n_atoms: 192, features: 128, axes, ..Problem::default() }
    }

    #[test]
    fn a_dense_op_has_axes_of_its_own() {
        let problem = dense(384);
        let found = ["out_features", "features", "n_edges", "out_feature"].map(|axis| problem.get(axis));
        assert_eq!(found, [Some(384), Some(128), Some(0), None]);
        let [near, far] = [384, 3072].map(|out| TuneKey::new("dense", 0, Dtype::F32, &dense(out)));
        let distance = near.distance(&far).expect("of one family");
        assert_eq!(distance[..5], [0.0; 5]);
        assert_eq!(distance.len(), 6);
        assert!((distance[5] - (3073.0_f64 / 385.0).log2()).abs() < 1e-12, "{distance:?}");
        assert_eq!(near.axes().last(), Some(("out_features", 384.0)));
        assert!(near.to_string().ends_with("F=128 K=0 out_features=384"), "{near}");
        // Nothing is known of how far apart they are.
        let without = TuneKey { axes: BTreeMap::new(), ..near.clone() };
        assert_eq!(near.distance(&without), None);
    }
}
