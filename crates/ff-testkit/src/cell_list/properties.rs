//! What no list may depend on, for anything that makes lists.
//!
//! A property that moves atoms rounds them anew, so an edge may come or go where its distance is within rounding of the
//! cutoff, and vectors may differ by as much. All else holds exactly.

use std::collections::BTreeMap;

use ff_reference::cell_list::search;
use ff_spec::Dtype;
use ff_spec::cell_list::{Inputs, List, NeighborList};
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::compare;
use super::mutants::{Edge, assembled, edges};
use crate::cell_list::systems::{combined, random_rotation, rotated, rounded_batch};

/// Makes a list of inputs that are rounded to a dtype, in the arithmetic of that dtype.
pub type MakeList<'a> = dyn Fn(&Inputs<f64>, List) -> Result<NeighborList<f64>, String> + 'a;

/// Checks something of the lists of valid inputs; the seed says how they are moved.
///
/// The error names an edge for which it does not hold.
pub type Property = fn(&MakeList<'_>, &Inputs<f64>, List, Dtype, u64) -> Result<(), String>;

/// All properties by name.
pub const PROPERTIES: [(&str, Property); 9] = [
    ("rotation", rotation),
    ("translation", translation),
    ("wrapping", wrapping),
    ("permutation", permutation),
    ("supercell", supercell),
    ("batch", batch),
    ("halves", halves),
    ("symmetry", symmetry),
    ("oracle", oracle),
];

/// Checks all properties.
///
/// # Errors
/// The first that does not hold, with its name.
pub fn check_all(make: &MakeList<'_>, inputs: &Inputs<f64>, list: List, dtype: Dtype, seed: u64) -> Result<(), String> {
    for (name, property) in PROPERTIES {
        property(make, inputs, list, dtype, seed).map_err(|e| format!("{name}: {e}"))?;
    }
    Ok(())
}

/// Turning all systems, or mirroring them, turns the vectors and changes nothing else.
///
/// # Errors
/// As [`Property`].
pub fn rotation(make: &MakeList<'_>, inputs: &Inputs<f64>, list: List, dtype: Dtype, seed: u64) -> Result<(), String> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut turn = random_rotation(&mut rng);
    if rng.random() {
        turn[0] = turn[0].map(|x| -x);
    }
    let turned = |v: &[f64]| -> Vec<f64> { v.as_chunks::<3>().0.iter().flat_map(|v| rotated(&turn, *v)).collect() };
    let changed = Inputs { positions: turned(&inputs.positions), cell: turned(&inputs.cell), ..inputs.clone() };
    let back = std::array::from_fn(|c| std::array::from_fn(|k| turn[k][c]));
    same(make, inputs, list, dtype, &changed, 0.0, &|edge| Edge { vector: rotated(&back, edge.vector), ..edge })
}

/// Moving all atoms of a system by the same vector changes nothing.
///
/// # Errors
/// As [`Property`].
pub fn translation(
    make: &MakeList<'_>,
    inputs: &Inputs<f64>,
    list: List,
    dtype: Dtype,
    seed: u64,
) -> Result<(), String> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let (mut changed, mut furthest) = (inputs.clone(), 0.0);
    for system in 0..inputs.n_systems() {
        let by: [f64; 3] = std::array::from_fn(|_| rng.random_range(-20.0..20.0));
        furthest = f64::max(furthest, norm(by));
        for atom in inputs.atoms(system) {
            (0..3).for_each(|c| changed.positions[3 * atom + c] += by[c]);
        }
    }
    same(make, inputs, list, dtype, &changed, furthest, &|edge| edge)
}

/// Moving single atoms by lattice vectors changes the shifts by as much and nothing else.
///
/// # Errors
/// As [`Property`].
pub fn wrapping(make: &MakeList<'_>, inputs: &Inputs<f64>, list: List, dtype: Dtype, seed: u64) -> Result<(), String> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let (mut changed, mut wraps, mut furthest) = (inputs.clone(), Vec::new(), 0.0);
    for system in 0..inputs.n_systems() {
        for atom in inputs.atoms(system) {
            let wrap: [i32; 3] = inputs.pbc[system].map(|p| if p { rng.random_range(-3..=3) } else { 0 });
            let by = combined(wrap.map(f64::from), &inputs.cell(system));
            (0..3).for_each(|c| changed.positions[3 * atom + c] += by[c]);
            wraps.push(wrap);
            furthest = f64::max(furthest, images_length(inputs, system, wrap));
        }
    }
    same(make, inputs, list, dtype, &changed, furthest, &|edge| {
        let (to, from) = (wraps[edge.sender as usize], wraps[edge.receiver as usize]);
        Edge { shift: std::array::from_fn(|k| edge.shift[k] + to[k] - from[k]), ..edge }
    })
}

