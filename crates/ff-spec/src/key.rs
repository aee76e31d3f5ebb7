use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Dtype, Op};

/// The sizes of one call: what a tuning table is keyed by and what constraints may name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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
}

impl Problem {
    /// Edges per atom; 0 for no atoms.
    pub fn mean_degree(&self) -> f64 {
        if self.n_atoms == 0 { 0.0 } else { self.n_edges as f64 / self.n_atoms as f64 }
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
        }
    }

    /// Per-axis distance in octaves (n_atoms, n_systems, mean degree, F, K), or `None` where family, order or
    /// dtype differ.
    pub fn distance(&self, other: &Self) -> Option<[f64; 5]> {
        let octaves = |a: f64, b: f64| ((a + 1.0) / (b + 1.0)).log2().abs();
        let alike = self.family == other.family && self.order == other.order && self.dtype == other.dtype;
        alike.then(|| {
            [
                octaves(self.n_atoms as f64, other.n_atoms as f64),
                octaves(self.n_systems as f64, other.n_systems as f64),
                octaves(self.mean_degree, other.mean_degree),
                octaves(f64::from(self.features), f64::from(other.features)),
                octaves(f64::from(self.n_basis), f64::from(other.n_basis)),
            ]
        })
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
        if self.features > 0 { write!(f, " F={} K={}", self.features, self.n_basis) } else { Ok(()) }
    }
}
