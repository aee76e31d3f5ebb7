//! What lists of neighbours are judged by: cases, comparison, faults on purpose, and what no list may depend on.

use std::convert::identity;

use ff_reference::cell_list::{Oracle, search};
use ff_spec::cell_list::{InputError, NeighborList, Strategy, Variant};
use ff_spec::{CellList, Dtype, Problem};

use crate::case::{Case, CaseSet};
use crate::gated::{Evaluated, Failure, Gated};
use systems::{Arrangement, BatchSpec, CellSpec, SystemSpec, random_batch, rounded_batch};

mod compare;
pub mod mutants;
pub mod properties;
pub mod systems;

pub use compare::{compare, discriminates};

const OPEN: [bool; 3] = [false; 3];
const PERIODIC: [bool; 3] = [true; 3];

fn system(n_atoms: usize, cell: CellSpec, pbc: [bool; 3], arrangement: Arrangement) -> SystemSpec {
    SystemSpec { n_atoms, cell, pbc, arrangement }
}

/// The cases, the same for every variant.
///
/// Cells of a real liquid hold about 0.1 atoms per Å³. Sizes are such that one evaluation of the oracle takes less than a
/// second.
pub fn cases(set: CaseSet) -> Vec<Case<BatchSpec>> {
    use Arrangement::{Chain, Clusters, Coincident, Lattice, Liquid, Uniform, Unwrapped};
    let upright = CellSpec::upright;
    let exact = |lengths| CellSpec { jitter: 0.0, ..upright(lengths) };
    let skewed = |lengths, skew| CellSpec { skew, ..upright(lengths) };
    let any = |lengths, skew| CellSpec { left_handed: true, rotated: true, ..skewed(lengths, skew) };
    let case = |id, cutoff, systems| Case { id, spec: BatchSpec { systems, cutoff }, degenerate: false };
    let nothing = |id, systems| Case { id, spec: BatchSpec { systems, cutoff: 5.0 }, degenerate: true };
    let mixes: Vec<[bool; 3]> = (0..8).map(|bits| [1, 2, 4].map(|bit| bits & bit != 0)).collect();
    let mut all = vec![
        case("molecule", 5.0, vec![system(21, upright([7.0, 6.0, 5.0]), OPEN, Liquid)]),
        case("liquid", 4.5, vec![system(216, upright([13.0; 3]), PERIODIC, Liquid)]),
        case("triclinic", 5.0, vec![system(60, skewed([8.0, 9.0, 8.5], 0.5), PERIODIC, Liquid)]),
        // Far from reduced: the shortest vectors of the lattice are long sums of these.
        case("skewed", 4.0, vec![system(30, skewed([6.0, 7.0, 7.5], 3.0), PERIODIC, Uniform)]),
        case("left_handed", 5.0, vec![system(50, any([9.0, 7.0, 8.0], 0.8), PERIODIC, Liquid)]),
        // Thinner than the cutoff, in one direction and in all, upright and not.
        case(
            "thin",
            5.0,
            vec![
                system(12, upright([2.1, 9.0, 8.0]), PERIODIC, Uniform),
                system(5, any([3.0, 2.5, 4.0], 1.2), PERIODIC, Uniform),
            ],
        ),
        case(
            "mixed_pbc",
            4.0,
            mixes.iter().map(|pbc| system(14, any([4.0, 6.5, 9.0], 0.6), *pbc, Unwrapped(2))).collect(),
        ),
        case("one_atom", 5.0, vec![system(1, skewed([2.5, 3.0, 2.8], 0.7), PERIODIC, Uniform)]),
        case(
            "empty_systems",
            5.0,
            [0, 5, 0, 0, 17, 1, 0].map(|n| system(n, upright([7.0, 8.0, 9.0]), PERIODIC, Uniform)).to_vec(),
        ),
        case("coincident", 3.0, vec![system(31, upright([6.0, 7.0, 8.0]), [true, false, true], Coincident)]),
        case("unwrapped", 5.0, vec![system(40, any([7.0, 8.0, 7.5], 0.4), PERIODIC, Unwrapped(6))]),
        // Whole distances, many of them exactly the cutoff, in cells of powers of two: nothing rounds.
        case(
            "lattice",
            3.0,
            vec![
                system(64, exact([4.0; 3]), PERIODIC, Lattice),
                system(64, exact([8.0, 4.0, 2.0]), [true, false, true], Lattice),
                system(30, exact([2.0, 16.0, 1.0]), OPEN, Lattice),
            ],
        ),
        nothing("no_atoms", vec![system(0, upright([5.0; 3]), PERIODIC, Uniform)]),
        nothing("lone_atom", vec![system(1, upright([1.0; 3]), OPEN, Uniform)]),
    ];
    if set == CaseSet::Full {
        all.extend([
            nothing("no_systems", Vec::new()),
            // Alone in a cell that is wider than the cutoff.
            nothing("no_images", vec![system(1, skewed([12.0; 3], 0.3), PERIODIC, Unwrapped(3))]),
            case("ragged", 4.5, ragged(&mixes)),
            // No grid of cells over this box fits into memory.
            case("huge_box", 4.0, vec![system(90, upright([1e5; 3]), PERIODIC, Clusters(2.0))]),
            case("chain", 5.0, vec![system(700, upright([2.0, 2.0, 900.0]), [false, false, true], Chain)]),
            case(
                "many_systems",
                3.0,
                (0..2000).map(|i| system(2 + i % 2, upright([3.5, 4.0, 4.5]), mixes[i % 8], Uniform)).collect(),
            ),
            case("long_rows", 6.0, vec![system(40, upright([4.0; 3]), PERIODIC, Liquid)]),
            // A thousand images and more of each of two atoms.
            case("many_images", 6.0, vec![system(2, skewed([0.9, 1.1, 1.0], 0.5), PERIODIC, Uniform)]),
            case("dense", 2.0, vec![system(300, upright([9.0; 3]), PERIODIC, Clusters(1.5))]),
            case("large_liquid", 5.0, vec![system(1500, upright([25.0, 24.0, 25.5]), PERIODIC, Liquid)]),
        ]);
    }
    all
}

