//! `cell_list` in f64: every pair of every system in every image within reach, one after the other.
//!
//! Shapes and names are those of [`ff_spec::cell_list`]. Lengths are in Å.
//!
//! Two right implementations may disagree about a pair whose distance is within rounding of the cutoff, so the oracle
//! says of every edge whether it is one for certain. An implementation in a type of machine epsilon ε rounds, per
//! component of r = (x_j − x_i) + S·H with magnitude m = |x_j| + |x_i| + Σ|S_k H_k|: the difference once (ε/2 of
//! |x_j| + |x_i|), every product S_k H_k up to four times (S itself, the product, two additions) and the result once. That
//! is at most 2.5 ε m, hence 2.5 ε ‖m‖ in d; d² and r_c² and what follows add less than 2.5 ε r_c near the cutoff. All
//! pairs with |d − r_c| ≤ 4 ε (‖m‖ + r_c) are therefore ambiguous, with half as much again for the terms of second order
//! and the oracle's own rounding. Where the numbers are short enough that none of these operations rounds in that type,
//! as between points of a lattice of whole numbers, nothing is ambiguous: there d = r_c is no edge.

use std::ops::RangeInclusive;

use ff_spec::cell_list::{InputError, Inputs, List, NeighborList};
use ff_spec::{Dtype, Scalar};

/// Which edges there are, and which there may be.
#[derive(Clone, Debug, PartialEq)]
pub struct Oracle {
    /// Which of a pair's two edges are listed.
    pub list: List,
    /// Receivers whose edges were looked for, ascending; the rows of all others are empty.
    pub rows: Vec<usize>,
    /// All edges that may be in the list, certain and ambiguous ones, with vectors that are exact to the last bit.
    pub edges: NeighborList<f64>,
    /// Of each edge whether it is within rounding of the cutoff, so that it may be missing; [n_edges]. Both directions
    /// of a pair are or neither is.
    pub ambiguous: Vec<bool>,
    /// |x_j| + |x_i| + Σ|S_k H_k| per component of each edge vector, which rounding errors of it are judged by, in Å;
    /// [n_edges, 3].
    pub magnitude: Vec<[f64; 3]>,
}

impl Oracle {
    /// How many edges every right list has.
    pub fn n_certain(&self) -> usize {
        self.ambiguous.iter().filter(|a| !**a).count()
    }
}

/// More cells than this between an atom and its image, or more images for one pair, and the oracle gives up.
const LIMIT: f64 = (1 << 28) as f64;

/// Lattice vectors are dependent if one of them is this much shorter without its part along the others.
const INDEPENDENT: f64 = 1e-8;

/// Finds all edges that an implementation in `dtype` may list, given inputs that are rounded to it.
///
/// # Errors
/// [`InputError`] for inputs that no list can be made of.
pub fn search(inputs: &Inputs<f64>, list: List, dtype: Dtype) -> Result<Oracle, InputError> {
    search_rows(inputs, list, dtype, (0..inputs.n_atoms()).collect())
}

/// [`search`] for the edges of some receivers, in ascending order: of a large system all would take hours.
///
/// # Errors
/// As [`search`].
pub fn search_rows(inputs: &Inputs<f64>, list: List, dtype: Dtype, rows: Vec<usize>) -> Result<Oracle, InputError> {
    inputs.check()?;
    let mut wanted = rows.clone().into_iter().peekable();
    let mut oracle = Oracle {
        list,
        rows,
        edges: NeighborList { row_ptr: vec![0], ..NeighborList::default() },
        ambiguous: Vec::new(),
        magnitude: Vec::new(),
    };
    for system in 0..inputs.n_systems() {
        let lattice = Lattice::new(inputs.cell(system), inputs.pbc[system])
            .ok_or_else(|| InputError::SingularCell { system, found: inputs.cell(system), pbc: inputs.pbc[system] })?;
        let reach = inputs.cutoff + 2.0 * largest_tolerance(inputs, system, &lattice, dtype);
        for i in inputs.atoms(system) {
            if wanted.next_if_eq(&i).is_some() {
                for j in inputs.atoms(system) {
                    pair(inputs, (system, i, j), &lattice, reach, dtype, &mut oracle)?;
                }
            }
            let n_edges = oracle.edges.sender.len();
            let found = u32::try_from(n_edges).map_err(|_| InputError::TooMany {
                what: "edges",
                found: n_edges as u64,
                limit: u64::from(u32::MAX),
            })?;
            oracle.edges.row_ptr.push(found);
        }
    }
    (oracle.edges.sender_ptr, oracle.edges.transpose) = by_sender(&oracle.edges);
    Ok(oracle)
}

