//! How many atoms are computed at once, so that memory suffices.

use ff_spec::Dtype;
use ff_structure::Structure;
use sysinfo::{MemoryRefreshKind, System};

use crate::config::{Config, Kind};
use crate::host::EDGES_PER_TASK;
use crate::plan::Count;

/// Atoms per Å³ by which neighbours are guessed where nothing else is known: liquid water's.
const DENSITY: f64 = 0.1;

/// The most atoms of one call: beyond it nothing becomes faster, and whoever waits for a result or presses Ctrl-C waits longer.
pub const MOST_ATOMS: usize = 1 << 14;

/// Bytes that an evaluation of energies and forces keeps for atoms and directed edges that are computed at once: tensors, lists,
/// and what goes in and comes out.
pub fn memory(config: &Config, dtype: Dtype) -> Count {
    let (f, n, layers, size) =
        (config.features as u64, config.filters as u64, config.layers as u64, dtype.size() as u64);
    let head: u64 = config.head.layers[1..].iter().map(|width| *width as u64).sum();
    // Of an atom: what layers keep for the backward; features and gradients; messages of a layer and their gradients; forces.
    let tensors = match config.kind {
        Kind::Painn => layers * (3 + 1 + 1 + 6 + 1 + 3) * f + (layers + 1) * 3 * f + (2 + 3 + 3) * f + (4 + 6) * f,
        Kind::Schnet => layers * (n + f) + 2 * f + 4 * n,
    };
    // Species, position, force and energy of an atom in f64, and of two lists where its row begins.
    let structure = 1 + 3 * 8 + 3 * 8 + 8 + 2 * 4;
    // Of an edge: sender, shift, vector and place in the transposed list, which is kept twice and once with the receiver; the vector
    // and two gradients in the element type.
    let list = 4 + 12 + 24 + 4 + 4 + 4;
    Count { fixed: 0, per_atom: (tensors + head + 3) * size + structure, per_edge: list + 9 * size }
}

/// Bytes that each thread keeps for its tasks, however many atoms there are: filters of the edges of a tile and their derivatives.
pub fn memory_of_thread(config: &Config, dtype: Dtype) -> u64 {
    8 * EDGES_PER_TASK as u64 * (config.parts() * config.filters * dtype.size()) as u64
}

/// Directed edges of an atom within a cutoff in Å, at the density of liquid water.
pub fn expected_degree(cutoff: f64) -> f64 {
    DENSITY * 4.0 / 3.0 * std::f64::consts::PI * cutoff.powi(3)
}

/// Bytes that an atom takes with as many edges as it has at the density of liquid water.
pub fn bytes_per_atom(config: &Config, dtype: Dtype) -> f64 {
    let memory = memory(config, dtype);
    memory.per_atom as f64 + memory.per_edge as f64 * expected_degree(config.cutoff)
}

/// Memory that the system, or the control group of this process, can spare, bytes; `None` where the system does not say.
pub fn free() -> Option<u64> {
    let mut system = System::new();
    system.refresh_memory_specifics(MemoryRefreshKind::nothing().with_ram());
    if system.total_memory() == 0 {
        return None;
    }
    let group = system.cgroup_limits().map_or(u64::MAX, |group| group.free_memory);
    Some(system.available_memory().min(group))
}

/// Atoms of one call that `limit` bytes suffice for; 1 at least, since a system is never divided, and [`MOST_ATOMS`] at most.
pub fn atoms_within(config: &Config, dtype: Dtype, limit: u64) -> usize {
    ((limit as f64 / bytes_per_atom(config, dtype)) as usize).clamp(1, MOST_ATOMS)
}

/// Atoms of one call for half of the memory that is free.
pub fn atoms(config: &Config, dtype: Dtype) -> usize {
    let threads = rayon::current_num_threads() as u64 * memory_of_thread(config, dtype);
    atoms_within(config, dtype, free().map_or(1 << 30, |bytes| (bytes / 2).saturating_sub(threads)))
}

/// Whether another system goes into a batch that has `atoms` already, of at most `most`: a system that is larger goes alone.
pub fn takes(atoms: usize, most: usize, next: &Structure) -> bool {
    atoms == 0 || atoms + next.n_atoms() <= most
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ModelFile;

    fn config(kind: &str) -> Config {
        let mut file = ModelFile::default();
        for (key, value) in [
            ("model", kind),
            ("n_atom_basis", "128"),
            ("n_interactions", "3"),
            ("n_rbf", "20"),
            ("cutoff", "5.0"),
            ("head", r#"{"layers":[128,64,1],"activation":"silu"}"#),
        ] {
            file.set(key, value);
        }
        file.config().expect("a config")
    }

    #[test]
    fn a_small_limit_makes_small_batches() {
        let config = config("painn");
        let per_atom = bytes_per_atom(&config, Dtype::F32);
        assert!((30e3..60e3).contains(&per_atom), "{per_atom}");
        assert_eq!(atoms_within(&config, Dtype::F32, (per_atom * 100.5) as u64), 100);
        assert_eq!(atoms_within(&config, Dtype::F32, 0), 1);
        assert_eq!(atoms_within(&config, Dtype::F32, u64::MAX), MOST_ATOMS);
        let double = atoms_within(&config, Dtype::F64, (per_atom * 100.5) as u64);
        assert!((50..60).contains(&double), "{double}");
        assert!(bytes_per_atom(&self::config("schnet"), Dtype::F32) < per_atom);
    }

    #[test]
    fn ten_thousand_atoms_take_less_than_two_gibibytes() {
        assert!(10_000.0 * bytes_per_atom(&config("painn"), Dtype::F32) < 2.0 * f64::from(1 << 30));
    }

    #[test]
    fn batches_end_before_the_limit() {
        let of = |n: usize| Structure::open("x", vec![1; n], vec![[0.0; 3]; n]);
        assert!(takes(0, 5, &of(50)) && takes(3, 5, &of(2)) && !takes(3, 5, &of(3)));
    }

    #[test]
    fn free_memory_is_known() {
        assert!(free().is_some_and(|bytes| bytes > 0));
    }
}