/// Forty systems of 0 to 60 atoms that have nothing in common.
fn ragged(mixes: &[[bool; 3]]) -> Vec<SystemSpec> {
    (0..40)
        .map(|i| {
            // 37 is prime to 61, so the sizes jump about.
            let n_atoms = i * 37 % 61;
            let length = (10.0 * n_atoms as f64).cbrt().max(3.0);
            let cell = CellSpec {
                lengths: [length, 1.3 * length, 0.8 * length],
                skew: 0.25 * (i % 5) as f64,
                left_handed: i % 2 == 0,
                rotated: i % 3 == 0,
                jitter: 0.03,
            };
            let arrangement = if i % 4 == 0 { Arrangement::Unwrapped(3) } else { Arrangement::Liquid };
            system(n_atoms, cell, mixes[i % mixes.len()], arrangement)
        })
        .collect()
}

impl Gated for CellList {
    type Spec = BatchSpec;
    type Oracle = Oracle;
    type Error = InputError;

    fn cases(_: &Variant, set: CaseSet) -> Vec<Case<BatchSpec>> {
        cases(set)
    }

    fn representative(variant: &Variant) -> Variant {
        Variant { strategy: Strategy::Brute, ..*variant }
    }

    fn evaluate(
        case: &Case<BatchSpec>,
        variant: &Variant,
        dtype: Dtype,
        seed: u64,
    ) -> Result<Evaluated<Self>, InputError> {
        let inputs = rounded_batch(&random_batch(&case.spec, seed), dtype);
        let oracle = search(&inputs, variant.list, dtype)?;
        Ok(Evaluated { inputs, oracle })
    }

    fn bytes(Evaluated { inputs, oracle }: &Evaluated<Self>) -> usize {
        let per_edge = size_of::<bool>() + size_of::<[f64; 3]>();
        size_of_val(&inputs.positions[..]) + oracle.edges.bytes() + oracle.edges.n_edges() * per_edge
    }

    fn problem(name: &str, Evaluated { inputs, oracle }: &Evaluated<Self>) -> Problem {
        inputs.problem(name, &oracle.edges.row_ptr)
    }

    fn discriminates(oracle: &Oracle, dtype: Dtype) -> Result<(), String> {
        discriminates(oracle, dtype)
    }

    /// How many edges there will be is not known before a run, so nothing at all is as good as poison.
    fn survivor(outputs: &NeighborList<f64>) -> Option<String> {
        let offsets = outputs.row_ptr.iter().chain(&outputs.sender_ptr);
        let survived = [
            offsets.chain(&outputs.sender).chain(&outputs.transpose).any(|x| *x != u32::MAX),
            outputs.shift.as_flattened().iter().any(|x| *x != i32::MAX),
            outputs.edge_vec.as_flattened().iter().any(|x| !x.is_nan()),
        ];
        survived.into_iter().any(identity).then(|| {
            let n_edges = outputs.n_edges();
            format!("a list of {n_edges} edges that are not all NaN and the largest integers is there")
        })
    }