/// The atoms of a system may be numbered in any order.
///
/// # Errors
/// As [`Property`].
pub fn permutation(
    make: &MakeList<'_>,
    inputs: &Inputs<f64>,
    list: List,
    dtype: Dtype,
    seed: u64,
) -> Result<(), String> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut old: Vec<usize> = (0..inputs.n_atoms()).collect();
    for system in 0..inputs.n_systems() {
        old[inputs.atoms(system)].shuffle(&mut rng);
    }
    let positions = old.iter().flat_map(|atom| inputs.position(*atom)).collect();
    let changed = Inputs { positions, ..inputs.clone() };
    let old_of = |atom: u32| old[atom as usize] as u32;
    same(make, inputs, list, dtype, &changed, 0.0, &|edge| Edge {
        receiver: old_of(edge.receiver),
        sender: old_of(edge.sender),
        ..edge
    })
}

/// In a crystal of several cells every copy of an atom sees what the atom sees.
///
/// # Errors
/// As [`Property`].
pub fn supercell(make: &MakeList<'_>, inputs: &Inputs<f64>, list: List, dtype: Dtype, seed: u64) -> Result<(), String> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    // No more than 2 × 2 × 3 copies, for the sake of what is quadratic in atoms.
    let repeats: [i32; 3] = [rng.random_range(1..=2), rng.random_range(1..=2), rng.random_range(1..=3)];
    let mut changed = Inputs { positions: Vec::new(), system_ptr: vec![0], cell: Vec::new(), ..inputs.clone() };
    // Of every new atom the old one and the cell of its copy, of every old one how often it is there.
    let (mut origin, mut times, mut furthest) = (Vec::new(), Vec::new(), 0.0);
    for system in 0..inputs.n_systems() {
        let (cell, pbc) = (inputs.cell(system), inputs.pbc[system]);
        let repeats: [i32; 3] = std::array::from_fn(|k| if pbc[k] { repeats[k] } else { 1 });
        let copies =
            (0..repeats[0]).flat_map(|a| (0..repeats[1]).flat_map(move |b| (0..repeats[2]).map(move |c| [a, b, c])));
        for copy in copies {
            let by = combined(copy.map(f64::from), &cell);
            furthest = f64::max(furthest, images_length(inputs, system, copy));
            for atom in inputs.atoms(system) {
                let x = inputs.position(atom);
                changed.positions.extend((0..3).map(|c| x[c] + by[c]));
                origin.push((atom as u32, copy));
                times.push(repeats);
            }
        }
        changed.system_ptr.push(origin.len() as u32);
        changed.cell.extend((0..3).flat_map(|k| cell[k].map(|x| x * f64::from(repeats[k]))));
    }
    let changed = rounded_batch(&changed, dtype);
    let before = pairs(make, inputs, list)?;
    let after = pairs(make, &changed, list).map_err(|e| format!("repeated: {e}"))?;
    // Every copy of a receiver has a list of its own.
    let mut seen: BTreeMap<[i32; 3], Vec<Edge>> = origin.iter().map(|(_, copy)| (*copy, Vec::new())).collect();
    for edge in after {
        let ((receiver, from), (sender, to)) = (origin[edge.receiver as usize], origin[edge.sender as usize]);
        let times = times[edge.receiver as usize];
        let shift = std::array::from_fn(|k| to[k] - from[k] + times[k] * edge.shift[k]);
        seen.entry(from).or_default().push(Edge { receiver, sender, shift, ..edge });
    }
    for (copy, after) in seen {
        let has_copy = |e: &Edge| (0..3).all(|k| copy[k] == 0 || (inputs.pbc[system_of(inputs, e.receiver)][k]));
        let before = before.iter().filter(|e| has_copy(e)).copied().collect();
        alike(inputs, dtype, 2.0 * furthest, before, after).map_err(|e| format!("copy {copy:?}: {e}"))?;
    }
    Ok(())
}

