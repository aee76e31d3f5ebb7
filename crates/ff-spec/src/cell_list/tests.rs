use std::f64::consts::PI;

use super::*;

/// One system of a lattice of points 1 Å apart, `sizes` of them along each axis, each axis periodic or not.
fn lattice(sizes: [usize; 3], pbc: [bool; 3], cutoff: f64) -> Inputs<f64> {
    let [a, b, c] = sizes;
    let points = (0..a * b * c).flat_map(|at| [at / (b * c), at / c % b, at % c].map(|x| x as f64));
    let cell = (0..9).map(|at| if at % 4 == 0 { sizes[at / 4] as f64 } else { 0.0 });
    Inputs {
        positions: points.collect(),
        system_ptr: vec![0, (a * b * c) as u32],
        cell: cell.collect(),
        pbc: vec![pbc],
        cutoff,
    }
}

/// Edges of such a lattice, counted: of two points along an axis all images within reach, or the points there are.
fn counted(sizes: [usize; 3], pbc: [bool; 3], cutoff: f64) -> u64 {
    let steps = |k: usize| -> Vec<(i64, u64)> {
        let (size, reach) = (sizes[k] as i64, cutoff as i64 + 1);
        let pairs = |step: i64| if pbc[k] { size } else { (size - step.abs()).max(0) };
        (-reach..=reach).map(|step| (step, pairs(step) as u64)).collect()
    };
    let [first, second, third] = [steps(0), steps(1), steps(2)];
    let mut edges = 0;
    for (x, along_x) in &first {
        for (y, along_y) in &second {
            for (z, along_z) in &third {
                let square = x * x + y * y + z * z;
                if square > 0 && (square as f64) < cutoff * cutoff {
                    edges += along_x * along_y * along_z;
                }
            }
        }
    }
    edges
}

#[test]
fn sizes_are_near_those_of_an_even_density() {
    let (periodic, open) = ([true; 3], [false; 3]);
    for (sizes, pbc, cutoff, octaves) in [
        ([1, 1, 1], periodic, 5.2, 0.1),
        ([12, 12, 12], periodic, 3.3, 0.1),
        ([3, 9, 2], periodic, 4.4, 0.1),
        // Surfaces, edges and corners: half an octave of a key that looks three octaves around.
        ([12, 12, 12], open, 3.3, 0.5),
        ([5, 5, 5], open, 3.3, 0.5),
        ([8, 8, 8], [true, true, false], 3.3, 0.5),
        ([8, 8, 8], [false, false, true], 3.3, 0.5),
        // One layer and one row of atoms are the furthest from a density: 4/3 and 2/3 π times as many.
        ([9, 1, 9], [true, false, true], 4.4, 0.6),
        ([9, 1, 1], [true, false, false], 4.01, 1.1),
    ] {
        let found = lattice(sizes, pbc, cutoff).estimate("x");
        let expected = counted(sizes, pbc, cutoff);
        let off = (found.n_edges as f64 / expected as f64).log2();
        assert!(off.abs() < octaves, "{sizes:?} {pbc:?}: {found:?}, expected {expected}, {off:.2} octaves off");
        assert_eq!(found.max_degree, found.mean_degree().ceil() as u64);
    }
}

#[test]
fn sizes_depend_on_the_system_and_not_on_how_it_lies() {
    let upright = lattice([4, 5, 6], [true, true, false], 3.5);
    let expected = upright.estimate("x");
    assert_eq!((expected.name.as_str(), expected.n_atoms, expected.n_systems), ("x", 120, 1));
    // Exact: 120² atoms of 4/3 π 3.5³ in 4 · 5 · (5 + 3.5) Å³.
    assert_eq!(expected.n_edges, (14_400.0 * 4.0 / 3.0 * PI * 42.875 / 170.0_f64).round() as u64);
    let skewed = Inputs { cell: vec![4.0, 0.0, 0.0, 7.0, -5.0, 0.0, f64::NAN, 0.0, 9e9], ..upright.clone() };
    assert_eq!(skewed.estimate("x"), expected);
    let turned = Inputs {
        positions: upright
            .positions
            .chunks(3)
            .flat_map(|p| [p[2], 0.6 * p[0] - 0.8 * p[1], 0.8 * p[0] + 0.6 * p[1]])
            .collect(),
        cell: vec![0.0, 2.4, 3.2, 0.0, -4.0, 3.0, 0.0, 0.0, 0.0],
        ..upright.clone()
    };
    assert_eq!(turned.estimate("x"), expected);
    assert_eq!(upright.cast::<f32>().estimate("x"), expected);
    // Systems are counted one by one, empty ones too.
    let three = Inputs {
        positions: [&upright.positions[..], &upright.positions].concat(),
        system_ptr: vec![0, 120, 120, 240],
        cell: [&upright.cell[..], &upright.cell, &upright.cell].concat(),
        pbc: vec![upright.pbc[0]; 3],
        cutoff: upright.cutoff,
    };
    let found = three.estimate("x");
    assert_eq!((found.n_atoms, found.n_systems, found.max_degree), (240, 3, expected.max_degree));
    assert_eq!(found.n_edges, (2.0 * 14_400.0 * 4.0 / 3.0 * PI * 42.875 / 170.0_f64).round() as u64);
}

