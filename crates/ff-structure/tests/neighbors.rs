//! `neighbors` against all pairs of all images.

use ff_spec::cell_list::NeighborList;
use ff_structure::{builtin, neighbors};
use proptest::prelude::*;

type Cell = [[f64; 3]; 3];

/// Every pair and every image whose lattice planes can lie within the cutoff, in the documented order.
fn brute_force(positions: &[[f64; 3]], cell: Option<Cell>, pbc: [bool; 3], cutoff: f64) -> NeighborList<f64> {
    let h = cell.unwrap_or_default();
    let images = |k: usize, i: usize, j: usize| -> std::ops::RangeInclusive<i32> {
        if !pbc[k] {
            return 0..=0;
        }
        // The pair's vector has |component along the normal of the other periodic vectors| ≤ d; the normal is taken
        // within the span of all periodic vectors, where the others project it out one after the other.
        let mut others: Vec<[f64; 3]> = Vec::new();
        for l in (0..3).filter(|l| *l != k && pbc[*l]) {
            let rest = without(h[l], &others);
            others.push(rest.map(|x| x / dot(rest, rest).sqrt()));
        }
        let normal = without(h[k], &others);
        let height = dot(normal, normal).sqrt();
        let between: [f64; 3] = std::array::from_fn(|c| positions[j][c] - positions[i][c]);
        let at = -dot(between, normal) / (height * height);
        let reach = cutoff / height;
        ((at - reach).floor() as i32 - 1)..=((at + reach).ceil() as i32 + 1)
    };
    let mut list = NeighborList { row_ptr: vec![0], ..NeighborList::default() };
    for i in 0..positions.len() {
        for j in 0..positions.len() {
            for s in images(0, i, j) {
                for t in images(1, i, j) {
                    for u in images(2, i, j) {
                        let (x, y, z) = (f64::from(s), f64::from(t), f64::from(u));
                        let shifted = |c: usize| x * h[0][c] + y * h[1][c] + z * h[2][c];
                        let vec = std::array::from_fn(|c| (positions[j][c] - positions[i][c]) + shifted(c));
                        if dot(vec, vec) < cutoff * cutoff && (i != j || [s, t, u] != [0; 3]) {
                            list.sender.push(j as u32);
                            list.shift.push([s, t, u]);
                            list.edge_vec.push(vec);
                        }
                    }
                }
            }
        }
        list.row_ptr.push(list.sender.len() as u32);
    }
    list.sender_ptr = list.row_ptr.clone();
    list.transpose = (0..positions.len())
        .flat_map(|i| list.row(i).map(move |e| (i, e)))
        .map(|(i, e)| reverse(&list, i, e))
        .collect();
    list
}

/// The edge back from `edge` of receiver `i`.
fn reverse(list: &NeighborList<f64>, i: usize, edge: usize) -> u32 {
    let back = list
        .row(list.sender[edge] as usize)
        .find(|&b| list.sender[b] as usize == i && list.shift[b] == list.shift[edge].map(|s| -s));
    back.unwrap_or_else(|| panic!("edge {edge} of atom {i} has no reverse")) as u32
}

fn dot(a: [f64; 3], b: [f64; 3]) -> f64 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

fn without(v: [f64; 3], directions: &[[f64; 3]]) -> [f64; 3] {
    directions.iter().fold(v, |v, u| {
        let along = dot(v, *u);
        std::array::from_fn(|c| v[c] - along * u[c])
    })
}

fn volume([a, b, c]: Cell) -> f64 {
    a[0] * (b[1] * c[2] - b[2] * c[1]) - a[1] * (b[0] * c[2] - b[2] * c[0]) + a[2] * (b[0] * c[1] - b[1] * c[0])
}

/// Every edge has its exact negative as an edge of the other atom.
fn assert_symmetric(list: &NeighborList<f64>) {
    for edge in 0..list.n_edges() {
        assert_eq!(list.edge_vec[list.transpose[edge] as usize], list.edge_vec[edge].map(|x| -x));
    }
}

prop_compose! {
    /// Cells of any handedness and skew whose shortest and longest rows differ up to sixty-fold, flat ones included.
    fn cells()(rows in prop::array::uniform3(prop::array::uniform3(-1.0..1.0f64)), scale in prop::array::uniform3(0.2..12.0f64))
        -> Cell { std::array::from_fn(|k| rows[k].map(|x| x * scale[k])) }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn equals_brute_force(
        cell in cells(),
        pbc in prop::array::uniform3(any::<bool>()),
        // Lattice coordinates: several cells outside the box, too.
        positions in prop::collection::vec(prop::array::uniform3(-3.0..4.0f64), 0..9),
        coincide in any::<bool>(),
        cutoff in 0.3..5.0f64,
    ) {
        // Flatter cells have more images than brute force visits in reasonable time.
        prop_assume!(volume(cell).abs() > 0.05 * cell.iter().map(|r| dot(*r, *r).sqrt()).product::<f64>());
        prop_assume!(volume(cell).abs() > 0.5);
        let mut positions: Vec<[f64; 3]> = positions
            .iter()
            .map(|s| std::array::from_fn(|c| s[0] * cell[0][c] + s[1] * cell[1][c] + s[2] * cell[2][c]))
            .collect();
        if coincide && let Some(first) = positions.first().copied() {
            positions.push(first);
        }
        let list = neighbors(&positions, Some(cell), pbc, cutoff).expect("a list");
        prop_assert_eq!(&list, &brute_force(&positions, Some(cell), pbc, cutoff));
        assert_symmetric(&list);
    }

    #[test]
    fn open_systems_equal_brute_force(
        positions in prop::collection::vec(prop::array::uniform3(-8.0..8.0f64), 0..60),
        cutoff in 0.3..20.0f64,
    ) {
        let list = neighbors(&positions, None, [false; 3], cutoff).expect("a list");
        prop_assert_eq!(list, brute_force(&positions, None, [false; 3], cutoff));
    }

    /// Lattice points at whole multiples of the bin width and the cutoff: pairs at exactly the cutoff are none.
    #[test]
    fn lattices_on_bin_edges_equal_brute_force(n in 1..5usize, cutoff in 1..4u32, pbc in prop::array::uniform3(any::<bool>())) {
        let l = n as f64;
        let cell = [[l, 0.0, 0.0], [0.0, 0.0, l], [0.0, l, 0.0]];
        let sites = || (0..n).map(|i| i as f64);
        let positions: Vec<_> = sites().flat_map(|x| sites().flat_map(move |y| sites().map(move |z| [x, y, z]))).collect();
        let list = neighbors(&positions, Some(cell), pbc, f64::from(cutoff)).expect("a list");
        if pbc == [true; 3] {
            // Lattice points within a sphere of radius 1, 2, 3, its surface and its centre excluded.
            let per_atom = [0, 26, 92][cutoff as usize - 1];
            prop_assert_eq!(list.n_edges(), per_atom * positions.len());
        }
        prop_assert_eq!(list, brute_force(&positions, Some(cell), pbc, f64::from(cutoff)));
    }
}

#[test]
fn crystals_have_their_coordination_numbers() {
    for (id, cutoff, expected) in [("si-1", 2.5, 4), ("si-3", 4.0, 16), ("nacl-1", 3.0, 6), ("nacl-2", 4.1, 18)] {
        let crystal = &builtin(id).expect("a crystal")[0];
        let list = neighbors(&crystal.positions, crystal.cell, crystal.pbc, cutoff).expect("a list");
        assert!((0..crystal.n_atoms()).all(|i| list.row(i).len() == expected), "{id} at {cutoff} Å");
    }
}