/// The list of a batch is those of its systems, one after the other, to the last bit.
///
/// # Errors
/// As [`Property`].
pub fn batch(make: &MakeList<'_>, inputs: &Inputs<f64>, list: List, _: Dtype, _: u64) -> Result<(), String> {
    let mut expected = Vec::new();
    for system in 0..inputs.n_systems() {
        let atoms = inputs.atoms(system);
        let alone = Inputs {
            positions: inputs.positions[3 * atoms.start..3 * atoms.end].to_vec(),
            system_ptr: vec![0, atoms.len() as u32],
            cell: inputs.cell[9 * system..9 * system + 9].to_vec(),
            pbc: vec![inputs.pbc[system]],
            cutoff: inputs.cutoff,
        };
        let found = make(&alone, list).map_err(|e| format!("system {system} alone: {e}"))?;
        let first = atoms.start as u32;
        let moved = |e: Edge| Edge { receiver: e.receiver + first, sender: e.sender + first, ..e };
        expected.extend(edges(&found).into_iter().map(moved));
    }
    identical("of single systems", &assembled(inputs.n_atoms(), expected), "of the batch", &make(inputs, list)?)
}

/// The half list and its reverse are the full list, to the last bit.
///
/// # Errors
/// As [`Property`].
pub fn halves(make: &MakeList<'_>, inputs: &Inputs<f64>, _: List, _: Dtype, _: u64) -> Result<(), String> {
    let both = pairs(make, inputs, List::Half)?;
    identical("half", &assembled(inputs.n_atoms(), both), "full", &make(inputs, List::Full)?)
}

/// A full list has the exact negative of every edge, a half list has no edge whose reverse it has.
///
/// # Errors
/// As [`Property`].
pub fn symmetry(make: &MakeList<'_>, inputs: &Inputs<f64>, list: List, _: Dtype, _: u64) -> Result<(), String> {
    let found = edges(&make(inputs, list)?);
    let by_key: BTreeMap<_, _> = found.iter().map(|e| (e.key(), e.vector)).collect();
    for edge in &found {
        let back = edge.reverse();
        match (list, by_key.get(&back.key())) {
            (List::Full, None) => return Err(format!("{edge:?} has no reverse")),
            // Equal as numbers: the negative of 0 may be either.
            (List::Full, Some(vector)) if *vector != back.vector => {
                return Err(format!("the reverse of {edge:?} has the vector {vector:?}"));
            }
            (List::Half, Some(_)) => return Err(format!("{edge:?} and its reverse are both in a half list")),
            _ => {}
        }
    }
    Ok(())
}

/// The list is that of the oracle.
///
/// # Errors
/// As [`Property`].
pub fn oracle(make: &MakeList<'_>, inputs: &Inputs<f64>, list: List, dtype: Dtype, _: u64) -> Result<(), String> {
    let expected = search(inputs, list, dtype).map_err(|e| format!("oracle: {e}"))?;
    compare(&make(inputs, list)?, &expected, dtype).map(|_| ()).map_err(|failure| failure.to_string())
}

/// The edges of a full list, or of a half list and its reverse.
fn pairs(make: &MakeList<'_>, inputs: &Inputs<f64>, list: List) -> Result<Vec<Edge>, String> {
    let mut found = edges(&make(inputs, list)?);
    if list == List::Half {
        let back: Vec<Edge> = found.iter().map(|e| e.reverse()).collect();
        found.extend(back);
    }
    Ok(found)
}

/// Checks that `changed` has the edges of `inputs`, once `back` has made them edges of those.
fn same(
    make: &MakeList<'_>,
    inputs: &Inputs<f64>,
    list: List,
    dtype: Dtype,
    changed: &Inputs<f64>,
    moved: f64,
    back: &dyn Fn(Edge) -> Edge,
) -> Result<(), String> {
    let before = pairs(make, inputs, list)?;
    let after = pairs(make, &rounded_batch(changed, dtype), list).map_err(|e| format!("moved: {e}"))?;
    alike(inputs, dtype, 2.0 * moved, before, after.into_iter().map(back).collect())
}