/// Adds the edges i ← j in all images. Images ascend, so that a row comes out sorted by (sender, shift).
fn pair(
    inputs: &Inputs<f64>,
    (system, i, j): (usize, usize, usize),
    lattice: &Lattice,
    reach: f64,
    dtype: Dtype,
    oracle: &mut Oracle,
) -> Result<(), InputError> {
    let (x_i, x_j) = (inputs.position(i), inputs.position(j));
    let mut images = [0..=0, 0..=0, 0..=0];
    let mut count = 1.0;
    for (k, images) in images.iter_mut().enumerate() {
        let found = lattice.images(k, std::array::from_fn(|c| x_j[c] - x_i[c]), reach);
        let furthest = found.start().abs().max(found.end().abs());
        if furthest.is_nan() || furthest > LIMIT {
            return Err(InputError::FarAway { atom: j, found: furthest, limit: LIMIT });
        }
        count *= (found.end() - found.start() + 1.0).max(0.0);
        *images = *found.start() as i32..=*found.end() as i32;
    }
    if count > LIMIT {
        return Err(InputError::TooManyImages { system, cutoff: inputs.cutoff, found: count, limit: LIMIT });
    }
    let [first, second, third] = images;
    for a in first {
        for b in second.clone() {
            for c in third.clone() {
                let shift = [a, b, c];
                if (i == j && shift == [0; 3]) || !oracle.list.has(i as u32, j as u32, shift) {
                    continue;
                }
                let displacement = Displacement { x_i, x_j, shift, lattice };
                let rough = norm(displacement.rounded());
                let tolerance = displacement.tolerance(inputs.cutoff, dtype);
                // Twice the tolerance, since this distance is rounded itself.
                if rough > inputs.cutoff + 2.0 * tolerance {
                    continue;
                }
                let vector = displacement.exact();
                let ambiguous = if displacement.is_decidable(inputs.cutoff, dtype) {
                    if dot(vector, vector) >= inputs.cutoff * inputs.cutoff {
                        continue;
                    }
                    false
                } else {
                    let beyond = norm(vector) - inputs.cutoff;
                    if beyond > tolerance {
                        continue;
                    }
                    beyond >= -tolerance
                };
                oracle.edges.sender.push(j as u32);
                oracle.edges.shift.push(shift);
                oracle.edges.edge_vec.push(vector);
                oracle.ambiguous.push(ambiguous);
                oracle.magnitude.push(displacement.magnitude());
            }
        }
    }
    Ok(())
}

/// The edges by sender, sorted by (receiver, −shift): `sender_ptr` and `transpose`.
fn by_sender(edges: &NeighborList<f64>) -> (Vec<u32>, Vec<u32>) {
    let mut receiver = vec![0; edges.n_edges()];
    for i in 0..edges.n_atoms() {
        receiver[edges.row(i)].fill(i as u32);
    }
    let mut ids: Vec<u32> = (0..edges.n_edges() as u32).collect();
    ids.sort_by_key(|&e| {
        let e = e as usize;
        (edges.sender[e], receiver[e], edges.shift[e].map(|s| -s))
    });
    let sent_before = |atom: usize| ids.partition_point(|&e| (edges.sender[e as usize] as usize) < atom) as u32;
    ((0..=edges.n_atoms()).map(sent_before).collect(), ids)
}