    fn compare(outputs: &NeighborList<f64>, oracle: &Oracle, dtype: Dtype) -> Result<(f64, f64), Failure> {
        compare(outputs, oracle, dtype)
    }

    /// The order of a list is part of what it is, so every variant promises the same bits.
    fn broken_promise(_: &Variant, first: &NeighborList<f64>, second: &NeighborList<f64>) -> Option<String> {
        let bits = |list: &NeighborList<f64>| -> Vec<u64> {
            list.edge_vec.as_flattened().iter().map(|x| x.to_bits()).collect()
        };
        let differs = [
            ("row_ptr", first.row_ptr != second.row_ptr),
            ("sender", first.sender != second.sender),
            ("shift", first.shift != second.shift),
            ("edge_vec", bits(first) != bits(second)),
            ("sender_ptr", first.sender_ptr != second.sender_ptr),
            ("transpose", first.transpose != second.transpose),
        ];
        let (tensor, _) = differs.into_iter().find(|(_, differs)| *differs)?;
        Some(format!("lists have the same bits on every run, but `{tensor}` differs between the first and the second"))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use ff_spec::cell_list::List;

    use super::*;
    use crate::catalogue::OracleCache;

    fn variant(list: List) -> Variant {
        Variant { list, strategy: Strategy::Cells }
    }

    #[test]
    fn ids_are_unique_and_quick_is_part_of_full() {
        let (quick, full) = (cases(CaseSet::Quick), cases(CaseSet::Full));
        assert_eq!(full.iter().map(|c| c.id).collect::<BTreeSet<_>>().len(), full.len());
        assert!(quick.iter().all(|case| full.contains(case)));
    }

    #[test]
    fn every_case_is_what_its_flag_says_and_tells() {
        let mut cache = OracleCache::<CellList>::default();
        for list in List::ALL {
            for case in cases(CaseSet::Full) {
                for seed in 0..3 {
                    let evaluated = cache.get(&case, &variant(list), Dtype::F32, seed).unwrap();
                    let pairs: usize =
                        (0..evaluated.inputs.n_systems()).map(|s| evaluated.inputs.atoms(s).len().pow(2)).sum();
                    assert!(pairs < 3_000_000, "{}: {pairs} pairs are too many for the oracle", case.id);
                    let oracle = &evaluated.oracle;
                    assert_eq!(oracle.n_certain() == 0, case.degenerate, "{} of {list:?}, seed {seed}", case.id);
                    assert_eq!(discriminates(oracle, Dtype::F32), Ok(()), "{} of {list:?}, seed {seed}", case.id);
                }
            }
        }
    }

    /// What a case is in the catalogue for.
    #[test]
    fn cases_are_what_they_are_called() {
        let mut cache = OracleCache::<CellList>::default();
        let mut get = |id: &str, list| {
            let case = cases(CaseSet::Full).into_iter().find(|c| c.id == id).unwrap();
            cache.get(&case, &variant(list), Dtype::F64, 1).unwrap()
        };
        let longest = |e: &Evaluated<CellList>| e.oracle.edges.row_ptr.windows(2).map(|w| w[1] - w[0]).max().unwrap();
        assert!(longest(&get("long_rows", List::Half)) > 256);
        assert!(longest(&get("many_images", List::Full)) > 1000);
        for id in ["thin", "one_atom"] {
            let found = get(id, List::Full);
            let own = mutants::edges(&found.oracle.edges).iter().filter(|e| e.receiver == e.sender).count();
            assert!(own > 0, "{id} has no atom that sees itself");
        }
        let lattice = get("lattice", List::Full);
        assert!(lattice.oracle.ambiguous.iter().all(|a| !a), "nothing rounds on a lattice");
        let longer = ff_spec::cell_list::Inputs { cutoff: 3.0_f64.next_up(), ..lattice.inputs.clone() };
        let longer = search(&longer, List::Full, Dtype::F64).unwrap();
        assert!(longer.edges.n_edges() > lattice.oracle.edges.n_edges(), "no pair exactly at the cutoff");
        let coincident = get("coincident", List::Half);
        assert!(coincident.oracle.edges.edge_vec.contains(&[0.0; 3]));
        assert_eq!(get("many_systems", List::Full).inputs.n_systems(), 2000);
    }
}