#[test]
fn sizes_stay_sane() {
    let molecule = Inputs { cutoff: 1e9, ..lattice([2, 2, 3], [false; 3], 1.0) };
    assert_eq!((molecule.estimate("").n_edges, molecule.estimate("").max_degree), (12 * 11, 11));
    let lone = lattice([1, 1, 1], [false; 3], 5.0).estimate("");
    assert_eq!((lone.n_edges, lone.max_degree), (0, 0));
    let flat = Inputs { cell: vec![0.0; 9], ..lattice([2, 2, 2], [true; 3], 5.0) };
    let dense = lattice([1, 1, 1], [true; 3], 1e30);
    for inputs in [flat, dense] {
        let found = inputs.estimate("");
        assert_eq!((found.n_edges, found.max_degree), (u64::from(u32::MAX), u64::from(u32::MAX)));
    }
    let none = Inputs { system_ptr: vec![0], pbc: vec![], ..lattice([0, 0, 0], [true; 3], 5.0) };
    assert_eq!((none.estimate("").n_edges, none.estimate("").n_systems), (0, 0));
}

#[test]
fn ids_round_trip() {
    for list in List::ALL {
        for strategy in Strategy::ALL {
            let variant = Variant { list, strategy };
            assert_eq!(variant.id().parse(), Ok(variant));
        }
    }
    for bad in ["", "full", "cells_full", "full_cells_", "half_brute_x"] {
        assert!(bad.parse::<Variant>().is_err(), "{bad} was accepted");
    }
}

#[test]
fn of_every_pair_a_half_list_has_one_edge() {
    for (i, j, shift) in [(0, 1, [0; 3]), (3, 2, [1, 0, -1]), (4, 4, [0, -1, 5]), (4, 4, [0, 0, 2])] {
        let back = shift.map(|s| -s);
        assert_ne!(List::Half.has(i, j, shift), List::Half.has(j, i, back));
        assert!(List::Full.has(i, j, shift) && List::Full.has(j, i, back));
    }
}

#[test]
fn what_is_wrong_is_named() {
    let good = Inputs {
        positions: vec![0.0; 9],
        system_ptr: vec![0, 1, 3],
        cell: vec![0.0; 18],
        pbc: vec![[false; 3]; 2],
        cutoff: 1.0,
    };
    assert_eq!(good.check(), Ok(()));
    let wrong = |change: &dyn Fn(&mut Inputs<f64>)| {
        let mut inputs = good.clone();
        change(&mut inputs);
        inputs.check().expect_err("wrong inputs")
    };
    let shape = |change: &dyn Fn(&mut Inputs<f64>), expected: &str| match wrong(change) {
        InputError::Shape { tensor, .. } => assert_eq!(tensor, expected),
        error => panic!("{error}"),
    };
    shape(&|i| i.positions.truncate(8), "positions");
    shape(&|i| i.system_ptr.truncate(2), "system_ptr");
    shape(&|i| i.cell.truncate(17), "cell");
    for bad in [[1, 1, 3], [0, 4, 3], [0, 2, 2], [0, 1, 4]] {
        assert!(matches!(wrong(&|i| i.system_ptr = bad.to_vec()), InputError::SystemPtr { .. }), "{bad:?}");
    }
    for bad in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        assert!(matches!(wrong(&|i| i.cutoff = bad), InputError::Cutoff { .. }));
    }
    assert!(matches!(wrong(&|i| i.positions[5] = f64::NAN), InputError::NotFinite { atom: 1, .. }));
    for bad in [-0.1, f64::NAN, f64::INFINITY] {
        assert!(matches!(Inputs::check_skin(bad), Err(InputError::Cutoff { .. })), "{bad}");
    }
    assert_eq!(Inputs::check_skin(0.0), Ok(()));
}