/// The periodic lattice vectors of a system.
struct Lattice {
    /// The vectors; zero in open directions, whatever was given there.
    rows: [[f64; 3]; 3],
    periodic: [bool; 3],
    /// Unit vectors normal to all other periodic vectors and in the span of all of them.
    normals: [[f64; 3]; 3],
    /// How far apart the lattice planes are along these normals.
    heights: [f64; 3],
}

impl Lattice {
    /// `None` if periodic vectors are not finite or not linearly independent.
    fn new(cell: [[f64; 3]; 3], periodic: [bool; 3]) -> Option<Self> {
        let rows: [[f64; 3]; 3] = std::array::from_fn(|k| if periodic[k] { cell[k] } else { [0.0; 3] });
        let (mut normals, mut heights) = ([[0.0; 3]; 3], [0.0; 3]);
        for k in (0..3).filter(|k| periodic[*k]) {
            let mut others: Vec<[f64; 3]> = Vec::new();
            for l in (0..3).filter(|l| *l != k && periodic[*l]) {
                let rest = without(rows[l], &others);
                others.push(rest.map(|x| x / norm(rest)));
            }
            let normal = without(rows[k], &others);
            heights[k] = norm(normal);
            normals[k] = normal.map(|x| x / heights[k]);
            // Written so that NaN and infinity fail too.
            if !(heights[k] > INDEPENDENT * norm(rows[k]) && heights[k].is_finite()) {
                return None;
            }
        }
        Some(Self { rows, periodic, normals, heights })
    }

    /// The images S_k of a pair with x_j − x_i = `between` that can lie within `reach`.
    ///
    /// The vector of the pair has the component `between`·n + S_k·height along the normal n, since S of the other
    /// directions does not move it there, and no component is longer than the vector. A hundredth of an image on
    /// either side is more than rounding takes away within [`LIMIT`].
    fn images(&self, k: usize, between: [f64; 3], reach: f64) -> RangeInclusive<f64> {
        if !self.periodic[k] {
            return 0.0..=0.0;
        }
        let at = -dot(between, self.normals[k]) / self.heights[k];
        let span = reach / self.heights[k] + 0.01;
        (at - span).ceil()..=(at + span).floor()
    }
}

/// 4 ε (‖m‖ + r_c) of any pair of a system that is within reach.
fn largest_tolerance(inputs: &Inputs<f64>, system: usize, lattice: &Lattice, dtype: Dtype) -> f64 {
    let furthest = inputs.atoms(system).map(|i| norm(inputs.position(i))).fold(0.0, f64::max);
    let shifted: f64 = (0..3)
        .filter(|k| lattice.periodic[*k])
        .map(|k| ((inputs.cutoff + 2.0 * furthest) / lattice.heights[k] + 1.0) * norm(lattice.rows[k]))
        .sum();
    4.0 * epsilon(dtype) * (2.0 * furthest + shifted + inputs.cutoff)
}

/// r_ij = (x_j − x_i) + S·H, not yet computed.
struct Displacement<'a> {
    x_i: [f64; 3],
    x_j: [f64; 3],
    shift: [i32; 3],
    lattice: &'a Lattice,
}