/// Checks that two sets of edges of the same inputs are equal up to rounding, where `moved` in Å is how far the atoms of
/// a pair were moved, together, before the second was made.
///
/// Either search may be off by 4 ε (‖m‖ + r_c), as the oracle derives, in the second with an m that is larger by no more
/// than what atoms were moved and what their shifts were changed by, and with inputs that were rounded once more.
fn alike(inputs: &Inputs<f64>, dtype: Dtype, moved: f64, before: Vec<Edge>, after: Vec<Edge>) -> Result<(), String> {
    let epsilon = match dtype {
        Dtype::F32 => f64::from(f32::EPSILON),
        Dtype::F64 => f64::EPSILON,
    };
    let slack = |edge: &Edge| {
        let at = |atom: u32| norm(inputs.position(atom as usize));
        let shifted = images_length(inputs, system_of(inputs, edge.receiver), edge.shift);
        16.0 * epsilon * (at(edge.receiver) + at(edge.sender) + shifted + 2.0 * moved + inputs.cutoff)
    };
    let (n_before, n_after) = (before.len(), after.len());
    let first: BTreeMap<_, _> = before.into_iter().map(|e| (e.key(), e)).collect();
    let second: BTreeMap<_, _> = after.into_iter().map(|e| (e.key(), e)).collect();
    if (first.len(), second.len()) != (n_before, n_after) {
        return Err("an edge is listed twice".to_owned());
    }
    for (one, other, where_) in [(&first, &second, "after"), (&second, &first, "before")] {
        for (key, edge) in one {
            let allowed = slack(edge);
            let (off, how) = match other.get(key) {
                Some(twin) => (
                    norm(std::array::from_fn(|c| edge.vector[c] - twin.vector[c])),
                    format!("has the vector {:?} {where_} the change", twin.vector),
                ),
                None => ((norm(edge.vector) - inputs.cutoff).abs(), format!("is not there {where_} the change")),
            };
            if off > allowed || off.is_nan() {
                return Err(format!("{edge:?} {how}; {off:e} Å is more than rounding, {allowed:e} Å"));
            }
        }
    }
    Ok(())
}

/// Checks that two lists are equal to the last bit.
fn identical(
    name: &str,
    expected: &NeighborList<f64>,
    other_name: &str,
    found: &NeighborList<f64>,
) -> Result<(), String> {
    let (a, b) = (edges(expected), edges(found));
    // Equal as numbers: a reverse has −0 where the edge itself has 0.
    if let Some((a, b)) = a.iter().zip(&b).find(|(a, b)| a != b) {
        return Err(format!("{a:?} in the list {name}, {b:?} in the list {other_name}"));
    }
    if a.len() != b.len() {
        return Err(format!("{} edges in the list {name}, {} in the list {other_name}", a.len(), b.len()));
    }
    let rest = |list: &NeighborList<f64>| (list.row_ptr.clone(), list.sender_ptr.clone(), list.transpose.clone());
    if rest(expected) != rest(found) {
        return Err(format!("`row_ptr`, `sender_ptr` or `transpose` differ between the lists {name} and {other_name}"));
    }
    Ok(())
}

/// Σ|S_k|‖H_k‖.
fn images_length(inputs: &Inputs<f64>, system: usize, shift: [i32; 3]) -> f64 {
    let cell = inputs.cell(system);
    (0..3).filter(|k| shift[*k] != 0).map(|k| f64::from(shift[k]).abs() * norm(cell[k])).sum()
}

fn system_of(inputs: &Inputs<f64>, atom: u32) -> usize {
    inputs.system_ptr.partition_point(|start| *start <= atom) - 1
}

