//! Which variant builds a list: a list is asked for, and its strategy is chosen as its configuration is.

use ff_spec::cell_list::{List, OP, Strategy, Variant};
use ff_spec::{CellList, DeviceId, Dtype, LaunchConfig, Problem, TuneKey};

use crate::entry::same_bucket;
use crate::select::select_entry;
use crate::{Query, Selection, Table};

/// A list that is to be built.
#[derive(Clone, Copy, Debug)]
pub struct ListQuery<'a> {
    /// Where.
    pub device: &'a DeviceId,
    /// Hash of the templates that the kernels at hand were rendered from.
    pub template_hash: &'a str,
    /// Edges listed.
    pub list: List,
    /// Element type.
    pub dtype: Dtype,
    /// [`ff_spec::cell_list::Inputs::estimate`].
    pub problem: &'a Problem,
}

/// The strategy and the configuration for a list, each strategy's as [`select`](crate::select) finds it.
///
/// Brute force where it was measured to be faster: in the table that the cells were found in, on atoms of the same
/// number, density and batch. Its work per atom grows with the atoms of a system, so on larger systems than those it was
/// measured on its time is taken to be as much longer. Everywhere else cells, whose work per atom does not grow.
///
/// `feasible` says whether a variant can run under a configuration on the real shape.
pub fn select_list<'t>(
    tables: impl IntoIterator<Item = &'t Table> + Clone,
    query: ListQuery<'_>,
    feasible: impl Fn(&Variant, &LaunchConfig) -> bool,
) -> (Variant, Selection) {
    let ListQuery { device, template_hash, list, dtype, problem } = query;
    let of = |strategy| {
        let variant = Variant { list, strategy };
        let key = TuneKey::of::<CellList>(&variant, dtype, problem);
        let query = Query { op: OP, device, template_hash, key: &key };
        let (selection, found) = select_entry(tables.clone(), query, |config| feasible(&variant, config));
        (variant, selection, found)
    };
    let (cells, brute) = (of(Strategy::Cells), of(Strategy::Brute));
    let faster = match (&cells.2, &brute.2) {
        (Some((table, cells)), Some((beside, brute))) => {
            let of_cells = TuneKey { family: cells.key.family.clone(), ..brute.key.clone() };
            let grown = (system_size(problem) / system_size(&brute.problem)).max(1.0);
            std::ptr::eq(*table, *beside)
                && same_bucket(&cells.key, &of_cells)
                && brute.median_ns * grown < cells.median_ns
        }
        _ => false,
    };
    let (variant, selection, _) = if faster { brute } else { cells };
    (variant, selection)
}

/// Atoms per system.
fn system_size(problem: &Problem) -> f64 {
    problem.n_atoms as f64 / problem.n_systems.max(1) as f64
}