impl Displacement<'_> {
    fn shifted(&self, k: usize, c: usize) -> f64 {
        f64::from(self.shift[k]) * self.lattice.rows[k][c]
    }

    /// With the rounding errors of f64.
    fn rounded(&self) -> [f64; 3] {
        let lattice = |c| self.shifted(0, c) + self.shifted(1, c) + self.shifted(2, c);
        std::array::from_fn(|c| (self.x_j[c] - self.x_i[c]) + lattice(c))
    }

    /// Rounded once, at the end.
    fn exact(&self) -> [f64; 3] {
        std::array::from_fn(|c| {
            let mut terms = [self.x_j[c], -self.x_i[c], 0.0, 0.0, 0.0, 0.0, 0.0, 0.0];
            for k in 0..3 {
                let (s, h) = (f64::from(self.shift[k]), self.lattice.rows[k][c]);
                // A fused multiply-add of the negated product leaves exactly what the product lost.
                (terms[2 + 2 * k], terms[3 + 2 * k]) = (s * h, s.mul_add(h, -(s * h)));
            }
            exact_sum(terms)
        })
    }

    fn magnitude(&self) -> [f64; 3] {
        std::array::from_fn(|c| {
            self.x_j[c].abs() + self.x_i[c].abs() + (0..3).map(|k| self.shifted(k, c).abs()).sum::<f64>()
        })
    }

    /// How far from the cutoff a distance must be for the type to tell; see the top of this module.
    fn tolerance(&self, cutoff: f64, dtype: Dtype) -> f64 {
        4.0 * epsilon(dtype) * (norm(self.magnitude()) + cutoff)
    }

    /// Whether d² < r_c² is computed without any rounding in the type, in whatever order.
    ///
    /// Numbers that are multiples of a power of two q stay so when added, and are exact as long as they are below
    /// q·2^p, with p the bits of the type's mantissa. Their squares are multiples of q².
    fn is_decidable(&self, cutoff: f64, dtype: Dtype) -> bool {
        let bits = match dtype {
            Dtype::F32 => f32::MANTISSA_DIGITS,
            Dtype::F64 => f64::MANTISSA_DIGITS,
        } as i32;
        let magnitude = self.magnitude();
        let mut finest = lowest_bit(cutoff);
        for (c, magnitude) in magnitude.into_iter().enumerate() {
            let mut lowest = lowest_bit(self.x_i[c]).min(lowest_bit(self.x_j[c]));
            for k in (0..3).filter(|k| self.shifted(*k, c) != 0.0) {
                lowest = lowest.min(lowest_bit(f64::from(self.shift[k])) + lowest_bit(self.lattice.rows[k][c]));
            }
            if magnitude != 0.0 && magnitude >= power_of_two(lowest + bits) {
                return false;
            }
            finest = finest.min(lowest);
        }
        let vector = self.rounded();
        dot(vector, vector).max(cutoff * cutoff) < power_of_two(2 * finest + bits)
    }
}

/// The sum of the terms without any error but that of one final rounding, which has no preference of sign.
///
/// Source: J. R. Shewchuk, Adaptive precision floating-point arithmetic, Discrete Comput. Geom. 18 (1997), figure 7.
fn exact_sum(terms: [f64; 8]) -> f64 {
    let mut parts = [0f64; 8];
    let mut used = 0;
    for mut x in terms {
        let mut kept = 0;
        for at in 0..used {
            let mut y = parts[at];
            if x.abs() < y.abs() {
                (x, y) = (y, x);
            }
            let high = x + y;
            let low = y - (high - x);
            if low != 0.0 {
                parts[kept] = low;
                kept += 1;
            }
            x = high;
        }
        parts[kept] = x;
        used = kept + 1;
    }
    // The parts do not overlap and ascend, so the smaller ones only decide the rounding.
    parts[..used].iter().sum()
}

/// The exponent of the lowest bit that is set; beyond that of any number for 0.
fn lowest_bit(x: f64) -> i32 {
    if x == 0.0 {
        return 2000;
    }
    let exponent = ((x.to_bits() >> 52) & 0x7ff) as i32;
    let fraction = x.to_bits() & ((1 << 52) - 1);
    // Numbers below the normal range have no hidden bit and the exponent of the smallest that has one.
    let (mantissa, exponent) = if exponent == 0 { (fraction, 1) } else { (fraction | 1 << 52, exponent) };
    exponent - 1075 + mantissa.trailing_zeros() as i32
}

