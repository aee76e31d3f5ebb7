//! `neighbors` against all pairs of all images.

use ff_model::{NeighborList, builtin, neighbors};
use proptest::prelude::*;

type Cell = [[f64; 3]; 3];

/// Every pair and every image whose lattice planes can lie within the cutoff, in the documented order.
fn brute_force(positions: &[[f64; 3]], cell: Option<Cell>, pbc: [bool; 3], cutoff: f64) -> NeighborList {
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
    list
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
fn assert_symmetric(list: &NeighborList) {
    for i in 0..list.row_ptr.len() - 1 {
        for e in list.row(i) {
            let back = list
                .row(list.sender[e] as usize)
                .find(|&b| list.sender[b] as usize == i && list.shift[b] == list.shift[e].map(|s| -s));
            let back = back.unwrap_or_else(|| panic!("edge {e} of atom {i} has no reverse"));
            assert_eq!(list.edge_vec[back], list.edge_vec[e].map(|x| -x));
        }
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

/// `cargo test --release -p ff-model --test neighbors -- --ignored --nocapture`
#[test]
#[ignore = "prints a time"]
fn time_of_ten_thousand_waters() {
    let water = &builtin("water-10000").expect("water")[0];
    let start = std::time::Instant::now();
    let list = neighbors(&water.positions, water.cell, water.pbc, 5.0).expect("a list");
    println!("{} atoms, {} edges at 5 Å: {:?}", water.n_atoms(), list.n_edges(), start.elapsed());
}
