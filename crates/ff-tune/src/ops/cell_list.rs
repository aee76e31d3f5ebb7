//! `cell_list`: its bits do not depend on the configuration, so that a large list is compared on some rows and by a digest of all.

use std::hash::{DefaultHasher, Hash, Hasher};

use ff_reference::cell_list::{Oracle as ListOracle, search_rows};
use ff_spec::cell_list::{self, NeighborList, OP};
use ff_spec::{CellList, Dtype, Problem};
use ff_testkit::cell_list::systems::rounded_batch;

use super::BuiltIn;
use crate::op::{Rows, Tuned};
use crate::space::Part;

/// Its spaces are told apart by strategy.
pub(super) const SPACES: BuiltIn = BuiltIn {
    op: OP,
    key: "strategy",
    names: &["cells", "brute"],
    file: include_str!("../../../../autotune/spaces/cell_list.toml"),
    name: |id| id.parse::<cell_list::Variant>().ok().map(|variant| variant.strategy.name()),
};

impl Tuned for CellList {
    /// A digest of the whole list: its bits do not depend on the configuration.
    type Trace = u64;

    fn part(variant: &cell_list::Variant) -> Part {
        SPACES.part(variant.strategy.name())
    }

    fn sizes(name: &str, inputs: &cell_list::Inputs<f64>) -> Problem {
        inputs.estimate(name)
    }

    fn launch_bytes(inputs: &cell_list::Inputs<f64>, dtype: Dtype) -> u64 {
        // `sender`, `transpose`, `shift` and `edge_vec`; positions, `row_ptr` and `sender_ptr`.
        let (per_edge, per_atom) = (2 * 4 + 3 * 4 + 3 * dtype.size() as u64, 3 * dtype.size() as u64 + 2 * 4);
        let Problem { n_atoms, n_edges, .. } = inputs.estimate("");
        n_edges * per_edge + n_atoms * per_atom
    }

    fn reference(
        variant: &cell_list::Variant,
        inputs: &cell_list::Inputs<f64>,
        dtype: Dtype,
        work: usize,
    ) -> Result<(ListOracle, Option<Rows>), String> {
        let inputs = rounded_batch(inputs, dtype);
        let rows = list_rows(&inputs, work);
        let wanted = rows.as_ref().map_or_else(|| (0..inputs.n_atoms()).collect(), |rows| rows.sampled.clone());
        Ok((search_rows(&inputs, variant.list, dtype, wanted).map_err(|e| e.to_string())?, rows))
    }

    /// The oracle knows which rows it looked at, so the list stays whole.
    fn sampled(mut outputs: NeighborList<f64>, _: &Rows) -> (NeighborList<f64>, u64) {
        let digest = digest(&outputs);
        let vectors = outputs.edge_vec.as_flattened_mut();
        if vectors.iter().any(|x| !x.is_finite()) {
            vectors.fill(f64::NAN);
        }
        (outputs, digest)
    }

    fn alike(found: &u64, expected: &u64, _: Dtype) -> Result<(), String> {
        if found == expected {
            return Ok(());
        }
        Err("the list differs from that of the first configuration that passed, expected the same bits".to_owned())
    }
}

/// The rows to compare where all of them are more than `work` multiplications, `None` for all; nobody knows yet which is the
/// longest.
fn list_rows(inputs: &cell_list::Inputs<f64>, work: usize) -> Option<Rows> {
    /// What the oracle spends on looking at a pair of atoms and on an edge, in multiplications: about as many ns.
    const PAIR: usize = 150;
    const EDGE: usize = 1000;
    /// Fewer rows show little, and this many cost less than a comparison of the whole list.
    const FEWEST: usize = 32;
    let n_atoms = inputs.n_atoms();
    let pairs: usize = (0..inputs.n_systems()).map(|system| inputs.atoms(system).len().pow(2)).sum();
    let n_edges = usize::try_from(inputs.estimate("").n_edges).unwrap_or(usize::MAX);
    let all = pairs.saturating_mul(PAIR).saturating_add(n_edges.saturating_mul(EDGE));
    if all <= work || n_atoms == 0 {
        return None;
    }
    let count = (work / (all / n_atoms).max(1)).clamp(FEWEST.min(n_atoms), n_atoms);
    Some(Rows::spread(n_atoms, count, []))
}

/// A digest of all arrays of a list, to the last bit.
fn digest(list: &NeighborList<f64>) -> u64 {
    let NeighborList { row_ptr, sender, shift, edge_vec, sender_ptr, transpose } = list;
    let mut hasher = DefaultHasher::new();
    (row_ptr, sender, shift, sender_ptr, transpose).hash(&mut hasher);
    edge_vec.as_flattened().iter().for_each(|x| x.to_bits().hash(&mut hasher));
    hasher.finish()
}