fn power_of_two(exponent: i32) -> f64 {
    2f64.powi(exponent)
}

/// The distance from 1 to the next number of a type.
fn epsilon(dtype: Dtype) -> f64 {
    match dtype {
        Dtype::F32 => f32::EPSILON.to_f64(),
        Dtype::F64 => f64::EPSILON,
    }
}

fn dot(a: [f64; 3], b: [f64; 3]) -> f64 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

fn norm(a: [f64; 3]) -> f64 {
    dot(a, a).sqrt()
}

/// A vector less its parts along orthonormal directions.
fn without(v: [f64; 3], directions: &[[f64; 3]]) -> [f64; 3] {
    directions.iter().fold(v, |v, u| {
        let along = dot(v, *u);
        std::array::from_fn(|c| v[c] - along * u[c])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One system.
    fn inputs(positions: &[[f64; 3]], cell: [[f64; 3]; 3], pbc: [bool; 3], cutoff: f64) -> Inputs<f64> {
        Inputs {
            positions: positions.as_flattened().to_vec(),
            system_ptr: vec![0, positions.len() as u32],
            cell: cell.as_flattened().to_vec(),
            pbc: vec![pbc],
            cutoff,
        }
    }

    fn cube(length: f64) -> [[f64; 3]; 3] {
        [[length, 0.0, 0.0], [0.0, length, 0.0], [0.0, 0.0, length]]
    }

    fn full(inputs: &Inputs<f64>) -> Oracle {
        search(inputs, List::Full, Dtype::F64).unwrap()
    }

    /// Points of ℤ³ other than the origin, counted by looking at each.
    fn points_within(radius: i32) -> usize {
        let inside = |x: i32, y: i32, z: i32| x * x + y * y + z * z < radius * radius && (x, y, z) != (0, 0, 0);
        let all = -radius..=radius;
        all.clone()
            .flat_map(|x| all.clone().flat_map(move |y| (-radius..=radius).map(move |z| (x, y, z))))
            .filter(|(x, y, z)| inside(*x, *y, *z))
            .count()
    }

    #[test]
    fn one_atom_sees_the_lattice() {
        for radius in 1..6 {
            for dtype in Dtype::ALL {
                let alone = inputs(&[[0.25, 7.5, -3.0]], cube(1.0), [true; 3], f64::from(radius));
                let oracle = search(&alone, List::Full, dtype).unwrap();
                assert_eq!(oracle.edges.n_edges(), points_within(radius));
                // Whole numbers do not round: a point at the cutoff is no edge, and nothing is in doubt.
                assert_eq!(oracle.n_certain(), oracle.edges.n_edges());
                let half = search(&alone, List::Half, dtype).unwrap();
                assert_eq!(2 * half.edges.n_edges(), oracle.edges.n_edges());
            }
        }
    }

    /// The lattice ℤ³ has many bases, and an atom sees the same points in each.
    #[test]
    fn any_basis_of_a_lattice_is_as_good() {
        let here = [[0.125, 0.25, 0.5]];
        let expected = sorted(&full(&inputs(&here, cube(1.0), [true; 3], 3.0)));
        for basis in [
            [[1.0, 0.0, 0.0], [5.0, 1.0, 0.0], [-7.0, 3.0, 1.0]],
            [[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]],
            [[1.0, 1.0, 0.0], [0.0, 1.0, 1.0], [1.0, 1.0, 1.0]],
        ] {
            assert_eq!(sorted(&full(&inputs(&here, basis, [true; 3], 3.0))), expected);
        }
    }

    fn sorted(oracle: &Oracle) -> Vec<[i64; 3]> {
        let mut vectors: Vec<_> = oracle.edges.edge_vec.iter().map(|r| r.map(|x| (x * 1024.0) as i64)).collect();
        vectors.sort_unstable();
        vectors
    }

    #[test]
    fn open_directions_have_no_images_and_their_rows_are_not_read() {
        let mut cell = cube(1.0);
        cell[1] = [f64::NAN; 3];
        let oracle = full(&inputs(&[[0.0; 3], [0.0, 1.0, 0.0]], cell, [true, false, true], 1.5));
        assert!(oracle.edges.shift.iter().all(|s| s[1] == 0));
        // Four neighbours of its own along the axes and four across, the other atom and its four nearest images.
        assert_eq!((oracle.edges.row(0).len(), oracle.edges.row(1).len()), (13, 13));
        let open = full(&inputs(&[[0.0; 3], [0.0, 1.0, 0.0]], [[f64::NAN; 3]; 3], [false; 3], 1.5));
        assert_eq!(open.edges.sender, [1, 0]);
        assert_eq!(open.edges.edge_vec, [[0.0, 1.0, 0.0], [0.0, -1.0, 0.0]]);
    }

    #[test]
    fn coincident_atoms_are_neighbours_and_an_atom_is_not_its_own() {
        let oracle = full(&inputs(&[[1.0, 2.0, 3.0]; 3], cube(10.0), [true; 3], 2.0));
        assert_eq!(oracle.edges.sender, [1, 2, 0, 2, 0, 1]);
        assert!(oracle.edges.edge_vec.iter().all(|r| *r == [0.0; 3]));
    }

    #[test]
    fn atoms_far_outside_see_what_they_see_inside() {
        let cell = [[3.0, 0.0, 0.0], [1.0, 4.0, 0.0], [-2.0, 1.0, 5.0]];
        let inside = [[0.5, 0.5, 0.5], [1.5, 2.25, 4.0]];
        let mut outside = inside;
        let wrap = [100.0, -40.0, 7.0];
        for c in 0..3 {
            outside[1][c] += (0..3).map(|k| wrap[k] * cell[k][c]).sum::<f64>();
        }
        let (near, far) = (full(&inputs(&inside, cell, [true; 3], 6.0)), full(&inputs(&outside, cell, [true; 3], 6.0)));
        assert_eq!(sorted(&near), sorted(&far));
        let e = far.edges.row(0).find(|e| far.edges.sender[*e] == 1).unwrap();
        assert!(far.edges.shift[e][0] < -90 && far.edges.shift[e][1] > 30);
    }

    #[test]
    fn systems_do_not_see_each_other() {
        let batch = Inputs {
            positions: vec![0.0; 12],
            system_ptr: vec![0, 0, 2, 2, 3, 4],
            cell: [cube(9.0); 5].as_flattened().as_flattened().to_vec(),
            pbc: vec![[true; 3], [true; 3], [false; 3], [false; 3], [true; 3]],
            cutoff: 2.0,
        };
        let oracle = full(&batch);
        assert_eq!(oracle.edges.row_ptr, [0, 1, 2, 2, 2]);
        assert_eq!(oracle.edges.sender, [1, 0]);
        let nothing = Inputs { positions: vec![], system_ptr: vec![0], cell: vec![], pbc: vec![], cutoff: 1.0 };
        assert_eq!(full(&nothing).edges.row_ptr, [0]);
    }

    #[test]
    fn only_what_is_within_rounding_of_the_cutoff_is_ambiguous() {
        for dtype in Dtype::ALL {
            // Thirds are exact in no type, so that neither is what is computed with them.
            let at = |d: f64| {
                let pair = inputs(&[[1.0 / 3.0, 0.0, 0.0], [1.0 / 3.0 + d, 0.0, 0.0]], cube(0.0), [false; 3], 2.0);
                search(&pair, List::Full, dtype).unwrap().ambiguous
            };
            let ulp = epsilon(dtype);
            assert_eq!(at(2.0 * (1.0 - 1000.0 * ulp)), [false; 2]);
            assert_eq!(at(2.0 * (1.0 - 2.0 * ulp)), [true; 2]);
            assert_eq!(at(2.0 * (1.0 + 2.0 * ulp)), [true; 2]);
            assert_eq!(at(2.0 * (1.0 + 1000.0 * ulp)), [false; 0]);
        }
    }

    #[test]
    fn what_one_type_decides_another_may_not() {
        // 2²⁰ and 2⁻⁸ are both exact in f32, and so is their sum only in f64.
        let far = f64::from(1 << 20);
        let pair = inputs(&[[0.0; 3], [far, 0.0, 0.0]], cube(far + 1.0 / 256.0), [true; 3], 1.0 / 256.0);
        assert_eq!(search(&pair, List::Full, Dtype::F32).unwrap().ambiguous, [true; 2]);
        assert!(search(&pair, List::Full, Dtype::F64).unwrap().ambiguous.is_empty());
    }

    #[test]
    fn sums_are_exact() {
        assert_eq!(exact_sum([1e300, 1.0, 1e-300, -1e300, -1.0, 0.0, 0.0, 0.0]), 1e-300);
        assert_eq!(exact_sum([0.1; 8]), 0.8);
        let terms = [1e16, 1.0, 1e-8, 3.0, -1e16, 0.1, -7.0, 1e-30];
        assert_eq!(exact_sum(terms.map(|x| -x)), -exact_sum(terms));
        assert_eq!((lowest_bit(1.0), lowest_bit(-12.0), lowest_bit(0.75)), (0, 2, -2));
        assert_eq!((lowest_bit(f64::MIN_POSITIVE), lowest_bit(5e-324)), (-1022, -1074));
    }

    #[test]
    fn the_transposed_list_of_a_full_one_is_its_reverse() {
        let cell = [[2.5, 0.0, 0.0], [0.7, 3.1, 0.0], [-0.4, 0.9, 6.3]];
        let atoms = [[0.1, 0.2, 0.3], [1.3, 2.2, 4.1], [-3.0, 0.4, 9.7]];
        let oracle = full(&inputs(&atoms, cell, [true, true, false], 6.5));
        let edges = &oracle.edges;
        assert!(edges.n_edges() > 20);
        assert_eq!(edges.sender_ptr, edges.row_ptr);
        for i in 0..3 {
            for e in edges.row(i) {
                let back = edges.transpose[e] as usize;
                assert!(edges.row(edges.sender[e] as usize).contains(&back));
                assert_eq!(edges.sender[back] as usize, i);
                assert_eq!(edges.shift[back], edges.shift[e].map(|s| -s));
                assert_eq!(edges.edge_vec[back], edges.edge_vec[e].map(|x| -x));
                assert_eq!(oracle.ambiguous[back], oracle.ambiguous[e]);
            }
        }
    }

    #[test]
    fn what_has_no_list_is_named() {
        let singular = |cell, pbc| search(&inputs(&[[0.0; 3]], cell, pbc, 1.0), List::Full, Dtype::F64).unwrap_err();
        let plane = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [1.0, 1.0, 0.0]];
        assert!(matches!(singular(plane, [true; 3]), InputError::SingularCell { system: 0, .. }));
        assert!(matches!(singular(cube(0.0), [false, true, false]), InputError::SingularCell { .. }));
        assert!(matches!(singular(cube(f64::NAN), [true; 3]), InputError::SingularCell { .. }));
        let fine = |cell, pbc| search(&inputs(&[[0.0; 3]], cell, pbc, 1.0), List::Full, Dtype::F64).is_ok();
        assert!(fine(plane, [true, true, false]));
        let crowded = search(&inputs(&[[0.0; 3]], cube(1e-3), [true; 3], 1.0), List::Full, Dtype::F64).unwrap_err();
        assert!(matches!(crowded, InputError::TooManyImages { .. }));
        let far = inputs(&[[0.0; 3], [1e12, 0.0, 0.0]], cube(1.0), [true; 3], 1.0);
        assert!(matches!(search(&far, List::Full, Dtype::F64), Err(InputError::FarAway { .. })));
    }
}