fn norm(r: [f64; 3]) -> f64 {
    r.iter().map(|x| x * x).sum::<f64>().sqrt()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::cell_list::mutants::scalar_list;
    use crate::cell_list::systems::{Arrangement, BatchSpec, CellSpec, SystemSpec, random_batch, strategies};

    fn scalar(dtype: Dtype) -> impl Fn(&Inputs<f64>, List) -> Result<NeighborList<f64>, String> {
        move |inputs, list| scalar_list(inputs, list, dtype).map_err(|e| e.to_string())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn a_right_search_has_all_properties(inputs in strategies::batch(), seed in any::<u64>()) {
            for dtype in Dtype::ALL {
                let inputs = rounded_batch(&inputs, dtype);
                for list in List::ALL {
                    let found = check_all(&scalar(dtype), &inputs, list, dtype, seed);
                    prop_assert_eq!(found, Ok(()), "{:?} {}", list, dtype);
                }
            }
        }
    }

    /// Two systems in which every atom sees others, itself and images some cells away.
    fn crowd() -> Inputs<f64> {
        let system = |skew| SystemSpec {
            n_atoms: 9,
            cell: CellSpec { skew, ..CellSpec::upright([4.0, 5.0, 6.0]) },
            pbc: [true; 3],
            arrangement: Arrangement::Uniform,
        };
        random_batch(&BatchSpec { systems: vec![system(0.0), system(0.7)], cutoff: 5.5 }, 3)
    }

    /// A search in which edges for which `keep` does not hold are missing.
    fn without(
        keep: impl Fn(&Inputs<f64>, List, &Edge) -> bool,
    ) -> impl Fn(&Inputs<f64>, List) -> Result<NeighborList<f64>, String> {
        move |inputs, list| {
            let kept = edges(&scalar(Dtype::F64)(inputs, list)?).into_iter().filter(|e| keep(inputs, list, e));
            Ok(assembled(inputs.n_atoms(), kept.collect()))
        }
    }

    /// Each property has something that it alone is there to find.
    #[test]
    fn every_property_can_fail() {
        let inputs = crowd();
        type Make = Box<dyn Fn(&Inputs<f64>, List) -> Result<NeighborList<f64>, String>>;
        let faulty: [(&str, Make); 9] = [
            // A slab instead of a sphere.
            ("rotation", Box::new(without(|i, _, e| e.vector[0].abs() < 0.5 * i.cutoff))),
            // A grid that starts at the origin.
            ("translation", Box::new(without(|i, _, e| i.position(e.receiver as usize)[0] > 0.0))),
            // Next neighbours of the cell only.
            ("wrapping", Box::new(without(|_, _, e| e.shift.iter().all(|s| s.abs() <= 1)))),
            ("permutation", Box::new(without(|i, _, e| !i.system_ptr.contains(&e.receiver)))),
            ("supercell", Box::new(without(|_, _, e| e.receiver != e.sender))),
            ("batch", Box::new(without(|i, _, e| i.n_systems() == 1 || e.receiver as usize + 1 < i.n_atoms()))),
            ("halves", Box::new(without(|_, list, e| list == List::Full || e.sender % 5 != 4))),
            ("symmetry", Box::new(without(|_, list, e| list == List::Half || e.receiver != 3))),
            (
                "oracle",
                Box::new(|inputs, list| {
                    let mut found = scalar(Dtype::F64)(inputs, list)?;
                    found.edge_vec.iter_mut().flatten().for_each(|x| *x *= 1.0 + 1e-9);
                    Ok(found)
                }),
            ),
        ];
        for ((name, property), (of, make)) in PROPERTIES.into_iter().zip(&faulty) {
            assert_eq!(name, *of);
            // How atoms are moved is a matter of chance: one of a few seeds must show it.
            let caught =
                |make: &MakeList<'_>| (0..5).any(|seed| property(make, &inputs, List::Full, Dtype::F64, seed).is_err());
            assert!(caught(make), "{name} let its fault pass");
            assert!(!caught(&scalar(Dtype::F64)), "{name} refuses a right search");
        }
    }

    #[test]
    fn an_edge_that_is_not_near_the_cutoff_may_not_vanish() {
        let inputs = crowd();
        let all = edges(&scalar(Dtype::F64)(&inputs, List::Full).unwrap());
        let mut fewer = all.clone();
        fewer.pop();
        assert!(alike(&inputs, Dtype::F64, 0.0, all.clone(), fewer).unwrap_err().contains("is not there after"));
        let mut off = all.clone();
        off[0].vector[1] += 1e-9;
        assert!(alike(&inputs, Dtype::F64, 0.0, all.clone(), off.clone()).is_err());
        assert!(alike(&inputs, Dtype::F32, 0.0, all.clone(), off).is_ok());
        let twice = [all.clone(), all.clone()].concat();
        assert!(alike(&inputs, Dtype::F64, 0.0, all, twice).is_err());
    }
}
